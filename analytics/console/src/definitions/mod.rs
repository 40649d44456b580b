//! Definitions: objects and monitors of the configuration files, as forms show and change them. The
//! files remain the source of truth: forms are filled from them, and saved to them by the editor
//! that the commands use.

pub(crate) mod accounts;
pub(crate) mod draft;
pub(crate) mod json;
pub(crate) mod labels;
pub(crate) mod problems;
pub(crate) mod save;
pub(crate) mod scope;
pub(crate) mod trial;
pub(crate) mod view;

use mailqos_config::edit::EditError;
use mailqos_control::{ControlError, Request, response::Reloaded};

use crate::{
    app::{App, Refusal},
    language::{fill, text},
};
use problems::FieldProblem;

/// Marks a text as one that is translated.
pub(crate) const fn t(english: &'static str) -> &'static str {
    english
}

/// Reasons why a change was not made.
#[derive(Debug)]
pub(crate) enum Failed {
    /// Values can't be used.
    Problems(Vec<FieldProblem>),
    /// Someone else changed the definition after the form was opened.
    Conflict,
    /// The definition no longer exists.
    Gone,
    /// The files are not valid, with their problems.
    Broken(String),
    /// The request is refused.
    Refusal(Refusal),
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

impl From<EditError> for Failed {
    fn from(error: EditError) -> Self {
        match error {
            EditError::Changed(_) => Self::Conflict,
            EditError::Unknown { .. } => Self::Gone,
            error => Self::Broken(error.to_string()),
        }
    }
}

/// Returns a text in the language of a page, with its variables filled in.
pub(crate) fn words(tag: &str, english: &'static str, values: &[&str]) -> String {
    if values.is_empty() { text(tag, english).to_owned() } else { fill(tag, english, values) }
}

/// Asks the running probe to apply the configuration. Returns the word for the notice of the next
/// page.
pub(crate) fn reload_probe(app: &App) -> &'static str {
    let runtime = tokio::runtime::Handle::current();
    let config = app.config();
    match runtime.block_on(mailqos_control::ask::<Reloaded>(&config, &Request::Reload)) {
        Ok(_) => "applied",
        Err(ControlError::NotRunning { .. } | ControlError::NotAllowed { .. }) => "saved",
        Err(error) => {
            tracing::warn!(%error, "console: the probe has not applied the configuration");
            "refused"
        }
    }
}
