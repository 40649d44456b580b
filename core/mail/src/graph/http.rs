//! HTTP/1.1 (RFC 9112) on a recorded connection: one request, one response, within the connection's deadlines and limits.
//!
//! Pick-ups and submissions over Microsoft Graph are measured, so their requests are sent here rather than by
//! `mailqos_net::http`: each byte is timed and recorded, and several requests share a connection.

use mailqos_base::Secret;

use super::super::{Wire, WireError};

/// Maximum length of a line in a response's head, and of a chunk's size line.
const MAX_LINE: usize = 16 * 1024;
/// Maximum number of header fields per response.
const MAX_FIELDS: usize = 200;
/// Bytes reserved for the head of a response in addition to its content.
pub(super) const HEAD_ROOM: usize = 256 * 1024;
/// Size of the pieces in which content is read.
const PIECE: usize = 64 * 1024;
/// Maximum number of interim responses (1xx) before the final one.
const MAX_INTERIM: usize = 8;

/// Failures of an exchange.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum HttpFailure {
    /// The connection failed.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The server did not send valid HTTP.
    #[error("the server did not send a valid HTTP response ({0})")]
    Invalid(&'static str),
}

/// A response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: u16,
    /// Header fields, with names in lower case.
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Whether the content exceeded the limit, so that the connection is no longer usable.
    pub(super) is_cut: bool,
    /// Whether the connection can carry another request.
    pub(super) keeps_open: bool,
}

impl Reply {
    /// Returns the value of the first header field with this name.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| &**value)
    }
}

