//! Who logs in: an account that is there, or a new one with a password or OAuth 2.0 tokens. What is typed is kept apart from the
//! configuration, in a file for its owner only, and not before everything is known.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use inquire::{Password, validator::Validation};
use mailqos_base::Secret;
use toml_edit::Value;

use super::{
    asking::{Asking, absolute, is_word},
    presets::{Preset, Tokens},
};
use crate::commands::{Failure, edit::inline};

/// What is asked for.
pub(super) const PASSWORD: &str = "Password of the mailbox";

// How a new account logs in. (No doc comment: clap would take it for that of the command.)
#[derive(Debug, clap::Args)]
pub(super) struct LoginArgs {
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
}

impl LoginArgs {
    /// Asks for what was not said; the key of the account's table, and what stands there.
    pub(super) fn ask(
        self,
        asking: Asking,
        preset: Option<&'static Preset>,
        secrets: &mut Secrets,
    ) -> Result<(&'static str, Value), Failure> {
        if !self.is_with_tokens(asking, preset)? {
            let said = (self.password_env, self.password_file.map(absolute));
            let flags = "--password-env or --password-file";
            return Ok(("password", secrets.place(said, PASSWORD, "password", flags)?));
        }
        let tokens = Application {
            preset: preset.filter(|preset| preset.oauth.is_some()),
            client_id: self.client_id,
            client_secret: (self.client_secret_env, self.client_secret_file.map(absolute)),
            refresh_token: (self.refresh_token_env, self.refresh_token_file.map(absolute)),
            tenant: self.tenant,
            token_url: self.token_url,
            scope: self.scope,
        };
        Ok(("oauth", tokens.value(secrets)?))
    }

    fn is_with_tokens(&self, asking: Asking, preset: Option<&Preset>) -> Result<bool, Failure> {
        Ok(match (self.login.as_deref(), preset.and_then(|preset| preset.oauth)) {
            (Some(login), _) => login == "oauth",
            (None, Some(Tokens::Only)) => true,
            (None, _) if self.client_id.is_some() => true,
            (None, Some(Tokens::OrPassword)) if asking.ask => {
                asking.choice(None, "Log in with", &["oauth", "password"], "oauth")? == "oauth"
            }
            (None, _) => false,
        })
    }
}

/// An environment variable or a file.
type Source = (Option<String>, Option<PathBuf>);

/// Where secrets go that are typed.
pub(super) struct Secrets {
    asking: Asking,
    folder: PathBuf,
    account: String,
    typed: Vec<(PathBuf, Secret)>,
}

impl Secrets {
    /// Secrets of an account, beside the configuration file.
    pub(super) fn new(asking: Asking, config: &Path, account: &str) -> Self {
        Self {
            asking,
            folder: config.parent().unwrap_or(Path::new("")).join("secrets"),
            account: account.to_owned(),
            typed: Vec::new(),
        }
    }

    /// Where a secret is; one that is typed will be in a file that nobody else can read.
    fn place(&mut self, said: Source, what: &str, kind: &str, flags: &str) -> Result<Value, Failure> {
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
        let secret = ask(what)?;
        let base = match kind {
            "password" => self.account.clone(),
            kind => format!("{}.{kind}", self.account),
        };
        // A file that is there may be another account's.
        let name = (1u32..)
            .map(|number| {
                if number == 1 {
                    base.clone()
                } else {
                    format!("{base}-{number}")
                }
            })
            .find(|name| !self.folder.join(name).exists())
            .unwrap_or(base);
        self.typed.push((self.folder.join(&name), secret));
        Ok(inline([("file", format!("secrets/{name}").into())]))
    }

    /// Writes down what was typed.
    pub(super) fn keep(&self) -> Result<(), Failure> {
        for (path, secret) in &self.typed {
            write(path, secret, true)?;
            let _ = writeln!(std::io::stderr(), "kept in {}, for its owner only", path.display());
        }
        Ok(())
    }

    /// Takes back what was written down.
    pub(super) fn forget(&self) {
        for (path, _) in &self.typed {
            let _ = std::fs::remove_file(path);
        }
    }

    /// Whether a password was typed that can be typed anew.
    pub(super) fn has_typed(&self) -> bool {
        !self.typed.is_empty()
    }

    /// Asks again for what was typed.
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
            "" => Validation::Invalid("something must stand here".into()),
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
    let file = if fresh {
        options.create_new(true).open(path)
    } else {
        options.truncate(true).open(path)
    };
    file.and_then(|mut file| file.write_all(secret.expose().as_bytes()))
        .map_err(failed)
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
    /// Its place in the configuration.
    fn value(self, secrets: &mut Secrets) -> Result<Value, Failure> {
        let asking = secrets.asking;
        let mut pairs: Vec<(&'static str, Value)> = Vec::new();
        let microsoft = self.preset.is_some_and(|preset| preset.oauth == Some(Tokens::Only));
        if let Some(preset) = self.preset {
            pairs.push(("preset", preset.word.into()));
        }
        match self.token_url {
            Some(url) => pairs.push(("token_url", url.into())),
            None if self.preset.is_none() => {
                let url = asking.text(None, "Address of the token server", "--token-url", None, is_word)?;
                pairs.push(("token_url", url.into()));
            }
            None => {}
        }
        if microsoft && (self.tenant.is_some() || !pairs.iter().any(|(key, _)| *key == "token_url")) {
            let tenant = asking.text(self.tenant, "Tenant (its id or domain)", "--tenant", None, is_word)?;
            pairs.push(("tenant", tenant.into()));
        }
        let what = "Id of the application (client id)";
        let client_id = asking.text(self.client_id, what, "--client-id", None, is_word)?;
        pairs.push(("client_id", client_id.into()));
        let has_refresh = self.refresh_token.0.is_some() || self.refresh_token.1.is_some();
        let has_secret = self.client_secret.0.is_some() || self.client_secret.1.is_some();
        // An application without a secret of its own lives by its refresh token.
        if has_secret || !has_refresh {
            let flags = "--client-secret-env or --client-secret-file";
            let secret = secrets.place(self.client_secret, "Secret of the application", "client-secret", flags)?;
            pairs.push(("client_secret", secret));
        }
        let needs_refresh = self.preset.is_some() && !microsoft;
        if has_refresh || needs_refresh {
            let flags = "--refresh-token-env or --refresh-token-file";
            let token = secrets.place(self.refresh_token, "Refresh token", "refresh-token", flags)?;
            pairs.push(("refresh_token", token));
        }
        if let Some(scope) = self.scope {
            pairs.push(("scope", scope.into()));
        }
        Ok(inline(pairs))
    }
}
