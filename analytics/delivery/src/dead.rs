//! Tells people of deliveries that were given up, that only a person can help, or that did not reach all, by an action list, until
//! somebody's way has accepted it.

use std::{collections::BTreeMap, fs, time::Instant};

use mailqos_base::hex;
use mailqos_config::Config;
use mailqos_model::{Micros, UtcMicros};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    notice,
    outbox::{Order, Outbox, OutboxError, failed, is_due, private_file, sync},
};

/// After a failure people are told again no sooner.
const PAUSE: Micros = Micros::from_secs(300);

/// What is the matter with a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ill {
    /// It was given up.
    GivenUp,
    /// Nothing but a person can help it.
    Stuck,
    /// It arrived, but a server refused it for some recipients.
    Refused,
}

impl Ill {
    /// What is told, by a name: what is told anew has another, as a mail that is known already may never be shown.
    pub(super) fn notice(self, order: &Order) -> String {
        let id = &order.id;
        match self {
            // The same files may be ordered again, and given up after as many attempts.
            Self::GivenUp => format!("{id}-{}-{}", order.ordered_at, order.attempts),
            Self::Stuck => format!("{id}-stuck-{}", order.stuck_at),
            Self::Refused => format!("{id}-refused"),
        }
    }
}

/// What people were told of, by the name of its notice: not in the orders, so that nobody who delivers waits for who tells.
type Notices = BTreeMap<String, Told>;

/// What became of a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    /// Somebody's way has accepted it.
    told: bool,
    /// When it is told again where none has, in microseconds since 1970 UTC.
    again: i64,
}

impl Outbox {
    /// Tells of the deliveries that were given up, are stuck or did not reach all, and that nobody was told of yet. What fails is tried again later.
    ///
    /// # Errors
    /// The outbox can't be read or written.
    pub async fn tell(&self, config: &Config, now: UtcMicros) -> Result<(), OutboxError> {
        let Some(list) = &config.delivery.action_list else {
            return Ok(());
        };
        let Some(_lock) = self.lock("dead-letters")? else {
            return Ok(());
        };
        let (open, mut notices) = self.untold(now)?;
        if open.is_empty() {
            return Ok(());
        }
        // Before anything is told: who can't write down that people were told, would tell them again and again.
        self.remember(&mut notices, &open, false, now + PAUSE)?;
        let began = Instant::now();
        // Many at once are one message.
        let subject = match open.as_slice() {
            [(only, Ill::GivenUp)] => format!("not delivered to {}: {}", only.target, files(only)),
            [(only, Ill::Stuck)] => format!("can't be delivered to {} yet: {}", only.target, files(only)),
            [(only, Ill::Refused)] => format!("not delivered to all of {}: {}", only.target, files(only)),
            several => {
                let (arrived, all) = (
                    several.iter().filter(|(_, ill)| *ill == Ill::Refused).count(),
                    several.len(),
                );
                match all - arrived {
                    0 => format!("{all} deliveries did not reach all"),
                    fail if fail == all => format!("{all} deliveries fail"),
                    _ => format!("{all} deliveries fail or did not reach all"),
                }
            }
        };
        let text: String = open
            .iter()
            .map(|(order, ill)| words(order, *ill))
            .collect::<Vec<_>>()
            .join("\n\n");
        let ids: Vec<&str> = open.iter().map(|(order, _)| order.id.as_str()).collect();
        let mut id: String = open.iter().map(|(order, ill)| ill.notice(order)).collect();
        if open.len() > 1 {
            // It becomes part of a Message-ID, which must fit into a line.
            id = hex(&Sha256::digest(&id)[..12]);
        }
        let told = notice::tell(config, list.as_str(), &id, &subject, &text).await;
        if let Err(reason) = &told {
            tracing::error!(
                "of {} nobody could be told by the action list {list}: {reason}",
                ids.join(", ")
            );
        }
        let again = now + Micros::from(began.elapsed()) + PAUSE;
        self.remember(&mut notices, &open, told.is_ok(), again)?;
        self.discard_told(&notices)
    }

