//! Measures deliveries: files are sent to real servers through faults, and the results are counted:
//! delivered once, twice, lost, partly visible.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;
use sha2::{Digest as _, Sha256};

use crate::{
    proxy::{Proxy, Treatment},
    real::RealServer,
    secrets::secret_file,
    servers::{FtpServer, KEY_ID, NamedHabits, ObjectStore, Trouble, ftp_habits},
    setting::Setting,
};

/// All targets: a mail server, ProFTPD with TLS 1.3 and 1.2, vsftpd, OpenSSH, Samba, a folder in a
/// small file system, an object store in this process.
pub const TARGETS: [&str; 8] =
    ["mail", "ftp", "ftp-tls12", "vsftpd", "sftp", "share", "folder", "s3"];

/// Prefix of targets that are in-process FTP servers with habits of real ones, each of
/// [`ftp_habits`].
pub const HABIT: &str = "habit-";

/// Returns the names of all targets, including those for habits.
pub fn targets() -> Vec<String> {
    let habits = ftp_habits().into_iter().map(|named| format!("{HABIT}{}", named.name));
    TARGETS.iter().map(|name| (*name).to_owned()).chain(habits).collect()
}

/// How often a delivery is retried before it counts as lost.
const TRIES: usize = 40;
/// Time that an accepted mail may take to reach its mailbox.
const ARRIVING: Duration = Duration::from_secs(90);

/// A fault during a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A proxy resets the connection after some bytes.
    Cut,
    /// The server is stopped during a transfer and restarted.
    ServerStopped,
    /// The delivering process is killed.
    ProcessKilled,
    /// The password is wrong, then right.
    WrongPassword,
    /// The server presents an untrusted certificate or key, then the right one.
    Certificate,
    /// There is no space at the destination, then there is.
    DiskFull,
    /// A proxy loses packets: data arrives after pauses.
    Lossy,
    /// A proxy forwards a few bytes at a time.
    Tiny,
    /// A proxy stops forwarding after some bytes; the connection stays open.
    Stalled,
}

impl Fault {
    /// All faults.
    pub const ALL: [Self; 9] = [
        Self::Cut,
        Self::ServerStopped,
        Self::ProcessKilled,
        Self::WrongPassword,
        Self::Certificate,
        Self::DiskFull,
        Self::Lossy,
        Self::Tiny,
        Self::Stalled,
    ];
}

/// Settings of a measurement.
#[derive(Debug, Clone)]
pub struct Plan {
    /// One of [`TARGETS`].
    pub target: String,
    /// Number of faults.
    pub faults: usize,
    /// Size of each file in bytes.
    pub size: usize,
    /// Seed of all random numbers.
    pub seed: u64,
    /// Only these faults; if empty, all that the target supports.
    pub only: Vec<Fault>,
}

/// Results of the deliveries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Toll {
    /// Delivered once, byte for byte.
    pub once: u64,
    /// Delivered more than once.
    pub twice: u64,
    /// Not delivered, or altered.
    pub lost: u64,
    /// Recorded in the ledger as delivered, but missing.
    pub claimed: u64,
    /// How often an incomplete file had its final name; `None` if that can't be observed: in a
    /// mailbox and an object store.
    pub half_visible: Option<u64>,
    /// Faults that had an effect: the first attempt failed or was slowed down, or the process was
    /// killed.
    pub struck: u64,
    /// Descriptions of lost and duplicate deliveries.
    pub words: Vec<String>,
}

/// The remote end.
struct Far {
    kind: String,
    /// Where files arrive: a folder, or that of the mailbox.
    folder: PathBuf,
    script: PathBuf,
    /// Values that the script published.
    env: RealServer,
    /// Proxies on the path; over FTP, first that of the control connection, then those of the data
    /// connections.
    ways: Vec<Proxy>,
    /// The object store, if the target is one.
    store: Option<ObjectStore>,
    /// The small file system, if the target is a folder.
    disk: Option<Disk>,
    /// The in-process server and its habits, if the target is one.
    habit: Option<(Arc<FtpServer>, NamedHabits)>,
}

