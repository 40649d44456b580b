//! Decides whether the probe does its work, and sends heartbeats.

use std::{sync::Arc, time::Duration};

use mailqos_config::Config;
use mailqos_notify::{Beat, send_heartbeat};

use super::routes;
use crate::control::RunningProbe;

/// The scheduler must have looked for due tests within this time.
const ALIVE_WITHIN: Duration = Duration::from_secs(30);
/// A heartbeat that was not accepted is sent again after this, or after a quarter of the interval.
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(15);

/// Sends heartbeats as configured, until it is aborted.
pub async fn beat(live: Arc<RunningProbe>) {
    let mut changes = live.configs.subscribe();
    wait_for_scheduler(&live).await;
    loop {
        let config = Arc::clone(&changes.borrow_and_update());
        live.heartbeats.configured(config.heartbeat.is_some());
        let Some(heartbeat) = &config.heartbeat else {
            if changes.changed().await.is_err() {
                return;
            }
            continue;
        };
        let obstacle = obstacle(&live, &config);
        let beat = obstacle.as_deref().map_or(Beat::Alive, Beat::Failing);
        let sent = send_heartbeat(heartbeat, &config.proxy, beat).await;
        let every = heartbeat.every.to_std();
        let pause = match sent {
            Ok(_) => every,
            Err(_) => (every / 4).min(MAX_RETRY_PAUSE),
        };
        live.heartbeats.note(obstacle.as_deref(), sent);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = changes.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

/// Waits until the scheduler has looked for due tests once, at most [`ALIVE_WITHIN`]: a probe that is
/// still starting must not report a failure.
async fn wait_for_scheduler(live: &RunningProbe) {
    const PAUSE: Duration = Duration::from_millis(50);
    let running = async {
        while !live.board.is_alive(ALIVE_WITHIN) {
            tokio::time::sleep(PAUSE).await;
        }
    };
    // A scheduler that never starts is what the first heartbeat reports.
    let _ = tokio::time::timeout(ALIVE_WITHIN, running).await;
}

/// Returns why the probe does not do its work, if that is the case.
fn obstacle(live: &RunningProbe, config: &Config) -> Option<String> {
    let enabled = config.monitors.values().filter(|monitor| monitor.enabled).count();
    if enabled == 0 {
        return Some("no monitor is enabled".to_owned());
    }
    if !live.board.is_alive(ALIVE_WITHIN) {
        return Some("due tests are not started".to_owned());
    }
    let untested = live.alarms.untested();
    if untested.len() >= enabled
        && let Some((monitor, reason)) = untested.first_key_value()
    {
        return Some(format!("no monitor can be tested: {monitor} ({reason})"));
    }
    if let Some(problem) = live.recorder.health().problem {
        return Some(format!("samples can't be recorded: {problem}"));
    }
    let channels = live.alarms.channels();
    let is_failing =
        |route: &String| channels.get(route).is_some_and(|channel| channel.failures > 0);
    let routes = routes(config);
    if routes.is_empty() {
        return Some("no alarm channel is configured".to_owned());
    }
    routes.iter().all(is_failing).then(|| "no alarm channel works".to_owned())
}
