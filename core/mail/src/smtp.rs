//! SMTP sessions on top of lettre, step by step, with each step timed. Below lettre is our
//! [`LettreStream`]: it times and limits the replies, repairs those that lettre would reject, and
//! upgrades the connection to TLS in place.
//!
//! Phases: connect (TCP, TLS) · greeting · EHLO · AUTH · envelope (MAIL, RCPT) · data.

mod lane;
mod login;

use std::{
    fmt,
    net::IpAddr,
    time::{Duration, Instant},
};

use lane::{LettreStream, State};
use lettre::{
    Address,
    transport::smtp::{
        client::AsyncSmtpConnection,
        commands::{Data, Mail, Rcpt, Rset, Starttls},
        extension::{ClientId, MailBodyParameter, MailParameter, RcptParameter},
    },
};
use mailqos_base::{Secret, one_line};
use mailqos_config::{Endpoint, TlsMode};
use mailqos_model::{Micros, Stage};
use mailqos_net::TlsSession;

use super::{HeldBack, Transcript, Wire, WireError, refusals};

/// Deadline for ending the session with QUIT.
const QUITTING: Duration = Duration::from_secs(5);

/// A server's reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Reply code of three digits.
    pub code: u16,
    /// Texts after the code, one per line.
    pub lines: Vec<String>,
    /// Time at which its last byte was received.
    pub at: Instant,
}

impl Reply {
    /// Returns the enhanced status code (RFC 3463), such as `5.1.1`.
    pub fn enhanced_status(&self) -> Option<&str> {
        let word = self.lines.first()?.split_whitespace().next()?;
        let parts: Vec<&str> = word.split('.').collect();
        let fits = parts.len() == 3
            && parts.iter().all(|part| {
                (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
            })
            && matches!(parts[0], "2" | "4" | "5");
        fits.then_some(word)
    }

    /// Returns whether the code is 2xx.
    pub fn is_success(&self) -> bool {
        self.code / 100 == 2
    }

    /// Returns whether the code is 4xx: a later attempt may succeed.
    pub fn is_transient(&self) -> bool {
        self.code / 100 == 4
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", one_line(&format!("{} {}", self.code, self.lines.join(" ")), &[]))
    }
}

/// The failure of a session.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
pub struct SmtpError {
    /// The stage that failed.
    pub stage: Stage,
    /// The failure in a single line without secrets.
    pub text: String,
    /// The server's refusal, if it was one.
    pub reply: Option<Reply>,
    /// Rejected recipients, if that is the failure, each with the reply.
    pub refused: Vec<(Address, Reply)>,
    /// Number of recipients that the server had accepted before the failure.
    pub taken: usize,
    /// Whether the content was sent completely without a reply, so that the mail may have been
    /// accepted.
    pub uncertain: bool,
    /// Whether this machine, not the server, caused the failure.
    pub own_network: bool,
}

impl SmtpError {
    /// A failure at a stage, without a reply.
    pub fn new(stage: Stage, text: &str) -> Self {
        Self {
            stage,
            text: text.to_owned(),
            reply: None,
            refused: Vec::new(),
            taken: 0,
            uncertain: false,
            own_network: false,
        }
    }

    /// Creates the error for a login that was not attempted.
    pub fn of_login(held_back: &HeldBack) -> Self {
        Self {
            stage: Stage::SmtpAuth,
            text: held_back.to_string(),
            reply: None,
            refused: Vec::new(),
            taken: 0,
            uncertain: false,
            own_network: false,
        }
    }

    /// Returns whether the server reported a temporary failure (4xx).
    pub fn is_transient(&self) -> bool {
        self.reply.as_ref().is_some_and(Reply::is_transient)
    }
}

/// Durations of the phases; `None` for phases that have not ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SmtpPhases {
    /// Name look-up and TCP.
    pub tcp: Option<Micros>,
    /// TLS handshake, implicit or after STARTTLS.
    pub tls: Option<Micros>,
    /// TCP and, if TLS is implicit, the handshake.
    pub connect: Option<Micros>,
    /// Time from the connection to the greeting.
    pub greeting: Option<Micros>,
    /// EHLO, or both of them with STARTTLS.
    pub ehlo: Option<Micros>,
    /// Authentication.
    pub auth: Option<Micros>,
    /// MAIL and RCPT.
    pub envelope: Option<Micros>,
    /// DATA, the content, and the reply that accepts the mail.
    pub data: Option<Micros>,
    /// SMTP send time: from the start of the connection to the reply that accepts the message.
    pub send: Option<Micros>,
}

