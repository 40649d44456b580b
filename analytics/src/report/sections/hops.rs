//! The path of the mails: at which server they spend their time, from their `Received` fields.

use std::collections::BTreeMap;

use mailqos_core::config::{Problems, Table as Toml};

use super::{Section, View};
use crate::{
    figures::percentiles,
    report::{
        document::{Block, Cell, Column, Row, Table},
        locale::DASH,
    },
};

#[derive(Debug)]
struct Hops {
    limit: usize,
}

pub(super) fn read(table: &mut Toml, problems: &mut Problems) -> Option<Box<dyn Section>> {
    let limit: u32 = table.get("limit", problems).unwrap_or(20);
    Some(Box::new(Hops {
        limit: limit.max(1) as usize,
    }))
}

/// What is known of a station.
#[derive(Default)]
struct Station {
    mails: u64,
    /// Of these, those that it passed with a clock in doubt.
    suspect: u64,
    /// The sum of its first places in the paths, to list stations in the order in which mails pass them.
    places: u64,
    delays: Vec<i64>,
}

impl Section for Hops {
    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        let l = view.locale;
        let mut stations: BTreeMap<&str, Station> = BTreeMap::new();
        let mut mails = 0_u64;
        for monitor in &view.monitors {
            let series = &monitor.series;
            for row in series.counted() {
                let Some(hops) = series.hops.get(row).and_then(Option::as_ref) else {
                    continue;
                };
                mails += 1;
                for (place, hop) in hops.iter().enumerate() {
                    let station = stations.entry(hop.by.as_deref().unwrap_or("?")).or_default();
                    // A mail may pass a server twice, and is one mail.
                    let mut earlier = hops[..place].iter().filter(|earlier| earlier.by == hop.by);
                    if earlier.clone().next().is_none() {
                        station.mails += 1;
                        station.places += place as u64;
                    }
                    station.suspect += u64::from(hop.clock_suspect && !earlier.any(|earlier| earlier.clock_suspect));
                    station
                        .delays
                        .extend(hop.delay.filter(|_| !hop.clock_suspect).map(|delay| delay.0));
                }
            }
        }
        if mails == 0 {
            return vec![Block::paragraph(
                l.t("No mail said which way it took: the path is not known."),
            )];
        }
        let mut all: Vec<(&str, Station)> = stations.into_iter().collect();
        let count = all.len();
        // Those that most mails pass are shown, in the order of the way.
        all.sort_by_key(|(name, station)| (std::cmp::Reverse(station.mails), *name));
        all.truncate(self.limit);
        all.sort_by(|(a_name, a), (b_name, b)| {
            let place = |station: &Station| station.places as f64 / station.mails.max(1) as f64;
            place(a).total_cmp(&place(b)).then(a_name.cmp(b_name))
        });
        let rows = all
            .into_iter()
            .map(|(name, mut station)| {
                let values = (!station.delays.is_empty()).then(|| percentiles(&mut station.delays, &[0.5, 0.95]));
                let cell = |index: usize| {
                    let value = values.as_ref().map(|values| values[index]);
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
            title: l.count(count as u64, "Mail passed one server", "Mail passed {0} servers"),
            subtitle: l
                .t("From the Received fields, in the order of the way; the time since the server before, by the clocks of both")
                .to_owned(),
            columns: vec![
                Column::wide(4, l.t("Server")),
                Column::number(l.t("Mails"), ""),
                Column::measured(l.t("Median"), "s"),
                Column::measured("p95", "s"),
                Column::number(l.t("Clock in doubt"), ""),
            ],
            rows,
            note: if count > self.limit {
                l.fill(
                    "The {0} of {1} servers that most mails passed are listed.",
                    &[&l.integer(self.limit as u64), &l.integer(count as u64)],
                )
            } else {
                String::new()
            },
        })]
    }
}
