//! POP3 (RFC 1939, with 2449 CAPA, 2595 STLS, 5034 AUTH, 3206 and 2449 response codes).
//!
//! A session sees what was there at login and nothing later; deletions count at QUIT only. Identifiers (UIDL) are
//! remembered between visits, so that a mail is looked into once, and a full mailbox costs one UIDL.

mod login;

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use login::log_in;
use mailqos_base::Secret;
use mailqos_config::TlsMode;
use mailqos_mail::{Credentials, LoginRefusal, Wire, explained};
use mailqos_model::{Micros, Stage};

use super::{
    Door, Found, Judge, KEPT_OF_MAIL, PickupError, STEPS_A_VISIT, UNREADABLE_FOR, Verdict, Visit, Whereabouts, finding,
};
use crate::mail_test::{classify::may_notify, evidence::Moment};

/// The longest line of a reply, and the most that is taken of a mail's line at once.
const MAX_LINE: usize = 8 * 1024;
/// The longest reply to CAPA and the like.
const MAX_REPLY: usize = 64 * 1024;
/// The longest listing, in bytes and in mails.
const MAX_LISTING: usize = 16 * 1024 * 1024;
const MOST_MAILS: usize = 400_000;
/// The most that is read of a foreign mail before the connection is given up.
const MAX_TOP: usize = 4 * 1024 * 1024;
/// The most that is read of a mail of ours.
const MAX_MAIL: usize = 128 * 1024 * 1024;
/// Lines of the body that are looked at: a message may be a notification.
const TOP_LINES: usize = 60;
/// Lines that are looked at of what may be a notification: pictures and HTML may stand before the returned mail.
const NOTIFICATION_LINES: usize = 8000;
/// Bytes of it that are kept.
const NOTIFICATION_BYTES: usize = 512 * 1024;
/// New mails that are looked into in one visit, the newest first.
const NEW_A_VISIT: usize = 256;
/// Older ones, from before the first visit, that are looked into in one visit.
const OLD_A_VISIT: usize = 32;
/// Mails that were taken and are still there, whose deletion is tried again in one visit.
const TAKEN_A_VISIT: usize = 32;
/// Visits that try to delete such a mail again before it is let lie.
const LET_LIE_AFTER: u8 = 3;
/// Without UIDL nothing can be remembered: the newest so many are looked into each time.
const WITHOUT_UIDL: usize = 64;
/// Commands that are sent at once where the server has PIPELINING (RFC 2449, section 6.6).
const BATCH: usize = 16;
/// Visits that may end on a mail before it is passed over.
const UNREADABLE_AFTER: u8 = 3;
/// Visits in which a server may refuse a mail, or give nothing of it, before it is passed over.
const REFUSED_AFTER: u8 = 100;
/// Refusals of TOP after which a server that has never answered it counts as one without TOP.
const NO_TOP_AFTER: u8 = 3;
/// A mail that must be retrieved to be looked into (no TOP) may be so much larger than ours: small ones, what gateways add, and
/// notifications that hold ours.
const MAX_WITHOUT_TOP: u64 = 256 * 1024;

/// What is known of a mail in the mailbox.
#[derive(Debug, Clone, Copy)]
struct Seen {
    not_shown: Option<Moment>,
    shown: Moment,
    state: State,
    /// Visits in which it could not be read; once it is taken, in which it was to be deleted again.
    failures: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Came between two visits.
    New,
    /// Was there at the first visit.
    Old,
    /// Is none of ours, or none of our business.
    Foreign,
    /// Was taken already, but is still there: the deletion did not count. What tells our mail.
    Taken([u8; 8]),
}

/// What is remembered between visits.
#[derive(Debug, Default)]
pub(super) struct Memory {
    seen: HashMap<String, Seen>,
    /// The last login after which the mailbox was listed.
    listed: Option<Moment>,
    /// Commands and ways to log in that this server does not have.
    lacks: HashSet<&'static str>,
    /// When a mail was passed over because it could not be read, and why it could not.
    unreadable: Option<(Moment, PickupError)>,
    /// The server has TOP: it lists it, or has answered it.
    has_top: bool,
    top_refusals: u8,
}

