//! Determines from the header alone who wrote a message: a mail system, an automatic responder, or
//! a person.

use super::{
    header::{Header, addresses},
    mime::Parameterised,
};

/// Local parts used only by mail systems, without punctuation.
const DAEMONS: &[&str] = &[
    "mailerdaemon",
    "maildaemon",
    "maildeliverysystem",
    "maildeliverysubsystem",
    "maildelivery",
    "mailsystem",
    "doublebounce",
];
/// Local parts used by both mail systems and their administrators.
const OFFICES: &[&str] = &[
    "postmaster",
    "postoffice",
    "mailadmin",
    "mailadministrator",
    "administrator",
    "sysadmin",
    "systemadministrator",
    "noreply",
    "donotreply",
    "mailmaster",
    "listmaster",
    "hostmaster",
    "abuse",
    "bounce",
    "bounces",
    "root",
    "system",
];
/// Display names used only by mail systems.
const DAEMON_NAMES: &[&str] = &[
    "mailer-daemon",
    "mailer daemon",
    "mail delivery s",
    "mail deliver system",
    "mail delivery",
    "delivery subsystem",
    "internet mail delivery",
    "content-filter at",
    "microsoft exchange",
    "microsoft outlook",
];
/// Display names used by both.
const OFFICE_NAMES: &[&str] =
    &["system administrator", "postmaster", "mail administrator", "mail system"];
/// Fields that only mail systems add to a failure notification.
const MARKS_OF_FAILURE: &[&str] = &[
    "x-failed-recipients",
    "x-ms-embedded-report",
    "x-dsncontext",
    "x-mx-bounce",
    "x-ahmailid",
    "x-postfix-sender",
    "x-mimecast-bounce-id",
    "x-bounce-id",
];
/// Subject prefixes of replies and forwarded messages, in the languages of common programs.
const REPLIES: &[&str] = &[
    "re",
    "aw",
    "antw",
    "sv",
    "vs",
    "rif",
    "res",
    "odp",
    "ynt",
    "fw",
    "fwd",
    "wg",
    "tr",
    "rv",
    "enc",
    "doorst",
    "vb",
    "i",
    "pd",
    "ilt",
    "回复",
    "转发",
    "答复",
    "回覆",
    "轉寄",
    "返信",
    "転送",
    "отв",
    "пересл",
    "ha",
    "vl",
    "vá",
    "továbbítás",
    "odpověď",
    "réf",
    "réponse",
    "ref",
    "forward",
    "weitergeleitet",
];
/// Subject prefixes of notifications whose sender may be any address.
const SUBJECTS_OF_FAILURE: &[&str] = &[
    "undeliver",
    "delivery failure",
    "delivery failed",
    "delivery has failed",
    "delivery status notification",
    "delivery notification",
    "message delivery has failed",
    "message undeliverable",
    "mail delivery failed",
    "mail system error",
    "mail could not be delivered",
    "failure notice",
    "returned mail",
    "there was an error sending your mail",
    "non delivery",
    "non-delivery",
    "nondeliverable",
    "failed mail",
    "mail failure",
    "mail delivery failure",
    "message not delivered",
    "message could not be delivered",
    "unzustellbar",
    "nicht zustellbar",
    "zustellung fehlgeschlagen",
    "non remis",
    "non distribu",
    "échec de la remise",
    "échec de remise",
    "remise impossible",
    "no se puede entregar",
    "no se pudo entregar",
    "no entregado",
    "non recapitabile",
    "mancato recapito",
    "impossibile recapitare",
    "não é possível entregar",
    "não entregue",
    "falha na entrega",
    "onbestelbaar",
    "niet bezorgd",
    "niedostarcz",
    "nie można dostarczyć",
    "olevererbar",
    "kan ikke leveres",
    "ikke leveret",
    "ikke levert",
    "ei voi toimittaa",
    "ei toimitettu",
    "nelze doručit",
    "nedoručitel",
    "nem kézbesíthető",
    "kézbesíthetetlen",
    "недоставлен",
    "не доставлено",
    "не удалось доставить",
    "ошибка доставки",
    "teslim edilemedi",
    "配信不能",
    "配信できません",
    "配信エラー",
    "メール配信に失敗",
    "メッセージを配信できません",
    "送信できません",
    "无法投递",
    "无法送达",
    "未送达",
    "未传递",
    "系统退信",
    "退信",
    "未傳遞",
    "無法傳遞",
    "傳遞失敗",
    "배달되지 않음",
    "전송 실패",
];
/// Subject prefixes of complaints without a report.
const SUBJECTS_OF_COMPLAINT: &[&str] = &["complaint about message from"];
/// Prefixes or parts of subjects of automatic replies.
const AUTOMATIC: &[&str] = &[
    "automatic reply",
    "auto reply",
    "autoreply",
    "auto-reply",
    "auto response",
    "autoresponse",
    "auto-response",
    "autoresponder",
    "out of office",
    "out of the office",
    "out-of-office",
    "away from my mail",
    "vacation",
    "on holiday",
    "automatische antwort",
    "abwesenheit",
    "abwesend",
    "nicht im büro",
    "réponse automatique",
    "absence du bureau",
    "respuesta automática",
    "fuera de la oficina",
    "risposta automatica",
    "fuori sede",
    "resposta automática",
    "automatisch antwoord",
    "afwezig",
    "autosvar",
    "autovastaus",
    "automatická odpověď",
    "odpowiedź automatyczna",
    "automatikus válasz",
    "otomatik yanıt",
    "автоматический ответ",
    "автоответ",
    "自动答复",
    "自动回复",
    "自動回覆",
    "自動応答",
    "不在",
];

