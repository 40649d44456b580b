//! IMAP (RFC 3501 and RFC 9051, with 4315 UIDPLUS, 4959 SASL-IR, 7888 non-synchronising literals).
//!
//! Mails are read with PEEK, so that no flag of a foreign mail changes; only mails of ours are deleted, by their UIDs.
//! UIDs are remembered between visits, so that a mail is looked into once, and a visit without news costs one SELECT.

mod reply;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::{Duration, Instant},
};

use mailqos_core::{
    config::TlsMode,
    mail::{
        Credentials, Secret, Wire, WireError, explained,
        sasl::{self, MAX_CHALLENGES, Mechanism},
    },
    model::{Micros, Stage, UtcMicros},
};

use super::{
    Door, Finding, Found, Judge, KEPT_OF_MAIL, PickupError, PickupPhases, STEPS_A_VISIT, Verdict, Visit, Whereabouts,
    finding, note_renewed, renewed,
};
use crate::mailqos::{
    classify::{Classification, classify, may_notify},
    evidence::Moment,
    token::Token,
};
use reply::{Response, Status, Value};
use watch::Witness;

pub(in crate::mailqos) use watch::watch;

/// The longest line: a search that finds some 400,000 mails.
const MAX_LINE: usize = 4 * 1024 * 1024;
/// The longest reply where nothing long is asked for.
const MAX_REPLY: usize = 1024 * 1024;
/// The longest reply to a search, or to a fetch of several heads.
const MAX_LISTING: usize = 16 * 1024 * 1024;
/// The most that is read of a mail of ours.
const MAX_MAIL: usize = 128 * 1024 * 1024;
/// A literal is read in pieces of this size.
const PIECE: usize = 64 * 1024;
/// Mails that are looked into at once.
const BATCH: usize = 16;
/// So many of the newest mails are looked into one by one; the search finds ours among the rest.
const LOOKED_INTO: usize = 64;
/// So many of those that the search takes for ours.
const TAKEN_FOR_OURS: usize = 1024;
/// So many mails of ours that are left for others are remembered.
const MOST_LEFT: usize = 256;
/// Bytes of a body that are looked at where the header does not make a message ours: it may be a notification.
const BODY_BYTES: usize = 16 * 1024;
/// So much more is read of what may be a notification, piece by piece: pictures and HTML may stand before the returned mail.
const NOTIFICATION_BYTES: usize = 512 * 1024;
/// How many times a mail that can't be read is tried, after all others; given up too soon, ours would count as lost.
const TRIES: u8 = 100;

/// Between which moments a mail landed, as far as the visits tell.
#[derive(Debug, Clone, Copy)]
struct Seen {
    not_shown: Option<Moment>,
    shown: Moment,
    /// When the server had announced it.
    announced: Option<Moment>,
    /// How many times reading it has failed.
    tries: u8,
}

/// A mail of ours that is still there.
#[derive(Debug, Clone)]
struct Ours {
    token: Token,
    finding: Finding,
    seen: Seen,
    date: Option<UtcMicros>,
    /// Empty once it has been left for others: it may lie there for a month.
    head: Vec<u8>,
}

/// What is remembered of a folder.
#[derive(Debug, Default)]
struct Folder {
    validity: Option<u64>,
    /// What lies below was listed before.
    next: u64,
    /// When it was listed last, the mails from `next` on were not there yet.
    listed: Option<Moment>,
    /// Mails to be looked into.
    fresh: BTreeMap<u64, Seen>,
    ours: BTreeMap<u64, Ours>,
    /// Mails of ours that are to be deleted.
    doomed: BTreeSet<u64>,
}

/// Commands and ways to log in that a server does not have.
type Lacks = HashSet<&'static str>;

/// What is remembered between visits.
#[derive(Debug, Default)]
pub(in crate::mailqos) struct Memory {
    folders: HashMap<String, Folder>,
    lacks: Lacks,
    /// What the watch over the first folder saw.
    witness: Witness,
}

impl Memory {
    /// What a watch needs of it.
    pub(in crate::mailqos) fn for_watch(&self) -> (Lacks, Witness) {
        (self.lacks.clone(), self.witness.clone())
    }
}

/// A conversation with an IMAP server.
pub(in crate::mailqos) struct Session {
    pub(super) wire: Wire,
    step: Duration,
    tag: u32,
    /// In capitals.
    capabilities: Vec<String>,
    /// The last literal's end.
    literal_at: Option<Instant>,
    /// The server has said that there are more mails, in any reply; it does not say so again.
    has_news: bool,
    whereabouts: Whereabouts,
}

/// A line from the server.
enum Said {
    /// Without a tag: data.
    Data(Response),
    /// Without a tag: a status.
    Status(Status),
    /// `+`: go on; what stands behind it.
    Continue(String),
    /// The end of the command with this tag.
    Tagged(String, Status),
}

impl Said {
    /// Whether it says that there are more mails.
    fn is_news(&self) -> bool {
        matches!(self, Self::Data(response) if is_news(&response.text))
    }
}

