//! Single sign-on: at an identity provider (OpenID Connect), or by a reverse proxy that names the
//! user. Groups decide what a user may do; users of no group are refused.

pub(crate) mod provider;
pub(crate) mod token;

use std::collections::BTreeSet;

use hyper::HeaderMap;
use mailqos_config::{Group, GroupRole, ProxyAuthOptions, SingleSignOn};

use crate::{
    access::users::{Role, User, Users, UsersError, is_name},
    clock,
};

/// Longest session of a user of single sign-on, in seconds: after this time, the provider is asked
/// again whether the user still has access.
pub(crate) const MAX_SESSION: i64 = 12 * 3_600;
/// Longest time since the last sign-in during which API tokens of such a user are valid, in
/// seconds.
pub(crate) const MAX_TOKEN_AGE: i64 = 30 * 86_400;
/// Groups of a user that are read.
const MAX_GROUPS: usize = 5_000;
/// Group of every user, in the configuration.
const EVERYONE: &str = "*";

/// Who a provider or a proxy says the user is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Provider and id of the user there; it never changes.
    pub(crate) origin: String,
    /// Name of the user.
    pub(crate) name: String,
    /// Groups of the user.
    pub(crate) groups: Vec<String>,
}

/// Reasons why a user with an identity is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Denied {
    /// The user is in none of the groups.
    #[error("{0:?} is in none of the groups that have a role")]
    NoGroup(String),
    /// The name has characters that names of the console can't have.
    #[error("{0:?} is not a valid user name; choose another claim with name_claim")]
    Name(String),
    /// There is another user of this name.
    #[error("{0:?} is the name of another user of the console")]
    Taken(String),
    /// The users can't be changed.
    #[error(transparent)]
    Users(UsersError),
}

/// What a user may do: the role, and tags whose monitors it sees.
pub(crate) type Rights = (Role, Option<BTreeSet<String>>);

/// Returns the rights of the first configured group among these.
/// Rights of several groups are not combined, because a role for one tag must not become one for
/// all.
pub(crate) fn rights(groups: &[Group], own: &[String]) -> Option<Rights> {
    let is_member = |group: &&Group| group.name == EVERYONE || own.contains(&group.name);
    let group = groups.iter().find(is_member)?;
    let role = match group.role {
        GroupRole::Viewer => Role::Viewer,
        GroupRole::Operator => Role::Operator,
        GroupRole::Administrator => Role::Administrator,
    };
    Some((role, group.tags.clone()))
}

/// Returns the groups of the configuration.
pub(crate) fn groups_of(options: &SingleSignOn) -> &[Group] {
    match options {
        SingleSignOn::OpenIdConnect(options) => &options.groups,
        SingleSignOn::Proxy(options) => &options.groups,
    }
}

/// Whether users of this origin sign in as configured.
pub(crate) fn is_current(options: Option<&SingleSignOn>, origin: &str) -> bool {
    match options {
        Some(SingleSignOn::OpenIdConnect(options)) => origin
            .strip_prefix("oidc ")
            .and_then(|rest| rest.strip_prefix(options.issuer.as_str()))
            .is_some_and(|rest| rest.starts_with(' ')),
        Some(SingleSignOn::Proxy(_)) => origin.starts_with("proxy "),
        None => false,
    }
}

/// Adds or updates the user of an identity, and returns its name. A user of another origin, such as
/// one with a password, is never taken over.
///
/// # Errors
/// The user is refused; rights from an earlier sign-in have then ended.
pub(crate) fn admit(
    users: &Users,
    identity: &Identity,
    groups: &[Group],
) -> Result<String, Denied> {
    let all = users.all();
    let known = all.iter().find(|(_, user)| user.origin.as_ref() == Some(&identity.origin));
    let known = known.map(|(name, _)| name.clone());
    let Some((role, tags)) = rights(groups, &identity.groups) else {
        if let Some(name) = known {
            let ended = users.update(&name, |user| {
                user.generation += 1;
                user.tokens.clear();
                Ok(())
            });
            ended.map_err(Denied::Users)?;
        }
        return Err(Denied::NoGroup(identity.name.chars().take(100).collect()));
    };
    let now = clock::seconds();
    if let Some(name) = known {
        // The name at the provider may change; one that belongs to someone else is not shown.
        let folded = identity.name.to_lowercase();
        let is_taken = all.keys().any(|other| other.to_lowercase() == folded);
        let is_new = identity.name != name && is_name(&identity.name) && !is_taken;
        let display = is_new.then(|| identity.name.clone());
        let changed = users.update(&name, |user| {
            (user.role, user.tags, user.signed_in_at) = (role, tags, Some(now));
            user.display = display;
            Ok(())
        });
        return changed.map(|()| name).map_err(Denied::Users);
    }
    let name = identity.name.as_str();
    if !is_name(name) {
        return Err(Denied::Name(name.chars().take(100).collect()));
    }
    let folded = name.to_lowercase();
    let added = users.change(|users| {
        // Names that differ in case would be mistaken for each other.
        if users.keys().any(|other| other.to_lowercase() == folded) {
            return Ok(false);
        }
        let mut user = User::new(role, tags);
        (user.origin, user.signed_in_at) = (Some(identity.origin.clone()), Some(now));
        users.insert(name.to_owned(), user);
        Ok(true)
    });
    match added {
        Ok(true) => Ok(name.to_owned()),
        Ok(false) => Err(Denied::Taken(name.to_owned())),
        Err(error) => Err(Denied::Users(error)),
    }
}

