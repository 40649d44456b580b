//! What a view of the overview shows. It is selected once for all viewers of the same view, however
//! many there are and however often they ask.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, OnceLock},
};

use mailqos_base::lock::IgnorePoison as _;
use tokio::sync::OnceCell;

use super::{
    Board, Entry, Probe, State,
    filter::{Filter, PAGE, Selected, Sort, View},
};
use crate::access::viewer::Viewer;

/// Monitors on the wall.
const MAX_WALL: usize = 400;
/// Choices of a filter.
const MAX_CHOICES: usize = 500;
/// Views that are kept; others are selected for each request.
const MAX_VIEWS: usize = 256;
/// Messages that are kept.
const MAX_MESSAGES: usize = 1_024;

/// A group and a monitor in it.
type Placed = (String, Arc<Entry>);

/// A page of a view.
#[derive(Debug)]
pub(crate) struct Shown {
    /// Number of the board.
    pub(crate) number: u64,
    /// Monitors that the viewer sees.
    pub(crate) all: usize,
    /// Monitors that pass the filter, by state, apart from the states it selects.
    pub(crate) counts: [usize; State::ALL.len()],
    /// Acknowledged alarms among them.
    pub(crate) acknowledged: usize,
    /// Monitors on all pages.
    pub(crate) matching: usize,
    /// Groups and monitors on this page.
    pub(crate) rows: Vec<Placed>,
    /// Number of the page, the number of pages, and their size.
    pub(crate) paging: (usize, usize, usize),
    /// Sites of the monitors that the viewer sees.
    pub(crate) sites: BTreeSet<String>,
    /// Tags of the monitors that the viewer sees.
    pub(crate) tags: BTreeSet<String>,
    /// Probes, if the viewer sees all monitors.
    probes: Vec<Arc<Probe>>,
    /// Whether the order follows from states and names, which change rarely.
    has_calm_order: bool,
    /// The rendered rows, by language.
    rendered: Mutex<HashMap<&'static str, Arc<str>>>,
}

impl Shown {
    fn new(board: &Board, filter: &Filter, viewer: &Viewer) -> Self {
        let Selected { all, counts, acknowledged, mut rows } = filter.gather(board, viewer);
        let matching = rows.len();
        let size = if filter.view == View::Wall { MAX_WALL } else { PAGE };
        let pages = matching.div_ceil(size).max(1);
        let page = filter.page.min(pages);
        // Only the rows up to the end of this page have to be in order.
        let end = page * size;
        if end < matching {
            rows.select_nth_unstable_by(end, |a, b| filter.order(a, b));
            rows.truncate(end);
        }
        rows.sort_unstable_by(|a, b| filter.order(a, b));
        rows.drain(..(page - 1) * size);
        rows.shrink_to_fit();
        let is_own = |tag: &&String| viewer.tags.as_ref().is_none_or(|own| own.contains(*tag));
        let seen = || board.entries.iter().filter(|entry| viewer.sees(entry));
        Self {
            number: board.number,
            all,
            counts,
            acknowledged,
            matching,
            rows,
            paging: (page, pages, size),
            sites: choices(seen().map(|entry| &*entry.site)),
            tags: choices(
                seen().flat_map(|entry| entry.tags.iter().filter(is_own)).map(|tag| &**tag),
            ),
            probes: if viewer.sees_all() { board.probes.clone() } else { Vec::new() },
            has_calm_order: matches!(filter.sort, Sort::State | Sort::Name),
            rendered: Mutex::default(),
        }
    }

    /// Returns the rows as HTML, rendered once for each language.
    ///
    /// # Errors
    /// Those of `render`.
    pub(crate) fn rendered<E>(
        &self,
        tag: &'static str,
        render: impl FnOnce() -> Result<String, E>,
    ) -> Result<Arc<str>, E> {
        let kept = self.rendered.lock().ignore_poison().get(tag).map(Arc::clone);
        if let Some(kept) = kept {
            return Ok(kept);
        }
        let new: Arc<str> = render()?.into();
        self.rendered.lock().ignore_poison().insert(tag, Arc::clone(&new));
        Ok(new)
    }

    /// Returns the monitors of an earlier page that have changed since then, as they are now. Those
    /// that have been removed are left to [`Shown::needs_reload`].
    pub(crate) fn changed_since(&self, earlier: &Self, board: &Board) -> Vec<Arc<Entry>> {
        let mut changed: Vec<Arc<Entry>> = Vec::new();
        for (_, old) in &earlier.rows {
            let Some(new) = board.get(&old.site, &old.id) else { continue };
            let is_new = !Arc::ptr_eq(old, new) && !old.is_like(new);
            // A monitor with several tags is in several groups.
            if is_new && !changed.iter().any(|other| Arc::ptr_eq(other, new)) {
                changed.push(Arc::clone(new));
            }
        }
        changed
    }

