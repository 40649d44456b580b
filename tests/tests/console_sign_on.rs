//! Single sign-on of the web console: against a strict identity provider that forges tokens on
//! demand, and by header fields of a trusted proxy.

#![cfg(unix)]
#![allow(clippy::expect_used, missing_docs)]

use mailqos_tests::{
    console::{Answer, Client, PASSWORD, Scene, Server},
    servers::oidc::{CLIENT, CLIENT_SECRET, Forgery, OidcServer},
    setting::{complaint_of, find_bytes},
};
use serde_json::{Value, json};

/// A console that uses this provider.
fn console(provider: &OidcServer, more: &str) -> (Scene, Server) {
    let mut scene = Scene::new(24, 1);
    scene.setting.add(&format!(
        "[console.oidc]\nissuer = \"{}\"\nclient_id = \"{CLIENT}\"\ntitle = \"Sign in at ACME\"\n\
         client_secret = {{ env = \"OIDC_SECRET\" }}\n{more}\ngroups = [\n\
         {{ group = \"acme staff\", role = \"operator\", tags = [\"acme\"] }},\n\
         {{ group = \"admins\", role = \"administrator\" }},\n]\n",
        provider.issuer()
    ));
    scene.setting.write();
    let log = scene.setting.path("console.log");
    let mut command = scene.setting.command("mailqos-analytics");
    command.args(["serve", "--listen", "127.0.0.1:0", "--no-schedule"]);
    let server = Server::start(command.env("OIDC_SECRET", CLIENT_SECRET), &log);
    provider.allow(&format!("http://{}/sign-in/oidc/callback", server.address));
    (scene, server)
}

fn person(sub: &str, name: &str, groups: Value) -> Value {
    json!({"sub": sub, "preferred_username": name, "groups": groups})
}

/// Path and query of an address.
fn path_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.find('/').map_or("/", |at| &rest[at..]).to_owned()
}

/// Goes to the provider; returns the path to which it leads back.
fn visit(client: &mut Client, provider: &OidcServer, next: &str) -> String {
    let answer = client.get(&format!("/sign-in/oidc?next={next}"));
    assert_eq!(answer.status, 303, "{}", answer.body);
    let there = answer.header("location").to_owned();
    assert!(there.starts_with(provider.issuer()), "{there}");
    let mut browser =
        Client { address: provider.address(), cookies: Default::default(), headers: Vec::new() };
    let answer = browser.get(&path_of(&there));
    assert_eq!(answer.status, 302, "{}", answer.body);
    path_of(answer.header("location"))
}

fn sign_in(client: &mut Client, provider: &OidcServer) -> Answer {
    let back = visit(client, provider, "/");
    client.get(&back)
}

#[test]
fn a_provider_signs_users_in_with_the_rights_of_their_groups() {
    let provider = OidcServer::start();
    let (scene, server) = console(&provider, "");
    let mut admin = server.administrator();
    let mut vera = server.client();
    let page = vera.get("/sign-in?next=/monitors/lyon/m00000").body;
    assert!(page.contains("Sign in at ACME"), "{page}");
    provider.set_person(person("1", "vera", json!(["other", "acme staff"])), json!({}));
    let back = visit(&mut vera, &provider, "/monitors/lyon/m00000%3Fperiod%3Dweek");
    let answer = vera.get(&back);
    assert_eq!(answer.status, 200, "{}", answer.body);
    // The page opens the next one: after a redirect, browsers would not send the strict cookie.
    assert!(answer.body.contains("m00000?period=week"), "{}", answer.body);
    assert_eq!(vera.get("/").keys().len(), 8, "only those of acme");
    assert_eq!(vera.get("/users").status, 404);
    assert!(!vera.cookies.keys().any(|name| name.contains("form-")), "{:?}", vera.cookies);
    // The code and the state are used up.
    assert_eq!(vera.get(&back).status, 403);
    assert_eq!(server.client().get(&back).status, 403, "another browser");
    // A single group as a text (Authelia, Cognito), and rights that have changed.
    provider.set_person(person("1", "vera", json!("admins")), json!({}));
    assert_eq!(sign_in(&mut vera, &provider).status, 200);
    assert_eq!(vera.get("/").keys().len(), 24);
    assert!(vera.get("/users").body.contains("single sign-on"));
    // Lost groups end everything; groups may be anything (oauth2-proxy/oauth2-proxy#838).
    provider.set_person(person("1", "vera", json!([{"groupId": "admins"}, 7])), json!({}));
    let answer = sign_in(&mut server.client(), &provider);
    assert_eq!(answer.status, 403);
    assert!(answer.body.contains("no access"), "{}", answer.body);
    assert_eq!(vera.get("/").status, 303);
    assert!(server.log().contains("is in none of the groups"), "{}", server.log());
    // Passwords still work for local users, and none works for others.
    assert_eq!(server.client().sign_in("admin", PASSWORD).status, 303);
    assert_eq!(server.client().sign_in("vera", "").status, 401);
    assert_eq!(admin.get("/").status, 200);
    let state = scene.setting.data().join("state");
    assert_eq!(find_bytes(&state, CLIENT_SECRET.as_bytes()), None);
    assert!(!server.log().contains(CLIENT_SECRET));
}

