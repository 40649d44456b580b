//! The worker that takes the steps of action lists: what is due together for one way is one message, sent again until it is accepted.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use mailqos_core::{
    config::{Action, ActionList, Config, Step},
    model::{Event, EventKind, Micros, Name, UtcMicros},
};
use tokio::task::{self, JoinSet};

use super::{
    Accepted, Alarms, Channel, Pending, Refused, Telling, Why, carry_out,
    episode::{self, Next, Taken},
};

/// Changes are told together until none has come for this time …
const QUIET: Micros = Micros::from_millis(1000);
/// … but the first of them waits no longer than this.
const LONGEST_GATHERING: Micros = Micros::from_secs(60);
/// So many messages a minute go one way without more gathering.
const MOST_A_MINUTE: usize = 6;
/// More alarms than this at once are one incident of a service that counts them one by one.
const MOST_INCIDENTS: usize = 10;
/// What the name of such an incident ends with.
const AND_OTHERS: &str = "/and-others";
/// The states are written down at least this often; what matters more, at once.
const KEEP: Micros = Micros::from_secs(60);
/// The longest pause between two tries.
pub(super) const LONGEST_PAUSE: Micros = Micros::from_secs(600);
/// The longest that the worker sleeps.
const LONGEST_NAP: Duration = Duration::from_secs(5);

/// One way of telling: an action list and a step of it.
type Way = (Name, String);

/// What became of messages of one way.
struct Report {
    way: Way,
    results: Vec<(Vec<Pending>, Result<Accepted, Refused>)>,
    channels: Vec<(String, Result<(), String>)>,
}

/// Takes steps and sends messages until it is aborted.
pub(super) async fn work(alarms: Alarms) {
    let mut sending: JoinSet<Report> = JoinSet::new();
    let mut busy: HashMap<task::Id, Way> = HashMap::new();
    let mut recent: HashMap<Way, VecDeque<UtcMicros>> = HashMap::new();
    let mut kept_at = UtcMicros::now();
    loop {
        let now = UtcMicros::now();
        let config = alarms.config();
        let mut next = take_steps(&alarms, &config, now);
        let (ready, later) = gather(&alarms, &busy, &mut recent, now);
        next = [next, later].into_iter().flatten().min();
        alarms.end_old_simulations().await;
        let urgent = alarms.lock().urgent;
        if !ready.is_empty() || urgent || now - kept_at >= KEEP {
            // On disk before anything is sent: a crash may send a message again, with the same Message-ID, but never forgets one.
            alarms.keep().await;
            kept_at = now;
        }
        for (way, changes) in ready {
            recent.entry(way.clone()).or_default().push_back(now);
            let task = sending.spawn(send(alarms.clone(), config.clone(), way.clone(), changes));
            busy.insert(task.id(), way);
        }
        let nap = next.map_or(LONGEST_NAP, |at| (at - UtcMicros::now()).to_std().min(LONGEST_NAP));
        tokio::select! {
            () = alarms.wake.notified() => {}
            Some(ended) = sending.join_next_with_id(), if !sending.is_empty() => match ended {
                Ok((task, report)) => {
                    busy.remove(&task);
                    settle(&alarms, report).await;
                }
                Err(error) => {
                    // What it was sending is still in the outbox.
                    tracing::error!("a message ended unexpectedly: {error}");
                    busy.remove(&error.id());
                }
            },
            () = tokio::time::sleep(nap) => {}
        }
    }
}

