//! The token identifies a mail as ours, and contains the test that sent it and the time.
//!
//! ```text
//! mq1:<site>:<monitor>:<sent_at>:<nonce>:<signature>
//! ```
//!
//! | part | meaning |
//! | --- | --- |
//! | `mq1` | version of this format |
//! | site, monitor | their names: lower-case letters, digits, `-`, `_`, `.` |
//! | sent_at | microseconds since 1970-01-01T00:00:00Z in base 36 (`0`–`9`, `a`–`z`) |
//! | nonce | 8 random bytes in 16 hexadecimal digits |
//! | signature | HMAC-SHA-256 over everything before its colon, in Base64 for URLs (RFC 4648, section 5), 43 characters, no padding |
//!
//! It is in the header field `X-MailQoS-Token`, in the subject and in the body, because gateways
//! drop or rewrite each of them. It is found wherever it survived: folded, quoted, in
//! quoted-printable, in Base64, escaped for HTML, or after a tag. Only a valid signature counts;
//! `classify` decides whether a message with one is the mail or about it.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    str::FromStr,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use mailqos_base::{Secret, SecretError};
use mailqos_model::{MonitorId, SiteName, UtcMicros};
use sha2::Sha256;

/// Prefix of a token.
const MARK: &[u8] = b"mq1:";
/// Maximum number of signatures to check in a mail, so that a hostile mail can't keep the probe
/// busy.
const MAX_CANDIDATES: usize = 32;
/// Length of a signature in characters.
const SIGNATURE: usize = 43;
/// Maximum length of a token: 3 + 64 + 64 + 13 + 16 + 43 and five colons.
const MAX_CHARACTERS: usize = 208;
/// Maximum length of a token including characters that gateways have inserted.
const MAX_STRETCHED: usize = 1024;

/// Content of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Site that sent the mail.
    pub site: SiteName,
    /// Monitor of the test.
    pub monitor: MonitorId,
    /// Time just before the content was sent to the server.
    pub sent_at: UtcMicros,
    /// Random bytes that make the mail unique.
    pub nonce: [u8; 8],
}

/// Reasons why no signing key is available.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The key file could not be read or created.
    #[error("the signing key {path}: {source}", path = path.display())]
    File {
        /// Path of the key file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The configured key is not available.
    #[error("the signing key: {0}")]
    Secret(#[from] SecretError),
    /// The key is too short to be secure.
    #[error(
        "the signing key has {0} bytes; at least 16 are required (create one: openssl rand -base64 32)"
    )]
    Short(usize),
    /// The key file is too short.
    #[error(
        "the signing key {path} has {bytes} bytes; at least 16 are required: restore the key from a backup, or \
         remove the file to create a new key (mails in flight are then no longer recognised)",
        path = path.display()
    )]
    ShortFile {
        /// Path of the key file.
        path: PathBuf,
        /// Size of the key file in bytes.
        bytes: usize,
    },
}

/// The key that signs tokens.
#[derive(Clone)]
pub struct SigningKey(Hmac<Sha256>);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

impl SigningKey {
    /// Creates the key from a configured secret.
    ///
    /// # Errors
    /// The secret is too short.
    pub fn new(secret: &Secret) -> Result<Self, KeyError> {
        let bytes = secret.expose().as_bytes();
        if bytes.len() < 16 {
            return Err(KeyError::Short(bytes.len()));
        }
        Hmac::new_from_slice(bytes).map(Self).map_err(|_| KeyError::Short(bytes.len()))
    }

    /// Reads the key of a state folder, and creates it if it does not exist.
    ///
    /// # Errors
    /// The key can be neither read nor created.
    pub fn of_folder(state: &Path) -> Result<Self, KeyError> {
        let path = state.join("signing.key");
        let error = |source| KeyError::File { path: path.clone(), source };
        let short = |error| match error {
            KeyError::Short(bytes) => KeyError::ShortFile { path: path.clone(), bytes },
            other => other,
        };
        for _ in 0..2 {
            match mailqos_base::files::read_text(&path, mailqos_base::files::MAX_STATE) {
                Ok(text) => return Self::new(&Secret::new(text.trim())).map_err(short),
                Err(found) if found.kind() == io::ErrorKind::NotFound => {
                    make_key(state, &path).map_err(error)?
                }
                Err(found) => return Err(error(found)),
            }
        }
        Err(error(io::ErrorKind::NotFound.into()))
    }

