//! Comparison of sites, objects or tags: counts, availability and round trip of all their monitors
//! combined.

use std::collections::BTreeMap;

use mailqos_config::{Problems, Table as Toml, key::Word, keys, word};
use mailqos_lake_tables::Metric;

use super::{Kind, Section, View, availability::availability_cell};
use crate::{
    definition::Grouping,
    digest::{Need, Needs},
    document::{Block, Cell, Column, Row, Status, Table},
    facts::Monitor,
    findings::{self, CombinedFigures},
    locale::{DASH, decimals_for},
};

#[derive(Debug)]
struct Groups {
    by: Grouping,
}

keys! {
    GROUPS: GroupsKeys {
        /// What is compared.
        by: Word<Grouping> = word!([("site", Grouping::Site), ("object", Grouping::Object), ("tag", Grouping::Tag)]).default("\"site\"");
    }
}

/// The kind of section.
pub(super) const KIND: Kind =
    Kind::new("A comparison of sites, objects or tags.", GroupsKeys::KEYS, read);

fn read(table: &mut Toml, problems: &mut Problems) -> Option<Box<dyn Section>> {
    let by = table.read(&GROUPS.by, problems);
    Some(Box::new(Groups { by }))
}

impl Section for Groups {
    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        let l = view.locale;
        let mut groups: BTreeMap<String, Vec<&Monitor>> = BTreeMap::new();
        for monitor in &view.monitors {
            for name in self.by.names(monitor) {
                groups.entry(name).or_default().push(monitor);
            }
        }
        let (head, nothing) = match self.by {
            Grouping::Object => (l.t("Object"), l.t("No monitor belongs to a configured object.")),
            Grouping::Tag => (l.t("Tag"), l.t("No monitor has a tag.")),
            _ => (l.t("Site"), l.t("No site has samples in the period.")),
        };
        if groups.is_empty() {
            return vec![Block::paragraph(nothing)];
        }
        let mut figures: Vec<(String, Vec<&Monitor>, CombinedFigures)> = groups
            .into_iter()
            .map(|(name, monitors)| {
                let together = CombinedFigures::of(&monitors);
                (name, monitors, together)
            })
            .collect();
        let decimals = figures.iter().map(|(_, _, together)| decimals_for(together.counts.tests()));
        let decimals = decimals.max().unwrap_or(2);
        // Worst first.
        figures.sort_by(|(a_name, _, a), (b_name, _, b)| {
            let share = |together: &CombinedFigures| together.counts.availability().unwrap_or(2.0);
            share(a).total_cmp(&share(b)).then_with(|| a_name.cmp(b_name))
        });
        let title = match (figures.first(), figures.last()) {
            (Some((worst, _, low)), Some((best, _, high)))
                if figures.len() > 1 && low.counts.tests() > 0 && high.counts.tests() > 0 =>
            {
                l.fill(
                    "Availability ranged from {0} ({1}) to {2} ({3})",
                    &[
                        &l.share(low.counts.ok, low.counts.tests()),
                        worst,
                        &l.share(high.counts.ok, high.counts.tests()),
                        best,
                    ],
                )
            }
            _ => l.t("Availability and round trip").to_owned(),
        };
        let rows = figures
            .iter()
            .map(|(name, monitors, together)| {
                let counts = &together.counts;
                let tests = counts.tests();
                let round_trip = findings::round_trip(monitors);
                let trip = |index: usize| {
                    let value = round_trip.map(|values| values[index]);
                    Cell::number(
                        value.map_or_else(|| DASH.to_owned(), |value| l.duration(value)),
                        value.map(|value| value / 1e6),
                    )
                };
                let change = together.compared.and_then(|compared| compared.change());
                Row {
                    cells: vec![
                        Cell::text(name),
                        Cell::number(l.integer(monitors.len() as u64), Some(monitors.len() as f64)),
                        Cell::number(l.integer(tests), Some(tests as f64)),
                        availability_cell(counts, decimals, l),
                        Cell::number(
                            change.map_or_else(|| DASH.to_owned(), |change| l.points(change)),
                            change.map(|change| change * 100.0),
                        ),
                        trip(0),
                        trip(2),
                        Cell::number(
                            if tests == 0 {
                                DASH.to_owned()
                            } else {
                                l.integer(together.outages as u64)
                            },
                            (tests > 0).then_some(together.outages as f64),
                        )
                        .status(if together.outages > 0 {
                            Status::Warn
                        } else {
                            Status::Neutral
                        }),
                        Cell::number(
                            if tests == 0 { DASH.to_owned() } else { l.about(together.downtime) },
                            (tests > 0).then_some(together.downtime.0 as f64 / 1e6),
                        ),
                    ],
                    strong: false,
                }
            })
            .collect();
        vec![Block::Table(Table {
            id: view.ids.unique("groups"),
            title,
            subtitle: l
                .t("All monitors of each group combined, worst first; 95 % confidence interval in brackets")
                .to_owned(),
            columns: vec![
                Column::wide(3, head),
                Column::number(l.t("Monitors"), ""),
                Column::number(l.t("Tests"), ""),
                Column {
                    width: 3,
                    ..Column::number(l.t("Availability"), "%")
                },
                Column::measured(l.t("Change"), "pp"),
                Column::measured(l.t("Median"), "s"),
                Column::measured("p95", "s"),
                Column::number(l.t("Outages"), ""),
                Column::measured(l.t("Downtime"), "s"),
            ],
            rows,
            note: String::new(),
        })]
    }

    fn needs(&self, needs: &mut Needs) {
        needs.add(Need::Values(Metric::RoundTrip));
    }
}
