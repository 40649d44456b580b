//! A session with an IMAP server: its lines, commands and capabilities.

use std::time::{Duration, Instant};

use mailqos_mail::{LoginRefusal, Wire, WireError, explained};
use mailqos_model::Stage;

use super::{
    super::{KEPT_OF_MAIL, PickupError, VisitStage},
    reply::{self, Response, Status},
};

/// Maximum length of a line: a search that finds some 400,000 mails.
pub(super) const MAX_LINE: usize = 4 * 1024 * 1024;
/// Maximum length of a reply if no long one is requested.
pub(super) const MAX_REPLY: usize = 1024 * 1024;
/// Maximum number of lines before the end of a command that are not responses, or that end other
/// commands.
const MAX_ODD: usize = 64;
/// Size of the pieces in which a literal is read.
const PIECE: usize = 64 * 1024;

/// A session with an IMAP server.
pub(in crate::mail_test) struct Session {
    pub(in crate::mail_test::pickup) wire: Wire,
    pub(super) step: Duration,
    tag: u32,
    /// Capabilities in upper case.
    pub(super) capabilities: Vec<String>,
    /// Whether the server has sent its capabilities since this was last reset.
    pub(super) has_fresh_capabilities: bool,
    /// Time at which the last literal ended.
    pub(super) literal_at: Option<Instant>,
    /// Whether the server has announced more mails in any response. It does not repeat the
    /// announcement.
    pub(super) has_news: bool,
    whereabouts: VisitStage,
}

/// A line from the server.
pub(super) enum ServerLine {
    /// Untagged data.
    Data(Response),
    /// An untagged status.
    Status(Status),
    /// A continuation request (`+`) with its text.
    Continue(String),
    /// The end of the command with this tag.
    Tagged(String, Status),
    /// A line that is not a response.
    Noise(String),
}

impl ServerLine {
    /// Returns whether it announces more mails.
    pub(super) fn is_news(&self) -> bool {
        matches!(self, Self::Data(response) if is_news(&response.text))
    }
}

/// Returns whether a line announces more mails.
pub(super) fn is_news(line: &[u8]) -> bool {
    line.len() >= 7 && line[line.len() - 7..].eq_ignore_ascii_case(b" EXISTS")
}

impl Session {
    /// Ends the session.
    pub(in crate::mail_test::pickup) async fn end(mut self) -> Result<(), PickupError> {
        let result = self.command(Stage::PickupReceive, "LOGOUT", MAX_REPLY, |_| {}).await;
        self.wire.close().await;
        result.map(|_| ())
    }

    pub(super) fn new(wire: Wire, step: Duration, whereabouts: VisitStage) -> Self {
        Self {
            wire,
            step,
            tag: 0,
            capabilities: Vec::new(),
            has_fresh_capabilities: false,
            literal_at: None,
            has_news: false,
            whereabouts,
        }
    }

    pub(super) fn wire_error(stage: Stage, error: &WireError) -> PickupError {
        PickupError::wire(stage, error)
    }

    pub(super) async fn send(
        &mut self,
        stage: Stage,
        line: &str,
        secret: bool,
    ) -> Result<(), PickupError> {
        self.wire.secret(secret);
        let result = self.wire.send(format!("{line}\r\n").as_bytes()).await;
        self.wire.secret(false);
        result.map_err(|error| Self::wire_error(stage, &error))
    }

    pub(super) async fn said(&mut self, stage: Stage) -> Result<ServerLine, PickupError> {
        self.whereabouts.note(Some(stage));
        let error = |error: WireError| Self::wire_error(stage, &error);
        let mut first = self.wire.line(MAX_LINE).await.map_err(error)?;
        // Some servers send empty lines between responses. They count towards the limits of the
        // reply.
        while first.is_empty() {
            first = self.wire.line(MAX_LINE).await.map_err(error)?;
        }
        let text = String::from_utf8_lossy(&first);
        if let Some(rest) = text.strip_prefix('+') {
            return Ok(ServerLine::Continue(rest.trim_end().to_owned()));
        }
        let Some((tag, rest)) = text.split_once(' ') else {
            return Ok(ServerLine::Noise(text.into_owned()));
        };
        if tag != "*" {
            return Ok(match Status::read(rest) {
                Some(status) => ServerLine::Tagged(tag.to_owned(), status),
                None => ServerLine::Noise(text.into_owned()),
            });
        }
        if let Some(status) = Status::read(rest) {
            return Ok(ServerLine::Status(status));
        }
        let mut response = Response { text: first[2..].to_vec(), literals: Vec::new() };
        let mut announced = reply::literal(&response.text);
        // One mail is requested with one literal; a response with several has no larger limit.
        let mut room = KEPT_OF_MAIL;
        while let Some(length) = announced {
            let mut left = length;
            let mut content = Vec::new();
            while left > 0 {
                let piece = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
                let bytes = self.wire.bytes(piece).await.map_err(error)?;
                left -= bytes.len() as u64;
                let kept = bytes.len().min(room);
                room -= kept;
                content.extend_from_slice(&bytes[..kept]);
            }
            self.literal_at = Some(self.wire.received_at());
            response.literals.push(content);
            let more = self.wire.line(MAX_LINE).await.map_err(error)?;
            announced = reply::literal(&more);
            response.text.extend_from_slice(&more);
            if response.text.len() > MAX_LINE {
                return Err(error(WireError::LineTooLong(MAX_LINE)));
            }
        }
        Ok(ServerLine::Data(response))
    }

