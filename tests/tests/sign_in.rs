//! Sign-in: device codes, browsers with PKCE, service accounts, against an embedded OAuth server as
//! strict as the RFCs; a monitor is set up from nothing but an address and a sign-in.

#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs)]

use std::{process::Output, time::Duration};

use mailqos_tests::{
    binaries::command,
    dialogue::Dialogue,
    hooks::{Hooks, Manner},
    servers::{
        Decision, DnsServer, MailServer, OAuthOptions, OAuthServer, Options, PASSWORD, TokenBook,
    },
    setting::{complaint_of, until, words_of, write_private},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::Command,
};

const ANNA: &str = "anna@mailqos.test";
const SHARED: &str = "orders@mailqos.test";

/// Mail servers that accept only tokens, the OAuth server that issues them, and a folder.
struct Scene {
    folder: tempfile::TempDir,
    mail: MailServer,
    oauth: OAuthServer,
    dns: DnsServer,
}

impl Scene {
    async fn new(options: OAuthOptions) -> Self {
        let book = TokenBook::default();
        let users = [ANNA, SHARED].map(|user| (user.to_owned(), PASSWORD.to_owned()));
        let mechanisms = vec!["XOAUTH2".to_owned(), "OAUTHBEARER".to_owned()];
        let mail = Options {
            users: users.to_vec(),
            mechanisms,
            tokens: book.clone(),
            ..Options::default()
        };
        let mail = MailServer::start(mail).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), mail.authority().pem()).unwrap();
        let dns = DnsServer::start().await.unwrap();
        dns.mx("mailqos.test", 10, "mx.elsewhere.test.");
        dns.srv("_submissions._tcp.mailqos.test", 0, mail.smtps_port(), "localhost.");
        dns.srv("_imaps._tcp.mailqos.test", 0, mail.imaps_port(), "localhost.");
        let oauth = OAuthServer::start(&book, options).await.unwrap();
        Self { folder, mail, oauth, dns }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command("mailqos-probe");
        command.args(arguments).current_dir(self.folder.path()).env_remove("RUST_LOG");
        command.env("CLIENT_SECRET", "desktop-secret-1");
        command.into()
    }

    /// Sets up a monitor from the address and a sign-in.
    fn init(&self, user: &str, more: &[&str]) -> Dialogue {
        let (dns, token_url) = (self.dns.address().to_string(), self.oauth.token_url());
        let base = [
            "init",
            user,
            "--yes",
            "--accept-other-domain",
            "--dns",
            &dns,
            "--ca-file",
            "ca.pem",
            "--login",
            "sign-in",
            "--token-url",
            &token_url,
            "--client-id",
            "mailqos-client",
            "--scope",
            "https://mail.example.com/imap https://mail.example.com/smtp",
            "--check-interval",
            "200ms",
        ];
        Dialogue::start(self.command(&[&base[..], more].concat()))
    }

    fn config(&self) -> Option<String> {
        std::fs::read_to_string(self.folder.path().join("mailqos.toml")).ok()
    }

    /// Nothing was written, and no secret was printed.
    fn assert_untouched(&self, said: &str) {
        assert_eq!(self.config(), None, "{said}");
        assert!(!self.folder.path().join("secrets").exists(), "{said}");
        self.assert_silent(said);
    }

    fn assert_silent(&self, said: &str) {
        for secret in
            ["Access-Token-", "Refresh-Token-", "Device-Code-", "4/Code-", "desktop-secret"]
        {
            assert!(!said.contains(secret), "{secret} in\n{said}");
        }
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().await.unwrap()
    }
}

/// What a browser does with an address: follows one redirect, to this machine or not.
async fn browse(address: &str) -> String {
    let rest = address.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let host = host.replace("localhost", "127.0.0.1");
    let mut stream = TcpStream::connect(&host).await.unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    reply
}

