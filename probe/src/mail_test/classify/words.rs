//! Notifications in prose, as written by qmail, Exim, Sendmail, Exchange and many others instead of
//! a report, or in addition to one.

use super::{Kind, Report, header, mime::Part, report::is_original, sender::Sender, status};

/// Maximum length of a notification's own text to read.
const MAX_WORDS: usize = 64 * 1024;
/// Maximum length of a reason.
const MAX_REASON: usize = 300;
/// Maximum number of lines of a reason.
const MAX_LINES: usize = 4;

/// Phrases for continued delivery attempts.
const DELAYS: &[&str] = &[
    "will be retried",
    "will retry",
    "will continue to try",
    "will continue trying",
    "will keep trying",
    "will try again",
    "continue to attempt",
    "attempts will continue",
    "additional attempts to deliver",
    "still being retried",
    "still trying",
    "still undelivered",
    "not yet been delivered",
    "not been delivered yet",
    "not delivered yet",
    "has not been able to deliver your message yet",
    "have not yet received",
    "warning message only",
    "advisory notice only",
    "only a notification about a delay",
    "no action is required on your part",
    "do not need to resend",
    "no need to resend",
    "could not send message for past",
    "delivery incomplete",
    "transient non-fatal",
    "notification (delay",
    "delivery delayed",
    "message delayed",
    "delayed mail",
    "has been delayed",
    "is delayed",
    "delivery is delayed",
    "delayed delivery",
    "wird weiterhin versucht",
    "zustellung verzögert",
    "verzögerte zustellung",
    "wurde noch nicht zugestellt",
    "remise retardée",
    "remise différée",
    "entrega retrasada",
    "se ha retrasado",
    "consegna ritardata",
    "entrega atrasada",
    "bezorging vertraagd",
    "配信が遅れ",
];
/// Phrases for the end of delivery attempts, which override phrases about delays.
const ENDS: &[&str] = &[
    "this is a permanent error",
    "permanent fatal error",
    "failed permanently",
    "permanent failure",
    "will not be retried",
    "will not retry",
    "will not continue trying",
    "will no longer",
    "no longer be retried",
    "no further attempts",
    "no further delivery attempts",
    "giving up",
    "given up",
    "i give up",
    "has been returned",
    "was returned to sender",
    "returned to sender",
    "retry timeout exceeded",
    "unsent message",
    "undelivered mail",
    "(failure)",
];
/// Phrases for delivery or relaying.
const SUCCESSES: &[&str] = &[
    "(success)",
    "(relay)",
    "(relayed)",
    "(expanded)",
    "successful mail delivery",
    "successfully delivered",
    "delivered successfully",
    "successfully relayed",
    "return receipt",
    "delivery receipt",
    "delivery notification: delivery has been successful",
];
/// Phrases for failure.
const FAILURES: &[&str] = &[
    "undeliver",
    "not deliver",
    "n't deliver",
    "not be deliver",
    "n't be deliver",
    "not been deliver",
    "unable to deliver",
    "able to deliver",
    "failed to deliver",
    "no delivery to",
    "delivery failed",
    "delivery fail",
    "delivery has failed",
    "delivery error",
    "delivery problem",
    "delivery to the following",
    "delivery aborted",
    "was aborted",
    "failure notice",
    "mail failure",
    "failed mail",
    "mail delivery",
    "returned mail",
    "returned to sender",
    "mail system error",
    "permanent error",
    "permanent failure",
    "fatal error",
    "did not reach",
    "not relayed",
    "could not be sent",
    "not be sent",
    "could not send",
    "not be reached",
    "was rejected",
    "been rejected",
    "be rejected",
    "rejected by",
    "refused",
    "was blocked",
    "been blocked",
    "message blocked",
    "not listed in",
    "not recognized",
    "not recognised",
    "not found",
    "not match",
    "not exactly match",
    "not exist",
    "user unknown",
    "unknown user",
    "unknown recipient",
    "unknown address",
    "no such",
    "no mailbox",
    "mailbox full",
    "mailbox is full",
    "over quota",
    "overquota",
    "quota exceeded",
    "exceeds allowed",
    "exceeded",
    "too large",
    "invalid address",
    "invalid recipient",
    "invalid mailbox",
    "address invalid",
    "doesn't have a",
    "does not have a",
    "host unknown",
    "failure reason",
    "unsent message",
    "loop alert",
    "mail loop",
    "loop detected",
    "could not be found",
    "bounce",
    "nicht zugestellt",
    "nicht zustellbar",
    "unzustellbar",
    "zustellung fehlgeschlagen",
    "fehler bei der",
    "konnte nicht",
    "non remis",
    "non distribu",
    "échec",
    "echec",
    "impossible de remettre",
    "n'a pas pu être",
    "no se pudo entregar",
    "no se ha podido",
    "no entregado",
    "no se puede entregar",
    "niet bezorgd",
    "onbestelbaar",
    "kan niet worden",
    "niet worden bezorgd",
    "non recapitabile",
    "mancato recapito",
    "impossibile recapitare",
    "non è stato recapitato",
    "não foi entregue",
    "não pôde ser",
    "não entregue",
    "falha na entrega",
    "не доставлено",
    "не может быть доставлено",
    "недоставлен",
    "не удалось доставить",
    "ошибка доставки",
    "送信できません",
    "配信できません",
    "配信に失敗",
    "配信不能",
    "届けることができません",
    "存在しない",
    "无法投递",
    "无法送达",
    "退信",
    "未送达",
    "未傳遞",
    "無法傳遞",
    "nedoručitel",
    "nelze doručit",
    "olevererbar",
    "kunde inte levereras",
    "ikke leveres",
    "kunne ikke leveres",
    "ei voitu toimittaa",
    "niedostarcz",
    "nie można dostarczyć",
    "teslim edilemedi",
    "nem kézbesíthető",
];
/// Phrases that precede the returned mail, in lower case, without surrounding dashes.
const ORIGINALS: &[&str] = &[
    "below this line is a copy of the message",
    "this is a copy of the message",
    "this is a copy of your message",
    "the header of the original message",
    "header of the original",
    "included is a copy of the message",
    "original message follows",
    "original message header",
    "original mail as follows",
    "original message",
    "original mail",
    "originalnachricht",
    "message d'origine",
    "mensaje original",
    "messaggio originale",
    "unsent message follows",
    "message header follows",
    "message headers follow",
    "returned message",
    "the head of the mail",
    "message headers",
    "copy of the original message",
    "your original message",
    "the original message was",
    "start of returned message",
    "undelivered message",
];
/// Commands of the envelope, as shown in transcripts.
const COMMANDS: &[&str] = &["rcpt to:", "mail from:"];
/// Words that introduce a server's reply.
const REPLIES: &[&str] = &["received", "out:", "response:"];
/// Fields at which a returned mail begins if nothing announces it.
const FIRST_FIELDS: &[&str] = &[
    "received:",
    "return-path:",
    "dkim-signature:",
    "x-mailqos-token:",
    "arc-seal:",
    "x-received:",
    "domainkey-signature:",
];
/// Phrases that precede the reason.
const BECAUSES: &[&str] =
    &["because:", "reason:", "reasons", "following reason", "because of", "reason was"];

