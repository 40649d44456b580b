//! The reference of report definitions, templates and themes: every table and key, as data. The page (`docs/report-definitions.md`)
//! and the JSON Schemas for editors are made from it; its tests hold it against the readers.

use std::path::PathBuf;

use jiff::tz::TimeZone;
use mailqos_config::{
    Cron, DateText, FromToml,
    reference::{Key, Reference, Shape, Takes},
};
use mailqos_figures::Metric;
use mailqos_model::{Micros, Name};
use serde_json::json;

use super::{
    calendar_keys::{FirstDay, FirstMonth, LanguageTag, PeriodName},
    definition::{Each, Format},
    theme::Hex,
};

const TEXT: Takes = Takes::of::<String>();
const TEXTS: Takes = Takes::of::<Vec<String>>();
const SWITCH: Takes = Takes::of::<bool>();
const COUNT: Takes = Takes::of::<u32>();
const NAME: Takes = Takes::of::<Name>();
const PATH: Takes = Takes::of::<PathBuf>();
const COLOUR: Takes = Takes::of::<Hex>();
/// A colour, or one by day and one by night.
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

/// The words of a list of words and what they stand for.
const fn words<T, const N: usize>(pairs: &[(&'static str, T); N]) -> [&'static str; N] {
    let mut words = [""; N];
    let mut at = 0;
    while at < N {
        words[at] = pairs[at].0;
        at += 1;
    }
    words
}

const EACH: &[&str] = &words(&Each::WORDS);
const FORMATS: &[&str] = &words(&Format::ALL);
const METRICS: &[&str] = &{
    let mut words = [""; Metric::ALL.len()];
    let mut at = 0;
    while at < words.len() {
        words[at] = Metric::ALL[at].as_str();
        at += 1;
    }
    words
};

/// The sections, by the ids of their tables.
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

/// What all sections take.
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

/// A section's table: its kind and what it shows, and the keys that only it has.
const fn section(id: &'static str, head: &'static str, about: &'static str, keys: &'static [&'static [Key]]) -> Shape {
    Shape { id, head, about, keys }
}

macro_rules! kind {
    ($word:literal) => {
        &[Key::new("kind", Takes::Words(&[$word]), "The kind.").required()]
    };
}

/// The tables that are files of their own.
pub const FILES: [&str; 3] = ["definition", "template", "theme"];

/// Report definitions (the table `definition`), templates (`template`) and themes (`theme`).
pub const REPORTS: Reference = Reference {
    title: "Reports of mailqos",
    tables: &[
        Shape {
            id: "definition",
            head: "Definitions: `reports/NAME.toml`",
            about: "Which monitors a report is of, what it displays, when it is made and where it goes. NAME is its slug: its files are called so.",
            keys: &[
                &[
                    Key::new(
                        "template",
                        TEXT,
                        "The template; sections of the definition's own follow it.",
                    )
                    .otherwise("sections alone"),
                    Key::new(
                        "title",
                        TEXT,
                        "What it is called; it must be said where no template is.",
                    )
                    .otherwise("the template's"),
                    Key::new("monitors", TEXTS, "Ids, globs, `tag:NAME`, `object:NAME`.").otherwise("all"),
                    Key::new("sites", TEXTS, "Only these sites.").otherwise("all"),
                    Key::new(
                        "period",
                        Takes::of::<PeriodName>(),
                        "`last-month`, `current-week`, `last-7d`, `2026-03` …; it must be said with a schedule.",
                    )
                    .otherwise("the month before"),
                    Key::new("timezone", Takes::of::<TimeZone>(), "The zone of its days and times.")
                        .otherwise("the configuration's"),
                    Key::new("week_start", Takes::of::<FirstDay>(), "The first day of its weeks.")
                        .default("\"monday\""),
                    Key::new(
                        "year_start",
                        Takes::of::<FirstMonth>(),
                        "The first month of its years, such as a fiscal year's; quarters follow it.",
                    )
                    .default("1"),
                    Key::new("language", Takes::of::<LanguageTag>(), "`en`, `de` or `sv`.").otherwise("the theme's, or `en`"),
                    Key::new(
                        "each",
                        Takes::Words(EACH),
                        "One report for all monitors, or one for each of these.",
                    )
                    .default("\"all\""),
                    Key::new("formats", Takes::SomeOf(FORMATS), "Which files are made.").default("[\"html\", \"pdf\"]"),
                    Key::new(
                        "chapters_on_a_page",
                        Takes::of::<u32>(),
                        "A report of more chapters is made as `zip` where `html` is wanted: an archive with a page for each.",
                    )
                    .default("150"),
                    Key::new(
                        "chapters_in_a_pdf",
                        Takes::of::<u32>(),
                        "The PDF of a report with more chapters about single monitors leaves those out, and says so; the archive has them.",
                    )
                    .default("250"),
                    Key::new("output", PATH, "The folder of its files.")
                        .otherwise("the current one; of scheduled reports one in the state folder"),
                    Key::new("schedule", Takes::Table(&["schedule"]), "When it is made by itself."),
                    Key::new(
                        "deliver",
                        Takes::NamesOrTables(&["deliver"]),
                        "Where it goes: names of targets, or tables.",
                    ),
                ],
                LAYOUT,
            ],
        },
        Shape {
            id: "template",
            head: "Templates: `templates/NAME.toml`",
            about: "What to display, without monitors. `templates new NAME` begins one.",
            keys: &[
                &[
                    Key::new("title", TEXT, "What reports made of it are called.").required(),
                    Key::new("description", TEXT, "What it is for, in a sentence.").default("\"\""),
                ],
                LAYOUT,
            ],
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
                Key::new("language", Takes::of::<LanguageTag>(), "Of reports that name none: `en`, `de` or `sv`.").otherwise("`en`"),
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
            about: "When a report is made: a calendar rule or a cron expression, in the report's zone.",
            keys: &[&[
                Key::new(
                    "every",
                    Takes::Words(&["day", "week", "month", "quarter", "year"]),
                    "The calendar rule; without `cron` it must be said.",
                ),
                Key::new(
                    "on",
                    TEXT,
                    "The day: of weeks `monday` …, else `1` to `31`, `last`, `first-monday`, `last-friday`.",
                )
                .otherwise("the first"),
                Key::new("at", Takes::of::<DateText>(), "The time of day.").default("\"07:00\""),
                Key::new(
                    "cron",
                    Takes::of::<Cron>(),
                    "A cron expression in place of `every`: minute, hour, day of month, month, day of week.",
                ),
                Key::new(
                    "grace",
                    Takes::of::<Micros>(),
                    "How long it waits for samples that are not settled yet.",
                )
                .default("\"0s\""),
                Key::new(
                    "catch_up",
                    Takes::Words(&["all", "latest", "none"]),
                    "Which runs are made that fell due while nobody ran schedules.",
                )
                .default("\"latest\""),
            ]],
        },
        Shape {
            id: "deliver",
            head: "[[deliver]]",
            about: "Where the files go. `path` and `name` are templates: see [delivery](delivery.md).",
            keys: &[&[
                Key::new("target", NAME, "A `[target.NAME]` of the configuration.").required(),
                Key::new("path", TEXT, "Folders below the target's own.").default("\"\""),
                Key::new("name", TEXT, "The files' name, without the ending.").otherwise("that of the report's files"),
                Key::new(
                    "overwrite",
                    Takes::of::<bool>(),
                    "Runs may share a name: the newest report replaces the one before.",
                )
                .default("false"),
                Key::new("formats", Takes::SomeOf(FORMATS), "Only these.")
                    .otherwise("all; by mail, all but the page, which is the mail itself"),
            ]],
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
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use mailqos_config as config;
    use mailqos_config::{
        Config, Problems,
        reference::{markdown, schema},
    };
    use tempfile::TempDir;

    use super::*;
    use crate::{definition, sections};

    /// A folder with all that definitions refer to.
    struct Bench {
        folder: TempDir,
        config: Config,
    }

    impl Bench {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let write = |name: &str, text: &str| {
                let path = folder.path().join(name);
                fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
                fs::write(&path, text).expect("written");
                path
            };
            write("templates/html/x.html", "{% extends \"page.html\" %}");
            write("templates/themes/x.toml", "");
            let path = write(
                "mailqos.toml",
                "site = \"s\"\n[target.x]\nkind = \"folder\"\npath = \"x\"\n",
            );
            let config = config::load(&path).expect("a configuration");
            Self { folder, config }
        }

        /// What the readers make of a file with a table of this shape that has these lines.
        fn read(&self, shape: &Shape, lines: &str) -> Result<String, Problems> {
            let fine = "title = \"t\"\nperiod = \"last-month\"\n";
            let phases = "[[section]]\nkind = \"phases\"\n";
            let text = match shape.id {
                "template" => {
                    let file = self.config.templates.join("t.toml");
                    fs::write(file, format!("{lines}{phases}")).expect("written");
                    return definition::of_template(Some(&self.config), "t").map(|read| format!("{read:?}"));
                }
                "definition" => format!("{lines}{phases}"),
                "column" => format!(
                    "{fine}[[section]]\nkind = \"columns\"\n[[section.column]]\nsection = [{{ kind = \"phases\" }}]\n[[section.column]]\n{lines}"
                ),
                "theme" => format!("{fine}[theme]\n{lines}{phases}"),
                "deliver" => format!("{fine}[[deliver]]\n{lines}{phases}"),
                id if id.starts_with("section.") => format!("{fine}[[section]]\n{lines}"),
                id => format!("{fine}[{id}]\n{lines}{phases}"),
            };
            let file = self.folder.path().join("d.toml");
            fs::write(&file, text).expect("written");
            definition::load(Some(&self.config), &file).map(|read| format!("{read:?}"))
        }
    }

    /// A value that a key takes, as TOML.
    fn value(shape: &Shape, key: &Key) -> String {
        match (key.default, key.takes) {
            (Some(default), _) => default.to_owned(),
            // `on` has no meaning with every day.
            (None, _) if (shape.id, key.name) == ("schedule", "every") => "\"month\"".to_owned(),
            (None, Takes::Table(["schedule"])) => "{ every = \"day\" }".to_owned(),
            (None, Takes::Table(_)) => "{}".to_owned(),
            (None, Takes::NamesOrTables(["deliver"])) => "[{ target = \"x\" }]".to_owned(),
            (None, Takes::Words(words) | Takes::SomeOf(words)) => format!("{:?}", words[0]),
            (None, Takes::Tables(["column"])) => {
                "[{ section = [{ kind = \"phases\" }] }, { section = [{ kind = \"phases\" }] }]".to_owned()
            }
            (None, Takes::Tables(_)) => "[{ kind = \"phases\" }]".to_owned(),
            _ => match (shape.id, key.name) {
                (_, "limit") => "3",
                (_, "timezone") => "\"Europe/Berlin\"",
                (_, "language") => "\"de\"",
                (_, "period") => "\"last-month\"",
                (_, "template") => "\"trend\"",
                ("schedule", "on") => "\"2\"",
                ("theme.colours", _) => "{ light = \"#112233\", dark = \"#ddeeff\" }",
                ("theme", "accent") => "\"#112233\"",
                ("theme.formats", _) => "\",\"",
                _ => "\"x\"",
            }
            .to_owned(),
        }
    }

    /// The lines that a table of this shape can't do without.
    fn needed(shape: &Shape, but: &str) -> String {
        let also = match shape.id {
            "definition" => &["title", "period"][..],
            "schedule" => &["every"],
            _ => &[],
        };
        shape
            .keys()
            .filter(|key| (key.required || also.contains(&key.name)) && key.name != but)
            .map(|key| format!("{} = {}\n", key.name, value(shape, key)))
            .collect()
    }

    /// The remedies of all that is wrong.
    fn remedies(problems: &Problems) -> String {
        let remedies: Vec<&str> = problems.iter().filter_map(|problem| problem.help.as_deref()).collect();
        remedies.join("\n")
    }

    #[test]
    fn the_readers_take_each_key_and_no_others() {
        let bench = Bench::new();
        for shape in REPORTS.tables {
            let read = bench.read(shape, &needed(shape, ""));
            assert!(read.is_ok(), "{}: {read:?}", shape.head);
            for key in shape.keys() {
                // A table of sections follows the lines, and cron excludes what is needed.
                if matches!(
                    (shape.id, key.name),
                    ("definition" | "template", "section") | ("schedule", "cron")
                ) {
                    continue;
                }
                let lines = format!("{}{} = {}\n", needed(shape, key.name), key.name, value(shape, key));
                let read = bench.read(shape, &lines);
                assert!(read.is_ok(), "{} {}: {read:?}", shape.head, key.name);
            }
            let lines = format!("{}zz9 = 1\n", needed(shape, ""));
            let refused = remedies(&bench.read(shape, &lines).expect_err("an unknown key"));
            let known = refused.lines().find_map(|help| help.strip_prefix("known here: "));
            let known: BTreeSet<&str> = known.unwrap_or_default().split(", ").collect();
            let described: BTreeSet<&str> = shape.keys().map(|key| key.name).collect();
            assert_eq!(known, described, "{}: {refused}", shape.head);
        }
    }

    #[test]
    fn what_must_be_said_is_missed_and_defaults_are_what_holds() {
        let bench = Bench::new();
        for shape in REPORTS.tables {
            for key in shape.keys() {
                let without = bench.read(shape, &needed(shape, key.name));
                if key.required {
                    assert!(without.is_err(), "{} can do without {}", shape.head, key.name);
                }
                if let Some(default) = key.default {
                    let with = bench.read(shape, &format!("{}{} = {default}\n", needed(shape, key.name), key.name));
                    assert_eq!(with, without, "{} {} = {default}", shape.head, key.name);
                }
            }
        }
    }

    #[test]
    fn words_are_those_that_the_readers_take() {
        let bench = Bench::new();
        for shape in REPORTS.tables {
            for key in shape.keys().filter(|key| key.name != "kind") {
                let (Takes::Words(words) | Takes::SomeOf(words)) = key.takes else {
                    continue;
                };
                let lines = format!("{}{} = \"zz9\"\n", needed(shape, key.name), key.name);
                let refused = remedies(&bench.read(shape, &lines).expect_err("an unknown word"));
                let told = refused
                    .lines()
                    .any(|help| help.ends_with(&format!(": {}", words.join(", "))));
                assert!(told, "{} {}: {refused}", shape.head, key.name);
            }
        }
        let kinds: Vec<String> = sections::kinds().map(|(kind, _)| format!("section.{kind}")).collect();
        assert_eq!(kinds, SECTIONS, "the kinds of sections");
        for id in SECTIONS {
            assert!(REPORTS.tables.iter().any(|shape| shape.id == *id), "no table of {id}");
        }
    }

    #[test]
    fn what_is_generated_is_current() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
        let page = format!("{}{}", include_str!("reference.md"), markdown(&REPORTS));
        let mut files = vec![("report-definitions.md".to_owned(), page)];
        for file in FILES {
            let text = serde_json::to_string_pretty(&schema(&REPORTS, file)).expect("JSON");
            files.push((format!("{file}.schema.json"), text + "\n"));
        }
        let mut stale = Vec::new();
        for (name, text) in files {
            let path = docs.join(&name);
            if std::env::var_os("MAILQOS_WRITE").is_some() {
                fs::write(&path, &text).expect("written");
            }
            if fs::read_to_string(&path).unwrap_or_default() != text {
                stale.push(name);
            }
        }
        assert!(
            stale.is_empty(),
            "{stale:?} in docs/: regenerate them with MAILQOS_WRITE=1 cargo test -p mailqos-report reference"
        );
    }
}
