//! Parses replies of real FTP servers into the form that RFC 959 defines.

/// Maximum size of a reply in bytes.
pub(super) const MAX_LENGTH: usize = 64 << 10;
/// Separator between the lines of a multi-line reply.
pub(super) const BETWEEN: char = '\t';

/// A complete reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    /// Reply code, 100 to 599.
    pub(super) code: u16,
    /// Its text without the code, lines joined by [`BETWEEN`].
    pub(super) text: String,
}

/// State of the bytes received so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// The reply is incomplete.
    Partial,
    /// A reply and its length in bytes.
    Whole(Reply, usize),
    /// A reply if nothing follows: its last line has another code than its first. RFC 959 (section
    /// 4.2) allows such a line within a reply, but glFTPd ends replies with one.
    Doubtful(Reply, usize),
    /// The bytes are not an FTP reply.
    Foreign,
}

/// Parses the first reply of the received bytes.
pub(super) fn parse(bytes: &[u8]) -> Parsed {
    let mut lines = Lines { bytes, at: 0 };
    // Some servers put an empty line before a reply.
    let first = loop {
        match lines.next() {
            None if bytes.len() > MAX_LENGTH => return Parsed::Foreign,
            None => return Parsed::Partial,
            Some([]) => {}
            Some(line) => break line,
        }
    };
    let Some((code, rest)) = code_of(first) else {
        return Parsed::Foreign;
    };
    let mut text = vec![decoded(rest.get(1..).unwrap_or_default())];
    if rest.first() != Some(&b'-') {
        let text = text.concat();
        return Parsed::Whole(Reply { code, text }, lines.at);
    }
    let mut doubtful = None;
    while let Some(line) = lines.next() {
        let (its_code, rest) =
            code_of(line).map_or((None, line), |(its_code, rest)| (Some(its_code), rest));
        let is_last = its_code.is_some() && matches!(rest.first(), None | Some(b' '));
        let shown = if is_last || (its_code == Some(code) && rest.first() == Some(&b'-')) {
            rest.get(1..).unwrap_or_default()
        } else {
            line
        };
        text.push(decoded(shown));
        if is_last && its_code == Some(code) {
            return Parsed::Whole(joined(code, &text), lines.at);
        }
        if let (true, Some(code)) = (is_last, its_code) {
            doubtful = Some((joined(code, &text), lines.at));
        }
    }
    match doubtful {
        _ if bytes.len() > MAX_LENGTH => Parsed::Foreign,
        Some((reply, length)) if length == bytes.len() => Parsed::Doubtful(reply, length),
        _ => Parsed::Partial,
    }
}

fn joined(code: u16, lines: &[String]) -> Reply {
    let text = lines.join(&BETWEEN.to_string());
    Reply { code, text }
}

/// The complete lines, without their line ends.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.bytes.get(self.at..)?;
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        self.at += end + 1;
        let line = &rest[..end];
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

fn code_of(line: &[u8]) -> Option<(u16, &[u8])> {
    let (digits, rest) = line.split_at_checked(3)?;
    let fits = matches!(digits[0], b'1'..=b'5')
        && digits.iter().all(u8::is_ascii_digit)
        && !rest.first().is_some_and(u8::is_ascii_digit);
    let number = |byte: u8| u16::from(byte - b'0');
    fits.then(|| (number(digits[0]) * 100 + number(digits[1]) * 10 + number(digits[2]), rest))
}

/// Decodes text of unknown encoding: UTF-8 if it is valid, otherwise Latin-1, in which every byte
/// is a character. Removes control characters.
fn decoded(bytes: &[u8]) -> String {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    };
    text.chars().filter(|c| !c.is_control()).collect()
}

/// Returns the address and port of a `227` reply: six numbers anywhere in the text (RFC 1123,
/// section 4.1.2.6).
pub(super) fn passive_port(text: &str) -> Option<([u8; 4], u16)> {
    let numbers = |from: &str| -> Option<[u8; 6]> {
        let mut found = [0; 6];
        let mut rest = from;
        for (index, number) in found.iter_mut().enumerate() {
            if index > 0 {
                rest = rest.trim_start().strip_prefix(',')?.trim_start();
            }
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            *number = rest[..end].parse().ok()?;
            rest = &rest[end..];
        }
        Some(found)
    };
    let mut before = None;
    for (at, c) in text.char_indices() {
        let begins = c.is_ascii_digit() && !before.is_some_and(|c: char| c.is_ascii_digit());
        if let (true, Some([a, b, c, d, high, low])) = (begins, numbers(&text[at..])) {
            return Some(([a, b, c, d], u16::from(high) << 8 | u16::from(low)))
                .filter(|(_, port)| *port > 0);
        }
        before = Some(c);
    }
    None
}

