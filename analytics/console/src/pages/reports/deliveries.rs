//! Deliveries of reports: those that wait, those that were given up, and the ledger.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
};

use mailqos_config::Config;
use mailqos_delivery::outbox::{Again, Entry, Line, Named, Order, Outbox, OutboxError, StoredFile};
use mailqos_model::UtcMicros;
use mailqos_report::{
    archive::Archive,
    locale::{DASH, Locale},
};
use serde_json::{Value, json};

use super::require;
use crate::{
    access::viewer::Viewer,
    app::{Answer, App, Refusal},
    http::{request::Ask, respond},
    language::{fill, text},
    render::values,
};

/// Entries of the ledger on the page.
const MAX_ENTRIES: usize = 200;

fn failed(error: OutboxError) -> Refusal {
    Refusal::Internal(format!("the outbox: {error}"))
}

/// Returns a moment of the ledger in words.
fn moment(iso: &str, locale: &Locale) -> String {
    let at = iso.parse::<jiff::Timestamp>();
    at.map_or_else(|_| DASH.to_owned(), |at| locale.moment_in_period(at.into()))
}

/// Returns the values of a delivery that has arrived.
pub(super) fn delivered(entry: &Entry, locale: &Locale) -> Value {
    let refused: Vec<String> =
        entry.refused.iter().map(|(who, reply)| format!("{who}: {reply}")).collect();
    json!({
        "at": moment(&entry.delivered_at, locale), "iso": entry.delivered_at,
        "target": entry.target, "report": entry.report, "places": entry.places,
        "files": entry.files.iter().map(|file| &file.name).collect::<Vec<_>>(),
        "reply": entry.reply, "refused": refused, "attempts": entry.attempts,
        "id": entry.id, "is_again": !entry.repeats.is_empty(),
    })
}

fn pending(order: &Order, locale: &Locale) -> Value {
    json!({
        "id": order.id, "target": order.target, "report": order.report,
        "files": order.files.iter().map(|file| &file.name).collect::<Vec<_>>(),
        "attempts": order.attempts, "error": order.last_error,
        "ordered": locale.moment_in_period(UtcMicros(order.ordered_at)),
        "next": locale.moment_in_period(UtcMicros(order.next_attempt_at)),
    })
}

/// Shows the page.
pub(crate) fn show(app: &App, ask: &Ask) -> Answer {
    page(app, ask, "")
}

fn page(app: &App, ask: &Ask, problem: &str) -> Answer {
    let viewer = require(app, ask)?;
    let locale = app.locale(ask, Some(&viewer));
    let outbox = Outbox::open(&app.config()).map_err(failed)?;
    let rows = |orders: Vec<Order>| -> Vec<Value> {
        orders.iter().map(|order| pending(order, &locale)).collect()
    };
    let lines = outbox.ledger().map_err(failed)?;
    let repeatable = if viewer.operates_reports() {
        repeatable(&app.config(), &outbox)?
    } else {
        BTreeSet::new()
    };
    let ledger: Vec<Value> = lines
        .iter()
        .rev()
        .take(MAX_ENTRIES)
        .map(|line| match line {
            Line::Delivered(entry) => {
                let mut row = delivered(entry, &locale);
                row["may_repeat"] = json!(repeatable.contains(&entry.id));
                row
            }
            Line::Removed(removal) => json!({
                "at": moment(&removal.removed_at, &locale), "iso": removal.removed_at,
                "target": removal.target, "report": "", "files": [removal.path()],
                "removed": true,
            }),
        })
        .collect();
    let found = values([
        ("active", json!("reports")),
        ("part", json!("deliveries")),
        ("problem", json!(problem)),
        ("waiting", json!(rows(outbox.waiting().map_err(failed)?))),
        ("given_up", json!(rows(outbox.given_up().map_err(failed)?))),
        ("ledger", json!(ledger)),
        ("may_retry", json!(viewer.operates_reports())),
    ]);
    let status = if problem.is_empty() { 200 } else { 409 };
    Ok(respond::html(status, app.page("report-deliveries", ask, Some(&viewer), &found)?))
}

/// Retries a delivery, or removes it from the outbox.
pub(crate) fn send(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require_form(ask)?;
    if !viewer.operates_reports() {
        return Err(Refusal::NotFound);
    }
    let tag = app.locale(ask, Some(&viewer)).tag();
    let wanted = (ask.form.text("id"), ask.form.text("action"));
    match wanted.1 {
        "again" => return confirm(app, ask, &viewer, wanted.0),
        "again-confirmed" => return repeat(app, ask, &viewer, wanted.0),
        _ => {}
    }
    match change(app, ask, &viewer, wanted) {
        Ok(()) => Ok(respond::redirect("/reports/deliveries")),
        Err(Refusal::NotFound) => {
            page(app, ask, text(tag, "This delivery is no longer in the outbox."))
        }
        Err(Refusal::Unavailable(_)) => page(
            app,
            ask,
            text(tag, "A delivery to this target is in progress. Try again in a moment."),
        ),
        Err(refusal) => Err(refusal),
    }
}

