//! Targets of reports, and the test of one: what `targets test` does.

use std::{sync::Mutex, time::Duration};

use mailqos_base::lock::IgnorePoison as _;
use mailqos_delivery::{Trial, describe, try_out};
use mailqos_model::Name;
use serde_json::{Value, json};

use super::require;
use crate::{
    access::viewer::Viewer,
    app::{Answer, App, Refusal},
    http::{request::Ask, respond},
    language::text,
    render::values,
};

/// Targets that are tried at the same time.
const MAX_RUNNING: usize = 2;
/// Longest test of a target.
const MAX_TIME: Duration = Duration::from_secs(120);

/// Targets that are being tried.
static RUNNING: Mutex<usize> = Mutex::new(0);

/// A place among those that try targets; freed when dropped.
struct Place;

impl Place {
    fn take() -> Option<Self> {
        let mut running = RUNNING.lock().ignore_poison();
        (*running < MAX_RUNNING).then(|| {
            *running += 1;
            Self
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *RUNNING.lock().ignore_poison() -= 1;
    }
}

/// Shows the page.
pub(crate) fn show(app: &App, ask: &Ask) -> Answer {
    page(app, ask, None)
}

fn page(app: &App, ask: &Ask, result: Option<Value>) -> Answer {
    let viewer = require(app, ask)?;
    if !viewer.operates_reports() {
        return Err(Refusal::NotFound);
    }
    let config = app.config();
    let targets: Vec<Value> = config
        .targets
        .iter()
        .map(|(name, target)| json!({"name": name.as_str(), "about": describe(target)}))
        .collect();
    let found = values([
        ("active", json!("reports")),
        ("part", json!("targets")),
        ("targets", json!(targets)),
        ("result", result.unwrap_or(Value::Null)),
    ]);
    Ok(respond::html(200, app.page("report-targets", ask, Some(&viewer), &found)?))
}

/// Tries a target.
pub(crate) fn send(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require_form(ask)?;
    let name = ask.form.text("target");
    let trial = attempt(app, ask, &viewer, name)?;
    let findings: Vec<Value> = trial
        .findings
        .iter()
        .map(|one| json!({"what": one.what, "supported": one.supported, "words": one.words}))
        .collect();
    let result = json!({
        "target": name, "works": trial.works, "summary": trial.summary, "findings": findings,
    });
    page(app, ask, Some(result))
}

/// Tries a target of the configuration; a failure is a result, too.
pub(crate) fn attempt(app: &App, ask: &Ask, viewer: &Viewer, name: &str) -> Result<Trial, Refusal> {
    if !viewer.operates_reports() {
        return Err(Refusal::NotFound);
    }
    let config = app.config();
    let name: Name = name.parse().map_err(|_| Refusal::NotFound)?;
    if !config.targets.contains_key(&name) {
        return Err(Refusal::NotFound);
    }
    let tag = app.locale(ask, Some(viewer)).tag();
    let failed = |summary: String| Trial { works: false, summary, findings: Vec::new() };
    let Some(_place) = Place::take() else {
        let busy = text(tag, "Other targets are being tried. Try again in a minute.");
        return Ok(failed(busy.to_owned()));
    };
    app.audit(ask, &viewer.name, ("target_tried", name.as_str(), ""))?;
    // Pages run on threads that may block.
    let runtime = tokio::runtime::Handle::current();
    let trial =
        runtime.block_on(async { tokio::time::timeout(MAX_TIME, try_out(&config, &name)).await });
    Ok(match trial {
        Ok(Ok(trial)) => trial,
        Ok(Err(error)) => failed(error.to_string()),
        Err(_) => failed(text(tag, "The target did not answer within two minutes.").to_owned()),
    })
}
