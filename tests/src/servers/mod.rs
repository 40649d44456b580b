//! Embedded mail servers: SMTP in, POP3 and IMAP out, mailboxes in memory between them. They behave
//! like Postfix and Dovecot, record the true arrival time of each mail, and fail on demand.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use mailqos_tests::servers::{Fault, MailServer, Options, Protocol, When};
//! let server = MailServer::start(Options::default()).await?;
//! server.inject(Protocol::Smtp, "RCPT", Fault::Reply("450 4.2.0 try again".into()), When::Times(1));
//! println!("{} {} {}", server.smtp_port(), server.pop3s_port(), server.authority().pem());
//! # Ok(())
//! # }
//! ```

mod certificates;
mod clock;
mod connection;
mod delays;
mod delivery;
mod dns;
mod faults;
mod ftp;
mod ftp_habits;
mod graph;
mod habits;
mod imap;
mod log;
mod mailboxes;
mod oauth;
pub mod oidc;
mod pop3;
mod s3;
mod sasl;
mod signature;
mod smtp;
mod tokens;
mod web;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mailqos_model::{Micros, UtcMicros};
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinSet,
};

pub use certificates::{Authority, Certificate};
pub use clock::ServerClock;
pub use delays::Delays;
pub use delivery::{Accepted, Landing};
pub use dns::{DnsFault, DnsServer};
pub use faults::{Fault, Mishap, Protocol, When};
pub use ftp::{Beginning, Drives, Extended, Facts, FtpHabits, FtpServer, Names, Shown, Trouble};
pub use ftp_habits::{NamedHabits, ftp_habits};
pub use graph::{APPLICATION, DeltaTrouble, GraphOptions, GraphServer};
pub use habits::{Gives, Habits, Rewrite, SmtpHabits, TooMany, UidNext};
pub use log::LogServer;
pub use mailboxes::{ARCHIVE, INBOX, JUNK, StoredMail, TRASH};
pub use oauth::{Decision, OAuthOptions, OAuthServer};
pub use s3::{KEY_ID, ObjectStore, StoreHabits};
pub use sasl::TokenBook;
pub use tokens::TokenServer;
pub use web::{Page, Web};

use crate::lock;

use connection::Connection;
use mailboxes::Mailboxes;

/// Number of commands kept in the log.
const LOGGED_COMMANDS: usize = 200_000;

/// Properties of the embedded servers.
#[derive(Debug, Clone)]
pub struct Options {
    /// Seed of all random numbers.
    pub seed: u64,
    /// The servers' host name.
    pub host_name: String,
    /// Mailboxes: address, which is also the user name, and password.
    pub users: Vec<(String, String)>,
    /// Time between acceptance and arrival.
    pub delays: Delays,
    /// The servers' clock.
    pub clock: ServerClock,
    /// Machines behind the one name that store mails, each equally likely: how far the clock of
    /// each is ahead of `clock`. If empty, the machine that accepted a mail stores it.
    pub cluster: Vec<Micros>,
    /// Whether credentials are also accepted without TLS.
    pub plaintext_login: bool,
    /// Whether mails are only accepted after AUTH.
    pub smtp_auth_required: bool,
    /// Size of the largest mail that is accepted.
    pub max_size: usize,
    /// Whether the reply to EHLO states the limit (RFC 1870); otherwise the server only checks
    /// after the content.
    pub states_size: bool,
    /// Maximum recipients of a transaction, and how the next one is refused: Postfix replies
    /// `452 4.5.3`, RFC 821 had 552, others reply 550, or 421 and close.
    pub max_recipients: Option<(usize, String)>,
    /// Whether the reply to EHLO states that limit (RFC 9422).
    pub states_max_recipients: bool,
    /// The SASL mechanisms of all protocols.
    pub mechanisms: Vec<String>,
    /// Mechanisms that always fail.
    pub broken_mechanisms: Vec<String>,
    /// Access tokens for mailboxes.
    pub tokens: TokenBook,
    /// Delay of the reply to a refused login.
    pub auth_failure_delay: Duration,
    /// POP3 commands and capabilities that the server does not support (`TOP`, `UIDL`, `CAPA`,
    /// `PIPELINING`, `SASL`, `APOP`).
    pub pop3_without: Vec<String>,
    /// Whether a POP3 session locks the mailbox; others get `-ERR [IN-USE]`.
    pub pop3_exclusive: bool,
    /// Delay of announcements of new mail by IMAP IDLE (Dovecot: 500 ms).
    pub idle_lag: Duration,
    /// IMAP capabilities that the server does not have (`IDLE`, `UIDPLUS`, `LITERAL+`,
    /// `AUTH=PLAIN`).
    pub imap_without: Vec<String>,
    /// Whether IMAP follows RFC 9051 only: its extensions are not listed, and searches are answered
    /// with `ESEARCH`.
    pub imap_rev2: bool,
    /// Non-standard behaviour of the IMAP server.
    pub imap_habits: Habits,
    /// Unusual behaviour of the SMTP server.
    pub smtp_habits: SmtpHabits,
    /// Changes of replies in all protocols.
    pub rewrite: Option<Rewrite>,
}

