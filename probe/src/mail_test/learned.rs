//! Knowledge about servers from earlier mails, kept across restarts.
//!
//! The file is only a convenience: no guarantee is based on it. A file that is damaged, of another
//! version, or too large is renamed (`learned.json.unread`), and everything is learned again.

use std::path::{Path, PathBuf};

use mailqos_config::Config;
use mailqos_model::{Micros, UtcMicros};

use super::{
    calibration::Calibration,
    clock::{Anchor, Clocks, StoredClock},
    expectation::Expectations,
    moment::Moment,
};

/// Version of the file format; other versions are ignored.
const VERSION: u32 = 1;
/// Maximum size of the file in bytes, far above what this program writes.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// Minimum time between two writes of the file.
const KEEP_EVERY: Micros = Micros::from_secs(60);
/// Maximum age of quantiles and expectations.
const OLDEST: Micros = Micros::from_secs(30 * 24 * 3600);

/// Everything that was learned from earlier mails.
#[derive(Debug, Default)]
pub(super) struct LearnedState {
    pub(super) clocks: Clocks,
    pub(super) calibration: Calibration,
    pub(super) expectations: Expectations,
    /// Whether the state has changed since the last write, and the time of that write.
    changed: bool,
    kept: Option<Moment>,
}

/// Content of the file.
#[derive(serde::Serialize, serde::Deserialize)]
struct LearnedFile {
    version: u32,
    at: UtcMicros,
    clocks: Vec<StoredClock>,
    calibration: Calibration,
    expectations: Expectations,
}

/// Field that all versions of the file have.
#[derive(serde::Deserialize)]
struct OfVersion {
    version: u32,
}

/// Returns the name to which an unreadable file is moved.
fn aside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".unread");
    PathBuf::from(name)
}

/// Returns the path of the file.
pub(super) fn file_of(config: &Config) -> PathBuf {
    config.state.join(format!("site={}", config.site)).join("learnt.json")
}

impl LearnedState {
    /// Reads the data of an earlier process; an unreadable file is renamed.
    pub(super) fn load(file: &Path) -> Self {
        let unread = match Self::read(file) {
            Ok(learned) => return learned,
            Err(unread) => unread,
        };
        let aside = aside(file);
        match std::fs::rename(file, &aside) {
            Ok(()) => {
                tracing::warn!(file = %aside.display(), reason = %unread, "can't read the calibration of the servers' clocks; the file was renamed, and calibration starts again")
            }
            Err(error) => {
                tracing::warn!(file = %file.display(), reason = %unread, %error, "can't read or rename the calibration file of the servers' clocks; starting calibration again")
            }
        }
        Self::default()
    }

