//! What the receiving system thought of a mail: `Authentication-Results` (RFC 8601) and the fields of spam filters.

use super::head::{fields, without_comments};

/// From this spam confidence level on Exchange takes a mail for spam.
const SCL_OF_SPAM: f64 = 5.0;
/// The longest word of a result.
const LONGEST: usize = 32;

/// The verdicts, as far as the mail's head tells them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Verdicts {
    pub(super) spf: Option<String>,
    pub(super) dkim: Option<String>,
    pub(super) dmarc: Option<String>,
    /// `spam` or `ham`.
    pub(super) spam: Option<&'static str>,
    pub(super) score: Option<f64>,
}

/// Reads the verdicts. Of `Authentication-Results` those count that the server on top wrote: it is the one that filed the mail.
pub(super) fn read(mail: &[u8]) -> Verdicts {
    let mut verdicts = Verdicts::default();
    let mut server = None;
    for field in fields(mail, "Authentication-Results") {
        let bare = without_comments(&field);
        let mut parts = bare.split(';').peekable();
        // Microsoft leaves its own name out.
        let id = parts.next_if(|part| !part.contains('='));
        let id = id.and_then(|id| id.split_whitespace().next().map(str::to_owned));
        if *server.get_or_insert(id.clone()) != id {
            continue;
        }
        for part in parts {
            let Some((method, result)) = result(part) else { continue };
            match &*method {
                "spf" => verdicts.spf.get_or_insert(result),
                "dmarc" => verdicts.dmarc.get_or_insert(result),
                // Of several signatures one that holds suffices.
                "dkim" if verdicts.dkim.is_none() || result == "pass" => verdicts.dkim.insert(result),
                _ => continue,
            };
        }
    }
    let first = |name| fields(mail, name).into_iter().next();
    if verdicts.spf.is_none() {
        verdicts.spf = first("Received-SPF").and_then(|field| word(field.split_whitespace().next()?));
    }
    spam(&mut verdicts, first);
    verdicts
}

/// `dkim=pass header.d=example.com`, `spf = fail`, `dmarc/1=none`.
fn result(part: &str) -> Option<(String, String)> {
    let (method, rest) = part.split_once('=')?;
    let method = method.split('/').next()?.trim().to_ascii_lowercase();
    Some((method, word(rest.split_whitespace().next()?)?))
}

/// A word of letters and digits, in small letters.
fn word(text: &str) -> Option<String> {
    let word = text
        .trim_matches(|c: char| !c.is_ascii_alphanumeric())
        .to_ascii_lowercase();
    let fits = !word.is_empty() && word.len() <= LONGEST && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
    fits.then_some(word)
}

/// SpamAssassin and its kin, rspamd, Exchange.
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
    let level = first("X-MS-Exchange-Organization-SCL")
        .and_then(|level| behind(&level, ""))
        .or_else(|| first("X-Forefront-Antispam-Report").and_then(|report| behind(&report, "SCL:")));
    if let Some(level) = level {
        verdicts.spam = verdicts.spam.or(Some(decided(level >= SCL_OF_SPAM)));
        verdicts.score = verdicts.score.or(Some(level));
    }
}

/// The number behind a mark.
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
        (
            verdicts.spf.as_deref(),
            verdicts.dkim.as_deref(),
            verdicts.dmarc.as_deref(),
        )
    }

    #[test]
    fn authentication_results_of_all_kinds_are_read() {
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
            ("X: y", (None, None, None)),
        ] {
            assert_eq!(texts(&told(head)), expected, "{head}");
        }
    }

    #[test]
    fn spam_filters_of_all_kinds_are_read() {
        for (head, spam, score) in [
            (
                "X-Spam-Status: Yes, score=15.2 required=5.0 tests=A,B\r\n\tautolearn=no",
                Some("spam"),
                Some(15.2),
            ),
            ("X-Spam-Status: No, hits=-1.9 required=5.0", Some("ham"), Some(-1.9)),
            (
                "X-Spam-Flag: YES\r\nX-Spam-Score: 7.1 (+++++++)",
                Some("spam"),
                Some(7.1),
            ),
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
        fn nothing_in_a_head_brings_the_reader_down(text in "\\PC{0,120}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            for name in ["Authentication-Results", "X-Spam-Status", "X-Spamd-Result", "X-Spam-Score", "Received-SPF"] {
                let _ = told(&format!("{name}: {text}"));
            }
        }
    }
}
