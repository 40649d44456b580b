//! `mailqos-probe discover`: finds the mail servers of an address, tests them without logging in,
//! and shows where they were found. Nothing is written.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use mailqos_config::Config;
use mailqos_discovery::{
    Candidate, Check, Choice, Discovery, MailAddress, NoChoice, Options, Outcome, Standing,
    discover, tls_word,
};
use mailqos_net::http::Route;

use super::{Failure, Format, Global, print_line, write_out};

/// Port of name servers.
const DNS_PORT: u16 = 53;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// E-mail address, such as anna@example.com.
    address: String,
    #[command(flatten)]
    discovery: DiscoveryArgs,
    /// PEM file with the certificate authority of the servers.
    #[arg(long)]
    ca_file: Option<PathBuf>,
    /// Output format.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

// Options of the discovery. (Not a doc comment, because clap would use it for the command.)
#[derive(Debug, Clone, clap::Args)]
pub(super) struct DiscoveryArgs {
    /// Name server for SRV and MX records, such as 192.0.2.53 or [2001:db8::53]:5353 [default: the
    /// system's].
    #[arg(long, value_name = "ADDRESS", value_parser = name_server)]
    dns: Option<SocketAddr>,
    /// Also ask Thunderbird's database of providers, which then learns the domain.
    #[arg(long)]
    ispdb: bool,
    /// Accept servers outside the address's domain that only DNS names.
    #[arg(long)]
    pub(super) accept_other_domain: bool,
}

impl DiscoveryArgs {
    /// Returns the options of a discovery. Files are fetched through the proxy of the
    /// configuration, if there is one.
    pub(super) async fn options(
        &self,
        ca_file: Option<PathBuf>,
        config: Option<&Config>,
    ) -> Result<Options, Failure> {
        let route =
            match config {
                Some(config) => config.proxy.via().await.map_err(|error| {
                    Failure::Usage(format!("the address of the proxy: {error}"))
                })?,
                None => Route::default(),
            };
        Ok(Options { name_server: self.dns, ca_file, database: self.ispdb, route })
    }
}

/// Parses the address of a name server, with or without a port.
fn name_server(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse::<std::net::IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT));
    address
        .or_else(|_| text.parse())
        .map_err(|_| "not an IP address, with or without a port".into())
}

/// Parses a mail address from the command line.
pub(super) fn parse(text: &str) -> Result<MailAddress, Failure> {
    text.parse().map_err(|error| {
        Failure::Usage(format!(
            "{text:?} is not an e-mail address that servers can be found by: {error}"
        ))
    })
}