    /// What people are to be told of now, and what is known of the notices of all that is ill.
    fn untold(&self, now: UtcMicros) -> Result<(Vec<(Order, Ill)>, Notices), OutboxError> {
        // One that can't be read is written anew.
        let known: Notices = fs::read(self.told())
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        self.discard_told(&known)?;
        let dead = self.given_up()?.into_iter().map(|order| (order, Ill::GivenUp));
        let stuck = self.waiting()?.into_iter().filter(|order| order.stuck);
        let refused = self.not_to_all()?.into_iter().map(|order| (order, Ill::Refused));
        let mut open: Vec<_> = dead
            .chain(stuck.map(|order| (order, Ill::Stuck)))
            .chain(refused)
            .collect();
        let mut notices = Notices::new();
        open.retain(|(order, ill)| {
            let notice = ill.notice(order);
            let Some(told) = known.get(&notice) else { return true };
            notices.insert(notice, *told);
            !told.told && is_due(told.again, now, PAUSE)
        });
        Ok((open, notices))
    }

    /// Writes down what became of notices; the lock is held.
    fn remember(
        &self,
        notices: &mut Notices,
        open: &[(Order, Ill)],
        told: bool,
        again: UtcMicros,
    ) -> Result<(), OutboxError> {
        let again = again.0;
        notices.extend(
            open.iter()
                .map(|(order, ill)| (ill.notice(order), Told { told, again })),
        );
        let (path, new) = (self.told(), self.told().with_extension("new"));
        let written = || {
            private_file(&new, &serde_json::to_vec(notices)?)?;
            fs::rename(&new, &path)?;
            path.parent().map_or(Ok(()), sync)
        };
        written().map_err(failed(&path))
    }

    /// Takes out what arrived, but not at all, and people were told of.
    fn discard_told(&self, notices: &Notices) -> Result<(), OutboxError> {
        for order in self.not_to_all()? {
            if notices.get(&Ill::Refused.notice(&order)).is_some_and(|told| told.told) {
                self.discard(&self.refused().join(&order.id))?;
            }
        }
        Ok(())
    }
}

fn files(order: &Order) -> String {
    let names = order.files.iter().map(|file| file.name.as_str());
    names.collect::<Vec<_>>().join(", ")
}

