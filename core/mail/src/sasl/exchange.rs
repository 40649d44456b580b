//! A SASL authentication (RFC 4422) for SMTP, POP3 and IMAP. The protocols only send lines and read
//! the server's replies.

use mailqos_base::Secret;
use mailqos_config::Mechanism;

use super::{Credentials, Dialogue, encode, encode_initial};

/// Maximum number of challenges in an authentication.
const MAX_CHALLENGES: usize = 6;

/// A server's reply to a line of an authentication.
#[derive(Debug)]
pub enum Answer<R> {
    /// A challenge in Base64.
    Challenge(String),
    /// The login is accepted.
    Accepted,
    /// The login is refused, with the protocol's refusal.
    Refused(R),
}

/// A connection used for an authentication.
pub trait Channel {
    /// A refusal of the protocol, such as a reply line.
    type Refusal: Send;
    /// Reason why a line could not be sent or no reply was received.
    type Error: Send;

    /// Sends a secret line and reads the server's answer.
    fn exchange(
        &mut self,
        line: &Secret,
    ) -> impl Future<Output = Result<Answer<Self::Refusal>, Self::Error>> + Send;
}

/// Result of an authentication.
#[derive(Debug)]
pub enum AuthenticationResult<R, E> {
    /// The login is accepted, and the server gave the proof that the mechanism requires.
    Accepted,
    /// The login is accepted without that proof, with the reason.
    Unproved(String),
    /// The server refused.
    Refused {
        /// The protocol's refusal.
        refusal: R,
        /// The server's reason before its final reply.
        reason: Option<String>,
        /// Whether the server had everything it needs to check the credentials.
        judged: bool,
    },
    /// This side cancelled the authentication.
    Cancelled {
        /// The reason.
        reason: String,
        /// The server's answer to the cancellation.
        refusal: Option<R>,
        /// As in [`AuthenticationResult::Refused`].
        judged: bool,
    },
    /// The connection failed.
    Broken {
        /// The reason.
        error: E,
        /// The server's reason before that.
        reason: Option<String>,
    },
}

/// Authenticates by a mechanism. `command` starts it, such as `AUTH PLAIN`. The initial response is
/// in the same line if it has at most `room` bytes.
pub async fn authenticate<C: Channel>(
    channel: &mut C,
    command: &str,
    room: usize,
    mechanism: Mechanism,
    credentials: &Credentials,
) -> AuthenticationResult<C::Refusal, C::Error> {
    let (mut dialogue, mut line) = begin(command, room, mechanism, credentials);
    for _ in 0..=MAX_CHALLENGES {
        let challenge = match channel.exchange(&line).await {
            Ok(Answer::Challenge(challenge)) => challenge,
            Ok(Answer::Accepted) => {
                return dialogue
                    .finish()
                    .err()
                    .map_or(AuthenticationResult::Accepted, AuthenticationResult::Unproved);
            }
            Ok(Answer::Refused(refusal)) => {
                return AuthenticationResult::Refused {
                    refusal,
                    reason: dialogue.complaint().map(str::to_owned),
                    judged: dialogue.was_judged(),
                };
            }
            Err(error) => {
                let reason = dialogue.complaint().map(str::to_owned);
                return AuthenticationResult::Broken { error, reason };
            }
        };
        match dialogue.respond(&challenge) {
            Ok(answer) => line = Secret::new(encode(&answer)),
            Err(reason) => return cancel(channel, reason, dialogue.was_judged()).await,
        }
    }
    let reason =
        "the server did not end the authentication after the maximum number of steps".to_owned();
    cancel(channel, reason, dialogue.was_judged()).await
}

/// Returns the dialogue and its first line.
fn begin(
    command: &str,
    room: usize,
    mechanism: Mechanism,
    credentials: &Credentials,
) -> (Dialogue, Secret) {
    let mut dialogue = Dialogue::begin(mechanism, credentials);
    if room > 0
        && let Some(initial) = dialogue.initial()
    {
        let line = Secret::new(format!("{command} {}", encode_initial(&initial)));
        if line.expose().len() <= room {
            return (dialogue, line);
        }
        // The initial response is sent when the server asks for it.
        dialogue = Dialogue::begin(mechanism, credentials);
    }
    (dialogue, Secret::new(command))
}

