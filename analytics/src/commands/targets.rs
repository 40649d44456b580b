//! `mailqos-analytics targets`: shows and tries the delivery targets.

use std::{io::Write as _, process::ExitCode};

use clap::Subcommand;
use mailqos_core::{
    config::{Config, Endpoint, Target},
    model::Name,
};

use super::{Failure, Global, deliver::target_of, print};
use crate::delivery::{Item, Letter, Parcel, deliver};

/// Options of `targets`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// The targets of the configuration.
    List,
    /// Tries targets by delivering a small file, or a small mail; all unless some are named.
    Test {
        /// Their names.
        targets: Vec<String>,
    },
}

/// The name of the file that a test leaves; each test replaces the one before.
const FILE: &str = "mailqos-target-test.txt";

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
                targets
                    .iter()
                    .map(|name| target_of(&config, name))
                    .collect::<Result<_, _>>()?
            };
            test(&config, &names).await
        }
    }
}

async fn test(config: &Config, names: &[Name]) -> Result<ExitCode, Failure> {
    let mut file = tempfile::NamedTempFile::new()?;
    let text = "mailqos tried this target. This file may be deleted.\n";
    file.write_all(text.as_bytes())?;
    let parcel = Parcel {
        items: vec![Item {
            name: FILE.to_owned(),
            path: file.path().to_owned(),
        }],
        folder: String::new(),
        letter: Letter {
            subject: "mailqos tries this target".to_owned(),
            text: "If you can read this, reports reach you.\n".to_owned(),
            html: None,
            id: mailqos_core::model::UtcMicros::now().to_string(),
        },
    };
    let mut code = ExitCode::SUCCESS;
    for name in names {
        match deliver(config, name, &parcel).await {
            Ok(receipt) => print(format!(
                "{name}  ok  {} ({})\n",
                receipt.places.join(", "),
                receipt.reply
            ))?,
            Err(error) => {
                print(format!("{name}  failed  {error}\n"))?;
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

fn describe(target: &Target) -> String {
    let at = |endpoint: &Endpoint| format!("{}:{}", endpoint.server, endpoint.port);
    match target {
        Target::Folder { path } => format!("folder {}", path.display()),
        Target::Ftp { endpoint, path, .. } => format!("ftp {} {path}", at(endpoint)),
        Target::Smb {
            endpoint, share, path, ..
        } => format!("share \\\\{}\\{share} {path}", at(endpoint)),
        Target::Email { mail_server, to, .. } => format!("mail to {} through {mail_server}", to.join(", ")),
    }
}