/// Returns the ids of delivered reports that can be sent again: all of their files are in the
/// archive.
fn repeatable(config: &Config, outbox: &Outbox) -> Result<BTreeSet<String>, Refusal> {
    let files = archived(config)?;
    let sent = outbox.sent_reports().map_err(failed)?;
    let is_there = |file: &StoredFile| {
        let path = files.get(&file.sha256);
        path.is_some_and(|path| std::fs::metadata(path).is_ok_and(|about| about.len() == file.size))
    };
    let has_target =
        |order: &Order| config.targets.keys().any(|name| name.as_str() == order.target);
    let all = sent.into_iter();
    let all = all.filter(|(_, order)| has_target(order) && order.files.iter().all(is_there));
    Ok(all.map(|(id, _)| id).collect())
}

/// Returns the files of the archive by their SHA-256.
fn archived(config: &Config) -> Result<HashMap<String, PathBuf>, Refusal> {
    let reports = Archive::new(config).reports();
    let reports =
        reports.map_err(|error| Refusal::Internal(format!("the archive of reports: {error}")))?;
    let files = reports.into_iter().flat_map(|report| report.files);
    Ok(files.map(|file| (file.sha256, file.path)).collect())
}

/// Asks whether a delivery that has arrived is to be sent again.
fn confirm(app: &App, ask: &Ask, viewer: &Viewer, id: &str) -> Answer {
    let locale = app.locale(ask, Some(viewer));
    let outbox = Outbox::open(&app.config()).map_err(failed)?;
    let sent: BTreeMap<String, Order> = outbox.sent_reports().map_err(failed)?;
    let lines = outbox.ledger().map_err(failed)?;
    let entry = lines.iter().rev().find_map(|line| match line {
        Line::Delivered(entry) if entry.id == id && sent.contains_key(id) => Some(entry),
        _ => None,
    });
    let Some(entry) = entry else {
        let gone = text(locale.tag(), "This delivery can no longer be sent again.");
        return page(app, ask, gone);
    };
    let found = values([
        ("active", json!("reports")),
        ("entry", delivered(entry, &locale)),
        // The same confirmation, sent twice, delivers once.
        ("occasion", json!(UtcMicros::now().0.to_string())),
    ]);
    Ok(respond::html(200, app.page("report-again", ask, Some(viewer), &found)?))
}

/// Sends a delivery again that has arrived.
fn repeat(app: &App, ask: &Ask, viewer: &Viewer, id: &str) -> Answer {
    let tag = app.locale(ask, Some(viewer)).tag();
    let config = app.config();
    let outbox = Outbox::open(&config).map_err(failed)?;
    if !repeatable(&config, &outbox)?.contains(id) {
        let gone = text(tag, "This delivery can no longer be sent again.");
        return page(app, ask, gone);
    }
    // Before it is ordered: what is not in the audit log is not done.
    app.audit(ask, &viewer.name, ("delivery_repeated", id, ""))?;
    let files = archived(&config)?;
    let find = |file: &StoredFile| files.get(&file.sha256).cloned();
    let occasion = ask.form.text("occasion");
    match outbox.send_again(id, (occasion, UtcMicros::now()), find).map_err(failed)? {
        Again::Waits(_) => Ok(respond::redirect("/reports/deliveries")),
        Again::Unknown => page(app, ask, text(tag, "This delivery can no longer be sent again.")),
        Again::FilesGone(names) => {
            let words = "These files have changed since, or are no longer in the archive: {0}";
            page(app, ask, &fill(tag, words, &[&names.join(", ")]))
        }
    }
}

/// Retries or removes a delivery: `retry` or `drop`.
///
/// # Errors
/// It is not in the outbox, or is being delivered.
pub(crate) fn change(
    app: &App,
    ask: &Ask,
    viewer: &Viewer,
    (id, action): (&str, &str),
) -> Result<(), Refusal> {
    let outbox = Outbox::open(&app.config()).map_err(failed)?;
    // Ids are names of folders.
    let mut known = outbox.waiting().map_err(failed)?;
    known.extend(outbox.given_up().map_err(failed)?);
    if !known.iter().any(|order| order.id == id) {
        return Err(Refusal::NotFound);
    }
    let (action, done) = match action {
        "retry" => ("delivery_retried", outbox.retry(id, UtcMicros::now())),
        "drop" => ("delivery_dropped", outbox.drop_order(id)),
        _ => return Err(Refusal::Invalid("This form is not known.")),
    };
    match done.map_err(failed)? {
        Named::Done => app.audit(ask, &viewer.name, (action, id, "")),
        Named::Unknown => Err(Refusal::NotFound),
        Named::Busy => Err(Refusal::Unavailable("the target is being delivered to".to_owned())),
    }
}
