//! Heartbeats of report schedules to a service that raises an alarm when they stop: sent only while
//! due reports are generated and the outbox is processed.

use std::{
    sync::{Arc, Mutex, RwLock},
    time::{Duration, Instant},
};

use mailqos_base::lock::IgnorePoison as _;
use mailqos_config::Config;
use mailqos_notify::{Beat, send_heartbeat};

/// A pass must have ended within this time; they begin every ten seconds, and a long one does not
/// delay the next.
const PASS_WITHIN: Duration = Duration::from_secs(600);
/// A heartbeat that was not accepted is sent again after this, or after a quarter of the interval.
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(15);
/// The configuration is looked at again after this if no heartbeat is configured.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// End of the last pass, and its problem.
type LastPass = Mutex<Option<(Instant, Option<String>)>>;

/// Results of the last passes of a scheduler.
#[derive(Debug, Default)]
pub struct Passes {
    generation: LastPass,
    delivery: LastPass,
}

impl Passes {
    /// Notes that due reports were generated, or why not.
    pub fn generated(&self, problem: Option<String>) {
        *self.generation.lock().ignore_poison() = Some((Instant::now(), problem));
    }

    /// Notes that the outbox was processed, or why not.
    pub fn delivered(&self, problem: Option<String>) {
        *self.delivery.lock().ignore_poison() = Some((Instant::now(), problem));
    }

    /// Returns why schedules don't run, if that is the case.
    fn obstacle(&self, since: Instant) -> Option<String> {
        [
            ("reports are not generated", &self.generation),
            ("reports are not delivered", &self.delivery),
        ]
        .into_iter()
        .find_map(|(what, last)| match &*last.lock().ignore_poison() {
            Some((at, None)) if at.elapsed() < PASS_WITHIN => None,
            Some((_, Some(problem))) => Some(format!("{what}: {problem}")),
            // The first pass may still be under way.
            None if since.elapsed() < PASS_WITHIN => None,
            _ => Some(format!("{what}: no attempt has ended for {} s", PASS_WITHIN.as_secs())),
        })
    }
}

/// Sends heartbeats as configured, until it is aborted.
pub async fn beat(config: Arc<RwLock<Arc<Config>>>, passes: Arc<Passes>) {
    let since = Instant::now();
    let mut had_problem = false;
    loop {
        let now = Arc::clone(&config.read().ignore_poison());
        let Some(heartbeat) = &now.delivery.heartbeat else {
            tokio::time::sleep(LOOK_AGAIN).await;
            continue;
        };
        let obstacle = passes.obstacle(since);
        let beat = obstacle.as_deref().map_or(Beat::Alive, Beat::Failing);
        let sent = send_heartbeat(heartbeat, &now.proxy, beat).await;
        let every = heartbeat.every.to_std();
        let pause = match &sent {
            Ok(_) => every,
            Err(_) => (every / 4).min(MAX_RETRY_PAUSE),
        };
        let problem = obstacle.or(sent.err());
        match &problem {
            // Once, not at every attempt.
            Some(problem) if !had_problem => tracing::warn!(%problem, "heartbeat stopped"),
            None if had_problem => tracing::info!("heartbeat accepted again"),
            _ => {}
        }
        had_problem = problem.is_some();
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_that_failed_stops_the_heartbeat_until_one_succeeds() {
        let passes = Passes::default();
        let begun = Instant::now();
        assert_eq!(passes.obstacle(begun), None);
        passes.generated(None);
        passes.delivered(Some("disk full".to_owned()));
        assert_eq!(passes.obstacle(begun).as_deref(), Some("reports are not delivered: disk full"));
        passes.delivered(None);
        assert_eq!(passes.obstacle(begun), None);
        passes.generated(Some("a report was not generated".to_owned()));
        assert!(passes.obstacle(begun).is_some());
    }
}
