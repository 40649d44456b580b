//! Tries of action lists: a test message through each action, once, ignoring hours.

use std::time::{Duration, Instant};

use mailqos_config::{ActionList, Config, Step};
use mailqos_control::response::ActionResult;
use mailqos_model::Micros;
use mailqos_notify::{Accepted, Channel, send};
use tokio::task::JoinSet;

use super::{NotificationKind, message};

/// Longest wait for all actions of a list, below the time that a client waits.
const MAX_WAIT: Duration = Duration::from_secs(50);

/// Sends a test message through an action, once.
pub async fn try_step(config: &Config, step: &Step) -> ActionResult {
    let begun = Instant::now();
    let (channel, notification) =
        (Channel::of(config, step), message::test(config, NotificationKind::Test));
    let mut outcome = send(&channel, &notification, &[]).await;
    if channel.counts_incidents() && outcome.result.is_ok() {
        // What the test opened is closed again.
        let end =
            message::test(config, NotificationKind::Cleared).of_incident(&notification.incident);
        outcome = send(&channel, &end, &[]).await;
    }
    let (accepted, confirmed, text) = match outcome.result {
        Ok(Accepted::Confirmed(words) | Accepted::Partly { words, .. }) => (true, true, words),
        Ok(Accepted::Unconfirmed(words)) => (true, false, words),
        Err(error) => (false, false, error.to_string()),
    };
    let took = Micros::from(begun.elapsed()).0 / 1_000 * 1_000;
    ActionResult { route: step.action.route(), accepted, confirmed, text, took }
}

/// Sends a test message through all actions of a list at the same time; an action without an
/// answer in time has failed. The results are in the order of the list.
pub async fn try_list(config: &Config, list: &ActionList) -> Vec<ActionResult> {
    let mut results: Vec<ActionResult> = list
        .steps
        .iter()
        .map(|step| ActionResult {
            route: step.action.route(),
            text: format!("no answer within {} s", MAX_WAIT.as_secs()),
            took: Micros::from(MAX_WAIT).0,
            ..ActionResult::default()
        })
        .collect();
    let mut running = JoinSet::new();
    for (index, step) in list.steps.iter().cloned().enumerate() {
        let config = config.clone();
        running.spawn(async move { (index, try_step(&config, &step).await) });
    }
    let collect = async {
        while let Some(ended) = running.join_next().await {
            if let Ok((index, result)) = ended
                && let Some(place) = results.get_mut(index)
            {
                *place = result;
            }
        }
    };
    // What is still running is aborted with the set.
    let _ = tokio::time::timeout(MAX_WAIT, collect).await;
    results
}
