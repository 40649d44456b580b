//! The JSON API: what the pages show, under `/api/v1`, with an OpenAPI description made of the same
//! types. Keys stay as they are within a version; new ones may be added.

use mailqos_figures::{
    Calendar, Distribution, Unit,
    percentiles::CONTRACT,
    stats::{FiguresQuery, Row},
};
use mailqos_lake_tables::Metric;
use mailqos_model::UtcMicros;
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

use crate::{
    access::viewer::Viewer,
    app::{Answer, App, Problem, Refusal},
    board::{Entry, Probe, State, day, filter::Filter},
    http::{request::Ask, respond},
    pages::monitor::{Asked, find},
};

/// Maximum number of monitors in a response.
const MAX_ITEMS: usize = 1_000;
/// Maximum number of buckets in a response.
const MAX_BUCKETS: i64 = 10_000;

/// Description of the API.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "mailqos",
        description = "The content and functions of the web console. Send an API token as \
            `Authorization: Bearer TOKEN`; tokens are made on the page of the account. In a browser \
            session, changes need the token of its forms in `X-CSRF-Token`. Times are RFC 3339. \
            Monitors that the token's user must not see do not exist for it.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        status_doc,
        monitors_doc,
        monitor_doc,
        figures_doc,
        alarms_doc,
        crate::api_operations::history_doc,
        crate::api_operations::acknowledge_doc,
        crate::api_operations::withdraw_doc,
        crate::api_operations::windows_doc,
        crate::api_operations::plan_doc,
        crate::api_operations::declare_doc,
        crate::api_operations::end_doc,
        crate::api_operations::withdraw_declaration_doc,
        crate::api_operations::simulate_doc,
        crate::api_operations::end_simulation_doc,
        crate::api_operations::lists_doc,
        crate::api_operations::try_doc,
    ),
    components(schemas(Problem))
)]
struct Description;

/// Returns the description of the whole API.
pub(crate) fn description() -> utoipa::openapi::OpenApi {
    let mut all = Description::openapi();
    all.merge(crate::api_reports::Description::openapi());
    all.merge(crate::api_definitions::Description::openapi());
    all.merge(crate::api_account::Description::openapi());
    all.merge(crate::api_accounts::Description::openapi());
    all.merge(crate::api_explain::Description::openapi());
    all.merge(crate::api_monitors::Description::openapi());
    all.merge(crate::api_objects::Description::openapi());
    all
}

/// Sends the description of the API.
pub(crate) fn openapi(app: &App, ask: &Ask) -> Answer {
    app.require(ask)?;
    Ok(respond::json(200, &description()))
}

/// A probe.
#[derive(Debug, Serialize, ToSchema)]
struct ProbeAnswer {
    /// Site of the probe.
    site: String,
    /// `running`, `stopped`, `silent` (its last status is too old), `unreadable` or `absent`.
    health: &'static str,
    /// Time of its last status.
    written_at: Option<String>,
    /// Age of its last status, in seconds.
    age_s: Option<f64>,
}

/// Counts of monitors by state.
#[derive(Debug, Serialize, ToSchema)]
struct CountsAnswer {
    alarm: usize,
    failed: usize,
    unknown: usize,
    maintenance: usize,
    ok: usize,
    disabled: usize,
    /// Alarms that someone has acknowledged.
    acknowledged: usize,
}

/// State of everything that the user can see.
#[derive(Debug, Serialize, ToSchema)]
struct StatusAnswer {
    now: String,
    counts: CountsAnswer,
    probes: Vec<ProbeAnswer>,
}

/// The last test of a monitor.
#[derive(Debug, Serialize, ToSchema)]
struct LastAnswer {
    started_at: String,
    /// `ok`, `late`, `lost`, `smtp_failed`, `pickup_failed` or `not_tested`.
    outcome: String,
    /// Milliseconds.
    round_trip: Option<f64>,
}

