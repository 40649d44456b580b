//! Tells people of deliveries that were given up, that only a person can help, or that did not reach all, by an action list, until
//! somebody's way has accepted it.

use std::{collections::BTreeMap, fs::File};

use mailqos_core::{
    config::Config,
    model::{Micros, UtcMicros},
};

use super::{
    notice,
    outbox::{Order, Outbox, OutboxError, is_due},
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
            Self::GivenUp => format!("{id}-{}", order.attempts),
            Self::Stuck => format!("{id}-stuck-{}", order.stuck_at),
            Self::Refused => format!("{id}-refused"),
        }
    }
}

/// What people have not been told of yet.
type Untold = Vec<(Order, Ill)>;

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
        // Held until it is written down who was told: else they would be told again.
        let (open, _locks) = self.untold(now)?;
        if open.is_empty() {
            return Ok(());
        }
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
        let id: String = open.iter().map(|(order, ill)| ill.notice(order)).collect();
        let told = notice::tell(config, list.as_str(), &id, &subject, &text).await;
        if let Err(reason) = &told {
            tracing::error!(
                "of {} nobody could be told by the action list {list}: {reason}",
                ids.join(", ")
            );
        }
        for (order, ill) in open {
            self.remember_told(&order, ill, told.is_ok(), now + PAUSE)?;
        }
        Ok(())
    }

    /// What people are to be told of now, with the locks of its targets. What somebody delivers or retries just now is told later, as it
    /// is then.
    fn untold(&self, now: UtcMicros) -> Result<(Untold, Vec<File>), OutboxError> {
        let mut locks = BTreeMap::new();
        for (order, ill) in self.all_untold(now)? {
            if ill != Ill::Refused && !locks.contains_key(&order.target) {
                let lock = self.lock_target(&order.target)?;
                locks.insert(order.target, lock);
            }
        }
        let is_ours = |order: &Order, ill| ill == Ill::Refused || locks.get(&order.target).is_some_and(Option::is_some);
        let mut open = self.all_untold(now)?;
        open.retain(|(order, ill)| is_ours(order, *ill));
        Ok((open, locks.into_values().flatten().collect()))
    }

    fn all_untold(&self, now: UtcMicros) -> Result<Untold, OutboxError> {
        let dead = self.given_up()?.into_iter().map(|order| (order, Ill::GivenUp));
        let stuck = self.waiting()?.into_iter().filter(|order| order.stuck);
        let refused = self.not_to_all()?.into_iter().map(|order| (order, Ill::Refused));
        Ok(dead
            .chain(stuck.map(|order| (order, Ill::Stuck)))
            .chain(refused)
            .filter(|(order, _)| !order.told && is_due(order.tell_at, now, PAUSE))
            .collect())
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
    use super::{
        super::{
            Item, Letter,
            outbox::{Request, Submitted},
        },
        *,
    };

    #[tokio::test]
    async fn people_are_told_once_also_while_somebody_delivers_to_the_target() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("mailqos.toml");
        let text = "site = \"here\"\n[target.shelf]\nkind = \"folder\"\npath = \"shelf\"\nexisting = \"refuse\"\n";
        std::fs::write(&file, text).expect("written");
        let config = mailqos_core::config::load(&file).unwrap_or_else(|problems| panic!("{problems}"));
        let outbox = Outbox::open(&config).expect("outbox");
        let mut now = UtcMicros(1_000_000);
        let path = folder.path().join("r.pdf");
        std::fs::write(&path, "%PDF").expect("written");
        let request = Request {
            target: "shelf".parse().expect("a name"),
            folder: String::new(),
            letter: Letter::default(),
            items: vec![Item {
                name: "r.pdf".into(),
                path,
            }],
            occasion: "a".into(),
            report: String::new(),
            run: String::new(),
        };
        let submitted = outbox.submit(&request, now).expect("submitted");
        assert!(matches!(submitted, Submitted::Waits(_)));
        // Another file of that name is there: it is given up.
        std::fs::create_dir_all(folder.path().join("shelf")).expect("made");
        std::fs::write(folder.path().join("shelf/r.pdf"), "another").expect("written");
        assert_eq!(outbox.work_off(&config, now).await.expect("tried").dead.len(), 1);

        let lock = outbox.lock("target-shelf").expect("asked").expect("free");
        assert!(outbox.untold(now).expect("read").0.is_empty());
        drop(lock);
        for (told, open) in [(false, 1), (true, 1), (true, 0)] {
            let (untold, locks) = outbox.untold(now).expect("read");
            assert_eq!((untold.len(), locks.len()), (open, open));
            for (order, ill) in untold {
                outbox
                    .remember_told(&order, ill, told, now + PAUSE)
                    .expect("remembered");
            }
            drop(locks);
            assert!(outbox.untold(now).expect("read").0.is_empty());
            now = now + PAUSE;
        }
        // What is told anew is another notice.
        let id = outbox.given_up().expect("read")[0].id.clone();
        outbox.retry(&id, now).expect("retried");
        assert_eq!(outbox.work_off(&config, now).await.expect("tried").dead.len(), 1);
        assert_eq!(outbox.untold(now).expect("read").0.len(), 1);
    }
}
