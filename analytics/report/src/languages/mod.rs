//! The languages that reports can be written in, besides English: a file each.

pub(super) mod de;
pub(super) mod sv;

/// A language that reports can be written in.
#[derive(Debug)]
pub struct Language {
    /// Its tag, such as `en`.
    pub tag: &'static str,
    pub(super) decimal: char,
    pub(super) thousands: char,
    /// What follows a number in per cent.
    pub(super) percent: &'static str,
    /// What follows the number of a day in a date.
    pub(super) after_day: &'static str,
    /// Nouns have a capital within a sentence too.
    pub(super) capital_nouns: bool,
    pub(super) months: [&'static str; 12],
    /// Monday first.
    pub(super) weekdays: [&'static str; 7],
    /// By the English text, sorted.
    pub(super) texts: &'static [(&'static str, &'static str)],
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::{de, sv};

    /// The texts in the calls of `t`, `fill` and `count` of a source.
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
                        // A character, such as '"'.
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
                && !matches!(name.as_str(), "definition.rs" | "rule.rs" | "samples.rs" | "locale.rs")
            {
                keys(&fs::read_to_string(&path).expect("a source"), found);
            }
        }
    }

    /// Names of figures and formats that are the same everywhere.
    fn is_a_word(key: &str) -> bool {
        let is_percentile = key.strip_prefix('p').is_some_and(|number| number.parse::<u8>().is_ok());
        key.chars().any(char::is_alphabetic) && !is_percentile && !key.starts_with("{sign}")
    }

    #[test]
    fn no_text_is_untranslated() {
        let mut found = BTreeSet::new();
        let sources = Path::new(env!("CARGO_MANIFEST_DIR"));
        visit(&sources.join("src"), &mut found);
        visit(&sources.join("../charts/src"), &mut found);
        assert!(found.len() > 250, "only {} texts were found", found.len());
        for language in [&de::LANGUAGE, &sv::LANGUAGE] {
            let missing: Vec<&String> = found
                .iter()
                .filter(|key| is_a_word(key) && !language.texts.iter().any(|(known, _)| known == key))
                .collect();
            assert!(missing.is_empty(), "{}: {missing:#?}", language.tag);
        }
    }

    #[test]
    fn translations_are_sorted_and_have_the_same_places() {
        let places = |text: &str| -> BTreeSet<String> {
            let parts = text.split('{').skip(1).filter_map(|part| part.split_once('}'));
            parts.map(|(number, _)| number.to_owned()).collect()
        };
        for language in [&de::LANGUAGE, &sv::LANGUAGE] {
            assert!(language.texts.is_sorted_by(|a, b| a.0 < b.0), "{}", language.tag);
            for (english, text) in language.texts {
                assert_eq!(places(english), places(text), "{english}");
                assert!(!text.is_empty(), "{english}");
            }
        }
    }
}
