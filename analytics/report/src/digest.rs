//! Figures that sections need, computed while the lake is read, one monitor at a time: the samples
//! of a thousand monitors over a year would not fit into memory together.
//!
//! A section declares its needs in advance ([`Need`]). Each is computed once, however many sections
//! share it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
};

use mailqos_base::lock::IgnorePoison as _;
use mailqos_charts::round_trip::{self, Failure, Kind};
use mailqos_figures::{
    Bucket, Counts, Deliverability, DeliveredPercentile, Distribution, MailShare, Packed, Period,
    Timeline, Unit,
    deliverability::Judge,
    local_clock::LocalClock,
    patterns::{self, Answers},
    percentiles::{CONTRACT, distribution_of, percentiles_of},
    share_changes::{self, Day, ShareChange},
    significance::LEVEL,
};
use mailqos_lake_tables::{Column, Metric, Series, Values, has_mails};
use mailqos_model::{Micros, Outcome, Stage, UtcMicros};

/// Shares of mails whose changes are findings: those that have a cause that someone can remove.
pub const WATCHED: [MailShare; 5] = [
    MailShare::JunkRate,
    MailShare::SpfPass,
    MailShare::DkimPass,
    MailShare::DmarcPass,
    MailShare::FirstAttempt,
];

/// A figure to compute from the samples of each monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Count, extremes, mean and percentiles of a metric.
    Figures(Metric),
    /// All values of a metric.
    Values(Metric),
    /// Spread of a metric over the part of the period that has samples, at the resolution of a
    /// chart.
    Spread(Metric),
    /// Spread of a metric over the whole period, at the resolution of a chart.
    WholeSpread(Metric),
    /// Spread of a metric over the whole period, by hour, day or week.
    Line(Metric),
    /// Number of failed tests in each hour or day; `None` for the unit that a strip of the period
    /// uses.
    Tests(Option<Unit>),
    /// Availability and round trip over time, for sparklines.
    Sparks,
    /// Median of a metric by hour and weekday.
    Week(Metric),
    /// Servers that mails passed.
    PassedServers,
    /// Statistically significant patterns.
    Patterns,
    /// Deliverability, its course and its changes.
    Mails,
}

/// Needs of all sections of a report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs(BTreeSet<Need>);

impl Needs {
    /// Adds a need.
    pub fn add(&mut self, need: Need) {
        self.0.insert(need);
    }

    /// Returns whether a need is included.
    pub fn has(&self, need: Need) -> bool {
        self.0.contains(&need)
    }

