//! Discovery at well-known ports: servers at common names such as `imap.mailqos.test`, ports under the
//! wrong label of an SRV record, and what is found there but can't be used. A preloaded library gives
//! the program these names and ports.

#![cfg(target_os = "linux")]
#![allow(clippy::expect_used, missing_docs)]

use std::{fmt::Write as _, path::PathBuf, process::Output};

use mailqos_tests::{
    binaries::command,
    servers::{
        Certificate, DnsServer, Fault, MailServer, Options, PASSWORD, Page, Protocol, Web, When,
    },
    setting::{complaint_of, words_of},
    shims,
};
use serde_json::Value;

const DOMAIN: &str = "mailqos.test";
const ANNA: &str = "anna@mailqos.test";

/// Mail servers at well-known ports of some names, a name server, web sites and a folder.
struct Scene {
    folder: tempfile::TempDir,
    library: PathBuf,
    mail: MailServer,
    dns: DnsServer,
    web: Web,
    names: Vec<String>,
    ports: Vec<(u16, u16)>,
}

impl Scene {
    /// The domain's servers are at these labels below it, and listen on these ports only.
    async fn new(labels: &[&str], ports: &[u16]) -> Self {
        let users = vec![(ANNA.to_owned(), PASSWORD.to_owned())];
        let mail = MailServer::start(Options { users, ..Options::default() }).await.expect("mail");
        let folder = tempfile::tempdir().expect("a folder");
        let library = shims::build("names", folder.path()).expect("a library to preload");
        std::fs::write(folder.path().join("ca.pem"), mail.authority().pem()).expect("written");
        let dns = DnsServer::start().await.expect("a name server");
        dns.mx(DOMAIN, 10, "mx.elsewhere.test.");
        let names: Vec<String> = labels.iter().map(|label| format!("{label}.{DOMAIN}")).collect();
        for name in &names {
            dns.address_of(name, "127.0.0.1");
        }
        let port = |known: u16| match known {
            465 => mail.smtps_port(),
            587 => mail.smtp_port(),
            993 => mail.imaps_port(),
            143 => mail.imap_port(),
            995 => mail.pop3s_port(),
            _ => mail.pop3_port(),
        };
        let ports = ports.iter().map(|known| (*known, port(*known))).collect();
        let web = Web::start().await.expect("web sites");
        Self { folder, library, mail, dns, web, names, ports }
    }

    /// All servers show this certificate.
    fn certify(&self, certificate: Certificate) {
        for protocol in [Protocol::Smtp, Protocol::Imap, Protocol::Pop3] {
            let fault = Fault::Certificate(certificate);
            self.mail.inject(protocol, "TLS", fault, When::Always);
        }
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        let mut ports = String::new();
        for (known, real) in &self.ports {
            write!(ports, "{known}={real} ").expect("a text");
        }
        let mut command = command("mailqos-probe");
        command
            .args(arguments)
            .args(["--dns", &self.dns.address().to_string(), "--ca-file", "ca.pem"])
            .current_dir(self.folder.path())
            .env("LD_PRELOAD", &self.library)
            .env("MAILQOS_NAMES", self.names.join(" "))
            .env("MAILQOS_PORTS", ports)
            .env("HTTPS_PROXY", self.web.proxy())
            .env("PROBE_PASSWORD", PASSWORD)
            .env_remove("NO_PROXY")
            .env_remove("RUST_LOG");
        tokio::process::Command::from(command).output().await.expect("an output")
    }

    async fn discover(&self) -> (Value, String) {
        let output = self.run(&["discover", ANNA, "--format", "json"]).await;
        let found = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", words_of(&output)));
        (found, complaint_of(&output))
    }

    async fn init(&self) -> Output {
        let arguments = ["init", ANNA, "--yes", "--password-env", "PROBE_PASSWORD"];
        self.run(&[&arguments[..], &["--check-interval", "200ms"]].concat()).await
    }

    fn config(&self) -> Option<String> {
        std::fs::read_to_string(self.folder.path().join("mailqos.toml")).ok()
    }
}

