//! Service levels: whether what was promised was kept, what is left of the error budget, and where it will end.
//!
//! Every target allows some share of tests (or of time) to be bad: that share of all that the period will hold is its
//! error budget. Only tests and time within the service hours count, without maintenance. Time that is not known counts
//! neither as good nor as bad; where too little is known, nothing is decided.

use std::{collections::BTreeSet, ops::Range, sync::Arc};

use jiff::civil::Date;
use mailqos_core::{
    config::{Config, LevelPeriod, LevelTarget, ServiceLevel},
    model::{Micros, Outcome, UtcMicros},
};

use super::{
    availability::Share,
    lake::{Lake, LakeError, SeriesQuery},
    outages::{State, Timeline},
    percentiles::{DeliveredPercentile, Percentile, delivered_percentile},
    periods::{Calendar, Period, Unit},
    series::{Metric, Series},
};

/// Fewer days say nothing about how the rest of a period may go.
const DAYS_FOR_FORECAST: usize = 5;
/// How many ways the rest of the period is drawn from the days that were.
const DRAWS: usize = 1_000;
const DAY: Micros = Micros::from_secs(86_400);

/// One service level over one of its periods.
#[derive(Debug, Clone)]
pub struct LevelReport {
    /// Its key in the configuration.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Its service hours as the configuration says them; none for around the clock.
    pub hours: Vec<String>,
    /// How many days were holidays, without service.
    pub holidays: usize,
    /// The whole period.
    pub period: Period,
    /// Up to when it is looked at: the period's end, or where the data ends.
    pub until: UtcMicros,
    /// Whether the period is over.
    pub is_over: bool,
    /// The monitors, each judged by itself; a single entry where they are judged together.
    pub entries: Vec<Entry>,
}

/// What is judged: a monitor seen from a site, or all of them together.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The site and the monitor; `None` for several together.
    pub monitor: Option<(Arc<str>, Arc<str>)>,
    /// How many monitors it is over.
    pub monitors: usize,
    /// Service time of the whole period.
    pub service: Micros,
    /// Service time that has passed.
    pub passed: Micros,
    /// Of that: up.
    pub up: Micros,
    /// Of that: down.
    pub down: Micros,
    /// Of that: in maintenance, which does not count.
    pub maintenance: Micros,
    /// Of that: not known.
    pub unknown: Micros,
    /// Counted tests in service hours.
    pub tests: u64,
    /// Each target, in the order of the configuration.
    pub targets: Vec<Judgement>,
}

/// What is to be said of one target.
#[derive(Debug, Clone)]
pub struct Judgement {
    /// The promise.
    pub target: LevelTarget,
    /// What was measured.
    pub value: Value,
    /// Its 95 % confidence interval: shares, or microseconds for a percentile. `None` for time, which is no sample.
    pub interval: Option<(f64, f64)>,
    /// Kept, missed, open or not decidable.
    pub verdict: Verdict,
    /// Whether the confidence interval lies wholly on the verdict's side of the target.
    pub is_certain: bool,
    /// The budget in tests, where the target counts tests.
    pub tests: Option<Amount>,
    /// The budget in microseconds, where the target is about being up.
    pub time: Option<Amount>,
    /// How fast the budget is spent: 1 spends it exactly at the period's end.
    pub burn_rate: Option<f64>,
    /// The same over the last 24 hours of service.
    pub burn_rate_last_day: Option<f64>,
    /// How the period will end; `None` where it is over or nothing is known.
    pub forecast: Option<Forecast>,
}

/// What was measured of a target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// Nothing.
    Unknown,
    /// A share in [0, 1].
    Share(f64),
    /// A percentile, in microseconds.
    Time(f64),
    /// A percentile that fell on mails which never came.
    NotDelivered,
}

/// Part of a budget: tests, or microseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Amount {
    /// What may be bad in the whole period.
    pub whole: f64,
    /// What was bad so far.
    pub spent: f64,
}

impl Amount {
    /// Share of the budget that is spent; `None` where there is no budget yet.
    pub fn share(&self) -> Option<f64> {
        (self.whole > 0.0).then(|| self.spent / self.whole)
    }
}

/// How the period will end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    /// Share of the budget that will be spent if it goes on at the rate so far.
    pub spent: f64,
    /// Between these in nine of ten draws of the days to come from the days that were; `None` before there are five days.
    pub interval: Option<(f64, f64)>,
    /// In this share of the draws the target is met.
    pub chance: Option<f64>,
}