/// Returns the notification's own text, up to the returned mail.
pub(super) fn of(parts: &[Part]) -> String {
    let own = parts.iter().take_while(|part| !is_original(&part.kind));
    let of_kind = |kind: &str| -> String {
        let texts = own.clone().filter(|part| part.kind == kind);
        texts.map(|part| header::text(&part.content)).collect::<Vec<_>>().join("\n")
    };
    let mut text = of_kind("text/plain");
    if text.trim().is_empty() {
        text = without_tags(&of_kind("text/html"));
    }
    if text.trim().is_empty() {
        // A multipart whose boundary was damaged: use its raw text.
        text = parts.first().map(|part| header::text(&part.content)).unwrap_or_default();
    }
    let mut words = String::new();
    let mut is_inset = false;
    for line in text.lines() {
        // Indented fields of the mail within the text end at the next empty line; any others end
        // the text.
        is_inset = (is_inset || begins_inset(line)) && !line.trim().is_empty();
        if is_inset {
            continue;
        }
        if begins_original(line) || words.len() > MAX_WORDS {
            break;
        }
        words.push_str(line.trim_end());
        words.push('\n');
    }
    words
}

/// Returns whether a line is an indented field of the returned mail.
fn begins_inset(line: &str) -> bool {
    line.starts_with([' ', '\t']) && is_first_field(&line.trim().to_lowercase())
}