    fn sign(&self, text: &str) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(text.as_bytes());
        mac
    }

    /// Formats and signs a token.
    pub fn write(&self, token: &Token) -> String {
        let nonce = u64::from_be_bytes(token.nonce);
        let text = format!(
            "mq1:{}:{}:{}:{nonce:016x}",
            token.site,
            token.monitor,
            base36(token.sent_at.0)
        );
        let signature = URL_SAFE_NO_PAD.encode(self.sign(&text).finalize().into_bytes());
        format!("{text}:{signature}")
    }

    /// Parses a token; returns `None` if its signature is not valid.
    pub fn read(&self, text: &str) -> Option<Token> {
        let (signed, signature) = text.rsplit_once(':')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        self.sign(signed).verify_slice(&signature).ok()?;
        let mut parts = signed.split(':');
        let (mark, site, monitor) = (parts.next()?, parts.next()?, parts.next()?);
        let (sent_at, nonce) = (parts.next()?, parts.next()?);
        if mark != "mq1" || parts.next().is_some() || nonce.len() != 16 {
            return None;
        }
        Some(Token {
            site: SiteName::from_str(site).ok()?,
            monitor: MonitorId::from_str(monitor).ok()?,
            sent_at: UtcMicros(i64::from_str_radix(sent_at, 36).ok()?),
            nonce: u64::from_str_radix(nonce, 16).ok()?.to_be_bytes(),
        })
    }

    /// Finds the first valid token in a mail, or in the remains of one.
    pub fn find(&self, mail: &[u8]) -> Option<Token> {
        let mut left = MAX_CANDIDATES;
        self.scan(mail, &mut left)
            .or_else(|| base64_parts(mail).find_map(|part| self.scan(&part, &mut left)))
    }

    fn scan(&self, text: &[u8], left: &mut usize) -> Option<Token> {
        let mut from = 0;
        while *left > 0 {
            let at = from + text.get(from..)?.windows(3).position(|window| window == &MARK[..3])?;
            from = at + 3;
            if let Some(candidate) = gather(&text[at..text.len().min(at + MAX_STRETCHED)]) {
                *left -= 1;
                if let Some(token) = self.read(&candidate) {
                    return Some(token);
                }
            }
        }
        None
    }
}

fn make_key(state: &Path, path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(state)?;
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    let temporary = state.join(format!("signing.key.{}.tmp", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&temporary)?;
    file.write_all(URL_SAFE_NO_PAD.encode(key).as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    // The link fails if a key exists. If two probes start at the same time, one creates the key and
    // both use it.
    let linked = match std::fs::hard_link(&temporary, path) {
        // Network file systems and those in user space often don't support links.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists && !path.exists() => {
            std::fs::rename(&temporary, path)
        }
        linked => linked,
    };
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => mailqos_base::files::sync_folder(state),
    }
}

fn base36(number: i64) -> String {
    let mut rest = number.unsigned_abs();
    let mut digits = Vec::new();
    loop {
        digits.push(char::from_digit((rest % 36) as u32, 36).unwrap_or('0'));
        rest /= 36;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        digits.push('-');
    }
    digits.iter().rev().collect()
}

