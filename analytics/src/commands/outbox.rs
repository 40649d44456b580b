//! `mailqos-analytics outbox`: shows and works off what waits for delivery.

use std::process::ExitCode;

use clap::Subcommand;
use mailqos_core::model::UtcMicros;

use super::{Failure, Global, deliver::tell, print};
use crate::delivery::outbox::{Order, Outbox};

/// Options of `outbox`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// What waits, and what was given up.
    List,
    /// All about a delivery.
    Show {
        /// Its id.
        id: String,
    },
    /// Tries deliveries again now; all that wait unless some are named.
    Retry {
        /// Their ids.
        ids: Vec<String>,
    },
    /// Forgets deliveries.
    Drop {
        /// Their ids.
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Who got what, when: one JSON object a line.
    Ledger,
}

/// Runs the command.
///
/// # Errors
/// The outbox can't be read or written, or has no such delivery.
pub async fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let config = global.load()?;
    let outbox = Outbox::open(&config).map_err(Failure::work)?;
    let now = UtcMicros::now();
    let unknown = |id: &str| {
        Failure::usage(
            format!("the outbox has no delivery {id:?}"),
            "`outbox list` shows their ids",
        )
    };
    match args.action {
        Action::List => {
            let waiting = outbox.waiting().map_err(Failure::work)?;
            let dead = outbox.given_up().map_err(Failure::work)?;
            let mut text = String::new();
            for (state, orders) in [("waits", &waiting), ("given up", &dead)] {
                for order in orders {
                    text.push_str(&line(order, state));
                }
            }
            print(text)?;
        }
        Action::Show { id } => {
            let mut all = outbox.waiting().map_err(Failure::work)?;
            all.extend(outbox.given_up().map_err(Failure::work)?);
            let order = all
                .into_iter()
                .find(|order| order.id == id)
                .ok_or_else(|| unknown(&id))?;
            let text = serde_json::to_string_pretty(&order).map_err(Failure::work)?;
            print(format!("{text}\n"))?;
        }
        Action::Retry { ids } => {
            let ids = if ids.is_empty() {
                outbox
                    .waiting()
                    .map_err(Failure::work)?
                    .into_iter()
                    .map(|order| order.id)
                    .collect()
            } else {
                ids
            };
            for id in &ids {
                if !outbox.retry(id, now).map_err(Failure::work)? {
                    return Err(unknown(id));
                }
            }
            let work = outbox.work_off(&config, now).await.map_err(Failure::work)?;
            tell(&work);
            if !work.failed.is_empty() || !work.dead.is_empty() {
                return Ok(ExitCode::FAILURE);
            }
        }
        Action::Drop { ids } => {
            for id in &ids {
                if !outbox.drop_order(id).map_err(Failure::work)? {
                    return Err(unknown(id));
                }
            }
        }
        Action::Ledger => {
            let mut text = String::new();
            for entry in outbox.ledger().map_err(Failure::work)? {
                text.push_str(&serde_json::to_string(&entry).map_err(Failure::work)?);
                text.push('\n');
            }
            print(text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn line(order: &Order, state: &str) -> String {
    let files = order
        .files
        .iter()
        .map(|file| file.name.as_str())
        .collect::<Vec<_>>()
        .join(", ");
    let next = if state == "waits" {
        format!(", next {}", UtcMicros(order.next_attempt_at))
    } else {
        String::new()
    };
    let error = order
        .last_error
        .as_ref()
        .map_or_else(String::new, |error| format!(": {error}"));
    format!(
        "{}  {state}  {}  {files}  {} attempts{next}{error}\n",
        order.id, order.target, order.attempts
    )
}
