//! What a report is made of: the samples of the selected monitors over a period, and the figures that most sections need.

use std::collections::{BTreeSet, HashMap};

use mailqos_config as config;
use mailqos_config::Config;
use mailqos_figures::{
    AlarmLog, Bucket, Counts, Period, Timeline, Unit,
    patterns::{self, Found},
    percentiles::{CONTRACT, percentiles_of},
    service_level::{self, LevelReport},
};
use mailqos_lake_tables::{Lake, LakeError, Metric, Series, SeriesQuery, Values, has_mails};
use mailqos_mail::transcripts::Store;
use mailqos_model::{Micros, UtcMicros};

use super::{
    digest::{Asked, Buckets, Digest, Needs},
    provenance::{Columns, Origin, Part},
};

/// What a report is made from, besides its definition.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The samples.
    pub lake: &'a Lake,
    /// The configuration, where there is one.
    pub config: Option<&'a Config>,
    /// The present.
    pub now: UtcMicros,
    /// The moment at which the report says it was made; by default the end of the data, so that it can be reproduced.
    pub made_at: Option<UtcMicros>,
}

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
    patterns: Vec<Found>,
    buckets: Buckets,
}

/// One monitor as seen from one site.
#[derive(Debug)]
pub struct Monitor {
    /// The site.
    pub site: String,
    /// The id in the lake.
    pub id: String,
    /// The kind of its tests; `None` is `mail-qos`.
    pub kind: Option<String>,
    /// What people call it, with its site where several see it.
    pub name: String,
    /// The object that it watches, where the configuration knows.
    pub object: Option<String>,
    /// Its labels.
    pub tags: BTreeSet<String>,
    /// What sections asked the samples.
    pub digest: Digest,
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

/// Site, id and kind of a monitor.
type MonitorKey = (String, String, Option<String>);

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
        let site_fits = self.sites.is_empty() || self.sites.iter().any(|wanted| mailqos_config::glob(wanted, site));
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
                    mailqos_config::glob(pattern, id) || configured()
                }))
    }
}

impl Monitor {
    /// Whether its tests are about mails that arrive.
    pub fn has_mails(&self) -> bool {
        has_mails(self.kind.as_deref())
    }

    /// Site, id and kind: what tells it from the others.
    fn key(&self) -> MonitorKey {
        (self.site.clone(), self.id.clone(), self.kind.clone())
    }

    /// Whether its samples were made up for a demonstration: the site's name says so.
    pub fn is_simulated(&self) -> bool {
        self.site == "simulated" || self.site.ends_with("-simulated")
    }
}

fn values(series: &Series, metric: Metric) -> Values {
    let mut values = Values::default();
    series.values_into(metric, series.inside.clone(), &series.counting(), &mut values);
    values
}

/// Which monitors are read, and what of them.
struct Reading<'a> {
    source: Source<'a>,
    /// Site and id of each.
    chosen: BTreeSet<(String, String)>,
    needs: &'a Needs,
    period: &'a Period,
}

