//! Syslog: one line per alarm, as RFC 5424 over UDP, TCP and TLS, or in the older form for the
//! local socket.

use std::{net::SocketAddr, path::Path, time::Duration};

use mailqos_config::{Framing, LogPlace};
use mailqos_mail::Wire;
use mailqos_model::UtcMicros;
use mailqos_net::connect;
use tokio::{
    io::AsyncWriteExt as _,
    net::{UdpSocket, UnixDatagram, UnixStream},
};

use super::Accepted;
use crate::{LogLine, Notification};

/// Size that a datagram can certainly carry, without headers (RFC 5426, section 3.2: receivers
/// should accept 2048 bytes).
const MAX_LINE: usize = 1900;
/// How long to wait for an ICMP error after a datagram, such as "port unreachable".
const UNREACHABLE_WITHIN: Duration = Duration::from_millis(300);

/// Sends one line for each alarm of the message.
pub(crate) async fn send(
    to: &LogPlace,
    facility: u8,
    notification: &Notification,
    deadline: Duration,
) -> Result<Accepted, String> {
    let lines = &notification.lines;
    let count = match lines.len() {
        1 => "1 line".to_owned(),
        count => format!("{count} lines"),
    };
    match to {
        LogPlace::Local(path) => {
            local(path, facility, lines).await?;
            Ok(Accepted::Confirmed(format!("{count} at {}", path.display())))
        }
        LogPlace::Udp { server, port } => {
            udp(server, *port, facility, lines).await?;
            Ok(Accepted::Unconfirmed(format!(
                "{count} sent to {server}:{port} (not confirmed: UDP)"
            )))
        }
        LogPlace::Stream(endpoint, framing) => {
            let failed = |error: mailqos_mail::WireError| error.to_string();
            let mut wire = Wire::connect(endpoint, deadline).await.map_err(failed)?;
            wire.begin(deadline, 0);
            let host = host_name();
            for line in lines {
                let text = rfc5424(facility, line, &host);
                let framed = match framing {
                    Framing::OctetCounting => format!("{} {text}", text.len()),
                    // A character that would end the line is replaced.
                    Framing::Newline => format!("{}\n", text.replace(['\n', '\r', '\0'], " ")),
                };
                wire.send(framed.as_bytes()).await.map_err(failed)?;
            }
            wire.close().await;
            // RFC 6587, section 3.1, and RFC 5425: there is never an answer.
            Ok(Accepted::Unconfirmed(format!(
                "{count} sent to {}:{} (not confirmed: syslog)",
                endpoint.server, endpoint.port
            )))
        }
    }
}

async fn local(path: &Path, facility: u8, lines: &[LogLine]) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let socket = UnixDatagram::unbound().map_err(failed)?;
    match socket.connect(path) {
        // Some daemons use a stream socket there; glibc's syslog(3) switches to one on EPROTOTYPE.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::PROTOTYPE.raw_os_error()) => {
            let mut stream = UnixStream::connect(path).await.map_err(failed)?;
            for line in lines {
                // A zero byte ends a line there, as glibc writes it.
                let text = format!("{}\0", rfc3164(facility, line).replace('\0', " "));
                stream.write_all(text.as_bytes()).await.map_err(failed)?;
            }
            return stream.shutdown().await.map_err(failed);
        }
        connected => connected.map_err(failed)?,
    }
    for line in lines {
        socket.send(rfc3164(facility, line).as_bytes()).await.map_err(failed)?;
    }
    Ok(())
}

/// Sends the lines to the first address of the server that does not report an error.
async fn udp(server: &str, port: u16, facility: u8, lines: &[LogLine]) -> Result<(), String> {
    let addresses = connect::addresses(server, port)
        .await
        .map_err(|error| format!("{server}:{port}: {error}"))?;
    udp_first(&addresses, facility, lines)
        .await
        .map_err(|error| format!("{server}:{port}: {error}"))
}

