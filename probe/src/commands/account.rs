//! `mailqos-probe account`: what an account may reach.

use std::process::ExitCode;

use super::{Failure, Global, access};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print the PowerShell commands that restrict an application to one mailbox.
    Scope(access::ScopeArgs),
    /// Verify that an application reaches one mailbox and not another one.
    Verify(access::VerifyArgs),
}

/// Runs the command.
pub(super) async fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    match args.command {
        Command::Scope(args) => access::print_commands(&args, global),
        Command::Verify(args) => access::verify(args, global).await,
    }
}
