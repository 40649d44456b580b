//! Messages about test mails, generated from the templates in `tests/notifications`.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// A message about a mail and its expected classification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Story {
    /// Name of the message.
    pub name: String,
    /// Expected classification: `failed 5.1.1`, `left` …
    pub answer: String,
    text: String,
}

/// Returns all messages.
pub fn stories() -> Vec<Story> {
    let texts = [
        include_str!("../notifications/reports.txt"),
        include_str!("../notifications/plain.txt"),
        include_str!("../notifications/products.txt"),
        include_str!("../notifications/others.txt"),
    ];
    let mut stories: Vec<Story> = Vec::new();
    for text in texts {
        let mut is_preface = true;
        for line in text.lines() {
            if let Some(title) = line.strip_prefix("=== ") {
                is_preface = false;
                let (name, answer) = title.rsplit_once(": ").expect("a name and an answer");
                stories.push(Story {
                    name: name.to_owned(),
                    answer: answer.to_owned(),
                    text: String::new(),
                });
            } else if !is_preface {
                let story = stories.last_mut().expect("a title before the text");
                story.text.push_str(line);
                story.text.push('\n');
            }
        }
    }
    stories
}

/// Parts of a mail that are quoted in messages about it.
struct Original<'a> {
    mail: &'a str,
    header: &'a str,
}

impl Original<'_> {
    /// Returns a field as in the mail, with its name and its folds.
    fn raw(&self, name: &str) -> String {
        let mut field = String::new();
        for line in self.header.lines() {
            let is_of = line.split_once(':').is_some_and(|(key, _)| key.eq_ignore_ascii_case(name));
            let goes_on = line.starts_with([' ', '\t']) && !field.is_empty();
            if field.is_empty() && is_of || goes_on {
                field.push_str(line);
                field.push('\n');
            } else if !field.is_empty() {
                break;
            }
        }
        field
    }

    /// Returns a field's value, unfolded.
    fn value(&self, name: &str) -> String {
        let raw = self.raw(name);
        let value = raw.split_once(':').map_or("", |(_, value)| value);
        value.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn prefixed(&self, prefix: &str) -> String {
        self.mail.lines().map(|line| format!("{prefix}{line}\n")).collect()
    }
}

impl Story {
    /// Generates the message about a mail; `other` is another token.
    pub fn about(&self, mail: &[u8], other: &str) -> Vec<u8> {
        let mail = String::from_utf8_lossy(mail).replace("\r\n", "\n");
        let header = mail.split_once("\n\n").map_or(&*mail, |(header, _)| header);
        let original = Original { mail: &mail, header };
        let mut text = self.text.clone();
        for (mark, content) in [
            ("mail", mail.clone()),
            ("header", header.to_owned()),
            ("indented", original.prefixed("   ")),
            ("quoted", original.prefixed("> ")),
            (
                "own-fields",
                ["Subject", "Message-ID", "X-MailQoS-Token", "Auto-Submitted"]
                    .map(|name| original.raw(name))
                    .concat()
                    .trim_end()
                    .to_owned(),
            ),
            ("subject", original.value("Subject")),
            ("message-id", original.value("Message-ID")),
            ("token", original.value("X-MailQoS-Token")),
            ("other-token", other.to_owned()),
            ("date", "Mon, 23 Nov 2026 18:00:05 +0000".to_owned()),
        ] {
            text = text.replace(&format!("{{{{{mark}}}}}"), content.trim_end());
        }
        let row = "<tr><td style=\"padding:48px 10px\">no such address</td></tr>\n";
        text = repeated(&text, "{{html ", row);
        let picture = STANDARD.encode((0..57).collect::<Vec<u8>>());
        text = repeated(&text, "{{picture ", &format!("{picture}\n"));
        encoded(&text).replace('\n', "\r\n").into_bytes()
    }
}

/// Replaces a mark with the number of lines that it states.
fn repeated(text: &str, mark: &str, line: &str) -> String {
    let Some((before, rest)) = text.split_once(mark) else {
        return text.to_owned();
    };
    let (count, after) = rest.split_once("}}").expect("the end of a mark");
    let count = count.parse().expect("a number of lines");
    let lines = line.repeat(count);
    repeated(&format!("{before}{}{after}", lines.trim_end()), mark, line)
}

/// Encodes the text between encoding marks.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    let mut inner: Option<(&str, String)> = None;
    for line in text.lines() {
        match (&mut inner, line) {
            (None, "{{base64}}" | "{{quoted-printable}}") => inner = Some((line, String::new())),
            (Some((how, content)), "{{end}}") => {
                if *how == "{{base64}}" {
                    for row in STANDARD.encode(content.replace('\n', "\r\n")).as_bytes().chunks(76)
                    {
                        out.push_str(&String::from_utf8_lossy(row));
                        out.push('\n');
                    }
                } else {
                    out.push_str(&quoted_printable(content));
                }
                inner = None;
            }
            (Some((_, content)), line) => {
                content.push_str(line);
                content.push('\n');
            }
            (None, line) => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

fn quoted_printable(content: &str) -> String {
    let mut out = String::new();
    for line in content.lines() {
        let mut column = 0;
        for byte in line.bytes() {
            let piece = match byte {
                b'=' | b'\x7f'.. => format!("={byte:02X}"),
                other => char::from(other).to_string(),
            };
            if column + piece.len() > 75 {
                out.push_str("=\n");
                column = 0;
            }
            column += piece.len();
            out.push_str(&piece);
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mark_is_filled_in() {
        let mail = b"From: a@b\r\nSubject: x\r\n y\r\nMessage-ID: <mq1.00@b>\r\nX-MailQoS-Token: mq1:x\r\n\r\nbody\r\n";
        let stories = stories();
        assert!(stories.len() > 80, "{}", stories.len());
        let mut names: Vec<_> = stories.iter().map(|story| &story.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), stories.len(), "a name is used twice");
        for story in &stories {
            let message = String::from_utf8_lossy(&story.about(mail, "mq1:y")).into_owned();
            assert!(!message.contains("{{"), "{}: {message}", story.name);
        }
    }
}
