//! `mailqos-analytics stats --explain`: how one figure of one monitor comes about, down to its samples.

use std::process::ExitCode;

use mailqos_core::model::{Exclusion, Micros, Outcome};
use serde::Serialize;

use super::{
    Failure, print,
    source::{Source, lake_failure},
    stats::{Asked, Shape, long, percentile, query, seconds},
    table::{Cell, Format, Table, json},
};
use crate::figures::{
    Column, DeliveredPercentile, Distribution, Share,
    availability::share,
    delivered_within::LIMITS,
    percentiles::needed_ranks,
    series::{Metric, Series},
    stats::{Question, Row},
};

/// How many samples are shown unless all are asked for.
const SHOWN: usize = 20;

/// A figure of `stats`, by the name that CSV gives it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Figure {
    Availability,
    DeliveryRate,
    Coverage,
    AvailabilityByTime,
    Downtime,
    Outages,
    Mttr,
    Mtbf,
    /// One of [`LIMITS`], or max round trip.
    Within(Option<usize>),
    Delivered(Asked),
    Of(Metric, Statistic),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Statistic {
    Count,
    Min,
    Mean,
    Max,
    Percentile(Asked),
}

impl Figure {
    pub(super) const HELP: &'static str = "figures are availability, delivery_rate, coverage, availability_by_time, downtime, outages, mttr, mtbf, \
         delivered_within_10s, _30s, _1min, _5min or _max_round_trip, delivered_p99, and count, min, mean, max or a \
         percentile of a metric: round_trip_p95, smtp_send_mean";
}

/// A figure's value, as far as there is one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Found {
    /// There is nothing to make it of.
    None,
    /// So many per cent of the mails were not delivered in the first place.
    NotDelivered,
    /// Shares in [0, 1], seconds, milliseconds, or a count.
    Is(f64),
}

impl Figure {
    /// The metric that it is of.
    pub(super) fn metric(&self) -> Metric {
        match self {
            Self::Of(metric, _) => *metric,
            _ => Metric::RoundTrip,
        }
    }

    /// The percentile that it is.
    pub(super) fn percentile(&self) -> Option<&Asked> {
        match self {
            Self::Delivered(asked) | Self::Of(_, Statistic::Percentile(asked)) => Some(asked),
            _ => None,
        }
    }

    /// In what it is measured.
    pub(super) fn unit(&self) -> &'static str {
        match self {
            Self::Downtime | Self::Mttr | Self::Mtbf => "s",
            Self::Outages | Self::Of(_, Statistic::Count) => "",
            Self::Delivered(_) | Self::Of(..) => "ms",
            _ => "share",
        }
    }

    /// Whether more of it is better.
    pub(super) fn more_is_better(&self) -> bool {
        self.unit() == "share" || matches!(self, Self::Mtbf | Self::Of(_, Statistic::Count))
    }

    fn distribution<'a>(&self, row: &'a Row, question: &Question) -> Option<&'a Distribution> {
        let index = question.metrics.iter().position(|known| *known == self.metric())?;
        row.metrics.get(index)?.as_ref()
    }

    /// Where its percentile stands among those of the question.
    fn place(&self, question: &Question) -> Option<usize> {
        let q = self.percentile()?.q();
        question.qs.iter().position(|known| known.to_bits() == q.to_bits())
    }

    /// Its value in a row that answers the question.
    pub(super) fn value(&self, row: &Row, question: &Question) -> Found {
        let (counts, time) = (&row.counts, &row.time);
        let ms = |micros: f64| micros / 1000.0;
        let summary = self.distribution(row, question).map(|found| &found.summary);
        let value = match self {
            Self::Availability => counts.availability(),
            Self::DeliveryRate => counts.delivery_rate(),
            Self::Coverage => time.coverage(),
            Self::AvailabilityByTime => time.availability(),
            Self::Downtime => Some(seconds(time.downtime)),
            Self::Outages => Some(time.outages as f64),
            Self::Mttr => time.mttr().map(seconds),
            Self::Mtbf => time.mtbf().map(seconds),
            Self::Within(limit) => share(limit.map_or(counts.ok, |index| row.within[index]), counts.tests()),
            Self::Delivered(_) => match self.place(question).and_then(|index| row.delivered.get(index)) {
                Some(DeliveredPercentile::NotDelivered) => return Found::NotDelivered,
                Some(DeliveredPercentile::Within(micros)) => Some(ms(*micros)),
                None => None,
            },
            Self::Of(_, Statistic::Count) => Some(summary.map_or(0.0, |s| s.count as f64)),
            Self::Of(_, Statistic::Min) => summary.map(|s| s.min.as_millis_f64()),
            Self::Of(_, Statistic::Max) => summary.map(|s| s.max.as_millis_f64()),
            Self::Of(_, Statistic::Mean) => summary.map(|s| ms(s.mean)),
            Self::Of(_, Statistic::Percentile(_)) => {
                let place = self.place(question);
                place
                    .and_then(|index| summary?.percentiles.get(index))
                    .map(|micros| ms(*micros))
            }
        };
        value.map_or(Found::None, Found::Is)
    }

    /// Its 95 % confidence interval, where it has one.
    pub(super) fn interval(&self, row: &Row, question: &Question) -> Option<(f64, f64)> {
        let (counts, of) = (&row.counts, |part: u64| Share::new(part, row.counts.tests()));
        let share = match self {
            Self::Availability | Self::Within(None) => of(counts.ok),
            Self::DeliveryRate => of(counts.ok + counts.late),
            Self::Within(Some(limit)) => of(row.within[*limit]),
            Self::Of(_, Statistic::Percentile(_)) => {
                let intervals = &self.distribution(row, question)?.intervals;
                let (low, high) = intervals.get(self.place(question)?).copied().flatten()?;
                return Some((low / 1000.0, high / 1000.0));
            }
            _ => None,
        }?;
        Some((share.low, share.high))
    }
}

