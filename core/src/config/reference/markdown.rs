//! The reference as Markdown.

use std::fmt::Write as _;

use super::{Key, Reference, Takes};

/// The tables of a reference, each with its keys.
pub fn markdown(reference: &Reference) -> String {
    let mut text = String::new();
    for (number, shape) in reference.tables.iter().enumerate() {
        let head = if number == 0 {
            shape.head.to_owned()
        } else {
            format!("`{}`", shape.head)
        };
        let _ = write!(text, "\n## {head}\n\n{}\n\n", shape.about);
        text.push_str("| key | takes | unless said | meaning |\n| --- | --- | --- | --- |\n");
        for key in shape.keys() {
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} |",
                key.name,
                cell(&takes(key, reference)),
                cell(&unless(key)),
                cell(key.about)
            );
        }
    }
    text
}

/// A text as a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn unless(key: &Key) -> String {
    match (key.default, key.otherwise) {
        (Some(value), _) => format!("`{value}`"),
        (None, Some(words)) => words.to_owned(),
        (None, None) if key.required => "**must be said**".to_owned(),
        (None, None) => "–".to_owned(),
    }
}

fn takes(key: &Key, reference: &Reference) -> String {
    match key.takes {
        Takes::Words(words) => {
            let words: Vec<String> = words.iter().map(|word| format!("`\"{word}\"`")).collect();
            words.join(", ")
        }
        Takes::Table(ids) | Takes::Tables(ids) | Takes::Named(ids) => {
            let links: Vec<String> = reference
                .tables
                .iter()
                .filter(|shape| ids.contains(&shape.id))
                .map(|shape| format!("[`{}`](#{})", shape.head, anchor(shape.head)))
                .collect();
            links.join(", ")
        }
        Takes::Secret => "a [secret](#secrets)".to_owned(),
        Takes::TextOrSecret => "a text in quotes, or a [secret](#secrets)".to_owned(),
        ref other => other.words(),
    }
}

/// The anchor that a heading gets: small letters, blanks as hyphens, other signs left out.
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
