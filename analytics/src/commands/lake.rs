//! `mailqos-analytics lake`: looks after the sample lake.

use std::process::ExitCode;

use super::{Failure, Global};

/// Options of `lake`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// It is not there yet.
pub async fn run(_args: Args, _global: &Global) -> Result<ExitCode, Failure> {
    Err(Failure::work("lake is not there yet"))
}
