//! The part of the API that operates: acknowledgements, maintenance, simulations, tries.

use axum::response::Response;
use mailqos_control::ControlError;
use serde::{Serialize, de::DeserializeOwned};
use utoipa::ToSchema;

use crate::{
    access::viewer::Viewer,
    app::{Answer, App, Problem, Refusal},
    http::{request::Ask, respond},
    operations::{
        Done, Failed, FieldProblem,
        alarms::{
            self, AckAnswer, AckRequest, SimulateRequest, SimulationAnswer, TryAnswer, TryRequest,
            WithdrawnAnswer,
        },
        explain,
        maintenance::{self, EndRequest, PlanAnswer, PlanRequest, WindowAnswer},
    },
    pages::{alarms::Past, monitor::Asked},
};

/// A request that was not performed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OperationProblem {
    /// Human-readable reason.
    error: String,
    /// All values that can't be used.
    problems: Vec<FieldProblem>,
}

/// An alarm of the past.
#[derive(Debug, Serialize, ToSchema)]
struct PastAlarmAnswer {
    site: String,
    monitor: String,
    raised_at: Option<String>,
    cleared_at: Option<String>,
    /// Time at which a channel first accepted a notification.
    notified_at: Option<String>,
    acknowledged_by: Option<String>,
    acknowledged_at: Option<String>,
    note: Option<String>,
    problem: String,
    simulated: bool,
}

fn refused(app: &App, ask: &Ask, viewer: &Viewer, failed: Failed) -> Answer {
    let english = app.locale_in("en");
    let tag = english.tag();
    let (status, error, problems) = match failed {
        Failed::Refusal(refusal) => return Ok(app.refuse(ask, &refusal)),
        Failed::Problems(problems) => {
            let fields = problems
                .iter()
                .map(|problem| FieldProblem { field: problem.field, error: problem.words(tag) });
            (422, "some values can't be used".to_owned(), fields.collect())
        }
        Failed::Probe(error) => {
            let status = if matches!(error, ControlError::Refused(_)) { 409 } else { 503 };
            (status, explain(app, viewer, &error, &english), Vec::new())
        }
    };
    Ok(respond::json(status, &OperationProblem { error, problems }))
}

/// Performs a request whose body is JSON.
fn operate<T: DeserializeOwned, A: Serialize>(
    app: &App,
    ask: &Ask,
    act: impl FnOnce(&Viewer, &T) -> Done<A>,
) -> Answer {
    let viewer = app.require_change(ask)?;
    if ask.json.is_empty() {
        return Err(Refusal::Invalid("Send JSON with Content-Type: application/json."));
    }
    let wanted: T = match serde_json::from_slice(&ask.json) {
        Ok(wanted) => wanted,
        Err(error) => return Ok(invalid(&error)),
    };
    match act(&viewer, &wanted) {
        Ok(answer) => Ok(respond::json(200, &answer)),
        Err(failed) => refused(app, ask, &viewer, failed),
    }
}

fn invalid(error: &serde_json::Error) -> Response {
    let error = format!("the body is not a valid request: {error}");
    respond::json(400, &OperationProblem { error, problems: Vec::new() })
}

#[utoipa::path(
    get, path = "/api/v1/alarms/history", operation_id = "alarm_history",
    params(
        ("period" = Option<String>, Query, description = "`day`, `week`, `month`, `year` (until now), or a calendar period such as `2026-11`"),
        ("from" = Option<String>, Query, description = "Start, in RFC 3339, instead of a period"),
        ("to" = Option<String>, Query, description = "End"),
    ),
    responses((status = 200, body = Vec<PastAlarmAnswer>), (status = 401, body = Problem))
)]
#[expect(dead_code, reason = "describes the operation")]
pub(crate) fn history_doc() {}

/// Sends the alarms of a period, latest first.
pub(crate) fn history(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require(ask)?;
    let asked = Asked::read_or(app, ask, "month")?;
    let past = Past::load(app, &viewer, &asked.period).map_err(Refusal::Unavailable)?;
    let iso = |at: mailqos_model::UtcMicros| at.to_string();
    let answer = past.alarms.into_iter().map(|alarm| PastAlarmAnswer {
        site: alarm.site.to_string(),
        monitor: alarm.monitor,
        raised_at: alarm.raised_at.map(iso),
        cleared_at: alarm.cleared_at.map(iso),
        notified_at: alarm.told_at.map(iso),
        acknowledged_by: alarm.acknowledged.as_ref().map(|(by, _)| by.clone()),
        acknowledged_at: alarm.acknowledged.map(|(_, at)| iso(at)),
        note: alarm.note,
        problem: alarm.text,
        simulated: alarm.simulated,
    });
    Ok(respond::json(200, &answer.collect::<Vec<_>>()))
}

