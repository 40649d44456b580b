//! The generated reference of the configuration: that it is current, that the schema accepts
//! whatever the readers accept, and that declared defaults and required keys hold.
//! `MAILQOS_WRITE=1 cargo test -p mailqos-tests --test reference` regenerates it.

#![allow(clippy::expect_used, missing_docs)]

use std::{path::Path, sync::LazyLock};

use mailqos_config::{
    Action, Problems, Severity, load,
    reference::{CONFIGURATION, Key, Shape, markdown, schema},
};
use mailqos_tests::toml::json;
use toml_edit::{DocumentMut, Item, Value};

const COMPLETE: &str = include_str!("configurations/complete.toml");

/// Positions of each kind of table in the complete configuration: the keys that lead there, numbers
/// in arrays.
const PLACES: &[(&str, &[&str])] = &[
    ("file", &[""]),
    ("limits", &["limits"]),
    ("object_store", &["object_store"]),
    ("engine", &["engine"]),
    ("console", &["console"]),
    ("console.oidc", &["console oidc"]),
    // It excludes `console.oidc`; the tests of its reader cover it.
    ("console.proxy_auth", &[]),
    ("console.groups", &["console oidc groups 0"]),
    ("heartbeat", &["heartbeat"]),
    ("delivery", &["delivery"]),
    ("delivery.heartbeat", &["delivery heartbeat"]),
    ("archive", &["archive"]),
    ("account", &["account probe", "account microsoft"]),
    ("account.oauth", &["account microsoft oauth", "account own oauth"]),
    ("object", &["object mail"]),
    ("monitor", &["monitor mail"]),
    ("defaults", &["defaults"]),
    ("monitor.smtp", &["monitor mail smtp"]),
    ("monitor.pickup", &["monitor mail pickup"]),
    ("monitor.message", &["monitor mail message"]),
    ("monitor.alarm", &["monitor mail alarm"]),
    ("monitor.alarm.percentiles", &["monitor mail alarm percentiles 0"]),
    ("operator", &["operator anna", "operator all"]),
    ("mail_server", &["mail_server alerts"]),
    ("mail_server.dkim", &["mail_server alerts dkim"]),
    ("action_list", &["action_list mail"]),
    ("action.email", &["action_list mail actions 0"]),
    ("action.webhook", &["action_list mail actions 1"]),
    ("action.command", &["action_list mail actions 2"]),
    ("action.syslog", &["action_list mail actions 3"]),
    ("action.list", &["action_list mail actions 4"]),
    (
        "webhook",
        &[
            "action_list mail actions 1 webhook",
            "action_list mail actions 7 webhook",
            "action_list mail actions 8 webhook",
        ],
    ),
    (
        "syslog",
        &[
            "action_list mail actions 3 syslog",
            "action_list mail actions 5 syslog",
            "action_list mail actions 6 syslog",
        ],
    ),
    ("maintenance", &["maintenance once", "maintenance weekly", "maintenance calendar"]),
    ("target.folder", &["target folder"]),
    ("target.ftp", &["target ftp"]),
    ("target.sftp", &["target sftp"]),
    ("target.smb", &["target smb"]),
    ("target.object-store", &["target store"]),
    ("target.email", &["target mail"]),
    ("service_level", &["service_level gold"]),
    ("service_level.percentile", &["service_level gold percentile"]),
];

/// Values of all types, valid for some keys and invalid for others.
const VALUES: &[&str] = &[
    "true",
    "1",
    "-1",
    "0.5",
    "\"x y\"",
    "\"anna\"",
    "\"5m\"",
    "\"99.5%\"",
    "[]",
    "[1]",
    "{ x = 1 }",
    "2026-12-24",
];

fn places(shape: &Shape) -> &'static [&'static str] {
    PLACES
        .iter()
        .find(|(id, _)| *id == shape.id)
        .unwrap_or_else(|| panic!("no place of {:?} is known: add one to PLACES", shape.id))
        .1
}

/// Returns the complete configuration with a key of the table at a position set or removed.
fn with(place: &str, key: &str, value: Option<&str>) -> String {
    static PARSED: LazyLock<DocumentMut> = LazyLock::new(|| COMPLETE.parse().expect("TOML"));
    let mut document = PARSED.clone();
    let value = value.map(|text| text.parse::<Value>().expect("a value"));
    let words: Vec<&str> = place.split_whitespace().collect();
    let table = document.as_item_mut();
    set(table, &words, key, value);
    document.to_string()
}

fn set(item: &mut Item, way: &[&str], key: &str, value: Option<Value>) {
    match item {
        Item::Value(inner) => set_value(inner, way, key, value),
        _ => match way.split_first() {
            Some((step, rest)) => set(&mut item[*step], rest, key, value),
            None => {
                let table = item.as_table_like_mut().expect("a table");
                table.remove(key);
                if let Some(value) = value {
                    table.insert(key, Item::Value(value));
                }
            }
        },
    }
}

fn set_value(inner: &mut Value, way: &[&str], key: &str, value: Option<Value>) {
    match (way.split_first(), inner) {
        (Some((step, rest)), Value::InlineTable(table)) => {
            set_value(table.get_mut(step).expect("the way leads on"), rest, key, value);
        }
        (Some((step, rest)), Value::Array(array)) => {
            let number: usize = step.parse().expect("a number");
            set_value(array.get_mut(number).expect("the way leads on"), rest, key, value);
        }
        (None, Value::InlineTable(table)) => {
            table.remove(key);
            if let Some(value) = value {
                table.insert(key, value);
            }
        }
        (way, inner) => panic!("{way:?} in {inner}"),
    }
}

