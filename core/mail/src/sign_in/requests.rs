//! Requests to the servers of a provider, and their answers.

use std::time::Duration;

use mailqos_base::{Secret, one_line};
use mailqos_net::http::{self, Place, Request};
use serde_json::{Map, Value};

use super::{Granted, SignIn, SignInError, identity::Identity, missing_scopes};
use crate::{oauth, token_response};

/// Deadline of a request.
const DEADLINE: Duration = Duration::from_secs(30);
/// The longest answer.
const MAX_ANSWER: usize = 256 * 1024;
/// Maximum lifetime of a sign-in; longer ones are shortened to it.
const MAX_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Percent-encodes a value of a form or a query.
pub(super) fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// Decodes a value of a query; wrong encodings stay as they are.
pub(super) fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match (byte, digits.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(value)) => {
                bytes.push(value);
                rest = &after[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = after;
            }
            _ => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An answer that refuses.
pub(super) struct Refusal {
    /// The error's name.
    pub(super) code: String,
    /// The server's text, in one line and without secrets.
    text: String,
}

impl Refusal {
    /// Returns whether the server ended the request only because there were too many.
    pub(super) fn is_loop(&self) -> bool {
        self.text.contains("AADSTS50196")
    }
}

impl From<Refusal> for SignInError {
    fn from(refusal: Refusal) -> Self {
        const NUMBERS: [(&str, &str); 8] = [
            (
                "AADSTS7000218",
                "the application is not a public client: in Microsoft Entra, open App registrations, Authentication, \
                 and allow public client flows",
            ),
            (
                "AADSTS50020",
                "this person's account is in another tenant; sign in with an account of this one",
            ),
            (
                "AADSTS90072",
                "this person's account is in another tenant; sign in with an account of this one",
            ),
            ("AADSTS50105", "this person is not assigned to the application"),
            ("AADSTS65004", "consent was refused"),
            ("AADSTS90094", "an administrator of the tenant must grant consent to the application"),
            (
                "AADSTS50199",
                "the tenant asks for confirmation in the browser; sign in again and confirm there",
            ),
            (
                "AADSTS70043",
                "a Conditional Access policy limits how long a sign-in lasts, and this one has ended",
            ),
        ];
        let known = NUMBERS.iter().find(|(number, _)| refusal.text.contains(number));
        let meaning = known.map(|(_, text)| *text).or_else(|| match refusal.code.as_str() {
            "invalid_grant" => {
                Some("the code is wrong, was used before, or has expired; start again")
            }
            "redirect_uri_mismatch" | "invalid_request" => None,
            code => oauth::meaning(code, &refusal.text),
        });
        let text = match (meaning, refusal.text.as_str()) {
            (Some(meaning), "") => meaning.to_owned(),
            (Some(meaning), said) => format!("{meaning}; the server reports: {said}"),
            (None, "") => "no reason given".to_owned(),
            (None, said) => said.to_owned(),
        };
        Self::Refused { code: refusal.code, text }
    }
}

/// The outcome of a request that was answered.
pub(super) type Answer = Result<Map<String, Value>, Refusal>;

impl SignIn {
    /// Sends a form with the client's id and secret.
    pub(super) async fn post(
        &self,
        url: &str,
        form: &[(&str, &str)],
        secrets: &[&Secret],
    ) -> Result<Answer, SignInError> {
        let mut pairs = vec![("client_id", self.client_id.as_str())];
        pairs.extend_from_slice(form);
        if let Some(secret) = &self.client_secret {
            pairs.push(("client_secret", secret.expose()));
        }
        let body: Vec<String> =
            pairs.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let request = Request {
            method: "POST".to_owned(),
            url: Secret::new(url),
            headers: vec![
                ("content-type".to_owned(), Secret::new("application/x-www-form-urlencoded")),
                ("accept".to_owned(), Secret::new("application/json")),
            ],
            body: body.join("&").into_bytes(),
            via: self.route.clone(),
        };
        let secrets: Vec<Secret> =
            secrets.iter().copied().chain(&self.client_secret).cloned().collect();
        self.answer(&request, &secrets).await
    }

    async fn answer(&self, request: &Request, secrets: &[Secret]) -> Result<Answer, SignInError> {
        let server = Place::parse(request.url.expose())?.server();
        let response = http::send(request, &self.trust, DEADLINE, MAX_ANSWER).await?;
        if response.truncated {
            let reason = format!("longer than {MAX_ANSWER} bytes");
            return Err(SignInError::Unreadable { server, reason });
        }
        let (status, body) = token_response::regular(response.status, response.body);
        // The content is not quoted: it may contain tokens.
        let unreadable = || SignInError::Unreadable {
            server: server.clone(),
            reason: format!("HTTP {status}, {} bytes that are not JSON", body.len()),
        };
        let Ok(Value::Object(fields)) = serde_json::from_slice(&body) else {
            return Err(unreadable());
        };
        let word = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
        if (200..300).contains(&status) && !fields.contains_key("error") {
            return Ok(Ok(fields));
        }
        match word("error") {
            "" => Err(unreadable()),
            code => Ok(Err(Refusal {
                code: one_line(code, secrets),
                text: one_line(word("error_description"), secrets),
            })),
        }
    }

    /// Fetches a JSON document without any secret in it.
    pub(super) async fn document(&self, url: &str) -> Result<Map<String, Value>, SignInError> {
        let request = Request {
            method: "GET".to_owned(),
            url: Secret::new(url),
            headers: Vec::new(),
            body: Vec::new(),
            via: self.route.clone(),
        };
        self.answer(&request, &[]).await?.map_err(SignInError::from)
    }

    /// Reads the tokens of an answer, and checks who signed in and what was granted.
    pub(super) async fn granted(
        &self,
        fields: &Map<String, Value>,
    ) -> Result<Granted, SignInError> {
        let word = |name: &str| fields.get(name).and_then(Value::as_str);
        if let Some(scope) = word("scope") {
            let missing = missing_scopes(&self.scope, scope);
            if !missing.is_empty() {
                return Err(SignInError::MissingScope(missing.join(", ")));
            }
        }
        let refresh_token = word("refresh_token").ok_or(SignInError::NoRefreshToken)?;
        let identity = match word("id_token") {
            Some(token) => Some(Identity::read(token, &self.client_id)?),
            None => None,
        };
        if let Some(identity) = &identity {
            self.check_issuer(identity).await?;
        }
        Ok(Granted {
            refresh_token: Secret::new(refresh_token),
            identity,
            lifetime: lifetime(fields),
        })
    }

    /// Compares the tenant that signed the person in with that of the token server (OpenID Connect
    /// Discovery 1.0, section 3: `issuer`).
    async fn check_issuer(&self, identity: &Identity) -> Result<(), SignInError> {
        let Some(authority) = self.token_url.strip_suffix(super::ENTRA_TOKEN) else {
            return Ok(());
        };
        // Authorities of several tenants have no own issuer.
        if ["/common", "/organizations", "/consumers"].iter().any(|end| authority.ends_with(end)) {
            return Ok(());
        }
        let url = format!("{authority}/v2.0/.well-known/openid-configuration");
        let document = self.document(&url).await?;
        let issuer = document.get("issuer").and_then(Value::as_str).unwrap_or_default();
        if issuer == identity.issuer {
            return Ok(());
        }
        Err(SignInError::Identity(
            "the sign-in is one of another tenant than the account's; sign in with an account of this \
             tenant, or correct \"tenant\""
                .to_owned(),
        ))
    }
}

/// How long the sign-in stays valid. Google states it for access of limited time, and for
/// applications in testing; Keycloak calls it `refresh_expires_in`, with 0 for no end.
pub(crate) fn lifetime(fields: &Map<String, Value>) -> Option<Duration> {
    let names = ["refresh_token_expires_in", "refresh_expires_in"];
    let seconds = names.iter().find_map(|name| match fields.get(*name)? {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    })?;
    let lifetime = Duration::try_from_secs_f64(seconds).ok()?;
    (!lifetime.is_zero()).then(|| lifetime.min(MAX_LIFETIME))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(json: serde_json::Value) -> Option<u64> {
        lifetime(json.as_object().expect("an object")).map(|lifetime| lifetime.as_secs())
    }

    #[test]
    fn the_life_of_a_sign_in_is_read_from_what_servers_send() {
        let json = |text: &str| serde_json::from_str(text).expect("JSON");
        assert_eq!(seconds(json("{\"refresh_token_expires_in\": 604799}")), Some(604_799));
        assert_eq!(seconds(json("{\"refresh_token_expires_in\": \"604799\"}")), Some(604_799));
        assert_eq!(seconds(json("{\"refresh_expires_in\": 1800}")), Some(1800));
        for text in [
            "{}",
            "{\"refresh_expires_in\": 0}",
            "{\"refresh_token_expires_in\": -1}",
            "{\"refresh_token_expires_in\": null}",
            "{\"refresh_token_expires_in\": \"soon\"}",
        ] {
            assert_eq!(seconds(json(text)), None, "{text}");
        }
        let most = seconds(json("{\"refresh_token_expires_in\": 1e300}"));
        assert!(most.is_none_or(|most| most <= MAX_LIFETIME.as_secs()));
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(text in "\\PC{0,20}") {
            prop_assert_eq!(decoded(&encoded(&text)), text);
        }

        #[test]
        fn anything_is_decoded(text in "[%+a-f0-9é]{0,20}") {
            decoded(&text);
        }
    }
}
