//! Many monitors on one common scale: a small chart for each, the one with most failures first.

use mailqos_core::config::{Problems, Table};

use super::{
    Section, View,
    percentiles::{metric, metric_name},
    round_trip::{buckets, failures, stretch},
};
use crate::{
    charts::{WIDTH, small_multiples},
    figures::Metric,
    report::document::{Block, ChartBlock},
};

/// Panels in one chart at most.
const MOST: usize = 24;

#[derive(Debug)]
struct MonitorsChart {
    metric: Metric,
}

pub(super) fn read(table: &mut Table, problems: &mut Problems) -> Option<Box<dyn Section>> {
    Some(Box::new(MonitorsChart {
        metric: metric(table, problems),
    }))
}

impl Section for MonitorsChart {
    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        let l = view.locale;
        let period = &view.facts.passed;
        let mut monitors: Vec<_> = view
            .monitors
            .iter()
            .filter(|monitor| !monitor.series.inside.is_empty())
            .collect();
        monitors.sort_by_key(|monitor| (std::cmp::Reverse(monitor.counts.failed()), monitor.id.clone()));
        monitors
            .chunks(MOST)
            .map(|monitors| {
                let panels = monitors
                    .iter()
                    .map(|monitor| small_multiples::Panel {
                        name: monitor.name.clone(),
                        figure: l.share(monitor.counts.ok, monitor.counts.tests()),
                        buckets: buckets(&monitor.series, self.metric, period),
                        failures: failures(monitor),
                    })
                    .collect();
                let chart = small_multiples::chart(
                    &small_multiples::SmallMultiples {
                        title: String::new(),
                        metric: l.inline(metric_name(self.metric, l)),
                        width: WIDTH,
                        period: stretch(period),
                        panels,
                    },
                    l,
                );
                Block::Chart(ChartBlock {
                    id: view.ids.unique("monitors"),
                    chart,
                })
            })
            .collect()
    }
}
