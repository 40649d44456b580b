//! All fuzz targets with their seeds and mutations of them, with any compiler.

use std::collections::BTreeSet;

use mailqos_fuzz::{Mutations, folder, seeds, targets};

/// Mutations of each target in a test run.
const MUTATIONS: usize = 300;

#[test]
fn every_target_holds_over_its_seeds_and_changes_of_them() {
    let mut count = 0;
    for (number, (name, target)) in targets().into_iter().enumerate() {
        let seeds = seeds(name).unwrap_or_else(|error| panic!("the seeds of {name}: {error}"));
        let changed = Mutations::new(&seeds, number as u64).take(MUTATIONS);
        for (round, bytes) in seeds.iter().cloned().chain(changed).enumerate() {
            count += 1;
            if let Err(panic) = std::panic::catch_unwind(|| target(&bytes)) {
                eprintln!("{name}, round {round}: {}", bytes.escape_ascii());
                std::panic::resume_unwind(panic);
            }
        }
    }
    eprintln!("{count} executions");
}

#[test]
fn every_target_has_its_seeds_and_none_is_forgotten() {
    let names: BTreeSet<String> = targets().iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names.len(), targets().len(), "no name twice");
    let entries = std::fs::read_dir(folder()).expect("the seeds");
    let folders: BTreeSet<String> = entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(folders, names);
    for name in names {
        assert!(seeds(&name).expect("seeds").len() > 1, "{name}");
    }
}
