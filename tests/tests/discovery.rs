//! Discovery of servers by an address: records, files and providers are found in an embedded name
//! server and embedded web sites, servers are tried without logging in, and nothing is trusted that
//! only unauthenticated DNS states.

#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs)]

use std::process::{Command, Output};

use mailqos_tests::{
    binaries::command,
    servers::{
        Authority, Certificate, DnsFault, DnsServer, Fault, MailServer, Options, PASSWORD, Page,
        Protocol, Web, When,
    },
    setting::{complaint_of, words_of},
};
use serde_json::Value;

const DOMAIN: &str = "mailqos.test";
const ANNA: &str = "anna@mailqos.test";

/// Mail servers, a name server and web sites, and a folder for the configuration.
struct Scene {
    folder: tempfile::TempDir,
    mail: MailServer,
    dns: DnsServer,
    web: Web,
}

impl Scene {
    async fn new() -> Self {
        let users = vec![(ANNA.to_owned(), PASSWORD.to_owned())];
        let mail = MailServer::start(Options { users, ..Options::default() }).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), mail.authority().pem()).unwrap();
        let dns = DnsServer::start().await.unwrap();
        dns.mx(DOMAIN, 10, "mx.elsewhere.test.");
        Self { folder, mail, dns, web: Web::start().await.unwrap() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command("mailqos-probe");
        command
            .args(arguments)
            .args(["--dns", &self.dns.address().to_string(), "--ca-file", "ca.pem"])
            .current_dir(self.folder.path())
            .env("HTTPS_PROXY", self.web.proxy())
            .env("PROBE_PASSWORD", PASSWORD)
            .env_remove("NO_PROXY")
            .env_remove("RUST_LOG");
        command
    }

    /// Runs a command without blocking the servers.
    async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = tokio::process::Command::from(self.command(arguments));
        command.output().await.unwrap()
    }

    /// What discovery reports as JSON, and its complaint.
    async fn discover(&self) -> (Value, String) {
        let output = self.run(&["discover", ANNA, "--format", "json"]).await;
        let value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", words_of(&output)));
        (value, complaint_of(&output))
    }

    /// Sets up a monitor from the address alone.
    async fn init(&self, more: &[&str]) -> Output {
        let arguments = ["init", ANNA, "--yes", "--password-env", "PROBE_PASSWORD"];
        self.run(&[&arguments[..], &["--check-interval", "200ms"], more].concat()).await
    }

    /// SRV records that name the embedded servers.
    fn publish_services(&self) {
        let (smtps, imaps) = (self.mail.smtps_port(), self.mail.imaps_port());
        self.dns.srv("_submissions._tcp.mailqos.test", 0, smtps, "localhost.");
        self.dns.srv("_imaps._tcp.mailqos.test", 0, imaps, "localhost.");
    }

    /// An autoconfig file at its preferred address.
    fn publish_file(&self, page: Page) {
        let host = format!("autoconfig.{DOMAIN}");
        self.web.host(&host, self.mail.authority(), &host);
        self.web.page(&format!("{host}/mail/config-v1.1.xml"), page);
    }

    /// A file that names the embedded servers.
    fn file(&self) -> Vec<u8> {
        let (smtp, imap) = (self.mail.smtp_port(), self.mail.imap_port());
        format!(
            "<?xml version=\"1.0\"?><clientConfig version=\"1.1\"><emailProvider id=\"{DOMAIN}\">\
             <incomingServer type=\"imap\"><hostname>localhost</hostname><port>{imap}</port>\
             <socketType>STARTTLS</socketType><username>%EMAILADDRESS%</username></incomingServer>\
             <outgoingServer type=\"smtp\"><hostname>localhost</hostname><port>{smtp}</port>\
             <socketType>STARTTLS</socketType><username>%EMAILADDRESS%</username></outgoingServer>\
             </emailProvider></clientConfig>"
        )
        .into_bytes()
    }

    fn config(&self) -> Option<String> {
        std::fs::read_to_string(self.folder.path().join("mailqos.toml")).ok()
    }

    /// Asserts that nothing was written and no one logged in.
    fn assert_untouched(&self) {
        assert_eq!(self.config(), None);
        for protocol in [Protocol::Smtp, Protocol::Imap, Protocol::Pop3] {
            let commands = self.mail.commands(protocol);
            let login =
                commands.iter().find(|line| line.contains("AUTH") || line.contains("LOGIN"));
            assert_eq!(login, None, "{protocol:?}");
        }
    }
}

