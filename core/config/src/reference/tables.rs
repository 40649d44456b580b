//! The tables of `mailqos.toml`.

use std::path::PathBuf;

use jiff::{civil::Date, tz::TimeZone};
use mailqos_model::{AccountName, Micros, Name, ObjectId, SiteName};

use super::{Key, Reference, Shape, Takes};
use crate::{
    calendar::Cron,
    hours::{Days, Span},
    maintenance::Moment,
    message::Bytes,
    service_level::{LevelPeriod, Percent},
    wording::Template,
};

const TEXT: Takes = Takes::of::<String>();
const PERSON: Takes = Takes::of::<crate::Person>();
const TEXTS: Takes = Takes::of::<Vec<String>>();
const DURATION: Takes = Takes::of::<Micros>();
const SWITCH: Takes = Takes::of::<bool>();
const COUNT: Takes = Takes::of::<u32>();
const PORT: Takes = Takes::of::<u16>();
const PATH: Takes = Takes::of::<PathBuf>();
const NAME: Takes = Takes::of::<Name>();
const ZONE: Takes = Takes::of::<TimeZone>();
const ACCOUNT: Takes = Takes::of::<AccountName>();
const SIZE: Takes = Takes::of::<Bytes>();
const SHARE: Takes = Takes::of::<Percent>();
const TEMPLATE: Takes = Takes::of::<Template>();

const METRICS: &[&str] = &[
    "round_trip",
    "smtp_connect",
    "smtp_send",
    "pickup_connect",
    "pickup_login",
    "pickup_receive",
];

