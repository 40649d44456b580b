//! The certificates that a connection accepts.

use std::path::PathBuf;

/// The largest file of trusted certificates that is read: a platform's whole store is a quarter of
/// that.
pub const MAX_CA_FILE: u64 = 1024 * 1024;

/// The trusted certificates.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Trust {
    /// A file of PEM certificates instead of the platform's store.
    pub ca_file: Option<PathBuf>,
    /// SHA-256 of the server's certificate (DER); nothing else is then accepted or asked.
    pub fingerprint: Option<[u8; 32]>,
    /// Accept any certificate; reports show a warning.
    pub insecure: bool,
}