/// A small file system, if this user may mount one.
struct Disk {
    folder: tempfile::TempDir,
    mounted: bool,
}

impl Disk {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mounted = run_quietly(
            Command::new("mount")
                .args(["-t", "tmpfs", "-o", "size=60m", "tmpfs"])
                .arg(folder.path()),
        );
        if !mounted {
            eprintln!(
                "the folder is not a separate file system: mount one to fill it or make it read-only"
            );
        }
        Self { folder, mounted }
    }

    /// Sets whether it can be written.
    fn set_writable(&self, writable: bool) {
        let how = if writable { "remount,rw" } else { "remount,ro" };
        run_quietly(Command::new("mount").args(["-o", how]).arg(self.folder.path()));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            run_quietly(Command::new("umount").arg("-l").arg(self.folder.path()));
        }
    }
}

fn run_quietly(command: &mut Command) -> bool {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Delivers files through the faults.
///
/// # Panics
/// The setting can't be created.
pub async fn run(plan: &Plan) -> Toll {
    let Some(far) = Far::reach(&plan.target).await else {
        return Toll::default();
    };
    let mut random = Pcg64Mcg::seed_from_u64(plan.seed);
    let mut toll = Toll { half_visible: far.is_watched().then_some(0), ..Toll::default() };
    let possible: Vec<Fault> = Fault::ALL
        .into_iter()
        .filter(|fault| plan.only.is_empty() || plan.only.contains(fault))
        .filter(|fault| far.can(*fault))
        .collect();
    let setting = setting(&far);
    for number in 0..plan.faults {
        let fault = possible[number % possible.len()];
        let mut content = vec![0_u8; plan.size];
        random.fill(&mut content[..]);
        let name = format!("report-{}-{number}.pdf", plan.seed);
        fs::write(setting.path(&name), &content).expect("a file");
        let hash = Sha256::digest(&content);
        let moment = random.random_range(0.02..0.95);
        let watch = far.watch(&name, content.len() as u64);
        let struck = deliver(&setting, &far, &name, (fault, moment), plan.size).await;
        toll.struck += u64::from(struck);
        let half = watch.end();
        toll.half_visible = toll.half_visible.map(|before| before + half);
        let claimed = delivered(&setting, &name);
        let copies = far.copies(&name, &hash, claimed);
        toll.claimed += u64::from(claimed && copies == 0);
        match copies {
            1 => toll.once += 1,
            0 => {
                toll.lost += 1;
                toll.words.push(format!("{number} {fault:?}: lost"));
            }
            more => {
                toll.twice += 1;
                toll.words.push(format!("{number} {fault:?}: {more} times"));
            }
        }
        if half > 0 {
            toll.words.push(format!("{number} {fault:?}: half-visible"));
        }
        eprintln!(
            "{} {number} {fault:?} at {moment:.2}: struck {struck}, copies {copies}",
            far.kind
        );
        let _ = fs::remove_file(setting.path(&name));
        far.clear(&name);
    }
    toll
}

fn setting(far: &Far) -> Setting {
    let port = far.port();
    let mut setting = Setting::new("couriers");
    secret_file(&setting.path("password"), far.password());
    set(&setting, "trust", &far.trust());
    let user = far.user();
    let target = match far.kind.as_str() {
        _ if far.habit.is_some() => {
            let keys = far.habit.as_ref().map_or("", |(_, named)| named.keys);
            let timeout = if keys.contains("timeout") { "" } else { "timeout = \"10s\"" };
            format!(
                "[target.far]\nkind = \"ftp\"\nserver = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\naccount = \"far\"\npath = \"couriers\"\n{timeout}\n{keys}"
            )
        }
        "mail" => format!(
            "[mail_server.postfix]\nserver = \"localhost\"\nport = {port}\ntls = \"starttls\"\nca_file = \"trust\"\naccount = \"far\"\nfrom = \"alerts@example.com\"\n\
             timeout = \"10s\"\n[target.far]\nkind = \"email\"\nto = [\"anna@example.com\"]"
        ),
        "ftp" | "ftp-tls12" | "vsftpd" => format!(
            "[target.far]\nkind = \"ftp\"\nserver = \"localhost\"\nport = {port}\ntls = \"explicit\"\nca_file = \"trust\"\naccount = \"far\"\npath = \"{}\"\ntimeout = \"10s\"",
            if far.kind == "vsftpd" { "in/couriers" } else { "couriers" }
        ),
        "folder" => format!(
            "[target.far]\nkind = \"folder\"\npath = {:?}",
            far.folder.display().to_string()
        ),
        "s3" => format!(
            "[target.far]\nkind = \"object-store\"\nurl = \"s3://bucket/couriers\"\nendpoint = \"http://127.0.0.1:{port}\"\nallow_http = true\n\
             region = \"eu-north-1\"\naccount = \"far\""
        ),
        "sftp" => format!(
            "[target.far]\nkind = \"sftp\"\nserver = \"127.0.0.1\"\nport = {port}\nuser = \"{user}\"\nkey_file = \"password\"\nknown_hosts = \"trust\"\npath = \"couriers\"\ntimeout = \"10s\""
        ),
        _ => format!(
            "[target.far]\nkind = \"smb\"\nserver = \"127.0.0.1\"\nport = {port}\nshare = \"{}\"\naccount = \"far\"\npath = \"couriers\"\ntimeout = \"10s\"",
            far.env.get("SHARE")
        ),
    };
    setting.add(&format!(
        "[account.far]\nuser = \"{user}\"\npassword = {{ file = \"password\" }}\n\
         [delivery]\nfirst_pause = \"1s\"\nlongest_pause = \"1s\"\n{target}"
    ));
    setting.write();
    setting
}

/// Delivers a file through one fault, then without; returns whether the fault had an effect.
async fn deliver(
    setting: &Setting,
    far: &Far,
    name: &str,
    (fault, moment): (Fault, f64),
    size: usize,
) -> bool {
    match fault {
        Fault::Cut | Fault::Stalled if far.habit.is_some() => far.trouble(match fault {
            Fault::Cut => Trouble::Cut((size as f64 * moment) as usize),
            _ => Trouble::Stall((size as f64 * moment) as usize),
        }),
        Fault::Cut | Fault::Stalled => far.cut(fault, moment, size),
        Fault::WrongPassword => far.refuse(setting, true),
        Fault::Certificate => far.distrust(setting),
        Fault::DiskFull if far.habit.is_some() => {
            far.trouble(Trouble::Full((size as f64 * moment) as usize))
        }
        Fault::DiskFull => far.fill(true),
        Fault::Lossy => far.treat(&Treatment { loss: 10, ..Treatment::default() }),
        Fault::Tiny => {
            far.treat(&Treatment { drip: Some((700, Duration::ZERO)), ..Treatment::default() })
        }
        // A file system with open files can't be made read-only.
        Fault::ServerStopped if far.disk.is_some() => far.stop(),
        Fault::ServerStopped | Fault::ProcessKilled => {}
    }
    let felt = far.struck();
    let mut command = setting.command("mailqos-analytics");
    let mut child = command
        .args(["deliver", name, "--to", "far"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let pause = Duration::from_secs_f64(far.takes(size) * moment);
    let struck = match fault {
        Fault::ProcessKilled => {
            ordered(setting, &mut child).await;
            tokio::time::sleep(pause).await;
            let _ = child.kill();
            !child.wait().is_ok_and(|status| status.success())
        }
        Fault::ServerStopped => {
            ordered(setting, &mut child).await;
            tokio::time::sleep(pause).await;
            far.stop();
            let ended = wait(&mut child).await;
            far.start();
            !ended
        }
        // These slow it down but need not make it fail.
        Fault::Lossy | Fault::Tiny => {
            wait(&mut child).await;
            far.struck() > felt
        }
        _ => !wait(&mut child).await,
    };
    far.treat(&Treatment::default());
    match fault {
        Fault::WrongPassword => far.refuse(setting, false),
        Fault::Certificate => set(setting, "trust", &far.trust()),
        Fault::DiskFull => far.fill(false),
        _ => {}
    }
    if let Some((server, _)) = &far.habit {
        server.trouble(None);
    }
    for _ in 0..TRIES {
        if delivered(setting, name) {
            return struck;
        }
        let ids: Vec<String> = setting
            .succeed("mailqos-analytics", &["outbox", "list"])
            .lines()
            .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
            .collect();
        let mut arguments = vec!["outbox", "retry"];
        arguments.extend(ids.iter().map(String::as_str));
        let output = setting.run("mailqos-analytics", &arguments);
        if !output.status.success() {
            eprintln!("  {}", String::from_utf8_lossy(&output.stderr).trim());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    struck
}

/// Waits until the order is on disk, so that later faults must not lose it.
async fn ordered(setting: &Setting, child: &mut Child) {
    let pending = setting.path("data/state/outbox/pending");
    let begun = Instant::now();
    while fs::read_dir(&pending).map_or(0, Iterator::count) == 0
        && begun.elapsed() < Duration::from_secs(60)
        && matches!(child.try_wait(), Ok(None))
    {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn wait(child: &mut Child) -> bool {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(_) => return false,
        }
    }
}

fn set(setting: &Setting, name: &str, text: &str) {
    fs::write(setting.path(name), text).expect("a file");
}

/// Returns whether the ledger lists a file as delivered.
fn delivered(setting: &Setting, name: &str) -> bool {
    setting
        .succeed("mailqos-analytics", &["outbox", "ledger"])
        .lines()
        .any(|line| line.contains(name))
}

impl Far {
    /// Returns the remote end of a target, if it is available.
    async fn reach(target: &str) -> Option<Self> {
        let far = |env: RealServer, folder: PathBuf, script: &str, ways: Vec<Proxy>| Self {
            kind: target.to_owned(),
            folder,
            script: Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("real/{script}.sh")),
            env,
            ways,
            store: None,
            disk: None,
            habit: None,
        };
        if let Some(named) =
            ftp_habits().into_iter().find(|named| target == format!("{HABIT}{}", named.name))
        {
            let server = FtpServer::with(named.habits.clone()).await.expect("a server");
            return Some(Self {
                habit: Some((Arc::new(server), named)),
                ..far(RealServer::default(), PathBuf::new(), "none", Vec::new())
            });
        }
        let local = |port: u16| ([127, 0, 0, 1], port).into();
        match target {
            "folder" => {
                let disk = Disk::new();
                let folder = disk.folder.path().join("couriers");
                Some(Self {
                    disk: Some(disk),
                    ..far(RealServer::default(), folder, "none", Vec::new())
                })
            }
            "s3" => {
                let store = ObjectStore::start().await.expect("a store");
                let way = Proxy::start(local(store.port())).await.expect("a proxy");
                Some(Self {
                    store: Some(store),
                    ..far(RealServer::default(), PathBuf::new(), "none", vec![way])
                })
            }
            "ftp" | "ftp-tls12" | "vsftpd" => {
                let env = RealServer::find("ftp")?;
                let (port, ports, folder) = match target {
                    "ftp" => ("FAR_PORT", "FAR_DATA", "FOLDER"),
                    "ftp-tls12" => ("FAR_TLS12_PORT", "FAR_DATA", "FOLDER"),
                    _ => ("FAR_VSFTPD_PORT", "FAR_VSFTPD_DATA", "FAR_VSFTPD_FOLDER"),
                };
                // The servers use another local address, so that the ports that they name for data
                // are free here.
                let there = |port: u16| ([127, 0, 0, 2], port).into();
                let mut ways = vec![Proxy::start(there(env.port(port))).await.expect("a proxy")];
                let (first, last) = env.get(ports).split_once('-').expect("a range of ports");
                let number = |text: &str| text.parse::<u16>().expect("a port");
                for port in number(first)..=number(last) {
                    ways.push(Proxy::start_at(local(port), there(port)).await.expect("a proxy"));
                }
                let below = if target == "vsftpd" { "in/couriers" } else { "couriers" };
                let folder = Path::new(env.get(folder)).join(below);
                Some(far(env, folder, "ftp", ways))
            }
            _ => {
                let (name, port) = match target {
                    "mail" => ("mail", "SMTP_PORT"),
                    "sftp" => ("sftp", "SFTP_PORT"),
                    _ => ("share", "SMB_PORT"),
                };
                let env = RealServer::find(name)?;
                let folder = match target {
                    "mail" => {
                        Path::new(env.get("MAIL_FOLDER")).join("anna@example.com/Maildir/new")
                    }
                    _ => Path::new(env.get("FOLDER")).join("couriers"),
                };
                let way = Proxy::start(local(env.port(port))).await.expect("a proxy");
                Some(far(env, folder, name, vec![way]))
            }
        }
    }

    fn trouble(&self, trouble: Trouble) {
        if let Some((server, _)) = &self.habit {
            server.trouble(Some(trouble));
        }
    }

    fn is_ftp(&self) -> bool {
        self.kind.contains("ftp") && self.kind != "sftp"
    }

    /// Returns the port at which the path begins.
    fn port(&self) -> u16 {
        match &self.habit {
            Some((server, _)) => server.port(),
            None => self.ways.first().map_or(0, Proxy::port),
        }
    }

    fn user(&self) -> String {
        match self.kind.as_str() {
            "mail" => "alerts@example.com".to_owned(),
            "vsftpd" => "anonymous".to_owned(),
            "folder" => "nobody".to_owned(),
            "s3" => KEY_ID.to_owned(),
            _ if self.habit.is_some() => "reports".to_owned(),
            _ => self.env.get("USER").to_owned(),
        }
    }

    fn treat(&self, treatment: &Treatment) {
        for way in &self.ways {
            way.treat(treatment.clone());
        }
    }

    fn struck(&self) -> u64 {
        self.ways.iter().map(Proxy::struck).sum()
    }

    /// Makes the password wrong, or right again.
    fn refuse(&self, setting: &Setting, refuse: bool) {
        if let Some((server, _)) = &self.habit {
            return server.trouble(refuse.then_some(Trouble::Refuse));
        }
        match &self.store {
            Some(store) => store.set_refusing(refuse),
            None if refuse => set(setting, "password", &self.wrong_password(setting)),
            None => set(setting, "password", self.password()),
        }
    }

    fn can(&self, fault: Fault) -> bool {
        if let Some((_, named)) = &self.habit {
            return match fault {
                Fault::Certificate | Fault::Lossy | Fault::Tiny => false,
                // A file that is collected immediately leaves no trace. If the process dies or the
                // server disappears before the reply, it is unknown whether the file arrived, and
                // it is sent again.
                Fault::ProcessKilled | Fault::ServerStopped => !named.habits.taken_away,
                _ => true,
            };
        }
        match fault {
            // SMB has no certificates, and the store does not use one.
            Fault::Certificate => !matches!(self.kind.as_str(), "share" | "folder" | "s3"),
            // A folder can only be filled if it is a separate file system.
            Fault::DiskFull => matches!(self.kind.as_str(), "mail" | "s3") || fills(&self.folder),
            // Read-only, then writable.
            Fault::ServerStopped => self.disk.as_ref().is_none_or(|disk| disk.mounted),
            // The acceptance of a mail is awaited for ten minutes.
            Fault::Stalled => !matches!(self.kind.as_str(), "mail" | "folder"),
            Fault::Cut | Fault::Lossy | Fault::Tiny | Fault::WrongPassword => self.kind != "folder",
            _ => true,
        }
    }

    fn password(&self) -> &str {
        static KEY: std::sync::OnceLock<String> = std::sync::OnceLock::new();
        if self.kind == "sftp" {
            KEY.get_or_init(|| fs::read_to_string(self.env.get("KEY_FILE")).expect("a key"))
        } else if self.habit.is_some() || matches!(self.kind.as_str(), "folder" | "s3" | "vsftpd") {
            "mailqos@example.com"
        } else {
            self.env.get("PASSWORD")
        }
    }

    /// For SFTP, an unknown key.
    fn wrong_password(&self, setting: &Setting) -> String {
        if self.kind != "sftp" {
            return "wrong".to_owned();
        }
        let path = setting.path("other-key");
        if !path.exists() {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(&path)
                .status();
            assert!(made.is_ok_and(|status| status.success()), "ssh-keygen");
        }
        fs::read_to_string(path).expect("a key")
    }

    fn trust(&self) -> String {
        match self.kind.as_str() {
            "share" | "folder" | "s3" => String::new(),
            _ if self.habit.is_some() => String::new(),
            "sftp" => format!("[127.0.0.1]:{} {}\n", self.port(), self.env.get("HOST_KEY")),
            _ => fs::read_to_string(self.env.get("CA_FILE")).expect("certificates"),
        }
    }

    /// Makes the server appear to have another certificate or key.
    fn distrust(&self, setting: &Setting) {
        let other = if self.kind == "sftp" {
            self.wrong_password(setting);
            let public = fs::read_to_string(setting.path("other-key.pub")).expect("a key");
            format!("[127.0.0.1]:{} {public}", self.port())
        } else {
            crate::servers::Authority::new().pem().to_owned()
        };
        set(setting, "trust", &other);
    }

    /// Returns the approximate duration of a delivery without faults, in seconds.
    fn takes(&self, size: usize) -> f64 {
        let megabytes = size as f64 / 1e6;
        match self.kind.as_str() {
            "share" => 0.4 + megabytes * 0.2,
            "mail" => 0.2 + megabytes * 0.03,
            "folder" => 0.005 * megabytes,
            "s3" => 0.01 * megabytes,
            _ if self.habit.is_some() => 0.02 + 0.01 * megabytes,
            _ => 0.3 + megabytes * 0.05,
        }
    }

    /// Cuts or stalls the connection after this many bytes from the client; over FTP usually the
    /// data connection, sometimes the control connection.
    fn cut(&self, fault: Fault, moment: f64, size: usize) {
        let (most, ways) = match self.kind.as_str() {
            _ if self.is_ftp() && moment < 0.15 => (15_000.0, &self.ways[..1]),
            _ if self.is_ftp() => (size as f64, &self.ways[1..]),
            "mail" => (size as f64 * 1.3, &self.ways[..]),
            _ => (size as f64, &self.ways[..]),
        };
        let bytes = (most * moment) as u64;
        let treatment = match fault {
            Fault::Cut => Treatment { cut_after_sent: Some(bytes), ..Treatment::default() },
            _ => Treatment { stall_after: Some(bytes), ..Treatment::default() },
        };
        for way in ways {
            way.treat(treatment.clone());
        }
    }

    /// Stops the server and all its connections.
    fn stop(&self) {
        if self.habit.is_some() {
            return self.trouble(Trouble::Away);
        }
        if let Some(store) = &self.store {
            store.set_away(true);
            return self.ways.iter().for_each(Proxy::cut);
        }
        if let Some(disk) = &self.disk {
            return disk.set_writable(false);
        }
        let log =
            Path::new(self.env.get(if self.kind == "vsftpd" { "FAR_VSFTPD_LOG" } else { "LOG" }));
        let pid_file = log.with_file_name("pid");
        let mut open: Vec<String> = fs::read_to_string(&pid_file)
            .map(|text| vec![text.trim().to_owned()])
            .unwrap_or_default();
        let mut children = Vec::new();
        while let Some(parent) = open.pop() {
            let output = Command::new("ps").args(["-o", "pid=", "--ppid", &parent]).output();
            let found = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            for child in found.unwrap_or_default().split_whitespace() {
                children.push(child.to_owned());
                open.push(child.to_owned());
            }
        }
        // Session processes outlive some servers; they were started by the script.
        let pids = children.iter().map(String::as_str);
        let _ = Command::new("kill").arg("-KILL").args(pids).stderr(Stdio::null()).status();
        self.script("stop");
    }

    /// Restarts the server.
    fn start(&self) {
        if let Some((server, _)) = &self.habit {
            return server.trouble(None);
        }
        if let Some(store) = &self.store {
            return store.set_away(false);
        }
        if let Some(disk) = &self.disk {
            return disk.set_writable(true);
        }
        self.script("start");
    }

    fn script(&self, verb: &str) {
        let status = Command::new("bash")
            .arg(&self.script)
            .arg(verb)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(status.is_ok_and(|status| status.success()), "{} {verb}", self.script.display());
    }

    /// Fills the space at the destination, or frees it.
    fn fill(&self, full: bool) {
        if let Some(store) = &self.store {
            return store.set_full(full);
        }
        if self.kind == "mail" {
            let conf = Path::new(self.env.get("LOG")).with_file_name("conf");
            let setting = if full { "queue_minfree=900000000000000" } else { "queue_minfree=0" };
            for arguments in [vec!["postconf", "-e", setting], vec!["postfix", "reload"]] {
                let (program, rest) = arguments.split_first().expect("a program");
                let status = Command::new(program)
                    .arg("-c")
                    .arg(&conf)
                    .args(rest)
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status();
                assert!(status.is_ok_and(|status| status.success()), "{arguments:?}");
            }
            thread::sleep(Duration::from_millis(500));
            return;
        }
        let _ = fs::create_dir_all(self.folder.parent().unwrap_or(&self.folder));
        let filler = self.folder.with_file_name("filler");
        if full {
            use std::io::Write as _;
            let mut file = fs::File::create(&filler).expect("a filler");
            let piece = vec![1; 1 << 20];
            while file.write_all(&piece).is_ok() {}
        } else {
            let _ = fs::remove_file(&filler);
        }
    }

    /// Returns whether incomplete files can be observed: if files are in a folder.
    fn is_watched(&self) -> bool {
        match &self.habit {
            // A file written under its final name is visible before it is complete.
            Some((_, named)) => !named.keys.contains("temporary = \"none\""),
            None => self.kind != "mail" && self.store.is_none(),
        }
    }

    /// Checks continuously whether an incomplete file has the final name.
    fn watch(&self, name: &str, size: u64) -> Watch {
        let (end, half) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (path, watched) = (self.folder.join(name), self.is_watched());
        let server = self.habit.as_ref().map(|(server, _)| Arc::clone(server));
        let remote = format!("couriers/{name}");
        let (thread_end, thread_half) = (Arc::clone(&end), Arc::clone(&half));
        let thread = thread::spawn(move || {
            while !thread_end.load(Ordering::Relaxed) {
                let there = match &server {
                    Some(server) => server.get(&remote).map(|bytes| bytes.len() as u64),
                    None => fs::metadata(&path).ok().map(|found| found.len()),
                };
                if watched && there.is_some_and(|there| there != size) {
                    thread_half.fetch_add(1, Ordering::Relaxed);
                }
                thread::sleep(Duration::from_millis(2));
            }
        });
        Watch { end, half, thread }
    }

    /// Returns how many copies of the file there are, byte for byte.
    fn copies(&self, name: &str, hash: &[u8], delivered: bool) -> usize {
        if let Some((server, _)) = &self.habit {
            let path = format!("couriers/{name}");
            let same = |bytes: &[u8]| Sha256::digest(bytes)[..] == *hash;
            let taken = server.taken();
            let taken = taken.iter().filter(|(taken, bytes)| *taken == path && same(bytes));
            return taken.count()
                + usize::from(server.get(&path).is_some_and(|bytes| same(&bytes)));
        }
        if let Some(store) = &self.store {
            let same = |name: &String| {
                store.get(name).is_some_and(|bytes| Sha256::digest(&bytes)[..] == *hash)
            };
            return store.names().iter().filter(|name| same(name)).count();
        }
        if self.kind != "mail" {
            let same =
                |path: &Path| fs::read(path).is_ok_and(|bytes| Sha256::digest(&bytes)[..] == *hash);
            let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
            let visible = entries.map(|entry| entry.path()).filter(|path| {
                !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
            });
            return visible.filter(|path| same(path)).count();
        }
        let begun = Instant::now();
        let mut last = (0, Instant::now());
        loop {
            let count = self.mails(name, hash);
            if count != last.0 {
                last = (count, Instant::now());
            }
            // A second copy would follow the first soon, if at all.
            let settled = count > 0 && last.1.elapsed() > Duration::from_secs(2);
            if settled || !delivered || begun.elapsed() > ARRIVING {
                return count;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Counts the mails with the file. A mail that the server accepted once and delivered twice, as
    /// it does if it is killed before recording the first delivery, counts once: both copies have
    /// the same server id.
    fn mails(&self, name: &str, hash: &[u8]) -> usize {
        let mut taken = BTreeSet::new();
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let Ok(bytes) = fs::read(entry.path()) else {
                continue;
            };
            let text = String::from_utf8_lossy(&bytes);
            let Some((head, rest)) = text.split_once(&format!("filename=\"{name}\"")) else {
                continue;
            };
            let body = rest.replace('\r', "");
            let body = body.split_once("\n\n").map_or("", |(_, body)| body);
            let body: String = body.lines().take_while(|line| !line.starts_with("--")).collect();
            if STANDARD.decode(body).is_ok_and(|bytes| Sha256::digest(&bytes)[..] == *hash) {
                let id = head
                    .split_once("(Postfix) with ")
                    .and_then(|(_, rest)| rest.split_once(" id "))
                    .and_then(|(_, rest)| rest.split_whitespace().next());
                taken.insert(id.map_or_else(|| entry.path().display().to_string(), str::to_owned));
            }
        }
        taken.len()
    }

    /// Frees space for the next delivery.
    fn clear(&self, name: &str) {
        if let Some((server, _)) = &self.habit {
            return server.clear();
        }
        if self.kind == "mail" {
            for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
                if fs::read(entry.path())
                    .is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(name))
                {
                    let _ = fs::remove_file(entry.path());
                }
            }
            return;
        }
        let left: BTreeSet<PathBuf> = fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        for path in left {
            if path.file_name().is_some_and(|found| found.to_string_lossy().contains(name)) {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// Returns whether the folder is in a separate small file system.
fn fills(folder: &Path) -> bool {
    let root = folder.parent().unwrap_or(folder);
    let output = Command::new("df").arg("--output=size").arg("-m").arg(root).output();
    output.is_ok_and(|output| {
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .last()
            .and_then(|line| line.trim().parse::<u64>().ok())
            .is_some_and(|megabytes| megabytes <= 200)
    })
}

/// A thread that watches a folder.
struct Watch {
    end: Arc<AtomicBool>,
    half: Arc<AtomicU64>,
    thread: thread::JoinHandle<()>,
}

impl Watch {
    fn end(self) -> u64 {
        self.end.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
        self.half.load(Ordering::Relaxed)
    }
}
