//! Notifies people of deliveries that were given up, need an operator, or were refused for some
//! recipients. Runs an action list until one of its channels has accepted the notice.

use std::{collections::BTreeMap, time::Instant};

use mailqos_base::{files, hex};
use mailqos_config::Config;
use mailqos_model::{Micros, UtcMicros};
use mailqos_notify::{Notification, Program};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    files::{OutboxError, failed, replace},
    order::{Order, is_due},
    store::Outbox,
};

/// Time between a failed attempt to notify people and the next one.
const PAUSE: Micros = Micros::from_secs(300);

/// A problem with a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeliveryProblem {
    /// It was given up.
    GivenUp,
    /// Only an operator can fix its cause.
    Stuck,
    /// It arrived, but a server refused it for some recipients.
    Refused,
}

impl DeliveryProblem {
    /// Returns the key of the notice. A repeated notice gets a new key, because mail clients hide
    /// messages with a known Message-ID.
    pub(super) fn notice(self, order: &Order) -> String {
        let id = &order.id;
        match self {
            // The same files may be ordered again and given up after the same number of attempts.
            Self::GivenUp => format!("{id}-{}-{}", order.ordered_at, order.attempts),
            Self::Stuck => format!("{id}-stuck-{}", order.stuck_at),
            Self::Refused => format!("{id}-refused"),
        }
    }
}

/// States of notices by key, stored apart from the orders so that delivery never waits for
/// notification.
type Notices = BTreeMap<String, NoticeState>;

/// State of a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct NoticeState {
    /// Whether a channel has accepted it.
    #[serde(rename = "told")]
    accepted: bool,
    /// Time of the next attempt if no channel has accepted it, in microseconds since 1970 UTC.
    #[serde(rename = "again")]
    retry_at: i64,
}

/// Notifies people of deliveries that were given up, are stuck or were refused for some recipients,
/// unless a notice was sent before. A failed notice is sent again later.
///
/// # Errors
/// The outbox can't be read or written.
pub async fn notify(outbox: &Outbox, config: &Config, now: UtcMicros) -> Result<(), OutboxError> {
    let Some(list) = &config.delivery.action_list else {
        return Ok(());
    };
    let Some(_lock) = outbox.lock("dead-letters")? else {
        return Ok(());
    };
    let notifier = Notifier { outbox };
    let (open, mut notices) = notifier.open_problems(now)?;
    if open.is_empty() {
        return Ok(());
    }
    // Stored before anything is sent: if the state could not be stored afterwards, people would be
    // notified again and again.
    notifier.remember(&mut notices, &open, false, now + PAUSE)?;
    let began = Instant::now();
    // Several problems share one message.
    let texts: Vec<String> = open.iter().map(|(order, problem)| text(order, *problem)).collect();
    let keys = open.iter().map(|(order, problem)| problem.notice(order));
    let mut id: String = keys.collect();
    if open.len() > 1 {
        // The key becomes part of a Message-ID, which must fit into a line.
        id = hex(&Sha256::digest(&id)[..12]);
    }
    let (subject, text) = (subject(&open), texts.join("\n\n"));
    let notice = Notification::notice(config, Program::Analytics, &id, &subject, &text);
    let sent = mailqos_notify::notify(config, list.as_str(), &notice).await;
    if let Err(reason) = &sent {
        let ids: Vec<&str> = open.iter().map(|(order, _)| order.id.as_str()).collect();
        tracing::error!(action_list = %list, ids = %ids.join(", "), %reason, "notice not accepted");
    }
    let retry_at = now + Micros::from(began.elapsed()) + PAUSE;
    notifier.remember(&mut notices, &open, sent.is_ok(), retry_at)?;
    notifier.discard_accepted(&notices)
}

/// Keeps track of notices in an outbox.
struct Notifier<'a> {
    outbox: &'a Outbox,
}

