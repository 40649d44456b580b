//! Facts of a report: the samples of the selected monitors over a period, and the figures that most
//! sections need.

use std::collections::{BTreeSet, HashMap};

use mailqos_config as config;
use mailqos_config::Config;
use mailqos_figures::{
    AlarmLog, Bucket, Counts, Period, Timeline, Unit,
    patterns::{self, PatternFinding},
    percentiles::{CONTRACT, percentiles_of},
    service_level::{self, LevelReport},
};
use mailqos_lake::transcripts::Store;
use mailqos_lake_tables::{Lake, LakeError, Metric, Series, SeriesQuery, Values, has_mails};
use mailqos_model::{Micros, UtcMicros};

use super::{
    digest::{Buckets, Digest, DigestRequest, Needs},
    provenance::{Columns, Origin, Part},
};

/// Inputs of a report, besides its definition.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Lake with the samples.
    pub lake: &'a Lake,
    /// Configuration, if there is one.
    pub config: Option<&'a Config>,
    /// Current time.
    pub now: UtcMicros,
    /// Time stated in the report (default: the end of the data, so that the report is
    /// reproducible).
    pub made_at: Option<UtcMicros>,
}

/// Facts of one period.
#[derive(Debug)]
pub struct Facts {
    /// Requested period.
    pub period: Period,
    /// Elapsed part of the period; an unfinished period ends with the data.
    pub passed: Period,
    /// Previous period of the same kind.
    pub before: Period,
    /// Monitors, sorted by id, site and kind.
    pub monitors: Vec<Monitor>,
    /// Configured names of monitors by id, including monitors without samples.
    pub names: HashMap<String, String>,
    /// Configured service levels of these monitors, for each of their periods that overlaps this
    /// one.
    pub levels: Vec<LevelReport>,
    /// Alarms, dead channels and maintenance windows of these monitors.
    pub log: AlarmLog,
    /// Start of the last sample.
    pub last_sample: Option<UtcMicros>,
    /// Skipped corrupt files.
    pub skipped: Vec<String>,
    /// Duplicates that count once, and skipped files that are named like copies.
    pub doubles: Vec<String>,
    /// Transcripts stored by this machine's probe, if the configuration names their folder.
    pub transcripts: Option<Store>,
    patterns: Vec<PatternFinding>,
    buckets: Buckets,
}

/// One monitor as seen from one site.
#[derive(Debug)]
pub struct Monitor {
    /// Site of the monitor.
    pub site: String,
    /// Id of the monitor in the lake.
    pub id: String,
    /// Kind of its tests; `None` for `mail-qos`.
    pub kind: Option<String>,
    /// Display name, with the site if several sites test it.
    pub name: String,
    /// Object of the monitor, if configured.
    pub object: Option<String>,
    /// Tags of the monitor.
    pub tags: BTreeSet<String>,
    /// Figures that sections need.
    pub digest: Digest,
    /// Counted tests of the period.
    pub counts: Counts,
    /// Median, p90, p95 and p99 of the round trip, in microseconds.
    pub round_trip: Option<[f64; 4]>,
    /// Number of mails with a known round trip.
    pub round_trips: usize,
    /// Timeline of up, down and unknown time.
    pub timeline: Timeline,
    /// Figures of the previous period; `None` if less than half of it is known.
    pub before: Option<PreviousFigures>,
    /// Maximum round trip, from the last sample or the configuration.
    pub max_round_trip: Option<Micros>,
    /// Maximum round trip, if it was the same for all counted tests of the period.
    pub limit: Option<Micros>,
    /// Number of samples in the period, and their hash.
    pub origin: Origin,
    /// Whether a test of the period accepted an unverified certificate.
    pub unverified: bool,
    /// Counts and downtime as if maintenance that was declared afterwards had been planned; `None`
    /// if no counted test is concerned.
    pub excluding_declared: Option<(Counts, Micros)>,
}

/// Site, id and kind of a monitor.
type MonitorKey = (String, String, Option<String>);

/// Figures of a monitor in the previous period.
#[derive(Debug)]
pub struct PreviousFigures {
    /// Counted tests.
    pub counts: Counts,
    /// Median, p90, p95 and p99 of the round trip, in microseconds.
    pub round_trip: Option<[f64; 4]>,
    /// Downtime.
    pub downtime: Micros,
    /// Number of samples in that period, and their hash.
    pub origin: Origin,
}

