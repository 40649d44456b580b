//! Converts TOML to JSON, for validation against a JSON Schema.

use toml_edit::{DocumentMut, Item, Value};

/// Returns a TOML text as JSON.
///
/// # Panics
/// The text is not valid TOML.
pub fn json(text: &str) -> serde_json::Value {
    fn value(any: &Value) -> serde_json::Value {
        match any {
            Value::String(text) => text.value().clone().into(),
            Value::Integer(number) => (*number.value()).into(),
            Value::Float(number) => (*number.value()).into(),
            Value::Boolean(is) => (*is.value()).into(),
            // Editors pass dates on as dates, which is not a JSON type.
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
