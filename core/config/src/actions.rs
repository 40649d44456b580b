//! Action lists: who is notified of an alarm, over which channel, when, and how often. Reads and
//! validates them, and expands nested lists.

mod nested;
mod syslog;
mod webhook;

use std::collections::{BTreeMap, BTreeSet};

use mailqos_base::SecretSource;
use mailqos_model::{Micros, Name, UtcMicros};
use mailqos_net::http::Place;

use super::{
    Config, Hours, Problem, Problems, Table, TlsMode,
    hours::HOURS,
    key::{Defaulted, Optional, Required, Word, key},
    mail_server::{SenderKeys, mail_server_of},
    operator::some_recipients,
    reference::{Key, ValueKind},
    value::{no_such, reference, secret},
    wording::{Wording, WordingKeys},
};
use crate::Person;

use self::nested::Entry;
pub(super) use self::{
    syslog::SyslogKeys,
    webhook::{RequestKeys, WebhookKeys},
};
pub use self::{
    syslog::{Framing, LogPlace},
    webhook::{ContentType, Service, Webhook},
};

/// Actions to carry out when an alarm is raised, lasts and clears.
#[derive(Debug, Clone)]
pub struct ActionList {
    /// Steps in the order of the configuration, including those of nested lists.
    pub steps: Vec<Step>,
}

/// An action and its conditions.
#[derive(Debug, Clone)]
pub struct Step {
    /// Minimum number of consecutive failed tests; 0 acts as soon as the alarm is raised.
    pub at_failure: u32,
    /// Minimum duration of the alarm.
    pub after: Micros,
    /// Repeats the action after this time, as long as the alarm lasts and no one has acknowledged
    /// it.
    pub repeat: Option<Micros>,
    /// Events that the step reports.
    pub on: On,
    /// The step is carried out only within all of these hours.
    pub hours: Vec<Hours>,
    /// Timeout of an attempt.
    pub timeout: Micros,
    /// How long a notification is retried. Notifications of alarms that are still open are retried
    /// after that, too.
    pub retry_for: Micros,
    /// The action.
    pub action: Action,
}

/// Events that a step reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// The alarm, and the recovery if the alarm was reported.
    Both,
    /// The alarm only.
    Alarm,
    /// The recovery only.
    Recovery,
}

/// A notification channel with its recipients.
#[derive(Debug, Clone)]
pub enum Action {
    /// A mail to operators or addresses.
    Email {
        /// Recipients, with operators resolved to addresses.
        to: Vec<Person>,
        /// The mail server to use.
        mail_server: Name,
        /// The mail server to use if that one fails.
        fallback: Option<Name>,
        /// The templates of the mail.
        wording: Box<Wording>,
    },
    /// An HTTP request.
    Webhook(Box<Webhook>),
    /// A command.
    Command {
        /// Program and arguments.
        words: Vec<String>,
        /// Environment variables in addition to those that describe the alarm.
        environment: Vec<(String, SecretSource)>,
    },
    /// A line in a system log.
    Syslog {
        /// The address of the log.
        to: LogPlace,
        /// The facility's number (RFC 5424, section 6.2.1).
        facility: u8,
    },
}

impl Action {
    /// Returns a short description of the channel without secrets. It is stable as long as the
    /// destination stays the same. Status and events show it, and failures are counted by it.
    pub fn route(&self) -> String {
        match self {
            Self::Email { to, mail_server, .. } => {
                let addresses: Vec<&str> =
                    to.iter().map(|person| person.address.as_str()).collect();
                format!("e-mail to {} through {mail_server}", addresses.join(", "))
            }
            Self::Webhook(webhook) => {
                let service = webhook.service.as_str();
                match &webhook.url {
                    SecretSource::Literal(url) => match Place::parse(url.expose()) {
                        Ok(place) => format!("{service} at {}", place.host),
                        Err(_) => service.to_owned(),
                    },
                    SecretSource::Env(name) => format!("{service} at {name}"),
                    SecretSource::File(path) => format!("{service} at {}", path.display()),
                    _ => service.to_owned(),
                }
            }
            Self::Command { words, .. } => {
                format!("command {}", words.first().map_or("", String::as_str))
            }
            Self::Syslog { to, .. } => match to {
                LogPlace::Local(path) => format!("syslog {}", path.display()),
                LogPlace::Udp { server, port } => format!("syslog udp {server}:{port}"),
                LogPlace::Stream(endpoint, _) => {
                    let way = if endpoint.tls == TlsMode::None { "tcp" } else { "tls" };
                    format!("syslog {way} {}:{}", endpoint.server, endpoint.port)
                }
            },
        }
    }
}

