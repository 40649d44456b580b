//! DNS look-ups: SRV (RFC 2782), MX (RFC 5321, RFC 7505), aliases and addresses, each within a
//! deadline.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_resolver::{
    Resolver, TokioResolver,
    config::{NameServerConfig, ResolverConfig, ResolverOpts},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{Name, RData, RecordType},
    },
};

/// Deadline of a look-up, all attempts and name servers included.
const DEADLINE: Duration = Duration::from_secs(4);
/// Timeout of one attempt.
const ATTEMPT: Duration = Duration::from_millis(1500);
/// Maximum number of records used from an answer; the rest is ignored.
const MAX_RECORDS: usize = 8;
/// Maximum number of aliases of an SRV record's owner that are followed.
const MAX_ALIASES: usize = 3;

/// Why a look-up returned no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DnsFailure {
    /// The name does not exist (NXDOMAIN).
    #[error("the name does not exist")]
    NoName,
    /// The name has no record of this type.
    #[error("no record")]
    NoRecord,
    /// The name servers refused or could not answer (SERVFAIL, REFUSED, lame delegation …).
    #[error("the name server can't answer: {0}")]
    Failed(String),
    /// No answer within the deadline.
    #[error("the name server did not answer within {} s", DEADLINE.as_secs())]
    Silent,
}

impl DnsFailure {
    /// Whether the answer states that there is nothing, as opposed to a failed look-up.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::NoName | Self::NoRecord)
    }
}

/// An SRV record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Service {
    /// Lower values come first.
    pub(crate) priority: u16,
    /// Among equal priorities, higher values come first.
    pub(crate) weight: u16,
    /// TCP port of the server.
    pub(crate) port: u16,
    /// Host name; `None` for ".", which states that the service is not available.
    pub(crate) target: Option<String>,
}

/// A client of the system's name servers, or of one given by its address.
pub(crate) struct Dns(TokioResolver);

impl std::fmt::Debug for Dns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dns")
    }
}

impl Dns {
    /// Prepares look-ups at `server`, by default at the name servers of the system.
    ///
    /// # Errors
    /// The system names no name server.
    pub(crate) fn new(server: Option<SocketAddr>) -> Result<Self, DnsFailure> {
        let failed = |error: NetError| DnsFailure::Failed(error.to_string());
        let mut builder = match server {
            None => TokioResolver::builder_tokio().map_err(failed)?,
            Some(address) => {
                let mut server = NameServerConfig::udp_and_tcp(address.ip());
                for connection in &mut server.connections {
                    connection.port = address.port();
                }
                let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
                Resolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
        };
        limit(builder.options_mut());
        Ok(Self(builder.build().map_err(failed)?))
    }

    /// Returns the SRV records of an owner such as `_imaps._tcp.example.com`, in the order of
    /// priority and weight.
    ///
    /// # Errors
    /// There is none, or the look-up failed.
    pub(crate) async fn services(&self, owner: &str) -> Result<Vec<Service>, DnsFailure> {
        let mut owner = owner.to_owned();
        // hickory-resolver 0.26 looks for the records of an alias under the name of the SRV record's
        // target, and finds none; so aliases are followed here.
        for _ in 0..MAX_ALIASES {
            let answer = self.services_of(&owner).await;
            if answer != Err(DnsFailure::NoRecord) {
                return answer;
            }
            owner = self.alias(&owner).await.map_err(|_| DnsFailure::NoRecord)?;
        }
        Err(DnsFailure::NoRecord)
    }

    async fn services_of(&self, owner: &str) -> Result<Vec<Service>, DnsFailure> {
        let mut services = self
            .records(owner, RecordType::SRV, |data| match data {
                RData::SRV(srv) => Some(Service {
                    priority: srv.priority,
                    weight: srv.weight,
                    port: srv.port,
                    target: host(&srv.target),
                }),
                _ => None,
            })
            .await?;
        services.sort_by_key(|service| (service.priority, u16::MAX - service.weight));
        Ok(services)
    }

    /// Returns the mail exchangers of a domain in the order of preference; `None` stands for a null
    /// MX (RFC 7505), which states that the domain accepts no mail.
    ///
    /// # Errors
    /// There is none, or the look-up failed.
    pub(crate) async fn exchangers(&self, domain: &str) -> Result<Vec<Option<String>>, DnsFailure> {
        let mut exchangers = self
            .records(domain, RecordType::MX, |data| match data {
                RData::MX(mx) => Some((mx.preference, host(&mx.exchange))),
                _ => None,
            })
            .await?;
        exchangers.sort();
        Ok(exchangers.into_iter().map(|(_, host)| host).collect())
    }

    /// Returns the name that an alias points to.
    ///
    /// # Errors
    /// It is not an alias, or the look-up failed.
    pub(crate) async fn alias(&self, name: &str) -> Result<String, DnsFailure> {
        let names = self
            .records(name, RecordType::CNAME, |data| match data {
                RData::CNAME(name) => host(name),
                _ => None,
            })
            .await?;
        names.into_iter().next().ok_or(DnsFailure::NoRecord)
    }

    /// Returns the addresses of a host, from the system's hosts file or DNS.
    ///
    /// # Errors
    /// It has none, or the look-up failed.
    pub(crate) async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, DnsFailure> {
        let lookup = self.0.lookup_ip(absolute(name)?);
        let answer =
            tokio::time::timeout(DEADLINE, lookup).await.map_err(|_| DnsFailure::Silent)?;
        let addresses = answer.map_err(failure)?;
        Ok(addresses.iter().take(MAX_RECORDS).collect())
    }

    async fn records<T>(
        &self,
        name: &str,
        kind: RecordType,
        read: impl Fn(&RData) -> Option<T>,
    ) -> Result<Vec<T>, DnsFailure> {
        let lookup = self.0.lookup(absolute(name)?, kind);
        let answer =
            tokio::time::timeout(DEADLINE, lookup).await.map_err(|_| DnsFailure::Silent)?;
        let answer = answer.map_err(failure)?;
        let records: Vec<T> = answer
            .answers()
            .iter()
            .filter_map(|record| read(&record.data))
            .take(MAX_RECORDS)
            .collect();
        if records.is_empty() {
            return Err(DnsFailure::NoRecord);
        }
        Ok(records)
    }
}

/// Short timeouts: a person is waiting.
fn limit(options: &mut ResolverOpts) {
    options.timeout = ATTEMPT;
    options.attempts = 2;
    options.edns0 = true;
    options.try_tcp_on_error = true;
}

/// Converts a name; the root label at its end keeps the system's search list out.
fn absolute(name: &str) -> Result<Name, DnsFailure> {
    let mut name = Name::from_ascii(name).map_err(|error| DnsFailure::Failed(error.to_string()))?;
    name.set_fqdn(true);
    Ok(name)
}

/// Returns a host name without the final dot; `None` for the root.
fn host(name: &Name) -> Option<String> {
    if name.is_root() {
        return None;
    }
    let text = name.to_ascii().to_lowercase();
    Some(text.strip_suffix('.').unwrap_or(&text).to_owned())
}

fn failure(error: NetError) -> DnsFailure {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => DnsFailure::NoName,
            ResponseCode::NoError => DnsFailure::NoRecord,
            code => DnsFailure::Failed(code.to_string()),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => DnsFailure::Failed(code.to_string()),
        NetError::Timeout => DnsFailure::Silent,
        error => DnsFailure::Failed(mailqos_base::one_line(&error.to_string(), &[])),
    }
}
