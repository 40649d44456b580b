//! Verification and repair of day files.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use jiff::civil::Date;
use mailqos_lake::{
    DayReader, Intact, LakeError, Record, SealedUpTo, SiteLock, aside_folder, day_path, intact,
    keep_aside, merge_into_day, read_sorted, rewrite_day, salvage,
};
use mailqos_model::{SiteName, UtcMicros};
use polars::prelude::{ParquetReader, SerReader as _};

use super::{
    days::{Day, LakeAdminError, list},
    folders::entries,
    retention::delete,
};

/// A problem with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// The problem.
    pub problem: String,
}

/// Result of verifying all files.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// Files that were read completely.
    pub files: u64,
    /// Rows in them.
    pub rows: u64,
    /// Problems; empty if there are none.
    pub findings: Vec<Finding>,
    /// Observations that cost only time or tidiness.
    pub remarks: Vec<Finding>,
}

/// Reads every file of a tree completely and checks schema, order, uniqueness, and that each row
/// belongs to its day. Files of other programs are also checked for what Parquet itself guarantees:
/// the footer, the number of rows, and the checksums of pages, if present.
///
/// # Errors
/// A folder can't be read; problems with a file are findings, not errors.
pub fn verify<R: Record>(
    data: &Path,
    sites: &[SiteName],
    verdict: &mut Verdict,
) -> Result<(), LakeAdminError> {
    let tree = list::<R>(data, sites)?;
    for path in tree.strays {
        let problem = stray::<R>(&path);
        verdict.findings.push(Finding { path, problem });
    }
    for day in tree.days {
        verdict.files += 1;
        let finding = |problem: String| Finding { path: day.path.clone(), problem };
        match check::<R>(&day) {
            Condition::Sound { rows, remark } => {
                verdict.rows += rows;
                verdict.remarks.extend(remark.map(finding));
            }
            Condition::Untidy { rows, problem } => {
                verdict.rows += rows;
                verdict.findings.push(finding(problem));
            }
            Condition::Unread(problem) | Condition::Damaged(problem) => {
                verdict.findings.push(finding(problem))
            }
        }
    }
    Ok(())
}

/// Describes a file that doesn't belong in the tree. Copies made by a synchronisation program or a
/// person are read by every Parquet reader and count twice there; mailqos counts each row once.
fn stray<R: Record>(path: &Path) -> String {
    let day = path.with_file_name(format!("{}.parquet", R::FOLDER));
    let is_parquet = path.extension().is_some_and(|ending| ending == "parquet") && path.is_file();
    let rows =
        is_parquet.then(|| Some((read_sorted::<R>(path).ok()?, read_sorted::<R>(&day).ok()?)));
    let Some(Some((theirs, ours))) = rows else {
        return "does not belong in the tree of day files".to_owned();
    };
    let known: BTreeSet<(&str, i64)> = ours.iter().map(R::key).collect();
    let new = theirs.iter().filter(|row| !known.contains(&row.key())).count();
    let kind = R::FOLDER;
    match new {
        0 if theirs.is_empty() => {
            "a second file in the folder of a day; it is empty and can be deleted".to_owned()
        }
        0 => format!(
            "a second file in the folder of a day: all of its {} {kind} are also in {kind}.parquet; mailqos \
             counts them once, other readers count them twice: delete the file",
            theirs.len()
        ),
        new => format!(
            "a second file in the folder of a day: {new} of its {} {kind} are not in {kind}.parquet; mailqos \
             counts each row once, other readers count the rest twice: move the file out of the lake and \
             import it with `lake import --skip-duplicates`",
            theirs.len()
        ),
    }
}

/// Condition of a day file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    /// Sound, possibly with a deviation that another program may cause.
    Sound { rows: u64, remark: Option<String> },
    /// Readable, but it breaks a rule of the lake: a duplicate row, or a row in the wrong day.
    Untidy { rows: u64, problem: String },
    /// Not readable here but possibly sound: encrypted, of another version, with other content, or
    /// the disk refuses.
    Unread(String),
    /// Damaged: no writer writes these bytes.
    Damaged(String),
}

