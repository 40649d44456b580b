//! The user of a token, and the audit log, in the API.

use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

use crate::{
    access::users::Role,
    app::{Answer, App, Problem, Refusal},
    http::{request::Ask, respond},
};

/// Largest number of entries in one answer.
const MAX_ENTRIES: usize = 1_000;

/// Description of this part of the API.
#[derive(OpenApi)]
#[openapi(paths(account_doc, audit_doc))]
pub(crate) struct Description;

/// The user of the request.
#[derive(Debug, Serialize, ToSchema)]
struct AccountAnswer {
    name: String,
    /// `viewer`, `operator` or `administrator`; at most the role of the token.
    role: &'static str,
    /// Tags whose monitors the user sees; null for all monitors.
    tags: Option<Vec<String>>,
}

/// An entry of the audit log.
#[derive(Debug, Serialize, ToSchema)]
struct AuditAnswer {
    number: u64,
    at: String,
    by: String,
    /// Address of the user.
    from: String,
    /// What was done, such as `monitor_changed`.
    action: String,
    subject: String,
    detail: String,
}

#[utoipa::path(
    get, path = "/api/v1/account", operation_id = "account",
    responses((status = 200, body = AccountAnswer), (status = 401, body = Problem))
)]
#[expect(dead_code, reason = "describes the operation")]
fn account_doc() {}

/// Sends who is asking, and what they may see and do.
pub(crate) fn account(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require(ask)?;
    let answer = AccountAnswer {
        name: viewer.name,
        role: viewer.role.as_str(),
        tags: viewer.tags.map(|tags| tags.into_iter().collect()),
    };
    Ok(respond::json(200, &answer))
}

#[utoipa::path(
    get, path = "/api/v1/audit", operation_id = "audit",
    description = "The latest entries, newest first; only for administrators of all monitors.",
    responses(
        (status = 200, body = Vec<AuditAnswer>), (status = 401, body = Problem),
        (status = 404, body = Problem),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn audit_doc() {}

/// Sends the audit log.
pub(crate) fn audit(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require(ask)?;
    if viewer.role < Role::Administrator || !viewer.sees_all() {
        return Err(Refusal::NotFound);
    }
    let entries = app.audit.latest(MAX_ENTRIES);
    let entries = entries.map_err(|error| Refusal::Internal(format!("the audit log: {error}")))?;
    let answer = entries.into_iter().map(|entry| AuditAnswer {
        number: entry.number,
        at: entry.at.to_string(),
        by: entry.by,
        from: entry.from,
        action: entry.action,
        subject: entry.subject,
        detail: entry.detail,
    });
    Ok(respond::json(200, &answer.collect::<Vec<_>>()))
}
