//! The tables of `mailqos.toml`.

use jiff::tz::TimeZone;
use mailqos_model::{Micros, Name, ObjectId};

use super::{Key, Reference, Shape, Takes};
use crate::{
    account::{AccountKeys, OAuthKeys},
    actions::{
        ActionKeys, ActionListKeys, CommandKeys, EmailKeys, EmailTimeoutKeys, ListKeys, RequestKeys, SyslogActionKeys,
        SyslogKeys, TimeoutKeys, WebhookActionKeys, WebhookKeys,
    },
    calendar::Cron,
    hours::HoursKeys,
    mail_server::{DkimKeys, MailServerKeys, SenderKeys},
    maintenance::MaintenanceKeys,
    message::MessageKeys,
    object_store::ObjectStoreKeys,
    operator::OperatorKeys,
    proxy::ProxyKeys,
    read::{LimitKeys, MoreRootKeys, NAMED, RootKeys},
    server::{MailboxServerKeys, ObjectServerKeys, OwnServerKeys, SmtpServerKeys, TrustKeys},
    service_level::{LevelKeys, PERCENTILES},
    target::{
        DeliveryKeys, FilesKeys, FolderKeys, FtpServerKeys, MailKeys, PatienceKeys, RecipientKeys, ServerFilesKeys,
        SftpKeys, SmbKeys, StoreKeys, TemporaryKeys, UrlKeys,
    },
    wording::{ContentKeys, WordingKeys},
};

const TEXT: Takes = Takes::of::<String>();
const PERSON: Takes = Takes::of::<crate::Person>();
const TEXTS: Takes = Takes::of::<Vec<String>>();
const DURATION: Takes = Takes::of::<Micros>();
const SWITCH: Takes = Takes::of::<bool>();
const COUNT: Takes = Takes::of::<u32>();
const NAME: Takes = Takes::of::<Name>();
const ZONE: Takes = Takes::of::<TimeZone>();

const METRICS: &[&str] = &[
    "round_trip",
    "smtp_connect",
    "smtp_send",
    "pickup_connect",
    "pickup_login",
    "pickup_receive",
];

/// The kind of a target, which decides on its other keys.
macro_rules! kind {
    ($word:literal) => {
        &[Key::new("kind", Takes::Words(&[$word]), "The kind of target.").required()]
    };
}

