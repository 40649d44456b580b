//! A pick-up: one visit to a mailbox over POP3, IMAP or Microsoft Graph, which looks for our mails
//! and leaves others alone.

mod graph;
pub(super) mod imap;
mod pop3;

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use mailqos_base::lock::IgnorePoison as _;
use mailqos_base::one_line;
use mailqos_config::{Endpoint, Pickup, PickupProtocol};
use mailqos_mail::{Credentials, LoginAttempt, LoginRefusal, Transcript, Wire, WireError};
use mailqos_model::{Micros, Outcome, Placement, Sample, Stage, UtcMicros};
use mailqos_net::TlsSession;

use super::{
    classify::{Classification, Known, Report, classify},
    connections::Connections,
    evidence::Moment,
    token::Token,
};

/// Time until the next attempt to open a mailbox that another program has locked.
const IN_USE_PAUSE: Duration = Duration::from_secs(1);
/// Time for a server to notice that watches have ended.
const YIELDED_PAUSE: Duration = Duration::from_millis(200);
/// Maximum duration of a whole visit, as a multiple of a step's deadline.
const STEPS_A_VISIT: u32 = 10;
/// Time for which visits report an unreadable mail, because it may be the expected one.
const UNREADABLE_FOR: Micros = Micros::from_secs(600);
/// Number of bytes kept of a mail: its header and the beginning of its body.
const KEPT_OF_MAIL: usize = 128 * 1024;

/// Stage of the current visit, for callers that can't wait for its end.
#[derive(Debug, Clone, Default)]
pub(crate) struct VisitStage(Arc<Mutex<Option<Stage>>>);

impl VisitStage {
    pub(super) fn note(&self, stage: Option<Stage>) {
        *self.0.lock().ignore_poison() = stage;
    }

    pub(super) fn stage(&self) -> Option<Stage> {
        *self.0.lock().ignore_poison()
    }
}

/// Access to a mailbox.
#[derive(Debug, Clone)]
pub(crate) struct MailboxEndpoint {
    pub(super) endpoint: Endpoint,
    pub(super) protocol: PickupProtocol,
    /// Folders to search over IMAP.
    pub(super) folders: Vec<String>,
    /// Deadline of each step.
    pub(super) step: Duration,
    /// Where visits report their stage.
    pub(super) whereabouts: VisitStage,
}

impl MailboxEndpoint {
    /// Returns the endpoint of a mailbox.
    pub(crate) fn of(pickup: &Pickup) -> Self {
        Self {
            endpoint: pickup.endpoint.clone(),
            protocol: pickup.protocol,
            folders: pickup.folders.clone(),
            step: pickup.timeout.to_std(),
            whereabouts: VisitStage::default(),
        }
    }
}

/// Handling of one of our mails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// A test waits for it: retrieve it, then delete it.
    Collect,
    /// It is left over: delete it.
    Delete,
    /// Another probe waits for it.
    Keep,
}

/// Recognises our mails, and decides how to handle them.
pub(super) trait MailClassifier: Known + Send + Sync {
    /// Returns how to handle one of our mails.
    fn action(&self, token: &Token) -> Action;
    /// Returns the maximum size of our mails as configured; gateways may add an unknown amount.
    fn largest(&self) -> u64;
}

/// Next action of a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextPoll {
    /// Stop: no test waits for a mail any more.
    Stop,
    /// Wait for the server's announcement.
    Wait,
    /// Poll at this time.
    Poll(Moment),
}

/// Directs a watch over a mailbox.
pub(super) trait WatchControl: Send + Sync {
    /// Returns the next action.
    fn look(&self) -> NextPoll;
    /// Completes when [`WatchControl::look`] may return another action.
    fn changed(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
    /// Reports that mails have arrived.
    fn landed(&self);
}

/// Durations of the phases of a visit; `None` until they end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PickupPhases {
    pub(super) tcp: Option<Micros>,
    pub(super) tls: Option<Micros>,
    pub(super) connect: Option<Micros>,
    pub(super) greeting: Option<Micros>,
    pub(super) login: Option<Micros>,
    /// Whether, over Microsoft Graph, an existing access token was used.
    pub(super) is_token_cached: bool,
    pub(super) list: Option<Micros>,
}

