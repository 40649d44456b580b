//! The receiving system's verdicts on a mail: `Authentication-Results` (RFC 8601) and the fields of
//! spam filters.

use super::{
    head::fields,
    results::{Statement, statements},
};

/// Spam confidence level from which Exchange treats a mail as spam.
const SCL_OF_SPAM: f64 = 5.0;
/// Maximum length of a result word.
const MAX_LENGTH: usize = 32;

/// The verdicts in a mail's header.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Verdicts {
    pub(super) spf: Option<String>,
    pub(super) dkim: Option<String>,
    pub(super) dmarc: Option<String>,
    /// `spam` or `ham`.
    pub(super) spam: Option<&'static str>,
    pub(super) score: Option<f64>,
}

/// Reads the verdicts. Only those `Authentication-Results` count that the topmost server wrote,
/// because it stored the mail.
pub(super) fn read(mail: &[u8]) -> Verdicts {
    let mut verdicts = Verdicts::default();
    let mut server = None;
    // A result without an identity counts if no result is for MAIL FROM.
    let mut spf_of_none = None;
    for field in fields(mail, "Authentication-Results") {
        let mut statements = statements(&field).into_iter().peekable();
        // Microsoft omits its own name; Yahoo appends the sender's domain.
        let id = statements.next_if(|statement| statement.leading_word().is_some());
        let id = id.and_then(|id| id.leading_word().map(str::to_ascii_lowercase));
        if *server.get_or_insert(id.clone()) != id {
            continue;
        }
        for statement in statements {
            let Some((method, result)) = result(&statement) else {
                continue;
            };
            match &*method {
                "spf" => match identity(&statement) {
                    Some(Identity::MailFrom) => verdicts.spf.get_or_insert(result),
                    Some(Identity::Helo) => continue,
                    None => spf_of_none.get_or_insert(result),
                },
                "dmarc" => verdicts.dmarc.get_or_insert(result),
                // Of several signatures, one valid one is sufficient.
                "dkim" if verdicts.dkim.is_none() || result == "pass" => {
                    verdicts.dkim.insert(result)
                }
                _ => continue,
            };
        }
    }
    verdicts.spf = verdicts.spf.or(spf_of_none).or_else(|| received_spf(mail));
    let first = |name| fields(mail, name).into_iter().next();
    spam(&mut verdicts, first);
    verdicts
}

/// Identity that SPF checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Identity {
    MailFrom,
    Helo,
}

/// Returns the identity to which an SPF result applies, if stated (RFC 8601, section 2.7.2).
fn identity(statement: &Statement) -> Option<Identity> {
    let has = |names: &[&str]| names.iter().any(|name| statement.get(name).is_some());
    if has(&["smtp.mailfrom", "smtp.mfrom", "smtp.mail", "smtp.from", "envelope-from"]) {
        Some(Identity::MailFrom)
    } else {
        has(&["smtp.helo", "smtp.ehlo", "policy.helo"]).then_some(Identity::Helo)
    }
}

/// Returns the result for MAIL FROM in `Received-SPF` fields: `Pass (comment) identity=mailfrom;
/// client-ip=192.0.2.1`.
fn received_spf(mail: &[u8]) -> Option<String> {
    let mut of_none = None;
    for field in fields(mail, "Received-SPF") {
        let statements = statements(&field);
        let Some(result) = statements.first().and_then(|statement| word(statement.words.first()?))
        else {
            continue;
        };
        let named = statements.iter().find_map(|statement| statement.get("identity"));
        let named = named.map(str::to_ascii_lowercase);
        // Without the pair, a comment may contain it: `None (helo) …`.
        let comment = field.to_ascii_lowercase();
        let is_of_helo =
            comment.split_once('(').is_some_and(|(_, rest)| rest.trim_start().starts_with("helo"));
        match named.as_deref() {
            Some("mailfrom" | "mfrom") => return Some(result),
            None if !is_of_helo => of_none = of_none.or(Some(result)),
            _ => {}
        }
    }
    of_none
}

/// Parses `dkim=pass header.d=example.com`, `spf = fail`, or `dmarc/1=none`.
fn result(statement: &Statement) -> Option<(String, String)> {
    let (method, result) = statement.pairs.first()?;
    let method = method.split('/').next()?.trim().to_owned();
    Some((method, word(result)?))
}

/// Returns a word of letters and digits in lower case.
fn word(text: &str) -> Option<String> {
    let word = text.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_ascii_lowercase();
    let fits = !word.is_empty()
        && word.len() <= MAX_LENGTH
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
    fits.then_some(word)
}

