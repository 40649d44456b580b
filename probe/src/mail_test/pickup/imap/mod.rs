//! IMAP (RFC 3501 and RFC 9051, with 4315 UIDPLUS, 4959 SASL-IR, 7888 non-synchronising literals).
//!
//! Mails are read with PEEK, so that no flag of a foreign mail changes; only mails of ours are deleted, by their UIDs.
//! UIDs are remembered between visits, so that a mail is looked into once, and a visit without news costs one SELECT.

mod deletion;
mod folders;
mod listing;
mod login;
mod reply;
mod session;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::Instant,
};

use deletion::Doomed;
use listing::{fetch_some, set};
use mailqos_mail::{Credentials, Wire};
use mailqos_model::{Micros, Stage, UtcMicros};
use reply::Status;
use watch::Witness;

use super::{
    Door, Finding, Found, Judge, KEPT_OF_MAIL, MissingFolder, PickupError, STEPS_A_VISIT, UNREADABLE_FOR, Verdict,
    Visit, finding,
};
use crate::mail_test::{
    classify::{Classification, classify, may_notify},
    evidence::Moment,
    token::Token,
};

pub(in crate::mail_test) use session::Session;
pub(in crate::mail_test) use watch::watch;

/// The longest reply to a search, or to a fetch of several heads.
const MAX_LISTING: usize = 16 * 1024 * 1024;
/// The most that is read of a mail of ours.
const MAX_MAIL: usize = 128 * 1024 * 1024;
/// Mails that are looked into at once.
const BATCH: usize = 16;
/// Bytes of a body that are looked at where the header does not make a message ours: it may be a notification.
const BODY_BYTES: usize = 16 * 1024;
/// So much more is read of what may be a notification, piece by piece: pictures and HTML may stand before the returned mail.
const NOTIFICATION_BYTES: usize = 512 * 1024;
/// How many times a mail that can't be read is tried, after all others; given up too soon, ours would count as lost.
const TRIES: u8 = 100;
/// Tries at every visit; from then on the pauses double, up to the longest one.
const TRIES_IN_A_ROW: u8 = 30;
const LONGEST_PAUSE: Micros = Micros::from_secs(900);
/// Tries after which a mail whose body does not come counts as one without a body.
const BODY_TRIES: u8 = 5;

/// Between which moments a mail landed, as far as the visits tell.
#[derive(Debug, Clone, Copy)]
struct Seen {
    not_shown: Option<Moment>,
    shown: Moment,
    /// When the server had announced it.
    announced: Option<Moment>,
    /// How many times reading it was tried, to no avail.
    tries: u8,
    /// When it was tried last.
    tried: Option<Moment>,
    /// The last try broke the conversation, or was refused: it is tried alone, so that it takes no other mail with it.
    broke: bool,
}

impl Seen {
    /// Whether it is to be read in the visit that began at `began`: once a visit, and ever more rarely.
    fn is_due(&self, began: Moment) -> bool {
        let Some(tried) = self.tried else { return true };
        let beyond = self.tries.saturating_sub(TRIES_IN_A_ROW);
        let pause = match beyond {
            0 => Micros::ZERO,
            _ => Micros((1_000_000_i64 << beyond.min(20)).min(LONGEST_PAUSE.0)),
        };
        tried < began && began - tried >= pause
    }

    fn note_try(&mut self) {
        self.tries = self.tries.saturating_add(1);
        self.tried = Some(Moment::now());
    }

    /// Whether it was listed only a while ago, and has not been read: it may be the mail that a test waits for.
    fn is_missed(&self) -> bool {
        self.tries > 0 && Moment::now() - self.shown < UNREADABLE_FOR
    }
}

/// A mail of ours that is still there.
#[derive(Debug, Clone)]
struct Ours {
    token: Token,
    finding: Finding,
    seen: Seen,
    date: Option<UtcMicros>,
    /// Empty once it has been left for others: it may lie there for a month.
    head: Vec<u8>,
}

