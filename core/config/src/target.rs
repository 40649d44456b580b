//! Where reports go: `[target.NAME]`, and what holds for all of them: `[delivery]`.

mod temporary;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

pub use self::temporary::TemporaryName;
use mailqos_model::{AccountName, Micros, Name};
use mailqos_net::Trust;

use super::{
    Config, Endpoint, ObjectStoreOptions, Problem, Problems, Severity, Table, TlsMode,
    mail_server::mail_server_of,
    message::Bytes,
    object_store,
    operator::{recipients, some_recipients},
    server::{FTP, SMB, endpoint, port},
    value::{duration, host, no_such, reference, reference_at},
};
use crate::Person;

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
    /// The folders of the path from the first one with a variable on, as a template: they lie below `place`. Mostly
    /// empty.
    pub below: String,
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
    /// The name that a file has until it is whole; `None`: it is written under its final name.
    pub temporary: Option<TemporaryName>,
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
        /// Who opens the data connections, and with which command.
        data: FtpData,
        /// How names beyond ASCII are written.
        encoding: FtpEncoding,
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

/// Who opens the data connections of FTP, and with which command.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FtpData {
    /// mailqos: `EPSV`, and `PASV` where that leads nowhere.
    #[default]
    Passive,
    /// mailqos, with `EPSV` only.
    Extended,
    /// mailqos, with `PASV` only.
    Plain,
    /// The server.
    Active,
}

/// How file names beyond ASCII are written on an FTP server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FtpEncoding {
    /// In UTF-8 where the server offers it (RFC 2640), else in ASCII.
    #[default]
    Auto,
    /// In UTF-8, whatever the server offers.
    Utf8,
    /// In ASCII.
    Ascii,
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
    pub to: Vec<Person>,
    /// Further recipients, shown.
    pub cc: Vec<Person>,
    /// Further recipients, not shown.
    pub bcc: Vec<Person>,
    /// Where answers go; to the sender, if empty.
    pub reply_to: Vec<Person>,
    /// The most bytes that the files of one mail may have, for recipients without a limit of their own.
    pub attachments: Option<u64>,
    /// The limits of the recipients that have one, by their addresses.
    pub limits: BTreeMap<String, u64>,
    /// What recipients get for whom the files are too large.
    pub too_large: TooLarge,
    /// How long a delivery is tried, if not as long as `[delivery]` says.
    pub patience: Option<Micros>,
}

/// What recipients get for whom the files are too large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TooLarge {
    /// The files are put to another target, and the mail says where they are.
    Link(Name),
    /// The mail without the files; it says which there were.
    Leave,
}

impl EmailTarget {
    /// All who get the mail, each once.
    pub fn recipients(&self) -> Vec<&Person> {
        self.to.iter().chain(&self.cc).chain(&self.bcc).collect()
    }
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
    let (place, below) = place(table, kind, config, problems);
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
    let temporary = if kind == Word::ObjectStore {
        None
    } else {
        temporary(table, problems)
    };
    Some(FilesTarget {
        temporary,
        existing: table.word("existing", &existing, problems).unwrap_or_default(),
        verify: table.word("verify", &verify, problems).unwrap_or_default(),
        keep,
        keep_last,
        url,
        patience,
        place: place?,
        below,
    })
}

/// A path or URL as it stands up to its first folder with a variable, and the template of the folders from there on.
fn split_template(text: &str, separators: &[char]) -> (String, String) {
    match ["{{", "{%"].iter().filter_map(|sign| text.find(sign)).min() {
        None => (text.to_owned(), String::new()),
        Some(at) => match text[..at].rfind(separators) {
            // The root stays one.
            Some(0) => (text[..1].to_owned(), text[1..].to_owned()),
            Some(end) => (text[..end].to_owned(), text[end + 1..].to_owned()),
            None => (String::new(), text.to_owned()),
        },
    }
}

/// Notes what looks like a variable of another program: a folder of that very name would be made.
fn no_foreign_variables(table: &Table, key: &str, text: &str, problems: &mut Problems) {
    if let Some(sign) = foreign_variable(text) {
        problems.push(
            table
                .problem(
                    key,
                    format!("{sign} would be a folder of that very name"),
                    "no variable",
                )
                .help("write variables as in {{ period.year }}-{{ period.month }}: see docs/delivery.md"),
        );
    }
}