/// Puts into the outbox what the open alarms are due; returns when the next step is.
fn take_steps(alarms: &Alarms, config: &Config, now: UtcMicros) -> Option<UtcMicros> {
    let mut next: Option<UtcMicros> = None;
    let mut keys: HashMap<&Name, Vec<String>> = HashMap::new();
    let mut outbox = Vec::new();
    let mut guard = alarms.lock();
    let kept = &mut *guard;
    for (monitor, episode) in &mut kept.episodes {
        match episode.next {
            Some(Next::At(at)) if at > now => {
                next = Some(next.map_or(at, |earlier| earlier.min(at)));
                continue;
            }
            Some(Next::Never) => continue,
            _ => {}
        }
        if let Some(open) = alarms.maintenance.open_for(monitor, now) {
            episode.next = Some(Next::At(open.until));
            continue;
        }
        // Nobody tests it, and no test could end the reminders.
        if config.monitors.get(monitor).is_some_and(|monitor| !monitor.enabled) {
            episode.next = Some(Next::Never);
            continue;
        }
        let Some((name, list)) = episode
            .list
            .as_ref()
            .and_then(|name| config.action_lists.get_key_value(name))
        else {
            episode.next = Some(Next::Never);
            continue;
        };
        let keys = keys.entry(name).or_insert_with(|| episode::keys(list));
        let Some(state) = kept.states.get(monitor) else {
            continue;
        };
        for (step, why) in episode.due(list, keys, state.failures, now) {
            let incident = alarms.incident_of(monitor, episode.raised_at);
            let taken = episode.taken.entry(step.clone()).or_insert(Taken {
                times: 0,
                last: now,
                incident,
            });
            taken.times += 1;
            taken.last = now;
            outbox.push(Pending {
                id: alarms.id_of(monitor, &episode.sample, why, &step, taken.times),
                monitor: monitor.clone(),
                why,
                sample: episode.sample.clone(),
                state: state.brief(),
                list: Some(name.clone()),
                step,
                incident: taken.incident.clone(),
                created: now,
                tries: 0,
                next_try: now,
                left: Vec::new(),
            });
            next = Some(now);
        }
        if let Some(Next::At(at)) = episode.next {
            next = Some(next.map_or(at, |earlier| earlier.min(at)));
        }
    }
    if !outbox.is_empty() {
        kept.outbox.append(&mut outbox);
        kept.changed = true;
        kept.urgent = true;
    }
    next
}

/// The messages that are to be sent now, by way; and when the next ones are.
fn gather(
    alarms: &Alarms,
    busy: &HashMap<task::Id, Way>,
    recent: &mut HashMap<Way, VecDeque<UtcMicros>>,
    now: UtcMicros,
) -> (BTreeMap<Way, Vec<Pending>>, Option<UtcMicros>) {
    let mut ways: BTreeMap<Way, (UtcMicros, UtcMicros)> = BTreeMap::new();
    let mut kept = alarms.lock();
    kept.mend_clock(now);
    let mut next: Option<UtcMicros> = None;
    let mut earlier = |at: UtcMicros| next = Some(next.map_or(at, |known: UtcMicros| known.min(at)));
    for pending in &kept.outbox {
        let Some(list) = &pending.list else { continue };
        if pending.next_try > now {
            earlier(pending.next_try);
            continue;
        }
        let way = (list.clone(), pending.step.clone());
        // What came about under a clock that was ahead has waited long enough.
        let created = if pending.created > now {
            now - LONGEST_GATHERING
        } else {
            pending.created
        };
        let span = ways.entry(way).or_insert((created, created));
        *span = (span.0.min(created), span.1.max(created));
    }
    ways.retain(|way, (first, last)| {
        if busy.values().any(|known| known == way) {
            return false;
        }
        let sent = recent.entry(way.clone()).or_default();
        while sent
            .front()
            .is_some_and(|at| *at > now || now - *at >= LONGEST_GATHERING)
        {
            sent.pop_front();
        }
        let full = *first + LONGEST_GATHERING;
        let ready_at = match sent.front() {
            Some(oldest) if sent.len() >= MOST_A_MINUTE => *oldest + LONGEST_GATHERING,
            _ => full.min(*last + QUIET),
        };
        if ready_at > now {
            earlier(ready_at);
        }
        ready_at <= now
    });
    let mut ready: BTreeMap<Way, Vec<Pending>> = BTreeMap::new();
    for pending in kept.outbox.iter().filter(|pending| pending.next_try <= now) {
        let Some(list) = &pending.list else { continue };
        let way = (list.clone(), pending.step.clone());
        if ways.contains_key(&way) {
            ready.entry(way).or_default().push(pending.clone());
        }
    }
    (ready, next)
}