/// Kept or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The period is over, and the target was met.
    Met,
    /// The period is not over, and the target can still be met.
    Open,
    /// Too little is known to say.
    NotDecidable(Why),
    /// Missed; where the period is not over, even a faultless rest would not help.
    Missed,
}

/// Why nothing is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// One failed test would already be more than the budget, so that a good result proves nothing.
    FewTests,
    /// Less than the required share of the service time is known.
    Coverage,
    /// No test counted.
    NoTests,
}

impl Verdict {
    /// Its word in tables and data.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Open => "open",
            Self::NotDecidable(_) => "not_decidable",
            Self::Missed => "missed",
        }
    }
}

impl Judgement {
    /// Share of the error budget that is spent, by what the target counts; `None` where nothing is known.
    pub fn spent(&self) -> Option<f64> {
        self.tests.or(self.time)?.share()
    }
}

impl Entry {
    /// The worst of its targets' verdicts.
    pub fn verdict(&self) -> Verdict {
        let worst = self.targets.iter().map(|judgement| judgement.verdict).max();
        worst.unwrap_or(Verdict::NotDecidable(Why::NoTests))
    }

    /// Share of the service time that is known, of what has passed; `None` where none has.
    pub fn coverage(&self) -> Option<f64> {
        (self.passed.0 > 0).then(|| (self.passed - self.unknown).0 as f64 / self.passed.0 as f64)
    }
}

impl LevelReport {
    /// The worst of its entries' verdicts.
    pub fn verdict(&self) -> Verdict {
        let worst = self.entries.iter().map(Entry::verdict).max();
        worst.unwrap_or(Verdict::NotDecidable(Why::NoTests))
    }
}

/// The periods of a service level that touch `asked`, each with the moment up to which it is looked at: what comes after
/// `asked` or `now` is not known to whoever asks.
pub fn periods(level: &ServiceLevel, asked: &Period, now: UtcMicros) -> Vec<(Period, UtcMicros)> {
    let calendar = Calendar {
        timezone: level.hours.zone.clone(),
        ..asked.calendar.clone()
    };
    let end = asked.to.min(now.max(asked.from + Micros(1)));
    let unit = match level.period {
        LevelPeriod::Week => Unit::Week,
        LevelPeriod::Month => Unit::Month,
        LevelPeriod::Quarter => Unit::Quarter,
        LevelPeriod::Year => Unit::Year,
        LevelPeriod::Rolling(days) => {
            // Whole days, of which the last is the one that ends with what was asked for, or in which it ends.
            let last = calendar.next(Unit::Day, calendar.start_of(Unit::Day, UtcMicros(end.0 - 1)));
            let first = calendar
                .zoned(last)
                .date()
                .saturating_sub(jiff::Span::new().days(i64::from(days)));
            let period = Period::new(calendar.midnight(first), last, calendar);
            return period.map_or_else(|_| Vec::new(), |period| vec![(period, end)]);
        }
    };
    let mut found = Vec::new();
    let mut start = calendar.start_of(unit, asked.from);
    while start < end {
        let next = calendar.next(unit, start);
        if let Ok(period) = Period::new(start, next, calendar.clone()) {
            found.push((period, next.min(end)));
        }
        start = next;
    }
    found
}

