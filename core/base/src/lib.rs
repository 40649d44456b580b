//! What every mailqos crate stands on: files read with limits and deadlines, secrets that can't be
//! printed, clocks that nobody sets, time zones, and text fit for one line of a log.
//!
//! This crate knows no configuration, no server and no lake.

pub mod clock;
pub mod files;
#[doc(hidden)]
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
