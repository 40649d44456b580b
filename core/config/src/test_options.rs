//! Options of a monitor's tests: the keys that `[defaults]` and every monitor share. Kinds of tests
//! build their options from them.

use std::{collections::BTreeSet, fmt};

use jiff::tz::TimeZone;
use mailqos_model::{AccountName, Micros, Name, UtcMicros};

use super::{
    Account, AlarmRule, Calendar, Config, Cron, Endpoint, MessageShape, Person, Problems, Table,
    alarm,
    key::{Defaulted, Optional, Word, key},
    message,
    reference::Key,
    server::{
        IMAP, MAILBOX_SERVER, POP3, SMTP, SMTP_SERVER, SUBMISSION, Service, SubmissionProtocol,
        endpoint, graph_endpoint,
    },
    table::Node,
    value::{reference, tags},
};

/// Access to a mailbox.
#[derive(Debug, Clone)]
pub struct Pickup {
    /// The mailbox server.
    pub endpoint: Endpoint,
    /// Protocol of the mailbox.
    pub protocol: PickupProtocol,
    /// Folders over IMAP; POP3 supports only the inbox.
    pub folders: Vec<String>,
    /// Deadline of each step of a session.
    pub timeout: Micros,
}

/// Tests that leave a transcript.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transcripts {
    /// Failed tests.
    Failed,
    /// All tests.
    All,
    /// No tests.
    None,
}

/// Protocol of a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PickupProtocol {
    /// POP3 (RFC 1939).
    Pop3,
    /// IMAP (RFC 9051, RFC 3501).
    Imap,
    /// Microsoft Graph.
    Graph,
}

impl PickupProtocol {
    /// Returns an account as this protocol uses it: Microsoft Graph needs other tokens.
    pub fn account(self, account: &Account) -> Account {
        match self {
            Self::Graph => account.for_graph(),
            Self::Pop3 | Self::Imap => account.clone(),
        }
    }
}

impl fmt::Display for PickupProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pop3 => "POP3",
            Self::Imap => "IMAP",
            Self::Graph => "Graph",
        })
    }
}

keys! {
    MONITOR: MonitorKeys {
        /// Whether it is tested.
        enabled: Defaulted<bool> = key().default("true");
        /// The sender of the test mails.
        from: Optional<Person> = key();
        /// The mailbox's address.
        to: Optional<Person> = key();
        /// The server that the mails are submitted to.
        smtp: Key = Key::table(&["monitor.smtp"]);
        /// The mailbox.
        pickup: Key = Key::table(&["monitor.pickup"]);
        /// The folders to search over IMAP and Microsoft Graph, in this order.
        folders: Defaulted<Vec<String>> = key().default("[\"INBOX\"]");
        /// The hosts or domains whose `Authentication-Results` fields count: the first part of the
        /// field (RFC 8601, section 2.2). Needed if a filtering service in front of the mail server
        /// checks SPF, DKIM and DMARC.
        authserv_ids: Optional<Vec<String>> = key().otherwise("the hosts of the receiving domain");
        /// Over IMAP, use the server's announcements of new mail (IDLE) as further evidence of the
        /// arrival.
        idle: Defaulted<bool> = key().default("true");
        /// Look for the mail at short intervals around its expected arrival, whatever the check
        /// interval.
        precise: Defaulted<bool> = key().default("false");
        /// The longest round trip that counts as good.
        max_round_trip: Defaulted<Micros> = key().default("\"2m\"").within("100ms", "1d");
        /// The wait before the first pick-up and between pick-ups; shorter than max round trip.
        check_interval: Defaulted<Micros> = key().default("\"5s\"").within("50ms", "1d");
        /// The maximum number of pick-ups for each mail beyond those of the check interval, from 0
        /// to 20, close together around the expected arrival, so that the round trip is measured
        /// closely. There are none with a check interval over 2m, after a failed pick-up, or for
        /// precise monitors.
        extra_pickups: Defaulted<u32> = key().default("5");
        /// How long to wait for a mail before it counts as lost; at least max round trip.
        horizon: Defaulted<Micros> = key().default("\"1d\"").within("1s", "30d");
        /// The deadline of each step of a conversation.
        timeout: Defaulted<Micros> = key().default("\"30s\"").within("100ms", "10m");
        /// Time between the starts of two tests.
        test_interval: Defaulted<Micros> = key().default("\"5m\"").within("1s", "31d");
        /// Start times of tests as a cron expression, instead of an interval.
        schedule: Optional<Cron> = key();
        /// The time zone of `schedule`.
        timezone: Optional<TimeZone> = key().otherwise("the file's");
        /// Time between the starts of two tests while the monitor fails. If it is shorter than
        /// `test_interval`, it applies from the first failed test on, so that an alarm is raised
        /// sooner; if it is longer, it applies while an alarm is open, so that a server that hangs
        /// ties up less.
        retest_interval: Optional<Micros> = key().otherwise("the test interval").within("1s", "31d");
        /// Allow a test to start while the previous one is running.
        overlap: Defaulted<bool> = key().default("false");
        /// The contents of the test mails.
        message: Key = Key::table(&["monitor.message"]);
        /// Which tests leave a transcript of the conversations.
        transcripts: Word<Transcripts> = word!(TRANSCRIPTS).default("\"failed\"");
        /// Labels to select by, in addition to those of the object.
        tags: Defaulted<Vec<String>> = key().default("[]");
        /// The action list for alarms of this monitor; `"none"` notifies no one.
        action_list: Optional<Name> = key().otherwise("the list `default`, if there is one");
    }
}

