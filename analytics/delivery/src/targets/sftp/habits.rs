//! Deliveries to an SFTP server in this process that behaves like real servers.

use std::{collections::BTreeMap, path::PathBuf};

use mailqos_base::Secret;
use mailqos_config::{Endpoint, Existing, FilesPlace, FilesTarget, TemporaryName, TlsMode, Verify};
use mailqos_model::Micros;
use mailqos_net::Trust;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::{
    super::file_store::{File, Proof, put_one},
    *,
};

/// Deviations of a server from OpenSSH.
#[derive(Debug, Clone, Copy)]
struct Habits {
    /// Status for a file that does not exist.
    absent: u32,
    /// Status for `stat` and reading, if they are refused.
    hidden: Option<u32>,
    /// Status for a rename, if it is refused.
    fixed: Option<u32>,
    /// Whether a rename replaces an existing file.
    replaces: bool,
    /// Whether files can be opened without truncating them.
    appends: bool,
    /// Whether someone collects each file as soon as it has its final name.
    takes: bool,
    /// Whether statuses include a text.
    texts: bool,
    /// Whether handles contain bytes that are not UTF-8.
    binary: bool,
}

const USUAL_HABITS: Habits = Habits {
    absent: 2,
    hidden: None,
    fixed: None,
    replaces: true,
    appends: true,
    takes: false,
    texts: true,
    binary: false,
};

/// The server's files.
#[derive(Debug, Default)]
struct Server {
    files: BTreeMap<String, Vec<u8>>,
    folders: Vec<String>,
    taken: Vec<String>,
    made: Vec<String>,
    written: usize,
}

/// Parses a packet's fields.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn number(&mut self) -> u32 {
        let (bytes, rest) = self.0.split_first_chunk::<4>().expect("a number");
        self.0 = rest;
        u32::from_be_bytes(*bytes)
    }

    fn long(&mut self) -> u64 {
        u64::from(self.number()) << 32 | u64::from(self.number())
    }

    fn text(&mut self) -> String {
        let length = self.number() as usize;
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        String::from_utf8(text.to_vec()).expect("UTF-8")
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = self.number() as usize;
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes.to_vec()
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat()
}

fn status(id: u32, code: u32, habits: Habits) -> Vec<u8> {
    let mut bytes = [&[101][..], &id.to_be_bytes(), &code.to_be_bytes()].concat();
    if habits.texts {
        bytes.extend([text("so"), text("")].concat());
    }
    bytes
}

impl Server {
    /// Returns the answer to a packet, without its length.
    fn answer(&mut self, kind: u8, body: &[u8], habits: Habits) -> Vec<u8> {
        if kind == 1 {
            return [&[2][..], &3_u32.to_be_bytes()].concat();
        }
        let mut fields = Fields(body);
        let id = fields.number();
        let status = |code: u32| status(id, code, habits);
        let path = if habits.binary && matches!(kind, 4..=6) {
            fields.bytes().iter().map(|byte| char::from(byte ^ 0x80)).collect()
        } else {
            fields.text()
        };
        match kind {
            // open: the handle is the path
            3 => {
                let flags = fields.number();
                let writes = flags & 2 != 0;
                match (writes, habits.hidden) {
                    (false, Some(code)) => return status(code),
                    (false, None) if !self.files.contains_key(&path) => {
                        return status(habits.absent);
                    }
                    (true, _) if flags & 16 == 0 && !habits.appends => return status(8),
                    (true, _) if flags & 16 != 0 => {
                        self.files.insert(path.clone(), Vec::new());
                    }
                    _ => {}
                }
                let mut handle = text(&path);
                if habits.binary {
                    handle.iter_mut().skip(4).for_each(|byte| *byte ^= 0x80);
                }
                [&[102][..], &id.to_be_bytes(), &handle].concat()
            }
            4 => status(0),
            5 => {
                let (offset, length) = (fields.long() as usize, fields.number() as usize);
                let bytes = self.files.get(&path).cloned().unwrap_or_default();
                if offset >= bytes.len() {
                    return status(1);
                }
                let piece = &bytes[offset..bytes.len().min(offset + length)];
                [&[103][..], &id.to_be_bytes(), &(piece.len() as u32).to_be_bytes(), piece].concat()
            }
            6 => {
                let (offset, bytes) = (fields.long() as usize, fields.bytes());
                let file = self.files.entry(path).or_default();
                file.truncate(offset);
                self.written += bytes.len();
                file.extend(bytes);
                status(0)
            }
            13 => status(if self.files.remove(&path).is_some() { 0 } else { habits.absent }),
            14 => {
                self.folders.push(path.clone());
                self.made.push(path);
                status(0)
            }
            16 => [
                &[104][..],
                &id.to_be_bytes(),
                &1_u32.to_be_bytes(),
                &text("/home/acme"),
                &text(""),
                &0_u32.to_be_bytes(),
            ]
            .concat(),
            17 => self.stat(id, &path, habits),
            18 => status(self.rename(&path, fields.text(), habits)),
            _ => status(8),
        }
    }