/// Whether a line says that there are more mails.
fn is_news(line: &[u8]) -> bool {
    line.len() >= 7 && line[line.len() - 7..].eq_ignore_ascii_case(b" EXISTS")
}

impl Session {
    /// Ends it.
    pub(super) async fn end(mut self) -> Result<(), PickupError> {
        let result = self.command(Stage::PickupReceive, "LOGOUT", MAX_REPLY, |_| {}).await;
        self.wire.close().await;
        result.map(|_| ())
    }

    fn new(wire: Wire, step: Duration, whereabouts: Whereabouts) -> Self {
        Self {
            wire,
            step,
            tag: 0,
            capabilities: Vec::new(),
            literal_at: None,
            has_news: false,
            whereabouts,
        }
    }

    fn wire_error(stage: Stage, error: &WireError) -> PickupError {
        PickupError::wire(stage, error)
    }

    async fn send(&mut self, stage: Stage, line: &str, secret: bool) -> Result<(), PickupError> {
        self.wire.secret(secret);
        let result = self.wire.send(format!("{line}\r\n").as_bytes()).await;
        self.wire.secret(false);
        result.map_err(|error| Self::wire_error(stage, &error))
    }

    async fn said(&mut self, stage: Stage) -> Result<Said, PickupError> {
        self.whereabouts.note(Some(stage));
        let error = |error: WireError| Self::wire_error(stage, &error);
        let first = self.wire.line(MAX_LINE).await.map_err(error)?;
        let text = String::from_utf8_lossy(&first);
        if let Some(rest) = text.strip_prefix('+') {
            return Ok(Said::Continue(rest.trim_end().to_owned()));
        }
        let Some((tag, rest)) = text.split_once(' ') else {
            return Err(self.nonsense(stage, &text));
        };
        if tag != "*" {
            return match Status::read(rest) {
                Some(status) => Ok(Said::Tagged(tag.to_owned(), status)),
                None => Err(self.nonsense(stage, &text)),
            };
        }
        if let Some(status) = Status::read(rest) {
            return Ok(Said::Status(status));
        }
        let mut response = Response {
            text: first[2..].to_vec(),
            literals: Vec::new(),
        };
        let mut announced = reply::literal(&response.text);
        // One mail is asked for with one literal; a response with many gets no more room for that.
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
        Ok(Said::Data(response))
    }

    fn nonsense(&self, stage: Stage, text: &str) -> PickupError {
        let shown = self.wire.transcript().one_line(text);
        PickupError::new(stage, &format!("the server sent {shown:?}, which is no IMAP response"))
    }

    fn next_tag(&mut self) -> String {
        self.tag = self.tag.wrapping_add(1);
        format!("A{}", self.tag)
    }

    /// Reads up to the end of the command; `each` gets what comes before.
    async fn finish(
        &mut self,
        stage: Stage,
        tag: &str,
        mut each: impl FnMut(&Said),
    ) -> Result<Result<Status, String>, PickupError> {
        let mut farewell = None;
        loop {
            let said = match self.said(stage).await {
                Ok(said) => said,
                Err(error) => {
                    // The server's own words say more than the end of the connection.
                    return Err(match farewell {
                        Some(text) => PickupError { text, ..error },
                        None => error,
                    });
                }
            };
            match &said {
                Said::Tagged(known, status) if known == tag => {
                    self.note_capabilities(&said);
                    return Ok(Ok(status.clone()));
                }
                Said::Tagged(..) => {
                    return Err(PickupError::new(
                        stage,
                        "the server answered a command that was not sent",
                    ));
                }
                Said::Continue(challenge) => return Ok(Err(challenge.trim().to_owned())),
                Said::Status(status) if status.word == "BYE" => {
                    let text = self.wire.transcript().one_line(&status.text);
                    farewell = Some(format!("the server ended the conversation: {text}"));
                }
                Said::Status(_) | Said::Data(_) => {}
            }
            self.note_capabilities(&said);
            self.has_news |= said.is_news();
            each(&said);
        }
    }

    fn note_capabilities(&mut self, said: &Said) {
        let told: Vec<String> = match said {
            Said::Status(status) | Said::Tagged(_, status) if status.says("CAPABILITY") => status.code[1..].to_vec(),
            Said::Data(response) => {
                let text = String::from_utf8_lossy(&response.text).to_ascii_uppercase();
                match text.strip_prefix("CAPABILITY ") {
                    Some(words) => words.split_whitespace().map(str::to_owned).collect(),
                    None => return,
                }
            }
            _ => return,
        };
        self.capabilities = told;
    }

    /// A command without secrets, from its sending to its end.
    async fn command(
        &mut self,
        stage: Stage,
        command: &str,
        most: usize,
        each: impl FnMut(&Said),
    ) -> Result<Status, PickupError> {
        let tag = self.next_tag();
        self.wire.begin(self.step, most);
        self.send(stage, &format!("{tag} {command}"), false).await?;
        match self.finish(stage, &tag, each).await? {
            Ok(status) => Ok(status),
            Err(_) => Err(PickupError::new(stage, "the server asks for what was not announced")),
        }
    }

