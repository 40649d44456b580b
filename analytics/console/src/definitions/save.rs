//! Saves changes: checks what the user may do, validates like `mailqos-probe check`, writes, and
//! lets the probe and the console apply the result.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use mailqos_base::lock::IgnorePoison as _;
use mailqos_config::{
    Config, Problems,
    edit::{Edit, EditError, store_secret},
    form::{self, Control},
};
use mailqos_model::{Name, UtcMicros};
use toml_edit::Item;

use super::{
    Failed,
    draft::{self, Draft, NEW, ObjectDraft},
    problems::{FieldProblem, place, sentence},
    scope::Scope,
    t, words,
};
use crate::{access::viewer::Viewer, app::App, http::request::Ask, language::message};

/// Two people of one console don't save at the same moment.
static SAVING: Mutex<()> = Mutex::new(());

/// A user who changes something, and the language of its problems.
pub(crate) struct Author<'a> {
    /// The request.
    pub(crate) ask: &'a Ask,
    /// The user.
    pub(crate) viewer: &'a Viewer,
    /// Tag of the language.
    pub(crate) tag: &'a str,
}

/// The files with a change, as they would be saved.
#[derive(Debug)]
pub(crate) struct Composed {
    /// The files.
    pub(crate) edits: Vec<Edit>,
    /// The configuration that they contain.
    pub(crate) config: Config,
}

/// Returns the problems that need no reading of the configuration.
fn check_typed(draft: &Draft, scope: &Scope, tag: &str) -> Vec<FieldProblem> {
    let mut found = Vec::new();
    let mut missing = |field: &str, value: &str| {
        if value.is_empty() {
            found.push(FieldProblem::new(field, words(tag, t("Enter a value."), &[])));
        }
    };
    missing("object", draft.value("object"));
    if let Some(object) = &draft.object {
        missing("object.address", object.values.get("address").map_or("", String::as_str));
    }
    if let Some(account) = &draft.account {
        missing("account.user", &account.user);
        missing("account.password", account.password.expose());
        if account.password.expose().contains(['\r', '\n', '\0']) {
            let text = t("A password can't contain line breaks.");
            found.push(FieldProblem::new("account.password", words(tag, text, &[])));
        }
    }
    if scope.is_all() {
        return found;
    }
    // A name that the user must not see is as unknown as one that does not exist.
    for field in form::monitor_fields(&draft.kind) {
        let value = draft.value(&field.path).trim();
        if let Control::Reference(kind) = field.control
            && !matches!(value, "" | NEW)
            && !(field.path == "action_list" && value == "none")
            && !scope.names(kind).contains(value)
        {
            let text = t("There is no entry with this name.");
            found.push(FieldProblem::new(&field.path, words(tag, text, &[])));
        }
        let known = |line: &str| line.is_empty() || scope.monitors.contains(line);
        if field.path == "depends_on" && !value.lines().all(|line| known(line.trim())) {
            let text = t("Enter the ids of monitors that you can see.");
            found.push(FieldProblem::new(&field.path, words(tag, text, &[])));
        }
    }
    found
}

/// Returns a draft whose names are valid, and the problems of those that are not.
fn with_valid_names(draft: &Draft, edits: &[Edit], tag: &str) -> (Draft, Vec<FieldProblem>) {
    let mut draft = draft.clone();
    let mut found = Vec::new();
    let free = |kind: &str| {
        let mut numbers = 1_u32..;
        let names = numbers.by_ref().map(|number| format!("name-{number}"));
        let mut names = names.skip_while(|name| edits.iter().any(|edit| edit.has(kind, name)));
        names.next().unwrap_or_default()
    };
    let mut check = |field: &str, kind: &str, name: &mut String| {
        if let Err(error) = name.parse::<Name>() {
            let text = error.to_string();
            found.push(FieldProblem::new(field, sentence(&message(tag, &text))));
            *name = free(kind);
        }
    };
    if draft.is_new {
        check("id", "monitor", &mut draft.id);
    }
    if let Some(object) = &mut draft.object {
        check("object.id", "object", &mut object.id);
    }
    if let Some(account) = &mut draft.account {
        check("account.name", "account", &mut account.name);
    }
    (draft, found)
}

