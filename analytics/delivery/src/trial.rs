//! Tests a target: performs a delivery step by step and finds out what the target supports.

use std::path::Path;

use mailqos_base::hex;
use mailqos_config::{Existing, FilesTarget, TemporaryName};
use mailqos_model::UtcMicros;

use super::{
    DeliveryError, Retry,
    file_store::{self, Extent, File, FileStore, Proof},
};

/// Result of a target test.
#[derive(Debug, Clone)]
pub struct Trial {
    /// Whether deliveries arrive as the target is configured.
    pub works: bool,
    /// The result in one line.
    pub summary: String,
    /// Features of the target, in the order of the tests.
    pub findings: Vec<Finding>,
}

/// A feature that a target supports or does not support.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Name of the feature.
    pub what: &'static str,
    /// Whether it is supported.
    pub supported: bool,
    /// Details; may be empty.
    pub words: String,
}

/// Temporary name patterns to try if the target refuses the configured one; `None` stands for no
/// temporary name.
const PATTERNS: [Option<&str>; 3] =
    [Some("{{ name }}.{{ hash }}.part"), Some("{{ name }}.{{ hash }}.tmp"), None];

/// The findings collected so far.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, what: &'static str, supported: bool, words: impl Into<String>) {
        self.0.push(Finding { what, supported, words: words.into() });
    }
}

/// Local files for the test.
struct Samples {
    folder: tempfile::TempDir,
    stamp: i64,
}

impl Samples {
    fn new() -> std::io::Result<Self> {
        Ok(Self { folder: tempfile::tempdir()?, stamp: UtcMicros::now().0 })
    }

    /// Creates a local file.
    fn file(&self, name: &str, text: &str) -> std::io::Result<File> {
        let path = self.folder.path().join(format!("{}.txt", text.len()));
        std::fs::write(&path, text)?;
        Ok(File { name: name.to_owned(), path })
    }

    fn long_name(&self) -> String {
        format!(
            "mailqos-test-{} Verfügbarkeit – Łódź, Αθήνα, 東京 {}.txt",
            self.stamp,
            "und so weiter ".repeat(3).trim_end()
        )
    }

    fn short_name(&self) -> String {
        format!("mailqos-test-{}.txt", self.stamp)
    }
}

const FIRST: &str = "mailqos tested this target. You can delete this file.\n";
const SECOND: &str = "mailqos tested this target and replaced a file. You can delete this file.\n";

/// Performs a delivery to a file store and reports what it supports.
pub(super) async fn of_shelf<S: FileStore>(
    file_store: &mut S,
    target: &FilesTarget,
) -> Result<Trial, DeliveryError> {
    let failed = |source| DeliveryError::Io { what: "a temporary file".into(), source };
    let samples = Samples::new().map_err(failed)?;
    let mut findings = Findings::default();
    let below = folders(file_store, &samples, &mut findings).await?;
    let first = samples.file(&samples.long_name(), FIRST).map_err(failed)?;
    let second = samples.file(&samples.long_name(), SECOND).map_err(failed)?;
    let proof = match file_store::put_one(file_store, &first, target).await {
        Ok(proof) => proof,
        Err(error) if error.again() == Retry::Soon => return Err(error),
        Err(error) => {
            // In a drop box, test files can't be removed, so only patterns that can help are tried.
            let patterns: &[Option<&str>] = match error {
                DeliveryError::Unnamed { .. } => &[None],
                _ => &PATTERNS,
            };
            let remedy = diagnose(file_store, target, &samples, patterns, &mut findings).await;
            let left = if leave(file_store, &below, target, &samples).await {
                String::new()
            } else {
                format!(" (files named mailqos-test-{} remain there)", samples.stamp)
            };
            let remedy = remedy.map_or(String::new(), |remedy| format!(": {remedy}"));
            return Ok(Trial {
                works: false,
                summary: format!("{error}{remedy}{left}"),
                findings: findings.0,
            });
        }
    };
    findings.add(
        "long non-ASCII names",
        file_store.remark().is_none(),
        file_store.remark().unwrap_or_default(),
    );
    match target.temporary.as_ref().filter(|_| !S::AT_ONCE) {
        Some(temporary) => {
            findings.add(
                "temporary name",
                true,
                format!("such as {}", temporary.of("report.pdf", "0123abcd")),
            );
            findings.add("rename", true, "");
        }
        None => findings.add(
            "temporary name",
            false,
            "files are written directly under their final name",
        ),
    }
    let mut proof = look(file_store, &first, proof, &mut findings).await?;
    if target.existing == Existing::Replace {
        match file_store::put_one(file_store, &second, target).await {
            Ok(second) => {
                proof = proof.max(second);
                findings.add("replace a file", true, "");
            }
            Err(error) if error.again() == Retry::Soon => return Err(error),
            Err(error) => findings.add("replace a file", false, error.to_string()),
        }
    }
    let place = file_store.place(&first.name);
    let removed = remove(file_store, &first.name, &below, target, &mut findings).await;
    let ending = if removed { "and removed" } else { "and not removed" };
    Ok(Trial {
        works: true,
        summary: format!("{place} ({}, {ending})", proof.words(target.verify)),
        findings: findings.0,
    })
}

