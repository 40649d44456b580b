//! Restricting an application to one mailbox (RBAC for Applications): the PowerShell commands, and
//! the verification that it reaches this mailbox and no other.
//!
//! <https://learn.microsoft.com/exchange/permissions-exo/application-rbac>

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use mailqos_config::{
    Account, Config, Endpoint, Kind, OAuthOptions, PickupProtocol, SubmissionProtocol, TlsMode,
};
use mailqos_mail::{
    Credentials, Wire,
    graph::{Graph, GraphError, Request},
};
use mailqos_model::AccountName;
use mailqos_net::Trust;

use super::{Failure, Global, print_line};

/// Deadline of each request.
const STEP: Duration = Duration::from_secs(30);
/// The longest response, in bytes.
const MAX_REPLY: usize = 64 * 1024;

#[derive(Debug, clap::Args)]
pub(super) struct ScopeArgs {
    /// Account for Microsoft Graph.
    account: AccountName,
    /// Mailbox that the application may reach (default: the account's user).
    #[arg(long, value_name = "ADDRESS")]
    mailbox: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    scope: ScopeArgs,
    /// Existing mailbox of the tenant that the application must not reach.
    #[arg(long, value_name = "ADDRESS")]
    other: String,
}

impl VerifyArgs {
    /// Creates the arguments for an account, its mailbox and another one.
    pub(super) fn new(account: AccountName, mailbox: &str, other: &str) -> Self {
        let scope = ScopeArgs { account, mailbox: Some(mailbox.to_owned()) };
        Self { scope, other: other.to_owned() }
    }
}

/// Returns whether a monitor or a mail server uses an account over Microsoft Graph.
pub(super) fn is_used_over_graph(config: &Config, name: &AccountName) -> bool {
    of_graph(config).any(|endpoint| endpoint.account.as_ref() == Some(name))
}