#[test]
fn forged_tokens_sign_no_one_in() {
    let provider = OidcServer::start();
    let (_scene, server) = console(&provider, "");
    provider.set_person(person("1", "vera", json!(["admins"])), json!({}));
    for forgery in [
        Forgery::Nonce,
        Forgery::Issuer,
        Forgery::Audience,
        Forgery::Expired,
        Forgery::None,
        Forgery::Hmac,
        Forgery::ForeignKey,
        Forgery::Unsigned,
        Forgery::MixUp,
    ] {
        provider.forge(Some(forgery));
        let mut client = server.client();
        let answer = sign_in(&mut client, &provider);
        assert_eq!(answer.status, 403, "{forgery:?}: {}", answer.body);
        assert_eq!(client.get("/").status, 303, "{forgery:?}");
    }
    provider.forge(None);
    // A sign-in that was begun elsewhere, as in login CSRF and session fixation.
    let mut attacker = server.client();
    let back = visit(&mut attacker, &provider, "/");
    let mut victim = server.client();
    let _ = visit(&mut victim, &provider, "/");
    assert_eq!(victim.get(&back).status, 403);
    assert_eq!(victim.get("/").status, 303);
    // Without a state, without a code, or with an error.
    for query in ["", "?state=x", "?code=x", "?error=access_denied&state=%3Cscript%3E"] {
        let answer = victim.get(&format!("/sign-in/oidc/callback{query}"));
        assert_eq!(answer.status, 403, "{query}");
        assert!(!answer.body.contains("<script>"), "{query}");
    }
    // The session is new, whatever the browser had before.
    let planted = "A".repeat(43);
    victim.cookies.insert("mailqos".to_owned(), planted.clone());
    assert_eq!(sign_in(&mut victim, &provider).status, 200);
    assert_ne!(victim.cookies["mailqos"], planted);
    // The provider leads to pages of the console only (linagora/openrag#483).
    for next in ["https://evil.example", "//evil.example", "/%5Cevil.example", "/%09/evil.example"]
    {
        let mut other = server.client();
        let back = visit(&mut other, &provider, next);
        let answer = other.get(&back);
        assert_eq!(answer.status, 200, "{next}");
        assert!(!answer.body.contains("evil.example"), "{next}: {}", answer.body);
    }
}

#[test]
fn keys_that_the_provider_has_changed_are_read_again() {
    let provider = OidcServer::start();
    let (_scene, server) = console(&provider, "");
    provider.set_person(person("1", "vera", json!(["admins"])), json!({}));
    assert_eq!(sign_in(&mut server.client(), &provider).status, 200);
    provider.rotate_keys();
    assert_eq!(sign_in(&mut server.client(), &provider).status, 200, "now with ES256");
    let discoveries =
        provider.requests().iter().filter(|path| path.contains(".well-known")).count();
    assert_eq!(discoveries, 1, "the rest is remembered");
}

#[test]
fn several_tabs_sign_in_at_the_same_time() {
    // oauth2-proxy/oauth2-proxy#611, #817 and #3258: the second tab overwrote the cookie of the
    // first, or the first removed that of the second.
    let provider = OidcServer::start();
    let (_scene, server) = console(&provider, "");
    provider.set_person(person("1", "vera", json!(["admins"])), json!({}));
    let mut vera = server.client();
    let tabs: Vec<String> = (0..3).map(|_| visit(&mut vera, &provider, "/users")).collect();
    for back in tabs {
        let answer = vera.get(&back);
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(vera.get("/users").status, 200);
    }
}

