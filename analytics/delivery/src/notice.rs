//! Tells people something by an action list. The ways of telling are the probe's: its program is called, whether a probe runs or not.

use std::{path::PathBuf, process::Stdio, time::Duration};

use mailqos_base::one_line;
use mailqos_config::Config;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
};

/// How long the ways of an action list may take together.
const PATIENCE: Duration = Duration::from_secs(300);
/// The program that carries out action lists.
const PROGRAM: &str = "mailqos-probe";

/// The probe's program, which knows all ways of telling: the one beside this program, or the one in the path.
fn program() -> PathBuf {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|own| own.parent().map(|folder| folder.join(PROGRAM)))
        .filter(|path| path.is_file());
    beside.unwrap_or_else(|| PathBuf::from(PROGRAM))
}

/// Whether there is a program that tells people.
pub fn is_possible() -> bool {
    let program = program();
    let paths = std::env::var_os("PATH").unwrap_or_default();
    program.is_absolute() || std::env::split_paths(&paths).any(|folder| folder.join(&program).is_file())
}

/// Tells people by an action list; `id` is the same for what is told again.
///
/// # Errors
/// No way has accepted it.
pub async fn tell(config: &Config, list: &str, id: &str, subject: &str, text: &str) -> Result<(), String> {
    let notice = serde_json::json!({ "id": id, "subject": subject, "text": text }).to_string();
    let program = program();
    let mut child = Command::new(&program)
        .arg("--config")
        .arg(&config.file)
        .args(["actions", "tell", list])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            let remedy = if error.kind() == std::io::ErrorKind::NotFound {
                "; install mailqos-probe beside mailqos-analytics or in the path"
            } else {
                ""
            };
            format!("{}: {error}{remedy}", program.display())
        })?;
    let work = async {
        if let Some(mut input) = child.stdin.take() {
            input.write_all(notice.as_bytes()).await?;
        }
        let mut said = Vec::new();
        if let Some(errors) = child.stderr.take() {
            errors.take(16 << 10).read_to_end(&mut said).await?;
        }
        let status = child.wait().await?;
        Ok::<_, std::io::Error>((status, said))
    };
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(Ok((status, _))) if status.success() => Ok(()),
        Ok(Ok((_, said))) => Err(one_line(&String::from_utf8_lossy(&said), &[])),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("did not end within {} s", PATIENCE.as_secs())),
    }
}
