//! Converts the statuses of real SFTP servers, which may use later drafts' codes within version 3
//! or packets without texts. The client supports only the codes 0 to 8 in complete packets, and
//! closes the session on any other. Handles are converted to text here.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, ReadBuf};

/// The packet's type: `SSH_FXP_STATUS`.
const STATUS: u8 = 101;
/// The packet's type: `SSH_FXP_HANDLE`.
const HANDLE: u8 = 102;
/// Longest status or handle in bytes. Longer packets are passed on unchanged.
const MAX_LENGTH: usize = 32 << 10;
const HEAD: usize = 5;

/// Codes of later drafts (draft-ietf-secsh-filexfer-13, section 9.1), their version 3 equivalents,
/// and their names.
const LATER: [(u32, u32, &str); 23] = [
    (9, 4, "INVALID_HANDLE"),
    (10, 2, "NO_SUCH_PATH"),
    (11, 4, "FILE_ALREADY_EXISTS"),
    (12, 3, "WRITE_PROTECT"),
    (13, 4, "NO_MEDIA"),
    (14, 4, "NO_SPACE_ON_FILESYSTEM"),
    (15, 4, "QUOTA_EXCEEDED"),
    (16, 4, "UNKNOWN_PRINCIPAL"),
    (17, 4, "LOCK_CONFLICT"),
    (18, 4, "DIR_NOT_EMPTY"),
    (19, 4, "NOT_A_DIRECTORY"),
    (20, 4, "INVALID_FILENAME"),
    (21, 4, "LINK_LOOP"),
    (22, 4, "CANNOT_DELETE"),
    (23, 4, "INVALID_PARAMETER"),
    (24, 4, "FILE_IS_A_DIRECTORY"),
    (25, 4, "BYTE_RANGE_LOCK_CONFLICT"),
    (26, 4, "BYTE_RANGE_LOCK_REFUSED"),
    (27, 4, "DELETE_PENDING"),
    (28, 4, "FILE_CORRUPT"),
    (29, 3, "OWNER_INVALID"),
    (30, 3, "GROUP_INVALID"),
    (31, 4, "NO_MATCHING_BYTE_RANGE_LOCK"),
];

/// A reader that passes on all packets, with statuses in the form of version 3.
pub(super) struct Statuses<R> {
    from: R,
    /// The beginning of a packet, or a complete status.
    held: Vec<u8>,
    /// Bytes to pass on before more input is read.
    ready: Vec<u8>,
    handed: usize,
    /// Number of bytes of the packet to pass on unchanged.
    passing: usize,
}

impl<R> Statuses<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, held: Vec::new(), ready: Vec::new(), handed: 0, passing: 0 }
    }

    /// Returns how many bytes are still to be held back: the head, then the rest of a status.
    fn missing(&self) -> usize {
        let Some(length) = self.length() else {
            return HEAD - self.held.len();
        };
        (4 + length).saturating_sub(self.held.len())
    }

    fn length(&self) -> Option<usize> {
        let bytes = self.held.first_chunk::<HEAD>()?;
        Some(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
    }

    /// Decides what to do with the bytes held back.
    fn decide(&mut self) {
        let Some(length) = self.length() else { return };
        if !matches!(self.held[4], STATUS | HANDLE) || length > MAX_LENGTH {
            self.passing = (4 + length).saturating_sub(self.held.len());
            self.ready = std::mem::take(&mut self.held);
        } else if self.held.len() >= 4 + length {
            let packet = std::mem::take(&mut self.held);
            self.ready = match packet[4] {
                HANDLE => readable(packet),
                _ => usual(&packet[4..]),
            };
        }
    }
}

/// Returns the packet of a handle, with the handle as text.
fn readable(packet: Vec<u8>) -> Vec<u8> {
    // The length, type, id and handle length precede it.
    let length = |bytes: usize| (bytes as u32).to_be_bytes();
    let Some((head, handle)) =
        packet.split_at_checked(13).filter(|(head, handle)| head[9..] == length(handle.len()))
    else {
        return packet;
    };
    let text = super::handles::as_text(handle);
    [&length(9 + text.len())[..], &head[4..9], &length(text.len()), text.as_bytes()].concat()
}

/// Returns a status in the form of version 3, with its length.
fn usual(packet: &[u8]) -> Vec<u8> {
    let mut rest = &packet[1..];
    let mut number = || -> Option<u32> {
        let (bytes, more) = rest.split_first_chunk::<4>()?;
        rest = more;
        Some(u32::from_be_bytes(*bytes))
    };
    let (id, code) = (number().unwrap_or(0), number().unwrap_or(4));
    let mut text = || -> Vec<u8> {
        let Some((bytes, more)) = rest.split_first_chunk::<4>() else {
            return Vec::new();
        };
        let length = (u32::from_be_bytes(*bytes) as usize).min(more.len());
        let (text, more) = more.split_at(length);
        rest = more;
        text.to_vec()
    };
    let (message, language) = (text(), text());
    let mut message = match String::from_utf8(message) {
        Ok(message) => message,
        Err(error) => error.into_bytes().into_iter().map(char::from).collect(),
    };
    let mut usual = code;
    if code > 8 {
        let later = LATER.iter().find(|(later, ..)| *later == code);
        let (known, name) = later.map_or((4, "unknown status"), |(_, known, name)| (*known, *name));
        usual = known;
        message = format!("{name} ({code}) {message}");
    }
    let language = if language.is_ascii() { language } else { Vec::new() };
    let mut body = vec![STATUS];
    body.extend(id.to_be_bytes());
    body.extend(usual.to_be_bytes());
    for text in [message.trim_end().as_bytes(), &language] {
        body.extend((text.len() as u32).to_be_bytes());
        body.extend(text);
    }
    let mut whole = (body.len() as u32).to_be_bytes().to_vec();
    whole.extend(body);
    whole
}

