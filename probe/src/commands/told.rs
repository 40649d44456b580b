//! Commands for the running probe: `ack`, `maintenance`, `simulate`, `reload`.

use std::process::ExitCode;

use jiff::Timestamp;
use mailqos_config::Config;
use mailqos_control::{
    ControlError, Repetition, Request, ask,
    response::{
        AckWithdrawn, Acknowledged, MaintenanceAdded, MaintenanceEnded, MaintenanceWindow,
        Reloaded, Simulated, SimulationEnded,
    },
};
use mailqos_model::{Micros, MonitorId, UtcMicros};

use super::{Failure, Global, moment, print_line, terminal};

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
    /// Withdraw the acknowledgement, so that reminders and escalations continue.
    #[arg(long)]
    withdraw: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct MaintenanceArgs {
    #[command(subcommand)]
    command: MaintenanceCommand,
}

#[derive(Debug, clap::Subcommand)]
enum MaintenanceCommand {
    /// Add a maintenance window, or declare a past period as maintenance (--from with --to). If the
    /// period began earlier and continues, its past part is declared, and a window is added for the
    /// rest.
    Add {
        /// Monitors: ids, object:NAME, tag:NAME, patterns such as "mail-*" [default: all].
        monitors: Vec<String>,
        /// Duration, such as 2h.
        #[arg(long = "for", value_name = "DURATION", required_unless_present = "to")]
        lasts: Option<Micros>,
        /// End, such as 2026-12-01T23:30; a past period is declared as maintenance afterwards.
        #[arg(long)]
        to: Option<String>,
        /// Recurring starts as a cron expression, such as "0 2 * * 6", each for the duration.
        #[arg(long, value_name = "EXPRESSION", requires = "lasts")]
        cron: Option<String>,
        /// Start, such as 2026-12-01T22:00 in the configuration's time zone [default: now].
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
    /// Withdraw the declaration of a past period.
    Withdraw {
        /// Name of the declaration.
        name: String,
        /// Who withdraws it.
        #[arg(long, default_value_t = user())]
        by: String,
    },
    /// List current and future maintenance windows, and declared past periods.
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

fn names(monitors: &[MonitorId]) -> String {
    let names: Vec<&str> = monitors.iter().map(MonitorId::as_str).collect();
    names.join(", ")
}

pub(super) async fn ack(args: AckArgs, global: &Global) -> Result<ExitCode, Failure> {
    let config = global.config()?;
    let AckArgs { monitors, by, note, withdraw } = args;
    if withdraw {
        let request = Request::AckWithdraw { monitors, by, note };
        let AckWithdrawn { withdrawn } = ask(&config, &request).await?;
        if withdrawn.is_empty() {
            return Err(Failure::Work("none of these monitors' alarms is acknowledged".to_owned()));
        }
        print_line(&format!("acknowledgement withdrawn: {}", names(&withdrawn)))?;
        return Ok(ExitCode::SUCCESS);
    }
    let request = Request::Ack { monitors, by, note, keep: false };
    let Acknowledged { acknowledged, .. } = ask(&config, &request).await?;
    if acknowledged.is_empty() {
        return Err(Failure::Work("none of these monitors has an open alarm".to_owned()));
    }
    print_line(&format!("acknowledged: {}", names(&acknowledged)))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn maintenance(
    args: MaintenanceArgs,
    global: &Global,
) -> Result<ExitCode, Failure> {
    let config = global.config()?;
    match args.command {
        MaintenanceCommand::Add { monitors, lasts, to, cron, from, reason, name, pause, by } => {
            if to.is_some() && lasts.is_some() && cron.is_none() {
                return Err(Failure::Usage("use either --for or --to".to_owned()));
            }
            let now = UtcMicros::now();
            let from = from.map(|text| moment(&text, &config.timezone)).transpose()?;
            let end = match to {
                Some(text) => moment(&text, &config.timezone)?,
                None if cron.is_some() => Timestamp::MAX.into(),
                None => from.unwrap_or(now) + lasts.unwrap_or_default(),
            };
            let repeats = cron.zip(lasts).map(|(cron, lasts)| Repetition { cron, lasts });
            let asked = Asked { name, monitors, reason, by };
            match from {
                Some(from) if end <= now => {
                    if pause {
                        let text = "--pause does not apply to the past";
                        return Err(Failure::Usage(text.to_owned()));
                    }
                    declare(&config, asked, (from, end)).await?;
                }
                // Repeated windows begin with the next one.
                Some(from) if from < now && repeats.is_none() => {
                    let period = (from, now, end);
                    declare_and_add(&config, asked, period, pause).await?;
                }
                _ => add_window(&config, asked, (from, end), (pause, repeats)).await?,
            }
        }
        MaintenanceCommand::Withdraw { name, by } => {
            let request = Request::MaintenanceWithdraw { name: name.clone(), by };
            let _: MaintenanceEnded = ask(&config, &request).await?;
            print_line(&format!("declaration {name} withdrawn; it stays in the event log"))?;
        }
        MaintenanceCommand::End { name } => {
            let _: MaintenanceEnded =
                ask(&config, &Request::MaintenanceEnd { name: name.clone(), by: None }).await?;
            print_line(&format!("maintenance {name} has ended"))?;
        }
        MaintenanceCommand::List => {
            let windows: Vec<MaintenanceWindow> = ask(&config, &Request::MaintenanceList).await?;
            for window in windows {
                print_line(&terminal::plain(&format!(
                    "{:<24} {:<8} {} – {}  {}  {}",
                    window.name,
                    match (window.declared, window.open) {
                        (true, _) => "declared",
                        (false, true) => "open",
                        (false, false) => "comes",
                    },
                    local(&config, window.from),
                    local(&config, window.until),
                    if window.monitors.is_empty() {
                        "all monitors".to_owned()
                    } else {
                        window.monitors.join(", ")
                    },
                    window.reason.unwrap_or_default(),
                )))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What both kinds of maintenance have in common.
struct Asked {
    name: Option<String>,
    monitors: Vec<String>,
    reason: Option<String>,
    by: String,
}

/// Adds a maintenance window.
async fn add_window(
    config: &Config,
    asked: Asked,
    (from, to): (Option<UtcMicros>, UtcMicros),
    (pause, repeats): (bool, Option<Repetition>),
) -> Result<(), Failure> {
    let Asked { name, monitors, reason, by } = asked;
    let rule = repeats.clone();
    let request = Request::MaintenanceAdd { name, monitors, from, to, repeats, reason, by, pause };
    let added: MaintenanceAdded = ask(config, &request).await?;
    if let Some(Repetition { cron, lasts }) = rule {
        let monitors = counted(added.monitors);
        return print_line(&format!("maintenance {} of {monitors}, {lasts} at {cron}", added.name));
    }
    print_line(&format!(
        "maintenance {} of {}, {} until {}",
        added.name,
        counted(added.monitors),
        local(config, added.from),
        local(config, added.until),
    ))
}

/// Maintenance that began earlier and continues: its past part is declared, and a window of the same
/// name begins now. Without one of the two there is neither.
async fn declare_and_add(
    config: &Config,
    asked: Asked,
    (from, now, to): (UtcMicros, UtcMicros, UtcMicros),
    pause: bool,
) -> Result<(), Failure> {
    let Asked { name, monitors, reason, by } = asked;
    let past = Asked { name, monitors: monitors.clone(), reason: reason.clone(), by: by.clone() };
    let name = declare(config, past, (from, now)).await?;
    let rest = Asked { name: Some(name.clone()), monitors, reason, by: by.clone() };
    if let Err(failure) = add_window(config, rest, (Some(now), to), (pause, None)).await {
        let request = Request::MaintenanceWithdraw { name: name.clone(), by };
        let _: MaintenanceEnded = ask(config, &request).await?;
        print_line(&format!("declaration {name} withdrawn, because there is no window"))?;
        return Err(failure);
    }
    Ok(())
}

/// Declares a past period as maintenance; returns the name of the declaration.
async fn declare(
    config: &Config,
    asked: Asked,
    (from, to): (UtcMicros, UtcMicros),
) -> Result<String, Failure> {
    let Asked { name, monitors, reason, by } = asked;
    let Some(reason) = reason.filter(|reason| !reason.trim().is_empty()) else {
        return Err(Failure::Usage(
            "a period that began in the past is declared with --reason".to_owned(),
        ));
    };
    let request = Request::MaintenanceDeclare { name, monitors, from, to, reason, by };
    let added: MaintenanceAdded = ask(config, &request).await?;
    // With their offsets: an hour may have come twice.
    let zoned = |at: Option<Timestamp>| {
        at.map_or_else(String::new, |at| {
            let zoned = at.to_zoned_datetime(config.timezone.clone());
            zoned.strftime("%Y-%m-%d %H:%M:%S%:z").to_string()
        })
    };
    print_line(&format!(
        "declared {} of {}, {} until {}; samples are unchanged, and figures show both values",
        added.name,
        counted(added.monitors),
        zoned(added.from),
        zoned(added.until),
    ))?;
    Ok(added.name)
}

fn counted(monitors: usize) -> String {
    match monitors {
        1 => "1 monitor".to_owned(),
        several => format!("{several} monitors"),
    }
}

pub(super) async fn reload(global: &Global) -> Result<ExitCode, Failure> {
    // Problems are shown here with excerpts; the probe validates the configuration again.
    let config = global.config_with_warnings()?;
    let Reloaded { reloaded } = ask(&config, &Request::Reload).await?;
    print_line(&format!("reloaded: {reloaded}"))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn simulate(args: SimulateArgs, global: &Global) -> Result<ExitCode, Failure> {
    let config = global.config()?;
    if args.end {
        let monitors = args.monitors;
        let request = Request::SimulateEnd { monitors, by: Some(args.by) };
        let SimulationEnded { ended } = ask(&config, &request).await?;
        print_line(&format!("simulation ended: {}", names(&ended)))?;
        return Ok(ExitCode::SUCCESS);
    }
    let request = Request::Simulate { monitors: args.monitors, lasts: args.lasts.0, by: args.by };
    let Simulated { simulated, until } = ask(&config, &request).await?;
    print_line(&format!(
        "simulating failure until {}: {}",
        local(&config, until),
        names(&simulated)
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Formats a time of a response in the configuration's time zone.
fn local(config: &Config, moment: Option<Timestamp>) -> String {
    match moment {
        Some(timestamp) => {
            config.timezone.to_datetime(timestamp).strftime("%Y-%m-%d %H:%M:%S").to_string()
        }
        None => "?".to_owned(),
    }
}
