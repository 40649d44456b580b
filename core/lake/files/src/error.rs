//! Errors of day files, and the keys of their metadata.

use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;

use super::remote::RemoteError;

/// Metadata key of the version of the columns.
pub(super) const VERSION_KEY: &str = "mailqos.columns";
/// Metadata key of the journal position.
pub(super) const POSITION_KEY: &str = "mailqos.journal";

/// Reasons why a lake, or one of its day files, can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The folder does not exist.
    #[error("there is no sample lake in {path}: no such folder", path = .0.display())]
    NotFound(PathBuf),
    /// A file system operation failed.
    #[error("can't access {path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The object store that holds the file refused, or could not be reached.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The file is not a Parquet file, or is damaged.
    #[error("{path}: {source}", path = path.display())]
    Parquet {
        /// Path of the file.
        path: PathBuf,
        /// The reason.
        source: ParquetError,
    },
    /// The file is a Parquet file that this program can't decode. It is not known to be damaged.
    #[error("{path} can't be read by this program: {reason}", path = path.display())]
    Unsupported {
        /// Path of the file.
        path: PathBuf,
        /// The unsupported feature, and the remedy.
        reason: String,
    },
    /// The file is not a day file of samples or events, or can't be decoded.
    #[error("{path} is corrupt: {reason}", path = path.display())]
    Corrupt {
        /// Path of the file.
        path: PathBuf,
        /// Description of the problem.
        reason: String,
    },
    /// A column is not of the expected kind.
    #[error("{path}: column {column}: {reason}", path = path.display())]
    Column {
        /// Path of the file.
        path: PathBuf,
        /// Name of the column.
        column: String,
        /// The reason.
        reason: String,
    },
    /// Rows are out of order, or a key is a duplicate.
    #[error("{path}: row {row} is out of order or a duplicate", path = path.display())]
    Order {
        /// Path of the file.
        path: PathBuf,
        /// Index of the row, from 0.
        row: u64,
    },
}

impl LakeError {
    /// Returns whether the content of this file is damaged, that is, its bytes can't be those that
    /// a writer wrote. A failing disk does not count as damage, nor does an intact file that this
    /// program can't decode or that contains something else.
    pub fn is_damage_of(&self, file: &Path) -> bool {
        match self {
            Self::NotFound(_)
            | Self::Io { .. }
            | Self::Remote(_)
            | Self::Unsupported { .. }
            | Self::Corrupt { .. }
            | Self::Column { .. }
            | Self::Order { .. } => false,
            Self::Parquet { path, source } => {
                let disk = match source {
                    ParquetError::External(inner) => inner
                        .downcast_ref::<std::io::Error>()
                        .is_some_and(|error| error.kind() != std::io::ErrorKind::UnexpectedEof),
                    _ => false,
                };
                path == file && !disk
            }
        }
    }
}

/// Returns a function that converts an error of the file system about a file or folder.
pub fn io_error(path: &Path) -> impl Fn(std::io::Error) -> LakeError + '_ {
    |source| LakeError::Io { path: path.to_owned(), source }
}

pub(super) fn parquet_error(path: &Path) -> impl FnOnce(ParquetError) -> LakeError + '_ {
    |source| LakeError::Parquet { path: path.to_owned(), source }
}
