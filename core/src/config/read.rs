//! Reads the configuration file and what it includes into a [`Config`], noting all that is wrong on the way.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::ErrorKind,
    path::{Path, PathBuf},
    str::FromStr as _,
};

use jiff::tz::TimeZone;
use lettre::Address;

use super::{
    Account, Action, AlarmRule, Calendar, Config, DataLocation, Dkim, Endpoint, Kind, Limits, MailQos, MailServer,
    MessageShape, Monitor, Object, ObjectStoreOptions, Operator, PickupProtocol, Problem, Problems, Table, TlsMode,
    Transcripts, Trust, account, message,
    table::{Node, did_you_mean, file_text, parse},
};
use crate::{
    mail::{Secret, SecretSource},
    model::{AccountName, InvalidName, Micros, MonitorId, Name, UtcMicros},
};

/// A configuration file larger than this is refused.
const MAX_FILE: u64 = 32 * 1024 * 1024;

/// The tables of named things; the same may stand in every included file.
const NAMED: [&str; 9] = [
    "account",
    "object",
    "monitor",
    "operator",
    "mail_server",
    "action_list",
    "maintenance",
    "target",
    "service_level",
];

/// Reads and checks the configuration.
///
/// # Errors
/// All that is wrong with it, warnings included.
pub fn load(path: &Path) -> Result<Config, Problems> {
    let mut problems = Problems::default();
    match read_text(path, &mut problems) {
        Some(text) => of_text(path, text, problems),
        None => Err(problems),
    }
}

/// Reads and checks a configuration that was in this file.
pub(crate) fn of_text(path: &Path, text: String, mut problems: Problems) -> Result<Config, Problems> {
    let config = parse(path, text, &mut problems).and_then(|root| read(path, root, &mut problems));
    match config {
        Some(mut config) if !problems.has_errors() => {
            problems.sort();
            config.warnings = problems;
            Ok(config)
        }
        _ => {
            problems.sort();
            Err(problems)
        }
    }
}

fn read_text(path: &Path, problems: &mut Problems) -> Option<String> {
    let error = match file_text(path, MAX_FILE) {
        Ok(text) => return Some(text),
        Err(error) => error,
    };
    let help = match error.kind() {
        ErrorKind::NotFound => "name the file with --config FILE; the README shows a first one in ten lines".to_owned(),
        ErrorKind::InvalidData => "save it as UTF-8".to_owned(),
        ErrorKind::FileTooLarge => "split it, and name the folder of the parts in include = [\"…\"]".to_owned(),
        _ => format!("see who may read it: ls -l {}", path.display()),
    };
    problems.push(Problem::error(format!("can't read {}: {error}", path.display())).help(help));
    None
}

fn read(path: &Path, mut root: Table, problems: &mut Problems) -> Option<Config> {
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    let mut parts = Vec::new();
    if let Some(includes) = root.get::<Vec<Node>>("include", problems) {
        for node in includes {
            include(&node, path, &mut parts, problems);
        }
    }
    let mut named = Named::default();
    for table in std::iter::once(&mut root).chain(&mut parts) {
        named.collect(table, problems);
    }
    for part in parts {
        part.finish(problems);
    }

    let plaintext = root.get("allow_plaintext_secrets", problems).unwrap_or(false);
    let site = root.require(
        "site",
        "the name of the place that this probe measures from, such as \"stockholm\"",
        problems,
    );
    let data = match root.get::<String>("data", problems) {
        Some(text) if text.contains("://") => DataLocation::ObjectStore(text),
        Some(text) => DataLocation::Folder(folder.join(text)),
        None => DataLocation::Folder(folder.join("data")),
    };
    let state = root.get("state", problems).unwrap_or_else(|| match &data {
        DataLocation::Folder(data) => data.join("state"),
        DataLocation::ObjectStore(_) => folder.join("state"),
    });
    let timezone = root.get("timezone", problems).unwrap_or_else(TimeZone::system);
    let seal_interval = duration(
        &mut root,
        "seal_interval",
        Micros::from_secs(300),
        SECOND,
        DAY,
        problems,
    );
    let signing_key = root
        .node("signing_key")
        .and_then(|node| secret(&node, plaintext, problems));
    let templates = root
        .get("templates", problems)
        .unwrap_or_else(|| folder.join("templates"));
    let reports = root.get("reports", problems).unwrap_or_else(|| folder.join("reports"));
    let retention = match root.get::<Micros>("retention", problems) {
        Some(retention) if retention < DAY => {
            problems.push(
                root.problem(
                    "retention",
                    format!("samples can't be kept for {retention} only"),
                    "too short",
                )
                .help("write a day or more, such as \"800d\", or leave it out to keep everything"),
            );
            None
        }
        retention => retention,
    };
    let defaults = root.table("defaults", problems);

    let mut config = Config {
        file: path.to_owned(),
        // A missing site has been noted; what else is wrong is to be found all the same.
        site: site.or_else(|| "unnamed".parse().ok())?,
        data,
        object_store: ObjectStoreOptions::default(),
        retention,
        state,
        timezone,
        seal_interval,
        signing_key,
        accounts: BTreeMap::new(),
        objects: BTreeMap::new(),
        monitors: BTreeMap::new(),
        operators: BTreeMap::new(),
        mail_servers: BTreeMap::new(),
        action_lists: BTreeMap::new(),
        maintenance: Vec::new(),
        limits: limits(&mut root, problems),
        metrics: metrics(&mut root, problems),
        references: references(&mut root, problems),
        targets: BTreeMap::new(),
        delivery: super::DeliveryOptions::default(),
        service_levels: BTreeMap::new(),
        templates,
        reports,
        warnings: Problems::default(),
    };
    for (name, table) in named.take("account") {
        match account::read(&name, table, plaintext, &config.state, problems) {
            Some(account) => {
                config.accounts.insert(name, account);
            }
            None => problems.note_broken("account", name.as_ref()),
        }
    }
    config.object_store = super::object_store::read(&mut root, problems, |table, problems| {
        reference(table, "account", "account", &config.accounts, problems)
    });
    for (id, table) in named.take("object") {
        match object(&id, table, problems) {
            Some(object) => {
                config.objects.insert(id, object);
            }
            None => problems.note_broken("object", id.as_ref()),
        }
    }
    config.operators = operators(named.take("operator"), problems);
    for (name, table) in named.take("mail_server") {
        match mail_server(table, plaintext, &config, problems) {
            Some(server) => {
                config.mail_servers.insert(name, server);
            }
            None => problems.note_broken("mail_server", name.as_ref()),
        }
    }
    let lists = named.take("action_list");
    for (name, list) in super::actions::read(lists, plaintext, &config, problems) {
        config.action_lists.insert(name, list);
    }
    config.targets = super::target::read(named.take("target"), &config, problems);
    config.delivery = super::target::read_delivery(&mut root, &config, problems);
    let monitors = named.take::<MonitorId>("monitor");
    let complete = named.complete;
    if let Some(defaults) = &defaults {
        // A monitor of nothing but the defaults: finds what is wrong with them even where no monitor uses them.
        let mut alone = defaults.clone();
        options(&mut alone, None, &config, complete, problems);
        for key in OWN_KEYS {
            if alone.node(key).is_some() {
                problems.push(alone.problem(key, format!("{key:?} belongs to a single monitor"), "not a default"));
            }
        }
        alone.finish(problems);
    }
    let mut depends_on = Vec::new();
    let mut monitors_complete = complete && named.monitors_complete;
    for (id, table) in monitors {
        let table = match &defaults {
            Some(defaults) => table.over(defaults),
            None => table,
        };
        if let Some((monitor, patterns)) = monitor(id.clone(), table, &config, complete, problems) {
            if !patterns.is_empty() {
                depends_on.push((id.clone(), patterns));
            }
            config.monitors.insert(id, monitor);
        } else {
            monitors_complete = false;
        }
    }
    for (name, table) in named.take::<Name>("service_level") {
        if let Some(level) = super::service_level::read(&name, table, &config, monitors_complete, problems) {
            config.service_levels.insert(name, level);
        }
    }
    super::alarm::resolve(&mut config.monitors, depends_on, monitors_complete, problems);
    for (name, table) in named.take::<Name>("maintenance") {
        let read = super::maintenance::read(name, table, &config, monitors_complete, problems);
        config.maintenance.extend(read);
    }
    root.finish(problems);
    Some(config)
}