/// Properties of the sender according to the header.
#[derive(Debug, Clone, Default)]
pub(super) struct Sender {
    /// The return path is null or belongs to a mail system.
    pub(super) has_null_path: bool,
    /// Whether the address or name is only used by mail systems.
    pub(super) is_daemon: bool,
    /// Whether the address or name is also used by administrators.
    pub(super) is_office: bool,
    /// Value of `Auto-Submitted` (RFC 3834) with parameters and comments, unless it is `no`.
    pub(super) auto: Option<String>,
    /// Whether it is `multipart/report` or a report itself.
    pub(super) is_report: bool,
    /// Whether the whole message is an enclosed one.
    pub(super) is_enclosure: bool,
    /// It has a field that only failure notifications have.
    pub(super) is_marked: bool,
    /// The subject is that of a reply or a forwarded message.
    pub(super) answers: bool,
    /// The subject, or a field of responders, marks it as an automatic reply.
    pub(super) is_responder: bool,
    /// Whether it refers to an earlier message.
    pub(super) refers: bool,
    /// The subject is that of a failure notification.
    pub(super) is_titled_failure: bool,
    /// The subject is that of a complaint forwarded by a provider.
    pub(super) is_complaint: bool,
    /// Type of the report, in lower case.
    pub(super) report_type: Option<String>,
}

