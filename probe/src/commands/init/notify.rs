//! Sets up who is notified of alarms: prompts for a channel, tests it, and writes the action list
//! `default`.

use std::{io::Write as _, path::PathBuf};

use inquire::Select;
use mailqos_config as config;
use mailqos_config::Config;
use mailqos_net::http::Place;
use toml_edit::{Array, Item, Table, Value};

use super::{
    HINT, free,
    login::Secrets,
    names,
    prompter::{Prompter, absolute, is_host, is_mail_address, is_word},
    servers::{Role, Server, ServerOptions},
};
use crate::commands::{
    Failure, Global, actions,
    edit::{Edit, inline},
};

/// Action list that monitors use by default.
const DEFAULT: &str = "default";
/// Name of the mail server and of its account in the configuration.
const ALARMS: &str = "alarms";
/// Comment above the action list.
const OF_LIST: &str = "Who is notified when mail fails. Try it: mailqos-probe actions test";
/// Comment above the mail server.
const OF_SERVER: &str = "Sends the notifications; it must not depend on the tested servers.";

// Options for who is notified of alarms. (Not a doc comment, because clap would use it for the
// command.)
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Notifications")]
pub(super) struct NotifyArgs {
    /// Who is notified of alarms: email, ntfy, slack, teams or none [default: none].
    #[arg(long, value_parser = ["email", "ntfy", "slack", "teams", "none"], hide_possible_values = true)]
    notify: Option<String>,
    /// E-mail: address of the recipient.
    #[arg(long)]
    notify_to: Option<String>,
    /// E-mail: server that sends the notifications, other than the tested one.
    #[arg(long)]
    notify_server: Option<String>,
    /// E-mail: port of that server.
    #[arg(long)]
    notify_port: Option<u16>,
    /// E-mail: encryption of that server: none, starttls or implicit.
    #[arg(long, value_parser = ["none", "starttls", "implicit"])]
    notify_tls: Option<String>,
    /// E-mail: sender [default: the recipient].
    #[arg(long)]
    notify_from: Option<String>,
    /// E-mail: user name for login [default: the sender if there is a password].
    #[arg(long)]
    notify_user: Option<String>,
    /// E-mail: read the password from this environment variable.
    #[arg(long, conflicts_with = "notify_password_file")]
    notify_password_env: Option<String>,
    /// E-mail: read the password from this file.
    #[arg(long)]
    notify_password_file: Option<PathBuf>,
    /// URL of the ntfy topic: https://HOST/TOPIC.
    #[arg(long)]
    notify_url: Option<String>,
    /// Slack, Teams: read the URL of the webhook from this environment variable.
    #[arg(long, conflicts_with = "notify_url_file")]
    notify_url_env: Option<String>,
    /// Slack, Teams: read the URL of the webhook from this file.
    #[arg(long)]
    notify_url_file: Option<PathBuf>,
    /// Read the access token of ntfy from this environment variable.
    #[arg(long, conflicts_with = "notify_token_file")]
    notify_token_env: Option<String>,
    /// Read the access token of ntfy from this file.
    #[arg(long)]
    notify_token_file: Option<PathBuf>,
}

/// Settings for testing connections.
#[derive(Debug, Clone)]
pub(super) struct Connections {
    /// Whether everything is written without testing.
    pub(super) offline: bool,
    /// Whether untrusted certificates are pinned.
    pub(super) pin: bool,
    /// File of a certificate authority.
    pub(super) ca_file: Option<PathBuf>,
}

/// A notification channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Channel {
    Email,
    Ntfy,
    Slack,
    Teams,
}

impl Channel {
    const ALL: [Self; 4] = [Self::Email, Self::Ntfy, Self::Slack, Self::Teams];

    fn word(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Ntfy => "ntfy",
            Self::Slack => "slack",
            Self::Teams => "teams",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Email => "e-mail, through a server other than the tested one",
            Self::Ntfy => "ntfy (push notifications)",
            Self::Slack => "Slack",
            Self::Teams => "Microsoft Teams",
        }
    }
}