/// Asserts that a server was chosen, and returns where it was found.
fn chosen<'found>(found: &'found Value, server: &str, port: u16) -> &'found Value {
    let servers = found["servers"].as_array().expect("servers");
    let is = |it: &&Value| it["server"] == server && it["port"] == port && it["chosen"] == true;
    servers.iter().find(is).unwrap_or_else(|| panic!("{server}:{port} is not chosen in {found:#}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_at_common_names_are_found_and_set_up_without_consent() {
    let scene = Scene::new(&["imap", "smtp", "mail"], &[465, 993, 995]).await;
    scene.certify(Certificate::Domain);
    let (found, _) = scene.discover().await;
    for (server, port) in [("smtp.mailqos.test", 465), ("imap.mailqos.test", 993)] {
        let server = chosen(&found, server, port);
        assert_eq!((&server["tls"], &server["needs_consent"]), (&"implicit".into(), &false.into()));
        assert!(server["source"].as_str().expect("a source").contains("common name"), "{server}");
    }
    let output = scene.init().await;
    let words = words_of(&output);
    assert!(output.status.success() && words.contains("✓ ok: round trip"), "{words}");
    let config = scene.config().expect("a configuration");
    for part in ["address = \"smtp.mailqos.test\"", "server = \"imap.mailqos.test\", port = 993"] {
        assert!(config.contains(part), "no {part} in\n{config}");
    }
    assert!(!words.contains(PASSWORD) && !config.contains(PASSWORD));
}

/// Many domains have all services on one host, and older ones only STARTTLS and POP3.
#[tokio::test(flavor = "multi_thread")]
async fn one_host_with_starttls_and_pop3_is_enough() {
    let scene = Scene::new(&["mail"], &[587, 110]).await;
    scene.certify(Certificate::Domain);
    let output = scene.init().await;
    let words = words_of(&output);
    assert!(output.status.success() && words.contains("✓ ok: round trip"), "{words}");
    let config = scene.config().expect("a configuration");
    for part in
        ["address = \"mail.mailqos.test\"", "port = 587", "protocol = \"pop3\"", "port = 110"]
    {
        assert!(config.contains(part), "no {part} in\n{config}");
    }
}

/// OfflineIMAP/offlineimap#171, Oxygem/Kanmail#89: a hoster's server answers at the customer's name with
/// the hoster's certificate. It is not used, and the explanation names the certificate instead of
/// claiming that no server answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_another_name_is_explained_and_no_password_is_sent() {
    let scene = Scene::new(&["mail"], &[465, 993]).await;
    scene.certify(Certificate::WrongName);
    let output = scene.init().await;
    let complaint = complaint_of(&output);
    assert_eq!(output.status.code(), Some(1), "{complaint}");
    for part in ["mail.mailqos.test:993", "not for the name mail.mailqos.test", "other.example.net"]
    {
        assert!(complaint.contains(part), "no {part} in {complaint}");
    }
    assert!(complaint.contains("--address"), "{complaint}");
    assert_eq!(scene.config(), None);
    for protocol in [Protocol::Smtp, Protocol::Imap] {
        let commands = scene.mail.commands(protocol);
        let login = commands.iter().find(|line| line.contains("AUTH") || line.contains("LOGIN"));
        assert_eq!(login, None, "{protocol:?}");
    }
}

/// hestiacp/hestiacp#2724: all names lead to the server, but its certificate is for one of them.
#[tokio::test(flavor = "multi_thread")]
async fn the_name_that_the_certificate_is_for_is_chosen() {
    let scene = Scene::new(&["imap", "smtp", "mail"], &[465, 993]).await;
    scene.certify(Certificate::MailHost);
    let (found, _) = scene.discover().await;
    for port in [465, 993] {
        chosen(&found, "mail.mailqos.test", port);
    }
    // What can't be used is of no interest next to what can.
    assert_eq!(found["servers"].as_array().map(Vec::len), Some(2), "{found:#}");
}

/// shukiv/jabali-panel#29: a file with an SMTP server without encryption, which is not used.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_file_names_without_encryption_is_replaced_by_a_common_name() {
    let scene = Scene::new(&["mail"], &[143, 465, 25]).await;
    scene.certify(Certificate::Domain);
    let host = format!("autoconfig.{DOMAIN}");
    scene.web.host(&host, scene.mail.authority(), &host);
    let server = |tag: &str, kind: &str, port: u16, tls: &str| {
        format!(
            "<{tag} type=\"{kind}\"><hostname>mail.%EMAILDOMAIN%</hostname><port>{port}</port>\
             <socketType>{tls}</socketType><username>%EMAILADDRESS%</username></{tag}>"
        )
    };
    let file = format!(
        "<clientConfig version=\"1.1\"><emailProvider id=\"{DOMAIN}\">{}{}</emailProvider></clientConfig>",
        server("incomingServer", "imap", 143, "STARTTLS"),
        server("outgoingServer", "smtp", 25, "plain"),
    );
    let page = Page::Content(file.into_bytes());
    scene.web.page(&format!("{host}/mail/config-v1.1.xml"), page);
    let (found, _) = scene.discover().await;
    let imap = chosen(&found, "mail.mailqos.test", 143);
    assert!(imap["source"].as_str().expect("a source").contains("autoconfig"), "{imap}");
    let smtp = chosen(&found, "mail.mailqos.test", 465);
    assert!(smtp["source"].as_str().expect("a source").contains("common name"), "{smtp}");
}

/// vedetta-com/caesonia#248: port 465 under the label of STARTTLS.
#[tokio::test(flavor = "multi_thread")]
async fn a_well_known_port_determines_the_encryption_whatever_the_label() {
    let scene = Scene::new(&["client"], &[465, 143]).await;
    scene.certify(Certificate::Domain);
    scene.dns.srv("_submission._tcp.mailqos.test", 0, 465, "client.mailqos.test.");
    scene.dns.srv("_submissions._tcp.mailqos.test", 0, 0, ".");
    scene.dns.srv("_imaps._tcp.mailqos.test", 0, 143, "client.mailqos.test.");
    let (found, _) = scene.discover().await;
    assert_eq!(chosen(&found, "client.mailqos.test", 465)["tls"], "implicit");
    assert_eq!(chosen(&found, "client.mailqos.test", 143)["tls"], "starttls");
}
