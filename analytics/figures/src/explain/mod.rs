//! Explains how a figure of one monitor is calculated, down to its samples.

pub mod figure;
pub mod mail_figure;
pub mod percentile;
pub mod words;

use mailqos_lake_tables::{Column, Declaration, Lake, LakeError, Metric, Series, SeriesQuery};
use mailqos_model::{Exclusion, Micros, Outcome, UtcMicros};
use serde::Serialize;

use self::{
    figure::{DeclaredFigure, Figure, FigureValue, Statistic},
    percentile::RequestedPercentile,
    words::{long, moment, per_cent},
};
use crate::{
    Calendar, Period, State, Timeline,
    deliverability::Judge,
    delivered_within::LIMITS,
    percentiles::{CONTRACT, needed_ranks},
    stats::{FiguresQuery, Row},
};

/// Number of samples shown without `all`.
const SHOWN: usize = 20;

/// Explanation of a monitor's figure.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// Site.
    pub site: String,
    /// Id of the monitor.
    pub monitor: String,
    /// Name of the figure.
    pub figure: String,
    /// The period.
    pub period: String,
    /// Definition.
    pub definition: &'static str,
    /// Null if there are no values; `"not delivered"` if the percentile lies among undelivered
    /// mails.
    pub value: serde_json::Value,
    /// 95 % confidence interval; null if the figure has none, or if there are too few tests.
    pub interval: Option<(f64, f64)>,
    /// Unit; empty for counts.
    pub unit: &'static str,
    /// Calculation of the value.
    pub calculation: String,
    /// Samples in the period.
    pub samples_in_period: u64,
    /// Counted tests.
    pub counted_tests: u64,
    /// Values that the figure is based on.
    pub values: u64,
    /// Samples that it excludes.
    pub left_out: Vec<LeftOut>,
    /// Tests counted as failed although their mail may still be found.
    pub unsettled: u64,
    /// Maintenance that was declared afterwards for parts of the period.
    pub declared: Vec<String>,
    /// Files that can't be read.
    pub skipped_files: Vec<String>,
    /// Number of samples on which the figure is based, shown or not.
    pub samples_behind_it: u64,
    /// The decisive samples, or all.
    pub samples: Vec<SampleShown>,
}

/// Samples that a figure excludes.
#[derive(Debug, Serialize)]
pub struct LeftOut {
    /// Their number.
    pub samples: u64,
    /// The reason.
    pub why: &'static str,
}

/// A sample behind a figure.
#[derive(Debug, Clone, Serialize)]
pub struct SampleShown {
    /// Start, with the offset of the zone.
    pub started_at: String,
    /// Outcome.
    pub outcome: String,
    /// Value in milliseconds.
    pub value: Option<f64>,
    /// Role of the sample in the figure.
    pub role: String,
    /// Stage of a failure.
    pub stage: Option<String>,
    /// Error of a failure.
    pub error: Option<String>,
}

/// Explains a figure of each monitor of a query over this period; with `all`, all samples are
/// listed instead of the decisive ones.
///
/// # Errors
/// The lake can't be read.
pub fn explanations(
    lake: &Lake,
    base: SeriesQuery,
    (figure, period): (&Figure, &Period),
    all: bool,
) -> Result<Vec<Explanation>, LakeError> {
    let mut metrics = Metric::CONTRACT.to_vec();
    if !metrics.contains(&figure.metric()) {
        metrics.push(figure.metric());
    }
    let mut qs = CONTRACT.to_vec();
    let asked = figure.percentile().map(RequestedPercentile::q);
    qs.extend(asked.filter(|q| CONTRACT.iter().all(|known| known.to_bits() != q.to_bits())));
    let question = FiguresQuery::new(period.clone(), UtcMicros::now(), None, &metrics, &qs)
        .with_receipts(figure.mail().is_some());
    let query = base
        .metrics(&question.metrics)
        .receipts(question.receipts)
        .columns(&[Column::Stage, Column::Error]);
    let declarations = lake.declarations(&(period.from..period.to))?;
    let found = lake.map(&query, |series| {
        let row = question.rows(series).pop()?;
        let mut explanation = explain(figure, series, &row, &question, all);
        explanation.declared = declarations
            .all()
            .iter()
            .filter(|known| known.applies_to(&series.site, &series.monitor))
            .map(|known| declaration(known, &period.calendar))
            .collect();
        let skipped = lake.skipped().into_iter();
        explanation.skipped_files = skipped.map(|(path, _)| path.display().to_string()).collect();
        Some(explanation)
    })?;
    Ok(found.into_iter().flatten().collect())
}

