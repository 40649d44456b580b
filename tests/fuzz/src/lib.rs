//! Fuzzing: the targets of all crates, their seeds, and changed ones made of these. The program
//! `mailqos-fuzz` hands the targets to libFuzzer; `tests/seeds.rs` runs them over the seeds and
//! some hundred changes of them like any other test.

mod mutation;
mod shared;

use std::path::{Path, PathBuf};

pub use mutation::Mutations;

/// What is tried with bytes from outside; panics where a promise is broken.
pub type Target = fn(&[u8]);

/// Each target's name, which is also that of its folder of seeds, and its entry.
pub fn targets() -> Vec<(&'static str, Target)> {
    let mut targets: Vec<(&str, Target)> = Vec::new();
    targets.extend(shared::TARGETS);
    targets.extend(mailqos_probe::mail_test::fuzzing::TARGETS);
    targets.push(("journal", mailqos_probe::record::fuzzing::journal));
    targets.push(("webhook_template", mailqos_probe::alarm::fuzzing::webhook_template));
    targets.extend(mailqos_analytics::fuzzing::TARGETS);
    targets
}

/// The folder of all seeds.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds")
}

/// The seeds of a target, by the order of their names.
///
/// # Errors
/// The folder can't be read.
pub fn seeds(target: &str) -> std::io::Result<Vec<Vec<u8>>> {
    let entries = std::fs::read_dir(folder().join(target))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    paths.iter().map(std::fs::read).collect()
}
