//! `mailqos-analytics sla`: shows whether service levels were met, their remaining error budgets
//! and a forecast.

use std::{path::PathBuf, process::ExitCode};

use jiff::civil::Weekday;
use mailqos_config::{Config, LevelTarget};
use mailqos_figures::{
    rounding::decimals_apart,
    service_level::{
        self, Amount, Entry, LevelReport, TargetResult, UndecidedReason, Value, Verdict,
    },
};
use mailqos_model::{Micros, UtcMicros};

use super::{
    Failure, Global,
    engine::EngineArgs,
    print,
    source::{SourceArgs, suggestion, weekday},
    table::{Cell, Format, Table, moment, per_cent, per_cent_beside},
};

/// Show whether the configured service levels were met: measured value, error budget, burn rate and
/// forecast for the period.
///
/// By default, each service level's current period. With a period, all of a level's periods that
/// overlap it; later samples are ignored.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Service level [default: all].
    #[arg(value_name = "NAME")]
    name: Option<String>,

    /// Only this monitor: id, glob (`mail-*`), `tag:NAME` or `object:NAME` (repeatable).
    #[arg(long, value_name = "ID")]
    monitor: Vec<String>,

    /// Only this site (repeatable).
    #[arg(long, value_name = "SITE")]
    site: Vec<String>,

    /// Periods that overlap this one: last-month, 2026-Q1, last-90d … [default: today].
    #[arg(long, value_name = "PERIOD", conflicts_with_all = ["from", "to"])]
    period: Option<String>,

    /// First day of the period.
    #[arg(long, value_name = "DATE", requires = "to")]
    from: Option<String>,

    /// First day after the period.
    #[arg(long, value_name = "DATE", requires = "from")]
    to: Option<String>,

    /// First day of the week.
    #[arg(long, value_name = "DAY", default_value = "monday", value_parser = weekday)]
    week_start: Weekday,

    /// First month of the fiscal year, from 1 to 12.
    #[arg(long, value_name = "MONTH", default_value = "1", value_parser = clap::value_parser!(i8).range(1..=12))]
    year_start: i8,

    /// Folder of the sample lake [default: from the configuration].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Skip corrupt files with a warning instead of failing.
    #[arg(long)]
    skip_corrupt: bool,

    #[command(flatten)]
    engine: EngineArgs,

    /// Output format.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// Runs the command.
///
/// # Errors
/// Wrong usage, no such service level, or the lake can't be read.
pub fn run(args: &Args, global: &Global) -> Result<ExitCode, Failure> {
    let asked = args.period.is_some() || args.from.is_some();
    let source = SourceArgs {
        monitor: args.monitor.clone(),
        site: args.site.clone(),
        from: args.from.clone(),
        to: args.to.clone(),
        period: if args.from.is_some() {
            None
        } else {
            Some(args.period.clone().unwrap_or_else(|| "today".to_owned()))
        },
        timezone: None,
        week_start: args.week_start,
        year_start: args.year_start,
        data: args.data.clone(),
        skip_corrupt: args.skip_corrupt,
        format: args.format,
    };
    let mut source = source.open(global)?;
    let config = match source.config.take() {
        Some(config) => config,
        None => global.load()?,
    };
    // Workers read service levels from the same file.
    source.config = Some(config.clone());
    let engine = args.engine.engine(Some(&config.engine))?;
    let levels = levels(args.name.as_deref(), &config)?;
    let now = UtcMicros::now();
    let chosen = |site: &str, monitor: &str| {
        (source.sites.is_empty() || source.sites.contains(site))
            && (source.monitors.is_empty() || source.monitors.contains(monitor))
    };
    let mut reports = Vec::new();
    for (id, level) in levels {
        let mut periods = service_level::periods(level, &source.period, now);
        if !asked {
            periods.drain(..periods.len().saturating_sub(1));
        }
        for (period, until) in &periods {
            let (own, when) = ((id, level), (period, *until));
            reports.push(match &engine {
                None => service_level::judge(&source.lake, &config, own, when, &chosen)?,
                Some(engine) => service_level::judge_with(
                    (&source.lake, &config),
                    own,
                    when,
                    &chosen,
                    |task, query| {
                        let asked = (task, query);
                        engine.evidence(&source, (&config, own), asked, (period.to, *until))
                    },
                )?,
            });
        }
    }
    // Without tests, the share spent is undefined, so the missing tests are reported.
    source.remarks(rows(&reports).all(|(_, entry, _)| entry.tests == 0));
    if source.format == Format::Table {
        print_table(&reports)?;
        source.print_left_out()?;
    } else {
        source.print(flat(&reports))?;
    }
    Ok(ExitCode::SUCCESS)
}

