//! What goes wrong with day files, and what their metadata is called.

use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;

/// Metadata key of the version of the columns.
pub(super) const VERSION_KEY: &str = "mailqos.columns";
/// Metadata key of the journal position.
pub(super) const POSITION_KEY: &str = "mailqos.journal";

/// Why a lake, or one of its day files, can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// There is no such folder.
    #[error("there is no sample lake in {path}: no such folder", path = .0.display())]
    NotFound(PathBuf),
    /// The file system refused.
    #[error("can't access {path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no Parquet file, or damaged.
    #[error("{path}: {source}", path = path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ParquetError,
    },
    /// It is a Parquet file that this program can't decode, and not damaged for all that is known.
    #[error("{path} can't be read by this program: {reason}", path = path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it can't do, and what to do about it.
        reason: String,
    },
    /// It does not hold what a day file of samples or events holds, or can't be decoded.
    #[error("{path} is corrupt: {reason}", path = path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A column is not what it should be.
    #[error("{path}: column {column}: {reason}", path = path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// Why.
        reason: String,
    },
    /// Its rows are not in the order of their keys, or a key is there twice.
    #[error("{path}: row {row} is not behind the one before it", path = path.display())]
    Order {
        /// The file.
        path: PathBuf,
        /// The row, from 0.
        row: u64,
    },
}

impl LakeError {
    /// Whether the content of this file is damaged: that its bytes cannot be those that a writer wrote. A disk that can't be
    /// read or written is another matter, and so is a sound file that this program can't decode or that holds something else.
    pub fn is_damage_of(&self, file: &Path) -> bool {
        match self {
            Self::NotFound(_)
            | Self::Io { .. }
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

/// Makes an error of what the file system says about a file or folder.
pub fn io_error(path: &Path) -> impl Fn(std::io::Error) -> LakeError + '_ {
    |source| LakeError::Io {
        path: path.to_owned(),
        source,
    }
}

pub(super) fn parquet_error(path: &Path) -> impl FnOnce(ParquetError) -> LakeError + '_ {
    |source| LakeError::Parquet {
        path: path.to_owned(),
        source,
    }
}
