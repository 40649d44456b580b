//! Pages of the console, a file each.

pub(crate) mod account;
pub(crate) mod accounts;
pub(crate) mod alarms;
pub(crate) mod audit;
pub(crate) mod definition;
pub(crate) mod explain;
mod figure_links;
pub(crate) mod maintenance;
pub(crate) mod monitor;
pub(crate) mod objects;
pub(crate) mod overview;
pub(crate) mod reports;
pub(crate) mod rows;
pub(crate) mod shared;
pub(crate) mod sign_in;
mod sign_in_form;
pub(crate) mod single_sign_on;
pub(crate) mod users;
pub(crate) mod welcome;

use crate::{
    access::{random_text, viewer::Viewer},
    app::{Answer, App, Refusal},
    assets::ASSETS,
    http::{request::Ask, respond},
};

/// Answers addresses that don't exist. Those who are not signed in don't learn which exist.
pub(crate) fn nothing(app: &App, ask: &Ask) -> Answer {
    app.require(ask)?;
    Err(Refusal::NotFound)
}

/// Sends a file of [`ASSETS`].
pub(crate) fn asset(_app: &App, ask: &Ask) -> Answer {
    ASSETS.response(ask.part("name")).ok_or(Refusal::NotFound)
}

/// Tells supervisors that the console answers; nothing about monitors.
pub(crate) fn health(_app: &App, _ask: &Ask) -> Answer {
    Ok(respond::plain(200, "ok"))
}

/// Returns the visitor's token for forms before the sign-in, and the cookie to set if it has none.
fn form_token(app: &App, ask: &Ask) -> Result<(String, Option<String>), Refusal> {
    let known = ask.cookie(app.form_cookie_name());
    if let Some(cookie) = known.filter(|text| crate::access::forms::is_cookie(text)) {
        return Ok((app.forms.token(cookie), None));
    }
    let cookie = random_text()?;
    Ok((app.forms.token(&cookie), Some(app.cookie(app.form_cookie_name(), &cookie, None))))
}

/// Checks the token of a form before the sign-in.
fn check_form_token(app: &App, ask: &Ask) -> Result<(), Refusal> {
    let cookie = ask.cookie(app.form_cookie_name()).unwrap_or_default();
    let is_own = app.forms.matches(cookie, ask.form.text("csrf"));
    if is_own { Ok(()) } else { Err(Refusal::Forged) }
}

/// Starts a session with a new id, and leads to a page.
fn sign_in(app: &App, user: &str, to: &str) -> Answer {
    let found = app.users.get(user).ok_or(Refusal::SignIn)?;
    let id = app.sessions.start(user, found.generation)?;
    let cookie = app.cookie(app.cookie_name(), &id, Some(crate::access::sessions::MAX_AGE));
    let response = respond::set_cookie(respond::redirect(to), &cookie);
    Ok(respond::set_cookie(response, &app.cookie(app.form_cookie_name(), "", Some(0))))
}

/// Returns a text in the language of a request.
fn words<'a>(app: &App, ask: &Ask, viewer: Option<&Viewer>, english: &'a str) -> &'a str {
    crate::language::text(app.locale(ask, viewer).tag(), english)
}
