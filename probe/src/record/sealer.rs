//! The sealer thread merges closed segments of the journal into day files, a limited number of rows
//! at a time.
//!
//! A day file contains the position up to which all entries of the journal are in it. Entries below
//! it are skipped, so a crash between any two steps changes nothing: the next seal continues where
//! the day files end.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use jiff::civil::Date;
use mailqos_base::lock::IgnorePoison as _;
use mailqos_lake::{
    DayReader, Intact, LakeError, Record, SealedUpTo, SiteLock, day_path, intact, keep_aside,
    merge_into_day, rewrite_day, salvage,
};
use mailqos_model::{Event, Sample, SiteName, UtcMicros};
use tokio::sync::oneshot;

use super::{
    RecordError, SealReport, Shared,
    journal::{self, Entry},
    upload::Upload,
    writer::Command,
};

/// Maximum number of samples and events in memory while sealing, however long the journal is.
const BATCH: usize = 50_000;
/// Time from the start to the first seal, if the seal interval is longer; it doubles each time.
const FIRST: Duration = Duration::from_secs(10);

/// Duration below which a seal is too cheap to be postponed.
const LIGHT: Duration = Duration::from_millis(500);

/// Pause before a failed seal is retried, if the seal interval is longer.
const RETRY: Duration = Duration::from_secs(15);

/// Requests to the sealer.
#[derive(Debug)]
pub(super) enum Seal {
    Now(oneshot::Sender<Result<SealReport, RecordError>>),
    Close(oneshot::Sender<Result<SealReport, RecordError>>),
}

pub(super) struct Sealer {
    pub(super) data: PathBuf,
    pub(super) site: SiteName,
    pub(super) journal: PathBuf,
    pub(super) interval: Duration,
    pub(super) shared: Arc<Shared>,
    pub(super) writer: mpsc::Sender<Command>,
    /// Receiver of sealed day files for upload, if any.
    pub(super) uploads: Option<tokio::sync::mpsc::UnboundedSender<Upload>>,
    pub(super) lock: SiteLock,
}

/// Rows of a day with their positions.
type Days<R> = BTreeMap<Date, Vec<(u64, R)>>;

/// Rows of consecutive segments.
#[derive(Default)]
struct Batch {
    samples: Days<Sample>,
    events: Days<Event>,
    rows: usize,
    sealed: Option<SealedUpTo>,
    segments: Vec<(PathBuf, usize)>,
}

/// Result of one run over the journal.
#[derive(Default)]
struct Run {
    report: SealReport,
    /// Day files that failed. Later rows must not be merged into them, because their position would
    /// then cover the missing rows.
    failed: BTreeSet<(&'static str, Date)>,
    error: Option<RecordError>,
}

impl Sealer {
    pub(super) fn run(mut self, inbox: &mpsc::Receiver<Seal>) {
        // Entries of an earlier process are sealed immediately, and the first samples soon, because
        // a new user is waiting for the first report.
        let mut seal_at = Instant::now();
        let mut soon = FIRST;
        loop {
            let (answer, close) =
                match inbox.recv_timeout(seal_at.saturating_duration_since(Instant::now())) {
                    Ok(Seal::Now(answer)) => (Some(answer), false),
                    Ok(Seal::Close(answer)) => (Some(answer), true),
                    Err(mpsc::RecvTimeoutError::Timeout) => (None, false),
                    // All handles are dropped, so no more entries arrive, and the journal is sealed
                    // at the next start.
                    Err(mpsc::RecvTimeoutError::Disconnected) => return self.end_writer(),
                };
            let began = Instant::now();
            let result = self.seal();
            let wait = if result.is_err() { RETRY } else { soon };
            seal_at = Instant::now() + wait.min(self.interval);
            // A large day is not rewritten more often than necessary.
            soon = if began.elapsed() < LIGHT { soon.saturating_mul(2) } else { self.interval };
            if close {
                self.end_writer();
                // After the response, the next probe may start.
                drop(self.lock);
                if let Some(answer) = answer {
                    let _ = answer.send(result);
                }
                return;
            }
            if let Some(answer) = answer {
                let _ = answer.send(result);
            }
        }
    }

