//! Header fields in their transfer form: folded (RFC 5322, section 2.1.1), with encoded words (RFC
//! 2047) and encoded parameters (RFC 2231) for non-ASCII text.
//!
//! Postfix cuts lines at 998 octets and Exchange rejects them, and a DKIM signature survives
//! neither, so every field of our mails is created here.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use lettre::message::header::{Header, HeaderName, HeaderValue};
use mailqos_config::{Person, is_forbidden, is_plain};
use mailqos_model::UtcMicros;

/// Maximum length of a line with an encoded word (RFC 2047, section 2). Other lines are folded
/// there, too.
const LINE: usize = 76;
/// Bytes of text in an encoded word. With `=?utf-8?B?…?=` it has 72 of the 75 allowed characters.
const WORD: usize = 45;
/// Length above which an ASCII word, which can't be folded, is written in encoded words. A line may
/// have 998 octets.
const UNBREAKABLE: usize = 400;

fn bracketed(id: &str) -> String {
    let id: String = id.chars().filter(|c| c.is_ascii_graphic() && !"<>".contains(*c)).collect();
    format!("<{id}>")
}

/// The head of a mail, built field by field.
#[derive(Debug, Clone, Default)]
pub struct Head(String);

impl Head {
    /// Creates an empty head.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a field of free text, such as the subject (RFC 5322, section 2.2.1).
    #[must_use]
    pub fn text(self, name: &str, text: &str) -> Self {
        self.field(name, &unstructured(name, text))
    }

    /// Adds a field with addresses; omitted if there are none.
    #[must_use]
    pub fn people<'a>(self, name: &str, people: impl IntoIterator<Item = &'a Person>) -> Self {
        let value = addresses(name, people);
        if value.is_empty() { self } else { self.field(name, &value) }
    }

    /// Adds the `Date` field.
    #[must_use]
    pub fn date(self, moment: UtcMicros) -> Self {
        let date = moment.timestamp().strftime("%a, %d %b %Y %H:%M:%S +0000").to_string();
        self.field("Date", &date)
    }

    /// Adds the `Message-ID` field, given the text between the angle brackets.
    #[must_use]
    pub fn message_id(self, id: &str) -> Self {
        self.field("Message-ID", &bracketed(id))
    }

    /// Adds `In-Reply-To` and `References` (RFC 5322, section 3.6.4), given the `Message-ID`s of
    /// the related mails without angle brackets. Without any, the fields are omitted.
    #[must_use]
    pub fn references(self, ids: &[String]) -> Self {
        let all = ids.iter().map(|id| bracketed(id)).collect::<Vec<_>>().join("\r\n ");
        match ids.first() {
            Some(first) => self.field("In-Reply-To", &bracketed(first)).field("References", &all),
            None => self,
        }
    }

    /// Marks the mail as generated automatically (RFC 3834, section 5), so that vacation responders
    /// don't answer it.
    #[must_use]
    pub fn auto_generated(self) -> Self {
        self.field("Auto-Submitted", "auto-generated")
    }

    fn field(mut self, name: &str, value: &str) -> Self {
        self.0.push_str(name);
        self.0.push_str(if value.starts_with("\r\n") { ":" } else { ": " });
        self.0.push_str(value);
        self.0.push_str("\r\n");
        self
    }

    /// Returns the mail with a body that begins with its own MIME fields.
    pub fn with(&self, body: &[u8]) -> Vec<u8> {
        [self.0.as_bytes(), b"MIME-Version: 1.0\r\n", &whole_line_ends(body)].concat()
    }
}

/// Returns a text in which all lines end with CR and LF. Servers reject bare CR or LF (RFC 5321,
/// section 2.3.8): Exchange with 550 5.6.11, Postfix with `smtpd_forbid_bare_newline`.
fn whole_line_ends(text: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(text.len());
    let mut before = None;
    for (at, byte) in text.iter().copied().enumerate() {
        match byte {
            b'\n' if before != Some(b'\r') => whole.extend(b"\r\n"),
            b'\r' if text.get(at + 1) != Some(&b'\n') => whole.extend(b"\r\n"),
            byte => whole.push(byte),
        }
        before = Some(byte);
    }
    whole
}

