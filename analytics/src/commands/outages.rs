//! `mailqos-analytics outages`: when monitors were down.

use std::process::ExitCode;

use super::{Failure, Global};

/// Options of `outages`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// It is not there yet.
pub fn run(_args: &Args, _global: &Global) -> Result<ExitCode, Failure> {
    Err(Failure::work("outages is not there yet"))
}
