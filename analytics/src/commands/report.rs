//! `mailqos-analytics report`: makes a report.

use std::process::ExitCode;

use super::{Failure, Global};

/// Options of `report`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// It is not there yet.
pub async fn run(_args: Args, _global: &Global) -> Result<ExitCode, Failure> {
    Err(Failure::work("report is not there yet"))
}