/// A text being folded into lines. Its pieces are never split; each has the white space before it.
struct Folding {
    text: String,
    column: usize,
}

impl Folding {
    fn after(name: &str) -> Self {
        Self { text: String::new(), column: name.len() + 2 }
    }

    /// Returns the columns left on the first line, or those of a new line.
    fn room(&self) -> usize {
        if self.text.is_empty() { LINE.saturating_sub(self.column) } else { LINE - 1 }
    }

    /// Adds a piece after spaces, which become a fold if the line would be too long.
    fn add(&mut self, blanks: &str, piece: &str) {
        let length = piece.chars().count();
        let is_first = self.text.is_empty();
        let blanks = if is_first { "" } else { blanks };
        let is_encoded = piece.starts_with("=?");
        if is_first && is_encoded && self.column + length > LINE {
            // After a long field name.
            self.text.push_str("\r\n ");
            self.column = 1;
        } else if !is_first && self.column + blanks.len() + length > LINE {
            self.text.push_str("\r\n");
            self.column = 0;
        }
        self.text.push_str(blanks);
        self.text.push_str(piece);
        self.column += blanks.len() + length;
    }
}

/// Returns the value of a field of free text. `name` determines the length of the first line.
pub fn unstructured(name: &str, text: &str) -> String {
    let text: String = text.chars().map(|c| if is_forbidden(c) { ' ' } else { c }).collect();
    let text = text.trim();
    let mut folding = Folding::after(name);
    // Words with the spaces before them. Decoders drop the spaces between encoded words (section
    // 6.2), so adjacent words that need encoding are encoded together with their spaces.
    let mut words: Vec<(String, String, bool)> = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let word = rest.trim_start_matches(' ');
        let blanks = &rest[..rest.len() - word.len()];
        let end = word.find(' ').unwrap_or(word.len());
        let needs = must_encode(&word[..end]) || blanks.len() > LINE;
        match words.last_mut() {
            Some((_, run, true)) if needs => {
                run.push_str(blanks);
                run.push_str(&word[..end]);
            }
            _ => words.push((blanks.to_owned(), word[..end].to_owned(), needs)),
        }
        rest = &word[end..];
    }
    for (blanks, word, needs) in words {
        if needs {
            let mut blanks = if blanks.len() > LINE { " " } else { blanks.as_str() };
            for encoded in encoded_words(&word, folding.room()) {
                folding.add(blanks, &encoded);
                blanks = " ";
            }
        } else {
            folding.add(&blanks, &word);
        }
    }
    folding.text
}

fn must_encode(word: &str) -> bool {
    !word.bytes().all(|byte| (b'!'..=b'~').contains(&byte))
        || word.contains("=?")
        || word.len() > UNBREAKABLE
}

/// Encodes a text in encoded words (RFC 2047) without splitting characters; the first one fits into
/// `room` columns if possible.
fn encoded_words(text: &str, room: usize) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text;
    let mut most = (room.saturating_sub("=?utf-8?B??=".len()) / 4 * 3).min(WORD);
    while !rest.is_empty() {
        let end = rest.floor_char_boundary(most);
        let end = if end == 0 { rest.floor_char_boundary(WORD) } else { end };
        let part = &rest[..end];
        most = WORD;
        words.push(format!("=?utf-8?B?{}?=", STANDARD.encode(part)));
        rest = &rest[part.len()..];
    }
    words
}

/// Returns the value of a field of addresses, folded between and, if necessary, within them.
pub fn addresses<'a>(name: &str, people: impl IntoIterator<Item = &'a Person>) -> String {
    let mut folding = Folding::after(name);
    let mut people = people.into_iter().peekable();
    while let Some(person) = people.next() {
        let comma = if people.peek().is_some() { "," } else { "" };
        match person.name.as_deref().filter(|name| !name.is_empty()) {
            None => folding.add(" ", &format!("{}{comma}", person.address)),
            Some(name) => {
                for piece in display_name(name, folding.room()) {
                    folding.add(" ", &piece);
                }
                folding.add(" ", &format!("<{}>{comma}", person.address));
            }
        }
    }
    folding.text
}

