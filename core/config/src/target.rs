//! Targets of reports: `[target.NAME]`, and their common settings: `[delivery]`.

mod email;
mod temporary;

use std::{collections::BTreeMap, path::PathBuf};

pub(super) use self::email::{MailKeys, RecipientKeys};
pub use self::{
    email::{EmailTarget, TooLarge},
    temporary::TemporaryName,
};
use mailqos_model::{AccountName, Micros, Name};
use mailqos_net::Trust;

use super::{
    Config, Endpoint, Heartbeat, ObjectStoreOptions, Problems, Table, TlsMode, heartbeat,
    key::{Defaulted, Optional, OptionalWord, Required, Word as Choice, key},
    object_store,
    reference::Key,
    server::{OWN_SERVER, Service, endpoint, port},
    value::{host, reference},
};

/// Settings of all deliveries: the table `delivery`.
#[derive(Debug, Clone)]
pub struct DeliveryOptions {
    /// How long a delivery is retried before it is given up.
    pub patience: Micros,
    /// Time after the first failed attempt; it doubles with each further one.
    pub first_pause: Micros,
    /// Maximum time between two attempts.
    pub longest_pause: Micros,
    /// Action list for deliveries that are given up.
    pub action_list: Option<Name>,
    /// The heartbeat of report schedules.
    pub heartbeat: Option<Heartbeat>,
}

impl Default for DeliveryOptions {
    fn default() -> Self {
        Self {
            patience: Micros::from_secs(3 * 86_400),
            first_pause: Micros::from_secs(30),
            longest_pause: Micros::from_secs(3_600),
            action_list: None,
            heartbeat: None,
        }
    }
}

/// A target to which reports can be delivered.
#[derive(Debug, Clone)]
pub enum Target {
    /// Stores files.
    Files(FilesTarget),
    /// Sends mails.
    Email(EmailTarget),
}

/// A target that stores files.
#[derive(Debug, Clone)]
pub struct FilesTarget {
    /// Location of the files.
    pub place: FilesPlace,
    /// The folders of the path from the first variable on, as a template. They are below `place`.
    /// Usually empty.
    pub below: String,
    /// Handling of an existing file with the same name.
    pub existing: Existing,
    /// How the arrival of a file is verified.
    pub verify: Verify,
    /// Age at which delivered files are removed; `None` keeps all.
    pub keep: Option<Micros>,
    /// Number of files to keep per report.
    pub keep_last: Option<u32>,
    /// URL of the target's folder for browsers.
    pub url: Option<String>,
    /// How long a delivery is retried, if it differs from `[delivery]`.
    pub patience: Option<Micros>,
    /// Temporary name of a file until it is complete; `None` if it is written under its final name.
    pub temporary: Option<TemporaryName>,
}

/// A location for files.
#[derive(Debug, Clone)]
pub enum FilesPlace {
    /// A local or mounted folder.
    Folder {
        /// Path of the folder.
        path: PathBuf,
    },
    /// An FTP server.
    Ftp {
        /// The server and the account.
        endpoint: Endpoint,
        /// Folder on the server; relative to the login folder unless it begins with `/`.
        path: String,
        /// Direction and command of data connections.
        data: FtpData,
        /// Encoding of non-ASCII names.
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
        /// Name of the share.
        share: String,
        /// Folder in the share.
        path: String,
        /// Deadline of each step.
        timeout: Micros,
    },
    /// An object store: Amazon S3 or compatible, Azure, Google.
    ObjectStore {
        /// `s3://bucket/prefix`, `az://container/prefix` or `gs://bucket/prefix`.
        url: String,
        /// Access to the store.
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
    /// Account that logs in with a password, or whose password is the passphrase of the key.
    pub account: Option<AccountName>,
    /// User who logs in with a key, if there is no account.
    pub user: Option<String>,
    /// File of the private key.
    pub key_file: Option<PathBuf>,
    /// Public keys of the server, each as in `known_hosts` without the name: `ssh-ed25519 AAAA…`.
    pub host_keys: Vec<String>,
    /// A `known_hosts` file; the user's own if neither is set.
    pub known_hosts: Option<PathBuf>,
    /// Folder on the server; relative to the login folder unless it begins with `/`.
    pub path: String,
    /// Deadline of each step.
    pub timeout: Micros,
}

/// Direction and command of FTP data connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FtpData {
    /// Opened by mailqos with `EPSV`, or with `PASV` if the connection fails.
    #[default]
    Passive,
    /// Opened by mailqos with `EPSV` only.
    Extended,
    /// Opened by mailqos with `PASV` only.
    Plain,
    /// The server opens them.
    Active,
}

