//! The form of a monitor: new, edited and copied; enabling, disabling and removing.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use mailqos_config::{Config, edit::Edit, form};
use mailqos_control::trial::TrialRequest;
use mailqos_report::locale::Locale;
use serde_json::{Value, json};

use super::words;
use crate::{
    access::{users::Role, viewer::Viewer},
    app::{Answer, App, Refusal, Shared},
    board::Entry,
    definitions::{
        Failed,
        draft::{Draft, NEW, ObjectDraft},
        labels,
        problems::{FieldProblem, warnings},
        save::{self, Author},
        scope::Scope,
        trial,
        view::{self, FormParts},
    },
    http::{request::Ask, respond},
    language::text,
    render::{Values, value, values},
};

/// Messages at the top of the form.
#[derive(Debug, Default)]
struct Messages<'a> {
    problems: &'a [FieldProblem],
    /// What keeps the form from being saved, apart from its values.
    failure: String,
    /// The definition as someone else has saved it.
    theirs: Option<&'a Draft>,
    /// The result of a trial.
    trial: Option<Value>,
}

/// Returns the user of a request, who must be an administrator.
pub(super) fn administrator(viewer: Viewer) -> Result<Viewer, Refusal> {
    // API tokens and others have no form to send.
    if viewer.role == Role::Administrator { Ok(viewer) } else { Err(Refusal::Forbidden) }
}

/// Returns the id of the monitor of an address, if it is configured here and the user sees it.
fn own(app: &App, ask: &Ask, viewer: &Viewer) -> Result<String, Refusal> {
    let (config, id) = (app.config(), ask.part("id"));
    let monitor = config.monitors.values().find(|monitor| monitor.id.as_str() == id);
    let is_own = ask.part("site") == config.site.as_str()
        && monitor.is_some_and(|monitor| viewer.sees_tags(&monitor.tags));
    if is_own { Ok(id.to_owned()) } else { Err(Refusal::NotFound) }
}

/// Returns the links to change a monitor, for its page; null if the user may not, or if it belongs
/// to another probe.
pub(crate) fn links(app: &App, viewer: &Viewer, entry: &Entry) -> Value {
    let config = app.config();
    let monitor = config.monitors.values().find(|monitor| *monitor.id.as_str() == *entry.id);
    let Some(monitor) = monitor.filter(|_| *entry.site == *config.site.as_str()) else {
        return Value::Null;
    };
    if viewer.role < Role::Operator || viewer.csrf.is_none() {
        return Value::Null;
    }
    json!({
        "base": super::rows::href(&entry.site, &entry.id),
        "is_enabled": monitor.enabled,
        "changes": viewer.role == Role::Administrator,
        "id": monitor.id.as_str(),
    })
}

fn kind_of(config: &Config, id: &str) -> String {
    let monitor = config.monitors.values().find(|monitor| monitor.id.as_str() == id);
    monitor.map_or_else(String::new, |monitor| monitor.kind.name().to_owned())
}

/// Shows the first steps of a new monitor, or its form.
pub(crate) fn new(app: &App, ask: &Ask) -> Answer {
    let viewer = administrator(app.require(ask)?)?;
    let config = app.config();
    let scope = Scope::of(&config, &viewer);
    let (object, address) = (ask.query.text("object").trim(), ask.query.text("address").trim());
    let copied = ask.query.text("copy");
    if !copied.is_empty() {
        return copy(app, ask, &viewer, copied);
    }
    let is_known = scope.objects.contains(object);
    let kind = ask.query.text("kind");
    let step = match (is_known || !address.is_empty(), form::kinds().contains(&kind)) {
        (false, _) => "object",
        (true, false) => "kind",
        (true, true) => "form",
    };
    if step == "form" {
        let draft = fresh(&config, &scope, (object, address), kind);
        let draft = Draft { kind: kind.to_owned(), ..draft };
        return page(app, ask, &viewer, &draft, &Messages::default());
    }
    let locale = app.locale(ask, Some(&viewer));
    let tag = locale.tag();
    let objects: Vec<Value> = config
        .objects
        .iter()
        .filter(|(id, _)| scope.objects.contains(id.as_str()))
        .map(|(id, object)| json!({"id": id.as_str(), "name": object.name, "address": object.address}))
        .collect();
    let kinds: Vec<Value> = form::kinds()
        .into_iter()
        .map(|kind| json!({"name": kind, "about": labels::about_kind(tag, kind)}))
        .collect();
    let found = values([
        ("active", json!("objects")),
        ("step", json!(step)),
        ("objects", json!(objects)),
        ("kinds", json!(kinds)),
        ("object", json!(if is_known { object } else { "" })),
        ("address", json!(address)),
    ]);
    Ok(respond::html(200, app.page("new-monitor", ask, Some(&viewer), &found)?))
}

