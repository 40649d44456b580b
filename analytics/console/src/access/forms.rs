//! Tokens of forms before anyone is signed in: derived from a cookie and a secret of the running
//! program, so that nothing has to be remembered per visitor.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;
use subtle::ConstantTimeEq as _;

use super::{NoRandomness, fingerprint, random_text};

/// Secret from which the tokens are derived.
pub(crate) struct FormSecret(String);

impl FormSecret {
    /// Returns a new secret.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub(crate) fn new() -> Result<Self, NoRandomness> {
        random_text().map(Self)
    }

    /// Returns the token for a visitor's cookie.
    pub(crate) fn token(&self, cookie: &str) -> String {
        // Secret and cookie have fixed lengths and alphabets.
        fingerprint(&format!("{}{cookie}", self.0))
    }

    /// Returns the proof that this program wrote a text into a cookie.
    pub(crate) fn seal(&self, text: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.as_bytes());
        URL_SAFE_NO_PAD.encode(hmac::sign(&key, text.as_bytes()))
    }

    /// Whether a form contains the token for the visitor's cookie.
    pub(crate) fn matches(&self, cookie: &str, token: &str) -> bool {
        is_cookie(cookie) && equal(&self.token(cookie), token)
    }
}

/// Whether a text can be the cookie of a visitor.
pub(crate) fn is_cookie(text: &str) -> bool {
    text.len() == 43 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}

/// Compares two secrets in constant time.
pub(crate) fn equal(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_belongs_to_its_cookie() {
        let secret = FormSecret::new().expect("random numbers");
        let (one, other) = (random_text().expect("text"), random_text().expect("text"));
        assert!(secret.matches(&one, &secret.token(&one)));
        assert!(!secret.matches(&one, &secret.token(&other)));
        assert!(!secret.matches("", &secret.token("")));
        let restarted = FormSecret::new().expect("random numbers");
        assert!(!restarted.matches(&one, &secret.token(&one)));
    }
}
