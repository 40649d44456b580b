//! Coordinates logins with an account. Until it is known whether a server accepts the credentials,
//! only one login tries them. After a rejection, no monitor tries them again for a while.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use mailqos_base::lock::IgnorePoison as _;
use mailqos_base::{Secret, one_line};
use tokio::sync::OwnedMutexGuard;

use super::{Credentials, LoginRefusal, SmtpError};

/// Maximum number of servers whose rejections are stored for an account.
const MAX_PLACES: usize = 256;

/// State of an account's logins at one server and port.
#[derive(Debug, Default)]
struct Place {
    /// Held while credentials with an unknown result are tried.
    trying: Arc<tokio::sync::Mutex<()>>,
    accepted: Option<Secret>,
    rejected: Option<(Secret, Instant, String)>,
}

/// State of an account's logins.
#[derive(Debug, Default)]
pub(super) struct LoginAttempts(Mutex<HashMap<String, Place>>);

impl LoginAttempts {
    fn with<T>(&self, place: &str, work: impl FnOnce(&mut Place) -> T) -> T {
        let mut places = self.0.lock().ignore_poison();
        if places.len() >= MAX_PLACES && !places.contains_key(place) {
            places.clear();
        }
        work(places.entry(place.to_owned()).or_default())
    }
}

/// A login that the server recently refused and that is not yet tried again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", one_line(&format!(
    "{text} (seen {} ago; not tried again yet, to avoid locking the account: next attempt in {}, or as soon as \
     the password changes)",
    rounded(*age),
    rounded(*left),
), &[]))]
pub struct HeldBack {
    /// The server's refusal.
    pub text: String,
    /// Time since the refusal.
    pub age: Duration,
    /// Time until these credentials may be tried again.
    pub left: Duration,
}

/// Formats a duration in a rounded form: `40 s`, `25 min`, `3 h`.
fn rounded(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

/// The right to try a login. Dropping it without a result leaves the result unknown.
#[derive(Debug)]
pub struct LoginAttempt {
    credentials: Credentials,
    place: String,
    _trying: Option<OwnedMutexGuard<()>>,
}

impl Credentials {
    /// Waits for the turn to log in at a server and port, for at most `patience`. Credentials that
    /// were rejected there less than `hold` ago are held back. (An access token is renewed
    /// instead.)
    ///
    /// # Errors
    /// [`HeldBack`] with the earlier refusal.
    pub async fn turn(
        &self,
        place: &str,
        hold: Duration,
        patience: Duration,
    ) -> Result<LoginAttempt, HeldBack> {
        let turns = &self.memory.turns;
        let is_known = turns
            .with(place, |known| known.accepted.as_ref().is_some_and(|secret| self.has(secret)));
        let mut guard = None;
        if !is_known && !self.is_token {
            let trying = turns.with(place, |known| known.trying.clone());
            // The first caller may wait for an unresponsive server; the others don't wait forever.
            guard = tokio::time::timeout(patience, trying.lock_owned()).await.ok();
        }
        let rejected = turns.with(place, |known| {
            let (secret, at, text) = known.rejected.as_ref()?;
            let age = at.elapsed();
            (self.has(secret) && age < hold).then(|| HeldBack {
                text: text.clone(),
                age,
                left: hold.saturating_sub(age),
            })
        });
        match rejected.filter(|_| !self.is_token) {
            Some(held_back) => Err(held_back),
            None => Ok(LoginAttempt {
                credentials: self.clone(),
                place: place.to_owned(),
                _trying: guard,
            }),
        }
    }

    fn has(&self, secret: &Secret) -> bool {
        self.secret.expose() == secret.expose()
    }
}

impl LoginAttempt {
    /// Records that the server accepted the credentials.
    pub fn accepted(self) {
        let secret = self.credentials.secret.clone();
        self.credentials.memory.turns.with(&self.place, |known| {
            known.accepted = Some(secret);
            known.rejected = None;
        });
    }

    /// Records the result of a login over SMTP: accepted, or refused for one of the `lasting`
    /// reasons.
    pub fn settle(self, result: &Result<(), SmtpError>, lasting: impl Fn(LoginRefusal) -> bool) {
        match result {
            Ok(()) => self.accepted(),
            Err(error) if error.reply.is_some() && lasting(LoginRefusal::read(&error.text)) => {
                self.refused(&error.text);
            }
            Err(_) => {}
        }
    }

    /// Records that the server refused the login for a reason that another attempt would not soon
    /// change.
    pub fn refused(self, text: &str) {
        let secret = self.credentials.secret.clone();
        self.credentials.memory.turns.with(&self.place, |known| {
            known.accepted = None;
            known.rejected = Some((secret, Instant::now(), text.to_owned()));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn rejected_credentials_are_held_back_for_all_who_share_the_account() {
        let memory = Arc::default();
        let credentials =
            |secret: &str| Credentials::password("u", Secret::new(secret)).remembering(&memory);
        let turn = async |secret: &str, place: &str, hold| {
            credentials(secret).turn(place, hold, HOLD).await
        };
        let first = turn("wrong", "a:993", HOLD).await.expect("nothing is known yet");
        first.refused("login refused: no");
        let held = turn("wrong", "a:993", HOLD).await.expect_err("held back");
        assert!(
            held.to_string().starts_with("login refused: no (seen 0 s ago; not tried again yet"),
            "{held}"
        );
        for (seconds, expected) in [(119, "119 s"), (1799, "29 min"), (8000, "2 h")] {
            assert_eq!(rounded(Duration::from_secs(seconds)), expected);
        }
        // Another password, another server and a later test are allowed.
        drop(turn("right", "a:993", HOLD).await.expect("another password"));
        drop(turn("wrong", "b:993", HOLD).await.expect("another server"));
        drop(turn("wrong", "a:993", Duration::ZERO).await.expect("a later test"));
        turn("wrong", "a:993", Duration::ZERO).await.expect("a turn").accepted();
        drop(turn("wrong", "a:993", HOLD).await.expect("the account was unlocked"));
    }

    #[tokio::test]
    async fn unknown_credentials_are_tried_one_at_a_time() {
        let credentials = Credentials::password("u", Secret::new("p")).remembering(&Arc::default());
        let first = credentials.turn("a:993", HOLD, HOLD).await.expect("a turn");
        let second = tokio::spawn({
            let credentials = credentials.clone();
            async move { credentials.turn("a:993", HOLD, HOLD).await.map(|_| ()) }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        first.refused("no");
        second.await.expect("a task").expect_err("held back");
        // Credentials with a known result don't have to wait.
        credentials.turn("b:993", HOLD, HOLD).await.expect("a turn").accepted();
        let _one = credentials.turn("b:993", HOLD, HOLD).await.expect("a turn");
        let _other = credentials.turn("b:993", HOLD, HOLD).await.expect("a turn");
    }

    #[tokio::test]
    async fn a_turn_held_forever_does_not_block_others_forever() {
        let credentials = Credentials::password("u", Secret::new("p")).remembering(&Arc::default());
        let _first = credentials.turn("a:993", HOLD, HOLD).await.expect("a turn");
        credentials.turn("a:993", HOLD, Duration::from_millis(5)).await.expect("a turn after all");
    }
}
