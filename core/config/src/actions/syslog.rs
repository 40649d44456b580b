//! System logs: a line as an alarm action.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Action, SYSLOG_ACTION};
use crate::{
    Endpoint, Problems, Table, TlsMode,
    key::{Defaulted, Optional, OptionalWord, Word, key},
    server::{port, trust},
    value::host,
};

/// The address of a system log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogPlace {
    /// The socket of this machine's log.
    Local(PathBuf),
    /// Datagrams (RFC 5426), which are not confirmed.
    Udp {
        /// Host name or IP address.
        server: String,
        /// TCP or UDP port.
        port: u16,
    },
    /// A connection (RFC 6587), with TLS (RFC 5425) or without.
    Stream(Endpoint, Framing),
}

/// Separation of lines on a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Framing {
    /// The length precedes each line (RFC 6587, section 3.4.1, and RFC 5425).
    #[default]
    OctetCounting,
    /// Lines end with a line feed (RFC 6587, section 3.4.2).
    Newline,
}

const FRAMINGS: [(&str, Framing); 2] =
    [("octet-counting", Framing::OctetCounting), ("newline", Framing::Newline)];
const TRANSPORTS: [(&str, Transport); 4] = [
    ("local", Transport::Local),
    ("udp", Transport::Udp),
    ("tcp", Transport::Tcp),
    ("tls", Transport::Tls),
];
const FACILITIES: [(&str, u8); 20] = [
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

/// Transports to a system log.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Transport {
    Local,
    Udp,
    Tcp,
    Tls,
}

keys! {
    SYSLOG: SyslogKeys {
        /// The transport.
        transport: OptionalWord<Transport> = word!(TRANSPORTS).otherwise("`udp` if a server is named, otherwise `local`");
        /// The facility.
        facility: Word<u8> = word!(FACILITIES).default("\"daemon\"");
        /// Local: the socket of this machine's log.
        socket: Defaulted<PathBuf> = key().default("\"/dev/log\"");
        /// Host name or IP address of the log server.
        server: Optional<String> = key();
        /// Its port.
        port: Optional<u16> = key().otherwise("6514 with `tls`, otherwise 514");
        /// Over TCP and TLS: how lines are separated, by a preceding length or by a trailing line
        /// feed.
        framing: Word<Framing> = word!(FRAMINGS).default("\"octet-counting\"");
    }
}

pub(super) fn syslog(table: &mut Table, problems: &mut Problems) -> Option<Action> {
    let mut inner = table.table(&SYSLOG_ACTION.syslog, problems)?;
    let remote = inner.node(&SYSLOG.server).is_some();
    let usual = if remote { Transport::Udp } else { Transport::Local };
    let transport = inner.read(&SYSLOG.transport, problems).unwrap_or(usual);
    let facility = inner.read(&SYSLOG.facility, problems);
    let to = match transport {
        Transport::Local => LogPlace::Local(inner.read(&SYSLOG.socket, problems)),
        Transport::Udp => {
            let server: String = inner.require(
                &SYSLOG.server,
                "host name or IP address of the log server",
                problems,
            )?;
            host(&server, &SYSLOG.server, &inner, problems);
            LogPlace::Udp { server, port: port(&mut inner, &SYSLOG.port, 514, problems) }
        }
        Transport::Tcp | Transport::Tls => {
            let (tls, usual) = match transport {
                Transport::Tls => (TlsMode::Implicit, 6514),
                _ => (TlsMode::None, 514),
            };
            let server: String = inner.require(
                &SYSLOG.server,
                "host name or IP address of the log server",
                problems,
            )?;
            host(&server, &SYSLOG.server, &inner, problems);
            let framing = inner.read(&SYSLOG.framing, problems);
            let endpoint = Endpoint {
                server,
                port: port(&mut inner, &SYSLOG.port, usual, problems),
                tls,
                trust: trust(&mut inner, problems),
                account: None,
                helo: None,
                proxy: None,
            };
            LogPlace::Stream(endpoint, framing)
        }
    };
    inner.finish(problems);
    Some(Action::Syslog { to, facility })
}
