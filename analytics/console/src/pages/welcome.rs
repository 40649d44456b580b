//! One-time links: set a password, and with the first link also the name of the administrator.

use serde_json::json;

use super::{check_form_token, form_token, words};
use crate::{
    access::{
        links::{self, Link},
        password,
        users::{Role, User, UsersError, is_name},
    },
    app::{Answer, App, Refusal},
    http::{request::Ask, respond},
    render::values,
};

/// Name that is proposed for the first administrator.
const FIRST: &str = "admin";

/// Finds the link of an address.
fn find(app: &App, ask: &Ask) -> Result<Link, Refusal> {
    let link = links::find(&app.folder, ask.part("token")).ok_or(Refusal::Invalid(
        "This link is not valid: it was used, has expired, or is incomplete.",
    ))?;
    // Links for choosing a name are for the first administrator only.
    if link.user.is_none() && app.users.has_administrator() {
        return Err(Refusal::Invalid(
            "This link is not valid: it was used, has expired, or is incomplete.",
        ));
    }
    Ok(link)
}

/// Shows the form.
pub(crate) fn show(app: &App, ask: &Ask) -> Answer {
    let link = find(app, ask)?;
    form(app, ask, &link, (200, ""))
}

fn form(app: &App, ask: &Ask, link: &Link, (status, problem): (u16, &str)) -> Answer {
    let (token, cookie) = form_token(app, ask)?;
    let typed = ask.form.get("user").unwrap_or(FIRST);
    let found = values([
        ("csrf", json!(token)),
        ("problem", json!(problem)),
        ("user", json!(link.user.as_deref().unwrap_or(typed))),
        ("chooses_name", json!(link.user.is_none())),
        ("min", json!(password::MIN_PASSWORD)),
    ]);
    let page = app.page("welcome", ask, None, &found)?;
    let response = respond::html(status, page);
    Ok(match cookie {
        Some(cookie) => respond::set_cookie(response, &cookie),
        None => response,
    })
}

/// Sets the password and signs in.
pub(crate) fn send(app: &App, ask: &Ask) -> Answer {
    check_form_token(app, ask)?;
    let link = find(app, ask)?;
    let user = link.user.clone().unwrap_or_else(|| ask.form.text("user").trim().to_owned());
    let (secret, again) = (ask.form.text("password"), ask.form.text("again"));
    let problem = if !is_name(&user) {
        Some("The name may contain letters, digits, '-', '_', '.' and '@'.")
    } else if secret != again {
        Some("The two passwords differ.")
    } else {
        password::check(secret, &user).err().map(password::WeakPassword::text)
    };
    if let Some(problem) = problem {
        let problem = words(app, ask, None, problem);
        return form(app, ask, &link, (422, problem));
    }
    let hash = password::hash(secret)?;
    // Of two requests with the same link, only one gets past here.
    if !links::take(&app.folder, ask.part("token")) {
        return Err(Refusal::Invalid(
            "This link is not valid: it was used, has expired, or is incomplete.",
        ));
    }
    app.audit(ask, &user, ("password_set", &user, "by one-time link"))?;
    let changed = app.users.change(|users| {
        let is_new = !users.contains_key(&user);
        if is_new && !link.is_recovery {
            return Err(UsersError::Refused("this user was removed"));
        }
        let entry =
            users.entry(user.clone()).or_insert_with(|| User::new(link.role, link.tags.clone()));
        if link.is_recovery {
            (entry.role, entry.tags) = (Role::Administrator, None);
        }
        entry.password = Some(hash);
        entry.origin = None;
        // Sessions and tokens end: someone else may know the old password.
        entry.generation += 1;
        entry.tokens.clear();
        Ok(())
    });
    changed.map_err(|error| Refusal::Internal(error.to_string()))?;
    links::revoke(&app.folder, &user);
    super::sign_in(app, &user, "/")
}