async fn udp_first(
    addresses: &[SocketAddr],
    facility: u8,
    lines: &[LogLine],
) -> Result<(), String> {
    let mut failures = Vec::new();
    for address in addresses {
        match datagrams(*address, facility, lines).await {
            Ok(()) => return Ok(()),
            Err(error) => failures.push(format!("{error} ({address})")),
        }
    }
    Err(failures.join("; "))
}

/// Sends the lines to one address. UDP confirms nothing, but a host without a listener or a router
/// without a route usually reports it (ICMP). A connected socket returns that error from its next
/// call.
async fn datagrams(address: SocketAddr, facility: u8, lines: &[LogLine]) -> std::io::Result<()> {
    let any: std::net::IpAddr = if address.is_ipv4() {
        std::net::Ipv4Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(address).await?;
    let host = host_name();
    for (index, line) in lines.iter().enumerate() {
        let text = rfc5424(facility, line, &host);
        socket.send(text.as_bytes()).await?;
        // The answer to the first line shows whether to send the others; that to the last, whether
        // they arrived.
        if index == 0 || index + 1 == lines.len() {
            // A timeout or a datagram is fine: log servers send no meaningful datagrams.
            let answer = tokio::time::timeout(UNREACHABLE_WITHIN, socket.recv(&mut [0; 1])).await;
            if let Ok(Err(error)) = answer {
                return Err(error);
            }
        }
    }
    Ok(())
}

fn host_name() -> String {
    let name = rustix::system::uname();
    let name: String = name
        .nodename()
        .to_string_lossy()
        .chars()
        .filter(char::is_ascii_graphic)
        .take(255)
        .collect();
    if name.is_empty() { "-".to_owned() } else { name }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_LINE)]
}

/// Returns the text of a line: monitor and message; a notice has no monitor.
fn words(line: &LogLine) -> String {
    let text = cut(&line.text);
    if line.monitor.is_empty() { text.to_owned() } else { format!("{}: {text}", line.monitor) }
}

/// Formats a line by RFC 5424, section 6. The byte order mark marks the text as UTF-8.
fn rfc5424(facility: u8, line: &LogLine, host: &str) -> String {
    let priority = facility * 8 + line.severity;
    format!(
        "<{priority}>1 {at} {host} {program} {process} {kind} - \u{feff}{words}",
        at = line.at,
        program = line.program,
        process = std::process::id(),
        kind = line.kind,
        words = words(line),
    )
}