/// Selection of monitors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Ids, globs, `tag:NAME` and `object:NAME`; all monitors if empty.
    pub monitors: Vec<String>,
    /// Sites; all if empty.
    pub sites: Vec<String>,
}

impl Selection {
    /// Returns whether a monitor of the lake is selected.
    pub fn includes(&self, config: Option<&Config>, site: &str, id: &str) -> bool {
        let site_fits = self.sites.is_empty()
            || self.sites.iter().any(|wanted| mailqos_config::glob(wanted, site));
        site_fits
            && (self.monitors.is_empty()
                || self.monitors.iter().any(|pattern| {
                    if let Some((at, monitor)) = pattern.split_once('/') {
                        // A console's selection lists thousands of monitors, most of them exactly.
                        let is_it = |pattern: &str, text| {
                            pattern == text
                                || pattern.contains(['*', '?'])
                                    && mailqos_config::glob(pattern, text)
                        };
                        return is_it(monitor, id) && is_it(at, site);
                    }
                    let configured = || {
                        config.is_some_and(|config| {
                            config.select(std::slice::from_ref(pattern)).is_ok_and(|monitors| {
                                monitors.iter().any(|monitor| monitor.id.as_str() == id)
                            })
                        })
                    };
                    mailqos_config::glob(pattern, id) || configured()
                }))
    }
}

impl Monitor {
    /// Returns whether its tests send mails.
    pub fn has_mails(&self) -> bool {
        has_mails(self.kind.as_deref())
    }

    /// Returns site, id and kind, which identify the monitor.
    fn key(&self) -> MonitorKey {
        (self.site.clone(), self.id.clone(), self.kind.clone())
    }

    /// Returns whether its samples are demonstration data, as indicated by the name of the site.
    pub fn is_simulated(&self) -> bool {
        self.site == "simulated" || self.site.ends_with("-simulated")
    }
}

fn values(series: &Series, metric: Metric) -> Values {
    let mut values = Values::default();
    series.values_into(metric, series.inside.clone(), &series.counting(), &mut values);
    values
}

/// Monitors to read and figures to compute.
struct Reading<'a> {
    source: Source<'a>,
    /// Site and id of each selected monitor.
    chosen: BTreeSet<(String, String)>,
    needs: &'a Needs,
    period: &'a Period,
}

/// Approximate limit of decoded samples in memory, in bytes; a lower limit would read files more
/// often.
const SAMPLES: usize = 160 << 20;

impl Reading<'_> {
    fn query(&self, period: &Period) -> SeriesQuery {
        let sites: BTreeSet<&str> = self.chosen.iter().map(|(site, _)| site.as_str()).collect();
        let query = SeriesQuery::new(period.clone())
            .monitors(self.chosen.iter().map(|(_, id)| id.clone()))
            .sites(sites)
            .for_outages()
            .budget(SAMPLES);
        match self.source.config {
            Some(config) => query.intervals(config),
            None => query,
        }
    }

    fn is_chosen(&self, series: &Series) -> bool {
        self.chosen.contains(&(series.site.to_string(), series.monitor.to_string()))
    }

    /// Returns the elapsed part of the period. An unfinished period ends one test interval after
    /// the last sample.
    fn passed(&self) -> Result<Period, LakeError> {
        let (period, now) = (self.period, self.source.now);
        if period.to <= now || self.chosen.is_empty() {
            return Ok(if period.to <= now { period.clone() } else { passed(period, &[], now) });
        }
        let ends = self.source.lake.map(&self.query(period), |series| {
            self.is_chosen(series).then(|| End {
                last: (!series.inside.is_empty()).then(|| series.at(series.inside.end - 1)),
                interval: series.test_interval.iter().last().flatten(),
            })
        })?;
        let ends: Vec<End> = ends.into_iter().flatten().collect();
        Ok(passed(period, &ends, now))
    }

    /// Returns the figures of the previous period.
    fn before(&self) -> Result<HashMap<MonitorKey, PreviousFigures>, LakeError> {
        let before = self.period.previous();
        let query = self.query(&before).metrics(&[Metric::RoundTrip]);
        let config = self.source.config;
        let found = self.source.lake.map(&query, |series| {
            let figures = figures_before(config, series, &before)?;
            let kind = series.kind.as_deref().map(str::to_owned);
            Some(((series.site.to_string(), series.monitor.to_string(), kind), figures))
        })?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Returns the monitors in the order of the lake; the samples of each are dropped once its
    /// figures are computed.
    fn monitors(&self, passed: &Period, buckets: &Buckets) -> Result<Vec<Monitor>, LakeError> {
        let metrics: Vec<Metric> = self.needs.metrics().into_iter().collect();
        let query = self.query(self.period).metrics(&metrics).columns(&self.needs.columns());
        let query = query.receipts(self.needs.receipts());
        let asked = DigestRequest { needs: self.needs, passed, buckets };
        let found = self.source.lake.map(&query, |series| {
            self.is_chosen(series).then(|| monitor(self.source.config, series, asked))
        })?;
        Ok(found.into_iter().flatten().collect())
    }
}