fn is_first_field(line: &str) -> bool {
    FIRST_FIELDS.iter().any(|field| line.starts_with(field))
}

fn begins_original(line: &str) -> bool {
    let lower = line.trim().to_lowercase();
    if is_first_field(&lower) {
        return true;
    }
    let bare = lower.trim_matches(|c: char| !c.is_alphanumeric());
    // Between dashes, or at the end of a line that announces it.
    let is_ruled = lower.starts_with("--")
        || lower.starts_with("|--")
        || lower.starts_with("==")
        || lower.starts_with("__")
        || lower.ends_with("follows.")
        || lower.ends_with("follows:")
        || lower.ends_with(':');
    is_ruled && ORIGINALS.iter().any(|words| bare.starts_with(words)) && !bare.contains("received")
}

/// Returns whether the text contains part of a dialogue between mail servers: a command of the
/// envelope, and a reply that refuses it. Text quoted by a person does not count.
pub(super) fn show_transcript(words: &str) -> bool {
    let is_quoted = |line: &&str| line.starts_with("> ") || line.starts_with('|');
    let (mut commands, mut refusals) = (false, false);
    for line in words.lines().map(str::trim_start).filter(|line| !is_quoted(line)) {
        let bare = line.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
        let lower = bare.to_ascii_lowercase();
        let said = REPLIES.iter().find_map(|word| lower.strip_prefix(word)).unwrap_or(&lower);
        let said = said.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
        commands |= contains(&lower, COMMANDS);
        refusals |=
            status::reply(said).is_some_and(|code| said.starts_with(code) && code.starts_with('5'));
    }
    commands && refusals
}

/// Returns a text without its HTML tags.
fn without_tags(html: &str) -> String {
    let mut text = String::with_capacity(html.len());
    let mut is_tag = false;
    for character in html.chars() {
        match character {
            '<' => {
                is_tag = true;
                text.push('\n');
            }
            '>' if is_tag => is_tag = false,
            _ if is_tag => {}
            other => text.push(other),
        }
    }
    let text = text
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&nbsp;", " ")
        .replace("&quot;", "\"");
    text.replace("&amp;", "&")
}

fn contains(text: &str, known: &[&str]) -> bool {
    known.iter().any(|words| text.contains(words))
}

/// Reads a notification in prose; returns `None` if it is not one.
pub(super) fn read(words: &str, subject: &str, sender: &Sender) -> Option<Report> {
    if let Some(report) = published(words) {
        return Some(report);
    }
    let (subject, lower) = (subject.to_lowercase(), words.to_lowercase());
    let report = |kind: Kind| Report {
        kind,
        status: status::best(words).map(str::to_owned),
        reason: reason(words),
        is_certain: !sender.answers
            && (sender.is_daemon
                || sender.is_marked
                || sender.is_report
                || (sender.is_office && (sender.has_null_path || sender.auto.is_some()))),
    };
    let speaks = |known: &[&str]| contains(&subject, known) || contains(&lower, known);
    let has_ended = speaks(ENDS) && !contains(&subject, DELAYS);
    if speaks(DELAYS) && !has_ended {
        return Some(report(Kind::Delayed));
    }
    let has_code =
        status::best(words).is_some() || words.lines().any(|line| status::reply(line).is_some());
    let has_failed = has_code || speaks(FAILURES);
    if speaks(SUCCESSES) && !has_code && !has_ended {
        return Some(report(Kind::Delivered));
    }
    let is_of_mail_system = sender.is_daemon || sender.is_marked;
    let is_office = sender.is_office || sender.is_titled_failure;
    let is_automatic = sender.is_responder || sender.auto.is_some() || sender.has_null_path;
    if is_automatic
        && !is_of_mail_system
        && !is_office
        && !sender.is_report
        && !contains(&subject, FAILURES)
    {
        // A person's responder may use any words, so only a mail system's subject is trusted.
        let is_bare = sender.auto.is_none() && !sender.is_responder;
        if !(is_bare && has_code) {
            return Some(Report {
                // A person's text is never interpreted.
                reason: None,
                is_certain: false,
                ..report(Kind::AutoReply)
            });
        }
    }
    (has_failed || is_of_mail_system || sender.is_report).then(|| report(Kind::Failed))
}