/// Judges a service level over one of its periods, up to a moment.
///
/// `chosen` says which monitors are asked for, besides the level's own choice.
///
/// # Errors
/// The lake can't be read.
pub fn judge(
    lake: &Lake,
    config: &Config,
    (id, level): (&str, &ServiceLevel),
    (period, until): (&Period, UtcMicros),
    chosen: &dyn Fn(&str, &str) -> bool,
) -> Result<LevelReport, LakeError> {
    let passed = period.until(until).unwrap_or_else(|| period.clone());
    let configured: BTreeSet<String> = config
        .select(&level.monitors)
        .map(|monitors| monitors.iter().map(|monitor| monitor.id.to_string()).collect())
        .unwrap_or_default();
    let belongs = |site: &str, monitor: &str| {
        let at_site = level.sites.is_empty() || level.sites.iter().any(|s| mailqos_core::config::glob(s, site));
        let named = level.monitors.is_empty()
            || configured.contains(monitor)
            || level
                .monitors
                .iter()
                .any(|pattern| mailqos_core::config::glob(pattern, monitor));
        at_site && named && chosen(site, monitor)
    };
    let known: BTreeSet<_> = lake
        .monitors(Some(&passed))?
        .into_iter()
        .filter(|(site, monitor)| belongs(site, monitor))
        .collect();
    let hours = Arc::new(Service::of(level, period, until));
    let mut evidence: Vec<Evidence> = Vec::new();
    if !known.is_empty() {
        let query = SeriesQuery::new(passed.clone())
            .sites(known.iter().map(|(site, _)| site.to_string()))
            .monitors(known.iter().map(|(_, monitor)| monitor.to_string()))
            .metrics(&metrics(level))
            .for_outages();
        evidence = lake
            .map(&query, |series| {
                let pair = (Arc::clone(&series.site), Arc::clone(&series.monitor));
                known.contains(&pair).then(|| {
                    let interval = config
                        .monitors
                        .values()
                        .find(|monitor| monitor.id.as_str() == &*series.monitor)
                        .map(|monitor| monitor.test_interval);
                    Evidence::of(&series, level, &passed, &hours, interval)
                })
            })?
            .into_iter()
            .flatten()
            .collect();
    }
    // A monitor that left no sample was promised all the same: nothing is known of it.
    for monitor in &configured {
        let seen = known.iter().any(|(_, known)| **known == **monitor);
        let site = config.site.as_str();
        if !seen && belongs(site, monitor) && config.monitors.values().any(|m| m.enabled && m.id.as_str() == monitor) {
            evidence.push(Evidence::nothing(site, monitor, level, &hours));
        }
    }
    evidence.sort_by(|a, b| a.monitor.cmp(&b.monitor));
    if level.together && evidence.len() > 1 {
        let mut all = evidence.drain(..);
        if let Some(mut first) = all.next() {
            all.for_each(|other| first.add(other));
            evidence = vec![first];
        }
    }
    let is_over = until >= period.to;
    Ok(LevelReport {
        id: id.to_owned(),
        name: level.name.clone(),
        hours: level.hours.written.clone(),
        holidays: hours
            .days
            .iter()
            .filter(|(date, _)| level.hours.holidays.contains(*date))
            .count(),
        period: period.clone(),
        until,
        is_over,
        entries: evidence
            .into_iter()
            .map(|evidence| evidence.entry(level, is_over))
            .collect(),
    })
}

fn metrics(level: &ServiceLevel) -> Vec<Metric> {
    let mut metrics = vec![Metric::RoundTrip];
    metrics.extend(level.targets.iter().filter_map(metric_of));
    metrics
}

fn metric_of(target: &LevelTarget) -> Option<Metric> {
    match target {
        LevelTarget::Percentile { metric, .. } => metric.parse().ok(),
        _ => None,
    }
}

/// The service time of a period, by local day.
#[derive(Debug)]
struct Service {
    stretches: Vec<(UtcMicros, UtcMicros)>,
    /// Each day's date, and its service time that has passed.
    days: Vec<(Date, Micros)>,
    whole: Micros,
    until: UtcMicros,
    calendar: Calendar,
}

impl Service {
    fn of(level: &ServiceLevel, period: &Period, until: UtcMicros) -> Self {
        let stretches = level.hours.within(period.from, period.to);
        let calendar = period.calendar.clone();
        let days = period
            .buckets(Unit::Day)
            .into_iter()
            .map(|day| {
                let date = calendar.zoned(day.start.max(period.from)).date();
                (date, overlap(&stretches, day.start, day.end.min(until)))
            })
            .collect();
        Self {
            whole: overlap(&stretches, period.from, period.to),
            stretches,
            days,
            until,
            calendar,
        }
    }

    fn covers(&self, at: UtcMicros) -> bool {
        let index = self.stretches.partition_point(|(from, _)| *from <= at);
        index > 0 && at < self.stretches[index - 1].1
    }

    fn passed(&self) -> Micros {
        Micros(self.days.iter().map(|(_, service)| service.0).sum())
    }

    fn day(&self, at: UtcMicros) -> Option<usize> {
        let date = self.calendar.zoned(at).date();
        self.days.binary_search_by(|(day, _)| day.cmp(&date)).ok()
    }

    /// When the last 24 hours of service that have passed began.
    fn last_day(&self) -> UtcMicros {
        let mut left = DAY;
        for (from, to) in self.stretches.iter().rev() {
            let to = (*to).min(self.until);
            if *from >= to {
                continue;
            }
            if to - *from >= left {
                return to - left;
            }
            left = left - (to - *from);
        }
        self.stretches.first().map_or(self.until, |(from, _)| *from)
    }
}

