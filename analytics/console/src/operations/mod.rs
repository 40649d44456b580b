//! What operators do: acknowledge alarms, plan and declare maintenance, simulate failures, try
//! action lists. Pages and the API share these; the running probe carries them out.

pub(crate) mod alarms;
pub(crate) mod maintenance;

use std::{collections::BTreeSet, time::Duration};

use mailqos_control::{ControlError, Request};
use mailqos_model::UtcMicros;
use mailqos_report::locale::Locale;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    access::{users::Role, viewer::Viewer},
    app::{App, Refusal},
    http::request::Ask,
    language::{fill, text},
};

/// Longest note or reason, in characters.
const MAX_TEXT: usize = 500;
/// Longest wait for the probe when a page only shows what it knows.
const QUICK: Duration = Duration::from_secs(3);

/// A value that can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Name of the field.
    pub(crate) field: &'static str,
    /// English text, the key of its translations.
    pub(crate) text: &'static str,
    /// Its variable `{0}`.
    pub(crate) value: String,
}

impl Problem {
    fn new(field: &'static str, text: &'static str) -> Self {
        Self { field, text, value: String::new() }
    }

    /// Returns the text in a language.
    pub(crate) fn words(&self, tag: &str) -> String {
        fill(tag, self.text, &[&self.value])
    }
}

/// Marks a text as one that is translated.
const fn t(english: &'static str) -> &'static str {
    english
}

/// Reasons why an operation was not performed.
#[derive(Debug)]
pub(crate) enum Failed {
    /// Values can't be used.
    Problems(Vec<Problem>),
    /// The probe is not running, or rejects the request.
    Probe(ControlError),
    /// The request is refused.
    Refusal(Refusal),
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        Self::Problems(vec![problem])
    }
}

/// Result of an operation.
pub(crate) type Done<T> = Result<T, Failed>;

/// Checks that a user may do what operators do.
///
/// # Errors
/// It may only look.
pub(crate) fn require_operator(viewer: &Viewer) -> Result<(), Refusal> {
    if viewer.role >= Role::Operator { Ok(()) } else { Err(Refusal::Forbidden) }
}

/// Asks the probe for something that changes nothing.
///
/// # Errors
/// It is not running, or does not answer in time.
pub(crate) fn look<T: DeserializeOwned>(app: &App, request: &Request) -> Result<T, ControlError> {
    let runtime = tokio::runtime::Handle::current();
    runtime.block_on(mailqos_control::ask_within(&app.config(), request, QUICK))
}

/// Lets the probe carry out a change, which is in the audit log before it is made.
fn change<T: DeserializeOwned>(
    app: &App,
    ask: &Ask,
    viewer: &Viewer,
    (action, subject, detail): (&str, &str, &str),
    request: &Request,
) -> Done<T> {
    app.audit(ask, &viewer.name, (action, subject, detail))?;
    let runtime = tokio::runtime::Handle::current();
    let answer = runtime.block_on(mailqos_control::ask(&app.config(), request));
    if let Err(error) = &answer {
        app.audit(ask, &viewer.name, ("change_failed", subject, &error.to_string()))?;
    }
    answer.map_err(Failed::Probe)
}

/// Returns the ids of the monitors of this console's probe that a viewer sees.
pub(crate) fn visible(app: &App, viewer: &Viewer) -> BTreeSet<String> {
    let config = app.config();
    let board = app.keeper.board();
    let own = board.entries.iter().filter(|entry| *entry.site == *config.site.as_str());
    own.filter(|entry| viewer.sees(entry)).map(|entry| entry.id.to_string()).collect()
}

/// Returns the selections to send to the probe. For a restricted viewer these are the ids of
/// monitors that it sees: others don't exist for it, whatever the pattern. An empty list means all.
fn selections(app: &App, viewer: &Viewer, patterns: &[String]) -> Result<Vec<String>, Problem> {
    let config = app.config();
    let visible = visible(app, viewer);
    let seen = config.monitors.values().filter(|monitor| visible.contains(monitor.id.as_str()));
    let seen: Vec<_> = seen.collect();
    let mut ids = BTreeSet::new();
    for pattern in patterns {
        let mut found = seen.iter().filter(|monitor| monitor.is_selected(pattern)).peekable();
        if found.peek().is_none() {
            let text = t("{0} matches no monitor.");
            return Err(Problem { value: pattern.clone(), ..Problem::new("monitors", text) });
        }
        ids.extend(found.map(|monitor| monitor.id.to_string()));
    }
    if viewer.sees_all() {
        return Ok(patterns.to_vec());
    }
    if patterns.is_empty() {
        ids.extend(seen.iter().map(|monitor| monitor.id.to_string()));
    }
    if ids.is_empty() {
        return Err(Problem::new("monitors", t("There are no monitors yet.")));
    }
    Ok(ids.into_iter().collect())
}

/// Returns the monitors that a form names: those that are ticked, and those that are typed,
/// separated by commas or spaces.
pub(crate) fn named(ask: &Ask) -> Vec<String> {
    let typed = ask.form.text("monitors").split([',', ' ', '\n', '\r', '\t']);
    let all = ask.form.all("monitor").chain(typed).map(str::trim);
    all.filter(|pattern| !pattern.is_empty()).map(str::to_owned).collect()
}

/// Returns a text as a single line; `None` if it is empty.
fn line(typed: &str, field: &'static str) -> Result<Option<String>, Problem> {
    let text: String = typed.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let text = text.trim();
    if text.chars().count() > MAX_TEXT {
        return Err(Problem::new(field, t("At most 500 characters.")));
    }
    Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
}

/// Explains why the probe did not perform a request, with a remedy. Only those who
/// see all monitors learn paths and errors.
pub(crate) fn explain(app: &App, viewer: &Viewer, error: &ControlError, locale: &Locale) -> String {
    let tag = locale.tag();
    let config = app.config();
    let board = app.keeper.board();
    let written = board.probes.iter().find(|probe| *probe.site == *config.site.as_str());
    let age = written.and_then(|probe| probe.written_at).map(|at| UtcMicros::now() - at);
    match error {
        ControlError::NotRunning { .. } => {
            let mut words = text(tag, "The probe is not running, so nothing can be changed.").to_owned();
            if let Some(age) = age {
                let seconds = mailqos_model::Micros::from_secs(age.0.max(0) / 1_000_000);
                words.push(' ');
                words.push_str(&fill(tag, "Its last status is {0} old.", &[&locale.span(seconds)]));
            }
            format!("{words} {}", text(tag, "Start it with: mailqos-probe run"))
        }
        ControlError::NotAllowed { .. } => text(
            tag,
            "The console has no access to the probe: run both programs as the same user.",
        )
        .to_owned(),
        ControlError::Silent(_) => text(
            tag,
            "The probe did not answer, so it is unknown whether the change was made. Reload the page in a minute.",
        )
        .to_owned(),
        ControlError::Refused(reason) => fill(tag, "The probe rejected the change: {0}", &[reason]),
        _ if viewer.sees_all() => fill(tag, "The probe rejected the change: {0}", &[&error.to_string()]),
        _ => text(tag, "This is not available at the moment. Try again in a minute.").to_owned(),
    }
}

/// A problem with a field, as the API reports it.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(crate) struct FieldProblem {
    /// Name of the key.
    pub(crate) field: &'static str,
    /// The reason, in English.
    pub(crate) error: String,
}
