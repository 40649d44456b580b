//! Pending notifications of each channel, and their order. Pure: it uses no network and only the
//! clock that it is given.
//!
//! - Messages about one monitor pass through a channel in the order in which they were created.
//! - A recovery cancels pending messages of its channel; recipients who were never notified of an
//!   alarm are not notified of its end.
//! - Only what a channel has accepted counts as delivered. If that is unknown, because an attempt
//!   ended without an answer or the probe was killed meanwhile, the end is reported: it closes
//!   anything that may be open and does no harm otherwise.
//! - An alarm is closed by the channel that opened it, however the configuration has changed since.
//! - An alarm is offered to its channel as long as it is open.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use mailqos_base::clock::{MonotonicTime, Now};
use mailqos_config::{Config, On};
use mailqos_model::{Event, Micros, MonitorId, Name, Sample, UtcMicros};
use mailqos_notify::{Accepted, ChannelId, Refused, StoredChannel};
use serde::{Deserialize, Serialize};

use super::{
    About, NotificationKind, Pending, State, StoredState,
    episode::{Contact, Episode, Next, Notified, StepState},
    message::thread_of,
    plan::{Plan, recipients_without},
    settling::Settling,
};

/// Changes are gathered until none has arrived for this time …
const QUIET: Micros = Micros::from_millis(1000);
/// … but the first of them waits no longer than this.
const MAX_GATHERING: Micros = Micros::from_secs(60);
/// Messages per minute and channel before batching sets in.
const MAX_PER_MINUTE: usize = 6;
/// Maximum number of alarms that are reported as separate incidents at the same time.
const MAX_INCIDENTS: usize = 10;
/// Suffix of the name of an incident that covers many alarms.
const AND_OTHERS: &str = "/and-others";
/// Number of consecutive rejections after which a channel's remaining messages wait.
const MAX_REFUSALS: usize = 3;

/// Reason why an alarm ends, or ends for a channel, without a successful test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EndReason {
    /// The configuration no longer has the monitor.
    Removed,
    /// The monitor is disabled.
    Disabled,
    /// Others are notified from now on, through this action list.
    Moved(Option<Name>),
}

impl EndReason {
    /// Describes the reason.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Removed => {
                "the monitor has been removed from the configuration and is no longer tested"
                    .to_owned()
            }
            Self::Disabled => "the monitor has been disabled and is no longer tested".to_owned(),
            Self::Moved(Some(list)) => {
                format!("the alarm continues, but is now reported by the action list {list}")
            }
            Self::Moved(None) => "the alarm continues, but is no longer reported".to_owned(),
        }
    }
}

/// The end of an alarm.
pub(super) struct End<'all> {
    pub(super) monitor: &'all MonitorId,
    /// The sample that led to it.
    pub(super) sample: &'all Sample,
    /// The monitor's state at that time.
    pub(super) state: &'all State,
    /// The reason, if no test was successful.
    pub(super) ended: Option<EndReason>,
}

/// Results of the messages of one channel.
pub(super) struct Report {
    pub(super) channel: ChannelId,
    /// Messages that were offered to the channel, with its responses.
    pub(super) results: Vec<(Vec<Pending>, AttemptResult)>,
    /// Results of its servers.
    pub(super) channels: Vec<(String, Result<(), String>)>,
}

/// Result of a message.
#[derive(Debug)]
pub(super) enum AttemptResult {
    /// The channel has answered, or failed to.
    Answered(Result<Accepted, Refused>),
    /// The message was not offered: an earlier one about the same monitor must go first, or the
    /// channel rejects everything.
    HeldBack,
}

/// Creates a unique id that is valid in a Message-ID. The time alone would not do, because there
/// may be no test between two reminders.
pub(super) fn id_of(
    monitor: &MonitorId,
    at: UtcMicros,
    why: NotificationKind,
    key: &str,
    times: u32,
) -> String {
    let digest = crc32fast::hash(key.as_bytes());
    format!("{monitor}.{}.{}.{digest:08x}.{times}", at.0, why.as_str())
}