type Levels<'a> = Vec<(&'a str, &'a mailqos_config::ServiceLevel)>;

fn levels<'a>(name: Option<&str>, config: &'a Config) -> Result<Levels<'a>, Failure> {
    let all: Levels<'a> =
        config.service_levels.iter().map(|(id, level)| (id.as_str(), level)).collect();
    if all.is_empty() {
        return Err(Failure::usage(
            format!("{} defines no service level", config.file.display()),
            "add one: [service_level.mail] with availability = \"99.9%\" and period = \"month\"",
        ));
    }
    let Some(name) = name else { return Ok(all) };
    let found: Levels<'a> = all.iter().filter(|(id, _)| *id == name).copied().collect();
    if found.is_empty() {
        return Err(Failure::usage(
            format!("unknown service level {name:?}"),
            suggestion("service level", name, all.iter().map(|(id, _)| *id)),
        ));
    }
    Ok(found)
}

/// Returns an objective in words.
fn promise(target: &LevelTarget) -> String {
    match target {
        LevelTarget::Availability(share) => format!("{share} % of tests on time"),
        LevelTarget::Uptime(share) => format!("{share} % uptime"),
        LevelTarget::DeliveredWithin { limit, share } => format!("{share} % within {limit}"),
        LevelTarget::Mails { figure, share } => match *figure {
            "inbox_placement" => format!("{share} % in the inbox in time"),
            "first_attempt_rate" => format!("{share} % accepted at the first attempt"),
            other => {
                let name = other.trim_end_matches("_pass_rate").to_uppercase();
                format!("{share} % pass {name}")
            }
        },
        LevelTarget::Percentile { metric, q, limit } => {
            format!("{} p{q} at most {limit}", metric.replace('_', " "))
        }
    }
}

/// Returns the word for a kind of objective, as in the configuration.
fn kind(target: &LevelTarget) -> &'static str {
    match target {
        LevelTarget::Availability(_) => "availability",
        LevelTarget::Uptime(_) => "uptime",
        LevelTarget::DeliveredWithin { .. } => "delivered_within",
        LevelTarget::Mails { figure, .. } => figure,
        LevelTarget::Percentile { .. } => "percentile",
    }
}

fn why(verdict: Verdict) -> Option<&'static str> {
    match verdict {
        Verdict::NotDecidable(reason) => Some(reason.as_str()),
        _ => None,
    }
}

fn minutes(time: Micros) -> f64 {
    time.0 as f64 / 60e6
}