/// Reads the verdicts of SpamAssassin and similar filters, rspamd, and Exchange.
fn spam(verdicts: &mut Verdicts, first: impl Fn(&'static str) -> Option<String>) {
    let decided = |is_spam: bool| if is_spam { "spam" } else { "ham" };
    let yes = |text: &str| {
        let word = text.split([',', ' ', ';']).next().unwrap_or_default();
        match word.to_ascii_lowercase().as_str() {
            "yes" | "true" => Some(true),
            "no" | "false" => Some(false),
            _ => None,
        }
    };
    if let Some(status) = first("X-Spam-Status") {
        verdicts.spam = yes(&status).map(decided);
        verdicts.score = behind(&status, "score=").or_else(|| behind(&status, "hits="));
    }
    if verdicts.spam.is_none() {
        verdicts.spam = first("X-Spam-Flag").and_then(|flag| yes(&flag)).map(decided);
    }
    if let Some(result) = first("X-Spamd-Result") {
        // default: False [0.20 / 15.00]; …
        let (_, rest) = result.split_once(':').unwrap_or(("", &result));
        verdicts.spam = verdicts.spam.or_else(|| yes(rest.trim()).map(decided));
        verdicts.score = verdicts.score.or_else(|| behind(rest, "["));
    }
    for name in ["X-Spam-Score", "X-Rspamd-Score"] {
        if verdicts.score.is_none() {
            verdicts.score = first(name).and_then(|score| behind(&score, ""));
        }
    }
    let level =
        first("X-MS-Exchange-Organization-SCL").and_then(|level| behind(&level, "")).or_else(
            || first("X-Forefront-Antispam-Report").and_then(|report| behind(&report, "SCL:")),
        );
    if let Some(level) = level {
        verdicts.spam = verdicts.spam.or(Some(decided(level >= SCL_OF_SPAM)));
        verdicts.score = verdicts.score.or(Some(level));
    }
}

/// Returns the number after a mark.
fn behind(text: &str, mark: &str) -> Option<f64> {
    let text = text[text.find(mark)? + mark.len()..].trim_start();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '-' | '+'))
        .unwrap_or(text.len());
    text[..end].parse().ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(head: &str) -> Verdicts {
        read(format!("{head}\r\nSubject: x\r\n\r\nX-Spam-Flag: YES\r\n").as_bytes())
    }

    fn texts(verdicts: &Verdicts) -> (Option<&str>, Option<&str>, Option<&str>) {
        (verdicts.spf.as_deref(), verdicts.dkim.as_deref(), verdicts.dmarc.as_deref())
    }

    #[test]
    fn authentication_results_of_all_kinds_are_parsed() {
        for (head, expected) in [
            (
                "Authentication-Results: mx.google.com;\r\n       dkim=pass header.i=@example.com header.s=s1 header.b=abc;\r\n       spf=pass (google.com: domain of a@example.com designates 192.0.2.1 as permitted sender) smtp.mailfrom=a@example.com;\r\n       dmarc=pass (p=NONE sp=NONE dis=NONE) header.from=example.com",
                (Some("pass"), Some("pass"), Some("pass")),
            ),
            (
                "Authentication-Results: spf=softfail (sender IP is 192.0.2.1)\r\n smtp.mailfrom=example.com; dkim=none (message not signed)\r\n header.d=none;dmarc=fail action=none header.from=example.com;compauth=fail reason=001",
                (Some("softfail"), Some("none"), Some("fail")),
            ),
            (
                "Authentication-Results: mx.example.com 1; spf=fail; dkim/1 = permerror; dmarc=temperror",
                (Some("fail"), Some("permerror"), Some("temperror")),
            ),
            (
                "Authentication-Results: a.example; dkim=fail\r\nAuthentication-Results: a.example; dkim=pass; dmarc=pass\r\nAuthentication-Results: forged.example; spf=pass",
                (None, Some("pass"), Some("pass")),
            ),
            ("Authentication-Results: mx.example.com; none", (None, None, None)),
            (
                "Received-SPF: Pass (mailfrom) identity=mailfrom; client-ip=192.0.2.1",
                (Some("pass"), None, None),
            ),
            (
                "Authentication-Results: mx.example.com;\r\n\tspf=none (no record) smtp.helo=mail.example.net;\r\n\tspf=pass smtp.mailfrom=a@example.com;\r\n\tdkim=pass header.d=example.com;\r\n\tdmarc=pass header.from=example.com",
                (Some("pass"), Some("pass"), Some("pass")),
            ),
            (
                "Authentication-Results: mx.example.com; spf=fail (helo) smtp.helo=mail.example.net\r\nAuthentication-Results: MX.example.com; spf=pass (mailfrom) smtp.mailfrom=a@example.com",
                (Some("pass"), None, None),
            ),
            (
                "Authentication-Results: mx.example.com; spf=pass smtp.helo=mail.example.net",
                (None, None, None),
            ),
            (
                "Authentication-Results: mx.example.com; spf=pass smtp.helo=x smtp.mailfrom=a@example.com",
                (Some("pass"), None, None),
            ),
            (
                "Authentication-Results: mx.example.com; dkim=fail reason=\"signature (rsa\" header.d=example.com; spf=pass smtp.mailfrom=a@example.com; dmarc=pass header.from=example.com",
                (Some("pass"), Some("fail"), Some("pass")),
            ),
            (
                "Authentication-Results: mta.example.com  from=example.com; domainkeys=neutral (no sig); dkim=pass (ok); spf=pass smtp.mailfrom=a@example.com",
                (Some("pass"), Some("pass"), None),
            ),
            (
                "Authentication-Results: \"mx.example.com\" 1 (a; spf=fail); spf/1 (x) = (y) pass (z) smtp.mailfrom=\"a;b\"@example.com; dmarc=pass (p=none; \\) sp=x)",
                (Some("pass"), None, Some("pass")),
            ),
            (
                "Received-SPF: None (helo) identity=helo; client-ip=192.0.2.1; helo=mail.example.net\r\nReceived-SPF: Pass (mailfrom) identity=mailfrom; client-ip=192.0.2.1; envelope-from=\"a;b\"@example.com",
                (Some("pass"), None, None),
            ),
            (
                "Received-SPF: pass (mx.example.com: domain of a@example.com designates 192.0.2.1) client-ip=192.0.2.1",
                (Some("pass"), None, None),
            ),
            // https://github.com/jstedfast/MimeKit/issues/527: host names between Office 365's
            // results.
            (
                "Authentication-Results: spf=temperror (sender IP is 192.0.2.1) smtp.helo=mx.example.net; example.com; dkim=none (message not signed) header.d=none;example.com; dmarc=none action=none header.from=;",
                (None, Some("none"), Some("none")),
            ),
            // https://github.com/lieser/dkim_verifier/issues/466, 79 and 436: a colon in a reason,
            // `/` in a value, IPv6.
            (
                "Authentication-Results: mx.example.com;\r\n spf=pass smtp.mailfrom=example.org;\r\n dkim=pass reason=\"Original-From: transformed\" header.d=example.net header.b=ab/cd=;\r\n iprev=pass (mx) smtp.remote-ip=2001:db8::829;\r\n dmarc=pass header.from=example.org;",
                (Some("pass"), Some("pass"), Some("pass")),
            ),
            // https://github.com/trusteddomainproject/OpenDKIM/issues/186: a semicolon in a
            // comment.
            (
                "Authentication-Results: mx.example.com ; dkim=pass (1024-bit key; unprotected) header.d=example.com; dkim-atps=neutral; spf=pass (a; (b;) c) smtp.mailfrom=x",
                (Some("pass"), Some("pass"), None),
            ),
            // https://github.com/sympa-community/sympa/pull/585: comments before and after the
            // server's name.
            (
                "Authentication-Results: (x) mx.example.com (y); spf=pass smtp.mailfrom=x\r\nAuthentication-Results: mx.example.com; dmarc=pass",
                (Some("pass"), None, Some("pass")),
            ),
            // https://github.com/jcbf/smf-spf/pull/20: angle brackets.
            (
                "Authentication-Results: mx.example.com; spf=fail smtp.mailfrom=<a@example.com> smtp.helo=<mx.example.net>",
                (Some("fail"), None, None),
            ),
            // https://github.com/trusteddomainproject/OpenDMARC/issues/158: only identity=mailfrom
            // concerns MAIL FROM.
            (
                "Received-SPF: pass identity=helo; envelope-from=<a@example.com>\r\nReceived-SPF: softfail identity=mailfrom; helo=mx.example.net",
                (Some("softfail"), None, None),
            ),
            ("Received-SPF: none (helo: no record) client-ip=192.0.2.1", (None, None, None)),
            ("X: y", (None, None, None)),
        ] {
            assert_eq!(texts(&told(head)), expected, "{head}");
        }
    }

    #[test]
    fn fields_of_all_spam_filters_are_parsed() {
        for (head, spam, score) in [
            (
                "X-Spam-Status: Yes, score=15.2 required=5.0 tests=A,B\r\n\tautolearn=no",
                Some("spam"),
                Some(15.2),
            ),
            ("X-Spam-Status: No, hits=-1.9 required=5.0", Some("ham"), Some(-1.9)),
            ("X-Spam-Flag: YES\r\nX-Spam-Score: 7.1 (+++++++)", Some("spam"), Some(7.1)),
            (
                "X-Spamd-Result: default: False [0.20 / 15.00];\r\n\tARC_NA(0.00)[]",
                Some("ham"),
                Some(0.2),
            ),
            ("X-MS-Exchange-Organization-SCL: 6", Some("spam"), Some(6.0)),
            (
                "X-Forefront-Antispam-Report: CIP:192.0.2.1;CTRY:;LANG:en;SCL:-1;SRV:;",
                Some("ham"),
                Some(-1.0),
            ),
            ("X-Spam-Status: maybe", None, None),
            ("X-Spam-Score: nan", None, None),
        ] {
            let verdicts = told(head);
            assert_eq!((verdicts.spam, verdicts.score), (spam, score), "{head}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_a_panic(text in "\\PC{0,120}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            for name in ["Authentication-Results", "X-Spam-Status", "X-Spamd-Result", "X-Spam-Score", "Received-SPF"] {
                let _ = told(&format!("{name}: {text}"));
            }
        }
    }
}
