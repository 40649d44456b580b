//! The web console: the table `console`.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use super::{
    Problems, Table,
    key::{Defaulted, Optional, key},
    reference::Key,
    single_sign_on::{self, SingleSignOn},
};

keys! {
    CONSOLE: ConsoleKeys {
        /// The address and port to listen on.
        listen: Defaulted<String> = key().default("\"127.0.0.1:8025\"");
        /// The address at which people open the console, if it is behind a reverse proxy:
        /// `https://mailqos.example.com`. Requests under other names are then refused.
        url: Optional<String> = key().otherwise("the address of `listen`");
        /// A PEM file with the certificate chain; read again when it changes.
        certificate: Optional<PathBuf> = key();
        /// A PEM file with the private key of `certificate`.
        key: Optional<PathBuf> = key();
        /// Allow connections without TLS from other machines.
        allow_plaintext: Defaulted<bool> = key().default("false");
        /// IP addresses of reverse proxies whose `X-Forwarded-For` names the client.
        trusted_proxies: Defaulted<Vec<String>> = key().default("[]");
        /// Sign-in at an identity provider (OpenID Connect).
        oidc: Key = Key::table(&["console.oidc"]).otherwise("users have passwords");
        /// Sign-in by a reverse proxy that names the user in a header field.
        proxy_auth: Key = Key::table(&["console.proxy_auth"]).otherwise("users have passwords");
    }
}

/// Options of the web console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsoleOptions {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// Address at which people open it, without a final slash, such as
    /// `https://mailqos.example.com`.
    pub url: Option<String>,
    /// PEM file of the certificate chain.
    pub certificate: Option<PathBuf>,
    /// PEM file of the private key.
    pub key: Option<PathBuf>,
    /// Whether other machines may connect without TLS.
    pub allow_plaintext: bool,
    /// Reverse proxies whose `X-Forwarded-For` names the client.
    pub trusted_proxies: Vec<IpAddr>,
    /// How users sign in without a password of the console.
    pub single_sign_on: Option<SingleSignOn>,
}

/// Port of the console.
const PORT: u16 = 8025;

impl Default for ConsoleOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)),
            url: None,
            certificate: None,
            key: None,
            allow_plaintext: false,
            trusted_proxies: Vec::new(),
            single_sign_on: None,
        }
    }
}

/// Reads the table, if there is one.
pub(super) fn read(
    root: &mut Table,
    name: &Key,
    plaintext: bool,
    problems: &mut Problems,
) -> ConsoleOptions {
    let mut table = root.table_or_empty(name, problems);
    let usual = ConsoleOptions::default();
    let text = table.read(&CONSOLE.listen, problems);
    let listen =
        text.parse().unwrap_or_else(|_| {
            let reason = format!("{text:?} is not a valid address with a port");
            problems.push(table.problem(&CONSOLE.listen, reason, "not an address").help(
                "write an IP address and a port, such as \"127.0.0.1:8025\" or \"[::]:8025\"",
            ));
            usual.listen
        });
    let url = table.read(&CONSOLE.url, problems).and_then(|text| {
        let plain = text.trim_end_matches('/');
        let host = plain.strip_prefix("https://").or_else(|| plain.strip_prefix("http://"));
        let is_host = |host: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
            !host.is_empty() && host.chars().all(allowed)
        };
        if host.is_some_and(is_host) {
            return Some(plain.to_owned());
        }
        let reason = format!("{text:?} is not a valid address of a web site");
        problems.push(
            table
                .problem(&CONSOLE.url, reason, "not an address")
                .help("write scheme and host, such as \"https://mailqos.example.com\""),
        );
        None
    });
    let certificate = table.read(&CONSOLE.certificate, problems);
    let key = table.read(&CONSOLE.key, problems);
    if certificate.is_some() && key.is_none() {
        problems.push(table.missing(&CONSOLE.key, "the private key of the certificate"));
    }
    if key.is_some() && certificate.is_none() {
        problems.push(table.missing(&CONSOLE.certificate, "the certificate of the key"));
    }
    let allow_plaintext = table.read(&CONSOLE.allow_plaintext, problems);
    let mut trusted_proxies = Vec::new();
    for text in table.read(&CONSOLE.trusted_proxies, problems) {
        match text.parse() {
            Ok(address) => trusted_proxies.push(address),
            Err(_) => problems.push(
                table
                    .problem(
                        &CONSOLE.trusted_proxies,
                        format!("{text:?} is not a valid IP address"),
                        "not an address",
                    )
                    .help("write the IP address of the proxy, such as \"127.0.0.1\""),
            ),
        }
    }
    let single_sign_on = single_sign_on::read(
        &mut table,
        (&CONSOLE.oidc, &CONSOLE.proxy_auth),
        (!trusted_proxies.is_empty(), plaintext),
        problems,
    );
    table.finish(problems);
    ConsoleOptions {
        listen,
        url,
        certificate,
        key,
        allow_plaintext,
        trusted_proxies,
        single_sign_on,
    }
}

#[cfg(test)]
mod tests {
    use crate::of_text;

    fn problems(console: &str) -> String {
        let text = format!("site = \"here\"\n[console]\n{console}\n");
        let read = of_text("mailqos.toml".as_ref(), text);
        read.err().map(|problems| problems.render(false)).unwrap_or_default()
    }

    #[test]
    fn invalid_options_are_reported_with_their_remedy() {
        for (text, words) in [
            ("listen = \"8025\"", "is not a valid address with a port"),
            (
                "[console.proxy_auth]\nuser_header = \"Remote-User\"\ngroups_header = \"G\"\n\
                 groups = [{ group = \"*\" }]",
                "anyone could send the header fields",
            ),
            (
                "[console.oidc]\nissuer = \"http://login.example.com\"\nclient_id = \"a\"\n\
                 groups = [{ group = \"*\" }]",
                "needs an address with https://",
            ),
            ("[console.oidc]\nissuer = \"https://login.example.com\"\nclient_id = \"a\"", "groups"),
            (
                "trusted_proxies = [\"127.0.0.1\"]\n[console.oidc]\nissuer = \"https://a.example\"\n\
                 client_id = \"a\"\ngroups = [{ group = \"*\" }]\n[console.proxy_auth]\n\
                 user_header = \"U\"\ngroups_header = \"G\"\ngroups = [{ group = \"*\" }]",
                "not with both",
            ),
            ("url = \"mailqos.example.com\"", "is not a valid address of a web site"),
            ("url = \"https://a.example/path\"", "is not a valid address of a web site"),
            ("certificate = \"c.pem\"", "key"),
            ("key = \"k.pem\"", "certificate"),
            ("trusted_proxies = [\"proxy\"]", "is not a valid IP address"),
        ] {
            let found = problems(text);
            assert!(found.contains(words), "{text}: {found}");
        }
        assert_eq!(problems("listen = \"[::1]:80\"\nurl = \"https://a.example:8443/\""), "");
    }
}