impl Sender {
    pub(super) fn of(header: &Header) -> Self {
        let mut sender = Self {
            has_null_path: header.anywhere("return-path").any(is_null_path),
            refers: header.has("in-reply-to") || header.has("references"),
            is_marked: MARKS_OF_FAILURE.iter().any(|name| header.has(name)),
            ..Self::default()
        };
        for from in header.anywhere("from").chain(header.anywhere("sender")) {
            let name = from.to_lowercase();
            let is_bare = from.trim().ends_with("<>");
            let of = |known: &[&str]| {
                addresses(from).iter().any(|address| known.contains(&&*local(address)))
            };
            let is_product = |address: &String| {
                address.starts_with("microsoftexchange") || address.starts_with("mdaemon@")
            };
            let of_product = addresses(from).iter().any(is_product);
            sender.is_daemon |= of(DAEMONS)
                || of_product
                || is_bare
                || DAEMON_NAMES.iter().any(|known| name.contains(known));
            sender.is_office |=
                of(OFFICES) || OFFICE_NAMES.iter().any(|known| name.contains(known));
        }
        sender.auto = header
            .anywhere("auto-submitted")
            .map(|value| value.trim().to_ascii_lowercase())
            .find(|value| keyword(value) != "no");
        for value in header.anywhere("content-type") {
            let kind = Parameterised::read(value);
            sender.is_report |= kind.word == "multipart/report"
                || kind.get("report-type").is_some()
                || super::report::is_report_type(&kind.word);
            let report_type = kind.get("report-type").map(str::to_ascii_lowercase);
            sender.report_type = sender.report_type.or(report_type);
            sender.is_enclosure |=
                kind.word.starts_with("message/") || kind.word == "text/rfc822-headers";
        }
        let subject = header.first("subject").unwrap_or_default();
        sender.answers = is_answer(subject);
        let subject = decoded(subject).to_lowercase();
        let title = subject.trim_start_matches(|c: char| !c.is_alphanumeric());
        sender.is_titled_failure = SUBJECTS_OF_FAILURE.iter().any(|words| title.starts_with(words));
        sender.is_complaint = SUBJECTS_OF_COMPLAINT.iter().any(|words| title.starts_with(words));
        sender.is_responder = AUTOMATIC.iter().any(|words| subject.contains(words))
            || ["x-autoreply", "x-autorespond", "x-autoresponder", "x-vacation"]
                .iter()
                .any(|name| header.has(name))
            || header
                .anywhere("precedence")
                .any(|value| value.to_ascii_lowercase().contains("auto_reply"));
        sender
    }

    /// Returns whether a mail system certainly wrote it. Messages from people have none of these
    /// marks.
    pub(super) fn is_system(&self) -> bool {
        self.is_report
            || self.has_null_path
            || self.is_daemon
            || self.is_marked
            || self.auto.as_deref().is_some_and(|auto| !is_our_auto(auto))
    }
}

/// Returns whether `Auto-Submitted` has exactly the value in our mails.
pub(super) fn is_our_auto(value: &str) -> bool {
    value.trim().eq_ignore_ascii_case("auto-generated")
}

fn keyword(value: &str) -> &str {
    value.split([';', '(', ' ', '\t']).next().unwrap_or_default()
}

/// Returns whether a path is `<>`, or what programs write in its place.
fn is_null_path(value: &str) -> bool {
    let path = value.trim();
    if path.is_empty() || path.starts_with("<>") {
        return true;
    }
    let path = path.trim_matches(['<', '>']).to_lowercase();
    DAEMONS.contains(&&*local(&path))
}

/// Returns an address's local part without punctuation: `Mail.Delivery.System` and `mailer-daemon`
/// have many spellings.
fn local(address: &str) -> String {
    let local = address.split('@').next().unwrap_or_default();
    local.chars().filter(|c| c.is_alphanumeric()).collect()
}

/// Returns whether a subject is that of a reply or a forwarded message: `Re: x`, `[list] AW: x`,
/// `Fwd[2]: x`.
pub(super) fn is_answer(subject: &str) -> bool {
    let decoded = decoded(subject);
    let mut rest = decoded.trim_start();
    while let Some(inside) = rest.strip_prefix('[')
        && let Some((_, after)) = inside.split_once(']')
    {
        rest = after.trim_start();
    }
    let Some(end) = rest.find([':', '：']) else {
        return false;
    };
    let word: String = rest[..end].to_lowercase();
    let word = word.trim_end_matches(|c: char| {
        c.is_ascii_digit() || matches!(c, '[' | ']' | '(' | ')' | '^' | ' ')
    });
    REPLIES.contains(&word)
}

