//! Delivery path: the time that mails spend at each server, from their `Received` fields.

use std::collections::BTreeMap;

use mailqos_config::{
    Problems, Table as Toml,
    key::{Defaulted, key},
    keys,
};
use mailqos_figures::Packed;

use super::{Kind, Scope, Section, View};
use crate::{
    digest::{Need, Needs},
    document::{Block, Cell, Column, Row, Table},
    locale::DASH,
};

#[derive(Debug)]
struct Hops {
    limit: usize,
}

keys! {
    HOPS: HopsKeys {
        /// The maximum number of hops.
        limit: Defaulted<u32> = key().default("20");
    }
}

/// The kind of section.
pub(super) const KIND: Kind =
    Kind::new("The path of the mails: where they spend their time.", HopsKeys::KEYS, read);

fn read(table: &mut Toml, problems: &mut Problems) -> Option<Box<dyn Section>> {
    let limit = table.read(&HOPS.limit, problems);
    Some(Box::new(Hops { limit: limit.max(1) as usize }))
}

/// Combined figures of a server over several monitors.
#[derive(Default)]
struct ServerTotals<'a> {
    mails: u64,
    suspect: u64,
    places: u64,
    delays: Vec<&'a Packed>,
}

impl Section for Hops {
    fn scope(&self) -> Scope {
        Scope::Mails
    }

    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        let l = view.locale;
        let mut stations: BTreeMap<&str, ServerTotals<'_>> = BTreeMap::new();
        let mut mails = 0_u64;
        for monitor in &view.monitors {
            let found = &monitor.digest.stations;
            mails += found.mails;
            for (name, station) in &found.stations {
                let sum = stations.entry(name).or_default();
                sum.mails += station.mails;
                sum.suspect += station.suspect;
                sum.places += station.places;
                sum.delays.push(&station.delays);
            }
        }
        if mails == 0 {
            return vec![Block::paragraph(
                l.t("There are no Received headers, so the delivery path is unknown."),
            )];
        }
        let mut all: Vec<(&str, ServerTotals<'_>)> = stations.into_iter().collect();
        let count = all.len();
        // The busiest servers are shown, in the order of delivery.
        all.sort_by_key(|(name, station)| (std::cmp::Reverse(station.mails), *name));
        all.truncate(self.limit);
        all.sort_by(|(a_name, a), (b_name, b)| {
            let place =
                |station: &ServerTotals<'_>| station.places as f64 / station.mails.max(1) as f64;
            place(a).total_cmp(&place(b)).then(a_name.cmp(b_name))
        });
        let rows = all
            .into_iter()
            .map(|(name, station)| {
                let values = Packed::percentiles(station.delays.iter().copied(), &[0.5, 0.95]);
                let cell = |index: usize| {
                    let value = values.get(index).copied();
                    Cell::number(
                        value.map_or_else(|| DASH.to_owned(), |value| l.duration(value)),
                        value.map(|value| value / 1e6),
                    )
                };
                Row {
                    cells: vec![
                        Cell::text(name),
                        Cell::number(l.integer(station.mails), Some(station.mails as f64)),
                        cell(0),
                        cell(1),
                        Cell::number(l.integer(station.suspect), Some(station.suspect as f64)),
                    ],
                    strong: false,
                }
            })
            .collect();
        vec![Block::Table(Table {
            id: view.ids.unique("path"),
            title: l.count(count as u64, "Mail passed through one server", "Mail passed through {0} servers"),
            subtitle: l
                .t("From the Received header fields, in delivery order; time since the previous server by both servers' clocks")
                .to_owned(),
            columns: vec![
                Column::wide(4, l.t("Server")),
                Column::number(l.t("Mails"), ""),
                Column::measured(l.t("Median"), "s"),
                Column::measured("p95", "s"),
                Column::number(l.t("Suspect clock"), ""),
            ],
            rows,
            note: if count > self.limit {
                l.fill(
                    "The {0} busiest of {1} servers are listed.",
                    &[&l.integer(self.limit as u64), &l.integer(count as u64)],
                )
            } else {
                String::new()
            },
        })]
    }

    fn needs(&self, needs: &mut Needs) {
        needs.add(Need::PassedServers);
    }
}
