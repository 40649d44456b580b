//! Weekly pattern: the median of a metric in each hour of each weekday, in local time.

use mailqos_charts::{Measure, WIDTH, heat_map};
use mailqos_config::{Problems, Table};
use mailqos_lake_tables::Metric;

use super::{Kind, METRIC, Scope, Section, View, percentiles::metric_name, round_trip::stretch};
use crate::{
    digest::{Need, Needs},
    document::{Block, ChartBlock},
};

#[derive(Debug)]
struct WeeklyPattern {
    metric: Metric,
}

/// The kind of section.
pub(super) const KIND: Kind = Kind::new("The median by hour and weekday.", &[], read).of_metric();

fn read(table: &mut Table, problems: &mut Problems) -> Option<Box<dyn Section>> {
    Some(Box::new(WeeklyPattern { metric: table.read(&METRIC.metric, problems) }))
}

impl Section for WeeklyPattern {
    fn scope(&self) -> Scope {
        Scope::of(self.metric)
    }

    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        let l = view.locale;
        view.monitors
            .iter()
            .filter_map(|monitor| {
                let cells = monitor.digest.week(self.metric);
                if cells.iter().flatten().all(Option::is_none) {
                    return None;
                }
                let name = l.fill("median {0}", &[&l.inline(metric_name(self.metric, l))]);
                let mut chart = heat_map::chart(
                    &heat_map::HeatMap {
                        title: String::new(),
                        metric: name,
                        measure: Measure::Duration,
                        width: WIDTH,
                        period: stretch(&view.facts.passed),
                        cells,
                        first_day: view.facts.period.calendar.week_start.to_monday_one_offset(),
                    },
                    l,
                );
                if view.monitors.len() > 1 {
                    chart.title = format!("{}: {}", monitor.name, chart.title);
                }
                Some(Block::Chart(ChartBlock {
                    id: view.ids.unique(&format!("weekly-pattern-{}", monitor.id)),
                    chart,
                }))
            })
            .collect()
    }

    fn needs(&self, needs: &mut Needs) {
        needs.add(Need::Week(self.metric));
    }
}
