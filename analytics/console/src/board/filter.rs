//! Filters of the overview: they are part of its address, so that a view can be bookmarked and
//! sent.

use std::{cmp::Ordering, collections::BTreeSet, sync::Arc};

use mailqos_model::words;

use super::{Board, Entry, State};
use crate::{access::viewer::Viewer, http::fields::Fields};

/// Monitors on a page.
pub(crate) const PAGE: usize = 100;
/// Longest search, in characters.
const MAX_SEARCH: usize = 200;

words!(
    /// Form of the overview.
    View, "view" {
        /// A tile for each monitor.
        Tiles = "tiles",
        /// A row for each monitor.
        Table = "table",
        /// All monitors, for a large screen.
        Wall = "wall",
    }
);

words!(
    /// Grouping of the overview.
    Group, "group" {
        /// No groups.
        None = "none",
        /// By site.
        Site = "site",
        /// By tag; a monitor with several tags is in several groups.
        Tag = "tag",
        /// By object.
        Object = "object",
    }
);

words!(
    /// Order of the overview.
    Sort, "sort" {
        /// Most urgent first.
        State = "state",
        /// By name.
        Name = "name",
        /// Slowest first.
        RoundTrip = "round-trip",
        /// Lowest availability of the last day first.
        Availability = "availability",
    }
);

/// Filters, grouping and order of the overview.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Words that must all occur in a monitor's names, address or tags.
    pub(crate) search: String,
    /// The same in lower case.
    pub(crate) words: Vec<String>,
    /// Only these states; all if empty.
    pub(crate) states: BTreeSet<State>,
    /// Only this site.
    pub(crate) site: Option<String>,
    /// Only this tag.
    pub(crate) tag: Option<String>,
    /// Only this object.
    pub(crate) object: Option<String>,
    /// Form.
    pub(crate) view: View,
    /// Grouping.
    pub(crate) group: Group,
    /// Order.
    pub(crate) sort: Sort,
    /// Number of the page, from 1.
    pub(crate) page: usize,
}

impl Filter {
    /// Reads the filter of an address. Words that are not known are ignored, because addresses are
    /// typed and shortened by people.
    pub(crate) fn read(fields: &Fields) -> Self {
        let text = |name: &str| {
            fields.get(name).map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let states = fields.all("state").filter_map(|word| word.parse().ok()).collect();
        let search: String = text("q").unwrap_or_default().chars().take(MAX_SEARCH).collect();
        let word = |name: &str| text(name).unwrap_or_default();
        Self {
            words: search.to_lowercase().split_whitespace().map(str::to_owned).collect(),
            search,
            states,
            site: text("site"),
            tag: text("tag"),
            object: text("object"),
            view: word("view").parse().unwrap_or(View::Tiles),
            group: word("group").parse().unwrap_or(Group::None),
            sort: word("sort").parse().unwrap_or(Sort::State),
            page: word("page").parse().unwrap_or(1).max(1),
        }
    }

    /// Returns the query of an address with this filter; empty for the default.
    pub(crate) fn query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let mut add = |name: &str, text: &str, usual: &str| {
            if text != usual {
                query.append_pair(name, text);
            }
        };
        add("q", &self.search, "");
        for state in &self.states {
            add("state", state.as_str(), "");
        }
        for (name, text) in [("site", &self.site), ("tag", &self.tag), ("object", &self.object)] {
            add(name, text.as_deref().unwrap_or_default(), "");
        }
        add("view", self.view.as_str(), View::Tiles.as_str());
        add("group", self.group.as_str(), Group::None.as_str());
        add("sort", self.sort.as_str(), Sort::State.as_str());
        add("page", &self.page.to_string(), "1");
        query.finish()
    }

    /// Returns the link to the overview with a changed filter, on its first page.
    pub(crate) fn link(&self, change: impl FnOnce(&mut Self)) -> String {
        let mut other = Self { page: 1, ..self.clone() };
        change(&mut other);
        match other.query() {
            query if query.is_empty() => "/".to_owned(),
            query => format!("/?{query}"),
        }
    }