/// Returns a suggestion for an id: letters, digits and dashes of a text, not one that the user sees
/// in use.
fn suggest(base: &str, is_used: impl Fn(&str) -> bool) -> String {
    let letters = base.to_lowercase();
    let letters = letters.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' });
    let base: String = letters.take(40).collect();
    let base = base.trim_matches('-').to_owned();
    let base = if base.is_empty() { "monitor".to_owned() } else { base };
    let numbered = (2..10_000).map(|number| format!("{base}-{number}"));
    std::iter::once(base.clone()).chain(numbered).find(|id| !is_used(id)).unwrap_or(base)
}

/// Returns the draft of a new monitor on an object, or on a new object with this address.
fn fresh(config: &Config, scope: &Scope, (object, address): (&str, &str), kind: &str) -> Draft {
    let is_known = scope.objects.contains(object);
    let base = if is_known { object } else { address.split('.').next().unwrap_or(address) };
    let id = suggest(base, |id| scope.monitors.contains(id));
    let mut values = std::collections::BTreeMap::new();
    values.insert("object".to_owned(), if is_known { object } else { NEW }.to_owned());
    // A restricted user's monitor needs one of its tags, unless the object has one.
    let has_tag = config.objects.iter().any(|(id, known)| {
        id.as_str() == object && scope.tags.as_ref().is_none_or(|own| !own.is_disjoint(&known.tags))
    });
    let own = scope.tags.iter().flatten().next().filter(|_| !has_tag);
    values.insert("tags".to_owned(), own.cloned().unwrap_or_default());
    let new_object = (!is_known).then(|| {
        let id = suggest(base, |id| scope.objects.contains(id));
        let values = [("address".to_owned(), address.to_owned())];
        ObjectDraft { id, values: values.into() }
    });
    Draft {
        id,
        kind: kind.to_owned(),
        is_new: true,
        version: String::new(),
        values,
        object: new_object,
        account: None,
    }
}

/// Shows the form with the values of another monitor.
fn copy(app: &App, ask: &Ask, viewer: &Viewer, id: &str) -> Answer {
    let config = app.config();
    let scope = Scope::of(&config, viewer);
    if !scope.monitors.contains(id) {
        return Err(Refusal::NotFound);
    }
    let edits = Edit::all(&config.file).map_err(|error| Refusal::Unavailable(error.to_string()))?;
    let draft = Draft::of_files(&edits, id, &kind_of(&config, id)).ok_or(Refusal::NotFound)?;
    let id = suggest(id, |id| scope.monitors.contains(id));
    let draft = Draft { id, is_new: true, version: String::new(), ..draft };
    page(app, ask, viewer, &draft, &Messages::default())
}

/// Shows the form of an existing monitor.
pub(crate) fn edit(app: &App, ask: &Ask) -> Answer {
    let viewer = administrator(app.require(ask)?)?;
    let id = own(app, ask, &viewer)?;
    let config = app.config();
    let edits = match Edit::all(&config.file) {
        Ok(edits) => edits,
        Err(error) => {
            let reason = if viewer.sees_all() { error.to_string() } else { String::new() };
            return broken(app, ask, &viewer, &reason);
        }
    };
    let draft = Draft::of_files(&edits, &id, &kind_of(&config, &id)).ok_or(Refusal::NotFound)?;
    page(app, ask, &viewer, &draft, &Messages::default())
}

