//! Links that show the monitors and reports of one tag to anyone who has them, without a user. Each
//! can be revoked and may expire; only the hash of its token is stored.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, RwLock},
};

use mailqos_base::{
    files::{self, Access},
    lock::IgnorePoison as _,
};
use serde::{Deserialize, Serialize};

use super::{NoRandomness, fingerprint, random_text};

/// Version of the file's format.
const VERSION: u32 = 1;
/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 4 << 20;
/// Maximum number of links.
const MAX_LINKS: usize = 1_000;
/// Length of a link's name, in characters.
pub(crate) const MAX_NAME: usize = 100;

/// A link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SharedLink {
    /// Name by which administrators recognise it.
    pub(crate) name: String,
    /// Tag whose monitors it shows.
    pub(crate) tag: String,
    /// User who made it.
    pub(crate) created_by: String,
    /// Time of creation, in seconds since 1970.
    pub(crate) created_at: i64,
    /// End of its validity, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<i64>,
}

impl SharedLink {
    /// Whether it has expired.
    pub(crate) fn is_over(&self, now: i64) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// Content of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    version: u32,
    /// By the hashes of their tokens.
    links: BTreeMap<String, SharedLink>,
}

/// Reasons why links can't be read or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SharedError {
    /// The file can't be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file is damaged, or a newer program wrote it.
    #[error("{path} is not a valid list of links; restore it from a backup, or remove it to revoke all links", path = path.display())]
    Content {
        /// Path of the file.
        path: PathBuf,
    },
    /// There are [`MAX_LINKS`] links.
    #[error("there are too many links; revoke some")]
    TooMany,
    /// The system has no random numbers.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

/// All links.
#[derive(Debug)]
pub(crate) struct SharedLinks {
    path: PathBuf,
    content: RwLock<Content>,
    /// Held during a change, so that none is lost.
    changing: Mutex<()>,
}

impl SharedLinks {
    /// Reads the links of a state folder; there are none at first.
    ///
    /// # Errors
    /// The file can't be read or is damaged.
    pub(crate) fn open(folder: &Path) -> Result<Self, SharedError> {
        let path = folder.join("shared.json");
        let content = match files::read(&path, MAX_FILE) {
            Ok(bytes) => serde_json::from_slice::<Content>(&bytes)
                .ok()
                .filter(|content| content.version == VERSION)
                .ok_or_else(|| SharedError::Content { path: path.clone() })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Content { version: VERSION, links: BTreeMap::new() }
            }
            Err(source) => return Err(SharedError::Io { path, source }),
        };
        Ok(Self { path, content: RwLock::new(content), changing: Mutex::new(()) })
    }

    /// Returns the link of a token, unless it is unknown, revoked or over.
    pub(crate) fn find(&self, token: &str) -> Option<SharedLink> {
        let content = self.content.read().ignore_poison();
        let link = content.links.get(&fingerprint(token))?;
        (!link.is_over(crate::clock::seconds())).then(|| link.clone())
    }

    /// Returns all links by the hashes of their tokens.
    pub(crate) fn all(&self) -> BTreeMap<String, SharedLink> {
        self.content.read().ignore_poison().links.clone()
    }

    /// Adds a link and returns its token, which is not stored.
    ///
    /// # Errors
    /// There are too many, or the file can't be written.
    pub(crate) fn add(&self, link: SharedLink) -> Result<String, SharedError> {
        let token = random_text()?;
        let hash = fingerprint(&token);
        self.change(|links| {
            let now = crate::clock::seconds();
            links.retain(|_, link| !link.is_over(now));
            if links.len() >= MAX_LINKS {
                return Err(SharedError::TooMany);
            }
            links.insert(hash, link);
            Ok(())
        })?;
        Ok(token)
    }

    /// Removes a link by the hash of its token. Pages and event streams that were opened with it
    /// end.
    ///
    /// # Errors
    /// The file can't be written.
    pub(crate) fn revoke(&self, hash: &str) -> Result<(), SharedError> {
        self.change(|links| {
            links.remove(hash);
            Ok(())
        })
    }

    fn change(
        &self,
        change: impl FnOnce(&mut BTreeMap<String, SharedLink>) -> Result<(), SharedError>,
    ) -> Result<(), SharedError> {
        let _changing = self.changing.lock().ignore_poison();
        let mut content = self.content.read().ignore_poison().clone();
        change(&mut content.links)?;
        let io = |source| SharedError::Io { path: self.path.clone(), source };
        let bytes =
            serde_json::to_vec_pretty(&content).map_err(|error| io(io::Error::other(error)))?;
        let temporary = self.path.with_extension("json.new");
        files::replace(&self.path, &temporary, Access::Owner, |file| file.write_all(&bytes))
            .map_err(io)?;
        *self.content.write().ignore_poison() = content;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(expires_at: Option<i64>) -> SharedLink {
        SharedLink {
            name: "ACME board".to_owned(),
            tag: "acme".to_owned(),
            created_by: "anna".to_owned(),
            created_at: 0,
            expires_at,
        }
    }

    #[test]
    fn a_link_works_until_it_is_revoked_or_over_and_its_token_is_not_stored() {
        let folder = tempfile::tempdir().expect("a folder");
        let links = SharedLinks::open(folder.path()).expect("none yet");
        let token = links.add(link(None)).expect("added");
        let late = links.add(link(Some(crate::clock::seconds()))).expect("added");
        assert_eq!(links.find(&token), Some(link(None)));
        assert_eq!(links.find(&late), None);
        assert_eq!(links.find(""), None);
        let text = std::fs::read_to_string(folder.path().join("shared.json")).expect("a file");
        assert!(text.contains("acme") && !text.contains(&token), "{text}");
        let again = SharedLinks::open(folder.path()).expect("readable");
        assert_eq!(again.find(&token), Some(link(None)));
        again.revoke(&fingerprint(&token)).expect("revoked");
        assert_eq!(again.find(&token), None);
        std::fs::write(folder.path().join("shared.json"), "{").expect("written");
        assert!(SharedLinks::open(folder.path()).is_err());
    }
}
