//! The sections of a definition: added, moved, removed and changed in its text, of which everything
//! else stays as it is.

use std::ops::Range;

use mailqos_config::reference::{Key, ValueKind};
use mailqos_report::reference::REPORTS;
use toml_edit::{Array, Document, DocumentMut, Item, Table, Value};

/// A section of a text, or a column of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Section {
    /// Kind, such as `outages`; empty for a column.
    pub(crate) kind: String,
    /// Place in the text.
    pub(crate) place: Place,
    /// Whether it is the first one of its list.
    pub(crate) is_first: bool,
    /// Whether it is the last one of its list.
    pub(crate) is_last: bool,
    /// Name of the list that it contains: `section` or `column`.
    pub(crate) holds: Option<&'static str>,
    /// Keys with their values as typed.
    pub(crate) values: Vec<(String, String)>,
    /// Whether it contains other tables, which are edited as text.
    pub(crate) is_nested: bool,
}

/// Place of a section: for each level, the name of the list and the number in it. It is written as
/// `2` for the third section, and `2.column.0.section.1` for one in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place(Vec<(&'static str, usize)>);

/// Deepest place.
const MAX_DEPTH: usize = 8;

impl Place {
    /// Returns the place of a section that is in no other.
    pub(crate) fn top(index: usize) -> Self {
        Self(vec![("section", index)])
    }

    /// Returns the place of a text; `None` if it is not one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split('.');
        let mut place = Self::top(words.next()?.parse().ok()?);
        while let Some(name) = words.next() {
            let name = ["section", "column"].into_iter().find(|known| *known == name)?;
            place.0.push((name, words.next()?.parse().ok()?));
        }
        (place.0.len() <= MAX_DEPTH).then_some(place)
    }

    /// Returns the number of sections around it.
    pub(crate) fn depth(&self) -> usize {
        self.0.len() - 1
    }

    fn within(&self, name: &'static str, index: usize) -> Self {
        let mut steps = self.0.clone();
        steps.push((name, index));
        Self(steps)
    }

    /// Returns the names of the tables, as in a header.
    fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|(name, _)| *name).collect()
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (depth, (name, index)) in self.0.iter().enumerate() {
            match depth {
                0 => write!(f, "{index}")?,
                _ => write!(f, ".{name}.{index}")?,
            }
        }
        Ok(())
    }
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

/// Returns the sections of a text, those in others after them.
pub(crate) fn list(text: &str) -> Vec<Section> {
    let Ok(document) = text.parse::<DocumentMut>() else {
        return Vec::new();
    };
    let mut all = Vec::new();
    if let Some(tables) = document.get("section").and_then(Item::as_array_of_tables) {
        for (index, table) in tables.iter().enumerate() {
            collect(table, Place::top(index), tables.len(), &mut all);
        }
    }
    all
}

