//! Conversion of TOML values. Readers are lenient if the meaning is clear: a number in quotes, a
//! number for a string, a single element for an array, and truth values as words.

use std::path::PathBuf;

use mailqos_model::{AccountName, Micros, MonitorId, Name, ObjectId, SiteName};
use serde_json::{Value as Json, json};

use super::table::{Data, Node};

/// A type that can be read from a TOML value.
pub trait FromToml: Sized {
    /// Whether it is a list, whose key may be singular or plural.
    const IS_LIST: bool = false;

    /// Describes the expected value for messages and the reference:
    /// `"a whole number from 1 to 65535"`.
    fn expected() -> String;

    /// Returns the JSON Schema of the type. It may be more permissive than the reader but never
    /// stricter, so that editors show no false errors.
    fn schema() -> Json {
        json!({ "type": "string" })
    }

    /// Reads the value.
    ///
    /// # Errors
    /// Describes the problem without its location; an empty text stands for a wrong type.
    fn from_toml(node: &Node) -> Result<Self, String>;

    /// Returns the value as text if it is out of bounds. The bounds are written as in the file; an
    /// empty upper bound means none.
    fn out_of_bounds(&self, _least: &str, _most: &str) -> Option<String> {
        None
    }
}

/// Returns whether a value is out of bounds, which are parsed in the same way.
fn is_outside<T: std::str::FromStr + PartialOrd>(value: &T, least: &str, most: &str) -> bool {
    least.parse().is_ok_and(|least| *value < least) || most.parse().is_ok_and(|most| *value > most)
}

impl FromToml for String {
    fn expected() -> String {
        "a quoted string".into()
    }
    fn from_toml(node: &Node) -> Result<Self, String> {
        match &node.data {
            Data::Text(text) => Ok(text.clone()),
            // `on = 1`, `user = 4711`.
            Data::Integer(number) => Ok(number.to_string()),
            _ => Err(String::new()),
        }
    }
    fn schema() -> Json {
        json!({ "type": ["string", "integer"] })
    }
}

impl FromToml for bool {
    fn expected() -> String {
        "true or false".into()
    }
    fn schema() -> Json {
        json!({ "anyOf": [{ "type": "boolean" }, { "type": "string", "enum": ["true", "false", "yes", "no", "on", "off"] }] })
    }
    fn from_toml(node: &Node) -> Result<Self, String> {
        match node.data {
            Data::Boolean(value) => Ok(value),
            Data::Text(ref text) => match text.trim().to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" => Ok(true),
                "false" | "no" | "off" => Ok(false),
                _ => Err(format!("{text:?} is neither true nor false")),
            },
            Data::Integer(number @ (0 | 1)) => {
                Err(format!("{number} is neither true nor false; did you mean {}?", number == 1))
            }
            _ => Err(String::new()),
        }
    }
}

impl FromToml for f64 {
    fn expected() -> String {
        "a number".into()
    }
    fn schema() -> Json {
        json!({ "anyOf": [{ "type": "number" }, { "type": "string", "pattern": r"^\s*[-+]?[0-9.]+([eE][-+]?[0-9]+)?\s*$" }] })
    }
    fn out_of_bounds(&self, least: &str, most: &str) -> Option<String> {
        is_outside(self, least, most).then(|| self.to_string())
    }
    fn from_toml(node: &Node) -> Result<Self, String> {
        match node.data {
            Data::Float(value) if value.is_finite() => Ok(value),
            Data::Integer(value) => Ok(value as f64),
            Data::Text(ref text) => {
                let number = text.trim().parse::<f64>().ok().filter(|value| value.is_finite());
                number.ok_or_else(|| format!("{text:?} is not a number"))
            }
            _ => Err(String::new()),
        }
    }
}

