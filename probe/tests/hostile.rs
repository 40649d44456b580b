//! Mailbox servers that send without end, break off in the middle, or mix up their answers: each
//! test ends with an outcome, and accepts no more from the server than its limits.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use common::{IN_FILE, load, monitor, text};
use mailqos_model::{Outcome, Sample, Stage};
use mailqos_probe::tester::Tester;
use mailqos_tests::servers::{MailServer, Options};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

/// Maximum number of bytes accepted over one connection: the limit of a mail, plus buffers.
const MAX_TAKEN: u64 = 150_000_000;
/// Time after which a test is considered to hang.
const HANGS: Duration = Duration::from_secs(120);

/// Point of the attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Greeting,
    Login,
    List,
    Read,
}

/// What the server sends then instead of an answer.
#[derive(Debug, Clone, Copy)]
enum Attack {
    /// First this, then that forever.
    Endless(&'static str, &'static str),
    /// This, then the connection ends.
    Break(&'static str),
    /// This, byte by byte and forever, each byte in time.
    Drip(&'static str),
}

struct Hostile {
    imap: bool,
    at: At,
    attack: Attack,
    /// Maximum number of bytes sent over one connection.
    most: AtomicU64,
}

/// A connection and the number of bytes sent over it.
struct Connection {
    stream: BufReader<TcpStream>,
    sent: u64,
}

impl Hostile {
    async fn start(imap: bool, at: At, attack: Attack) -> (Arc<Self>, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let port = listener.local_addr().expect("address").port();
        let most = AtomicU64::new(0);
        let server = Arc::new(Self { imap, at, attack, most });
        let shared = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = shared.clone();
                tokio::spawn(async move {
                    let stream = BufReader::new(stream);
                    drop(server.talk(Connection { stream, sent: 0 }).await);
                });
            }
        });
        (server, port)
    }

    async fn talk(&self, mut stream: Connection) -> std::io::Result<()> {
        let greeting = if self.imap {
            "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready"
        } else {
            "+OK ready"
        };
        self.answer(&mut stream, At::Greeting, greeting).await?;
        let mut line = String::new();
        while stream.stream.read_line(&mut line).await? > 0 {
            let upper = line.to_ascii_uppercase();
            let mut words = upper.split_whitespace();
            let tag = if self.imap { words.next().unwrap_or_default() } else { "" };
            let ok = |text: &str| {
                if self.imap { format!("{text}{tag} OK done") } else { format!("+OK{text}") }
            };
            let verb = match words.next().unwrap_or_default() {
                "UID" => words.next().unwrap_or_default(),
                verb => verb,
            };
            let (at, answer) = match verb {
                "CAPA" => (None, ok("\r\nUSER\r\nUIDL\r\nTOP\r\nSASL PLAIN\r\n.")),
                "AUTH" | "PASS" | "AUTHENTICATE" | "LOGIN" => (Some(At::Login), ok("")),
                "CAPABILITY" => (None, ok("* CAPABILITY IMAP4rev1\r\n")),
                "SELECT" => {
                    (None, ok("* 2 EXISTS\r\n* OK [UIDVALIDITY 1] ok\r\n* OK [UIDNEXT 3] ok\r\n"))
                }
                "UIDL" => (Some(At::List), ok("\r\n1 a\r\n2 b\r\n.")),
                "SEARCH" => (Some(At::List), ok("* SEARCH 1 2\r\n")),
                "TOP" | "FETCH" => (Some(At::Read), ok("")),
                _ => (None, ok("")),
            };
            match at {
                Some(at) => self.answer(&mut stream, at, &answer).await?,
                None => self.say(&mut stream, &format!("{answer}\r\n")).await?,
            }
            line.clear();
        }
        Ok(())
    }

    async fn answer(&self, stream: &mut Connection, at: At, answer: &str) -> std::io::Result<()> {
        if at != self.at {
            return self.say(stream, &format!("{answer}\r\n")).await;
        }
        match self.attack {
            Attack::Endless(first, then) => {
                self.say(stream, first).await?;
                let many = then.repeat(64 * 1024 / then.len());
                while stream.sent < 2 * MAX_TAKEN {
                    self.say(stream, &many).await?;
                }
                Ok(())
            }
            Attack::Break(said) => {
                self.say(stream, said).await?;
                stream.stream.get_mut().shutdown().await?;
                Err(std::io::ErrorKind::ConnectionAborted.into())
            }
            Attack::Drip(said) => loop {
                for byte in said.bytes() {
                    self.say(stream, &char::from(byte).to_string()).await?;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            },
        }
    }

    async fn say(&self, stream: &mut Connection, text: &str) -> std::io::Result<()> {
        stream.stream.get_mut().write_all(text.as_bytes()).await?;
        stream.sent += text.len() as u64;
        self.most.fetch_max(stream.sent, Ordering::Relaxed);
        Ok(())
    }
}

fn options(server: &MailServer, protocol: &str, port: u16) -> String {
    let smtp = server.smtps_port();
    format!(
        r#"max_round_trip = "2s"
check_interval = "100ms"
timeout = "1s"
test_interval = "1m"
smtp = {{ port = {smtp}, tls = "implicit", account = "probe", ca_file = "ca.pem" }}
pickup = {{ protocol = "{protocol}", port = {port}, tls = "none", account = "probe" }}"#
    )
}

