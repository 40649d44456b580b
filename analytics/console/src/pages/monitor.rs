//! The page of a monitor: its current state; figures and charts follow, because a year of samples
//! takes a moment to read.

use std::sync::Arc;

use mailqos_figures::{Calendar, Period, Unit};
use mailqos_model::{Micros, UtcMicros};
use mailqos_report::locale::{DASH, Locale};
use serde_json::{Value, json};

use super::rows;
use crate::{
    access::viewer::Viewer,
    app::{Answer, App, Refusal},
    board::Entry,
    figures::{Question, Span},
    http::{request::Ask, respond},
    language::text,
    render::{Values, value, values},
};

/// Shortest period of an address.
const MIN_LENGTH: Micros = Micros::from_secs(60);
/// Longest period of an address.
const MAX_LENGTH: Micros = Micros::from_secs(3_660 * 86_400);
/// Largest number of lengths that a rolling period lies in the past.
const MAX_BACK: u32 = 10_000;

/// Finds the monitor of an address, if the viewer sees it. Whether a monitor does not exist or is
/// not visible makes no difference.
pub(crate) fn find(app: &App, ask: &Ask, viewer: &Viewer) -> Result<Arc<Entry>, Refusal> {
    let board = app.keeper.board();
    let entry = board.get(ask.part("site"), ask.part("id"));
    entry.filter(|entry| viewer.sees(entry)).map(Arc::clone).ok_or(Refusal::NotFound)
}

/// The period of an address.
pub(crate) struct Asked {
    /// Rolling length, unless a calendar period is named.
    pub(crate) span: Option<Span>,
    /// Number of periods to go back.
    pub(crate) back: u32,
    /// The period.
    pub(crate) period: Period,
}

impl Asked {
    /// Reads the period: `period=week&back=1`, or the name of a calendar period, such as
    /// `period=2026-11`.
    ///
    /// # Errors
    /// There is no such period.
    pub(crate) fn read(app: &App, ask: &Ask) -> Result<Self, Refusal> {
        Self::read_or(app, ask, "day")
    }

    /// The same with another default.
    ///
    /// # Errors
    /// There is no such period.
    pub(crate) fn read_or(app: &App, ask: &Ask, usual: &str) -> Result<Self, Refusal> {
        if ask.query.get("from").is_some() {
            return Self::between(app, ask);
        }
        let word = ask.query.get("period").unwrap_or(usual);
        let back = ask.query.text("back").parse().unwrap_or(0).min(MAX_BACK);
        let calendar = Calendar::new(app.config().timezone.clone());
        let span = Span::WORDS.iter().find(|(name, _)| *name == word).map(|(_, span)| *span);
        let now = UtcMicros::now();
        let period = match span {
            Some(span) => span.period(back, now, calendar),
            None => Period::named(word, now, calendar).ok(),
        };
        let period = period.ok_or(Refusal::Invalid(
            "There is no such period; use day, week, month, year or a date such as 2026-11.",
        ))?;
        Ok(Self { span, back, period })
    }

    /// Reads `from` and `to` of an address, in RFC 3339 with an offset.
    fn between(app: &App, ask: &Ask) -> Result<Self, Refusal> {
        let moment = |name: &str| ask.query.text(name).parse::<jiff::Timestamp>().ok();
        let calendar = Calendar::new(app.config().timezone.clone());
        let ends = moment("from").zip(moment("to"));
        let ends = ends.map(|(from, to)| (UtcMicros::from(from), UtcMicros::from(to)));
        let period = ends
            .filter(|(from, to)| (MIN_LENGTH..=MAX_LENGTH).contains(&(*to - *from)))
            .and_then(|(from, to)| Period::new(from, to, calendar).ok());
        let period = period.ok_or(Refusal::Invalid(
            "Set from and to in the form 2026-12-01T22:00:00Z, between one minute and ten years apart.",
        ))?;
        Ok(Self { span: None, back: 0, period })
    }

    /// Returns the question for figures.
    pub(crate) fn question(&self, entry: &Entry, viewer: &Viewer, language: &str) -> Question {
        Question {
            site: entry.site.to_string(),
            id: entry.id.to_string(),
            from: self.period.from,
            to: self.period.to,
            language: language.to_owned(),
            sees_all: viewer.sees_all(),
        }
    }
}

