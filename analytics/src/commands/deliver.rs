//! `mailqos-analytics deliver`: delivers files that have been made.

use std::process::ExitCode;

use super::{Failure, Global};

/// Options of `deliver`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// It is not there yet.
pub async fn run(_args: Args, _global: &Global) -> Result<ExitCode, Failure> {
    Err(Failure::work("deliver is not there yet"))
}
