//! What sections need of the samples, worked out while the lake is read: of one monitor at a time, so that the samples of a
//! thousand monitors over a year never have to fit into memory together.
//!
//! A section says beforehand what it will ask ([`Need`]); each question is answered once, however many sections ask it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use mailqos_charts::round_trip::{self, Failure, Kind};
use mailqos_figures::{
    Bucket, Counts, DeliveredPercentile, Distribution, Packed, Period, Timeline, Unit,
    local_clock::LocalClock,
    patterns::{self, Answers},
    percentiles::{CONTRACT, distribution_of, percentiles_of},
};
use mailqos_lake_tables::{Column, Metric, Series, Values};
use mailqos_model::{Micros, Outcome, Stage, UtcMicros};

/// A question to the samples of each monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Count, extremes, mean and percentiles of a metric.
    Figures(Metric),
    /// All values of a metric.
    Values(Metric),
    /// The spread of a metric over the part of the period that has samples, as fine as a chart can show.
    Spread(Metric),
    /// The spread of a metric over the whole period, as fine as a chart can show.
    WholeSpread(Metric),
    /// The spread of a metric over the whole period, by hour, day or week.
    Line(Metric),
    /// How many tests failed in each hour or day; `None` for whichever a strip of the period has.
    Tests(Option<Unit>),
    /// Availability and round trip over time, as small charts show them.
    Sparks,
    /// The median of a metric by hour and weekday.
    Week(Metric),
    /// The servers that mails passed.
    Stations,
    /// What stands out from chance.
    Patterns,
}

/// All that the sections of a report need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs(BTreeSet<Need>);

impl Needs {
    /// Adds a question.
    pub fn add(&mut self, need: Need) {
        self.0.insert(need);
    }

    /// Returns whether a question is among them.
    pub fn has(&self, need: Need) -> bool {
        self.0.contains(&need)
    }

    /// Returns the metrics that they are about, and those that the hash of the samples is over.
    pub(super) fn metrics(&self) -> BTreeSet<Metric> {
        let asked = self.0.iter().flat_map(|need| match need {
            Need::Figures(metric)
            | Need::Values(metric)
            | Need::Spread(metric)
            | Need::WholeSpread(metric)
            | Need::Line(metric)
            | Need::Week(metric) => std::slice::from_ref(metric),
            Need::Sparks => &[Metric::RoundTrip],
            Need::Patterns => &Metric::CONTRACT[..],
            Need::Tests(_) | Need::Stations => &[],
        });
        asked.copied().chain(Metric::CONTRACT).collect()
    }

    /// Returns the further columns that they need.
    pub(super) fn columns(&self) -> Vec<Column> {
        let mut columns = vec![
            Column::Stage,
            Column::Error,
            Column::TestInterval,
            Column::MaxRoundTrip,
            Column::Unverified,
        ];
        if self.has(Need::Patterns) || self.has(Need::Stations) {
            columns.push(Column::Hops);
        }
        if self.has(Need::Patterns) {
            columns.push(Column::SmtpReplyCode);
        }
        columns
    }
}

impl FromIterator<Need> for Needs {
    fn from_iter<I: IntoIterator<Item = Need>>(needs: I) -> Self {
        Self(needs.into_iter().collect())
    }
}

/// Periods up to this length have a cell per hour.
const SHORT: Micros = Micros::from_secs(8 * 86_400);
/// From these lengths on a line has a point a day, and a week: it shows how things went, not the habits of the day.
const LONG: Micros = Micros::from_secs(10 * 86_400);
/// From this length on lines and small charts have a point a week.
const VERY_LONG: Micros = Micros::from_secs(200 * 86_400);
/// Up to this length small charts have a value an hour.
const BRIEF: Micros = Micros::from_secs(4 * 86_400);

/// Returns what a strip of a period has a cell for, unless its definition says so.
pub(super) fn cell_of(period: &Period) -> Unit {
    if period.duration() <= SHORT {
        Unit::Hour
    } else {
        Unit::Day
    }
}

/// Returns what a line over a period has a point for.
pub(super) fn line_of(period: &Period) -> Unit {
    match period.duration() {
        length if length < LONG => Unit::Hour,
        length if length < VERY_LONG => Unit::Day,
        _ => Unit::Week,
    }
}

/// Returns what a small chart over a period has a value for.
pub(super) fn spark_of(period: &Period) -> Unit {
    match period.duration() {
        length if length < BRIEF => Unit::Hour,
        length if length < VERY_LONG => Unit::Day,
        _ => Unit::Week,
    }
}