/// Describes a declaration in one line.
fn declaration(known: &Declaration, calendar: &Calendar) -> String {
    let moment = |at| moment(calendar, at);
    let mut text = format!("{}: {} to {}", known.name, moment(known.from), moment(known.to));
    if let Some(by) = &known.by {
        text.push_str(&format!(", declared by {by} at {}", moment(known.at)));
    }
    if let Some(reason) = &known.reason {
        text.push_str(&format!(": {reason}"));
    }
    text
}

fn explain(
    figure: &Figure,
    series: &Series,
    row: &Row,
    question: &FiguresQuery,
    all: bool,
) -> Explanation {
    let value = |row: usize| series.metric(figure.metric()).get(row);
    let values = series.counted().filter(|row| value(*row).is_some()).count() as u64;
    let (definition, calculation) = figure.definition(row, values);
    let (rows, samples_behind_it) = behind(figure, series, question, all);
    let samples = rows
        .into_iter()
        .map(|(row, role)| SampleShown {
            started_at: question
                .period
                .calendar
                .zoned(series.at(row))
                .strftime("%Y-%m-%dT%H:%M:%S%.6f%:z")
                .to_string(),
            outcome: series.outcome[row].to_string(),
            value: value(row).map(Micros::as_millis_f64).filter(|_| figure.mail().is_none()),
            role,
            stage: series.stage.get(row).copied().flatten().map(|stage| stage.to_string()),
            error: series.error.get(row).cloned().flatten().map(|error| error.to_string()),
        })
        .collect();
    Explanation {
        site: series.site.to_string(),
        monitor: series.monitor.to_string(),
        figure: figure.to_string(),
        period: question.period.to_string(),
        definition,
        value: match figure.value(row, question) {
            FigureValue::Is(value) => value.into(),
            FigureValue::NotDelivered => "not delivered".into(),
            FigureValue::None => serde_json::Value::Null,
        },
        interval: figure.interval(row, question),
        unit: figure.unit(),
        calculation,
        samples_in_period: series.inside.len() as u64,
        counted_tests: row.counts.tests(),
        values,
        left_out: left_out(figure, series, row, values),
        unsettled: row.counts.provisional,
        declared: Vec::new(),
        skipped_files: Vec::new(),
        samples_behind_it,
        samples,
    }
}

/// Returns the samples to show, each with its role in the figure, and the number of samples that
/// the figure is based on.
fn behind(
    figure: &Figure,
    series: &Series,
    question: &FiguresQuery,
    all: bool,
) -> (Vec<(usize, String)>, u64) {
    let value = |row: usize| series.metric(figure.metric()).get(row);
    let judge = Judge::new(series);
    let told = |row: usize| (row, role(figure, (series, row), value(row), &judge));
    let mut behind: Vec<(usize, String)> = match figure {
        Figure::Of(..) => series.counted().filter(|row| value(*row).is_some()).map(told).collect(),
        Figure::Mail(of_mail) => {
            let concerns = |row: &usize| of_mail.judge(&judge, series, *row).is_some();
            series.counted().filter(concerns).map(told).collect()
        }
        Figure::Tests(which) => {
            series.inside.clone().filter(|row| which.has(series, *row)).map(told).collect()
        }
        _ if figure.is_of_time() => moments(figure, series, question),
        _ => series.counted().map(told).collect(),
    };
    let count = behind.len() as u64;
    if !all {
        decisive(figure, series, &mut behind);
        return (behind, count);
    }
    let mut rows: Vec<(usize, String)> = series.inside.clone().map(told).collect();
    if figure.is_of_time() {
        rows.retain(|(row, _)| behind.iter().all(|(other, _)| other != row));
        rows.append(&mut behind);
        rows.sort_by_key(|(row, _)| *row);
    }
    (rows, count)
}

/// Keeps the few samples that determine the figure.
fn decisive(figure: &Figure, series: &Series, behind: &mut Vec<(usize, String)>) {
    let value = |row: usize| series.metric(figure.metric()).get(row);
    let failed = |row: usize| series.counts(row) && series.outcome[row] != Outcome::Ok;
    let landed = |row: usize| matches!(series.outcome[row], Outcome::Ok | Outcome::Late);
    match figure {
        Figure::Delivered(asked) | Figure::Of(_, Statistic::Percentile(asked)) => {
            behind.sort_by_key(|(row, _)| (value(*row).is_none(), value(*row)));
            let rank = needed_ranks(behind.len(), asked.q()).0;
            around(behind, rank);
        }
        Figure::Of(_, Statistic::Min) => behind.sort_by_key(|(row, _)| value(*row)),
        Figure::Of(_, Statistic::Max) => {
            behind.sort_by_key(|(row, _)| std::cmp::Reverse(value(*row)))
        }
        Figure::DeliveryRate => behind.retain(|(row, _)| !landed(*row)),
        Figure::Within(Some(limit)) => {
            behind.retain(|(row, _)| value(*row).is_none_or(|trip| trip > LIMITS[*limit]));
        }
        Figure::Declared(DeclaredFigure::Tests) => {
            behind.retain(|(row, _)| series.is_declared(*row));
        }
        Figure::Mail(of_mail) => {
            let judge = Judge::new(series);
            let shown = Some(of_mail.shows_qualifying());
            behind.retain(|(row, _)| of_mail.judge(&judge, series, *row) == shown);
        }
        Figure::Availability
        | Figure::Within(None)
        | Figure::Declared(DeclaredFigure::Availability) => behind.retain(|(row, _)| failed(*row)),
        _ => {}
    }
    behind.truncate(SHOWN);
}