/// Reads a configuration; returns all its problems and the parsed values as text.
fn read(folder: &Path, text: &str) -> (Problems, Option<String>) {
    let path = folder.join("mailqos.toml");
    std::fs::write(&path, text).expect("written");
    match load(&path) {
        Ok(mut config) => {
            let warnings = std::mem::take(&mut config.warnings);
            // A template stores its location, which moves with every line above it.
            for step in config.action_lists.values_mut().flat_map(|list| &mut list.steps) {
                if let Action::Webhook(webhook) = &mut step.action {
                    webhook.template = None;
                }
            }
            (warnings, Some(format!("{config:?}")))
        }
        Err(problems) => (problems, None),
    }
}

/// Returns the remedy of the problem about an unknown text.
fn remedy<'a>(problems: &'a Problems, message: &str) -> Option<&'a str> {
    let problem = problems.iter().find(|problem| problem.message.contains(message))?;
    problem.help.as_deref()
}

#[test]
fn the_complete_configuration_is_accepted_and_fits_the_schema() {
    let folder = tempfile::tempdir().expect("a folder");
    let (problems, config) = read(folder.path(), COMPLETE);
    assert!(config.is_some(), "{problems}");
    let validator = jsonschema::draft7::new(&schema(&CONFIGURATION, "file")).expect("a schema");
    let errors: Vec<String> = validator
        .iter_errors(&json(COMPLETE))
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

#[test]
fn the_schema_refuses_nothing_that_the_readers_take_and_no_type_less() {
    let validator = jsonschema::draft7::new(&schema(&CONFIGURATION, "file")).expect("a schema");
    let all: Vec<_> =
        keys().flat_map(|key| VALUES.iter().map(move |value| (key, *value))).collect();
    let compare = |part: &[((&Shape, &Key, &str), &str)]| -> Vec<String> {
        let folder = tempfile::tempdir().expect("a folder");
        let differences = part.iter().filter_map(|((shape, key, place), value)| {
            difference(folder.path(), &validator, (shape, key), place, value)
        });
        differences.collect()
    };
    // Some thousand configurations, on all processors.
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let parts = all.chunks(all.len().div_ceil(threads));
        let running: Vec<_> = parts.map(|part| scope.spawn(|| compare(part))).collect();
        running.into_iter().flat_map(|thread| thread.join().expect("a thread")).collect()
    });
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

/// Returns how the readers and the schema differ for a value.
fn difference(
    folder: &Path,
    validator: &jsonschema::Validator,
    (shape, key): (&Shape, &Key),
    place: &str,
    value: &str,
) -> Option<String> {
    let text = with(place, key.name, Some(value));
    let (problems, config) = read(folder, &text);
    let accepted = validator.is_valid(&json(&text));
    let is_wrong_type = problems.iter().any(|problem| {
        let place = problem.place.as_ref().map(|(source, span, _)| &source.text[span.clone()]);
        problem.message.starts_with("expected ") && place == Some(value)
    });
    let words = if config.is_some() && !accepted {
        "read, but refused by the schema".to_owned()
    } else if is_wrong_type && accepted {
        format!("of a wrong type, but the schema allows it: {problems}")
    } else {
        return None;
    };
    Some(format!("{} {} = {value}: {words}", shape.head, key.name))
}

#[test]
fn defaults_apply_where_nothing_is_set() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut compared = 0;
    for (shape, key, place) in keys() {
        let (Some(default), without) =
            (key.default, read(folder.path(), &with(place, key.name, None)).1)
        else {
            continue;
        };
        let (problems, said) = read(folder.path(), &with(place, key.name, Some(default)));
        // Keys that are only used at another position of this table.
        if said.is_none() && places(shape).len() > 1 && remedy(&problems, "unknown key").is_some() {
            continue;
        }
        assert!(said.is_some(), "{} {} = {default}: {problems}", shape.head, key.name);
        assert_eq!(said, without, "{} {} = {default} changes what is read", shape.head, key.name);
        compared += 1;
    }
    assert!(compared > 60, "only {compared} defaults were compared");
}

#[test]
fn missing_required_keys_are_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    for (shape, key, place) in keys().filter(|(_, key, _)| key.required) {
        let (problems, config) = read(folder.path(), &with(place, key.name, None));
        assert!(
            config.is_none() && problems.count(Severity::Error) > 0,
            "{} does not require {}",
            shape.head,
            key.name
        );
    }
}

/// Iterates over all keys at all positions of their tables.
fn keys() -> impl Iterator<Item = (&'static Shape, &'static Key, &'static str)> {
    CONFIGURATION.tables.iter().flat_map(|shape| {
        places(shape)
            .iter()
            .flat_map(move |place| shape.keys().map(move |key| (shape, key, *place)))
    })
}

#[test]
fn what_is_generated_is_current() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let mut schema = serde_json::to_string_pretty(&schema(&CONFIGURATION, "file")).expect("JSON");
    schema.push('\n');
    let mut stale = Vec::new();
    for (name, text) in [("configuration.md", page()), ("mailqos.schema.json", schema)] {
        let path = docs.join(name);
        if std::env::var_os("MAILQOS_WRITE").is_some() {
            std::fs::write(&path, &text).expect("written");
        }
        if std::fs::read_to_string(&path).unwrap_or_default() != text {
            stale.push(name);
        }
    }
    assert!(
        stale.is_empty(),
        "{stale:?} in docs/: regenerate them with MAILQOS_WRITE=1 cargo test -p mailqos-tests --test reference"
    );
}

/// Returns the page of the reference.
fn page() -> String {
    format!(
        "{}{}",
        include_str!("../../core/config/src/reference/introduction.md"),
        markdown(&CONFIGURATION)
    )
}
