//! Masks secrets in text from outside, in every encoding in which a server may repeat them:
//! unchanged, escaped, percent-encoded, in Base64, in another character set, or truncated.
//!
//! Independent of the origin and destination of the text.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    ops::Range,
};

use base64::{Engine as _, engine::general_purpose};

use super::Secret;

/// Replacement for a secret.
pub const MARK: &str = "(secret)";
/// Length from which a part of a secret is masked. Shorter parts are ordinary words.
const SHORTEST_PART: usize = 10;
/// Length at which a part is masked however long the secret is.
const MAX_PART: usize = 24;
/// Minimum length of an encoding of a secret to search for. Shorter ones would match by chance.
const SHORTEST_ENCODING: usize = 4;

/// Returns the positions of `secrets` in `text`, in order and without overlaps.
///
/// Case and the amount of white space are ignored, and a part of a secret (60 % of it, at least 10
/// bytes) counts as the secret: servers change case, collapse spaces, and truncate long lines.
///
/// ```text
/// secret   a "b\c          text   BAD LOGIN probe "a \"b\\c"
/// places                                         ^^^^^^^^^
/// ```
pub fn places(text: &[u8], secrets: &[Secret]) -> Vec<Range<usize>> {
    if text.is_empty() || secrets.iter().all(|secret| secret.expose().is_empty()) {
        return Vec::new();
    }
    let (text, origin) = normalized(text);
    let mut hidden = vec![false; text.len()];
    let mut by_length: BTreeMap<usize, Vec<Vec<u8>>> = BTreeMap::new();
    for secret in secrets {
        for form in forms(secret.expose()) {
            let (form, _) = normalized(&form);
            if form.is_empty() {
                continue;
            }
            let part = (form.len() * 3).div_ceil(5).clamp(SHORTEST_PART, MAX_PART);
            by_length.entry(part.min(form.len())).or_default().push(form);
        }
    }
    for (length, forms) in by_length {
        if length > text.len() {
            break;
        }
        // The text is short and encodings can be long, so the windows of the text are stored.
        let windows: HashSet<&[u8]> = text.windows(length).collect();
        let found: BTreeSet<&[u8]> = forms
            .iter()
            .flat_map(|form| form.windows(length))
            .filter(|part| windows.contains(part))
            .collect();
        if found.is_empty() {
            continue;
        }
        for (at, window) in text.windows(length).enumerate() {
            if found.contains(window) {
                hidden[at..at + length].fill(true);
            }
        }
    }
    ranges(&hidden)
        .map(|mut range| {
            // A space at the edge belongs to the text around the secret.
            while range.len() > 1 && text[range.start] == b' ' {
                range.start += 1;
            }
            while range.len() > 1 && text[range.end - 1] == b' ' {
                range.end -= 1;
            }
            origin[range.start].start..origin[range.end - 1].end
        })
        .collect()
}

/// Returns the text with every secret in it replaced by [`MARK`].
pub fn masked(text: &str, secrets: &[Secret]) -> String {
    let places = places(text.as_bytes(), secrets);
    if places.is_empty() {
        return text.to_owned();
    }
    let mut shown = String::with_capacity(text.len());
    let mut at = 0;
    for place in places {
        let (start, end) =
            (text.floor_char_boundary(place.start), text.ceil_char_boundary(place.end));
        if start > at || at == 0 {
            shown.push_str(&text[at.min(start)..start]);
            shown.push_str(MARK);
        }
        at = at.max(end);
    }
    shown.push_str(&text[at..]);
    shown
}

/// Converts ASCII to lower case and each run of white space to one space, with the position of each
/// byte in the original.
fn normalized(text: &[u8]) -> (Vec<u8>, Vec<Range<usize>>) {
    let mut bytes = Vec::with_capacity(text.len());
    let mut origin: Vec<Range<usize>> = Vec::with_capacity(text.len());
    for (at, byte) in text.iter().enumerate() {
        if byte.is_ascii_whitespace() {
            match origin.last_mut() {
                Some(last) if bytes.last() == Some(&b' ') => last.end = at + 1,
                _ => {
                    bytes.push(b' ');
                    origin.push(at..at + 1);
                }
            }
        } else {
            bytes.push(byte.to_ascii_lowercase());
            origin.push(at..at + 1);
        }
    }
    (bytes, origin)
}

/// Returns the runs of `true`.
fn ranges(hidden: &[bool]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + hidden[at..].iter().position(|hidden| *hidden)?;
        let end = hidden[start..]
            .iter()
            .position(|hidden| !hidden)
            .map_or(hidden.len(), |length| start + length);
        at = end;
        Some(start..end)
    })
}

