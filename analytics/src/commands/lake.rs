//! `mailqos-analytics lake`: maintains the sample lake.

use std::{
    collections::BTreeMap,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use jiff::tz::TimeZone;
use mailqos_config::DataLocation;
use mailqos_lake::{LockError, Remote, Status};
use mailqos_lake_tables as lake;
use mailqos_lake_tables::{
    LakeAdminError, LakeError,
    export::{self, Choice},
    import::{self, Mapping, Mark, Plan, Preset},
    repair::{self, Remedy, Repair, Verdict},
    retention,
};
use mailqos_model::{Event, MonitorId, Outcome, Sample, SiteName, UtcMicros};

use super::{
    Failure, Global, print,
    table::{Cell, Format, Table, counted},
};

/// Options of `lake`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,

    /// Folder of the sample lake; replaces the configuration file.
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Only this site (repeatable).
    #[arg(long, global = true, value_name = "SITE")]
    site: Vec<SiteName>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show sites, days, samples, bytes and gaps.
    Info {
        /// Output format.
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Verify every file without changing it; exits with 1 if one is damaged.
    Verify,
    /// Rebuild damaged day files from their readable samples; keeps the damaged files.
    Repair {
        /// Make the changes instead of only listing them.
        #[arg(long)]
        apply: bool,
    },
    /// Delete samples and events of old days, except open days.
    Retain {
        /// Number of days to keep.
        #[arg(long, value_name = "DAYS")]
        keep_days: u16,
        /// Delete the days instead of only listing them.
        #[arg(long)]
        apply: bool,
    },
    /// Import samples of another tool from CSV or Parquet.
    Import(ImportArgs),
    /// Export samples as CSV or as a separate lake.
    Export(ExportArgs),
}

#[derive(Debug, clap::Args)]
struct ImportArgs {
    /// CSV file with a header, Parquet file (`.parquet`), or export of another tool (--from).
    file: PathBuf,
    /// Tool that wrote the file, which sets columns, units and outcomes.
    #[arg(long, value_enum, value_name = "TOOL")]
    from: Option<Preset>,
    /// Site to import the samples into.
    #[arg(long, value_name = "SITE")]
    into: SiteName,
    /// Monitor for all rows, overriding the file.
    #[arg(long, value_name = "ID")]
    as_monitor: Option<MonitorId>,
    /// Source of a lake column, such as started_at=time or round_trip_us=latency:ms (units: min, s,
    /// ms, us).
    #[arg(long, value_name = "OURS=THEIRS")]
    column: Vec<Mapping>,
    /// Outcome for all rows, overriding the file, unless --column maps outcome.
    #[arg(long, value_name = "OUTCOME")]
    as_outcome: Option<Outcome>,
    /// Field separator of a CSV file: one character or `tab` [default: detected from the header].
    #[arg(long, value_name = "SIGN", value_parser = delimiter)]
    delimiter: Option<u8>,
    /// Format of times, such as "%d.%m.%Y %H:%M" [default: RFC 3339, ISO 8601, or a number].
    #[arg(long, value_name = "FORMAT")]
    time_format: Option<String>,
    /// Outcome for a word in the file, such as success=ok or timeout=lost (repeatable).
    #[arg(long, value_name = "WORD=OUTCOME", value_parser = outcome)]
    outcome: Vec<(String, String)>,
    /// Word in the file that means "no value" (repeatable; NaN, U, - and null always do).
    #[arg(long, value_name = "WORD")]
    missing: Vec<String>,
    /// Outcome for rows without a round trip, with --as-outcome [default: skip them].
    #[arg(long, value_name = "OUTCOME", requires = "as_outcome")]
    missing_outcome: Option<Outcome>,
    /// Decimal mark of numbers, "." or "," [default: detected per column].
    #[arg(long, value_name = "SIGN")]
    decimal_mark: Option<Mark>,
    /// Time zone of times without an offset: IANA name or offset such as +01:00.
    #[arg(long, value_name = "TZ", default_value = "UTC", value_parser = timezone, allow_hyphen_values = true)]
    timezone: TimeZone,
    /// Skip samples that are already in the lake instead of rejecting the file.
    #[arg(long)]
    skip_duplicates: bool,
    /// Import the samples instead of only listing them.
    #[arg(long)]
    apply: bool,
}

#[derive(Debug, clap::Args)]
struct ExportArgs {
    /// Only this monitor (repeatable).
    #[arg(long, value_name = "ID")]
    monitor: Vec<MonitorId>,
    /// First UTC day, such as 2026-03-01, or start time (RFC 3339).
    #[arg(long, value_name = "DATE", value_parser = moment)]
    from: Option<UtcMicros>,
    /// First UTC day after the period, or end time (RFC 3339).
    #[arg(long, value_name = "DATE", value_parser = moment)]
    to: Option<UtcMicros>,
    /// Output format.
    #[arg(long, value_enum, default_value = "csv")]
    format: ExportFormat,
    /// CSV file [default: standard output] or folder for the Parquet files.
    #[arg(long, value_name = "PATH", required_if_eq("format", "parquet"))]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ExportFormat {
    /// One CSV text with a header.
    Csv,
    /// Folder of day files, usable as a lake.
    Parquet,
}

fn outcome(text: &str) -> Result<(String, String), String> {
    let (word, outcome) = text.split_once('=').ok_or("use WORD=OUTCOME, such as success=ok")?;
    outcome.parse::<mailqos_model::Outcome>().map_err(|error| error.to_string())?;
    Ok((word.to_owned(), outcome.to_owned()))
}

fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        _ if text == "tab" => Ok(b'\t'),
        [sign] if !sign.is_ascii_alphanumeric() && *sign != b'"' => Ok(*sign),
        _ => Err("use a single character such as ; or |, or tab".into()),
    }
}

