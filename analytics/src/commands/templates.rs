//! `mailqos-analytics templates`: lists, shows and checks report templates.

use std::process::ExitCode;

use super::{Failure, Global};

/// Options of `templates`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// It is not there yet.
pub async fn run(_args: Args, _global: &Global) -> Result<ExitCode, Failure> {
    Err(Failure::work("templates is not there yet"))
}
