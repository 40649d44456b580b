//! Connections: every address of a name is tried, TLS failures are explained, HTTP requests have
//! limits and deadlines and go through proxies.
//!
//! This crate knows no configuration file, no mail protocol and no lake.

mod certificate;
pub mod connect;
pub mod http;
mod place;
mod proxy;
mod tls;
pub mod tls_failure;
mod trust;

pub use tls::{TlsSession, TrustError, client_config, describe};
pub use trust::{MAX_CA_FILE, Trust};