    /// Returns the required metrics, including those covered by the hash of the samples.
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
            Need::Tests(_) | Need::PassedServers | Need::Mails => &[],
        });
        asked.copied().chain(Metric::CONTRACT).collect()
    }

    /// Returns whether the receipts of mails are required.
    pub(super) fn receipts(&self) -> bool {
        self.has(Need::Mails)
    }

    /// Returns the other required columns.
    pub(super) fn columns(&self) -> Vec<Column> {
        let mut columns = vec![
            Column::Stage,
            Column::Error,
            Column::TestInterval,
            Column::MaxRoundTrip,
            Column::Unverified,
        ];
        if self.has(Need::Patterns) || self.has(Need::PassedServers) {
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
/// Minimum lengths of periods whose lines have a point per day and per week: lines show the course
/// of the period, not daily patterns.
const LONG: Micros = Micros::from_secs(10 * 86_400);
/// Minimum length of periods whose lines and sparklines have a point per week.
const VERY_LONG: Micros = Micros::from_secs(200 * 86_400);
/// Maximum length of periods whose sparklines have a value per hour.
const BRIEF: Micros = Micros::from_secs(4 * 86_400);

/// Returns the default unit of the cells of a strip.
pub(super) fn cell_of(period: &Period) -> Unit {
    if period.duration() <= SHORT { Unit::Hour } else { Unit::Day }
}

/// Returns the unit of the points of a line.
pub(super) fn line_of(period: &Period) -> Unit {
    match period.duration() {
        length if length < LONG => Unit::Hour,
        length if length < VERY_LONG => Unit::Day,
        _ => Unit::Week,
    }
}

/// Returns the unit of the values of a sparkline.
pub(super) fn spark_of(period: &Period) -> Unit {
    match period.duration() {
        length if length < BRIEF => Unit::Hour,
        length if length < VERY_LONG => Unit::Day,
        _ => Unit::Week,
    }
}

/// Buckets of periods, shared by all monitors: computing the hours of a year takes as long as
/// drawing them.
#[derive(Debug, Default)]
pub(super) struct Buckets(Mutex<HashMap<Grid, Arc<[Bucket]>>>);

/// A period and its unit of division.
type Grid = (UtcMicros, UtcMicros, Unit);

impl Buckets {
    /// Returns the buckets of a period.
    pub(super) fn of(&self, period: &Period, unit: Unit) -> Arc<[Bucket]> {
        let mut known = self.0.lock().ignore_poison();
        let buckets = known
            .entry((period.from, period.to, unit))
            .or_insert_with(|| period.buckets(unit).into());
        Arc::clone(buckets)
    }
}

/// Figures of a metric of a monitor.
#[derive(Debug, Clone)]
pub struct Figures {
    /// Count, extremes, mean, and p50, p90, p95 and p99 with confidence intervals.
    pub distribution: Distribution,
    /// p99 over all tests, if needed.
    pub delivered: Option<DeliveredPercentile>,
}

/// Number of tests in a part of the period.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Counted tests.
    pub tests: u32,
    /// Failed tests among them.
    pub failed: u32,
    /// Whether tests were excluded because of maintenance.
    pub maintenance: bool,
}

/// Tallies of the parts of a period, run-length encoded, because most hours of a year are equal.
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

/// Cause of an outage: the failure of its first test.
#[derive(Debug, Clone)]
pub struct Cause {
    /// Stage of the failure.
    pub stage: Option<Stage>,
    /// Error message, in one line.
    pub error: Option<Arc<str>>,
    /// Outcome of the test.
    pub outcome: Outcome,
    /// Round trip, if the mail arrived.
    pub round_trip: Option<Micros>,
}

/// A server that mails passed.
#[derive(Debug, Clone, Default)]
pub struct PassedServer {
    /// Number of mails.
    pub mails: u64,
    /// Number of these mails with implausible times.
    pub suspect: u64,
    /// Sum of its first positions in the paths, for listing servers in the order of delivery.
    pub places: u64,
    /// Times since the previous server, in microseconds.
    pub delays: Packed,
}

/// Servers that the mails of a monitor passed.
#[derive(Debug, Clone, Default)]
pub struct PassedServers {
    /// Number of mails with a known path.
    pub mails: u64,
    /// Servers by name.
    pub stations: BTreeMap<Arc<str>, PassedServer>,
}

/// Significance level of a change of a share: that of all changes together, corrected for five
/// shares of each of a thousand monitors.
const CHANGE_LEVEL: f64 = LEVEL / 5_000.0;

/// Deliverability of the mails of a monitor.
#[derive(Debug, Clone, Default)]
pub struct MailDigest {
    /// Figures of the whole period.
    pub total: Deliverability,
    /// Qualifying and known mails of each watched share in each part of a sparkline's period.
    pub course: BTreeMap<MailShare, Vec<(u32, u32)>>,
    /// Lasting changes of each watched share.
    pub changes: BTreeMap<MailShare, Vec<ShareChange>>,
}

/// Median and p95 of the round trip in each part of the period with enough values.
type Sparks = Vec<Option<[f64; 2]>>;
/// Medians by weekday from Monday and by local hour.
pub type Week = [[Option<f64>; 24]; 7];

/// Computed figures of one monitor.
#[derive(Debug, Default)]
pub struct Digest {
    /// Start of the first and of the last test of the period.
    pub seen: Option<(UtcMicros, UtcMicros)>,
    /// Failed counted tests, in chronological order.
    pub failures: Vec<Failure>,
    /// Start times of counted tests whose mail may still arrive late.
    pub provisional: Vec<UtcMicros>,
    /// Servers that mails passed.
    pub stations: PassedServers,
    /// Deliverability, if needed and the tests send mails ([`Need::Mails`]).
    pub mails: Option<Box<MailDigest>>,
    /// Candidates for patterns, until they are compared with those of the other monitors.
    pub(super) answers: Option<Answers>,
    causes: HashMap<usize, Cause>,
    figures: BTreeMap<Metric, Option<Figures>>,
    values: BTreeMap<Metric, Packed>,
    spreads: BTreeMap<(Metric, UtcMicros, UtcMicros, Option<Unit>), Vec<round_trip::Bucket>>,
    tallies: HashMap<Grid, Tallies>,
    sparks: Sparks,
    weeks: BTreeMap<Metric, Week>,
}

/// Figures to compute from the samples of a monitor.
#[derive(Debug, Clone, Copy)]
pub(super) struct DigestRequest<'a> {
    /// Needs of the sections.
    pub(super) needs: &'a Needs,
    /// Elapsed part of the period.
    pub(super) passed: &'a Period,
    /// Buckets shared by all monitors.
    pub(super) buckets: &'a Buckets,
}