impl Pending {
    pub(super) fn about(&self) -> About {
        (self.monitor.clone(), self.alarm, self.channel.clone())
    }

    /// Returns whether it is about this alarm or its end.
    fn is_about(&self, monitor: &MonitorId, alarm: UtcMicros, channel: &ChannelId) -> bool {
        self.monitor == *monitor && self.alarm == alarm && self.channel == *channel
    }
}

impl StoredState {
    /// Restores messages that were being sent when the probe or the sending task ended: they may
    /// have been received.
    pub(super) fn revive(&mut self, is_dead: impl Fn(&ChannelId) -> bool) {
        let unanswered = |pending: &Pending| pending.attempting && is_dead(&pending.channel);
        let messages: Vec<Pending> =
            self.outbox.iter().filter(|pending| unanswered(pending)).cloned().collect();
        let mut ended = HashMap::new();
        for message in messages.iter().filter(|message| message.why != NotificationKind::Cleared) {
            if !self.heard(message, Notified::Maybe) {
                ended.insert(message.about(), message.incident.clone());
            }
        }
        self.confirm_ends(&ended);
        for pending in self.outbox.iter_mut().filter(|pending| unanswered(pending)) {
            pending.maybe = true;
            pending.attempting = false;
        }
        self.drop_what_is_over();
        (self.changed, self.urgent) = (true, true);
    }

    /// Queues the due steps of the action lists; returns when the next step is due.
    pub(super) fn take_steps(
        &mut self,
        config: &Config,
        plan: &Plan,
        open_until: impl Fn(&MonitorId) -> Option<UtcMicros>,
        now: Now,
    ) -> Option<MonotonicTime> {
        let mut next: Option<MonotonicTime> = None;
        let mut waiting: Option<HashSet<About>> = None;
        let mut episodes = std::mem::take(&mut self.episodes);
        for (monitor, episode) in &mut episodes {
            match episode.next {
                Some(Next::At(at)) if at > now.steady => {
                    next = Some(next.map_or(at, |earlier| earlier.min(at)));
                    continue;
                }
                Some(Next::Never) => continue,
                _ => {}
            }
            if let Some(until) = open_until(monitor) {
                episode.next = Some(Next::At(now.steady_at(until)));
                continue;
            }
            let waiting = waiting.get_or_insert_with(|| self.waiting());
            if self.take_steps_of((monitor, episode), config, plan, (waiting, now)) {
                next = Some(now.steady);
            }
            if let Some(Next::At(at)) = episode.next {
                next = Some(next.map_or(at, |earlier| earlier.min(at)));
            }
        }
        self.episodes = episodes;
        next
    }

    /// Returns the alarms with pending notifications.
    fn waiting(&self) -> HashSet<About> {
        let alarms = self.outbox.iter().filter(|pending| pending.why != NotificationKind::Cleared);
        alarms.map(Pending::about).collect()
    }