/// Shows that the files can't be read, and where.
fn broken(app: &App, ask: &Ask, viewer: &Viewer, reason: &str) -> Answer {
    let found = values([
        ("text", json!(words(app, ask, Some(viewer), "The configuration files have errors."))),
        ("detail", json!(reason)),
    ]);
    Ok(respond::html(503, app.page("problem", ask, Some(viewer), &found)?))
}

fn page(app: &App, ask: &Ask, viewer: &Viewer, draft: &Draft, said: &Messages<'_>) -> Answer {
    let config = app.config();
    let locale = app.locale(ask, Some(viewer));
    let scope = Scope::of(&config, viewer);
    let edits = Edit::all(&config.file).unwrap_or_default();
    let fields = form::monitor_fields(&draft.kind);
    let loaded = mailqos_config::load(&config.file);
    let warned = match &loaded {
        Ok(loaded) if !draft.is_new => {
            warnings(&loaded.warnings, (draft, locale.tag()), (&edits, &fields))
        }
        _ => Vec::new(),
    };
    let parts = FormParts {
        draft,
        edits: &edits,
        scope: &scope,
        problems: said.problems,
        warnings: &warned,
        tag: locale.tag(),
    };
    let object = config.objects.iter().find(|(id, _)| id.as_str() == draft.value("object"));
    let mut found: Values = values([
        ("active", json!("objects")),
        ("draft", json!({
            "id": draft.id, "kind": draft.kind, "is_new": draft.is_new, "version": draft.version,
            "object": draft.value("object"),
        })),
        ("about", json!(labels::about_kind(locale.tag(), &draft.kind))),
        ("object", value(&object.map(|(id, object)| {
            json!({"id": id.as_str(), "name": object.name, "address": object.address})
        }))),
        ("id_field", view::id_field(&parts)),
        ("form", view::groups(&parts)),
        ("summary", view::summary(&parts)),
        ("failure", json!(said.failure)),
        ("site", json!(config.site.as_str())),
    ]);
    let new_object = draft.object.as_ref();
    let new_object = new_object.map(|object| view::object_fields(&parts, object, true));
    found.insert("new_object".to_owned(), value(&new_object));
    let theirs = said.theirs.map(|theirs| view::differences(&parts, theirs));
    found.insert("differences".to_owned(), value(&theirs));
    found.insert("trial".to_owned(), value(&said.trial));
    found.insert("conflict".to_owned(), json!(said.theirs.is_some()));
    let broken = loaded.err().map(|problems| save::broken(Some(&problems), &scope, locale.tag()));
    found.insert("broken".to_owned(), value(&broken));
    let is_fine = said.problems.is_empty() && said.failure.is_empty() && said.theirs.is_none();
    let status = match (is_fine, &said.theirs) {
        (true, _) => 200,
        (false, Some(_)) => 409,
        (false, None) => 422,
    };
    Ok(respond::html(status, app.page("definition", ask, Some(viewer), &found)?))
}

/// Saves a new monitor.
pub(crate) fn add(app: &App, ask: &Ask) -> Answer {
    let viewer = administrator(app.require_form(ask)?)?;
    let kind = ask.form.text("kind");
    if !form::kinds().contains(&kind) {
        return Err(Refusal::Invalid("This form is not known."));
    }
    let draft = Draft::of_form(ask, None, kind);
    keep(app, ask, &viewer, draft)
}

/// Saves an existing monitor.
pub(crate) fn change(app: &App, ask: &Ask) -> Answer {
    let viewer = administrator(app.require_form(ask)?)?;
    let id = own(app, ask, &viewer)?;
    let draft = Draft::of_form(ask, Some(&id), &kind_of(&app.config(), &id));
    keep(app, ask, &viewer, draft)
}

