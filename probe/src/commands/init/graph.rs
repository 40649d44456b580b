//! Microsoft Graph instead of SMTP and a mailbox protocol: offered for mailboxes of Microsoft 365,
//! and an application's access to one mailbox explained and verified.

use std::{io::Write as _, process::ExitCode};

use inquire::{Select, Text};
use toml_edit::Value;

use super::{
    Args,
    presets::{Provider, Tokens},
    prompter::{Prompter, is_mail_address},
};
use crate::commands::{Failure, Global, access};

/// The value of `--protocol`.
pub(super) const GRAPH: &str = "graph";
/// Hint about the application, in place of the provider's, which is about SMTP and IMAP.
const HINT: &str = "register an application in Entra ID; for a sign-in, allow public client flows and \
    grant the delegated permissions Mail.ReadWrite and Mail.Send; an application with its own \
    credentials gets access to one mailbox in Exchange, by commands that are printed";
/// The choices, in the order of preference, with the value of `--protocol`. Exchange Online turns
/// off basic authentication for SMTP by default at the end of December 2026
/// (<https://techcommunity.microsoft.com/blog/exchange/updated-exchange-online-smtp-auth-basic-authentication-deprecation-timeline/4489835>),
/// and many tenants turn off the mail protocols.
const CHOICES: [(&str, &str); 3] = [
    ("Microsoft Graph (recommended: many tenants turn off SMTP AUTH, IMAP and POP)", GRAPH),
    ("IMAP and SMTP, with OAuth 2.0", "imap"),
    ("POP3 and SMTP, with OAuth 2.0", "pop3"),
];

/// Returns whether the provider's mailboxes can be opened over Microsoft Graph.
fn is_microsoft(provider: &Provider) -> bool {
    provider.tokens == Some(Tokens::Only)
}

impl Args {
    /// Returns whether options name a server or its port, other than that of Microsoft Graph.
    fn names_mail_servers(&self) -> bool {
        self.smtp_server.is_some()
            || self.smtp_port.is_some()
            || self.smtp_tls.is_some()
            || self.pickup_tls.is_some()
            || self.login.names_mail_login()
    }

    /// Returns whether Microsoft Graph is to be used.
    pub(super) fn is_over_graph(&self) -> bool {
        self.protocol.as_deref() == Some(GRAPH)
    }

    /// Sets the protocol for a mailbox of this provider, if it is not set: Microsoft Graph, unless
    /// options name other servers or a person chooses otherwise. `None` stands for a provider that
    /// is not known yet.
    pub(super) fn choose_graph(
        &mut self,
        prompter: Prompter,
        provider: Option<&Provider>,
    ) -> Result<(), Failure> {
        if self.is_over_graph() {
            return match provider {
                Some(provider) if !is_microsoft(provider) => Err(Failure::Usage(format!(
                    "--protocol graph is for mailboxes of Microsoft 365, not of {provider}"
                ))),
                _ => Ok(()),
            };
        }
        let is_open = self.protocol.is_none() && !self.names_mail_servers();
        if !is_open || !provider.is_some_and(is_microsoft) {
            return Ok(());
        }
        let [(_, mut chosen), ..] = CHOICES;
        if prompter.ask {
            let titles = CHOICES.map(|(title, _)| title).to_vec();
            let index = Select::new("Access to the mailbox", titles).raw_prompt()?.index;
            chosen = CHOICES.get(index).map_or(chosen, |(_, word)| word);
        }
        self.protocol = Some(chosen.to_owned());
        Ok(())
    }
}

/// Shows what the application needs.
pub(super) fn show_hint() {
    let _ = writeln!(std::io::stderr(), "Microsoft 365 over Microsoft Graph: {HINT}");
}

/// An application's own access to a mailbox, which must be restricted to it.
pub(super) struct Access {
    account: String,
    mailbox: String,
    /// Another mailbox, which the application must not reach.
    other: Option<String>,
}

impl Access {
    /// Prints the commands that restrict the application, and prompts for another mailbox to verify
    /// them with. `login` is the new account's; with a sign-in, nothing needs to be restricted.
    pub(super) fn ask(
        prompter: Prompter,
        (account, mailbox): (&str, &str),
        login: &Value,
        other: Option<String>,
    ) -> Result<Option<Self>, Failure> {
        let table = login.as_inline_table();
        let client_id = table
            .filter(|table| !table.contains_key("refresh_token"))
            .and_then(|table| table.get("client_id"))
            .and_then(Value::as_str);
        let Some(client_id) = client_id else {
            return match other {
                Some(_) => Err(Failure::Usage(
                    "--other-mailbox is for an application with its own credentials; a person who \
                     signs in reaches the mailboxes that are open to this person"
                        .to_owned(),
                )),
                None => Ok(None),
            };
        };
        let mut notes = std::io::stderr();
        let commands = access::powershell(client_id, mailbox).map_err(Failure::Usage)?;
        let _ = writeln!(notes, "to restrict the application to {mailbox}:\n");
        for line in commands {
            let _ = writeln!(notes, "    {line}");
        }
        let _ = writeln!(notes);
        let other = match other {
            Some(other) => Some(other),
            None if prompter.ask => {
                let valid = |text: &str| {
                    use inquire::validator::Validation;
                    Ok(match text.trim() {
                        "" => Validation::Valid,
                        text => match is_mail_address(text) {
                            Ok(()) => Validation::Valid,
                            Err(wrong) => Validation::Invalid(wrong.into()),
                        },
                    })
                };
                let prompt = Text::new("Another mailbox, which the application must not reach")
                    .with_help_message(
                        "the restriction is verified with it; leave it empty to verify later",
                    )
                    .with_validator(valid);
                Some(prompt.prompt()?.trim().to_owned()).filter(|typed| !typed.is_empty())
            }
            None => None,
        };
        if let Some(other) = &other {
            is_mail_address(other)
                .map_err(|wrong| Failure::Usage(format!("--other-mailbox {other}: {wrong}")))?;
            if other.eq_ignore_ascii_case(mailbox) {
                return Err(Failure::Usage("--other-mailbox must be another mailbox".to_owned()));
            }
        }
        Ok(Some(Self { account: account.to_owned(), mailbox: mailbox.to_owned(), other }))
    }

    /// Verifies that the application reaches the mailbox and not the other one; returns whether it
    /// was verified. A failure is shown, and doesn't end the setup, because permissions may take
    /// hours to apply.
    pub(super) async fn verify(&self, global: &Global) -> Result<bool, Failure> {
        let mut notes = std::io::stderr();
        let Some(other) = &self.other else {
            let _ = writeln!(
                notes,
                "not verified that the application reaches only {}; do so with\n    mailqos-probe \
                 account verify {} --other ADDRESS",
                self.mailbox, self.account
            );
            return Ok(true);
        };
        let account = self.account.parse().map_err(Failure::work)?;
        let args = access::VerifyArgs::new(account, &self.mailbox, other);
        match access::verify(args, global).await {
            Ok(code) if code == ExitCode::SUCCESS => Ok(true),
            Ok(_) => {
                let _ = writeln!(
                    notes,
                    "✗ the application's access is not as it should be; after a change of \
                     permissions, wait up to two hours"
                );
                Ok(false)
            }
            Err(Failure::Work(reason) | Failure::Usage(reason)) => {
                let _ = writeln!(notes, "✗ the application's access was not verified: {reason}");
                Ok(false)
            }
        }
    }
}