/// Returns the port of a `229` reply, between delimiters of any kind (RFC 2428, section 3).
pub(super) fn extended_port(text: &str) -> Option<u16> {
    let inner = text.split_once('(').map_or(text, |(_, inner)| inner);
    let inner = inner.split_once(')').map_or(inner, |(inner, _)| inner).trim();
    let delimiter = inner.chars().next().filter(|c| !c.is_alphanumeric())?;
    let mut fields = inner.split(delimiter);
    fields.nth(3).and_then(|port| port.trim().parse().ok()).filter(|port| *port > 0)
}

/// Returns the size in a `213` reply.
pub(super) fn size(text: &str) -> Option<u64> {
    let digits = text.trim_start();
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

/// Returns the size from the facts in the reply to `MLST`: ` type=file;size=3; name`.
pub(super) fn size_fact(text: &str) -> Option<u64> {
    text.split(BETWEEN).find_map(|line| {
        let facts = line.trim_start().split(' ').next()?;
        let mut facts = facts.split(';').filter_map(|fact| fact.split_once('='));
        let (_, size) = facts.find(|(key, _)| key.eq_ignore_ascii_case("size"))?;
        size.parse().ok()
    })
}

/// Returns the folder in a `257` reply: in quotes, with inner quotes repeated (RFC 959, appendix
/// II), or the first word.
pub(super) fn quoted_path(text: &str) -> Option<String> {
    let Some((_, inner)) = text.split_once('"') else {
        return text.split_whitespace().next().map(str::to_owned);
    };
    let mut path = String::new();
    let mut chars = inner.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '"' && chars.next_if_eq(&'"').is_none() {
            return Some(path);
        }
        path.push(c);
    }
    None
}

