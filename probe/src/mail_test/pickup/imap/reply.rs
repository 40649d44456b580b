//! Parser of IMAP responses, limited to what this client needs and tolerant of invalid input (RFC
//! 3501, 9051).

use mailqos_model::UtcMicros;

use crate::mail_test::received;

/// Maximum nesting of lists.
const MAX_DEPTH: usize = 32;
/// Largest UID, of 32 bits (RFC 9051, section 2.3.1.1).
pub(super) const LAST_UID: u64 = u32::MAX as u64;
/// Maximum number of UIDs from one listing.
pub(super) const MAX_UIDS: usize = 1_000_000;

/// A response: one line with its literals.
#[derive(Debug, Clone, Default)]
pub(super) struct Response {
    /// The line without the contents of literals, which follow their `{…}`.
    pub(super) text: Vec<u8>,
    /// Contents of the literals, or their beginnings.
    pub(super) literals: Vec<Vec<u8>>,
}

/// The status of a response: OK, NO or BAD, which end a command or contain information.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Status {
    /// `OK`, `NO`, `BAD`, `BYE` or `PREAUTH`.
    pub(super) word: &'static str,
    /// Words in brackets, in capitals.
    pub(super) code: Vec<String>,
    /// The text after the status.
    pub(super) text: String,
}

impl Status {
    /// Parses the text after the tag.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let word = ["OK", "NO", "BAD", "BYE", "PREAUTH"]
            .into_iter()
            .find(|known| known.eq_ignore_ascii_case(word))?;
        let rest = rest.trim();
        let (code, text) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((code, text)) => (code, text),
            None => ("", rest),
        };
        Some(Self {
            word,
            code: code.split_whitespace().map(str::to_ascii_uppercase).collect(),
            text: text.trim().to_owned(),
        })
    }

    /// Returns OK without further text.
    pub(super) fn ok() -> Self {
        Self { word: "OK", code: Vec::new(), text: String::new() }
    }

    pub(super) fn is_ok(&self) -> bool {
        self.word == "OK"
    }

    /// Returns whether this is the first word of the code.
    pub(super) fn says(&self, code: &str) -> bool {
        self.code.first().is_some_and(|word| word == code)
    }

    /// Returns the number after a word of the code, as in `[UIDNEXT 5]`.
    pub(super) fn number(&self, code: &str) -> Option<u64> {
        self.says(code).then(|| self.code.get(1)?.parse().ok())?
    }
}

/// Returns the length of the literal that a line announces at its end.
pub(super) fn literal(line: &[u8]) -> Option<u64> {
    let inner = line.strip_suffix(b"}")?;
    let at = inner.iter().rposition(|byte| *byte == b'{')?;
    let digits = inner[at + 1..].strip_suffix(b"+").unwrap_or(&inner[at + 1..]);
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|_| digits.iter().all(u8::is_ascii_digit))
}

/// A value in a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// An atom, a quoted string or a literal.
    Text(Vec<u8>),
    /// A list in parentheses.
    List(Vec<Value>),
    /// `NIL`: no value, as opposed to an empty one.
    Nil,
}

impl Value {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Text(text) => String::from_utf8_lossy(text).into_owned(),
            Self::List(_) | Self::Nil => String::new(),
        }
    }

    fn number(&self) -> Option<u64> {
        self.text().parse().ok()
    }

    fn uid(&self) -> Option<u64> {
        self.number().filter(|uid| *uid <= LAST_UID)
    }
}

