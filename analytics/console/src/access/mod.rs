//! Access control: users and their roles, passwords, sessions, API tokens, one-time links, and the
//! throttling of sign-ins.

pub(crate) mod forms;
pub(crate) mod links;
pub(crate) mod password;
pub(crate) mod sessions;
pub(crate) mod shared;
pub(crate) mod throttle;
pub(crate) mod users;
pub(crate) mod viewer;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mailqos_base::hex;
use sha2::{Digest as _, Sha256};

/// Bytes of random identifiers: of sessions, tokens and links.
const RANDOM_BYTES: usize = 32;

/// The operating system has no random numbers.
#[derive(Debug, thiserror::Error)]
#[error("the system provides no random numbers: {0}")]
pub(crate) struct NoRandomness(pub(crate) getrandom::Error);

/// Returns an unguessable text of letters, digits, `-` and `_`.
pub(crate) fn random_text() -> Result<String, NoRandomness> {
    let mut bytes = [0; RANDOM_BYTES];
    getrandom::fill(&mut bytes).map_err(NoRandomness)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Returns the hash under which a random text is stored. A fast hash suffices for 256 random bits.
pub(crate) fn fingerprint(text: &str) -> String {
    hex(&Sha256::digest(text))
}
