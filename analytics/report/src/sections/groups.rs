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
    locale::{DASH, Locale, decimals_for},
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

/// Monitors that have a property in common, with their combined figures.
struct Group<'a> {
    name: String,
    monitors: Vec<&'a Monitor>,
    combined: CombinedFigures,
}

impl Group<'_> {
    fn row(&self, decimals: usize, l: &Locale) -> Row {
        let counts = &self.combined.counts;
        let tests = counts.tests();
        let round_trip = findings::round_trip(&self.monitors);
        let trip = |index: usize| {
            let value = round_trip.map(|values| values[index]);
            Cell::number(
                value.map_or_else(|| DASH.to_owned(), |value| l.duration(value)),
                value.map(|value| value / 1e6),
            )
        };
        // Without tests, no outage is not a good sign.
        let tested = |text: String, value: f64| {
            if tests == 0 {
                Cell::number(DASH.to_owned(), None)
            } else {
                Cell::number(text, Some(value))
            }
        };
        let (outages, downtime) = (self.combined.outages, self.combined.downtime);
        let change = self.combined.compared.and_then(|compared| compared.change());
        Row {
            cells: vec![
                Cell::text(&self.name),
                Cell::number(
                    l.integer(self.monitors.len() as u64),
                    Some(self.monitors.len() as f64),
                ),
                Cell::number(l.integer(tests), Some(tests as f64)),
                availability_cell(counts, decimals, l),
                Cell::number(
                    change.map_or_else(|| DASH.to_owned(), |change| l.points(change)),
                    change.map(|change| change * 100.0),
                ),
                trip(0),
                trip(2),
                tested(l.integer(outages as u64), outages as f64).status(if outages > 0 {
                    Status::Warn
                } else {
                    Status::Neutral
                }),
                tested(l.about(downtime), downtime.0 as f64 / 1e6),
            ],
            strong: false,
        }
    }
}

/// Returns the range of the availability from the worst group to the best.
fn title(groups: &[Group<'_>], l: &Locale) -> String {
    match groups {
        [worst, .., best]
            if worst.combined.counts.tests() > 0 && best.combined.counts.tests() > 0 =>
        {
            let share = |group: &Group<'_>| {
                l.share(group.combined.counts.ok, group.combined.counts.tests())
            };
            l.fill(
                "Availability ranged from {0} ({1}) to {2} ({3})",
                &[&share(worst), &worst.name, &share(best), &best.name],
            )
        }
        _ => l.t("Availability and round trip").to_owned(),
    }
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
        let mut groups: Vec<Group<'_>> = groups
            .into_iter()
            .map(|(name, monitors)| Group {
                name,
                combined: CombinedFigures::of(&monitors),
                monitors,
            })
            .collect();
        // Worst first.
        groups.sort_by(|a, b| {
            let share = |group: &Group<'_>| group.combined.counts.availability().unwrap_or(2.0);
            share(a).total_cmp(&share(b)).then_with(|| a.name.cmp(&b.name))
        });
        let decimals = groups.iter().map(|group| decimals_for(group.combined.counts.tests()));
        let decimals = decimals.max().unwrap_or(2);
        vec![Block::Table(Table {
            id: view.ids.unique("groups"),
            title: title(&groups, l),
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
            rows: groups.iter().map(|group| group.row(decimals, l)).collect(),
            note: String::new(),
        })]
    }

    fn needs(&self, needs: &mut Needs) {
        needs.add(Need::Values(Metric::RoundTrip));
    }
}