/// An open alarm.
#[derive(Debug, Serialize, ToSchema)]
struct AlarmAnswer {
    since: String,
    /// Time at which a channel first accepted a notification.
    notified_at: Option<String>,
    acknowledged_by: Option<String>,
    acknowledged_at: Option<String>,
    note: Option<String>,
}

/// An open maintenance window.
#[derive(Debug, Serialize, ToSchema)]
struct MaintenanceAnswer {
    name: String,
    until: String,
    reason: Option<String>,
}

/// The last 24 hours of a monitor, in half-hours.
#[derive(Debug, Serialize, ToSchema)]
struct DayAnswer {
    /// Start of the first half-hour.
    from: String,
    /// Counted tests.
    tests: u32,
    ok: u32,
    /// `ok` / `tests`; null without tests.
    availability: Option<f64>,
    /// Milliseconds.
    median_round_trip: Option<f64>,
    /// Worst outcome of each half-hour: `none`, `maintenance`, `ok`, `late` or `failed`.
    cells: Vec<&'static str>,
    /// Median round trip of each half-hour, in milliseconds.
    medians: Vec<Option<f32>>,
}

/// A monitor.
#[derive(Debug, Serialize, ToSchema)]
struct MonitorAnswer {
    site: String,
    monitor: String,
    name: String,
    object: String,
    object_name: String,
    tags: Vec<String>,
    /// `alarm`, `failed`, `unknown`, `maintenance`, `ok` or `disabled`.
    state: &'static str,
    /// State in the last status, if that is too old to describe the present.
    last_known: Option<&'static str>,
    failing_since: Option<String>,
    /// Failed tests in a row.
    failures: u32,
    /// Reason of the last failure.
    reason: Option<String>,
    last: Option<LastAnswer>,
    last_ok: Option<String>,
    next: Option<String>,
    alarm: Option<AlarmAnswer>,
    maintenance: Option<MaintenanceAnswer>,
    /// Milliseconds.
    max_round_trip: Option<f64>,
    /// Only for a single monitor, or with `day=true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    day: Option<DayAnswer>,
}

/// A page of monitors.
#[derive(Debug, Serialize, ToSchema)]
struct MonitorsAnswer {
    /// Monitors that pass the filter.
    total: usize,
    page: usize,
    monitors: Vec<MonitorAnswer>,
}

/// Distribution of a metric, in milliseconds.
#[derive(Debug, Serialize, ToSchema)]
struct MetricAnswer {
    count: u64,
    min: Option<f64>,
    mean: Option<f64>,
    max: Option<f64>,
    p50: Option<f64>,
    p90: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
}

/// Metrics of a bucket.
#[derive(Debug, Serialize, ToSchema)]
struct MetricsAnswer {
    round_trip: MetricAnswer,
    smtp_connect: MetricAnswer,
    smtp_send: MetricAnswer,
    pickup_connect: MetricAnswer,
    pickup_login: MetricAnswer,
    pickup_receive: MetricAnswer,
}

/// Figures of a bucket: the keys of `mailqos-analytics stats --format json`.
#[derive(Debug, Serialize, ToSchema)]
struct FiguresAnswer {
    site: String,
    monitor: String,
    /// Kind of the tests; null is `mail-qos`.
    kind: Option<String>,
    /// Start of the bucket; null for the whole period.
    bucket: Option<String>,
    /// Counted tests.
    tests: u64,
    ok: u64,
    late: u64,
    lost: u64,
    smtp_failed: u64,
    pickup_failed: u64,
    not_tested: u64,
    /// `ok` / `tests`; null without tests.
    availability: Option<f64>,
    metrics: MetricsAnswer,
    /// Counted tests that began in maintenance declared afterwards.
    declared: u64,
    /// `availability` without these tests.
    availability_excluding_declared: Option<f64>,
    /// Known time / length.
    coverage: Option<f64>,
    downtime_s: f64,
    outages: u64,
}

