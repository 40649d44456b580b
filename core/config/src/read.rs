//! Reads the configuration file and its includes into a [`Config`], and collects all problems.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use jiff::tz::TimeZone;
use mailqos_base::zones;
use mailqos_model::{InvalidName, Micros, MonitorId, Name, SiteName};

use super::{
    Config, DataLocation, DeliveryOptions, Limits, ObjectStoreOptions, Problem, Problems, Severity,
    Table, account, actions, alarm, archive, console, engine, heartbeat,
    key::{Defaulted, Optional, key},
    mail_server, maintenance, monitor, object_store, operator, proxy,
    reference::Key,
    service_level,
    table::{Node, file_text, parse},
    target,
    value::{DAY, secret},
};

/// Maximum size of a configuration file in bytes.
pub(crate) const MAX_FILE: u64 = 32 * 1024 * 1024;

const fn named(name: &'static str, tables: &'static [&'static str], about: &'static str) -> Key {
    Key::named_tables(tables).named(name, about)
}

/// Tables of named entries, which included files can also contain.
pub(super) const NAMED: [Key; 9] = [
    named("account", &["account"], "Credentials."),
    named("object", &["object"], "Monitored hosts and services."),
    named("monitor", &["monitor"], "Tests."),
    named("operator", &["operator"], "People and groups who are notified."),
    named("mail_server", &["mail_server"], "SMTP servers for alarms and reports."),
    named("action_list", &["action_list"], "What happens when an alarm is raised."),
    named("maintenance", &["maintenance"], "Planned windows without alarms."),
    named(
        "target",
        &[
            "target.folder",
            "target.ftp",
            "target.sftp",
            "target.smb",
            "target.object-store",
            "target.email",
        ],
        "Where reports are delivered.",
    ),
    named("service_level", &["service_level"], "Promised service levels."),
];

keys! {
    ROOT: RootKeys {
        /// The name of the place that this probe measures from.
        site: Optional<SiteName> = key().otherwise("**required**, only in the main file");
        /// Additional files, or folders of files (`*.toml`), with tables of named things.
        include: Defaulted<Vec<PathBuf>> = key().default("[]");
        /// The sample lake: a folder or an object store (`s3://bucket/prefix`, `az://…`, `gs://…`).
        data: Defaulted<String> = key().default("\"data\"");
        /// The local folder for the journal, locks, keys and queues.
        state: Optional<PathBuf> = key().otherwise("`state` in the folder of `data`");
        /// The time zone of calendars and reports that don't set their own.
        timezone: Optional<TimeZone> = key().otherwise("the machine's");
        /// How often recorded samples are sealed into the day's Parquet file.
        seal_interval: Defaulted<Micros> = key().default("\"5m\"").within("1s", "1d");
        /// Days older than this are removed from the lake; at least a day.
        retention: Optional<Micros> = key().otherwise("everything is kept");
        /// The key that signs the test mails.
        signing_key: Key = Key::secret().otherwise("a file in `state`, created at the first start");
    }
}

keys! {
    ROOT_MORE: MoreRootKeys {
        /// Allow secrets in plain text in this file.
        allow_plaintext_secrets: Defaulted<bool> = key().default("false");
        /// The address of the OpenMetrics endpoint: `127.0.0.1:9925`.
        metrics: Optional<String> = key().otherwise("no endpoint");
        /// Requests to a service that raises an alarm when they stop: sent only while tests run, samples
        /// are recorded and at least one alarm channel works.
        heartbeat: Key = Key::table(&["heartbeat"]);
        /// `HOST:PORT` of devices that answer as long as the probe has a network connection.
        reference_addresses: Defaulted<Vec<String>> = key().default("[]");
        /// The folder with your own report templates.
        templates: Defaulted<PathBuf> = key().default("\"templates\"");
        /// The folder with report definitions.
        reports: Defaulted<PathBuf> = key().default("\"reports\"");
        /// How many tests run at the same time.
        limits: Key = Key::table(&["limits"]);
        /// How to reach the object store of `data`.
        object_store: Key = Key::table(&["object_store"]);
        /// Where figures are computed.
        engine: Key = Key::table(&["engine"]);
        /// The web console.
        console: Key = Key::table(&["console"]);
        /// Settings for all deliveries.
        delivery: Key = Key::table(&["delivery"]);
        /// How long generated reports are kept.
        archive: Key = Key::table(&["archive"]);
        /// Defaults for all monitors.
        defaults: Key = Key::table(&["defaults"]);
    }
}

/// Reads and validates the configuration.
///
/// # Errors
/// All problems, including warnings.
pub fn load(path: &Path) -> Result<Config, Problems> {
    load_with(path, &Overlay::default())
}

/// Reads and validates the configuration, with other texts in place of some files.
///
/// # Errors
/// All problems, including warnings.
pub fn load_with(path: &Path, overlay: &Overlay) -> Result<Config, Problems> {
    let mut problems = Problems::default();
    let root =
        read_text(path, overlay, &mut problems).and_then(|text| parse(path, text, &mut problems));
    let config = root.and_then(|root| read(path, root, overlay, &mut problems));
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

/// Texts in place of files: of changes that are not saved.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Overlay(BTreeMap<PathBuf, String>);

impl Overlay {
    /// Puts a text in place of a file.
    pub fn insert(&mut self, path: PathBuf, text: String) {
        self.0.insert(path, text);
    }

    /// Returns the text in place of a file.
    pub fn get(&self, path: &Path) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    /// Returns whether all files are as they are.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn read_text(path: &Path, overlay: &Overlay, problems: &mut Problems) -> Option<String> {
    if let Some(text) = overlay.get(path) {
        return Some(text.to_owned());
    }
    let error = match file_text(path, MAX_FILE) {
        Ok(text) => return Some(text),
        Err(error) => error,
    };
    let help = match error.kind() {
        ErrorKind::NotFound => {
            "name the file with --config FILE, or create one with `mailqos-probe init`".to_owned()
        }
        ErrorKind::InvalidData => "save it as UTF-8".to_owned(),
        ErrorKind::FileTooLarge => {
            "split it, and name the folder with the parts in include = [\"…\"]".to_owned()
        }
        ErrorKind::InvalidInput | ErrorKind::TimedOut => "name a text file".to_owned(),
        _ => format!("check its permissions: ls -l {}", path.display()),
    };
    problems.push(Problem::error(format!("can't read {}: {error}", path.display())).help(help));
    None
}

fn read(
    path: &Path,
    mut root: Table,
    overlay: &Overlay,
    problems: &mut Problems,
) -> Option<Config> {
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    let mut parts = Vec::new();
    if let Some(includes) = root.list(&ROOT.include).map(|node| node.as_list()) {
        for node in includes {
            include(&node, (path, overlay), &mut parts, problems);
        }
    }
    let mut named = Named::default();
    for table in std::iter::once(&mut root).chain(&mut parts) {
        named.collect(table, problems);
    }
    for part in parts {
        part.finish(problems);
    }

    let plaintext = root.read(&ROOT_MORE.allow_plaintext_secrets, problems);
    let defaults = root.table(&ROOT_MORE.defaults, problems);
    let mut config = top_of_file(path, &folder, &mut root, plaintext, problems)?;
    for (name, table) in named.take("account") {
        match account::read(&name, table, plaintext, (&config.state, &config.proxy), problems) {
            Some(account) => {
                config.accounts.insert(name, account);
            }
            None => problems.note_broken("account", name.as_ref()),
        }
    }
    config.object_store = object_store::read(&mut root, &ROOT_MORE.object_store, &config, problems);
    for (id, table) in named.take("object") {
        match monitor::object(&id, table, problems) {
            Some(object) => {
                config.objects.insert(id, object);
            }
            None => problems.note_broken("object", id.as_ref()),
        }
    }
    config.operators = operator::operators(named.take("operator"), problems);
    for (name, table) in named.take("mail_server") {
        match mail_server::mail_server(table, plaintext, &config, problems) {
            Some(server) => {
                config.mail_servers.insert(name, server);
            }
            None => problems.note_broken("mail_server", name.as_ref()),
        }
    }
    config.action_lists = actions::read(named.take("action_list"), plaintext, &config, problems);
    config.targets = target::read(named.take("target"), &config, problems);
    config.delivery =
        target::read_delivery(&mut root, &ROOT_MORE.delivery, (&config, plaintext), problems);
    let monitors = named.take::<MonitorId>("monitor");
    let complete = named.complete;
    if let Some(defaults) = &defaults {
        monitor::check_defaults(defaults.clone(), &config, complete, problems);
    }
    let mut depends_on = Vec::new();
    let mut monitors_complete = complete && named.monitors_complete;
    for (id, table) in monitors {
        let table = match &defaults {
            Some(defaults) => table.over(defaults),
            None => table,
        };
        if let Some((monitor, patterns)) =
            monitor::monitor(id.clone(), table, &config, complete, problems)
        {
            if !patterns.is_empty() {
                depends_on.push((id.clone(), patterns));
            }
            config.monitors.insert(id, monitor);
        } else {
            monitors_complete = false;
        }
    }
    for (name, table) in named.take::<Name>("service_level") {
        if let Some(level) = service_level::read(&name, table, &config, monitors_complete, problems)
        {
            config.service_levels.insert(name, level);
        }
    }
    alarm::resolve(&mut config.monitors, depends_on, monitors_complete, problems);
    for (name, table) in named.take::<Name>("maintenance") {
        let read = maintenance::read(name, table, &config, monitors_complete, problems);
        config.maintenance.extend(read);
    }
    root.finish(problems);
    Some(config)
}

/// Reads the top-level settings of the file, without the tables.
fn top_of_file(
    path: &Path,
    folder: &Path,
    root: &mut Table,
    plaintext: bool,
    problems: &mut Problems,
) -> Option<Config> {
    let site = root.require(
        &ROOT.site,
        "the name of the location that this probe measures from, such as \"stockholm\"",
        problems,
    );
    let data = match DataLocation::parse(&root.read(&ROOT.data, problems), folder) {
        Ok(data) => data,
        Err((reason, help)) => {
            problems.push(root.problem(&ROOT.data, reason, "here").help(help));
            DataLocation::Folder(folder.join("data"))
        }
    };
    let state = root.read(&ROOT.state, problems).unwrap_or_else(|| match &data {
        DataLocation::Folder(data) => data.join("state"),
        DataLocation::ObjectStore(_) => folder.join("state"),
    });
    let timezone = match root.read(&ROOT.timezone, problems) {
        Some(zone) => zone,
        None => zones::system().unwrap_or_else(|reason| {
            let help = "set timezone = \"Europe/Berlin\", or another IANA name, at the top of the file; or correct TZ";
            problems.push(Problem::error(reason).help(help));
            TimeZone::UTC
        }),
    };
    let seal_interval = root.read(&ROOT.seal_interval, problems);
    let signing_key =
        root.node(&ROOT.signing_key).and_then(|node| secret(&node, plaintext, problems));
    let templates = root.read(&ROOT_MORE.templates, problems);
    let reports = root.read(&ROOT_MORE.reports, problems);
    let retention = match root.read(&ROOT.retention, problems) {
        Some(retention) if retention < DAY => {
            problems.push(
                root.problem(
                    &ROOT.retention,
                    format!("a retention of {retention} is too short"),
                    "too short",
                )
                .help(
                    "use a day or more, such as \"800d\", or remove retention to keep everything",
                ),
            );
            None
        }
        retention => retention,
    };
    Some(Config {
        file: path.to_owned(),
        // The missing site was reported; continue to find other problems.
        site: site.or_else(|| "unnamed".parse().ok())?,
        data,
        object_store: ObjectStoreOptions::default(),
        proxy: proxy::read(root, plaintext, problems),
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
        limits: limits(root, problems),
        metrics: metrics(root, problems),
        engine: engine::read(root, &ROOT_MORE.engine, plaintext, problems),
        console: console::read(root, &ROOT_MORE.console, plaintext, problems),
        references: references(root, problems),
        heartbeat: heartbeat::read(root, &ROOT_MORE.heartbeat, plaintext, problems),
        targets: BTreeMap::new(),
        delivery: DeliveryOptions::default(),
        archive: archive::read(root, &ROOT_MORE.archive, problems),
        service_levels: BTreeMap::new(),
        templates,
        reports,
        warnings: Problems::default(),
    })
}

keys! {
    LIMITS: LimitKeys {
        /// In total.
        tests: Defaulted<u32> = key().default("4096").within("1", "");
        /// On the same SMTP server or the same mailbox server.
        per_server: Optional<u32> = key().otherwise("unlimited").within("1", "");
        /// On the same mailbox.
        per_mailbox: Optional<u32> = key().otherwise("unlimited").within("1", "");
    }
}

/// Reads the maximum numbers of simultaneous tests.
fn limits(root: &mut Table, problems: &mut Problems) -> Limits {
    let mut table = root.table_or_empty(&ROOT_MORE.limits, problems);
    let limits = Limits {
        tests: table.read(&LIMITS.tests, problems),
        per_server: table.read(&LIMITS.per_server, problems),
        per_mailbox: table.read(&LIMITS.per_mailbox, problems),
    };
    table.finish(problems);
    limits
}

/// Reads the address of the OpenMetrics endpoint.
fn metrics(root: &mut Table, problems: &mut Problems) -> Option<std::net::SocketAddr> {
    let text = root.read(&ROOT_MORE.metrics, problems)?;
    let Ok(address) = text.parse::<std::net::SocketAddr>() else {
        problems.push(
            root.problem(
                &ROOT_MORE.metrics,
                format!("{text:?} is not an address with a port"),
                "here",
            )
            .help("write \"127.0.0.1:9925\""),
        );
        return None;
    };
    if !address.ip().is_loopback() {
        problems.push(Problem {
            severity: Severity::Warning,
            ..root
                .problem(
                    &ROOT_MORE.metrics,
                    "anyone who can reach this address can read names, states and times",
                    "not loopback",
                )
                .help("bind to \"127.0.0.1:9925\" and put an authenticating proxy in front")
        });
    }
    Some(address)
}

/// Reads the addresses that show whether the probe itself has a network connection.
fn references(root: &mut Table, problems: &mut Problems) -> Vec<String> {
    let mut addresses = Vec::new();
    let nodes = root.list(&ROOT_MORE.reference_addresses).map(|node| node.as_list());
    for node in nodes.unwrap_or_default() {
        let Some(text) = node.read::<String>(problems) else {
            continue;
        };
        let fine = text.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if fine {
            addresses.push(text);
        } else {
            problems.push(
                node.problem(format!("{text:?} is not an address with a port"), "here").help(
                    "use HOST:PORT of a device that answers whenever the network works, such as a \
                        router: \"192.0.2.1:53\"",
                ),
            );
        }
    }
    addresses
}

/// The tables of named entries from all files, and whether all of them could be read.
struct Named {
    tables: BTreeMap<&'static str, Vec<(String, Table)>>,
    /// Whether everything except the monitors was read.
    complete: bool,
    monitors_complete: bool,
}

impl Default for Named {
    fn default() -> Self {
        Self { tables: BTreeMap::new(), complete: true, monitors_complete: true }
    }
}

impl Named {
    fn collect(&mut self, table: &mut Table, problems: &mut Problems) {
        for key in &NAMED {
            let found = self.tables.entry(key.name).or_default();
            let before = problems.count(Severity::Error);
            for (name, inner) in table.named::<AnyName>(key, problems) {
                if let Some((_, first)) = found.iter().find(|(other, _)| *other == name.0) {
                    let place = first.place();
                    problems.push(
                        inner
                            .problem_of_all(
                                format!("{} {:?} is defined twice", key.name, name.0),
                                "second definition",
                            )
                            .help(format!(
                                "the first definition is at {place}; rename one of them"
                            )),
                    );
                } else {
                    found.push((name.0, inner));
                }
            }
            let all_read = problems.count(Severity::Error) == before;
            match key.name {
                "monitor" => self.monitors_complete &= all_read,
                // Nothing refers to these entries.
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

/// A validated name of any kind.
struct AnyName(String);

impl std::str::FromStr for AnyName {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        text.parse::<Name>().map(|name| Self(name.to_string()))
    }
}

fn include(
    node: &Node,
    (main, overlay): (&Path, &Overlay),
    parts: &mut Vec<Table>,
    problems: &mut Problems,
) {
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
            node.problem(format!("{} does not exist", path.display()), "included here").help(
                "name a TOML file or a folder with TOML files; the path is relative to this file",
            ),
        );
        return;
    };
    for file in files {
        if file.canonicalize().ok() == main.canonicalize().ok() {
            continue;
        }
        let text = read_text(&file, overlay, problems);
        parts.extend(text.and_then(|text| parse(&file, text, problems)));
    }
}

/// Returns the TOML files of a folder, ordered by name. Hidden files are skipped, because editors
/// create them.
pub(crate) fn toml_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, TlsMode};

    fn load_text(text: &str) -> Result<Config, Problems> {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("mailqos.toml");
        std::fs::write(&path, text).expect("write");
        load(&path)
    }

    /// Returns the problems as displayed, with the folder's changing name removed.
    fn problems_of(text: &str) -> String {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("mailqos.toml");
        std::fs::write(&path, text).expect("write");
        let problems = match load(&path) {
            Ok(config) => config.warnings,
            Err(problems) => problems,
        };
        problems.to_string().replace(&format!("{}/", folder.path().display()), "")
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
    fn tests_that_would_be_skipped_cause_a_warning() {
        let short = GOOD.replace("\"2m\"", "\"1m\"");
        let told = problems_of(&short);
        assert!(told.contains("longer than the test interval (1m) of m1"), "{told}");
        let told =
            problems_of(&short.replace("object = \"mail1\"", "object = \"mail1\"\noverlap = true"));
        assert!(!told.contains("test interval"), "{told}");
    }

    #[test]
    fn a_monitor_inherits_missing_settings() {
        let config = load_text(GOOD).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(config.warnings.is_empty(), "{}", config.warnings);
        let monitor = &config.monitors["m1"];
        let Kind::MailQos(options) = &monitor.kind else { panic!("kind {}", monitor.kind.name()) };
        assert_eq!(monitor.test_interval, Micros::from_secs(120));
        assert_eq!(options.max_round_trip, Micros::from_secs(90));
        assert_eq!((options.smtp.port, options.smtp.tls), (25, TlsMode::None));
        assert_eq!((options.pickup.port, options.pickup.tls), (995, TlsMode::Implicit));
        assert_eq!(options.smtp.server, "mail.example.com");
        assert_eq!(monitor.tags.iter().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn all_problems_are_reported_together() {
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
    fn questionable_settings_cause_warnings() {
        let text = GOOD.replace("port = 25 }", "port = 25, account = \"probe\", insecure = true }");
        let config = load_text(&text).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(config.warnings.count(Severity::Warning), 2, "{}", config.warnings);
    }

    #[test]
    fn a_login_that_microsoft_rejects_causes_a_warning() {
        let named = GOOD.replace(
            "account = \"probe\"",
            "server = \"outlook.office365.com\", account = \"probe\"",
        );
        for text in [named, GOOD.replace("mail.example.com", "outlook.office365.com")] {
            let told = problems_of(&text);
            assert!(told.contains("does not accept passwords over POP3"), "{told}");
        }
    }

    #[test]
    fn included_files_add_objects_and_monitors_once() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("mailqos.toml");
        std::fs::create_dir(folder.path().join("more")).expect("folder");
        std::fs::write(&path, format!("include = \"more\"\n{GOOD}")).expect("write");
        let part =
            "[monitor.m2]\nobject = \"mail1\"\nfrom = \"a@b.example\"\nto = \"a@b.example\"\n";
        std::fs::write(folder.path().join("more/a.toml"), part).expect("write");
        let config = load(&path).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(config.monitors.len(), 2);
        std::fs::write(folder.path().join("more/b.toml"), part).expect("write");
        let problems = load(&path).expect_err("m2 is defined twice");
        assert!(problems.to_string().contains("\"m2\" is defined twice"), "{problems}");
    }

    #[test]
    fn a_missing_file_is_explained() {
        let problems = load(Path::new("/nonexistent/mailqos.toml")).expect_err("nothing there");
        assert!(problems.to_string().contains("--config"), "{problems}");
    }

    #[test]
    fn invalid_lake_locations_are_rejected_with_a_suggestion() {
        for (data, meant) in [
            (
                "https://minio.example.com/bucket",
                "endpoint = \"https://minio.example.com\" in [object_store]",
            ),
            ("file:///var/lib/mailqos", "write the path alone: \"/var/lib/mailqos\""),
            ("s3:/bucket/lake", "write \"s3://bucket/lake\""),
            ("s3:bucket", "write \"s3://bucket\""),
            ("S3://bucket", "write \"s3://bucket\""),
            ("gcs://bucket/lake", "write \"gs://bucket/lake\""),
            ("s3://", "use s3://bucket/prefix"),
            ("s3:///lake", "use s3://bucket/prefix"),
            ("smb://server/share", "mount it"),
            ("~/lake", "only shells expand"),
            ("", "write a folder"),
            ("  ", "write a folder"),
        ] {
            let problems = problems_of(&format!("site = \"here\"\ndata = {data:?}\n"));
            assert!(problems.contains(meant), "{data:?}: {problems}");
        }
        for data in
            ["lake", "/var/lib/lake", "./~", "a:b", "s3/bucket", "s3://bucket", "gs://bucket/lake"]
        {
            load_text(&format!("site = \"here\"\ndata = {data:?}\n"))
                .unwrap_or_else(|problems| panic!("{problems}"));
        }
        for (key, path) in
            [("state", "~/state"), ("reports", "file:///reports"), ("templates", " ")]
        {
            assert!(
                load_text(&format!("site = \"here\"\n{key} = {path:?}\n")).is_err(),
                "{key} = {path:?}"
            );
        }
    }
}
