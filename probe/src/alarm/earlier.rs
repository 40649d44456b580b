//! Reads `alarms.json` of versions that only used one clock (up to 48347ca): times of the wall
//! clock, channels identified by short descriptions, and a separate list of messages per step. Open
//! alarms and queued messages are continued under this version.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use mailqos_base::clock::MonotonicTime;
use mailqos_config::{ActionList, Config, On};
use mailqos_model::{MonitorId, Name, Sample, UtcMicros};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{
    Acknowledgement, ChannelHealth, NotificationKind, Pending, Simulation, State, StoredState,
    episode::{Contact, Episode, Notified, StepState},
    plan::{Plan, Planned},
};

/// An alarm of an earlier version.
#[derive(Deserialize)]
struct OldEpisode {
    raised_at: UtcMicros,
    list: Option<Name>,
    sample: Box<Sample>,
    taken: HashMap<String, OldStepState>,
    notified_at: Option<UtcMicros>,
    acknowledged: Option<Acknowledgement>,
}

/// A step that has been taken.
#[derive(Deserialize)]
struct OldStepState {
    times: u32,
    last: UtcMicros,
    incident: String,
}

/// A message of an earlier version.
#[derive(Deserialize)]
struct OldPending {
    id: String,
    monitor: MonitorId,
    why: NotificationKind,
    sample: Box<Sample>,
    state: State,
    list: Option<Name>,
    step: String,
    incident: String,
    created: UtcMicros,
    tries: u32,
    next_try: UtcMicros,
    #[serde(default)]
    left: Vec<String>,
}

/// A simulated failure.
#[derive(Deserialize)]
struct OldSimulation {
    until: UtcMicros,
    by: String,
}

/// Reads the file if an earlier version wrote it; later versions also record the clocks. Unreadable
/// parts are logged and skipped.
pub(super) fn read(bytes: &[u8], config: &Config, plan: &Plan) -> Option<StoredState> {
    let Ok(Value::Object(mut whole)) = serde_json::from_slice(bytes) else {
        return None;
    };
    if whole.contains_key("anchor") || !whole.contains_key("episodes") {
        return None;
    }
    let mut part = |key: &str| whole.remove(key).unwrap_or_default();
    let mut kept = StoredState {
        states: by_name(part("states")),
        channels: by_name::<String, ChannelHealth>(part("channels")),
        ..StoredState::default()
    };
    for state in kept.states.values_mut() {
        state.failing_from = state.failing_since.map(steady);
        if let Some(last) = &mut state.last {
            last.began = Some(steady(last.started_at));
            state.judged = last.began;
        }
    }
    for (monitor, old) in by_name::<MonitorId, OldSimulation>(part("simulations")) {
        let simulation = Simulation { until: old.until, ends: steady(old.until), by: old.by };
        kept.simulations.insert(monitor, simulation);
    }
    let messages: Vec<OldPending> = match part("outbox") {
        Value::Array(all) => {
            all.into_iter().filter_map(|one| understood("a message", one)).collect()
        }
        _ => Vec::new(),
    };
    // Recipients have not been notified of queued messages; those that were never tried may have
    // been in progress.
    let mut queued: BTreeMap<(MonitorId, String), Notified> = BTreeMap::new();
    for message in messages.iter().filter(|message| message.why != NotificationKind::Cleared) {
        let heard = if message.tries == 0 { Notified::Maybe } else { Notified::No };
        queued.insert((message.monitor.clone(), message.step.clone()), heard);
    }
    let steps = Steps { config, plan };
    for (monitor, old) in by_name::<MonitorId, OldEpisode>(part("episodes")) {
        let heard = |step: &str| queued.get(&(monitor.clone(), step.to_owned())).copied();
        let episode = steps.episode(old, heard);
        for channel in episode.contacts.keys() {
            kept.remember(channel, plan);
        }
        kept.episodes.insert(monitor, episode);
    }
    for message in messages {
        let (monitor, step) = (message.monitor.clone(), message.step.clone());
        match steps.pending(message, &kept) {
            Some(pending) => {
                kept.remember(&pending.channel, plan);
                kept.outbox.push(pending);
            }
            None => {
                tracing::error!(%monitor, %step, "message from an earlier version not sent: no action list contains its step")
            }
        }
    }
    kept.drop_doubles();
    (kept.changed, kept.urgent) = (true, true);
    tracing::info!(
        alarms = kept.episodes.len(),
        messages = kept.outbox.len(),
        "imported the alarm states of an earlier version"
    );
    Some(kept)
}

/// Converts a wall-clock time to the steady clock, assuming that both started together.
fn steady(at: UtcMicros) -> MonotonicTime {
    MonotonicTime(at.0)
}

fn by_name<K, V>(part: Value) -> BTreeMap<K, V>
where
    K: Ord + std::str::FromStr,
    V: DeserializeOwned,
{
    let entries = match part {
        Value::Object(entries) => entries,
        _ => Map::new(),
    };
    entries
        .into_iter()
        .filter_map(|(name, value)| Some((name.parse().ok()?, understood(&name, value)?)))
        .collect()
}

