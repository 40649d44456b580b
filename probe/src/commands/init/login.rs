//! The account for the login: an existing one, or a new one with a password or OAuth 2.0 tokens.
//! Typed secrets are stored outside the configuration, in a file readable only by its owner, and
//! only after all prompts.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use inquire::{Password, validator::Validation};
use mailqos_base::{Secret, SecretSource};
use mailqos_config::{OAuthOptions, Proxy};
use toml_edit::Value;

use super::{
    presets::{Provider, Tokens},
    prompter::{Prompter, absolute, is_word},
};
use crate::commands::{
    Failure,
    edit::inline,
    sign_in::{SignInArgs, last_day, sign_in},
};

/// Scope of a sign-in for a shared mailbox over Microsoft Graph
/// (<https://learn.microsoft.com/graph/outlook-share-messages-folders>).
const SHARED_SCOPE: &str = "https://graph.microsoft.com/Mail.ReadWrite.Shared \
    https://graph.microsoft.com/Mail.Send.Shared offline_access";
/// How to get an application's id for Microsoft 365
/// (<https://learn.microsoft.com/entra/identity-platform/quickstart-register-app>).
const MICROSOFT_STEPS: &str = "\
    To get an id, open https://entra.microsoft.com, App registrations, New registration: enter any name, \
    keep \"this organizational directory only\", register, and copy the \"Application (client) ID\". \
    For a sign-in, also open Authentication and allow public client flows; for unattended use, add a \
    certificate or a client secret. One id serves all mailboxes of the organisation";
/// The same for Google (<https://developers.google.com/workspace/guides/create-credentials>).
const GOOGLE_STEPS: &str = "\
    To get an id, open https://console.cloud.google.com/auth/clients in a project of your organisation, \
    Create client: choose the type \"Desktop app\", and copy the client id and the client secret \
    (--client-secret-file). Set the audience to \"Internal\", because sign-ins of apps in testing end \
    after seven days. One id serves all mailboxes of the organisation";
/// Prompt for the password.
pub(super) const PASSWORD: &str = "Mailbox password";

// How a new account logs in. (Not a doc comment, because clap would use it for the command.)
#[derive(Debug, clap::Args)]
pub(super) struct LoginArgs {
    /// Read the password from this environment variable.
    #[arg(long, conflicts_with = "password_file")]
    password_env: Option<String>,
    /// Read the password from this file.
    #[arg(long)]
    password_file: Option<PathBuf>,
    /// Authentication: password, oauth (an application's credentials or a given refresh token) or
    /// sign-in (a person signs in now).
    #[arg(long, value_parser = ["password", "oauth", "sign-in"], hide_possible_values = true)]
    login: Option<String>,
    #[command(flatten)]
    sign_in: SignInArgs,
    /// OAuth 2.0: application (client) id.
    #[arg(long)]
    client_id: Option<String>,
    /// OAuth 2.0: read the client secret from this environment variable.
    #[arg(long, conflicts_with = "client_secret_file")]
    client_secret_env: Option<String>,
    /// OAuth 2.0: read the client secret from this file.
    #[arg(long)]
    client_secret_file: Option<PathBuf>,
    /// OAuth 2.0: read the refresh token from this environment variable.
    #[arg(long, conflicts_with = "refresh_token_file")]
    refresh_token_env: Option<String>,
    /// OAuth 2.0: read the refresh token from this file.
    #[arg(long)]
    refresh_token_file: Option<PathBuf>,
    /// OAuth 2.0 with Microsoft 365: tenant id or domain.
    #[arg(long)]
    tenant: Option<String>,
    /// OAuth 2.0: token server URL [default: set by the preset].
    #[arg(long)]
    token_url: Option<String>,
    /// OAuth 2.0: address of a sign-in with a browser [default: set by the preset].
    #[arg(long)]
    authorize_url: Option<String>,
    /// OAuth 2.0: address that issues device codes [default: set by the preset].
    #[arg(long)]
    device_url: Option<String>,
    /// OAuth 2.0: read the application's certificate and its key (PEM) from this file, instead of a
    /// client secret.
    #[arg(long, conflicts_with_all = ["client_secret_env", "client_secret_file"])]
    certificate_file: Option<PathBuf>,
    /// OAuth 2.0: file with a token of another identity provider, instead of a client secret.
    #[arg(long, conflicts_with_all = ["client_secret_env", "client_secret_file", "certificate_file"])]
    federated_token_file: Option<PathBuf>,
    /// Microsoft 365: national cloud, us-government or us-defense [default: the global one].
    #[arg(long, value_parser = ["us-government", "us-defense"], hide_possible_values = true)]
    cloud: Option<String>,
    /// Google: read the key of a service account from this file.
    #[arg(long)]
    service_account_file: Option<PathBuf>,
    /// OAuth 2.0: scope of the token [default: set by the preset].
    #[arg(long)]
    scope: Option<String>,
    /// Authority of the token server, if its address is given.
    #[arg(skip)]
    pub(super) ca_file: Option<PathBuf>,
    /// Whether the account is for Microsoft Graph.
    #[arg(skip)]
    pub(super) for_graph: bool,
}

