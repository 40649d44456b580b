//! The subcommands, a file for each, and their common parts: the configuration, the log and the
//! exit codes.

mod access;
mod account;
mod actions;
mod alarms;
mod check;
mod discover;
mod edit;
mod init;
mod last_mail;
mod log;
mod manage;
mod manager;
mod proxies;
mod run;
mod sign_in;
mod status;
mod terminal;
mod test;
mod told;
mod transcript;

use std::{
    io::{IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};
use jiff::tz::{AmbiguousOffset, TimeZone};
use mailqos_config as config;
use mailqos_config::{Config, Monitor};
use mailqos_model::UtcMicros;

use mailqos_notify::template_process;

/// Measure the round trip of e-mail around the clock and raise alarms.
#[derive(Debug, Parser)]
#[command(name = "mailqos-probe", version, max_term_width = 100)]
struct Cli {
    /// Configuration file.
    #[arg(long, global = true, value_name = "FILE", default_value = "mailqos.toml")]
    config: PathBuf,
    /// Format of the log on standard error.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// Text for reading.
    Text,
    /// One JSON object per line.
    Json,
}

/// Output format of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text for reading.
    Table,
    /// JSON for scripts.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set up a monitor: prompt for its settings, try the connections and run a test.
    Init(Box<init::Args>),
    /// Find the mail servers of an address and show where they were found.
    Discover(discover::Args),
    /// Add an object, an account or a monitor to the configuration.
    Add(Box<manage::AddArgs>),
    /// Sign in as an account's user, or restrict an application to one mailbox and verify it.
    Account(account::Args),
    /// List objects, accounts or monitors.
    List(manage::ListArgs),
    /// Show a monitor's settings, including inherited defaults.
    Show(manage::ShowArgs),
    /// Enable monitors.
    Enable(manage::SwitchArgs),
    /// Disable monitors.
    Disable(manage::SwitchArgs),
    /// Remove an object, an account or a monitor from the configuration.
    Remove(manage::RemoveArgs),
    /// Run the monitors' tests until SIGTERM or SIGINT.
    Run(run::Args),
    /// Run one test of a monitor now and show its timeline.
    Test(test::Args),
    /// Show the transcript of a test.
    Transcript(transcript::Args),
    /// Validate the configuration and list all problems.
    Check(check::Args),
    /// Replay alarm rules against recorded samples.
    Alarms(alarms::Args),
    /// Test and preview action lists.
    Actions(actions::Args),
    /// Show the monitor status of the running probe.
    Status(status::Args),
    /// Show events: alarms, notifications, maintenance.
    Log(log::Args),
    /// Reload the running probe's configuration; rejected if it has errors.
    Reload,
    /// Acknowledge alarms, which stops reminders and escalation.
    Ack(told::AckArgs),
    /// Manage maintenance windows (no alarms, not counted in availability).
    Maintenance(told::MaintenanceArgs),
    /// Simulate failed monitors to try out their action lists.
    Simulate(told::SimulateArgs),
    /// Print the JSON Schema of the configuration for editors.
    Schema,
    /// Print shell completions.
    Completions(mailqos_manual::CompletionsArgs),
    /// Write one man page per command to a folder.
    Man(mailqos_manual::ManArgs),
}

/// A failed command.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The work failed: exit code 1.
    Work(String),
    /// Wrong usage or configuration: exit code 2.
    Usage(String),
}

impl Failure {
    /// Returns a failure of the work.
    pub(crate) fn work(error: impl std::fmt::Display) -> Self {
        Self::Work(error.to_string())
    }
}

/// Options that every command can use.
pub(crate) struct Global {
    config: PathBuf,
    log_format: LogFormat,
}

impl Global {
    /// Returns the path of the configuration file.
    pub(crate) fn path(&self) -> &std::path::Path {
        &self.config
    }

    /// Reads the configuration. Problems end the command.
    pub(crate) fn config(&self) -> Result<Config, Failure> {
        let colour = self.log_format == LogFormat::Text && std::io::stderr().is_terminal();
        config::load(&self.config).map_err(|problems| Failure::Usage(problems.render(colour)))
    }

    /// Loads the configuration and renders the templates of action lists; warnings go to standard
    /// error with excerpts, or to the log.
    pub(crate) fn config_with_warnings(&self) -> Result<Config, Failure> {
        let mut config = self.config()?;
        let problems = crate::alarm::check(&config);
        if problems.has_errors() {
            let colour = self.log_format == LogFormat::Text && std::io::stderr().is_terminal();
            return Err(Failure::Usage(problems.render(colour)));
        }
        config.warnings.append(problems);
        config.warnings.sort();
        match self.log_format {
            LogFormat::Text => {
                let mut notes = std::io::stderr();
                let warnings = config.warnings.render(notes.is_terminal());
                let _ = notes.write_all(warnings.as_bytes());
            }
            // The log is read by a program, which needs all of it in one form.
            LogFormat::Json => config.warnings.iter().for_each(
                |warning| tracing::warn!(problem = %warning, remedy = warning.help.as_deref(), "configuration warning"),
            ),
        }
        Ok(config)
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == template_process::ARGUMENT)
        && arguments.next().is_none()
    {
        return template_process::main();
    }
    template_process::enable();
    let cli = Cli::parse();
    begin_log(cli.log_format);
    let global = Global { config: cli.config, log_format: cli.log_format };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let failure = Failure::work(format!("can't start the runtime: {error}"));
            return end(failure, global.log_format);
        }
    };
    let result = runtime.block_on(async {
        match cli.command {
            Command::Init(args) => init::run(*args, &global).await,
            Command::Discover(args) => discover::run(args, &global).await,
            Command::Account(args) => account::run(args, &global).await,
            Command::Add(args) => manage::add(*args, &global),
            Command::List(args) => manage::show_list(&args, &global),
            Command::Show(args) => manage::show(&args, &global),
            Command::Enable(args) => manage::switch(&args, true, &global),
            Command::Disable(args) => manage::switch(&args, false, &global),
            Command::Remove(args) => manage::remove(&args, &global),
            Command::Run(args) => run::run(args, &global).await,
            Command::Test(args) => test::run(args, &global).await,
            Command::Transcript(args) => transcript::run(&args, &global),
            Command::Check(args) => check::run(args, &global).await,
            Command::Alarms(args) => alarms::run(args, &global).await,
            Command::Actions(args) => actions::run(args, &global).await,
            Command::Status(args) => status::run(args, &global).await,
            Command::Log(args) => log::run(args, &global).await,
            Command::Reload => told::reload(&global).await,
            Command::Ack(args) => told::ack(args, &global).await,
            Command::Maintenance(args) => told::maintenance(args, &global).await,
            Command::Simulate(args) => told::simulate(args, &global).await,
            Command::Schema => print(schema()),
            Command::Completions(args) => print(mailqos_manual::completions(&args, Cli::command())),
            Command::Man(args) => print(mailqos_manual::man(&args, Cli::command())),
        }
    });
    // A name lookup that hangs in the system's resolver must not delay the exit.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(failure) => end(failure, global.log_format),
    }
}

