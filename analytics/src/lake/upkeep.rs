//! Is every file sound? What can be rebuilt? What is old enough to go?

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use jiff::civil::Date;
use mailqos_core::{
    lake::{
        DayReader, DayWriter, Intact, LakeError, Record, SealedUpTo, SiteLock, aside_folder, day_path, intact, salvage,
        set_aside,
    },
    model::{SiteName, UtcMicros},
};

use super::{Day, UpkeepError, entries, list};

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub problem: String,
}

/// What a look at every file came to.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// Files that were read whole.
    pub files: u64,
    /// Rows in them.
    pub rows: u64,
    /// What is wrong; nothing if all is well.
    pub findings: Vec<Finding>,
}

/// Opens every file of a tree and reads it whole: schema, order, uniqueness, and that each row is in the day it began in.
///
/// # Errors
/// A folder can't be read; what is wrong with a file is no error but a finding.
pub fn verify<R: Record>(data: &Path, sites: &[SiteName], verdict: &mut Verdict) -> Result<(), UpkeepError> {
    let tree = list::<R>(data, sites)?;
    for path in tree.strays {
        let problem = "does not belong into the tree of day files".to_owned();
        verdict.findings.push(Finding { path, problem });
    }
    for day in tree.days {
        verdict.files += 1;
        match check::<R>(&day) {
            Ok(rows) => verdict.rows += rows,
            Err(problem) => verdict.findings.push(Finding {
                path: day.path,
                problem,
            }),
        }
    }
    Ok(())
}

/// The rows of a sound file, or what is wrong with it.
fn check<R: Record>(day: &Day) -> Result<u64, String> {
    let reader = match DayReader::<R>::open(&day.path) {
        Ok(Some(reader)) => reader,
        // Gone since it was listed.
        Ok(None) => return Ok(0),
        Err(error) => return Err(cause(&error)),
    };
    let stated = reader.row_count();
    let mut last: Option<(String, i64)> = None;
    let mut rows = 0;
    for row in reader {
        let row = row.map_err(|error| cause(&error))?;
        let (monitor, at) = row.key();
        if let Some((last_monitor, last_at)) = &last {
            match (last_monitor.as_str(), *last_at).cmp(&(monitor, at)) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => {
                    return Err(format!("row {rows}: {monitor} at {} is there twice", UtcMicros(at)));
                }
                std::cmp::Ordering::Greater => return Err(format!("row {rows} is not in its order")),
            }
        }
        let date = UtcMicros(at).utc_date();
        if date != day.date {
            return Err(format!("row {rows}: {monitor} at {} belongs to {date}", UtcMicros(at)));
        }
        last = Some((monitor.to_owned(), at));
        rows += 1;
    }
    if rows != stated {
        return Err(format!("it has {rows} rows and says {stated}"));
    }
    match intact(&day.path) {
        Ok(Intact::Yes | Intact::Unknown) => Ok(rows),
        Ok(Intact::No) => Err("its checksum does not fit: some byte is not as it was written".to_owned()),
        Err(error) => Err(cause(&error)),
    }
}

/// What is wrong, without the path, which stands beside.
fn cause(error: &LakeError) -> String {
    match error {
        LakeError::Io { source, .. } => source.to_string(),
        LakeError::Parquet { source, .. } => source.to_string(),
        LakeError::Column { column, reason, .. } => format!("column {column}: {reason}"),
        LakeError::Order { row, .. } => format!("row {row} is not in its order"),
    }
}

/// What a repair did, or would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// The damaged file.
    pub path: PathBuf,
    /// What was wrong.
    pub problem: String,
    /// Rows that could be read.
    pub kept: u64,
    /// Rows that are known to be lost; `None` if nobody knows.
    pub lost: Option<u64>,
    /// Where the damaged file is kept; `None` if nothing was done.
    pub aside: Option<PathBuf>,
}

/// Rebuilds damaged day files from what can be read of them, and keeps the damaged ones aside. Without `apply` it only says
/// what it would do.
///
/// # Errors
/// A site's lock is held by a running probe, or the file system refuses.
pub fn repair<R: Record>(data: &Path, sites: &[SiteName], apply: bool) -> Result<Vec<Repair>, UpkeepError> {
    let mut repairs = Vec::new();
    let mut locks: BTreeMap<SiteName, SiteLock> = BTreeMap::new();
    for day in list::<R>(data, sites)?.days {
        let Err(problem) = check::<R>(&day) else { continue };
        if apply && !locks.contains_key(&day.site) {
            locks.insert(day.site.clone(), SiteLock::take(data, &day.site)?);
            // A probe that ended meanwhile may have replaced the file.
            if check::<R>(&day).is_ok() {
                continue;
            }
        }
        let (rows, lost) = match salvage::<R>(&day.path) {
            Ok((rows, lost)) => (rows, Some(lost)),
            Err(LakeError::Io { path, source }) => return Err(UpkeepError::Io { path, source }),
            Err(_) => (Vec::new(), None),
        };
        let sealed = DayReader::<R>::open(&day.path)
            .ok()
            .flatten()
            .and_then(|reader| reader.sealed());
        let mut repair = Repair {
            path: day.path.clone(),
            problem,
            kept: rows.len() as u64,
            lost,
            aside: None,
        };
        if apply {
            let aside = set_aside::<R>(data, &day.site, day.date)?;
            repair.kept = write_into::<R>(data, &day.site, rows, sealed.as_ref().map(|sealed| (day.date, sealed)))?;
            repair.aside = Some(aside);
        }
        repairs.push(repair);
    }
    if apply {
        for lock in locks.values() {
            lock.sweep()?;
        }
    }
    Ok(repairs)
}

