//! The figures of `stats`: counts, availability by tests and by time, and the metrics of each
//! bucket, for one series or for several series together.

mod pool;

use std::{ops::Range, sync::Arc};

use mailqos_lake_tables::{Metric, Series, Values, has_mails};
use mailqos_model::{Micros, UtcMicros};

use super::{
    availability::{Counts, share},
    deliverability::{Deliverability, Judge},
    delivered_within::LIMITS,
    outages::{State, Timeline},
    percentiles::{DeliveredPercentile, Distribution, distribution_of},
    periods::{Bucket, Period, Unit},
};
pub use pool::{Orders, PartialGroup, Pool, Share};

/// What figures are about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Subject {
    /// The site; `None` for several.
    #[serde(with = "crate::wire::shared_text")]
    pub site: Option<Arc<str>>,
    /// The monitor; `None` for several.
    #[serde(with = "crate::wire::shared_text")]
    pub monitor: Option<Arc<str>>,
    /// The object or the tag; `None` if figures are not grouped by these, or the monitor has none.
    #[serde(with = "crate::wire::shared_text")]
    pub group: Option<Arc<str>>,
    /// The kind of the tests; `None` is `mail-qos`.
    #[serde(with = "crate::wire::shared_text")]
    pub kind: Option<Arc<str>>,
}

/// The figures of one bucket.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Row {
    /// What they are about.
    pub whose: Subject,
    /// Start of the bucket; `None` for the whole period.
    pub bucket: Option<UtcMicros>,
    /// Number of monitors.
    pub monitors: u64,
    /// Number of tests with each outcome.
    pub counts: Counts,
    /// Number of counted tests whose mail arrived within each of [`LIMITS`].
    pub within: [u64; LIMITS.len()],
    /// Figures about time.
    pub time: Time,
    /// The requested metrics in the order of the request, over their non-null values; `None` if
    /// there are none.
    pub metrics: Vec<Option<Distribution>>,
    /// Each percentile of the round trip over all counted tests; empty without a counted test, or
    /// without the round trip.
    pub delivered: Vec<DeliveredPercentile>,
    /// Counts and times as if maintenance that was declared afterwards had been planned; `None` if
    /// no counted test is concerned.
    pub declared: Option<(Counts, Time)>,
    /// Deliverability, if requested.
    pub mails: Option<Box<Deliverability>>,
}

impl Row {
    /// Returns counts and times as if maintenance that was declared afterwards had been planned.
    pub fn excluding_declared(&self) -> (&Counts, &Time) {
        match &self.declared {
            Some((counts, time)) => (counts, time),
            None => (&self.counts, &self.time),
        }
    }

    /// Returns the number of counted tests in maintenance that was declared afterwards.
    pub fn declared_tests(&self) -> u64 {
        self.counts.tests() - self.excluding_declared().0.tests()
    }

    /// Returns the known time in maintenance that was declared afterwards.
    pub fn declared_time(&self) -> Micros {
        self.excluding_declared().1.excluded - self.time.excluded
    }

    /// Returns the share of counted tests whose mail arrived; `None` if the tests are not about
    /// mails.
    pub fn delivery_rate(&self) -> Option<f64> {
        self.of_mails(self.counts.delivery_rate())
    }

    /// Returns the share of counted tests whose mail arrived within a limit: one of [`LIMITS`] by
    /// its index, or max round trip.
    pub fn delivered_within(&self, limit: Option<usize>) -> Option<f64> {
        let within = limit.map_or(Some(self.counts.ok), |index| self.within.get(index).copied())?;
        self.of_mails(share(within, self.counts.tests()))
    }

    /// Returns a value about mails, if the tests are about mails.
    pub fn of_mails<T>(&self, value: Option<T>) -> Option<T> {
        value.filter(|_| has_mails(self.whose.kind.as_deref()))
    }
}

/// Availability by time of one monitor, or the sum of several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Time {
    /// Length of the part of the bucket in the period, once for each monitor.
    pub length: Micros,
    /// Time up.
    pub up: Micros,
    /// The known parts of outages.
    pub downtime: Micros,
    /// Time in maintenance.
    pub excluded: Micros,
    /// Time without tests for more than three test intervals.
    pub unknown: Micros,
    /// Number of outages that overlap it.
    pub outages: u64,
    /// Longest known part of an outage in it.
    pub longest: Option<Micros>,
    /// Number of outages that ended.
    ended: u64,
    /// Total duration of those, from the first failed test to the next good one.
    lasted: Micros,
}

