//! The way to a mail server: secrets, TLS, the recorded connection, and lettre on top of it; for tests, alarms and
//! reports alike.

mod account;
mod certificate;
mod dkim;
mod fields;
mod login_refusal;
mod mailer;
mod mask;
#[cfg(unix)]
mod mounted;
pub mod oauth;
mod person;
mod refusals;
mod remedy;
pub mod sasl;
mod secret;
mod smtp;
mod tls;
mod tls_failure;
mod token_response;
mod transcript;
mod turn;
mod wire;

pub use account::{CredentialError, Login};
pub use dkim::DkimError;
pub use fields::{Disposition, Head, NamedType, addresses, unstructured};
pub use login_refusal::LoginRefusal;
pub use mailer::{HOLD, MailError, Mailer, Outcome, Record, is_too_large};
pub use person::{Person, PersonError, split_list};
pub use refusals::explained;
pub use remedy::remedy;
pub use sasl::Credentials;
pub use secret::{Secret, SecretError, SecretSource};
pub use smtp::{Reply, Smtp, SmtpError, SmtpPhases};
pub use tls::{TlsSession, TrustError, client_config, hex};
pub use tls_failure::explain as explain_tls;
pub use transcript::{Chunk, Direction, Transcript, one_line};
pub use turn::{HeldBack, Turn};
pub use wire::{Wire, WireError};