impl Facts {
    /// Reads the samples of the selected monitors and computes the figures that sections need.
    ///
    /// # Errors
    /// The lake can't be read.
    pub fn load(
        source: Source<'_>,
        selection: &Selection,
        period: &Period,
        needs: &Needs,
    ) -> Result<Self, LakeError> {
        let Source { lake, config, .. } = source;
        let known = lake.monitors(Some(period.into()))?;
        let reading = Reading {
            source,
            chosen: known
                .iter()
                .filter(|(site, id)| selection.includes(config, site, id))
                .map(|(site, id)| (site.to_string(), id.to_string()))
                .collect(),
            needs,
            period,
        };
        let passed = reading.passed()?;
        let buckets = Buckets::default();
        let mut monitors = Vec::new();
        if !reading.chosen.is_empty() {
            monitors = reading.monitors(&passed, &buckets)?;
            let mut before = reading.before()?;
            for monitor in &mut monitors {
                monitor.before = before.remove(&monitor.key());
            }
        }
        let last_sample = monitors.iter().filter_map(|monitor| Some(monitor.digest.seen?.1)).max();
        let answers = monitors.iter_mut().filter_map(|monitor| monitor.digest.answers.take());
        let patterns = patterns::find(answers.collect());
        let several: BTreeSet<&str> =
            monitors.iter().map(|monitor| monitor.site.as_str()).collect();
        if several.len() > 1 {
            for monitor in &mut monitors {
                monitor.name = format!("{} · {}", monitor.name, monitor.site);
            }
        }
        name_kinds(&mut monitors);
        monitors.sort_by(|a, b| (&a.id, &a.site, &a.kind).cmp(&(&b.id, &b.site, &b.kind)));
        let levels = match config {
            Some(config) => levels(lake, config, selection, &passed)?,
            None => Vec::new(),
        };
        let chosen = &reading.chosen;
        let log = AlarmLog::load(lake, &passed, &|site, id| {
            // An alarm about a probe's own recording belongs to no monitor, but concerns the
            // readers of its monitors.
            let is_own = id.starts_with("mailqos.") && chosen.iter().any(|(of, _)| of == site);
            is_own || chosen.contains(&(site.to_owned(), id.to_owned()))
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
            patterns,
            buckets,
        })
    }

    /// Returns the significant patterns of all monitors, if a section needs them.
    pub fn patterns(&self) -> &[PatternFinding] {
        &self.patterns
    }

    /// Returns the buckets of a period, which monitors share.
    pub fn buckets(&self, period: &Period, unit: Unit) -> std::sync::Arc<[Bucket]> {
        self.buckets.of(period, unit)
    }

    /// Returns the provenance of the given monitors.
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

    /// Returns whether the period is not over yet.
    pub fn is_provisional(&self) -> bool {
        self.passed.to < self.period.to
    }
}

/// Adds the kind to the names of a monitor whose kind was changed in the period.
fn name_kinds(monitors: &mut [Monitor]) {
    let mut kinds: HashMap<(String, String), usize> = HashMap::new();
    for monitor in &*monitors {
        *kinds.entry((monitor.site.clone(), monitor.id.clone())).or_default() += 1;
    }
    for monitor in monitors {
        if kinds.get(&(monitor.site.clone(), monitor.id.clone())) > Some(&1) {
            monitor.name =
                format!("{} · {}", monitor.name, monitor.kind.as_deref().unwrap_or("mail-qos"));
        }
    }
}

