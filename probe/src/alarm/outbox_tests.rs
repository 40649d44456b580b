//! Property tests of the outbox with all events at the same time: tests that fail and recover,
//! channels that refuse, fall silent and come back, clock changes, new configurations, crashes.
//! Whatever the order, recipients get correct information in the end.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::LazyLock,
};

use mailqos_base::clock::{Clock, MonotonicTime};
use mailqos_config::{AlarmRule, Config};
use mailqos_model::{Micros, MonitorId, Outcome, Sample, UtcMicros};
use mailqos_notify::{Accepted, ChannelId, Refused, StoredChannel};
use proptest::prelude::*;

use super::{
    Episode, NotificationKind, Pending, StoredState,
    episode::Notified,
    list_of,
    outbox::{End, Report, divide, offer},
    plan::Plan,
    state::Change,
};

const MONITORS: usize = 14;

/// Creates a configuration of `MONITORS` monitors with these changes.
fn config(lists: &str, of_monitor: impl Fn(usize) -> Option<&'static str>) -> (Config, Plan) {
    let mut text = format!(
        "site = \"here\"\ntimezone = \"UTC\"\n[account.a]\nuser = \"a\"\npassword = {{ env = \"X\" }}\n[object.o]\naddress = \"o\"\n\
         [defaults]\nfrom = \"a@b.c\"\nto = \"a@b.c\"\nsmtp = {{}}\npickup = {{ account = \"a\" }}\n{lists}\n"
    );
    for number in 0..MONITORS {
        if let Some(more) = of_monitor(number) {
            text.push_str(&format!("[monitor.m{number}]\nobject = \"o\"\n{more}\n"));
        }
    }
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("mailqos.toml");
    std::fs::write(&path, text).expect("write");
    let config = mailqos_config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
    let plan = Plan::new(&config);
    (config, plan)
}

fn pagerduty(key: &str) -> String {
    format!(
        "{{ webhook = {{ kind = \"pagerduty\", key = {{ env = \"{key}\" }} }}, repeat = \"20m\", retry_for = \"10m\" }}"
    )
}

fn hook(path: &str) -> String {
    format!(
        "{{ webhook = {{ url = \"http://host/{path}\", body = '{{}}' }}, repeat = \"15m\", retry_for = \"5m\" }}"
    )
}

fn list(name: &str, actions: &[String]) -> String {
    format!("[action_list.{name}]\nactions = [{}]\n", actions.join(", "))
}

/// The configurations that the probe switches between.
static CONFIGS: LazyLock<Vec<(Config, Plan)>> = LazyLock::new(|| {
    let both = list("default", &[pagerduty("A"), hook("a")]);
    let other = list("other", &[pagerduty("C"), hook("a")]);
    let escalated = hook("b").replace("repeat", "after = \"5m\", repeat");
    vec![
        config(&both, |_| Some("")),
        config(&both, |number| match number {
            0 => None,
            1 => Some("enabled = false"),
            _ => Some(""),
        }),
        config(&list("default", &[pagerduty("B"), hook("a"), escalated]), |_| Some("")),
        config(&format!("{both}{other}"), |number| {
            Some(if number < 5 { "action_list = \"other\"" } else { "" })
        }),
        config(&both, |number| Some(if number < 8 { "action_list = \"none\"" } else { "" })),
    ]
});

/// How a channel answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Accepts,
    Refuses,
    /// It accepts the message, but its answer is lost.
    TakesSilently,
    /// Both the message and the answer are lost.
    Silent,
    /// It asks for a pause of five minutes (Retry-After).
    Busy,
}

/// Length of the pause that a busy channel asks for.
const PATIENCE: Micros = Micros::from_secs(300);

#[derive(Debug, Clone)]
enum Step {
    Test(usize, bool),
    /// Many monitors fail at the same time, or recover.
    All(bool),
    Pass(i64),
    Set(i64),
    Channel(usize, Manner),
    Reload(usize),
    /// The probe is killed before it has processed any answer.
    Crash,
    Restart,
}

