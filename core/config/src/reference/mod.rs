//! References of TOML files: every table with its keys. The page `docs/configuration.md` and the
//! JSON Schema for editors are generated from them. Keys are declared where they are read; the
//! reference of reports is in the reports crate.

mod markdown;
mod schema;
mod tables;

use serde_json::Value as Json;

pub use markdown::markdown;
pub use schema::schema;
pub use tables::CONFIGURATION;

use super::FromToml;

/// The tables and keys allowed in a kind of file.
#[derive(Debug, Clone, Copy)]
pub struct Reference {
    /// Title of the kind of file.
    pub title: &'static str,
    /// The tables, with those of whole files first.
    pub tables: &'static [Shape],
}

/// The keys of a table.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Name by which other tables refer to it.
    pub id: &'static str,
    /// Heading of the table in the file, such as `[monitor.NAME.smtp]`.
    pub head: &'static str,
    /// Purpose of the table.
    pub about: &'static str,
    /// Keys of the table, in several lists so that tables can share some.
    pub keys: &'static [&'static [Key]],
}

/// A key of a table.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Name of the key.
    pub name: &'static str,
    /// Values that the key accepts.
    pub takes: ValueKind,
    /// Whether the key must be set.
    pub required: bool,
    /// The default, as TOML that is also valid JSON.
    pub default: Option<&'static str>,
    /// The default in words, if it is not a constant.
    pub otherwise: Option<&'static str>,
    /// The smallest and the largest valid value, as written in the file.
    pub bounds: Option<(&'static str, &'static str)>,
    /// Description of the key.
    pub about: &'static str,
}

/// Values that a key accepts.
#[derive(Debug, Clone, Copy)]
pub enum ValueKind {
    /// A type that implements [`FromToml`].
    Type {
        /// Description in words.
        expected: fn() -> String,
        /// JSON Schema.
        schema: fn() -> Json,
    },
    /// One of these words.
    Words(&'static [&'static str]),
    /// A list of these words, or one of them.
    SomeOf(&'static [&'static str]),
    /// The source of a secret.
    Secret,
    /// A text, or a source of a secret.
    TextOrSecret,
    /// One of these tables.
    Table(&'static [&'static str]),
    /// The name of a separate file, or a table of one of these kinds.
    NameOrTable(&'static [&'static str]),
    /// Names or one of these tables, as an array or a single value.
    NamesOrTables(&'static [&'static str]),
    /// An array of one of these tables, or a single table.
    Tables(&'static [&'static str]),
    /// A table of named tables of one of these kinds.
    Named(&'static [&'static str]),
    /// A table with free keys and this kind of values.
    Pairs(&'static ValueKind),
}

impl ValueKind {
    /// Returns the values that a type accepts.
    pub const fn of<T: FromToml>() -> Self {
        Self::Type { expected: T::expected, schema: T::schema }
    }

    /// Returns whether the value is a list, whose key may be singular or plural.
    pub fn is_list(&self) -> bool {
        match self {
            Self::SomeOf(_) | Self::NamesOrTables(_) | Self::Tables(_) | Self::Named(_) => true,
            Self::Type { schema, .. } => {
                let schema = schema();
                let shapes = schema["anyOf"].as_array().cloned().unwrap_or_default();
                shapes.iter().any(|shape| shape["type"] == "array")
            }
            Self::Words(_)
            | Self::Secret
            | Self::TextOrSecret
            | Self::Table(_)
            | Self::NameOrTable(_)
            | Self::Pairs(_) => false,
        }
    }

    /// Describes the accepted values in words.
    pub fn words(&self) -> String {
        let list = |words: &[&str]| {
            let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
            quoted.join(", ")
        };
        match self {
            Self::Type { expected, .. } => expected(),
            Self::Words(words) => list(words),
            Self::SomeOf(words) => format!("one or more of {}", list(words)),
            Self::Secret => "a secret".to_owned(),
            Self::TextOrSecret => "a quoted string, or a secret".to_owned(),
            Self::Table(_) => "a table".to_owned(),
            Self::NameOrTable(_) => "a name, or a table".to_owned(),
            Self::NamesOrTables(_) => "names, or an array of tables".to_owned(),
            Self::Tables(_) => "an array of tables".to_owned(),
            Self::Named(_) => "tables, each with a name".to_owned(),
            Self::Pairs(takes) => format!("a table of names, each with {}", takes.words()),
        }
    }
}

impl Key {
    /// Declares an optional key.
    pub const fn new(name: &'static str, takes: ValueKind, about: &'static str) -> Self {
        Self { name, takes, required: false, default: None, otherwise: None, bounds: None, about }
    }

    /// Declares a table of one of these kinds.
    pub const fn table(ids: &'static [&'static str]) -> Self {
        Self::new("", ValueKind::Table(ids), "")
    }

    /// Declares an array of tables of one of these kinds.
    pub const fn tables(ids: &'static [&'static str]) -> Self {
        Self::new("", ValueKind::Tables(ids), "")
    }

    /// Declares a table of named tables of one of these kinds.
    pub const fn named_tables(ids: &'static [&'static str]) -> Self {
        Self::new("", ValueKind::Named(ids), "")
    }

    /// Declares a source of a secret.
    pub const fn secret() -> Self {
        Self::new("", ValueKind::Secret, "")
    }

    /// Declares a text, or a source of a secret.
    pub const fn text_or_secret() -> Self {
        Self::new("", ValueKind::TextOrSecret, "")
    }

    /// Declares a table with free keys.
    pub const fn pairs(takes: &'static ValueKind) -> Self {
        Self::new("", ValueKind::Pairs(takes), "")
    }

    /// Adds the name and the description.
    #[must_use]
    pub const fn named(self, name: &'static str, about: &'static str) -> Self {
        Self { name, about, ..self }
    }

    /// Returns the declaration itself, as for a typed key.
    pub const fn untyped(self) -> Self {
        self
    }

    /// Returns the purpose of the key as the end of a sentence: the first sentence of the
    /// description.
    pub fn why(&self) -> String {
        let about = self.about.trim();
        let end = about.find(". ").unwrap_or(about.len());
        let sentence = about[..end].trim_end_matches('.');
        let mut letters = sentence.chars();
        let first = letters.next().map(|letter| letter.to_lowercase().to_string());
        format!("{}{}", first.unwrap_or_default(), letters.as_str())
    }

    /// Returns the description with the bounds.
    pub fn meaning(&self) -> String {
        let about = self.about.trim();
        match self.bounds {
            Some((least, "")) => format!("{about} At least {least}."),
            Some((least, most)) => format!("{about} From {least} to {most}."),
            None => about.to_owned(),
        }
    }

    /// Marks the key as required.
    #[must_use]
    pub const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    /// Sets the default, as TOML that is also valid JSON.
    #[must_use]
    pub const fn default(self, value: &'static str) -> Self {
        Self { default: Some(value), ..self }
    }

    /// Sets the default in words.
    #[must_use]
    pub const fn otherwise(self, words: &'static str) -> Self {
        Self { otherwise: Some(words), ..self }
    }
}

impl Shape {
    /// Iterates over all keys.
    pub fn keys(&self) -> impl Iterator<Item = &'static Key> + Clone {
        self.keys.iter().flat_map(|keys| keys.iter())
    }
}
