//! Sends notices through an action list: messages that are not about a monitor, such as that a
//! report could not be delivered.

use std::time::Duration;

use mailqos_config::{ActionList, Config, On, Step};
use mailqos_model::Micros;

use crate::{Accepted, Channel, Notification, Refused, send};

/// How long the channels of an action list may take together.
const DEADLINE: Duration = Duration::from_secs(300);

/// Sends a notice through the immediate actions of a list, one after the other; through all actions
/// if all are delayed. Actions for recoveries are skipped. Returns each channel's name and answer.
pub async fn send_notice(
    config: &Config,
    list: &ActionList,
    notice: &Notification,
) -> Vec<(String, Result<Accepted, Refused>)> {
    let is_for_notices = |step: &&Step| step.on != On::Recovery;
    let mut steps: Vec<&Step> = list
        .steps
        .iter()
        .filter(is_for_notices)
        .filter(|step| step.after == Micros::ZERO)
        .collect();
    if steps.is_empty() {
        steps = list.steps.iter().filter(is_for_notices).collect();
    }
    let mut answers = Vec::new();
    for step in steps {
        let outcome = send(&Channel::of(config, step), notice, &[]).await;
        answers.push((step.action.route(), outcome.result));
    }
    answers
}

/// Notifies people through an action list, within five minutes.
///
/// # Errors
/// No channel accepted the notice.
pub async fn notify(config: &Config, list: &str, notice: &Notification) -> Result<(), String> {
    let Some(actions) = config.action_lists.get(list) else {
        return Err(format!("no action list is named {list:?}"));
    };
    let sent = tokio::time::timeout(DEADLINE, send_notice(config, actions, notice)).await;
    let answers = sent.map_err(|_| format!("did not end within {} s", DEADLINE.as_secs()))?;
    if answers.iter().any(|(_, answer)| answer.is_ok()) {
        return Ok(());
    }
    let failures: Vec<String> = answers
        .into_iter()
        .filter_map(|(route, answer)| Some(format!("{route}: {}", answer.err()?)))
        .collect();
    Err(if failures.is_empty() {
        "the action list has no action for notices".to_owned()
    } else {
        failures.join("; ")
    })
}
