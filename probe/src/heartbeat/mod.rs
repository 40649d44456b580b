//! Heartbeats to a service that raises an alarm when they stop: sent only while tests run, samples
//! are recorded and at least one alarm channel works.

mod beat;

use std::{collections::BTreeSet, sync::Mutex};

use mailqos_base::lock::IgnorePoison as _;
use mailqos_config::{Action, Config};
use mailqos_model::UtcMicros;
use mailqos_notify::Beaten;

pub use beat::beat;

/// State of the heartbeats.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeartbeatState {
    /// Whether they are configured.
    pub is_configured: bool,
    /// Time at which the service last accepted one.
    pub accepted_at: Option<UtcMicros>,
    /// Heartbeats that were accepted.
    pub accepted: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Heartbeats that were due and not sent as such, because the probe does not work.
    pub withheld: u64,
    /// Why none is accepted at the moment.
    pub problem: Option<String>,
}

/// Shared state of the heartbeats.
#[derive(Debug, Default)]
pub struct Heartbeats(Mutex<HeartbeatState>);

impl Heartbeats {
    /// Returns the state.
    pub fn state(&self) -> HeartbeatState {
        self.0.lock().ignore_poison().clone()
    }

    /// Notes the configuration.
    fn configured(&self, is_configured: bool) {
        let mut state = self.0.lock().ignore_poison();
        state.is_configured = is_configured;
        if !is_configured {
            state.problem = None;
        }
    }

    /// Notes the result of a due heartbeat; `obstacle` is the reason why the probe does not work.
    fn note(&self, obstacle: Option<&str>, sent: Result<Beaten, String>) {
        let mut state = self.0.lock().ignore_poison();
        let problem = match (obstacle, &sent) {
            (Some(obstacle), _) => {
                state.withheld += 1;
                if sent.is_err() {
                    state.failed += 1;
                }
                Some(format!("withheld because {obstacle}"))
            }
            (None, Err(error)) => {
                state.failed += 1;
                Some(format!("not accepted: {error}"))
            }
            (None, Ok(_)) => {
                state.accepted += 1;
                state.accepted_at = Some(UtcMicros::now());
                None
            }
        };
        // Once, not every minute: the status has it.
        match (&state.problem, &problem) {
            (None, Some(problem)) => tracing::warn!(%problem, "heartbeat stopped"),
            (Some(_), None) => tracing::info!("heartbeat accepted again"),
            _ => {}
        }
        state.problem = problem;
    }
}

/// Returns the channels of all alarms that confirm notifications, by their names in `status`.
pub fn routes(config: &Config) -> BTreeSet<String> {
    let used = config
        .monitors
        .values()
        .filter(|monitor| monitor.enabled)
        .filter_map(|monitor| monitor.action_list.as_ref())
        .map(AsRef::as_ref)
        .chain(["default"]);
    let lists = used.filter_map(|name: &str| config.action_lists.get(name));
    lists
        .flat_map(|list| &list.steps)
        .flat_map(|step| match &step.action {
            Action::Email { mail_server, fallback, .. } => std::iter::once(mail_server)
                .chain(fallback)
                .map(|name| format!("e-mail through {name}"))
                .collect(),
            // A log server confirms nothing.
            Action::Syslog { .. } => Vec::new(),
            Action::Webhook(_) | Action::Command { .. } => vec![step.action.route()],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_says_why_no_heartbeat_is_accepted() {
        let heartbeats = Heartbeats::default();
        heartbeats.configured(true);
        heartbeats.note(None, Ok(Beaten::Accepted));
        let state = heartbeats.state();
        assert!(state.problem.is_none() && state.accepted_at.is_some());
        heartbeats.note(None, Err("HTTP 404".to_owned()));
        assert_eq!(heartbeats.state().problem.as_deref(), Some("not accepted: HTTP 404"));
        heartbeats.note(Some("no alarm channel works"), Ok(Beaten::Withheld));
        let state = heartbeats.state();
        assert_eq!(
            state.problem.as_deref(),
            Some("withheld because no alarm channel works"),
            "what was sent instead was no heartbeat"
        );
        assert_eq!((state.accepted, state.failed, state.withheld), (1, 1, 1));
        heartbeats.configured(false);
        assert_eq!(heartbeats.state().problem, None);
    }

    #[test]
    fn a_log_is_no_channel_that_anyone_is_notified_over() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("mailqos.toml");
        let text = "site = \"here\"\n[mail_server.a]\nserver = \"a.example\"\nfrom = \"a@b.example\"\n\
                    [mail_server.b]\nserver = \"b.example\"\nfrom = \"a@b.example\"\n\
                    [action_list.default]\nactions = [{ syslog = {} }, { email = \"x@y.example\", mail_server = \"a\", fallback = \"b\" }]\n\
                    [action_list.unused]\nactions = [{ command = [\"/bin/true\"] }]\n";
        std::fs::write(&path, text).expect("write");
        let config = mailqos_config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
        let routes: Vec<String> = routes(&config).into_iter().collect();
        assert_eq!(routes, ["e-mail through a", "e-mail through b"]);
    }
}
