//! The form of a monitor as its page shows it: groups of fields with their values, defaults and
//! problems.

use std::collections::BTreeMap;

use mailqos_config::{
    edit::Edit,
    form::{self, Control, Field},
};
use serde_json::{Value, json};

use super::{
    draft::{ACCOUNTS, Draft, NEW, ObjectDraft},
    labels,
    problems::FieldProblem,
    scope::Scope,
    t, words,
};

/// Groups of fields that are always visible; all others are under "More settings".
const GROUPS: [(&str, &[&str]); 5] = [
    (t("Monitor"), &["name", "tags", "enabled"]),
    (
        t("Sending"),
        &["from", "smtp.protocol", "smtp.server", "smtp.port", "smtp.tls", "smtp.account"],
    ),
    (
        t("Mailbox"),
        &[
            "to",
            "pickup.protocol",
            "pickup.server",
            "pickup.port",
            "pickup.tls",
            "pickup.account",
            "folders",
        ],
    ),
    (t("Times"), &["max_round_trip", "check_interval", "test_interval"]),
    (t("Alarms"), &["alarm_after", "action_list"]),
];

/// Longest text in an empty field, in characters.
const MAX_PLACEHOLDER: usize = 24;

/// What the form of a monitor is made of.
pub(crate) struct FormParts<'a> {
    /// What was typed or is in the files.
    pub(crate) draft: &'a Draft,
    /// The files.
    pub(crate) edits: &'a [Edit],
    /// Names that the user may choose.
    pub(crate) scope: &'a Scope,
    /// Problems of the fields.
    pub(crate) problems: &'a [FieldProblem],
    /// Warnings about the fields.
    pub(crate) warnings: &'a [FieldProblem],
    /// Tag of the language.
    pub(crate) tag: &'a str,
}

/// Returns the element id of a field.
pub(crate) fn element(path: &str) -> String {
    format!("f-{}", path.replace('.', "-"))
}

/// Returns the value that applies if a field is empty, and where it comes from.
fn inherited(parts: &FormParts<'_>, field: &Field) -> Option<(String, String)> {
    let tag = parts.tag;
    let defaults = parts.edits.first().and_then(|main| main.document.get("defaults"));
    let defaults = defaults.and_then(|defaults| defaults.as_table_like());
    let shown = |text: &str| match field.control {
        Control::Switch | Control::Words(_) => labels::choice(tag, &field.path, text),
        _ => text.lines().collect::<Vec<_>>().join(", "),
    };
    if let Some(text) = defaults.and_then(|defaults| form::text(defaults, &field.path)) {
        let hidden = match field.control {
            Control::Reference(kind) => !parts.scope.names(kind).contains(text.as_str()),
            _ => false,
        };
        let text = if hidden { "…".to_owned() } else { shown(&text) };
        let from = words(tag, t("Default: {0}, from [defaults]"), &[&text]);
        return Some((text, from));
    }
    if let Some(text) = field.default().filter(|text| !text.is_empty()) {
        let text = shown(&text);
        let from = words(tag, t("Default: {0}"), &[&text]);
        return Some((text, from));
    }
    let otherwise = labels::otherwise(tag, field.key.otherwise?);
    let from = words(tag, t("Default: {0}"), &[&otherwise]);
    Some((otherwise, from))
}

fn option(value: &str, text: impl Into<String>, current: &str) -> Value {
    json!({"value": value, "text": text.into(), "is_on": value == current})
}

/// Returns the choices of a field; empty if it is typed.
fn options(parts: &FormParts<'_>, field: &Field, default: Option<&str>) -> Vec<Value> {
    let (tag, path) = (parts.tag, field.path.as_str());
    let current = parts.draft.value(path);
    let none = match default {
        Some(text) => words(tag, t("Default ({0})"), &[text]),
        None => "–".to_owned(),
    };
    let mut found = vec![option("", none, current)];
    match field.control {
        Control::Switch => {
            let both = ["true", "false"].iter();
            found.extend(both.map(|word| option(word, labels::choice(tag, path, word), current)));
        }
        Control::Words(all) => {
            found.extend(
                all.iter().map(|word| option(word, labels::choice(tag, path, word), current)),
            );
        }
        Control::Reference(kind) => {
            let names = parts.scope.names(kind).iter();
            found.extend(names.map(|name| option(name, name, current)));
            if kind == "action_list" {
                let text = words(tag, t("none: no one is notified"), &[]);
                found.push(option("none", text, current));
            }
            if ACCOUNTS.contains(&path) {
                let text = words(tag, t("New account …"), &[]);
                found.push(option(NEW, text, current));
            }
        }
        _ => return Vec::new(),
    }
    // A value that is not among the choices must not be lost when the form is sent.
    let is_known = found.iter().any(|option| option["is_on"] == true);
    if !is_known {
        found.push(option(current, current, current));
    }
    found
}

/// Returns a field.
fn field(parts: &FormParts<'_>, field: &Field) -> Value {
    let path = field.path.as_str();
    let inherited = inherited(parts, field);
    let (placeholder, from) = inherited.unwrap_or_default();
    let default = Some(placeholder.as_str()).filter(|text| !text.is_empty());
    let rows = match field.control {
        Control::List => 2,
        Control::LongText => 5,
        _ => 0,
    };
    let mut shown = plain(parts, path, parts.draft.value(path));
    let (hint, is_translated) = labels::description(parts.tag, field.key);
    let options = options(parts, field, default);
    // A choice names its default itself, and a long default would be cut in its field.
    let is_named = !options.is_empty() && !from.contains("[defaults]");
    let is_short = placeholder.chars().count() <= MAX_PLACEHOLDER;
    let more = json!({
        "placeholder": if is_short { placeholder.as_str() } else { "" },
        "inherited": if is_named { "" } else { from.as_str() },
        "rows": rows,
        "hint": hint,
        "hint_lang": if is_translated { "" } else { "en" },
        "options": options,
        "is_number": field.control == Control::Number,
        "is_list": field.control == Control::List,
    });
    merge(&mut shown, more);
    shown
}

