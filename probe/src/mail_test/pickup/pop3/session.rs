//! A session with a POP3 server: its lines, replies and capabilities.

use std::time::{Duration, Instant};

use mailqos_base::Secret;
use mailqos_mail::{LoginRefusal, Wire, explained};
use mailqos_model::{Micros, Stage};

use super::{
    super::{KEPT_OF_MAIL, MailboxEndpoint, PickupError, VisitStage},
    MAX_TOP,
};

/// Maximum length of a reply line, and of the part of a mail's line that is read in one step.
pub(super) const MAX_LINE: usize = 8 * 1024;
/// Maximum length of multi-line replies such as that to CAPA.
pub(super) const MAX_REPLY: usize = 64 * 1024;
/// Maximum number of lines to inspect of a possible notification, because pictures and HTML may
/// precede the returned mail.
const NOTIFICATION_LINES: usize = 8000;
/// Maximum number of bytes kept of a possible notification.
const NOTIFICATION_BYTES: usize = 512 * 1024;

/// The reply to TOP: the mail's top, or the reason for the refusal.
pub(super) type Top = Result<Vec<u8>, String>;

/// A session with a POP3 server.
pub(in crate::mail_test) struct Session {
    pub(in crate::mail_test::pickup) wire: Wire,
    pub(super) step: Duration,
    /// Whether several commands may be sent together.
    pub(super) pipelining: bool,
    whereabouts: VisitStage,
}

/// A server's reply without its status indicator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Ok(String),
    Err(String),
}

impl Answer {
    /// Parses a reply. Only `+OK` is success (RFC 1939, section 3): hMailServer refuses some
    /// commands with `+ERR`.
    pub(super) fn read(text: &str) -> Option<Self> {
        let after = |mark: &str| {
            let begin = text.get(..mark.len())?;
            let rest = &text[mark.len()..];
            let ends = !rest.starts_with(|character: char| character.is_ascii_alphanumeric());
            (begin.eq_ignore_ascii_case(mark) && ends).then(|| rest.trim().to_owned())
        };
        if let Some(text) = after("+OK") {
            return Some(Self::Ok(text));
        }
        let refusal = after("-ERR").or_else(|| after("+ERR")).or_else(|| after("ERR"));
        refusal.map(Self::Err)
    }
}

impl Session {
    pub(super) fn new(wire: Wire, door: &MailboxEndpoint) -> Self {
        Self { wire, step: door.step, pipelining: false, whereabouts: door.whereabouts.clone() }
    }

    /// Ends the session; only then are mails deleted.
    pub(in crate::mail_test::pickup) async fn end(mut self) -> Result<(), PickupError> {
        let result = self.command(Stage::PickupReceive, "QUIT", MAX_REPLY).await;
        self.wire.close().await;
        result.map(|_| ())
    }

    /// Returns the time from this moment to the last reply.
    pub(super) fn since(&self, began: Instant) -> Micros {
        Micros::from(self.wire.received_at().saturating_duration_since(began))
    }

    pub(super) async fn send(
        &mut self,
        stage: Stage,
        line: &str,
        most: usize,
    ) -> Result<(), PickupError> {
        self.whereabouts.note(Some(stage));
        self.wire.begin(self.step, most);
        self.wire
            .send(format!("{line}\r\n").as_bytes())
            .await
            .map_err(|error| PickupError::wire(stage, &error))
    }

    pub(super) async fn send_secret(
        &mut self,
        stage: Stage,
        line: &Secret,
    ) -> Result<(), PickupError> {
        self.whereabouts.note(Some(stage));
        self.wire.begin(self.step, MAX_REPLY);
        self.wire.secret(true);
        let result = self.wire.send(format!("{}\r\n", line.expose()).as_bytes()).await;
        self.wire.secret(false);
        result.map_err(|error| PickupError::wire(stage, &error))
    }

    pub(super) async fn answer(&mut self, stage: Stage) -> Result<Answer, PickupError> {
        self.whereabouts.note(Some(stage));
        let line =
            self.wire.line(MAX_LINE).await.map_err(|error| PickupError::wire(stage, &error))?;
        let text = String::from_utf8_lossy(&line);
        Answer::read(&text).ok_or_else(|| self.nonsense(stage, &text))
    }

    pub(super) fn nonsense(&self, stage: Stage, text: &str) -> PickupError {
        let shown = self.wire.transcript().one_line(text);
        PickupError::new(stage, &format!("the server sent {shown:?}, which is not a POP3 reply"))
    }

    pub(super) async fn command(
        &mut self,
        stage: Stage,
        line: &str,
        most: usize,
    ) -> Result<String, PickupError> {
        self.send(stage, line, most).await?;
        match self.answer(stage).await? {
            Answer::Ok(text) => Ok(text),
            Answer::Err(text) => Err(self.refusal(stage, line, &text)),
        }
    }

