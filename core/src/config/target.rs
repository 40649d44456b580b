//! Where reports go: `[target.NAME]`, and what holds for all of them: `[delivery]`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use super::{
    Config, Endpoint, ObjectStoreOptions, Problems, Table, TlsMode, Trust,
    mail_server::mail_server_of,
    message::Bytes,
    object_store,
    operator::{recipients, some_recipients},
    server::{FTP, SMB, endpoint, port},
    value::{duration, host, mail_address, no_such, reference, reference_at},
};
use crate::model::{AccountName, Micros, Name};

/// What holds for all deliveries: the table `delivery`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryOptions {
    /// How long a delivery is tried before it is given up.
    pub patience: Micros,
    /// The pause after the first failed attempt; each further one is twice as long.
    pub first_pause: Micros,
    /// The longest pause between two attempts.
    pub longest_pause: Micros,
    /// By which action list people are told of a delivery that was given up.
    pub action_list: Option<Name>,
}

impl Default for DeliveryOptions {
    fn default() -> Self {
        Self {
            patience: Micros::from_secs(3 * 86_400),
            first_pause: Micros::from_secs(30),
            longest_pause: Micros::from_secs(3_600),
            action_list: None,
        }
    }
}

/// A place that reports can be delivered to.
#[derive(Debug, Clone)]
pub enum Target {
    /// Files are put somewhere.
    Files(FilesTarget),
    /// Mails are sent.
    Email(EmailTarget),
}

/// Files are put somewhere.
#[derive(Debug, Clone)]
pub struct FilesTarget {
    /// Where.
    pub place: FilesPlace,
    /// What happens where another file of the name is there.
    pub existing: Existing,
    /// How it is checked that a file has arrived.
    pub verify: Verify,
    /// Files that were delivered longer ago than this are removed; none, if nothing is said.
    pub keep: Option<Micros>,
    /// Only the so many last files of a report are kept.
    pub keep_last: Option<u32>,
    /// Where people find the target's folder with a browser.
    pub url: Option<String>,
    /// How long a delivery is tried, if not as long as `[delivery]` says.
    pub patience: Option<Micros>,
}

/// A place for files.
#[derive(Debug, Clone)]
pub enum FilesPlace {
    /// A local or mounted folder.
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// An FTP server.
    Ftp {
        /// The server and the account.
        endpoint: Endpoint,
        /// Folder on the server; relative to the log-in folder unless it begins with `/`.
        path: String,
        /// The server connects back for the data.
        active: bool,
        /// Deadline of each step.
        timeout: Micros,
    },
    /// An SSH server, over SFTP.
    Sftp(Box<Sftp>),
    /// An SMB 2/3 network share.
    Smb {
        /// The server and the account (with its Windows domain).
        endpoint: Endpoint,
        /// The share's name.
        share: String,
        /// Folder in the share.
        path: String,
        /// Deadline of each step.
        timeout: Micros,
    },
    /// An object store: Amazon S3 and its kin, Azure, Google.
    ObjectStore {
        /// `s3://bucket/prefix`, `az://container/prefix` or `gs://bucket/prefix`.
        url: String,
        /// How it is reached.
        options: ObjectStoreOptions,
    },
}

/// An SSH server, over SFTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sftp {
    /// Host name or IP address.
    pub server: String,
    /// TCP port.
    pub port: u16,
    /// Who logs in with a password, or whose key needs this passphrase.
    pub account: Option<AccountName>,
    /// Who logs in with a key, where there is no account.
    pub user: Option<String>,
    /// File of the private key.
    pub key_file: Option<PathBuf>,
    /// The server's public keys, each as in `known_hosts` without the name: `ssh-ed25519 AAAA…`.
    pub host_keys: Vec<String>,
    /// A `known_hosts` file; the user's own where neither is given.
    pub known_hosts: Option<PathBuf>,
    /// Folder on the server; relative to the log-in folder unless it begins with `/`.
    pub path: String,
    /// Deadline of each step.
    pub timeout: Micros,
}

/// What happens where another file of the name is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Existing {
    /// It is replaced, at once and whole.
    #[default]
    Replace,
    /// It stays, and the delivery fails.
    Refuse,
}

/// How it is checked that a file has arrived.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Verify {
    /// It is read back, and its SHA-256 compared.
    #[default]
    Hash,
    /// Its size is compared.
    Size,
}

