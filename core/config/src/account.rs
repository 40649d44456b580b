//! Accounts: `[account.NAME]`, with a password or with OAuth 2.0.

use std::path::{Path, PathBuf};

use jiff::civil::Date;
use mailqos_base::SecretSource;
use mailqos_model::{AccountName, UnknownWord};
use mailqos_net::{Trust, http::Place};

use super::{
    Account, Mechanism, Node, Problem, Problems, Proxy, Severity, Table,
    key::{Optional, OptionalWord, Required, Word, key},
    reference::Key,
    server::{is_loopback, trust},
    sign_in,
    value::secret,
};

/// Days before a client secret expires at which warnings start.
const WARNED_DAYS: i32 = 30;
/// Maximum size of a file with the end of a sign-in, in bytes.
const MAX_END: u64 = 64;

/// Credentials with which an account authenticates.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Login {
    /// A password, read each time it is used.
    Password(SecretSource),
    /// OAuth 2.0 access tokens.
    OAuth(Box<OAuthOptions>),
}

/// Options for obtaining access tokens (RFC 6749).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OAuthOptions {
    /// URL of the token server.
    pub token_url: String,
    /// Id of the client.
    pub client_id: String,
    /// Source of the client's secret; public clients have none.
    pub client_secret: Option<SecretSource>,
    /// Source of the client's certificate with its key, in PEM (RFC 7523).
    pub certificate: Option<SecretSource>,
    /// File with a token of another identity provider, which authenticates the client.
    pub federated_token_file: Option<PathBuf>,
    /// Microsoft Graph, if the provider supports it.
    pub graph: Option<GraphService>,
    /// The scope requested.
    pub scope: Option<String>,
    /// Source of the first refresh token. Without one, the client uses its own credentials (client
    /// credentials grant).
    pub refresh_token: Option<SecretSource>,
    /// The source of a Google service account's key, which is used instead of a refresh token.
    pub service_account: Option<SecretSource>,
    /// The mailbox's user, whom a service account acts for.
    pub user: String,
    /// The day on which the sign-in that the refresh token comes from expires, if the configuration
    /// names it.
    pub sign_in_expires: Option<Date>,
    /// Address at which a person signs in with a browser, if known.
    pub authorize_url: Option<String>,
    /// Address at which device codes are issued, if known.
    pub device_url: Option<String>,
    /// Day on which the client secret expires, if it is configured.
    pub secret_expires: Option<Date>,
    /// Trusted certificates of the token server.
    pub trust: Trust,
    /// File for a refresh token that the server issues in place of the first one.
    pub kept: PathBuf,
    /// Proxy for requests to the token server.
    pub proxy: Proxy,
}

/// Host of Microsoft Graph, and the scope of its tokens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GraphService {
    /// Host name.
    pub server: String,
    /// Scope to request for tokens.
    pub scope: String,
}

impl Account {
    /// Returns the account with tokens for Microsoft Graph instead of the mail protocols.
    #[must_use]
    pub fn for_graph(&self) -> Self {
        let mut account = self.clone();
        if let Login::OAuth(oauth) = &mut account.login
            && let Some(graph) = &oauth.graph
        {
            oauth.scope = Some(graph.scope.clone());
        }
        account
    }

    /// Returns the day on which the sign-in ends: as the provider stated it last, or as configured.
    pub fn sign_in_end(&self) -> Option<Date> {
        let oauth = self.oauth()?;
        stated_end(&oauth.kept).or(oauth.sign_in_expires)
    }

