//! `mailqos-probe init`: sets up a monitor from prompts or options. Tests its connections, shows
//! the certificates, writes the configuration with comments, and runs one test. Existing entries of
//! the configuration can be reused and are preserved.

mod discovery;
mod graph;
mod login;
mod notify;
mod presets;
mod prompter;
mod servers;

use std::{
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use graph::{Access, GRAPH};
use inquire::Select;
use login::{LoginArgs, PASSWORD, Secrets};
use mailqos_config as config;
use mailqos_config::{Config, Proxy};
use mailqos_discovery::tls_word;
use mailqos_model::{Micros, Name, SiteName};
use notify::{Connections, NotifyArgs};
use presets::{PROVIDERS, Provider};
use prompter::{
    Prompter, absolute, is_duration, is_host, is_mail_address, is_shorter_than, is_word,
};
use servers::{Role, Server, ServerOptions};
use toml_edit::Table;

use super::{Failure, Global, discover::DiscoveryArgs, edit::Edit, test};

/// End of a new configuration.
const HINT: &str = r##"
# Who is notified when mail fails, over a channel that does not depend on it: remove the "#" and adapt.
# [action_list.default]
# actions = [{ webhook = { kind = "ntfy", url = "https://ntfy.example.net/mail-alarms" } }]
"##;

/// Comment above a monitor that sends mails.
const OF_MAIL: &str = "Sends a mail through smtp and picks it up from the mailbox.\n\
     max_round_trip: the longest round trip that counts as ok; check_interval: time between pick-ups;\n\
     test_interval: time between tests.";
/// Comment above a monitor of a mailbox.
const OF_MAILBOX: &str =
    "Logs in to the mailbox and lists it; nothing is sent, deleted or marked as read.";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// E-mail address of the mailbox, used to find its servers.
    #[arg(value_name = "EMAIL", conflicts_with = "mailbox")]
    email: Option<String>,
    /// Name of the site that the probe measures from.
    #[arg(long)]
    site: Option<String>,
    /// Kind of test: mail-qos (send and pick up a mail) or mailbox (log in and list).
    #[arg(long, value_parser = ["mail-qos", "mailbox"], default_value = "mail-qos", hide_possible_values = true)]
    kind: String,
    /// Mail provider, which sets servers, ports and encryption.
    #[arg(long, value_parser = presets::words())]
    preset: Option<String>,
    /// Host name or IP address of the mail server.
    #[arg(long)]
    address: Option<String>,
    /// Id of a new or existing object [default: derived from the address].
    #[arg(long)]
    object: Option<String>,
    /// Id of the monitor [default: id of the object].
    #[arg(long)]
    monitor: Option<String>,
    /// Address of the SMTP server, if it differs from the object's.
    #[arg(long)]
    smtp_server: Option<String>,
    /// Port of the SMTP server.
    #[arg(long)]
    smtp_port: Option<u16>,
    /// Encryption of SMTP: none, starttls or implicit.
    #[arg(long, value_parser = ["none", "starttls", "implicit"])]
    smtp_tls: Option<String>,
    /// Mailbox protocol: pop3, imap or graph (Microsoft Graph, which also sends).
    #[arg(long, value_parser = ["pop3", "imap", "graph"], hide_possible_values = true)]
    protocol: Option<String>,
    /// Address of the mailbox server, if it differs from the object's.
    #[arg(long)]
    pickup_server: Option<String>,
    /// Port of the mailbox server.
    #[arg(long)]
    pickup_port: Option<u16>,
    /// Encryption of the pick-up: none, starttls or implicit.
    #[arg(long, value_parser = ["none", "starttls", "implicit"])]
    pickup_tls: Option<String>,
    /// Id of a new or existing account [default: id of the object].
    #[arg(long)]
    account: Option<String>,
    /// Mail address of the mailbox: sender and recipient of the test mails.
    #[arg(long)]
    mailbox: Option<String>,
    /// Microsoft Graph: another mailbox of the tenant, to verify that the application can't reach it.
    #[arg(long, value_name = "ADDRESS")]
    other_mailbox: Option<String>,
    /// User name for login [default: address of the mailbox].
    #[arg(long)]
    user: Option<String>,
    #[command(flatten)]
    login: LoginArgs,
    #[command(flatten)]
    discovery: DiscoveryArgs,
    /// Maximum round trip that counts as ok, such as 5m.
    #[arg(long)]
    max_round_trip: Option<Micros>,
    /// Wait before the first pick-up and between pick-ups, such as 30s.
    #[arg(long)]
    check_interval: Option<Micros>,
    /// Time between the starts of two tests, such as 5m.
    #[arg(long)]
    test_interval: Option<Micros>,
    /// PEM file with the certificate authority of the servers.
    #[arg(long)]
    ca_file: Option<PathBuf>,
    /// Accept untrusted certificates and pin their fingerprints.
    #[arg(long)]
    pin: bool,
    /// Don't prompt; use defaults for everything not given.
    #[arg(long)]
    yes: bool,
    /// Don't connect to servers and don't run a test.
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    notify: NotifyArgs,
}