/// What is remembered of a folder.
#[derive(Debug, Default)]
struct Folder {
    validity: Option<u64>,
    /// What lies below was listed before.
    next: u64,
    /// UIDNEXT and the number of mails, as the last visit saw them.
    uid_next: Option<u64>,
    exists: Option<u64>,
    /// UIDNEXT was seen to move with a new mail: while it stands still, nothing is new.
    proved: bool,
    /// Visits since the folder was listed.
    unlisted: u8,
    /// When it was listed last, the mails from `next` on were not there yet.
    listed: Option<Moment>,
    /// The same, if UIDNEXT is to be believed.
    checked: Option<Moment>,
    /// Mails to be looked into.
    fresh: BTreeMap<u64, Seen>,
    ours: BTreeMap<u64, Ours>,
    /// Mails of ours that are to be deleted.
    doomed: Doomed,
    /// The highest UIDs that were listed.
    looked: BTreeSet<u64>,
}

impl Folder {
    /// Whether something was listed of which nobody knows yet whether it is ours, or that could not be taken.
    fn has_missed(&self) -> Option<u64> {
        let fresh = self.fresh.iter().map(|(uid, seen)| (*uid, seen));
        let ours = self.ours.iter().map(|(uid, ours)| (*uid, &ours.seen));
        fresh.chain(ours).find(|(_, seen)| seen.is_missed()).map(|(uid, _)| uid)
    }
}

/// What was learnt of a server's ways.
#[derive(Debug, Clone, Default)]
struct Habits {
    /// Commands and ways to log in that the server does not have.
    lacks: HashSet<&'static str>,
    /// The server opens no folder before it knows who the client is.
    wants_id: bool,
}

/// What is remembered between visits.
#[derive(Debug, Default)]
pub(in crate::mail_test) struct Memory {
    folders: HashMap<String, Folder>,
    habits: Habits,
    /// What the watch over the first folder saw.
    witness: Witness,
    trash: folders::Trash,
    /// What to write in place of folders that could not be opened.
    suggestions: HashMap<String, (Moment, String)>,
}

impl Memory {
    /// What a watch needs of it.
    pub(in crate::mail_test) fn for_watch(&self) -> Learnt {
        Learnt {
            habits: self.habits.clone(),
            witness: self.witness.clone(),
        }
    }
}

/// What a watch needs to know of the pick-ups.
#[derive(Debug, Default)]
pub(in crate::mail_test) struct Learnt {
    habits: Habits,
    witness: Witness,
}

/// Whether a server refuses for now only (RFC 5530).
fn is_for_now(status: &Status) -> bool {
    [
        "UNAVAILABLE",
        "SERVERBUG",
        "TEMPFAIL",
        "INUSE",
        "LIMIT",
        "EXPUNGEISSUED",
    ]
    .iter()
    .any(|code| status.says(code))
}

/// Does what a visit is for, on a connection that has just been opened; the session is still to be ended.
pub(super) async fn converse(
    wire: Wire,
    door: &Door,
    credentials: Option<&Credentials>,
    memory: &mut Memory,
    judge: &dyn Judge,
    visit: &mut Visit,
) -> (Session, Result<(), PickupError>) {
    let mut session = Session::new(wire, door.step, door.whereabouts.clone());
    let result = work(&mut session, door, credentials, memory, judge, visit).await;
    (session, result)
}

