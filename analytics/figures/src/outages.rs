//! Outages, downtime, unknown time and coverage: the state of each stretch of time between tests.
//!
//! The time from one test to the next belongs to the first of the two. It is *unknown* if it is
//! longer than three test intervals. An outage lasts from a failed test to the next good one,
//! including unknown time; its downtime only counts known time. A test in maintenance starts no
//! outage, but a good one ends it.

use mailqos_lake_tables::Series;
use mailqos_model::{Micros, Outcome, UtcMicros};

use super::periods::Period;

/// Used if the lake, the configuration and the samples don't provide an interval: a single test has
/// none.
const DEFAULT_INTERVAL: Micros = Micros::from_secs(300);

/// State of a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// After a good test.
    Up,
    /// After a failed test.
    Down,
    /// After a test in maintenance or with a simulated failure: known, but neither up nor down.
    Excluded,
    /// Without tests for more than three test intervals.
    Unknown,
}

/// A stretch of time in one state, within the period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateSpan {
    /// Its state.
    pub state: State,
    /// Its start.
    pub from: UtcMicros,
    /// Its end, exclusive.
    pub to: UtcMicros,
}

/// An outage, from the first failed test to the next good one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// When the first failed test began; this may be before the period.
    pub from: UtcMicros,
    /// When the next good test began; `None` if there is none yet.
    pub to: Option<UtcMicros>,
    /// Known time of the outage in the period.
    pub downtime: Micros,
    /// Number of counted tests that failed in it, including context.
    pub failed_tests: u64,
    /// The row of its first failed test.
    pub row: usize,
    /// Whether samples don't reach back far enough to show when it began, so that it may be longer.
    pub began_earlier: bool,
}

impl Outage {
    /// Returns the duration from the first failed test to the next good one; `None` if it
    /// continues.
    pub fn duration(&self) -> Option<Micros> {
        self.to.map(|to| to - self.from)
    }
}

/// The time of a period by state, and its outages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    /// All stretches, in order, without gaps; neighbours differ.
    pub stretches: Vec<StateSpan>,
    /// The outages that touch the period.
    pub outages: Vec<Outage>,
    /// Length of the period.
    pub period: Micros,
    /// Time up.
    pub up: Micros,
    /// Time down: the sum of the known times of outages in the period.
    pub downtime: Micros,
    /// Time in maintenance.
    pub excluded: Micros,
    /// Time without tests for more than three test intervals.
    pub unknown: Micros,
}

impl Timeline {
    /// Computes the timeline of a series whose inside matches the period. Samples before and after
    /// the period (context) determine outages that cross its limits.
    ///
    /// `configured` is the monitor's test interval, for samples that have none.
    pub fn of(series: &Series, period: &Period, configured: Option<Micros>) -> Self {
        let mut tests = rows_of_tests(series).peekable();
        let mut fallback = configured;
        let mut timeline = Self {
            stretches: Vec::new(),
            outages: Vec::new(),
            period: period.duration(),
            up: Micros::ZERO,
            downtime: Micros::ZERO,
            excluded: Micros::ZERO,
            unknown: Micros::ZERO,
        };
        let mut open: Option<Outage> = None;
        let first = tests.peek().copied();
        let began = first.map_or(period.to, |row| series.at(row));
        timeline.add(State::Unknown, period.from, began, period);
        while let Some(row) = tests.next() {
            let at = series.at(row);
            let ok = series.outcome[row] == Outcome::Ok;
            if ok && let Some(mut outage) = open.take() {
                outage.to = Some(at);
                timeline.close(outage, period);
            }
            let counts = series.exclusion(row).is_none();
            if !ok && counts {
                open.get_or_insert(Outage {
                    from: at,
                    to: None,
                    downtime: Micros::ZERO,
                    failed_tests: 0,
                    row,
                    began_earlier: first == Some(row) && at < period.from,
                })
                .failed_tests += 1;
            }
            let next = tests.peek().map(|row| series.at(*row));
            let interval = series.test_interval.get(row).filter(|i| i.0 > 0).unwrap_or_else(|| {
                *fallback.get_or_insert_with(|| usual_interval(series).unwrap_or(DEFAULT_INTERVAL))
            });
            let limit = Micros(interval.0.saturating_mul(3));
            // A test determines the state only until the next one could still start in time.
            let end = next.unwrap_or(period.to.max(at));
            let state = if end - at > limit {
                State::Unknown
            } else if !counts {
                State::Excluded
            } else if ok {
                State::Up
            } else {
                State::Down
            };
            if state == State::Down
                && let Some(outage) = &mut open
            {
                outage.downtime = outage.downtime + clipped(at, end, period);
            }
            timeline.add(state, at, end, period);
        }
        if let Some(outage) = open {
            timeline.close(outage, period);
        }
        timeline
    }

