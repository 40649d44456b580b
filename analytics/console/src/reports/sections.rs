//! The sections of a definition: added, moved, removed and changed in its text, of which everything
//! else stays as it is.

use std::ops::Range;

use mailqos_config::reference::{Key, ValueKind};
use mailqos_report::reference::REPORTS;
use toml_edit::{Array, Document, DocumentMut, Item, Table, Value};

/// A section of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Section {
    /// Kind, such as `outages`.
    pub(crate) kind: String,
    /// Keys with their values as typed.
    pub(crate) values: Vec<(String, String)>,
    /// Whether it contains tables, which are edited as text.
    pub(crate) is_nested: bool,
}

/// The text has no such section, or is not valid TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the text has no such section")]
pub(crate) struct NoSection;

/// A field of a section.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    /// The key's declaration.
    pub(crate) key: &'static Key,
    /// How it is entered.
    pub(crate) control: Control,
}

/// How a field is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Control {
    /// A line of text.
    Text,
    /// Several lines of text.
    LongText,
    /// Texts, one a line.
    List,
    /// A number.
    Number,
    /// Yes or no.
    Switch,
    /// One of these words.
    Words(&'static [&'static str]),
}

/// Returns the fields of a kind of section, from the declarations of its keys. Tables have none.
pub(crate) fn fields(kind: &str) -> Vec<Field> {
    let id = format!("section.{kind}");
    let shape = REPORTS.tables.iter().find(|shape| shape.id == id);
    let keys = shape.into_iter().flat_map(|shape| shape.keys).copied().flatten();
    keys.filter(|key| key.name != "kind")
        .filter_map(|key| Some(Field { key, control: control(key)? }))
        .collect()
}

fn control(key: &Key) -> Option<Control> {
    match key.takes {
        ValueKind::Words(words) => Some(Control::Words(words)),
        ValueKind::SomeOf(_) => Some(Control::List),
        ValueKind::Type { schema, .. } => {
            let schema = schema();
            // The usual form comes first; the others are what the reader tolerates.
            let forms = schema["anyOf"]
                .as_array()
                .map_or_else(|| vec![&schema], |all| all.iter().collect());
            let is = |form: &serde_json::Value, name: &str| form["type"] == name;
            let first = forms.first().copied().unwrap_or(&schema);
            Some(match () {
                () if forms.iter().any(|form| is(form, "array")) => Control::List,
                () if is(first, "boolean") => Control::Switch,
                () if is(first, "integer") || is(first, "number") => Control::Number,
                () if matches!(key.name, "text" | "markdown") => Control::LongText,
                () => Control::Text,
            })
        }
        _ => None,
    }
}

/// Returns the sections of a text.
pub(crate) fn list(text: &str) -> Vec<Section> {
    let Ok(document) = text.parse::<DocumentMut>() else {
        return Vec::new();
    };
    let Some(tables) = document.get("section").and_then(Item::as_array_of_tables) else {
        return Vec::new();
    };
    tables.iter().map(section).collect()
}

fn section(table: &Table) -> Section {
    let mut found = Section { kind: String::new(), values: Vec::new(), is_nested: false };
    for (key, item) in table {
        let Some(value) = item.as_value() else {
            found.is_nested = true;
            continue;
        };
        let typed = typed(value);
        match (key, typed) {
            ("kind", Some(kind)) => found.kind = kind,
            (key, Some(typed)) => found.values.push((key.to_owned(), typed)),
            (_, None) => found.is_nested = true,
        }
    }
    found
}

/// Returns a value as a person types it into a field; `None` for tables.
fn typed(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.value().clone()),
        Value::Array(array) => {
            let texts: Option<Vec<String>> = array.iter().map(typed).collect();
            Some(texts?.join("\n"))
        }
        Value::InlineTable(_) => None,
        other => Some(other.to_string().trim().to_owned()),
    }
}

/// Returns the parts of a text that are sections, each with the comments before it.
fn spans(text: &str) -> Option<Vec<Range<usize>>> {
    let document = Document::parse(text).ok()?;
    let mut starts: Vec<(usize, bool)> = Vec::new();
    for (name, item) in document.iter() {
        match item {
            Item::Table(table) if !table.is_implicit() && !table.is_dotted() => {
                starts.push((table.span()?.start, false));
            }
            Item::ArrayOfTables(tables) => {
                for table in tables {
                    starts.push((table.span()?.start, name == "section"));
                }
            }
            _ => {}
        }
    }
    starts.sort_unstable();
    let begin = |at: usize| {
        let mut begin = text[..at].rfind('\n').map_or(0, |end| end + 1);
        while let Some(line) = text[..begin]
            .strip_suffix('\n')
            .map(|before| before.rsplit('\n').next().unwrap_or(before))
        {
            if !line.trim_start().starts_with('#') {
                break;
            }
            begin -= line.len() + 1;
        }
        begin
    };
    let begins: Vec<usize> = starts.iter().map(|(at, _)| begin(*at)).collect();
    let ends = begins.iter().skip(1).copied().chain([text.len()]);
    let all = begins.iter().copied().zip(ends).zip(&starts);
    Some(all.filter(|(_, (_, is_section))| *is_section).map(|((from, to), _)| from..to).collect())
}

