//! Fields of forms, derived from the declared keys of a table: a new key, or a new kind of test,
//! gets its field automatically. A field's text is converted to TOML as a person would write it;
//! whether it is valid is decided by the reader of the configuration alone.

use toml_edit::{Array, Document, InlineTable, Item, Table, TableLike, Value};

use crate::{
    kind,
    reference::{CONFIGURATION, Key, Shape, ValueKind},
    table::{british, other_number},
};

/// How a field is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// A line of text.
    Text,
    /// Several lines of text.
    LongText,
    /// A whole number.
    Number,
    /// A number with decimals.
    Decimal,
    /// Yes or no.
    Switch,
    /// One of these words.
    Words(&'static [&'static str]),
    /// Texts, one per line.
    List,
    /// The name of an entry of this kind, such as `account`.
    Reference(&'static str),
}

/// A field of a form.
#[derive(Debug, Clone)]
pub struct Field {
    /// Path of the key in the table, such as `smtp.port`.
    pub path: String,
    /// The key's declaration.
    pub key: &'static Key,
    /// How it is entered.
    pub control: Control,
}

impl Field {
    /// Returns the default from the program as it is typed; `None` if there is none.
    pub fn default(&self) -> Option<String> {
        let value = serde_json::from_str(self.key.default?).ok()?;
        Some(match value {
            serde_json::Value::String(text) => text,
            serde_json::Value::Array(items) => {
                let texts = items.iter().filter_map(|item| item.as_str());
                texts.collect::<Vec<_>>().join("\n")
            }
            other => other.to_string(),
        })
    }
}

fn shape(id: &str) -> Option<&'static Shape> {
    CONFIGURATION.tables.iter().find(|shape| shape.id == id)
}

/// Returns the names of the kinds of tests, the default first.
pub fn kinds() -> Vec<&'static str> {
    kind::KINDS.iter().map(|(name, _)| *name).collect()
}

/// Returns the fields of a monitor of this kind, in the order of their declaration; `kind` itself
/// is not one of them.
pub fn monitor_fields(kind: &str) -> Vec<Field> {
    let foreign = kind::foreign_keys(kind);
    let mut fields = fields("monitor");
    fields.retain(|field| {
        let first = field.path.split('.').next().unwrap_or_default();
        first != "kind" && !foreign.contains(&first)
    });
    fields
}

/// Returns the fields of a table, with those of the tables in it.
pub fn fields(id: &str) -> Vec<Field> {
    let mut found = Vec::new();
    collect(id, "", &mut found);
    found
}

fn collect(id: &str, before: &str, found: &mut Vec<Field>) {
    let Some(shape) = shape(id) else { return };
    for key in shape.keys() {
        let path = format!("{before}{}", key.name);
        match key.takes {
            ValueKind::Table([inner]) => collect(inner, &format!("{path}."), found),
            takes => {
                found.extend(control(key, takes).map(|control| Field { path, key, control }));
            }
        }
    }
}

/// Returns how a key is entered; `None` if that takes more than one field.
fn control(key: &Key, takes: ValueKind) -> Option<Control> {
    match key.name {
        "account" => return Some(Control::Reference("account")),
        "action_list" => return Some(Control::Reference("action_list")),
        "object" => return Some(Control::Reference("object")),
        "body" => return Some(Control::LongText),
        _ => {}
    }
    match takes {
        ValueKind::Words(words) => Some(Control::Words(words)),
        ValueKind::Type { schema, .. } => {
            let schema = schema();
            let kind =
                |schema: &serde_json::Value| schema["type"].as_str().unwrap_or_default().to_owned();
            let first = match &schema["anyOf"] {
                serde_json::Value::Array(shapes) => {
                    if shapes.iter().any(|shape| kind(shape) == "array") {
                        return Some(Control::List);
                    }
                    shapes.first().map(kind).unwrap_or_default()
                }
                _ => kind(&schema),
            };
            Some(match first.as_str() {
                "boolean" => Control::Switch,
                "integer" => Control::Number,
                "number" => Control::Decimal,
                _ => Control::Text,
            })
        }
        _ => None,
    }
}

/// Returns the key as it is spelled in a table: `color` for `colour`, `tag` for `tags`.
fn spelled<'a>(table: &'a dyn TableLike, key: &'a str) -> &'a str {
    if table.contains_key(key) {
        return key;
    }
    let other = other_number(key);
    let found = table.iter().map(|(name, _)| name);
    let mut found = found.filter(|name| british(name) == key || british(name) == other);
    found.next().unwrap_or(key)
}

/// Returns the value of a field as it is typed; `None` if the table does not set it, or sets it to
/// something that has no field.
pub fn text(table: &dyn TableLike, path: &str) -> Option<String> {
    match path.split_once('.') {
        Some((key, rest)) => text(table.get(key)?.as_table_like()?, rest),
        None => match table.get(spelled(table, path))? {
            Item::Value(value) => text_of(value),
            _ => None,
        },
    }
}

