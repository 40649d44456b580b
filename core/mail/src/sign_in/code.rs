//! Sign-in by authorisation code with PKCE (RFC 6749, section 4.1; RFC 7636).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mailqos_base::{Secret, one_line};
use mailqos_net::http::Place;
use sha2::{Digest as _, Sha256};

use super::{
    Granted, SignIn, SignInError,
    requests::{decoded, encoded},
};

/// The longest code that is accepted.
const MAX_CODE: usize = 8 * 1024;

/// Google's server for sign-ins with a browser.
const GOOGLE: &str = "accounts.google.com";

/// A sign-in that a person completes in a browser.
#[derive(Debug, Clone)]
pub struct Authorization {
    /// The address to open.
    pub address: String,
    redirect: String,
    state: Secret,
    verifier: Secret,
}

/// Returns random text of 43 characters (RFC 7636, section 4.1).
fn random() -> Result<String, SignInError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| {
        SignInError::System(format!("the system provides no random numbers: {error}"))
    })?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

impl SignIn {
    /// The host to which the browser returns. Microsoft ignores the port only of `localhost`
    /// (learn.microsoft.com/entra/identity-platform/reply-url); others want the address itself
    /// (RFC 8252, section 8.3).
    fn redirect_host(&self) -> &'static str {
        if self.is_microsoft() { "localhost" } else { "127.0.0.1" }
    }

    /// Prepares a sign-in that returns to this port of the loopback interface.
    ///
    /// # Errors
    /// The address of the provider is not known.
    pub fn authorization(&self, port: u16) -> Result<Authorization, SignInError> {
        let base = self.authorize_url.as_deref().ok_or(SignInError::NoAddress("authorize_url"))?;
        let (state, verifier) = (random()?, random()?);
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&verifier));
        let redirect = format!("http://{}:{port}/", self.redirect_host());
        let mut pairs = vec![
            ("response_type", "code"),
            ("client_id", &self.client_id),
            ("redirect_uri", &redirect),
            ("scope", &self.scope),
            ("state", &state),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        if Place::parse(base).is_ok_and(|place| place.host == GOOGLE) {
            // Without them, Google issues a refresh token at the first sign-in only
            // (google/gmail-oauth2-tools#61, pdobsan/oama#36). Some other providers refuse unknown
            // parameters.
            pairs.extend([("access_type", "offline"), ("prompt", "consent")]);
        }
        let query: Vec<String> =
            pairs.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let separator = if base.contains('?') { '&' } else { '?' };
        Ok(Authorization {
            address: format!("{base}{separator}{}", query.join("&")),
            redirect,
            state: Secret::new(state),
            verifier: Secret::new(verifier),
        })
    }

    /// Exchanges a code for tokens.
    ///
    /// # Errors
    /// The provider refuses, or another person or tenant signed in.
    pub async fn exchange(
        &self,
        authorization: &Authorization,
        code: &Secret,
    ) -> Result<Granted, SignInError> {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code.expose()),
            ("redirect_uri", authorization.redirect.as_str()),
            ("code_verifier", authorization.verifier.expose()),
        ];
        let secrets = [code, &authorization.verifier];
        let fields = self.post(&self.token_url, &form, &secrets).await??;
        self.granted(&fields).await
    }
}

impl Authorization {
    /// Reads the code from the query of a redirect.
    ///
    /// # Errors
    /// The redirect belongs to another sign-in, or refuses.
    pub(super) fn code(&self, query: &str) -> Result<Secret, SignInError> {
        let field = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| decoded(value))
        };
        // An answer without the state of this sign-in is not an answer to it, whatever it says
        // (RFC 6749, section 10.12).
        if field("state").as_deref() != Some(self.state.expose()) {
            return Err(SignInError::OtherState);
        }
        if let Some(code) = field("error") {
            let text = one_line(&field("error_description").unwrap_or_default(), &[]);
            return Err(match code.as_str() {
                "access_denied" => SignInError::Declined,
                _ => SignInError::Refused { code: one_line(&code, &[]), text },
            });
        }
        match field("code") {
            Some(code) if !code.is_empty() => Ok(Secret::new(code)),
            _ => Err(SignInError::NotACode),
        }
    }
}