/// The address that a browser is redirected to.
async fn redirect(address: &str) -> String {
    let reply = browse(address).await;
    let location = reply.lines().find_map(|line| line.strip_prefix("Location: "));
    location.unwrap_or_else(|| panic!("no redirect in {reply}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_and_a_device_code_are_enough() {
    let scene = Scene::new(OAuthOptions::default()).await;
    let mut init = scene.init(ANNA, &[]);
    let code = init.code().await;
    assert!(init.said.contains("https://login.example.com/device"), "{}", init.said);
    scene.oauth.enter_code(&code, Decision::Approve(ANNA.to_owned()));
    let (done, said) = init.end().await;
    assert!(done && said.contains("✓ ok: round trip"), "{said}");
    assert!(said.contains(&format!("signed in as {ANNA}")), "{said}");
    scene.assert_silent(&said);
    let config = scene.config().unwrap();
    assert!(config.contains("refresh_token = { file = \"secrets/"), "{config}");
    scene.assert_silent(&config);
    let stored: Vec<_> = std::fs::read_dir(scene.folder.path().join("secrets")).unwrap().collect();
    assert_eq!(stored.len(), 1);
    use std::os::unix::fs::PermissionsExt as _;
    let mode = stored[0].as_ref().unwrap().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // The provider ends the sign-in: tests fail with the remedy, and another sign-in repairs them.
    scene.oauth.revoke_all();
    let account = config.split("[account.").nth(1).unwrap().split(']').next().unwrap().to_owned();
    let monitor = config.split("[monitor.").nth(1).unwrap().split(']').next().unwrap().to_owned();
    let failed = words_of(&scene.run(&["test", &monitor, "--no-record"]).await);
    assert!(failed.contains("invalid_grant") && failed.contains("sign in again"), "{failed}");
    let mut login = Dialogue::start(scene.command(&["account", "login", &account]));
    let code = login.code().await;
    scene.oauth.enter_code(&code, Decision::Approve(ANNA.to_owned()));
    let (done, said) = login.end().await;
    assert!(done, "{said}");
    scene.assert_silent(&said);
    let repaired = scene.run(&["test", &monitor, "--no-record"]).await;
    assert!(repaired.status.success(), "{}", words_of(&repaired));
    assert!(scene.mail.accepted().len() >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_that_fails_is_explained_and_nothing_is_written() {
    for (decision, more, expected) in [
        (Decision::Decline, &[][..], "declined"),
        (Decision::ApproveElsewhere(ANNA.to_owned()), &[], "another tenant"),
        (Decision::ApproveWithoutMail(ANNA.to_owned()), &[], "permissions were not granted"),
        (Decision::Approve("bob@mailqos.test".to_owned()), &[], "--shared-mailbox"),
    ] {
        let scene = Scene::new(OAuthOptions::default()).await;
        let mut init = scene.init(ANNA, more);
        let code = init.code().await;
        scene.oauth.enter_code(&code, decision.clone());
        let (done, said) = init.end().await;
        assert!(!done && said.contains(expected), "{decision:?}: {said}");
        scene.assert_untouched(&said);
    }
    // No one enters the code; this server would let the program ask for ever.
    for forgets_expiry in [false, true] {
        let code_validity = Duration::from_secs(3);
        let options = OAuthOptions { code_validity, forgets_expiry, ..OAuthOptions::default() };
        let scene = Scene::new(options).await;
        let (done, said) = scene.init(ANNA, &[]).end().await;
        assert!(!done && said.contains("no one signed in before the code expired"), "{said}");
        scene.assert_untouched(&said);
    }
    let options = OAuthOptions { gives_refresh_token: false, ..OAuthOptions::default() };
    let scene = Scene::new(options).await;
    let mut init = scene.init(ANNA, &[]);
    let code = init.code().await;
    scene.oauth.enter_code(&code, Decision::Approve(ANNA.to_owned()));
    let (done, said) = init.end().await;
    assert!(!done && said.contains("no refresh token"), "{said}");
    scene.assert_untouched(&said);
    // The provider takes polling for an endless loop.
    let scene = Scene::new(OAuthOptions { sees_loop: true, ..OAuthOptions::default() }).await;
    let mut init = scene.init(ANNA, &[]);
    let code = init.code().await;
    scene.oauth.enter_code(&code, Decision::Approve(ANNA.to_owned()));
    let (done, said) = init.end().await;
    assert!(done, "{said}");
    // A client that the provider does not know, and one that must have a secret.
    let scene =
        Scene::new(OAuthOptions { client_id: "other".to_owned(), ..OAuthOptions::default() });
    let scene = scene.await;
    let (done, said) = scene.init(ANNA, &[]).end().await;
    assert!(!done && said.contains("does not know the application"), "{said}");
    scene.assert_untouched(&said);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_person_signs_in_for_a_shared_mailbox_only() {
    let scene =
        Scene::new(OAuthOptions { lifetime: Some(604_799), ..OAuthOptions::default() }).await;
    let mut init = scene.init(SHARED, &["--shared-mailbox", "--kind", "mailbox"]);
    let code = init.code().await;
    let bob = "bob@mailqos.test".to_owned();
    scene.oauth.enter_code(&code, Decision::ApproveShared(bob.clone(), SHARED.to_owned()));
    let (done, said) = init.end().await;
    assert!(done, "{said}");
    assert!(said.contains(&format!("signed in as {bob}, for the shared mailbox")), "{said}");
    // The provider states when the sign-in ends: the configuration has the day, and check warns.
    let config = scene.config().unwrap();
    assert!(config.contains("sign_in_expires = \"20"), "{config}");
    let check = words_of(&scene.run(&["check"]).await);
    assert!(check.contains("the sign-in expires") && check.contains("account login"), "{check}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_is_near_is_announced_until_the_provider_extends_the_sign_in() {
    let lifetime = Some(3 * 86_400);
    let scene = Scene::new(OAuthOptions { lifetime, ..OAuthOptions::default() }).await;
    let hooks = Hooks::start(Manner::Status(200)).await.unwrap();
    let topic = hooks.url("/alarms");
    let mut init = scene.init(ANNA, &["--notify", "ntfy", "--notify-url", &topic]);
    let code = init.code().await;
    scene.oauth.enter_code(&code, Decision::Approve(ANNA.to_owned()));
    let (done, said) = init.end().await;
    assert!(done, "{said}");
    // The first test has refreshed the token; a year later than stated at first, by hand.
    let folder = scene.folder.path();
    let path = folder.join("mailqos.toml");
    let config = scene.config().unwrap();
    let account = config.split("[account.").nth(1).unwrap().split(']').next().unwrap().to_owned();
    let ends: Vec<_> =
        walk(folder).into_iter().filter(|path| path.contains("sign-in-ends")).collect();
    assert_eq!(ends.len(), 1, "{:?}", walk(folder));
    let stated = std::fs::read_to_string(&ends[0]).unwrap();
    assert!(config.contains(&format!("sign_in_expires = \"{}\"", stated.trim())), "{stated}");
    let expired = config.replace(stated.trim(), "2020-01-31");
    std::fs::write(&path, expired).unwrap();
    let check = words_of(&scene.run(&["check"]).await);
    assert!(check.contains(&format!("the sign-in expires on {}", stated.trim())), "{check}");
    let mut probe = scene.command(&["run"]).kill_on_drop(true).spawn().unwrap();
    let expected = format!("EXPIRES: account {account}: the sign-in expires on");
    let status = || {
        let mut command = command("mailqos-probe");
        words_of(&command.arg("status").current_dir(folder).output().unwrap())
    };
    until("the line in the status", || status().contains(&expected)).await;
    let is_told = || hooks.accepted().iter().any(|told| told.body.contains("mailqos.credentials"));
    until("the alarm", is_told).await;
    probe.kill().await.unwrap();
    // Another sign-in has no stated end: nothing is announced any more.
    std::fs::write(&ends[0], "3000-01-31\n").unwrap();
    let check = words_of(&scene.run(&["check"]).await);
    assert!(!check.contains("the sign-in expire"), "{check}");
}

/// All files below a folder.
fn walk(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => walk(&path),
            false => vec![path.display().to_string()],
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_signs_in_with_pkce_on_this_machine_or_another() {
    let options = OAuthOptions {
        client_secret: Some("desktop-secret-1".to_owned()),
        ..OAuthOptions::default()
    };
    let more = ["--browser", "--client-secret-env", "CLIENT_SECRET"];
    // On this machine: the browser returns to the loopback interface.
    let scene = Scene::new(options.clone()).await;
    scene.oauth.browse(Decision::Approve(ANNA.to_owned()));
    let mut init = scene.init(ANNA, &more);
    let address = init.line_with("/oauth2/v2.0/authorize?").await;
    assert!(address.contains("code_challenge_method=S256") && address.contains("&state="));
    let back = redirect(&address).await;
    // A page that guesses the port can neither end nor take over the sign-in.
    let port = back.split(':').nth(2).unwrap().split('/').next().unwrap();
    for attack in ["?code=evil&state=guess", "?error=access_denied", "?code=evil", ""] {
        let reply = browse(&format!("http://127.0.0.1:{port}/{attack}")).await;
        assert!(reply.starts_with("HTTP/1.1 404"), "{attack}: {reply}");
    }
    let reply = browse(&back).await;
    assert!(reply.contains("You are signed in"), "{reply}");
    let (done, said) = init.end().await;
    assert!(done && said.contains("✓ ok: round trip"), "{said}");
    scene.assert_silent(&said);

    // On another machine: the person pastes the address that the browser can't open.
    let scene = Scene::new(options.clone()).await;
    scene.oauth.browse(Decision::Approve(ANNA.to_owned()));
    let mut init = scene.init(ANNA, &more);
    let address = init.line_with("/oauth2/v2.0/authorize?").await;
    init.line_with("paste it here").await;
    let back = redirect(&address).await;
    init.paste("I am not a code").await;
    init.line_with("neither a code nor an address").await;
    init.paste(&back.replace("state=", "state=x")).await;
    init.line_with("belongs to another sign-in").await;
    init.paste(&back).await;
    let (done, said) = init.end().await;
    assert!(done && said.contains("✓ ok: round trip"), "{said}");
    scene.assert_silent(&said);

    // Refused consent.
    let scene = Scene::new(options).await;
    scene.oauth.browse(Decision::Decline);
    let mut init = scene.init(ANNA, &more);
    let address = init.line_with("/oauth2/v2.0/authorize?").await;
    let reply = browse(&redirect(&address).await).await;
    assert!(reply.contains("refused"), "{reply}");
    let (done, said) = init.end().await;
    assert!(!done && said.contains("declined"), "{said}");
    scene.assert_untouched(&said);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_opens_the_mailboxes_that_were_delegated_to_it() {
    let scene = Scene::new(OAuthOptions::default()).await;
    let key = scene.oauth.service_account("probe@mailqos-test.iam.gserviceaccount.com", &[ANNA]);
    write_private(&scene.folder.path().join("key.json"), &key);
    let (dns, token_url) = (scene.dns.address().to_string(), scene.oauth.token_url());
    let init = |user: &'static str| {
        scene.command(&[
            "init",
            user,
            "--yes",
            "--accept-other-domain",
            "--dns",
            &dns,
            "--ca-file",
            "ca.pem",
            "--service-account-file",
            "key.json",
            "--token-url",
            &token_url,
            "--scope",
            "https://mail.google.com/",
            "--check-interval",
            "200ms",
        ])
    };
    let output = init(ANNA).output().await.unwrap();
    let said = words_of(&output);
    assert!(output.status.success() && said.contains("✓ ok: round trip"), "{said}");
    let config = scene.config().unwrap();
    assert!(config.contains("service_account = { file = "), "{config}");
    assert!(!said.contains("PRIVATE KEY") && !config.contains("PRIVATE KEY"));

    // A user for whom nothing was delegated; a key that was replaced.
    std::fs::remove_file(scene.folder.path().join("mailqos.toml")).unwrap();
    let said = words_of(&init(SHARED).output().await.unwrap());
    assert!(said.contains("domain-wide delegation is missing"), "{said}");
    std::fs::remove_file(scene.folder.path().join("mailqos.toml")).unwrap();
    scene.oauth.forget_keys();
    let said = words_of(&init(ANNA).output().await.unwrap());
    assert!(said.contains("the key of the service account was deleted"), "{said}");
    assert!(!said.contains("PRIVATE KEY"));
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_that_no_one_can_sign_in_for_are_named() {
    let scene = Scene::new(OAuthOptions::default()).await;
    let url = scene.oauth.token_url();
    std::fs::write(
        scene.folder.path().join("mailqos.toml"),
        format!(
            "site = \"x\"\n[account.password]\nuser = \"u\"\npassword = {{ env = \"P\" }}\n\
             [account.application]\nuser = \"u\"\noauth = {{ token_url = \"{url}\", client_id = \"c\", client_secret = {{ env = \"S\" }} }}\n\
             [account.environment]\nuser = \"u\"\noauth = {{ token_url = \"{url}\", client_id = \"c\", refresh_token = {{ env = \"S\" }} }}\n"
        ),
    )
    .unwrap();
    for (account, expected) in [
        ("password", "logs in with a password"),
        ("application", "has no refresh token"),
        ("environment", "does not come from a file"),
        ("nobody", "unknown account"),
    ] {
        let output = scene.run(&["account", "login", account]).await;
        let complaint = complaint_of(&output);
        assert_eq!(output.status.code(), Some(2), "{account}: {complaint}");
        assert!(complaint.contains(expected), "{account}: {complaint}");
    }
    assert!(scene.oauth.requests().is_empty());
}
