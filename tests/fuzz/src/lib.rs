//! Fuzzing: the targets of all crates, their seeds, and mutations of these. The program
//! `mailqos-fuzz` passes the targets to libFuzzer; `tests/seeds.rs` runs them with the seeds and
//! some hundred mutations like any other test.

mod mutation;
mod shared;

use std::path::{Path, PathBuf};

pub use mutation::Mutations;

/// A function that is fuzzed with input from outside; it panics if a guarantee is broken.
pub type Target = fn(&[u8]);

/// Returns each target's name, which is also that of its folder of seeds, and its function.
pub fn targets() -> Vec<(&'static str, Target)> {
    let mut targets: Vec<(&str, Target)> = Vec::new();
    targets.extend(shared::TARGETS);
    targets.extend(mailqos_probe::mail_test::fuzzing::TARGETS);
    targets.push(("journal", mailqos_probe::record::fuzzing::journal));
    targets.push(("webhook_template", mailqos_probe::alarm::fuzzing::webhook_template));
    targets.extend(mailqos_analytics::fuzzing::TARGETS);
    targets
}

/// Returns the folder of all seeds.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds")
}

/// Returns the seeds of a target, ordered by name.
///
/// # Errors
/// The folder can't be read.
pub fn seeds(target: &str) -> std::io::Result<Vec<Vec<u8>>> {
    let entries = std::fs::read_dir(folder().join(target))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    paths.iter().map(std::fs::read).collect()
}
