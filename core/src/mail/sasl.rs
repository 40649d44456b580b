//! SASL mechanisms (RFC 4422), for SMTP, POP3 and IMAP alike.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::Secret;

/// Who logs in.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The name.
    pub user: String,
    /// The password.
    pub secret: Secret,
}

/// A way to prove who one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// draft-murchison-sasl-login: obsolete, but some servers offer nothing else.
    Login,
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
        })
    }
}

/// The mechanisms that both sides have, the best first. `offered` is in capitals.
pub fn choose(offered: &[String], _credentials: &Credentials) -> Vec<Mechanism> {
    [Mechanism::Plain, Mechanism::Login]
        .into_iter()
        .filter(|mechanism| offered.iter().any(|name| *name == mechanism.to_string()))
        .collect()
}

impl Mechanism {
    /// Begins the dialogue.
    pub fn begin(self, credentials: &Credentials) -> Dialogue {
        Dialogue {
            mechanism: self,
            credentials: credentials.clone(),
            step: 0,
        }
    }
}

/// What this end says in the course of an authentication.
pub struct Dialogue {
    mechanism: Mechanism,
    credentials: Credentials,
    step: usize,
}

impl Dialogue {
    /// What is said before the server asks anything, where the mechanism has that.
    pub fn initial(&mut self) -> Option<Secret> {
        match self.mechanism {
            Mechanism::Plain => Some(self.plain()),
            Mechanism::Login => None,
        }
    }

    fn plain(&self) -> Secret {
        Secret::new(format!(
            "\0{}\0{}",
            self.credentials.user,
            self.credentials.secret.expose()
        ))
    }

    /// The answer to a challenge.
    ///
    /// # Errors
    /// When the server asks what the mechanism does not have.
    pub fn answer(&mut self, _challenge: &[u8]) -> Result<Secret, String> {
        self.step += 1;
        match (self.mechanism, self.step) {
            // Servers without an initial response ask with an empty challenge.
            (Mechanism::Plain, 1) => Ok(self.plain()),
            // The words of the challenge vary ("Username:", "User Name", translations); their order does not.
            (Mechanism::Login, 1) => Ok(Secret::new(self.credentials.user.clone())),
            (Mechanism::Login, 2) => Ok(self.credentials.secret.clone()),
            _ => Err(format!("the server asks for more than {} has", self.mechanism)),
        }
    }

    /// Checks, when the server says yes, that it proved what the mechanism has it prove.
    ///
    /// # Errors
    /// When it did not.
    pub fn finish(&self) -> Result<(), String> {
        Ok(())
    }
}

/// In Base64, as it goes over the connection; `=` for an empty text (RFC 4954, section 4).
pub fn encode(text: &Secret) -> String {
    if text.expose().is_empty() {
        "=".to_owned()
    } else {
        STANDARD.encode(text.expose())
    }
}

/// A challenge.
///
/// # Errors
/// When it is no Base64.
pub fn decode(challenge: &str) -> Result<Vec<u8>, String> {
    // Some servers write the challenge of a mechanism that has none as words.
    if challenge.is_empty() || challenge == "=" {
        return Ok(Vec::new());
    }
    STANDARD
        .decode(challenge.trim())
        .map_err(|_| "the server's challenge is no Base64".to_owned())
}
