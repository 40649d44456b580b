//! Tells people of deliveries that were given up, by an action list, until somebody's way has accepted it.

use mailqos_core::{
    config::Config,
    model::{Micros, UtcMicros},
};

use super::{
    notice,
    outbox::{Order, Outbox, OutboxError},
};

/// After a failure people are told again no sooner.
const PAUSE: Micros = Micros::from_secs(300);

impl Outbox {
    /// Tells of the deliveries that were given up and that nobody was told of yet. What fails is tried again later.
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
        let open: Vec<Order> = self
            .given_up()?
            .into_iter()
            .filter(|order| !order.told && order.tell_at <= now.0)
            .collect();
        if open.is_empty() {
            return Ok(());
        }
        // Many at once are one message.
        let subject = match open.as_slice() {
            [only] => format!("not delivered to {}: {}", only.target, files(only)),
            several => format!("{} deliveries were given up", several.len()),
        };
        let text: String = open.iter().map(words).collect::<Vec<_>>().join("\n\n");
        let ids: Vec<&str> = open.iter().map(|order| order.id.as_str()).collect();
        let told = notice::tell(config, list.as_str(), &ids.concat(), &subject, &text).await;
        if let Err(reason) = &told {
            tracing::error!(
                "of {} nobody could be told by the action list {list}: {reason}",
                ids.join(", ")
            );
        }
        for mut order in open {
            order.told = told.is_ok();
            order.tell_at = (now + PAUSE).0;
            self.save_dead(&order)?;
        }
        Ok(())
    }
}

fn files(order: &Order) -> String {
    let names = order.files.iter().map(|file| file.name.as_str());
    names.collect::<Vec<_>>().join(", ")
}

fn words(order: &Order) -> String {
    let reason = order.last_error.as_deref().unwrap_or("no reason given");
    let mut text = format!(
        "{} was not delivered to {} after {} attempt{}.\nOrdered: {}\nWhy: {reason}\n",
        files(order),
        order.target,
        order.attempts,
        if order.attempts == 1 { "" } else { "s" },
        UtcMicros(order.ordered_at),
    );
    for served in order.done.values() {
        let word = if served.refused { "Refused" } else { "Served" };
        text.push_str(&format!("{word}: {} ({})\n", served.recipient, served.reply));
    }
    text.push_str(&format!(
        "The files are kept. Mend the cause, then: mailqos-analytics outbox retry {id}\nOr forget it: mailqos-analytics outbox drop {id}",
        id = order.id
    ));
    text
}
