//! Evidence for and against the objectives of a service level and its results: the verdict, the
//! budget, the forecast.

use std::{ops::Range, sync::Arc};

use mailqos_config::{LevelTarget, ServiceLevel};
use mailqos_lake_tables::{Metric, Series, has_mails};
use mailqos_model::{Micros, Outcome};

use super::super::{
    availability::Share,
    deliverability::Judge,
    outages::{State, Timeline},
    percentiles::{DeliveredPercentile, Percentile, delivered_percentile},
    periods::{Period, Unit},
    random::SplitMix64,
};
use super::{
    Amount, Entry, Forecast, TargetResult, UndecidedReason, Value, Verdict, metric_of,
    service::{Service, overlap},
};

/// With fewer days there is no forecast.
const DAYS_FOR_FORECAST: usize = 5;
/// How often the rest of the period is resampled from past days.
const DRAWS: usize = 1_000;

/// Tests or time of a day, and the bad part.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct Tally {
    all: f64,
    bad: f64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.all += other.all;
        self.bad += other.bad;
    }
}

/// The values of a percentile.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct Times {
    #[serde(with = "crate::wire::counted")]
    values: Vec<i64>,
    /// Number of tests, with and without a value.
    tests: u64,
}

/// Evidence for and against the objectives of a service level.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Evidence {
    #[serde(with = "crate::wire::site_and_monitor")]
    pub(super) monitor: Option<(Arc<str>, Arc<str>)>,
    /// The kind of the tests; `None` is `mail-qos`.
    #[serde(with = "crate::wire::shared_text")]
    pub(super) kind: Option<Arc<str>>,
    monitors: usize,
    service: Micros,
    passed: Micros,
    up: Micros,
    down: Micros,
    maintenance: Micros,
    unknown: Micros,
    tests: u64,
    /// Service time of each day so far.
    days: Vec<Micros>,
    /// By objective, then by day.
    tallies: Vec<Vec<Tally>>,
    /// By objective: the last 24 hours of service.
    last_day: Vec<Tally>,
    /// By objective: the values of a percentile.
    times: Vec<Times>,
    /// The same as if declared maintenance had been planned; `None` if there is no difference.
    declared: Option<Box<Self>>,
}

impl Evidence {
    pub(super) fn nothing(
        site: &str,
        monitor: &str,
        level: &ServiceLevel,
        service: &Service,
    ) -> Self {
        let targets = level.targets.len();
        Self {
            monitor: Some((site.into(), monitor.into())),
            kind: None,
            monitors: 1,
            service: service.whole,
            passed: service.passed(),
            up: Micros::ZERO,
            down: Micros::ZERO,
            maintenance: Micros::ZERO,
            unknown: service.passed(),
            tests: 0,
            days: service.days.iter().map(|(_, time)| *time).collect(),
            tallies: vec![vec![Tally::default(); service.days.len()]; targets],
            last_day: vec![Tally::default(); targets],
            times: vec![Times::default(); targets],
            declared: None,
        }
    }

    pub(super) fn of(
        series: &Series,
        level: &ServiceLevel,
        passed: &Period,
        service: &Service,
        interval: Option<Micros>,
    ) -> Self {
        let mut evidence = Self::nothing(&series.site, &series.monitor, level, service);
        evidence.declared = series
            .without_declared()
            .map(|series| Box::new(Self::of(&series, level, passed, service, interval)));
        evidence.kind.clone_from(&series.kind);
        evidence.unknown = Micros::ZERO;
        let last_day = service.last_day();
        let timeline = Timeline::of(series, passed, interval);
        let mut up_by_day = vec![Tally::default(); service.days.len()];
        let mut up_last_day = Tally::default();
        for stretch in &timeline.stretches {
            let time = overlap(&service.stretches, stretch.from, stretch.to);
            let sum = match stretch.state {
                State::Up => &mut evidence.up,
                State::Down => &mut evidence.down,
                State::Excluded => &mut evidence.maintenance,
                State::Unknown => &mut evidence.unknown,
            };
            *sum = *sum + time;
            if !matches!(stretch.state, State::Up | State::Down) || time == Micros::ZERO {
                continue;
            }
            let tally = |time: Micros| Tally {
                all: time.0 as f64,
                bad: if stretch.state == State::Down { time.0 as f64 } else { 0.0 },
            };
            up_last_day.add(tally(overlap(
                &service.stretches,
                stretch.from.max(last_day),
                stretch.to,
            )));
            // Cut at midnights.
            let mut from = stretch.from;
            while from < stretch.to {
                let to = service.calendar.next(Unit::Day, from).min(stretch.to);
                if let Some(day) = service.day(from) {
                    up_by_day[day].add(tally(overlap(&service.stretches, from, to)));
                }
                from = to;
            }
        }
        let judge = Judge::new(series);
        let rows = in_service(series, service);
        evidence.tests = rows.len() as u64;
        for (index, target) in level.targets.iter().enumerate() {
            let metric = metric_of(target);
            if matches!(target, LevelTarget::Uptime(_)) {
                evidence.tallies[index].clone_from(&up_by_day);
                evidence.last_day[index] = up_last_day;
                continue;
            }
            for (row, day) in &rows {
                let Some(bad) = is_bad((series, &judge), *row, target, metric) else {
                    continue;
                };
                let tally = Tally { all: 1.0, bad: f64::from(u8::from(bad)) };
                evidence.tallies[index][*day].add(tally);
                if series.at(*row) >= last_day {
                    evidence.last_day[index].add(tally);
                }
                if let Some(metric) = metric {
                    let times = &mut evidence.times[index];
                    times.tests += 1;
                    times.values.extend(series.metric(metric).get(*row).map(|value| value.0));
                }
            }
        }
        evidence
    }