/// A sign that stands for a part of a date in other programs, such as `%Y`, `{year}` or `$(date)`.
pub fn foreign_variable(text: &str) -> Option<String> {
    let dates = ["%Y", "%y", "%m", "%d", "%H", "%M", "%F", "%j", "%V", "$(date", "${"];
    if let Some(sign) = dates.iter().find(|sign| text.contains(**sign)) {
        return Some((*sign).to_owned());
    }
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        let after = &rest[at + 1..];
        if after.starts_with(['{', '%', '#']) {
            let end = after.find('}').map_or(after.len(), |end| end + 1);
            rest = after[end..].trim_start_matches('}');
            continue;
        }
        let end = after.find('}')?;
        let word = &after[..end];
        let is_word = word.chars().all(|c| c.is_ascii_alphanumeric() || "._- ".contains(c));
        if is_word && !word.trim().is_empty() {
            return Some(format!("{{{word}}}"));
        }
        rest = &after[end..];
    }
    None
}

/// The path of a target on a server, split at its first variable.
fn path_and_below(table: &mut Table, separators: &[char], problems: &mut Problems) -> (String, String) {
    let text: String = table.get("path", problems).unwrap_or_default();
    no_foreign_variables(table, "path", &text, problems);
    split_template(&text, separators)
}

/// A local folder, split at its first variable.
fn folder_and_below(table: &mut Table, problems: &mut Problems) -> (Option<PathBuf>, String) {
    let path: Option<PathBuf> = table.require("path", "the folder", problems);
    let text: String = table.get("path", &mut Problems::default()).unwrap_or_default();
    no_foreign_variables(table, "path", &text, problems);
    let (own, below) = split_template(&text, &['/', '\\']);
    if below.is_empty() {
        return (path, below);
    }
    // The path begins with the folder of the configuration, unless it is absolute.
    let begin = path
        .as_ref()
        .and_then(|path| path.to_str()?.strip_suffix(&text).map(str::to_owned));
    let own = format!("{}{own}", begin.unwrap_or_default());
    let own = if own.is_empty() { ".".to_owned() } else { own };
    (path.map(|_| PathBuf::from(own)), below)
}

/// Reads the key `temporary`: a pattern, or `"none"`.
fn temporary(table: &mut Table, problems: &mut Problems) -> Option<TemporaryName> {
    let usual = TemporaryName::default();
    let Some(text) = table.get::<String>("temporary", problems) else {
        return Some(usual);
    };
    if text == "none" {
        return None;
    }
    match text.parse() {
        Ok(name) => Some(name),
        Err(reason) => {
            problems.push(
                table
                    .problem("temporary", format!("{text:?} {reason}"), "here")
                    .help("write a pattern such as \"{{ name }}.{{ hash }}.tmp\", or \"none\" to write directly under the final name"),
            );
            Some(usual)
        }
    }
}

fn place(table: &mut Table, kind: Word, config: &Config, problems: &mut Problems) -> (Option<FilesPlace>, String) {
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
        Word::Folder => {
            let (path, below) = folder_and_below(table, problems);
            (path.map(|path| FilesPlace::Folder { path }), below)
        }
        Word::Ftp => {
            let endpoint = endpoint(table, FTP, None, config, problems);
            let modes = [
                ("passive", FtpData::Passive),
                ("epsv", FtpData::Extended),
                ("pasv", FtpData::Plain),
                ("active", FtpData::Active),
            ];
            let data = table.word("mode", &modes, problems).unwrap_or_default();
            let encodings = [
                ("auto", FtpEncoding::Auto),
                ("utf-8", FtpEncoding::Utf8),
                ("ascii", FtpEncoding::Ascii),
            ];
            let encoding = table.word("encoding", &encodings, problems).unwrap_or_default();
            let (path, below) = path_and_below(table, &['/'], problems);
            let timeout = timeout(table, problems);
            let place = endpoint.map(|endpoint| FilesPlace::Ftp {
                endpoint,
                path,
                data,
                encoding,
                timeout,
            });
            (place, below)
        }
        Word::Sftp => {
            let (path, below) = path_and_below(table, &['/'], problems);
            let sftp = sftp(table, path, config, problems);
            (sftp.map(|sftp| FilesPlace::Sftp(Box::new(sftp))), below)
        }
        Word::Smb => {
            let endpoint = endpoint(table, SMB, None, config, problems);
            let share: Option<String> = table.require("share", "the share's name", problems);
            let (path, below) = path_and_below(table, &['/', '\\'], problems);
            let timeout = timeout(table, problems);
            let place = endpoint.zip(share).map(|(endpoint, share)| FilesPlace::Smb {
                endpoint,
                share,
                path,
                timeout,
            });
            (place, below)
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
            let (url, below) = match url {
                Some(text) => {
                    no_foreign_variables(table, "url", &text, problems);
                    let (url, below) = split_template(&text, &['/']);
                    (Some(url), below)
                }
                None => (None, String::new()),
            };
            let place = url.map(|url| FilesPlace::ObjectStore {
                url,
                options: if own { read } else { config.object_store.clone() },
            });
            (place, below)
        }
        Word::Email => (None, String::new()),
    }
}

