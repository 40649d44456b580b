//! `mailqos-probe transcript`: prints the transcript of a test.

use std::process::ExitCode;

use clap::ValueEnum;
use mailqos_lake::transcripts::{Store, Transcript};
use mailqos_model::MonitorId;

use super::{Failure, Global, moment, print_line, write_out};
use crate::verdict::what_to_do;

/// Maximum distance in µs between a given time and the start of the test that it refers to.
const NEAR: i64 = 60_000_000;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Id of the monitor, which may have been removed from the configuration.
    monitor: MonitorId,
    /// Start of the test, such as 2026-11-23T18:00:05Z, or 2026-11-23T18:00 in the configuration's
    /// time zone [default: latest transcript].
    time: Option<String>,
    /// List tests with a transcript.
    #[arg(long, conflicts_with = "time")]
    list: bool,
    /// Output format.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Lines with times.
    Text,
    /// Transcript as recorded, with binary data in Base64.
    Json,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<ExitCode, Failure> {
    let config = global.config()?;
    let store = Store::new(&config);
    let kept = store.list(&args.monitor).map_err(Failure::work)?;
    let Some(last) = kept.last() else {
        return Err(Failure::work(format!(
            "no transcript of {} is stored; failed tests record one, or all tests with transcripts = \"all\"",
            args.monitor
        )));
    };
    if args.list {
        for started_at in kept {
            let line = match store.get(&args.monitor, started_at) {
                Ok(transcript) => summary(&transcript),
                Err(error) => format!("can't read the transcript: {error}"),
            };
            print_line(&format!("{started_at}  {line}"))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let started_at = match &args.time {
        None => *last,
        Some(text) => {
            let meant = moment(text, &config.timezone)?;
            let nearest = kept.iter().min_by_key(|at| (at.0 - meant.0).abs());
            match nearest {
                Some(at) if (at.0 - meant.0).abs() <= NEAR => *at,
                nearest => {
                    let hint =
                        nearest.map_or(String::new(), |at| format!("; the nearest is from {at}"));
                    return Err(Failure::work(format!(
                        "no transcript of {} starts within a minute of {meant}{hint}",
                        args.monitor
                    )));
                }
            }
        }
    };
    let transcript = store.get(&args.monitor, started_at).map_err(Failure::work)?;
    let text = match args.format {
        Format::Text => {
            let mut text = transcript.render(&config.timezone);
            if let Some(monitor) = config.monitors.get(&args.monitor)
                && let Some(remedy) =
                    what_to_do(&monitor.kind, transcript.stage, transcript.error.as_deref())
            {
                text.push_str(&format!("\n{remedy}\n"));
            }
            text
        }
        Format::Json => serde_json::to_string_pretty(&transcript).map_err(Failure::work)? + "\n",
    };
    write_out(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn summary(transcript: &Transcript) -> String {
    let mut line = transcript.outcome.to_string();
    if let Some(stage) = transcript.stage {
        line = format!("{line} {stage}");
    }
    if let Some(error) = &transcript.error {
        line = format!("{line}: {error}");
    }
    line
}