    pub(super) fn add(&mut self, mut other: Self) {
        if self.declared.is_some() || other.declared.is_some() {
            let mut sum = self.declared.take().unwrap_or_else(|| Box::new(self.clone()));
            sum.add(other.declared.take().map_or_else(|| other.clone(), |declared| *declared));
            self.declared = Some(sum);
        }
        self.monitor = None;
        self.monitors += other.monitors;
        for (mine, theirs) in [
            (&mut self.service, other.service),
            (&mut self.passed, other.passed),
            (&mut self.up, other.up),
            (&mut self.down, other.down),
            (&mut self.maintenance, other.maintenance),
            (&mut self.unknown, other.unknown),
        ] {
            *mine = *mine + theirs;
        }
        self.tests += other.tests;
        for (mine, theirs) in self.days.iter_mut().zip(other.days) {
            *mine = *mine + theirs;
        }
        for (mine, theirs) in self.tallies.iter_mut().zip(other.tallies) {
            for (mine, theirs) in mine.iter_mut().zip(theirs) {
                mine.add(theirs);
            }
        }
        for (mine, theirs) in self.last_day.iter_mut().zip(other.last_day) {
            mine.add(theirs);
        }
        for (mine, theirs) in self.times.iter_mut().zip(other.times) {
            mine.values.extend(theirs.values);
            mine.tests += theirs.tests;
        }
    }

    pub(super) fn entry(mut self, level: &ServiceLevel, is_over: bool) -> Entry {
        let declared = self.declared.take().map(|evidence| evidence.entry(level, is_over));
        let mut targets: Vec<TargetResult> = level
            .targets
            .iter()
            .enumerate()
            .map(|(index, target)| self.judgement(index, target, level, is_over))
            .collect();
        for (target, other) in targets.iter_mut().zip(declared.into_iter().flat_map(|e| e.targets))
        {
            target.excluding_declared = Some((other.value, other.verdict));
        }
        Entry {
            monitor: self.monitor,
            kind: self.kind,
            monitors: self.monitors,
            service: self.service,
            passed: self.passed,
            up: self.up,
            down: self.down,
            maintenance: self.maintenance,
            unknown: self.unknown,
            tests: self.tests,
            targets,
        }
    }

    fn judgement(
        &mut self,
        index: usize,
        target: &LevelTarget,
        level: &ServiceLevel,
        is_over: bool,
    ) -> TargetResult {
        let share = target.share();
        let mut sum = Tally::default();
        self.tallies[index].iter().for_each(|tally| sum.add(*tally));
        let by_time = matches!(target, LevelTarget::Uptime(_));
        // What the rest of the period will add, at the current rate.
        let known = (self.up + self.down).0 as f64;
        let to_come = if is_over { 0 } else { (self.service - self.passed).0.max(0) };
        let rest = if by_time {
            to_come as f64
        } else if known > 0.0 {
            sum.all * to_come as f64 / known
        } else {
            0.0
        };
        let whole = sum.all + rest;
        let budget = Amount { whole: share.rest_of(whole), spent: sum.bad };
        let (value, interval, met) = self.value(index, target, sum);
        let burn = |tally: Tally| (tally.all > 0.0).then(|| tally.bad / share.rest_of(tally.all));
        let verdict = self.verdict((level, target), sum, (to_come, is_over), (met, interval));
        let goal = match target {
            LevelTarget::Percentile { limit, .. } => limit.0 as f64,
            _ => share.as_f64(),
        };
        let certain = interval.is_some_and(|(low, high)| low > goal || high < goal);
        let forecast = (!is_over).then(|| self.forecast(index, target, sum, rest)).flatten();
        TargetResult {
            target: target.clone(),
            value,
            interval,
            verdict,
            is_certain: certain && matches!(verdict, Verdict::Met | Verdict::Missed),
            tests: (!by_time && sum.all > 0.0).then_some(budget),
            time: matches!(target, LevelTarget::Availability(_) | LevelTarget::Uptime(_)).then(
                || Amount {
                    whole: share.rest_of(known + to_come as f64),
                    spent: self.down.0 as f64,
                },
            ),
            burn_rate: burn(sum),
            burn_rate_last_day: burn(self.last_day[index]),
            forecast,
            excluding_declared: None,
        }
    }

