//! How a figure of a monitor is calculated, down to its samples: what `stats --explain` prints.

use mailqos_figures::explain::{Explanation, figure::Figure};
use serde_json::{Value, json};

use super::{
    figure_links::{FIGURES, links},
    monitor::{Asked, find},
    rows,
};
use crate::{
    access::viewer::Viewer,
    app::{Answer, App, Refusal},
    board::Entry,
    http::{request::Ask, respond},
    language::text,
    render::values,
};

/// The figure that is explained if an address names none.
const USUAL: &str = "availability";

/// Returns the explanation that an address asks for; `None` without tests.
///
/// # Errors
/// There is no such figure, or the lake can't be read.
pub(crate) fn explanation(
    app: &App,
    ask: &Ask,
    (viewer, entry, asked): (&Viewer, &Entry, &Asked),
) -> Result<Option<Explanation>, Refusal> {
    let name = ask.query.get("figure").unwrap_or(USUAL);
    let figure: Figure = name.parse().map_err(|_: String| {
        Refusal::Invalid("There is no such figure; use a name of stats, such as round_trip_p95.")
    })?;
    let question = asked.question(entry, viewer, "en");
    let folder = app.keeper.folder().map_err(Refusal::Unavailable)?;
    let found = app.figures.explain(&question, &folder, &app.config(), &figure);
    found.map_err(|error| Refusal::Unavailable(error.to_string()))
}

/// Shows the page.
pub(crate) fn show(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require(ask)?;
    let entry = find(app, ask, &viewer)?;
    let asked = Asked::read(app, ask)?;
    let locale = app.locale(ask, Some(&viewer));
    let tag = locale.tag();
    let found = explanation(app, ask, (&viewer, &entry, &asked))?;
    let name = ask.query.get("figure").unwrap_or(USUAL);
    let known = FIGURES.iter().find(|(figure, ..)| *figure == name);
    let samples: Vec<Value> = found
        .iter()
        .flat_map(|found| &found.samples)
        .map(|sample| {
            json!({
                "at": sample.started_at, "outcome": sample.outcome,
                "value": sample.value.map(|value| locale.duration(value * 1_000.0)),
                "role": sample.role, "stage": sample.stage, "error": sample.error,
            })
        })
        .collect();
    let base = rows::href(&entry.site, &entry.id);
    let back = format!("{base}?from={}&to={}", asked.period.from, asked.period.to);
    let found = values([
        ("active", json!("overview")),
        ("name", json!(entry.name)),
        ("back", json!(back)),
        ("figure", json!(name)),
        ("title", json!(known.map_or(name, |(_, title, _)| text(tag, title)))),
        ("period", json!(locale.period(&asked.period))),
        ("text", json!(found.as_ref().map(|found| found.text("")))),
        ("samples", json!(samples)),
        ("figures", json!(links(&entry, &asked.period, (name, tag)))),
    ]);
    Ok(respond::html(200, app.page("explain", ask, Some(&viewer), &found)?))
}