    /// Whether a monitor passes, apart from its state.
    pub(crate) fn passes(&self, entry: &Entry) -> bool {
        let is = |wanted: &Option<String>, text: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == text)
        };
        is(&self.site, &entry.site)
            && is(&self.object, &entry.object)
            && self.tag.as_ref().is_none_or(|tag| entry.tags.contains(tag))
            && self.words.iter().all(|word| entry.haystack.contains(word))
    }

    /// Selects and sorts the monitors that a viewer sees.
    pub(crate) fn select(&self, board: &Board, viewer: &Viewer) -> Selected {
        let mut selected = self.gather(board, viewer);
        selected.rows.sort_by(|a, b| self.order(a, b));
        selected
    }

    /// Selects the monitors that a viewer sees, in the order of the board.
    pub(super) fn gather(&self, board: &Board, viewer: &Viewer) -> Selected {
        let mut counts = [0; State::ALL.len()];
        let mut acknowledged = 0;
        let mut rows: Vec<(String, Arc<Entry>)> = Vec::new();
        let mut all = 0;
        for entry in board.entries.iter().filter(|entry| viewer.sees(entry)) {
            all += 1;
            if !self.passes(entry) {
                continue;
            }
            counts[entry.state as usize] += 1;
            acknowledged += usize::from(entry.is_acknowledged());
            if !self.states.is_empty() && !self.states.contains(&entry.state) {
                continue;
            }
            match self.group {
                Group::None => rows.push((String::new(), Arc::clone(entry))),
                Group::Site => rows.push((entry.site.to_string(), Arc::clone(entry))),
                Group::Object => rows.push((entry.object_name.clone(), Arc::clone(entry))),
                Group::Tag if entry.tags.is_empty() => {
                    rows.push((String::new(), Arc::clone(entry)));
                }
                Group::Tag => {
                    let tags = entry.tags.iter();
                    // Of a restricted viewer, only its own tags: others may be names of customers.
                    let shown = tags
                        .filter(|tag| viewer.tags.as_ref().is_none_or(|own| own.contains(*tag)));
                    rows.extend(shown.map(|tag| (tag.clone(), Arc::clone(entry))));
                }
            }
        }
        Selected { all, counts, acknowledged, rows }
    }

    /// Compares two selected monitors by group, order and name.
    pub(super) fn order(
        &self,
        (group, a): &(String, Arc<Entry>),
        (other, b): &(String, Arc<Entry>),
    ) -> Ordering {
        let by_name = || (&a.name, &a.site, &a.id).cmp(&(&b.name, &b.site, &b.id));
        let order = match self.sort {
            Sort::State => a.rank().cmp(&b.rank()),
            Sort::Name => Ordering::Equal,
            Sort::RoundTrip => trip(b).total_cmp(&trip(a)),
            Sort::Availability => share(a).total_cmp(&share(b)),
        };
        group.cmp(other).then(order).then_with(by_name)
    }
}

/// The last round trip; unknown ones come last.
fn trip(entry: &Entry) -> f64 {
    let last = entry.last.as_ref().and_then(|last| last.round_trip);
    last.map_or(-1.0, |trip| trip.0 as f64)
}

/// The availability of the last day; unknown ones come last.
fn share(entry: &Entry) -> f64 {
    if entry.day.tests == 0 { 2.0 } else { f64::from(entry.day.ok) / f64::from(entry.day.tests) }
}

/// Monitors that a filter selects.
#[derive(Debug)]
pub(crate) struct Selected {
    /// Monitors that the viewer sees.
    pub(crate) all: usize,
    /// Monitors that pass the filter, by state, apart from the states it selects.
    pub(crate) counts: [usize; State::ALL.len()],
    /// Acknowledged alarms among them.
    pub(crate) acknowledged: usize,
    /// Groups and monitors.
    pub(crate) rows: Vec<(String, Arc<Entry>)>,
}