/// Reads a day file completely.
fn check<R: Record>(day: &Day) -> Condition {
    let failed = |error: LakeError| {
        let damaged = error.is_damage_of(&day.path) || matches!(intact(&day.path), Ok(Intact::No));
        if !damaged {
            return Condition::Unread(cause(&error));
        }
        // Ask for a second opinion: a file is not damaged if another reader reads it to the end.
        match polars_rows(&day.path) {
            Ok(rows) if !matches!(intact(&day.path), Ok(Intact::No)) => Condition::Unread(format!(
                "{}; but another reader finds {rows} intact rows in it, so it stays unchanged",
                cause(&error)
            )),
            _ => Condition::Damaged(cause(&error)),
        }
    };
    let reader = match DayReader::<R>::open(&day.path) {
        Ok(Some(reader)) => reader,
        // Deleted since it was listed, or the day only has other files.
        Ok(None) => {
            return Condition::Sound { rows: 0, remark: None };
        }
        Err(error) => return failed(error),
    };
    let (stated, writer) = (reader.row_count(), reader.other_writer().map(str::to_owned));
    let (mut seen, mut last) = (BTreeSet::new(), None::<(String, i64)>);
    let (mut rows, mut unsorted, mut problem) = (0, None, None);
    for row in reader {
        let row = match row {
            Ok(row) => row,
            Err(error) => return failed(error),
        };
        let (monitor, at) = row.key();
        let key = (monitor.to_owned(), at);
        if unsorted.is_none() && last.as_ref().is_some_and(|last| *last > key) {
            unsorted = Some(rows);
        }
        // As long as rows are in order, comparing with the last one suffices.
        let is_twice = last.as_ref() == Some(&key) || (unsorted.is_some() && seen.contains(&key));
        if is_twice {
            problem.get_or_insert_with(|| {
                format!("row {rows}: {monitor} at {} is a duplicate", UtcMicros(at))
            });
        }
        let date = UtcMicros(at).utc_date();
        if date != day.date {
            problem.get_or_insert_with(|| {
                format!("row {rows}: {monitor} at {} belongs to {date}", UtcMicros(at))
            });
        }
        if writer.is_some() {
            seen.insert(key.clone());
        }
        last = Some(key);
        rows += 1;
    }
    if rows != stated {
        return Condition::Damaged(format!(
            "it contains {rows} rows, but its metadata states {stated}"
        ));
    }
    match intact(&day.path) {
        Ok(Intact::Yes | Intact::Unknown | Intact::Foreign) => {}
        Ok(Intact::No) => {
            let text = "its checksum does not match: its bytes have changed since it was written";
            return Condition::Damaged(text.to_owned());
        }
        Err(error) => return Condition::Unread(cause(&error)),
    }
    if let (None, Some(row), None) = (&writer, unsorted, &problem) {
        problem = Some(format!("row {row} is out of order"));
    }
    match problem {
        Some(problem) => Condition::Untidy { rows, problem },
        None => Condition::Sound {
            rows,
            remark: writer.map(|writer| {
                let order = unsorted
                    .map_or("", |_| ", and not in the order of the lake, which slows down readers");
                format!("intact; written by another program ({writer}){order}")
            }),
        },
    }
}

/// Returns how many rows polars finds when it decodes a whole file.
fn polars_rows(path: &Path) -> Result<usize, String> {
    let read = std::panic::catch_unwind(|| {
        let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
        let frame = ParquetReader::new(file).finish();
        frame.map(|frame| frame.height()).map_err(|error| error.to_string())
    });
    read.unwrap_or_else(|_| Err("it can't be decoded".to_owned()))
}

