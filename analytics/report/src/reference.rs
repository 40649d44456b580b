//! Reference of report definitions, templates and themes: all tables and keys as data. The page
//! `docs/report-definitions.md` and the JSON Schemas for editors are generated from it; its tests
//! compare it with the readers.

use std::path::PathBuf;

use mailqos_config::{
    FromToml,
    reference::{Key, Reference, Shape, Takes},
};
use mailqos_lake_tables::Metric;
use mailqos_model::Name;
use serde_json::json;

use super::{
    calendar_keys::{LanguageTag, PeriodName},
    definitions::{DefinitionKeys, TemplateKeys},
    deliveries::DeliverKeys,
    schedule_keys::ScheduleKeys,
    theme::Hex,
};

const TEXT: Takes = Takes::of::<String>();
const TEXTS: Takes = Takes::of::<Vec<String>>();
const SWITCH: Takes = Takes::of::<bool>();
const COUNT: Takes = Takes::of::<u32>();
const NAME: Takes = Takes::of::<Name>();
const PATH: Takes = Takes::of::<PathBuf>();
const COLOUR: Takes = Takes::of::<Hex>();
/// A colour, or one for light and one for dark pages.
const PAIR: Takes = Takes::Type {
    expected: || format!("{}, or `{{ light = …, dark = … }}`", Hex::expected()),
    schema: || {
        json!({ "anyOf": [Hex::schema(), {
            "type": "object",
            "properties": { "light": Hex::schema(), "dark": Hex::schema() },
            "required": ["light"],
            "additionalProperties": false,
        }] })
    },
};

const METRICS: &[&str] = &{
    let mut words = [""; Metric::ALL.len()];
    let mut at = 0;
    while at < words.len() {
        words[at] = Metric::ALL[at].as_str();
        at += 1;
    }
    words
};

/// Sections by the ids of their tables.
const SECTIONS: &[&str] = &[
    "section.heading",
    "section.text",
    "section.image",
    "section.page-break",
    "section.summary",
    "section.key-figures",
    "section.availability-table",
    "section.availability-strip",
    "section.group-table",
    "section.top",
    "section.hops",
    "section.columns",
    "section.percentile-table",
    "section.metric-chart",
    "section.monitors-chart",
    "section.distribution",
    "section.weekly-pattern",
    "section.phases",
    "section.comparison",
    "section.service-level",
    "section.trends",
    "section.patterns",
    "section.outages",
    "section.transcripts",
    "section.alarms",
    "section.coverage",
    "section.method",
    "section.per-monitor",
];

/// Keys common to all sections.
const PLACED: &[Key] = &[
    Key::new(
        "monitors",
        TEXTS,
        "Its monitors: ids, globs, `tag:NAME`, `object:NAME`.",
    )
    .otherwise("the report's"),
    Key::new("sites", TEXTS, "Its sites.").otherwise("the report's"),
    Key::new("period", Takes::of::<PeriodName>(), "Its period, such as `last-year`.").otherwise("the report's"),
];

const METRIC: &[Key] = &[Key::new("metric", Takes::Words(METRICS), "Which times.").default("\"round_trip\"")];

const LAYOUT: &[Key] = &[
    Key::new(
        "layout",
        NAME,
        "The name of layouts of one's own, in the folder of templates.",
    ),
    Key::new(
        "theme",
        Takes::NameOrTable(&["theme"]),
        "The house style: see [templates](templates.md).",
    )
    .otherwise("that of the house"),
    Key::new("section", Takes::Tables(SECTIONS), "What it displays, in order."),
];