/// The tables of named things of all files, and whether all of them could be read.
struct Named {
    tables: BTreeMap<&'static str, Vec<(String, Table)>>,
    /// All but monitors.
    complete: bool,
    monitors_complete: bool,
}

impl Default for Named {
    fn default() -> Self {
        Self {
            tables: BTreeMap::new(),
            complete: true,
            monitors_complete: true,
        }
    }
}

impl Named {
    fn collect(&mut self, table: &mut Table, problems: &mut Problems) {
        for key in NAMED {
            let found = self.tables.entry(key).or_default();
            let before = problems.count(super::Severity::Error);
            for (name, inner) in table.named::<AnyName>(key, problems) {
                if let Some((_, first)) = found.iter().find(|(other, _)| *other == name.0) {
                    let place = first.place();
                    problems.push(
                        inner
                            .problem("", format!("{key} {:?} is there already", name.0), "again here")
                            .help(format!("the first one: {place}; give this one another name")),
                    );
                } else {
                    found.push((name.0, inner));
                }
            }
            let all_read = problems.count(super::Severity::Error) == before;
            match key {
                "monitor" => self.monitors_complete &= all_read,
                // Nothing refers to these.
                "service_level" | "maintenance" => {}
                _ => self.complete &= all_read,
            }
        }
    }

    fn take<N: std::str::FromStr<Err = InvalidName>>(&mut self, key: &str) -> Vec<(N, Table)> {
        self.tables
            .remove(key)
            .unwrap_or_default()
            .into_iter()
            .filter_map(|(name, table)| Some((name.parse().ok()?, table)))
            .collect()
    }
}

/// A checked name of any kind.
struct AnyName(String);

impl std::str::FromStr for AnyName {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        text.parse::<Name>().map(|name| Self(name.to_string()))
    }
}

fn include(node: &Node, main: &Path, parts: &mut Vec<Table>, problems: &mut Problems) {
    let Some(path) = node.read::<PathBuf>(problems) else {
        return;
    };
    let files = if path.is_dir() {
        match toml_files(&path) {
            Ok(files) => files,
            Err(error) => {
                problems.push(node.problem(
                    format!("can't read the folder {}: {error}", path.display()),
                    "included here",
                ));
                return;
            }
        }
    } else if path.exists() {
        vec![path]
    } else {
        problems.push(
            node.problem(format!("{} does not exist", path.display()), "included here")
                .help("name a TOML file or a folder of them; the path is relative to this file"),
        );
        return;
    };
    for file in files {
        if file.canonicalize().ok() == main.canonicalize().ok() {
            continue;
        }
        if let Some(part) = read_text(&file, problems).and_then(|text| parse(&file, text, problems)) {
            parts.push(part);
        }
    }
}

/// The TOML files of a folder, by name; hidden ones are an editor's.
fn toml_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

const SECOND: Micros = Micros::from_secs(1);
const DAY: Micros = Micros::from_secs(86_400);

/// A duration within bounds.
pub(super) fn duration(
    table: &mut Table,
    key: &'static str,
    default: Micros,
    least: Micros,
    most: Micros,
    problems: &mut Problems,
) -> Micros {
    let value = table.get(key, problems).unwrap_or(default);
    if value < least || value > most {
        problems.push(
            table
                .problem(key, format!("{key} = \"{value}\" is out of bounds"), "this duration")
                .help(format!("write a duration from {least} to {most}")),
        );
    }
    value
}

/// How many tests may run at once.
fn limits(root: &mut Table, problems: &mut Problems) -> Limits {
    let mut limits = Limits::default();
    let Some(mut table) = root.table("limits", problems) else {
        return limits;
    };
    limits.tests = at_least_one(&mut table, "tests", limits.tests, problems);
    for (key, limit) in [
        ("per_server", &mut limits.per_server),
        ("per_mailbox", &mut limits.per_mailbox),
    ] {
        if table.node(key).is_some() {
            *limit = Some(at_least_one(&mut table, key, 1, problems));
        }
    }
    table.finish(problems);
    limits
}