    fn read(file: &Path) -> Result<Self, String> {
        let metadata = match std::fs::metadata(file) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(error.to_string()),
        };
        if !metadata.is_file() || metadata.len() > MAX_BYTES {
            return Err("too large, or not a file".to_owned());
        }
        let bytes = std::fs::read(file).map_err(|error| error.to_string())?;
        // A later version may have a completely different structure.
        let of_version: OfVersion =
            serde_json::from_slice(&bytes).map_err(|error| format!("damaged ({error})"))?;
        if of_version.version != VERSION {
            return Err(format!(
                "of version {}, which this program does not support",
                of_version.version
            ));
        }
        let kept: LearnedFile =
            serde_json::from_slice(&bytes).map_err(|error| format!("damaged ({error})"))?;
        Ok(Self::of(kept, UtcMicros::now()))
    }

    fn of(kept: LearnedFile, now: UtcMicros) -> Self {
        let pause = now - kept.at;
        if pause > OLDEST {
            return Self::default();
        }
        // A file from the future: this machine's own clock was set, so the offsets are invalid.
        let clocks = if pause >= Micros::ZERO {
            Clocks::of_kept(kept.clocks, Anchor::now(), pause)
        } else {
            Clocks::default()
        };
        Self {
            clocks,
            calibration: kept.calibration.limited(),
            expectations: kept.expectations.limited(),
            changed: false,
            kept: None,
        }
    }

    /// Marks the state as changed.
    pub(super) fn change(&mut self) {
        self.changed = true;
    }

    /// Returns the content of the file, if it is time to write it.
    pub(super) fn due(&mut self, at_once: bool) -> Option<Vec<u8>> {
        let now = Moment::now();
        let is_due = at_once || self.kept.is_none_or(|kept| now - kept >= KEEP_EVERY);
        if !self.changed || !is_due {
            return None;
        }
        (self.changed, self.kept) = (false, Some(now));
        let kept = LearnedFile {
            version: VERSION,
            at: UtcMicros::now(),
            clocks: self.clocks.kept(Anchor::now()),
            calibration: self.calibration.clone(),
            expectations: self.expectations.clone(),
        };
        serde_json::to_vec(&kept).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned() -> LearnedState {
        let mut learned = LearnedState::default();
        let monitor = "mail".parse().expect("an id");
        for number in 0..10 {
            let millis = Micros::from_millis(number);
            learned.expectations.note(&monitor, millis, millis + millis);
        }
        learned.change();
        learned
    }

    fn is_empty(learned: &LearnedState) -> bool {
        serde_json::to_string(&learned.expectations).expect("JSON") == r#"{"monitors":{}}"#
    }

    #[test]
    fn the_stored_state_is_read_back_and_written_only_if_changed() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("learnt.json");
        let mut before = learned();
        std::fs::write(&file, before.due(false).expect("due")).expect("written");
        assert!(before.due(true).is_none(), "nothing is new");
        before.change();
        assert!(before.due(false).is_none(), "too soon");
        assert!(before.due(true).is_some());
        let json =
            |learned: &LearnedState| serde_json::to_value(&learned.expectations).expect("JSON");
        assert_eq!(json(&LearnedState::load(&file)), json(&before));
    }

    #[test]
    fn a_file_that_is_damaged_or_of_another_version_is_set_aside() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("learnt.json");
        assert!(is_empty(&LearnedState::load(&file)));
        let whole = String::from_utf8(learned().due(true).expect("due")).expect("text");
        for end in [0, 1, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&file, &whole[..end]).expect("written");
            assert!(is_empty(&LearnedState::load(&file)), "{end} bytes");
            assert!(!file.exists(), "{end} bytes");
            assert_eq!(std::fs::read(aside(&file)).expect("set aside"), whole.as_bytes()[..end]);
        }
        for (what, text) in [
            ("another version", whole.replacen(r#""version":1"#, r#""version":2"#, 1)),
            ("a later version of another form", r#"{"version":3,"servers":[]}"#.to_owned()),
            ("another kind", "[]".to_owned()),
            ("too old", whole.replacen(r#""at":"#, r#""at":-"#, 1)),
            ("binary", "\0\u{1}\u{2}".to_owned()),
        ] {
            assert_ne!(text, whole);
            std::fs::write(&file, text).expect("written");
            assert!(is_empty(&LearnedState::load(&file)), "{what}");
            // Data that is only too old does no harm: it is overwritten.
            assert_eq!(file.exists(), what == "too old", "{what}");
        }
        std::fs::create_dir(&file).expect("a folder");
        assert!(is_empty(&LearnedState::load(&file)), "a folder");
    }

    #[test]
    fn offsets_from_the_future_are_ignored() {
        let mut file: LearnedFile =
            serde_json::from_slice(&learned().due(true).expect("due")).expect("JSON");
        let now = file.at - Micros::from_secs(60);
        file.clocks =
            serde_json::from_str(r#"[{"name":"it","readings":[[1,2,3,true]]}]"#).expect("JSON");
        let learned = LearnedState::of(file, now);
        assert!(!is_empty(&learned) && learned.clocks.kept(Anchor::now()).is_empty());
    }
}
