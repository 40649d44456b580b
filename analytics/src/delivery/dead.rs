//! Tells people of deliveries that were given up, that only a person can help, or that did not reach all, by an action list, until
//! somebody's way has accepted it.

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
        let dead = self.given_up()?.into_iter().map(|order| (order, Ill::GivenUp));
        let stuck = self.waiting()?.into_iter().filter(|order| order.stuck);
        let refused = self.not_to_all()?.into_iter().map(|order| (order, Ill::Refused));
        let open: Vec<(Order, Ill)> = dead
            .chain(stuck.map(|order| (order, Ill::Stuck)))
            .chain(refused)
            .filter(|(order, _)| !order.told && is_due(order.tell_at, now, PAUSE))
            .collect();
        if open.is_empty() {
            return Ok(());
        }
        // Many at once are one message.
        let subject = match open.as_slice() {
            [(only, Ill::GivenUp)] => format!("not delivered to {}: {}", only.target, files(only)),
            [(only, Ill::Stuck)] => format!("can't be delivered to {} yet: {}", only.target, files(only)),
            [(only, Ill::Refused)] => format!("not delivered to all of {}: {}", only.target, files(only)),
            several => format!("{} deliveries fail", several.len()),
        };
        let text: String = open
            .iter()
            .map(|(order, ill)| words(order, *ill))
            .collect::<Vec<_>>()
            .join("\n\n");
        let ids: Vec<&str> = open.iter().map(|(order, _)| order.id.as_str()).collect();
        // What is told anew has another id, as a mail that is known already may never be shown.
        let id: String = open
            .iter()
            .map(|(order, ill)| match ill {
                Ill::GivenUp => format!("{}-{}", order.id, order.attempts),
                Ill::Stuck => order.id.clone(),
                Ill::Refused => format!("{}-refused", order.id),
            })
            .collect();
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
