//! Monitors as the overview, the event stream and the head of the monitor page show them.

use mailqos_model::UtcMicros;
use mailqos_report::locale::{DASH, Locale};
use serde::Serialize;

use crate::{
    board::{Entry, Health, Probe, State},
    language::{fill, text},
};

/// What changes about a monitor while a page is open.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Live {
    /// `SITE/ID`.
    pub(crate) key: String,
    /// State, in the word of addresses and classes.
    pub(crate) state: &'static str,
    /// State in the reader's language.
    pub(crate) word: String,
    /// Last round trip, or a dash.
    pub(crate) value: String,
    /// Start of the last test, in RFC 3339; empty if there is none.
    pub(crate) at: String,
    /// The same in readable form.
    pub(crate) at_text: String,
    /// What is wrong or planned, in a line.
    pub(crate) detail: String,
    /// Since when, in RFC 3339; empty if nothing is wrong.
    pub(crate) since: String,
    /// The same in readable form.
    pub(crate) since_text: String,
}

/// A monitor as a tile or a row.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    #[serde(flatten)]
    pub(crate) live: Live,
    pub(crate) href: String,
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) site: String,
    pub(crate) object: String,
    pub(crate) object_name: String,
    /// Drawing of the last day.
    pub(crate) svg: String,
    /// Availability of the last day.
    pub(crate) share: String,
    /// Median round trip of the last day.
    pub(crate) median: String,
    /// The last day in words, for screen readers.
    pub(crate) day: String,
}

/// Returns the name of a state in a language.
pub(crate) fn word(state: State, tag: &str) -> &'static str {
    match state {
        State::Alarm => text(tag, "Alarm"),
        State::Failed => text(tag, "Failed"),
        State::Unknown => text(tag, "Unknown"),
        State::Maintenance => text(tag, "Maintenance"),
        State::Ok => text(tag, "OK"),
        State::Disabled => text(tag, "Disabled"),
    }
}

/// Returns what is wrong or planned about a monitor, in a line.
fn detail(entry: &Entry, locale: &Locale) -> String {
    let tag = locale.tag();
    let mut parts: Vec<String> = Vec::new();
    let alarm = entry.alarm.as_ref();
    if let Some(acknowledged) = alarm.and_then(|alarm| alarm.acknowledged.as_ref()) {
        parts.push(fill(tag, "Acknowledged by {0}", &[&acknowledged.by]));
        parts.extend(acknowledged.note.clone());
    } else if entry.state == State::Alarm {
        parts.push(text(tag, "Not acknowledged").to_owned());
    }
    if let Some(window) = &entry.maintenance {
        let until = locale.moment_in_period(window.until.into());
        parts.push(fill(tag, "{0} until {1}", &[&window.name, &until]));
        parts.extend(window.reason.clone());
    }
    if let Some(known) = entry.last_known {
        parts.push(fill(tag, "Last known: {0}", &[word(known, tag)]));
    } else if entry.state == State::Unknown {
        let never = entry.last.is_none();
        let words =
            if never { text(tag, "Not tested yet") } else { text(tag, "No current result") };
        parts.push(words.to_owned());
    }
    if matches!(entry.state, State::Alarm | State::Failed | State::Maintenance) {
        parts.extend(entry.reason.clone());
    }
    parts.join(" · ")
}

/// Returns what changes about a monitor.
pub(crate) fn live(entry: &Entry, locale: &Locale) -> Live {
    let tag = locale.tag();
    let last = entry.last.as_ref();
    let value = match last.and_then(|last| last.round_trip) {
        Some(trip) => locale.duration(trip.0 as f64),
        None => DASH.to_owned(),
    };
    let since = match entry.state {
        State::Alarm => entry.alarm.as_ref().map(|alarm| UtcMicros::from(alarm.since)),
        State::Failed => entry.failing_since,
        _ => None,
    };
    let iso = |at: Option<UtcMicros>| at.map(|at| at.to_string()).unwrap_or_default();
    let people = |at: Option<UtcMicros>| at.map(|at| locale.moment(at)).unwrap_or_default();
    let at = last.map(|last| last.at);
    Live {
        key: format!("{}/{}", entry.site, entry.id),
        state: entry.state.as_str(),
        word: word(entry.state, tag).to_owned(),
        value,
        at: iso(at),
        at_text: people(at),
        detail: detail(entry, locale),
        since: iso(since),
        since_text: people(since),
    }
}