/// Writes the head of a request.
pub(super) fn head(
    method: &str,
    target: &str,
    host: &str,
    fields: &[(&str, Secret)],
    length: Option<usize>,
) -> Vec<u8> {
    let mut text = format!(
        "{method} {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: mailqos/{}\r\n",
        env!("CARGO_PKG_VERSION")
    );
    for (name, value) in fields {
        text.push_str(name);
        text.push_str(": ");
        // A value with a line break would inject another field.
        text.extend(value.expose().chars().filter(|character| !character.is_control()));
        text.push_str("\r\n");
    }
    if let Some(length) = length {
        text.push_str(&format!("Content-Length: {length}\r\n"));
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// Reads a response with at most `most` bytes of content.
pub(super) async fn read(wire: &mut Wire, most: usize) -> Result<Reply, HttpFailure> {
    for _ in 0..=MAX_INTERIM {
        let mut reply = read_head(wire).await?;
        match reply.status {
            // A change of protocol was not requested.
            101 => return Err(HttpFailure::Invalid("an unexpected upgrade")),
            100..200 => continue,
            204 | 304 => return Ok(reply),
            _ => {}
        }
        read_body(wire, most, &mut reply).await?;
        return Ok(reply);
    }
    Err(HttpFailure::Invalid("interim responses without end"))
}

async fn read_head(wire: &mut Wire) -> Result<Reply, HttpFailure> {
    let line = wire.line(MAX_LINE).await?;
    let line = String::from_utf8_lossy(&line).into_owned();
    let mut words = line.splitn(3, ' ');
    let version = words.next().unwrap_or_default();
    let status = words.next().and_then(|word| word.parse().ok());
    let (Some(minor), Some(status)) = (version.strip_prefix("HTTP/1."), status) else {
        return Err(HttpFailure::Invalid("no status line"));
    };
    if !(100..=599).contains(&status) {
        return Err(HttpFailure::Invalid("an invalid status"));
    }
    let mut reply = Reply { status, keeps_open: minor != "0", ..Reply::default() };
    loop {
        let line = wire.line(MAX_LINE).await?;
        if line.is_empty() {
            break;
        }
        if reply.fields.len() >= MAX_FIELDS {
            return Err(HttpFailure::Invalid("too many header fields"));
        }
        let line = String::from_utf8_lossy(&line);
        match line.split_once(':') {
            Some((name, value)) if !name.is_empty() && !name.contains(char::is_whitespace) => {
                reply.fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
            // Obsolete folding or invalid data, which never belong to a field used here.
            _ => {}
        }
    }
    let closes =
        |value: &str| value.split(',').any(|word| word.trim().eq_ignore_ascii_case("close"));
    if reply.field("connection").is_some_and(closes) {
        reply.keeps_open = false;
    }
    Ok(reply)
}

async fn read_body(wire: &mut Wire, most: usize, reply: &mut Reply) -> Result<(), HttpFailure> {
    let coding = reply.field("transfer-encoding").map(str::to_ascii_lowercase);
    match coding.as_deref() {
        Some("chunked") => return read_chunks(wire, most, reply).await,
        Some("identity") | None => {}
        Some(_) => return Err(HttpFailure::Invalid("an unknown transfer encoding")),
    }
    let mut lengths = reply.fields.iter().filter(|(name, _)| name == "content-length");
    let Some((_, length)) = lengths.next() else {
        return read_to_end(wire, most, reply).await;
    };
    if lengths.any(|(_, other)| other != length) {
        return Err(HttpFailure::Invalid("contradictory lengths"));
    }
    let length: u64 = length.parse().map_err(|_| HttpFailure::Invalid("an invalid length"))?;
    let wanted = usize::try_from(length).unwrap_or(usize::MAX).min(most);
    take(wire, wanted, reply).await?;
    if length > most as u64 {
        (reply.is_cut, reply.keeps_open) = (true, false);
    }
    Ok(())
}

async fn take(wire: &mut Wire, mut wanted: usize, reply: &mut Reply) -> Result<(), HttpFailure> {
    while wanted > 0 {
        let piece = wire.bytes(wanted.min(PIECE)).await?;
        wanted -= piece.len();
        reply.body.extend_from_slice(&piece);
    }
    Ok(())
}

async fn read_chunks(wire: &mut Wire, most: usize, reply: &mut Reply) -> Result<(), HttpFailure> {
    loop {
        let line = wire.line(MAX_LINE).await?;
        let line = String::from_utf8_lossy(&line).into_owned();
        let size = line.split(';').next().unwrap_or_default().trim();
        // The number parser would accept a sign.
        let is_hex = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_hexdigit());
        let size = usize::from_str_radix(size, 16).ok().filter(|_| is_hex);
        let Some(size) = size else {
            return Err(HttpFailure::Invalid("an invalid chunk"));
        };
        if size == 0 {
            break;
        }
        let room = most - reply.body.len();
        take(wire, size.min(room), reply).await?;
        if size > room {
            (reply.is_cut, reply.keeps_open) = (true, false);
            return Ok(());
        }
        if !wire.line(MAX_LINE).await?.is_empty() {
            return Err(HttpFailure::Invalid("a chunk without an end"));
        }
    }
    for _ in 0..MAX_FIELDS {
        if wire.line(MAX_LINE).await?.is_empty() {
            return Ok(());
        }
    }
    Err(HttpFailure::Invalid("trailers without end"))
}

/// Reads content of unknown length, up to the end of the connection.
async fn read_to_end(wire: &mut Wire, most: usize, reply: &mut Reply) -> Result<(), HttpFailure> {
    reply.keeps_open = false;
    loop {
        if reply.body.len() >= most {
            reply.is_cut = true;
            return Ok(());
        }
        match wire.bytes(1).await {
            Ok(byte) => reply.body.extend_from_slice(&byte),
            Err(WireError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn answer(text: &str, most: usize) -> Result<Reply, HttpFailure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let mut wire = Wire::scripted(text.as_bytes().to_vec(), Duration::from_secs(5));
            read(&mut wire, most).await
        })
    }

    #[test]
    fn content_is_read_by_length_by_chunks_and_to_the_end() {
        for (text, body, keeps_open) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokrest", "ok", true),
            ("HTTP/1.1 200 OK\nContent-Length: 2\nContent-Length: 2\n\nok", "ok", true),
            (
                "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n01\r\n!\r\n0\r\nX: y\r\n\r\n",
                "ok!",
                true,
            ),
            ("HTTP/1.1 200 OK\r\n\r\nall of it", "all of it", false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", false),
            ("HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 2\r\n\r\nok", "ok", false),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", "", true),
        ] {
            let reply = answer(text, 100).expect(text);
            assert_eq!(
                (String::from_utf8_lossy(&reply.body).as_ref(), reply.keeps_open),
                (body, keeps_open),
                "{text}"
            );
            assert!(!reply.is_cut, "{text}");
        }
    }

    #[test]
    fn content_beyond_the_limit_is_cut() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n12345678",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n12345678",
            "HTTP/1.1 200 OK\r\n\r\n12345678",
        ] {
            let reply = answer(text, 4).expect(text);
            assert_eq!(
                (reply.body.as_slice(), reply.is_cut, reply.keeps_open),
                (&b"1234"[..], true, false),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_not_http_is_refused() {
        for text in [
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 abc\r\n\r\n",
            "HTTP/1.1 999 x\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
            "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+2\r\nok\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokay\r\n0\r\n\r\n",
        ] {
            assert!(matches!(answer(text, 100), Err(HttpFailure::Invalid(_))), "{text}");
        }
        assert_eq!(
            answer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", 100),
            Err(HttpFailure::Wire(WireError::Closed))
        );
    }

    #[test]
    fn a_value_can_not_smuggle_in_a_field() {
        let head = head(
            "GET",
            "/x",
            "h",
            &[("Authorization", Secret::new("Bearer a\r\nX-Evil: 1"))],
            None,
        );
        let head = String::from_utf8(head).expect("text");
        assert_eq!(head.lines().filter(|line| line.starts_with("X-Evil")).count(), 0, "{head}");
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_refused(text in "(HTTP/1.1 200 OK\r\n)?(\\PC|\r\n|Content-Length: [0-9]|Transfer-Encoding: chunked){0,30}") {
            let _ = answer(&text, 16);
        }
    }
}