fn understood<T: DeserializeOwned>(what: &str, value: Value) -> Option<T> {
    serde_json::from_value(value)
        .map_err(
            |error| tracing::error!(part = what, %error, "unreadable part in the alarm states of an earlier version"),
        )
        .ok()
}

/// The steps of the action lists, by their old names.
struct Steps<'all> {
    config: &'all Config,
    plan: &'all Plan,
}

impl<'all> Steps<'all> {
    /// Returns the step of a list that had this name.
    fn find(&self, list: Option<&Name>, old: &str) -> Option<&'all Planned> {
        let (name, list) = self.config.action_lists.get_key_value(list?)?;
        let index = old_names(list).iter().position(|known| known == old)?;
        self.plan.steps(name).get(index)
    }

    fn episode(&self, old: OldEpisode, heard: impl Fn(&str) -> Option<Notified>) -> Episode {
        let (mut taken, mut contacts) = (HashMap::new(), BTreeMap::new());
        for (name, step) in old.taken {
            let Some(planned) = self.find(old.list.as_ref(), &name) else {
                tracing::error!(channel = %name, "an open alarm was reported over a channel that is no longer configured; close it there manually");
                continue;
            };
            let contact = Contact {
                incident: step.incident,
                heard: heard(&name).unwrap_or(Notified::Yes),
                missed: Vec::new(),
                step: planned.name.clone(),
                retry_for: planned.retry_for,
                wants_end: planned.on == On::Both,
                thread: None,
            };
            let known: &mut Contact =
                contacts.entry(planned.channel.clone()).or_insert(contact.clone());
            known.heard = known.heard.max(contact.heard);
            known.wants_end |= contact.wants_end;
            let last = steady(step.last);
            taken.insert(planned.key.clone(), StepState { times: step.times, last });
        }
        Episode {
            raised_at: old.raised_at,
            since: steady(old.raised_at),
            list: old.list,
            sample: old.sample,
            taken,
            contacts,
            handed_over: 0,
            notified_at: old.notified_at,
            acknowledged: old.acknowledged,
            next: None,
        }
    }

    fn pending(&self, old: OldPending, kept: &StoredState) -> Option<Pending> {
        let planned = self.find(old.list.as_ref(), &old.step)?;
        let open = kept.episodes.get(&old.monitor).map(|episode| episode.raised_at);
        let alarm = match old.why {
            // Named after the time when the alarm was raised, whatever has happened since.
            NotificationKind::Cleared => risen(&old.incident).unwrap_or(old.created),
            _ => open.or_else(|| risen(&old.incident)).unwrap_or(old.created),
        };
        Some(Pending {
            id: old.id,
            monitor: old.monitor,
            why: old.why,
            sample: old.sample,
            state: old.state,
            alarm,
            list: old.list,
            channel: planned.channel.clone(),
            step: planned.name.clone(),
            incident: old.incident,
            created: old.created,
            queued: steady(old.created),
            retry_for: planned.retry_for,
            tries: old.tries,
            next_try: steady(old.next_try),
            left: old.left,
            attempting: false,
            maybe: old.tries == 0,
            doubtful: false,
            overdue: false,
            ended: None,
            thread: None,
        })
    }
}

/// Returns the names that steps of a list had in earlier versions: the route, and a number if
/// several had the same.
fn old_names(list: &ActionList) -> Vec<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    list.steps
        .iter()
        .map(|step| {
            let route = step.action.route();
            let number = seen.entry(route.clone()).or_default();
            *number += 1;
            match *number {
                1 => route,
                number => format!("{route} #{number}"),
            }
        })
        .collect()
}

/// Returns the time in the name of an incident: `mailqos/SITE/MONITOR/MICROSECONDS`, possibly with
/// a suffix.
fn risen(incident: &str) -> Option<UtcMicros> {
    incident.split('/').nth(3)?.parse().ok().map(UtcMicros)
}

