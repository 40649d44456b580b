//! `mailqos-analytics report`: generates a report and prints the paths of its files.

mod preview;

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode};

use jiff::tz::TimeZone;
use mailqos_config::{Config, did_you_mean, glob};
use mailqos_figures::{Period, PeriodError};
use mailqos_lake_tables::Lake;
use mailqos_model::{UnknownWord, UtcMicros};
use mailqos_report::{
    definition::{Definition, Format, Grouping},
    definitions,
    facts::Selection,
    generate::{self, Report, ReportError, Source},
    locale::Locale,
    provenance::{Provenance, ProvenanceError},
};

use super::{
    Failure, Global,
    deliver::send,
    print, progress,
    source::{lake_failure, suggestion},
};
use crate::dispatch;

/// Options of `report`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,

    /// Report definition: a file, or a name in the configuration's folder of reports.
    #[arg(value_name = "DEFINITION", required_unless_present = "template")]
    definition: Option<String>,

    /// Template to use instead of a definition; see `templates list`.
    #[arg(long, value_name = "NAME", conflicts_with = "definition")]
    template: Option<String>,

    /// Only these monitors: id, glob (`mail-*`), `tag:NAME` or `object:NAME` (repeatable).
    #[arg(long = "monitor", alias = "monitors", value_name = "SELECTION", value_delimiter = ',')]
    monitors: Vec<String>,

    /// Only this site (repeatable).
    #[arg(long, value_name = "SITE")]
    site: Vec<String>,

    /// Period by name: last-month, current-week, last-7d, 2026-03 … [default: from the definition,
    /// else last-month].
    #[arg(long, value_name = "PERIOD", conflicts_with_all = ["from", "to"])]
    period: Option<String>,

    /// First day of the period.
    #[arg(long, value_name = "DATE", requires = "to")]
    from: Option<String>,

    /// First day after the period.
    #[arg(long, value_name = "DATE", requires = "from")]
    to: Option<String>,

    /// Time zone of the report, as an IANA name [default: from the definition, else the
    /// configuration].
    #[arg(long, value_name = "TZ")]
    timezone: Option<String>,

    /// Generate a separate report for each monitor, object, tag or site.
    #[arg(long, value_name = "KIND", value_parser = each)]
    per: Option<Grouping>,

    /// Language: en, de or sv [default: from the definition, else en].
    #[arg(long, value_name = "TAG", value_parser = language)]
    language: Option<String>,

    /// Only these formats (comma-separated).
    #[arg(long, value_name = "FORMAT", value_delimiter = ',', value_parser = format)]
    format: Vec<Format>,

    /// Output folder [default: from the definition, else the current folder].
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,

    /// Serve the report to a local browser and regenerate it when one of its files changes.
    #[arg(long, conflicts_with_all = ["deliver", "output", "format"])]
    preview: bool,

    /// Port of the preview; 0 selects a free port.
    #[arg(long, value_name = "PORT", default_value_t = 8025, requires = "preview")]
    port: u16,

    /// Also deliver the report to the definition's targets.
    #[arg(long)]
    deliver: bool,

    /// Folder of the sample lake; replaces the configuration file.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Skip corrupt files and note them in the report.
    #[arg(long)]
    skip_corrupt: bool,
}

fn each(text: &str) -> Result<Grouping, String> {
    text.parse().map_err(|UnknownWord(_, _, known)| format!("use one of: {}", known.join(", ")))
}

fn language(text: &str) -> Result<String, String> {
    if Locale::new(text, TimeZone::UTC).is_some() {
        return Ok(text.to_owned());
    }
    let tags: Vec<&str> = Locale::tags().collect();
    Err(format!("available languages: {}", tags.join(", ")))
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Check whether a report matches the samples in the lake and list differences. Compares start,
    /// outcome, the six times, stage and error of each sample.
    Verify(Verify),
}

#[derive(Debug, clap::Args)]
struct Verify {
    /// Report file: HTML, PDF or JSON.
    file: PathBuf,

