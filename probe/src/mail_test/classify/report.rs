//! Structured reports: delivery status (RFC 3464, RFC 6533), feedback (RFC 5965, RFC 6591), and
//! disposition (RFC 8098).

use super::{
    Kind, Report,
    header::{self, Header},
    mime::{self, Parameterised, Part},
    status,
};

/// Returns whether a part of this type is a report.
pub(super) fn is_report_type(kind: &str) -> bool {
    is_status(kind) || is_disposition(kind) || is_feedback(kind)
}

/// Returns whether a part is a delivery status, including the variants of Exchange and others.
fn is_status(kind: &str) -> bool {
    matches!(
        kind,
        "message/delivery-status"
            | "message/global-delivery-status"
            | "text/delivery-status"
            | "message/delivery-report"
    )
}

fn is_disposition(kind: &str) -> bool {
    matches!(kind, "message/disposition-notification" | "message/global-disposition-notification")
}

fn is_feedback(kind: &str) -> bool {
    matches!(kind, "message/feedback-report" | "message/feedback-status")
}

/// Returns whether a part contains the original message or its header.
pub(super) fn is_original(kind: &str) -> bool {
    matches!(
        kind,
        "message/rfc822"
            | "message/global"
            | "message/partial"
            | "text/rfc822-headers"
            | "text/rfc822-header"
            | "message/rfc822-headers"
            | "message/global-headers"
    )
}

/// Reads the first report among the parts that contains a statement.
pub(super) fn read(parts: &[Part]) -> Option<Report> {
    parts.iter().find_map(|part| match &*part.kind {
        kind if is_status(kind) => delivery(part),
        kind if is_feedback(kind) => feedback(part),
        kind if is_disposition(kind) => disposition(part),
        _ => None,
    })
}

/// Reads the report of a notification that a gateway enclosed in another one.
pub(super) fn read_enclosed(parts: &[Part]) -> Option<Report> {
    let enclosed = parts.iter().filter(|part| part.kind == "message/rfc822");
    enclosed
        .filter(|part| {
            let header = Header::read(&part.content);
            let kind = header.first("content-type").map(Parameterised::read);
            kind.is_some_and(|kind| kind.word == "multipart/report")
        })
        .find_map(|part| read(&mime::parts(&part.content)))
}

/// Statements about a recipient.
struct Recipient {
    kind: Option<Kind>,
    status: Option<String>,
    reason: Option<String>,
}

fn delivery(part: &Part) -> Option<Report> {
    let mut groups = header::groups(&part.content);
    // SendGrid writes the first fields into the part's own header.
    groups.push(part.header.clone());
    let recipients: Vec<Recipient> = groups.iter().filter_map(recipient).collect();
    let rank = |kind: Option<Kind>| match kind {
        Some(Kind::Failed) => 0,
        None => 1,
        Some(Kind::Delayed) => 2,
        Some(_) => 3,
    };
    let best = recipients.into_iter().min_by_key(|recipient| {
        let says_little = recipient.status.as_deref().is_none_or(status::is_vague);
        (rank(recipient.kind), says_little, recipient.reason.is_none())
    })?;
    Some(Report {
        // Without an action, the class of the status decides; without a status, the surrounding
        // text does.
        kind: best.kind.unwrap_or(Kind::Unclear),
        status: best.status,
        reason: best.reason,
        is_certain: true,
    })
}

fn recipient(group: &Header) -> Option<Recipient> {
    let names = ["action", "status", "diagnostic-code", "final-recipient", "original-recipient"];
    if !names.iter().any(|name| group.first(name).is_some()) {
        return None;
    }
    let diagnostic = group.first("diagnostic-code").map(words_of).filter(|words| !words.is_empty());
    let stated = group.first("status").unwrap_or_default();
    let code = status::enhanced(stated).map(|(_, code)| code.to_owned()).next();
    let said = diagnostic.as_deref().and_then(status::best).map(str::to_owned);
    let kind = group.first("action").and_then(action);
    let code = match (code, said) {
        // The remote server's own code is more specific than one made up by the reporting server.
        (Some(code), Some(said)) if status::is_vague(&code) || code.starts_with('2') => Some(said),
        (None, said) => said,
        (code, _) => code,
    };
    let by_class = || match code.as_deref().map(|code| code.as_bytes()[0]) {
        Some(b'5') => Some(Kind::Failed),
        Some(b'2') => Some(Kind::Delivered),
        _ => None,
    };
    let kind = kind.or_else(by_class);
    let comment = stated
        .split_once('(')
        .map(|(_, rest)| rest.trim_end().trim_end_matches(')').trim().to_owned())
        .filter(|comment| !comment.is_empty());
    Some(Recipient { kind, status: code, reason: diagnostic.or(comment) })
}

/// Parses the `Action` field.
fn action(value: &str) -> Option<Kind> {
    let word: String = value
        .trim_start()
        .chars()
        .take_while(|c| c.is_ascii_alphabetic())
        .collect::<String>()
        .to_ascii_lowercase();
    match &*word {
        "failed" | "failure" | "fail" | "error" | "expired" | "rejected" | "denied"
        | "undeliverable" | "bounced" | "undelivered" => Some(Kind::Failed),
        "delayed" | "delay" | "deferred" => Some(Kind::Delayed),
        "delivered" | "deliverable" | "relayed" | "expanded" => Some(Kind::Delivered),
        _ => None,
    }
}

/// Returns the text of a diagnostic code without the type before it: `smtp; 550 no`.
fn words_of(value: &str) -> String {
    match value.split_once(';') {
        Some((kind, words)) if !kind.trim().contains(' ') => words.trim().to_owned(),
        _ => value.trim().to_owned(),
    }
}

fn feedback(part: &Part) -> Option<Report> {
    let groups = header::groups(&part.content);
    let first = |name: &str| groups.iter().find_map(|group| group.first(name)).map(str::to_owned);
    let what = first("feedback-type")?;
    let result = first("delivery-result").unwrap_or_default().to_ascii_lowercase();
    // RFC 6591, section 3.2.2: a report of failed authentication states what was done with the
    // mail.
    let kind = match result.trim() {
        "reject" => Kind::Failed,
        _ => Kind::Complaint,
    };
    Some(Report {
        kind,
        status: None,
        reason: Some(format!("a feedback report: {}", what.trim().to_ascii_lowercase())),
        is_certain: kind == Kind::Failed,
    })
}

fn disposition(part: &Part) -> Option<Report> {
    let groups = header::groups(&part.content);
    let said = groups.iter().find_map(|group| group.first("disposition"))?;
    Some(Report {
        kind: Kind::Disposition,
        status: None,
        reason: Some(said.trim().to_owned()),
        is_certain: false,
    })
}