impl<R: AsyncRead + Unpin> AsyncRead for Statuses<R> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let rest = &this.ready[this.handed..];
            if !rest.is_empty() {
                let count = rest.len().min(buf.remaining());
                buf.put_slice(&rest[..count]);
                this.handed += count;
                return Poll::Ready(Ok(()));
            }
            this.ready.clear();
            this.handed = 0;
            if this.passing > 0 {
                let most = this.passing.min(buf.remaining());
                let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
                ready!(Pin::new(&mut this.from).poll_read(cx, &mut part))?;
                let count = part.filled().len();
                buf.advance(count);
                this.passing -= count;
                return Poll::Ready(Ok(()));
            }
            let mut chunk = [0; 1024];
            let most = this.missing().min(chunk.len());
            let mut part = ReadBuf::new(&mut chunk[..most]);
            ready!(Pin::new(&mut this.from).poll_read(cx, &mut part))?;
            if part.filled().is_empty() {
                // The end of the stream, within a packet or after one.
                this.ready = std::mem::take(&mut this.held);
                if this.ready.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            this.held.extend_from_slice(part.filled());
            this.decide();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = (body.len() as u32 + 1).to_be_bytes().to_vec();
        bytes.push(kind);
        bytes.extend(body);
        bytes
    }

    fn status(code: u32, message: Option<&str>) -> Vec<u8> {
        let mut body = 7_u32.to_be_bytes().to_vec();
        body.extend(code.to_be_bytes());
        if let Some(message) = message {
            body.extend((message.len() as u32).to_be_bytes());
            body.extend(message.as_bytes());
            body.extend(0_u32.to_be_bytes());
        }
        packet(STATUS, &body)
    }

    async fn read(bytes: &[u8], piece: usize) -> Vec<u8> {
        let (mut write, from) = tokio::io::duplex(piece);
        let bytes = bytes.to_vec();
        let writer = tokio::spawn(async move {
            use tokio::io::AsyncWriteExt as _;
            let _ = write.write_all(&bytes).await;
        });
        let mut all = Vec::new();
        Statuses::new(from).read_to_end(&mut all).await.expect("read");
        writer.await.expect("written");
        all
    }

    #[tokio::test]
    async fn statuses_get_the_form_of_version_3() {
        for (sent, received) in [
            (status(2, Some("No such file")), status(2, Some("No such file"))),
            (status(10, Some("gone")), status(2, Some("NO_SUCH_PATH (10) gone"))),
            (status(15, None), status(4, Some("QUOTA_EXCEEDED (15)"))),
            (status(0, None), status(0, Some(""))),
            (status(99, Some("x")), status(4, Some("unknown status (99) x"))),
        ] {
            let data = packet(103, &[9; 3000]);
            let all = [&data[..], &sent, &data].concat();
            assert_eq!(read(&all, 700).await, [&data[..], &received, &data].concat());
        }
    }

    #[tokio::test]
    async fn handles_become_text() {
        let handle = |bytes: &[u8]| {
            let fields = [&7_u32.to_be_bytes()[..], &(bytes.len() as u32).to_be_bytes(), bytes];
            packet(102, &fields.concat())
        };
        for bytes in [&b"0"[..], b"", &[0, 0, 0, 0x80], &[0xff; 8], "ü".as_bytes()] {
            let text = super::super::handles::as_text(bytes);
            let all = [handle(bytes), status(2, Some("No such file"))].concat();
            let received = [handle(text.as_bytes()), status(2, Some("No such file"))].concat();
            assert_eq!(read(&all, 5).await, received, "{bytes:?}");
        }
        // A packet that does not contain a valid handle is passed on.
        let odd = packet(102, &[1; 20]);
        assert_eq!(read(&odd, 5).await, odd);
    }

    proptest! {
        #[test]
        fn other_packets_are_passed_on_unchanged(
            packets in proptest::collection::vec((103_u8..=201, proptest::collection::vec(any::<u8>(), 0..40)), 0..6),
            piece in 1_usize..50, cut in 0_usize..20
        ) {
            let mut all: Vec<u8> = packets.iter().flat_map(|(kind, body)| packet(*kind, body)).collect();
            all.truncate(all.len().saturating_sub(cut));
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            prop_assert_eq!(runtime.block_on(read(&all, piece)), all);
        }
    }
}
