//! `mailqos-analytics outbox`: shows and attempts pending deliveries.

use std::process::ExitCode;

use clap::Subcommand;
use jiff::civil::Date;
use mailqos_delivery::outbox::{self, Line, Named, Order, Outbox};
use mailqos_model::UtcMicros;

use super::{Failure, Global, deliver::tell, print};

/// Options of `outbox`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List pending and abandoned deliveries.
    List,
    /// Show all details of a delivery.
    Show {
        /// Id of the delivery.
        id: String,
    },
    /// Retry deliveries now [default: all pending].
    Retry {
        /// Ids of the deliveries.
        ids: Vec<String>,
    },
    /// Remove deliveries from the outbox.
    Drop {
        /// Ids of the deliveries.
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Show completed deliveries with recipients, times and server replies.
    Ledger {
        /// Output format.
        #[arg(long, value_enum, default_value_t = Format::Json)]
        format: Format,
        /// Only this target (repeatable).
        #[arg(long, value_name = "TARGET")]
        target: Vec<String>,
        /// First day of the period (UTC).
        #[arg(long, value_name = "DATE")]
        from: Option<Date>,
        /// First day after the period (UTC).
        #[arg(long, value_name = "DATE")]
        to: Option<Date>,
    },
}

/// Output format of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// One JSON object per line.
    Json,
    /// One line per file and recipient, for spreadsheets.
    Csv,
}

/// Runs the command.
///
/// # Errors
/// The outbox can't be read or written, has no such delivery, or another process is delivering it.
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
            let order = all.into_iter().find(|order| order.id == id).ok_or_else(|| unknown(&id))?;
            let text = serde_json::to_string_pretty(&order).map_err(Failure::work)?;
            print(format!("{text}\n"))?;
        }
        Action::Retry { ids } => {
            let are_all = ids.is_empty();
            let ids = if are_all {
                outbox.waiting().map_err(Failure::work)?.into_iter().map(|order| order.id).collect()
            } else {
                ids
            };
            let mut busy = false;
            for id in &ids {
                match outbox.retry(id, now).map_err(Failure::work)? {
                    Named::Done => {}
                    // The delivery arrived or was dropped after the listing.
                    Named::Unknown if are_all => {}
                    Named::Unknown => return Err(unknown(id)),
                    Named::Busy => {
                        busy = true;
                        eprintln!(
                            "{id}: not retried, because a running schedule is delivering to its target"
                        );
                    }
                }
            }
            let work = outbox::work_off(&outbox, &config, now).await.map_err(Failure::work)?;
            tell(&work);
            outbox::notify(&outbox, &config, UtcMicros::now()).await.map_err(Failure::work)?;
            if busy || !work.is_well() {
                return Ok(ExitCode::FAILURE);
            }
        }
        Action::Drop { ids } => {
            for id in &ids {
                match outbox.drop_order(id).map_err(Failure::work)? {
                    Named::Done => {}
                    Named::Unknown => return Err(unknown(id)),
                    Named::Busy => {
                        return Err(Failure::work_help(
                            format!("a running schedule is delivering to the target of {id}"),
                            "try again in a moment",
                        ));
                    }
                }
            }
        }
        Action::Ledger { format, target, from, to } => {
            let mut lines = outbox.ledger().map_err(Failure::work)?;
            lines.retain(|line| is_asked_for(line, &target, from, to));
            print(match format {
                Format::Json => json(&lines)?,
                Format::Csv => csv(&lines)?,
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns whether a ledger entry belongs to one of the targets (any, if none is given) and to the
/// period (UTC).
fn is_asked_for(line: &Line, targets: &[String], from: Option<Date>, to: Option<Date>) -> bool {
    let (at, name) = match line {
        Line::Delivered(entry) => (&entry.delivered_at, &entry.target),
        Line::Removed(removal) => (&removal.removed_at, &removal.target),
    };
    let day = at.get(..10).unwrap_or("");
    (targets.is_empty() || targets.contains(name))
        && from.is_none_or(|from| day >= from.to_string().as_str())
        && to.is_none_or(|to| day < to.to_string().as_str())
}

fn json(lines: &[Line]) -> Result<String, Failure> {
    let mut text = String::new();
    for line in lines {
        text.push_str(&serde_json::to_string(line).map_err(Failure::work)?);
        text.push('\n');
    }
    Ok(text)
}

fn csv(lines: &[Line]) -> Result<String, Failure> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let head = [
        "at", "what", "target", "report", "due", "to", "file", "bytes", "sha256", "reply",
        "attempts",
    ];
    writer.write_record(head).map_err(Failure::work)?;
    for line in lines {
        match line {
            Line::Delivered(entry) => {
                let attempts = entry.attempts.to_string();
                // Each file has one location; a mail has all files for each recipient.
                let served = entry.accepted.iter().map(|served| {
                    (
                        "accepted",
                        served.at.as_str(),
                        served.recipient.as_str(),
                        served.reply.as_str(),
                    )
                });
                let refused = entry.refused.iter().map(|(who, reply)| {
                    ("refused", entry.delivered_at.as_str(), who.as_str(), reply.as_str())
                });
                let mut recipients: Vec<_> = served.chain(refused).collect();
                if recipients.is_empty() {
                    recipients = vec![("delivered", &entry.delivered_at, "", &entry.reply)];
                }
                for (what, at, who, reply) in recipients {
                    for (index, file) in entry.files.iter().enumerate() {
                        let place = entry.places.get(index).filter(|_| who.is_empty());
                        let size = file.size.to_string();
                        let to = place.map_or(who, String::as_str);
                        writer
                            .write_record([
                                at,
                                what,
                                &entry.target,
                                &entry.report,
                                &entry.run,
                                to,
                                &file.name,
                                &size,
                                &file.sha256,
                                reply,
                                &attempts,
                            ])
                            .map_err(Failure::work)?;
                    }
                }
            }
            Line::Removed(removal) => {
                let name = removal.path();
                let record = [
                    &removal.removed_at,
                    removal.reason.as_str(),
                    &removal.target,
                    "",
                    "",
                    "",
                    name.as_str(),
                    "",
                    "",
                    "",
                    "",
                ];
                writer.write_record(record).map_err(Failure::work)?;
            }
        }
    }
    let bytes = writer.into_inner().map_err(Failure::work)?;
    String::from_utf8(bytes).map_err(Failure::work)
}

fn line(order: &Order, state: &str) -> String {
    let files = order.files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>().join(", ");
    let next = if state == "waits" {
        format!(", next {}", UtcMicros(order.next_attempt_at))
    } else {
        String::new()
    };
    let error = order.last_error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
    format!("{}  {state}  {}  {files}  {}{next}{error}\n", order.id, order.target, order.tries())
}
