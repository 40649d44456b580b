//! A second connection that watches a mailbox's first folder while mails are expected: over IDLE
//! (RFC 2177) without polling, or by short polls if a monitor requires precision. It only lists
//! mails, without reading or changing any. Its observations bound the arrival more closely than the
//! pick-ups do.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use mailqos_base::lock::IgnorePoison as _;
use mailqos_mail::{Credentials, Wire};
use mailqos_model::{Micros, Stage};

use super::{
    LearnedState,
    listing::{highest, last_uid, search},
    login, reply,
    session::{MAX_LINE, MAX_REPLY, ServerLine, Session, is_news},
};
use crate::mail_test::{
    evidence::Moment,
    pickup::{MailboxEndpoint, NextPoll, PickupError, PickupPhases, VisitStage, WatchControl},
};

/// Maximum number of remembered changes of the folder.
const MAX_CHECKPOINTS: usize = 1024;
/// Maximum duration of an IDLE command, which is restarted before a server's limit of 30 minutes
/// (RFC 9051, section 5.4).
const IDLE_AT_MOST: Micros = Micros::from_secs(25 * 60);
/// Minimum time until the next poll for which IDLE is used in between.
const IDLE_AT_LEAST: Micros = Micros::from_millis(250);
/// Time before a poll at which IDLE is ended.
const ENDING_IDLE: Micros = Micros::from_millis(30);

/// The state of the folder at some time: all mails below `next` were present when the server
/// responded, and none from `next` on when the request was sent.
#[derive(Debug, Clone, Copy)]
struct Checkpoint {
    next: u64,
    asked: Moment,
    answered: Moment,
    /// The lowest UID that was new then, and the time at which the server had announced it.
    announced: Option<(u64, Moment)>,
}

/// Observations of a watch.
#[derive(Debug, Default)]
struct Notes {
    validity: Option<u64>,
    checkpoints: VecDeque<Checkpoint>,
    /// Whether UIDs were reused under the same validity. Observations then concern other mails,
    /// until the next watch.
    distrusted: bool,
}

/// Observations of a watch, shared with the pick-ups.
#[derive(Debug, Clone, Default)]
pub(in crate::mail_test) struct Witness(Arc<Mutex<Notes>>);

/// Observations of a watch about one mail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct WatchObservations {
    pub(super) not_shown: Option<Moment>,
    pub(super) shown: Option<Moment>,
    pub(super) announced: Option<Moment>,
}

impl Witness {
    fn with<T>(&self, work: impl FnOnce(&mut Notes) -> T) -> T {
        work(&mut self.0.lock().ignore_poison())
    }

    /// Discards earlier observations because the watch starts, or the folder has changed.
    fn restart(&self, validity: Option<u64>) {
        self.with(|notes| {
            if notes.validity != validity || notes.distrusted {
                notes.checkpoints.clear();
                notes.validity = validity;
                notes.distrusted = false;
            }
        });
    }

    /// Discards all observations, because the pick-ups have detected that UIDs went back.
    pub(super) fn distrust(&self) {
        self.with(|notes| {
            notes.checkpoints.clear();
            notes.distrusted = true;
        });
    }

    fn note(&self, checkpoint: Checkpoint) {
        self.with(|notes| match notes.checkpoints.back_mut() {
            _ if notes.distrusted => {}
            Some(last) if last.next >= checkpoint.next => last.asked = checkpoint.asked,
            _ => {
                if notes.checkpoints.len() >= MAX_CHECKPOINTS {
                    notes.checkpoints.pop_front();
                }
                notes.checkpoints.push_back(checkpoint);
            }
        });
    }

    /// Returns the observations about a mail of the folder with this validity.
    pub(super) fn testify(&self, validity: Option<u64>, uid: u64) -> WatchObservations {
        self.with(|notes| {
            if notes.validity != validity || notes.distrusted {
                return WatchObservations::default();
            }
            let at = notes.checkpoints.partition_point(|checkpoint| checkpoint.next <= uid);
            let first_with = notes.checkpoints.get(at);
            WatchObservations {
                not_shown: at.checked_sub(1).map(|before| notes.checkpoints[before].asked),
                shown: first_with.map(|checkpoint| checkpoint.answered),
                announced: first_with
                    .and_then(|checkpoint| checkpoint.announced)
                    .and_then(|(lowest, at)| (lowest == uid).then_some(at)),
            }
        })
    }
}