/// The configuration.
pub const CONFIGURATION: Reference = Reference {
    title: "mailqos.toml: the configuration of mailqos",
    tables: &[
        Shape {
            id: "file",
            head: "At the top of the file",
            about: "What holds for the probe as a whole. Relative paths refer to the folder of the file in which they stand.",
            keys: &[ROOT],
        },
        Shape {
            id: "limits",
            head: "[limits]",
            about: "How many tests run at once; one that finds no place waits for it.",
            keys: &[&[
                Key::new("tests", COUNT, "In all.").default("4096"),
                Key::new("per_server", COUNT, "With the same SMTP server, or the same mailbox server.").otherwise("no limit of its own"),
                Key::new("per_mailbox", COUNT, "With the same mailbox.").otherwise("no limit of its own"),
            ]],
        },
        Shape {
            id: "object_store",
            head: "[object_store]",
            about: "How the object store of `data` is reached; what is left open comes from the environment, as the cloud's own tools take it.",
            keys: &[OBJECT_STORE],
        },
        Shape {
            id: "delivery",
            head: "[delivery]",
            about: "What holds for all deliveries of reports.",
            keys: &[&[
                Key::new("patience", DURATION, "How long a delivery is tried; a target may have its own.").default("\"3d\""),
                Key::new("first_pause", DURATION, "The pause after the first attempt; doubled with each.").default("\"30s\""),
                Key::new("longest_pause", DURATION, "The longest pause between two attempts.").default("\"1h\""),
                Key::new("action_list", NAME, "Who is told of what was given up, of recipients that were refused, and of reports that can't be made.").otherwise("the log alone says it"),
            ]],
        },
        Shape {
            id: "account",
            head: "[account.NAME]",
            about: "Credentials, which others refer to by name. An account has a `password` or `oauth`, not both.",
            keys: &[&[
                Key::new("user", TEXT, "The name to log in with.").required(),
                Key::new("password", Takes::Secret, "The password."),
                Key::new("oauth", Takes::Table(&["account.oauth"]), "Tokens of OAuth 2.0 in place of a password."),
                Key::new("domain", TEXT, "Windows domain, for network shares."),
                Key::new("mechanisms", TEXTS, "The SASL mechanisms that may be used: SCRAM-SHA-256, PLAIN, LOGIN, OAUTHBEARER, XOAUTH2.").otherwise("the best that both sides have"),
            ]],
        },
        Shape {
            id: "account.oauth",
            head: "[account.NAME.oauth]",
            about: "How access tokens are got (RFC 6749): by client credentials, or by a refresh token.",
            keys: &[
                &[
                    Key::new("preset", Takes::Words(&["microsoft-365", "google-workspace"]), "A provider whose addresses and scopes are known."),
                    Key::new("tenant", TEXT, "Microsoft 365: the tenant's id or domain."),
                    Key::new("client_id", TEXT, "The application's id.").required(),
                    Key::new("client_secret", Takes::Secret, "The application's secret."),
                    Key::new("refresh_token", Takes::Secret, "A refresh token of the mailbox's owner; one that the provider replaces is kept in the state folder."),
                    Key::new("token_url", TEXT, "The address of the token server.").otherwise("the preset's"),
                    Key::new("scope", TEXT, "What the tokens are to permit.").otherwise("the preset's"),
                    Key::new("secret_expires", Takes::of::<Date>(), "The day on which the client secret expires: warned of 30 days before."),
                ],
                TRUST,
            ],
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
            about: "The server that takes the test mails.",
            keys: &[
                &[
                    Key::new("server", TEXT, "Host name or IP address.").otherwise("the object's address"),
                    Key::new("port", PORT, "TCP port.").otherwise("587 with `starttls`, 465 with `implicit`, 25 with `none`"),
                    Key::new("tls", Takes::Words(&["none", "starttls", "implicit"]), "Encryption: none, asked for in the conversation (refused where the server does not offer it), or from the first byte.").default("\"starttls\""),
                    Key::new("account", ACCOUNT, "Who logs in.").otherwise("nobody"),
                    Key::new("helo", TEXT, "The name that the probe gives in EHLO; some servers accept a registered name only.").otherwise("the probe's own address, such as `[192.0.2.1]`"),
                ],
                TRUST,
            ],
        },
        Shape {
            id: "monitor.pickup",
            head: "[monitor.NAME.pickup]",
            about: "The mailbox.",
            keys: &[
                &[
                    Key::new("protocol", Takes::Words(&["pop3", "imap"]), "How it is read.").default("\"pop3\""),
                    Key::new("server", TEXT, "Host name or IP address.").otherwise("the object's address"),
                    Key::new("port", PORT, "TCP port.").otherwise("POP3: 995 with `implicit`, else 110; IMAP: 993, else 143"),
                    Key::new("tls", Takes::Words(&["none", "starttls", "implicit"]), "Encryption, as of `smtp`.").default("\"implicit\""),
                    Key::new("account", ACCOUNT, "Who logs in; must be said here or in the defaults."),
                ],
                TRUST,
            ],
        },
        Shape {
            id: "monitor.message",
            head: "[monitor.NAME.message]",
            about: "What the test mails look like.",
            keys: &[&[
                Key::new("size", SIZE, "Bytes of the whole mail, from 4kB to 100MB, filled up with an attachment.").otherwise("as small as it is"),
                Key::new("subject", TEXT, "The beginning of the subject; the signed token follows."),
                Key::new("headers", Takes::Pairs(&TEXT), "Further header fields."),
                Key::new("body", TEXT, "Words above those that explain the mail."),
            ]],
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
            about: "Somebody who is told, or a group of them.",
            keys: &[&[
                Key::new("email", TEXTS, "The mail address, or several; must be said unless it is a group."),
                Key::new("members", Takes::of::<Vec<Name>>(), "A group: the operators in it."),
                Key::new("name", TEXT, "What people call them.").otherwise("the name of the table"),
                Key::new("attachments", SIZE, "The most bytes of files that a mail to them may have.").otherwise("no limit"),
            ]],
        },
        Shape {
            id: "mail_server",
            head: "[mail_server.NAME]",
            about: "An SMTP server for mailqos's own mails: alarms and reports.",
            keys: &[
                &[
                    Key::new("server", TEXT, "Host name or IP address.").required(),
                    Key::new("port", PORT, "TCP port.").otherwise("587 with `starttls`, 465 with `implicit`, 25 with `none`"),
                    Key::new("tls", Takes::Words(&["none", "starttls", "implicit"]), "Encryption, as of `smtp`.").default("\"starttls\""),
                    Key::new("account", ACCOUNT, "Who logs in.").otherwise("nobody"),
                    Key::new("helo", TEXT, "The name that the probe gives in EHLO; some servers accept a registered name only.").otherwise("the probe's own address, such as `[192.0.2.1]`"),
                    Key::new("from", PERSON, "The sender of the mails.").required(),
                    Key::new("return_path", PERSON, "Where bounces go.").otherwise("`from`"),
                    Key::new("timeout", DURATION, "Deadline of each step of the conversation.").default("\"30s\""),
                    Key::new("dkim", Takes::Table(&["mail_server.dkim"]), "How the mails are signed.").otherwise("they are not"),
                ],
                TRUST,
            ],
        },
        Shape {
            id: "mail_server.dkim",
            head: "[mail_server.NAME.dkim]",
            about: "A key that mails are signed with (RFC 6376).",
            keys: &[&[
                Key::new("selector", TEXT, "The name of the key: its other half stands in the DNS at SELECTOR._domainkey.DOMAIN.").required(),
                Key::new("key", Takes::Secret, "The private key in PEM, RSA or Ed25519.").required(),
                Key::new("domain", TEXT, "The domain that signs.").otherwise("that of `from`"),
            ]],
        },
        Shape {
            id: "action_list",
            head: "[action_list.NAME]",
            about: "What is done when a monitor's alarm rises, lasts and clears. The list `default` is that of all monitors that name none.",
            keys: &[&[Key::new(
                "actions",
                Takes::Tables(&["action.email", "action.webhook", "action.command", "action.syslog", "action.list"]),
                "The actions; each is of one of these kinds.",
            )
            .required()]],
        },
        Shape {
            id: "action.email",
            head: "[[action_list.NAME.actions]] with email",
            about: "A mail.",
            keys: &[
                &[
                    Key::new("email", TEXTS, "Operators or mail addresses.").required(),
                    Key::new("mail_server", NAME, "Through which mail server.").otherwise("the only one there is"),
                    Key::new("fallback", NAME, "Through which, if that one can't."),
                    Key::new("subject", TEMPLATE, "The mail's own subject, a Tera template.").otherwise("the built-in one"),
                    Key::new("text", TEMPLATE, "Its own text, likewise.").otherwise("the built-in one"),
                    Key::new("html", TEMPLATE, "The same as HTML, beside the text; values are escaped.").otherwise("the mail is plain text"),
                    Key::new("timeout", DURATION, "How long one try may take.").default("\"2m\""),
                ],
                ACTION,
            ],
        },
        Shape {
            id: "action.webhook",
            head: "[[action_list.NAME.actions]] with webhook",
            about: "An HTTP request.",
            keys: &[
                &[
                    Key::new("webhook", Takes::Table(&["webhook"]), "The request.").required(),
                    Key::new("timeout", DURATION, "How long one try may take.").default("\"30s\""),
                ],
                ACTION,
            ],
        },
        Shape {
            id: "action.command",
            head: "[[action_list.NAME.actions]] with command",
            about: "A program, which is told of the alarm in its environment and on its standard input.",
            keys: &[
                &[
                    Key::new("command", TEXTS, "The program and its arguments.").required(),
                    Key::new("environment", Takes::Pairs(&Takes::TextOrSecret), "Further variables of its environment."),
                    Key::new("timeout", DURATION, "How long one try may take; then its process group is killed.").default("\"30s\""),
                ],
                ACTION,
            ],
        },
        Shape {
            id: "action.syslog",
            head: "[[action_list.NAME.actions]] with syslog",
            about: "A line in a system log (RFC 5424).",
            keys: &[
                &[
                    Key::new("syslog", Takes::Table(&["syslog"]), "The log.").required(),
                    Key::new("timeout", DURATION, "How long one try may take.").default("\"30s\""),
                ],
                ACTION,
            ],
        },
        Shape {
            id: "action.list",
            head: "[[action_list.NAME.actions]] with list",
            about: "All actions of another list; what both ask for must be so, and times add up.",
            keys: &[
                &[
                    Key::new("list", NAME, "The other list.").required(),
                    Key::new("timeout", DURATION, "Has no meaning here: the actions of the other list have their own."),
                ],
                ACTION,
            ],
        },
        Shape {
            id: "webhook",
            head: "[action_list.NAME.actions.webhook]",
            about: "An HTTP request.",
            keys: &[
                &[
                    Key::new("kind", Takes::Words(&["slack", "teams", "pagerduty", "opsgenie", "ntfy"]), "Whose form the request has.").otherwise("that of `template` or `body`"),
                    Key::new("url", Takes::TextOrSecret, "Where it goes; a secret for Slack and Teams.").otherwise("PagerDuty's and Opsgenie's own"),
                    Key::new("key", Takes::Secret, "The key or token of the service."),
                    Key::new("headers", Takes::Pairs(&Takes::TextOrSecret), "Further header fields."),
                    Key::new("template", PATH, "A file with the content to send, a Tera template."),
                    Key::new("body", TEXT, "The same in place."),
                    Key::new("method", TEXT, "POST, PUT, PATCH or GET.").default("\"POST\""),
                    Key::new("content_type", Takes::Words(&["json", "form"]), "How the content is sent: as the template writes it, or the fields of the JSON object that it writes as a form, as SMS gateways expect (with GET in the address).").default("\"json\""),
                    Key::new("proxy", Takes::TextOrSecret, "The HTTP proxy: http://USER:PASSWORD@HOST:PORT, a secret where there is a password in it; or `none`.").otherwise("`proxy` at the top of the file, or that of the environment"),
                ],
                TRUST,
            ],
        },
        Shape {
            id: "syslog",
            head: "[action_list.NAME.actions.syslog]",
            about: "A system log.",
            keys: &[
                &[
                    Key::new("transport", Takes::Words(&["local", "udp", "tcp", "tls"]), "The way to it.").otherwise("`udp` where a server is named, else `local`"),
                    Key::new(
                        "facility",
                        Takes::Words(&[
                            "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "local0", "local1", "local2",
                            "local3", "local4", "local5", "local6", "local7",
                        ]),
                        "The facility.",
                    )
                    .default("\"daemon\""),
                    Key::new("socket", PATH, "Local: the socket of this machine's log.").otherwise("/dev/log"),
                    Key::new("server", TEXT, "Host name or IP address of the log server."),
                    Key::new("port", PORT, "Its port.").otherwise("514, with `tls` 6514"),
                    Key::new("framing", Takes::Words(&["octet-counting", "newline"]), "Over TCP and TLS: what tells lines apart, their length before them or a line feed behind them.").default("\"octet-counting\""),
                ],
                TRUST,
            ],
        },
        Shape {
            id: "maintenance",
            head: "[maintenance.NAME]",
            about: "A planned time in which no alarm rises and samples do not count in availability. When it is, say `from` with `to` or `lasts` (once), `hours` and `weekdays` (every week), or `cron` with `lasts`.",
            keys: &[
                &[
                    Key::new("monitors", TEXTS, "Which monitors: ids, `object:NAME`, `tag:NAME` or patterns such as `mail-*`.").otherwise("all"),
                    Key::new("reason", TEXT, "What for."),
                    Key::new("tests", Takes::Words(&["run", "pause"]), "Whether tests run in it.").default("\"run\""),
                    Key::new("from", Takes::of::<Moment>(), "When it begins."),
                    Key::new("to", Takes::of::<Moment>(), "When it ends."),
                    Key::new("cron", Takes::of::<Cron>(), "When it begins, again and again."),
                    Key::new("lasts", DURATION, "How long it is."),
                ],
                HOURS,
            ],
        },
        Shape {
            id: "target.folder",
            head: "[target.NAME] of kind folder",
            about: "Reports go to a folder, local or mounted.",
            keys: &[
                &[
                    Key::new("kind", Takes::Words(&["folder"]), "The kind.").required(),
                    Key::new("path", PATH, "The folder.").required(),
                ],
                FILES,
                TEMPORARY,
                URL,
            ],
        },
        Shape {
            id: "target.ftp",
            head: "[target.NAME] of kind ftp",
            about: "Reports go to an FTP server.",
            keys: &[
                &[
                    Key::new("kind", Takes::Words(&["ftp"]), "The kind.").required(),
                    Key::new("server", TEXT, "Host name or IP address.").required(),
                    Key::new("port", PORT, "TCP port.").otherwise("990 with `implicit`, else 21"),
                    Key::new("tls", Takes::Words(&["none", "explicit", "implicit"]), "Encryption: none, asked for in the conversation, or from the first byte.").default("\"explicit\""),
                    Key::new("account", ACCOUNT, "Who logs in.").otherwise("anonymous"),
                    Key::new("mode", Takes::Words(&["passive", "epsv", "pasv", "active"]), "Who opens the data connections: mailqos (`passive`: `EPSV`, and `PASV` where that leads nowhere; `epsv` and `pasv`: only that), or the server (`active`).").default("\"passive\""),
                    Key::new("encoding", Takes::Words(&["auto", "utf-8", "ascii"]), "How names beyond ASCII are written; `auto`: in UTF-8 where the server offers it, else in ASCII.").default("\"auto\""),
                ],
                SERVER_FILES,
                TRUST,
                FILES,
                TEMPORARY,
                URL,
            ],
        },
        Shape {
            id: "target.sftp",
            head: "[target.NAME] of kind sftp",
            about: "Reports go to an SSH server, over SFTP. Say `account` (a password), or `user` and `key_file`; with `account` and `key_file` its password is the key's passphrase.",
            keys: &[
                &[
                    Key::new("kind", Takes::Words(&["sftp"]), "The kind.").required(),
                    Key::new("server", TEXT, "Host name or IP address.").required(),
                    Key::new("port", PORT, "TCP port.").default("22"),
                    Key::new("account", ACCOUNT, "Who logs in with a password, or whose key needs this passphrase."),
                    Key::new("user", TEXT, "Who logs in with a key, where there is no account."),
                    Key::new("key_file", PATH, "The private key.").otherwise("those of the SSH client"),
                    Key::new("host_key", TEXTS, "The server's public key, or several: `ssh-ed25519 AAAA…`."),
                    Key::new("known_hosts", PATH, "A file of known servers.").otherwise("the user's own"),
                ],
                SERVER_FILES,
                FILES,
                TEMPORARY,
                URL,
            ],
        },
        Shape {
            id: "target.smb",
            head: "[target.NAME] of kind smb",
            about: "Reports go to a network share (SMB 2 and 3).",
            keys: &[
                &[
                    Key::new("kind", Takes::Words(&["smb"]), "The kind.").required(),
                    Key::new("server", TEXT, "Host name or IP address.").required(),
                    Key::new("port", PORT, "TCP port.").default("445"),
                    Key::new("account", ACCOUNT, "Who logs in; with `domain` where there is one."),
                    Key::new("share", TEXT, "The share's name.").required(),
                ],
                SERVER_FILES,
                FILES,
                TEMPORARY,
                URL,
            ],
        },
        Shape {
            id: "target.object-store",
            head: "[target.NAME] of kind object-store",
            about: "Reports go to an object store. Without options of its own it is reached as `[object_store]` says.",
            keys: &[
                &[
                    Key::new("kind", Takes::Words(&["object-store"]), "The kind.").required(),
                    Key::new("url", TEXT, "`s3://bucket/prefix`, `az://container/prefix` or `gs://bucket/prefix`.").required(),
                    Key::new("public_url", TEXT, "Where people find the folder with a browser, for links in mails."),
                ],
                OBJECT_STORE,
                FILES,
            ],
        },
        Shape {
            id: "target.email",
            head: "[target.NAME] of kind email",
            about: "Reports are mailed.",
            keys: &[&[
                Key::new("kind", Takes::Words(&["email"]), "The kind.").required(),
                Key::new("to", TEXTS, "Operators, groups or mail addresses, with or without names: `Anna Berg <anna@example.com>`.").required(),
                Key::new("cc", TEXTS, "Further recipients, shown.").default("[]"),
                Key::new("bcc", TEXTS, "Further recipients, not shown.").default("[]"),
                Key::new("reply_to", TEXTS, "Where answers go: operators, groups or mail addresses.").otherwise("the sender"),
                Key::new("mail_server", NAME, "Through which mail server.").otherwise("the only one there is"),
                Key::new("fallback", Takes::of::<Vec<Name>>(), "Mail servers that stand in for it, in this order.").default("[]"),
                Key::new("attachments", SIZE, "The most bytes of files in one mail, for recipients without a limit of their own.").otherwise("the server's limit"),
                Key::new("link_to", NAME, "For whom that is too much, the files are put to this target, and the mail says where they are."),
                Key::new("too_large", Takes::Words(&["leave", "split"]), "Without `link_to`: the mail without the files. (`\"split\"`, into several mails, is no longer done.)").default("\"leave\""),
                PATIENCE,
            ]],
        },
        Shape {
            id: "service_level",
            head: "[service_level.NAME]",
            about: "What was promised of which monitors, over which period, in which hours. At least one of `availability`, `uptime`, `delivered_within` and `percentile` must be said.",
            keys: &[&[
                Key::new("name", TEXT, "What people call it.").otherwise("the name of the table"),
                Key::new("monitors", TEXTS, "Which monitors: ids, `object:NAME`, `tag:NAME` or patterns such as `mail-*`.").otherwise("all"),
                Key::new("sites", TEXTS, "Seen from which sites.").otherwise("all"),
                Key::new("judge", Takes::Words(&["each", "together"]), "Each monitor by itself, or all as one.").default("\"each\""),
                Key::new("availability", SHARE, "At least this share of the counted tests succeeds."),
                Key::new("uptime", SHARE, "At least this share of the time is up."),
                Key::new("delivered_within", Takes::Pairs(&SHARE), "Within which time which share of the mails lands: `{ \"30s\" = \"99%\" }`."),
                Key::new("percentile", Takes::Table(&["service_level.percentile"]), "The most that percentiles may be: `{ round_trip = { p95 = \"10s\" } }`."),
                Key::new("period", Takes::of::<LevelPeriod>(), "Over which period.").default("\"month\""),
                Key::new("hours", TEXTS, "When it counts: `\"Mon-Fri 07:00-19:00\"`, or several.").otherwise("around the clock"),
                Key::new("holidays", Takes::of::<Vec<crate::DateText>>(), "Days on which it does not: `\"2026-12-24\"`, or `\"12-25\"` of every year.").default("[]"),
                Key::new("holidays_file", PATH, "A text file with such days, one a line."),
                Key::new("timezone", ZONE, "The zone of its periods and hours.").otherwise("that of the file"),
                Key::new("min_coverage", SHARE, "With less of the service hours known, nothing is decided.").default("\"90%\""),
            ]],
        },
        Shape {
            id: "service_level.percentile",
            head: "[service_level.NAME.percentile]",
            about: "Of each timing, percentiles (`p95`, `p99.9`) and the most that they may be.",
            keys: &[&[
                Key::new("round_trip", Takes::Pairs(&DURATION), "Of the round trip."),
                Key::new("smtp_connect", Takes::Pairs(&DURATION), "Of opening the SMTP connection."),
                Key::new("smtp_send", Takes::Pairs(&DURATION), "Of sending."),
                Key::new("pickup_connect", Takes::Pairs(&DURATION), "Of opening the connection to the mailbox."),
                Key::new("pickup_login", Takes::Pairs(&DURATION), "Of the login."),
                Key::new("pickup_receive", Takes::Pairs(&DURATION), "Of receiving."),
            ]],
        },
    ],
};

