//! IMAP (RFC 3501 and RFC 9051, with 4315 UIDPLUS, 4959 SASL-IR, 7888 non-synchronising literals).
//!
//! Mails are read with PEEK, so that no flag of a foreign mail changes. Only our mails are deleted,
//! by their UIDs. UIDs are remembered between visits, so that a mail is inspected once, and a visit
//! without news costs one SELECT.

mod deletion;
mod folders;
mod listing;
mod login;
mod reply;
mod retrieval;
mod session;
mod survey;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::Instant,
};

use deletion::PendingDeletions;
use mailqos_mail::Wire;
use mailqos_model::{Micros, Placement, Stage, UtcMicros};
use reply::Status;
use retrieval::Retrieval;
use watch::Witness;

use super::{
    Finding, Found, MailClassifier, MissingFolder, PickupError, STEPS_A_VISIT, UNREADABLE_FOR,
    Visit, VisitTarget,
};
use crate::mail_test::{evidence::Moment, token::Token};

pub(in crate::mail_test) use session::Session;
pub(super) use survey::survey;
pub(in crate::mail_test) use watch::watch;

/// Maximum size of a reply to a search, or to a fetch of several heads.
const MAX_LISTING: usize = 16 * 1024 * 1024;
/// Number of attempts to read an unreadable mail, after all others. Giving up too soon would count
/// one of ours as lost.
const TRIES: u8 = 100;
/// Number of consecutive visits that try to read a mail; after that, the pauses double, up to the
/// longest one.
const TRIES_IN_A_ROW: u8 = 30;
const MAX_PAUSE: Micros = Micros::from_secs(900);

/// Bounds of a mail's arrival according to the visits.
#[derive(Debug, Clone, Copy)]
struct Seen {
    not_shown: Option<Moment>,
    shown: Moment,
    /// Time at which the server announced it.
    announced: Option<Moment>,
    /// Number of failed attempts to read it.
    tries: u8,
    /// Time of the last attempt.
    tried: Option<Moment>,
    /// Whether the last attempt broke the session, or was refused. The mail is then tried alone, so
    /// that it does not affect others.
    broke: bool,
}

impl Seen {
    /// Returns whether it should be read in the visit that began at `began`: once per visit, and
    /// ever more rarely.
    fn is_due(&self, began: Moment) -> bool {
        let Some(tried) = self.tried else { return true };
        let beyond = self.tries.saturating_sub(TRIES_IN_A_ROW);
        let pause = match beyond {
            0 => Micros::ZERO,
            _ => Micros((1_000_000_i64 << beyond.min(20)).min(MAX_PAUSE.0)),
        };
        tried < began && began - tried >= pause
    }

    fn note_try(&mut self) {
        self.tries = self.tries.saturating_add(1);
        self.tried = Some(Moment::now());
    }

    /// Returns whether it was listed recently and has not been read, so that it may be the expected
    /// mail.
    fn is_missed(&self) -> bool {
        self.tries > 0 && Moment::now() - self.shown < UNREADABLE_FOR
    }
}

/// One of our mails that is still present.
#[derive(Debug, Clone)]
struct OwnMail {
    token: Token,
    finding: Finding,
    seen: Seen,
    date: Option<UtcMicros>,
    /// Header; empty after the mail has been left for others, because it may stay for a month.
    head: Vec<u8>,
}

/// State of a folder between visits.
#[derive(Debug, Default)]
struct Folder {
    validity: Option<u64>,
    /// UIDs below this were listed earlier.
    next: u64,
    /// UIDNEXT and the number of mails at the last visit.
    uid_next: Option<u64>,
    exists: Option<u64>,
    /// Whether UIDNEXT was seen to change with a new mail, so that nothing is new while it stays
    /// the same.
    proved: bool,
    /// Number of visits since the folder was listed.
    unlisted: u8,
    /// Start of the last listing, before which the mails from `next` on were not there.
    listed: Option<Moment>,
    /// Time of the last check, if UIDNEXT is reliable.
    checked: Option<Moment>,
    /// Mails to inspect.
    fresh: BTreeMap<u64, Seen>,
    ours: BTreeMap<u64, OwnMail>,
    /// Our mails to be deleted.
    doomed: PendingDeletions,
    /// The highest UIDs listed.
    looked: BTreeSet<u64>,
}

