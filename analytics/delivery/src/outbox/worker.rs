//! Attempts the due deliveries of the outbox and stores each result immediately.

use std::{collections::BTreeMap, fs, io, path::Path, time::Instant};

use futures_util::future::join_all;
use mailqos_config::{Config, DeliveryOptions, Target};
use mailqos_model::{Micros, Name, UtcMicros};

use super::{
    files::{OutboxError, failed},
    ledger::{Entry, Line},
    order::{Order, is_due, reserve},
    store::Outbox,
};
use crate::{
    DeliveryError, Inline, Item, MailContent, Parcel, Progress, Receipt, Retry, abandon, deliver,
};

/// Result of [`work_off`].
#[derive(Debug, Default)]
pub struct Work {
    /// Delivered orders.
    pub delivered: Vec<Entry>,
    /// Orders that failed for now and will be tried again.
    pub failed: Vec<Order>,
    /// Orders that failed permanently and were given up.
    pub dead: Vec<Order>,
    /// Targets to which another process is delivering at the moment.
    pub busy: Vec<String>,
    /// Errors of the outbox for some targets, where nothing was attempted.
    pub trouble: Vec<OutboxError>,
}

impl Work {
    /// Returns whether every delivery reached every recipient.
    pub fn is_well(&self) -> bool {
        let refused = self.delivered.iter().any(|entry| !entry.refused.is_empty());
        self.failed.is_empty() && self.dead.is_empty() && self.trouble.is_empty() && !refused
    }

    fn extend(&mut self, other: Self) {
        self.delivered.extend(other.delivered);
        self.failed.extend(other.failed);
        self.dead.extend(other.dead);
        self.busy.extend(other.busy);
        self.trouble.extend(other.trouble);
    }
}

/// Attempts the due deliveries to all targets in parallel, so that no target delays another.
///
/// An order whose ledger entry was lost in a crash is delivered again, under the same names and
/// with the same Message-ID. If the target's files can be read back, they are found in place.
///
/// # Errors
/// The outbox can't be read or written.
pub async fn work_off(
    outbox: &Outbox,
    config: &Config,
    now: UtcMicros,
) -> Result<Work, OutboxError> {
    outbox.tidy()?;
    // Targets in parallel, orders of a target in sequence: two files of the same name must not be
    // written at the same time.
    let mut by_target: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for order in outbox.waiting()? {
        if is_due(order.next_attempt_at, now, config.delivery.longest_pause) {
            by_target.entry(order.target).or_default().push(order.id);
        }
    }
    let worker = &Worker::new(outbox, config, now);
    let targets = by_target.into_iter().map(|(target, ids)| async move {
        let mut work = Work::default();
        if let Err(error) = worker.work_target(&target, &ids, &mut work).await {
            work.trouble.push(error);
        }
        work
    });
    let mut all = Work::default();
    for work in join_all(targets).await {
        all.extend(work);
    }
    Ok(all)
}

/// Delivers the orders of an outbox.
#[derive(Debug)]
pub(super) struct Worker<'a> {
    outbox: &'a Outbox,
    config: &'a Config,
    /// Start of the work by the wall clock and by the monotonic clock.
    began: (UtcMicros, Instant),
}

impl<'a> Worker<'a> {
    pub(super) fn new(outbox: &'a Outbox, config: &'a Config, now: UtcMicros) -> Self {
        Self { outbox, config, began: (now, Instant::now()) }
    }

    fn now(&self) -> UtcMicros {
        self.began.0 + Micros::from(self.began.1.elapsed())
    }

    async fn work_target(
        &self,
        target: &str,
        ids: &[String],
        work: &mut Work,
    ) -> Result<(), OutboxError> {
        let Some(_lock) = self.outbox.lock_target(target)? else {
            work.busy.push(target.to_owned());
            return Ok(());
        };
        let delivered = self.outbox.ledger.ids()?;
        for id in ids {
            let folder = self.outbox.pending().join(id);
            if !folder.is_dir() {
                continue;
            }
            if delivered.contains(id) {
                // A crash prevented its removal, or another process delivered it first.
                self.outbox.retire(self.config, id)?;
            } else {
                self.work_order(&folder, work).await?;
            }
        }
        Ok(())
    }