/// Where the OpenMetrics endpoint listens.
fn metrics(root: &mut Table, problems: &mut Problems) -> Option<std::net::SocketAddr> {
    let text = root.get::<String>("metrics", problems)?;
    let Ok(address) = text.parse::<std::net::SocketAddr>() else {
        problems.push(
            root.problem("metrics", format!("{text:?} is no address with a port"), "here")
                .help("write \"127.0.0.1:9925\""),
        );
        return None;
    };
    if !address.ip().is_loopback() {
        problems.push(Problem {
            severity: super::Severity::Warning,
            ..root
                .problem(
                    "metrics",
                    "everybody who reaches this address can read names, states and times",
                    "not loopback",
                )
                .help("write \"127.0.0.1:9925\", and let a proxy with access control stand before it")
        });
    }
    Some(address)
}

/// Addresses that tell whether the probe itself has a network.
fn references(root: &mut Table, problems: &mut Problems) -> Vec<String> {
    let mut addresses = Vec::new();
    for node in root
        .get::<Vec<Node>>("reference_addresses", problems)
        .unwrap_or_default()
    {
        let Some(text) = node.read::<String>(problems) else {
            continue;
        };
        let fine = text
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0));
        if fine {
            addresses.push(text);
        } else {
            problems.push(
                node.problem(format!("{text:?} is no address with a port"), "here")
                    .help("write HOST:PORT of something that answers as long as the network is there, such as a router: \"192.0.2.1:53\""),
            );
        }
    }
    addresses
}

/// Where a secret comes from; a literal only where that is allowed.
pub(super) fn secret(node: &Node, plaintext: bool, problems: &mut Problems) -> Option<SecretSource> {
    let help = "write { env = \"NAME\" }, { file = \"PATH\" } or { command = [\"PROGRAM\", \"ARGUMENT\"] }";
    let Some(mut table) = node.as_table() else {
        let text: String = node.read(problems)?;
        if plaintext {
            return Some(SecretSource::Literal(Secret::new(text)));
        }
        problems.push(
            node.problem("a secret stands in clear in the configuration", "in clear")
                .help(format!("{help}; or set allow_plaintext_secrets = true")),
        );
        return None;
    };
    let env = table.get("env", problems).map(SecretSource::Env);
    let file = table.get("file", problems).map(SecretSource::File);
    let credential = table.get::<Name>("credential", problems);
    let credential = credential.map(|name| SecretSource::Credential(name.to_string()));
    let command = table.get::<Vec<String>>("command", problems);
    if command
        .as_ref()
        .is_some_and(|words| words.first().is_none_or(String::is_empty))
    {
        problems.push(table.problem("command", "no program is named", "empty").help(help));
    }
    let command = command.map(SecretSource::Command);
    let mut found = [env, file, credential, command].into_iter().flatten();
    let source = found.next();
    if source.is_none() || found.next().is_some() {
        problems.push(node.problem("a secret has exactly one source", "here").help(help));
    }
    table.finish(problems);
    source
}

fn object(id: &crate::model::ObjectId, mut table: Table, problems: &mut Problems) -> Option<Object> {
    let name = table.get("name", problems).unwrap_or_else(|| id.to_string());
    let address: Option<String> = table.require("address", "the host name or IP address", problems);
    if let Some(address) = &address {
        host(address, "address", &table, problems);
    }
    let tags = tags(&mut table, problems);
    table.finish(problems);
    Some(Object {
        name,
        address: address?,
        tags,
    })
}

fn tags(table: &mut Table, problems: &mut Problems) -> BTreeSet<String> {
    table
        .get::<Vec<String>>("tags", problems)
        .unwrap_or_default()
        .into_iter()
        .collect()
}

/// Notes what is no host name or IP address.
pub(super) fn host(text: &str, key: &str, table: &Table, problems: &mut Problems) {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_'))
            && !label.starts_with('-')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    let fine = text.parse::<std::net::IpAddr>().is_ok() || (name.len() <= 253 && name.split('.').all(label));
    if fine {
        return;
    }
    let help = if text.contains("://") {
        "leave out the protocol; a host name or IP address alone belongs here"
    } else if text
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok())
    {
        "write the port with the key port, not behind the name"
    } else {
        "write a host name such as \"mail.example.com\", or an IP address"
    };
    problems.push(
        table
            .problem(
                key,
                format!("{text:?} is no host name and no IP address"),
                "this address",
            )
            .help(help),
    );
}

/// Reads all operators; the members of groups are put in their places.
fn operators(tables: Vec<(Name, Table)>, problems: &mut Problems) -> BTreeMap<Name, Operator> {
    let mut read = BTreeMap::new();
    let mut members: BTreeMap<Name, Vec<(Name, Node)>> = BTreeMap::new();
    let names: BTreeSet<Name> = tables.iter().map(|(name, _)| name.clone()).collect();
    for (name, mut table) in tables {
        let display = table.get("name", problems).unwrap_or_else(|| name.to_string());
        let mut group = Vec::new();
        for node in table.get::<Vec<Node>>("members", problems).unwrap_or_default() {
            let Some(member) = node.read::<Name>(problems) else {
                continue;
            };
            if names.contains(&member) {
                group.push((member, node));
                continue;
            }
            let known = names.iter().map(AsRef::as_ref);
            problems.push(no_such(&node, "operator", member.as_str(), known));
        }
        let email: Option<Vec<String>> = if table.node("members").is_none() {
            table.require(
                "email",
                "the mail address, or several; a group has members instead",
                problems,
            )
        } else {
            Some(table.get("email", problems).unwrap_or_default())
        };
        for address in email.iter().flatten() {
            mail_address(address, "email", &table, problems);
        }
        let attachments = table.get::<message::Bytes>("attachments", problems).map(|size| size.0);
        table.finish(problems);
        let Some(email) = email else {
            problems.note_broken("operator", name.as_ref());
            continue;
        };
        members.insert(name.clone(), group);
        read.insert(
            name,
            Operator {
                name: display,
                email,
                attachments,
            },
        );
    }
    let single: BTreeMap<Name, Vec<String>> = read
        .iter()
        .map(|(name, operator)| (name.clone(), operator.email.clone()))
        .collect();
    for (name, operator) in &mut read {
        let mut seen = BTreeSet::from([name.clone()]);
        let mut open: Vec<&(Name, Node)> = members.get(name).into_iter().flatten().rev().collect();
        while let Some((member, node)) = open.pop() {
            if member == name {
                problems.push(
                    node.problem(format!("the group {name} would be a member of itself"), "leads back")
                        .help("take it out"),
                );
            }
            if seen.insert(member.clone()) {
                for address in single.get(member).into_iter().flatten() {
                    if !operator.email.contains(address) {
                        operator.email.push(address.clone());
                    }
                }
                open.extend(members.get(member).into_iter().flatten().rev());
            }
        }
    }
    read
}

