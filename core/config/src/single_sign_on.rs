//! Single sign-on of the web console: the tables `console.oidc` and `console.proxy_auth`.

use std::collections::BTreeSet;

use mailqos_base::SecretSource;
use mailqos_model::words;
use mailqos_net::Trust;

use super::{
    Problems, Table,
    key::{Defaulted, Optional, OptionalWord, Required, key},
    reference::Key,
    server::trust,
    value::secret,
};

words!(
    /// What members of a group may do in the console.
    GroupRole, "role" {
        /// View monitors and reports.
        Viewer = "viewer",
        /// Acknowledge alarms and plan maintenance, too.
        Operator = "operator",
        /// Manage monitors, reports and users, too.
        Administrator = "administrator",
    }
);

const ROLES: [(&str, GroupRole); 3] = [
    (GroupRole::Viewer.as_str(), GroupRole::Viewer),
    (GroupRole::Operator.as_str(), GroupRole::Operator),
    (GroupRole::Administrator.as_str(), GroupRole::Administrator),
];

keys! {
    OIDC: OidcKeys {
        /// The address of the identity provider, exactly as in its discovery document:
        /// `https://login.example.com`.
        issuer: Required<String> = key();
        /// The id of the console at the identity provider.
        client_id: Required<String> = key();
        /// The secret of the console at the identity provider; public clients have none.
        client_secret: Key = Key::secret();
        /// The scopes to ask for; `openid` is always one of them.
        scopes: Defaulted<Vec<String>> = key().default("[\"openid\", \"profile\", \"email\"]");
        /// The claim with the name of the user. An e-mail address only counts if the provider has
        /// verified it.
        name_claim: Defaulted<String> = key().default("\"preferred_username\"");
        /// The claim with the groups of the user, a list or a single text; for a claim in another,
        /// a path such as `realm_access.roles`.
        groups_claim: Defaulted<String> = key().default("\"groups\"");
        /// The text on the button of the sign-in page.
        title: Defaulted<String> = key().default("\"Single sign-on\"");
        /// Groups and their roles; the first that a user belongs to counts. Users of no group are
        /// refused.
        groups: Key = Key::tables(&["console.groups"]).required();
    }
}

keys! {
    PROXY_AUTH: ProxyAuthKeys {
        /// The header field with the name of the user. It counts only in requests of
        /// `trusted_proxies`, which must remove it from the requests of clients.
        user_header: Required<String> = key();
        /// The header field with the groups of the user, separated by `,` or `;`.
        groups_header: Required<String> = key();
        /// The address at which the proxy signs users out.
        logout_url: Optional<String> = key();
        /// Groups and their roles; the first that a user belongs to counts. Users of no group are
        /// refused.
        groups: Key = Key::tables(&["console.groups"]).required();
    }
}

keys! {
    GROUP: GroupKeys {
        /// The group, exactly as the identity provider names it; `*` is every user.
        group: Required<String> = key();
        /// What its members may do.
        role: OptionalWord<GroupRole> = word!(ROLES).otherwise("`viewer`");
        /// Tags whose monitors its members see.
        tags: Optional<Vec<String>> = key().otherwise("all monitors");
    }
}

/// How users sign in without a password of the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SingleSignOn {
    /// An identity provider (OpenID Connect Core 1.0).
    OpenIdConnect(Box<OidcOptions>),
    /// A reverse proxy that names the user in a header field.
    Proxy(ProxyAuthOptions),
}

/// An identity provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OidcOptions {
    /// Its address, as in tokens.
    pub issuer: String,
    /// Id of the console.
    pub client_id: String,
    /// Secret of the console.
    pub client_secret: Option<SecretSource>,
    /// Scopes to ask for, with `openid`.
    pub scopes: Vec<String>,
    /// Claim with the name of the user.
    pub name_claim: String,
    /// Claim with the groups of the user.
    pub groups_claim: String,
    /// Text on the button of the sign-in page.
    pub title: String,
    /// Groups and their roles, in order.
    pub groups: Vec<Group>,
    /// Trusted certificates.
    pub trust: Trust,
}

/// A reverse proxy that names the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyAuthOptions {
    /// Header field with the name of the user, in lower case.
    pub user_header: String,
    /// Header field with the groups of the user, in lower case.
    pub groups_header: String,
    /// Address at which the proxy signs users out.
    pub logout_url: Option<String>,
    /// Groups and their roles, in order.
    pub groups: Vec<Group>,
}

/// What the members of a group may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The group; `*` is every user.
    pub name: String,
    /// What its members may do.
    pub role: GroupRole,
    /// Tags whose monitors they see; `None`: all monitors.
    pub tags: Option<BTreeSet<String>>,
}

