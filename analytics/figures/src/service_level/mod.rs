//! Service levels: whether objectives were met, what is left of the error budget, and how the
//! period will end.
//!
//! Every objective allows some share of tests (or of time) to be bad: that share of everything in
//! the period is its error budget. Only tests and time within the service hours and outside
//! maintenance count. Unknown time counts neither as good nor as bad; if too little is known, there
//! is no verdict.

mod evidence;
mod service;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, btree_map},
    sync::Arc,
};

pub use evidence::Evidence;
use mailqos_config::{Config, Hours, LevelPeriod, LevelTarget, ServiceLevel};
use mailqos_lake_tables::{Lake, LakeError, Metric, Series, SeriesQuery, SiteAndMonitor};
use mailqos_model::{Micros, UtcMicros, words};
use service::Service;

use super::periods::{Calendar, Period, Unit};

/// One service level over one of its periods.
#[derive(Debug, Clone)]
pub struct LevelReport {
    /// Its key in the configuration.
    pub id: String,
    /// Its display name.
    pub name: String,
    /// Its configured service hours; empty for around the clock.
    pub hours: Vec<Hours>,
    /// Number of holidays, which have no service.
    pub holidays: usize,
    /// The whole period.
    pub period: Period,
    /// End of the evaluated part: the period's end, or the end of the data.
    pub until: UtcMicros,
    /// Whether the period is over.
    pub is_over: bool,
    /// The monitors, each judged separately; a single entry if they are judged together.
    pub entries: Vec<Entry>,
}

/// Subject of a judgement: a monitor seen from a site, or all monitors together.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The site and the monitor; `None` for several together.
    pub monitor: Option<(Arc<str>, Arc<str>)>,
    /// The kind of the tests; `None` is `mail-qos`.
    pub kind: Option<Arc<str>>,
    /// Number of monitors.
    pub monitors: usize,
    /// Service time of the whole period.
    pub service: Micros,
    /// Service time so far.
    pub passed: Micros,
    /// Time up, of `passed`.
    pub up: Micros,
    /// Time down, of `passed`.
    pub down: Micros,
    /// Time in maintenance, which does not count, of `passed`.
    pub maintenance: Micros,
    /// Unknown time, of `passed`.
    pub unknown: Micros,
    /// Counted tests in service hours.
    pub tests: u64,
    /// Each objective, in the order of the configuration.
    pub targets: Vec<TargetResult>,
}

/// Judgement of one objective.
#[derive(Debug, Clone)]
pub struct TargetResult {
    /// The objective.
    pub target: LevelTarget,
    /// The measured value.
    pub value: Value,
    /// Its 95 % confidence interval: shares, or microseconds for a percentile. `None` for time,
    /// which is not a sample.
    pub interval: Option<(f64, f64)>,
    /// The verdict.
    pub verdict: Verdict,
    /// Whether the confidence interval is entirely on the verdict's side of the objective.
    pub is_certain: bool,
    /// The budget in tests, if the objective counts tests.
    pub tests: Option<Amount>,
    /// The budget in microseconds, if the objective is about time up.
    pub time: Option<Amount>,
    /// How fast the budget is spent: 1 spends exactly all of it by the period's end.
    pub burn_rate: Option<f64>,
    /// The same over the last 24 hours of service.
    pub burn_rate_last_day: Option<f64>,
    /// How the period will end; `None` if it is over or nothing is known.
    pub forecast: Option<Forecast>,
    /// Value and verdict as if maintenance that was declared afterwards had been planned; `None` if
    /// no counted test is concerned. The verdict itself never depends on declarations.
    pub excluding_declared: Option<(Value, Verdict)>,
}

/// The measured value of an objective.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// Nothing.
    Unknown,
    /// A share in [0, 1].
    Share(f64),
    /// A percentile, in microseconds.
    Time(f64),
    /// A percentile that falls on mails that never arrived.
    NotDelivered,
}

/// Part of a budget: tests, or microseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Amount {
    /// Bad part that is allowed in the whole period.
    pub whole: f64,
    /// Bad part so far.
    pub spent: f64,
}

impl Amount {
    /// Returns the spent share of the budget; `None` if there is no budget yet.
    pub fn share(&self) -> Option<f64> {
        (self.whole > 0.0).then(|| self.spent / self.whole)
    }
}