    /// Does the same for one alarm; returns whether something was due.
    fn take_steps_of(
        &mut self,
        (monitor, episode): (&MonitorId, &mut Episode),
        config: &Config,
        plan: &Plan,
        (waiting, now): (&mut HashSet<About>, Now),
    ) -> bool {
        let list = episode.list.as_ref().and_then(|name| config.action_lists.get_key_value(name));
        let (Some((name, list)), Some(state)) = (list, self.states.get(monitor)) else {
            episode.next = Some(Next::Never);
            return false;
        };
        let (steps, brief) = (plan.steps(name), state.brief());
        let keys: Vec<String> = steps.iter().map(|step| step.key.clone()).collect();
        let due = episode.due(list, &keys, brief.failures, now);
        for (key, why) in &due {
            let taken = episode
                .taken
                .entry(key.clone())
                .or_insert(StepState { times: 0, last: now.steady });
            taken.times += 1;
            taken.last = now.steady;
            let times = taken.times;
            let Some(step) = steps.iter().find(|step| step.key == *key) else {
                continue;
            };
            // Pending notifications are sent, not repeated.
            if !waiting.insert((monitor.clone(), episode.raised_at, step.channel.clone())) {
                continue;
            }
            let suffix = episode.suffix();
            let incident =
                format!("mailqos/{}/{monitor}/{}{suffix}", config.site, episode.raised_at.0);
            let contact = episode.contacts.entry(step.channel.clone()).or_insert(Contact {
                incident,
                heard: Notified::No,
                missed: Vec::new(),
                step: step.name.clone(),
                retry_for: step.retry_for,
                wants_end: false,
                thread: None,
            });
            contact.wants_end |= step.on == On::Both;
            self.remember(&step.channel, plan);
            let digested = format!("{key}{suffix}");
            self.outbox.push(Pending {
                id: id_of(monitor, episode.sample.started_at, *why, &digested, times),
                monitor: monitor.clone(),
                why: *why,
                sample: episode.sample.clone(),
                state: brief.clone(),
                alarm: episode.raised_at,
                list: Some(name.clone()),
                channel: step.channel.clone(),
                step: step.name.clone(),
                incident: contact.incident.clone(),
                created: now.wall,
                queued: now.steady,
                retry_for: step.retry_for,
                tries: 0,
                next_try: now.steady,
                left: Vec::new(),
                attempting: false,
                maybe: false,
                doubtful: false,
                overdue: false,
                ended: None,
                thread: contact.thread.clone(),
            });
            (self.changed, self.urgent) = (true, true);
        }
        !due.is_empty()
    }

    /// Ends an alarm: each channel that was notified of it, or may have been, is notified of its
    /// end; its pending notifications are cancelled first.
    pub(super) fn end(&mut self, episode: Episode, end: &End<'_>, plan: &Plan, now: Now) {
        let mut episode = episode;
        for (channel, contact) in std::mem::take(&mut episode.contacts) {
            self.close(&episode, end, (&channel, contact), now);
        }
        // Steps for recoveries only were not notified of the alarm, but are notified of its end.
        let Some(list) = &episode.list else { return };
        for step in plan.steps(list).iter().filter(|step| step.on == On::Recovery) {
            let is_end = |pending: &Pending| {
                pending.why == NotificationKind::Cleared
                    && pending.is_about(end.monitor, episode.raised_at, &step.channel)
            };
            if self.outbox.iter().any(is_end) {
                continue;
            }
            let contact = Contact {
                incident: String::new(),
                heard: Notified::Yes,
                missed: Vec::new(),
                step: step.name.clone(),
                retry_for: step.retry_for,
                wants_end: true,
                thread: None,
            };
            self.remember(&step.channel, plan);
            self.close(&episode, end, (&step.channel, contact), now);
        }
    }

    /// Stores the settings of a channel, so that it can be used even when it is no longer
    /// configured.
    pub(super) fn remember(&mut self, channel: &ChannelId, plan: &Plan) {
        let Some(usable) = plan.channel(channel) else {
            return;
        };
        let kept = || StoredChannel::from_channel(usable);
        self.origins.entry(channel.clone()).or_insert_with(kept);
        self.usable.entry(channel.clone()).or_insert_with(|| Arc::clone(usable));
    }

    /// Returns whether a channel counts alarms individually.
    pub(super) fn counts_incidents(&self, channel: &ChannelId) -> bool {
        self.usable.get(channel).is_some_and(|channel| channel.counts_incidents())
    }

