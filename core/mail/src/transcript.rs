//! Transcripts of connections: chunks with their times, limited in size and without secrets.

use std::time::Instant;

use mailqos_base::{Secret, mask, one_line};
use mailqos_model::{Direction, Micros, UtcMicros};

/// Maximum number of bytes kept of a session; for the rest, only the size is recorded.
const MAX_BYTES: usize = 64 * 1024;
/// Maximum number of chunks kept of a session.
const MAX_RECORDS: usize = 4096;

/// Minimum length of a word from a secret line that is removed from other texts; removing shorter
/// ones would garble them.
const SHORTEST_FORM: usize = 8;

/// A chunk as transferred over the connection (decrypted).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Time since the connection was opened.
    pub at: Micros,
    /// Direction of the chunk.
    pub direction: Direction,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Number of further bytes that were not stored.
    pub omitted: usize,
}

/// The transcript of a session.
#[derive(Clone)]
pub struct Transcript {
    began_at: UtcMicros,
    began: Instant,
    chunks: Vec<Chunk>,
    kept: usize,
    secrets: Vec<Secret>,
}

impl std::fmt::Debug for Transcript {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Transcript({} chunks)", self.chunks.len())
    }
}

impl Transcript {
    /// Starts the transcript of a session with a server.
    pub fn begin(server: &str, port: u16) -> Self {
        let mut transcript = Self {
            began_at: UtcMicros::now(),
            began: Instant::now(),
            chunks: Vec::new(),
            kept: 0,
            secrets: Vec::new(),
        };
        transcript.note(&format!("connecting to {server} port {port}"));
        transcript
    }

    pub(super) fn hide(&mut self, secret: &Secret) {
        if !secret.expose().is_empty() && !self.secrets.contains(secret) {
            self.secrets.push(secret.clone());
        }
    }

    /// Hides a line that contains a secret in another form (Base64, a digest), in case the server
    /// repeats it.
    pub(super) fn hide_line(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let words: Vec<&str> = line.split_whitespace().collect();
        // Of two words, the second is the name of a mechanism, unless the first is a password
        // command. So is the last word of an IMAP command.
        let names_only = match words.as_slice() {
            [verb, _] => !verb.eq_ignore_ascii_case("PASS"),
            [_, verb, _] => verb.eq_ignore_ascii_case("AUTHENTICATE"),
            _ => false,
        };
        if let Some(last) = words.last()
            && !names_only
            && last.len() >= SHORTEST_FORM
        {
            self.hide(&Secret::new(*last));
        }
    }

    pub(super) fn record(&mut self, at: Instant, direction: Direction, bytes: &[u8]) {
        let keep = if self.chunks.len() < MAX_RECORDS {
            bytes.len().min(MAX_BYTES - self.kept)
        } else {
            0
        };
        if keep == 0 && !bytes.is_empty() {
            if let Some(last) = self.chunks.last_mut() {
                last.omitted += bytes.len();
            }
            return;
        }
        self.kept += keep;
        self.chunks.push(Chunk {
            at: Micros::from(at.saturating_duration_since(self.began)),
            direction,
            bytes: bytes[..keep].to_vec(),
            omitted: bytes.len() - keep,
        });
    }

    /// Returns a position in the session, for [`Transcript::withhold`].
    pub fn mark(&self) -> usize {
        self.chunks.len()
    }

    /// Removes data received since a mark, such as other people's mail.
    pub fn withhold(&mut self, since: usize) {
        for chunk in self.chunks.iter_mut().skip(since) {
            if chunk.direction == Direction::Received {
                self.kept -= chunk.bytes.len();
                chunk.omitted += chunk.bytes.len();
                chunk.bytes = Vec::new();
            }
        }
    }

    /// Records an event.
    pub fn note(&mut self, text: &str) {
        self.record(Instant::now(), Direction::Note, text.as_bytes());
    }