    /// Returns the measured value, its interval, and whether it meets the objective.
    fn value(
        &mut self,
        index: usize,
        target: &LevelTarget,
        sum: Tally,
    ) -> (Value, Option<(f64, f64)>, bool) {
        if sum.all <= 0.0 {
            return (Value::Unknown, None, false);
        }
        let (all, bad) = (sum.all as u64, sum.bad as u64);
        match target {
            LevelTarget::Uptime(share) => {
                let met = share.is_reached(all - bad.min(all), all);
                (Value::Share((sum.all - sum.bad) / sum.all), None, met)
            }
            LevelTarget::Availability(share)
            | LevelTarget::DeliveredWithin { share, .. }
            | LevelTarget::Mails { share, .. } => {
                let measured = Share::new(all - bad.min(all), all);
                (
                    measured.map_or(Value::Unknown, |measured| Value::Share(measured.value)),
                    measured.map(|measured| (measured.low, measured.high)),
                    share.is_reached(all - bad.min(all), all),
                )
            }
            LevelTarget::Percentile { q, limit, metric } => {
                let Times { values, tests } = &mut self.times[index];
                let fits = |value: f64| value <= limit.0 as f64;
                if *metric == Metric::RoundTrip.as_str() {
                    // A lost mail is slower than any delivered one.
                    let undelivered = (*tests as usize).saturating_sub(values.len());
                    let found = delivered_percentile(values, *tests as usize, q.as_f64());
                    let mut all = std::mem::take(values);
                    all.extend(std::iter::repeat_n(i64::MAX, undelivered));
                    let interval = Percentile::of(&mut all, q.as_f64())
                        .and_then(|percentile| percentile.interval)
                        .filter(|(_, high)| *high < i64::MAX as f64 / 2.0);
                    return match found {
                        Some(DeliveredPercentile::Within(value)) => {
                            (Value::Time(value), interval, fits(value))
                        }
                        Some(DeliveredPercentile::NotDelivered) => {
                            (Value::NotDelivered, None, false)
                        }
                        None => (Value::Unknown, None, false),
                    };
                }
                match Percentile::of(values, q.as_f64()) {
                    Some(found) => (Value::Time(found.value), found.interval, fits(found.value)),
                    None => (Value::Unknown, None, false),
                }
            }
        }
    }

    fn verdict(
        &self,
        (level, target): (&ServiceLevel, &LevelTarget),
        sum: Tally,
        (to_come, is_over): (i64, bool),
        (met, interval): (bool, Option<(f64, f64)>),
    ) -> Verdict {
        if sum.all <= 0.0 {
            return if is_over || self.passed.0 > 0 {
                Verdict::NotDecidable(UndecidedReason::NoTests)
            } else {
                Verdict::Open
            };
        }
        // In integers: a budget that is spent to the last test is not exceeded.
        let (all, bad) = (sum.all as u128, sum.bad as u128);
        let time = |time: Micros| time.0.max(0).unsigned_abs();
        let (known, counting) = (time(self.up + self.down), time(self.passed - self.maintenance));
        let by_time = matches!(target, LevelTarget::Uptime(_));
        // Whether the bad part exceeds the budget if the whole period continues at the known rate
        // without a fault.
        let is_spent = |whole: u64| {
            let (bad, all) = if by_time {
                (bad, whole.into())
            } else if known == 0 {
                (bad, all)
            } else {
                (bad * u128::from(known), all * u128::from(whole))
            };
            !target.share().is_reached(all.saturating_sub(bad), all)
        };
        if !is_over {
            // At the rate of tests so far, even a faultless rest is too short.
            return if is_spent(known + to_come.unsigned_abs()) {
                Verdict::Missed
            } else {
                Verdict::Open
            };
        }
        if counting == 0 || !level.min_coverage.is_reached(known, counting) {
            // Missed even if everything unknown had been good.
            return if known > 0 && is_spent(counting) {
                Verdict::Missed
            } else {
                Verdict::NotDecidable(UndecidedReason::Coverage)
            };
        }
        if !by_time && !target.share().is_reached(all.saturating_sub(1), all) {
            // Too few tests to decide, unless it is missed significantly.
            let goal = target.share().as_f64();
            let clearly = match target {
                LevelTarget::Percentile { .. } => {
                    Share::new((sum.all - sum.bad) as u64, sum.all as u64)
                        .is_some_and(|share| share.high < goal)
                }
                _ => interval.is_some_and(|(_, high)| high < goal),
            };
            return if clearly {
                Verdict::Missed
            } else {
                Verdict::NotDecidable(UndecidedReason::FewTests)
            };
        }
        if met { Verdict::Met } else { Verdict::Missed }
    }

