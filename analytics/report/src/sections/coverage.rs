//! Coverage and data quality: the known share of the period, and skipped data.

use mailqos_base::zones;
use mailqos_config::{Problems, Table as Toml};

use super::{Kind, Section, View};
use crate::{
    document::{Block, Cell, Column, Note, Row, Status, Table},
    locale::DASH,
};

#[derive(Debug)]
struct Coverage;

/// The kind of section.
pub(super) const KIND: Kind = Kind::new("How much of the period is known.", &[], read);

fn read(_: &mut Toml, _: &mut Problems) -> Option<Box<dyn Section>> {
    Some(Box::new(Coverage))
}

impl Section for Coverage {
    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        let l = view.locale;
        let mut blocks = Vec::new();
        for file in &view.facts.skipped {
            blocks.push(Block::Note(Note {
                status: Status::Bad,
                title: l.t("Corrupt file skipped").to_owned(),
                text: file.clone(),
            }));
        }
        for text in &view.facts.doubles {
            blocks.push(Block::Note(Note {
                status: Status::Warn,
                title: l.t("Duplicate samples counted once").to_owned(),
                text: text.clone(),
            }));
        }
        if view.monitors.is_empty() {
            return blocks;
        }
        let rows = view
            .monitors
            .iter()
            .map(|monitor| {
                let timeline = &monitor.timeline;
                let span = |span: mailqos_model::Micros| {
                    let text = if span.0 == 0 { "0".to_owned() } else { l.about(span) };
                    Cell::number(text, Some(span.0 as f64 / 1e6))
                };
                let by_time = timeline.availability().map_or_else(
                    || Cell::text(DASH),
                    |share| Cell::number(l.percent_bare(share, 2), Some(share * 100.0)),
                );
                Row {
                    cells: vec![
                        Cell::text(&monitor.name),
                        span(timeline.up),
                        span(timeline.downtime),
                        span(timeline.excluded),
                        span(timeline.unknown).status(if timeline.coverage() < 0.9 {
                            Status::Warn
                        } else {
                            Status::Neutral
                        }),
                        Cell::number(
                            l.percent_bare(timeline.coverage(), 1),
                            Some(timeline.coverage() * 100.0),
                        ),
                        by_time,
                        Cell::number(
                            l.integer(monitor.counts.not_tested),
                            Some(monitor.counts.not_tested as f64),
                        ),
                        Cell::number(
                            l.integer(monitor.counts.excluded),
                            Some(monitor.counts.excluded as f64),
                        ),
                        Cell::number(
                            l.integer(monitor.counts.provisional),
                            Some(monitor.counts.provisional as f64),
                        ),
                    ],
                    strong: false,
                }
            })
            .collect();
        blocks.push(Block::Table(Table {
            id: view.ids.unique("coverage"),
            title: l.t("Coverage of the period").to_owned(),
            subtitle: l
                .t("Gaps of more than three test intervals count as unknown, neither up nor down")
                .to_owned(),
            columns: vec![
                Column::wide(5, l.t("Monitor")),
                Column::measured(l.t("Up"), "s"),
                Column::measured(l.t("Down"), "s"),
                Column::measured(l.t("Maintenance"), "s"),
                Column::measured(l.t("Unknown"), "s"),
                Column::number(l.t("Coverage"), "%"),
                Column::number(l.t("Uptime"), "%"),
                Column::number(l.t("Not tested"), ""),
                Column::number(l.t("Excluded"), ""),
                Column::number(l.t("Provisional"), ""),
            ],
            rows,
            note: match l.zone_name().as_str() {
                "UTC" => String::new(),
                // Days and hours of earlier reports may differ if a country has changed its time
                // zone rules since.
                _ => l.fill("Time zone rules: tzdata {0}.", &[zones::number()]),
            },
        }));
        blocks
    }
}
