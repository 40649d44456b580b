//! Facts about a mail that are known after its test: attempts, folder, verdicts, status of a bounce,
//! and TLS of both connections.

use std::sync::Arc;

use mailqos_model::{EnhancedStatus, Micros, Placement, UtcMicros, Verdict};

/// Approximate size of a receipt in memory, in bytes.
pub(crate) const SIZE: usize = size_of::<Receipt>();

/// Facts about a mail and its connections; `None` is unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Kind of the folder in which the mail was found.
    pub placement: Option<Placement>,
    /// Verdicts on SPF, DKIM and DMARC, in this order.
    pub verdicts: [Option<Verdict>; 3],
    /// Whether the receiving system's filter considers the mail spam.
    pub spam: Option<bool>,
    /// Score of that filter, in thousandths.
    pub score: Option<i32>,
    /// Number of attempts to submit the mail.
    pub attempts: Option<i32>,
    /// Time that earlier attempts and the pauses after them took.
    pub retry_delay: Option<Micros>,
    /// Number of further copies.
    pub duplicates: Option<i32>,
    /// Status with which the mail was refused or bounced.
    pub status: Option<EnhancedStatus>,
    /// TLS of the SMTP connection and of the mailbox connection.
    pub tls: [Option<Arc<TlsFacts>>; 2],
}

/// TLS of a connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TlsFacts {
    /// Version, such as `TLSv1.3`.
    pub version: Option<Arc<str>>,
    /// Cipher suite.
    pub cipher: Option<Arc<str>>,
    /// Expiry of the server's certificate.
    pub expires_at: Option<UtcMicros>,
}