const ROOT: &[Key] = &[
    Key::new(
        "site",
        Takes::of::<SiteName>(),
        "The name of the place that this probe measures from.",
    )
    .otherwise("must be said, in the main file only"),
    Key::new(
        "include",
        Takes::of::<Vec<PathBuf>>(),
        "More files, or folders of files (`*.toml`), with tables of named things.",
    )
    .default("[]"),
    Key::new(
        "data",
        TEXT,
        "The sample lake: a folder, or an object store (`s3://bucket/prefix`, `az://…`, `gs://…`).",
    )
    .default("\"data\""),
    Key::new("state", PATH, "Local folder of journal, locks, keys and queues.")
        .otherwise("`state` in the folder of `data`"),
    Key::new("timezone", ZONE, "The zone of calendars and reports that name none.").otherwise("the machine's"),
    Key::new(
        "seal_interval",
        DURATION,
        "How often recorded samples are sealed into the day's Parquet file, from 1s to a day.",
    )
    .default("\"5m\""),
    Key::new(
        "retention",
        DURATION,
        "Days older than this are removed from the lake; at least a day.",
    )
    .otherwise("everything is kept"),
    Key::new("signing_key", Takes::Secret, "The key that signs the test mails.")
        .otherwise("a file in `state`, made at the first start"),
    Key::new(
        "proxy",
        Takes::TextOrSecret,
        "The HTTP proxy for webhooks, OAuth tokens and object stores: http://USER:PASSWORD@HOST:PORT, a secret where there is a password in it; or `none`.",
    )
    .otherwise("that of the environment (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY)"),
    Key::new(
        "no_proxy",
        TEXTS,
        "Servers that are reached without `proxy`: names with all names below them, addresses, networks; each with a port or not.",
    )
    .otherwise("those in NO_PROXY of the environment"),
    Key::new(
        "allow_plaintext_secrets",
        SWITCH,
        "Whether secrets may stand in this file in clear.",
    )
    .default("false"),
    Key::new(
        "metrics",
        TEXT,
        "Where the OpenMetrics endpoint listens: `127.0.0.1:9925`.",
    )
    .otherwise("there is none"),
    Key::new(
        "reference_addresses",
        TEXTS,
        "`HOST:PORT` of things that answer as long as the probe has a network.",
    )
    .default("[]"),
    Key::new("templates", PATH, "Folder of your own report templates.").default("\"templates\""),
    Key::new("reports", PATH, "Folder of report definitions.").default("\"reports\""),
    Key::new("limits", Takes::Table(&["limits"]), "How many tests run at once."),
    Key::new(
        "object_store",
        Takes::Table(&["object_store"]),
        "How the object store of `data` is reached.",
    ),
    Key::new(
        "delivery",
        Takes::Table(&["delivery"]),
        "What holds for all deliveries.",
    ),
    Key::new("defaults", Takes::Table(&["defaults"]), "What holds for all monitors."),
    Key::new("account", Takes::Named(&["account"]), "Credentials."),
    Key::new("object", Takes::Named(&["object"]), "Hosts and services under watch."),
    Key::new("monitor", Takes::Named(&["monitor"]), "Tests."),
    Key::new(
        "operator",
        Takes::Named(&["operator"]),
        "People and groups who are told.",
    ),
    Key::new(
        "mail_server",
        Takes::Named(&["mail_server"]),
        "SMTP servers for alarms and reports.",
    ),
    Key::new(
        "action_list",
        Takes::Named(&["action_list"]),
        "What is done in an alarm.",
    ),
    Key::new(
        "maintenance",
        Takes::Named(&["maintenance"]),
        "Planned times without alarms.",
    ),
    Key::new(
        "target",
        Takes::Named(&[
            "target.folder",
            "target.ftp",
            "target.sftp",
            "target.smb",
            "target.object-store",
            "target.email",
        ]),
        "Where reports go.",
    ),
    Key::new("service_level", Takes::Named(&["service_level"]), "What was promised."),
];

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

