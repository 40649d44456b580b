//! Mail connections: recording, login, SMTP, and a mailer on top of lettre, shared by tests, alarms
//! and reports.
//!
//! This crate depends on no schedule, lake or report.

mod account;
mod assertion;
mod dkim;
mod fields;
pub mod graph;
mod login_refusal;
mod mailer;
pub mod oauth;
mod refusals;
mod remedy;
pub mod sasl;
mod service_account;
pub mod sign_in;
mod smtp;
mod token_response;
mod transcript;
mod turn;
mod wire;

pub use account::{CredentialError, credentials, forget};
pub use dkim::DkimError;
pub use fields::{Disposition, Head, NamedType, addresses, unstructured};
pub use login_refusal::LoginRefusal;
pub use mailer::{HOLD, MailError, Mailer, Outcome, Record, is_too_large};
pub use refusals::explained;
pub use remedy::remedy;
pub use sasl::Credentials;
pub use smtp::{Reply, Smtp, SmtpError, SmtpPhases};
pub use transcript::{Chunk, Transcript};
pub use turn::{HeldBack, LoginAttempt};
pub use wire::{Wire, WireError};
