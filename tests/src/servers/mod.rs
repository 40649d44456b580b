//! Embedded mail servers: SMTP in, POP3 and IMAP out, mailboxes in memory between them. They behave
//! like Postfix and Dovecot, know the true moment at which each mail landed, and go wrong on
//! demand.
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
mod faults;
mod ftp;
mod ftp_habits;
mod habits;
mod imap;
mod log;
mod mailboxes;
mod pop3;
mod s3;
mod sasl;
mod signature;
mod smtp;
mod tokens;

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
pub use faults::{Fault, Mishap, Protocol, When};
pub use ftp::{Beginning, Drives, Extended, Facts, FtpHabits, FtpServer, Names, Shown, Trouble};
pub use ftp_habits::{NamedHabits, ftp_habits};
pub use habits::{Gives, Habits, Rewrite, SmtpHabits, TooMany, UidNext};
pub use log::LogServer;
pub use mailboxes::{ARCHIVE, INBOX, JUNK, StoredMail, TRASH};
pub use s3::{KEY_ID, ObjectStore, StoreHabits};
pub use sasl::TokenBook;
pub use tokens::TokenServer;

use crate::lock;

use connection::Connection;
use mailboxes::Mailboxes;

/// How many commands are kept in the log.
const LOGGED_COMMANDS: usize = 200_000;

/// What the embedded servers are like.
#[derive(Debug, Clone)]
pub struct Options {
    /// What everything random is drawn from.
    pub seed: u64,
    /// The name that the servers call themselves.
    pub host_name: String,
    /// Mailboxes: address, which is also the name to log in with, and password.
    pub users: Vec<(String, String)>,
    /// Time between acceptance and landing.
    pub delays: Delays,
    /// The servers' clock.
    pub clock: ServerClock,
    /// Machines behind the one name that file mails, each as likely as any other: how far the clock
    /// of each is ahead of `clock`. With none, the machine that took a mail files it.
    pub cluster: Vec<Micros>,
    /// Credentials are taken without TLS too.
    pub plaintext_login: bool,
    /// Mails are taken only after AUTH.
    pub smtp_auth_required: bool,
    /// The largest mail that is taken.
    pub max_size: usize,
    /// Whether the reply to EHLO says so (RFC 1870); without it, the server finds out when it has
    /// the content.
    pub states_size: bool,
    /// The most recipients of a transaction, and how the next one is refused: Postfix says
    /// `452 4.5.3`, RFC 821 had 552, others say 550, or 421 and close.
    pub max_recipients: Option<(usize, String)>,
    /// Whether the reply to EHLO says so (RFC 9422).
    pub states_max_recipients: bool,
    /// The SASL mechanisms of all protocols.
    pub mechanisms: Vec<String>,
    /// Those of them that fail whatever the client says.
    pub broken_mechanisms: Vec<String>,
    /// The access tokens that open mailboxes.
    pub tokens: TokenBook,
    /// How long a refused login waits for its reply.
    pub auth_failure_delay: Duration,
    /// POP3 commands and capabilities that the server does not know (`TOP`, `UIDL`, `CAPA`,
    /// `PIPELINING`, `SASL`, `APOP`).
    pub pop3_without: Vec<String>,
    /// A POP3 session holds the mailbox alone; others get `-ERR [IN-USE]`.
    pub pop3_exclusive: bool,
    /// How late IMAP IDLE announces new mail (Dovecot: 500 ms).
    pub idle_lag: Duration,
    /// IMAP capabilities that the server does not have (`IDLE`, `UIDPLUS`, `LITERAL+`,
    /// `AUTH=PLAIN`).
    pub imap_without: Vec<String>,
    /// IMAP is that of RFC 9051 alone: what belongs to it is not listed, and searches are answered
    /// with `ESEARCH`.
    pub imap_rev2: bool,
    /// What the IMAP server does that no standard allows for.
    pub imap_habits: Habits,
    /// What the SMTP server does that others do not.
    pub smtp_habits: SmtpHabits,
    /// How the replies of all protocols differ from what they should be.
    pub rewrite: Option<Rewrite>,
}

