//! A plaintext FTP server that keeps files in memory, with habits of real servers.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

pub use super::ftp_habits::{Beginning, Drives, Extended, Facts, FtpHabits, Names, Shown};
use crate::{http::serve_each, lock};

/// Number of bytes that arrive of a file whose connection stalls.
const ARRIVED: usize = 50_000;

#[derive(Debug, Default)]
struct Files {
    whole: BTreeMap<String, Vec<u8>>,
    /// Folders, as paths from the root; the root itself has no name.
    folders: BTreeSet<String>,
    /// Files that are being written, as far as the server knows.
    locked: BTreeSet<String>,
    /// Files that were collected, each time.
    taken: Vec<(String, Vec<u8>)>,
    /// The received commands.
    heard: Vec<String>,
}

/// A fault of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The next file's data connection is closed after this many bytes.
    Cut(usize),
    /// The next file is received completely but refused with this reply.
    Denied(&'static str),
    /// The next file's data is not read beyond this many bytes.
    Stall(usize),
    /// There is no space for more than this many bytes of each file.
    Full(usize),
    /// Every password is wrong.
    Refuse,
    /// The server does not answer.
    Away,
}

#[derive(Debug, Default)]
struct Shared {
    files: Mutex<Files>,
    trouble: Mutex<Option<Trouble>>,
    habits: FtpHabits,
    silent: AtomicBool,
    names_stay: AtomicBool,
}

impl Shared {
    /// Returns the current fault; a one-time fault is cleared.
    fn strike(&self) -> Option<Trouble> {
        let mut trouble = lock(&self.trouble);
        match *trouble {
            Some(Trouble::Cut(_) | Trouble::Denied(_) | Trouble::Stall(_)) => trouble.take(),
            other => other,
        }
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        lock(&self.files)
    }
}

/// The running server; dropping it stops it.
#[derive(Debug)]
pub struct FtpServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

impl FtpServer {
    /// Starts a server that follows the standards on a free port of the loopback interface.
    ///
    /// # Errors
    /// No port is available.
    pub async fn start() -> io::Result<Self> {
        Self::with(FtpHabits::default()).await
    }

    /// Starts a server with habits.
    ///
    /// # Errors
    /// The same as for [`FtpServer::start`].
    pub async fn with(habits: FtpHabits) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let files = Files {
            folders: habits.folders.iter().map(|folder| (*folder).to_owned()).collect(),
            ..Files::default()
        };
        let shared = Arc::new(Shared { files: Mutex::new(files), habits, ..Shared::default() });
        let for_task = shared.clone();
        Ok(Self {
            address,
            shared,
            _task: serve_each(listener, move |stream| serve(stream, for_task.clone())),
        })
    }

    /// Returns its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Stalls the next file's connection in the middle. The file stays locked, and writing it
    /// blocks forever.
    pub fn fall_silent(&self) {
        self.shared.silent.store(true, Ordering::SeqCst);
    }

    /// Sets the fault from now on, or for the next file; `None` clears it.
    pub fn trouble(&self, trouble: Option<Trouble>) {
        *lock(&self.shared.trouble) = trouble;
    }

    /// Refuses to rename files from now on.
    pub fn refuse_new_names(&self) {
        self.shared.names_stay.store(true, Ordering::SeqCst);
    }

    /// Returns the paths of all files from the root.
    pub fn names(&self) -> Vec<String> {
        self.shared.files().whole.keys().cloned().collect()
    }

    /// Returns all folders, including created ones.
    pub fn folders(&self) -> Vec<String> {
        self.shared.files().folders.iter().cloned().collect()
    }

    /// Returns a file's content.
    pub fn get(&self, name: &str) -> Option<Vec<u8>> {
        self.shared.files().whole.get(name).cloned()
    }

    /// Adds a file.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        self.shared.files().whole.insert(name.to_owned(), bytes.to_vec());
    }

    /// Removes all files.
    pub fn clear(&self) {
        let mut files = self.shared.files();
        files.whole.clear();
        files.taken.clear();
    }

    /// Returns the collected files, once for each time.
    pub fn taken(&self) -> Vec<(String, Vec<u8>)> {
        self.shared.files().taken.clone()
    }

    /// Returns the received commands of all connections.
    pub fn heard(&self) -> Vec<String> {
        self.shared.files().heard.clone()
    }
}

