//! The connection below lettre: it times and limits the replies, repairs those that lettre would
//! reject, and upgrades the connection to TLS in place.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    super::{Wire, WireError},
    Reply,
};
use mailqos_base::lock::IgnorePoison as _;

/// Maximum length of a reply line in bytes; RFC 5321 allows 512.
const MAX_LINE: usize = 4096;
/// Maximum size of a reply in bytes.
const MAX_REPLY: usize = 64 * 1024;
/// Maximum length in bytes of a reply line passed to lettre, which rejects more than 1,000.
const LETTRE_LINE: usize = 900;
/// End of the content as lettre writes it (RFC 5321, section 4.1.1.4).
const END_OF_CONTENT: &[u8] = b"\r\n.\r\n";

/// The stream that lettre reads and writes.
#[derive(Clone, Default)]
pub(super) struct LettreStream(Arc<Mutex<State>>);

#[derive(Default)]
pub(super) struct State {
    pub(super) wire: Option<Wire>,
    pub(super) step: Duration,
    /// Deadline for the server to accept content.
    pub(super) accepting: Option<Duration>,
    /// Reply lines for lettre.
    pub(super) ready: Vec<u8>,
    pub(super) given: usize,
    /// Lines of an incomplete reply.
    pub(super) partial: Vec<String>,
    pub(super) replies: Vec<Reply>,
    /// The name in an EHLO that has no reply yet.
    ehlo: Option<Vec<u8>>,
    /// The unsent rest of a HELO.
    helo: Option<Vec<u8>>,
    /// Time at which the last command was sent.
    pub(super) asked_at: Option<Instant>,
    /// Content buffered until its final dot, so that both are sent together.
    pub(super) held: Option<Vec<u8>>,
    pub(super) sent_of_held: usize,
    /// Whether the held content has its final dot.
    pub(super) complete: bool,
    pub(super) failure: Option<WireError>,
}

impl fmt::Debug for LettreStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lane")
    }
}

impl LettreStream {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().ignore_poison()
    }

    pub(super) fn start(&self, mut wire: Wire, step: Duration, greets: bool) {
        wire.begin(step, MAX_REPLY);
        let mut state = self.lock();
        state.step = step;
        state.wire = Some(wire);
        state.ready.clear();
        state.given = 0;
        state.partial.clear();
        (state.ehlo, state.helo) = (None, None);
        if !greets {
            state.ready.extend_from_slice(b"220 encrypted\r\n");
        }
    }

    /// Takes the connection out, unless it contains unsolicited data.
    pub(super) fn stop(&self) -> Option<Wire> {
        let mut state = self.lock();
        let clean = state.partial.is_empty() && state.given >= state.ready.len();
        if clean { state.wire.take() } else { None }
    }

    pub(super) fn replies(&self) -> usize {
        self.lock().replies.len()
    }

    pub(super) fn secret(&self, secret: bool) {
        if let Some(wire) = &mut self.lock().wire {
            wire.secret(secret);
        }
    }

    pub(super) fn hold(&self) {
        let mut state = self.lock();
        state.held = Some(Vec::new());
        state.sent_of_held = 0;
        state.complete = false;
    }

    /// Returns whether the content was sent completely.
    pub(super) fn release(&self) -> bool {
        let mut state = self.lock();
        let all = state.complete
            && state.held.as_ref().is_some_and(|held| state.sent_of_held == held.len());
        state.held = None;
        all
    }
}

impl State {
    fn fail(&mut self, error: WireError) -> io::Error {
        let text = error.to_string();
        self.failure.get_or_insert(error);
        io::Error::other(text)
    }