async fn run(imap: bool, at: At, attack: Attack) -> (Sample, u64) {
    let folder = tempfile::tempdir().expect("folder");
    let mail = MailServer::start(Options::default()).await.expect("server");
    let (hostile, port) = Hostile::start(imap, at, attack).await;
    let protocol = if imap { "imap" } else { "pop3" };
    let text = text(IN_FILE, &options(&mail, protocol, port));
    let config = load(folder.path(), &mail, &text);
    let tester = Tester::new(config.clone(), None).await.expect("tester");
    let result =
        tokio::time::timeout(HANGS, tester.test(monitor(&config))).await.expect("an outcome");
    tester.shutdown().await;
    (result.sample, hostile.most.load(Ordering::Relaxed))
}

async fn assert_fails(imap: bool, cases: &[(At, Attack, Stage, &str)]) {
    for (at, attack, stage, says) in cases {
        let (sample, sent) = run(imap, *at, *attack).await;
        let error = sample.error.clone().unwrap_or_default();
        assert_eq!(
            (sample.outcome, sample.stage),
            (Outcome::PickupFailed, Some(*stage)),
            "{at:?} {attack:?}: {error}"
        );
        assert!(error.contains(says), "{at:?} {attack:?}: {error}");
        assert!(sent < MAX_TAKEN, "{at:?} {attack:?}: {sent} bytes were taken");
    }
}

// If a server floods in small pieces, it depends on the machine whether the limit or the deadline
// is reached first.

#[tokio::test]
async fn a_hostile_pop3_server_that_lists_gets_an_outcome() {
    use Attack::{Break, Drip, Endless};
    use Stage::{PickupGreeting, PickupList, PickupLogin};
    let cases = [
        (At::Greeting, Endless("+OK ", "x"), PickupGreeting, "more than 8192 bytes"),
        (At::Greeting, Drip("+"), PickupGreeting, "no answer within 1s"),
        (At::Login, Endless("-ERR ", "no "), PickupLogin, "more than 8192 bytes"),
        (At::List, Endless("+OK\r\n", "1 a\r\n"), PickupList, ""),
        (At::List, Endless("+OK\r\n1 ", "a"), PickupList, ""),
        (At::List, Endless("+OK\r\n", "\r\n"), PickupList, ""),
        (At::List, Break("+OK\r\n1 a\r\n2 "), PickupList, "closed"),
    ];
    assert_fails(false, &cases).await;
}

#[tokio::test]
async fn a_hostile_pop3_server_that_gives_mails_gets_an_outcome() {
    use Attack::{Break, Endless};
    use Stage::PickupReceive;
    let cases = [
        (At::Read, Endless("+OK\r\n", "Subject: x\r\n"), PickupReceive, ""),
        (At::Read, Endless("+OK\r\n", "x"), PickupReceive, ""),
        (At::Read, Break("+OK\r\nSubject: hal"), PickupReceive, "closed"),
        (At::Read, Break("OK, but not in POP3\r\n"), PickupReceive, "not a POP3 reply"),
    ];
    assert_fails(false, &cases).await;
}

#[tokio::test]
async fn a_hostile_imap_server_that_lists_gets_an_outcome() {
    use Attack::{Break, Endless};
    use Stage::{PickupGreeting, PickupList, PickupLogin};
    let literal = "* X {9999999999999}\r\n";
    let cases = [
        (At::Greeting, Endless("* OK ", "x"), PickupGreeting, ""),
        (At::Greeting, Endless(literal, "x"), PickupGreeting, ""),
        (At::Login, Endless("", "* OK wait\r\n"), PickupLogin, ""),
        (At::Login, Break("A7 OK\r\n"), PickupLogin, "a command that was not sent"),
        (At::List, Endless("* SEARCH", " 1"), PickupList, ""),
        (At::List, Endless("", "* ESEARCH UID ALL 1:4294967295\r\n"), PickupList, ""),
        (At::List, Endless("", "* 1 EXISTS\r\n"), PickupList, ""),
        (At::List, Break("* SEARCH 1 2"), PickupList, "closed"),
    ];
    assert_fails(true, &cases).await;
}

#[tokio::test]
async fn a_hostile_imap_server_that_gives_mails_gets_an_outcome() {
    use Attack::{Break, Drip, Endless};
    use Stage::PickupReceive;
    let endless = "* 1 FETCH (UID 1 BODY[HEADER] {1000000000000}\r\n";
    let half = "* 1 FETCH (UID 1 BODY[HEADER] {100}\r\nSubject: hal";
    let literals = "UID 1 BODY[HEADER] {9}\r\nSubject: ";
    let cases = [
        (At::Read, Endless(endless, "x"), PickupReceive, ""),
        (At::Read, Endless("* 1 FETCH (", literals), PickupReceive, ""),
        (At::Read, Endless("* 1 FETCH (", "("), PickupReceive, ""),
        (At::Read, Break(half), PickupReceive, "closed"),
        (At::Read, Break("A1 OK the login\r\n"), PickupReceive, "a command that was not sent"),
        (At::Read, Drip("* OK wait\r\n"), PickupReceive, "no answer within 1s"),
    ];
    assert_fails(true, &cases).await;
}
