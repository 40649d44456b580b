//! Several monitors over time: lines in one chart if they are few, otherwise small multiples on a
//! common scale, with most failures first.

use mailqos_charts::{Chart, WIDTH, lines, small_multiples};
use mailqos_config::{Problems, Table, key::OptionalWord, keys, word};
use mailqos_lake_tables::{Metric, parallel};

use super::{Kind, METRIC, Scope, Section, View, percentiles::metric_name, round_trip::stretch};
use crate::{
    digest::{Need, Needs, line_of},
    document::{Block, ChartBlock},
    facts::Monitor,
};

/// Maximum number of panels in a chart.
const MAX: usize = 24;
/// Maximum number of distinguishable lines; more monitors are shown as panels by default.
const FEW: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Lines,
    Panels,
}

#[derive(Debug)]
struct MonitorsChart {
    metric: Metric,
    shape: Option<Shape>,
}

keys! {
    MONITORS_CHART: MonitorsChartKeys {
        /// All monitors in one chart, or a small chart for each.
        shape: OptionalWord<Shape> = word!([("lines", Shape::Lines), ("panels", Shape::Panels)])
            .otherwise("lines for four monitors or fewer");
    }
}

/// The kind of section.
pub(super) const KIND: Kind =
    Kind::new("Many monitors over time on one scale.", MonitorsChartKeys::KEYS, read).of_metric();

fn read(table: &mut Table, problems: &mut Problems) -> Option<Box<dyn Section>> {
    Some(Box::new(MonitorsChart {
        metric: table.read(&METRIC.metric, problems),
        shape: table.read(&MONITORS_CHART.shape, problems),
    }))
}

impl Section for MonitorsChart {
    fn scope(&self) -> Scope {
        Scope::of(self.metric)
    }

    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        let mut monitors: Vec<&Monitor> = view.monitors.clone();
        monitors.retain(|monitor| monitor.digest.seen.is_some());
        let few = if monitors.len() <= FEW { Shape::Lines } else { Shape::Panels };
        let charts = match self.shape.unwrap_or(few) {
            _ if monitors.is_empty() => Vec::new(),
            // Without values, a line chart would be empty, but panels still show failures.
            Shape::Lines if monitors.iter().all(|monitor| self.typical(monitor).is_none()) => {
                Vec::new()
            }
            Shape::Lines => vec![self.lines(&monitors, view)],
            Shape::Panels => {
                monitors.sort_by_key(|monitor| {
                    (std::cmp::Reverse(monitor.counts.failed()), monitor.id.clone())
                });
                let parts = monitors.chunks(MAX);
                parts.map(|monitors| self.panels(monitors, view)).collect()
            }
        };
        charts
            .into_iter()
            .map(|chart| Block::Chart(ChartBlock { id: view.ids.unique("monitors"), chart }))
            .collect()
    }

    fn needs(&self, needs: &mut Needs) {
        needs.add(Need::Figures(self.metric));
        if self.shape != Some(Shape::Panels) {
            needs.add(Need::Line(self.metric));
        }
        if self.shape != Some(Shape::Lines) {
            needs.add(Need::WholeSpread(self.metric));
        }
    }
}

impl MonitorsChart {
    /// Sorts the slowest monitors first, because only a few lines are distinguishable.
    fn lines(&self, monitors: &[&Monitor], view: &View<'_>) -> Chart {
        let period = &view.facts.passed;
        let unit = Some(line_of(period));
        let mut lines = parallel::map(monitors, |monitor| lines::Line {
            name: monitor.name.clone(),
            median: self.typical(monitor).map(|[median, _]| median),
            buckets: monitor.digest.spread_over(self.metric, period, unit).to_vec(),
        });
        let median = |line: &lines::Line| line.median.unwrap_or(f64::MIN);
        lines.sort_by(|a, b| median(b).total_cmp(&median(a)).then_with(|| a.name.cmp(&b.name)));
        lines::chart(
            &lines::Lines {
                title: String::new(),
                metric: view.locale.inline(metric_name(self.metric, view.locale)),
                width: WIDTH,
                period: stretch(period),
                lines,
            },
            view.locale,
        )
    }

    /// Returns median and p95 of the period.
    fn typical(&self, monitor: &Monitor) -> Option<[f64; 2]> {
        if self.metric == Metric::RoundTrip {
            return monitor.round_trip.map(|figures| [figures[0], figures[2]]);
        }
        monitor.digest.typical(self.metric).map(|figures| [figures[0], figures[2]])
    }

    fn panels(&self, monitors: &[&Monitor], view: &View<'_>) -> Chart {
        let (l, period) = (view.locale, &view.facts.passed);
        let panels = parallel::map(monitors, |monitor| small_multiples::Panel {
            name: monitor.name.clone(),
            figure: l.share(monitor.counts.ok, monitor.counts.tests()),
            typical: self.typical(monitor),
            buckets: monitor.digest.spread_over(self.metric, period, None).to_vec(),
            failures: monitor.digest.failures.clone(),
        });
        small_multiples::chart(
            &small_multiples::SmallMultiples {
                title: String::new(),
                metric: l.inline(metric_name(self.metric, l)),
                width: WIDTH,
                period: stretch(period),
                panels,
            },
            l,
        )
    }
}