/// Returns a display name in pieces between which a line may be folded.
fn display_name(name: &str, room: usize) -> Vec<String> {
    let name: String = name.chars().map(|c| if is_forbidden(c) { ' ' } else { c }).collect();
    if !name.is_ascii() || name.contains("=?") || name.len() > LINE - 10 {
        // In a phrase (section 5), Base64 uses only allowed characters.
        return encoded_words(&name, room);
    }
    if name.chars().all(is_plain) {
        return name.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    }
    vec![format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))]
}

/// A field of a MIME part with a file name as a parameter. `Content-Disposition` has the name in
/// the form of RFC 2231, and an ASCII name for programs that don't support it. `Content-Type` has
/// it as `name` in encoded words, because Outlook up to 2003 looks only there.
#[derive(Debug, Clone)]
pub struct FileField<const IS_TYPE: bool> {
    value: String,
    name: String,
}

/// `Content-Type` with a file name.
pub type NamedType = FileField<true>;
/// `Content-Disposition` with a file name.
pub type Disposition = FileField<false>;

impl<const IS_TYPE: bool> FileField<IS_TYPE> {
    /// Creates the field from a media type, `attachment` or `inline`, and the file's name.
    pub fn new(value: &str, name: &str) -> Self {
        let tame = |c: char| {
            if is_forbidden(c) || matches!(c, '"' | '\\' | '/') { '_' } else { c }
        };
        Self { value: value.to_owned(), name: name.chars().map(tame).collect() }
    }

    fn parameters(&self) -> Vec<String> {
        let name = &self.name;
        let is_ascii = name.is_ascii() && !name.contains("=?");
        match (IS_TYPE, is_ascii) {
            (true, true) => vec![format!("name=\"{name}\"")],
            (true, false) => {
                vec![format!("name=\"{}\"", encoded_words(name, LINE - 9).join("\r\n "))]
            }
            (false, true) => vec![format!("filename=\"{name}\"")],
            (false, false) => {
                let mut parameters = extended("filename", name);
                parameters.push(format!("filename=\"{}\"", in_ascii(name)));
                parameters
            }
        }
    }
}

impl<const IS_TYPE: bool> Header for FileField<IS_TYPE> {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str(if IS_TYPE { "Content-Type" } else { "Content-Disposition" })
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Err("only written".into())
    }

    fn display(&self) -> HeaderValue {
        let mut text = self.value.clone();
        for parameter in self.parameters() {
            text.push_str(";\r\n ");
            text.push_str(&parameter);
        }
        HeaderValue::dangerous_new_pre_encoded(Self::name(), self.value.clone(), text)
    }
}

/// Returns a parameter in the form of RFC 2231, section 4, in numbered pieces (section 3) if it is
/// too long for a line.
fn extended(key: &str, value: &str) -> Vec<String> {
    let mut pieces = vec![String::new()];
    for character in value.chars() {
        let mut bytes = [0; 4];
        let encoded: String = character
            .encode_utf8(&mut bytes)
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                    char::from(byte).to_string()
                }
                other => format!("%{other:02X}"),
            })
            .collect();
        match pieces.last_mut() {
            // A single piece is supported more widely than several, so only a value that would
            // break the line is split.
            Some(piece) if piece.len() + encoded.len() <= 800 => piece.push_str(&encoded),
            _ => pieces.push(encoded),
        }
    }
    match pieces.as_slice() {
        [only] => vec![format!("{key}*=utf-8''{only}")],
        several => several
            .iter()
            .enumerate()
            .map(|(number, piece)| match number {
                0 => format!("{key}*0*=utf-8''{piece}"),
                number => format!("{key}*{number}*={piece}"),
            })
            .collect(),
    }
}

