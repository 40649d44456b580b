//! Languages of reports: one TOML file each.
//!
//! English texts are in the code and serve as the keys of the translations.

use std::{collections::HashMap, sync::LazyLock};

use toml_edit::{DocumentMut, Item};

/// All languages, English first.
pub(super) static LANGUAGES: LazyLock<[Language; 3]> = LazyLock::new(|| {
    // The files are built in, and a test reads each of them.
    let read = |text| Language::read(text).expect("a built-in language file is valid");
    [read(include_str!("en.toml")), read(include_str!("de.toml")), read(include_str!("sv.toml"))]
});

/// A language of reports.
#[derive(Debug)]
pub struct Language {
    /// Tag of the language, such as `en`.
    pub tag: String,
    pub(super) decimal: char,
    pub(super) thousands: char,
    /// Suffix of percentages: a space and the percent sign.
    pub(super) percent: String,
    /// Suffix of the day in a date: `.` in German.
    pub(super) after_day: String,
    /// Whether nouns keep their capital letter within a sentence.
    pub(super) capital_nouns: bool,
    pub(super) months: [String; 12],
    /// Short names of weekdays, Monday first.
    pub(super) weekdays: [String; 7],
    /// Recurring weekdays within a sentence, Monday first: `Mondays`, in German `montags`.
    pub(super) recurring_weekdays: [String; 7],
    /// Translations by English text; empty for English.
    pub(super) texts: HashMap<String, String>,
}

impl Language {
    /// Reads a language file. Returns an error that names the first key that is missing or wrong.
    fn read(file: &str) -> Result<Self, String> {
        let document: DocumentMut = file.parse().map_err(|error| format!("{error}"))?;
        let item = |key: &str| document.get(key).ok_or_else(|| format!("`{key}` is missing"));
        let text = |key: &str| -> Result<String, String> {
            let found = item(key)?.as_str();
            found.map(str::to_owned).ok_or_else(|| format!("`{key}` is not a text"))
        };
        let sign = |key: &str| -> Result<char, String> {
            let text = text(key)?;
            text.chars().next().ok_or_else(|| format!("`{key}` is empty"))
        };
        let flag = |key: &str| -> Result<bool, String> {
            item(key)?.as_bool().ok_or_else(|| format!("`{key}` is not true or false"))
        };
        let translations = item("texts")?.as_table().ok_or("`texts` is not a table")?;
        let texts = translations.iter().map(|(english, text)| match text.as_str() {
            Some(text) if !text.is_empty() => Ok((english.to_owned(), text.to_owned())),
            _ => Err(format!("the translation of {english:?} is empty or not a text")),
        });
        Ok(Self {
            tag: text("tag")?,
            decimal: sign("decimal")?,
            thousands: sign("thousands")?,
            percent: text("percent")?,
            after_day: text("after_day")?,
            capital_nouns: flag("capital_nouns")?,
            months: names(item("months")?).ok_or("`months` is not a list of 12 texts")?,
            weekdays: names(item("weekdays")?).ok_or("`weekdays` is not a list of 7 texts")?,
            recurring_weekdays: names(item("recurring_weekdays")?)
                .ok_or("`recurring_weekdays` is not a list of 7 texts")?,
            texts: texts.collect::<Result<_, _>>()?,
        })
    }
}

fn names<const N: usize>(item: &Item) -> Option<[String; N]> {
    let list = item.as_array()?.iter();
    let names: Option<Vec<String>> = list.map(|name| name.as_str().map(str::to_owned)).collect();
    names?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::LANGUAGES;

    /// Collects the texts in the calls of `t`, `fill` and `count` in a source.
    fn keys(source: &str, keys: &mut BTreeSet<String>) {
        let source = source.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        for name in ["t(", "fill(", "count("] {
            for (at, _) in source.match_indices(name) {
                let before = source[..at].chars().next_back();
                if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                    continue;
                }
                let mut depth = 1;
                let mut letters = source[at + name.len()..].chars();
                while let Some(c) = letters.next().filter(|_| depth > 0) {
                    match c {
                        '(' => depth += 1,
                        ')' => depth -= 1,
                        // A character literal, such as '"'.
                        '\'' if letters.clone().nth(1) == Some('\'') => {
                            letters.nth(1);
                        }
                        '"' => {
                            let mut text = String::new();
                            while let Some(c) = letters.next().filter(|c| *c != '"') {
                                text.push(if c == '\\' { letters.next().unwrap_or(c) } else { c });
                            }
                            keys.insert(text);
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    fn visit(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).expect("the sources are there") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if path.is_dir() {
                if !matches!(name.as_str(), "languages" | "media" | "snapshots") {
                    visit(&path, found);
                }
            } else if name.ends_with(".rs")
                && !matches!(
                    name.as_str(),
                    "definition.rs" | "rule.rs" | "samples.rs" | "locale.rs"
                )
            {
                keys(&fs::read_to_string(&path).expect("a source"), found);
            }
        }
    }

    /// Returns whether a key needs a translation, unlike the names of percentiles.
    fn is_a_word(key: &str) -> bool {
        let is_percentile =
            key.strip_prefix('p').is_some_and(|number| number.parse::<u8>().is_ok());
        key.chars().any(char::is_alphabetic) && !is_percentile && !key.starts_with("{sign}")
    }

    #[test]
    fn no_text_is_untranslated() {
        let mut found = BTreeSet::new();
        let sources = Path::new(env!("CARGO_MANIFEST_DIR"));
        visit(&sources.join("src"), &mut found);
        visit(&sources.join("../charts/src"), &mut found);
        assert!(found.len() > 250, "only {} texts were found", found.len());
        for language in &LANGUAGES[1..] {
            let missing: Vec<&String> = found
                .iter()
                .filter(|key| is_a_word(key) && !language.texts.contains_key(*key))
                .collect();
            assert!(missing.is_empty(), "{}: {missing:#?}", language.tag);
        }
    }

    #[test]
    fn translations_have_the_variables_of_the_english_text() {
        let variables = |text: &str| -> BTreeSet<String> {
            let parts = text.split('{').skip(1).filter_map(|part| part.split_once('}'));
            parts.map(|(number, _)| number.to_owned()).collect()
        };
        for language in LANGUAGES.iter() {
            for (english, text) in &language.texts {
                assert_eq!(variables(english), variables(text), "{}: {english}", language.tag);
            }
        }
    }

    fn read_all(folder: &Path, all: &mut String) {
        for entry in fs::read_dir(folder).expect("the sources are there") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                if !path.ends_with("languages") && !path.ends_with("snapshots") {
                    read_all(&path, all);
                }
            } else if let Ok(text) = fs::read_to_string(&path) {
                all.push_str(&text);
            }
        }
    }

    #[test]
    fn no_translation_is_unused() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut all = String::new();
        for folder in [
            "src",
            "../charts/src",
            "../figures/src",
            "../delivery/src",
            "../src",
            "../../core/model/src",
            "../../templates",
        ] {
            read_all(&crates.join(folder), &mut all);
        }
        for language in LANGUAGES.iter() {
            let is_unused = |english: &&String| !all.contains(&format!("{english:?}"));
            let mut unused: Vec<&String> = language.texts.keys().filter(is_unused).collect();
            unused.sort();
            assert!(unused.is_empty(), "{}: {unused:#?}", language.tag);
        }
    }
}