    /// Folder of the sample lake; replaces the configuration file.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Maximum size of a report in bytes.
const MAX_REPORT: u64 = 1 << 30;

fn format(text: &str) -> Result<Format, String> {
    Format::ALL.iter().find(|(name, _)| *name == text).map(|(_, format)| *format).ok_or_else(|| {
        let all: Vec<&str> = Format::ALL.iter().map(|(name, _)| *name).collect();
        format!("use one of: {}", all.join(", "))
    })
}

/// Runs the command.
///
/// # Errors
/// Wrong usage, an invalid definition, samples that can't be read, or files that can't be written.
pub async fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    if let Some(Action::Verify(args)) = &args.action {
        return verify(args, global);
    }
    if args.preview {
        return preview::run(&args, global, args.port).await;
    }
    let config = configuration(&args, global)?;
    let config = config.as_ref();
    let now = UtcMicros::now();
    let reading = progress::spinner("reading samples and drawing charts");
    let (definition, period, reports) = documents(&args, config, now)?;
    reading.finish_and_clear();
    let folder = args
        .output
        .clone()
        .or_else(|| definition.output.clone())
        .unwrap_or_else(|| PathBuf::from("."));
    if args.deliver && definition.deliveries.is_empty() {
        return Err(Failure::usage(
            "the report has no deliveries",
            "add [[deliver]] with a target to the definition, or use `deliver FILES --to TARGET`",
        ));
    }
    let mut requests = Vec::new();
    let writing = progress::steps(reports.len());
    for report in &reports {
        writing.set_message(report.document.title.clone());
        let own = config.map(|config| config.templates.as_path());
        let files =
            generate::write(report, &definition.formats, &folder, own).map_err(report_failure)?;
        for (_, path) in &files {
            writing.suspend(|| print(format!("{}\n", path.display())))?;
        }
        writing.inc(1);
        if args.deliver
            && let Some(config) = config
        {
            let run = dispatch::Run { definition: &definition, period: &period, at: now };
            let ordered = dispatch::requests(config, &run, report, &files);
            requests.extend(ordered.map_err(Failure::work)?);
        }
    }
    writing.finish_and_clear();
    match config {
        Some(config) if args.deliver => send(config, &requests, now).await,
        None if args.deliver => {
            Err(Failure::usage("no configuration file, so no targets", "set --config FILE"))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Reads the configuration if one is given or needed.
fn configuration(args: &Args, global: &Global) -> Result<Option<Config>, Failure> {
    if args.data.is_none() || global.config.is_some() { global.load().map(Some) } else { Ok(None) }
}

/// Returns the requested definition, its period and its documents.
fn documents(
    args: &Args,
    config: Option<&Config>,
    now: UtcMicros,
) -> Result<(Definition, Period, Vec<Report>), Failure> {
    let definition = definition(args, config)?;
    let period = period(args, &definition, config, now)?;
    let lake = super::lake(args.data.as_deref(), config)?.skip_corrupt(args.skip_corrupt);
    if !args.monitors.is_empty() || !args.site.is_empty() {
        known(&lake, config, &definition.selection)?;
    }
    let source = Source { lake: &lake, config, now, made_at: None };
    let reports = generate::documents(&definition, source, &period).map_err(report_failure)?;
    Ok((definition, period, reports))
}

/// Returns the file of the definition, if it is one.
fn file(args: &Args, config: Option<&Config>) -> Option<PathBuf> {
    args.definition.as_ref().map(|name| definitions::find(config, name))
}

fn definition(args: &Args, config: Option<&Config>) -> Result<Definition, Failure> {
    let mut definition = match (&args.template, &args.definition) {
        (Some(template), _) => definitions::of_template(config, template),
        (None, Some(name)) => definitions::load(config, &definitions::find(config, name)),
        (None, None) => {
            return Err(Failure::usage(
                "no report given",
                "name a definition, or a template with --template",
            ));
        }
    }
    .map_err(Failure::Configuration)?;
    if !args.monitors.is_empty() || !args.site.is_empty() {
        definition.selection =
            Selection { monitors: args.monitors.clone(), sites: args.site.clone() };
    }
    if !args.format.is_empty() {
        definition.formats = args.format.iter().copied().collect::<BTreeSet<_>>();
    }
    if let Some(each) = args.per {
        definition.each = each;
    }
    if let Some(language) = &args.language {
        definition.language = language.clone();
    }
    if let Some(name) = &args.timezone {
        definition.timezone = Some(mailqos_base::zones::get(name).map_err(|_| {
            Failure::usage(
                format!("{name:?} is not a time zone"),
                "use an IANA name such as Europe/Berlin, Australia/Lord_Howe or UTC",
            )
        })?);
    }
    Ok(definition)
}

fn period(
    args: &Args,
    definition: &Definition,
    config: Option<&Config>,
    now: UtcMicros,
) -> Result<Period, Failure> {
    let calendar = definition.calendar(config);
    let period = match (&args.period, &args.from, &args.to) {
        (Some(name), ..) => Period::named(name, now, calendar),
        (None, Some(from), Some(to)) => Period::between(from, to, calendar),
        _ => Period::named(definition.period.as_deref().unwrap_or("last-month"), now, calendar),
    };
    period.map_err(|error| {
        let help = match &error {
            PeriodError::Empty { .. } => {
                "--to must be later than --from; it is the first day after the period"
            }
            _ => "use dates in the report's time zone",
        };
        Failure::usage(&error, help)
    })
}

/// Compares the data of a report with the lake.
fn verify(args: &Verify, global: &Global) -> Result<ExitCode, Failure> {
    let unread = |error: std::io::Error| {
        Failure::usage(
            format!("{}: {error}", args.file.display()),
            "name a report file: HTML, PDF or JSON",
        )
    };
    if std::fs::metadata(&args.file).map_err(unread)?.len() > MAX_REPORT {
        return Err(Failure::usage(
            format!("{}: larger than {} MB", args.file.display(), MAX_REPORT >> 20),
            "reports are smaller than that; check the file name",
        ));
    }
    let provenance =
        Provenance::find(&std::fs::read(&args.file).map_err(unread)?).map_err(|error| {
            let help = match &error {
                ProvenanceError::Missing => {
                    "HTML, PDF and JSON reports contain it, unless a custom layout omits it"
                }
                ProvenanceError::Later => "verify it with that version",
                _ => "generate the report again",
            };
            Failure::work_help(format!("{}: {error}", args.file.display()), help)
        })?;
    let config = match &args.data {
        None => Some(global.load()?),
        Some(_) => None,
    };
    let lake = super::lake(args.data.as_deref(), config.as_ref())?;
    let differences = provenance.differences(&lake).map_err(|error| match error {
        ProvenanceError::Lake(error) => lake_failure(error),
        other => Failure::work(other),
    })?;
    if differences.is_empty() {
        print(format!(
            "The lake contains the {} samples from which the report was generated (SHA-256 {}).\n",
            provenance.samples(),
            provenance.sha256
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text =
        String::from("The lake differs from the samples from which the report was generated:\n");
    for one in &differences {
        let what = match (one.then, one.now) {
            (then, 0) => format!("{then} samples then, none now"),
            (then, now) if then == now => {
                format!("{then} samples then and now, with different values")
            }
            (then, now) => format!("{then} samples then, {now} now"),
        };
        text.push_str(&format!(
            "  {} at {}, {} to {}: {what}\n",
            one.monitor, one.site, one.from, one.to
        ));
    }
    print(text)?;
    Ok(ExitCode::FAILURE)
}

/// Checks that monitors and sites from the command line exist.
fn known(lake: &Lake, config: Option<&Config>, selection: &Selection) -> Result<(), Failure> {
    let sites = lake.sites();
    for pattern in &selection.sites {
        let mut known =
            sites.iter().map(|site| &**site).chain(config.map(|config| config.site.as_str()));
        if !known.any(|site| glob(pattern, site)) {
            return Err(Failure::usage(
                format!("the lake contains no site {pattern:?}"),
                suggestion("site", pattern, sites.iter().map(|site| &**site)),
            ));
        }
    }
    // All names are read only if needed, because that opens every file.
    let mut everywhere = None;
    for pattern in &selection.monitors {
        let one = Selection { monitors: vec![pattern.clone()], sites: selection.sites.clone() };
        if config.is_some_and(|config| config.select(std::slice::from_ref(pattern)).is_ok()) {
            continue;
        }
        let is_site = |site: &str| one.includes(config, site, pattern);
        if !pattern.contains(['*', '?', ':'])
            && lake.has_monitor(pattern, is_site, None).map_err(lake_failure)?
        {
            continue;
        }
        let monitors = match &mut everywhere {
            Some(monitors) => monitors,
            none => none.insert(lake.monitors(None).map_err(lake_failure)?),
        };
        if !monitors.iter().any(|(site, id)| one.includes(config, site, id)) {
            return Err(Failure::usage(
                format!("{pattern:?} matches no monitor in the lake or the configuration"),
                did_you_mean(pattern, monitors.iter().map(|(_, id)| &**id), || {
                    "`stats` lists the monitors that have samples".to_owned()
                }),
            ));
        }
    }
    Ok(())
}

/// Returns the failure for a report that can't be generated, with the remedy.
pub fn report_failure(error: ReportError) -> Failure {
    match error {
        ReportError::Lake(error) => lake_failure(error),
        other => Failure::work(other),
    }
}