macro_rules! integer {
    ($($type:ty),+) => {$(
        impl FromToml for $type {
            fn expected() -> String {
                format!("a whole number from {} to {}", <$type>::MIN, <$type>::MAX)
            }
            fn schema() -> Json {
                json!({ "anyOf": [
                    { "type": "integer", "minimum": <$type>::MIN, "maximum": <$type>::MAX },
                    { "type": "string", "pattern": r"^\s*[-+]?[0-9]+\s*$" },
                ] })
            }
            fn from_toml(node: &Node) -> Result<Self, String> {
                match node.data {
                    Data::Integer(value) => Self::try_from(value)
                        .map_err(|_| format!("{value} is not {}", Self::expected())),
                    // `port = "587"`.
                    Data::Text(ref text) => text
                        .trim()
                        .parse()
                        .map_err(|_| format!("{text:?} is not {}", Self::expected())),
                    _ => Err(String::new()),
                }
            }
            fn out_of_bounds(&self, least: &str, most: &str) -> Option<String> {
                is_outside(self, least, most).then(|| self.to_string())
            }
        }
    )+};
}
integer!(u16, u32, i64);

/// Pattern for names.
pub(super) const NAME: &str = "^[a-z0-9._-]{1,64}$";

macro_rules! parsed {
    ($($type:ty => $expected:literal, $pattern:expr);+ $(;)?) => {$(
        impl FromToml for $type {
            fn expected() -> String {
                $expected.into()
            }
            fn schema() -> Json {
                json!({ "type": "string", "pattern": $pattern })
            }
            fn from_toml(node: &Node) -> Result<Self, String> {
                match &node.data {
                    Data::Text(text) => text.trim().parse().map_err(|error| format!("{error}")),
                    _ => Err(String::new()),
                }
            }
        }
    )+};
}
parsed!(
    MonitorId => "a monitor's id", NAME;
    ObjectId => "an object's id", NAME;
    AccountName => "an account's name", NAME;
    SiteName => "a site's name", NAME;
    Name => "a name", NAME;
    crate::Person => "an e-mail address, such as \"anna@example.com\" or \"Anna Berg <anna@example.com>\"", ".*@.*";
);

impl FromToml for Micros {
    fn expected() -> String {
        "a duration in quotes, such as \"30s\", \"5m\" or \"1h30m\"".into()
    }
    fn schema() -> Json {
        json!({ "type": "string", "pattern": r"^\s*([0-9.]+\s*[A-Za-zµ]+\s*)+$" })
    }
    fn out_of_bounds(&self, least: &str, most: &str) -> Option<String> {
        is_outside(self, least, most).then(|| format!("\"{self}\""))
    }
    fn from_toml(node: &Node) -> Result<Self, String> {
        let without_unit = |number: &str| {
            format!(
                "{number} has no unit: write \"{number}s\" for seconds, \"{number}m\" for minutes or \"{number}d\" for days"
            )
        };
        match &node.data {
            Data::Integer(number) if *number >= 0 => Err(without_unit(&number.to_string())),
            Data::Text(text) => text.trim().parse().map_err(|error| {
                let plain = text.trim();
                if !plain.is_empty() && plain.bytes().all(|byte| byte.is_ascii_digit()) {
                    return without_unit(plain);
                }
                // `1,5s`
                let with_point = plain.replace(',', ".");
                match with_point.parse::<Self>() {
                    Ok(_) if with_point != plain => {
                        format!("{text:?} is not a duration; did you mean {with_point:?}?")
                    }
                    _ => format!("{error}"),
                }
            }),
            _ => Err(String::new()),
        }
    }
}

/// A date, a time or both as written, in quotes or as a TOML value.
pub struct DateText(pub String);

impl FromToml for DateText {
    fn expected() -> String {
        "a date or time".into()
    }
    fn schema() -> Json {
        // TOML dates have no JSON type; editors have a separate type for them.
        json!({ "anyOf": [
            { "type": "string" },
            { "not": { "type": ["string", "number", "boolean", "array", "object"] } },
        ] })
    }
    fn from_toml(node: &Node) -> Result<Self, String> {
        match &node.data {
            Data::Text(text) | Data::Datetime(text) => Ok(Self(text.trim().to_owned())),
            _ => Err(String::new()),
        }
    }
}

impl FromToml for jiff::civil::Date {
    fn expected() -> String {
        "a date such as \"2026-03-31\"".into()
    }
    fn schema() -> Json {
        DateText::schema()
    }
    fn from_toml(node: &Node) -> Result<Self, String> {
        DateText::from_toml(node)?.0.parse().map_err(|error| format!("{error}"))
    }
}