pub(super) fn mail_address(text: &str, key: &str, table: &Table, problems: &mut Problems) {
    if Address::from_str(text).is_err() {
        problems.push(
            table
                .problem(key, format!("{text:?} is no mail address"), "this address")
                .help("write it plain, such as \"probe@example.com\""),
        );
    }
}

/// What stands in the table of a server to talk to.
#[derive(Clone, Copy)]
pub(super) struct Service {
    /// For messages.
    what: &'static str,
    /// Ports for no TLS, STARTTLS, implicit TLS.
    ports: [u16; 3],
    /// Encryption where nothing is said.
    tls: TlsMode,
    /// The word for an upgrade in the middle.
    upgrade: &'static str,
}

const SMTP: Service = Service {
    what: "the SMTP server",
    ports: [25, 587, 465],
    tls: TlsMode::StartTls,
    upgrade: "starttls",
};
const POP3: Service = Service {
    what: "the POP3 server",
    ports: [110, 110, 995],
    tls: TlsMode::Implicit,
    upgrade: "starttls",
};
const IMAP: Service = Service {
    what: "the IMAP server",
    ports: [143, 143, 993],
    tls: TlsMode::Implicit,
    upgrade: "starttls",
};
pub(super) const FTP: Service = Service {
    what: "the FTP server",
    ports: [21, 21, 990],
    tls: TlsMode::StartTls,
    upgrade: "explicit",
};
pub(super) const SMB: Service = Service {
    what: "the file server",
    ports: [445, 445, 445],
    tls: TlsMode::None,
    upgrade: "",
};

/// Reads the keys of a server; `address` is used where no server is named.
pub(super) fn endpoint(
    table: &mut Table,
    service: Service,
    address: Option<&str>,
    config: &Config,
    problems: &mut Problems,
) -> Option<Endpoint> {
    let server: Option<String> = match address {
        Some(address) => Some(table.get("server", problems).unwrap_or_else(|| address.to_owned())),
        None => table.require(
            "server",
            &format!("host name or IP address of {}", service.what),
            problems,
        ),
    };
    if let Some(server) = &server
        && table.node("server").is_some()
    {
        host(server, "server", table, problems);
    }
    let tls = if service.upgrade.is_empty() {
        TlsMode::None
    } else {
        let words = [
            ("none", TlsMode::None),
            (service.upgrade, TlsMode::StartTls),
            ("implicit", TlsMode::Implicit),
        ];
        table.word("tls", &words, problems).unwrap_or(service.tls)
    };
    let [none, upgrade, implicit] = service.ports;
    let usual = match tls {
        TlsMode::None => none,
        TlsMode::StartTls => upgrade,
        TlsMode::Implicit => implicit,
    };
    let port = table.get("port", problems).unwrap_or(usual);
    if port == 0 {
        problems.push(
            table
                .problem("port", "0 is no port", "this port")
                .help(format!("usual here: {usual}")),
        );
    }
    let account = reference(table, "account", "account", &config.accounts, problems);
    warn_of_login(table, service, server.as_deref(), account.as_ref(), config, problems);
    let trust = if service.upgrade.is_empty() {
        Trust::default()
    } else {
        trust(table, problems)
    };
    let server = server?;
    if account.is_some() && tls == TlsMode::None && !service.upgrade.is_empty() && !is_loopback(&server) {
        problems.push(Problem {
            severity: super::Severity::Warning,
            ..table
                .problem(
                    "tls",
                    format!("the password travels in clear to {server}"),
                    "no encryption",
                )
                .help(format!("write tls = \"{}\" or tls = \"implicit\"", service.upgrade))
        });
    }
    Some(Endpoint {
        server,
        port,
        tls,
        trust,
        account,
    })
}

/// What is known beforehand of logins that will not do.
fn warn_of_login(
    table: &Table,
    service: Service,
    server: Option<&str>,
    name: Option<&AccountName>,
    config: &Config,
    problems: &mut Problems,
) {
    let Some((name, account)) = name.and_then(|name| Some((name, config.accounts.get(name)?))) else {
        return;
    };
    let is_mail = [SMTP, POP3, IMAP].iter().any(|mail| mail.what == service.what);
    let server = server.unwrap_or_default().to_ascii_lowercase();
    let has_token = account.oauth().is_some();
    if has_token && !is_mail {
        problems.push(
            table
                .problem(
                    "account",
                    format!("{} takes no OAuth tokens", service.what),
                    "an account with oauth",
                )
                .help("name an account with a password"),
        );
    } else if is_mail && !has_token && (server.ends_with(".office365.com") || server == "outlook.office.com") {
        let message = if service.what == SMTP.what {
            "basic authentication (user and password) for SMTP at Microsoft 365 ends by default at the end of December 2026"
        } else {
            "Microsoft 365 takes no passwords over POP3 and IMAP"
        };
        problems.push(Problem {
            severity: super::Severity::Warning,
            ..table.problem("account", message, "an account with a password").help(format!(
                "in [account.{name}] write oauth = {{ preset = \"microsoft-365\", tenant = …, client_id = …, client_secret = … }} in place of password"
            ))
        });
    }
}