/// Converts a typed name to lower case without spaces.
fn folded(text: &str) -> String {
    text.to_lowercase().split_whitespace().collect::<Vec<_>>().join("-")
}

/// Checks that a text is, apart from case and spaces, a valid site name.
fn is_site(text: &str) -> Result<(), String> {
    let parsed = folded(text).parse::<SiteName>();
    parsed.map(|_| ()).map_err(|error| error.to_string())
}

/// Converts typed text to an id.
fn id_of(text: &str) -> String {
    let id: String = text
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' })
        .take(64)
        .collect();
    if id.chars().all(|c| c == '.') { "mail".to_owned() } else { id }
}

/// Returns a check that a text is a valid id that is not in use yet.
fn is_free(taken: Vec<String>, what: &'static str) -> impl Fn(&str) -> Result<(), String> + Clone {
    move |text: &str| {
        text.parse::<Name>().map(|_| ()).map_err(|error| error.to_string())?;
        if taken.iter().any(|known| known == text) {
            return Err(format!("{what} with this name already exists"));
        }
        Ok(())
    }
}

/// Returns the name, with a number appended if it is already in use.
fn free(name: &str, taken: &[String]) -> String {
    (1u32..)
        .map(|number| if number == 1 { name.to_owned() } else { format!("{name}-{number}") })
        .find(|name| !taken.contains(name))
        .unwrap_or_default()
}

fn names<T: ToString>(names: impl Iterator<Item = T>) -> Vec<String> {
    names.map(|name| name.to_string()).collect()
}

/// Prompts for the maximum round trip and check interval.
fn mail_durations(
    prompter: Prompter,
    (max_round_trip, check_interval): (Option<Micros>, Option<Micros>),
) -> Result<Vec<(&'static str, String)>, Failure> {
    let max_round_trip = prompter.text(
        max_round_trip.map(|said| said.to_string()),
        "Maximum round trip",
        "--max-round-trip",
        Some("2m"),
        is_duration,
    )?;
    let check_interval = prompter.text(
        check_interval.map(|said| said.to_string()),
        "Check interval",
        "--check-interval",
        Some("5s"),
        is_shorter_than(max_round_trip.parse().unwrap_or(Micros::ZERO)),
    )?;
    Ok(vec![("max_round_trip", max_round_trip), ("check_interval", check_interval)])
}

/// The object, account and monitor to write.
struct Plan {
    object: String,
    is_new_object: bool,
    account: String,
    is_new_account: bool,
    monitor: String,
}

/// The servers of a monitor.
struct Servers {
    /// `None` if nothing is sent.
    smtp: Option<Server>,
    protocol: String,
    pickup: Server,
}