    async fn work_order(&self, folder: &Path, work: &mut Work) -> Result<(), OutboxError> {
        let mut order = Order::load(folder)?;
        // Stored before anything is sent: if the disk is full or broken, it could not be recorded
        // afterwards who received the delivery.
        order.attempts += 1;
        order.next_attempt_at = (self.now() + pause(order.attempts, &self.config.delivery)).0;
        order.save(folder)?;
        reserve(folder, order.recipients(self.config)).map_err(failed(folder))?;
        let result = self.attempt(&mut order).await;
        let left_at = match &result {
            Ok(_) => None,
            Err(error) => error.left_at(&order.target).map(str::to_owned),
        };
        let dead = work.dead.len();
        self.settle(order, result, work)?;
        if let (Some(place), Some(order)) = (left_at, work.dead.get(dead)) {
            self.clear_away(&place, order).await;
        }
        Ok(())
    }

    async fn attempt(&self, order: &mut Order) -> Result<Receipt, DeliveryError> {
        let Ok(target) = order.target.parse::<Name>() else {
            return Err(DeliveryError::NoTarget(order.target.clone()));
        };
        let folder = self.outbox.pending().join(&order.id);
        let parcel = parcel(order, &folder)?;
        let copy = order.clone();
        let recipients = order.recipients(self.config);
        let mut progress = Progress {
            done: order.done.clone(),
            save: Box::new(|done| {
                let order = Order { done: done.clone(), ..copy.clone() };
                order.save(&folder).map_err(|error| io::Error::other(error.to_string()))?;
                // Reserve space for the next attempt. If there is none, this was the last attempt
                // that can be stored.
                reserve(&folder, recipients)
            }),
        };
        let result = deliver(self.config, &target, &parcel, &mut progress).await;
        order.done = std::mem::take(&mut progress.done);
        result.and_then(|receipt| accounted_for(self.config, &target, receipt))
    }

    /// Stores the result of an attempt immediately, because an attempt without a stored result is
    /// repeated.
    pub(super) fn settle(
        &self,
        order: Order,
        result: Result<Receipt, DeliveryError>,
        work: &mut Work,
    ) -> Result<(), OutboxError> {
        match result {
            Ok(receipt) => self.enter(&order, receipt, work),
            Err(error) => self.postpone(order, &error, work),
        }
    }

    /// Enters a delivery in the ledger.
    fn enter(&self, order: &Order, receipt: Receipt, work: &mut Work) -> Result<(), OutboxError> {
        let entry = Entry {
            id: order.id.clone(),
            delivered_at: self.now().to_string(),
            target: order.target.clone(),
            report: order.report.clone(),
            run: order.run.clone(),
            folder: order.folder.clone(),
            files: order.files.clone(),
            places: receipt.places,
            reply: receipt.reply,
            refused: receipt.refused,
            accepted: receipt.accepted,
            attempts: order.attempts,
            repeats: order.repeats.clone(),
        };
        if let Some((target, linked)) = receipt.linked {
            // The files are stored for the mail, and the rules of that target apply.
            self.outbox.ledger.add(&Line::Delivered(Box::new(Entry {
                id: format!("{}-linked", order.id),
                target,
                folder: order.linked_folder.clone(),
                places: linked.places,
                reply: linked.reply,
                refused: Vec::new(),
                accepted: Vec::new(),
                ..entry.clone()
            })))?;
        }
        self.outbox.ledger.add(&Line::Delivered(Box::new(entry.clone())))?;
        self.outbox.retire(self.config, &order.id)?;
        work.delivered.push(entry);
        Ok(())
    }

