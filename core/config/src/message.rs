//! Contents of a test mail: the table `message` of a monitor.

use super::{
    FromToml, Node, Problems, Table,
    key::{Optional, key},
    reference::{Key, ValueKind},
};

keys! {
    MESSAGE: MessageKeys {
        /// The size of the whole mail, from 4kB to 100MB; an attachment fills it up.
        size: Optional<Bytes> = key().otherwise("the smallest possible");
        /// The beginning of the subject; the signed token follows.
        subject: Optional<String> = key();
        /// Additional header fields.
        headers: Key = Key::pairs(&ValueKind::of::<String>());
        /// Text placed above the explanation in the mail.
        body: Optional<String> = key();
    }
}

/// Maximum size of a test mail in bytes.
const MAX: u64 = 100_000_000;
/// Minimum configurable size in bytes, about that of the head and the explanation.
const SMALLEST: u64 = 4_000;
/// Maximum length of the subject and of the value of a header field.
const MAX_LENGTH: usize = 500;
/// Maximum length of the body.
const MAX_BODY: usize = 20_000;
/// Header fields that the mail already has, or that would change its meaning.
const RESERVED: [&str; 19] = [
    "from",
    "to",
    "cc",
    "bcc",
    "sender",
    "reply-to",
    "date",
    "subject",
    "message-id",
    "mime-version",
    "return-path",
    "received",
    "x-mailqos-token",
    "auto-submitted",
    "x-auto-response-suppress",
    "precedence",
    "dkim-signature",
    "resent-from",
    "delivered-to",
];

/// Contents of a test mail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageShape {
    /// Size of the whole mail in bytes, filled up with an attachment. Without it, the mail has the
    /// smallest possible size.
    pub size: Option<u64>,
    /// Beginning of the subject; the token follows.
    pub subject: Option<String>,
    /// Additional header fields: names and values.
    pub headers: Vec<(String, String)>,
    /// Text placed above the explanation in the mail.
    pub body: Option<String>,
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) u64);

impl FromToml for Bytes {
    fn expected() -> String {
        "a size, such as \"5MB\", \"512kB\" or \"1MiB\", or a number of bytes".into()
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string", "pattern": "^[0-9.]+\\s*[A-Za-z]*\\s*$" }] })
    }

    fn from_toml(node: &Node) -> Result<Self, String> {
        if let Ok(bytes) = i64::from_toml(node) {
            if (1..1_000).contains(&bytes) {
                return Err(format!("{bytes} bytes are too few; did you mean \"{bytes}MB\"?"));
            }
            return u64::try_from(bytes)
                .map(Self)
                .map_err(|_| format!("{bytes} is not {}", Self::expected()));
        }
        let text = String::from_toml(node)?;
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let unit = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1.0,
            "k" | "kb" => 1e3,
            "m" | "mb" => 1e6,
            "kib" => 1024.0,
            "mib" => 1_048_576.0,
            "g" | "gb" => 1e9,
            "gib" => 1_073_741_824.0,
            "t" | "tb" => 1e12,
            _ => return Err(format!("{text:?} is not {}", Self::expected())),
        };
        match number.parse::<f64>() {
            Ok(number) if number * unit < 1e15 => Ok(Self((number * unit).round() as u64)),
            _ => Err(format!("{text:?} is not {}", Self::expected())),
        }
    }
}

/// Reads the table, if there is one.
pub(super) fn read(table: &mut Table, key: &Key, problems: &mut Problems) -> MessageShape {
    let Some(mut table) = table.table(key, problems) else {
        return MessageShape::default();
    };
    let shape = MessageShape {
        size: size(&mut table, problems),
        subject: text(&mut table, &MESSAGE.subject, MAX_LENGTH, false, problems),
        headers: headers(&mut table, problems),
        body: text(&mut table, &MESSAGE.body, MAX_BODY, true, problems),
    };
    table.finish(problems);
    shape
}

fn size(table: &mut Table, problems: &mut Problems) -> Option<u64> {
    let Bytes(size) = table.read(&MESSAGE.size, problems)?;
    if !(SMALLEST..=MAX).contains(&size) {
        problems.push(
            table
                .problem(
                    &MESSAGE.size,
                    format!("a test mail can't have {size} bytes"),
                    "out of range",
                )
                .help("use a size from 4kB to 100MB, or remove size to send the smallest possible mail"),
        );
        return None;
    }
    Some(size)
}