/// Reads all action lists and expands nested lists.
pub(super) fn read(
    tables: Vec<(Name, Table)>,
    plaintext: bool,
    config: &Config,
    problems: &mut Problems,
) -> BTreeMap<Name, ActionList> {
    let names: BTreeSet<Name> = tables.iter().map(|(name, _)| name.clone()).collect();
    let mut entries = BTreeMap::new();
    for (name, table) in tables {
        if name.as_ref() == "none" {
            problems.push(
                table
                    .problem_of_all("\"none\" is not a valid name for an action list", "this name")
                    .help(
                        "action_list = \"none\" means that no one is notified; choose another name",
                    ),
            );
            continue;
        }
        let list = read_list(table, &names, plaintext, config, problems);
        entries.insert(name, list);
    }
    nested::expand(&entries, problems)
}

const ON: [(&str, On); 3] = [("both", On::Both), ("alarm", On::Alarm), ("recovery", On::Recovery)];

keys! {
    ACTION_LIST: ActionListKeys {
        /// The actions, each of one of these kinds.
        actions: Key = Key::tables(&["action.email", "action.webhook", "action.command", "action.syslog", "action.list"])
            .required();
    }
}

keys! {
    ACTION: ActionKeys {
        /// What it reports; with `both`, the recovery goes to everyone who was notified of the
        /// alarm.
        on: Word<On> = word!(ON).default("\"both\"");
        /// Wait until this many tests in a row have failed.
        at_failure: Defaulted<u32> = key().default("0");
        /// Wait until the alarm has lasted this long.
        after: Defaulted<Micros> = key().default("\"0s\"").within("0s", "30d");
        /// Repeat after this time while the alarm is open and not acknowledged.
        repeat: Optional<Micros> = key().otherwise("once").within("10s", "30d");
        /// How long to retry a notification. Notifications of alarms that are still open are
        /// retried after that too.
        retry_for: Defaulted<Micros> = key().default("\"1d\"").within("0s", "30d");
    }
}

keys! {
    EMAIL: EmailKeys {
        /// Operators or mail addresses.
        email: Key = Key::new("", ValueKind::of::<Vec<String>>(), "").required();
        /// The mail server to use if the first one fails.
        fallback: Optional<Name> = key();
    }
}

keys! {
    EMAIL_TIMEOUT: EmailTimeoutKeys {
        /// The deadline of one attempt.
        timeout: Defaulted<Micros> = key().default("\"2m\"").within("100ms", "1h");
    }
}

keys! {
    TIMEOUT: TimeoutKeys {
        /// The deadline of one attempt; a command's process group is then killed. The actions of
        /// another list have their own.
        timeout: Defaulted<Micros> = key().default("\"30s\"").within("100ms", "1h");
    }
}

keys! {
    WEBHOOK_ACTION: WebhookActionKeys {
        /// The request.
        webhook: Key = Key::table(&["webhook"]).required();
    }
}

keys! {
    COMMAND: CommandKeys {
        /// The program and its arguments.
        command: Required<Vec<String>> = key();
        /// Additional environment variables.
        environment: Key = Key::pairs(&ValueKind::TextOrSecret);
    }
}

keys! {
    SYSLOG_ACTION: SyslogActionKeys {
        /// The log.
        syslog: Key = Key::table(&["syslog"]).required();
    }
}

keys! {
    LIST: ListKeys {
        /// The other list.
        list: Required<Name> = key();
    }
}

fn read_list(
    mut table: Table,
    names: &BTreeSet<Name>,
    plaintext: bool,
    config: &Config,
    problems: &mut Problems,
) -> Vec<Entry> {
    if table.node(&ACTION_LIST.actions).is_none() {
        problems.push(
            table.missing(
                &ACTION_LIST.actions,
                "[{ email = [\"OPERATOR\"], mail_server = \"NAME\" }]",
            ),
        );
    }
    let mut entries = Vec::new();
    for mut action in table.tables(&ACTION_LIST.actions, problems) {
        entries.extend(read_entry(&mut action, names, plaintext, config, problems));
        action.finish(problems);
    }
    table.finish(problems);
    entries
}