/// Returns the secret in each encoding in which a server or an intermediate library may write it.
fn forms(secret: &str) -> BTreeSet<Vec<u8>> {
    let mut forms = BTreeSet::from([secret.as_bytes().to_vec()]);
    let mut add = |form: Vec<u8>| {
        if form.len() >= SHORTEST_ENCODING {
            forms.insert(form);
        }
    };
    for text in escaped(secret).into_iter().chain(other_characters(secret)) {
        add(text);
    }
    for form in base64_forms(secret.as_bytes()) {
        add(form);
    }
    add(hexadecimal(secret.as_bytes()));
    for text in spelled_out(secret) {
        add(text);
    }
    forms
}

/// Returns the secret with each byte or character as a number, as debuggers and filters write it,
/// and in UTF-7 and Base64 of UTF-16.
fn spelled_out(secret: &str) -> Vec<Vec<u8>> {
    let by_byte = |between: &str, escape: &dyn Fn(u8) -> String| {
        let bytes: Vec<String> = secret.bytes().map(escape).collect();
        bytes.join(between).into_bytes()
    };
    let by_char = |escape: &dyn Fn(char) -> String| {
        secret.chars().map(escape).collect::<String>().into_bytes()
    };
    let little_endian: Vec<u8> = secret.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut forms = vec![
        by_byte("", &|byte| format!("%{byte:02x}")),
        by_byte("", &|byte| format!("\\x{byte:02x}")),
        by_byte("", &|byte| format!("={byte:02x}")),
        by_byte(" ", &|byte| format!("{byte:02x}")),
        by_byte(":", &|byte| format!("{byte:02x}")),
        by_byte(", ", &|byte| byte.to_string()),
        by_char(&|c| format!("&#{};", u32::from(c))),
        by_char(&|c| format!("&#x{:x};", u32::from(c))),
        by_char(&|c| format!("\\u{:04x}", u32::from(c))),
        // The Q encoding of RFC 2047.
        by_byte("", &|byte| match byte {
            b' ' => "_".to_owned(),
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("={byte:02x}"),
        }),
        // RFC 3501, section 5.1.3, and RFC 2152.
        utf_7(secret, '&', ','),
        utf_7(secret, '+', '/'),
    ];
    // As in NTLM.
    forms.extend(base64_forms(&little_endian));
    forms
}

/// Encodes a text in UTF-7 whose Base64 runs begin with `shift`; `last` is the last Base64 digit.
fn utf_7(text: &str, shift: char, last: char) -> Vec<u8> {
    let mut out = String::new();
    let mut run: Vec<u8> = Vec::new();
    let end = |run: &mut Vec<u8>, out: &mut String| {
        if !run.is_empty() {
            let digits =
                general_purpose::STANDARD_NO_PAD.encode(&*run).replace('/', &last.to_string());
            out.extend([&shift.to_string(), &*digits, "-"]);
            run.clear();
        }
    };
    for c in text.chars() {
        if c.is_ascii() {
            end(&mut run, &mut out);
            out.push(c);
            if c == shift {
                out.push('-');
            }
        } else {
            run.extend(c.encode_utf16(&mut [0; 2]).iter().flat_map(|unit| unit.to_be_bytes()));
        }
    }
    end(&mut run, &mut out);
    out.into_bytes()
}

