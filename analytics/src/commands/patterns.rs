//! `mailqos-analytics patterns`: reports lasting changes, recurring patterns and common features of
//! failures, in words and figures.

use std::process::ExitCode;

use mailqos_figures::{
    patterns::{self, Pattern, PatternFinding},
    significance::LEVEL,
};
use mailqos_lake_tables::{Column, Metric};
use mailqos_report::{locale::Locale, pattern_words};

use super::{
    Failure, Global, print,
    source::{SourceArgs, lake_failure},
    table::{Cell, Format, Table},
};

/// Show statistically significant patterns: trends, shifts, unusual days and hours, correlated
/// metrics, slow hops, common features of failures.
///
/// Each finding states its figures and its p-value, corrected for the number of hypotheses tested.
/// Findings with p > 0.05 are omitted.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: SourceArgs,
}

/// Runs the command.
///
/// # Errors
/// Wrong usage, or the lake can't be read.
pub fn run(args: &Args, global: &Global) -> Result<ExitCode, Failure> {
    let source = args.source.open(global)?;
    let query = source.query(&source.period).metrics(&Metric::CONTRACT).columns(&[
        Column::Stage,
        Column::SmtpReplyCode,
        Column::Hops,
    ]);
    let answers = source
        .lake
        .map(&query, |series| patterns::ask(series, &source.period))
        .map_err(lake_failure)?;
    let empty = answers.is_empty();
    let found = patterns::find(answers);
    source.remarks(empty);
    let locale = Locale::new("en", source.period.timezone().clone())
        .ok_or_else(|| Failure::work("the file contains no texts"))?;
    let told = pattern_words::told(found.iter());
    if source.format == Format::Table {
        words(&told, empty, &locale)?;
        source.print_left_out()?;
    } else {
        source.print(flat(&told, &locale))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn words(told: &[&PatternFinding], empty: bool, l: &Locale) -> Result<(), Failure> {
    if told.is_empty() {
        return if empty {
            Ok(())
        } else {
            print(format!("no significant findings (significance level {LEVEL})\n"))
        };
    }
    let mut monitor = None;
    for found in told {
        let of = (&found.monitor, &found.site);
        if monitor != Some(of) {
            let gap = if monitor.is_some() { "\n" } else { "" };
            print(format!("{gap}{} ({})\n", found.monitor, found.site))?;
            monitor = Some(of);
        }
        print(format!("  {}\n", line(found, l)))?;
    }
    Ok(())
}

fn line(found: &PatternFinding, l: &Locale) -> String {
    let text = format!(
        "{} {}, {}.",
        pattern_words::sentence(&found.pattern, l),
        pattern_words::test(&found.pattern, l),
        pattern_words::strength(found.p, l)
    );
    // Terminals wrap lines themselves.
    text.replace(['\u{a0}', '\u{202f}'], " ")
}

/// Returns the value of a finding and the one that it is compared with, in milliseconds if they are
/// times.
fn compared(pattern: &Pattern) -> (Option<f64>, Option<f64>) {
    let ms = |micros: f64| Some(micros / 1e3);
    match pattern {
        Pattern::Trend { from, to, .. } => (ms(*to), ms(*from)),
        Pattern::Shift { before, after, .. } => (ms(*after), ms(*before)),
        Pattern::Weekday { value, others, .. } => (ms(*value), ms(*others)),
        Pattern::Hours { slow, fast, .. } => (ms(*slow), ms(*fast)),
        Pattern::Day { value, expected, .. } => (ms(*value), ms(*expected)),
        Pattern::Correlation { rho, .. } => (Some(*rho), None),
        Pattern::Hop { delay, way, .. } => (ms(*delay), ms(*way)),
        Pattern::FailureHour { events, of, tests, .. }
        | Pattern::FailureWeekday { events, of, tests, .. } => {
            (Some(*events as f64 / *of as f64), Some(*tests))
        }
        Pattern::FailureKind { share, .. } => (Some(share.value), None),
        Pattern::FailureReply { share, good, .. } => (Some(share.value), Some(*good)),
        Pattern::FailureMetric { during, good, .. } => (ms(*during), ms(*good)),
    }
}

fn flat(told: &[&PatternFinding], l: &Locale) -> Table {
    let mut table = Table::new([
        "site",
        "monitor",
        "kind",
        "metric",
        "at",
        "value",
        "compared_with",
        "slope_ms_per_day",
        "slope_low",
        "slope_high",
        "test",
        "p",
        "questions",
        "finding",
    ]);
    for found in told {
        let at = match &found.pattern {
            Pattern::Shift { at, .. } | Pattern::Day { at, .. } => Some(*at),
            _ => None,
        };
        let slope = match &found.pattern {
            Pattern::Trend { per_day, interval, .. } => {
                Some((per_day / 1e3, interval.0 / 1e3, interval.1 / 1e3))
            }
            _ => None,
        };
        let (value, other) = compared(&found.pattern);
        table.push(vec![
            Cell::Text(found.site.to_string()),
            Cell::Text(found.monitor.to_string()),
            Cell::Text(found.pattern.kind().to_owned()),
            Cell::text(found.pattern.metric().map(|metric| metric.as_str())),
            Cell::text(at.map(|at| at.timestamp().to_string())),
            Cell::number(value, 3),
            Cell::number(other, 3),
            Cell::number(slope.map(|slope| slope.0), 3),
            Cell::number(slope.map(|slope| slope.1), 3),
            Cell::number(slope.map(|slope| slope.2), 3),
            Cell::Text(pattern_words::test(&found.pattern, l).to_owned()),
            Cell::number(Some(found.p), 4),
            Cell::Count(found.questions as u64),
            Cell::Text(
                pattern_words::sentence(&found.pattern, l).replace(['\u{a0}', '\u{202f}'], " "),
            ),
        ]);
    }
    table
}
