//! Certificates that a connection accepts.

use std::path::PathBuf;

/// Maximum size in bytes of a file of trusted certificates, four times a platform's whole store.
pub const MAX_CA_FILE: u64 = 1024 * 1024;

/// Settings for trusted certificates.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Trust {
    /// File of PEM certificates to use instead of the platform's store.
    pub ca_file: Option<PathBuf>,
    /// SHA-256 of the server's certificate (DER). If set, only this certificate is accepted.
    pub fingerprint: Option<[u8; 32]>,
    /// Whether any certificate is accepted; reports then show a warning.
    pub insecure: bool,
}
