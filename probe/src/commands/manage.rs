//! `add`, `list`, `show`, `enable`, `disable`, `remove`: objects, accounts and monitors in the
//! configuration files.

use std::{path::PathBuf, process::ExitCode};

use mailqos_config::Config;
use mailqos_model::Micros;
use toml_edit::{Item, Table, Value};

use super::{
    Failure, Format, Global,
    edit::{Edit, inline, list},
    print_line, select, terminal, write_out,
};

/// Prints how to apply a change to a running probe.
fn hint_at_reload() {
    tracing::info!("apply it to a running probe with: mailqos-probe reload");
}

#[derive(Debug, clap::Args)]
pub(super) struct AddArgs {
    #[command(subcommand)]
    what: Add,
}

#[derive(Debug, clap::Subcommand)]
#[expect(clippy::large_enum_variant, reason = "just created")]
enum Add {
    /// Monitored host or service.
    Object {
        /// Id of the object.
        id: String,
        /// Host name or IP address.
        #[arg(long)]
        address: String,
        /// Display name.
        #[arg(long)]
        name: Option<String>,
        /// Tag to select by (repeatable).
        #[arg(long = "tag")]
        tags: Vec<String>,
    },
    /// Credentials; the password is stored separately.
    Account {
        /// Name of the account.
        id: String,
        /// User name for login.
        #[arg(long)]
        user: String,
        /// Environment variable with the password.
        #[arg(long, required_unless_present_any = ["password_file", "password_credential"])]
        password_env: Option<String>,
        /// File with the password.
        #[arg(long, conflicts_with = "password_env")]
        password_file: Option<PathBuf>,
        /// Service manager credential with the password.
        #[arg(long, conflicts_with_all = ["password_env", "password_file"])]
        password_credential: Option<String>,
    },
    /// Test of an object; omitted settings come from the defaults.
    Monitor {
        /// Id of the monitor.
        id: String,
        /// Object to monitor.
        #[arg(long)]
        object: String,
        /// Display name.
        #[arg(long)]
        name: Option<String>,
        /// Kind of test: mail-qos (send and pick up a mail) or mailbox (log in and list).
        #[arg(long)]
        kind: Option<String>,
        /// Sender of the test mails.
        #[arg(long)]
        from: Option<String>,
        /// Mail address of the mailbox.
        #[arg(long)]
        to: Option<String>,
        /// Way of sending: smtp or graph.
        #[arg(long)]
        smtp_protocol: Option<String>,
        /// SMTP server, if it differs from the object's address.
        #[arg(long)]
        smtp_server: Option<String>,
        /// Port of the SMTP server.
        #[arg(long)]
        smtp_port: Option<u16>,
        /// Encryption of SMTP: none, starttls or implicit.
        #[arg(long)]
        smtp_tls: Option<String>,
        /// Account for the SMTP login.
        #[arg(long)]
        smtp_account: Option<String>,
        /// Mailbox protocol: pop3, imap or graph.
        #[arg(long)]
        protocol: Option<String>,
        /// Mailbox server, if it differs from the object's address.
        #[arg(long)]
        pickup_server: Option<String>,
        /// Port of the mailbox server.
        #[arg(long)]
        pickup_port: Option<u16>,
        /// Encryption of the pick-up: none, starttls or implicit.
        #[arg(long)]
        pickup_tls: Option<String>,
        /// Account for the mailbox login.
        #[arg(long)]
        pickup_account: Option<String>,
        /// Maximum round trip that counts as ok, such as 5m.
        #[arg(long)]
        max_round_trip: Option<Micros>,
        /// Wait before the first pick-up and between pick-ups, such as 30s.
        #[arg(long)]
        check_interval: Option<Micros>,
        /// Time between the starts of two tests, such as 5m.
        #[arg(long)]
        test_interval: Option<Micros>,
        /// Cron expression instead of an interval.
        #[arg(long, conflicts_with = "test_interval")]
        schedule: Option<String>,
        /// Time zone of the cron expression.
        #[arg(long, requires = "schedule")]
        timezone: Option<String>,
        /// Action list for its alarms.
        #[arg(long)]
        action_list: Option<String>,
        /// Tag to select by (repeatable).
        #[arg(long = "tag")]
        tags: Vec<String>,
    },
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum EntryKind {
    Object,
    Account,
    Monitor,
}

impl EntryKind {
    fn key(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Account => "account",
            Self::Monitor => "monitor",
        }
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// Kind of entries to list.
    #[arg(value_enum, default_value_t = EntryKind::Monitor)]
    what: EntryKind,
    /// Monitors: ids, object:NAME, tag:NAME, patterns such as "mail-*" [default: all].
    monitors: Vec<String>,
    /// Output format.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// Id of the monitor.
    monitor: String,
    /// Output format.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Debug, clap::Args)]
pub(super) struct SwitchArgs {
    /// Monitors: ids, object:NAME, tag:NAME, patterns such as "mail-*".
    #[arg(required = true)]
    monitors: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct RemoveArgs {
    /// Kind of entry to remove.
    #[arg(value_enum)]
    what: EntryKind,
    /// Id of the entry.
    id: String,
}

fn set(table: &mut Table, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        table.insert(key, Item::Value(value.into()));
    }
}

/// Returns an inline table of the options that were given; `None` if there are none.
fn said<const N: usize>(pairs: [(&'static str, Option<Value>); N]) -> Option<Value> {
    let pairs: Vec<_> = pairs.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    (!pairs.is_empty()).then(|| inline(pairs))
}

pub(super) fn add(args: AddArgs, global: &Global) -> Result<ExitCode, Failure> {
    let mut edit = Edit::main(global.path())?;
    let mut table = Table::new();
    let (kind, id) = match args.what {
        Add::Object { id, address, name, tags } => {
            set(&mut table, "address", Some(address));
            set(&mut table, "name", name);
            set(&mut table, "tags", (!tags.is_empty()).then(|| list(&tags)));
            ("object", id)
        }
        Add::Account { id, user, password_env, password_file, password_credential } => {
            set(&mut table, "user", Some(user));
            let file = password_file
                .map(|path| std::path::absolute(&path).unwrap_or(path).display().to_string());
            let password = said([
                ("env", password_env.map(Value::from)),
                ("file", file.map(Value::from)),
                ("credential", password_credential.map(Value::from)),
            ]);
            set(&mut table, "password", password);
            ("account", id)
        }
        Add::Monitor {
            id,
            object,
            name,
            kind,
            from,
            to,
            smtp_protocol,
            smtp_server,
            smtp_port,
            smtp_tls,
            smtp_account,
            protocol,
            pickup_server,
            pickup_port,
            pickup_tls,
            pickup_account,
            max_round_trip,
            check_interval,
            test_interval,
            schedule,
            timezone,
            action_list,
            tags,
        } => {
            set(&mut table, "object", Some(object));
            set(&mut table, "kind", kind);
            set(&mut table, "name", name);
            set(&mut table, "from", from);
            set(&mut table, "to", to);
            let port = |port: Option<u16>| port.map(|port| Value::from(i64::from(port)));
            let smtp = said([
                ("protocol", smtp_protocol.map(Value::from)),
                ("server", smtp_server.map(Value::from)),
                ("port", port(smtp_port)),
                ("tls", smtp_tls.map(Value::from)),
                ("account", smtp_account.map(Value::from)),
            ]);
            let pickup = said([
                ("protocol", protocol.map(Value::from)),
                ("server", pickup_server.map(Value::from)),
                ("port", port(pickup_port)),
                ("tls", pickup_tls.map(Value::from)),
                ("account", pickup_account.map(Value::from)),
            ]);
            set(&mut table, "smtp", smtp);
            set(&mut table, "pickup", pickup);
            for (key, value) in [
                ("max_round_trip", max_round_trip),
                ("check_interval", check_interval),
                ("test_interval", test_interval),
            ] {
                set(&mut table, key, value.map(|value| value.to_string()));
            }
            set(&mut table, "schedule", schedule);
            set(&mut table, "timezone", timezone);
            set(&mut table, "action_list", action_list);
            set(&mut table, "tags", (!tags.is_empty()).then(|| list(&tags)));
            ("monitor", id)
        }
    };
    edit.add(kind, &id, "", table)?;
    let path = edit.save()?;
    print_line(&format!("{kind} {id} added to {}", path.display()))?;
    hint_at_reload();
    Ok(ExitCode::SUCCESS)
}

pub(super) fn show_list(args: &ListArgs, global: &Global) -> Result<ExitCode, Failure> {
    let config = global.config()?;
    let rows: Vec<Vec<(&str, String)>> = match args.what {
        EntryKind::Object => config
            .objects
            .iter()
            .map(|(id, object)| {
                let monitors =
                    config.monitors.values().filter(|monitor| monitor.object == *id).count();
                vec![
                    ("id", id.to_string()),
                    ("address", object.address.clone()),
                    ("monitors", monitors.to_string()),
                    ("tags", object.tags.iter().cloned().collect::<Vec<_>>().join(" ")),
                    ("name", object.name.clone()),
                ]
            })
            .collect(),
        EntryKind::Account => config
            .accounts
            .iter()
            .map(|(id, account)| vec![("id", id.to_string()), ("user", account.user.clone())])
            .collect(),
        EntryKind::Monitor => select(&config, &args.monitors)?
            .into_iter()
            .map(|monitor| {
                let when = match &monitor.calendar {
                    Some(calendar) => calendar.cron.as_str().to_owned(),
                    None => monitor.test_interval.to_string(),
                };
                vec![
                    ("id", monitor.id.to_string()),
                    ("object", monitor.object.to_string()),
                    ("enabled", if monitor.enabled { "yes" } else { "no" }.to_owned()),
                    ("tested", when),
                    (
                        "action_list",
                        monitor
                            .action_list
                            .as_ref()
                            .map_or("none", |list| list.as_ref())
                            .to_owned(),
                    ),
                    ("tags", monitor.tags.iter().cloned().collect::<Vec<_>>().join(" ")),
                    ("name", monitor.name.clone()),
                ]
            })
            .collect(),
    };
    if args.format == Format::Json {
        let rows: Vec<serde_json::Value> = rows
            .into_iter()
            .map(|row| {
                row.into_iter()
                    .map(|(key, value)| (key.to_owned(), value.into()))
                    .collect::<serde_json::Map<_, _>>()
                    .into()
            })
            .collect();
        print_line(&serde_json::Value::Array(rows).to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(first) = rows.first() else {
        print_line("none")?;
        return Ok(ExitCode::SUCCESS);
    };
    let head: Vec<&str> = first.iter().map(|(key, _)| *key).collect();
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|(_, value)| value.clone()).collect()).collect();
    print_line(terminal::table(&head, &rows).trim_end())?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn show(args: &ShowArgs, global: &Global) -> Result<ExitCode, Failure> {
    let config = global.config()?;
    let monitor = super::test::find(&config, &args.monitor)?;
    let object = config.objects.get(&monitor.object);
    let mut rows = vec![
        ("monitor", monitor.id.to_string()),
        ("name", monitor.name.clone()),
        ("object", format!("{} ({})", monitor.object, object.map_or("", |object| &object.address))),
        ("enabled", monitor.enabled.to_string()),
        ("tags", monitor.tags.iter().cloned().collect::<Vec<_>>().join(" ")),
    ];
    rows.extend(monitor.kind.options());
    rows.extend([
        ("alarm_after", monitor.alarm.after.to_string()),
        (
            "action_list",
            monitor.action_list.as_ref().map_or("none", |list| list.as_ref()).to_owned(),
        ),
    ]);
    rows.push(match &monitor.calendar {
        Some(calendar) => ("schedule", calendar.cron.as_str().to_owned()),
        None => ("test_interval", monitor.test_interval.to_string()),
    });
    let depends: Vec<&str> = monitor.alarm.depends_on.iter().map(|id| id.as_str()).collect();
    if !depends.is_empty() {
        rows.push(("depends_on", depends.join(" ")));
    }
    if args.format == Format::Json {
        let object: serde_json::Map<String, serde_json::Value> =
            rows.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
        print_line(&serde_json::Value::Object(object).to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    for (key, value) in rows {
        print_line(format!("{key:<16} {value}").trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn switch(
    args: &SwitchArgs,
    enabled: bool,
    global: &Global,
) -> Result<ExitCode, Failure> {
    let config: Config = global.config()?;
    let chosen = select(&config, &args.monitors)?;
    // Write each file once and validate once, because there may be ten thousand monitors.
    let mut edits = Edit::all(global.path())?;
    let mut lines = String::new();
    for monitor in chosen {
        let id = monitor.id.as_str();
        let Some(edit) = edits.iter_mut().find(|edit| edit.has("monitor", id)) else {
            continue;
        };
        if monitor.enabled != enabled
            && let Some(table) = edit.document["monitor"][id].as_table_like_mut()
        {
            table.insert("enabled", toml_edit::value(enabled));
        }
        lines.push_str(&format!("{id}: {}\n", if enabled { "enabled" } else { "disabled" }));
    }
    let written = Edit::save_all(&edits)?;
    write_out(lines.as_bytes())?;
    if written {
        hint_at_reload();
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn remove(args: &RemoveArgs, global: &Global) -> Result<ExitCode, Failure> {
    let kind = args.what.key();
    let mut edit = Edit::find(global.path(), kind, &args.id)?;
    if let Some(table) = edit.document[kind].as_table_like_mut() {
        table.remove(&args.id);
    }
    let path = edit.save()?;
    print_line(&format!("{kind} {} removed from {}", args.id, path.display()))?;
    hint_at_reload();
    Ok(ExitCode::SUCCESS)
}