const TRUST: &[Key] = &[
    Key::new(
        "ca_file",
        PATH,
        "A file of PEM certificates that are trusted instead of the platform's.",
    ),
    Key::new(
        "fingerprint",
        TEXT,
        "SHA-256 of the server's certificate, 64 hexadecimal digits; nothing else is then accepted.",
    ),
    Key::new(
        "insecure",
        SWITCH,
        "Accept any certificate; `check` warns, and reports say so.",
    )
    .default("false"),
];

const OBJECT_STORE: &[Key] = &[
    Key::new(
        "endpoint",
        TEXT,
        "Address of a store that is not the cloud's own: `https://minio.example.com:9000`.",
    ),
    Key::new("region", TEXT, "Region of the bucket."),
    Key::new(
        "account",
        ACCOUNT,
        "Who asks: access key id and secret (S3), storage account and key (Azure), the service account's JSON as the password (Google).",
    ),
    Key::new(
        "ca_file",
        PATH,
        "A file of PEM certificates that are trusted beside the platform's.",
    ),
    Key::new("allow_http", SWITCH, "The endpoint may be one without TLS.").default("false"),
];

const HOURS: &[Key] = &[
    Key::new("hours", Takes::of::<Vec<Span>>(), "Times of day.").otherwise("the whole day"),
    Key::new("weekdays", Takes::of::<Vec<Days>>(), "Days of the week.").otherwise("all"),
    Key::new("timezone", ZONE, "The zone of these.").otherwise("that of the file"),
];