impl FromToml for jiff::tz::TimeZone {
    fn expected() -> String {
        "the IANA name of a time zone, such as \"Europe/Berlin\" or \"UTC\"".into()
    }
    fn from_toml(node: &Node) -> Result<Self, String> {
        match &node.data {
            Data::Text(name) => mailqos_base::zones::get(name)
                .map_err(|_| format!("{name:?} is not {}", Self::expected())),
            _ => Err(String::new()),
        }
    }
}

/// Relative paths refer to the folder of the configuration file that contains them.
impl FromToml for PathBuf {
    fn expected() -> String {
        "a path in quotes".into()
    }
    fn schema() -> Json {
        json!({ "type": "string", "minLength": 1 })
    }
    fn from_toml(node: &Node) -> Result<Self, String> {
        match &node.data {
            Data::Text(text) if text.trim().is_empty() => Err("the path is empty".into()),
            Data::Text(text) => match not_a_path(text) {
                Some(reason) => Err(reason),
                None => Ok(node.folder().join(text)),
            },
            _ => Err(String::new()),
        }
    }
}

/// Returns why a text is not a valid path; `None` if it may be one.
pub(super) fn not_a_path(text: &str) -> Option<String> {
    if text == "~" || text.starts_with("~/") {
        return Some(format!(
            "{text:?} begins with ~, which only shells expand; write the full path"
        ));
    }
    let (scheme, rest) = text.split_once("://")?;
    Some(match scheme {
        "file" => format!(
            "{text:?} is a URL, not a path; write {:?}",
            format!("/{}", rest.trim_start_matches('/'))
        ),
        _ => format!("{text:?} is a URL, not a path"),
    })
}

/// A single value or an array.
impl<T: FromToml> FromToml for Vec<T> {
    const IS_LIST: bool = true;

