//! Decides which message is the mail of a test, and evaluates other messages about it.
//!
//! One rule decides: a message is the mail, and may be deleted as such, only if its *own top-level
//! header* carries our valid signature and nothing else in that header contradicts it
//! ([`Classification::TestMail`]). A signature found anywhere deeper (quoted, enclosed, in a
//! report) makes a message one *about* the mail. There is no fallback to "this is the mail": only
//! the function `own` returns it, and it reads nothing but a complete header.
//!
//! `header` and `mime` parse messages, damaged or not · `sender` distinguishes mail systems,
//! responders and people · `report` parses structured reports, `words` all other notifications ·
//! `status` finds status codes.

#[cfg(test)]
mod corpus;
mod header;
mod mime;
mod report;
mod sender;
mod status;
mod words;

use super::token::{SigningKey, Token};
use header::{Header, addresses};
use sender::Sender;

/// Field with the token of our mails, in lower case.
const TOKEN_FIELD: &str = "x-mailqos-token";
/// Prefix of the Message-ID of our mails; the nonce follows as 16 hexadecimal digits.
const ID_MARK: &str = "mq1.";

/// Knowledge about our own mails.
pub(super) trait Known {
    /// Returns the key of our signatures.
    fn key(&self) -> &SigningKey;
    /// Returns the token of an expected mail by its nonce, which is all that an identifier
    /// contains.
    fn awaited(&self, nonce: [u8; 8]) -> Option<Token> {
        let _ = nonce;
        None
    }
    /// Returns the sender address of the mails of a token's monitor, if it is one of ours.
    fn sender(&self, token: &Token) -> Option<String> {
        let _ = token;
        None
    }
}

/// Classification of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Classification {
    /// The mail of a test itself.
    TestMail(Token),
    /// An automatic message about such a mail.
    Notification(Token, Report),
    /// It contains one of our tokens but is neither of these; usually it was written by a person.
    /// Never touched.
    About(Token),
    /// It is unrelated to us. Never touched.
    Foreign,
}

#[cfg(any(test, feature = "test-hooks"))]
impl Classification {
    /// Returns the token of our mail, or of the mail that the message is about.
    pub(super) fn token(&self) -> Option<&Token> {
        match self {
            Self::TestMail(token) | Self::Notification(token, _) | Self::About(token) => {
                Some(token)
            }
            Self::Foreign => None,
        }
    }
}

/// Content of a notification about our mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) kind: Kind,
    /// Enhanced status code (RFC 3463), if stated.
    pub(super) status: Option<String>,
    /// The other server's reply, or the text of the notification.
    pub(super) reason: Option<String>,
    /// Whether it was certainly written by a mail system.
    is_certain: bool,
}

impl Report {
    /// Returns whether it reports that the mail will not be delivered.
    pub(super) fn is_failure(&self) -> bool {
        self.kind == Kind::Failed
    }

    /// Returns whether it may be deleted after reading: only a mail system's report about the
    /// delivery may.
    pub(super) fn is_deletable(&self) -> bool {
        self.is_certain && matches!(self.kind, Kind::Failed | Kind::Delayed | Kind::Delivered)
    }
}

#[cfg(test)]
impl Report {
    /// Returns a delivery failure as reported by a mail system.
    pub(super) fn failed(status: &str, reason: &str) -> Self {
        Self {
            kind: Kind::Failed,
            status: Some(status.to_owned()),
            reason: Some(reason.to_owned()),
            is_certain: true,
        }
    }
}

/// The fate of a mail as reported by a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It will not be delivered.
    Failed,
    /// Delivery is being retried.
    Delayed,
    /// It was delivered or relayed.
    Delivered,
    /// A recipient, or a program on their behalf, complained about it.
    Complaint,
    /// It was displayed, deleted or similar.
    Disposition,
    /// An automatic reply, such as an out-of-office reply.
    AutoReply,
    /// The report does not state it.
    Unclear,
}

/// Classifies a message, or the beginning of one. With a truncated header, it is never a test mail.
pub(super) fn classify(known: &dyn Known, message: &[u8]) -> Classification {
    let header = Header::read(message);
    let sender = Sender::of(&header);
    if let Some(token) = own(known, &header, &sender) {
        return Classification::TestMail(token);
    }
    let Some(token) = anywhere(known, message) else {
        return Classification::Foreign;
    };
    match notification(&header, &sender, message) {
        Some(report) => Classification::Notification(token, report),
        None => Classification::About(token),
    }
}