/// Failure of a visit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(crate) struct PickupError {
    pub(crate) stage: Stage,
    /// The failure in a single line without secrets.
    pub(crate) text: String,
    /// Whether another program has locked the mailbox, so that another attempt soon may succeed.
    pub(crate) in_use: bool,
    /// Whether the credentials were refused; more attempts cause delays.
    pub(crate) refused: bool,
    /// Whether this machine, not the server, caused the failure.
    pub(crate) own_network: bool,
    /// Reason why the server refused the connection or the login.
    pub(crate) refusal: Option<LoginRefusal>,
    /// Whether the connection ended without a message.
    pub(crate) closed: bool,
    /// Whether the session can continue because the failure is temporary.
    pub(crate) is_passing: bool,
}

impl PickupError {
    pub(super) fn new(stage: Stage, text: &str) -> Self {
        Self {
            stage,
            text: one_line(text, &[]),
            in_use: false,
            refused: false,
            own_network: false,
            refusal: None,
            closed: false,
            is_passing: false,
        }
    }

    fn wire(stage: Stage, error: &WireError) -> Self {
        let closed = match error {
            WireError::Closed | WireError::Broken(_) => true,
            WireError::Tls(reason) => {
                ["closed", "reset", "eof"].iter().any(|word| reason.contains(word))
            }
            _ => false,
        };
        Self { own_network: error.is_own_network(), closed, ..Self::new(stage, &error.to_string()) }
    }

    /// Returns whether the server may have had too many connections. Some report it, others just
    /// close the connection (couriertcpd, hMailServer).
    pub(super) fn is_of_connections(&self) -> bool {
        let hung_up = self.closed
            && matches!(
                self.stage,
                Stage::PickupConnect | Stage::PickupTls | Stage::PickupGreeting
            );
        self.refusal == Some(LoginRefusal::Connections) || hung_up
    }
}

impl PickupError {
    /// Returns the error for credentials that are not available on this machine.
    pub(crate) fn no_credentials(reason: &str) -> Self {
        Self { own_network: true, ..Self::new(Stage::PickupLogin, reason) }
    }

    /// Returns the error for credentials that the server recently rejected and that are not tried
    /// again yet.
    pub(crate) fn held_back(reason: &str) -> Self {
        Self { refused: true, ..Self::new(Stage::PickupLogin, reason) }
    }

    /// Fills in the result of a test whose pick-up failed.
    pub(crate) fn fill_in(&self, sample: &mut Sample) {
        if self.own_network {
            sample.outcome = Outcome::NotTested;
            sample.stage = None;
        } else {
            sample.outcome = Outcome::PickupFailed;
            sample.stage = Some(self.stage);
        }
        sample.error = Some(self.text.clone());
    }

    /// Returns the time until another attempt is worthwhile, if another program holds the mailbox
    /// or the connections.
    pub(crate) fn pause_before_retry(
        &self,
        connections: &Connections,
        place: &str,
    ) -> Option<Duration> {
        if self.is_of_connections() {
            let said_so = self.refusal == Some(LoginRefusal::Connections);
            return match connections.refused(place, said_so) {
                true => Some(YIELDED_PAUSE),
                false => said_so.then_some(IN_USE_PAUSE),
            };
        }
        self.in_use.then_some(IN_USE_PAUSE)
    }
}

/// Returns new credentials in place of refused ones, or the refusal.
async fn renewed(
    credentials: &Credentials,
    refusal: PickupError,
) -> Result<Credentials, PickupError> {
    match credentials.renewed().await {
        None => Err(refusal),
        Some(Ok(credentials)) => Ok(credentials),
        Some(Err(reason)) => Err(PickupError {
            text: format!("{}; and can't get a new token: {reason}", refusal.text),
            ..refusal
        }),
    }
}