/// Reads what a person pasted: the address that the browser shows at the end, or the code alone. A
/// code alone is bound to this sign-in by PKCE.
///
/// # Errors
/// It is neither, or belongs to another sign-in.
pub fn pasted_code(text: &str, authorization: &Authorization) -> Result<Secret, SignInError> {
    let text = text.trim();
    if text.is_empty() || text.len() > MAX_CODE || text.contains(char::is_whitespace) {
        return Err(SignInError::NotACode);
    }
    match text.split_once('?') {
        Some((_, query)) => authorization.code(query.split('#').next().unwrap_or(query)),
        None if text.contains("://") => Err(SignInError::NotACode),
        None => Ok(Secret::new(if text.contains('%') { decoded(text) } else { text.to_owned() })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authorization() -> Authorization {
        Authorization {
            address: String::new(),
            redirect: "http://127.0.0.1:1/".to_owned(),
            state: Secret::new("s-1"),
            verifier: Secret::new("v"),
        }
    }

    #[test]
    fn a_pasted_address_must_belong_to_the_sign_in() {
        let code =
            |text: &str| pasted_code(text, &authorization()).map(|code| code.expose().to_owned());
        for (text, expected) in [
            ("http://127.0.0.1:1/?state=s-1&code=4%2F0Ab&scope=x#", "4/0Ab"),
            (" http://localhost:1/?code=c&state=s-1&session_state=y\n", "c"),
            ("4/0Ab", "4/0Ab"),
            ("4%2F0Ab", "4/0Ab"),
        ] {
            assert_eq!(code(text).expect(text), expected);
        }
        let error = |text: &str| code(text).expect_err(text);
        assert!(matches!(error("http://127.0.0.1:1/?code=c&state=s-2"), SignInError::OtherState));
        assert!(matches!(error("http://127.0.0.1:1/?code=c"), SignInError::OtherState));
        let denied = "http://127.0.0.1:1/?error=access_denied&state=s-1";
        assert!(matches!(error(denied), SignInError::Declined));
        // A stranger can't end a sign-in with an error.
        assert!(matches!(
            error("http://127.0.0.1:1/?error=access_denied"),
            SignInError::OtherState
        ));
        for text in ["", "  ", "a b", "https://example.com/", &"x".repeat(9000)] {
            assert!(matches!(error(text), SignInError::NotACode), "{text}");
        }
    }

    #[test]
    fn the_address_has_a_challenge_and_no_secret() {
        let of = |authorize: &str, token: &str| {
            let sign_in = SignIn {
                client_id: "client".to_owned(),
                client_secret: Some(Secret::new("hunter2")),
                scope: "https://mail.google.com/ openid".to_owned(),
                token_url: token.to_owned(),
                authorize_url: Some(authorize.to_owned()),
                device_url: None,
                trust: mailqos_net::Trust::default(),
                route: mailqos_net::http::Route::Direct,
            };
            sign_in.authorization(4711).expect("an address")
        };
        let google = of(
            "https://accounts.google.com/o/oauth2/v2/auth",
            "https://oauth2.googleapis.com/token",
        );
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(google.verifier.expose()));
        for part in [
            "redirect_uri=http%3A%2F%2F127.0.0.1%3A4711%2F&",
            "scope=https%3A%2F%2Fmail.google.com%2F%20openid&",
            "access_type=offline&prompt=consent",
            &format!("code_challenge={challenge}&"),
        ] {
            assert!(google.address.contains(part), "no {part} in {}", google.address);
        }
        assert!(!google.address.contains(google.verifier.expose()));
        let entra = "https://login.microsoftonline.com/t/oauth2/v2.0";
        let entra = of(&format!("{entra}/authorize?domain_hint=x"), &format!("{entra}/token"));
        assert!(entra.address.contains("?domain_hint=x&response_type=code&"), "{}", entra.address);
        assert!(entra.address.contains("redirect_uri=http%3A%2F%2Flocalhost%3A4711%2F&"));
        for authorization in [&google, &entra] {
            assert!(!authorization.address.contains("hunter2"));
        }
        assert!(!entra.address.contains("prompt=") && google.state != entra.state);
    }
}