    pub(super) fn refusal(&self, stage: Stage, command: &str, text: &str) -> PickupError {
        let verb = command.split(' ').next().unwrap_or(command);
        let text = if text.is_empty() { "no reason given" } else { text };
        let mut error = PickupError::new(
            stage,
            &self.wire.transcript().one_line(&format!("{verb} refused: {text}")),
        );
        error.text = explained(error.text);
        error.refusal = matches!(stage, Stage::PickupGreeting | Stage::PickupLogin)
            .then(|| LoginRefusal::read(text));
        error.in_use = error.refusal == Some(LoginRefusal::InUse)
            || (error.refusal.is_none() && text.contains("[IN-USE]"));
        error
    }

    /// Reads the lines of a multi-line reply without dot-stuffing; `line` receives parts of at most
    /// [`MAX_LINE`] bytes.
    pub(super) async fn lines(
        &mut self,
        stage: Stage,
        mut line: impl FnMut(&[u8], bool),
    ) -> Result<(), PickupError> {
        let mut at_start = true;
        loop {
            let (part, ended) =
                self.wire.part(MAX_LINE).await.map_err(|error| PickupError::wire(stage, &error))?;
            if at_start && ended && part == b"." {
                return Ok(());
            }
            let text = match part.strip_prefix(b".") {
                Some(rest) if at_start => rest,
                _ => &part,
            };
            line(text, ended);
            at_start = ended;
        }
    }

    /// Reads a mail and keeps its first [`KEPT_OF_MAIL`] bytes.
    pub(super) async fn mail(
        &mut self,
        command: &str,
        most: usize,
    ) -> Result<Vec<u8>, PickupError> {
        let stage = Stage::PickupReceive;
        self.command(stage, command, most).await?;
        self.content(stage, KEPT_OF_MAIL).await
    }

    /// Reads more of a possible notification; returns `None` if the server refuses.
    pub(super) async fn look_further(
        &mut self,
        number: u64,
    ) -> Result<Option<Vec<u8>>, PickupError> {
        let stage = Stage::PickupReceive;
        self.send(stage, &format!("TOP {number} {NOTIFICATION_LINES}"), MAX_TOP).await?;
        Ok(match self.answer(stage).await? {
            Answer::Ok(_) => Some(self.content(stage, NOTIFICATION_BYTES).await?),
            Answer::Err(_) => None,
        })
    }

    /// Marks one of our mails for deletion. A mailbox that refuses is not a failure of the pick-up.
    pub(super) async fn delete(&mut self, number: u64) -> Result<(), PickupError> {
        let stage = Stage::PickupReceive;
        let command = format!("DELE {number}");
        self.send(stage, &command, MAX_REPLY).await?;
        if let Answer::Err(text) = self.answer(stage).await? {
            let error = self.refusal(stage, &command, &text);
            tracing::debug!(%error, "test mail not deleted");
        }
        Ok(())
    }

    /// Reads the reply to a TOP that was sent.
    pub(super) async fn top(&mut self) -> Result<Top, PickupError> {
        let stage = Stage::PickupReceive;
        Ok(match self.answer(stage).await? {
            Answer::Ok(_) => Ok(self.content(stage, KEPT_OF_MAIL).await?),
            Answer::Err(text) => Err(text),
        })
    }

    /// Returns the first bytes of a multi-line reply.
    async fn content(&mut self, stage: Stage, kept: usize) -> Result<Vec<u8>, PickupError> {
        let mut mail = Vec::new();
        self.lines(stage, |part, ended| {
            if mail.len() < kept {
                mail.extend_from_slice(part);
                if ended {
                    mail.extend_from_slice(b"\r\n");
                }
            }
        })
        .await?;
        Ok(mail)
    }

    /// Returns the lines of CAPA in capitals, or `None` if the server does not support it.
    pub(super) async fn capabilities(
        &mut self,
        stage: Stage,
    ) -> Result<Option<Vec<Vec<String>>>, PickupError> {
        self.send(stage, "CAPA", MAX_REPLY).await?;
        if let Answer::Err(_) = self.answer(stage).await? {
            return Ok(None);
        }
        let mut capabilities = Vec::new();
        self.lines(stage, |line, _| {
            let line = String::from_utf8_lossy(line).to_ascii_uppercase();
            capabilities.push(line.split_whitespace().map(str::to_owned).collect());
        })
        .await?;
        Ok(Some(capabilities))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ok_is_success() {
        let ok = |text: &str| Some(Answer::Ok(text.to_owned()));
        let err = |text: &str| Some(Answer::Err(text.to_owned()));
        for (line, expected) in [
            ("+OK ready", ok("ready")),
            ("+ok", ok("")),
            ("-ERR no", err("no")),
            ("-err", err("")),
            // hMailServer.
            ("+ERR Unknown command", err("Unknown command")),
            ("+ ", None),
            ("+VXNlcm5hbWU6", None),
            ("+OKAY", None),
            ("* OK IMAP", None),
            ("+O\u{212a}", None),
        ] {
            assert_eq!(Answer::read(line), expected, "{line}");
        }
    }
}
