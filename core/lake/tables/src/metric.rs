//! What can be read of a sample beyond its outcome: metrics, and further columns.

/// Column of durations in the lake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Metric {
    /// Best estimate of the round trip.
    RoundTrip,
    /// Opening the SMTP connection.
    SmtpConnect,
    /// From the start of the SMTP connection to the reply that accepts the message.
    SmtpSend,
    /// Opening the POP3 or IMAP connection.
    PickupConnect,
    /// Log-in to the mailbox.
    PickupLogin,
    /// Retrieving the mail.
    PickupReceive,
    /// Half the width of the interval in which the landing must lie.
    RoundTripError,
    /// Opening the TCP connection to the SMTP server.
    SmtpTcp,
    /// TLS handshake with the SMTP server.
    SmtpTls,
    /// Waiting for the SMTP greeting.
    SmtpGreeting,
    /// EHLO.
    SmtpEhlo,
    /// SMTP authentication.
    SmtpAuth,
    /// MAIL and RCPT.
    SmtpEnvelope,
    /// DATA, the content, and the reply that accepts it.
    SmtpData,
    /// Opening the TCP connection to the mailbox's server.
    PickupTcp,
    /// TLS handshake with the mailbox's server.
    PickupTls,
    /// Waiting for the greeting of the mailbox's server.
    PickupGreeting,
    /// Listing or searching the mailbox.
    PickupList,
}

impl Metric {
    /// All of them; the six of the contracts first, in their order.
    pub const ALL: [Self; 18] = [
        Self::RoundTrip,
        Self::SmtpConnect,
        Self::SmtpSend,
        Self::PickupConnect,
        Self::PickupLogin,
        Self::PickupReceive,
        Self::RoundTripError,
        Self::SmtpTcp,
        Self::SmtpTls,
        Self::SmtpGreeting,
        Self::SmtpEhlo,
        Self::SmtpAuth,
        Self::SmtpEnvelope,
        Self::SmtpData,
        Self::PickupTcp,
        Self::PickupTls,
        Self::PickupGreeting,
        Self::PickupList,
    ];

    /// The six that `stats` shows.
    pub const CONTRACT: [Self; 6] = [
        Self::RoundTrip,
        Self::SmtpConnect,
        Self::SmtpSend,
        Self::PickupConnect,
        Self::PickupLogin,
        Self::PickupReceive,
    ];

    /// Its name in `stats` and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RoundTrip => "round_trip",
            Self::SmtpConnect => "smtp_connect",
            Self::SmtpSend => "smtp_send",
            Self::PickupConnect => "pickup_connect",
            Self::PickupLogin => "pickup_login",
            Self::PickupReceive => "pickup_receive",
            Self::RoundTripError => "round_trip_error",
            Self::SmtpTcp => "smtp_tcp",
            Self::SmtpTls => "smtp_tls",
            Self::SmtpGreeting => "smtp_greeting",
            Self::SmtpEhlo => "smtp_ehlo",
            Self::SmtpAuth => "smtp_auth",
            Self::SmtpEnvelope => "smtp_envelope",
            Self::SmtpData => "smtp_data",
            Self::PickupTcp => "pickup_tcp",
            Self::PickupTls => "pickup_tls",
            Self::PickupGreeting => "pickup_greeting",
            Self::PickupList => "pickup_list",
        }
    }

    /// Its column in the lake.
    pub fn column(self) -> String {
        format!("{}_us", self.as_str())
    }
}

impl std::str::FromStr for Metric {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|metric| metric.as_str() == text)
            .ok_or_else(|| {
                format!(
                    "{text:?} is no metric; there are {}",
                    Self::ALL.map(Self::as_str).join(", ")
                )
            })
    }
}

impl std::fmt::Display for Metric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// Columns beyond the outcome that a question may need. Exclusion and provisional state are always read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Column {
    /// Where a test failed.
    Stage,
    /// One line about the failure.
    Error,
    /// The SMTP server's last reply code.
    SmtpReplyCode,
    /// The monitor's test interval.
    TestInterval,
    /// The monitor's max round trip.
    MaxRoundTrip,
    /// The stations of the mail.
    Hops,
    /// Whether a certificate was accepted unverified.
    Unverified,
}
