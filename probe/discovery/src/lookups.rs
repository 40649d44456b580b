//! The look-ups of a discovery, all in parallel.

use std::time::Duration;

use futures_util::future::join_all;
use mailqos_base::hex;
use mailqos_config::TlsMode;
use mailqos_net::http::HttpError;
use tokio::time::timeout;

use crate::{
    Candidate, Check, Domain, Lookup, MailAddress, Options, Outcome, Protocol, Recognised, Server,
    Source, Standing,
    address::{ascii_host, is_within},
    autoconfig::{self, FetchError, ISPDB},
    dns::{Dns, DnsFailure, Service},
    document::Published,
    providers::{self, Provider, of_host},
};

/// Deadline for a file, redirects included.
const FETCHING: Duration = Duration::from_secs(5);
/// Deadline of all look-ups together: DNS takes at most four seconds.
#[cfg(test)]
pub(crate) const LONGEST: Duration = FETCHING;
/// Maximum number of servers used from one SRV record set.
const MAX_SERVICES: usize = 3;

/// Labels of SRV records (RFC 6186, section 3; RFC 8314, section 5.1) with their protocol and
/// encryption.
const SERVICES: [(&str, Protocol, TlsMode); 6] = [
    ("_submissions", Protocol::Smtp, TlsMode::Implicit),
    ("_submission", Protocol::Smtp, TlsMode::StartTls),
    ("_imaps", Protocol::Imap, TlsMode::Implicit),
    ("_imap", Protocol::Imap, TlsMode::StartTls),
    ("_pop3s", Protocol::Pop3, TlsMode::Implicit),
    ("_pop3", Protocol::Pop3, TlsMode::StartTls),
];

/// Common names of servers, with the protocols to try there.
const NAMES: [(&str, &[Protocol]); 5] = [
    ("imap", &[Protocol::Imap]),
    ("smtp", &[Protocol::Smtp]),
    ("mail", &[Protocol::Smtp, Protocol::Imap, Protocol::Pop3]),
    ("pop", &[Protocol::Pop3]),
    ("pop3", &[Protocol::Pop3]),
];

/// The results of all look-ups.
pub(crate) struct Found {
    pub(crate) domain: Domain,
    pub(crate) recognised: Option<Recognised>,
    pub(crate) lookups: Vec<Lookup>,
    pub(crate) candidates: Vec<Candidate>,
    /// Servers at common names, to try if no others can be used.
    pub(crate) guesses: Vec<Candidate>,
}

/// Runs all look-ups.
pub(crate) async fn run(dns: &Dns, address: &MailAddress, options: &Options) -> Found {
    let domain = address.domain();
    let owners = SERVICES.map(|(label, ..)| format!("{label}._tcp.{domain}"));
    // A label that is not published: an answer is that of a wildcard (RFC 4592).
    let unpublished = format!("_mailqos-{}._tcp.{domain}", random_label());
    let autodiscover = format!("autodiscover.{domain}");
    let names = NAMES.map(|(label, _)| format!("{label}.{domain}"));
    let mut urls: Vec<(String, Source)> = autoconfig::addresses(address)
        .into_iter()
        .map(|url| (url.clone(), Source::Autoconfig(host_of(&url))))
        .collect();
    if options.database {
        urls.push((format!("{ISPDB}{domain}"), Source::Database));
    }
    let trusts = options.web_trusts();
    let access = (trusts.as_slice(), &options.route);
    let fetches =
        urls.iter().map(|(url, _)| timeout(FETCHING, autoconfig::fetch(url, access, address)));
    let (services, wildcard, exchangers, alias, addresses, files) = tokio::join!(
        join_all(owners.iter().map(|owner| dns.services(owner))),
        dns.services(&unpublished),
        dns.exchangers(domain),
        dns.alias(&autodiscover),
        join_all(names.iter().map(|name| dns.addresses(name))),
        join_all(fetches),
    );
    let mut notes =
        Notes { domain, lookups: Vec::new(), candidates: Vec::new(), absent: Vec::new() };
    for ((url, source), fetched) in urls.iter().zip(files) {
        notes.file(url, source, fetched.ok());
    }
    for (((_, protocol, tls), owner), services) in SERVICES.into_iter().zip(&owners).zip(services) {
        notes.service(owner, (protocol, tls), services, wildcard.as_deref().ok());
    }
    let (state, hosts) = notes.exchangers(exchangers);
    let recognised = notes.provider(&hosts, &autodiscover, alias.ok());
    let mut guesses = Vec::new();
    for ((name, (_, protocols)), addresses) in names.iter().zip(NAMES).zip(addresses) {
        if addresses.is_ok() {
            guesses.extend(protocols.iter().flat_map(|protocol| guess(name, *protocol)));
        }
    }
    // The mail exchanger of a small site is often its only server.
    let exchanger = hosts.first().filter(|host| is_within(host, domain) && !names.contains(host));
    if let Some(host) = exchanger {
        let all = [Protocol::Smtp, Protocol::Imap, Protocol::Pop3];
        guesses.extend(all.into_iter().flat_map(|protocol| guess(host, protocol)));
    }
    guesses.retain(|guess| !notes.absent.contains(&guess.server.protocol));
    Found {
        domain: state,
        recognised,
        lookups: notes.lookups,
        candidates: notes.candidates,
        guesses,
    }
}