/// Returns the names that a new monitor, object or account would share with an existing one.
fn check_names(draft: &Draft, edits: &[Edit], tag: &str) -> Vec<FieldProblem> {
    let used = |kind: &str, name: &str| edits.iter().any(|edit| edit.has(kind, name));
    let mut taken = Vec::new();
    if draft.is_new && used("monitor", &draft.id) {
        taken.push("id");
    }
    if draft.object.as_ref().is_some_and(|object| used("object", &object.id)) {
        taken.push("object.id");
    }
    if draft.account.as_ref().is_some_and(|account| used("account", &account.name)) {
        taken.push("account.name");
    }
    let text = words(tag, t("This name is already used; choose another one."), &[]);
    taken.into_iter().map(|field| FieldProblem::new(field, text.clone())).collect()
}

/// Returns the files with a draft, and the configuration that they would contain. Nothing is
/// written.
///
/// # Errors
/// Values can't be used, the files are not valid, or the user must not make this change.
pub(crate) fn compose(
    app: &App,
    author: &Author<'_>,
    draft: &Draft,
    secret: &str,
) -> Result<Composed, Failed> {
    let main = app.config().file.clone();
    let tag = author.tag;
    let scope = Scope::of(&app.config(), author.viewer);
    let mut found = check_typed(draft, &scope, tag);
    let before = Edit::all(&main)?;
    let taken = check_names(draft, &before, tag);
    if !taken.is_empty() {
        found.extend(taken);
        return Err(Failed::Problems(found));
    }
    // An entry with an invalid name is not read at all; its other problems are found under another.
    let (draft, invalid) = with_valid_names(draft, &before, tag);
    let draft = &draft;
    found.extend(invalid);
    let edits = draft.compose(&main, secret)?;
    let fields = form::monitor_fields(&draft.kind);
    let config = match Edit::preview(&edits) {
        Ok(config) => Some(config),
        Err(problems) => {
            let old = mailqos_config::load(&main).err();
            let placed = place(&problems, old.as_ref(), (draft, tag), (&edits, &fields));
            if placed.is_empty() && found.is_empty() {
                return Err(Failed::Broken(broken(old.as_ref(), &scope, tag)));
            }
            let is_own = |problem: &FieldProblem| {
                // Problems that were found above have a text without other names.
                problem.field.is_empty() || !found.iter().any(|other| other.field == problem.field)
            };
            let more: Vec<_> = placed.into_iter().filter(is_own).collect();
            found.extend(more.into_iter().map(|problem| confine(problem, &scope, tag)));
            None
        }
    };
    match config {
        Some(config) if found.is_empty() => {
            check_tags(&config, draft, author)?;
            Ok(Composed { edits, config })
        }
        _ => Err(Failed::Problems(found)),
    }
}

/// Returns the problems of the files as a user may see them.
pub(crate) fn broken(problems: Option<&Problems>, scope: &Scope, tag: &str) -> String {
    match problems.filter(|_| scope.is_all()) {
        Some(problems) => problems.clone().errors().to_string(),
        None => words(tag, t("Ask an administrator of all monitors to correct them."), &[]),
    }
}

/// Hides what a restricted user must not see: problems elsewhere in the configuration.
fn confine(problem: FieldProblem, scope: &Scope, tag: &str) -> FieldProblem {
    if scope.is_all() || !problem.field.is_empty() {
        return problem;
    }
    let text = t("The change would make another part of the configuration invalid.");
    FieldProblem::new("", words(tag, text, &[]))
}

