//! Status codes in messages from mail systems: enhanced ones (RFC 3463) and those of SMTP replies
//! (RFC 5321).

/// Maximum number of digits in a part of an enhanced code: `5.7.606`.
const MAX_DIGITS: usize = 3;

/// Returns the enhanced status codes of failures and delays in a text, in order, with their
/// positions.
pub(super) fn enhanced(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let bytes = text.as_bytes();
    bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| matches!(byte, b'2' | b'4' | b'5'))
        .filter_map(move |(at, _)| Some((at, &text[at..at + length(bytes, at)?])))
}

/// Returns the length of a status code at this position, if there is one. Addresses and versions
/// are excluded.
fn length(bytes: &[u8], at: usize) -> Option<usize> {
    let before = at.checked_sub(1).map(|at| bytes[at]);
    if before.is_some_and(|byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/' | b'_' | b'@')
    }) {
        return None;
    }
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let digits = |from: usize| (from..).take_while(|at| is_digit(*at)).take(MAX_DIGITS + 1).count();
    if bytes.get(at + 1) != Some(&b'.') {
        return None;
    }
    let subject = digits(at + 2);
    // RFC 3463 defines the subjects 0 to 7, so a number of two digits belongs to a version.
    if subject != 1 || bytes.get(at + 3) != Some(&b'.') {
        return None;
    }
    let detail = digits(at + 4);
    let end = at + 4 + detail;
    let goes_on = bytes.get(end).is_some_and(|byte| {
        byte.is_ascii_alphabetic()
            || matches!(byte, b'/' | b'_')
            || (*byte == b'.' && is_digit(end + 1))
    });
    ((1..=MAX_DIGITS).contains(&detail) && !goes_on).then_some(end - at)
}

/// Returns whether a code states only that something failed.
pub(super) fn is_vague(code: &str) -> bool {
    code.ends_with(".0.0")
}

/// Returns the most specific code of a failure: one after an SMTP reply code, otherwise any other.
/// Vague codes come last, and codes of success are excluded.
pub(super) fn best(text: &str) -> Option<&str> {
    let failures = || enhanced(text).filter(|(_, code)| !code.starts_with('2'));
    let rank = |(at, code): &(usize, &str)| {
        let reply =
            reply_before(text, *at).is_some_and(|reply| reply.as_bytes()[0] == code.as_bytes()[0]);
        (is_vague(code), code.starts_with('4'), !reply)
    };
    failures().min_by_key(rank).map(|(_, code)| code)
}

/// Returns the SMTP reply code right before a position: `550 5.1.1`, `550-5.1.1`, `550 #5.1.1`.
fn reply_before(text: &str, at: usize) -> Option<&str> {
    let before = text[..at].trim_end_matches([' ', '-', '#', '(', '<', ',', ':']);
    let code = before.get(before.len().checked_sub(3)?..)?;
    is_reply(code).then_some(code)
}

fn is_reply(code: &str) -> bool {
    code.len() == 3
        && matches!(code.as_bytes()[0], b'4' | b'5')
        && code.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns the first SMTP reply code of a failure in a line, which must be a separate word.
pub(super) fn reply(line: &str) -> Option<&str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '@' | '_');
    line.split(|c: char| !is_word(c))
        .map(|word| word.trim_matches('.'))
        .find(|word| is_reply(word) && matches!(word.as_bytes()[1], b'0'..=b'5' | b'7'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_codes_are_distinguished_from_addresses_and_versions() {
        for (text, expected) in [
            ("550 5.1.1 <a@b>: unknown", Some("5.1.1")),
            ("sorry, no mailbox here by that name (#5.1.1 - chkusr)", Some("5.1.1")),
            ("550-5.7.26 This mail has been blocked", Some("5.7.26")),
            ("#< #5.0.0 smtp; 550 5.2.1 disabled> #SMTP#", Some("5.2.1")),
            ("ERROR_CODE :550, ERROR_CODE :5.2.2 <a@b>... full", Some("5.2.2")),
            ("host [5.1.2.3] said no", None),
            ("192.5.1.1 and 5.1.1.9", None),
            ("Internet Mail Service (5.5.2699.00)", None),
            ("Exim 4.94.2 and v5.1.1 and 5.65/1.37", None),
            ("status=2.0.0", None),
            ("450 4.2.2 try later; 554 5.4.7 too old.", Some("5.4.7")),
            ("5.0.0 (permanent failure)", Some("5.0.0")),
            ("Remote Server returned '550 5.4.310 DNS domain x does not exist'", Some("5.4.310")),
        ] {
            assert_eq!(best(text), expected, "{text}");
        }
    }

    #[test]
    fn replies_are_separate_words() {
        assert_eq!(reply("<<< 550 <a@b>: User unknown"), Some("550"));
        assert_eq!(reply("Remote host said: 571 no"), Some("571"));
        for line in ["at 10.0.5.550", "a550@b", "5000 mails", "the 1550th"] {
            assert_eq!(reply(line), None, "{line}");
        }
    }
}
