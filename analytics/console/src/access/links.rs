//! One-time links for setting a password: for the first administrator, for recovery, and for new
//! users. Each is a file, named by the hash of its token, so that another process can issue one
//! while the console runs; removing the file uses the link up.

use std::{
    collections::BTreeSet,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use mailqos_base::files::{self, Access};
use mailqos_config::Config;
use serde::{Deserialize, Serialize};

use super::{NoRandomness, fingerprint, random_text, users::Role};

/// Validity of a link, in seconds.
const VALID: i64 = 86_400;
/// Largest file of a link, in bytes.
const MAX_FILE: u64 = 64 << 10;
/// Folder of the links in that of the console's state.
const FOLDER: &str = "links";

/// What a link allows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Link {
    /// User whose password it sets; `None`: an administrator whose name is chosen on the page.
    pub(crate) user: Option<String>,
    /// Role of the user, if it does not exist.
    pub(crate) role: Role,
    /// Tags of the user, if it does not exist.
    pub(crate) tags: Option<BTreeSet<String>>,
    /// Whether the user is made if it does not exist, and becomes an administrator of all monitors
    /// if it exists: only for links that were issued on the machine itself.
    pub(crate) is_recovery: bool,
    /// End of its validity, in seconds since 1970.
    pub(crate) expires_at: i64,
}

/// Reasons why a link can't be issued.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The state folder is not writable.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Path of the folder or file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The operating system has no random numbers.
    #[error("the system provides no random numbers: {0}")]
    NoRandomness(getrandom::Error),
    /// The name contains characters other than letters, digits, `-`, `_`, `.` and `@`.
    #[error("{0:?} is not a valid user name; use letters, digits, '-', '_', '.' and '@'")]
    Name(String),
}

impl From<NoRandomness> for LinkError {
    fn from(NoRandomness(error): NoRandomness) -> Self {
        Self::NoRandomness(error)
    }
}

/// Folder of the console's state, which is created with access for its owner only.
///
/// # Errors
/// The folder can't be created.
pub(crate) fn state_folder(config: &Config) -> io::Result<PathBuf> {
    let folder = config.state.join("console");
    create_private(&folder)?;
    Ok(folder)
}

fn create_private(folder: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Issues a one-time link that sets the password of an administrator: of the first one, whose name
/// is chosen on the page, or of the named one. Returns the path of the link, such as
/// `/welcome/TOKEN`. The running console accepts it.
///
/// # Errors
/// The state folder is not writable, or the name is not valid.
pub fn reset_link(config: &Config, name: Option<&str>) -> Result<String, LinkError> {
    if let Some(name) = name.filter(|name| !super::users::is_name(name)) {
        return Err(LinkError::Name(name.to_owned()));
    }
    let folder = state_folder(config)
        .map_err(|source| LinkError::Io { path: config.state.join("console"), source })?;
    let link = Link {
        user: name.map(str::to_owned),
        role: Role::Administrator,
        tags: None,
        is_recovery: true,
        expires_at: crate::clock::seconds() + VALID,
    };
    issue(&folder, &link)
}

impl Link {
    /// Returns a link for a user that an administrator has made.
    pub(crate) fn for_user(name: &str, role: Role, tags: Option<BTreeSet<String>>) -> Self {
        Self {
            user: Some(name.to_owned()),
            role,
            tags,
            is_recovery: false,
            expires_at: crate::clock::seconds() + VALID,
        }
    }
}

/// Writes a link, and returns its path on the console.
///
/// # Errors
/// The folder is not writable.
pub(crate) fn issue(folder: &Path, link: &Link) -> Result<String, LinkError> {
    let token = random_text()?;
    let links = folder.join(FOLDER);
    let path = links.join(format!("{}.json", fingerprint(&token)));
    let io = |source| LinkError::Io { path: path.clone(), source };
    create_private(&links).map_err(io)?;
    remove_expired(&links);
    let bytes = serde_json::to_vec(link).map_err(|error| io(io::Error::other(error)))?;
    let temporary = path.with_extension("new");
    files::replace(&path, &temporary, Access::Owner, |file| file.write_all(&bytes)).map_err(io)?;
    Ok(format!("/welcome/{token}"))
}

fn remove_expired(links: &Path) {
    for entry in std::fs::read_dir(links).into_iter().flatten().flatten() {
        let path = entry.path();
        let link = files::read(&path, MAX_FILE).ok();
        let link = link.and_then(|bytes| serde_json::from_slice::<Link>(&bytes).ok());
        if link.is_none_or(|link| link.expires_at <= crate::clock::seconds()) {
            // Another process may have removed it.
            let _ = std::fs::remove_file(&path);
        }
    }
}

fn path_of(folder: &Path, token: &str) -> PathBuf {
    folder.join(FOLDER).join(format!("{}.json", fingerprint(token)))
}

/// Returns what a link allows, unless it is unknown, used or expired.
pub(crate) fn find(folder: &Path, token: &str) -> Option<Link> {
    let bytes = files::read(&path_of(folder, token), MAX_FILE).ok()?;
    let link: Link = serde_json::from_slice(&bytes).ok()?;
    (crate::clock::seconds() < link.expires_at).then_some(link)
}

/// Uses a link up. Returns whether this call did: of two at the same time, only one succeeds.
pub(crate) fn take(folder: &Path, token: &str) -> bool {
    std::fs::remove_file(path_of(folder, token)).is_ok()
}

/// Removes all links of a user.
pub(crate) fn revoke(folder: &Path, user: &str) {
    for entry in std::fs::read_dir(folder.join(FOLDER)).into_iter().flatten().flatten() {
        let path = entry.path();
        let link = files::read(&path, MAX_FILE).ok();
        let link = link.and_then(|bytes| serde_json::from_slice::<Link>(&bytes).ok());
        if link.is_some_and(|link| link.user.as_deref() == Some(user)) {
            let _ = std::fs::remove_file(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_works_once_and_until_it_expires() {
        let folder = tempfile::tempdir().expect("a folder");
        let link = Link::for_user("anna", Role::Viewer, None);
        let path = issue(folder.path(), &link).expect("issued");
        let token = path.strip_prefix("/welcome/").expect("its path");
        assert_eq!(find(folder.path(), token), Some(link.clone()));
        assert_eq!(find(folder.path(), "../users"), None);
        assert!(take(folder.path(), token));
        assert!(!take(folder.path(), token));
        assert_eq!(find(folder.path(), token), None);
        let late = Link { expires_at: crate::clock::seconds(), ..link };
        let path = issue(folder.path(), &late).expect("issued");
        assert_eq!(find(folder.path(), path.trim_start_matches("/welcome/")), None);
    }
}