    fn expected() -> String {
        format!("{}, or an array of these", T::expected())
    }
    fn schema() -> Json {
        json!({ "anyOf": [T::schema(), { "type": "array", "items": T::schema() }] })
    }
    fn from_toml(node: &Node) -> Result<Self, String> {
        match &node.data {
            Data::Array(items) => items.iter().map(T::from_toml).collect(),
            _ => Ok(vec![T::from_toml(node)?]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        Problems, parse,
        reference::{Key, ValueKind},
    };

    fn named(name: &'static str) -> Key {
        Key::new(name, ValueKind::of::<String>(), "")
    }

    fn read<T: super::FromToml>(value: &str) -> Option<T> {
        let mut problems = Problems::default();
        let text = format!("x = {value}\n");
        let mut table = parse("x.toml".as_ref(), text, &mut problems).expect("TOML");
        table.get(&named("x"), &mut problems)
    }

    #[test]
    fn lenient_notations_are_accepted() {
        assert_eq!(read::<u16>("\"587\""), Some(587));
        assert_eq!(read::<u16>("587"), Some(587));
        assert_eq!(read::<u16>("\"587 \""), Some(587));
        assert_eq!(read::<u16>("\"x\""), None);
        assert_eq!(read::<u16>("\"70000\""), None);
        assert_eq!(read::<f64>("\"0.5\""), Some(0.5));
        assert_eq!(read::<f64>("\"nan\""), None);
        assert_eq!(read::<String>("1"), Some("1".to_owned()));
        assert_eq!(read::<String>("2026-03-31"), None);
        let date = |text: &str| read::<super::DateText>(text).map(|date| date.0);
        assert_eq!(date("2026-03-31"), Some("2026-03-31".to_owned()));
        assert_eq!(date("07:00:00"), Some("07:00:00".to_owned()));
        assert_eq!(read::<String>("true"), None);
        for (text, value) in [
            ("\"yes\"", true),
            ("\"off\"", false),
            ("\"Yes\"", true),
            ("\"FALSE\"", false),
            ("\"true\"", true),
            ("false", false),
        ] {
            assert_eq!(read::<bool>(text), Some(value), "{text}");
        }
        assert_eq!(read::<bool>("\"maybe\""), None);
        assert_eq!(read::<bool>("1"), None);
        assert_eq!(read::<Vec<String>>("\"a\""), Some(vec!["a".to_owned()]));
        assert_eq!(read::<Vec<u16>>("[1, \"2\"]"), Some(vec![1, 2]));
        assert_eq!(
            read::<jiff::civil::Date>("2026-03-31"),
            Some(jiff::civil::Date::constant(2026, 3, 31))
        );
    }

    #[test]
    fn nearly_correct_values_get_a_suggestion() {
        let said = |line: &str| {
            let mut problems = Problems::default();
            let mut table =
                parse("x.toml".as_ref(), format!("{line}\n"), &mut problems).expect("TOML");
            let _ = table.get::<bool>(&named("flag"), &mut problems);
            let _ = table.get::<super::Micros>(&named("span"), &mut problems);
            let _ = table.word(&named("mode"), &[("none", 0), ("file", 1)], &mut problems);
            problems.to_string()
        };
        for (line, answer) in [
            ("flag = 1", "did you mean true?"),
            ("flag = \"maybe\"", "write true or false"),
            ("span = 300", "\"300s\" for seconds"),
            ("span = \"300\"", "\"300m\" for minutes"),
            ("span = \"1,5s\"", "did you mean \"1.5s\"?"),
            ("span = \"1 year\"", "write a number with a unit"),
            ("span = true", "expected a duration in quotes"),
            ("mode = true", "use one of: none, file"),
            ("mode = \"x\"", "use one of: none, file"),
            ("mode = \"fil\"", "did you mean \"file\"?"),
        ] {
            assert!(said(line).contains(answer), "{line}: {}", said(line));
        }
        for line in ["mode = \"File\"", "mode = \"files\"", "flag = \"On\"", "span = \"5 Minutes\""]
        {
            assert_eq!(said(line), "", "{line}");
        }
    }

    #[test]
    fn several_names_in_one_text_are_split() {
        let mut problems = Problems::default();
        let text = "tags = \"a, b;c\"\nlist = [\"a, b\"]\nempty = \"\"\n";
        let mut table = parse("x.toml".as_ref(), text.to_owned(), &mut problems).expect("TOML");
        let mut names = |key| -> Vec<String> {
            let node = table.list(&named(key)).expect("a value");
            let names = node.as_names();
            names.iter().filter_map(|node| node.read(&mut problems)).collect()
        };
        assert_eq!(names("tags"), ["a", "b", "c"]);
        assert_eq!(names("list"), ["a, b"]);
        assert_eq!(names("empty"), [""]);
    }

    #[test]
    fn american_spelling_of_keys_is_accepted() {
        let mut problems = Problems::default();
        let text = "colors = { gray = \"x\" }\ncolor = 1\ncolour = 2\n";
        let mut table = parse("x.toml".as_ref(), text.to_owned(), &mut problems).expect("TOML");
        let mut colours = table.table(&named("colours"), &mut problems).expect("a table");
        assert_eq!(colours.get::<String>(&named("grey"), &mut problems).as_deref(), Some("x"));
        colours.finish(&mut problems);
        assert_eq!(table.get::<u16>(&named("colour"), &mut problems), Some(2));
        table.finish(&mut problems);
        assert_eq!(problems.iter().count(), 1, "{problems}");
        assert!(problems.to_string().contains("\"color\" and \"colour\" mean the same"));
    }

    #[test]
    fn a_lists_key_may_be_singular_or_plural() {
        let lists = |text: &str| {
            let mut problems = Problems::default();
            let mut table = parse("x.toml".as_ref(), text.to_owned(), &mut problems).expect("TOML");
            let tags = table.get::<Vec<String>>(&named("tags"), &mut problems);
            let names: Option<Vec<String>> = table.get(&named("host_key"), &mut problems);
            // Not a list: the plural would be another key.
            let title = table.get::<String>(&named("title"), &mut problems);
            table.finish(&mut problems);
            (tags, names, title, problems.to_string())
        };
        let (tags, keys, title, problems) =
            lists("tag = \"a\"\nhost_keys = [\"k\"]\ntitle = \"t\"\n");
        assert_eq!(
            (tags, keys, title),
            (Some(vec!["a".into()]), Some(vec!["k".into()]), Some("t".into()))
        );
        assert_eq!(problems, "");
        assert!(lists("tag = \"a\"\ntags = \"b\"\n").3.contains("mean the same"));
        assert!(lists("titles = \"t\"\n").3.contains("unknown key \"titles\""));
    }
}
