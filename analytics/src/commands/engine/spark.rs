//! Runs workers on a cluster of Apache Spark: one statement through Spark Connect, in which each
//! task starts a worker with one shard.
//!
//! Spark repeats a task whose worker fails or whose executor is lost, and uses the output of one
//! attempt only. The client accepts complete results only, and the collector only shards with their
//! end, so no figure is ever computed from a part of the samples.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use mailqos_base::Secret;
use mailqos_config::EngineOptions;
use mailqos_spark::{Address, Client, Progress, SparkError};
use tokio::sync::Notify;

use super::{collect::Runner, shard::Shard};
use crate::commands::Failure;

/// Environment variable with the token, as other clients of Spark Connect use it.
const TOKEN: &str = "SPARK_CONNECT_AUTHENTICATE_TOKEN";
/// Program that workers run by default: in the search path of executors, which includes the files
/// that Spark distributes (`spark.files`).
const WORKER: &str = "mailqos-analytics";
/// Counts the cores of the cluster: a range without a number of parts has one part per core.
const CORES: &str = "SELECT CAST(count(DISTINCT part) AS STRING) AS cores FROM \
                     (SELECT spark_partition_id() AS part FROM range(0, 1000000))";

/// A cluster.
#[derive(Debug)]
pub(super) struct Spark {
    client: Client,
    worker: String,
    cores: usize,
    threads: usize,
}

impl Spark {
    /// Connects to a cluster; `connect` has precedence over the address of the options.
    ///
    /// # Errors
    /// The address, the token or the worker's path is not valid; the server refuses or can't be
    /// reached.
    pub(super) fn connect(connect: Option<&str>, options: &EngineOptions) -> Result<Self, Failure> {
        let address = connect.or(options.connect.as_deref()).ok_or_else(|| {
            Failure::usage(
                "the address of Spark Connect is missing",
                "add --connect sc://HOST:15002/;use_ssl=true, or connect in [engine]",
            )
        })?;
        let address =
            Address::parse(address).map_err(|error| Failure::usage(error, "see docs/spark.md"))?;
        let worker = options.worker.as_deref().unwrap_or(Path::new(WORKER));
        let worker = worker.to_str().filter(|path| is_plain(path)).ok_or_else(|| {
            Failure::usage(
                "worker must be a program's name or its absolute path, of letters, digits and . _ -",
                "a shell on the executors starts it; install the program in such a folder",
            )
        })?;
        let token = token(options)?;
        let client = Client::new(address, token, &options.trust).map_err(failure)?;
        let mut spark = Self { client, worker: worker.to_owned(), cores: 1, threads: 1 };
        let threads =
            spark.wait(async |spark, _| spark.client.setting("spark.task.cpus", "1").await)?;
        let cores = spark.execute(CORES, &|_| {})?;
        let number = |text: &str| text.trim().parse::<usize>().unwrap_or(1).max(1);
        spark.threads = number(&threads);
        spark.cores = cores.first().map_or(1, |cores| number(cores));
        Ok(spark)
    }

    /// Executes a statement, and cancels it on the cluster if this process is to end.
    fn execute(
        &self,
        statement: &str,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Vec<String>, Failure> {
        self.wait(async |spark, interrupted| {
            spark.client.execute(statement, interrupted.notified(), progress).await
        })
    }

    /// Waits for work on a separate thread, because the caller may be asynchronous itself.
    fn wait<T: Send>(
        &self,
        work: impl AsyncFnOnce(&Self, &Notify) -> Result<T, SparkError> + Send,
    ) -> Result<T, Failure> {
        let waiting = || -> Result<T, Failure> {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(Failure::work)?;
            runtime.block_on(async {
                let interrupted = Arc::new(Notify::new());
                let notify = Arc::clone(&interrupted);
                tokio::spawn(async move {
                    if ended().await {
                        notify.notify_one();
                    }
                });
                work(self, &interrupted).await.map_err(failure)
            })
        };
        thread::scope(|scope| scope.spawn(waiting).join())
            .unwrap_or_else(|_| Err(Failure::work("the client of Spark stopped unexpectedly")))
    }
}

/// Waits until this process is to end; returns false if signals can't be received.
async fn ended() -> bool {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut terminate) = signal(SignalKind::terminate()) else { return false };
        tokio::select! {
            pressed = tokio::signal::ctrl_c() => pressed.is_ok(),
            received = terminate.recv() => received.is_some(),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await.is_ok()
}

/// Returns the token of the options, or of the environment.
fn token(options: &EngineOptions) -> Result<Option<Secret>, Failure> {
    let Some(source) = &options.token else {
        let token = std::env::var(TOKEN).ok().filter(|token| !token.is_empty());
        return Ok(token.map(Secret::new));
    };
    let fetching = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(Failure::work)?.block_on(source.fetch()).map(Some).map_err(|error| {
            Failure::usage(format!("the token of Spark Connect: {error}"), "see token in [engine]")
        })
    };
    thread::scope(|scope| scope.spawn(fetching).join())
        .unwrap_or_else(|_| Err(Failure::work("reading the token stopped unexpectedly")))
}