/// Returns the secret escaped as in IMAP, JSON, C, HTML, URLs, SQL and quoted-printable text.
fn escaped(secret: &str) -> Vec<Vec<u8>> {
    // RFC 3501, section 9: a quoted string escapes the quotation mark and the backslash.
    let quoted = secret.replace('\\', "\\\\").replace('"', "\\\"");
    let json = serde_json::to_string(secret).unwrap_or_default();
    let json = json.trim_matches('"');
    let by_char = |escape: &dyn Fn(char) -> String| secret.chars().map(escape).collect::<String>();
    let html = |apostrophe: &str| {
        by_char(&|c| match c {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '"' => "&quot;".to_owned(),
            '\'' => apostrophe.to_owned(),
            c => c.to_string(),
        })
    };
    let by_byte = |escape: &dyn Fn(u8) -> String| secret.bytes().map(escape).collect::<String>();
    let special = |byte: u8| !matches!(byte, b' '..=b'~') || matches!(byte, b'"' | b'\\' | b'\'');
    let texts = [
        quoted.replace('\'', "\\'"),
        quoted,
        secret.replace('\'', "\\'"),
        secret.replace('"', "\\\""),
        secret.replace('\\', "\\\\"),
        secret.replace('"', "\"\""),
        secret.replace('\'', "''"),
        secret.replace('&', "&-"),
        json.replace('/', "\\/"),
        json.chars().map(|c| if c.is_ascii() { c.to_string() } else { utf16_escape(c) }).collect(),
        json.to_owned(),
        html("&#39;"),
        html("&#x27;"),
        html("&apos;"),
        html("'"),
        html("'").replace("&quot;", "\""),
        html("&#39;").replace("&quot;", "&#34;"),
        by_byte(&|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        }),
        by_byte(&|byte| match byte {
            b' ' => "+".to_owned(),
            byte if byte.is_ascii_alphanumeric() || b"-._*".contains(&byte) => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        }),
        by_byte(&|byte| {
            if special(byte) { format!("\\x{byte:02x}") } else { char::from(byte).to_string() }
        }),
        by_byte(&|byte| {
            if special(byte) { format!("\\{byte:03o}") } else { char::from(byte).to_string() }
        }),
        by_byte(&|byte| {
            if byte.is_ascii_graphic() {
                char::from(byte).to_string()
            } else {
                format!("\\{byte:03o}")
            }
        }),
        by_byte(&|byte| {
            if byte.is_ascii_graphic() && byte != b'=' || byte == b' ' {
                char::from(byte).to_string()
            } else {
                format!("={byte:02X}")
            }
        }),
    ];
    texts.into_iter().map(String::into_bytes).collect()
}

/// Formats a character as `\uXXXX`, as JSON does for ASCII-only output.
fn utf16_escape(c: char) -> String {
    let mut units = [0; 2];
    c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect()
}

/// Returns the secret with non-ASCII characters garbled by a wrong character set.
fn other_characters(secret: &str) -> Vec<Vec<u8>> {
    if secret.is_ascii() {
        return Vec::new();
    }
    let latin_1: Option<Vec<u8>> =
        secret.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
    // UTF-8 read as Latin-1 and written as UTF-8 again.
    let twice: String = secret.bytes().map(char::from).collect();
    let each = |instead: &str| -> Vec<u8> {
        let shown = |c: char| {
            if c.is_ascii() { c.to_string() } else { instead.to_owned() }
        };
        secret.chars().map(shown).collect::<String>().into_bytes()
    };
    let bytes = |instead: &str| -> Vec<u8> {
        let shown = |byte: u8| {
            if byte.is_ascii() { char::from(byte).to_string() } else { instead.to_owned() }
        };
        secret.bytes().map(shown).collect::<String>().into_bytes()
    };
    let mut forms = vec![
        twice.into_bytes(),
        each("?"),
        each("\u{fffd}"),
        each(""),
        bytes("?"),
        bytes("\u{fffd}"),
        secret.bytes().map(|byte| byte & 0x7f).collect(),
    ];
    forms.extend(latin_1);
    forms
}

/// Returns the Base64 forms of the secret alone, and of the secret within a longer text. The
/// preceding bytes shift the groups of three bytes, so there are three forms, without the
/// characters that the neighbours influence.
fn base64_forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    for engine in [general_purpose::STANDARD_NO_PAD, general_purpose::URL_SAFE_NO_PAD] {
        forms.push(engine.encode(secret).into_bytes());
        for before in 0..3 {
            let text = engine.encode([&vec![0; before][..], secret].concat());
            // 8 bits per byte against 6 per character, rounded inwards.
            let (start, end) = ((before * 8).div_ceil(6), (before + secret.len()) * 8 / 6);
            if end > start + SHORTEST_PART {
                forms.push(text.as_bytes()[start..end].to_vec());
            }
        }
    }
    forms
}