fn keep(app: &App, ask: &Ask, viewer: &Viewer, draft: Draft) -> Answer {
    let locale = app.locale(ask, Some(viewer));
    let tag = locale.tag();
    let author = Author { ask, viewer, tag };
    if ask.form.text("action") == "try" {
        return match trial::request(app, &author, &draft) {
            Ok(request) => {
                let trial = Some(trial::run(app, request, &locale));
                page(app, ask, viewer, &draft, &Messages { trial, ..Messages::default() })
            }
            Err(failed) => again(app, ask, viewer, (draft, failed)),
        };
    }
    match save::save(app, &author, &draft) {
        Ok(done) => {
            let config = app.config();
            let href = super::rows::href(config.site.as_str(), &draft.id);
            Ok(respond::redirect(&format!("{href}?done={done}")))
        }
        Err(failed) => again(app, ask, viewer, (draft, failed)),
    }
}

/// Shows the form again, with the reason why nothing was saved or tried.
fn again(app: &App, ask: &Ask, viewer: &Viewer, (mut draft, failed): (Draft, Failed)) -> Answer {
    let locale = app.locale(ask, Some(viewer));
    let tag = locale.tag();
    match failed {
        Failed::Refusal(refusal) => Err(refusal),
        Failed::Gone => Err(Refusal::NotFound),
        Failed::Problems(problems) => {
            page(app, ask, viewer, &draft, &Messages { problems: &problems, ..Messages::default() })
        }
        Failed::Broken(reason) => {
            let title = text(tag, "The configuration files have errors.");
            let failure = format!("{title} {reason}");
            page(app, ask, viewer, &draft, &Messages { failure, ..Messages::default() })
        }
        Failed::Conflict => {
            let edits = Edit::all(&app.config().file);
            let edits = edits.map_err(|error| Refusal::Unavailable(error.to_string()))?;
            let theirs = Draft::of_files(&edits, &draft.id, &draft.kind);
            let theirs = theirs.ok_or(Refusal::NotFound)?;
            // Saving again is then a decision.
            draft.version.clone_from(&theirs.version);
            let said = Messages { theirs: Some(&theirs), ..Messages::default() };
            page(app, ask, viewer, &draft, &said)
        }
    }
}

/// Tries what is in the form, and streams what happens. If values can't be used, the form is to be
/// sent as without script, which shows the problems.
pub(crate) async fn try_live(State(app): State<Shared>, ask: Ask) -> Response {
    let own = Arc::clone(&app);
    let prepared = tokio::task::spawn_blocking(move || {
        let checked = own.check_origin(&ask).and_then(|()| prepare(&own, &ask));
        checked.map_err(|refusal| Box::new(own.refuse(&ask, &refusal)))
    });
    match prepared.await {
        Ok(Ok(Some((request, locale)))) => trial::stream(&app, request, locale),
        Ok(Ok(None)) => respond::plain(422, "Values can't be used."),
        Ok(Err(response)) => *response,
        Err(error) => {
            tracing::error!(%error, "console: a page panicked");
            respond::plain(500, "Internal error.")
        }
    }
}

fn prepare(app: &App, ask: &Ask) -> Result<Option<(TrialRequest, Locale)>, Refusal> {
    let viewer = administrator(app.require_form(ask)?)?;
    let config = app.config();
    let id = ask.query.get("id");
    let kind = match id {
        Some(id) if !Scope::of(&config, &viewer).monitors.contains(id) => {
            return Err(Refusal::NotFound);
        }
        Some(id) => kind_of(&config, id),
        None => ask.form.text("kind").to_owned(),
    };
    if !form::kinds().contains(&kind.as_str()) {
        return Err(Refusal::Invalid("This form is not known."));
    }
    let draft = Draft::of_form(ask, id, &kind);
    let locale = app.locale(ask, Some(&viewer));
    let author = Author { ask, viewer: &viewer, tag: locale.tag() };
    match trial::request(app, &author, &draft) {
        Ok(request) => Ok(Some((request, locale))),
        Err(Failed::Refusal(refusal)) => Err(refusal),
        Err(_) => Ok(None),
    }
}