pub(super) fn is_loopback(server: &str) -> bool {
    server == "localhost"
        || server
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

pub(super) fn trust(table: &mut Table, problems: &mut Problems) -> Trust {
    let ca_file: Option<PathBuf> = table.get("ca_file", problems);
    if let Some(path) = &ca_file
        && let Err(error) = std::fs::File::open(path)
    {
        problems.push(
            table
                .problem(
                    "ca_file",
                    format!("can't read {}: {error}", path.display()),
                    "this file",
                )
                .help("name a file of PEM certificates; the path is relative to this file"),
        );
    }
    let fingerprint = table.get::<String>("fingerprint", problems).and_then(|text| {
        let bytes = fingerprint(&text);
        if bytes.is_none() {
            problems.push(
                table
                    .problem(
                        "fingerprint",
                        "this is no SHA-256 fingerprint",
                        "not 64 hexadecimal digits",
                    )
                    .help("openssl x509 -in CERTIFICATE -noout -fingerprint -sha256 prints it"),
            );
        }
        bytes
    });
    let insecure = table.get("insecure", problems).unwrap_or(false);
    if insecure {
        problems.push(Problem {
            severity: super::Severity::Warning,
            ..table
                .problem(
                    "insecure",
                    "certificates are not verified: anybody on the way can read the password",
                    "set here",
                )
                .help("name the server's own authority with ca_file, or its certificate with fingerprint")
        });
    }
    Trust {
        ca_file,
        fingerprint,
        insecure,
    }
}

/// 64 hexadecimal digits, colons allowed between.
fn fingerprint(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text.bytes().filter(|b| *b != b':').collect();
    let mut bytes = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// The name of something that must exist.
pub(super) fn reference<N, V>(
    table: &mut Table,
    key: &'static str,
    what: &str,
    known: &BTreeMap<N, V>,
    problems: &mut Problems,
) -> Option<N>
where
    N: super::FromToml + Ord + AsRef<str>,
{
    reference_at(&table.node(key)?, what, known, problems)
}

/// The same, where the name is a value by itself, such as one of a list.
pub(super) fn reference_at<N, V>(node: &Node, what: &str, known: &BTreeMap<N, V>, problems: &mut Problems) -> Option<N>
where
    N: super::FromToml + Ord + AsRef<str>,
{
    let name: N = node.read(problems)?;
    if !known.contains_key(&name) && !problems.broken(what).any(|broken| broken == name.as_ref()) {
        let names = known.keys().map(AsRef::as_ref).chain(problems.broken(what));
        let problem = no_such(node, what, name.as_ref(), names);
        problems.push(problem);
    }
    Some(name)
}

/// The problem that a value names something that is not there.
pub(super) fn no_such<'a>(node: &Node, what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Problem {
    node.problem(format!("there is no {what} {name:?}"), "not known")
        .help(did_you_mean(name, known, || format!("add [{what}.{name}]")))
}

fn mail_server(mut table: Table, plaintext: bool, config: &Config, problems: &mut Problems) -> Option<MailServer> {
    let endpoint = endpoint(&mut table, SMTP, None, config, problems);
    let from: Option<String> = table.require("from", "the sender of the mails", problems);
    if let Some(from) = &from {
        mail_address(from, "from", &table, problems);
    }
    let timeout = duration(
        &mut table,
        "timeout",
        Micros::from_secs(30),
        SECOND,
        Micros::from_secs(600),
        problems,
    );
    let return_path: Option<String> = table.get("return_path", problems);
    if let Some(address) = &return_path {
        mail_address(address, "return_path", &table, problems);
    }
    let dkim = table
        .table("dkim", problems)
        .and_then(|table| dkim(table, plaintext, from.as_deref(), problems));
    table.finish(problems);
    Some(MailServer {
        endpoint: endpoint?,
        from: from?,
        return_path,
        dkim,
        timeout,
    })
}

/// How mails are signed (RFC 6376).
fn dkim(mut table: Table, plaintext: bool, from: Option<&str>, problems: &mut Problems) -> Option<Dkim> {
    let own = from.and_then(|from| from.rsplit_once('@')).map(|(_, domain)| domain);
    let domain = table.get("domain", problems).or_else(|| own.map(str::to_owned));
    if let (Some(domain), Some(own)) = (&domain, own)
        && !own.eq_ignore_ascii_case(domain)
        && !own
            .to_ascii_lowercase()
            .ends_with(&format!(".{}", domain.to_ascii_lowercase()))
    {
        problems.push(Problem {
            severity: super::Severity::Warning,
            ..table
                .problem(
                    "domain",
                    format!("{domain} does not sign for senders at {own} (DMARC)"),
                    "another domain",
                )
                .help(format!("write {own}, or leave it out"))
        });
    }
    let selector: Option<String> = table.require(
        "selector",
        "the name of the key: its other half stands in the DNS at SELECTOR._domainkey.DOMAIN",
        problems,
    );
    for (key, text) in [("selector", &selector), ("domain", &domain)] {
        let fits = |text: &str| {
            text.split('.').all(|label| {
                !label.is_empty()
                    && label
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            })
        };
        if let Some(text) = text
            && !fits(text)
        {
            problems.push(table.problem(key, format!("{text:?} is no name in the DNS"), "here"));
        }
    }
    let key = match table.node("key") {
        Some(node) => secret(&node, plaintext, problems),
        None => {
            problems.push(table.missing("key", "the private key in PEM, such as { file = \"dkim.pem\" }"));
            None
        }
    };
    table.finish(problems);
    Some(Dkim {
        domain: domain?,
        selector: selector?,
        key: key?,
    })
}

/// Mail addresses, each written plain or as the name of an operator.
pub(super) fn recipients(
    table: &mut Table,
    key: &'static str,
    config: &Config,
    problems: &mut Problems,
) -> Vec<String> {
    let mut addresses = Vec::new();
    for text in table.get::<Vec<String>>(key, problems).unwrap_or_default() {
        if text.contains('@') {
            mail_address(&text, key, table, problems);
            addresses.push(text);
        } else if let Some(operator) = config.operators.get(text.as_str()) {
            addresses.extend(operator.email.iter().cloned());
        } else if !problems.broken("operator").any(|broken| broken == text) {
            let names = config.operators.keys().map(AsRef::as_ref);
            let help = did_you_mean(&text, names.chain(problems.broken("operator")), || {
                format!("write a mail address, or add [operator.{text}]")
            });
            problems.push(
                table
                    .problem(key, format!("there is no operator {text:?}"), "not known")
                    .help(help),
            );
        }
    }
    let mut seen = BTreeSet::new();
    addresses.retain(|address| seen.insert(address.clone()));
    addresses
}

/// The same, where there must be somebody; operators may be groups without an address.
pub(super) fn some_recipients(
    table: &mut Table,
    key: &'static str,
    config: &Config,
    problems: &mut Problems,
) -> Vec<String> {
    let addresses = recipients(table, key, config, problems);
    let all_known = |names: Vec<String>| names.iter().all(|name| config.operators.contains_key(name.as_str()));
    if addresses.is_empty() && table.get(key, &mut Problems::default()).is_some_and(all_known) {
        problems.push(
            table
                .problem(key, "nobody gets this mail", "empty")
                .help("name operators or mail addresses"),
        );
    }
    addresses
}

/// The mail server that is named; the only one there is where none is named.
pub(super) fn mail_server_of(table: &mut Table, config: &Config, problems: &mut Problems) -> Option<Name> {
    if table.node("mail_server").is_some() {
        return reference(table, "mail_server", "mail_server", &config.mail_servers, problems);
    }
    let mut names = config.mail_servers.keys();
    match (names.next(), names.next()) {
        (Some(only), None) => Some(only.clone()),
        (None, _) if problems.broken("mail_server").next().is_some() => None,
        (None, _) => {
            problems.push(table.missing(
                "mail_server",
                "the SMTP server for mailqos's own mails; add [mail_server.NAME]",
            ));
            None
        }
        _ => {
            problems.push(table.missing("mail_server", "there are several; which one?"));
            None
        }
    }
}

/// Keys that make no sense as defaults.
const OWN_KEYS: [&str; 2] = ["object", "name"];

/// Which tests leave a transcript.
const TRANSCRIPTS: [(&str, Transcripts); 3] = [
    ("failed", Transcripts::Failed),
    ("all", Transcripts::All),
    ("none", Transcripts::None),
];

/// What defaults and monitors have in common, read; `address` is the object's.
struct Options {
    enabled: bool,
    test_interval: Micros,
    calendar: Option<Calendar>,
    retest_interval: Option<Micros>,
    overlap: bool,
    action_list: Option<Name>,
    alarm: AlarmRule,
    depends_on: Vec<(String, Node)>,
    tags: BTreeSet<String>,
    max_round_trip: Micros,
    check_interval: Micros,
    horizon: Micros,
    timeout: Micros,
    from: Option<String>,
    to: Option<String>,
    protocol: PickupProtocol,
    folders: Vec<String>,
    idle: bool,
    precise: bool,
    transcripts: Transcripts,
    message: MessageShape,
    smtp: Option<Endpoint>,
    pickup: Option<Endpoint>,
}

fn options(
    table: &mut Table,
    address: Option<&str>,
    config: &Config,
    complete: bool,
    problems: &mut Problems,
) -> Options {
    // Where names could not be read, a missing one is no news.
    let mut ignored = Problems::default();
    let nobody = table
        .node("action_list")
        .and_then(|node| node.read::<String>(&mut ignored))
        .is_some_and(|name| name == "none");
    let action_list = if nobody {
        None
    } else if complete {
        reference(table, "action_list", "action_list", &config.action_lists, problems)
    } else {
        reference(table, "action_list", "action_list", &config.action_lists, &mut ignored)
    }
    .or_else(|| {
        let default = (!nobody && config.action_lists.contains_key("default")).then(|| "default".parse().ok());
        default.flatten()
    });
    table.word("kind", &[("mail-qos", ())], problems);
    let max_round_trip = duration(
        table,
        "max_round_trip",
        Micros::from_secs(120),
        Micros::from_millis(100),
        DAY,
        problems,
    );
    let check_interval = duration(
        table,
        "check_interval",
        Micros::from_secs(5),
        Micros::from_millis(50),
        DAY,
        problems,
    );
    if check_interval >= max_round_trip {
        problems.push(
            table
                .problem(
                    "check_interval",
                    format!("the check interval ({check_interval}) is not shorter than max round trip ({max_round_trip})"),
                    "too long",
                )
                .help("a mail must be looked for at least once before it is too late; shorten check_interval or raise max_round_trip"),
        );
    }
    let horizon = duration(table, "horizon", DAY, SECOND, Micros::from_secs(30 * 86_400), problems);
    if horizon < max_round_trip {
        problems.push(
            table
                .problem(
                    "horizon",
                    format!("the horizon ({horizon}) is shorter than max round trip ({max_round_trip})"),
                    "too short",
                )
                .help("a mail counts as lost only after it has become late; raise horizon"),
        );
    }
    let test_interval = duration(
        table,
        "test_interval",
        Micros::from_secs(300),
        SECOND,
        Micros::from_secs(31 * 86_400),
        problems,
    );
    let retest_interval = table.node("retest_interval").map(|_| {
        let most = Micros::from_secs(31 * 86_400);
        duration(table, "retest_interval", SECOND, SECOND, most, problems)
    });
    let zone = table
        .get("timezone", problems)
        .unwrap_or_else(|| config.timezone.clone());
    let calendar = table.get("schedule", problems).map(|cron| Calendar {
        cron: Box::new(cron),
        zone,
    });
    if calendar
        .as_ref()
        .is_some_and(|calendar| calendar.next(UtcMicros::now()).is_none())
    {
        problems.push(
            table
                .problem("schedule", "this moment never comes", "never")
                .help("look at day and month"),
        );
    }
    let timeout = duration(
        table,
        "timeout",
        Micros::from_secs(30),
        Micros::from_millis(100),
        Micros::from_secs(600),
        problems,
    );
    let mut address_of = |key: &'static str| {
        let value: Option<String> = table.get(key, problems);
        if let Some(value) = &value {
            mail_address(value, key, table, problems);
        }
        value
    };
    let (from, to) = (address_of("from"), address_of("to"));
    let smtp = table.table("smtp", problems);
    let smtp = read_endpoint(smtp, SMTP, address, config, problems);
    let mut pickup = table.table("pickup", problems);
    let protocols = [("pop3", PickupProtocol::Pop3), ("imap", PickupProtocol::Imap)];
    let protocol = pickup
        .as_mut()
        .and_then(|pickup| pickup.word("protocol", &protocols, problems))
        .unwrap_or(PickupProtocol::Pop3);
    let service = match protocol {
        PickupProtocol::Pop3 => POP3,
        PickupProtocol::Imap => IMAP,
    };
    let folders = folders(table, problems);
    let (alarm, depends_on) = super::alarm::read(table, &folders, problems);
    Options {
        enabled: table.get("enabled", problems).unwrap_or(true),
        test_interval,
        calendar,
        retest_interval,
        overlap: table.get("overlap", problems).unwrap_or(false),
        action_list,
        alarm,
        depends_on,
        tags: tags(table, problems),
        max_round_trip,
        check_interval,
        horizon,
        timeout,
        from,
        to,
        protocol,
        folders,
        idle: table.get("idle", problems).unwrap_or(true),
        precise: table.get("precise", problems).unwrap_or(false),
        message: message::read(table, problems),
        transcripts: table
            .word("transcripts", &TRANSCRIPTS, problems)
            .unwrap_or(Transcripts::Failed),
        smtp,
        pickup: read_endpoint(pickup, service, address, config, problems),
    }
}

