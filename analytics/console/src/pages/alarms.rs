//! Alarms: open ones and those of the past; acknowledge, simulate, try an action list.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use mailqos_control::{Request, StateWord, response::StatusResponse};
use mailqos_figures::{
    Period,
    alarm_log::{Alarm, AlarmLog},
};
use mailqos_lake_tables::Lake;
use mailqos_model::UtcMicros;
use mailqos_report::locale::{DASH, Locale};
use serde_json::{Value, json};

use super::{monitor::Asked, rows};
use crate::{
    access::viewer::Viewer,
    app::{Answer, App, Refusal},
    board::Entry,
    figures::Span,
    http::{request::Ask, respond},
    language::{fill, text},
    operations::{
        Done, Failed, Problem,
        alarms::{self, AckAnswer, AckRequest, SimulateRequest, TryAnswer, TryRequest},
        explain, look, named, require_operator, visible,
    },
    render::{Values, values},
};

/// Alarms of the past on the page.
const MAX_PAST: usize = 200;
/// Durations of a simulation to choose from, in minutes.
const MINUTES: [u32; 4] = [5, 10, 30, 60];

/// Alarms of a period that a viewer sees, latest first.
pub(crate) struct Past {
    pub(crate) alarms: Vec<Alarm>,
    /// Whether older alarms may be missing.
    is_cut: bool,
}

impl Past {
    /// Reads the alarms of a period.
    ///
    /// # Errors
    /// The lake can't be read.
    pub(crate) fn load(app: &App, viewer: &Viewer, period: &Period) -> Result<Self, String> {
        let folder = app.keeper.folder()?;
        let lake = Lake::open(&folder).map_err(|error| error.to_string())?.skip_corrupt(true);
        let board = app.keeper.board();
        let is_seen = |site: &str, id: &str| {
            viewer.sees_all() || board.get(site, id).is_some_and(|entry| viewer.sees(entry))
        };
        let log = AlarmLog::load(&lake, period, &is_seen).map_err(|error| error.to_string())?;
        let mut alarms = log.alarms;
        alarms.reverse();
        Ok(Self { alarms, is_cut: log.is_cut })
    }
}

/// Messages of a form that was sent.
#[derive(Default)]
struct Reply {
    problems: Vec<Problem>,
    /// What went wrong, in the reader's language.
    problem: String,
    notice: String,
    tried: Option<TryAnswer>,
    /// Form that was sent.
    action: String,
}

/// Shows the page.
pub(crate) fn show(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require(ask)?;
    let locale = app.locale(ask, Some(&viewer));
    let tag = locale.tag();
    let notice = match ask.query.text("done") {
        "acknowledged" => text(tag, "The alarm is acknowledged: reminders and escalations end."),
        "withdrawn" => text(tag, "The acknowledgement is withdrawn: reminders continue."),
        "simulated" => text(tag, "The failure is simulated: its alarm and actions follow."),
        "ended" => text(tag, "The simulation has ended."),
        _ => "",
    };
    page(app, ask, &viewer, &Reply { notice: notice.to_owned(), ..Reply::default() })
}

/// Carries out a form.
pub(crate) fn send(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require_form(ask)?;
    require_operator(&viewer)?;
    let action = ask.form.text("action").to_owned();
    let result = match action.as_str() {
        "acknowledge" => acknowledge(app, ask, &viewer),
        "withdraw" => {
            let wanted = ack_request(ask);
            alarms::withdraw(app, ask, &viewer, &wanted).map(|_| Outcome::Done("withdrawn"))
        }
        "simulate" => {
            let lasts = ask.form.text("lasts").to_owned();
            let wanted = SimulateRequest { monitors: named(ask), lasts };
            alarms::simulate(app, ask, &viewer, &wanted).map(|_| Outcome::Done("simulated"))
        }
        "end-simulation" => {
            alarms::end_simulation(app, ask, &viewer, &named(ask)).map(|_| Outcome::Done("ended"))
        }
        "try" => {
            let wanted = TryRequest { list: ask.form.text("list").to_owned() };
            alarms::try_list(app, ask, &viewer, &wanted).map(Outcome::Tried)
        }
        _ => return Err(Refusal::Invalid("This form is not known.")),
    };
    let mut reply = Reply { action, ..Reply::default() };
    match result {
        Ok(Outcome::Done(done)) => return Ok(respond::redirect(&next(ask, done))),
        Ok(Outcome::Partly(answer)) => {
            reply.problem = partly(&answer, app.locale(ask, Some(&viewer)).tag());
        }
        Ok(Outcome::Tried(answer)) => reply.tried = Some(answer),
        Err(Failed::Refusal(refusal)) => return Err(refusal),
        Err(Failed::Problems(problems)) => reply.problems = problems,
        Err(Failed::Probe(error)) => {
            reply.problem = explain(app, &viewer, &error, &app.locale(ask, Some(&viewer)));
        }
    }
    page(app, ask, &viewer, &reply)
}

