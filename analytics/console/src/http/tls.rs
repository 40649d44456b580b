//! TLS of the console: certificate and key from PEM files, read again when they change.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
    time::SystemTime,
};

use mailqos_base::{files, lock::IgnorePoison as _};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

/// Largest file of a certificate or key, in bytes.
const MAX_PEM: u64 = 1 << 20;

/// Reasons why a certificate can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file can't be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file contains no certificate or no key.
    #[error("{path} contains no {what} in PEM format ({reason})", path = path.display())]
    Pem {
        /// Path of the file.
        path: PathBuf,
        /// `certificate` or `private key`.
        what: &'static str,
        /// The parser's error.
        reason: String,
    },
    /// Certificate and key don't belong together, or are not supported.
    #[error("the certificate can't be used: {0}")]
    Unusable(String),
}

/// Times of the last change of both files.
type Versions = [Option<SystemTime>; 2];

/// The certificate in use.
#[derive(Debug)]
pub(crate) struct Certificates {
    files: [PathBuf; 2],
    current: RwLock<(Arc<ServerConfig>, Versions)>,
}

fn versions(files: &[PathBuf; 2]) -> Versions {
    let changed = |path: &PathBuf| std::fs::metadata(path).ok()?.modified().ok();
    [changed(&files[0]), changed(&files[1])]
}

impl Certificates {
    /// Reads a certificate chain and its key.
    ///
    /// # Errors
    /// They can't be read or used.
    pub(crate) fn open(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let files = [certificate.to_owned(), key.to_owned()];
        let versions = versions(&files);
        let config = read(&files)?;
        Ok(Self { files, current: RwLock::new((config, versions)) })
    }

    /// Returns the configuration for the next connection.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().ignore_poison().0)
    }

    /// Reads the files again if they have changed. If that fails, for example because only one of
    /// them has been replaced so far, the old certificate stays in use.
    pub(crate) fn refresh(&self) {
        let new = versions(&self.files);
        if new == self.current.read().ignore_poison().1 {
            return;
        }
        match read(&self.files) {
            Ok(config) => {
                *self.current.write().ignore_poison() = (config, new);
                tracing::info!(certificate = %self.files[0].display(), "certificate reloaded");
            }
            Err(error) => {
                tracing::warn!(%error, "certificate not reloaded; the previous one stays in use");
            }
        }
    }
}

fn read(files: &[PathBuf; 2]) -> Result<Arc<ServerConfig>, CertificateError> {
    let bytes = |path: &Path| {
        files::read(path, MAX_PEM)
            .map_err(|source| CertificateError::Read { path: path.to_owned(), source })
    };
    let [certificate, key] = files;
    let pem = |path: &Path, what: &'static str, reason: String| CertificateError::Pem {
        path: path.to_owned(),
        what,
        reason,
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&bytes(certificate)?)
        .collect::<Result<_, _>>()
        .map_err(|error| pem(certificate, "certificate", error.to_string()))?;
    if chain.is_empty() {
        return Err(pem(certificate, "certificate", "the file has no such section".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(&bytes(key)?)
        .map_err(|error| pem(key, "private key", error.to_string()))?;
    let unusable = |error: rustls::Error| CertificateError::Unusable(error.to_string());
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