/// The configuration.
pub const CONFIGURATION: Reference = Reference {
    title: "mailqos.toml: the configuration of mailqos",
    tables: &[
        Shape {
            id: "file",
            head: "At the top of the file",
            about: "Settings of the probe as a whole. Relative paths are relative to the folder of the file that contains them.",
            keys: &[RootKeys::KEYS, ProxyKeys::KEYS, MoreRootKeys::KEYS, &NAMED],
        },
        Shape {
            id: "limits",
            head: "[limits]",
            about: "How many tests run at the same time; further tests wait.",
            keys: &[LimitKeys::KEYS],
        },
        Shape {
            id: "object_store",
            head: "[object_store]",
            about: "How to reach the object store of `data`. Missing settings come from the environment, in the same form as for the cloud provider's own tools.",
            keys: &[ObjectStoreKeys::KEYS],
        },
        Shape {
            id: "delivery",
            head: "[delivery]",
            about: "Settings for all report deliveries.",
            keys: &[DeliveryKeys::KEYS],
        },
        Shape {
            id: "account",
            head: "[account.NAME]",
            about: "Credentials that other tables refer to by name. An account has a `password` or `oauth`, not both.",
            keys: &[AccountKeys::KEYS],
        },
        Shape {
            id: "account.oauth",
            head: "[account.NAME.oauth]",
            about: "How to obtain access tokens (RFC 6749): with client credentials or a refresh token.",
            keys: &[OAuthKeys::KEYS, TrustKeys::KEYS],
        },
        Shape {
            id: "object",
            head: "[object.NAME]",
            about: "A host or service under watch; monitors refer to it.",
            keys: &[&[
                Key::new("address", TEXT, "Host name or IP address.").required(),
                Key::new("name", TEXT, "What people call it.").otherwise("its id"),
                Key::new("tags", TEXTS, "Labels, which its monitors have too: `tag:NAME` selects by them.").default("[]"),
            ]],
        },
        Shape {
            id: "monitor",
            head: "[monitor.NAME]",
            about: "One test that is made again and again. What it does not say is taken from `[defaults]`. `from`, `to`, `smtp` and `pickup` must be said in one of the two places.",
            keys: &[
                &[
                    Key::new("object", Takes::of::<ObjectId>(), "The object that it watches.").required(),
                    Key::new("name", TEXT, "What people call it.").otherwise("its id"),
                ],
                MONITOR,
            ],
        },
        Shape {
            id: "defaults",
            head: "[defaults]",
            about: "What holds for all monitors that don't say it themselves; tables within it are completed key by key.",
            keys: &[MONITOR],
        },
        Shape {
            id: "monitor.smtp",
            head: "[monitor.NAME.smtp]",
            about: "The server that the test mails are submitted to.",
            keys: &[ObjectServerKeys::KEYS, SmtpServerKeys::KEYS, TrustKeys::KEYS],
        },
        Shape {
            id: "monitor.pickup",
            head: "[monitor.NAME.pickup]",
            about: "The mailbox.",
            keys: &[
                &[
                    Key::new("protocol", Takes::Words(&["pop3", "imap"]), "How it is read.").default("\"pop3\""),
                ],
                ObjectServerKeys::KEYS,
                MailboxServerKeys::KEYS,
                TrustKeys::KEYS,
            ],
        },
        Shape {
            id: "monitor.message",
            head: "[monitor.NAME.message]",
            about: "The contents of the test mails.",
            keys: &[MessageKeys::KEYS],
        },
        Shape {
            id: "monitor.alarm",
            head: "[monitor.NAME.alarm]",
            about: "When the alarm rises and clears, beside `alarm_after`. The keys named like a timing are the most that it may be in a test: one that took longer counts as failed for the alarm, not in availability.",
            keys: &[&[
                Key::new("after_time", DURATION, "And only after failing for so long."),
                Key::new("either", SWITCH, "One of `alarm_after` and `after_time` is enough.").default("false"),
                Key::new("clear_after", COUNT, "It clears after so many good tests in a row.").default("1"),
                Key::new("flapping", SWITCH, "Ten changes between good and failed in twenty tests are an alarm, which clears when there are at most four.").default("true"),
                Key::new("round_trip", DURATION, "The longest round trip."),
                Key::new("smtp_connect", DURATION, "The longest time to open the SMTP connection."),
                Key::new("smtp_send", DURATION, "The longest time to send."),
                Key::new("pickup_connect", DURATION, "The longest time to open the connection to the mailbox."),
                Key::new("pickup_login", DURATION, "The longest login."),
                Key::new("pickup_receive", DURATION, "The longest time to receive."),
                Key::new("percentiles", Takes::Tables(&["monitor.alarm.percentiles"]), "What percentiles over a window may be."),
                Key::new("clear_below", Takes::of::<f64>(), "A threshold that was exceeded counts as met again below this part of it, from 0.1 to 1.").default("0.9"),
                Key::new("certificate", DURATION, "How long certificates must still be valid."),
                Key::new("spam_folders", TEXTS, "Folders in which the mail must not be found; they must be among `folders`.").default("[]"),
            ]],
        },
        Shape {
            id: "monitor.alarm.percentiles",
            head: "[[monitor.NAME.alarm.percentiles]]",
            about: "The most that a percentile over a window may be.",
            keys: &[&[
                Key::new("of", Takes::Words(METRICS), "Of which timing.").default("\"round_trip\""),
                Key::new("percentile", Takes::of::<f64>(), "Which percentile, from 0 to 100.").default("95"),
                Key::new("over", DURATION, "Over how long, from a minute to a week.").default("\"1h\""),
                Key::new("most", DURATION, "The most that it may be.").required(),
                Key::new("at_least", COUNT, "With fewer values nothing is said.").default("10"),
            ]],
        },
        Shape {
            id: "operator",
            head: "[operator.NAME]",
            about: "A person or a group to notify.",
            keys: &[OperatorKeys::KEYS],
        },
        Shape {
            id: "mail_server",
            head: "[mail_server.NAME]",
            about: "An SMTP server for mailqos's own mails: alarms and reports.",
            keys: &[OwnServerKeys::KEYS, SmtpServerKeys::KEYS, MailServerKeys::KEYS, TrustKeys::KEYS],
        },
        Shape {
            id: "mail_server.dkim",
            head: "[mail_server.NAME.dkim]",
            about: "A key that signs mails (RFC 6376).",
            keys: &[DkimKeys::KEYS],
        },
        Shape {
            id: "action_list",
            head: "[action_list.NAME]",
            about: "What happens when a monitor's alarm is raised, persists and clears. The list `default` applies to all monitors that don't name a list.",
            keys: &[ActionListKeys::KEYS],
        },
        Shape {
            id: "action.email",
            head: "[[action_list.NAME.actions]] with email",
            about: "A mail.",
            keys: &[EmailKeys::KEYS, SenderKeys::KEYS, WordingKeys::KEYS, EmailTimeoutKeys::KEYS, ActionKeys::KEYS, HoursKeys::KEYS],
        },
        Shape {
            id: "action.webhook",
            head: "[[action_list.NAME.actions]] with webhook",
            about: "An HTTP request.",
            keys: &[WebhookActionKeys::KEYS, TimeoutKeys::KEYS, ActionKeys::KEYS, HoursKeys::KEYS],
        },
        Shape {
            id: "action.command",
            head: "[[action_list.NAME.actions]] with command",
            about: "A program that receives the alarm in its environment and on its standard input.",
            keys: &[CommandKeys::KEYS, TimeoutKeys::KEYS, ActionKeys::KEYS, HoursKeys::KEYS],
        },
        Shape {
            id: "action.syslog",
            head: "[[action_list.NAME.actions]] with syslog",
            about: "A line in a system log (RFC 5424).",
            keys: &[SyslogActionKeys::KEYS, TimeoutKeys::KEYS, ActionKeys::KEYS, HoursKeys::KEYS],
        },
        Shape {
            id: "action.list",
            head: "[[action_list.NAME.actions]] with list",
            about: "All actions of another list. The conditions of both must be met, and times add up.",
            keys: &[ListKeys::KEYS, TimeoutKeys::KEYS, ActionKeys::KEYS, HoursKeys::KEYS],
        },
        Shape {
            id: "webhook",
            head: "[action_list.NAME.actions.webhook]",
            about: "An HTTP request.",
            keys: &[WebhookKeys::KEYS, ContentKeys::KEYS, RequestKeys::KEYS, TrustKeys::KEYS],
        },
        Shape {
            id: "syslog",
            head: "[action_list.NAME.actions.syslog]",
            about: "A system log.",
            keys: &[SyslogKeys::KEYS, TrustKeys::KEYS],
        },
        Shape {
            id: "maintenance",
            head: "[maintenance.NAME]",
            about: "A planned window without alarms; its samples don't count in availability. Set `from` with `to` or `lasts` (once), `hours` and `weekdays` (every week), or `cron` with `lasts`.",
            keys: &[MaintenanceKeys::KEYS, HoursKeys::KEYS],
        },
        Shape {
            id: "target.folder",
            head: "[target.NAME] of kind folder",
            about: "Delivers reports to a folder, local or mounted.",
            keys: &[kind!("folder"), FolderKeys::KEYS, FilesKeys::KEYS, PatienceKeys::KEYS, TemporaryKeys::KEYS, UrlKeys::KEYS],
        },
        Shape {
            id: "target.ftp",
            head: "[target.NAME] of kind ftp",
            about: "Delivers reports to an FTP server.",
            keys: &[kind!("ftp"), OwnServerKeys::KEYS, FtpServerKeys::KEYS, ServerFilesKeys::KEYS, TrustKeys::KEYS, FilesKeys::KEYS, PatienceKeys::KEYS, TemporaryKeys::KEYS, UrlKeys::KEYS],
        },
        Shape {
            id: "target.sftp",
            head: "[target.NAME] of kind sftp",
            about: "Delivers reports to an SSH server over SFTP. Set `account` (a password), or `user` and `key_file`; with `account` and `key_file`, the account's password is the key's passphrase.",
            keys: &[kind!("sftp"), OwnServerKeys::KEYS, SftpKeys::KEYS, ServerFilesKeys::KEYS, FilesKeys::KEYS, PatienceKeys::KEYS, TemporaryKeys::KEYS, UrlKeys::KEYS],
        },
        Shape {
            id: "target.smb",
            head: "[target.NAME] of kind smb",
            about: "Delivers reports to a network share (SMB 2 and 3).",
            keys: &[kind!("smb"), OwnServerKeys::KEYS, SmbKeys::KEYS, ServerFilesKeys::KEYS, FilesKeys::KEYS, PatienceKeys::KEYS, TemporaryKeys::KEYS, UrlKeys::KEYS],
        },
        Shape {
            id: "target.object-store",
            head: "[target.NAME] of kind object-store",
            about: "Delivers reports to an object store. Without its own settings, `[object_store]` applies.",
            keys: &[kind!("object-store"), StoreKeys::KEYS, ObjectStoreKeys::KEYS, FilesKeys::KEYS, PatienceKeys::KEYS],
        },
        Shape {
            id: "target.email",
            head: "[target.NAME] of kind email",
            about: "Sends reports by mail.",
            keys: &[kind!("email"), RecipientKeys::KEYS, SenderKeys::KEYS, MailKeys::KEYS, PatienceKeys::KEYS],
        },
        Shape {
            id: "service_level",
            head: "[service_level.NAME]",
            about: "What was promised for which monitors, over which period and in which hours. At least one of `availability`, `uptime`, `delivered_within` and `percentile` is required.",
            keys: &[LevelKeys::KEYS],
        },
        Shape {
            id: "service_level.percentile",
            head: "[service_level.NAME.percentile]",
            about: "For each timing, percentiles (`p95`, `p99.9`) and their upper limits.",
            keys: &[&PERCENTILES],
        },
    ],
};