    /// The same; anything but OK is an error.
    async fn must(
        &mut self,
        stage: Stage,
        command: &str,
        most: usize,
        each: impl FnMut(&Said),
    ) -> Result<Status, PickupError> {
        let status = self.command(stage, command, most, each).await?;
        if status.is_ok() {
            Ok(status)
        } else {
            Err(self.refusal(stage, command, &status))
        }
    }

    fn refusal(&self, stage: Stage, command: &str, status: &Status) -> PickupError {
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
            "without a reason"
        } else {
            &status.text
        };
        let text = self
            .wire
            .transcript()
            .one_line(&format!("{verb} refused: {code}{text}"));
        let mut error = PickupError::new(stage, &text);
        error.text = explained(error.text);
        error.in_use = status.says("INUSE");
        error
    }

    fn has(&self, capability: &str) -> bool {
        let listed = |name: &str| self.capabilities.iter().any(|known| known == name);
        listed(capability)
            || (listed("IMAP4REV2") && matches!(capability, "UIDPLUS" | "SASL-IR" | "LITERAL-" | "IDLE" | "UNSELECT"))
    }
}

/// A way to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Sasl(Mechanism),
    Login,
}

impl Way {
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

/// Does what a visit is for, on a connection that has just been opened; the session is still to be ended.
pub(super) async fn converse(
    wire: Wire,
    door: &Door,
    credentials: Option<&Credentials>,
    memory: &mut Memory,
    judge: &dyn Judge,
    visit: &mut Visit,
) -> (Session, Result<(), PickupError>) {
    let mut session = Session::new(wire, door.step, door.whereabouts.clone());
    let result = work(&mut session, door, credentials, memory, judge, visit).await;
    (session, result)
}

async fn work(
    session: &mut Session,
    door: &Door,
    credentials: Option<&Credentials>,
    memory: &mut Memory,
    judge: &dyn Judge,
    visit: &mut Visit,
) -> Result<(), PickupError> {
    session.wire.limit(door.step * STEPS_A_VISIT);
    if shake_hands(session, door, &mut visit.phases).await? {
        log_in(session, credentials, &mut memory.lacks, &mut visit.phases).await?;
    }
    let mut missing = None;
    for (number, name) in door.folders.iter().enumerate() {
        match look(session, name, number == 0, memory, judge, visit).await {
            Ok(None) => {}
            // A folder may come into being with its first mail; without the first one there is nothing to measure.
            Ok(Some(refusal)) if number == 0 => missing = Some(refusal),
            Ok(Some(refusal)) => tracing::debug!(folder = name, "{refusal}"),
            Err(error) => return Err(error),
        }
    }
    missing.map_or(Ok(()), Err)
}

/// The greeting, and STARTTLS where it is wanted; tells whether a login is to follow.
async fn shake_hands(session: &mut Session, door: &Door, phases: &mut PickupPhases) -> Result<bool, PickupError> {
    let stage = Stage::PickupGreeting;
    let connected = Instant::now();
    session.wire.begin(session.step, MAX_REPLY);
    let greeting = session.said(stage).await?;
    session.note_capabilities(&greeting);
    let welcome = match &greeting {
        Said::Status(status) if status.word == "OK" || status.word == "PREAUTH" => status.word,
        Said::Status(status) => return Err(session.refusal(stage, "connection", status)),
        Said::Data(response) => return Err(session.nonsense(stage, &String::from_utf8_lossy(&response.text))),
        Said::Continue(text) => return Err(session.nonsense(stage, &format!("+{text}"))),
        Said::Tagged(tag, _) => return Err(session.nonsense(stage, tag)),
    };
    phases.greeting = Some(Micros::from(
        session.wire.received_at().saturating_duration_since(connected),
    ));
    if session.capabilities.is_empty() {
        session.must(stage, "CAPABILITY", MAX_REPLY, |_| {}).await?;
    }
    if door.endpoint.tls == TlsMode::StartTls {
        let stage = Stage::PickupTls;
        if !session.has("STARTTLS") {
            return Err(PickupError::new(
                stage,
                "the server does not offer STARTTLS; set tls = \"implicit\" (usually port 993), or tls = \"none\" if the password may travel in clear",
            ));
        }
        session.must(stage, "STARTTLS", MAX_REPLY, |_| {}).await?;
        session
            .wire
            .upgrade(&door.endpoint.trust)
            .await
            .map_err(|error| PickupError::wire(stage, &error))?;
        // What was offered in clear can't be trusted (RFC 9051, section 6.2.1).
        session.capabilities.clear();
        session.must(stage, "CAPABILITY", MAX_REPLY, |_| {}).await?;
    }
    Ok(welcome != "PREAUTH")
}

/// Logs in, with another token where one is rejected.
async fn log_in(
    session: &mut Session,
    credentials: Option<&Credentials>,
    lacks: &mut Lacks,
    phases: &mut PickupPhases,
) -> Result<(), PickupError> {
    let Some(credentials) = credentials else {
        return Err(PickupError::new(
            Stage::PickupLogin,
            "no account is configured for the mailbox",
        ));
    };
    let offered = session.capabilities.clone();
    match log_in_with(session, credentials, lacks, phases).await {
        Err(error) if error.refused => {
            let credentials = renewed(credentials, error).await?;
            session.capabilities = offered;
            let result = log_in_with(session, &credentials, lacks, phases).await;
            note_renewed(&credentials, result.as_ref().err()).await;
            result
        }
        result => result,
    }
}

async fn log_in_with(
    session: &mut Session,
    credentials: &Credentials,
    lacks: &mut Lacks,
    phases: &mut PickupPhases,
) -> Result<(), PickupError> {
    let stage = Stage::PickupLogin;
    session.wire.hide(&credentials.secret);
    let offered: Vec<String> = session
        .capabilities
        .iter()
        .filter_map(|word| word.strip_prefix("AUTH=").map(str::to_owned))
        .collect();
    let mut ways: Vec<Way> = sasl::choose(&session.wire.place(), &offered, credentials)
        .into_iter()
        .map(Way::Sasl)
        .collect();
    if !session.has("LOGINDISABLED") && !credentials.is_token && credentials.only.is_empty() {
        let at = ways.iter().position(|way| *way == Way::Sasl(Mechanism::Login));
        ways.insert(at.unwrap_or(ways.len()), Way::Login);
    }
    ways.retain(|way| !lacks.contains(way.name()));
    let nothing_fits = if session.has("LOGINDISABLED") && session.wire.tls().is_none() {
        "the server takes no password in clear; set tls = \"starttls\" or tls = \"implicit\"".to_owned()
    } else {
        sasl::none_fits(&offered, credentials)
    };
    let mut last = PickupError::new(stage, &nothing_fits);
    let began = Instant::now();
    let mut wrong = false;
    for way in ways {
        session.capabilities.clear();
        let Answer { status, reason, judged } = exchange(session, way, credentials).await?;
        if status.is_ok() {
            if let Some(reason) = reason {
                return Err(PickupError::new(stage, &reason));
            }
            let took = session.wire.received_at().saturating_duration_since(began);
            phases.login = Some(Micros::from(took));
            if session.capabilities.is_empty() {
                session.must(stage, "CAPABILITY", MAX_REPLY, |_| {}).await?;
            }
            return Ok(());
        }
        last = session.refusal(stage, "login", &status);
        if let Some(reason) = reason {
            last.text = format!("{}; {reason}", last.text);
        }
        if ["UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG"]
            .iter()
            .any(|code| status.says(code))
        {
            return Err(last);
        }
        wrong = true;
        let final_word = [
            "AUTHENTICATIONFAILED",
            "AUTHORIZATIONFAILED",
            "EXPIRED",
            "PRIVACYREQUIRED",
            "CONTACTADMIN",
        ];
        // Each further try of wrong credentials costs the account and this address a penalty.
        if judged && final_word.iter().any(|code| status.says(code)) {
            break;
        }
        // The way may be one that the server only seems to have; what fails by itself is not tried at each visit.
        lacks.insert(way.name());
    }
    lacks.retain(|what| *what == "SEARCH");
    last.refused = wrong;
    Err(last)
}

/// How a way to log in ended.
struct Answer {
    status: Status,
    /// What the server said before, or what failed on this side.
    reason: Option<String>,
    /// The server had what it needs to tell right credentials from wrong ones.
    judged: bool,
}

/// One way to log in.
async fn exchange(session: &mut Session, way: Way, credentials: &Credentials) -> Result<Answer, PickupError> {
    let answer = |status, reason: Option<String>, judged| Answer { status, reason, judged };
    let stage = Stage::PickupLogin;
    let tag = session.next_tag();
    session.wire.begin(session.step, MAX_REPLY);
    match way {
        Way::Login => {
            // A quoted string holds ASCII only; everything else travels as a literal.
            let mut line = format!("{tag} LOGIN");
            for text in [&*credentials.user, credentials.secret.expose()] {
                if text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
                    line = format!("{line} {}", reply::quote(text));
                    continue;
                }
                let at_once = session.has("LITERAL+") || (session.has("LITERAL-") && text.len() <= 4096);
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
                Err(_) => Err(PickupError::new(stage, "the server asks for more than LOGIN has")),
            }
        }
        Way::Sasl(mechanism) => {
            let mut dialogue = mechanism.begin(credentials);
            let mut line = Secret::new(format!("{tag} AUTHENTICATE {mechanism}"));
            if session.has("SASL-IR")
                && let Some(initial) = dialogue.initial()
            {
                line = Secret::new(format!("{} {}", line.expose(), sasl::encode_initial(&initial)));
            }
            let mut reason = None;
            for _ in 0..MAX_CHALLENGES {
                session.wire.begin(session.step, MAX_REPLY);
                session.send(stage, line.expose(), true).await?;
                let challenge = match session.finish(stage, &tag, |_| {}).await? {
                    Ok(status) if status.is_ok() => return Ok(answer(status, dialogue.finish().err(), true)),
                    Ok(status) => {
                        let reason = reason.or_else(|| dialogue.complaint().map(str::to_owned));
                        return Ok(answer(status, reason, dialogue.was_judged()));
                    }
                    Err(challenge) => challenge,
                };
                line = match sasl::decode(&challenge).and_then(|challenge| dialogue.answer(&challenge)) {
                    Ok(answer) => Secret::new(sasl::encode(&answer)),
                    Err(own) => {
                        reason = Some(own);
                        Secret::new("*")
                    }
                };
            }
            Err(PickupError::new(
                stage,
                "the server asks for ever more in the authentication",
            ))
        }
    }
}

