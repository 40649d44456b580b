//! The outbox: what is to be delivered is on disk before the first attempt, is tried again across restarts, and is entered in
//! the ledger once it has arrived. What is in the ledger is never delivered again.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Instant,
};

use futures_util::future::join_all;
use mailqos_base::hex;
use mailqos_config::{Config, DeliveryOptions, Target};
use mailqos_model::{Micros, Name, UtcMicros};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    Again, DeliveryError, Inline, Item, Letter, Notes, Parcel, Progress, Receipt, Served, abandon, deliver,
    ledger::{Entry, Ledger, Line, Removal, removable},
    shelf::Old,
    sweep,
};

/// Room that an attempt takes on disk beforehand, and more for each recipient: what the server says must find a place when the disk
/// has become full meanwhile.
const RESERVE: (usize, usize) = (16 << 10, 1 << 10);
/// What a crash has left half-written is removed after this time.
const LEFT_OVER: std::time::Duration = std::time::Duration::from_secs(86_400);
/// A target's old files are looked for so often.
const SWEEPING: Micros = Micros::from_secs(3_600);

/// Why the outbox can't be used.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The file system refused.
    #[error("the outbox: {path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An order can't be read.
    #[error("the outbox: {path} is no order: {reason}", path = path.display())]
    Order {
        /// Its file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// A delivery that was ordered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// Tells it from all others; the same files for the same target and occasion have the same.
    pub id: String,
    /// The target's name in the configuration.
    pub target: String,
    /// Folder below the target's own.
    pub folder: String,
    /// The same at the target that a mail links to.
    #[serde(default)]
    pub linked_folder: String,
    /// What a mail says.
    pub subject: String,
    /// The mail's text.
    pub text: String,
    /// The mail's HTML form.
    pub html: Option<String>,
    /// What the mail says of files that are not in it.
    #[serde(default)]
    pub notes: Notes,
    /// The pictures of the HTML form, which lie beside the order: what it calls them, and their types.
    #[serde(default)]
    pub pictures: Vec<(String, String)>,
    /// The files, which lie beside the order.
    pub files: Vec<StoredFile>,
    /// When it was ordered, in microseconds since 1970 UTC.
    pub ordered_at: i64,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried next.
    pub next_attempt_at: i64,
    /// Why it failed last.
    pub last_error: Option<String>,
    /// The report's slug; empty for files that somebody named.
    #[serde(default)]
    pub report: String,
    /// When the report was due; empty for files that somebody named.
    #[serde(default)]
    pub run: String,
    /// Which parts of it are done, so that no later attempt does them again.
    #[serde(default)]
    pub done: BTreeMap<String, Served>,
    /// Nothing but a person can mend why it failed last, such as a wrong password.
    #[serde(default)]
    pub stuck: bool,
    /// When it became so, in microseconds since 1970 UTC.
    #[serde(default)]
    pub stuck_at: i64,
}

impl Order {
    /// How often it was tried, in words.
    pub fn tries(&self) -> String {
        match self.attempts {
            1 => "1 attempt".to_owned(),
            several => format!("{several} attempts"),
        }
    }
}

/// A file of an order.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct StoredFile {
    /// Its name at the target.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

/// What is to be delivered.
#[derive(Debug, Clone)]
pub struct Request {
    /// The target.
    pub target: Name,
    /// Folder below the target's own.
    pub folder: String,
    /// The same at the target that a mail links to.
    pub linked_folder: String,
    /// What a mail says; its id is set by the outbox.
    pub letter: Letter,
    /// The files.
    pub items: Vec<Item>,
    /// What tells this delivery from another of the same files, such as the moment at which a schedule was due.
    pub occasion: String,
    /// The report's slug; empty for files that somebody named.
    pub report: String,
    /// When the report was due, RFC 3339; empty for files that somebody named.
    pub run: String,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// It waits for delivery under this id.
    Waits(String),
    /// It was delivered before.
    Delivered(String),
}

/// What working off did.
#[derive(Debug, Default)]
pub struct Work {
    /// Delivered.
    pub delivered: Vec<Entry>,
    /// Failed for now; they are tried again.
    pub failed: Vec<Order>,
    /// Failed for good, and set aside.
    pub dead: Vec<Order>,
    /// Targets that somebody else delivers to just now.
    pub busy: Vec<String>,
    /// Why the outbox could not be read or written for some of the targets: nothing was tried there.
    pub trouble: Vec<OutboxError>,
}

impl Work {
    /// Whether nothing failed, for no recipient.
    pub fn is_well(&self) -> bool {
        let refused = self.delivered.iter().any(|entry| !entry.refused.is_empty());
        self.failed.is_empty() && self.dead.is_empty() && self.trouble.is_empty() && !refused
    }
}

/// What became of an order that somebody named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// It is done as wished.
    Done,
    /// There is none of that id.
    Unknown,
    /// It is being delivered just now, and left alone.
    Busy,
}

/// The outbox of a configuration.
#[derive(Debug, Clone)]
pub struct Outbox {
    folder: PathBuf,
    ledger: Ledger,
}

impl Outbox {
    /// The outbox in the configuration's state folder.
    ///
    /// # Errors
    /// It can't be made.
    pub fn open(config: &Config) -> Result<Self, OutboxError> {
        let folder = config.state.join("outbox");
        let outbox = Self {
            ledger: Ledger::new(&folder),
            folder,
        };
        for folder in [
            outbox.folder.clone(),
            outbox.pending(),
            outbox.dead(),
            outbox.refused(),
            outbox.runs(),
            outbox.locks(),
        ] {
            private_folder(&folder).map_err(failed(&folder))?;
        }
        Ok(outbox)
    }

