//! Setup over Microsoft Graph from nothing but an address: the exchangers reveal Microsoft 365, a
//! person signs in or an application has its own access, which is verified, and a first test runs.

#![cfg(unix)]
#![allow(clippy::expect_used, missing_docs)]

use std::process::Output;

use mailqos_tests::{
    binaries::command,
    dialogue::Dialogue,
    servers::{
        APPLICATION, Decision, DnsServer, GraphOptions, GraphServer, INBOX, MailServer,
        OAuthOptions, OAuthServer, Options, PASSWORD, TokenBook, Web,
    },
    setting::{words_of, write_private},
};
use tokio::process::Command;

const PROBE: &str = "probe@mailqos.test";
const SHARED: &str = "orders@mailqos.test";
const CEO: &str = "ceo@mailqos.test";
/// A host that only the proxy knows.
const CLOUD: &str = "cloud.mailqos.test";

/// Mailboxes in Microsoft 365 with Microsoft Graph, sign-in, and a domain whose exchanger is that
/// of Exchange Online.
struct Scene {
    folder: tempfile::TempDir,
    mail: MailServer,
    graph: GraphServer,
    oauth: OAuthServer,
    dns: DnsServer,
    web: Web,
}

impl Scene {
    /// With a host other than `localhost`, the services are reached through the proxy only.
    async fn new(host: &str) -> Self {
        let book = TokenBook::default();
        let users = [PROBE, SHARED, CEO].map(|user| (user.to_owned(), PASSWORD.to_owned()));
        let options = Options { users: users.to_vec(), tokens: book.clone(), ..Options::default() };
        let mail = MailServer::start(options).await.expect("mail servers");
        let grants = vec![(PROBE.to_owned(), vec!["Mail.ReadWrite", "Mail.Send"])];
        let options = GraphOptions { host: host.to_owned(), grants, ..GraphOptions::default() };
        let graph = GraphServer::start(&mail, options).await.expect("a Graph");
        let options = OAuthOptions::default();
        let oauth = match host {
            "localhost" => OAuthServer::start(&book, options).await,
            host => OAuthServer::start_tls(&book, options, (mail.authority(), host)).await,
        };
        let oauth = oauth.expect("an OAuth server");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), mail.authority().pem()).expect("written");
        write_private(&folder.path().join("application.pem"), APPLICATION);
        let dns = DnsServer::start().await.expect("a name server");
        dns.mx("mailqos.test", 10, "mailqos-test.mail.protection.outlook.com.");
        let web = Web::start().await.expect("a proxy");
        for port in [graph.port(), oauth.port()] {
            web.tunnel(CLOUD, port);
        }
        Self { folder, mail, graph, oauth, dns, web }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command("mailqos-probe");
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("CLIENT_SECRET", GraphOptions::default().client_secret)
            .env_remove("RUST_LOG")
            .env_remove("HTTPS_PROXY");
        command.into()
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().await.expect("an output")
    }

    /// The options for a mailbox, as what the embedded services need.
    fn options(&self, user: &str, host: &str) -> Vec<String> {
        let (dns, port) = (self.dns.address(), self.graph.port());
        let options = format!(
            "init {user} --yes --dns {dns} --ca-file ca.pem --pickup-server {host} --pickup-port {port} \
             --check-interval 200ms --max-round-trip 60s"
        );
        options.split(' ').map(str::to_owned).collect()
    }

    fn sign_in(&self, user: &str, host: &str, more: &[&str]) -> Dialogue {
        let (options, token_url) = (self.options(user, host), self.oauth.token_url());
        let own = ["--login", "sign-in", "--client-id", "mailqos-client", "--token-url"];
        let all: Vec<&str> = options.iter().map(String::as_str).chain(own).collect();
        Dialogue::start(self.command(&[&all[..], &[token_url.as_str()], more].concat()))
    }

    async fn application(&self, more: &[&str]) -> (Output, String) {
        let (options, token_url) = (self.options(PROBE, "localhost"), self.graph.token_url());
        let client_id = GraphOptions::default().client_id;
        // The protocol is named, so nothing has to be discovered.
        let own = ["--protocol", "graph", "--client-id", &client_id, "--token-url", &token_url];
        let all: Vec<&str> = options.iter().map(String::as_str).chain(own).collect();
        let output = self.run(&[&all[..], more].concat()).await;
        let said = words_of(&output);
        self.assert_silent(&said);
        (output, said)
    }

    fn config(&self) -> Option<String> {
        std::fs::read_to_string(self.folder.path().join("mailqos.toml")).ok()
    }

    fn forget(&self) {
        std::fs::remove_file(self.folder.path().join("mailqos.toml")).expect("a configuration");
    }

    fn assert_silent(&self, said: &str) {
        let secret = GraphOptions::default().client_secret;
        for secret in ["Access-Token-", "Refresh-Token-", "Device-Code-", "Graph-Token", &secret] {
            assert!(!said.contains(secret), "{secret} in\n{said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_microsoft_365_and_a_device_code_are_enough() {
    let scene = Scene::new("localhost").await;
    scene.mail.fill(PROBE, 3);
    let mut init = scene.sign_in(PROBE, "localhost", &[]);
    let code = init.code().await;
    scene.oauth.enter_code(&code, Decision::Approve(PROBE.to_owned()));
    let (done, said) = init.end().await;
    assert!(done && said.contains("✓ ok: round trip"), "{said}");
    assert!(said.contains(&format!("signed in as {PROBE}")), "{said}");
    scene.assert_silent(&said);
    let config = scene.config().expect("a configuration");
    for part in [
        "preset = \"microsoft-365\"",
        "smtp = { protocol = \"graph\", server = \"localhost\"",
        "pickup = { protocol = \"graph\", server = \"localhost\"",
        "refresh_token = { file = \"secrets/",
    ] {
        assert!(config.contains(part), "no {part} in\n{config}");
    }
    scene.assert_silent(&config);
    // Consent was asked for Microsoft Graph and nothing else.
    let asked = scene.oauth.requests().join("\n");
    assert!(asked.contains("graph.microsoft.com%2FMail.ReadWrite"), "{asked}");
    assert!(!asked.contains("outlook.office"), "{asked}");
    assert_eq!((scene.mail.foreign(PROBE), scene.mail.mails(PROBE, INBOX).len()), (3, 3));
    assert!(scene.graph.violations().is_empty(), "{:?}", scene.graph.violations());

    // The sign-in ends, and another one is for Microsoft Graph as well.
    scene.oauth.revoke_all();
    let mut login = Dialogue::start(scene.command(&["account", "login", "microsoft-365"]));
    let code = login.code().await;
    scene.oauth.enter_code(&code, Decision::Approve(PROBE.to_owned()));
    let (done, said) = login.end().await;
    assert!(done, "{said}");
    let test = scene.run(&["test", "microsoft-365", "--no-record"]).await;
    assert!(test.status.success(), "{}", words_of(&test));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_mailbox_needs_permissions_of_its_own() {
    let scene = Scene::new("localhost").await;
    let anna = "anna@mailqos.test".to_owned();
    let shared = Decision::ApproveShared(anna.clone(), SHARED.to_owned());
    let mut init = scene.sign_in(SHARED, "localhost", &[]);
    let code = init.code().await;
    scene.oauth.enter_code(&code, shared.clone());
    let (done, said) = init.end().await;
    assert!(!done && said.contains("Mail.ReadWrite.Shared"), "{said}");
    assert_eq!(scene.config(), None);
    assert!(!scene.folder.path().join("secrets").exists());

    let mut init = scene.sign_in(SHARED, "localhost", &["--shared-mailbox"]);
    let code = init.code().await;
    scene.oauth.enter_code(&code, shared);
    let (done, said) = init.end().await;
    assert!(done && said.contains("✓ ok: round trip"), "{said}");
    assert!(said.contains(&format!("signed in as {anna}, for the shared mailbox")), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_is_restricted_verified_and_tested() {
    let scene = Scene::new("localhost").await;
    let secret = ["--client-secret-env", "CLIENT_SECRET"];
    let other = [&secret[..], &["--other-mailbox", CEO]].concat();
    let (output, said) = scene.application(&other).await;
    assert!(output.status.success() && said.contains("✓ ok: round trip"), "{said}");
    for part in [
        "New-ManagementScope -Name 'mailqos probe@mailqos.test'",
        "-Role 'Application Mail.ReadWrite'",
        "✓ the application can read probe@mailqos.test",
        "✓ the application can't read ceo@mailqos.test",
        "✓ the application can't send from ceo@mailqos.test",
    ] {
        assert!(said.contains(part), "no {part} in\n{said}");
    }
    let config = scene.config().expect("a configuration");
    assert!(config.contains("client_secret = { env = \"CLIENT_SECRET\" }"), "{config}");

    // It reaches the other mailbox, too: a warning, the test, and a failure at the end.
    let all = vec![(String::new(), vec!["Mail.ReadWrite", "Mail.Send"])];
    scene.graph.grant(all);
    scene.forget();
    let proof = ["--certificate-file", "application.pem", "--other-mailbox", CEO];
    let (output, said) = scene.application(&proof).await;
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("✗ the application can read ceo@mailqos.test"), "{said}");
    assert!(said.contains("✓ ok: round trip") && said.contains("two hours"), "{said}");
    let config = scene.config().expect("a configuration");
    assert!(config.contains("certificate = { file = \""), "{config}");

    // Without another mailbox, it says that nothing was verified, and how to.
    scene.forget();
    let (output, said) = scene.application(&secret).await;
    assert!(output.status.success() && said.contains("account verify microsoft-365"), "{said}");

    // What contradicts is refused before anything is written.
    scene.forget();
    for (more, expected) in [
        (&[&secret[..], &["--other-mailbox", PROBE]].concat()[..], "must be another mailbox"),
        (&[&secret[..], &["--other-mailbox", "nobody"]].concat(), "not a valid e-mail address"),
        (&[&secret[..], &["--preset", "gmx"]].concat(), "Microsoft 365"),
        (&[], "--client-secret-env"),
    ] {
        let (output, said) = scene.application(more).await;
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected), "{expected}: {said}");
        assert_eq!(scene.config(), None, "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn discovery_sign_in_and_tests_use_the_proxy_of_the_configuration() {
    let scene = Scene::new(CLOUD).await;
    let host = "autoconfig.mailqos.test";
    scene.web.host(host, scene.mail.authority(), host);
    let path = scene.folder.path().join("mailqos.toml");
    let proxy = format!("site = \"here\"\nproxy = \"{}\"\n", scene.web.proxy());
    std::fs::write(&path, &proxy).expect("written");
    let mut init = scene.sign_in(PROBE, CLOUD, &[]);
    let code = init.code().await;
    scene.oauth.enter_code(&code, Decision::Approve(PROBE.to_owned()));
    let (done, said) = init.end().await;
    assert!(done && said.contains("✓ ok: round trip"), "{said}");
    let asked = scene.web.requests();
    assert!(asked.iter().any(|request| request.starts_with(host)), "{asked:?}");
    for port in [scene.graph.port(), scene.oauth.port()] {
        let place = format!("{CLOUD}:{port}");
        assert!(scene.web.tunnelled().contains(&place), "{place}");
    }
    let check = words_of(&scene.run(&["check", "--connect"]).await);
    assert!(check.contains("Microsoft Graph") && check.contains("through the proxy"), "{check}");

    // A proxy that does not know the server has not failed itself; one that is not there has.
    let config = scene.config().expect("a configuration");
    for (from, to, expected) in [
        (CLOUD, "other.mailqos.test", "HTTP 502"),
        (scene.web.proxy().as_str(), "http://127.0.0.1:1", "127.0.0.1:1"),
    ] {
        std::fs::write(&path, config.replace(from, to)).expect("written");
        let test = words_of(&scene.run(&["test", "microsoft-365", "--no-record"]).await);
        assert!(test.contains(expected) && !test.contains("✓ ok"), "{test}");
    }
}
