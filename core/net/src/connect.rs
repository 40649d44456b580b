//! TCP connections to a server with any number of addresses, following RFC 8305 ("Happy Eyeballs").
//! An unresponsive address causes no delay, because the next one is tried in parallel.

use std::{io, net::SocketAddr, time::Duration};

use mailqos_model::Micros;
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout_at},
};

/// Time after which the next address is tried in parallel to an unresponsive one (RFC 8305, section
/// 5).
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);
/// Maximum number of a server's addresses to try.
const MAX_ADDRESSES: usize = 8;

/// Reasons why a connection failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The name can't be resolved.
    #[error("the name could not be resolved: {reason}")]
    Resolve {
        /// The resolver's error.
        reason: String,
        /// This machine has no network connection.
        own_network: bool,
    },
    /// No address accepted a connection.
    #[error("{reason}")]
    Connect {
        /// The system's error.
        reason: String,
        /// Whether this machine caused the failure.
        own_network: bool,
    },
}

/// Resolves a name. Returns at most eight addresses in the order in which to try them.
///
/// # Errors
/// [`ConnectError::Resolve`]
pub async fn addresses(server: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
    let resolve = |reason: String| ConnectError::Resolve { reason, own_network: no_network() };
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((server, port))
        .await
        .map_err(|error| resolve(error.to_string()))?
        .collect();
    if addresses.is_empty() {
        return Err(resolve("it has no address".to_owned()));
    }
    Ok(interleave(addresses))
}

/// Resolves the name and connects to the first address that answers, all within `limit`. A name
/// server that does not answer is reported as such, because neither the server nor a firewall in
/// front of it is the cause.
///
/// # Errors
/// [`ConnectError`] distinguishes the two steps.
pub async fn connect_any(
    server: &str,
    port: u16,
    limit: Duration,
) -> Result<TcpStream, ConnectError> {
    let deadline = tokio::time::Instant::now() + limit;
    let addresses = timeout_at(deadline, addresses(server, port)).await.unwrap_or_else(|_| {
        Err(ConnectError::Resolve {
            reason: format!("the name server did not answer within {}", Micros::from(limit)),
            own_network: no_network(),
        })
    })?;
    timeout_at(deadline, connect_first(addresses)).await.unwrap_or_else(|_| {
        Err(ConnectError::Connect {
            reason: format!("no answer within {}", Micros::from(limit)),
            own_network: false,
        })
    })
}

/// Connects to the first address that answers. If one does not respond, the next is tried in
/// parallel.
async fn connect_first(addresses: Vec<SocketAddr>) -> Result<TcpStream, ConnectError> {
    let mut waiting = addresses.into_iter();
    let mut attempts = JoinSet::new();
    let mut last = None;
    loop {
        if let Some(address) = waiting.next() {
            attempts.spawn(async move { (address, TcpStream::connect(address).await) });
        } else if attempts.is_empty() {
            break;
        }
        let patience = async {
            if waiting.len() > 0 {
                sleep(NEXT_ADDRESS_AFTER).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            Some(done) = attempts.join_next() => match done {
                Ok((_, Ok(stream))) => return Ok(stream),
                Ok((address, Err(error))) => last = Some((address, error)),
                Err(_) => {}
            },
            () = patience => {}
        }
    }
    let (reason, own_network) = last.map_or_else(
        || ("the attempt was abandoned".to_owned(), false),
        |(address, error)| {
            let own = matches!(
                error.kind(),
                io::ErrorKind::NetworkUnreachable
                    | io::ErrorKind::NetworkDown
                    | io::ErrorKind::AddrNotAvailable
            ) || matches!(error.raw_os_error(), Some(23 | 24)); // No file descriptor left (ENFILE, EMFILE).
            (format!("{error} ({address})"), own)
        },
    );
    Err(ConnectError::Connect { reason, own_network })
}

/// Alternates IPv6 and IPv4 addresses, starting with the family that the resolver put first.
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|a| a.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut mixed = Vec::new();
    loop {
        let before = mixed.len();
        mixed.extend(first.next());
        mixed.extend(second.next());
        if mixed.len() == before || mixed.len() >= MAX_ADDRESSES {
            return mixed;
        }
    }
}

/// Returns whether this machine has no route to any network. Only the routing table is queried:
/// connecting a UDP socket sends nothing.
fn no_network() -> bool {
    let reaches = |local: &str, remote: &str| {
        std::net::UdpSocket::bind(local).and_then(|socket| socket.connect(remote)).is_ok()
    };
    // Addresses reserved for documentation (RFC 5737, RFC 3849): a default route covers them too.
    !reaches("0.0.0.0:0", "192.0.2.1:9") && !reaches("[::]:0", "[2001:db8::1]:9")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpSocket};

    #[tokio::test]
    async fn silent_and_closed_addresses_do_not_block_the_third() {
        // A listener with a full queue silently drops further connections, as a firewall does.
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
        let silent = socket.listen(1).expect("a listener");
        let silent_at = silent.local_addr().expect("an address");
        let mut filling = JoinSet::new();
        for _ in 0..8 {
            filling.spawn(TcpStream::connect(silent_at));
        }
        // Connections are opened until one does not succeed within this time, when the queue is
        // full.
        let mut held = Vec::new();
        while let Ok(Some(joined)) =
            tokio::time::timeout(Duration::from_millis(300), filling.join_next()).await
        {
            held.push(joined);
        }
        assert!(held.len() < 8, "the queue took them all");

        let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let closed_at = closed.local_addr().expect("an address");
        drop(closed);
        let open = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let open_at = open.local_addr().expect("an address");
        let connected = tokio::time::timeout(
            Duration::from_secs(30),
            connect_first(vec![silent_at, closed_at, open_at]),
        )
        .await
        .expect("long before the silent address would give up")
        .expect("connected");
        assert_eq!(connected.peer_addr().expect("an address"), open_at);
        drop(silent);
    }

    #[test]
    fn address_families_alternate() {
        let parse = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let given = ["[::1]:1", "[::2]:1", "127.0.0.1:1", "127.0.0.2:1"].map(parse);
        let wanted = ["[::1]:1", "127.0.0.1:1", "[::2]:1", "127.0.0.2:1"].map(parse);
        assert_eq!(interleave(given.to_vec()), wanted);
    }
}
