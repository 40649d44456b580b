//! A cluster of Apache Spark on this machine, by `tests/real/spark_cluster.sh`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

/// The first of the cluster's ports, relative to `MAILQOS_REAL_PORT_BASE`.
const PORT: u16 = 300;

/// A running cluster; dropping it stops it.
pub struct SparkCluster {
    folder: TempDir,
    port: u16,
    token: String,
}

impl SparkCluster {
    /// Starts a cluster with two executors, if `MAILQOS_SPARK_PYTHON` names a Python that has
    /// pyspark. Otherwise prints a note on standard error, so that no one believes that something
    /// was tested. `options` are further options of `spark-submit`.
    ///
    /// # Panics
    /// The cluster can't be started: one that was asked for may not be skipped.
    pub fn start(token: &str, options: &str) -> Option<Self> {
        let Some(python) = std::env::var_os("MAILQOS_SPARK_PYTHON") else {
            eprintln!(
                "SKIPPED: needs Apache Spark: set MAILQOS_SPARK_PYTHON to a Python with pyspark, and \
                 MAILQOS_BIN to a folder with mailqos-analytics, built with --features spark"
            );
            return None;
        };
        let base = std::env::var("MAILQOS_REAL_PORT_BASE").unwrap_or_default();
        let port = base.parse().unwrap_or(22_000) + PORT;
        let cluster = Self {
            folder: tempfile::Builder::new().prefix("spark").tempdir().expect("a folder"),
            port,
            token: token.to_owned(),
        };
        let mut command = cluster.script("start");
        command.env("SPARK_EXTRA", options).arg(python).arg(cluster.path());
        cluster.succeed(command.arg(port.to_string()));
        Some(cluster)
    }

    /// Returns the folder with its logs.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the address of its Connect server.
    pub fn address(&self) -> String {
        format!("sc://127.0.0.1:{}", self.port)
    }

    /// Stops the Connect server and starts another one.
    ///
    /// # Panics
    /// It can't be started.
    pub fn restart_connect(&self) {
        for verb in ["stop-connect", "start-connect"] {
            self.succeed(self.script(verb).arg(self.path()));
        }
    }

    /// Returns the process ids of its executors.
    pub fn executors(&self) -> Vec<u32> {
        let is_executor = |id: &u32| {
            let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            let folder = fs::read_link(format!("/proc/{id}/cwd")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains("CoarseGrainedExecutorBackend")
                && folder.starts_with(self.path())
        };
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        ids.filter(is_executor).collect()
    }

    /// Returns the end of the log of the Connect server.
    pub fn log(&self) -> String {
        let text = fs::read(self.path().join("connect.log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines()
            .rev()
            .take(60)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn script(&self, verb: &str) -> Command {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("real/spark_cluster.sh");
        let mut command = Command::new("bash");
        command.arg(script).arg(verb).stdin(Stdio::null());
        command.env("SPARK_CONNECT_AUTHENTICATE_TOKEN", &self.token);
        command
    }

    fn succeed(&self, command: &mut Command) {
        let output = command.output().expect("bash starts");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}\n{}", self.log());
    }
}

impl Drop for SparkCluster {
    fn drop(&mut self) {
        let _ = self.script("stop").arg(self.path()).status();
    }
}
