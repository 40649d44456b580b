//! The outbox on disk. A delivery is stored before the first attempt and survives restarts. A
//! delivery in the ledger is never repeated.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use mailqos_base::hex;
use mailqos_config::Config;
use mailqos_model::{Name, UtcMicros};
use sha2::{Digest as _, Sha256};

use super::{
    files::{OutboxError, failed, owner_only, private_file, private_folder, sync},
    ledger::{Ledger, Line},
    order::{Order, StoredFile},
};
use crate::{Item, MailContent};

/// Age at which drafts left by a crash are removed.
const MAX_DRAFT_AGE: Duration = Duration::from_secs(86_400);

/// A delivery to order.
#[derive(Debug, Clone)]
pub struct Request {
    /// The target.
    pub target: Name,
    /// Folder below the target's own.
    pub folder: String,
    /// Folder at the target that a mail links to.
    pub linked_folder: String,
    /// Contents of a mail. The outbox sets its id.
    pub letter: MailContent,
    /// The files.
    pub items: Vec<Item>,
    /// Distinguishes this delivery from others of the same files, such as the time at which a
    /// schedule was due.
    pub occasion: String,
    /// The report's slug; empty for files given on the command line.
    pub report: String,
    /// When the report was due, RFC 3339; empty for files given on the command line.
    pub run: String,
}

/// Result of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// The delivery is pending under this id.
    Waits(String),
    /// The same delivery has already arrived.
    Delivered(String),
}

/// Result of an operation on an order by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// The operation succeeded.
    Done,
    /// The outbox has no order with this id.
    Unknown,
    /// The order is being delivered at the moment and was not changed.
    Busy,
}

/// The outbox of a configuration.
#[derive(Debug, Clone)]
pub struct Outbox {
    pub(super) folder: PathBuf,
    pub(super) ledger: Ledger,
}

impl Outbox {
    /// Opens the outbox in the configuration's state folder and creates its folders.
    ///
    /// # Errors
    /// A folder can't be created.
    pub fn open(config: &Config) -> Result<Self, OutboxError> {
        let folder = config.state.join("outbox");
        let outbox = Self { ledger: Ledger::new(&folder), folder };
        for folder in [
            outbox.folder.clone(),
            outbox.pending(),
            outbox.dead(),
            outbox.refused(),
            outbox.sent(),
            outbox.runs(),
            outbox.locks(),
        ] {
            private_folder(&folder).map_err(failed(&folder))?;
        }
        Ok(outbox)
    }

    /// Checks that the outbox can be written.
    ///
    /// # Errors
    /// The outbox can't be written.
    pub fn check(&self) -> Result<(), OutboxError> {
        let path = self.folder.join("writable");
        private_file(&path, b"mailqos").map_err(failed(&path))?;
        fs::remove_file(&path).map_err(failed(&path))
    }

    pub(super) fn pending(&self) -> PathBuf {
        self.folder.join("pending")
    }

    pub(super) fn dead(&self) -> PathBuf {
        self.folder.join("dead")
    }

    /// Returns the folder of delivered orders that were refused for some recipients, kept until
    /// someone is notified.
    pub(super) fn refused(&self) -> PathBuf {
        self.folder.join("refused")
    }

    /// Returns the folder of orders whose runs are not yet complete, with a folder for each run.
    pub(super) fn runs(&self) -> PathBuf {
        self.folder.join("runs")
    }

    /// Returns the folder of reports that have arrived, without their files.
    pub(super) fn sent(&self) -> PathBuf {
        self.folder.join("sent")
    }

    fn locks(&self) -> PathBuf {
        self.folder.join("locks")
    }