/// Tables to add to the configuration.
#[derive(Default)]
struct Draft {
    /// Kind, name, comment and content of each table, in order.
    tables: Vec<(&'static str, String, &'static str, Table)>,
}

impl Draft {
    fn add(&mut self, kind: &'static str, name: &str, comment: &'static str, table: Table) {
        self.tables.push((kind, name.to_owned(), comment, table));
    }

    /// Adds the action list with this action.
    fn add_list(&mut self, action: Value) {
        let mut table = Table::new();
        table.insert("actions", Item::Value(Value::Array(Array::from_iter([action]))));
        self.add("action_list", DEFAULT, OF_LIST, table);
    }
}

impl NotifyArgs {
    /// Rejects options that contradict each other or the existing configuration, before anything is
    /// written.
    pub(super) fn check(&self, there: Option<&Config>) -> Result<(), Failure> {
        let email = [
            ("--notify-to", self.notify_to.is_some()),
            ("--notify-server", self.notify_server.is_some()),
            ("--notify-port", self.notify_port.is_some()),
            ("--notify-tls", self.notify_tls.is_some()),
            ("--notify-from", self.notify_from.is_some()),
            ("--notify-user", self.notify_user.is_some()),
            ("--notify-password-env", self.notify_password_env.is_some()),
            ("--notify-password-file", self.notify_password_file.is_some()),
        ];
        let webhook = [
            ("--notify-url-env", self.notify_url_env.is_some()),
            ("--notify-url-file", self.notify_url_file.is_some()),
        ];
        let ntfy = [
            ("--notify-url", self.notify_url.is_some()),
            ("--notify-token-env", self.notify_token_env.is_some()),
            ("--notify-token-file", self.notify_token_file.is_some()),
        ];
        let channel = self.notify.as_deref();
        let wanted: Vec<(&str, bool)> = email
            .iter()
            .map(|(flag, is_set)| (*flag, *is_set && channel != Some("email")))
            .chain(webhook.iter().map(|(flag, is_set)| {
                (*flag, *is_set && !matches!(channel, Some("slack" | "teams")))
            }))
            .chain(ntfy.iter().map(|(flag, is_set)| (*flag, *is_set && channel != Some("ntfy"))))
            .collect();
        if let Some((flag, _)) = wanted.iter().find(|(_, is_misplaced)| *is_misplaced) {
            return Err(Failure::Usage(match channel {
                Some(channel) => format!("{flag} does not apply to --notify {channel}"),
                None => format!("{flag} requires --notify"),
            }));
        }
        if channel.is_some_and(|channel| channel != "none") && there.is_some_and(has_list) {
            return Err(Failure::Usage(
                "--notify: the action list \"default\" already exists; edit it in the configuration"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// Prompts for who is notified, tests the channel and writes the action list `default`; returns
    /// whether someone is notified. A channel that is not accepted is not written.
    pub(super) async fn set_up(
        self,
        prompter: Prompter,
        global: &Global,
        connections: Connections,
    ) -> Result<bool, Failure> {
        let path = global.path();
        let there =
            config::load(path).map_err(|problems| Failure::Usage(problems.errors().to_string()))?;
        if has_list(&there) {
            return Ok(true);
        }
        let mut args = self;
        let mut notes = std::io::stderr();
        loop {
            let Some(channel) = args.channel(prompter)? else { return Ok(false) };
            let mut secrets = Secrets::new(prompter, path, ALARMS);
            let draft = match channel {
                Channel::Email => args.email(prompter, &there, &connections, &mut secrets).await?,
                _ => args.webhook(channel, prompter, &mut secrets)?,
            };
            let mut edit = Edit::main(path)?;
            if edit.document.trailing().as_str().is_some_and(|text| text == HINT) {
                edit.end_with("");
            }
            for (kind, name, comment, table) in draft.tables {
                edit.add(kind, &name, comment, table)?;
            }
            secrets.keep()?;
            let is_wanted = connections.offline
                || is_accepted(&edit, global, prompter).await.inspect_err(|_| secrets.forget())?;
            if is_wanted {
                let path = edit.save().inspect_err(|_| secrets.forget())?;
                let _ = writeln!(notes, "wrote [action_list.default] in {}", path.display());
                return Ok(true);
            }
            secrets.forget();
            // After a rejection, the values are prompted for again.
            args = Self::unset();
        }
    }

    /// Returns empty options, so that everything is prompted for.
    fn unset() -> Self {
        Self {
            notify: None,
            notify_to: None,
            notify_server: None,
            notify_port: None,
            notify_tls: None,
            notify_from: None,
            notify_user: None,
            notify_password_env: None,
            notify_password_file: None,
            notify_url: None,
            notify_url_env: None,
            notify_url_file: None,
            notify_token_env: None,
            notify_token_file: None,
        }
    }

    fn channel(&self, prompter: Prompter) -> Result<Option<Channel>, Failure> {
        if let Some(word) = &self.notify {
            return Ok(Channel::ALL.into_iter().find(|channel| channel.word() == word));
        }
        if !prompter.ask {
            return Ok(None);
        }
        let mut titles: Vec<&str> = Channel::ALL.iter().map(|channel| channel.title()).collect();
        titles.push("no one for now");
        let chosen = Select::new("Who should be notified of alarms?", titles).raw_prompt()?;
        Ok(Channel::ALL.get(chosen.index).copied())
    }

    /// Returns a mail action through a server that is not tested.
    async fn email(
        &mut self,
        prompter: Prompter,
        there: &Config,
        connections: &Connections,
        secrets: &mut Secrets,
    ) -> Result<Draft, Failure> {
        let to = prompter.text(
            self.notify_to.take(),
            "Address that is notified",
            "--notify-to",
            None,
            is_mail_address,
        )?;
        let mut draft = Draft::default();
        let server = match self.existing_server(prompter, there)? {
            Some(name) => name,
            None => {
                self.new_server(&mut draft, (&to, there), prompter, connections, secrets).await?
            }
        };
        let recipients = Value::Array(Array::from_iter([to]));
        draft.add_list(inline([("email", recipients), ("mail_server", server.into())]));
        Ok(draft)
    }

    /// Returns the configured mail server to use.
    fn existing_server(
        &self,
        prompter: Prompter,
        there: &Config,
    ) -> Result<Option<String>, Failure> {
        let tested = tested_hosts(there);
        let usable = there
            .mail_servers
            .iter()
            .filter(|(_, server)| !is_tested(&server.endpoint.server, &tested));
        let mut known = names(usable.map(|(name, _)| name));
        if self.notify_server.is_some() || known.is_empty() {
            return Ok(None);
        }
        if !prompter.ask {
            return Ok((known.len() == 1).then(|| known.remove(0)));
        }
        let mut choices = known.clone();
        choices.push("another server".to_owned());
        let chosen = Select::new("Mail server", choices).raw_prompt()?;
        Ok(known.into_iter().nth(chosen.index))
    }

    /// Adds and tests a mail server; returns its name.
    async fn new_server(
        &mut self,
        draft: &mut Draft,
        (to, there): (&str, &Config),
        prompter: Prompter,
        connections: &Connections,
        secrets: &mut Secrets,
    ) -> Result<String, Failure> {
        let tested = tested_hosts(there);
        let address = prompter.text(
            self.notify_server.take(),
            "Mail server for notifications (not the tested one)",
            "--notify-server",
            None,
            move |text: &str| {
                is_host(text)?;
                match is_tested(text, &tested) {
                    true => Err("this server is tested: if it fails, it can't report that; name \
                                 another one, or choose another channel"
                        .to_owned()),
                    false => Ok(()),
                }
            },
        )?;
        let options = ServerOptions {
            server: Some(address),
            port: self.notify_port.take(),
            tls: self.notify_tls.take(),
        };
        let ca_file = connections.ca_file.clone().map(absolute);
        let mut server = Server::ask(prompter, Role::Smtp, "", options, ca_file)?;
        if !connections.offline {
            server.try_it(connections.pin, None, prompter).await?;
        }
        let from = prompter.text(
            self.notify_from.take(),
            "Sender of the notifications",
            "--notify-from",
            Some(to),
            is_mail_address,
        )?;
        let name = free(ALARMS, &names(there.mail_servers.keys()));
        let account = free(ALARMS, &names(there.accounts.keys()));
        let mut table = match server.value(None, &account) {
            Value::InlineTable(table) => table.into_table(),
            _ => Table::new(),
        };
        match self.login(prompter, &from, secrets)? {
            Some(login) => draft.add("account", &account, "Logs in to send notifications.", login),
            None => {
                table.remove("account");
            }
        }
        table.insert("from", from.into());
        draft.add("mail_server", &name, OF_SERVER, table);
        Ok(name)
    }

    /// Returns the account of the mail server, or `None` without a login.
    fn login(
        &mut self,
        prompter: Prompter,
        from: &str,
        secrets: &mut Secrets,
    ) -> Result<Option<Table>, Failure> {
        let source = (self.notify_password_env.take(), self.notify_password_file.take());
        let source = (source.0, source.1.map(absolute));
        let is_given = self.notify_user.is_some() || source.0.is_some() || source.1.is_some();
        let logs_in = is_given
            || prompter.ask
                && prompter.choice(None, "Login", &["password", "none"], "password")? == "password";
        if !logs_in {
            return Ok(None);
        }
        let user = prompter.text(
            self.notify_user.take(),
            "User name",
            "--notify-user",
            Some(from),
            is_word,
        )?;
        let flags = "--notify-password-env or --notify-password-file";
        let what = "Password of the mail server for notifications";
        let password = secrets.place(source, what, "password", flags)?;
        let mut table = Table::new();
        table.insert("user", user.into());
        table.insert("password", Item::Value(password));
        Ok(Some(table))
    }

    /// Returns a request to a service.
    fn webhook(
        &mut self,
        channel: Channel,
        prompter: Prompter,
        secrets: &mut Secrets,
    ) -> Result<Draft, Failure> {
        let mut pairs: Vec<(&'static str, Value)> = vec![("kind", channel.word().into())];
        if channel == Channel::Ntfy {
            let url = prompter.text(
                self.notify_url.take(),
                "URL of the ntfy topic",
                "--notify-url",
                None,
                is_topic,
            )?;
            pairs.push(("url", url.into()));
            let source = (self.notify_token_env.take(), self.notify_token_file.take());
            let source = (source.0, source.1.map(absolute));
            let access = ["public topic", "access token"];
            let has_token = source.0.is_some()
                || source.1.is_some()
                || prompter.ask
                    && prompter.choice(None, "Access", &access, access[0])? == access[1];
            if has_token {
                let flags = "--notify-token-env or --notify-token-file";
                pairs.push(("key", secrets.place(source, "Access token", "token", flags)?));
            }
        } else {
            let source = (self.notify_url_env.take(), self.notify_url_file.take());
            let source = (source.0, source.1.map(absolute));
            let flags = "--notify-url-env or --notify-url-file";
            pairs.push(("url", secrets.place(source, "URL of the webhook", "url", flags)?));
        }
        let mut draft = Draft::default();
        draft.add_list(inline([("webhook", inline(pairs))]));
        Ok(draft)
    }
}

fn has_list(config: &Config) -> bool {
    config.action_lists.contains_key(DEFAULT)
}

/// Returns the hosts that monitors test.
fn tested_hosts(config: &Config) -> Vec<String> {
    let smtp = config.monitors.values().filter_map(|monitor| monitor.kind.smtp());
    smtp.map(|endpoint| endpoint.server.to_ascii_lowercase()).collect()
}

fn is_tested(host: &str, tested: &[String]) -> bool {
    let host = host.trim().trim_end_matches('.').to_ascii_lowercase();
    tested.iter().any(|tested| tested.trim_end_matches('.') == host)
}

/// Checks that a text is the URL of an ntfy topic.
fn is_topic(text: &str) -> Result<(), String> {
    is_word(text)?;
    Place::parse(text).map_err(|error| error.to_string())?;
    let path = text.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
    match path.map(|(_, topic)| topic.trim_matches('/')) {
        None | Some("") => Err("the URL contains no topic; use https://HOST/TOPIC".to_owned()),
        Some(_) => Ok(()),
    }
}

/// Sends a test message through the action list of an unwritten configuration; returns whether to
/// write it. After a failure, the user can retry or accept it.
async fn is_accepted(edit: &Edit, global: &Global, prompter: Prompter) -> Result<bool, Failure> {
    const AGAIN: &str = "try again";
    const CHANGE: &str = "choose again who is notified";
    const KEEP: &str = "keep it anyway";
    let mut notes = std::io::stderr();
    let text = edit.document.to_string();
    let config = config::of_text(global.path(), text)
        .map_err(|problems| Failure::Usage(problems.errors().to_string()))?;
    let Some(step) = config.action_lists.get(DEFAULT).and_then(|list| list.steps.first()) else {
        return Err(Failure::Work("the action list is empty".to_owned()));
    };
    loop {
        let (line, is_failed) = match actions::try_step(&config, step).await {
            Ok(line) => (line, false),
            Err(line) => (line, true),
        };
        let _ = writeln!(notes, "{line}");
        if !is_failed {
            return Ok(true);
        }
        if !prompter.ask {
            return Err(Failure::Work(
                "the test notification was not accepted; no action list was written (the monitor \
                 was); --offline writes it without a test"
                    .to_owned(),
            ));
        }
        match Select::new("How to continue?", vec![AGAIN, CHANGE, KEEP]).prompt()? {
            AGAIN => {}
            KEEP => return Ok(true),
            _ => return Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        notify: NotifyArgs,
    }

    fn checked(words: &str) -> Result<(), String> {
        let words = std::iter::once("init").chain(words.split_whitespace());
        let command = Command::try_parse_from(words).map_err(|error| error.to_string())?;
        command.notify.check(None).map_err(|failure| match failure {
            Failure::Usage(text) | Failure::Work(text) => text,
        })
    }

    #[test]
    fn options_of_another_channel_are_refused() {
        for words in [
            "",
            "--notify none",
            "--notify email --notify-to a@b.example --notify-server mail.example",
            "--notify ntfy --notify-url https://ntfy.sh/x --notify-token-env TOKEN",
            "--notify slack --notify-url-env SLACK",
            "--notify teams --notify-url-file teams.url",
        ] {
            assert_eq!(checked(words), Ok(()), "{words}");
        }
        for (words, said) in [
            ("--notify-to a@b.example", "--notify-to requires --notify"),
            ("--notify none --notify-url https://x.example/t", "does not apply to --notify none"),
            ("--notify slack --notify-url https://x.example/t", "does not apply to --notify slack"),
            ("--notify ntfy --notify-url-env X", "does not apply to --notify ntfy"),
            ("--notify email --notify-token-env X", "does not apply to --notify email"),
        ] {
            let refused = checked(words).expect_err(words);
            assert!(refused.contains(said), "{words}: {refused}");
        }
    }

    #[test]
    fn a_topic_is_part_of_an_address() {
        for good in ["https://ntfy.sh/alarms", "http://ntfy.example.net:8080/a"] {
            assert_eq!(is_topic(good), Ok(()), "{good}");
        }
        for bad in ["", "ntfy.sh/alarms", "https://ntfy.sh", "https://ntfy.sh/", "ftp://x/y"] {
            assert!(is_topic(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_tested_server_is_recognised() {
        let tested = ["mail.example.com".to_owned()];
        assert!(is_tested("Mail.Example.com.", &tested));
        assert!(!is_tested("mail.example.net", &tested));
    }
}