/// The buckets of periods, shared by all monitors: finding the hours of a year takes as long as drawing them.
#[derive(Debug, Default)]
pub(super) struct Buckets(Mutex<HashMap<Grid, Arc<[Bucket]>>>);

/// A period and what it is divided into.
type Grid = (UtcMicros, UtcMicros, Unit);

impl Buckets {
    /// Returns the buckets of a period.
    pub(super) fn of(&self, period: &Period, unit: Unit) -> Arc<[Bucket]> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let buckets = known
            .entry((period.from, period.to, unit))
            .or_insert_with(|| period.buckets(unit).into());
        Arc::clone(buckets)
    }
}

/// What is known of a metric of a monitor.
#[derive(Debug, Clone)]
pub struct Figures {
    /// Count, extremes, mean, p50, p90, p95 and p99 with their intervals.
    pub distribution: Distribution,
    /// p99 over all tests, where it was asked for.
    pub delivered: Option<DeliveredPercentile>,
}

/// How many tests a part of the period had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Counted tests.
    pub tests: u32,
    /// How many of them failed.
    pub failed: u32,
    /// Whether tests did not count because of maintenance.
    pub maintenance: bool,
}

/// Tallies of the parts of a period. Most hours of a year are alike: each run of equal ones is there once.
#[derive(Debug, Clone, Default)]
struct Tallies(Vec<(Tally, u32)>);

impl Tallies {
    fn of(series: &Series, buckets: &[Bucket]) -> Self {
        let mut runs: Vec<(Tally, u32)> = Vec::new();
        for bucket in buckets {
            let counts = Counts::of(series, series.rows(bucket.start, bucket.end));
            let number = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
            let tally = Tally {
                tests: number(counts.tests()),
                failed: number(counts.failed()),
                maintenance: counts.excluded > 0,
            };
            match runs.last_mut() {
                Some((last, count)) if *last == tally => *count += 1,
                _ => runs.push((tally, 1)),
            }
        }
        Self(runs)
    }

    fn iter(&self) -> impl Iterator<Item = Tally> + '_ {
        let runs = self.0.iter();
        runs.flat_map(|(tally, count)| std::iter::repeat_n(*tally, *count as usize))
    }
}

/// What the first failed test of an outage met.
#[derive(Debug, Clone)]
pub struct Cause {
    /// Where it failed.
    pub stage: Option<Stage>,
    /// One line about it.
    pub error: Option<Arc<str>>,
    /// What became of it.
    pub outcome: Outcome,
    /// How long it took, if its mail came.
    pub round_trip: Option<Micros>,
}

/// A server that mails passed.
#[derive(Debug, Clone, Default)]
pub struct Station {
    /// How many mails.
    pub mails: u64,
    /// Of these, those that it passed with a clock in doubt.
    pub suspect: u64,
    /// The sum of its first places in the paths, to list stations in the order in which mails pass them.
    pub places: u64,
    /// The times since the station before, in microseconds.
    pub delays: Packed,
}

/// The servers that the mails of a monitor passed.
#[derive(Debug, Clone, Default)]
pub struct Stations {
    /// How many mails said which way they took.
    pub mails: u64,
    /// By name.
    pub stations: BTreeMap<Arc<str>, Station>,
}

/// Median and p95 of the round trip in each part of the period that has enough values.
type Sparks = Vec<Option<[f64; 2]>>;
/// Medians by weekday from Monday and by local hour.
pub type Week = [[Option<f64>; 24]; 7];

/// The answers of one monitor.
#[derive(Debug, Default)]
pub struct Digest {
    /// When the first and the last test of the period began.
    pub seen: Option<(UtcMicros, UtcMicros)>,
    /// The counted tests that failed, in order.
    pub failures: Vec<Failure>,
    /// When counted tests began whose mail may still be found late.
    pub provisional: Vec<UtcMicros>,
    /// The servers that mails passed.
    pub stations: Stations,
    /// What stands out, until it is compared with that of the other monitors.
    pub(super) answers: Option<Answers>,
    causes: HashMap<usize, Cause>,
    figures: BTreeMap<Metric, Option<Figures>>,
    values: BTreeMap<Metric, Packed>,
    spreads: BTreeMap<(Metric, UtcMicros, UtcMicros, Option<Unit>), Vec<round_trip::Bucket>>,
    tallies: HashMap<Grid, Tallies>,
    sparks: Sparks,
    weeks: BTreeMap<Metric, Week>,
}

