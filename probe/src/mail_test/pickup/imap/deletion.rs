//! Deletes test mails over IMAP, and nothing else.
//!
//! With UIDPLUS (RFC 4315), UID EXPUNGE is used. Without it, EXPUNGE removes everything that is
//! marked as deleted, so it is used only if all of that is ours. Otherwise, our mails stay marked
//! until the program that marked the others expunges the folder. Gmail archives expunged mails, so
//! mails are moved to the trash there, which Gmail empties after 30 days.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use mailqos_model::{Micros, Stage};

use super::{
    super::{Action, MailClassifier, PickupError},
    Folder, MAX_LISTING, Memory, OwnMail, folders,
    listing::{fetch, search, set, sets},
    reply,
    retrieval::whole_header,
    session::{MAX_REPLY, Session},
};
use crate::mail_test::{
    classify::{Classification, classify},
    evidence::Moment,
    token::Token,
};

/// Maximum number of our mails to remember that are left for others.
const MAX_LEFT: usize = 256;
/// Maximum number of foreign marked mails that are inspected in one visit, because they may be
/// ours.
const MARKED_AT_ONCE: usize = 16;
/// Maximum number of foreign marked mails to remember.
const MAX_MARKED: usize = 4096;
/// Time after which the folder is checked again for foreign marked mails.
const LOOK_AGAIN: Micros = Micros::from_secs(600);

/// The mails of a folder to be deleted.
#[derive(Debug, Default)]
pub(super) struct PendingDeletions {
    /// Mails that are not marked yet, each with the nonce that identifies it.
    unmarked: BTreeMap<u64, [u8; 8]>,
    /// UIDs from an earlier visit: their mails are checked again.
    left_over: BTreeSet<u64>,
    /// Mails that are marked as deleted but presumably still present.
    marked: BTreeSet<u64>,
    /// Mails marked by others.
    foreign: BTreeSet<u64>,
    /// Time at which mails marked by others last prevented EXPUNGE.
    blocked: Option<Moment>,
}

impl PendingDeletions {
    pub(super) fn insert(&mut self, uid: u64, nonce: [u8; 8]) {
        self.unmarked.insert(uid, nonce);
    }

    /// Starts a new visit.
    pub(super) fn begin_visit(&mut self) {
        self.left_over = self.unmarked.keys().copied().collect();
    }

    fn is_idle(&self) -> bool {
        let waits = self.blocked.is_some_and(|at| Moment::now() - at < LOOK_AGAIN);
        self.unmarked.is_empty() && (self.marked.is_empty() || waits)
    }
}

impl Folder {
    /// Records that mails are gone. If the server reuses their UIDs, the new mails must not count
    /// as known.
    fn note_gone(&mut self, uids: &BTreeSet<u64>) {
        for uid in uids {
            self.looked.remove(uid);
        }
        let count = uids.len() as u64;
        self.exists = self.exists.map(|exists| exists.saturating_sub(count));
    }
}

/// Deletes the pending mails of the selected folder.
pub(super) async fn delete(
    session: &mut Session,
    name: &str,
    memory: &mut Memory,
    judge: &dyn MailClassifier,
) -> Result<(), PickupError> {
    let Some(folder) = memory.folders.get_mut(name) else {
        return Ok(());
    };
    if folder.doomed.is_idle() {
        return Ok(());
    }
    confirm(session, &mut folder.doomed, judge).await?;
    let is_gmail = session.has("X-GM-EXT-1");
    let has_uidplus = session.has("UIDPLUS");
    if is_gmail && let Some(trash) = folders::trash(session, &mut memory.trash).await? {
        let all: BTreeSet<u64> =
            folder.doomed.unmarked.keys().chain(&folder.doomed.marked).copied().collect();
        if move_to(session, &trash, &all).await? {
            folder.doomed.unmarked.clear();
            folder.doomed.marked.clear();
            folder.note_gone(&all);
            return Ok(());
        }
    }
    mark(session, &mut folder.doomed).await?;
    if has_uidplus {
        for uids in sets(folder.doomed.marked.iter().copied()) {
            session
                .must(Stage::PickupReceive, &format!("UID EXPUNGE {uids}"), MAX_REPLY, |_| {})
                .await?;
        }
        let gone = std::mem::take(&mut folder.doomed.marked);
        folder.note_gone(&gone);
        return Ok(());
    }
    expunge(session, name, folder, judge).await?;
    if !folder.doomed.marked.is_empty()
        && session.has("MOVE")
        && let Some(trash) = folders::trash(session, &mut memory.trash).await?
        && trash != name
        && move_to(session, &trash, &folder.doomed.marked.clone()).await?
    {
        let gone = std::mem::take(&mut folder.doomed.marked);
        folder.note_gone(&gone);
        folder.doomed.blocked = None;
    }
    Ok(())
}

/// Verifies mails that an earlier visit could not mark, because a server may have reused their
/// UIDs.
async fn confirm(
    session: &mut Session,
    doomed: &mut PendingDeletions,
    judge: &dyn MailClassifier,
) -> Result<(), PickupError> {
    let left_over: Vec<u64> = std::mem::take(&mut doomed.left_over)
        .into_iter()
        .filter(|uid| doomed.unmarked.contains_key(uid))
        .collect();
    for uids in left_over.chunks(MARKED_AT_ONCE) {
        let heads = heads(session, uids).await?;
        for uid in uids {
            let nonce = doomed.unmarked[uid];
            let is_ours = heads.iter().any(|(known, head)| {
                known == uid && test_mail(judge, head).is_some_and(|token| token.nonce == nonce)
            });
            if !is_ours {
                doomed.unmarked.remove(uid);
            }
        }
    }
    Ok(())
}