/// Enters a folder below the target's own, or stays in the target's own. Returns the folders that
/// were created.
async fn folders(
    file_store: &mut impl FileStore,
    samples: &Samples,
    findings: &mut Findings,
) -> Result<Vec<String>, DeliveryError> {
    let below = [format!("mailqos-test-{}", samples.stamp), "Prüfung 1".to_owned()];
    match file_store.enter(&below, true).await {
        Ok(_) => {
            findings.add("subfolders", true, "");
            Ok(below.to_vec())
        }
        Err(refused) if refused.again() != Retry::Soon => {
            file_store.enter(&[], true).await?;
            findings.add("subfolders", false, refused.to_string());
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

/// Reports what can be seen of an existing file.
async fn look(
    file_store: &mut impl FileStore,
    file: &File,
    proof: Proof,
    findings: &mut Findings,
) -> Result<Proof, DeliveryError> {
    let extent = file_store.extent(&file.name).await?;
    let read = match extent {
        Extent::Absent => None,
        _ => file_store.hash(&file.name, FIRST.len() as u64).await?,
    };
    match extent {
        Extent::Bytes(_) => findings.add("size", true, ""),
        Extent::Absent => findings.add(
            "size",
            false,
            "the file is not visible: a drop box, or another program has collected it",
        ),
        Extent::Unknown => findings.add("size", false, "the target does not report it"),
    }
    let words = if read.is_some() {
        ""
    } else {
        "deliveries count as complete when the server confirms them"
    };
    findings.add("read back", read.is_some(), words);
    Ok(proof)
}

async fn remove(
    file_store: &mut impl FileStore,
    name: &str,
    below: &[String],
    target: &FilesTarget,
    findings: &mut Findings,
) -> bool {
    let removed = file_store.remove(name).await;
    let is_kept = target.keep.is_some() || target.keep_last.is_some();
    let words = match &removed {
        Ok(()) => String::new(),
        Err(error) if is_kept => format!("{error}; keep and keep_last don't work"),
        Err(error) => error.to_string(),
    };
    findings.add("remove a file", removed.is_ok(), words);
    if removed.is_err() {
        return false;
    }
    remove_folders(file_store, below).await
}

async fn remove_folders(file_store: &mut impl FileStore, below: &[String]) -> bool {
    for _ in below {
        if file_store.remove_folder().await.is_err() {
            return false;
        }
    }
    true
}

/// Finds out which settings work if a file can't be uploaded as configured.
async fn diagnose(
    file_store: &mut impl FileStore,
    target: &FilesTarget,
    samples: &Samples,
    patterns: &[Option<&str>],
    findings: &mut Findings,
) -> Option<String> {
    let long = samples.file(&samples.long_name(), FIRST).ok()?;
    let short = samples.file(&samples.short_name(), FIRST).ok()?;
    for file in [&long, &short] {
        let own = (patterns.len() > 1).then(|| target.temporary.clone());
        for pattern in own.into_iter().chain(patterns.iter().map(|text| parsed(*text))) {
            let other = FilesTarget { temporary: pattern.clone(), ..target.clone() };
            let is_own = pattern == target.temporary;
            if is_own && file.name == long.name {
                continue;
            }
            let put = file_store::put_one(file_store, file, &other).await;
            clear(file_store, file, pattern.as_ref()).await;
            if put.is_err() {
                continue;
            }
            let fits = file.name == long.name;
            findings.add("long non-ASCII names", fits, "");
            let word = PATTERNS
                .iter()
                .find(|text| parsed(**text) == pattern)
                .and_then(|text| *text)
                .unwrap_or("none");
            if is_own {
                return Some(
                    "short ASCII names are accepted; set `name` for the reports accordingly"
                        .to_owned(),
                );
            }
            findings.add("temporary name", false, "the configured pattern is rejected");
            return Some(format!("temporary = \"{word}\" works"));
        }
    }
    None
}

fn parsed(pattern: Option<&str>) -> Option<TemporaryName> {
    pattern.and_then(|text| text.parse().ok())
}

/// Removes the files of a test.
async fn clear(file_store: &mut impl FileStore, file: &File, temporary: Option<&TemporaryName>) {
    let _ = file_store.remove(&file.name).await;
    if let (Some(temporary), Some(sha256)) = (temporary, sha256(&file.path).await) {
        let _ = file_store.remove(&temporary.of(&file.name, &sha256)).await;
    }
}

async fn sha256(path: &Path) -> Option<String> {
    file_store::local(path).await.ok().map(|(_, hash)| hex(&hash))
}

/// Removes all traces of a failed test.
async fn leave(
    file_store: &mut impl FileStore,
    below: &[String],
    target: &FilesTarget,
    samples: &Samples,
) -> bool {
    if let Ok(file) = samples.file(&samples.long_name(), FIRST) {
        clear(file_store, &file, target.temporary.as_ref()).await;
    }
    remove_folders(file_store, below).await
}