/// Ends a part with exactly one empty line.
fn part(text: &str) -> String {
    format!("{}\n\n", text.trim_end())
}

/// Moves a section before the previous one, or behind the next one.
///
/// # Errors
/// There is none.
pub(crate) fn shift(text: &str, index: usize, is_up: bool) -> Result<String, NoSection> {
    let spans = spans(text).ok_or(NoSection)?;
    let first = if is_up { index.checked_sub(1).ok_or(NoSection)? } else { index };
    let (a, b) = match (spans.get(first), spans.get(first + 1)) {
        (Some(a), Some(b)) => (a.clone(), b.clone()),
        _ => return Err(NoSection),
    };
    let between = &text[a.end..b.start];
    let joined = format!(
        "{}{}{between}{}{}",
        &text[..a.start],
        part(&text[b.clone()]),
        part(&text[a]),
        &text[b.end..]
    );
    Ok(tidy(&joined))
}

/// Removes a section with the comments before it.
///
/// # Errors
/// There is none.
pub(crate) fn remove(text: &str, index: usize) -> Result<String, NoSection> {
    let spans = spans(text).ok_or(NoSection)?;
    let span = spans.get(index).cloned().ok_or(NoSection)?;
    Ok(tidy(&format!("{}{}", &text[..span.start], &text[span.end..])))
}

/// Adds a section behind all others.
///
/// # Errors
/// The text is not valid TOML.
pub(crate) fn add(
    text: &str,
    kind: &str,
    values: &[(String, String)],
) -> Result<String, NoSection> {
    let spans = spans(text).ok_or(NoSection)?;
    let mut table = Table::new();
    table.insert("kind", toml_edit::value(kind));
    apply(&mut table, kind, values);
    let new = format!("[[section]]\n{}", table);
    let at = spans.last().map_or(text.len(), |last| last.end);
    let before = if text[..at].trim().is_empty() { String::new() } else { part(&text[..at]) };
    Ok(tidy(&format!("{before}{}{}", part(&new), &text[at..])))
}

/// Sets the keys of a section; comments and tables in it are kept.
///
/// # Errors
/// There is none.
pub(crate) fn set(
    text: &str,
    index: usize,
    values: &[(String, String)],
) -> Result<String, NoSection> {
    let spans = spans(text).ok_or(NoSection)?;
    let span = spans.get(index).cloned().ok_or(NoSection)?;
    let mut own: DocumentMut = text[span.clone()].parse().map_err(|_| NoSection)?;
    let tables = own.get_mut("section").and_then(Item::as_array_of_tables_mut);
    let table = tables.and_then(|tables| tables.get_mut(0)).ok_or(NoSection)?;
    let kind = table.get("kind").and_then(Item::as_str).unwrap_or_default().to_owned();
    apply(table, &kind, values);
    Ok(format!("{}{own}{}", &text[..span.start], &text[span.end..]))
}

/// Sets keys as typed: empty ones are removed, unchanged ones stay as they are.
fn apply(table: &mut Table, kind: &str, values: &[(String, String)]) {
    for field in fields(kind) {
        let name = field.key.name;
        let Some((_, text)) = values.iter().find(|(key, _)| key == name) else { continue };
        let text = text.replace("\r\n", "\n");
        let text = text.trim();
        let old = table.get(name).and_then(Item::as_value).and_then(typed);
        if old.as_deref().map(str::trim) == Some(text) || old.is_none() && text.is_empty() {
            continue;
        }
        if text.is_empty() {
            table.remove(name);
            continue;
        }
        let mut new = value_of(text, field.control);
        if let Some(old) = table.get(name).and_then(Item::as_value) {
            *new.decor_mut() = old.decor().clone();
        }
        table.insert(name, Item::Value(new));
    }
}

/// Returns the value of a typed text. What is not a number stays a text, which the reader of
/// definitions then reports.
fn value_of(text: &str, control: Control) -> Value {
    match control {
        Control::Switch if matches!(text, "true" | "false") => (text == "true").into(),
        Control::Number => match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(number), _) => number.into(),
            (_, Ok(number)) if number.is_finite() => number.into(),
            _ => text.into(),
        },
        Control::List => {
            let items = text.split(['\n', ',']).map(str::trim).filter(|item| !item.is_empty());
            items.collect::<Array>().into()
        }
        _ => text.into(),
    }
}