/// Parses the values of a response; `None` if they are invalid.
pub(super) fn values(response: &Response) -> Option<Vec<Value>> {
    let text = &response.text;
    let mut literals = response.literals.iter();
    let mut open: Vec<Vec<Value>> = vec![Vec::new()];
    let mut at = 0;
    while let Some(byte) = text.get(at).copied() {
        let value = match byte {
            b' ' => {
                at += 1;
                continue;
            }
            b'(' => {
                at += 1;
                if open.len() >= MAX_DEPTH {
                    return None;
                }
                open.push(Vec::new());
                continue;
            }
            b')' => {
                at += 1;
                let list = open.pop().filter(|_| !open.is_empty())?;
                Value::List(list)
            }
            b'"' => {
                let mut quoted = Vec::new();
                at += 1;
                loop {
                    match *text.get(at)? {
                        b'"' => break,
                        b'\\' => {
                            at += 1;
                            quoted.push(*text.get(at)?);
                        }
                        byte => quoted.push(byte),
                    }
                    at += 1;
                }
                at += 1;
                Value::Text(quoted)
            }
            _ => {
                // The brackets of BODY[…] contain spaces and parentheses.
                let begin = at;
                let mut brackets = 0_i32;
                while let Some(byte) = text.get(at) {
                    match byte {
                        b'[' => brackets += 1,
                        b']' => brackets -= 1,
                        b' ' | b'(' | b')' if brackets <= 0 => break,
                        _ => {}
                    }
                    at += 1;
                    if brackets <= 0 && *byte == b'}' {
                        break;
                    }
                }
                let atom = &text[begin..at];
                let announces = atom.strip_prefix(b"~").unwrap_or(atom).starts_with(b"{")
                    && literal(atom).is_some();
                match announces.then(|| literals.next()).flatten() {
                    Some(content) => Value::Text(content.clone()),
                    None if atom.eq_ignore_ascii_case(b"NIL") => Value::Nil,
                    None => Value::Text(atom.to_vec()),
                }
            }
        };
        open.last_mut()?.push(value);
    }
    (open.len() == 1).then(|| open.pop())?
}

/// A mail in a FETCH response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fetched {
    pub(super) uid: u64,
    /// INTERNALDATE.
    pub(super) date: Option<UtcMicros>,
    /// Content of the requested section.
    pub(super) section: Option<Vec<u8>>,
}

/// Parses `12 FETCH (…)`. Returns `None` for any other response, and for one without UID.
pub(super) fn fetched(values: &[Value]) -> Option<Fetched> {
    let [_, word, Value::List(items)] = values else {
        return None;
    };
    if !word.text().eq_ignore_ascii_case("FETCH") {
        return None;
    }
    let mut fetched = Fetched::default();
    let mut has_uid = false;
    let mut items = items.iter();
    while let Some(item) = items.next() {
        let name = item.text().to_ascii_uppercase();
        let is_section =
            ["BODY[", "BODY.PEEK[", "BINARY["].iter().any(|begin| name.starts_with(begin))
                || matches!(&*name, "RFC822" | "RFC822.HEADER" | "RFC822.TEXT");
        match &*name {
            "UID" => {
                fetched.uid = items.next()?.uid()?;
                has_uid = true;
            }
            "INTERNALDATE" => {
                fetched.date = items.next().and_then(|value| internal_date(&value.text()))
            }
            // An empty section counts as missing, because the server may list the mail before it
            // can return it.
            _ if is_section => match items.next() {
                Some(Value::Text(content)) => fetched.section = Some(content.clone()),
                Some(Value::List(_) | Value::Nil) | None => {}
            },
            // FLAGS, MODSEQ and anything else that a server adds have one value each.
            _ => {
                items.next();
            }
        }
    }
    has_uid.then_some(fetched)
}

/// Parses the UIDs of `SEARCH 1 2 3`, or of `ESEARCH (TAG "A1") UID ALL 1:3`. Returns `None` for
/// any other response.
pub(super) fn uids(values: &[Value]) -> Option<Vec<u64>> {
    let (word, rest) = values.split_first()?;
    if word.text().eq_ignore_ascii_case("SEARCH") {
        return Some(rest.iter().filter_map(Value::uid).take(MAX_UIDS).collect());
    }
    if !word.text().eq_ignore_ascii_case("ESEARCH") {
        return None;
    }
    let all = rest
        .windows(2)
        .find(|pair| pair[0].text().eq_ignore_ascii_case("ALL"))
        .map(|pair| pair[1].text())
        .unwrap_or_default();
    let mut uids = Vec::new();
    for range in all.split(',').filter(|range| !range.is_empty()) {
        let (from, to) = range.split_once(':').unwrap_or((range, range));
        if let (Ok(from), Ok(to)) = (from.parse::<u64>(), to.parse::<u64>()) {
            let room = MAX_UIDS - uids.len();
            uids.extend((from.min(to)..=from.max(to).min(LAST_UID)).take(room));
        }
    }
    Some(uids)
}