const ACTION: &[Key] = &[
    Key::new(
        "on",
        Takes::Words(&["both", "alarm", "recovery"]),
        "What it tells; with `both` the recovery goes to those who were told of the alarm.",
    )
    .default("\"both\""),
    Key::new("at_failure", COUNT, "Not before so many tests in a row have failed.").default("0"),
    Key::new("after", DURATION, "Not before the alarm has lasted so long.").default("\"0s\""),
    Key::new(
        "repeat",
        DURATION,
        "Again after this time, while the alarm lasts and nobody has acknowledged it.",
    )
    .otherwise("once"),
    Key::new(
        "retry_for",
        DURATION,
        "How long a message is tried. An alarm that is still open is tried on after that.",
    )
    .default("\"1d\""),
    Key::new("hours", Takes::of::<Vec<Span>>(), "Only at these times of day.").otherwise("at any"),
    Key::new("weekdays", Takes::of::<Vec<Days>>(), "Only on these days of the week.").otherwise("on all"),
    Key::new("timezone", ZONE, "The zone of these.").otherwise("that of the file"),
];

const PATIENCE: Key = Key::new("patience", DURATION, "How long a delivery is tried.").otherwise("as `[delivery]` says");

const FILES: &[Key] = &[
    Key::new(
        "existing",
        Takes::Words(&["replace", "refuse"]),
        "What happens where another file of the name is there.",
    )
    .default("\"replace\""),
    Key::new(
        "verify",
        Takes::Words(&["hash", "size"]),
        "How it is checked that a file has arrived: read back, or by its size.",
    )
    .default("\"hash\""),
    Key::new("keep", DURATION, "Files delivered longer ago are removed.").otherwise("none are"),
    Key::new(
        "keep_last",
        COUNT,
        "Of each report, the files of the last so many runs are kept.",
    )
    .otherwise("all are"),
    PATIENCE,
];

const URL: &[Key] = &[Key::new(
    "url",
    TEXT,
    "Where people find the folder with a browser, for links in mails.",
)];

const TEMPORARY: &[Key] = &[Key::new(
    "temporary",
    TEXT,
    "The name that a file has until it is whole: a pattern with `{{ name }}` and, best, `{{ hash }}`; or `none` to write it under its final name.",
)
.default("\".{{ name }}.{{ hash }}.part\"")];

const SERVER_FILES: &[Key] = &[
    Key::new("path", TEXT, "Folder on the server.").default("\"\""),
    Key::new("timeout", DURATION, "Deadline of each step, from 1s to 10m.").default("\"30s\""),
];
