//! A dialogue with a program that asks a person to do something elsewhere, such as signing in.

use std::process::Stdio;

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, Command},
};

use crate::setting::words_of;

/// A running command whose lines on standard error are read as they come.
pub struct Dialogue {
    child: Child,
    lines: tokio::io::Lines<BufReader<tokio::process::ChildStderr>>,
    /// All that was printed so far.
    pub said: String,
}

impl Dialogue {
    /// Starts a command.
    ///
    /// # Panics
    /// It can't be started.
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().expect("a running command");
        let lines = BufReader::new(child.stderr.take().expect("a running command")).lines();
        Self { child, lines, said: String::new() }
    }

    /// Reads lines until one contains this text.
    ///
    /// # Panics
    /// The command ends before.
    pub async fn line_with(&mut self, text: &str) -> String {
        while let Some(line) = self.lines.next_line().await.expect("a running command") {
            self.said.push_str(&line);
            self.said.push('\n');
            if line.contains(text) {
                return line;
            }
        }
        panic!("no {text:?} in\n{}", self.said);
    }

    /// Returns the code that a person is asked to enter.
    ///
    /// # Panics
    /// The command ends before.
    pub async fn code(&mut self) -> String {
        let line = self.line_with("enter the code").await;
        line.split("enter the code ")
            .nth(1)
            .expect("a running command")
            .split(' ')
            .next()
            .expect("a running command")
            .to_owned()
    }

    /// Types a line.
    ///
    /// # Panics
    /// The command has ended.
    pub async fn paste(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().expect("a running command");
        stdin.write_all(format!("{text}\n").as_bytes()).await.expect("a running command");
    }

    /// Waits for the end; returns whether it succeeded, and all that was printed.
    ///
    /// # Panics
    /// The output is not text.
    pub async fn end(mut self) -> (bool, String) {
        while let Some(line) = self.lines.next_line().await.expect("a running command") {
            self.said.push_str(&line);
            self.said.push('\n');
        }
        drop(self.child.stdin.take());
        let output = self.child.wait_with_output().await.expect("a running command");
        let said = format!("{}{}", self.said, words_of(&output));
        (output.status.success(), said)
    }
}
