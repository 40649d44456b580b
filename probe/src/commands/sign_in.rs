//! The dialogue of a sign-in: the address and the code that a person needs, and who signed in. Works
//! over SSH: the person may open the address on any machine and paste what the browser shows.

use std::{
    io::{BufRead as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use inquire::Confirm;
use mailqos_base::Secret;
use mailqos_config::OAuthOptions;
use mailqos_mail::sign_in::{
    Authorization, Granted, Identity, Loopback, MAX_SIGN_IN, Match, SignIn, SignInError,
    pasted_code,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Failure;

/// How often the reader of standard input checks whether it is still needed.
const STOP_CHECK: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

// Options of a sign-in. (No doc comment: clap would take it for that of the command.)
#[derive(Debug, Clone, clap::Args)]
pub(super) struct SignInArgs {
    /// Sign in with a browser that returns to this machine, even if the provider has device codes.
    #[arg(long)]
    browser: bool,
    /// Sign in as another person, for a shared mailbox that this person has access to.
    #[arg(long)]
    pub(super) shared_mailbox: bool,
}

/// Signs a person in for the mailbox of a user. `ask` allows questions.
pub(super) async fn sign_in(
    options: &OAuthOptions,
    user: &str,
    args: &SignInArgs,
    ask: bool,
) -> Result<Granted, Failure> {
    let client = SignIn::new(options).await.map_err(Failure::work)?;
    let granted = if args.browser || !client.has_device_codes() {
        by_browser(&client, user).await
    } else {
        by_device_code(&client, user).await
    };
    let granted = granted.map_err(Failure::work)?;
    match Identity::matches(granted.identity.as_ref(), user) {
        Match::Same => print(&format!("signed in as {user}")),
        Match::Unknown => print("signed in; the provider does not state as whom"),
        Match::Other(name) => check_shared(options, user, &name, (args, ask))?,
    }
    Ok(granted)
}

/// Another person signed in: that is right only for a shared mailbox.
fn check_shared(
    options: &OAuthOptions,
    user: &str,
    name: &str,
    (args, ask): (&SignInArgs, bool),
) -> Result<(), Failure> {
    if options.token_url.contains("googleapis.com") {
        return Err(Failure::Work(format!(
            "{name} signed in, but the mailbox is that of {user}, and Google opens a mailbox only to its \
             own user; sign in as {user}"
        )));
    }
    let scope = options.scope.as_deref().unwrap_or_default();
    if scope.contains("/Mail.ReadWrite") && !scope.contains("/Mail.ReadWrite.Shared") {
        return Err(Failure::Work(format!(
            "{name} signed in, but the mailbox is that of {user}; sign in as {user}. If it is a shared \
             mailbox, Microsoft Graph needs the permissions Mail.ReadWrite.Shared and Mail.Send.Shared: \
             run init with --shared-mailbox, or name them in the account's scope"
        )));
    }
    let question = format!("Is {user} a shared mailbox that {name} has full access to?");
    if args.shared_mailbox || (ask && Confirm::new(&question).with_default(false).prompt()?) {
        print(&format!("signed in as {name}, for the shared mailbox {user}"));
        return Ok(());
    }
    Err(Failure::Work(format!(
        "{name} signed in, but the mailbox is that of {user}; sign in as {user}, or, if it is a shared \
         mailbox that {name} has full access to, add --shared-mailbox"
    )))
}

fn print(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

async fn by_device_code(client: &SignIn, user: &str) -> Result<Granted, SignInError> {
    let code = client.device_code().await?;
    let minutes = code.validity.as_secs().div_ceil(60);
    print(&format!(
        "to sign in, open {} in a browser on any machine, enter the code {} and sign in as {user}; the \
         code is valid for {minutes} min",
        code.address, code.user_code
    ));
    client.wait(&code).await
}

async fn by_browser(client: &SignIn, user: &str) -> Result<Granted, SignInError> {
    let loopback = Loopback::open().await?;
    let authorization = client.authorization(loopback.port())?;
    print(&format!(
        "to sign in, open this address in a browser and sign in as {user}:\n\n{}\n\nIf the browser runs on \
         another machine, it ends at an address that it can't open; copy that address from the browser \
         and paste it here:",
        authorization.address
    ));
    let code = code_of(&loopback, &authorization).await?;
    client.exchange(&authorization, &code).await
}

/// Waits for the browser or for pasted text, whichever comes first.
async fn code_of(
    loopback: &Loopback,
    authorization: &Authorization,
) -> Result<Secret, SignInError> {
    let stop = Arc::new(AtomicBool::new(false));
    let deadline = tokio::time::sleep(MAX_SIGN_IN);
    tokio::pin!(deadline);
    let mut reads = true;
    let result = loop {
        tokio::select! {
            code = loopback.code(authorization) => break code,
            line = pasted_line(stop.clone()), if reads => match line {
                None => reads = false,
                Some(line) => match pasted_code(line.expose(), authorization) {
                    Err(error @ (SignInError::NotACode | SignInError::OtherState)) => {
                        print(&error.to_string());
                    }
                    result => break result,
                },
            },
            () = &mut deadline => break Err(SignInError::Expired),
        }
    };
    // Later prompts read standard input themselves.
    stop.store(true, Ordering::Relaxed);
    result
}

/// Reads a line of standard input; `None` at its end, or once it is no longer needed.
async fn pasted_line(stop: Arc<AtomicBool>) -> Option<Secret> {
    let reading = tokio::task::spawn_blocking(move || {
        let stdin = std::io::stdin();
        loop {
            let mut watched = [PollFd::new(&stdin, PollFlags::IN)];
            let ready = poll(&mut watched, Some(&STOP_CHECK));
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            match ready {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => break,
                Err(_) => return None,
            }
        }
        let mut line = String::new();
        match stdin.lock().read_line(&mut line) {
            Ok(1..) => Some(Secret::new(line)),
            _ => None,
        }
    });
    reading.await.ok().flatten()
}

/// Returns the day on which a sign-in ends, for `sign_in_expires`; `None` if it has no fixed end.
pub(super) fn last_day(granted: &Granted) -> Option<String> {
    mailqos_mail::sign_in::last_day(granted.lifetime?)
}