fn iso(at: Option<UtcMicros>) -> Option<String> {
    at.map(|at| at.to_string())
}

impl ProbeAnswer {
    fn of(probe: &Probe) -> Self {
        let age = probe.written_at.map(|at| (UtcMicros::now() - at).as_secs_f64());
        Self {
            site: probe.site.to_string(),
            health: probe.health.as_str(),
            written_at: iso(probe.written_at),
            age_s: age,
        }
    }
}

impl MonitorAnswer {
    fn of(entry: &Entry, viewer: &Viewer, with_day: bool) -> Self {
        let is_own =
            |tag: &&String| viewer.tags.as_ref().is_none_or(|own| own.contains(tag.as_str()));
        Self {
            site: entry.site.to_string(),
            monitor: entry.id.to_string(),
            name: entry.name.clone(),
            object: entry.object.clone(),
            object_name: entry.object_name.clone(),
            tags: entry.tags.iter().filter(is_own).cloned().collect(),
            state: entry.state.as_str(),
            last_known: entry.last_known.map(State::as_str),
            failing_since: iso(entry.failing_since),
            failures: entry.failures,
            reason: entry.reason.clone(),
            last: entry.last.as_ref().map(|last| LastAnswer {
                started_at: last.at.to_string(),
                outcome: last.outcome.clone(),
                round_trip: last.round_trip.map(|trip| trip.as_millis_f64()),
            }),
            last_ok: iso(entry.last_ok),
            next: iso(entry.next),
            alarm: entry.alarm.as_ref().map(|alarm| {
                let acknowledged = alarm.acknowledged.as_ref();
                AlarmAnswer {
                    since: alarm.since.to_string(),
                    notified_at: alarm.notified_at.map(|at| at.to_string()),
                    acknowledged_by: acknowledged.map(|by| by.by.clone()),
                    acknowledged_at: acknowledged.map(|by| by.at.to_string()),
                    note: acknowledged.and_then(|by| by.note.clone()),
                }
            }),
            maintenance: entry.maintenance.as_ref().map(|window| MaintenanceAnswer {
                name: window.name.clone(),
                until: window.until.to_string(),
                reason: window.reason.clone(),
            }),
            max_round_trip: entry.max_round_trip.map(|most| most.as_millis_f64()),
            day: with_day.then(|| DayAnswer::of(&entry.day)),
        }
    }
}

impl DayAnswer {
    fn of(found: &day::Day) -> Self {
        let share = (found.tests > 0).then(|| f64::from(found.ok) / f64::from(found.tests));
        Self {
            from: day::start(UtcMicros::now()).to_string(),
            tests: found.tests,
            ok: found.ok,
            availability: share,
            median_round_trip: found.median.map(|median| median / 1_000.0),
            cells: found.cells.iter().map(|cell| cell.word()).collect(),
            medians: found.medians.iter().map(|value| (*value >= 0.0).then_some(*value)).collect(),
        }
    }
}

impl MetricAnswer {
    fn of(found: Option<&Distribution>) -> Self {
        let summary = found.map(|found| &found.summary);
        let percentile = |index: usize| {
            summary
                .and_then(|summary| summary.percentiles.get(index))
                .map(|micros| micros / 1_000.0)
        };
        Self {
            count: summary.map_or(0, |summary| summary.count),
            min: summary.map(|summary| summary.min.as_millis_f64()),
            mean: summary.map(|summary| summary.mean / 1_000.0),
            max: summary.map(|summary| summary.max.as_millis_f64()),
            p50: percentile(0),
            p90: percentile(1),
            p95: percentile(2),
            p99: percentile(3),
        }
    }
}