impl Digest {
    /// Computes all needed figures from the samples of a monitor.
    pub(super) fn of(series: &Series, timeline: &Timeline, asked: DigestRequest<'_>) -> Self {
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
                        digest.tally(
                            series,
                            period,
                            unit.unwrap_or_else(|| cell_of(period)),
                            asked,
                        );
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
                Need::PassedServers => digest.stations = stations(series),
                Need::Patterns => digest.answers = Some(patterns::ask(series, passed)),
                Need::Mails if has_mails(series.kind.as_deref()) => {
                    digest.mails = Some(Box::new(mails(series, asked)));
                }
                Need::Mails => {}
            }
        }
        digest
    }

    fn spread(&mut self, series: &Series, metric: Metric, period: &Period, unit: Option<Unit>) {
        self.spreads
            .entry((metric, period.from, period.to, unit))
            .or_insert_with(|| spread::over(series, metric, period, unit));
    }

    fn tally(&mut self, series: &Series, period: &Period, unit: Unit, asked: DigestRequest<'_>) {
        self.tallies
            .entry((period.from, period.to, unit))
            .or_insert_with(|| Tallies::of(series, &asked.buckets.of(period, unit)));
    }

    /// Returns the period or, if the samples cover less than a tenth of it, the covered part.
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

    /// Returns the figures of a metric ([`Need::Figures`]); `None` if it has no values.
    pub fn figures(&self, metric: Metric) -> Option<&Figures> {
        debug_assert!(self.figures.contains_key(&metric), "no section asked for {metric}");
        self.figures.get(&metric)?.as_ref()
    }

    /// Returns p50, p90, p95 and p99 of a metric ([`Need::Figures`]); `None` if it has no values.
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

    /// Returns the spread of a metric over time ([`Need::Spread`], [`Need::WholeSpread`],
    /// [`Need::Line`]).
    pub fn spread_over(
        &self,
        metric: Metric,
        period: &Period,
        unit: Option<Unit>,
    ) -> &[round_trip::Bucket] {
        let key = (metric, period.from, period.to, unit);
        debug_assert!(self.spreads.contains_key(&key), "no section asked for {metric}");
        self.spreads.get(&key).map_or(&[], Vec::as_slice)
    }

    /// Returns the number of tests in each part of a period ([`Need::Tests`], [`Need::Sparks`]).
    pub fn tests(&self, period: &Period, unit: Unit) -> impl Iterator<Item = Tally> + '_ {
        let known = self.tallies.get(&(period.from, period.to, unit));
        debug_assert!(known.is_some(), "no section asked for tests by {unit:?}");
        known.into_iter().flat_map(Tallies::iter)
    }

    /// Returns median and p95 of the round trip in each part of a sparkline's period
    /// ([`Need::Sparks`]).
    pub fn sparks(&self) -> &[Option<[f64; 2]>] {
        &self.sparks
    }

    /// Returns the median of a metric by hour and weekday ([`Need::Week`]).
    pub fn week(&self, metric: Metric) -> Week {
        debug_assert!(self.weeks.contains_key(&metric), "no section asked for {metric}");
        self.weeks.get(&metric).copied().unwrap_or_default()
    }

    /// Returns the cause of an outage, by the row of its first failed test.
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
    Some(Figures { distribution, delivered: delivered.pop() })
}

