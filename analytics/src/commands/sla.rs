//! `mailqos-analytics sla`: service levels, met or missed.

use std::process::ExitCode;

use super::{Failure, Global};

/// Options of `sla`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// It is not there yet.
pub fn run(_args: &Args, _global: &Global) -> Result<ExitCode, Failure> {
    Err(Failure::work("sla is not there yet"))
}
