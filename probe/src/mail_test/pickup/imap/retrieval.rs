//! Inspects the mails of a folder, and retrieves ours.

use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use mailqos_model::{Micros, Placement, Stage, UtcMicros};

use super::{
    super::{Action, Finding, Found, KEPT_OF_MAIL, MailClassifier, PickupError, Visit, finding},
    Folder, MAX_LISTING, OwnMail, Seen, TRIES,
    listing::{fetch_some, set},
    session::Session,
};
use crate::mail_test::{
    classify::{Classification, classify, may_notify},
    evidence::Moment,
    token::Token,
};

/// Maximum size in bytes of our mails that are read.
const MAX_MAIL: usize = 128 * 1024 * 1024;
/// Number of mails that are inspected together.
const BATCH: usize = 16;
/// Number of bytes of a body to inspect if the header does not identify a message as ours: it may
/// be a notification.
const BODY_BYTES: usize = 16 * 1024;
/// Additional number of bytes read of a possible notification, in pieces, because pictures and HTML
/// may precede the returned mail.
const NOTIFICATION_BYTES: usize = 512 * 1024;
/// Number of attempts after which a mail counts as one without a body.
const BODY_TRIES: u8 = 5;

/// Retrieves our mails from a folder.
pub(super) struct Retrieval<'a> {
    pub(super) session: &'a mut Session,
    pub(super) folder: &'a mut Folder,
    pub(super) judge: &'a dyn MailClassifier,
}

/// Result of reading a batch of mails.
#[derive(Default)]
struct Read {
    /// Mails that are now classified.
    decided: HashSet<u64>,
    /// Reason why the server did not return all of them.
    refusal: Option<PickupError>,
}

/// Headers of mails that are not classified yet, with the server's date.
type Unknown = HashMap<u64, (Option<UtcMicros>, Vec<u8>)>;

