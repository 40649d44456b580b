//! `mailqos-analytics targets`: shows and tries the delivery targets.

use std::process::ExitCode;

use super::{Failure, Global};

/// Options of `targets`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// It is not there yet.
pub async fn run(_args: Args, _global: &Global) -> Result<ExitCode, Failure> {
    Err(Failure::work("targets is not there yet"))
}