/// Shows the page.
pub(crate) fn show(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require(ask)?;
    let entry = find(app, ask, &viewer)?;
    let asked = Asked::read(app, ask)?;
    let locale = app.locale(ask, Some(&viewer));
    let mut found = values([
        ("active", json!("overview")),
        ("row", value(&rows::row(&entry, &locale))),
        ("facts", facts(&entry, &viewer, &locale)),
        ("period", json!(locale.period(&asked.period))),
        ("manage", super::definition::links(app, &viewer, &entry)),
        ("query", json!(format!("id={}&site={}", entry.id, entry.site))),
    ]);
    let board = app.keeper.board();
    let probe = board.probes.iter().filter(|probe| probe.site == entry.site);
    let notices: Vec<_> =
        probe.flat_map(|probe| rows::notices(probe, viewer.sees_all(), &locale)).collect();
    found.insert("notices".to_owned(), value(&notices));
    found.extend(navigation(&entry, &asked, &locale));
    found.extend(deeds(app, ask, &entry, &locale));
    // Without script, the figures are part of the page.
    let (html, problem) = match figures_of(app, &entry, &asked, (&viewer, &locale)) {
        Ok(html) => (html, ""),
        Err(Refusal::Unavailable(reason)) => {
            tracing::warn!(%reason, "console: no figures");
            (Arc::from(""), text(locale.tag(), "The figures can't be read at the moment."))
        }
        Err(refusal) => return Err(refusal),
    };
    found.insert("figures".to_owned(), json!(&*html));
    found.insert("problem".to_owned(), json!(problem));
    Ok(respond::html(200, app.page("monitor", ask, Some(&viewer), &found)?))
}

/// Sends the figures alone, for a page that is kept up to date.
pub(crate) fn figures(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require(ask)?;
    let entry = find(app, ask, &viewer)?;
    let asked = Asked::read(app, ask)?;
    let locale = app.locale(ask, Some(&viewer));
    let html = figures_of(app, &entry, &asked, (&viewer, &locale))?;
    Ok(respond::html(200, html.to_string()))
}

fn figures_of(
    app: &App,
    entry: &Entry,
    asked: &Asked,
    (viewer, locale): (&Viewer, &Locale),
) -> Result<Arc<str>, Refusal> {
    let question = asked.question(entry, viewer, locale.tag());
    let folder = app.keeper.folder().map_err(Refusal::Unavailable)?;
    let page = app.figures.page(&question, &folder, &app.config());
    page.map_err(|error| Refusal::Unavailable(error.to_string()))
}

/// Returns the links to other periods.
fn navigation(entry: &Entry, asked: &Asked, locale: &Locale) -> Values {
    let base = rows::href(&entry.site, &entry.id);
    let tag = locale.tag();
    let link = |word: &str, back: u32| match back {
        0 => format!("{base}?period={word}"),
        back => format!("{base}?period={word}&back={back}"),
    };
    let name = |span: Span| match span {
        Span::Day => text(tag, "24 hours"),
        Span::Week => text(tag, "7 days"),
        Span::Month => text(tag, "30 days"),
        Span::Year => text(tag, "365 days"),
    };
    let spans: Vec<Value> = Span::WORDS
        .iter()
        .map(|(word, span)| {
            let is_on = asked.span == Some(*span);
            json!({"text": name(*span), "href": link(word, 0), "is_on": is_on})
        })
        .collect();
    let word = Span::WORDS.iter().find(|(_, span)| asked.span == Some(*span));
    let mut earlier =
        word.filter(|_| asked.back < MAX_BACK).map(|(word, _)| link(word, asked.back + 1));
    let mut later = word.filter(|_| asked.back > 0).map(|(word, _)| link(word, asked.back - 1));
    // Periods that are not rolling have neighbours of the same length, by their ends.
    let (from, to) = (asked.period.from, asked.period.to);
    let length = to - from;
    if asked.span.is_none() {
        let before = asked.period.previous();
        earlier = Some(between(&base, before.from, before.to));
        later = (to < UtcMicros::now()).then(|| between(&base, to, to + length));
    }
    let half = Micros(length.0 / 2);
    let wider = Micros(length.0.saturating_mul(2)) <= MAX_LENGTH;
    let out = wider.then(|| between(&base, from - half, to + half));
    values([
        ("out", json!(out)),
        ("parts", json!(parts(&base, asked, locale))),
        ("explanations", json!(super::figure_links::links(entry, &asked.period, ("", tag)))),
        ("base", json!(base)),
        ("spans", spans.into()),
        ("earlier", json!(earlier)),
        ("later", json!(later)),
        ("is_current", json!(asked.span.is_some() && asked.back == 0)),
    ])
}

/// Returns the address of a period; its ends are in UTC, so that everyone sees the same, whatever
/// the time zone of the browser.
fn between(base: &str, from: UtcMicros, to: UtcMicros) -> String {
    format!("{base}?from={from}&to={to}")
}

