//! `lake retain`: which days of a folder are old enough to be deleted, by the rules of
//! [`mailqos_lake::retention`].

use std::path::Path;

use mailqos_lake::{Record, io_error, retention};
use mailqos_model::{Micros, SiteName, UtcMicros};

use super::days::{Day, LakeAdminError, list};

/// Days into which samples may still be settled, by a probe whose horizon is a day: `lake retain`
/// keeps them.
const OPEN_DAYS: u16 = 2;

/// Returns the days that began more than `keep_days` before today, never one of the last two.
///
/// # Errors
/// A folder can't be read.
pub fn outdated<R: Record>(
    data: &Path,
    sites: &[SiteName],
    now: UtcMicros,
    keep_days: u16,
) -> Result<Vec<Day>, LakeAdminError> {
    let days = |days: u16| Micros::from_secs(i64::from(days) * 86_400);
    let first = retention::first_kept(now, days(keep_days), days(OPEN_DAYS));
    let mut days = list::<R>(data, sites)?.days;
    days.retain(|day| day.date < first);
    Ok(days)
}

/// Deletes a day that is too old, with all copies of it.
///
/// # Errors
/// The file system rejects the operation.
pub fn delete_all(day: &Day) -> Result<(), LakeAdminError> {
    for path in &day.others {
        retention::delete_file(path).map_err(io_error(path))?;
    }
    delete(day)
}

/// Deletes the file of a day. Readers that have it open continue.
///
/// # Errors
/// The file system rejects the operation.
pub fn delete(day: &Day) -> Result<(), LakeAdminError> {
    retention::delete_day_file(&day.path).map_err(io_error(&day.path))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use mailqos_model::{Outcome, Sample};

    use super::{super::repair::write_into, *};

    fn site() -> SiteName {
        "here".parse().expect("a name")
    }

    fn sample(at: i64) -> Sample {
        Sample::new("m".parse().expect("a name"), UtcMicros(at), Outcome::Ok)
    }

    const DAY: i64 = 86_400_000_000;

    #[test]
    fn only_old_days_go_and_never_the_open_ones() {
        let data = tempfile::tempdir().expect("folder");
        let days = [0, 5, 8, 9, 10];
        let rows = days.map(|day| sample(day * DAY)).to_vec();
        write_into(data.path(), &site(), rows).expect("write");
        let now = UtcMicros(10 * DAY);
        let old = |keep| outdated::<Sample>(data.path(), &[], now, keep).expect("list");
        assert_eq!(old(5).len(), 1);
        assert_eq!(old(0).len(), 2);
        for day in old(5) {
            delete(&day).expect("delete");
        }
        assert_eq!(list::<Sample>(data.path(), &[]).expect("list").days.len(), 4);
    }
}