impl FiguresAnswer {
    fn of(row: &Row, entry: &Entry, calendar: &Calendar) -> Self {
        let counts = &row.counts;
        let metric =
            |index: usize| MetricAnswer::of(row.metrics.get(index).and_then(Option::as_ref));
        let moment = |at: UtcMicros| {
            let zoned = calendar.zoned(at);
            zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
        };
        Self {
            site: entry.site.to_string(),
            monitor: entry.id.to_string(),
            kind: row.whose.kind.as_deref().map(str::to_owned),
            bucket: row.bucket.map(moment),
            tests: counts.tests(),
            ok: counts.ok,
            late: counts.late,
            lost: counts.lost,
            smtp_failed: counts.smtp_failed,
            pickup_failed: counts.pickup_failed,
            not_tested: counts.not_tested,
            availability: counts.availability(),
            metrics: MetricsAnswer {
                round_trip: metric(0),
                smtp_connect: metric(1),
                smtp_send: metric(2),
                pickup_connect: metric(3),
                pickup_login: metric(4),
                pickup_receive: metric(5),
            },
            declared: row.declared_tests(),
            availability_excluding_declared: row.excluding_declared().0.availability(),
            coverage: row.time.coverage(),
            downtime_s: row.time.downtime.as_secs_f64(),
            outages: row.time.outages,
        }
    }
}

#[utoipa::path(
    get, path = "/api/v1/status", operation_id = "status",
    responses((status = 200, body = StatusAnswer), (status = 401, body = Problem))
)]
#[expect(dead_code, reason = "describes the operation")]
fn status_doc() {}

/// Sends the counts of states and the health of the probes.
pub(crate) fn status(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require(ask)?;
    let board = app.keeper.board();
    let mut counts = [0; State::ALL.len()];
    let mut acknowledged = 0;
    let seen: Vec<_> = board.entries.iter().filter(|entry| viewer.sees(entry)).collect();
    for entry in &seen {
        counts[entry.state as usize] += 1;
        acknowledged += usize::from(entry.is_acknowledged());
    }
    let of = |state: State| counts[state as usize];
    let concerns = |site: &str| viewer.sees_all() || seen.iter().any(|entry| *entry.site == *site);
    let answer = StatusAnswer {
        now: UtcMicros::now().to_string(),
        counts: CountsAnswer {
            alarm: of(State::Alarm),
            failed: of(State::Failed),
            unknown: of(State::Unknown),
            maintenance: of(State::Maintenance),
            ok: of(State::Ok),
            disabled: of(State::Disabled),
            acknowledged,
        },
        probes: board
            .probes
            .iter()
            .filter(|probe| concerns(&probe.site))
            .map(|probe| ProbeAnswer::of(probe))
            .collect(),
    };
    Ok(respond::json(200, &answer))
}

#[utoipa::path(
    get, path = "/api/v1/monitors", operation_id = "monitors",
    params(
        ("q" = Option<String>, Query, description = "Words that must all occur"),
        ("state" = Option<Vec<String>>, Query, description = "Only these states; repeatable"),
        ("site" = Option<String>, Query, description = "Only this site"),
        ("tag" = Option<String>, Query, description = "Only this tag"),
        ("object" = Option<String>, Query, description = "Only this object"),
        ("sort" = Option<String>, Query, description = "`state`, `name`, `round-trip` or `availability`"),
        ("page" = Option<usize>, Query, description = "Page number, starting at 1; each page has 1,000 monitors"),
        ("day" = Option<bool>, Query, description = "Include the last 24 hours of each monitor"),
    ),
    responses((status = 200, body = MonitorsAnswer), (status = 401, body = Problem))
)]
#[expect(dead_code, reason = "describes the operation")]
fn monitors_doc() {}

/// Sends monitors.
pub(crate) fn monitors(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require(ask)?;
    let filter = Filter { group: crate::board::filter::Group::None, ..Filter::read(&ask.query) };
    let selected = filter.select(&app.keeper.board(), &viewer);
    let with_day = ask.query.get("day") == Some("true");
    let shown =
        selected.rows.iter().skip((filter.page - 1).saturating_mul(MAX_ITEMS)).take(MAX_ITEMS);
    let answer = MonitorsAnswer {
        total: selected.rows.len(),
        page: filter.page,
        monitors: shown.map(|(_, entry)| MonitorAnswer::of(entry, &viewer, with_day)).collect(),
    };
    Ok(respond::json(200, &answer))
}

