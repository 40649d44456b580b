//! The form that asks for a report: monitors, period and language.

use std::{collections::BTreeMap, sync::Arc};

use jiff::{ToSpan as _, civil::Date};
use mailqos_figures::{Calendar, Period};
use mailqos_model::UtcMicros;
use mailqos_report::definition::Format;
use serde_json::{Value, json};

use super::gallery;
use crate::{
    access::viewer::Viewer,
    app::{Answer, App, Refusal},
    board::{
        Entry,
        filter::{Filter, Group, Sort},
    },
    http::{fields::Fields, request::Ask, respond},
    language::{self, LANGUAGES, text},
    render::values,
    reports::{
        jobs::JobError,
        order::{Order, Span, Subject},
    },
};

/// Monitors that the form lists; a search finds the others.
const MAX_LISTED: usize = 200;
/// Monitors in an address.
const MAX_PASSED: usize = 40;
/// Longest name of a period or date, in bytes.
const MAX_PERIOD: usize = 40;
/// Formats of every report.
const FORMATS: [&str; 6] = ["html", "zip", "pdf", "xlsx", "csv", "json"];
/// Periods to choose from.
pub(super) const PERIODS: [&str; 10] = [
    "today",
    "yesterday",
    "last-7d",
    "last-30d",
    "current-week",
    "last-week",
    "current-month",
    "last-month",
    "current-year",
    "last-year",
];
/// Period that is chosen first.
const USUAL: &str = "last-7d";

/// Problems by field.
type Problems = BTreeMap<&'static str, &'static str>;

/// Returns the words for a period.
pub(super) fn period_words(tag: &str, period: &str) -> String {
    match period {
        "today" => text(tag, "Today"),
        "yesterday" => text(tag, "Yesterday"),
        "last-7d" => text(tag, "The last 7 days"),
        "last-30d" => text(tag, "The last 30 days"),
        "current-week" => text(tag, "This week"),
        "last-week" => text(tag, "Last week"),
        "current-month" => text(tag, "This month"),
        "last-month" => text(tag, "Last month"),
        "current-year" => text(tag, "This year"),
        "last-year" => text(tag, "Last year"),
        other => other,
    }
    .to_owned()
}

/// Shows the form of a template.
pub(crate) fn show(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require(ask)?;
    page(app, ask, &viewer, &ask.query, &Problems::new())
}

fn page(app: &App, ask: &Ask, viewer: &Viewer, typed: &Fields, problems: &Problems) -> Answer {
    let config = app.config();
    let name = ask.part("name");
    let template = gallery::find(&config, viewer, name)?
        .map_err(|_| Refusal::Invalid("This template has errors."))?;
    let locale = app.locale(ask, Some(viewer));
    let tag = locale.tag();
    let board = app.keeper.board();
    let filter = filter(typed);
    let found = filter.select(&board, viewer).rows;
    let picked: Vec<&str> = typed.all("monitor").collect();
    let is_picked = |entry: &Entry| picked.iter().any(|key| *key == key_of(entry));
    // Picked monitors stay in the list while another search is made.
    let mut listed: Vec<Arc<Entry>> = picked
        .iter()
        .filter_map(|key| key.split_once('/'))
        .filter_map(|(site, id)| board.get(site, id))
        .filter(|entry| viewer.sees(entry))
        .map(Arc::clone)
        .collect();
    let others = found.iter().filter(|(_, entry)| !is_picked(entry));
    listed.extend(others.take(MAX_LISTED).map(|(_, entry)| Arc::clone(entry)));
    let monitors: Vec<Value> = listed
        .iter()
        .map(|entry| {
            json!({
                "key": key_of(entry), "name": entry.name, "object": entry.object_name,
                "site": &*entry.site, "is_on": is_picked(entry),
            })
        })
        .collect();
    let chosen = typed.get("period").unwrap_or(USUAL);
    let mut periods: Vec<&str> = PERIODS.to_vec();
    if !periods.contains(&chosen) && !chosen.is_empty() && chosen.len() <= MAX_PERIOD {
        periods.push(chosen);
    }
    let periods: Vec<Value> = periods
        .iter()
        .map(
            |word| json!({"word": word, "text": period_words(tag, word), "is_on": *word == chosen}),
        )
        .collect();
    let speaks = typed.get("language").unwrap_or(tag);
    let languages: Vec<Value> = LANGUAGES
        .iter()
        .map(|(tag, name)| json!({"tag": tag, "name": name, "is_on": *tag == speaks}))
        .collect();
    let is_some = typed.get("which").map_or(!picked.is_empty(), |which| which == "some");
    let seen = board.entries.iter().filter(|entry| viewer.sees(entry));
    let mut tags: Vec<&String> = seen
        .flat_map(|entry| &entry.tags)
        .filter(|tag| viewer.tags.as_ref().is_none_or(|own| own.contains(*tag)))
        .collect();
    tags.sort();
    tags.dedup();
    let count = locale.integer(found.len() as u64);
    let is_filtered = is_filtered(&filter);
    let all = if is_filtered {
        language::fill(tag, "All {0} monitors found", &[&count])
    } else {
        language::fill(tag, "All {0} monitors", &[&count])
    };
    let hidden = found.len().saturating_sub(MAX_LISTED);
    let found = values([
        ("active", json!("reports")),
        ("title", json!(gallery::words(&locale, &template.title))),
        ("about", json!(gallery::words(&locale, &template.description))),
        ("picture", json!(crate::assets::ASSETS.picture(name))),
        ("here", json!(gallery::address(name))),
        ("filter", json!({"q": filter.search, "tag": filter.tag, "is_any": is_filtered})),
        ("tags", json!(tags)),
        ("all", json!(all)),
        ("hidden", json!((hidden > 0).then(|| locale.integer(hidden as u64)))),
        ("is_some", json!(is_some)),
        ("monitors", json!(monitors)),
        ("periods", json!(periods)),
        ("from", json!(typed.text("from"))),
        ("to", json!(typed.text("to"))),
        ("languages", json!(languages)),
        ("problems", json!(problems)),
        ("may_save", json!(viewer.edits_reports())),
    ]);
    let status = if problems.is_empty() { 200 } else { 422 };
    Ok(respond::html(status, app.page("report-form", ask, Some(viewer), &found)?))
}

