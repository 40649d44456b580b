//! Addresses of the console, and what answers them.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    response::Response,
    routing::{MethodRouter, get, post},
};
use tokio::sync::Semaphore;

use crate::{
    api, api_definitions, api_operations, api_reports,
    app::{Answer, App, Refusal, Shared},
    events,
    http::{request::Ask, respond},
    pages,
};

/// Requests that are answered at the same time; more wait.
const MAX_RUNNING: usize = 32;

/// Status of answers while the console stops.
const STOPPING: u16 = 503;

/// A page: it may block.
type Page = fn(&App, &Ask) -> Answer;

/// Returns the router of all pages.
pub(crate) fn router(app: Shared) -> Router {
    let is_tls = app.is_tls();
    let gate = Arc::new(Semaphore::new(MAX_RUNNING));
    let read = |page: Page| -> MethodRouter<Shared> { get(handler(page, &gate)) };
    let form = |show: Page, send: Page| -> MethodRouter<Shared> {
        get(handler(show, &gate)).post(handler(send, &gate))
    };
    let send = |page: Page| -> MethodRouter<Shared> { post(handler(page, &gate)) };
    definitions(&gate)
        .route("/", read(pages::overview::show))
        .route("/monitors/{site}/{id}", read(pages::monitor::show))
        .route("/monitors/{site}/{id}/figures", read(pages::monitor::figures))
        .route("/reports", read(pages::reports::gallery::show))
        .route(
            "/reports/templates/{name}",
            form(pages::reports::choose::show, pages::reports::choose::send),
        )
        .route("/reports/archive", read(pages::reports::archive::show))
        .route("/reports/archive/{slug}/{file}", read(pages::reports::archive::file))
        .route("/reports/definitions", read(pages::reports::definitions::list))
        .route(
            "/reports/definitions/{name}",
            form(pages::reports::definitions::show, pages::reports::definitions::send),
        )
        .route(
            "/reports/new",
            form(pages::reports::definitions::show_new, pages::reports::definitions::send_new),
        )
        .route(
            "/reports/deliveries",
            form(pages::reports::deliveries::show, pages::reports::deliveries::send),
        )
        .route(
            "/reports/targets",
            form(pages::reports::targets::show, pages::reports::targets::send),
        )
        .route("/reports/made/{id}", form(pages::reports::made::show, pages::reports::made::send))
        .route("/reports/made/{id}/view", read(pages::reports::made::view))
        .route("/reports/made/{id}/files/{file}", read(pages::reports::made::file))
        .route("/alarms", form(pages::alarms::show, pages::alarms::send))
        .route("/maintenance", form(pages::maintenance::show, pages::maintenance::send))
        .route("/sign-in", form(pages::sign_in::show, pages::sign_in::send))
        .route("/sign-in/oidc", read(pages::single_sign_on::begin))
        .route("/sign-in/oidc/callback", read(pages::single_sign_on::finish))
        .route("/sign-out", send(pages::sign_in::leave))
        .route("/welcome/{token}", form(pages::welcome::show, pages::welcome::send))
        .route("/account", form(pages::account::show, pages::account::send))
        .route("/users", form(pages::users::show, pages::users::send))
        .route("/audit", read(pages::audit::show))
        .route("/links", form(pages::shared::show, pages::shared::send))
        .route("/shared/{token}", read(pages::shared::open))
        .route("/assets/{name}", read(pages::asset))
        .route("/health", read(pages::health))
        .route("/events", get(events::stream))
        .route("/api/v1/openapi.json", read(api::openapi))
        .route("/api/v1/status", read(api::status))
        .route("/api/v1/monitors", read(api::monitors))
        .route("/api/v1/monitors/{site}/{id}", read(api::monitor))
        .route("/api/v1/monitors/{site}/{id}/figures", read(api::figures))
        .route("/api/v1/alarms", read(api::alarms))
        .route("/api/v1/reports", send(api_reports::start))
        .route(
            "/api/v1/reports/definitions/{name}",
            form(api_definitions::one, api_definitions::save),
        )
        .route("/api/v1/reports/definitions", read(api_definitions::list))
        .route("/api/v1/reports/archive", read(api_definitions::archived))
        .route("/api/v1/reports/archive/{slug}/{file}", read(pages::reports::archive::file))
        .route("/api/v1/reports/deliveries", read(api_definitions::outbox))
        .route("/api/v1/reports/deliveries/{id}/retry", send(api_definitions::retry))
        .route("/api/v1/reports/targets/{name}/try", send(api_definitions::try_target))
        .route("/api/v1/reports/templates", read(api_reports::templates))
        .route("/api/v1/reports/made/{id}", read(api_reports::made))
        .route("/api/v1/reports/made/{id}/cancel", send(api_reports::cancel))
        .route("/api/v1/reports/made/{id}/files/{file}", read(pages::reports::made::file))
        .route("/api/v1/alarms/history", read(api_operations::history))
        .route("/api/v1/alarms/acknowledge", send(api_operations::acknowledge))
        .route("/api/v1/alarms/withdraw", send(api_operations::withdraw))
        .route("/api/v1/maintenance", form(api_operations::windows, api_operations::plan))
        .route("/api/v1/maintenance/declare", send(api_operations::declare))
        .route("/api/v1/maintenance/end", send(api_operations::end))
        .route("/api/v1/maintenance/withdraw", send(api_operations::withdraw_declaration))
        .route("/api/v1/simulations", send(api_operations::simulate))
        .route("/api/v1/simulations/end", send(api_operations::end_simulation))
        .route("/api/v1/action-lists", read(api_operations::lists))
        .route("/api/v1/action-lists/try", send(api_operations::try_list))
        .route("/api/v1/events", get(events::stream))
        .fallback(handler(pages::nothing, &gate))
        .method_not_allowed_fallback(|| async {
            respond::plain(405, "This method is not allowed.")
        })
        .layer(axum::middleware::map_response(move |response: Response| async move {
            respond::secure(response, is_tls)
        }))
        .with_state(app)
}

/// Returns the router of objects, and of the pages that change monitors.
fn definitions(gate: &Arc<Semaphore>) -> Router<Shared> {
    let read = |page: Page| -> MethodRouter<Shared> { get(handler(page, gate)) };
    let send = |page: Page| -> MethodRouter<Shared> { post(handler(page, gate)) };
    let form = |show: Page, send: Page| -> MethodRouter<Shared> {
        get(handler(show, gate)).post(handler(send, gate))
    };
    Router::new()
        .route("/monitors/try", post(pages::definition::try_live))
        .route("/monitors/{site}/{id}/try", send(pages::definition::try_saved))
        .route("/monitors/new", form(pages::definition::new, pages::definition::add))
        .route(
            "/monitors/{site}/{id}/edit",
            form(pages::definition::edit, pages::definition::change),
        )
        .route("/monitors/{site}/{id}/state", send(pages::definition::switch))
        .route(
            "/monitors/{site}/{id}/remove",
            form(pages::definition::confirm, pages::definition::remove),
        )
        .route("/objects", read(pages::objects::list))
        .route("/objects/{object}", form(pages::objects::show, pages::objects::change))
        .route("/objects/{object}/remove", form(pages::objects::confirm, pages::objects::remove))
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

/// Converts an error of rendering.
impl From<crate::render::RenderError> for Refusal {
    fn from(error: crate::render::RenderError) -> Self {
        Self::Internal(error.to_string())
    }
}

impl From<crate::access::NoRandomness> for Refusal {
    fn from(error: crate::access::NoRandomness) -> Self {
        Self::Internal(error.to_string())
    }
}
