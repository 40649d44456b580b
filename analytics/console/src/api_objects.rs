//! Definitions of objects in the API.

use mailqos_config::{edit::Edit, form};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{OpenApi, ToSchema};

use crate::{
    access::viewer::Viewer,
    api_changes::{
        DefinitionProblem, LANGUAGE, RemovedAnswer, administrator, created, files, hide_tags,
        keep_tags, known_version, read, refused, tagged, without_version,
    },
    app::{Answer, App, Problem, Refusal},
    definitions::{
        Failed,
        draft::{self, ObjectDraft},
        json,
        problems::FieldProblem,
        save::{self, Author},
        scope::Scope,
    },
    http::{request::Ask, respond},
};

/// Description of this part of the API.
#[derive(OpenApi)]
#[openapi(paths(list_doc, create_doc, one_doc, replace_doc, change_doc, remove_doc))]
pub(crate) struct Description;

/// An object.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ObjectAnswer {
    id: String,
    /// Changes with the definition; send it with a change.
    version: String,
    /// Ids of its monitors.
    monitors: Vec<String>,
    /// The keys of `[object.ID]`; absent ones have their defaults.
    #[schema(value_type = Object)]
    definition: Map<String, Value>,
}

/// A saved object.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SavedObject {
    /// `applied` if the running probe uses it, `saved` if none is running, `refused` if it does
    /// not use it.
    probe: &'static str,
    #[serde(flatten)]
    object: ObjectAnswer,
}

/// A change of an object, or a new one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ObjectRequest {
    /// Id of a new object.
    #[serde(default)]
    id: String,
    /// Version that the change is based on, unless `If-Match` names it.
    version: Option<String>,
    /// The keys of `[object.ID]`.
    #[serde(default)]
    #[schema(value_type = Object)]
    definition: Map<String, Value>,
}

fn answer(app: &App, viewer: &Viewer, edits: &[Edit], id: &str) -> Option<ObjectAnswer> {
    let config = app.config();
    let scope = Scope::of(&config, viewer);
    let draft = ObjectDraft::of_files(edits, id)?;
    let own = config.monitors.values().filter(|monitor| monitor.object.as_str() == id);
    let own = own.filter(|monitor| scope.monitors.contains(monitor.id.as_str()));
    let mut definition = json::of(&draft.values, &form::fields("object"));
    hide_tags(viewer, &mut definition);
    Some(ObjectAnswer {
        id: id.to_owned(),
        version: draft::version(edits, "object", id)?,
        monitors: own.map(|monitor| monitor.id.to_string()).collect(),
        definition,
    })
}

/// Prefixes the fields of problems, as they are named in other answers.
fn named(problems: Vec<FieldProblem>) -> Failed {
    let prefixed = problems
        .into_iter()
        .map(|problem| FieldProblem { field: format!("object.{}", problem.field), ..problem });
    Failed::Problems(prefixed.collect())
}