/// Returns the formats of every report.
pub(super) fn formats() -> Vec<String> {
    let known = FORMATS.iter().filter(|name| {
        let built_in = Format::ALL.iter().any(|(known, it)| known == *name && it.is_built_in());
        **name != "zip" && built_in
    });
    known.map(|name| (*name).to_owned()).collect()
}

fn filter(typed: &Fields) -> Filter {
    let filter = Filter::read(typed);
    Filter { group: Group::None, sort: Sort::Name, states: Default::default(), ..filter }
}

fn is_filtered(filter: &Filter) -> bool {
    !filter.search.is_empty()
        || filter.tag.is_some()
        || filter.site.is_some()
        || filter.object.is_some()
}

fn key_of(entry: &Entry) -> String {
    format!("{}/{}", entry.site, entry.id)
}

/// Starts generating a report.
pub(crate) fn send(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require_form(ask)?;
    if ask.form.text("action") == "save" && viewer.edits_reports() {
        return Ok(respond::redirect(&definition(app, ask, &viewer)?));
    }
    if ask.form.text("action") == "search" {
        return page(app, ask, &viewer, &ask.form, &Problems::new());
    }
    match start(app, ask, &viewer, ask.part("name"))? {
        Ok(id) => Ok(respond::redirect(&format!("/reports/made/{id}"))),
        Err(problems) => page(app, ask, &viewer, &ask.form, &problems),
    }
}

/// Returns the address of a new definition with the choices of the form.
fn definition(app: &App, ask: &Ask, viewer: &Viewer) -> Result<String, Refusal> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("template", ask.part("name"));
    for name in ["period", "language"] {
        query.append_pair(name, ask.form.text(name));
    }
    let filter = filter(&ask.form);
    if let Some(tag) = filter.tag.as_ref().filter(|_| {
        ask.form.text("which") != "some" && filter.search.is_empty() && filter.object.is_none()
    }) {
        query.append_pair("monitor", &format!("tag:{tag}"));
    } else {
        // Addresses have a maximum length.
        for key in monitors(app, &ask.form, viewer)?.into_iter().flatten().take(MAX_PASSED) {
            query.append_pair("monitor", &key);
        }
    }
    Ok(format!("/reports/new?{}", query.finish()))
}