fn merge(value: &mut Value, more: Value) {
    if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
        value.extend(more);
    }
}

/// Returns a field that is not a key of the monitor.
fn plain(parts: &FormParts<'_>, path: &str, typed: &str) -> Value {
    let of = |all: &[FieldProblem]| -> Vec<Value> {
        let own = all.iter().filter(|problem| problem.field == path);
        own.map(|problem| json!({"text": problem.text, "help": problem.help})).collect()
    };
    json!({
        "id": element(path), "name": path, "label": labels::label(parts.tag, path),
        "value": typed, "problems": of(parts.problems), "warnings": of(parts.warnings),
        "placeholder": "", "inherited": "", "rows": 0, "hint": "", "hint_lang": "",
        "options": [],
        "is_number": false, "is_list": false,
    })
}

/// Returns the groups of fields, those under "More settings", and the fields of a new account.
pub(crate) fn groups(parts: &FormParts<'_>) -> Value {
    let fields = form::monitor_fields(&parts.draft.kind);
    let mut groups = Vec::new();
    for (title, paths) in GROUPS {
        let own = paths.iter().filter_map(|path| fields.iter().find(|field| field.path == *path));
        let own: Vec<Value> = own.map(|found| field(parts, found)).collect();
        if !own.is_empty() {
            groups.push(json!({"title": words(parts.tag, title, &[]), "fields": own}));
        }
    }
    let is_main =
        |path: &str| path == "object" || GROUPS.iter().any(|(_, paths)| paths.contains(&path));
    let others = fields.iter().filter(|field| !is_main(&field.path));
    let more: Vec<Value> = others.clone().map(|found| field(parts, found)).collect();
    let is_wrong = |all: &[FieldProblem]| {
        all.iter().any(|problem| others.clone().any(|field| field.path == problem.field))
    };
    let account = parts.draft.account.as_ref();
    let name = account.map_or("", |account| &account.name);
    let user = account.map_or("", |account| &account.user);
    json!({
        "groups": groups,
        "more": more,
        "more_open": is_wrong(parts.problems) || is_wrong(parts.warnings),
        "account": {
            "is_open": account.is_some(),
            "fields": [plain(parts, "account.name", name), plain(parts, "account.user", user)],
            "password": plain(parts, "account.password", ""),
        },
    })
}

/// Returns the fields of an object.
pub(crate) fn object_fields(parts: &FormParts<'_>, object: &ObjectDraft, is_new: bool) -> Value {
    let mut all = Vec::new();
    if is_new {
        all.push(plain(parts, "object.id", &object.id));
    }
    for found in form::fields("object") {
        let path = format!("object.{}", found.path);
        let typed = object.values.get(&found.path).map_or("", String::as_str);
        let mut shown = plain(parts, &path, typed);
        let rows = if found.control == Control::List { 2 } else { 0 };
        let is_list = rows > 0;
        let (hint, is_translated) = labels::description(parts.tag, found.key);
        let hint_lang = if is_translated { "" } else { "en" };
        merge(
            &mut shown,
            json!({"hint": hint, "hint_lang": hint_lang, "rows": rows, "is_list": is_list}),
        );
        all.push(shown);
    }
    all.into()
}

/// Returns the field of a new monitor's id.
pub(crate) fn id_field(parts: &FormParts<'_>) -> Value {
    plain(parts, "id", &parts.draft.id)
}

/// Returns the problems for the summary at the top, with links to the fields.
pub(crate) fn summary(parts: &FormParts<'_>) -> Value {
    let line = |problem: &FieldProblem| {
        let label = match problem.field.as_str() {
            "" => String::new(),
            path => labels::label(parts.tag, path),
        };
        json!({
            "href": (!label.is_empty()).then(|| format!("#{}", element(&problem.field))),
            "label": label, "text": problem.text, "help": problem.help,
        })
    };
    parts.problems.iter().map(line).collect::<Vec<_>>().into()
}

/// Returns the fields in which what was typed differs from the files.
pub(crate) fn differences(parts: &FormParts<'_>, theirs: &Draft) -> Value {
    let fields = form::monitor_fields(&parts.draft.kind);
    differing((parts.tag, ""), &fields, (&parts.draft.values, &theirs.values))
}

/// Returns the fields of an object in which what was typed differs from the files.
pub(crate) fn object_differences(tag: &str, yours: &ObjectDraft, theirs: &ObjectDraft) -> Value {
    differing((tag, "object."), &form::fields("object"), (&yours.values, &theirs.values))
}

fn differing(
    (tag, before): (&str, &str),
    fields: &[Field],
    (yours, theirs): (&BTreeMap<String, String>, &BTreeMap<String, String>),
) -> Value {
    let value = |values: &BTreeMap<String, String>, path: &str| {
        values.get(path).cloned().unwrap_or_default()
    };
    let same = |text: &str| text.trim().lines().map(str::trim).collect::<Vec<_>>().join("\n");
    let differing = fields.iter().filter(|field| {
        let typed = yours.get(&field.path);
        typed.is_some_and(|typed| same(typed) != same(&value(theirs, &field.path)))
    });
    differing
        .map(|field| {
            let path = format!("{before}{}", field.path);
            json!({
                "label": labels::label(tag, &path), "href": format!("#{}", element(&path)),
                "theirs": value(theirs, &field.path), "yours": value(yours, &field.path),
            })
        })
        .collect::<Vec<_>>()
        .into()
}