/// Returns the features in the reply to `FEAT`, in capitals.
pub(super) fn features(text: &str) -> Vec<String> {
    text.split(BETWEEN).map(|line| line.trim().to_ascii_uppercase()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_size_is_parsed_from_facts() {
        let reply = |line: &str| format!("Listing{BETWEEN}{line}{BETWEEN}End");
        for (line, size) in [
            (" Type=file;Size=1024990;Perm=r; /tmp/size=7;x.pdf", Some(1_024_990)),
            ("size=3;type=file; a b", Some(3)),
            (" type=dir;sizd=4096; x", None),
            (" size=x; y", None),
            (" name size=3; y", None),
        ] {
            assert_eq!(size_fact(&reply(line)), size, "{line}");
        }
    }

    fn whole(bytes: &[u8]) -> (u16, String) {
        match parse(bytes) {
            Parsed::Whole(reply, length) => {
                assert_eq!(length, bytes.len(), "{bytes:?}");
                (reply.code, reply.text)
            }
            other => panic!("{other:?} of {:?}", String::from_utf8_lossy(bytes)),
        }
    }

    #[test]
    fn replies_of_all_shapes_are_read() {
        for (bytes, code, text) in [
            (&b"226 Transfer complete.\r\n"[..], 226, "Transfer complete."),
            (b"226\r\n", 226, ""),
            (b"226\n", 226, ""),
            (b"\r\n220 ready\r\n", 220, "ready"),
            // Latin-1, as sent by FileZilla Server before 1.0 and many devices.
            (b"550 Datei nicht verf\xfcgbar\r\n", 550, "Datei nicht verfügbar"),
            ("550 Datei nicht verfügbar\r\n".as_bytes(), 550, "Datei nicht verfügbar"),
            // Lines within a reply that resemble replies, and lines without a code.
            (
                b"230-Welcome\r\n200 files today\r\n 230 is not the end\r\n230-\r\n230 Logged in\r\n",
                230,
                "Welcome\tfiles today\t 230 is not the end\t\tLogged in",
            ),
            (
                b"211-Features:\r\n UTF8\r\n SIZE\r\n211 End\r\n",
                211,
                "Features:\t UTF8\t SIZE\tEnd",
            ),
            (
                b"227-listen socket created\r\n227 (127,0,0,1,154,21)\r\n",
                227,
                "listen socket created\t(127,0,0,1,154,21)",
            ),
            (b"211-Features:\r\n211-UTF8\r\n211\r\n", 211, "Features:\tUTF8\t"),
        ] {
            assert_eq!(whole(bytes), (code, text.to_owned()));
        }
        // cyberduck #15892, and suppaftp #168 (glFTPd).
        assert_eq!(whole(b"250-\r\n550\r\n250\r\n").0, 250);
        let other = parse(b"553-\r\n553- Directory excluded.\r\n150 Opening\r\n");
        assert!(matches!(other, Parsed::Doubtful(Reply { code: 150, .. }, _)), "{other:?}");
        assert_eq!(parse(b"230-Welcome\r\n23"), Parsed::Partial);
        assert_eq!(parse(b"SSH-2.0-OpenSSH_9.2\r\n"), Parsed::Foreign);
        assert_eq!(parse(b"2200 what\r\n"), Parsed::Foreign);
        let ended = parse(b"226-stored\r\n250 done\r\n");
        assert!(matches!(ended, Parsed::Doubtful(Reply { code: 250, .. }, 22)), "{ended:?}");
        assert_eq!(parse(b"226-stored\r\n250 done\r\nand"), Parsed::Partial);
        assert_eq!(parse(&vec![b'2'; MAX_LENGTH + 1]), Parsed::Foreign);
    }

    #[test]
    fn a_port_is_parsed_from_six_numbers() {
        for text in [
            "Entering Passive Mode (10,0,0,7,195,80)",
            "Entering Passive Mode (10,0,0,7,195,80).",
            "Entering Passive Mode 10,0,0,7,195,80",
            "Entering passive mode. 10, 0, 0, 7, 195, 80 ok",
            "=10,0,0,7,195,80",
            "Passivmodus f\u{fc}r 2 Kan\u{e4}le (10,0,0,7,195,80",
        ] {
            assert_eq!(passive_port(text), Some(([10, 0, 0, 7], 50_000)), "{text}");
        }
        for text in ["", "10,0,0,7,195", "(300,0,0,1,1,1)", "(1,2,3,4,0,0)", "(1,2,3,4,256,1)"] {
            assert_eq!(passive_port(text), None, "{text}");
        }
    }

    #[test]
    fn extended_ports_sizes_and_folders_are_found() {
        for text in [
            "Entering Extended Passive Mode (|||6446|)",
            "ok (!!!6446!).",
            "(|1|10.0.0.7|6446|)",
            "|||6446|",
        ] {
            assert_eq!(extended_port(text), Some(6446), "{text}");
        }
        assert_eq!(extended_port("Entering Extended Passive Mode"), None);
        assert_eq!(extended_port("(|||0|)"), None);
        assert_eq!(size(" 1234 bytes"), Some(1234));
        assert_eq!(size("none"), None);
        for (text, path) in [
            ("\"/a \"\"b\"\" c\" is the current directory", "/a \"b\" c"),
            ("\"/\" is \"the\" folder", "/"),
            ("C:\\Reports is current", "C:\\Reports"),
        ] {
            assert_eq!(quoted_path(text).as_deref(), Some(path));
        }
    }

    proptest! {
        #[test]
        fn an_incomplete_reply_is_not_parsed(
            lines in proptest::collection::vec("[ -~]{0,12}", 0..5), cut in 0_usize..200, code in 100_u16..600
        ) {
            let mut bytes = Vec::new();
            for line in &lines {
                bytes.extend(format!("{code}-{line}\r\n").bytes());
            }
            bytes.extend(format!("{code} end\r\n").bytes());
            prop_assert_eq!(whole(&bytes).0, code);
            let part = &bytes[..cut.min(bytes.len() - 1)];
            prop_assert!(matches!(parse(part), Parsed::Partial), "{:?}", String::from_utf8_lossy(part));
        }

        #[test]
        fn arbitrary_input_is_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Parsed::Whole(reply, length) | Parsed::Doubtful(reply, length) = parse(&bytes) {
                prop_assert!(length <= bytes.len() && (100..600).contains(&reply.code));
            }
            let text = String::from_utf8_lossy(&bytes);
            let _ = (passive_port(&text), extended_port(&text), size(&text), quoted_path(&text), features(&text));
        }
    }
}