fn read_entry(
    table: &mut Table,
    names: &BTreeSet<Name>,
    plaintext: bool,
    config: &Config,
    problems: &mut Problems,
) -> Option<Entry> {
    let kinds: [&Key; 5] = [
        &EMAIL.email,
        &WEBHOOK_ACTION.webhook,
        &COMMAND.command,
        &SYSLOG_ACTION.syslog,
        &LIST.list,
    ];
    let chosen = kinds.into_iter().filter(|key| table.node(key).is_some());
    let chosen: Vec<&Key> = chosen.collect();
    let step = conditions(table, chosen.as_slice(), config, problems);
    let [kind] = chosen.as_slice() else {
        problems.push(ambiguous(table, &chosen));
        return None;
    };
    let action = match kind.name {
        "email" => email(table, config, problems)?,
        "webhook" => Action::Webhook(Box::new(webhook::webhook(table, plaintext, problems)?)),
        "command" => command(table, plaintext, problems)?,
        "syslog" => syslog::syslog(table, problems)?,
        _ => return list(table, names, step, problems),
    };
    Some(Entry::Step(Step { action, ..step }))
}

/// Reads the conditions and the timeout of an action, but not the action itself.
fn conditions(
    table: &mut Table,
    chosen: &[&Key],
    config: &Config,
    problems: &mut Problems,
) -> Step {
    let step = Step {
        on: table.read(&ACTION.on, problems),
        at_failure: table.read(&ACTION.at_failure, problems),
        after: table.read(&ACTION.after, problems),
        repeat: table.read(&ACTION.repeat, problems),
        hours: Hours::read(table, &config.timezone, problems).into_iter().collect(),
        timeout: match chosen {
            [only] if only.name == EMAIL.email.name => table.read(&EMAIL_TIMEOUT.timeout, problems),
            _ => table.read(&TIMEOUT.timeout, problems),
        },
        retry_for: table.read(&ACTION.retry_for, problems),
        action: Action::Command { words: Vec::new(), environment: Vec::new() },
    };
    if Hours::first_in_all(&step.hours, UtcMicros(0)).is_none() {
        problems.push(
            table
                .problem(&HOURS.hours, "these hours never occur", "never")
                .help("check hours and weekdays"),
        );
    }
    if step.on == On::Recovery
        && (step.at_failure > 0 || step.after > Micros::ZERO || step.repeat.is_some())
    {
        problems.push(
            table
                .problem(
                    &ACTION.on,
                    "at_failure, after and repeat have no effect on recoveries",
                    "recovery only",
                )
                .help("remove them, or set on = \"both\""),
        );
    }
    step
}

/// Returns the problem of an action of no kind or of several kinds.
fn ambiguous(table: &mut Table, chosen: &[&Key]) -> Problem {
    // If the kind is unclear, these keys are not unknown.
    const OF_ONE_KIND: [&[Key]; 4] =
        [EmailKeys::KEYS, SenderKeys::KEYS, WordingKeys::KEYS, CommandKeys::KEYS];
    for key in OF_ONE_KIND.concat() {
        table.node(&key);
    }
    let [_, second, ..] = chosen else {
        return table.missing(
            &EMAIL.email,
            "the recipients of a mail; or use webhook, command, syslog or list",
        );
    };
    let names: Vec<&str> = chosen.iter().map(|key| key.name).collect();
    let all = names.join(" and ");
    let message = format!("an action does only one thing, but this one has {all}");
    table.problem(second, message, "one too many").help("write a separate action for each")
}

/// Reads an e-mail to operators, through a mail server or its fallback.
fn email(table: &mut Table, config: &Config, problems: &mut Problems) -> Option<Action> {
    let to = some_recipients(table, &EMAIL.email, config, problems);
    let mail_server = mail_server_of(table, config, problems);
    let fallback = reference(table, &EMAIL.fallback, "mail_server", &config.mail_servers, problems);
    let mail_server = mail_server?;
    if fallback.as_ref() == Some(&mail_server) {
        problems.push(
            table
                .problem(&EMAIL.fallback, "the fallback is the mail server itself", "the same")
                .help("name another mail server, or remove fallback"),
        );
    }
    let wording = Box::new(Wording::read(table, problems));
    Some(Action::Email { to, mail_server, fallback, wording })
}