    pub(super) fn nonsense(&self, stage: Stage, text: &str) -> PickupError {
        let shown = self.wire.transcript().one_line(text);
        PickupError::new(
            stage,
            &format!("the server sent {shown:?}, which is not an IMAP response"),
        )
    }

    pub(super) fn next_tag(&mut self) -> String {
        self.tag = self.tag.wrapping_add(1);
        format!("A{}", self.tag)
    }

    /// Reads to the end of the command; `each` receives the preceding responses. Lines that are not
    /// responses are skipped, as are ends of other commands: text appended by Xeams, lines repeated
    /// by QQ, and late lines from proxies.
    pub(super) async fn finish(
        &mut self,
        stage: Stage,
        tag: &str,
        mut each: impl FnMut(&ServerLine),
    ) -> Result<Result<Status, String>, PickupError> {
        let mut farewell = None;
        let (mut odd, mut oddities) = (None, 0);
        loop {
            let said = match self.said(stage).await {
                Ok(said) => said,
                Err(error) => {
                    // The server's own message explains more than the end of the connection.
                    return Err(match (farewell, odd) {
                        (Some((text, refusal)), _) => PickupError { text, refusal, ..error },
                        (None, Some(odd)) => {
                            let text = format!("{}; before that, {odd}", error.text);
                            PickupError { text, ..error }
                        }
                        (None, None) => error,
                    });
                }
            };
            match &said {
                ServerLine::Tagged(known, status) if known == tag => {
                    self.note_capabilities(&said);
                    return Ok(Ok(status.clone()));
                }
                ServerLine::Tagged(..) | ServerLine::Noise(_) => {
                    oddities += 1;
                    let what = match &said {
                        ServerLine::Noise(text) => self.nonsense(stage, text).text,
                        _ => "the server answered a command that was not sent".to_owned(),
                    };
                    if oddities > MAX_ODD {
                        return Err(PickupError::new(stage, &what));
                    }
                    tracing::debug!(what, "unexpected line ignored");
                    odd = Some(what);
                    continue;
                }
                ServerLine::Continue(challenge) => return Ok(Err(challenge.trim().to_owned())),
                ServerLine::Status(status) if status.word == "BYE" => {
                    let text = self.wire.transcript().one_line(&status.text);
                    let refusal = LoginRefusal::read(&text);
                    farewell = Some((
                        format!("the server ended the conversation: {text}"),
                        (refusal == LoginRefusal::Connections).then_some(refusal),
                    ));
                }
                ServerLine::Status(_) | ServerLine::Data(_) => {}
            }
            self.note_capabilities(&said);
            self.has_news |= said.is_news();
            each(&said);
        }
    }

    pub(super) fn note_capabilities(&mut self, said: &ServerLine) {
        let told: Vec<String> = match said {
            ServerLine::Status(status) | ServerLine::Tagged(_, status)
                if status.says("CAPABILITY") =>
            {
                status.code[1..].to_vec()
            }
            ServerLine::Data(response) => {
                let text = String::from_utf8_lossy(&response.text).to_ascii_uppercase();
                match text.strip_prefix("CAPABILITY ") {
                    Some(words) => words.split_whitespace().map(str::to_owned).collect(),
                    None => return,
                }
            }
            _ => return,
        };
        self.capabilities = told;
        self.has_fresh_capabilities = true;
    }

    /// Sends a command without secrets and reads its response.
    pub(super) async fn command(
        &mut self,
        stage: Stage,
        command: &str,
        most: usize,
        each: impl FnMut(&ServerLine),
    ) -> Result<Status, PickupError> {
        let tag = self.next_tag();
        self.wire.begin(self.step, most);
        self.send(stage, &format!("{tag} {command}"), false).await?;
        match self.finish(stage, &tag, each).await? {
            Ok(status) => Ok(status),
            Err(_) => {
                Err(PickupError::new(stage, "the server sent an unexpected continuation request"))
            }
        }
    }

    /// Sends a command; any result but OK is an error.
    pub(super) async fn must(
        &mut self,
        stage: Stage,
        command: &str,
        most: usize,
        each: impl FnMut(&ServerLine),
    ) -> Result<Status, PickupError> {
        let status = self.command(stage, command, most, each).await?;
        if status.is_ok() { Ok(status) } else { Err(self.refusal(stage, command, &status)) }
    }

    pub(super) fn refusal(&self, stage: Stage, command: &str, status: &Status) -> PickupError {
        let mut words = command.split(' ');
        let mut verb = words.next().unwrap_or_default().to_owned();
        if verb == "UID" {
            verb = format!("UID {}", words.next().unwrap_or_default());
        }
        let code = if status.code.is_empty() {
            String::new()
        } else {
            format!("[{}] ", status.code.join(" "))
        };
        let text = if status.text.is_empty() && code.is_empty() {
            "no reason given"
        } else {
            &status.text
        };
        let text = self.wire.transcript().one_line(&format!("{verb} refused: {code}{text}"));
        let mut error = PickupError::new(stage, &text);
        error.text = explained(error.text);
        error.refusal = matches!(stage, Stage::PickupGreeting | Stage::PickupLogin)
            .then(|| LoginRefusal::read(&format!("{code}{}", status.text)));
        error.in_use = status.says("INUSE") || error.refusal == Some(LoginRefusal::InUse);
        error
    }

    pub(super) fn has(&self, capability: &str) -> bool {
        let listed = |name: &str| self.capabilities.iter().any(|known| known == name);
        listed(capability)
            || (listed("IMAP4REV2")
                && matches!(capability, "UIDPLUS" | "SASL-IR" | "LITERAL-" | "IDLE" | "UNSELECT"))
    }
}
