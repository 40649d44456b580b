//! Secrets: their sources, and a type that can't be printed.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::io::AsyncReadExt as _;
use zeroize::{Zeroize, ZeroizeOnDrop};

#[cfg(unix)]
use super::mounted;
use crate::files;

/// Maximum size of a secret in bytes: an OAuth token has at most a few KiB.
const MAX_SECRET: u64 = 64 * 1024;
/// Deadline for reading a secret's file: an unreachable file server would otherwise block forever.
const FILE_DEADLINE: Duration = Duration::from_secs(10);
/// Deadline for a secret's command.
const COMMAND_DEADLINE: Duration = Duration::from_secs(30);

/// A secret in memory: never printed, wiped when dropped.
#[derive(Clone, PartialEq, Eq, Hash, Zeroize, ZeroizeOnDrop)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text as a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the secret itself. Only code that uses it may call this.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The source of a secret. It is read at each use, so that a changed password needs no restart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SecretSource {
    /// An environment variable.
    Env(String),
    /// A file that only its owner can read, or one that an orchestrator mounted. A byte order mark
    /// before the secret and a line end after it are removed.
    File(PathBuf),
    /// A credential of the service manager: a file of this name in the folder that the manager
    /// provides (systemd's `LoadCredential`).
    Credential(String),
    /// The standard output of a command: program and arguments.
    Command(Vec<String>),
    /// Plaintext in the configuration; only with `allow_plaintext_secrets = true`.
    Literal(Secret),
}

/// Reasons why a secret is not available. They never contain any part of it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The environment variable is not set.
    #[error("the environment variable {0} is not set")]
    NoVariable(String),
    /// The file could not be read.
    #[error("the secret file {path}: {source}", path = path.display())]
    File {
        /// Path of the secret's file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file can be read by others.
    #[error("the secret file {path} can be read or written by others (mode {mode:o}{owner}); {remedy}", path = path.display())]
    Exposed {
        /// Path of the secret's file.
        path: PathBuf,
        /// The file's permission bits.
        mode: u32,
        /// The file's owner, if it is not this user.
        owner: String,
        /// The remedy.
        remedy: String,
    },
    /// The command could not be started, failed or took too long.
    #[error("the secret command {program:?} {reason}")]
    Command {
        /// Program without its arguments.
        program: String,
        /// Description of the failure.
        reason: String,
    },
    /// The source was empty, not text, or too large.
    #[error("the secret from {0} is empty, not UTF-8 text, or larger than 64 KiB")]
    Unusable(String),
}

impl SecretSource {
    /// Obtains the secret.
    ///
    /// # Errors
    /// [`SecretError`] describes the problem without revealing any content.
    pub async fn fetch(&self) -> Result<Secret, SecretError> {
        let (bytes, from) = match self {
            Self::Literal(secret) => return Ok(secret.clone()),
            Self::Env(name) => (
                std::env::var_os(name)
                    .ok_or_else(|| SecretError::NoVariable(name.clone()))?
                    .into_encoded_bytes(),
                format!("the environment variable {name}"),
            ),
            Self::File(path) => {
                (read_in_time(path, true).await?, format!("the file {}", path.display()))
            }
            Self::Credential(name) => {
                (read_in_time(&credential(name)?, false).await?, format!("the credential {name}"))
            }
            Self::Command(words) => {
                let program = words.first().cloned().unwrap_or_default();
                let bytes = run(words)
                    .await
                    .map_err(|reason| SecretError::Command { program: program.clone(), reason })?;
                (bytes, format!("the command {program:?}"))
            }
        };
        let mut text = match files::text(bytes) {
            Ok(text) => text,
            Err(mut bytes) => {
                bytes.zeroize();
                return Err(SecretError::Unusable(from));
            }
        };
        let end = text.trim_end_matches(['\r', '\n']).len();
        text.truncate(end);
        if text.is_empty() || text.len() as u64 > MAX_SECRET {
            text.zeroize();
            return Err(SecretError::Unusable(from));
        }
        Ok(Secret(text))
    }
}

/// Returns the path of a service manager's credential. The manager restricts access to the folder,
/// so the files may be group-readable.
fn credential(name: &str) -> Result<PathBuf, SecretError> {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| {
        SecretError::NoVariable(
            "CREDENTIALS_DIRECTORY (of systemd, with LoadCredential)".to_owned(),
        )
    })?;
    Ok(Path::new(&folder).join(name))
}

