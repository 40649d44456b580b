//! `Received` fields: the route of a mail through the servers, as written by Postfix, Exim,
//! Sendmail, Exchange, Gmail, qmail and Dovecot (RFC 5321, section 4.4, and variants in use).

use mailqos_model::{Hop, Micros, UtcMicros};

use super::head::{fields, without_comments};

/// Maximum number of fields to read; a loop adds more and more of them.
const MAX_HOPS: usize = 50;
/// Maximum number of words at the end of a field in which to search for its date if no semicolon
/// precedes it.
const MAX_WORDS: usize = 16;
/// Maximum length of a server's name, in characters.
const MAX_NAME: usize = 255;
/// Minimum length of an identifier that can't be in a reply by chance.
const SHORTEST_ID: usize = 6;
/// Difference by which a stamp must precede that of the previous hop to be from another clock,
/// because stamps are truncated to seconds.
const SUSPECT: Micros = Micros::from_secs(-2);

/// Returns the hops of a mail, oldest first.
pub(super) fn hops(mail: &[u8]) -> Vec<Hop> {
    let mut hops: Vec<Hop> =
        fields(mail, "Received").iter().take(MAX_HOPS).map(|value| hop(value)).collect();
    hops.reverse();
    let mut before = None;
    for hop in &mut hops {
        hop.delay = before.zip(hop.at).map(|(before, at): (UtcMicros, UtcMicros)| at - before);
        hop.clock_suspect = hop.delay.is_some_and(|delay| delay <= SUSPECT);
        before = hop.at.or(before);
    }
    hops
}

/// Returns whether the newest field was written while storing the mail in the mailbox, by an LMTP
/// server (RFC 2033) or Exchange's mailbox transport. Others may have queued the mail.
pub(super) fn is_filed(mail: &[u8]) -> bool {
    let Some(newest) = fields(mail, "Received").into_iter().next() else {
        return false;
    };
    let bare = without_comments(&newest).to_ascii_lowercase();
    let clauses = bare.rsplit_once(';').map_or(&*bare, |(clauses, _)| clauses);
    let words: Vec<&str> = clauses.split_whitespace().collect();
    words.windows(2).any(|pair| {
        let [key, value] = pair else { return false };
        match *key {
            "with" => matches!(
                *value,
                "lmtp"
                    | "lmtps"
                    | "lmtpa"
                    | "lmtpsa"
                    | "utf8lmtp"
                    | "utf8lmtps"
                    | "utf8lmtpa"
                    | "utf8lmtpsa"
                    | "mapi"
            ),
            "via" => *value == "mailbox",
            _ => false,
        }
    })
}

