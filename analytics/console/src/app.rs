//! What all requests share.

use std::{
    path::PathBuf,
    sync::{Arc, RwLock},
};

use axum::response::Response;
use hyper::{Method, header};
use mailqos_base::lock::IgnorePoison as _;
use mailqos_config::{Config, ConsoleOptions, SingleSignOn};
use mailqos_report::locale::Locale;

use crate::{
    access::{
        forms::FormSecret,
        sessions::Sessions,
        shared::SharedLinks,
        throttle::Throttle,
        users::{User, Users},
        viewer::Viewer,
    },
    audit::{self, Audit},
    board::{Keeper, shown::Views},
    figures::Figures,
    http::{request::Ask, respond},
    language,
    render::{Pages, RenderError, Values, values},
    reports::jobs::Jobs,
    sign_on::{self, Identity, provider::Provider},
};

/// The configuration, which is replaced when it is reloaded.
pub type SharedConfig = Arc<RwLock<Arc<Config>>>;
/// What all requests share.
pub(crate) type Shared = Arc<App>;

/// The console.
pub(crate) struct App {
    /// The configuration.
    pub(crate) config: SharedConfig,
    /// Options with which the console was started.
    pub(crate) options: ConsoleOptions,
    /// Folder of the console's state.
    pub(crate) folder: PathBuf,
    /// Users.
    pub(crate) users: Users,
    /// Sessions.
    pub(crate) sessions: Sessions,
    /// Revocable links.
    pub(crate) shared: SharedLinks,
    /// Identity provider.
    pub(crate) provider: Option<Provider>,
    /// Failed sign-ins.
    pub(crate) throttle: Throttle,
    /// Secret of forms before the sign-in.
    pub(crate) forms: FormSecret,
    /// Audit log.
    pub(crate) audit: Audit,
    /// Keeper of the board.
    pub(crate) keeper: Keeper,
    /// Views of the overview.
    pub(crate) views: Views,
    /// Figures of monitors.
    pub(crate) figures: Figures,
    /// Reports that users asked for.
    pub(crate) reports: Jobs,
    /// Templates.
    pub(crate) pages: Pages,
}

/// Reasons why a request is not answered as asked.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// There is no such page, or the user must not learn that it exists.
    NotFound,
    /// No one is signed in.
    SignIn,
    /// The request did not come from a page of the console.
    Forged,
    /// The user's role does not allow it.
    Forbidden,
    /// The request is invalid, with the reason in English.
    Invalid(&'static str),
    /// The server is busy, or data can't be read.
    Unavailable(String),
    /// Something failed, with a text for the log.
    Internal(String),
}

/// Answer of a page.
pub(crate) type Answer = Result<Response, Refusal>;

/// Session cookie of connections without TLS.
const COOKIE: &str = "mailqos";
/// Session cookie of connections with TLS; browsers only accept the prefix with `Secure`, without a
/// domain, and with the path `/`.
const SECURE_COOKIE: &str = "__Host-mailqos";

