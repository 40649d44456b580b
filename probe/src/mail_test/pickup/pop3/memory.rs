//! State of a mailbox between POP3 visits.

use std::collections::{HashMap, HashSet};

use super::{super::PickupError, listing::Entry};
use crate::mail_test::evidence::Moment;

/// Maximum number of new mails that are inspected in one visit, newest first.
const NEW_A_VISIT: usize = 256;
/// Maximum number of older mails, from before the first visit, that are inspected in one visit.
const OLD_A_VISIT: usize = 32;
/// Maximum number of retrieved but still present mails that are deleted again in one visit.
const TAKEN_A_VISIT: usize = 32;
/// Number of visits that try to delete a mail again before it is left alone.
const LET_LIE_AFTER: u8 = 3;
/// Number of newest mails that are inspected each time on a server without UIDL, where nothing can
/// be remembered.
const WITHOUT_UIDL: usize = 64;
/// Number of visits that may end at an unreadable mail before it is skipped.
const UNREADABLE_AFTER: u8 = 3;
/// Number of visits in which a server may refuse a mail, or return nothing, before it is skipped.
const REFUSED_AFTER: u8 = 100;
/// Number of refused TOP commands after which a server that has never answered one counts as one
/// without TOP.
const NO_TOP_AFTER: u8 = 3;

/// State of a mail in the mailbox.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) not_shown: Option<Moment>,
    pub(super) shown: Moment,
    pub(super) state: State,
    /// Number of visits in which it could not be read or, once retrieved, had to be deleted again.
    pub(super) failures: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It arrived between two visits.
    New,
    /// It was present at the first visit.
    Old,
    /// It is a foreign mail.
    Foreign,
    /// It was retrieved but is still present, so the deletion did not take effect. The nonce
    /// identifies our mail.
    Taken([u8; 8]),
}

/// State between visits.
#[derive(Debug, Default)]
pub(in crate::mail_test::pickup) struct Memory {
    pub(super) seen: HashMap<String, Seen>,
    /// Time of the last login after which the mailbox was listed.
    pub(super) listed: Option<Moment>,
    /// Commands and login methods that this server does not support.
    pub(super) lacks: HashSet<&'static str>,
    /// Time at which a mail was skipped because it could not be read, and the reason.
    pub(super) unreadable: Option<(Moment, PickupError)>,
    /// Whether the server supports TOP: it lists it, or has answered it.
    pub(super) has_top: bool,
    top_refusals: u8,
}

impl Memory {
    /// Records that TOP was refused. Mails are retrieved completely only from a server without TOP,
    /// because that marks other people's mails as read. A server that refuses a single mail, or all
    /// of them for a while, is asked again.
    pub(super) fn note_refused_top(&mut self, text: &str) {
        let lower = text.to_ascii_lowercase();
        let unknown = [
            "unknown",
            "unrecogni",
            "not implemented",
            "unsupported",
            "not supported",
            "invalid command",
            "bad command",
            "no such command",
            "no top",
            "disabled",
        ];
        self.top_refusals = self.top_refusals.saturating_add(1);
        let says_so = unknown.iter().any(|word| lower.contains(word));
        if !self.has_top && (says_so || self.top_refusals >= NO_TOP_AFTER) {
            self.lacks.insert("TOP");
        }
    }

    /// Records a listing: drops mails that are gone, and stores new ones with their bounds.
    pub(super) fn note_listing(&mut self, entries: &[Entry], fresh: Seen, login_began: Moment) {
        let first = self.seen.is_empty() && self.listed.is_none();
        let mut seen = HashMap::with_capacity(entries.len());
        for entry in entries {
            if let Some(identifier) = &entry.identifier {
                let known = self.seen.remove(identifier).unwrap_or(Seen {
                    state: if first { State::Old } else { State::New },
                    ..fresh
                });
                seen.insert(identifier.clone(), known);
            }
        }
        self.seen = seen;
        // Without identifiers, a skipped mail can't be distinguished from a later one, so only a
        // visit that inspected everything shows which mails were absent.
        let remembers = entries.iter().all(|entry| entry.identifier.is_some());
        self.listed = remembers.then_some(login_began);
    }

    /// Selects the mails that a visit inspects, newest first, and those that it deletes again.
    pub(super) fn choose<'a>(&self, entries: &'a [Entry], fresh: Seen) -> Chosen<'a> {
        let (mut new, mut old, mut without) = (NEW_A_VISIT, OLD_A_VISIT, WITHOUT_UIDL);
        let (mut unknown, mut taken) = (Vec::new(), Vec::new());
        for entry in entries.iter().rev() {
            let seen = entry.identifier.as_ref().and_then(|identifier| self.seen.get(identifier));
            let known = seen.copied().unwrap_or(fresh);
            let budget = match (known.state, &entry.identifier) {
                (State::Foreign, _) => continue,
                (State::Taken(nonce), _) => {
                    if taken.len() < TAKEN_A_VISIT {
                        taken.push((entry, nonce));
                    }
                    continue;
                }
                (_, None) => &mut without,
                (State::New, _) => &mut new,
                (State::Old, _) => &mut old,
            };
            if *budget > 0 {
                *budget -= 1;
                unknown.push((entry, known));
            }
        }
        // Mails that could not be read before come last, because they may end the session.
        unknown.sort_by_key(|(_, known)| known.failures > 0);
        Chosen { unknown, taken, is_complete: without > 0 }
    }

    pub(super) fn note_state(&mut self, entry: &Entry, state: State) {
        if let Some(identifier) = &entry.identifier
            && let Some(seen) = self.seen.get_mut(identifier)
        {
            seen.state = state;
            seen.failures = 0;
        }
    }

    /// Stops deleting one of our mails that is still present after some attempts; the next start
    /// deletes it.
    pub(super) fn note_deletion(&mut self, entry: &Entry) {
        if let Some(identifier) = &entry.identifier
            && let Some(seen) = self.seen.get_mut(identifier)
        {
            seen.failures += 1;
            if seen.failures >= LET_LIE_AFTER {
                seen.state = State::Foreign;
            }
        }
    }

    /// Records a failed mail. A mail that can't be read must not end every visit, but the
    /// connection may also be the cause.
    pub(super) fn note_failure(&mut self, entry: &Entry, error: &PickupError) {
        if let Some(identifier) = &entry.identifier
            && let Some(seen) = self.seen.get_mut(identifier)
        {
            seen.failures += 1;
            let most = if error.is_passing { REFUSED_AFTER } else { UNREADABLE_AFTER };
            if seen.failures >= most {
                seen.state = State::Foreign;
                self.unreadable = Some((Moment::now(), error.clone()));
            }
        }
    }
}

/// The listed mails selected for a visit.
pub(super) struct Chosen<'a> {
    /// Mails to inspect.
    pub(super) unknown: Vec<(&'a Entry, Seen)>,
    /// Retrieved mails that are still present.
    pub(super) taken: Vec<(&'a Entry, [u8; 8])>,
    /// Whether all mails without an identifier are among them.
    pub(super) is_complete: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_rejected_top_does_not_mean_a_server_without_top() {
        let lacks = |has_top: bool, refusals: &[&str]| {
            let mut memory = Memory { has_top, ..Memory::default() };
            refusals.iter().for_each(|text| memory.note_refused_top(text));
            memory.lacks.contains("TOP")
        };
        assert!(!lacks(false, &["temporary problem, try later"]));
        assert!(lacks(false, &["Unknown command"]));
        assert!(lacks(false, &["", "", ""]));
        assert!(!lacks(true, &["Unknown command", "", "", ""]), "it lists TOP, or has answered it");
    }
}