/// The probe and its recipients.
struct World {
    clock: Clock,
    config: usize,
    kept: StoredState,
    disk: Vec<u8>,
    manners: HashMap<ChannelId, Manner>,
    /// What each channel received, whether or not it answered: kind, monitor, alarm.
    got: BTreeMap<ChannelId, Vec<(NotificationKind, MonitorId, UtcMicros)>>,
    /// The alarms in the order in which they were raised, which their wall-clock times may
    /// contradict.
    raised: Vec<(MonitorId, UtcMicros)>,
    /// Messages that may have been received, as far as the probe knows: an attempt ended without an
    /// answer.
    unanswered: HashSet<(ChannelId, MonitorId, UtcMicros)>,
    /// The open incidents.
    open: BTreeMap<ChannelId, BTreeSet<String>>,
    recent: HashMap<ChannelId, VecDeque<MonotonicTime>>,
    /// Ends of the pauses that channels asked for.
    busy: HashMap<ChannelId, MonotonicTime>,
    runtime: tokio::runtime::Runtime,
}

fn id(number: usize) -> MonitorId {
    format!("m{number}").parse().expect("a name")
}

impl World {
    fn new() -> Self {
        Self {
            clock: Clock::manual(UtcMicros(1_800_000_000_000_000)),
            config: 0,
            kept: StoredState::default(),
            disk: b"{}".to_vec(),
            manners: HashMap::new(),
            got: BTreeMap::new(),
            raised: Vec::new(),
            unanswered: HashSet::new(),
            open: BTreeMap::new(),
            recent: HashMap::new(),
            busy: HashMap::new(),
            runtime: tokio::runtime::Builder::new_current_thread().build().expect("a runtime"),
        }
    }

    fn write_down(&mut self) {
        self.kept.forget_channels();
        self.disk = serde_json::to_vec(&self.kept).expect("JSON");
    }

    fn restart(&mut self) {
        let (config, plan) = &CONFIGS[self.config];
        self.kept = serde_json::from_slice(&self.disk).expect("what was written");
        for (id, origin) in &self.kept.origins {
            let way = origin.channel(config).expect("no secret is in plaintext");
            assert_eq!(way.id(), *id, "what is written down is the same channel");
            self.kept.usable.insert(id.clone(), way.into());
        }
        self.recent.clear();
        self.kept.revive(|_| true);
        self.kept.adapt(config, plan, self.clock.now());
        self.write_down();
    }

    fn test(&mut self, number: usize, good: bool) {
        let (config, plan) = &CONFIGS[self.config];
        let monitor = id(number);
        if !config.monitors.get(&monitor).is_some_and(|monitor| monitor.enabled) {
            return;
        }
        let now = self.clock.now();
        let outcome = if good { Outcome::Ok } else { Outcome::Lost };
        let sample = Sample::new(monitor.clone(), now.wall, outcome);
        let rule = AlarmRule { after: 1, flapping: false, ..AlarmRule::default() };
        let mut state = self.kept.states.remove(&monitor).unwrap_or_default();
        let change = state.step((&sample, now.steady), &rule, None, |_| None);
        let brief = state.brief();
        self.kept.states.insert(monitor.clone(), state);
        match change {
            Some(Change::Raised) => {
                let episode = Episode::new(now, list_of(config, &monitor), sample);
                self.raised.push((monitor.clone(), episode.raised_at));
                self.kept.episodes.insert(monitor, episode);
            }
            Some(Change::Cleared) => {
                let episode = self.kept.episodes.remove(&monitor).expect("an alarm");
                let end = End { monitor: &monitor, sample: &sample, state: &brief, ended: None };
                self.kept.end(episode, &end, plan, now);
            }
            None => {
                if let Some(episode) = self.kept.episodes.get_mut(&monitor) {
                    episode.next = None;
                }
            }
        }
        // No two events in the same microsecond.
        self.clock.advance(Micros(1));
    }