    /// Ends an alarm for one channel.
    fn close(
        &mut self,
        episode: &Episode,
        end: &End<'_>,
        (channel, contact): (&ChannelId, Contact),
        now: Now,
    ) {
        (self.changed, self.urgent) = (true, true);
        if !contact.wants_end {
            return;
        }
        let usable = self.usable.get(channel).map(AsRef::as_ref);
        let Some(left) = recipients_without(usable, &contact.missed) else {
            return;
        };
        let at = end.sample.started_at.max(episode.raised_at);
        let digested = format!("{channel}{}", episode.suffix());
        self.outbox.push(Pending {
            id: id_of(end.monitor, at, NotificationKind::Cleared, &digested, 1),
            monitor: end.monitor.clone(),
            why: NotificationKind::Cleared,
            sample: Box::new(end.sample.clone()),
            state: end.state.clone(),
            alarm: episode.raised_at,
            list: episode.list.clone(),
            channel: channel.clone(),
            step: contact.step,
            incident: contact.incident,
            created: now.wall,
            queued: now.steady,
            retry_for: contact.retry_for,
            tries: 0,
            next_try: now.steady,
            left,
            attempting: false,
            maybe: false,
            // If no notification of the alarm is being sent at the moment either, nothing is sent:
            // see `drop_what_is_over`.
            doubtful: contact.heard == Notified::No,
            overdue: false,
            ended: end.ended.clone(),
            thread: contact.thread,
        });
    }

