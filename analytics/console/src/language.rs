//! Languages of the console: a file of texts for each, with the English text as the key. Figures
//! and dates are formatted by the locale of reports.

use std::{collections::HashMap, sync::LazyLock};

use toml_edit::DocumentMut;

/// Texts by language tag and English text.
static TEXTS: LazyLock<ByLanguage> = LazyLock::new(|| read("texts"));
/// Descriptions of keys of the configuration by language tag and English text.
static KEYS: LazyLock<ByLanguage> = LazyLock::new(|| read("keys"));
/// Problems of the configuration by language tag and English text.
static MESSAGES: LazyLock<ByLanguage> = LazyLock::new(|| read("messages"));

type ByLanguage = HashMap<&'static str, HashMap<String, String>>;

/// Reads a table of the language files.
fn read(table: &str) -> ByLanguage {
    let read = |file: &str| -> HashMap<String, String> {
        let document: DocumentMut = file.parse().expect("a test reads the language files");
        let texts = document.get(table).and_then(|item| item.as_table());
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
}

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

/// Returns a description as it is translated: in one line and without marks.
pub(crate) fn plain(description: &str) -> String {
    description.replace('`', "").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns a description of a key of the configuration, or a default in words, in a language;
/// `None` if it is not translated.
pub(crate) fn of_key(tag: &str, english: &str) -> Option<&'static str> {
    KEYS.get(tag)?.get(english).map(String::as_str)
}

/// Returns the text in a language with its variables `{0}`, `{1}` … filled in.
pub(crate) fn fill(tag: &str, english: &str, values: &[&str]) -> String {
    filled(text(tag, english), values)
}

/// Returns a problem of the configuration, or its remedy, in a language; unknown ones stay in
/// English.
pub(crate) fn message(tag: &str, english: &str) -> String {
    let Some(all) = MESSAGES.get(tag) else {
        return english.to_owned();
    };
    let exact = |text: &str| all.get(text).cloned();
    if let Some(found) = exact(english) {
        return found;
    }
    let literals =
        |template: &str| template.split(['{', '}']).step_by(2).map(str::len).sum::<usize>();
    let matching = all.iter().filter_map(|(template, translated)| {
        Some((literals(template), translated, variables(template, english)?))
    });
    // The one that says most about the text.
    match matching.max_by_key(|(length, ..)| *length) {
        Some((_, translated, values)) => {
            let values: Vec<String> = values
                .iter()
                .map(|value| exact(value).unwrap_or_else(|| (*value).to_owned()))
                .collect();
            filled(translated, &values.iter().map(String::as_str).collect::<Vec<_>>())
        }
        None => english.to_owned(),
    }
}

/// Returns the variables `{0}`, `{1}` … of a template, in this order, as they are in a text.
fn variables<'a>(template: &str, text: &'a str) -> Option<Vec<&'a str>> {
    let mut literals = template.split('{').map(|part| part.split_once('}').map_or(part, |it| it.1));
    let mut rest = text.strip_prefix(literals.next()?)?;
    let mut literals = literals.peekable();
    literals.peek()?;
    let mut values = Vec::new();
    while let Some(literal) = literals.next() {
        let end = match literal {
            "" if literals.peek().is_none() => rest.len(),
            literal if literals.peek().is_none() => rest.strip_suffix(literal)?.len(),
            literal => rest.find(literal)?,
        };
        values.push(rest.get(..end)?);
        rest = rest.get(end + literal.len()..)?;
    }
    rest.is_empty().then_some(values)
}

/// Fills in the variables of a text.
fn filled(text: &str, values: &[&str]) -> String {
    let mut out = String::new();
    let mut rest = text;
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
    fn descriptions_of_keys_are_translated() {
        use mailqos_config::form;
        let kinds = form::kinds().into_iter().flat_map(form::monitor_fields);
        let mut wanted = BTreeSet::new();
        for field in kinds.chain(form::fields("object")) {
            wanted.insert(plain(field.key.about));
            wanted.extend(field.key.otherwise.map(plain));
        }
        assert!(wanted.len() > 50, "{wanted:#?}");
        for tag in ["de", "sv"] {
            let known = &KEYS[tag];
            let missing: Vec<_> = wanted.iter().filter(|text| !known.contains_key(*text)).collect();
            assert!(missing.is_empty(), "{tag}: {missing:#?}");
        }
    }

    #[test]
    fn problems_that_forms_show_are_translated() {
        let text = "site = \"x\"\n[object.mx]\naddress = \"https://mail.example.com\"\n[object.ok]\naddress = \"mx.example.com\"\n\
            [account.box]\nuser = \"box\"\npassword = { env = \"BOX\" }\n\
            [monitor.a]\nobject = \"none\"\nfrom = \"nobody at example\"\nto = \"b@example.com\"\n\
            max_round_trip = \"1m\"\ncheck_interval = \"5m\"\ntest_interval = \"soon\"\n\
            timeout = \"99d\"\nalarm_after = 0\nextra_pickups = 50\nhorizon = \"2s\"\nfolders = []\n\
            schedule = \"0 0 30 2 *\"\ntimezone = \"Mars/Olympus\"\ntranscripts = \"some\"\n\
            smtp = { server = \"https://x\", port = \"many\", tls = \"ssl\", account = \"nobody\" }\n\
            pickup = { server = \"a:99\", port = 0, account = \"box\", insecure = true }\n\
            message = { size = 5 }\naction_list = \"people\"\nenabled = \"perhaps\"\ndepends_on = [\"nothing\"]\n\
            [monitor.b]\nobject = \"ok\"\nkind = \"mailbox\"\n";
        let file = std::path::Path::new("/nowhere/mailqos.toml");
        let Err(problems) = mailqos_config::of_text(file, text.to_owned()) else {
            panic!("it has problems")
        };
        let found: BTreeSet<&str> = problems
            .iter()
            .flat_map(|problem| [Some(problem.message.as_str()), problem.help.as_deref()])
            .flatten()
            .collect();
        assert!(found.len() > 25, "{found:#?}");
        for tag in ["de", "sv"] {
            let english: Vec<_> =
                found.iter().filter(|text| message(tag, text) == ***text).collect();
            assert!(english.is_empty(), "{tag}: {english:#?}");
        }
        assert_eq!(
            message("de", "the horizon (2s) is shorter than max round trip (1m)"),
            "die Wartezeit bis „verloren“ (2s) ist kürzer als die höchste Laufzeit (1m)"
        );
        assert_eq!(
            message("de", "expected a number, found a text"),
            "erwartet wird eine Zahl, nicht ein Text"
        );
        assert_eq!(message("en", "x is missing"), "x is missing");
        assert_eq!(message("sv", "something new"), "something new");
        let known: BTreeSet<&String> = MESSAGES["de"].keys().collect();
        assert_eq!(known, MESSAGES["sv"].keys().collect());
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