/// What a server says of a folder that is opened.
#[derive(Debug, Default)]
struct Selected {
    validity: Option<u64>,
    next: Option<u64>,
    exists: Option<u64>,
}

/// Opens a folder, or gives back why it was refused.
async fn select_reply(
    session: &mut Session,
    name: &str,
    verb: &str,
) -> Result<Result<Selected, PickupError>, PickupError> {
    let stage = Stage::PickupList;
    let mut selected = Selected::default();
    let command = format!("{verb} {}", reply::quote(&reply::utf7(name)));
    let status = session
        .command(stage, &command, MAX_REPLY, |said| match said {
            Said::Status(status) => {
                selected.validity = status.number("UIDVALIDITY").or(selected.validity);
                let next = status.number("UIDNEXT").filter(|next| *next <= reply::LAST_UID + 1);
                selected.next = next.or(selected.next);
            }
            Said::Data(response) => {
                let text = String::from_utf8_lossy(&response.text).to_ascii_uppercase();
                if let Some(count) = text.strip_suffix(" EXISTS") {
                    selected.exists = count.trim().parse::<u64>().ok();
                }
            }
            _ => {}
        })
        .await?;
    Ok(if status.is_ok() {
        Ok(selected)
    } else {
        Err(session.refusal(stage, &command, &status))
    })
}

