//! The one writer of a site: appends to the journal in groups, and seals the journal into day files beside it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use jiff::civil::Date;
use mailqos_core::{
    lake::{DayReader, DayWriter, LakeError, Merged, Record, SealedUpTo, day_path, site_folder},
    model::{Event, Micros, Sample, SiteName, UtcMicros},
};
use tokio::sync::oneshot;

use super::{
    RecordError, SealReport, Shared,
    journal::{self, Entry, Segment},
    lock::SiteLock,
    locked,
};

/// How many entries are synced together at the most.
const GROUP: usize = 4096;
/// How many entries are held in memory while the disk refuses them: some 100 MiB.
const MAX_HELD: usize = 200_000;
/// How long to wait before the disk is tried again.
const RETRY: Duration = Duration::from_secs(2);

type Answer<T> = oneshot::Sender<Result<T, RecordError>>;

/// What the writer is asked for.
#[derive(Debug)]
pub(super) enum Command {
    Write(Entry, Answer<()>),
    Seal(Answer<SealReport>),
    Close(Answer<SealReport>),
    /// From the sealing thread.
    Sealed(Box<Result<SealReport, RecordError>>),
}

/// Rows that are not yet in day files, by day and key.
#[derive(Debug, Clone)]
struct Days<R>(BTreeMap<Date, BTreeMap<(String, i64), R>>);

impl<R> Default for Days<R> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<R: Record> Days<R> {
    fn insert(&mut self, row: R) {
        let (monitor, at) = row.key();
        let key = (monitor.to_owned(), at);
        let day = self.0.entry(UtcMicros(at).utc_date()).or_default();
        match day.get_mut(&key) {
            Some(kept) if row.replaces(kept) => *kept = row,
            Some(_) => {}
            None => {
                day.insert(key, row);
            }
        }
    }

    fn len(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }

    fn contains(&self, monitor: &str, at: i64) -> bool {
        self.0
            .get(&UtcMicros(at).utc_date())
            .is_some_and(|day| day.contains_key(&(monitor.to_owned(), at)))
    }

    /// Lays later rows over these.
    fn extend(&mut self, later: Self) {
        for row in later.0.into_values().flat_map(BTreeMap::into_values) {
            self.insert(row);
        }
    }
}

/// What is to be sealed.
#[derive(Debug, Clone, Default)]
struct Unsealed {
    samples: Days<Sample>,
    events: Days<Event>,
}

impl Unsealed {
    fn len(&self) -> usize {
        self.samples.len() + self.events.len()
    }
}

pub(super) struct Writer {
    data: PathBuf,
    journal: PathBuf,
    site: SiteName,
    interval: Duration,
    shared: Arc<Shared>,
    own: mpsc::Sender<Command>,
    name: String,
    /// The position of the next entry.
    position: u64,
    segment: Option<Segment>,
    /// Segments whose entries are all in `unsealed` or being sealed.
    old_segments: Vec<PathBuf>,
    unsealed: Unsealed,
    /// What the sealing thread works on, and the segments that it makes superfluous.
    sealing: Option<(Unsealed, Vec<PathBuf>)>,
    /// Entries that the disk refused.
    held: Vec<Entry>,
    retry_at: Option<Instant>,
    seal_at: Instant,
    waiting: Vec<Answer<SealReport>>,
    closing: Option<Answer<SealReport>>,
    _lock: SiteLock,
}

impl Writer {
    pub(super) fn open(
        data: PathBuf,
        state: PathBuf,
        site: SiteName,
        interval: Duration,
        shared: Arc<Shared>,
        own: mpsc::Sender<Command>,
    ) -> Result<Self, RecordError> {
        let lock = SiteLock::take(&site_folder::<Sample>(&data, &site))?;
        let journal = state.join(format!("site={site}")).join("journal");
        let found = journal::replay(&journal)?;
        let mut writer = Self {
            data,
            journal,
            site,
            interval,
            shared,
            own,
            name: found.name,
            position: found.position,
            segment: None,
            old_segments: found.segments,
            unsealed: Unsealed::default(),
            sealing: None,
            held: Vec::new(),
            retry_at: None,
            seal_at: Instant::now() + interval,
            waiting: Vec::new(),
            closing: None,
            _lock: lock,
        };
        for (_, entry) in found.entries {
            writer.take_in(entry);
        }
        writer.begin_segment()?;
        if !writer.old_segments.is_empty() {
            writer.start_seal();
        }
        Ok(writer)
    }