enum Outcome {
    Done(&'static str),
    Partly(AckAnswer),
    Tried(TryAnswer),
}

/// Returns the page to go to: that of the monitor on which the form was, or this one.
fn next(ask: &Ask, done: &str) -> String {
    let page = ask.form.text("next");
    let is_own = page.starts_with("/monitors/")
        && page.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-_.".contains(&b));
    if is_own { format!("{page}?done={done}") } else { format!("/alarms?done={done}") }
}

/// Reads the form of acknowledgements. A ticked alarm is `ID@TIME`: an alarm that was raised later
/// is another one.
fn ack_request(ask: &Ask) -> AckRequest {
    let mut monitors = Vec::new();
    let mut since = BTreeMap::new();
    for entry in named(ask) {
        match entry.split_once('@').map(|(id, at)| (id, at.parse::<Timestamp>())) {
            Some((id, Ok(at))) => {
                since.insert(id.to_owned(), at);
                monitors.push(id.to_owned());
            }
            _ => monitors.push(entry),
        }
    }
    AckRequest {
        monitors,
        since,
        note: ask.form.text("note").to_owned(),
        replace: ask.form.text("replace") == "yes",
    }
}

fn acknowledge(app: &App, ask: &Ask, viewer: &Viewer) -> Done<Outcome> {
    let answer = alarms::acknowledge(app, ask, viewer, &ack_request(ask))?;
    let is_whole = answer.already.is_empty() && answer.changed.is_empty();
    Ok(if is_whole { Outcome::Done("acknowledged") } else { Outcome::Partly(answer) })
}

/// Returns what was not acknowledged, and why.
fn partly(answer: &AckAnswer, tag: &str) -> String {
    let mut parts = Vec::new();
    if !answer.acknowledged.is_empty() {
        let all = answer.acknowledged.join(", ");
        parts.push(fill(tag, "Acknowledged: {0}.", &[&all]));
    }
    for already in &answer.already {
        let words = "{0} was already acknowledged by {1}; nothing was changed.";
        parts.push(fill(tag, words, &[&already.monitor, &already.by]));
    }
    if !answer.changed.is_empty() {
        let all = answer.changed.join(", ");
        let words = "{0}: the alarm that you saw has cleared; another one is open now.";
        parts.push(fill(tag, words, &[&all]));
    }
    parts.join(" ")
}

fn page(app: &App, ask: &Ask, viewer: &Viewer, reply: &Reply) -> Answer {
    let locale = app.locale(ask, Some(viewer));
    let tag = locale.tag();
    let board = app.keeper.board();
    let own_site = app.config().site.to_string();
    // The probe's answer is newer than its published status, which follows within seconds.
    let request =
        Request::Status { monitors: vec![], states: vec![StateWord::Alarm], most: Some(10_000) };
    let live = look::<StatusResponse>(app, &request);
    let seen = visible(app, viewer);
    let mut found = values([
        ("active", json!("alarms")),
        ("problem", json!(reply.problem)),
        ("notice", json!(reply.notice)),
        ("errors", errors(&reply.problems, tag)),
        ("tried", tried(reply.tried.as_ref(), &locale)),
        ("sent", json!(reply.action)),
        ("typed", typed(ask)),
        ("minutes", json!(MINUTES)),
        ("known", json!(seen)),
    ]);
    let notices: Vec<_> = board
        .probes
        .iter()
        .filter(|probe| viewer.sees_all() || *probe.site == *own_site)
        .flat_map(|probe| rows::notices(probe, viewer.sees_all(), &locale))
        .collect();
    found.insert("notices".to_owned(), json!(notices));
    let unreachable = live.as_ref().err().map(|error| explain(app, viewer, error, &locale));
    let unreachable = unreachable.filter(|_| require_operator(viewer).is_ok());
    found.insert("unreachable".to_owned(), json!(unreachable.unwrap_or_default()));
    found.extend(open(app, viewer, live.ok().as_ref(), &locale));
    let lists = if require_operator(viewer).is_ok() { alarms::lists(app, viewer) } else { vec![] };
    found.insert("lists".to_owned(), json!(lists));
    let asked = Asked::read_or(app, ask, "month")?;
    found.extend(past(app, viewer, &asked, &locale));
    let bad = !reply.problem.is_empty() || !reply.problems.is_empty();
    let status = if bad { 422 } else { 200 };
    Ok(respond::html(status, app.page("alarms", ask, Some(viewer), &found)?))
}

/// Returns problems by the names of their fields.
pub(super) fn errors(problems: &[Problem], tag: &str) -> Value {
    let by_field: BTreeMap<&str, String> =
        problems.iter().map(|problem| (problem.field, problem.words(tag))).collect();
    json!(by_field)
}

/// Returns what was typed, which the forms keep.
pub(super) fn typed(ask: &Ask) -> Value {
    let field = |name: &str| ask.form.get(name).or_else(|| ask.query.get(name)).unwrap_or_default();
    let names = [
        "monitors", "note", "lasts", "list", "from", "to", "cron", "reason", "name", "pause",
        "replace",
    ];
    let pairs: HashMap<&str, &str> = names.into_iter().map(|name| (name, field(name))).collect();
    json!(pairs)
}

fn tried(answer: Option<&TryAnswer>, locale: &Locale) -> Value {
    let Some(answer) = answer else {
        return Value::Null;
    };
    let tag = locale.tag();
    let rows: Vec<Value> = answer
        .actions
        .iter()
        .map(|action| {
            let (class, words) = match (action.accepted, action.confirmed) {
                (true, true) => ("good", text(tag, "accepted")),
                (true, false) => ("warn", text(tag, "sent, not confirmed")),
                (false, _) => ("bad", text(tag, "failed")),
            };
            let took = locale.duration(action.took_s * 1e6);
            json!({
                "action": action.action, "class": class, "word": words, "answer": action.answer,
                "took": took,
            })
        })
        .collect();
    json!({"list": answer.list, "rows": rows})
}

/// Returns the open alarms that a viewer sees, those that no one has acknowledged first.
fn open(app: &App, viewer: &Viewer, live: Option<&StatusResponse>, locale: &Locale) -> Values {
    let tag = locale.tag();
    let board = app.keeper.board();
    let own_site = app.config().site.to_string();
    let now: HashMap<&str, &mailqos_control::response::MonitorReport> = live
        .map(|live| live.monitors.iter().map(|monitor| (monitor.id.as_str(), monitor)).collect())
        .unwrap_or_default();
    let mut open: Vec<(bool, Value)> = Vec::new();
    let mut simulated = Vec::new();
    for entry in board.entries.iter().filter(|entry| viewer.sees(entry)) {
        let is_own = *entry.site == *own_site;
        let report = if is_own { now.get(&*entry.id).copied() } else { None };
        if let Some(until) = report.and_then(|report| report.simulated_until) {
            simulated.push(json!({
                "id": &*entry.id, "name": entry.name,
                "until": locale.moment_in_period(until.into()),
            }));
        }
        let found = match (report, live.is_some() && is_own) {
            (Some(report), _) => report.alarm.as_ref().map(|alarm| Open {
                since: alarm.since,
                notified_at: alarm.notified_at,
                acknowledged: alarm
                    .acknowledged
                    .as_ref()
                    .map(|by| (by.by.clone(), by.at, by.note.clone())),
                reason: report.reason.clone(),
            }),
            (None, true) if entry.maintenance.is_none() => None,
            _ => of_status(entry),
        };
        if let Some(found) = found {
            let is_acknowledged = found.acknowledged.is_some();
            open.push((is_acknowledged, found.row(entry, is_own, locale)));
        }
    }
    open.sort_by_key(|(is_acknowledged, _)| *is_acknowledged);
    let (total, waiting) =
        (open.len(), open.iter().filter(|(acknowledged, _)| !acknowledged).count());
    let headline = match total {
        0 => text(tag, "No open alarms").to_owned(),
        1 => text(tag, "One open alarm").to_owned(),
        _ => fill(tag, "{0} open alarms", &[&locale.integer(total as u64)]),
    };
    let more = if total > 0 && waiting > 0 {
        fill(tag, " ({0} not acknowledged)", &[&locale.integer(waiting as u64)])
    } else {
        String::new()
    };
    values([
        ("headline", json!(format!("{headline}{more}"))),
        ("is_bad", json!(waiting > 0)),
        ("open", open.into_iter().map(|(_, row)| row).collect()),
        ("simulated", json!(simulated)),
    ])
}

/// An open alarm.
struct Open {
    since: Option<Timestamp>,
    notified_at: Option<Timestamp>,
    /// Name, time and note.
    acknowledged: Option<(String, Option<Timestamp>, Option<String>)>,
    reason: Option<String>,
}

fn of_status(entry: &Entry) -> Option<Open> {
    let alarm = entry.alarm.as_ref()?;
    let acknowledged = alarm.acknowledged.as_ref();
    Some(Open {
        since: Some(alarm.since),
        notified_at: alarm.notified_at,
        acknowledged: acknowledged.map(|by| (by.by.clone(), Some(by.at), by.note.clone())),
        reason: entry.reason.clone(),
    })
}

impl Open {
    fn row(&self, entry: &Entry, is_own: bool, locale: &Locale) -> Value {
        let people = |at: Option<Timestamp>| at.map(|at| locale.moment(at.into()));
        let value = match self.since {
            Some(since) => format!("{}@{since}", entry.id),
            None => entry.id.to_string(),
        };
        let acknowledged = self.acknowledged.as_ref();
        json!({
            "key": format!("{}/{}", entry.site, entry.id), "value": value, "id": &*entry.id,
            "name": entry.name, "href": rows::href(&entry.site, &entry.id), "site": &*entry.site,
            "is_own": is_own, "object": entry.object_name,
            "since": self.since.map(|at| at.to_string()), "since_text": people(self.since),
            "notified": people(self.notified_at), "reason": self.reason,
            "by": acknowledged.map(|(by, ..)| by), "at": acknowledged.and_then(|(_, at, _)| people(*at)),
            "note": acknowledged.and_then(|(.., note)| note.as_ref()),
        })
    }
}

/// Returns the alarms of a period, and links to others.
fn past(app: &App, viewer: &Viewer, asked: &Asked, locale: &Locale) -> Values {
    let tag = locale.tag();
    let moment = |at: Option<UtcMicros>| at.map_or_else(|| DASH.to_owned(), |at| locale.moment(at));
    let board = app.keeper.board();
    let (rows, problem, is_cut) = match Past::load(app, viewer, &asked.period) {
        Ok(past) => {
            let is_cut = past.is_cut || past.alarms.len() > MAX_PAST;
            let row = |alarm: Alarm| {
                let name = board.get(&alarm.site, &alarm.monitor).map(|entry| entry.name.clone());
                let lasted =
                    alarm.raised_at.zip(alarm.cleared_at).map(|(from, to)| locale.span(to - from));
                json!({
                    "raised": moment(alarm.raised_at), "cleared": moment(alarm.cleared_at),
                    "lasted": lasted, "name": name.unwrap_or_else(|| alarm.monitor.clone()),
                    "href": rows::href(&alarm.site, &alarm.monitor), "site": &*alarm.site,
                    "notified": moment(alarm.told_at),
                    "by": alarm.acknowledged.as_ref().map(|(by, _)| by), "note": alarm.note,
                    "text": alarm.text, "simulated": alarm.simulated,
                })
            };
            let rows: Vec<Value> = past.alarms.into_iter().take(MAX_PAST).map(row).collect();
            (rows, "", is_cut)
        }
        Err(reason) => {
            tracing::warn!(%reason, "console: no alarm log");
            (Vec::new(), text(tag, "The figures can't be read at the moment."), false)
        }
    };
    let spans = [
        ("week", Span::Week, text(tag, "7 days")),
        ("month", Span::Month, text(tag, "30 days")),
        ("year", Span::Year, text(tag, "365 days")),
    ];
    let link = |back: u32, word: &str| match back {
        0 => format!("/alarms?period={word}#history"),
        back => format!("/alarms?period={word}&back={back}#history"),
    };
    let spans_shown: Vec<Value> = spans
        .iter()
        .map(|(word, span, words)| {
            json!({"text": words, "href": link(0, word), "is_on": asked.span == Some(*span)})
        })
        .collect();
    let word = spans.iter().find(|(_, span, _)| asked.span == Some(*span)).map(|(word, ..)| *word);
    values([
        ("past", json!(rows)),
        ("past_problem", json!(problem)),
        ("is_cut", json!(is_cut)),
        ("period", json!(locale.period(&asked.period))),
        ("spans", json!(spans_shown)),
        ("earlier", json!(word.map(|word| link(asked.back + 1, word)))),
        ("later", json!(word.filter(|_| asked.back > 0).map(|word| link(asked.back - 1, word)))),
    ])
}