/// Watches until no test waits any more, or until a failure.
pub(in crate::mail_test) async fn watch(
    door: &MailboxEndpoint,
    credentials: Option<&Credentials>,
    learned: LearnedState,
    attention: &dyn WatchControl,
) -> Result<(), PickupError> {
    let Some(folder) = door.folders.first() else {
        return Ok(());
    };
    let LearnedState { mut habits, witness } = learned;
    let wire = Wire::connect(&door.endpoint, door.step)
        .await
        .map_err(|error| PickupError::wire(Stage::PickupConnect, &error))?;
    let mut session = Session::new(wire, door.step, VisitStage::default());
    let mut phases = PickupPhases::default();
    if login::shake_hands(&mut session, door, &mut phases).await? {
        login::log_in(&mut session, credentials, &mut habits, &mut phases).await?;
    }
    login::identify(&mut session, &habits).await?;
    let Ok(selected) = session.open_folder(folder, "EXAMINE").await? else {
        return Ok(());
    };
    // Without the next UID, it would be unknown which mail was announced. But UIDNEXT may run ahead
    // of the mails, or stand still, so the last mail is checked.
    let (Some(mut expected), Some(exists)) = (selected.next, selected.exists) else {
        return Ok(());
    };
    let asked = Moment::now();
    let mut next = match highest(&mut session, exists).await? {
        Some(highest) => highest + 1,
        None if exists == 0 => 1,
        None => return Ok(()),
    };
    let answered = Moment::of(session.wire.received_at());
    witness.restart(selected.validity);
    witness.note(Checkpoint { next, asked, answered, announced: None });
    let can_idle = session.has("IDLE");
    session.has_news = false;
    loop {
        let announced = match attention.look() {
            NextPoll::Stop => break,
            // The announcement came within another response and is not repeated.
            _ if session.has_news => None,
            NextPoll::Poll(at) if !can_idle || at - Moment::now() < IDLE_AT_LEAST => {
                tokio::time::sleep_until(at.instant()).await;
                None
            }
            NextPoll::Wait if !can_idle => {
                attention.changed().await;
                continue;
            }
            NextPoll::Poll(at) => idle(&mut session, attention, Some(at - ENDING_IDLE)).await?,
            NextPoll::Wait => idle(&mut session, attention, None).await?,
        };
        let asked = Moment::now();
        if announced.is_none() && !session.has_news {
            session.must(Stage::PickupList, "NOOP", MAX_REPLY, |_| {}).await?;
        }
        let mut checkpoint = Checkpoint {
            next,
            asked,
            answered: Moment::of(session.wire.received_at()),
            announced: None,
        };
        if announced.is_some() || session.has_news {
            session.has_news = false;
            let asked = Moment::now();
            let Some(mut uids) =
                search(&mut session, &format!("UID SEARCH UID {next}:*")).await?.found()
            else {
                return Ok(());
            };
            uids.retain(|uid| *uid >= next);
            if uids.is_empty() {
                // A mail has been removed, or the search lags behind the announcement.
                uids.extend(last_uid(&mut session).await?.filter(|uid| *uid >= next));
            }
            if let (Some(lowest), Some(last)) = (uids.iter().min(), uids.iter().max()) {
                checkpoint = Checkpoint {
                    next: last + 1,
                    asked,
                    answered: Moment::of(session.wire.received_at()),
                    // If the announced mail has already been removed, the lowest one may have
                    // arrived later.
                    announced: announced.filter(|_| *lowest == expected).map(|at| (*lowest, at)),
                };
                next = checkpoint.next;
                expected = next;
                attention.landed();
            }
        }
        witness.note(checkpoint);
    }
    let _ = session.command(Stage::PickupList, "LOGOUT", MAX_REPLY, |_| {}).await;
    session.wire.close().await;
    Ok(())
}

