//! The reference as Markdown.

use std::fmt::Write as _;

use super::{Key, Reference, ValueKind};

/// Maximum number of tables that are linked individually.
const MAX_LINKS: usize = 12;

/// Formats the tables of a reference, each with its keys.
pub fn markdown(reference: &Reference) -> String {
    let mut text = String::new();
    for shape in reference.tables {
        let head = if shape.head.starts_with('[') {
            format!("`{}`", shape.head)
        } else {
            shape.head.to_owned()
        };
        let _ = write!(text, "\n## {head}\n\n{}\n\n", shape.about.trim());
        text.push_str("| key | type | default | meaning |\n| --- | --- | --- | --- |\n");
        for key in shape.keys() {
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} |",
                key.name,
                cell(&takes(key, reference)),
                cell(&unless(key)),
                cell(&key.meaning())
            );
        }
    }
    text
}

/// Formats a text as a table cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn unless(key: &Key) -> String {
    match (key.default, key.otherwise) {
        (Some(value), _) => format!("`{value}`"),
        (None, Some(words)) => words.to_owned(),
        (None, None) if key.required => "**required**".to_owned(),
        (None, None) => "–".to_owned(),
    }
}

fn takes(key: &Key, reference: &Reference) -> String {
    match key.takes {
        ValueKind::Words(words) => {
            let words: Vec<String> = words.iter().map(|word| format!("`\"{word}\"`")).collect();
            words.join(", ")
        }
        ValueKind::Table(ids)
        | ValueKind::NamesOrTables(ids)
        | ValueKind::Tables(ids)
        | ValueKind::Named(ids) => links(ids, reference),
        ValueKind::NameOrTable(ids) => format!("a name, or {}", links(ids, reference)),
        ValueKind::Secret => "a [secret](#secrets)".to_owned(),
        ValueKind::TextOrSecret => "a quoted string, or a [secret](#secrets)".to_owned(),
        ref other => other.words(),
    }
}

/// Formats links to tables. If there are many, only the first one is linked, and the others follow
/// it.
fn links(ids: &[&str], reference: &Reference) -> String {
    let links: Vec<String> = reference
        .tables
        .iter()
        .filter(|shape| ids.contains(&shape.id))
        .map(|shape| format!("[`{}`](#{})", shape.head, anchor(shape.head)))
        .collect();
    match links.as_slice() {
        [first, ..] if links.len() > MAX_LINKS => {
            format!("tables of {} kinds, see {first}", links.len())
        }
        _ => links.join(", "),
    }
}

/// Returns the anchor of a heading: lower case, hyphens for spaces, other characters removed.
fn anchor(head: &str) -> String {
    head.to_lowercase()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || matches!(c, '-' | '_') => Some(c),
            _ => None,
        })
        .collect()
}
