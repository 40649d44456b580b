//! Report definitions, the archive, deliveries and targets in the API.

use mailqos_delivery::outbox::{Line, Order, Outbox};
use mailqos_model::UtcMicros;
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

use crate::{
    access::{users::Role, viewer::Viewer},
    api_reports::require_change,
    app::{Answer, App, Problem, Refusal},
    http::{request::Ask, respond},
    pages::reports::{archive, definitions, deliveries, own, targets},
    reports::store::{self, SaveError, Stored},
};

/// Runs of a definition in an answer.
const RUNS: usize = 5;
/// Entries of the ledger in an answer.
const MAX_ENTRIES: usize = 1_000;

/// Description of this part of the API.
#[derive(OpenApi)]
#[openapi(paths(
    list_doc,
    one_doc,
    save_doc,
    remove_doc,
    archive_doc,
    archived_file_doc,
    deliveries_doc,
    retry_doc,
    drop_doc,
    targets_doc,
    try_doc
))]
pub(crate) struct Description;

/// A report definition.
#[derive(Debug, Serialize, ToSchema)]
struct DefinitionAnswer {
    name: String,
    /// Title; null if the definition has errors.
    title: Option<String>,
    period: Option<String>,
    /// Selections of monitors; all if empty.
    monitors: Vec<String>,
    /// Only for users who see all monitors.
    targets: Vec<String>,
    /// The next five runs.
    next_runs: Vec<String>,
    /// Problems of the file, for people.
    problems: Option<String>,
    /// SHA-256 of the file, to be sent with a change.
    version: String,
    /// Text of the file; only of a single definition, and for users who see all monitors.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

/// A definition that was not saved.
#[derive(Debug, Serialize, ToSchema)]
struct ConflictAnswer {
    /// The reason, for people.
    error: String,
    /// Text of the file now, if someone else has changed it.
    text: Option<String>,
}

/// A file of an archived report.
#[derive(Debug, Serialize, ToSchema)]
struct ArchivedFileAnswer {
    format: String,
    href: String,
}

/// An archived report.
#[derive(Debug, Serialize, ToSchema)]
struct ArchivedAnswer {
    definition: String,
    /// Stem of the names of its files.
    name: String,
    made_at: String,
    files: Vec<ArchivedFileAnswer>,
}

/// A delivery in the outbox.
#[derive(Debug, Serialize, ToSchema)]
struct PendingAnswer {
    id: String,
    target: String,
    report: String,
    files: Vec<String>,
    attempts: u32,
    error: Option<String>,
    ordered_at: String,
    next_attempt_at: Option<String>,
}

/// An entry of the ledger.
#[derive(Debug, Serialize, ToSchema)]
struct LedgerAnswer {
    at: String,
    target: String,
    report: String,
    files: Vec<String>,
    /// Locations of the files, or the recipients.
    places: Vec<String>,
    reply: String,
    /// Whether an old file was removed.
    removed: bool,
}

/// Deliveries.
#[derive(Debug, Serialize, ToSchema)]
struct DeliveriesAnswer {
    waiting: Vec<PendingAnswer>,
    given_up: Vec<PendingAnswer>,
    /// Newest first.
    ledger: Vec<LedgerAnswer>,
}

/// A step of the test of a target.
#[derive(Debug, Serialize, ToSchema)]
struct StepAnswer {
    what: String,
    supported: bool,
    words: String,
}

/// Result of the test of a target.
#[derive(Debug, Serialize, ToSchema)]
struct TrialAnswer {
    works: bool,
    summary: String,
    steps: Vec<StepAnswer>,
}

fn require(app: &App, ask: &Ask) -> Result<Viewer, Refusal> {
    let viewer = app.require(ask)?;
    if viewer.sees_all() { Ok(viewer) } else { Err(Refusal::NotFound) }
}

fn io(error: impl std::fmt::Display) -> Refusal {
    Refusal::Internal(format!("reports: {error}"))
}

fn answer(app: &App, stored: Stored, (viewer, with_text): (&Viewer, bool)) -> DefinitionAnswer {
    let config = app.config();
    let version = stored.version();
    // The text and the targets may name what belongs to others.
    let is_all = viewer.sees_all();
    let text = (with_text && is_all).then_some(stored.text);
    match stored.definition {
        Ok(found) => DefinitionAnswer {
            name: stored.slug,
            period: found.period.clone(),
            monitors: found.selection.monitors.clone(),
            targets: found
                .deliveries
                .iter()
                .filter(|_| is_all)
                .map(|one| one.target.to_string())
                .collect(),
            next_runs: definitions::runs(&found, &config)
                .take(RUNS)
                .map(|at| at.to_string())
                .collect(),
            title: Some(found.template.title),
            problems: None,
            version,
            text,
        },
        Err(problems) => DefinitionAnswer {
            name: stored.slug,
            title: None,
            period: None,
            monitors: Vec::new(),
            targets: Vec::new(),
            next_runs: Vec::new(),
            problems: Some(problems.render(false)),
            version,
            text,
        },
    }
}

#[utoipa::path(
    get, path = "/api/v1/reports/definitions", operation_id = "report_definitions",
    responses(
        (status = 200, body = Vec<DefinitionAnswer>), (status = 401, body = Problem),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn list_doc() {}

/// Sends the definitions that the user sees: all, or those that concern only its monitors.
pub(crate) fn list(app: &App, ask: &Ask) -> Answer {
    let viewer = definitions::reader(app, ask)?;
    let all = store::all(&app.config()).map_err(io)?.into_iter();
    let seen = all.filter(|stored| own::sees(app, &viewer, stored));
    let all: Vec<_> = seen.map(|stored| answer(app, stored, (&viewer, false))).collect();
    Ok(respond::json(200, &all))
}

#[utoipa::path(
    get, path = "/api/v1/reports/definitions/{name}", operation_id = "report_definition",
    params(("name" = String, Path)),
    responses(
        (status = 200, body = DefinitionAnswer), (status = 401, body = Problem),
        (status = 404, body = Problem),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn one_doc() {}

/// Sends a definition with its text.
pub(crate) fn one(app: &App, ask: &Ask) -> Answer {
    let viewer = definitions::reader(app, ask)?;
    let stored = definitions::named(app, &viewer, ask.part("name"))?;
    Ok(respond::json(200, &answer(app, stored, (&viewer, true))))
}

#[utoipa::path(
    post, path = "/api/v1/reports/definitions/{name}", operation_id = "save_report_definition",
    description = "Saves the text of a definition. The fields are sent as a form: `text`, and `version` of the \
        text that was edited (none for a new definition).",
    params(("name" = String, Path)),
    responses(
        (status = 200, body = DefinitionAnswer), (status = 401, body = Problem),
        (status = 404, body = Problem),
        (status = 409, description = "Someone else has changed it", body = ConflictAnswer),
        (status = 422, description = "It is not valid", body = ConflictAnswer),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn save_doc() {}

/// Saves a definition.
pub(crate) fn save(app: &App, ask: &Ask) -> Answer {
    let viewer = require_change(app, ask)?;
    if viewer.role < Role::Administrator || !viewer.sees_all() {
        return Err(Refusal::NotFound);
    }
    let config = app.config();
    let name = ask.part("name");
    let edited = ask.form.get("version").filter(|version| !version.is_empty());
    let (status, text, error) = match store::save(&config, name, ask.form.text("text"), edited) {
        Ok(()) => {
            app.audit(ask, &viewer.name, ("definition_saved", name, ""))?;
            return one(app, ask);
        }
        Err(SaveError::Io(error)) => return Err(io(error)),
        Err(SaveError::Changed(now)) => (409, Some(now), SaveError::Changed(String::new())),
        Err(SaveError::Exists) => (409, None, SaveError::Exists),
        Err(error) => (422, None, error),
    };
    Ok(respond::json(status, &ConflictAnswer { error: error.to_string(), text }))
}

#[utoipa::path(
    delete, path = "/api/v1/reports/definitions/{name}", operation_id = "remove_report_definition",
    params(("name" = String, Path), ("version" = String, Query, description = "Version that you have read")),
    responses(
        (status = 200, body = Vec<DefinitionAnswer>), (status = 401, body = Problem),
        (status = 404, body = Problem),
        (status = 409, description = "Someone else has changed it", body = ConflictAnswer),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn remove_doc() {}

/// Removes a definition.
pub(crate) fn remove(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require_change(ask)?;
    if viewer.role < Role::Administrator || !viewer.sees_all() {
        return Err(Refusal::NotFound);
    }
    let (config, name) = (app.config(), ask.part("name"));
    if store::find(&config, name).map_err(io)?.is_none() {
        return Err(Refusal::NotFound);
    }
    app.audit(ask, &viewer.name, ("definition_removed", name, ""))?;
    match store::remove(&config, name, ask.query.text("version")) {
        Ok(()) => list(app, ask),
        Err(SaveError::Io(error)) => Err(io(error)),
        Err(SaveError::Changed(now)) => {
            let error = SaveError::Changed(String::new()).to_string();
            Ok(respond::json(409, &ConflictAnswer { error, text: Some(now) }))
        }
        Err(_) => Err(Refusal::NotFound),
    }
}

#[utoipa::path(
    get, path = "/api/v1/reports/archive/{slug}/{file}", operation_id = "archived_file",
    params(("slug" = String, Path), ("file" = String, Path)),
    responses(
        (status = 200, description = "The file"), (status = 401, body = Problem),
        (status = 404, body = Problem),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn archived_file_doc() {}

#[utoipa::path(
    get, path = "/api/v1/reports/archive", operation_id = "report_archive",
    responses((status = 200, body = Vec<ArchivedAnswer>), (status = 401, body = Problem))
)]
#[expect(dead_code, reason = "describes the operation")]
fn archive_doc() {}

/// Sends the archived reports that the user may see.
pub(crate) fn archived(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require(ask)?;
    let all: Vec<ArchivedAnswer> = archive::visible(app, &viewer)
        .into_iter()
        .map(|report| ArchivedAnswer {
            files: report
                .formats()
                .map(|format| ArchivedFileAnswer {
                    format: format.to_owned(),
                    href: format!("/api/v1{}", report.address(format)),
                })
                .collect(),
            made_at: report.made_at().to_string(),
            definition: report.slug,
            name: report.stem,
        })
        .collect();
    Ok(respond::json(200, &all))
}

fn pending(order: &Order, waits: bool) -> PendingAnswer {
    PendingAnswer {
        id: order.id.clone(),
        target: order.target.clone(),
        report: order.report.clone(),
        files: order.files.iter().map(|file| file.name.clone()).collect(),
        attempts: order.attempts,
        error: order.last_error.clone(),
        ordered_at: UtcMicros(order.ordered_at).to_string(),
        next_attempt_at: waits.then(|| UtcMicros(order.next_attempt_at).to_string()),
    }
}

fn ledger(line: &Line) -> LedgerAnswer {
    match line {
        Line::Delivered(entry) => LedgerAnswer {
            at: entry.delivered_at.clone(),
            target: entry.target.clone(),
            report: entry.report.clone(),
            files: entry.files.iter().map(|file| file.name.clone()).collect(),
            places: entry.places.clone(),
            reply: entry.reply.clone(),
            removed: false,
        },
        Line::Removed(removal) => LedgerAnswer {
            at: removal.removed_at.clone(),
            target: removal.target.clone(),
            report: String::new(),
            files: vec![removal.path()],
            places: Vec::new(),
            reply: String::new(),
            removed: true,
        },
    }
}

#[utoipa::path(
    get, path = "/api/v1/reports/deliveries", operation_id = "report_deliveries",
    responses(
        (status = 200, body = DeliveriesAnswer), (status = 401, body = Problem),
        (status = 404, body = Problem),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn deliveries_doc() {}

/// Sends the outbox and the latest entries of the ledger.
pub(crate) fn outbox(app: &App, ask: &Ask) -> Answer {
    require(app, ask)?;
    let outbox = Outbox::open(&app.config()).map_err(io)?;
    let waiting = outbox.waiting().map_err(io)?;
    let given_up = outbox.given_up().map_err(io)?;
    let lines = outbox.ledger().map_err(io)?;
    let answer = DeliveriesAnswer {
        waiting: waiting.iter().map(|order| pending(order, true)).collect(),
        given_up: given_up.iter().map(|order| pending(order, false)).collect(),
        ledger: lines.iter().rev().take(MAX_ENTRIES).map(ledger).collect(),
    };
    Ok(respond::json(200, &answer))
}

#[utoipa::path(
    post, path = "/api/v1/reports/deliveries/{id}/retry", operation_id = "retry_delivery",
    params(("id" = String, Path)),
    responses(
        (status = 200, body = DeliveriesAnswer), (status = 401, body = Problem),
        (status = 404, body = Problem), (status = 503, body = Problem),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn retry_doc() {}

/// Retries a delivery.
pub(crate) fn retry(app: &App, ask: &Ask) -> Answer {
    change_delivery(app, ask, "retry")
}

fn change_delivery(app: &App, ask: &Ask, action: &str) -> Answer {
    let viewer = require_change(app, ask)?;
    if !viewer.operates_reports() {
        return Err(Refusal::NotFound);
    }
    deliveries::change(app, ask, &viewer, (ask.part("id"), action))?;
    outbox(app, ask)
}

#[utoipa::path(
    post, path = "/api/v1/reports/deliveries/{id}/drop", operation_id = "drop_delivery",
    description = "Removes a delivery from the outbox without delivering it.",
    params(("id" = String, Path)),
    responses(
        (status = 200, body = DeliveriesAnswer), (status = 401, body = Problem),
        (status = 404, body = Problem), (status = 503, body = Problem),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn drop_doc() {}

/// Removes a delivery from the outbox.
pub(crate) fn drop_delivery(app: &App, ask: &Ask) -> Answer {
    change_delivery(app, ask, "drop")
}

/// A target of reports.
#[derive(Debug, Serialize, ToSchema)]
struct TargetAnswer {
    name: String,
    /// Where it leads, for people; without secrets.
    about: String,
}

#[utoipa::path(
    get, path = "/api/v1/reports/targets", operation_id = "report_targets",
    responses(
        (status = 200, body = Vec<TargetAnswer>), (status = 401, body = Problem),
        (status = 404, body = Problem),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn targets_doc() {}

/// Sends the targets.
pub(crate) fn list_targets(app: &App, ask: &Ask) -> Answer {
    if !app.require(ask)?.operates_reports() {
        return Err(Refusal::NotFound);
    }
    let config = app.config();
    let all = config.targets.iter().map(|(name, target)| TargetAnswer {
        name: name.to_string(),
        about: mailqos_delivery::describe(target),
    });
    Ok(respond::json(200, &all.collect::<Vec<_>>()))
}

#[utoipa::path(
    post, path = "/api/v1/reports/targets/{name}/try", operation_id = "try_target",
    params(("name" = String, Path)),
    responses(
        (status = 200, body = TrialAnswer), (status = 401, body = Problem),
        (status = 404, body = Problem), (status = 503, body = Problem),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn try_doc() {}

/// Tries a target.
pub(crate) fn try_target(app: &App, ask: &Ask) -> Answer {
    let viewer = require_change(app, ask)?;
    let trial = targets::attempt(app, ask, &viewer, ask.part("name"))?;
    let steps = trial.findings.iter().map(|one| StepAnswer {
        what: one.what.to_owned(),
        supported: one.supported,
        words: one.words.clone(),
    });
    let steps = steps.collect();
    Ok(respond::json(200, &TrialAnswer { works: trial.works, summary: trial.summary, steps }))
}