/// Mails are sent.
#[derive(Debug, Clone)]
pub struct EmailTarget {
    /// Through which mail servers: the first, and those that stand in for it, in this order.
    pub mail_servers: Vec<Name>,
    /// Recipients, those of operators resolved.
    pub to: Vec<String>,
    /// Further recipients, shown.
    pub cc: Vec<String>,
    /// Further recipients, not shown.
    pub bcc: Vec<String>,
    /// Where answers go.
    pub reply_to: Option<String>,
    /// The most bytes that the files of one mail may have, for recipients without a limit of their own.
    pub attachments: Option<u64>,
    /// The limits of the recipients that have one.
    pub limits: BTreeMap<String, u64>,
    /// What recipients get for whom the files are too large.
    pub too_large: TooLarge,
    /// How long a delivery is tried, if not as long as `[delivery]` says.
    pub patience: Option<Micros>,
}

/// What recipients get for whom the files are too large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TooLarge {
    /// Several mails; a file that is too large by itself comes in pieces.
    Split,
    /// The files are put to another target, and the mail says where they are.
    Link(Name),
    /// The mail without the files; it says which there were.
    Leave,
}

impl Target {
    /// How long a delivery is tried, if the target says so itself.
    pub fn patience(&self) -> Option<Micros> {
        match self {
            Self::Files(files) => files.patience,
            Self::Email(email) => email.patience,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Folder,
    Ftp,
    Sftp,
    Smb,
    ObjectStore,
    Email,
}

const KINDS: [(&str, Word); 6] = [
    ("folder", Word::Folder),
    ("ftp", Word::Ftp),
    ("sftp", Word::Sftp),
    ("smb", Word::Smb),
    ("object-store", Word::ObjectStore),
    ("email", Word::Email),
];

const SECOND: Micros = Micros::from_secs(1);

const fn days(count: i64) -> Micros {
    Micros::from_secs(count * 86_400)
}

/// Reads the table `delivery`, where there is one.
pub(super) fn read_delivery(root: &mut Table, config: &Config, problems: &mut Problems) -> DeliveryOptions {
    let usual = DeliveryOptions::default();
    let Some(mut table) = root.table("delivery", problems) else {
        return usual;
    };
    let options = DeliveryOptions {
        patience: duration(&mut table, "patience", usual.patience, Micros::ZERO, days(60), problems),
        first_pause: duration(
            &mut table,
            "first_pause",
            usual.first_pause,
            SECOND,
            Micros::from_secs(3_600),
            problems,
        ),
        longest_pause: duration(
            &mut table,
            "longest_pause",
            usual.longest_pause,
            SECOND,
            days(1),
            problems,
        ),
        action_list: reference(&mut table, "action_list", "action_list", &config.action_lists, problems),
    };
    table.finish(problems);
    options
}

/// Reads all targets.
pub(super) fn read(tables: Vec<(Name, Table)>, config: &Config, problems: &mut Problems) -> BTreeMap<Name, Target> {
    let kinds: BTreeMap<Name, Option<String>> = tables
        .iter()
        .map(|(name, table)| (name.clone(), table.clone().get("kind", &mut Problems::default())))
        .collect();
    let mut targets = BTreeMap::new();
    for (name, table) in tables {
        if let Some(target) = target(table, &kinds, config, problems) {
            targets.insert(name, target);
        }
    }
    targets
}

fn target(
    mut table: Table,
    all: &BTreeMap<Name, Option<String>>,
    config: &Config,
    problems: &mut Problems,
) -> Option<Target> {
    if table.node("kind").is_none() {
        let words = KINDS.map(|(word, _)| word).join(", ");
        problems.push(table.missing("kind", &format!("one of {words}")));
    }
    let kind = table.word("kind", &KINDS, problems)?;
    let patience = table
        .node("patience")
        .map(|_| duration(&mut table, "patience", Micros::ZERO, Micros::ZERO, days(60), problems));
    let target = if kind == Word::Email {
        email(&mut table, all, patience, config, problems).map(Target::Email)
    } else {
        files(&mut table, kind, patience, config, problems).map(Target::Files)
    };
    table.finish(problems);
    target
}

fn files(
    table: &mut Table,
    kind: Word,
    patience: Option<Micros>,
    config: &Config,
    problems: &mut Problems,
) -> Option<FilesTarget> {
    let place = place(table, kind, config, problems);
    let existing = [("replace", Existing::Replace), ("refuse", Existing::Refuse)];
    let verify = [("hash", Verify::Hash), ("size", Verify::Size)];
    let keep = table
        .node("keep")
        .map(|_| duration(table, "keep", days(365), days(1), days(36_500), problems));
    let keep_last: Option<u32> = table.get("keep_last", problems);
    if keep_last == Some(0) {
        problems.push(
            table
                .problem("keep_last", "nothing would be kept", "here")
                .help("write how many files of each report are kept, such as 12"),
        );
    }
    let shown = if kind == Word::ObjectStore { "public_url" } else { "url" };
    let url: Option<String> = table.get(shown, problems);
    if let Some(text) = &url
        && !(text.starts_with("https://") || text.starts_with("http://"))
    {
        problems.push(
            table
                .problem(shown, format!("{text:?} is no address for a browser"), "here")
                .help("write where people find the folder, such as \"https://files.example.com/reports\""),
        );
    }
    Some(FilesTarget {
        existing: table.word("existing", &existing, problems).unwrap_or_default(),
        verify: table.word("verify", &verify, problems).unwrap_or_default(),
        keep,
        keep_last,
        url,
        patience,
        place: place?,
    })
}

fn place(table: &mut Table, kind: Word, config: &Config, problems: &mut Problems) -> Option<FilesPlace> {
    let timeout = |table: &mut Table, problems: &mut Problems| {
        duration(
            table,
            "timeout",
            Micros::from_secs(30),
            SECOND,
            Micros::from_secs(600),
            problems,
        )
    };
    match kind {
        Word::Folder => table
            .require("path", "the folder", problems)
            .map(|path| FilesPlace::Folder { path }),
        Word::Ftp => {
            let endpoint = endpoint(table, FTP, None, config, problems);
            let modes = [("passive", false), ("active", true)];
            let active = table.word("mode", &modes, problems).unwrap_or(false);
            let path = table.get("path", problems).unwrap_or_default();
            let timeout = timeout(table, problems);
            Some(FilesPlace::Ftp {
                endpoint: endpoint?,
                path,
                active,
                timeout,
            })
        }
        Word::Sftp => sftp(table, config, problems).map(|sftp| FilesPlace::Sftp(Box::new(sftp))),
        Word::Smb => {
            let endpoint = endpoint(table, SMB, None, config, problems);
            let share: Option<String> = table.require("share", "the share's name", problems);
            let path = table.get("path", problems).unwrap_or_default();
            let timeout = timeout(table, problems);
            Some(FilesPlace::Smb {
                endpoint: endpoint?,
                share: share?,
                path,
                timeout,
            })
        }
        Word::ObjectStore => {
            let url: Option<String> = table.require(
                "url",
                "s3://bucket/prefix, az://container/prefix or gs://bucket/prefix",
                problems,
            );
            let schemes = ["s3://", "s3a://", "az://", "azure://", "abfs://", "abfss://", "gs://"];
            if let Some(text) = &url
                && !schemes.iter().any(|scheme| text.starts_with(scheme))
            {
                problems.push(
                    table
                        .problem("url", format!("{text:?} is no address of an object store"), "here")
                        .help("write s3://bucket/prefix, az://container/prefix or gs://bucket/prefix"),
                );
            }
            // A target without options of its own is reached as the lake is.
            let own = ["endpoint", "region", "account", "ca_file", "allow_http"]
                .iter()
                .any(|key| table.node(key).is_some());
            let read = object_store::options(table, problems, |table, problems| {
                reference(table, "account", "account", &config.accounts, problems)
            });
            Some(FilesPlace::ObjectStore {
                url: url?,
                options: if own { read } else { config.object_store.clone() },
            })
        }
        Word::Email => None,
    }
}

fn sftp(table: &mut Table, config: &Config, problems: &mut Problems) -> Option<Sftp> {
    let server: Option<String> = table.require("server", "host name or IP address of the SSH server", problems);
    if let Some(server) = &server {
        host(server, "server", table, problems);
    }
    let account = reference(table, "account", "account", &config.accounts, problems);
    let user: Option<String> = table.get("user", problems);
    let key_file: Option<PathBuf> = table.get("key_file", problems);
    let host_keys: Vec<String> = table.get("host_key", problems).unwrap_or_default();
    let known_hosts = table.get("known_hosts", problems);
    if account.is_none() && user.is_none() {
        problems.push(table.missing(
            "account",
            "says who logs in with which password; or write user and key_file",
        ));
    }
    if user.is_some() && account.is_some() {
        problems.push(table.problem("user", "the account says who logs in", "leave out user"));
    }
    for key in &host_keys {
        let words: Vec<&str> = key.split_whitespace().collect();
        let fits = words.len() >= 2 && words[0].contains('-') && words[1].starts_with("AAAA");
        if !fits || key.contains(['\n', '\r']) {
            problems.push(
                table
                    .problem("host_key", format!("{key:?} is no public key of a server"), "here")
                    .help("write it as `ssh-keyscan SERVER` shows it, without the name: \"ssh-ed25519 AAAA…\""),
            );
        }
    }
    Some(Sftp {
        port: port(table, 22, problems),
        account,
        user,
        key_file,
        host_keys,
        known_hosts,
        path: table.get("path", problems).unwrap_or_default(),
        timeout: duration(
            table,
            "timeout",
            Micros::from_secs(30),
            SECOND,
            Micros::from_secs(600),
            problems,
        ),
        server: server?,
    })
}

fn email(
    table: &mut Table,
    all: &BTreeMap<Name, Option<String>>,
    patience: Option<Micros>,
    config: &Config,
    problems: &mut Problems,
) -> Option<EmailTarget> {
    if table.node("to").is_none() {
        problems.push(table.missing("to", "operators or mail addresses"));
    }
    let to = some_recipients(table, "to", config, problems);
    let mut cc = recipients(table, "cc", config, problems);
    let mut bcc = recipients(table, "bcc", config, problems);
    // Nobody gets a mail twice.
    let mut seen: BTreeSet<String> = to.iter().cloned().collect();
    cc.retain(|address| seen.insert(address.clone()));
    bcc.retain(|address| seen.insert(address.clone()));
    let reply_to: Option<String> = table.get("reply_to", problems);
    if let Some(address) = &reply_to {
        mail_address(address, "reply_to", table, problems);
    }
    let mut limits = BTreeMap::new();
    for operator in config.operators.values() {
        let Some(limit) = operator.attachments else { continue };
        for address in operator.email.iter().filter(|address| seen.contains(*address)) {
            let least: &mut u64 = limits.entry(address.clone()).or_insert(limit);
            *least = limit.min(*least);
        }
    }
    let link_to = link_to(table, all, problems);
    let words = [("split", false), ("leave", true)];
    let too_large = match (link_to, table.word("too_large", &words, problems)) {
        (Some(target), None) => TooLarge::Link(target),
        (None, Some(true)) => TooLarge::Leave,
        (None, _) => TooLarge::Split,
        (Some(_), Some(_)) => {
            problems.push(table.problem(
                "too_large",
                "link_to says what is done with files that are too large",
                "leave out one of them",
            ));
            TooLarge::Split
        }
    };
    let mail_server = mail_server_of(table, config, problems);
    let mut mail_servers = Vec::from_iter(mail_server.clone());
    for node in table.node("fallback").map(|node| node.as_list()).unwrap_or_default() {
        if let Some(name) = reference_at(&node, "mail_server", &config.mail_servers, problems)
            && !mail_servers.contains(&name)
        {
            mail_servers.push(name);
        }
    }
    let attachments = table.get::<Bytes>("attachments", problems).map(|size| size.0);
    mail_server?;
    Some(EmailTarget {
        mail_servers,
        to,
        cc,
        bcc,
        reply_to,
        attachments,
        limits,
        too_large,
        patience,
    })
}

fn link_to(table: &mut Table, all: &BTreeMap<Name, Option<String>>, problems: &mut Problems) -> Option<Name> {
    let node = table.node("link_to")?;
    let name: Name = node.read(problems)?;
    let problem = match all.get(&name) {
        Some(Some(kind)) if kind == "email" => node
            .problem(format!("{name} sends mails"), "no place for files")
            .help("name a target that keeps files, such as a share or an object store"),
        Some(_) => return Some(name),
        None => no_such(&node, "target", name.as_str(), all.keys().map(Name::as_str)),
    };
    problems.push(problem);
    None
}

impl Sftp {
    /// The server as an endpoint, for messages and accounts.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint {
            server: self.server.clone(),
            port: self.port,
            tls: TlsMode::None,
            trust: Trust::default(),
            account: self.account.clone(),
        }
    }
}
