//! The form of the sign-in page, with the ways around it.

use mailqos_config::SingleSignOn;
use serde_json::json;

use super::form_token;
use crate::{
    app::{Answer, App, safe},
    http::{request::Ask, respond},
    render::values,
};

/// Shows the form with a problem.
pub(super) fn form(app: &App, ask: &Ask, (status, problem): (u16, &str)) -> Answer {
    let (token, cookie) = form_token(app, ask)?;
    let next = ask.query.get("next").unwrap_or_else(|| ask.form.text("next"));
    let found = values([
        ("csrf", json!(token)),
        ("problem", json!(problem)),
        ("user", json!(ask.form.text("user"))),
        ("next", json!(safe(next))),
        ("sso", json!(sso(app, next))),
        ("is_out", json!(app.is_signed_out(ask))),
        ("logout", json!(logout_url(app))),
        ("is_new", json!(!app.users.has_administrator())),
    ]);
    let page = app.page("sign-in", ask, None, &found)?;
    let response = respond::html(status, page);
    Ok(match cookie {
        Some(cookie) => respond::set_cookie(response, &cookie),
        None => response,
    })
}

/// Returns the text and the address of the button for single sign-on.
fn sso(app: &App, next: &str) -> Option<serde_json::Value> {
    let provider = app.provider.as_ref()?;
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("next", safe(next));
    let href = format!("/sign-in/oidc?{}", query.finish());
    Some(json!({"title": provider.options.title, "href": href}))
}

/// Returns the address that ends the session at the provider or the proxy.
fn logout_url(app: &App) -> Option<String> {
    match app.options.single_sign_on.as_ref()? {
        SingleSignOn::OpenIdConnect(_) => {
            app.provider.as_ref()?.logout_url(&format!("{}/sign-in?out=1", app.own_url()))
        }
        SingleSignOn::Proxy(options) => options.logout_url.clone(),
    }
}
