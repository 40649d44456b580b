//! SASL mechanisms (RFC 4422) for SMTP, POP3 and IMAP.

mod bearer;
mod exchange;
mod scram;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bearer::Bearer;
pub use exchange::{Answer, AuthenticationResult, Channel, authenticate};
use mailqos_base::Secret;
use mailqos_base::lock::IgnorePoison as _;
use mailqos_config::Mechanism;
use mailqos_model::Micros;
use scram::Scram;

use super::{oauth::OAuth, turn::LoginAttempts};

/// Credentials of a login.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The user name.
    pub user: String,
    /// The password or the token.
    pub secret: Secret,
    /// Whether the secret is an OAuth 2.0 access token instead of a password.
    pub is_token: bool,
    /// Time that obtaining the access token took; `None` for an existing token or a password.
    pub took: Option<Micros>,
    /// Mechanisms that may be used; all if empty.
    pub only: Vec<Mechanism>,
    /// The source of further tokens, and whether this one has never been used.
    pub(super) renewal: Option<(Arc<OAuth>, bool)>,
    pub(super) memory: Arc<Memory>,
}

/// State of an account's logins that outlives connections.
#[derive(Debug, Default)]
pub struct Memory {
    /// Mechanisms that failed at a server where another one then succeeded, so that they are not
    /// tried each time.
    passed_over: Mutex<HashSet<(String, Mechanism)>>,
    /// Keys of SCRAM. Deriving them takes milliseconds, which must not be attributed to the server.
    scram: scram::CachedKeys,
    /// Results of its logins.
    pub(super) turns: LoginAttempts,
}

impl Credentials {
    /// Creates credentials from a user name and a password.
    pub fn password(user: impl Into<String>, secret: Secret) -> Self {
        Self {
            user: user.into(),
            secret,
            is_token: false,
            took: None,
            only: Vec::new(),
            renewal: None,
            memory: Arc::default(),
        }
    }

    /// Creates credentials from a user name and an OAuth 2.0 access token.
    pub fn token(user: impl Into<String>, secret: Secret) -> Self {
        Self { is_token: true, ..Self::password(user, secret) }
    }

    /// Returns the same credentials for another user or mailbox.
    #[must_use]
    pub fn for_user(&self, user: &str) -> Self {
        Self { user: user.to_owned(), ..self.clone() }
    }

    /// Adds the account's state of logins.
    #[must_use]
    pub fn remembering(mut self, memory: &Arc<Memory>) -> Self {
        self.memory = memory.clone();
        self
    }

    /// Records that a mechanism failed at this server where another one succeeded, so that it is
    /// not tried again.
    pub fn pass_over(&self, place: &str, mechanism: Mechanism) {
        let mut passed_over = self.memory.passed_over.lock().ignore_poison();
        passed_over.insert((place.to_owned(), mechanism));
    }

    fn forget_failures(&self, place: &str) {
        let mut passed_over = self.memory.passed_over.lock().ignore_poison();
        passed_over.retain(|(known, _)| known != place);
    }

    fn is_passed_over(&self, place: &str, mechanism: Mechanism) -> bool {
        let passed_over = self.memory.passed_over.lock().ignore_poison();
        passed_over.contains(&(place.to_owned(), mechanism))
    }

    /// Returns whether this mechanism may be used with this account.
    pub fn allows(&self, mechanism: Mechanism) -> bool {
        mechanism.takes_token() == self.is_token
            && (self.only.is_empty() || self.only.contains(&mechanism))
    }
}

/// Returns the mechanisms that both sides support, best first. `place` is the server and its port,
/// and `offered` is in capitals. Once all of them have failed there, all are tried again.
pub fn choose(place: &str, offered: &[String], credentials: &Credentials) -> Vec<Mechanism> {
    let common = Mechanism::ALL
        .iter()
        .copied()
        .filter(|mechanism| offered.iter().any(|name| name == mechanism.as_str()))
        .filter(|mechanism| credentials.allows(*mechanism));
    let (passed_over, chosen): (Vec<_>, Vec<_>) =
        common.partition(|mechanism| credentials.is_passed_over(place, *mechanism));
    if chosen.is_empty() {
        credentials.forget_failures(place);
        passed_over
    } else {
        chosen
    }
}

