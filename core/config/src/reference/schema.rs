//! The reference as a JSON Schema (draft 7, which TOML editors support best).

use serde_json::{Map, Value as Json, json};

use super::{Key, Reference, Shape, ValueKind};
use crate::{from_toml::NAME, table::other_number, value::SecretKeys};

/// Returns the schema of the files described by the table `file` of the reference.
pub fn schema(reference: &Reference, file: &str) -> Json {
    let (root, tables): (Vec<&Shape>, Vec<&Shape>) =
        reference.tables.iter().partition(|shape| shape.id == file);
    let mut definitions: Map<String, Json> =
        tables.iter().map(|shape| (shape.id.to_owned(), table(shape))).collect();
    definitions.insert("secret".to_owned(), secret());
    let mut schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": reference.title,
    });
    if let (Some(schema), Some(Json::Object(file))) =
        (schema.as_object_mut(), root.first().map(|shape| table(shape)))
    {
        schema.extend(file);
        schema.insert("definitions".to_owned(), Json::Object(definitions));
    }
    schema
}

fn table(shape: &Shape) -> Json {
    let mut schema = properties(shape.keys());
    schema["description"] = json!(shape.about);
    // The key of a list may be singular or plural.
    let is_required = |key: &&Key| key.required && !key.takes.is_list();
    let required: Vec<&str> = shape.keys().filter(is_required).map(|key| key.name).collect();
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// Returns the schema of an object with these keys, with those of lists in singular and plural.
fn properties(keys: impl Iterator<Item = &'static Key> + Clone) -> Json {
    let mut properties: Map<String, Json> =
        keys.clone().map(|key| (key.name.to_owned(), property(key))).collect();
    for key in keys.filter(|key| key.takes.is_list()) {
        let mut same = property(key);
        same["description"] = json!(format!("The same as `{}`.", key.name));
        properties.entry(other_number(key.name)).or_insert(same);
    }
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

fn property(key: &Key) -> Json {
    let mut schema = takes(&key.takes);
    // Draft 7 ignores everything else next to a reference.
    if schema.get("$ref").is_some() {
        schema = json!({ "allOf": [schema] });
    }
    schema["description"] = json!(match key.otherwise {
        Some(words) => format!("{} Default: {words}.", key.meaning()),
        None => key.meaning(),
    });
    if let Some(default) = key.default.and_then(|text| serde_json::from_str::<Json>(text).ok()) {
        schema["default"] = default;
    }
    schema
}

fn takes(value: &ValueKind) -> Json {
    match value {
        ValueKind::Type { schema, .. } => schema(),
        ValueKind::Words(words) => one_word(words),
        ValueKind::SomeOf(words) => {
            let word = one_word(words);
            json!({ "anyOf": [word, { "type": "array", "items": word }] })
        }
        // Plaintext, if `allow_plaintext_secrets` permits it.
        ValueKind::Secret | ValueKind::TextOrSecret => {
            json!({ "anyOf": [{ "$ref": "#/definitions/secret" }, { "type": ["string", "integer"] }] })
        }
        ValueKind::Table(ids) => one_of(ids),
        ValueKind::NameOrTable(ids) => json!({ "anyOf": [{ "type": "string" }, one_of(ids)] }),
        ValueKind::NamesOrTables(ids) => {
            let item = json!({ "anyOf": [{ "type": "string", "pattern": NAME }, one_of(ids)] });
            json!({ "anyOf": [item, { "type": "array", "items": item }] })
        }
        ValueKind::Tables(ids) => {
            json!({ "anyOf": [{ "type": "array", "items": one_of(ids) }, one_of(ids)] })
        }
        ValueKind::Named(ids) => {
            json!({ "type": "object", "patternProperties": { NAME: one_of(ids) }, "additionalProperties": false })
        }
        ValueKind::Pairs(inner) => {
            json!({ "type": "object", "additionalProperties": takes(inner) })
        }
    }
}

/// Returns the schema of a choice of words. The reader ignores case and accepts `_` for `-`.
fn one_word(words: &[&str]) -> Json {
    let word = |word: &&str| -> String {
        let letter = |c: char| match c {
            '-' | '_' | ' ' => "[-_ ]".to_owned(),
            c if c.is_ascii_alphabetic() => {
                format!("[{}{}]", c.to_ascii_uppercase(), c.to_ascii_lowercase())
            }
            c if c.is_ascii_alphanumeric() => c.to_string(),
            c => format!("\\{c}"),
        };
        word.chars().map(letter).collect()
    };
    let patterns: Vec<String> = words.iter().map(word).collect();
    json!({ "anyOf": [{ "type": "string", "enum": words }, { "type": "string", "pattern": format!("^({})$", patterns.join("|")) }] })
}

fn one_of(ids: &[&str]) -> Json {
    let references: Vec<Json> =
        ids.iter().map(|id| json!({ "$ref": format!("#/definitions/{id}") })).collect();
    match references.as_slice() {
        [only] => only.clone(),
        _ => json!({ "anyOf": references }),
    }
}

/// Returns the schema of a secret's source, of which exactly one is allowed.
fn secret() -> Json {
    let mut schema = properties(SecretKeys::KEYS.iter());
    schema["description"] = json!("The source of a secret.");
    schema["minProperties"] = json!(1);
    schema["maxProperties"] = json!(1);
    schema
}
