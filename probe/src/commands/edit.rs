//! Edits configuration files while preserving the rest, including comments and order. The result is
//! validated, and reverted if invalid.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use mailqos_config as config;
use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, Value};

use super::Failure;

/// A configuration file to edit.
#[derive(Debug)]
pub(super) struct Edit {
    main: PathBuf,
    path: PathBuf,
    before: Option<String>,
    /// Content of the file.
    pub(super) document: DocumentMut,
}

fn read(path: &Path) -> Result<Option<String>, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::Usage(format!("{}: {error}", path.display()))),
    }
}

impl Edit {
    /// Opens the main file, which may be missing.
    pub(super) fn main(main: &Path) -> Result<Self, Failure> {
        Self::open(main, main.to_owned())
    }

    fn open(main: &Path, path: PathBuf) -> Result<Self, Failure> {
        let before = read(&path)?;
        let document =
            before.as_deref().unwrap_or_default().parse::<DocumentMut>().map_err(|error| {
                Failure::Usage(format!("{} is not valid TOML: {error}", path.display()))
            })?;
        Ok(Self { main: main.to_owned(), path, before, document })
    }

    /// Opens the main file and all of its includes.
    pub(super) fn all(main: &Path) -> Result<Vec<Self>, Failure> {
        files(main)?.into_iter().map(|path| Self::open(main, path)).collect()
    }

    /// Opens the file that contains `[kind.name]`: the main file or one of its includes.
    pub(super) fn find(main: &Path, kind: &str, name: &str) -> Result<Self, Failure> {
        let found = Self::all(main)?.into_iter().find(|edit| edit.has(kind, name));
        found.ok_or_else(|| Failure::Usage(format!("unknown {kind} {name:?}")))
    }

    /// Returns whether this file contains `[kind.name]`.
    pub(super) fn has(&self, kind: &str, name: &str) -> bool {
        self.document.get(kind).and_then(|table| table.get(name)).is_some()
    }

    /// Adds `[kind.name]`, with a comment above it.
    pub(super) fn add(
        &mut self,
        kind: &str,
        name: &str,
        comment: &str,
        table: Table,
    ) -> Result<(), Failure> {
        let kinds = self.document.entry(kind).or_insert_with(|| {
            let mut table = Table::new();
            table.set_implicit(true);
            Item::Table(table)
        });
        let Some(kinds) = kinds.as_table_like_mut() else {
            return Err(Failure::Usage(format!(
                "{kind} is not a table in {}",
                self.path.display()
            )));
        };
        if kinds.contains_key(name) {
            return Err(Failure::Usage(format!("the {kind} {name:?} already exists")));
        }
        let mut table = table;
        let lines: String = comment.lines().map(|line| format!("# {line}\n")).collect();
        table.decor_mut().set_prefix(format!("\n{lines}"));
        kinds.insert(name, Item::Table(table));
        Ok(())
    }

    /// Sets a top-level key of the file, unless it is already set.
    pub(super) fn top(&mut self, key: &str, value: impl Into<Value>, comment: &str) {
        if !self.document.contains_key(key) {
            self.document.insert(key, Item::Value(value.into()));
            if let Some(mut key) = self.document.key_mut(key) {
                let lines: String = comment.lines().map(|line| format!("# {line}\n")).collect();
                key.leaf_decor_mut().set_prefix(lines);
            }
        }
    }

    /// Adds a comment at the top of the file.
    pub(super) fn begin_with(&mut self, comment: &str) {
        let first = self.document.iter().next().map(|(key, _)| key.to_owned());
        if let Some(mut key) = first.and_then(|first| self.document.key_mut(&first)) {
            let prefix = key.leaf_decor().prefix().and_then(toml_edit::RawString::as_str);
            let prefix = format!("{comment}\n{}", prefix.unwrap_or_default());
            key.leaf_decor_mut().set_prefix(prefix);
        }
    }

    /// Adds a comment after the last table.
    pub(super) fn end_with(&mut self, comment: &str) {
        self.document.set_trailing(comment);
    }

    /// Writes the file. If the configuration becomes invalid, all changes are reverted.
    pub(super) fn save(self) -> Result<PathBuf, Failure> {
        Self::save_all(std::slice::from_ref(&self))?;
        Ok(self.path)
    }

    /// Writes the changed files; returns whether there were any. If the configuration becomes
    /// invalid, all changes are reverted.
    pub(super) fn save_all(edits: &[Self]) -> Result<bool, Failure> {
        let mut written: Vec<&Self> = Vec::new();
        let mut failed = None;
        for edit in edits {
            let text = edit.document.to_string();
            if edit.before.as_ref() == Some(&text) {
                continue;
            }
            written.push(edit);
            if let Err(failure) = write(&edit.path, &text) {
                failed = Some(failure);
                break;
            }
        }
        if failed.is_none()
            && let Some(edit) = written.first()
            && let Err(problems) = config::load(&edit.main)
        {
            failed = Some(Failure::Usage(format!(
                "nothing was written, because the configuration would be invalid:\n{}",
                problems.errors()
            )));
        }
        let Some(failure) = failed else {
            return Ok(!written.is_empty());
        };
        for edit in written {
            match &edit.before {
                Some(text) => write(&edit.path, text)?,
                None => match std::fs::remove_file(&edit.path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(Failure::work(error));
                    }
                    _ => {}
                },
            }
        }
        Err(failure)
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    replace(path, text).map_err(|error| Failure::Work(format!("{}: {error}", path.display())))
}

/// Writes under a temporary name first, so that a reloading probe never sees a partial file. The
/// permissions of the file are preserved at all times, because it may contain secrets.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
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

/// Returns the main file and its includes.
fn files(main: &Path) -> Result<Vec<PathBuf>, Failure> {
    let edit = Edit::main(main)?;
    let folder = main.parent().unwrap_or(Path::new(""));
    let mut files = vec![main.to_owned()];
    let names: Vec<String> = match edit.document.get("include").and_then(Item::as_value) {
        Some(Value::String(name)) => vec![name.value().clone()],
        Some(Value::Array(names)) => {
            names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
        }
        _ => Vec::new(),
    };
    for name in names {
        let path = folder.join(name);
        if path.is_dir() {
            let mut found: Vec<PathBuf> = std::fs::read_dir(&path)
                .map_err(Failure::work)?
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
                .collect();
            found.sort();
            files.extend(found);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}

/// Formats a table of values in one line.
pub(super) fn inline(pairs: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let mut table = InlineTable::new();
    for (key, value) in pairs {
        table.insert(key, value);
    }
    Value::InlineTable(table)
}

/// Returns an array of texts.
pub(super) fn list(texts: &[String]) -> Value {
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
}