keys! {
    PICKUP: PickupKeys {
        /// The protocol.
        protocol: Word<PickupProtocol> = word!(PROTOCOLS).default("\"pop3\"");
    }
}

/// Maximum time to wait for a mail.
pub const MAX_HORIZON: Micros = Micros::from_secs(30 * 86_400);

const PROTOCOLS: [(&str, PickupProtocol); 3] = [
    ("pop3", PickupProtocol::Pop3),
    ("imap", PickupProtocol::Imap),
    ("graph", PickupProtocol::Graph),
];

/// Words for the tests that leave a transcript.
const TRANSCRIPTS: [(&str, Transcripts); 3] =
    [("failed", Transcripts::Failed), ("all", Transcripts::All), ("none", Transcripts::None)];

/// Values of the keys that defaults and monitors share. A kind of test uses some of them.
pub(crate) struct Options {
    pub(crate) enabled: bool,
    pub(crate) test_interval: Micros,
    pub(crate) calendar: Option<Calendar>,
    pub(crate) retest_interval: Option<Micros>,
    pub(crate) overlap: bool,
    pub(crate) action_list: Option<Name>,
    /// Whether no one is to be notified.
    pub(crate) is_silent: bool,
    pub(crate) alarm: AlarmRule,
    pub(crate) depends_on: Vec<(String, Node)>,
    pub(crate) tags: BTreeSet<String>,
    pub(crate) max_round_trip: Micros,
    pub(crate) check_interval: Micros,
    pub(crate) extra_pickups: u8,
    pub(crate) horizon: Micros,
    pub(crate) timeout: Micros,
    pub(crate) from: Option<Person>,
    pub(crate) to: Option<Person>,
    pub(crate) protocol: PickupProtocol,
    pub(crate) folders: Vec<String>,
    pub(crate) authserv_ids: Vec<String>,
    pub(crate) idle: bool,
    pub(crate) precise: bool,
    pub(crate) transcripts: Transcripts,
    pub(crate) message: MessageShape,
    pub(crate) smtp: Option<Endpoint>,
    pub(crate) submission: SubmissionProtocol,
    pub(crate) pickup: Option<Endpoint>,
}

