//! The signed-in user's own account: language, appearance, password, and API tokens.

use serde_json::{Value, json};

use super::words;
use crate::{
    access::{
        fingerprint, password, random_text,
        users::{MAX_TOKENS, Role, Token, UsersError},
        viewer::Viewer,
    },
    app::{Answer, App, Refusal},
    http::{request::Ask, respond},
    language::LANGUAGES,
    render::values,
};

/// Start of every API token, by which scanners recognise it.
const PREFIX: &str = "mailqos_";
/// Length of a token's name, in characters.
const MAX_NAME: usize = 100;
/// Days of validity that can be chosen; 0 is unlimited.
const DAYS: [i64; 4] = [30, 90, 365, 0];

/// Messages at the top of the page.
#[derive(Debug, Default)]
struct Said<'a> {
    problem: &'a str,
    notice: &'a str,
    /// New token, shown once.
    token: &'a str,
}

/// Shows the page.
pub(crate) fn show(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require(ask)?;
    if viewer.is_visitor {
        return Err(Refusal::NotFound);
    }
    page(app, ask, &viewer, &Said::default())
}

fn page(app: &App, ask: &Ask, viewer: &Viewer, said: &Said<'_>) -> Answer {
    let user = app.users.get(&viewer.name).ok_or(Refusal::SignIn)?;
    let locale = app.locale(ask, Some(viewer));
    let moment =
        |seconds: i64| locale.date(mailqos_model::UtcMicros(seconds.saturating_mul(1_000_000)));
    let tokens: Vec<Value> = user
        .tokens
        .iter()
        .map(|(hash, token)| {
            json!({
                "hash": hash, "name": token.name, "role": token.role.as_str(),
                "created": moment(token.created_at), "expires": token.expires_at.map(moment),
            })
        })
        .collect();
    let languages: Vec<Value> = LANGUAGES
        .iter()
        .map(|(tag, name)| {
            let is_on = user.language.as_deref() == Some(*tag);
            json!({"tag": tag, "name": name, "is_on": is_on})
        })
        .collect();
    let roles: Vec<&str> =
        Role::ALL.iter().filter(|role| **role <= viewer.role).map(|role| role.as_str()).collect();
    let mut scope = Vec::new();
    if let Some(tags) = &user.tags {
        scope.extend(tags.iter().cloned());
    }
    let found = values([
        ("active", json!("account")),
        ("problem", json!(said.problem)),
        ("notice", json!(said.notice)),
        ("token", json!(said.token)),
        ("tokens", json!(tokens)),
        ("languages", json!(languages)),
        ("chosen_look", json!(user.look)),
        ("roles", json!(roles)),
        ("days", json!(DAYS)),
        ("scope", json!(scope.join(", "))),
        ("sees_all", json!(user.tags.is_none())),
        ("has_password", json!(user.password.is_some())),
        ("min", json!(password::MIN_PASSWORD)),
    ]);
    let status = if said.problem.is_empty() { 200 } else { 422 };
    Ok(respond::html(status, app.page("account", ask, Some(viewer), &found)?))
}

/// Changes the account.
pub(crate) fn send(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require_form(ask)?;
    if viewer.is_visitor {
        return Err(Refusal::NotFound);
    }
    match ask.form.text("action") {
        "display" => display(app, ask, &viewer),
        "password" => change_password(app, ask, &viewer),
        "sign-out-everywhere" => {
            app.audit(ask, &viewer.name, ("signed_out_everywhere", &viewer.name, ""))?;
            let changed = app.users.update(&viewer.name, |user| {
                user.generation += 1;
                Ok(())
            });
            changed.map_err(refused)?;
            Ok(respond::redirect("/sign-in"))
        }
        "add-token" => add_token(app, ask, &viewer),
        "remove-token" => {
            let hash = ask.form.text("token");
            let user = app.users.get(&viewer.name).ok_or(Refusal::SignIn)?;
            let Some(token) = user.tokens.get(hash) else {
                // Another tab has removed it.
                return Ok(respond::redirect("/account"));
            };
            app.audit(ask, &viewer.name, ("token_removed", &token.name, ""))?;
            let changed = app.users.update(&viewer.name, |user| {
                user.tokens.remove(hash);
                Ok(())
            });
            changed.map_err(refused)?;
            Ok(respond::redirect("/account"))
        }
        _ => Err(Refusal::Invalid("This form is not known.")),
    }
}

