//! List of outages with their causes.

use mailqos_config::{
    Problems, Table as Toml,
    key::{Defaulted, key},
    keys,
};

use super::{Kind, Scope, Section, View};
use crate::{
    document::{Block, Cell, Column, Row, Status, Table},
    findings,
    locale::DASH,
};

#[derive(Debug)]
struct Outages {
    limit: usize,
}

keys! {
    OUTAGES: OutagesKeys {
        /// The maximum number of outages.
        limit: Defaulted<u32> = key().default("40");
    }
}

/// The kind of section.
pub(super) const KIND: Kind = Kind::new("Each outage with its cause.", OutagesKeys::KEYS, read);

fn read(table: &mut Toml, problems: &mut Problems) -> Option<Box<dyn Section>> {
    let limit = table.read(&OUTAGES.limit, problems);
    Some(Box::new(Outages { limit: limit.max(1) as usize }))
}

impl Section for Outages {
    fn scope(&self) -> Scope {
        Scope::Any
    }

    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        let l = view.locale;
        let mut outages: Vec<_> = view
            .monitors
            .iter()
            .flat_map(|monitor| monitor.timeline.outages.iter().map(|outage| (*monitor, outage)))
            .collect();
        if outages.is_empty() {
            let tests: u64 = view.monitors.iter().map(|monitor| monitor.counts.tests()).sum();
            let text = if tests == 0 {
                l.t("There were no counted tests, so outages are unknown.")
            } else {
                l.t("No outages were observed.")
            };
            return vec![Block::paragraph(text)];
        }
        let all = outages.len();
        let several = view.monitors.len() > 1;
        // The longest outages are shown, in chronological order.
        outages.sort_by_key(|(_, outage)| std::cmp::Reverse(outage.downtime));
        outages.truncate(self.limit);
        outages.sort_by_key(|(monitor, outage)| (outage.from, monitor.id.clone()));
        let rows = outages
            .iter()
            .map(|(monitor, outage)| {
                let duration = Cell::number(
                    findings::span_of(outage, l),
                    Some(outage.downtime.0 as f64 / 1e6),
                );
                let mut cells = vec![
                    Cell::moment(l.moment_in_period(outage.from), outage.from).detail(
                        if outage.began_earlier { l.t("started before the period") } else { "" },
                    ),
                    match outage.to {
                        Some(to) => Cell::moment(l.moment_in_period(to), to),
                        None => {
                            Cell::text(DASH).detail(l.t("end not observed")).status(Status::Unknown)
                        }
                    },
                    duration,
                    Cell::number(l.integer(outage.failed_tests), Some(outage.failed_tests as f64)),
                ];
                if several {
                    cells.push(Cell::text(&monitor.name));
                }
                cells.push(Cell::text(findings::cause(monitor, outage, l)));
                Row { cells, strong: false }
            })
            .collect();
        let note = if all > self.limit {
            l.fill(
                "The {0} longest of {1} outages are listed.",
                &[&l.integer(self.limit as u64), &l.integer(all as u64)],
            )
        } else {
            String::new()
        };
        let mut columns = vec![
            Column::wide(5, l.t("Start")),
            Column::wide(5, l.t("End")),
            Column::measured(l.t("Downtime"), "s"),
            Column::number(l.t("Failed tests"), ""),
        ];
        if several {
            columns.push(Column::wide(6, l.t("Monitor")));
        }
        columns.push(Column::wide(9, l.t("Cause")));
        vec![Block::Table(Table {
            id: view.ids.unique("outages"),
            title: l.count(all as u64, "One outage", "{0} outages"),
            subtitle: l
                .t("From the first failed test to the next successful one; the cause is the error of the first failed test")
                .to_owned(),
            columns,
            rows,
            note,
        })]
    }
}