async fn heads(session: &mut Session, uids: &[u64]) -> Result<Vec<(u64, Vec<u8>)>, PickupError> {
    let mark = session.wire.mark();
    let command = format!("UID FETCH {} (UID BODY.PEEK[HEADER])", set(uids.iter().copied()));
    let fetched = fetch(session, Stage::PickupReceive, &command, MAX_LISTING).await;
    // They may belong to other people.
    session.wire.withhold(mark);
    let with_head = |fetched: reply::Fetched| Some((fetched.uid, whole_header(fetched.section?)));
    Ok(fetched?.into_iter().filter_map(with_head).collect())
}

/// Returns the token of a test mail itself, based on its header.
fn test_mail(judge: &dyn MailClassifier, head: &[u8]) -> Option<Token> {
    match classify(judge, head) {
        Classification::TestMail(token) => Some(token),
        _ => None,
    }
}

/// Moves mails to another folder; returns whether the server did it.
async fn move_to(
    session: &mut Session,
    folder: &str,
    uids: &BTreeSet<u64>,
) -> Result<bool, PickupError> {
    let stage = Stage::PickupReceive;
    let target = reply::quote(&reply::utf7(folder));
    let moves = session.has("MOVE");
    for uids in sets(uids.iter().copied()) {
        let verb = if moves { "MOVE" } else { "COPY" };
        let command = format!("UID {verb} {uids} {target}");
        let status = session.command(stage, &command, MAX_REPLY, |_| {}).await?;
        if !status.is_ok() {
            let reason = session.refusal(stage, &command, &status);
            tracing::debug!(folder, %reason, "test mails not moved");
            return Ok(false);
        }
    }
    // A copy is now in the trash; the mail itself still has to be marked and expunged.
    Ok(moves)
}

async fn mark(session: &mut Session, doomed: &mut PendingDeletions) -> Result<(), PickupError> {
    for uids in sets(doomed.unmarked.keys().copied()) {
        let command = format!("UID STORE {uids} +FLAGS.SILENT (\\Deleted)");
        session.must(Stage::PickupReceive, &command, MAX_REPLY, |_| {}).await?;
    }
    doomed.marked.extend(std::mem::take(&mut doomed.unmarked).into_keys());
    Ok(())
}

/// Sends EXPUNGE without UIDPLUS, if all marked mails are ours.
async fn expunge(
    session: &mut Session,
    name: &str,
    folder: &mut Folder,
    judge: &dyn MailClassifier,
) -> Result<(), PickupError> {
    let Some(marked) = search(session, "UID SEARCH DELETED").await?.found() else {
        return Ok(());
    };
    let doomed = &mut folder.doomed;
    let there: HashSet<u64> = marked.iter().copied().collect();
    doomed.marked.retain(|uid| there.contains(uid));
    doomed.foreign.retain(|uid| there.contains(uid));
    let others: Vec<u64> = marked.into_iter().filter(|uid| !doomed.marked.contains(uid)).collect();
    let unknown: Vec<u64> = others
        .iter()
        .copied()
        .filter(|uid| !doomed.foreign.contains(uid))
        .take(MARKED_AT_ONCE)
        .collect();
    if !unknown.is_empty() {
        // An earlier process of the probe may have marked them.
        let heads = heads(session, &unknown).await?;
        for (uid, head) in heads {
            match test_mail(judge, &head).map(|token| judge.action(&token)) {
                Some(Action::Delete) => doomed.marked.insert(uid),
                _ => doomed.foreign.insert(uid),
            };
        }
    }
    if others.iter().all(|uid| doomed.marked.contains(uid)) {
        session.must(Stage::PickupReceive, "EXPUNGE", MAX_REPLY, |_| {}).await?;
        doomed.blocked = None;
        let gone = std::mem::take(&mut doomed.marked);
        folder.note_gone(&gone);
        return Ok(());
    }
    if doomed.blocked.is_none() {
        tracing::warn!(
            folder = name,
            "test mails stay in the mailbox, marked as deleted: the server lacks UIDPLUS, and EXPUNGE would \
             also remove mails that another program has marked as deleted; expunge the folder with that \
             program"
        );
    }
    doomed.blocked = Some(Moment::now());
    for set in [&mut doomed.marked, &mut doomed.foreign] {
        while set.len() > MAX_MARKED {
            set.pop_first();
        }
    }
    Ok(())
}

/// Drops mails that were left for others, once there are many of them. Most are gone by then,
/// because the tests that waited for them have retrieved them.
pub(super) async fn forget_gone(
    session: &mut Session,
    ours: &mut BTreeMap<u64, OwnMail>,
    searches: bool,
) -> Result<(), PickupError> {
    if ours.len() <= MAX_LEFT {
        return Ok(());
    }
    if searches {
        let mut there = HashSet::new();
        let mut complete = true;
        for uids in sets(ours.keys().copied()) {
            match search(session, &format!("UID SEARCH UID {uids}")).await?.found() {
                Some(found) => there.extend(found),
                None => complete = false,
            }
        }
        if complete {
            ours.retain(|uid, _| there.contains(uid));
        }
    }
    if ours.len() > MAX_LEFT {
        // The next start inspects the oldest ones again. Half are dropped together, so that not
        // every visit has to search.
        while ours.len() > MAX_LEFT / 2 {
            ours.pop_first();
        }
    }
    Ok(())
}