impl Notifier<'_> {
    fn file(&self) -> std::path::PathBuf {
        self.outbox.folder.join("told.json")
    }

    /// Returns the problems to notify people of now, and the states of the notices of all problems.
    fn open_problems(
        &self,
        now: UtcMicros,
    ) -> Result<(Vec<(Order, DeliveryProblem)>, Notices), OutboxError> {
        // An unreadable file is replaced.
        let known: Notices = files::read_state(&self.file())
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        self.discard_accepted(&known)?;
        let with = |problem| move |order| (order, problem);
        let dead = self.outbox.given_up()?.into_iter();
        let stuck = self.outbox.waiting()?.into_iter().filter(|order| order.stuck);
        let refused = self.outbox.not_to_all()?.into_iter();
        let mut open: Vec<_> = dead
            .map(with(DeliveryProblem::GivenUp))
            .chain(stuck.map(with(DeliveryProblem::Stuck)))
            .chain(refused.map(with(DeliveryProblem::Refused)))
            .collect();
        let mut notices = Notices::new();
        open.retain(|(order, problem)| {
            let notice = problem.notice(order);
            let Some(state) = known.get(&notice) else {
                return true;
            };
            notices.insert(notice, *state);
            !state.accepted && is_due(state.retry_at, now, PAUSE)
        });
        Ok((open, notices))
    }

    /// Stores the states of notices. The caller holds the lock.
    fn remember(
        &self,
        notices: &mut Notices,
        open: &[(Order, DeliveryProblem)],
        accepted: bool,
        retry_at: UtcMicros,
    ) -> Result<(), OutboxError> {
        let state = NoticeState { accepted, retry_at: retry_at.0 };
        notices.extend(open.iter().map(|(order, problem)| (problem.notice(order), state)));
        let path = self.file();
        let text = serde_json::to_vec(notices).map_err(|error| failed(&path)(error.into()))?;
        replace(&path, &text).map_err(failed(&path))
    }

    /// Removes orders that were refused for some recipients after a notice of them was accepted.
    fn discard_accepted(&self, notices: &Notices) -> Result<(), OutboxError> {
        for order in self.outbox.not_to_all()? {
            let state = notices.get(&DeliveryProblem::Refused.notice(&order));
            if state.is_some_and(|state| state.accepted) {
                self.outbox.discard(&self.outbox.refused().join(&order.id))?;
            }
        }
        Ok(())
    }
}

fn subject(open: &[(Order, DeliveryProblem)]) -> String {
    match open {
        [(only, DeliveryProblem::GivenUp)] => {
            format!("not delivered to {}: {}", only.target, files(only))
        }
        [(only, DeliveryProblem::Stuck)] => {
            format!("delivery to {} is delayed: {}", only.target, files(only))
        }
        [(only, DeliveryProblem::Refused)] => {
            format!("not delivered to all recipients of {}: {}", only.target, files(only))
        }
        several => {
            let is_refused =
                |(_, problem): &&(Order, DeliveryProblem)| *problem == DeliveryProblem::Refused;
            let (arrived, all) = (several.iter().filter(is_refused).count(), several.len());
            match all - arrived {
                0 => format!("{all} deliveries did not reach all recipients"),
                fail if fail == all => format!("{all} deliveries failed"),
                _ => format!("{all} deliveries failed or did not reach all recipients"),
            }
        }
    }
}

fn files(order: &Order) -> String {
    let names = order.files.iter().map(|file| file.name.as_str());
    names.collect::<Vec<_>>().join(", ")
}