impl Folder {
    /// Returns the first listed mail that is not yet classified or could not be read.
    fn has_missed(&self) -> Option<u64> {
        let fresh = self.fresh.iter().map(|(uid, seen)| (*uid, seen));
        let ours = self.ours.iter().map(|(uid, ours)| (*uid, &ours.seen));
        fresh.chain(ours).find(|(_, seen)| seen.is_missed()).map(|(uid, _)| uid)
    }
}

/// Known behaviour of a server.
#[derive(Debug, Clone, Default)]
struct Habits {
    /// Commands and login methods that the server does not support.
    lacks: HashSet<&'static str>,
    /// Whether the server opens no folder before the client has identified itself.
    wants_id: bool,
}

/// State of a mailbox between visits.
#[derive(Debug, Default)]
pub(in crate::mail_test) struct Memory {
    folders: HashMap<String, Folder>,
    habits: Habits,
    /// Observations of the watch over the first folder.
    witness: Witness,
    trash: folders::Trash,
    junk: folders::JunkFolders,
    /// Suggestions for folders that could not be opened.
    suggestions: HashMap<String, (Moment, String)>,
}

impl Memory {
    /// Returns the part that a watch needs.
    pub(in crate::mail_test) fn for_watch(&self) -> LearnedState {
        LearnedState { habits: self.habits.clone(), witness: self.witness.clone() }
    }
}

/// Results of pick-ups that a watch needs.
#[derive(Debug, Default)]
pub(in crate::mail_test) struct LearnedState {
    habits: Habits,
    witness: Witness,
}

/// Returns whether a server refuses only temporarily (RFC 5530).
fn is_for_now(status: &Status) -> bool {
    ["UNAVAILABLE", "SERVERBUG", "TEMPFAIL", "INUSE", "LIMIT", "EXPUNGEISSUED"]
        .iter()
        .any(|code| status.says(code))
}

/// A visit over IMAP.
struct Imap<'a> {
    session: Session,
    errand: VisitTarget<'a>,
    judge: &'a dyn MailClassifier,
    memory: &'a mut Memory,
    visit: &'a mut Visit,
}

/// Performs the visit on a newly opened connection. The session still has to be ended.
pub(super) async fn converse(
    wire: Wire,
    errand: VisitTarget<'_>,
    memory: &mut Memory,
    judge: &dyn MailClassifier,
    visit: &mut Visit,
) -> (Session, Result<(), PickupError>) {
    let mut imap = Imap {
        session: Session::new(wire, errand.door.step, errand.door.whereabouts.clone()),
        errand,
        judge,
        memory,
        visit,
    };
    let result = imap.work().await;
    (imap.session, result)
}