/// Returns a recognisable form of a name in ASCII.
fn in_ascii(name: &str) -> String {
    let mut text = String::new();
    for character in name.chars() {
        match character {
            'ä' | 'æ' => text.push_str("ae"),
            'Ä' | 'Æ' => text.push_str("Ae"),
            'ö' | 'ø' | 'œ' => text.push_str("oe"),
            'Ö' | 'Ø' | 'Œ' => text.push_str("Oe"),
            'ü' => text.push_str("ue"),
            'Ü' => text.push_str("Ue"),
            'ß' => text.push_str("ss"),
            'å' | 'á' | 'à' | 'â' | 'ã' => text.push('a'),
            'Å' | 'Á' | 'À' | 'Â' | 'Ã' => text.push('A'),
            'é' | 'è' | 'ê' | 'ë' | 'ě' | 'ę' => text.push('e'),
            'É' | 'È' | 'Ê' | 'Ë' => text.push('E'),
            'í' | 'ì' | 'î' | 'ï' => text.push('i'),
            'ó' | 'ò' | 'ô' | 'õ' => text.push('o'),
            'ú' | 'ù' | 'û' => text.push('u'),
            'ç' | 'č' | 'ć' => text.push('c'),
            'ñ' | 'ň' | 'ń' => text.push('n'),
            'š' | 'ś' => text.push('s'),
            'ž' | 'ź' | 'ż' => text.push('z'),
            'ł' => text.push('l'),
            '–' | '—' => text.push('-'),
            other if other.is_ascii() => text.push(other),
            _ if text.ends_with('_') => {}
            _ => text.push('_'),
        }
    }
    text
}

/// The recipients that the header of a mail names.
pub(crate) fn recipients(mail: &[u8]) -> Vec<String> {
    let fields = fields_of(mail);
    let is_recipients =
        |name: &str| RECIPIENTS.iter().any(|known| name.eq_ignore_ascii_case(known));
    let named = fields.iter().filter(|(name, _)| is_recipients(name));
    named.flat_map(|(_, range)| mailboxes(&mail[range.clone()])).collect()
}

/// The fields with recipients.
const RECIPIENTS: [&str; 3] = ["to", "cc", "bcc"];

/// A mail without some fields, and with these fields of addresses, one address a line; those
/// without addresses are omitted.
pub(crate) fn with_recipients(
    mail: &[u8],
    dropped: &[&str],
    added: &[(&str, &[String])],
) -> Vec<u8> {
    let mut written = Vec::with_capacity(mail.len());
    for (name, addresses) in added.iter().filter(|(_, addresses)| !addresses.is_empty()) {
        written.extend_from_slice(format!("{name}: {}\r\n", addresses.join(",\r\n ")).as_bytes());
    }
    let mut end = 0;
    for (name, range) in fields_of(mail) {
        end = range.end;
        if !dropped.iter().any(|dropped| name.eq_ignore_ascii_case(dropped)) {
            written.extend_from_slice(&mail[range]);
        }
    }
    written.extend_from_slice(&mail[end..]);
    written
}

/// The fields of a mail's header: the name, and where the field is.
fn fields_of(mail: &[u8]) -> Vec<(String, std::ops::Range<usize>)> {
    let mut fields: Vec<(String, std::ops::Range<usize>)> = Vec::new();
    let mut start = 0;
    for line in mail.split_inclusive(|byte| *byte == b'\n') {
        let range = start..start + line.len();
        start = range.end;
        match line {
            b"\r\n" | b"\n" => break,
            [b' ' | b'\t', ..] => {
                if let Some((_, last)) = fields.last_mut() {
                    last.end = range.end;
                }
            }
            _ => {
                let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
                fields.push((String::from_utf8_lossy(&line[..colon]).into_owned(), range));
            }
        }
    }
    fields
}

