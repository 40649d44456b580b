//! What the console and the process that generates a report exchange: an order on its standard
//! input, and lines on its standard output.

use std::{collections::BTreeSet, path::PathBuf};

use serde::{Deserialize, Serialize};

/// A report to generate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Configuration file.
    pub(crate) config: PathBuf,
    /// Folder of the lake.
    pub(crate) lake: PathBuf,
    /// Template or definition.
    pub(crate) subject: Subject,
    /// Monitors, as `SITE/ID`; `None` for those that the subject selects.
    pub(crate) monitors: Option<Vec<String>>,
    /// Ids of the only monitors of the configuration that the reader may know of; `None` for all.
    pub(crate) only: Option<BTreeSet<String>>,
    /// Period; `None` for that of the definition.
    pub(crate) period: Option<Span>,
    /// Language tag; `None` for that of the definition.
    pub(crate) language: Option<String>,
    /// File extensions of the formats.
    pub(crate) formats: Vec<String>,
    /// Folder for the files.
    pub(crate) folder: PathBuf,
}

/// What a report is made from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Subject {
    /// A template, by name.
    Template(String),
    /// A definition, by the path of its file.
    Definition(PathBuf),
}

/// A period.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Span {
    /// By name, such as `last-month`.
    Named(String),
    /// From a day to the day before another.
    Between(String, String),
}

/// A line of the process.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    /// A report has been composed; its files follow.
    Report(Composed),
    /// A file is complete.
    File(MadeFile),
    /// All files are complete.
    Done,
    /// The report can't be generated, for this reason.
    Failed(String),
}

/// A composed report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Composed {
    /// Title.
    pub(crate) title: String,
    /// Period, in words.
    pub(crate) period: String,
    /// Main finding.
    pub(crate) headline: String,
}

/// A complete file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MadeFile {
    /// Name in the folder.
    pub(crate) name: String,
    /// File extension of its format.
    pub(crate) format: String,
    /// Size in bytes.
    pub(crate) bytes: u64,
}