/// Records that new credentials were rejected as well, so that further ones would not help for a
/// while.
async fn note_renewed(credentials: &Credentials, error: Option<&PickupError>) {
    if error.is_some_and(|error| error.refused) {
        credentials.renewed().await;
    }
}

/// A finding about one of our mails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finding {
    /// The mail itself.
    Mail,
    /// An automatic message about it.
    Notification(Report),
}

impl Finding {
    /// Returns whether it is the mail itself.
    pub(super) fn is_mail(&self) -> bool {
        *self == Self::Mail
    }

    /// Returns whether it may be deleted after reading.
    pub(super) fn is_deletable(&self) -> bool {
        match self {
            Self::Mail => true,
            Self::Notification(report) => report.is_deletable(),
        }
    }
}

/// One of our mails, or a notification about one.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) token: Token,
    /// The mail itself, or a message about it.
    pub(super) finding: Finding,
    /// Last time at which it was known to be absent.
    pub(super) not_shown: Option<Moment>,
    /// First time at which it was known to be present.
    pub(super) shown: Moment,
    /// Duration of its retrieval; `None` if that failed.
    pub(super) receive: Option<Micros>,
    /// The folder that contained it.
    pub(super) folder: Option<String>,
    /// Kind of that folder; `None` if the protocol shows no folders.
    pub(super) placement: Option<Placement>,
    /// Arrival by the server's clock (INTERNALDATE).
    pub(super) landed: Option<UtcMicros>,
    /// Time at which the server announced it (IDLE).
    pub(super) notified: Option<Moment>,
    /// Header and beginning of the body.
    pub(super) mail: Vec<u8>,
}

impl Found {
    /// Replaces the beginning by the whole message; returns whether the classification is
    /// confirmed.
    fn read_again(&mut self, judge: &dyn MailClassifier, mail: Vec<u8>) -> bool {
        let again = match classify(judge, &mail) {
            Classification::TestMail(token) => Some((token, Finding::Mail)),
            Classification::Notification(token, report) => {
                Some((token, Finding::Notification(report)))
            }
            // The returned mail may be beyond the part of a message that is kept.
            _ if !self.finding.is_mail() => return true,
            _ => None,
        };
        let Some((token, finding)) = again else {
            return false;
        };
        let is_same =
            token.nonce == self.token.nonce && finding.is_mail() == self.finding.is_mail();
        if is_same {
            self.finding = finding;
            self.mail = mail;
        }
        is_same
    }
}

/// Classifies a message that is our mail or a notification about it.
fn finding(judge: &dyn MailClassifier, message: &[u8]) -> Option<(Token, Finding)> {
    match classify(judge, message) {
        Classification::TestMail(token) => Some((token, Finding::Mail)),
        Classification::Notification(token, report) => Some((token, Finding::Notification(report))),
        Classification::About(token) => {
            tracing::debug!(monitor = %token.monitor, "a message about a test mail stays in the mailbox");
            None
        }
        Classification::Foreign => None,
    }
}

/// A configured folder that could not be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MissingFolder {
    pub(crate) name: String,
    /// The server's refusal and, if there is one, a suggestion for the folder.
    pub(crate) reason: String,
}

/// Result of a visit.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) began: Moment,
    pub(crate) phases: PickupPhases,
    pub(crate) tls: Option<TlsSession>,
    pub(super) found: Vec<Found>,
    pub(crate) error: Option<PickupError>,
    /// Configured folders that could not be opened.
    pub(crate) missing: Vec<MissingFolder>,
    /// Transcript of the visit.
    pub(crate) transcript: Option<Arc<Transcript>>,
}

impl Visit {
    pub(super) fn begin() -> Self {
        Self {
            transcript: None,
            began: Moment::now(),
            phases: PickupPhases::default(),
            tls: None,
            found: Vec::new(),
            error: None,
            missing: Vec::new(),
        }
    }