    fn stat(&self, id: u32, path: &str, habits: Habits) -> Vec<u8> {
        let size = match (habits.hidden, self.files.get(path)) {
            (Some(code), _) => return status(id, code, habits),
            (None, Some(bytes)) => Some(bytes.len() as u64),
            (None, None) if self.folders.iter().any(|folder| folder == path) => None,
            (None, None) => return status(id, habits.absent, habits),
        };
        let flags = u32::from(size.is_some());
        let mut bytes = [&[105][..], &id.to_be_bytes(), &flags.to_be_bytes()].concat();
        bytes.extend(size.map(u64::to_be_bytes).into_iter().flatten());
        bytes
    }

    /// Returns the status for a rename.
    fn rename(&mut self, path: &str, to: String, habits: Habits) -> u32 {
        if let Some(code) = habits.fixed {
            return code;
        }
        if !habits.replaces && self.files.contains_key(&to) {
            return 4;
        }
        let Some(bytes) = self.files.remove(path) else {
            return habits.absent;
        };
        if habits.takes {
            self.taken.push(to);
        } else {
            self.files.insert(to, bytes);
        }
        0
    }
}

async fn serve(mut stream: DuplexStream, mut server: Server, habits: Habits) -> Server {
    while let Ok(length) = stream.read_u32().await {
        let mut packet = vec![0; length as usize];
        stream.read_exact(&mut packet).await.expect("a packet");
        let answer = server.answer(packet[0], &packet[1..], habits);
        stream.write_u32(answer.len() as u32).await.expect("written");
        stream.write_all(&answer).await.expect("written");
    }
    server
}

const CONTENT: &[u8] = b"a report, and all of it";

/// Delivers `r.pdf` to the folder `2026` below `in`. Returns the result and the files on the
/// server.
async fn deliver(
    habits: Habits,
    server: Server,
    temporary: Option<&str>,
) -> (Result<Proof, DeliveryError>, Server) {
    let login = Login {
        endpoint: Endpoint {
            server: "far".into(),
            port: 22,
            tls: TlsMode::None,
            trust: Trust::default(),
            account: None,
            helo: None,
            proxy: None,
        },
        user: String::new(),
        domain: None,
        password: Secret::new(""),
        limit: Duration::from_secs(30),
        state: PathBuf::from("/nonexistent"),
    };
    let options = Options {
        server: "far".into(),
        port: 22,
        account: None,
        user: None,
        key_file: None,
        host_keys: Vec::new(),
        known_hosts: None,
        path: "in".into(),
        timeout: Micros::from_secs(30),
    };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("r.pdf");
    std::fs::write(&path, CONTENT).expect("written");
    let file = File { name: "r.pdf".into(), path };
    let target = FilesTarget {
        place: FilesPlace::Folder { path: folder.path().into() },
        existing: Existing::Replace,
        verify: Verify::Hash,
        keep: None,
        keep_last: None,
        url: None,
        patience: None,
        below: String::new(),
        temporary: temporary.map(|pattern| pattern.parse().expect("a pattern")),
    };
    let (here, there) = tokio::io::duplex(64 << 10);
    let far = tokio::spawn(serve(there, server, habits));
    let put = {
        let (read, write) = tokio::io::split(here);
        let session =
            RawSftpSession::new(tokio::io::join(Statuses::new(read), Handles::new(write)));
        let Ok(mut sftp) = Sftp::begun(&login, session, &options).await else {
            panic!("no answer");
        };
        let entered = sftp.enter(&["2026".to_owned()], true).await;
        let put = match entered {
            Ok(_) => put_one(&mut sftp, &file, &target).await,
            Err(error) => Err(error),
        };
        let _ = sftp.session.close_session();
        put
    };
    let server =
        tokio::time::timeout(Duration::from_secs(30), far).await.expect("ended").expect("served");
    (put, server)
}

const USUAL_NAME: Option<&str> = Some(".{{ name }}.{{ hash }}.part");

type Case = (&'static str, Habits, Option<&'static str>, Proof);

