//! The overview: all monitors that the viewer sees.

use std::{collections::BTreeSet, sync::Arc};

use mailqos_report::locale::Locale;
use serde::Serialize;
use serde_json::json;

use super::rows::{self, Row, notices};
use crate::{
    access::viewer::Viewer,
    app::{Answer, App},
    board::{
        Board, Entry, State,
        filter::{Filter, Group, Sort, View},
        shown::Shown,
    },
    http::{request::Ask, respond},
    render::{value, values},
};

/// A link with a text.
#[derive(Debug, Serialize)]
struct Link {
    text: String,
    href: String,
    is_on: bool,
}

/// Count of a state.
#[derive(Debug, Serialize)]
struct StateCount {
    state: &'static str,
    word: &'static str,
    count: String,
    is_none: bool,
    href: String,
    is_on: bool,
}

/// Monitors under one heading.
#[derive(Debug, Serialize)]
struct Section {
    title: String,
    href: String,
    rows: Vec<Row>,
}

/// Shows the overview.
pub(crate) fn show(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require(ask)?;
    let filter = Filter::read(&ask.query);
    let board = app.keeper.board();
    let locale = app.locale(ask, Some(&viewer));
    let shown = app.views.shown(&board, &filter, &viewer);
    let sections = shown.rendered(locale.tag(), || {
        let found = values([
            ("view", json!(filter.view.as_str())),
            ("group", json!(filter.group.as_str())),
            ("sections", value(&sections(&shown.rows, &filter, &locale))),
        ]);
        app.pages.part("sections", locale.tag(), &found)
    })?;
    let notices: Vec<_> = board
        .probes
        .iter()
        .filter(|probe| concerns(&board, &viewer, &probe.site))
        .flat_map(|probe| notices(probe, viewer.sees_all(), &locale))
        .collect();
    let lake_error = board.lake_error.clone().filter(|_| viewer.sees_all());
    let mut found = values([
        ("active", json!("overview")),
        (
            "filter",
            json!({
                "q": filter.search, "site": filter.site, "tag": filter.tag, "object": filter.object,
                "view": filter.view.as_str(), "group": filter.group.as_str(),
                "sort": filter.sort.as_str(), "query": filter.query(),
                "states": filter.states.iter().map(|state| state.as_str()).collect::<Vec<_>>(),
                "is_any": filter.query() != Filter { search: String::new(), states: BTreeSet::new(), site: None, tag: None, object: None, page: 1, ..filter.clone() }.query(),
            }),
        ),
        (
            "clear",
            json!(filter.link(|all| {
                (all.search, all.states) = (String::new(), BTreeSet::new());
                (all.site, all.tag, all.object) = (None, None, None);
            })),
        ),
        ("number", json!(board.number)),
        ("counts", value(&counts(&shown, &filter, &locale))),
        ("headline", value(&headline(&shown, &locale))),
        ("notices", value(&notices)),
        ("lake_error", value(&lake_error)),
        ("sections", json!(*sections)),
        ("is_empty", json!(shown.matching == 0)),
        ("has_none", json!(shown.all == 0)),
        ("sites", value(&shown.sites)),
        ("tags", value(&shown.tags)),
        ("views", value(&views(&filter, &locale))),
    ]);
    found.extend(paging(&filter, &locale, shown.paging, shown.matching));
    found.extend(orders(&filter, &locale));
    Ok(respond::html(200, app.page("overview", ask, Some(&viewer), &found)?))
}

/// Whether a viewer sees a monitor of a site; notices about other sites are none of its business.
fn concerns(board: &Board, viewer: &Viewer, site: &str) -> bool {
    viewer.sees_all()
        || board.entries.iter().any(|entry| *entry.site == *site && viewer.sees(entry))
}

fn sections(rows: &[(String, Arc<Entry>)], filter: &Filter, locale: &Locale) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for (group, entry) in rows {
        let is_new = sections.last().is_none_or(|last| last.title != *group);
        if is_new {
            let href = filter.link(|other| match filter.group {
                Group::None => {}
                Group::Site => other.site = Some(entry.site.to_string()),
                Group::Tag => other.tag = Some(group.clone()),
                Group::Object => other.object = Some(entry.object.clone()),
            });
            sections.push(Section { title: group.clone(), href, rows: Vec::new() });
        }
        if let Some(last) = sections.last_mut() {
            last.rows.push(rows::row(entry, locale));
        }
    }
    sections
}