impl App {
    /// Returns the configuration.
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().ignore_poison())
    }

    /// Whether browsers reach the console with TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.options.certificate.is_some()
            || self.options.url.as_ref().is_some_and(|url| url.starts_with("https://"))
    }

    /// Returns the name of the session cookie.
    pub(crate) fn cookie_name(&self) -> &'static str {
        if self.is_tls() { SECURE_COOKIE } else { COOKIE }
    }

    /// Returns the name of the cookie of forms before the sign-in.
    pub(crate) fn form_cookie_name(&self) -> &'static str {
        if self.is_tls() { "__Host-mailqos-form" } else { "mailqos-form" }
    }

    /// Returns a `Set-Cookie` value that browsers also send when another site leads back.
    pub(crate) fn lax_cookie(&self, name: &str, value: &str, max_age: i64) -> String {
        let cookie = self.cookie(name, value, Some(max_age));
        cookie.replacen("SameSite=Strict", "SameSite=Lax", 1)
    }

    /// Returns the address of the console, by the configuration: what a request claims as `Host`
    /// must not decide where a provider leads users.
    pub(crate) fn own_url(&self) -> String {
        self.options.url.clone().unwrap_or_else(|| {
            let scheme = if self.is_tls() { "https" } else { "http" };
            format!("{scheme}://{}", self.options.listen)
        })
    }

    /// Whether a page is shown because the user has signed out.
    pub(crate) fn is_signed_out(&self, ask: &Ask) -> bool {
        self.options.single_sign_on.is_some() && ask.query.get("out").is_some()
    }

    /// Returns the user whom a trusted proxy names.
    pub(crate) fn named_by_proxy(&self, ask: &Ask) -> Option<Identity> {
        match &self.options.single_sign_on {
            Some(SingleSignOn::Proxy(options)) if ask.is_by_proxy => {
                sign_on::named_by_proxy(options, &ask.headers)
            }
            _ => None,
        }
    }

    /// Whether a user can still sign in as before; a proxy must name the user in every request.
    fn is_vouched(&self, ask: &Ask, user: &mut User) -> bool {
        let Some(origin) = &user.origin else { return user.password.is_some() };
        let options = self.options.single_sign_on.as_ref();
        if !sign_on::is_current(options, origin) {
            return false;
        }
        let Some(SingleSignOn::Proxy(proxy)) = options else { return true };
        let identity = self.named_by_proxy(ask).filter(|identity| identity.origin == *origin);
        let rights = identity.and_then(|it| sign_on::rights(&proxy.groups, &it.groups));
        match rights {
            Some(rights) => {
                (user.role, user.tags) = rights;
                true
            }
            None => false,
        }
    }

    /// Whether the API tokens of a user are valid: those of single sign-on end if the user has not
    /// signed in for a while.
    fn has_valid_tokens(&self, user: &User) -> bool {
        let Some(origin) = &user.origin else { return true };
        let since = crate::clock::seconds() - user.signed_in_at.unwrap_or_default();
        sign_on::is_current(self.options.single_sign_on.as_ref(), origin)
            && since < sign_on::MAX_TOKEN_AGE
    }

    /// Returns the name of the cookie of a visitor with a revocable link.
    pub(crate) fn link_cookie_name(&self) -> &'static str {
        if self.is_tls() { "__Host-mailqos-link" } else { "mailqos-link" }
    }

    /// Whether a request may be that of a visitor with a revocable link. Forms before the sign-in
    /// and pages with forms are not: without a referrer, browsers send forms with `Origin: null`.
    pub(crate) fn is_shared(&self, ask: &Ask) -> bool {
        let is_form =
            ["/sign-in", "/welcome/", "/reports"].iter().any(|start| ask.path.starts_with(start));
        let is_visit =
            || ask.cookie(self.link_cookie_name()).is_some() && self.signed_in(ask).is_none();
        ask.path.starts_with("/shared/") || (!is_form && is_visit())
    }

    /// Returns a `Set-Cookie` value; without a lifetime, the cookie ends with the browser.
    pub(crate) fn cookie(&self, name: &str, value: &str, max_age: Option<i64>) -> String {
        let secure = if self.is_tls() { "; Secure" } else { "" };
        let age = max_age.map_or_else(String::new, |age| format!("; Max-Age={age}"));
        format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict{secure}{age}")
    }

    /// Returns the viewer of a request: by its API token, its session, or a revocable link.
    pub(crate) fn viewer(&self, ask: &Ask) -> Option<Viewer> {
        if let Some(value) = ask.header(header::AUTHORIZATION) {
            let (scheme, token) = value.split_once(' ')?;
            if !ask.is_api() || !scheme.eq_ignore_ascii_case("bearer") {
                return None;
            }
            let (name, user, token) = self.users.by_token(token.trim())?;
            if !self.has_valid_tokens(&user) {
                return None;
            }
            let mut viewer = Viewer::new(name, &user, None);
            viewer.role = viewer.role.min(token.role);
            return Some(viewer);
        }
        self.signed_in(ask).or_else(|| {
            let token = ask.cookie(self.link_cookie_name())?;
            let link = self.shared.find(token)?;
            Some(Viewer::of_link(&link, token, self.forms.token(token)))
        })
    }

    /// Returns the user of a request by its session.
    pub(crate) fn signed_in(&self, ask: &Ask) -> Option<Viewer> {
        let session = self.sessions.find(ask.cookie(self.cookie_name())?)?;
        let mut user = self.users.get(&session.user)?;
        let is_current = user.generation == session.generation && self.is_vouched(ask, &mut user);
        is_current.then(|| Viewer::new(session.user, &user, Some(session.csrf)))
    }

    /// Returns the user of a request.
    ///
    /// # Errors
    /// No one is signed in.
    pub(crate) fn require(&self, ask: &Ask) -> Result<Viewer, Refusal> {
        self.viewer(ask).ok_or(Refusal::SignIn)
    }

    /// Returns the user of a request that changes something: its form must carry the session's
    /// token.
    ///
    /// # Errors
    /// No one is signed in, or the form did not come from a page of this session.
    pub(crate) fn require_form(&self, ask: &Ask) -> Result<Viewer, Refusal> {
        let viewer = self.require(ask)?;
        match &viewer.csrf {
            Some(token) if crate::access::forms::equal(token, ask.form.text("csrf")) => Ok(viewer),
            _ => Err(Refusal::Forged),
        }
    }

    /// Returns the user of an API request that changes something. Browsers don't send API tokens
    /// automatically; with a session, the token of its forms is needed in `X-CSRF-Token`.
    ///
    /// # Errors
    /// No one is signed in, or the request did not come from a page of this session.
    pub(crate) fn require_change(&self, ask: &Ask) -> Result<Viewer, Refusal> {
        let viewer = self.require(ask)?;
        let sent = ask.headers.get("x-csrf-token").and_then(|value| value.to_str().ok());
        match &viewer.csrf {
            None => Ok(viewer),
            Some(token) if crate::access::forms::equal(token, sent.unwrap_or_default()) => {
                Ok(viewer)
            }
            Some(_) => Err(Refusal::Forged),
        }
    }

    /// Checks that a request comes from a page of the console, and is for this host.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn check_origin(&self, ask: &Ask) -> Result<(), Refusal> {
        let host = ask.header(header::HOST).unwrap_or_default();
        if !self.is_own_host(host) {
            return Err(Refusal::Invalid(
                "The console is not available under this name; set url in [console].",
            ));
        }
        if matches!(ask.method, Method::GET | Method::HEAD) {
            return Ok(());
        }
        let site = ask.headers.get("sec-fetch-site").and_then(|value| value.to_str().ok());
        if site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
            return Err(Refusal::Forged);
        }
        match ask.header(header::ORIGIN) {
            Some(origin) if !self.is_own_origin(origin, host) => Err(Refusal::Forged),
            _ => Ok(()),
        }
    }

    /// Whether a `Host` names this console. On loopback without `url`, other names would be those
    /// of a DNS rebinding attack.
    fn is_own_host(&self, host: &str) -> bool {
        let name = host.rsplit_once(':').map_or(host, |(name, port)| {
            if port.bytes().all(|b| b.is_ascii_digit()) { name } else { host }
        });
        let is_local = matches!(name, "localhost" | "127.0.0.1" | "[::1]");
        match &self.options.url {
            Some(url) => is_local || url.split_once("://").is_some_and(|(_, own)| own == host),
            None if self.options.listen.ip().is_loopback() => {
                is_local || name.trim_matches(['[', ']']) == self.options.listen.ip().to_string()
            }
            None => true,
        }
    }

    fn is_own_origin(&self, origin: &str, host: &str) -> bool {
        let scheme = if self.is_tls() { "https" } else { "http" };
        origin == format!("{scheme}://{host}") || self.options.url.as_deref() == Some(origin)
    }

    /// Returns the language of a request, with the time zone of the configuration.
    pub(crate) fn locale(&self, ask: &Ask, viewer: Option<&Viewer>) -> Locale {
        let set = viewer.and_then(|viewer| viewer.language.as_deref());
        let accepted = ask.header(header::ACCEPT_LANGUAGE).unwrap_or_default();
        self.locale_in(set.unwrap_or_else(|| language::negotiate(accepted)))
    }

    /// Returns a language with the time zone of the configuration; English if it is not known.
    pub(crate) fn locale_in(&self, tag: &str) -> Locale {
        let zone = self.config().timezone.clone();
        let locale = Locale::new(tag, zone.clone()).or_else(|| Locale::new("en", zone));
        locale.expect("English is built in")
    }

    /// Renders a page in the language of a request.
    ///
    /// # Errors
    /// The template can't be rendered with these values.
    pub(crate) fn page(
        &self,
        name: &str,
        ask: &Ask,
        viewer: Option<&Viewer>,
        found: &Values,
    ) -> Result<String, RenderError> {
        self.pages.page(name, &self.locale(ask, viewer), viewer, found)
    }

    /// Leads the browser to another page by a page of the console, and not by a redirect: after a
    /// click on another site, browsers send `SameSite=Strict` cookies only then.
    ///
    /// # Errors
    /// The template can't be rendered.
    pub(crate) fn onward(&self, ask: &Ask, to: &str) -> Answer {
        let found = values([("refresh", to.into())]);
        Ok(respond::html(200, self.page("onward", ask, None, &found)?))
    }

    /// Appends to the audit log.
    ///
    /// # Errors
    /// The log can't be written; the change must not be made.
    pub(crate) fn audit(
        &self,
        ask: &Ask,
        by: &str,
        (action, subject, detail): (&str, &str, &str),
    ) -> Result<(), Refusal> {
        let entry = audit::Entry {
            number: 0,
            at: jiff::Timestamp::now(),
            by: by.to_owned(),
            from: ask.client.to_string(),
            action: action.to_owned(),
            subject: subject.to_owned(),
            detail: detail.to_owned(),
        };
        self.audit
            .record(entry)
            .map_err(|error| Refusal::Internal(format!("the audit log: {error}")))
    }

    /// Answers a request that is refused.
    pub(crate) fn refuse(&self, ask: &Ask, refusal: &Refusal) -> Response {
        let (status, text) = match refusal {
            Refusal::NotFound => (404, "There is nothing at this address."),
            Refusal::SignIn if ask.is_api() => {
                let mut response =
                    respond::json(401, &Problem { error: "sign in, or send a valid API token" });
                let scheme = header::HeaderValue::from_static("Bearer");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
                return response;
            }
            // The link of a visitor was revoked; the next request leads to the sign-in.
            Refusal::SignIn if self.is_shared(ask) => {
                (403, "This link is not valid: it was revoked, has expired, or is incomplete.")
            }
            // A click on another site sends no cookie, but the page itself does.
            Refusal::SignIn if ask.is_from_elsewhere() => {
                let onward = self.onward(ask, safe(&ask.target));
                return onward.unwrap_or_else(|refusal| self.refuse(ask, &refusal));
            }
            Refusal::SignIn => return respond::redirect(&sign_in_for(ask)),
            Refusal::Forged => (
                403,
                "The form has expired or came from another site. Go back, reload the page, and try again.",
            ),
            Refusal::Forbidden => (403, "Your role does not allow this."),
            Refusal::Invalid(text) => (400, *text),
            Refusal::Unavailable(reason) => {
                tracing::warn!(%reason, "console: not available");
                (503, "This is not available at the moment. Try again in a minute.")
            }
            Refusal::Internal(reason) => {
                tracing::error!(%reason, path = ask.path_for_log(), "console: request failed");
                (500, "This failed; see the program's log for the reason.")
            }
        };
        if ask.is_api() {
            return respond::json(status, &Problem { error: text });
        }
        let viewer = self.viewer(ask);
        let text = language::text(self.locale(ask, viewer.as_ref()).tag(), text);
        let found = values([("text", text.into())]);
        match self.page("problem", ask, viewer.as_ref(), &found) {
            Ok(page) if matches!(refusal, Refusal::SignIn) => {
                let forget = self.cookie(self.link_cookie_name(), "", Some(0));
                respond::set_cookie(respond::html(status, page), &forget)
            }
            Ok(page) => respond::html(status, page),
            Err(error) => {
                tracing::error!(%error, "console: a page can't be rendered");
                respond::plain(500, "Internal error.")
            }
        }
    }
}

/// An error of the API.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub(crate) struct Problem {
    /// Human-readable reason.
    pub(crate) error: &'static str,
}

/// Returns the address of the sign-in page that leads back to a page afterwards.
fn sign_in_for(ask: &Ask) -> String {
    if ask.method != Method::GET || ask.path == "/" {
        return "/sign-in".to_owned();
    }
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("next", safe(&ask.target));
    format!("/sign-in?{}", query.finish())
}

/// Returns a page of the console to lead to; others are replaced by the overview.
pub(crate) fn safe(next: &str) -> &str {
    // `//host`, `/\host` and control characters lead elsewhere in browsers.
    let is_own = next.starts_with('/')
        && !next.starts_with("//")
        && next.chars().all(|c| c.is_ascii_graphic() && c != '\\');
    if is_own { next } else { "/" }
}
