//! An embedded name server (UDP and TCP) with a zone in memory. It answers as a recursive resolver
//! does: aliases are followed, wildcards expanded (RFC 4592), missing names and types told apart
//! (RFC 2308), long answers cut off over UDP (RFC 1035, section 4.2.1). Single names go wrong on
//! demand.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    str::FromStr as _,
    sync::{Arc, Mutex},
};

use hickory_proto::{
    op::{Message, MessageType, Metadata, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{CNAME, MX, SOA, SRV},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
};

use crate::{http::serve_each, lock};

/// The longest answer over UDP without EDNS (RFC 1035, section 2.3.4).
const MAX_UDP: usize = 512;
/// Attempts to find a port that is free for UDP and TCP.
const ATTEMPTS: usize = 20;

/// How a name goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsFault {
    /// Queries are not answered.
    Silent,
    /// SERVFAIL, as resolvers answer for a lame delegation (RFC 4697, section 2.2) or a broken
    /// DNSSEC chain.
    ServFail,
    /// REFUSED, as servers answer that are not responsible for the zone.
    Refused,
    /// Over UDP every answer is cut off, whatever its size; TCP has it.
    Truncated,
    /// A referral to other name servers instead of an answer, as a lame server gives.
    Referral,
}

/// What the server knows.
#[derive(Debug, Default)]
struct Zone {
    records: BTreeMap<Name, Vec<RData>>,
    faults: BTreeMap<Name, DnsFault>,
    queries: Vec<String>,
}

/// The running server; dropping it ends it.
pub struct DnsServer {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    _tasks: [JoinSet<()>; 2],
}

impl DnsServer {
    /// Starts a server without any record.
    ///
    /// # Errors
    /// No port is available.
    pub async fn start() -> io::Result<Self> {
        let (udp, tcp) = sockets().await?;
        let address = udp.local_addr()?;
        let zone = Arc::new(Mutex::new(Zone::default()));
        let mut datagrams = JoinSet::new();
        datagrams.spawn(serve_udp(udp, zone.clone()));
        let served = zone.clone();
        let streams = serve_each(tcp, move |stream| serve_tcp(stream, served.clone()));
        Ok(Self { address, zone, _tasks: [datagrams, streams] })
    }

    /// Returns its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Adds an SRV record; a target of "." states that the service is not available.
    pub fn srv(&self, owner: &str, priority: u16, port: u16, target: &str) {
        self.add(owner, RData::SRV(SRV::new(priority, 1, port, name(target))));
    }

    /// Adds an MX record; an exchange of "." is a null MX (RFC 7505).
    pub fn mx(&self, owner: &str, preference: u16, exchange: &str) {
        self.add(owner, RData::MX(MX::new(preference, name(exchange))));
    }

    /// Adds an alias.
    pub fn cname(&self, owner: &str, target: &str) {
        self.add(owner, RData::CNAME(CNAME(name(target))));
    }

    /// Adds an address.
    ///
    /// # Panics
    /// It is not an address.
    pub fn address_of(&self, owner: &str, address: &str) {
        self.add(owner, RData::A(address.parse().expect("an IPv4 address")));
    }

    /// Makes a name, and everything below it, go wrong.
    pub fn fail(&self, owner: &str, fault: DnsFault) {
        lock(&self.zone).faults.insert(name(owner), fault);
    }

    /// Returns the questions that were asked, such as `_imaps._tcp.example.com. SRV`, in their order.
    pub fn queries(&self) -> Vec<String> {
        lock(&self.zone).queries.clone()
    }

    fn add(&self, owner: &str, data: RData) {
        lock(&self.zone).records.entry(name(owner)).or_default().push(data);
    }
}

fn name(text: &str) -> Name {
    let mut name = Name::from_str(text).expect("a name of the zone").to_lowercase();
    name.set_fqdn(true);
    name
}