    /// Returns what of the account's credentials expires within this number of days, in words such
    /// as `the sign-in expires on 2027-01-31, in 6 days`.
    pub fn expiring(&self, days: i32) -> Vec<String> {
        let today = today();
        let named = |what: &str, expires: Option<Date>| {
            let expires = expires
                .filter(|expires| expires.since(today).is_ok_and(|left| left.get_days() <= days))?;
            Some(format!("{what} {}", expiry(expires, today)?))
        };
        let oauth = self.oauth();
        [
            named("the client secret", oauth.and_then(|oauth| oauth.secret_expires)),
            named("the sign-in", self.sign_in_end()),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Returns the OAuth 2.0 options, if the account logs in with tokens.
    pub fn oauth(&self) -> Option<&OAuthOptions> {
        match &self.login {
            Login::Password(_) => None,
            Login::OAuth(oauth) => Some(oauth.as_ref()),
        }
    }
}

impl OAuthOptions {
    /// Returns the file with the end of the sign-in that the provider stated at the last refresh.
    pub fn end_file(&self) -> PathBuf {
        end_file(&self.kept)
    }
}

/// Returns the file with the end of a sign-in whose refresh token is kept in another file.
fn end_file(kept: &Path) -> PathBuf {
    let state = kept.parent().and_then(Path::parent).unwrap_or(Path::new(""));
    state.join("sign-in-ends").join(kept.file_name().unwrap_or_default())
}

/// Returns the day in that file; a missing or damaged one states nothing.
fn stated_end(kept: &Path) -> Option<Date> {
    let text = mailqos_base::files::read_text(&end_file(kept), MAX_END).ok()?;
    text.trim().parse().ok()
}

/// A provider with known addresses and scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Provider {
    Microsoft365,
    GoogleWorkspace,
}

const PROVIDERS: [(&str, Provider); 2] =
    [("microsoft-365", Provider::Microsoft365), ("google-workspace", Provider::GoogleWorkspace)];

/// A Microsoft cloud (<https://learn.microsoft.com/graph/deployments>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cloud {
    Global,
    UsGovernment,
    UsDefense,
    China,
}

const CLOUDS: [(&str, Cloud); 4] = [
    ("global", Cloud::Global),
    ("us-government", Cloud::UsGovernment),
    ("us-defense", Cloud::UsDefense),
    ("china", Cloud::China),
];

impl Cloud {
    /// Returns the host of the token server. That of China is named in
    /// <https://docs.azure.cn/entra/identity-platform/certificate-credentials>.
    fn login(self) -> &'static str {
        match self {
            Self::Global => "login.microsoftonline.com",
            Self::UsGovernment | Self::UsDefense => "login.microsoftonline.us",
            Self::China => "login.partner.microsoftonline.cn",
        }
    }

    /// Returns the host of Microsoft Graph. China's is not usable because it lacks delta queries.
    fn graph(self) -> Option<&'static str> {
        match self {
            Self::Global => Some("graph.microsoft.com"),
            Self::UsGovernment => Some("graph.microsoft.us"),
            Self::UsDefense => Some("dod-graph.microsoft.us"),
            Self::China => None,
        }
    }
}

keys! {
    ACCOUNT: AccountKeys {
        /// The name to log in with.
        user: Required<String> = key();
        /// The password.
        password: Key = Key::secret();
        /// OAuth 2.0 tokens instead of a password.
        oauth: Key = Key::table(&["account.oauth"]);
        /// The Windows domain, for network shares.
        domain: Optional<String> = key();
        /// The SASL mechanisms allowed: SCRAM-SHA-256, PLAIN, LOGIN, OAUTHBEARER, XOAUTH2.
        mechanisms: Optional<Vec<String>> = key().otherwise("the strongest that both sides support");
    }
}

