//! `mailqos-probe init`: asks for a first monitor, or takes it from flags; tries its connections, shows the certificates, writes the
//! configuration with comments, and runs one test.

use std::{
    io::{IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use inquire::{Confirm, InquireError, Password, Select, Text};
use mailqos_core::{
    config::{Endpoint, TlsMode, Trust},
    mail::{Smtp, TlsSession, Wire},
    model::Micros,
};
use toml_edit::{Table, Value};

use super::{
    Failure, Global,
    edit::{Edit, inline},
    test,
};

/// How long a step of trying a connection may take.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The name of the place that the probe measures from.
    #[arg(long)]
    site: Option<String>,
    /// The host name or IP address of the mail server.
    #[arg(long)]
    address: Option<String>,
    /// The object's id; made from the address, if not said.
    #[arg(long)]
    object: Option<String>,
    /// The monitor's id; the object's, if not said.
    #[arg(long)]
    monitor: Option<String>,
    /// Another address of the SMTP server.
    #[arg(long)]
    smtp_server: Option<String>,
    /// Port of the SMTP server.
    #[arg(long)]
    smtp_port: Option<u16>,
    /// Encryption of SMTP: none, starttls or implicit.
    #[arg(long, value_parser = ["none", "starttls", "implicit"])]
    smtp_tls: Option<String>,
    /// How the mailbox is read: pop3 or imap.
    #[arg(long, value_parser = ["pop3", "imap"])]
    protocol: Option<String>,
    /// Another address of the mailbox's server.
    #[arg(long)]
    pickup_server: Option<String>,
    /// Port of the mailbox's server.
    #[arg(long)]
    pickup_port: Option<u16>,
    /// Encryption of the pick-up: none, starttls or implicit.
    #[arg(long, value_parser = ["none", "starttls", "implicit"])]
    pickup_tls: Option<String>,
    /// The mailbox's mail address: sender and recipient of the test mails.
    #[arg(long)]
    mailbox: Option<String>,
    /// The name to log in with; the mailbox's address, if not said.
    #[arg(long)]
    user: Option<String>,
    /// The password is in this environment variable …
    #[arg(long, conflicts_with = "password_file")]
    password_env: Option<String>,
    /// … or in this file.
    #[arg(long)]
    password_file: Option<PathBuf>,
    /// The longest round trip that counts as good.
    #[arg(long)]
    max_round_trip: Option<Micros>,
    /// The wait before the first pick-up and between pick-ups.
    #[arg(long)]
    check_interval: Option<Micros>,
    /// Time between two tests.
    #[arg(long)]
    test_interval: Option<Micros>,
    /// A file with the authority of the servers' certificates (PEM).
    #[arg(long)]
    ca_file: Option<PathBuf>,
    /// Accept certificates that nobody vouches for, and pin them by their fingerprints.
    #[arg(long)]
    pin: bool,
    /// Ask nothing: what is not said is as usual.
    #[arg(long)]
    yes: bool,
    /// Try no connection and run no test.
    #[arg(long)]
    offline: bool,
}

impl From<InquireError> for Failure {
    fn from(error: InquireError) -> Self {
        Self::Usage(format!(
            "{error}; everything can be said by flags, too: mailqos-probe init --help"
        ))
    }
}

/// Asks, or takes what is usual.
struct Asking {
    ask: bool,
}

impl Asking {
    fn text(&self, said: Option<String>, what: &str, flag: &str, usual: Option<&str>) -> Result<String, Failure> {
        match (said, usual) {
            (Some(said), _) => Ok(said),
            (None, Some(usual)) if !self.ask => Ok(usual.to_owned()),
            (None, None) if !self.ask => Err(Failure::Usage(format!("{what} is not known: say it with {flag}"))),
            (None, usual) => {
                let mut prompt = Text::new(what);
                if let Some(usual) = usual {
                    prompt = prompt.with_default(usual);
                }
                Ok(prompt.prompt()?.trim().to_owned())
            }
        }
    }

    fn choice(&self, said: Option<String>, what: &str, choices: &[&'static str]) -> Result<String, Failure> {
        match said {
            Some(said) => Ok(said),
            None if self.ask => Ok(Select::new(what, choices.to_vec()).prompt()?.to_owned()),
            None => Ok(choices.first().copied().unwrap_or_default().to_owned()),
        }
    }

    fn duration(&self, said: Option<Micros>, what: &str, usual: &str) -> Result<String, Failure> {
        let text = self.text(said.map(|said| said.to_string()), what, "", Some(usual))?;
        text.parse::<Micros>()
            .map_err(|error| Failure::Usage(error.to_string()))?;
        Ok(text)
    }
}

/// A server as it will stand in the configuration.
struct Server {
    what: &'static str,
    endpoint: Endpoint,
    own_address: bool,
    tls: String,
    ca_file: Option<PathBuf>,
}

impl Server {
    fn value(&self, protocol: Option<&str>) -> Value {
        let mut pairs: Vec<(&'static str, Value)> = Vec::new();
        if let Some(protocol) = protocol {
            pairs.push(("protocol", protocol.into()));
        }
        if self.own_address {
            pairs.push(("server", self.endpoint.server.as_str().into()));
        }
        pairs.push(("port", i64::from(self.endpoint.port).into()));
        pairs.push(("tls", self.tls.as_str().into()));
        if let Some(path) = &self.ca_file {
            pairs.push(("ca_file", path.display().to_string().into()));
        }
        if let Some(fingerprint) = self.endpoint.trust.fingerprint {
            pairs.push(("fingerprint", hex(&fingerprint).into()));
        }
        inline(pairs)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What people may have typed, as an id.
fn id_of(text: &str) -> String {
    let id: String = text
        .to_lowercase()
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
                c
            } else {
                '-'
            }
        })
        .take(64)
        .collect();
    if id.chars().all(|c| c == '.') {
        "mail".to_owned()
    } else {
        id
    }
}

pub(super) async fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let asking = Asking {
        ask: !args.yes && std::io::stdin().is_terminal(),
    };
    // Paths in the configuration refer to its folder, those typed here to this one.
    let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    let ca_file = args.ca_file.map(absolute);
    let mut edit = Edit::main(global.path())?;
    let fresh = !edit.document.contains_key("site");
    let site = if fresh {
        Some(asking.text(args.site, "Name of this place", "--site", Some("here"))?)
    } else {
        None
    };
    let address = asking.text(args.address, "Mail server (host name or IP address)", "--address", None)?;
    let object = id_of(&asking.text(args.object, "Call it", "--object", Some(&id_of(&address)))?);
    let monitor = id_of(&args.monitor.unwrap_or_else(|| object.clone()));
    let mailbox = asking.text(args.mailbox, "Mail address of the test mailbox", "--mailbox", None)?;
    let user = asking.text(args.user, "User name of the mailbox", "--user", Some(&mailbox))?;

    let smtp_tls = asking.choice(args.smtp_tls, "Encryption of SMTP", &["starttls", "implicit", "none"])?;
    let smtp_usual = match smtp_tls.as_str() {
        "implicit" => "465",
        "starttls" => "587",
        _ => "25",
    };
    let port = |text: String| {
        text.parse::<u16>()
            .map_err(|_| Failure::Usage(format!("{text:?} is no port")))
    };
    let smtp_port = port(asking.text(
        args.smtp_port.map(|port| port.to_string()),
        "Port of SMTP",
        "--smtp-port",
        Some(smtp_usual),
    )?)?;
    let protocol = asking.choice(args.protocol, "The mailbox is read over", &["imap", "pop3"])?;
    let pickup_tls = asking.choice(
        args.pickup_tls,
        "Encryption of the pick-up",
        &["implicit", "starttls", "none"],
    )?;
    let pickup_usual = match (protocol.as_str(), pickup_tls.as_str()) {
        ("imap", "implicit") => "993",
        ("imap", _) => "143",
        (_, "implicit") => "995",
        _ => "110",
    };
    let pickup_port = args.pickup_port.map(|port| port.to_string());
    let pickup_port = port(asking.text(pickup_port, "Port of the mailbox", "--pickup-port", Some(pickup_usual))?)?;
    let max_round_trip = asking.duration(args.max_round_trip, "Longest round trip that is good", "2m")?;
    let check_interval = asking.duration(args.check_interval, "Check interval", "5s")?;
    let test_interval = asking.duration(args.test_interval, "Test interval", "5m")?;

    let mode = |word: &str| match word {
        "none" => TlsMode::None,
        "starttls" => TlsMode::StartTls,
        _ => TlsMode::Implicit,
    };
    let server = |what, own: Option<String>, port, tls: String| Server {
        what,
        endpoint: Endpoint {
            server: own.clone().unwrap_or_else(|| address.clone()),
            port,
            tls: mode(&tls),
            trust: Trust {
                ca_file: ca_file.clone(),
                ..Trust::default()
            },
            account: None,
        },
        own_address: own.is_some(),
        tls,
        ca_file: ca_file.clone(),
    };
    let mut smtp = server("SMTP", args.smtp_server, smtp_port, smtp_tls);
    let mut pickup = server("the mailbox", args.pickup_server, pickup_port, pickup_tls);
    if !args.offline {
        for server in [&mut smtp, &mut pickup] {
            try_connection(server, args.pin, &asking).await?;
        }
    }

    let account = object.clone();
    let password = password(
        &asking,
        args.password_env,
        args.password_file.map(absolute),
        global,
        &account,
    )?;
    if let Some(site) = site {
        edit.top(
            "site",
            id_of(&site),
            "The place that this probe measures from: part of the lake's folders.",
        );
    }
    let mut table = Table::new();
    table.insert("user", user.into());
    table.insert("password", toml_edit::Item::Value(password));
    edit.add(
        "account",
        &account,
        "Who logs in. The password itself stands elsewhere.",
        table,
    )?;
    let mut table = Table::new();
    table.insert("address", address.as_str().into());
    edit.add("object", &object, "The server under watch.", table)?;
    let with_account = |mut value: Value| {
        if let Some(table) = value.as_inline_table_mut() {
            table.insert("account", account.as_str().into());
        }
        toml_edit::Item::Value(value)
    };
    let mut table = Table::new();
    for (key, value) in [("object", object.as_str()), ("from", &mailbox), ("to", &mailbox)] {
        table.insert(key, value.into());
    }
    table.insert("smtp", with_account(smtp.value(None)));
    table.insert("pickup", with_account(pickup.value(Some(&protocol))));
    for (key, value) in [
        ("max_round_trip", max_round_trip),
        ("check_interval", check_interval),
        ("test_interval", test_interval),
    ] {
        table.insert(key, value.into());
    }
    edit.add(
        "monitor",
        &monitor,
        "A test: a mail is sent through smtp and picked up from the mailbox.\n\
         max_round_trip: the longest that is good; check_interval: the wait between pick-ups; test_interval: between two tests.",
        table,
    )?;
    let path = edit.save()?;
    let _ = writeln!(std::io::stderr(), "written: {}", path.display());
    if args.offline {
        return Ok(ExitCode::SUCCESS);
    }
    test::run(test::Args::once(monitor), global).await
}

/// Where the password is; one that is typed goes into a file that nobody else can read.
fn password(
    asking: &Asking,
    variable: Option<String>,
    file: Option<PathBuf>,
    global: &Global,
    account: &str,
) -> Result<Value, Failure> {
    if let Some(name) = variable {
        return Ok(inline([("env", name.into())]));
    }
    if let Some(path) = file {
        return Ok(inline([("file", path.display().to_string().into())]));
    }
    if !asking.ask {
        return Err(Failure::Usage(
            "where the password is, is not known: say it with --password-env or --password-file".to_owned(),
        ));
    }
    let secret = Password::new("Password of the mailbox")
        .without_confirmation()
        .prompt()?;
    let folder = global
        .path()
        .parent()
        .unwrap_or(std::path::Path::new(""))
        .join("secrets");
    let path = folder.join(account);
    let failed = |error: std::io::Error| Failure::Work(format!("{}: {error}", path.display()));
    std::fs::create_dir_all(&folder).map_err(failed)?;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    file.write_all(secret.as_bytes()).map_err(failed)?;
    let _ = writeln!(
        std::io::stderr(),
        "the password is in {}, for its owner only",
        path.display()
    );
    Ok(inline([("file", format!("secrets/{account}").into())]))
}

/// Opens the connection, and shows the certificate; one that nobody vouches for is pinned if that is wanted.
async fn try_connection(server: &mut Server, pin: bool, asking: &Asking) -> Result<(), Failure> {
    let mut notes = std::io::stderr();
    let place = format!("{} at {}:{}", server.what, server.endpoint.server, server.endpoint.port);
    match open(server).await {
        Ok(session) => {
            let _ = writeln!(notes, "✓ {place} answers{}", describe(session.as_ref()));
            Ok(())
        }
        Err(error) => {
            let mut blind = server.endpoint.clone();
            blind.trust = Trust {
                insecure: true,
                ..Trust::default()
            };
            let seen = Server {
                what: server.what,
                endpoint: blind,
                own_address: server.own_address,
                tls: server.tls.clone(),
                ca_file: None,
            };
            let session = if server.endpoint.tls == TlsMode::None {
                None
            } else {
                open(&seen).await.ok().flatten()
            };
            let Some(fingerprint) = session.as_ref().and_then(|session| session.fingerprint) else {
                return Err(Failure::Work(format!("{place}: {error}")));
            };
            let _ = writeln!(notes, "✗ {place}: {error}{}", describe(session.as_ref()));
            let pin = pin
                || (asking.ask
                    && Confirm::new("Pin this very certificate?")
                        .with_default(false)
                        .prompt()?);
            if !pin {
                return Err(Failure::Work(
                    "name the authority with --ca-file, or pin the certificate with --pin".to_owned(),
                ));
            }
            server.ca_file = None;
            server.endpoint.trust = Trust {
                fingerprint: Some(fingerprint),
                ..Trust::default()
            };
            Ok(())
        }
    }
}

async fn open(server: &Server) -> Result<Option<TlsSession>, String> {
    if server.what == "SMTP" {
        let mut smtp = Smtp::new(&server.endpoint, PATIENCE);
        smtp.open().await.map_err(|error| error.to_string())?;
        let session = smtp.tls();
        smtp.quit();
        return Ok(session);
    }
    // The upgrade in the middle belongs to the protocol: the test that follows tries it.
    let wire = Wire::connect(&server.endpoint, PATIENCE)
        .await
        .map_err(|error| error.to_string())?;
    let session = wire.tls().cloned();
    wire.close().await;
    Ok(session)
}

fn describe(session: Option<&TlsSession>) -> String {
    let Some(session) = session else { return String::new() };
    let expires = session.expires_at.map_or_else(String::new, |at| {
        format!(", its certificate is valid until {}", at.utc_date())
    });
    let fingerprint = session
        .fingerprint
        .map_or_else(String::new, |bytes| format!("\n  SHA-256 {}", hex(&bytes)));
    format!(": {}{expires}{fingerprint}", session.version)
}