impl LoginArgs {
    /// Returns whether options name a login that Microsoft Graph doesn't have.
    pub(super) fn names_mail_login(&self) -> bool {
        self.login.as_deref() == Some("password")
            || self.password_env.is_some()
            || self.password_file.is_some()
    }

    /// Returns the host of Microsoft Graph in the cloud.
    pub(super) fn graph_server(&self) -> &'static str {
        match self.cloud.as_deref() {
            Some("us-government") => "graph.microsoft.us",
            Some("us-defense") => "dod-graph.microsoft.us",
            _ => "graph.microsoft.com",
        }
    }

    /// Prompts for missing values, and signs the user in if wanted; returns the key of the account's
    /// table and its value.
    pub(super) async fn ask(
        self,
        prompter: Prompter,
        preset: Option<&'static Provider>,
        (user, proxy): (&str, &Proxy),
        secrets: &mut Secrets,
    ) -> Result<(&'static str, Value), Failure> {
        if !self.is_with_tokens(prompter, preset)? {
            let said = (self.password_env, self.password_file.map(absolute));
            let flags = "--password-env or --password-file";
            return Ok(("password", secrets.place(said, PASSWORD, "password", flags)?));
        }
        let preset = preset.filter(|preset| preset.tokens.is_some());
        let signs_in = self.signs_in(prompter, preset)?;
        let application = Application {
            preset,
            user: user.to_owned(),
            client_id: self.client_id,
            client_secret: (self.client_secret_env, self.client_secret_file.map(absolute)),
            refresh_token: (self.refresh_token_env, self.refresh_token_file.map(absolute)),
            tenant: self.tenant,
            proof: [
                ("certificate", self.certificate_file.map(absolute)),
                ("federated_token_file", self.federated_token_file.map(absolute)),
            ],
            cloud: self.cloud,
            ca_file: self.ca_file,
            for_graph: self.for_graph,
            addresses: [
                ("token_url", self.token_url),
                ("authorize_url", self.authorize_url),
                ("device_url", self.device_url),
            ],
            scope: self.scope,
        };
        let value = if let Some(path) = self.service_account_file {
            application.of_service_account(&absolute(path))
        } else if signs_in {
            application.sign_in(&self.sign_in, (proxy, secrets)).await?
        } else {
            application.value(secrets)?
        };
        Ok(("oauth", value))
    }

    fn is_with_tokens(
        &self,
        prompter: Prompter,
        preset: Option<&Provider>,
    ) -> Result<bool, Failure> {
        Ok(match (self.login.as_deref(), preset.and_then(|preset| preset.tokens)) {
            (Some(login), _) => login != "password",
            (None, Some(Tokens::Only)) => true,
            (None, _) if self.client_id.is_some() || self.service_account_file.is_some() => true,
            (None, Some(Tokens::OrPassword)) if prompter.ask => {
                prompter.choice(None, "Authentication", &["oauth", "password"], "oauth")? == "oauth"
            }
            (None, _) => false,
        })
    }

    /// Whether a person signs in now.
    fn signs_in(&self, prompter: Prompter, preset: Option<&Provider>) -> Result<bool, Failure> {
        let has_token = self.refresh_token_env.is_some() || self.refresh_token_file.is_some();
        match self.login.as_deref() {
            Some(login) if has_token && login == "sign-in" => Err(Failure::Usage(
                "a sign-in yields a new refresh token; omit --refresh-token-env and \
                 --refresh-token-file"
                    .to_owned(),
            )),
            Some(login) => Ok(login == "sign-in"),
            None if !prompter.ask || has_token || self.service_account_file.is_some() => Ok(false),
            // Google has no credentials of an application for mailboxes.
            None if preset.is_none_or(|preset| preset.tokens != Some(Tokens::Only)) => {
                Ok(preset.is_some() || self.authorize_url.is_some() || self.device_url.is_some())
            }
            None => {
                const PERSON: &str = "sign in as the mailbox's user";
                const APPLICATION: &str = "application with its own credentials";
                let choices = [PERSON, APPLICATION];
                Ok(prompter.choice(None, "Login of the probe", &choices, PERSON)? == PERSON)
            }
        }
    }
}

