//! Distribution of the round trip: the delivered-within curve of each monitor, with lost mails in
//! the denominator.

use mailqos_charts::{WIDTH, distribution};
use mailqos_config::{Problems, Table};
use mailqos_figures::delivered_within::LIMITS;
use mailqos_lake_tables::Metric;

use super::{Kind, METRIC, Scope, Section, View, percentiles::metric_name, round_trip::stretch};
use crate::{
    digest::{Need, Needs},
    document::{Block, ChartBlock},
};

#[derive(Debug)]
struct Distribution {
    metric: Metric,
}

/// The kind of section.
pub(super) const KIND: Kind = Kind::new("The distribution of a metric.", &[], read).of_metric();

fn read(table: &mut Table, problems: &mut Problems) -> Option<Box<dyn Section>> {
    Some(Box::new(Distribution { metric: table.read(&METRIC.metric, problems) }))
}

impl Section for Distribution {
    fn scope(&self) -> Scope {
        Scope::of(self.metric)
    }

    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        view.monitors
            .iter()
            .filter_map(|monitor| {
                let values: Vec<f64> =
                    monitor.digest.values(self.metric).iter().map(|value| value as f64).collect();
                if values.is_empty() {
                    return None;
                }
                let name = view.locale.inline(metric_name(self.metric, view.locale));
                let round_trip = self.metric == Metric::RoundTrip;
                let tests = if round_trip { monitor.counts.tests() } else { values.len() as u64 };
                let mut thresholds: Vec<f64> = Vec::new();
                if round_trip {
                    thresholds.extend(LIMITS.iter().map(|limit| limit.0 as f64));
                    thresholds.extend(monitor.max_round_trip.map(|limit| limit.0 as f64));
                }
                let mut chart = distribution::chart(
                    &distribution::Distribution {
                        title: String::new(),
                        metric: name,
                        width: WIDTH,
                        period: stretch(&view.facts.passed),
                        tests,
                        values,
                        thresholds,
                    },
                    view.locale,
                );
                if view.monitors.len() > 1 {
                    chart.title = format!("{}: {}", monitor.name, chart.title);
                }
                Some(Block::Chart(ChartBlock {
                    id: view.ids.unique(&format!("distribution-{}", monitor.id)),
                    chart,
                }))
            })
            .collect()
    }
    fn needs(&self, needs: &mut Needs) {
        needs.add(Need::Values(self.metric));
    }
}
