//! Definitions of monitors in the API: listed, shown, added, copied, changed, removed and tried, by
//! the code that saves and tries the forms.

use std::collections::BTreeMap;

use mailqos_config::{
    Config,
    edit::Edit,
    form::{self, Control},
};
use mailqos_control::{
    ControlError,
    trial::{SecretText, TrialRequest},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{OpenApi, ToSchema};

use crate::{
    access::{users::Role, viewer::Viewer},
    api_changes::{
        DefinitionProblem, LANGUAGE, RemovedAnswer, administrator, created, files, hide_tags,
        keep_tags, known_version, read, refused, tagged, without_version,
    },
    app::{Answer, App, Problem, Refusal},
    definitions::{
        Failed,
        draft::{self, ACCOUNTS, AccountDraft, Draft, NEW, ObjectDraft},
        json, labels,
        problems::FieldProblem,
        save::{self, Author},
        scope::Scope,
        trial,
    },
    http::{request::Ask, respond},
};

/// Monitors in one answer.
const MAX_ITEMS: usize = 1_000;

/// Description of this part of the API.
#[derive(OpenApi)]
#[openapi(paths(
    kinds_doc,
    list_doc,
    create_doc,
    one_doc,
    replace_doc,
    change_doc,
    remove_doc,
    enable_doc,
    disable_doc,
    try_new_doc,
    try_doc
))]
pub(crate) struct Description;

/// A key that a monitor can have.
#[derive(Debug, Serialize, ToSchema)]
struct KeyAnswer {
    /// Path of the key, such as `smtp.port`.
    path: String,
    /// Its name on pages.
    label: String,
    /// What it means.
    about: String,
    /// `text`, `number`, `switch`, `words`, `list` or `reference`.
    takes: &'static str,
    /// The words that it takes.
    words: Vec<String>,
    /// The program's default; that of `[defaults]` comes first.
    default: Option<String>,
}

/// A kind of test.
#[derive(Debug, Serialize, ToSchema)]
struct KindAnswer {
    name: String,
    about: String,
    keys: Vec<KeyAnswer>,
}

/// The definition of a monitor.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MonitorDefinition {
    id: String,
    /// Kind of its tests.
    kind: String,
    /// Changes with the definition; send it with a change.
    version: String,
    /// Address of its state and figures.
    href: String,
    /// The keys of `[monitor.ID]`; absent ones have their defaults. Secrets are never among them.
    #[schema(value_type = Object)]
    definition: Map<String, Value>,
}

/// A page of definitions.
#[derive(Debug, Serialize, ToSchema)]
struct MonitorDefinitions {
    total: usize,
    page: usize,
    monitors: Vec<MonitorDefinition>,
}

/// A saved monitor.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SavedMonitor {
    /// `applied` if the running probe uses it, `saved` if none is running, `refused` if it does
    /// not use it.
    probe: &'static str,
    #[serde(flatten)]
    monitor: MonitorDefinition,
}

/// An object that is added together with a monitor.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewObject {
    id: String,
    /// The keys of `[object.ID]`.
    #[schema(value_type = Object)]
    definition: Map<String, Value>,
}

/// An account that is added together with a monitor. Its password is stored in a file that only
/// its owner can read.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewAccount {
    name: String,
    user: String,
    #[schema(value_type = String)]
    password: SecretText,
}

/// A change of a monitor, or a new one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MonitorRequest {
    /// Id of a new monitor.
    #[serde(default)]
    id: String,
    /// Kind of a new monitor's tests (default: that of the copied one, or `mail-qos`).
    kind: Option<String>,
    /// Id of the monitor whose keys a new one begins with.
    copy: Option<String>,
    /// Version that the change is based on, unless `If-Match` names it.
    version: Option<String>,
    /// The keys of `[monitor.ID]`.
    #[serde(default)]
    #[schema(value_type = Object)]
    definition: Map<String, Value>,
    /// Object to add; `object` in the definition names it.
    new_object: Option<NewObject>,
    /// Account to add; `smtp.account` or `pickup.account` in the definition names it.
    new_account: Option<NewAccount>,
}

