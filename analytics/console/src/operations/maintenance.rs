//! Maintenance: planned windows, and past periods that are declared afterwards.

use jiff::{Timestamp, civil::DateTime, tz::AmbiguousOffset, tz::TimeZone};
use mailqos_config::Window;
use mailqos_control::{
    ControlError, Repetition, Request,
    response::{MaintenanceAdded, MaintenanceEnded, MaintenanceWindow},
};
use mailqos_model::{Micros, UtcMicros};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Done, Failed, Problem, change, line, look, require_operator, selections, t, visible};
use crate::{access::viewer::Viewer, app::App, http::request::Ask};

/// Longest name of a window, in characters.
const MAX_NAME: usize = 64;

/// Request to plan or declare maintenance.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PlanRequest {
    /// Monitors: ids, `object:NAME`, `tag:NAME` or patterns such as `mail-*`; all if empty.
    pub(crate) monitors: Vec<String>,
    /// Start, such as `2026-12-01T22:00` in the console's time zone or with an offset; now if
    /// empty.
    pub(crate) from: String,
    /// End.
    pub(crate) to: String,
    /// Duration, such as `2h`, instead of an end; that of each recurring window.
    pub(crate) lasts: String,
    /// Starts of a recurring window as a cron expression, such as `0 2 * * 6`.
    pub(crate) cron: String,
    /// Reason, shown in status and reports; required for a past period.
    pub(crate) reason: String,
    /// Name; generated if empty.
    pub(crate) name: String,
    /// Skips tests during the window.
    pub(crate) pause: bool,
}

/// Result of planning or declaring.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct PlanAnswer {
    pub(crate) name: String,
    pub(crate) from: Option<String>,
    pub(crate) until: Option<String>,
    /// Number of monitors.
    pub(crate) monitors: usize,
}

/// Request to end a window or to withdraw a declaration.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndRequest {
    /// Name of the window.
    pub(crate) name: String,
}

/// A maintenance window or declaration.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct WindowAnswer {
    pub(crate) name: String,
    /// `open`, `planned` or `declared`.
    pub(crate) state: &'static str,
    pub(crate) from: Option<String>,
    pub(crate) until: Option<String>,
    /// Cron expression of a recurring window.
    pub(crate) cron: Option<String>,
    /// Duration of each recurring window, in seconds.
    pub(crate) lasts_s: Option<f64>,
    /// Selections of monitors, or the ids that the user sees; all if empty.
    pub(crate) monitors: Vec<String>,
    pub(crate) reason: Option<String>,
    /// Who added it; null if it is in the configuration.
    pub(crate) by: Option<String>,
    /// Whether this user may end or withdraw it.
    pub(crate) may_end: bool,
    #[serde(skip)]
    #[schema(ignore)]
    pub(crate) times: (Option<UtcMicros>, Option<UtcMicros>),
}

/// Start or end of a period: an hour that occurs twice is covered as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edge {
    Start,
    End,
}