impl Memory {
    /// Notes that TOP was refused. Only a server without TOP has its mails retrieved as a whole, which marks other
    /// people's mails as read; one that refuses a single mail, or all for a while, is asked again.
    fn note_refused_top(&mut self, text: &str) {
        let lower = text.to_ascii_lowercase();
        let unknown = [
            "unknown",
            "unrecogni",
            "not implemented",
            "unsupported",
            "not supported",
            "invalid command",
            "bad command",
            "no such command",
            "no top",
            "disabled",
        ];
        self.top_refusals = self.top_refusals.saturating_add(1);
        let says_so = unknown.iter().any(|word| lower.contains(word));
        if !self.has_top && (says_so || self.top_refusals >= NO_TOP_AFTER) {
            self.lacks.insert("TOP");
        }
    }
}

/// A conversation with a POP3 server.
pub(in crate::mail_test) struct Session {
    pub(super) wire: Wire,
    step: Duration,
    /// Several commands may be sent at once.
    pipelining: bool,
    whereabouts: Whereabouts,
}

/// A server's answer, without its mark.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    Ok(String),
    Err(String),
}

impl Answer {
    /// Reads an answer. `+OK` alone is success (RFC 1939, section 3): hMailServer refuses some commands with `+ERR`.
    fn read(text: &str) -> Option<Self> {
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
    fn new(wire: Wire, door: &Door) -> Self {
        Self {
            wire,
            step: door.step,
            pipelining: false,
            whereabouts: door.whereabouts.clone(),
        }
    }

    /// Ends it: only then counts what was deleted.
    pub(super) async fn end(mut self) -> Result<(), PickupError> {
        let result = self.command(Stage::PickupReceive, "QUIT", MAX_REPLY).await;
        self.wire.close().await;
        result.map(|_| ())
    }

    /// How long after this moment the last answer came.
    fn since(&self, began: Instant) -> Micros {
        Micros::from(self.wire.received_at().saturating_duration_since(began))
    }

    async fn send(&mut self, stage: Stage, line: &str, most: usize) -> Result<(), PickupError> {
        self.whereabouts.note(Some(stage));
        self.wire.begin(self.step, most);
        self.wire
            .send(format!("{line}\r\n").as_bytes())
            .await
            .map_err(|error| PickupError::wire(stage, &error))
    }

    async fn send_secret(&mut self, stage: Stage, line: &Secret) -> Result<(), PickupError> {
        self.whereabouts.note(Some(stage));
        self.wire.begin(self.step, MAX_REPLY);
        self.wire.secret(true);
        let result = self.wire.send(format!("{}\r\n", line.expose()).as_bytes()).await;
        self.wire.secret(false);
        result.map_err(|error| PickupError::wire(stage, &error))
    }

    async fn answer(&mut self, stage: Stage) -> Result<Answer, PickupError> {
        self.whereabouts.note(Some(stage));
        let line = self
            .wire
            .line(MAX_LINE)
            .await
            .map_err(|error| PickupError::wire(stage, &error))?;
        let text = String::from_utf8_lossy(&line);
        Answer::read(&text).ok_or_else(|| self.nonsense(stage, &text))
    }

    fn nonsense(&self, stage: Stage, text: &str) -> PickupError {
        let shown = self.wire.transcript().one_line(text);
        PickupError::new(stage, &format!("the server sent {shown:?}, which is no POP3 reply"))
    }

    async fn command(&mut self, stage: Stage, line: &str, most: usize) -> Result<String, PickupError> {
        self.send(stage, line, most).await?;
        match self.answer(stage).await? {
            Answer::Ok(text) => Ok(text),
            Answer::Err(text) => Err(self.refusal(stage, line, &text)),
        }
    }

    fn refusal(&self, stage: Stage, command: &str, text: &str) -> PickupError {
        let verb = command.split(' ').next().unwrap_or(command);
        let text = if text.is_empty() { "without a reason" } else { text };
        let mut error = PickupError::new(
            stage,
            &self.wire.transcript().one_line(&format!("{verb} refused: {text}")),
        );
        error.text = explained(error.text);
        error.refusal = matches!(stage, Stage::PickupGreeting | Stage::PickupLogin).then(|| LoginRefusal::read(text));
        error.in_use =
            error.refusal == Some(LoginRefusal::InUse) || (error.refusal.is_none() && text.contains("[IN-USE]"));
        error
    }

    /// The lines of a multi-line reply, dots taken out; `line` gets parts of at most [`MAX_LINE`] bytes.
    async fn lines(&mut self, stage: Stage, mut line: impl FnMut(&[u8], bool)) -> Result<(), PickupError> {
        let mut at_start = true;
        loop {
            let (part, ended) = self
                .wire
                .part(MAX_LINE)
                .await
                .map_err(|error| PickupError::wire(stage, &error))?;
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

    /// A mail: its first [`KEPT_OF_MAIL`] bytes.
    async fn mail(&mut self, command: &str, most: usize) -> Result<Vec<u8>, PickupError> {
        let stage = Stage::PickupReceive;
        self.command(stage, command, most).await?;
        self.content(stage, KEPT_OF_MAIL).await
    }

    /// More of a message that may be a notification; `None` where the server refuses.
    async fn look_further(&mut self, number: u64) -> Result<Option<Vec<u8>>, PickupError> {
        let stage = Stage::PickupReceive;
        self.send(stage, &format!("TOP {number} {NOTIFICATION_LINES}"), MAX_TOP)
            .await?;
        Ok(match self.answer(stage).await? {
            Answer::Ok(_) => Some(self.content(stage, NOTIFICATION_BYTES).await?),
            Answer::Err(_) => None,
        })
    }

    /// Marks a mail of ours for deletion. A mailbox that does not let go of it is no failure of the pick-up.
    async fn delete(&mut self, number: u64) -> Result<(), PickupError> {
        let stage = Stage::PickupReceive;
        let command = format!("DELE {number}");
        self.send(stage, &command, MAX_REPLY).await?;
        if let Answer::Err(text) = self.answer(stage).await? {
            let error = self.refusal(stage, &command, &text);
            tracing::debug!("a test mail was not deleted: {error}");
        }
        Ok(())
    }

    /// The answer to a TOP that was sent.
    async fn top(&mut self) -> Result<Top, PickupError> {
        let stage = Stage::PickupReceive;
        Ok(match self.answer(stage).await? {
            Answer::Ok(_) => Ok(self.content(stage, KEPT_OF_MAIL).await?),
            Answer::Err(text) => Err(text),
        })
    }

    /// The first bytes of a multi-line reply.
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

    /// CAPA's lines in capitals; `None` where the server does not know it.
    async fn capabilities(&mut self, stage: Stage) -> Result<Option<Vec<Vec<String>>>, PickupError> {
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

/// Does what a visit is for, on a connection that has just been opened; the session is still to be ended.
pub(super) async fn converse(
    wire: Wire,
    door: &Door,
    credentials: Option<&Credentials>,
    memory: &mut Memory,
    judge: &dyn Judge,
    visit: &mut Visit,
) -> (Session, Result<(), PickupError>) {
    let mut session = Session::new(wire, door);
    let result = async {
        let login_began = sign_in(&mut session, door, credentials, memory, visit).await?;
        look(&mut session, login_began, memory, judge, visit).await
    };
    let result = result.await;
    (session, result)
}

/// Logs in and lists the mailbox.
pub(super) async fn survey(
    wire: Wire,
    door: &Door,
    credentials: Option<&Credentials>,
    memory: &mut Memory,
    visit: &mut Visit,
) -> (Session, Result<(), PickupError>) {
    let mut session = Session::new(wire, door);
    let result = async {
        sign_in(&mut session, door, credentials, memory, visit).await?;
        let began = Instant::now();
        list(&mut session, memory).await?;
        visit.phases.list = Some(session.since(began));
        Ok(())
    };
    let result = result.await;
    (session, result)
}

/// The greeting, STLS if it is wanted, and the login; returns when the first credential command was sent.
async fn sign_in(
    session: &mut Session,
    door: &Door,
    credentials: Option<&Credentials>,
    memory: &mut Memory,
    visit: &mut Visit,
) -> Result<Moment, PickupError> {
    let stage = Stage::PickupGreeting;
    let connected = Instant::now();
    session.wire.limit(door.step * STEPS_A_VISIT);
    session.wire.begin(session.step, MAX_REPLY);
    let greeting = match session.answer(stage).await? {
        Answer::Ok(text) => text,
        Answer::Err(text) => return Err(session.refusal(stage, "connection", &text)),
    };
    visit.phases.greeting = Some(session.since(connected));
    let mut capabilities = None;
    if !memory.lacks.contains("CAPA") {
        capabilities = session.capabilities(stage).await?;
        if capabilities.is_none() {
            memory.lacks.insert("CAPA");
        }
    }
    if door.endpoint.tls == TlsMode::StartTls {
        let stage = Stage::PickupTls;
        if capabilities.as_ref().is_some_and(|offered| !has(offered, "STLS")) {
            return Err(PickupError::new(
                stage,
                "the server does not offer STLS; set tls = \"implicit\" (usually port 995), or tls = \"none\" if the password may travel in clear",
            ));
        }
        session.command(stage, "STLS", MAX_REPLY).await?;
        session
            .wire
            .upgrade(&door.endpoint.trust)
            .await
            .map_err(|error| PickupError::wire(stage, &error))?;
        // What was offered in clear can't be trusted (RFC 2595, section 4).
        session.wire.begin(session.step, MAX_REPLY);
        if !memory.lacks.contains("CAPA") {
            capabilities = session.capabilities(stage).await?;
        }
    }
    session.pipelining = capabilities.as_ref().is_some_and(|offered| has(offered, "PIPELINING"));
    if capabilities.as_ref().is_some_and(|offered| has(offered, "TOP")) {
        memory.has_top = true;
        memory.lacks.remove("TOP");
    }
    log_in(session, credentials, capabilities.as_deref(), &greeting, memory, visit).await
}

fn has(capabilities: &[Vec<String>], name: &str) -> bool {
    capabilities
        .iter()
        .any(|line| line.first().is_some_and(|word| word == name))
}

/// A line of the listing.
struct Entry {
    number: u64,
    /// The identifier, where the server has UIDL.
    identifier: Option<String>,
}

/// Lists the mailbox, looks into what is unknown, and takes what is ours.
async fn look(
    session: &mut Session,
    login_began: Moment,
    memory: &mut Memory,
    judge: &dyn Judge,
    visit: &mut Visit,
) -> Result<(), PickupError> {
    let began = Instant::now();
    let entries = list(session, memory).await?;
    let listed = session.wire.received_at();
    visit.phases.list = Some(Micros::from(listed.saturating_duration_since(began)));
    let shown = Moment::of(listed);
    let before = memory.listed;
    let first = memory.seen.is_empty() && before.is_none();
    let fresh = Seen {
        not_shown: before,
        shown,
        state: State::New,
        failures: 0,
    };

    // What was there at the last visit and is gone is forgotten; what is new is remembered with its bounds.
    let mut seen = HashMap::with_capacity(entries.len());
    for entry in &entries {
        if let Some(identifier) = &entry.identifier {
            let known = memory.seen.remove(identifier).unwrap_or(Seen {
                state: if first { State::Old } else { State::New },
                ..fresh
            });
            seen.insert(identifier.clone(), known);
        }
    }
    memory.seen = seen;
    // Without identifiers a mail that was passed over can't be told from one that came later: only a visit that looked into
    // everything tells what was not there.
    let remembers = entries.iter().all(|entry| entry.identifier.is_some());
    memory.listed = remembers.then_some(login_began);

    let of = |entry: &Entry, memory: &Memory| {
        match &entry.identifier {
            Some(identifier) => memory.seen.get(identifier).copied(),
            None => None,
        }
        .unwrap_or(fresh)
    };
    let (mut new, mut old, mut without) = (NEW_A_VISIT, OLD_A_VISIT, WITHOUT_UIDL);
    let (mut unknown, mut taken) = (Vec::new(), Vec::new());
    for entry in entries.iter().rev() {
        let known = of(entry, memory);
        let budget = match (known.state, &entry.identifier) {
            (State::Foreign, _) => continue,
            (State::Taken(nonce), _) => {
                if taken.len() < TAKEN_A_VISIT {
                    taken.push((entry, nonce));
                }
                continue;
            }
            (_, None) => &mut without,
            (State::New, _) => &mut new,
            (State::Old, _) => &mut old,
        };
        if *budget > 0 {
            *budget -= 1;
            unknown.push((entry, known));
        }
    }
    // What could not be read before comes last: the conversation may end on it.
    unknown.sort_by_key(|(_, known)| known.failures > 0);
    let mut refused: Option<PickupError> = None;
    for batch in unknown.chunks(BATCH) {
        let mut tops = tops(session, batch, memory).await;
        // After an answer that broke off, the rest of it would be taken for the next one's.
        if let Some((entry, error)) = batch
            .iter()
            .find_map(|(entry, _)| Some((*entry, tops.get(&entry.number)?.as_ref().err()?.clone())))
        {
            note_failure(memory, entry, &error);
            return Err(error);
        }
        for (entry, known) in batch {
            let top = tops.remove(&entry.number).and_then(Result::ok);
            match examine(session, entry, *known, top, memory, judge, visit).await {
                Ok(state) => note_state(memory, entry, state),
                Err(error) if error.is_passing => {
                    note_failure(memory, entry, &error);
                    if Moment::now() - known.shown < UNREADABLE_FOR {
                        refused.get_or_insert(error);
                    }
                }
                Err(error) => {
                    if !visit.found.iter().any(|found| found.receive.is_none()) {
                        note_failure(memory, entry, &error);
                    }
                    return Err(error);
                }
            }
        }
    }
    for (entry, nonce) in taken {
        // Whatever comes of it: neither a mailbox that refuses nor a mail that can't be read is to cost every visit something.
        note_deletion(memory, entry);
        if !delete_again(session, entry, nonce, memory, judge).await?
            && let Some(identifier) = &entry.identifier
        {
            // Since when it has been there, nobody can tell; the next visit looks into it.
            let not_shown = None;
            memory.seen.insert(identifier.clone(), Seen { not_shown, ..fresh });
        }
    }
    if without > 0 {
        memory.listed = Some(login_began);
    }
    if let Some(error) = refused {
        return Err(error);
    }
    match &memory.unreadable {
        Some((at, error)) if Moment::now() - *at < UNREADABLE_FOR => Err(PickupError {
            text: format!("a mail in the mailbox could not be read: {}", error.text),
            ..error.clone()
        }),
        _ => Ok(()),
    }
}

fn note_state(memory: &mut Memory, entry: &Entry, state: State) {
    if let Some(identifier) = &entry.identifier
        && let Some(seen) = memory.seen.get_mut(identifier)
    {
        seen.state = state;
        seen.failures = 0;
    }
}

/// A mail of ours that is still there is let lie after some tries: what deletes it then is the next start.
fn note_deletion(memory: &mut Memory, entry: &Entry) {
    if let Some(identifier) = &entry.identifier
        && let Some(seen) = memory.seen.get_mut(identifier)
    {
        seen.failures += 1;
        if seen.failures >= LET_LIE_AFTER {
            seen.state = State::Foreign;
        }
    }
}

/// Deletes a mail of ours that an earlier visit took, if it is the one behind its identifier: a server may give that to another
/// mail once ours is gone (RFC 1939, section 7). Tells whether it was.
async fn delete_again(
    session: &mut Session,
    entry: &Entry,
    nonce: [u8; 8],
    memory: &Memory,
    judge: &dyn Judge,
) -> Result<bool, PickupError> {
    let number = entry.number;
    let (command, most) = if memory.lacks.contains("TOP") {
        (format!("RETR {number}"), MAX_MAIL)
    } else {
        (format!("TOP {number} {TOP_LINES}"), MAX_TOP)
    };
    let mark = session.wire.mark();
    let mail = session.mail(&command, most).await?;
    let is_ours = finding(judge, &mail).is_some_and(|(token, finding)| token.nonce == nonce && finding.is_deletable());
    if is_ours {
        session.delete(number).await?;
    } else {
        session.wire.withhold(mark);
    }
    Ok(is_ours)
}

/// A mail that can't be read must not end every visit; but the fault may as well be the connection's.
fn note_failure(memory: &mut Memory, entry: &Entry, error: &PickupError) {
    if let Some(identifier) = &entry.identifier
        && let Some(seen) = memory.seen.get_mut(identifier)
    {
        seen.failures += 1;
        let most = if error.is_passing {
            REFUSED_AFTER
        } else {
            UNREADABLE_AFTER
        };
        if seen.failures >= most {
            seen.state = State::Foreign;
            memory.unreadable = Some((Moment::now(), error.clone()));
        }
    }
}

async fn list(session: &mut Session, memory: &mut Memory) -> Result<Vec<Entry>, PickupError> {
    let stage = Stage::PickupList;
    let mut entries = Vec::new();
    let too_many = |entries: &[Entry]| {
        let text = format!("the mailbox lists more than {MOST_MAILS} mails");
        (entries.len() > MOST_MAILS).then(|| PickupError::new(stage, &text))
    };
    if !memory.lacks.contains("UIDL") {
        session.send(stage, "UIDL", MAX_LISTING).await?;
        match session.answer(stage).await? {
            Answer::Ok(_) => {
                session
                    .lines(stage, |line, _| {
                        let line = String::from_utf8_lossy(line);
                        let mut words = line.split_whitespace();
                        if let (Some(Ok(number)), Some(identifier)) = (words.next().map(str::parse), words.next())
                            && entries.len() <= MOST_MAILS
                        {
                            entries.push(Entry {
                                number,
                                identifier: Some(identifier.to_owned()),
                            });
                        }
                    })
                    .await?;
                return too_many(&entries).map_or(Ok(entries), Err);
            }
            Answer::Err(text) if text.to_ascii_uppercase().contains("[SYS/") => {
                return Err(session.refusal(stage, "UIDL", &text));
            }
            Answer::Err(_) => {
                memory.lacks.insert("UIDL");
            }
        }
    }
    session.command(stage, "LIST", MAX_LISTING).await?;
    session
        .lines(stage, |line, _| {
            let line = String::from_utf8_lossy(line);
            if let Some(Ok(number)) = line.split_whitespace().next().map(str::parse)
                && entries.len() <= MOST_MAILS
            {
                entries.push(Entry {
                    number,
                    identifier: None,
                });
            }
        })
        .await?;
    too_many(&entries).map_or(Ok(entries), Err)
}

/// An answer to TOP: the mail's top, or why it was refused.
type Top = Result<Vec<u8>, String>;

/// Asks for the tops of several mails at once, where the server lets. Those that could not be read before are left out: a
/// conversation that breaks on one of them must take no other with it.
async fn tops(
    session: &mut Session,
    batch: &[(&Entry, Seen)],
    memory: &Memory,
) -> HashMap<u64, Result<Top, PickupError>> {
    let mut tops = HashMap::new();
    let numbers: Vec<u64> = batch
        .iter()
        .filter(|(_, known)| known.failures == 0)
        .map(|(entry, _)| entry.number)
        .collect();
    if !session.pipelining || memory.lacks.contains("TOP") || numbers.len() < 2 {
        return tops;
    }
    let commands: Vec<String> = numbers
        .iter()
        .map(|number| format!("TOP {number} {TOP_LINES}"))
        .collect();
    let mark = session.wire.mark();
    let mut sent = session
        .send(Stage::PickupReceive, &commands.join("\r\n"), MAX_TOP)
        .await;
    for number in numbers {
        let result = match sent {
            Ok(()) => session.top().await,
            Err(error) => Err(error),
        };
        sent = result.as_ref().map(|_| ()).map_err(Clone::clone);
        tops.insert(number, result);
        if sent.is_err() {
            break;
        }
        session.wire.begin(session.step, MAX_TOP);
    }
    // They are other people's, mostly; ours is read as a whole later.
    session.wire.withhold(mark);
    tops
}

/// A server may list a mail before it can give it: it is asked again.
fn nothing_given(number: u64) -> PickupError {
    PickupError {
        is_passing: true,
        ..PickupError::new(
            Stage::PickupReceive,
            &format!(
                "the server lists a mail (number {number}), but gives nothing of it; it is asked again at each pick-up"
            ),
        )
    }
}

/// Looks into a mail; takes it if it is ours.
async fn examine(
    session: &mut Session,
    entry: &Entry,
    known: Seen,
    asked: Option<Top>,
    memory: &mut Memory,
    judge: &dyn Judge,
    visit: &mut Visit,
) -> Result<State, PickupError> {
    let stage = Stage::PickupReceive;
    let number = entry.number;
    let mut top = None;
    let mark = session.wire.mark();
    let among_others = asked.is_some();
    if !memory.lacks.contains("TOP") {
        let answer = match asked {
            Some(answer) => answer,
            None => {
                session
                    .send(stage, &format!("TOP {number} {TOP_LINES}"), MAX_TOP)
                    .await?;
                session.top().await?
            }
        };
        match answer {
            Ok(mail) => {
                memory.has_top = true;
                top = Some(mail);
            }
            Err(text) => {
                // Deleted elsewhere meanwhile, or a server without TOP: an empty mailbox would not tell; LIST does.
                session.send(stage, &format!("LIST {number}"), MAX_REPLY).await?;
                match session.answer(stage).await? {
                    Answer::Ok(_) => memory.note_refused_top(&text),
                    Answer::Err(_) => return Ok(State::Foreign),
                }
                if !memory.lacks.contains("TOP") {
                    return Err(PickupError {
                        is_passing: true,
                        ..session.refusal(stage, "TOP", &text)
                    });
                }
            }
        }
    }
    let mut receive = None;
    let mail = match top {
        Some(top) => top,
        None => {
            session.send(stage, &format!("LIST {number}"), MAX_REPLY).await?;
            let size = match session.answer(stage).await? {
                Answer::Ok(text) => text.split_whitespace().nth(1).and_then(|size| size.parse().ok()),
                Answer::Err(_) => None,
            };
            if size.is_none_or(|size: u64| size > MAX_WITHOUT_TOP + judge.largest()) {
                return Ok(State::Foreign);
            }
            let began = Instant::now();
            let mail = session.mail(&format!("RETR {number}"), MAX_MAIL).await?;
            receive = Some(session.since(began));
            mail
        }
    };
    if mail.trim_ascii().is_empty() {
        return Err(nothing_given(number));
    }
    let mut mail = mail;
    let mut found = finding(judge, &mail);
    let is_cut = receive.is_none() && body_lines(&mail) >= TOP_LINES;
    if found.is_none()
        && is_cut
        && may_notify(&mail)
        && let Some(more) = session.look_further(number).await?
    {
        mail = more;
        found = finding(judge, &mail);
    }
    let Some((token, what)) = found else {
        session.wire.withhold(mark);
        return Ok(State::Foreign);
    };
    let verdict = judge.verdict(&token);
    if verdict == Verdict::Leave && !what.is_mail() {
        return Ok(State::Foreign);
    }
    if verdict == Verdict::Leave {
        // Looked into again: should it lie around for long, it will be cleared.
        return Ok(known.state);
    }
    // Answers have no names in POP3: should a server mix them up, no foreign mail may be deleted for ours.
    let mixed_up = || {
        let text = format!("the server gave another mail as number {number} than the one that it had shown");
        PickupError::new(stage, &text)
    };
    if !what.is_deletable() && verdict == Verdict::Clear {
        return Ok(State::Foreign);
    }
    let mut found = Found {
        token: token.clone(),
        finding: what,
        not_shown: known.not_shown,
        shown: known.shown,
        receive: None,
        folder: None,
        landed: None,
        notified: None,
        mail,
    };
    if verdict == Verdict::Take {
        if receive.is_none() {
            let began = Instant::now();
            match session.mail(&format!("RETR {number}"), MAX_MAIL).await {
                Ok(mail) if mail.trim_ascii().is_empty() => {
                    visit.found.push(found);
                    return Err(nothing_given(number));
                }
                Ok(mail) => {
                    receive = Some(session.since(began));
                    if !found.read_again(judge, mail) {
                        session.wire.withhold(mark);
                        return Err(mixed_up());
                    }
                }
                Err(error) => {
                    visit.found.push(found);
                    return Err(error);
                }
            }
        }
        found.receive = receive;
    }
    let is_deletable = found.finding.is_deletable();
    if verdict == Verdict::Clear && among_others {
        let again = session.mail(&format!("TOP {number} {TOP_LINES}"), MAX_TOP).await?;
        if !found.read_again(judge, again) {
            session.wire.withhold(mark);
            return Err(mixed_up());
        }
    }
    visit.found.push(found);
    if !is_deletable {
        return Ok(State::Foreign);
    }
    session.delete(number).await?;
    Ok(State::Taken(token.nonce))
}

/// Lines of a message's body.
fn body_lines(message: &[u8]) -> usize {
    let body = message.windows(4).position(|window| window == b"\r\n\r\n");
    let body = body.map_or(&[][..], |at| &message[at + 4..]);
    body.iter().filter(|byte| **byte == b'\n').count()
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

    #[test]
    fn one_refused_top_is_no_server_without_top() {
        let lacks = |has_top: bool, refusals: &[&str]| {
            let mut memory = Memory {
                has_top,
                ..Memory::default()
            };
            refusals.iter().for_each(|text| memory.note_refused_top(text));
            memory.lacks.contains("TOP")
        };
        assert!(!lacks(false, &["temporary problem, try later"]));
        assert!(lacks(false, &["Unknown command"]));
        assert!(lacks(false, &["", "", ""]));
        assert!(
            !lacks(true, &["Unknown command", "", "", ""]),
            "it lists TOP, or has answered it"
        );
    }
}