/// Reads a file on a separate thread, so that network tasks are not blocked, and gives up on a file
/// system that does not respond.
async fn read_in_time(path: &Path, guarded: bool) -> Result<Vec<u8>, SecretError> {
    let owned = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || read_file(&owned, guarded));
    match tokio::time::timeout(FILE_DEADLINE, reading).await {
        Ok(Ok(read)) => read,
        Ok(Err(error)) => {
            Err(SecretError::File { path: path.to_owned(), source: std::io::Error::other(error) })
        }
        Err(_) => Err(SecretError::File {
            path: path.to_owned(),
            source: std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                format!("it could not be read within {FILE_DEADLINE:?}"),
            ),
        }),
    }
}

fn read_file(path: &Path, guarded: bool) -> Result<Vec<u8>, SecretError> {
    let error = |source| SecretError::File { path: path.to_owned(), source };
    let opened = files::open(path);
    #[cfg(unix)]
    let opened = opened.map_err(mounted::explain_denial);
    let mut file = opened.map_err(error)?;
    #[cfg(unix)]
    if guarded {
        mounted::check(path, &file.metadata().map_err(error)?)?;
    }
    files::read_open(&mut file, MAX_SECRET + 2).map_err(error)
}

async fn run(words: &[String]) -> Result<Vec<u8>, String> {
    let (program, arguments) = words.split_first().ok_or("is empty")?;
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("can't be started: {error}"))?;
    let stdout = child.stdout.take().ok_or("has no output")?;
    let work = async {
        let mut bytes = Vec::new();
        stdout
            .take(MAX_SECRET + 2)
            .read_to_end(&mut bytes)
            .await
            .map_err(|error| format!("produced output that can't be read: {error}"))?;
        let status = child.wait().await.map_err(|error| format!("failed: {error}"))?;
        if status.success() {
            Ok(bytes)
        } else {
            bytes.zeroize();
            Err(format!("exited with {status}"))
        }
    };
    tokio::time::timeout(COMMAND_DEADLINE, work)
        .await
        .unwrap_or_else(|_| Err(format!("did not end within {COMMAND_DEADLINE:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_cannot_be_printed() {
        let source = SecretSource::Literal(Secret::new("hunter2"));
        assert!(!format!("{source:?} {source:#?}").contains("hunter2"));
    }

    #[tokio::test]
    async fn a_commands_output_is_used_without_the_line_end() {
        let source = SecretSource::Command(vec!["echo".into(), "a b".into()]);
        assert_eq!(source.fetch().await.expect("echo").expose(), "a b");
        let source = SecretSource::Command(vec!["false".into()]);
        assert!(source.fetch().await.is_err());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("secret");
        std::fs::write(&path, "pass word\n").expect("write");
        let source = SecretSource::File(path.clone());
        for (mode, fine) in [(0o644, false), (0o640, false), (0o600, true), (0o400, true)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("chmod");
            assert_eq!(source.fetch().await.is_ok(), fine, "{mode:o}");
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn mounted_secrets_are_accepted_unless_others_can_write_them() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        // As kubelet writes a volume: `..data` links to a separate folder, and each name links
        // through it.
        let folder = tempfile::tempdir().expect("folder");
        let version = folder.path().join("..2026_11_30_16_20_05.1234567");
        std::fs::create_dir(&version).expect("a folder");
        symlink(version.file_name().expect("a name"), folder.path().join("..data"))
            .expect("a link");
        symlink("..data/password", folder.path().join("password")).expect("a link");
        let file = version.join("password");
        std::fs::write(&file, "pass word\n").expect("write");
        let source = SecretSource::File(folder.path().join("password"));
        for (mode, fine) in [
            (0o444, true),
            (0o440, true),
            (0o644, true),
            (0o640, true),
            (0o666, false),
            (0o460, false),
        ] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("chmod");
            let fetched = source.fetch().await;
            assert_eq!(fetched.is_ok(), fine, "{mode:o}: {fetched:?}");
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_byte_order_mark_is_not_part_of_a_secret_and_an_empty_pipe_ends() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("secret");
        // As PowerShell and Notepad save text files.
        let wide: Vec<u8> =
            "\u{feff}pass word\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for bytes in ["\u{feff}pass word\r\n".as_bytes(), &wide] {
            std::fs::write(&path, bytes).expect("write");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
            assert_eq!(
                SecretSource::File(path.clone()).fetch().await.expect("a secret").expose(),
                "pass word"
            );
        }
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo")
            .args(["-m", "600"])
            .arg(&pipe)
            .status()
            .expect("mkfifo");
        assert!(made.success());
        let refused =
            SecretSource::File(pipe).fetch().await.expect_err("nobody writes").to_string();
        assert!(refused.contains("named pipe"), "{refused}");
    }
}
