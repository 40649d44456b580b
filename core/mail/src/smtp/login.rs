//! SMTP authentication (RFC 4954).

use std::time::Instant;

use mailqos_base::Secret;
use mailqos_config::Mechanism;
use mailqos_model::{Micros, Stage};

use super::{
    super::{
        Credentials, LoginRefusal,
        sasl::{self, Answer, AuthenticationResult, Channel},
    },
    Line, Smtp, SmtpError,
};

impl Smtp {
    /// Logs in by the best mechanism that both sides support, and falls back if the server offers
    /// one that it can't perform.
    ///
    /// # Errors
    /// No mechanism is supported by both sides, or the server refuses.
    pub async fn authenticate(&mut self, credentials: &Credentials) -> Result<(), SmtpError> {
        let Err(error) = self.log_in(credentials).await else {
            return Ok(());
        };
        if error.reply.as_ref().is_none_or(|reply| reply.code / 100 != 5) {
            return Err(error);
        }
        match credentials.renewed().await {
            None => Err(error),
            Some(Ok(credentials)) => {
                let result = self.log_in(&credentials).await;
                if result.is_err() {
                    // The token's age is not the cause: new ones would not help for a while either.
                    credentials.renewed().await;
                }
                result
            }
            Some(Err(reason)) => Err(SmtpError {
                text: format!("{}; and can't get a new token: {reason}", error.text),
                ..error
            }),
        }
    }

    async fn log_in(&mut self, credentials: &Credentials) -> Result<(), SmtpError> {
        let stage = Stage::SmtpAuth;
        let Some(offered) = self.offered("AUTH") else {
            return Err(self.refuse(
                stage,
                "an account is configured, but the server offers no authentication on this port"
                    .to_owned(),
            ));
        };
        let place = format!("{}:{}", self.endpoint.server, self.endpoint.port);
        let mechanisms = sasl::choose(&place, &offered, credentials);
        if mechanisms.is_empty() {
            return Err(self.refuse(stage, sasl::none_fits(&offered, credentials)));
        }
        if let Some(wire) = &mut self.lane.lock().wire {
            wire.hide(&credentials.secret);
        }
        let began = Instant::now();
        let mut failed = Vec::new();
        let mut result = Ok(());
        for mechanism in mechanisms {
            let mut ended = self.authenticate_by(mechanism, credentials, usize::MAX).await;
            // Some servers don't support an initial response, or not a line as long as a token
            // (Dovecot's submission service).
            if mechanism != Mechanism::Login
                && ended.as_ref().is_err_and(|(error, _)| is_of_line(error))
            {
                ended = self.authenticate_by(mechanism, credentials, 0).await;
            }
            let Err((error, judged)) = ended else {
                result = Ok(());
                break;
            };
            let refusal = refusal(&error, judged);
            result = Err(error);
            match refusal {
                Some(refusal) if refusal.leaves_other_mechanisms() => failed.push(mechanism),
                // If the credentials are wrong, another mechanism does not help, and each failed
                // login brings the account closer to a lockout. If the server only fails at this
                // mechanism, the next test tries another one.
                Some(LoginRefusal::Credentials) => {
                    credentials.pass_over(&place, mechanism);
                    break;
                }
                _ => break,
            }
        }
        result?;
        for mechanism in failed {
            credentials.pass_over(&place, mechanism);
        }
        self.phases.auth =
            Some(Micros::from(self.last_reply_at().saturating_duration_since(began)));
        Ok(())
    }

    /// Authenticates once. An error includes whether the server had received the password.
    async fn authenticate_by(
        &mut self,
        mechanism: Mechanism,
        credentials: &Credentials,
        room: usize,
    ) -> Result<(), (SmtpError, bool)> {
        let command = format!("AUTH {mechanism}");
        let explained = |error: SmtpError, reason: Option<String>| match reason {
            Some(reason) => SmtpError { text: format!("{}; {reason}", error.text), ..error },
            None => error,
        };
        match sasl::authenticate(self, &command, room, mechanism, credentials).await {
            AuthenticationResult::Accepted => Ok(()),
            AuthenticationResult::Refused { refusal, reason, judged } => {
                Err((explained(refusal, reason), judged))
            }
            AuthenticationResult::Broken { error, reason } => {
                Err((explained(error, reason), false))
            }
            AuthenticationResult::Unproved(reason)
            | AuthenticationResult::Cancelled { reason, .. } => {
                Err((self.refuse(Stage::SmtpAuth, reason), false))
            }
        }
    }
}

impl Channel for Smtp {
    type Refusal = SmtpError;
    type Error = SmtpError;

    async fn exchange(&mut self, line: &Secret) -> Result<Answer<SmtpError>, SmtpError> {
        self.lane.secret(true);
        let result = self.command(Stage::SmtpAuth, Line(line)).await;
        self.lane.secret(false);
        match result {
            Ok(reply) if reply.code == 334 => {
                let challenge = reply.lines.first().map_or("", |text| text.trim());
                Ok(Answer::Challenge(challenge.to_owned()))
            }
            Ok(_) => Ok(Answer::Accepted),
            Err(error) if error.reply.is_some() => Ok(Answer::Refused(error)),
            Err(error) => Err(error),
        }
    }
}

/// Returns whether the server could not parse the line (RFC 5321, section 4.2.3).
fn is_of_line(error: &SmtpError) -> bool {
    error.reply.as_ref().is_some_and(|reply| reply.code == 500)
}

/// Classifies a failed authentication; `None` if the server did not refuse.
fn refusal(error: &SmtpError, judged: bool) -> Option<LoginRefusal> {
    error.reply.as_ref()?;
    Some(match LoginRefusal::read(&error.text) {
        // The server has not received the password yet.
        LoginRefusal::Credentials if !judged => LoginRefusal::Mechanism,
        refusal => refusal,
    })
}