keys! {
    OAUTH: OAuthKeys {
        /// A provider with known addresses and scopes.
        preset: OptionalWord<Provider> = word!(PROVIDERS);
        /// Microsoft 365: the tenant's ID or domain.
        tenant: Optional<String> = key();
        /// The application's ID.
        client_id: Optional<String> = key().otherwise("required, except with `service_account`");
        /// The application's secret.
        client_secret: Key = Key::secret();
        /// Instead of a secret, a certificate and its RSA key, both in PEM, unencrypted.
        certificate: Key = Key::secret();
        /// Instead of a secret, a file with a token of another identity provider (workload identity
        /// federation). It is read at each request for a token.
        federated_token_file: Optional<PathBuf> = key();
        /// Microsoft's cloud: the global one, which includes GCC, or a national one.
        cloud: Word<Cloud> = word!(CLOUDS).default("\"global\"");
        /// A refresh token of the mailbox's owner. If the provider replaces it, the new one is
        /// stored in the state folder.
        refresh_token: Key = Key::secret();
        /// The address of the token server.
        token_url: Optional<String> = key().otherwise("set by the preset");
        /// The key of a Google service account (the JSON file) to which the domain's administrator
        /// has delegated the scope; used instead of an application and a refresh token.
        service_account: Key = Key::secret();
        /// The day on which the sign-in expires; warnings start 30 days earlier.
        sign_in_expires: Optional<Date> = key();
        /// The address at which a person signs in with a browser (`account login`).
        authorize_url: Optional<String> = key().otherwise("set by the preset");
        /// The address that issues device codes for a sign-in on another machine (`account login`).
        device_url: Optional<String> = key().otherwise("set by the preset");
        /// The scope to request for the tokens.
        scope: Optional<String> = key().otherwise("set by the preset");
        /// The day on which the client secret expires; warnings start 30 days earlier.
        secret_expires: Optional<Date> = key();
    }
}

/// Reads an account.
pub(super) fn read(
    name: &AccountName,
    mut table: Table,
    plaintext: bool,
    (state, proxy): (&Path, &Proxy),
    problems: &mut Problems,
) -> Option<Account> {
    let user = table.read(&ACCOUNT.user, problems);
    let domain = table.read(&ACCOUNT.domain, problems);
    let mut mechanisms = mechanisms(&mut table, problems);
    let password = table.node(&ACCOUNT.password);
    let oauth = table.node(&ACCOUNT.oauth);
    let login = match (password, oauth) {
        (Some(node), None) => secret(&node, plaintext, problems).map(Login::Password),
        (None, Some(_)) => {
            let kept = state.join("oauth").join(name.as_ref());
            table
                .table(&ACCOUNT.oauth, problems)
                .and_then(|table| oauth_of(table, plaintext, &kept, problems))
                .map(|(oauth, provider)| {
                    if provider == Some(Provider::Microsoft365) && mechanisms.is_empty() {
                        mechanisms.push(Mechanism::XOAuth2);
                    }
                    let proxy = proxy.clone();
                    let user = user.clone().unwrap_or_default();
                    if oauth.service_account.is_some() && is_personal_gmail(&user) {
                        let text = "a service account can't open a personal mailbox of Gmail";
                        let help = "only domains of Google Workspace can delegate access; sign in \
                                    with a refresh_token, or use an app password";
                        problems.push(table.problem(&ACCOUNT.user, text, "here").help(help));
                    }
                    Login::OAuth(Box::new(OAuthOptions { proxy, user, ..oauth }))
                })
        }
        (Some(_), Some(_)) => {
            problems.push(
                table
                    .problem(
                        &ACCOUNT.oauth,
                        "an account can have a password or oauth, not both",
                        "here",
                    )
                    .help("remove password"),
            );
            None
        }
        (None, None) => {
            problems.push(table.missing(
                &ACCOUNT.password,
                "{ env = \"NAME\" }, { file = \"PATH\" } or { command = [\"PROGRAM\", \"ARGUMENT\"] }",
            ));
            None
        }
    };
    if let Some(login) = &login {
        let has_token = matches!(login, Login::OAuth(_));
        if !mechanisms.is_empty()
            && !mechanisms.iter().any(|mechanism| mechanism.takes_token() == has_token)
        {
            let help = if has_token {
                "with a token, use OAUTHBEARER or XOAUTH2"
            } else {
                "with a password, use SCRAM-SHA-256, PLAIN or LOGIN"
            };
            problems.push(
                table
                    .problem(
                        &ACCOUNT.mechanisms,
                        "none of these mechanisms works with this account",
                        "here",
                    )
                    .help(help),
            );
        }
    }
    table.finish(problems);
    Some(Account { user: user?, domain, login: login?, mechanisms })
}

