//! Objects and monitors: `[object.NAME]`, `[monitor.NAME]` and their `[defaults]`.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use mailqos_model::{Micros, MonitorId, Name, ObjectId, UtcMicros};

use super::{
    Action, AlarmRule, Calendar, Config, Cron, Endpoint, MessageShape, Monitor, Object, Pickup,
    PickupProtocol, Problem, Problems, Severity, Table, Transcripts, alarm,
    key::{Defaulted, Optional, Required, Word, key},
    kind, message,
    reference::Key,
    server::{IMAP, POP3, SMTP, Service, endpoint},
    table::Node,
    value::{host, reference, tags},
};
use crate::Person;

keys! {
    OBJECT: ObjectKeys {
        /// Host name or IP address.
        address: Required<String> = key();
        /// The display name.
        name: Optional<String> = key().otherwise("its ID");
        /// Labels that its monitors inherit; `tag:NAME` selects by them.
        tags: Defaulted<Vec<String>> = key().default("[]");
    }
}

keys! {
    OWN: OwnMonitorKeys {
        /// The object that it monitors.
        object: Required<ObjectId> = key();
        /// The display name.
        name: Optional<String> = key().otherwise("its ID");
    }
}

keys! {
    MONITOR: MonitorKeys {
        /// The kind of test. `mail-qos` sends a mail and picks it up. `mailbox` opens and lists the
        /// mailbox and sends nothing; only the keys `pickup`, `folders`, `timeout` and those of
        /// every monitor apply.
        kind: Word<kind::Read> = word!(kind::KINDS).default("\"mail-qos\"");
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
        /// The folders to search over IMAP, in this order.
        folders: Defaulted<Vec<String>> = key().default("[\"INBOX\"]");
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

pub(super) fn object(id: &ObjectId, mut table: Table, problems: &mut Problems) -> Option<Object> {
    let name = table.read(&OBJECT.name, problems).unwrap_or_else(|| id.to_string());
    let address = table.read(&OBJECT.address, problems);
    if let Some(address) = &address {
        host(address, &OBJECT.address, &table, problems);
    }
    let tags = tags(&mut table, &OBJECT.tags, problems);
    table.finish(problems);
    Some(Object { name, address: address?, tags })
}

/// The longest that a mail may be waited for.
pub const MAX_HORIZON: Micros = Micros::from_secs(30 * 86_400);

const PROTOCOLS: [(&str, PickupProtocol); 2] =
    [("pop3", PickupProtocol::Pop3), ("imap", PickupProtocol::Imap)];

/// Words for the tests that leave a transcript.
const TRANSCRIPTS: [(&str, Transcripts); 3] =
    [("failed", Transcripts::Failed), ("all", Transcripts::All), ("none", Transcripts::None)];

/// Checks the defaults, even if no monitor uses them: they are read like a monitor without other
/// settings.
pub(super) fn check_defaults(
    mut defaults: Table,
    config: &Config,
    complete: bool,
    problems: &mut Problems,
) {
    options(&mut defaults, None, config, complete, problems);
    for key in OwnMonitorKeys::KEYS {
        if defaults.node(key).is_some() {
            problems.push(defaults.problem(
                key,
                format!("{:?} can be set only for a single monitor", key.name),
                "not a default",
            ));
        }
    }
    defaults.finish(problems);
}

/// Options shared by defaults and monitors; `address` is the object's.
pub(crate) struct Options {
    pub(crate) kind: kind::Read,
    pub(crate) enabled: bool,
    pub(crate) test_interval: Micros,
    pub(crate) calendar: Option<Calendar>,
    pub(crate) retest_interval: Option<Micros>,
    pub(crate) overlap: bool,
    pub(crate) action_list: Option<Name>,
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
    pub(crate) idle: bool,
    pub(crate) precise: bool,
    pub(crate) transcripts: Transcripts,
    pub(crate) message: MessageShape,
    pub(crate) smtp: Option<Endpoint>,
    pub(crate) pickup: Option<Endpoint>,
}

fn options(
    table: &mut Table,
    address: Option<&str>,
    config: &Config,
    complete: bool,
    problems: &mut Problems,
) -> Options {
    let action_list = action_list(table, config, complete, problems);
    let kind = table.read(&MONITOR.kind, problems);
    let (max_round_trip, check_interval, horizon) = waits(table, problems);
    let (test_interval, retest_interval, calendar) = starts(table, config, problems);
    let timeout = table.read(&MONITOR.timeout, problems);
    let from = table.read(&MONITOR.from, problems);
    let to = table.read(&MONITOR.to, problems);
    let smtp = table.table(&MONITOR.smtp, problems);
    let smtp = read_endpoint(smtp, SMTP, address, config, problems);
    let mut pickup = table.table(&MONITOR.pickup, problems);
    let protocol = pickup
        .as_mut()
        .map(|pickup| pickup.read(&PICKUP.protocol, problems))
        .unwrap_or(PickupProtocol::Pop3);
    let service = match protocol {
        PickupProtocol::Pop3 => POP3,
        PickupProtocol::Imap => IMAP,
    };
    let folders = folders(table, problems);
    let (alarm, depends_on) = alarm::read(table, &folders, problems);
    Options {
        kind,
        enabled: table.read(&MONITOR.enabled, problems),
        test_interval,
        calendar,
        retest_interval,
        overlap: table.read(&MONITOR.overlap, problems),
        action_list,
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
        idle: table.read(&MONITOR.idle, problems),
        precise: table.read(&MONITOR.precise, problems),
        message: message::read(table, &MONITOR.message, problems),
        transcripts: table.read(&MONITOR.transcripts, problems),
        smtp,
        pickup: read_endpoint(pickup, service, address, config, problems),
    }
}

/// Returns the action list that is set, or `default`.
fn action_list(
    table: &mut Table,
    config: &Config,
    complete: bool,
    problems: &mut Problems,
) -> Option<Name> {
    // If not all lists were read, a missing one is not reported.
    let mut ignored = Problems::default();
    let nobody = table
        .node(&MONITOR.action_list)
        .and_then(|node| node.read::<String>(&mut ignored))
        .is_some_and(|name| name == "none");
    if nobody {
        return None;
    }
    let named = if complete {
        reference(table, &MONITOR.action_list, "action_list", &config.action_lists, problems)
    } else {
        reference(table, &MONITOR.action_list, "action_list", &config.action_lists, &mut ignored)
    };
    let default = || config.action_lists.get_key_value("default").map(|(name, _)| name.clone());
    named.or_else(default)
}

/// Max round trip, check interval and horizon, which must fit together.
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

/// Reads the maximum number of additional pick-ups per mail around its expected arrival.
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

/// Reads when tests start: test interval, retest interval, calendar.
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

/// Reads the folders to search; by default the inbox.
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

impl Options {
    /// The mailbox's server, which needs an account.
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

/// Reads a table of a monitor's server to its end; the defaults alone have no address, and need
/// none.
fn read_endpoint(
    table: Option<Table>,
    service: Service,
    address: Option<&str>,
    config: &Config,
    problems: &mut Problems,
) -> Option<Endpoint> {
    let mut table = table?;
    let found =
        endpoint(&mut table, service, Some(address.unwrap_or("localhost")), config, problems);
    table.finish(problems);
    found
}

pub(super) fn monitor(
    id: MonitorId,
    mut table: Table,
    config: &Config,
    complete: bool,
    problems: &mut Problems,
) -> Option<(Monitor, Vec<(String, Node)>)> {
    let name = table.read(&OWN.name, problems).unwrap_or_else(|| id.to_string());
    if table.node(&OWN.object).is_none() {
        problems.push(table.missing(&OWN.object, "the object that the monitor watches"));
    }
    let object_id = if complete {
        reference(&mut table, &OWN.object, "object", &config.objects, problems)
    } else {
        table.node(&OWN.object).and_then(|node| node.read(problems))
    };
    let object = object_id.as_ref().and_then(|id| config.objects.get(id));
    let mut options = options(
        &mut table,
        object.map(|object| object.address.as_str()),
        config,
        complete,
        problems,
    );
    let kind = (options.kind)(&options, &mut table, problems);
    if let (Some(list), Some(smtp)) =
        (&options.action_list, kind.as_ref().and_then(|kind| kind.smtp()))
        && let Some(warning) = own_server_warning(&id, list, smtp, &table, config)
    {
        problems.push(warning);
    }
    let longest = kind.as_ref().map_or(Some(options.max_round_trip), |kind| kind.max_round_trip());
    if let Some(longest) = longest.filter(|longest| *longest > options.test_interval)
        && !options.overlap
        && options.calendar.is_none()
    {
        problems.push(Problem {
            severity: Severity::Warning,
            ..table
                .problem(
                    &MONITOR.max_round_trip,
                    format!(
                        "max round trip ({longest}) is longer than the test interval ({}) of {id}: tests are \
                         skipped while a mail is late",
                        options.test_interval
                    ),
                    "longer than the test interval",
                )
                .help("raise test_interval, shorten max_round_trip, or set overlap = true to let tests overlap")
        });
    }
    if let Some(kind) = &kind {
        options.alarm.confine(&**kind, &mut table, problems);
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
        kind: kind?,
    };
    Some((monitor, options.depends_on))
}

/// Returns a warning if alarms travel through the server whose failure they report.
fn own_server_warning(
    id: &MonitorId,
    list: &Name,
    smtp: &Endpoint,
    table: &Table,
    config: &Config,
) -> Option<Problem> {
    let list_of = config.action_lists.get(list)?;
    let own = |name: &Name| {
        config
            .mail_servers
            .get(name)
            .is_some_and(|server| server.endpoint.server.eq_ignore_ascii_case(&smtp.server))
    };
    let caught = list_of.steps.iter().any(|step| match &step.action {
        Action::Email { mail_server, fallback, .. } => {
            own(mail_server) && fallback.as_ref().is_none_or(own)
        }
        _ => false,
    });
    let problem = || {
        table
            .problem(
                "action_list",
                format!(
                    "alarms of {id} are sent through {}, the server that it tests",
                    smtp.server
                ),
                format!("uses the action list {list}"),
            )
            .help(
                "add an independent mail server to the action list, as mail_server or as fallback",
            )
    };
    caught.then(|| Problem { severity: Severity::Warning, ..problem() })
}