/// An environment variable or a file.
type Source = (Option<String>, Option<PathBuf>);

/// Typed secrets of an account and their locations.
pub(super) struct Secrets {
    prompter: Prompter,
    folder: PathBuf,
    account: String,
    typed: Vec<(PathBuf, Secret)>,
}

impl Secrets {
    /// Creates the store of an account's secrets, next to the configuration file.
    pub(super) fn new(prompter: Prompter, config: &Path, account: &str) -> Self {
        Self {
            prompter,
            folder: config.parent().unwrap_or(Path::new("")).join("secrets"),
            account: account.to_owned(),
            typed: Vec::new(),
        }
    }

    /// Returns the source of a secret. A typed one will be stored in a file that only its owner can
    /// read.
    pub(super) fn place(
        &mut self,
        said: Source,
        what: &str,
        kind: &str,
        flags: &str,
    ) -> Result<Value, Failure> {
        match said {
            (Some(name), _) => return Ok(inline([("env", name.into())])),
            (None, Some(path)) => return Ok(inline([("file", path.display().to_string().into())])),
            (None, None) => {}
        }
        if !self.prompter.ask {
            return Err(Failure::Usage(format!("{what} is missing; set its source with {flags}")));
        }
        let secret = ask(what)?;
        let name = self.free_name(kind);
        self.typed.push((self.folder.join(&name), secret));
        Ok(inline([("file", format!("secrets/{name}").into())]))
    }

    /// Returns the name of a file for a secret that does not exist yet.
    fn free_name(&self, kind: &str) -> String {
        let base = match kind {
            "password" => self.account.clone(),
            kind => format!("{}.{kind}", self.account),
        };
        // An existing file may belong to another account.
        (1u32..)
            .map(|number| if number == 1 { base.clone() } else { format!("{base}-{number}") })
            .find(|name| !self.folder.join(name).exists())
            .unwrap_or(base)
    }

    /// Stores the typed secrets.
    pub(super) fn keep(&self) -> Result<(), Failure> {
        for (path, secret) in &self.typed {
            write(path, secret, true)?;
            let _ = writeln!(
                std::io::stderr(),
                "stored in {}, readable only by its owner",
                path.display()
            );
        }
        Ok(())
    }

    /// Removes the written files.
    pub(super) fn forget(&self) {
        for (path, _) in &self.typed {
            let _ = std::fs::remove_file(path);
        }
    }

    /// Returns whether a password was typed, so that it can be typed again.
    pub(super) fn has_typed(&self) -> bool {
        !self.typed.is_empty()
    }

    /// Prompts again for a typed secret.
    pub(super) fn again(&mut self, what: &str) -> Result<(), Failure> {
        for (path, secret) in &mut self.typed {
            *secret = ask(what)?;
            write(path, secret, false)?;
        }
        Ok(())
    }
}

fn ask(what: &str) -> Result<Secret, Failure> {
    let valid = |text: &str| {
        Ok(match text {
            "" => Validation::Invalid("a value is required".into()),
            _ => Validation::Valid,
        })
    };
    let prompt = Password::new(what).without_confirmation().with_validator(valid);
    Ok(Secret::new(prompt.prompt()?))
}

fn write(path: &Path, secret: &Secret, fresh: bool) -> Result<(), Failure> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let failed = |error: std::io::Error| Failure::Work(format!("{}: {error}", path.display()));
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut options = std::fs::File::options();
    options.write(true).mode(0o600);
    let file =
        if fresh { options.create_new(true).open(path) } else { options.truncate(true).open(path) };
    file.and_then(|mut file| file.write_all(secret.expose().as_bytes())).map_err(failed)
}