    /// Moves an alarm to another action list and notifies channels that the new list does not have.
    pub(super) fn hand_over(
        &mut self,
        monitor: &MonitorId,
        episode: &mut Episode,
        list: Option<Name>,
        (plan, now): (&Plan, Now),
    ) {
        let steps = list.as_ref().map(|list| plan.steps(list)).unwrap_or_default();
        let stays = |channel: &ChannelId| {
            steps.iter().any(|step| step.channel == *channel && step.on != On::Recovery)
        };
        let (kept, gone): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut episode.contacts)
            .into_iter()
            .partition(|(channel, _)| stays(channel));
        episode.contacts = kept;
        episode.taken.retain(|key, _| steps.iter().any(|step| step.key == *key));
        if !gone.is_empty() {
            episode.handed_over += 1;
        }
        let state = self.states.get(monitor).map(State::brief).unwrap_or_default();
        let sample = episode.sample.clone();
        for (channel, contact) in gone {
            let end = End {
                monitor,
                sample: &sample,
                state: &state,
                ended: Some(EndReason::Moved(list.clone())),
            };
            self.close(episode, &end, (&channel, contact), now);
        }
        episode.list = list;
        episode.next = None;
    }

    /// Returns the messages to send now, by channel, marked as being sent, and when the next ones
    /// are due.
    pub(super) fn ready(
        &mut self,
        busy: &HashSet<ChannelId>,
        recent: &mut HashMap<ChannelId, VecDeque<MonotonicTime>>,
        now: MonotonicTime,
    ) -> (BTreeMap<ChannelId, Vec<Pending>>, Option<MonotonicTime>) {
        self.drop_what_is_over();
        self.drop_members_of_open_incidents();
        let mut next: Option<MonotonicTime> = None;
        let mut earlier =
            |at: MonotonicTime| next = Some(next.map_or(at, |known: MonotonicTime| known.min(at)));
        let mut spans: BTreeMap<ChannelId, (MonotonicTime, MonotonicTime)> = BTreeMap::new();
        for pending in &self.outbox {
            if pending.next_try > now {
                earlier(pending.next_try);
                continue;
            }
            let span =
                spans.entry(pending.channel.clone()).or_insert((pending.queued, pending.queued));
            *span = (span.0.min(pending.queued), span.1.max(pending.queued));
        }
        self.patience.retain(|_, until| *until > now);
        spans.retain(|channel, (first, last)| {
            if busy.contains(channel) {
                return false;
            }
            if let Some(until) = self.patience.get(channel) {
                earlier(*until);
                return false;
            }
            let sent = recent.entry(channel.clone()).or_default();
            while sent.front().is_some_and(|at| now - *at >= MAX_GATHERING) {
                sent.pop_front();
            }
            let ready_at = match sent.front() {
                Some(oldest) if sent.len() >= MAX_PER_MINUTE => *oldest + MAX_GATHERING,
                _ => (*first + MAX_GATHERING).min(*last + QUIET),
            };
            if ready_at > now {
                earlier(ready_at);
            }
            ready_at <= now
        });
        let mut ready = BTreeMap::new();
        for channel in spans.into_keys() {
            if self.counts_incidents(&channel) {
                self.gather_incidents(&channel, now);
            }
            let messages = self.take_up(&channel, now);
            ready.insert(channel, messages);
        }
        if !ready.is_empty() {
            (self.changed, self.urgent) = (true, true);
        }
        (ready, next)
    }

    /// Returns the messages of an idle channel: those that are due, and before them all others
    /// about the same monitors.
    fn take_up(&mut self, channel: &ChannelId, now: MonotonicTime) -> Vec<Pending> {
        let due: BTreeSet<MonitorId> = self
            .outbox
            .iter()
            .filter(|pending| pending.channel == *channel && pending.next_try <= now)
            .map(|pending| pending.monitor.clone())
            .collect();
        let mut messages = Vec::new();
        for pending in &mut self.outbox {
            if pending.channel == *channel && due.contains(&pending.monitor) {
                messages.push(pending.clone());
                pending.attempting = true;
            }
        }
        messages
    }

    /// Combines many simultaneous alarms into one incident. Its members are chosen before it is
    /// opened and don't change.
    fn gather_incidents(&mut self, channel: &ChannelId, now: MonotonicTime) {
        let episodes = &self.episodes;
        let contact = |pending: &Pending| {
            let episode = episodes.get(&pending.monitor);
            episode
                .filter(|episode| episode.raised_at == pending.alarm)
                .and_then(|episode| episode.contacts.get(channel))
        };
        let is_new = |pending: &Pending| {
            pending.channel == *channel
                && pending.next_try <= now
                && pending.why != NotificationKind::Cleared
                && !pending.maybe
                && !pending.incident.ends_with(AND_OTHERS)
                && contact(pending).is_some_and(|contact| contact.heard == Notified::No)
        };
        let new: Vec<usize> =
            (0..self.outbox.len()).filter(|index| is_new(&self.outbox[*index])).collect();
        if new.len() <= MAX_INCIDENTS {
            return;
        }
        let incident = format!("{}{AND_OTHERS}", self.outbox[new[0]].incident);
        for index in new {
            let pending = &mut self.outbox[index];
            pending.incident.clone_from(&incident);
            if let Some(contact) = self
                .episodes
                .get_mut(&pending.monitor)
                .and_then(|episode| episode.contacts.get_mut(channel))
            {
                contact.incident.clone_from(&incident);
            }
        }
    }

    /// Drops the ends of members of an open incident: it ends with the last of its alarms.
    fn drop_members_of_open_incidents(&mut self) {
        let mut open: BTreeSet<(&ChannelId, &str)> = BTreeSet::new();
        for contacts in self.episodes.values().map(|episode| &episode.contacts) {
            for (channel, contact) in contacts {
                if contact.heard > Notified::No && contact.incident.ends_with(AND_OTHERS) {
                    open.insert((channel, &contact.incident));
                }
            }
        }
        if open.is_empty() {
            return;
        }
        self.outbox.retain(|pending| {
            pending.why != NotificationKind::Cleared
                || pending.attempting
                || pending.doubtful
                || !open.contains(&(&pending.channel, pending.incident.as_str()))
        });
    }

    /// Records that a channel was notified of an alarm, or may have been; returns whether the alarm
    /// is still open there.
    pub(super) fn heard(&mut self, message: &Pending, heard: Notified) -> bool {
        let episode = self.episodes.get_mut(&message.monitor);
        let contact = episode
            .filter(|episode| episode.raised_at == message.alarm)
            .and_then(|episode| episode.contacts.get_mut(&message.channel));
        let Some(contact) = contact else { return false };
        contact.heard = contact.heard.max(heard);
        contact.incident.clone_from(&message.incident);
        true
    }

    /// Confirms the ends of alarms that ended while they were being sent as these incidents.
    fn confirm_ends(&mut self, heard: &HashMap<About, String>) {
        if heard.is_empty() {
            return;
        }
        for pending in
            self.outbox.iter_mut().filter(|pending| pending.why == NotificationKind::Cleared)
        {
            if let Some(incident) = heard.get(&pending.about()) {
                pending.doubtful = false;
                pending.incident.clone_from(incident);
            }
        }
    }

    /// Returns whether an alarm is open and uses this channel.
    pub(super) fn is_open(&self, message: &Pending) -> bool {
        self.episodes.get(&message.monitor).is_some_and(|episode| {
            episode.raised_at == message.alarm && episode.contacts.contains_key(&message.channel)
        })
    }

    /// Drops notifications of ended alarms, and those of their ends if no one was notified of the
    /// alarm.
    pub(super) fn drop_what_is_over(&mut self) {
        let outbox = std::mem::take(&mut self.outbox);
        let sending = outbox
            .iter()
            .filter(|pending| pending.attempting && pending.why != NotificationKind::Cleared);
        let sending: HashSet<About> = sending.map(Pending::about).collect();
        self.outbox = outbox
            .into_iter()
            .filter(|pending| match pending.why {
                _ if pending.attempting => true,
                // The alarm was not accepted after all.
                NotificationKind::Cleared => {
                    !pending.doubtful || sending.contains(&pending.about())
                }
                _ => self.is_open(pending),
            })
            .collect();
    }

    /// Joins alarms that were first reported in the same mail into one thread.
    fn join_threads(&mut self, messages: &[Pending]) {
        let Some(first) = messages.first().filter(|first| first.why == NotificationKind::Raised)
        else {
            return;
        };
        if messages.len() < 2 {
            return;
        }
        let thread = first.thread.clone().unwrap_or_else(|| thread_of(first));
        for message in messages.iter().filter(|message| message.why == NotificationKind::Raised) {
            let episode = self.episodes.get_mut(&message.monitor);
            let contact = episode
                .filter(|episode| episode.raised_at == message.alarm)
                .and_then(|episode| episode.contacts.get_mut(&message.channel));
            if let Some(contact) = contact {
                contact.thread.get_or_insert_with(|| thread.clone());
            }
        }
        let joined: HashSet<About> = messages.iter().map(Pending::about).collect();
        for pending in self.outbox.iter_mut().filter(|pending| joined.contains(&pending.about())) {
            pending.thread.get_or_insert_with(|| thread.clone());
        }
    }

    /// Removes accepted notifications from the outbox, and postpones the others; returns the
    /// resulting events.
    pub(super) fn settle(
        &mut self,
        report: Report,
        counts_incidents: bool,
        now: Now,
    ) -> Vec<Event> {
        (self.changed, self.urgent) = (true, true);
        let mut answers: HashMap<&str, (&Pending, &AttemptResult)> = HashMap::new();
        for (messages, tried) in &report.results {
            if matches!(tried, AttemptResult::Answered(Ok(_))) {
                self.join_threads(messages);
            }
            answers.extend(messages.iter().map(|message| (message.id.as_str(), (message, tried))));
        }
        let (mut events, mut ended) = (Vec::new(), HashMap::new());
        let mut rest = Vec::new();
        for mut pending in std::mem::take(&mut self.outbox) {
            let answer =
                answers.get(pending.id.as_str()).filter(|_| pending.channel == report.channel);
            let Some((message, tried)) = answer else {
                rest.push(pending);
                continue;
            };
            pending.attempting = false;
            pending.incident.clone_from(&message.incident);
            let mut settling =
                Settling { pending, counts_incidents, now, events: &mut events, ended: &mut ended };
            let stays = match tried {
                AttemptResult::HeldBack => settling.hold_back(),
                AttemptResult::Answered(Ok(accepted)) => settling.accepted(self, accepted),
                AttemptResult::Answered(Err(refused)) => settling.refused(self, refused),
            };
            if stays {
                rest.push(settling.pending);
            }
        }
        // A server's request for a pause (Retry-After) applies to all messages of its channel,
        // including future ones.
        let asked = report.results.iter().filter_map(|(_, tried)| match tried {
            AttemptResult::Answered(Err(refused)) => refused.retry_after,
            _ => None,
        });
        if let Some(patience) = asked.max() {
            self.patience.insert(report.channel.clone(), now.steady + patience);
            for pending in rest.iter_mut().filter(|pending| pending.channel == report.channel) {
                pending.next_try = pending.next_try.max(now.steady + patience);
            }
        }
        self.outbox = rest;
        self.confirm_ends(&ended);
        self.drop_what_is_over();
        events
    }

    /// Drops channels that no alarm or message refers to any more.
    pub(super) fn forget_channels(&mut self) {
        let outbox = self.outbox.iter().map(|pending| &pending.channel);
        let contacts = self.episodes.values().flat_map(|episode| episode.contacts.keys());
        let used: HashSet<ChannelId> = outbox.chain(contacts).cloned().collect();
        self.origins.retain(|channel, _| used.contains(channel));
        self.usable.retain(|channel, _| used.contains(channel));
    }
}