fn timezone(text: &str) -> Result<TimeZone, String> {
    mailqos_base::zones::get(text).ok().or_else(|| offset(text).map(TimeZone::fixed)).ok_or_else(
        || "use an IANA name such as Europe/Berlin, an offset such as +01:00, or UTC".into(),
    )
}

/// Parses an offset from UTC, such as `+01:00` or `-0330`.
fn offset(text: &str) -> Option<jiff::tz::Offset> {
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits: String = text[1..].chars().filter(|c| *c != ':').collect();
    let (hours, minutes) = digits.split_at_checked(2)?;
    let (hours, minutes): (i32, i32) =
        (hours.parse().ok()?, if minutes.is_empty() { 0 } else { minutes.parse().ok()? });
    (hours <= 14 && minutes < 60)
        .then(|| jiff::tz::Offset::from_seconds(sign * (hours * 3_600 + minutes * 60)).ok())?
}

fn moment(text: &str) -> Result<UtcMicros, String> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(at.into());
    }
    text.parse::<jiff::civil::Date>()
        .and_then(|date| TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)))
        .map(UtcMicros::from)
        .map_err(|_| "use a date such as 2026-03-01, or a time such as 2026-03-01T12:00:00Z".into())
}

impl From<LakeAdminError> for Failure {
    fn from(error: LakeAdminError) -> Self {
        match &error {
            LakeAdminError::Lock(LockError::Held { .. }) => {
                Self::work_help(&error, "stop that probe first, or import under another site name")
            }
            LakeAdminError::Import(_) => Self::Work(miette::miette!("{error}")),
            _ => Self::work(&error),
        }
    }
}

/// Runs the command.
///
/// # Errors
/// Wrong usage, or the lake can't be read or written.
pub async fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let config = match args.data {
        Some(_) => None,
        None => Some(global.load()?),
    };
    let data = super::place(args.data.as_deref(), config.as_ref())?;
    let remote = args.data.as_deref().is_some_and(|data| data.to_string_lossy().contains("://"))
        || config
            .as_ref()
            .is_some_and(|config| matches!(config.data, DataLocation::ObjectStore(_)));
    // This is a copy: changes would be lost, and would not affect the lake.
    let changes = match &args.command {
        Command::Import(_) => true,
        Command::Repair { apply, .. } | Command::Retain { apply, .. } => *apply,
        _ => false,
    };
    if remote && changes {
        return Err(Failure::usage(
            "the lake is in an object store, to which only its probe can write",
            "set retention in the probe's configuration, or export the lake to a folder and work there",
        ));
    }
    // Only an import may create a lake.
    if !matches!(args.command, Command::Import(_)) && !data.join("samples").is_dir() {
        return Err(Failure::usage(
            format!("no lake found in {}", data.display()),
            "set --data to the folder that contains samples/site=…/date=…",
        ));
    }
    let sites = args.site;
    match args.command {
        Command::Info { format } => {
            let store = lake::place::store(args.data.as_deref(), config.as_ref()).await;
            info(&data, store.map_err(Failure::work)?.as_ref(), &sites, format).await
        }
        Command::Verify => verify(&data, &sites),
        Command::Repair { apply } => repair(&data, &sites, apply),
        Command::Retain { keep_days, apply } => retain(&data, &sites, keep_days, apply),
        Command::Import(args) => import(&data, args),
        Command::Export(args) => export(&data, sites, args),
    }
}