#[test]
fn an_issuer_with_a_slash_at_its_end_keeps_it() {
    // modelcontextprotocol/php-sdk#507, coreos/go-oidc#203: only the address of the document has no
    // slash.
    let provider = OidcServer::start_as("/");
    let (_scene, server) = console(&provider, "");
    provider.set_person(person("1", "vera", json!(["admins"])), json!({}));
    assert_eq!(sign_in(&mut server.client(), &provider).status, 200);
    let (mut scene, server) = console(&provider, "");
    drop(server);
    scene.setting.replace(provider.issuer(), provider.issuer().trim_end_matches('/'));
    scene.setting.write();
    let server = scene.serve();
    assert_eq!(server.client().get("/sign-in/oidc").status, 403);
    assert!(server.log().contains("set issuer to exactly this"), "{}", server.log());
}

#[test]
fn claims_at_the_user_information_endpoint_count_for_the_same_subject_only() {
    let provider = OidcServer::start();
    let (_scene, server) = console(&provider, "");
    let info = json!({"preferred_username": "vera", "groups": ["admins"]});
    provider.set_person(json!({"sub": "1"}), info.clone());
    provider.forge(Some(Forgery::OtherSubject));
    assert_eq!(sign_in(&mut server.client(), &provider).status, 403);
    provider.forge(None);
    let mut vera = server.client();
    assert_eq!(sign_in(&mut vera, &provider).status, 200);
    assert_eq!(vera.get("/").keys().len(), 24);
    // What the token says is not replaced.
    provider.set_person(
        json!({"sub": "2", "groups": []}),
        json!({"preferred_username": "eve", "groups": ["admins"]}),
    );
    assert_eq!(sign_in(&mut server.client(), &provider).status, 403);
}

#[test]
fn no_local_user_is_taken_over_and_unverified_addresses_are_not_names() {
    let provider = OidcServer::start();
    let (_scene, server) = console(&provider, "name_claim = \"email\"");
    let mut admin = server.administrator();
    let _ = server.user(&mut admin, "vera@example.com", "viewer", "acme");
    let with = |email: &str, verified: Value| json!({"sub": "1", "email": email, "email_verified": verified, "groups": ["admins"]});
    for (claims, status) in [
        (with("vera@example.com", json!(true)), 403),
        (with("Vera@Example.com", json!(true)), 403),
        (with("eve@example.com", json!(false)), 403),
        (with("eve@example.com", Value::Null), 403),
        (with("eve@example.com", json!("true")), 200),
    ] {
        provider.set_person(claims.clone(), json!({}));
        let answer = sign_in(&mut server.client(), &provider);
        assert_eq!(answer.status, status, "{claims}: {}", answer.body);
    }
}

#[test]
fn signing_out_ends_the_session_and_offers_that_of_the_provider() {
    let provider = OidcServer::start();
    let (_scene, server) = console(&provider, "");
    provider.set_person(person("1", "vera", json!(["admins"])), json!({}));
    let mut vera = server.client();
    assert_eq!(sign_in(&mut vera, &provider).status, 200);
    let session = vera.cookies["mailqos"].clone();
    let answer = vera.send_form("/account", "/sign-out", &[]);
    assert_eq!((answer.status, answer.header("location")), (303, "/sign-in?out=1"));
    let page = vera.get("/sign-in?out=1").body;
    assert!(page.contains("/logout?client_id="), "{page}");
    vera.cookies.insert("mailqos".to_owned(), session);
    assert_eq!(vera.get("/").status, 303);
}

#[test]
fn a_provider_that_does_not_answer_holds_up_only_its_own_sign_in() {
    let provider = OidcServer::start();
    let (_scene, server) = console(&provider, "");
    let mut admin = server.administrator();
    drop(provider);
    let answer = server.client().get("/sign-in/oidc");
    assert_eq!(answer.status, 403, "{}", answer.body);
    assert!(answer.body.contains("did not confirm"), "{}", answer.body);
    assert_eq!(admin.get("/").status, 200);
}

