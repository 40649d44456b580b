//! The test mail: contains the token three times, and an explanation for a person who finds it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use mailqos_config::MailQos;
use mailqos_mail::{addresses, unstructured};
use mailqos_model::UtcMicros;

use super::token::{SigningKey, Token};

/// Approximate length of a token.
const TOKEN: usize = 150;

/// Boundary between the text and the filler.
const BOUNDARY: &str = "=_mailqos";
/// Line length of Base64.
const LINE: usize = 76;

/// A mail without its token. Everything that takes time is prepared before the measurement starts.
pub(super) struct Draft {
    /// Folded values of the fields.
    from: String,
    to: String,
    /// Domain of the sender.
    domain: String,
    subject: String,
    headers: String,
    body: Option<String>,
    /// Random bytes in Base64, which can't be compressed and resemble no content.
    filler: Option<String>,
}

impl Draft {
    /// Prepares the mail of a test.
    ///
    /// # Errors
    /// The system provides no random bytes.
    pub(super) fn new(options: &MailQos) -> Result<Self, getrandom::Error> {
        let shape = &options.message;
        let headers = shape
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {}\r\n", unstructured(name, value)))
            .collect();
        let mut from = options.from.clone();
        from.name.get_or_insert_with(|| "mailqos".to_owned());
        let mut draft = Self {
            from: addresses("From", [&from]),
            to: addresses("To", [&options.to]),
            domain: from.domain().to_owned(),
            subject: unstructured("Subject", shape.subject.as_deref().unwrap_or("mailqos test")),
            headers,
            body: shape.body.clone(),
            filler: None,
        };
        if let Some(size) = shape.size {
            draft.filler = Some(String::new());
            // With the longest token, the head is only some bytes longer.
            let bare = draft.assemble("", UtcMicros::now(), "", 0).len() + 4 * TOKEN;
            let characters = usize::try_from(size).unwrap_or(usize::MAX).saturating_sub(bare);
            let lines = characters / (LINE + 2);
            let mut bytes = vec![0; lines * LINE / 4 * 3];
            getrandom::fill(&mut bytes)?;
            let mut filler = String::with_capacity(characters);
            for line in bytes.chunks(LINE / 4 * 3) {
                STANDARD.encode_string(line, &mut filler);
                filler.push_str("\r\n");
            }
            draft.filler = Some(filler);
        }
        Ok(draft)
    }

    /// Composes the mail. Its lines are ASCII and shorter than 998 bytes, so that no server has a
    /// reason to change them.
    pub(super) fn write(&self, key: &SigningKey, token: &Token) -> Vec<u8> {
        let nonce = u64::from_be_bytes(token.nonce);
        let about = format!(
            "This is a test mail. mailqos uses it to measure how long mail takes from\r\n\
             the site {} to this mailbox, for the monitor {}.\r\n\
             It is normally removed within seconds. If it is still here, you can\r\n\
             delete it. No reply is needed.\r\n",
            token.site, token.monitor
        );
        self.assemble(&key.write(token), token.sent_at, &about, nonce).into_bytes()
    }

    fn assemble(&self, token: &str, sent_at: UtcMicros, about: &str, nonce: u64) -> String {
        let Self { from, to, domain, subject, headers, .. } = self;
        let date = rfc5322(sent_at);
        let mut words = String::new();
        if let Some(body) = &self.body {
            words = format!("{}\r\n\r\n", quoted_printable(body));
        }
        words = format!("{words}{about}\r\n{token}\r\n");
        // A token contains no characters that quoted-printable changes.
        let encoding = if self.body.is_some() { "quoted-printable" } else { "7bit" };
        let text = format!(
            "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n{words}"
        );
        let content = match &self.filler {
            None => text,
            Some(filler) => format!(
                "Content-Type: multipart/mixed; boundary=\"{BOUNDARY}\"\r\n\r\n\
                 --{BOUNDARY}\r\n{text}\r\n\
                 --{BOUNDARY}\r\n\
                 Content-Type: application/octet-stream\r\n\
                 Content-Transfer-Encoding: base64\r\n\
                 Content-Disposition: attachment; filename=\"filler.bin\"\r\n\r\n\
                 {filler}--{BOUNDARY}--\r\n"
            ),
        };
        format!(
            "From: {from}\r\n\
             To: {to}\r\n\
             Subject: {subject}\r\n {token}\r\n\
             Date: {date}\r\n\
             Message-ID: <mq1.{nonce:016x}@{domain}>\r\n\
             X-MailQoS-Token: {token}\r\n\
             Auto-Submitted: auto-generated\r\n\
             X-Auto-Response-Suppress: All\r\n\
             Precedence: bulk\r\n\
             {headers}MIME-Version: 1.0\r\n\
             {content}"
        )
    }
}

/// Encodes a text in quoted-printable (RFC 2045, section 6.7).
fn quoted_printable(text: &str) -> String {
    let mut written = String::new();
    for line in text.lines() {
        let mut column = 0;
        let mut characters = line.bytes().peekable();
        while let Some(byte) = characters.next() {
            let last = characters.peek().is_none();
            let plain = (b'!'..=b'~').contains(&byte) && byte != b'=' || (byte == b' ' && !last);
            let token = if plain { char::from(byte).to_string() } else { format!("={byte:02X}") };
            if column + token.len() > 73 {
                written.push_str("=\r\n");
                column = 0;
            }
            column += token.len();
            written.push_str(&token);
        }
        written.push_str("\r\n");
    }
    written.truncate(written.trim_end_matches("\r\n").len());
    written
}

fn rfc5322(moment: UtcMicros) -> String {
    moment.timestamp().strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_rfc_5322() {
        assert_eq!(rfc5322(UtcMicros(0)), "Thu, 01 Jan 1970 00:00:00 +0000");
        assert_eq!(rfc5322(UtcMicros(1_795_456_800_999_999)), "Mon, 23 Nov 2026 18:00:00 +0000");
    }
}