impl Time {
    /// Returns known time / length.
    pub fn coverage(&self) -> Option<f64> {
        (self.length.0 > 0).then(|| (self.length - self.unknown).0 as f64 / self.length.0 as f64)
    }

    /// Returns the availability by time: up / (up + down); `None` if neither is known.
    pub fn availability(&self) -> Option<f64> {
        let counted = (self.up + self.downtime).0;
        (counted > 0).then(|| self.up.0 as f64 / counted as f64)
    }

    /// Returns the mean time to recovery: the mean duration of the outages that ended; `None` if
    /// none did.
    pub fn mttr(&self) -> Option<Micros> {
        (self.ended > 0).then(|| Micros(self.lasted.0 / self.ended as i64))
    }

    /// Returns the mean time between failures: time up / number of outages; `None` without an
    /// outage.
    pub fn mtbf(&self) -> Option<Micros> {
        (self.outages > 0).then(|| Micros(self.up.0 / self.outages as i64))
    }

    fn add(&mut self, other: &Self) {
        self.length = self.length + other.length;
        self.up = self.up + other.up;
        self.downtime = self.downtime + other.downtime;
        self.excluded = self.excluded + other.excluded;
        self.unknown = self.unknown + other.unknown;
        self.outages += other.outages;
        self.longest = self.longest.max(other.longest);
        self.ended += other.ended;
        self.lasted = self.lasted + other.lasted;
    }

    /// Computes the figures of each bucket, in order; buckets follow each other without gaps.
    fn of(timeline: &Timeline, buckets: &[Bucket], period: &Period) -> Vec<Self> {
        let mut times: Vec<Self> = buckets
            .iter()
            .map(|bucket| Self {
                length: Micros(
                    (bucket.end.min(period.to) - bucket.start.max(period.from)).0.max(0),
                ),
                ..Self::default()
            })
            .collect();
        let first_of = |at: UtcMicros| buckets.partition_point(|bucket| bucket.end <= at);
        for stretch in &timeline.stretches {
            for (bucket, time) in buckets.iter().zip(&mut times).skip(first_of(stretch.from)) {
                if bucket.start >= stretch.to {
                    break;
                }
                let part = stretch.to.min(bucket.end) - stretch.from.max(bucket.start);
                let sum = match stretch.state {
                    State::Up => &mut time.up,
                    State::Down => &mut time.downtime,
                    State::Excluded => &mut time.excluded,
                    State::Unknown => &mut time.unknown,
                };
                *sum = *sum + part;
            }
        }
        let mut down =
            timeline.stretches.iter().filter(|stretch| stretch.state == State::Down).peekable();
        for outage in &timeline.outages {
            let (from, to) =
                (outage.from.max(period.from), outage.to.unwrap_or(period.to).min(period.to));
            let mut parts = Vec::new();
            while let Some(stretch) = down.next_if(|stretch| stretch.from < to) {
                parts.push(*stretch);
            }
            for (bucket, time) in buckets.iter().zip(&mut times).skip(first_of(from)) {
                if bucket.start >= to {
                    break;
                }
                time.outages += 1;
                if let Some(duration) = outage.duration() {
                    time.ended += 1;
                    time.lasted = time.lasted + duration;
                }
                let known = parts
                    .iter()
                    .map(|part| (part.to.min(bucket.end).0 - part.from.max(bucket.start).0).max(0))
                    .sum();
                time.longest = time.longest.max(Some(Micros(known)));
            }
        }
        times
    }
}

/// Which figures to compute for each series.
#[derive(Debug, Clone)]
pub struct FiguresQuery {
    /// The whole period.
    pub period: Period,
    /// The time of the question.
    pub now: UtcMicros,
    /// Its part so far: the future is not unknown. `None` if it is entirely in the future.
    pub past: Option<Period>,
    /// Unit that the period is divided into; undivided without one.
    pub by: Option<Unit>,
    /// The metrics.
    pub metrics: Vec<Metric>,
    /// The quantiles, in [0, 1].
    pub qs: Vec<f64>,
    /// Whether deliverability is needed, for which receipts must be read.
    pub receipts: bool,
    buckets: Vec<Bucket>,
}

