//! Alarms: acknowledgements, simulated failures, tries of action lists.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use mailqos_control::{
    Request,
    response::{
        AckWithdrawn, Acknowledged, ActionsTested, MonitorReport, Simulated, SimulationEnded,
        StatusResponse,
    },
};
use mailqos_model::{Micros, MonitorId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Done, Failed, Problem, change, line, look, require_operator, selections, t, visible};
use crate::{access::viewer::Viewer, app::App, http::request::Ask};

/// Longest simulated failure.
const MAX_SIMULATION: Micros = Micros::from_secs(24 * 3_600);

/// Request to acknowledge alarms, or to withdraw acknowledgements.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AckRequest {
    /// Monitors: ids, `object:NAME`, `tag:NAME` or patterns such as `mail-*`.
    pub(crate) monitors: Vec<String>,
    /// Note on the cause or the work in progress.
    #[serde(default)]
    pub(crate) note: String,
    /// Replaces acknowledgements by others; otherwise they stay, and are reported.
    #[serde(default)]
    pub(crate) replace: bool,
    /// Times at which alarms were raised, by monitor: a later alarm is not acknowledged.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>)]
    pub(crate) since: BTreeMap<String, Timestamp>,
}

/// An alarm that someone else has acknowledged.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct AlreadyAnswer {
    pub(crate) monitor: String,
    pub(crate) by: String,
}

/// Result of an acknowledgement.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct AckAnswer {
    /// Monitors whose alarms are now acknowledged.
    pub(crate) acknowledged: Vec<String>,
    /// Alarms that were acknowledged before, and stay so.
    pub(crate) already: Vec<AlreadyAnswer>,
    /// Monitors whose alarm is not the one that was meant, or has cleared.
    pub(crate) changed: Vec<String>,
}

/// Result of a withdrawal.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct WithdrawnAnswer {
    /// Monitors whose acknowledgements are withdrawn.
    pub(crate) withdrawn: Vec<String>,
}

fn names(ids: &[MonitorId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

fn targets(app: &App, viewer: &Viewer, monitors: &[String]) -> Result<Vec<String>, Problem> {
    if monitors.is_empty() {
        return Err(Problem::new("monitors", t("Select at least one monitor.")));
    }
    selections(app, viewer, monitors)
}

/// Acknowledges alarms.
///
/// # Errors
/// The viewer lacks the permission, nothing is selected, or the probe is not running.
pub(crate) fn acknowledge(
    app: &App,
    ask: &Ask,
    viewer: &Viewer,
    wanted: &AckRequest,
) -> Done<AckAnswer> {
    require_operator(viewer)?;
    let mut monitors = targets(app, viewer, &wanted.monitors)?;
    let note = line(&wanted.note, "note")?;
    let mut changed = Vec::new();
    if !wanted.since.is_empty() {
        let request = Request::Status { monitors: monitors.clone(), states: vec![], most: None };
        let status: StatusResponse = look(app, &request).map_err(Failed::Probe)?;
        let raised: BTreeMap<&str, Option<Timestamp>> =
            status.monitors.iter().map(|one| (one.id.as_str(), since(one))).collect();
        for (monitor, since) in &wanted.since {
            if raised.get(monitor.as_str()).copied().flatten() != Some(*since) {
                changed.push(monitor.clone());
            }
        }
        monitors.retain(|monitor| !changed.contains(monitor));
        if monitors.is_empty() {
            return Ok(AckAnswer { changed, ..AckAnswer::default() });
        }
    }
    let request = Request::Ack {
        monitors: monitors.clone(),
        by: viewer.name.clone(),
        note: note.clone(),
        keep: !wanted.replace,
    };
    let entry =
        ("alarm_acknowledged", monitors.join(", "), note.as_deref().unwrap_or_default().to_owned());
    let Acknowledged { acknowledged, already } =
        change(app, ask, viewer, (entry.0, &entry.1, &entry.2), &request)?;
    if acknowledged.is_empty() && already.is_empty() {
        let text = t("None of these monitors has an open alarm.");
        return Err(Problem::new("monitors", text).into());
    }
    let already = already.into_iter().map(|one| AlreadyAnswer { monitor: one.monitor, by: one.by });
    Ok(AckAnswer { acknowledged: names(&acknowledged), already: already.collect(), changed })
}

fn since(monitor: &MonitorReport) -> Option<Timestamp> {
    monitor.alarm.as_ref()?.since
}

/// Withdraws acknowledgements.
///
/// # Errors
/// The viewer lacks the permission, nothing is selected, or the probe is not running.
pub(crate) fn withdraw(
    app: &App,
    ask: &Ask,
    viewer: &Viewer,
    wanted: &AckRequest,
) -> Done<WithdrawnAnswer> {
    require_operator(viewer)?;
    let monitors = targets(app, viewer, &wanted.monitors)?;
    let note = line(&wanted.note, "note")?;
    let subject = monitors.join(", ");
    let entry = ("acknowledgement_withdrawn", subject.as_str(), note.as_deref().unwrap_or(""));
    let request = Request::AckWithdraw { monitors, by: viewer.name.clone(), note: note.clone() };
    let AckWithdrawn { withdrawn } = change(app, ask, viewer, entry, &request)?;
    if withdrawn.is_empty() {
        let text = t("None of these alarms is acknowledged.");
        return Err(Problem::new("monitors", text).into());
    }
    Ok(WithdrawnAnswer { withdrawn: names(&withdrawn) })
}

/// Request to simulate a failure.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SimulateRequest {
    /// Monitors: ids, `object:NAME`, `tag:NAME` or patterns such as `mail-*`.
    pub(crate) monitors: Vec<String>,
    /// How long they count as failed, such as `10m`; at most 24 hours.
    #[serde(default)]
    pub(crate) lasts: String,
}

/// Result of a simulation.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct SimulationAnswer {
    /// The monitors.
    pub(crate) monitors: Vec<String>,
    /// End of the simulation; null if it was ended.
    pub(crate) until: Option<String>,
}