/// The address of the default mailbox.
pub const PROBE: &str = "probe@example.com";
/// Its password, with everything that trips up careless clients.
pub const PASSWORD: &str = "pass \"word\\ß 1";

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            host_name: "mail.example.com".to_owned(),
            users: vec![(PROBE.to_owned(), PASSWORD.to_owned())],
            delays: Delays::Fixed(Duration::from_millis(20)),
            clock: ServerClock::right(),
            cluster: Vec::new(),
            plaintext_login: false,
            smtp_auth_required: true,
            max_size: 50_000_000,
            states_size: true,
            max_recipients: None,
            states_max_recipients: false,
            mechanisms: vec!["PLAIN".to_owned(), "LOGIN".to_owned()],
            broken_mechanisms: Vec::new(),
            tokens: TokenBook::default(),
            auth_failure_delay: Duration::ZERO,
            pop3_without: Vec::new(),
            pop3_exclusive: false,
            idle_lag: Duration::ZERO,
            imap_without: Vec::new(),
            imap_rev2: false,
            imap_habits: Habits::default(),
            smtp_habits: SmtpHabits::default(),
            rewrite: None,
        }
    }
}

/// State shared by all servers and sessions.
struct Shared {
    options: Options,
    authority: Authority,
    clock: Mutex<ServerClock>,
    random: Mutex<Pcg64Mcg>,
    rules: faults::Rules,
    mailboxes: Arc<Mailboxes>,
    queue_id: AtomicU64,
    accepted: Mutex<Vec<Accepted>>,
    landings: Mutex<Vec<Landing>>,
    commands: Mutex<VecDeque<(Protocol, String)>>,
    sessions: Mutex<BTreeMap<&'static str, u64>>,
    habits: habits::Memory,
}

impl Shared {
    fn fault(&self, protocol: Protocol, phase: &str) -> Option<Fault> {
        self.rules.fault(protocol, phase, &mut lock(&self.random))
    }

    fn log_command(&self, protocol: Protocol, line: &str) {
        let mut commands = lock(&self.commands);
        if commands.len() == LOGGED_COMMANDS {
            commands.pop_front();
        }
        commands.push_back((protocol, line.to_owned()));
    }

    fn server_time(&self, moment: UtcMicros) -> UtcMicros {
        lock(&self.clock).at(moment)
    }

    /// Returns how far the clock of the machine that stores a mail is ahead.
    fn machine(&self) -> Micros {
        let cluster = &self.options.cluster;
        if cluster.is_empty() {
            return Micros::ZERO;
        }
        cluster[lock(&self.random).random_range(0..cluster.len())]
    }

    fn server_date(&self, moment: UtcMicros) -> String {
        lock(&self.clock).date(moment)
    }

    /// Returns whether these credentials are valid for a mailbox.
    fn may_log_in(&self, user: &str, password: &str) -> bool {
        self.options
            .users
            .iter()
            .any(|(name, right)| name.eq_ignore_ascii_case(user) && right == password)
    }

    fn password(&self, user: &str) -> Option<&str> {
        self.options
            .users
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(user))
            .map(|(_, password)| &**password)
    }

    /// Parses a SASL PLAIN response and returns the user, if it is valid.
    fn sasl_plain(&self, response: &str) -> Option<String> {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::STANDARD.decode(response.trim()).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let mut parts = text.split('\0');
        let (_, user, password) = (parts.next()?, parts.next()?, parts.next()?);
        self.may_log_in(user, password).then(|| user.to_owned())
    }
}

/// A port of the server.
struct Door {
    name: &'static str,
    protocol: Protocol,
    address: SocketAddr,
    open: watch::Sender<bool>,
}

/// The running servers; dropping it stops them.
pub struct MailServer {
    shared: Arc<Shared>,
    doors: Vec<Door>,
    _tasks: JoinSet<()>,
}

impl MailServer {
    /// Starts all servers on free ports of the loopback interface.
    ///
    /// # Errors
    /// No port is available.
    pub async fn start(options: Options) -> io::Result<Self> {
        Self::start_with(options, Authority::new()).await
    }