impl FiguresQuery {
    /// Creates the question for a period, as seen at `now`.
    pub fn new(
        period: Period,
        now: UtcMicros,
        by: Option<Unit>,
        metrics: &[Metric],
        qs: &[f64],
    ) -> Self {
        let whole = Bucket { start: period.from, end: period.to };
        Self {
            now,
            past: period.until(now),
            buckets: by.map_or_else(|| vec![whole], |unit| period.buckets(unit)),
            period,
            by,
            metrics: metrics.to_vec(),
            qs: qs.to_vec(),
            receipts: false,
        }
    }

    /// Adds deliverability, if `wanted`.
    #[must_use]
    pub fn with_receipts(mut self, wanted: bool) -> Self {
        self.receipts = wanted;
        self
    }

    /// Returns the parts of each bucket with samples, or of all buckets, with the result of `make`
    /// for the values of each metric.
    fn parts<V>(
        &self,
        series: &Series,
        all: bool,
        mut of: impl FnMut(&Part, Metric, &mut Values) -> V,
    ) -> Vec<(Part, Vec<V>)> {
        if series.inside.is_empty() {
            return Vec::new();
        }
        let times = self
            .past
            .as_ref()
            .map(|past| Time::of(&Timeline::of(series, past, None), &self.buckets, past));
        let without = series.without_declared();
        let times_without = without.as_ref().and_then(|series| {
            let past = self.past.as_ref()?;
            Some(Time::of(&Timeline::of(series, past, None), &self.buckets, past))
        });
        let counting = series.counting();
        let judge = self.receipts.then(|| Judge::new(series));
        let mut values = Values::default();
        let mut row = series.inside.start;
        let mut parts = Vec::new();
        for (index, bucket) in self.buckets.iter().enumerate() {
            let inside = &series.started_at[row..series.inside.end];
            let rows = row..row + inside.partition_point(|at| *at < bucket.end.0);
            row = rows.end;
            if rows.is_empty() && !all {
                continue;
            }
            let mut part = Part {
                bucket: self.by.map(|_| bucket.start),
                has_samples: !rows.is_empty(),
                counts: Counts::of(series, rows.clone()),
                within: [0; LIMITS.len()],
                time: times
                    .as_ref()
                    .and_then(|times| times.get(index).copied())
                    .unwrap_or_default(),
                declared: None,
                mails: judge.map(|judge| Box::new(Deliverability::of(&judge, rows.clone()))),
            };
            if let Some(series) = &without {
                let counts = Counts::of(series, rows.clone());
                let times = times_without.as_ref();
                let time = times.and_then(|times| times.get(index).copied()).unwrap_or_default();
                if (counts, time) != (part.counts, part.time) {
                    part.declared = Some((counts, time));
                }
            }
            let of_metrics = self
                .metrics
                .iter()
                .map(|metric| {
                    values.clear();
                    series.values_into(*metric, rows.clone(), &counting, &mut values);
                    if *metric == Metric::RoundTrip {
                        part.within = LIMITS.map(|limit| values.up_to(limit));
                    }
                    of(&part, *metric, &mut values)
                })
                .collect();
            parts.push((part, of_metrics));
        }
        parts
    }

    /// Returns the figures of each bucket of a series that has samples.
    pub fn rows(&self, series: &Series) -> Vec<Row> {
        let mut delivered: Vec<DeliveredPercentile> = Vec::new();
        let mut all_delivered = Vec::new();
        let parts = self.parts(series, false, |part, metric, values| {
            let round_trip = metric == Metric::RoundTrip && has_mails(series.kind.as_deref());
            let figures =
                self.distribution(values, round_trip.then_some((&part.counts, &mut delivered)));
            if metric == Metric::RoundTrip {
                all_delivered.push(std::mem::take(&mut delivered));
            }
            figures
        });
        let mut all_delivered = all_delivered.into_iter();
        parts
            .into_iter()
            .map(|(part, metrics)| Row {
                whose: Subject {
                    site: Some(Arc::clone(&series.site)),
                    monitor: Some(Arc::clone(&series.monitor)),
                    group: None,
                    kind: series.kind.clone(),
                },
                bucket: part.bucket,
                monitors: 1,
                counts: part.counts,
                within: part.within,
                time: part.time,
                metrics,
                delivered: all_delivered.next().unwrap_or_default(),
                declared: part.declared,
                mails: part.mails,
            })
            .collect()
    }

