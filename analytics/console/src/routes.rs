//! Addresses of the console, and what answers them.

use axum::{
    Router,
    response::Response,
    routing::{get, post},
};

use crate::{
    api_routes,
    app::{Refusal, Shared},
    events,
    handler::Gate,
    http::respond,
    pages,
};

/// Returns the router of all pages.
pub(crate) fn router(app: Shared) -> Router {
    let is_tls = app.is_tls();
    let gate = Gate::new();
    definitions(&gate)
        .merge(api_routes::router(&gate))
        .route("/", gate.read(pages::overview::show))
        .route("/monitors/{site}/{id}", gate.read(pages::monitor::show))
        .route("/monitors/{site}/{id}/figures", gate.read(pages::monitor::figures))
        .route("/monitors/{site}/{id}/explain", gate.read(pages::explain::show))
        .route("/reports", gate.read(pages::reports::gallery::show))
        .route(
            "/reports/templates/{name}",
            gate.form(pages::reports::choose::show, pages::reports::choose::send),
        )
        .route("/reports/archive", gate.read(pages::reports::archive::show))
        .route("/reports/archive/{slug}/{file}", gate.read(pages::reports::archive::file))
        .route("/reports/definitions", gate.read(pages::reports::definitions::list))
        .route(
            "/reports/definitions/{name}",
            gate.form(pages::reports::definitions::show, pages::reports::definitions::send),
        )
        .route(
            "/reports/new",
            gate.form(pages::reports::definitions::show_new, pages::reports::definitions::send_new),
        )
        .route(
            "/reports/deliveries",
            gate.form(pages::reports::deliveries::show, pages::reports::deliveries::send),
        )
        .route(
            "/reports/targets",
            gate.form(pages::reports::targets::show, pages::reports::targets::send),
        )
        .route(
            "/reports/made/{id}",
            gate.form(pages::reports::made::show, pages::reports::made::send),
        )
        .route("/reports/made/{id}/view", gate.read(pages::reports::made::view))
        .route("/reports/made/{id}/files/{file}", gate.read(pages::reports::made::file))
        .route("/alarms", gate.form(pages::alarms::show, pages::alarms::send))
        .route("/maintenance", gate.form(pages::maintenance::show, pages::maintenance::send))
        .route("/sign-in", gate.form(pages::sign_in::show, pages::sign_in::send))
        .route("/sign-in/oidc", gate.read(pages::single_sign_on::begin))
        .route("/sign-in/oidc/callback", gate.read(pages::single_sign_on::finish))
        .route("/sign-out", gate.send(pages::sign_in::leave))
        .route("/welcome/{token}", gate.form(pages::welcome::show, pages::welcome::send))
        .route("/account", gate.form(pages::account::show, pages::account::send))
        .route("/users", gate.form(pages::users::show, pages::users::send))
        .route("/audit", gate.read(pages::audit::show))
        .route("/links", gate.form(pages::shared::show, pages::shared::send))
        .route("/shared/{token}", gate.read(pages::shared::open))
        .route("/assets/{name}", gate.read(pages::asset))
        .route("/health", gate.read(pages::health))
        .route("/events", get(events::stream))
        .fallback(gate.any(pages::nothing))
        .method_not_allowed_fallback(|| async {
            respond::plain(405, "This method is not allowed.")
        })
        .layer(axum::middleware::map_response(move |response: Response| async move {
            respond::secure(response, is_tls)
        }))
        .with_state(app)
}

/// Returns the router of objects, and of the pages that change monitors.
fn definitions(gate: &Gate) -> Router<Shared> {
    Router::new()
        .route("/monitors/try", post(pages::definition::try_live))
        .route("/monitors/{site}/{id}/try", gate.send(pages::definition::try_saved))
        .route("/monitors/new", gate.form(pages::definition::new, pages::definition::add))
        .route(
            "/monitors/{site}/{id}/edit",
            gate.form(pages::definition::edit, pages::definition::change),
        )
        .route("/monitors/{site}/{id}/state", gate.send(pages::definition::switch))
        .route(
            "/monitors/{site}/{id}/remove",
            gate.form(pages::definition::confirm, pages::definition::remove),
        )
        .route("/accounts", gate.read(pages::accounts::list))
        .route("/accounts/{name}", gate.send(pages::accounts::change))
        .route("/objects", gate.read(pages::objects::list))
        .route("/objects/{object}", gate.form(pages::objects::show, pages::objects::change))
        .route(
            "/objects/{object}/remove",
            gate.form(pages::objects::confirm, pages::objects::remove),
        )
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
