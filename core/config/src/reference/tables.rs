//! The tables of `mailqos.toml`.

use super::{Key, Reference, Shape, ValueKind};
use crate::{
    account::{AccountKeys, OAuthKeys},
    actions::{
        ActionKeys, ActionListKeys, CommandKeys, EmailKeys, EmailTimeoutKeys, ListKeys,
        RequestKeys, SyslogActionKeys, SyslogKeys, TimeoutKeys, WebhookActionKeys, WebhookKeys,
    },
    alarm::{AlarmKeys, MonitorAlarmKeys, PercentileKeys, THRESHOLDS},
    archive::ArchiveKeys,
    console::ConsoleKeys,
    engine::EngineKeys,
    heartbeat::HeartbeatKeys,
    hours::HoursKeys,
    mail_server::{DkimKeys, MailServerKeys, SenderKeys},
    maintenance::MaintenanceKeys,
    message::MessageKeys,
    monitor::{KindKeys, ObjectKeys, OwnMonitorKeys},
    object_store::{ObjectStoreCacheKeys, ObjectStoreKeys},
    operator::OperatorKeys,
    proxy::ProxyKeys,
    read::{LimitKeys, MoreRootKeys, NAMED, RootKeys},
    server::{
        MailServerAddressKeys, MailboxServerKeys, ObjectServerKeys, OwnServerKeys, SmtpServerKeys,
        SubmissionKeys, TrustKeys,
    },
    service_level::{LevelKeys, PERCENTILES},
    single_sign_on::{GroupKeys, OidcKeys, ProxyAuthKeys},
    target::{
        DeliveryKeys, FilesKeys, FolderKeys, FtpServerKeys, KIND, MailKeys, PatienceKeys,
        RecipientKeys, ServerFilesKeys, SftpKeys, SmbKeys, StoreKeys, TemporaryKeys, UrlKeys,
    },
    test_options::{MonitorKeys, PickupKeys},
    wording::{ContentKeys, WordingKeys},
};

/// The kind of a target, which determines its other keys.
macro_rules! kind {
    ($word:literal) => {
        &[Key { takes: ValueKind::Words(&[$word]), ..KIND.untyped().required() }]
    };
}

