//! Objects: the list, and the page of each with its monitors.

use mailqos_config::edit::Edit;
use serde_json::{Value, json};

use super::{
    definition,
    rows::{self, object_href as href},
};
use crate::{
    access::{users::Role, viewer::Viewer},
    app::{Answer, App, Refusal},
    definitions::{
        Failed,
        draft::{self, Draft, ObjectDraft},
        problems::FieldProblem,
        save::{self, Author},
        scope::Scope,
        view::{self, FormParts},
    },
    http::{request::Ask, respond},
    render::{value, values},
};

/// Shows all objects.
pub(crate) fn list(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require(ask)?;
    let config = app.config();
    let scope = Scope::of(&config, &viewer);
    let locale = app.locale(ask, Some(&viewer));
    let own = config.objects.iter().filter(|(id, _)| scope.objects.contains(id.as_str()));
    let objects: Vec<Value> = own
        .map(|(id, object)| {
            let seen = config.monitors.values().filter(|monitor| {
                monitor.object == *id && scope.monitors.contains(monitor.id.as_str())
            });
            let tags = object.tags.iter();
            let tags = tags.filter(|tag| scope.tags.as_ref().is_none_or(|own| own.contains(*tag)));
            json!({
                "id": id.as_str(), "name": object.name, "address": object.address,
                "monitors": seen.count(), "tags": tags.cloned().collect::<Vec<_>>().join(", "),
            })
        })
        .collect();
    let broken = mailqos_config::load(&config.file).err();
    let broken = broken.map(|problems| save::broken(Some(&problems), &scope, locale.tag()));
    let found = values([
        ("active", json!("objects")),
        ("objects", json!(objects)),
        ("changes", json!(viewer.role == Role::Administrator)),
        ("broken", value(&broken)),
        ("done", json!(definition::notice(locale.tag(), ask))),
    ]);
    Ok(respond::html(200, app.page("objects", ask, Some(&viewer), &found)?))
}

fn own(app: &App, ask: &Ask, viewer: &Viewer) -> Result<String, Refusal> {
    let id = ask.part("object");
    let scope = Scope::of(&app.config(), viewer);
    if scope.objects.contains(id) { Ok(id.to_owned()) } else { Err(Refusal::NotFound) }
}

/// Shows an object with its monitors.
pub(crate) fn show(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require(ask)?;
    let id = own(app, ask, &viewer)?;
    let edits = Edit::all(&app.config().file).unwrap_or_default();
    let object = ObjectDraft::of_files(&edits, &id);
    let object = object.unwrap_or_else(|| ObjectDraft { id: id.clone(), ..ObjectDraft::default() });
    let version = draft::version(&edits, "object", &id).unwrap_or_default();
    page(app, ask, &viewer, (&object, &version), Messages::default())
}

/// Messages at the top of the page.
#[derive(Debug, Default)]
struct Messages<'a> {
    problems: &'a [FieldProblem],
    /// What keeps the object from being saved, apart from its values.
    failure: &'a str,
    /// The object as someone else has saved it.
    theirs: Option<&'a ObjectDraft>,
}