/// Returns whether a mailbox is a personal one of Gmail, whose domain has no administrator who could
/// delegate access to a service account (jstedfast/MailKit#742).
fn is_personal_gmail(user: &str) -> bool {
    let domain = user.rsplit_once('@').map(|(_, domain)| domain.to_ascii_lowercase());
    matches!(domain.as_deref(), Some("gmail.com" | "googlemail.com"))
}

/// Reads the SASL mechanisms that an account may use.
fn mechanisms(table: &mut Table, problems: &mut Problems) -> Vec<Mechanism> {
    let nodes: Vec<Node> =
        table.list(&ACCOUNT.mechanisms).map(|node| node.as_list()).unwrap_or_default();
    let mut mechanisms = Vec::new();
    for node in nodes {
        let Some(text) = node.read::<String>(problems) else {
            continue;
        };
        match text.to_ascii_uppercase().parse() {
            Ok(mechanism) => mechanisms.push(mechanism),
            Err(UnknownWord(_, _, known)) => problems.push(
                node.problem(
                    format!("{text:?} is not a SASL mechanism that mailqos supports"),
                    "not known",
                )
                .help(format!("use one or more of: {}", known.join(", "))),
            ),
        }
    }
    mechanisms
}

fn oauth_of(
    mut table: Table,
    plaintext: bool,
    kept: &Path,
    problems: &mut Problems,
) -> Option<(OAuthOptions, Option<Provider>)> {
    let provider = table.read(&OAUTH.preset, problems);
    let client_id = table.read(&OAUTH.client_id, problems);
    let source = |key: &Key, table: &mut Table, problems: &mut Problems| {
        table.node(key).map(|node| secret(&node, plaintext, problems))
    };
    let client_secret = source(&OAUTH.client_secret, &mut table, problems);
    let refresh_token = source(&OAUTH.refresh_token, &mut table, problems);
    let service_account = source(&OAUTH.service_account, &mut table, problems);
    if client_id.is_none() && service_account.is_none() {
        problems.push(table.missing(&OAUTH.client_id, "the application's id"));
    }
    let certificate = source(&OAUTH.certificate, &mut table, problems);
    let federated_token_file = table.read(&OAUTH.federated_token_file, problems);
    let proofs = [client_secret.is_some(), certificate.is_some(), federated_token_file.is_some()];
    let count = proofs.into_iter().filter(|is_set| *is_set).count();
    let has_token = refresh_token.is_some() || service_account.is_some();
    check_proofs(count, has_token, &table, problems);
    let cloud = match provider {
        Some(Provider::Microsoft365) => table.read(&OAUTH.cloud, problems),
        _ => Cloud::Global,
    };
    if provider == Some(Provider::GoogleWorkspace) && !has_token {
        problems.push(table.missing(
            &OAUTH.refresh_token,
            "Google gives access to mailboxes only with a refresh token (mailqos-probe account login NAME) or a service_account",
        ));
    }
    let token_url = token_url(&mut table, provider.map(|provider| (provider, cloud)), problems);
    let [authorize_url, device_url] = sign_in::addresses(
        token_url.as_deref(),
        sign_in::read(&OAUTH.authorize_url, &mut table, problems),
        sign_in::read(&OAUTH.device_url, &mut table, problems),
    );
    let own_scope = table.read(&OAUTH.scope, problems);
    let (scope, graph) = scopes(own_scope, provider.map(|it| (it, cloud)), refresh_token.is_some());
    let secret_expires = end_of(
        (&OAUTH.secret_expires, "the client secret"),
        "create a new one at the provider, replace the old one with it, and update this date",
        (&mut table, problems),
    );
    let sign_in_expires = table.read(&OAUTH.sign_in_expires, problems);
    let trust = trust(&mut table, problems);
    // The provider may have extended the sign-in since.
    if let Some(end) = sign_in_expires {
        let help = "sign in again: mailqos-probe account login NAME";
        let end = stated_end(kept).unwrap_or(end);
        warn_of_end(end, (&OAUTH.sign_in_expires, "the sign-in"), help, (&table, problems));
    }
    table.finish(problems);
    Some((
        OAuthOptions {
            token_url: token_url?,
            authorize_url,
            device_url,
            client_id: match &service_account {
                Some(_) => client_id.unwrap_or_default(),
                None => client_id?,
            },
            service_account: match service_account {
                Some(source) => Some(source?),
                None => None,
            },
            user: String::new(),
            sign_in_expires,
            client_secret: match client_secret {
                Some(source) => Some(source?),
                None => None,
            },
            certificate: match certificate {
                Some(source) => Some(source?),
                None => None,
            },
            federated_token_file,
            graph,
            refresh_token: match refresh_token {
                Some(source) => Some(source?),
                None => None,
            },
            scope,
            secret_expires,
            trust,
            kept: kept.to_owned(),
            proxy: Proxy::default(),
        },
        provider,
    ))
}

