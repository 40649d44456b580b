//! `mailqos-analytics targets`: lists and tests the delivery targets.

use std::process::ExitCode;

use clap::Subcommand;
use mailqos_config::Config;
use mailqos_delivery::{Finding, describe, try_out};
use mailqos_model::Name;

use super::{Failure, Global, deliver::target_of, print};

/// Options of `targets`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the configured targets.
    List,
    /// Test targets by delivering and removing a small file, or sending a short mail, and show what
    /// each supports.
    Test {
        /// Names of targets [default: all].
        targets: Vec<String>,
    },
}

/// Runs the command.
///
/// # Errors
/// A target could not be reached.
pub async fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let config = global.load()?;
    match args.action {
        Action::List => {
            let mut text = String::new();
            for (name, target) in &config.targets {
                text.push_str(&format!("{name}  {}\n", describe(target)));
            }
            print(text)?;
            Ok(ExitCode::SUCCESS)
        }
        Action::Test { targets } => {
            let names: Vec<Name> = if targets.is_empty() {
                config.targets.keys().cloned().collect()
            } else {
                targets.iter().map(|name| target_of(&config, name)).collect::<Result<_, _>>()?
            };
            test(&config, &names).await
        }
    }
}

async fn test(config: &Config, names: &[Name]) -> Result<ExitCode, Failure> {
    let mut code = ExitCode::SUCCESS;
    for name in names {
        match try_out(config, name).await {
            Ok(trial) => {
                let word = if trial.works { "ok" } else { "failed" };
                print(format!("{name}  {word}  {}\n{}", trial.summary, lines(&trial.findings)))?;
                if !trial.works {
                    code = ExitCode::FAILURE;
                }
            }
            Err(error) => {
                print(format!("{name}  failed  {error}\n"))?;
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

/// Formats the features of a target, one per line.
fn lines(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let word = if finding.supported { "yes" } else { "no" };
        let line = format!("    {:<24} {word:<3}  {}", finding.what, finding.words);
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