fn text_of(value: &Value) -> Option<String> {
    Some(match value {
        Value::String(text) => text.value().clone(),
        Value::Integer(number) => number.value().to_string(),
        Value::Float(number) => number.value().to_string(),
        Value::Boolean(value) => value.value().to_string(),
        Value::Datetime(moment) => moment.value().to_string(),
        Value::Array(items) => {
            let texts: Option<Vec<String>> = items.iter().map(text_of).collect();
            texts?.join("\n")
        }
        Value::InlineTable(_) => return None,
    })
}

/// Converts what was typed into a value. What is not a number stays a text, so that the reader
/// reports it.
fn value_of(control: Control, typed: &str) -> Value {
    let text = typed.trim();
    match control {
        Control::Number => text.parse::<i64>().map_or_else(|_| text.into(), Value::from),
        Control::Decimal => match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(number), _) => number.into(),
            (_, Ok(number)) => number.into(),
            _ => text.into(),
        },
        Control::Switch => match text {
            "true" => true.into(),
            "false" => false.into(),
            other => other.into(),
        },
        Control::List => {
            let lines = typed.lines().map(str::trim).filter(|line| !line.is_empty());
            Value::Array(lines.collect::<Array>())
        }
        // Line breaks in the middle of a text belong to it.
        Control::LongText => typed.trim_end().replace("\r\n", "\n").into(),
        Control::Text | Control::Words(_) | Control::Reference(_) => text.into(),
    }
}

/// Sets a field to what was typed; nothing typed removes the key, so that its default applies. A
/// value that has not changed stays as it is written, with its comment.
pub fn set(table: &mut dyn TableLike, field: &Field, typed: &str) {
    set_at(table, &field.path, field.control, typed);
}

fn set_at(table: &mut dyn TableLike, path: &str, control: Control, typed: &str) {
    if let Some((key, rest)) = path.split_once('.') {
        if !table.contains_key(key) {
            if typed.trim().is_empty() {
                return;
            }
            table.insert(key, Item::Value(Value::InlineTable(InlineTable::new())));
        }
        if let Some(inner) = table.get_mut(key).and_then(Item::as_table_like_mut) {
            set_at(inner, rest, control, typed);
        }
        return;
    }
    let key = spelled(table, path).to_owned();
    if typed.trim().is_empty() {
        let has_field =
            table.get(&key).and_then(Item::as_value).is_some_and(|value| text_of(value).is_some());
        if has_field {
            table.remove(&key);
        }
        return;
    }
    let mut new = value_of(control, typed);
    match table.get_mut(&key) {
        Some(Item::Value(old)) => {
            let is_same = text_of(old).map(|old| plain(control, &old))
                == text_of(&new).map(|new| plain(control, &new));
            if !is_same {
                *new.decor_mut() = old.decor().clone();
                *old = new;
            }
        }
        Some(Item::None) | None => {
            table.insert(&key, Item::Value(new));
        }
        // Something without a field, such as a table, is left alone.
        Some(_) => {}
    }
}

fn plain(control: Control, text: &str) -> String {
    match control {
        Control::List => text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect::<Vec<_>>()
            .join("\n"),
        _ => text.trim().to_owned(),
    }
}

/// Creates an empty table for each of these keys that is a table and absent, so that their defaults
/// apply.
pub fn open(table: &mut Table, keys: &[&str]) {
    for key in keys {
        if !table.contains_key(key) {
            table.insert(key, Item::Value(Value::InlineTable(InlineTable::new())));
        }
    }
}

/// Returns the path within `[kind.name]` of the value at a position of a text: `smtp.port`, or `""`
/// for the head of the table; `None` if the position is elsewhere.
pub fn locate(text: &str, (kind, name): (&str, &str), at: usize) -> Option<String> {
    let document = Document::parse(text).ok()?;
    let kinds = document.get(kind)?.as_table_like()?;
    let item = kinds.get(name)?;
    if let Some(path) = locate_in(item, "", at) {
        return Some(path);
    }
    let holds = |span: Option<std::ops::Range<usize>>| span.is_some_and(|span| span.contains(&at));
    let is_head = holds(kinds.key(name).and_then(toml_edit::Key::span)) || holds(item.span());
    is_head.then(String::new)
}