/// Parses `17-Jul-1996 02:44:25 -0700`, which is a date as in mails except for its hyphens.
fn internal_date(text: &str) -> Option<UtcMicros> {
    let (date, rest) = text.trim().split_once(' ')?;
    received::date(&format!("{} {rest}", date.replace('-', " ")))
}

/// Encodes a folder's name in modified UTF-7 (RFC 3501, section 5.1.3).
pub(super) fn utf7(name: &str) -> String {
    use base64::{
        Engine as _, alphabet,
        engine::{GeneralPurpose, GeneralPurposeConfig},
    };
    let engine = GeneralPurpose::new(
        &alphabet::IMAP_MUTF7,
        GeneralPurposeConfig::new().with_encode_padding(false),
    );
    let mut text = String::new();
    let mut shifted: Vec<u8> = Vec::new();
    let flush = |text: &mut String, shifted: &mut Vec<u8>| {
        if !shifted.is_empty() {
            text.push('&');
            text.push_str(&engine.encode(std::mem::take(shifted)));
            text.push('-');
        }
    };
    for character in name.chars() {
        if (' '..='~').contains(&character) {
            flush(&mut text, &mut shifted);
            text.push(character);
            if character == '&' {
                text.push('-');
            }
        } else {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                shifted.extend_from_slice(&unit.to_be_bytes());
            }
        }
    }
    flush(&mut text, &mut shifted);
    text
}

/// Decodes a name in modified UTF-7 for display. An invalid name is returned unchanged.
pub(super) fn from_utf7(text: &str) -> String {
    use base64::{
        Engine as _, alphabet,
        engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
    };
    let engine = GeneralPurpose::new(
        &alphabet::IMAP_MUTF7,
        GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::Indifferent)
            .with_decode_allow_trailing_bits(true),
    );
    let decode = |shifted: &str| {
        let bytes = engine.decode(shifted).ok()?;
        let units: Vec<u16> =
            bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
        String::from_utf16(&units).ok()
    };
    let mut name = String::new();
    let mut rest = text;
    while let Some((before, shifted)) = rest.split_once('&') {
        name += before;
        let Some((shifted, after)) = shifted.split_once('-') else {
            return text.to_owned();
        };
        match (shifted, decode(shifted)) {
            ("", _) => name.push('&'),
            (_, Some(decoded)) => name += &decoded,
            (_, None) => return text.to_owned(),
        }
        rest = after;
    }
    name + rest
}