/// The folders to search; the inbox, if nothing is said.
fn folders(table: &mut Table, problems: &mut Problems) -> Vec<String> {
    let inbox = || vec!["INBOX".to_owned()];
    let Some(folders) = table.get::<Vec<String>>("folders", problems) else {
        return inbox();
    };
    let bad = folders
        .iter()
        .any(|name| name.is_empty() || name.chars().any(char::is_control));
    if bad || folders.is_empty() {
        problems.push(
            table
                .problem("folders", "a folder without a name, or no folder at all", "here")
                .help("write the folders to search, such as [\"INBOX\", \"Junk\"]"),
        );
        return inbox();
    }
    folders
}

/// Reads a table of a monitor's server to its end; the defaults alone have no address, and need none.
fn read_endpoint(
    table: Option<Table>,
    service: Service,
    address: Option<&str>,
    config: &Config,
    problems: &mut Problems,
) -> Option<Endpoint> {
    let mut table = table?;
    let found = endpoint(
        &mut table,
        service,
        Some(address.unwrap_or("localhost")),
        config,
        problems,
    );
    table.finish(problems);
    found
}

pub(super) fn at_least_one(table: &mut Table, key: &'static str, default: u32, problems: &mut Problems) -> u32 {
    let value = table.get(key, problems).unwrap_or(default);
    if value == 0 {
        problems.push(
            table
                .problem(key, format!("{key} can't be 0"), "here")
                .help("write 1 or more"),
        );
    }
    value
}

