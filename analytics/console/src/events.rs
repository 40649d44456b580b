//! Live changes by server-sent events (WHATWG HTML, section 9.2): only what has changed, and only
//! what the user sees. Every message checks again that the user is still signed in.
//!
//! The messages of an overview are about the monitors on the page, and are composed once for all
//! viewers of the same view. Programs that follow the API get the changes of all monitors.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    response::{
        IntoResponse as _, Response,
        sse::{Event, Sse},
    },
};
use futures_util::stream;
use mailqos_report::locale::Locale;
use tokio::{
    sync::{Semaphore, broadcast},
    time::Instant,
};

use crate::{
    access::viewer::Viewer,
    app::{Refusal, Shared},
    board::{
        Board, Changes, Entry,
        filter::Filter,
        shown::{Message, Shown},
    },
    http::request::Ask,
    pages::rows,
};

/// Streams at the same time.
static STREAMS: Semaphore = Semaphore::const_new(1_000);
/// Longest time between two messages, by which browsers notice a connection that is lost without a
/// message; the sign-in is checked as often.
const BEAT: Duration = Duration::from_secs(15);
/// Time after which browsers connect again if the connection is lost.
const RETRY: Duration = Duration::from_secs(5);

/// What a stream is about.
enum Wanted {
    /// The page of a view, with what it shows at present.
    Page(Filter, Arc<Shown>),
    /// All monitors that pass the filter, whatever their states.
    All(Filter),
    /// A monitor, by id and site.
    One(String, String),
}

/// Streams the changes of the monitors that pass the filter in the query.
pub(crate) async fn stream(State(app): State<Shared>, ask: Ask) -> Response {
    let viewer = match app.check_origin(&ask).and_then(|()| app.require(&ask)) {
        Ok(viewer) => viewer,
        // A redirect would make the browser ask again and again.
        Err(Refusal::SignIn) => {
            return crate::http::respond::plain(401, "Sign in again.");
        }
        Err(refusal) => return app.refuse(&ask, &refusal),
    };
    // Before the view is read: a change in between must not be missed.
    let receiver = app.keeper.subscribe();
    let board = app.keeper.board();
    let wanted = if let Some((id, site)) = ask.query.get("id").zip(ask.query.get("site")) {
        if !board.get(site, id).is_some_and(|entry| viewer.sees(entry)) {
            return app.refuse(&ask, &Refusal::NotFound);
        }
        Wanted::One(id.to_owned(), site.to_owned())
    } else {
        let filter = Filter::read(&ask.query);
        match ask.is_api() {
            true => Wanted::All(filter),
            false => match page(&app, &board, filter, viewer).await {
                Ok(page) => page,
                Err(refusal) => return app.refuse(&ask, &refusal),
            },
        }
    };
    let Ok(permit) = STREAMS.try_acquire() else {
        return app.refuse(&ask, &Refusal::Unavailable("too many event streams".to_owned()));
    };
    let mut pending = VecDeque::from([Event::default().event("hello").retry(RETRY).data("1")]);
    // The page may be older than the board.
    let is_old = |since: &str| since.parse::<u64>().is_ok_and(|number| number < board.number);
    if ask.query.get("since").is_some_and(is_old) {
        pending.push_back(reload());
    }
    let beat = Instant::now() + BEAT;
    let follower = Follower { wanted, receiver, app, ask, beat, pending, _permit: permit };
    let messages = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok::<_, Infallible>(event), follower))
    });
    let mut response = Sse::new(messages).into_response();
    // Reverse proxies must not collect messages.
    let no = hyper::header::HeaderValue::from_static("no");
    response.headers_mut().insert("x-accel-buffering", no);
    response
}

/// Returns the page of a view, as it is now.
async fn page(
    app: &Shared,
    board: &Arc<Board>,
    filter: Filter,
    viewer: Viewer,
) -> Result<Wanted, Refusal> {
    let (app, board) = (Arc::clone(app), Arc::clone(board));
    let work = tokio::task::spawn_blocking(move || {
        let shown = app.views.shown(&board, &filter, &viewer);
        Wanted::Page(filter, shown)
    });
    work.await.map_err(|error| Refusal::Internal(error.to_string()))
}

/// Asks the browser to load the page again.
fn reload() -> Event {
    Event::default().event("reload").data("1")
}

/// A reader of changes.
struct Follower {
    app: Shared,
    ask: Ask,
    wanted: Wanted,
    receiver: broadcast::Receiver<Arc<Changes>>,
    /// Time of the next sign of life.
    beat: Instant,
    /// Messages to send before anything else.
    pending: VecDeque<Event>,
    _permit: tokio::sync::SemaphorePermit<'static>,
}