impl Retrieval<'_> {
    /// Inspects the new mails for ours. Mails at which an earlier session broke are read last, if
    /// `again` is set. A mail is finished only after it was read completely, because a server may
    /// list it before it can return it.
    pub(super) async fn examine(&mut self, began: Moment, again: bool) -> Result<(), PickupError> {
        let mut failure = None;
        loop {
            // Newest mails first.
            let mut batch: Vec<(u64, Seen)> =
                self.folder.fresh.iter().rev().map(|(uid, seen)| (*uid, *seen)).collect();
            batch.retain(|(_, seen)| seen.broke == again && seen.is_due(began));
            batch.sort_by_key(|(_, seen)| seen.tries);
            batch.truncate(if again { 1 } else { BATCH });
            if batch.is_empty() {
                return failure.map_or(Ok(()), Err);
            }
            for (uid, _) in &batch {
                match self.folder.fresh.get_mut(uid) {
                    Some(seen) if seen.tries < TRIES => {
                        seen.note_try();
                        seen.broke = true;
                    }
                    _ => {
                        self.folder.fresh.remove(uid);
                    }
                }
            }
            let mark = self.session.wire.mark();
            let read = self.read(&batch, mark).await?;
            for (uid, _) in &batch {
                if read.decided.contains(uid) {
                    self.folder.fresh.remove(uid);
                } else if let Some(seen) = self.folder.fresh.get_mut(uid) {
                    seen.broke = read.refusal.is_some();
                }
            }
            if let Some(refusal) = read.refusal {
                failure.get_or_insert(PickupError { is_passing: true, ..refusal });
            }
        }
    }

    /// Reads the headers of a batch and, if a header contains no token, the beginning of the body.
    /// Records which mails are ours.
    async fn read(&mut self, batch: &[(u64, Seen)], mark: usize) -> Result<Read, PickupError> {
        let stage = Stage::PickupReceive;
        let mut read = Read::default();
        let uids = set(batch.iter().map(|(uid, _)| *uid));
        let command = format!("UID FETCH {uids} (UID INTERNALDATE BODY.PEEK[HEADER])");
        let (heads, refusal) = fetch_some(self.session, stage, &command, MAX_LISTING).await?;
        read.refusal = refusal;
        let mut unknown = HashMap::new();
        for head in heads {
            // No mail has an empty header.
            let Some(content) = head.section.filter(|content| !content.trim_ascii().is_empty())
            else {
                continue;
            };
            let content = whole_header(content);
            match classify(self.judge, &content) {
                Classification::TestMail(token) => {
                    self.note(batch, head.uid, (token, Finding::Mail), (head.date, content));
                    read.decided.insert(head.uid);
                }
                _ => {
                    unknown.insert(head.uid, (head.date, content));
                }
            }
        }
        unknown.retain(|uid, _| batch.iter().any(|(known, _)| known == uid));
        if !unknown.is_empty() {
            self.read_bodies(batch, unknown, &mut read).await?;
        }
        if batch.iter().any(|(uid, _)| !self.folder.ours.contains_key(uid)) {
            // These may be other people's mails; ours are read completely later.
            self.session.wire.withhold(mark);
        }
        Ok(read)
    }

    /// Reads the beginnings of bodies, and more of messages that may be notifications.
    async fn read_bodies(
        &mut self,
        batch: &[(u64, Seen)],
        mut unknown: Unknown,
        read: &mut Read,
    ) -> Result<(), PickupError> {
        let uids = set(unknown.keys().copied());
        let command = format!("UID FETCH {uids} (UID BODY.PEEK[TEXT]<0.{BODY_BYTES}>)");
        let (bodies, refusal) =
            fetch_some(self.session, Stage::PickupReceive, &command, MAX_LISTING).await?;
        read.refusal = read.refusal.take().or(refusal);
        let mut more = Vec::new();
        for body in bodies {
            if let Some(section) = body.section
                && let Some((date, mut content)) = unknown.remove(&body.uid)
            {
                let is_cut = section.len() >= BODY_BYTES;
                let may_notify = is_cut && may_notify(&content);
                content.extend_from_slice(&section);
                match finding(self.judge, &content) {
                    None if may_notify => {
                        more.push((body.uid, date, content));
                        continue;
                    }
                    Some(found) => self.note(batch, body.uid, found, (date, content)),
                    None => {}
                }
                read.decided.insert(body.uid);
            }
        }
        for (uid, date, content) in more {
            match self.look_further(uid, content).await? {
                Ok(found) => {
                    if let Some((found, content)) = found {
                        self.note(batch, uid, found, (date, content));
                    }
                    read.decided.insert(uid);
                }
                Err(refusal) => {
                    read.refusal.get_or_insert(refusal);
                }
            }
        }
        // A body that never arrives counts as missing (NIL).
        let bodiless = batch
            .iter()
            .filter(|(uid, seen)| unknown.contains_key(uid) && seen.tries >= BODY_TRIES);
        read.decided.extend(bodiless.map(|(uid, _)| *uid));
        Ok(())
    }

    /// Reads more of a possible notification until the returned mail is found or the limit is
    /// reached. Otherwise returns the reason why the server does not return more.
    async fn look_further(
        &mut self,
        uid: u64,
        mut content: Vec<u8>,
    ) -> Result<Result<Option<((Token, Finding), Vec<u8>)>, PickupError>, PickupError> {
        let mut from = BODY_BYTES;
        while from < NOTIFICATION_BYTES {
            let command = format!("UID FETCH {uid} (UID BODY.PEEK[TEXT]<{from}.{KEPT_OF_MAIL}>)");
            let (fetched, refusal) =
                fetch_some(self.session, Stage::PickupReceive, &command, MAX_LISTING).await?;
            if let Some(refusal) = refusal {
                return Ok(Err(refusal));
            }
            let mut pieces = fetched.into_iter().filter(|fetched| fetched.uid == uid);
            let Some(piece) = pieces.find_map(|fetched| fetched.section) else {
                break;
            };
            content.extend_from_slice(&piece);
            if let Some(found) = finding(self.judge, &content) {
                return Ok(Ok(Some((found, content))));
            }
            if piece.len() < KEPT_OF_MAIL {
                break;
            }
            from += KEPT_OF_MAIL;
        }
        Ok(Ok(None))
    }

    fn note(
        &mut self,
        batch: &[(u64, Seen)],
        uid: u64,
        (token, finding): (Token, Finding),
        (date, head): (Option<UtcMicros>, Vec<u8>),
    ) {
        let Some((_, seen)) = batch.iter().find(|(known, _)| *known == uid) else {
            return;
        };
        let seen = *seen;
        let ours = OwnMail { token, finding, seen, date, head };
        self.folder.ours.insert(uid, ours);
    }

    /// Retrieves those of our mails that a test waits for, and schedules mails for deletion.
    pub(super) async fn take(&mut self, name: &str, visit: &mut Visit) -> Result<(), PickupError> {
        let mut failure = None;
        let uids: Vec<u64> = self.folder.ours.keys().copied().collect();
        for uid in uids {
            let Some(ours) = self.folder.ours.get_mut(&uid) else {
                continue;
            };
            let action = self.judge.action(&ours.token);
            if action == Action::Keep {
                ours.head = Vec::new();
                continue;
            }
            if ours.seen.tries > 0 && !ours.seen.is_due(visit.began) {
                continue;
            }
            let nonce = ours.token.nonce;
            let mut found = Found {
                token: ours.token.clone(),
                finding: ours.finding.clone(),
                not_shown: ours.seen.not_shown,
                shown: ours.seen.shown,
                receive: None,
                folder: Some(name.to_owned()),
                placement: Some(Placement::of_folder(name)),
                landed: ours.date,
                notified: ours.seen.announced,
                mail: ours.head.clone(),
            };
            if action == Action::Collect {
                match retrieve(self.session, (uid, self.judge), ours, &mut found).await {
                    Ok(true) => {}
                    Ok(false) => {
                        // Whatever the server returned before, this is not the mail that it
                        // appeared to be.
                        self.folder.ours.remove(&uid);
                        continue;
                    }
                    Err(error) => {
                        visit.found.push(found);
                        if !error.is_passing {
                            return Err(error);
                        }
                        if ours.seen.tries >= TRIES {
                            self.folder.ours.remove(&uid);
                        }
                        failure.get_or_insert(error);
                        continue;
                    }
                }
            }
            self.folder.ours.remove(&uid);
            if found.finding.is_deletable() {
                self.folder.doomed.insert(uid, nonce);
            }
            visit.found.push(found);
        }
        failure.map_or(Ok(()), Err)
    }
}

