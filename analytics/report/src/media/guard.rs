//! What is a user's own in a page, partials and layouts, runs in a process of its own: one that loops without end, grows
//! without end or calls itself without end is stopped there, with an error, and nothing else is.
//!
//! The process is this program again. It reads from its standard input what the page is made of, limits itself, and gives the page,
//! or what is wrong, on its standard output. In a program that has no such command, such as a test, pages are made on the spot.

use std::{
    io::{Read, Write as _},
    path::PathBuf,
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::MediaError;

/// The hidden argument that makes the program such a process.
pub const ARGUMENT: &str = "make-page";
/// Processor time that a page may take. That of a hundred monitors takes seconds.
const PROCESSOR: Duration = Duration::from_secs(60);
/// However busy the machine is, it is not waited longer.
const WALL: Duration = Duration::from_secs(600);
/// Memory that a page may take.
const MEMORY: u64 = 2 << 30;
/// Nothing that is said beside the page is longer.
const MAX_SAID: u64 = 1 << 20;
/// How often the process is looked at.
const LOOK: Duration = Duration::from_millis(5);

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Says that this program has the command; called once, at its start.
pub fn enable() {
    if let Ok(program) = std::env::current_exe() {
        let _ = PROGRAM.set(program);
    }
}

pub(super) fn can_guard() -> bool {
    PROGRAM.get().is_some()
}

/// Has a page made by a process with limits; `from` names the partials and the layout in errors.
pub(super) fn run(work: &impl Serialize, from: &str) -> Result<Vec<u8>, MediaError> {
    let failed = |error: std::io::Error| MediaError::Stopped(format!("the page can't be made apart: {error}"));
    let program = PROGRAM
        .get()
        .ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
    let order = serde_json::to_vec(work).map_err(|error| MediaError::Data(error.to_string()))?;
    let mut child = Command::new(program)
        .arg(ARGUMENT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (page, said, status) = thread::scope(|scope| {
        scope.spawn(move || {
            // A process that ends early says why in another way.
            let _ = stdin.map(|mut stdin| stdin.write_all(&order));
        });
        let said = scope.spawn(|| read(stderr, MAX_SAID));
        let page = scope.spawn(|| read(stdout, super::MAX_PAGE as u64 * 2));
        let status = wait(&mut child);
        (page.join().unwrap_or_default(), said.join().unwrap_or_default(), status)
    });
    let said = String::from_utf8_lossy(&said);
    match status {
        Ok(Some(status)) if status.success() => {
            eprint!("{said}");
            Ok(page)
        }
        Ok(Some(status)) if status.code() == Some(1) => {
            eprint!("{said}");
            Err(MediaError::Stopped(String::from_utf8_lossy(&page).into_owned()))
        }
        Ok(status) => Err(MediaError::Stopped(why(from, status, &said))),
        Err(error) => Err(failed(error)),
    }
}

fn read(from: Option<impl Read>, limit: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        let _ = from.take(limit).read_to_end(&mut bytes);
    }
    bytes
}

/// Waits for its end; `None` if it was ended after the longest wait.
fn wait(child: &mut Child) -> std::io::Result<Option<ExitStatus>> {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if begin.elapsed() > WALL {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(LOOK);
    }
}

/// Why a process ended that did not say so itself.
fn why(from: &str, status: Option<ExitStatus>, said: &str) -> String {
    let what = if said.contains("overflowed its stack") {
        "it calls itself without end".to_owned()
    } else if said.contains("memory allocation") || said.contains("capacity overflow") {
        format!("it needs more than {} MB of memory", MEMORY >> 20)
    } else if status.is_none_or(ran_out) {
        format!("it takes more than {} seconds", PROCESSOR.as_secs())
    } else {
        let last = said.lines().last().unwrap_or("it ended without a word");
        return format!("the partials or the layout of {from} fail: {last}");
    };
    format!("a partial or layout of {from} was stopped: {what}; is there an endless loop in it?")
}

#[cfg(unix)]
fn ran_out(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    // Out of processor time: SIGXCPU, then SIGKILL.
    matches!(status.signal(), Some(9 | 24))
}

#[cfg(not(unix))]
fn ran_out(_: ExitStatus) -> bool {
    false
}

#[cfg(unix)]
fn limit() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let set = |resource, limit| {
        let limit = Rlimit {
            current: Some(limit),
            maximum: Some(limit),
        };
        // A system that knows no such limit leaves that of time.
        if let Err(error) = setrlimit(resource, limit) {
            tracing::debug!("no limit: {error}");
        }
    };
    set(Resource::Cpu, PROCESSOR.as_secs());
    set(Resource::Data, MEMORY);
    set(Resource::Core, 0);
}

#[cfg(not(unix))]
fn limit() {}

/// Is that process: has `make` make the page that standard input asks for.
pub(super) fn serve(make: fn(&[u8]) -> Result<Vec<u8>, String>) -> ExitCode {
    limit();
    let mut order = Vec::new();
    let read = std::io::stdin().read_to_end(&mut order);
    let made = read.map_err(|error| error.to_string()).and_then(|_| make(&order));
    let (bytes, code) = match made {
        Ok(page) => (page, ExitCode::SUCCESS),
        Err(text) => (text.into_bytes(), ExitCode::FAILURE),
    };
    let mut out = std::io::stdout().lock();
    match out.write_all(&bytes).and_then(|()| out.flush()) {
        Ok(()) => code,
        Err(_) => ExitCode::from(3),
    }
}
