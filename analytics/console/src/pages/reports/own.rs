//! Which report definitions concern only the monitors of a restricted user. Others do not exist for
//! it: no name, no count and no error.

use mailqos_config::Config;
use mailqos_report::{definition::Definition, facts::Selection};

use crate::{
    access::{users::Role, viewer::Viewer},
    app::App,
    definitions::scope::Scope,
    reports::store::{Stored, Wish},
};

/// Whether a user sees a definition.
pub(crate) fn sees(app: &App, viewer: &Viewer, stored: &Stored) -> bool {
    let is_own =
        || stored.definition.as_ref().is_ok_and(|definition| concerns(app, viewer, definition));
    viewer.sees_all() || (!viewer.is_visitor && is_own())
}

/// Whether a definition selects monitors of this user, and none of others.
pub(crate) fn concerns(app: &App, viewer: &Viewer, definition: &Definition) -> bool {
    let config = app.config();
    let scope = Scope::of(&config, viewer);
    let Selection { monitors, sites } = &definition.selection;
    let is_site = |site: &String| *site == config.site.as_str();
    let selects = definition.template.sections.iter().any(|placed| placed.selection.is_some());
    if selects || monitors.is_empty() || !sites.iter().all(is_site) {
        return false;
    }
    if !monitors.iter().all(|pattern| is_own(&config, (viewer, &scope), pattern)) {
        return false;
    }
    // Monitors of other sites may have the same ids.
    let board = app.keeper.board();
    let mut selected = board
        .entries
        .iter()
        .filter(|entry| definition.selection.includes(Some(&config), &entry.site, &entry.id));
    let mut count = 0;
    let all = selected.all(|entry| {
        count += 1;
        viewer.sees(entry)
    });
    all && count > 0
}

/// Whether a pattern can only ever select monitors of this user.
fn is_own(config: &Config, (viewer, scope): (&Viewer, &Scope), pattern: &str) -> bool {
    if let Some(tag) = pattern.strip_prefix("tag:") {
        return viewer.tags.as_ref().is_some_and(|own| own.contains(tag));
    }
    if let Some(object) = pattern.strip_prefix("object:") {
        return scope.owns_object(config, object);
    }
    let id = match pattern.split_once('/') {
        Some((site, id)) if site == config.site.as_str() => id,
        Some(_) => return false,
        None => pattern,
    };
    scope.monitors.contains(id)
}

/// Returns the monitors of a definition as `SITE/ID`.
pub(crate) fn keys(app: &App, viewer: &Viewer, definition: &Definition) -> Vec<String> {
    let config = app.config();
    let board = app.keeper.board();
    let entries = board.entries.iter().filter(|entry| {
        viewer.sees(entry) && definition.selection.includes(Some(&config), &entry.site, &entry.id)
    });
    entries.map(|entry| format!("{}/{}", entry.site, entry.id)).collect()
}

/// Whether a user may change definitions by their form; those of a restricted user keep their
/// template and targets.
pub(crate) fn edits(viewer: &Viewer) -> bool {
    viewer.role == Role::Administrator && viewer.csrf.is_some() && !viewer.is_visitor
}

/// Returns what a restricted user may set: template and targets stay as they are.
pub(crate) fn confined(typed: Wish, text: &str) -> Wish {
    let saved = Wish::of(text);
    Wish { template: saved.template, targets: saved.targets, ..typed }
}