    fn distribution(
        &self,
        values: &mut Values,
        round_trip: Option<(&Counts, &mut Vec<DeliveredPercentile>)>,
    ) -> Option<Distribution> {
        let Some((counts, delivered)) = round_trip else {
            return distribution_of(values, &self.qs, None);
        };
        let tests = counts.tests() as usize;
        let found = distribution_of(values, &self.qs, Some((tests, &mut *delivered)));
        if found.is_none() {
            self.none_delivered(tests, delivered);
        }
        found
    }

    /// Adds the percentiles over all tests if no mail was delivered.
    fn none_delivered(&self, tests: usize, delivered: &mut Vec<DeliveredPercentile>) {
        if tests > 0 {
            delivered.resize(self.qs.len(), DeliveredPercentile::NotDelivered);
        }
    }

    /// Returns the values of each metric in each bucket with samples, without other figures.
    pub fn values(&self, series: &Series) -> Vec<(Option<UtcMicros>, Vec<Values>)> {
        let counting = series.counting();
        let values = |rows: Range<usize>, metric: &Metric| {
            let mut values = Values::default();
            series.values_into(*metric, rows, &counting, &mut values);
            values
        };
        let buckets = self.buckets.iter().filter_map(|bucket| {
            let rows = series.rows(bucket.start.max(self.period.from), bucket.end);
            let each = self.metrics.iter().map(|metric| values(rows.clone(), metric));
            (!rows.is_empty()).then(|| (self.by.map(|_| bucket.start), each.collect()))
        });
        buckets.collect()
    }

    /// Returns the contribution of a series to figures of several, which [`Pool`] combines.
    pub fn share(&self, series: &Series) -> Share {
        // Includes the time of buckets without samples: other series of the group may have some.
        Share::new(self.parts(series, true, |_, _, values| std::mem::take(values)))
    }
}

/// The counts and times of a bucket.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
struct Part {
    bucket: Option<UtcMicros>,
    has_samples: bool,
    counts: Counts,
    within: [u64; LIMITS.len()],
    time: Time,
    declared: Option<(Counts, Time)>,
    mails: Option<Box<Deliverability>>,
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use mailqos_model::{Exclusion, Outcome};
    use proptest::prelude::*;

    use super::*;
    use crate::{Calendar, percentiles::CONTRACT};

    /// Seconds since the previous test, outcome, whether excluded, round trip in milliseconds.
    type Drawn = (i64, u8, bool, i64);

    fn drawn() -> impl Strategy<Value = Vec<Drawn>> {
        let gap = prop_oneof![8 => 200_i64..400, 1 => 800_i64..20_000];
        prop::collection::vec((gap, 0_u8..10, prop::bool::weighted(0.1), 1_i64..500_000), 1..400)
    }

    fn series(drawn: &[Drawn], begin: UtcMicros) -> Series {
        let mut series = Series::default();
        let mut at = begin;
        let mut trips = Vec::new();
        for (gap, outcome, excluded, trip) in drawn {
            at = at + Micros::from_secs(*gap);
            series.started_at.push(at.0);
            series.outcome.push(match outcome {
                0 => Outcome::Lost,
                1 => Outcome::SmtpFailed,
                2 => Outcome::NotTested,
                3 => Outcome::Late,
                _ => Outcome::Ok,
            });
            series.excluded.push(excluded.then_some(Exclusion::Maintenance));
            trips.push((*outcome >= 3).then_some(Micros(trip * 1000)));
        }
        series.test_interval = drawn.iter().map(|_| Some(Micros::from_secs(300))).collect();
        series.metrics[Metric::RoundTrip as usize] = trips.into_iter().collect();
        series
    }