/// What the samples of a monitor are asked about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    /// The questions.
    pub(super) needs: &'a Needs,
    /// The part of the period that has passed.
    pub(super) passed: &'a Period,
    /// The buckets that monitors share.
    pub(super) buckets: &'a Buckets,
}

impl Digest {
    /// Answers all questions from the samples of a monitor.
    pub(super) fn of(series: &Series, timeline: &Timeline, asked: Asked<'_>) -> Self {
        let passed = asked.passed;
        let mut digest = Self {
            seen: match (series.inside.clone().next(), series.inside.clone().next_back()) {
                (Some(first), Some(last)) => Some((series.at(first), series.at(last))),
                _ => None,
            },
            failures: failures(series),
            provisional: series
                .counted()
                .filter(|row| series.provisional.get(*row) == Some(&true))
                .map(|row| series.at(row))
                .collect(),
            causes: timeline
                .outages
                .iter()
                .filter_map(|outage| Some((outage.row, cause(series, outage.row)?)))
                .collect(),
            ..Self::default()
        };
        let window = digest.window(passed);
        let counting = series.counting();
        for need in &asked.needs.0 {
            match *need {
                Need::Figures(metric) => {
                    digest.figures.insert(metric, figures(series, metric, &counting));
                }
                Need::Values(metric) => {
                    let values = values(series, metric, &counting);
                    digest.values.insert(metric, Packed::of(values));
                }
                Need::Spread(metric) => digest.spread(series, metric, &window, None),
                Need::WholeSpread(metric) => digest.spread(series, metric, passed, None),
                Need::Line(metric) => digest.spread(series, metric, passed, Some(line_of(passed))),
                Need::Tests(unit) => {
                    for period in [&window, passed] {
                        digest.tally(series, period, unit.unwrap_or_else(|| cell_of(period)), asked);
                    }
                }
                Need::Sparks => {
                    let unit = spark_of(passed);
                    digest.tally(series, passed, unit, asked);
                    digest.sparks = sparks(series, &asked.buckets.of(passed, unit), &counting);
                }
                Need::Week(metric) => {
                    digest.weeks.insert(metric, week(series, metric, passed));
                }
                Need::Stations => digest.stations = stations(series),
                Need::Patterns => digest.answers = Some(patterns::ask(series, passed)),
            }
        }
        digest
    }

    fn spread(&mut self, series: &Series, metric: Metric, period: &Period, unit: Option<Unit>) {
        self.spreads
            .entry((metric, period.from, period.to, unit))
            .or_insert_with(|| spread::over(series, metric, period, unit));
    }

    fn tally(&mut self, series: &Series, period: &Period, unit: Unit, asked: Asked<'_>) {
        self.tallies
            .entry((period.from, period.to, unit))
            .or_insert_with(|| Tallies::of(series, &asked.buckets.of(period, unit)));
    }

    /// Returns the period; or, where the samples fill less than a tenth of it, the part that they fill.
    pub fn window(&self, period: &Period) -> Period {
        let Some((first, last)) = self.seen else {
            return period.clone();
        };
        let filled = last - first;
        if filled.0 >= period.duration().0 / 10 {
            return period.clone();
        }
        let margin = Micros((filled.0 / 20).max(500_000));
        Period::new(
            (first - margin).max(period.from),
            (last + margin).min(period.to),
            period.calendar.clone(),
        )
        .unwrap_or_else(|_| period.clone())
    }

    /// Returns what is known of a metric ([`Need::Figures`]); `None` where it has no value.
    pub fn figures(&self, metric: Metric) -> Option<&Figures> {
        debug_assert!(self.figures.contains_key(&metric), "no section asked for {metric}");
        self.figures.get(&metric)?.as_ref()
    }

    /// Returns p50, p90, p95 and p99 of a metric ([`Need::Figures`]); `None` where it has no value.
    pub fn typical(&self, metric: Metric) -> Option<[f64; 4]> {
        let known = &self.figures(metric)?.distribution.summary.percentiles;
        known.as_slice().try_into().ok()
    }

    /// Returns all values of a metric ([`Need::Values`]).
    pub fn values(&self, metric: Metric) -> &Packed {
        static NONE: std::sync::LazyLock<Packed> = std::sync::LazyLock::new(Packed::default);
        debug_assert!(self.values.contains_key(&metric), "no section asked for {metric}");
        self.values.get(&metric).unwrap_or(&NONE)
    }