/// Cancels by a single `*` (RFC 4954, section 4; RFC 5034, section 4; RFC 9051, section 6.2.2).
async fn cancel<C: Channel>(
    channel: &mut C,
    reason: String,
    judged: bool,
) -> AuthenticationResult<C::Refusal, C::Error> {
    match channel.exchange(&Secret::new("*")).await {
        Ok(Answer::Refused(refusal)) => {
            AuthenticationResult::Cancelled { reason, refusal: Some(refusal), judged }
        }
        Ok(Answer::Accepted | Answer::Challenge(_)) => {
            AuthenticationResult::Cancelled { reason, refusal: None, judged }
        }
        Err(error) => AuthenticationResult::Broken { error, reason: Some(reason) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers from a script and records the lines.
    struct Script(Vec<Answer<&'static str>>, Vec<String>);

    impl Channel for Script {
        type Refusal = &'static str;
        type Error = ();

        async fn exchange(&mut self, line: &Secret) -> Result<Answer<&'static str>, ()> {
            self.1.push(line.expose().to_owned());
            if self.0.is_empty() { Err(()) } else { Ok(self.0.remove(0)) }
        }
    }

    async fn run(
        mechanism: Mechanism,
        room: usize,
        answers: Vec<Answer<&'static str>>,
    ) -> (AuthenticationResult<&'static str, ()>, Vec<String>) {
        let credentials = Credentials::password("u", Secret::new("p"));
        let mut script = Script(answers, Vec::new());
        let command = format!("AUTH {mechanism}");
        let ending = authenticate(&mut script, &command, room, mechanism, &credentials).await;
        (ending, script.1)
    }

    #[tokio::test]
    async fn the_initial_response_goes_into_the_command_if_it_fits() {
        let (ending, lines) = run(Mechanism::Plain, usize::MAX, vec![Answer::Accepted]).await;
        assert!(matches!(ending, AuthenticationResult::Accepted));
        assert_eq!(lines, ["AUTH PLAIN AHUAcA=="]);
        for room in [0, 5] {
            let (ending, lines) = run(
                Mechanism::Plain,
                room,
                vec![Answer::Challenge(String::new()), Answer::Accepted],
            )
            .await;
            assert!(matches!(ending, AuthenticationResult::Accepted));
            assert_eq!(lines, ["AUTH PLAIN", "AHUAcA=="]);
        }
    }

    #[tokio::test]
    async fn a_refusal_records_whether_the_password_was_judged() {
        let (ending, _) = run(Mechanism::Login, 0, vec![Answer::Refused("no")]).await;
        assert!(
            matches!(ending, AuthenticationResult::Refused { refusal: "no", judged: false, .. }),
            "{ending:?}"
        );
        let asked = || Answer::Challenge("VXNlcm5hbWU6".to_owned());
        let (ending, lines) =
            run(Mechanism::Login, 0, vec![asked(), asked(), Answer::Refused("no")]).await;
        assert!(matches!(ending, AuthenticationResult::Refused { judged: true, .. }), "{ending:?}");
        assert_eq!(lines, ["AUTH LOGIN", "dQ==", "cA=="]);
    }

    #[tokio::test]
    async fn an_unanswerable_challenge_is_cancelled() {
        let asked = || Answer::Challenge(String::new());
        let (ending, lines) =
            run(Mechanism::Plain, usize::MAX, vec![asked(), Answer::Refused("cancelled")]).await;
        assert!(
            matches!(ending, AuthenticationResult::Cancelled { refusal: Some("cancelled"), .. }),
            "{ending:?}"
        );
        assert_eq!(lines.last().map(String::as_str), Some("*"));
        let (ending, _) = run(Mechanism::Plain, usize::MAX, Vec::new()).await;
        assert!(matches!(ending, AuthenticationResult::Broken { .. }), "{ending:?}");
    }

    /// A server that accepts the login before proving that it knows the password is rejected.
    #[tokio::test]
    async fn a_server_without_proof_is_rejected() {
        let (ending, _) = run(Mechanism::ScramSha256, usize::MAX, vec![Answer::Accepted]).await;
        assert!(matches!(ending, AuthenticationResult::Unproved(_)), "{ending:?}");
    }
}