/// Reads a program with its arguments and environment.
fn command(table: &mut Table, plaintext: bool, problems: &mut Problems) -> Option<Action> {
    let words = table.read(&COMMAND.command, problems);
    let environment = pairs(table, &COMMAND.environment, plaintext, problems);
    let words = words?;
    if words.first().is_none_or(String::is_empty) {
        problems.push(
            table
                .problem(&COMMAND.command, "the command is empty", "empty")
                .help("use [\"PROGRAM\", \"ARGUMENT\"]"),
        );
    }
    for (name, _) in &environment {
        if name.is_empty() || name.contains(['=', '\0']) {
            problems.push(table.problem(
                &COMMAND.environment,
                format!("{name:?} is not a valid variable name"),
                "here",
            ));
        }
    }
    Some(Action::Command { words, environment })
}

/// Reads the name of another list.
fn list(
    table: &mut Table,
    names: &BTreeSet<Name>,
    step: Step,
    problems: &mut Problems,
) -> Option<Entry> {
    let node = table.node(&LIST.list)?;
    let name: Name = node.read(problems)?;
    if !names.contains(&name) {
        let known = names.iter().map(AsRef::as_ref);
        problems.push(no_such(&node, "action_list", name.as_ref(), known));
        return None;
    }
    let problem = node.problem("", "closes the cycle");
    Some(Entry::List(step, name, Box::new(problem)))
}

/// Returns whether a name, such as that of a header field, suggests that its value is a secret.
pub fn sounds_secret(name: &str) -> bool {
    const TELLING: [&str; 7] = ["auth", "cookie", "key", "pass", "pwd", "secret", "token"];
    let name = name.to_ascii_lowercase();
    TELLING.iter().any(|word| name.contains(word))
}