/// A console behind a proxy that names users.
fn behind_proxy(trusted: &str) -> (Scene, Server) {
    let mut scene = Scene::new(24, 1);
    scene.setting.add(&format!(
        "[console]\ntrusted_proxies = [\"{trusted}\"]\n[console.proxy_auth]\n\
         user_header = \"Remote-User\"\ngroups_header = \"Remote-Groups\"\n\
         logout_url = \"https://auth.example.com/logout\"\ngroups = [\n\
         {{ group = \"acme staff\", tags = [\"acme\"] }},\n\
         {{ group = \"admins\", role = \"administrator\" }},\n]\n"
    ));
    scene.setting.write();
    let server = scene.serve();
    (scene, server)
}

fn with(client: &mut Client, fields: &[(&str, &str)]) {
    client.headers =
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
}

#[test]
fn a_trusted_proxy_names_the_user_of_every_request() {
    let (_scene, server) = behind_proxy("127.0.0.1");
    let mut vera = server.client();
    with(&mut vera, &[("remote-user", "vera"), ("REMOTE-GROUPS", "x, acme staff")]);
    let answer = vera.get("/");
    assert!(answer.header("location").starts_with("/sign-in"), "{answer:?}");
    let answer = vera.get("/sign-in?next=/");
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("http-equiv=\"refresh\""), "{}", answer.body);
    assert_eq!(vera.get("/").keys().len(), 8);
    // Groups of each request count: nobody keeps rights that the proxy has taken away.
    with(&mut vera, &[("Remote-User", "vera"), ("Remote-Groups", "admins")]);
    assert_eq!(vera.get("/").keys().len(), 24);
    with(&mut vera, &[("Remote-User", "vera"), ("Remote-Groups", "")]);
    assert_eq!(vera.get("/api/v1/monitors").status, 401);
    // A session is worth nothing without the field, with that of another user, or with two.
    for fields in [
        &[][..],
        &[("Remote-User", "eve"), ("Remote-Groups", "admins")],
        &[("Remote-User", "Vera"), ("Remote-Groups", "admins")],
        &[("Remote-User", "vera"), ("Remote-User", "eve"), ("Remote-Groups", "admins")],
        &[("Remote-User", "vera"), ("Remote-Groups", "admins"), ("remote-groups", "x")],
        &[("Remote_User", "vera"), ("Remote_Groups", "admins")],
    ] {
        with(&mut vera, fields);
        assert_eq!(vera.get("/api/v1/monitors").status, 401, "{fields:?}");
    }
    // Without a group there is no access; after signing out, no one is signed in again at once.
    let mut eve = server.client();
    with(&mut eve, &[("Remote-User", "eve"), ("Remote-Groups", "nothing")]);
    assert_eq!(eve.get("/sign-in").status, 403);
    with(&mut vera, &[("Remote-User", "vera"), ("Remote-Groups", "admins")]);
    assert_eq!(vera.send_form("/account", "/sign-out", &[]).status, 303);
    let page = vera.get("/sign-in?out=1").body;
    assert!(page.contains("https://auth.example.com/logout"), "{page}");
    assert_eq!(vera.get("/").status, 303);
}

#[test]
fn header_fields_of_clients_name_no_one() {
    // The proxy is on another machine; this client is not it, whatever it claims.
    let (_scene, server) = behind_proxy("192.0.2.9");
    let mut eve = server.client();
    let fields = [
        ("Remote-User", "admin"),
        ("Remote-Groups", "admins"),
        ("X-Forwarded-For", "192.0.2.9"),
        ("X-Real-IP", "192.0.2.9"),
        ("Forwarded", "for=192.0.2.9"),
    ];
    with(&mut eve, &fields);
    let answer = eve.get("/sign-in");
    assert!(answer.body.contains("name=\"password\""), "{}", answer.body);
    assert_eq!(eve.get("/api/v1/monitors").status, 401);
    // The name of a local user is never taken over, not even by the proxy.
    let (_scene, server) = behind_proxy("127.0.0.1");
    let _ = server.administrator();
    let mut eve = server.client();
    with(&mut eve, &fields[..2]);
    assert_eq!(eve.get("/sign-in").status, 403);
}

#[test]
fn a_configuration_that_trusts_everyone_is_refused() {
    let mut scene = Scene::new(1, 0);
    scene.setting.add(
        "[console.proxy_auth]\nuser_header = \"Remote-User\"\ngroups_header = \"G\"\n\
         groups = [{ group = \"*\" }]\n",
    );
    scene.setting.write();
    let refused = scene.setting.run("mailqos-analytics", &["serve", "--no-schedule"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(complaint_of(&refused).contains("anyone could send the header fields"));
}
