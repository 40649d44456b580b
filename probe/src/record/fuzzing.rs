//! Entry point for the fuzz target of the journal. Not part of the public interface.

use mailqos_base::fuzzing::in_file;

use super::journal::{self, Entry};

/// Reads a segment of the journal. Its intact entries must be returned in order, and must be
/// writable again.
pub fn journal(bytes: &[u8]) {
    in_file("00000000000000000000-000000.journal", bytes, |path| {
        let Some(contents) = journal::read(path).expect("a file that can be read") else {
            return;
        };
        let positions = contents.entries.iter().map(|(position, _)| *position);
        assert!(positions.clone().is_sorted_by(|a, b| a < b));
        assert!(positions.max().is_none_or(|last| last < contents.end));
        for (_, entry) in &contents.entries {
            let again = entry.encode().expect("no larger than it was");
            let again: Entry =
                serde_json::from_slice(&again).expect("what was written can be read");
            assert_eq!(&again, entry);
        }
    });
}
