//! What a report is made of: the samples of the selected monitors over a period, and the figures that most sections need.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use mailqos_core::{
    config::{self, Config},
    model::{Micros, UtcMicros},
    transcripts::Store,
};

use super::provenance::{Columns, Origin, Part};
use crate::{
    figures::{
        AlarmLog, Bucket, Column, Counts, Lake, LakeError, Metric, Period, Series, SeriesQuery, Timeline, Unit, Values,
        patterns::{self, Found},
        percentiles::CONTRACT,
        service_level::{self, LevelReport},
    },
    parallel,
};

/// The facts of one period.
#[derive(Debug)]
pub struct Facts {
    /// The period that was asked for.
    pub period: Period,
    /// The part of it that has passed: a period that is not over ends with the data.
    pub passed: Period,
    /// The period before, of the same kind.
    pub before: Period,
    /// The monitors, by site and id.
    pub monitors: Vec<Monitor>,
    /// What the configuration calls its monitors, by id: also those of which there is no sample.
    pub names: HashMap<String, String>,
    /// The service levels of the configuration over those of their periods that touch this one, for these monitors.
    pub levels: Vec<LevelReport>,
    /// Alarms, dead channels and maintenance of these monitors.
    pub log: AlarmLog,
    /// When the last sample began.
    pub last_sample: Option<UtcMicros>,
    /// Corrupt files that were left out.
    pub skipped: Vec<String>,
    /// What was found twice and counts once, or is named like a copy and was passed over.
    pub doubles: Vec<String>,
    /// What this machine's probe has kept of conversations, where a configuration says where.
    pub transcripts: Option<Store>,
    patterns: OnceLock<Vec<Found>>,
    buckets: Mutex<BucketsOf>,
}

/// The buckets of each period and unit that was asked for.
type BucketsOf = HashMap<(UtcMicros, UtcMicros, Unit), Arc<[Bucket]>>;

/// One monitor as seen from one site.
#[derive(Debug)]
pub struct Monitor {
    /// The site.
    pub site: String,
    /// The id in the lake.
    pub id: String,
    /// What people call it, with its site where several see it.
    pub name: String,
    /// The object that it watches, where the configuration knows.
    pub object: Option<String>,
    /// Its labels.
    pub tags: BTreeSet<String>,
    /// The samples.
    pub series: Series,
    /// The counted tests of the period.
    pub counts: Counts,
    /// Median, p90, p95, p99 of the round trip, in microseconds.
    pub round_trip: Option<[f64; 4]>,
    /// Of how many mails the round trip is known.
    pub round_trips: usize,
    /// Up, down and unknown.
    pub timeline: Timeline,
    /// The period before; `None` where less than half of it is known.
    pub before: Option<Before>,
    /// The longest round trip that counts as good, as the last sample or the configuration says.
    pub max_round_trip: Option<Micros>,
    /// The same, where it held for all counted tests of the period.
    pub limit: Option<Micros>,
    /// How many samples the period has, and their hash.
    pub origin: Origin,
    /// A certificate was accepted unverified in a test of the period.
    pub unverified: bool,
}

/// A monitor's figures in the period before.
#[derive(Debug)]
pub struct Before {
    /// The counted tests.
    pub counts: Counts,
    /// Median, p90, p95, p99 of the round trip, in microseconds.
    pub round_trip: Option<[f64; 4]>,
    /// Downtime.
    pub downtime: Micros,
    /// How many samples that period has, and their hash.
    pub origin: Origin,
}

/// Which monitors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Ids and globs, `tag:NAME`, `object:NAME`; all if empty.
    pub monitors: Vec<String>,
    /// Sites; all if empty.
    pub sites: Vec<String>,
}

impl Selection {
    /// Whether a monitor of the lake belongs to it.
    pub fn includes(&self, config: Option<&Config>, site: &str, id: &str) -> bool {
        let site_fits =
            self.sites.is_empty() || self.sites.iter().any(|wanted| mailqos_core::config::glob(wanted, site));
        site_fits
            && (self.monitors.is_empty()
                || self.monitors.iter().any(|pattern| {
                    let configured = || {
                        config.is_some_and(|config| {
                            config
                                .select(std::slice::from_ref(pattern))
                                .is_ok_and(|monitors| monitors.iter().any(|monitor| monitor.id.as_str() == id))
                        })
                    };
                    mailqos_core::config::glob(pattern, id) || configured()
                }))
    }
}

impl Monitor {
    /// Whether its samples were made up for a demonstration: the site's name says so.
    pub fn is_simulated(&self) -> bool {
        self.site == "simulated" || self.site.ends_with("-simulated")
    }

    /// The values of a metric over the counted tests of the period.
    pub fn values(&self, metric: Metric) -> Values {
        values(&self.series, metric)
    }

    /// Percentiles of a metric over the counted tests of the period, in microseconds; `None` without a value.
    pub fn percentiles<const N: usize>(&self, metric: Metric, qs: &[f64; N]) -> Option<[f64; N]> {
        self.values(metric).percentiles(qs)
    }
}

