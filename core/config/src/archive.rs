//! How long generated reports are kept: the table `archive`.

use mailqos_model::Micros;

use super::{
    Problems, Table,
    key::{Optional, key},
    reference::Key,
};

keys! {
    ARCHIVE: ArchiveKeys {
        /// Remove reports that the schedules generated longer ago than this.
        keep: Optional<Micros> = key().otherwise("reports are kept").within("1d", "36500d");
        /// The number of last runs of each report that are kept.
        keep_last: Optional<u32> = key().otherwise("all are kept").within("1", "");
    }
}

/// How long generated reports are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ArchiveOptions {
    /// Age at which a report is removed.
    pub keep: Option<Micros>,
    /// Number of last runs of each report that are kept.
    pub keep_last: Option<u32>,
}

/// Reads the table, if there is one.
pub(super) fn read(root: &mut Table, name: &Key, problems: &mut Problems) -> ArchiveOptions {
    let mut table = root.table_or_empty(name, problems);
    let options = ArchiveOptions {
        keep: table.read(&ARCHIVE.keep, problems),
        keep_last: table.read(&ARCHIVE.keep_last, problems),
    };
    table.finish(problems);
    options
}