fn text(order: &Order, problem: DeliveryProblem) -> String {
    let mut text = format!(
        "{} {} to {} after {}.\nQueued: {}\n",
        files(order),
        match problem {
            DeliveryProblem::GivenUp => "was not delivered",
            DeliveryProblem::Stuck => "has not been delivered yet",
            DeliveryProblem::Refused => "was delivered, but not to all recipients,",
        },
        order.target,
        order.tries(),
        UtcMicros(order.ordered_at),
    );
    if problem != DeliveryProblem::Refused {
        let reason = order.last_error.as_deref().unwrap_or("no reason given");
        text.push_str(&format!("Cause: {reason}\n"));
    }
    for served in order.done.values() {
        let word = if served.refused { "Refused" } else { "Served" };
        text.push_str(&format!("{word}: {} ({})\n", served.recipient, served.reply));
    }
    let id = &order.id;
    match problem {
        DeliveryProblem::Refused => text.push_str(
            "Rejected recipients don't receive this report. For the next one, correct the addresses of the \
             target, or have the server accept them.",
        ),
        DeliveryProblem::GivenUp | DeliveryProblem::Stuck => {
            if problem == DeliveryProblem::Stuck {
                text.push_str(&format!(
                    "Next attempt: {}. It succeeds once the cause is fixed.\n",
                    UtcMicros(order.next_attempt_at)
                ));
            }
            text.push_str(&format!(
                "The files are kept. Fix the cause, then run: mailqos-analytics outbox retry {id}\nTo discard \
                 the delivery, run: mailqos-analytics outbox drop {id}"
            ));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
    };

    use super::{
        super::{
            store::{Named, Submitted},
            tests::request,
            worker::work_off,
        },
        *,
    };
    use crate::Served;

    /// Creates an outbox with a delivery that was given up because a file of its name exists.
    async fn given_up(folder: &Path, now: UtcMicros) -> (Config, Outbox, String) {
        let file = folder.join("mailqos.toml");
        let text = "site = \"here\"\n[target.shelf]\nkind = \"folder\"\npath = \"shelf\"\nexisting = \"refuse\"\n";
        fs::write(&file, text).expect("written");
        let mut config =
            mailqos_config::load(&file).unwrap_or_else(|problems| panic!("{problems}"));
        // The action list does not exist, so the notice fails.
        config.delivery.action_list = Some("nobody".parse().expect("a name"));
        fs::create_dir_all(folder.join("shelf")).expect("made");
        fs::write(folder.join("shelf/r.pdf"), "another").expect("written");
        let outbox = Outbox::open(&config).expect("outbox");
        let id = order(&config, &outbox, folder, now).await;
        (config, outbox, id)
    }

    /// Orders the delivery and makes it fail permanently.
    async fn order(config: &Config, outbox: &Outbox, folder: &Path, now: UtcMicros) -> String {
        let Ok(Submitted::Waits(id)) = outbox.submit(&request(folder, "a"), now) else {
            panic!("it waits");
        };
        assert_eq!(work_off(outbox, config, now).await.expect("tried").dead.len(), 1);
        id
    }

    /// Records that people were notified, or that notifying them failed.
    fn told(outbox: &Outbox, told: bool, now: UtcMicros) {
        let (open, mut notices) = Notifier { outbox }.open_problems(now).expect("read");
        Notifier { outbox }.remember(&mut notices, &open, told, now + PAUSE).expect("written");
    }

    fn file(outbox: &Outbox) -> PathBuf {
        Notifier { outbox }.file()
    }

    fn count(outbox: &Outbox, now: UtcMicros) -> usize {
        Notifier { outbox }.open_problems(now).expect("read").0.len()
    }

    #[tokio::test]
    async fn people_are_notified_once_even_during_a_delivery() {
        let folder = tempfile::tempdir().expect("folder");
        let mut now = UtcMicros(1_000_000);
        let (config, outbox, id) = given_up(folder.path(), now).await;
        let lock = outbox.lock("target-shelf").expect("asked").expect("free");
        for (is_told, open) in [(false, 1), (true, 1), (true, 0)] {
            assert_eq!(count(&outbox, now), open);
            told(&outbox, is_told, now);
            assert_eq!(count(&outbox, now), 0);
            now = now + PAUSE;
        }
        drop(lock);
        // A delivery that fails permanently again is reported again, whether it was retried or
        // ordered again.
        assert_eq!(outbox.retry(&id, now).expect("retried"), Named::Done);
        assert_eq!(work_off(&outbox, &config, now).await.expect("tried").dead.len(), 1);
        assert_eq!(count(&outbox, now), 1);
        told(&outbox, true, now);
        for _ in 0..2 {
            now = now + PAUSE;
            assert_eq!(order(&config, &outbox, folder.path(), now).await, id);
            assert_eq!(count(&outbox, now), 1);
            told(&outbox, true, now);
        }
        // States of removed orders are dropped.
        assert_eq!(Notifier { outbox: &outbox }.open_problems(now).expect("read").1.len(), 1);
    }

    #[tokio::test]
    async fn a_failed_notice_is_repeated_after_the_pause_without_delaying_others() {
        let folder = tempfile::tempdir().expect("folder");
        let now = UtcMicros(1_000_000);
        let (config, outbox, _) = given_up(folder.path(), now).await;
        let read = || -> Notices {
            serde_json::from_slice(&fs::read(file(&outbox)).expect("there")).expect("notices")
        };
        // A notice is not sent if its state can't be stored.
        let new = file(&outbox).with_extension("new");
        fs::create_dir(&new).expect("made");
        assert!(notify(&outbox, &config, now).await.is_err());
        fs::remove_dir(&new).expect("removed");
        // A damaged file counts as empty; the target is busy.
        fs::write(file(&outbox), "{").expect("written");
        let lock = outbox.lock("target-shelf").expect("asked").expect("free");
        notify(&outbox, &config, now).await.expect("written down");
        let notices = read();
        let told = notices.values().next().expect("one");
        // The time of the retry counts from the end of the attempt.
        assert!(!told.accepted && told.retry_at > (now + PAUSE).0, "{told:?}");
        notify(&outbox, &config, now).await.expect("nothing to tell");
        assert_eq!(read(), notices);
        drop(lock);
        work_off(&outbox, &config, now).await.expect("the file is in nobody's way");
        assert!(file(&outbox).exists());
        let later = UtcMicros(told.retry_at);
        assert_eq!(count(&outbox, later), 1);
    }

    #[tokio::test]
    async fn a_partial_delivery_is_dropped_after_people_were_notified() {
        let folder = tempfile::tempdir().expect("folder");
        let now = UtcMicros(1_000_000);
        let (_, outbox, id) = given_up(folder.path(), now).await;
        let served = Served {
            recipient: "a@example.com".into(),
            at: String::new(),
            reply: "550 5.1.1 nobody".into(),
            refused: true,
        };
        let mut order = outbox.given_up().expect("read").remove(0);
        order.done.insert("a@example.com whole".into(), served);
        let place = outbox.refused().join(&id);
        fs::create_dir(&place).expect("made");
        fs::write(place.join("order.json"), serde_json::to_vec(&order).expect("JSON"))
            .expect("written");
        for (is_told, left) in [(false, 1), (true, 0)] {
            told(&outbox, is_told, UtcMicros(now.0 + 2 * PAUSE.0 * i64::from(is_told)));
            // As in the next call: a crash may have happened in between.
            Notifier { outbox: &outbox }.open_problems(now).expect("read");
            assert_eq!(outbox.not_to_all().expect("read").len(), left);
        }
    }
}
