//! Environment for the real binaries: a folder with a configuration, commands that run in it, a
//! probe that runs until it is stopped.

use std::{
    fmt::Write as _,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    binaries::binary,
    lake::{self, Row},
    servers::{GraphOptions, GraphServer, MailServer, PASSWORD, PROBE},
};

/// Longest wait of a test before it fails.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Waits for a condition.
///
/// # Panics
/// The condition is not met within [`PATIENCE`].
pub async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Writes a file that only its owner may read, as secrets must be.
///
/// # Panics
/// The file can't be written.
pub fn write_private(path: &Path, text: &str) {
    std::fs::write(path, text).expect("a private file");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
            .expect("its permissions");
    }
}

/// Text of a monitor in the configuration; all parts can be changed.
#[derive(Debug, Clone)]
pub struct MonitorText {
    /// Its id, and that of its object.
    pub id: String,
    /// Address of its object.
    pub address: String,
    /// Inline table of the SMTP server.
    pub smtp: String,
    /// Inline table of the pick-up server.
    pub pickup: String,
    /// Sender.
    pub from: String,
    /// Mailbox.
    pub to: String,
    /// Further lines.
    pub more: String,
}

/// A folder with a configuration.
pub struct Setting {
    folder: TempDir,
    config: String,
}

impl Setting {
    /// Creates a folder and a configuration with short intervals: a test every 5 s, max round trip
    /// 3 s, timeouts of 1 s.
    ///
    /// # Panics
    /// The folder can't be created.
    pub fn new(site: &str) -> Self {
        let config = format!(
            "site = \"{site}\"\ndata = \"data\"\ntimezone = \"Europe/Stockholm\"\nseal_interval = \"1s\"\n\n\
             [defaults]\ntest_interval = \"5s\"\nmax_round_trip = \"3s\"\ncheck_interval = \"200ms\"\nhorizon = \"6s\"\ntimeout = \"1s\"\n\n\
             [account.probe]\nuser = \"{PROBE}\"\npassword = {{ env = \"PROBE_PASSWORD\" }}\n\n\
             [account.wrong]\nuser = \"{PROBE}\"\npassword = {{ env = \"WRONG_PASSWORD\" }}\n"
        );
        Self { folder: tempfile::tempdir().expect("a temporary folder"), config }
    }

    /// Returns a path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the lake's folder.
    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// Adds lines to the configuration.
    pub fn add(&mut self, text: &str) {
        self.config.push('\n');
        self.config.push_str(text);
        self.config.push('\n');
    }

    /// Replaces lines of the configuration.
    pub fn replace(&mut self, old: &str, new: &str) {
        assert!(self.config.contains(old), "no {old:?} in the configuration");
        self.config = self.config.replace(old, new);
    }

    /// Returns the text of a monitor on an embedded server: STARTTLS for SMTP, implicit TLS for
    /// POP3, its authority trusted.
    ///
    /// # Panics
    /// The authority's file can't be written.
    pub fn monitor(&self, id: &str, server: &MailServer) -> MonitorText {
        let ca_file = format!("{id}.ca.pem");
        std::fs::write(self.path(&ca_file), server.authority().pem())
            .expect("the authority's file");
        MonitorText {
            id: id.to_owned(),
            address: "127.0.0.1".to_owned(),
            smtp: format!(
                "port = {}, tls = \"starttls\", account = \"probe\", ca_file = \"{ca_file}\"",
                server.smtp_port()
            ),
            pickup: format!(
                "protocol = \"pop3\", port = {}, tls = \"implicit\", account = \"probe\", ca_file = \"{ca_file}\"",
                server.pop3s_port()
            ),
            from: PROBE.to_owned(),
            to: PROBE.to_owned(),
            more: String::new(),
        }
    }

    /// Adds the account `NAME` for Microsoft Graph, with a secret in a file, and returns the inline
    /// table of a pick-up with it; its authority is that of the monitor `ca`.
    ///
    /// # Panics
    /// The secret's file can't be written.
    pub fn add_graph_account(&mut self, name: &str, ca: &str, graph: &GraphServer) -> String {
        let options = GraphOptions::default();
        write_private(&self.path("graph.secret"), &options.client_secret);
        self.add(&format!(
            "[account.{name:?}]\nuser = \"{PROBE}\"\n[account.{name:?}.oauth]\npreset = \"microsoft-365\"\n\
             tenant = \"{}\"\nclient_id = \"{}\"\nclient_secret = {{ file = \"graph.secret\" }}\n\
             token_url = \"{}\"\nca_file = \"{ca}.ca.pem\"",
            options.tenant,
            options.client_id,
            graph.token_url()
        ));
        format!(
            "protocol = \"graph\", server = \"localhost\", port = {}, account = \"{name}\", ca_file = \"{ca}.ca.pem\"",
            graph.port()
        )
    }

    /// Adds a monitor and its object.
    ///
    /// # Panics
    /// Never: writing into a string.
    pub fn add_monitor(&mut self, monitor: &MonitorText) {
        let MonitorText { id, address, smtp, pickup, from, to, more } = monitor;
        write!(
            self.config,
            "\n[object.{id:?}]\naddress = \"{address}\"\n\n[monitor.{id:?}]\nobject = \"{id}\"\nkind = \"mail-qos\"\nfrom = \"{from}\"\nto = \"{to}\"\n\
             smtp = {{ {smtp} }}\npickup = {{ {pickup} }}\n{more}\n"
        )
        .expect("writing into a string");
    }