/// How many bytes of decoded samples are held at a time, about: of fewer, files would be read more often.
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
        self.chosen
            .contains(&(series.site.to_string(), series.monitor.to_string()))
    }

    /// The part of the period that has passed. One that is not over ends a test interval after the last sample.
    fn passed(&self) -> Result<Period, LakeError> {
        let (period, now) = (self.period, self.source.now);
        if period.to <= now || self.chosen.is_empty() {
            return Ok(if period.to <= now {
                period.clone()
            } else {
                passed(period, &[], now)
            });
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

    /// The figures of the period before.
    fn before(&self) -> Result<HashMap<MonitorKey, Before>, LakeError> {
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

    /// The monitors, in the order of the lake: the samples of each are let go as soon as they have been asked.
    fn monitors(&self, passed: &Period, buckets: &Buckets) -> Result<Vec<Monitor>, LakeError> {
        let metrics: Vec<Metric> = self.needs.metrics().into_iter().collect();
        let query = self.query(self.period).metrics(&metrics).columns(&self.needs.columns());
        let asked = Asked {
            needs: self.needs,
            passed,
            buckets,
        };
        let found = self.source.lake.map(&query, |series| {
            self.is_chosen(series)
                .then(|| monitor(self.source.config, series, asked))
        })?;
        Ok(found.into_iter().flatten().collect())
    }
}

impl Facts {
    /// Reads the samples of the selected monitors and asks them what sections need.
    ///
    /// # Errors
    /// The lake can't be read.
    pub fn load(source: Source<'_>, selection: &Selection, period: &Period, needs: &Needs) -> Result<Self, LakeError> {
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
        let several: BTreeSet<&str> = monitors.iter().map(|monitor| monitor.site.as_str()).collect();
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
            // The alarm of a probe's own recording stands for no monitor; whoever reads of its monitors must know.
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

    /// What stands out from chance in the samples of all monitors, where a section asked.
    pub fn patterns(&self) -> &[Found] {
        &self.patterns
    }

    /// The buckets of a period, which monitors share.
    pub fn buckets(&self, period: &Period, unit: Unit) -> std::sync::Arc<[Bucket]> {
        self.buckets.of(period, unit)
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

/// Adds the kind to the names of a monitor whose kind was changed in the period.
fn name_kinds(monitors: &mut [Monitor]) {
    let mut kinds: HashMap<(String, String), usize> = HashMap::new();
    for monitor in &*monitors {
        *kinds.entry((monitor.site.clone(), monitor.id.clone())).or_default() += 1;
    }
    for monitor in monitors {
        if kinds.get(&(monitor.site.clone(), monitor.id.clone())) > Some(&1) {
            monitor.name = format!("{} · {}", monitor.name, monitor.kind.as_deref().unwrap_or("mail-qos"));
        }
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

/// Where the samples of a monitor end.
struct End {
    /// When the last sample of the period began.
    last: Option<UtcMicros>,
    /// The last known test interval.
    interval: Option<Micros>,
}

/// A period that is not over ends one test interval after the last sample.
fn passed(period: &Period, ends: &[End], now: UtcMicros) -> Period {
    let interval = ends.iter().filter_map(|end| end.interval).max();
    let interval = interval.unwrap_or(Micros::from_secs(300));
    let last = ends.iter().filter_map(|end| end.last).max();
    let end = last.map_or(now, |last| (last + interval).min(now.max(last + Micros(1))));
    period.until(end).unwrap_or_else(|| period.clone())
}

/// What the configuration says of a monitor.
fn configured<'a>(config: Option<&'a Config>, series: &Series) -> Option<&'a config::Monitor> {
    let mut monitors = config?.monitors.values();
    monitors.find(|monitor| monitor.id.as_str() == &*series.monitor)
}

/// A monitor, asked all that is needed; without the period before.
fn monitor(config: Option<&Config>, series: &mut Series, asked: Asked<'_>) -> Monitor {
    series.leave_out_empty();
    let series = &*series;
    let configured = configured(config, series);
    let in_samples = series
        .inside
        .clone()
        .rev()
        .find_map(|row| series.max_round_trip.get(row));
    let max_round_trip = in_samples.or(configured.and_then(|monitor| monitor.kind.max_round_trip()));
    let is_limit = |row| {
        series
            .max_round_trip
            .get(row)
            .is_none_or(|limit| Some(limit) == max_round_trip)
    };
    let mut trips = values(series, Metric::RoundTrip);
    let timeline = Timeline::of(series, asked.passed, configured.map(|monitor| monitor.test_interval));
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

/// A monitor's figures in the period before. One of which less than half is known is no measure for another.
fn figures_before(config: Option<&Config>, series: &Series, period: &Period) -> Option<Before> {
    let counts = Counts::of(series, series.inside.clone());
    let interval = configured(config, series).map(|monitor| monitor.test_interval);
    let timeline = Timeline::of(series, period, interval);
    (counts.tests() > 0 && timeline.coverage() >= 0.5).then(|| Before {
        counts,
        round_trip: percentiles_of(&mut values(series, Metric::RoundTrip), &CONTRACT),
        downtime: timeline.downtime,
        origin: Origin::of(series, Columns::RoundTrip),
    })
}