impl Servers {
    /// Prompts for the servers. Settings from a provider's preset are not prompted for; options
    /// take precedence.
    fn ask(
        prompter: Prompter,
        args: &mut Args,
        preset: Option<&'static Provider>,
        (address, proxy): (&str, &Proxy),
    ) -> Result<Self, Failure> {
        let ca_file = args.ca_file.take().map(absolute);
        if args.is_over_graph() {
            let place = (args.login.graph_server(), args.pickup_server.take());
            let graph = Server::graph(place, args.pickup_port, ca_file, proxy.clone());
            let smtp = args.sends().then(|| graph.clone());
            return Ok(Self { smtp, protocol: GRAPH.to_owned(), pickup: graph });
        }
        let of_preset = preset.and_then(|preset| preset.server(Role::Smtp.protocol()?));
        let smtp = ServerOptions {
            server: args.smtp_server.take(),
            port: args.smtp_port.or(of_preset.as_ref().map(|server| server.port)),
            tls: args.smtp_tls.take().or(of_preset.map(|server| tls_word(server.tls).to_owned())),
        };
        let smtp = match args.sends() {
            true => Some(Server::ask(prompter, Role::Smtp, address, smtp, ca_file.clone())?),
            false => None,
        };
        let protocol = args.protocol.take();
        let protocol = prompter.choice(protocol, "Mailbox protocol", &["imap", "pop3"], "imap")?;
        let role = if protocol == "imap" { Role::Imap } else { Role::Pop3 };
        let of_preset = preset.and_then(|preset| preset.server(role.protocol()?));
        let pickup = ServerOptions {
            server: args
                .pickup_server
                .take()
                .or(of_preset.as_ref().map(|server| server.host.clone()))
                .filter(|server| *server != address),
            port: args.pickup_port.or(of_preset.as_ref().map(|server| server.port)),
            tls: args.pickup_tls.take().or(of_preset.map(|server| tls_word(server.tls).to_owned())),
        };
        Ok(Self { smtp, pickup: Server::ask(prompter, role, address, pickup, ca_file)?, protocol })
    }

    /// Connects to the servers.
    async fn try_them(&mut self, pin: bool, prompter: Prompter) -> Result<(), Failure> {
        if self.protocol == GRAPH {
            self.pickup.try_it(pin, None, prompter).await?;
            // The same service sends.
            self.smtp = self.smtp.as_ref().map(|_| self.pickup.clone());
            return Ok(());
        }
        if let Some(smtp) = &mut self.smtp {
            smtp.try_it(pin, None, prompter).await?;
        }
        let authority = self.smtp.as_ref().and_then(Server::authority);
        self.pickup.try_it(pin, authority, prompter).await
    }
}

/// The answers from which a monitor is written.
struct Answers {
    /// `None` if the configuration has a site.
    site: Option<String>,
    preset: Option<&'static Provider>,
    address: String,
    plan: Plan,
    mailbox: String,
    /// `None` if the account exists.
    user: Option<String>,
    servers: Servers,
}

impl Answers {
    /// Prompts for everything but the login and the durations.
    fn ask(prompter: Prompter, args: &mut Args, there: Option<&Config>) -> Result<Self, Failure> {
        let site = match there {
            Some(_) => None,
            None => {
                let site = args.site.take();
                let site = prompter.text(
                    site,
                    "Site name (the location of this probe)",
                    "--site",
                    Some("here"),
                    is_site,
                )?;
                Some(folded(&site))
            }
        };
        let preset = chosen_preset(prompter, args.preset.as_deref())?;
        args.choose_graph(prompter, preset)?;
        let preset = match args.is_over_graph() {
            true => Provider::by_word(discovery::MICROSOFT),
            false => preset,
        };
        if args.is_over_graph() {
            graph::show_hint();
        } else if let Some(preset) = preset {
            let _ = writeln!(std::io::stderr(), "{preset}: {}", preset.hint);
        }
        let address = args.address.take();
        let of_preset = preset.and_then(|preset| preset.server(Role::Smtp.protocol()?));
        let address = match (address, of_preset) {
            (None, _) if args.is_over_graph() => args.login.graph_server().to_owned(),
            (None, Some(server)) => server.host,
            (address, _) => prompter.text(
                address,
                "Mail server (host name or IP address)",
                "--address",
                None,
                is_host,
            )?,
        };
        let usual = id_of(preset.map_or(&address, |preset| preset.word));
        let plan = plan(prompter, there, &address, &usual, args)?;
        let mailbox = prompter.text(
            args.mailbox.take(),
            "E-mail address of the test mailbox",
            "--mailbox",
            mailbox_of(there, &plan).as_deref(),
            is_mail_address,
        )?;
        let user = if plan.is_new_account {
            let user = args.user.take();
            Some(prompter.text(
                user,
                "User name of the mailbox",
                "--user",
                Some(&mailbox),
                is_word,
            )?)
        } else {
            None
        };
        let proxy = there.map(|there| there.proxy.clone()).unwrap_or_default();
        let servers = Servers::ask(prompter, args, preset, (&address, &proxy))?;
        Ok(Self { site, preset, address, plan, mailbox, user, servers })
    }

