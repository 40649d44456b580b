//! `mailqos-analytics outbox`: shows and works off what waits for delivery.

use std::process::ExitCode;

use super::{Failure, Global};

/// Options of `outbox`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// It is not there yet.
pub async fn run(_args: Args, _global: &Global) -> Result<ExitCode, Failure> {
    Err(Failure::work("outbox is not there yet"))
}
