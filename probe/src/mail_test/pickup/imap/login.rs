//! The greeting, STARTTLS, and the login methods over IMAP.

use std::time::Instant;

use mailqos_base::Secret;
use mailqos_config::Mechanism;
use mailqos_config::TlsMode;
use mailqos_mail::{
    Credentials, LoginRefusal,
    sasl::{self, AuthenticationResult, Channel},
};
use mailqos_model::{Micros, Stage};

use super::{
    super::{MailboxEndpoint, PickupError, PickupPhases, note_renewed, renewed},
    Habits, reply,
    reply::Status,
    session::{MAX_REPLY, ServerLine, Session},
};

/// Capability to accept an initial response in the line of AUTHENTICATE (RFC 4959), as recorded
/// among a server's missing features.
const INITIAL_RESPONSE: &str = "SASL-IR";

/// A login method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LoginMethod {
    Sasl(Mechanism),
    Login,
}

impl LoginMethod {
    fn name(self) -> &'static str {
        match self {
            Self::Sasl(Mechanism::ScramSha256) => "AUTHENTICATE SCRAM-SHA-256",
            Self::Sasl(Mechanism::Plain) => "AUTHENTICATE PLAIN",
            Self::Sasl(Mechanism::Login) => "AUTHENTICATE LOGIN",
            Self::Sasl(Mechanism::OAuthBearer) => "AUTHENTICATE OAUTHBEARER",
            Self::Sasl(Mechanism::XOAuth2) => "AUTHENTICATE XOAUTH2",
            Self::Login => "LOGIN",
        }
    }
}

/// Reads the greeting, and performs STARTTLS if configured; returns whether a login must follow.
pub(super) async fn shake_hands(
    session: &mut Session,
    door: &MailboxEndpoint,
    phases: &mut PickupPhases,
) -> Result<bool, PickupError> {
    let stage = Stage::PickupGreeting;
    let connected = Instant::now();
    session.wire.begin(session.step, MAX_REPLY);
    let greeting = session.said(stage).await?;
    session.note_capabilities(&greeting);
    let welcome = match &greeting {
        ServerLine::Status(status) if status.word == "OK" || status.word == "PREAUTH" => {
            status.word
        }
        ServerLine::Status(status) => return Err(session.refusal(stage, "connection", status)),
        ServerLine::Data(response) => {
            return Err(session.nonsense(stage, &String::from_utf8_lossy(&response.text)));
        }
        ServerLine::Continue(text) => return Err(session.nonsense(stage, &format!("+{text}"))),
        ServerLine::Tagged(text, _) | ServerLine::Noise(text) => {
            return Err(session.nonsense(stage, text));
        }
    };
    phases.greeting =
        Some(Micros::from(session.wire.received_at().saturating_duration_since(connected)));
    if session.capabilities.is_empty() {
        session.must(stage, "CAPABILITY", MAX_REPLY, |_| {}).await?;
    }
    if door.endpoint.tls == TlsMode::StartTls {
        let stage = Stage::PickupTls;
        if !session.has("STARTTLS") {
            return Err(PickupError::new(
                stage,
                "the server does not offer STARTTLS; set tls = \"implicit\" (usually port 993), or tls = \
                 \"none\" to send the password in plaintext",
            ));
        }
        session.must(stage, "STARTTLS", MAX_REPLY, |_| {}).await?;
        session
            .wire
            .upgrade(&door.endpoint.trust)
            .await
            .map_err(|error| PickupError::wire(stage, &error))?;
        // Capabilities that were offered in plaintext can't be trusted (RFC 9051, section 6.2.1).
        session.capabilities.clear();
        session.must(stage, "CAPABILITY", MAX_REPLY, |_| {}).await?;
    }
    Ok(welcome != "PREAUTH")
}

/// Logs in, with another token if one is rejected, and then identifies this client if the server
/// requires it.
pub(super) async fn log_in(
    session: &mut Session,
    credentials: Option<&Credentials>,
    habits: &mut Habits,
    phases: &mut PickupPhases,
) -> Result<(), PickupError> {
    let Some(credentials) = credentials else {
        return Err(PickupError::new(
            Stage::PickupLogin,
            "no account is configured for the mailbox",
        ));
    };
    match log_in_with(session, credentials, habits, phases).await {
        Err(error) if error.refused => {
            let credentials = renewed(credentials, error).await?;
            let result = log_in_with(session, &credentials, habits, phases).await;
            note_renewed(&credentials, result.as_ref().err()).await;
            result
        }
        result => result,
    }
}