/// Formats a text as a quoted string.
pub(super) fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn response(text: &str, literals: &[&str]) -> Response {
        Response {
            text: text.as_bytes().to_vec(),
            literals: literals.iter().map(|text| text.as_bytes().to_vec()).collect(),
        }
    }

    #[test]
    fn a_fetch_response_is_parsed_in_any_order() {
        let response = response(
            r#"3 FETCH (FLAGS (\Seen $x) BODY[HEADER.FIELDS (A B)] {4} INTERNALDATE "17-Jul-1996 02:44:25 -0700" UID 77)"#,
            &["A: 1"],
        );
        let values = values(&response).expect("values");
        let fetched = fetched(&values).expect("a fetch");
        assert_eq!(fetched.uid, 77);
        assert_eq!(fetched.section.as_deref(), Some(&b"A: 1"[..]));
        assert_eq!(fetched.date, Some(UtcMicros(837_596_665_000_000)));
    }

    #[test]
    fn one_digit_days_may_have_a_leading_space() {
        assert_eq!(
            internal_date(" 7-Jul-1996 02:44:25 -0700"),
            Some(UtcMicros(836_732_665_000_000))
        );
        assert_eq!(internal_date("07-Jul-1996"), None);
    }

    #[test]
    fn both_forms_of_search_results_are_parsed() {
        let read = |text: &str| uids(&values(&response(text, &[])).expect("values"));
        assert_eq!(read("SEARCH 2 84 882"), Some(vec![2, 84, 882]));
        assert_eq!(read("SEARCH"), Some(vec![]));
        assert_eq!(read(r#"ESEARCH (TAG "A282") UID ALL 2,10:12"#), Some(vec![2, 10, 11, 12]));
        assert_eq!(read(r#"ESEARCH (TAG "A283") UID"#), Some(vec![]));
        assert_eq!(
            read("ESEARCH UID ALL 1:18446744073709551615").map(|uids| uids.len()),
            Some(MAX_UIDS)
        );
        assert_eq!(read("5 EXISTS"), None);
    }

    #[test]
    fn statuses_are_parsed_with_their_codes() {
        let status = Status::read("OK [UIDNEXT 4392] Predicted next UID").expect("a status");
        assert_eq!((status.number("UIDNEXT"), status.is_ok()), (Some(4392), true));
        assert_eq!(Status::read("no [AUTHENTICATIONFAILED]").expect("a status").word, "NO");
        assert_eq!(Status::read("5 EXISTS"), None);
    }

    #[test]
    fn folder_names_are_encoded_in_modified_utf7() {
        assert_eq!(utf7("~peter/mail/台北/日本語"), "~peter/mail/&U,BTFw-/&ZeVnLIqe-");
        assert_eq!(utf7("R&D"), "R&-D");
        assert_eq!(from_utf7("~peter/mail/&U,BTFw-/&ZeVnLIqe-"), "~peter/mail/台北/日本語");
        assert_eq!(from_utf7("R&-D"), "R&D");
        for damaged in ["&", "&U,BTFw", "&!!!-", "&2AA-"] {
            assert_eq!(from_utf7(damaged), damaged);
        }
    }

    #[test]
    fn what_a_server_does_not_return_is_not_content() {
        let read = |text: &str, literals: &[&str]| {
            fetched(&values(&response(text, literals)).expect("values"))
        };
        let section =
            |text: &str, literals: &[&str]| read(text, literals).expect("a fetch").section;
        assert_eq!(section("3 FETCH (UID 7 BODY[HEADER] NIL)", &[]), None);
        assert_eq!(section("3 FETCH (UID 7 FLAGS (\\Seen))", &[]), None);
        assert_eq!(section("3 FETCH (UID 7 RFC822.SIZE 1234)", &[]), None);
        // A quoted string with these letters is not NIL.
        assert_eq!(
            section("3 FETCH (UID 7 BODY[HEADER] \"NIL\")", &[]).as_deref(),
            Some(&b"NIL"[..])
        );
        assert_eq!(
            section("3 FETCH (UID 7 BODY[HEADER] {4})", &["A: 1"]).as_deref(),
            Some(&b"A: 1"[..])
        );
        assert_eq!(
            section("3 FETCH (BODY.PEEK[HEADER] {4} UID 7)", &["A: 1"]).as_deref(),
            Some(&b"A: 1"[..])
        );
        // CONDSTORE (RFC 7162), and an item without a value at the end.
        assert_eq!(
            section("3 FETCH (MODSEQ (65402) UID 7 BODY[HEADER] {4} FLAGS)", &["A: 1"]).as_deref(),
            Some(&b"A: 1"[..])
        );
        assert_eq!(
            read("3 FETCH (BODY[HEADER] {4})", &["A: 1"]),
            None,
            "whose it is, is not known"
        );
    }

    proptest! {
        #[test]
        fn any_server_reply_is_parsed_without_a_panic(
            text in proptest::collection::vec(prop_oneof![Just(b'('), Just(b')'), Just(b'"'), Just(b'\\'), Just(b'{'), Just(b'}'), Just(b'['), Just(b']'), Just(b' '), Just(b'1'), any::<u8>()], 0..200),
        ) {
            let response = Response { text: text.clone(), literals: vec![b"x".to_vec()] };
            if let Some(values) = values(&response) {
                let _ = (fetched(&values), uids(&values));
            }
            let _ = literal(&text);
            let words = String::from_utf8_lossy(&text);
            let _ = (Status::read(&words), internal_date(&words));
        }

        #[test]
        fn a_folder_name_survives_encoding(name in "\\PC{0,20}") {
            prop_assert_eq!(from_utf7(&utf7(&name)), name);
        }

        #[test]
        fn a_quoted_text_is_parsed_again(text in "[ -~]{0,40}") {
            let read = values(&response(&format!("a {}", quote(&text)), &[])).expect("values");
            prop_assert_eq!(read[1].text(), text);
        }
    }
}