fn words(order: &Order, ill: Ill) -> String {
    let mut text = format!(
        "{} {} to {} after {}.\nOrdered: {}\n",
        files(order),
        match ill {
            Ill::GivenUp => "was not delivered",
            Ill::Stuck => "is not delivered yet",
            Ill::Refused => "was delivered, but not to all,",
        },
        order.target,
        order.tries(),
        UtcMicros(order.ordered_at),
    );
    if ill != Ill::Refused {
        let reason = order.last_error.as_deref().unwrap_or("no reason given");
        text.push_str(&format!("Why: {reason}\n"));
    }
    for served in order.done.values() {
        let word = if served.refused { "Refused" } else { "Served" };
        text.push_str(&format!("{word}: {} ({})\n", served.recipient, served.reply));
    }
    let id = &order.id;
    match ill {
        Ill::Refused => text.push_str(
            "Who was refused does not get it. Correct the addresses of the target, or have them accepted there, for the next time.",
        ),
        Ill::GivenUp | Ill::Stuck => {
            if ill == Ill::Stuck {
                text.push_str(&format!(
                    "It is tried again, next {}; once the cause is mended, that succeeds.\n",
                    UtcMicros(order.next_attempt_at)
                ));
            }
            text.push_str(&format!(
                "The files are kept. Mend the cause, then: mailqos-analytics outbox retry {id}\nOr forget it: mailqos-analytics outbox drop {id}"
            ));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{
        super::{
            Served,
            outbox::{Named, Submitted, tests::request},
        },
        *,
    };

    /// An outbox with a delivery that was given up, as another file of its name is there.
    async fn given_up(folder: &Path, now: UtcMicros) -> (Config, Outbox, String) {
        let file = folder.join("mailqos.toml");
        let text = "site = \"here\"\n[target.shelf]\nkind = \"folder\"\npath = \"shelf\"\nexisting = \"refuse\"\n";
        fs::write(&file, text).expect("written");
        let mut config = mailqos_config::load(&file).unwrap_or_else(|problems| panic!("{problems}"));
        // No program knows it: telling fails.
        config.delivery.action_list = Some("nobody".parse().expect("a name"));
        fs::create_dir_all(folder.join("shelf")).expect("made");
        fs::write(folder.join("shelf/r.pdf"), "another").expect("written");
        let outbox = Outbox::open(&config).expect("outbox");
        let id = order(&config, &outbox, folder, now).await;
        (config, outbox, id)
    }

    /// Orders the delivery and has it given up.
    async fn order(config: &Config, outbox: &Outbox, folder: &Path, now: UtcMicros) -> String {
        let Ok(Submitted::Waits(id)) = outbox.submit(&request(folder, "a"), now) else {
            panic!("it waits");
        };
        assert_eq!(outbox.work_off(config, now).await.expect("tried").dead.len(), 1);
        id
    }

    /// As if people were told, or could not be.
    fn told(outbox: &Outbox, told: bool, now: UtcMicros) {
        let (open, mut notices) = outbox.untold(now).expect("read");
        outbox
            .remember(&mut notices, &open, told, now + PAUSE)
            .expect("written");
    }

    fn count(outbox: &Outbox, now: UtcMicros) -> usize {
        outbox.untold(now).expect("read").0.len()
    }

    #[tokio::test]
    async fn people_are_told_once_also_while_somebody_delivers_to_the_target() {
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
        // What is given up again is told anew, whether it was tried or ordered again.
        assert_eq!(outbox.retry(&id, now).expect("retried"), Named::Done);
        assert_eq!(outbox.work_off(&config, now).await.expect("tried").dead.len(), 1);
        assert_eq!(count(&outbox, now), 1);
        told(&outbox, true, now);
        for _ in 0..2 {
            now = now + PAUSE;
            assert_eq!(order(&config, &outbox, folder.path(), now).await, id);
            assert_eq!(count(&outbox, now), 1);
            told(&outbox, true, now);
        }
        // Of what is gone nothing is kept.
        assert_eq!(outbox.untold(now).expect("read").1.len(), 1);
    }

    #[tokio::test]
    async fn who_can_t_be_told_is_told_again_after_the_pause_and_nobody_waits() {
        let folder = tempfile::tempdir().expect("folder");
        let now = UtcMicros(1_000_000);
        let (config, outbox, _) = given_up(folder.path(), now).await;
        let read = || -> Notices { serde_json::from_slice(&fs::read(outbox.told()).expect("there")).expect("notices") };
        // What can't be written down is not told.
        let new = outbox.told().with_extension("new");
        fs::create_dir(&new).expect("made");
        assert!(outbox.tell(&config, now).await.is_err());
        fs::remove_dir(&new).expect("removed");
        // One that is damaged counts as none; the target is busy.
        fs::write(outbox.told(), "{").expect("written");
        let lock = outbox.lock("target-shelf").expect("asked").expect("free");
        outbox.tell(&config, now).await.expect("written down");
        let notices = read();
        let told = notices.values().next().expect("one");
        // From when the telling has ended.
        assert!(!told.told && told.again > (now + PAUSE).0, "{told:?}");
        outbox.tell(&config, now).await.expect("nothing to tell");
        assert_eq!(read(), notices);
        drop(lock);
        outbox
            .work_off(&config, now)
            .await
            .expect("the file is in nobody's way");
        assert!(outbox.told().exists());
        let later = UtcMicros(told.again);
        assert_eq!(count(&outbox, later), 1);
    }

    #[tokio::test]
    async fn what_did_not_reach_all_is_forgotten_once_people_were_told() {
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
        fs::write(place.join("order.json"), serde_json::to_vec(&order).expect("JSON")).expect("written");
        for (is_told, left) in [(false, 1), (true, 0)] {
            told(&outbox, is_told, UtcMicros(now.0 + 2 * PAUSE.0 * i64::from(is_told)));
            // As the next who tells does, too: a crash may come before.
            outbox.untold(now).expect("read");
            assert_eq!(outbox.not_to_all().expect("read").len(), left);
        }
    }
}