    /// Adds the site, the account and the object if they are new.
    fn write_surroundings(
        &self,
        edit: &mut Edit,
        login: Option<(&'static str, toml_edit::Value)>,
    ) -> Result<(), Failure> {
        if let Some(site) = &self.site {
            edit.top(
                "site",
                site.clone(),
                "The location that this probe measures from; part of folder names in the lake.",
            );
        }
        if let (Some(user), Some((key, login))) = (&self.user, login) {
            let mut table = Table::new();
            table.insert("user", user.as_str().into());
            table.insert(key, toml_edit::Item::Value(login));
            edit.add(
                "account",
                &self.plan.account,
                "The account that logs in; secrets are stored outside this file.",
                table,
            )?;
        }
        if self.plan.is_new_object {
            let mut table = Table::new();
            table.insert("address", self.address.as_str().into());
            edit.add("object", &self.plan.object, "The monitored server.", table)?;
        }
        Ok(())
    }

    /// Adds the monitor.
    fn write_monitor(
        &self,
        edit: &mut Edit,
        kind: &str,
        durations: Vec<(&'static str, String)>,
    ) -> Result<(), Failure> {
        let (plan, servers) = (&self.plan, &self.servers);
        let mut table = Table::new();
        table.insert("object", plan.object.as_str().into());
        match &servers.smtp {
            Some(smtp) => {
                table.insert("from", self.mailbox.as_str().into());
                table.insert("to", self.mailbox.as_str().into());
                let protocol = Some(GRAPH).filter(|graph| servers.protocol == *graph);
                let smtp = smtp.value(protocol, &plan.account);
                table.insert("smtp", toml_edit::Item::Value(smtp));
            }
            None => {
                table.insert("kind", kind.into());
            }
        }
        let pickup = servers.pickup.value(Some(&servers.protocol), &plan.account);
        table.insert("pickup", toml_edit::Item::Value(pickup));
        for (key, value) in durations {
            table.insert(key, value.into());
        }
        let comment = if servers.smtp.is_some() { OF_MAIL } else { OF_MAILBOX };
        edit.add("monitor", &plan.monitor, comment, table)?;
        Ok(())
    }
}

impl Args {
    /// Returns whether the kind of test sends mails.
    fn sends(&self) -> bool {
        self.kind == "mail-qos"
    }
}

pub(super) async fn run(mut args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let prompter = Prompter { ask: !args.yes && std::io::stdin().is_terminal() };
    let mut edit = Edit::main(global.path())?;
    let fresh = !edit.document.contains_key("site");
    // An existing configuration must be valid before something is added to it.
    let there =
        if fresh {
            None
        } else {
            Some(config::load(global.path()).map_err(|problems| {
                Failure::Usage(problems.render(std::io::stderr().is_terminal()))
            })?)
        };
    let there = there.as_ref();
    args.notify.check(there)?;
    discovery::find_servers(prompter, &mut args, there).await?;
    args.login.ca_file = args.ca_file.clone().map(absolute);
    let connections =
        Connections { offline: args.offline, pin: args.pin, ca_file: args.ca_file.clone() };
    let mut answers = Answers::ask(prompter, &mut args, there)?;
    if !args.offline {
        answers.servers.try_them(args.pin, prompter).await?;
    }
    let mut secrets = Secrets::new(prompter, global.path(), &answers.plan.account);
    let mut durations = Vec::new();
    let (sends, over_graph) = (args.sends(), args.is_over_graph());
    let login = if answers.plan.is_new_account {
        let user = answers.user.clone().unwrap_or_default();
        args.login.for_graph = over_graph;
        let proxy = there.map(|there| there.proxy.clone()).unwrap_or_default();
        Some(args.login.ask(prompter, answers.preset, (&user, &proxy), &mut secrets).await?)
    } else {
        None
    };
    let access = match &login {
        Some((_, login)) if over_graph => {
            let names = (answers.plan.account.as_str(), answers.mailbox.as_str());
            Access::ask(prompter, names, login, args.other_mailbox.take())?
        }
        _ => None,
    };
    let with_password = matches!(login, Some(("password", _)));
    if sends {
        durations = mail_durations(prompter, (args.max_round_trip, args.check_interval))?;
    }
    let test_interval = prompter.text(
        args.test_interval.map(|said| said.to_string()),
        "Test interval",
        "--test-interval",
        Some("5m"),
        is_duration,
    )?;
    durations.push(("test_interval", test_interval));

    answers.write_surroundings(&mut edit, login)?;
    answers.write_monitor(&mut edit, &args.kind, durations)?;
    if fresh {
        if let Some(schema) = schema(global.path()) {
            edit.begin_with(&format!("#:schema {schema}"));
        }
        edit.end_with(HINT);
    }
    secrets.keep()?;
    let path = edit.save().inspect_err(|_| secrets.forget())?;
    let mut notes = std::io::stderr();
    let _ = writeln!(notes, "wrote {}", path.display());
    let code = if args.offline {
        ExitCode::SUCCESS
    } else {
        let is_verified = match &access {
            Some(access) => access.verify(global).await?,
            None => true,
        };
        let retry_password = with_password && secrets.has_typed();
        let code = first_test(
            &answers.plan.monitor,
            &path,
            global,
            retry_password.then_some(&mut secrets),
            prompter,
        )
        .await?;
        if is_verified { code } else { ExitCode::FAILURE }
    };
    let is_notified = args.notify.set_up(prompter, global, connections).await?;
    let _ = writeln!(
        notes,
        "next: mailqos-probe run{}",
        if is_notified { "" } else { "; no one is notified of alarms yet: see docs/alarms.md" }
    );
    Ok(code)
}

/// Returns the JSON Schema that editors use to complete the configuration: next to it, or as
/// installed with this program.
fn schema(configuration: &Path) -> Option<String> {
    const FILE: &str = "mailqos.schema.json";
    if configuration.with_file_name(FILE).is_file() {
        return Some(format!("./{FILE}"));
    }
    let program = std::env::current_exe().ok()?;
    let installed = program.parent()?.parent()?.join("share/mailqos").join(FILE);
    installed.is_file().then(|| installed.display().to_string())
}

/// Selects the object, account and monitor, existing or new.
fn plan(
    prompter: Prompter,
    there: Option<&Config>,
    address: &str,
    usual: &str,
    args: &mut Args,
) -> Result<Plan, Failure> {
    let (object, monitor, account) = (args.object.take(), args.monitor.take(), args.account.take());
    // The same server under another name would appear as another object in every report.
    let same =
        there.and_then(|there| there.objects.iter().find(|(_, object)| object.address == address));
    let others = there.map_or_else(Vec::new, |there| {
        let others = there.objects.iter().filter(|(_, object)| object.address != address);
        names(others.map(|(id, _)| id))
    });
    let usual_object = match same {
        Some((id, _)) => id.to_string(),
        None => free(usual, &others),
    };
    let object = prompter.text(
        object,
        "Name of the server",
        "--object",
        Some(&usual_object),
        is_free(others, "another server"),
    )?;
    let is_new_object = there.is_none_or(|there| !there.objects.contains_key(object.as_str()));
    let monitors = there.map_or_else(Vec::new, |there| names(there.monitors.keys()));
    let usual_monitor = free(&object, &monitors);
    // The first monitor needs no prompt for a name.
    let monitor = match monitor {
        None if monitors.is_empty() => usual_monitor,
        said => prompter.text(
            said,
            "Name of the monitor",
            "--monitor",
            Some(&usual_monitor),
            is_free(monitors, "a monitor"),
        )?,
    };
    let accounts = there.map_or_else(Vec::new, |there| names(there.accounts.keys()));
    let account = match account {
        Some(account) => {
            prompter.text(Some(account), "", "--account", None, is_free(Vec::new(), ""))?
        }
        None if prompter.ask && !accounts.is_empty() => {
            let mut choices = vec!["new account".to_owned()];
            choices.extend(accounts.iter().cloned());
            let chosen = Select::new("Account", choices).raw_prompt()?;
            match chosen.index {
                0 => free(&object, &accounts),
                _ => chosen.value,
            }
        }
        None => free(&object, &accounts),
    };
    Ok(Plan {
        is_new_account: !accounts.contains(&account),
        account,
        object,
        is_new_object,
        monitor,
    })
}

/// Returns the mailbox of an existing account: that of its monitors, or its user name.
fn mailbox_of(there: Option<&Config>, plan: &Plan) -> Option<String> {
    let there = there.filter(|_| !plan.is_new_account)?;
    let mut monitors = there.monitors.values();
    let of_monitor = monitors.find_map(|monitor| {
        let pickup = monitor.kind.pickup()?;
        let is_its_account = pickup.endpoint.account?.as_str() == plan.account;
        monitor.kind.recipient().filter(|_| is_its_account).map(str::to_owned)
    });
    let user = there.accounts.get(plan.account.as_str()).map(|account| account.user.clone());
    of_monitor.or(user.filter(|user| is_mail_address(user).is_ok()))
}

/// Runs a test. A failed one can be repeated, with another password if it was typed; `secrets` then
/// contains it.
async fn first_test(
    monitor: &str,
    path: &std::path::Path,
    global: &Global,
    mut secrets: Option<&mut Secrets>,
    prompter: Prompter,
) -> Result<ExitCode, Failure> {
    const AGAIN: &str = "run the test again";
    const PASSWORD_AGAIN: &str = "enter the password again";
    const LEAVE: &str = "keep the configuration as it is";
    loop {
        let code = test::run(test::Args::once(monitor.to_owned()), global).await?;
        if code == ExitCode::SUCCESS || !prompter.ask {
            return Ok(code);
        }
        let mut choices = vec![AGAIN, LEAVE];
        if secrets.is_some() {
            choices.insert(1, PASSWORD_AGAIN);
        }
        let _ = writeln!(
            std::io::stderr(),
            "the monitor is defined in {}; you can also edit it there",
            path.display()
        );
        match (Select::new("How to continue?", choices).prompt_skippable()?, &mut secrets) {
            (Some(AGAIN), _) => {}
            (Some(PASSWORD_AGAIN), Some(secrets)) => secrets.again(PASSWORD)?,
            _ => return Ok(code),
        }
    }
}

/// Returns the provider, if its servers are known.
fn chosen_preset(
    prompter: Prompter,
    said: Option<&str>,
) -> Result<Option<&'static Provider>, Failure> {
    if let Some(word) = said {
        return Ok(Provider::by_word(word));
    }
    if !prompter.ask {
        return Ok(None);
    }
    let mut titles = vec!["another provider, or your own server".to_owned()];
    titles.extend(PROVIDERS.iter().map(ToString::to_string));
    let index = Select::new("Mail provider", titles).raw_prompt()?.index;
    Ok(index.checked_sub(1).and_then(|index| PROVIDERS.get(index)))
}
