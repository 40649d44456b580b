//! Network connections: every address of a name is tried, TLS failures are explained, and HTTP
//! requests have limits and deadlines and support proxies.
//!
//! # Why a separate HTTP client
//!
//! [`http`] sends one request with hyper, although `object_store` also links reqwest. A webhook
//! must not notify people twice, so the caller must know whether a request without a response may
//! have arrived ([`http::HttpError::may_have_arrived`]), which is possible only after name
//! resolution, proxy and TLS. One deadline covers all of these steps and the response. reqwest 0.12
//! does not make that distinction when its overall timeout ends, and has no setting for the largest
//! response head over HTTP/1.1.
//!
//! This crate depends on no configuration file, mail protocol or lake.

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