    /// Schedules the next attempt, or gives the order up.
    fn postpone(
        &self,
        mut order: Order,
        error: &DeliveryError,
        work: &mut Work,
    ) -> Result<(), OutboxError> {
        let now = self.now();
        let again = error.again();
        order.last_error = Some(error.to_string());
        let stuck = again == Retry::WhenMended;
        if stuck && !order.stuck {
            order.stuck_at = now.0;
        }
        order.stuck = stuck;
        let folder = self.outbox.pending().join(&order.id);
        let options = &self.config.delivery;
        let patience = order
            .target_options(self.config)
            .and_then(Target::patience)
            .unwrap_or(options.patience);
        if again == Retry::Never || now - UtcMicros(order.ordered_at) > patience {
            order.save(&folder)?;
            self.outbox.bury(&order.id)?;
            work.dead.push(order);
        } else {
            // Repeated wrong passwords within a short time would lock an account.
            let attempts = if stuck { u32::MAX } else { order.attempts };
            order.next_attempt_at = (now + pause(attempts, options)).0;
            order.save(&folder)?;
            work.failed.push(order);
        }
        Ok(())
    }

    /// Removes partial uploads of an order that was given up. The order stays if that fails, or if
    /// another process is delivering to another target that it involves.
    async fn clear_away(&self, place: &str, order: &Order) {
        let Ok(target) = place.parse::<Name>() else {
            return;
        };
        let is_own = place == order.target;
        let lock = (!is_own).then(|| self.outbox.lock_target(place));
        if !matches!(lock, None | Some(Ok(Some(_)))) {
            return;
        }
        let files = order.files.iter();
        let files: Vec<_> = files.map(|file| (file.name.as_str(), file.sha256.as_str())).collect();
        let folder = if is_own { &order.folder } else { &order.linked_folder };
        if let Err(error) = abandon(self.config, &target, folder, &files).await {
            tracing::warn!(target_name = %target, id = %order.id, %error, "incomplete files (.NAME….part) remain in the target");
        }
    }
}

/// Returns the parcel of an order.
fn parcel(order: &Order, folder: &Path) -> Result<Parcel, DeliveryError> {
    let mut pictures = Vec::new();
    for (index, (id, media_type)) in order.pictures.iter().enumerate() {
        let path = folder.join(format!("picture-{index}"));
        pictures.push(Inline {
            id: id.clone(),
            media_type: media_type.clone(),
            bytes: fs::read(&path).map_err(DeliveryError::io(&path))?,
        });
    }
    let files = order.files.iter().enumerate();
    Ok(Parcel {
        items: files
            .map(|(index, file)| Item {
                name: file.name.clone(),
                path: folder.join(format!("file-{index}")),
            })
            .collect(),
        folder: order.folder.clone(),
        linked_folder: order.linked_folder.clone(),
        letter: MailContent {
            subject: order.subject.clone(),
            text: order.text.clone(),
            html: order.html.clone(),
            pictures,
            id: order.id.clone(),
            notes: order.notes.clone(),
        },
    })
}

/// Returns a mail's receipt if it accounts for every recipient. A delivery that a recipient did not
/// get must not be entered in the ledger, even if the target's module returned a receipt.
fn accounted_for(
    config: &Config,
    target: &Name,
    receipt: Receipt,
) -> Result<Receipt, DeliveryError> {
    let Some(Target::Email(email)) = config.targets.get(target) else {
        return Ok(receipt);
    };
    let is_known = |address: &str| {
        receipt.accepted.iter().any(|served| served.recipient == address)
            || receipt.refused.iter().any(|(refused, _)| refused == address)
    };
    let people = email.recipients().into_iter().map(|person| person.address.clone());
    let due: Vec<String> = people.filter(|address| !is_known(address)).collect();
    if due.is_empty() { Ok(receipt) } else { Err(DeliveryError::Due(due)) }
}

/// Returns the time until the next attempt. It doubles after each attempt and varies by 20 %, so
/// that deliveries that failed together are not retried together.
fn pause(attempts: u32, options: &DeliveryOptions) -> Micros {
    let doubled = options.first_pause.0.saturating_mul(1_i64 << attempts.saturating_sub(1).min(20));
    let base = doubled.min(options.longest_pause.0);
    let mut byte = [128_u8];
    let _ = getrandom::fill(&mut byte);
    Micros(base * (80 + i64::from(byte[0]) * 40 / 255) / 100)
}
