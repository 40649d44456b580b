//! Maintenance: planned windows and declared periods; plan, end, declare, withdraw.

use mailqos_model::UtcMicros;
use mailqos_report::locale::{DASH, Locale};
use serde_json::{Value, json};

use super::{
    alarms::{errors, typed},
    rows,
};
use crate::{
    access::viewer::Viewer,
    app::{Answer, App, Refusal},
    http::{request::Ask, respond},
    language::{fill, text},
    operations::{
        Failed, Problem, explain,
        maintenance::{self, PlanRequest, WindowAnswer},
        named, require_operator, visible,
    },
    render::values,
};

/// Year from which an end is none: that of recurring windows without one.
const ENDLESS: i16 = 9000;

/// Messages of a form that was sent.
#[derive(Default)]
struct Reply {
    problems: Vec<Problem>,
    problem: String,
    notice: String,
    /// Form that was sent.
    action: String,
}

/// Shows the page.
pub(crate) fn show(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require(ask)?;
    let locale = app.locale(ask, Some(&viewer));
    let tag = locale.tag();
    let notice = match ask.query.text("done") {
        "planned" => text(tag, "The maintenance window is planned."),
        "declared" => text(tag, "The period is declared as maintenance; figures show both values."),
        "ended" => text(tag, "The maintenance window has ended."),
        "withdrawn" => text(tag, "The declaration is withdrawn; it stays in the event log."),
        _ => "",
    };
    page(app, ask, &viewer, &Reply { notice: notice.to_owned(), ..Reply::default() })
}

/// Performs the action of a form.
pub(crate) fn send(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require_form(ask)?;
    require_operator(&viewer)?;
    let action = ask.form.text("action").to_owned();
    let name = ask.form.text("window");
    let result = match action.as_str() {
        "plan" => maintenance::plan(app, ask, &viewer, &request(ask)).map(|_| "planned"),
        "declare" => maintenance::declare(app, ask, &viewer, &request(ask)).map(|_| "declared"),
        "end" => maintenance::end(app, ask, &viewer, name).map(|()| "ended"),
        "withdraw" => maintenance::withdraw(app, ask, &viewer, name).map(|()| "withdrawn"),
        _ => return Err(Refusal::Invalid("This form is not known.")),
    };
    let mut reply = Reply { action, ..Reply::default() };
    let locale = app.locale(ask, Some(&viewer));
    match result {
        Ok(done) => return Ok(respond::redirect(&format!("/maintenance?done={done}"))),
        Err(Failed::Refusal(refusal)) => return Err(refusal),
        Err(Failed::Problems(problems)) => {
            // Problems with a window have no field on the page.
            if matches!(reply.action.as_str(), "end" | "withdraw") {
                let words = problems.iter().map(|problem| problem.words(locale.tag()));
                reply.problem = words.collect::<Vec<_>>().join(" ");
            } else {
                reply.problems = problems;
            }
        }
        Err(Failed::Probe(error)) => reply.problem = explain(app, &viewer, &error, &locale),
    }
    page(app, ask, &viewer, &reply)
}

fn request(ask: &Ask) -> PlanRequest {
    let text = |name: &str| ask.form.text(name).to_owned();
    PlanRequest {
        monitors: named(ask),
        from: text("from"),
        to: text("to"),
        lasts: text("lasts"),
        cron: text("cron"),
        reason: text("reason"),
        name: text("name"),
        pause: ask.form.text("pause") == "yes",
    }
}

fn page(app: &App, ask: &Ask, viewer: &Viewer, reply: &Reply) -> Answer {
    let locale = app.locale(ask, Some(viewer));
    let tag = locale.tag();
    let board = app.keeper.board();
    let (windows, unreachable) = match maintenance::windows(app, viewer) {
        Ok(windows) => (windows, String::new()),
        Err(error) => (Vec::new(), explain(app, viewer, &error, &locale)),
    };
    let (declared, planned): (Vec<_>, Vec<_>) =
        windows.iter().partition(|window| window.state == "declared");
    let shown = |windows: Vec<&WindowAnswer>| -> Vec<Value> {
        windows.into_iter().map(|window| row(window, &locale)).collect()
    };
    let own_site = app.config().site.to_string();
    let notices: Vec<_> = board
        .probes
        .iter()
        .filter(|probe| *probe.site == *own_site)
        .flat_map(|probe| rows::notices(probe, viewer.sees_all(), &locale))
        .collect();
    let found = values([
        ("active", json!("maintenance")),
        ("problem", json!(reply.problem)),
        ("notice", json!(reply.notice)),
        ("errors", errors(&reply.problems, tag)),
        ("sent", json!(reply.action)),
        ("typed", typed(ask)),
        ("notices", json!(notices)),
        ("unreachable", json!(unreachable)),
        ("windows", json!(shown(planned))),
        ("declared", json!(shown(declared))),
        ("known", json!(visible(app, viewer))),
        ("sees_all", json!(viewer.sees_all())),
    ]);
    let bad = !reply.problem.is_empty() || !reply.problems.is_empty();
    let status = if bad { 422 } else { 200 };
    Ok(respond::html(status, app.page("maintenance", ask, Some(viewer), &found)?))
}

fn row(window: &WindowAnswer, locale: &Locale) -> Value {
    let tag = locale.tag();
    let moment = |at: Option<UtcMicros>| match at {
        Some(at) if locale.zone().to_datetime(at.timestamp()).year() < ENDLESS => locale.moment(at),
        _ => DASH.to_owned(),
    };
    let repeats = window.cron.as_ref().zip(window.lasts_s).map(|(cron, lasts)| {
        let lasts = locale.span(mailqos_model::Micros((lasts * 1e6) as i64));
        fill(tag, "{0} at {1}", &[&lasts, cron])
    });
    json!({
        "name": window.name, "state": window.state,
        "word": match window.state {
            "open" => text(tag, "open"),
            "declared" => text(tag, "declared"),
            _ => text(tag, "planned"),
        },
        "from": moment(window.times.0), "to": moment(window.times.1), "repeats": repeats,
        "monitors": if window.monitors.is_empty() {
            text(tag, "all monitors").to_owned()
        } else {
            window.monitors.join(", ")
        },
        "reason": window.reason, "by": window.by, "may_end": window.may_end,
    })
}