/// Reads a notification that Amazon SES publishes and an SNS subscription forwards (JSON).
fn published(words: &str) -> Option<Report> {
    let value = |name: &str| {
        let (_, rest) = words.split_once(&format!("\"{name}\""))?;
        let rest = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
        rest.split('"').next().map(str::to_owned)
    };
    let what = value("notificationType").or_else(|| value("eventType"))?;
    let kind = match &*what {
        "Bounce" | "Reject" => Kind::Failed,
        "Complaint" => Kind::Complaint,
        "DeliveryDelay" => Kind::Delayed,
        "Delivery" => Kind::Delivered,
        _ => return None,
    };
    let reason = value("diagnosticCode");
    Some(Report {
        kind,
        status: value("status")
            .or_else(|| reason.clone())
            .and_then(|said| status::best(&said).map(str::to_owned)),
        reason,
        is_certain: false,
    })
}

/// Returns the line with the reason.
fn reason(words: &str) -> Option<String> {
    let lines: Vec<&str> = words.lines().collect();
    let best = status::best(words);
    let with_code = best.and_then(|code| {
        lines.iter().position(|line| status::enhanced(line).any(|(_, known)| known == code))
    });
    let with_reply = || lines.iter().position(|line| status::reply(line).is_some());
    let behind = || {
        let said = |line: &str| {
            let lower = line.trim().to_lowercase();
            BECAUSES.iter().any(|words| {
                lower.trim_matches('-').trim().ends_with(words) || lower.starts_with(words)
            })
        };
        let at = lines.iter().position(|line| said(line))?;
        let (_, same) = lines[at].split_once(':').unwrap_or_default();
        if !same.trim().is_empty() {
            return Some(at);
        }
        (at + 1..lines.len()).find(|at| lines[*at].chars().any(char::is_alphanumeric))
    };
    // A line that ends with a colon only announces the reason.
    let fails = |line: &&str| contains(&line.to_lowercase(), FAILURES);
    let announces = |line: &&str| line.trim_end().ends_with(':');
    let failing = || {
        let precise = lines.iter().position(|line| fails(line) && !announces(line));
        precise.or_else(|| lines.iter().position(&fails))
    };
    let first = || lines.iter().position(|line| !line.trim().is_empty());
    let at = with_code.or_else(with_reply).or_else(behind).or_else(failing).or_else(first)?;
    let mut text = lines[at].trim().trim_start_matches(['<', '>']).trim().to_owned();
    if lines[at].trim().starts_with('<') && !lines[at].trim().starts_with("<<<") {
        lines[at].trim().clone_into(&mut text);
    }
    // A folded reply continues in indented lines.
    for line in lines.iter().skip(at + 1).take(MAX_LINES - 1) {
        if !line.starts_with([' ', '\t']) || line.trim().is_empty() {
            break;
        }
        text.push(' ');
        text.push_str(line.trim());
    }
    let text: String = text.chars().take(MAX_REASON).collect();
    (!text.is_empty()).then_some(text)
}
