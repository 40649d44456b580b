//! Sessions: who is signed in. Only hashes of their ids are kept; a file carries them over a
//! restart.

use std::{
    collections::HashMap,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Mutex,
};

use mailqos_base::{
    files::{self, Access},
    lock::IgnorePoison as _,
};
use serde::{Deserialize, Serialize};

use super::{NoRandomness, fingerprint, random_text};

/// Longest time between two requests of a session, in seconds.
const MAX_IDLE: i64 = 7 * 86_400;
/// Maximum lifetime of a session, in seconds.
pub(crate) const MAX_AGE: i64 = 30 * 86_400;
/// Maximum number of sessions of a user; a further one ends the oldest.
const MAX_PER_USER: usize = 50;
/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 16 << 20;

/// A session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Session {
    /// Name of the user.
    pub(crate) user: String,
    /// Token that forms contain.
    pub(crate) csrf: String,
    /// Generation of the user when it signed in.
    pub(crate) generation: u64,
    /// Time of the sign-in, in seconds since 1970.
    pub(crate) since: i64,
    /// Time of the last request, in seconds since 1970.
    pub(crate) seen: i64,
    /// Maximum lifetime, in seconds.
    #[serde(default = "longest")]
    pub(crate) max_age: i64,
}

fn longest() -> i64 {
    MAX_AGE
}

impl Session {
    fn is_over(&self, now: i64) -> bool {
        now - self.seen > MAX_IDLE
            || now - self.since > self.max_age.min(MAX_AGE)
            || self.since > now + MAX_IDLE
    }
}

/// All sessions.
#[derive(Debug)]
pub(crate) struct Sessions {
    path: PathBuf,
    /// By the hash of their ids.
    all: Mutex<HashMap<String, Session>>,
}

impl Sessions {
    /// Reads the sessions of a state folder. Damaged files only mean that everyone has to sign in
    /// again.
    pub(crate) fn open(folder: &Path) -> Self {
        let path = folder.join("sessions.json");
        let all = files::read(&path, MAX_FILE).ok();
        let all = all.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { path, all: Mutex::new(all) }
    }

    /// Starts a session with a new id, and returns the id.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub(crate) fn start(&self, user: &str, generation: u64) -> Result<String, NoRandomness> {
        self.start_for(user, generation, MAX_AGE)
    }

    /// Starts a session of at most this many seconds with a new id, and returns the id.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub(crate) fn start_for(
        &self,
        user: &str,
        generation: u64,
        max_age: i64,
    ) -> Result<String, NoRandomness> {
        let (id, csrf) = (random_text()?, random_text()?);
        let now = crate::clock::seconds();
        let user_name = user.to_owned();
        let session = Session { user: user_name, csrf, generation, since: now, seen: now, max_age };
        let mut all = self.all.lock().ignore_poison();
        all.retain(|_, session| !session.is_over(now));
        let mut own: Vec<(i64, String)> = all
            .iter()
            .filter(|(_, session)| session.user == user)
            .map(|(hash, session)| (session.seen, hash.clone()))
            .collect();
        own.sort_unstable();
        for (_, oldest) in own.iter().take((own.len() + 1).saturating_sub(MAX_PER_USER)) {
            all.remove(oldest);
        }
        all.insert(fingerprint(&id), session);
        self.save(&all);
        Ok(id)
    }

    /// Returns a session by its id, and notes that it is in use.
    pub(crate) fn find(&self, id: &str) -> Option<Session> {
        let mut all = self.all.lock().ignore_poison();
        let now = crate::clock::seconds();
        let session = all.get_mut(&fingerprint(id))?;
        if session.is_over(now) {
            return None;
        }
        session.seen = now;
        Some(session.clone())
    }

    /// Ends a session.
    pub(crate) fn end(&self, id: &str) {
        let mut all = self.all.lock().ignore_poison();
        if all.remove(&fingerprint(id)).is_some() {
            self.save(&all);
        }
    }

    /// Ends all sessions of a user.
    pub(crate) fn end_all(&self, user: &str) {
        let mut all = self.all.lock().ignore_poison();
        all.retain(|_, session| session.user != user);
        self.save(&all);
    }

    /// Writes the sessions, as at a planned end of the program.
    pub(crate) fn keep(&self) {
        self.save(&self.all.lock().ignore_poison());
    }

    fn save(&self, all: &HashMap<String, Session>) {
        let temporary = self.path.with_extension("json.new");
        let written = serde_json::to_vec(all).map_err(io::Error::other).and_then(|bytes| {
            files::replace(&self.path, &temporary, Access::Owner, |file| file.write_all(&bytes))
        });
        if let Err(error) = written {
            tracing::warn!(path = %self.path.display(), %error, "sessions not saved; a restart ends them");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_survive_a_restart_and_their_ids_are_not_in_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let sessions = Sessions::open(folder.path());
        let id = sessions.start("anna", 3).expect("random numbers");
        let text = std::fs::read_to_string(folder.path().join("sessions.json")).expect("a file");
        assert!(!text.contains(&id) && text.contains("anna"), "{text}");
        let again = Sessions::open(folder.path());
        assert_eq!(again.find(&id).map(|session| session.generation), Some(3));
        assert_eq!(again.find("another"), None);
        again.end(&id);
        assert_eq!(Sessions::open(folder.path()).find(&id), None);
    }

    #[test]
    fn old_and_idle_sessions_are_over() {
        let session = Session {
            user: "a".into(),
            csrf: "c".into(),
            generation: 0,
            since: 1_000,
            seen: 1_000,
            max_age: MAX_AGE,
        };
        assert!(!session.is_over(1_000 + MAX_IDLE));
        assert!(session.is_over(1_001 + MAX_IDLE));
        let short = Session { max_age: 100, ..session.clone() };
        assert!(!short.is_over(1_100) && short.is_over(1_101));
        let busy = Session { seen: 1_000 + MAX_AGE, ..session };
        assert!(busy.is_over(1_001 + MAX_AGE));
    }

    #[test]
    fn a_user_has_a_limited_number_of_sessions() {
        let folder = tempfile::tempdir().expect("a folder");
        let sessions = Sessions::open(folder.path());
        for _ in 0..MAX_PER_USER + 5 {
            sessions.start("anna", 0).expect("random numbers");
        }
        let other = sessions.start("bo", 0).expect("random numbers");
        let all = sessions.all.lock().ignore_poison().len();
        assert_eq!(all, MAX_PER_USER + 1);
        assert!(sessions.find(&other).is_some());
    }
}
