//! The parts of a message (RFC 2045 and 2046). Of damaged parts, the remaining content is returned.

use base64::{Engine as _, alphabet, engine};

use super::header::{self, Header};

/// Maximum nesting of parts.
const MAX_DEPTH: usize = 8;
/// Maximum number of parts to inspect.
const MAX_PARTS: usize = 64;
/// Maximum number of bytes of decoded content kept per part.
const MAX_CONTENT: usize = 256 * 1024;

/// Lenient Base64 for real mails: padded, truncated, or with trailing bits.
const LENIENT: engine::GeneralPurpose = engine::GeneralPurpose::new(
    &alphabet::STANDARD,
    engine::GeneralPurposeConfig::new()
        .with_decode_padding_mode(engine::DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A part without nested parts. Enclosed messages are not parsed.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// Type and subtype in lower case.
    pub(super) kind: String,
    pub(super) header: Header,
    /// Decoded content.
    pub(super) content: Vec<u8>,
}

impl Part {
    /// Returns whether the content was encoded, so that it differs from the raw message.
    pub(super) fn is_encoded(&self) -> bool {
        let encoding = self.header.first("content-transfer-encoding").unwrap_or_default();
        let encoding = encoding.trim().to_ascii_lowercase();
        encoding.starts_with("base64") || encoding.starts_with("quoted-printable")
    }
}

/// A field such as `Content-Type`: its first word in lower case and its parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Parameterised {
    pub(super) word: String,
    parameters: Vec<(String, String)>,
}

impl Parameterised {
    /// Parses a value with parameters, however its separators are written.
    pub(super) fn read(value: &str) -> Self {
        let mut pieces = split(value).into_iter();
        let word = pieces.next().unwrap_or_default();
        // `text/plain charset=x`: the semicolon was lost.
        let word = word.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
        let parameters = pieces
            .take(50)
            .filter_map(|piece| {
                let (name, value) = piece.split_once('=')?;
                let value = value.trim();
                let unquoted = match value.strip_prefix('"') {
                    Some(rest) => unquote(rest),
                    None => value.split_whitespace().next().unwrap_or_default().to_owned(),
                };
                Some((name.trim().to_ascii_lowercase(), unquoted))
            })
            .collect();
        Self { word, parameters }
    }

    /// Returns the value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| &**value)
    }
}

/// Splits a value at semicolons outside quoted strings and comments.
fn split(value: &str) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let (mut is_quoted, mut depth) = (false, 0_usize);
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        let Some(piece) = pieces.last_mut() else {
            break;
        };
        match character {
            '\\' if is_quoted => {
                piece.push(character);
                piece.extend(characters.next());
            }
            '"' if depth == 0 => {
                is_quoted = !is_quoted;
                piece.push(character);
            }
            '(' if !is_quoted => depth += 1,
            ')' if !is_quoted && depth > 0 => depth -= 1,
            ';' if !is_quoted && depth == 0 => pieces.push(String::new()),
            _ if depth > 0 => {}
            other => piece.push(other),
        }
    }
    pieces
}

/// Returns the text before the closing quotation mark.
fn unquote(rest: &str) -> String {
    let mut text = String::new();
    let mut characters = rest.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => break,
            '\\' => text.extend(characters.next()),
            other => text.push(other),
        }
    }
    text
}

/// Returns the parts of a message in order.
pub(super) fn parts(message: &[u8]) -> Vec<Part> {
    let mut parts = Vec::new();
    walk(message, "text/plain", 0, &mut parts);
    parts
}

fn walk(bytes: &[u8], default: &str, depth: usize, parts: &mut Vec<Part>) {
    if parts.len() >= MAX_PARTS {
        return;
    }
    let header = Header::read(bytes);
    let body = &bytes[header.body.min(bytes.len())..];
    let content_type = header.first("content-type").map(Parameterised::read).unwrap_or_default();
    let kind = if content_type.word.contains('/') {
        content_type.word.clone()
    } else {
        default.to_owned()
    };
    if kind.starts_with("multipart/")
        && depth < MAX_DEPTH
        && let Some(boundary) = content_type.get("boundary").filter(|boundary| !boundary.is_empty())
    {
        let inner = if kind == "multipart/digest" { "message/rfc822" } else { "text/plain" };
        let pieces = between(body, boundary);
        if !pieces.is_empty() {
            for piece in pieces {
                walk(piece, inner, depth + 1, parts);
            }
            return;
        }
    }
    let encoding = header.first("content-transfer-encoding").unwrap_or_default();
    let content = decode(encoding, &body[..body.len().min(MAX_CONTENT)]);
    parts.push(Part { kind, header, content });
}