async fn work(
    session: &mut Session,
    door: &Door,
    credentials: Option<&Credentials>,
    memory: &mut Memory,
    judge: &dyn Judge,
    visit: &mut Visit,
) -> Result<(), PickupError> {
    session.wire.limit(door.step * STEPS_A_VISIT);
    if login::shake_hands(session, door, &mut visit.phases).await? {
        login::log_in(session, credentials, &mut memory.habits, &mut visit.phases).await?;
    }
    login::identify(session, &memory.habits).await?;
    let mut failure = None;
    for (number, name) in door.folders.iter().enumerate() {
        match look(session, name, number == 0, memory, judge, visit).await {
            Ok(None) => {
                memory.suggestions.remove(name);
            }
            Ok(Some(refusal)) => {
                let suggestion = suggestion(session, name, memory).await?;
                let reason = if suggestion.is_empty() {
                    refusal.text.clone()
                } else {
                    format!("{}; {suggestion}", refusal.text)
                };
                // A folder may come into being with its first mail; without the first one there is nothing to measure.
                if number == 0 {
                    failure = Some(PickupError {
                        text: reason.clone(),
                        ..refusal
                    });
                }
                visit.missing.push(MissingFolder {
                    name: name.clone(),
                    reason,
                });
            }
            // What the server does not give now, it may give later; meanwhile the other folders are looked into.
            Err(error) if error.is_passing => failure = failure.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    failure.map_or(Ok(()), Err)
}

/// Logs in, opens each configured folder for reading only, and asks for its last mail's UID.
pub(super) async fn survey(
    wire: Wire,
    door: &Door,
    credentials: Option<&Credentials>,
    memory: &mut Memory,
    visit: &mut Visit,
) -> (Session, Result<(), PickupError>) {
    let mut session = Session::new(wire, door.step, door.whereabouts.clone());
    let result = survey_folders(&mut session, door, credentials, memory, visit).await;
    (session, result)
}

async fn survey_folders(
    session: &mut Session,
    door: &Door,
    credentials: Option<&Credentials>,
    memory: &mut Memory,
    visit: &mut Visit,
) -> Result<(), PickupError> {
    session.wire.limit(door.step * STEPS_A_VISIT);
    if login::shake_hands(session, door, &mut visit.phases).await? {
        login::log_in(session, credentials, &mut memory.habits, &mut visit.phases).await?;
    }
    if session.has("ID") {
        login::send_id(session).await?;
    }
    let began = Instant::now();
    let mut failure = None;
    for name in &door.folders {
        match session.open_folder(name, "EXAMINE").await? {
            Ok(selected) => {
                listing::highest(session, selected.exists.unwrap_or(0)).await?;
            }
            Err(refusal) => {
                let suggestion = folders::suggestion(session, name).await?;
                let reason = if suggestion.is_empty() {
                    refusal.text.clone()
                } else {
                    format!("{}; {suggestion}", refusal.text)
                };
                failure.get_or_insert(PickupError {
                    text: format!("the folder {name:?} can't be opened: {reason}"),
                    is_passing: true,
                    ..refusal
                });
                visit.missing.push(MissingFolder {
                    name: name.clone(),
                    reason,
                });
            }
        }
    }
    let took = session.wire.received_at().saturating_duration_since(began);
    visit.phases.list = Some(Micros::from(took));
    failure.map_or(Ok(()), Err)
}

/// What to write in place of a folder that could not be opened; the server is asked once an hour.
async fn suggestion(session: &mut Session, name: &str, memory: &mut Memory) -> Result<String, PickupError> {
    if let Some((at, suggestion)) = memory.suggestions.get(name)
        && Moment::now() - *at < Micros::from_secs(3600)
    {
        return Ok(suggestion.clone());
    }
    let suggestion = folders::suggestion(session, name).await?;
    tracing::warn!(
        folder = name,
        "a configured folder can't be opened, so it is not searched; {suggestion}"
    );
    memory
        .suggestions
        .insert(name.to_owned(), (Moment::now(), suggestion.clone()));
    Ok(suggestion)
}

/// Looks into a folder, takes what is ours, and deletes it. A refusal to open the folder is given back.
async fn look(
    session: &mut Session,
    name: &str,
    watched: bool,
    memory: &mut Memory,
    judge: &dyn Judge,
    visit: &mut Visit,
) -> Result<Option<PickupError>, PickupError> {
    let began = Instant::now();
    let asked = Moment::of(began);
    let mut answer = session.open_folder(name, "SELECT").await?;
    if answer.is_err() && session.has("ID") && !memory.habits.wants_id {
        // NetEase wants to know who the client is, and says so by a refusal (RFC 2971).
        login::send_id(session).await?;
        answer = session.open_folder(name, "SELECT").await?;
        memory.habits.wants_id = answer.is_ok();
    }
    let selected = match answer {
        Ok(selected) => selected,
        Err(refusal) => return Ok(Some(refusal)),
    };
    list_folder(session, name, watched, memory, selected, began).await?;
    let listed = session.wire.received_at();
    let took = Micros::from(listed.saturating_duration_since(began));
    visit.phases.list = Some(visit.phases.list.unwrap_or_default() + took);
    if let Some(folder) = memory.folders.get_mut(name) {
        folder.doomed.begin_visit();
    }
    let mut failure = None;
    // What broke a conversation before comes last: by then, what else is ours has been taken.
    for again in [false, true] {
        let Some(folder) = memory.folders.get_mut(name) else {
            break;
        };
        let examined = examine(session, folder, judge, asked, again).await;
        // What was read before something went wrong is taken and deleted all the same, if that can be.
        keep_passing(examined, &mut failure)?;
        let result = take(session, name, folder, judge, visit).await;
        let deleted = deletion::delete(session, name, memory, judge).await;
        keep_passing(result, &mut failure)?;
        match deleted {
            Err(error) if visit.found.iter().any(|found| found.receive.is_some()) => {
                tracing::debug!(folder = name, "test mails were not deleted: {error}");
                return Ok(None);
            }
            other => other?,
        }
    }
    let searches = !memory.habits.lacks.contains("SEARCH");
    if let Some(folder) = memory.folders.get_mut(name) {
        deletion::forget_gone(session, &mut folder.ours, searches).await?;
        if failure.is_none()
            && let Some(uid) = folder.has_missed()
        {
            failure = Some(PickupError {
                is_passing: true,
                ..PickupError::new(
                    Stage::PickupReceive,
                    &format!(
                        "the server lists a mail (UID {uid}) in {name}, but does not give its content; it is asked again \
                         at each pick-up"
                    ),
                )
            });
        }
    }
    failure.map_or(Ok(None), Err)
}

/// Keeps the first failure after which the conversation can go on; any other is given back.
fn keep_passing(result: Result<(), PickupError>, failure: &mut Option<PickupError>) -> Result<(), PickupError> {
    match result {
        Err(error) if error.is_passing => {
            failure.get_or_insert(error);
            Ok(())
        }
        result => result,
    }
}

/// Lists what is new in the selected folder, and between which moments it came.
async fn list_folder(
    session: &mut Session,
    name: &str,
    watched: bool,
    memory: &mut Memory,
    selected: listing::Selected,
    began: Instant,
) -> Result<(), PickupError> {
    let asked = Moment::of(began);
    let opened = session.wire.received_at();
    let folder = memory.folders.entry(name.to_owned()).or_default();
    if selected.validity.is_none() || folder.validity != selected.validity || folder.went_back(&selected) {
        if watched && folder.went_back(&selected) {
            memory.witness.distrust();
        }
        // The UIDs of before mean nothing any more; without a validity they never did (RFC 3501, section 6.3.1).
        *folder = Folder {
            validity: selected.validity,
            ..Folder::default()
        };
    }
    if folder.is_unchanged(&selected) {
        folder.note_listing(&selected, None);
        folder.checked = Some(asked);
        return Ok(());
    }
    let before = folder.next;
    let new = folder.list_new(session, &selected, &mut memory.habits).await?;
    let listed = Moment::of(session.wire.received_at());
    // A mail below UIDNEXT was there when the folder was opened, unless UIDNEXT runs ahead of the mails.
    let highest = new
        .uids
        .iter()
        .max()
        .copied()
        .unwrap_or(0)
        .max(before.saturating_sub(1));
    let sane_next = selected.next.filter(|next| *next <= highest + 1);
    let moved = selected.next > folder.uid_next;
    for uid in &new.uids {
        let is_plain = *uid >= before && !new.overlooked.contains(uid);
        // Only the first folder is watched; another one's numbers have another validity, mostly, or are not in the notes.
        let told = match watched && is_plain {
            true => memory.witness.testify(selected.validity, *uid),
            false => watch::Testimony::default(),
        };
        let shown = match sane_next.is_some_and(|next| *uid < next) {
            true => Moment::of(opened),
            false => listed,
        };
        let not_shown = if is_plain && moved {
            folder.checked
        } else {
            folder.listed
        };
        let seen = Seen {
            not_shown: not_shown.max(told.not_shown),
            shown: told.shown.map_or(shown, |told| told.min(shown)),
            announced: told.announced,
            tries: 0,
            tried: None,
            broke: false,
        };
        folder.fresh.insert(*uid, seen);
    }
    folder.note_listing(&selected, Some(&new));
    folder.listed = Some(asked);
    folder.checked = Some(asked);
    Ok(())
}

/// Looks into the fresh mails: which of them are ours? Those on which a conversation broke are left to the end, `again`.
/// A mail is done with only once it was read for certain: a server may list it before it can give it.
async fn examine(
    session: &mut Session,
    folder: &mut Folder,
    judge: &dyn Judge,
    began: Moment,
    again: bool,
) -> Result<(), PickupError> {
    let mut failure = None;
    loop {
        // The newest first.
        let mut batch: Vec<(u64, Seen)> = folder.fresh.iter().rev().map(|(uid, seen)| (*uid, *seen)).collect();
        batch.retain(|(_, seen)| seen.broke == again && seen.is_due(began));
        batch.sort_by_key(|(_, seen)| seen.tries);
        batch.truncate(if again { 1 } else { BATCH });
        if batch.is_empty() {
            return failure.map_or(Ok(()), Err);
        }
        for (uid, _) in &batch {
            match folder.fresh.get_mut(uid) {
                Some(seen) if seen.tries < TRIES => {
                    seen.note_try();
                    seen.broke = true;
                }
                _ => {
                    folder.fresh.remove(uid);
                }
            }
        }
        let mark = session.wire.mark();
        let read = read(session, folder, &batch, judge, mark).await?;
        for (uid, _) in &batch {
            if read.decided.contains(uid) {
                folder.fresh.remove(uid);
            } else if let Some(seen) = folder.fresh.get_mut(uid) {
                seen.broke = read.refusal.is_some();
            }
        }
        if let Some(refusal) = read.refusal {
            failure.get_or_insert(PickupError {
                is_passing: true,
                ..refusal
            });
        }
    }
}

/// A header with the empty line that ends it, which some servers leave out; one that was cut stays without.
fn whole_header(mut content: Vec<u8>) -> Vec<u8> {
    let has_end = content.ends_with(b"\r\n\r\n") || content.ends_with(b"\n\n");
    if !has_end && content.len() < KEPT_OF_MAIL {
        let end: &[u8] = if content.ends_with(b"\n") { b"\r\n" } else { b"\r\n\r\n" };
        content.extend_from_slice(end);
    }
    content
}

/// What reading a batch of mails came to.
#[derive(Default)]
struct Read {
    /// Those of which it is known now whether they are ours.
    decided: HashSet<u64>,
    /// Why the server did not give all of them.
    refusal: Option<PickupError>,
}

/// Reads the heads of a batch and, where a head has no token, the beginning of the body; notes which are ours.
async fn read(
    session: &mut Session,
    folder: &mut Folder,
    batch: &[(u64, Seen)],
    judge: &dyn Judge,
    mark: usize,
) -> Result<Read, PickupError> {
    let stage = Stage::PickupReceive;
    let mut read = Read::default();
    let uids = set(batch.iter().map(|(uid, _)| *uid));
    let command = format!("UID FETCH {uids} (UID INTERNALDATE BODY.PEEK[HEADER])");
    let (heads, refusal) = fetch_some(session, stage, &command, MAX_LISTING).await?;
    read.refusal = refusal;
    let mut unknown = HashMap::new();
    for head in heads {
        // No mail has an empty head.
        let Some(content) = head.section.filter(|content| !content.trim_ascii().is_empty()) else {
            continue;
        };
        let content = whole_header(content);
        match classify(judge, &content) {
            Classification::TestMail(token) => {
                note(folder, batch, head.uid, (token, Finding::Mail), head.date, content);
                read.decided.insert(head.uid);
            }
            _ => {
                unknown.insert(head.uid, (head.date, content));
            }
        }
    }
    unknown.retain(|uid, _| batch.iter().any(|(known, _)| known == uid));
    if !unknown.is_empty() {
        read_bodies(session, folder, batch, (judge, unknown), &mut read).await?;
    }
    if batch.iter().any(|(uid, _)| !folder.ours.contains_key(uid)) {
        // Other people's mails; ours is read as a whole later.
        session.wire.withhold(mark);
    }
    Ok(read)
}

/// Heads of which it is not known yet whose they are, with the server's date.
type Unknown = HashMap<u64, (Option<UtcMicros>, Vec<u8>)>;

/// Reads the beginnings of bodies, and further where a message may be a notification.
async fn read_bodies(
    session: &mut Session,
    folder: &mut Folder,
    batch: &[(u64, Seen)],
    (judge, mut unknown): (&dyn Judge, Unknown),
    read: &mut Read,
) -> Result<(), PickupError> {
    let uids = set(unknown.keys().copied());
    let command = format!("UID FETCH {uids} (UID BODY.PEEK[TEXT]<0.{BODY_BYTES}>)");
    let (bodies, refusal) = fetch_some(session, Stage::PickupReceive, &command, MAX_LISTING).await?;
    read.refusal = read.refusal.take().or(refusal);
    let mut more = Vec::new();
    for body in bodies {
        if let Some(section) = body.section
            && let Some((date, mut content)) = unknown.remove(&body.uid)
        {
            let is_cut = section.len() >= BODY_BYTES;
            let may_notify = is_cut && may_notify(&content);
            content.extend_from_slice(&section);
            match finding(judge, &content) {
                None if may_notify => {
                    more.push((body.uid, date, content));
                    continue;
                }
                Some(found) => note(folder, batch, body.uid, found, date, content),
                None => {}
            }
            read.decided.insert(body.uid);
        }
    }
    for (uid, date, content) in more {
        match look_further(session, judge, uid, content).await? {
            Ok(found) => {
                if let Some((found, content)) = found {
                    note(folder, batch, uid, found, date, content);
                }
                read.decided.insert(uid);
            }
            Err(refusal) => {
                read.refusal.get_or_insert(refusal);
            }
        }
    }
    // A body that never comes is none (NIL).
    let bodiless = batch
        .iter()
        .filter(|(uid, seen)| unknown.contains_key(uid) && seen.tries >= BODY_TRIES);
    read.decided.extend(bodiless.map(|(uid, _)| *uid));
    Ok(())
}

/// Reads on in what may be a notification, until the returned mail has shown up or enough was read; or gives back why the
/// server does not give more.
async fn look_further(
    session: &mut Session,
    judge: &dyn Judge,
    uid: u64,
    mut content: Vec<u8>,
) -> Result<Result<Option<((Token, Finding), Vec<u8>)>, PickupError>, PickupError> {
    let mut from = BODY_BYTES;
    while from < NOTIFICATION_BYTES {
        let command = format!("UID FETCH {uid} (UID BODY.PEEK[TEXT]<{from}.{KEPT_OF_MAIL}>)");
        let (fetched, refusal) = fetch_some(session, Stage::PickupReceive, &command, MAX_LISTING).await?;
        if let Some(refusal) = refusal {
            return Ok(Err(refusal));
        }
        let mut pieces = fetched.into_iter().filter(|fetched| fetched.uid == uid);
        let Some(piece) = pieces.find_map(|fetched| fetched.section) else {
            break;
        };
        content.extend_from_slice(&piece);
        if let Some(found) = finding(judge, &content) {
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
    folder: &mut Folder,
    batch: &[(u64, Seen)],
    uid: u64,
    (token, finding): (Token, Finding),
    date: Option<UtcMicros>,
    head: Vec<u8>,
) {
    let Some((_, seen)) = batch.iter().find(|(known, _)| *known == uid) else {
        return;
    };
    let seen = *seen;
    let ours = Ours {
        token,
        finding,
        seen,
        date,
        head,
    };
    folder.ours.insert(uid, ours);
}

/// Reads those of our mails that a test waits for, and dooms what is not to stay.
async fn take(
    session: &mut Session,
    name: &str,
    folder: &mut Folder,
    judge: &dyn Judge,
    visit: &mut Visit,
) -> Result<(), PickupError> {
    let mut failure = None;
    let uids: Vec<u64> = folder.ours.keys().copied().collect();
    for uid in uids {
        let Some(ours) = folder.ours.get_mut(&uid) else {
            continue;
        };
        let verdict = judge.verdict(&ours.token);
        if verdict == Verdict::Leave {
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
            landed: ours.date,
            notified: ours.seen.announced,
            mail: ours.head.clone(),
        };
        if verdict == Verdict::Take {
            match retrieve(session, (uid, judge), ours, &mut found).await {
                Ok(true) => {}
                Ok(false) => {
                    // Whatever the server gave before, this is not what it was taken for.
                    folder.ours.remove(&uid);
                    continue;
                }
                Err(error) => {
                    visit.found.push(found);
                    if !error.is_passing {
                        return Err(error);
                    }
                    if ours.seen.tries >= TRIES {
                        folder.ours.remove(&uid);
                    }
                    failure.get_or_insert(error);
                    continue;
                }
            }
        }
        folder.ours.remove(&uid);
        if found.finding.is_deletable() {
            folder.doomed.insert(uid, nonce);
        }
        visit.found.push(found);
    }
    failure.map_or(Ok(()), Err)
}

/// Reads a mail of ours as a whole; tells whether it is what its beginning was taken for.
async fn retrieve(
    session: &mut Session,
    (uid, judge): (u64, &dyn Judge),
    ours: &mut Ours,
    found: &mut Found,
) -> Result<bool, PickupError> {
    let stage = Stage::PickupReceive;
    let began = Instant::now();
    session.literal_at = None;
    ours.seen.note_try();
    let command = format!("UID FETCH {uid} (UID BODY.PEEK[])");
    let (fetched, refusal) = fetch_some(session, stage, &command, MAX_MAIL).await?;
    // Others may tell of flags that have changed, before or behind it.
    let mut sections = fetched.into_iter().filter(|fetched| fetched.uid == uid);
    let content = sections.find_map(|fetched| fetched.section.filter(|content| !content.is_empty()));
    let Some(content) = content else {
        let missing = "the server listed the test mail, but does not give its content; has another program removed it?";
        return Err(PickupError {
            is_passing: true,
            ..refusal.unwrap_or_else(|| PickupError::new(stage, missing))
        });
    };
    let ended = session.literal_at.unwrap_or_else(|| session.wire.received_at());
    found.receive = Some(Micros::from(ended.saturating_duration_since(began)));
    Ok(found.read_again(judge, content))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mailqos_base::Secret;

    use super::{super::Whereabouts, *};
    use crate::mail_test::{classify::Known, token::SigningKey};

    /// Leaves every mail for others.
    struct Leaves(SigningKey);

    impl Known for Leaves {
        fn key(&self) -> &SigningKey {
            &self.0
        }
    }

    impl Judge for Leaves {
        fn verdict(&self, _: &Token) -> Verdict {
            Verdict::Leave
        }

        fn largest(&self) -> u64 {
            0
        }
    }

    fn folder(mails: u64) -> Folder {
        let token = Token {
            site: "there".parse().expect("a site"),
            monitor: "mail".parse().expect("an id"),
            sent_at: UtcMicros(0),
            nonce: [1; 8],
        };
        let ours = Ours {
            token,
            finding: Finding::Mail,
            seen: Seen {
                not_shown: None,
                shown: Moment::of_micros(0),
                announced: None,
                tries: 0,
                tried: None,
                broke: false,
            },
            date: None,
            head: b"a head".to_vec(),
        };
        Folder {
            ours: (1..=mails).map(|uid| (uid, ours.clone())).collect(),
            ..Folder::default()
        }
    }

    fn session(said: &str) -> Session {
        let step = Duration::from_secs(10);
        let wire = Wire::scripted(said.as_bytes().to_vec(), step);
        Session::new(wire, step, Whereabouts::default())
    }

    #[tokio::test]
    async fn of_mails_that_are_left_for_others_little_is_remembered() {
        let key = SigningKey::new(&Secret::new("a key of more than thirty-two characters")).expect("a key");
        let (mut folder_of_one, mut visit) = (folder(1), Visit::begin());
        take(&mut session(""), "INBOX", &mut folder_of_one, &Leaves(key), &mut visit)
            .await
            .expect("taken");
        assert!(folder_of_one.ours[&1].head.is_empty() && visit.found.is_empty());

        let left = async |mails: u64, said: &str, searches: bool| {
            let (mut folder, mut session) = (folder(mails), session(said));
            session.wire.limit(Duration::from_secs(10));
            deletion::forget_gone(&mut session, &mut folder.ours, searches)
                .await
                .expect("forgotten");
            folder.ours.into_keys().collect::<Vec<_>>()
        };
        // Few cost nothing.
        assert_eq!(left(256, "", true).await.len(), 256);
        assert_eq!(left(300, "* SEARCH 7 300\r\nA1 OK found\r\n", true).await, [7, 300]);
        // Those that no search can tell of are at least not too many: the newest.
        let newest: Vec<u64> = (173..=300).collect();
        assert_eq!(left(300, "A1 BAD no such search\r\n", true).await, newest);
        assert_eq!(left(300, "", false).await, newest);
    }
}