/// Returns whether a message with this header may be a notification, so that more of it should be
/// read.
pub(super) fn may_notify(header: &[u8]) -> bool {
    let header = Header::read(header);
    let sender = Sender::of(&header);
    sender.is_system() || sender.is_office || sender.is_titled_failure || is_service(&header)
}

/// Returns the token that identifies a message as the mail itself.
fn own(known: &dyn Known, header: &Header, sender: &Sender) -> Option<Token> {
    if !header.is_complete || is_contradicted(sender) {
        return None;
    }
    let fields: Vec<_> =
        header.all(TOKEN_FIELD).map(|value| known.key().find(value.as_bytes())).collect();
    let named = fields.iter().flatten().next().cloned();
    if named.is_some() && fields.iter().any(|field| *field != named) {
        // Besides our own field, there is one with another token.
        return None;
    }
    let titled =
        sole(header.all("subject").filter_map(|value| known.key().find(value.as_bytes())))?;
    let identified = header.all("message-id").find_map(nonce_in);
    let from: Vec<String> = header.anywhere("from").flat_map(addresses).collect();
    let is_from = |token: &Token| {
        let expected = known.sender(token).map(|sender| sender.to_lowercase());
        !from.is_empty() && from.iter().all(|address| Some(address) == expected.as_ref())
    };
    if let Some(token) = named {
        let is_identified = identified == Some(token.nonce);
        let is_ours = is_from(&token);
        // A daemon's name is not a contradiction if the monitor itself sends with it.
        let is_daemon = sender.is_daemon && !is_ours;
        let answers = refers_to(header, token.nonce) || (sender.refers && !is_identified);
        let is_other = titled.as_ref().is_some_and(|titled| *titled != token);
        // With another identifier and from another sender, it is a message that has taken over our
        // field: programs in which a mail is "edited as new" or resent keep unknown fields and the
        // subject, around a person's text.
        let is_foreign = header.has("from") && !(is_identified || is_ours);
        // Likewise, if someone uses the monitor's own address.
        let is_written = !is_identified && (sender.answers || is_of_client(header));
        let fits = !(is_foreign || is_written || is_other || is_daemon || answers);
        return (fits && (is_ours || !sender.is_responder)).then_some(token);
    }
    // A gateway removed the field, so the rest must not contain any contradiction. A field without
    // a valid signature contradicts an identifier, which is not signed.
    let awaited =
        || identified.filter(|_| fields.is_empty()).and_then(|nonce| known.awaited(nonce));
    let token = titled.or_else(awaited)?;
    let is_contradicted = sender.answers || sender.refers || sender.is_responder;
    (is_from(&token) && !is_contradicted).then_some(token)
}

/// Returns whether a header with our token shows that the message is not our mail: some gateways
/// copy the fields of a mail into the header of their notification.
fn is_contradicted(sender: &Sender) -> bool {
    let is_other_auto = sender.auto.as_deref().is_some_and(|auto| !sender::is_our_auto(auto));
    sender.is_report
        || sender.is_enclosure
        || sender.is_marked
        || sender.has_null_path
        || is_other_auto
}

/// Returns whether a mail client has left its name; our mails have none.
fn is_of_client(header: &Header) -> bool {
    // X-MS-Has-Attach does not count: Exchange adds it to every message, including our mails.
    ["user-agent", "x-mailer", "x-newsreader", "x-webmailer"].iter().any(|name| header.has(name))
}

/// Returns the token that all fields contain; the outer `None` if they differ.
#[allow(clippy::option_option, reason = "none at all is something else than several")]
fn sole(tokens: impl Iterator<Item = Token>) -> Option<Option<Token>> {
    let mut sole = None;
    for token in tokens {
        match &sole {
            Some(known) if *known != token => return None,
            _ => sole = Some(token),
        }
    }
    Some(sole)
}

/// Returns whether the message is a reply to the mail with this nonce.
fn refers_to(header: &Header, nonce: [u8; 8]) -> bool {
    let id = format!("{ID_MARK}{:016x}", u64::from_be_bytes(nonce));
    ["in-reply-to", "references"]
        .iter()
        .any(|name| header.anywhere(name).any(|value| value.contains(&id)))
}

/// Returns the nonce in one of our identifiers.
fn nonce_in(text: &str) -> Option<[u8; 8]> {
    let (_, rest) = text.split_once(ID_MARK)?;
    let digits = rest.get(..16)?;
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok().map(u64::to_be_bytes)
}

