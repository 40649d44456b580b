//! Edits configuration files while preserving the rest, including comments and order. The result is
//! validated before anything is written, and changes made by others in the meantime are detected.

use std::{
    fs::{File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, Value};

use crate::{
    Config, Problems,
    read::{MAX_FILE, Overlay, load_with, toml_files},
    table::file_text,
};

/// Longest wait until another program has saved its changes.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two attempts to get the lock.
const LOCK_WAIT: Duration = Duration::from_millis(20);

/// Reasons why configuration files can't be edited.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// A file can't be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file can't be written.
    #[error("{path}: {source}", path = path.display())]
    Write {
        /// Path of the file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file is not valid TOML.
    #[error("{path} is not valid TOML: {reason}", path = path.display())]
    Syntax {
        /// Path of the file.
        path: PathBuf,
        /// The parser's reason.
        reason: String,
    },
    /// A kind of entry is something other than a table.
    #[error("{kind} is not a table in {path}", path = path.display())]
    NotATable {
        /// Kind of the entry.
        kind: String,
        /// Path of the file.
        path: PathBuf,
    },
    /// No file contains the entry.
    #[error("unknown {kind} {name:?}")]
    Unknown {
        /// Kind of the entry.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The entry already exists.
    #[error("the {kind} {name:?} already exists")]
    Exists {
        /// Kind of the entry.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The configuration would be invalid; nothing was written.
    #[error("nothing was written, because the configuration would be invalid:\n{}", .0.clone().errors())]
    Invalid(Box<Problems>),
    /// Someone else changed a file after it was read; nothing was written.
    #[error("nothing was written, because {path} has been changed in the meantime; try again", path = .0.display())]
    Changed(PathBuf),
}

/// A configuration file to edit.
#[derive(Debug)]
pub struct Edit {
    main: PathBuf,
    path: PathBuf,
    before: Option<String>,
    /// Content of the file.
    pub document: DocumentMut,
}

fn read(path: &Path) -> Result<Option<String>, EditError> {
    match file_text(path, MAX_FILE) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(EditError::Read { path: path.to_owned(), source }),
    }
}

/// Returns a comment with its marks.
fn comment_lines(comment: &str) -> String {
    comment.lines().map(|line| format!("# {line}\n")).collect()
}

impl Edit {
    /// Opens the main file, which may be missing.
    ///
    /// # Errors
    /// It can't be read, or is not TOML.
    pub fn main(main: &Path) -> Result<Self, EditError> {
        Self::open(main, main.to_owned())
    }

    fn open(main: &Path, path: PathBuf) -> Result<Self, EditError> {
        let before = read(&path)?;
        let document = before.as_deref().unwrap_or_default().parse::<DocumentMut>();
        let document = document.map_err(|error| EditError::Syntax {
            path: path.clone(),
            // The excerpt of the parser could contain a secret.
            reason: error.message().trim().to_owned(),
        })?;
        Ok(Self { main: main.to_owned(), path, before, document })
    }

    /// Opens the main file and all of its includes.
    ///
    /// # Errors
    /// One of them can't be read, or is not TOML.
    pub fn all(main: &Path) -> Result<Vec<Self>, EditError> {
        files(main)?.into_iter().map(|path| Self::open(main, path)).collect()
    }

    /// Opens the file that contains `[kind.name]`: the main file or one of its includes.
    ///
    /// # Errors
    /// No file contains it, or a file can't be read.
    pub fn find(main: &Path, kind: &str, name: &str) -> Result<Self, EditError> {
        let found = Self::all(main)?.into_iter().find(|edit| edit.has(kind, name));
        let unknown = || EditError::Unknown { kind: kind.to_owned(), name: name.to_owned() };
        found.ok_or_else(unknown)
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether this file contains `[kind.name]`.
    pub fn has(&self, kind: &str, name: &str) -> bool {
        self.entry(kind, name).is_some()
    }

    /// Returns `[kind.name]`.
    pub fn entry(&self, kind: &str, name: &str) -> Option<&Item> {
        self.document.get(kind)?.get(name)
    }

    /// Returns `[kind.name]` to change it.
    pub fn entry_mut(&mut self, kind: &str, name: &str) -> Option<&mut Item> {
        // Indexing an item would insert the key.
        self.document.get_mut(kind)?.as_table_like_mut()?.get_mut(name)
    }

    /// Returns the text of `[kind.name]` with its comments.
    pub fn fragment(&self, kind: &str, name: &str) -> Option<String> {
        self.entry(kind, name).map(ToString::to_string)
    }

    /// Removes `[kind.name]`; returns whether there was one.
    pub fn remove(&mut self, kind: &str, name: &str) -> bool {
        let table = self.document.get_mut(kind).and_then(Item::as_table_like_mut);
        table.is_some_and(|table| table.remove(name).is_some())
    }

    /// Adds `[kind.name]`, with a comment above it.
    ///
    /// # Errors
    /// It exists, or the file has no place for it.
    pub fn add(
        &mut self,
        kind: &str,
        name: &str,
        comment: &str,
        table: Table,
    ) -> Result<(), EditError> {
        let kinds = self.document.entry(kind).or_insert_with(|| {
            let mut table = Table::new();
            table.set_implicit(true);
            Item::Table(table)
        });
        let Some(kinds) = kinds.as_table_like_mut() else {
            return Err(EditError::NotATable { kind: kind.to_owned(), path: self.path.clone() });
        };
        if kinds.contains_key(name) {
            return Err(EditError::Exists { kind: kind.to_owned(), name: name.to_owned() });
        }
        let mut table = table;
        table.decor_mut().set_prefix(format!("\n{}", comment_lines(comment)));
        kinds.insert(name, Item::Table(table));
        Ok(())
    }

    /// Sets a top-level key of the file, unless it is already set.
    pub fn top(&mut self, key: &str, value: impl Into<Value>, comment: &str) {
        if !self.document.contains_key(key) {
            self.document.insert(key, Item::Value(value.into()));
            if let Some(mut key) = self.document.key_mut(key) {
                key.leaf_decor_mut().set_prefix(comment_lines(comment));
            }
        }
    }

    /// Adds a comment at the top of the file.
    pub fn begin_with(&mut self, comment: &str) {
        let first = self.document.iter().next().map(|(key, _)| key.to_owned());
        if let Some(mut key) = first.and_then(|first| self.document.key_mut(&first)) {
            let prefix = key.leaf_decor().prefix().and_then(toml_edit::RawString::as_str);
            let prefix = format!("{comment}\n{}", prefix.unwrap_or_default());
            key.leaf_decor_mut().set_prefix(prefix);
        }
    }

    /// Adds a comment after the last table.
    pub fn end_with(&mut self, comment: &str) {
        self.document.set_trailing(comment);
    }

    /// Writes the file.
    ///
    /// # Errors
    /// As for [`Edit::save_all`].
    pub fn save(self) -> Result<PathBuf, EditError> {
        Self::save_all(std::slice::from_ref(&self))?;
        Ok(self.path)
    }

    /// Returns the texts of the changed files.
    pub fn changed(edits: &[Self]) -> Overlay {
        let mut overlay = Overlay::default();
        for edit in edits {
            let text = edit.document.to_string();
            if edit.before.as_ref() != Some(&text) {
                overlay.insert(edit.path.clone(), text);
            }
        }
        overlay
    }

    /// Reads the configuration as it would be after the changes, without writing anything.
    ///
    /// # Errors
    /// All problems that it would have.
    pub fn preview(edits: &[Self]) -> Result<Config, Problems> {
        let main = edits.first().map(|edit| edit.main.clone()).unwrap_or_default();
        load_with(&main, &Self::changed(edits))
    }

    /// Validates the configuration and writes the changed files; returns whether there were any.
    ///
    /// # Errors
    /// The configuration would be invalid, someone else changed a file in the meantime, or one
    /// can't be written. Nothing is changed then.
    pub fn save_all(edits: &[Self]) -> Result<bool, EditError> {
        let changed = Self::changed(edits);
        let Some(first) = edits.first().filter(|_| !changed.is_empty()) else {
            return Ok(false);
        };
        let _lock = lock(&first.main)?;
        load_with(&first.main, &changed)
            .map_err(|problems| EditError::Invalid(Box::new(problems)))?;
        for edit in edits {
            if read(&edit.path)? != edit.before {
                return Err(EditError::Changed(edit.path.clone()));
            }
        }
        let mut written: Vec<&Self> = Vec::new();
        for edit in edits {
            let Some(text) = changed.get(&edit.path) else { continue };
            if let Err(error) = write(&edit.path, text) {
                for edit in written {
                    edit.revert()?;
                }
                return Err(error);
            }
            written.push(edit);
        }
        Ok(true)
    }

    /// Restores the file as it was read.
    fn revert(&self) -> Result<(), EditError> {
        match &self.before {
            Some(text) => write(&self.path, text),
            None => match std::fs::remove_file(&self.path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    Err(EditError::Write { path: self.path.clone(), source })
                }
                _ => Ok(()),
            },
        }
    }
}

/// Locks the folder of the configuration against other programs that save changes. File systems
/// without locks are tolerated.
fn lock(main: &Path) -> Result<Option<File>, EditError> {
    let main = std::fs::canonicalize(main).unwrap_or_else(|_| main.to_owned());
    let folder = main.parent().filter(|folder| !folder.as_os_str().is_empty());
    let Ok(file) = File::open(folder.unwrap_or(Path::new("."))) else {
        return Ok(None);
    };
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::Error(_)) => return Ok(None),
            Err(TryLockError::WouldBlock) if begun.elapsed() > LOCK_PATIENCE => {
                let source = io::Error::new(
                    io::ErrorKind::TimedOut,
                    "another program is saving the configuration",
                );
                return Err(EditError::Write { path: main, source });
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_WAIT),
        }
    }
}