fn cases() -> Vec<Case> {
    vec![
        ("usual", USUAL_HABITS, USUAL_NAME, Proof::Read),
        // A missing file is reported as a failure, or as SSH_FX_NO_SUCH_PATH of later drafts.
        ("failure", Habits { absent: 4, ..USUAL_HABITS }, USUAL_NAME, Proof::Read),
        ("no such path", Habits { absent: 10, ..USUAL_HABITS }, USUAL_NAME, Proof::Read),
        ("no texts", Habits { texts: false, ..USUAL_HABITS }, USUAL_NAME, Proof::Read),
        // Azure Blob Storage, "Limitations and known issues with SFTP": no appending.
        ("no append", Habits { appends: false, ..USUAL_HABITS }, USUAL_NAME, Proof::Read),
        // velociraptor #950 and ssh2-sftp-client #372: `stat` and reading are refused; paramiko
        // #134: files are invisible.
        ("hidden", Habits { hidden: Some(3), ..USUAL_HABITS }, USUAL_NAME, Proof::Accepted),
        (
            "hidden, direct",
            Habits { hidden: Some(3), fixed: Some(3), ..USUAL_HABITS },
            None,
            Proof::Accepted,
        ),
        ("shows none", Habits { hidden: Some(2), ..USUAL_HABITS }, None, Proof::Accepted),
        // moov-io/go-sftp #256: the file is collected.
        ("taken", Habits { takes: true, ..USUAL_HABITS }, USUAL_NAME, Proof::Taken),
        // hierynomus/sshj#169: a handle of 8 bytes was sent back as 12.
        ("binary handles", Habits { binary: true, ..USUAL_HABITS }, USUAL_NAME, Proof::Read),
        // MinIO, kopia #3035: no renames.
        ("no renames", Habits { fixed: Some(8), ..USUAL_HABITS }, None, Proof::Read),
    ]
}

#[tokio::test]
async fn a_file_arrives_once_at_every_kind_of_server() {
    let server = || Server { folders: vec!["in".into()], ..Server::default() };
    for (what, habits, temporary, proof) in cases() {
        let (put, server) = deliver(habits, server(), temporary).await;
        assert_eq!(put.unwrap_or_else(|error| panic!("{what}: {error}")), proof, "{what}");
        if habits.takes {
            assert_eq!(server.taken, ["in/2026/r.pdf"], "{what}");
        } else {
            assert_eq!(server.files.keys().collect::<Vec<_>>(), ["in/2026/r.pdf"], "{what}");
            assert_eq!(server.files["in/2026/r.pdf"], CONTENT, "{what}");
        }
        assert_eq!(server.written, CONTENT.len(), "{what}: it is written again and again");
    }
}

#[tokio::test]
async fn an_old_file_is_replaced_if_renames_do_not_replace() {
    let mut server = Server { folders: vec!["in".into(), "in/2026".into()], ..Server::default() };
    server.files.insert("in/2026/r.pdf".into(), b"old".to_vec());
    let habits = Habits { replaces: false, ..USUAL_HABITS };
    let (put, server) = deliver(habits, server, USUAL_NAME).await;
    assert_eq!(put.expect("put"), Proof::Read);
    assert_eq!(server.files["in/2026/r.pdf"], CONTENT);
    assert!(server.made.is_empty(), "{:?}", server.made);
}

#[tokio::test]
async fn an_interrupted_transfer_is_resumed_or_restarted() {
    let part = TemporaryName::default().of("r.pdf", &mailqos_base::hex(&Sha256::digest(CONTENT)));
    for appends in [true, false] {
        let mut server = Server { folders: vec!["in/2026".into()], ..Server::default() };
        server.files.insert(format!("in/2026/{part}"), CONTENT[..9].to_vec());
        let (put, server) = deliver(Habits { appends, ..USUAL_HABITS }, server, USUAL_NAME).await;
        assert_eq!(put.expect("put"), Proof::Read);
        assert_eq!(server.files["in/2026/r.pdf"], CONTENT);
    }
}

#[tokio::test]
async fn a_refused_rename_suggests_the_key() {
    let server = Server { folders: vec!["in/2026".into()], ..Server::default() };
    let (put, server) =
        deliver(Habits { fixed: Some(8), ..USUAL_HABITS }, server, USUAL_NAME).await;
    let error = put.expect_err("refused");
    assert!(error.to_string().contains("temporary = \"none\""), "{error}");
    assert!(!server.files.contains_key("in/2026/r.pdf"));
}

#[test]
fn pieces_fit_into_the_servers_packets() {
    // PROTOCOL of OpenSSH, section 4.8: a limit of 0 means none, but the packet limit still
    // applies.
    for (packet, most, size) in [
        (0, 0, MAX),
        (262_144, 261_120, MAX),
        (34_000, 0, 34_000 - FRAME),
        (34_000, 32_768, 32_768),
        (34_000, 64_000, 34_000 - FRAME),
        (0, 8_192, 8_192),
    ] {
        let given = |limit: u64| (limit > 0).then_some(limit);
        let limits = Limits {
            packet_len: given(packet),
            read_len: given(most),
            write_len: given(most),
            open_handles: None,
        };
        assert_eq!(piece(limits.write_len, &limits), size, "{packet} {most}");
    }
}
