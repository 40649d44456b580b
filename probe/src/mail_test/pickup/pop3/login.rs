//! The login methods over POP3: AUTH (RFC 5034), USER and PASS, APOP.

use std::time::Instant;

use mailqos_base::{Secret, hex};
use mailqos_config::Mechanism;
use mailqos_mail::{
    Credentials, LoginRefusal,
    sasl::{self, AuthenticationResult, Channel},
};
use mailqos_model::Stage;
use md5::{Digest as _, Md5};

use super::{
    super::{PickupError, note_renewed, renewed},
    Pop3, has,
    session::{Answer, MAX_LINE, MAX_REPLY, Session},
};
use crate::mail_test::evidence::Moment;

/// Maximum line length of AUTH without its end, of 255 bytes with it (RFC 5034, section 4).
const MAX_AUTH: usize = 253;

/// A login method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LoginMethod {
    Sasl(Mechanism),
    UserPass,
    Apop,
}

impl LoginMethod {
    fn name(self) -> &'static str {
        match self {
            Self::Sasl(Mechanism::ScramSha256) => "AUTH SCRAM-SHA-256",
            Self::Sasl(Mechanism::Plain) => "AUTH PLAIN",
            Self::Sasl(Mechanism::Login) => "AUTH LOGIN",
            Self::Sasl(Mechanism::OAuthBearer) => "AUTH OAUTHBEARER",
            Self::Sasl(Mechanism::XOAuth2) => "AUTH XOAUTH2",
            Self::UserPass => "USER",
            Self::Apop => "APOP",
        }
    }
}

/// Features that a server offers before the login.
pub(super) struct Offer {
    /// The lines of CAPA in capitals; `None` if the server does not support it.
    pub(super) capabilities: Option<Vec<Vec<String>>>,
    /// The text of the greeting.
    pub(super) greeting: String,
}

impl Offer {
    /// Returns the stamp for APOP from the greeting (RFC 1939, section 7).
    fn stamp(&self) -> Option<String> {
        let from = self.greeting.find('<')?;
        let length = self.greeting[from..].find('>')?;
        let stamp = &self.greeting[from..=from + length];
        stamp.contains('@').then(|| stamp.to_owned())
    }

    /// Returns the mechanisms of AUTH.
    fn mechanisms(&self) -> Vec<String> {
        let lines = self.capabilities.iter().flatten();
        let sasl = lines.filter(|line| line.first().is_some_and(|word| word == "SASL"));
        sasl.flat_map(|line| line[1..].iter().cloned()).collect()
    }
}

impl Pop3<'_> {
    /// Logs in, with another token if one is rejected; returns the time at which the first
    /// credential command was sent.
    pub(super) async fn log_in(&mut self, offer: &Offer) -> Result<Moment, PickupError> {
        let Some(credentials) = self.errand.credentials else {
            return Err(PickupError::new(
                Stage::PickupLogin,
                "no account is configured for the mailbox",
            ));
        };
        match self.log_in_with(credentials, offer).await {
            Err(error) if error.refused => {
                let credentials = renewed(credentials, error).await?;
                let result = self.log_in_with(&credentials, offer).await;
                note_renewed(&credentials, result.as_ref().err()).await;
                result
            }
            result => result,
        }
    }

    async fn log_in_with(
        &mut self,
        credentials: &Credentials,
        offer: &Offer,
    ) -> Result<Moment, PickupError> {
        let Self { session, memory, visit, .. } = self;
        let stage = Stage::PickupLogin;
        session.wire.hide(&credentials.secret);
        let stamp = offer.stamp();
        let offered = offer.mechanisms();
        let mut methods = methods(&offered, credentials, offer, stamp.is_some(), session);
        if methods.iter().all(|method| memory.lacks.contains(method.name())) {
            // All have failed. Other causes are possible, so they are tried again, one per visit.
            let commands = |what: &&'static str| matches!(*what, "CAPA" | "UIDL" | "TOP");
            memory.lacks.retain(commands);
        }
        methods.retain(|method| !memory.lacks.contains(method.name()));
        let began = Instant::now();
        let mut last = PickupError::new(stage, &sasl::none_fits(&offered, credentials));
        for method in methods {
            let Refused { text, judged } =
                match exchange(session, method, credentials, stamp.as_deref()).await? {
                    Ok(()) => {
                        visit.phases.login = Some(session.since(began));
                        return Ok(Moment::of(began));
                    }
                    Err(refused) => refused,
                };
            last = session.refusal(stage, "login", &text);
            let refusal = match last.refusal.unwrap_or(LoginRefusal::Credentials) {
                // The server has not received the password yet.
                LoginRefusal::Credentials if !judged => LoginRefusal::Mechanism,
                refusal => refusal,
            };
            last.refusal = Some(refusal);
            last.refused = refusal.waits_for_next_test();
            if matches!(refusal, LoginRefusal::Credentials | LoginRefusal::Mechanism) {
                // The server may only claim to support this method (APOP and SCRAM need data that
                // not every server stores), so the next one is tried, now or in the next test.
                memory.lacks.insert(method.name());
            }
            if !refusal.leaves_other_mechanisms() {
                break;
            }
        }
        Err(last)
    }
}