/// Simulates a failure: the alarm is raised immediately, and its actions follow.
///
/// # Errors
/// The viewer lacks the permission, values can't be used, or the probe is not running.
pub(crate) fn simulate(
    app: &App,
    ask: &Ask,
    viewer: &Viewer,
    wanted: &SimulateRequest,
) -> Done<SimulationAnswer> {
    require_operator(viewer)?;
    let monitors = targets(app, viewer, &wanted.monitors);
    let lasts = match wanted.lasts.trim() {
        "" => Ok(Micros::from_secs(600)),
        typed => typed.parse::<Micros>().map_err(|_| ()),
    };
    let lasts = lasts.ok().filter(|lasts| lasts.0 > 0 && *lasts <= MAX_SIMULATION);
    let (Ok(monitors), Some(lasts)) = (&monitors, lasts) else {
        let text = t("Enter a duration such as 10m, at most 24h.");
        let duration = lasts.is_none().then(|| Problem::new("lasts", text));
        return Err(Failed::Problems(monitors.err().into_iter().chain(duration).collect()));
    };
    let subject = monitors.join(", ");
    let (monitors, by) = (monitors.clone(), viewer.name.clone());
    let request = Request::Simulate { monitors, lasts: lasts.0, by };
    let entry = ("simulation_started", subject.as_str(), &*lasts.to_string());
    let Simulated { simulated, until } = change(app, ask, viewer, entry, &request)?;
    let until = until.map(|until| until.to_string());
    Ok(SimulationAnswer { monitors: names(&simulated), until })
}

/// Ends simulations.
///
/// # Errors
/// The viewer lacks the permission, nothing is selected, or the probe is not running.
pub(crate) fn end_simulation(
    app: &App,
    ask: &Ask,
    viewer: &Viewer,
    monitors: &[String],
) -> Done<SimulationAnswer> {
    require_operator(viewer)?;
    let monitors = targets(app, viewer, monitors)?;
    let subject = monitors.join(", ");
    let request = Request::SimulateEnd { monitors, by: Some(viewer.name.clone()) };
    let SimulationEnded { ended } =
        change(app, ask, viewer, ("simulation_ended", &subject, ""), &request)?;
    Ok(SimulationAnswer { monitors: names(&ended), until: None })
}

/// Returns the names of the action lists that a viewer may try. A restricted viewer may try those
/// that only its monitors use: the recipients of others are not its affair.
pub(crate) fn lists(app: &App, viewer: &Viewer) -> Vec<String> {
    let config = app.config();
    let visible = visible(app, viewer);
    let may = |name: &str| {
        let uses = |monitor: &&mailqos_config::Monitor| {
            monitor.action_list.as_ref().is_some_and(|list| list.as_ref() == name)
        };
        let users: Vec<_> = config.monitors.values().filter(uses).collect();
        let are_seen = users.iter().all(|monitor| visible.contains(monitor.id.as_str()));
        viewer.sees_all() || (!users.is_empty() && are_seen)
    };
    let names: BTreeSet<String> = config.action_lists.keys().map(ToString::to_string).collect();
    names.into_iter().filter(|name| may(name)).collect()
}

/// Request to try an action list.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TryRequest {
    /// Name of the action list.
    pub(crate) list: String,
}

/// The result of one action.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ActionAnswer {
    /// Channel and recipient.
    pub(crate) action: String,
    /// Whether the message was accepted, or may have been.
    pub(crate) accepted: bool,
    /// Whether the other end confirmed it.
    pub(crate) confirmed: bool,
    /// Answer of the other end, or the error.
    pub(crate) answer: String,
    /// Seconds.
    pub(crate) took_s: f64,
}

/// Result of trying an action list.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct TryAnswer {
    pub(crate) list: String,
    /// The actions of the list, in order.
    pub(crate) actions: Vec<ActionAnswer>,
}

/// Sends a test message through every action of a list.
///
/// # Errors
/// The viewer lacks the permission, there is no such list, or the probe is not running.
pub(crate) fn try_list(
    app: &App,
    ask: &Ask,
    viewer: &Viewer,
    wanted: &TryRequest,
) -> Done<TryAnswer> {
    require_operator(viewer)?;
    if !lists(app, viewer).contains(&wanted.list) {
        let text = t("There is no action list with this name.");
        return Err(Problem::new("list", text).into());
    }
    let (list, by) = (wanted.list.clone(), viewer.name.clone());
    let request = Request::ActionsTest { list, by };
    let tested: ActionsTested =
        change(app, ask, viewer, ("action_list_tried", &wanted.list, ""), &request)?;
    let actions = tested.actions.into_iter().map(|action| ActionAnswer {
        action: action.route,
        accepted: action.accepted,
        confirmed: action.confirmed,
        answer: action.text,
        took_s: Micros(action.took).as_secs_f64(),
    });
    Ok(TryAnswer { list: wanted.list.clone(), actions: actions.collect() })
}