    /// Adds a server that accepts alarms and reports, with an account of the same name for a user
    /// whose password is [`PASSWORD`].
    ///
    /// # Panics
    /// The authority's file can't be written.
    pub fn add_mail_server(&mut self, name: &str, user: &str, server: &MailServer) {
        std::fs::write(self.path(&format!("{name}.pem")), server.authority().pem())
            .expect("the authority's file");
        self.add(&format!(
            "[account.{name}]\nuser = \"{user}\"\npassword = {{ env = \"PROBE_PASSWORD\" }}\n\
             [mail_server.{name}]\nserver = \"127.0.0.1\"\nport = {}\ntls = \"starttls\"\naccount = \"{name}\"\nfrom = \"{user}\"\nca_file = \"{name}.pem\"",
            server.smtp_port()
        ));
    }

    /// Writes the configuration file.
    ///
    /// # Panics
    /// The file can't be written.
    pub fn write(&self) -> PathBuf {
        let path = self.path("mailqos.toml");
        // Never partially written: a probe that starts at this moment would find an empty file.
        let written = self.path("mailqos.toml.new");
        std::fs::write(&written, &self.config).expect("the configuration file");
        std::fs::rename(&written, &path).expect("the configuration file");
        path
    }

    /// Returns a command of one of the binaries, with this configuration and these secrets.
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(binary(name));
        command
            .arg("--config")
            .arg(self.write())
            .current_dir(self.folder.path())
            .env("PROBE_PASSWORD", PASSWORD)
            .env("WRONG_PASSWORD", "wrong")
            .env("NO_COLOR", "1")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    /// The command can't be started.
    pub fn run(&self, name: &str, arguments: &[&str]) -> Output {
        self.command(name).args(arguments).output().expect("the binary starts")
    }

    /// Runs a command that must succeed and returns its standard output.
    ///
    /// # Panics
    /// The command fails.
    pub fn succeed(&self, name: &str, arguments: &[&str]) -> String {
        let output = self.run(name, arguments);
        assert!(
            output.status.success(),
            "{name} {arguments:?}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("standard output is text")
    }

    /// Returns the lines of the ledger of deliveries.
    ///
    /// # Panics
    /// The ledger can't be read.
    pub fn ledger(&self) -> Vec<serde_json::Value> {
        let text = self.succeed("mailqos-analytics", &["outbox", "ledger"]);
        let lines = text.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().expect("JSON")
    }

    /// Starts `mailqos-probe run`; its output goes to `probe.log`.
    ///
    /// # Panics
    /// It can't be started.
    pub fn start_probe(&self) -> Probe {
        self.start(self.command("mailqos-probe").arg("run"))
    }

    /// Starts a command that runs until it is stopped; its output goes to `probe.log`.
    ///
    /// # Panics
    /// It can't be started.
    pub fn start(&self, command: &mut Command) -> Probe {
        let log = self.path("probe.log");
        let open =
            || File::options().create(true).append(true).open(&log).expect("the probe's log");
        let child = command.stdout(open()).stderr(open()).spawn();
        Probe { child: child.expect("the probe starts"), log }
    }

    /// Returns the samples of the lake.
    pub fn rows(&self) -> Vec<Row> {
        lake::rows(&self.data())
    }

    /// Returns the settled samples of one monitor, in order.
    pub fn settled(&self, monitor: &str) -> Vec<Row> {
        let settled = |row: &Row| row.monitor() == monitor && row.flag("settled") != Some(false);
        self.rows().into_iter().filter(settled).collect()
    }
}

/// A running probe; dropping it kills it.
pub struct Probe {
    child: Child,
    log: PathBuf,
}

impl Probe {
    /// Returns its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns whether it is still running.
    ///
    /// # Panics
    /// The state of the process is unknown.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the probe's state").is_none()
    }

    /// Returns its output so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Stops it with SIGTERM and waits for its end.
    ///
    /// # Panics
    /// It does not end in time.
    pub fn stop(mut self) -> ExitStatus {
        signal(self.id(), "TERM");
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the probe's state") {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "the probe does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills it immediately (SIGKILL), like a power cut.
    ///
    /// # Panics
    /// It can't be killed.
    pub fn kill(mut self) {
        self.child.kill().expect("the probe is killed");
        self.child.wait().expect("the probe is gone");
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines.len().saturating_sub(100);
            let told = |(at, line): &(usize, &&str)| *at >= last || !line.contains(" INFO tested ");
            let told: Vec<&str> =
                lines.iter().enumerate().filter(told).map(|(_, line)| *line).collect();
            eprintln!("the probe said:\n{}", told.join("\n"));
        }
    }
}

/// Returns the complete output of a command.
pub fn words_of(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// Returns the standard error of a command on one line: messages are wrapped for the terminal.
pub fn complaint_of(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let words: Vec<&str> = said.split_whitespace().collect();
    words.join(" ").replace("│ ", "")
}

/// Sends a signal by name. The standard library only supports SIGKILL, but every Unix has `kill`.
///
/// # Panics
/// There is no command `kill`.
pub fn signal(process: u32, name: &str) {
    let status = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(process.to_string())
        .stderr(Stdio::null())
        .status();
    status.expect("the command kill");
}

/// Returns the first file in this folder, at any depth, that contains these bytes.
pub fn find_bytes(folder: &Path, needle: &[u8]) -> Option<PathBuf> {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = find_bytes(&path, needle) {
                return Some(found);
            }
        } else if std::fs::read(&path)
            .is_ok_and(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
        {
            return Some(path);
        }
    }
    None
}
