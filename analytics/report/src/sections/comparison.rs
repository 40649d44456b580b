//! Comparison with the previous period: a dumbbell for each monitor with values in both, sorted by
//! change.

use mailqos_charts::{Measure, WIDTH, dumbbell};
use mailqos_config::{Problems, Table, key::Word, keys, word};

use super::{Kind, Section, View, rows_a_chart};
use crate::{
    document::{Block, ChartBlock},
    findings::{self, Compared},
};

#[derive(Debug)]
struct Comparison {
    availability: bool,
}

keys! {
    COMPARISON: ComparisonKeys {
        /// What is compared.
        figure: Word<bool> = word!([("median", false), ("availability", true)]).default("\"median\"");
    }
}

/// The kind of section.
pub(super) const KIND: Kind =
    Kind::new("This period compared with the one before, by monitor.", ComparisonKeys::KEYS, read);

fn read(table: &mut Table, problems: &mut Problems) -> Option<Box<dyn Section>> {
    Some(Box::new(Comparison { availability: table.read(&COMPARISON.figure, problems) }))
}

impl Section for Comparison {
    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        let l = view.locale;
        let rows: Vec<dumbbell::Row> = view
            .monitors
            .iter()
            .filter_map(|monitor| {
                let (before, after, by_chance) = if self.availability {
                    let compared =
                        Compared { now: monitor.counts, before: monitor.before.as_ref()?.counts };
                    let (before, now) =
                        (compared.before.availability()?, compared.now.availability()?);
                    (before, now, !compared.is_certain())
                } else {
                    let (before, now) = findings::medians(monitor)?;
                    (before, now, false)
                };
                Some(dumbbell::Row {
                    name: monitor.name.clone(),
                    before: Some(before),
                    after: Some(after),
                    by_chance,
                })
            })
            .collect();
        rows.chunks(rows_a_chart(rows.len()))
            .map(|rows| {
                let chart = dumbbell::chart(
                    &dumbbell::Dumbbell {
                        title: String::new(),
                        metric: l
                            .t(if self.availability { "availability" } else { "median round trip" })
                            .to_owned(),
                        measure: if self.availability { Measure::Share } else { Measure::Duration },
                        less_is_better: !self.availability,
                        width: WIDTH,
                        before: l.period(&view.facts.before),
                        after: l.period(&view.facts.period),
                        rows: rows.to_vec(),
                    },
                    l,
                );
                Block::Chart(ChartBlock { id: view.ids.unique("comparison"), chart })
            })
            .collect()
    }
}