/// Identifies this client (RFC 2971) to servers that require it: NetEase (163, 126, yeah.net) opens
/// no folder without it.
pub(super) async fn identify(session: &mut Session, habits: &Habits) -> Result<(), PickupError> {
    let is_coremail = session.capabilities.iter().any(|word| word.starts_with("X-CM-EXT"));
    if session.has("ID") && (habits.wants_id || is_coremail) {
        send_id(session).await?;
    }
    Ok(())
}

/// Identifies this client. A server that rejects the command is used without it.
pub(super) async fn send_id(session: &mut Session) -> Result<(), PickupError> {
    let version = env!("CARGO_PKG_VERSION");
    let command =
        format!("ID (\"name\" \"mailqos\" \"version\" \"{version}\" \"vendor\" \"mailqos\")");
    session.command(Stage::PickupLogin, &command, MAX_REPLY, |_| {}).await.map(|_| ())
}

/// Returns the login methods that the server offers and the account allows, best first. Once all
/// have failed, all are tried again, one per visit.
fn methods(
    session: &Session,
    offered: &[String],
    credentials: &Credentials,
    habits: &mut Habits,
) -> Vec<LoginMethod> {
    let mut methods: Vec<LoginMethod> = sasl::choose(&session.wire.place(), offered, credentials)
        .into_iter()
        .map(LoginMethod::Sasl)
        .collect();
    if !session.has("LOGINDISABLED") && !credentials.is_token && credentials.only.is_empty() {
        let at = methods.iter().position(|method| *method == LoginMethod::Sasl(Mechanism::Login));
        methods.insert(at.unwrap_or(methods.len()), LoginMethod::Login);
    }
    if methods.iter().all(|method| habits.lacks.contains(method.name())) {
        habits.lacks.retain(|what| matches!(*what, "SEARCH" | INITIAL_RESPONSE));
    }
    methods.retain(|method| !habits.lacks.contains(method.name()));
    methods
}

async fn log_in_with(
    session: &mut Session,
    credentials: &Credentials,
    habits: &mut Habits,
    phases: &mut PickupPhases,
) -> Result<(), PickupError> {
    let stage = Stage::PickupLogin;
    session.wire.hide(&credentials.secret);
    let offered: Vec<String> = session
        .capabilities
        .iter()
        .filter_map(|word| word.strip_prefix("AUTH=").map(str::to_owned))
        .collect();
    let methods = methods(session, &offered, credentials, habits);
    let nothing_fits = if session.has("LOGINDISABLED") && session.wire.tls().is_none() {
        "the server does not accept passwords in plaintext; set tls = \"starttls\" or tls = \"implicit\"".to_owned()
    } else {
        sasl::none_fits(&offered, credentials)
    };
    let mut last = PickupError::new(stage, &nothing_fits);
    let began = Instant::now();
    for method in methods {
        session.has_fresh_capabilities = false;
        let mut answer = exchange(session, method, credentials, habits).await?;
        if answer.is_of_syntax() && answer.at_once {
            // Coremail (NetEase) lists SASL-IR, but does not support it
            // (pimalaya/himalaya/issues/729).
            habits.lacks.insert(INITIAL_RESPONSE);
            answer = exchange(session, method, credentials, habits).await?;
        }
        let of_syntax = answer.is_of_syntax();
        let Answer { status, reason, judged, .. } = answer;
        if status.is_ok() {
            if let Some(reason) = reason {
                return Err(PickupError::new(stage, &reason));
            }
            let took = session.wire.received_at().saturating_duration_since(began);
            phases.login = Some(Micros::from(took));
            // Capabilities offered before a login need not be offered after it (RFC 9051, section
            // 6.2.2).
            if !session.has_fresh_capabilities {
                session.capabilities.clear();
                session.must(stage, "CAPABILITY", MAX_REPLY, |_| {}).await?;
            }
            return Ok(());
        }
        last = session.refusal(stage, "login", &status);
        let refusal = match last.refusal.unwrap_or(LoginRefusal::Credentials) {
            // The server has not received the password, or did not understand the command.
            LoginRefusal::Credentials if !judged || of_syntax => LoginRefusal::Mechanism,
            refusal => refusal,
        };
        last.refusal = Some(refusal);
        last.refused = refusal.waits_for_next_test();
        if let Some(reason) = reason {
            last.text = format!("{}; {reason}", last.text);
        }
        if matches!(refusal, LoginRefusal::Credentials | LoginRefusal::Mechanism) {
            // The server may only claim to support this method, so the next one is tried, now or in
            // the next test.
            habits.lacks.insert(method.name());
        }
        if !refusal.leaves_other_mechanisms() {
            break;
        }
    }
    Err(last)
}

