//! The subcommands, a file for each, and their common parts: global options, exit codes and
//! standard output.
//!
//! A subcommand needs a clap `Args` struct, a `run` function, and a line in [`Command`] and in
//! `Command::run`.

pub mod deliver;
mod engine;
pub mod lake;
pub mod outages;
pub mod outbox;
pub mod patterns;
mod progress;
pub mod report;
pub mod schedule;
pub mod serve;
pub mod sla;
pub mod source;
pub mod stats;
pub mod table;
pub mod targets;
pub mod templates;
pub mod top;

use std::{
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser, Subcommand, builder::styling};
use mailqos_config::{Config, Problems};
use mailqos_lake::RemoteError;
use mailqos_lake_tables::{Lake, LakeError, place::PlaceError};
use mailqos_notify::template_process;
use mailqos_report::media::{self, guard};
use tokio::{runtime::Handle, task::block_in_place};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Full, Writer},
    },
    registry::LookupSpan,
};

/// Compute figures and generate and deliver reports from mailqos samples.
///
/// Data goes to standard output, everything else to standard error. Exit code: 0 on success, 1 on a
/// failure of the work, 2 on wrong usage or configuration.
#[derive(Debug, Parser)]
#[command(name = "mailqos-analytics", version, propagate_version = true, styles = STYLES, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const STYLES: styling::Styles = styling::Styles::styled()
    .header(styling::AnsiColor::Green.on_default().bold())
    .usage(styling::AnsiColor::Green.on_default().bold())
    .literal(styling::AnsiColor::Cyan.on_default().bold());

/// Options of every subcommand.
#[derive(Debug, Clone, clap::Args)]
pub struct Global {
    /// Configuration file [default: mailqos.toml].
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Log more to standard error (-vv for details).
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

impl Global {
    /// Returns the configuration file's path.
    pub fn config_file(&self) -> PathBuf {
        self.config.clone().unwrap_or_else(|| PathBuf::from("mailqos.toml"))
    }

    /// Reads the configuration without messages, or returns nothing if it is invalid or missing.
    fn quiet(&self) -> Option<Config> {
        mailqos_config::load(&self.config_file()).ok()
    }

    /// Reads the configuration without its warnings, which only `mailqos-probe check` and
    /// `schedule` print.
    ///
    /// # Errors
    /// All problems of the configuration (exit code 2).
    pub fn load(&self) -> Result<Config, Failure> {
        mailqos_config::load(&self.config_file()).map_err(Failure::Configuration)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show figures per monitor and time bucket.
    Stats(stats::Args),
    /// List outages of monitors and their duration.
    Outages(outages::Args),
    /// Show whether service levels were met and their remaining error budgets.
    Sla(sla::Args),
    /// Show statistically significant trends, shifts and patterns.
    Patterns(patterns::Args),
    /// Rank monitors by a figure, worst and best.
    Top(top::Args),
    /// Generate a report and print the paths of its files.
    Report(report::Args),
    /// List, show, create and check report templates.
    Templates(templates::Args),
    /// Run the report schedules until SIGTERM or SIGINT.
    Schedule(schedule::Args),
    /// Run the web console and the report schedules until SIGTERM or SIGINT.
    Serve(serve::Args),
    /// Deliver existing files to targets.
    Deliver(deliver::Args),
    /// Show, retry and drop pending deliveries.
    Outbox(outbox::Args),
    /// Show and test delivery targets.
    Targets(targets::Args),
    /// Inspect, verify, repair, import and export the sample lake.
    Lake(lake::Args),
    /// Print shell completions.
    Completions(mailqos_manual::CompletionsArgs),
    /// Write one man page per command to a folder.
    Man(mailqos_manual::ManArgs),
    /// Answer shards of a question from standard input; engines start it.
    #[command(hide = true)]
    Worker,
}

impl Command {
    fn run(self, global: &Global) -> Result<ExitCode, Failure> {
        match self {
            Self::Stats(args) => stats::run(&args, global),
            Self::Outages(args) => outages::run(&args, global),
            Self::Sla(args) => sla::run(&args, global),
            Self::Patterns(args) => patterns::run(&args, global),
            Self::Top(args) => top::run(&args, global),
            Self::Report(args) => block_on(report::run(args, global)),
            Self::Templates(args) => block_on(templates::run(args, global)),
            Self::Schedule(args) => block_on(schedule::run(args, global)),
            Self::Serve(args) => block_on(serve::run(args, global)),
            Self::Deliver(args) => block_on(deliver::run(args, global)),
            Self::Outbox(args) => block_on(outbox::run(args, global)),
            Self::Targets(args) => block_on(targets::run(args, global)),
            Self::Lake(args) => block_on(lake::run(args, global)),
            Self::Worker => engine::work(),
            Self::Completions(args) => print(mailqos_manual::completions(&args, Cli::command())?)
                .map(|()| ExitCode::SUCCESS),
            Self::Man(args) => {
                print(mailqos_manual::man(&args, Cli::command())?).map(|()| ExitCode::SUCCESS)
            }
        }
    }
}

fn block_on(work: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::work(format!("can't start the runtime: {error}")))?;
    let result = runtime.block_on(work);
    // A read that hangs in a network file system must not delay the exit.
    runtime.shutdown_background();
    result
}

/// Reasons why a command failed; they determine the exit code.
#[derive(Debug)]
pub enum Failure {
    /// The work failed: exit code 1.
    Work(miette::Report),
    /// The command was used wrongly: exit code 2.
    Usage(miette::Report),
    /// The configuration is wrong: exit code 2.
    Configuration(Problems),
    /// The reader of standard output has closed it, as `head` does: not a failure.
    BrokenPipe,
}

/// Opens the lake of `--data` or of the configuration.
fn lake(data: Option<&Path>, config: Option<&Config>) -> Result<Lake, Failure> {
    located(mailqos_lake_tables::place::lake(data, config))
}

/// Returns the folder of the lake. A lake in an object store is mirrored to it first.
fn place(data: Option<&Path>, config: Option<&Config>) -> Result<PathBuf, Failure> {
    located(mailqos_lake_tables::place::folder(data, config))
}

/// Waits for the location of a lake: most commands are synchronous.
fn located<T>(place: impl Future<Output = Result<T, PlaceError>>) -> Result<T, Failure> {
    let found = match Handle::try_current() {
        Ok(runtime) => block_in_place(|| runtime.block_on(place)),
        Err(_) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(Failure::work)?.block_on(place)
        }
    };
    found.map_err(|error| match error {
        PlaceError::Remote(RemoteError::Options { .. })
        | PlaceError::Unknown
        | PlaceError::Secret(_) => {
            Failure::usage(error, "see data and object_store in the configuration")
        }
        PlaceError::Lake(LakeError::NotFound(_)) => Failure::usage(
            error,
            "set --data to the folder that contains samples/site=…/date=…; the probe creates the lake when it \
             seals the first samples",
        ),
        error => Failure::work(error),
    })
}