/// A session with an SMTP server.
pub struct Smtp {
    endpoint: Endpoint,
    step: Duration,
    /// Maximum duration of the whole session.
    whole: Option<Duration>,
    lane: LettreStream,
    connection: Option<AsyncSmtpConnection>,
    client: ClientId,
    /// Durations of the phases.
    pub phases: SmtpPhases,
    /// The server's capabilities: the lines of its reply to EHLO.
    offers: Vec<String>,
    /// The transcript, if the connection could not be opened.
    transcript: Option<Transcript>,
    /// Number of replies before this step.
    told: usize,
    /// Whether the server supports DSN: it reports failures and delays, and returns only the header
    /// of a mail.
    failures_only: bool,
}

impl fmt::Debug for Smtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Smtp").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Smtp {
    /// Creates a session that is not connected yet. `step` is the deadline of each step.
    pub fn new(endpoint: &Endpoint, step: Duration) -> Self {
        Self {
            endpoint: endpoint.clone(),
            step,
            whole: None,
            lane: LettreStream::default(),
            connection: None,
            client: ClientId::Ipv4(std::net::Ipv4Addr::LOCALHOST),
            phases: SmtpPhases::default(),
            offers: Vec::new(),
            transcript: None,
            told: 0,
            failures_only: false,
        }
    }

    /// Requests reports on failures and delays that return only the header of the mail (RFC 3461),
    /// if the server supports this: a bounce that contains a large report would itself bounce.
    pub fn report_failures_only(&mut self) {
        self.failures_only = true;
    }

    /// Sets the deadline for the server to accept a completely sent mail.
    pub fn wait_for_acceptance(&mut self, limit: Duration) {
        self.lane.lock().accepting = Some(limit);
    }

    /// Returns the server's size limit (RFC 1870), if it announces one.
    pub fn size_limit(&self) -> Option<u64> {
        let limit = self.offered("SIZE")?.first()?.parse().ok()?;
        (limit > 0).then_some(limit)
    }

    /// Limits the duration of the whole session, from its connection on.
    pub fn limit(&mut self, whole: Duration) {
        self.whole = Some(whole);
    }

    /// Connects, reads the greeting, sends EHLO, and upgrades to TLS if configured.
    ///
    /// # Errors
    /// [`SmtpError`] includes the failed phase.
    pub async fn open(&mut self) -> Result<(), SmtpError> {
        let began = Instant::now();
        let mut wire = match Wire::connect(&self.endpoint, self.step).await {
            Ok(wire) => wire,
            Err(error) => {
                let mut transcript = Transcript::begin(&self.endpoint.server, self.endpoint.port);
                transcript.note(&error.to_string());
                self.transcript = Some(transcript);
                let stage = if error.is_tls() { Stage::SmtpTls } else { Stage::SmtpConnect };
                return Err(wire_error(stage, &error));
            }
        };
        if let Some(whole) = self.whole {
            wire.limit(whole);
        }
        self.greet(wire, began).await
    }

    /// Does the same over an existing connection; `began` is when it started to open.
    #[cfg(feature = "test-hooks")]
    pub async fn converse_over(&mut self, wire: Wire, began: Instant) -> Result<(), SmtpError> {
        self.greet(wire, began).await
    }

    async fn greet(&mut self, wire: Wire, began: Instant) -> Result<(), SmtpError> {
        let connected = Instant::now();
        self.phases.tcp = Some(wire.tcp_took());
        self.phases.tls = wire.tls_took();
        self.phases.connect = Some(Micros::from(connected - began));
        let local = wire.local().map(|address| address.ip());
        self.client = match (&self.endpoint.helo, local) {
            (Some(name), _) => ClientId::Domain(name.clone()),
            (None, Some(IpAddr::V4(address))) => ClientId::Ipv4(address),
            (None, Some(IpAddr::V6(address))) => ClientId::Ipv6(address),
            (None, None) => ClientId::Ipv4(std::net::Ipv4Addr::LOCALHOST),
        };
        self.lane.start(wire, self.step, true);
        self.hello(Some(connected)).await?;
        if self.endpoint.tls == TlsMode::StartTls {
            self.start_tls().await?;
        }
        Ok(())
    }

    /// Reads the greeting (from the network if `connected` is given) and sends EHLO.
    async fn hello(&mut self, connected: Option<Instant>) -> Result<(), SmtpError> {
        self.told = self.lane.replies();
        let result =
            AsyncSmtpConnection::connect_with_transport(Box::new(self.lane.clone()), &self.client)
                .await;
        let replies = self.lane.lock().replies[self.told..].to_vec();
        let said = self.lane.lock().asked_at;
        let (greeting, hello) = match connected {
            Some(_) => (replies.first(), replies.get(1)),
            None => (None, replies.first()),
        };
        if let (Some(connected), Some(greeting)) = (connected, greeting) {
            self.phases.greeting =
                Some(Micros::from(greeting.at.saturating_duration_since(connected)));
        }
        if let (Some(hello), Some(said)) = (hello, said) {
            let took = Micros::from(hello.at.saturating_duration_since(said));
            self.phases.ehlo = Some(self.phases.ehlo.unwrap_or_default() + took);
            self.offers = hello.lines.iter().skip(1).cloned().collect();
        }
        self.connection = Some(result.map_err(|error| self.failed(Stage::SmtpGreeting, &error))?);
        Ok(())
    }

    async fn start_tls(&mut self) -> Result<(), SmtpError> {
        if !self.offers("STARTTLS") {
            return Err(self.refuse(
                Stage::SmtpTls,
                "the server does not offer STARTTLS; set tls = \"implicit\" (usually port 465), or tls = \
                 \"none\" to send mail in plaintext"
                    .to_owned(),
            ));
        }
        self.command(Stage::SmtpTls, Starttls).await?;
        // The stream below lettre changes, so a new lettre connection takes it over with a
        // synthetic greeting.
        self.connection = None;
        let Some(mut wire) = self.lane.stop() else {
            return Err(self.refuse(Stage::SmtpTls, WireError::EarlyData.to_string()));
        };
        let upgraded = wire.upgrade(&self.endpoint.trust).await;
        self.phases.tls = wire.tls_took();
        self.lane.start(wire, self.step, false);
        upgraded.map_err(|error| wire_error(Stage::SmtpTls, &error))?;
        self.hello(None).await
    }

    /// Returns the client name sent in EHLO.
    pub fn client_name(&self) -> String {
        self.client.to_string()
    }

    /// Returns whether the server's reply to EHLO contains this keyword.
    pub fn offers(&self, keyword: &str) -> bool {
        self.offered(keyword).is_some()
    }

    /// Returns the parameters of a keyword in the reply to EHLO, from all lines that contain it.
    /// Some servers list each mechanism on a separate line, or repeat them as `AUTH=LOGIN`, the
    /// form that old clients expect.
    fn offered(&self, keyword: &str) -> Option<Vec<String>> {
        let mut offered: Option<Vec<String>> = None;
        for line in &self.offers {
            let mut words =
                line.split(|c: char| c.is_whitespace() || c == '=').filter(|word| !word.is_empty());
            if words.next().is_some_and(|word| word.eq_ignore_ascii_case(keyword)) {
                let known = offered.get_or_insert_default();
                for word in words.map(str::to_ascii_uppercase) {
                    if !known.contains(&word) {
                        known.push(word);
                    }
                }
            }
        }
        offered
    }

    /// Sends MAIL and RCPT. Each recipient gets a separate reply.
    ///
    /// # Errors
    /// The sender or every recipient is refused.
    pub async fn envelope(
        &mut self,
        from: Option<&Address>,
        to: &[Address],
        size: usize,
        eight_bit: bool,
    ) -> Result<Vec<(Address, Reply)>, SmtpError> {
        let stage = Stage::SmtpRcpt;
        let mut parameters = Vec::new();
        if self.offers("SIZE") {
            parameters.push(MailParameter::Size(size));
        }
        if eight_bit && self.offers("8BITMIME") {
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        // A recipient that the server can't accept does not affect the others.
        let utf8 = self.offers("SMTPUTF8");
        let foreign = |address: &Address| !address.to_string().is_ascii();
        let beyond = "5.6.7 the address contains non-ASCII characters, which this server does not accept (no \
            SMTPUTF8)";
        if from.is_some_and(foreign) && !utf8 {
            return Err(self.refuse(stage, beyond.to_owned()));
        }
        if utf8 && from.into_iter().chain(to).any(foreign) {
            parameters.push(MailParameter::SmtpUtfEight);
        }
        let mut wishes = Vec::new();
        if self.failures_only && self.offers("DSN") {
            parameters.push(MailParameter::Other {
                keyword: "RET".to_owned(),
                value: Some("HDRS".to_owned()),
            });
            wishes.push(RcptParameter::Other {
                keyword: "NOTIFY".to_owned(),
                value: Some("FAILURE,DELAY".to_owned()),
            });
        }
        let began = Instant::now();
        self.command(stage, Mail::new(from.cloned(), parameters)).await?;
        let mut results = Vec::with_capacity(to.len());
        let mut refusal: Option<SmtpError> = None;
        for recipient in to {
            if foreign(recipient) && !utf8 {
                let reply = Reply { code: 553, lines: vec![beyond.to_owned()], at: Instant::now() };
                results.push((recipient.clone(), reply.clone()));
                refusal.get_or_insert(SmtpError {
                    reply: Some(reply),
                    ..self.refuse(stage, beyond.to_owned())
                });
                continue;
            }
            match self.command(stage, Rcpt::new(recipient.clone(), wishes.clone())).await {
                Ok(reply) => results.push((recipient.clone(), reply)),
                Err(error) => match error.reply.clone() {
                    // 421 ends the session (RFC 5321, section 3.8).
                    Some(reply) if reply.code != 421 => {
                        results.push((recipient.clone(), reply));
                        // If one recipient may succeed later, so may the whole transaction.
                        if error.is_transient()
                            || refusal.as_ref().is_none_or(|known| !known.is_transient())
                        {
                            refusal = Some(error);
                        }
                    }
                    _ => {
                        let taken = results.iter().filter(|(_, reply)| reply.is_success()).count();
                        return Err(SmtpError { taken, ..error });
                    }
                },
            }
        }
        match refusal {
            Some(error) if results.iter().all(|(_, reply)| !reply.is_success()) => {
                Err(SmtpError { refused: results, ..error })
            }
            _ => {
                self.phases.envelope =
                    Some(Micros::from(self.last_reply_at().saturating_duration_since(began)));
                Ok(results)
            }
        }
    }

    /// Resets the open transaction, so that another can start.
    ///
    /// # Errors
    /// The server refuses, or the connection is lost.
    pub async fn reset(&mut self) -> Result<(), SmtpError> {
        self.command(Stage::SmtpRcpt, Rset).await.map(drop)
    }

    /// Returns the maximum number of recipients in a transaction, if the server announces it (RFC
    /// 9422).
    pub fn recipients_limit(&self) -> Option<usize> {
        let words = self.offered("LIMITS")?;
        let at = words.iter().position(|word| word == "RCPTMAX")?;
        words.get(at + 1)?.parse().ok().filter(|most| *most > 0)
    }

    /// Sends DATA and the content. `content` is called only after the server is ready for it, so
    /// that it can include the time.
    ///
    /// # Errors
    /// [`SmtpError::uncertain`] is set if the mail may have been accepted.
    pub async fn data(
        &mut self,
        content: impl FnOnce() -> Vec<u8> + Send,
    ) -> Result<Reply, SmtpError> {
        let stage = Stage::SmtpData;
        let began = Instant::now();
        let reply = self.command(stage, Data).await?;
        if reply.code != 354 {
            return Err(self
                .refuse(stage, format!("the server replied to DATA with {reply} instead of 354")));
        }
        let Some(mut connection) = self.connection.take() else {
            return Err(self.refuse(stage, "there is no connection".to_owned()));
        };
        let content = content();
        // lettre adds a line end before the final dot, so the content's last line end is removed.
        let content = content.strip_suffix(b"\r\n").unwrap_or(&content);
        self.lane.hold();
        self.told = self.lane.replies();
        let result = connection.message(content).await;
        self.connection = Some(connection);
        let uncertain = self.lane.release() && self.lane.replies() == self.told;
        result.map_err(|error| SmtpError { uncertain, ..self.failed(stage, &error) })?;
        match self.last_reply() {
            Some(reply) if reply.is_success() => {
                let started = self.lane.lock().wire.as_ref().map_or(began, Wire::started);
                self.phases.data = Some(Micros::from(reply.at.saturating_duration_since(began)));
                self.phases.send = Some(Micros::from(reply.at.saturating_duration_since(started)));
                Ok(reply)
            }
            Some(reply) => {
                Err(self.refuse(stage, format!("the server replied to the content with {reply}")))
            }
            None => Err(self.refuse(stage, WireError::Closed.to_string())),
        }
    }

    /// Sends a command and reads its reply.
    async fn command<C: fmt::Display>(
        &mut self,
        stage: Stage,
        command: C,
    ) -> Result<Reply, SmtpError> {
        let Some(mut connection) = self.connection.take() else {
            return Err(self.refuse(stage, "there is no connection".to_owned()));
        };
        self.told = self.lane.replies();
        let result = connection.command(command).await;
        self.connection = Some(connection);
        match result {
            Ok(_) => {
                self.last_reply().ok_or_else(|| self.refuse(stage, WireError::Closed.to_string()))
            }
            Err(error) => Err(self.failed(stage, &error)),
        }
    }

    /// Sends QUIT without waiting for the reply.
    pub fn quit(mut self) {
        if let Some(mut connection) = self.connection.take() {
            tokio::spawn(async move {
                let _ = tokio::time::timeout(QUITTING, connection.quit()).await;
            });
        }
    }

    /// Returns the last reply.
    pub fn last_reply(&self) -> Option<Reply> {
        self.lane.lock().replies.last().cloned()
    }

    fn last_reply_at(&self) -> Instant {
        self.last_reply().map_or_else(Instant::now, |reply| reply.at)
    }

    /// Returns the properties of the TLS session.
    pub fn tls(&self) -> Option<TlsSession> {
        self.lane.lock().wire.as_ref().and_then(|wire| wire.tls().cloned())
    }

    /// Returns the transcript.
    pub fn transcript(&self) -> Option<Transcript> {
        self.lane
            .lock()
            .wire
            .as_ref()
            .map(|wire| wire.transcript().clone())
            .or_else(|| self.transcript.clone())
    }

    /// Returns the error behind a failure that lettre reports.
    fn failed(&self, stage: Stage, error: &lettre::transport::smtp::Error) -> SmtpError {
        let lane = self.lane.lock();
        // The server's last reply in this step explains more than the end of the connection.
        // (lettre sends QUIT automatically after some refusals, so the refusal need not be the last
        // reply.)
        let refusal = lane.replies[self.told..].iter().rev().find(|reply| reply.code >= 400);
        match (refusal, &lane.failure) {
            (Some(reply), _) => self.refused(&lane, stage, reply.clone()),
            (None, Some(failure)) => wire_error(stage, failure),
            (None, None) => self.refuse(stage, one_line(&error.to_string(), &[])),
        }
    }

    fn refused(&self, lane: &State, stage: Stage, reply: Reply) -> SmtpError {
        let text = format!("{} {}", reply.code, reply.lines.join(" "));
        SmtpError {
            stage,
            text: refusals::explained(match &lane.wire {
                Some(wire) => wire.transcript().one_line(&text),
                None => one_line(&text, &[]),
            }),
            reply: Some(reply),
            refused: Vec::new(),
            taken: 0,
            uncertain: false,
            own_network: false,
        }
    }

    fn refuse(&self, stage: Stage, text: String) -> SmtpError {
        SmtpError {
            stage,
            text,
            reply: None,
            refused: Vec::new(),
            taken: 0,
            uncertain: false,
            own_network: false,
        }
    }
}

fn wire_error(stage: Stage, error: &WireError) -> SmtpError {
    SmtpError {
        stage,
        text: one_line(&error.to_string(), &[]),
        reply: None,
        refused: Vec::new(),
        taken: 0,
        uncertain: false,
        own_network: error.is_own_network(),
    }
}

/// A command line that may contain a secret.
struct Line<'a>(&'a Secret);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\r\n", self.0.expose())
    }
}
