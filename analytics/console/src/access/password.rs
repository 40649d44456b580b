//! Passwords: rules, and hashes by Argon2id (RFC 9106) in the PHC string format.

use std::sync::{Condvar, Mutex};

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use mailqos_base::lock::IgnorePoison as _;
use subtle::ConstantTimeEq as _;

use super::NoRandomness;

/// Memory in KiB, passes and lanes: the recommendation of the OWASP Password Storage Cheat Sheet.
const MEMORY: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Length of hashes, in bytes.
const HASH: usize = 32;
/// Length of salts, in bytes (RFC 9106, section 3.1).
const SALT: usize = 16;
/// Length of passwords, in characters: the minimum of NIST SP 800-63B for a single factor is 15 from
/// revision 4 on, and 8 before.
pub(crate) const MIN_PASSWORD: usize = 12;
/// Length of passwords, in bytes.
pub(crate) const MAX_PASSWORD: usize = 1_024;
/// How many hashes are computed at the same time, so that sign-ins take at most 40 MB.
const MAX_HASHES: usize = 2;
/// Largest memory of a stored hash that is verified, in KiB.
const MAX_MEMORY: u32 = 1 << 20;

/// Reasons why a password is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WeakPassword {
    /// Shorter than [`MIN_PASSWORD`].
    TooShort,
    /// Longer than [`MAX_PASSWORD`].
    TooLong,
    /// One of the first that an attacker tries.
    Guessable,
}

impl WeakPassword {
    /// Returns the message, in English.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::TooShort => "The password is too short: use at least 12 characters.",
            Self::TooLong => "The password is too long.",
            Self::Guessable => "The password is easy to guess: use several unrelated words.",
        }
    }
}

/// Checks a new password of a user.
///
/// # Errors
/// The reason why it is not accepted.
pub(crate) fn check(password: &str, user: &str) -> Result<(), WeakPassword> {
    const COMMON: [&str; 6] = ["password", "passwort", "lösenord", "mailqos", "qwerty", "12345"];
    if password.chars().count() < MIN_PASSWORD {
        return Err(WeakPassword::TooShort);
    }
    if password.len() > MAX_PASSWORD {
        return Err(WeakPassword::TooLong);
    }
    let mut rest = password.to_lowercase();
    let user = user.to_lowercase();
    for word in COMMON.into_iter().chain([user.as_str()]) {
        rest = rest.replace(word, "");
    }
    let mut letters: Vec<char> = rest.chars().filter(|c| c.is_alphabetic()).collect();
    letters.extend(rest.chars().filter(|c| !c.is_alphanumeric()));
    let digits = rest.chars().filter(char::is_ascii_digit).count();
    let mut distinct: Vec<char> = rest.chars().collect();
    distinct.sort_unstable();
    distinct.dedup();
    let is_long = rest.chars().count() >= 6 && letters.len() + digits / 2 >= 4;
    if !is_long || distinct.len() < 5 {
        return Err(WeakPassword::Guessable);
    }
    Ok(())
}

/// Limits how many hashes are computed at the same time.
struct Gate {
    running: Mutex<usize>,
    freed: Condvar,
}

static GATE: Gate = Gate { running: Mutex::new(0), freed: Condvar::new() };

/// A place in the gate, freed when dropped.
struct Place;

impl Place {
    fn take() -> Self {
        let mut running = GATE.running.lock().ignore_poison();
        while *running >= MAX_HASHES {
            running = GATE.freed.wait(running).ignore_poison();
        }
        *running += 1;
        Self
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *GATE.running.lock().ignore_poison() -= 1;
        GATE.freed.notify_one();
    }
}

/// Computes a hash of [`HASH`] bytes.
fn compute(password: &str, salt: &[u8], params: Params) -> Option<[u8; HASH]> {
    let _place = Place::take();
    let mut blocks = vec![Block::default(); params.block_count()];
    let mut hash = [0; HASH];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(password.as_bytes(), salt, &mut hash, &mut blocks)
        .ok()?;
    Some(hash)
}

/// Returns the hash of a new password, `$argon2id$v=19$m=…,t=…,p=…$SALT$HASH`.
///
/// # Errors
/// The system has no random numbers.
pub(crate) fn hash(password: &str) -> Result<String, NoRandomness> {
    let mut salt = [0; SALT];
    getrandom::fill(&mut salt).map_err(NoRandomness)?;
    let params = Params::new(MEMORY, PASSES, LANES, Some(HASH)).unwrap_or_default();
    let hash = compute(password, &salt, params).unwrap_or_default();
    Ok(format!(
        "$argon2id$v=19$m={MEMORY},t={PASSES},p={LANES}${}${}",
        STANDARD_NO_PAD.encode(salt),
        STANDARD_NO_PAD.encode(hash)
    ))
}

/// Returns whether a password has this hash. Takes as long for a user without a hash, so that the
/// time does not reveal which users exist.
pub(crate) fn verify(password: &str, hash: Option<&str>) -> bool {
    if password.len() > MAX_PASSWORD {
        return false;
    }
    let stored = hash.and_then(parse);
    let Some((params, salt, expected)) = stored else {
        let usual = Params::new(MEMORY, PASSES, LANES, Some(HASH)).unwrap_or_default();
        let _ = compute(password, &[0; SALT], usual);
        return false;
    };
    compute(password, &salt, params).is_some_and(|hash| hash.ct_eq(&expected).into())
}

fn parse(text: &str) -> Option<(Params, Vec<u8>, [u8; HASH])> {
    let rest = text.strip_prefix("$argon2id$v=19$")?;
    let mut parts = rest.split('$');
    let (numbers, salt, hash) = (parts.next()?, parts.next()?, parts.next()?);
    let mut numbers = numbers.split(',');
    let mut number = |key: &str| numbers.next()?.strip_prefix(key)?.parse::<u32>().ok();
    let (memory, passes, lanes) = (number("m=")?, number("t=")?, number("p=")?);
    if memory > MAX_MEMORY || passes > 16 || lanes > 16 {
        return None;
    }
    let params = Params::new(memory, passes, lanes, Some(HASH)).ok()?;
    let hash = STANDARD_NO_PAD.decode(hash).ok()?.try_into().ok()?;
    Some((params, STANDARD_NO_PAD.decode(salt).ok()?, hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_verified_by_its_hash_only() {
        let stored = hash("correct horse battery").expect("random numbers");
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert!(!stored.contains("horse"));
        assert_ne!(stored, hash("correct horse battery").expect("another salt"));
        assert!(verify("correct horse battery", Some(&stored)));
        assert!(!verify("correct horse batterz", Some(&stored)));
        assert!(!verify("correct horse battery", None));
        for broken in ["", "$argon2id$", "$argon2id$v=19$m=99999999,t=2,p=1$AAAA$AAAA", "plain"] {
            assert!(!verify("plain", Some(broken)), "{broken}");
        }
    }

    #[test]
    fn weak_passwords_are_refused_with_their_reason() {
        for (password, reason) in [
            ("short", Err(WeakPassword::TooShort)),
            ("passwordpassword", Err(WeakPassword::Guessable)),
            ("anna12345678", Err(WeakPassword::Guessable)),
            ("aaaaaaaaaaaaaaaa", Err(WeakPassword::Guessable)),
            ("mailqos-mailqos", Err(WeakPassword::Guessable)),
            (&"ab c".repeat(300), Err(WeakPassword::TooLong)),
            ("correct horse battery", Ok(())),
            ("Svårt lösenord på svenska", Ok(())),
        ] {
            assert_eq!(check(password, "anna"), reason, "{password}");
        }
    }
}
