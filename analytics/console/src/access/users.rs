//! Users and their API tokens, in a file that only the user who runs the program can read.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, RwLock},
};

use mailqos_base::{
    files::{self, Access},
    lock::IgnorePoison as _,
};
use mailqos_model::words;
use serde::{Deserialize, Serialize};

use super::fingerprint;

/// Version of the file's format.
const VERSION: u32 = 1;
/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 16 << 20;
/// Maximum number of users.
const MAX_USERS: usize = 10_000;
/// Number of API tokens of a user.
pub(crate) const MAX_TOKENS: usize = 50;
/// Length of user names, in characters.
const MAX_NAME: usize = 64;

words!(
    /// What a user may do.
    Role, "role" {
        /// View monitors and reports.
        Viewer = "viewer",
        /// Acknowledge alarms and plan maintenance, too.
        Operator = "operator",
        /// Manage monitors, reports and users, too.
        Administrator = "administrator",
    }
);

/// A user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct User {
    /// Role.
    pub(crate) role: Role,
    /// Tags whose monitors the user sees; `None`: all monitors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tags: Option<BTreeSet<String>>,
    /// Hash of the password; `None` until it is set with a one-time link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) password: Option<String>,
    /// Language; `None`: the browser's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) language: Option<String>,
    /// Appearance, `light` or `dark`; `None`: the browser's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) look: Option<String>,
    /// Provider of single sign-on and the id of the user there; `None`: the user has a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) origin: Option<String>,
    /// Current name at the provider, if it is another one than at the first sign-in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) display: Option<String>,
    /// Time of the last single sign-on, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signed_in_at: Option<i64>,
    /// Time of creation, in seconds since 1970.
    pub(crate) created_at: i64,
    /// Number that sessions carry: those with a lower one have ended.
    #[serde(default)]
    pub(crate) generation: u64,
    /// API tokens by their hashes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) tokens: BTreeMap<String, Token>,
}

/// An API token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Token {
    /// Name that the user gave it.
    pub(crate) name: String,
    /// Highest role of its requests.
    pub(crate) role: Role,
    /// Time of creation, in seconds since 1970.
    pub(crate) created_at: i64,
    /// End of its validity, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<i64>,
}

impl User {
    /// Returns a new user without a password.
    pub(crate) fn new(role: Role, tags: Option<BTreeSet<String>>) -> Self {
        let created_at = crate::clock::seconds();
        Self {
            role,
            tags,
            password: None,
            language: None,
            look: None,
            origin: None,
            display: None,
            signed_in_at: None,
            created_at,
            // Another user of the same name, who was removed, had a lower one.
            generation: u64::try_from(created_at).unwrap_or_default(),
            tokens: BTreeMap::new(),
        }
    }

    /// Whether this is an administrator of all monitors.
    pub(crate) fn is_chief(&self) -> bool {
        self.role == Role::Administrator && self.tags.is_none()
    }
}

/// Content of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Content {
    version: u32,
    users: BTreeMap<String, User>,
}

/// Reasons why users can't be read or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UsersError {
    /// The file can't be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file is damaged.
    #[error("{path} is not a valid list of users ({source}); restore it from a backup", path = path.display())]
    Content {
        /// Path of the file.
        path: PathBuf,
        /// The parser's error.
        source: serde_json::Error,
    },
    /// A newer program wrote the file.
    #[error("{path} was written by a newer version; update this program", path = path.display())]
    Version {
        /// Path of the file.
        path: PathBuf,
    },
    /// Other users of the machine can read or change the file.
    #[error("{path} can be read by other users of this machine; set its mode to 0600", path = path.display())]
    Exposed {
        /// Path of the file.
        path: PathBuf,
    },
    /// The change would leave no administrator who sees all monitors.
    #[error("the last administrator of all monitors can't be removed or restricted")]
    LastAdministrator,
    /// The change is not possible, for example because the user does not exist any more.
    #[error("{0}")]
    Refused(&'static str),
}

/// All users.
#[derive(Debug)]
pub(crate) struct Users {
    path: PathBuf,
    content: RwLock<Content>,
    /// Held during a change, so that none is lost.
    changing: Mutex<()>,
}

/// Whether a text can be the name of a user: letters, digits, `-`, `_`, `.` and `@`.
pub(crate) fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_alphanumeric() || "-_.@".contains(c);
    !text.is_empty() && text.chars().count() <= MAX_NAME && text.chars().all(allowed)
}

impl Users {
    /// Reads the users of a state folder; there are none at first.
    ///
    /// # Errors
    /// The file can't be read, is damaged, or can be read by others.
    pub(crate) fn open(folder: &Path) -> Result<Self, UsersError> {
        let path = folder.join("users.json");
        let content = match files::read(&path, MAX_FILE) {
            Ok(bytes) => {
                private(&path)?;
                let content: Content = serde_json::from_slice(&bytes)
                    .map_err(|source| UsersError::Content { path: path.clone(), source })?;
                if content.version > VERSION {
                    return Err(UsersError::Version { path });
                }
                content
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Content { version: VERSION, users: BTreeMap::new() }
            }
            Err(source) => return Err(UsersError::Io { path, source }),
        };
        Ok(Self { path, content: RwLock::new(content), changing: Mutex::new(()) })
    }

