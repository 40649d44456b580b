//! Inspects mails, retrieves ours and deletes them.

use std::{collections::HashMap, time::Instant};

use mailqos_model::{Micros, Stage};

use super::{
    super::{Action, Found, MailClassifier, PickupError, UNREADABLE_FOR, finding},
    MAX_TOP, Pop3,
    listing::Entry,
    memory::{Chosen, Seen, State},
    session::{Answer, MAX_REPLY, Top},
};
use crate::mail_test::{classify::may_notify, evidence::Moment};

/// Maximum size in bytes of our mails that are read.
const MAX_MAIL: usize = 128 * 1024 * 1024;
/// Number of body lines to inspect, because a message may be a notification.
const TOP_LINES: usize = 60;
/// Number of commands that are sent together if the server supports PIPELINING (RFC 2449, section
/// 6.6).
const BATCH: usize = 16;
/// Bytes by which a mail may exceed the size of ours if it must be retrieved for inspection (no
/// TOP): small mails, additions by gateways, and notifications that contain ours.
const MAX_WITHOUT_TOP: u64 = 256 * 1024;

/// Retrieves our mails from a mailbox.
pub(super) struct Retrieval<'a> {
    pub(super) pop3: Pop3<'a>,
    pub(super) judge: &'a dyn MailClassifier,
}

/// The beginning of a mail, or all of it.
struct Beginning {
    mail: Vec<u8>,
    /// Duration of retrieving the whole mail.
    receive: Option<Micros>,
}

/// Result of TOP.
enum TopResult {
    Top(Vec<u8>),
    /// The mail no longer exists.
    Gone,
    /// The server does not support TOP.
    NoTop,
}

/// Reason why one of our mails was not read.
enum Unread {
    /// The server returned another mail.
    MixedUp(PickupError),
    Failed(PickupError),
}