/// Reads names with values, such as header fields. A name that suggests a secret requires its value
/// to be one.
fn pairs(
    table: &mut Table,
    key: &Key,
    plaintext: bool,
    problems: &mut Problems,
) -> Vec<(String, SecretSource)> {
    let Some(inner) = table.table(key, problems) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (name, node) in inner.into_pairs() {
        if let Some(value) = secret(&node, plaintext || !sounds_secret(&name), problems) {
            found.push((name, value));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load;

    const HEAD: &str = r#"
site = "here"
timezone = "UTC"
[operator.anna]
email = "anna@example.net"
[mail_server.alerts]
server = "alerts.example.net"
from = "alerts@example.net"
[mail_server.other]
server = "other.example.org"
from = "alerts@example.org"
"#;

    fn load_text(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("mailqos.toml");
        std::fs::write(folder.path().join("own.json"), "{ \"text\": {{ subject | json }} }")
            .expect("write");
        std::fs::write(&path, format!("{HEAD}{text}")).expect("write");
        // The folder's changing name is removed.
        load(&path).map_err(|problems| {
            problems.to_string().replace(&format!("{}/", folder.path().display()), "")
        })
    }

    fn problems_of(text: &str) -> String {
        load_text(text).expect_err("it is wrong")
    }

    #[test]
    fn every_kind_of_action_is_parsed() {
        let config = load_text(
            r#"
[action_list.default]
actions = [
  { email = ["anna"], mail_server = "alerts", fallback = "other" },
  { webhook = { kind = "slack", url = { env = "SLACK" } }, hours = "08:00-18:00", weekdays = ["mon-fri"] },
  { webhook = { url = "https://hooks.example.net/x", template = "own.json", headers = { X-Token = { env = "TOKEN" }, X-From = "mailqos" } }, at_failure = 5 },
  { command = ["/usr/bin/siren", "--loud"], environment = { LEVEL = "2" }, timeout = "10s", repeat = "1h" },
  { syslog = { server = "log.example.net", transport = "tls", facility = "local3" }, on = "alarm" },
  { syslog = {} },
  { list = "managers", after = "30m", hours = "07:00-22:00" },
]
[action_list.managers]
actions = [{ email = "boss@example.net", mail_server = "other", after = "10m", on = "alarm" }]
"#,
        )
        .unwrap_or_else(|problems| panic!("{problems}"));
        let steps = &config.action_lists["default"].steps;
        let routes: Vec<String> = steps.iter().map(|step| step.action.route()).collect();
        assert_eq!(
            routes,
            [
                "e-mail to anna@example.net through alerts",
                "slack at SLACK",
                "webhook at hooks.example.net",
                "command /usr/bin/siren",
                "syslog tls log.example.net:6514",
                "syslog /dev/log",
                "e-mail to boss@example.net through other",
            ]
        );
        let last = &steps[6];
        assert_eq!(
            (last.after, last.on, last.hours.len()),
            (Micros::from_secs(2400), On::Alarm, 1)
        );
        assert_eq!((steps[2].at_failure, steps[3].repeat), (5, Some(Micros::from_secs(3600))));
        assert_eq!(config.action_lists["managers"].steps.len(), 1);
    }

    #[test]
    fn a_proxy_with_a_password_is_a_secret_and_forms_need_custom_content() {
        let hook = |rest: &str| {
            format!(
                "[action_list.default]\nactions = [{{ webhook = {{ url = \"https://h.example/\", {rest} }} }}]\n"
            )
        };
        let config = load_text(&hook(
            "body = '{}', content_type = \"form\", proxy = \"http://p.example:3128\"",
        ))
        .unwrap_or_else(|problems| panic!("{problems}"));
        let Action::Webhook(read) = &config.action_lists["default"].steps[0].action else {
            panic!("no webhook");
        };
        assert_eq!(read.content_type, ContentType::Form);
        assert!(
            matches!(&read.proxy, Some(SecretSource::Literal(text)) if text.expose() == "http://p.example:3128")
        );
        for fine in ["proxy = \"none\", body = '{}'", "proxy = { env = \"P\" }, body = '{}'"] {
            load_text(&hook(fine)).unwrap_or_else(|problems| panic!("{problems}"));
        }
        for (wrong, said) in [
            ("body = '{}', proxy = \"http://me:hunter2@p.example\"", "in plaintext"),
            ("body = '{}', proxy = \"socks5://p.example\"", "SOCKS is not supported"),
            ("kind = \"ntfy\", content_type = \"form\"", "ntfy accepts only JSON"),
        ] {
            let problems = problems_of(&hook(wrong));
            assert!(problems.contains(said), "{problems}");
        }
    }

    #[test]
    fn problems_of_an_action_are_reported() {
        insta::assert_snapshot!(problems_of(
            r#"
[action_list.default]
actions = [
  { email = ["bob"], mail_server = "alerts", fallback = "alerts" },
  { webhook = { kind = "slack", url = "https://hooks.slack.example/T0/SECRET" } },
  { webhook = { url = "hooks.example.net/x", headers = { Authorization = "Bearer SECRET" } } },
  { webhook = { kind = "pagerduti" } },
  { webhook = { url = "https://x.example", template = "absent.json" } },
  { command = [], timeout = "0s" },
  { email = "anna", command = ["x"] },
  { after = "5m" },
  { command = ["x"], hours = "8-18", weekdays = "noday" },
  { command = ["x"], on = "recovery", repeat = "5m" },
  { list = "manager" },
]
[action_list.managers]
actions = [{ syslog = { facility = "local9" } }]
[action_list.none]
actions = []
"#
        ));
    }

    #[test]
    fn entries_next_to_an_invalid_one_are_read() {
        let said = problems_of(
            r#"
[action_list.default]
actions = [
  { email = "anna", fallback = "other" },
  { command = 5, environment = { LEVEL = "2" } },
  { emial = "anna", mail_server = "alerts" },
  { email = ["nobody"], mail_server = "alerts" },
]
[operator.nobody]
members = []
[target.readers]
kind = "email"
to = []
attachments = "5MB"
"#,
        );
        assert_eq!(said.matches("this mail has no recipients").count(), 2, "{said}");
        assert_eq!(said.matches("unknown key").count(), 1, "{said}");
        assert_eq!(said.matches("\"mail_server\" is missing").count(), 2, "{said}");
    }

    #[test]
    fn cyclic_lists_are_reported_once() {
        let said = problems_of(
            r#"
[action_list.b]
actions = [{ list = "c" }]
[action_list.a]
actions = [{ list = "b", after = "5m" }, { command = ["x"] }]
[action_list.c]
actions = [{ list = "a" }]
[action_list.self]
actions = [{ list = "self" }]
"#,
        );
        assert_eq!(said.matches("in a cycle").count(), 2, "{said}");
        assert!(said.contains("a → b → c → a") && said.contains("self → self"), "{said}");
    }

    #[test]
    fn lists_that_expand_too_much_are_rejected() {
        let mut text = String::new();
        for level in 0..60 {
            let inner = format!("{{ list = \"l{}\" }}", level + 1);
            text.push_str(&format!("[action_list.l{level}]\nactions = [{inner}, {inner}]\n"));
        }
        text.push_str("[action_list.l60]\nactions = []\n");
        assert!(problems_of(&text).contains("more than 200 actions"));
    }
}
