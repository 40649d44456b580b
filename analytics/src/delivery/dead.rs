//! Tells people of deliveries that were given up, by an action list, until somebody's way has accepted it.

use std::{path::PathBuf, process::Stdio, time::Duration};

use mailqos_core::{
    config::Config,
    mail::one_line,
    model::{Micros, UtcMicros},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
};

use super::outbox::{Order, Outbox, OutboxError};

/// How long the ways of an action list may take together.
const PATIENCE: Duration = Duration::from_secs(300);
/// After a failure people are told again no sooner.
const PAUSE: Micros = Micros::from_secs(300);
/// The program that carries out action lists.
const PROGRAM: &str = "mailqos-probe";

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
        let notice = serde_json::json!({ "id": ids.concat(), "subject": subject, "text": text });
        let told = carry_out(config, list.as_str(), &notice.to_string()).await;
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
        "{} was not delivered to {} after {} attempts.\nOrdered: {}\nWhy: {reason}\n",
        files(order),
        order.target,
        order.attempts,
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

/// The probe's program, which knows all ways of telling: the one beside this program, or the one in the path.
fn program() -> PathBuf {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|own| own.parent().map(|folder| folder.join(PROGRAM)))
        .filter(|path| path.is_file());
    beside.unwrap_or_else(|| PathBuf::from(PROGRAM))
}

async fn carry_out(config: &Config, list: &str, notice: &str) -> Result<(), String> {
    let program = program();
    let mut child = Command::new(&program)
        .arg("--config")
        .arg(&config.file)
        .args(["actions", "tell", list])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    let work = async {
        if let Some(mut input) = child.stdin.take() {
            input.write_all(notice.as_bytes()).await?;
        }
        let mut said = Vec::new();
        if let Some(errors) = child.stderr.take() {
            errors.take(16 << 10).read_to_end(&mut said).await?;
        }
        let status = child.wait().await?;
        Ok::<_, std::io::Error>((status, said))
    };
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(Ok((status, _))) if status.success() => Ok(()),
        Ok(Ok((_, said))) => Err(one_line(&String::from_utf8_lossy(&said), &[])),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("did not end within {} s", PATIENCE.as_secs())),
    }
}
