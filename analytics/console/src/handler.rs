//! Runs pages on threads that may block, a limited number at the same time.

use std::sync::Arc;

use axum::{
    extract::State,
    response::Response,
    routing::{MethodRouter, get},
};
use tokio::sync::Semaphore;

use crate::{
    app::{Answer, App, Shared},
    http::{request::Ask, respond},
    pages,
};

/// Requests that are answered at the same time; more wait.
const MAX_RUNNING: usize = 32;

/// Status of answers while the console stops.
const STOPPING: u16 = 503;

/// A page: it may block.
pub(crate) type Page = fn(&App, &Ask) -> Answer;

/// The gate that all pages share.
#[derive(Debug, Clone)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    /// Returns a new gate.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAX_RUNNING)))
    }

    /// Returns the routes of a page that only shows something.
    pub(crate) fn read(&self, page: Page) -> MethodRouter<Shared> {
        get(handler(page, &self.0))
    }

    /// Returns the routes of a page that takes what is sent.
    pub(crate) fn send(&self, page: Page) -> MethodRouter<Shared> {
        axum::routing::post(handler(page, &self.0))
    }

    /// Returns the routes of a page with a form.
    pub(crate) fn form(&self, show: Page, send: Page) -> MethodRouter<Shared> {
        self.read(show).post(handler(send, &self.0))
    }

    /// Returns the handler of a page for every method.
    pub(crate) fn any(&self, page: Page) -> MethodRouter<Shared> {
        axum::routing::any(handler(page, &self.0))
    }

    /// Returns the routes of something that is shown, replaced, changed and removed.
    pub(crate) fn entry(&self, [show, replace, change, remove]: [Page; 4]) -> MethodRouter<Shared> {
        self.read(show)
            .put(handler(replace, &self.0))
            .patch(handler(change, &self.0))
            .delete(handler(remove, &self.0))
    }

    /// Adds the removal to the routes of something.
    pub(crate) fn removable(
        &self,
        routes: MethodRouter<Shared>,
        remove: Page,
    ) -> MethodRouter<Shared> {
        routes.delete(handler(remove, &self.0))
    }
}

/// Runs a page on a thread that may block.
fn handler(
    page: Page,
    gate: &Arc<Semaphore>,
) -> impl Fn(State<Shared>, Ask) -> std::pin::Pin<Box<dyn Future<Output = Response> + Send>>
+ Clone
+ Send
+ Sync
+ 'static {
    let gate = Arc::clone(gate);
    move |State(app): State<Shared>, ask: Ask| {
        let gate = Arc::clone(&gate);
        Box::pin(async move {
            let Ok(permit) = gate.acquire_owned().await else {
                return respond::plain(STOPPING, "The console is stopping.");
            };
            let answered = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                answer(&app, &ask, page)
            });
            answered.await.unwrap_or_else(|error| {
                tracing::error!(%error, "console: a page panicked");
                respond::plain(500, "Internal error.")
            })
        })
    }
}

fn answer(app: &App, ask: &Ask, page: Page) -> Response {
    let answer = app.check_origin(ask).and_then(|()| page(app, ask));
    let response = answer.unwrap_or_else(|refusal| app.refuse(ask, &refusal));
    if app.is_shared(ask) { pages::shared::without_referrer(response) } else { response }
}