/// Pairs of an inline table.
type Pairs = Vec<(&'static str, Value)>;

/// Options for an OAuth 2.0 application that obtains tokens.
struct Application {
    preset: Option<&'static Provider>,
    user: String,
    client_id: Option<String>,
    client_secret: Source,
    refresh_token: Source,
    tenant: Option<String>,
    /// Keys of what the application proves its identity with instead of a secret, and their files.
    proof: [(&'static str, Option<PathBuf>); 2],
    cloud: Option<String>,
    /// Authority of a token server whose address is given.
    ca_file: Option<PathBuf>,
    for_graph: bool,
    /// Keys and their values.
    addresses: [(&'static str, Option<String>); 3],
    scope: Option<String>,
}

/// Returns the id of the application that a distributor has registered for sign-ins at a provider
/// and built into the program. By default there is none: each id belongs to its registrant.
fn built_in_client(word: &str) -> Option<&'static str> {
    match word {
        "microsoft-365" => option_env!("MAILQOS_MICROSOFT_CLIENT_ID"),
        "google-workspace" => option_env!("MAILQOS_GOOGLE_CLIENT_ID"),
        _ => None,
    }
}

impl Application {
    fn is_microsoft(&self) -> bool {
        self.preset.is_some_and(|preset| preset.tokens == Some(Tokens::Only))
    }

    /// Prompts for the provider's addresses and the application's id.
    fn client(&self, prompter: Prompter, tenant: Option<&str>) -> Result<Pairs, Failure> {
        let mut pairs: Pairs = Vec::new();
        if let Some(preset) = self.preset {
            pairs.push(("preset", preset.word.into()));
        }
        for (key, url) in &self.addresses {
            match url {
                Some(url) => pairs.push((key, url.as_str().into())),
                None if *key == "token_url" && self.preset.is_none() => {
                    let what = "Token server URL";
                    let url = prompter.text(None, what, "--token-url", None, is_word)?;
                    pairs.push((key, url.into()));
                }
                None => {}
            }
        }
        let has_token_url = pairs.iter().any(|(key, _)| *key == "token_url");
        if self.is_microsoft() && (self.tenant.is_some() || !has_token_url) {
            let what = "Tenant (id or domain)";
            let tenant = prompter.text(self.tenant.clone(), what, "--tenant", tenant, is_word)?;
            pairs.push(("tenant", tenant.into()));
        }
        if let Some(cloud) = self.cloud.as_deref().filter(|_| self.is_microsoft()) {
            pairs.push(("cloud", cloud.into()));
        }
        let has_own_server = self
            .addresses
            .iter()
            .any(|(_, url)| url.as_ref().is_some_and(|url| url.starts_with("https://")));
        if let Some(path) = self.ca_file.as_ref().filter(|_| has_own_server) {
            pairs.push(("ca_file", path.display().to_string().into()));
        }
        self.explain_client(prompter)?;
        let built_in = self.preset.and_then(|preset| built_in_client(preset.word));
        let what = "Application (client) id";
        let id = self.client_id.clone();
        let client_id = prompter.text(id, what, "--client-id", built_in, is_word)?;
        pairs.push(("client_id", client_id.into()));
        Ok(pairs)
    }

    /// Explains where the application's id comes from, if it is neither given nor built in.
    ///
    /// # Errors
    /// It is missing, and there are no prompts.
    fn explain_client(&self, prompter: Prompter) -> Result<(), Failure> {
        let Some(preset) = self.preset.filter(|_| self.client_id.is_none()) else { return Ok(()) };
        if built_in_client(preset.word).is_some() {
            return Ok(());
        }
        let steps = if self.is_microsoft() { MICROSOFT_STEPS } else { GOOGLE_STEPS };
        if !prompter.ask {
            return Err(Failure::Usage(format!(
                "the application (client) id is missing; set it with --client-id. {steps}"
            )));
        }
        let _ = writeln!(std::io::stderr(), "{steps}");
        Ok(())
    }

    /// Returns the value for the configuration, without a sign-in.
    fn value(self, secrets: &mut Secrets) -> Result<Value, Failure> {
        let domain = self.user.rsplit_once('@').map(|(_, domain)| domain);
        // Without prompts, a wrong guess would not be noticed.
        let tenant = domain.filter(|_| secrets.prompter.ask);
        let mut pairs = self.client(secrets.prompter, tenant)?;
        let is_microsoft = self.is_microsoft();
        let has_refresh = self.refresh_token.0.is_some() || self.refresh_token.1.is_some();
        let has_secret = self.client_secret.0.is_some() || self.client_secret.1.is_some();
        let proof = self.proof.into_iter().find_map(|(key, path)| Some((key, path?)));
        // An application without a client secret uses its refresh token.
        if let Some((key, path)) = proof {
            let path = path.display().to_string();
            let is_secret = key == "certificate";
            let value = if is_secret { inline([("file", path.into())]) } else { path.into() };
            pairs.push((key, value));
        } else if has_secret || !has_refresh {
            let flags = "--client-secret-env or --client-secret-file";
            let secret =
                secrets.place(self.client_secret, "Client secret", "client-secret", flags)?;
            pairs.push(("client_secret", secret));
        }
        let needs_refresh = self.preset.is_some() && !is_microsoft;
        if has_refresh || needs_refresh {
            let flags = "--refresh-token-env or --refresh-token-file";
            let token =
                secrets.place(self.refresh_token, "Refresh token", "refresh-token", flags)?;
            pairs.push(("refresh_token", token));
        }
        if let Some(scope) = self.scope {
            pairs.push(("scope", scope.into()));
        }
        Ok(inline(pairs))
    }

    /// Signs the user in, and returns the value for the configuration. The refresh token is stored
    /// together with the configuration.
    async fn sign_in(
        mut self,
        args: &SignInArgs,
        (proxy, secrets): (&Proxy, &mut Secrets),
    ) -> Result<Value, Failure> {
        if self.for_graph && args.shared_mailbox && self.scope.is_none() {
            self.scope = Some(SHARED_SCOPE.to_owned());
        }
        let domain = self.user.rsplit_once('@').map(|(_, domain)| domain);
        let mut pairs = self.client(secrets.prompter, domain)?;
        let has_secret = self.client_secret.0.is_some() || self.client_secret.1.is_some();
        // Desktop applications of Google have a secret that they can't keep, but must send
        // (developers.google.com/identity/protocols/oauth2#installed).
        let mut typed_secret = None;
        if has_secret || (self.preset.is_some() && !self.is_microsoft()) {
            let flags = "--client-secret-env or --client-secret-file";
            let before = secrets.typed.len();
            let secret =
                secrets.place(self.client_secret, "Client secret", "client-secret", flags)?;
            typed_secret = secrets.typed.get(before).map(|(_, secret)| secret.clone());
            pairs.push(("client_secret", secret));
        }
        let name = secrets.free_name("refresh-token");
        pairs.push(("refresh_token", inline([("file", format!("secrets/{name}").into())])));
        if let Some(scope) = self.scope {
            pairs.push(("scope", scope.into()));
        }
        let mut options = options_of(&inline(pairs.clone()), &self.user, self.for_graph)?;
        options.proxy = proxy.clone();
        if let Some(secret) = typed_secret {
            options.client_secret = Some(SecretSource::Literal(secret));
        }
        let granted = sign_in(&options, &self.user, args, secrets.prompter.ask).await?;
        if let Some(day) = last_day(&granted) {
            pairs.push(("sign_in_expires", day.into()));
        }
        secrets.typed.push((secrets.folder.join(name), granted.refresh_token));
        Ok(inline(pairs))
    }

    /// Returns the value for a service account of Google.
    fn of_service_account(self, key: &Path) -> Value {
        let mut pairs: Pairs = Vec::new();
        if let Some(preset) = self.preset {
            pairs.push(("preset", preset.word.into()));
        }
        for (key, url) in self.addresses {
            pairs.extend(url.map(|url| (key, url.into())));
        }
        let file = inline([("file", key.display().to_string().into())]);
        pairs.push(("service_account", file));
        pairs.extend(self.scope.map(|scope| ("scope", scope.into())));
        inline(pairs)
    }
}

/// Reads a table `oauth` as the configuration would, so that defaults and checks are the same.
fn options_of(oauth: &Value, user: &str, for_graph: bool) -> Result<OAuthOptions, Failure> {
    let mut document = toml_edit::DocumentMut::new();
    document["site"] = toml_edit::value("init");
    let account = inline([("user", user.into()), ("oauth", oauth.clone())]);
    document["account"] = toml_edit::value(inline([("mailbox", account)]));
    let folder = tempfile::tempdir().map_err(Failure::work)?;
    let path = folder.path().join("mailqos.toml");
    std::fs::write(&path, document.to_string()).map_err(Failure::work)?;
    let config = mailqos_config::load(&path)
        .map_err(|problems| Failure::Usage(problems.errors().to_string()))?;
    let account = config.accounts.values().next().map(|account| match for_graph {
        true => account.for_graph(),
        false => account.clone(),
    });
    let oauth = account.as_ref().and_then(|account| account.oauth());
    oauth.cloned().ok_or_else(|| Failure::Work("the account has no oauth".to_owned()))
}