/// Looks into a folder, takes what is ours, and deletes it. A refusal to open the folder is given back.
async fn look(
    session: &mut Session,
    name: &str,
    watched: bool,
    memory: &mut Memory,
    judge: &dyn Judge,
    visit: &mut Visit,
) -> Result<Option<PickupError>, PickupError> {
    let began = Instant::now();
    let asked = Moment::of(began);
    let Selected { validity, next, exists } = match select_reply(session, name, "SELECT").await? {
        Ok(selected) => selected,
        Err(refusal) => return Ok(Some(refusal)),
    };
    let opened = session.wire.received_at();
    let folder = memory.folders.entry(name.to_owned()).or_default();
    if validity.is_none() || folder.validity != validity {
        // The UIDs of before mean nothing any more; without a validity they never did (RFC 3501, section 6.3.1).
        *folder = Folder {
            validity,
            ..Folder::default()
        };
    }
    let nothing_new = exists == Some(0) || next.is_some_and(|next| next <= folder.next);
    let mut listed = opened;
    if !nothing_new {
        let first = folder.next.max(1);
        let new = list(session, first, &mut memory.lacks).await?;
        listed = session.wire.received_at();
        for uid in &new {
            let shown = if next.is_some_and(|next| *uid < next) {
                opened
            } else {
                listed
            };
            // Only the first folder is watched; another one's numbers have another validity, mostly, or are not in the notes.
            let told = if watched {
                memory.witness.testify(validity, *uid)
            } else {
                watch::Testimony::default()
            };
            let shown = Moment::of(shown);
            let seen = Seen {
                not_shown: folder.listed.max(told.not_shown),
                shown: told.shown.map_or(shown, |told| told.min(shown)),
                announced: told.announced,
                tries: 0,
            };
            folder.fresh.insert(*uid, seen);
        }
        let last = new.iter().max().map_or(0, |last| last + 1);
        folder.next = folder.next.max(last).max(next.unwrap_or(0));
    }
    folder.listed = Some(asked);
    let took = Micros::from(listed.saturating_duration_since(began));
    visit.phases.list = Some(visit.phases.list.unwrap_or_default() + took);
    // What broke a conversation before comes last: by then, what else is ours has been taken.
    for again in [false, true] {
        examine(session, folder, judge, again).await?;
        let result = take(session, name, folder, judge, visit).await;
        // What was read before something went wrong is deleted all the same, if that can be.
        let deleted = delete(session, folder).await;
        result?;
        match deleted {
            Err(error) if visit.found.iter().any(|found| found.receive.is_some()) => {
                tracing::debug!(folder = name, "test mails were not deleted: {error}");
                return Ok(None);
            }
            other => other?,
        }
    }
    forget_gone(session, folder, &memory.lacks).await?;
    Ok(None)
}