    /// Whether counts, notices, or the monitors on the page differ from an earlier page, so that
    /// browsers must load it again.
    pub(crate) fn needs_reload(&self, earlier: &Self) -> bool {
        let is_same =
            |(a, b): (&Placed, &Placed)| a.0 == b.0 && a.1.id == b.1.id && a.1.site == b.1.site;
        let has_same_rows = self.rows.len() == earlier.rows.len()
            && (!self.has_calm_order || self.rows.iter().zip(&earlier.rows).all(is_same));
        let has_same_probes = self.probes.len() == earlier.probes.len()
            && self.probes.iter().zip(&earlier.probes).all(|(a, b)| a.is_like(b));
        (self.all, self.counts, self.acknowledged, self.matching)
            != (earlier.all, earlier.counts, earlier.acknowledged, earlier.matching)
            || !has_same_rows
            || !has_same_probes
    }
}

/// Returns the values of a filter.
fn choices<'a>(all: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let mut found: BTreeSet<&str> = BTreeSet::new();
    for text in all {
        if found.len() >= MAX_CHOICES {
            break;
        }
        found.insert(text);
    }
    found.into_iter().map(str::to_owned).collect()
}

/// A message about the changes of a view.
#[derive(Debug)]
pub(crate) struct Message {
    /// The view after the changes.
    pub(crate) shown: Arc<Shown>,
    /// Changed monitors as JSON, if there are any.
    pub(crate) monitors: Option<String>,
    /// Whether the page must be loaded again.
    pub(crate) is_reload: bool,
}

/// A message that is computed by the first who wants it.
pub(crate) type MessageCell = Arc<OnceCell<Message>>;

