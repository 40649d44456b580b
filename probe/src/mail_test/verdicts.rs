//! The receiving system's verdicts on a mail: `Authentication-Results` (RFC 8601) and the fields of
//! spam filters.

use super::{
    head::fields,
    receiver::{Receiver, TrustedFields},
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

/// Reads the verdicts. Only those `Authentication-Results` count that the receiving system wrote:
/// those of the topmost of its hosts (RFC 8601, section 5).
pub(super) fn read(mail: &[u8], receiver: &Receiver) -> Verdicts {
    let mut verdicts = Verdicts::default();
    let mut server = None;
    // A result without an identity counts if no result is for MAIL FROM.
    let mut spf_of_none = None;
    let trusted = receiver.fields(mail);
    for (above, field) in trusted.named("Authentication-Results") {
        let mut statements = statements(field).into_iter().peekable();
        let is_nothing = |first: &Statement| first.words.is_empty() && first.pairs.is_empty();
        if statements.peek().is_none_or(is_nothing) {
            continue;
        }
        // Microsoft omits its own name; Yahoo appends the sender's domain.
        let id = statements.next_if(|statement| statement.leading_word().is_some());
        let id = id.and_then(|id| id.leading_word().map(str::to_ascii_lowercase));
        // Several filters of a server write next to each other, not above and below its `Received`.
        let place = (above, id);
        if !trusted.is_from(place.1.as_deref()) || *server.get_or_insert(place.clone()) != place {
            continue;
        }
        let mut dkim: Option<String> = None;
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
                "dkim" if dkim.is_none() || result == "pass" => dkim.insert(result),
                _ => continue,
            };
        }
        verdicts.dkim = verdicts.dkim.or(dkim);
    }
    verdicts.spf = verdicts.spf.or(spf_of_none).or_else(|| received_spf(&trusted));
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
fn received_spf(trusted: &TrustedFields) -> Option<String> {
    let mut of_none = None;
    for (_, field) in trusted.named("Received-SPF") {
        let statements = statements(field);
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

    fn receiver(domains: &[&str]) -> Receiver {
        let ids: Vec<String> = domains.iter().map(|&domain| domain.to_owned()).collect();
        Receiver::new("probe@example.com", "outlook.office365.com", &ids)
    }

    fn told_to(receiver: &Receiver, head: &str) -> Verdicts {
        let mail = format!("{head}\r\nSubject: x\r\n\r\nX-Spam-Flag: YES\r\n");
        read(mail.as_bytes(), receiver)
    }

    fn told(head: &str) -> Verdicts {
        told_to(&receiver(&[]), head)
    }

    fn texts(verdicts: &Verdicts) -> (Option<&str>, Option<&str>, Option<&str>) {
        (verdicts.spf.as_deref(), verdicts.dkim.as_deref(), verdicts.dmarc.as_deref())
    }

    #[test]
    fn authentication_results_of_all_kinds_are_parsed() {
        for (head, expected) in [
            (
                "Authentication-Results: mx.example.com;\r\n       dkim=pass header.i=@example.com header.s=s1 header.b=abc;\r\n       spf=pass (google.com: domain of a@example.com designates 192.0.2.1 as permitted sender) smtp.mailfrom=a@example.com;\r\n       dmarc=pass (p=NONE sp=NONE dis=NONE) header.from=example.com",
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
                "Authentication-Results: a.example.com; dkim=fail; dkim=pass\r\nAuthentication-Results: a.example.com; dkim=fail; dmarc=pass\r\nAuthentication-Results: forged.example; spf=pass",
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
            // https://github.com/trusteddomainproject/OpenDMARC/pull/329: no name, one result each.
            (
                "Authentication-Results: spf=pass smtp.mailfrom=example.org\r\nAuthentication-Results: compauth=pass reason=000",
                (Some("pass"), None, None),
            ),
            // https://github.com/trusteddomainproject/OpenDMARC/pull/365: the policy is not the
            // result.
            (
                "Authentication-Results: mx.example.com; dmarc=fail (p=reject dis=none) header.from=example.org policy.dmarc=none",
                (None, None, Some("fail")),
            ),
            // https://github.com/lieser/dkim_verifier/issues/222: names between the results, and a
            // word that only Hotmail uses.
            (
                "Authentication-Results: spf=pass (sender IP is 192.0.2.1)\r\n smtp.mailfrom=example.org; hotmail.com; dkim=test (signature was verified)\r\n header.d=example.org;hotmail.com; dmarc=pass action=none\r\n header.from=example.org;compauth=pass reason=100",
                (Some("pass"), Some("test"), Some("pass")),
            ),
            // https://github.com/lieser/dkim_verifier/issues/71: one field for each filter.
            (
                "Authentication-Results: x.example.com; dmarc=pass header.from=example.org\r\nAuthentication-Results: x.example.com; dkim=pass",
                (None, Some("pass"), Some("pass")),
            ),
            // https://github.com/rspamd/rspamd/issues/2772: a name and nothing else.
            ("Authentication-Results: mx.example.com", (None, None, None)),
            // https://github.com/lieser/dkim_verifier/issues/468: results of earlier systems, which
            // only a verified seal makes credible.
            (
                "ARC-Authentication-Results: i=1; mx.example.com; spf=pass; dkim=pass; dmarc=pass",
                (None, None, None),
            ),
            // https://github.com/lieser/dkim_verifier/issues/213: a reason after a property.
            (
                "Authentication-Results: mx.example.com;\r\n\tspf=pass smtp.mailfrom=b@example.org;\r\n\tdmarc=fail header.from=example.org (p=none pct=100);\r\n\tiprev=fail policy.iprev=192.0.2.1 reason=\"does not match\" (MAIL b@example.org)",
                (Some("pass"), None, Some("fail")),
            ),
            ("X: y", (None, None, None)),
        ] {
            assert_eq!(texts(&told(head)), expected, "{head}");
        }
    }

    #[test]
    fn only_results_of_the_receiving_system_count() {
        let filed = "Received: from mx.example.com by imap.example.com with LMTP; x\r\n";
        let border = "Received: from out.sender.example ([192.0.2.1]) by mx.example.com; x\r\n";
        let sent = "Received: from client by out.sender.example with ESMTPSA; x\r\n";
        let forged = "Authentication-Results: mx.example.com; spf=pass; dkim=pass; dmarc=pass\r\n\
            Received-SPF: pass identity=mailfrom\r\n";
        let own =
            "Authentication-Results: mx.example.com 1; spf=fail smtp.mailfrom=a@b; dkim=none\r\n";
        let failed = (Some("fail"), Some("none"), None);
        for (head, expected) in [
            // The receiving system checked nothing: a forged field does not change that.
            (format!("{filed}{border}{sent}{forged}"), (None, None, None)),
            (format!("{border}{sent}{forged}"), (None, None, None)),
            // RFC 8601, section 7.1: forged fields below its own.
            (format!("{filed}{own}{border}{sent}{forged}"), failed),
            (format!("{filed}{border}{own}{sent}{forged}"), failed),
            (format!("{own}{border}{forged}{sent}"), failed),
            // https://github.com/NousResearch/hermes-agent/pull/88560: the only field is that of the
            // sender's own host.
            (
                format!("{border}Authentication-Results: attacker.example; dmarc=pass\r\n"),
                (None, None, None),
            ),
            // https://github.com/pimlie/authres_status/issues/86: a name that can't be parsed.
            (
                format!(
                    "{border}Authentication-Results: ; dmarc=pass\r\nAuthentication-Results: @; dkim=pass\r\n"
                ),
                (None, None, None),
            ),
            // https://github.com/lieser/dkim_verifier/issues/465: forged with the name of another
            // host of the same domain, which the border does not remove.
            (
                format!(
                    "{own}{border}{sent}Authentication-Results: mx2.example.com; dkim=pass\r\n"
                ),
                failed,
            ),
            // https://github.com/trusteddomainproject/OpenDKIM/issues/185: only the first of
            // several forged fields was removed.
            (format!("{filed}{border}{own}{sent}{forged}{forged}"), failed),
            // https://github.com/trusteddomainproject/OpenDKIM/issues/48: a further field of the
            // sending system.
            (
                format!(
                    "{own}{border}Authentication-Results: out.sender.example; dkim=pass\r\n{sent}"
                ),
                failed,
            ),
            // Its own field, and one with the name of another host above it, as written by a
            // mailing list or a forwarder whose name is not of the receiving domain.
            (
                format!("Authentication-Results: lists.example.org; dkim=pass\r\n{own}{border}"),
                failed,
            ),
            // https://github.com/trusteddomainproject/OpenDMARC/issues/37 and RFC 8601, section 5:
            // a name that only resembles that of the receiving domain.
            (
                format!("Authentication-Results: mx.notexample.com; dkim=pass\r\n{border}"),
                (None, None, None),
            ),
        ] {
            assert_eq!(texts(&told(&head)), expected, "{head}");
        }
        // A filtering service in front of the mail server, whose results are the ones that count.
        let head = format!(
            "Received: from eu.filter.example.net by mx.example.com; x\r\n\
             Authentication-Results: mx.example.com; spf=fail smtp.mailfrom=a@b; dmarc=fail\r\n\
             Received: from out.sender.example by eu.filter.example.net; x\r\n\
             Authentication-Results: eu.filter.example.net; spf=pass smtp.mailfrom=a@b; dmarc=pass\r\n\
             {sent}{forged}"
        );
        assert_eq!(texts(&told(&head)), (Some("fail"), None, Some("fail")));
        // https://github.com/trusteddomainproject/OpenDMARC/issues/238: a name without a domain must
        // be configured.
        let pod = "Authentication-Results: rspamd-786cb55f77-65p7t; dkim=pass\r\n";
        assert_eq!(texts(&told(pod)), (None, None, None));
        let named = receiver(&["rspamd-786cb55f77-65p7t"]);
        assert_eq!(texts(&told_to(&named, pod)), (None, Some("pass"), None));
        // https://github.com/jsr-io/jsr/pull/1510: the results that count are the forwarder's.
        let filter = receiver(&["filter.example.net"]);
        assert_eq!(texts(&told_to(&filter, &head)), (Some("pass"), None, Some("pass")));
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
            let _ = read(&bytes, &receiver(&[]));
            for name in ["Authentication-Results", "X-Spam-Status", "X-Spamd-Result", "X-Spam-Score", "Received-SPF"] {
                let _ = told(&format!("{name}: {text}"));
            }
        }
    }
}