/// A connection.
struct Session {
    shared: Arc<Shared>,
    control: BufReader<TcpStream>,
    data: Option<TcpListener>,
    offset: usize,
    /// Source of a rename.
    renamed: String,
    folder: String,
    utf8: bool,
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    if *lock(&shared.trouble) == Some(Trouble::Away) {
        return Ok(());
    }
    let habits = &shared.habits;
    let mut session = Session {
        control: BufReader::new(stream),
        data: None,
        offset: 0,
        renamed: String::new(),
        folder: habits.home.to_owned(),
        utf8: habits.names == Names::Utf8,
        shared: shared.clone(),
    };
    session.say(habits.greeting).await?;
    loop {
        let mut line = Vec::new();
        if session.control.read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        if *lock(&shared.trouble) == Some(Trouble::Away) {
            return Ok(());
        }
        while line.last().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
            line.pop();
        }
        let (verb, argument) = match line.iter().position(|byte| *byte == b' ') {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (&line[..], &line[line.len()..]),
        };
        let verb = String::from_utf8_lossy(verb).to_ascii_uppercase();
        // Many servers ignore additional blanks after the command.
        let argument = argument.trim_ascii_start();
        let argument = session.decoded(argument);
        let heard = format!("{verb} {argument}");
        shared.files().heard.push(heard.trim_end().to_owned());
        if let Some(reply) = session.answer(&verb, &argument).await? {
            session.say(&reply).await?;
        }
    }
}

impl Session {
    /// Sends a reply in the server's encoding.
    async fn say(&mut self, text: &str) -> io::Result<()> {
        let latin1 = self.shared.habits.latin1;
        let bytes = |text: &str| -> Vec<u8> {
            if latin1 {
                text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect()
            } else {
                text.as_bytes().to_vec()
            }
        };
        let mut all = bytes(text);
        all.extend(b"\r\n");
        self.control.get_mut().write_all(&all).await
    }

    /// Decodes a name as the server does.
    fn decoded(&self, bytes: &[u8]) -> String {
        if self.utf8 || self.shared.habits.names == Names::Bytes {
            String::from_utf8_lossy(bytes).into_owned()
        } else {
            bytes.iter().copied().map(char::from).collect()
        }
    }