#[utoipa::path(
    get, path = "/api/v1/monitors/{site}/{monitor}", operation_id = "monitor",
    params(("site" = String, Path), ("monitor" = String, Path)),
    responses(
        (status = 200, body = MonitorAnswer), (status = 401, body = Problem),
        (status = 404, body = Problem),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn monitor_doc() {}

/// Sends a monitor.
pub(crate) fn monitor(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require(ask)?;
    let entry = find(app, ask, &viewer)?;
    Ok(respond::json(200, &MonitorAnswer::of(&entry, &viewer, true)))
}

#[utoipa::path(
    get, path = "/api/v1/monitors/{site}/{monitor}/figures", operation_id = "figures",
    params(
        ("site" = String, Path), ("monitor" = String, Path),
        ("period" = Option<String>, Query, description = "`day`, `week`, `month`, `year` (until now), or a calendar period such as `2026-11`, `2026-W48`, `last-month`"),
        ("back" = Option<u32>, Query, description = "Number of periods to go back"),
        ("by" = Option<String>, Query, description = "`total`, `hour`, `day`, `week` or `month`"),
    ),
    responses(
        (status = 200, body = Vec<FiguresAnswer>), (status = 400, body = Problem),
        (status = 401, body = Problem), (status = 404, body = Problem),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn figures_doc() {}

/// Sends the figures of a monitor.
pub(crate) fn figures(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require(ask)?;
    let entry = find(app, ask, &viewer)?;
    let asked = Asked::read(app, ask)?;
    let by = match ask.query.get("by").unwrap_or("total") {
        "total" => None,
        "hour" => Some(Unit::Hour),
        "day" => Some(Unit::Day),
        "week" => Some(Unit::Week),
        "month" => Some(Unit::Month),
        _ => return Err(Refusal::Invalid("Set by to total, hour, day, week or month.")),
    };
    if by == Some(Unit::Hour) && asked.period.duration().0 / 3_600_000_000 > MAX_BUCKETS {
        return Err(Refusal::Invalid("The period is too long for hours."));
    }
    let query =
        FiguresQuery::new(asked.period.clone(), UtcMicros::now(), by, &Metric::CONTRACT, &CONTRACT);
    let question = asked.question(&entry, &viewer, "en");
    let folder = app.keeper.folder().map_err(Refusal::Unavailable)?;
    let rows = app.figures.rows(&question, &folder, &app.config(), &query);
    let rows = rows.map_err(|error| Refusal::Unavailable(error.to_string()))?;
    let calendar = &asked.period.calendar;
    let answer: Vec<FiguresAnswer> =
        rows.iter().map(|row| FiguresAnswer::of(row, &entry, calendar)).collect();
    Ok(respond::json(200, &answer))
}

#[utoipa::path(
    get, path = "/api/v1/alarms", operation_id = "alarms",
    responses((status = 200, body = Vec<MonitorAnswer>), (status = 401, body = Problem))
)]
#[expect(dead_code, reason = "describes the operation")]
fn alarms_doc() {}

/// Sends the monitors with an open alarm, unacknowledged ones first.
pub(crate) fn alarms(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require(ask)?;
    let board = app.keeper.board();
    let mut open: Vec<_> = board
        .entries
        .iter()
        .filter(|entry| entry.state == State::Alarm && viewer.sees(entry))
        .collect();
    open.sort_by_key(|entry| entry.rank());
    let answer: Vec<MonitorAnswer> =
        open.iter().map(|entry| MonitorAnswer::of(entry, &viewer, false)).collect();
    Ok(respond::json(200, &answer))
}