    /// Returns the last day of summer time in these zones, or the first.
    fn period(zone: usize, autumn: bool, hours: i64) -> Period {
        let (zone, autumn_day, spring_day) = [
            ("Australia/Lord_Howe", "2026-04-04", "2026-10-03"),
            ("Asia/Kathmandu", "2026-04-04", "2026-10-03"),
            ("Europe/Berlin", "2026-10-24", "2026-03-28"),
            ("America/Sao_Paulo", "2018-02-17", "2018-11-03"),
        ][zone];
        let calendar = Calendar::new(TimeZone::get(zone).expect("a zone"));
        let day = if autumn { autumn_day } else { spring_day }.parse().expect("a date");
        let from = calendar.midnight(day);
        Period::new(from, from + Micros::from_secs(hours * 3600), calendar)
            .expect("it is not empty")
    }

    fn by_sorting(values: &mut [i64], q: f64) -> f64 {
        values.sort_unstable();
        let position = (values.len() - 1) as f64 * q;
        let (low, high) = (position.floor() as usize, position.ceil() as usize);
        values[low] as f64 + (values[high] - values[low]) as f64 * (position - low as f64)
    }

    proptest! {
        /// Each bucket has the figures of the same span as a separate period, and its values are
        /// counted by hand.
        #[test]
        fn a_bucket_is_a_separate_period(
            drawn in drawn(), zone in 0_usize..4, autumn: bool, hours in 1_i64..80, by_day: bool,
        ) {
            let period = period(zone, autumn, hours);
            let mut series = series(&drawn, period.from - Micros::from_secs(7200));
            // The effect of the very last test depends on where the period ends; here the next test
            // is known.
            let end = series.started_at.last().map_or(period.to.0, |last| (*last).max(period.to.0)) + 1;
            series.started_at.push(end);
            series.outcome.push(Outcome::Ok);
            series.excluded.push(None);
            series.test_interval.push(Some(Micros::from_secs(300)));
            series.metrics[Metric::RoundTrip as usize].push(None);
            series.confine(&period);
            let unit = if by_day { Unit::Day } else { Unit::Hour };
            let metrics = [Metric::RoundTrip];
            let question = FiguresQuery::new(period.clone(), UtcMicros(i64::MAX), Some(unit), &metrics, &CONTRACT);
            let mut rows = question.rows(&series).into_iter();
            for bucket in period.buckets(unit) {
                let (from, to) = (bucket.start.max(period.from), bucket.end.min(period.to));
                let own = Period::new(from, to, period.calendar.clone()).expect("it is not empty");
                let inside: Vec<usize> = (0..series.len()).filter(|row| own.contains(series.at(*row))).collect();
                if inside.is_empty() {
                    continue;
                }
                let row = rows.next().expect("a bucket with samples has a row");
                prop_assert_eq!(row.bucket, Some(bucket.start));
                let timeline = Timeline::of(&series, &own, None);
                prop_assert_eq!(row.time.length, own.duration());
                prop_assert_eq!(row.time.up, timeline.up);
                prop_assert_eq!(row.time.downtime, timeline.downtime);
                prop_assert_eq!(row.time.excluded, timeline.excluded);
                prop_assert_eq!(row.time.unknown, timeline.unknown);
                prop_assert_eq!(row.time.outages, timeline.outages.len() as u64);
                prop_assert_eq!(row.time.longest, timeline.longest().map(|outage| outage.downtime));
                prop_assert_eq!(row.time.mttr(), timeline.mttr());
                prop_assert_eq!(row.time.mtbf(), timeline.mtbf());
                prop_assert_eq!(row.time.coverage(), Some(timeline.coverage()));
                prop_assert_eq!(row.time.availability(), timeline.availability());
                let counted: Vec<usize> = inside
                    .into_iter()
                    .filter(|row| series.outcome[*row] != Outcome::NotTested && series.excluded[*row].is_none())
                    .collect();
                let mut trips: Vec<i64> =
                    counted.iter().filter_map(|row| series.metric(Metric::RoundTrip).get(*row)).map(|t| t.0).collect();
                prop_assert_eq!(row.counts.tests(), counted.len() as u64);
                prop_assert_eq!(
                    row.within,
                    LIMITS.map(|limit| trips.iter().filter(|trip| **trip <= limit.0).count() as u64)
                );
                match &row.metrics[0] {
                    None => prop_assert!(trips.is_empty()),
                    Some(found) => {
                        prop_assert_eq!(found.summary.count, trips.len() as u64);
                        for (q, value) in CONTRACT.iter().zip(&found.summary.percentiles) {
                            prop_assert!((value - by_sorting(&mut trips, *q)).abs() < 1e-6);
                        }
                    }
                }
                prop_assert_eq!(row.delivered.is_empty(), counted.is_empty());
                if row.delivered.last() == Some(&DeliveredPercentile::NotDelivered) {
                    prop_assert!((counted.len() - 1) as f64 * 0.99 > trips.len() as f64 - 1.0);
                }
            }
            prop_assert_eq!(rows.next(), None);
        }

        /// Counting values in several processes gives the figures of the pooled values.
        #[test]
        fn a_counted_group_has_the_same_figures(
            each in prop::collection::vec(drawn(), 1..5), by_day: bool, zone in 0_usize..4,
        ) {
            let period = period(zone, true, 80);
            let unit = by_day.then_some(Unit::Day);
            let metrics = [Metric::RoundTrip, Metric::SmtpSend];
            let question =
                FiguresQuery::new(period.clone(), UtcMicros(i64::MAX), unit, &metrics, &CONTRACT);
            let whose = Subject { site: None, monitor: None, group: None, kind: None };
            let (mut pool, mut counted): (Pool, Pool<crate::radix::Counted>) = Default::default();
            let mut all_values = Vec::new();
            for drawn in &each {
                let mut series = series(drawn, period.from);
                series.confine(&period);
                pool.add(question.share(&series));
                let mut part: Pool = Pool::default();
                part.add(question.share(&series));
                for group in part.counted() {
                    let text = serde_json::to_string(&group).expect("text");
                    let back: PartialGroup = serde_json::from_str(&text).expect("a part");
                    prop_assert_eq!(&back, &group);
                    counted.add_counted(back);
                }
                all_values.push(question.values(&series));
            }
            let mut orders = counted.orders(&question, &whose);
            for ((bucket, metric), order) in &mut orders {
                while !order.spans().is_empty() {
                    let spans = order.spans();
                    let mut sums = vec![crate::radix::Parts::new(); spans.len()];
                    let values = all_values.iter().flatten().filter(|(of, _)| of == bucket);
                    for (_, values) in values {
                        let parts = crate::radix::Span::count(&spans, &values[*metric]);
                        for (sum, parts) in sums.iter_mut().zip(parts) {
                            parts.into_iter().for_each(|(part, n)| *sum.entry(part).or_default() += n);
                        }
                    }
                    prop_assert_eq!(order.narrow(&sums), Ok(()));
                }
            }
            let rows = counted.rows(&question, &whose, &orders);
            let text = serde_json::to_string(&rows).expect("text");
            let back: Vec<Row> = serde_json::from_str(&text).expect("rows");
            prop_assert_eq!(&back, &rows);
            prop_assert_eq!(rows, pool.rows(&question, &whose));
        }

        /// Figures of several monitors are those of all their samples.
        #[test]
        fn a_group_is_all_samples_of_its_monitors(each in prop::collection::vec(drawn(), 1..4)) {
            let period = period(2, true, 80);
            let question =
                FiguresQuery::new(period.clone(), UtcMicros(i64::MAX), None, &[Metric::RoundTrip], &CONTRACT);
            let mut pool = Pool::default();
            let (mut tests, mut trips, mut downtime, mut monitors) = (0, Vec::new(), 0, 0);
            for drawn in &each {
                let mut series = series(drawn, period.from);
                series.confine(&period);
                pool.add(question.share(&series));
                tests += series.counted().count() as u64;
                trips.extend(series.values(Metric::RoundTrip, series.inside.clone()));
                downtime += Timeline::of(&series, &period, None).downtime.0;
                monitors += 1;
            }
            let whose = Subject { site: None, monitor: None, group: None, kind: None };
            let rows = pool.rows(&question, &whose);
            prop_assert_eq!(rows.len(), 1);
            prop_assert_eq!(rows[0].monitors, monitors);
            prop_assert_eq!(rows[0].counts.tests(), tests);
            prop_assert_eq!(rows[0].time.downtime, Micros(downtime));
            if let Some(found) = &rows[0].metrics[0] {
                for (q, value) in CONTRACT.iter().zip(&found.summary.percentiles) {
                    prop_assert!((value - by_sorting(&mut trips, *q)).abs() < 1e-6);
                }
            } else {
                prop_assert!(trips.is_empty());
            }
        }
    }
}