    /// Returns a path from the root.
    fn path(&self, argument: &str) -> String {
        let drives = self.shared.habits.drives;
        let argument = match drives {
            Drives::Hidden => argument.to_owned(),
            _ => argument.replace('\\', "/"),
        };
        let whole = match drives.is_whole(&argument) {
            Some(true) => argument,
            Some(false) => format!("{}/{argument}", self.folder),
            None => "\0".to_owned(),
        };
        let mut parts: Vec<&str> = Vec::new();
        for part in whole.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    parts.pop();
                }
                part => parts.push(part),
            }
        }
        parts.join("/")
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.shared.files()
    }

    async fn answer(&mut self, verb: &str, argument: &str) -> io::Result<Option<String>> {
        let habits = self.shared.habits.clone();
        let reply = match verb {
            "USER" => "331 and the password?".to_owned(),
            "PASS" if *lock(&self.shared.trouble) == Some(Trouble::Refuse) => {
                "530 Login incorrect.".to_owned()
            }
            "PASS" => habits.welcome.to_owned(),
            "TYPE" | "NOOP" => "200 well".to_owned(),
            "FEAT" => habits.names.features().to_owned(),
            "OPTS" => self.option(argument),
            "CWD" => self.enter(argument),
            "CDUP" => self.enter(".."),
            "PWD" if habits.hides_folder => "550 no".to_owned(),
            "PWD" => {
                let folder = habits.drives.shown(&self.folder);
                format!("257 \"{}\" is the folder", folder.replace('"', "\"\""))
            }
            "MKD" => self.make(argument),
            "RMD" => {
                let path = self.path(argument);
                self.files().folders.remove(&path);
                "250 gone".to_owned()
            }
            "EPSV" => self.extended().await?,
            "PASV" => self.passive().await?,
            "SIZE" => self.size(argument),
            "MLST" if habits.facts == Facts::Silent => return std::future::pending().await,
            "MLST" if habits.facts == Facts::Told => {
                let path = self.path(argument);
                let size = self.files().whole.get(&path).map(Vec::len);
                match size {
                    Some(size) => format!(
                        "250-Listing {argument}\r\n Type=file;Size={size}; {argument}\r\n250 End"
                    ),
                    None => format!("{} no such file", habits.absent),
                }
            }
            "REST" => {
                self.offset = argument.parse().unwrap_or(0);
                "350 from there".to_owned()
            }
            "STOR" => return self.take(argument).await,
            "RETR" => return self.give(argument).await,
            "RNFR" => self.rename_from(argument),
            "RNTO" => self.rename_to(argument),
            "DELE" => self.delete(argument),
            "QUIT" => "221 goodbye".to_owned(),
            _ => "502 unknown".to_owned(),
        };
        Ok(Some(reply))
    }

    fn option(&mut self, argument: &str) -> String {
        if argument.eq_ignore_ascii_case("UTF8 ON") && self.shared.habits.names != Names::Ansi {
            self.utf8 = true;
            return "200 OPTS UTF8 command successful - UTF8 encoding now ON.".to_owned();
        }
        "501 option not understood".to_owned()
    }

    fn enter(&mut self, argument: &str) -> String {
        let path = self.path(argument);
        let habits = &self.shared.habits;
        if habits.one_level && argument.trim_matches('/').contains('/') {
            return "550 one folder at a time".to_owned();
        }
        if habits.closed.contains(&path.as_str()) {
            return "550 Permission denied.".to_owned();
        }
        if !path.is_empty() && !self.files().folders.contains(&path) {
            let absent = habits.absent;
            return format!("{absent} No such directory.");
        }
        self.folder = path;
        "250 there".to_owned()
    }

    fn make(&mut self, argument: &str) -> String {
        let path = self.path(argument);
        let above = path.rsplit_once('/').map_or("", |(above, _)| above).to_owned();
        let mut files = self.files();
        if files.folders.contains(&path) {
            return "550 File exists.".to_owned();
        }
        if self.shared.habits.closed.contains(&above.as_str()) {
            return "550 Permission denied.".to_owned();
        }
        files.folders.insert(path);
        "257 made".to_owned()
    }

    async fn extended(&mut self) -> io::Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        Ok(match self.shared.habits.extended {
            Extended::Works => {
                self.data = Some(listener);
                format!("229 (|||{port}|)")
            }
            Extended::Unknown => "500 'EPSV': command not understood.".to_owned(),
            // Nothing listens there any more.
            Extended::Unreachable => format!("229 Entering Extended Passive Mode (|||{port}|)"),
        })
    }

    async fn passive(&mut self) -> io::Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        self.data = Some(listener);
        let (high, low) = (port >> 8, port & 255);
        let six = format!("{},{high},{low}", self.shared.habits.claims);
        Ok(self.shared.habits.passive.replace("{six}", &six))
    }

    fn size(&self, argument: &str) -> String {
        let path = self.path(argument);
        let files = self.files();
        match (self.shared.habits.shown, files.whole.get(&path)) {
            (Shown::Refused(reply) | Shown::Sizeless(reply), _) => reply.to_owned(),
            (Shown::All, Some(bytes)) => format!("213 {}", bytes.len()),
            (Shown::All, None) => format!("{} no such file", self.shared.habits.absent),
        }
    }

    /// Returns why a file of this name can't be written.
    fn refused(&self, argument: &str) -> Option<String> {
        let path = self.path(argument);
        let name = path.rsplit('/').next().unwrap_or(&path);
        let habits = &self.shared.habits;
        if habits.no_dots && name.starts_with('.') {
            return Some("553 Prohibited file name: .something".to_owned());
        }
        if habits.no_endings.iter().any(|ending| name.ends_with(ending)) {
            return Some("550 Filename denied by rule.".to_owned());
        }
        (name.len() > habits.longest).then(|| "553 File name too long.".to_owned())
    }

    async fn take(&mut self, argument: &str) -> io::Result<Option<String>> {
        let offset = std::mem::take(&mut self.offset);
        let path = self.path(argument);
        if let Some(reply) = self.refused(argument) {
            return Ok(Some(reply));
        }
        let Some(listener) = self.data.take() else {
            return Ok(Some("425 no data connection".to_owned()));
        };
        let (mut connection, _) = listener.accept().await?;
        if self.files().locked.contains(&path) {
            return std::future::pending().await;
        }
        let habits = self.shared.habits.clone();
        match habits.beginning {
            Beginning::Said(reply) => self.say(reply).await?,
            Beginning::Silent => {}
            Beginning::Completed | Beginning::CompletedTwice => self.say(habits.completed).await?,
        }
        let refused = receive(&mut connection, &self.shared, &path, offset).await?;
        drop(connection);
        if let Some(reply) = refused {
            return Ok(Some(reply.to_owned()));
        }
        if habits.taken_away && !path.rsplit('/').next().unwrap_or("").starts_with('.') {
            self.take_away(&path);
        }
        Ok((habits.beginning != Beginning::Completed).then(|| habits.completed.to_owned()))
    }

    /// Collects a file, as a job that waits for files would.
    fn take_away(&self, path: &str) {
        let mut files = self.files();
        if let Some(bytes) = files.whole.remove(path) {
            files.taken.push((path.to_owned(), bytes));
        }
    }

    async fn give(&mut self, argument: &str) -> io::Result<Option<String>> {
        let path = self.path(argument);
        let Some(listener) = self.data.take() else {
            return Ok(Some("425 no data connection".to_owned()));
        };
        if let Shown::Refused(reply) = self.shared.habits.shown {
            return Ok(Some(reply.to_owned()));
        }
        let Some(bytes) = self.files().whole.get(&path).cloned() else {
            return Ok(Some(format!("{} no such file", self.shared.habits.absent)));
        };
        let (mut connection, _) = listener.accept().await?;
        self.say("150 go on").await?;
        connection.write_all(&bytes).await?;
        Ok(Some("226 done".to_owned()))
    }

    fn rename_from(&mut self, argument: &str) -> String {
        self.renamed = self.path(argument);
        if self.shared.habits.no_renames {
            return "550 Permission denied.".to_owned();
        }
        let there = self.files().whole.contains_key(&self.renamed);
        if there { "350 to what?" } else { "550 no such file" }.to_owned()
    }

    fn rename_to(&mut self, argument: &str) -> String {
        let path = self.path(argument);
        if self.shared.names_stay.load(Ordering::SeqCst) {
            return "550 names stay".to_owned();
        }
        let mut files = self.files();
        if self.shared.habits.no_replacing && files.whole.contains_key(&path) {
            return "553 Cannot create a file when that file already exists.".to_owned();
        }
        let Some(bytes) = files.whole.remove(&self.renamed) else {
            return "550 no such file".to_owned();
        };
        files.whole.insert(path.clone(), bytes);
        drop(files);
        if self.shared.habits.taken_away {
            self.take_away(&path);
        }
        "250 renamed".to_owned()
    }

    /// Deletes a file with its lock, which belongs to the file, not to its name.
    fn delete(&self, argument: &str) -> String {
        let path = self.path(argument);
        if let Shown::Refused(_) = self.shared.habits.shown {
            return "550 Permission denied.".to_owned();
        }
        let mut files = self.files();
        files.locked.remove(&path);
        match files.whole.remove(&path) {
            Some(_) => "250 gone".to_owned(),
            None => "550 no such file".to_owned(),
        }
    }
}

