//! Where figures are computed: the table `engine`.

use std::path::PathBuf;

use mailqos_model::{Micros, words};

use super::{
    Problems, Table,
    key::{Defaulted, Optional, Word, key},
    reference::Key,
};

words!(
    /// What computes figures.
    EngineKind, "engine" {
        /// The process that was asked.
        Local = "local",
        /// Several processes of this machine.
        Processes = "processes",
    }
);

keys! {
    ENGINE: EngineKeys {
        /// What computes figures: `local` is the process itself, `processes` are several processes
        /// of this machine. The option `--engine` has precedence.
        kind: Word<EngineKind> = word!(EngineKind::WORDS).default("\"local\"");
        /// The number of parts that the monitors are divided into.
        shards: Optional<u32> = key().otherwise("four per worker, if the files allow it").within("1", "10000");
        /// The program that workers run: `mailqos-analytics` in the same version.
        worker: Optional<PathBuf> = key().otherwise("the program itself");
        /// How long a worker may take for a part; it is then ended, and the part is computed again.
        timeout: Defaulted<Micros> = key().default("\"1h\"").within("1s", "7d");
    }
}

/// Where figures are computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineOptions {
    /// What computes them.
    pub kind: EngineKind,
    /// Number of parts that the monitors are divided into.
    pub shards: Option<u32>,
    /// Program that workers run; the program itself if absent.
    pub worker: Option<PathBuf>,
    /// Longest time that a worker may take for a part.
    pub timeout: Micros,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            kind: EngineKind::Local,
            shards: None,
            worker: None,
            timeout: Micros::from_secs(3600),
        }
    }
}

/// Reads the table, if there is one.
pub(super) fn read(root: &mut Table, key: &Key, problems: &mut Problems) -> EngineOptions {
    let mut table = root.table_or_empty(key, problems);
    let options = EngineOptions {
        kind: table.read(&ENGINE.kind, problems),
        shards: table.read(&ENGINE.shards, problems),
        worker: table.read(&ENGINE.worker, problems),
        timeout: table.read(&ENGINE.timeout, problems),
    };
    table.finish(problems);
    options
}