impl Imap<'_> {
    async fn work(&mut self) -> Result<(), PickupError> {
        let VisitTarget { door, credentials } = self.errand;
        self.session.wire.limit(door.step * STEPS_A_VISIT);
        if login::shake_hands(&mut self.session, door, &mut self.visit.phases).await? {
            login::log_in(
                &mut self.session,
                credentials,
                &mut self.memory.habits,
                &mut self.visit.phases,
            )
            .await?;
        }
        login::identify(&mut self.session, &self.memory.habits).await?;
        let mut failure = None;
        for (number, name) in door.folders.iter().enumerate() {
            match self.look(name, number == 0).await {
                Ok(None) => {
                    self.memory.suggestions.remove(name);
                }
                Ok(Some(refusal)) => {
                    let suggestion = self.suggestion(name).await?;
                    let reason = if suggestion.is_empty() {
                        refusal.text.clone()
                    } else {
                        format!("{}; {suggestion}", refusal.text)
                    };
                    // Other folders may be created with their first mail, but without the first one
                    // there is nothing to measure.
                    if number == 0 {
                        failure = Some(PickupError { text: reason.clone(), ..refusal });
                    }
                    self.visit.missing.push(MissingFolder { name: name.clone(), reason });
                }
                // The server may return it later; continue with the other folders.
                Err(error) if error.is_passing => failure = failure.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Returns a suggestion for a folder that could not be opened; the server is asked at most once
    /// an hour.
    async fn suggestion(&mut self, name: &str) -> Result<String, PickupError> {
        if let Some((at, suggestion)) = self.memory.suggestions.get(name)
            && Moment::now() - *at < Micros::from_secs(3600)
        {
            return Ok(suggestion.clone());
        }
        let suggestion = folders::suggestion(&mut self.session, name).await?;
        tracing::warn!(
            folder = name,
            suggestion,
            "a configured folder can't be opened and is not searched"
        );
        self.memory.suggestions.insert(name.to_owned(), (Moment::now(), suggestion.clone()));
        Ok(suggestion)
    }

    /// Searches a folder, retrieves our mails, and deletes them. A refusal to open the folder is
    /// returned.
    async fn look(
        &mut self,
        name: &str,
        watched: bool,
    ) -> Result<Option<PickupError>, PickupError> {
        let began = Instant::now();
        let asked = Moment::of(began);
        let mut answer = self.session.open_folder(name, "SELECT").await?;
        if answer.is_err() && self.session.has("ID") && !self.memory.habits.wants_id {
            // NetEase requires the client's identification and refuses to open a folder without it
            // (RFC 2971).
            login::send_id(&mut self.session).await?;
            answer = self.session.open_folder(name, "SELECT").await?;
            self.memory.habits.wants_id = answer.is_ok();
        }
        let selected = match answer {
            Ok(selected) => selected,
            Err(refusal) => return Ok(Some(refusal)),
        };
        self.list_folder(name, watched, selected, began).await?;
        let listed = self.session.wire.received_at();
        let took = Micros::from(listed.saturating_duration_since(began));
        self.visit.phases.list = Some(self.visit.phases.list.unwrap_or_default() + took);
        if let Some(folder) = self.memory.folders.get_mut(name) {
            folder.doomed.begin_visit();
        }
        let mut failure = None;
        // Mails that broke an earlier session come last, when our other mails have been retrieved.
        for again in [false, true] {
            let Some(folder) = self.memory.folders.get_mut(name) else {
                break;
            };
            let mut retrieval = Retrieval { session: &mut self.session, folder, judge: self.judge };
            let examined = retrieval.examine(asked, again).await;
            // Mails read before the failure are still retrieved and deleted, if possible.
            keep_passing(examined, &mut failure)?;
            let result = retrieval.take(name, self.visit).await;
            let deleted = deletion::delete(&mut self.session, name, self.memory, self.judge).await;
            keep_passing(result, &mut failure)?;
            match deleted {
                Err(error) if self.visit.found.iter().any(|found| found.receive.is_some()) => {
                    tracing::debug!(folder = name, %error, "test mails not deleted");
                    return Ok(None);
                }
                other => other?,
            }
        }
        self.note_placement(name).await?;
        let searches = !self.memory.habits.lacks.contains("SEARCH");
        if let Some(folder) = self.memory.folders.get_mut(name) {
            deletion::forget_gone(&mut self.session, &mut folder.ours, searches).await?;
            if failure.is_none()
                && let Some(uid) = folder.has_missed()
            {
                failure = Some(PickupError {
                    is_passing: true,
                    ..PickupError::new(
                        Stage::PickupReceive,
                        &format!(
                            "the server lists a mail (UID {uid}) in {name} but does not return its content; \
                             retrying at each pick-up"
                        ),
                    )
                });
            }
        }
        failure.map_or(Ok(None), Err)
    }

    /// Notes the kind of the folder in mails that were found in it.
    async fn note_placement(&mut self, name: &str) -> Result<(), PickupError> {
        let is_in = |found: &&mut Found| {
            found.folder.as_deref() == Some(name) && found.placement == Some(Placement::Other)
        };
        let mut found: Vec<&mut Found> = self.visit.found.iter_mut().filter(is_in).collect();
        if !found.is_empty() {
            let kind = folders::placement(&mut self.session, &mut self.memory.junk, name).await?;
            found.iter_mut().for_each(|found| found.placement = Some(kind));
        }
        Ok(())
    }

    /// Lists the new mails of the selected folder, with the bounds of their arrival.
    async fn list_folder(
        &mut self,
        name: &str,
        watched: bool,
        selected: listing::Selected,
        began: Instant,
    ) -> Result<(), PickupError> {
        let asked = Moment::of(began);
        let opened = self.session.wire.received_at();
        let folder = self.memory.folders.entry(name.to_owned()).or_default();
        if selected.validity.is_none()
            || folder.validity != selected.validity
            || folder.went_back(&selected)
        {
            if watched && folder.went_back(&selected) {
                self.memory.witness.distrust();
            }
            // Earlier UIDs are no longer valid; without a UIDVALIDITY they never were (RFC 3501,
            // section 6.3.1).
            *folder = Folder { validity: selected.validity, ..Folder::default() };
        }
        if folder.is_unchanged(&selected) {
            folder.note_listing(&selected, None);
            folder.checked = Some(asked);
            return Ok(());
        }
        let before = folder.next;
        let new = folder.list_new(&mut self.session, &selected, &mut self.memory.habits).await?;
        let listed = Moment::of(self.session.wire.received_at());
        // A mail below UIDNEXT was present when the folder was opened, unless UIDNEXT runs ahead of
        // the mails.
        let highest = new.uids.iter().max().copied().unwrap_or(0).max(before.saturating_sub(1));
        let sane_next = selected.next.filter(|next| *next <= highest + 1);
        let moved = selected.next > folder.uid_next;
        for uid in &new.uids {
            let is_plain = *uid >= before && !new.overlooked.contains(uid);
            // Only the first folder is watched. Numbers of another folder usually have another
            // validity, or are not in the notes.
            let told = match watched && is_plain {
                true => self.memory.witness.testify(selected.validity, *uid),
                false => watch::WatchObservations::default(),
            };
            let shown = match sane_next.is_some_and(|next| *uid < next) {
                true => Moment::of(opened),
                false => listed,
            };
            let not_shown = if is_plain && moved { folder.checked } else { folder.listed };
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
}

/// Keeps the first failure after which the session can continue; any other is returned.
fn keep_passing(
    result: Result<(), PickupError>,
    failure: &mut Option<PickupError>,
) -> Result<(), PickupError> {
    match result {
        Err(error) if error.is_passing => {
            failure.get_or_insert(error);
            Ok(())
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mailqos_base::Secret;

    use super::{
        super::{Action, VisitStage},
        *,
    };
    use crate::mail_test::{classify::Known, token::SigningKey};

    /// Keeps every mail for others.
    struct Leaves(SigningKey);

    impl Known for Leaves {
        fn key(&self) -> &SigningKey {
            &self.0
        }
    }

    impl MailClassifier for Leaves {
        fn action(&self, _: &Token) -> Action {
            Action::Keep
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
        let ours = OwnMail {
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
        Folder { ours: (1..=mails).map(|uid| (uid, ours.clone())).collect(), ..Folder::default() }
    }

    fn session(said: &str) -> Session {
        let step = Duration::from_secs(10);
        let wire = Wire::scripted(said.as_bytes().to_vec(), step);
        Session::new(wire, step, VisitStage::default())
    }

    #[tokio::test]
    async fn little_is_stored_about_mails_left_for_others() {
        let key = SigningKey::new(&Secret::new("a key of more than thirty-two characters"))
            .expect("a key");
        let (mut folder_of_one, mut visit) = (folder(1), Visit::begin());
        let mut retrieval = Retrieval {
            session: &mut session(""),
            folder: &mut folder_of_one,
            judge: &Leaves(key),
        };
        retrieval.take("INBOX", &mut visit).await.expect("taken");
        assert!(folder_of_one.ours[&1].head.is_empty() && visit.found.is_empty());

        let left = async |mails: u64, said: &str, searches: bool| {
            let (mut folder, mut session) = (folder(mails), session(said));
            session.wire.limit(Duration::from_secs(10));
            deletion::forget_gone(&mut session, &mut folder.ours, searches)
                .await
                .expect("forgotten");
            folder.ours.into_keys().collect::<Vec<_>>()
        };
        // A small number is kept without further requests.
        assert_eq!(left(256, "", true).await.len(), 256);
        assert_eq!(left(300, "* SEARCH 7 300\r\nA1 OK found\r\n", true).await, [7, 300]);
        // Mails that no search finds are limited to the newest.
        let newest: Vec<u64> = (173..=300).collect();
        assert_eq!(left(300, "A1 BAD no such search\r\n", true).await, newest);
        assert_eq!(left(300, "", false).await, newest);
    }
}