/// Declares an operation and its description.
macro_rules! operation {
    ($(#[$doc:meta])* $name:ident, $described:ident, $path:literal, $id:literal, $request:ty => $answer:ty, $act:expr) => {
        #[utoipa::path(
            post, path = $path, operation_id = $id, request_body = $request,
            responses(
                (status = 200, body = $answer), (status = 400, body = OperationProblem),
                (status = 401, body = Problem), (status = 403, body = Problem),
                (status = 409, body = OperationProblem), (status = 422, body = OperationProblem),
                (status = 503, body = OperationProblem),
            )
        )]
        #[expect(dead_code, reason = "describes the operation")]
        pub(crate) fn $described() {}

        $(#[$doc])*
        pub(crate) fn $name(app: &App, ask: &Ask) -> Answer {
            let act: fn(&App, &Ask, &Viewer, &$request) -> Done<$answer> = $act;
            operate(app, ask, |viewer, wanted| act(app, ask, viewer, wanted))
        }
    };
}

/// An empty response: the request succeeded.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DoneAnswer {
    /// Name of the window.
    name: String,
}

operation!(
    /// Acknowledges alarms.
    acknowledge, acknowledge_doc, "/api/v1/alarms/acknowledge", "acknowledge",
    AckRequest => AckAnswer, alarms::acknowledge
);
operation!(
    /// Withdraws acknowledgements.
    withdraw, withdraw_doc, "/api/v1/alarms/withdraw", "withdraw_acknowledgement",
    AckRequest => WithdrawnAnswer, alarms::withdraw
);
operation!(
    /// Plans maintenance.
    plan, plan_doc, "/api/v1/maintenance", "plan_maintenance",
    PlanRequest => PlanAnswer, maintenance::plan
);
operation!(
    /// Declares a past period as maintenance.
    declare, declare_doc, "/api/v1/maintenance/declare", "declare_maintenance",
    PlanRequest => PlanAnswer, maintenance::declare
);
operation!(
    /// Ends or removes a window.
    end, end_doc, "/api/v1/maintenance/end", "end_maintenance",
    EndRequest => DoneAnswer,
    |app, ask, viewer, wanted| {
        maintenance::end(app, ask, viewer, &wanted.name)?;
        Ok(DoneAnswer { name: wanted.name.clone() })
    }
);
operation!(
    /// Withdraws a declaration.
    withdraw_declaration, withdraw_declaration_doc, "/api/v1/maintenance/withdraw",
    "withdraw_declaration", EndRequest => DoneAnswer,
    |app, ask, viewer, wanted| {
        maintenance::withdraw(app, ask, viewer, &wanted.name)?;
        Ok(DoneAnswer { name: wanted.name.clone() })
    }
);
operation!(
    /// Simulates a failure.
    simulate, simulate_doc, "/api/v1/simulations", "simulate",
    SimulateRequest => SimulationAnswer, alarms::simulate
);
operation!(
    /// Ends simulations.
    end_simulation, end_simulation_doc, "/api/v1/simulations/end", "end_simulation",
    SimulateRequest => SimulationAnswer,
    |app, ask, viewer, wanted| alarms::end_simulation(app, ask, viewer, &wanted.monitors)
);
operation!(
    /// Tries an action list.
    try_list, try_doc, "/api/v1/action-lists/try", "try_action_list",
    TryRequest => TryAnswer, alarms::try_list
);

#[utoipa::path(
    get, path = "/api/v1/maintenance", operation_id = "maintenance",
    responses(
        (status = 200, body = Vec<WindowAnswer>), (status = 401, body = Problem),
        (status = 503, body = OperationProblem),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
pub(crate) fn windows_doc() {}

/// Sends open and planned maintenance windows, and declarations.
pub(crate) fn windows(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require(ask)?;
    match maintenance::windows(app, &viewer) {
        Ok(windows) => Ok(respond::json(200, &windows)),
        Err(error) => refused(app, ask, &viewer, Failed::Probe(error)),
    }
}

#[utoipa::path(
    get, path = "/api/v1/action-lists", operation_id = "action_lists",
    responses((status = 200, body = Vec<String>), (status = 401, body = Problem))
)]
#[expect(dead_code, reason = "describes the operation")]
pub(crate) fn lists_doc() {}

/// Sends the names of the action lists that the user may try.
pub(crate) fn lists(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require(ask)?;
    Ok(respond::json(200, &alarms::lists(app, &viewer)))
}
