//! Foundations of every mailqos crate: files read with limits and deadlines, secrets that can't be
//! printed, monotonic clocks, time zones, and single-line text for logs.
//!
//! This crate depends on no configuration, server or lake.

pub mod clock;
pub mod files;
#[cfg(feature = "test-hooks")]
pub mod fuzzing;
mod line;
pub mod lock;
pub mod mask;
#[cfg(unix)]
mod mounted;
mod secret;
pub mod timing;
pub mod zones;

pub use line::{comparable, hex, one_line};
pub use secret::{Secret, SecretError, SecretSource};
