//! `init` with its prompts, in a pseudo-terminal: what a person types is written, secrets are not
//! shown.

#![cfg(unix)]
#![allow(clippy::expect_used, missing_docs)]

use std::{process::Stdio, time::Duration};

use mailqos_tests::{
    binaries::binary,
    servers::{GraphOptions, GraphServer, MailServer, Options, PASSWORD, PROBE},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
    time::timeout,
};

/// Another mailbox of the tenant.
const OTHER: &str = "ceo@example.com";
/// Longest wait for a prompt.
const PATIENCE: Duration = Duration::from_secs(120);

/// A program in a pseudo-terminal, which `script` (util-linux) provides.
struct Terminal {
    child: Child,
    shown: String,
    /// What was shown before the last prompt.
    seen: usize,
}

impl Terminal {
    fn start(folder: &std::path::Path, line: &str) -> Self {
        let line = format!("stty cols 160 rows 50; exec {line}");
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        command.current_dir(folder).env("TERM", "xterm").env_remove("RUST_LOG");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        Self { child: command.spawn().expect("script"), shown: String::new(), seen: 0 }
    }

    /// Reads until a prompt is shown, and types an answer.
    async fn answer(&mut self, prompt: &str, typed: &str) {
        let reading = async {
            while !self.shown[self.seen..].contains(prompt) {
                assert!(self.read().await > 0, "no {prompt:?} in\n{}", self.shown);
            }
        };
        timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("no {prompt:?}"));
        self.seen = self.shown.len();
        let stdin = self.child.stdin.as_mut().expect("a terminal");
        stdin.write_all(typed.as_bytes()).await.expect("typed");
    }

    async fn read(&mut self) -> usize {
        let mut buffer = [0; 4096];
        let stdout = self.child.stdout.as_mut().expect("a terminal");
        let count = stdout.read(&mut buffer).await.unwrap_or(0);
        self.shown.push_str(&String::from_utf8_lossy(&buffer[..count]));
        count
    }

    /// Reads to the end; returns whether the program succeeded, and all that was shown.
    async fn end(mut self) -> (bool, String) {
        while timeout(PATIENCE, self.read()).await.expect("an end") > 0 {}
        let status = self.child.wait().await.expect("an end");
        (status.success(), self.shown)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_for_microsoft_graph_is_set_up_by_prompts() {
    let users = [PROBE, OTHER].map(|user| (user.to_owned(), PASSWORD.to_owned())).to_vec();
    let mail = MailServer::start(Options { users, ..Options::default() }).await.expect("servers");
    let options = GraphOptions::default();
    let graph = GraphServer::start(&mail, options.clone()).await.expect("a Graph");
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("ca.pem"), mail.authority().pem()).expect("written");
    let line = format!(
        "{} init {PROBE} --site here --preset microsoft-365 --ca-file ca.pem --pickup-server localhost \
         --pickup-port {} --token-url {} --client-id {} --max-round-trip 60s --check-interval 200ms \
         --notify none",
        binary("mailqos-probe").display(),
        graph.port(),
        graph.token_url(),
        options.client_id
    );
    let mut terminal = Terminal::start(folder.path(), &line);
    terminal.answer("Access to the mailbox", "\r").await;
    terminal.answer("Name of the server", "\r").await;
    terminal.answer("User name of the mailbox", "\r").await;
    // The second choice: the application.
    terminal.answer("Login of the probe", "\u{1b}[B\r").await;
    terminal.answer("Client secret", &format!("{}\r", options.client_secret)).await;
    terminal.answer("which the application must not reach", &format!("{OTHER}\r")).await;
    terminal.answer("Test interval", "\r").await;
    let (done, shown) = terminal.end().await;
    assert!(done, "{shown}");
    for part in ["New-ManagementScope", "✓ the application can't read ceo@", "✓ ok: round trip"]
    {
        assert!(shown.contains(part), "no {part} in\n{shown}");
    }
    assert!(!shown.contains(&options.client_secret), "the secret was shown");
    let config = std::fs::read_to_string(folder.path().join("mailqos.toml")).expect("written");
    assert!(config.contains("smtp = { protocol = \"graph\""), "{config}");
    assert!(config.contains("client_secret = { file = \"secrets/"), "{config}");
    assert!(!config.contains(&options.client_secret), "{config}");
}