fn failure(error: SparkError) -> Failure {
    let help = match &error {
        SparkError::Unreachable { .. } => {
            "check the address, and that the Connect server is running"
        }
        SparkError::Unauthenticated { .. } => {
            "the token is that of the server's spark.connect.authenticate.token"
        }
        SparkError::Statement(reason) if reason.contains("exited with status 127") => {
            "the executors have no such program; see worker in [engine], and docs/spark.md"
        }
        SparkError::Statement(reason) if reason.contains("maxResultSize") => {
            "ask for a shorter period or longer buckets, or increase spark.driver.maxResultSize"
        }
        SparkError::Statement(_) | SparkError::Lost(_) => {
            "see the log of the Connect server, and of the executors for the errors of workers"
        }
        _ => return Failure::work(error),
    };
    Failure::work_help(error, help)
}

/// Returns whether a shell and SQL take a program's name or absolute path as it is.
fn is_plain(path: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    match path.strip_prefix('/') {
        Some(rest) => rest.split('/').all(is_part),
        None => is_part(path),
    }
}

/// Returns the statement: each shard is the row of a separate partition, so each task runs a worker
/// with one shard. Shards are encoded, so that no name in them is part of a command or of SQL.
fn statement(worker: &str, shards: &[Vec<u8>]) -> String {
    let texts: Vec<String> =
        shards.iter().map(|shard| format!("'{}'", STANDARD.encode(shard))).collect();
    format!(
        "SELECT TRANSFORM(shard) USING '{worker} worker' AS (line STRING) FROM (SELECT CAST(unbase64(\
         element_at(array({}), CAST(id AS INT) + 1)) AS STRING) AS shard FROM range(0, {count}, 1, {count}))",
        texts.join(","),
        count = shards.len()
    )
}

impl Runner for Spark {
    fn run(
        &self,
        shards: &[&Shard],
        take: &mut dyn FnMut(&str) -> Result<(), Failure>,
        done: &(dyn Fn() + Sync),
    ) -> Result<(), Failure> {
        if shards.is_empty() {
            return Ok(());
        }
        let encoded: Result<Vec<Vec<u8>>, serde_json::Error> =
            shards.iter().map(serde_json::to_vec).collect();
        let statement = statement(&self.worker, &encoded.map_err(Failure::work)?);
        let reported = Mutex::new(0);
        let report = |completed: usize| {
            let mut reported = reported.lock().unwrap_or_else(PoisonError::into_inner);
            // A task that is repeated, or a statement that is executed again, counts once.
            for _ in *reported..completed.min(shards.len()) {
                done();
                *reported += 1;
            }
        };
        let progress = |it: Progress| report(usize::try_from(it.completed).unwrap_or(usize::MAX));
        let lines = self.execute(&statement, &progress)?;
        lines.iter().try_for_each(|line| take(line))?;
        report(shards.len());
        Ok(())
    }

    fn count(&self) -> usize {
        self.cores
    }

    fn threads(&self) -> usize {
        self.threads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_of_a_shard_is_part_of_the_statement() {
        let shard = br#"{"site":"it's; $(reboot) \\"}"#.to_vec();
        let text = statement("/opt/mailqos-analytics", &[shard.clone(), shard]);
        assert!(!text.contains("reboot") && !text.contains('$') && !text.contains('\\'), "{text}");
        assert!(text.contains("USING '/opt/mailqos-analytics worker'"), "{text}");
        assert!(text.contains("range(0, 2, 1, 2)"), "{text}");
    }

    #[test]
    fn a_path_that_a_shell_or_sql_would_change_is_refused() {
        for path in ["/opt/mailqos/mailqos-analytics", "mailqos-analytics", "/usr/bin/mailqos_1.2"]
        {
            assert!(is_plain(path), "{path}");
        }
        for path in [
            "",
            "/",
            "./x",
            "a/b",
            "-x",
            "/opt//x",
            "/opt/a b",
            "/opt/$(x)",
            "/opt/';x",
            "/opt/a\\b",
            "/opt/é",
            "/opt/*",
        ] {
            assert!(!is_plain(path), "{path}");
        }
    }

    #[test]
    fn other_machines_need_tls_and_tokens_are_not_in_addresses() {
        let options = EngineOptions::default();
        for address in
            ["sc://spark.example.com", "sc://spark.example.com/;use_ssl=true;token=hunter2"]
        {
            let refused = Spark::connect(Some(address), &options).expect_err(address);
            let text = refused.text();
            assert!(matches!(refused, Failure::Usage(_)) && !text.contains("hunter2"), "{text}");
        }
        assert!(matches!(Spark::connect(None, &options), Err(Failure::Usage(_))));
    }
}
