//! The way to a mail server: secrets, TLS, the recorded connection, and lettre on top of it; for tests, alarms and
//! reports alike.

mod account;
mod dkim;
mod mailer;
pub mod oauth;
mod refusals;
mod remedy;
pub mod sasl;
mod secret;
mod smtp;
mod tls;
mod transcript;
mod wire;

pub use account::{CredentialError, Login};
pub use dkim::DkimError;
pub use mailer::{Delivered, MailError, Mailer};
pub use refusals::explained;
pub use remedy::remedy;
pub use sasl::Credentials;
pub use secret::{Secret, SecretError, SecretSource};
pub use smtp::{Reply, Smtp, SmtpError, SmtpPhases};
pub use tls::{TlsSession, TrustError, client_config};
pub use transcript::{Chunk, Direction, Transcript, one_line};
pub use wire::{Wire, WireError};