/// Returns the encryption of a well-known port. Zones name a port under the other label, such as
/// `_submission._tcp … 465` (vedetta-com/caesonia#248).
fn usual_tls(port: u16, label: TlsMode) -> TlsMode {
    match port {
        465 | 993 | 995 => TlsMode::Implicit,
        587 | 143 | 110 => TlsMode::StartTls,
        _ => label,
    }
}

/// The two usual ports of a protocol at a host.
fn guess(host: &str, protocol: Protocol) -> [Candidate; 2] {
    let ports = match protocol {
        Protocol::Smtp => [465, 587],
        Protocol::Imap => [993, 143],
        Protocol::Pop3 => [995, 110],
    };
    [TlsMode::Implicit, TlsMode::StartTls].map(|tls| Candidate {
        server: Server {
            protocol,
            host: host.to_owned(),
            port: if tls == TlsMode::Implicit { ports[0] } else { ports[1] },
            tls,
        },
        source: Source::CommonName,
        standing: Standing::Domain,
        user: None,
        tokens_only: false,
        check: Check::NotTried,
    })
}

fn random_label() -> String {
    let mut bytes = [0; 8];
    // Without random numbers the label is still one that is not published.
    let _ = getrandom::fill(&mut bytes);
    hex(&bytes)
}

/// Returns the host name of a URL for display.
fn host_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest).to_owned()
}

/// Collects the results.
struct Notes<'domain> {
    domain: &'domain str,
    lookups: Vec<Lookup>,
    candidates: Vec<Candidate>,
    /// Protocols that the domain states not to offer.
    absent: Vec<Protocol>,
}