/// Returns links to the parts of a period: hours of a day, days of a month, months of a year.
fn parts(base: &str, asked: &Asked, locale: &Locale) -> Vec<Value> {
    let period = &asked.period;
    let length = period.duration();
    let days = length.0 / 86_400_000_000;
    let edges: Vec<(UtcMicros, UtcMicros)> = match days {
        0..=1 if length.0 > 4 * 3_600_000_000 => buckets(period, Unit::Hour),
        0..=1 => {
            let step = Micros((length.0 / 12).max(MIN_LENGTH.0));
            let starts = (0..12).map(|number| period.from + Micros(step.0 * number));
            let starts = starts.take_while(|from| *from < period.to);
            starts.map(|from| (from, (from + step).min(period.to))).collect()
        }
        2..=62 => buckets(period, Unit::Day),
        63..=800 => buckets(period, Unit::Month),
        _ => buckets(period, Unit::Year),
    };
    let clock = |at: UtcMicros| {
        let local = locale.zone().to_datetime(at.timestamp());
        local
            .strftime(if length < Micros::from_secs(600) { "%H:%M:%S" } else { "%H:%M" })
            .to_string()
    };
    let short = |at: UtcMicros| {
        let local = locale.zone().to_datetime(at.timestamp());
        match days {
            0..=1 => clock(at),
            2..=62 => local.strftime("%-d").to_string(),
            63..=800 => local.strftime("%-m").to_string(),
            _ => local.strftime("%Y").to_string(),
        }
    };
    let part = |(from, to): (UtcMicros, UtcMicros)| {
        let named = Period::new(from, to, period.calendar.clone()).ok();
        let title = named.map(|named| locale.period(&named)).unwrap_or_default();
        json!({
            "href": between(base, from, to), "from": from.to_string(), "to": to.to_string(),
            "text": short(from), "title": title,
        })
    };
    let is_long = |(from, to): &(UtcMicros, UtcMicros)| *to - *from >= MIN_LENGTH;
    edges.into_iter().filter(is_long).map(part).collect()
}

/// Returns the calendar's buckets within a period.
fn buckets(period: &Period, unit: Unit) -> Vec<(UtcMicros, UtcMicros)> {
    let all = period.buckets(unit).into_iter();
    all.map(|bucket| (bucket.start.max(period.from), bucket.end.min(period.to))).collect()
}

/// Returns the values of what operators do about a monitor.
fn deeds(app: &App, ask: &Ask, entry: &Entry, locale: &Locale) -> Values {
    let tag = locale.tag();
    let done = match ask.query.text("done") {
        "acknowledged" => text(tag, "The alarm is acknowledged: reminders and escalations end."),
        "withdrawn" => text(tag, "The acknowledgement is withdrawn: reminders continue."),
        _ => super::definition::notice(tag, ask),
    };
    let alarm = entry.alarm.as_ref().map(|alarm| format!("{}@{}", entry.id, alarm.since));
    values([
        ("done", json!(done)),
        ("is_own", json!(*entry.site == *app.config().site.as_str())),
        ("in_alarm", json!(alarm)),
        ("acknowledged", json!(entry.is_acknowledged())),
        ("declare", json!(format!("/maintenance?monitors={}", entry.id))),
    ])
}

/// Returns names and values about a monitor.
fn facts(entry: &Entry, viewer: &Viewer, locale: &Locale) -> Value {
    let tag = locale.tag();
    let moment = |at: Option<UtcMicros>| {
        at.map_or_else(|| DASH.to_owned(), |at| locale.moment_in_period(at))
    };
    let mut facts = vec![
        (
            text(tag, "Object"),
            match entry.address.as_str() {
                "" => entry.object_name.clone(),
                address if address == entry.object_name => address.to_owned(),
                address => format!("{} ({address})", entry.object_name),
            },
        ),
        (text(tag, "Site"), entry.site.to_string()),
        (text(tag, "Last test"), moment(entry.last.as_ref().map(|last| last.at))),
        (text(tag, "Last success"), moment(entry.last_ok)),
        (text(tag, "Next test"), moment(entry.next)),
    ];
    if let Some(most) = entry.max_round_trip {
        facts.push((text(tag, "Max round trip"), locale.span(most)));
    }
    if let Some(interval) = entry.test_interval {
        facts.push((text(tag, "Test interval"), locale.span(interval)));
    }
    if !entry.kind.is_empty() {
        facts.push((text(tag, "Kind"), entry.kind.clone()));
    }
    let is_own =
        |found: &&String| viewer.tags.as_ref().is_none_or(|own| own.contains(found.as_str()));
    let tags: Vec<&str> = entry.tags.iter().filter(is_own).map(String::as_str).collect();
    if !tags.is_empty() {
        facts.push((text(tag, "Tags"), tags.join(", ")));
    }
    value(&facts)
}