/// Replaces the template of a text by the sections of the template, so that they can be changed.
///
/// # Errors
/// One of the texts is not valid TOML.
pub(crate) fn own(text: &str, template: &str, title: &str) -> Result<String, NoSection> {
    let mut document: DocumentMut = text.parse().map_err(|_| NoSection)?;
    let head = super::store::comments(document.as_table(), "template");
    document.remove("template");
    if !document.contains_key("title") {
        document.insert("title", toml_edit::value(title));
    }
    let text = format!("{head}{document}");
    let copied = spans(template).ok_or(NoSection)?;
    let copied: String = copied.into_iter().map(|span| part(&template[span])).collect();
    let at = spans(&text).ok_or(NoSection)?.first().map_or(text.len(), |first| first.start);
    Ok(tidy(&format!("{}{copied}{}", part(&text[..at]), &text[at..])))
}

/// Ends a text with one line break.
fn tidy(text: &str) -> String {
    format!("{}\n", text.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Head.\ntitle = \"x\"\n\n# The first.\n[[section]]\nkind = \"text\" # words\ntext = \"\"\"\n[[section]]\n# not a section\n\"\"\"\n\n[[section]]\nkind = \"outages\"\nlimit = 3\n\n# The group.\n[[section]]\nkind = \"per-monitor\"\n[[section.section]]\nkind = \"outages\"\n\n[schedule]\nevery = \"day\"\n";

    fn kinds(text: &str) -> Vec<String> {
        list(text).into_iter().map(|section| section.kind).collect()
    }

    #[test]
    fn sections_move_with_their_comments_and_tables() {
        assert_eq!(kinds(TEXT), ["text", "outages", "per-monitor"]);
        let moved = shift(TEXT, 2, true).expect("moved");
        assert_eq!(kinds(&moved), ["text", "per-monitor", "outages"], "{moved}");
        assert!(
            moved
                .contains("# The group.\n[[section]]\nkind = \"per-monitor\"\n[[section.section]]"),
            "{moved}"
        );
        assert!(moved.ends_with("[schedule]\nevery = \"day\"\n"), "{moved}");
        let moved = shift(&moved, 0, false).expect("moved");
        assert_eq!(kinds(&moved), ["per-monitor", "text", "outages"], "{moved}");
        assert!(moved.starts_with("# Head.\ntitle = \"x\"\n"), "{moved}");
        assert!(moved.contains("# The first.\n[[section]]\nkind = \"text\" # words"), "{moved}");
        for (index, is_up) in [(0, true), (2, false), (9, true), (9, false)] {
            assert!(shift(TEXT, index, is_up).is_err(), "{index}");
        }
        let rest = remove(TEXT, 0).expect("removed");
        assert_eq!(kinds(&rest), ["outages", "per-monitor"], "{rest}");
        assert!(!rest.contains("The first"), "{rest}");
        assert!(remove(TEXT, 3).is_err() && remove("x = ", 0).is_err());
    }

    #[test]
    fn options_are_written_as_their_declarations_say() {
        let values = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect()
        };
        let text =
            set(TEXT, 1, &values(&[("limit", "5"), ("monitors", "a\r\ntag:b")])).expect("set");
        assert!(text.contains("limit = 5\nmonitors = [\"a\", \"tag:b\"]"), "{text}");
        let text = set(&text, 1, &values(&[("limit", ""), ("monitors", "a\ntag:b")])).expect("set");
        assert!(!text.contains("limit") && text.contains("[\"a\", \"tag:b\"]"), "{text}");
        assert_eq!(set(TEXT, 0, &values(&[])).expect("set"), TEXT, "nothing changes");
        let text =
            add(TEXT, "top", &values(&[("unknown", "x"), ("limit", "many")])).expect("added");
        assert_eq!(kinds(&text), ["text", "outages", "per-monitor", "top"], "{text}");
        assert!(
            text.ends_with("[schedule]\nevery = \"day\"\n") && !text.contains("unknown"),
            "{text}"
        );
        assert_eq!(kinds(&add("", "method", &[]).expect("added")), ["method"]);
    }

    #[test]
    fn the_sections_of_a_template_become_own_ones() {
        let template = "title = \"t\"\n[[section]]\nkind = \"method\"\n";
        let text =
            "# Head.\ntemplate = \"trend\"\nperiod = \"last-month\"\n[[section]]\nkind = \"top\"\n";
        let own = own(text, template, "Title").expect("own");
        assert_eq!(kinds(&own), ["method", "top"], "{own}");
        assert!(own.starts_with("# Head.\n"), "{own}");
        assert!(own.contains("title = \"Title\"") && !own.contains("template"), "{own}");
    }

    #[test]
    fn every_kind_of_section_has_fields() {
        for (kind, _) in mailqos_report::sections::kinds() {
            let names: Vec<&str> = fields(kind).iter().map(|field| field.key.name).collect();
            let control = |name: &str| {
                let field = fields(kind).into_iter().find(|field| field.key.name == name);
                field.map(|field| field.control)
            };
            assert!(matches!(control("limit"), None | Some(Control::Number)), "{kind}");
            assert_eq!(control("monitors"), Some(Control::List), "{kind}");
            assert_eq!(control("period"), Some(Control::Text), "{kind}");
            assert!(names.contains(&"monitors") && !names.contains(&"kind"), "{kind}: {names:?}");
        }
    }
}