/// Checks that a restricted user still sees the monitor afterwards.
fn check_tags(config: &Config, draft: &Draft, author: &Author<'_>) -> Result<(), Failed> {
    let monitor = config.monitors.values().find(|monitor| monitor.id.as_str() == draft.id);
    match (monitor, &author.viewer.tags) {
        (Some(monitor), Some(own)) if !author.viewer.sees_tags(&monitor.tags) => {
            let own = own.iter().cloned().collect::<Vec<_>>().join(", ");
            let text = t("The monitor needs at least one of your tags: {0}");
            Err(Failed::Problems(vec![FieldProblem::new("tags", words(author.tag, text, &[&own]))]))
        }
        _ => Ok(()),
    }
}

/// Saves a monitor, with its new object and account. Returns the word for the notice of the next
/// page.
///
/// # Errors
/// Nothing was written.
pub(crate) fn save(app: &App, author: &Author<'_>, draft: &Draft) -> Result<&'static str, Failed> {
    let _saving = SAVING.lock().ignore_poison();
    let main = app.config().file.clone();
    if !draft.is_new {
        match draft::version(&Edit::all(&main)?, "monitor", &draft.id) {
            None => return Err(Failed::Gone),
            Some(version) if version != draft.version => return Err(Failed::Conflict),
            Some(_) => {}
        }
    }
    let Some(account) = &draft.account else {
        let composed = compose(app, author, draft, "")?;
        return write(app, author, composed, (action(draft), &draft.id));
    };
    // First without the password's file, so that problems leave no file behind.
    compose(app, author, draft, &format!("secrets/{}", account.name))?;
    let file = store_secret(&main, &account.name, account.password.expose())?;
    let saved = compose(app, author, draft, &file.relative)
        .and_then(|composed| write(app, author, composed, (action(draft), &draft.id)));
    saved.inspect_err(|_| file.forget())
}

fn action(draft: &Draft) -> &'static str {
    if draft.is_new { "monitor_added" } else { "monitor_changed" }
}

/// Writes the files; the change is in the audit log before.
fn write(
    app: &App,
    author: &Author<'_>,
    composed: Composed,
    (action, subject): (&str, &str),
) -> Result<&'static str, Failed> {
    let files: BTreeSet<String> = composed
        .edits
        .iter()
        .filter(|edit| Edit::changed(std::slice::from_ref(*edit)).get(edit.path()).is_some())
        .map(|edit| edit.path().display().to_string())
        .collect();
    let detail = files.into_iter().collect::<Vec<_>>().join(", ");
    app.audit(author.ask, &author.viewer.name, (action, subject, &detail))?;
    match Edit::save_all(&composed.edits) {
        Ok(_) => {}
        Err(EditError::Write { path, source }) => {
            let text = t(
                "The file can't be written: {0}. The console needs permission to write the configuration.",
            );
            let error = format!("{}: {source}", path.display());
            tracing::error!(%error, "console: the configuration can't be written");
            let shown = if author.viewer.sees_all() { error } else { source.kind().to_string() };
            return Err(Failed::Broken(words(author.tag, text, &[&shown])));
        }
        Err(error) => return Err(error.into()),
    }
    *app.config.write().ignore_poison() = Arc::new(composed.config);
    app.keeper.refresh(UtcMicros::now());
    Ok(super::reload_probe(app))
}

/// Makes a change to the files directly.
///
/// # Errors
/// The change is not possible; nothing was written.
pub(super) fn change(
    app: &App,
    author: &Author<'_>,
    (action, subject): (&str, &str),
    make: impl FnOnce(&mut Vec<Edit>) -> Result<(), Failed>,
) -> Result<&'static str, Failed> {
    let _saving = SAVING.lock().ignore_poison();
    let main = app.config().file.clone();
    let mut edits = Edit::all(&main)?;
    make(&mut edits)?;
    let scope = Scope::of(&app.config(), author.viewer);
    let config = match Edit::preview(&edits) {
        Ok(config) => config,
        Err(problems) => {
            let old = mailqos_config::load(&main).err();
            if old.is_some() {
                return Err(Failed::Broken(broken(old.as_ref(), &scope, author.tag)));
            }
            let errors = problems.errors();
            let found = errors.iter().map(|problem| {
                let field = problem.key.map(|key| format!("object.{key}")).unwrap_or_default();
                FieldProblem::of(problem, field, author.tag)
            });
            let found = found.map(|problem| {
                let is_own = action.starts_with("object") && !problem.field.is_empty();
                if is_own {
                    problem
                } else {
                    confine(FieldProblem { field: String::new(), ..problem }, &scope, author.tag)
                }
            });
            return Err(Failed::Problems(found.collect()));
        }
    };
    write(app, author, Composed { edits, config }, (action, subject))
}

