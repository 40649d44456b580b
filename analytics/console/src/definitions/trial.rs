//! Trials: the running probe tests what is in the form, without saving it.

use std::convert::Infallible;

use axum::{
    body::{Body, Bytes},
    response::Response,
};
use futures_util::stream;
use mailqos_config::edit::Edit;
use mailqos_control::{
    ControlError,
    trial::{SecretText, TrialEvent, TrialPhase, TrialRequest, TrialResult, try_monitor},
};
use mailqos_model::Micros;
use mailqos_report::locale::Locale;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};

use super::{
    Failed,
    draft::Draft,
    save::{Author, compose},
    t, words,
};
use crate::{app::Shared, http::respond};

/// Trials at the same time, of all users.
static TRIALS: Semaphore = Semaphore::const_new(8);
/// Media type of a live trial: one JSON document per line.
pub(crate) const LINES: &str = "application/x-ndjson";
/// Width of the drawing of phases, in its own unit.
const WIDTH: f64 = 1_000.0;

/// Returns the request for a draft.
///
/// # Errors
/// Values can't be used, or the user must not test this.
pub(crate) fn request(
    app: &crate::app::App,
    author: &Author<'_>,
    draft: &Draft,
) -> Result<TrialRequest, Failed> {
    let secret = draft.account.as_ref().map(|account| format!("secrets/{}", account.name));
    let composed = compose(app, author, draft, secret.as_deref().unwrap_or_default())?;
    app.audit(author.ask, &author.viewer.name, ("monitor_tried", &draft.id, ""))?;
    let secrets = draft
        .account
        .iter()
        .map(|account| (account.name.clone(), SecretText(account.password.clone())));
    Ok(TrialRequest {
        monitor: draft.id.clone(),
        files: Edit::changed(&composed.edits),
        secrets: secrets.collect(),
        by: author.viewer.name.clone(),
    })
}

/// Returns why a trial was not possible.
pub(crate) fn failure(error: &ControlError, tag: &str) -> String {
    match error {
        ControlError::NotRunning { .. } => words(
            tag,
            t(
                "No probe is running at this site, and only a probe can test. Start it with: mailqos-probe run",
            ),
            &[],
        ),
        ControlError::NotAllowed { .. } => words(
            tag,
            t("The console may not connect to the probe. Run both as the same user."),
            &[],
        ),
        error => error.to_string(),
    }
}

/// Returns the phases as bars.
fn bars(phases: &[TrialPhase], locale: &Locale) -> Vec<Value> {
    let end = phases.iter().map(|phase| phase.begin + phase.took).max().unwrap_or(1).max(1) as f64;
    let bar = |phase: &TrialPhase| {
        let x = phase.begin as f64 / end * WIDTH;
        let width = (phase.took as f64 / end * WIDTH).max(3.0);
        let part = match phase.part.as_str() {
            "smtp" => "SMTP".to_owned(),
            "transit" => words(locale.tag(), t("Mail"), &[]),
            _ => words(locale.tag(), t("Pick-up"), &[]),
        };
        json!({
            "part": part, "class": phase.part, "name": phase.name,
            "x": format!("{:.1}", x.min(WIDTH - width)), "width": format!("{width:.1}"),
            "took": format!("{} ms", (phase.took as f64 / 1_000.0).round()),
        })
    };
    phases.iter().map(bar).collect()
}

/// Returns the result of a trial as a page shows it.
fn shown(result: &TrialResult, locale: &Locale) -> Value {
    json!({
        "ok": result.ok, "is_over": true, "verdict": result.verdict, "remedy": result.remedy,
        "notes": result.notes, "phases": bars(&result.phases, locale),
    })
}

/// Returns a trial that was not possible.
fn impossible(error: &ControlError, tag: &str) -> Value {
    json!({
        "ok": false, "is_over": true, "verdict": failure(error, tag), "notes": [], "phases": [],
    })
}