    /// Returns the spread of a metric over time ([`Need::Spread`], [`Need::WholeSpread`], [`Need::Line`]).
    pub fn spread_over(&self, metric: Metric, period: &Period, unit: Option<Unit>) -> &[round_trip::Bucket] {
        let key = (metric, period.from, period.to, unit);
        debug_assert!(self.spreads.contains_key(&key), "no section asked for {metric}");
        self.spreads.get(&key).map_or(&[], Vec::as_slice)
    }

    /// Returns how many tests each part of a period had ([`Need::Tests`], [`Need::Sparks`]).
    pub fn tests(&self, period: &Period, unit: Unit) -> impl Iterator<Item = Tally> + '_ {
        let known = self.tallies.get(&(period.from, period.to, unit));
        debug_assert!(known.is_some(), "no section asked for tests by {unit:?}");
        known.into_iter().flat_map(Tallies::iter)
    }

    /// Returns median and p95 of the round trip in each part of the period that a small chart shows ([`Need::Sparks`]).
    pub fn sparks(&self) -> &[Option<[f64; 2]>] {
        &self.sparks
    }

    /// Returns the median of a metric by hour and weekday ([`Need::Week`]).
    pub fn week(&self, metric: Metric) -> Week {
        debug_assert!(self.weeks.contains_key(&metric), "no section asked for {metric}");
        self.weeks.get(&metric).copied().unwrap_or_default()
    }

    /// Returns what the first failed test of an outage met, by the row of that test.
    pub fn cause(&self, row: usize) -> Option<&Cause> {
        self.causes.get(&row)
    }
}

fn values(series: &Series, metric: Metric, counting: &[bool]) -> Values {
    let mut values = Values::default();
    series.values_into(metric, series.inside.clone(), counting, &mut values);
    values
}

fn figures(series: &Series, metric: Metric, counting: &[bool]) -> Option<Figures> {
    let tests = counting[series.inside.clone()].iter().filter(|counts| **counts).count();
    let mut delivered = Vec::new();
    let asked = (metric == Metric::RoundTrip).then_some((tests, &mut delivered));
    let distribution = distribution_of(&mut values(series, metric, counting), &CONTRACT, asked)?;
    Some(Figures {
        distribution,
        delivered: delivered.pop(),
    })
}

/// The counted tests that failed.
fn failures(series: &Series) -> Vec<Failure> {
    let failure = |row| {
        let kind = match series.outcome[row] {
            Outcome::Late => Kind::Late,
            Outcome::Lost => Kind::Lost,
            Outcome::SmtpFailed => Kind::NotSent,
            Outcome::PickupFailed => Kind::NotFetched,
            Outcome::Ok | Outcome::NotTested => return None,
        };
        let at = series.at(row);
        Some(Failure { at, kind })
    };
    series.counted().filter_map(failure).collect()
}

fn cause(series: &Series, row: usize) -> Option<Cause> {
    Some(Cause {
        stage: series.stage.get(row).copied().flatten(),
        error: series.error.get(row).cloned().flatten(),
        outcome: *series.outcome.get(row)?,
        round_trip: series.metric(Metric::RoundTrip).get(row),
    })
}

/// A percentile of fewer values is none.
const FEWEST_TESTS: usize = 8;

fn sparks(series: &Series, buckets: &[Bucket], counting: &[bool]) -> Sparks {
    let mut values = Values::default();
    let of = |bucket: &Bucket| {
        values.clear();
        let rows = series.rows(bucket.start, bucket.end);
        series.values_into(Metric::RoundTrip, rows, counting, &mut values);
        let enough = values.len() >= FEWEST_TESTS;
        enough.then(|| percentiles_of(&mut values, &[0.5, 0.95])).flatten()
    };
    buckets.iter().map(of).collect()
}

/// An hour of the week with fewer values says nothing about a pattern.
const FEWEST_OF_AN_HOUR: usize = 3;

fn week(series: &Series, metric: Metric, period: &Period) -> Week {
    let column = series.metric(metric);
    let mut values: [[Values; 24]; 7] = Default::default();
    let mut clock = LocalClock::new(period.timezone());
    for row in series.counted() {
        let Some(value) = column.get(row) else { continue };
        let local = clock.at(series.at(row));
        values[local.weekday()][usize::from(local.hour)].push(value);
    }
    values.map(|day| day.map(|mut hour| (hour.len() >= FEWEST_OF_AN_HOUR).then(|| hour.median()).flatten()))
}