impl StoredState {
    /// Removes duplicates: several steps could send messages about one alarm over the same channel;
    /// one of each kind is enough.
    fn drop_doubles(&mut self) {
        let mut seen = BTreeSet::new();
        self.outbox.retain(|pending| seen.insert((pending.about(), pending.why)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alarm::message::tests::pending;

    const CONFIG: &str = r#"
site = "here"
timezone = "UTC"
[account.a]
user = "a"
password = { env = "X" }
[object.o]
address = "o"
[defaults]
from = "a@b.c"
to = "a@b.c"
smtp = {}
pickup = { account = "a" }
[monitor.m1]
object = "o"
[monitor.m2]
object = "o"
[mail_server.alerts]
server = "alerts.example.net"
from = "q@example.net"
[action_list.default]
actions = [
  { email = ["anna@example.net"], mail_server = "alerts", repeat = "1h" },
  { webhook = { kind = "pagerduty", key = { env = "KEY" } }, retry_for = "2h" },
]
"#;

    /// Returns the file as 48347ca wrote it: one open alarm, accepted by mail and so far refused by
    /// PagerDuty; one that has cleared, with its end queued.
    fn old_file() -> Value {
        let example = pending(NotificationKind::Raised);
        let sample = serde_json::to_value(&example.sample).expect("JSON");
        let state = serde_json::json!({
            "status": "alarm", "failures": 3, "good": 0, "failing_since": 1_780_000_000_000_000_i64, "last_ok": null,
            "last": { "started_at": 1_780_000_600_000_000_i64, "outcome": "lost", "round_trip": null },
            "reason": "the mail did not arrive", "flapping": false, "held_by": null,
        });
        let message = |id: &str, monitor: &str, why: &str, step: &str, tries: u32| {
            serde_json::json!({
                "id": id, "monitor": monitor, "why": why, "sample": sample, "state": state, "list": "default",
                "step": step, "incident": format!("mailqos/here/{monitor}/1780000001000000"),
                "created": 1_780_000_700_000_000_i64, "tries": tries, "next_try": 1_780_000_800_000_000_i64,
            })
        };
        let taken = serde_json::json!({
            "times": 1, "last": 1_780_000_001_000_000_i64, "incident": "mailqos/here/m1/1780000001000000",
        });
        serde_json::json!({
            "states": { "m1": state },
            "episodes": { "m1": {
                "raised_at": 1_780_000_001_000_000_i64, "list": "default", "sample": sample,
                "taken": {
                    "e-mail to anna@example.net through alerts": taken,
                    "pagerduty at events.pagerduty.com": taken,
                },
                "notified_at": 1_780_000_002_000_000_i64,
                "acknowledged": { "by": "anna", "at": 1_780_000_003_000_000_i64, "note": null },
            } },
            "outbox": [
                message("m1.1", "m1", "raised", "pagerduty at events.pagerduty.com", 4),
                message("m2.1", "m2", "cleared", "e-mail to anna@example.net through alerts", 2),
                message("m2.2", "m2", "cleared", "slack at SLACK", 2),
                { "id": "not a message" },
            ],
            "channels": { "e-mail through alerts": { "accepted_at": null, "failed_at": null, "failures": 0, "error": null } },
            "simulations": { "m2": { "until": 1_780_009_000_000_000_i64, "by": "bob" } },
        })
    }

    fn config() -> (Config, Plan) {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("mailqos.toml");
        std::fs::write(&path, CONFIG).expect("write");
        let config = mailqos_config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
        let plan = Plan::new(&config);
        (config, plan)
    }

    #[test]
    fn open_alarms_and_queued_messages_of_an_earlier_version_continue() {
        let (config, plan) = config();
        let bytes = serde_json::to_vec(&old_file()).expect("JSON");
        let kept = read(&bytes, &config, &plan).expect("it is understood");
        let episode = &kept.episodes["m1"];
        assert_eq!(episode.since, MonotonicTime(1_780_000_001_000_000));
        assert_eq!(episode.acknowledged.as_ref().map(|one| one.by.as_str()), Some("anna"));
        let heard: Vec<(&str, Notified)> = episode
            .contacts
            .values()
            .map(|contact| (contact.step.as_str(), contact.heard))
            .collect();
        assert!(
            heard.contains(&("e-mail to anna@example.net through alerts", Notified::Yes)),
            "{heard:?}"
        );
        assert!(heard.contains(&("pagerduty at events.pagerduty.com", Notified::No)), "{heard:?}");
        assert_eq!(episode.taken.len(), 2);
        let queued: Vec<_> = kept
            .outbox
            .iter()
            .map(|one| (one.id.as_str(), one.alarm.0, one.tries, one.queued.0))
            .collect();
        let risen = 1_780_000_001_000_000;
        assert_eq!(
            queued,
            [("m1.1", risen, 4, 1_780_000_700_000_000), ("m2.1", risen, 2, 1_780_000_700_000_000)]
        );
        assert!(kept.outbox.iter().all(|one| kept.origins.contains_key(&one.channel)));
        assert_eq!(kept.states["m1"].failing_from, Some(MonotonicTime(1_780_000_000_000_000)));
        assert_eq!(kept.simulations["m2"].ends, MonotonicTime(1_780_009_000_000_000));
        // This version reads its own files.
        let mut own = serde_json::to_value(&kept).expect("JSON");
        own["anchor"] = serde_json::to_value(mailqos_base::clock::Anchor::now()).expect("JSON");
        assert!(read(own.to_string().as_bytes(), &config, &plan).is_none());
        assert!(serde_json::from_value::<StoredState>(own).is_ok());
    }

    #[test]
    fn what_no_version_has_written_is_not_understood() {
        let (config, plan) = config();
        for bytes in ["", "{", "[]", "{}", "{\"episodes\":"] {
            assert!(read(bytes.as_bytes(), &config, &plan).is_none(), "{bytes}");
        }
        let empty = read(b"{\"episodes\":7,\"outbox\":{}}", &config, &plan).expect("nothing in it");
        assert!(empty.episodes.is_empty() && empty.outbox.is_empty());
    }
}