/// Returns the JSON Schema of the configuration.
fn schema() -> std::io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(&config::reference::schema(
        &config::reference::CONFIGURATION,
        "file",
    ))?;
    text.push(b'\n');
    Ok(text)
}

/// Prints generated bytes.
fn print(made: std::io::Result<Vec<u8>>) -> Result<ExitCode, Failure> {
    write_out(&made.map_err(Failure::work)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a line to standard output.
fn print_line(line: &str) -> Result<(), Failure> {
    write_out(format!("{line}\n").as_bytes())
}

/// Writes to standard output. A closed standard output is not a failure.
fn write_out(bytes: &[u8]) -> Result<(), Failure> {
    match std::io::stdout().write_all(bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::work(error)),
        _ => Ok(()),
    }
}

/// Returns the selected monitors.
fn select<'config>(
    config: &'config Config,
    patterns: &[String],
) -> Result<Vec<&'config Monitor>, Failure> {
    config
        .select(patterns)
        .map_err(|pattern| Failure::Usage(format!("{pattern:?} matches no monitor")))
}

/// Parses a date and time: in this zone, or with an explicit offset.
fn moment(text: &str, zone: &TimeZone) -> Result<UtcMicros, Failure> {
    if let Ok(timestamp) = text.parse::<jiff::Timestamp>() {
        return Ok(timestamp.into());
    }
    let local = text.parse::<jiff::civil::DateTime>().map_err(|_| {
        Failure::Usage(format!(
            "{text:?} is not a valid date and time; write 2026-12-01T22:00 for local time, or 2026-12-01T21:00:00Z"
        ))
    })?;
    let ambiguous = zone.to_ambiguous_timestamp(local);
    // A time that comes twice, or not at all, could be meant either way.
    match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { .. } => {
            ambiguous.unambiguous().map(UtcMicros::from).map_err(|error| {
                Failure::Usage(format!("{text:?} is not a valid date and time: {error}"))
            })
        }
        AmbiguousOffset::Fold { before, after } => Err(Failure::Usage(format!(
            "{text:?} comes twice, because clocks are set back then; write {text}{} for the first \
             time, or {text}{} for the second",
            offset(before),
            offset(after)
        ))),
        AmbiguousOffset::Gap { before, after } => Err(Failure::Usage(format!(
            "{text:?} does not exist, because the clocks go forward then; use another time, \
             {text}{} or {text}{}",
            offset(before),
            offset(after)
        ))),
    }
}

/// Formats an offset from UTC, such as `+02:00`.
fn offset(offset: jiff::tz::Offset) -> String {
    let minutes = offset.seconds() / 60;
    let sign = if minutes < 0 { '-' } else { '+' };
    format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
}

fn end(failure: Failure, format: LogFormat) -> ExitCode {
    let (code, message) = match failure {
        Failure::Work(message) => (1, message),
        Failure::Usage(message) => (2, message),
    };
    let message = message.trim_end();
    let line = match format {
        LogFormat::Text => message.to_owned(),
        LogFormat::Json => json_line(message, UtcMicros::now()),
    };
    let _ = writeln!(std::io::stderr(), "{line}");
    ExitCode::from(code)
}

/// Formats the reason why the program ends like a log line; unlike those, it is never filtered out.
fn json_line(message: &str, now: UtcMicros) -> String {
    serde_json::json!({ "timestamp": now.to_string(), "level": "ERROR", "fields": { "message": message } }).to_string()
}

/// Sets up the log on standard error, filtered by `RUST_LOG`.
fn begin_log(format: LogFormat) {
    use tracing_subscriber::{EnvFilter, fmt};
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("mailqos=info,warn"));
    let builder = fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    let begun = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    if let Err(error) = begun {
        let _ = writeln!(std::io::stderr(), "can't set up logging: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_start_is_one_line_of_json() {
        let line =
            json_line("mailqos.toml:\n  \"site\" is missing", UtcMicros(1_780_000_000_000_000));
        assert!(!line.contains('\n'));
        let read: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(read["level"], "ERROR");
        assert_eq!(read["timestamp"], "2026-05-28T20:26:40Z");
        assert_eq!(read["fields"]["message"], "mailqos.toml:\n  \"site\" is missing");
    }
}
