//! Settings of a server: address, encryption and login.

use std::{fmt, path::PathBuf};

use mailqos_model::AccountName;
use mailqos_net::{MAX_CA_FILE, Trust};

use super::{
    Account, Config, Endpoint, Problem, Problems, Severity, Table, TlsMode,
    key::{Defaulted, Optional, Required, Word, key},
    value::{host, reference},
};

keys! {
    OWN_SERVER: OwnServerKeys {
        /// Host name or IP address.
        server: Required<String> = key();
    }
}

keys! {
    MAIL_SERVER_ADDRESS: MailServerAddressKeys {
        /// Host name or IP address; required for SMTP.
        server: Optional<String> = key().otherwise("Graph: the host of the account's cloud");
    }
}

keys! {
    OBJECT_SERVER: ObjectServerKeys {
        /// Host name or IP address.
        server: Optional<String> = key().otherwise("the object's address; Graph: the host of the account's cloud");
    }
}

/// Encryption of mail protocols.
const MAIL_TLS: [(&str, TlsMode); 3] =
    [("none", TlsMode::None), ("starttls", TlsMode::StartTls), ("implicit", TlsMode::Implicit)];

/// Protocol by which mails are submitted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum SubmissionProtocol {
    /// SMTP (RFC 5321, RFC 6409).
    #[default]
    Smtp,
    /// Microsoft Graph.
    Graph,
}

impl SubmissionProtocol {
    /// Returns an account as this protocol uses it: Microsoft Graph needs other tokens.
    pub fn account(self, account: &Account) -> Account {
        match self {
            Self::Graph => account.for_graph(),
            Self::Smtp => account.clone(),
        }
    }
}

impl fmt::Display for SubmissionProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Smtp => "SMTP",
            Self::Graph => "Graph",
        })
    }
}

/// Protocols of submission.
const SUBMISSIONS: [(&str, SubmissionProtocol); 2] =
    [("smtp", SubmissionProtocol::Smtp), ("graph", SubmissionProtocol::Graph)];

keys! {
    SUBMISSION: SubmissionKeys {
        /// The protocol: SMTP, or Microsoft Graph, for which only `account`, `server`, `port` and
        /// the keys about certificates apply.
        protocol: Word<SubmissionProtocol> = word!(SUBMISSIONS).default("\"smtp\"");
    }
}

keys! {
    SMTP_SERVER: SmtpServerKeys {
        /// TCP port.
        port: Optional<u16> = key().otherwise("587 with `starttls`, 465 with `implicit`, 25 with `none`");
        /// Encryption: none, `starttls` (the test fails if the server doesn't offer it) or TLS from
        /// the first byte.
        tls: Word<TlsMode> = word!(MAIL_TLS).default("\"starttls\"");
        /// The account to log in with.
        account: Optional<AccountName> = key().otherwise("no login");
        /// The name given in EHLO; some servers accept only registered names.
        helo: Optional<String> = key().otherwise("the probe's address, such as `[192.0.2.1]`");
    }
}

keys! {
    MAILBOX_SERVER: MailboxServerKeys {
        /// TCP port.
        port: Optional<u16> = key().otherwise("POP3: 995 with `implicit`, otherwise 110; IMAP: 993, otherwise 143; Graph: 443");
        /// Encryption, as for `smtp`.
        tls: Word<TlsMode> = word!(MAIL_TLS).default("\"implicit\"");
        /// The account to log in with; required here or in the defaults.
        account: Optional<AccountName> = key();
    }
}

keys! {
    TRUST: TrustKeys {
        /// A file with PEM certificates that are trusted instead of the platform's.
        ca_file: Optional<PathBuf> = key();
        /// SHA-256 of the server's certificate, 64 hexadecimal digits; no other certificate is
        /// accepted.
        fingerprint: Optional<String> = key();
        /// Accept any certificate. `check` warns about it, and reports mention it.
        insecure: Defaulted<bool> = key().default("false");
    }
}

/// How a kind of server is configured.
#[derive(Clone, Copy)]
pub(super) struct Service {
    /// Name in messages.
    pub(super) what: &'static str,
    /// Default ports for no TLS, STARTTLS and implicit TLS.
    pub(super) ports: [u16; 3],
    /// Key of the port.
    pub(super) port: &'static Optional<u16>,
    /// Key of the encryption, if the protocol has any.
    pub(super) tls: Option<&'static Word<TlsMode>>,
    /// Key of the account.
    pub(super) account: &'static Optional<AccountName>,
    /// Key of the name in EHLO.
    pub(super) helo: Option<&'static Optional<String>>,
}