impl Notes<'_> {
    fn note(&mut self, what: String, result: String, outcome: Outcome) {
        self.lookups.push(Lookup { what, result, outcome });
    }

    fn failure(&mut self, what: String, failure: &DnsFailure) {
        let outcome = if failure.is_absence() { Outcome::Nothing } else { Outcome::Failed };
        self.note(what, failure.to_string(), outcome);
    }

    fn add(&mut self, candidate: Candidate) {
        if !self.candidates.iter().any(|known| known.server == candidate.server) {
            self.candidates.push(candidate);
        }
    }

    /// A file that was fetched; `None` if it did not come in time.
    fn file(
        &mut self,
        url: &str,
        source: &Source,
        fetched: Option<Result<Vec<Published>, FetchError>>,
    ) {
        // The query contains the address.
        let what = url.split('?').next().unwrap_or(url).to_owned();
        match fetched {
            Some(Ok(published)) => {
                let servers: Vec<String> =
                    published.iter().map(|found| found.server.to_string()).collect();
                self.note(what, servers.join(", "), Outcome::Found);
                for found in published {
                    self.add(Candidate {
                        server: found.server,
                        source: source.clone(),
                        standing: Standing::Published,
                        user: found.user,
                        tokens_only: found.tokens_only,
                        check: Check::NotTried,
                    });
                }
            }
            Some(Err(error)) => {
                let absent = matches!(
                    error,
                    FetchError::Missing(_) | FetchError::Http(HttpError::Connect { .. })
                );
                let outcome = if absent { Outcome::Nothing } else { Outcome::Failed };
                self.note(what, error.to_string(), outcome);
            }
            None => {
                let result = format!("no complete answer within {} s", FETCHING.as_secs());
                self.note(what, result, Outcome::Failed);
            }
        }
    }

    /// The SRV records of an owner.
    fn service(
        &mut self,
        owner: &str,
        (protocol, tls): (Protocol, TlsMode),
        services: Result<Vec<Service>, DnsFailure>,
        wildcard: Option<&[Service]>,
    ) {
        let what = format!("SRV {owner}");
        let services = match services {
            Ok(services) => services,
            Err(failure) => return self.failure(what, &failure),
        };
        if wildcard == Some(&services) {
            let result = "a wildcard record, which exists for any service; ignored".to_owned();
            return self.note(what, result, Outcome::Failed);
        }
        if services.iter().all(|service| service.target.is_none()) {
            // RFC 6186, section 3.4: the service is decidedly not available.
            let is_offered = self.candidates.iter().any(|known| {
                known.server.protocol == protocol && matches!(known.source, Source::Service(_))
            });
            if !is_offered && !self.absent.contains(&protocol) {
                self.absent.push(protocol);
            }
            return self.note(
                what,
                "the domain does not offer this service".to_owned(),
                Outcome::Nothing,
            );
        }
        let mut found = Vec::new();
        for service in services.into_iter().take(MAX_SERVICES) {
            let Some(host) = service.target.as_deref().and_then(ascii_host) else { continue };
            if service.port == 0 {
                continue;
            }
            found.push(format!("{host}:{}", service.port));
            let standing = if is_within(&host, self.domain) {
                Standing::Domain
            } else if of_host(&host).is_some() {
                Standing::Known
            } else {
                Standing::Foreign
            };
            self.add(Candidate {
                server: Server {
                    protocol,
                    host,
                    port: service.port,
                    tls: usual_tls(service.port, tls),
                },
                source: Source::Service(owner.to_owned()),
                standing,
                user: None,
                tokens_only: false,
                check: Check::NotTried,
            });
        }
        // One of the two labels of a protocol may be absent: the other one's servers count.
        if !found.is_empty() {
            self.absent.retain(|absent| *absent != protocol);
        }
        match found.is_empty() {
            true => {
                self.note(what, "no record names a valid host and port".to_owned(), Outcome::Failed)
            }
            false => self.note(what, found.join(", "), Outcome::Found),
        }
    }

    /// The mail exchangers; returns the state of the domain and the hosts.
    fn exchangers(
        &mut self,
        answer: Result<Vec<Option<String>>, DnsFailure>,
    ) -> (Domain, Vec<String>) {
        let what = format!("MX {}", self.domain);
        match answer {
            Ok(exchangers) => {
                let hosts: Vec<String> = exchangers.into_iter().flatten().collect();
                if hosts.is_empty() {
                    self.note(
                        what,
                        "the domain accepts no mail (null MX)".to_owned(),
                        Outcome::Nothing,
                    );
                    return (Domain::NullExchanger, hosts);
                }
                self.note(what, hosts.join(", "), Outcome::Found);
                (Domain::AcceptsMail, hosts)
            }
            Err(failure) => {
                self.failure(what, &failure);
                let state = match failure {
                    DnsFailure::NoName => Domain::Missing,
                    DnsFailure::NoRecord => Domain::NoExchanger,
                    failure => Domain::Unknown(failure),
                };
                (state, Vec::new())
            }
        }
    }

    /// The provider behind the exchangers, or behind a filter in front of Microsoft 365: its domains
    /// have the alias `autodiscover` for Outlook.
    fn provider(
        &mut self,
        hosts: &[String],
        autodiscover: &str,
        alias: Option<String>,
    ) -> Option<Recognised> {
        const OUTLOOK: &str = "autodiscover.outlook.com";
        let by_exchanger = providers::recognise(hosts);
        let behind_filter =
            !matches!(by_exchanger, Some(Recognised::Provider(_) | Recognised::Closed(_)));
        let is_outlook = alias.as_deref() == Some(OUTLOOK);
        if is_outlook {
            self.note(format!("CNAME {autodiscover}"), OUTLOOK.to_owned(), Outcome::Found);
        }
        let (recognised, evidence) = match Provider::by_word("microsoft-365") {
            Some(microsoft) if behind_filter && is_outlook => {
                let evidence = format!("CNAME {autodiscover} → {OUTLOOK} ({microsoft})");
                (Recognised::Provider(microsoft), evidence)
            }
            _ => {
                let recognised = by_exchanger?;
                let name = match recognised {
                    Recognised::Provider(provider) => provider.title,
                    Recognised::Filter(name) => name,
                    Recognised::Closed(_) => "",
                };
                let host = hosts.first().map(String::as_str).unwrap_or_default();
                (recognised, format!("MX {host} ({name})"))
            }
        };
        if let Recognised::Provider(provider) = recognised {
            let all = [Protocol::Smtp, Protocol::Imap, Protocol::Pop3];
            for server in all.into_iter().filter_map(|protocol| provider.server(protocol)) {
                self.add(Candidate {
                    server,
                    source: Source::Provider(evidence.clone()),
                    standing: Standing::Known,
                    user: None,
                    tokens_only: provider.tokens == Some(providers::Tokens::Only),
                    check: Check::NotTried,
                });
            }
        }
        Some(recognised)
    }
}
