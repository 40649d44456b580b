//! Sign-in at an identity provider, and by a trusted proxy.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{sign_in_form::form, words};
use crate::{
    access::{forms::equal, users::User},
    app::{Answer, App, Refusal, safe},
    http::{request::Ask, respond},
    sign_on::{
        self, Denied, Identity, MAX_SESSION,
        provider::{Attempt, MAX_ATTEMPT, Provider},
    },
};

/// Path to which the provider leads the browser back.
const CALLBACK: &str = "/sign-in/oidc/callback";
/// Characters of the state in the name of a cookie: several tabs may sign in at the same time.
const STATE_IN_NAME: usize = 12;

fn provider(app: &App) -> Result<&Provider, Refusal> {
    app.provider.as_ref().ok_or(Refusal::NotFound)
}

/// Runs a conversation with the provider. Pages run on threads that may block.
fn wait_for<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Handle::current().block_on(work)
}

fn redirect_uri(app: &App) -> String {
    format!("{}{CALLBACK}", app.own_url())
}

fn cookie_name(app: &App, state: &str) -> Option<String> {
    Some(format!("{}-{}", app.form_cookie_name(), state.get(..STATE_IN_NAME)?))
}

/// Leads to the provider.
pub(crate) fn begin(app: &App, ask: &Ask) -> Answer {
    let provider = provider(app)?;
    let attempt = Attempt::new(safe(ask.query.text("next")))?;
    let url = match wait_for(provider.begin(&attempt, &redirect_uri(app))) {
        Ok(url) => url,
        Err(error) => {
            tracing::warn!(%error, "console: single sign-on failed");
            return failed(app, ask);
        }
    };
    let text =
        serde_json::to_vec(&attempt).map_err(|error| Refusal::Internal(error.to_string()))?;
    let payload = URL_SAFE_NO_PAD.encode(text);
    let value = format!("{payload}.{}", app.forms.seal(&payload));
    let name = cookie_name(app, &attempt.state).ok_or(Refusal::NotFound)?;
    // `Lax`: the provider leads back from another site.
    let cookie = app.lax_cookie(&name, &value, MAX_ATTEMPT);
    Ok(respond::set_cookie(respond::redirect(&url), &cookie))
}

/// Returns the sign-in that this browser has started with a state.
fn attempt(app: &App, ask: &Ask) -> Option<Attempt> {
    let state = ask.query.text("state");
    let value = ask.cookie(&cookie_name(app, state)?)?;
    let (payload, seal) = value.split_once('.')?;
    if !equal(&app.forms.seal(payload), seal) {
        return None;
    }
    let attempt: Attempt = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    let is_valid = equal(&attempt.state, state) && crate::clock::seconds() < attempt.until;
    is_valid.then_some(attempt)
}

fn failed(app: &App, ask: &Ask) -> Answer {
    let problem = words(
        app,
        ask,
        None,
        "The identity provider did not confirm the sign-in. Try again, or see the program's log for the reason.",
    );
    form(app, ask, (403, problem))
}

/// Signs in the user whom the provider has led back.
pub(crate) fn finish(app: &App, ask: &Ask) -> Answer {
    let provider = provider(app)?;
    let Some(attempt) = attempt(app, ask) else {
        let text = "The sign-in has expired or was started in another browser. Try again.";
        return form(app, ask, (403, words(app, ask, None, text)));
    };
    let name = cookie_name(app, &attempt.state).ok_or(Refusal::NotFound)?;
    let forget = app.lax_cookie(&name, "", 0);
    let code = ask.query.text("code");
    if ask.query.get("error").is_some() || code.is_empty() {
        let is_code = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
        let error: String = ask.query.text("error").chars().filter(is_code).take(60).collect();
        tracing::warn!(%error, "console: the identity provider refused a sign-in");
        return failed(app, ask).map(|response| respond::set_cookie(response, &forget));
    }
    let redirect = redirect_uri(app);
    let conversation = provider.finish(&attempt, (code, ask.query.get("iss")), &redirect);
    let answer = match wait_for(conversation) {
        Ok(identity) => admit(app, ask, &identity, &attempt.next),
        Err(error) => {
            tracing::warn!(%error, from = %ask.client, "console: single sign-on failed");
            failed(app, ask)
        }
    };
    answer.map(|response| respond::set_cookie(response, &forget))
}

/// Signs in the user whom a trusted proxy names; `None` if there is none.
pub(crate) fn by_proxy(app: &App, ask: &Ask) -> Option<Answer> {
    let identity = app.named_by_proxy(ask)?;
    Some(admit(app, ask, &identity, safe(ask.query.text("next"))))
}

fn admit(app: &App, ask: &Ask, identity: &Identity, next: &str) -> Answer {
    let groups = app.options.single_sign_on.as_ref().map(sign_on::groups_of).unwrap_or_default();
    let name = match sign_on::admit(&app.users, identity, groups) {
        Ok(name) => name,
        Err(Denied::Users(error)) => return Err(Refusal::Internal(error.to_string())),
        Err(denied) => {
            tracing::warn!(reason = %denied, from = %ask.client, "console: single sign-on denied");
            let text = "Your account has no access to this console. Ask an administrator.";
            return form(app, ask, (403, words(app, ask, None, text)));
        }
    };
    app.audit(ask, &name, ("signed_in", "", "single sign-on"))?;
    if let Some(old) = ask.cookie(app.cookie_name()) {
        app.sessions.end(old);
    }
    let generation = app.users.get(&name).map(|user: User| user.generation);
    let generation = generation.ok_or(Refusal::SignIn)?;
    let id = app.sessions.start_for(&name, generation, MAX_SESSION)?;
    let cookie = app.cookie(app.cookie_name(), &id, Some(MAX_SESSION));
    Ok(respond::set_cookie(app.onward(ask, next)?, &cookie))
}
