//! `mailqos-probe account`: what can be done with an account of the configuration.

use std::{io::Write as _, path::Path, process::ExitCode};

use mailqos_base::{
    Secret, SecretSource,
    files::{Access, replace},
};
use mailqos_config::Login;
use toml_edit::Item;

use super::{
    Failure, Global, access,
    edit::Edit,
    print_line,
    sign_in::{SignInArgs, last_day, sign_in},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Sign in as the user of an account, and store the refresh token.
    Login(LoginArgs),
    /// Print the PowerShell commands that restrict an application to one mailbox.
    Scope(access::ScopeArgs),
    /// Verify that an application reaches one mailbox and not another one.
    Verify(access::VerifyArgs),
}

#[derive(Debug, clap::Args)]
struct LoginArgs {
    /// Id of the account.
    account: String,
    #[command(flatten)]
    sign_in: SignInArgs,
}

pub(super) async fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    match args.command {
        Command::Login(args) => login(&args, global).await,
        Command::Scope(args) => access::print_commands(&args, global),
        Command::Verify(args) => access::verify(args, global).await,
    }
}

async fn login(args: &LoginArgs, global: &Global) -> Result<ExitCode, Failure> {
    use std::io::IsTerminal as _;
    let config = global.config()?;
    let name = &args.account;
    let account = config
        .accounts
        .get(name.as_str())
        .ok_or_else(|| Failure::Usage(format!("unknown account {name:?}")))?;
    let Login::OAuth(options) = &account.login else {
        return Err(Failure::Usage(format!(
            "the account {name:?} logs in with a password; a sign-in is for accounts with oauth"
        )));
    };
    let path = match &options.refresh_token {
        Some(SecretSource::File(path)) => path.clone(),
        Some(_) => {
            return Err(Failure::Usage(format!(
                "the refresh token of account {name:?} does not come from a file, so a new one can't be \
                 stored; set refresh_token = {{ file = \"secrets/{name}.refresh-token\" }}"
            )));
        }
        None => {
            return Err(Failure::Usage(format!(
                "the account {name:?} has no refresh token: the application logs in with its own \
                 credentials; to sign in as a person, set refresh_token = {{ file = \
                 \"secrets/{name}.refresh-token\" }}"
            )));
        }
    };
    // Each token of Microsoft is for one service, so consent is given for the one in use.
    let account = match name.parse() {
        Ok(id) if access::is_used_over_graph(&config, &id) => account.for_graph(),
        _ => account.clone(),
    };
    let options = account.oauth().unwrap_or(options);
    let granted =
        sign_in(options, &account.user, &args.sign_in, std::io::stdin().is_terminal()).await?;
    store(&path, &granted.refresh_token)
        .map_err(|error| Failure::Work(format!("{}: {error}", path.display())))?;
    // It stated the end of the previous sign-in.
    let _ = std::fs::remove_file(options.end_file());
    note_end(name, last_day(&granted), global)?;
    print_line(&format!("{name}: signed in; refresh token stored in {}", path.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// Stores a refresh token readable only by its owner: the owner of the file that it replaces, or of
/// the folder, since root may sign in for the user that the probe runs as.
fn store(path: &Path, token: &Secret) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, fchown};
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder {
        std::fs::create_dir_all(folder)?;
    }
    // A link stays, and its destination is replaced.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let owner = std::fs::metadata(&path)
        .or_else(|_| std::fs::metadata(path.parent().unwrap_or(Path::new("."))));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    replace(&path, &path.with_file_name(name), Access::Owner, |file| {
        if let Ok(owner) = owner {
            // Only root can give files away.
            let _ = fchown(&*file, Some(owner.uid()), Some(owner.gid()));
        }
        writeln!(file, "{}", token.expose())
    })
}

/// Notes in the configuration when the sign-in ends, or removes the end of the previous one.
fn note_end(name: &str, day: Option<String>, global: &Global) -> Result<(), Failure> {
    let mut edit = Edit::find(global.path(), "account", name)?;
    let oauth = edit
        .document
        .get_mut("account")
        .and_then(|accounts| accounts.get_mut(name))
        .and_then(|account| account.get_mut("oauth"))
        .and_then(Item::as_table_like_mut);
    let Some(oauth) = oauth else { return Ok(()) };
    match day {
        Some(day) => {
            oauth.insert("sign_in_expires", toml_edit::value(day));
        }
        None => {
            oauth.remove("sign_in_expires");
        }
    }
    edit.save()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_stored_token_is_its_owners_alone_and_replaces_the_old_one_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secrets/m365.refresh-token");
        for token in ["first", "second"] {
            store(&path, &Secret::new(token)).expect("stored");
            assert_eq!(std::fs::read_to_string(&path).expect("a file"), format!("{token}\n"));
            let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let files = std::fs::read_dir(path.parent().expect("a folder")).expect("a folder");
        assert_eq!(files.count(), 1);
    }
}