/// The views of the current board.
#[derive(Debug, Default)]
pub(crate) struct Views(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    number: u64,
    shown: HashMap<String, Arc<OnceLock<Arc<Shown>>>>,
    messages: HashMap<(String, &'static str, u64), MessageCell>,
}

impl Kept {
    /// Forgets the views of earlier boards; returns whether those of this board are kept.
    fn turn_to(&mut self, board: &Board) -> bool {
        if board.number > self.number {
            *self = Self { number: board.number, ..Self::default() };
        }
        board.number == self.number
    }
}

/// Returns what viewers of the same view have in common.
fn key(filter: &Filter, viewer: &Viewer) -> String {
    format!("{:?} {}", viewer.tags, filter.query())
}

impl Views {
    /// Returns a view of a board.
    pub(crate) fn shown(&self, board: &Board, filter: &Filter, viewer: &Viewer) -> Arc<Shown> {
        let new = || Arc::new(Shown::new(board, filter, viewer));
        let cell = {
            let mut kept = self.0.lock().ignore_poison();
            let key = key(filter, viewer);
            let has_place = kept.turn_to(board)
                && (kept.shown.len() < MAX_VIEWS || kept.shown.contains_key(&key));
            has_place.then(|| Arc::clone(kept.shown.entry(key).or_default()))
        };
        cell.map_or_else(new, |cell| Arc::clone(cell.get_or_init(new)))
    }

    /// Returns the message from an earlier board to this one, to be computed by the first who needs
    /// it.
    pub(crate) fn message(
        &self,
        board: &Board,
        (filter, viewer, tag): (&Filter, &Viewer, &'static str),
        earlier: u64,
    ) -> MessageCell {
        let mut kept = self.0.lock().ignore_poison();
        if !kept.turn_to(board) || kept.messages.len() >= MAX_MESSAGES {
            return MessageCell::default();
        }
        let key = (key(filter, viewer), tag, earlier);
        Arc::clone(kept.messages.entry(key).or_default())
    }
}

#[cfg(test)]
mod tests {
    use mailqos_config::Config;
    use mailqos_model::UtcMicros;

    use super::*;
    use crate::{
        access::users::Role,
        board::{Reading, day},
        http::fields::Fields,
    };

    const NOW: UtcMicros = UtcMicros(1_780_000_000_000_000);

    fn config() -> Config {
        let text = "site = \"lyon\"\n[object.mx]\naddress = \"mx.example.com\"\n\
            [account.box]\nuser = \"box\"\npassword = { env = \"BOX\" }\n\
            [defaults]\nkind = \"mailbox\"\npickup = { protocol = \"imap\", account = \"box\" }\n\
            [monitor.m000]\nobject = \"mx\"\ntags = [\"acme\"]\n";
        match mailqos_config::of_text("m.toml".as_ref(), text.to_owned()) {
            Ok(config) => config,
            Err(problems) => panic!("{}", problems.render(false)),
        }
    }

    /// A board of 150 monitors; `state` and `round_trip_us` of each by its number.
    fn board(number: u64, of: impl Fn(usize) -> (&'static str, i64)) -> Board {
        let monitors: Vec<String> = (0..150)
            .map(|number| {
                let (state, trip) = of(number);
                format!(
                    r#"{{"id":"m{number:03}","object":"mx","state":"{state}","last":
                    {{"started_at":"2026-05-01T00:00:00Z","outcome":"ok","round_trip_us":{trip}}}}}"#
                )
            })
            .collect();
        let text = format!(
            r#"{{"version":1,"site":"lyon","written_at":"{}","interval_s":15,"probe":{{"running":true}},
            "monitors":[{}]}}"#,
            NOW.timestamp(),
            monitors.join(",")
        );
        let status = serde_json::from_str(&text).expect("a status");
        let readings = [(Arc::from("lyon"), Reading::Status(Arc::new(status)))];
        let board = Board::new(&config(), &readings, &day::Days::default(), NOW);
        Board { number, ..board }
    }

    fn viewer(tags: Option<&str>) -> Viewer {
        Viewer {
            name: "vera".to_owned(),
            display: "Vera".to_owned(),
            role: Role::Viewer,
            tags: tags.map(|tag| BTreeSet::from([tag.to_owned()])),
            language: None,
            look: None,
            csrf: None,
            is_visitor: false,
        }
    }

    fn filter(query: &str) -> Filter {
        Filter::read(&Fields::parse(query.as_bytes()))
    }

    #[test]
    fn a_page_has_the_rows_of_the_whole_selection() {
        let board = board(1, |number| {
            let state = ["ok", "alarm", "ok", "failed"][number % 4];
            (state, (number as i64 * 7_919) % 1_000)
        });
        let viewer = viewer(None);
        for query in ["", "page=2", "sort=name", "sort=round-trip&page=2", "q=m1", "view=wall"] {
            let filter = filter(query);
            let views = Views::default();
            let shown = views.shown(&board, &filter, &viewer);
            let all = filter.select(&board, &viewer).rows;
            let size = if query == "view=wall" { MAX_WALL } else { PAGE };
            let wanted: Vec<_> = all.iter().skip((filter.page - 1) * size).take(size).collect();
            assert_eq!(shown.matching, all.len(), "{query}");
            assert!(shown.rows.iter().eq(wanted), "{query}");
            assert!(Arc::ptr_eq(&shown, &views.shown(&board, &filter, &viewer)), "{query}");
        }
        // The page behind the last one is the last one.
        assert_eq!(Views::default().shown(&board, &filter("page=9"), &viewer).rows.len(), 50);
    }

    #[test]
    fn only_changed_rows_of_the_page_are_sent_and_new_counts_load_it_again() {
        let (views, viewer, filter) = (Views::default(), viewer(None), filter("sort=name"));
        let first = board(1, |_| ("ok", 10));
        let earlier = views.shown(&first, &filter, &viewer);
        let second = board(2, |number| ("ok", if number % 10 == 0 { 20 } else { 10 }));
        let later = views.shown(&second, &filter, &viewer);
        let changed = later.changed_since(&earlier, &second);
        assert_eq!(changed.len(), 10, "of 15, those on the page");
        assert!(!later.needs_reload(&earlier));
        // A state beyond the page changes the counts.
        let third = board(3, |number| (if number == 140 { "alarm" } else { "ok" }, 10));
        let last = views.shown(&third, &filter, &viewer);
        assert!(last.needs_reload(&earlier));
        // The views of an old board are not kept, but are right.
        assert_eq!(views.shown(&first, &filter, &viewer).number, 1);
        assert_eq!(views.shown(&third, &filter, &viewer).number, 3);
    }

    #[test]
    fn viewers_of_other_tags_share_nothing() {
        let (views, filter) = (Views::default(), filter(""));
        let board = board(1, |_| ("ok", 10));
        assert_eq!(views.shown(&board, &filter, &viewer(None)).matching, 150);
        assert_eq!(views.shown(&board, &filter, &viewer(Some("acme"))).matching, 1);
        assert_eq!(views.shown(&board, &filter, &viewer(Some("other"))).all, 0);
        let cell = |tag: &str| views.message(&board, (&filter, &viewer(Some(tag)), "en"), 0);
        assert!(Arc::ptr_eq(&cell("acme"), &cell("acme")));
        assert!(!Arc::ptr_eq(&cell("acme"), &cell("other")));
    }
}