/// Collects a token's characters, without insertions by gateways: line folds, quote marks, soft
/// line breaks of quoted-printable, seams between encoded words, HTML escapes.
fn gather(text: &[u8]) -> Option<String> {
    let mut token = String::new();
    let (mut at, mut colons, mut signature) = (0, 0, 0);
    let mut begins_line = false;
    while at < text.len() && token.len() < MAX_CHARACTERS {
        let rest = &text[at..];
        begins_line = rest[0] == b'\n' || begins_line && matches!(rest[0], b' ' | b'\t' | b'>');
        let (character, taken) = match rest[0] {
            // Mark of a quoted line.
            b'>' if begins_line => (None, 1),
            b'\r' | b'\n' | b'\t' | b' ' => (None, 1),
            b'?' if rest.starts_with(b"?=") => (None, seam(rest)?),
            b'=' => quoted(rest)?,
            b'&' => (Some(b':'), entity(rest)?),
            character => (Some(character), 1),
        };
        at += taken;
        let Some(character) = character else { continue };
        match character {
            b':' => colons += 1,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                signature += usize::from(colons == 5)
            }
            _ => return None,
        }
        if colons > 5 {
            return None;
        }
        token.push(char::from(character));
        if signature == SIGNATURE {
            return Some(token);
        }
    }
    None
}

/// Parses quoted-printable (RFC 2045, section 6.7): a soft line break, or two hexadecimal digits.
fn quoted(rest: &[u8]) -> Option<(Option<u8>, usize)> {
    if rest.starts_with(b"=\r\n") {
        return Some((None, 3));
    }
    if rest.starts_with(b"=\n") {
        return Some((None, 2));
    }
    let digits = std::str::from_utf8(rest.get(1..3)?).ok()?;
    Some((Some(u8::from_str_radix(digits, 16).ok()?), 3))
}