    fn add(&mut self, state: State, from: UtcMicros, to: UtcMicros, period: &Period) {
        let (from, to) = (from.max(period.from), to.min(period.to));
        if from >= to {
            return;
        }
        let sum = match state {
            State::Up => &mut self.up,
            State::Down => &mut self.downtime,
            State::Excluded => &mut self.excluded,
            State::Unknown => &mut self.unknown,
        };
        *sum = *sum + (to - from);
        match self.stretches.last_mut() {
            Some(last) if last.state == state && last.to == from => last.to = to,
            _ => self.stretches.push(StateSpan { state, from, to }),
        }
    }

    fn close(&mut self, outage: Outage, period: &Period) {
        if outage.from < period.to && outage.to.is_none_or(|to| to > period.from) {
            self.outages.push(outage);
        }
    }

    /// Returns known time / period.
    pub fn coverage(&self) -> f64 {
        (self.period - self.unknown).0 as f64 / self.period.0 as f64
    }

    /// Returns the availability by time: up / (up + down); `None` if neither is known.
    pub fn availability(&self) -> Option<f64> {
        let counted = (self.up + self.downtime).0;
        (counted > 0).then(|| self.up.0 as f64 / counted as f64)
    }

    /// Returns the outage with the greatest downtime in the period.
    pub fn longest(&self) -> Option<&Outage> {
        self.outages.iter().max_by_key(|outage| outage.downtime)
    }

    /// Returns the mean time to recovery: the mean duration of the outages that ended; `None` if
    /// none did.
    pub fn mttr(&self) -> Option<Micros> {
        let ended: Vec<i64> =
            self.outages.iter().filter_map(Outage::duration).map(|d| d.0).collect();
        let sum: i128 = ended.iter().map(|d| i128::from(*d)).sum();
        (!ended.is_empty()).then(|| Micros((sum / ended.len() as i128) as i64))
    }

    /// Returns the mean time between failures: time up / number of outages; `None` without an
    /// outage.
    pub fn mtbf(&self) -> Option<Micros> {
        let count = self.outages.len() as i64;
        (count > 0).then(|| Micros(self.up.0 / count))
    }
}

fn clipped(from: UtcMicros, to: UtcMicros, period: &Period) -> Micros {
    let (from, to) = (from.max(period.from), to.min(period.to));
    if to > from { to - from } else { Micros::ZERO }
}

fn rows_of_tests(series: &Series) -> impl Iterator<Item = usize> {
    (0..series.len()).filter(|row| series.outcome[*row] != Outcome::NotTested)
}

/// Estimates the test interval as the median time between tests.
fn usual_interval(series: &Series) -> Option<Micros> {
    let moments = || rows_of_tests(series).map(|row| series.started_at[row]);
    let mut gaps: Vec<i64> =
        moments().zip(moments().skip(1)).map(|(before, after)| after - before).collect();
    if gaps.is_empty() {
        return None;
    }
    let middle = gaps.len() / 2;
    Some(Micros(*gaps.select_nth_unstable(middle).1))
}