fn values(series: &Series, metric: Metric) -> Values {
    let mut values = Values::default();
    series.values_into(metric, series.inside.clone(), &series.counting(), &mut values);
    values
}

impl Facts {
    /// Reads the samples of the selected monitors.
    ///
    /// # Errors
    /// The lake can't be read.
    pub fn load(
        lake: &Lake,
        config: Option<&Config>,
        selection: &Selection,
        period: &Period,
        now: UtcMicros,
    ) -> Result<Self, LakeError> {
        let known = lake.monitors(Some(period))?;
        let chosen: BTreeSet<(String, String)> = known
            .iter()
            .filter(|(site, id)| selection.includes(config, site, id))
            .map(|(site, id)| (site.to_string(), id.to_string()))
            .collect();
        let sites: BTreeSet<&str> = chosen.iter().map(|(site, _)| site.as_str()).collect();
        let query = |period: &Period| {
            SeriesQuery::new(period.clone())
                .monitors(chosen.iter().map(|(_, id)| id.clone()))
                .sites(sites.iter().copied())
        };
        let with_intervals = |query: SeriesQuery| match config {
            Some(config) => query.intervals(config),
            None => query,
        };
        let now_query = query(period)
            .metrics(&Metric::ALL)
            .columns(&[
                Column::Stage,
                Column::Error,
                Column::SmtpReplyCode,
                Column::TestInterval,
                Column::MaxRoundTrip,
                Column::Hops,
                Column::Unverified,
            ])
            .for_outages();
        let now_query = with_intervals(now_query);
        let (mut series, before) = if chosen.is_empty() {
            (Vec::new(), Vec::new())
        } else {
            let before = period.previous();
            let before_query = with_intervals(query(&before).metrics(&[Metric::RoundTrip]).for_outages());
            (
                lake.map(&now_query, |series| {
                    let mut series = std::mem::take(series);
                    series.leave_out_empty();
                    let mut trips = values(&series, Metric::RoundTrip);
                    let round_trip = (trips.len(), trips.percentiles(&CONTRACT));
                    (Origin::of(&series, Columns::All), round_trip, series)
                })?,
                lake.map(&before_query, |series| figures_before(config, series, &before))?,
            )
        };
        series.retain(|(.., series)| chosen.contains(&(series.site.to_string(), series.monitor.to_string())));
        let last_sample = series
            .iter()
            .filter(|(.., series)| !series.inside.is_empty())
            .map(|(.., series)| series.at(series.inside.end - 1))
            .max();
        let passed = passed(period, &series, last_sample, now);
        let mut monitors: Vec<Monitor> = series
            .into_iter()
            .map(|(origin, round_trip, series)| {
                let before = before
                    .iter()
                    .find(|(site, id, _)| **site == *series.site && **id == *series.monitor)
                    .and_then(|(_, _, before)| before.as_ref())
                    .map(|before| Before {
                        counts: before.counts,
                        round_trip: before.round_trip,
                        downtime: before.downtime,
                        origin: before.origin.clone(),
                    });
                monitor(config, (origin, round_trip, series), before, &passed)
            })
            .collect();
        let several: BTreeSet<&str> = monitors.iter().map(|monitor| monitor.site.as_str()).collect();
        if several.len() > 1 {
            for monitor in &mut monitors {
                monitor.name = format!("{} · {}", monitor.name, monitor.site);
            }
        }
        monitors.sort_by(|a, b| (&a.id, &a.site).cmp(&(&b.id, &b.site)));
        let levels = match config {
            Some(config) => levels(lake, config, selection, &passed)?,
            None => Vec::new(),
        };
        let log = AlarmLog::load(lake, &passed, &|site, id| {
            // The alarm of a probe's own recording stands for no monitor; whoever reads of its monitors must know.
            sites.contains(site) && (id.starts_with("mailqos.") || chosen.contains(&(site.to_owned(), id.to_owned())))
        })?;
        let configured = config.iter().flat_map(|config| config.monitors.values());
        let names = configured.map(|monitor| (monitor.id.to_string(), monitor.name.clone()));
        let skipped = lake
            .skipped()
            .into_iter()
            .map(|(path, reason)| format!("{}: {reason}", path.display()))
            .collect();
        Ok(Self {
            before: period.previous(),
            period: period.clone(),
            passed,
            monitors,
            names: names.collect(),
            levels,
            log,
            last_sample,
            skipped,
            doubles: lake.doubles(),
            transcripts: config.map(Store::new),
            patterns: OnceLock::new(),
            buckets: Mutex::default(),
        })
    }

    /// What stands out from chance in the samples of all monitors; found when first asked for, on all cores.
    pub fn patterns(&self) -> &[Found] {
        self.patterns.get_or_init(|| {
            let ask = |monitor: &Monitor| patterns::ask(&monitor.series, &self.passed);
            patterns::find(parallel::map(&self.monitors, ask))
        })
    }