impl std::str::FromStr for Figure {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("there is no figure {text:?}");
        Ok(match text {
            "availability" => Self::Availability,
            "delivery_rate" => Self::DeliveryRate,
            "coverage" => Self::Coverage,
            "availability_by_time" => Self::AvailabilityByTime,
            "downtime" | "downtime_s" => Self::Downtime,
            "outages" => Self::Outages,
            "mttr" | "mttr_s" => Self::Mttr,
            "mtbf" | "mtbf_s" => Self::Mtbf,
            "delivered_within_max_round_trip" => Self::Within(None),
            "delivered_within_10s" => Self::Within(Some(0)),
            "delivered_within_30s" => Self::Within(Some(1)),
            "delivered_within_1min" => Self::Within(Some(2)),
            "delivered_within_5min" => Self::Within(Some(3)),
            _ => {
                if let Some(asked) = text.strip_prefix("delivered_p") {
                    return Ok(Self::Delivered(percentile(asked)?));
                }
                let (metric, statistic) = text.rsplit_once('_').ok_or_else(wrong)?;
                let metric: Metric = metric.parse().map_err(|_| wrong())?;
                let statistic = match statistic {
                    "count" => Statistic::Count,
                    "min" => Statistic::Min,
                    "mean" => Statistic::Mean,
                    "max" => Statistic::Max,
                    other if other.starts_with('p') => Statistic::Percentile(percentile(other)?),
                    _ => return Err(wrong()),
                };
                Self::Of(metric, statistic)
            }
        })
    }
}

/// What is said about a figure of one monitor.
#[derive(Debug, Serialize)]
struct Explanation {
    site: String,
    monitor: String,
    figure: String,
    period: String,
    definition: &'static str,
    /// Null where there is nothing to make it of; `"not delivered"`.
    value: serde_json::Value,
    /// With 95 % confidence; null where the figure has none, or there are too few tests for one.
    interval: Option<(f64, f64)>,
    unit: &'static str,
    /// How the value follows from what is counted.
    calculation: String,
    samples_in_period: u64,
    counted_tests: u64,
    values: u64,
    left_out: Vec<LeftOut>,
    /// Counted as failed although their mail may still be found.
    unsettled: u64,
    skipped_files: Vec<String>,
    /// How many samples the figure rests on, whether shown or not.
    samples_behind_it: u64,
    samples: Vec<SampleShown>,
}

#[derive(Debug, Serialize)]
struct LeftOut {
    samples: u64,
    why: &'static str,
}

#[derive(Debug, Clone, Serialize)]
struct SampleShown {
    started_at: String,
    outcome: String,
    /// In milliseconds.
    value: Option<f64>,
    /// What it is to the figure.
    role: &'static str,
    stage: Option<String>,
    error: Option<String>,
}

