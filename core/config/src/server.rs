//! A server to talk to: where it is, how the way to it is protected, who logs in.

use std::path::PathBuf;

use mailqos_model::AccountName;
use mailqos_net::{MAX_CA_FILE, Trust};

use super::{
    Config, Endpoint, Problem, Problems, Severity, Table, TlsMode,
    value::{host, reference},
};

/// What stands in the table of a server to talk to.
#[derive(Clone, Copy)]
pub(super) struct Service {
    /// For messages.
    what: &'static str,
    /// Ports for no TLS, STARTTLS, implicit TLS.
    ports: [u16; 3],
    /// Encryption where nothing is said.
    tls: TlsMode,
    /// The word for an upgrade in the middle.
    upgrade: &'static str,
}

pub(super) const SMTP: Service = Service {
    what: "the SMTP server",
    ports: [25, 587, 465],
    tls: TlsMode::StartTls,
    upgrade: "starttls",
};

pub(super) const POP3: Service = Service {
    what: "the POP3 server",
    ports: [110, 110, 995],
    tls: TlsMode::Implicit,
    upgrade: "starttls",
};

pub(super) const IMAP: Service = Service {
    what: "the IMAP server",
    ports: [143, 143, 993],
    tls: TlsMode::Implicit,
    upgrade: "starttls",
};

pub(super) const FTP: Service = Service {
    what: "the FTP server",
    ports: [21, 21, 990],
    tls: TlsMode::StartTls,
    upgrade: "explicit",
};

pub(super) const SMB: Service = Service {
    what: "the file server",
    ports: [445, 445, 445],
    tls: TlsMode::None,
    upgrade: "",
};

/// Reads the keys of a server; `address` is used where no server is named.
pub(super) fn endpoint(
    table: &mut Table,
    service: Service,
    address: Option<&str>,
    config: &Config,
    problems: &mut Problems,
) -> Option<Endpoint> {
    let server: Option<String> = match address {
        Some(address) => Some(table.get("server", problems).unwrap_or_else(|| address.to_owned())),
        None => table.require(
            "server",
            &format!("host name or IP address of {}", service.what),
            problems,
        ),
    };
    if let Some(server) = &server
        && table.node("server").is_some()
    {
        host(server, "server", table, problems);
    }
    let tls = if service.upgrade.is_empty() {
        TlsMode::None
    } else {
        let words = [
            ("none", TlsMode::None),
            (service.upgrade, TlsMode::StartTls),
            ("implicit", TlsMode::Implicit),
        ];
        table.word("tls", &words, problems).unwrap_or(service.tls)
    };
    let [none, upgrade, implicit] = service.ports;
    let usual = match tls {
        TlsMode::None => none,
        TlsMode::StartTls => upgrade,
        TlsMode::Implicit => implicit,
    };
    let port = port(table, usual, problems);
    let account = reference(table, "account", "account", &config.accounts, problems);
    warn_of_login(table, service, server.as_deref(), account.as_ref(), config, problems);
    let trust = if service.upgrade.is_empty() {
        Trust::default()
    } else {
        trust(table, problems)
    };
    let helo = if service.what == SMTP.what {
        helo(table, problems)
    } else {
        None
    };
    let server = server?;
    if account.is_some() && tls == TlsMode::None && !service.upgrade.is_empty() && !is_loopback(&server) {
        problems.push(Problem {
            severity: Severity::Warning,
            ..table
                .problem(
                    "tls",
                    format!("the password travels in clear to {server}"),
                    "no encryption",
                )
                .help(format!("write tls = \"{}\" or tls = \"implicit\"", service.upgrade))
        });
    }
    Some(Endpoint {
        server,
        port,
        tls,
        trust,
        account,
        helo,
    })
}

/// Reads the name given in EHLO: a host name, or an address literal such as `[192.0.2.1]` (RFC 5321, section 4.1.3).
fn helo(table: &mut Table, problems: &mut Problems) -> Option<String> {
    let name: String = table.get("helo", problems)?;
    let literal = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_literal = literal.is_some_and(|address| {
        let address = address.strip_prefix("IPv6:").unwrap_or(address);
        address.parse::<std::net::IpAddr>().is_ok()
    });
    if !is_literal {
        host(&name, "helo", table, problems);
    }
    Some(name)
}

/// Reads the port.
pub(super) fn port(table: &mut Table, usual: u16, problems: &mut Problems) -> u16 {
    let port = table.get("port", problems).unwrap_or(usual);
    if port == 0 {
        problems.push(
            table
                .problem("port", "0 is no port", "this port")
                .help(format!("usual here: {usual}")),
        );
    }
    port
}

