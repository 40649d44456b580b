//! Revocable links: visitors open them without a user, and administrators of all monitors make,
//! list and revoke them.

use std::collections::BTreeSet;

use axum::response::Response;
use hyper::header;
use serde_json::{Value, json};

use super::{users::base, words};
use crate::{
    access::{
        shared::{MAX_NAME, SharedLink},
        viewer::Viewer,
    },
    app::{Answer, App, Refusal},
    http::{request::Ask, respond},
    render::values,
};

/// Days of validity that can be chosen; 0 is unlimited.
const DAYS: [i64; 5] = [7, 30, 90, 365, 0];
/// Seconds of a day.
const DAY: i64 = 86_400;

/// Opens a link: the browser gets a cookie, so that the token does not stay in addresses.
pub(crate) fn open(app: &App, ask: &Ask) -> Answer {
    let token = ask.part("token");
    let link = app.shared.find(token).ok_or(Refusal::Invalid(
        "This link is not valid: it was revoked, has expired, or is incomplete.",
    ))?;
    if app.signed_in(ask).is_some() {
        return Err(Refusal::Invalid(
            "You are signed in, so you see more than this link shows. Open it in a private window.",
        ));
    }
    let age = link.expires_at.map(|at| at - crate::clock::seconds());
    let cookie = app.cookie(app.link_cookie_name(), token, age);
    Ok(without_referrer(respond::set_cookie(app.onward(ask, "/")?, &cookie)))
}

/// Sets that browsers send no address of the page to others, because visitors of links are not part
/// of the organisation.
pub(crate) fn without_referrer(mut response: Response) -> Response {
    let value = header::HeaderValue::from_static("no-referrer");
    response.headers_mut().insert(header::REFERRER_POLICY, value);
    response
}

/// Messages at the top of the page.
#[derive(Debug, Default)]
struct Messages<'a> {
    problem: &'a str,
    /// Path of the new link, shown once.
    path: &'a str,
}

fn require(viewer: Viewer) -> Result<Viewer, Refusal> {
    // For others the page does not exist.
    if viewer.manages_users() { Ok(viewer) } else { Err(Refusal::NotFound) }
}

/// Shows the page.
pub(crate) fn show(app: &App, ask: &Ask) -> Answer {
    let viewer = require(app.require(ask)?)?;
    page(app, ask, &viewer, &Messages::default())
}

fn page(app: &App, ask: &Ask, viewer: &Viewer, messages: &Messages<'_>) -> Answer {
    let locale = app.locale(ask, Some(viewer));
    let now = crate::clock::seconds();
    let date =
        |seconds: i64| locale.date(mailqos_model::UtcMicros(seconds.saturating_mul(1_000_000)));
    let links: Vec<Value> = app
        .shared
        .all()
        .iter()
        .map(|(hash, link)| {
            json!({
                "hash": hash, "name": link.name, "tag": link.tag, "by": link.created_by,
                "created": date(link.created_at), "expires": link.expires_at.map(date),
                "is_over": link.is_over(now),
            })
        })
        .collect();
    let board = app.keeper.board();
    let tags: BTreeSet<&String> = board.entries.iter().flat_map(|entry| &entry.tags).collect();
    let found = values([
        ("active", json!("links")),
        ("problem", json!(messages.problem)),
        ("path", json!(messages.path)),
        ("base", json!(base(app, ask))),
        ("links", json!(links)),
        ("known_tags", json!(tags)),
        ("days", json!(DAYS)),
        ("typed", json!({"name": ask.form.text("name"), "tag": ask.form.text("tag")})),
    ]);
    let status = if messages.problem.is_empty() { 200 } else { 422 };
    Ok(respond::html(status, app.page("links", ask, Some(viewer), &found)?))
}

/// Makes or revokes a link.
pub(crate) fn send(app: &App, ask: &Ask) -> Answer {
    let viewer = require(app.require_form(ask)?)?;
    let failed = |error: crate::access::shared::SharedError| Refusal::Internal(error.to_string());
    match ask.form.text("action") {
        "add" => add(app, ask, &viewer),
        "revoke" => {
            let hash = ask.form.text("link");
            let all = app.shared.all();
            let link = all.get(hash).ok_or(Refusal::NotFound)?;
            app.audit(ask, &viewer.name, ("view_link_revoked", &link.name, &link.tag))?;
            app.shared.revoke(hash).map_err(failed)?;
            Ok(respond::redirect("/links"))
        }
        _ => Err(Refusal::Invalid("This form is not known.")),
    }
}

fn add(app: &App, ask: &Ask, viewer: &Viewer) -> Answer {
    let (name, tag) = (ask.form.text("name").trim(), ask.form.text("tag").trim());
    let days = ask.form.text("days").parse().ok().filter(|days| DAYS.contains(days));
    let say = |text| words(app, ask, Some(viewer), text);
    let problem = if name.is_empty() || name.chars().count() > MAX_NAME {
        Some(say("Enter a name for the link."))
    } else if tag.is_empty() || tag.chars().count() > MAX_NAME {
        Some(say("Enter the tag that the link shows."))
    } else {
        None
    };
    if let Some(problem) = problem {
        return page(app, ask, viewer, &Messages { problem, ..Messages::default() });
    }
    let now = crate::clock::seconds();
    let days = days.ok_or(Refusal::Invalid("This form is not known."))?;
    let link = SharedLink {
        name: name.to_owned(),
        tag: tag.to_owned(),
        created_by: viewer.name.clone(),
        created_at: now,
        expires_at: (days > 0).then(|| now + days * DAY),
    };
    app.audit(ask, &viewer.name, ("view_link_added", name, tag))?;
    let token = app.shared.add(link).map_err(|error| Refusal::Internal(error.to_string()))?;
    let path = format!("/shared/{token}");
    page(app, ask, viewer, &Messages { path: &path, ..Messages::default() })
}