    /// Opens the connection; returns `None` if that failed.
    async fn connect(&mut self, door: &MailboxEndpoint) -> Option<Wire> {
        let began = Instant::now();
        match Wire::connect(&door.endpoint, door.step).await {
            Ok(wire) => {
                self.phases.connect = Some(Micros::from(began.elapsed()));
                self.phases.tcp = Some(wire.tcp_took());
                Some(wire)
            }
            Err(error) => {
                let stage = if error.is_tls() { Stage::PickupTls } else { Stage::PickupConnect };
                let mut transcript = Transcript::begin(&door.endpoint.server, door.endpoint.port);
                transcript.note(&error.to_string());
                self.transcript = Some(Arc::new(transcript));
                self.error = Some(PickupError::wire(stage, &error));
                None
            }
        }
    }

    /// Records the connection's properties and the result when the work is done.
    fn done(&mut self, wire: &Wire, result: Result<(), PickupError>) {
        self.phases.tls = wire.tls_took();
        self.tls = wire.tls().cloned();
        self.transcript = Some(Arc::new(wire.transcript().clone()));
        self.error = result.err();
    }

    /// Records the result of the login for others that use the account.
    pub(crate) fn note_login(&self, turn: Option<LoginAttempt>) {
        let Some(turn) = turn else { return };
        match &self.error {
            _ if self.phases.login.is_some() => turn.accepted(),
            Some(error) if error.refused => turn.refused(&error.text),
            _ => {}
        }
    }

    /// Fills in the durations of the phases, the folders that could not be opened, and the
    /// encryption.
    pub(crate) fn fill_in(&self, sample: &mut Sample) {
        fill_in(sample, &self.phases, &self.missing, self.tls.as_ref());
    }

    /// Returns a line for each folder that could not be opened.
    pub(crate) fn missing_folders(&self) -> impl Iterator<Item = String> + '_ {
        let folders = self.missing.iter();
        folders.map(|folder| {
            format!("the folder {:?} can't be opened: {}", folder.name, folder.reason)
        })
    }

    pub(crate) fn failed(began: Moment, error: PickupError) -> Self {
        Self { began, error: Some(error), ..Self::begin() }
    }
}

/// Fills in the part of a sample that concerns a visit.
pub(super) fn fill_in(
    sample: &mut Sample,
    phases: &PickupPhases,
    missing: &[MissingFolder],
    tls: Option<&TlsSession>,
) {
    sample.pickup_tcp = phases.tcp;
    sample.pickup_tls = phases.tls;
    sample.pickup_connect = phases.connect;
    sample.pickup_greeting = phases.greeting;
    sample.pickup_login = phases.login;
    sample.pickup_token_cached = phases.is_token_cached.then_some(true);
    sample.pickup_list = phases.list;
    let missing: Vec<&str> = missing.iter().map(|folder| &*folder.name).collect();
    sample.folders_missing = (!missing.is_empty()).then(|| missing.join(", "));
    if let Some(tls) = tls {
        sample.pickup_tls_version = Some(tls.version.clone());
        sample.pickup_tls_cipher = Some(tls.cipher.clone());
        sample.pickup_certificate_expires_at = tls.expires_at;
    }
}

/// State of a mailbox between visits.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pop3: pop3::Memory,
    graph: graph::Memory,
    pub(super) imap: imap::Memory,
}

/// The connection of a visit, which still has to be ended. Over POP3, deletions take effect only
/// then.
pub(super) enum Ending {
    Pop3(pop3::Session),
    Imap(imap::Session),
    Graph(Box<mailqos_mail::graph::Graph>),
}

impl Ending {
    fn wire(&self) -> &Wire {
        match self {
            Self::Pop3(session) => &session.wire,
            Self::Imap(session) => &session.wire,
            Self::Graph(graph) => &graph.wire,
        }
    }

    /// Ends the session properly.
    ///
    /// # Errors
    /// The server did not confirm the end, so mails to be deleted may still be present.
    pub(super) async fn end(self) -> Result<(), PickupError> {
        match self {
            Self::Pop3(session) => session.end().await,
            Self::Imap(session) => session.end().await,
            Self::Graph(graph) => {
                graph.close().await;
                Ok(())
            }
        }
    }
}