    fn poll_reply_line(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(wire) = &mut self.wire else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let line = match ready!(wire.poll_line(cx, MAX_LINE)) {
            Ok(line) => line,
            Err(error) => return Poll::Ready(Err(self.fail(error))),
        };
        let at = wire.received_at();
        // Some servers reply in Latin-1, but lettre accepts only UTF-8.
        let text: String = String::from_utf8_lossy(&line)
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let bytes = text.as_bytes();
        // RFC 5321, section 4.2.1: a client that doesn't know a code uses its first digit. Codes
        // such as 571 (Courier, many filters) and 699 are in use.
        let is_reply = bytes.len() >= 3
            && matches!(bytes[0], b'2'..=b'5')
            && bytes[1].is_ascii_digit()
            && bytes[2].is_ascii_digit()
            && !bytes.get(3).is_some_and(u8::is_ascii_alphanumeric);
        if !is_reply {
            let shown = wire.transcript().one_line(&text);
            return Poll::Ready(Err(self.fail(WireError::Broken(format!(
                "the server sent {shown:?}, which is not an SMTP reply"
            )))));
        }
        let code = bytes[..3].iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
        let more = bytes.get(3) == Some(&b'-');
        let ehlo = self.ehlo.take_if(|_| !more);
        if matches!(code, 500 | 502 | 504) && (more && self.ehlo.is_some() || ehlo.is_some()) {
            // RFC 5321, section 3.2: a server without extensions is greeted by HELO. lettre treats
            // the reply to it as the reply to its EHLO.
            if let Some(name) = ehlo {
                self.helo = Some([b"HELO ".as_slice(), &name].concat());
            }
            return Poll::Ready(Ok(()));
        }
        let words = text.get(4..).unwrap_or("").to_owned();
        // A reply without text is valid, but lettre rejects it.
        let given = if words.trim().is_empty() { "(none)" } else { words.as_str() };
        let given = &given[..given.floor_char_boundary(LETTRE_LINE)];
        // lettre rejects a second digit above 5, but uses only the first one.
        self.ready.extend_from_slice(&[bytes[0], bytes[1].min(b'5'), bytes[2]]);
        self.ready.push(if more { b'-' } else { b' ' });
        self.ready.extend_from_slice(given.as_bytes());
        self.ready.extend_from_slice(b"\r\n");
        self.partial.push(words);
        if !more {
            let lines = std::mem::take(&mut self.partial);
            self.replies.push(Reply { code, lines, at });
        }
        Poll::Ready(Ok(()))
    }

    /// Sends a HELO.
    fn poll_helo(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (Some(helo), Some(wire)) = (&mut self.helo, &mut self.wire) else {
            return Poll::Ready(Ok(()));
        };
        while !helo.is_empty() {
            wire.begin(self.step, MAX_REPLY);
            match ready!(wire.poll_write(cx, helo)) {
                Ok(count) => drop(helo.drain(..count)),
                Err(error) => return Poll::Ready(Err(self.fail(error))),
            }
            self.asked_at = Some(wire.sent_at());
        }
        let flushed = ready!(wire.poll_flush(cx));
        self.helo = None;
        Poll::Ready(flushed.map_err(|error| self.fail(error)))
    }

    /// Sends the held content.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (Some(held), Some(wire)) = (&self.held, &mut self.wire) else {
            return Poll::Ready(Ok(()));
        };
        if !self.complete || self.sent_of_held == held.len() {
            return Poll::Ready(Ok(()));
        }
        while self.sent_of_held < held.len() {
            match ready!(wire.poll_write(cx, &held[self.sent_of_held..])) {
                Ok(count) => {
                    self.sent_of_held += count;
                    // Long content takes time, so only a standstill counts as a failure.
                    wire.begin(self.step, MAX_REPLY);
                }
                Err(error) => return Poll::Ready(Err(self.fail(error))),
            }
        }
        if let Some(limit) = self.accepting {
            wire.begin(limit.max(self.step), MAX_REPLY);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for LettreStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        while state.given >= state.ready.len() {
            state.ready.clear();
            state.given = 0;
            ready!(state.poll_helo(cx))?;
            ready!(state.poll_reply_line(cx))?;
        }
        let rest = &state.ready[state.given..];
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..count]);
        state.given += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for LettreStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.lock();
        let state = &mut *state;
        if let Some(held) = &mut state.held {
            held.extend_from_slice(bytes);
            // lettre writes the final dot separately, after the content.
            state.complete = bytes == END_OF_CONTENT;
            if state.complete
                && let Some(wire) = &mut state.wire
            {
                wire.begin(state.step, MAX_REPLY);
            }
            return Poll::Ready(Ok(bytes.len()));
        }
        let Some(wire) = &mut state.wire else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        wire.begin(state.step, MAX_REPLY);
        match ready!(wire.poll_write(cx, bytes)) {
            Ok(count) => {
                state.asked_at = Some(wire.sent_at());
                state.ehlo = bytes.strip_prefix(b"EHLO ").map(<[u8]>::to_vec);
                Poll::Ready(Ok(count))
            }
            Err(error) => Poll::Ready(Err(state.fail(error))),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        ready!(state.poll_held(cx))?;
        let Some(wire) = &mut state.wire else {
            return Poll::Ready(Ok(()));
        };
        match ready!(wire.poll_flush(cx)) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(state.fail(error))),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection closes when it is dropped; waiting for a server's TLS close_notify has no
        // benefit.
        Poll::Ready(Ok(()))
    }
}

impl AsyncTokioStream for LettreStream {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.lock().wire.as_ref().map(Wire::peer).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}