pub(super) const SMTP: Service = Service {
    what: "the SMTP server",
    ports: [25, 587, 465],
    port: &SMTP_SERVER.port,
    tls: Some(&SMTP_SERVER.tls),
    account: &SMTP_SERVER.account,
    helo: Some(&SMTP_SERVER.helo),
};

pub(super) const POP3: Service = Service {
    what: "the POP3 server",
    ports: [110, 110, 995],
    port: &MAILBOX_SERVER.port,
    tls: Some(&MAILBOX_SERVER.tls),
    account: &MAILBOX_SERVER.account,
    helo: None,
};

pub(super) const IMAP: Service = Service {
    what: "the IMAP server",
    ports: [143, 143, 993],
    port: &MAILBOX_SERVER.port,
    tls: Some(&MAILBOX_SERVER.tls),
    account: &MAILBOX_SERVER.account,
    helo: None,
};

/// Reads the keys of Microsoft Graph, which don't depend on the object: its host belongs to the
/// account's cloud.
pub(super) fn graph_endpoint(
    table: &mut Table,
    account: &Optional<AccountName>,
    config: &Config,
    problems: &mut Problems,
) -> Option<Endpoint> {
    let server = table.read(&MAIL_SERVER_ADDRESS.server, problems);
    if let Some(server) = &server {
        host(server, &MAIL_SERVER_ADDRESS.server, table, problems);
    }
    if table.node(&MAILBOX_SERVER.tls).is_some() {
        let tls = table.read(&MAILBOX_SERVER.tls, problems);
        if tls != TlsMode::Implicit {
            problems.push(
                table
                    .problem(&MAILBOX_SERVER.tls, "Microsoft Graph is used over TLS only", "here")
                    .help("remove tls"),
            );
        }
    }
    let port = port(table, &MAILBOX_SERVER.port, 443, problems);
    let name = reference(table, account, "account", &config.accounts, problems);
    let trust = trust(table, problems);
    let known = name.as_ref().and_then(|name| config.accounts.get(name));
    let graph = known.and_then(|known| known.oauth()?.graph.as_ref());
    if let (Some(name), Some(_), None) = (&name, known, graph) {
        problems.push(
            table
                .problem(account, "this account has no tokens for Microsoft Graph", "this account")
                .help(format!(
                    "in [account.{name}], set oauth = {{ preset = \"microsoft-365\", tenant = …, client_id = …, \
                     client_secret = … }}; the cloud \"china\" lacks the delta queries that are needed"
                )),
        );
    }
    let server = server.or_else(|| graph.map(|graph| graph.server.clone()));
    Some(Endpoint {
        server: server.or_else(|| name.is_none().then(|| "graph.microsoft.com".to_owned()))?,
        port,
        tls: TlsMode::Implicit,
        trust,
        account: name,
        helo: None,
        proxy: Some(config.proxy.clone()),
    })
}

/// Reads the keys of a server; `address` is used if no server is named.
pub(super) fn endpoint(
    table: &mut Table,
    service: Service,
    address: Option<&str>,
    config: &Config,
    problems: &mut Problems,
) -> Option<Endpoint> {
    let server: Option<String> = match address {
        Some(address) => {
            let server = table.read(&OBJECT_SERVER.server, problems);
            Some(server.unwrap_or_else(|| address.to_owned()))
        }
        None => table.require(
            &OWN_SERVER.server,
            &format!("host name or IP address of {}", service.what),
            problems,
        ),
    };
    if let Some(server) = &server
        && table.node(&OWN_SERVER.server).is_some()
    {
        host(server, &OWN_SERVER.server, table, problems);
    }
    let tls = service.tls.map_or(TlsMode::None, |key| table.read(key, problems));
    let [none, upgrade, implicit] = service.ports;
    let usual = match tls {
        TlsMode::None => none,
        TlsMode::StartTls => upgrade,
        TlsMode::Implicit => implicit,
    };
    let port = port(table, service.port, usual, problems);
    let account = reference(table, service.account, "account", &config.accounts, problems);
    if let Some(name) = &account {
        let server = server.as_deref().unwrap_or_default();
        if let Some(problem) = login_problem(table, service, server, name, config) {
            problems.push(problem);
        }
    }
    let trust = service.tls.map_or_else(Trust::default, |_| trust(table, problems));
    let helo = service.helo.and_then(|key| helo(table, key, problems));
    let server = server?;
    if let Some(key) = service.tls
        && account.is_some()
        && tls == TlsMode::None
        && !is_loopback(&server)
    {
        problems.push(Problem {
            severity: Severity::Warning,
            ..table
                .problem(
                    key,
                    format!("the password is sent to {server} in plaintext"),
                    "no encryption",
                )
                .help(format!(
                    "set tls = \"{}\" or tls = \"implicit\"",
                    key.word(TlsMode::StartTls)
                ))
        });
    }
    Some(Endpoint { server, port, tls, trust, account, helo, proxy: None })
}