/// The UIDs from `first` on that are to be looked into: the newest, and what the server's search takes for ours.
async fn list(session: &mut Session, first: u64, lacks: &mut HashSet<&'static str>) -> Result<Vec<u64>, PickupError> {
    let mut uids = Vec::new();
    let range = if first > 1 {
        format!("UID {first}:*")
    } else {
        "ALL".to_owned()
    };
    if !lacks.contains("SEARCH") {
        match search(session, &format!("UID SEARCH {range}")).await? {
            Some(found) => uids = found,
            None => {
                lacks.insert("SEARCH");
            }
        }
    }
    if lacks.contains("SEARCH") {
        let command = format!("UID FETCH {first}:* (UID)");
        let fetched = fetch(session, Stage::PickupList, &command, MAX_LISTING).await?;
        uids = fetched.into_iter().map(|fetched| fetched.uid).collect();
    }
    // `n:*` names the last mail even where all numbers are below n.
    uids.retain(|uid| *uid >= first);
    uids.sort_unstable();
    uids.dedup();
    if uids.len() > LOOKED_INTO {
        let newest = uids.split_off(uids.len() - LOOKED_INTO);
        let command = format!("UID SEARCH {range} OR HEADER X-MailQoS-Token \"mq1\" SUBJECT \"mq1\"");
        let ours = if lacks.contains("SEARCH") {
            None
        } else {
            search(session, &command).await?
        };
        let ours: HashSet<u64> = ours.unwrap_or_default().into_iter().collect();
        uids.retain(|uid| ours.contains(uid));
        uids.drain(..uids.len().saturating_sub(TAKEN_FOR_OURS));
        uids.extend(newest);
    }
    Ok(uids)
}

/// What a search finds; `None` where the server can't search so.
async fn search(session: &mut Session, command: &str) -> Result<Option<Vec<u64>>, PickupError> {
    let mut uids: Vec<u64> = Vec::new();
    let status = session
        .command(Stage::PickupList, command, MAX_LISTING, |said| {
            if let Said::Data(response) = said
                && uids.len() < reply::MAX_UIDS
                && let Some(found) = reply::values(response).and_then(|values| reply::uids(&values))
            {
                uids.extend(found);
            }
        })
        .await?;
    Ok(status.is_ok().then_some(uids))
}

async fn fetch(
    session: &mut Session,
    stage: Stage,
    command: &str,
    most: usize,
) -> Result<Vec<reply::Fetched>, PickupError> {
    let mut all = Vec::new();
    session
        .must(stage, command, most, |said| {
            if let Said::Data(response) = said
                && let Some(fetched) = reply::values(response).and_then(|values: Vec<Value>| reply::fetched(&values))
            {
                all.push(fetched);
            }
        })
        .await?;
    Ok(all)
}

fn set(uids: impl IntoIterator<Item = u64>) -> String {
    let uids: Vec<String> = uids.into_iter().map(|uid| uid.to_string()).collect();
    uids.join(",")
}

/// Looks into the fresh mails: which of them are ours? Those that could not be read before are left out unless `again`.
async fn examine(
    session: &mut Session,
    folder: &mut Folder,
    judge: &dyn Judge,
    again: bool,
) -> Result<(), PickupError> {
    let stage = Stage::PickupReceive;
    loop {
        // The newest first; those on which a conversation broke come last and alone, so that they take no other with them.
        let mut batch: Vec<(u64, Seen)> = folder.fresh.iter().rev().map(|(uid, seen)| (*uid, *seen)).collect();
        batch.retain(|(_, seen)| again || seen.tries == 0);
        batch.sort_by_key(|(_, seen)| seen.tries);
        let Some(tries) = batch.first().map(|(_, seen)| seen.tries) else {
            return Ok(());
        };
        batch.truncate(if tries > 0 { 1 } else { BATCH });
        batch.retain(|(_, seen)| seen.tries == tries);
        for (uid, _) in &batch {
            match folder.fresh.get_mut(uid) {
                Some(seen) if seen.tries < TRIES => seen.tries += 1,
                _ => {
                    folder.fresh.remove(uid);
                }
            }
        }
        let mark = session.wire.mark();
        let uids = set(batch.iter().map(|(uid, _)| *uid));
        let command = format!("UID FETCH {uids} (UID INTERNALDATE BODY.PEEK[HEADER])");
        let heads = fetch(session, stage, &command, MAX_LISTING).await?;
        let mut unknown = HashMap::new();
        for head in heads {
            let Some(content) = head.section else { continue };
            let content = whole_header(content);
            match classify(judge, &content) {
                Classification::TestMail(token) => {
                    note(folder, &batch, head.uid, (token, Finding::Mail), head.date, content);
                }
                _ => {
                    unknown.insert(head.uid, (head.date, content));
                }
            }
        }
        if !unknown.is_empty() {
            let uids = set(unknown.keys().copied());
            let command = format!("UID FETCH {uids} (UID BODY.PEEK[TEXT]<0.{BODY_BYTES}>)");
            let mut more = Vec::new();
            for body in fetch(session, stage, &command, MAX_LISTING).await? {
                if let Some(section) = body.section
                    && let Some((date, mut content)) = unknown.remove(&body.uid)
                {
                    let is_cut = section.len() >= BODY_BYTES;
                    let may_notify = is_cut && may_notify(&content);
                    content.extend_from_slice(&section);
                    match finding(judge, &content) {
                        Some(found) => note(folder, &batch, body.uid, found, date, content),
                        None if may_notify => more.push((body.uid, date, content)),
                        None => {}
                    }
                }
            }
            for (uid, date, content) in more {
                if let Some((found, content)) = look_further(session, judge, uid, content).await? {
                    note(folder, &batch, uid, found, date, content);
                }
            }
        }
        if batch.iter().any(|(uid, _)| !folder.ours.contains_key(uid)) {
            // Other people's mails; ours is read as a whole later.
            session.wire.withhold(mark);
        }
        for (uid, _) in &batch {
            folder.fresh.remove(uid);
        }
    }
}