/// Binds both protocols to the same port.
async fn sockets() -> io::Result<(UdpSocket, TcpListener)> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..ATTEMPTS {
        let tcp = TcpListener::bind("127.0.0.1:0").await?;
        match UdpSocket::bind(tcp.local_addr()?).await {
            Ok(udp) => return Ok((udp, tcp)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn serve_udp(socket: UdpSocket, zone: Arc<Mutex<Zone>>) {
    let mut space = [0; 4096];
    while let Ok((count, from)) = socket.recv_from(&mut space).await {
        let Some(reply) = answer(&space[..count], &zone, true) else { continue };
        let _ = socket.send_to(&reply, from).await;
    }
}

async fn serve_tcp(mut stream: TcpStream, zone: Arc<Mutex<Zone>>) -> io::Result<()> {
    loop {
        let length = stream.read_u16().await?;
        let mut query = vec![0; usize::from(length)];
        stream.read_exact(&mut query).await?;
        // A silent server keeps the connection open.
        let Some(reply) = answer(&query, &zone, false) else { continue };
        let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
        stream.write_u16(length).await?;
        stream.write_all(&reply).await?;
    }
}

/// The reply to a query; `None` for none.
fn answer(query: &[u8], zone: &Mutex<Zone>, udp: bool) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).ok()?;
    let question = query.queries.first()?.clone();
    let mut zone = lock(zone);
    zone.queries.push(format!("{} {}", question.name(), question.query_type()));
    let asked = question.name().to_lowercase();
    let fault = zone.fault(&asked);
    let mut metadata = Metadata::response_from_request(&query.metadata);
    metadata.message_type = MessageType::Response;
    metadata.recursion_available = true;
    let mut reply = Message::query();
    reply.metadata = metadata;
    reply.add_query(question.clone());
    let largest =
        query.edns.as_ref().map_or(MAX_UDP, |edns| usize::from(edns.max_payload()).max(MAX_UDP));
    match fault {
        Some(DnsFault::Silent) => return None,
        Some(DnsFault::ServFail) => reply.metadata.response_code = ResponseCode::ServFail,
        Some(DnsFault::Refused) => reply.metadata.response_code = ResponseCode::Refused,
        Some(DnsFault::Referral) => {
            let server = hickory_proto::rr::rdata::NS(name("ns.elsewhere.example."));
            reply.metadata.recursion_available = false;
            reply.add_authority(Record::from_rdata(Name::root(), 60, RData::NS(server)));
        }
        Some(DnsFault::Truncated) if udp => reply.metadata.truncation = true,
        Some(DnsFault::Truncated) | None => zone.resolve(&asked, question.query_type(), &mut reply),
    }
    let bytes = reply.to_vec().ok()?;
    if udp && bytes.len() > largest {
        reply = reply.truncate();
        return reply.to_vec().ok();
    }
    Some(bytes)
}

impl Zone {
    /// The fault of a name or of one above it.
    fn fault(&self, asked: &Name) -> Option<DnsFault> {
        let mut faults = self.faults.iter();
        faults.find(|(name, _)| name.zone_of(asked)).map(|(_, fault)| *fault)
    }

    /// Adds the records of a name, following aliases.
    fn resolve(&self, asked: &Name, kind: RecordType, reply: &mut Message) {
        let mut owner = asked.clone();
        for _ in 0..8 {
            let Some(records) = self.at(&owner) else {
                // RFC 2308, section 2.1; after an alias the code is that of its target.
                reply.metadata.response_code = ResponseCode::NXDomain;
                break;
            };
            let matching = records.iter().filter(|data| data.record_type() == kind);
            let found: Vec<Record> =
                matching.map(|data| Record::from_rdata(owner.clone(), 60, data.clone())).collect();
            if !found.is_empty() {
                reply.add_answers(found);
                return;
            }
            let alias = records.iter().find_map(|data| match data {
                RData::CNAME(target) => Some(target.0.clone()),
                _ => None,
            });
            let Some(target) = alias else { break };
            reply.add_answer(Record::from_rdata(
                owner.clone(),
                60,
                RData::CNAME(CNAME(target.clone())),
            ));
            owner = target.to_lowercase();
        }
        let soa =
            SOA::new(name("ns.example."), name("postmaster.example."), 1, 3600, 600, 86400, 60);
        reply.add_authority(Record::from_rdata(owner.base_name(), 60, RData::SOA(soa)));
    }

    /// The records of a name: its own, or those of a wildcard at its closest encloser (RFC 4592,
    /// section 3.3.1); `None` if it does not exist.
    fn at(&self, asked: &Name) -> Option<&[RData]> {
        if let Some(records) = self.records.get(asked) {
            return Some(records);
        }
        let exists = |name: &Name| self.records.keys().any(|known| name.zone_of(known));
        // A name with names below it exists, without records (RFC 8020).
        if exists(asked) {
            return Some(&[]);
        }
        let mut encloser = asked.base_name();
        while !encloser.is_root() && !exists(&encloser) {
            encloser = encloser.base_name();
        }
        let wildcard = Name::from_str("*").ok()?.append_domain(&encloser).ok()?;
        self.records.get(&wildcard).map(Vec::as_slice)
    }
}