/// Reads the name given in EHLO: a host name, or an address literal such as `[192.0.2.1]` (RFC
/// 5321, section 4.1.3).
fn helo(table: &mut Table, key: &Optional<String>, problems: &mut Problems) -> Option<String> {
    let name = table.read(key, problems)?;
    let literal = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_literal = literal.is_some_and(|address| {
        let address = address.strip_prefix("IPv6:").unwrap_or(address);
        address.parse::<std::net::IpAddr>().is_ok()
    });
    if !is_literal {
        host(&name, key, table, problems);
    }
    Some(name)
}

/// Reads the port.
pub(super) fn port(
    table: &mut Table,
    key: &Optional<u16>,
    usual: u16,
    problems: &mut Problems,
) -> u16 {
    let port = table.read(key, problems).unwrap_or(usual);
    if port == 0 {
        problems.push(
            table
                .problem(key, "0 is not a valid port", "this port")
                .help(format!("the usual ports are {usual}")),
        );
    }
    port
}

/// Returns the problem of a login that is known to fail.
fn login_problem(
    table: &Table,
    service: Service,
    server: &str,
    name: &AccountName,
    config: &Config,
) -> Option<Problem> {
    let account = config.accounts.get(name)?;
    let is_mail = [SMTP, POP3, IMAP].iter().any(|mail| mail.what == service.what);
    let server = server.to_ascii_lowercase();
    let has_token = account.oauth().is_some();
    let lacks_scope = |oauth: &crate::OAuthOptions| oauth.scope.is_none() && oauth.graph.is_some();
    if account.oauth().is_some_and(lacks_scope) && is_mail {
        let message =
            format!("the scope of tokens for {} is not known in this cloud", service.what);
        return Some(
            table
                .problem(service.account, message, "this account")
                .help(format!("set scope in [account.{name}.oauth]")),
        );
    }
    if has_token && !is_mail {
        let message = format!("{} does not accept OAuth tokens", service.what);
        return Some(
            table
                .problem(service.account, message, "this account has oauth")
                .help("use an account that has a password"),
        );
    }
    let is_microsoft = server.ends_with(".office365.com") || server == "outlook.office.com";
    if !is_mail || has_token || !is_microsoft {
        return None;
    }
    let message = if service.what == SMTP.what {
        "Microsoft 365 disables basic authentication (user and password) for SMTP by default at the end of \
         December 2026"
    } else {
        "Microsoft 365 does not accept passwords over POP3 and IMAP"
    };
    Some(Problem {
        severity: Severity::Warning,
        ..table.problem(service.account, message, "this account has a password").help(format!(
            "in [account.{name}], replace password with oauth = {{ preset = \"microsoft-365\", tenant = …, \
             client_id = …, client_secret = … }}"
        ))
    })
}

