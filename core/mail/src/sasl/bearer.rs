//! OAUTHBEARER (RFC 7628) and XOAUTH2: login with an OAuth 2.0 access token instead of a password.
//!
//! A server that refuses sends the reason in a challenge. The client must respond to it before the
//! server sends its final reply.

use mailqos_base::{Secret, one_line};

use super::Mechanism;

/// State of the dialogue.
#[derive(Default)]
pub(super) struct Bearer {
    complaint: Option<String>,
}

/// Returns the initial response.
pub(super) fn initial(mechanism: Mechanism, user: &str, token: &Secret) -> Secret {
    let token = token.expose();
    Secret::new(if mechanism == Mechanism::XOAuth2 {
        format!("user={user}\x01auth=Bearer {token}\x01\x01")
    } else {
        // RFC 5801, section 4: in a name, `=` and `,` are written as follows.
        let user = user.replace('=', "=3D").replace(',', "=2C");
        format!("n,a={user},\x01auth=Bearer {token}\x01\x01")
    })
}

impl Bearer {
    /// Returns the response to the server's error message, after which it sends its final reply.
    pub(super) fn answer(
        &mut self,
        mechanism: Mechanism,
        challenge: &[u8],
        token: &Secret,
    ) -> Secret {
        self.complaint = Some(read(challenge, token));
        // RFC 7628, section 3.2.3: a single 0x01.
        Secret::new(if mechanism == Mechanism::OAuthBearer { "\x01" } else { "" })
    }

    pub(super) fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }
}

/// Returns the server's reason from a JSON object whose parts are all optional. The token is
/// removed in case the server repeats it.
fn read(challenge: &[u8], token: &Secret) -> String {
    let without_token = |text: &str| one_line(text, std::slice::from_ref(token));
    let Ok(serde_json::Value::Object(members)) = serde_json::from_slice(challenge) else {
        let text = without_token(&String::from_utf8_lossy(challenge));
        return if text.is_empty() {
            "the token was rejected".to_owned()
        } else {
            format!("the token was rejected: {text}")
        };
    };
    let member = |name: &str| match members.get(name)? {
        serde_json::Value::String(text) => Some(without_token(text)),
        number @ serde_json::Value::Number(_) => Some(number.to_string()),
        _ => None,
    };
    let status = member("status").unwrap_or_default();
    let mut text = match status.as_str() {
        "invalid_token" | "401" => "the token was rejected".to_owned(),
        "insufficient_scope" | "403" => {
            "the token was rejected: its scope does not cover this".to_owned()
        }
        "invalid_request" | "400" => "the server could not use the token".to_owned(),
        "" => "the token was rejected".to_owned(),
        other => format!("the token was rejected: {other}"),
    };
    if !status.is_empty() && status.bytes().all(|byte| byte.is_ascii_digit()) {
        text += &format!(" (status {status})");
    }
    if let Some(scope) = member("scope").filter(|scope| !scope.is_empty()) {
        text += &format!("; the server requires the scope {scope}");
    }
    one_line(&text, &[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Credentials;

    #[test]
    fn both_forms_match_their_specifications() {
        let token = Secret::new("vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==");
        assert_eq!(
            // RFC 7628, section 4.1, without host and port, which are optional.
            initial(Mechanism::OAuthBearer, "user@example.com", &token).expose(),
            "n,a=user@example.com,\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01"
        );
        let token = Secret::new("ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg");
        assert_eq!(
            // Google's documentation of XOAUTH2.
            super::super::encode(&initial(Mechanism::XOAuth2, "someuser@example.com", &token)),
            "dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB5YTI5LnZGOWRmdDRxbVRjMk52YjNSbGNrQmhkSFJoZG1semRHRXVZMjl0Q2cBAQ=="
        );
    }

    #[test]
    fn an_error_challenge_is_answered_and_explained() {
        for (mechanism, answer) in [(Mechanism::OAuthBearer, "\x01"), (Mechanism::XOAuth2, "")] {
            let mut dialogue = crate::sasl::Dialogue::begin(
                mechanism,
                &Credentials::token("u", Secret::new("ya29.vF9df")),
            );
            dialogue.initial();
            let complaint =
                br#"{"status":"401","schemes":"bearer mac","scope":"https://mail.google.com/"}"#;
            assert_eq!(dialogue.answer(complaint).expect("an answer").expose(), answer);
            assert_eq!(
                dialogue.complaint(),
                Some(
                    "the token was rejected (status 401); the server requires the scope \
                    https://mail.google.com/"
                )
            );
            assert!(dialogue.answer(b"").is_err(), "the server has had its say");
        }
        for (challenge, expected) in [
            (&b"{\"status\":\"invalid_token\"}"[..], "the token was rejected"),
            (b"", "the token was rejected"),
            (b"no\r\njson", "the token was rejected: no json"),
            (b"{\"status\":400}", "the server could not use the token (status 400)"),
            (b"ya29.vF9df is none", "the token was rejected: (secret) is none"),
            (
                b"{\"status\":\"ya29.vF9df\",\"scope\":\"for ya29.vF9df\"}",
                "the token was rejected: (secret); the server requires the scope for (secret)",
            ),
        ] {
            assert_eq!(read(challenge, &Secret::new("ya29.vF9df")), expected);
        }
    }
}