/// How much of a stretch lies in sorted, disjoint stretches.
fn overlap(stretches: &[(UtcMicros, UtcMicros)], from: UtcMicros, to: UtcMicros) -> Micros {
    let first = stretches.partition_point(|(_, end)| *end <= from);
    let sum = stretches[first..]
        .iter()
        .take_while(|(begin, _)| *begin < to)
        .map(|(begin, end)| ((*end).min(to) - (*begin).max(from)).0.max(0))
        .sum();
    Micros(sum)
}

/// Tests or time of a day, and how much of it was bad.
#[derive(Debug, Clone, Copy, Default)]
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

/// What speaks for and against the targets of a level.
#[derive(Debug)]
struct Evidence {
    monitor: Option<(Arc<str>, Arc<str>)>,
    monitors: usize,
    service: Micros,
    passed: Micros,
    up: Micros,
    down: Micros,
    maintenance: Micros,
    unknown: Micros,
    tests: u64,
    /// Service time of each day that has passed.
    days: Vec<Micros>,
    /// By target, then by day.
    tallies: Vec<Vec<Tally>>,
    /// By target: the last 24 hours of service.
    last_day: Vec<Tally>,
    /// By target: the values of a percentile, and how many tests it is over.
    values: Vec<(Vec<i64>, u64)>,
}

impl Evidence {
    fn nothing(site: &str, monitor: &str, level: &ServiceLevel, service: &Service) -> Self {
        let targets = level.targets.len();
        Self {
            monitor: Some((site.into(), monitor.into())),
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
            values: vec![(Vec::new(), 0); targets],
        }
    }

