//! Renders custom partials and layouts in a separate process, which is stopped with an error if it
//! loops, allocates or recurses without end.
//!
//! The process runs this program. It reads the input of the page from its standard input, limits
//! itself, and writes the page or the error to its standard output. In programs without the hidden
//! command, such as tests, pages are rendered directly.

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

/// Hidden argument that starts such a process.
pub const ARGUMENT: &str = "make-page";
/// Maximum processor time per page; a page on a hundred monitors takes seconds.
const PROCESSOR: Duration = Duration::from_secs(60);
/// Maximum wall-clock time per page, even on a busy machine.
const WALL: Duration = Duration::from_secs(600);
/// Maximum memory per page, in bytes.
const MEMORY: u64 = 2 << 30;
/// Maximum length of messages in addition to the page, in bytes.
const MAX_SAID: u64 = 1 << 20;
/// Interval at which the process is checked.
const LOOK: Duration = Duration::from_millis(5);

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Declares that this program has the hidden command; called once at its start.
pub fn enable() {
    if let Ok(program) = std::env::current_exe() {
        let _ = PROGRAM.set(program);
    }
}

pub(super) fn can_guard() -> bool {
    PROGRAM.get().is_some()
}

/// Renders a page in a process with limits; `from` names the partials and the layout in errors.
pub(super) fn run(work: &impl Serialize, from: &str) -> Result<Vec<u8>, MediaError> {
    let failed = |error: std::io::Error| {
        MediaError::Stopped(format!("can't render the page in a separate process: {error}"))
    };
    let program = PROGRAM.get().ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
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
            // A process that ends early reports the reason differently.
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

/// Waits for the end of the process; `None` if it was killed after the maximum wait.
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

/// Returns the reason why a process ended without reporting one.
fn why(from: &str, status: Option<ExitStatus>, said: &str) -> String {
    let what = if said.contains("overflowed its stack") {
        "it includes itself endlessly".to_owned()
    } else if said.contains("memory allocation") || said.contains("capacity overflow") {
        format!("it needs more than {} MB of memory", MEMORY >> 20)
    } else if status.is_none_or(ran_out) {
        format!("it takes more than {} seconds", PROCESSOR.as_secs())
    } else {
        let last = said.lines().last().unwrap_or("it ended without an error message");
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
        let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
        // On systems without this limit, the wall-clock limit remains.
        if let Err(error) = setrlimit(resource, limit) {
            tracing::debug!("can't set a resource limit: {error}");
        }
    };
    set(Resource::Cpu, PROCESSOR.as_secs());
    set(Resource::Data, MEMORY);
    set(Resource::Core, 0);
}

#[cfg(not(unix))]
fn limit() {}

/// Runs as that process: `make` renders the page described on standard input.
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