/// Encoding of non-ASCII file names on an FTP server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FtpEncoding {
    /// UTF-8 if the server offers it (RFC 2640), otherwise ASCII.
    #[default]
    Auto,
    /// UTF-8, whatever the server offers.
    Utf8,
    /// ASCII.
    Ascii,
}

/// Handling of an existing file with the same name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Existing {
    /// Replace it atomically.
    #[default]
    Replace,
    /// Keep it and fail the delivery.
    Refuse,
}

/// How the arrival of a file is verified.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Verify {
    /// Read the file back and compare its SHA-256.
    #[default]
    Hash,
    /// Compare its size.
    Size,
}

impl Target {
    /// Returns how long a delivery is retried, if the target sets it.
    pub fn patience(&self) -> Option<Micros> {
        match self {
            Self::Files(files) => files.patience,
            Self::Email(email) => email.patience,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
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

/// Reads the table `delivery`, if there is one.
pub(super) fn read_delivery(
    root: &mut Table,
    key: &Key,
    (config, plaintext): (&Config, bool),
    problems: &mut Problems,
) -> DeliveryOptions {
    let mut table = root.table_or_empty(key, problems);
    let options = DeliveryOptions {
        patience: table.read(&DELIVERY.patience, problems),
        first_pause: table.read(&DELIVERY.first_pause, problems),
        longest_pause: table.read(&DELIVERY.longest_pause, problems),
        action_list: reference(
            &mut table,
            &DELIVERY.action_list,
            "action_list",
            &config.action_lists,
            problems,
        ),
        heartbeat: heartbeat::read(&mut table, &DELIVERY.heartbeat, plaintext, problems),
    };
    table.finish(problems);
    options
}

/// Returns the kind of a target as written.
fn kind_of(table: &Table) -> Option<String> {
    let node = table.clone().node(&KIND)?;
    node.read(&mut Problems::default())
}

/// Reads all targets.
pub(super) fn read(
    tables: Vec<(Name, Table)>,
    config: &Config,
    problems: &mut Problems,
) -> BTreeMap<Name, Target> {
    let kinds: BTreeMap<Name, Option<String>> =
        tables.iter().map(|(name, table)| (name.clone(), kind_of(table))).collect();
    let mut targets = BTreeMap::new();
    for (name, table) in tables {
        if let Some(target) = target(table, &kinds, config, problems) {
            targets.insert(name, target);
        }
    }
    targets
}

/// The kind of a target, which determines its other keys.
pub(super) const KIND: OptionalWord<Word> = word!(KINDS).named("kind", "The kind of target.");

/// Values of FTP encryption.
const FTP_TLS: [(&str, TlsMode); 3] =
    [("none", TlsMode::None), ("explicit", TlsMode::StartTls), ("implicit", TlsMode::Implicit)];
const FTP_MODES: [(&str, FtpData); 4] = [
    ("passive", FtpData::Passive),
    ("epsv", FtpData::Extended),
    ("pasv", FtpData::Plain),
    ("active", FtpData::Active),
];
const FTP_ENCODINGS: [(&str, FtpEncoding); 3] =
    [("auto", FtpEncoding::Auto), ("utf-8", FtpEncoding::Utf8), ("ascii", FtpEncoding::Ascii)];
const EXISTING: [(&str, Existing); 2] =
    [("replace", Existing::Replace), ("refuse", Existing::Refuse)];
const VERIFY: [(&str, Verify); 2] = [("hash", Verify::Hash), ("size", Verify::Size)];

keys! {
    DELIVERY: DeliveryKeys {
        /// How long to retry a delivery; a target can override it.
        patience: Defaulted<Micros> = key().default("\"3d\"").within("0s", "60d");
        /// The wait after the first attempt; it doubles with each further one.
        first_pause: Defaulted<Micros> = key().default("\"30s\"").within("1s", "1h");
        /// The longest wait between two attempts.
        longest_pause: Defaulted<Micros> = key().default("\"1h\"").within("1s", "1d");
        /// The action list for deliveries that were given up, rejected recipients, and reports that
        /// can't be generated.
        action_list: Optional<Name> = key().otherwise("failures are only logged");
        /// Requests to a service that raises an alarm when they stop: sent only while report schedules run.
        heartbeat: Key = Key::table(&["delivery.heartbeat"]);
    }
}

keys! {
    FOLDER: FolderKeys {
        /// The folder.
        path: Required<PathBuf> = key();
    }
}

keys! {
    FTP_SERVER: FtpServerKeys {
        /// TCP port.
        port: Optional<u16> = key().otherwise("990 with `implicit`, otherwise 21");
        /// Encryption: none, requested in the conversation (`explicit`), or from the first byte.
        tls: Choice<TlsMode> = word!(FTP_TLS).default("\"explicit\"");
        /// The account to log in with.
        account: Optional<AccountName> = key().otherwise("anonymous");
        /// Who opens the data connections: mailqos (`passive`: `EPSV`, then `PASV` if that fails;
        /// `epsv` and `pasv`: only that command) or the server (`active`).
        mode: Choice<FtpData> = word!(FTP_MODES).default("\"passive\"");
        /// The encoding of names beyond ASCII; `auto`: UTF-8 if the server offers it, otherwise
        /// ASCII.
        encoding: Choice<FtpEncoding> = word!(FTP_ENCODINGS).default("\"auto\"");
    }
}

keys! {
    SFTP: SftpKeys {
        /// TCP port.
        port: Optional<u16> = key().otherwise("22");
        /// The account with the password, or with the passphrase of the key.
        account: Optional<AccountName> = key();
        /// The user that logs in with a key, without an account.
        user: Optional<String> = key();
        /// The private key.
        key_file: Optional<PathBuf> = key().otherwise("the SSH client's keys");
        /// One or several public keys of the server: `ssh-ed25519 AAAA…`.
        host_key: Optional<Vec<String>> = key();
        /// A file of known servers.
        known_hosts: Optional<PathBuf> = key().otherwise("`known_hosts` of the user");
    }
}

keys! {
    SMB_SERVER: SmbKeys {
        /// TCP port.
        port: Optional<u16> = key().otherwise("445");
        /// The account to log in with, including its `domain` if it has one.
        account: Optional<AccountName> = key();
        /// The share's name.
        share: Required<String> = key();
    }
}

keys! {
    STORE: StoreKeys {
        /// `s3://bucket/prefix`, `az://container/prefix` or `gs://bucket/prefix`.
        url: Required<String> = key();
        /// The address at which people open the folder in a browser, for links in mails.
        public_url: Optional<String> = key();
    }
}

keys! {
    SERVER_FILES: ServerFilesKeys {
        /// The folder on the server.
        path: Defaulted<String> = key().default("\"\"");
        /// The deadline of each step.
        timeout: Defaulted<Micros> = key().default("\"30s\"").within("1s", "10m");
    }
}

keys! {
    FILES: FilesKeys {
        /// What happens if a file of that name exists.
        existing: Choice<Existing> = word!(EXISTING).default("\"replace\"");
        /// How to verify that a file has arrived: read it back, or compare its size.
        verify: Choice<Verify> = word!(VERIFY).default("\"hash\"");
        /// Remove files that were delivered longer ago than this.
        keep: Optional<Micros> = key().otherwise("files are kept").within("1d", "36500d");
        /// The number of last runs of each report whose files are kept.
        keep_last: Optional<u32> = key().otherwise("all are kept");
    }
}

keys! {
    PATIENCE: PatienceKeys {
        /// How long to retry a delivery.
        patience: Optional<Micros> = key().otherwise("as in `[delivery]`").within("0s", "60d");
    }
}

keys! {
    TEMPORARY: TemporaryKeys {
        /// The name of a file until it is complete: a pattern with `{{ name }}` and preferably
        /// `{{ hash }}`; or `none` to write directly to the final name.
        temporary: Defaulted<String> = key().default("\".{{ name }}.{{ hash }}.part\"");
    }
}

keys! {
    URL: UrlKeys {
        /// The address at which people open the folder in a browser, for links in mails.
        url: Optional<String> = key();
    }
}

const FTP: Service = Service {
    what: "the FTP server",
    ports: [21, 21, 990],
    port: &FTP_SERVER.port,
    tls: Some(&FTP_SERVER.tls),
    account: &FTP_SERVER.account,
    helo: None,
};

const SMB: Service = Service {
    what: "the file server",
    ports: [445, 445, 445],
    port: &SMB_SERVER.port,
    tls: None,
    account: &SMB_SERVER.account,
    helo: None,
};

fn target(
    mut table: Table,
    all: &BTreeMap<Name, Option<String>>,
    config: &Config,
    problems: &mut Problems,
) -> Option<Target> {
    if table.node(&KIND).is_none() {
        let words = KINDS.map(|(word, _)| word).join(", ");
        problems.push(table.missing(&KIND, &format!("one of {words}")));
    }
    let kind = table.read(&KIND, problems)?;
    let patience = table.read(&PATIENCE.patience, problems);
    let target = if kind == Word::Email {
        email::email(&mut table, all, patience, config, problems).map(Target::Email)
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
    let keep = table.read(&FILES.keep, problems);
    let keep_last = table.read(&FILES.keep_last, problems);
    if keep_last == Some(0) {
        problems.push(
            table
                .problem(&FILES.keep_last, "no file would be kept", "here")
                .help("set the number of files to keep per report, such as 12"),
        );
    }
    let shown = if kind == Word::ObjectStore { &STORE.public_url } else { &URL.url };
    let url = table.read(shown, problems);
    if let Some(text) = &url
        && !(text.starts_with("https://") || text.starts_with("http://"))
    {
        problems.push(
            table
                .problem(shown, format!("{text:?} is not an http:// or https:// address"), "here")
                .help(
                    "use the address at which people find the folder, such as \
                    \"https://files.example.com/reports\"",
                ),
        );
    }
    let temporary = if kind == Word::ObjectStore { None } else { temporary(table, problems) };
    Some(FilesTarget {
        temporary,
        existing: table.read(&FILES.existing, problems),
        verify: table.read(&FILES.verify, problems),
        keep,
        keep_last,
        url,
        patience,
        place: place?,
        below,
    })
}

/// Splits a path or URL into the part before its first folder with a variable, and the template of
/// the folders from there on.
fn split_template(text: &str, separators: &[char]) -> (String, String) {
    match ["{{", "{%"].iter().filter_map(|sign| text.find(sign)).min() {
        None => (text.to_owned(), String::new()),
        Some(at) => match text[..at].rfind(separators) {
            // The root is kept.
            Some(0) => (text[..1].to_owned(), text[1..].to_owned()),
            Some(end) => (text[..end].to_owned(), text[end + 1..].to_owned()),
            None => (String::new(), text.to_owned()),
        },
    }
}

/// Rejects variables of other programs, which would create a folder with that literal name.
fn no_foreign_variables(table: &Table, key: &Key, text: &str, problems: &mut Problems) {
    if let Some(sign) = foreign_variable(text) {
        problems.push(
            table
                .problem(
                    key,
                    format!("{sign} is not a variable here: a folder named {sign} would be created"),
                    "not a variable",
                )
                .help("use variables such as {{ period.year }}-{{ period.month }}; see docs/delivery.md"),
        );
    }
}

/// Returns a placeholder of another program for a part of a date, such as `%Y`, `{year}` or
/// `$(date)`.
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

/// Reads the path of a target on a server, split at its first variable.
fn path_and_below(
    table: &mut Table,
    separators: &[char],
    problems: &mut Problems,
) -> (String, String) {
    let text = table.read(&SERVER_FILES.path, problems);
    no_foreign_variables(table, &SERVER_FILES.path, &text, problems);
    split_template(&text, separators)
}

/// Reads a local folder, split at its first variable.
fn folder_and_below(table: &mut Table, problems: &mut Problems) -> (Option<PathBuf>, String) {
    let path = table.read(&FOLDER.path, problems);
    let written = table.node(&FOLDER.path);
    let text: String =
        written.and_then(|node| node.read(&mut Problems::default())).unwrap_or_default();
    no_foreign_variables(table, &FOLDER.path, &text, problems);
    let (own, below) = split_template(&text, &['/', '\\']);
    if below.is_empty() {
        return (path, below);
    }
    // A relative path starts at the folder of the configuration.
    let begin =
        path.as_ref().and_then(|path| path.to_str()?.strip_suffix(&text).map(str::to_owned));
    let own = format!("{}{own}", begin.unwrap_or_default());
    let own = if own.is_empty() { ".".to_owned() } else { own };
    (path.map(|_| PathBuf::from(own)), below)
}

/// Reads the key `temporary`: a pattern, or `"none"`.
fn temporary(table: &mut Table, problems: &mut Problems) -> Option<TemporaryName> {
    let text = table.read(&TEMPORARY.temporary, problems);
    if text == "none" {
        return None;
    }
    match text.parse() {
        Ok(name) => Some(name),
        Err(reason) => {
            problems.push(
                table
                    .problem(&TEMPORARY.temporary, format!("{text:?} {reason}"), "here")
                    .help(
                        "use a pattern such as \"{{ name }}.{{ hash }}.tmp\", or \"none\" to write directly \
                        under the final name",
                    ),
            );
            Some(TemporaryName::default())
        }
    }
}

fn place(
    table: &mut Table,
    kind: Word,
    config: &Config,
    problems: &mut Problems,
) -> (Option<FilesPlace>, String) {
    match kind {
        Word::Folder => {
            let (path, below) = folder_and_below(table, problems);
            (path.map(|path| FilesPlace::Folder { path }), below)
        }
        Word::Ftp => {
            let endpoint = endpoint(table, FTP, None, config, problems);
            let data = table.read(&FTP_SERVER.mode, problems);
            let encoding = table.read(&FTP_SERVER.encoding, problems);
            let (path, below) = path_and_below(table, &['/'], problems);
            let timeout = table.read(&SERVER_FILES.timeout, problems);
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
            let share = table.read(&SMB_SERVER.share, problems);
            let (path, below) = path_and_below(table, &['/', '\\'], problems);
            let timeout = table.read(&SERVER_FILES.timeout, problems);
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
                &STORE.url,
                "s3://bucket/prefix, az://container/prefix or gs://bucket/prefix",
                problems,
            );
            let schemes = ["s3://", "s3a://", "az://", "azure://", "abfs://", "abfss://", "gs://"];
            if let Some(text) = &url
                && !schemes.iter().any(|scheme| text.starts_with(scheme))
            {
                problems.push(
                    table
                        .problem(
                            &STORE.url,
                            format!("{text:?} is not an address of an object store"),
                            "here",
                        )
                        .help(
                            "use s3://bucket/prefix, az://container/prefix or gs://bucket/prefix",
                        ),
                );
            }
            // A target without separate options is accessed like the lake.
            let own = object_store::is_any_set(table);
            let read = object_store::options(table, config, problems);
            let (url, below) = match url {
                Some(text) => {
                    no_foreign_variables(table, &STORE.url, &text, problems);
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
    let server: Option<String> =
        table.require(&OWN_SERVER.server, "host name or IP address of the SSH server", problems);
    if let Some(server) = &server {
        host(server, &OWN_SERVER.server, table, problems);
    }
    let account = reference(table, &SFTP.account, "account", &config.accounts, problems);
    let user = table.read(&SFTP.user, problems);
    let key_file = table.read(&SFTP.key_file, problems);
    let host_keys = table.read(&SFTP.host_key, problems).unwrap_or_default();
    let known_hosts = table.read(&SFTP.known_hosts, problems);
    if account.is_none() && user.is_none() {
        problems.push(table.missing(
            &SFTP.account,
            "the account with user and password; or use user and key_file",
        ));
    }
    if user.is_some() && account.is_some() {
        problems.push(table.problem(
            &SFTP.user,
            "the account already names the user",
            "remove user",
        ));
    }
    for key in &host_keys {
        let words: Vec<&str> = key.split_whitespace().collect();
        let fits = words.len() >= 2 && words[0].contains('-') && words[1].starts_with("AAAA");
        if !fits || key.contains(['\n', '\r']) {
            problems.push(
                table
                    .problem(&SFTP.host_key, format!("{key:?} is not a server's public key"), "here")
                    .help("copy it from `ssh-keyscan SERVER`, without the host name: \"ssh-ed25519 AAAA…\""),
            );
        }
    }
    Some(Sftp {
        port: port(table, &SFTP.port, 22, problems),
        account,
        user,
        key_file,
        host_keys,
        known_hosts,
        path,
        timeout: table.read(&SERVER_FILES.timeout, problems),
        server: server?,
    })
}

impl Sftp {
    /// Returns the server as an endpoint, for messages and accounts.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint {
            server: self.server.clone(),
            port: self.port,
            tls: TlsMode::None,
            trust: Trust::default(),
            account: self.account.clone(),
            helo: None,
            proxy: None,
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
            assert_eq!(split_template(text, &['/']), (own.to_owned(), below.to_owned()), "{text}");
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