impl Follower {
    /// Returns the next message; `None` ends the stream.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                self.beat = Instant::now() + BEAT;
                return Some(event);
            }
            let received = tokio::time::timeout_at(self.beat, self.receiver.recv()).await;
            // The user may have been removed, restricted or signed out in the meantime.
            let viewer = self.app.viewer(&self.ask)?;
            let changes = match received {
                Err(_) => {
                    self.pending.push_back(Event::default().event("beat").data("1"));
                    continue;
                }
                Ok(Err(broadcast::error::RecvError::Closed)) => return None,
                Ok(Err(broadcast::error::RecvError::Lagged(_))) => {
                    self.pending.push_back(reload());
                    continue;
                }
                Ok(Ok(changes)) => changes,
            };
            let locale = self.app.locale(&self.ask, Some(&viewer));
            match &mut self.wanted {
                Wanted::Page(filter, shown) => {
                    let next = follow(&self.app, (filter, shown), viewer, &locale).await;
                    self.pending.extend(next.events);
                    *shown = next.shown;
                }
                Wanted::All(filter) => {
                    let filter = filter.clone();
                    let work = tokio::task::spawn_blocking(move || {
                        all(&changes, (&filter, &viewer), &locale)
                    });
                    self.pending.extend(work.await.unwrap_or_default());
                }
                Wanted::One(id, site) => {
                    let is_it = |entry: &&Arc<Entry>| {
                        *entry.id == **id && *entry.site == **site && viewer.sees(entry)
                    };
                    let found = changes.entries.iter().find(is_it);
                    let text = found.and_then(|entry| json(&[rows::live(entry, &locale)]));
                    self.pending.extend(text.map(monitors));
                    let is_gone = changes.removed.iter().any(|entry| is_it(&entry));
                    let has_notice = !changes.probes.is_empty() && viewer.sees_all();
                    self.pending.extend((is_gone || has_notice).then(reload));
                }
            }
        }
    }
}

fn json(changed: &[rows::Live]) -> Option<String> {
    serde_json::to_string(changed).ok()
}

fn monitors(text: impl AsRef<str>) -> Event {
    Event::default().event("monitors").data(text)
}

/// The messages to a browser, and what its page shows then.
struct Next {
    events: Vec<Event>,
    shown: Arc<Shown>,
}

/// Composes the messages about the page of a view, or takes them from another viewer of it.
async fn follow(
    app: &Shared,
    (filter, shown): (&Filter, &Arc<Shown>),
    viewer: Viewer,
    locale: &Locale,
) -> Next {
    let board = app.keeper.board();
    let same = Next { events: Vec::new(), shown: Arc::clone(shown) };
    if board.number == shown.number {
        return same;
    }
    let cell = app.views.message(&board, (filter, &viewer, locale.tag()), shown.number);
    let (app, filter, earlier) = (Arc::clone(app), filter.clone(), Arc::clone(shown));
    let locale = locale.clone();
    let compose = || async move {
        let work = tokio::task::spawn_blocking(move || {
            let shown = app.views.shown(&board, &filter, &viewer);
            let changed = shown.changed_since(&earlier, &board);
            let changed = changed.iter().filter(|entry| viewer.sees(entry));
            let lines: Vec<_> = changed.map(|entry| rows::live(entry, &locale)).collect();
            let monitors = if lines.is_empty() { None } else { json(&lines) };
            Message { is_reload: shown.needs_reload(&earlier), monitors, shown }
        });
        work.await
    };
    match cell.get_or_try_init(compose).await {
        Ok(message) => Next {
            events: message
                .monitors
                .iter()
                .map(monitors)
                .chain(message.is_reload.then(reload))
                .collect(),
            shown: Arc::clone(&message.shown),
        },
        Err(error) => {
            tracing::error!(%error, "console: changes can't be composed");
            same
        }
    }
}

/// Composes the messages about all monitors that a viewer sees and that pass its filter.
fn all(changes: &Changes, (filter, viewer): (&Filter, &Viewer), locale: &Locale) -> Vec<Event> {
    let is_shown = |entry: &Entry| viewer.sees(entry) && filter.passes(entry);
    let lines = changes.lines(locale.tag(), |entry| {
        serde_json::to_string(&rows::live(entry, locale)).unwrap_or_default()
    });
    let own = changes.entries.iter().zip(&*lines).filter(|(entry, _)| is_shown(entry));
    let own: Vec<&str> =
        own.map(|(_, line)| line.as_str()).filter(|line| !line.is_empty()).collect();
    let mut events = Vec::new();
    if !own.is_empty() {
        events.push(monitors(format!("[{}]", own.join(","))));
    }
    // Notices about probes and the number of monitors are not part of messages.
    let is_gone = changes.removed.iter().any(|entry| is_shown(entry));
    if is_gone || (!changes.probes.is_empty() && viewer.sees_all()) {
        events.push(reload());
    }
    events
}