/// Receives a file from an offset; returns the reply if it is not received completely.
async fn receive(
    connection: &mut TcpStream,
    shared: &Shared,
    name: &str,
    offset: usize,
) -> io::Result<Option<&'static str>> {
    let silent = shared.silent.swap(false, Ordering::SeqCst);
    let trouble = shared.strike();
    let (most, reply) = match trouble {
        _ if silent => (ARRIVED, None),
        Some(Trouble::Cut(most)) => (most, Some("426 Connection closed; transfer aborted.")),
        Some(Trouble::Stall(most)) => (most, None),
        Some(Trouble::Denied(_)) => (usize::MAX, None),
        Some(Trouble::Full(most)) => (most, Some("552 Exceeded storage allocation.")),
        _ => (usize::MAX, None),
    };
    let mut bytes = Vec::new();
    connection.take(most as u64).read_to_end(&mut bytes).await?;
    let broken = bytes.len() == most;
    {
        let mut files = shared.files();
        let whole = files.whole.entry(name.to_owned()).or_default();
        whole.truncate(offset);
        whole.extend(bytes);
        if silent {
            files.locked.insert(name.to_owned());
        }
    }
    match (broken, reply) {
        (false, _) => Ok(match trouble {
            Some(Trouble::Denied(reply)) => Some(reply),
            _ => None,
        }),
        (true, Some(reply)) => Ok(Some(reply)),
        (true, None) => std::future::pending().await,
    }
}