/// A phase of a trial.
#[derive(Debug, Serialize, ToSchema)]
struct PhaseAnswer {
    /// `smtp`, `transit` or `pickup`.
    part: String,
    name: String,
    /// Start, in milliseconds since the start of the test.
    begin: f64,
    /// Duration, in milliseconds.
    took: f64,
}

/// Result of a trial.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MonitorTrial {
    ok: bool,
    /// Outcome with its reason.
    verdict: String,
    /// What to do.
    remedy: Option<String>,
    notes: Vec<String>,
    phases: Vec<PhaseAnswer>,
}

fn kind_of(config: &Config, id: &str) -> String {
    let monitor = config.monitors.values().find(|monitor| monitor.id.as_str() == id);
    monitor.map_or_else(String::new, |monitor| monitor.kind.name().to_owned())
}

/// Returns the id of an address, if the user sees that monitor.
fn own(app: &App, ask: &Ask, viewer: &Viewer) -> Result<String, Refusal> {
    let id = ask.part("id");
    let is_own = Scope::of(&app.config(), viewer).monitors.contains(id);
    if is_own { Ok(id.to_owned()) } else { Err(Refusal::NotFound) }
}

fn answer(app: &App, viewer: &Viewer, edits: &[Edit], id: &str) -> Option<MonitorDefinition> {
    let config = app.config();
    let draft = Draft::of_files(edits, id, &kind_of(&config, id))?;
    let mut definition = json::of(&draft.values, &form::monitor_fields(&draft.kind));
    hide_tags(viewer, &mut definition);
    Some(MonitorDefinition {
        id: id.to_owned(),
        kind: draft.kind,
        version: draft.version,
        href: format!("/api/v1/monitors/{}/{id}", config.site),
        definition,
    })
}

#[utoipa::path(
    get, path = "/api/v1/definitions/kinds", operation_id = "kinds",
    responses((status = 200, body = Vec<KindAnswer>), (status = 401, body = Problem), (status = 403, body = Problem))
)]
#[expect(dead_code, reason = "describes the operation")]
fn kinds_doc() {}

/// Sends the kinds of tests with the keys of each.
pub(crate) fn kinds(app: &App, ask: &Ask) -> Answer {
    let viewer = administrator(app.require(ask)?)?;
    let locale = app.locale(ask, Some(&viewer));
    let tag = locale.tag();
    let key = |field: form::Field| {
        let (takes, words) = match field.control {
            Control::Number | Control::Decimal => ("number", &[] as &[&str]),
            Control::Switch => ("switch", &[] as &[&str]),
            Control::Words(words) => ("words", words),
            Control::List => ("list", &[] as &[&str]),
            Control::Reference(_) => ("reference", &[] as &[&str]),
            Control::Text | Control::LongText => ("text", &[] as &[&str]),
        };
        KeyAnswer {
            label: labels::label(tag, &field.path),
            about: labels::description(tag, field.key).0,
            takes,
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            default: field.default(),
            path: field.path,
        }
    };
    let all: Vec<KindAnswer> = form::kinds()
        .into_iter()
        .map(|kind| KindAnswer {
            name: kind.to_owned(),
            about: labels::about_kind(tag, kind).to_owned(),
            keys: form::monitor_fields(kind).into_iter().map(key).collect(),
        })
        .collect();
    Ok(respond::json(200, &all))
}