    /// Forecasts the period from the rate so far and how much days differ. Future days are drawn
    /// with replacement from past days (the bootstrap of Efron 1979, by whole days because failures
    /// cluster).
    fn forecast(
        &self,
        index: usize,
        target: &LevelTarget,
        sum: Tally,
        rest: f64,
    ) -> Option<Forecast> {
        if sum.all <= 0.0 {
            return None;
        }
        let budget = |whole: f64| target.share().rest_of(whole);
        let spent = (sum.bad + sum.bad / sum.all * rest) / budget(sum.all + rest);
        let days: Vec<Tally> =
            self.tallies[index].iter().filter(|tally| tally.all > 0.0).copied().collect();
        if days.len() < DAYS_FOR_FORECAST {
            return Some(Forecast { spent, interval: None, chance: None });
        }
        // The same question must get the same answer.
        let mut random = SplitMix64(0x5eed ^ days.len() as u64);
        let mut ends: Vec<f64> = (0..DRAWS)
            .map(|_| {
                let mut drawn = Tally::default();
                while drawn.all < rest {
                    let day = days[random.below(days.len())];
                    let part = ((rest - drawn.all) / day.all).min(1.0);
                    drawn.add(Tally { all: day.all * part, bad: day.bad * part });
                }
                (sum.bad + drawn.bad) / budget(sum.all + drawn.all)
            })
            .collect();
        ends.sort_by(f64::total_cmp);
        let met = ends.partition_point(|end| *end <= 1.0);
        Some(Forecast {
            spent,
            interval: Some((ends[DRAWS / 20], ends[DRAWS - 1 - DRAWS / 20])),
            chance: Some(met as f64 / DRAWS as f64),
        })
    }
}

/// Returns the counted tests that began in service hours, each with its day.
fn in_service(series: &Series, service: &Service) -> Vec<(usize, usize)> {
    let rows: Range<usize> = series.inside.clone();
    series
        .counted_in(rows)
        .filter(|row| series.at(*row) < service.until && service.covers(series.at(*row)))
        .filter_map(|row| Some((row, service.day(series.at(row))?)))
        .collect()
}

/// Returns whether a test violates an objective; `None` if it is not evidence.
fn is_bad(
    (series, judge): (&Series, &Judge<'_>),
    row: usize,
    target: &LevelTarget,
    metric: Option<Metric>,
) -> Option<bool> {
    let is_of_mails = has_mails(series.kind.as_deref());
    match target {
        LevelTarget::Availability(_) => Some(series.outcome[row] != Outcome::Ok),
        LevelTarget::Uptime(_) => None,
        LevelTarget::DeliveredWithin { limit, .. } => is_of_mails
            .then(|| series.metric(Metric::RoundTrip).get(row).is_none_or(|trip| trip > *limit)),
        LevelTarget::Mails { figure, .. } => {
            let share = figure.parse().ok().filter(|_| is_of_mails)?;
            judge.judge(share, row).map(|is_in| !is_in)
        }
        LevelTarget::Percentile { limit, .. } => {
            let metric = metric?;
            match series.metric(metric).get(row) {
                Some(value) => Some(value > *limit),
                // A mail that never arrived is slower than any other; a phase that was not reached
                // is not evidence.
                None => (metric == Metric::RoundTrip && is_of_mails).then_some(true),
            }
        }
    }
}