/// Sends the messages of one way.
async fn send(alarms: Alarms, config: std::sync::Arc<Config>, way: Way, changes: Vec<Pending>) -> Report {
    let mut report = Report {
        way,
        results: Vec::new(),
        channels: Vec::new(),
    };
    let Some(step) = find(config.action_lists.get(&report.way.0), &report.way.1) else {
        let error = format!("the action list {} no longer has: {}", report.way.0, report.way.1);
        report.results.push((changes, Err(error.into())));
        return report;
    };
    for group in divide(step, changes) {
        // An incident of several alarms ends with the last of them.
        let goes_on = group.first().is_some_and(|first| {
            first.why == Why::Cleared
                && first.incident.ends_with(AND_OTHERS)
                && alarms.has_incident(&report.way.1, &first.incident)
        });
        if goes_on {
            let words = "other alarms of its incident are still open".to_owned();
            report.results.push((group, Ok(Accepted::Unconfirmed(words))));
            continue;
        }
        let left = group.first().map(|first| first.left.clone()).unwrap_or_default();
        let outcome = carry_out(&config, step, &Telling::write(&config, &group), &left).await;
        report.channels.extend(outcome.channels);
        report.results.push((group, outcome.result));
    }
    report
}

fn find<'config>(list: Option<&'config ActionList>, key: &str) -> Option<&'config Step> {
    let list = list?;
    let index = episode::keys(list).iter().position(|known| known == key)?;
    list.steps.get(index)
}

/// What goes into one message. Services that count incidents are told one by one, unless there are too many.
fn divide(step: &Step, changes: Vec<Pending>) -> Vec<Vec<Pending>> {
    let counts = matches!(&step.action, Action::Webhook(hook) if hook.service.counts_incidents());
    if !counts {
        // Who got the one need not have got the other.
        let mut by_recipients: BTreeMap<Vec<String>, Vec<Pending>> = BTreeMap::new();
        for change in changes {
            by_recipients.entry(change.left.clone()).or_default().push(change);
        }
        return by_recipients.into_values().collect();
    }
    let mut groups: Vec<Vec<Pending>> = Vec::new();
    let (ends, mut begins): (Vec<_>, Vec<_>) = changes.into_iter().partition(|change| change.why == Why::Cleared);
    if begins.len() > MOST_INCIDENTS {
        let incident = format!("{}{AND_OTHERS}", begins[0].incident);
        for change in &mut begins {
            change.incident.clone_from(&incident);
        }
        groups.push(begins);
    } else {
        groups.extend(begins.into_iter().map(|change| vec![change]));
    }
    let mut by_incident: BTreeMap<String, Vec<Pending>> = BTreeMap::new();
    for change in ends {
        by_incident.entry(change.incident.clone()).or_default().push(change);
    }
    groups.extend(by_incident.into_values());
    groups
}