/// Decodes the encoded words (RFC 2047) of a text; character sets other than UTF-8 are decoded as
/// far as possible.
pub(super) fn decoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begin) = rest.find("=?") {
        let word = rest[begin + 2..].splitn(4, '?').collect::<Vec<_>>();
        let bytes = match word.as_slice() {
            [_, "B" | "b", content, tail] if tail.starts_with('=') => {
                super::mime::decoded_word(content, true)
            }
            [_, "Q" | "q", content, tail] if tail.starts_with('=') => {
                super::mime::decoded_word(content, false)
            }
            _ => {
                out.push_str(&rest[..begin + 2]);
                rest = &rest[begin + 2..];
                continue;
            }
        };
        // Blanks between two encoded words are not part of the text.
        let gap = &rest[..begin];
        if !gap.trim().is_empty() || out.is_empty() {
            out.push_str(gap);
        }
        out.push_str(&super::header::text(&bytes));
        let length: usize = word[..3].iter().map(|part| part.len() + 1).sum();
        rest = &rest[begin + 2 + length + 1..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(header: &str) -> Sender {
        Sender::of(&Header::read(format!("{header}\r\n\r\n").as_bytes()))
    }

    #[test]
    fn mail_systems_are_recognised_in_any_spelling() {
        for from in [
            "MAILER-DAEMON <>",
            "MAILER-DAEMON",
            "\"Mail Deliver System\" <MAILER-DAEMON>",
            "Mail Delivery System <Mail.Delivery.System@mx.example>",
            "MAILER-DAEMON@mx.example (Mail Delivery System)",
            "Mail Delivery Subsystem <poostmaster@example.jp>",
            "Microsoft Outlook <MicrosoftExchange329e71ec88ae4615bbc36ab6ce41109e@example.com>",
            "\"Content-filter at mx.example\" <postmaster@mx.example>",
            "mailer_daemon@mx.example",
        ] {
            assert!(sender(&format!("From: {from}")).is_daemon, "{from}");
        }
        for from in [
            "Anna <anna@example.com>",
            "\"Daemon, Matt\" <m.daemon@example.com>",
            "postmaster@example.com",
        ] {
            assert!(!sender(&format!("From: {from}")).is_daemon, "{from}");
        }
        assert!(sender("From: POSTMASTER <postmaster@example.com>").is_office);
        for path in ["<>", "<MAILER-DAEMON>", "<MAILER-DAEMON@mx.example>", "<> (empty)"] {
            assert!(sender(&format!("Return-Path: {path}")).has_null_path, "{path}");
        }
        assert!(!sender("Return-Path: <probe@example.com>").has_null_path);
    }

    #[test]
    fn fields_of_rfc_3834_are_parsed() {
        assert_eq!(
            sender("Auto-Submitted: auto-replied (vacation)").auto.as_deref(),
            Some("auto-replied (vacation)")
        );
        assert_eq!(sender("Auto-Submitted: No").auto, None);
        assert_eq!(sender("Auto-Submitted: no; x=y").auto, None);
        assert!(!sender("Auto-Submitted: auto-generated").is_system());
        assert!(sender("Auto-Submitted: auto-generated (failure)").is_system());
    }

    #[test]
    fn replies_are_recognised_in_many_languages() {
        for subject in [
            "Re: x",
            "AW: x",
            "[list] RE[2]: x",
            "Fwd: x",
            "WG : x",
            "=?utf-8?Q?R=C3=A9p?= Re: y",
            "转发：x",
            "=?utf-8?B?UmU6IHg=?=",
        ] {
            assert_eq!(is_answer(subject), !subject.contains("=C3"), "{subject}");
        }
        for subject in
            ["mailqos test", "Undeliverable: x", "[SPAM] mailqos test mq1:a:b", "Recap: x"]
        {
            assert!(!is_answer(subject), "{subject}");
        }
        assert!(sender("Subject: =?utf-8?Q?R=C3=A9ponse_automatique_:_x?=").is_responder);
    }
}