/// The addresses in a field, in lower case; quoted names may contain commas and brackets.
fn mailboxes(field: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(field);
    let value = text.split_once(':').map_or("", |(_, value)| value);
    let (mut found, mut current, mut is_quoted, mut is_escaped) =
        (Vec::new(), String::new(), false, false);
    for character in value.chars().chain([',']) {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            ',' | ';' if !is_quoted => {
                let address = current.trim().trim_end_matches('>').trim();
                if address.contains('@') {
                    found.push(address.to_lowercase());
                }
                current.clear();
            }
            // What is before the bracket is a name.
            '<' | ':' if !is_quoted => current.clear(),
            _ if is_quoted => {}
            character => current.push(character),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Decodes a field like a mail reader: unfolded, with decoded words.
    fn decoded(value: &str) -> String {
        let unfolded = value.replace("\r\n", "");
        let mut bytes: Vec<u8> = Vec::new();
        let mut after_word = false;
        let mut rest = unfolded.as_str();
        while !rest.is_empty() {
            let blanks = rest.len() - rest.trim_start_matches(' ').len();
            let (gap, tail) = rest.split_at(blanks);
            let end = tail.find(' ').unwrap_or(tail.len());
            let (word, tail) = tail.split_at(end);
            let encoded = word.strip_prefix("=?utf-8?B?").and_then(|word| word.strip_suffix("?="));
            if !(after_word && encoded.is_some()) {
                bytes.extend_from_slice(gap.as_bytes());
            }
            match encoded {
                Some(encoded) => bytes.extend(STANDARD.decode(encoded).expect("Base64")),
                None => bytes.extend_from_slice(word.as_bytes()),
            }
            after_word = encoded.is_some();
            rest = tail;
        }
        String::from_utf8(bytes).expect("UTF-8")
    }

    fn longest(field: &str) -> usize {
        field.split("\r\n").map(str::len).max().unwrap_or(0)
    }

    #[test]
    fn many_recipients_are_folded_into_lines() {
        let people: Vec<Person> = (0..120)
            .map(|number| {
                format!("Person {number} <person.number.{number}@example.com>")
                    .parse()
                    .expect("a person")
            })
            .collect();
        let head = Head::new().people("To", &people);
        assert!(longest(&head.0) <= 78, "{}", head.0);
        // No text is lost, and no character is split.
        let unfolded = head.0.replace("\r\n ", " ");
        for person in &people {
            assert!(unfolded.contains(&person.to_string()), "{person}");
        }
        assert_eq!(unfolded.matches('@').count(), 120);
    }

    #[test]
    fn names_are_quoted_or_encoded() {
        for (person, field) in [
            ("anna@example.com", "anna@example.com"),
            ("Anna Berg <anna@example.com>", "Anna Berg <anna@example.com>"),
            ("\"Berg, Anna\" <anna@example.com>", "\"Berg, Anna\" <anna@example.com>"),
            ("J. R. <j@example.com>", "\"J. R.\" <j@example.com>"),
            ("Jörg <j@example.com>", "=?utf-8?B?SsO2cmc=?= <j@example.com>"),
        ] {
            let person: Person = person.parse().expect("a person");
            assert_eq!(addresses("To", [&person]), field);
        }
        // A line break that the parser missed does not start a new field.
        let person = Person {
            name: Some("Anna\r\nBcc: x@example.com".to_owned()),
            address: "anna@example.com".to_owned(),
        };
        let field = Head::new().people("From", [&person]).0;
        assert!(!field.contains("\r\nBcc"), "{field}");
        let subject = Head::new().text("Subject", "x\r\nBcc: x@example.com\r\n\r\nbody").0;
        assert_eq!(subject, "Subject: x  Bcc: x@example.com    body\r\n");
    }

    #[test]
    fn file_names_suit_old_and_new_mail_programs() {
        let written = |field: &dyn Fn() -> HeaderValue| {
            let mut headers = lettre::message::header::Headers::new();
            headers.insert_raw(field());
            headers.to_string()
        };
        let disposition = |name: &str| written(&|| Disposition::new("attachment", name).display());
        let named = |name: &str| written(&|| NamedType::new("application/pdf", name).display());
        assert_eq!(
            disposition("r.pdf"),
            "Content-Disposition: attachment;\r\n filename=\"r.pdf\"\r\n"
        );
        assert_eq!(named("r.pdf"), "Content-Type: application/pdf;\r\n name=\"r.pdf\"\r\n");
        assert_eq!(
            disposition("Bericht für Köln.pdf"),
            "Content-Disposition: attachment;\r\n filename*=utf-8''Bericht%20f%C3%BCr%20K%C3%B6ln.pdf;\r\n \
             filename=\"Bericht fuer Koeln.pdf\"\r\n"
        );
        assert_eq!(
            named("Bericht ö.pdf"),
            "Content-Type: application/pdf;\r\n name=\"=?utf-8?B?QmVyaWNodCDDti5wZGY=?=\"\r\n"
        );
        let hostile = disposition("a\"; filename=evil.exe\r\nBcc: x@example.com.pdf");
        assert_eq!(hostile.matches("\r\n").count(), 2, "{hostile}");
        assert_eq!(hostile.matches('"').count(), 2, "{hostile}");
        let long = disposition(&"東".repeat(230));
        assert!(longest(&long) < 998 && long.contains("filename*1*="), "{long}");
    }

    #[test]
    fn a_long_word_is_split() {
        let text = format!("Mail quality {} end", "x".repeat(3_000));
        let field = unstructured("Subject", &text);
        assert!(longest(&field) < 998);
        assert_eq!(decoded(&field), text);
    }

    #[test]
    fn every_line_of_a_mail_ends_with_cr_and_lf() {
        // gen_smtp #253 and packetfence #5380 (bare LF), msmtp #145 (bare CR).
        let mail = Head::new().with(b"a\nb\r\nc\rd\r\r\n\n.\n");
        let mail = String::from_utf8(mail).expect("text");
        assert_eq!(mail, "MIME-Version: 1.0\r\na\r\nb\r\nc\r\nd\r\n\r\n\r\n.\r\n");
    }

    proptest! {
        #[test]
        fn folded_texts_are_decoded_again(text in "[ -~äöß東😀]{0,300}|([a-z]{1,500} ){0,5}") {
            let field = unstructured("Subject", &text);
            prop_assert_eq!(decoded(&field), text.trim());
            for (number, line) in field.split("\r\n").enumerate() {
                prop_assert!(number == 0 || line.starts_with(' '), "{}", field);
                prop_assert!(number == 0 || !line.trim().is_empty(), "{}", field);
                let has_encoded = line.contains("=?utf-8?B?");
                let start = if number == 0 { "Subject: ".len() } else { 0 };
                prop_assert!(!has_encoded || start + line.len() <= LINE, "{}", field);
                prop_assert!(start + line.len() <= 998, "{}", field);
                for word in line.split(' ').filter(|word| word.starts_with("=?utf-8?B?")) {
                    prop_assert!(word.len() <= 75, "{}", word);
                }
            }
        }

        #[test]
        fn folded_addresses_are_decoded_again(
            names in proptest::collection::vec("[ -~äö東]{0,30}", 1..30),
        ) {
            let people: Vec<Person> = names
                .iter()
                .enumerate()
                .map(|(number, name)| {
                    let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
                    Person { name: (!name.is_empty()).then_some(name), address: format!("a{number}@example.com") }
                })
                .collect();
            let field = addresses("To", &people);
            prop_assert!(longest(&field) <= 998);
            prop_assert!(field.is_ascii());
            let read = mailqos_config::split_list(&field.replace("\r\n", ""));
            prop_assert_eq!(read.len(), people.len());
            for (read, person) in read.iter().zip(&people) {
                let read: Person = read.parse().map_err(|error| TestCaseError::fail(format!("{error}")))?;
                prop_assert_eq!(&read.address, &person.address);
                let shown = read.name.as_deref().map(decoded);
                prop_assert_eq!(shown.as_deref(), person.name.as_deref());
            }
        }
    }
}