/// Runs a trial to its end, for browsers without script. Blocks.
pub(crate) fn run(app: &crate::app::App, request: TrialRequest, locale: &Locale) -> Value {
    match result(app, request, locale.tag()) {
        Ok(result) => shown(&result, locale),
        Err(error) => impossible(&error, locale.tag()),
    }
}

/// Runs a trial to its end. Blocks.
///
/// # Errors
/// Too many trials run, or no probe carries it out.
pub(crate) fn result(
    app: &crate::app::App,
    request: TrialRequest,
    tag: &str,
) -> Result<TrialResult, ControlError> {
    let Ok(_permit) = TRIALS.try_acquire() else {
        let text = words(tag, t("Too many trials are running. Try again in a minute."), &[]);
        return Err(ControlError::Refused(text));
    };
    let mut last = None;
    let config = app.config();
    let trial = try_monitor(&config, request, |event| {
        if let TrialEvent::Done(result) = event {
            last = Some(result);
        }
    });
    tokio::runtime::Handle::current().block_on(trial)?;
    Ok(last.unwrap_or_default())
}

/// Returns the request for a monitor as it is saved.
pub(crate) fn request_saved(id: &str, by: &str) -> TrialRequest {
    TrialRequest {
        monitor: id.to_owned(),
        files: mailqos_config::Overlay::default(),
        secrets: std::collections::BTreeMap::new(),
        by: by.to_owned(),
    }
}

/// Runs a trial, and streams what happens as parts of the page. The test stops if the browser goes
/// away.
pub(crate) fn stream(app: &Shared, request: TrialRequest, locale: Locale) -> Response {
    let (send, receive) = mpsc::channel::<Bytes>(64);
    let app = std::sync::Arc::clone(app);
    tokio::spawn(async move {
        let tag = locale.tag().to_owned();
        let line = |trial: &Value| -> Bytes {
            let mut values = serde_json::Map::new();
            values.insert("trial".to_owned(), trial.clone());
            let html = app.pages.page("trial", &locale, None, &values);
            let html = html
                .inspect_err(|error| tracing::error!(%error, "console: a page can't be rendered"));
            let line = json!({"html": html.unwrap_or_default(), "is_over": trial["is_over"]});
            format!("{line}\n").into()
        };
        let Ok(_permit) = TRIALS.try_acquire() else {
            let error = ControlError::Refused(words(
                &tag,
                t("Too many trials are running. Try again in a minute."),
                &[],
            ));
            let _ = send.send(line(&impossible(&error, &tag))).await;
            return;
        };
        let mut known =
            json!({"ok": false, "is_over": false, "plan": "", "phases": [], "notes": []});
        let config = app.config();
        let trial = try_monitor(&config, request, |event| {
            match event {
                TrialEvent::Started { plan } => known["plan"] = plan.into(),
                TrialEvent::Sent { phases } => {
                    known["phases"] = bars(&phases, &locale).into();
                    known["is_sent"] = true.into();
                }
                TrialEvent::Waiting { took } => {
                    // Whole seconds.
                    let took = Micros::from_secs(took / 1_000_000);
                    known["took"] = locale.span(took).into();
                }
                TrialEvent::Done(result) => known = shown(&result, &locale),
            }
            // A browser that reads slowly misses something in between, but not the result.
            if known["is_over"] == true || send.capacity() > 1 {
                let _ = send.try_send(line(&known));
            }
        });
        tokio::select! {
            done = trial => if let Err(error) = done {
                let _ = send.send(line(&impossible(&error, &tag))).await;
            },
            () = send.closed() => {}
        }
    });
    let lines = stream::unfold(receive, |mut receive| async move {
        let line = receive.recv().await?;
        Some((Ok::<_, Infallible>(line), receive))
    });
    let mut response = respond::response(200, LINES, Body::from_stream(lines));
    let no = hyper::header::HeaderValue::from_static("no");
    response.headers_mut().insert("x-accel-buffering", no);
    response
}