pub(super) async fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let address = parse(&args.address)?;
    // Without a configuration, which this command doesn't need, the environment's proxy is used.
    let config = mailqos_config::load(global.path()).ok();
    let options = args.discovery.options(args.ca_file, config.as_ref()).await?;
    let found = discover(&address, &options).await.map_err(Failure::work)?;
    let choice = found.choose(true, None, args.discovery.accept_other_domain);
    match args.format {
        Format::Json => {
            let text = json(&found, choice.as_ref().ok()).to_string();
            write_out(format!("{text}\n").as_bytes())?;
        }
        Format::Table => {
            for line in describe(&found) {
                print_line(&line)?;
            }
        }
    }
    match choice {
        Ok(_) => {
            if args.format == Format::Table {
                print_line(&format!("next: mailqos-probe init {address}"))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(_) if found.is_microsoft_365() => {
            if args.format == Format::Table {
                print_line(&format!(
                    "next: mailqos-probe init {address} (the mailbox is in Microsoft 365 and can be \
                     opened over Microsoft Graph)"
                ))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(problem) => Err(Failure::Work(explain(&problem, &address))),
    }
}

/// Explains why no servers were chosen, with a remedy.
pub(super) fn explain(problem: &NoChoice<'_>, address: &MailAddress) -> String {
    match problem {
        NoChoice::NeedsConsent(choice) => {
            let foreign = [choice.smtp, Some(choice.mailbox)].into_iter().flatten();
            let mut hosts: Vec<&str> = foreign
                .filter(|candidate| candidate.standing == Standing::Foreign)
                .map(|candidate| candidate.server.host.as_str())
                .collect();
            hosts.dedup();
            format!(
                "{} is outside {}, and only DNS, which is not authenticated, names it; if it is \
                 your provider's, add --accept-other-domain",
                hosts.join(" and "),
                address.domain()
            )
        }
        NoChoice::Missing(reason) => format!(
            "{reason}; name the server with --address, or choose a provider with --preset \
             (mailqos-probe init --help)"
        ),
    }
}

/// Describes the findings, one line per look-up and server.
pub(super) fn describe(found: &Discovery) -> Vec<String> {
    let mut lines = Vec::new();
    for lookup in &found.lookups {
        let mark = match lookup.outcome {
            Outcome::Found => "✓",
            // Most domains publish only a few of the records; listing the missing ones would
            // obscure them.
            Outcome::Nothing if lookup.what.starts_with("SRV ") => continue,
            Outcome::Nothing => "–",
            Outcome::Failed => "✗",
        };
        lines.push(format!("{mark} {}: {}", lookup.what, lookup.result));
    }
    for candidate in &found.candidates {
        lines.push(describe_server(candidate));
    }
    lines
}

fn describe_server(candidate: &Candidate) -> String {
    let (mark, result) = match &candidate.check {
        Check::Usable { tls } => ("✓", format!("answers with {tls}, and its certificate matches")),
        Check::Unusable { reason, .. } => ("✗", reason.clone()),
        Check::NotTried => ("–", "not tried".to_owned()),
    };
    let foreign = match candidate.standing {
        Standing::Foreign => "; outside the domain, named by DNS only",
        _ => "",
    };
    format!("{mark} {} ({}{foreign}): {result}", candidate.server, candidate.source)
}

fn json(found: &Discovery, choice: Option<&Choice<'_>>) -> serde_json::Value {
    let outcome = |outcome: Outcome| match outcome {
        Outcome::Found => "found",
        Outcome::Nothing => "nothing",
        Outcome::Failed => "failed",
    };
    let chosen = |candidate: &Candidate| {
        choice.is_some_and(|choice| choice.mailbox == candidate || choice.smtp == Some(candidate))
    };
    let lookups: Vec<_> = found
        .lookups
        .iter()
        .map(|lookup| {
            serde_json::json!({
                "lookup": lookup.what,
                "outcome": outcome(lookup.outcome),
                "result": lookup.result,
            })
        })
        .collect();
    let servers: Vec<_> = found
        .candidates
        .iter()
        .map(|candidate| {
            let reason = match &candidate.check {
                Check::Unusable { reason, .. } => Some(reason.as_str()),
                Check::Usable { .. } | Check::NotTried => None,
            };
            serde_json::json!({
                "protocol": candidate.server.protocol.word(),
                "server": candidate.server.host,
                "port": candidate.server.port,
                "tls": tls_word(candidate.server.tls),
                "source": candidate.source.to_string(),
                "needs_consent": candidate.standing == Standing::Foreign,
                "user": candidate.user,
                "usable": candidate.check.is_usable(),
                "reason": reason,
                "chosen": chosen(candidate),
            })
        })
        .collect();
    serde_json::json!({
        "address": found.address.to_string(),
        "provider": choice.and_then(|choice| choice.provider).map(|provider| provider.word),
        "graph": found.is_microsoft_365(),
        "lookups": lookups,
        "servers": servers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_have_a_given_or_the_default_port() {
        for (text, expected) in [
            ("192.0.2.53", "192.0.2.53:53"),
            ("192.0.2.53:5353", "192.0.2.53:5353"),
            ("2001:db8::53", "[2001:db8::53]:53"),
            ("[2001:db8::53]:5353", "[2001:db8::53]:5353"),
        ] {
            assert_eq!(name_server(text).map(|address| address.to_string()), Ok(expected.into()));
        }
        assert!(name_server("dns.example.com").is_err() && name_server("192.0.2.53:").is_err());
    }
}
