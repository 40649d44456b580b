//! Processing of a channel's response to a message: it is done, it is retried, or it is given up.

use std::collections::HashMap;

use mailqos_base::clock::Now;
use mailqos_model::{Event, EventKind, Micros, Name, UtcMicros};
use mailqos_notify::{Accepted, Refused};

use super::{
    About, NotificationKind, Pending, StoredState,
    episode::{Contact, Notified},
};

/// Longest pause between two attempts.
const MAX_PAUSE: Micros = Micros::from_secs(600);
/// An open incident is closed; this is how long that is attempted.
const CLOSED_WITHIN: Micros = Micros::from_secs(30 * 86_400);
/// Ends of alarms that are older than this are no longer reported.
const ENDED_WITHIN: Micros = Micros::from_secs(86_400);

/// A message whose attempt is being processed.
pub(super) struct Settling<'all> {
    pub(super) pending: Pending,
    pub(super) counts_incidents: bool,
    pub(super) now: Now,
    pub(super) events: &'all mut Vec<Event>,
    /// Alarms that have ended meanwhile and were reported.
    pub(super) ended: &'all mut HashMap<About, String>,
}

impl Settling<'_> {
    fn event(&mut self, kind: EventKind, text: String) {
        let event = event_of(&self.pending, self.now.wall, kind, text);
        self.events.push(event);
    }

    fn heard(&mut self, kept: &mut StoredState, heard: Notified) {
        let pending = &self.pending;
        if pending.why != NotificationKind::Cleared && !kept.heard(pending, heard) {
            self.ended.insert(pending.about(), pending.incident.clone());
        }
    }

    /// Handles a message that was not offered. It waits as long as one that was rejected for the
    /// first time.
    pub(super) fn hold_back(&mut self) -> bool {
        self.pending.next_try = self.now.steady + pause(self.pending.tries.max(1));
        true
    }

    /// Handles acceptance by the channel; returns whether something is left to do.
    pub(super) fn accepted(&mut self, kept: &mut StoredState, accepted: &Accepted) -> bool {
        let words = accepted.words();
        self.heard(kept, Notified::Yes);
        self.reach(kept);
        let pending = &self.pending;
        let episode = kept.episodes.get_mut(&pending.monitor);
        if let Some(episode) = episode.filter(|episode| {
            episode.raised_at == pending.alarm && pending.why != NotificationKind::Cleared
        }) && accepted.is_confirmed()
        {
            episode.notified_at.get_or_insert(self.now.wall);
        }
        let step = pending.step.clone();
        if pending.why == NotificationKind::Escalated && pending.left.is_empty() {
            self.event(EventKind::AlarmEscalated, format!("also notified: {step}"));
        }
        let pending = &self.pending;
        let list = pending.list.as_ref().map_or("none", Name::as_ref);
        let text = format!("{} sent by action list {list}: {words}", pending.why.as_str());
        let detail = serde_json::json!({
            "list": list,
            "why": pending.why.as_str(),
            "confirmed": accepted.is_confirmed(),
            "created": pending.created.max(pending.alarm).0,
        });
        let sent = event_of(pending, self.now.wall, EventKind::NotificationSent, text);
        self.events.push(Event { detail: Some(detail.to_string()), ..sent });
        let Accepted::Partly { left, gone, .. } = accepted else {
            return false;
        };
        if !gone.is_empty() {
            let text = format!("gave up on {}: {words}", gone.join(", "));
            self.event(EventKind::NotificationFailed, text);
        }
        self.miss(kept, left.iter().chain(gone));
        if left.is_empty() {
            return false;
        }
        self.pending.left.clone_from(left);
        let stays = self.put_off(kept);
        if !stays {
            let text = format!("gave up on {}: {words}", left.join(", "));
            self.event(EventKind::NotificationFailed, text);
        }
        stays
    }

    /// Handles a refusal by the channel; returns whether the message is retried.
    pub(super) fn refused(&mut self, kept: &mut StoredState, refused: &Refused) -> bool {
        if refused.maybe {
            self.pending.maybe = true;
            self.heard(kept, Notified::Maybe);
        }
        if let Some(left) = &refused.left {
            let lost: Vec<String> = match self.pending.left.is_empty() {
                true => Vec::new(),
                false => self.pending.left.extract_if(.., |who| !left.contains(who)).collect(),
            };
            if !lost.is_empty() {
                self.event(
                    EventKind::NotificationFailed,
                    format!("gave up on {}: {refused}", lost.join(", ")),
                );
            }
            if left.is_empty() {
                return false;
            }
            self.pending.left.clone_from(left);
        }
        let first = self.pending.tries == 0;
        let was_overdue = self.pending.overdue;
        let stays = !refused.lost && self.put_off(kept);
        let overdue = self.pending.overdue && !was_overdue;
        let prefix = match (stays, overdue) {
            (false, _) => "gave up: ",
            (true, true) => "not accepted in time, retrying while the alarm lasts: ",
            _ => "",
        };
        if first || !stays || overdue {
            self.event(EventKind::NotificationFailed, format!("{prefix}{refused}"));
        }
        stays
    }

    /// Returns the channel's state with respect to the message's alarm.
    fn contact<'kept>(&self, kept: &'kept mut StoredState) -> Option<&'kept mut Contact> {
        let episode = kept.episodes.get_mut(&self.pending.monitor)?;
        let is_its = episode.raised_at == self.pending.alarm
            && self.pending.why != NotificationKind::Cleared;
        episode.contacts.get_mut(&self.pending.channel).filter(|_| is_its)
    }

    /// Records that all recipients received the message, as far as is known.
    fn reach(&self, kept: &mut StoredState) {
        let left = &self.pending.left;
        if let Some(contact) = self.contact(kept) {
            contact.missed.retain(|who| !left.is_empty() && !left.contains(who));
        }
    }

    /// Records recipients that did not receive the alarm, so that they are not notified of its end.
    fn miss<'who>(&self, kept: &mut StoredState, who: impl Iterator<Item = &'who String>) {
        if let Some(contact) = self.contact(kept) {
            contact.missed.extend(who.cloned());
        }
    }

    /// Postpones the message; returns whether it is retried. Notifications of an alarm are retried
    /// as long as it is open; that of its end until the time for retries has passed, and longer if
    /// it closes an incident.
    fn put_off(&mut self, kept: &StoredState) -> bool {
        let pending = &mut self.pending;
        pending.tries = pending.tries.saturating_add(1);
        pending.next_try = self.now.steady + pause(pending.tries);
        let age = pending.next_try - pending.queued;
        pending.overdue |= age > pending.retry_for;
        match pending.why {
            NotificationKind::Cleared if self.counts_incidents => {
                age <= pending.retry_for.max(CLOSED_WITHIN)
            }
            NotificationKind::Cleared => age <= pending.retry_for.max(ENDED_WITHIN),
            _ => kept.is_open(pending),
        }
    }
}

/// Returns the pause after this many attempts: 5 s, 10 s, 20 s … 10 min.
fn pause(tries: u32) -> Micros {
    Micros::from_secs(5i64 << tries.min(8).saturating_sub(1)).min(MAX_PAUSE)
}

/// Creates an event about a message. It is never earlier than its alarm, even if the clock has been
/// set back: readers of the log would otherwise relate it to an earlier alarm.
fn event_of(pending: &Pending, at: UtcMicros, kind: EventKind, text: String) -> Event {
    let at = at.max(pending.alarm + Micros(1));
    let mut event = Event::new(Some(pending.monitor.clone()), at, kind).text(text);
    event.actor = Some(pending.step.clone());
    let created = pending.created.max(pending.alarm);
    event.detail = Some(serde_json::json!({ "created": created.0 }).to_string());
    event
}
