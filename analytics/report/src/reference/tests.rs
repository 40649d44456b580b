//! Tests of the reference against the readers, and of the generated files.

use std::{collections::BTreeSet, fs, path::Path};

use mailqos_config as config;
use mailqos_config::{
    Config, Problems,
    reference::{markdown, schema},
};
use tempfile::TempDir;

use super::*;
use crate::{definitions, sections};

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
                return definitions::of_template(Some(&self.config), "t").map(|read| format!("{read:?}"));
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
        definitions::load(Some(&self.config), &file).map(|read| format!("{read:?}"))
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
    let page = format!("{}{}", include_str!("../reference.md"), markdown(&REPORTS));
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