/// Counts the samples of the period that the figure excludes, by reason.
fn left_out(figure: &Figure, series: &Series, row: &Row, values: u64) -> Vec<LeftOut> {
    let counts = &row.counts;
    let excluded = |reason: Exclusion| {
        let of = |row: &usize| {
            series.outcome[*row] != Outcome::NotTested && series.exclusion(*row) == Some(reason)
        };
        series.inside.clone().filter(of).count() as u64
    };
    let maintenance = excluded(Exclusion::Maintenance);
    let mut left_out = vec![
        LeftOut {
            samples: counts.not_tested,
            why: "not_tested: the probe could not perform the test",
        },
        LeftOut { samples: maintenance, why: "in maintenance" },
        LeftOut {
            samples: counts.excluded - maintenance,
            why: "excluded for another reason, such as a simulated failure",
        },
    ];
    let is_excluding =
        matches!(figure, Figure::Declared(declared) if *declared != DeclaredFigure::Tests);
    if is_excluding {
        left_out.push(LeftOut {
            samples: row.declared_tests(),
            why: "in maintenance declared afterwards",
        });
    }
    if let Figure::Mail(of_mail) = figure {
        let judge = Judge::new(series);
        let unknown = series.counted().filter(|row| of_mail.judge(&judge, series, *row).is_none());
        left_out.push(LeftOut {
            samples: unknown.count() as u64,
            why: "counted tests for which this is unknown",
        });
    }
    if matches!(figure, Figure::Of(..)) {
        left_out.push(LeftOut {
            samples: counts.tests() - values,
            why: "counted tests without a value of this metric, because they failed earlier",
        });
    }
    left_out.retain(|left| left.samples > 0);
    left_out
}

/// Keeps the samples around a position.
fn around(rows: &mut Vec<(usize, String)>, middle: usize) {
    let from = middle.saturating_sub(SHOWN / 2).min(rows.len().saturating_sub(SHOWN));
    rows.drain(..from);
    rows.truncate(SHOWN);
}

/// Returns the samples at which the time spans of a time-based figure begin and end.
fn moments(figure: &Figure, series: &Series, question: &FiguresQuery) -> Vec<(usize, String)> {
    let Some(past) = &question.past else {
        return Vec::new();
    };
    // As if it had been planned.
    let without = series.without_declared().filter(|_| matches!(figure, Figure::Declared(_)));
    let series = without.as_ref().unwrap_or(series);
    let timeline = Timeline::of(series, past, None);
    let row_at = |at: UtcMicros| series.started_at.binary_search(&at.0).ok();
    let mut found = Vec::new();
    let mut stretches = |state: State, what: &str| {
        for stretch in timeline.stretches.iter().filter(|stretch| stretch.state == state) {
            // The state before the first sample, and before the period, is attributed to the
            // following sample.
            let before =
                series.started_at.partition_point(|at| *at <= stretch.from.0).checked_sub(1);
            let Some(row) = before.or_else(|| row_at(stretch.to)) else {
                continue;
            };
            let where_ = if before.is_some() { "from here" } else { "before it" };
            found.push((row, format!("{} {what} {where_}", long(stretch.to - stretch.from))));
        }
    };
    match figure {
        Figure::Coverage | Figure::Unknown => stretches(State::Unknown, "unknown"),
        Figure::Maintenance | Figure::Declared(DeclaredFigure::Time) => {
            stretches(State::Excluded, "in maintenance")
        }
        _ => {
            for outage in &timeline.outages {
                found.push((
                    outage.row,
                    match outage.duration() {
                        Some(duration) => format!(
                            "starts an outage of {}, of which {} are known and in the period",
                            long(duration),
                            long(outage.downtime)
                        ),
                        None => format!(
                            "starts an outage whose end is unknown; {} of it are known and in the period",
                            long(outage.downtime)
                        ),
                    },
                ));
                found.extend(outage.to.and_then(row_at).map(|row| (row, "ends it".to_owned())));
            }
        }
    }
    if *figure == Figure::LongestOutage
        && let Some(longest) = timeline.longest()
    {
        let until = longest.to.and_then(row_at).unwrap_or(usize::MAX);
        found.retain(|(row, _)| (longest.row..=until).contains(row));
    }
    found
}

