//! A metric over time: one chart per monitor.

use mailqos_core::{
    config::{Problems, Table},
    model::{Micros, Outcome, UtcMicros},
};

use super::{
    Section, View,
    percentiles::{metric, metric_name},
};
use crate::{
    charts::{
        WIDTH,
        axis::Stretch,
        round_trip::{self, Bucket, Failure, Kind, RoundTrip, Shift},
    },
    figures::{Metric, Period, Series, State, Unit, alarm_log::Alarm, patterns, percentiles},
    report::{
        document::{Block, ChartBlock},
        facts::Monitor,
        locale::Locale,
    },
};

/// Values in a bucket below which they are drawn themselves.
const FEW: usize = 8;
/// Fewer values have no 95th percentile that is worth a title: it would be the greatest of them.
const ENOUGH: usize = 20;
/// Buckets in a chart at most, unless they are days.
const MOST: i64 = 180;
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

#[derive(Debug)]
struct MetricChart {
    metric: Metric,
}

pub(super) fn read(table: &mut Table, problems: &mut Problems) -> Option<Box<dyn Section>> {
    Some(Box::new(MetricChart {
        metric: metric(table, problems),
    }))
}

impl Section for MetricChart {
    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        view.monitors
            .iter()
            .filter(|monitor| !monitor.series.inside.is_empty())
            .map(|monitor| {
                let window = window(&monitor.series, &view.facts.passed);
                let several = view.monitors.len() > 1;
                let name = view.locale.inline(metric_name(self.metric, view.locale));
                let figures = Figures::of(monitor, self.metric);
                let mut title = figures.title(&name, view.locale);
                if several {
                    title = format!("{}: {title}", monitor.name);
                }
                let chart = round_trip::chart(
                    &RoundTrip {
                        title,
                        metric: name,
                        width: WIDTH,
                        period: stretch(&window),
                        median: figures.percentiles.map(|[median, _]| median),
                        buckets: buckets(&monitor.series, self.metric, &window),
                        limit: monitor
                            .limit
                            .filter(|_| self.metric == Metric::RoundTrip)
                            .map(|limit| limit.0 as f64),
                        failures: failures(monitor),
                        maintenance: maintenance(monitor),
                        alarms: alarms(view, monitor),
                        shifts: patterns::shifts(view.facts.patterns(), &monitor.series, self.metric)
                            .into_iter()
                            .map(|(at, before, after)| Shift { at, before, after })
                            .collect(),
                    },
                    view.locale,
                );
                Block::Chart(ChartBlock {
                    id: view.ids.unique(&format!("{}-{}", self.metric, monitor.id)),
                    chart,
                })
            })
            .collect()
    }
}

/// Figures of the whole period: the chart itself knows only its buckets.
struct Figures {
    /// Of how many tests the metric is known.
    count: usize,
    /// Median and p95.
    percentiles: Option<[f64; 2]>,
}

impl Figures {
    fn of(monitor: &Monitor, metric: Metric) -> Self {
        if metric == Metric::RoundTrip {
            return Self {
                count: monitor.round_trips,
                percentiles: monitor.round_trip.map(|figures| [figures[0], figures[2]]),
            };
        }
        let mut values = monitor.values(metric);
        Self {
            count: values.len(),
            percentiles: values.percentiles(&[0.5, 0.95]),
        }
    }

    fn title(&self, name: &str, l: &Locale) -> String {
        let Some([median, p95]) = self.percentiles else {
            return l.fill("No {0} was measured", &[name]);
        };
        if self.count == 1 {
            return l.fill("The only test had a {0} of {1}", &[name, &l.duration(median)]);
        }
        if self.count < ENOUGH {
            return l.fill(
                "Half of {0} tests had a {1} of at most {2}",
                &[&l.integer(self.count as u64), name, &l.duration(median)],
            );
        }
        l.fill(
            "Half had a {0} of at most {1}, 95 % of at most {2}",
            &[name, &l.duration(median), &l.duration(p95)],
        )
    }
}

/// A period as charts take it.
pub(super) fn stretch(period: &Period) -> Stretch {
    Stretch {
        from: period.from,
        to: period.to,
    }
}

/// The period; or, where the samples fill less than a tenth of it, the part that they fill.
pub(super) fn window(series: &Series, period: &Period) -> Period {
    let (Some(first), Some(last)) = (
        series.inside.clone().next().map(|row| series.at(row)),
        series.inside.clone().next_back().map(|row| series.at(row)),
    ) else {
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

/// The metric's spread over time, in buckets of a unit.
pub(super) fn buckets_by(series: &Series, metric: Metric, window: &Period, unit: Unit) -> Vec<Bucket> {
    let edges = window
        .buckets(unit)
        .into_iter()
        .map(|bucket| (bucket.start, bucket.end));
    spreads(series, metric, edges)
}

/// The metric's spread over time, in buckets that a chart of the period can show.
pub(super) fn buckets(series: &Series, metric: Metric, window: &Period) -> Vec<Bucket> {
    let rows = series.rows(window.from, window.to);
    let per_bucket = |step: Micros| rows.len() as i64 * step.0 / window.duration().0.max(1);
    let step = STEPS
        .into_iter()
        .find(|step| window.duration().0 / step.0 <= MOST && per_bucket(*step) >= 12);
    let edges: Vec<(UtcMicros, UtcMicros)> = match step {
        Some(step) => {
            // From a local midnight on, so that edges are round times.
            let start = window.calendar.start_of(Unit::Day, window.from);
            let first = (window.from - start).0 / step.0;
            (first..)
                .map(|index| (start + Micros(index * step.0), start + Micros((index + 1) * step.0)))
                .take_while(|(from, _)| *from < window.to)
                .collect()
        }
        None => {
            let days = window.duration().0 / 86_400_000_000;
            let unit = if days > 800 { Unit::Week } else { Unit::Day };
            window
                .buckets(unit)
                .into_iter()
                .map(|bucket| (bucket.start, bucket.end))
                .collect()
        }
    };
    spreads(series, metric, edges.into_iter())
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

/// The counted tests that failed.
pub(super) fn failures(monitor: &Monitor) -> Vec<Failure> {
    let series = &monitor.series;
    series
        .counted()
        .filter_map(|row| {
            let kind = match series.outcome[row] {
                Outcome::Late => Kind::Late,
                Outcome::Lost => Kind::Lost,
                Outcome::SmtpFailed => Kind::NotSent,
                Outcome::PickupFailed => Kind::NotFetched,
                Outcome::Ok | Outcome::NotTested => return None,
            };
            Some(Failure {
                at: series.at(row),
                kind,
            })
        })
        .collect()
}

/// When the monitor's alarms rose, and what they were about.
fn alarms(view: &View<'_>, monitor: &Monitor) -> Vec<(UtcMicros, String)> {
    let of_monitor = |alarm: &&Alarm| *alarm.site == *monitor.site && alarm.monitor == monitor.id;
    let alarms = view.facts.log.alarms.iter().filter(of_monitor);
    alarms
        .filter_map(|alarm| Some((alarm.raised_at?, alarm.text.clone())))
        .collect()
}

fn maintenance(monitor: &Monitor) -> Vec<Stretch> {
    monitor
        .timeline
        .stretches
        .iter()
        .filter(|stretch| stretch.state == State::Excluded)
        .map(|stretch| Stretch {
            from: stretch.from,
            to: stretch.to,
        })
        .collect()
}