/// Prints the sites of a lake; `store` is the object store that the folder mirrors, if any.
async fn info(
    data: &Path,
    store: Option<&Remote>,
    sites: &[SiteName],
    format: Format,
) -> Result<ExitCode, Failure> {
    let mut table = Table::new([
        "site",
        "first",
        "last",
        "days",
        "samples",
        "bytes",
        "bytes_a_sample",
        "unreadable",
        "gaps",
        "probe",
    ]);
    for info in lake::info(data, sites)? {
        let gaps: Vec<String> = info
            .gaps
            .iter()
            .map(
                |(first, last)| {
                    if first == last { first.to_string() } else { format!("{first} to {last}") }
                },
            )
            .collect();
        let each = (info.rows > 0).then(|| info.bytes as f64 / info.rows as f64);
        table.push(vec![
            Cell::Text(info.site.to_string()),
            Cell::Text(info.first.to_string()),
            Cell::Text(info.last.to_string()),
            Cell::Count(info.days),
            Cell::Count(info.rows),
            Cell::Count(info.bytes),
            Cell::number(each, 1),
            Cell::Count(info.unreadable),
            Cell::text((!gaps.is_empty()).then(|| gaps.join(", "))),
            Cell::text(probe(data, store, &info.site).await),
        ]);
    }
    table.print(format)?;
    Ok(ExitCode::SUCCESS)
}

/// Returns what a site's probe is doing according to its published status; `None` if there is no
/// status.
async fn probe(data: &Path, store: Option<&Remote>, site: &SiteName) -> Option<String> {
    let status = match store {
        Some(store) => Status::download(store, site).await,
        None => Status::read(data, site),
    };
    let status = match status {
        Ok(status) => status?,
        Err(error) => {
            tracing::warn!(%error, "can't read the probe's status");
            return None;
        }
    };
    let at = status.written_at;
    Some(if !status.probe.running {
        format!("stopped {at}")
    } else if status.is_stale(UtcMicros::now()) {
        format!("stale, last status {at}")
    } else {
        "running".to_owned()
    })
}

fn verify(data: &Path, sites: &[SiteName]) -> Result<ExitCode, Failure> {
    let mut verdict = Verdict::default();
    repair::verify::<Sample>(data, sites, &mut verdict)?;
    repair::verify::<Event>(data, sites, &mut verdict)?;
    let mut text = String::new();
    for finding in verdict.findings.iter().chain(&verdict.remarks) {
        text += &format!("{}: {}\n", finding.path.display(), finding.problem);
    }
    text += &format!(
        "{} with {} read, {}\n",
        counted(verdict.files, "file"),
        counted(verdict.rows, "row"),
        counted(verdict.findings.len() as u64, "problem")
    );
    print(text)?;
    for path in repair::aside(data)? {
        eprintln!("kept from an earlier repair: {}", path.display());
    }
    Ok(if verdict.findings.is_empty() {
        ExitCode::SUCCESS
    } else {
        eprintln!("run `mailqos-analytics lake repair` to list what can be rebuilt");
        ExitCode::FAILURE
    })
}

fn repair(data: &Path, sites: &[SiteName], apply: bool) -> Result<ExitCode, Failure> {
    let mut repairs = repair::repair::<Sample>(data, sites, apply)?;
    repairs.extend(repair::repair::<Event>(data, sites, apply)?);
    let mut text = String::new();
    let (mut rebuilt, mut left) = (0, 0);
    for Repair { path, problem, remedy } in &repairs {
        text += &format!("{}: {problem}\n", path.display());
        let (kept, lost, aside) = match remedy {
            Remedy::Left => {
                left += 1;
                text += "  unreadable, but not known to be damaged; unchanged\n";
                continue;
            }
            Remedy::Rebuilt { kept, lost, aside } => (*kept, *lost, aside),
        };
        rebuilt += 1;
        // Every row of a changed file is readable: one of them differs, but it is unknown which
        // one.
        let doubtful = lost == Some(0) && kept > 0 && problem.contains("checksum");
        let lost = match lost {
            None => "the number of lost rows is unknown".to_owned(),
            Some(1) => "1 is lost".to_owned(),
            Some(lost) => format!("{lost} are lost"),
        };
        text += &format!(
            "  {} readable, {lost}{}",
            counted(kept, "row"),
            if doubtful {
                " (some values may be altered undetectably; prefer a backup of the file)"
            } else {
                ""
            }
        );
        text += &match aside {
            Some(aside) => format!("; rebuilt; the original file is kept as {}\n", aside.display()),
            None => "; would be rebuilt\n".to_owned(),
        };
    }
    text += &format!("{} to rebuild", counted(rebuilt, "file"));
    if left > 0 {
        text += &format!(", {left} unchanged");
    }
    text += "\n";
    print(text)?;
    remind(apply, rebuilt > 0);
    Ok(ExitCode::SUCCESS)
}