/// Returns a token found anywhere in a message, including in encoded parts: the token itself, or
/// the identifier of an expected mail.
fn anywhere(known: &dyn Known, message: &[u8]) -> Option<Token> {
    let identified = |text: &[u8]| identified(known, text);
    known.key().find(message).or_else(|| identified(message)).or_else(|| {
        let parts = mime::parts(message);
        let decoded = parts.iter().filter(|part| part.is_encoded());
        let mut found = decoded.filter_map(|part| {
            known.key().find(&part.content).or_else(|| identified(&part.content))
        });
        found.next()
    })
}

/// Returns the token of an expected mail whose identifier is in a text.
fn identified(known: &dyn Known, text: &[u8]) -> Option<Token> {
    /// Maximum number of identifiers to look up in a text.
    const MAX_IDS: usize = 64;
    let mut ids = 0;
    let mut rest = text;
    while let Some(at) = rest.windows(ID_MARK.len()).position(|window| window == ID_MARK.as_bytes())
        && ids < MAX_IDS
    {
        ids += 1;
        let id = &rest[at..rest.len().min(at + ID_MARK.len() + 16)];
        if let Some(token) =
            nonce_in(&String::from_utf8_lossy(id)).and_then(|nonce| known.awaited(nonce))
        {
            return Some(token);
        }
        rest = &rest[at + ID_MARK.len()..];
    }
    None
}

/// Returns whether the message comes from a service that writes from its own addresses: Amazon SNS,
/// and list managers.
fn is_service(header: &Header) -> bool {
    ["x-amz-sns-message-id", "x-amz-sns-subscription-arn", "x-mlserver"]
        .iter()
        .any(|name| header.has(name))
}

/// Reads a message about our mail as a notification. Returns `None` if a person may have written
/// it, or if it contains no statement.
fn notification(header: &Header, sender: &Sender, message: &[u8]) -> Option<Report> {
    // A journal (Exchange) encloses the sent mail and contains nothing about its delivery.
    if header.has("x-ms-journal-report") {
        return None;
    }
    // People who reply to or forward a notification use their own address, and don't attach a
    // report.
    let is_titled = (sender.is_titled_failure || sender.is_complaint) && !sender.answers;
    let is_of_office = is_titled || (sender.is_office && !sender.answers && !sender.refers);
    let answers = sender.answers
        && !(sender.is_report || sender.has_null_path || sender.is_daemon || sender.auto.is_some());
    let is_from_system = (sender.is_system() || is_of_office || is_service(header)) && !answers;
    let parts = mime::parts(message);
    let words = words::of(&parts);
    // Some gateways send notifications as replies, or from any address, but include the dialogue
    // between the servers.
    let encloses = || parts.iter().any(|part| report::is_original(&part.kind));
    let is_of_machine = || sender.is_office || (encloses() && !sender.answers && !sender.refers);
    if !(is_from_system || is_of_machine() && words::show_transcript(&words)) {
        return None;
    }
    let subject = sender::decoded(header.first("subject").unwrap_or_default());
    if sender.is_complaint && encloses() {
        return Some(bare(Kind::Complaint));
    }
    let Some(report) = report::read(&parts).or_else(|| report::read_enclosed(&parts)) else {
        return match sender.report_type.as_deref() {
            Some("disposition-notification") => Some(bare(Kind::Disposition)),
            Some("feedback-report") => Some(bare(Kind::Complaint)),
            _ => words::read(&words, &subject, sender),
        };
    };
    let told = words::read(&words, &subject, sender);
    if report.kind == Kind::Unclear {
        let told = told.unwrap_or_else(|| bare(Kind::Failed));
        return Some(Report {
            status: report.status.or(told.status),
            reason: report.reason.or(told.reason),
            ..told
        });
    }
    let is_vague = |code: &String| status::is_vague(code);
    let told_status = told.as_ref().and_then(|told| told.status.clone());
    let status = match (report.status, told_status) {
        (None, told) if report.kind == Kind::Failed => told,
        (Some(code), Some(told)) if is_vague(&code) && code.as_bytes()[0] == told.as_bytes()[0] => {
            Some(told)
        }
        (code, _) => code,
    };
    Some(Report {
        status,
        reason: report.reason.or_else(|| told.and_then(|told| told.reason)),
        ..report
    })
}

/// Returns a report with only its kind.
fn bare(kind: Kind) -> Report {
    Report { kind, status: None, reason: None, is_certain: false }
}
