//! A metric over time, with one chart per monitor.

use mailqos_charts::{
    WIDTH,
    axis::TimeSpan,
    round_trip::{self, RoundTrip, Shift},
};
use mailqos_config::{Problems, Table};
use mailqos_figures::{Period, State, alarm_log::Alarm, patterns};
use mailqos_lake_tables::Metric;
use mailqos_model::UtcMicros;

use super::{Kind, METRIC, Scope, Section, View, percentiles::metric_name};
use crate::{
    digest::{Need, Needs},
    document::{Block, ChartBlock},
    facts::Monitor,
    locale::Locale,
};

/// Minimum number of values for a 95th percentile in the title; of fewer, it would be the maximum.
const ENOUGH: usize = 20;

#[derive(Debug)]
struct MetricChart {
    metric: Metric,
}

/// The kind of section.
pub(super) const KIND: Kind =
    Kind::new("Median, p5 to p95 and failures over time.", &[], read).of_metric();

fn read(table: &mut Table, problems: &mut Problems) -> Option<Box<dyn Section>> {
    Some(Box::new(MetricChart { metric: table.read(&METRIC.metric, problems) }))
}

impl Section for MetricChart {
    fn scope(&self) -> Scope {
        Scope::of(self.metric)
    }

    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        view.monitors
            .iter()
            .filter(|monitor| monitor.digest.seen.is_some())
            .map(|monitor| {
                let window = monitor.digest.window(&view.facts.passed);
                let several = view.monitors.len() > 1;
                let name = view.locale.inline(metric_name(self.metric, view.locale));
                let figures = Figures::of(monitor, self.metric);
                let mut title = figures.title(self.metric, view.locale);
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
                        buckets: monitor.digest.spread_over(self.metric, &window, None).to_vec(),
                        limit: monitor
                            .limit
                            .filter(|_| self.metric == Metric::RoundTrip)
                            .map(|limit| limit.0 as f64),
                        failures: monitor.digest.failures.clone(),
                        maintenance: maintenance(monitor),
                        alarms: alarms(view, monitor),
                        shifts: patterns::shifts(
                            view.facts.patterns(),
                            (&monitor.site, &monitor.id),
                            self.metric,
                        )
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

    fn needs(&self, needs: &mut Needs) {
        needs.add(Need::Spread(self.metric));
        needs.add(Need::Patterns);
        if self.metric != Metric::RoundTrip {
            needs.add(Need::Figures(self.metric));
        }
    }
}

/// Figures of the whole period, which can't be derived from the buckets of the chart.
struct Figures {
    /// Number of tests with a value.
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
        let count =
            monitor.digest.figures(metric).map_or(0, |figures| figures.distribution.summary.count);
        Self {
            count: count as usize,
            percentiles: monitor.digest.typical(metric).map(|figures| [figures[0], figures[2]]),
        }
    }

    fn title(&self, metric: Metric, l: &Locale) -> String {
        let name = metric_name(metric, l);
        let Some([median, p95]) = self.percentiles else {
            return l.fill("No {0} was measured", &[&l.inline(name)]);
        };
        if self.count == 1 {
            return l
                .fill("The only test had a {0} of {1}", &[&l.inline(name), &l.duration(median)]);
        }
        if self.count < ENOUGH {
            return l.fill(
                "{1}: half of {0} tests within {2}",
                &[&l.integer(self.count as u64), name, &l.duration(median)],
            );
        }
        l.fill(
            "{0}: half within {1}, 95 % within {2}",
            &[name, &l.duration(median), &l.duration(p95)],
        )
    }
}

/// Converts a period for charts.
pub(super) fn stretch(period: &Period) -> TimeSpan {
    TimeSpan { from: period.from, to: period.to }
}

/// Returns the times at which alarms of the monitor were raised, with their texts.
fn alarms(view: &View<'_>, monitor: &Monitor) -> Vec<(UtcMicros, String)> {
    let of_monitor = |alarm: &&Alarm| *alarm.site == *monitor.site && alarm.monitor == monitor.id;
    let alarms = view.facts.log.alarms.iter().filter(of_monitor);
    alarms.filter_map(|alarm| Some((alarm.raised_at?, alarm.text.clone()))).collect()
}

fn maintenance(monitor: &Monitor) -> Vec<TimeSpan> {
    monitor
        .timeline
        .stretches
        .iter()
        .filter(|stretch| stretch.state == State::Excluded)
        .map(|stretch| TimeSpan { from: stretch.from, to: stretch.to })
        .collect()
}