    /// Does the same with certificates of an existing authority.
    ///
    /// # Errors
    /// No port is available.
    pub async fn start_with(options: Options, authority: Authority) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            clock: Mutex::new(options.clock),
            random: Mutex::new(Pcg64Mcg::seed_from_u64(options.seed)),
            options,
            authority,
            rules: faults::Rules::default(),
            mailboxes: Arc::default(),
            queue_id: AtomicU64::new(0x3_9c2f_0001),
            accepted: Mutex::default(),
            landings: Mutex::default(),
            commands: Mutex::default(),
            sessions: Mutex::default(),
            habits: habits::Memory::default(),
        });
        for (user, _) in &shared.options.users {
            shared.mailboxes.create(user);
            if shared.options.imap_habits.archives {
                shared.mailboxes.add_folder(user, TRASH);
                shared.mailboxes.add_folder(user, ARCHIVE);
            }
        }
        let mut tasks = JoinSet::new();
        let mut doors = Vec::new();
        for (name, protocol, implicit_tls) in [
            ("smtp", Protocol::Smtp, false),
            ("smtps", Protocol::Smtp, true),
            ("pop3", Protocol::Pop3, false),
            ("pop3s", Protocol::Pop3, true),
            ("imap", Protocol::Imap, false),
            ("imaps", Protocol::Imap, true),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?;
            let open = watch::Sender::new(true);
            let door = Door { name, protocol, address, open };
            let is_open = door.open.subscribe();
            let serving = Serving { name, protocol, implicit_tls, shared: shared.clone() };
            tasks.spawn(serving.keep_door(listener, address, is_open));
            doors.push(door);
        }
        Ok(Self { shared, doors, _tasks: tasks })
    }

    fn door(&self, name: &str) -> &Door {
        self.doors.iter().find(|door| door.name == name).expect("a door of that name")
    }

    /// Returns the port for SMTP with STARTTLS.
    pub fn smtp_port(&self) -> u16 {
        self.door("smtp").address.port()
    }

    /// Returns the port for SMTP with implicit TLS.
    pub fn smtps_port(&self) -> u16 {
        self.door("smtps").address.port()
    }

    /// Returns the port for POP3 with STLS.
    pub fn pop3_port(&self) -> u16 {
        self.door("pop3").address.port()
    }

    /// Returns the port for POP3 with implicit TLS.
    pub fn pop3s_port(&self) -> u16 {
        self.door("pop3s").address.port()
    }

    /// Returns the port for IMAP with STARTTLS.
    pub fn imap_port(&self) -> u16 {
        self.door("imap").address.port()
    }

    /// Returns the port for IMAP with implicit TLS.
    pub fn imaps_port(&self) -> u16 {
        self.door("imaps").address.port()
    }

    /// Returns the authority that signed the certificates.
    pub fn authority(&self) -> &Authority {
        &self.shared.authority
    }

    /// Injects a fault at a phase of a protocol (see [`Protocol::phases`]).
    ///
    /// # Panics
    /// The protocol has no such phase.
    pub fn inject(&self, protocol: Protocol, phase: &str, fault: Fault, when: When) {
        self.shared.rules.inject(protocol, phase, fault, when);
    }

    /// Injects a mishap for mails to one recipient, or to all.
    pub fn befall(&self, recipient: Option<&str>, mishap: Mishap, when: When) {
        self.shared.rules.befall(recipient, mishap, when);
    }

    /// Clears all faults and mishaps.
    pub fn heal(&self) {
        self.shared.rules.clear();
    }

    /// Refuses connections of a protocol and cuts existing ones.
    pub fn refuse(&self, protocol: Protocol) {
        self.doors.iter().filter(|door| door.protocol == protocol).for_each(|door| {
            door.open.send_replace(false);
        });
    }

    /// Accepts connections of a protocol again, on the same ports.
    pub fn admit(&self, protocol: Protocol) {
        self.doors.iter().filter(|door| door.protocol == protocol).for_each(|door| {
            door.open.send_replace(true);
        });
    }

    /// Sets the servers' clock.
    pub fn set_clock(&self, clock: ServerClock) {
        *lock(&self.shared.clock) = clock;
    }

    /// Marks the `chosen` mails of an inbox as deleted, as another client would.
    pub fn mark_deleted(&self, user: &str, chosen: impl Fn(&StoredMail) -> bool) {
        self.shared.mailboxes.change(user, INBOX, |folder| {
            for mail in folder.mails.iter_mut().filter(|mail| chosen(mail)) {
                mail.flags.insert("\\Deleted".to_owned());
            }
        });
    }

    /// Puts `count` different foreign mails into a user's inbox.
    pub fn fill(&self, user: &str, count: usize) {
        let mails = (0..count).map(|number| {
            format!(
                "Return-Path: <someone{number}@example.org>\r\nDelivered-To: {user}\r\nMessage-ID: <foreign-{number}@example.org>\r\n\
                 From: Someone <someone{number}@example.org>\r\nTo: {user}\r\nSubject: foreign mail {number}\r\n\
                 Date: Thu, 1 Jan 2026 00:00:00 +0000\r\n\r\nThis mail belongs to someone.\r\n.a line that begins with a dot\r\n"
            )
            .into_bytes()
        });
        self.put(user, INBOX, mails);
    }

    /// Puts mails from the test into a folder; they count as foreign.
    ///
    /// # Panics
    /// There is no such mailbox or folder.
    pub fn put(&self, user: &str, folder: &str, mails: impl IntoIterator<Item = Vec<u8>>) {
        let clock = |moment| self.shared.server_time(moment);
        self.shared
            .mailboxes
            .put((user, folder), mails, true, clock)
            .expect("a mailbox and folder of the server");
    }

    /// Returns the mails in a folder.
    pub fn mails(&self, user: &str, folder: &str) -> Vec<StoredMail> {
        self.shared.mailboxes.snapshot(user, folder).map(|folder| folder.mails).unwrap_or_default()
    }

    /// Returns how many foreign mails are in a user's inbox, untouched.
    pub fn foreign(&self, user: &str) -> usize {
        self.mails(user, INBOX).iter().filter(|mail| mail.foreign).count()
    }

    /// Returns all accepted mails.
    pub fn accepted(&self) -> Vec<Accepted> {
        lock(&self.shared.accepted).clone()
    }

    /// Returns all mails that arrived, with the true time.
    pub fn landings(&self) -> Vec<Landing> {
        lock(&self.shared.landings).clone()
    }

    /// Returns the received commands of a protocol (the last 200,000 of all protocols).
    pub fn commands(&self, protocol: Protocol) -> Vec<String> {
        lock(&self.shared.commands)
            .iter()
            .filter(|(p, _)| *p == protocol)
            .map(|(_, line)| line.clone())
            .collect()
    }

    /// Returns how many connections a port accepted (`smtp`, `smtps`, `pop3`, `pop3s`, `imap`,
    /// `imaps`).
    pub fn connections(&self, door: &str) -> u64 {
        lock(&self.shared.sessions).get(door).copied().unwrap_or(0)
    }

    /// Returns the current error of the servers' clock.
    pub fn clock_error(&self) -> Micros {
        let now = UtcMicros::now();
        self.shared.server_time(now) - now
    }
}