/// Prints the PowerShell commands that restrict an application to one mailbox.
pub(super) fn print_commands(args: &ScopeArgs, global: &Global) -> Result<ExitCode, Failure> {
    let config = global.config()?;
    let (account, oauth) = account(&config, args)?;
    let mailbox = args.mailbox.as_ref().unwrap_or(&account.user);
    for line in powershell(&oauth.client_id, mailbox).map_err(Failure::Usage)? {
        print_line(&line)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Verifies that an application reaches one mailbox and not another one.
pub(super) async fn verify(args: VerifyArgs, global: &Global) -> Result<ExitCode, Failure> {
    let config = global.config()?;
    let (account, _) = account(&config, &args.scope)?;
    let endpoint = endpoint(&config, &args.scope.account, account);
    let mailbox = args.scope.mailbox.as_ref().unwrap_or(&account.user);
    if mailbox.eq_ignore_ascii_case(&args.other) {
        return Err(Failure::Usage("--other must be another mailbox".to_owned()));
    }
    let credentials = mailqos_mail::credentials(&account.for_graph()).await;
    let credentials = credentials.map_err(Failure::work)?;
    let own = Reach::of(&endpoint, &credentials, mailbox).await.map_err(Failure::work)?;
    let other = Reach::of(&endpoint, &credentials, &args.other).await.map_err(Failure::work)?;
    let (is_right, lines) = verdict((mailbox, own), (&args.other, other));
    for line in lines {
        print_line(&line)?;
    }
    if !is_right {
        let name = &args.scope.account;
        print_line(&format!("→ mailqos-probe account scope {name}"))?;
    }
    Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The account of the arguments, which must have tokens for Microsoft Graph.
fn account<'c>(
    config: &'c Config,
    args: &ScopeArgs,
) -> Result<(&'c Account, &'c OAuthOptions), Failure> {
    let name = &args.account;
    let known = config
        .accounts
        .get(name)
        .ok_or_else(|| Failure::Usage(format!("the configuration contains no account {name}")))?;
    match known.oauth().filter(|oauth| oauth.graph.is_some()) {
        Some(oauth) => Ok((known, oauth)),
        None => Err(Failure::Usage(format!(
            "the account {name} has no tokens for Microsoft Graph; set oauth = {{ preset = \
             \"microsoft-365\", … }}"
        ))),
    }
}

/// Where monitors and mail servers reach Microsoft Graph.
pub(super) fn of_graph(config: &Config) -> impl Iterator<Item = Endpoint> + '_ {
    let monitors = config.monitors.values().flat_map(|monitor| {
        let pickup = monitor.kind.pickup().filter(|it| it.protocol == PickupProtocol::Graph);
        let smtp = match &monitor.kind {
            Kind::MailQos(options) if options.submission == SubmissionProtocol::Graph => {
                Some(options.smtp.clone())
            }
            _ => None,
        };
        pickup.map(|pickup| pickup.endpoint).into_iter().chain(smtp)
    });
    let servers = config.mail_servers.values();
    let servers = servers.filter(|server| server.protocol == SubmissionProtocol::Graph);
    monitors.chain(servers.map(|server| server.endpoint.clone()))
}

/// Where the account reaches Microsoft Graph: as the first monitor or mail server that uses it.
fn endpoint(config: &Config, name: &AccountName, account: &Account) -> Endpoint {
    let mut known = of_graph(config);
    known.find(|endpoint| endpoint.account.as_ref() == Some(name)).unwrap_or_else(|| {
        let graph = account.oauth().and_then(|oauth| oauth.graph.as_ref());
        Endpoint {
            server: graph.map(|graph| graph.server.clone()).unwrap_or_default(),
            port: 443,
            tls: TlsMode::Implicit,
            trust: Trust::default(),
            account: Some(name.clone()),
            helo: None,
            proxy: Some(config.proxy.clone()),
        }
    })
}

/// The commands that restrict an application to a mailbox; an error if a value can't be part of one.
pub(super) fn powershell(client_id: &str, mailbox: &str) -> Result<Vec<String>, String> {
    let is_plain = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._+@".contains(c))
    };
    for text in [client_id, mailbox] {
        if !is_plain(text) {
            return Err(format!("{text:?} can't be part of a PowerShell command"));
        }
    }
    let scope = format!("mailqos {mailbox}");
    let assign = |role: &str| {
        format!(
            "New-ManagementRoleAssignment -App '{client_id}' -Role 'Application {role}' \
             -CustomResourceScope '{scope}'"
        )
    };
    Ok(vec![
        "# In PowerShell, as an Exchange administrator. First remove Mail.* permissions of the"
            .to_owned(),
        "# application in Microsoft Entra: those apply to all mailboxes, whatever the scope below."
            .to_owned(),
        "Connect-MgGraph -Scopes 'Application.Read.All'".to_owned(),
        format!("$app = Get-MgServicePrincipal -Filter \"AppId eq '{client_id}'\""),
        "Connect-ExchangeOnline".to_owned(),
        "New-ServicePrincipal -AppId $app.AppId -ObjectId $app.Id -DisplayName $app.DisplayName"
            .to_owned(),
        format!(
            "New-ManagementScope -Name '{scope}' -RecipientRestrictionFilter \
             \"PrimarySmtpAddress -eq '{mailbox}'\""
        ),
        assign("Mail.ReadWrite"),
        assign("Mail.Send"),
        format!("Test-ServicePrincipalAuthorization -Identity '{client_id}' -Resource '{mailbox}'"),
        "# A change may take two hours. Then verify it: mailqos-probe account verify".to_owned(),
    ])
}

/// What an application may do in a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reach {
    read: Answer,
    send: Answer,
}

/// Whether the service allows something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Allowed,
    Denied,
    /// The service answered something else.
    Unknown(u16),
}

