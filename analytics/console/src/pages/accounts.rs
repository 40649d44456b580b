//! Accounts of monitors: what uses them, and new passwords.

use serde_json::{Value, json};

use super::{definition, words};
use crate::{
    access::viewer::Viewer,
    app::{Answer, App, Refusal},
    definitions::{
        Failed,
        accounts::{self, AccountEntry},
        save::Author,
        scope::Scope,
    },
    http::{request::Ask, respond},
    language::text,
    render::values,
};

/// Returns the accounts that a user sees.
pub(crate) fn all(app: &App, viewer: &Viewer) -> Vec<AccountEntry> {
    let config = app.config();
    let edits = mailqos_config::edit::Edit::all(&config.file).unwrap_or_default();
    accounts::list(&config, &Scope::of(&config, viewer), &edits)
}

/// Returns where a password comes from, in words.
fn source<'a>(tag: &str, source: &'a str) -> &'a str {
    match source {
        "file" => text(tag, "a file"),
        "environment" => text(tag, "an environment variable"),
        "credential" => text(tag, "the service manager"),
        "command" => text(tag, "a command"),
        "tokens" => text(tag, "a sign-in (OAuth)"),
        _ => text(tag, "the configuration"),
    }
}

/// Shows all accounts.
pub(crate) fn list(app: &App, ask: &Ask) -> Answer {
    let viewer = definition::administrator(app.require(ask)?)?;
    page(app, ask, &viewer, ("", ""))
}

/// Shows the accounts, with the problem of one of them.
fn page(app: &App, ask: &Ask, viewer: &Viewer, (wrong, problem): (&str, &str)) -> Answer {
    let locale = app.locale(ask, Some(viewer));
    let tag = locale.tag();
    let config = app.config();
    let rows: Vec<Value> = all(app, viewer)
        .into_iter()
        .map(|entry| {
            let monitors = entry.monitors.iter();
            let monitors = monitors
                .map(|id| json!({"id": id, "href": super::rows::href(config.site.as_str(), id)}));
            json!({
                "monitors": monitors.collect::<Vec<_>>(), "source": source(tag, entry.source),
                "problem": if entry.name == wrong { problem } else { "" },
                "is_changeable": entry.is_changeable, "user": entry.user, "name": entry.name,
            })
        })
        .collect();
    let found = values([
        ("active", json!("objects")),
        ("accounts", json!(rows)),
        ("done", json!(definition::notice(tag, ask))),
    ]);
    let status = if problem.is_empty() { 200 } else { 422 };
    Ok(respond::html(status, app.page("accounts", ask, Some(viewer), &found)?))
}

/// Stores a new password.
pub(crate) fn change(app: &App, ask: &Ask) -> Answer {
    let viewer = definition::administrator(app.require_form(ask)?)?;
    let name = ask.part("name");
    if !all(app, &viewer).iter().any(|entry| entry.name == name) {
        return Err(Refusal::NotFound);
    }
    let (secret, again) = (ask.form.text("password"), ask.form.text("again"));
    if secret != again {
        let problem = words(app, ask, Some(&viewer), "The two passwords differ.");
        return page(app, ask, &viewer, (name, problem));
    }
    let locale = app.locale(ask, Some(&viewer));
    let author = Author { ask, viewer: &viewer, tag: locale.tag() };
    match accounts::set_password(app, &author, (name, secret)) {
        Err(Failed::Problems(problems)) if problems.iter().all(|it| it.field == "password") => {
            let text = problems.first().map_or("", |problem| problem.text.as_str());
            page(app, ask, &viewer, (name, text))
        }
        done => definition::finish(app, ask, &viewer, (done, "/accounts")),
    }
}