/// Returns the parts between the boundary lines. An unterminated part ends with the message.
fn between<'a>(body: &'a [u8], boundary: &str) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut begin = None;
    let mut at = 0;
    while at < body.len() && pieces.len() < MAX_PARTS {
        let (line, next) = header::line(body, at);
        if let Some(rest) = line.strip_prefix(b"--")
            && let Some(rest) = rest.strip_prefix(boundary.as_bytes())
            && (rest.trim_ascii().is_empty() || rest.trim_ascii_end() == b"--")
        {
            if let Some(begin) = begin {
                pieces.push(&body[begin..at]);
            }
            begin = (!rest.starts_with(b"--")).then_some(next);
        }
        at = next;
    }
    if let Some(begin) = begin
        && begin < body.len()
    {
        pieces.push(&body[begin..]);
    }
    pieces
}

/// Decodes the content of an encoded word (RFC 2047).
pub(super) fn decoded_word(content: &str, is_base64: bool) -> Vec<u8> {
    if is_base64 {
        from_base64(content.as_bytes())
    } else {
        from_quoted_printable(content.replace('_', " ").as_bytes())
    }
}

fn decode(encoding: &str, content: &[u8]) -> Vec<u8> {
    match encoding.split(['(', ';', ' ']).next().unwrap_or_default().to_ascii_lowercase().as_str() {
        "base64" => from_base64(content),
        "quoted-printable" => from_quoted_printable(content),
        _ => content.to_vec(),
    }
}

fn from_base64(content: &[u8]) -> Vec<u8> {
    let mut characters: Vec<u8> = Vec::with_capacity(content.len());
    let mut at = 0;
    while at < content.len() {
        let (line, next) = header::line(content, at);
        let line = line.trim_ascii();
        // An appended footer is not Base64; its lines must not affect the rest.
        if !line
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='))
        {
            break;
        }
        characters.extend(line.iter().filter(|byte| **byte != b'='));
        at = next;
    }
    if characters.len() % 4 == 1 {
        characters.pop();
    }
    LENIENT.decode(&characters).unwrap_or_else(|_| content.to_vec())
}

fn from_quoted_printable(content: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(content.len());
    let mut at = 0;
    while at < content.len() {
        let rest = &content[at..];
        let soft = if rest.starts_with(b"=\r\n") {
            3
        } else if rest.starts_with(b"=\n") {
            2
        } else {
            0
        };
        let hex = (rest[0] == b'=')
            .then(|| rest.get(1..3).and_then(|digits| std::str::from_utf8(digits).ok()))
            .flatten()
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        at += match (soft, hex) {
            (0, Some(byte)) => {
                decoded.push(byte);
                3
            }
            (0, None) => {
                decoded.push(rest[0]);
                1
            }
            (soft, _) => soft,
        };
    }
    decoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kinds(message: &str) -> Vec<String> {
        parts(message.as_bytes()).into_iter().map(|part| part.kind).collect()
    }

    #[test]
    fn parts_are_separated_even_if_damaged() {
        let message = "Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"a b\"\r\n\r\npreamble\r\n\
             --a b\r\n\r\nhello\r\n--a b  \r\nContent-Type: Message/Delivery-Status (x)\r\nContent-Transfer-Encoding: Base64\r\n\r\n\
             QWN0aW9uOiBmYWlsZWQN\r\nCg==\r\n--a b\r\nContent-Type: message/rfc822\r\n\r\nSubject: x\r\n";
        assert_eq!(kinds(message), ["text/plain", "message/delivery-status", "message/rfc822"]);
        assert_eq!(parts(message.as_bytes())[1].content, b"Action: failed\r\n");
        // The boundary in the header differs from the one in the body.
        assert_eq!(
            kinds("Content-Type: multipart/mixed; boundary=x\n\n--y\n\nhello\n--y--\n"),
            ["multipart/mixed"]
        );
        // No boundary at all, and no content.
        assert_eq!(kinds("Content-Type: multipart/mixed\n\n--y\n\nhello\n"), ["multipart/mixed"]);
        assert_eq!(kinds("Content-Type: text/plain\n   charset=\"x\"\n\nhello"), ["text/plain"]);
        let nested = "Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: multipart/alternative; boundary=x2\n\n\
             --x2\n\nplain\n--x2\nContent-Type: text/html\n\nhtml\n--x2--\n--x\nContent-Type: image/png\n\np\n--x--\nafter";
        assert_eq!(kinds(nested), ["text/plain", "text/html", "image/png"]);
    }

    #[test]
    fn invalid_base64_ends_the_content() {
        assert_eq!(from_base64(b"aGVsbG8=\r\n\r\n-- footer --\r\n"), b"hello");
        assert_eq!(from_base64(b"aGVsbG8h\r\nd29ybGQ"), b"hello!world");
        assert_eq!(from_quoted_printable(b"a=3Db=\r\nc=XY=4"), b"a=bc=XY=4");
    }

    proptest! {
        #[test]
        fn any_bytes_are_split_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), text in "\\PC{0,200}") {
            let _ = parts(&bytes);
            let message = format!("Content-Type: multipart/mixed; boundary=x\n\n--x\n{text}\n--x\nContent-Type: multipart/mixed; boundary={text}\n\n--x--");
            let _ = parts(message.as_bytes());
            let _ = Parameterised::read(&text);
        }
    }
}
