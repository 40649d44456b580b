//! Problems of the configuration, with the fields that they are about.

use mailqos_config::{
    Problem, Problems, Severity,
    edit::Edit,
    form::{self, Field},
};

use super::draft::Draft;
use crate::language::message;

/// A problem of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldProblem {
    /// Path of the field; empty for the form as a whole.
    pub(crate) field: String,
    /// What is wrong.
    pub(crate) text: String,
    /// What to do.
    pub(crate) help: Option<String>,
}

impl FieldProblem {
    /// Returns a problem without a remedy.
    pub(crate) fn new(field: &str, text: impl Into<String>) -> Self {
        Self { field: field.to_owned(), text: text.into(), help: None }
    }
}

/// Returns a problem's text with its first letter in upper case, as the start of a sentence.
pub(crate) fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string());
    format!("{}{}", first.unwrap_or_default(), letters.as_str())
}

impl FieldProblem {
    /// Returns a problem of the configuration, in the language of the page.
    pub(crate) fn of(problem: &Problem, field: String, tag: &str) -> Self {
        let said = |text: &str| sentence(&message(tag, text));
        let help = problem.help.as_deref().map(said);
        Self { field, text: said(&problem.message), help }
    }
}

/// Finds the field of a problem: by its position in the files, or else by its key.
fn field_of(
    problem: &Problem,
    draft: &Draft,
    (edits, fields): (&[Edit], &[Field]),
) -> Option<String> {
    let known = |path: &str| fields.iter().any(|field| field.path == path);
    let (source, span, _) = problem.place.as_ref()?;
    let edit = edits.iter().find(|edit| edit.path() == source.path)?;
    let text = edit.document.to_string();
    let at = |kind: &str, name: &str| form::locate(&text, (kind, name), span.start);
    if let Some(path) = at("monitor", &draft.id) {
        if known(&path) {
            return Some(path);
        }
        let before = if path.is_empty() { String::new() } else { format!("{path}.") };
        // `"account" is missing` names a key in the table.
        let quoted = problem.message.split('"').skip(1).step_by(2);
        let keys = problem.key.into_iter().chain(quoted);
        let mut paths = keys.map(|key| format!("{before}{key}"));
        let first = fields.iter().find(|field| field.path.starts_with(&before));
        let fallback = || {
            if before.is_empty() {
                Some("id".to_owned())
            } else {
                first.map(|field| field.path.clone())
            }
        };
        return paths.find(|path| known(path)).or_else(fallback);
    }
    if let Some(object) = &draft.object
        && let Some(path) = at("object", &object.id)
    {
        let path = if path.is_empty() { problem.key.unwrap_or("id").to_owned() } else { path };
        return Some(format!("object.{path}"));
    }
    if let Some(account) = &draft.account
        && let Some(path) = at("account", &account.name)
    {
        let path = if path == "user" { "user" } else { "name" };
        return Some(format!("account.{path}"));
    }
    // An inherited value that does not fit what was typed.
    let key = problem.key?;
    ["", "smtp.", "pickup."].iter().map(|table| format!("{table}{key}")).find(|path| known(path))
}

/// Places the problems that a change causes at its fields; `before` are those that the files
/// have without it.
pub(crate) fn place(
    found: &Problems,
    before: Option<&Problems>,
    (draft, tag): (&Draft, &str),
    (edits, fields): (&[Edit], &[Field]),
) -> Vec<FieldProblem> {
    let is_old = |problem: &Problem| {
        before.is_some_and(|before| before.iter().any(|old| old.message == problem.message))
    };
    let errors = found.iter().filter(|problem| problem.severity == Severity::Error);
    let mut placed: Vec<FieldProblem> = errors
        .filter(|problem| !is_old(problem))
        .map(|problem| {
            let field = field_of(problem, draft, (edits, fields)).unwrap_or_default();
            FieldProblem::of(problem, field, tag)
        })
        .collect();
    placed.dedup();
    placed
}

/// Returns the warnings about a monitor, each with its field.
pub(crate) fn warnings(
    found: &Problems,
    (draft, tag): (&Draft, &str),
    (edits, fields): (&[Edit], &[Field]),
) -> Vec<FieldProblem> {
    let own = |problem: &&Problem| {
        problem.severity == Severity::Warning
            && problem.place.as_ref().is_some_and(|(source, span, _)| {
                edits.iter().find(|edit| edit.path() == source.path).is_some_and(|edit| {
                    let text = edit.document.to_string();
                    form::locate(&text, ("monitor", &draft.id), span.start).is_some()
                })
            })
    };
    let own = found.iter().filter(own);
    own.map(|problem| {
        let field = field_of(problem, draft, (edits, fields)).unwrap_or_default();
        FieldProblem::of(problem, field, tag)
    })
    .collect()
}