/// The result of a look-up.
fn lookup<'value>(found: &'value Value, what: &str) -> &'value Value {
    let lookups = found["lookups"].as_array().unwrap();
    lookups
        .iter()
        .find(|lookup| lookup["lookup"].as_str().unwrap().contains(what))
        .unwrap_or_else(|| panic!("no {what} in {found:#}"))
}

fn servers(found: &Value) -> Vec<&Value> {
    found["servers"].as_array().unwrap().iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_is_set_up_from_records_once_the_servers_outside_the_domain_are_confirmed() {
    let scene = Scene::new().await;
    scene.publish_services();
    scene.dns.srv("_pop3._tcp.mailqos.test", 0, 0, ".");
    let (found, complaint) = scene.discover().await;
    assert!(complaint.contains("--accept-other-domain"), "{complaint}");
    assert!(servers(&found).iter().all(|server| server["usable"] == true
        && server["needs_consent"] == true
        && server["chosen"] == false));
    assert_eq!(lookup(&found, "_pop3._tcp")["outcome"], "nothing");
    let refused = scene.init(&[]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(complaint_of(&refused).contains("localhost is outside mailqos.test"));
    scene.assert_untouched();

    let output = scene.init(&["--accept-other-domain"]).await;
    let said = words_of(&output);
    assert!(output.status.success() && said.contains("✓ ok: round trip"), "{said}");
    let config = scene.config().unwrap();
    let smtps = scene.mail.smtps_port();
    for part in [
        format!("smtp = {{ port = {smtps}, tls = \"implicit\", ca_file ="),
        format!("from = \"{ANNA}\""),
        format!("user = \"{ANNA}\""),
        "protocol = \"imap\"".to_owned(),
    ] {
        assert!(config.contains(&part), "no {part} in\n{config}");
    }
    assert!(!said.contains(PASSWORD) && !config.contains(PASSWORD));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_the_domain_needs_no_consent() {
    let scene = Scene::new().await;
    scene.publish_file(Page::Content(scene.file()));
    let output = scene.init(&[]).await;
    let said = words_of(&output);
    assert!(output.status.success() && said.contains("✓ ok: round trip"), "{said}");
    assert!(said.contains("autoconfig file of autoconfig.mailqos.test"), "{said}");
    let imap = scene.mail.imap_port();
    let config = scene.config().unwrap();
    assert!(config.contains(&format!("port = {imap}, tls = \"starttls\"")), "{config}");
    // Only the domain's own servers learn the address, and no one else is asked.
    let requests = scene.web.requests();
    assert_eq!(
        requests,
        ["autoconfig.mailqos.test/mail/config-v1.1.xml?emailaddress=anna%40mailqos.test"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_lead_on_over_https_only_and_large_or_wrong_files_are_ignored() {
    let scene = Scene::new().await;
    scene.web.host("hoster.test", scene.mail.authority(), "hoster.test");
    scene.web.page("hoster.test/a.xml", Page::Content(scene.file()));
    let bomb = "<?xml version=\"1.0\"?><!DOCTYPE a [<!ENTITY b \"bbbbbbbb\"><!ENTITY c \"&b;&b;&b;\">]>\
        <clientConfig><emailProvider>&c;</emailProvider></clientConfig>";
    let good = scene.file();
    let unending = [&good[..], &b" ".repeat(300 * 1024)].concat();
    for (page, expected) in [
        (Page::Redirect("https://hoster.test/a.xml".to_owned()), None),
        (Page::Redirect("http://hoster.test/a.xml".to_owned()), Some("without encryption")),
        (
            Page::Redirect("https://autoconfig.mailqos.test/mail/config-v1.1.xml".to_owned()),
            Some("redirects more than 3 times"),
        ),
        (Page::Redirect("gopher://hoster.test/".to_owned()), Some("can't be used")),
        (Page::Content(bomb.into()), Some("document type declaration")),
        (Page::Content(b"<html><p>parked".to_vec()), Some("not an autoconfig file")),
        (Page::Content(unending), Some("larger than 256 KiB")),
        (Page::Endless, Some("larger than 256 KiB")),
        (Page::Silent, Some("did not answer")),
        (Page::Status(503), Some("HTTP 503")),
    ] {
        scene.publish_file(page.clone());
        let (found, complaint) = scene.discover().await;
        let result = lookup(&found, "https://autoconfig.mailqos.test");
        match expected {
            None => assert_eq!(result["outcome"], "found", "{found:#}"),
            Some(expected) => {
                let text = result["result"].as_str().unwrap();
                assert!(text.contains(expected), "{page:?}: {text}");
                assert_eq!(result["outcome"], "failed", "{page:?}");
                assert!(
                    servers(&found).is_empty() && complaint.contains("--address"),
                    "{complaint}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_site_with_another_certificate_is_not_believed() {
    let scene = Scene::new().await;
    let host = format!("autoconfig.{DOMAIN}");
    scene.web.host(&host, scene.mail.authority(), "parking.example");
    scene.web.page(&format!("{host}/mail/config-v1.1.xml"), Page::Content(scene.file()));
    let (found, _) = scene.discover().await;
    let stranger = Authority::new();
    scene.web.host(&host, &stranger, &host);
    let (by_stranger, _) = scene.discover().await;
    for found in [found, by_stranger] {
        let result = lookup(&found, "https://autoconfig.mailqos.test");
        assert!(result["result"].as_str().unwrap().contains("TLS"), "{found:#}");
        assert!(servers(&found).is_empty());
    }
    assert!(scene.web.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_password_goes_to_a_server_whose_certificate_does_not_match() {
    for certificate in [Certificate::WrongName, Certificate::Untrusted, Certificate::Expired] {
        let scene = Scene::new().await;
        scene.publish_file(Page::Content(scene.file()));
        for protocol in [Protocol::Smtp, Protocol::Imap] {
            scene.mail.inject(protocol, "TLS", Fault::Certificate(certificate), When::Always);
        }
        // Pinning is for servers that a person names.
        for more in [&[][..], &["--pin"]] {
            let output = scene.init(more).await;
            assert_eq!(output.status.code(), Some(1), "{}", words_of(&output));
            let complaint = complaint_of(&output);
            assert!(complaint.contains("no servers that can be used"), "{complaint}");
            scene.assert_untouched();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_offers_no_encryption_is_not_used() {
    let scene = Scene::new().await;
    scene.mail.inject(Protocol::Imap, "STARTTLS", Fault::Reply("a1 BAD no".into()), When::Always);
    let text = String::from_utf8(scene.file()).unwrap();
    scene.publish_file(Page::Content(text.clone().into_bytes()));
    let (found, complaint) = scene.discover().await;
    assert!(complaint.contains("IMAP") && complaint.contains("STARTTLS"), "{complaint}");
    let plain = text.replace("STARTTLS", "plain");
    scene.publish_file(Page::Content(plain.into_bytes()));
    let (plain, _) = scene.discover().await;
    assert!(
        servers(&plain).iter().all(|server| server["usable"] == false && server["tls"] == "none")
    );
    assert!(servers(&found).iter().any(|server| server["usable"] == true));
    scene.assert_untouched();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_without_mail_is_explained() {
    let scene = Scene::new().await;
    scene.dns.mx("null.test", 0, ".");
    scene.dns.address_of("web.test", "192.0.2.1");
    scene.dns.fail("lame.test", DnsFault::ServFail);
    scene.dns.fail("refused.test", DnsFault::Refused);
    scene.dns.fail("silent.test", DnsFault::Silent);
    scene.dns.fail("referral.test", DnsFault::Referral);
    scene.dns.mx("proton.test", 10, "mail.protonmail.ch.");
    for (address, code, expected) in [
        ("anna", 2, "it has no \"@\""),
        ("anna@", 2, "the domain after \"@\" is missing"),
        ("@mailqos.test", 2, "the name before \"@\" is missing"),
        ("anna@[192.0.2.1]", 2, "name the server with --address"),
        ("anna@mail qos.test", 2, "not a valid host name"),
        ("anna@nowhere.test", 1, "the domain nowhere.test does not exist"),
        ("anna@null.test", 1, "accepts no mail (null MX, RFC 7505)"),
        ("anna@web.test", 1, "web.test has no mail exchanger"),
        ("anna@lame.test", 1, "the name server can't answer"),
        ("anna@refused.test", 1, "the name server can't answer"),
        ("anna@silent.test", 1, "the name server did not answer"),
        ("anna@referral.test", 1, "referral.test"),
        ("anna@proton.test", 1, "only through its Bridge"),
        ("anna@mailqos.test", 1, "mailqos.test names no servers for mail clients"),
        ("anna@bücher.nowhere.test", 1, "xn--bcher-kva.nowhere.test does not exist"),
    ] {
        let output = scene.run(&["init", address, "--yes"]).await;
        let complaint = complaint_of(&output);
        assert_eq!(output.status.code(), Some(code), "{address}: {complaint}");
        assert!(complaint.contains(expected), "{address}: {complaint}");
        scene.assert_untouched();
    }
    let output = scene.run(&["init", ANNA, "--yes", "--offline"]).await;
    assert!(complaint_of(&output).contains("with --offline"), "{}", words_of(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn wildcards_are_ignored_and_aliases_and_long_answers_are_not() {
    let scene = Scene::new().await;
    scene.dns.srv("*.mailqos.test", 0, scene.mail.imaps_port(), "localhost.");
    let (found, _) = scene.discover().await;
    assert!(servers(&found).is_empty(), "{found:#}");
    assert!(lookup(&found, "SRV _imaps")["result"].as_str().unwrap().contains("wildcard"));

    let scene = Scene::new().await;
    let (smtps, imaps) = (scene.mail.smtps_port(), scene.mail.imaps_port());
    scene.dns.cname("_imaps._tcp.mailqos.test", "services.hoster.test");
    scene.dns.srv("services.hoster.test", 10, 1, "localhost.");
    scene.dns.srv("services.hoster.test", 0, imaps, "LOCALHOST.");
    scene.dns.srv("_submissions._tcp.mailqos.test", 0, smtps, "localhost.");
    scene.dns.fail("_submissions._tcp.mailqos.test", DnsFault::Truncated);
    let (found, complaint) = scene.discover().await;
    assert!(complaint.contains("--accept-other-domain"), "{complaint} {found:#}");
    let result = lookup(&found, "SRV _imaps")["result"].as_str().unwrap().to_owned();
    assert_eq!(result, format!("localhost:{imaps}, localhost:1"));
    assert_eq!(lookup(&found, "SRV _submissions")["result"], format!("localhost:{smtps}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_behind_the_exchangers_is_recognised() {
    let scene = Scene::new().await;
    scene.dns.mx("google.mailqos.test", 1, "ASPMX.L.GOOGLE.COM.");
    scene.dns.mx("filter.mailqos.test", 1, "mxa-0001.gslb.pphosted.com.");
    scene.dns.cname("autodiscover.filter.mailqos.test", "autodiscover.outlook.com.");
    for (domain, server, evidence) in [
        ("google.mailqos.test", "imap.gmail.com", "Google Workspace"),
        ("filter.mailqos.test", "outlook.office365.com", "autodiscover.outlook.com"),
    ] {
        let address = format!("anna@{domain}");
        let output = scene.run(&["discover", &address, "--format", "json"]).await;
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        let named = servers(&found).into_iter().find(|known| known["server"] == server).cloned();
        let named = named.unwrap_or_else(|| panic!("{found:#}"));
        assert!(named["source"].as_str().unwrap().contains(evidence), "{named:#}");
        assert_eq!(named["needs_consent"], false);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_keep_silent_end_the_discovery() {
    let scene = Scene::new().await;
    // They accept connections and never say anything.
    let mut silent = Vec::new();
    for label in ["_imaps", "_imap", "_pop3s", "_submissions", "_submission"] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        scene.dns.srv(&format!("{label}._tcp.mailqos.test"), 0, port, "localhost.");
        silent.push(listener);
    }
    let (found, complaint) = scene.discover().await;
    let servers = servers(&found);
    assert_eq!(servers.len(), 5);
    for server in servers {
        assert!(server["reason"].as_str().unwrap().contains("within 4"), "{server:#}");
    }
    assert!(complaint.contains("no servers that can be used"), "{complaint}");
}