/// Table of a section: its kind, its purpose and its own keys.
const fn section(id: &'static str, head: &'static str, about: &'static str, keys: &'static [&'static [Key]]) -> Shape {
    Shape { id, head, about, keys }
}

macro_rules! kind {
    ($word:literal) => {
        &[Key::new("kind", Takes::Words(&[$word]), "The kind.").required()]
    };
}

/// Tables that are separate files.
pub const FILES: [&str; 3] = ["definition", "template", "theme"];

/// Report definitions (the table `definition`), templates (`template`) and themes (`theme`).
pub const REPORTS: Reference = Reference {
    title: "Reports of mailqos",
    tables: &[
        Shape {
            id: "definition",
            head: "Definitions: `reports/NAME.toml`",
            about: "Which monitors a report covers, what it displays, when it is generated and where it is delivered. NAME is its slug, with which the names of its files begin.",
            keys: &[DefinitionKeys::KEYS, LAYOUT],
        },
        Shape {
            id: "template",
            head: "Templates: `templates/NAME.toml`",
            about: "What to display, without monitors. `templates new NAME` creates one.",
            keys: &[TemplateKeys::KEYS, LAYOUT],
        },
        Shape {
            id: "theme",
            head: "[theme]",
            about: "The house style: a file `templates/themes/NAME.toml`, or a table of a definition or a template, which says single keys over those of the house, or of another theme.",
            keys: &[&[
                Key::new("file", TEXT, "In a table: the theme that holds for all other keys.")
                    .otherwise("`house`, if there is one"),
                Key::new("company", TEXT, "In the header; the author of the PDF.").default("\"\""),
                Key::new("header", TEXT, "At the head of every page.").default("\"\""),
                Key::new("footer", TEXT, "At the foot of every page.").default("\"\""),
                Key::new("logo", PATH, "SVG, PNG or JPEG."),
                Key::new("logo_dark", PATH, "The logo on a dark page.").otherwise("`logo`"),
                Key::new("paper", Takes::Words(&["a4", "letter"]), "The paper of the PDF.").default("\"a4\""),
                Key::new(
                    "language",
                    Takes::of::<LanguageTag>(),
                    "Of reports that name none: `en`, `de` or `sv`.",
                )
                .otherwise("`en`"),
                Key::new("accent", COLOUR, "The same as `accent` among the colours."),
                Key::new(
                    "colours",
                    Takes::Table(&["theme.colours"]),
                    "The colours of pages and charts.",
                ),
                Key::new(
                    "fonts",
                    Takes::of::<Vec<PathBuf>>(),
                    "TrueType or OpenType files of one family.",
                )
                .default("[]"),
                Key::new(
                    "formats",
                    Takes::Table(&["theme.formats"]),
                    "How dates and numbers are written.",
                ),
            ]],
        },
        Shape {
            id: "theme.colours",
            head: "[theme.colours]",
            about: "Each a colour such as `\"#1c5d99\"`, or one for the page by day and one for the page by night. Text that can't be read is warned of.",
            keys: &[&[
                Key::new("accent", PAIR, "Lines, links, bands, heat maps."),
                Key::new("ink", PAIR, "Text."),
                Key::new("grey", PAIR, "Text of less weight."),
                Key::new("hair", PAIR, "Rules."),
                Key::new("ground", PAIR, "The page."),
                Key::new("tint", PAIR, "Areas."),
                Key::new("good", PAIR, "What is good."),
                Key::new("late", PAIR, "What is late, and warnings."),
                Key::new("failed", PAIR, "What failed."),
            ]],
        },
        Shape {
            id: "theme.formats",
            head: "[theme.formats]",
            about: "How dates and numbers are written.",
            keys: &[&[
                Key::new("date", TEXT, "`language`, `iso`, or a form such as `%d.%m.%Y`.").default("\"language\""),
                Key::new("time", Takes::Words(&["24h", "12h"]), "The clock.").default("\"24h\""),
                Key::new("decimal", TEXT, "The sign before decimals.").otherwise("the language's"),
                Key::new("thousands", TEXT, "The sign between thousands; may be empty.").otherwise("the language's"),
            ]],
        },
        Shape {
            id: "schedule",
            head: "[schedule]",
            about: "When a report is generated: a calendar rule or a cron expression, in the report's zone.",
            keys: &[ScheduleKeys::KEYS],
        },
        Shape {
            id: "deliver",
            head: "[[deliver]]",
            about: "Where the files are delivered. `path` and `name` are templates: see [delivery](delivery.md).",
            keys: &[DeliverKeys::KEYS],
        },
        section(
            "section.heading",
            "[[section]] kind = \"heading\"",
            "A heading of one's own.",
            &[
                kind!("heading"),
                &[
                    Key::new("text", TEXT, "What it says.").required(),
                    Key::new("level", Takes::of::<u16>(), "1 to 3.").default("1"),
                ],
                PLACED,
            ],
        ),
        section(
            "section.text",
            "[[section]] kind = \"text\"",
            "Free text.",
            &[
                kind!("text"),
                &[Key::new("markdown", TEXT, "The text, in Markdown.").required()],
                PLACED,
            ],
        ),
        section(
            "section.image",
            "[[section]] kind = \"image\"",
            "A picture from a file.",
            &[
                kind!("image"),
                &[
                    Key::new("file", PATH, "PNG, JPEG or SVG.").required(),
                    Key::new("alternative", TEXT, "What it shows, for those who don't see it.").default("\"\""),
                    Key::new("caption", TEXT, "What stands below it.").default("\"\""),
                    Key::new("width", Takes::of::<u16>(), "Per cent of the page's width.").default("100"),
                ],
                PLACED,
            ],
        ),
        section(
            "section.page-break",
            "[[section]] kind = \"page-break\"",
            "What follows begins on a new page.",
            &[kind!("page-break"), PLACED],
        ),
        section(
            "section.summary",
            "[[section]] kind = \"summary\"",
            "What mattered, in sentences.",
            &[kind!("summary"), PLACED],
        ),
        section(
            "section.key-figures",
            "[[section]] kind = \"key-figures\"",
            "Availability, round trip, outages and coverage, large.",
            &[kind!("key-figures"), PLACED],
        ),
        section(
            "section.availability-table",
            "[[section]] kind = \"availability-table\"",
            "Counts, availability and delivery rate per monitor.",
            &[kind!("availability-table"), PLACED],
        ),
        section(
            "section.availability-strip",
            "[[section]] kind = \"availability-strip\"",
            "When each monitor failed.",
            &[
                kind!("availability-strip"),
                &[
                    Key::new(
                        "shape",
                        Takes::Words(&["strip", "calendar"]),
                        "A line of cells, or a column for each week.",
                    )
                    .default("\"strip\""),
                    Key::new(
                        "cell",
                        Takes::Words(&["hour", "day"]),
                        "What a cell is; a calendar has days.",
                    )
                    .otherwise("by the period's length"),
                    Key::new("limit", COUNT, "Only so many monitors, the worst.").otherwise("all"),
                ],
                PLACED,
            ],
        ),
        section(
            "section.group-table",
            "[[section]] kind = \"group-table\"",
            "Sites, objects or tags beside each other.",
            &[
                kind!("group-table"),
                &[Key::new("by", Takes::Words(&["site", "object", "tag"]), "What is compared.").default("\"site\"")],
                PLACED,
            ],
        ),
        section(
            "section.top",
            "[[section]] kind = \"top\"",
            "The worst or the best monitors by a figure.",
            &[
                kind!("top"),
                &[
                    Key::new(
                        "figure",
                        Takes::Words(&["availability", "downtime", "outages", "median", "p95", "p99", "slower"]),
                        "By which figure.",
                    )
                    .default("\"availability\""),
                    Key::new("end", Takes::Words(&["worst", "best"]), "Which end.").default("\"worst\""),
                    Key::new("limit", COUNT, "How many monitors.").default("10"),
                ],
                PLACED,
            ],
        ),
        section(
            "section.hops",
            "[[section]] kind = \"hops\"",
            "The path of the mails: where they spend their time.",
            &[
                kind!("hops"),
                &[Key::new("limit", COUNT, "How many hops.").default("20")],
                PLACED,
            ],
        ),
        section(
            "section.columns",
            "[[section]] kind = \"columns\"",
            "Sections side by side: two or three columns.",
            &[
                kind!("columns"),
                &[Key::new("column", Takes::Tables(&["column"]), "The columns.").required()],
                PLACED,
            ],
        ),
        section(
            "column",
            "[[section.column]]",
            "A column.",
            &[&[Key::new(
                "section",
                Takes::Tables(SECTIONS),
                "Its sections, without monitors, sites and period of their own.",
            )]],
        ),
        section(
            "section.percentile-table",
            "[[section]] kind = \"percentile-table\"",
            "The distribution of a metric per monitor.",
            &[kind!("percentile-table"), METRIC, PLACED],
        ),
        section(
            "section.metric-chart",
            "[[section]] kind = \"metric-chart\"",
            "Median, p5 to p95 and failures over time.",
            &[kind!("metric-chart"), METRIC, PLACED],
        ),
        section(
            "section.monitors-chart",
            "[[section]] kind = \"monitors-chart\"",
            "Many monitors over time on one scale.",
            &[
                kind!("monitors-chart"),
                METRIC,
                &[Key::new(
                    "shape",
                    Takes::Words(&["lines", "panels"]),
                    "All in one chart, or a small chart each.",
                )
                .otherwise("lines for four monitors or fewer")],
                PLACED,
            ],
        ),
        section(
            "section.distribution",
            "[[section]] kind = \"distribution\"",
            "How long mail takes, and how often.",
            &[kind!("distribution"), METRIC, PLACED],
        ),
        section(
            "section.weekly-pattern",
            "[[section]] kind = \"weekly-pattern\"",
            "The median by hour and weekday.",
            &[kind!("weekly-pattern"), METRIC, PLACED],
        ),
        section(
            "section.phases",
            "[[section]] kind = \"phases\"",
            "Where the time goes: connection, login, transit, receive.",
            &[kind!("phases"), PLACED],
        ),
        section(
            "section.comparison",
            "[[section]] kind = \"comparison\"",
            "This period and the one before, by monitor.",
            &[
                kind!("comparison"),
                &[
                    Key::new("figure", Takes::Words(&["median", "availability"]), "What is compared.")
                        .default("\"median\""),
                ],
                PLACED,
            ],
        ),
        section(
            "section.service-level",
            "[[section]] kind = \"service-level\"",
            "Promises kept or missed, error budgets and where they will end.",
            &[
                kind!("service-level"),
                &[
                    Key::new("levels", TEXTS, "Only these service levels; globs may be used.").otherwise("all"),
                    Key::new("brief", SWITCH, "The verdict alone.").default("false"),
                    Key::new("quiet", SWITCH, "Nothing where nothing is promised.").default("false"),
                ],
                PLACED,
            ],
        ),
        section(
            "section.trends",
            "[[section]] kind = \"trends\"",
            "Lasting changes of each metric, with their strength.",
            &[
                kind!("trends"),
                &[Key::new("limit", COUNT, "How many changes.").default("40")],
                PLACED,
            ],
        ),
        section(
            "section.patterns",
            "[[section]] kind = \"patterns\"",
            "What the samples have in common, in words.",
            &[
                kind!("patterns"),
                &[
                    Key::new("limit", COUNT, "How many patterns.").default("30"),
                    Key::new("changes", SWITCH, "With what `trends` tells.").default("true"),
                ],
                PLACED,
            ],
        ),
        section(
            "section.outages",
            "[[section]] kind = \"outages\"",
            "Each outage with its cause.",
            &[
                kind!("outages"),
                &[Key::new("limit", COUNT, "How many outages.").default("40")],
                PLACED,
            ],
        ),
        section(
            "section.transcripts",
            "[[section]] kind = \"transcripts\"",
            "What failed tests and the servers said to each other.",
            &[
                kind!("transcripts"),
                &[Key::new("limit", COUNT, "How many transcripts.").default("5")],
                PLACED,
            ],
        ),
        section(
            "section.alarms",
            "[[section]] kind = \"alarms\"",
            "What rang, who was told, dead channels, planned maintenance.",
            &[
                kind!("alarms"),
                &[Key::new("limit", COUNT, "How many alarms.").default("40")],
                PLACED,
            ],
        ),
        section(
            "section.coverage",
            "[[section]] kind = \"coverage\"",
            "How much of the period is known.",
            &[kind!("coverage"), PLACED],
        ),
        section(
            "section.method",
            "[[section]] kind = \"method\"",
            "How it was measured and what the figures mean.",
            &[kind!("method"), PLACED],
        ),
        section(
            "section.per-monitor",
            "[[section]] kind = \"per-monitor\"",
            "The same sections for each monitor.",
            &[
                kind!("per-monitor"),
                &[
                    Key::new(
                        "section",
                        Takes::Tables(SECTIONS),
                        "The sections of each, without monitors, sites and period of their own.",
                    )
                    .required(),
                    Key::new("new_page", SWITCH, "Each monitor begins on a new page.").default("true"),
                    Key::new(
                        "min_failed_tests",
                        COUNT,
                        "Only monitors with an outage of at least so many failed tests.",
                    )
                    .default("0"),
                ],
                PLACED,
            ],
        ),
    ],
};

#[cfg(test)]
mod tests;