fn hexadecimal(bytes: &[u8]) -> Vec<u8> {
    super::hex(bytes).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str, secret: &str) -> String {
        masked(text, &[Secret::new(secret)])
    }

    #[test]
    fn a_secret_is_masked_however_it_is_spelled_out() {
        let secret = "pä&ss wörd";
        for text in [
            "%70%c3%a4%26%73%73%20%77%c3%b6%72%64",
            "\\x70\\xc3\\xa4\\x26\\x73\\x73\\x20\\x77\\xc3\\xb6\\x72\\x64",
            "70 C3 A4 26 73 73 20 77 C3 B6 72 64",
            "70:c3:a4:26:73:73:20:77:c3:b6:72:64",
            "112, 195, 164, 38, 115, 115, 32, 119, 195, 182, 114, 100",
            "&#112;&#228;&#38;&#115;&#115;&#32;&#119;&#246;&#114;&#100;",
            "&#x70;&#xe4;&#x26;&#x73;&#x73;&#x20;&#x77;&#xf6;&#x72;&#x64;",
            "p=C3=A4=26ss_w=C3=B6rd",
            "p&AOQ-&-ss w&APY-rd",
            "p+AOQ-&ss w+APY-rd",
            // Base64 of UTF-16, as in NTLM.
            "cADkACYAcwBzACAAdwD2AHIAZAA=",
        ] {
            let shown = shown(&format!("BAD <{text}> what?"), secret);
            assert!(
                shown.starts_with("BAD <(secret)")
                    && shown.ends_with("> what?")
                    && shown.len() < 26,
                "{text}: {shown}"
            );
        }
    }

    #[test]
    fn a_secret_is_masked_as_a_whole_in_every_encoding() {
        let secret = "a \"b\\c dé&f'g";
        for text in [
            "BAD LOGIN probe \"a \\\"b\\\\c dé&f'g\"",
            "{\"line\":\"a \\\"b\\\\c dé&f'g\"}",
            "{\"line\":\"a \\\"b\\\\c d\\u00e9&f'g\"}",
            "<p>a &quot;b\\c dé&amp;f&#39;g</p>",
            "<p>a &quot;b\\c dé&amp;f'g</p>",
            "/login?p=a%20%22b%5Cc%20d%C3%A9%26f%27g",
            "p=a+%22b%5cc+d%c3%a9%26f%27g&x=1",
            "=?utf-8?Q?a \"b\\c d=C3=A9&f'g?=",
            "a \"b\\c d??&f'g",
            "a \"b\\c d\u{fffd}&f'g",
            "a \"b\\c dÃ©&f'g",
            "A  \"B\\C\tdé&F'G",
            "YSAiYlxjIGTDqSZmJ2c=",
            // \0probe\0 in front of it, as in AUTH PLAIN.
            "AHByb2JlAGEgImJcYyBkw6kmZidn",
            "612022625c632064c3a926662767",
            "a \\x22b\\x5cc d\\xc3\\xa9&f\\x27g",
        ] {
            let shown = shown(text, secret);
            assert!(shown.contains(MARK), "{text} -> {shown}");
            for part in ["b\\", "b%", "YSAi", "Jj", "c d", "6120", "f'g", "F'G"] {
                assert!(!shown.contains(part), "{part} of {text} -> {shown}");
            }
        }
    }

    #[test]
    fn parts_are_masked_but_ordinary_words_stay() {
        let secret = "correct horse battery";
        for (text, expected) in [
            ("-ERR too many words: se battery", "-ERR too many words: se battery"),
            ("-ERR too many words: rect horse battery", "-ERR too many words: (secret)"),
            ("BAD LOGIN probe correct horse b…", "BAD LOGIN probe (secret)…"),
            ("the battery is empty", "the battery is empty"),
            ("correct\r\n horse  BATTERY!", "(secret)!"),
        ] {
            assert_eq!(shown(text, secret), expected);
        }
        assert_eq!(shown("535 wrong password", "password123"), "535 wrong password");
        assert_eq!(shown("535 abc is wrong", "abc"), "535 (secret) is wrong");
        assert_eq!(shown("nothing to hide", ""), "nothing to hide");
    }

    #[test]
    fn long_tokens_are_found_by_their_parts() {
        let token: String = (0..4000u32).map(|n| char::from(b'a' + (n * n % 26) as u8)).collect();
        let text = format!("AUTH=Bearer {} was rejected", &token[500..700]);
        assert_eq!(shown(&text, &token), "AUTH=Bearer (secret) was rejected");
    }

    proptest! {
        #[test]
        fn masked_text_contains_no_secret(
            before in "[ -~]{0,20}", secret in "\\PC{4,30}", after in "[ -~äß]{0,20}", form in 0usize..24,
        ) {
            let forms: Vec<Vec<u8>> = forms(&secret).into_iter().collect();
            let form = String::from_utf8_lossy(&forms[form % forms.len()]).into_owned();
            let text = format!("{before}{form}{after}");
            let places = places(text.as_bytes(), &[Secret::new(secret.clone())]);
            for pair in places.windows(2) {
                prop_assert!(pair[0].end <= pair[1].start);
            }
            if !form.contains('\u{fffd}') || secret.contains('\u{fffd}') {
                prop_assert!(!masked(&text, &[Secret::new(secret)]).contains(&form) || MARK.contains(&form));
            }
        }
    }
}
