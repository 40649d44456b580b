//! The worker that carries out the steps of action lists and offers messages to their channels
//! until they are accepted.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use mailqos_base::clock::{MonotonicTime, Steps};
use mailqos_config::Config;
use mailqos_model::{Event, EventKind, Micros, UtcMicros};
use mailqos_notify::{Channel, ChannelId, Refused};
use tokio::task::{self, JoinSet};

use super::{
    Alarms, ChannelHealth, Pending, message,
    outbox::{AttemptResult, Report, offer},
};

/// Maximum interval between writes of the states; important changes are written immediately.
const KEEP: Micros = Micros::from_secs(60);
/// Longest time that the worker sleeps.
const MAX_NAP: Duration = Duration::from_secs(5);

/// Carries out steps and sends notifications until it is aborted.
pub(super) async fn work(alarms: Alarms) {
    let mut sending: JoinSet<Report> = JoinSet::new();
    let mut busy: HashMap<task::Id, ChannelId> = HashMap::new();
    let mut recent: HashMap<ChannelId, VecDeque<MonotonicTime>> = HashMap::new();
    let mut kept_at = alarms.clock.now().steady;
    let mut steps = Steps::new(alarms.clock.now());
    loop {
        let now = alarms.clock.now();
        let (config, plan) = (alarms.config(), alarms.plan());
        let (ready, next, urgent) = {
            let mut kept = alarms.lock();
            if steps.since_last(now).is_some() {
                kept.stepped();
            }
            let open_until =
                |monitor: &_| alarms.maintenance.open_for(monitor, now.wall).map(|open| open.until);
            let due = kept.take_steps(&config, &plan, open_until, now);
            let waiting: HashSet<ChannelId> = busy.values().cloned().collect();
            let (ready, later) = kept.ready(&waiting, &mut recent, now.steady);
            (ready, [due, later].into_iter().flatten().min(), kept.urgent)
        };
        alarms.end_old_simulations().await;
        if !ready.is_empty() || urgent || now.steady - kept_at >= KEEP {
            // Stored before anything is sent: after a crash a message may be sent again, with the
            // same Message-ID, but none is forgotten.
            alarms.keep().await;
            kept_at = now.steady;
        }
        recent.retain(|_, sent| !sent.is_empty());
        for (channel, messages) in ready {
            recent.entry(channel.clone()).or_default().push_back(now.steady);
            let usable = alarms.lock().usable.get(&channel).cloned();
            let task = sending.spawn(send(config.clone(), channel.clone(), usable, messages));
            busy.insert(task.id(), channel);
        }
        let nap = next.map_or(MAX_NAP, |at| (at - alarms.clock.now().steady).to_std().min(MAX_NAP));
        tokio::select! {
            () = alarms.wake.notified() => {}
            Some(ended) = sending.join_next_with_id(), if !sending.is_empty() => match ended {
                Ok((task, report)) => {
                    busy.remove(&task);
                    settle(&alarms, report).await;
                }
                Err(error) => {
                    // The message is still in the outbox.
                    tracing::error!(%error, "sending a message aborted");
                    if let Some(channel) = busy.remove(&error.id()) {
                        alarms.lock().revive(|dead| *dead == channel);
                    }
                }
            },
            () = tokio::time::sleep(nap) => {}
        }
    }
}

/// Offers messages to their channel.
async fn send(
    config: Arc<Config>,
    channel: ChannelId,
    usable: Option<Arc<Channel>>,
    messages: Vec<Pending>,
) -> Report {
    let mut channels = Vec::new();
    let name = messages.first().map(|first| first.step.clone()).unwrap_or_default();
    let results = match &usable {
        Some(usable) => {
            let route = usable.action.route();
            let (heard, mut news) = tokio::sync::mpsc::unbounded_channel();
            let results = offer(usable.counts_incidents(), messages, |group| {
                let (config, usable, heard) = (config.clone(), usable.clone(), heard.clone());
                async move {
                    let left = group.first().map(|first| first.left.clone()).unwrap_or_default();
                    let outcome =
                        mailqos_notify::send(&usable, &message::write(&config, &group), &left)
                            .await;
                    let _ = heard.send(outcome.channels);
                    outcome.result
                }
            })
            .await;
            while let Ok(news) = news.try_recv() {
                // Another channel may have the same route: status shows them separately.
                let named = |(one, result)| (if one == route { name.clone() } else { one }, result);
                channels.extend(news.into_iter().map(named));
            }
            results
        }
        None => {
            let refused = Refused {
                lost: true,
                ..Refused::from(
                    "the channel that opened it can no longer be used; close it manually"
                        .to_owned(),
                )
            };
            vec![(messages, AttemptResult::Answered(Err(refused)))]
        }
    };
    Report { channel, results, channels }
}

