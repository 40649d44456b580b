//! What both mailqos binaries share: the domain's words, the configuration, the sample lake's schema and layout,
//! and the way to a mail server (secrets, TLS, authentication, lettre).
//!
//! This crate knows no scheduler, no statistics and no report.

pub mod clock;
pub mod config;
pub mod connect;
pub mod files;
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
pub mod lake;
pub mod mail;
pub mod model;
mod proxy;
pub mod transcripts;
pub mod zones;
