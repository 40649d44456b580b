//! Commands: programs that receive notifications in their environment and as JSON on standard
//! input.

use std::{process::Stdio, time::Duration};

use mailqos_base::{SecretSource, one_line};
use mailqos_config::{glob, sounds_secret};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use crate::Notification;

/// Size of the output that is kept for the record, in bytes.
const MAX_OUTPUT: usize = 4 * 1024;
/// How long to read on after the program has ended. This covers what is already in the pipe; its
/// children may write for hours.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Variables of the probe's environment that are passed on; the rest may hold secrets.
const INHERITED: [&str; 8] = ["PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_*", "TZ", "TMPDIR"];

/// Kills the program and its process group when dropped.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Runs the program to its end; exit status 0 means success. Dropping the future kills the process
/// group.
pub(crate) async fn run(
    words: &[String],
    environment: &[(String, SecretSource)],
    notification: &Notification,
) -> Result<String, String> {
    let (program, arguments) = words.split_first().ok_or("the command is empty")?;
    let mut command = tokio::process::Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| {
            let name = name.to_string_lossy();
            INHERITED.iter().any(|pattern| glob(pattern, &name))
        }))
        .envs(notification.environment())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut secrets = Vec::new();
    for (name, value) in environment {
        let fetched = value.fetch().await.map_err(|error| error.to_string())?;
        command.env(name, fetched.expose());
        if sounds_secret(name) || !matches!(value, SecretSource::Literal(_)) {
            secrets.push(fetched);
        }
    }
    let mut child =
        command.spawn().map_err(|error| format!("{program} can't be started: {error}"))?;
    let mut group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let content = notification.context.to_string();
    let talk = async {
        if let Some(mut stdin) = stdin {
            // A program may ignore its input.
            let _ = stdin.write_all(content.as_bytes()).await;
        }
    };
    let mut said = Vec::new();
    let mut complained = Vec::new();
    let status = {
        let listen = async {
            tokio::join!(collect(stdout, &mut said), collect(stderr, &mut complained), talk);
        };
        tokio::pin!(listen);
        let mut heard = false;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status,
                () = &mut listen, if !heard => heard = true,
            }
        };
        if !heard {
            let _ = tokio::time::timeout(LAST_WORDS, listen).await;
        }
        status
    };
    // The program has ended; background processes that it started may keep running.
    group.0 = None;
    let status = status.map_err(|error| format!("{program}: {error}"))?;
    let words = if complained.is_empty() { said } else { complained };
    let words = one_line(&String::from_utf8_lossy(&words), &secrets);
    let words = if words.is_empty() { words } else { format!(": {words}") };
    if status.success() {
        Ok(format!("{program} succeeded{words}"))
    } else {
        Err(format!("{program} exited with {status}{words}"))
    }
}

/// Reads to the end and keeps the beginning.
async fn collect(stream: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut stream) = stream else { return };
    let mut space = [0; 4096];
    while let Ok(count) = stream.read(&mut space).await {
        if count == 0 {
            break;
        }
        let room = MAX_OUTPUT - kept.len();
        kept.extend_from_slice(&space[..count.min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mailqos_base::Secret;

    fn words(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    fn notification() -> Notification {
        crate::testing::alarm("connection refused")
    }

    #[tokio::test]
    async fn a_program_gets_the_notification_in_environment_and_input() {
        let script = "test \"$MAILQOS_KIND\" = alarm && test \"$OWN\" = mine && grep -q '\"subject\"' && echo \"$MAILQOS_MONITORS\"";
        let own = [("OWN".to_owned(), SecretSource::Literal(Secret::new("mine")))];
        let said = run(&words(script), &own, &notification()).await.expect("it ends well");
        assert_eq!(said, "sh succeeded: m1");
    }

    #[tokio::test]
    async fn a_failure_quotes_the_program_without_secrets() {
        let own = [
            ("OWN".to_owned(), SecretSource::Command(vec!["echo".into(), "hunter2".into()])),
            ("TOKEN".to_owned(), SecretSource::Literal(Secret::new("hunter2, in clear"))),
        ];
        let error = run(&words("echo no siren: $OWN $TOKEN >&2; exit 3"), &own, &notification())
            .await
            .expect_err("exit code 3");
        assert!(
            error.contains("no siren") && error.contains('3') && !error.contains("hunter2"),
            "{error}"
        );
        run(&["/nonexistent/siren".to_owned()], &[], &notification())
            .await
            .expect_err("no such program");
    }

    #[tokio::test]
    async fn an_endless_program_is_killed_with_its_children() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("child");
        let script = format!("sleep 1000 & echo $! > {}; yes", file.display());
        let soon = Duration::from_secs(1);
        tokio::time::timeout(soon, run(&words(&script), &[], &notification()))
            .await
            .expect_err("it does not end");
        let child = std::fs::read_to_string(&file).expect("the child's number");
        let proc = std::path::PathBuf::from(format!("/proc/{}/stat", child.trim()));
        // Gone, or a zombie that its parent has not reaped yet.
        let gone = || std::fs::read_to_string(&proc).map_or(true, |stat| stat.contains(") Z "));
        for _ in 0..200 {
            if gone() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the child of the program still runs");
    }
}
