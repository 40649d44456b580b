//! Repeats deliveries that have arrived. Of each delivered report, the outbox keeps the mail and
//! where it went; the files come from the archive of reports.

use std::{collections::BTreeMap, fs, path::Path, path::PathBuf, time::SystemTime};

use mailqos_base::hex;
use mailqos_model::UtcMicros;
use sha2::{Digest as _, Sha256};

use super::{
    files::{OutboxError, failed, private_file, private_folder},
    order::{Order, StoredFile},
    store::{Outbox, replace_folder},
};

/// Delivered reports that can be sent again.
const MAX_SENT: usize = 1_000;

/// Result of repeating a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Again {
    /// The new delivery is pending under this id.
    Waits(String),
    /// The outbox no longer knows the delivery.
    Unknown,
    /// These files are no longer in the archive, or were changed.
    FilesGone(Vec<String>),
}

impl Outbox {
    /// Keeps a delivered report without its files, so that it can be sent again. The delivery is in
    /// the ledger already, so a failure is only logged.
    pub(super) fn keep_sent(&self, folder: &Path, order: &Order) {
        if order.report.is_empty() {
            return;
        }
        let draft = self.draft();
        let keep = || -> Result<(), OutboxError> {
            private_folder(&draft).map_err(failed(&draft))?;
            for index in 0..order.pictures.len() {
                copy(folder, &draft, &format!("picture-{index}"))?;
            }
            order.save(&draft)?;
            replace_folder(&draft, &self.sent().join(&order.id))
        };
        if let Err(error) = keep() {
            tracing::warn!(id = %order.id, %error, "a delivered report can't be sent again later");
            let _ = fs::remove_dir_all(&draft);
        }
    }

    /// Forgets the oldest of the delivered reports.
    pub(super) fn tidy_sent(&self) {
        let entries = fs::read_dir(self.sent()).into_iter().flatten().flatten();
        let mut all: Vec<(SystemTime, PathBuf)> = entries
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        all.sort();
        let old = all.len().saturating_sub(MAX_SENT);
        for (_, path) in all.into_iter().take(old) {
            let _ = self.discard(&path);
        }
    }

    /// Returns the delivered reports that can be sent again, by id.
    ///
    /// # Errors
    /// The outbox can't be read.
    pub fn sent_reports(&self) -> Result<BTreeMap<String, Order>, OutboxError> {
        let all = Order::load_all(&self.sent())?;
        Ok(all.into_iter().map(|order| (order.id.clone(), order)).collect())
    }

    /// Delivers a report again that has arrived, as a new delivery to the same target. `find`
    /// returns the path of a file in the archive. The same occasion gives the same delivery, so that
    /// a form that is sent twice delivers once.
    ///
    /// # Errors
    /// The outbox can't be read or written.
    pub fn send_again(
        &self,
        id: &str,
        (occasion, now): (&str, UtcMicros),
        find: impl Fn(&StoredFile) -> Option<PathBuf>,
    ) -> Result<Again, OutboxError> {
        let is_id = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let place = self.sent().join(id);
        if !is_id || !place.is_dir() {
            return Ok(Again::Unknown);
        }
        let order = Order::load(&place)?;
        let new = hex(&Sha256::digest(format!("{id} again {occasion}"))[..12]);
        if self.ledger.ids()?.contains(&new) {
            return Ok(Again::Waits(new));
        }
        let order = Order {
            // The first of a chain of repetitions.
            repeats: if order.repeats.is_empty() { order.id } else { order.repeats },
            id: new,
            ordered_at: now.0,
            next_attempt_at: now.0,
            attempts: 0,
            last_error: None,
            done: BTreeMap::new(),
            stuck: false,
            stuck_at: 0,
            ..order
        };
        let draft = self.draft();
        let result = self.repeat(&place, &draft, &order, find);
        if !matches!(result, Ok(Again::Waits(_))) {
            let _ = fs::remove_dir_all(&draft);
        }
        result
    }

    fn repeat(
        &self,
        place: &Path,
        draft: &Path,
        order: &Order,
        find: impl Fn(&StoredFile) -> Option<PathBuf>,
    ) -> Result<Again, OutboxError> {
        private_folder(draft).map_err(failed(draft))?;
        let mut gone = Vec::new();
        for (index, file) in order.files.iter().enumerate() {
            let bytes =
                find(file).and_then(|path| mailqos_base::files::read(&path, file.size).ok());
            let bytes = bytes.filter(|bytes| hex(&Sha256::digest(bytes)) == file.sha256);
            match bytes {
                Some(bytes) => {
                    let copy = draft.join(format!("file-{index}"));
                    private_file(&copy, &bytes).map_err(failed(&copy))?;
                }
                None => gone.push(file.name.clone()),
            }
        }
        if !gone.is_empty() {
            return Ok(Again::FilesGone(gone));
        }
        for index in 0..order.pictures.len() {
            copy(place, draft, &format!("picture-{index}"))?;
        }
        order.save(draft)?;
        self.place(draft, &order.id)?;
        Ok(Again::Waits(order.id.clone()))
    }
}

fn copy(from: &Path, to: &Path, name: &str) -> Result<(), OutboxError> {
    let (from, to) = (from.join(name), to.join(name));
    let bytes = fs::read(&from).map_err(failed(&from))?;
    private_file(&to, &bytes).map_err(failed(&to))
}