/// Returns the role of a sample in a figure based on tests.
fn role(
    figure: &Figure,
    (series, row): (&Series, usize),
    value: Option<Micros>,
    judge: &Judge<'_>,
) -> String {
    let outcome = series.outcome[row];
    let role = if let Figure::Tests(which) = figure
        && which.has(series, row)
    {
        "counted"
    } else if outcome == Outcome::NotTested {
        "skipped: not tested"
    } else {
        match (series.exclusion(row), figure) {
            (Some(Exclusion::Maintenance), _) => "skipped: maintenance",
            (Some(_), _) => "skipped: excluded",
            (None, Figure::Declared(DeclaredFigure::Tests)) if series.is_declared(row) => "counted",
            (None, Figure::Declared(_)) if series.is_declared(row) => {
                "skipped: maintenance declared afterwards"
            }
            (None, Figure::Tests(_)) => "another outcome",
            (None, Figure::Of(..)) if value.is_some() => "a value",
            (None, Figure::Of(..)) => "skipped: no value",
            (None, Figure::Mail(of_mail)) => match of_mail.judge(judge, series, row) {
                Some(true) => "counted, qualifies",
                Some(false) => "counted, does not qualify",
                None => "skipped: unknown",
            },
            (None, Figure::Delivered(_)) if value.is_some() => "a value",
            (None, Figure::Delivered(_)) => "not delivered",
            (None, _) => {
                let good = match figure {
                    Figure::DeliveryRate => matches!(outcome, Outcome::Ok | Outcome::Late),
                    Figure::Within(Some(limit)) => value.is_some_and(|trip| trip <= LIMITS[*limit]),
                    _ => outcome == Outcome::Ok,
                };
                if good { "counted, ok" } else { "counted, not ok" }
            }
        }
    };
    role.to_owned()
}

impl Explanation {
    /// Returns the explanation as text, without its samples; `hint` follows the statement that
    /// there are more samples than those shown.
    pub fn text(&self, hint: &str) -> String {
        text(self, hint)
    }
}

fn text(of: &Explanation, hint: &str) -> String {
    use std::fmt::Write as _;
    let value = match &of.value {
        serde_json::Value::Null => "–".to_owned(),
        serde_json::Value::String(words) => words.clone(),
        number if of.unit == "share" => {
            per_cent(number.as_f64().unwrap_or_default(), of.counted_tests)
        }
        number => format!("{number} {}", of.unit),
    };
    let interval = match of.interval {
        Some((low, high)) if of.unit == "share" => {
            let share = |value: f64| per_cent(value, of.counted_tests);
            format!(" (95 % confidence: {} to {})", share(low), share(high))
        }
        Some((low, high)) => format!(" (95 % confidence: {low} to {high} {})", of.unit),
        None => String::new(),
    };
    let mut text = String::new();
    // Writing to a `String` can't fail.
    let _ = writeln!(
        text,
        "{} of {} at {}, {}: {value}{interval}",
        of.figure, of.monitor, of.site, of.period
    );
    let _ = writeln!(text, "Definition: {}.", of.definition);
    if !of.calculation.is_empty() {
        let _ = writeln!(text, "Calculation: {}.", of.calculation);
    }
    let _ = writeln!(
        text,
        "Samples in the period: {}; counted tests: {}.",
        of.samples_in_period, of.counted_tests
    );
    for left in &of.left_out {
        let _ = writeln!(text, "Skipped: {} ({}).", left.samples, left.why);
    }
    if of.unsettled > 0 {
        let _ = writeln!(
            text,
            "Unsettled: {} tests counted as failed may still turn out to be late.",
            of.unsettled
        );
    }
    for declared in &of.declared {
        let _ = writeln!(text, "Declared maintenance: {declared}.");
    }
    for path in &of.skipped_files {
        let _ = writeln!(text, "Skipped: the corrupt file {path}.");
    }
    let shown = of.samples.len() as u64;
    if shown < of.samples_behind_it {
        let _ = writeln!(
            text,
            "Based on {} samples; the {shown} decisive ones are shown{hint}.",
            of.samples_behind_it
        );
    }
    text.push('\n');
    text
}
