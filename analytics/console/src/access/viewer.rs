//! Who is asking: the user of a session or of an API token, and what it may see and do.

use std::collections::BTreeSet;

use super::{
    fingerprint,
    shared::SharedLink,
    users::{Role, User},
};
use crate::board::Entry;

/// Characters of the hash of a link by which its visitors are named.
const LINK_CHARACTERS: usize = 24;

/// The user of a request.
#[derive(Debug, Clone)]
pub(crate) struct Viewer {
    /// Name.
    pub(crate) name: String,
    /// Name to show to the user itself.
    pub(crate) display: String,
    /// Role.
    pub(crate) role: Role,
    /// Tags whose monitors it sees; `None`: all monitors.
    pub(crate) tags: Option<BTreeSet<String>>,
    /// Language that it has set.
    pub(crate) language: Option<String>,
    /// Appearance that it has set: `light` or `dark`.
    pub(crate) look: Option<String>,
    /// Token that its forms contain; `None` for API tokens, which browsers don't send
    /// automatically.
    pub(crate) csrf: Option<String>,
    /// Whether it is a visitor with a revocable link, who has no account.
    pub(crate) is_visitor: bool,
}

/// The user that asked for a report, and the tags that it was restricted to: with other rights, the
/// report is not shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    /// Name of the user.
    pub(crate) name: String,
    /// Tags; `None` for all monitors.
    pub(crate) tags: Option<BTreeSet<String>>,
}

impl Viewer {
    /// Returns the viewer of a user.
    pub(crate) fn new(name: String, user: &User, csrf: Option<String>) -> Self {
        Self {
            display: user.display.clone().unwrap_or_else(|| name.clone()),
            name,
            role: user.role,
            tags: user.tags.clone(),
            language: user.language.clone(),
            look: user.look.clone(),
            csrf,
            is_visitor: false,
        }
    }

    /// Returns the viewer of a revocable link. Its name is that of no user and no other link.
    pub(crate) fn of_link(link: &SharedLink, token: &str, csrf: String) -> Self {
        let hash: String = fingerprint(token).chars().take(LINK_CHARACTERS).collect();
        Self {
            name: format!("link: {hash}"),
            display: String::new(),
            role: Role::Viewer,
            tags: Some(BTreeSet::from([link.tag.clone()])),
            language: None,
            look: None,
            csrf: Some(csrf),
            is_visitor: true,
        }
    }

    /// Whether it sees a monitor.
    pub(crate) fn sees(&self, entry: &Entry) -> bool {
        self.sees_tags(&entry.tags)
    }

    /// Whether it sees monitors with these tags.
    pub(crate) fn sees_tags(&self, found: &BTreeSet<String>) -> bool {
        self.tags.as_ref().is_none_or(|tags| !tags.is_disjoint(found))
    }

    /// Whether it sees all monitors.
    pub(crate) fn sees_all(&self) -> bool {
        self.tags.is_none()
    }

    /// Whether it may try targets and retry deliveries.
    pub(crate) fn operates_reports(&self) -> bool {
        self.role >= Role::Operator && self.sees_all()
    }

    /// Whether it may change report definitions.
    pub(crate) fn edits_reports(&self) -> bool {
        self.role == Role::Administrator && self.sees_all() && self.csrf.is_some()
    }

    /// Returns the viewer as the owner of reports.
    pub(crate) fn owner(&self) -> Owner {
        Owner { name: self.name.clone(), tags: self.tags.clone() }
    }

    /// Whether it may manage users and read the audit log.
    pub(crate) fn manages_users(&self) -> bool {
        self.role == Role::Administrator && self.sees_all() && self.csrf.is_some()
    }
}