fn counts(shown: &Shown, filter: &Filter, locale: &Locale) -> Vec<StateCount> {
    let count = |state: &State| {
        let count = shown.counts[*state as usize];
        let is_on = filter.states.contains(state);
        StateCount {
            state: state.as_str(),
            word: rows::word(*state, locale.tag()),
            count: locale.integer(count as u64),
            is_none: count == 0,
            href: filter.link(|other| {
                if !other.states.remove(state) {
                    other.states.insert(*state);
                }
            }),
            is_on,
        }
    };
    State::ALL.iter().map(count).collect()
}

/// Returns the finding in a sentence, and its class.
fn headline(shown: &Shown, locale: &Locale) -> (String, &'static str) {
    let tag = locale.tag();
    let count = |state: State| shown.counts[state as usize] as u64;
    let (alarms, failed, unknown) =
        (count(State::Alarm), count(State::Failed), count(State::Unknown));
    let total: usize = shown.counts.iter().sum();
    let all = locale.integer(total as u64);
    let several = |number: u64, one: &'static str, many: &'static str| {
        crate::language::fill(tag, if number == 1 { one } else { many }, &[&locale.integer(number)])
    };
    if total == 0 {
        return (crate::language::text(tag, "No monitors").to_owned(), "unknown");
    }
    let mut parts = Vec::new();
    if alarms > 0 {
        let mut text = several(alarms, "One monitor in alarm", "{0} monitors in alarm");
        let open = alarms.saturating_sub(shown.acknowledged as u64);
        if open < alarms {
            let open = locale.integer(open);
            text.push_str(&crate::language::fill(tag, " ({0} not acknowledged)", &[&open]));
        }
        parts.push(text);
    }
    if failed > 0 {
        parts.push(several(failed, "one failed", "{0} failed"));
    }
    if unknown > 0 {
        parts.push(several(unknown, "one unknown", "{0} unknown"));
    }
    let class = match (alarms, failed, unknown) {
        (1.., ..) => "bad",
        (_, 1.., _) => "warn",
        (_, _, 1..) => "unknown",
        _ => "good",
    };
    if parts.is_empty() {
        let one = "The monitor is OK";
        let many = "All {0} monitors are OK, in maintenance or disabled";
        let plain = "All {0} monitors are OK";
        let is_plain = count(State::Ok) == total as u64;
        let words = if total == 1 && is_plain {
            one
        } else if is_plain {
            plain
        } else {
            many
        };
        return (crate::language::fill(tag, words, &[&all]), class);
    }
    let mut text = parts.join(", ");
    let mut letters = text.chars();
    if let Some(first) = letters.next() {
        text = first.to_uppercase().chain(letters).collect();
    }
    (crate::language::fill(tag, "{0} of {1}", &[&text, &all]), class)
}

fn views(filter: &Filter, locale: &Locale) -> Vec<Link> {
    let tag = locale.tag();
    View::ALL
        .iter()
        .map(|view| Link {
            text: match view {
                View::Tiles => crate::language::text(tag, "Tiles"),
                View::Table => crate::language::text(tag, "Table"),
                View::Wall => crate::language::text(tag, "Wall"),
            }
            .to_owned(),
            href: filter.link(|other| other.view = *view),
            is_on: filter.view == *view,
        })
        .collect()
}

/// Returns the choices of grouping and order: words of addresses with their texts.
fn orders(filter: &Filter, locale: &Locale) -> crate::render::Values {
    let tag = locale.tag();
    let t = |english| crate::language::text(tag, english);
    let group = |group: &Group| {
        let words = match group {
            Group::None => t("No groups"),
            Group::Site => t("By site"),
            Group::Tag => t("By tag"),
            Group::Object => t("By object"),
        };
        json!({"word": group.as_str(), "text": words, "is_on": *group == filter.group})
    };
    let sort = |sort: &Sort| {
        let words = match sort {
            Sort::State => t("Most urgent first"),
            Sort::Name => t("By name"),
            Sort::RoundTrip => t("Slowest first"),
            Sort::Availability => t("Lowest availability first"),
        };
        json!({"word": sort.as_str(), "text": words, "is_on": *sort == filter.sort})
    };
    values([
        ("groups", Group::ALL.iter().map(group).collect()),
        ("sorts", Sort::ALL.iter().map(sort).collect()),
    ])
}

fn paging(
    filter: &Filter,
    locale: &Locale,
    (page, pages, size): (usize, usize, usize),
    all: usize,
) -> crate::render::Values {
    let to = |number: usize| filter.link(|other| other.page = number);
    let first = (page - 1) * size + 1;
    let last = (page * size).min(all);
    let number = |number: usize| locale.integer(number as u64);
    values([(
        "paging",
        json!({
            "is_needed": pages > 1,
            "previous": (page > 1).then(|| to(page - 1)),
            "next": (page < pages).then(|| to(page + 1)),
            "range": [format!("{}–{}", number(first), number(last)), number(all)],
        }),
    )])
}