fn write(path: &Path, text: &str) -> Result<(), EditError> {
    replace(path, text).map_err(|source| EditError::Write { path: path.to_owned(), source })
}

/// Writes under a temporary name first, so that a reloading probe never sees a partial file. The
/// permissions of the file are preserved at all times, because it may contain secrets.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    use mailqos_base::files::Access;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
    // A link is preserved: its destination is rewritten.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    let before = std::fs::metadata(&path).ok();
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    // It may be left over from an earlier process, with a different mode.
    let _ = std::fs::remove_file(&temporary);
    let access = if before.is_some() { Access::Owner } else { Access::Umask };
    mailqos_base::files::replace(&path, &temporary, access, |file| {
        file.write_all(text.as_bytes())?;
        let Some(before) = before else { return Ok(()) };
        // If root edits the file, the probe's user must still be able to read it. Other users can
        // only change the group, to one that they are in.
        let group = Some(before.gid());
        let stays = fchown(&*file, Some(before.uid()), group).is_ok()
            || fchown(&*file, None, group).is_ok();
        let mut permissions = before.permissions();
        if !stays {
            permissions.set_mode(permissions.mode() & !0o070);
        }
        file.set_permissions(permissions)
    })
}

/// Stores a secret in the folder `secrets` next to the configuration file, readable only by its
/// owner, and returns the path of the file relative to that of the configuration. An existing file
/// is never overwritten, because it may belong to something else.
///
/// # Errors
/// The file can't be written.
pub fn store_secret(main: &Path, base: &str, secret: &str) -> Result<SecretFile, EditError> {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    let folder = main.parent().unwrap_or(Path::new("")).join("secrets");
    let failed = |path: &Path, source| EditError::Write { path: path.to_owned(), source };
    if !folder.is_dir() {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&folder).map_err(|source| failed(&folder, source))?;
    }
    let mut number = 1_u32;
    loop {
        let name = if number == 1 { base.to_owned() } else { format!("{base}-{number}") };
        let path = folder.join(&name);
        match File::options().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(mut file) => {
                let written = file.write_all(secret.as_bytes()).and_then(|()| file.sync_all());
                let kept = SecretFile { path: path.clone(), relative: format!("secrets/{name}") };
                return match written {
                    Ok(()) => Ok(kept),
                    Err(source) => {
                        kept.forget();
                        Err(failed(&path, source))
                    }
                };
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(source) => return Err(failed(&path, source)),
        }
    }
}

