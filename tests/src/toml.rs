//! TOML as JSON: what a JSON Schema is held against.

use toml_edit::{DocumentMut, Item, Value};

/// A TOML text as JSON.
///
/// # Panics
/// Where it is no TOML.
pub fn json(text: &str) -> serde_json::Value {
    fn value(any: &Value) -> serde_json::Value {
        match any {
            Value::String(text) => text.value().clone().into(),
            Value::Integer(number) => (*number.value()).into(),
            Value::Float(number) => (*number.value()).into(),
            Value::Boolean(is) => (*is.value()).into(),
            // Editors hand a date on as one, which is none of the types of JSON.
            Value::Datetime(_) => serde_json::Value::Null,
            Value::Array(items) => items.iter().map(value).collect(),
            Value::InlineTable(table) => {
                table.iter().map(|(key, inner)| (key.to_owned(), value(inner))).collect()
            }
        }
    }
    fn item(inner: &Item) -> serde_json::Value {
        match inner {
            Item::None => serde_json::Value::Null,
            Item::Value(inner) => value(inner),
            Item::Table(table) => {
                table.iter().map(|(key, inner)| (key.to_owned(), item(inner))).collect()
            }
            Item::ArrayOfTables(tables) => {
                tables.iter().map(|table| item(&Item::Table(table.clone()))).collect()
            }
        }
    }
    let document: DocumentMut = text.parse().expect("TOML");
    item(document.as_item())
}
