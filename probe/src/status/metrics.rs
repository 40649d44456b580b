//! The OpenMetrics endpoint: metrics for Prometheus and compatible tools over HTTP, for anyone who
//! can reach its address.

use std::{
    convert::Infallible,
    fmt::Write as _,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode, body::Bytes, body::Incoming, service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use mailqos_base::clock::Now;
use mailqos_base::lock::IgnorePoison as _;
use mailqos_config::{Monitor, Timing};
use mailqos_model::{Outcome, Placement, UtcMicros, Verdict};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};

use super::{Histogram, Observed, state_of};
use crate::{control::RunningProbe, schedule::Board};
use mailqos_control::StateWord;

/// Deadline for a client's request.
const PATIENCE: Duration = Duration::from_secs(10);
/// Maximum number of simultaneous clients.
const MAX_CLIENTS: usize = 32;
/// Time between attempts to listen: the first and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Media type of Prometheus' own text format.
const CLASSIC_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Media type of OpenMetrics.
const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves metrics at the configured address, and at the new one after a reload, until it is
/// aborted. The old address is released once the new one is available.
pub async fn serve(live: Arc<RunningProbe>) {
    let mut changes = live.configs.subscribe();
    let mut listening = JoinSet::new();
    let mut at: Option<SocketAddr> = None;
    loop {
        let wanted = changes.borrow_and_update().metrics;
        match wanted {
            Some(address) if at != wanted => {
                if hinders(at, address).await {
                    listening.shutdown().await;
                }
                let listener = tokio::select! {
                    listener = bind(&live.observed, address, FIRST_PAUSE) => listener,
                    _ = changes.changed() => continue,
                };
                tracing::info!(%address, "serving metrics");
                listening.shutdown().await;
                listening.spawn(accept(Arc::clone(&live), listener));
                at = wanted;
            }
            Some(_) => live.observed.set_metrics_problem(None),
            None => {
                listening.shutdown().await;
                live.observed.set_metrics_problem(None);
                at = None;
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Returns whether our own listener blocks another address with the same port, such as that of all
/// networks.
async fn hinders(at: Option<SocketAddr>, address: SocketAddr) -> bool {
    if at.is_none_or(|at| at.port() != address.port()) {
        return false;
    }
    let tried = TcpListener::bind(address).await;
    tried.is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
}

/// Serves clients on a listener.
async fn accept(live: Arc<RunningProbe>, listener: TcpListener) {
    let clients = Arc::new(Semaphore::new(MAX_CLIENTS));
    while let Ok(client) = clients.clone().acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let live = live.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |request| {
                let live = live.clone();
                async move { Ok::<_, Infallible>(answer(live, &request).await) }
            });
            let conversation = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .keep_alive(false)
                .max_buf_size(16 * 1024)
                .serve_connection(TokioIo::new(stream), answer);
            let _ = tokio::time::timeout(PATIENCE * 6, conversation).await;
            drop(client);
        });
    }
}

/// Listens at the address as soon as it is available; until then the status shows the reason. The
/// machine may get the address later, or another program may release it.
async fn bind(observed: &Observed, address: SocketAddr, first_pause: Duration) -> TcpListener {
    let mut pause = first_pause;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                observed.set_metrics_problem(None);
                return listener;
            }
            Err(error) => {
                let problem = format!("can't serve metrics at {address}: {error}");
                // Logged once; the status shows it.
                if observed.metrics_problem().as_ref() != Some(&problem) {
                    tracing::error!(error = problem, "metrics unavailable; retrying");
                }
                observed.set_metrics_problem(Some(problem));
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// Format that a client accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    OpenMetrics,
    Classic,
}

impl Form {
    /// Parses what a client accepts (RFC 9110, section 12.5.1): OpenMetrics only if it is named,
    /// because tools that don't name it (promtool, scripts with curl) read the classic format.
    fn accepted(accept: &str) -> Self {
        let (mut open, mut classic) = (0.0_f32, 0.0_f32);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts
                .find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
                .map_or(1.0, |quality| quality.trim().parse().unwrap_or(0.0));
            match kind.as_str() {
                "application/openmetrics-text" => open = open.max(quality),
                "text/plain" => classic = classic.max(quality),
                _ => {}
            }
        }
        if open > 0.0 && open >= classic { Self::OpenMetrics } else { Self::Classic }
    }
}

