//! The account for the login: an existing one, or a new one with a password or OAuth 2.0 tokens.
//! Typed secrets are stored outside the configuration, in a file readable only by its owner, and
//! only after all prompts.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use inquire::{Password, validator::Validation};
use mailqos_base::Secret;
use toml_edit::Value;

use super::{
    presets::{Provider, Tokens},
    prompter::{Prompter, absolute, is_word},
};
use crate::commands::{Failure, edit::inline};

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
    /// Authentication: password or OAuth 2.0 tokens.
    #[arg(long, value_parser = ["password", "oauth"])]
    login: Option<String>,
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
    /// OAuth 2.0: scope of the token [default: set by the preset].
    #[arg(long)]
    scope: Option<String>,
}

impl LoginArgs {
    /// Prompts for missing values; returns the key of the account's table and its value.
    pub(super) fn ask(
        self,
        prompter: Prompter,
        preset: Option<&'static Provider>,
        secrets: &mut Secrets,
    ) -> Result<(&'static str, Value), Failure> {
        if !self.is_with_tokens(prompter, preset)? {
            let said = (self.password_env, self.password_file.map(absolute));
            let flags = "--password-env or --password-file";
            return Ok(("password", secrets.place(said, PASSWORD, "password", flags)?));
        }
        let tokens = Application {
            preset: preset.filter(|preset| preset.tokens.is_some()),
            client_id: self.client_id,
            client_secret: (self.client_secret_env, self.client_secret_file.map(absolute)),
            refresh_token: (self.refresh_token_env, self.refresh_token_file.map(absolute)),
            tenant: self.tenant,
            token_url: self.token_url,
            scope: self.scope,
        };
        Ok(("oauth", tokens.value(secrets)?))
    }

    fn is_with_tokens(
        &self,
        prompter: Prompter,
        preset: Option<&Provider>,
    ) -> Result<bool, Failure> {
        Ok(match (self.login.as_deref(), preset.and_then(|preset| preset.tokens)) {
            (Some(login), _) => login == "oauth",
            (None, Some(Tokens::Only)) => true,
            (None, _) if self.client_id.is_some() => true,
            (None, Some(Tokens::OrPassword)) if prompter.ask => {
                prompter.choice(None, "Authentication", &["oauth", "password"], "oauth")? == "oauth"
            }
            (None, _) => false,
        })
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
        let base = match kind {
            "password" => self.account.clone(),
            kind => format!("{}.{kind}", self.account),
        };
        // An existing file may belong to another account.
        let name = (1u32..)
            .map(|number| if number == 1 { base.clone() } else { format!("{base}-{number}") })
            .find(|name| !self.folder.join(name).exists())
            .unwrap_or(base);
        self.typed.push((self.folder.join(&name), secret));
        Ok(inline([("file", format!("secrets/{name}").into())]))
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

/// Options for an OAuth 2.0 application that obtains tokens.
struct Application {
    preset: Option<&'static Provider>,
    client_id: Option<String>,
    client_secret: Source,
    refresh_token: Source,
    tenant: Option<String>,
    token_url: Option<String>,
    scope: Option<String>,
}

impl Application {
    /// Returns the value for the configuration.
    fn value(self, secrets: &mut Secrets) -> Result<Value, Failure> {
        let prompter = secrets.prompter;
        let mut pairs: Vec<(&'static str, Value)> = Vec::new();
        let microsoft = self.preset.is_some_and(|preset| preset.tokens == Some(Tokens::Only));
        if let Some(preset) = self.preset {
            pairs.push(("preset", preset.word.into()));
        }
        match self.token_url {
            Some(url) => pairs.push(("token_url", url.into())),
            None if self.preset.is_none() => {
                let url = prompter.text(None, "Token server URL", "--token-url", None, is_word)?;
                pairs.push(("token_url", url.into()));
            }
            None => {}
        }
        if microsoft && (self.tenant.is_some() || !pairs.iter().any(|(key, _)| *key == "token_url"))
        {
            let tenant =
                prompter.text(self.tenant, "Tenant (id or domain)", "--tenant", None, is_word)?;
            pairs.push(("tenant", tenant.into()));
        }
        let what = "Application (client) id";
        let client_id = prompter.text(self.client_id, what, "--client-id", None, is_word)?;
        pairs.push(("client_id", client_id.into()));
        let has_refresh = self.refresh_token.0.is_some() || self.refresh_token.1.is_some();
        let has_secret = self.client_secret.0.is_some() || self.client_secret.1.is_some();
        // An application without a client secret uses its refresh token.
        if has_secret || !has_refresh {
            let flags = "--client-secret-env or --client-secret-file";
            let secret =
                secrets.place(self.client_secret, "Client secret", "client-secret", flags)?;
            pairs.push(("client_secret", secret));
        }
        let needs_refresh = self.preset.is_some() && !microsoft;
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
}