fn remind(apply: bool, anything: bool) {
    if anything && !apply {
        eprintln!("nothing changed; use --apply to make the changes");
    }
}

fn retain(
    data: &Path,
    sites: &[SiteName],
    keep_days: u16,
    apply: bool,
) -> Result<ExitCode, Failure> {
    let now = UtcMicros::now();
    let mut days = retention::outdated::<Sample>(data, sites, now, keep_days)?;
    days.extend(retention::outdated::<Event>(data, sites, now, keep_days)?);
    let (mut text, mut bytes) = (String::new(), 0);
    for day in &days {
        if apply {
            retention::delete_all(day)?;
        }
        bytes += day.bytes;
        text += &format!("{}\n", day.path.display());
    }
    let verb = if apply { "deleted" } else { "would be deleted" };
    text += &format!("{}, {} {verb}\n", counted(days.len() as u64, "file"), counted(bytes, "byte"));
    print(text)?;
    remind(apply, !days.is_empty());
    Ok(ExitCode::SUCCESS)
}

fn import(data: &Path, args: ImportArgs) -> Result<ExitCode, Failure> {
    let plan = Plan {
        site: args.into,
        monitor: args.as_monitor,
        mappings: args.column,
        outcome: args.as_outcome,
        delimiter: args.delimiter,
        time_format: args.time_format,
        outcomes: args.outcome.into_iter().collect::<BTreeMap<_, _>>(),
        timezone: args.timezone,
        skip_duplicates: args.skip_duplicates,
        preset: args.from,
        missing: args.missing,
        missing_outcome: args.missing_outcome,
        decimal_mark: args.decimal_mark,
    };
    let imported = import::import(data, &args.file, &plan, args.apply)?;
    let span =
        imported.span.map(|(first, last)| format!(", from {first} to {last}")).unwrap_or_default();
    for note in &imported.notes {
        eprintln!("note: {note}");
    }
    let verb = if args.apply { "imported" } else { "would be imported" };
    print(format!(
        "{}{span}\n{} on {} {verb} into site {}, {} skipped as duplicates\n",
        counted(imported.rows, "row"),
        counted(imported.new, "sample"),
        counted(imported.days, "day"),
        plan.site,
        imported.duplicates
    ))?;
    remind(args.apply, imported.new > 0);
    Ok(ExitCode::SUCCESS)
}

fn export(data: &Path, sites: Vec<SiteName>, args: ExportArgs) -> Result<ExitCode, Failure> {
    if let (Some(from), Some(to)) = (args.from, args.to)
        && from >= to
    {
        return Err(Failure::usage(
            format!("--to {to} is not after --from {from}"),
            "set --to to the first day after the period",
        ));
    }
    let choice = Choice {
        sites,
        monitors: args.monitor.iter().map(ToString::to_string).collect(),
        from: args.from.unwrap_or(UtcMicros(i64::MIN)),
        to: args.to.unwrap_or(UtcMicros(i64::MAX)),
    };
    let count = match (args.format, args.output) {
        (ExportFormat::Parquet, Some(folder)) => {
            if folder.join("samples").exists() {
                return Err(Failure::usage(
                    format!("{} already contains a lake", folder.display()),
                    "export to a separate folder; `lake import` adds it to another lake",
                ));
            }
            export::lake(data, &choice, &folder)?
        }
        (_, Some(file)) => {
            let unwritten =
                |error: std::io::Error| Failure::work(format!("{}: {error}", file.display()));
            let mut out = std::io::BufWriter::new(std::fs::File::create(&file).map_err(unwritten)?);
            let count = export::csv(data, &choice, &mut out)?;
            out.flush().map_err(unwritten)?;
            count
        }
        (_, None) => match export::csv(data, &choice, std::io::stdout().lock()) {
            Err(LakeAdminError::Lake(LakeError::Io { source, .. })) => return Err(source.into()),
            count => count?,
        },
    };
    eprintln!("{} exported", counted(count, "sample"));
    Ok(ExitCode::SUCCESS)
}