    fn end_writer(&self) {
        let (ended, answer) = mpsc::channel();
        if self.writer.send(Command::Close(ended)).is_ok() {
            let _ = answer.recv();
        }
    }

    fn seal(&mut self) -> Result<SealReport, RecordError> {
        let (answer, rotated) = mpsc::channel();
        self.writer.send(Command::Rotate(answer)).map_err(|_| RecordError::Closed)?;
        let rotated = rotated.recv().map_err(|_| RecordError::Closed)?;
        let result = self.lock.keep().map_err(RecordError::from).and_then(|gone| {
            if gone {
                tracing::error!(folder = %self.data.display(), "the lock was deleted, and perhaps days of the lake too; the lock is recreated; `mailqos-analytics lake info` shows gaps");
            }
            let _sealing = self.shared.sealing.lock().ignore_poison();
            self.seal_segments(rotated.current.as_deref())
        });
        if let (Some(uploads), Ok(report)) = (&self.uploads, &result)
            && report.files > 0
        {
            let _ = uploads.send(Upload::Sealed);
        }
        let mut counts = self.shared.counts.lock().ignore_poison();
        match &result {
            Ok(report) => {
                counts.sealed = rotated.appended;
                counts.sealed_at = Some(UtcMicros::now());
                if counts.seal_problem.take().is_some() {
                    tracing::warn!("day files can be written again");
                }
                tracing::debug!(?report, "sealed");
            }
            Err(error) => {
                let problem = error.to_string();
                if counts.seal_problem.as_ref() != Some(&problem) {
                    tracing::error!(error = %problem, "can't write day files; the samples stay in the journal");
                }
                counts.seal_problem = Some(problem);
            }
        }
        result
    }

    fn seal_segments(&self, current: Option<&Path>) -> Result<SealReport, RecordError> {
        let (mut run, mut batch) = (Run::default(), Batch::default());
        for path in journal::segments(&self.journal)? {
            if Some(path.as_path()) == current {
                continue;
            }
            let Some(contents) = journal::read(&path)? else {
                batch.segments.push((path, 0));
                continue;
            };
            let other = batch.sealed.as_ref().is_some_and(|sealed| sealed.journal != contents.name);
            if other || batch.rows >= BATCH {
                self.flush(&mut run, std::mem::take(&mut batch), current.is_some());
            }
            let end = batch.sealed.as_ref().map_or(0, |sealed| sealed.position);
            batch.sealed =
                Some(SealedUpTo { journal: contents.name, position: contents.end.max(end) });
            for (position, entry) in contents.entries {
                match entry {
                    Entry::Sample(sample) => {
                        add(&mut batch.samples, sample.started_at, position, *sample)
                    }
                    Entry::Event(event) => add(&mut batch.events, event.at, position, event),
                    Entry::InFlight(_) => continue,
                }
                batch.rows += 1;
            }
            batch.segments.push((path, contents.damaged));
        }
        self.flush(&mut run, batch, current.is_some());
        match run.error {
            None => Ok(run.report),
            Some(error) => Err(error),
        }
    }

    fn flush(&self, run: &mut Run, batch: Batch, removable: bool) {
        if let Some(sealed) = &batch.sealed {
            self.seal_days(run, batch.samples, sealed);
            self.seal_days(run, batch.events, sealed);
        }
        if run.error.is_some() || !removable {
            return;
        }
        for (segment, damaged) in batch.segments {
            let gone = if damaged > 0 {
                let aside = segment.with_extension("damaged");
                tracing::error!(damaged, aside = %aside.display(), "can't read a journal segment completely; it was renamed and kept");
                std::fs::rename(&segment, aside)
            } else {
                std::fs::remove_file(&segment)
            };
            if let Err(error) = gone
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(file = %segment.display(), %error, "can't delete a sealed journal segment");
            }
        }
    }

    fn seal_days<R: Record>(&self, run: &mut Run, days: Days<R>, sealed: &SealedUpTo) {
        for (date, rows) in days {
            if run.failed.contains(&(R::FOLDER, date)) {
                continue;
            }
            let path = day_path::<R>(&self.data, &self.site, date);
            let mut result = self.seal_day(run, date, &rows, sealed);
            if let Err(source) = &result
                && is_damaged(&path, source)
            {
                // The file, not the disk, has the problem; it must not block the day.
                result = self.go_on(run, date, &rows, (sealed, source));
            }
            if let Err(error) = result {
                run.failed.insert((R::FOLDER, date));
                run.error.get_or_insert(error.into());
            }
        }
    }