/// Waits until the server announces new mail, and returns the time; or until the given time, or
/// until the next action changes.
async fn idle(
    session: &mut Session,
    attention: &dyn WatchControl,
    until: Option<Moment>,
) -> Result<Option<Moment>, PickupError> {
    let stage = Stage::PickupList;
    let tag = session.next_tag();
    session.wire.begin(session.step, MAX_REPLY);
    session.send(stage, &format!("{tag} IDLE"), false).await?;
    let mut announced = None;
    loop {
        let said = session.said(stage).await?;
        if said.is_news() {
            announced.get_or_insert(Moment::of(session.wire.received_at()));
        }
        match said {
            ServerLine::Continue(_) => break,
            ServerLine::Tagged(known, status) if known == tag => {
                return Err(session.refusal(stage, "IDLE", &status));
            }
            ServerLine::Data(_)
            | ServerLine::Status(_)
            | ServerLine::Tagged(..)
            | ServerLine::Noise(_) => {}
        }
    }
    let most = Moment::now() + IDLE_AT_MOST;
    let until = until.map_or(most, |until| until.min(most)).instant();
    session.wire.begin(IDLE_AT_MOST.to_std() + Duration::from_secs(60), MAX_REPLY);
    while announced.is_none() {
        tokio::select! {
            line = session.wire.line(MAX_LINE) => {
                let line = line.map_err(|error| Session::wire_error(stage, &error))?;
                if is_news(&line) {
                    announced = Some(Moment::of(session.wire.received_at()));
                } else if reply::Status::read(String::from_utf8_lossy(&line).trim_start_matches("* ")).is_some_and(|status| status.word == "BYE") {
                    return Err(PickupError::new(stage, "the server ended IDLE"));
                }
            }
            () = tokio::time::sleep_until(until) => break,
            () = attention.changed() => {
                if !matches!(attention.look(), NextPoll::Wait) {
                    break;
                }
            }
        }
    }
    session.wire.begin(session.step, MAX_REPLY);
    session.send(stage, "DONE", false).await?;
    let status = session.finish(stage, &tag, |_| {}).await?;
    match status {
        Ok(_) => Ok(announced),
        Err(_) => {
            Err(PickupError::new(stage, "the server sent an unexpected continuation request"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: i64) -> Moment {
        Moment::of_micros(micros)
    }

    fn checkpoint(next: u64, asked: i64, announced: Option<(u64, i64)>) -> Checkpoint {
        Checkpoint {
            next,
            asked: at(asked),
            answered: at(asked + 1),
            announced: announced.map(|(uid, moment)| (uid, at(moment))),
        }
    }

    #[test]
    fn the_arrival_is_between_the_last_listing_without_it_and_the_first_with_it() {
        let witness = Witness::default();
        witness.restart(Some(7));
        witness.note(checkpoint(5, 10, None));
        witness.note(checkpoint(5, 20, None));
        witness.note(checkpoint(7, 30, Some((5, 25))));
        witness.note(checkpoint(7, 40, None));
        let told = |uid| witness.testify(Some(7), uid);
        let testimony = |not_shown: Option<i64>, shown: Option<i64>, announced: Option<i64>| {
            WatchObservations {
                not_shown: not_shown.map(at),
                shown: shown.map(at),
                announced: announced.map(at),
            }
        };
        assert_eq!(told(4), testimony(None, Some(11), None));
        assert_eq!(told(5), testimony(Some(20), Some(31), Some(25)));
        assert_eq!(told(6), testimony(Some(20), Some(31), None));
        assert_eq!(told(7), testimony(Some(40), None, None));
        assert_eq!(witness.testify(Some(8), 5), WatchObservations::default());
        witness.restart(Some(8));
        assert_eq!(witness.testify(Some(8), 5), WatchObservations::default());
    }

    #[test]
    fn the_number_of_observations_is_limited() {
        let witness = Witness::default();
        for number in 0..3000 {
            witness.note(checkpoint(number, i64::try_from(number).expect("small"), None));
        }
        assert_eq!(witness.with(|notes| notes.checkpoints.len()), MAX_CHECKPOINTS);
        assert_eq!(witness.testify(None, 2999).not_shown, Some(at(2999)));
    }
}
