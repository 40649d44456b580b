//! Reports in the API: templates, and reports made from them.

use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

use crate::{
    app::{Answer, App, Problem, Refusal},
    http::{request::Ask, respond},
    pages::reports::{choose, definitions, gallery, made},
    reports::jobs::{Job, State},
};

/// Description of this part of the API.
#[derive(OpenApi)]
#[openapi(paths(templates_doc, start_doc, made_doc, file_doc, cancel_doc))]
pub(crate) struct Description;

/// A template.
#[derive(Debug, Serialize, ToSchema)]
struct TemplateAnswer {
    name: String,
    /// In the language of the request.
    title: String,
    description: String,
}

/// A file of a report.
#[derive(Debug, Serialize, ToSchema)]
struct FileAnswer {
    name: String,
    /// `html`, `zip`, `pdf`, `xlsx`, `csv` or `json`.
    format: String,
    bytes: u64,
    /// Address of the file.
    href: String,
}

/// A report that is being generated or is complete.
#[derive(Debug, Serialize, ToSchema)]
struct MadeAnswer {
    id: String,
    title: String,
    /// Period in words, once it is known.
    period: Option<String>,
    /// `waiting`, `reading`, `writing`, `done`, `failed` or `cancelled`.
    state: &'static str,
    /// The state in the language of the request.
    words: &'static str,
    /// Whether this state is final.
    is_over: bool,
    /// Reason for a failure; only for users who can see all monitors.
    reason: Option<String>,
    /// Complete files.
    files: Vec<FileAnswer>,
}

#[utoipa::path(
    get, path = "/api/v1/reports/templates", operation_id = "report_templates",
    responses((status = 200, body = Vec<TemplateAnswer>), (status = 401, body = Problem))
)]
#[expect(dead_code, reason = "describes the operation")]
fn templates_doc() {}

/// Sends the templates.
pub(crate) fn templates(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require(ask)?;
    let config = app.config();
    let locale = app.locale(ask, Some(&viewer));
    let mut answer = Vec::new();
    for name in gallery::names(&config, &viewer) {
        if let Ok(template) = gallery::find(&config, &viewer, &name)? {
            answer.push(TemplateAnswer {
                title: gallery::words(&locale, &template.title),
                description: gallery::words(&locale, &template.description),
                name,
            });
        }
    }
    Ok(respond::json(200, &answer))
}

#[utoipa::path(
    post, path = "/api/v1/reports", operation_id = "make_report",
    description = "Starts generating a report. The fields are sent as a form: `definition`, or `template`; `monitor` (`SITE/ID`, repeatable), \
        or `q` and `tag` as in the overview (default: all monitors); `period`, or `from` and `to`, which is the \
        last day; `language`.",
    responses(
        (status = 202, body = MadeAnswer), (status = 401, body = Problem),
        (status = 404, body = Problem), (status = 422, body = std::collections::BTreeMap<String, String>),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn start_doc() {}

/// Starts generating a report.
pub(crate) fn start(app: &App, ask: &Ask) -> Answer {
    let viewer = require_change(app, ask)?;
    if let Some(name) = ask.form.get("definition").filter(|name| !name.is_empty()) {
        let id = definitions::start(app, &viewer, name)?;
        let job = app.reports.get(&id, &viewer.owner()).ok_or(Refusal::NotFound)?;
        return Ok(respond::json(202, &answer(app, ask, &id, &job)?));
    }
    match choose::start(app, ask, &viewer, ask.form.text("template"))? {
        Ok(id) => {
            let job = app.reports.get(&id, &viewer.owner()).ok_or(Refusal::NotFound)?;
            Ok(respond::json(202, &answer(app, ask, &id, &job)?))
        }
        Err(problems) => Ok(respond::json(422, &problems)),
    }
}

/// Returns the user of a request that changes something: of a token, which browsers don't send
/// automatically, or of a form of this session.
pub(crate) fn require_change(
    app: &App,
    ask: &Ask,
) -> Result<crate::access::viewer::Viewer, Refusal> {
    let viewer = app.require(ask)?;
    if viewer.csrf.is_none() { Ok(viewer) } else { app.require_form(ask) }
}

#[utoipa::path(
    get, path = "/api/v1/reports/made/{id}", operation_id = "made_report",
    params(("id" = String, Path)),
    responses(
        (status = 200, body = MadeAnswer), (status = 401, body = Problem),
        (status = 404, body = Problem),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn made_doc() {}

/// Sends the state of a report.
pub(crate) fn made(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require(ask)?;
    let job = made::find(app, ask, &viewer)?;
    Ok(respond::json(200, &answer(app, ask, ask.part("id"), &job)?))
}

fn answer(app: &App, ask: &Ask, id: &str, job: &Job) -> Result<MadeAnswer, Refusal> {
    let viewer = app.require(ask)?;
    let locale = app.locale(ask, Some(&viewer));
    let reason = match &job.state {
        State::Failed(reason) if viewer.sees_all() => Some(reason.clone()),
        _ => None,
    };
    let href = |name: &str| {
        let name: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
        format!("/api/v1/reports/made/{id}/files/{}", name.replace('+', "%20"))
    };
    Ok(MadeAnswer {
        id: id.to_owned(),
        title: gallery::title(job).to_owned(),
        period: job.reports.first().map(|report| report.period.clone()),
        state: job.state.as_str(),
        words: gallery::state(locale.tag(), &job.state),
        is_over: job.state.is_over(),
        reason,
        files: job
            .files
            .iter()
            .map(|file| FileAnswer {
                href: href(&file.name),
                name: file.name.clone(),
                format: file.format.clone(),
                bytes: file.bytes,
            })
            .collect(),
    })
}

#[utoipa::path(
    get, path = "/api/v1/reports/made/{id}/files/{file}", operation_id = "report_file",
    params(("id" = String, Path), ("file" = String, Path)),
    responses(
        (status = 200, description = "The file"), (status = 401, body = Problem),
        (status = 404, body = Problem),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn file_doc() {}

#[utoipa::path(
    post, path = "/api/v1/reports/made/{id}/cancel", operation_id = "cancel_report",
    params(("id" = String, Path)),
    responses(
        (status = 200, body = MadeAnswer), (status = 401, body = Problem),
        (status = 404, body = Problem),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn cancel_doc() {}

/// Cancels a report.
pub(crate) fn cancel(app: &App, ask: &Ask) -> Answer {
    let viewer = require_change(app, ask)?;
    made::find(app, ask, &viewer)?;
    app.reports.cancel(ask.part("id"), &viewer.owner());
    made(app, ask)
}