    fn seal_day<R: Record>(
        &self,
        run: &mut Run,
        date: Date,
        rows: &[(u64, R)],
        sealed: &SealedUpTo,
    ) -> Result<(), LakeError> {
        let path = day_path::<R>(&self.data, &self.site, date);
        let earlier = DayReader::<R>::open(&path)?;
        let contained = earlier
            .as_ref()
            .and_then(DayReader::sealed)
            .filter(|contained| contained.journal == sealed.journal)
            .map_or(0, |contained| contained.position);
        let later = later(rows, contained);
        if later.is_empty() {
            return Ok(());
        }
        if let Some((earlier, writer)) =
            earlier.as_ref().and_then(|day| Some((day, day.other_writer()?)))
        {
            // Once: after that the file is ours again.
            tracing::warn!(file = %path.display(), %writer, "day file of another program rewritten, keeping its rows");
            let columns = earlier.other_columns();
            if !columns.is_empty() {
                let aside = keep_aside::<R>(&self.data, &self.site, date)?;
                tracing::warn!(columns = %columns.join(", "), aside = %aside.display(), "unknown columns dropped; a copy of the original file was kept");
            }
        }
        let merged = later.len();
        run.report.rows += merge_into_day(&self.data, &self.site, date, later, Some(sealed))?;
        run.report.files += 1;
        run.report.merged += merged;
        Ok(())
    }

    /// Writes a day with a damaged file from its readable rows and the new ones. The damaged file
    /// is kept.
    fn go_on<R: Record>(
        &self,
        run: &mut Run,
        date: Date,
        rows: &[(u64, R)],
        (sealed, source): (&SealedUpTo, &LakeError),
    ) -> Result<(), LakeError> {
        let path = day_path::<R>(&self.data, &self.site, date);
        let aside = keep_aside::<R>(&self.data, &self.site, date)?;
        let (mut all, lost) = match salvage::<R>(&path) {
            Ok((rows, lost)) => (rows, lost.to_string()),
            Err(LakeError::Io { path, source }) => return Err(LakeError::Io { path, source }),
            Err(_) => (Vec::new(), "all".to_owned()),
        };
        tracing::error!(rows = all.len(), lost, aside = %aside.display(), error = %source, "damaged day file replaced by its readable rows; a copy of the original was kept");
        // Whatever position the damaged file states: the unreadable part may be before it.
        let later = later(rows, 0);
        let merged = later.len();
        all.extend(later);
        run.report.rows += rewrite_day(&self.data, &self.site, date, all, Some(sealed))?;
        run.report.files += 1;
        run.report.merged += merged;
        Ok(())
    }
}

/// Returns whether a day file is damaged. Invalid rows count as damage if this program wrote the
/// file and a byte has changed since.
fn is_damaged(path: &Path, error: &LakeError) -> bool {
    let nonsense = matches!(error, LakeError::Column { path: of, .. } | LakeError::Order { path: of, .. } if of == path);
    error.is_damage_of(path) || nonsense && matches!(intact(path), Ok(Intact::No))
}

/// Returns the rows from a position of the journal on, sorted and with each key once.
fn later<R: Record>(rows: &[(u64, R)], contained: u64) -> Vec<R> {
    let mut later: Vec<R> = Vec::new();
    let mut sorted: Vec<&R> =
        rows.iter().filter(|(position, _)| *position >= contained).map(|(_, row)| row).collect();
    // A stable sort keeps rows with the same key in the order of the journal.
    sorted.sort_by(|a, b| a.key().cmp(&b.key()));
    for row in sorted {
        match later.last_mut() {
            Some(last) if last.key() == row.key() => {
                if row.replaces(last) {
                    *last = row.clone();
                }
            }
            _ => later.push(row.clone()),
        }
    }
    later
}

fn add<R>(days: &mut Days<R>, at: UtcMicros, position: u64, row: R) {
    days.entry(at.utc_date()).or_default().push((position, row));
}
