//! The days of a lake: files and their other copies, and totals per site.

use std::path::{Path, PathBuf};

use jiff::civil::Date;
use mailqos_lake::{
    DayReader, LakeError, LockError, Merged, Record, io_error, open_sorted, read_sorted,
};
use mailqos_model::{Sample, SiteName};

use super::folders::{entries, is_day_file};

/// Why an administrative operation on the lake failed.
#[derive(Debug, thiserror::Error)]
pub enum LakeAdminError {
    /// A day file can't be read or written.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// Another process is writing there.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The file to import has errors.
    #[error("{0}")]
    Import(String),
}

/// One day of a site.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day {
    /// The site.
    pub site: SiteName,
    /// The UTC date.
    pub date: Date,
    /// The day's file.
    pub path: PathBuf,
    /// Other Parquet files in its folder: copies, or files of another program. Each of their rows
    /// counts once.
    pub others: Vec<PathBuf>,
    /// Total size in bytes.
    pub bytes: u64,
}

impl Day {
    /// Returns all rows of the day from all of its files, in the order of their keys, each key
    /// once.
    ///
    /// # Errors
    /// A file can't be read.
    pub fn rows<R: Record>(
        &self,
    ) -> Result<Box<dyn Iterator<Item = Result<R, LakeError>>>, LakeAdminError> {
        let mut rows = open_sorted::<R>(&self.path)?;
        for other in &self.others {
            let own: Vec<R> = rows.collect::<Result<_, _>>()?;
            let merged = Merged::new(read_sorted::<R>(other)?.into_iter().map(Ok), own.into_iter());
            rows = Box::new(merged.collect::<Vec<_>>().into_iter());
        }
        Ok(rows)
    }
}

/// Contents of one of the lake's trees.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// The days, by site and date.
    pub days: Vec<Day>,
    /// Files that don't belong there.
    pub strays: Vec<PathBuf>,
}

/// Lists the day files of samples or of events, of these sites or of all if the list is empty.
///
/// # Errors
/// A folder can't be read. A missing folder counts as empty.
pub fn list<R: Record>(data: &Path, sites: &[SiteName]) -> Result<Tree, LakeAdminError> {
    let mut tree = Tree::default();
    for site_folder in entries(&data.join(R::FOLDER))? {
        let Some(site) = partition::<SiteName>(&site_folder, "site=") else {
            tree.strays.push(site_folder);
            continue;
        };
        if !(sites.is_empty() || sites.contains(&site)) {
            continue;
        }
        for date_folder in entries(&site_folder)? {
            let Some(date) = partition::<Date>(&date_folder, "date=") else {
                tree.strays.push(date_folder);
                continue;
            };
            let own = date_folder.join(format!("{}.parquet", R::FOLDER));
            let (mut bytes, mut others, mut is_there) = (0, Vec::new(), false);
            for path in entries(&date_folder)? {
                let size = match std::fs::metadata(&path) {
                    Ok(metadata) => metadata.len(),
                    // Retention may delete it meanwhile.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(io_error(&path)(error).into()),
                };
                if path == own {
                    (is_there, bytes) = (true, bytes + size);
                    continue;
                }
                if is_day_file(&path) && path.is_file() {
                    others.push(path.clone());
                    bytes += size;
                }
                tree.strays.push(path);
            }
            if is_there || !others.is_empty() {
                tree.days.push(Day { site: site.clone(), date, path: own, others, bytes });
            }
        }
    }
    tree.days.sort();
    Ok(tree)
}

fn partition<T: std::str::FromStr>(folder: &Path, prefix: &str) -> Option<T> {
    if !folder.is_dir() {
        return None;
    }
    folder.file_name()?.to_str()?.strip_prefix(prefix)?.parse().ok()
}

/// Summary of one site.
#[derive(Debug, Clone)]
pub struct SiteInfo {
    /// The site.
    pub site: SiteName,
    /// Number of days that have a file.
    pub days: u64,
    /// The first of them.
    pub first: Date,
    /// The last of them.
    pub last: Date,
    /// Number of samples.
    pub rows: u64,
    /// Size of the files in bytes.
    pub bytes: u64,
    /// Gaps between first and last: the first and last day of each.
    pub gaps: Vec<(Date, Date)>,
    /// Files that can't be opened.
    pub unreadable: u64,
}

/// Summarises the samples of each site.
///
/// # Errors
/// A folder can't be read.
pub fn info(data: &Path, sites: &[SiteName]) -> Result<Vec<SiteInfo>, LakeAdminError> {
    let mut infos: Vec<SiteInfo> = Vec::new();
    for day in list::<Sample>(data, sites)?.days {
        let known = infos.last().is_some_and(|info| info.site == day.site);
        if !known {
            infos.push(SiteInfo {
                site: day.site.clone(),
                days: 0,
                first: day.date,
                last: day.date,
                rows: 0,
                bytes: 0,
                gaps: Vec::new(),
                unreadable: 0,
            });
        }
        let Some(info) = infos.last_mut() else {
            continue;
        };
        if info.days > 0
            && let (Ok(after), Ok(before)) = (info.last.tomorrow(), day.date.yesterday())
            && after <= before
        {
            info.gaps.push((after, before));
        }
        info.last = day.date;
        info.days += 1;
        info.bytes += day.bytes;
        let count = if day.others.is_empty() {
            DayReader::<Sample>::open(&day.path)
                .map(|reader| reader.map_or(0, |reader| reader.row_count()))
                .map_err(LakeAdminError::from)
        } else {
            day.rows::<Sample>().map(|rows| rows.count() as u64)
        };
        match count {
            Ok(count) => info.rows += count,
            Err(_) => info.unreadable += 1,
        }
    }
    Ok(infos)
}
