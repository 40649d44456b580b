//! The way to a mail server: secrets, TLS, the recorded connection, and lettre on top of it; for tests, alarms and
//! reports alike.

mod secret;

pub use secret::{Secret, SecretError, SecretSource};