/// Returns the user that a trusted proxy names. Fields that occur twice are refused: one of them
/// may come from the client.
pub(crate) fn named_by_proxy(options: &ProxyAuthOptions, headers: &HeaderMap) -> Option<Identity> {
    let single = |name: &str| {
        let mut all = headers.get_all(name).into_iter();
        let first = all.next().map(|value| std::str::from_utf8(value.as_bytes()));
        match (first, all.next()) {
            (None, _) => Some(""),
            (Some(Ok(text)), None) => Some(text.trim()),
            _ => {
                tracing::warn!(header = name, "console: a header field of the proxy is ambiguous");
                None
            }
        }
    };
    let (name, groups) = (single(&options.user_header)?, single(&options.groups_header)?);
    if name.is_empty() {
        return None;
    }
    let groups = groups.split([',', ';']).map(str::trim).filter(|group| !group.is_empty());
    Some(Identity {
        origin: format!("proxy {name}"),
        name: name.to_owned(),
        groups: groups.take(MAX_GROUPS).map(str::to_owned).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups() -> Vec<Group> {
        let group = |name: &str, role, tag: Option<&str>| Group {
            name: name.to_owned(),
            role,
            tags: tag.map(|tag| BTreeSet::from([tag.to_owned()])),
        };
        vec![
            group("acme", GroupRole::Administrator, Some("acme")),
            group("ops", GroupRole::Operator, None),
        ]
    }

    fn identity(origin: &str, name: &str, groups: &[&str]) -> Identity {
        Identity {
            origin: origin.to_owned(),
            name: name.to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        }
    }

    #[test]
    fn the_first_group_counts_and_rights_are_not_combined() {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let acme = Some(BTreeSet::from(["acme".to_owned()]));
        assert_eq!(rights(&groups(), &own(&["ops", "acme"])), Some((Role::Administrator, acme)));
        assert_eq!(rights(&groups(), &own(&["ops"])), Some((Role::Operator, None)));
        for none in [&[][..], &["OPS"], &["ops "], &["*"]] {
            assert_eq!(rights(&groups(), &own(none)), None, "{none:?}");
        }
    }

    #[test]
    fn no_other_user_is_taken_over_and_lost_groups_end_everything() {
        let folder = tempfile::tempdir().expect("a folder");
        let users = Users::open(folder.path()).expect("none yet");
        let mut admin = User::new(Role::Administrator, None);
        admin.password = Some("hash".to_owned());
        users.change(|all| Ok(all.insert("admin".to_owned(), admin))).expect("written");
        for name in ["admin", "Admin"] {
            let result = admit(&users, &identity("oidc a 1", name, &["ops"]), &groups());
            assert!(matches!(result, Err(Denied::Taken(_))), "{result:?}");
        }
        let result = admit(&users, &identity("oidc a 1", "a b", &["ops"]), &groups());
        assert!(matches!(result, Err(Denied::Name(_))), "{result:?}");
        let name = admit(&users, &identity("oidc a 1", "anna", &["ops"]), &groups());
        assert_eq!(name.expect("admitted"), "anna");
        // The same name of another subject, and another name of the same subject.
        let other = admit(&users, &identity("oidc a 2", "anna", &["ops"]), &groups());
        assert!(matches!(other, Err(Denied::Taken(_))), "{other:?}");
        let renamed = admit(&users, &identity("oidc a 1", "anna.b", &["acme"]), &groups());
        assert_eq!(renamed.expect("admitted"), "anna");
        let anna = users.get("anna").expect("anna");
        assert_eq!(anna.role, Role::Administrator);
        // nextcloud/user_oidc#839, mailcow/mailcow-dockerized#6425, OpenCTI-Platform/opencti#11446.
        assert_eq!(anna.display.as_deref(), Some("anna.b"), "the current name is shown");
        for taken in ["admin", "ADMIN", "anna", "a b"] {
            admit(&users, &identity("oidc a 1", taken, &["acme"]), &groups()).expect("admitted");
            assert_eq!(users.get("anna").expect("anna").display, None, "{taken}");
        }
        let denied = admit(&users, &identity("oidc a 1", "anna", &[]), &groups());
        assert!(matches!(denied, Err(Denied::NoGroup(_))), "{denied:?}");
        assert!(users.get("anna").expect("anna").generation > anna.generation);
    }

    #[test]
    fn ambiguous_fields_name_no_one() {
        let options = ProxyAuthOptions {
            user_header: "remote-user".to_owned(),
            groups_header: "remote-groups".to_owned(),
            logout_url: None,
            groups: groups(),
        };
        let named = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, value.parse().expect("a value"));
            }
            named_by_proxy(&options, &headers)
        };
        let anna = named(&[("remote-user", "anna"), ("remote-groups", "ops, b;c,")]);
        assert_eq!(anna, Some(identity("proxy anna", "anna", &["ops", "b", "c"])));
        assert_eq!(named(&[("remote-user", "eve"), ("remote-user", "anna")]), None);
        assert_eq!(
            named(&[("remote-user", "anna"), ("remote-groups", "a"), ("remote-groups", "ops")]),
            None
        );
        assert_eq!(named(&[("remote-user", " ")]), None);
        assert_eq!(named(&[]), None);
    }
}
