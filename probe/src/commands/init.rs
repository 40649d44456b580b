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
    presets::{self, PRESETS, Preset, Tokens},
    test,
};

/// How long a step of trying a connection may take.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The name of the place that the probe measures from.
    #[arg(long)]
    site: Option<String>,
    /// The mail provider, whose servers, ports and encryption are then known.
    #[arg(long, value_parser = presets::words())]
    preset: Option<String>,
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
    /// How to log in: with a password or with OAuth 2.0 tokens.
    #[arg(long, value_parser = ["password", "oauth"])]
    login: Option<String>,
    /// OAuth 2.0: the application's id.
    #[arg(long)]
    client_id: Option<String>,
    /// OAuth 2.0: the application's secret is in this environment variable …
    #[arg(long, conflicts_with = "client_secret_file")]
    client_secret_env: Option<String>,
    /// … or in this file.
    #[arg(long)]
    client_secret_file: Option<PathBuf>,
    /// OAuth 2.0: a refresh token is in this environment variable …
    #[arg(long, conflicts_with = "refresh_token_file")]
    refresh_token_env: Option<String>,
    /// … or in this file.
    #[arg(long)]
    refresh_token_file: Option<PathBuf>,
    /// OAuth 2.0 of Microsoft 365: the tenant's id or domain.
    #[arg(long)]
    tenant: Option<String>,
    /// OAuth 2.0: the address of the token server; that of the provider, if not said.
    #[arg(long)]
    token_url: Option<String>,
    /// OAuth 2.0: what the token is for; what the provider needs, if not said.
    #[arg(long)]
    scope: Option<String>,
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
    let preset = chosen_preset(&asking, args.preset.as_deref())?;
    if let Some(preset) = preset {
        let _ = writeln!(std::io::stderr(), "{preset}: {}", preset.hint);
    }
    let address = match preset {
        Some(preset) => args.address.unwrap_or_else(|| preset.smtp.0.to_owned()),
        None => asking.text(args.address, "Mail server (host name or IP address)", "--address", None)?,
    };
    let usual_name = id_of(preset.map_or(&address, |preset| preset.word));
    let object = id_of(&asking.text(args.object, "Call it", "--object", Some(&usual_name))?);
    let monitor = id_of(&args.monitor.unwrap_or_else(|| object.clone()));
    let mailbox = asking.text(args.mailbox, "Mail address of the test mailbox", "--mailbox", None)?;
    let user = asking.text(args.user, "User name of the mailbox", "--user", Some(&mailbox))?;

    // What a provider's preset says is not asked; flags say otherwise.
    let smtp_of_preset = preset.map(|preset| preset.smtp.1);
    let smtp_tls = asking.choice(
        args.smtp_tls.or(smtp_of_preset.map(|(_, tls)| tls.to_owned())),
        "Encryption of SMTP",
        &["starttls", "implicit", "none"],
    )?;
    let smtp_usual = match smtp_tls.as_str() {
        "implicit" => "465",
        "starttls" => "587",
        _ => "25",
    };
    let port = |text: String| {
        text.parse::<u16>()
            .map_err(|_| Failure::Usage(format!("{text:?} is no port")))
    };
    let smtp_port = port(
        asking.text(
            args.smtp_port
                .or(smtp_of_preset.map(|(port, _)| port))
                .map(|port| port.to_string()),
            "Port of SMTP",
            "--smtp-port",
            Some(smtp_usual),
        )?,
    )?;
    let protocol = asking.choice(args.protocol, "The mailbox is read over", &["imap", "pop3"])?;
    let pickup_of_preset = preset.map(|preset| if protocol == "imap" { preset.imap } else { preset.pop3 });
    let pickup_tls = asking.choice(
        args.pickup_tls.or(pickup_of_preset.map(|(_, (_, tls))| tls.to_owned())),
        "Encryption of the pick-up",
        &["implicit", "starttls", "none"],
    )?;
    let pickup_usual = match (protocol.as_str(), pickup_tls.as_str()) {
        ("imap", "implicit") => "993",
        ("imap", _) => "143",
        (_, "implicit") => "995",
        _ => "110",
    };
    let pickup_port = args
        .pickup_port
        .or(pickup_of_preset.map(|(_, (port, _))| port))
        .map(|port| port.to_string());
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
    let pickup_server = args
        .pickup_server
        .or(pickup_of_preset.map(|(server, _)| server.to_owned()))
        .filter(|server| *server != address);
    let mut pickup = server("the mailbox", pickup_server, pickup_port, pickup_tls);
    if !args.offline {
        for server in [&mut smtp, &mut pickup] {
            try_connection(server, args.pin, &asking).await?;
        }
    }

    let account = object.clone();
    let with_tokens = match (args.login.as_deref(), preset.and_then(|preset| preset.oauth)) {
        (Some(login), _) => login == "oauth",
        (None, Some(Tokens::Only)) => true,
        (None, _) if args.client_id.is_some() => true,
        (None, Some(Tokens::OrPassword)) if asking.ask => {
            asking.choice(None, "Log in with", &["oauth", "password"])? == "oauth"
        }
        (None, _) => false,
    };
    let keep = Keep {
        asking: &asking,
        global,
        account: &account,
    };
    let (login_key, login) = if with_tokens {
        let tokens = Application {
            preset: preset.filter(|preset| preset.oauth.is_some()),
            client_id: args.client_id,
            client_secret: (args.client_secret_env, args.client_secret_file.map(absolute)),
            refresh_token: (args.refresh_token_env, args.refresh_token_file.map(absolute)),
            tenant: args.tenant,
            token_url: args.token_url,
            scope: args.scope,
        };
        ("oauth", tokens.value(&keep)?)
    } else {
        let said = (args.password_env, args.password_file.map(absolute));
        let secret = keep.secret(
            said,
            "Password of the mailbox",
            "password",
            "--password-env or --password-file",
        )?;
        ("password", secret)
    };
    if let Some(site) = site {
        edit.top(
            "site",
            id_of(&site),
            "The place that this probe measures from: part of the lake's folders.",
        );
    }
    let mut table = Table::new();
    table.insert("user", user.into());
    table.insert(login_key, toml_edit::Item::Value(login));
    edit.add(
        "account",
        &account,
        "Who logs in. The secrets themselves stand elsewhere.",
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

/// The provider, if it is one whose servers are known.
fn chosen_preset(asking: &Asking, said: Option<&str>) -> Result<Option<&'static Preset>, Failure> {
    if let Some(word) = said {
        return Ok(PRESETS.iter().find(|preset| preset.word == word));
    }
    if !asking.ask {
        return Ok(None);
    }
    let mut titles = vec!["another, or a server of one's own".to_owned()];
    titles.extend(PRESETS.iter().map(ToString::to_string));
    let index = Select::new("Mail provider", titles).raw_prompt()?.index;
    Ok(index.checked_sub(1).and_then(|index| PRESETS.get(index)))
}

