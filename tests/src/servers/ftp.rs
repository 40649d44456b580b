//! An FTP server in clear that keeps files in memory, and that can take a dead connection for a living one, as vsftpd does.

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

use crate::{http::serve_each, lock};

/// So many bytes arrive of a file whose connection falls silent.
const ARRIVED: usize = 50_000;

#[derive(Debug, Default)]
struct Files {
    whole: BTreeMap<String, Vec<u8>>,
    /// Those that a connection writes, for all that the server knows.
    locked: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Shared {
    files: Mutex<Files>,
    silent: AtomicBool,
    names_stay: AtomicBool,
}

impl Shared {
    fn files(&self) -> MutexGuard<'_, Files> {
        lock(&self.files)
    }
}

/// The running server; dropping it ends it. All folders are one.
#[derive(Debug)]
pub struct FtpServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

impl FtpServer {
    /// Starts it on a free port of the loopback interface.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let for_task = shared.clone();
        Ok(Self {
            address,
            shared,
            _task: serve_each(listener, move |stream| serve(stream, for_task.clone())),
        })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The next file's connection falls silent in the middle. The file stays locked: who wants to write it waits for ever.
    pub fn fall_silent(&self) {
        self.shared.silent.store(true, Ordering::SeqCst);
    }

    /// From now on no file gets another name.
    pub fn refuse_new_names(&self) {
        self.shared.names_stay.store(true, Ordering::SeqCst);
    }

    /// The names of all files.
    pub fn names(&self) -> Vec<String> {
        self.shared.files().whole.keys().cloned().collect()
    }

    /// A file's content.
    pub fn get(&self, name: &str) -> Option<Vec<u8>> {
        self.shared.files().whole.get(name).cloned()
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    let mut control = BufReader::new(stream);
    let (mut data, mut offset, mut renamed) = (None, 0, String::new());
    let mut reply = "220 ready".to_owned();
    loop {
        control.get_mut().write_all(format!("{reply}\r\n").as_bytes()).await?;
        let mut line = String::new();
        if control.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let (verb, name) = line.trim_end().split_once(' ').unwrap_or((line.trim_end(), ""));
        reply = match verb {
            "USER" => "331 and the password?".to_owned(),
            "PASS" => "230 welcome".to_owned(),
            "TYPE" | "NOOP" => "200 well".to_owned(),
            "CWD" => "250 there".to_owned(),
            "PWD" => "257 \"/\"".to_owned(),
            "EPSV" => {
                let listener = TcpListener::bind("127.0.0.1:0").await?;
                let port = listener.local_addr()?.port();
                data = Some(listener);
                format!("229 (|||{port}|)")
            }
            "SIZE" => match shared.files().whole.get(name) {
                Some(bytes) => format!("213 {}", bytes.len()),
                None => "550 no such file".to_owned(),
            },
            "REST" => {
                offset = name.parse().unwrap_or(0);
                "350 from there".to_owned()
            }
            "STOR" | "RETR" => {
                let Some(listener) = data.take() else {
                    reply = "425 no data connection".to_owned();
                    continue;
                };
                let (mut connection, _) = listener.accept().await?;
                if verb == "STOR" && shared.files().locked.contains(name) {
                    return std::future::pending().await;
                }
                control.get_mut().write_all(b"150 go on\r\n").await?;
                if verb == "RETR" {
                    let bytes = shared.files().whole.get(name).cloned().unwrap_or_default();
                    connection.write_all(&bytes).await?;
                } else {
                    take(&mut connection, &shared, name, std::mem::take(&mut offset)).await?;
                }
                "226 done".to_owned()
            }
            "RNFR" => {
                name.clone_into(&mut renamed);
                "350 to what?".to_owned()
            }
            "RNTO" if shared.names_stay.load(Ordering::SeqCst) => "550 names stay".to_owned(),
            "RNTO" => {
                let mut files = shared.files();
                match files.whole.remove(&renamed) {
                    Some(bytes) => {
                        files.whole.insert(name.to_owned(), bytes);
                        "250 renamed".to_owned()
                    }
                    None => "550 no such file".to_owned(),
                }
            }
            // The lock is the file's that is gone, not the name's.
            "DELE" => {
                let mut files = shared.files();
                files.locked.remove(name);
                match files.whole.remove(name) {
                    Some(_) => "250 gone".to_owned(),
                    None => "550 no such file".to_owned(),
                }
            }
            "QUIT" => "221 goodbye".to_owned(),
            _ => "502 unknown".to_owned(),
        };
    }
}

/// Takes a file from an offset on.
async fn take(connection: &mut TcpStream, shared: &Shared, name: &str, offset: usize) -> io::Result<()> {
    let silent = shared.silent.swap(false, Ordering::SeqCst);
    let mut bytes = Vec::new();
    if silent {
        bytes.resize(ARRIVED, 0);
        connection.read_exact(&mut bytes).await?;
        let mut files = shared.files();
        files.whole.insert(name.to_owned(), bytes);
        files.locked.insert(name.to_owned());
    } else {
        connection.read_to_end(&mut bytes).await?;
        let mut files = shared.files();
        let whole = files.whole.entry(name.to_owned()).or_default();
        whole.truncate(offset);
        whole.extend(bytes);
        return Ok(());
    }
    std::future::pending().await
}