/// The reference of the configuration.
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
            id: "heartbeat",
            head: "[heartbeat]",
            about: "Requests to a service that raises an alarm when they stop (Healthchecks, Uptime Kuma, Gatus and others).",
            keys: &[HeartbeatKeys::KEYS, TrustKeys::KEYS],
        },
        Shape {
            id: "object_store",
            head: "[object_store]",
            about: "How to reach the object store of `data`. Missing settings come from the environment, in the same form as for the cloud provider's own tools.",
            keys: &[ObjectStoreKeys::KEYS, ObjectStoreCacheKeys::KEYS],
        },
        Shape {
            id: "engine",
            head: "[engine]",
            about: "Where `stats`, `outages`, `top` and `sla` compute figures. Every engine gives the same figures.",
            keys: &[EngineKeys::KEYS, TrustKeys::KEYS],
        },
        Shape {
            id: "console",
            head: "[console]",
            about: "The web console, `mailqos-analytics serve`. Without `certificate`, it only listens on addresses of this machine, unless `allow_plaintext` is set.",
            keys: &[ConsoleKeys::KEYS],
        },
        Shape {
            id: "console.oidc",
            head: "[console.oidc]",
            about: "Sign-in at an identity provider by OpenID Connect: authorisation code with PKCE. The provider redirects to `url` followed by `/sign-in/oidc/callback`.",
            keys: &[OidcKeys::KEYS, TrustKeys::KEYS],
        },
        Shape {
            id: "console.proxy_auth",
            head: "[console.proxy_auth]",
            about: "Sign-in by a reverse proxy that names the user in a header field, such as Authelia or oauth2-proxy.",
            keys: &[ProxyAuthKeys::KEYS],
        },
        Shape {
            id: "console.groups",
            head: "[[console.oidc.groups]] and [[console.proxy_auth.groups]]",
            about: "What the members of a group may do in the console.",
            keys: &[GroupKeys::KEYS],
        },
        Shape {
            id: "delivery",
            head: "[delivery]",
            about: "Settings for all report deliveries.",
            keys: &[DeliveryKeys::KEYS],
        },
        Shape {
            id: "delivery.heartbeat",
            head: "[delivery.heartbeat]",
            about: "The heartbeat of report schedules.",
            keys: &[HeartbeatKeys::KEYS, TrustKeys::KEYS],
        },
        Shape {
            id: "archive",
            head: "[archive]",
            about: "How long reports that the schedules have generated are kept in the folders of their definitions. Without keys, they are kept forever.",
            keys: &[ArchiveKeys::KEYS],
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
            about: "A monitored host or service; monitors refer to it.",
            keys: &[ObjectKeys::KEYS],
        },
        Shape {
            id: "monitor",
            head: "[monitor.NAME]",
            about: "A test that is repeated. Keys that are not set here come from `[defaults]`. `pickup` is required in one of the two places, and with kind `mail-qos` also `from`, `to` and `smtp`.",
            keys: &[
                OwnMonitorKeys::KEYS,
                KindKeys::KEYS,
                MonitorKeys::KEYS,
                MonitorAlarmKeys::KEYS,
            ],
        },
        Shape {
            id: "defaults",
            head: "[defaults]",
            about: "Defaults for all monitors; tables within it are completed key by key.",
            keys: &[KindKeys::KEYS, MonitorKeys::KEYS, MonitorAlarmKeys::KEYS],
        },
        Shape {
            id: "monitor.smtp",
            head: "[monitor.NAME.smtp]",
            about: "The server that the test mails are submitted to.",
            keys: &[
                SubmissionKeys::KEYS,
                ObjectServerKeys::KEYS,
                SmtpServerKeys::KEYS,
                TrustKeys::KEYS,
            ],
        },
        Shape {
            id: "monitor.pickup",
            head: "[monitor.NAME.pickup]",
            about: "The mailbox.",
            keys: &[
                PickupKeys::KEYS,
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
            about: "When the alarm is raised and clears, in addition to `alarm_after`. Keys named after a timing are its upper limit in a single test: a test that exceeds one counts as failed for the alarm, but not in availability.",
            keys: &[AlarmKeys::KEYS, &THRESHOLDS],
        },
        Shape {
            id: "monitor.alarm.percentiles",
            head: "[[monitor.NAME.alarm.percentiles]]",
            about: "The upper limit of a percentile over a window.",
            keys: &[PercentileKeys::KEYS],
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
            about: "A server for mailqos's own mails, alarms and reports: an SMTP server, or Microsoft Graph.",
            keys: &[
                SubmissionKeys::KEYS,
                MailServerAddressKeys::KEYS,
                SmtpServerKeys::KEYS,
                MailServerKeys::KEYS,
                TrustKeys::KEYS,
            ],
        },
        Shape {
            id: "mail_server.dkim",
            head: "[mail_server.NAME.dkim]",
            about: "A DKIM key that signs mails (RFC 6376).",
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
            keys: &[
                EmailKeys::KEYS,
                SenderKeys::KEYS,
                WordingKeys::KEYS,
                EmailTimeoutKeys::KEYS,
                ActionKeys::KEYS,
                HoursKeys::KEYS,
            ],
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
            keys: &[
                kind!("folder"),
                FolderKeys::KEYS,
                FilesKeys::KEYS,
                PatienceKeys::KEYS,
                TemporaryKeys::KEYS,
                UrlKeys::KEYS,
            ],
        },
        Shape {
            id: "target.ftp",
            head: "[target.NAME] of kind ftp",
            about: "Delivers reports to an FTP server.",
            keys: &[
                kind!("ftp"),
                OwnServerKeys::KEYS,
                FtpServerKeys::KEYS,
                ServerFilesKeys::KEYS,
                TrustKeys::KEYS,
                FilesKeys::KEYS,
                PatienceKeys::KEYS,
                TemporaryKeys::KEYS,
                UrlKeys::KEYS,
            ],
        },
        Shape {
            id: "target.sftp",
            head: "[target.NAME] of kind sftp",
            about: "Delivers reports to an SSH server over SFTP. Set `account` (a password), or `user` and `key_file`; with `account` and `key_file`, the account's password is the key's passphrase.",
            keys: &[
                kind!("sftp"),
                OwnServerKeys::KEYS,
                SftpKeys::KEYS,
                ServerFilesKeys::KEYS,
                FilesKeys::KEYS,
                PatienceKeys::KEYS,
                TemporaryKeys::KEYS,
                UrlKeys::KEYS,
            ],
        },
        Shape {
            id: "target.smb",
            head: "[target.NAME] of kind smb",
            about: "Delivers reports to a network share (SMB 2 and 3).",
            keys: &[
                kind!("smb"),
                OwnServerKeys::KEYS,
                SmbKeys::KEYS,
                ServerFilesKeys::KEYS,
                FilesKeys::KEYS,
                PatienceKeys::KEYS,
                TemporaryKeys::KEYS,
                UrlKeys::KEYS,
            ],
        },
        Shape {
            id: "target.object-store",
            head: "[target.NAME] of kind object-store",
            about: "Delivers reports to an object store. Without its own settings, `[object_store]` applies.",
            keys: &[
                kind!("object-store"),
                StoreKeys::KEYS,
                ObjectStoreKeys::KEYS,
                FilesKeys::KEYS,
                PatienceKeys::KEYS,
            ],
        },
        Shape {
            id: "target.email",
            head: "[target.NAME] of kind email",
            about: "Sends reports by mail.",
            keys: &[
                kind!("email"),
                RecipientKeys::KEYS,
                SenderKeys::KEYS,
                MailKeys::KEYS,
                PatienceKeys::KEYS,
            ],
        },
        Shape {
            id: "service_level",
            head: "[service_level.NAME]",
            about: "A service level: what is promised for which monitors, over which period and in which \
                hours. At least one objective is \
                required.",
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
