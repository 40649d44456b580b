//! The binary `mailqos-analytics`.

use std::process::ExitCode;

/// Columns are decoded and let go a thousand times: this allocator keeps their pages, the system's gives them back each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    #[cfg(unix)]
    keep_pages();
    mailqos_analytics::commands::main()
}

/// Begins anew with an allocator that keeps free pages for good rather than for a second, after which they are cleared again for
/// the next column or drawing: a tenth of the time of `stats` by day and of a large report. It takes that from the environment
/// only, and before `main`. What runs for months gives back.
#[cfg(unix)]
fn keep_pages() {
    use std::{env, os::unix::process::CommandExt as _, process::Command};

    const DELAY: &str = "MIMALLOC_PURGE_DELAY";
    /// Whether it takes pages of 2 MB. Typesetting keeps millions of small things: a report takes an eighth more memory with
    /// them, and is not made sooner.
    const LARGE: &str = "MIMALLOC_ALLOW_THP";
    let runs_on = |argument: &std::ffi::OsString| argument == "schedule" || argument == "--preview";
    if env::var_os(DELAY).is_some() || env::args_os().any(|argument| runs_on(&argument)) {
        return;
    }
    if let Ok(program) = env::current_exe() {
        let mut anew = Command::new(program);
        if let Some(name) = env::args_os().next() {
            anew.arg0(name);
        }
        if env::var_os(LARGE).is_none() && env::args_os().any(|argument| argument == "report") {
            anew.env(LARGE, "0");
        }
        // It comes back only where that is not possible; then it goes on as it is.
        let _ = anew.args(env::args_os().skip(1)).env(DELAY, "-1").exec();
    }
}