/// Enables or disables a monitor.
///
/// # Errors
/// It does not exist any more, or the files can't be written.
pub(crate) fn switch(
    app: &App,
    author: &Author<'_>,
    id: &str,
    enabled: bool,
) -> Result<&'static str, Failed> {
    let action = if enabled { "monitor_enabled" } else { "monitor_disabled" };
    change(app, author, (action, id), |edits| {
        let found = edits.iter_mut().find_map(|edit| edit.entry_mut("monitor", id));
        let table = found.and_then(Item::as_table_like_mut).ok_or(Failed::Gone)?;
        match table.get_mut("enabled").and_then(Item::as_value_mut) {
            Some(value) => {
                let decor = value.decor().clone();
                *value = enabled.into();
                *value.decor_mut() = decor;
            }
            None => {
                table.insert("enabled", toml_edit::value(enabled));
            }
        }
        Ok(())
    })
}

/// Removes a monitor or an object; `known` is the version that the user has seen, if the request
/// names one.
///
/// # Errors
/// Something refers to it, someone has changed it, it does not exist any more, or the files can't
/// be written.
pub(crate) fn remove(
    app: &App,
    author: &Author<'_>,
    (kind, id): (&str, &str),
    known: Option<&str>,
) -> Result<&'static str, Failed> {
    let action = if kind == "object" { "object_removed" } else { "monitor_removed" };
    change(app, author, (action, id), |edits| {
        let current = draft::version(edits, kind, id).ok_or(Failed::Gone)?;
        if known.is_some_and(|known| known != current) {
            return Err(Failed::Conflict);
        }
        let is_removed = edits.iter_mut().any(|edit| edit.remove(kind, id));
        if is_removed { Ok(()) } else { Err(Failed::Gone) }
    })
}

/// Saves an object. `version` is that with which the form was opened; `None` creates it.
///
/// # Errors
/// Nothing was written.
pub(crate) fn save_object(
    app: &App,
    author: &Author<'_>,
    object: &ObjectDraft,
    known: Option<&str>,
) -> Result<&'static str, Failed> {
    let empty = |field: &str| {
        let text = words(author.tag, t("Enter a value."), &[]);
        Failed::Problems(vec![FieldProblem::new(field, text)])
    };
    if object.id.is_empty() {
        return Err(empty("object.id"));
    }
    let action = if known.is_some() { "object_changed" } else { "object_added" };
    change(app, author, (action, &object.id), |edits| {
        let current = draft::version(edits, "object", &object.id);
        match (known, current) {
            (Some(_), None) => return Err(Failed::Gone),
            (Some(known), Some(current)) if known != current => return Err(Failed::Conflict),
            (None, Some(_)) => {
                let text = t("This name is already used; choose another one.");
                let problem = FieldProblem::new("object.id", words(author.tag, text, &[]));
                return Err(Failed::Problems(vec![problem]));
            }
            _ => {}
        }
        object.apply(edits)?;
        if let Some(own) = &author.viewer.tags {
            let typed = object.values.get("tags").map_or("", String::as_str);
            if !typed.lines().any(|tag| own.contains(tag.trim())) {
                let own = own.iter().cloned().collect::<Vec<_>>().join(", ");
                let text = t("The object needs at least one of your tags: {0}");
                let text = words(author.tag, text, &[&own]);
                return Err(Failed::Problems(vec![FieldProblem::new("object.tags", text)]));
            }
        }
        Ok(())
    })
}
