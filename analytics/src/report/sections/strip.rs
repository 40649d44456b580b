//! The availability strip: when each monitor failed, a cell per day or hour.

use mailqos_core::{
    config::{Problems, Table},
    model::Micros,
};

use super::{
    Section, View,
    round_trip::{stretch, window},
};
use crate::{
    charts::{
        WIDTH,
        axis::Stretch,
        strip::{self, Cell, Row, Strip as Drawing},
    },
    figures::{Counts, Period, Unit},
    report::{
        document::{Block, ChartBlock},
        facts::Monitor,
        locale::Locale,
    },
};

/// Rows in one chart at most.
const MOST_ROWS: usize = 40;
/// Periods up to this length have a cell per hour.
const SHORT: Micros = Micros::from_secs(8 * 86_400);

#[derive(Debug)]
struct Strip {
    cell: Option<Unit>,
}

pub(super) fn read(table: &mut Table, problems: &mut Problems) -> Option<Box<dyn Section>> {
    let cell = table.word("cell", &[("hour", Unit::Hour), ("day", Unit::Day)], problems);
    Some(Box::new(Strip { cell }))
}

impl Section for Strip {
    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        let passed = &view.facts.passed;
        // One monitor with little to show is shown as closely as it can be.
        let period = match view.monitors[..] {
            [only] => window(&only.series, passed),
            _ => passed.clone(),
        };
        let unit = self.cell.unwrap_or(if period.duration() <= SHORT {
            Unit::Hour
        } else {
            Unit::Day
        });
        let parts = view.monitors.chunks(MOST_ROWS);
        let several = parts.len() > 1;
        parts
            .enumerate()
            .map(|(index, monitors)| {
                let mut chart = strip::chart(
                    &Drawing {
                        title: String::new(),
                        width: WIDTH,
                        period: stretch(&period),
                        rows: monitors
                            .iter()
                            .map(|monitor| row(monitor, &period, unit, view.locale))
                            .collect(),
                    },
                    view.locale,
                );
                if several {
                    let count = view.monitors.len().div_ceil(MOST_ROWS);
                    chart.title = format!("{} ({}/{count})", chart.title, index + 1);
                }
                Block::Chart(ChartBlock {
                    id: view.ids.unique("availability-strip"),
                    chart,
                })
            })
            .collect()
    }
}

fn row(monitor: &Monitor, period: &Period, unit: Unit, locale: &Locale) -> Row {
    Row {
        name: monitor.name.clone(),
        figure: locale.share(monitor.counts.ok, monitor.counts.tests()),
        cells: period
            .buckets(unit)
            .into_iter()
            .map(|bucket| {
                let rows = monitor.series.rows(bucket.start, bucket.end);
                let counts = Counts::of(&monitor.series, rows);
                Cell {
                    span: Stretch {
                        from: bucket.start.max(period.from),
                        to: bucket.end.min(period.to),
                    },
                    tests: counts.tests(),
                    failed: counts.failed(),
                    maintenance: counts.excluded > 0,
                }
            })
            .collect(),
    }
}
