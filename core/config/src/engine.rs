//! Where figures are computed: the table `engine`.

use std::path::PathBuf;

use mailqos_base::SecretSource;
use mailqos_model::{Micros, words};
use mailqos_net::Trust;

use super::{
    Problems, Table,
    key::{Defaulted, Optional, Word, key},
    reference::Key,
    server::trust,
    value::secret,
};

words!(
    /// What computes figures.
    EngineKind, "engine" {
        /// The process that was asked.
        Local = "local",
        /// Several processes of this machine.
        Processes = "processes",
        /// A cluster of Apache Spark.
        Spark = "spark",
    }
);

keys! {
    ENGINE: EngineKeys {
        /// What computes figures: `local` is the process itself, `processes` are several processes
        /// of this machine, `spark` is a cluster of Apache Spark. The option `--engine` has
        /// precedence.
        kind: Word<EngineKind> = word!(EngineKind::WORDS).default("\"local\"");
        /// The number of parts that the monitors are divided into.
        shards: Optional<u32> = key().otherwise("four per worker, if the files allow it").within("1", "10000");
        /// The program that workers run: `mailqos-analytics` in the same version. With Spark, its
        /// absolute path on the executors.
        worker: Optional<PathBuf> = key().otherwise("the program itself; with Spark, `mailqos-analytics` in the search path of the executors");
        /// The address of a Spark Connect server: `sc://spark.example.com:15002/;use_ssl=true`.
        /// Without TLS, only addresses of this machine are accepted.
        connect: Optional<String> = key();
        /// The token of the Spark Connect server.
        token: Key = Key::secret();
        /// How long a worker of this machine may take for a part; it is then ended, and the part is
        /// computed again.
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
    /// Program that workers run; if absent, the program itself, or a name on the executors.
    pub worker: Option<PathBuf>,
    /// Address of a Spark Connect server.
    pub connect: Option<String>,
    /// Its token.
    pub token: Option<SecretSource>,
    /// Certificates that it may have.
    pub trust: Trust,
    /// Longest time that a worker may take for a part.
    pub timeout: Micros,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            kind: EngineKind::Local,
            shards: None,
            worker: None,
            connect: None,
            token: None,
            trust: Trust::default(),
            timeout: Micros::from_secs(3600),
        }
    }
}

/// Reads the table, if there is one; `plaintext` allows literal secrets.
pub(super) fn read(
    root: &mut Table,
    key: &Key,
    plaintext: bool,
    problems: &mut Problems,
) -> EngineOptions {
    let mut table = root.table_or_empty(key, problems);
    let options = EngineOptions {
        kind: table.read(&ENGINE.kind, problems),
        shards: table.read(&ENGINE.shards, problems),
        worker: table.read(&ENGINE.worker, problems),
        connect: table.read(&ENGINE.connect, problems),
        token: table.node(&ENGINE.token).and_then(|node| secret(&node, plaintext, problems)),
        trust: trust(&mut table, problems),
        timeout: table.read(&ENGINE.timeout, problems),
    };
    table.finish(problems);
    options
}
