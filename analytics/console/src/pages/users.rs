//! Users: administrators of all monitors add, change and remove them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::words;
use crate::{
    access::{
        links::{self, Link},
        users::{Role, User, UsersError, is_name},
        viewer::Viewer,
    },
    app::{Answer, App, Refusal},
    http::{request::Ask, respond},
    render::values,
};

/// Tags of a user.
const MAX_TAGS: usize = 100;

/// Messages at the top of the page.
#[derive(Debug, Default)]
struct Said<'a> {
    problem: &'a str,
    /// New one-time link with its user, shown once.
    link: Option<(&'a str, &'a str)>,
}

fn require(app: &App, viewer: Viewer) -> Result<Viewer, Refusal> {
    let _ = app;
    // For others the page does not exist.
    if viewer.manages_users() { Ok(viewer) } else { Err(Refusal::NotFound) }
}

/// Shows the page.
pub(crate) fn show(app: &App, ask: &Ask) -> Answer {
    let viewer = require(app, app.require(ask)?)?;
    page(app, ask, &viewer, &Said::default())
}

fn page(app: &App, ask: &Ask, viewer: &Viewer, said: &Said<'_>) -> Answer {
    let users: Vec<Value> = app
        .users
        .all()
        .iter()
        .map(|(name, user)| {
            let tags = user.tags.iter().flatten().cloned().collect::<Vec<_>>().join(", ");
            json!({
                "name": name, "display": user.display, "role": user.role.as_str(), "tags": tags,
                "sees_all": user.tags.is_none(), "has_password": user.password.is_some(),
                "is_sso": user.origin.is_some(),
                "tokens": user.tokens.len(), "is_self": *name == viewer.name,
            })
        })
        .collect();
    let board = app.keeper.board();
    let tags: BTreeSet<&String> = board.entries.iter().flat_map(|entry| &entry.tags).collect();
    let found =
        values([
            ("active", json!("users")),
            ("problem", json!(said.problem)),
            (
                "link",
                json!(said.link.map(
                    |(user, path)| json!({"user": user, "path": path, "base": base(app, ask)})
                )),
            ),
            ("users", json!(users)),
            ("roles", json!(Role::ALL)),
            ("known_tags", json!(tags)),
            ("typed", json!({"name": ask.form.text("name"), "tags": ask.form.text("tags")})),
        ]);
    let status = if said.problem.is_empty() { 200 } else { 422 };
    Ok(respond::html(status, app.page("users", ask, Some(viewer), &found)?))
}

/// Returns the address of the console as the browser knows it.
pub(super) fn base(app: &App, ask: &Ask) -> String {
    let host = ask.header(hyper::header::HOST).unwrap_or_default();
    let scheme = if app.is_tls() { "https" } else { "http" };
    app.options.url.clone().unwrap_or_else(|| format!("{scheme}://{host}"))
}

/// Reads the tags of a form; `None` are all monitors.
fn tags(ask: &Ask) -> Option<BTreeSet<String>> {
    if ask.form.text("scope") != "tags" {
        return None;
    }
    let texts = ask.form.text("tags").split(',').map(str::trim).filter(|tag| !tag.is_empty());
    Some(texts.take(MAX_TAGS).map(str::to_owned).collect())
}

/// Changes users.
pub(crate) fn send(app: &App, ask: &Ask) -> Answer {
    let viewer = require(app, app.require_form(ask)?)?;
    let name = ask.form.text("name").trim();
    let result = match ask.form.text("action") {
        "add" => return add(app, ask, &viewer),
        "link" => return new_link(app, ask, &viewer, name),
        "change" => {
            let (role, tags) = (ask.form.text("role").parse().ok(), tags(ask));
            let Some(role) = role else {
                return Err(Refusal::Invalid("This form is not known."));
            };
            let scope = tags.iter().flatten().cloned().collect::<Vec<_>>().join(", ");
            app.audit(ask, &viewer.name, ("user_changed", name, &detail(role, &scope)))?;
            app.users.update(name, |user: &mut User| {
                if user.origin.is_some() {
                    return Err(UsersError::Refused("groups decide what this user may do"));
                }
                (user.role, user.tags) = (role, tags);
                Ok(())
            })
        }
        "remove" => {
            app.audit(ask, &viewer.name, ("user_removed", name, ""))?;
            links::revoke(&app.folder, name);
            let removed = app.users.change(|users| match users.remove(name) {
                Some(_) => Ok(()),
                None => Err(UsersError::Refused("this user does not exist")),
            });
            if removed.is_ok() {
                app.sessions.end_all(name);
            }
            removed
        }
        _ => return Err(Refusal::Invalid("This form is not known.")),
    };
    match result {
        Ok(()) => Ok(respond::redirect("/users")),
        Err(UsersError::LastAdministrator) => {
            let problem = words(
                app,
                ask,
                Some(&viewer),
                "The last administrator of all monitors can't be removed or restricted.",
            );
            page(app, ask, &viewer, &Said { problem, ..Said::default() })
        }
        Err(UsersError::Refused(_)) => Err(Refusal::NotFound),
        Err(error) => Err(Refusal::Internal(error.to_string())),
    }
}

fn detail(role: Role, scope: &str) -> String {
    if scope.is_empty() { role.to_string() } else { format!("{role}, {scope}") }
}

fn add(app: &App, ask: &Ask, viewer: &Viewer) -> Answer {
    let name = ask.form.text("name").trim();
    let role = ask.form.text("role").parse().unwrap_or(Role::Viewer);
    let tags = tags(ask);
    let problem = if !is_name(name) {
        Some("The name may contain letters, digits, '-', '_', '.' and '@'.")
    } else if app.users.get(name).is_some() {
        Some("A user with this name already exists.")
    } else if tags.as_ref().is_some_and(BTreeSet::is_empty) {
        Some("Enter the tags that the user may see.")
    } else {
        None
    };
    if let Some(problem) = problem {
        let problem = words(app, ask, Some(viewer), problem);
        return page(app, ask, viewer, &Said { problem, ..Said::default() });
    }
    let scope = tags.iter().flatten().cloned().collect::<Vec<_>>().join(", ");
    app.audit(ask, &viewer.name, ("user_added", name, &detail(role, &scope)))?;
    let added = app.users.change(|users| {
        if users.contains_key(name) {
            return Err(UsersError::Refused("this user exists"));
        }
        users.insert(name.to_owned(), User::new(role, tags.clone()));
        Ok(())
    });
    added.map_err(|error| Refusal::Internal(error.to_string()))?;
    issue(app, ask, viewer, (name, role, tags))
}

fn new_link(app: &App, ask: &Ask, viewer: &Viewer, name: &str) -> Answer {
    let user = app.users.get(name).filter(|user| user.origin.is_none());
    let user = user.ok_or(Refusal::NotFound)?;
    app.audit(ask, &viewer.name, ("link_issued", name, ""))?;
    links::revoke(&app.folder, name);
    // Someone else may know the old password.
    if name != viewer.name {
        let ended = app.users.update(name, |user| {
            user.generation += 1;
            Ok(())
        });
        ended.map_err(|error| Refusal::Internal(error.to_string()))?;
    }
    issue(app, ask, viewer, (name, user.role, user.tags))
}

fn issue(
    app: &App,
    ask: &Ask,
    viewer: &Viewer,
    (name, role, tags): (&str, Role, Option<BTreeSet<String>>),
) -> Answer {
    let link = links::issue(&app.folder, &Link::for_user(name, role, tags));
    let path = link.map_err(|error| Refusal::Internal(error.to_string()))?;
    page(app, ask, viewer, &Said { link: Some((name, &path)), ..Said::default() })
}