impl Reach {
    /// Asks for the identifier of the inbox, and to send a message that can't be one: nothing is
    /// read or sent.
    async fn of(
        endpoint: &Endpoint,
        credentials: &Credentials,
        mailbox: &str,
    ) -> Result<Self, String> {
        let credentials = credentials.for_user(mailbox);
        let wire = Wire::connect(endpoint, STEP).await.map_err(|error| error.to_string())?;
        let mut graph = Graph::new(wire, endpoint, &credentials, STEP, Instant::now() + STEP);
        let inbox = Request::get("/mailFolders/inbox?$select=id", MAX_REPLY);
        let read = match graph.send(&inbox).await {
            Ok(_) => Answer::Allowed,
            Err(error) => Answer::of(&error)?,
        };
        let nothing = Request::post("/sendMail", Some(("text/plain", b"!")), MAX_REPLY);
        let send = match graph.send(&nothing).await {
            // Not Base64, so there is a permission to send.
            Err(GraphError::Refused(refusal)) if refusal.is_invalid_mime() => Answer::Allowed,
            Ok(response) => Answer::Unknown(response.status),
            Err(error) => Answer::of(&error)?,
        };
        graph.close().await;
        Ok(Self { read, send })
    }
}

impl Answer {
    fn of(error: &GraphError) -> Result<Self, String> {
        match error {
            GraphError::Refused(refusal) if refusal.is_permission() => Ok(Self::Denied),
            GraphError::Refused(refusal) if !refusal.is_token() => {
                Ok(Self::Unknown(refusal.status))
            }
            _ => Err(error.to_string()),
        }
    }
}

/// The lines that state the result, and whether it is as it should be.
fn verdict(own: (&str, Reach), other: (&str, Reach)) -> (bool, Vec<String>) {
    let mut is_right = true;
    let mut lines = Vec::new();
    for ((mailbox, reach), wanted) in [(own, Answer::Allowed), (other, Answer::Denied)] {
        for (what, answer) in [("read", reach.read), ("send from", reach.send)] {
            let state = match answer {
                Answer::Allowed => format!("the application can {what} {mailbox}"),
                Answer::Denied => format!("the application can't {what} {mailbox}"),
                Answer::Unknown(status) => format!(
                    "whether the application can {what} {mailbox} is unknown (HTTP {status}); check the address"
                ),
            };
            // A monitor that only picks up needs no permission to send.
            let is_fine = answer == wanted
                || (wanted == Answer::Allowed && what == "send from" && answer == Answer::Denied);
            is_right &= is_fine;
            lines.push(format!("{} {state}", if is_fine { "✓" } else { "✗" }));
        }
    }
    (is_right, lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_exact_and_take_no_code() {
        let lines = powershell("11111111-2222", "probe@contoso.com").expect("commands").join("\n");
        for expected in [
            "New-ManagementScope -Name 'mailqos probe@contoso.com' -RecipientRestrictionFilter \"PrimarySmtpAddress -eq 'probe@contoso.com'\"",
            "New-ManagementRoleAssignment -App '11111111-2222' -Role 'Application Mail.ReadWrite' -CustomResourceScope 'mailqos probe@contoso.com'",
            "Test-ServicePrincipalAuthorization -Identity '11111111-2222' -Resource 'probe@contoso.com'",
        ] {
            assert!(lines.contains(expected), "{lines}");
        }
        for mailbox in ["a'; Remove-Mailbox x #@b", "$(x)@b", "a b@c", ""] {
            assert!(powershell("1", mailbox).is_err(), "{mailbox}");
        }
    }

    #[test]
    fn anything_but_a_clear_answer_is_not_right() {
        let reach = |read, send| Reach { read, send };
        let (yes, no, unknown) = (Answer::Allowed, Answer::Denied, Answer::Unknown(404));
        for (own, other, expected) in [
            (reach(yes, yes), reach(no, no), true),
            (reach(yes, no), reach(no, no), true),
            (reach(yes, yes), reach(yes, no), false),
            (reach(yes, yes), reach(no, yes), false),
            (reach(no, no), reach(no, no), false),
            (reach(yes, yes), reach(unknown, no), false),
            (reach(unknown, yes), reach(no, no), false),
        ] {
            assert_eq!(verdict(("a@b", own), ("c@b", other)).0, expected, "{own:?} {other:?}");
        }
    }
}