/// How the period will end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    /// Share of the budget that will be spent if the current rate continues.
    pub spent: f64,
    /// 90 % interval, resampled from past days; `None` with fewer than five days.
    pub interval: Option<(f64, f64)>,
    /// Share of the resampled periods that meet the objective.
    pub chance: Option<f64>,
}

/// Verdict on an objective.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The period is over, and the objective was met.
    Met,
    /// The period is not over, and the objective can still be met.
    Open,
    /// Too little is known for a verdict.
    NotDecidable(UndecidedReason),
    /// Missed; if the period is not over, even a faultless rest would not help.
    Missed,
}

words!(
    /// Why there is no verdict.
    UndecidedReason, "reason" {
        /// One failed test would already exceed the budget, so a good result proves nothing.
        FewTests = "few_tests",
        /// Less than the required share of the service time is known.
        Coverage = "coverage",
        /// No test counted.
        NoTests = "no_tests",
    }
);

impl Verdict {
    /// Returns the word used in tables and data.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Open => "open",
            Self::NotDecidable(_) => "not_decidable",
            Self::Missed => "missed",
        }
    }
}

impl TargetResult {
    /// Returns the spent share of the error budget, by the unit of the objective; `None` if nothing
    /// is known.
    pub fn spent(&self) -> Option<f64> {
        if self.value == Value::Unknown {
            return None;
        }
        self.tests.or(self.time)?.share()
    }
}

impl Entry {
    /// Returns the worst verdict of its objectives.
    pub fn verdict(&self) -> Verdict {
        let worst = self.targets.iter().map(|judgement| judgement.verdict).max();
        worst.unwrap_or(Verdict::NotDecidable(UndecidedReason::NoTests))
    }

    /// Returns the known share of the service time so far, including maintenance as in every
    /// coverage; `None` if there was none. (The verdict requires a share of the time outside
    /// maintenance.)
    pub fn coverage(&self) -> Option<f64> {
        (self.passed.0 > 0).then(|| (self.passed - self.unknown).0 as f64 / self.passed.0 as f64)
    }
}

impl LevelReport {
    /// Returns the worst verdict of its entries.
    pub fn verdict(&self) -> Verdict {
        let worst = self.entries.iter().map(Entry::verdict).max();
        worst.unwrap_or(Verdict::NotDecidable(UndecidedReason::NoTests))
    }
}