/// An application that fetches tokens (OAuth 2.0), as far as it is said.
struct Application {
    preset: Option<&'static Preset>,
    client_id: Option<String>,
    client_secret: Source,
    refresh_token: Source,
    tenant: Option<String>,
    token_url: Option<String>,
    scope: Option<String>,
}

impl Application {
    fn value(self, keep: &Keep<'_>) -> Result<Value, Failure> {
        let asking = keep.asking;
        let mut pairs: Vec<(&'static str, Value)> = Vec::new();
        let microsoft = self.preset.is_some_and(|preset| preset.oauth == Some(Tokens::Only));
        if let Some(preset) = self.preset {
            pairs.push(("preset", preset.word.into()));
        }
        match self.token_url {
            Some(url) => pairs.push(("token_url", url.into())),
            None if self.preset.is_none() => {
                let url = asking.text(None, "Address of the token server", "--token-url", None)?;
                pairs.push(("token_url", url.into()));
            }
            None => {}
        }
        if microsoft && (self.tenant.is_some() || !pairs.iter().any(|(key, _)| *key == "token_url")) {
            let tenant = asking.text(self.tenant, "Tenant (its id or domain)", "--tenant", None)?;
            pairs.push(("tenant", tenant.into()));
        }
        let client_id = asking.text(self.client_id, "Id of the application (client id)", "--client-id", None)?;
        pairs.push(("client_id", client_id.into()));
        let has_refresh = self.refresh_token.0.is_some() || self.refresh_token.1.is_some();
        let has_secret = self.client_secret.0.is_some() || self.client_secret.1.is_some();
        // An application without a secret of its own lives by its refresh token.
        if has_secret || !has_refresh {
            let flags = "--client-secret-env or --client-secret-file";
            let secret = keep.secret(self.client_secret, "Secret of the application", "client-secret", flags)?;
            pairs.push(("client_secret", secret));
        }
        let needs_refresh = self.preset.is_some() && !microsoft;
        if has_refresh || needs_refresh {
            let flags = "--refresh-token-env or --refresh-token-file";
            let token = keep.secret(self.refresh_token, "Refresh token", "refresh-token", flags)?;
            pairs.push(("refresh_token", token));
        }
        if let Some(scope) = self.scope {
            pairs.push(("scope", scope.into()));
        }
        Ok(inline(pairs))
    }
}

/// An environment variable or a file.
type Source = (Option<String>, Option<PathBuf>);

/// Where secrets go that are typed.
struct Keep<'a> {
    asking: &'a Asking,
    global: &'a Global,
    account: &'a str,
}

impl Keep<'_> {
    /// Where a secret is; one that is typed goes into a file that nobody else can read.
    fn secret(&self, said: Source, what: &str, kind: &str, flags: &str) -> Result<Value, Failure> {
        match said {
            (Some(name), _) => return Ok(inline([("env", name.into())])),
            (None, Some(path)) => return Ok(inline([("file", path.display().to_string().into())])),
            (None, None) => {}
        }
        if !self.asking.ask {
            return Err(Failure::Usage(format!(
                "{what}: where it is, is not known: say it with {flags}"
            )));
        }
        let secret = Password::new(what).without_confirmation().prompt()?;
        let folder = self
            .global
            .path()
            .parent()
            .unwrap_or(std::path::Path::new(""))
            .join("secrets");
        let name = match kind {
            "password" => self.account.to_owned(),
            kind => format!("{}.{kind}", self.account),
        };
        let path = folder.join(&name);
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
            "{what}: kept in {}, for its owner only",
            path.display()
        );
        Ok(inline([("file", format!("secrets/{name}").into())]))
    }
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
