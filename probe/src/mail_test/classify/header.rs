//! The header of a message (RFC 5322, section 2.2): its fields and its end.
//!
//! A header ends at the first empty line, and also at the first line that is not a field: if the
//! empty line was lost, the body begins there, and anything that resembles a field further down is
//! content.

/// Maximum number of fields to read. With more, the header is treated as incomplete.
const MAX_FIELDS: usize = 2000;
/// Maximum length of a stored value in bytes.
const MAX_VALUE: usize = 16 * 1024;

/// A field: its name in lower case and its unfolded value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) value: String,
}

/// A header.
#[derive(Debug, Clone, Default)]
pub(super) struct Header {
    fields: Vec<Field>,
    /// Fields between a line that is not a field and the empty line. They count only as evidence
    /// against a message.
    stray: Vec<Field>,
    /// Whether the end of the header was seen.
    pub(super) is_complete: bool,
    /// Start of the body.
    pub(super) body: usize,
}

impl Header {
    /// Reads the header at the beginning of a message or of one of its parts.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let mut header = Self::default();
        let mut is_stray = false;
        let mut at = 0;
        let mut is_first = true;
        while at < bytes.len() {
            let (line, next) = line(bytes, at);
            let begins_with_blank = line.starts_with(b" ") || line.starts_with(b"\t");
            // Many programs treat a line of spaces that follows no field as an empty line.
            if line.is_empty() || (is_first && line.trim_ascii().is_empty()) {
                header.is_complete = true;
                if !is_stray {
                    header.body = next;
                }
                return header;
            }
            // Separator lines of mailbox files, at the top or stored within the header.
            let parts_mailbox = line.starts_with(b"From ") || line.starts_with(b">From ");
            let fields = if is_stray { &mut header.stray } else { &mut header.fields };
            if begins_with_blank && !is_first {
                if let Some(field) = fields.last_mut()
                    && field.value.len() < MAX_VALUE
                {
                    field.value.push(' ');
                    field.value.push_str(text(line).trim());
                }
            } else if parts_mailbox {
                // Neither a field nor the end of the header.
            } else if let Some(field) = field(line) {
                if header.fields.len() + header.stray.len() >= MAX_FIELDS {
                    return header;
                }
                if is_stray {
                    header.stray.push(field);
                } else {
                    header.fields.push(field);
                }
            } else if !is_stray {
                is_stray = true;
                header.body = at;
            }
            if !is_stray {
                header.body = next;
            }
            is_first = false;
            at = next;
        }
        header
    }

    /// Returns the values of all fields with this name (in lower case), topmost first.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |field| field.name == name).map(|field| &*field.value)
    }

    /// Like [`Header::all`], including fields after a damaged line.
    pub(super) fn anywhere<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields
            .iter()
            .chain(&self.stray)
            .filter(move |field| field.name == name)
            .map(|field| &*field.value)
    }

    /// Returns the first value with this name.
    pub(super) fn first(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|field| field.name == name).map(|field| &*field.value)
    }

    /// Returns whether there is a field with this name, even after a damaged line.
    pub(super) fn has(&self, name: &str) -> bool {
        self.fields.iter().chain(&self.stray).any(|field| field.name == name)
    }
}

/// Returns the groups of fields in a report part (RFC 3464, section 2.1), which are separated by
/// empty lines.
pub(super) fn groups(bytes: &[u8]) -> Vec<Header> {
    const MAX_GROUPS: usize = 200;
    let mut groups = Vec::new();
    let mut rest = bytes;
    while !rest.trim_ascii().is_empty() && groups.len() < MAX_GROUPS {
        let blank = rest.len() - rest.trim_ascii_start().len();
        // The spaces before a folded line belong to it; those of empty lines are dropped.
        let begin = rest[..blank].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        rest = &rest[begin..];
        let mut end = rest.len();
        let mut at = 0;
        while at < rest.len() {
            let (line, next) = line(rest, at);
            if line.trim_ascii().is_empty() {
                end = next;
                break;
            }
            at = next;
        }
        let mut group = Header::read(&rest[..end]);
        // A report is damaged more often than forged, so fields after a damaged line count.
        group.fields.append(&mut group.stray);
        groups.push(group);
        rest = &rest[end..];
    }
    groups
}

/// Returns the line at this position without its end, and the position of the next line.
pub(super) fn line(bytes: &[u8], at: usize) -> (&[u8], usize) {
    let rest = &bytes[at..];
    let (line, next) = match rest.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&rest[..end], at + end + 1),
        None => (rest, bytes.len()),
    };
    (line.strip_suffix(b"\r").unwrap_or(line), next)
}

