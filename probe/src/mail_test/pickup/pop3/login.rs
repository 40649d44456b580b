//! The ways to log in over POP3: AUTH (RFC 5034), USER and PASS, APOP.

use std::time::Instant;

use mailqos_base::{Secret, hex};
use mailqos_config::Mechanism;
use mailqos_mail::{
    Credentials, LoginRefusal,
    sasl::{self, Channel, Ending},
};
use mailqos_model::Stage;
use md5::{Digest as _, Md5};

use super::{
    super::{PickupError, Visit, note_renewed, renewed},
    Answer, MAX_LINE, MAX_REPLY, Memory, Session, has,
};
use crate::mail_test::evidence::Moment;

/// The longest line of AUTH: 255 bytes with its end (RFC 5034, section 4).
const MAX_AUTH: usize = 253;

/// A way to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Sasl(Mechanism),
    UserPass,
    Apop,
}

impl Way {
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

/// Logs in, with another token where one is rejected; tells when the first credential command was sent.
pub(super) async fn log_in(
    session: &mut Session,
    credentials: Option<&Credentials>,
    capabilities: Option<&[Vec<String>]>,
    greeting: &str,
    memory: &mut Memory,
    visit: &mut Visit,
) -> Result<Moment, PickupError> {
    let Some(credentials) = credentials else {
        return Err(PickupError::new(
            Stage::PickupLogin,
            "no account is configured for the mailbox",
        ));
    };
    match log_in_with(session, credentials, capabilities, greeting, memory, visit).await {
        Err(error) if error.refused => {
            let credentials = renewed(credentials, error).await?;
            let result = log_in_with(session, &credentials, capabilities, greeting, memory, visit).await;
            note_renewed(&credentials, result.as_ref().err()).await;
            result
        }
        result => result,
    }
}

async fn log_in_with(
    session: &mut Session,
    credentials: &Credentials,
    capabilities: Option<&[Vec<String>]>,
    greeting: &str,
    memory: &mut Memory,
    visit: &mut Visit,
) -> Result<Moment, PickupError> {
    let stage = Stage::PickupLogin;
    session.wire.hide(&credentials.secret);
    let stamp = greeting
        .find('<')
        .and_then(|from| {
            greeting[from..]
                .find('>')
                .map(|to| greeting[from..=from + to].to_owned())
        })
        .filter(|stamp| stamp.contains('@'));
    let offered: Vec<String> = capabilities
        .unwrap_or_default()
        .iter()
        .filter(|line| line.first().is_some_and(|word| word == "SASL"))
        .flat_map(|line| line[1..].iter().cloned())
        .collect();
    let mut ways = ways(&offered, credentials, capabilities, stamp.is_some(), session);
    if ways.iter().all(|way| memory.lacks.contains(way.name())) {
        // All have failed: it was not their fault, or they are worth another try, one a visit.
        let commands = |what: &&'static str| matches!(*what, "CAPA" | "UIDL" | "TOP");
        memory.lacks.retain(commands);
    }
    ways.retain(|way| !memory.lacks.contains(way.name()));
    let began = Instant::now();
    let mut last = PickupError::new(stage, &sasl::none_fits(&offered, credentials));
    for way in ways {
        let Refused { text, judged } = match exchange(session, way, credentials, stamp.as_deref()).await? {
            Ok(()) => {
                visit.phases.login = Some(session.since(began));
                return Ok(Moment::of(began));
            }
            Err(refused) => refused,
        };
        last = session.refusal(stage, "login", &text);
        let refusal = match last.refusal.unwrap_or(LoginRefusal::Credentials) {
            // The server has not seen the password yet.
            LoginRefusal::Credentials if !judged => LoginRefusal::Mechanism,
            refusal => refusal,
        };
        last.refusal = Some(refusal);
        last.refused = refusal.waits_for_next_test();
        if matches!(refusal, LoginRefusal::Credentials | LoginRefusal::Mechanism) {
            // The server may only seem to have this way to log in (APOP and SCRAM need what not every server keeps): the
            // next one is tried, now or at the next test.
            memory.lacks.insert(way.name());
        }
        if !refusal.leaves_other_mechanisms() {
            break;
        }
    }
    Err(last)
}

/// The ways to log in that server and account have, the best first.
fn ways(
    offered: &[String],
    credentials: &Credentials,
    capabilities: Option<&[Vec<String>]>,
    has_stamp: bool,
    session: &Session,
) -> Vec<Way> {
    let mut ways: Vec<Way> = sasl::choose(&session.wire.place(), offered, credentials)
        .into_iter()
        .map(Way::Sasl)
        .collect();
    if credentials.is_token || !credentials.only.is_empty() {
        return ways;
    }
    // A server need not list USER; one that lists SASL but not USER means it, mostly.
    let listed = capabilities.is_none_or(|offered| has(offered, "USER"));
    let at = ways.iter().position(|way| *way == Way::Sasl(Mechanism::Login));
    ways.insert(
        if listed { at.unwrap_or(ways.len()) } else { ways.len() },
        Way::UserPass,
    );
    if has_stamp {
        // In clear the password itself should not travel; encrypted, APOP is the last resort, as it needs servers that keep
        // passwords in clear.
        let safe = usize::from(ways.first() == Some(&Way::Sasl(Mechanism::ScramSha256)));
        let encrypted = session.wire.tls().is_some();
        ways.insert(if encrypted { ways.len() } else { safe }, Way::Apop);
    }
    ways
}

/// A refused login.
struct Refused {
    text: String,
    /// The server had what it needs to tell right credentials from wrong ones.
    judged: bool,
}

async fn exchange(
    session: &mut Session,
    way: Way,
    credentials: &Credentials,
    stamp: Option<&str>,
) -> Result<Result<(), Refused>, PickupError> {
    let stage = Stage::PickupLogin;
    let answer = match way {
        Way::UserPass => {
            session
                .send(stage, &format!("USER {}", credentials.user), MAX_REPLY)
                .await?;
            match session.answer(stage).await? {
                Answer::Ok(_) => {
                    let line = Secret::new(format!("PASS {}", credentials.secret.expose()));
                    session.send_secret(stage, &line).await?;
                    session.answer(stage).await?
                }
                refused => refused,
            }
        }
        Way::Apop => {
            let stamp = stamp.unwrap_or_default();
            let digest = Md5::digest(format!("{stamp}{}", credentials.secret.expose()));
            let digest = hex(&digest);
            session
                .send_secret(stage, &Secret::new(format!("APOP {} {digest}", credentials.user)))
                .await?;
            session.answer(stage).await?
        }
        Way::Sasl(mechanism) => return authenticate(session, mechanism, credentials).await,
    };
    Ok(match answer {
        Answer::Ok(_) => Ok(()),
        Answer::Err(text) => Err(Refused { text, judged: true }),
    })
}

/// AUTH (RFC 5034).
async fn authenticate(
    session: &mut Session,
    mechanism: Mechanism,
    credentials: &Credentials,
) -> Result<Result<(), Refused>, PickupError> {
    // Microsoft 365 takes tokens in a line of their own only.
    let room = if mechanism.takes_token() { 0 } else { MAX_AUTH };
    let command = format!("AUTH {mechanism}");
    match sasl::authenticate(session, &command, room, mechanism, credentials).await {
        Ending::Accepted => Ok(Ok(())),
        Ending::Unproved(reason) => Err(PickupError::new(Stage::PickupLogin, &reason)),
        Ending::Refused {
            refusal,
            reason,
            judged,
        } => {
            let text = match reason {
                Some(reason) => format!("{refusal}; {reason}"),
                None => refusal,
            };
            Ok(Err(Refused { text, judged }))
        }
        Ending::Cancelled { reason, judged, .. } => Ok(Err(Refused { text: reason, judged })),
        Ending::Broken { error, .. } => Err(error),
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