    /// Returns the start of the session.
    pub fn began_at(&self) -> UtcMicros {
        self.began_at
    }

    /// Returns the chunks without secrets, including those that the server repeated, even across
    /// two chunks.
    pub fn chunks(&self) -> impl Iterator<Item = Chunk> + '_ {
        let mut chunks = self.chunks.clone();
        for direction in [Direction::Sent, Direction::Received, Direction::Note] {
            let mut run: Vec<&mut Chunk> = Vec::new();
            for chunk in chunks.iter_mut().filter(|chunk| chunk.direction == direction) {
                // Chunks before and after a gap are not contiguous.
                let ends = direction == Direction::Note || chunk.omitted > 0;
                run.push(chunk);
                if ends {
                    mask(&mut run, &self.secrets);
                    run.clear();
                }
            }
            mask(&mut run, &self.secrets);
        }
        chunks.into_iter()
    }

    /// Returns a server's message in one line of at most 200 characters, without control characters
    /// and secrets.
    pub fn one_line(&self, text: &str) -> String {
        one_line(text, &self.secrets)
    }
}

/// Returns the part of a line with a secret that may be shown: the command and the mechanism.
pub(super) fn without_secret(line: &[u8]) -> Vec<u8> {
    const SHOWN: [&str; 12] = [
        "AUTH",
        "AUTHENTICATE",
        "LOGIN",
        "USER",
        "PASS",
        "APOP",
        "PLAIN",
        "SCRAM-SHA-256",
        "SCRAM-SHA-256-PLUS",
        "XOAUTH2",
        "OAUTHBEARER",
        "CRAM-MD5",
    ];
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ').peekable();
    let mut shown = String::new();
    // An IMAP tag.
    if let Some(tag) = words.next_if(|word| {
        word.len() <= 12
            && word.starts_with('A')
            && word[1..].bytes().all(|byte| byte.is_ascii_digit())
    }) {
        shown = format!("{tag} ");
    }
    while let Some(word) = words.next_if(|word| SHOWN.contains(&word.trim_end())) {
        shown.push_str(word.trim_end());
        shown.push(' ');
    }
    if words.peek().is_some() {
        shown.push_str("(secret)");
    }
    format!("{}\r\n", shown.trim_end()).into_bytes()
}