/// Adds a section, which is one of `count`, and those in it.
fn collect(table: &Table, place: Place, count: usize, all: &mut Vec<Section>) {
    let (name, index) = place.0.last().copied().unwrap_or(("section", 0));
    let mut found = Section {
        kind: String::new(),
        is_first: index == 0,
        is_last: index + 1 == count,
        holds: None,
        values: Vec::new(),
        is_nested: false,
        place,
    };
    let mut inner: Option<(&'static str, &toml_edit::ArrayOfTables)> = None;
    for (key, item) in table {
        let list = ["section", "column"].into_iter().find(|list| *list == key);
        if let (Some(list), Some(tables)) = (list, item.as_array_of_tables()) {
            inner = Some((list, tables));
            continue;
        }
        let Some(value) = item.as_value() else {
            found.is_nested = true;
            continue;
        };
        match (key, typed(value)) {
            ("kind", Some(kind)) => found.kind = kind,
            (key, Some(typed)) => found.values.push((key.to_owned(), typed)),
            (_, None) => found.is_nested = true,
        }
    }
    found.holds = match found.kind.as_str() {
        "columns" => Some("column"),
        "per-monitor" => Some("section"),
        _ => (name == "column").then_some("section"),
    };
    let place = found.place.clone();
    all.push(found);
    if let Some((list, tables)) = inner
        && place.0.len() < MAX_DEPTH
    {
        for (index, table) in tables.iter().enumerate() {
            collect(table, place.within(list, index), tables.len(), all);
        }
    }
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

/// Names of a table, with numbers in lists.
type Steps = Vec<(String, Option<usize>)>;

/// A part of a text that begins with the head of a table.
#[derive(Debug)]
struct Part {
    /// Names of the table.
    steps: Steps,
    /// The part, with the comments before it and the tables in it.
    span: Range<usize>,
}

/// Collects the heads of the tables in a table.
fn heads(
    table: &dyn toml_edit::TableLike,
    before: &[(String, Option<usize>)],
    found: &mut Vec<(Steps, usize)>,
) -> Option<()> {
    for (name, item) in table.iter() {
        let step = |index| {
            let mut steps = before.to_vec();
            steps.push((name.to_owned(), index));
            steps
        };
        match item {
            Item::Table(table) => {
                let steps = step(None);
                if !table.is_implicit() && !table.is_dotted() {
                    found.push((steps.clone(), table.span()?.start));
                }
                heads(table, &steps, found)?;
            }
            Item::ArrayOfTables(tables) => {
                for (index, table) in tables.iter().enumerate() {
                    let steps = step(Some(index));
                    found.push((steps.clone(), table.span()?.start));
                    heads(table, &steps, found)?;
                }
            }
            _ => {}
        }
    }
    Some(())
}

/// Returns the parts of a text.
fn parts(text: &str) -> Option<Vec<Part>> {
    let document = Document::parse(text).ok()?;
    let mut found = Vec::new();
    heads(document.as_table(), &[], &mut found)?;
    found.sort_by_key(|(_, at)| *at);
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
    let begins: Vec<usize> = found.iter().map(|(_, at)| begin(*at)).collect();
    let end = |number: usize| {
        let (own, _) = &found[number];
        let is_other = |(steps, _): &&(Steps, usize)| !steps.starts_with(own);
        let next = found.iter().skip(number + 1).position(|head| is_other(&head));
        next.and_then(|next| begins.get(number + 1 + next)).copied().unwrap_or(text.len())
    };
    let ends: Vec<usize> = (0..found.len()).map(end).collect();
    let all = found.into_iter().zip(begins).zip(ends);
    Some(all.map(|(((steps, _), from), to)| Part { steps, span: from..to }).collect())
}

/// Returns the part of a section.
fn span(text: &str, place: &Place) -> Option<Range<usize>> {
    let is_it = |part: &Part| {
        let own = place.0.iter().map(|(name, index)| (*name, Some(*index)));
        part.steps.iter().map(|(name, index)| (name.as_str(), *index)).eq(own)
    };
    parts(text)?.into_iter().find(is_it).map(|part| part.span)
}

/// Returns the parts of the sections that are in no other.
fn spans(text: &str) -> Option<Vec<Range<usize>>> {
    let is_top = |part: &Part| part.steps.len() == 1 && part.steps[0].0 == "section";
    let all = parts(text)?.into_iter();
    Some(
        all.filter(|part| is_top(part) && part.steps[0].1.is_some())
            .map(|part| part.span)
            .collect(),
    )
}

/// Ends a part with exactly one empty line.
fn part(text: &str) -> String {
    format!("{}\n\n", text.trim_end())
}

/// Moves a section before the previous one, or behind the next one, of the same list.
///
/// # Errors
/// There is none.
pub(crate) fn shift(text: &str, place: &Place, is_up: bool) -> Result<String, NoSection> {
    let (name, index) = place.0.last().copied().ok_or(NoSection)?;
    let other = if is_up { index.checked_sub(1).ok_or(NoSection)? } else { index + 1 };
    let mut beside = place.clone();
    if let Some(last) = beside.0.last_mut() {
        *last = (name, other);
    }
    let own = span(text, place).ok_or(NoSection)?;
    let other = span(text, &beside).ok_or(NoSection)?;
    let (a, b) = if is_up { (other, own) } else { (own, other) };
    if a.end > b.start {
        return Err(NoSection);
    }
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

/// Removes a section with the comments before it and what is in it.
///
/// # Errors
/// There is none.
pub(crate) fn remove(text: &str, place: &Place) -> Result<String, NoSection> {
    let span = span(text, place).ok_or(NoSection)?;
    Ok(tidy(&format!("{}{}", &text[..span.start], &text[span.end..])))
}

/// Sections that are in a new one of these kinds, because it must contain some.
fn first(kind: &str) -> &'static [&'static str] {
    match kind {
        "per-monitor" => &["[[{}.section]]\nkind = \"availability-table\"\n"],
        "columns" => &[
            "[[{}.column]]\n\n[[{}.column.section]]\nkind = \"outages\"\n",
            "[[{}.column]]\n\n[[{}.column.section]]\nkind = \"alarms\"\n",
        ],
        _ => &[],
    }
}

/// Adds a section behind all others, or behind those in another one. Without a kind, a column is
/// added.
///
/// # Errors
/// The text is not valid TOML, or there is no such section.
pub(crate) fn add(
    text: &str,
    parent: Option<&Place>,
    (kind, values): (&str, &[(String, String)]),
) -> Result<String, NoSection> {
    let at = match parent {
        Some(parent) => span(text, parent).ok_or(NoSection)?.end,
        None => spans(text).ok_or(NoSection)?.last().map_or(text.len(), |last| last.end),
    };
    let mut names = parent.map(Place::names).unwrap_or_default();
    names.push(if kind.is_empty() { "column" } else { "section" });
    let names = names.join(".");
    let mut table = Table::new();
    if !kind.is_empty() {
        table.insert("kind", toml_edit::value(kind));
        apply(&mut table, kind, values);
    }
    let mut new = format!("[[{names}]]\n{table}");
    for inner in first(kind) {
        new = format!("{}{}", part(&new), inner.replace("{}", &names));
    }
    let before = if text[..at].trim().is_empty() { String::new() } else { part(&text[..at]) };
    Ok(tidy(&format!("{before}{}{}", part(&new), &text[at..])))
}

/// Sets the keys of a section; comments and tables in it are kept.
///
/// # Errors
/// There is none.
pub(crate) fn set(
    text: &str,
    place: &Place,
    values: &[(String, String)],
) -> Result<String, NoSection> {
    let span = span(text, place).ok_or(NoSection)?;
    let mut own: DocumentMut = text[span.clone()].parse().map_err(|_| NoSection)?;
    let mut table = own.as_table_mut();
    for name in place.names() {
        table = match table.get_mut(name).ok_or(NoSection)? {
            Item::Table(table) => table,
            Item::ArrayOfTables(tables) => tables.get_mut(0).ok_or(NoSection)?,
            _ => return Err(NoSection),
        };
    }
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
        let top = list(text).into_iter().filter(|section| section.place.depth() == 0);
        top.map(|section| section.kind).collect()
    }

    /// Places with kinds.
    fn places(text: &str) -> Vec<String> {
        let all = list(text).into_iter();
        all.map(|section| format!("{} {}", section.place, section.kind)).collect()
    }

    const NESTED: &str = "title = \"x\"\n\n[[section]]\nkind = \"columns\"\n\n[[section.column]]\n\n# Left.\n[[section.column.section]]\nkind = \"outages\"\nlimit = 3 # few\n\n[[section.column.section]]\nkind = \"alarms\"\n\n[[section.column]]\n[[section.column.section]]\nkind = \"distribution\"\n\n# Each.\n[[section]]\nkind = \"per-monitor\"\n[[section.section]]\nkind = \"text\"\ntext = \"a\"\n\n[schedule]\nevery = \"day\"\n";

    #[test]
    fn sections_in_others_are_changed_where_they_are() {
        let all = [
            "0 columns",
            "0.column.0 ",
            "0.column.0.section.0 outages",
            "0.column.0.section.1 alarms",
            "0.column.1 ",
            "0.column.1.section.0 distribution",
            "1 per-monitor",
            "1.section.0 text",
        ];
        assert_eq!(places(NESTED), all);
        assert!(list(NESTED).iter().all(|section| !section.is_nested));
        let place = |text: &str| Place::parse(text).expect("a place");
        for wrong in ["", "x", "0.column", "0.other.1", "-1", "0.section.x"] {
            assert_eq!(Place::parse(wrong), None, "{wrong}");
        }
        let values = [("limit".to_owned(), "5".to_owned())];
        let text = set(NESTED, &place("0.column.0.section.0"), &values).expect("set");
        assert_eq!(text, NESTED.replace("limit = 3", "limit = 5"));
        let moved = shift(NESTED, &place("0.column.0.section.0"), false).expect("moved");
        assert_eq!(
            places(&moved)[2..4],
            ["0.column.0.section.0 alarms", "0.column.0.section.1 outages"]
        );
        assert!(
            moved.contains("# Left.\n[[section.column.section]]\nkind = \"outages\""),
            "{moved}"
        );
        let moved = shift(NESTED, &place("0.column.1"), true).expect("moved");
        assert_eq!(places(&moved)[2], "0.column.0.section.0 distribution", "{moved}");
        assert!(shift(NESTED, &place("0.column.1.section.0"), true).is_err());
        let rest = remove(NESTED, &place("0.column.0")).expect("removed");
        assert_eq!(
            places(&rest)[..3],
            ["0 columns", "0.column.0 ", "0.column.0.section.0 distribution"]
        );
        assert!(rest.contains("# Each.") && !rest.contains("# Left."), "{rest}");
        let more = add(NESTED, Some(&place("0.column.0")), ("top", &values)).expect("added");
        assert_eq!(places(&more)[4], "0.column.0.section.2 top", "{more}");
        assert!(more.contains("[[section.column.section]]\nkind = \"top\"\nlimit = 5\n"), "{more}");
        let more = add(NESTED, Some(&place("1")), ("method", &[])).expect("added");
        assert_eq!(places(&more).last().map(String::as_str), Some("1.section.1 method"), "{more}");
        assert!(more.ends_with("[schedule]\nevery = \"day\"\n"), "{more}");
        let more = add(NESTED, Some(&place("0")), ("", &[])).expect("added");
        assert!(places(&more).contains(&"0.column.2 ".to_owned()), "{more}");
        for kind in ["columns", "per-monitor"] {
            let text = add("title = \"x\"\n", None, (kind, &[])).expect("added");
            assert!(places(&text).len() > 1, "{text}");
            let read = mailqos_report::definitions::of_text(None, "x", &text);
            assert!(
                read.is_ok(),
                "{text}: {}",
                read.err().map_or_else(String::new, |it| it.render(false))
            );
        }
        assert!(add(NESTED, Some(&place("7")), ("top", &[])).is_err());
    }

    #[test]
    fn sections_move_with_their_comments_and_tables() {
        assert_eq!(kinds(TEXT), ["text", "outages", "per-monitor"]);
        let moved = shift(TEXT, &Place::top(2), true).expect("moved");
        assert_eq!(kinds(&moved), ["text", "per-monitor", "outages"], "{moved}");
        assert!(
            moved
                .contains("# The group.\n[[section]]\nkind = \"per-monitor\"\n[[section.section]]"),
            "{moved}"
        );
        assert!(moved.ends_with("[schedule]\nevery = \"day\"\n"), "{moved}");
        let moved = shift(&moved, &Place::top(0), false).expect("moved");
        assert_eq!(kinds(&moved), ["per-monitor", "text", "outages"], "{moved}");
        assert!(moved.starts_with("# Head.\ntitle = \"x\"\n"), "{moved}");
        assert!(moved.contains("# The first.\n[[section]]\nkind = \"text\" # words"), "{moved}");
        for (index, is_up) in [(0, true), (2, false), (9, true), (9, false)] {
            assert!(shift(TEXT, &Place::top(index), is_up).is_err(), "{index}");
        }
        let rest = remove(TEXT, &Place::top(0)).expect("removed");
        assert_eq!(kinds(&rest), ["outages", "per-monitor"], "{rest}");
        assert!(!rest.contains("The first"), "{rest}");
        assert!(remove(TEXT, &Place::top(3)).is_err() && remove("x = ", &Place::top(0)).is_err());
    }

    #[test]
    fn options_are_written_as_their_declarations_say() {
        let values = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect()
        };
        let text =
            set(TEXT, &Place::top(1), &values(&[("limit", "5"), ("monitors", "a\r\ntag:b")]))
                .expect("set");
        assert!(text.contains("limit = 5\nmonitors = [\"a\", \"tag:b\"]"), "{text}");
        let text = set(&text, &Place::top(1), &values(&[("limit", ""), ("monitors", "a\ntag:b")]))
            .expect("set");
        assert!(!text.contains("limit") && text.contains("[\"a\", \"tag:b\"]"), "{text}");
        assert_eq!(set(TEXT, &Place::top(0), &values(&[])).expect("set"), TEXT, "nothing changes");
        let text = add(TEXT, None, ("top", &values(&[("unknown", "x"), ("limit", "many")])))
            .expect("added");
        assert_eq!(kinds(&text), ["text", "outages", "per-monitor", "top"], "{text}");
        assert!(
            text.ends_with("[schedule]\nevery = \"day\"\n") && !text.contains("unknown"),
            "{text}"
        );
        assert_eq!(kinds(&add("", None, ("method", &[])).expect("added")), ["method"]);
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
