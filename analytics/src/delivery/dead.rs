//! Tells people of deliveries that were given up, or that only a person can help, by an action list, until somebody's way has
//! accepted it.

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

impl Outbox {
    /// Tells of the deliveries that were given up or are stuck, and that nobody was told of yet. What fails is tried again later.
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
        let dead = self.given_up()?.into_iter().map(|order| (order, true));
        let stuck = self.waiting()?.into_iter().filter(|order| order.stuck);
        let open: Vec<(Order, bool)> = dead
            .chain(stuck.map(|order| (order, false)))
            .filter(|(order, _)| !order.told && is_due(order.tell_at, now, PAUSE))
            .collect();
        if open.is_empty() {
            return Ok(());
        }
        // Many at once are one message.
        let subject = match open.as_slice() {
            [(only, true)] => format!("not delivered to {}: {}", only.target, files(only)),
            [(only, false)] => format!("can't be delivered to {} yet: {}", only.target, files(only)),
            several => format!("{} deliveries fail", several.len()),
        };
        let text: String = open
            .iter()
            .map(|(order, dead)| words(order, *dead))
            .collect::<Vec<_>>()
            .join("\n\n");
        let ids: Vec<&str> = open.iter().map(|(order, _)| order.id.as_str()).collect();
        let told = notice::tell(config, list.as_str(), &ids.concat(), &subject, &text).await;
        if let Err(reason) = &told {
            tracing::error!(
                "of {} nobody could be told by the action list {list}: {reason}",
                ids.join(", ")
            );
        }
        for (order, dead) in open {
            self.remember_told(&order, dead, told.is_ok(), now + PAUSE)?;
        }
        Ok(())
    }
}

fn files(order: &Order) -> String {
    let names = order.files.iter().map(|file| file.name.as_str());
    names.collect::<Vec<_>>().join(", ")
}

fn words(order: &Order, dead: bool) -> String {
    let reason = order.last_error.as_deref().unwrap_or("no reason given");
    let mut text = format!(
        "{} {} to {} after {}.\nOrdered: {}\nWhy: {reason}\n",
        files(order),
        if dead {
            "was not delivered"
        } else {
            "is not delivered yet"
        },
        order.target,
        order.tries(),
        UtcMicros(order.ordered_at),
    );
    for served in order.done.values() {
        let word = if served.refused { "Refused" } else { "Served" };
        text.push_str(&format!("{word}: {} ({})\n", served.recipient, served.reply));
    }
    if !dead {
        text.push_str(&format!(
            "It is tried again, next {}; once the cause is mended, that succeeds.\n",
            UtcMicros(order.next_attempt_at)
        ));
    }
    text.push_str(&format!(
        "The files are kept. Mend the cause, then: mailqos-analytics outbox retry {id}\nOr forget it: mailqos-analytics outbox drop {id}",
        id = order.id
    ));
    text
}
