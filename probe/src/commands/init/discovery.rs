//! Finds the servers by the address of the mailbox, in place of options and prompts.

use std::io::Write as _;

use inquire::{Confirm, Text};
use mailqos_config::Config;
use mailqos_discovery::{Choice, NoChoice, Protocol, Provider, discover, tls_word};

use super::{
    Args,
    prompter::{Prompter, absolute},
};
use crate::commands::{
    Failure,
    discover::{describe, explain, parse},
};

/// The preset of Microsoft 365.
pub(super) const MICROSOFT: &str = "microsoft-365";

/// Finds the servers of the mailbox and fills in the options that name them. Without an address, or
/// if options name the servers, does nothing.
pub(super) async fn find_servers(
    prompter: Prompter,
    args: &mut Args,
    there: Option<&Config>,
) -> Result<(), Failure> {
    let names_servers = args.address.is_some() || args.preset.is_some();
    let email = match args.email.take() {
        Some(email) => email,
        None if prompter.ask && !names_servers && !args.offline && args.mailbox.is_none() => {
            let prompt = Text::new("E-mail address of the test mailbox")
                .with_help_message("leave it empty to name the servers yourself");
            match prompt.prompt()? {
                typed if typed.trim().is_empty() => return Ok(()),
                typed => typed,
            }
        }
        None => return Ok(()),
    };
    let address = parse(&email)?;
    args.mailbox = Some(address.to_string());
    // Microsoft Graph is where its cloud is: nothing has to be found.
    if names_servers || args.is_over_graph() {
        return Ok(());
    }
    if args.offline {
        return Err(Failure::Usage(
            "with --offline, servers can't be found by the address; name them with --address or \
             --preset"
                .to_owned(),
        ));
    }
    let mut notes = std::io::stderr();
    let _ = writeln!(notes, "looking for the mail servers of {}", address.domain());
    let options = args.discovery.options(args.ca_file.clone().map(absolute), there).await?;
    let found = discover(&address, &options).await.map_err(Failure::work)?;
    for line in describe(&found) {
        let _ = writeln!(notes, "{line}");
    }
    if found.is_microsoft_365() {
        let microsoft = Provider::by_word(MICROSOFT);
        args.choose_graph(prompter, microsoft)?;
    }
    if args.is_over_graph() {
        args.preset.get_or_insert_with(|| MICROSOFT.to_owned());
        return Ok(());
    }
    let wanted = args.protocol.as_deref().and_then(protocol);
    match found.choose(args.sends(), wanted, args.discovery.accept_other_domain) {
        Ok(choice) => fill(args, &choice),
        Err(problem) => {
            let text = explain(&problem, &address);
            match problem {
                NoChoice::NeedsConsent(choice) if prompter.ask => {
                    let _ = writeln!(notes, "{text}");
                    if !Confirm::new("Use these servers?").with_default(false).prompt()? {
                        return Err(Failure::Work("cancelled: nothing was written".to_owned()));
                    }
                    fill(args, &choice);
                }
                // The servers are prompted for.
                NoChoice::Missing(_) if prompter.ask => {
                    let _ = writeln!(notes, "{text}");
                }
                _ => return Err(Failure::Work(text)),
            }
        }
    }
    Ok(())
}

/// Parses the protocol of an option.
fn protocol(word: &str) -> Option<Protocol> {
    [Protocol::Imap, Protocol::Pop3].into_iter().find(|protocol| protocol.word() == word)
}

/// Fills in the missing options.
fn fill(args: &mut Args, choice: &Choice<'_>) {
    let mailbox = &choice.mailbox.server;
    if args.preset.is_none() {
        // Without a provider, the preset is not prompted for, either.
        let word = choice.provider.map_or("other", |provider| provider.word);
        args.preset = Some(word.to_owned());
    }
    let main = choice.smtp.map_or(mailbox, |smtp| &smtp.server);
    let address = args.address.get_or_insert_with(|| main.host.clone()).clone();
    if let Some(smtp) = choice.smtp {
        args.smtp_port.get_or_insert(smtp.server.port);
        args.smtp_tls.get_or_insert_with(|| tls_word(smtp.server.tls).to_owned());
    }
    args.protocol.get_or_insert_with(|| mailbox.protocol.word().to_owned());
    if args.pickup_server.is_none() && mailbox.host != address {
        args.pickup_server = Some(mailbox.host.clone());
    }
    args.pickup_port.get_or_insert(mailbox.port);
    args.pickup_tls.get_or_insert_with(|| tls_word(mailbox.tls).to_owned());
    let user = choice.mailbox.user.as_ref().or(choice.smtp.and_then(|smtp| smtp.user.as_ref()));
    if args.user.is_none() {
        args.user = user.cloned();
    }
}