/// Begins the report that a form asks for, and returns its id or all problems of the form.
pub(crate) fn start(
    app: &App,
    ask: &Ask,
    viewer: &Viewer,
    name: &str,
) -> Result<Result<String, Problems>, Refusal> {
    let config = app.config();
    let template = gallery::find(&config, viewer, name)?
        .map_err(|_| Refusal::Invalid("This template has errors."))?;
    let locale = app.locale(ask, Some(viewer));
    let tag = locale.tag();
    let mut problems = Problems::new();
    let monitors = match monitors(app, &ask.form, viewer)? {
        Some(none) if none.is_empty() => {
            problems.insert("monitors", text(tag, "Choose at least one monitor."));
            None
        }
        monitors => monitors,
    };
    let calendar = Calendar::new(config.timezone.clone());
    let span = match span(&ask.form, calendar) {
        Ok(span) => Some(span),
        Err(problem) => {
            problems.insert("period", text(tag, problem));
            None
        }
    };
    let asked = ask.form.get("language").unwrap_or(tag);
    let speaks = LANGUAGES.iter().find(|(tag, _)| *tag == asked);
    if speaks.is_none() {
        problems.insert("language", text(tag, "Choose one of these languages."));
    }
    if !problems.is_empty() {
        return Ok(Err(problems));
    }
    let only = viewer.tags.is_some().then(|| {
        let board = app.keeper.board();
        let own = board.entries.iter().filter(|entry| viewer.sees(entry));
        own.map(|entry| entry.id.to_string()).collect()
    });
    let order = Order {
        config: config.file.clone(),
        lake: app.keeper.folder().map_err(Refusal::Unavailable)?,
        subject: Subject::Template(name.to_owned()),
        monitors,
        only,
        period: span,
        language: speaks.map(|(tag, _)| (*tag).to_owned()),
        formats: formats(),
        folder: std::path::PathBuf::new(),
    };
    let title = gallery::words(&locale, &template.title);
    let again = format!("{}?{}", gallery::address(name), query(&ask.form));
    match app.reports.start(order, viewer.owner(), &title, again) {
        Ok(id) => Ok(Ok(id)),
        Err(JobError::TooManyOfUser) => {
            problems.insert(
                "form",
                text(
                    tag,
                    "Several of your reports are not finished. Wait for them, or cancel one.",
                ),
            );
            Ok(Err(problems))
        }
        Err(JobError::TooMany) => {
            problems.insert(
                "form",
                text(tag, "Too many reports are being generated. Try again in a minute."),
            );
            Ok(Err(problems))
        }
        Err(error) => Err(Refusal::Internal(format!("can't start generating a report: {error}"))),
    }
}

/// Returns the chosen monitors; `None` for all of the lake.
fn monitors(app: &App, form: &Fields, viewer: &Viewer) -> Result<Option<Vec<String>>, Refusal> {
    let board = app.keeper.board();
    if form.text("which") == "some" || form.get("which").is_none() && form.get("monitor").is_some()
    {
        let mut keys = Vec::new();
        for key in form.all("monitor") {
            let (site, id) = key.split_once('/').ok_or(Refusal::NotFound)?;
            let entry = board.get(site, id).filter(|entry| viewer.sees(entry));
            keys.push(key_of(entry.ok_or(Refusal::NotFound)?));
        }
        return Ok(Some(keys));
    }
    let filter = filter(form);
    if viewer.sees_all() && !is_filtered(&filter) {
        return Ok(None);
    }
    let found = filter.select(&board, viewer).rows;
    Ok(Some(found.iter().map(|(_, entry)| key_of(entry)).collect()))
}

/// Returns the period of a form: two dates, the second of which belongs to it, or a name.
fn span(form: &Fields, calendar: Calendar) -> Result<Span, &'static str> {
    const WRONG: &str =
        "This is not a period: enter two dates such as 2026-03-31, the first one earlier.";
    let (from, to) = (form.text("from").trim(), form.text("to").trim());
    if from.is_empty() && to.is_empty() {
        let name = form.get("period").unwrap_or(USUAL);
        let is_known =
            name.len() <= MAX_PERIOD && Period::named(name, UtcMicros::now(), calendar).is_ok();
        return if is_known { Ok(Span::Named(name.to_owned())) } else { Err(WRONG) };
    }
    let date = |text: &str| text.parse::<Date>().ok().filter(|_| text.len() == 10);
    let (Some(from), Some(to)) = (date(from), date(to)) else {
        return Err(WRONG);
    };
    let after = to.checked_add(1.day()).map_err(|_| WRONG)?;
    let (from, after) = (from.to_string(), after.to_string());
    Period::between(&from, &after, calendar).map_err(|_| WRONG)?;
    Ok(Span::Between(from, after))
}

/// Returns the query with which the form shows the same choices.
fn query(form: &Fields) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for name in ["q", "tag", "site", "object", "which", "period", "from", "to", "language"] {
        if let Some(text) = form.get(name).filter(|text| !text.is_empty()) {
            query.append_pair(name, text);
        }
    }
    // Addresses have a maximum length.
    for key in form.all("monitor").take(MAX_PASSED) {
        query.append_pair("monitor", key);
    }
    query.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_day_of_a_period_belongs_to_it() {
        let calendar = || Calendar::new(jiff::tz::TimeZone::UTC);
        let of = |text: &str| span(&Fields::parse(text.as_bytes()), calendar());
        match of("from=2026-02-28&to=2026-02-28") {
            Ok(Span::Between(from, to)) => {
                assert_eq!((from.as_str(), to.as_str()), ("2026-02-28", "2026-03-01"));
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(of("period=2026-03"), Ok(Span::Named(name)) if name == "2026-03"));
        for wrong in [
            "from=2026-03-01&to=2026-02-01",
            "from=2026-03-01",
            "to=2026-03-01",
            "from=a&to=b",
            "from=2026-02-30&to=2026-03-01",
            "from=2026-01-01&to=9999-12-31",
            "period=soon",
            "period=",
        ] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_format_is_known() {
        for name in FORMATS {
            assert!(Format::ALL.iter().any(|(known, _)| *known == name), "{name}");
        }
    }
}