/// Checks that the application authenticates by exactly one method; with a refresh token, it needs
/// none.
fn check_proofs(count: usize, has_refresh_token: bool, table: &Table, problems: &mut Problems) {
    if count == 0 && !has_refresh_token {
        let sources = "{ env = \"NAME\" }, or another source of a secret";
        problems.push(table.missing(&OAUTH.client_secret, sources));
    } else if count > 1 {
        let message = "the application proves who it is in several ways";
        problems.push(
            table
                .problem(&OAUTH.client_id, message, "here")
                .help("keep one of client_secret, certificate and federated_token_file"),
        );
    }
}

/// Returns the scope for mail protocols, and the scope and host of Microsoft Graph.
fn scopes(
    own: Option<String>,
    provider: Option<(Provider, Cloud)>,
    is_delegated: bool,
) -> (Option<String>, Option<GraphService>) {
    let server = match provider {
        Some((Provider::Microsoft365, cloud)) => cloud.graph(),
        _ => None,
    };
    let graph = server.map(|server| {
        let scope = match is_delegated {
            false => format!("https://{server}/.default"),
            true => {
                format!("https://{server}/Mail.ReadWrite https://{server}/Mail.Send offline_access")
            }
        };
        let scope = own.clone().unwrap_or(scope);
        GraphService { server: server.to_owned(), scope }
    });
    let preset = || {
        Some(match (provider?, is_delegated) {
            ((Provider::GoogleWorkspace, _), _) => "https://mail.google.com/",
            ((Provider::Microsoft365, Cloud::Global), false) => {
                "https://outlook.office365.com/.default"
            }
            ((Provider::Microsoft365, Cloud::Global), true) => {
                "https://outlook.office.com/SMTP.Send https://outlook.office.com/POP.AccessAsUser.All https://outlook.office.com/IMAP.AccessAsUser.All offline_access"
            }
            // Microsoft does not document the scopes of its mail protocols in national clouds.
            ((Provider::Microsoft365, _), _) => return None,
        })
    };
    (own.or_else(|| preset().map(str::to_owned)), graph)
}