/// Returns the periods of a service level that overlap `asked`, each with the end of its evaluated
/// part: what comes after `asked` or `now` is not known.
pub fn periods(level: &ServiceLevel, asked: &Period, now: UtcMicros) -> Vec<(Period, UtcMicros)> {
    let calendar = Calendar { timezone: level.hours.zone.clone(), ..asked.calendar.clone() };
    let end = asked.to.min(now.max(asked.from + Micros(1)));
    let unit = match level.period {
        LevelPeriod::Week => Unit::Week,
        LevelPeriod::Month => Unit::Month,
        LevelPeriod::Quarter => Unit::Quarter,
        LevelPeriod::Year => Unit::Year,
        LevelPeriod::Rolling(days) => {
            // Whole days; the last one contains the end of the requested period.
            let last = calendar.next(Unit::Day, calendar.start_of(Unit::Day, UtcMicros(end.0 - 1)));
            let first =
                calendar.zoned(last).date().saturating_sub(jiff::Span::new().days(i64::from(days)));
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

/// A service level over one of its periods, to be judged from each series.
#[derive(Debug, Clone)]
pub struct Task<'a> {
    config: &'a Config,
    level: &'a ServiceLevel,
    passed: Period,
    service: Arc<Service>,
}

impl<'a> Task<'a> {
    /// Prepares the evaluation of a period up to a moment.
    pub fn new(
        config: &'a Config,
        level: &'a ServiceLevel,
        period: &Period,
        until: UtcMicros,
    ) -> Self {
        let passed = period.until(until).unwrap_or_else(|| period.clone());
        Self { config, level, passed, service: Arc::new(Service::of(level, period, until)) }
    }

    /// Returns the evaluated part of the period.
    pub fn passed(&self) -> &Period {
        &self.passed
    }

    /// Returns the query for the samples of some monitors.
    pub fn query(&self, known: &BTreeSet<SiteAndMonitor>) -> SeriesQuery {
        let is_about_mails = |target: &LevelTarget| matches!(target, LevelTarget::Mails { .. });
        SeriesQuery::new(self.passed.clone())
            .sites(known.iter().map(|(site, _)| site.to_string()))
            .monitors(known.iter().map(|(_, monitor)| monitor.to_string()))
            .metrics(&metrics(self.level))
            .receipts(self.level.targets.iter().any(is_about_mails))
            .intervals(self.config)
            .for_outages()
    }

    /// Returns the evidence in a series.
    pub fn evidence(&self, series: &Series) -> Evidence {
        let mut monitors = self.config.monitors.values();
        let interval = monitors
            .find(|monitor| monitor.id.as_str() == &*series.monitor)
            .map(|monitor| monitor.test_interval);
        Evidence::of(series, self.level, &self.passed, &self.service, interval)
    }
}

/// Judges a service level over one of its periods, up to a moment.
///
/// `chosen` selects monitors in addition to the level's own selection.
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
    judge_with((lake, config), (id, level), (period, until), chosen, |task, query| {
        lake.map(query, |series| task.evidence(series))
    })
}

/// Judges a service level like [`judge`]; `gather` returns the evidence in the series of a query.
///
/// # Errors
/// The lake can't be read, or `gather` failed.
pub fn judge_with<E: From<LakeError>>(
    (lake, config): (&Lake, &Config),
    (id, level): (&str, &ServiceLevel),
    (period, until): (&Period, UtcMicros),
    chosen: &dyn Fn(&str, &str) -> bool,
    gather: impl FnOnce(&Task<'_>, &SeriesQuery) -> Result<Vec<Evidence>, E>,
) -> Result<LevelReport, E> {
    let task = Task::new(config, level, period, until);
    let configured: BTreeSet<String> = config
        .select(&level.monitors)
        .map(|monitors| monitors.iter().map(|monitor| monitor.id.to_string()).collect())
        .unwrap_or_default();
    let belongs = |site: &str, monitor: &str| {
        let at_site =
            level.sites.is_empty() || level.sites.iter().any(|s| mailqos_config::glob(s, site));
        let named = level.monitors.is_empty()
            || configured.contains(monitor)
            || level.monitors.iter().any(|pattern| mailqos_config::glob(pattern, monitor));
        at_site && named && chosen(site, monitor)
    };
    let known: BTreeSet<SiteAndMonitor> = lake
        .monitors(Some(task.passed.clone().into()))?
        .into_iter()
        .filter(|(site, monitor)| belongs(site, monitor))
        .collect();
    let hours = &task.service;
    let mut evidence: Vec<Evidence> = Vec::new();
    if !known.is_empty() {
        evidence = gather(&task, &task.query(&known))?;
        evidence.retain(|found| found.monitor.as_ref().is_some_and(|pair| known.contains(pair)));
    }
    // The objective also applies to a monitor without samples: nothing is known about it.
    for monitor in &configured {
        let seen = known.iter().any(|(_, known)| **known == **monitor);
        let site = config.site.as_str();
        if !seen
            && belongs(site, monitor)
            && config.monitors.values().any(|m| m.enabled && m.id.as_str() == monitor)
        {
            let mut nothing = Evidence::nothing(site, monitor, level, hours);
            let name = config.monitors.get(monitor.as_str()).map(|monitor| monitor.kind.name());
            nothing.kind = name.filter(|name| *name != "mail-qos").map(Arc::from);
            evidence.push(nothing);
        }
    }
    evidence.sort_by(|a, b| (&a.monitor, &a.kind).cmp(&(&b.monitor, &b.kind)));
    if level.together {
        // Tests of different kinds are not combined.
        let mut of_kind: BTreeMap<Option<Arc<str>>, Evidence> = BTreeMap::new();
        for one in evidence.drain(..) {
            match of_kind.entry(one.kind.clone()) {
                btree_map::Entry::Vacant(place) => {
                    place.insert(one);
                }
                btree_map::Entry::Occupied(mut sum) => sum.get_mut().add(one),
            }
        }
        evidence = of_kind.into_values().collect();
    }
    let is_over = until >= period.to;
    Ok(LevelReport {
        id: id.to_owned(),
        name: level.name.clone(),
        hours: level.hours.weekly.clone(),
        holidays: hours
            .days
            .iter()
            .filter(|(date, _)| level.hours.holidays.contains(*date))
            .count(),
        period: period.clone(),
        until,
        is_over,
        entries: evidence.into_iter().map(|evidence| evidence.entry(level, is_over)).collect(),
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
