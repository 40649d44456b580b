//! Commands that tell the running probe something: `ack`, `maintenance`, `simulate`, `reload`.

use std::process::ExitCode;

use mailqos_config::Config;
use mailqos_model::{Micros, UtcMicros};
use serde_json::Value;

use super::{Failure, Global, moment, print_line, terminal};
use crate::control::{ControlError, Request, ask};

#[derive(Debug, clap::Args)]
pub(super) struct AckArgs {
    /// The monitors: ids, object:NAME, tag:NAME, patterns such as "mail-*".
    #[arg(required = true)]
    monitors: Vec<String>,
    /// Who looks after it.
    #[arg(long, default_value_t = user())]
    by: String,
    /// What is known, or being done.
    #[arg(long)]
    note: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct MaintenanceArgs {
    #[command(subcommand)]
    command: MaintenanceCommand,
}

#[derive(Debug, clap::Subcommand)]
enum MaintenanceCommand {
    /// Begin a maintenance, now or later.
    Add {
        /// The monitors; all if none are named.
        monitors: Vec<String>,
        /// How long it lasts, such as 2h.
        #[arg(long = "for", value_name = "DURATION")]
        lasts: Micros,
        /// When it begins, such as 2026-12-01T22:00 in the configuration's zone; now, if not said.
        #[arg(long)]
        from: Option<String>,
        /// What for.
        #[arg(long)]
        reason: Option<String>,
        /// Its name.
        #[arg(long)]
        name: Option<String>,
        /// Leave tests out while it lasts.
        #[arg(long)]
        pause: bool,
        /// Who.
        #[arg(long, default_value_t = user())]
        by: String,
    },
    /// End one that was added.
    End {
        /// Its name.
        name: String,
    },
    /// Show those that are open or still come.
    List,
}

#[derive(Debug, clap::Args)]
pub(super) struct SimulateArgs {
    /// The monitors.
    monitors: Vec<String>,
    /// How long they count as failed.
    #[arg(long = "for", value_name = "DURATION", default_value = "10m")]
    lasts: Micros,
    /// Let them count as they are again.
    #[arg(long)]
    end: bool,
    /// Who.
    #[arg(long, default_value_t = user())]
    by: String,
}

/// Who types this, by the environment.
fn user() -> String {
    ["SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()))
        .unwrap_or_else(|| "somebody".to_owned())
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        Self::work(error)
    }
}

fn names(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

pub(super) async fn ack(args: AckArgs, global: &Global) -> Result<ExitCode, Failure> {
    let config = global.config()?;
    let request = Request::Ack {
        monitors: args.monitors,
        by: args.by,
        note: args.note,
    };
    let answer = ask(&config, &request).await?;
    let found = names(&answer["acknowledged"]);
    if found.is_empty() {
        return Err(Failure::Work("none of these monitors is in alarm".to_owned()));
    }
    print_line(&format!("acknowledged: {}", found.join(", ")))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn maintenance(args: MaintenanceArgs, global: &Global) -> Result<ExitCode, Failure> {
    let config = global.config()?;
    match args.command {
        MaintenanceCommand::Add {
            monitors,
            lasts,
            from,
            reason,
            name,
            pause,
            by,
        } => {
            let from = from.map(|text| moment(&text, &config.timezone)).transpose()?;
            let request = Request::MaintenanceAdd {
                name,
                monitors,
                from,
                to: from.unwrap_or_else(UtcMicros::now) + lasts,
                reason,
                by,
                pause,
            };
            let answer = ask(&config, &request).await?;
            print_line(&format!(
                "maintenance {} of {}, {} until {}",
                answer["name"].as_str().unwrap_or_default(),
                match answer["monitors"].as_u64() {
                    Some(1) => "1 monitor".to_owned(),
                    _ => format!("{} monitors", answer["monitors"]),
                },
                local(&config, &answer["from"]),
                local(&config, &answer["until"]),
            ))?;
        }
        MaintenanceCommand::End { name } => {
            ask(&config, &Request::MaintenanceEnd { name: name.clone() }).await?;
            print_line(&format!("maintenance {name} has ended"))?;
        }
        MaintenanceCommand::List => {
            let answer = ask(&config, &Request::MaintenanceList).await?;
            for row in answer.as_array().into_iter().flatten() {
                let monitors = names(&row["monitors"]);
                print_line(&terminal::plain(&format!(
                    "{:<24} {:<6} {} – {}  {}  {}",
                    row["name"].as_str().unwrap_or_default(),
                    if row["open"] == true { "open" } else { "comes" },
                    local(&config, &row["from"]),
                    local(&config, &row["until"]),
                    if monitors.is_empty() {
                        "all monitors".to_owned()
                    } else {
                        monitors.join(", ")
                    },
                    row["reason"].as_str().unwrap_or_default(),
                )))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn reload(global: &Global) -> Result<ExitCode, Failure> {
    // What is wrong is shown here, with pictures; the probe looks once more.
    let config = global.config_with_warnings()?;
    let answer = ask(&config, &Request::Reload).await?;
    print_line(&format!(
        "reloaded: {}",
        answer["reloaded"].as_str().unwrap_or_default()
    ))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn simulate(args: SimulateArgs, global: &Global) -> Result<ExitCode, Failure> {
    let config = global.config()?;
    if args.end {
        let answer = ask(
            &config,
            &Request::SimulateEnd {
                monitors: args.monitors,
            },
        )
        .await?;
        print_line(&format!(
            "count as they are again: {}",
            names(&answer["ended"]).join(", ")
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    let request = Request::Simulate {
        monitors: args.monitors,
        lasts: args.lasts.0,
        by: args.by,
    };
    let answer = ask(&config, &request).await?;
    print_line(&format!(
        "count as failed until {}: {}",
        local(&config, &answer["until"]),
        names(&answer["simulated"]).join(", ")
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// A moment of an answer, in the configuration's zone.
fn local(config: &Config, value: &Value) -> String {
    match value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok()) {
        Some(timestamp) => config
            .timezone
            .to_datetime(timestamp)
            .strftime("%Y-%m-%d %H:%M:%S")
            .to_string(),
        None => "?".to_owned(),
    }
}