/// Reads a time: local in this zone, or with its offset.
fn moment(
    typed: &str,
    zone: &TimeZone,
    (field, edge): (&'static str, Edge),
) -> Result<Option<UtcMicros>, Problem> {
    let typed = typed.trim();
    if typed.is_empty() {
        return Ok(None);
    }
    if let Ok(timestamp) = typed.parse::<Timestamp>() {
        return Ok(Some(timestamp.into()));
    }
    let Ok(local) = typed.parse::<DateTime>() else {
        let text = t("{0} is not a date and time; write 2026-12-01T22:00.");
        return Err(Problem { value: typed.to_owned(), ..Problem::new(field, text) });
    };
    let found = zone.to_ambiguous_timestamp(local);
    let found = match (found.offset(), edge) {
        (AmbiguousOffset::Gap { .. }, _) => {
            let text = t("{0} does not occur: the clocks are put forward.");
            return Err(Problem { value: typed.to_owned(), ..Problem::new(field, text) });
        }
        (_, Edge::Start) => found.earlier(),
        (_, Edge::End) => found.later(),
    };
    let out_of_range = |_| Problem::new(field, t("This time is out of range."));
    found.map(|found| Some(found.into())).map_err(out_of_range)
}

/// Keeps a value, or collects its problem.
fn keep<T: Default>(found: Result<T, Problem>, problems: &mut Vec<Problem>) -> T {
    found.unwrap_or_else(|problem| {
        problems.push(problem);
        T::default()
    })
}

/// Values that both kinds of maintenance have, and their problems.
struct Checked {
    monitors: Vec<String>,
    from: Option<UtcMicros>,
    to: Option<UtcMicros>,
    lasts: Option<Micros>,
    reason: Option<String>,
    name: Option<String>,
    problems: Vec<Problem>,
}

impl Checked {
    fn new(app: &App, viewer: &Viewer, wanted: &PlanRequest) -> Self {
        let zone = app.config().timezone.clone();
        let mut problems = Vec::new();
        let monitors = keep(selections(app, viewer, &wanted.monitors), &mut problems);
        let from = keep(moment(&wanted.from, &zone, ("from", Edge::Start)), &mut problems);
        let to = keep(moment(&wanted.to, &zone, ("to", Edge::End)), &mut problems);
        let lasts = match wanted.lasts.trim() {
            "" => Ok(None),
            typed => typed
                .parse::<Micros>()
                .map(Some)
                .map_err(|_| Problem::new("lasts", t("Enter a duration such as 2h or 90m."))),
        };
        let lasts = keep(lasts, &mut problems);
        let reason = keep(line(&wanted.reason, "reason"), &mut problems);
        let name = keep(line(&wanted.name, "name"), &mut problems);
        if name.as_ref().is_some_and(|name| name.chars().count() > MAX_NAME) {
            problems.push(Problem::new("name", t("At most 64 characters.")));
        }
        Self { monitors, from, to, lasts, reason, name, problems }
    }

    fn problem(&mut self, field: &'static str, text: &'static str) {
        // One problem of a field is enough.
        if self.problems.iter().all(|problem| problem.field != field) {
            self.problems.push(Problem::new(field, text));
        }
    }

    fn checked(self) -> Result<Self, Failed> {
        if self.problems.is_empty() { Ok(self) } else { Err(Failed::Problems(self.problems)) }
    }
}

/// Plans a window, once or recurring.
///
/// # Errors
/// The viewer lacks the permission, values can't be used (all are reported), or the probe is not running.
pub(crate) fn plan(
    app: &App,
    ask: &Ask,
    viewer: &Viewer,
    wanted: &PlanRequest,
) -> Done<PlanAnswer> {
    require_operator(viewer)?;
    let mut checked = Checked::new(app, viewer, wanted);
    let now = UtcMicros::now();
    let cron = wanted.cron.trim();
    let mut repeats = None;
    let from = checked.from.unwrap_or(now);
    let mut to = checked.to;
    if cron.is_empty() {
        match (checked.to, checked.lasts) {
            (Some(_), Some(_)) => {
                checked.problem("lasts", t("Enter an end or a duration, not both."))
            }
            (None, None) => checked.problem("to", t("Enter an end or a duration.")),
            (None, Some(lasts)) => to = Some(from + lasts),
            (Some(_), None) => {}
        }
    } else if let Some(lasts) = checked.lasts {
        let zone = app.config().timezone.clone();
        match Window::recurring(cron, lasts, zone) {
            Ok(_) => repeats = Some(Repetition { cron: cron.to_owned(), lasts }),
            Err(reason) => {
                let text = t("This can't be planned: {0}");
                checked.problems.push(Problem { value: reason, ..Problem::new("cron", text) });
            }
        }
        to = to.or(Some(Timestamp::MAX.into()));
    } else {
        checked.problem("lasts", t("Enter the duration of each window, such as 2h."));
    }
    if let Some(to) = to {
        if to <= from {
            checked.problem("to", t("The end is not after the start."));
        } else if to <= now {
            checked.problem("to", t("This period is over; declare it as maintenance instead."));
        }
    }
    let Checked { monitors, from, reason, name, .. } = checked.checked()?;
    let Some(to) = to else {
        return Err(Problem::new("to", t("Enter an end or a duration.")).into());
    };
    let subject = subject(&monitors);
    let detail = format!(
        "{} – {}{}{}",
        from.unwrap_or(now),
        to,
        repeats.as_ref().map(|it| format!(", {} at {}", it.lasts, it.cron)).unwrap_or_default(),
        reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default()
    );
    let (by, pause) = (viewer.name.clone(), wanted.pause);
    let request = Request::MaintenanceAdd { name, monitors, from, to, repeats, reason, by, pause };
    let added: MaintenanceAdded =
        change(app, ask, viewer, ("maintenance_planned", &subject, &detail), &request)?;
    Ok(answer(added))
}

/// Declares a past period as maintenance.
///
/// # Errors
/// The viewer lacks the permission, values can't be used (all are reported), or the probe is not running.
pub(crate) fn declare(
    app: &App,
    ask: &Ask,
    viewer: &Viewer,
    wanted: &PlanRequest,
) -> Done<PlanAnswer> {
    require_operator(viewer)?;
    let mut checked = Checked::new(app, viewer, wanted);
    let now = UtcMicros::now();
    if checked.from.is_none() {
        checked.problem("from", t("Enter the start."));
    }
    if let (Some(from), Some(lasts), None) = (checked.from, checked.lasts, checked.to) {
        checked.to = Some(from + lasts);
    }
    match (checked.from, checked.to) {
        (_, None) => checked.problem("to", t("Enter the end.")),
        (Some(from), Some(to)) if to <= from => {
            checked.problem("to", t("The end is not after the start."));
        }
        (_, Some(to)) if to > now => {
            checked.problem(
                "to",
                t("Only a past period can be declared; plan a window for the rest."),
            );
        }
        _ => {}
    }
    if checked.reason.is_none() {
        checked.problem("reason", t("Enter the reason: it is shown with both values."));
    }
    let Checked { monitors, from, to, reason, name, .. } = checked.checked()?;
    let (Some(from), Some(to), Some(reason)) = (from, to, reason) else {
        return Err(Problem::new("from", t("Enter the start.")).into());
    };
    let subject = subject(&monitors);
    let detail = format!("{from} – {to}: {reason}");
    let by = viewer.name.clone();
    let request = Request::MaintenanceDeclare { name, monitors, from, to, reason, by };
    let added: MaintenanceAdded =
        change(app, ask, viewer, ("maintenance_declared", &subject, &detail), &request)?;
    Ok(answer(added))
}

fn subject(monitors: &[String]) -> String {
    if monitors.is_empty() { "*".to_owned() } else { monitors.join(", ") }
}

fn answer(added: MaintenanceAdded) -> PlanAnswer {
    PlanAnswer {
        name: added.name,
        from: added.from.map(|at| at.to_string()),
        until: added.until.map(|at| at.to_string()),
        monitors: added.monitors,
    }
}

/// Returns the windows and declarations that concern monitors of a viewer, with those monitors
/// only.
///
/// # Errors
/// The probe is not running.
pub(crate) fn windows(app: &App, viewer: &Viewer) -> Result<Vec<WindowAnswer>, ControlError> {
    let all: Vec<MaintenanceWindow> = look(app, &Request::MaintenanceList)?;
    let visible = visible(app, viewer);
    let config = app.config();
    let is_operator = require_operator(viewer).is_ok();
    let windows = all.into_iter().filter_map(|window| {
        let mut monitors = window.monitors.clone();
        // Plain ids that it sees: a pattern may select others, now or later.
        let own = !monitors.is_empty() && monitors.iter().all(|id| visible.contains(id));
        if !viewer.sees_all() {
            let selected = |monitor: &&mailqos_config::Monitor| {
                let is_selected = |pattern: &String| monitor.is_selected(pattern);
                visible.contains(monitor.id.as_str())
                    && (window.monitors.is_empty() || window.monitors.iter().any(is_selected))
            };
            monitors = config
                .monitors
                .values()
                .filter(selected)
                .map(|monitor| monitor.id.to_string())
                .collect();
            if monitors.is_empty() {
                return None;
            }
        }
        let state = match (window.declared, window.open) {
            (true, _) => "declared",
            (false, true) => "open",
            (false, false) => "planned",
        };
        Some(WindowAnswer {
            state,
            from: window.from.map(|at| at.to_string()),
            until: window.until.map(|at| at.to_string()),
            times: (window.from.map(UtcMicros::from), window.until.map(UtcMicros::from)),
            lasts_s: window.repeats.as_ref().map(|it| it.lasts.as_secs_f64()),
            cron: window.repeats.map(|it| it.cron),
            monitors,
            may_end: is_operator && window.by.is_some() && (viewer.sees_all() || own),
            reason: window.reason,
            by: window.by,
            name: window.name,
        })
    });
    Ok(windows.collect())
}

/// Finds a window that a viewer may end; others don't exist for it.
fn find(app: &App, viewer: &Viewer, name: &str, is_declared: bool) -> Done<()> {
    let windows = windows(app, viewer).map_err(Failed::Probe)?;
    let is_it =
        |window: &&WindowAnswer| window.name == name && (window.state == "declared") == is_declared;
    match windows.iter().find(is_it) {
        Some(window) if window.may_end => Ok(()),
        Some(window) if window.by.is_none() => {
            let text = t("This window is in the configuration; change it there and reload.");
            Err(Problem::new("name", text).into())
        }
        Some(_) => {
            let text = t("This window also covers monitors that you can't see.");
            Err(Problem::new("name", text).into())
        }
        None => {
            Err(Problem::new("name", t("There is no maintenance window with this name.")).into())
        }
    }
}

/// Ends a window that was added, or removes one that has not started.
///
/// # Errors
/// The viewer lacks the permission, there is none, or the probe is not running.
pub(crate) fn end(app: &App, ask: &Ask, viewer: &Viewer, name: &str) -> Done<()> {
    require_operator(viewer)?;
    find(app, viewer, name, false)?;
    let request = Request::MaintenanceEnd { name: name.to_owned(), by: Some(viewer.name.clone()) };
    let _: MaintenanceEnded = change(app, ask, viewer, ("maintenance_ended", name, ""), &request)?;
    Ok(())
}

/// Withdraws a declaration.
///
/// # Errors
/// The viewer lacks the permission, there is none, or the probe is not running.
pub(crate) fn withdraw(app: &App, ask: &Ask, viewer: &Viewer, name: &str) -> Done<()> {
    require_operator(viewer)?;
    find(app, viewer, name, true)?;
    let request = Request::MaintenanceWithdraw { name: name.to_owned(), by: viewer.name.clone() };
    let _: MaintenanceEnded =
        change(app, ask, viewer, ("maintenance_withdrawn", name, ""), &request)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(typed: &str, edge: Edge) -> Result<String, &'static str> {
        let zone = TimeZone::get("Europe/Berlin").expect("a zone");
        let found = moment(typed, &zone, ("from", edge)).map_err(|problem| problem.text)?;
        Ok(found.map(|at| at.to_string()).unwrap_or_default())
    }

    /// louislam/uptime-kuma#4066, #4856 and #7895: times of windows were read or shown in another
    /// zone than the one they were entered in.
    #[test]
    fn times_are_those_of_the_configured_zone_or_have_an_offset() {
        for (typed, edge, expected) in [
            ("2026-12-01T22:00", Edge::Start, "2026-12-01T21:00:00Z"),
            ("2026-07-01T22:00", Edge::Start, "2026-07-01T20:00:00Z"),
            ("2026-07-01T22:00+09:00", Edge::Start, "2026-07-01T13:00:00Z"),
            // The hour from 2:00 to 3:00 occurs twice: it is covered as a whole.
            ("2026-10-25T02:30", Edge::Start, "2026-10-25T00:30:00Z"),
            ("2026-10-25T02:30", Edge::End, "2026-10-25T01:30:00Z"),
            ("", Edge::End, ""),
        ] {
            assert_eq!(read(typed, edge).as_deref(), Ok(expected), "{typed}");
        }
        assert!(read("2026-03-29T02:30", Edge::Start).expect_err("a gap").contains("put forward"));
        assert!(read("tomorrow", Edge::Start).is_err() && read("2026-13-01", Edge::Start).is_err());
    }
}