fn monitor(
    id: MonitorId,
    mut table: Table,
    config: &Config,
    complete: bool,
    problems: &mut Problems,
) -> Option<(Monitor, Vec<(String, Node)>)> {
    let name = table.get("name", problems).unwrap_or_else(|| id.to_string());
    if table.node("object").is_none() {
        problems.push(table.missing("object", "the object that the monitor watches"));
    }
    let object_id = if complete {
        reference(&mut table, "object", "object", &config.objects, problems)
    } else {
        table.get("object", problems)
    };
    let object = object_id.as_ref().and_then(|id| config.objects.get(id));
    let options = options(
        &mut table,
        object.map(|object| object.address.as_str()),
        config,
        complete,
        problems,
    );
    for (key, value, why) in [
        ("from", options.from.is_none(), "the sender of the test mails"),
        ("to", options.to.is_none(), "the mailbox's address"),
        (
            "smtp",
            table.node("smtp").is_none(),
            "the server that takes the mail: { port = 587, tls = \"starttls\", account = \"NAME\" }",
        ),
        (
            "pickup",
            table.node("pickup").is_none(),
            "the mailbox: { protocol = \"pop3\", tls = \"implicit\", account = \"NAME\" }",
        ),
    ] {
        if value && table.node(key).is_none() {
            problems.push(table.missing(key, why));
        }
    }
    let mut pickup = options.pickup;
    if let Some(endpoint) = &mut pickup
        && endpoint.account.is_none()
    {
        problems.push(
            table
                .problem(
                    "pickup",
                    "nobody logs in to the mailbox: \"account\" is missing",
                    "here",
                )
                .help("add account = \"NAME\", and [account.NAME] with user and password"),
        );
        pickup = None;
    }
    if let (Some(list), Some(smtp)) = (&options.action_list, &options.smtp) {
        warn_of_own_server(&id, list, smtp, &table, config, problems);
    }
    if options.max_round_trip > options.test_interval && !options.overlap && options.calendar.is_none() {
        problems.push(Problem {
            severity: super::Severity::Warning,
            ..table
                .problem(
                    "max_round_trip",
                    format!(
                        "max round trip ({}) is longer than the test interval ({}) of {id}: while a mail is late, tests are left out",
                        options.max_round_trip, options.test_interval
                    ),
                    "longer than the test interval",
                )
                .help("raise test_interval or shorten max_round_trip, or set overlap = true: tests then begin while others still run")
        });
    }
    table.finish(problems);
    let mut tags = options.tags;
    tags.extend(object.into_iter().flat_map(|object| object.tags.iter().cloned()));
    let monitor = Monitor {
        id,
        name,
        object: object_id?,
        tags,
        enabled: options.enabled,
        test_interval: options.test_interval,
        calendar: options.calendar,
        retest_interval: options.retest_interval,
        overlap: options.overlap,
        action_list: options.action_list,
        alarm: options.alarm,
        kind: Kind::MailQos(MailQos {
            max_round_trip: options.max_round_trip,
            check_interval: options.check_interval,
            horizon: options.horizon,
            timeout: options.timeout,
            from: options.from?,
            to: options.to?,
            smtp: options.smtp?,
            pickup: pickup?,
            protocol: options.protocol,
            folders: options.folders,
            idle: options.idle,
            precise: options.precise,
            transcripts: options.transcripts,
            message: options.message,
        }),
    };
    Some((monitor, options.depends_on))
}