fn token_url(
    table: &mut Table,
    provider: Option<(Provider, Cloud)>,
    problems: &mut Problems,
) -> Option<String> {
    let tenant: Option<String> = if matches!(provider, Some((Provider::Microsoft365, _))) {
        table.read(&OAUTH.tenant, problems)
    } else {
        None
    };
    if let Some(tenant) = &tenant {
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        if tenant.is_empty() || !tenant.chars().all(fine) {
            problems.push(
                table
                    .problem(&OAUTH.tenant, format!("{tenant:?} is not a valid tenant"), "here")
                    .help("use the tenant's id or domain, such as \"contoso.onmicrosoft.com\""),
            );
            return None;
        }
    }
    if let Some(url) = table.read(&OAUTH.token_url, problems) {
        let help = "use the address of the provider's token server, such as \"https://login.example.com/token\"";
        let problem = match Place::parse(&url) {
            Err(error) => error.to_string(),
            Ok(place) if !place.tls && !is_loopback(&place.host) => {
                "secrets would be sent to this address in plaintext".to_owned()
            }
            Ok(_) => return Some(url),
        };
        problems.push(table.problem(&OAUTH.token_url, problem, "this address").help(help));
        return None;
    }
    match (provider, tenant) {
        (Some((Provider::GoogleWorkspace, _)), _) => {
            Some("https://oauth2.googleapis.com/token".to_owned())
        }
        (Some((Provider::Microsoft365, cloud)), Some(tenant)) => {
            Some(format!("https://{}/{tenant}/oauth2/v2.0/token", cloud.login()))
        }
        (Some((Provider::Microsoft365, _)), None) => {
            problems.push(table.missing(
                &OAUTH.tenant,
                "the tenant's id or domain, such as \"contoso.onmicrosoft.com\"",
            ));
            None
        }
        (None, _) => {
            problems.push(table.missing(
                &OAUTH.token_url,
                "the address of the token server, or preset = \"microsoft-365\" or \"google-workspace\"",
            ));
            None
        }
    }
}

fn today() -> Date {
    jiff::Timestamp::now().to_zoned_datetime(jiff::tz::TimeZone::UTC).date()
}