fn page(
    app: &App,
    ask: &Ask,
    viewer: &Viewer,
    (object, version): (&ObjectDraft, &str),
    said: Messages<'_>,
) -> Answer {
    let Messages { problems, failure, theirs } = said;
    let config = app.config();
    let locale = app.locale(ask, Some(viewer));
    let scope = Scope::of(&config, viewer);
    let known = config.objects.iter().find(|(id, _)| id.as_str() == object.id);
    let board = app.keeper.board();
    let shown: Vec<Value> = board
        .entries
        .iter()
        .filter(|entry| *entry.site == *config.site.as_str() && entry.object == object.id)
        .filter(|entry| viewer.sees(entry))
        .map(|entry| value(&rows::row(entry, &locale)))
        .collect();
    let empty = Draft {
        id: String::new(),
        kind: String::new(),
        is_new: false,
        version: String::new(),
        values: std::collections::BTreeMap::new(),
        object: None,
        account: None,
    };
    let parts = FormParts {
        draft: &empty,
        edits: &[],
        scope: &scope,
        problems,
        warnings: &[],
        tag: locale.tag(),
    };
    let changes = viewer.role == Role::Administrator;
    let differences = theirs.map(|theirs| view::object_differences(locale.tag(), object, theirs));
    let found = values([
        ("active", json!("objects")),
        ("conflict", json!(theirs.is_some())),
        ("differences", json!(differences.unwrap_or_default())),
        (
            "object",
            json!({
                "id": object.id, "version": version,
                "name": known.map(|(_, known)| known.name.as_str()),
                "address": known.map(|(_, known)| known.address.as_str()),
            }),
        ),
        ("rows", json!(shown)),
        ("changes", json!(changes)),
        ("owned", json!(changes && scope.owns_object(&config, &object.id))),
        ("fields", view::object_fields(&parts, object, false)),
        ("summary", view::summary(&parts)),
        ("failure", json!(failure)),
        ("done", json!(definition::notice(locale.tag(), ask))),
    ]);
    let status = match theirs {
        Some(_) => 409,
        None if problems.is_empty() && failure.is_empty() => 200,
        None => 422,
    };
    Ok(respond::html(status, app.page("object", ask, Some(viewer), &found)?))
}

/// Changes an object.
pub(crate) fn change(app: &App, ask: &Ask) -> Answer {
    let viewer = definition::administrator(app.require_form(ask)?)?;
    let id = own(app, ask, &viewer)?;
    if !Scope::of(&app.config(), &viewer).owns_object(&app.config(), &id) {
        return Err(Refusal::Forbidden);
    }
    let locale = app.locale(ask, Some(&viewer));
    let author = Author { ask, viewer: &viewer, tag: locale.tag() };
    let object = ObjectDraft { id: id.clone(), ..ObjectDraft::of_form(&ask.form) };
    let version = ask.form.text("version");
    match save::save_object(app, &author, &object, Some(version)) {
        Err(Failed::Problems(problems)) => {
            let said = Messages { problems: &problems, ..Messages::default() };
            page(app, ask, &viewer, (&object, version), said)
        }
        Err(Failed::Conflict) => {
            let edits = Edit::all(&app.config().file);
            let edits = edits.map_err(|error| Refusal::Unavailable(error.to_string()))?;
            let theirs = ObjectDraft::of_files(&edits, &id).ok_or(Refusal::NotFound)?;
            // Saving again is then a decision.
            let version = draft::version(&edits, "object", &id).unwrap_or_default();
            let said = Messages { theirs: Some(&theirs), ..Messages::default() };
            page(app, ask, &viewer, (&object, &version), said)
        }
        Err(Failed::Broken(reason)) => {
            let said = Messages { failure: &reason, ..Messages::default() };
            page(app, ask, &viewer, (&object, version), said)
        }
        done => definition::finish(app, ask, &viewer, (done, &href(&id))),
    }
}

/// Asks before an object is removed.
pub(crate) fn confirm(app: &App, ask: &Ask) -> Answer {
    let viewer = definition::administrator(app.require(ask)?)?;
    let id = own(app, ask, &viewer)?;
    definition::confirmation(app, ask, &viewer, (&id, &href(&id)))
}

/// Removes an object.
pub(crate) fn remove(app: &App, ask: &Ask) -> Answer {
    let viewer = definition::administrator(app.require_form(ask)?)?;
    let id = own(app, ask, &viewer)?;
    if !Scope::of(&app.config(), &viewer).owns_object(&app.config(), &id) {
        return Err(Refusal::Forbidden);
    }
    let locale = app.locale(ask, Some(&viewer));
    let author = Author { ask, viewer: &viewer, tag: locale.tag() };
    let done = save::remove(app, &author, ("object", &id), None);
    definition::finish(app, ask, &viewer, (done, "/objects"))
}