    /// Takes a named lock that is held until the file is dropped, or returns `None` if another
    /// process holds it.
    pub(super) fn lock(&self, what: &str) -> Result<Option<fs::File>, OutboxError> {
        let path = self.locks().join(what);
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(false);
        owner_only(&mut options);
        let lock = options.open(&path).map_err(failed(&path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(lock)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => {
                Err(failed(&path)(mailqos_base::files::lock_error(error)))
            }
        }
    }

    pub(super) fn lock_target(&self, target: &str) -> Result<Option<fs::File>, OutboxError> {
        // A target name from an order must not be used as a path.
        let name: String = target
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' })
            .collect();
        self.lock(&format!("target-{name}"))
    }

    /// Stores a delivery durably.
    ///
    /// # Errors
    /// A file can't be read, or the outbox can't be written.
    pub fn submit(&self, request: &Request, now: UtcMicros) -> Result<Submitted, OutboxError> {
        let draft = self.draft();
        let result = self.write(&draft, request, now).and_then(|submitted| {
            if let Submitted::Waits(id) = &submitted {
                self.place(&draft, id)?;
            }
            Ok(submitted)
        });
        if result.is_err() || matches!(result, Ok(Submitted::Delivered(_))) {
            let _ = fs::remove_dir_all(&draft);
        }
        result
    }

    /// Stores all deliveries of a run durably, or none of them. Afterwards the run [is
    /// ordered](Self::is_ordered) until [`Self::close_run`]. If the run were repeated after a
    /// crash, its figures might have changed, and the report would be delivered twice.
    ///
    /// # Errors
    /// A file can't be read, or the outbox can't be written.
    pub fn submit_run(
        &self,
        run: &str,
        requests: &[Request],
        now: UtcMicros,
    ) -> Result<Vec<Submitted>, OutboxError> {
        let draft = self.draft();
        let written = self.write_run(&draft, run, requests, now);
        if written.is_err() {
            let _ = fs::remove_dir_all(&draft);
        }
        let all = written?;
        self.place_run(&self.run(run))?;
        Ok(all)
    }

    fn write_run(
        &self,
        draft: &Path,
        run: &str,
        requests: &[Request],
        now: UtcMicros,
    ) -> Result<Vec<Submitted>, OutboxError> {
        private_folder(draft).map_err(failed(draft))?;
        let mut all = Vec::new();
        for (index, request) in requests.iter().enumerate() {
            let part = draft.join(format!("new-{index}"));
            let submitted = self.write(&part, request, now)?;
            match &submitted {
                Submitted::Waits(id) if !draft.join(id).exists() => {
                    fs::rename(&part, draft.join(id)).map_err(failed(&part))?;
                }
                _ => fs::remove_dir_all(&part).map_err(failed(&part))?,
            }
            all.push(submitted);
        }
        sync(draft).map_err(failed(draft))?;
        let place = self.run(run);
        fs::rename(draft, &place).map_err(failed(&place))?;
        sync(&self.runs()).map_err(failed(&place))?;
        Ok(all)
    }

    /// Returns the folder of a run.
    pub(super) fn run(&self, run: &str) -> PathBuf {
        self.runs().join(hex(&Sha256::digest(run.as_bytes())[..12]))
    }

    /// Returns whether the deliveries of a run were already ordered.
    pub fn is_ordered(&self, run: &str) -> bool {
        self.run(run).is_dir()
    }

    /// Removes the mark that a run was ordered, after its caller has stored that it is done or due
    /// again. The deliveries stay.
    ///
    /// # Errors
    /// The outbox can't be written.
    pub fn close_run(&self, run: &str) -> Result<(), OutboxError> {
        let folder = self.run(run);
        if folder.is_dir() {
            self.place_run(&folder)?;
            fs::remove_dir_all(&folder).map_err(failed(&folder))?;
        }
        Ok(())
    }

    /// Moves the orders of a run to the pending ones, including those left by a crash.
    pub(super) fn place_run(&self, folder: &Path) -> Result<(), OutboxError> {
        let entries = match fs::read_dir(folder) {
            // The run was closed in the meantime.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(failed(folder))?,
        };
        for entry in entries {
            let entry = entry.map_err(failed(folder))?;
            match self.place(&entry.path(), &entry.file_name().to_string_lossy()) {
                // Another process moved it at the same time.
                Err(OutboxError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                }
                placed => placed?,
            }
        }
        Ok(())
    }

    /// Moves an order to the pending ones, unless it is already there.
    pub(super) fn place(&self, from: &Path, id: &str) -> Result<(), OutboxError> {
        let place = self.pending().join(id);
        if place.exists() {
            return fs::remove_dir_all(from).map_err(failed(from));
        }
        move_folder(from, &place)
    }

    /// Returns a new folder for an incomplete order.
    pub(super) fn draft(&self) -> PathBuf {
        let mut unique = [0_u8; 8];
        // Any unused name will do.
        let _ = getrandom::fill(&mut unique);
        self.folder.join(format!(".draft-{}", hex(&unique)))
    }

    /// Writes an order to a draft.
    fn write(
        &self,
        draft: &Path,
        request: &Request,
        now: UtcMicros,
    ) -> Result<Submitted, OutboxError> {
        private_folder(draft).map_err(failed(draft))?;
        let mut hash = Sha256::new();
        for part in [request.target.as_str(), &request.folder, &request.occasion] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        let mut files = Vec::new();
        for item in &request.items {
            let bytes = fs::read(&item.path).map_err(failed(&item.path))?;
            let sha256 = hex(&Sha256::digest(&bytes));
            hash.update(item.name.as_bytes());
            hash.update(&sha256);
            let copy = draft.join(format!("file-{}", files.len()));
            private_file(&copy, &bytes).map_err(failed(&copy))?;
            files.push(StoredFile { name: item.name.clone(), size: bytes.len() as u64, sha256 });
        }
        let letter = &request.letter;
        for (index, picture) in letter.pictures.iter().enumerate() {
            let copy = draft.join(format!("picture-{index}"));
            private_file(&copy, &picture.bytes).map_err(failed(&copy))?;
        }
        let id = hex(&hash.finalize()[..12]);
        if self.ledger.ids()?.contains(&id) {
            return Ok(Submitted::Delivered(id));
        }
        let pictures = letter.pictures.iter();
        let order = Order {
            id: id.clone(),
            target: request.target.to_string(),
            folder: request.folder.clone(),
            linked_folder: request.linked_folder.clone(),
            subject: letter.subject.clone(),
            text: letter.text.clone(),
            html: letter.html.clone(),
            notes: letter.notes.clone(),
            pictures: pictures
                .map(|picture| (picture.id.clone(), picture.media_type.clone()))
                .collect(),
            files,
            ordered_at: now.0,
            attempts: 0,
            next_attempt_at: now.0,
            last_error: None,
            report: request.report.clone(),
            run: request.run.clone(),
            repeats: String::new(),
            done: BTreeMap::new(),
            stuck: false,
            stuck_at: 0,
        };
        order.save(draft)?;
        Ok(Submitted::Waits(id))
    }

    /// Returns the pending orders.
    ///
    /// # Errors
    /// The outbox can't be read.
    pub fn waiting(&self) -> Result<Vec<Order>, OutboxError> {
        Order::load_all(&self.pending())
    }

    /// Returns the orders that were given up.
    ///
    /// # Errors
    /// The outbox can't be read.
    pub fn given_up(&self) -> Result<Vec<Order>, OutboxError> {
        Order::load_all(&self.dead())
    }

    /// Returns the orders that were refused for some recipients and whose notice is still to be
    /// sent.
    pub(super) fn not_to_all(&self) -> Result<Vec<Order>, OutboxError> {
        Order::load_all(&self.refused())
    }

    /// Returns the ledger, oldest entry first.
    ///
    /// # Errors
    /// The ledger can't be read.
    pub fn ledger(&self) -> Result<Vec<Line>, OutboxError> {
        self.ledger.lines()
    }

    /// Makes an order due now, including one that was given up, and restarts its attempts.
    ///
    /// # Errors
    /// The outbox can't be written.
    pub fn retry(&self, id: &str, now: UtcMicros) -> Result<Named, OutboxError> {
        let Some((_, order)) = self.find(id)? else {
            return Ok(Named::Unknown);
        };
        // A delivery in progress stores which recipients were served. That record must not be
        // overwritten.
        let Some(_lock) = self.lock_target(&order.target)? else {
            return Ok(Named::Busy);
        };
        // The order may have been delivered or attempted before the lock was taken.
        let Some((folder, mut order)) = self.find(id)? else {
            return Ok(Named::Unknown);
        };
        order.next_attempt_at = now.0;
        order.ordered_at = now.0;
        order.stuck = false;
        let pending = self.pending().join(id);
        order.save(&folder)?;
        if folder != pending {
            move_folder(&folder, &pending)?;
        }
        Ok(Named::Done)
    }

    /// Removes an order.
    ///
    /// # Errors
    /// The outbox can't be written.
    pub fn drop_order(&self, id: &str) -> Result<Named, OutboxError> {
        let Some((_, order)) = self.find(id)? else {
            return Ok(Named::Unknown);
        };
        let Some(_lock) = self.lock_target(&order.target)? else {
            return Ok(Named::Busy);
        };
        self.forget(id)?;
        Ok(Named::Done)
    }

    /// Finds a pending order, or one that was given up, and its folder.
    fn find(&self, id: &str) -> Result<Option<(PathBuf, Order)>, OutboxError> {
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(None);
        }
        for folder in [self.pending().join(id), self.dead().join(id)] {
            match Order::load(&folder) {
                Ok(order) => return Ok(Some((folder, order))),
                // The order isn't in this folder, or was just delivered.
                Err(_) if !folder.is_dir() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Removes an order in one step. If a crash left a part of it, that part would be mistaken for
    /// the order when it is ordered again, and the order would never be delivered.
    fn forget(&self, id: &str) -> Result<(), OutboxError> {
        for folder in [self.pending().join(id), self.dead().join(id)] {
            if folder.is_dir() {
                self.discard(&folder)?;
            }
        }
        Ok(())
    }

    pub(super) fn discard(&self, folder: &Path) -> Result<(), OutboxError> {
        let gone = self.draft();
        fs::rename(folder, &gone).map_err(failed(folder))?;
        fs::remove_dir_all(&gone).map_err(failed(&gone))
    }

    /// Moves an order to those that were given up.
    pub(super) fn bury(&self, id: &str) -> Result<(), OutboxError> {
        replace_folder(&self.pending().join(id), &self.dead().join(id))
    }

    /// Removes an order that is in the ledger. If a server refused it for some recipients, the
    /// order stays without its files until someone is notified.
    pub(super) fn retire(&self, config: &Config, id: &str) -> Result<(), OutboxError> {
        let folder = self.pending().join(id);
        let order = Order::load(&folder)?;
        self.keep_sent(&folder, &order);
        if config.delivery.action_list.is_none()
            || !order.done.values().any(|served| served.refused)
        {
            return self.forget(id);
        }
        let place = self.refused().join(id);
        replace_folder(&folder, &place)?;
        for entry in fs::read_dir(&place).into_iter().flatten().flatten() {
            if entry.file_name() != "order.json" {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    /// Makes orders of runs that a crash left pending, and removes old drafts, which were never
    /// acknowledged.
    pub(super) fn tidy(&self) -> Result<(), OutboxError> {
        self.tidy_sent();
        for entry in fs::read_dir(self.runs()).map_err(failed(&self.folder))?.flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| !kind.is_dir()) {
                tracing::error!(path = %path.display(), "unknown file in the outbox; remove it");
                continue;
            }
            self.place_run(&path)?;
        }
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let is_draft = entry.file_name().to_string_lossy().starts_with(".draft-");
            let is_old = || {
                let modified = entry.metadata().and_then(|about| about.modified());
                modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > MAX_DRAFT_AGE))
            };
            if is_draft && is_old() {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(())
    }
}

fn move_folder(from: &Path, to: &Path) -> Result<(), OutboxError> {
    fs::rename(from, to).map_err(failed(to))?;
    to.parent().map_or(Ok(()), sync).map_err(failed(to))
}

/// Moves a folder, replacing an earlier delivery of the same files.
pub(super) fn replace_folder(from: &Path, to: &Path) -> Result<(), OutboxError> {
    if to.is_dir() {
        fs::remove_dir_all(to).map_err(failed(to))?;
    }
    move_folder(from, to)
}