/// Offers messages to a channel in their order, using `attempt`. A message that was not accepted
/// delays later ones about the same monitor; a channel that rejects several in a row gets no more
/// for now.
pub(super) async fn offer<F>(
    counts_incidents: bool,
    messages: Vec<Pending>,
    mut attempt: impl FnMut(Vec<Pending>) -> F,
) -> Vec<(Vec<Pending>, AttemptResult)>
where
    F: Future<Output = Result<Accepted, Refused>>,
{
    let (mut results, mut held, mut refusals) = (Vec::new(), BTreeSet::new(), 0);
    for group in divide(counts_incidents, messages) {
        if refusals >= MAX_REFUSALS || group.iter().any(|message| held.contains(&message.monitor)) {
            held.extend(group.iter().map(|message| message.monitor.clone()));
            results.push((group, AttemptResult::HeldBack));
            continue;
        }
        let result = attempt(group.clone()).await;
        if let Err(refused) = &result {
            refusals = if refused.retry_after.is_some() { MAX_REFUSALS } else { refusals + 1 };
            held.extend(group.iter().map(|message| message.monitor.clone()));
        } else {
            refusals = 0;
        }
        results.push((group, AttemptResult::Answered(result)));
    }
    results
}

/// Divides messages into batches, in the order of the first change in each. Services that count
/// incidents get one per alarm.
pub(super) fn divide(counts_incidents: bool, messages: Vec<Pending>) -> Vec<Vec<Pending>> {
    let mut groups: Vec<Vec<Pending>> = Vec::new();
    for message in messages {
        let goes_with = |group: &Vec<Pending>| {
            let Some(first) = group.first() else {
                return false;
            };
            if counts_incidents {
                let (ends, ended) = (
                    message.why == NotificationKind::Cleared,
                    first.why == NotificationKind::Cleared,
                );
                return message.incident == first.incident && ends == ended;
            }
            // Their recipients may differ.
            message.left == first.left
        };
        // Only in the last group of its monitor or a later one, to keep messages about one monitor
        // in order.
        let after = groups
            .iter()
            .rposition(|group| group.iter().any(|other| other.monitor == message.monitor))
            .unwrap_or(0);
        match groups.iter().skip(after).position(goes_with) {
            Some(index) => groups[after + index].push(message),
            None => groups.push(vec![message]),
        }
    }
    groups
}