/// An alarm that travels through the server whose failure it reports does not arrive.
fn warn_of_own_server(
    id: &MonitorId,
    list: &Name,
    smtp: &Endpoint,
    table: &Table,
    config: &Config,
    problems: &mut Problems,
) {
    let Some(list_of) = config.action_lists.get(list) else {
        return;
    };
    let own = |name: &Name| {
        config
            .mail_servers
            .get(name)
            .is_some_and(|server| server.endpoint.server.eq_ignore_ascii_case(&smtp.server))
    };
    let caught = list_of.steps.iter().any(|step| match &step.action {
        Action::Email {
            mail_server, fallback, ..
        } => own(mail_server) && fallback.as_ref().is_none_or(own),
        _ => false,
    });
    if caught {
        problems.push(Problem {
            severity: super::Severity::Warning,
            ..table
                .problem(
                    "action_list",
                    format!(
                        "alarms of {id} travel through {}, the server that it tests",
                        smtp.server
                    ),
                    format!("uses the action list {list}"),
                )
                .help("name a mail server elsewhere in the action list, as mail_server or as fallback")
        });
    }
}

impl Config {
    /// The account of an endpoint, if it names one.
    pub fn account(&self, name: Option<&AccountName>) -> Option<&Account> {
        self.accounts.get(name?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Severity;

    fn load_text(text: &str) -> Result<Config, Problems> {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("mailqos.toml");
        std::fs::write(&path, text).expect("write");
        load(&path)
    }

    /// The problems as a user sees them, with the folder's changing name taken out.
    fn problems_of(text: &str) -> String {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("mailqos.toml");
        std::fs::write(&path, text).expect("write");
        let problems = match load(&path) {
            Ok(config) => config.warnings,
            Err(problems) => problems,
        };
        problems
            .to_string()
            .replace(&format!("{}/", folder.path().display()), "")
    }

    const GOOD: &str = r#"
        site = "stockholm"
        timezone = "Europe/Stockholm"
        [defaults]
        test_interval = "2m"
        smtp = { port = 2525, tls = "none" }
        pickup = { tls = "implicit", account = "probe" }
        [account.probe]
        user = "probe@example.com"
        password = { env = "PROBE_PASSWORD" }
        [object.mail1]
        address = "mail.example.com"
        tags = ["a"]
        [monitor.m1]
        object = "mail1"
        from = "probe@example.com"
        to = "probe@example.com"
        smtp = { port = 25 }
        max_round_trip = "1m30s"
        tags = ["b"]
    "#;

    #[test]
    fn tests_that_would_be_left_out_are_warned_of() {
        let short = GOOD.replace("\"2m\"", "\"1m\"");
        let told = problems_of(&short);
        assert!(told.contains("longer than the test interval (1m) of m1"), "{told}");
        let told = problems_of(&short.replace("object = \"mail1\"", "object = \"mail1\"\noverlap = true"));
        assert!(!told.contains("test interval"), "{told}");
    }

    #[test]
    fn a_monitor_takes_from_the_defaults_what_it_does_not_say() {
        let config = load_text(GOOD).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(config.warnings.is_empty(), "{}", config.warnings);
        let monitor = &config.monitors["m1"];
        let Kind::MailQos(options) = &monitor.kind;
        assert_eq!(monitor.test_interval, Micros::from_secs(120));
        assert_eq!(options.max_round_trip, Micros::from_secs(90));
        assert_eq!((options.smtp.port, options.smtp.tls), (25, TlsMode::None));
        assert_eq!((options.pickup.port, options.pickup.tls), (995, TlsMode::Implicit));
        assert_eq!(options.smtp.server, "mail.example.com");
        assert_eq!(monitor.tags.iter().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        insta::assert_snapshot!(problems_of(
            r#"
            sight = "stockholm"
            timezone = "Europe/Stokholm"
            include = ["nowhere"]
            [defaults]
            check_intervall = "5s"
            name = "all of them"
            [account.probe]
            user = "probe@example.com"
            password = "hunter2"
            [object.mail1]
            address = "https://mail.example.com"
            [monitor.m1]
            object = "mial1"
            from = "probe at example"
            smtp = { port = 99999, tls = "ssl", fingerprint = "12:34" }
            check_interval = "5m"
            max_round_trip = 60
            [monitor."M 2"]
            object = "mail1"
            "#
        ));
    }

    #[test]
    fn references_are_checked() {
        let text = GOOD.replace("account = \"probe\"", "account = \"prob\"");
        insta::assert_snapshot!(problems_of(&text));
    }

    #[test]
    fn what_is_unwise_is_a_warning() {
        let text = GOOD.replace("port = 25 }", "port = 25, account = \"probe\", insecure = true }");
        let config = load_text(&text).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(config.warnings.count(Severity::Warning), 2, "{}", config.warnings);
    }

    #[test]
    fn a_login_that_microsoft_refuses_is_warned_of_wherever_the_server_is_named() {
        let named = GOOD.replace(
            "account = \"probe\"",
            "server = \"outlook.office365.com\", account = \"probe\"",
        );
        for text in [named, GOOD.replace("mail.example.com", "outlook.office365.com")] {
            let told = problems_of(&text);
            assert!(told.contains("takes no passwords over POP3"), "{told}");
        }
    }

    #[test]
    fn included_files_add_objects_and_monitors_once() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("mailqos.toml");
        std::fs::create_dir(folder.path().join("more")).expect("folder");
        std::fs::write(&path, format!("include = \"more\"\n{GOOD}")).expect("write");
        let part = "[monitor.m2]\nobject = \"mail1\"\nfrom = \"a@b.example\"\nto = \"a@b.example\"\n";
        std::fs::write(folder.path().join("more/a.toml"), part).expect("write");
        let config = load(&path).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(config.monitors.len(), 2);
        std::fs::write(folder.path().join("more/b.toml"), part).expect("write");
        let problems = load(&path).expect_err("m2 stands twice");
        assert!(problems.to_string().contains("\"m2\" is there already"), "{problems}");
    }

    #[test]
    fn a_missing_file_is_explained() {
        let problems = load(Path::new("/nonexistent/mailqos.toml")).expect_err("nothing there");
        assert!(problems.to_string().contains("--config"), "{problems}");
    }
}