/// Explains a figure of a monitor at each of its sites.
///
/// # Errors
/// The lake can't be read.
pub(super) fn run(source: &Source, figure: &Figure, all: bool, format: Format) -> Result<ExitCode, Failure> {
    let asked: Vec<Asked> = figure.percentile().cloned().into_iter().collect();
    let shape = Shape::of_monitors(source.period.calendar.clone(), &[figure.metric()], &asked);
    let question = shape.question(&source.period, None);
    let query = query(source, &question).columns(&[Column::Stage, Column::Error]);
    let explanations: Vec<Explanation> = source
        .lake
        .map(&query, |series| {
            let row = question.rows(&series).pop()?;
            Some(explain(source, figure, &series, &row, &question, all))
        })
        .map_err(lake_failure)?
        .into_iter()
        .flatten()
        .collect();
    source.remarks(explanations.is_empty());
    match format {
        Format::Json => print(json(&explanations)?)?,
        Format::Table => {
            for explanation in &explanations {
                print(text(explanation))?;
                print(table(std::slice::from_ref(explanation), false).bytes(Format::Table)?)?;
            }
        }
        Format::Csv | Format::Parquet => table(&explanations, true).print(format)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn explain(
    source: &Source,
    figure: &Figure,
    series: &Series,
    row: &Row,
    question: &Question,
    all: bool,
) -> Explanation {
    let (counts, time, tests) = (&row.counts, &row.time, row.counts.tests());
    let failed = |row: usize| series.counts(row) && series.outcome[row] != Outcome::Ok;
    let landed = |row: usize| matches!(series.outcome[row], Outcome::Ok | Outcome::Late);
    let value = |row: usize| series.metric(figure.metric()).get(row);
    let of_tests = |part: u64, what: &str| format!("{part} {what} of {tests} counted tests");
    let values = series.counted().filter(|row| value(*row).is_some()).count() as u64;
    let (definition, calculation): (&'static str, String) = match figure {
        Figure::Availability => (
            "ok / counted tests; counted are all outcomes but not_tested, outside maintenance",
            of_tests(counts.ok, "ok"),
        ),
        Figure::DeliveryRate => (
            "(ok + late) / counted tests",
            of_tests(counts.ok + counts.late, "ok or late"),
        ),
        Figure::Coverage => (
            "known time / period; time without tests for more than three test intervals is unknown",
            format!("{} unknown of {}", long(time.unknown), long(time.length)),
        ),
        Figure::AvailabilityByTime => (
            "time up / (time up + downtime); unknown time and maintenance are neither",
            format!("{} up, {} down", long(time.up), long(time.downtime)),
        ),
        Figure::Downtime => (
            "the known parts of outages that lie in the period; an outage reaches from the first failed test to the next ok one",
            format!("{} outages", time.outages),
        ),
        Figure::Outages => (
            "how many outages touch the period; an outage reaches from the first failed test to the next ok one",
            of_tests(counts.failed(), "failed"),
        ),
        Figure::Mttr => (
            "mean duration of the outages that ended, from the first failed test to the next ok one",
            format!("{} outages", time.outages),
        ),
        Figure::Mtbf => (
            "time up / number of outages",
            format!("{} up, {} outages", long(time.up), time.outages),
        ),
        Figure::Within(limit) => (
            "counted tests whose mail landed within the limit / counted tests; lost mails stay in the denominator",
            of_tests(limit.map_or(counts.ok, |index| row.within[index]), "landed in time"),
        ),
        Figure::Delivered(asked) => (
            "percentile of the round trip over all counted tests, undelivered mail being slower than any delivered",
            ranks(tests as usize, asked),
        ),
        Figure::Of(_, Statistic::Count) => ("non-null values of counted tests", String::new()),
        Figure::Of(_, Statistic::Min) => (
            "least of the non-null values of counted tests",
            format!("least of {values}"),
        ),
        Figure::Of(_, Statistic::Max) => (
            "greatest of the non-null values of counted tests",
            format!("greatest of {values}"),
        ),
        Figure::Of(_, Statistic::Mean) => (
            "arithmetic mean of the non-null values of counted tests",
            format!("sum of {values} values / {values}"),
        ),
        Figure::Of(_, Statistic::Percentile(asked)) => (
            "exact percentile of the non-null values of counted tests, linear interpolation between closest ranks, (n − 1)·q",
            ranks(values as usize, asked),
        ),
    };
    let mut rows: Vec<usize> = series.inside.clone().collect();
    // Where not all are asked for: those that decide the figure.
    let mut behind: Vec<usize> = match figure {
        Figure::Of(..) => series.counted().filter(|row| value(*row).is_some()).collect(),
        _ => series.counted().collect(),
    };
    let samples_behind_it = behind.len() as u64;
    if !all {
        match figure {
            Figure::Delivered(asked) | Figure::Of(_, Statistic::Percentile(asked)) => {
                behind.sort_by_key(|row| (value(*row).is_none(), value(*row)));
                around(&mut behind, needed_ranks(samples_behind_it as usize, asked.q()).0);
            }
            Figure::Of(_, Statistic::Min) => {
                behind.sort_by_key(|row| value(*row));
                behind.truncate(SHOWN);
            }
            Figure::Of(_, Statistic::Max) => {
                behind.sort_by_key(|row| std::cmp::Reverse(value(*row)));
                behind.truncate(SHOWN);
            }
            Figure::Of(_, Statistic::Count | Statistic::Mean) => behind.truncate(SHOWN),
            Figure::DeliveryRate => behind.retain(|row| !landed(*row)),
            Figure::Within(Some(limit)) => {
                behind.retain(|row| value(*row).is_none_or(|trip| trip > LIMITS[*limit]));
            }
            _ => behind.retain(|row| failed(*row)),
        }
        behind.truncate(SHOWN);
        rows = behind;
    }
    let samples = rows
        .into_iter()
        .map(|row| SampleShown {
            started_at: question
                .period
                .calendar
                .zoned(series.at(row))
                .strftime("%Y-%m-%dT%H:%M:%S%.6f%:z")
                .to_string(),
            outcome: series.outcome[row].to_string(),
            value: value(row).map(Micros::as_millis_f64),
            role: role(figure, series, row, value(row)),
            stage: series.stage.get(row).copied().flatten().map(|stage| stage.to_string()),
            error: series.error.get(row).cloned().flatten().map(|error| error.to_string()),
        })
        .collect();
    let excluded = |reason: Exclusion| {
        let of = |row: &usize| series.outcome[*row] != Outcome::NotTested && series.exclusion(*row) == Some(reason);
        series.inside.clone().filter(of).count() as u64
    };
    let maintenance = excluded(Exclusion::Maintenance);
    let mut left_out = vec![
        LeftOut {
            samples: counts.not_tested,
            why: "not_tested: the probe itself could not test",
        },
        LeftOut {
            samples: maintenance,
            why: "in maintenance",
        },
        LeftOut {
            samples: counts.excluded - maintenance,
            why: "excluded for another reason, such as an ordered failure",
        },
    ];
    if matches!(figure, Figure::Of(..)) {
        left_out.push(LeftOut {
            samples: tests - values,
            why: "counted tests without a value of this metric: they failed before it",
        });
    }
    left_out.retain(|left| left.samples > 0);
    Explanation {
        site: series.site.to_string(),
        monitor: series.monitor.to_string(),
        figure: name(figure),
        period: question.period.to_string(),
        definition,
        value: match figure.value(row, question) {
            Found::Is(value) => value.into(),
            Found::NotDelivered => "not delivered".into(),
            Found::None => serde_json::Value::Null,
        },
        interval: figure.interval(row, question),
        unit: figure.unit(),
        calculation,
        samples_in_period: series.inside.len() as u64,
        counted_tests: tests,
        values,
        left_out,
        unsettled: counts.provisional,
        skipped_files: source
            .lake
            .skipped()
            .into_iter()
            .map(|(path, _)| path.display().to_string())
            .collect(),
        samples_behind_it,
        samples,
    }
}

/// Keeps the places around one.
fn around(rows: &mut Vec<usize>, middle: usize) {
    let from = middle.saturating_sub(SHOWN / 2).min(rows.len().saturating_sub(SHOWN));
    rows.drain(..from);
    rows.truncate(SHOWN);
}

fn ranks(n: usize, asked: &Asked) -> String {
    if n == 0 {
        return "of no value".to_owned();
    }
    let q = asked.q();
    let (low, fraction) = needed_ranks(n, q);
    if fraction > 0.0 {
        format!(
            "({n} − 1)·{q} = {:.4}: between the {}th and {}th of {n} in ascending order",
            low as f64 + fraction,
            low + 1,
            low + 2
        )
    } else {
        format!("({n} − 1)·{q} = {low}: the {}th of {n} in ascending order", low + 1)
    }
}

/// What a sample is to the figure.
fn role(figure: &Figure, series: &Series, row: usize, value: Option<Micros>) -> &'static str {
    let outcome = series.outcome[row];
    if outcome == Outcome::NotTested {
        return "left out: not tested";
    }
    match series.exclusion(row) {
        Some(Exclusion::Maintenance) => return "left out: maintenance",
        Some(_) => return "left out: excluded",
        None => {}
    }
    let good = match figure {
        Figure::Of(..) => {
            return if value.is_some() {
                "a value"
            } else {
                "left out: no value"
            };
        }
        Figure::Delivered(_) => return if value.is_some() { "a value" } else { "not delivered" },
        Figure::DeliveryRate => matches!(outcome, Outcome::Ok | Outcome::Late),
        Figure::Within(Some(limit)) => value.is_some_and(|trip| trip <= LIMITS[*limit]),
        _ => outcome == Outcome::Ok,
    };
    if good { "counted, good" } else { "counted, not good" }
}

pub(super) fn name(figure: &Figure) -> String {
    match figure {
        Figure::Availability => "availability".into(),
        Figure::DeliveryRate => "delivery_rate".into(),
        Figure::Coverage => "coverage".into(),
        Figure::AvailabilityByTime => "availability_by_time".into(),
        Figure::Downtime => "downtime".into(),
        Figure::Outages => "outages".into(),
        Figure::Mttr => "mttr".into(),
        Figure::Mtbf => "mtbf".into(),
        Figure::Within(None) => "delivered_within_max_round_trip".into(),
        Figure::Within(Some(limit)) => format!("delivered_within {}", long(LIMITS[*limit])),
        Figure::Delivered(asked) => format!("delivered_{}", asked.name()),
        Figure::Of(metric, statistic) => match statistic {
            Statistic::Count => format!("{metric}_count"),
            Statistic::Min => format!("{metric}_min"),
            Statistic::Mean => format!("{metric}_mean"),
            Statistic::Max => format!("{metric}_max"),
            Statistic::Percentile(asked) => format!("{metric}_{}", asked.name()),
        },
    }
}

fn text(of: &Explanation) -> String {
    use std::fmt::Write as _;
    let value = match &of.value {
        serde_json::Value::Null => "–".to_owned(),
        serde_json::Value::String(words) => words.clone(),
        number if of.unit == "share" => super::table::per_cent(number.as_f64().unwrap_or_default(), of.counted_tests),
        number => format!("{number} {}", of.unit),
    };
    let interval = match of.interval {
        Some((low, high)) if of.unit == "share" => {
            let share = |value: f64| super::table::per_cent(value, of.counted_tests);
            format!(" (95 % confidence: {} to {})", share(low), share(high))
        }
        Some((low, high)) => format!(" (95 % confidence: {low} to {high} {})", of.unit),
        None => String::new(),
    };
    let mut text = String::new();
    // Into a string: there is nothing that could fail.
    let _ = writeln!(
        text,
        "{} of {} at {}, {}: {value}{interval}",
        of.figure, of.monitor, of.site, of.period
    );
    let _ = writeln!(text, "Definition: {}.", of.definition);
    if !of.calculation.is_empty() {
        let _ = writeln!(text, "Here: {}.", of.calculation);
    }
    let _ = writeln!(
        text,
        "Samples in the period: {}; counted tests: {}.",
        of.samples_in_period, of.counted_tests
    );
    for left in &of.left_out {
        let _ = writeln!(text, "Left out: {} ({}).", left.samples, left.why);
    }
    if of.unsettled > 0 {
        let _ = writeln!(
            text,
            "Unsettled: {} counted as failed may still be found late.",
            of.unsettled
        );
    }
    for path in &of.skipped_files {
        let _ = writeln!(text, "Left out: the corrupt file {path}.");
    }
    let shown = of.samples.len() as u64;
    if shown < of.samples_behind_it {
        let _ = writeln!(
            text,
            "It rests on {} samples; shown are the {shown} that decide it, --all shows all.",
            of.samples_behind_it
        );
    }
    text.push('\n');
    text
}

fn table(explanations: &[Explanation], whose: bool) -> Table {
    let mut columns = vec!["started_at", "outcome", "value_ms", "role", "stage", "error"];
    if whose {
        columns.splice(0..0, ["site", "monitor"]);
        columns.push("skipped_files");
    }
    let mut table = Table::new(columns);
    for of in explanations {
        for sample in &of.samples {
            let mut cells = vec![
                Cell::Text(sample.started_at.clone()),
                Cell::Text(sample.outcome.clone()),
                Cell::number(sample.value, 3),
                Cell::Text(sample.role.to_owned()),
                Cell::text(sample.stage.clone()),
                Cell::text(sample.error.clone()),
            ];
            if whose {
                cells.splice(0..0, [Cell::Text(of.site.clone()), Cell::Text(of.monitor.clone())]);
                cells.push(Cell::Count(of.skipped_files.len() as u64));
            }
            table.push(cells);
        }
    }
    table
}