/// Tries a monitor as it is saved; operators may do so, too.
pub(crate) fn try_saved(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require_form(ask)?;
    if viewer.role < Role::Operator {
        return Err(Refusal::Forbidden);
    }
    let id = own(app, ask, &viewer)?;
    let locale = app.locale(ask, Some(&viewer));
    app.audit(ask, &viewer.name, ("monitor_tried", &id, ""))?;
    let request = trial::request_saved(&id, &viewer.name);
    let found = values([
        ("active", json!("overview")),
        ("id", json!(id)),
        ("back", json!(super::rows::href(ask.part("site"), &id))),
        ("trial", trial::run(app, request, &locale)),
    ]);
    Ok(respond::html(200, app.page("tried", ask, Some(&viewer), &found)?))
}

/// Enables or disables a monitor; operators may do so, too.
pub(crate) fn switch(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require_form(ask)?;
    if viewer.role < Role::Operator {
        return Err(Refusal::Forbidden);
    }
    let id = own(app, ask, &viewer)?;
    let enabled = match ask.form.text("action") {
        "enable" => true,
        "disable" => false,
        _ => return Err(Refusal::Invalid("This form is not known.")),
    };
    let locale = app.locale(ask, Some(&viewer));
    let author = Author { ask, viewer: &viewer, tag: locale.tag() };
    let done = save::switch(app, &author, &id, enabled);
    let href = super::rows::href(ask.part("site"), &id);
    finish(app, ask, &viewer, (done, &href))
}

/// Asks before a monitor is removed.
pub(crate) fn confirm(app: &App, ask: &Ask) -> Answer {
    let viewer = administrator(app.require(ask)?)?;
    let id = own(app, ask, &viewer)?;
    confirmation(app, ask, &viewer, (&id, &super::rows::href(ask.part("site"), &id)))
}

pub(super) fn confirmation(
    app: &App,
    ask: &Ask,
    viewer: &Viewer,
    (name, back): (&str, &str),
) -> Answer {
    let found =
        values([("active", json!("objects")), ("name", json!(name)), ("back", json!(back))]);
    Ok(respond::html(200, app.page("confirm", ask, Some(viewer), &found)?))
}

/// Removes a monitor.
pub(crate) fn remove(app: &App, ask: &Ask) -> Answer {
    let viewer = administrator(app.require_form(ask)?)?;
    let id = own(app, ask, &viewer)?;
    let config = app.config();
    let monitor = config.monitors.values().find(|monitor| monitor.id.as_str() == id);
    let object = monitor.map(|monitor| monitor.object.to_string()).unwrap_or_default();
    let locale = app.locale(ask, Some(&viewer));
    let author = Author { ask, viewer: &viewer, tag: locale.tag() };
    let done = save::remove(app, &author, ("monitor", &id), None);
    finish(app, ask, &viewer, (done, &super::rows::object_href(&object)))
}

/// Leads to the next page after a change, or explains why it was not made.
pub(super) fn finish(
    app: &App,
    ask: &Ask,
    viewer: &Viewer,
    (done, href): (Result<&'static str, Failed>, &str),
) -> Answer {
    let detail = match done {
        Ok(done) => return Ok(respond::redirect(&format!("{href}?done={done}"))),
        Err(Failed::Refusal(refusal)) => return Err(refusal),
        Err(Failed::Gone) => return Err(Refusal::NotFound),
        Err(Failed::Problems(problems)) => {
            problems.iter().map(|problem| problem.text.as_str()).collect::<Vec<_>>().join("\n")
        }
        Err(Failed::Broken(reason)) => reason,
        Err(Failed::Conflict) => String::new(),
    };
    let found = values([
        ("text", json!(words(app, ask, Some(viewer), "Nothing was changed."))),
        ("detail", json!(detail)),
    ]);
    Ok(respond::html(409, app.page("problem", ask, Some(viewer), &found)?))
}

/// Returns the notice about a change that was just made, in the language of the page.
pub(crate) fn notice<'a>(tag: &str, ask: &Ask) -> &'a str {
    match ask.query.text("done") {
        "applied" => text(tag, "Saved; the probe has applied it."),
        "saved" => text(
            tag,
            "Saved. No probe can be reached here; a probe applies it when it starts, or with: mailqos-probe reload",
        ),
        "refused" => {
            text(tag, "Saved, but the probe has not applied it; see its log for the reason.")
        }
        _ => "",
    }
}