impl Failure {
    /// Returns a failure of the work, in one line.
    pub fn work(message: impl std::fmt::Display) -> Self {
        Self::Work(miette::miette!("{message}"))
    }

    /// Returns a failure of the work, with its remedy.
    pub fn work_help(message: impl std::fmt::Display, help: impl std::fmt::Display) -> Self {
        Self::Work(miette::miette!(help = help.to_string(), "{message}"))
    }

    /// Returns a usage error, with its remedy.
    pub fn usage(message: impl std::fmt::Display, help: impl std::fmt::Display) -> Self {
        Self::Usage(miette::miette!(help = help.to_string(), "{message}"))
    }

    /// Returns the problem as text.
    fn text(&self) -> String {
        match self {
            Self::BrokenPipe => String::new(),
            Self::Work(report) | Self::Usage(report) => {
                let help = report.help().map_or_else(String::new, |help| format!("\n{help}"));
                format!("{report}{help}")
            }
            Self::Configuration(problems) => problems.render(false),
        }
    }

    /// Prints the problem to standard error, and returns the exit code.
    fn report(self) -> ExitCode {
        let colour = std::io::stderr().is_terminal();
        match self {
            Self::BrokenPipe => ExitCode::SUCCESS,
            Self::Work(report) => {
                eprintln!("{report:?}");
                ExitCode::FAILURE
            }
            Self::Usage(report) => {
                eprintln!("{report:?}");
                ExitCode::from(2)
            }
            Self::Configuration(problems) => {
                eprint!("{}", problems.render(colour));
                ExitCode::from(2)
            }
        }
    }
}

impl From<miette::Report> for Failure {
    fn from(report: miette::Report) -> Self {
        Self::Work(report)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::BrokenPipe;
        }
        Self::work(error)
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::Configuration(problems)
    }
}

/// Writes data to standard output.
///
/// # Errors
/// The reader has closed it, or the data can't be written.
pub fn print(data: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(data.as_ref())?;
    out.flush()?;
    Ok(())
}

/// Runs the command line.
pub fn main() -> ExitCode {
    // This program runs itself with a hidden argument for users' templates.
    let argument = std::env::args_os().nth(1);
    if argument.as_ref().is_some_and(|argument| argument == guard::ARGUMENT) {
        return media::make_page();
    }
    if argument.as_ref().is_some_and(|argument| argument == template_process::ARGUMENT) {
        return template_process::main();
    }
    template_process::enable();
    guard::enable();
    // The console generates each report in a separate process.
    if argument.is_some_and(|argument| argument == mailqos_console::MAKE_REPORT) {
        return mailqos_console::make_report();
    }
    // clap itself exits with 0 after --help and with 2 on wrong usage.
    let cli = Cli::parse();
    log(cli.global.verbose);
    match cli.command.run(&cli.global) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

/// Sets up log messages on standard error: `RUST_LOG` selects them, otherwise the number of `-v`.
fn log(verbose: u8) {
    let usual = match verbose {
        0 => "warn,mailqos=info",
        1 => "info,mailqos=debug",
        _ => "debug,mailqos=trace",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(usual));
    let terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(terminal);
    let _ = if std::env::var_os("JOURNAL_STREAM").is_some() && !terminal {
        let lines = tracing_subscriber::fmt::format().without_time().with_ansi(false);
        builder.event_format(Journal(lines)).try_init()
    } else {
        builder.try_init()
    };
}

/// Formats lines for systemd's journal, which adds the time: each has its priority (sd-daemon(3)).
struct Journal(Format<Full, ()>);

impl<S, N> FormatEvent<S, N> for Journal
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> std::fmt::Result {
        let priority = match *event.metadata().level() {
            tracing::Level::ERROR => 3,
            tracing::Level::WARN => 4,
            tracing::Level::INFO => 6,
            _ => 7,
        };
        write!(writer, "<{priority}>")?;
        self.0.format_event(context, writer, event)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