#[utoipa::path(
    get, path = "/api/v1/definitions/monitors", operation_id = "monitor_definitions",
    params(("page" = Option<usize>, Query, description = "Page of 1,000 monitors, from 1")),
    responses(
        (status = 200, body = MonitorDefinitions), (status = 401, body = Problem),
        (status = 403, description = "Not an administrator", body = Problem),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn list_doc() {}

/// Sends the definitions of monitors.
pub(crate) fn list(app: &App, ask: &Ask) -> Answer {
    let viewer = administrator(app.require(ask)?)?;
    let edits = files(app, &viewer)?;
    let scope = Scope::of(&app.config(), &viewer);
    let page: usize = ask.query.text("page").parse().unwrap_or(1).max(1);
    let shown = scope.monitors.iter().skip((page - 1).saturating_mul(MAX_ITEMS)).take(MAX_ITEMS);
    let monitors = shown.filter_map(|id| answer(app, &viewer, &edits, id)).collect();
    let total = scope.monitors.len();
    Ok(respond::json(200, &MonitorDefinitions { total, page, monitors }))
}

#[utoipa::path(
    get, path = "/api/v1/definitions/monitors/{id}", operation_id = "monitor_definition",
    params(("id" = String, Path)),
    responses(
        (status = 200, body = MonitorDefinition), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn one_doc() {}

/// Sends the definition of a monitor.
pub(crate) fn one(app: &App, ask: &Ask) -> Answer {
    let viewer = administrator(app.require(ask)?)?;
    let id = own(app, ask, &viewer)?;
    let found = answer(app, &viewer, &files(app, &viewer)?, &id).ok_or(Refusal::NotFound)?;
    let version = found.version.clone();
    Ok(tagged(respond::json(200, &found), &version))
}

/// Returns the draft of a new monitor.
fn new_draft(app: &App, viewer: &Viewer, wanted: &MonitorRequest) -> Result<Draft, Failed> {
    let problem = |field: &str, text: &str| Failed::Problems(vec![FieldProblem::new(field, text)]);
    let config = app.config();
    let mut values = BTreeMap::new();
    let mut kind = form::kinds().first().map_or("", |kind| kind).to_owned();
    if let Some(copied) = &wanted.copy {
        if !Scope::of(&config, viewer).monitors.contains(copied.as_str()) {
            return Err(problem("copy", "There is no monitor with this id."));
        }
        kind = kind_of(&config, copied);
        let edits = files(app, viewer)?;
        let base = Draft::of_files(&edits, copied, &kind).ok_or(Failed::Gone)?;
        values = base.values;
    }
    if let Some(wanted) = &wanted.kind {
        if !form::kinds().contains(&wanted.as_str()) {
            return Err(problem("kind", "There is no kind with this name."));
        }
        kind.clone_from(wanted);
    }
    let fields = form::monitor_fields(&kind);
    values.retain(|path, _| fields.iter().any(|field| field.path == *path));
    values.extend(json::typed(&wanted.definition, &fields).map_err(Failed::Problems)?);
    let draft = Draft {
        id: wanted.id.trim().to_owned(),
        kind,
        is_new: true,
        version: String::new(),
        values,
        object: None,
        account: None,
    };
    with_new(draft, wanted)
}

/// Returns the draft of a change; with `is_whole`, keys that are not sent get their defaults.
fn changed_draft(
    edits: &[Edit],
    (viewer, id, kind): (&Viewer, &str, &str),
    (wanted, known): (&MonitorRequest, &str),
    is_whole: bool,
) -> Result<Draft, Failed> {
    let mut draft = Draft::of_files(edits, id, kind).ok_or(Failed::Gone)?;
    if wanted.kind.as_ref().is_some_and(|wanted| wanted != kind) {
        let text = "The kind of a monitor can't be changed: its figures would mix kinds.";
        return Err(Failed::Problems(vec![FieldProblem::new("kind", text)]));
    }
    let tags = draft.value("tags").to_owned();
    if is_whole {
        draft.values.values_mut().for_each(String::clear);
    }
    let typed = json::typed(&wanted.definition, &form::monitor_fields(kind));
    draft.values.extend(typed.map_err(Failed::Problems)?);
    keep_tags(viewer, &tags, &mut draft.values);
    known.clone_into(&mut draft.version);
    with_new(draft, wanted)
}

/// Adds the new object and the new account to a draft.
fn with_new(mut draft: Draft, wanted: &MonitorRequest) -> Result<Draft, Failed> {
    if let Some(object) = &wanted.new_object {
        let values = json::typed(&object.definition, &form::fields("object"));
        let values = values.map_err(|problems| {
            let prefixed = problems.into_iter().map(|problem| FieldProblem {
                field: format!("object.{}", problem.field),
                ..problem
            });
            Failed::Problems(prefixed.collect())
        })?;
        let id = object.id.trim().to_owned();
        draft.values.insert("object".to_owned(), NEW.to_owned());
        draft.object = Some(ObjectDraft { id, values });
    }
    if let Some(account) = &wanted.new_account {
        let name = account.name.trim();
        let mut is_used = false;
        for path in ACCOUNTS {
            if let Some(value) = draft.values.get_mut(path).filter(|value| value.trim() == name) {
                NEW.clone_into(value);
                is_used = true;
            }
        }
        if !is_used {
            let text = "No account of the definition has this name.";
            return Err(Failed::Problems(vec![FieldProblem::new("account.name", text)]));
        }
        draft.account = Some(AccountDraft {
            name: name.to_owned(),
            user: account.user.trim().to_owned(),
            password: account.password.0.clone(),
        });
    }
    // The word of the form for a new entry is none of the API.
    let is_new = |path: &str| match path {
        "object" => draft.object.is_some(),
        path => ACCOUNTS.contains(&path) && draft.account.is_some(),
    };
    let wrong = draft.values.iter().find(|(path, value)| *value == NEW && !is_new(path));
    if let Some((path, _)) = wrong {
        let problem = FieldProblem::new(path, "There is no entry with this name.");
        return Err(Failed::Problems(vec![problem]));
    }
    Ok(draft)
}

#[utoipa::path(
    post, path = "/api/v1/definitions/monitors", operation_id = "add_monitor",
    description = "Adds a monitor, if wanted with its object and its account, or as a copy of another one.",
    request_body = MonitorRequest,
    responses(
        (status = 201, body = SavedMonitor), (status = 400, body = DefinitionProblem),
        (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 409, body = DefinitionProblem), (status = 422, body = DefinitionProblem),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn create_doc() {}

/// Adds a monitor.
pub(crate) fn create(app: &App, ask: &Ask) -> Answer {
    let viewer = administrator(app.require_change(ask)?)?;
    let wanted: MonitorRequest = match read(ask) {
        Ok(wanted) => wanted,
        Err(response) => return Ok(*response),
    };
    let author = Author { ask, viewer: &viewer, tag: LANGUAGE };
    let saved = new_draft(app, &viewer, &wanted)
        .and_then(|draft| Ok((save::save(app, &author, &draft)?, draft.id)));
    match saved {
        Ok((probe, id)) => {
            let monitor = answer(app, &viewer, &files(app, &viewer)?, &id);
            let monitor = monitor.ok_or(Refusal::NotFound)?;
            let version = monitor.version.clone();
            let path = format!("/api/v1/definitions/monitors/{id}");
            Ok(created(&SavedMonitor { probe, monitor }, &version, &path))
        }
        Err(failed) => Ok(refused(app, ask, failed, None)),
    }
}

#[utoipa::path(
    put, path = "/api/v1/definitions/monitors/{id}", operation_id = "replace_monitor",
    description = "Replaces the definition: keys that are absent get their defaults.",
    params(("id" = String, Path)), request_body = MonitorRequest,
    responses(
        (status = 200, body = SavedMonitor), (status = 400, body = DefinitionProblem),
        (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 409, body = DefinitionProblem),
        (status = 412, body = DefinitionProblem), (status = 422, body = DefinitionProblem),
        (status = 428, body = DefinitionProblem),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn replace_doc() {}

/// Replaces the definition of a monitor.
pub(crate) fn replace(app: &App, ask: &Ask) -> Answer {
    update(app, ask, true)
}

#[utoipa::path(
    patch, path = "/api/v1/definitions/monitors/{id}", operation_id = "change_monitor",
    description = "Changes the keys that are sent; `null` removes a key, so that its default applies.",
    params(("id" = String, Path)), request_body = MonitorRequest,
    responses(
        (status = 200, body = SavedMonitor), (status = 400, body = DefinitionProblem),
        (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 409, body = DefinitionProblem),
        (status = 412, body = DefinitionProblem), (status = 422, body = DefinitionProblem),
        (status = 428, body = DefinitionProblem),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn change_doc() {}

/// Changes the definition of a monitor.
pub(crate) fn change(app: &App, ask: &Ask) -> Answer {
    update(app, ask, false)
}

fn update(app: &App, ask: &Ask, is_whole: bool) -> Answer {
    let viewer = administrator(app.require_change(ask)?)?;
    let id = own(app, ask, &viewer)?;
    let wanted: MonitorRequest = match read(ask) {
        Ok(wanted) => wanted,
        Err(response) => return Ok(*response),
    };
    let edits = files(app, &viewer)?;
    let current = answer(app, &viewer, &edits, &id).ok_or(Refusal::NotFound)?;
    let Some(known) = known_version(ask, wanted.version.as_deref(), &current.version) else {
        return Ok(without_version());
    };
    let author = Author { ask, viewer: &viewer, tag: LANGUAGE };
    let whose = (&viewer, id.as_str(), current.kind.as_str());
    let saved = changed_draft(&edits, whose, (&wanted, &known), is_whole)
        .and_then(|draft| save::save(app, &author, &draft));
    match saved {
        Ok(probe) => {
            let monitor = answer(app, &viewer, &files(app, &viewer)?, &id);
            let monitor = monitor.ok_or(Refusal::NotFound)?;
            let version = monitor.version.clone();
            Ok(tagged(respond::json(200, &SavedMonitor { probe, monitor }), &version))
        }
        Err(failed) => Ok(refused(app, ask, failed, serde_json::to_value(&current).ok())),
    }
}

#[utoipa::path(
    delete, path = "/api/v1/definitions/monitors/{id}", operation_id = "remove_monitor",
    params(("id" = String, Path), ("version" = Option<String>, Query, description = "Version that you have read, unless `If-Match` names it")),
    responses(
        (status = 200, body = RemovedAnswer), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = DefinitionProblem), (status = 412, body = DefinitionProblem),
        (status = 422, description = "Something refers to it", body = DefinitionProblem),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn remove_doc() {}

/// Removes a monitor. Its samples stay in the lake.
pub(crate) fn remove(app: &App, ask: &Ask) -> Answer {
    let viewer = administrator(app.require_change(ask)?)?;
    let id = own(app, ask, &viewer)?;
    let edits = files(app, &viewer)?;
    let current = answer(app, &viewer, &edits, &id).ok_or(Refusal::NotFound)?;
    let known = known_version(ask, ask.query.get("version"), &current.version);
    let author = Author { ask, viewer: &viewer, tag: LANGUAGE };
    match save::remove(app, &author, ("monitor", &id), known.as_deref()) {
        Ok(probe) => Ok(respond::json(200, &RemovedAnswer { id, probe })),
        Err(failed) => Ok(refused(app, ask, failed, serde_json::to_value(&current).ok())),
    }
}

/// A monitor that was enabled or disabled.
#[derive(Debug, Serialize, ToSchema)]
struct SwitchedAnswer {
    id: String,
    enabled: bool,
    /// `applied`, `saved` or `refused`, as for changes.
    probe: &'static str,
}

#[utoipa::path(
    post, path = "/api/v1/definitions/monitors/{id}/enable", operation_id = "enable_monitor",
    params(("id" = String, Path)),
    responses(
        (status = 200, body = SwitchedAnswer), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = DefinitionProblem),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn enable_doc() {}

/// Enables a monitor.
pub(crate) fn enable(app: &App, ask: &Ask) -> Answer {
    switch(app, ask, true)
}

#[utoipa::path(
    post, path = "/api/v1/definitions/monitors/{id}/disable", operation_id = "disable_monitor",
    params(("id" = String, Path)),
    responses(
        (status = 200, body = SwitchedAnswer), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = DefinitionProblem),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn disable_doc() {}

/// Disables a monitor.
pub(crate) fn disable(app: &App, ask: &Ask) -> Answer {
    switch(app, ask, false)
}

/// Returns the operator of a request that changes something, and the id of its monitor.
fn operated(app: &App, ask: &Ask) -> Result<(Viewer, String), Refusal> {
    let viewer = app.require_change(ask)?;
    if viewer.role < Role::Operator {
        return Err(Refusal::Forbidden);
    }
    let id = own(app, ask, &viewer)?;
    Ok((viewer, id))
}

fn switch(app: &App, ask: &Ask, enabled: bool) -> Answer {
    let (viewer, id) = operated(app, ask)?;
    let author = Author { ask, viewer: &viewer, tag: LANGUAGE };
    match save::switch(app, &author, &id, enabled) {
        Ok(probe) => Ok(respond::json(200, &SwitchedAnswer { id, enabled, probe })),
        Err(failed) => Ok(refused(app, ask, failed, None)),
    }
}

#[utoipa::path(
    post, path = "/api/v1/definitions/monitors/try", operation_id = "try_new_monitor",
    description = "Lets the running probe test a monitor that is not saved.",
    request_body = MonitorRequest,
    responses(
        (status = 200, body = MonitorTrial), (status = 400, body = DefinitionProblem),
        (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 409, body = DefinitionProblem), (status = 422, body = DefinitionProblem),
        (status = 503, description = "No probe can test", body = DefinitionProblem),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn try_new_doc() {}

/// Tries a monitor that is not saved.
pub(crate) fn try_new(app: &App, ask: &Ask) -> Answer {
    let viewer = administrator(app.require_change(ask)?)?;
    let wanted: MonitorRequest = match read(ask) {
        Ok(wanted) => wanted,
        Err(response) => return Ok(*response),
    };
    let author = Author { ask, viewer: &viewer, tag: LANGUAGE };
    let request =
        new_draft(app, &viewer, &wanted).and_then(|draft| trial::request(app, &author, &draft));
    tried(app, ask, request)
}

#[utoipa::path(
    post, path = "/api/v1/definitions/monitors/{id}/try", operation_id = "try_monitor",
    description = "Lets the running probe test a monitor. Without a body it is tested as it is saved, \
        which operators may do; with one, as it would be after that change.",
    params(("id" = String, Path)), request_body = Option<MonitorRequest>,
    responses(
        (status = 200, body = MonitorTrial), (status = 400, body = DefinitionProblem),
        (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 409, body = DefinitionProblem),
        (status = 422, body = DefinitionProblem),
        (status = 503, description = "No probe can test", body = DefinitionProblem),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn try_doc() {}

/// Tries a monitor as it is saved, or with a change.
pub(crate) fn try_one(app: &App, ask: &Ask) -> Answer {
    let (viewer, id) = operated(app, ask)?;
    if ask.json.is_empty() {
        app.audit(ask, &viewer.name, ("monitor_tried", &id, ""))?;
        return tried(app, ask, Ok(trial::request_saved(&id, &viewer.name)));
    }
    let viewer = administrator(viewer)?;
    let wanted: MonitorRequest = match read(ask) {
        Ok(wanted) => wanted,
        Err(response) => return Ok(*response),
    };
    let edits = files(app, &viewer)?;
    let kind = kind_of(&app.config(), &id);
    let version = draft::version(&edits, "monitor", &id).unwrap_or_default();
    let author = Author { ask, viewer: &viewer, tag: LANGUAGE };
    let whose = (&viewer, id.as_str(), kind.as_str());
    let request = changed_draft(&edits, whose, (&wanted, &version), false)
        .and_then(|draft| trial::request(app, &author, &draft));
    tried(app, ask, request)
}

/// Runs a trial and answers with its result.
fn tried(app: &App, ask: &Ask, request: Result<TrialRequest, Failed>) -> Answer {
    let request = match request {
        Ok(request) => request,
        Err(failed) => return Ok(refused(app, ask, failed, None)),
    };
    let result = match trial::result(app, request, LANGUAGE) {
        Ok(result) => result,
        Err(error) => {
            let status = if matches!(error, ControlError::Refused(_)) { 409 } else { 503 };
            let problem = DefinitionProblem::of(trial::failure(&error, LANGUAGE));
            return Ok(respond::json(status, &problem));
        }
    };
    let phases = result.phases.into_iter().map(|phase| PhaseAnswer {
        part: phase.part,
        name: phase.name,
        begin: phase.begin as f64 / 1_000.0,
        took: phase.took as f64 / 1_000.0,
    });
    let answer = MonitorTrial {
        ok: result.ok,
        verdict: result.verdict,
        remedy: result.remedy,
        notes: result.notes,
        phases: phases.collect(),
    };
    Ok(respond::json(200, &answer))
}