pub(super) fn is_loopback(server: &str) -> bool {
    server == "localhost"
        || server.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

pub(super) fn trust(table: &mut Table, problems: &mut Problems) -> Trust {
    let ca_file = table.read(&TRUST.ca_file, problems);
    if let Some(path) = &ca_file
        && let Err(error) = mailqos_base::files::read(path, MAX_CA_FILE)
    {
        problems.push(
            table
                .problem(
                    &TRUST.ca_file,
                    format!("can't read {}: {error}", path.display()),
                    "this file",
                )
                .help("name a file with PEM certificates; the path is relative to this file"),
        );
    }
    let fingerprint = table.read(&TRUST.fingerprint, problems).and_then(|text| {
        let bytes = fingerprint(&text);
        if bytes.is_none() {
            problems.push(
                table
                    .problem(
                        &TRUST.fingerprint,
                        "this is not a SHA-256 fingerprint",
                        "not 64 hexadecimal digits",
                    )
                    .help(
                        "print it with: openssl x509 -in CERTIFICATE -noout -fingerprint -sha256",
                    ),
            );
        }
        bytes
    });
    let insecure = table.read(&TRUST.insecure, problems);
    if insecure {
        problems.push(Problem {
            severity: Severity::Warning,
            ..table
                .problem(
                    &TRUST.insecure,
                    "certificates are not verified: anyone on the network path can read the password",
                    "set here",
                )
                .help("name the server's CA with ca_file, or pin its certificate with fingerprint")
        });
    }
    Trust { ca_file, fingerprint, insecure }
}

/// Parses 64 hexadecimal digits, with optional colons between them.
fn fingerprint(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text.bytes().filter(|b| *b != b':').collect();
    let mut bytes = [0; 32];
    // The digits are checked separately, because parsing a number accepts a sign.
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
        for wrong in
            [right.replace("cd", "+d"), right.replace("cd", "c"), right.replace("cd", "cg")]
        {
            assert_eq!(fingerprint(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn port_0_is_rejected() {
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
        assert_eq!(said.matches("0 is not a valid port").count(), 4, "{said}");
        for usual in ["22", "445", "514", "6514"] {
            assert!(said.contains(&format!("the usual ports are {usual}")), "{said}");
        }
    }

    #[test]
    fn microsoft_graph_is_where_the_account_has_its_cloud() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("mailqos.toml");
        let text = r#"
site = "here"
[account.smtp]
user = "a"
password = { env = "X" }
[account.m365]
user = "probe@contoso.com"
oauth = { preset = "microsoft-365", tenant = "t", client_id = "c", client_secret = { env = "S" } }
[object.mail]
address = "mail.example.com"
[monitor.mail]
object = "mail"
from = "a@example.com"
to = "probe@contoso.com"
smtp = { account = "smtp" }
pickup = { protocol = "graph", account = "m365" }
folders = ["INBOX", "Junk Email"]
"#;
        let read = |change: &[(&str, &str)]| {
            let mut text = text.to_owned();
            for (from, to) in change {
                assert!(text.contains(from), "{from}");
                text = text.replace(from, to);
            }
            std::fs::write(&path, text).expect("write");
            load(&path)
        };
        let server = |change| {
            let config = read(change).unwrap_or_else(|problems| panic!("{problems}"));
            let monitor = config.monitors.values().next().expect("a monitor");
            let pickup = monitor.kind.pickup().expect("a mailbox");
            (pickup.endpoint.place(), pickup.protocol.to_string())
        };
        let graph = |place: &str| (format!("{place} TLS"), "Graph".to_owned());
        assert_eq!(server(&[]), graph("graph.microsoft.com:443"));
        let cloud = [("tenant", "cloud = \"us-government\", tenant")];
        assert_eq!(server(&cloud), graph("graph.microsoft.us:443"));
        let own = [("\"graph\",", "\"graph\", server = \"localhost\", port = 8443,")];
        assert_eq!(server(&own), graph("localhost:8443"));
        for (change, expected) in [
            ([("account = \"m365\"", "account = \"smtp\"")], "no tokens for Microsoft Graph"),
            ([("tenant", "cloud = \"china\", tenant")], "lacks the delta queries"),
            ([("\"graph\",", "\"graph\", tls = \"none\",")], "over TLS only"),
            ([("account = \"m365\" }", "}")], "\"account\" is missing"),
            (
                [(
                    "smtp = { account = \"smtp\" }",
                    "smtp = { protocol = \"graph\", account = \"smtp\" }",
                )],
                "no tokens for Microsoft Graph",
            ),
            (
                [("[\"INBOX\", \"Junk Email\"]", "[\"INBOX\", \"Sent Items\"]")],
                "mails that were sent",
            ),
            (
                [(
                    "smtp = { account = \"smtp\" }",
                    "message = { size = \"5MB\" }\nsmtp = { protocol = \"graph\", account = \"m365\" }",
                )],
                "does not accept mails of 5000000 bytes",
            ),
            (
                [(
                    "[object.mail]",
                    "[mail_server.m]\nprotocol = \"graph\"\naccount = \"m365\"\nfrom = \"a@b.example\"\nreturn_path = \"c@b.example\"\n[object.mail]",
                )],
                "sends bounces to the sender",
            ),
            (
                [(
                    "[object.mail]",
                    "[mail_server.m]\nprotocol = \"graph\"\nfrom = \"a@b.example\"\n[object.mail]",
                )],
                "\"account\" is missing",
            ),
            (
                [("[object.mail]", "[mail_server.m]\nfrom = \"a@b.example\"\n[object.mail]")],
                "\"server\" is missing",
            ),
        ] {
            let problems = read(&change).expect_err("it is wrong").to_string();
            assert!(problems.contains(expected), "{problems}");
        }
    }
}
