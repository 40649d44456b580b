//! Reference of report definitions, templates and themes: all tables and keys as data. The page
//! `docs/report-definitions.md` and the JSON Schemas for editors are generated from it, and the
//! readers use the same declarations.

use mailqos_config::reference::{Reference, Shape};

use super::{
    definitions::{DefinitionKeys, LayoutKeys, TemplateKeys},
    deliveries::DeliverKeys,
    schedule_keys::ScheduleKeys,
    sections, theme,
};

/// Tables that are separate files.
pub const FILES: [&str; 3] = ["definition", "template", "theme"];

/// Report definitions (the table `definition`), templates (`template`) and themes (`theme`).
pub const REPORTS: Reference = Reference { title: "mailqos reports", tables: &TABLES };

const OWN: [Shape; 7] = [
    Shape {
        id: "definition",
        head: "Definitions: `reports/NAME.toml`",
        about: "Which monitors a report covers, what it displays, when it is generated and where it is delivered. NAME is its slug: the names of its files begin with it.",
        keys: &[DefinitionKeys::KEYS, theme::StyleKeys::KEYS, LayoutKeys::KEYS],
    },
    Shape {
        id: "template",
        head: "Templates: `templates/NAME.toml`",
        about: "What a report displays, without monitors. `templates new NAME` creates one.",
        keys: &[TemplateKeys::KEYS, theme::StyleKeys::KEYS, LayoutKeys::KEYS],
    },
    theme::SHAPE,
    theme::COLOURS_SHAPE,
    theme::FORMATS_SHAPE,
    Shape {
        id: "schedule",
        head: "[schedule]",
        about: "When a report is generated: a calendar rule or a cron expression, in the report's time zone.",
        keys: &[ScheduleKeys::KEYS],
    },
    Shape {
        id: "deliver",
        head: "[[deliver]]",
        about: "Where the files are delivered. `path` and `name` are templates: see [delivery](delivery.md).",
        keys: &[DeliverKeys::KEYS],
    },
];

const TABLES: [Shape; OWN.len() + sections::SHAPES.len()] = {
    let mut tables = [OWN[0]; OWN.len() + sections::SHAPES.len()];
    let mut at = 0;
    while at < tables.len() {
        tables[at] = if at < OWN.len() { OWN[at] } else { sections::SHAPES[at - OWN.len()] };
        at += 1;
    }
    tables
};

#[cfg(test)]
mod tests;