/// Result of a login method.
struct Answer {
    status: Status,
    /// Reason given by the server before its final reply, or failure on this side.
    reason: Option<String>,
    /// Whether the server had everything it needs to check the credentials.
    judged: bool,
    /// Whether the initial response was in the line of the command (SASL-IR).
    at_once: bool,
}

impl Answer {
    /// Returns whether the server did not understand the command; iCloud also replies BAD to
    /// internal problems.
    fn is_of_syntax(&self) -> bool {
        let text = self.status.text.to_ascii_lowercase();
        let is_judgement =
            ["fail", "denied", "incorrect", "credential", "password", "authenticated"];
        self.status.word == "BAD"
            && self.status.code.is_empty()
            && !is_judgement.iter().any(|word| text.contains(word))
    }
}

/// Tries a login method.
async fn exchange(
    session: &mut Session,
    method: LoginMethod,
    credentials: &Credentials,
    habits: &Habits,
) -> Result<Answer, PickupError> {
    let at_once = session.has("SASL-IR") && !habits.lacks.contains(INITIAL_RESPONSE);
    let answer = |status, reason: Option<String>, judged| Answer {
        status,
        reason,
        judged,
        at_once: at_once && matches!(method, LoginMethod::Sasl(_)),
    };
    let stage = Stage::PickupLogin;
    let tag = session.next_tag();
    session.wire.begin(session.step, MAX_REPLY);
    match method {
        LoginMethod::Login => {
            // A quoted string contains only ASCII; everything else is sent as a literal.
            let mut line = format!("{tag} LOGIN");
            for text in [&*credentials.user, credentials.secret.expose()] {
                if text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
                    line = format!("{line} {}", reply::quote(text));
                    continue;
                }
                let at_once =
                    session.has("LITERAL+") || (session.has("LITERAL-") && text.len() <= 4096);
                let length = text.len();
                if at_once {
                    line = format!("{line} {{{length}+}}\r\n{text}");
                } else {
                    session.send(stage, &format!("{line} {{{length}}}"), true).await?;
                    if let Ok(status) = session.finish(stage, &tag, |_| {}).await? {
                        return Ok(answer(status, None, true));
                    }
                    line = text.to_owned();
                }
            }
            session.send(stage, &line, true).await?;
            match session.finish(stage, &tag, |_| {}).await? {
                Ok(status) => Ok(answer(status, None, true)),
                Err(_) => {
                    Err(PickupError::new(stage, "the server sent more challenges than LOGIN has"))
                }
            }
        }
        LoginMethod::Sasl(mechanism) => {
            let room = if at_once { usize::MAX } else { 0 };
            let command = format!("{tag} AUTHENTICATE {mechanism}");
            let mut channel = Tagged { session, tag: &tag };
            match sasl::authenticate(&mut channel, &command, room, mechanism, credentials).await {
                AuthenticationResult::Accepted => Ok(answer(Status::ok(), None, true)),
                AuthenticationResult::Unproved(reason) => {
                    Ok(answer(Status::ok(), Some(reason), true))
                }
                AuthenticationResult::Refused { refusal, reason, judged } => {
                    Ok(answer(refusal, reason, judged))
                }
                AuthenticationResult::Cancelled { refusal: Some(refusal), reason, judged } => {
                    Ok(answer(refusal, Some(reason), judged))
                }
                AuthenticationResult::Cancelled { reason, .. } => {
                    Err(PickupError::new(stage, &reason))
                }
                AuthenticationResult::Broken { error, .. } => Err(error),
            }
        }
    }
}

/// The session up to the end of the command with a tag.
struct Tagged<'a> {
    session: &'a mut Session,
    tag: &'a str,
}

impl Channel for Tagged<'_> {
    type Refusal = Status;
    type Error = PickupError;

    async fn exchange(&mut self, line: &Secret) -> Result<sasl::Answer<Status>, PickupError> {
        let stage = Stage::PickupLogin;
        self.session.wire.begin(self.session.step, MAX_REPLY);
        self.session.send(stage, line.expose(), true).await?;
        Ok(match self.session.finish(stage, self.tag, |_| {}).await? {
            Ok(status) if status.is_ok() => sasl::Answer::Accepted,
            Ok(status) => sasl::Answer::Refused(status),
            Err(challenge) => sasl::Answer::Challenge(challenge),
        })
    }
}