/// Converts to the text format 0.0.4 of Prometheus
/// (<https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>): counter
/// families are named with their `_total`, there are no units, infos or state sets, and nothing
/// marks the end.
fn classic(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    // Required suffix of the family's name.
    let mut suffix = "";
    for line in open_metrics.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                let (ending, kind) = match kind {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    "stateset" => ("", "gauge"),
                    "unknown" => ("", "untyped"),
                    other => ("", other),
                };
                suffix = ending;
                let _ = writeln!(text, "# TYPE {name}{suffix} {kind}");
            }
            (Some("#"), Some("HELP"), Some(name), help) => {
                let _ = writeln!(text, "# HELP {name}{suffix} {}", help.unwrap_or_default());
            }
            (Some("#"), Some("UNIT" | "EOF"), ..) => {}
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

async fn answer(live: Arc<RunningProbe>, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let accept: Vec<&str> = request
        .headers()
        .get_all(hyper::header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    let form = Form::accepted(&accept.join(","));
    let written = move || match form {
        Form::OpenMetrics => (TYPE, write(&live)),
        Form::Classic => (CLASSIC_TYPE, classic(&write(&live))),
    };
    let (status, kind, text) = match (request.method(), request.uri().path()) {
        // For ten thousand monitors this takes a while, during which no test may wait for this
        // thread.
        (&Method::GET | &Method::HEAD, "/metrics") => {
            match tokio::task::spawn_blocking(written).await {
                Ok((kind, text)) => (StatusCode::OK, kind, text),
                Err(error) => {
                    (StatusCode::INTERNAL_SERVER_ERROR, "text/plain", format!("{error}\n"))
                }
            }
        }
        (&Method::GET | &Method::HEAD, _) => {
            (StatusCode::NOT_FOUND, "text/plain", "the metrics are at /metrics\n".to_owned())
        }
        _ => (StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET is allowed\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static(kind));
    response
}

/// Writes the name, type and description of a metric family.
fn family(text: &mut String, name: &str, kind: &str, unit: &str, help: &str) {
    let _ = writeln!(text, "# TYPE {name} {kind}");
    if !unit.is_empty() {
        let _ = writeln!(text, "# UNIT {name} {unit}");
    }
    let _ = writeln!(text, "# HELP {name} {help}");
}

fn histogram(text: &mut String, name: &str, labels: &str, histogram: &Histogram) {
    let separator = if labels.is_empty() { "" } else { "," };
    for (bound, count) in histogram.cumulative() {
        let _ = writeln!(text, "{name}_bucket{{{labels}{separator}le=\"{bound:?}\"}} {count}");
    }
    let _ = writeln!(text, "{name}_bucket{{{labels}{separator}le=\"+Inf\"}} {}", histogram.total());
    let braces = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
    let _ = writeln!(text, "{name}_count{braces} {}", histogram.total());
    let _ = writeln!(text, "{name}_sum{braces} {}", histogram.sum());
}

/// Escapes a text as the value of a label.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn seconds(at: UtcMicros) -> f64 {
    at.0 as f64 / 1e6
}

/// A monitor and its identifying labels.
type Labelled<'config> = (String, &'config Monitor);

/// Writes all metrics as OpenMetrics requires: family by family, with `# EOF` at the end.
pub fn write(live: &RunningProbe) -> String {
    let now = live.alarms.clock().now();
    let config = live.config();
    let mut text = String::new();
    let monitors: Vec<Labelled<'_>> = config
        .monitors
        .values()
        .map(|monitor| {
            let labels = format!("monitor=\"{}\",object=\"{}\"", monitor.id, monitor.object);
            (labels, monitor)
        })
        .collect();
    family(&mut text, "mailqos_probe", "info", "", "Version and site of the probe.");
    let _ = writeln!(
        text,
        "mailqos_probe_info{{site=\"{}\",version=\"{}\"}} 1",
        config.site,
        env!("CARGO_PKG_VERSION")
    );
    tests(&mut text, live, &monitors);
    mails(&mut text, live, &monitors);
    phases(&mut text, live);
    states(&mut text, live, &monitors, now);
    starts(&mut text, &live.board);
    troubles(&mut text, live);
    text.push_str("# EOF\n");
    text
}

