//! The sample lake: its layout, the columns of a sample and of an event, and how day files are written and read.
//!
//! `<data>/samples/site=<site>/date=<YYYY-MM-DD>/samples.parquet`: one file a day and site, sorted by (`monitor`,
//! `started_at`), replaced atomically, never edited in place. Events lie beside in `<data>/events`.

mod columns;
mod day_file;

use std::path::{Path, PathBuf};

use jiff::civil::Date;

pub use columns::{Cell, Column, Hold, Record};
pub use day_file::{DayReader, DayWriter, LakeError, Merged, SealedUpTo, read_day};

use crate::model::SiteName;

/// The folder of one site's days, of samples or of events.
pub fn site_folder<R: Record>(data: &Path, site: &SiteName) -> PathBuf {
    data.join(R::FOLDER).join(format!("site={site}"))
}

/// The day file of a site.
pub fn day_path<R: Record>(data: &Path, site: &SiteName, date: Date) -> PathBuf {
    site_folder::<R>(data, site)
        .join(format!("date={date}"))
        .join(format!("{}.parquet", R::FOLDER))
}