    /// The buckets of a period, which monitors share: to find the hours of a year takes as long as to draw them.
    pub fn buckets(&self, period: &Period, unit: Unit) -> Arc<[Bucket]> {
        let mut known = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let buckets = known
            .entry((period.from, period.to, unit))
            .or_insert_with(|| period.buckets(unit).into());
        Arc::clone(buckets)
    }

    /// What was read for some of the monitors.
    pub fn parts(&self, monitors: &[&Monitor]) -> Vec<Part> {
        let part = |period: &Period, columns, monitors: Vec<Origin>| Part {
            from: period.from,
            to: period.to,
            columns,
            monitors,
        };
        let before = monitors.iter().filter_map(|monitor| monitor.before.as_ref());
        let before: Vec<Origin> = before.map(|before| before.origin.clone()).collect();
        let now = monitors.iter().map(|monitor| monitor.origin.clone()).collect();
        let mut parts = vec![part(&self.period, Columns::All, now)];
        if !before.is_empty() {
            parts.push(part(&self.before, Columns::RoundTrip, before));
        }
        parts
    }

    /// Whether the period is not over yet.
    pub fn is_provisional(&self) -> bool {
        self.passed.to < self.period.to
    }
}

fn levels(lake: &Lake, config: &Config, selection: &Selection, passed: &Period) -> Result<Vec<LevelReport>, LakeError> {
    let chosen = |site: &str, id: &str| selection.includes(Some(config), site, id);
    let mut reports = Vec::new();
    for (id, level) in &config.service_levels {
        for (period, until) in service_level::periods(level, passed, passed.to) {
            let report = service_level::judge(lake, config, (id.as_str(), level), (&period, until), &chosen)?;
            if !report.entries.is_empty() {
                reports.push(report);
            }
        }
    }
    Ok(reports)
}

/// What was read of a monitor: where it is from; how many round trips, and their p50, p90, p95 and p99; its samples.
type Read = (Origin, (usize, Option<[f64; 4]>), Series);

/// A period that is not over ends one test interval after the last sample.
fn passed(period: &Period, series: &[Read], last: Option<UtcMicros>, now: UtcMicros) -> Period {
    if period.to <= now {
        return period.clone();
    }
    let interval = series
        .iter()
        .filter_map(|(.., series)| series.test_interval.iter().last().flatten())
        .max()
        .unwrap_or(Micros::from_secs(300));
    let end = last.map_or(now, |last| (last + interval).min(now.max(last + Micros(1))));
    period.until(end).unwrap_or_else(|| period.clone())
}

/// What the configuration says of a monitor.
fn configured<'a>(config: Option<&'a Config>, series: &Series) -> Option<&'a config::Monitor> {
    let mut monitors = config?.monitors.values();
    monitors.find(|monitor| monitor.id.as_str() == &*series.monitor)
}

fn monitor(
    config: Option<&Config>,
    (origin, (round_trips, round_trip), series): Read,
    before: Option<Before>,
    passed: &Period,
) -> Monitor {
    let configured = configured(config, &series);
    let in_samples = series
        .inside
        .clone()
        .rev()
        .find_map(|row| series.max_round_trip.get(row));
    let max_round_trip = in_samples.or(configured.map(|monitor| monitor.kind.max_round_trip()));
    let is_limit = |row| {
        series
            .max_round_trip
            .get(row)
            .is_none_or(|limit| Some(limit) == max_round_trip)
    };
    Monitor {
        site: series.site.to_string(),
        id: series.monitor.to_string(),
        name: configured.map_or_else(|| series.monitor.to_string(), |monitor| monitor.name.clone()),
        object: configured.map(|monitor| {
            config
                .and_then(|config| config.objects.get(&monitor.object))
                .map_or_else(|| monitor.object.to_string(), |object| object.name.clone())
        }),
        tags: configured.map(|monitor| monitor.tags.clone()).unwrap_or_default(),
        counts: Counts::of(&series, series.inside.clone()),
        round_trip,
        round_trips,
        timeline: Timeline::of(&series, passed, configured.map(|monitor| monitor.test_interval)),
        before,
        origin,
        max_round_trip,
        limit: max_round_trip.filter(|_| series.counted().all(is_limit)),
        unverified: series
            .unverified
            .get(series.inside.clone())
            .is_some_and(|tests| tests.contains(&true)),
        series,
    }
}

type Earlier = (std::sync::Arc<str>, std::sync::Arc<str>, Option<Before>);

fn figures_before(config: Option<&Config>, series: &Series, period: &Period) -> Earlier {
    let counts = Counts::of(series, series.inside.clone());
    let round_trip = values(series, Metric::RoundTrip).percentiles(&CONTRACT);
    let interval = configured(config, series).map(|monitor| monitor.test_interval);
    let timeline = Timeline::of(series, period, interval);
    // A period of which less than half is known is no measure for another.
    let before = (counts.tests() > 0 && timeline.coverage() >= 0.5).then_some(Before {
        counts,
        round_trip,
        downtime: timeline.downtime,
        origin: Origin::of(series, Columns::RoundTrip),
    });
    (series.site.clone(), series.monitor.clone(), before)
}