fn stations(series: &Series) -> Stations {
    let mut found = Stations::default();
    let mut delays: BTreeMap<Arc<str>, Values> = BTreeMap::new();
    for row in series.counted() {
        let Some(hops) = series.hops.get(row).and_then(Option::as_ref) else {
            continue;
        };
        found.mails += 1;
        for (place, hop) in hops.iter().enumerate() {
            let name = hop.by.clone().unwrap_or_else(|| "?".into());
            if let Some(delay) = hop.delay.filter(|_| !hop.clock_suspect) {
                delays.entry(Arc::clone(&name)).or_default().push(delay);
            }
            let station = found.stations.entry(name).or_default();
            // A mail may pass a server twice, and is one mail.
            let mut earlier = hops[..place].iter().filter(|earlier| earlier.by == hop.by);
            if earlier.clone().next().is_none() {
                station.mails += 1;
                station.places += place as u64;
            }
            station.suspect += u64::from(hop.clock_suspect && !earlier.any(|earlier| earlier.clock_suspect));
        }
    }
    for (name, delays) in delays {
        if let Some(station) = found.stations.get_mut(&name) {
            station.delays = Packed::of(delays);
        }
    }
    found
}

mod spread {
    //! The spread of a metric over time, in buckets that a chart can show.

    use mailqos_model::{Micros, UtcMicros};

    use mailqos_charts::round_trip::Bucket;
    use mailqos_figures::{Period, Unit, percentiles};
    use mailqos_lake_tables::{Metric, Series};

    /// Values in a bucket below which they are drawn themselves.
    const FEW: usize = 8;
    /// Buckets in a chart at most, unless they are days.
    const MAX_BUCKETS: i64 = 180;
    /// Lengths of buckets to choose from, shorter than a day.
    const STEPS: [Micros; 10] = [
        Micros::from_secs(10),
        Micros::from_secs(60),
        Micros::from_secs(300),
        Micros::from_secs(900),
        Micros::from_secs(1_800),
        Micros::from_secs(3_600),
        Micros::from_secs(7_200),
        Micros::from_secs(10_800),
        Micros::from_secs(21_600),
        Micros::from_secs(43_200),
    ];

    /// The spread over a period, in buckets of a unit; without one, as fine as a chart of the period can show.
    pub(super) fn over(series: &Series, metric: Metric, period: &Period, unit: Option<Unit>) -> Vec<Bucket> {
        let by = |unit: Unit| {
            period
                .buckets(unit)
                .into_iter()
                .map(|bucket| (bucket.start, bucket.end))
        };
        if let Some(unit) = unit {
            return spreads(series, metric, by(unit));
        }
        let rows = series.rows(period.from, period.to);
        let per_bucket = |step: Micros| rows.len() as i64 * step.0 / period.duration().0.max(1);
        let step = STEPS
            .into_iter()
            .find(|step| period.duration().0 / step.0 <= MAX_BUCKETS && per_bucket(*step) >= 12);
        let Some(step) = step else {
            let days = period.duration().0 / 86_400_000_000;
            return spreads(series, metric, by(if days > 800 { Unit::Week } else { Unit::Day }));
        };
        // From a local midnight on, so that edges are round times.
        let start = period.calendar.start_of(Unit::Day, period.from);
        let first = (period.from - start).0 / step.0;
        let edges = (first..)
            .map(|index| (start + Micros(index * step.0), start + Micros((index + 1) * step.0)))
            .take_while(|(from, _)| *from < period.to);
        spreads(series, metric, edges)
    }

    fn spreads(series: &Series, metric: Metric, edges: impl Iterator<Item = (UtcMicros, UtcMicros)>) -> Vec<Bucket> {
        edges
            .filter_map(|(from, to)| {
                let rows = series.rows(from, to);
                let mut values = series.values(metric, rows.clone());
                // Where all tests failed there is no value, but failures to tell of.
                if values.is_empty() && series.counted_in(rows.clone()).next().is_none() {
                    return None;
                }
                let few = values.len() < FEW;
                let points = if few {
                    let column = series.metric(metric);
                    series
                        .counted_in(rows)
                        .filter_map(|row| Some((series.at(row), column.get(row)?.0 as f64)))
                        .collect()
                } else {
                    Vec::new()
                };
                let count = values.len() as u64;
                let spread = (!few)
                    .then(|| percentiles(&mut values, &[0.05, 0.5, 0.95]))
                    .and_then(|values| values.try_into().ok());
                Some(Bucket {
                    start: from.0,
                    end: to.0,
                    count,
                    spread,
                    points,
                })
            })
            .collect()
    }
}