/// Reads the keys that defaults and monitors share; `address` is the address of the monitor's
/// object.
pub(super) fn read(
    table: &mut Table,
    address: Option<&str>,
    config: &Config,
    complete: bool,
    problems: &mut Problems,
) -> Options {
    let is_silent = names_no_list(table);
    let action_list = if is_silent { None } else { action_list(table, config, complete, problems) };
    let (max_round_trip, check_interval, horizon) = waits(table, problems);
    let (test_interval, retest_interval, calendar) = starts(table, config, problems);
    let timeout = table.read(&MONITOR.timeout, problems);
    let from = table.read(&MONITOR.from, problems);
    let to = table.read(&MONITOR.to, problems);
    let mut smtp = table.table(&MONITOR.smtp, problems);
    let submission =
        smtp.as_mut().map(|smtp| smtp.read(&SUBMISSION.protocol, problems)).unwrap_or_default();
    let access = match submission {
        SubmissionProtocol::Smtp => Access::Mail(SMTP),
        SubmissionProtocol::Graph => Access::Graph(&SMTP_SERVER.account),
    };
    let smtp = read_endpoint(smtp, access, address, config, problems);
    let mut pickup = table.table(&MONITOR.pickup, problems);
    let protocol = pickup
        .as_mut()
        .map(|pickup| pickup.read(&PICKUP.protocol, problems))
        .unwrap_or(PickupProtocol::Pop3);
    let access = match protocol {
        PickupProtocol::Pop3 => Access::Mail(POP3),
        PickupProtocol::Imap => Access::Mail(IMAP),
        PickupProtocol::Graph => Access::Graph(&MAILBOX_SERVER.account),
    };
    let folders = folders(table, problems);
    let (alarm, depends_on) = alarm::read(table, &folders, problems);
    Options {
        enabled: table.read(&MONITOR.enabled, problems),
        test_interval,
        calendar,
        retest_interval,
        overlap: table.read(&MONITOR.overlap, problems),
        action_list,
        is_silent,
        alarm,
        depends_on,
        tags: tags(table, &MONITOR.tags, problems),
        max_round_trip,
        check_interval,
        extra_pickups: extra_pickups(table, problems),
        horizon,
        timeout,
        from,
        to,
        protocol,
        folders,
        authserv_ids: authserv_ids(table, problems),
        idle: table.read(&MONITOR.idle, problems),
        precise: table.read(&MONITOR.precise, problems),
        message: message::read(table, &MONITOR.message, problems),
        transcripts: table.read(&MONITOR.transcripts, problems),
        smtp,
        submission,
        pickup: read_endpoint(pickup, access, address, config, problems),
    }
}

/// Whether the monitor has `action_list = "none"`.
fn names_no_list(table: &mut Table) -> bool {
    table
        .node(&MONITOR.action_list)
        .and_then(|node| node.read::<String>(&mut Problems::default()))
        .is_some_and(|name| name == "none")
}

/// Returns the action list that is set, or `default`.
fn action_list(
    table: &mut Table,
    config: &Config,
    complete: bool,
    problems: &mut Problems,
) -> Option<Name> {
    // If not all lists could be read, a missing one is not reported.
    let mut ignored = Problems::default();
    let named = if complete {
        reference(table, &MONITOR.action_list, "action_list", &config.action_lists, problems)
    } else {
        reference(table, &MONITOR.action_list, "action_list", &config.action_lists, &mut ignored)
    };
    let default = || config.action_lists.get_key_value("default").map(|(name, _)| name.clone());
    named.or_else(default)
}

/// Reads the maximum round trip, check interval and horizon, which must be consistent.
fn waits(table: &mut Table, problems: &mut Problems) -> (Micros, Micros, Micros) {
    let max_round_trip = table.read(&MONITOR.max_round_trip, problems);
    let check_interval = table.read(&MONITOR.check_interval, problems);
    if check_interval >= max_round_trip {
        problems.push(
            table
                .problem(
                    &MONITOR.check_interval,
                    format!(
                        "the check interval ({check_interval}) is not shorter than max round trip ({max_round_trip})"
                    ),
                    "too long",
                )
                .help(
                    "each mail needs at least one pick-up before it counts as late; shorten check_interval \
                    or raise max_round_trip",
                ),
        );
    }
    let horizon = table.read(&MONITOR.horizon, problems);
    if horizon < max_round_trip {
        problems.push(
            table
                .problem(
                    &MONITOR.horizon,
                    format!(
                        "the horizon ({horizon}) is shorter than max round trip ({max_round_trip})"
                    ),
                    "too short",
                )
                .help("a mail counts as lost only after it has become late; raise horizon"),
        );
    }
    (max_round_trip, check_interval, horizon)
}

/// Reads the maximum number of extra pick-ups per mail around its expected arrival.
fn extra_pickups(table: &mut Table, problems: &mut Problems) -> u8 {
    const MAX: u32 = 20;
    let count = table.read(&MONITOR.extra_pickups, problems);
    if count > MAX {
        problems.push(
            table
                .problem(
                    &MONITOR.extra_pickups,
                    format!("{count} extra pick-ups per mail are too many"),
                    format!("at most {MAX}"),
                )
                .help("for the most accurate round trip, set precise = true instead"),
        );
    }
    u8::try_from(count).unwrap_or(u8::MAX)
}

