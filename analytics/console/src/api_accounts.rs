//! Accounts of monitors in the API: what uses them, and new passwords.

use mailqos_control::trial::SecretText;
use serde::{Deserialize, Serialize};
use utoipa::{OpenApi, ToSchema};

use crate::{
    api_changes::{DefinitionProblem, LANGUAGE, administrator, read, refused},
    app::{Answer, App, Problem, Refusal},
    definitions::{accounts, save::Author},
    http::{request::Ask, respond},
    pages::accounts::all,
};

/// Description of this part of the API.
#[derive(OpenApi)]
#[openapi(paths(list_doc, password_doc))]
pub(crate) struct Description;

/// An account with which monitors log in.
#[derive(Debug, Serialize, ToSchema)]
struct AccountAnswer {
    name: String,
    /// User name at the server.
    user: String,
    /// Monitors that log in with it.
    monitors: Vec<String>,
    /// Where its password comes from: `file`, `environment`, `credential`, `command`, `tokens` or
    /// `configuration`.
    source: &'static str,
    /// Whether a new password can be stored here.
    changeable: bool,
}

/// A new password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasswordRequest {
    #[schema(value_type = String)]
    password: SecretText,
}

/// A stored password.
#[derive(Debug, Serialize, ToSchema)]
struct PasswordAnswer {
    name: String,
    /// `applied` if the running probe uses it, `saved` if none is running, `refused` if it does
    /// not use it.
    probe: &'static str,
}

#[utoipa::path(
    get, path = "/api/v1/accounts", operation_id = "accounts",
    responses(
        (status = 200, body = Vec<AccountAnswer>), (status = 401, body = Problem),
        (status = 403, description = "Not an administrator", body = Problem),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn list_doc() {}

/// Sends the accounts, without their passwords.
pub(crate) fn list(app: &App, ask: &Ask) -> Answer {
    let viewer = administrator(app.require(ask)?)?;
    let answer = all(app, &viewer).into_iter().map(|entry| AccountAnswer {
        name: entry.name,
        user: entry.user,
        monitors: entry.monitors,
        source: entry.source,
        changeable: entry.is_changeable,
    });
    Ok(respond::json(200, &answer.collect::<Vec<_>>()))
}

#[utoipa::path(
    post, path = "/api/v1/accounts/{name}/password", operation_id = "set_account_password",
    description = "Stores a new password in a file that only its owner can read.",
    params(("name" = String, Path)), request_body = PasswordRequest,
    responses(
        (status = 200, body = PasswordAnswer), (status = 400, body = DefinitionProblem),
        (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 409, body = DefinitionProblem),
        (status = 422, body = DefinitionProblem),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn password_doc() {}

/// Stores a new password.
pub(crate) fn password(app: &App, ask: &Ask) -> Answer {
    let viewer = administrator(app.require_change(ask)?)?;
    let name = ask.part("name");
    if !all(app, &viewer).iter().any(|entry| entry.name == name) {
        return Err(Refusal::NotFound);
    }
    let wanted: PasswordRequest = match read(ask) {
        Ok(wanted) => wanted,
        Err(response) => return Ok(*response),
    };
    let author = Author { ask, viewer: &viewer, tag: LANGUAGE };
    match accounts::set_password(app, &author, (name, wanted.password.0.expose())) {
        Ok(probe) => Ok(respond::json(200, &PasswordAnswer { name: name.to_owned(), probe })),
        Err(failed) => Ok(refused(app, ask, failed, None)),
    }
}