/// A header with the empty line that ends it, which some servers leave out; one that was cut stays without.
fn whole_header(mut content: Vec<u8>) -> Vec<u8> {
    let has_end = content.ends_with(b"\r\n\r\n") || content.ends_with(b"\n\n");
    if !has_end && content.len() < KEPT_OF_MAIL {
        let end: &[u8] = if content.ends_with(b"\n") { b"\r\n" } else { b"\r\n\r\n" };
        content.extend_from_slice(end);
    }
    content
}

/// Reads on in what may be a notification, until the returned mail has shown up or enough was read.
async fn look_further(
    session: &mut Session,
    judge: &dyn Judge,
    uid: u64,
    mut content: Vec<u8>,
) -> Result<Option<((Token, Finding), Vec<u8>)>, PickupError> {
    let mut from = BODY_BYTES;
    while from < NOTIFICATION_BYTES {
        let command = format!("UID FETCH {uid} (UID BODY.PEEK[TEXT]<{from}.{KEPT_OF_MAIL}>)");
        let fetched = fetch(session, Stage::PickupReceive, &command, MAX_LISTING).await?;
        let piece = fetched.into_iter().find(|fetched| fetched.uid == uid);
        let Some(piece) = piece.and_then(|fetched| fetched.section) else {
            break;
        };
        content.extend_from_slice(&piece);
        if let Some(found) = finding(judge, &content) {
            return Ok(Some((found, content)));
        }
        if piece.len() < KEPT_OF_MAIL {
            break;
        }
        from += KEPT_OF_MAIL;
    }
    Ok(None)
}

fn note(
    folder: &mut Folder,
    batch: &[(u64, Seen)],
    uid: u64,
    (token, finding): (Token, Finding),
    date: Option<UtcMicros>,
    head: Vec<u8>,
) {
    let Some((_, seen)) = batch.iter().find(|(known, _)| *known == uid) else {
        return;
    };
    let seen = *seen;
    let ours = Ours {
        token,
        finding,
        seen,
        date,
        head,
    };
    folder.ours.insert(uid, ours);
}

/// Reads those of our mails that a test waits for, and dooms what is not to stay.
async fn take(
    session: &mut Session,
    name: &str,
    folder: &mut Folder,
    judge: &dyn Judge,
    visit: &mut Visit,
) -> Result<(), PickupError> {
    let uids: Vec<u64> = folder.ours.keys().copied().collect();
    for uid in uids {
        let Some(ours) = folder.ours.get_mut(&uid) else {
            continue;
        };
        let verdict = judge.verdict(&ours.token);
        if verdict == Verdict::Leave {
            ours.head = Vec::new();
            continue;
        }
        let mut found = Found {
            token: ours.token.clone(),
            finding: ours.finding.clone(),
            not_shown: ours.seen.not_shown,
            shown: ours.seen.shown,
            receive: None,
            folder: Some(name.to_owned()),
            landed: ours.date,
            notified: ours.seen.announced,
            mail: ours.head.clone(),
        };
        if verdict == Verdict::Take {
            let began = Instant::now();
            session.literal_at = None;
            let command = format!("UID FETCH {uid} (UID BODY.PEEK[])");
            match fetch(session, Stage::PickupReceive, &command, MAX_MAIL).await {
                Ok(fetched) => {
                    let content = fetched.into_iter().find(|fetched| fetched.uid == uid);
                    let Some(content) = content.and_then(|fetched| fetched.section) else {
                        // Somebody else has deleted it meanwhile.
                        folder.ours.remove(&uid);
                        continue;
                    };
                    let ended = session.literal_at.unwrap_or_else(|| session.wire.received_at());
                    found.receive = Some(Micros::from(ended.saturating_duration_since(began)));
                    if !found.read_again(judge, content) {
                        // Whatever the server gave before, this is not what it was taken for.
                        folder.ours.remove(&uid);
                        continue;
                    }
                }
                Err(error) => {
                    visit.found.push(found);
                    return Err(error);
                }
            }
        }
        folder.ours.remove(&uid);
        if found.finding.is_deletable() {
            folder.doomed.insert(uid);
        }
        visit.found.push(found);
    }
    Ok(())
}