/// Returns a monitor as a tile or a row.
pub(crate) fn row(entry: &Entry, locale: &Locale) -> Row {
    let tag = locale.tag();
    let day = &entry.day;
    let share = locale.share(day.ok.into(), day.tests.into());
    let median = day.median.map_or_else(|| DASH.to_owned(), |median| locale.duration(median));
    let words = if day.tests == 0 {
        text(tag, "No tests in the last 24 hours").to_owned()
    } else {
        let failed = locale.integer(u64::from(day.tests - day.ok));
        let tests = locale.integer(day.tests.into());
        fill(
            tag,
            "Last 24 hours: availability {0}, {1} of {2} tests not OK, median round trip {3}",
            &[&share, &failed, &tests, &median],
        )
    };
    Row {
        live: live(entry, locale),
        href: href(&entry.site, &entry.id),
        name: entry.name.clone(),
        id: entry.id.to_string(),
        site: entry.site.to_string(),
        object: entry.object.clone(),
        object_name: entry.object_name.clone(),
        svg: day.svg(),
        share,
        median,
        day: words,
    }
}

/// Returns the address of a monitor's page. Ids and sites contain no characters that need escapes.
pub(crate) fn href(site: &str, id: &str) -> String {
    format!("/monitors/{site}/{id}")
}

/// Returns the address of the page of an object.
pub(super) fn object_href(id: &str) -> String {
    format!("/objects/{id}")
}

/// A notice about a probe.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Notice {
    pub(crate) class: &'static str,
    pub(crate) title: String,
    pub(crate) text: String,
}

/// Returns what a viewer must know about a probe before it believes the states. Those who don't see
/// all monitors learn neither errors nor channels.
pub(crate) fn notices(probe: &Probe, sees_all: bool, locale: &Locale) -> Vec<Notice> {
    let tag = locale.tag();
    let mut notices = Vec::new();
    let mut add = |class, title: String, text: String| notices.push(Notice { class, title, text });
    let at = probe.written_at.map(|at| locale.moment_in_period(at)).unwrap_or_default();
    let age = probe.written_at.map(|at| locale.span(truncated(UtcMicros::now() - at)));
    let age = age.unwrap_or_default();
    let states = text(tag, "The states of its monitors are unknown.");
    match probe.health {
        Health::Running => {}
        Health::Stopped => add(
            "warn",
            fill(tag, "The probe {0} is stopped", &[&probe.site]),
            format!("{} {states}", fill(tag, "It was stopped at {0}.", &[&at])),
        ),
        Health::Silent => add(
            "bad",
            fill(tag, "The probe {0} has been silent for {1}", &[&probe.site, &age]),
            format!("{} {states}", fill(tag, "Its last status is from {0}.", &[&at])),
        ),
        Health::Unreadable => add(
            "bad",
            fill(tag, "The status of the probe {0} can't be read", &[&probe.site]),
            match &probe.error {
                Some(error) if sees_all => format!("{error}. {states}"),
                _ => states.to_owned(),
            },
        ),
        Health::Absent => add(
            "warn",
            fill(tag, "The probe {0} has not reported yet", &[&probe.site]),
            text(tag, "Start it with: mailqos-probe run").to_owned(),
        ),
    }
    if let Some(problem) = probe.recorder_problem.as_ref().filter(|_| sees_all) {
        add(
            "bad",
            fill(tag, "The probe {0} can't record samples", &[&probe.site]),
            problem.clone(),
        );
    }
    for (channel, error) in probe.channels.iter().filter(|_| sees_all) {
        add(
            "warn",
            fill(tag, "The channel {0} accepts no notifications", &[channel]),
            error.clone(),
        );
    }
    notices
}

/// Whole seconds below a minute, else whole minutes.
fn truncated(span: mailqos_model::Micros) -> mailqos_model::Micros {
    let unit = if span.0.abs() < 60_000_000 { 1_000_000 } else { 60_000_000 };
    mailqos_model::Micros(span.0.abs() / unit * unit)
}