/// What is known beforehand of logins that will not do.
fn warn_of_login(
    table: &Table,
    service: Service,
    server: Option<&str>,
    name: Option<&AccountName>,
    config: &Config,
    problems: &mut Problems,
) {
    let Some((name, account)) = name.and_then(|name| Some((name, config.accounts.get(name)?))) else {
        return;
    };
    let is_mail = [SMTP, POP3, IMAP].iter().any(|mail| mail.what == service.what);
    let server = server.unwrap_or_default().to_ascii_lowercase();
    let has_token = account.oauth().is_some();
    if has_token && !is_mail {
        problems.push(
            table
                .problem(
                    "account",
                    format!("{} takes no OAuth tokens", service.what),
                    "an account with oauth",
                )
                .help("name an account with a password"),
        );
    } else if is_mail && !has_token && (server.ends_with(".office365.com") || server == "outlook.office.com") {
        let message = if service.what == SMTP.what {
            "basic authentication (user and password) for SMTP at Microsoft 365 ends by default at the end of December 2026"
        } else {
            "Microsoft 365 takes no passwords over POP3 and IMAP"
        };
        problems.push(Problem {
            severity: Severity::Warning,
            ..table.problem("account", message, "an account with a password").help(format!(
                "in [account.{name}] write oauth = {{ preset = \"microsoft-365\", tenant = …, client_id = …, client_secret = … }} in place of password"
            ))
        });
    }
}

pub(super) fn is_loopback(server: &str) -> bool {
    server == "localhost"
        || server
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

pub(super) fn trust(table: &mut Table, problems: &mut Problems) -> Trust {
    let ca_file: Option<PathBuf> = table.get("ca_file", problems);
    if let Some(path) = &ca_file
        && let Err(error) = mailqos_base::files::read(path, MAX_CA_FILE)
    {
        problems.push(
            table
                .problem(
                    "ca_file",
                    format!("can't read {}: {error}", path.display()),
                    "this file",
                )
                .help("name a file of PEM certificates; the path is relative to this file"),
        );
    }
    let fingerprint = table.get::<String>("fingerprint", problems).and_then(|text| {
        let bytes = fingerprint(&text);
        if bytes.is_none() {
            problems.push(
                table
                    .problem(
                        "fingerprint",
                        "this is no SHA-256 fingerprint",
                        "not 64 hexadecimal digits",
                    )
                    .help("openssl x509 -in CERTIFICATE -noout -fingerprint -sha256 prints it"),
            );
        }
        bytes
    });
    let insecure = table.get("insecure", problems).unwrap_or(false);
    if insecure {
        problems.push(Problem {
            severity: Severity::Warning,
            ..table
                .problem(
                    "insecure",
                    "certificates are not verified: anybody on the way can read the password",
                    "set here",
                )
                .help("name the server's own authority with ca_file, or its certificate with fingerprint")
        });
    }
    Trust {
        ca_file,
        fingerprint,
        insecure,
    }
}

/// 64 hexadecimal digits, colons allowed between.
fn fingerprint(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text.bytes().filter(|b| *b != b':').collect();
    let mut bytes = [0; 32];
    // The digits are looked at, too: numbers may have a sign.
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load;

    #[test]
    fn a_fingerprint_has_digits_only() {
        let right = ["AB:cd", &":01".repeat(30)].concat();
        let bytes = fingerprint(&right).expect("a fingerprint");
        assert_eq!(bytes[..3], [0xab, 0xcd, 1]);
        for wrong in [
            right.replace("cd", "+d"),
            right.replace("cd", "c"),
            right.replace("cd", "cg"),
        ] {
            assert_eq!(fingerprint(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn nothing_listens_on_port_0() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("mailqos.toml");
        let text = r#"
site = "here"
[account.a]
user = "a"
password = { env = "X" }
[target.keys]
kind = "sftp"
server = "files.example.net"
account = "a"
port = 0
[target.share]
kind = "smb"
server = "files.example.net"
share = "reports"
port = 0
[action_list.default]
actions = [
  { syslog = { server = "log.example.net", port = 0 } },
  { syslog = { server = "log.example.net", transport = "tls", port = 0 } },
]
"#;
        std::fs::write(&path, text).expect("write");
        let said = load(&path).expect_err("it is wrong").to_string();
        assert_eq!(said.matches("0 is no port").count(), 4, "{said}");
        for usual in ["22", "445", "514", "6514"] {
            assert!(said.contains(&format!("usual here: {usual}")), "{said}");
        }
    }
}
