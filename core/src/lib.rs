//! What both mailqos binaries share: the domain's words, the configuration, the sample lake's schema and layout,
//! and the way to a mail server (secrets, TLS, authentication, lettre).
//!
//! This crate knows no scheduler, no statistics and no report.

pub mod clock;
pub mod config;
pub mod files;
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
pub mod lake;
pub mod mail;
pub mod model;
pub mod transcripts;
pub mod zones;