/// Reads the settings that determine when tests start: test interval, retest interval and calendar.
fn starts(
    table: &mut Table,
    config: &Config,
    problems: &mut Problems,
) -> (Micros, Option<Micros>, Option<Calendar>) {
    let test_interval = table.read(&MONITOR.test_interval, problems);
    let retest_interval = table.read(&MONITOR.retest_interval, problems);
    let zone = table.read(&MONITOR.timezone, problems).unwrap_or_else(|| config.timezone.clone());
    let calendar =
        table.read(&MONITOR.schedule, problems).map(|cron| Calendar { cron: Box::new(cron), zone });
    if calendar.as_ref().is_some_and(|calendar| calendar.next(UtcMicros::now()).is_none()) {
        problems.push(
            table
                .problem(&MONITOR.schedule, "this time never occurs", "never")
                .help("check day and month"),
        );
    }
    (test_interval, retest_interval, calendar)
}

/// Reads the folders to search, by default the inbox.
fn folders(table: &mut Table, problems: &mut Problems) -> Vec<String> {
    let folders = table.read(&MONITOR.folders, problems);
    let bad = folders.iter().any(|name| name.is_empty() || name.chars().any(char::is_control));
    if bad || folders.is_empty() {
        problems.push(
            table
                .problem(&MONITOR.folders, "the list is empty, or a folder has no name", "here")
                .help("name the folders to search, such as [\"INBOX\", \"Junk\"]"),
        );
        return table.default_of(&MONITOR.folders);
    }
    folders
}

/// Reads the hosts whose `Authentication-Results` count, in lower case.
fn authserv_ids(table: &mut Table, problems: &mut Problems) -> Vec<String> {
    let Some(ids) = table.read(&MONITOR.authserv_ids, problems) else {
        return Vec::new();
    };
    let is_id = |id: &String| !id.is_empty() && !id.contains([' ', ';', '"', '@', ',']);
    if ids.is_empty() || !ids.iter().all(is_id) {
        problems.push(
            table
                .problem(&MONITOR.authserv_ids, "the list is empty, or not of hosts", "here")
                .help("name hosts or domains, such as [\"mx.example.com\"], or remove the key"),
        );
    }
    ids.iter().map(|id| id.trim_matches('.').to_lowercase()).collect()
}

impl Options {
    /// Reads the mailbox server, which requires an account.
    pub(crate) fn mailbox(&self, table: &mut Table, problems: &mut Problems) -> Option<Pickup> {
        if table.node(&MONITOR.pickup).is_none() {
            let why =
                "the mailbox: { protocol = \"pop3\", tls = \"implicit\", account = \"NAME\" }";
            problems.push(table.missing(&MONITOR.pickup, why));
        }
        let endpoint = self.pickup.as_ref()?;
        if endpoint.account.is_none() {
            problems.push(
                table
                    .problem(
                        &MONITOR.pickup,
                        "no account to log in to the mailbox: \"account\" is missing",
                        "here",
                    )
                    .help("add account = \"NAME\", and [account.NAME] with user and password"),
            );
            return None;
        }
        Some(Pickup {
            endpoint: endpoint.clone(),
            protocol: self.protocol,
            folders: self.folders.clone(),
            timeout: self.timeout,
        })
    }
}

/// Access to a server.
enum Access {
    /// By a mail protocol.
    Mail(Service),
    /// Over Microsoft Graph, with the account that this key names.
    Graph(&'static Optional<AccountName>),
}

/// Reads a table of a monitor's server completely; the defaults alone have no address, and need
/// none.
fn read_endpoint(
    table: Option<Table>,
    access: Access,
    address: Option<&str>,
    config: &Config,
    problems: &mut Problems,
) -> Option<Endpoint> {
    let mut table = table?;
    let address = address.unwrap_or("localhost");
    let found = match access {
        Access::Mail(service) => endpoint(&mut table, service, Some(address), config, problems),
        Access::Graph(account) => graph_endpoint(&mut table, account, config, problems),
    };
    table.finish(problems);
    found
}