fn refused(error: UsersError) -> Refusal {
    Refusal::Internal(error.to_string())
}

fn display(app: &App, ask: &Ask, viewer: &Viewer) -> Answer {
    let language = LANGUAGES.iter().find(|(tag, _)| *tag == ask.form.text("language"));
    let look = Some(ask.form.text("look")).filter(|look| matches!(*look, "light" | "dark"));
    let changed = app.users.update(&viewer.name, |user| {
        user.language = language.map(|(tag, _)| (*tag).to_owned());
        user.look = look.map(str::to_owned);
        Ok(())
    });
    changed.map_err(refused)?;
    Ok(respond::redirect("/account"))
}

fn change_password(app: &App, ask: &Ask, viewer: &Viewer) -> Answer {
    let say = |text| words(app, ask, Some(viewer), text);
    let problem = |problem| page(app, ask, viewer, &Said { problem, ..Said::default() });
    // Guessing the current password in a stolen session is throttled as a sign-in is.
    if app.throttle.attempt(&viewer.name, ask.client).is_err() {
        return problem(say("Too many failed attempts. Try again later."));
    }
    let user = app.users.get(&viewer.name).ok_or(Refusal::SignIn)?;
    if !password::verify(ask.form.text("current"), user.password.as_deref()) {
        return problem(say("The current password is wrong."));
    }
    app.throttle.succeeded(&viewer.name, ask.client);
    let secret = ask.form.text("password");
    if secret != ask.form.text("again") {
        return problem(say("The two passwords differ."));
    }
    if let Err(weak) = password::check(secret, &viewer.name) {
        return problem(say(weak.text()));
    }
    let hash = password::hash(secret)?;
    app.audit(ask, &viewer.name, ("password_changed", &viewer.name, ""))?;
    let changed = app.users.update(&viewer.name, |user| {
        user.password = Some(hash);
        user.generation += 1;
        Ok(())
    });
    changed.map_err(refused)?;
    super::sign_in(app, &viewer.name, "/account")
}

fn add_token(app: &App, ask: &Ask, viewer: &Viewer) -> Answer {
    let say = |text| words(app, ask, Some(viewer), text);
    let name = ask.form.text("name").trim();
    if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        let problem = say("Enter a name for the token.");
        return page(app, ask, viewer, &Said { problem, ..Said::default() });
    }
    let role = ask.form.text("role").parse().unwrap_or(Role::Viewer).min(viewer.role);
    let days: i64 = ask.form.text("days").parse().unwrap_or(DAYS[0]);
    let now = crate::clock::seconds();
    let expires_at = (days > 0).then(|| now + days.min(3_650) * 86_400);
    let text = format!("{PREFIX}{}", random_text()?);
    app.audit(ask, &viewer.name, ("token_added", name, role.as_str()))?;
    let token = Token { name: name.to_owned(), role, created_at: now, expires_at };
    let changed = app.users.update(&viewer.name, |user| {
        if user.tokens.len() >= MAX_TOKENS {
            return Err(UsersError::Refused("there are too many tokens"));
        }
        user.tokens.insert(fingerprint(&text), token);
        Ok(())
    });
    if let Err(UsersError::Refused(_)) = changed {
        let problem = say("There are too many tokens; remove some first.");
        return page(app, ask, viewer, &Said { problem, ..Said::default() });
    }
    changed.map_err(refused)?;
    page(app, ask, viewer, &Said { token: &text, ..Said::default() })
}
