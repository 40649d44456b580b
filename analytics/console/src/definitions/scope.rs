//! What of the configuration a user may see and use.

use std::collections::BTreeSet;

use mailqos_config::{Config, Monitor};

use crate::access::viewer::Viewer;

/// Names that a user may see.
#[derive(Debug)]
pub(crate) struct Scope {
    /// Tags of a restricted user.
    pub(crate) tags: Option<BTreeSet<String>>,
    /// Ids of monitors.
    pub(crate) monitors: BTreeSet<String>,
    /// Ids of objects.
    pub(crate) objects: BTreeSet<String>,
    accounts: BTreeSet<String>,
    action_lists: BTreeSet<String>,
}

impl Scope {
    /// Returns the scope of a user. A restricted one sees its monitors and what these use.
    pub(crate) fn of(config: &Config, viewer: &Viewer) -> Self {
        let seen = |monitor: &&Monitor| viewer.sees_tags(&monitor.tags);
        let monitors: Vec<&Monitor> = config.monitors.values().filter(seen).collect();
        let mut scope = Self {
            tags: viewer.tags.clone(),
            monitors: monitors.iter().map(|monitor| monitor.id.to_string()).collect(),
            objects: BTreeSet::new(),
            accounts: BTreeSet::new(),
            action_lists: BTreeSet::new(),
        };
        for (id, object) in &config.objects {
            let is_used = monitors.iter().any(|monitor| monitor.object == *id);
            if is_used || viewer.sees_tags(&object.tags) {
                scope.objects.insert(id.to_string());
            }
        }
        if viewer.sees_all() {
            scope.accounts = config.accounts.keys().map(ToString::to_string).collect();
            scope.action_lists = config.action_lists.keys().map(ToString::to_string).collect();
            return scope;
        }
        for monitor in monitors {
            let smtp = monitor.kind.smtp().and_then(|smtp| smtp.account.as_ref());
            let pickup = monitor.kind.pickup().and_then(|pickup| pickup.endpoint.account);
            scope.accounts.extend(smtp.map(ToString::to_string));
            scope.accounts.extend(pickup.map(|account| account.to_string()));
            scope.action_lists.extend(monitor.action_list.as_ref().map(ToString::to_string));
        }
        scope
    }

    /// Whether the user sees everything.
    pub(crate) fn is_all(&self) -> bool {
        self.tags.is_none()
    }

    /// Returns the names of a kind of entry that the user may refer to.
    pub(crate) fn names(&self, kind: &str) -> &BTreeSet<String> {
        match kind {
            "account" => &self.accounts,
            "action_list" => &self.action_lists,
            _ => &self.objects,
        }
    }

    /// Whether the user may change an object: all of its monitors are the user's.
    pub(crate) fn owns_object(&self, config: &Config, id: &str) -> bool {
        let own = config.monitors.values().filter(|monitor| monitor.object.as_str() == id);
        self.objects.contains(id)
            && own.into_iter().all(|monitor| self.monitors.contains(monitor.id.as_str()))
    }
}