fn levels(
    lake: &Lake,
    config: &Config,
    selection: &Selection,
    passed: &Period,
) -> Result<Vec<LevelReport>, LakeError> {
    let chosen = |site: &str, id: &str| selection.includes(Some(config), site, id);
    let mut reports = Vec::new();
    for (id, level) in &config.service_levels {
        for (period, until) in service_level::periods(level, passed, passed.to) {
            let report = service_level::judge(
                lake,
                config,
                (id.as_str(), level),
                (&period, until),
                &chosen,
            )?;
            if !report.entries.is_empty() {
                reports.push(report);
            }
        }
    }
    Ok(reports)
}

/// End of the samples of a monitor.
struct End {
    /// Start of the last sample of the period.
    last: Option<UtcMicros>,
    /// Last known test interval.
    interval: Option<Micros>,
}

/// Returns the elapsed part of an unfinished period, which ends one test interval after the last
/// sample.
fn passed(period: &Period, ends: &[End], now: UtcMicros) -> Period {
    let interval = ends.iter().filter_map(|end| end.interval).max();
    let interval = interval.unwrap_or(Micros::from_secs(300));
    let last = ends.iter().filter_map(|end| end.last).max();
    let end = last.map_or(now, |last| (last + interval).min(now.max(last + Micros(1))));
    period.until(end).unwrap_or_else(|| period.clone())
}

/// Returns the configuration of a monitor.
fn configured<'a>(config: Option<&'a Config>, series: &Series) -> Option<&'a config::Monitor> {
    let mut monitors = config?.monitors.values();
    monitors.find(|monitor| monitor.id.as_str() == &*series.monitor)
}

/// Returns a monitor with all needed figures, except those of the previous period.
fn monitor(config: Option<&Config>, series: &mut Series, asked: DigestRequest<'_>) -> Monitor {
    series.leave_out_empty();
    let series = &*series;
    let configured = configured(config, series);
    let in_samples = series.inside.clone().rev().find_map(|row| series.max_round_trip.get(row));
    let max_round_trip =
        in_samples.or(configured.and_then(|monitor| monitor.kind.max_round_trip()));
    let is_limit =
        |row| series.max_round_trip.get(row).is_none_or(|limit| Some(limit) == max_round_trip);
    let mut trips = values(series, Metric::RoundTrip);
    let timeline =
        Timeline::of(series, asked.passed, configured.map(|monitor| monitor.test_interval));
    Monitor {
        site: series.site.to_string(),
        id: series.monitor.to_string(),
        kind: series.kind.as_deref().map(str::to_owned),
        name: configured.map_or_else(|| series.monitor.to_string(), |monitor| monitor.name.clone()),
        object: configured.map(|monitor| {
            config
                .and_then(|config| config.objects.get(&monitor.object))
                .map_or_else(|| monitor.object.to_string(), |object| object.name.clone())
        }),
        tags: configured.map(|monitor| monitor.tags.clone()).unwrap_or_default(),
        counts: Counts::of(series, series.inside.clone()),
        excluding_declared: series.without_declared().map(|series| {
            let interval = configured.map(|monitor| monitor.test_interval);
            let timeline = Timeline::of(&series, asked.passed, interval);
            (Counts::of(&series, series.inside.clone()), timeline.downtime)
        }),
        round_trips: trips.len(),
        round_trip: percentiles_of(&mut trips, &CONTRACT),
        digest: Digest::of(series, &timeline, asked),
        timeline,
        before: None,
        origin: Origin::of(series, Columns::All),
        max_round_trip,
        limit: max_round_trip.filter(|_| series.counted().all(is_limit)),
        unverified: series
            .unverified
            .get(series.inside.clone())
            .is_some_and(|tests| tests.contains(&true)),
    }
}

/// Returns the figures of a monitor in the previous period; `None` if less than half of it is
/// known, which would be no basis for a comparison.
fn figures_before(
    config: Option<&Config>,
    series: &Series,
    period: &Period,
) -> Option<PreviousFigures> {
    let counts = Counts::of(series, series.inside.clone());
    let interval = configured(config, series).map(|monitor| monitor.test_interval);
    let timeline = Timeline::of(series, period, interval);
    (counts.tests() > 0 && timeline.coverage() >= 0.5).then(|| PreviousFigures {
        counts,
        round_trip: percentiles_of(&mut values(series, Metric::RoundTrip), &CONTRACT),
        downtime: timeline.downtime,
        origin: Origin::of(series, Columns::RoundTrip),
    })
}
