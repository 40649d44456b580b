//! `mailqos-analytics patterns`: what repeats, drifts, shifts and goes together.

use std::process::ExitCode;

use super::{Failure, Global};

/// Options of `patterns`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// It is not there yet.
pub fn run(_args: &Args, _global: &Global) -> Result<ExitCode, Failure> {
    Err(Failure::work("patterns is not there yet"))
}