/// Decodes bytes as UTF-8 if valid, otherwise as ISO 8859-1.
pub(super) fn text(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes)
        .map_or_else(|_| bytes.iter().map(|byte| char::from(*byte)).collect(), str::to_owned)
}

fn field(line: &[u8]) -> Option<Field> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = line[..colon].trim_ascii_end();
    if name.is_empty() || !name.iter().all(|byte| matches!(byte, 33..=126)) {
        return None;
    }
    let mut value = text(line[colon + 1..].trim_ascii());
    if value.len() > MAX_VALUE {
        value = value.chars().take(MAX_VALUE / 4).collect();
    }
    Some(Field { name: String::from_utf8_lossy(name).to_ascii_lowercase(), value })
}

/// Returns the addresses in a field such as `From`, in lower case: those in angle brackets,
/// otherwise words with an at sign.
pub(super) fn addresses(value: &str) -> Vec<String> {
    let bare = without_quotes_and_comments(value);
    let mut found = Vec::new();
    for part in bare.split(',').take(50) {
        let address = match part.rsplit_once('<') {
            Some((_, rest)) => rest.split('>').next().unwrap_or_default().trim(),
            None => part
                .split_whitespace()
                .find(|word| word.contains('@'))
                .unwrap_or_else(|| part.trim()),
        };
        if !address.is_empty() {
            found.push(address.to_lowercase());
        }
    }
    found
}

/// Returns a text without its comments and quoted strings, which may contain misleading brackets or
/// commas.
fn without_quotes_and_comments(value: &str) -> String {
    let mut bare = String::with_capacity(value.len());
    let (mut depth, mut is_quoted) = (0_usize, false);
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' if is_quoted || depth > 0 => {
                characters.next();
            }
            '"' if depth == 0 => {
                is_quoted = !is_quoted;
                bare.push(' ');
            }
            '(' if !is_quoted => depth += 1,
            ')' if !is_quoted && depth > 0 => depth -= 1,
            _ if is_quoted || depth > 0 => {}
            other => bare.push(other),
        }
    }
    bare
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_ends_at_the_first_other_line() {
        let header = Header::read(
            b"From: a@b\r\nSubject: Undeliverable:\r\n X-MailQoS-Token: mq1\r\n\r\nX-Later: y\r\n",
        );
        assert!(header.is_complete);
        assert_eq!(header.first("subject"), Some("Undeliverable: X-MailQoS-Token: mq1"));
        assert!(!header.has("x-mailqos-token") && !header.has("x-later"));
        // Without the empty line, fields in the body are evidence against a message, but not for
        // it.
        let header = Header::read(
            b"From: a@b\nYour mail came back\nX-MailQoS-Token: mq1\nContent-Type: x/y\n\n",
        );
        assert_eq!(header.first("x-mailqos-token"), None);
        assert_eq!(header.anywhere("content-type").collect::<Vec<_>>(), ["x/y"]);
        assert_eq!(header.body, 10);
        // As in a mailbox file.
        let header =
            Header::read(b"From MAILER-DAEMON Sun Sep  7 2008\nFrom: a@b\n>From x\nTo: c\n\nbody");
        assert_eq!((header.first("from"), header.first("to")), (Some("a@b"), Some("c")));
        assert!(!Header::read(b"From: a@b\r\nTo: c\r\n").is_complete);
        assert!(Header::read(b"\r\nbody").is_complete);
    }

    #[test]
    fn addresses_in_all_notations_are_parsed() {
        for (value, expected) in [
            ("Anna <Anna@Example.com>", vec!["anna@example.com"]),
            ("MAILER-DAEMON@mx.example (Mail Delivery <System>)", vec!["mailer-daemon@mx.example"]),
            ("\"x@evil.example, <y>\" <a@b>, c@d", vec!["a@b", "c@d"]),
            ("MAILER-DAEMON <>", vec![]),
            ("MAILER-DAEMON", vec!["mailer-daemon"]),
        ] {
            assert_eq!(addresses(value), expected, "{value}");
        }
    }

    #[test]
    fn groups_are_separated_by_empty_lines() {
        let groups =
            groups(b"\r\nReporting-MTA: dns; a\r\n\r\n  \r\nAction: failed\r\nStatus: 5.1.1\r\n  (gone)\r\n\r\n");
        assert_eq!(groups.len(), 2);
        assert_eq!(groups[1].first("status"), Some("5.1.1 (gone)"));
    }
}
