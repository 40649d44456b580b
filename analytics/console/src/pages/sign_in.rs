//! Signing in and out.

use super::{check_form_token, sign_in_form::form, words};
use crate::{
    access::password,
    app::{Answer, App, Refusal, safe},
    http::{request::Ask, respond},
};

/// Shows the form.
pub(crate) fn show(app: &App, ask: &Ask) -> Answer {
    if app.signed_in(ask).is_some() {
        return Ok(respond::redirect("/"));
    }
    // After signing out, the proxy would immediately sign the user in again.
    if !app.is_signed_out(ask)
        && let Some(answer) = super::single_sign_on::by_proxy(app, ask)
    {
        return answer;
    }
    form(app, ask, (200, ""))
}

/// Signs in.
pub(crate) fn send(app: &App, ask: &Ask) -> Answer {
    check_form_token(app, ask)?;
    let (user, secret) = (ask.form.text("user").trim(), ask.form.text("password"));
    if let Err(wait) = app.throttle.attempt(user, ask.client) {
        tracing::warn!(from = %ask.client, "console: sign-in delayed after failures");
        let locale = app.locale(ask, None);
        let seconds = locale.integer(wait.as_secs() + 1);
        let problem = crate::language::fill(
            locale.tag(),
            "Too many failed attempts. Try again in {0} seconds.",
            &[&seconds],
        );
        return form(app, ask, (429, &problem));
    }
    let found = app.users.get(user);
    let hash = found.as_ref().and_then(|user| user.password.as_deref());
    if !password::verify(secret, hash) {
        tracing::warn!(from = %ask.client, "console: sign-in failed");
        let problem = words(app, ask, None, "User name or password is wrong.");
        return form(app, ask, (401, problem));
    }
    app.throttle.succeeded(user, ask.client);
    app.audit(ask, user, ("signed_in", "", ""))?;
    if let Some(old) = ask.cookie(app.cookie_name()) {
        app.sessions.end(old);
    }
    super::sign_in(app, user, safe(ask.form.text("next")))
}

/// Signs out.
pub(crate) fn leave(app: &App, ask: &Ask) -> Answer {
    match app.require_form(ask) {
        Ok(_) | Err(Refusal::SignIn) => {}
        Err(refusal) => return Err(refusal),
    }
    if let Some(id) = ask.cookie(app.cookie_name()) {
        app.sessions.end(id);
    }
    let cookie = app.cookie(app.cookie_name(), "", Some(0));
    let to = if app.options.single_sign_on.is_some() { "/sign-in?out=1" } else { "/sign-in" };
    Ok(respond::set_cookie(respond::redirect(to), &cookie))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sign_in_leads_to_pages_of_the_console_only() {
        assert_eq!(safe("/monitors/a/b?period=week"), "/monitors/a/b?period=week");
        for next in [
            "",
            "https://example.com/",
            "//example.com",
            "/\\example.com",
            "/a\r\nSet-Cookie: x=y",
            "javascript:alert(1)",
            "/\t/example.com",
        ] {
            assert_eq!(safe(next), "/", "{next:?}");
        }
    }
}