fn locate_in(item: &Item, before: &str, at: usize) -> Option<String> {
    let table = item.as_table_like()?;
    for (name, inner) in table.iter() {
        let path = format!("{before}{name}");
        if let Some(found) = locate_in(inner, &format!("{path}."), at) {
            return Some(found);
        }
        let spans = [inner.span(), table.key(name).and_then(toml_edit::Key::span)];
        if spans.into_iter().flatten().any(|span| span.contains(&at)) {
            return Some(path);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use toml_edit::DocumentMut;

    use super::*;

    fn field(path: &str) -> Field {
        let found = fields("monitor").into_iter().find(|field| field.path == path);
        found.unwrap_or_else(|| panic!("no field {path}"))
    }

    #[test]
    fn fields_come_from_the_declared_keys() {
        for (path, control) in [
            ("name", Control::Text),
            ("object", Control::Reference("object")),
            ("enabled", Control::Switch),
            ("smtp.port", Control::Number),
            ("smtp.tls", Control::Words(&["none", "starttls", "implicit"])),
            ("smtp.account", Control::Reference("account")),
            ("pickup.protocol", Control::Words(&["pop3", "imap", "graph"])),
            ("folders", Control::List),
            ("check_interval", Control::Text),
            ("message.body", Control::LongText),
            ("alarm.clear_after", Control::Number),
            ("action_list", Control::Reference("action_list")),
            ("tags", Control::List),
        ] {
            assert_eq!(field(path).control, control, "{path}");
        }
        assert_eq!(field("check_interval").default().as_deref(), Some("5s"));
        assert_eq!(field("folders").default().as_deref(), Some("INBOX"));
        let mailbox: Vec<String> =
            monitor_fields("mailbox").into_iter().map(|field| field.path).collect();
        assert!(mailbox.contains(&"pickup.account".to_owned()), "{mailbox:?}");
        for foreign in ["from", "smtp.port", "check_interval", "message.size"] {
            assert!(!mailbox.contains(&foreign.to_owned()), "{foreign}");
        }
    }

    #[test]
    fn unchanged_values_and_comments_stay_as_they_are_written() {
        let text = "# Ours.\nobject = \"a\"\ntag = ['x'] # of the customer\nsmtp = { port = 0x19, tls = \"none\" } # old\nmessage = { headers = { X-A = \"b\" } }\n[alarm]\nclear_after = 2 # patient\n";
        let mut document: DocumentMut = text.parse().expect("TOML");
        let table: &mut dyn TableLike = document.as_table_mut();
        for field in fields("monitor") {
            let typed = super::text(table, &field.path).unwrap_or_default();
            set(table, &field, &typed);
        }
        assert_eq!(document.to_string(), text);
        let table: &mut dyn TableLike = document.as_table_mut();
        set(table, &field("tags"), "x\r\ny # z\r\n\r\n");
        set(table, &field("smtp.port"), "587");
        set(table, &field("smtp.tls"), "");
        set(table, &field("pickup.account"), "it's");
        set(table, &field("alarm.clear_after"), "many");
        let new = document.to_string();
        assert!(new.contains("tag = [\"x\", \"y # z\"] # of the customer"), "{new}");
        assert!(new.contains("port = 587") && !new.contains("tls"), "{new}");
        assert!(new.contains("pickup = { account = \"it's\" }"), "{new}");
        assert!(new.contains("clear_after = \"many\" # patient"), "{new}");
        assert!(new.contains("# Ours.") && new.contains("X-A"), "{new}");
    }

    #[test]
    fn positions_lead_to_fields() {
        let text = "site = \"x\"\n[monitor.\"a b\"]\nsmtp = { port = 99 }\nfrom = \"x\"\n[monitor.\"a b\".alarm]\nafter_time = \"1\"\n[monitor.c]\nfrom = \"y\"\n";
        let at = |part: &str| text.find(part).expect("a part");
        let path = |at: usize| locate(text, ("monitor", "a b"), at);
        assert_eq!(path(at("99")).as_deref(), Some("smtp.port"));
        assert_eq!(path(at("\"x\"\n[monitor.\"a b\".")).as_deref(), Some("from"));
        assert_eq!(path(at("\"1\"")).as_deref(), Some("alarm.after_time"));
        assert_eq!(path(at("\"a b\"]")).as_deref(), Some(""));
        assert_eq!(path(at("\"y\"")), None);
        assert_eq!(path(at("site")), None);
    }

    proptest! {
        #[test]
        fn any_text_is_kept(typed in "[^\r]{0,60}") {
            let mut document = DocumentMut::new();
            for path in ["name", "message.body", "smtp.account", "folders", "smtp.port"] {
                let field = field(path);
                set(document.as_table_mut(), &field, &typed);
                let written = document.to_string();
                let read: DocumentMut = written.parse().expect("valid TOML");
                let found = super::text(read.as_table(), path).unwrap_or_default();
                prop_assert_eq!(plain(field.control, &found), plain(field.control, &super::text(document.as_table(), path).unwrap_or_default()));
                if path == "name" {
                    prop_assert_eq!(found, typed.trim());
                }
            }
        }
    }
}