const MONITOR: &[Key] = &[
    Key::new(
        "kind",
        Takes::Words(&["mail-qos", "mailbox"]),
        "What is tested. `mail-qos`: a mail is sent and picked up. `mailbox`: the mailbox is opened and listed; nothing is sent, and only the keys `pickup`, `folders`, `timeout` and those of every monitor apply.",
    )
    .default("\"mail-qos\""),
    Key::new("enabled", SWITCH, "Whether it is tested at all.").default("true"),
    Key::new("from", PERSON, "The sender of the test mails."),
    Key::new("to", PERSON, "The mailbox's address."),
    Key::new(
        "smtp",
        Takes::Table(&["monitor.smtp"]),
        "The server that takes the mails.",
    ),
    Key::new("pickup", Takes::Table(&["monitor.pickup"]), "The mailbox."),
    Key::new(
        "folders",
        TEXTS,
        "The folders that are searched over IMAP, in this order.",
    )
    .default("[\"INBOX\"]"),
    Key::new(
        "idle",
        SWITCH,
        "Over IMAP, the server's announcements of new mail are a further witness of the landing.",
    )
    .default("true"),
    Key::new(
        "precise",
        SWITCH,
        "The mail is looked for at short gaps around its expected landing, whatever the check interval.",
    )
    .default("false"),
    Key::new(
        "max_round_trip",
        DURATION,
        "The longest round trip that counts as good, from 100ms to a day.",
    )
    .default("\"2m\""),
    Key::new(
        "check_interval",
        DURATION,
        "The wait before the first pick-up and between pick-ups; shorter than max round trip.",
    )
    .default("\"5s\""),
    Key::new(
        "extra_pickups",
        COUNT,
        "The most pick-ups for each mail beyond those of the check interval, from 0 to 20, made close together where the mail is expected to land, so that its round trip is known closely. None are made with a check interval over 2m, after a failed pick-up, or for precise monitors.",
    )
    .default("5"),
    Key::new(
        "horizon",
        DURATION,
        "How long a mail is waited for before it is lost; not shorter than max round trip.",
    )
    .default("\"1d\""),
    Key::new(
        "timeout",
        DURATION,
        "Deadline of each step of a conversation, from 100ms to 10m.",
    )
    .default("\"30s\""),
    Key::new("test_interval", DURATION, "Time between the starts of two tests.").default("\"5m\""),
    Key::new(
        "schedule",
        Takes::of::<Cron>(),
        "The moments at which tests start, instead of an interval.",
    ),
    Key::new("timezone", ZONE, "The zone of `schedule`.").otherwise("that of the file"),
    Key::new(
        "retest_interval",
        DURATION,
        "Time between the starts of two tests of a monitor that fails. A shorter one than `test_interval` applies from the first failed test on, so that an alarm is raised sooner; a longer one while an alarm is open, so that a server that hangs ties up less.",
    )
    .otherwise("the test interval"),
    Key::new("overlap", SWITCH, "A test may begin while the one before still runs.").default("false"),
    Key::new(
        "message",
        Takes::Table(&["monitor.message"]),
        "What the test mails look like.",
    ),
    Key::new(
        "transcripts",
        Takes::Words(&["failed", "all", "none"]),
        "Which tests leave a transcript of what was said.",
    )
    .default("\"failed\""),
    Key::new(
        "tags",
        TEXTS,
        "Labels to select by; those of its object come with them.",
    )
    .default("[]"),
    Key::new("action_list", NAME, "Who is told of its alarms; `\"none\"`: nobody.")
        .otherwise("the list `default`, where there is one"),
    Key::new(
        "alarm_after",
        COUNT,
        "Its alarm rises after so many failed tests in a row.",
    )
    .default("3"),
    Key::new(
        "alarm",
        Takes::Table(&["monitor.alarm"]),
        "When its alarm rises and clears, beside that.",
    ),
    Key::new(
        "depends_on",
        TEXTS,
        "While one of these monitors fails, this one's alarm waits: ids, `object:NAME`, `tag:NAME` or patterns.",
    )
    .default("[]"),
];