/// Replaces a secret with a mark and removes its remaining parts, across the chunks of a run.
fn mask(run: &mut [&mut Chunk], secrets: &[Secret]) {
    let text: Vec<u8> = run.iter().flat_map(|chunk| &chunk.bytes).copied().collect();
    let places = mask::places(&text, secrets);
    if places.is_empty() {
        return;
    }
    let mut places = places.into_iter().peekable();
    let (mut at, mut hidden_to) = (0, 0);
    for chunk in run {
        for byte in std::mem::take(&mut chunk.bytes) {
            if let Some(place) = places.next_if(|place| place.start == at) {
                chunk.bytes.extend_from_slice(mask::MARK.as_bytes());
                hidden_to = place.end;
            }
            if at >= hidden_to {
                chunk.bytes.push(byte);
            }
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_session_is_truncated_and_marked() {
        let mut transcript = Transcript::begin("host", 25);
        for _ in 0..100 {
            transcript.record(Instant::now(), Direction::Received, &[b'x'; 10_000]);
        }
        let chunks: Vec<_> = transcript.chunks().collect();
        let kept: usize = chunks.iter().map(|chunk| chunk.bytes.len()).sum();
        let omitted: usize = chunks.iter().map(|chunk| chunk.omitted).sum();
        assert!(kept <= MAX_BYTES);
        assert_eq!(kept + omitted, 1_000_000 + "connecting to host port 25".len());
    }

    #[test]
    fn a_secret_repeated_by_the_server_is_removed() {
        let mut transcript = Transcript::begin("host", 25);
        transcript.hide(&Secret::new("hunter2"));
        transcript.record(
            Instant::now(),
            Direction::Received,
            b"535 hunter2 is wrong, hunter2!\r\n",
        );
        assert_eq!(
            transcript.chunks().last().expect("chunk").bytes,
            b"535 (secret) is wrong, (secret)!\r\n"
        );
        assert_eq!(transcript.one_line("no\r\n\u{1b}[31mhunter2"), "no [31m(secret)");
    }

    #[test]
    fn a_secret_across_several_chunks_is_removed() {
        let mut transcript = Transcript::begin("host", 110);
        transcript.hide(&Secret::new("hunter2"));
        for (direction, bytes) in [
            (Direction::Received, &b"-ERR hun"[..]),
            (Direction::Sent, b"QUIT\r\n"),
            (Direction::Received, b"te"),
            (Direction::Received, b"r2 is no password, hunter2!\r\nhun"),
        ] {
            transcript.record(Instant::now(), direction, bytes);
        }
        // The missing part may make the difference.
        transcript.chunks.last_mut().expect("chunk").omitted = 9;
        transcript.record(Instant::now(), Direction::Received, b"ter2");
        let said: Vec<_> = transcript.chunks().skip(1).map(|chunk| chunk.bytes).collect();
        assert_eq!(
            said,
            [
                &b"-ERR (secret)"[..],
                b"QUIT\r\n",
                b"",
                b" is no password, (secret)!\r\nhun",
                b"ter2",
            ]
        );
    }

    #[test]
    fn an_encoded_secret_is_removed_too() {
        let mut transcript = Transcript::begin("host", 25);
        transcript.hide_line(b"AUTH PLAIN AGh1bnRlcgBodW50ZXIy\r\n");
        transcript.hide_line(b"AUTH SCRAM-SHA-256\r\n");
        transcript.hide_line(b"A1 AUTHENTICATE SCRAM-SHA-256\r\n");
        assert_eq!(
            transcript.one_line("AGh1bnRlcgBodW50ZXIy is wrong for SCRAM-SHA-256"),
            "(secret) is wrong for SCRAM-SHA-256"
        );
    }

    #[test]
    fn the_command_of_a_secret_line_remains() {
        for (line, shown) in [
            ("AUTH PLAIN AGh1bnRlcgBodW50ZXIy\r\n", "AUTH PLAIN (secret)\r\n"),
            ("AUTH XOAUTH2\r\n", "AUTH XOAUTH2\r\n"),
            ("A12 LOGIN probe hunter2\r\n", "A12 LOGIN (secret)\r\n"),
            ("A12 AUTHENTICATE PLAIN abc\r\n", "A12 AUTHENTICATE PLAIN (secret)\r\n"),
            ("PASS hunter2 with blanks\r\n", "PASS (secret)\r\n"),
            ("hunter2\r\n", "(secret)\r\n"),
            ("PASSWORD\r\n", "(secret)\r\n"),
        ] {
            assert_eq!(String::from_utf8_lossy(&without_secret(line.as_bytes())), shown);
        }
    }

    #[test]
    fn withheld_data_leaves_only_its_size() {
        let mut transcript = Transcript::begin("host", 110);
        let mark = transcript.mark();
        transcript.record(Instant::now(), Direction::Sent, b"TOP 1 60\r\n");
        transcript.record(Instant::now(), Direction::Received, b"+OK\r\nSubject: private\r\n.\r\n");
        transcript.withhold(mark);
        let told: Vec<_> =
            transcript.chunks().skip(1).map(|chunk| (chunk.bytes, chunk.omitted)).collect();
        assert_eq!(told, [(b"TOP 1 60\r\n".to_vec(), 0), (Vec::new(), 26)]);
    }

    #[test]
    fn a_quoted_reply_is_one_short_line() {
        let line = one_line(&"wörd\r\n".repeat(100), &[]);
        assert_eq!(line.chars().count(), 200);
        assert!(line.ends_with('…') && !line.contains('\n'));
    }
}