/// Takes what was accepted out of the outbox, and puts the rest off.
async fn settle(alarms: &Alarms, report: Report) {
    let now = UtcMicros::now();
    let mut events = Vec::new();
    let (list, step) = &report.way;
    let config = alarms.config();
    let retry_for = find(config.action_lists.get(list), step).map_or(Micros::ZERO, |step| step.retry_for);
    {
        let mut guard = alarms.lock();
        let kept = &mut *guard;
        kept.changed = true;
        kept.urgent = true;
        for (name, result) in report.channels {
            let name = own_name(&config, list, step, name);
            events.extend(note_channel(
                kept.channels.entry(name.clone()).or_default(),
                name,
                result,
                now,
            ));
        }
        for (changes, result) in report.results {
            if let Err(error) = &result {
                tracing::error!(%list, changes = changes.len(), "{step}: not accepted: {error}");
            }
            let ids: HashMap<&str, &Pending> = changes.iter().map(|change| (change.id.as_str(), change)).collect();
            let event = |change: &Pending, kind, text: String| {
                let mut event = Event::new(Some(change.monitor.clone()), now, kind).text(text);
                event.actor = Some(step.clone());
                // Which alarm of the monitor it is about.
                event.detail = Some(serde_json::json!({ "created": change.created.0 }).to_string());
                event
            };
            kept.outbox.retain_mut(|pending| {
                let Some(change) = ids.get(pending.id.as_str()) else {
                    return true;
                };
                match &result {
                    Ok(accepted) => {
                        let words = accepted.words();
                        if let Some(episode) = kept
                            .episodes
                            .get_mut(&pending.monitor)
                            .filter(|episode| episode.is_told_by(pending))
                        {
                            if accepted.is_confirmed() {
                                episode.notified_at.get_or_insert(now);
                            }
                            if let Some(taken) = episode.taken.get_mut(step) {
                                taken.incident.clone_from(&change.incident);
                            }
                        }
                        if pending.why == Why::Escalated && pending.left.is_empty() {
                            events.push(event(change, EventKind::AlarmEscalated, format!("told also: {step}")));
                        }
                        let text = format!("{} told by action list {list}: {words}", pending.why.as_str());
                        let detail = serde_json::json!({
                            "list": list.as_str(),
                            "why": pending.why.as_str(),
                            "confirmed": accepted.is_confirmed(),
                            "created": pending.created.0,
                        });
                        let sent = event(change, EventKind::NotificationSent, text);
                        events.push(Event {
                            detail: Some(detail.to_string()),
                            ..sent
                        });
                        let Accepted::Partly { left, gone, .. } = accepted else {
                            return false;
                        };
                        if !gone.is_empty() {
                            let text = format!("given up for {}: {words}", gone.join(", "));
                            events.push(event(change, EventKind::NotificationFailed, text));
                        }
                        if left.is_empty() {
                            return false;
                        }
                        pending.left.clone_from(left);
                        let old = put_off(pending, now, retry_for);
                        if old {
                            let text = format!("given up for {}: {words}", left.join(", "));
                            events.push(event(change, EventKind::NotificationFailed, text));
                        }
                        !old
                    }
                    Err(error) => {
                        if let Some(left) = &error.left {
                            let lost: Vec<String> = pending.left.extract_if(.., |who| !left.contains(who)).collect();
                            if !lost.is_empty() {
                                let text = format!("given up for {}: {error}", lost.join(", "));
                                events.push(event(change, EventKind::NotificationFailed, text));
                            }
                            if left.is_empty() {
                                return false;
                            }
                        }
                        let old = put_off(pending, now, retry_for);
                        if pending.tries == 1 || old {
                            let end = if old { "given up: " } else { "" };
                            events.push(event(change, EventKind::NotificationFailed, format!("{end}{error}")));
                        }
                        !old
                    }
                }
            });
        }
    }
    alarms.keep().await;
    alarms.note_all(events).await;
}

/// Puts a message off that was not accepted; tells whether it is too old to be tried again.
fn put_off(pending: &mut Pending, now: UtcMicros, retry_for: Micros) -> bool {
    pending.tries += 1;
    // 5 s, 10 s, 20 s … 10 min.
    let pause = Micros::from_secs(5i64 << pending.tries.min(8).saturating_sub(1)).min(LONGEST_PAUSE);
    pending.next_try = now + pause;
    pending.next_try - pending.created > retry_for
}

/// The name of a channel: its route, or, where another way has the same route (another address at the same host), which step
/// of which list it is. Otherwise one that works would hide one that is dead.
fn own_name(config: &Config, list: &Name, key: &str, route: String) -> String {
    let Some(own) = find(config.action_lists.get(list), key) else {
        return route;
    };
    let mut others = config.action_lists.values().flat_map(|list| &list.steps);
    let is_shared = own.action.route() == route
        && others.any(|step| step.action.route() == route && !step.action.is_same_way(&own.action));
    if is_shared { format!("{key} of {list}") } else { route }
}