/// Merges rows into the days that they belong to, whatever is there already; gives how many there are.
///
/// # Errors
/// A day file can't be read or written.
pub(super) fn write_into<R: Record>(
    data: &Path,
    site: &SiteName,
    rows: Vec<R>,
    sealed: Option<(Date, &SealedUpTo)>,
) -> Result<u64, UpkeepError> {
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
        let contained = match (&earlier, sealed) {
            (Some(earlier), _) => earlier.sealed(),
            (None, Some((of, sealed))) if of == date => Some(sealed.clone()),
            _ => None,
        };
        let mut writer = DayWriter::create(data, site, date)?;
        for row in mailqos_core::lake::Merged::new(earlier.into_iter().flatten(), rows.into_values()) {
            writer.push(row?)?;
        }
        writer.publish(contained.as_ref())?;
    }
    Ok(count)
}

/// The damaged files that are kept aside.
///
/// # Errors
/// The folder can't be read.
pub fn aside(data: &Path) -> Result<Vec<PathBuf>, UpkeepError> {
    entries(&aside_folder(data))
}

/// The days that began more than `keep_days` before today; never the last two, into which samples may still be settled.
///
/// # Errors
/// A folder can't be read.
pub fn outdated<R: Record>(
    data: &Path,
    sites: &[SiteName],
    today: Date,
    keep_days: u16,
) -> Result<Vec<Day>, UpkeepError> {
    let first = today
        .checked_sub(jiff::Span::new().days(i64::from(keep_days.max(2))))
        .unwrap_or(Date::MIN);
    let mut days = list::<R>(data, sites)?.days;
    days.retain(|day| day.date < first);
    Ok(days)
}

/// Deletes a day. Readers that have it open read on.
///
/// # Errors
/// The file system refuses.
pub fn delete(day: &Day) -> Result<(), UpkeepError> {
    match std::fs::remove_file(&day.path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(UpkeepError::io(&day.path)(error)),
        _ => {}
    }
    if let Some(folder) = day.path.parent() {
        // It may not be empty: what is not ours is left there.
        let _ = std::fs::remove_dir(folder);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use mailqos_core::model::{Outcome, Sample};

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
        write_into(data, &site(), vec![sample(2), sample(1), sample(DAY + 1)], None).expect("write");
        let verdict = |expected: usize| {
            let mut verdict = Verdict::default();
            verify::<Sample>(data, &[], &mut verdict).expect("verify");
            assert_eq!(verdict.findings.len(), expected, "{verdict:?}");
            verdict
        };
        assert_eq!(verdict(0).rows, 3);
        let (first, second) = (UtcMicros(1).utc_date(), UtcMicros(DAY).utc_date());
        // A day's file under another date, and one without its end.
        let (good, wrong) = (
            day_path::<Sample>(data, &site(), first),
            day_path::<Sample>(data, &site(), second),
        );
        std::fs::copy(&good, &wrong).expect("copy");
        let bytes = std::fs::read(&good).expect("read");
        std::fs::write(&good, &bytes[..bytes.len() / 2]).expect("write");
        let found = verdict(2);
        assert!(found.findings[1].problem.contains("belongs to 1970-01-01"), "{found:?}");
        assert_eq!(repair::<Sample>(data, &[], false).expect("repair").len(), 2);
        verdict(2);
        let done = repair::<Sample>(data, &[], true).expect("repair");
        assert_eq!((done[0].kept, done[0].lost), (0, None));
        assert_eq!((done[1].kept, done[1].lost), (2, Some(0)));
        assert_eq!(verdict(0).rows, 2);
        assert_eq!(aside(data).expect("list").len(), 2);
    }

    #[test]
    fn only_old_days_go_and_never_the_open_ones() {
        let data = tempfile::tempdir().expect("folder");
        let days = [0, 5, 8, 9, 10];
        let rows = days.map(|day| sample(day * DAY)).to_vec();
        write_into(data.path(), &site(), rows, None).expect("write");
        let today = UtcMicros(10 * DAY).utc_date();
        let old = |keep| outdated::<Sample>(data.path(), &[], today, keep).expect("list");
        assert_eq!(old(5).len(), 1);
        assert_eq!(old(0).len(), 2);
        for day in old(5) {
            delete(&day).expect("delete");
        }
        assert_eq!(list::<Sample>(data.path(), &[]).expect("list").days.len(), 4);
    }
}