/// Returns whether the oldest field was written by the server that accepted the mail from us: it
/// contains the identifier in the reply to the content, or the name in our EHLO. If a server hides
/// that field (for privacy), the oldest one belongs to a later hop.
pub(super) fn is_of_submission(mail: &[u8], reply: &str, client: &str) -> bool {
    let all = fields(mail, "Received");
    let Some(oldest) = all.last().filter(|_| all.len() <= MAX_HOPS) else {
        return false;
    };
    let bare = without_comments(oldest);
    let clauses = bare.rsplit_once(';').map_or(&*bare, |(clauses, _)| clauses);
    let words: Vec<&str> = clauses.split_whitespace().collect();
    let told: Vec<&str> =
        reply.split(|c: char| c.is_whitespace() || "=<>,;()".contains(c)).collect();
    words.windows(2).any(|pair| {
        let [key, value] = pair else { return false };
        if key.eq_ignore_ascii_case("from") {
            return value.eq_ignore_ascii_case(client);
        }
        // Shorter ones might occur in a reply by chance; Gmail appends more to its own
        // (`x-y.1.2026…`).
        let of_reply = |word: &&str| {
            let rest = value.strip_prefix(*word).filter(|_| word.len() >= SHORTEST_ID);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        key.eq_ignore_ascii_case("id") && told.iter().any(of_reply)
    })
}

/// Parses one field.
pub(super) fn hop(value: &str) -> Hop {
    // Comments may contain semicolons, too.
    let bare = without_comments(value);
    let (clauses, at) = split_stamp(&bare);
    let words: Vec<&str> = clauses.split_whitespace().collect();
    let behind = |key: &str| {
        let at = words.iter().position(|word| word.eq_ignore_ascii_case(key))?;
        let name = words.get(at + 1)?.trim_matches([',', ';', '[', ']']);
        // An address literal (RFC 5321, section 4.1.3).
        let name = match name.split_at_checked(5) {
            Some((tag, address)) if tag.eq_ignore_ascii_case("IPv6:") => address,
            _ => name,
        };
        (!name.is_empty()).then(|| name.chars().take(MAX_NAME).collect())
    };
    Hop { by: behind("by"), from: behind("from"), at, delay: None, clock_suspect: false }
}

/// Splits a field into its clauses and its stamp. Some servers write no semicolon between them:
/// SendGrid (Go's time format: SpamScope/mail-parser issue 71), OS/400 (fame_modules pull request
/// 106), and others (elixir-mail pull request 96).
fn split_stamp(bare: &str) -> (&str, Option<UtcMicros>) {
    if let Some((clauses, stamp)) = bare.rsplit_once(';') {
        return (clauses, date(stamp));
    }
    let begins = |at: &usize| {
        bare.as_bytes()[*at].is_ascii_alphanumeric()
            && bare.as_bytes()[*at - 1].is_ascii_whitespace()
    };
    let found = (1..bare.len()).filter(begins).rev().take(MAX_WORDS).find_map(|at| {
        // When searching from the end, the date is complete as soon as it can be parsed. Only its
        // weekday may be missing, which does not matter.
        date(&bare[at..]).map(|stamp| (&bare[..at], Some(stamp)))
    });
    found.unwrap_or((bare, None))
}

/// Parses a date of RFC 5322, section 3.3, including obsolete zones and fractions of seconds.
pub(super) fn date(text: &str) -> Option<UtcMicros> {
    const MONTHS: [&str; 12] =
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let bare = without_comments(text).replace(',', " ").to_ascii_lowercase();
    let mut words = bare.split_whitespace().peekable();
    words.next_if(|word| word.starts_with(|c: char| c.is_ascii_alphabetic()));
    let first = words.next()?;
    let (day, month, year) = match first.split('-').collect::<Vec<_>>()[..] {
        // In Go's format.
        [year, month, day] if year.len() == 4 => {
            (day, month.parse::<usize>().ok()?.checked_sub(1)?, year)
        }
        _ => {
            let (month, year) = (words.next()?, words.next()?);
            let month = MONTHS.iter().position(|name| month.starts_with(name))?;
            (first, month, year)
        }
    };
    let year: i16 = year.parse().ok()?;
    let year = match year {
        0..=49 => year + 2000,
        50..=999 => year.checked_add(1900)?,
        _ => year,
    };
    let mut clock = words.next()?.split(':');
    let (hour, minute) = (clock.next()?, clock.next()?);
    let (second, fraction) = match clock.next() {
        Some(second) => second.split_once('.').unwrap_or((second, "")),
        None => ("0", ""),
    };
    // A leap second counts as the second after it.
    let second: i64 = second.parse().ok().filter(|second| (0..=60).contains(second))?;
    let micros: i64 = if fraction.is_empty() {
        0
    } else if fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        format!("{fraction:0<6}").get(..6)?.parse().ok()?
    } else {
        return None;
    };
    let zone = words.next()?;
    let ahead = match zone {
        "ut" | "utc" | "gmt" | "z" => 0,
        "est" => -5 * 3600,
        "edt" => -4 * 3600,
        "cst" => -6 * 3600,
        "cdt" => -5 * 3600,
        "mst" => -7 * 3600,
        "mdt" => -6 * 3600,
        "pst" => -8 * 3600,
        "pdt" => -7 * 3600,
        _ => {
            let sign = match zone.as_bytes().first() {
                Some(b'+') => 1,
                Some(b'-') => -1,
                _ => return None,
            };
            let digits = zone.get(1..).filter(|digits| digits.len() == 4)?;
            let digits: i64 =
                digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
            if digits >= 2400 || digits % 100 >= 60 {
                return None;
            }
            sign * (digits / 100 * 3600 + digits % 100 * 60)
        }
    };
    let civil = jiff::civil::DateTime::new(
        year,
        i8::try_from(month + 1).ok()?,
        day.parse().ok()?,
        hour.parse().ok()?,
        minute.parse().ok()?,
        0,
        0,
    )
    .ok()?;
    let moment = jiff::tz::TimeZone::UTC.to_timestamp(civil).ok()?;
    Some(UtcMicros(moment.as_microsecond()) + Micros::from_secs(second - ahead) + Micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2026-11-23T18:00:05Z.
    const AT: UtcMicros = UtcMicros(1_795_456_805_000_000);

    #[test]
    fn received_fields_of_all_servers_are_parsed() {
        for (what, field, from, by) in [
            (
                "Postfix",
                "from client (localhost [127.0.0.1])\r\n\t(using TLSv1.3 with cipher X (256/256 bits))\r\n\tby mx.example.com (Postfix) with ESMTPSA id 4B1\r\n\tfor <a@b>; Mon, 23 Nov 2026 18:00:05 +0000 (UTC)",
                Some("client"),
                Some("mx.example.com"),
            ),
            (
                "Exim",
                "from [192.0.2.1] (helo=client)\r\n\tby mx.example.com with esmtps  (TLS1.3) tls TLS_AES_256\r\n\t(Exim 4.96)\r\n\t(envelope-from <a@b>)\r\n\tid 1r6-0000-0F\r\n\tfor c@d;\r\n\tMon, 23 Nov 2026 19:00:05 +0100",
                Some("192.0.2.1"),
                Some("mx.example.com"),
            ),
            (
                "Sendmail",
                "from client.example (client.example [192.0.2.1] (may be forged))\r\n\tby mx.example.com (8.17.1/8.17.1) with ESMTPS id 3AN\r\n\t(version=TLSv1.3 verify=NO);\r\n\tMon, 23 Nov 2026 13:00:05 -0500 (EST)",
                Some("client.example"),
                Some("mx.example.com"),
            ),
            (
                "Exchange",
                "from AM0PR01.eurprd01.prod.outlook.com (2603:10a6::1) by\r\n DB9PR01.eurprd01.prod.outlook.com (2603:10a6::2) with Microsoft SMTP Server\r\n (version=TLS1_2, cipher=X) id\r\n 15.20.7025.17; Mon, 23 Nov 2026 18:00:05 +0000",
                Some("AM0PR01.eurprd01.prod.outlook.com"),
                Some("DB9PR01.eurprd01.prod.outlook.com"),
            ),
            (
                "Gmail",
                "by 2002:a05:6a10:1 with SMTP id x1csp1;\r\n        Mon, 23 Nov 2026 10:00:05 -0800 (PST)",
                None,
                Some("2002:a05:6a10:1"),
            ),
            (
                "Gmail, from",
                "from mail-sor-f41.google.com (mail-sor-f41.google.com. [209.85.220.41])\r\n        by mx.google.com with SMTPS id x\r\n        for <a@b>\r\n        (Google Transport Security);\r\n        Mon, 23 Nov 2026 10:00:05 -0800 (PST)",
                Some("mail-sor-f41.google.com"),
                Some("mx.google.com"),
            ),
            ("qmail", "(qmail 12345 invoked by uid 89); 23 Nov 2026 18:00:05 -0000", None, None),
            (
                "qmail, SMTP",
                "from unknown (HELO client) (a@b@192.0.2.1)\r\n  by mx.example.com with ESMTPA; 23 Nov 2026 18:00:05 -0000",
                Some("unknown"),
                Some("mx.example.com"),
            ),
            (
                "Dovecot",
                "from mx.example.com\r\n\tby imap.example.com with LMTP\r\n\tid x (envelope-from <a@b>)\r\n\tfor <c@d>; Mon, 23 Nov 2026 18:00:05 +0000",
                Some("mx.example.com"),
                Some("imap.example.com"),
            ),
            (
                "Sendmail, submitted",
                "(from root@localhost)\r\n\tby client.example (8.17.1/8.17.1/Submit) id 5ANI05XX001;\r\n\tMon, 23 Nov 2026 18:00:05 GMT",
                None,
                Some("client.example"),
            ),
            (
                "Sendmail, IPv6",
                "from [IPv6:2001:db8::1] ([IPv6:2001:db8::1])\r\n\t(authenticated bits=0)\r\n\tby mx.example.com with ESMTPSA;\r\n\tMon, 23 Nov 2026 18:00:05 GMT",
                Some("2001:db8::1"),
                Some("mx.example.com"),
            ),
            (
                "Exim, local",
                "from root by mx.example.com with local (Exim 4.97)\r\n\t(envelope-from <a@b>)\r\n\tid 1u0-000000001Ab-2cDe; Mon, 23 Nov 2026 18:00:05 +0000",
                Some("root"),
                Some("mx.example.com"),
            ),
            (
                "Exim, IPv6",
                "from client ([2001:db8::1]:41234 helo=[IPv6:2001:db8::1]) by mx.example.com with esmtpsa (TLS1.3:ECDHE_X25519__RSA_PSS_RSAE_SHA256__AES_256_GCM:256) (Exim 4.97) id x; Mon, 23 Nov 2026 18:00:05 +0000",
                Some("client"),
                Some("mx.example.com"),
            ),
            (
                "Exchange on premises",
                "from EX1.corp.example (10.0.0.1) by EX2.corp.example (10.0.0.2) with Microsoft\r\n SMTP Server (version=TLS1_2,\r\n cipher=TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384) id 15.1.2507.39 via Mailbox\r\n Transport; Mon, 23 Nov 2026 19:00:05 +0100",
                Some("EX1.corp.example"),
                Some("EX2.corp.example"),
            ),
            (
                "Exchange, mapi",
                "from AM0PR01.eurprd01.prod.outlook.com ([fe80::1:2]) by\r\n AM0PR01.eurprd01.prod.outlook.com ([fe80::1:2%5]) with mapi id 15.20.7025.017; Mon, 23 Nov 2026\r\n 18:00:05 +0000",
                Some("AM0PR01.eurprd01.prod.outlook.com"),
                Some("AM0PR01.eurprd01.prod.outlook.com"),
            ),
            (
                "Gmail, submitted",
                "from client.example ([2001:db8::1]) by smtp.gmail.com with ESMTPSA id x-y.1.2026.11.23.10.00.05 for <a@b>\r\n (version=TLS1_3 cipher=TLS_AES_256_GCM_SHA384 bits=256/256);\r\n Mon, 23 Nov 2026 10:00:05 -0800 (PST)",
                Some("client.example"),
                Some("smtp.gmail.com"),
            ),
            (
                "qmail, network",
                "(qmail 12345 invoked from network); 23 Nov 2026 18:00:05 -0000",
                None,
                None,
            ),
            (
                "Domino",
                "from client ([192.0.2.1])\r\n          by mx.example.com (Lotus Domino Release 9.0.1)\r\n          with ESMTP id 2026112319000512-123456 ;\r\n          Mon, 23 Nov 2026 19:00:05 +0100",
                Some("client"),
                Some("mx.example.com"),
            ),
            (
                "a semicolon in a comment",
                "from a (TLS; really) by b; Mon, 23 Nov 2026 18:00:05 +0000 (UTC; of course)",
                Some("a"),
                Some("b"),
            ),
            (
                "a comment without end",
                "from a by b; Mon, 23 Nov 2026 18:00:05 +0000 (UTC",
                Some("a"),
                Some("b"),
            ),
            (
                "SendGrid",
                "by filter0948p1iad2.sendgrid.net with SMTP id filter0948p1iad2-19514-5EEA473C-34\r\n 2026-11-23 18:00:05.000000452 +0000 UTC m=+349867.495769315",
                None,
                Some("filter0948p1iad2.sendgrid.net"),
            ),
            (
                "OS/400",
                "by S657771C.example.com (IBM OS/400 ANYMAIL/400 MIME V5R4M0) Mon, 23 Nov 2026  23:30:05 +0530",
                None,
                Some("S657771C.example.com"),
            ),
            (
                "no semicolon",
                "from a by b with ESMTP id 12 Mon, 23 Nov 2026 18:00:05 +0000",
                Some("a"),
                Some("b"),
            ),
            ("old", "from a by b; 23 Nov 26 18:00:05 GMT", Some("a"), Some("b")),
        ] {
            let mail = format!(
                "Return-Path: <a@b>\r\nReceived: {field}\r\nSubject: x\r\n\tfrom y by z; 1\r\n\r\nReceived: from no by no; x\r\n"
            );
            let hops = hops(mail.as_bytes());
            assert_eq!(hops.len(), 1, "{what}");
            assert_eq!(
                (hops[0].from.as_deref(), hops[0].by.as_deref(), hops[0].at),
                (from, by, Some(AT)),
                "{what}"
            );
        }
    }

    #[test]
    fn the_accepting_servers_field_is_distinguished_from_later_ones() {
        for (what, field, reply, ours) in [
            (
                "Postfix",
                "from client (x [192.0.2.1])\r\n\tby mx (Postfix) with ESMTPSA id 4B1C2D3E4F\r\n\tfor <a@b>",
                "2.0.0 Ok: queued as 4B1C2D3E4F",
                true,
            ),
            (
                "Exim",
                "from [10.0.0.5] (helo=[10.0.0.6]) by mx with esmtps (Exim 4.96) id 1r6AbC-000000001Ab-2cDe for c@d",
                "OK id=1r6AbC-000000001Ab-2cDe",
                true,
            ),
            (
                "Sendmail",
                "from [10.0.0.9] (x [192.0.2.1]) by mx (8.17.1/8.17.1) with ESMTPS id 5ANI05XX001234",
                "2.0.0 5ANI05XX001234 Message accepted for delivery",
                true,
            ),
            (
                "Gmail",
                "from [10.0.0.9] (x. [192.0.2.1]) by smtp.gmail.com with ESMTPSA id a640c23a62f3a-b76.12.2026.11.23.10.00.05 for <a@b>",
                "2.0.0 OK  1795456805 a640c23a62f3a-b76.12 - gsmtp",
                true,
            ),
            (
                "Exchange, by our name",
                "from [10.0.0.5] (192.0.2.1) by EX1.corp.example (10.0.0.1) with Microsoft SMTP Server id 15.1.2507.39",
                "2.6.0 <mq1@here> [InternalId=1, Hostname=EX1.corp.example] Queued mail for delivery",
                true,
            ),
            (
                "a content filter behind a server that hides its field",
                "from localhost (localhost [127.0.0.1]) by mx (amavisd-new, port 10024) with ESMTP id Xy12AbCdEf34",
                "2.0.0 Ok: queued as 4B1C2D3E4F",
                false,
            ),
            ("a short identifier", "by mx with SMTP id 2", "2.0.0 Ok: queued as 2", false),
            ("nothing", "by mx with SMTP id", "", false),
        ] {
            let mail = format!(
                "Received: from mx by mx with LMTP id zzzzzzzz; Mon, 23 Nov 2026 18:00:05 +0000\r\nReceived: {field}; Mon, 23 Nov 2026 18:00:05 +0000\r\n\r\n"
            );
            assert_eq!(is_of_submission(mail.as_bytes(), reply, "[10.0.0.5]"), ours, "{what}");
        }
        assert!(!is_of_submission(b"Subject: x\r\n\r\n", "2.0.0 Ok", "[10.0.0.5]"));
    }

    #[test]
    fn delivery_agents_are_distinguished_from_queues() {
        for (field, filed) in [
            (
                "from a\r\n\tby b with LMTP\r\n\tid x\r\n\tfor <c@d>; 23 Nov 2026 18:00:05 +0000",
                true,
            ),
            ("from a (a) by b with LMTPSA; 23 Nov 2026 18:00:05 +0000", true),
            (
                "from A (2603::1) by B (2603::2) with Microsoft SMTP Server id 15.20.1 via Mailbox Transport; Mon, 23 Nov 2026 18:00:05 +0000",
                true,
            ),
            ("from A ([fe80::1]) by B with mapi id 15.20.1; Mon, 23 Nov 2026 18:00:05 +0000", true),
            (
                "from a (with LMTP) by b (Postfix) with ESMTP id x; 23 Nov 2026 18:00:05 +0000",
                false,
            ),
            ("by 2002:a05:6a10:1 with SMTP id x1csp1; 23 Nov 2026 18:00:05 +0000", false),
        ] {
            let mail = format!(
                "Received: {field}\r\nReceived: by x with LMTP; 23 Nov 2026 18:00:05 +0000\r\n\r\n"
            );
            assert_eq!(is_filed(mail.as_bytes()), filed, "{field}");
        }
        assert!(!is_filed(b"Subject: x\r\n\r\n"));
    }

    #[test]
    fn a_clock_behind_its_neighbours_is_marked_as_suspect() {
        let mail = b"Received: by c; 23 Nov 2026 18:00:07 +0000\r\nReceived: by b; 23 Nov 2026 17:59:28 +0000\r\nReceived: by a; 23 Nov 2026 18:00:05 +0000\r\n\r\n";
        let hops = hops(mail);
        let told: Vec<_> = hops
            .iter()
            .map(|hop| {
                (hop.by.as_deref(), hop.delay.map(|delay| delay.0 / 1_000_000), hop.clock_suspect)
            })
            .collect();
        assert_eq!(
            told,
            [(Some("a"), None, false), (Some("b"), Some(-37), true), (Some("c"), Some(39), false)]
        );
    }

    #[test]
    fn odd_dates_are_parsed_and_invalid_ones_rejected() {
        assert_eq!(
            date("Mon, 23 Nov 2026 18:00:05.250 +0000"),
            Some(AT + Micros::from_millis(250))
        );
        assert_eq!(date("23 Nov 2026 17:59:60 +0000"), date("23 Nov 2026 18:00:00 +0000"));
        assert_eq!(date("Sat, 31 Dec 2016 23:59:60 GMT"), date("Sun, 1 Jan 2017 00:00:00 Z"));
        for (zone, hour) in [
            ("UT", 18),
            ("UTC", 18),
            ("Z", 18),
            ("-0000", 18),
            ("EST", 13),
            ("EDT", 14),
            ("CST", 12),
            ("CDT", 13),
            ("MST", 11),
            ("MDT", 12),
            ("PST", 10),
            ("PDT", 11),
            ("-0500 (EST)", 13),
            ("+0000 (GMT+00:00)", 18),
        ] {
            assert_eq!(date(&format!("Mon, 23 Nov 2026 {hour}:00:05 {zone}")), Some(AT), "{zone}");
        }
        assert_eq!(date("Mon,23 Nov 126 23:45:05 +0545 (NPT)"), Some(AT + Micros::from_secs(0)));
        assert_eq!(date("23 nov 2026 18:00 +0000"), Some(AT - Micros::from_secs(5)));
        for nonsense in [
            "",
            "yesterday",
            "31 Feb 2026 10:00:00 +0000",
            "23 Nov 2026 25:00:00 +0000",
            "23 Nov 2026 18:00:05",
            "23 Nov 2026 18:00:05 +9999",
            "23 Nov 2026 18:00:05 +0060",
            "23 Nov 2026 18:00:05 ++100",
            "23 Nov 2026 18:00:05 CEST",
            "23 Nov 2026 18:00:61 +0000",
            "23 Nov 2026 18:00:-5 +0000",
            "23 Nov 99999 18:00:05 +0000",
            "23 Nov 2026 18:00:05 +é0",
        ] {
            assert_eq!(date(nonsense), None, "{nonsense}");
        }
    }

    proptest! {
        #[test]
        fn any_mail_is_parsed_without_a_panic(mail in proptest::collection::vec(any::<u8>(), 0..300), text in "\\PC{0,80}") {
            let _ = hops(&mail);
            let _ = hops(format!("Received: {text}\r\n {text}").as_bytes());
            let _ = date(&text);
        }

        #[test]
        fn every_formatted_date_is_parsed_again(seconds in 0..4_000_000_000_i64, hours in -12..14_i64) {
            let local = jiff::Timestamp::from_second(seconds + hours * 3600).expect("a moment");
            let local = jiff::tz::TimeZone::UTC.to_datetime(local);
            let sign = if hours < 0 { '-' } else { '+' };
            let text = format!("{} {sign}{:02}00", local.strftime("%a, %d %b %Y %H:%M:%S"), hours.abs());
            prop_assert_eq!(date(&text), Some(UtcMicros(seconds * 1_000_000)));
        }
    }
}