    fn of(series: &Series, level: &ServiceLevel, passed: &Period, service: &Service, interval: Option<Micros>) -> Self {
        let mut evidence = Self::nothing(&series.site, &series.monitor, level, service);
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
                bad: if stretch.state == State::Down {
                    time.0 as f64
                } else {
                    0.0
                },
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
                let Some(bad) = is_bad(series, *row, target, metric) else {
                    continue;
                };
                let tally = Tally {
                    all: 1.0,
                    bad: f64::from(u8::from(bad)),
                };
                evidence.tallies[index][*day].add(tally);
                if series.at(*row) >= last_day {
                    evidence.last_day[index].add(tally);
                }
                if let Some(metric) = metric {
                    let (values, tests) = &mut evidence.values[index];
                    *tests += 1;
                    values.extend(series.metric(metric).get(*row).map(|value| value.0));
                }
            }
        }
        evidence
    }

    fn add(&mut self, other: Self) {
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
        for (mine, (values, tests)) in self.values.iter_mut().zip(other.values) {
            mine.0.extend(values);
            mine.1 += tests;
        }
    }

    fn entry(mut self, level: &ServiceLevel, is_over: bool) -> Entry {
        let targets = level
            .targets
            .iter()
            .enumerate()
            .map(|(index, target)| self.judgement(index, target, level, is_over))
            .collect();
        Entry {
            monitor: self.monitor,
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

    fn judgement(&mut self, index: usize, target: &LevelTarget, level: &ServiceLevel, is_over: bool) -> Judgement {
        let allowed = target.share().rest();
        let mut sum = Tally::default();
        self.tallies[index].iter().for_each(|tally| sum.add(*tally));
        let by_time = matches!(target, LevelTarget::Uptime(_));
        // What the rest of the period will add, at the pace of what is known.
        let known = (self.up + self.down).0 as f64;
        let to_come = (self.service - self.passed).0.max(0) as f64;
        let rest = match (is_over, by_time) {
            (true, _) => 0.0,
            (false, true) => to_come,
            (false, false) if known > 0.0 => sum.all * to_come / known,
            (false, false) => 0.0,
        };
        let whole = sum.all + rest;
        let budget = Amount {
            whole: allowed * whole,
            spent: sum.bad,
        };
        let (value, interval, met) = self.value(index, target, sum);
        let burn = |tally: Tally| (tally.all > 0.0).then(|| tally.bad / tally.all / allowed);
        let verdict = self.verdict(target, level, sum, (budget, is_over), (met, interval));
        let goal = match target {
            LevelTarget::Percentile { limit, .. } => limit.0 as f64,
            other => other.share().as_f64(),
        };
        let certain = interval.is_some_and(|(low, high)| low > goal || high < goal);
        let forecast = (!is_over).then(|| self.forecast(index, sum, rest, budget)).flatten();
        Judgement {
            target: target.clone(),
            value,
            interval,
            verdict,
            is_certain: certain && matches!(verdict, Verdict::Met | Verdict::Missed),
            tests: (!by_time && sum.all > 0.0).then_some(budget),
            time: matches!(target, LevelTarget::Availability(_) | LevelTarget::Uptime(_)).then(|| Amount {
                whole: allowed * (known + if is_over { 0.0 } else { to_come }),
                spent: self.down.0 as f64,
            }),
            burn_rate: burn(sum),
            burn_rate_last_day: burn(self.last_day[index]),
            forecast,
        }
    }

    /// What was measured, its interval, and whether it meets the target.
    fn value(&mut self, index: usize, target: &LevelTarget, sum: Tally) -> (Value, Option<(f64, f64)>, bool) {
        if sum.all <= 0.0 {
            return (Value::Unknown, None, false);
        }
        let (all, bad) = (sum.all as u64, sum.bad as u64);
        match target {
            LevelTarget::Uptime(share) => {
                let met = share.is_reached(all - bad.min(all), all);
                (Value::Share((sum.all - sum.bad) / sum.all), None, met)
            }
            LevelTarget::Availability(share) | LevelTarget::DeliveredWithin { share, .. } => {
                let measured = Share::new(all - bad.min(all), all);
                (
                    measured.map_or(Value::Unknown, |measured| Value::Share(measured.value)),
                    measured.map(|measured| (measured.low, measured.high)),
                    share.is_reached(all - bad.min(all), all),
                )
            }
            LevelTarget::Percentile { q, limit, metric } => {
                let (values, tests) = &mut self.values[index];
                let fits = |value: f64| value <= limit.0 as f64;
                if *metric == Metric::RoundTrip.as_str() {
                    // A lost mail is slower than any other.
                    let undelivered = (*tests as usize).saturating_sub(values.len());
                    let found = delivered_percentile(values, *tests as usize, q.as_f64());
                    let mut all = std::mem::take(values);
                    all.extend(std::iter::repeat_n(i64::MAX, undelivered));
                    let interval = Percentile::of(&mut all, q.as_f64())
                        .and_then(|percentile| percentile.interval)
                        .filter(|(_, high)| *high < i64::MAX as f64 / 2.0);
                    return match found {
                        Some(DeliveredPercentile::Within(value)) => (Value::Time(value), interval, fits(value)),
                        Some(DeliveredPercentile::NotDelivered) => (Value::NotDelivered, None, false),
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
        target: &LevelTarget,
        level: &ServiceLevel,
        sum: Tally,
        (budget, is_over): (Amount, bool),
        (met, interval): (bool, Option<(f64, f64)>),
    ) -> Verdict {
        if sum.all <= 0.0 {
            return if is_over || self.passed.0 > 0 {
                Verdict::NotDecidable(Why::NoTests)
            } else {
                Verdict::Open
            };
        }
        if !is_over {
            // At the pace of tests so far, even a faultless rest is too short.
            return if budget.spent > budget.whole {
                Verdict::Missed
            } else {
                Verdict::Open
            };
        }
        let known = (self.passed - self.unknown - self.maintenance).0 as f64;
        let counting = (self.passed - self.maintenance).0 as f64;
        let coverage = if counting > 0.0 { known / counting } else { 0.0 };
        if coverage < level.min_coverage.as_f64() {
            // Missed all the same where it would be even if all that is not known had been good.
            let all_good = budget.whole / coverage.max(1e-9);
            return if budget.spent > all_good {
                Verdict::Missed
            } else {
                Verdict::NotDecidable(Why::Coverage)
            };
        }
        let by_time = matches!(target, LevelTarget::Uptime(_));
        if !by_time && budget.whole < 1.0 {
            // Too coarse a measure, unless it misses beyond chance.
            let goal = target.share().as_f64();
            let clearly = match target {
                LevelTarget::Percentile { .. } => {
                    Share::new((sum.all - sum.bad) as u64, sum.all as u64).is_some_and(|share| share.high < goal)
                }
                _ => interval.is_some_and(|(_, high)| high < goal),
            };
            return if clearly {
                Verdict::Missed
            } else {
                Verdict::NotDecidable(Why::FewTests)
            };
        }
        if met { Verdict::Met } else { Verdict::Missed }
    }

    /// The rate so far, and how much the days so far differ: the days to come are drawn from those that were, with
    /// replacement (the bootstrap of Efron 1979, by whole days because failures come in bunches).
    fn forecast(&self, index: usize, sum: Tally, rest: f64, budget: Amount) -> Option<Forecast> {
        if sum.all <= 0.0 || budget.whole <= 0.0 {
            return None;
        }
        let spent = (sum.bad + sum.bad / sum.all * rest) / budget.whole;
        let days: Vec<Tally> = self.tallies[index]
            .iter()
            .filter(|tally| tally.all > 0.0)
            .copied()
            .collect();
        if days.len() < DAYS_FOR_FORECAST {
            return Some(Forecast {
                spent,
                interval: None,
                chance: None,
            });
        }
        let allowed = budget.whole / (sum.all + rest);
        // The same question gets the same answer.
        let mut random = SplitMix64(0x5eed ^ days.len() as u64);
        let mut ends: Vec<f64> = (0..DRAWS)
            .map(|_| {
                let mut drawn = Tally::default();
                while drawn.all < rest {
                    let day = days[random.below(days.len())];
                    let part = ((rest - drawn.all) / day.all).min(1.0);
                    drawn.add(Tally {
                        all: day.all * part,
                        bad: day.bad * part,
                    });
                }
                (sum.bad + drawn.bad) / (allowed * (sum.all + drawn.all))
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

/// The counted tests that began in service hours, each with its day.
fn in_service(series: &Series, service: &Service) -> Vec<(usize, usize)> {
    let rows: Range<usize> = series.inside.clone();
    series
        .counted_in(rows)
        .filter(|row| series.at(*row) < service.until && service.covers(series.at(*row)))
        .filter_map(|row| Some((row, service.day(series.at(row))?)))
        .collect()
}

/// Whether a test speaks against a target; `None` where it says nothing.
fn is_bad(series: &Series, row: usize, target: &LevelTarget, metric: Option<Metric>) -> Option<bool> {
    match target {
        LevelTarget::Availability(_) => Some(series.outcome[row] != Outcome::Ok),
        LevelTarget::Uptime(_) => None,
        LevelTarget::DeliveredWithin { limit, .. } => Some(
            series
                .metric(Metric::RoundTrip)
                .get(row)
                .is_none_or(|trip| trip > *limit),
        ),
        LevelTarget::Percentile { limit, .. } => {
            let metric = metric?;
            match series.metric(metric).get(row) {
                Some(value) => Some(value > *limit),
                // What never landed took longer than anything; a phase that was not reached says nothing.
                None => (metric == Metric::RoundTrip).then_some(true),
            }
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014): small, and the same on every machine.
#[derive(Debug)]
pub(crate) struct SplitMix64(pub(crate) u64);

impl SplitMix64 {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`, as evenly as anybody needs.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use mailqos_core::model::Exclusion;

    use super::*;

    const ZONE: &str = "Europe/Berlin";

    fn level(text: &str) -> ServiceLevel {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("mailqos.toml");
        std::fs::write(
            &path,
            format!("site = \"x\"\ntimezone = \"{ZONE}\"\n[service_level.gold]\n{text}"),
        )
        .expect("written");
        let config = mailqos_core::config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
        config.service_levels["gold"].clone()
    }

    fn month() -> Period {
        Period::named(
            "2026-10",
            UtcMicros(0),
            Calendar::new(TimeZone::get(ZONE).expect("a zone")),
        )
        .expect("a month")
    }

    /// A test every five minutes over a period; `fate` says what became of the nth, `None` for none.
    fn series(period: &Period, until: UtcMicros, fate: impl Fn(usize) -> Fate) -> Series {
        let mut series = Series {
            site: "x".into(),
            monitor: "m".into(),
            ..Series::default()
        };
        let mut trips = Vec::new();
        let mut at = period.from;
        let mut n = 0;
        while at < until {
            if let Some((outcome, trip, excluded)) = fate(n) {
                series.started_at.push(at.0);
                series.outcome.push(outcome);
                series.excluded.push(excluded.then_some(Exclusion::Maintenance));
                trips.push(matches!(outcome, Outcome::Ok | Outcome::Late).then_some(Micros(trip)));
            }
            at = at + Micros::from_secs(300);
            n += 1;
        }
        series.test_interval = vec![Some(Micros::from_secs(300)); trips.len()].into_iter().collect();
        series.metrics[Metric::RoundTrip as usize] = trips.into_iter().collect();
        series.inside = 0..series.len();
        series
    }

    fn judged(level: &ServiceLevel, period: &Period, until: UtcMicros, series: &Series) -> Entry {
        let service = Service::of(level, period, until);
        let passed = period.until(until).expect("something");
        Evidence::of(series, level, &passed, &service, None).entry(level, until >= period.to)
    }

    /// What became of a test, its round trip, and whether it was in maintenance; `None` for no test.
    type Fate = Option<(Outcome, i64, bool)>;

    type Case = (fn(usize) -> Fate, Verdict);

    const GOOD: Fate = Some((Outcome::Ok, 4_000_000, false));
    const BAD: Fate = Some((Outcome::Lost, 0, false));

    #[test]
    fn a_month_that_kept_its_promise() {
        let level = level("availability = \"99.9%\"\nuptime = \"99.9%\"\ndelivered_within = { \"30s\" = \"99%\" }");
        let period = month();
        // October in Berlin has 31 days and an hour: 8,940 tests, of which six fail in a row: half an hour.
        let series = series(&period, period.to, |n| if (100..106).contains(&n) { BAD } else { GOOD });
        let entry = judged(&level, &period, period.to, &series);
        assert_eq!(entry.tests, 8_940);
        assert_eq!(entry.service, Micros::from_secs((31 * 24 + 1) * 3_600));
        let [availability, uptime, within] = &entry.targets[..] else {
            panic!("three targets")
        };
        assert_eq!(availability.verdict, Verdict::Met);
        assert!(
            !availability.is_certain,
            "six failures of 8,940 are within chance of nine"
        );
        let tests = availability.tests.expect("a budget");
        assert!((tests.whole - 8.94).abs() < 1e-6 && tests.spent == 6.0);
        let time = uptime.time.expect("a budget");
        assert!((time.whole / 60e6 - 44.7).abs() < 1e-6, "{time:?}");
        assert!((time.spent / 60e6 - 30.0).abs() < 1e-6, "{time:?}");
        assert!((uptime.spent().expect("a share") - 30.0 / 44.7).abs() < 1e-9);
        assert_eq!(uptime.verdict, Verdict::Met);
        assert_eq!((within.verdict, within.is_certain), (Verdict::Met, true));
        assert!(within.forecast.is_none(), "it is over");
    }

    #[test]
    fn one_more_failure_than_the_budget_misses() {
        let level = level("availability = \"99.9%\"");
        let period = month();
        for (failures, verdict) in [(8, Verdict::Met), (9, Verdict::Missed)] {
            let series = series(&period, period.to, |n| if n < failures { BAD } else { GOOD });
            let entry = judged(&level, &period, period.to, &series);
            assert_eq!(entry.verdict(), verdict, "{failures} failures");
        }
    }

    #[test]
    fn only_service_hours_count_and_maintenance_does_not() {
        let level = level("availability = \"99%\"\nuptime = \"99%\"\nhours = \"Mon-Fri 07:00-19:00\"");
        let period = month();
        let of_week = |n: usize| {
            let at = period.from + Micros::from_secs(300 * n as i64);
            period.calendar.zoned(at)
        };
        // All nights fail; and a Monday morning of maintenance fails, too.
        let series = series(&period, period.to, |n| {
            let local = of_week(n);
            match (local.hour(), local.day()) {
                (7..19, 5) if local.hour() < 9 => Some((Outcome::SmtpFailed, 0, true)),
                (7..19, _) => GOOD,
                _ => BAD,
            }
        });
        let entry = judged(&level, &period, period.to, &series);
        // 22 working days of twelve hours, two hours of maintenance.
        assert_eq!(entry.service, Micros::from_secs(22 * 12 * 3_600));
        assert_eq!(entry.maintenance, Micros::from_secs(2 * 3_600));
        assert_eq!(entry.down, Micros::ZERO);
        assert_eq!(entry.tests, 22 * 144 - 24);
        assert_eq!(entry.verdict(), Verdict::Met);
    }

    #[test]
    fn too_little_is_not_decided() {
        let level = level("availability = \"99.9%\"");
        let period = month();
        let cases: [Case; 5] = [
            // A test an hour would be too few even without a failure.
            (
                |n| if n % 300 == 0 { GOOD } else { None },
                Verdict::NotDecidable(Why::Coverage),
            ),
            (|_| None, Verdict::NotDecidable(Why::NoTests)),
            (
                |n| if n < 6_000 { GOOD } else { None },
                Verdict::NotDecidable(Why::Coverage),
            ),
            // Half is unknown, but the other half misses whatever the unknown was.
            (
                |n| {
                    if n < 400 {
                        BAD
                    } else if n < 4_000 {
                        GOOD
                    } else {
                        None
                    }
                },
                Verdict::Missed,
            ),
            (|n| if n < 8_800 { GOOD } else { None }, Verdict::Met),
        ];
        for (index, (fate, verdict)) in cases.into_iter().enumerate() {
            let series = series(&period, period.to, fate);
            let entry = judged(&level, &period, period.to, &series);
            assert_eq!(entry.verdict(), verdict, "case {index}");
        }
    }

    #[test]
    fn a_period_that_runs_is_forecast() {
        let level = level("availability = \"99%\"");
        let period = month();
        let until = period.calendar.midnight(jiff::civil::date(2026, 10, 16));
        // One failure in 200: half the budget, evenly.
        let even = series(&period, until, |n| if n % 200 == 0 { BAD } else { GOOD });
        let entry = judged(&level, &period, until, &even);
        let judgement = &entry.targets[0];
        assert_eq!(judgement.verdict, Verdict::Open);
        let forecast = judgement.forecast.expect("a forecast");
        assert!((forecast.spent - 0.5).abs() < 0.02, "{forecast:?}");
        assert!((judgement.burn_rate.expect("a rate") - 0.5).abs() < 0.02);
        assert_eq!(forecast.chance, Some(1.0));
        let (low, high) = forecast.interval.expect("an interval");
        assert!(low <= forecast.spent && forecast.spent <= high, "{forecast:?}");
        // One day of 15 in which a third fails: what is to come is far less certain.
        let bunch = series(&period, until, |n| if (288..384).contains(&n) { BAD } else { GOOD });
        let bunch = judged(&level, &period, until, &bunch);
        assert_eq!(bunch.verdict(), Verdict::Missed, "96 of 89 that may fail");
        let (low, high) = bunch.targets[0].forecast.expect("a forecast").interval.expect("one");
        assert!(low < 1.2 && high > 3.0, "{low} to {high}");
    }

    #[test]
    fn a_percentile_counts_lost_mail_as_slow() {
        let level = level("percentile = { round_trip = { p95 = \"10s\" } }");
        let period = month();
        let slow = Some((Outcome::Ok, 11_000_000, false));
        for (share, verdict) in [(25, Verdict::Met), (15, Verdict::Missed)] {
            for bad in [BAD, slow] {
                let series = series(&period, period.to, |n| if n % share == 0 { bad } else { GOOD });
                let entry = judged(&level, &period, period.to, &series);
                assert_eq!(entry.verdict(), verdict, "one in {share}");
                let spent = entry.targets[0].spent().expect("a share");
                assert!((spent - 20.0 / share as f64).abs() < 0.01, "{spent}");
            }
        }
    }

    #[test]
    fn periods_end_where_the_question_does() {
        let calendar = Calendar::new(TimeZone::get(ZONE).expect("a zone"));
        let asked = Period::between("2026-09-28", "2026-10-05", calendar.clone()).expect("a week");
        let now = calendar.midnight(jiff::civil::date(2026, 12, 1));
        let monthly = level("availability = \"99%\"");
        let found = periods(&monthly, &asked, now);
        let said: Vec<String> = found.iter().map(|(period, _)| period.to_string()).collect();
        assert_eq!(
            said,
            [
                "2026-09-01 to 2026-10-01 (Europe/Berlin)",
                "2026-10-01 to 2026-11-01 (Europe/Berlin)"
            ]
        );
        assert_eq!((found[0].1, found[1].1), (found[0].0.to, asked.to));
        let rolling = level("availability = \"99%\"\nperiod = \"30d\"");
        let found = periods(&rolling, &asked, now);
        assert_eq!(found[0].0.to_string(), "2026-09-05 to 2026-10-05 (Europe/Berlin)");
        assert_eq!(found[0].1, asked.to);
    }

    #[test]
    fn monitors_judged_together_share_one_budget() {
        let level = level("availability = \"99.9%\"\njudge = \"together\"");
        let period = month();
        let service = Service::of(&level, &period, period.to);
        let of = |failures: usize| {
            let series = series(&period, period.to, |n| if n < failures { BAD } else { GOOD });
            Evidence::of(&series, &level, &period, &service, None)
        };
        let mut both = of(12);
        both.add(of(0));
        let entry = both.entry(&level, true);
        assert_eq!((entry.tests, entry.monitors), (2 * 8_940, 2));
        assert_eq!(entry.verdict(), Verdict::Met);
        assert_eq!(of(12).entry(&level, true).verdict(), Verdict::Missed);
    }
}