/// Explains why none of the mechanisms that a server offers can be used.
pub fn none_fits(offered: &[String], credentials: &Credentials) -> String {
    let has = if offered.is_empty() {
        "no mechanism".to_owned()
    } else {
        format!("only {}", offered.join(" "))
    };
    if credentials.is_token {
        format!(
            "the server offers {has}, but the account's OAuth token requires OAUTHBEARER or XOAUTH2"
        )
    } else if offered.iter().any(|name| matches!(&**name, "OAUTHBEARER" | "XOAUTH2")) {
        format!(
            "the server offers {has} and accepts no passwords; give the account oauth = {{ … }} instead of \
            password"
        )
    } else {
        format!("the server offers {has}")
    }
}

/// State of a mechanism during its dialogue.
enum Role {
    Password,
    Scram(Box<Scram>),
    Bearer(Bearer),
}

/// The client's side of an authentication.
struct Dialogue {
    mechanism: Mechanism,
    credentials: Credentials,
    /// Number of messages sent.
    step: usize,
    role: Role,
}

impl Dialogue {
    /// Starts the dialogue of a mechanism.
    fn begin(mechanism: Mechanism, credentials: &Credentials) -> Self {
        Self {
            mechanism,
            credentials: credentials.clone(),
            step: 0,
            role: match mechanism {
                Mechanism::ScramSha256 => Role::Scram(Box::new(Scram::begin(&credentials.user))),
                Mechanism::OAuthBearer | Mechanism::XOAuth2 => Role::Bearer(Bearer::default()),
                Mechanism::Plain | Mechanism::Login => Role::Password,
            },
        }
    }

    /// Returns the initial response, if the mechanism has one.
    fn initial(&mut self) -> Option<Secret> {
        let Credentials { user, secret, .. } = &self.credentials;
        let initial = match (&self.role, self.mechanism) {
            (_, Mechanism::Login) => return None,
            (Role::Scram(scram), _) => scram.first(),
            (Role::Bearer(_), mechanism) => bearer::initial(mechanism, user, secret),
            (Role::Password, _) => Secret::new(format!("\0{user}\0{}", secret.expose())),
        };
        self.step += 1;
        Some(initial)
    }

    /// Responds to a challenge as received from the server, in Base64. The challenge of LOGIN is
    /// only a text, which some servers send without encoding.
    ///
    /// # Errors
    /// The challenge can't be decoded, or requests something that the mechanism does not provide.
    fn respond(&mut self, challenge: &str) -> Result<Secret, String> {
        let decoded = match decode(challenge) {
            Err(_) if self.mechanism == Mechanism::Login => Vec::new(),
            decoded => decoded?,
        };
        self.answer(&decoded)
    }

    /// Responds to a challenge.
    ///
    /// # Errors
    /// The server requests something that the mechanism does not provide.
    fn answer(&mut self, challenge: &[u8]) -> Result<Secret, String> {
        // Servers that don't support an initial response send an empty challenge.
        if self.step == 0
            && let Some(initial) = self.initial()
        {
            return Ok(initial);
        }
        self.step += 1;
        let secret = &self.credentials.secret;
        match (&mut self.role, self.mechanism, self.step) {
            (Role::Scram(scram), ..) => {
                scram.answer(challenge, secret, &self.credentials.memory.scram)
            }
            (Role::Bearer(bearer), mechanism, 2) => Ok(bearer.answer(mechanism, challenge, secret)),
            // The text of the challenge varies ("Username:", "User Name", translations), but the
            // order does not.
            (Role::Password, Mechanism::Login, 1) => Ok(Secret::new(self.credentials.user.clone())),
            (Role::Password, Mechanism::Login, 2) => Ok(secret.clone()),
            _ => Err(format!("the server sent more challenges than {} has", self.mechanism)),
        }
    }

    /// Checks after acceptance that the server gave the proof that the mechanism requires.
    ///
    /// # Errors
    /// The server gave no proof.
    fn finish(&self) -> Result<(), String> {
        match &self.role {
            Role::Scram(scram) => scram.finish(),
            Role::Bearer(_) | Role::Password => Ok(()),
        }
    }

    /// Returns the reason that the server gave before its final reply.
    fn complaint(&self) -> Option<&str> {
        match &self.role {
            Role::Password => None,
            Role::Scram(scram) => scram.complaint(),
            Role::Bearer(bearer) => bearer.complaint(),
        }
    }

    /// Returns whether the server had everything it needs to check the credentials. An earlier
    /// refusal concerns the mechanism, not the password.
    fn was_judged(&self) -> bool {
        match (&self.role, self.mechanism) {
            (Role::Scram(scram), _) => scram.is_proved(),
            (_, Mechanism::Login) => self.step >= 2,
            _ => self.step >= 1,
        }
    }
}

