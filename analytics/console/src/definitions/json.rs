//! Definitions as JSON: the keys of the configuration with typed values, and back to
//! what a person would have typed into the form.

use std::collections::BTreeMap;

use mailqos_config::form::{Control, Field};
use serde_json::{Map, Value};

use super::problems::FieldProblem;

/// Deepest table in a definition.
const MAX_DEPTH: usize = 8;

/// Converts JSON into what would have been typed: texts by the paths of their fields. `null` is an
/// empty field, so that its default applies.
///
/// # Errors
/// Keys that don't exist, and values that have no field.
pub(crate) fn typed(
    json: &Map<String, Value>,
    fields: &[Field],
) -> Result<BTreeMap<String, String>, Vec<FieldProblem>> {
    let mut reading = Reading { fields, found: BTreeMap::new(), problems: Vec::new() };
    reading.table(json, "", 0);
    if reading.problems.is_empty() { Ok(reading.found) } else { Err(reading.problems) }
}

struct Reading<'a> {
    fields: &'a [Field],
    found: BTreeMap<String, String>,
    problems: Vec<FieldProblem>,
}

impl Reading<'_> {
    fn table(&mut self, json: &Map<String, Value>, before: &str, depth: usize) {
        for (key, value) in json {
            let path = format!("{before}{key}");
            if let Some(field) = self.fields.iter().find(|field| field.path == path) {
                match text(value, field.control) {
                    Some(text) => {
                        self.found.insert(path, text);
                    }
                    None => self.problem(&path, "This value has the wrong type."),
                }
                continue;
            }
            let inner = format!("{path}.");
            let is_table = self.fields.iter().any(|field| field.path.starts_with(&inner));
            match value {
                Value::Object(table) if is_table && depth < MAX_DEPTH => {
                    self.table(table, &inner, depth + 1);
                }
                Value::Null if is_table => {
                    let own = self.fields.iter().filter(|field| field.path.starts_with(&inner));
                    self.found.extend(own.map(|field| (field.path.clone(), String::new())));
                }
                _ if is_table => self.problem(&path, "This key is a table."),
                _ => self.problem(&path, "There is no key with this name, or it has no field."),
            }
        }
    }

    fn problem(&mut self, path: &str, text: &str) {
        self.problems.push(FieldProblem::new(path, text));
    }
}

/// Returns a value as it would be typed; `None` if that is not possible.
fn text(value: &Value, control: Control) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Array(items) if control == Control::List => {
            let lines = items.iter().map(|item| match item {
                Value::String(text) if !text.contains(['\n', '\r']) => Some(text.clone()),
                Value::Number(number) => Some(number.to_string()),
                _ => None,
            });
            Some(lines.collect::<Option<Vec<String>>>()?.join("\n"))
        }
        _ => None,
    }
}

/// Converts what is in the fields to JSON. Empty fields are omitted: their defaults apply.
pub(crate) fn of(values: &BTreeMap<String, String>, fields: &[Field]) -> Map<String, Value> {
    let mut root = Map::new();
    for field in fields {
        let Some(typed) = values.get(&field.path).filter(|text| !text.trim().is_empty()) else {
            continue;
        };
        let (tables, key) = match field.path.rsplit_once('.') {
            Some((tables, key)) => (tables, key),
            None => ("", field.path.as_str()),
        };
        let mut table = &mut root;
        for name in tables.split('.').filter(|name| !name.is_empty()) {
            let inner = table.entry(name.to_owned()).or_insert_with(|| Value::Object(Map::new()));
            match inner {
                Value::Object(inner) => table = inner,
                _ => return root,
            }
        }
        table.insert(key.to_owned(), value(typed, field.control));
    }
    root
}

fn value(typed: &str, control: Control) -> Value {
    let text = typed.trim();
    match control {
        Control::Number | Control::Decimal => match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(number), _) => number.into(),
            (_, Ok(number)) if number.is_finite() => number.into(),
            _ => text.into(),
        },
        Control::Switch if matches!(text, "true" | "false") => (text == "true").into(),
        Control::List => {
            text.lines().map(str::trim).filter(|line| !line.is_empty()).map(Value::from).collect()
        }
        Control::LongText => typed.into(),
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use mailqos_config::form;
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().cloned().expect("an object")
    }

    #[test]
    fn values_keep_their_types_and_come_back() {
        let fields = form::monitor_fields("mail-qos");
        let json = map(json!({
            "object": "mx", "tags": ["a", "b # c"], "enabled": false,
            "smtp": {"port": 465, "tls": "implicit"}, "max_round_trip": "30s",
            "message": {"body": "one\ntwo"},
        }));
        let found = typed(&json, &fields).expect("known keys");
        assert_eq!(found["smtp.port"], "465");
        assert_eq!(found["tags"], "a\nb # c");
        assert_eq!(found["enabled"], "false");
        assert_eq!(of(&found, &fields), json);
        let found = typed(&map(json!({"smtp": null, "tags": null})), &fields).expect("known keys");
        assert_eq!(found["smtp.port"], "");
        assert!(of(&found, &fields).is_empty());
    }

    #[test]
    fn unknown_keys_and_values_without_a_field_are_problems() {
        let fields = form::monitor_fields("mailbox");
        let wrong = typed(
            &map(json!({
                "object": {"id": "x"}, "nothing": 1, "from": "a@example.com", "pickup": "imap",
                "tags": [["x"]], "name": ["a"], "pickup.port": 1, "folders": ["a\nb"],
            })),
            &fields,
        );
        let mut wrong: Vec<String> =
            wrong.expect_err("problems").into_iter().map(|problem| problem.field).collect();
        wrong.sort();
        let all =
            ["folders", "from", "name", "nothing", "object", "pickup", "tags"].map(str::to_owned);
        assert_eq!(wrong, all);
    }
}
