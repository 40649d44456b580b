//! Encodes the handles of SFTP servers for the client. Handles are bytes
//! (draft-ietf-secsh-filexfer-02, section 3), often a binary number. The client treats them as text
//! and would send bytes that are not UTF-8 back changed (hierynomus/sshj#169). Each byte of a
//! handle therefore becomes a character for the client, and is converted back on its way to the
//! server.

use std::{
    io,
    ops::Range,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;

/// Requests whose first field is a handle: close, read, write, fstat, fsetstat.
const ABOUT_HANDLES: [u8; 5] = [4, 5, 6, 8, 10];
const EXTENDED: u8 = 200;
/// The only extension in use whose first field is a handle.
const FSYNC: &[u8] = b"fsync@openssh.com";
/// Length, type and request id.
const HEAD: usize = 9;

/// Encodes a handle as text for the client.
pub(super) fn as_text(handle: &[u8]) -> String {
    handle.iter().copied().map(char::from).collect()
}

/// Decodes the text of a handle; `None` if it is not one.
fn as_bytes(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    text.chars().map(|c| u8::try_from(c).ok()).collect()
}

/// A writer that passes on all packets with the server's original handles.
pub(super) struct Handles<W> {
    to: W,
    /// The beginning of a packet, up to its handle.
    held: Vec<u8>,
    /// Bytes to pass on before more input is accepted.
    ready: Vec<u8>,
    /// Number of the caller's bytes that `ready` represents.
    taken: usize,
    /// Number of remaining bytes of the packet to pass on unchanged.
    passing: usize,
}

impl<W> Handles<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to, held: Vec::new(), ready: Vec::new(), taken: 0, passing: 0 }
    }

    /// Takes bytes up to the end of the packet's handle. Returns `None` if they end before it.
    fn take(&mut self, bytes: &[u8]) -> Option<Option<Range<usize>>> {
        loop {
            let needed = match handle(&self.held) {
                Ok(place) => return Some(place),
                Err(needed) => needed,
            };
            let rest = &bytes[self.taken..];
            let count = (needed - self.held.len()).min(rest.len());
            if count == 0 {
                return None;
            }
            self.held.extend_from_slice(&rest[..count]);
            self.taken += count;
        }
    }

    /// Prepares the beginning of a packet for passing on.
    fn begin(&mut self, place: Option<Range<usize>>) {
        let mut packet = std::mem::take(&mut self.held);
        let length = number(&packet, 0).unwrap_or_default() as usize;
        self.passing = (4 + length).saturating_sub(packet.len());
        if let Some(place) = place
            && let Some(handle) = packet.get(place.clone()).and_then(as_bytes)
        {
            let length = length + handle.len() - place.len();
            packet[..4].copy_from_slice(&(length as u32).to_be_bytes());
            packet[place.start - 4..place.start]
                .copy_from_slice(&(handle.len() as u32).to_be_bytes());
            packet.splice(place, handle);
        }
        self.ready = packet;
    }
}

/// Returns the range of a packet's handle, if it has one, or the number of bytes needed to find it.
fn handle(packet: &[u8]) -> Result<Option<Range<usize>>, usize> {
    let kind = packet.get(4).filter(|_| packet.len() >= HEAD).ok_or(HEAD)?;
    match *kind {
        kind if ABOUT_HANDLES.contains(&kind) => text(packet, HEAD).map(Some),
        EXTENDED => {
            let name = text(packet, HEAD)?;
            if packet.get(name.clone()) == Some(FSYNC) {
                text(packet, name.end).map(Some)
            } else {
                Ok(None)
            }
        }
        _ => Ok(None),
    }
}

/// Returns the range of a string field, or the number of bytes needed to find it.
fn text(packet: &[u8], at: usize) -> Result<Range<usize>, usize> {
    let begin = at + 4;
    let end = begin + number(packet, at).ok_or(begin)? as usize;
    if packet.len() < end { Err(end) } else { Ok(begin..end) }
}

fn number(packet: &[u8], at: usize) -> Option<u32> {
    let bytes = packet.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes(*bytes))
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Handles<W> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.ready.is_empty() {
            if this.passing > 0 {
                let most = this.passing.min(bytes.len());
                let count = ready!(Pin::new(&mut this.to).poll_write(cx, &bytes[..most]))?;
                this.passing -= count;
                return Poll::Ready(Ok(count));
            }
            let Some(place) = this.take(bytes) else {
                return Poll::Ready(Ok(std::mem::take(&mut this.taken)));
            };
            this.begin(place);
        }
        // Bytes are reported as written only once they are sent, because no one flushes after a
        // packet.
        while !this.ready.is_empty() {
            let count = ready!(Pin::new(&mut this.to).poll_write(cx, &this.ready))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            this.ready.drain(..count);
        }
        Poll::Ready(Ok(std::mem::take(&mut this.taken)))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().to).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().to).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// Returns a packet of the given type with the given fields.
    fn packet(kind: u8, fields: &[&[u8]]) -> Vec<u8> {
        let mut body = vec![kind, 0, 0, 0, 7];
        for field in fields {
            body.extend((field.len() as u32).to_be_bytes());
            body.extend_from_slice(field);
        }
        [&(body.len() as u32).to_be_bytes()[..], &body].concat()
    }

    proptest! {
        /// Checks that handles of any bytes arrive unchanged, in packets that arrive in pieces, and
        /// that all other bytes are unchanged.
        #[test]
        fn handles_are_returned_unchanged(handle in any::<Vec<u8>>(), rest in any::<Vec<u8>>(), piece in 1_usize..40) {
            let text = as_text(&handle);
            let sent = [
                packet(6, &[text.as_bytes(), &rest]),
                packet(EXTENDED, &[FSYNC, text.as_bytes()]),
                packet(EXTENDED, &[b"posix-rename@openssh.com", "\u{fc}".as_bytes(), "\u{fc}".as_bytes()]),
                packet(3, &["\u{fc}".as_bytes(), &rest]),
                packet(4, &[text.as_bytes()]),
            ];
            let expected = [
                packet(6, &[&handle, &rest]),
                packet(EXTENDED, &[FSYNC, &handle]),
                sent[2].clone(),
                sent[3].clone(),
                packet(4, &[&handle]),
            ];
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let arrived = runtime.block_on(async {
                let mut arrived = Vec::new();
                let mut handles = Handles::new(&mut arrived);
                for piece in sent.concat().chunks(piece) {
                    handles.write_all(piece).await.expect("written");
                }
                arrived
            });
            prop_assert_eq!(arrived, expected.concat());
        }
    }
}