/// Returns a header with the empty line at its end, which some servers omit. A truncated header
/// stays without it.
pub(super) fn whole_header(mut content: Vec<u8>) -> Vec<u8> {
    let has_end = content.ends_with(b"\r\n\r\n") || content.ends_with(b"\n\n");
    if !has_end && content.len() < KEPT_OF_MAIL {
        let end: &[u8] = if content.ends_with(b"\n") { b"\r\n" } else { b"\r\n\r\n" };
        content.extend_from_slice(end);
    }
    content
}

/// Reads one of our mails completely; returns whether it is the mail that its beginning indicated.
async fn retrieve(
    session: &mut Session,
    (uid, judge): (u64, &dyn MailClassifier),
    ours: &mut OwnMail,
    found: &mut Found,
) -> Result<bool, PickupError> {
    let stage = Stage::PickupReceive;
    let began = Instant::now();
    session.literal_at = None;
    ours.seen.note_try();
    let command = format!("UID FETCH {uid} (UID BODY.PEEK[])");
    let (fetched, refusal) = fetch_some(session, stage, &command, MAX_MAIL).await?;
    // Other responses before or after it may report changed flags.
    let mut sections = fetched.into_iter().filter(|fetched| fetched.uid == uid);
    let content =
        sections.find_map(|fetched| fetched.section.filter(|content| !content.is_empty()));
    let Some(content) = content else {
        let missing = "the server listed the test mail but does not return its content; another program may \
            have removed it";
        return Err(PickupError {
            is_passing: true,
            ..refusal.unwrap_or_else(|| PickupError::new(stage, missing))
        });
    };
    let ended = session.literal_at.unwrap_or_else(|| session.wire.received_at());
    found.receive = Some(Micros::from(ended.saturating_duration_since(began)));
    Ok(found.read_again(judge, content))
}