    /// Runs one round of the worker; `survives` is whether it processes the answers.
    fn work(&mut self, survives: bool) {
        let (config, plan) = &CONFIGS[self.config];
        let now = self.clock.now();
        self.kept.take_steps(config, plan, |_| None, now);
        let (ready, _) = self.kept.ready(&HashSet::new(), &mut self.recent, now.steady);
        self.write_down();
        for (channel, messages) in ready {
            self.recent.entry(channel.clone()).or_default().push_back(now.steady);
            let way = self.kept.usable.get(&channel).expect("a way").clone();
            let manner = self.manners.get(&channel).copied().unwrap_or(Manner::Accepts);
            let is_left_alone = self.busy.get(&channel).is_some_and(|until| now.steady < *until);
            assert!(!is_left_alone, "{channel} asked to be left alone");
            if manner == Manner::Busy && survives {
                self.busy.insert(channel.clone(), now.steady + PATIENCE);
            }
            let counts = way.counts_incidents();
            if !survives || manner == Manner::Silent {
                let unanswered = messages
                    .iter()
                    .map(|message| (channel.clone(), message.monitor.clone(), message.alarm));
                self.unanswered.extend(unanswered);
            }
            let mut taken = Vec::new();
            let results = self.runtime.block_on(offer(counts, messages, |group| {
                if matches!(manner, Manner::Accepts | Manner::TakesSilently) {
                    taken.push(group);
                }
                std::future::ready(match manner {
                    Manner::Accepts => Ok(Accepted::Confirmed("fine".to_owned())),
                    Manner::Refuses => Err(Refused::from("HTTP 503".to_owned())),
                    Manner::Busy => Err(Refused {
                        retry_after: Some(PATIENCE),
                        ..Refused::from("HTTP 429".to_owned())
                    }),
                    Manner::TakesSilently | Manner::Silent => {
                        Err(Refused { maybe: true, ..Refused::from("no answer".to_owned()) })
                    }
                })
            }));
            for group in taken {
                self.take(&channel, counts, &group);
            }
            if survives {
                let report = Report { channel, results, channels: Vec::new() };
                self.kept.settle(report, counts, now);
                self.write_down();
            }
        }
    }

    /// Delivers a message to a channel.
    fn take(&mut self, channel: &ChannelId, counts: bool, group: &[Pending]) {
        let got = self.got.entry(channel.clone()).or_default();
        for message in group {
            if message.why == NotificationKind::Cleared {
                // Recipients that were never notified of an alarm are not notified of its end.
                let told = got.iter().any(|(why, monitor, alarm)| {
                    *why != NotificationKind::Cleared
                        && *monitor == message.monitor
                        && *alarm == message.alarm
                });
                let about = (channel.clone(), message.monitor.clone(), message.alarm);
                let may_be = self.unanswered.contains(&about);
                assert!(told || may_be, "a recovery without an alarm: {about:?}");
            } else {
                // Nothing about an alarm arrives after its end or that of a later alarm.
                let rank = |alarm: UtcMicros| {
                    let known = (message.monitor.clone(), alarm);
                    self.raised.iter().position(|raised| *raised == known)
                };
                let later = got.iter().any(|(_, monitor, alarm)| {
                    *monitor == message.monitor && rank(*alarm) > rank(message.alarm)
                });
                assert!(!later, "an alarm of {} comes behind a later one", message.monitor);
            }
            got.push((message.why, message.monitor.clone(), message.alarm));
        }
        if counts {
            let open = self.open.entry(channel.clone()).or_default();
            let first = &group[0];
            assert!(group.iter().all(|message| message.incident == first.incident));
            if first.why == NotificationKind::Cleared {
                open.remove(&first.incident);
            } else {
                open.insert(first.incident.clone());
            }
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Test(number, good) => self.test(*number, *good),
            Step::All(good) => (0..MONITORS).for_each(|number| self.test(number, *good)),
            Step::Pass(seconds) => {
                for seconds in [*seconds, 2] {
                    self.clock.advance(Micros::from_secs(seconds));
                    self.work(true);
                }
            }
            Step::Set(hours) => {
                self.clock.step(Micros::from_secs(3600 * hours));
                self.kept.stepped();
            }
            Step::Channel(number, manner) => {
                let plans = CONFIGS.iter().flat_map(|(_, plan)| plan.channels());
                let channels: BTreeSet<&ChannelId> = plans.collect();
                let channel = channels.into_iter().nth(*number).expect("a channel");
                self.manners.insert(channel.clone(), *manner);
            }
            Step::Reload(number) => {
                self.config = *number;
                let (config, plan) = &CONFIGS[self.config];
                self.kept.adapt(config, plan, self.clock.now());
                self.write_down();
            }
            Step::Crash => {
                self.work(false);
                self.restart();
            }
            Step::Restart => {
                self.write_down();
                self.restart();
            }
        }
    }