/// A stored secret.
#[derive(Debug)]
pub struct SecretFile {
    path: PathBuf,
    /// Path relative to the folder of the configuration file.
    pub relative: String,
}

impl SecretFile {
    /// Removes the file, because nothing refers to it after all.
    pub fn forget(&self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Returns the main file and its includes.
fn files(main: &Path) -> Result<Vec<PathBuf>, EditError> {
    let edit = Edit::main(main)?;
    let folder = main.parent().unwrap_or(Path::new(""));
    let mut files = vec![main.to_owned()];
    let include = edit.document.get("include").or_else(|| edit.document.get("includes"));
    let names: Vec<String> = match include.and_then(Item::as_value) {
        Some(Value::String(name)) => vec![name.value().clone()],
        Some(Value::Array(names)) => {
            names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
        }
        _ => Vec::new(),
    };
    for name in names {
        let path = folder.join(name);
        if path.is_dir() {
            let found = toml_files(&path);
            files.extend(found.map_err(|source| EditError::Read { path, source })?);
        } else {
            files.push(path);
        }
    }
    let own = main.canonicalize().ok();
    let mut seen = std::collections::BTreeSet::new();
    files.retain(|file| *file == main || file.canonicalize().ok() != own);
    files.retain(|file| seen.insert(file.clone()));
    Ok(files)
}

/// Formats a table of values in one line.
pub fn inline(pairs: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let mut table = InlineTable::new();
    for (key, value) in pairs {
        table.insert(key, value);
    }
    Value::InlineTable(table)
}

/// Returns an array of texts.
pub fn list(texts: &[String]) -> Value {
    Value::Array(texts.iter().map(String::as_str).collect::<Array>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_file_keeps_its_mode_and_a_link_stays_one() {
        let folder = tempfile::tempdir().expect("folder");
        let (file, link) = (folder.path().join("real.toml"), folder.path().join("mailqos.toml"));
        std::fs::write(&file, "old").expect("written");
        std::os::unix::fs::symlink(&file, &link).expect("a link");
        let leftover = folder.path().join("real.toml.new");
        std::fs::write(&leftover, "half").expect("written");
        for mode in [0o600, 0o640] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("a mode");
            write(&link, "new").unwrap_or_else(|failure| panic!("{failure:?}"));
            assert_eq!(std::fs::read_to_string(&file).expect("a file"), "new");
            assert_eq!(
                std::fs::metadata(&file).expect("a file").permissions().mode() & 0o777,
                mode
            );
            assert!(link.is_symlink() && !leftover.exists());
        }
        let fresh = folder.path().join("conf.d/fresh.toml");
        write(&fresh, "new").unwrap_or_else(|failure| panic!("{failure:?}"));
        assert_eq!(std::fs::read_to_string(&fresh).expect("a file"), "new");
    }

    const MAIN: &str = "site = \"here\"\ninclude = \"more\"\n# Ours.\n[object.a]\naddress = \"a.example.com\" # the old one\n";

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("folder");
        let main = folder.path().join("mailqos.toml");
        std::fs::create_dir(folder.path().join("more")).expect("folder");
        std::fs::write(
            folder.path().join("more/b.toml"),
            "[object.b]\naddress = \"b.example.com\"\n",
        )
        .expect("written");
        std::fs::write(&main, MAIN).expect("written");
        (folder, main)
    }

    fn set_address(edits: &mut [Edit], name: &str, address: &str) {
        let edit = edits.iter_mut().find(|edit| edit.has("object", name)).expect("the object");
        let table = edit.entry_mut("object", name).and_then(Item::as_table_like_mut);
        table.expect("a table").insert("address", toml_edit::value(address));
    }

    #[test]
    fn an_invalid_change_is_never_on_disk_and_included_files_are_edited_in_place() {
        let (folder, main) = folder();
        let mut edits = Edit::all(&main).expect("files");
        assert!(edits[0].entry_mut("object", "b").is_none());
        set_address(&mut edits, "b", "not a host");
        let error = Edit::save_all(&edits).expect_err("invalid");
        assert!(error.to_string().contains("neither a host name"), "{error}");
        let part = folder.path().join("more/b.toml");
        assert!(std::fs::read_to_string(&part).expect("a file").contains("b.example.com"));
        set_address(&mut edits, "b", "c.example.com");
        let preview = Edit::preview(&edits).expect("valid");
        assert_eq!(preview.objects["b"].address, "c.example.com");
        assert!(std::fs::read_to_string(&part).expect("a file").contains("b.example.com"));
        assert!(Edit::save_all(&edits).expect("saved"));
        assert!(std::fs::read_to_string(&part).expect("a file").contains("c.example.com"));
        assert_eq!(std::fs::read_to_string(&main).expect("a file"), MAIN);
    }

    #[test]
    fn a_change_by_someone_else_is_not_overwritten() {
        let (_folder, main) = folder();
        let mut edits = Edit::all(&main).expect("files");
        set_address(&mut edits, "a", "new.example.com");
        let theirs = MAIN.replace("a.example.com", "theirs.example.com");
        std::fs::write(&main, &theirs).expect("written");
        let error = Edit::save_all(&edits).expect_err("changed");
        assert!(matches!(error, EditError::Changed(_)), "{error}");
        assert_eq!(std::fs::read_to_string(&main).expect("a file"), theirs);
    }

    #[test]
    fn secrets_have_their_own_files_that_only_the_owner_reads() {
        let (folder, main) = folder();
        for expected in ["secrets/mail", "secrets/mail-2"] {
            let file = store_secret(&main, "mail", "it's #1 \"quoted\" ").expect("stored");
            assert_eq!(file.relative, expected);
            let path = folder.path().join(expected);
            assert_eq!(std::fs::read_to_string(&path).expect("a file"), "it's #1 \"quoted\" ");
            let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }
}