/// Encodes an initial response for the connection: `=` for an empty text (RFC 4954, section 4).
fn encode_initial(text: &Secret) -> String {
    if text.expose().is_empty() { "=".to_owned() } else { encode(text) }
}

/// Encodes a response to a challenge for the connection: Base64, or an empty line if it is empty.
fn encode(text: &Secret) -> String {
    STANDARD.encode(text.expose())
}

/// Decodes a challenge.
///
/// # Errors
/// The challenge is not valid Base64.
fn decode(challenge: &str) -> Result<Vec<u8>, String> {
    let challenge = challenge.trim();
    if challenge.is_empty() || challenge == "=" {
        return Ok(Vec::new());
    }
    STANDARD.decode(challenge).map_err(|_| "the server's challenge is not valid Base64".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(mechanisms: &[Mechanism]) -> Vec<&'static str> {
        mechanisms.iter().map(|mechanism| mechanism.as_str()).collect()
    }

    #[test]
    fn the_best_mechanism_comes_first_and_fits_the_account() {
        let offered: Vec<String> =
            ["LOGIN", "GSSAPI", "XOAUTH2", "PLAIN", "OAUTHBEARER", "SCRAM-SHA-256"]
                .map(str::to_owned)
                .to_vec();
        let password = Credentials::password("u", Secret::new("p"));
        assert_eq!(names(&choose("a", &offered, &password)), ["SCRAM-SHA-256", "PLAIN", "LOGIN"]);
        password.pass_over("a", Mechanism::ScramSha256);
        assert_eq!(names(&choose("a", &offered, &password)), ["PLAIN", "LOGIN"]);
        assert_eq!(choose("b", &offered, &password).len(), 3, "another server is not meant");
        password.pass_over("a", Mechanism::Plain);
        password.pass_over("a", Mechanism::Login);
        assert_eq!(
            choose("a", &offered, &password).len(),
            3,
            "all have failed: it was not their fault"
        );
        password.pass_over("a", Mechanism::ScramSha256);
        assert_eq!(names(&choose("a", &offered, &password)), ["PLAIN", "LOGIN"]);
        let mut token = Credentials::token("u", Secret::new("t"));
        assert_eq!(names(&choose("a", &offered, &token)), ["OAUTHBEARER", "XOAUTH2"]);
        token.only = vec![Mechanism::XOAuth2];
        assert_eq!(names(&choose("a", &offered, &token)), ["XOAUTH2"]);
    }

    #[test]
    fn a_server_without_initial_responses_is_answered_in_turn() {
        let credentials = Credentials::password("probe", Secret::new("pass"));
        let mut plain = Dialogue::begin(Mechanism::Plain, &credentials);
        assert!(!plain.was_judged());
        assert_eq!(plain.answer(b"").expect("an answer").expose(), "\0probe\0pass");
        assert!(plain.was_judged() && plain.finish().is_ok());
        let mut login = Dialogue::begin(Mechanism::Login, &credentials);
        assert_eq!(login.respond("User name:").expect("an answer").expose(), "probe");
        assert!(Dialogue::begin(Mechanism::Plain, &credentials).respond("User name:").is_err());
        let mut login = Dialogue::begin(Mechanism::Login, &credentials);
        assert!(login.initial().is_none());
        assert_eq!(login.answer(b"Username:").expect("an answer").expose(), "probe");
        assert!(!login.was_judged());
        assert_eq!(login.answer(b"Passwort:").expect("an answer").expose(), "pass");
        assert!(login.was_judged());
        assert!(login.answer(b"And the name of your cat?").is_err());
    }

    proptest! {
        #[test]
        fn any_challenge_gets_an_answer_or_an_error(
            challenges in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..5),
            text in ".{0,60}",
        ) {
            let _ = decode(&text);
            for mechanism in Mechanism::ALL.iter().copied() {
                let credentials = if mechanism.takes_token() {
                    Credentials::token("u", Secret::new("t"))
                } else {
                    Credentials::password("u", Secret::new("p"))
                };
                for initially in [false, true] {
                    let mut dialogue = Dialogue::begin(mechanism, &credentials);
                    if initially {
                        dialogue.initial();
                    }
                    for challenge in &challenges {
                        if dialogue.answer(challenge).is_err() {
                            break;
                        }
                    }
                    // Proof of the password can't succeed by chance.
                    prop_assert_eq!(dialogue.finish().is_err(), mechanism == Mechanism::ScramSha256);
                }
            }
        }
    }
}