/// Mailbox and account of a visit.
#[derive(Clone, Copy)]
pub(crate) struct VisitTarget<'a> {
    pub(crate) door: &'a MailboxEndpoint,
    pub(crate) credentials: Option<&'a Credentials>,
}

/// Performs the visit on a newly opened connection.
async fn converse(
    wire: Wire,
    errand: VisitTarget<'_>,
    memory: &mut Memory,
    judge: &dyn MailClassifier,
    visit: &mut Visit,
) -> Ending {
    let (ending, result) = match errand.door.protocol {
        PickupProtocol::Pop3 => {
            let (session, result) =
                pop3::converse(wire, errand, &mut memory.pop3, judge, visit).await;
            (Ending::Pop3(session), result)
        }
        PickupProtocol::Imap => {
            let (session, result) =
                imap::converse(wire, errand, &mut memory.imap, judge, visit).await;
            (Ending::Imap(session), result)
        }
        PickupProtocol::Graph => {
            let (graph, result) =
                graph::converse(wire, errand, &mut memory.graph, judge, visit).await;
            (Ending::Graph(Box::new(graph)), result)
        }
    };
    visit.done(ending.wire(), result);
    ending
}

/// Visits a server that sends fixed data whatever it receives.
#[cfg(feature = "test-hooks")]
pub(super) async fn replay(
    said: Vec<u8>,
    errand: VisitTarget<'_>,
    memory: &mut Memory,
    judge: &dyn MailClassifier,
) -> Visit {
    let wire = Wire::scripted(said, errand.door.step);
    let mut visit = Visit::begin();
    converse(wire, errand, memory, judge, &mut visit).await;
    visit
}

/// Visits a mailbox once. All findings are complete when this returns; the caller then ends the
/// connection. If it is aborted, `visit` contains the findings so far.
pub(super) async fn visit(
    errand: VisitTarget<'_>,
    memory: &mut Memory,
    judge: &dyn MailClassifier,
    visit: &mut Visit,
) -> Option<Ending> {
    *visit = Visit::begin();
    if let Some(error) = memory.graph.held_back() {
        visit.error = Some(error);
        return None;
    }
    let wire = visit.connect(errand.door).await?;
    let ending = converse(wire, errand, memory, judge, visit).await;
    let worth_an_end = match ending {
        // Deletions in this session take effect only after QUIT. A session in which one command
        // failed can still end properly.
        Ending::Pop3(_) => {
            visit.error.as_ref().is_none_or(|error| error.is_passing) || !visit.found.is_empty()
        }
        Ending::Imap(_) | Ending::Graph(_) => {
            visit.error.as_ref().is_none_or(|error| error.is_passing)
        }
    };
    worth_an_end.then_some(ending)
}

/// Logs in and lists: no mail is read, deleted or marked as read. Folders that can't be opened are
/// in [`Visit::missing`].
pub(crate) async fn survey(errand: VisitTarget<'_>, memory: &mut Memory) -> Visit {
    let mut visit = Visit::begin();
    if let Some(error) = memory.graph.held_back() {
        visit.error = Some(error);
        return visit;
    }
    let Some(wire) = visit.connect(errand.door).await else {
        return visit;
    };
    let (ending, result) = match errand.door.protocol {
        PickupProtocol::Pop3 => {
            let (session, result) = pop3::survey(wire, errand, &mut memory.pop3, &mut visit).await;
            (Ending::Pop3(session), result)
        }
        PickupProtocol::Imap => {
            let (session, result) = imap::survey(wire, errand, &mut memory.imap, &mut visit).await;
            (Ending::Imap(session), result)
        }
        PickupProtocol::Graph => {
            let (graph, result) = graph::survey(wire, errand, &mut memory.graph, &mut visit).await;
            (Ending::Graph(Box::new(graph)), result)
        }
    };
    visit.done(ending.wire(), result);
    if visit.error.as_ref().is_none_or(|error| error.is_passing) {
        // The result is complete, even if the server does not end the session properly.
        let _ = ending.end().await;
    }
    visit
}