/// What is served at a door.
struct Serving {
    name: &'static str,
    protocol: Protocol,
    implicit_tls: bool,
    shared: Arc<Shared>,
}

impl Serving {
    /// Accepts connections as long as the port is open.
    async fn keep_door(
        self,
        listener: TcpListener,
        address: SocketAddr,
        mut open: watch::Receiver<bool>,
    ) {
        let mut listener = Some(listener);
        let mut sessions = JoinSet::new();
        loop {
            if !*open.borrow_and_update() {
                listener = None;
                sessions = JoinSet::new();
                // A bound socket that doesn't listen refuses connections and keeps the port reserved.
                let held = bind(address);
                if open.changed().await.is_err() {
                    return;
                }
                if *open.borrow() {
                    listener = held.and_then(|socket| socket.listen(1024)).ok();
                }
                continue;
            }
            if listener.is_none() {
                listener = bind(address).and_then(|socket| socket.listen(1024)).ok();
            }
            let Some(listening) = &listener else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            tokio::select! {
                taken = listening.accept() => {
                    let Ok((stream, _)) = taken else { continue };
                    *lock(&self.shared.sessions).entry(self.name).or_default() += 1;
                    sessions.spawn(serve(stream, self.protocol, self.implicit_tls, self.shared.clone()));
                }
                changed = open.changed() => if changed.is_err() { return },
                Some(_) = sessions.join_next() => {}
            }
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Serves one connection, whose errors only end this connection.
async fn serve(stream: TcpStream, protocol: Protocol, implicit_tls: bool, shared: Arc<Shared>) {
    let mut connection = Connection::new(stream, shared, protocol);
    let work = async {
        if implicit_tls {
            connection.start_tls().await?;
        }
        match protocol {
            Protocol::Smtp => smtp::serve(connection).await,
            Protocol::Pop3 => pop3::serve(connection).await,
            Protocol::Imap => imap::serve(connection).await,
        }
    };
    let _: io::Result<()> = work.await;
}

/// Returns a unique number for names.
fn next_queue_id(shared: &Shared) -> String {
    format!("{:X}", shared.queue_id.fetch_add(1, Ordering::Relaxed))
}