    /// Lets all channels accept and enough time pass.
    fn settle_down(&mut self) {
        self.manners.clear();
        for _ in 0..12 {
            // Changes in the first round are reported in the second.
            for seconds in [601, 2] {
                self.clock.advance(Micros::from_secs(seconds));
                self.work(true);
            }
        }
        self.write_down();
    }

    /// Checks the invariants that hold once all channels accept and nothing is pending.
    fn look(&self) {
        let (config, plan) = &CONFIGS[self.config];
        for (monitor, episode) in &self.kept.episodes {
            let Some(list) = list_of(config, monitor) else {
                continue;
            };
            for step in plan.steps(&list) {
                let contact = episode.contacts.get(&step.channel);
                assert!(
                    contact.is_some_and(|contact| contact.heard == Notified::Yes),
                    "{monitor} is in alarm, and {} has not heard of it: {contact:?}",
                    step.name
                );
                let last =
                    self.got[&step.channel].iter().rev().find(|(_, other, _)| other == monitor);
                assert!(
                    last.is_some_and(|(why, ..)| *why != NotificationKind::Cleared),
                    "the last word is a recovery"
                );
            }
        }
        for (channel, got) in &self.got {
            let monitors: BTreeSet<&MonitorId> =
                got.iter().map(|(_, monitor, _)| monitor).collect();
            for monitor in monitors {
                let episode = self.kept.episodes.get(monitor);
                let is_open = episode.is_some_and(|episode| episode.contacts.contains_key(channel));
                let last =
                    got.iter().rev().find(|(_, other, _)| other == monitor).expect("a message");
                // Of an incident with several alarms, only the last end is reported.
                let counts = self.open.contains_key(channel);
                assert!(
                    counts || is_open || last.0 == NotificationKind::Cleared,
                    "{channel}: {monitor} was never closed"
                );
            }
        }
        for (channel, open) in &self.open {
            let contacts =
                self.kept.episodes.values().filter_map(|episode| episode.contacts.get(channel));
            let known: BTreeSet<String> =
                contacts.map(|contact| contact.incident.clone()).collect();
            assert_eq!(
                *open, known,
                "the incidents that are open at {channel} are those of open alarms"
            );
        }
        let left = self
            .kept
            .outbox
            .iter()
            .find(|message| message.why != NotificationKind::Reminder || message.tries > 0);
        assert!(left.is_none(), "{:?}", left.map(|message| &message.id));
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let manners =
        [Manner::Accepts, Manner::Refuses, Manner::TakesSilently, Manner::Silent, Manner::Busy];
    let step = prop_oneof![
        4 => (0..MONITORS, any::<bool>()).prop_map(|(number, good)| Step::Test(number, good)),
        2 => any::<bool>().prop_map(Step::All),
        6 => (0i64..1500).prop_map(Step::Pass),
        1 => (-30i64..30).prop_map(Step::Set),
        4 => (0usize..5, proptest::sample::select(manners.to_vec())).prop_map(|(number, manner)| Step::Channel(number, manner)),
        1 => (0usize..5).prop_map(Step::Reload),
        1 => Just(Step::Crash),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn in_the_end_everyone_knows_the_state(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.settle_down();
        world.look();
        world.step(&Step::All(true));
        world.settle_down();
        world.look();
        prop_assert!(world.open.values().all(BTreeSet::is_empty), "{:?}", world.open);
        prop_assert!(world.kept.origins.is_empty() && world.kept.usable.is_empty());
    }
}

/// Makes a channel, given by its index, refuse everything from the beginning.
fn all_refuse(world: &mut World, manner: Manner) {
    for number in 0..5 {
        world.step(&Step::Channel(number, manner));
    }
}

#[test]
fn a_recovery_cancels_messages_that_were_not_accepted() {
    // 503 while the alarm is raised and cleared: no one is notified of either.
    let mut world = World::new();
    all_refuse(&mut world, Manner::Refuses);
    for step in [Step::Test(0, false), Step::Pass(5), Step::Test(0, true), Step::Pass(5)] {
        world.step(&step);
    }
    world.settle_down();
    assert!(world.got.is_empty(), "{:?}", world.got);
    world.look();
}

#[test]
fn an_alarm_that_may_have_been_heard_is_closed() {
    let mut world = World::new();
    all_refuse(&mut world, Manner::TakesSilently);
    for step in [Step::Test(0, false), Step::Pass(5), Step::Test(0, true), Step::Pass(5)] {
        world.step(&step);
    }
    world.settle_down();
    assert!(
        world
            .got
            .values()
            .all(|got| { got.last().is_some_and(|(why, ..)| *why == NotificationKind::Cleared) })
    );
    assert!(world.open.values().all(BTreeSet::is_empty));
}

#[test]
fn what_comes_about_while_a_channel_asks_for_patience_waits_too() {
    let mut world = World::new();
    all_refuse(&mut world, Manner::Busy);
    world.step(&Step::Test(0, false));
    world.step(&Step::Pass(2));
    world.manners.clear();
    // `World::work` checks that nothing is offered meanwhile, even after a restart.
    for step in
        [Step::Test(1, false), Step::Pass(60), Step::Restart, Step::Test(2, false), Step::Pass(60)]
    {
        world.step(&step);
    }
    assert!(world.got.is_empty(), "{:?}", world.got);
    world.step(&Step::Pass(200));
    assert!(world.got.values().all(|got| got.len() == 3), "{:?}", world.got);
}

#[test]
fn an_alarm_outlives_the_time_for_which_it_is_tried() {
    let mut world = World::new();
    all_refuse(&mut world, Manner::Refuses);
    world.step(&Step::Test(0, false));
    // An hour, with retries for ten minutes.
    for _ in 0..12 {
        world.step(&Step::Pass(300));
    }
    assert!(world.got.is_empty());
    world.settle_down();
    world.look();
    assert!(
        world.got.values().all(|got| got.iter().any(|(why, ..)| *why == NotificationKind::Raised))
    );
}

#[test]
fn more_than_ten_alarms_are_one_incident_that_closes_with_the_last() {
    let mut world = World::new();
    world.step(&Step::All(false));
    world.step(&Step::Pass(5));
    let open = |world: &World| world.open.values().map(BTreeSet::len).collect::<Vec<_>>();
    assert_eq!(open(&world), [1]);
    for number in 1..MONITORS {
        world.step(&Step::Test(number, true));
        world.step(&Step::Pass(61));
    }
    assert_eq!(open(&world), [1]);
    world.step(&Step::Test(0, true));
    world.step(&Step::Pass(61));
    assert_eq!(open(&world), [0]);
    world.look();
}

#[test]
fn an_open_alarm_is_closed_where_it_was_opened_after_any_reload() {
    for (config, monitor, opened_again) in
        [(1, 0, false), (1, 1, false), (2, 3, true), (3, 3, true), (4, 3, false)]
    {
        for restarts in [false, true] {
            let mut world = World::new();
            world.step(&Step::Test(monitor, false));
            world.step(&Step::Pass(5));
            let first: Vec<ChannelId> = world.open.keys().cloned().collect();
            world.step(&Step::Reload(config));
            if restarts {
                world.step(&Step::Restart);
            }
            world.step(&Step::Pass(5));
            // Long enough for an escalation in the new list.
            world.step(&Step::Pass(400));
            let open: Vec<&ChannelId> =
                world.open.iter().filter(|(_, open)| !open.is_empty()).map(|(id, _)| id).collect();
            assert_eq!(open.len(), usize::from(opened_again), "{config} {monitor}");
            assert!(!open.contains(&&first[0]), "it is closed at the key by which it was opened");
            world.look();
            world.step(&Step::All(true));
            world.settle_down();
            world.look();
            assert!(world.open.values().all(BTreeSet::is_empty));
        }
    }
}

#[test]
fn a_reload_without_changed_channels_notifies_no_one() {
    let mut world = World::new();
    world.step(&Step::All(false));
    world.step(&Step::Pass(5));
    let before = world.got.clone();
    for step in [Step::Reload(0), Step::Pass(5), Step::Restart, Step::Pass(5)] {
        world.step(&step);
    }
    assert_eq!(world.got, before);
}

#[test]
fn each_step_hears_what_it_asks_for() {
    let lists = list(
        "default",
        &[
            "{ command = [\"both\"] }",
            "{ command = [\"begin\"], on = \"alarm\" }",
            "{ command = [\"end\"], on = \"recovery\" }",
        ]
        .map(str::to_owned),
    );
    let (config, plan) = config(&lists, |_| Some(""));
    let clock = Clock::manual(UtcMicros(1_800_000_000_000_000));
    let (monitor, mut kept) = (id(0), StoredState::default());
    let sample = Sample::new(monitor.clone(), clock.now().wall, Outcome::Lost);
    let state = super::State::default();
    kept.states.insert(monitor.clone(), state.clone());
    let episode = Episode::new(clock.now(), list_of(&config, &monitor), sample.clone());
    kept.episodes.insert(monitor.clone(), episode);
    kept.take_steps(&config, &plan, |_| None, clock.now());
    let mut heard: Vec<(String, NotificationKind)> = Vec::new();
    let mut hear = |kept: &mut StoredState| {
        clock.advance(Micros::from_secs(61));
        let (ready, _) = kept.ready(&HashSet::new(), &mut HashMap::new(), clock.now().steady);
        for (channel, messages) in ready {
            heard.extend(messages.iter().map(|message| (message.step.clone(), message.why)));
            let results = vec![(
                messages,
                super::outbox::AttemptResult::Answered(Ok(Accepted::Confirmed(String::new()))),
            )];
            let channels = Vec::new();
            kept.settle(Report { channel, results, channels }, false, clock.now());
        }
    };
    hear(&mut kept);
    let episode = kept.episodes.remove(&monitor).expect("open");
    let end = End { monitor: &monitor, sample: &sample, state: &state, ended: None };
    kept.end(episode, &end, &plan, clock.now());
    hear(&mut kept);
    heard.sort();
    let expected = [
        ("both", NotificationKind::Raised),
        ("both", NotificationKind::Cleared),
        ("begin", NotificationKind::Raised),
        ("end", NotificationKind::Cleared),
    ];
    let mut expected = expected.map(|(name, why)| (format!("command {name}"), why)).to_vec();
    expected.sort();
    assert_eq!(heard, expected);
}

#[test]
fn what_is_about_one_monitor_stays_in_order_and_waits_for_what_came_before() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut world = World::new();
    for step in [Step::Test(0, false), Step::Pass(5)] {
        world.step(&step);
    }
    all_refuse(&mut world, Manner::Refuses);
    for step in [Step::Test(0, true), Step::Test(0, false), Step::Test(1, false)] {
        world.step(&step);
    }
    world.work(true);
    let messages = world.kept.outbox.clone();
    let pagerduty =
        messages.iter().find(|message| world.kept.counts_incidents(&message.channel)).expect("one");
    let channel = pagerduty.channel.clone();
    let messages: Vec<Pending> =
        messages.into_iter().filter(|message| message.channel == channel).collect();
    let whys: Vec<NotificationKind> = messages.iter().map(|message| message.why).collect();
    assert_eq!(
        whys,
        [NotificationKind::Cleared, NotificationKind::Raised, NotificationKind::Raised]
    );
    assert_eq!(divide(true, messages.clone()).len(), 3);
    // The end of the first alarm is refused: the second message waits, that of the other monitor
    // does not.
    let mut offered = Vec::new();
    let results = runtime.block_on(offer(true, messages, |group| {
        offered.push((group[0].why, group[0].monitor.clone()));
        std::future::ready(match group[0].why {
            NotificationKind::Cleared => Err(Refused::from("HTTP 429".to_owned())),
            _ => Ok(Accepted::Confirmed("fine".to_owned())),
        })
    }));
    assert_eq!(offered, [(NotificationKind::Cleared, id(0)), (NotificationKind::Raised, id(1))]);
    assert_eq!(results.len(), 3);
}

#[test]
fn stored_files_contain_no_plaintext_secret() {
    let text = "[account.m]\nuser = \"m\"\npassword = \"Geheimnis\"\n[mail_server.m]\nserver = \"smtp.example\"\naccount = \"m\"\nfrom = \"a@b.c\"\n\
                [action_list.default]\nactions = [{ webhook = { kind = \"pagerduty\", key = \"Geheimnis\" } }, \
                { webhook = { kind = \"slack\", url = \"https://hooks.example/Geheimnis\" } }, \
                { webhook = { url = \"https://h.example/\", body = '{}', headers = { authorization = \"Geheimnis\" } } }, \
                { command = [\"x\"], environment = { TOKEN = \"Geheimnis\" } }, { email = [\"a@b.c\", \"d@e.f\"], mail_server = \"m\" }]\n";
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("mailqos.toml");
    std::fs::write(&path, format!("site = \"here\"\nallow_plaintext_secrets = true\n{text}"))
        .expect("write");
    let config = mailqos_config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
    let plan = Plan::new(&config);
    let steps = plan.steps(&"default".parse().expect("a name"));
    assert_eq!(steps.len(), 5);
    for step in steps {
        let way = plan.channel(&step.channel).expect("a way");
        let kept = serde_json::to_string(&StoredChannel::from_channel(way)).expect("JSON");
        assert!(!kept.contains("Geheimnis"), "{kept}");
        let read: StoredChannel = serde_json::from_str(&kept).expect("JSON");
        let error = read.channel(&config).expect_err("its secret is not there").to_string();
        assert!(error.contains("in plaintext") && !error.contains("Geheimnis"), "{error}");
    }
}

#[test]
fn channels_are_distinguished_by_all_their_properties() {
    let key = |env: &str| pagerduty(env);
    let command = |words: &str| format!("{{ command = [{words}] }}");
    let all = [
        key("A"),
        key("B"),
        hook("a"),
        hook("b"),
        hook("a").replace("'{}'", "'{ \"channel\": 1 }'"),
        hook("a").replace("body", "headers = { x = \"1\" }, body"),
        command("\"notify\", \"anna\""),
        command("\"notify\", \"ben\""),
        command("\"notify\", \"anna\"").replace(" }", ", environment = { LEVEL = \"2\" } }"),
        "{ syslog = { facility = \"local0\" } }".to_owned(),
        "{ syslog = { facility = \"local1\" } }".to_owned(),
    ];
    let (config, plan) = config(&list("default", &all), |_| Some(""));
    let steps = plan.steps(&"default".parse().expect("a name"));
    let channels: HashSet<&ChannelId> = steps.iter().map(|step| &step.channel).collect();
    assert_eq!(channels.len(), all.len());
    let names: HashSet<&str> = steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names.len(), all.len(), "{names:?}");
    // Changing when, how often and how long it is used keeps the channel's identity.
    let changed = all.clone().map(|action| {
        let end = action.rfind(" }").expect("an end");
        format!("{}, timeout = \"7s\", at_failure = 9{}", &action[..end], &action[end..])
    });
    let (_, again) = self::config(&list("default", &changed), |_| Some(""));
    let steps = again.steps(&"default".parse().expect("a name"));
    assert!(steps.iter().all(|step| channels.contains(&step.channel)));
    assert_eq!(config.action_lists.len(), 1);
}