/// The address of the default mailbox.
pub const PROBE: &str = "probe@example.com";
/// Its password, with all that a careless client trips over.
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

/// What all servers and sessions share.
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

    /// How far the clock of a machine that files a mail is ahead.
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

    /// Whether these credentials open a mailbox.
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

    /// Reads a SASL PLAIN response and tells whose mailbox it opens.
    fn sasl_plain(&self, response: &str) -> Option<String> {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::STANDARD.decode(response.trim()).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let mut parts = text.split('\0');
        let (_, user, password) = (parts.next()?, parts.next()?, parts.next()?);
        self.may_log_in(user, password).then(|| user.to_owned())
    }
}

/// One of the doors of the server.
struct Door {
    name: &'static str,
    protocol: Protocol,
    address: SocketAddr,
    open: watch::Sender<bool>,
}

/// The running servers; dropping it ends them.
pub struct MailServer {
    shared: Arc<Shared>,
    doors: Vec<Door>,
    _tasks: JoinSet<()>,
}

impl MailServer {
    /// Starts all servers on free ports of the loopback interface.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(options: Options) -> io::Result<Self> {
        Self::start_with(options, Authority::new()).await
    }

    /// The same, with certificates of an authority that exists already.
    ///
    /// # Errors
    /// When no port can be had.
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
            tasks.spawn(keep_door(
                listener,
                address,
                name,
                protocol,
                implicit_tls,
                open.subscribe(),
                shared.clone(),
            ));
            doors.push(Door { name, protocol, address, open });
        }
        Ok(Self { shared, doors, _tasks: tasks })
    }

    fn door(&self, name: &str) -> &Door {
        self.doors.iter().find(|door| door.name == name).expect("a door of that name")
    }

    /// The port for SMTP with STARTTLS.
    pub fn smtp_port(&self) -> u16 {
        self.door("smtp").address.port()
    }

    /// The port for SMTP with implicit TLS.
    pub fn smtps_port(&self) -> u16 {
        self.door("smtps").address.port()
    }

    /// The port for POP3 with STLS.
    pub fn pop3_port(&self) -> u16 {
        self.door("pop3").address.port()
    }

    /// The port for POP3 with implicit TLS.
    pub fn pop3s_port(&self) -> u16 {
        self.door("pop3s").address.port()
    }

    /// The port for IMAP with STARTTLS.
    pub fn imap_port(&self) -> u16 {
        self.door("imap").address.port()
    }

    /// The port for IMAP with implicit TLS.
    pub fn imaps_port(&self) -> u16 {
        self.door("imaps").address.port()
    }

    /// The authority that signed the certificates.
    pub fn authority(&self) -> &Authority {
        &self.shared.authority
    }

    /// Lets a fault strike at a phase of a protocol (see [`Protocol::phases`]).
    ///
    /// # Panics
    /// When the protocol has no such phase.
    pub fn inject(&self, protocol: Protocol, phase: &str, fault: Fault, when: When) {
        self.shared.rules.inject(protocol, phase, fault, when);
    }

    /// Lets a mishap befall mails to one recipient, or to all.
    pub fn befall(&self, recipient: Option<&str>, mishap: Mishap, when: When) {
        self.shared.rules.befall(recipient, mishap, when);
    }

    /// Forgets all faults and mishaps.
    pub fn heal(&self) {
        self.shared.rules.clear();
    }

    /// Refuses connections to a protocol and cuts those that exist.
    pub fn refuse(&self, protocol: Protocol) {
        self.doors.iter().filter(|door| door.protocol == protocol).for_each(|door| {
            door.open.send_replace(false);
        });
    }

    /// Takes connections to a protocol again, on the same ports.
    pub fn admit(&self, protocol: Protocol) {
        self.doors.iter().filter(|door| door.protocol == protocol).for_each(|door| {
            door.open.send_replace(true);
        });
    }

    /// Sets the servers' clock.
    pub fn set_clock(&self, clock: ServerClock) {
        *lock(&self.shared.clock) = clock;
    }

    /// Marks the mails of an inbox as deleted that are `chosen`, as another client would.
    pub fn mark_deleted(&self, user: &str, chosen: impl Fn(&StoredMail) -> bool) {
        self.shared.mailboxes.change(user, INBOX, |folder| {
            for mail in folder.mails.iter_mut().filter(|mail| chosen(mail)) {
                mail.flags.insert("\\Deleted".to_owned());
            }
        });
    }

    /// Puts foreign mails, `count` different ones, into a user's inbox.
    pub fn fill(&self, user: &str, count: usize) {
        let mails = (0..count).map(|number| {
            format!(
                "Return-Path: <someone{number}@example.org>\r\nDelivered-To: {user}\r\nMessage-ID: <foreign-{number}@example.org>\r\n\
                 From: Someone <someone{number}@example.org>\r\nTo: {user}\r\nSubject: foreign mail {number}\r\n\
                 Date: Thu, 1 Jan 2026 00:00:00 +0000\r\n\r\nThis mail belongs to somebody.\r\n.a line that begins with a dot\r\n"
            )
            .into_bytes()
        });
        self.put(user, INBOX, mails);
    }

    /// Puts mails of the test's own into a folder; they count as foreign.
    ///
    /// # Panics
    /// When there is no such mailbox or folder.
    pub fn put(&self, user: &str, folder: &str, mails: impl IntoIterator<Item = Vec<u8>>) {
        let clock = |moment| self.shared.server_time(moment);
        self.shared
            .mailboxes
            .put(user, folder, mails, true, clock)
            .expect("a mailbox and folder of the server");
    }

    /// What lies in a folder.
    pub fn mails(&self, user: &str, folder: &str) -> Vec<StoredMail> {
        self.shared.mailboxes.snapshot(user, folder).map(|folder| folder.mails).unwrap_or_default()
    }

    /// How many foreign mails lie in a user's inbox, untouched.
    pub fn foreign(&self, user: &str) -> usize {
        self.mails(user, INBOX).iter().filter(|mail| mail.foreign).count()
    }

    /// All mails that were accepted.
    pub fn accepted(&self) -> Vec<Accepted> {
        lock(&self.shared.accepted).clone()
    }

    /// All mails that landed, with the true moment.
    pub fn landings(&self) -> Vec<Landing> {
        lock(&self.shared.landings).clone()
    }

    /// The commands that were received by a protocol (the last 200,000 of all), as they came.
    pub fn commands(&self, protocol: Protocol) -> Vec<String> {
        lock(&self.shared.commands)
            .iter()
            .filter(|(p, _)| *p == protocol)
            .map(|(_, line)| line.clone())
            .collect()
    }

    /// How many connections were taken at a door (`smtp`, `smtps`, `pop3`, `pop3s`, `imap`,
    /// `imaps`).
    pub fn connections(&self, door: &str) -> u64 {
        lock(&self.shared.sessions).get(door).copied().unwrap_or(0)
    }

    /// How far the servers' clock is off at this moment.
    pub fn clock_error(&self) -> Micros {
        let now = UtcMicros::now();
        self.shared.server_time(now) - now
    }
}

/// Takes connections as long as the door is open.
async fn keep_door(
    listener: TcpListener,
    address: SocketAddr,
    name: &'static str,
    protocol: Protocol,
    implicit_tls: bool,
    mut open: watch::Receiver<bool>,
    shared: Arc<Shared>,
) {
    let mut listener = Some(listener);
    let mut sessions = JoinSet::new();
    loop {
        if !*open.borrow_and_update() {
            listener = None;
            sessions = JoinSet::new();
            // A socket that is bound and doesn't listen refuses, and keeps the port from everybody
            // else.
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
                *lock(&shared.sessions).entry(name).or_default() += 1;
                sessions.spawn(serve(stream, protocol, implicit_tls, shared.clone()));
            }
            changed = open.changed() => if changed.is_err() { return },
            Some(_) = sessions.join_next() => {}
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// One connection. Errors of a connection end it and nothing else.
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

/// A number for names that must differ.
fn next_queue_id(shared: &Shared) -> String {
    format!("{:X}", shared.queue_id.fetch_add(1, Ordering::Relaxed))
}