fn mails(series: &Series, asked: DigestRequest<'_>) -> MailDigest {
    let judge = Judge::new(series);
    let mut digest = MailDigest {
        total: Deliverability::of(&judge, series.inside.clone()),
        ..MailDigest::default()
    };
    let tally = |share: MailShare, bucket: &Bucket| {
        let rows = series.counted_in(series.rows(bucket.start, bucket.end));
        let judged = rows.filter_map(|row| judge.judge(share, row));
        judged.fold((0_u32, 0_u32), |(part, whole), is_in| (part + u32::from(is_in), whole + 1))
    };
    let parts = asked.buckets.of(asked.passed, spark_of(asked.passed));
    let days = asked.buckets.of(asked.passed, Unit::Day);
    for share in WATCHED {
        if digest.total.share(share).is_none() {
            continue;
        }
        let course = parts.iter().map(|bucket| tally(share, bucket)).collect();
        digest.course.insert(share, course);
        let days: Vec<Day> = days
            .iter()
            .map(|bucket| {
                let (part, whole) = tally(share, bucket);
                Day { at: bucket.start, part: part.into(), whole: whole.into() }
            })
            .collect();
        digest.changes.insert(share, share_changes::changes(&days, CHANGE_LEVEL));
    }
    digest
}

/// Returns the failed counted tests.
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

/// Minimum number of values for percentiles.
const MIN_TESTS: usize = 8;

fn sparks(series: &Series, buckets: &[Bucket], counting: &[bool]) -> Sparks {
    let mut values = Values::default();
    let of = |bucket: &Bucket| {
        values.clear();
        let rows = series.rows(bucket.start, bucket.end);
        series.values_into(Metric::RoundTrip, rows, counting, &mut values);
        let enough = values.len() >= MIN_TESTS;
        enough.then(|| percentiles_of(&mut values, &[0.5, 0.95])).flatten()
    };
    buckets.iter().map(of).collect()
}

/// Minimum number of values for an hour of the week.
const MIN_OF_AN_HOUR: usize = 3;

fn week(series: &Series, metric: Metric, period: &Period) -> Week {
    let column = series.metric(metric);
    let mut values: [[Values; 24]; 7] = Default::default();
    let mut clock = LocalClock::new(period.timezone());
    for row in series.counted() {
        let Some(value) = column.get(row) else {
            continue;
        };
        let local = clock.at(series.at(row));
        values[local.weekday()][usize::from(local.hour)].push(value);
    }
    values.map(|day| {
        day.map(|mut hour| (hour.len() >= MIN_OF_AN_HOUR).then(|| hour.median()).flatten())
    })
}

fn stations(series: &Series) -> PassedServers {
    let mut found = PassedServers::default();
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
            // A mail that passes a server twice counts once.
            let mut earlier = hops[..place].iter().filter(|earlier| earlier.by == hop.by);
            if earlier.clone().next().is_none() {
                station.mails += 1;
                station.places += place as u64;
            }
            station.suspect +=
                u64::from(hop.clock_suspect && !earlier.any(|earlier| earlier.clock_suspect));
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
    //! Spread of a metric over time, in buckets for charts.

    use mailqos_model::{Micros, UtcMicros};

    use mailqos_charts::round_trip::Bucket;
    use mailqos_figures::{Period, Unit, percentiles};
    use mailqos_lake_tables::{Metric, Series};

    /// Number of values in a bucket below which they are drawn individually.
    const FEW: usize = 8;
    /// Maximum number of buckets in a chart, unless they are days.
    const MAX_BUCKETS: i64 = 180;
    /// Available lengths of buckets shorter than a day.
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

    /// Returns the spread over a period in buckets of a unit; without a unit, at the resolution of
    /// a chart.
    pub(super) fn over(
        series: &Series,
        metric: Metric,
        period: &Period,
        unit: Option<Unit>,
    ) -> Vec<Bucket> {
        let by =
            |unit: Unit| period.buckets(unit).into_iter().map(|bucket| (bucket.start, bucket.end));
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
        // Buckets start at local midnight, so their edges are round times.
        let start = period.calendar.start_of(Unit::Day, period.from);
        let first = (period.from - start).0 / step.0;
        let edges = (first..)
            .map(|index| (start + Micros(index * step.0), start + Micros((index + 1) * step.0)))
            .take_while(|(from, _)| *from < period.to);
        spreads(series, metric, edges)
    }

    fn spreads(
        series: &Series,
        metric: Metric,
        edges: impl Iterator<Item = (UtcMicros, UtcMicros)>,
    ) -> Vec<Bucket> {
        edges
            .filter_map(|(from, to)| {
                let rows = series.rows(from, to);
                let mut values = series.values(metric, rows.clone());
                // If all tests failed, there are no values, but failures to show.
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
                Some(Bucket { start: from.0, end: to.0, count, spread, points })
            })
            .collect()
    }
}