fn sftp(table: &mut Table, path: String, config: &Config, problems: &mut Problems) -> Option<Sftp> {
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
        path,
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
    let mut seen: BTreeSet<String> = to.iter().map(|person| person.address.clone()).collect();
    cc.retain(|person| seen.insert(person.address.clone()));
    bcc.retain(|person| seen.insert(person.address.clone()));
    let reply_to = recipients(table, "reply_to", config, problems);
    let mut limits = BTreeMap::new();
    for operator in config.operators.values() {
        let Some(limit) = operator.attachments else { continue };
        for person in operator.email.iter().filter(|person| seen.contains(&person.address)) {
            let least: &mut u64 = limits.entry(person.address.clone()).or_insert(limit);
            *least = limit.min(*least);
        }
    }
    let link_to = link_to(table, all, problems);
    let too_large = too_large(link_to, table, problems);
    let mail_server = mail_server_of(table, config, problems);
    let mut mail_servers = Vec::from_iter(mail_server.clone());
    for node in table.list("fallback").map(|node| node.as_list()).unwrap_or_default() {
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

/// What is done with files that are too large. Earlier versions split them over several mails (`"split"`).
fn too_large(link_to: Option<Name>, table: &mut Table, problems: &mut Problems) -> TooLarge {
    let word = table.word("too_large", &[("leave", false), ("split", true)], problems);
    if word == Some(true) {
        problems.push(Problem {
            severity: Severity::Warning,
            ..table
                .problem(
                    "too_large",
                    "files are no longer split over several mails: mail clients do not put them together again",
                    "as \"leave\"",
                )
                .help("name a target for them with link_to, or write too_large = \"leave\"")
        });
    }
    match link_to {
        Some(target) => {
            if word == Some(false) {
                problems.push(table.problem(
                    "too_large",
                    "link_to says what is done with files that are too large",
                    "leave out one of them",
                ));
            }
            TooLarge::Link(target)
        }
        None => TooLarge::Leave,
    }
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
            helo: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_split_before_its_first_variable() {
        for (text, own, below) in [
            ("reports", "reports", ""),
            ("/srv/reports/", "/srv/reports/", ""),
            ("reports/{{ period.year }}", "reports", "{{ period.year }}"),
            ("reports/y{{ period.year }}/m", "reports", "y{{ period.year }}/m"),
            ("/{{ period.year }}", "/", "{{ period.year }}"),
            ("{{ period.year }}/x", "", "{{ period.year }}/x"),
            ("a/{% if 1 %}b{% endif %}/c", "a", "{% if 1 %}b{% endif %}/c"),
            ("s3://bucket/a/{{ period.year }}", "s3://bucket/a", "{{ period.year }}"),
        ] {
            assert_eq!(
                split_template(text, &['/']),
                (own.to_owned(), below.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn variables_of_other_programs_are_recognised() {
        for (text, sign) in [
            ("reports/%Y/%m", Some("%Y")),
            ("reports/{year}", Some("{year}")),
            ("{{ period.year }}/{month}", Some("{month}")),
            ("$(date +%F)", Some("%F")),
            ("reports/{{ period.year }}-{{ period.month }}", None),
            ("{% if period.month == \"01\" %}a{% endif %}", None),
            ("100% done", None),
            ("{A1B2-C3D4}", Some("{A1B2-C3D4}")),
            ("plain", None),
        ] {
            assert_eq!(foreign_variable(text).as_deref(), sign, "{text}");
        }
    }
}