/// Returns the login methods that both the server and the account support, best first.
fn methods(
    offered: &[String],
    credentials: &Credentials,
    offer: &Offer,
    has_stamp: bool,
    session: &Session,
) -> Vec<LoginMethod> {
    let mut methods: Vec<LoginMethod> = sasl::choose(&session.wire.place(), offered, credentials)
        .into_iter()
        .map(LoginMethod::Sasl)
        .collect();
    if credentials.is_token || !credentials.only.is_empty() {
        return methods;
    }
    // A server need not list USER; one that lists SASL without USER usually does not support it.
    let listed = offer.capabilities.as_ref().is_none_or(|offered| has(offered, "USER"));
    let at = methods.iter().position(|method| *method == LoginMethod::Sasl(Mechanism::Login));
    methods.insert(
        if listed { at.unwrap_or(methods.len()) } else { methods.len() },
        LoginMethod::UserPass,
    );
    if has_stamp {
        // In plaintext, the password itself should not be sent; over TLS, APOP is the last resort,
        // because it requires servers that store passwords in plaintext.
        let safe = usize::from(methods.first() == Some(&LoginMethod::Sasl(Mechanism::ScramSha256)));
        let encrypted = session.wire.tls().is_some();
        methods.insert(if encrypted { methods.len() } else { safe }, LoginMethod::Apop);
    }
    methods
}

/// A refused login.
struct Refused {
    text: String,
    /// Whether the server had everything it needs to check the credentials.
    judged: bool,
}

async fn exchange(
    session: &mut Session,
    method: LoginMethod,
    credentials: &Credentials,
    stamp: Option<&str>,
) -> Result<Result<(), Refused>, PickupError> {
    let stage = Stage::PickupLogin;
    let answer = match method {
        LoginMethod::UserPass => {
            session.send(stage, &format!("USER {}", credentials.user), MAX_REPLY).await?;
            match session.answer(stage).await? {
                Answer::Ok(_) => {
                    let line = Secret::new(format!("PASS {}", credentials.secret.expose()));
                    session.send_secret(stage, &line).await?;
                    session.answer(stage).await?
                }
                refused => refused,
            }
        }
        LoginMethod::Apop => {
            let stamp = stamp.unwrap_or_default();
            let digest = Md5::digest(format!("{stamp}{}", credentials.secret.expose()));
            let digest = hex(&digest);
            session
                .send_secret(stage, &Secret::new(format!("APOP {} {digest}", credentials.user)))
                .await?;
            session.answer(stage).await?
        }
        LoginMethod::Sasl(mechanism) => return authenticate(session, mechanism, credentials).await,
    };
    Ok(match answer {
        Answer::Ok(_) => Ok(()),
        Answer::Err(text) => Err(Refused { text, judged: true }),
    })
}

/// Authenticates by AUTH (RFC 5034).
async fn authenticate(
    session: &mut Session,
    mechanism: Mechanism,
    credentials: &Credentials,
) -> Result<Result<(), Refused>, PickupError> {
    // Microsoft 365 accepts tokens only in a separate line.
    let room = if mechanism.takes_token() { 0 } else { MAX_AUTH };
    let command = format!("AUTH {mechanism}");
    match sasl::authenticate(session, &command, room, mechanism, credentials).await {
        AuthenticationResult::Accepted => Ok(Ok(())),
        AuthenticationResult::Unproved(reason) => {
            Err(PickupError::new(Stage::PickupLogin, &reason))
        }
        AuthenticationResult::Refused { refusal, reason, judged } => {
            let text = match reason {
                Some(reason) => format!("{refusal}; {reason}"),
                None => refusal,
            };
            Ok(Err(Refused { text, judged }))
        }
        AuthenticationResult::Cancelled { reason, judged, .. } => {
            Ok(Err(Refused { text: reason, judged }))
        }
        AuthenticationResult::Broken { error, .. } => Err(error),
    }
}

impl Channel for Session {
    type Refusal = String;
    type Error = PickupError;

    async fn exchange(&mut self, line: &Secret) -> Result<sasl::Answer<String>, PickupError> {
        let stage = Stage::PickupLogin;
        self.send_secret(stage, line).await?;
        let raw = self.wire.line(MAX_LINE).await;
        let raw = raw.map_err(|error| PickupError::wire(stage, &error))?;
        let text = String::from_utf8_lossy(&raw);
        Ok(match (Answer::read(&text), text.strip_prefix('+')) {
            (Some(Answer::Ok(_)), _) => sasl::Answer::Accepted,
            (Some(Answer::Err(text)), _) => sasl::Answer::Refused(text),
            (None, Some(challenge)) => sasl::Answer::Challenge(challenge.to_owned()),
            (None, None) => return Err(self.nonsense(stage, &text)),
        })
    }
}