impl Retrieval<'_> {
    /// Lists the mailbox, inspects unknown mails, and retrieves ours.
    pub(super) async fn look(&mut self, login_began: Moment) -> Result<(), PickupError> {
        let began = Instant::now();
        let entries = self.pop3.list().await?;
        let listed = self.pop3.session.wire.received_at();
        self.pop3.visit.phases.list = Some(Micros::from(listed.saturating_duration_since(began)));
        let fresh = Seen {
            not_shown: self.pop3.memory.listed,
            shown: Moment::of(listed),
            state: State::New,
            failures: 0,
        };
        self.pop3.memory.note_listing(&entries, fresh, login_began);
        let Chosen { unknown, taken, is_complete } = self.pop3.memory.choose(&entries, fresh);
        let mut refused: Option<PickupError> = None;
        for batch in unknown.chunks(BATCH) {
            self.examine_batch(batch, &mut refused).await?;
        }
        for (entry, nonce) in taken {
            // Whatever the result: neither a mailbox that refuses nor an unreadable mail should
            // slow down every visit.
            self.pop3.memory.note_deletion(entry);
            if !self.delete_again(entry, nonce).await?
                && let Some(identifier) = &entry.identifier
            {
                // Its time of arrival is unknown; the next visit inspects it.
                let not_shown = None;
                self.pop3.memory.seen.insert(identifier.clone(), Seen { not_shown, ..fresh });
            }
        }
        if is_complete {
            self.pop3.memory.listed = Some(login_began);
        }
        if let Some(error) = refused {
            return Err(error);
        }
        match &self.pop3.memory.unreadable {
            Some((at, error)) if Moment::now() - *at < UNREADABLE_FOR => Err(PickupError {
                text: format!("a mail in the mailbox could not be read: {}", error.text),
                ..error.clone()
            }),
            _ => Ok(()),
        }
    }

    /// Inspects some mails; keeps the first refusal after which the others can still be read.
    async fn examine_batch(
        &mut self,
        batch: &[(&Entry, Seen)],
        refused: &mut Option<PickupError>,
    ) -> Result<(), PickupError> {
        let mut tops = self.tops(batch).await;
        // After an interrupted reply, the rest of it would be mistaken for the next one.
        if let Some((entry, error)) = batch
            .iter()
            .find_map(|(entry, _)| Some((*entry, tops.get(&entry.number)?.as_ref().err()?.clone())))
        {
            self.pop3.memory.note_failure(entry, &error);
            return Err(error);
        }
        for (entry, known) in batch {
            let top = tops.remove(&entry.number).and_then(Result::ok);
            match self.examine(entry, *known, top).await {
                Ok(state) => self.pop3.memory.note_state(entry, state),
                Err(error) if error.is_passing => {
                    self.pop3.memory.note_failure(entry, &error);
                    if Moment::now() - known.shown < UNREADABLE_FOR {
                        refused.get_or_insert(error);
                    }
                }
                Err(error) => {
                    if !self.pop3.visit.found.iter().any(|found| found.receive.is_none()) {
                        self.pop3.memory.note_failure(entry, &error);
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Inspects a mail; retrieves it if it is ours.
    async fn examine(
        &mut self,
        entry: &Entry,
        known: Seen,
        asked: Option<Top>,
    ) -> Result<State, PickupError> {
        let number = entry.number;
        let mark = self.pop3.session.wire.mark();
        let among_others = asked.is_some();
        let Some(Beginning { mail, receive }) = self.beginning(number, asked).await? else {
            return Ok(State::Foreign);
        };
        if mail.trim_ascii().is_empty() {
            return Err(nothing_given(number));
        }
        let mut mail = mail;
        let mut found = finding(self.judge, &mail);
        let is_cut = receive.is_none() && body_lines(&mail) >= TOP_LINES;
        if found.is_none()
            && is_cut
            && may_notify(&mail)
            && let Some(more) = self.pop3.session.look_further(number).await?
        {
            mail = more;
            found = finding(self.judge, &mail);
        }
        let Some((token, what)) = found else {
            self.pop3.session.wire.withhold(mark);
            return Ok(State::Foreign);
        };
        let nonce = token.nonce;
        let action = self.judge.action(&token);
        match action {
            Action::Keep if !what.is_mail() => return Ok(State::Foreign),
            // It is inspected again, and deleted if it stays for long.
            Action::Keep => return Ok(known.state),
            Action::Delete if !what.is_deletable() => return Ok(State::Foreign),
            Action::Delete | Action::Collect => {}
        }
        let mut found = Found {
            token,
            finding: what,
            not_shown: known.not_shown,
            shown: known.shown,
            receive,
            folder: None,
            placement: None,
            landed: None,
            notified: None,
            mail,
        };
        let read = match action {
            Action::Collect if found.receive.is_none() => self.retrieve(number, &mut found).await,
            Action::Delete if among_others => self.confirm(number, &mut found).await,
            _ => Ok(()),
        };
        match read {
            Err(Unread::MixedUp(error)) => {
                self.pop3.session.wire.withhold(mark);
                return Err(error);
            }
            Err(Unread::Failed(error)) => {
                if action == Action::Collect {
                    self.pop3.visit.found.push(found);
                }
                return Err(error);
            }
            Ok(()) => {}
        }
        if action == Action::Delete {
            found.receive = None;
        }
        let is_deletable = found.finding.is_deletable();
        self.pop3.visit.found.push(found);
        if !is_deletable {
            return Ok(State::Foreign);
        }
        self.pop3.session.delete(number).await?;
        Ok(State::Taken(nonce))
    }

    /// Returns the beginning of a mail, by TOP, or all of a small one if the server does not
    /// support TOP. Returns `None` if it is gone, or too large to be ours.
    async fn beginning(
        &mut self,
        number: u64,
        asked: Option<Top>,
    ) -> Result<Option<Beginning>, PickupError> {
        if !self.pop3.memory.lacks.contains("TOP") {
            match self.top_of(number, asked).await? {
                TopResult::Top(mail) => {
                    return Ok(Some(Beginning { mail, receive: None }));
                }
                TopResult::Gone => return Ok(None),
                TopResult::NoTop => {}
            }
        }
        let stage = Stage::PickupReceive;
        self.pop3.session.send(stage, &format!("LIST {number}"), MAX_REPLY).await?;
        let size = match self.pop3.session.answer(stage).await? {
            Answer::Ok(text) => text.split_whitespace().nth(1).and_then(|size| size.parse().ok()),
            Answer::Err(_) => None,
        };
        if size.is_none_or(|size: u64| size > MAX_WITHOUT_TOP + self.judge.largest()) {
            return Ok(None);
        }
        let began = Instant::now();
        let mail = self.pop3.session.mail(&format!("RETR {number}"), MAX_MAIL).await?;
        let receive = Some(self.pop3.session.since(began));
        Ok(Some(Beginning { mail, receive }))
    }

    /// Returns the top of a mail, which may have been requested already.
    async fn top_of(&mut self, number: u64, asked: Option<Top>) -> Result<TopResult, PickupError> {
        let stage = Stage::PickupReceive;
        let answer = match asked {
            Some(answer) => answer,
            None => {
                self.pop3
                    .session
                    .send(stage, &format!("TOP {number} {TOP_LINES}"), MAX_TOP)
                    .await?;
                self.pop3.session.top().await?
            }
        };
        let text = match answer {
            Ok(mail) => {
                self.pop3.memory.has_top = true;
                return Ok(TopResult::Top(mail));
            }
            Err(text) => text,
        };
        // Deleted by another client in the meantime, or a server without TOP: an empty mailbox does
        // not show which, but LIST does.
        self.pop3.session.send(stage, &format!("LIST {number}"), MAX_REPLY).await?;
        match self.pop3.session.answer(stage).await? {
            Answer::Ok(_) => self.pop3.memory.note_refused_top(&text),
            Answer::Err(_) => return Ok(TopResult::Gone),
        }
        if self.pop3.memory.lacks.contains("TOP") {
            return Ok(TopResult::NoTop);
        }
        Err(PickupError { is_passing: true, ..self.pop3.session.refusal(stage, "TOP", &text) })
    }

    /// Retrieves a mail that a test waits for completely.
    async fn retrieve(&mut self, number: u64, found: &mut Found) -> Result<(), Unread> {
        let began = Instant::now();
        let mail = self.pop3.session.mail(&format!("RETR {number}"), MAX_MAIL).await;
        let mail = mail.map_err(Unread::Failed)?;
        if mail.trim_ascii().is_empty() {
            return Err(Unread::Failed(nothing_given(number)));
        }
        if !found.read_again(self.judge, mail) {
            return Err(Unread::MixedUp(mixed_up(number)));
        }
        found.receive = Some(self.pop3.session.since(began));
        Ok(())
    }

    /// Verifies the top of a mail again before deletion if it was read together with those of
    /// others.
    async fn confirm(&mut self, number: u64, found: &mut Found) -> Result<(), Unread> {
        let again = self.pop3.session.mail(&format!("TOP {number} {TOP_LINES}"), MAX_TOP).await;
        if found.read_again(self.judge, again.map_err(Unread::Failed)?) {
            Ok(())
        } else {
            Err(Unread::MixedUp(mixed_up(number)))
        }
    }

    /// Deletes one of our mails that an earlier visit retrieved, if its identifier still belongs to
    /// it: after our mail is gone, a server may reuse the identifier (RFC 1939, section 7). Returns
    /// whether it was deleted.
    async fn delete_again(&mut self, entry: &Entry, nonce: [u8; 8]) -> Result<bool, PickupError> {
        let number = entry.number;
        let (command, most) = if self.pop3.memory.lacks.contains("TOP") {
            (format!("RETR {number}"), MAX_MAIL)
        } else {
            (format!("TOP {number} {TOP_LINES}"), MAX_TOP)
        };
        let mark = self.pop3.session.wire.mark();
        let mail = self.pop3.session.mail(&command, most).await?;
        let is_ours = finding(self.judge, &mail)
            .is_some_and(|(token, finding)| token.nonce == nonce && finding.is_deletable());
        if is_ours {
            self.pop3.session.delete(number).await?;
        } else {
            self.pop3.session.wire.withhold(mark);
        }
        Ok(is_ours)
    }

    /// Requests the tops of several mails together, if the server supports it. Mails that could not
    /// be read before are excluded, because a session that breaks at one of them must not affect
    /// others.
    async fn tops(&mut self, batch: &[(&Entry, Seen)]) -> HashMap<u64, Result<Top, PickupError>> {
        let mut tops = HashMap::new();
        let numbers: Vec<u64> = batch
            .iter()
            .filter(|(_, known)| known.failures == 0)
            .map(|(entry, _)| entry.number)
            .collect();
        if !self.pop3.session.pipelining
            || self.pop3.memory.lacks.contains("TOP")
            || numbers.len() < 2
        {
            return tops;
        }
        let commands: Vec<String> =
            numbers.iter().map(|number| format!("TOP {number} {TOP_LINES}")).collect();
        let mark = self.pop3.session.wire.mark();
        let mut sent =
            self.pop3.session.send(Stage::PickupReceive, &commands.join("\r\n"), MAX_TOP).await;
        for number in numbers {
            let result = match sent {
                Ok(()) => self.pop3.session.top().await,
                Err(error) => Err(error),
            };
            sent = result.as_ref().map(|_| ()).map_err(Clone::clone);
            tops.insert(number, result);
            if sent.is_err() {
                break;
            }
            self.pop3.session.wire.begin(self.pop3.session.step, MAX_TOP);
        }
        // Most of these are other people's mails; ours are read completely later.
        self.pop3.session.wire.withhold(mark);
        tops
    }
}

/// Returns the error for a mail that a server lists before it can return it. It is requested again.
fn nothing_given(number: u64) -> PickupError {
    PickupError {
        is_passing: true,
        ..PickupError::new(
            Stage::PickupReceive,
            &format!(
                "the server lists a mail (number {number}) but does not return it; retrying at each pick-up"
            ),
        )
    }
}

/// Returns the error for a mixed-up reply. Replies are not labelled in POP3, and no foreign mail
/// may be deleted in place of ours.
fn mixed_up(number: u64) -> PickupError {
    let text =
        format!("the server returned a different mail as number {number} than it had listed");
    PickupError::new(Stage::PickupReceive, &text)
}

/// Returns the number of lines in a message's body.
fn body_lines(message: &[u8]) -> usize {
    let body = message.windows(4).position(|window| window == b"\r\n\r\n");
    let body = body.map_or(&[][..], |at| &message[at + 4..]);
    body.iter().filter(|byte| **byte == b'\n').count()
}
