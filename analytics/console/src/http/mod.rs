//! HTTP: the listener with its limits, TLS, requests, and responses with their security headers.

pub(crate) mod fields;
pub(crate) mod listener;
pub(crate) mod patient;
pub(crate) mod request;
pub(crate) mod respond;
pub(crate) mod tls;
