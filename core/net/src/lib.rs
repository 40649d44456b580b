//! Connections: every address of a name is tried, TLS failures are explained, HTTP requests have
//! limits and deadlines and go through proxies.
//!
//! # Why an own HTTP client
//!
//! [`http`] sends one request with hyper, although `object_store` also links reqwest. A webhook
//! must not notify people twice, so the caller has to know whether a request without an answer may
//! have arrived ([`http::HttpError::may_have_arrived`]): only after name resolution, proxy and TLS.
//! One deadline covers all of these steps and the answer. reqwest 0.12 reports the end of its
//! overall timeout without that distinction, and has no setting for the largest head of an answer
//! over HTTP/1.1.
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