/// Returns the problem without the path, which is shown separately.
fn cause(error: &LakeError) -> String {
    match error {
        LakeError::Io { source, .. } => source.to_string(),
        LakeError::NotFound(_) | LakeError::Remote(_) => error.to_string(),
        LakeError::Corrupt { reason, .. } => reason.clone(),
        LakeError::Parquet { source, .. } => source.to_string(),
        LakeError::Column { column, reason, .. } => format!("column {column}: {reason}"),
        LakeError::Order { row, .. } => format!("row {row} is out of order"),
        LakeError::Unsupported { reason, .. } => format!("this program can't read it: {reason}"),
    }
}

/// Result of a repair or of a dry run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// The file.
    pub path: PathBuf,
    /// The problem.
    pub problem: String,
    /// The remedy.
    pub remedy: Remedy,
}

/// Remedy for a problem with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// None: the file can't be read here but may be sound.
    Left,
    /// Rewrite the file from its readable rows.
    Rebuilt {
        /// Rows that were readable.
        kept: u64,
        /// Rows that are known to be lost; `None` if the number is unknown.
        lost: Option<u64>,
        /// Path of the copy of the original file; `None` in a dry run.
        aside: Option<PathBuf>,
    },
}

/// Rebuilds damaged day files from their readable rows, and files with rows that are duplicates or
/// belong to another day. Each file is first copied. A file that can't be read here but may be
/// sound stays as it is. Without `apply` it only reports what it would do.
///
/// # Errors
/// A running probe holds a site's lock, or the file system refuses.
pub fn repair<R: Record>(
    data: &Path,
    sites: &[SiteName],
    apply: bool,
) -> Result<Vec<Repair>, LakeAdminError> {
    let mut repairs = Vec::new();
    let mut locks: BTreeMap<SiteName, SiteLock> = BTreeMap::new();
    for day in list::<R>(data, sites)?.days {
        let mut condition = check::<R>(&day);
        let is_wrong = |condition: &Condition| {
            matches!(condition, Condition::Untidy { .. } | Condition::Damaged(_))
        };
        if apply && is_wrong(&condition) && !locks.contains_key(&day.site) {
            locks.insert(day.site.clone(), SiteLock::take(data, &day.site)?);
            // A probe that has ended meanwhile may have replaced the file.
            condition = check::<R>(&day);
        }
        let (problem, remedy) = match condition {
            Condition::Sound { .. } => continue,
            Condition::Unread(problem) => (problem, Remedy::Left),
            Condition::Untidy { problem, .. } | Condition::Damaged(problem) => {
                (problem, rebuild::<R>(data, &day, apply)?)
            }
        };
        repairs.push(Repair { path: day.path, problem, remedy });
    }
    if apply {
        for lock in locks.values() {
            lock.sweep()?;
        }
    }
    Ok(repairs)
}

/// Writes the readable rows of a file into the days that they belong to; with `apply`, after
/// copying the file. The file itself is deleted last, once all of its rows are elsewhere.
fn rebuild<R: Record>(data: &Path, day: &Day, apply: bool) -> Result<Remedy, LakeAdminError> {
    let (rows, lost) = match salvage::<R>(&day.path) {
        Ok((rows, lost)) => (rows, Some(lost)),
        Err(LakeError::Io { path, source }) => return Err(LakeError::Io { path, source }.into()),
        Err(_) => (Vec::new(), None),
    };
    let mut remedy = Remedy::Rebuilt { kept: rows.len() as u64, lost, aside: None };
    if !apply {
        return Ok(remedy);
    }
    let reader = DayReader::<R>::open(&day.path).ok().flatten();
    let sealed = reader.and_then(|reader| reader.sealed());
    let copy = keep_aside::<R>(data, &day.site, day.date)?;
    let (own, others): (Vec<R>, Vec<R>) =
        rows.into_iter().partition(|row| UtcMicros(row.key().1).utc_date() == day.date);
    let mut written = write_into::<R>(data, &day.site, others)?;
    if own.is_empty() {
        delete(day)?;
    } else {
        written += rewrite_day::<R>(data, &day.site, day.date, own, sealed.as_ref())?;
    }
    if let Remedy::Rebuilt { kept, aside, .. } = &mut remedy {
        (*kept, *aside) = (written, Some(copy));
    }
    Ok(remedy)
}

