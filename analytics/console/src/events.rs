//! Live changes by server-sent events (WHATWG HTML, section 9.2): only what has changed, and only
//! what the user sees. Every message checks again that the user is still signed in.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    response::{
        IntoResponse as _, Response,
        sse::{Event, Sse},
    },
};
use futures_util::stream;
use tokio::{
    sync::{Semaphore, broadcast},
    time::Instant,
};

use crate::{
    access::viewer::Viewer,
    app::{Refusal, Shared},
    board::{Changes, Entry, filter::Filter},
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
    let only = ask.query.get("id").zip(ask.query.get("site"));
    if let Some((id, site)) = only {
        let board = app.keeper.board();
        if !board.get(site, id).is_some_and(|entry| viewer.sees(entry)) {
            return app.refuse(&ask, &Refusal::NotFound);
        }
    }
    let Ok(permit) = STREAMS.try_acquire() else {
        return app.refuse(&ask, &Refusal::Unavailable("too many event streams".to_owned()));
    };
    let mut filter = Filter::read(&ask.query);
    filter.states.clear();
    let hello = Event::default().event("hello").retry(RETRY).data("1");
    let follower = Follower {
        only: only.map(|(id, site)| (id.to_owned(), site.to_owned())),
        receiver: app.keeper.subscribe(),
        app,
        ask,
        filter,
        beat: Instant::now() + BEAT,
        pending: VecDeque::from([hello]),
        _permit: permit,
    };
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

/// A reader of changes.
struct Follower {
    app: Shared,
    ask: Ask,
    filter: Filter,
    /// Only this monitor: id and site.
    only: Option<(String, String)>,
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
            match received {
                Err(_) => self.pending.push_back(Event::default().event("beat").data("1")),
                Ok(Err(broadcast::error::RecvError::Closed)) => return None,
                Ok(Err(broadcast::error::RecvError::Lagged(_))) => {
                    self.pending.push_back(Event::default().event("reload").data("1"));
                }
                Ok(Ok(changes)) => self.queue(&changes, &viewer),
            }
        }
    }

    /// Queues messages about changes that the viewer sees.
    fn queue(&mut self, changes: &Changes, viewer: &Viewer) {
        let is_shown = |entry: &&Arc<Entry>| {
            let is_asked =
                |(id, site): &(String, String)| **id == *entry.id && **site == *entry.site;
            viewer.sees(entry)
                && self.filter.passes(entry)
                && self.only.as_ref().is_none_or(is_asked)
        };
        let locale = self.app.locale(&self.ask, Some(viewer));
        let changed: Vec<_> = changes
            .entries
            .iter()
            .filter(is_shown)
            .map(|entry| rows::live(entry, &locale))
            .collect();
        // Notices about probes and the number of monitors are not part of messages.
        let is_new = changes.removed.iter().any(|entry| is_shown(&entry))
            || (!changes.probes.is_empty() && viewer.sees_all());
        if !changed.is_empty()
            && let Ok(text) = serde_json::to_string(&changed)
        {
            self.pending.push_back(Event::default().event("monitors").data(text));
        }
        if is_new {
            self.pending.push_back(Event::default().event("reload").data("1"));
        }
    }
}