/// Forgets mails that were left for others, once they are many: most are gone by then, since those who waited have taken them.
async fn forget_gone(session: &mut Session, folder: &mut Folder, lacks: &Lacks) -> Result<(), PickupError> {
    if folder.ours.len() <= MOST_LEFT {
        return Ok(());
    }
    let command = format!("UID SEARCH UID {}", set(folder.ours.keys().copied()));
    if !lacks.contains("SEARCH")
        && let Some(there) = search(session, &command).await?
    {
        let there: HashSet<u64> = there.into_iter().collect();
        folder.ours.retain(|uid, _| there.contains(uid));
    }
    if folder.ours.len() > MOST_LEFT {
        // The next start looks into the oldest again. So many at once that not every visit has to search.
        while folder.ours.len() > MOST_LEFT / 2 {
            folder.ours.pop_first();
        }
    }
    Ok(())
}

/// Deletes what is doomed, and nothing else.
async fn delete(session: &mut Session, folder: &mut Folder) -> Result<(), PickupError> {
    if folder.doomed.is_empty() {
        return Ok(());
    }
    let stage = Stage::PickupReceive;
    let uids = set(folder.doomed.iter().copied());
    let command = format!("UID STORE {uids} +FLAGS.SILENT (\\Deleted)");
    session.must(stage, &command, MAX_REPLY, |_| {}).await?;
    if session.has("UIDPLUS") {
        session
            .must(stage, &format!("UID EXPUNGE {uids}"), MAX_REPLY, |_| {})
            .await?;
        folder.doomed.clear();
        return Ok(());
    }
    // EXPUNGE takes all that is marked: with a foreign mail among it, ours stay marked until that is gone.
    let marked = search(session, "UID SEARCH DELETED").await?;
    if marked.is_some_and(|marked| marked.iter().all(|uid| folder.doomed.contains(uid))) {
        session.must(stage, "EXPUNGE", MAX_REPLY, |_| {}).await?;
        folder.doomed.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailqos::{classify::Known, token::SigningKey};

    /// Leaves every mail for others.
    struct Leaves(SigningKey);

    impl Known for Leaves {
        fn key(&self) -> &SigningKey {
            &self.0
        }
    }

    impl Judge for Leaves {
        fn verdict(&self, _: &Token) -> Verdict {
            Verdict::Leave
        }

        fn largest(&self) -> u64 {
            0
        }
    }

    fn folder(mails: u64) -> Folder {
        let token = Token {
            site: "there".parse().expect("a site"),
            monitor: "mail".parse().expect("an id"),
            sent_at: UtcMicros(0),
            nonce: [1; 8],
        };
        let ours = Ours {
            token,
            finding: Finding::Mail,
            seen: Seen {
                not_shown: None,
                shown: Moment::of_micros(0),
                announced: None,
                tries: 0,
            },
            date: None,
            head: b"a head".to_vec(),
        };
        Folder {
            ours: (1..=mails).map(|uid| (uid, ours.clone())).collect(),
            ..Folder::default()
        }
    }

    fn session(said: &str) -> Session {
        let step = Duration::from_secs(10);
        let wire = Wire::scripted(said.as_bytes().to_vec(), step);
        Session::new(wire, step, Whereabouts::default())
    }

    #[tokio::test]
    async fn of_mails_that_are_left_for_others_little_is_remembered() {
        let key = SigningKey::new(&Secret::new("a key of more than thirty-two characters")).expect("a key");
        let (mut folder_of_one, mut visit) = (folder(1), Visit::begin());
        take(&mut session(""), "INBOX", &mut folder_of_one, &Leaves(key), &mut visit)
            .await
            .expect("taken");
        assert!(folder_of_one.ours[&1].head.is_empty() && visit.found.is_empty());

        let left = async |mails: u64, said: &str, lacks: &Lacks| {
            let (mut folder, mut session) = (folder(mails), session(said));
            session.wire.limit(Duration::from_secs(10));
            forget_gone(&mut session, &mut folder, lacks).await.expect("forgotten");
            folder.ours.into_keys().collect::<Vec<_>>()
        };
        let none = Lacks::new();
        // Few cost nothing.
        assert_eq!(left(256, "", &none).await.len(), 256);
        assert_eq!(left(300, "* SEARCH 7 300\r\nA1 OK found\r\n", &none).await, [7, 300]);
        // Those that no search can tell of are at least not too many: the newest.
        let newest: Vec<u64> = (173..=300).collect();
        assert_eq!(left(300, "A1 BAD no such search\r\n", &none).await, newest);
        assert_eq!(left(300, "", &Lacks::from(["SEARCH"])).await, newest);
    }
}
