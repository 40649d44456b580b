//! The thread that appends to the journal in groups: one sync serves all waiting callers.

use std::{
    path::PathBuf,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use mailqos_base::lock::IgnorePoison as _;
use mailqos_model::{MonitorId, UtcMicros};
use tokio::sync::oneshot;

use super::{
    InFlight, RecordError, Shared,
    journal::{Entry, Segment},
};

/// Maximum number of entries per sync.
const GROUP: usize = 4096;
/// Maximum size in bytes of entries held in memory while the disk does not accept them.
const MAX_HELD: usize = 64 * 1024 * 1024;
/// Time until the disk is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// Interval at which a lasting failure is logged again.
const REMIND: Duration = Duration::from_secs(60);

/// Effect of an entry on the mails in transit.
#[derive(Debug)]
pub(super) enum Effect {
    None,
    Sent(Box<InFlight>),
    Settled(MonitorId, UtcMicros),
}

impl Effect {
    pub(super) fn of(entry: Entry) -> Self {
        match entry {
            Entry::Sample(sample) if !sample.is_provisional() => {
                Self::Settled(sample.monitor, sample.started_at)
            }
            Entry::Sample(_) | Entry::Event(_) => Self::None,
            Entry::InFlight(mail) => Self::Sent(mail),
        }
    }
}

/// Requests to the writer.
#[derive(Debug)]
pub(super) enum Command {
    /// Appends an entry.
    Write { content: Vec<u8>, effect: Effect, done: oneshot::Sender<Result<(), RecordError>> },
    /// Starts a new segment, so that everything written so far can be sealed.
    Rotate(mpsc::Sender<Rotated>),
    /// Ends the writer and reports when it has ended.
    Close(mpsc::Sender<()>),
}

/// Data that can be sealed.
#[derive(Debug)]
pub(super) struct Rotated {
    /// The segment being written, which must be left alone. Without one, nothing may be deleted,
    /// because the mails in transit would be lost.
    pub(super) current: Option<PathBuf>,
    /// Number of samples and events appended so far.
    pub(super) appended: u64,
}

pub(super) struct Writer {
    folder: PathBuf,
    /// Name of the journal.
    name: String,
    /// Position of the next entry, not counting held ones.
    position: u64,
    segment: Option<Segment>,
    /// Whether the segment has unsealed entries.
    dirty: bool,
    /// Entries that the disk did not accept, oldest first.
    held: Vec<Vec<u8>>,
    held_bytes: usize,
    retry_at: Option<Instant>,
    said_at: Option<Instant>,
    shared: Arc<Shared>,
}

impl Writer {
    /// Starts a segment of the journal with the mails in transit. A full or failing disk does not
    /// keep a probe from starting: samples are then held in memory.
    ///
    /// # Errors
    /// The file system refuses permanently: missing permission, or missing folder.
    pub(super) fn open(
        folder: PathBuf,
        name: String,
        position: u64,
        shared: Arc<Shared>,
    ) -> Result<Self, RecordError> {
        let mut writer = Self {
            folder,
            name,
            position,
            segment: None,
            dirty: false,
            held: Vec::new(),
            held_bytes: 0,
            retry_at: None,
            said_at: None,
            shared,
        };
        match writer.begin_segment() {
            Err(error) if error.is_trouble_of_disk() => writer.hold(&error, Vec::new(), Vec::new()),
            begun => begun?,
        }
        Ok(writer)
    }

    pub(super) fn run(mut self, inbox: &mpsc::Receiver<Command>) {
        let mut next = None;
        loop {
            let command = match (next.take(), self.retry_at) {
                (Some(command), _) => Some(command),
                (None, None) => match inbox.recv() {
                    Ok(command) => Some(command),
                    Err(mpsc::RecvError) => return,
                },
                (None, Some(at)) => {
                    match inbox.recv_timeout(at.saturating_duration_since(Instant::now())) {
                        Ok(command) => Some(command),
                        Err(mpsc::RecvTimeoutError::Timeout) => None,
                        Err(mpsc::RecvTimeoutError::Disconnected) => return,
                    }
                }
            };
            match command {
                None => self.append(Vec::new(), Vec::new()),
                Some(Command::Rotate(answer)) => {
                    let _ = answer.send(self.rotate());
                }
                Some(Command::Close(ended)) => {
                    self.close();
                    let _ = ended.send(());
                    return;
                }
                Some(Command::Write { content, effect, done }) => {
                    let (mut contents, mut waiting) = (vec![content], vec![done]);
                    self.shared.take_in(effect);
                    while contents.len() < GROUP {
                        match inbox.try_recv() {
                            Ok(Command::Write { content, effect, done }) => {
                                self.shared.take_in(effect);
                                contents.push(content);
                                waiting.push(done);
                            }
                            Ok(other) => {
                                next = Some(other);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    self.append(contents, waiting);
                }
            }
        }
    }

    /// Appends held and new entries, and responds to the callers.
    fn append(
        &mut self,
        contents: Vec<Vec<u8>>,
        waiting: Vec<oneshot::Sender<Result<(), RecordError>>>,
    ) {
        self.retry_at = None;
        let held = self.held.len();
        let count = (held + contents.len()) as u64;
        match self.write(&contents) {
            Ok(()) => {
                self.held = Vec::new();
                self.held_bytes = 0;
                self.said_at = None;
                let mut counts = self.shared.counts.lock().ignore_poison();
                counts.appended += count;
                counts.held = 0;
                if counts.journal_problem.take().is_some() {
                    tracing::warn!(
                        held,
                        "the journal can be written again; the samples held in memory are on disk"
                    );
                }
                drop(counts);
                for done in waiting {
                    let _ = done.send(Ok(()));
                }
            }
            Err(error) => self.hold(&error, contents, waiting),
        }
    }

    /// Holds entries in memory that the disk does not accept, up to the limit.
    fn hold(
        &mut self,
        error: &RecordError,
        contents: Vec<Vec<u8>>,
        waiting: Vec<oneshot::Sender<Result<(), RecordError>>>,
    ) {
        let mut dropped = 0;
        for (content, done) in contents.into_iter().zip(waiting) {
            let _ = done.send(Err(if self.held_bytes + content.len() <= MAX_HELD {
                self.held_bytes += content.len();
                self.held.push(content);
                error.clone()
            } else {
                dropped += 1;
                RecordError::Full(self.held.len())
            }));
        }
        let now = Instant::now();
        self.retry_at = Some(now + RETRY);
        let mut counts = self.shared.counts.lock().ignore_poison();
        counts.held = self.held.len();
        counts.dropped += dropped;
        counts.journal_problem = Some(error.to_string());
        if dropped > 0 || self.said_at.is_none_or(|at| now.duration_since(at) >= REMIND) {
            self.said_at = Some(now);
            tracing::error!(held = counts.held, lost = counts.dropped, %error, "can't write samples to the journal; holding them in memory");
        }
    }

    fn write(&mut self, contents: &[Vec<u8>]) -> Result<(), RecordError> {
        self.begin_segment()?;
        if self.segment.as_ref().is_some_and(Segment::is_full) {
            self.segment = None;
            self.begin_segment()?;
        }
        let Some(segment) = &mut self.segment else {
            return Err(RecordError::Closed);
        };
        let all = self.held.iter().chain(contents).map(Vec::as_slice);
        let count = (self.held.len() + contents.len()) as u64;
        let first = self.position;
        // Positions are never used twice, not even those of a failed attempt, whose entries in its
        // segment may still be read and sealed.
        self.position += count;
        if let Err(error) = segment.append(first, all) {
            // Its content is unknown, so the next attempt creates another segment. Its name keeps
            // it for the next seal.
            self.segment = None;
            return Err(error);
        }
        self.dirty |= count > 0;
        Ok(())
    }

    /// Ensures that there is a segment with the mails in transit, which outlive earlier segments.
    fn begin_segment(&mut self) -> Result<(), RecordError> {
        if let Some(segment) = &mut self.segment {
            if !segment.is_there() {
                tracing::error!(
                    segment = %segment.path().display(),
                    "the journal was deleted while in use; recreating it"
                );
                segment.rescue(&self.folder)?;
            }
            return Ok(());
        }
        let mut segment = Segment::begin(&self.folder, &self.name, self.position)?;
        let mut mails = Vec::new();
        for mail in self.shared.in_flight.lock().ignore_poison().values() {
            mails.push(Entry::InFlight(Box::new(mail.clone())).encode()?);
        }
        let first = self.position;
        self.position += mails.len() as u64;
        segment.append(first, mails.iter().map(Vec::as_slice))?;
        self.segment = Some(segment);
        self.dirty = false;
        Ok(())
    }

    fn rotate(&mut self) -> Rotated {
        self.append(Vec::new(), Vec::new());
        let mut sound = self.retry_at.is_none();
        // A segment that the disk lost is kept open, because it is the last copy of the
        // acknowledged entries.
        if sound && self.dirty {
            self.segment = None;
            if let Err(error) = self.begin_segment() {
                sound = false;
                self.hold(&error, Vec::new(), Vec::new());
            }
        }
        let current = self.segment.as_ref().filter(|_| sound);
        Rotated {
            current: current.map(|segment| segment.path().to_owned()),
            appended: self.shared.counts.lock().ignore_poison().appended,
        }
    }

    fn close(&mut self) {
        self.append(Vec::new(), Vec::new());
        if !self.held.is_empty() {
            tracing::error!(
                lost = self.held.len(),
                "the disk did not accept these samples before the stop; they are lost"
            );
        }
        // Everything is sealed and no mail is in transit, so the segment is no longer needed.
        if let Some(segment) = &self.segment
            && !self.dirty
            && self.shared.in_flight.lock().ignore_poison().is_empty()
        {
            let counts = self.shared.counts.lock().ignore_poison();
            if counts.appended == counts.sealed {
                let _ = std::fs::remove_file(segment.path());
            }
        }
    }
}