    /// Whether it can be written.
    ///
    /// # Errors
    /// It can't.
    pub fn check(&self) -> Result<(), OutboxError> {
        let path = self.folder.join("writable");
        private_file(&path, b"mailqos").map_err(failed(&path))?;
        fs::remove_file(&path).map_err(failed(&path))
    }

    fn pending(&self) -> PathBuf {
        self.folder.join("pending")
    }

    fn dead(&self) -> PathBuf {
        self.folder.join("dead")
    }

    /// What people were told of.
    pub(super) fn told(&self) -> PathBuf {
        self.folder.join("told.json")
    }

    /// What was delivered, but not to all, until somebody is told.
    pub(super) fn refused(&self) -> PathBuf {
        self.folder.join("refused")
    }

    /// The orders of runs that are not yet known to be done, a folder each.
    fn runs(&self) -> PathBuf {
        self.folder.join("runs")
    }

    fn locks(&self) -> PathBuf {
        self.folder.join("locks")
    }

    /// Keeps others from something until it is dropped; `None` where somebody else does it.
    pub(super) fn lock(&self, what: &str) -> Result<Option<fs::File>, OutboxError> {
        let path = self.locks().join(what);
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(false);
        owner_only(&mut options);
        let lock = options.open(&path).map_err(failed(&path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(lock)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(failed(&path)(mailqos_base::files::lock_error(error))),
        }
    }

    /// Puts a delivery on disk. After this it is not forgotten.
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

    /// Puts all deliveries of a run on disk, or none. After this they are not forgotten, and [`Self::is_ordered`] until
    /// [`Self::close_run`]: a run that is made anew after a crash may have other figures by then, and would be delivered twice.
    ///
    /// # Errors
    /// A file can't be read, or the outbox can't be written.
    pub fn submit_run(&self, run: &str, requests: &[Request], now: UtcMicros) -> Result<Vec<Submitted>, OutboxError> {
        let draft = self.draft();
        let write = || -> Result<Vec<Submitted>, OutboxError> {
            private_folder(&draft).map_err(failed(&draft))?;
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
            sync(&draft).map_err(failed(&draft))?;
            let place = self.runs().join(run_key(run));
            fs::rename(&draft, &place).map_err(failed(&place))?;
            sync(&self.runs()).map_err(failed(&place))?;
            Ok(all)
        };
        let result = write();
        if result.is_err() {
            let _ = fs::remove_dir_all(&draft);
        }
        let all = result?;
        self.place_run(&self.runs().join(run_key(run)))?;
        Ok(all)
    }

    /// Whether the deliveries of a run were ordered already.
    pub fn is_ordered(&self, run: &str) -> bool {
        self.runs().join(run_key(run)).is_dir()
    }

    /// Forgets that a run was ordered: whoever makes it has written down that it is done, or that it is due anew. Its deliveries stay.
    ///
    /// # Errors
    /// The outbox can't be written.
    pub fn close_run(&self, run: &str) -> Result<(), OutboxError> {
        let folder = self.runs().join(run_key(run));
        if folder.is_dir() {
            self.place_run(&folder)?;
            fs::remove_dir_all(&folder).map_err(failed(&folder))?;
        }
        Ok(())
    }

    /// Lets the orders of a run wait with the others; those that a crash has left here, too.
    fn place_run(&self, folder: &Path) -> Result<(), OutboxError> {
        let entries = match fs::read_dir(folder) {
            // Whoever made the run has closed it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(failed(folder))?,
        };
        for entry in entries {
            let entry = entry.map_err(failed(folder))?;
            match self.place(&entry.path(), &entry.file_name().to_string_lossy()) {
                // Somebody else who looked at the same time was faster.
                Err(OutboxError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                placed => placed?,
            }
        }
        Ok(())
    }

    /// Lets an order wait with the others, unless the same one does already.
    fn place(&self, from: &Path, id: &str) -> Result<(), OutboxError> {
        let place = self.pending().join(id);
        if place.exists() {
            return fs::remove_dir_all(from).map_err(failed(from));
        }
        fs::rename(from, &place).map_err(failed(&place))?;
        sync(&self.pending()).map_err(failed(&place))
    }

    /// A folder for what is not whole yet, or no more.
    fn draft(&self) -> PathBuf {
        let mut unique = [0_u8; 8];
        // Only a name that nobody else has.
        let _ = getrandom::fill(&mut unique);
        self.folder.join(format!(".draft-{}", hex(&unique)))
    }

    /// Writes an order down, where nobody looks for it yet.
    fn write(&self, draft: &Path, request: &Request, now: UtcMicros) -> Result<Submitted, OutboxError> {
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
            files.push(StoredFile {
                name: item.name.clone(),
                size: bytes.len() as u64,
                sha256,
            });
        }
        for (index, picture) in request.letter.pictures.iter().enumerate() {
            let copy = draft.join(format!("picture-{index}"));
            private_file(&copy, &picture.bytes).map_err(failed(&copy))?;
        }
        let id = hex(&hash.finalize()[..12]);
        if self.ledger.ids()?.contains(&id) {
            return Ok(Submitted::Delivered(id));
        }
        let order = Order {
            id: id.clone(),
            target: request.target.to_string(),
            folder: request.folder.clone(),
            linked_folder: request.linked_folder.clone(),
            subject: request.letter.subject.clone(),
            text: request.letter.text.clone(),
            html: request.letter.html.clone(),
            notes: request.letter.notes.clone(),
            pictures: request
                .letter
                .pictures
                .iter()
                .map(|picture| (picture.id.clone(), picture.media_type.clone()))
                .collect(),
            files,
            ordered_at: now.0,
            attempts: 0,
            next_attempt_at: now.0,
            last_error: None,
            report: request.report.clone(),
            run: request.run.clone(),
            done: BTreeMap::new(),
            stuck: false,
            stuck_at: 0,
        };
        self.save(draft, &order)?;
        Ok(Submitted::Waits(id))
    }

    fn save(&self, folder: &Path, order: &Order) -> Result<(), OutboxError> {
        let path = folder.join("order.json");
        let text = serde_json::to_vec_pretty(order).map_err(|error| OutboxError::Order {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        let new = folder.join("order.new");
        private_file(&new, &text).map_err(failed(&new))?;
        fs::rename(&new, &path).map_err(failed(&path))?;
        sync(folder).map_err(failed(folder))
    }

    /// Takes the room on disk that the next [`Self::save`] needs.
    fn reserve(&self, folder: &Path, recipients: usize) -> io::Result<()> {
        let text = fs::metadata(folder.join("order.json"))?.len() as usize;
        let room = vec![b' '; text + RESERVE.0 + recipients * RESERVE.1];
        private_file(&folder.join("order.new"), &room)
    }

    /// The orders that wait.
    ///
    /// # Errors
    /// The outbox can't be read.
    pub fn waiting(&self) -> Result<Vec<Order>, OutboxError> {
        orders(&self.pending())
    }

    /// The orders that were given up.
    ///
    /// # Errors
    /// The outbox can't be read.
    pub fn given_up(&self) -> Result<Vec<Order>, OutboxError> {
        orders(&self.dead())
    }

    /// The orders that were delivered, but not to all, and that nobody was told of yet.
    pub(super) fn not_to_all(&self) -> Result<Vec<Order>, OutboxError> {
        orders(&self.refused())
    }

    /// The ledger, oldest first.
    ///
    /// # Errors
    /// It can't be read.
    pub fn ledger(&self) -> Result<Vec<Line>, OutboxError> {
        self.ledger.lines()
    }

    /// Tries an order again at once, also one that was given up. The patience with it begins anew.
    ///
    /// # Errors
    /// The outbox can't be written.
    pub fn retry(&self, id: &str, now: UtcMicros) -> Result<Named, OutboxError> {
        let Some((_, order)) = self.find(id)? else {
            return Ok(Named::Unknown);
        };
        // Who delivers it writes down who was served: that must not be overwritten.
        let Some(_lock) = self.lock_target(&order.target)? else {
            return Ok(Named::Busy);
        };
        // What was read before the lock may have been delivered, or tried, meanwhile.
        let Some((folder, mut order)) = self.find(id)? else {
            return Ok(Named::Unknown);
        };
        order.next_attempt_at = now.0;
        order.ordered_at = now.0;
        order.stuck = false;
        let pending = self.pending().join(id);
        self.save(&folder, &order)?;
        if folder != pending {
            fs::rename(&folder, &pending).map_err(failed(&folder))?;
            sync(&self.pending()).map_err(failed(&pending))?;
        }
        Ok(Named::Done)
    }

    /// Forgets an order.
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

    /// An order that waits, or else was given up, and its folder.
    fn find(&self, id: &str) -> Result<Option<(PathBuf, Order)>, OutboxError> {
        if !is_id(id) {
            return Ok(None);
        }
        for folder in [self.pending().join(id), self.dead().join(id)] {
            match order(&folder) {
                Ok(order) => return Ok(Some((folder, order))),
                // It isn't here, or was delivered just now.
                Err(_) if !folder.is_dir() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Takes an order out at once and whole: a part of one that a crash leaves in its place would be taken for it when it is ordered
    /// again, and never be delivered.
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

    /// Takes out an order that the ledger has. One that a server refused for some recipients stays beside the others, without its
    /// files, until people are told.
    fn retire(&self, config: &Config, id: &str) -> Result<(), OutboxError> {
        let folder = self.pending().join(id);
        let order = order(&folder)?;
        if config.delivery.action_list.is_none() || !order.done.values().any(|served| served.refused) {
            return self.forget(id);
        }
        let place = self.refused().join(id);
        if place.is_dir() {
            fs::remove_dir_all(&place).map_err(failed(&place))?;
        }
        fs::rename(&folder, &place).map_err(failed(&place))?;
        sync(&self.refused()).map_err(failed(&place))?;
        for entry in fs::read_dir(&place).into_iter().flatten().flatten() {
            if entry.file_name() != "order.json" {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    pub(super) fn lock_target(&self, target: &str) -> Result<Option<fs::File>, OutboxError> {
        // A name from an order is no path.
        let name: String = target
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || c == '-' || c == '_' {
                    c
                } else {
                    '_'
                }
            })
            .collect();
        self.lock(&format!("target-{name}"))
    }

    /// Takes up the orders that a crash has left beside the others, and removes what it left of those that were never acknowledged.
    fn tidy(&self) -> Result<(), OutboxError> {
        for entry in fs::read_dir(self.runs()).map_err(failed(&self.folder))?.flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| !kind.is_dir()) {
                tracing::error!("{} is none of the outbox's files; remove it", path.display());
                continue;
            }
            self.place_run(&path)?;
        }
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let is_draft = entry.file_name().to_string_lossy().starts_with(".draft-");
            let old = || {
                let modified = entry.metadata().and_then(|about| about.modified());
                modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > LEFT_OVER))
            };
            if is_draft && old() {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(())
    }

    /// Delivers what is due; all targets at the same time, none held up by another.
    ///
    /// An order whose entry in the ledger was lost in a crash is delivered again, over the same names and with the same Message-ID;
    /// a target that can be read back is found to have it already.
    ///
    /// # Errors
    /// The outbox can't be read or written.
    pub async fn work_off(&self, config: &Config, now: UtcMicros) -> Result<Work, OutboxError> {
        self.tidy()?;
        // Side by side between targets, one after the other at a target: two files of one name must not meet half-written.
        let mut by_target: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for order in self.waiting()? {
            if is_due(order.next_attempt_at, now, config.delivery.longest_pause) {
                by_target.entry(order.target).or_default().push(order.id);
            }
        }
        let began = Instant::now();
        let targets = by_target.into_iter().map(|(target, ids)| async move {
            let mut work = Work::default();
            if let Err(error) = self.work_target(config, &target, &ids, now, began, &mut work).await {
                work.trouble.push(error);
            }
            work
        });
        let mut all = Work::default();
        for work in join_all(targets).await {
            all.delivered.extend(work.delivered);
            all.failed.extend(work.failed);
            all.dead.extend(work.dead);
            all.busy.extend(work.busy);
            all.trouble.extend(work.trouble);
        }
        Ok(all)
    }

    async fn work_target(
        &self,
        config: &Config,
        target: &str,
        ids: &[String],
        now: UtcMicros,
        began: Instant,
        work: &mut Work,
    ) -> Result<(), OutboxError> {
        let Some(_lock) = self.lock_target(target)? else {
            work.busy.push(target.to_owned());
            return Ok(());
        };
        let delivered = self.ledger.ids()?;
        for id in ids {
            if delivered.contains(id) {
                // A crash came between the ledger and here, or somebody else was faster.
                if self.pending().join(id).is_dir() {
                    self.retire(config, id)?;
                }
                continue;
            }
            let folder = self.pending().join(id);
            if !folder.is_dir() {
                continue;
            }
            let mut order = order(&folder)?;
            let now = || now + Micros::from(began.elapsed());
            // Before anything is sent: if the disk is full or broken now, who got it could not be written down afterwards.
            order.attempts += 1;
            order.next_attempt_at = (now() + pause(order.attempts, &config.delivery)).0;
            self.save(&folder, &order)?;
            self.reserve(&folder, order_recipients(config, &order))
                .map_err(failed(&folder))?;
            let (order, result) = self.attempt(config, order).await;
            let left_at = match &result {
                Ok(_) => None,
                Err(error) => error.left_at(target).map(str::to_owned),
            };
            let dead = work.dead.len();
            self.settle(config, order, result, now(), work)?;
            if let (Some(place), Some(order)) = (left_at, work.dead.get(dead)) {
                self.clear_away(config, &place, order).await;
            }
        }
        Ok(())
    }

    /// Removes what attempts have left of the files of an order that was given up. Where that fails, or somebody delivers to a target that
    /// is not the order's own, it stays.
    async fn clear_away(&self, config: &Config, place: &str, order: &Order) {
        let Ok(target) = place.parse::<Name>() else {
            return;
        };
        let lock = (place != order.target).then(|| self.lock_target(place));
        if !matches!(lock, None | Some(Ok(Some(_)))) {
            return;
        }
        let files = order
            .files
            .iter()
            .map(|file| (file.name.as_str(), file.sha256.as_str()));
        let files: Vec<_> = files.collect();
        let folder = if place == order.target {
            &order.folder
        } else {
            &order.linked_folder
        };
        if let Err(error) = abandon(config, &target, folder, &files).await {
            tracing::warn!(
                target_name = %target, id = %order.id,
                "what is there of files that were given up may stay (.NAME….part): {error}"
            );
        }
    }

    /// Writes down what became of an attempt, at once: what is not written is done again.
    fn settle(
        &self,
        config: &Config,
        mut order: Order,
        result: Result<Receipt, DeliveryError>,
        now: UtcMicros,
        work: &mut Work,
    ) -> Result<(), OutboxError> {
        let error = match result {
            Ok(receipt) => {
                let entry = Entry {
                    id: order.id.clone(),
                    delivered_at: now.to_string(),
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
                };
                if let Some((target, linked)) = receipt.linked {
                    // They lie there for the mail, and go by that target's rules.
                    self.ledger.add(&Line::Delivered(Box::new(Entry {
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
                self.ledger.add(&Line::Delivered(Box::new(entry.clone())))?;
                self.retire(config, &order.id)?;
                work.delivered.push(entry);
                return Ok(());
            }
            Err(error) => error,
        };
        let again = error.again();
        order.last_error = Some(error.to_string());
        let stuck = again == Again::WhenMended;
        if stuck && !order.stuck {
            order.stuck_at = now.0;
        }
        order.stuck = stuck;
        let folder = self.pending().join(&order.id);
        let patience = order
            .target
            .parse::<Name>()
            .ok()
            .and_then(|name| config.targets.get(&name))
            .and_then(Target::patience)
            .unwrap_or(config.delivery.patience);
        let over = now - UtcMicros(order.ordered_at) > patience;
        if again == Again::Never || over {
            self.save(&folder, &order)?;
            let place = self.dead().join(&order.id);
            if place.is_dir() {
                // The same delivery was given up before.
                fs::remove_dir_all(&place).map_err(failed(&place))?;
            }
            fs::rename(&folder, &place).map_err(failed(&place))?;
            sync(&self.dead()).map_err(failed(&place))?;
            work.dead.push(order);
        } else {
            // Too many wrong passwords in a short time would lock an account.
            let attempts = if stuck { u32::MAX } else { order.attempts };
            order.next_attempt_at = (now + pause(attempts, &config.delivery)).0;
            self.save(&folder, &order)?;
            work.failed.push(order);
        }
        Ok(())
    }

    async fn attempt(&self, config: &Config, mut order: Order) -> (Order, Result<Receipt, DeliveryError>) {
        let Ok(target) = order.target.parse::<Name>() else {
            let error = DeliveryError::NoTarget(order.target.clone());
            return (order, Err(error));
        };
        let folder = self.pending().join(&order.id);
        let mut pictures = Vec::new();
        for (index, (id, media_type)) in order.pictures.iter().enumerate() {
            let path = folder.join(format!("picture-{index}"));
            match fs::read(&path) {
                Ok(bytes) => pictures.push(Inline {
                    id: id.clone(),
                    media_type: media_type.clone(),
                    bytes,
                }),
                Err(source) => {
                    let what = path.display().to_string();
                    return (order, Err(DeliveryError::Io { what, source }));
                }
            }
        }
        let parcel = Parcel {
            items: order
                .files
                .iter()
                .enumerate()
                .map(|(index, file)| Item {
                    name: file.name.clone(),
                    path: folder.join(format!("file-{index}")),
                })
                .collect(),
            folder: order.folder.clone(),
            linked_folder: order.linked_folder.clone(),
            letter: Letter {
                subject: order.subject.clone(),
                text: order.text.clone(),
                html: order.html.clone(),
                pictures,
                id: order.id.clone(),
                notes: order.notes.clone(),
            },
        };
        let copy = order.clone();
        let recipients = order_recipients(config, &order);
        let mut progress = Progress {
            done: order.done.clone(),
            save: Box::new(|done| {
                let order = Order {
                    done: done.clone(),
                    ..copy.clone()
                };
                self.save(&folder, &order)
                    .map_err(|error| io::Error::other(error.to_string()))?;
                // Room for the next; where there is none, this was the last that can be written down.
                self.reserve(&folder, recipients)
            }),
        };
        let result = deliver(config, &target, &parcel, &mut progress).await;
        let result = result.and_then(|receipt| accounted_for(config, &target, receipt));
        order.done = std::mem::take(&mut progress.done);
        drop(progress);
        (order, result)
    }

    /// Removes what the targets' rules no longer keep; only files that were delivered from here and are still the same.
    ///
    /// # Errors
    /// The outbox can't be read or written. A target that can't be reached is tried again later.
    pub async fn sweep(&self, config: &Config, now: UtcMicros) -> Result<Vec<Removal>, OutboxError> {
        let file = self.folder.join("sweeps.json");
        let mut next: BTreeMap<String, i64> = fs::read(&file)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let before = next.clone();
        let mut removals = Vec::new();
        for (name, target) in &config.targets {
            let Target::Files(files) = target else { continue };
            if files.keep.is_none() && files.keep_last.is_none() {
                continue;
            }
            if next
                .get(name.as_str())
                .is_some_and(|next| !is_due(*next, now, SWEEPING))
            {
                continue;
            }
            let Some(_lock) = self.lock_target(name.as_str())? else {
                continue;
            };
            next.insert(name.to_string(), (now + SWEEPING).0);
            let oldest = files.keep.map(|keep| now - keep);
            let mut by_folder: BTreeMap<String, Vec<Old>> = BTreeMap::new();
            for old in removable(&self.ledger.lines()?, name.as_str(), oldest, files.keep_last) {
                by_folder.entry(old.folder).or_default().push(Old {
                    name: old.name,
                    size: old.size,
                    sha256: old.sha256,
                });
            }
            for (folder, old) in by_folder {
                let (swept, end) = sweep(config, files, &folder, &old).await;
                for (file, reason) in swept {
                    let removal = Removal {
                        removed_at: now.to_string(),
                        target: name.to_string(),
                        folder: folder.clone(),
                        name: file,
                        reason,
                    };
                    self.ledger.add(&Line::Removed(removal.clone()))?;
                    removals.push(removal);
                }
                if let Err(error) = end {
                    tracing::warn!(target = %name, "old files stay for now: {error}");
                    // What is refused in one folder may be let go in another; who is not let in does not knock again.
                    let is_inside = !matches!(error, DeliveryError::Unopened(_) | DeliveryError::Credentials(_));
                    if !(is_inside && error.again() == Again::WhenMended) {
                        break;
                    }
                }
            }
        }
        if next != before
            && let Ok(text) = serde_json::to_vec(&next)
        {
            private_file(&file, &text).map_err(failed(&file))?;
        }
        Ok(removals)
    }
}

/// Whether a moment has come, or is so far away that the clock by which it was set must have been wrong.
pub fn is_due(at: i64, now: UtcMicros, pause: Micros) -> bool {
    at <= now.0 || at > now.0.saturating_add(pause.0.saturating_mul(2))
}

/// A receipt for a mail, if it says of every recipient what became of them: a delivery that was not made for somebody
/// must not be entered as made, whatever the way of delivery believes.
fn accounted_for(config: &Config, target: &Name, receipt: Receipt) -> Result<Receipt, DeliveryError> {
    let Some(Target::Email(email)) = config.targets.get(target) else {
        return Ok(receipt);
    };
    let is_known = |address: &str| {
        receipt.accepted.iter().any(|served| served.recipient == address)
            || receipt.refused.iter().any(|(refused, _)| refused == address)
    };
    let people = email.recipients().into_iter().map(|person| person.address.clone());
    let due: Vec<String> = people.filter(|address| !is_known(address)).collect();
    if due.is_empty() {
        Ok(receipt)
    } else {
        Err(DeliveryError::Due(due))
    }
}

fn order_recipients(config: &Config, order: &Order) -> usize {
    match order
        .target
        .parse::<Name>()
        .ok()
        .and_then(|name| config.targets.get(&name))
    {
        Some(Target::Email(target)) => target.recipients().len(),
        _ => 0,
    }
}

/// Twice as long after each attempt, give or take a fifth, so that many that failed together don't come back together.
fn pause(attempts: u32, options: &DeliveryOptions) -> Micros {
    let doubled = options
        .first_pause
        .0
        .saturating_mul(1_i64 << attempts.saturating_sub(1).min(20));
    let base = doubled.min(options.longest_pause.0);
    let mut byte = [128_u8];
    let _ = getrandom::fill(&mut byte);
    Micros(base * (80 + i64::from(byte[0]) * 40 / 255) / 100)
}

fn orders(folder: &Path) -> Result<Vec<Order>, OutboxError> {
    let mut orders = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed(folder))? {
        let path = entry.map_err(failed(folder))?.path();
        match order(&path) {
            Ok(order) => orders.push(order),
            // It was delivered meanwhile.
            Err(_) if !path.exists() => {}
            Err(error) => tracing::error!("{error}"),
        }
    }
    orders.sort_by(|a: &Order, b| (a.ordered_at, &a.run, &a.id).cmp(&(b.ordered_at, &b.run, &b.id)));
    Ok(orders)
}

fn order(folder: &Path) -> Result<Order, OutboxError> {
    let path = folder.join("order.json");
    let text = fs::read(&path).map_err(failed(&path))?;
    serde_json::from_slice(&text).map_err(|error| OutboxError::Order {
        path,
        reason: error.to_string(),
    })
}

/// The name of a run's folder.
fn run_key(run: &str) -> String {
    hex(&Sha256::digest(run.as_bytes())[..12])
}

fn is_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

pub(super) fn failed(path: &Path) -> impl FnOnce(io::Error) -> OutboxError + use<> {
    let path = path.to_owned();
    move |source| OutboxError::Io { path, source }
}

pub(super) fn owner_only(options: &mut fs::OpenOptions) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    #[cfg(not(unix))]
    let _ = options;
}

fn private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(folder)
}

/// Writes a file of this user's own. One that is there is overwritten in place and then cut, so that its room is used.
pub(super) fn private_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    owner_only(&mut options);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_all()
}

pub(super) fn sync(folder: &Path) -> io::Result<()> {
    mailqos_base::files::sync_folder(folder)
}

#[cfg(test)]
pub(super) mod tests {
    use super::{super::dead::Ill, *};

    fn config(folder: &Path) -> Config {
        let file = folder.join("mailqos.toml");
        fs::write(
            &file,
            "site = \"here\"\n[target.shelf]\nkind = \"folder\"\npath = \"shelf\"\n",
        )
        .expect("written");
        mailqos_config::load(&file).unwrap_or_else(|problems| panic!("{problems}"))
    }

    /// An order of a file for a target `shelf`.
    pub(crate) fn request(folder: &Path, occasion: &str) -> Request {
        let path = folder.join("r.pdf");
        fs::write(&path, b"%PDF").expect("written");
        Request {
            target: "shelf".parse().expect("a name"),
            folder: String::new(),
            linked_folder: String::new(),
            letter: Letter::default(),
            items: vec![Item {
                name: "r.pdf".into(),
                path,
            }],
            occasion: occasion.into(),
            report: String::new(),
            run: String::new(),
        }
    }

    #[tokio::test]
    async fn what_was_delivered_is_not_delivered_again() {
        let folder = tempfile::tempdir().expect("folder");
        let config = config(folder.path());
        let outbox = Outbox::open(&config).expect("outbox");
        let now = UtcMicros(1_000_000);
        let first = outbox.submit(&request(folder.path(), "a"), now).expect("submitted");
        let Submitted::Waits(id) = first else {
            panic!("it waits");
        };
        assert_eq!(
            outbox.submit(&request(folder.path(), "a"), now).expect("again"),
            Submitted::Waits(id.clone())
        );
        let work = outbox.work_off(&config, now).await.expect("worked off");
        assert_eq!(work.delivered.len(), 1);
        assert_eq!(fs::read(folder.path().join("shelf/r.pdf")).expect("there"), b"%PDF");
        assert_eq!(
            outbox.submit(&request(folder.path(), "a"), now).expect("again"),
            Submitted::Delivered(id)
        );
        assert!(
            outbox
                .work_off(&config, now)
                .await
                .expect("nothing")
                .delivered
                .is_empty()
        );
        assert!(matches!(
            outbox.submit(&request(folder.path(), "b"), now),
            Ok(Submitted::Waits(_))
        ));
        assert_eq!(outbox.ledger().expect("ledger").len(), 1);
    }

    #[tokio::test]
    async fn a_run_is_ordered_whole_and_once() {
        let folder = tempfile::tempdir().expect("folder");
        let config = config(folder.path());
        let outbox = Outbox::open(&config).expect("outbox");
        let now = UtcMicros(1_000_000);
        let both = [request(folder.path(), "a"), request(folder.path(), "b")];
        let missing = Request {
            items: vec![Item {
                name: "none.pdf".into(),
                path: folder.path().join("none.pdf"),
            }],
            ..request(folder.path(), "c")
        };
        // One that can't be read: none of them is ordered.
        let [first, second] = both.clone();
        assert!(outbox.submit_run("run", &[first, missing, second], now).is_err());
        assert!(!outbox.is_ordered("run") && outbox.waiting().expect("read").is_empty());

        assert_eq!(outbox.submit_run("run", &both, now).expect("ordered").len(), 2);
        assert!(outbox.is_ordered("run") && !outbox.is_ordered("another run"));
        let waiting = outbox.waiting().expect("read");
        assert_eq!(waiting.len(), 2);
        // As a crash leaves it: one order has not come to its place yet.
        let left = outbox.runs().join(run_key("run")).join(&waiting[0].id);
        fs::rename(outbox.pending().join(&waiting[0].id), &left).expect("moved");
        let work = outbox.work_off(&config, now).await.expect("worked off");
        assert_eq!((work.delivered.len(), left.exists()), (2, false));
        assert!(outbox.is_ordered("run"));
        outbox.close_run("run").expect("closed");
        assert!(!outbox.is_ordered("run"));
        outbox.close_run("run").expect("closed");
    }

    #[test]
    fn what_was_refused_for_some_stays_where_somebody_can_be_told() {
        let folder = tempfile::tempdir().expect("folder");
        let mut config = config(folder.path());
        let outbox = Outbox::open(&config).expect("outbox");
        let now = UtcMicros(1_000_000);
        let refuse = |config: &Config, occasion: &str| {
            let submitted = outbox
                .submit(&request(folder.path(), occasion), now)
                .expect("submitted");
            let Submitted::Waits(id) = submitted else {
                panic!("it waits");
            };
            let place = outbox.pending().join(&id);
            let mut order = order(&place).expect("an order");
            let served = Served {
                recipient: "a@example.com".into(),
                at: String::new(),
                reply: "550 5.1.1 nobody".into(),
                refused: true,
            };
            order.done.insert("a@example.com whole".into(), served);
            outbox.save(&place, &order).expect("saved");
            outbox.retire(config, &id).expect("retired");
            assert!(outbox.waiting().expect("read").is_empty());
        };
        // There is nobody to tell.
        refuse(&config, "a");
        assert!(outbox.not_to_all().expect("read").is_empty());
        config.delivery.action_list = Some("bosses".parse().expect("a name"));
        refuse(&config, "b");
        let left = outbox.not_to_all().expect("read").remove(0);
        assert!(!outbox.refused().join(&left.id).join("file-0").exists());
    }

    #[test]
    fn a_run_that_is_closed_while_others_look_for_it_holds_nobody_up() {
        let folder = tempfile::tempdir().expect("folder");
        let outbox = Outbox::open(&config(folder.path())).expect("outbox");
        outbox
            .place_run(&outbox.runs().join(run_key("run")))
            .expect("nothing to do");
    }

    #[test]
    fn a_stray_file_holds_nobody_up() {
        let folder = tempfile::tempdir().expect("folder");
        let outbox = Outbox::open(&config(folder.path())).expect("outbox");
        fs::write(outbox.runs().join("stray"), "x").expect("written");
        outbox.tidy().expect("it goes on");
    }

    #[test]
    fn an_order_that_is_dropped_can_be_ordered_again() {
        let folder = tempfile::tempdir().expect("folder");
        let outbox = Outbox::open(&config(folder.path())).expect("outbox");
        let now = UtcMicros(1_000_000);
        let order = || outbox.submit(&request(folder.path(), "a"), now).expect("submitted");
        let Submitted::Waits(id) = order() else {
            panic!("it waits");
        };
        assert_eq!(outbox.drop_order(&id).expect("dropped"), Named::Done);
        let left = fs::read_dir(&outbox.folder).expect("a folder").flatten();
        assert!(
            left.map(|entry| entry.file_name())
                .all(|name| !name.to_string_lossy().starts_with(".draft-"))
        );
        assert_eq!(order(), Submitted::Waits(id));
        assert_eq!(outbox.waiting().expect("read").len(), 1);
    }

    #[tokio::test]
    async fn nothing_half_done_stays_of_what_is_given_up() {
        let folder = tempfile::tempdir().expect("folder");
        let config = config(folder.path());
        let outbox = Outbox::open(&config).expect("outbox");
        let mut now = UtcMicros(1_000_000);
        outbox.submit(&request(folder.path(), "a"), now).expect("submitted");
        // A folder is in the way of the file's name; an attempt before has left a part.
        let shelf = folder.path().join("shelf");
        fs::create_dir_all(shelf.join("r.pdf")).expect("made");
        let part = shelf.join(format!(".r.pdf.{}.part", &hex(&Sha256::digest(b"%PDF"))[..8]));
        fs::write(&part, "%P").expect("written");
        assert_eq!(outbox.work_off(&config, now).await.expect("tried").failed.len(), 1);
        assert!(part.exists());
        now = now + config.delivery.patience + config.delivery.longest_pause;
        assert_eq!(outbox.work_off(&config, now).await.expect("tried").dead.len(), 1);
        assert!(!part.exists());
    }

    #[tokio::test]
    async fn what_a_mail_was_to_link_to_is_cleared_away_unless_somebody_delivers_there() {
        for busy in [false, true] {
            let folder = tempfile::tempdir().expect("folder");
            let file = folder.path().join("mailqos.toml");
            let text = "site = \"here\"\n[target.shelf]\nkind = \"folder\"\npath = \"shelf\"\n\
                        [mail_server.a]\nserver = \"a.example.com\"\nfrom = \"reports@example.com\"\n\
                        [target.people]\nkind = \"email\"\nto = [\"a@example.com\"]\nattachments = \"1kB\"\nlink_to = \"shelf\"\n";
            fs::write(&file, text).expect("written");
            let config = mailqos_config::load(&file).unwrap_or_else(|problems| panic!("{problems}"));
            let outbox = Outbox::open(&config).expect("outbox");
            let mut now = UtcMicros(1_000_000);
            let mut request = request(folder.path(), "a");
            request.target = "people".parse().expect("a name");
            let bytes = vec![b'x'; 3_000];
            fs::write(&request.items[0].path, &bytes).expect("written");
            outbox.submit(&request, now).expect("submitted");
            let shelf = folder.path().join("shelf");
            fs::create_dir_all(shelf.join("r.pdf")).expect("made");
            let part = shelf.join(format!(".r.pdf.{}.part", &hex(&Sha256::digest(&bytes))[..8]));
            fs::write(&part, "x").expect("written");
            let lock = busy.then(|| outbox.lock_target("shelf").expect("a lock"));
            assert_eq!(outbox.work_off(&config, now).await.expect("tried").failed.len(), 1);
            now = now + config.delivery.patience + config.delivery.longest_pause;
            assert_eq!(outbox.work_off(&config, now).await.expect("tried").dead.len(), 1);
            assert_eq!(part.exists(), busy);
            drop(lock);
        }
    }

    #[test]
    fn what_is_stuck_again_is_another_notice() {
        let folder = tempfile::tempdir().expect("folder");
        let config = config(folder.path());
        let outbox = Outbox::open(&config).expect("outbox");
        let mut now = UtcMicros(1_000_000);
        let submitted = outbox.submit(&request(folder.path(), "a"), now).expect("submitted");
        let Submitted::Waits(id) = submitted else {
            panic!("it waits");
        };
        let place = outbox.pending().join(&id);
        let mut fail = |transient: bool| {
            now = now + Micros::from_secs(1);
            let error = DeliveryError::Server {
                server: "far:21".into(),
                step: "login".into(),
                reason: "530".into(),
                transient,
            };
            let there = order(&place).expect("an order");
            outbox
                .settle(&config, there, Err(error), now, &mut Work::default())
                .expect("written");
            (order(&place).expect("an order"), now)
        };
        let (first, _) = fail(false);
        let (same, _) = fail(false);
        assert_eq!(Ill::Stuck.notice(&same), Ill::Stuck.notice(&first));
        // By itself, and after somebody has tried to mend it.
        fail(true);
        let (second, at) = fail(false);
        assert_ne!(Ill::Stuck.notice(&second), Ill::Stuck.notice(&first));
        assert_eq!(outbox.retry(&id, at).expect("retried"), Named::Done);
        let (third, _) = fail(false);
        assert_ne!(Ill::Stuck.notice(&third), Ill::Stuck.notice(&second));
    }

    #[tokio::test]
    async fn what_fails_is_tried_again_later_and_given_up_in_the_end() {
        let folder = tempfile::tempdir().expect("folder");
        let config = config(folder.path());
        // A file is in the way of the target's folder.
        fs::write(folder.path().join("shelf"), "x").expect("written");
        let outbox = Outbox::open(&config).expect("outbox");
        let mut now = UtcMicros(1_000_000);
        outbox.submit(&request(folder.path(), "a"), now).expect("submitted");
        assert_eq!(outbox.work_off(&config, now).await.expect("tried").failed.len(), 1);
        assert!(
            outbox
                .work_off(&config, now)
                .await
                .expect("too early")
                .failed
                .is_empty()
        );
        now = now + config.delivery.patience + config.delivery.longest_pause;
        assert_eq!(outbox.work_off(&config, now).await.expect("tried").dead.len(), 1);
        let dead = outbox.given_up().expect("dead letters");
        assert!(
            dead[0]
                .last_error
                .as_deref()
                .is_some_and(|error| error.contains("shelf"))
        );
        fs::remove_file(folder.path().join("shelf")).expect("mended");
        assert_eq!(outbox.retry(&dead[0].id, now).expect("retried"), Named::Done);
        assert_eq!(outbox.work_off(&config, now).await.expect("tried").delivered.len(), 1);
        assert_eq!(outbox.retry("../../x", now).expect("no such order"), Named::Unknown);
    }
}
