//! The groups that figures are combined in.

use std::{collections::BTreeMap, sync::Arc};

use mailqos_figures::stats::Subject;
use mailqos_lake_tables::Series;
use serde::{Deserialize, Serialize};

/// The groups to which the samples of monitors belong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::commands) enum Grouping {
    /// Each monitor.
    Monitor,
    /// Each site.
    Site,
    /// All monitors together.
    All,
    /// The named groups of each monitor; other monitors belong to none.
    Named(BTreeMap<String, Vec<String>>),
}

impl Grouping {
    /// Returns the groups to which the samples of a series belong.
    pub(in crate::commands) fn of(&self, series: &Series) -> Vec<Subject> {
        let (site, monitor, kind) = (&series.site, &series.monitor, &series.kind);
        let whose = |site: Option<&Arc<str>>, group: Option<&String>| Subject {
            site: site.cloned(),
            monitor: None,
            group: group.map(|name| name.as_str().into()),
            kind: kind.clone(),
        };
        match self {
            Self::Monitor => {
                vec![Subject { monitor: Some(Arc::clone(monitor)), ..whose(Some(site), None) }]
            }
            Self::Site => vec![whose(Some(site), None)],
            Self::All => vec![whose(None, None)],
            Self::Named(groups) => match groups.get(&**monitor) {
                Some(names) if !names.is_empty() => {
                    names.iter().map(|name| whose(None, Some(name))).collect()
                }
                _ => vec![whose(None, None)],
            },
        }
    }

    /// Returns what is needed of it for some monitors.
    pub(super) fn part(&self, is_inside: impl Fn(&str) -> bool) -> Self {
        match self {
            Self::Named(groups) => {
                let inside = groups.iter().filter(|(monitor, _)| is_inside(monitor));
                Self::Named(inside.map(|(name, groups)| (name.clone(), groups.clone())).collect())
            }
            whole => whole.clone(),
        }
    }
}