    pub(super) fn run(mut self, inbox: &mpsc::Receiver<Command>) {
        loop {
            let now = Instant::now();
            let next = self.retry_at.map_or(self.seal_at, |at| at.min(self.seal_at));
            match inbox.recv_timeout(next.saturating_duration_since(now)) {
                Ok(command) => self.serve(command, inbox),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                // Never: `own` is a sender.
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
            let now = Instant::now();
            if self.retry_at.is_some_and(|at| at <= now) {
                self.append(Vec::new());
            }
            if self.seal_at <= now {
                self.seal_at = now + self.interval;
                self.start_seal();
            }
            if self.closing.is_some() && self.sealing.is_none() {
                return;
            }
        }
    }

    fn serve(&mut self, first: Command, inbox: &mpsc::Receiver<Command>) {
        let mut group = Vec::new();
        let mut next = Some(first);
        // Whoever waits is served by one sync; a command of another kind ends the group.
        while let Some(command) = next.take() {
            match command {
                Command::Write(entry, answer) => {
                    group.push((entry, answer));
                    if group.len() < GROUP {
                        next = inbox.try_recv().ok();
                    }
                }
                other => {
                    self.append(std::mem::take(&mut group));
                    self.other(other);
                }
            }
        }
        if !group.is_empty() {
            self.append(group);
        }
    }

    fn other(&mut self, command: Command) {
        match command {
            Command::Write(..) => {}
            Command::Seal(answer) => {
                self.waiting.push(answer);
                self.start_seal();
            }
            Command::Close(answer) => {
                self.append(Vec::new());
                self.closing = Some(answer);
                self.start_seal();
            }
            Command::Sealed(result) => self.sealed(*result),
        }
    }

    /// Appends to the journal what is held and what is new, and answers.
    fn append(&mut self, group: Vec<(Entry, Answer<()>)>) {
        self.retry_at = None;
        let (mut entries, mut answers) = (std::mem::take(&mut self.held), Vec::new());
        let held = entries.len();
        for (entry, answer) in group {
            entries.push(self.unique(entry));
            answers.push(answer);
        }
        if entries.is_empty() {
            return;
        }
        let written = self.begin_segment().and_then(|segment| segment.append(&entries));
        match written {
            Ok(()) => {
                self.position += entries.len() as u64;
                for entry in entries {
                    self.take_in(entry);
                }
                for answer in answers {
                    let _ = answer.send(Ok(()));
                }
                if held > 0 {
                    tracing::warn!(held, "samples that were held in memory are on disk now");
                }
                self.note_problem(None);
            }
            Err(error) => {
                // The segment's file may be gone or its disk sick: the next try begins another one.
                if let Some(segment) = self.segment.take() {
                    self.old_segments.push(segment.path().to_owned());
                }
                let mut dropped = 0;
                for (index, answer) in answers.into_iter().enumerate() {
                    let answered = if held + index < MAX_HELD {
                        error.clone()
                    } else {
                        dropped += 1;
                        RecordError::Full(MAX_HELD)
                    };
                    let _ = answer.send(Err(answered));
                }
                entries.truncate(MAX_HELD);
                self.held = entries;
                self.retry_at = Some(Instant::now() + RETRY);
                locked(&self.shared.health).dropped += dropped;
                tracing::error!(
                    held = self.held.len(),
                    dropped,
                    "samples can't be written and are held in memory: {error}"
                );
                self.note_problem(Some(error.to_string()));
            }
        }
    }

    /// Events have no natural key: their time is moved until it is unique.
    fn unique(&self, entry: Entry) -> Entry {
        let Entry::Event(mut event) = entry else {
            return entry;
        };
        let taken = |event: &Event| {
            let (monitor, at) = event.key();
            self.unsealed.events.contains(monitor, at)
                || self
                    .sealing
                    .as_ref()
                    .is_some_and(|(sealing, _)| sealing.events.contains(monitor, at))
        };
        while taken(&event) {
            event.at = event.at + Micros(1);
        }
        Entry::Event(event)
    }

    /// Takes an entry of the journal into memory.
    fn take_in(&mut self, entry: Entry) {
        match entry {
            Entry::Sample(sample) => {
                if !sample.is_provisional() {
                    locked(&self.shared.in_flight).remove(&(sample.monitor.clone(), sample.started_at));
                }
                self.unsealed.samples.insert(*sample);
            }
            Entry::Event(event) => self.unsealed.events.insert(event),
            Entry::InFlight(mail) => {
                let key = (mail.sample.monitor.clone(), mail.sample.started_at);
                locked(&self.shared.in_flight).insert(key, *mail);
            }
        }
        self.note_lengths();
    }

    fn begin_segment(&mut self) -> Result<&mut Segment, RecordError> {
        if self.segment.is_none() {
            let segment = Segment::begin(&self.journal, &self.name, self.position)?;
            self.old_segments.retain(|path| path != segment.path());
            self.segment = Some(segment);
        }
        self.segment.as_mut().ok_or(RecordError::Closed)
    }

    /// Hands all that is unsealed to a thread of its own; what comes meanwhile goes into a new segment.
    fn start_seal(&mut self) {
        if self.sealing.is_some() {
            // The one under way does not contain the latest: another follows it where somebody waits.
            return;
        }
        if self.unsealed.len() == 0 && self.old_segments.is_empty() {
            self.answer_seals(&Ok(SealReport::default()));
            return;
        }
        let mut segments = std::mem::take(&mut self.old_segments);
        if let Some(segment) = self.segment.take() {
            segments.push(segment.path().to_owned());
        }
        // Mails in flight go on living in the new segment, before the old ones may be deleted.
        let mails: Vec<Entry> = locked(&self.shared.in_flight)
            .values()
            .map(|mail| Entry::InFlight(Box::new(mail.clone())))
            .collect();
        let sealed = SealedUpTo {
            journal: self.name.clone(),
            position: self.position,
        };
        // An empty segment stands at the position of the new one, and is the new one then.
        let carried = self.begin_segment().and_then(|segment| segment.append(&mails));
        segments.retain(|path| self.segment.as_ref().is_none_or(|segment| segment.path() != path));
        match carried {
            Ok(()) => self.position += mails.len() as u64,
            Err(error) => {
                self.old_segments = segments;
                self.seal_failed(error);
                return;
            }
        }
        let unsealed = std::mem::take(&mut self.unsealed);
        self.sealing = Some((unsealed.clone(), segments));
        let (data, site, own) = (self.data.clone(), self.site.clone(), self.own.clone());
        let sealer = std::thread::Builder::new().name("sealer".into()).spawn(move || {
            let result = seal(&data, &site, unsealed, &sealed);
            let _ = own.send(Command::Sealed(Box::new(result)));
        });
        if let Err(error) = sealer {
            self.sealed(Err(RecordError::io(&self.data, error)));
        }
    }

    fn sealed(&mut self, result: Result<SealReport, RecordError>) {
        let Some((rows, segments)) = self.sealing.take() else {
            return;
        };
        match result {
            Ok(report) => {
                for segment in &segments {
                    if let Err(error) = std::fs::remove_file(segment)
                        && error.kind() != std::io::ErrorKind::NotFound
                    {
                        tracing::warn!(
                            "a sealed journal segment can't be deleted: {}: {error}",
                            segment.display()
                        );
                    }
                }
                {
                    let mut health = locked(&self.shared.health);
                    health.sealed_at = Some(UtcMicros::now());
                }
                if self.held.is_empty() {
                    self.note_problem(None);
                }
                tracing::debug!(?report, "sealed");
                self.note_lengths();
                // Whoever asked while it ran asked for what came meanwhile too.
                if (!self.waiting.is_empty() || self.closing.is_some()) && self.unsealed.len() > 0 {
                    self.start_seal();
                } else {
                    self.answer_seals(&Ok(report));
                }
            }
            Err(error) => {
                let later = std::mem::replace(&mut self.unsealed, rows);
                self.unsealed.samples.extend(later.samples);
                self.unsealed.events.extend(later.events);
                self.old_segments.splice(0..0, segments);
                self.seal_failed(error);
            }
        }
    }

    fn seal_failed(&mut self, error: RecordError) {
        tracing::error!("day files can't be written; the journal keeps the samples: {error}");
        self.note_problem(Some(error.to_string()));
        self.note_lengths();
        self.seal_at = Instant::now() + self.interval.min(RETRY * 5);
        self.answer_seals(&Err(error));
    }

    fn answer_seals(&mut self, result: &Result<SealReport, RecordError>) {
        for answer in self.waiting.drain(..) {
            let _ = answer.send(result.clone());
        }
        if self.sealing.is_none()
            && let Some(answer) = self.closing.as_mut()
        {
            let (replaced, _) = oneshot::channel();
            let _ = std::mem::replace(answer, replaced).send(result.clone());
        }
    }

    fn note_problem(&self, problem: Option<String>) {
        locked(&self.shared.health).problem = problem;
        self.note_lengths();
    }

    fn note_lengths(&self) {
        let sealing = self.sealing.as_ref().map_or(0, |(rows, _)| rows.len());
        let mut health = locked(&self.shared.health);
        health.held = self.held.len();
        health.unsealed = self.unsealed.len() + sealing;
    }
}

fn seal(data: &Path, site: &SiteName, unsealed: Unsealed, sealed: &SealedUpTo) -> Result<SealReport, RecordError> {
    let mut report = SealReport::default();
    seal_days(data, site, unsealed.samples, sealed, &mut report)?;
    seal_days(data, site, unsealed.events, sealed, &mut report)?;
    Ok(report)
}

fn seal_days<R: Record>(
    data: &Path,
    site: &SiteName,
    days: Days<R>,
    sealed: &SealedUpTo,
    report: &mut SealReport,
) -> Result<(), LakeError> {
    for (date, rows) in days.0 {
        let path = day_path::<R>(data, site, date);
        let earlier = DayReader::<R>::open(&path)?;
        report.merged += rows.len();
        let mut writer = DayWriter::create(&path)?;
        for row in Merged::new(earlier.into_iter().flatten(), rows.into_values()) {
            writer.push(row?)?;
        }
        report.rows += writer.publish(Some(sealed))?;
        report.files += 1;
    }
    Ok(())
}
