//! `mailqos-analytics schedule`: runs the report schedules.

use std::process::ExitCode;

use super::{Failure, Global};

/// Options of `schedule`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// It is not there yet.
pub async fn run(_args: Args, _global: &Global) -> Result<ExitCode, Failure> {
    Err(Failure::work("schedule is not there yet"))
}