/// Returns each objective of each monitor with all its figures.
fn rows<'a>(
    reports: &'a [LevelReport],
) -> impl Iterator<Item = (&'a LevelReport, &'a Entry, &'a TargetResult)> + 'a {
    reports.iter().flat_map(|report| {
        report.entries.iter().flat_map(move |entry| {
            entry.targets.iter().map(move |judgement| (report, entry, judgement))
        })
    })
}

/// Columns of all figures.
const COLUMNS: [&str; 38] = [
    "service_level",
    "from",
    "to",
    "until",
    "site",
    "monitor",
    "monitors",
    "target",
    "promise",
    "verdict",
    "why",
    "certain",
    "measured_share",
    "measured_ms",
    "low",
    "high",
    "tests",
    "budget_tests",
    "bad_tests",
    "budget_minutes",
    "bad_minutes",
    "budget_spent",
    "burn_rate",
    "burn_rate_last_day",
    "forecast_spent",
    "forecast_low",
    "forecast_high",
    "chance_of_meeting",
    "service_minutes",
    "passed_minutes",
    "up_minutes",
    "down_minutes",
    "maintenance_minutes",
    "unknown_minutes",
    "coverage",
    "verdict_excluding_declared",
    "measured_share_excluding_declared",
    "measured_ms_excluding_declared",
];

/// Returns all figures, one per column.
fn flat(reports: &[LevelReport]) -> Table {
    let mut columns = COLUMNS.to_vec();
    let names_kind = rows(reports).any(|(_, entry, _)| entry.kind.is_some());
    columns.extend(names_kind.then_some("kind"));
    let mut table = Table::new(columns);
    for (report, entry, judgement) in rows(reports) {
        let calendar = &report.period.calendar;
        let (share, time) = share_or_ms(judgement.value);
        let unit =
            if matches!(judgement.target, LevelTarget::Percentile { .. }) { 1e3 } else { 1.0 };
        let (site, monitor) = entry.monitor.as_ref().map_or((None, None), |(site, monitor)| {
            (Some(site.to_string()), Some(monitor.to_string()))
        });
        let number = |value: Option<f64>| Cell::number(value, 3);
        let forecast = judgement.forecast;
        let mut cells = vec![
            Cell::Text(report.id.clone()),
            Cell::Text(moment(calendar, report.period.from)),
            Cell::Text(moment(calendar, report.period.to)),
            Cell::Text(moment(calendar, report.until)),
            Cell::text(site),
            Cell::text(monitor),
            Cell::Count(entry.monitors as u64),
            Cell::Text(kind(&judgement.target).to_owned()),
            Cell::Text(promise(&judgement.target)),
            Cell::Text(judgement.verdict.as_str().to_owned()),
            Cell::text(why(judgement.verdict)),
            Cell::Flag(judgement.is_certain),
            number(share),
            number(time),
            number(judgement.interval.map(|(low, _)| low / unit)),
            number(judgement.interval.map(|(_, high)| high / unit)),
            Cell::Count(entry.tests),
            number(judgement.tests.map(|amount| amount.whole)),
            number(judgement.tests.map(|amount| amount.spent)),
            number(judgement.time.map(|amount| amount.whole / 60e6)),
            number(judgement.time.map(|amount| amount.spent / 60e6)),
            number(judgement.spent()),
            number(judgement.burn_rate),
            number(judgement.burn_rate_last_day),
            number(forecast.map(|forecast| forecast.spent)),
            number(forecast.and_then(|forecast| forecast.interval).map(|(low, _)| low)),
            number(forecast.and_then(|forecast| forecast.interval).map(|(_, high)| high)),
            number(forecast.and_then(|forecast| forecast.chance)),
            number(Some(minutes(entry.service))),
            number(Some(minutes(entry.passed))),
            number(Some(minutes(entry.up))),
            number(Some(minutes(entry.down))),
            number(Some(minutes(entry.maintenance))),
            number(Some(minutes(entry.unknown))),
            number(entry.coverage()),
        ];
        // Without declared maintenance, both are the same.
        let (value, verdict) =
            judgement.excluding_declared.unwrap_or((judgement.value, judgement.verdict));
        let (share, time) = share_or_ms(value);
        cells.extend([Cell::Text(verdict.as_str().to_owned()), number(share), number(time)]);
        if names_kind {
            cells.push(Cell::text(Some(entry.kind.as_deref().unwrap_or("mail-qos"))));
        }
        table.push(cells);
    }
    table
}

/// Splits a value into a share and milliseconds.
fn share_or_ms(value: Value) -> (Option<f64>, Option<f64>) {
    match value {
        Value::Share(share) => (Some(share), None),
        Value::Time(micros) => (None, Some(micros / 1e3)),
        Value::Unknown | Value::NotDelivered => (None, None),
    }
}

/// Prints a table for terminals: a heading for each level and period, and a row per objective.
fn print_table(reports: &[LevelReport]) -> Result<(), Failure> {
    for (index, report) in reports.iter().enumerate() {
        let mut head = format!(
            "{}: {}, {}",
            report.name,
            report.period,
            word(report.verdict(), report.is_over)
        );
        if !report.is_over {
            head.push_str(&format!("; as of {}", moment(&report.period.calendar, report.until)));
        }
        let gap = if index > 0 { "\n" } else { "" };
        print(format!("{gap}{head}\n"))?;
        if report.entries.is_empty() {
            print("no monitor matches\n")?;
            continue;
        }
        let mut table = Table::new([
            "monitor",
            "promise",
            "measured",
            "verdict",
            "budget",
            "spent",
            "burn_rate",
            "ends_at",
            "maintenance_min",
            "unknown_min",
        ]);
        for (_, entry, judgement) in rows(std::slice::from_ref(report)) {
            table.push(shown(entry, judgement, report.is_over));
        }
        table.print(Format::Table)?;
        for (_, entry, judgement) in rows(std::slice::from_ref(report)) {
            if let Some((value, verdict)) = judgement.excluding_declared {
                let measured = measured(value, &judgement.target, entry.tests);
                print(format!(
                    "excluding maintenance declared afterwards: {}, {}: {}, {}\n",
                    name(entry),
                    promise(&judgement.target),
                    measured.as_deref().unwrap_or("-"),
                    word(verdict, report.is_over)
                ))?;
            }
        }
    }
    Ok(())
}

fn name(entry: &Entry) -> String {
    let monitor = match &entry.monitor {
        Some((site, monitor)) => format!("{monitor} ({site})"),
        None => format!("{} monitors combined", entry.monitors),
    };
    match &entry.kind {
        Some(kind) => format!("{monitor}, {kind}"),
        None => monitor,
    }
}

/// Returns a measured value next to its objective.
fn measured(value: Value, target: &LevelTarget, tests: u64) -> Option<String> {
    match value {
        Value::Unknown => None,
        Value::Share(share) => Some(match target {
            LevelTarget::Availability(goal)
            | LevelTarget::Uptime(goal)
            | LevelTarget::DeliveredWithin { share: goal, .. }
            | LevelTarget::Mails { share: goal, .. } => {
                per_cent_beside(share, goal.as_f64(), tests)
            }
            LevelTarget::Percentile { .. } => per_cent(share, tests),
        }),
        Value::Time(micros) => Some(match target {
            LevelTarget::Percentile { limit, .. } => {
                let (value, limit) = (micros / 1e6, limit.0 as f64 / 1e6);
                let decimals = decimals_apart(value, limit, 3);
                format!("{value:.decimals$} s")
            }
            _ => format!("{:.3} s", micros / 1e6),
        }),
        Value::NotDelivered => Some("not delivered".to_owned()),
    }
}

fn shown(entry: &Entry, judgement: &TargetResult, is_over: bool) -> Vec<Cell> {
    let measured = measured(judgement.value, &judgement.target, entry.tests);
    // With a budget of 8.9 tests, eight may fail.
    let tests_of = |tests: Amount| format!("{:.0} tests", (tests.whole + 1e-6).floor());
    let minutes_of = |time: Amount| {
        let decimals = decimals_apart(time.spent / 60e6, time.whole / 60e6, 1);
        format!("{:.decimals$} min", time.whole / 60e6)
    };
    let budget = match (judgement.time, judgement.tests) {
        (Some(time), Some(tests)) => Some(format!("{}, {}", tests_of(tests), minutes_of(time))),
        (Some(time), None) => Some(minutes_of(time)),
        (None, Some(tests)) => Some(tests_of(tests)),
        (None, None) => None,
    };
    // A partly spent budget must not be displayed as fully spent.
    let percent = |share: f64| {
        let decimals = decimals_apart(share * 100.0, 100.0, 0);
        format!("{:.decimals$} %", share * 100.0)
    };
    let ends = judgement.forecast.map(|forecast| {
        let range = forecast.interval.map_or_else(String::new, |(low, high)| {
            format!(" ({:.0}–{:.0})", low * 100.0, high * 100.0)
        });
        percent(forecast.spent) + &range
    });
    let maybe =
        if judgement.is_certain || !matches!(judgement.verdict, Verdict::Met | Verdict::Missed) {
            ""
        } else {
            " (not significant)"
        };
    vec![
        Cell::Text(name(entry)),
        Cell::Text(promise(&judgement.target)),
        Cell::text(measured),
        Cell::Text(format!("{}{maybe}", word(judgement.verdict, is_over))),
        Cell::text(budget),
        Cell::text(judgement.spent().map(percent)),
        Cell::number(judgement.burn_rate, 2),
        Cell::text(ends),
        Cell::number(Some(minutes(entry.maintenance)), 0),
        Cell::number(Some(minutes(entry.unknown)), 0),
    ]
}

fn word(verdict: Verdict, is_over: bool) -> &'static str {
    match verdict {
        Verdict::Met => "met",
        Verdict::Open => "open",
        Verdict::Missed if is_over => "missed",
        Verdict::Missed => "already missed",
        Verdict::NotDecidable(UndecidedReason::FewTests) => "undetermined: too few tests",
        Verdict::NotDecidable(UndecidedReason::Coverage) => "undetermined: too little data",
        Verdict::NotDecidable(UndecidedReason::NoTests) => "undetermined: no tests",
    }
}