/// What a channel answered; an event where it fails, and where it works again.
fn note_channel(channel: &mut Channel, name: String, result: Result<(), String>, now: UtcMicros) -> Option<Event> {
    let event = |kind, text: String| {
        let mut event = Event::new(None, now, kind).text(text);
        event.actor = Some(name);
        event
    };
    match result {
        Ok(()) => {
            channel.accepted_at = Some(now);
            let failures = std::mem::take(&mut channel.failures);
            (failures > 0).then(|| {
                event(
                    EventKind::ChannelRecovered,
                    format!(
                        "accepts again, after {failures} failure{}",
                        if failures == 1 { "" } else { "s" }
                    ),
                )
            })
        }
        Err(error) => {
            let noted_today =
                channel.failures > 0 && channel.failed_at.is_some_and(|at| at.utc_date() == now.utc_date());
            channel.failed_at = Some(now);
            channel.failures = channel.failures.saturating_add(1);
            channel.error = Some(error.clone());
            (!noted_today).then(|| event(EventKind::ChannelFailed, error))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fmt::Write as _, path::Path, sync::Arc};

    use mailqos_core::model::{Outcome, Sample};

    use super::*;
    use crate::{
        maintenance::Maintenance,
        record::{Days, Recorder},
    };

    /// A configuration of so many monitors, whose alarms a program counts in the file `told`.
    fn config(folder: &Path, monitors: usize, action: &str) -> Arc<Config> {
        let mut text = format!(
            "site = \"here\"\nseal_interval = \"1h\"\n[defaults]\nalarm_after = 1\nfrom = \"a@b.example\"\nto = \"a@b.example\"\n\
             smtp = {{}}\npickup = {{ account = \"a\" }}\n[account.a]\nuser = \"a\"\npassword = {{ env = \"X\" }}\n\
             [object.o]\naddress = \"localhost\"\n[action_list.default]\nactions = [{action}]\n"
        );
        for number in 0..monitors {
            write!(text, "[monitor.m{number}]\nobject = \"o\"\n").expect("writing into a string");
        }
        let path = folder.join("mailqos.toml");
        std::fs::write(&path, text).expect("write");
        Arc::new(mailqos_core::config::load(&path).unwrap_or_else(|problems| panic!("{problems}")))
    }

    fn count_into(folder: &Path) -> String {
        let file = folder.join("told");
        format!(
            "{{ command = [\"sh\", \"-c\", \"echo $MAILQOS_KIND $MAILQOS_COUNT >> {}\"] }}",
            file.display()
        )
    }

    async fn all(alarms: &Alarms, outcome: Outcome) {
        let mut tests = JoinSet::new();
        for monitor in alarms.config().monitors.values().cloned() {
            let alarms = alarms.clone();
            tests.spawn(async move {
                let sample = Sample::new(monitor.id.clone(), UtcMicros::now(), outcome);
                alarms.tested(&monitor, &sample).await;
            });
        }
        while tests.join_next().await.is_some() {}
    }

    /// A message about an alarm of the monitor `m0`.
    fn pending(why: Why, incident: &str) -> Pending {
        Pending {
            id: String::new(),
            monitor: "m0".parse().expect("a name"),
            why,
            sample: Box::new(Sample::new("m0".parse().expect("a name"), UtcMicros(0), Outcome::Lost)),
            state: super::super::State::default(),
            list: None,
            step: String::new(),
            incident: incident.to_owned(),
            created: UtcMicros(0),
            tries: 0,
            next_try: UtcMicros(0),
            left: Vec::new(),
        }
    }

    /// A message of the way `list`, `step`, created and tried next at these moments.
    fn message(why: Why, id: &str, (list, step): &Way, created: UtcMicros, next_try: UtcMicros) -> Pending {
        Pending {
            id: id.to_owned(),
            list: Some(list.clone()),
            step: step.clone(),
            created,
            next_try,
            ..pending(why, id)
        }
    }

    /// Where `m0` is in alarm, and nothing is sent but by the test: the worker has ended, and no step was due.
    struct Scene {
        config: Arc<Config>,
        recorder: Recorder,
        alarms: Alarms,
        way: Way,
        raised_at: UtcMicros,
        _folder: tempfile::TempDir,
    }

    impl Scene {
        async fn begin() -> Self {
            let folder = tempfile::tempdir().expect("folder");
            let config = config(folder.path(), 1, "{ command = [\"true\"], at_failure = 100 }");
            let recorder = Recorder::open(&config).await.expect("open");
            let alarms = Alarms::open(config.clone(), recorder.clone(), Maintenance::open(config.clone())).await;
            all(&alarms, Outcome::Lost).await;
            alarms.clone().close().await;
            let raised_at = alarms.lock().episodes["m0"].raised_at;
            Self {
                config,
                recorder,
                alarms,
                way: ("default".parse().expect("a name"), "command true".to_owned()),
                raised_at,
                _folder: folder,
            }
        }

        /// Settles this result for a message.
        async fn settle(&self, message: &Pending, result: Result<Accepted, Refused>) {
            let report = Report {
                way: self.way.clone(),
                results: vec![(vec![message.clone()], result)],
                channels: Vec::new(),
            };
            settle(&self.alarms, report).await;
        }

        /// What is on record of the notifications.
        async fn end(self) -> Vec<Event> {
            self.recorder.close().await.expect("close");
            let days = Days::open(&self.config).await.expect("days");
            let mut events = Vec::new();
            let (mut date, last) = (self.raised_at.utc_date(), UtcMicros::now().utc_date());
            while date <= last {
                events.extend(days.read::<Event>(date).await.expect("events"));
                date = date.tomorrow().expect("a day");
            }
            let kinds = [EventKind::NotificationSent, EventKind::NotificationFailed];
            events.retain(|event| kinds.contains(&event.kind));
            events
        }
    }

    async fn told(folder: &Path, lines: usize) -> String {
        let mut text = String::new();
        for _ in 0..1200 {
            text = std::fs::read_to_string(folder.join("told")).unwrap_or_default();
            if text.lines().count() >= lines {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        text
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn ten_thousand_alarms_are_one_message() {
        let folder = tempfile::tempdir().expect("folder");
        let config = config(folder.path(), 10_000, &count_into(folder.path()));
        let recorder = Recorder::open(&config).await.expect("open");
        let alarms = Alarms::open(config.clone(), recorder.clone(), Maintenance::open(config)).await;
        all(&alarms, Outcome::Lost).await;
        assert_eq!(told(folder.path(), 1).await, "alarm 10000\n");
        all(&alarms, Outcome::Ok).await;
        assert_eq!(told(folder.path(), 2).await, "alarm 10000\nrecovery 10000\n");
        alarms.close().await;
        recorder.close().await.expect("close");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_nobody_accepted_is_told_after_a_restart_and_counts_as_told_only_then() {
        let folder = tempfile::tempdir().expect("folder");
        let stop = folder.path().join("stop");
        let action = format!(
            "{{ command = [\"sh\", \"-c\", \"test ! -e {} && echo told >> {}\"] }}",
            stop.display(),
            folder.path().join("told").display()
        );
        std::fs::write(&stop, "").expect("write");
        let config = config(folder.path(), 1, &action);
        let recorder = Recorder::open(&config).await.expect("open");
        let alarms = Alarms::open(config.clone(), recorder.clone(), Maintenance::open(config.clone())).await;
        all(&alarms, Outcome::Lost).await;
        for _ in 0..1200 {
            if alarms.lock().outbox.iter().any(|pending| pending.tries > 0) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        {
            let kept = alarms.lock();
            assert_eq!(kept.episodes["m0"].notified_at, None);
            assert_eq!(kept.channels["command sh"].failures, 1);
            assert!(kept.channels["command sh"].error.is_some());
        }
        alarms.close().await;
        std::fs::remove_file(&stop).expect("remove");
        let alarms = Alarms::open(config.clone(), recorder.clone(), Maintenance::open(config)).await;
        assert_eq!(told(folder.path(), 1).await, "told\n");
        for _ in 0..1200 {
            if alarms.lock().outbox.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(alarms.lock().episodes["m0"].notified_at.is_some());
        assert_eq!(alarms.lock().channels["command sh"].failures, 0);
        alarms.close().await;
        recorder.close().await.expect("close");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_alarm_of_the_recorder_outlives_another_configuration_and_no_monitor_that_is_gone_does() {
        let folder = tempfile::tempdir().expect("folder");
        let both = config(folder.path(), 2, &count_into(folder.path()));
        let one = config(folder.path(), 1, &count_into(folder.path()));
        let recorder = Recorder::open(&both).await.expect("open");
        let alarms = Alarms::open(both.clone(), recorder.clone(), Maintenance::open(both)).await;
        all(&alarms, Outcome::Lost).await;
        alarms.recording(Some("no space left")).await;
        let open = |alarms: &Alarms| {
            alarms
                .open_alarms()
                .into_keys()
                .map(|id| id.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(open(&alarms), ["m0", "m1", super::super::RECORDER]);
        alarms.reload(one.clone());
        assert_eq!(open(&alarms), ["m0", super::super::RECORDER]);
        assert!(alarms.lock().episodes[super::super::RECORDER].list.is_some());
        alarms.recording(None).await;
        alarms.close().await;
        // While the probe was stopped, monitors may go, too.
        let none = config(folder.path(), 0, &count_into(folder.path()));
        let alarms = Alarms::open(none.clone(), recorder.clone(), Maintenance::open(none)).await;
        assert_eq!(open(&alarms), [""; 0]);
        alarms.close().await;
        recorder.close().await.expect("close");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_late_message_about_an_earlier_alarm_says_nothing_of_the_next_one() {
        let scene = Scene::begin().await;
        let (raised_at, step) = (scene.raised_at, &scene.way.1);
        let message = |why, id, created: UtcMicros| message(why, id, &scene.way, created, created);
        let before = raised_at - Micros(1);
        let messages = [
            (message(Why::Raised, "new", raised_at), true),
            (message(Why::Raised, "old", before), false),
            (message(Why::Cleared, "end of old", before), false),
        ];
        for (message, counts) in messages {
            {
                let mut kept = scene.alarms.lock();
                let episode = kept.episodes.get_mut(&message.monitor).expect("open");
                episode.notified_at = None;
                let taken = Taken {
                    times: 1,
                    last: raised_at,
                    incident: "of its own".to_owned(),
                };
                episode.taken.insert(step.clone(), taken);
                kept.outbox = vec![message.clone()];
            }
            scene.settle(&message, Ok(Accepted::Confirmed("fine".to_owned()))).await;
            let kept = scene.alarms.lock();
            let episode = &kept.episodes["m0"];
            assert!(kept.outbox.is_empty());
            assert_eq!(episode.notified_at.is_some(), counts, "{}", message.id);
            assert_eq!(
                episode.taken[step].incident == message.incident,
                counts,
                "{}",
                message.id
            );
        }
        scene.end().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_was_refused_for_now_is_told_again_alone() {
        let scene = Scene::begin().await;
        let message = message(Why::Raised, "one", &scene.way, scene.raised_at, scene.raised_at);
        scene.alarms.lock().outbox = vec![message.clone()];
        let left = vec!["a@b.example".to_owned(), "c@d.example".to_owned()];
        let before = UtcMicros::now();
        let partly = Accepted::Partly {
            words: "taken".to_owned(),
            left: left.clone(),
            gone: vec!["e@f.example".to_owned()],
        };
        scene.settle(&message, Ok(partly)).await;
        {
            let kept = scene.alarms.lock();
            assert!(kept.episodes["m0"].notified_at.is_some());
            assert_eq!((kept.outbox[0].tries, &kept.outbox[0].left), (1, &left));
            assert!(kept.outbox[0].next_try >= before + Micros::from_secs(5));
            let both = vec![pending(Why::Raised, "two"), kept.outbox[0].clone()];
            let step = &scene.config.action_lists["default"].steps[0];
            let recipients: Vec<_> = divide(step, both).iter().map(|group| group[0].left.len()).collect();
            assert_eq!(recipients, [0, 2]);
        }
        // Whom even that try refuses for good is given up at once; nobody else is.
        for rest in [&left[..], &left[..1], &[]] {
            let refused = Refused {
                text: "refused".to_owned(),
                left: Some(rest.to_vec()),
            };
            scene.settle(&message, Err(refused)).await;
            let kept = scene.alarms.lock();
            let waiting: Vec<_> = kept.outbox.iter().flat_map(|pending| &pending.left).collect();
            assert_eq!(waiting, rest.iter().collect::<Vec<_>>());
        }
        assert!(scene.alarms.lock().outbox.is_empty());
        let events = scene.end().await;
        let failed: Vec<_> = events
            .iter()
            .filter(|event| event.kind == EventKind::NotificationFailed)
            .map(|event| event.text.as_deref())
            .collect();
        let given_up = [
            ("e@f.example", "taken"),
            ("c@d.example", "refused"),
            ("a@b.example", "refused"),
        ]
        .map(|(who, words)| format!("given up for {who}: {words}"));
        assert_eq!(failed, given_up.each_ref().map(|text| Some(text.as_str())));
        let created = format!("\"created\":{}", message.created.0);
        for event in events {
            assert!(event.detail.is_some_and(|detail| detail.contains(&created)));
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_clock_that_was_ahead_keeps_no_message() {
        let scene = Scene::begin().await;
        let now = UtcMicros::now();
        let soon = now + Micros::from_secs(60);
        let later = now + Micros::from_secs(86_400);
        let message = |id: &str, created, next_try| {
            let way = (scene.way.0.clone(), id.to_owned());
            message(Why::Raised, id, &way, created, next_try)
        };
        {
            let mut kept = scene.alarms.lock();
            kept.outbox = vec![
                message("tried", now, later),
                message("usual", now, soon),
                message("new", later, now),
            ];
            kept.mend_clock(now);
            let tried: Vec<_> = kept.outbox.iter().map(|pending| pending.next_try).collect();
            assert_eq!(tried, [now + LONGEST_PAUSE, soon, now]);
        }
        let (ready, _) = gather(&scene.alarms, &HashMap::new(), &mut HashMap::new(), now);
        let ready: Vec<_> = ready.into_values().flatten().map(|pending| pending.id).collect();
        assert_eq!(ready, ["new"]);
        scene.end().await;
    }

    #[test]
    fn two_ways_at_one_host_are_two_channels() {
        let folder = tempfile::tempdir().expect("folder");
        let hook = |variable: &str| {
            format!("{{ webhook = {{ kind = \"ntfy\", url = \"https://ntfy.example/{variable}\" }} }}")
        };
        let config = config(
            folder.path(),
            1,
            &[hook("a"), hook("b"), "{ command = [\"true\"] }".to_owned()].join(", "),
        );
        let list: Name = "default".parse().expect("a name");
        let name = |key: &str, route: &str| own_name(&config, &list, key, route.to_owned());
        let route = "ntfy at ntfy.example";
        assert_eq!(name(route, route), "ntfy at ntfy.example of default");
        assert_eq!(
            name("ntfy at ntfy.example #2", route),
            "ntfy at ntfy.example #2 of default"
        );
        assert_eq!(name("command true", "command true"), "command true");
        assert_eq!(name("no such step", route), route);
    }

    #[test]
    fn a_channel_that_dies_and_comes_back_is_noted_once_a_day() {
        let mut channel = Channel::default();
        let hour = |number: i64| UtcMicros(1_773_100_800_000_000) + Micros::from_secs(3600 * number);
        let mut note = |result: Result<(), &str>, number| {
            let event = note_channel(
                &mut channel,
                "slack".into(),
                result.map_err(str::to_owned),
                hour(number),
            );
            event.map(|event| (event.kind, event.text.unwrap_or_default()))
        };
        assert_eq!(note(Ok(()), 0), None);
        assert_eq!(
            note(Err("HTTP 404"), 1),
            Some((EventKind::ChannelFailed, "HTTP 404".into()))
        );
        assert_eq!(note(Err("HTTP 404"), 2), None);
        assert_eq!(
            note(Err("HTTP 500"), 25),
            Some((EventKind::ChannelFailed, "HTTP 500".into()))
        );
        assert_eq!(
            note(Ok(()), 26),
            Some((EventKind::ChannelRecovered, "accepts again, after 3 failures".into()))
        );
        assert_eq!(note(Ok(()), 27), None);
        assert_eq!(
            note(Err("HTTP 404"), 28).map(|(kind, _)| kind),
            Some(EventKind::ChannelFailed)
        );
    }

    #[tokio::test]
    async fn incidents_are_told_one_by_one_unless_there_are_too_many() {
        let folder = tempfile::tempdir().expect("folder");
        let action = "{ webhook = { kind = \"pagerduty\", key = { env = \"X\" } } }";
        let config = config(folder.path(), 1, action);
        let step = &config.action_lists["default"].steps[0];
        let few: Vec<Pending> = (0..3).map(|n| pending(Why::Raised, &format!("i{n}"))).collect();
        assert_eq!(divide(step, few).len(), 3);
        let many: Vec<Pending> = (0..500).map(|n| pending(Why::Raised, &format!("i{n}"))).collect();
        let groups = divide(step, many);
        assert_eq!(groups.len(), 1);
        assert!(groups[0].iter().all(|change| change.incident == "i0/and-others"));
        let ends = (0..4).map(|n| pending(Why::Cleared, if n < 3 { "i0/and-others" } else { "i9" }));
        assert_eq!(divide(step, ends.collect()).len(), 2);
    }
}