/// Returns the length of the seam between two encoded words of the Q encoding (RFC 2047): `?=
/// =?utf-8?q?`.
fn seam(rest: &[u8]) -> Option<usize> {
    let blank = rest[2..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let next = rest.get(2 + blank..)?;
    if !next.starts_with(b"=?") {
        return None;
    }
    let mut marks = next.iter().enumerate().filter(|(_, byte)| **byte == b'?').skip(1);
    let (charset, _) = marks.next()?;
    let (encoding, _) = marks.next()?;
    matches!(next.get(charset + 1..encoding)?, b"q" | b"Q").then_some(2 + blank + encoding + 1)
}

/// Returns the length of a colon escaped for HTML.
fn entity(rest: &[u8]) -> Option<usize> {
    [&b"&#58;"[..], b"&#x3a;", b"&#x3A;", b"&colon;"]
        .into_iter()
        .find(|entity| rest.starts_with(entity))
        .map(<[u8]>::len)
}

/// Returns the decoded parts in Base64: bodies, and encoded words of the B encoding.
fn base64_parts(mail: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let mut parts = Vec::new();
    let mut run = Vec::new();
    let mut words = Vec::new();
    for line in mail.split(|byte| *byte == b'\n') {
        let line = line.trim_ascii();
        let mut rest = line;
        while let Some(at) = rest.windows(3).position(|w| w.eq_ignore_ascii_case(b"?B?")) {
            rest = &rest[at + 3..];
            let end = rest.iter().position(|byte| *byte == b'?').unwrap_or(rest.len());
            words.extend(STANDARD.decode(&rest[..end]).unwrap_or_default());
        }
        let is_base64 = line.len() >= 4
            && line
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='));
        if is_base64 {
            run.extend_from_slice(line);
        } else if !run.is_empty() {
            parts.push(std::mem::take(&mut run));
        }
    }
    parts.push(run);
    parts
        .into_iter()
        .map(|mut run| {
            // The reply to TOP may end within a group of four.
            run.truncate(run.len() / 4 * 4);
            STANDARD.decode(&run).unwrap_or_default()
        })
        .chain([words])
        .filter(|part| part.len() > MARK.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> SigningKey {
        SigningKey::new(&Secret::new("a key of at least sixteen bytes")).expect("key")
    }

    fn token() -> Token {
        Token {
            site: "stockholm".parse().expect("site"),
            monitor: "mail-1_a.b".parse().expect("monitor"),
            sent_at: UtcMicros(1_795_000_000_123_456),
            nonce: [0, 1, 2, 3, 252, 253, 254, 255],
        }
    }

    #[test]
    fn a_token_is_found_wherever_it_survived() {
        let text = key().write(&token());
        let (first, second) = text.split_at(40);
        let quoted: String = text.replace(':', "=3A").replace('_', "=5F");
        let (q1, q2) = quoted.split_at(quoted.find("=3A").expect("colon") + 20);
        let lines = STANDARD.encode(format!("To whom it may concern,\r\n\r\n{text}\r\n"));
        let (b1, b2) = lines.split_at(76);
        for mail in [
            format!("X-MailQoS-Token: {text}\r\n"),
            format!("Subject: [SPAM?] mailqos test\r\n {text}\r\n"),
            format!("Subject: {first}\r\n\t{second}\r\n"),
            format!("\r\n{first}=\r\n{second}\r\n"),
            format!("> Subject: mailqos test {first}\r\n>  {second}\r\n"),
            format!("<p>{}</p>", text.replace(':', "&#58;")),
            format!("Subject: =?utf-8?Q?{q1}?=\r\n =?utf-8?Q?{q2}?=\r\n"),
            format!("Subject: =?utf-8?B?{}?=\r\n", STANDARD.encode(&text)),
            format!("Content-Transfer-Encoding: base64\r\n\r\n{b1}\r\n{b2}\r\n"),
            format!("mq1:mq1:x:{text}"),
        ] {
            assert_eq!(key().find(mail.as_bytes()), Some(token()), "{mail}");
        }
    }

    #[test]
    fn a_foreign_key_or_a_changed_character_makes_a_token_foreign() {
        let text = key().write(&token());
        let other = SigningKey::new(&Secret::new("another key of sixteen bytes")).expect("key");
        assert_eq!(other.find(text.as_bytes()), None);
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'a' { b'b' } else { b'a' };
            assert_eq!(key().find(&bytes), None, "changed at {at}");
        }
        assert_eq!(key().find(&text.as_bytes()[..text.len() - 1]), None);
    }

    #[test]
    fn a_key_file_that_is_too_short_is_reported() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("signing.key");
        for text in ["", "short\n"] {
            std::fs::write(&path, text).expect("write");
            let error = SigningKey::of_folder(folder.path()).expect_err("too short").to_string();
            assert!(
                error.contains(&path.display().to_string()) && error.contains("remove the file"),
                "{error}"
            );
        }
    }

    #[test]
    fn the_key_is_created_once_and_is_private() {
        let folder = tempfile::tempdir().expect("folder");
        let state = folder.path().join("state");
        let text = SigningKey::of_folder(&state).expect("made").write(&token());
        assert!(SigningKey::of_folder(&state).expect("read").find(text.as_bytes()).is_some());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode =
                std::fs::metadata(state.join("signing.key")).expect("key").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    proptest! {
        #[test]
        fn a_formatted_token_is_parsed_again(sent_at in any::<i64>().prop_filter("i64::MIN has no base 36", |n| *n != i64::MIN), nonce in any::<[u8; 8]>()) {
            let token = Token { sent_at: UtcMicros(sent_at), nonce, ..token() };
            prop_assert_eq!(key().find(key().write(&token).as_bytes()), Some(token));
        }

        #[test]
        fn arbitrary_bytes_yield_neither_a_panic_nor_a_token(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), at in 0..600_usize) {
            let at = at.min(bytes.len());
            bytes.splice(at..at, *b"mq1:");
            prop_assert_eq!(key().find(&bytes), None);
        }

        #[test]
        fn a_token_folded_anywhere_is_found(cuts in proptest::collection::vec(4..120_usize, 0..6)) {
            let mut text = key().write(&token());
            for cut in cuts {
                if cut < text.len() && !text[..cut].ends_with("\r\n") && text.is_char_boundary(cut) && !text[cut..].starts_with("\n") {
                    text.insert_str(cut, "\r\n ");
                }
            }
            prop_assert_eq!(key().find(text.as_bytes()), Some(token()));
        }
    }
}
