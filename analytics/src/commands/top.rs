//! `mailqos-analytics top`: the best and worst monitors by a figure.

use std::process::ExitCode;

use super::{Failure, Global};

/// Options of `top`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// It is not there yet.
pub fn run(_args: &Args, _global: &Global) -> Result<ExitCode, Failure> {
    Err(Failure::work("top is not there yet"))
}