/// Reads the day on which a credential expires, and warns if it is near.
fn end_of(
    (key, what): (&'static Optional<Date>, &str),
    help: &str,
    (table, problems): (&mut Table, &mut Problems),
) -> Option<Date> {
    let expires = table.read(key, problems)?;
    warn_of_end(expires, (key, what), help, (&*table, problems));
    Some(expires)
}

/// Warns if a credential expires soon.
fn warn_of_end(
    expires: Date,
    (key, what): (&'static Optional<Date>, &str),
    help: &str,
    (table, problems): (&Table, &mut Problems),
) {
    if let Some(text) = expiry(expires, today()) {
        problems.push(Problem {
            severity: Severity::Warning,
            ..table.problem(key, format!("{what} {text}"), "this day").help(help)
        });
    }
}

/// Returns the warning about a secret that expires on this day, or `None` if the day is far off.
fn expiry(expires: Date, today: Date) -> Option<String> {
    let days = expires.since(today).ok()?.get_days();
    match days {
        ..0 => Some(format!("expired on {expires}")),
        0 => Some(format!("expires today, on {expires}")),
        1 => Some(format!("expires tomorrow, on {expires}")),
        2..=WARNED_DAYS => Some(format!("expires on {expires}, in {days} days")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    fn account(text: &str) -> (Option<Account>, String) {
        let mut problems = Problems::default();
        let table =
            parse("mailqos.toml".as_ref(), text.to_owned(), &mut problems).expect("a table");
        let name = "probe".parse().expect("a name");
        let account =
            read(&name, table, false, ("state".as_ref(), &Proxy::default()), &mut problems);
        (account, problems.to_string())
    }

    #[test]
    fn presets_know_addresses_scopes_and_mechanisms() {
        for (text, url, scope, mechanisms) in [
            (
                "preset = \"microsoft-365\", tenant = \"contoso.onmicrosoft.com\", client_secret = { env = \"S\" }",
                "https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token",
                "https://outlook.office365.com/.default",
                &[Mechanism::XOAuth2][..],
            ),
            (
                "preset = \"google-workspace\", client_secret = { env = \"S\" }, refresh_token = { file = \"r\" }",
                "https://oauth2.googleapis.com/token",
                "https://mail.google.com/",
                &[],
            ),
            (
                "token_url = \"https://login.example.com/t\", scope = \"mail\", client_secret = { env = \"S\" }",
                "https://login.example.com/t",
                "mail",
                &[],
            ),
        ] {
            let (account, problems) =
                account(&format!("user = \"u\"\noauth = {{ client_id = \"c\", {text} }}"));
            assert_eq!(problems, "");
            let account = account.expect("an account");
            let oauth = account.oauth().expect("OAuth");
            assert_eq!((oauth.token_url.as_str(), oauth.scope.as_deref()), (url, Some(scope)));
            assert_eq!(account.mechanisms, mechanisms);
        }
    }

    #[test]
    fn the_first_refresh_token_is_required_even_if_another_is_stored() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("mailqos.toml");
        let text = "site = \"here\"\n[account.a]\nuser = \"u\"\n[account.a.oauth]\npreset = \"google-workspace\"\n\
                    client_id = \"c\"\nrefresh_token = { env = \"X\" }\n";
        std::fs::write(&path, text).expect("write");
        let config = crate::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
        let kept = &config.accounts["a"].oauth().expect("OAuth").kept;
        std::fs::create_dir_all(kept.parent().expect("its folder")).expect("a folder");
        std::fs::write(kept, "").expect("write");
        let secrets: Vec<_> = config.secrets().into_iter().map(|(what, _)| what).collect();
        assert_eq!(secrets, ["refresh_token of account a"]);
    }

    /// jstedfast/MailKit#742, Eagnir/GmailNotify-PubSub-GCP#3
    #[test]
    fn a_service_account_can_not_open_a_personal_mailbox() {
        let of = |user: &str| {
            let oauth =
                "oauth = { preset = \"google-workspace\", service_account = { file = \"k\" } }";
            account(&format!("user = \"{user}\"\n{oauth}")).1
        };
        assert!(of("anna@Gmail.com").contains("personal mailbox of Gmail"));
        assert_eq!(of("anna@example.com"), "");
    }

    #[test]
    fn contradictory_settings_are_reported() {
        for (text, expected) in [
            ("", "\"password\" is missing"),
            ("password = { env = \"P\" }\noauth = { client_id = \"c\" }", "not both"),
            ("oauth = { client_id = \"c\" }", "\"client_secret\" is missing"),
            (
                "oauth = { client_id = \"c\", client_secret = { env = \"S\" } }",
                "\"token_url\" is missing",
            ),
            (
                "oauth = { preset = \"microsoft-365\", client_id = \"c\", client_secret = { env = \"S\" } }",
                "\"tenant\" is missing",
            ),
            (
                "oauth = { preset = \"google-workspace\", client_id = \"c\", client_secret = { env = \"S\" } }",
                "\"refresh_token\" is missing",
            ),
            (
                "oauth = { token_url = \"http://login.example.com/t\", client_id = \"c\", client_secret = { env = \"S\" } }",
                "in plaintext",
            ),
            (
                "oauth = { token_url = \"https://a/t\", client_id = \"c\", client_secret = \"hunter2\" }",
                "is set in plaintext",
            ),
            ("password = { env = \"P\" }\nmechanisms = [\"XOAUTH2\"]", "none of these mechanisms"),
            ("password = { env = \"P\" }\nmechanisms = [\"GSSAPI\"]", "not a SASL mechanism"),
            (
                "oauth = { token_url = \"https://a/t\", client_id = \"c\", client_secret = { env = \"S\" }, secret_expires = \"2020-01-31\" }",
                "the client secret expired on 2020-01-31",
            ),
        ] {
            let (_, problems) = account(&format!("user = \"u\"\n{text}"));
            assert!(
                problems.contains(expected) && !problems.contains("hunter2"),
                "{text}: {problems}"
            );
        }
    }

    #[test]
    fn clouds_have_hosts_and_scopes_of_their_own() {
        let preset = "preset = \"microsoft-365\", tenant = \"t\", client_id = \"c\"";
        for (text, login, graph, mail) in [
            (
                "client_secret = { env = \"S\" }",
                "login.microsoftonline.com",
                Some("https://graph.microsoft.com/.default"),
                Some("https://outlook.office365.com/.default"),
            ),
            (
                "cloud = \"us-government\", certificate = { env = \"S\" }",
                "login.microsoftonline.us",
                Some("https://graph.microsoft.us/.default"),
                None,
            ),
            (
                "cloud = \"us-defense\", federated_token_file = \"token\"",
                "login.microsoftonline.us",
                Some("https://dod-graph.microsoft.us/.default"),
                None,
            ),
            (
                "cloud = \"china\", client_secret = { env = \"S\" }",
                "login.partner.microsoftonline.cn",
                None,
                None,
            ),
            (
                "refresh_token = { env = \"S\" }, scope = \"mine\"",
                "login.microsoftonline.com",
                Some("mine"),
                Some("mine"),
            ),
        ] {
            let (account, problems) =
                account(&format!("user = \"u\"\noauth = {{ {preset}, {text} }}"));
            assert_eq!(problems, "", "{text}");
            let account = account.expect("an account");
            let oauth = account.oauth().expect("OAuth");
            assert_eq!(oauth.token_url, format!("https://{login}/t/oauth2/v2.0/token"));
            assert_eq!(oauth.graph.as_ref().map(|graph| &*graph.scope), graph, "{text}");
            assert_eq!(oauth.scope.as_deref(), mail, "{text}");
            let over_graph = account.for_graph();
            let scope = over_graph.oauth().expect("OAuth").scope.as_deref();
            assert_eq!(scope, graph, "{text}");
        }
        let both = "client_secret = { env = \"S\" }, certificate = { env = \"C\" }";
        let (_, problems) = account(&format!("user = \"u\"\noauth = {{ {preset}, {both} }}"));
        assert!(problems.contains("in several ways"), "{problems}");
    }

    #[test]
    fn the_provider_states_the_end_of_a_sign_in_last() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = "user = \"u\"\noauth = { token_url = \"https://a/t\", client_id = \"c\", refresh_token = \
                    { env = \"R\" }, sign_in_expires = \"2020-01-31\" }";
        let read = || {
            let mut problems = Problems::default();
            let table = parse("mailqos.toml".as_ref(), text.to_owned(), &mut problems);
            let name = "probe".parse().expect("a name");
            let state = (folder.path(), &Proxy::default());
            let account = read(&name, table.expect("a table"), false, state, &mut problems);
            (account.expect("an account"), problems.to_string())
        };
        let (account, problems) = read();
        assert!(problems.contains("the sign-in expired on 2020-01-31"), "{problems}");
        assert_eq!(account.expiring(7).len(), 1);
        let file = account.oauth().expect("OAuth").end_file();
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        for (content, warned) in [("3000-01-31\n", false), ("garbage", true), ("2021-01-31", true)]
        {
            std::fs::write(&file, content).expect("written");
            let (account, problems) = read();
            assert_eq!(problems.contains("the sign-in expired"), warned, "{content}: {problems}");
            assert_eq!(account.expiring(7).len(), usize::from(warned), "{content}");
        }
    }

    #[test]
    fn a_secrets_expiry_is_announced_a_month_before() {
        let day = |text: &str| text.parse::<Date>().expect("a day");
        for (today, expected) in [
            ("2027-02-01", Some("expired on 2027-01-31")),
            ("2027-01-31", Some("expires today, on 2027-01-31")),
            ("2027-01-30", Some("expires tomorrow, on 2027-01-31")),
            ("2027-01-01", Some("expires on 2027-01-31, in 30 days")),
            ("2026-12-31", None),
        ] {
            assert_eq!(expiry(day("2027-01-31"), day(today)).as_deref(), expected, "{today}");
        }
    }
}