/// Removes accepted notifications from the outbox, and postpones the others.
async fn settle(alarms: &Alarms, report: Report) {
    let now = alarms.clock.now();
    let events = {
        let mut kept = alarms.lock();
        let mut events = Vec::new();
        for (name, result) in &report.channels {
            let channel = kept.channels.entry(name.clone()).or_default();
            events.extend(note_channel(channel, name.clone(), result.clone(), now.wall));
        }
        for (messages, tried) in &report.results {
            if let (AttemptResult::Answered(Err(error)), Some(first)) = (tried, messages.first()) {
                tracing::error!(step = %first.step, changes = messages.len(), %error, "notification not accepted");
            }
        }
        let counts_incidents = kept.counts_incidents(&report.channel);
        events.extend(kept.settle(report, counts_incidents, now));
        events
    };
    alarms.keep().await;
    alarms.note_all(events).await;
}

/// Updates a channel's health; returns an event if it fails, or works again.
fn note_channel(
    channel: &mut ChannelHealth,
    name: String,
    result: Result<(), String>,
    now: UtcMicros,
) -> Option<Event> {
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
                        "accepts messages again after {failures} failure{}",
                        if failures == 1 { "" } else { "s" }
                    ),
                )
            })
        }
        Err(error) => {
            let noted_today = channel.failures > 0
                && channel.failed_at.is_some_and(|at| at.utc_date() == now.utc_date());
            channel.failed_at = Some(now);
            channel.failures = channel.failures.saturating_add(1);
            channel.error = Some(error.clone());
            (!noted_today).then(|| event(EventKind::ChannelFailed, error))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fmt::Write as _, path::Path};

    use mailqos_model::{Outcome, Sample};
    use mailqos_notify::Accepted;

    use super::*;
    use crate::{
        alarm::{outbox::divide, own_names::RECORDER},
        maintenance::Maintenance,
        record::{Days, Recorder},
    };

    /// Returns a configuration with this many monitors, whose alarms a command counts in the file
    /// `told`.
    fn config(folder: &Path, monitors: usize, action: &str) -> Arc<Config> {
        let mut text = format!(
            "site = \"here\"\nseal_interval = \"1h\"\n[defaults]\nalarm_after = 1\nfrom = \"a@b.example\"\nto = \"a@b.example\"\n\
             smtp = {{}}\npickup = {{ account = \"a\" }}\n[account.a]\nuser = \"a\"\npassword = {{ env = \"X\" }}\n\
             [object.o]\naddress = \"localhost\"\n[mail_server.m]\nserver = \"localhost\"\nfrom = \"a@b.example\"\n[action_list.default]\nactions = [{action}]\n"
        );
        for number in 0..monitors {
            write!(text, "[monitor.m{number}]\nobject = \"o\"\n").expect("writing into a string");
        }
        let path = folder.join("mailqos.toml");
        std::fs::write(&path, text).expect("write");
        Arc::new(mailqos_config::load(&path).unwrap_or_else(|problems| panic!("{problems}")))
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
                let now = alarms.clock().now();
                let sample = Sample::new(monitor.id.clone(), now.wall, outcome);
                alarms.tested(&monitor, &sample, now.steady).await;
            });
        }
        while tests.join_next().await.is_some() {}
    }

    /// `m0` is in alarm, and only the test sends notifications: the worker has ended, and no step
    /// was due.
    struct Scene {
        config: Arc<Config>,
        recorder: Recorder,
        alarms: Alarms,
        raised_at: UtcMicros,
        _folder: tempfile::TempDir,
    }

    impl Scene {
        async fn begin() -> Self {
            let folder = tempfile::tempdir().expect("folder");
            let to = "[\"a@b.example\", \"c@d.example\", \"e@f.example\"]";
            let config = config(
                folder.path(),
                1,
                &format!("{{ email = {to}, mail_server = \"m\", at_failure = 100 }}"),
            );
            let recorder = Recorder::open(&config).await.expect("open");
            let alarms =
                Alarms::open(config.clone(), recorder.clone(), Maintenance::open(config.clone()))
                    .await;
            all(&alarms, Outcome::Lost).await;
            alarms.clone().close().await;
            let raised_at = alarms.lock().episodes["m0"].raised_at;
            Self { config, recorder, alarms, raised_at, _folder: folder }
        }

        /// Settles this result for a message.
        async fn settle(&self, message: &Pending, result: Result<Accepted, Refused>) {
            let report = Report {
                channel: message.channel.clone(),
                results: vec![(vec![message.clone()], AttemptResult::Answered(result))],
                channels: Vec::new(),
            };
            settle(&self.alarms, report).await;
        }

        /// Returns the recorded events about notifications.
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
        let alarms =
            Alarms::open(config.clone(), recorder.clone(), Maintenance::open(config)).await;
        all(&alarms, Outcome::Lost).await;
        assert_eq!(told(folder.path(), 1).await, "alarm 10000\n");
        all(&alarms, Outcome::Ok).await;
        assert_eq!(told(folder.path(), 2).await, "alarm 10000\nrecovery 10000\n");
        alarms.close().await;
        recorder.close().await.expect("close");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_unaccepted_notification_is_sent_after_a_restart_and_counts_only_then() {
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
        let alarms =
            Alarms::open(config.clone(), recorder.clone(), Maintenance::open(config.clone())).await;
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
        let alarms =
            Alarms::open(config.clone(), recorder.clone(), Maintenance::open(config)).await;
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
    async fn after_a_reload_the_recorder_alarm_stays_and_removed_monitors_clear() {
        let folder = tempfile::tempdir().expect("folder");
        let both = config(folder.path(), 2, &count_into(folder.path()));
        let one = config(folder.path(), 1, &count_into(folder.path()));
        let recorder = Recorder::open(&both).await.expect("open");
        let alarms = Alarms::open(both.clone(), recorder.clone(), Maintenance::open(both)).await;
        all(&alarms, Outcome::Lost).await;
        alarms.recording(Some("no space left")).await;
        let open = |alarms: &Alarms| {
            alarms.open_alarms().into_keys().map(|id| id.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(open(&alarms), ["m0", "m1", RECORDER]);
        alarms.reload(one.clone()).await;
        assert_eq!(open(&alarms), ["m0", RECORDER]);
        assert!(alarms.lock().episodes[RECORDER].list.is_some());
        alarms.recording(None).await;
        alarms.close().await;
        // Monitors may also be removed while the probe is stopped.
        let none = config(folder.path(), 0, &count_into(folder.path()));
        let alarms = Alarms::open(none.clone(), recorder.clone(), Maintenance::open(none)).await;
        assert_eq!(open(&alarms), [""; 0]);
        alarms.close().await;
        recorder.close().await.expect("close");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_temporarily_refused_recipient_is_retried_alone() {
        let scene = Scene::begin().await;
        // The step is taken, as if the alarm had lasted for long enough.
        {
            let (now, plan) = (scene.alarms.clock().now(), scene.alarms.plan());
            let mut kept = scene.alarms.lock();
            let id: mailqos_model::MonitorId = "m0".parse().expect("a name");
            kept.states.get_mut(&id).expect("a state").failures = 100;
            kept.episodes.get_mut(&id).expect("open").next = None;
            kept.take_steps(&scene.config, &plan, |_| None, now);
        }
        let message = scene.alarms.lock().outbox[0].clone();
        let left = vec!["a@b.example".to_owned(), "c@d.example".to_owned()];
        let before = scene.alarms.clock().now().steady;
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
            let mut two = vec![kept.outbox[0].clone(), kept.outbox[0].clone()];
            two[1].left.clear();
            let recipients: Vec<_> =
                divide(false, two).iter().map(|group| group[0].left.len()).collect();
            assert_eq!(recipients, [2, 0]);
        }
        // Recipients that this attempt rejects permanently are given up immediately; the others are
        // not.
        for rest in [&left[..], &left[..1], &[]] {
            let refused =
                Refused { left: Some(rest.to_vec()), ..Refused::from("refused".to_owned()) };
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
        let given_up =
            [("e@f.example", "taken"), ("c@d.example", "refused"), ("a@b.example", "refused")]
                .map(|(who, words)| format!("gave up on {who}: {words}"));
        assert_eq!(failed, given_up.each_ref().map(|text| Some(text.as_str())));
        let created = format!("\"created\":{}", message.created.0);
        for event in events {
            assert!(event.detail.is_some_and(|detail| detail.contains(&created)));
        }
    }

    #[test]
    fn a_channel_that_dies_and_comes_back_is_noted_once_a_day() {
        let mut channel = ChannelHealth::default();
        let hour =
            |number: i64| UtcMicros(1_773_100_800_000_000) + Micros::from_secs(3600 * number);
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
        assert_eq!(note(Err("HTTP 404"), 1), Some((EventKind::ChannelFailed, "HTTP 404".into())));
        assert_eq!(note(Err("HTTP 404"), 2), None);
        assert_eq!(note(Err("HTTP 500"), 25), Some((EventKind::ChannelFailed, "HTTP 500".into())));
        assert_eq!(
            note(Ok(()), 26),
            Some((EventKind::ChannelRecovered, "accepts messages again after 3 failures".into()))
        );
        assert_eq!(note(Ok(()), 27), None);
        assert_eq!(note(Err("HTTP 404"), 28).map(|(kind, _)| kind), Some(EventKind::ChannelFailed));
    }
}