/// Formats a line by RFC 3164, section 4.1, without a host: the only form that every local daemon
/// (journald among them) understands.
fn rfc3164(facility: u8, line: &LogLine) -> String {
    let local = mailqos_base::zones::system()
        .unwrap_or(jiff::tz::TimeZone::UTC)
        .to_datetime(UtcMicros::now().timestamp());
    format!(
        "<{}>{} {}[{}]: {} {}",
        facility * 8 + line.severity,
        local.strftime("%b %e %H:%M:%S"),
        line.program,
        std::process::id(),
        line.kind,
        words(line)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Program;

    fn line() -> LogLine {
        LogLine {
            program: Program::Probe,
            at: UtcMicros(1_780_000_000_123_456),
            severity: 3,
            kind: "alarm",
            monitor: "m1".into(),
            text: "Göteborg: 3 tests in a row failed".into(),
        }
    }

    #[test]
    fn a_line_has_the_form_of_its_standard() {
        let text = rfc5424(3, &line(), "host");
        let expected = format!(
            "<27>1 2026-05-28T20:26:40.123456Z host mailqos-probe {} alarm - \u{feff}m1: Göteborg: 3 tests in a row failed",
            std::process::id()
        );
        assert_eq!(text, expected);
        let long = LogLine { text: "ö".repeat(5000), ..line() };
        assert!(rfc5424(23, &long, "host").len() < 2048);
        let program = Program::Analytics;
        let notice = LogLine { program, kind: "notice", monitor: String::new(), ..line() };
        let text = rfc5424(3, &notice, "host");
        assert!(text.ends_with(" notice - \u{feff}Göteborg: 3 tests in a row failed"), "{text}");
        assert!(text.contains(" host mailqos-analytics "), "{text}");
        assert!(rfc3164(3, &notice).contains(" mailqos-analytics["));
    }

    #[tokio::test]
    async fn a_connection_confirms_nothing() {
        let log = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let endpoint = mailqos_config::Endpoint {
            server: "127.0.0.1".to_owned(),
            port: log.local_addr().expect("an address").port(),
            tls: mailqos_config::TlsMode::None,
            trust: mailqos_net::Trust::default(),
            account: None,
            helo: None,
            proxy: None,
        };
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("mailqos.toml");
        std::fs::write(&path, "site = \"here\"\n").expect("write");
        let config = mailqos_config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
        let notification = Notification::notice(&config, Program::Probe, "1", "hello", "hello");
        let sent = send(
            &LogPlace::Stream(endpoint, Framing::default()),
            3,
            &notification,
            Duration::from_secs(10),
        )
        .await;
        assert!(matches!(sent, Ok(Accepted::Unconfirmed(_))), "{sent:?}");
    }

    #[tokio::test]
    async fn a_closed_port_is_reported_and_the_next_address_tried() {
        let closed = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let closed_at = closed.local_addr().expect("an address");
        drop(closed);
        let open = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let open_at = open.local_addr().expect("an address");
        for lines in [vec![line()], vec![line(), line()]] {
            let error = udp_first(&[closed_at], 3, &lines).await.expect_err("nobody listens");
            assert!(error.contains("refused") && error.contains(&closed_at.to_string()), "{error}");
            udp_first(&[closed_at, open_at], 3, &lines).await.expect("sent");
            let mut space = [0; 2048];
            for _ in &lines {
                let count = open.recv(&mut space).await.expect("a line");
                assert!(space[..count].starts_with(b"<27>1 "));
            }
        }
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("mailqos.toml");
        std::fs::write(&path, "site = \"here\"\n").expect("write");
        let config = mailqos_config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
        let notification = Notification::notice(&config, Program::Probe, "1", "hello", "hello");
        let to = LogPlace::Udp { server: closed_at.ip().to_string(), port: closed_at.port() };
        let sent = send(&to, 3, &notification, Duration::from_secs(10)).await;
        sent.expect_err("what nobody took was not sent");
    }

    #[tokio::test]
    async fn a_log_that_listens_for_connections_gets_lines() {
        use tokio::io::AsyncReadExt as _;
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("log");
        let log = tokio::net::UnixListener::bind(&path).expect("a socket");
        let lines = [line(), line()];
        let (sent, heard) = tokio::join!(local(&path, 16, &lines), async {
            let (mut stream, _) = log.accept().await.expect("a connection");
            let mut heard = String::new();
            stream.read_to_string(&mut heard).await.expect("lines");
            heard
        });
        sent.expect("taken");
        let lines: Vec<&str> = heard.split_terminator('\0').collect();
        assert_eq!(lines.len(), 2, "{heard:?}");
        assert!(
            lines.iter().all(|line| line.starts_with("<131>") && line.ends_with("in a row failed"))
        );
    }

    #[tokio::test]
    async fn datagrams_arrive_and_a_missing_socket_is_reported() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("log");
        let log = UnixDatagram::bind(&path).expect("a socket");
        local(&path, 16, &[line()]).await.expect("taken");
        let mut space = [0; 2048];
        let count = log.recv(&mut space).await.expect("a line");
        let text = String::from_utf8_lossy(&space[..count]);
        assert!(text.starts_with("<131>") && text.contains("alarm m1: Göteborg"), "{text}");
        local(&folder.path().join("absent"), 16, &[line()]).await.expect_err("no socket");
    }
}