/// Merges rows into the days that they belong to, whatever is already there; returns the number of
/// rows.
///
/// # Errors
/// A day file can't be read or written.
pub(super) fn write_into<R: Record>(
    data: &Path,
    site: &SiteName,
    rows: Vec<R>,
) -> Result<u64, LakeAdminError> {
    let mut days: BTreeMap<Date, BTreeMap<(String, i64), R>> = BTreeMap::new();
    for row in rows {
        let (monitor, at) = row.key();
        let day = days.entry(UtcMicros(at).utc_date()).or_default();
        let key = (monitor.to_owned(), at);
        if day.get(&key).is_none_or(|kept| row.replaces(kept)) {
            day.insert(key, row);
        }
    }
    let mut count = 0;
    for (date, rows) in days {
        count += rows.len() as u64;
        let earlier = DayReader::<R>::open(&day_path::<R>(data, site, date))?;
        let contained: Option<SealedUpTo> = earlier.and_then(|earlier| earlier.sealed());
        merge_into_day(data, site, date, rows.into_values().collect(), contained.as_ref())?;
    }
    Ok(count)
}

/// Returns the copies of damaged files.
///
/// # Errors
/// The folder can't be read.
pub fn aside(data: &Path) -> Result<Vec<PathBuf>, LakeAdminError> {
    Ok(entries(&aside_folder(data))?)
}

#[cfg(test)]
mod tests {
    use mailqos_model::{Outcome, Sample};

    use super::*;

    fn site() -> SiteName {
        "here".parse().expect("a name")
    }

    fn sample(at: i64) -> Sample {
        Sample::new("m".parse().expect("a name"), UtcMicros(at), Outcome::Ok)
    }

    const DAY: i64 = 86_400_000_000;

    #[test]
    fn a_sound_lake_passes_and_what_is_wrong_is_found_and_repaired() {
        let data = tempfile::tempdir().expect("folder");
        let data = data.path();
        write_into(data, &site(), vec![sample(2), sample(1), sample(DAY + 1)]).expect("write");
        let verdict = |expected: usize| {
            let mut verdict = Verdict::default();
            verify::<Sample>(data, &[], &mut verdict).expect("verify");
            assert_eq!(verdict.findings.len(), expected, "{verdict:?}");
            verdict
        };
        assert_eq!(verdict(0).rows, 3);
        let (first, second) = (UtcMicros(1).utc_date(), UtcMicros(DAY).utc_date());
        // A day's file under another date, and a truncated one.
        let (good, wrong) =
            (day_path::<Sample>(data, &site(), first), day_path::<Sample>(data, &site(), second));
        std::fs::copy(&good, &wrong).expect("copy");
        let bytes = std::fs::read(&good).expect("read");
        std::fs::write(&good, &bytes[..bytes.len() / 2]).expect("write");
        let found = verdict(2);
        assert!(found.findings[1].problem.contains("belongs to 1970-01-01"), "{found:?}");
        assert_eq!(repair::<Sample>(data, &[], false).expect("repair").len(), 2);
        verdict(2);
        let done = repair::<Sample>(data, &[], true).expect("repair");
        let rebuilt = |repair: &Repair| match &repair.remedy {
            Remedy::Rebuilt { kept, lost, aside } => (*kept, *lost, aside.is_some()),
            Remedy::Left => panic!("{repair:?}"),
        };
        assert_eq!(rebuilt(&done[0]), (0, None, true));
        assert_eq!(rebuilt(&done[1]), (2, Some(0), true));
        assert_eq!(verdict(0).rows, 2);
        assert_eq!(aside(data).expect("list").len(), 2);
    }
}