    /// Whether there is an administrator with a password.
    pub(crate) fn has_administrator(&self) -> bool {
        let content = self.content.read().ignore_poison();
        content.users.values().any(|user| user.is_chief() && user.password.is_some())
    }

    /// Returns a user.
    pub(crate) fn get(&self, name: &str) -> Option<User> {
        self.content.read().ignore_poison().users.get(name).cloned()
    }

    /// Returns all users by name.
    pub(crate) fn all(&self) -> BTreeMap<String, User> {
        self.content.read().ignore_poison().users.clone()
    }

    /// Returns the user and the token of a token's text, unless it has expired.
    pub(crate) fn by_token(&self, text: &str) -> Option<(String, User, Token)> {
        let hash = fingerprint(text);
        let content = self.content.read().ignore_poison();
        let now = crate::clock::seconds();
        content.users.iter().find_map(|(name, user)| {
            let token = user.tokens.get(&hash)?;
            let is_valid = token.expires_at.is_none_or(|at| now < at);
            is_valid.then(|| (name.clone(), user.clone(), token.clone()))
        })
    }

    /// Changes the users; the file is replaced before the change applies.
    ///
    /// # Errors
    /// The change is refused, or the file can't be written. Nothing has then changed.
    pub(crate) fn change<T>(
        &self,
        change: impl FnOnce(&mut BTreeMap<String, User>) -> Result<T, UsersError>,
    ) -> Result<T, UsersError> {
        let _changing = self.changing.lock().ignore_poison();
        let mut content = self.content.read().ignore_poison().clone();
        let had_chief = content.users.values().any(User::is_chief);
        let result = change(&mut content.users)?;
        if had_chief && !content.users.values().any(User::is_chief) {
            return Err(UsersError::LastAdministrator);
        }
        if content.users.len() > MAX_USERS {
            return Err(UsersError::Refused("there are too many users"));
        }
        let io = |source| UsersError::Io { path: self.path.clone(), source };
        let bytes =
            serde_json::to_vec_pretty(&content).map_err(|error| io(io::Error::other(error)))?;
        let temporary = self.path.with_extension("json.new");
        files::replace(&self.path, &temporary, Access::Owner, |file| file.write_all(&bytes))
            .map_err(io)?;
        *self.content.write().ignore_poison() = content;
        Ok(result)
    }

    /// Changes one user.
    ///
    /// # Errors
    /// The user does not exist, or the file can't be written.
    pub(crate) fn update<T>(
        &self,
        name: &str,
        change: impl FnOnce(&mut User) -> Result<T, UsersError>,
    ) -> Result<T, UsersError> {
        self.change(|users| match users.get_mut(name) {
            Some(user) => change(user),
            None => Err(UsersError::Refused("this user does not exist")),
        })
    }
}

/// Refuses a file that other users of the machine can read.
fn private(path: &Path) -> Result<(), UsersError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let io = |source| UsersError::Io { path: path.to_owned(), source };
        let mode = std::fs::metadata(path).map_err(io)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(UsersError::Exposed { path: path.to_owned() });
        }
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_read_back_and_the_file_is_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let users = Users::open(folder.path()).expect("none yet");
        assert!(!users.has_administrator());
        let mut chief = User::new(Role::Administrator, None);
        chief.password = Some("hash".to_owned());
        users.change(|all| Ok(all.insert("anna".to_owned(), chief))).expect("written");
        let again = Users::open(folder.path()).expect("readable");
        assert_eq!(again.all(), users.all());
        assert!(again.has_administrator());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let path = folder.path().join("users.json");
            let mode = std::fs::metadata(&path).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("set");
            assert!(matches!(Users::open(folder.path()), Err(UsersError::Exposed { .. })));
        }
    }

    #[test]
    fn the_last_administrator_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let users = Users::open(folder.path()).expect("none yet");
        let chief = User::new(Role::Administrator, None);
        users.change(|all| Ok(all.insert("anna".to_owned(), chief))).expect("written");
        for change in [
            |all: &mut BTreeMap<String, User>| drop(all.remove("anna")),
            |all: &mut BTreeMap<String, User>| {
                all.values_mut().for_each(|user| user.role = Role::Viewer)
            },
            |all: &mut BTreeMap<String, User>| {
                all.values_mut().for_each(|user| user.tags = Some(BTreeSet::new()))
            },
        ] {
            let refused = users.change(|all| {
                change(all);
                Ok(())
            });
            assert!(matches!(refused, Err(UsersError::LastAdministrator)), "{refused:?}");
        }
        assert!(users.get("anna").is_some_and(|user| user.is_chief()));
    }

    #[test]
    fn names_have_no_characters_with_a_meaning_elsewhere() {
        for name in ["anna", "Åsa.Öberg", "ops@example.com", "o_2-1"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "a b", "a/b", "a<b>", "a\nb", &"a".repeat(65)] {
            assert!(!is_name(name), "{name:?}");
        }
    }
}
