//! Who signed in, as the provider states it in an ID token (OpenID Connect Core 1.0). It comes
//! directly from the token server over TLS, so its signature needs no validation (section 3.1.3.7,
//! item 6); the other rules of that section are checked.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mailqos_base::one_line;
use mailqos_model::UtcMicros;
use serde_json::{Map, Value};

use super::SignInError;

/// Tolerated difference of clocks, in seconds.
const MAX_CLOCK_ERROR: f64 = 300.0;

/// A person who signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Mail address or user name, if stated.
    pub user: Option<String>,
    /// Issuer of the statement.
    pub(super) issuer: String,
}

/// How a person relates to the user of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// It is the user.
    Same,
    /// It is someone else, who may have access to a shared mailbox.
    Other(String),
    /// The provider does not state it.
    Unknown,
}

impl Identity {
    /// Reads an ID token.
    ///
    /// # Errors
    /// It is not one, not for this client, or expired.
    pub(super) fn read(token: &str, client_id: &str) -> Result<Self, SignInError> {
        let wrong =
            |reason: &str| SignInError::Identity(format!("the provider's ID token {reason}"));
        let payload = token.split('.').nth(1).unwrap_or_default().trim_end_matches('=');
        let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| wrong("is not valid"))?;
        let claims: Map<String, Value> =
            serde_json::from_slice(&payload).map_err(|_| wrong("is not valid"))?;
        let word =
            |name: &str| claims.get(name).and_then(Value::as_str).filter(|word| !word.is_empty());
        let is_ours = match claims.get("aud") {
            Some(Value::String(audience)) => audience == client_id,
            Some(Value::Array(audiences)) => audiences.iter().any(|known| known == client_id),
            _ => false,
        };
        if !is_ours {
            return Err(wrong("is for another application"));
        }
        let now = UtcMicros::now().0 as f64 / 1e6;
        let expires = claims.get("exp").and_then(Value::as_f64).unwrap_or(0.0);
        if expires + MAX_CLOCK_ERROR < now {
            return Err(wrong("has expired; check the clock of this machine"));
        }
        let user = word("preferred_username").or_else(|| word("upn")).or_else(|| word("email"));
        Ok(Self {
            user: user.map(|user| one_line(user, &[])),
            issuer: word("iss").unwrap_or_default().to_owned(),
        })
    }

    /// Compares with the user of an account.
    pub fn matches(identity: Option<&Self>, user: &str) -> Match {
        match identity.and_then(|identity| identity.user.as_deref()) {
            Some(name) if name.eq_ignore_ascii_case(user) => Match::Same,
            Some(name) => Match::Other(name.to_owned()),
            None => Match::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token(claims: &str) -> String {
        format!("e30.{}.", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn id_tokens_of_others_are_refused() {
        let good = "{\"aud\":\"me\",\"exp\":4000000000,\"iss\":\"https://i\",\"preferred_username\":\"Anna@x.example\"}";
        let anna = Identity::read(&token(good), "me").expect("an identity");
        assert_eq!(Identity::matches(Some(&anna), "anna@X.example"), Match::Same);
        let other = Match::Other("Anna@x.example".to_owned());
        assert_eq!(Identity::matches(Some(&anna), "shared@x.example"), other);
        assert_eq!(Identity::matches(None, "anna@x.example"), Match::Unknown);
        let list = good.replace("\"me\"", "[\"you\",\"me\"]");
        assert!(Identity::read(&token(&list), "me").is_ok());
        for (claims, expected) in [
            (good.replace("\"me\"", "\"you\""), "another application"),
            (good.replace("4000000000", "1000000000"), "expired"),
            (good.replace("\"exp\"", "\"x\""), "expired"),
            ("{}".to_owned(), "another application"),
            ("[]".to_owned(), "not valid"),
        ] {
            let error = Identity::read(&token(&claims), "me").expect_err(expected).to_string();
            assert!(error.contains(expected), "{claims}: {error}");
        }
        for text in ["", "a", "a.b.c", "..", "é.é.é"] {
            assert!(Identity::read(text, "me").is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_token_is_read_or_refused(text in "\\PC{0,40}", claims in "[\\{\\}\"a-z:,0-9]{0,30}") {
            let _ = Identity::read(&text, "me");
            let _ = Identity::read(&token(&claims), "me");
        }
    }
}