/// Whether an address is safe to send codes and users to: with TLS, or on this machine.
fn is_safe(url: &str) -> bool {
    let Ok(place) = mailqos_net::http::Place::parse(url) else { return false };
    let is_local = matches!(place.host.as_str(), "localhost" | "127.0.0.1" | "::1" | "[::1]");
    place.tls || is_local
}

/// Reads `console.oidc` and `console.proxy_auth`, of which only one may be there: with both, it
/// would be unclear who vouches for a user.
pub(super) fn read(
    table: &mut Table,
    (oidc, proxy): (&Key, &Key),
    (has_proxies, plaintext): (bool, bool),
    problems: &mut Problems,
) -> Option<SingleSignOn> {
    let has_both = table.node(oidc).is_some() && table.node(proxy).is_some();
    let first = table.table(oidc, problems).and_then(|it| read_oidc(it, plaintext, problems));
    let second = table.table(proxy, problems).and_then(|it| read_proxy(it, problems));
    if has_both {
        let reason = "users can sign in with oidc or proxy_auth, not with both";
        problems.push(table.problem(proxy, reason, "here").help("remove one of the two"));
        return None;
    }
    if second.is_some() && !has_proxies {
        let reason = "proxy_auth needs trusted_proxies: anyone could send the header fields";
        let problem = table.problem(proxy, reason, "here");
        problems.push(problem.help("add trusted_proxies = [\"ADDRESS OF THE PROXY\"]"));
        return None;
    }
    first.map(|it| SingleSignOn::OpenIdConnect(Box::new(it))).or(second.map(SingleSignOn::Proxy))
}

fn read_oidc(mut table: Table, plaintext: bool, problems: &mut Problems) -> Option<OidcOptions> {
    let issuer = table.read(&OIDC.issuer, problems);
    if issuer.as_deref().is_some_and(|issuer| !is_safe(issuer)) {
        let reason = "the issuer needs an address with https://";
        let problem = table.problem(&OIDC.issuer, reason, "this address");
        problems.push(problem.help("write the issuer as in the provider's documentation"));
    }
    let client_id = table.read(&OIDC.client_id, problems);
    let client_secret =
        table.node(&OIDC.client_secret).and_then(|node| secret(&node, plaintext, problems));
    let mut scopes = table.read(&OIDC.scopes, problems);
    if !scopes.iter().any(|scope| scope == "openid") {
        scopes.insert(0, "openid".to_owned());
    }
    let (name_claim, groups_claim) =
        (table.read(&OIDC.name_claim, problems), table.read(&OIDC.groups_claim, problems));
    let title = table.read(&OIDC.title, problems);
    let groups = read_groups(&mut table, &OIDC.groups, problems);
    let trust = trust(&mut table, problems);
    table.finish(problems);
    let (issuer, client_id) = (issuer?, client_id?);
    Some(OidcOptions {
        issuer,
        client_id,
        client_secret,
        scopes,
        name_claim,
        groups_claim,
        title,
        groups,
        trust,
    })
}

fn read_proxy(mut table: Table, problems: &mut Problems) -> Option<ProxyAuthOptions> {
    let mut field = |key: &Required<String>| {
        let name = table.read(key, problems)?;
        let is_token = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if !name.is_empty() && name.chars().all(is_token) {
            return Some(name.to_lowercase());
        }
        let reason = format!("{name:?} is not a valid name of a header field");
        let problem = table.problem(key, reason, "not a name");
        problems.push(problem.help("use letters, digits and '-', such as \"Remote-User\""));
        None
    };
    let user_header = field(&PROXY_AUTH.user_header);
    let groups_header = field(&PROXY_AUTH.groups_header);
    let logout_url = table.read(&PROXY_AUTH.logout_url, problems);
    if logout_url.as_deref().is_some_and(|url| !is_safe(url)) {
        let problem =
            table.problem(&PROXY_AUTH.logout_url, "the address needs https://", "this address");
        problems.push(
            problem.help("write the whole address, such as \"https://auth.example.com/logout\""),
        );
    }
    let groups = read_groups(&mut table, &PROXY_AUTH.groups, problems);
    table.finish(problems);
    let (user_header, groups_header) = (user_header?, groups_header?);
    Some(ProxyAuthOptions { user_header, groups_header, logout_url, groups })
}

fn read_groups(table: &mut Table, key: &Key, problems: &mut Problems) -> Vec<Group> {
    if table.node(key).is_none() {
        problems.push(table.missing(key, "[{ group = \"GROUP\", role = \"viewer\" }]"));
    }
    let mut groups = Vec::new();
    for mut inner in table.tables(key, problems) {
        let name = inner.read(&GROUP.group, problems);
        let role = inner.read(&GROUP.role, problems).unwrap_or(GroupRole::Viewer);
        let tags = inner.read(&GROUP.tags, problems).map(BTreeSet::from_iter);
        inner.finish(problems);
        groups.extend(name.map(|name| Group { name, role, tags }));
    }
    groups
}
