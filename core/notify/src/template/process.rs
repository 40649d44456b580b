//! Fills in users' templates in a separate process, a second instance of the program with limits on
//! time and memory, so that a growing template takes nothing from the program itself.

use std::{
    io::{self, Read, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{DEADLINE, Escape, MAX_OUTPUT, render};

/// Hidden argument that starts the program as such a process.
pub const ARGUMENT: &str = "fill-template";
/// Memory limit of the process, in bytes.
const MEMORY: u64 = 256 << 20;
/// Interval at which the process is polled.
const LOOK: Duration = Duration::from_millis(5);
/// Size limit of the process's standard error, in bytes.
const MAX_SAID: u64 = 64 << 10;

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Declares that this program handles [`ARGUMENT`]. Each program calls it once when it starts.
pub fn enable() {
    if let Ok(program) = std::env::current_exe() {
        let _ = PROGRAM.set(program);
    }
}

/// A template and the values to fill in.
#[derive(Serialize, Deserialize)]
pub(crate) struct Work {
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) html: bool,
    pub(crate) context: Value,
}

/// Fills in a template; `None` if no such process can be started, as in tests or while the program
/// is being replaced.
pub(crate) fn run(work: &Work) -> Option<Result<String, String>> {
    let child = start(PROGRAM.get()?).ok()?;
    Some(talk(child, work).unwrap_or_else(|error| Err(error.to_string())))
}

fn start(program: &Path) -> io::Result<Child> {
    Command::new(program)
        .arg(ARGUMENT)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

fn talk(mut child: Child, work: &Work) -> io::Result<Result<String, String>> {
    let order = serde_json::to_vec(work)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (text, said, status) = thread::scope(|scope| {
        scope.spawn(move || {
            // If the process ends early, its status or standard error has the reason.
            let _ = stdin.map(|mut stdin| stdin.write_all(&order));
        });
        let said = scope.spawn(|| read(stderr, MAX_SAID));
        let text = scope.spawn(|| read(stdout, MAX_OUTPUT as u64 + MAX_SAID));
        let status = wait(&mut child);
        (text.join().unwrap_or_default(), said.join().unwrap_or_default(), status)
    });
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(match status? {
        Some(status) if status.success() => Ok(text),
        Some(status) if status.code() == Some(1) => Err(text),
        status => Err(why(status, &String::from_utf8_lossy(&said))),
    })
}

fn read(from: Option<impl Read>, limit: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        let _ = from.take(limit).read_to_end(&mut bytes);
    }
    bytes
}

/// Waits for the process to end; `None` if it was killed at the deadline.
fn wait(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if begin.elapsed() > DEADLINE {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(LOOK);
    }
}

/// Explains why a process ended without reporting a reason.
fn why(status: Option<ExitStatus>, said: &str) -> String {
    if said.contains("memory allocation") || said.contains("capacity overflow") {
        format!("it needs more than {} MB of memory", MEMORY >> 20)
    } else if status.is_none_or(ran_out) {
        format!("it did not finish within {} s", DEADLINE.as_secs())
    } else {
        let last = said.lines().last().unwrap_or("it ended without output");
        format!("it could not be rendered: {last}")
    }
}

/// Returns whether the process ran out of processor time: SIGXCPU, then SIGKILL.
fn ran_out(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    matches!(status.signal(), Some(9 | 24))
}

fn limit() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let set = |resource, limit| {
        let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
        // If the system does not support this limit, the time limit remains.
        let _ = setrlimit(resource, limit);
    };
    set(Resource::Cpu, DEADLINE.as_secs());
    set(Resource::Data, MEMORY);
    set(Resource::Core, 0);
}

/// Runs as that process: fills in the template given on standard input.
pub fn main() -> ExitCode {
    limit();
    let filled = || {
        let mut order = Vec::new();
        io::stdin().read_to_end(&mut order).map_err(|error| error.to_string())?;
        let work: Work = serde_json::from_slice(&order).map_err(|error| error.to_string())?;
        let escape = if work.html { Escape::Html } else { Escape::Nothing };
        render(&work.name, &work.text, escape, &work.context)
    };
    let (text, code) = match filled() {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(text) => (text, ExitCode::FAILURE),
    };
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => code,
        Err(_) => ExitCode::from(3),
    }
}