/// Writes the counts, outcomes and round trips of tests, and the expiry times of certificates.
fn tests(text: &mut String, live: &RunningProbe, monitors: &[Labelled<'_>]) {
    let seen = live.observed.lock();
    family(text, "mailqos_tests", "counter", "", "Tests since the probe was started, by outcome.");
    for (labels, monitor) in monitors {
        let Some(seen) = seen.get(&monitor.id) else {
            continue;
        };
        for (outcome, count) in Outcome::ALL.iter().zip(seen.outcomes) {
            let _ = writeln!(text, "mailqos_tests_total{{{labels},outcome=\"{outcome}\"}} {count}");
        }
    }
    let name = "mailqos_round_trip_seconds";
    family(text, name, "histogram", "seconds", "Round trip of mails that arrived.");
    for (labels, monitor) in monitors {
        if let Some(seen) = seen.get(&monitor.id) {
            histogram(text, name, labels, &seen.round_trip);
        }
    }
    let name = "mailqos_certificate_expiry_timestamp_seconds";
    family(text, name, "gauge", "seconds", "Time at which the servers' certificates expire.");
    for (labels, monitor) in monitors {
        let expires = seen.get(&monitor.id).map(|seen| seen.expires).unwrap_or_default();
        for (server, at) in ["smtp", "pickup"].iter().zip(expires) {
            if let Some(at) = at {
                let _ = writeln!(text, "{name}{{{labels},server=\"{server}\"}} {}", seconds(at));
            }
        }
    }
}

/// Writes the results of mails: folders, verdicts of the receiving system, and retries. Monitors
/// without mails have none.
fn mails(text: &mut String, live: &RunningProbe, monitors: &[Labelled<'_>]) {
    let seen = live.observed.lock();
    let known: Vec<_> = monitors
        .iter()
        .filter_map(|(labels, monitor)| Some((labels, seen.get(&monitor.id)?)))
        .filter(|(_, seen)| seen.places.iter().any(|count| *count > 0))
        .collect();
    family(text, "mailqos_mails", "counter", "", "Arrived mails since the start, by folder.");
    let places = Placement::ALL.iter().map(|place| place.as_str()).chain(["unknown"]);
    let places: Vec<&str> = places.collect();
    for (labels, seen) in &known {
        for (place, count) in places.iter().zip(seen.places) {
            let _ = writeln!(text, "mailqos_mails_total{{{labels},folder=\"{place}\"}} {count}");
        }
    }
    let name = "mailqos_authentication_results";
    family(text, name, "counter", "", "Results of the receiving system, by method.");
    for (labels, seen) in &known {
        for (method, counts) in ["spf", "dkim", "dmarc"].iter().zip(seen.verdicts) {
            for (verdict, count) in Verdict::ALL.iter().zip(counts) {
                if count > 0 {
                    let _ = writeln!(
                        text,
                        "{name}_total{{{labels},method=\"{method}\",result=\"{verdict}\"}} {count}"
                    );
                }
            }
        }
    }
    let name = "mailqos_retried_mails";
    family(text, name, "counter", "", "Mails that were accepted after several attempts.");
    for (labels, seen) in &known {
        let _ = writeln!(text, "{name}_total{{{labels}}} {}", seen.retried);
    }
}

/// Writes the durations of the steps of tests.
fn phases(text: &mut String, live: &RunningProbe) {
    let name = "mailqos_phase_seconds";
    family(text, name, "histogram", "seconds", "Parts of all tests.");
    let phases = live.observed.phases.lock().ignore_poison().clone();
    for (phase, timing) in phases.iter().zip(Timing::ALL.iter().copied()) {
        histogram(text, name, &format!("phase=\"{}\"", timing.as_str()), phase);
    }
}

/// Writes the states of the monitors.
fn states(text: &mut String, live: &RunningProbe, monitors: &[Labelled<'_>], now: Now) {
    let states = live.alarms.states();
    family(text, "mailqos_monitor_state", "stateset", "", "State of the monitors.");
    for (labels, monitor) in monitors {
        let maintained = live.maintenance.open_for(&monitor.id, now.wall).is_some();
        let word = state_of(monitor, states.get(&monitor.id), maintained, now);
        for state in StateWord::ALL {
            let is = u8::from(state == word);
            let _ = writeln!(
                text,
                "mailqos_monitor_state{{{labels},mailqos_monitor_state=\"{}\"}} {is}",
                state.as_str()
            );
        }
    }
    let name = "mailqos_last_test_timestamp_seconds";
    family(text, name, "gauge", "seconds", "Time at which the last test started.");
    for (labels, monitor) in monitors {
        if let Some(last) = states.get(&monitor.id).and_then(|state| state.last.as_ref()) {
            let _ = writeln!(text, "{name}{{{labels}}} {}", seconds(last.started_at));
        }
    }
    let name = "mailqos_last_round_trip_seconds";
    family(text, name, "gauge", "seconds", "Round trip of the last test, if its mail arrived.");
    for (labels, monitor) in monitors {
        let last = states.get(&monitor.id).and_then(|state| state.last.as_ref());
        if let Some(took) = last.and_then(|last| last.round_trip) {
            let _ = writeln!(text, "{name}{{{labels}}} {}", took.as_secs_f64());
        }
    }
}

/// Writes the statistics of starts.
fn starts(text: &mut String, board: &Board) {
    let name = "mailqos_start_lateness_seconds";
    family(text, name, "histogram", "seconds", "How late tests were started.");
    let lateness = board.lateness.lock().ignore_poison().clone();
    histogram(text, name, "", &lateness);
    for (name, kind, help, value) in [
        ("mailqos_tests_running", "gauge", "Running tests.", &board.running),
        ("mailqos_tests_waiting", "gauge", "Tests that wait for a free slot.", &board.waiting),
        (
            "mailqos_late_starts",
            "counter",
            "Tests that were started more than a second late.",
            &board.late,
        ),
        (
            "mailqos_left_out_tests",
            "counter",
            "Tests that were skipped because the previous one was still running.",
            &board.left_out,
        ),
    ] {
        family(text, name, kind, "", help);
        let suffix = if kind == "counter" { "_total" } else { "" };
        let _ = writeln!(text, "{name}{suffix} {}", value.load(Ordering::Relaxed));
    }
}

/// Writes the failing channels and the samples that can't be stored.
fn troubles(text: &mut String, live: &RunningProbe) {
    let channels = live.alarms.channels();
    let name = "mailqos_channel_failures";
    family(text, name, "gauge", "", "Failures of the channel since it last accepted a message.");
    for (channel, state) in &channels {
        let _ = writeln!(text, "{name}{{channel=\"{}\"}} {}", escaped(channel), state.failures);
    }
    let name = "mailqos_untested_monitors";
    family(text, name, "gauge", "", "Monitors that the probe can't test.");
    let _ = writeln!(text, "{name} {}", live.alarms.untested().len());
    let health = live.recorder.health();
    family(
        text,
        "mailqos_recorder_held_entries",
        "gauge",
        "",
        "Entries held in memory because the disk does not accept them.",
    );
    let _ = writeln!(text, "mailqos_recorder_held_entries {}", health.held);
    heartbeats(text, live);
}

/// Writes the results of heartbeats, if they are configured.
fn heartbeats(text: &mut String, live: &RunningProbe) {
    let state = live.heartbeats.state();
    if !state.is_configured {
        return;
    }
    family(text, "mailqos_heartbeats", "counter", "", "Heartbeats, by result.");
    let results =
        [("accepted", state.accepted), ("failed", state.failed), ("withheld", state.withheld)];
    for (result, count) in results {
        let _ = writeln!(text, "mailqos_heartbeats_total{{result=\"{result}\"}} {count}");
    }
    let name = "mailqos_heartbeat_accepted_timestamp_seconds";
    family(text, name, "gauge", "seconds", "Time at which the service last accepted a heartbeat.");
    if let Some(at) = state.accepted_at {
        let _ = writeln!(text, "{name} {}", seconds(at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_the_requested_format() {
        for (accept, form) in [
            ("", Form::Classic),
            ("*/*", Form::Classic),
            ("text/plain", Form::Classic),
            ("text/plain;version=0.0.4;q=0.5, application/openmetrics-text;q=0", Form::Classic),
            ("application/openmetrics-text; version=1.0.0", Form::OpenMetrics),
            ("application/openmetrics-text;q=0.2,text/plain;q=0.9", Form::Classic),
            // Prometheus 2.50.
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                 text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                Form::OpenMetrics,
            ),
        ] {
            assert_eq!(Form::accepted(accept), form, "{accept}");
        }
    }

    #[test]
    fn the_classic_format_has_its_own_names_and_types() {
        let mut text = String::new();
        family(&mut text, "a", "info", "", "An info.");
        text.push_str("a_info{x=\"# TYPE y counter\"} 1\n");
        family(&mut text, "b", "counter", "", "A counter.");
        text.push_str("b_total 2\n");
        family(&mut text, "c_seconds", "histogram", "seconds", "A histogram.");
        text.push_str("c_seconds_bucket{le=\"+Inf\"} 0\nc_seconds_count 0\nc_seconds_sum 0\n");
        family(&mut text, "d", "stateset", "", "States.");
        text.push_str("d{d=\"ok\"} 1\n# EOF\n");
        let expected = "# TYPE a_info gauge\n# HELP a_info An info.\na_info{x=\"# TYPE y counter\"} 1\n\
                        # TYPE b_total counter\n# HELP b_total A counter.\nb_total 2\n\
                        # TYPE c_seconds histogram\n# HELP c_seconds A histogram.\n\
                        c_seconds_bucket{le=\"+Inf\"} 0\nc_seconds_count 0\nc_seconds_sum 0\n\
                        # TYPE d gauge\n# HELP d States.\nd{d=\"ok\"} 1\n";
        assert_eq!(classic(&text), expected);
    }

    #[test]
    fn the_dashboard_shows_now_and_no_figure_without_a_probe() {
        let text = include_str!("../../../packaging/grafana-dashboard.json");
        let board: serde_json::Value = serde_json::from_str(text).expect("JSON");
        let panels = board["panels"].as_array().expect("panels");
        for panel in panels.iter().filter(|panel| panel["id"] == 1 || panel["id"] == 2) {
            assert_eq!(panel["targets"][0]["instant"], true, "{panel}");
            assert_eq!(panel["fieldConfig"]["defaults"]["noValue"], "no probe", "{panel}");
        }
        let dead = panels.iter().any(|panel| {
            let query = panel["targets"][0]["expr"].as_str().unwrap_or_default();
            query.contains("last_over_time(mailqos_probe_info[1d]) unless")
        });
        assert!(dead, "no panel names the probes that do not answer");
    }

    #[tokio::test]
    async fn an_address_in_use_is_reported_and_opened_later() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("mailqos.toml");
        std::fs::write(&path, "site = \"here\"\n").expect("write");
        let config = mailqos_config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
        let observed = Observed::open(&config);
        let other = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = other.local_addr().expect("an address");
        let freed = async {
            let problem = loop {
                if let Some(problem) = observed.metrics_problem() {
                    break problem;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            };
            drop(other);
            problem
        };
        let (listener, problem) =
            tokio::join!(bind(&observed, address, Duration::from_millis(10)), freed);
        assert!(problem.starts_with(&format!("can't serve metrics at {address}: ")), "{problem}");
        assert_eq!(listener.local_addr().expect("an address"), address);
        assert_eq!(observed.metrics_problem(), None);
    }
}