#[utoipa::path(
    get, path = "/api/v1/definitions/objects", operation_id = "object_definitions",
    responses(
        (status = 200, body = Vec<ObjectAnswer>), (status = 401, body = Problem),
        (status = 403, description = "Not an administrator", body = Problem),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn list_doc() {}

/// Sends the definitions of objects.
pub(crate) fn list(app: &App, ask: &Ask) -> Answer {
    let viewer = administrator(app.require(ask)?)?;
    let edits = files(app, &viewer)?;
    let scope = Scope::of(&app.config(), &viewer);
    let all: Vec<ObjectAnswer> =
        scope.objects.iter().filter_map(|id| answer(app, &viewer, &edits, id)).collect();
    Ok(respond::json(200, &all))
}

#[utoipa::path(
    get, path = "/api/v1/definitions/objects/{id}", operation_id = "object_definition",
    params(("id" = String, Path)),
    responses(
        (status = 200, body = ObjectAnswer), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn one_doc() {}

/// Sends the definition of an object.
pub(crate) fn one(app: &App, ask: &Ask) -> Answer {
    let viewer = administrator(app.require(ask)?)?;
    let id = own(app, ask, &viewer)?;
    let found = answer(app, &viewer, &files(app, &viewer)?, &id).ok_or(Refusal::NotFound)?;
    let version = found.version.clone();
    Ok(tagged(respond::json(200, &found), &version))
}

fn own(app: &App, ask: &Ask, viewer: &Viewer) -> Result<String, Refusal> {
    let id = ask.part("id");
    let is_own = Scope::of(&app.config(), viewer).objects.contains(id);
    if is_own { Ok(id.to_owned()) } else { Err(Refusal::NotFound) }
}

#[utoipa::path(
    post, path = "/api/v1/definitions/objects", operation_id = "add_object",
    request_body = ObjectRequest,
    responses(
        (status = 201, body = SavedObject), (status = 400, body = DefinitionProblem),
        (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 409, body = DefinitionProblem), (status = 422, body = DefinitionProblem),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn create_doc() {}

/// Adds an object.
pub(crate) fn create(app: &App, ask: &Ask) -> Answer {
    let viewer = administrator(app.require_change(ask)?)?;
    let wanted: ObjectRequest = match read(ask) {
        Ok(wanted) => wanted,
        Err(response) => return Ok(*response),
    };
    let author = Author { ask, viewer: &viewer, tag: LANGUAGE };
    let id = wanted.id.trim().to_owned();
    let saved = json::typed(&wanted.definition, &form::fields("object")).map_err(named);
    let saved = saved.and_then(|values| {
        save::save_object(app, &author, &ObjectDraft { id: id.clone(), values }, None)
    });
    match saved {
        Ok(probe) => {
            let object = answer(app, &viewer, &files(app, &viewer)?, &id);
            let object = object.ok_or(Refusal::NotFound)?;
            let version = object.version.clone();
            let path = format!("/api/v1/definitions/objects/{id}");
            Ok(created(&SavedObject { probe, object }, &version, &path))
        }
        Err(failed) => Ok(refused(app, ask, failed, None)),
    }
}

#[utoipa::path(
    put, path = "/api/v1/definitions/objects/{id}", operation_id = "replace_object",
    description = "Replaces the definition: keys that are absent get their defaults.",
    params(("id" = String, Path)), request_body = ObjectRequest,
    responses(
        (status = 200, body = SavedObject), (status = 400, body = DefinitionProblem),
        (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 409, body = DefinitionProblem),
        (status = 412, body = DefinitionProblem), (status = 422, body = DefinitionProblem),
        (status = 428, body = DefinitionProblem),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn replace_doc() {}

/// Replaces the definition of an object.
pub(crate) fn replace(app: &App, ask: &Ask) -> Answer {
    update(app, ask, true)
}

#[utoipa::path(
    patch, path = "/api/v1/definitions/objects/{id}", operation_id = "change_object",
    description = "Changes the keys that are sent; `null` removes a key, so that its default applies.",
    params(("id" = String, Path)), request_body = ObjectRequest,
    responses(
        (status = 200, body = SavedObject), (status = 400, body = DefinitionProblem),
        (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 409, body = DefinitionProblem),
        (status = 412, body = DefinitionProblem), (status = 422, body = DefinitionProblem),
        (status = 428, body = DefinitionProblem),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn change_doc() {}

/// Changes the definition of an object.
pub(crate) fn change(app: &App, ask: &Ask) -> Answer {
    update(app, ask, false)
}

/// Returns the user of a change of an object, and its id: all of its monitors must be the user's.
fn owner(app: &App, ask: &Ask) -> Result<(Viewer, String), Refusal> {
    let viewer = administrator(app.require_change(ask)?)?;
    let id = own(app, ask, &viewer)?;
    let config = app.config();
    let owns = Scope::of(&config, &viewer).owns_object(&config, &id);
    if owns { Ok((viewer, id)) } else { Err(Refusal::Forbidden) }
}

fn update(app: &App, ask: &Ask, is_whole: bool) -> Answer {
    let (viewer, id) = owner(app, ask)?;
    let wanted: ObjectRequest = match read(ask) {
        Ok(wanted) => wanted,
        Err(response) => return Ok(*response),
    };
    let edits = files(app, &viewer)?;
    let current = answer(app, &viewer, &edits, &id).ok_or(Refusal::NotFound)?;
    let Some(known) = known_version(ask, wanted.version.as_deref(), &current.version) else {
        return Ok(without_version());
    };
    let mut object = ObjectDraft::of_files(&edits, &id).ok_or(Refusal::NotFound)?;
    let tags = object.values.get("tags").cloned().unwrap_or_default();
    if is_whole {
        object.values.values_mut().for_each(String::clear);
    }
    let author = Author { ask, viewer: &viewer, tag: LANGUAGE };
    let saved = json::typed(&wanted.definition, &form::fields("object")).map_err(named);
    let saved = saved.and_then(|values| {
        object.values.extend(values);
        keep_tags(&viewer, &tags, &mut object.values);
        save::save_object(app, &author, &object, Some(&known))
    });
    match saved {
        Ok(probe) => {
            let object = answer(app, &viewer, &files(app, &viewer)?, &id);
            let object = object.ok_or(Refusal::NotFound)?;
            let version = object.version.clone();
            Ok(tagged(respond::json(200, &SavedObject { probe, object }), &version))
        }
        Err(failed) => Ok(refused(app, ask, failed, serde_json::to_value(&current).ok())),
    }
}

#[utoipa::path(
    delete, path = "/api/v1/definitions/objects/{id}", operation_id = "remove_object",
    params(("id" = String, Path), ("version" = Option<String>, Query, description = "Version that you have read, unless `If-Match` names it")),
    responses(
        (status = 200, body = RemovedAnswer), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = DefinitionProblem), (status = 412, body = DefinitionProblem),
        (status = 422, description = "It still has monitors", body = DefinitionProblem),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn remove_doc() {}

/// Removes an object.
pub(crate) fn remove(app: &App, ask: &Ask) -> Answer {
    let (viewer, id) = owner(app, ask)?;
    let edits = files(app, &viewer)?;
    let current = answer(app, &viewer, &edits, &id).ok_or(Refusal::NotFound)?;
    let known = known_version(ask, ask.query.get("version"), &current.version);
    let author = Author { ask, viewer: &viewer, tag: LANGUAGE };
    match save::remove(app, &author, ("object", &id), known.as_deref()) {
        Ok(probe) => Ok(respond::json(200, &RemovedAnswer { id, probe })),
        Err(failed) => Ok(refused(app, ask, failed, serde_json::to_value(&current).ok())),
    }
}
