//! Languages of the console: a file of texts for each, with the English text as the key. Figures
//! and dates are formatted by the locale of reports.

use std::{collections::HashMap, sync::LazyLock};

use toml_edit::DocumentMut;

/// Texts by language tag and English text.
static TEXTS: LazyLock<HashMap<&'static str, HashMap<String, String>>> = LazyLock::new(|| {
    let read = |file: &str| -> HashMap<String, String> {
        let document: DocumentMut = file.parse().expect("a test reads the language files");
        let texts = document.get("texts").and_then(|item| item.as_table());
        let pairs = texts.into_iter().flat_map(|table| table.iter());
        pairs
            .filter_map(|(english, text)| Some((english.to_owned(), text.as_str()?.to_owned())))
            .collect()
    };
    HashMap::from([
        ("en", HashMap::new()),
        ("de", read(include_str!("languages/de.toml"))),
        ("sv", read(include_str!("languages/sv.toml"))),
    ])
});

/// Tags and own names of the languages.
pub(crate) const LANGUAGES: [(&str, &str); 3] =
    [("en", "English"), ("de", "Deutsch"), ("sv", "Svenska")];

/// Returns the text in a language, or the English one.
pub(crate) fn text<'a>(tag: &str, english: &'a str) -> &'a str
where
    'static: 'a,
{
    TEXTS.get(tag).and_then(|texts| texts.get(english)).map_or(english, |text| text.as_str())
}

/// Returns the text in a language with its variables `{0}`, `{1}` … filled in.
pub(crate) fn fill(tag: &str, english: &str, values: &[&str]) -> String {
    let mut out = String::new();
    let mut rest = text(tag, english);
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let value = after.split_once('}').and_then(|(number, after)| {
            let number: usize = number.parse().ok()?;
            Some((values.get(number)?, after))
        });
        match value {
            Some((value, after)) => {
                out.push_str(value);
                rest = after;
            }
            None => {
                out.push('{');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// Returns the language that a browser prefers, by its `Accept-Language` (RFC 9110, section
/// 12.5.4); English if it accepts none.
pub(crate) fn negotiate(accepted: &str) -> &'static str {
    let mut best = ("en", 0.0);
    for part in accepted.split(',').take(50) {
        let mut pieces = part.trim().split(';');
        let tag = pieces.next().unwrap_or_default().trim();
        let quality = pieces
            .find_map(|piece| piece.trim().strip_prefix("q="))
            .map_or(1.0, |q| q.trim().parse::<f32>().unwrap_or(0.0));
        let primary = tag.split('-').next().unwrap_or_default();
        let known = LANGUAGES.iter().find(|(tag, _)| tag.eq_ignore_ascii_case(primary));
        if let Some((tag, _)) = known
            && quality > best.1
        {
            best = (tag, quality);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_browsers_language_is_chosen_by_its_quality() {
        for (accepted, tag) in [
            ("", "en"),
            ("de-AT,de;q=0.9,en;q=0.8", "de"),
            ("fr-FR, sv;q=0.5, de;q=0.4", "sv"),
            ("en;q=0.2,de;q=0.9", "de"),
            ("de;q=0", "en"),
            ("xx;q=abc,,;;;", "en"),
        ] {
            assert_eq!(negotiate(accepted), tag, "{accepted}");
        }
    }

    #[test]
    fn variables_are_filled_and_other_braces_stay() {
        assert_eq!(fill("en", "{1} of {0} {x} {9", &["a", "b"]), "b of a {x} {9");
        assert_eq!(fill("en", "{0}", &["{1}"]), "{1}");
    }

    /// Collects the texts of templates, `"…" | t`, and of the calls of `t(` and `fill(` in sources.
    fn used() -> BTreeSet<String> {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut all = String::new();
        for folder in [
            "src",
            "src/pages",
            "src/pages/reports",
            "src/access",
            "src/definitions",
            "src/operations",
            "../../templates/console",
        ] {
            for entry in std::fs::read_dir(root.join(folder)).expect("a folder") {
                let path = entry.expect("an entry").path();
                let is_text = path.extension().is_some_and(|it| it == "rs" || it == "html");
                if is_text && !path.ends_with("language.rs") {
                    let text = std::fs::read_to_string(&path).expect("text");
                    all.push_str(text.split("#[cfg(test)]\nmod tests").next().expect("text"));
                }
            }
        }
        let mut found = BTreeSet::new();
        for (at, _) in all.match_indices("\" | t") {
            let before = &all[..at];
            found.insert(before[before.rfind('"').expect("a quote") + 1..].to_owned());
        }
        let starts = [
            "t(\"",
            "text(tag, \"",
            "fill(tag, \"",
            "Invalid(\"",
            "say(\"",
            "=> (404, \"",
            "=> (403, \"",
            "(503, \"",
        ];
        for start in starts {
            for (at, _) in all.match_indices(start) {
                let before = all[..at].chars().next_back();
                if start.starts_with(char::is_lowercase)
                    && before.is_some_and(|c| c.is_alphanumeric() || c == '_')
                {
                    continue;
                }
                let text = &all[at + start.len()..];
                found.insert(text[..text.find('"').expect("a quote")].to_owned());
            }
        }
        found.extend(templates().map(|(_, about)| about));
        found
    }

    /// Returns the texts and descriptions of the built-in report templates.
    fn templates() -> impl Iterator<Item = (String, String)> {
        use mailqos_report::definitions;
        definitions::template_names(None).into_iter().map(|name| {
            let (_, text) = definitions::template_text(None, &name).expect("built in");
            let template =
                definitions::template(None, &name, &mut mailqos_config::Problems::default());
            (text, template.expect("valid").description)
        })
    }

    #[test]
    fn no_text_is_untranslated_and_no_translation_unused() {
        let used = used();
        assert!(used.len() > 80, "only {} texts were found", used.len());
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut all = String::new();
        let mut folders = vec![root.clone(), root.join("../../../templates/console")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_none_or(|it| it != "toml") {
                    all.push_str(&std::fs::read_to_string(&path).unwrap_or_default());
                }
            }
        }
        all.extend(templates().map(|(text, _)| text));
        let all: String = all.split_whitespace().collect::<Vec<_>>().join(" ");
        for tag in ["de", "sv"] {
            let missing: Vec<&String> =
                used.iter().filter(|text| !TEXTS[tag].contains_key(*text)).collect();
            assert!(missing.is_empty(), "{tag}: {missing:#?}");
            let is_unused = |text: &&String| !all.contains(&format!("\"{text}\""));
            let unused: Vec<&String> = TEXTS[tag].keys().filter(is_unused).collect();
            assert!(unused.is_empty(), "{tag}: {unused:#?}");
        }
    }

    #[test]
    fn translations_have_the_variables_of_the_english_text() {
        let variables = |text: &str| -> BTreeSet<String> {
            let parts = text.split('{').skip(1).filter_map(|part| part.split_once('}'));
            parts.map(|(number, _)| number.to_owned()).collect()
        };
        for (tag, texts) in TEXTS.iter() {
            for (english, text) in texts {
                assert_eq!(variables(english), variables(text), "{tag}: {english}");
            }
        }
    }
}
