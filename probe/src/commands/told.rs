//! Commands that tell the running probe something: `ack`, `maintenance`, `simulate`, `reload`.

use std::process::ExitCode;

use mailqos_config::Config;
use mailqos_model::{Micros, UtcMicros};
use serde_json::Value;

use super::{Failure, Global, moment, print_line, terminal};
use crate::control::{ControlError, Request, ask};

#[derive(Debug, clap::Args)]
pub(super) struct AckArgs {
    /// Monitors: ids, object:NAME, tag:NAME, patterns such as "mail-*".
    #[arg(required = true)]
    monitors: Vec<String>,
    /// Who acknowledges the alarms.
    #[arg(long, default_value_t = user())]
    by: String,
    /// Note on the cause or the work in progress.
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
    /// Add a maintenance window that starts now or later.
    Add {
        /// Monitors: ids, object:NAME, tag:NAME, patterns such as "mail-*" (default: all).
        monitors: Vec<String>,
        /// Duration, such as 2h.
        #[arg(long = "for", value_name = "DURATION")]
        lasts: Micros,
        /// Start, such as 2026-12-01T22:00 in the configuration's time zone (default: now).
        #[arg(long)]
        from: Option<String>,
        /// Reason, shown in status and reports.
        #[arg(long)]
        reason: Option<String>,
        /// Name of the maintenance window.
        #[arg(long)]
        name: Option<String>,
        /// Skip tests during the maintenance window.
        #[arg(long)]
        pause: bool,
        /// Who requested it.
        #[arg(long, default_value_t = user())]
        by: String,
    },
    /// End a maintenance window that was added.
    End {
        /// Name of the maintenance window.
        name: String,
    },
    /// List current and future maintenance windows.
    List,
}

#[derive(Debug, clap::Args)]
pub(super) struct SimulateArgs {
    /// Monitors: ids, object:NAME, tag:NAME, patterns such as "mail-*".
    monitors: Vec<String>,
    /// How long the monitors count as failed.
    #[arg(long = "for", value_name = "DURATION", default_value = "10m")]
    lasts: Micros,
    /// End the simulation.
    #[arg(long)]
    end: bool,
    /// Who requested it.
    #[arg(long, default_value_t = user())]
    by: String,
}

/// Returns the current user according to the environment.
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
        return Err(Failure::Work("none of these monitors has an open alarm".to_owned()));
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
        print_line(&format!("simulation ended: {}", names(&answer["ended"]).join(", ")))?;
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