fn text(
    table: &mut Table,
    key: &Optional<String>,
    longest: usize,
    several_lines: bool,
    problems: &mut Problems,
) -> Option<String> {
    let text = table.read(key, problems)?;
    let control = |c: char| c.is_control() && !(several_lines && matches!(c, '\n' | '\r' | '\t'));
    if text.len() > longest || text.chars().any(control) {
        let help = if several_lines {
            format!("use at most {longest} bytes of text")
        } else {
            format!("use a single line of at most {longest} bytes")
        };
        problems.push(
            table
                .problem(key, format!("this is not a valid {} of a mail", key.name), "here")
                .help(help),
        );
        return None;
    }
    Some(text)
}

fn headers(table: &mut Table, problems: &mut Problems) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    let Some(fields) = table.table(&MESSAGE.headers, problems) else {
        return headers;
    };
    for (name, node) in fields.into_pairs() {
        let Some(value) = node.read::<String>(problems) else {
            continue;
        };
        let lower = name.to_ascii_lowercase();
        // RFC 5322, section 2.2: printable ASCII without the colon.
        let is_name = !name.is_empty()
            && name.len() <= 76
            && name.bytes().all(|byte| (b'!'..=b'~').contains(&byte) && byte != b':');
        let problem = if !is_name {
            Some((
                "this is not a valid name of a header field",
                "use letters, digits and hyphens, such as X-Department",
            ))
        } else if RESERVED.contains(&lower.as_str()) || lower.starts_with("content-") {
            Some((
                "mailqos sets this header field itself",
                "choose another name, such as one that begins with X-",
            ))
        } else if value.len() > MAX_LENGTH || value.chars().any(char::is_control) {
            Some((
                "this is not a valid value of a header field",
                "use a single line of at most 500 bytes",
            ))
        } else {
            None
        };
        match problem {
            Some((message, help)) => {
                problems.push(node.problem(format!("{name}: {message}"), "here").help(help))
            }
            None => headers.push((name, value)),
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{parse, test_options::MONITOR};

    fn shape(text: &str) -> (MessageShape, String) {
        let mut problems = Problems::default();
        let mut table =
            parse("mailqos.toml".as_ref(), text.to_owned(), &mut problems).expect("a table");
        let shape = read(&mut table, &MONITOR.message, &mut problems);
        (shape, problems.to_string())
    }

    #[test]
    fn all_settings_of_a_mail_are_parsed() {
        let (read, problems) = shape(
            "[message]\nsize = \"5MB\"\nsubject = \"Prüfung\"\nbody = \"\"\"\nHallo\nWelt\n\"\"\"\nheaders = { X-Department = \"IT\" }",
        );
        assert_eq!(problems, "");
        assert_eq!(
            read,
            MessageShape {
                size: Some(5_000_000),
                subject: Some("Prüfung".into()),
                headers: vec![("X-Department".into(), "IT".into())],
                body: Some("Hallo\nWelt\n".into()),
            }
        );
        for (text, bytes) in [("20000", 20_000), ("\"512 kB\"", 512_000), ("\"1.5MiB\"", 1_572_864)]
        {
            assert_eq!(shape(&format!("message = {{ size = {text} }}")).0.size, Some(bytes));
        }
    }

    #[test]
    fn settings_that_would_damage_a_mail_are_rejected() {
        for (text, expected) in [
            ("size = \"1GB\"", "can't have 1000000000 bytes"),
            ("size = \"1XB\"", "is not a size"),
            ("size = 200000000", "can't have 200000000 bytes"),
            ("size = 5000000000", "can't have 5000000000 bytes"),
            ("size = 5", "did you mean \"5MB\"?"),
            ("subject = \"a\\nBcc: b@c\"", "is not a valid subject"),
            ("headers = { Bcc = \"b@c\" }", "Bcc: mailqos sets this header field itself"),
            ("headers = { Content-Type = \"x\" }", "Content-Type: mailqos sets this"),
            ("headers = { \"X y\" = \"x\" }", "is not a valid name"),
            ("headers = { X-Y = \"a\\r\\nBcc: b@c\" }", "is not a valid value"),
            ("colour = \"red\"", "unknown key \"colour\""),
        ] {
            let (_, problems) = shape(&format!("[message]\n{text}"));
            assert!(problems.contains(expected), "{text}: {problems}");
        }
    }
}
