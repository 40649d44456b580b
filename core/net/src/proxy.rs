//! HTTP proxies: selects the proxy for a request, and opens a tunnel through it (CONNECT, RFC 9110,
//! section 9.3.6).
//!
//! The variables are those of curl, wget and Go: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and
//! `NO_PROXY`, in upper or lower case.

use std::net::IpAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::Uri;
use mailqos_base::{Secret, one_line};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::place::{HttpError, Place};

/// Maximum size of a proxy's response head in bytes.
const MAX_ANSWER: usize = 16 * 1024;

/// A proxy and its credentials. It has no `Debug`, because it contains a password.
#[derive(Clone)]
pub(crate) struct Proxy {
    /// Host and port of the proxy.
    pub(crate) place: Place,
    /// The value of `Proxy-Authorization`.
    pub(crate) authorization: Option<Secret>,
}

/// Returns the error for an invalid proxy address. The address is not shown, because it may contain
/// a password.
fn unusable(reason: &str) -> HttpError {
    HttpError::ProxyAddress(reason.to_owned())
}

impl Proxy {
    /// Parses `http://[USER:PASSWORD@]HOST[:PORT]`; `http://` may be omitted.
    pub(crate) fn parse(text: &str) -> Result<Self, HttpError> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            "socks" | "socks4" | "socks4a" | "socks5" | "socks5h" => {
                return Err(unusable("SOCKS is not supported; name an HTTP proxy"));
            }
            _ => return Err(unusable("it must begin with http:// or https://")),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        // A password may contain an unescaped @: the host follows the last one.
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let uri: Uri = format!("{scheme}://{host}/")
            .parse()
            .map_err(|_| unusable("it contains no valid host and port"))?;
        let name = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        // The URI parser treats an invalid port as missing.
        let port_is_wrong = host.rsplit_once(':').is_some_and(|(before, port)| {
            (!before.contains(':') || before.ends_with(']')) && port.parse::<u16>().is_err()
        });
        if name.is_empty() || port_is_wrong {
            return Err(unusable("it contains no valid host and port"));
        }
        let authorization = user.map(|user| {
            let (user, password) = user.split_once(':').unwrap_or((user, ""));
            let mut login = decoded(user);
            login.push(b':');
            login.extend(decoded(password));
            Secret::new(format!("Basic {}", STANDARD.encode(login)))
        });
        Ok(Self {
            place: Place::new(tls, name, uri.port_u16().unwrap_or(if tls { 443 } else { 80 })),
            authorization,
        })
    }

    /// Returns the proxy that the environment sets for a server, if any.
    pub(crate) fn of_environment(place: &Place) -> Result<Option<Self>, HttpError> {
        Self::chosen(place, |name| std::env::var(name).ok())
    }

    fn chosen(
        place: &Place,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, HttpError> {
        let either = |name: &str| {
            [name.to_ascii_lowercase(), name.to_owned()]
                .iter()
                .find_map(|name| variable(name).filter(|value| !value.trim().is_empty()))
        };
        let own = if place.tls {
            either("HTTPS_PROXY")
        } else if variable("REQUEST_METHOD").is_some() {
            // In a CGI program HTTP_PROXY is the client's header field "Proxy" (CVE-2016-5385).
            variable("http_proxy")
        } else {
            either("HTTP_PROXY")
        };
        let Some(text) = own.or_else(|| either("ALL_PROXY")) else {
            return Ok(None);
        };
        Self::unless_exempt(&text, place, &either("NO_PROXY").unwrap_or_default())
    }

    /// Returns the proxy unless the server is this machine or matches a list like `NO_PROXY`.
    pub(crate) fn unless_exempt(
        address: &str,
        place: &Place,
        exempt: &str,
    ) -> Result<Option<Self>, HttpError> {
        if is_local(&place.host) || is_exempt(place, exempt) {
            return Ok(None);
        }
        Self::parse(address).map(Some)
    }

    fn failed(&self, reason: String) -> HttpError {
        HttpError::Proxy { proxy: self.place.server(), reason }
    }

    /// Returns the error for a status with which the proxy itself answered.
    pub(crate) fn refusal(&self, status: u16, text: &str) -> HttpError {
        let hint = match (status, &self.authorization) {
            (407, None) => {
                "; the proxy requires a user and a password: http://USER:PASSWORD@HOST:PORT"
            }
            (407, Some(_)) => "; check the proxy's user and password",
            (403, _) => "; the proxy does not allow connections to this server",
            _ => "",
        };
        let secrets: Vec<Secret> = self.authorization.iter().cloned().collect();
        let text = one_line(text, &secrets);
        let separator = if text.is_empty() { "" } else { " " };
        self.failed(format!("HTTP {status}{separator}{text}{hint}"))
    }

    /// Requests a tunnel to a server over a connection to the proxy.
    pub(crate) async fn tunnel<S>(&self, stream: &mut S, to: &Place) -> Result<(), HttpError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let broken = |error: std::io::Error| self.failed(error.to_string());
        let to = to.authority();
        let mut asked = format!(
            "CONNECT {to} HTTP/1.1\r\nHost: {to}\r\nUser-Agent: mailqos/{}\r\n",
            env!("CARGO_PKG_VERSION")
        );
        if let Some(login) = &self.authorization {
            asked.push_str(&format!("Proxy-Authorization: {}\r\n", login.expose()));
        }
        asked.push_str("\r\n");
        stream.write_all(asked.as_bytes()).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        let mut head = Vec::new();
        // Read byte by byte: the bytes after the head belong to the server, and the head is short.
        while !head.ends_with(b"\r\n\r\n") && !head.ends_with(b"\n\n") {
            if head.len() >= MAX_ANSWER {
                return Err(self.failed(format!("its reply is longer than {MAX_ANSWER} bytes")));
            }
            let byte = stream.read_u8().await.map_err(|error| match error.kind() {
                std::io::ErrorKind::UnexpectedEof => {
                    self.failed("it closed the connection".to_owned())
                }
                _ => broken(error),
            })?;
            head.push(byte);
        }
        let head = String::from_utf8_lossy(&head);
        let line = head.lines().next().unwrap_or_default();
        let (version, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (status, text) = rest.split_once(' ').unwrap_or((rest, ""));
        match status.parse::<u16>() {
            Ok(200..=299) if version.starts_with("HTTP/") => Ok(()),
            Ok(status) if version.starts_with("HTTP/") => Err(self.refusal(status, text)),
            _ => Err(self.failed("it did not send a valid HTTP proxy reply".to_owned())),
        }
    }
}

/// Returns whether a host is this machine, which is never reached through a proxy (as in Go).
fn is_local(host: &str) -> bool {
    host.trim_end_matches('.').eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Returns whether `NO_PROXY` matches the server: names including their subdomains, addresses and
/// networks, each with an optional port, or `*` for all servers.
fn is_exempt(place: &Place, list: &str) -> bool {
    let host = place.host.trim_end_matches('.').to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    let entries = list.split([',', ' ', '\t']).map(|entry| entry.trim().to_ascii_lowercase());
    entries.filter(|entry| !entry.is_empty()).any(|entry| {
        if entry == "*" {
            return true;
        }
        if let Some(address) = address {
            if let Some((network, bits)) = entry.split_once('/') {
                return is_within(address, network.trim_matches(['[', ']']), bits);
            }
            if let Ok(listed) = entry.trim_matches(['[', ']']).parse::<IpAddr>() {
                return listed == address;
            }
        }
        let (name, port) = match entry.rsplit_once(':') {
            Some((name, port)) if port.parse::<u16>().is_ok() => (name, port.parse::<u16>().ok()),
            _ => (entry.as_str(), None),
        };
        if port.is_some_and(|port| port != place.port) {
            return false;
        }
        if let Some(address) = address {
            return name.trim_matches(['[', ']']).parse() == Ok(address);
        }
        let name = name.trim_start_matches('*').trim_start_matches('.').trim_end_matches('.');
        !name.is_empty()
            && (host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')))
    })
}

fn is_within(address: IpAddr, network: &str, bits: &str) -> bool {
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else {
        return false;
    };
    let (one, other, width) = match (address, network) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            (u128::from(u32::from(one)), u128::from(u32::from(other)), 32)
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => (u128::from(one), u128::from(other), 128),
        _ => return false,
    };
    bits <= width && (one ^ other).checked_shr(width - bits).unwrap_or(0) == 0
}

/// Decodes percent escapes; invalid escapes stay unchanged.
fn decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = bytes
            .get(at + 1..at + 3)
            .filter(|digits| bytes[at] == b'%' && digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(escape.unwrap_or(bytes[at]));
        at += if escape.is_some() { 3 } else { 1 };
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(url: &str, variables: &[(&str, &str)]) -> Option<String> {
        let place = Place::parse(url).expect("an address");
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let proxy = Proxy::chosen(&place, variable).expect("a proxy that can be used");
        proxy.map(|proxy| proxy.place.server())
    }

    #[test]
    fn the_environments_proxy_depends_on_protocol_and_exceptions() {
        let both = [("HTTPS_PROXY", "http://s:1"), ("http_proxy", "h:2"), ("NO_PROXY", "")];
        assert_eq!(chosen("https://a.example/", &both).as_deref(), Some("s:1"));
        assert_eq!(chosen("http://a.example/", &both).as_deref(), Some("h:2"));
        assert_eq!(chosen("https://localhost/", &both), None);
        assert_eq!(chosen("https://127.0.0.9/", &both), None);
        assert_eq!(chosen("https://[::1]/", &both), None);
        assert_eq!(chosen("https://a.example/", &[("all_proxy", "x:3")]).as_deref(), Some("x:3"));
        assert_eq!(chosen("https://a.example/", &[("HTTPS_PROXY", " ")]), None);
        let cgi = [("HTTP_PROXY", "evil:1"), ("REQUEST_METHOD", "GET")];
        assert_eq!(chosen("http://a.example/", &cgi), None);
        for (list, url, direct) in [
            ("example.com", "https://example.com/", true),
            ("example.com", "https://a.example.com/", true),
            (".example.com", "https://a.example.com/", true),
            ("*.example.com", "https://a.example.com/", true),
            ("example.com", "https://badexample.com/", false),
            ("example.com:8443", "https://example.com/", false),
            ("example.com:443", "https://example.com/", true),
            ("EXAMPLE.com, other", "https://Example.COM./", true),
            ("a b.example", "https://b.example/", true),
            ("*", "https://b.example/", true),
            ("10.0.0.0/8", "https://10.200.3.4/", true),
            ("10.0.0.0/8", "https://11.0.0.1/", false),
            ("10.0.0.0/99", "https://10.0.0.1/", false),
            ("0.0.0.0/0", "https://10.0.0.1/", true),
            ("192.0.2.7", "https://192.0.2.7/", true),
            ("192.0.2.7:8080", "https://192.0.2.7:8080/", true),
            ("192.0.2.7:8080", "https://192.0.2.7/", false),
            ("2001:db8::/32", "https://[2001:db8::5]/", true),
            ("[2001:db8::5]:443", "https://[2001:db8::5]/", true),
            ("2001:db8::5", "https://[2001:db8::6]/", false),
        ] {
            let found = chosen(url, &[("https_proxy", "p:1"), ("no_proxy", list)]);
            assert_eq!(found.is_none(), direct, "{list} {url}");
        }
    }

    #[test]
    fn a_proxys_login_is_parsed_and_never_shown() {
        let read = |text: &str| {
            let proxy = Proxy::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let login = proxy.authorization.map(|login| login.expose().to_owned());
            (proxy.place.tls, proxy.place.server(), login)
        };
        assert_eq!(read("proxy.example"), (false, "proxy.example:80".into(), None));
        assert_eq!(read("https://proxy.example/"), (true, "proxy.example:443".into(), None));
        let basic = |login: &str| Some(format!("Basic {}", STANDARD.encode(login)));
        assert_eq!(
            read("http://me:p%40ss@word@proxy.example:3128"),
            (false, "proxy.example:3128".into(), basic("me:p@ss@word"))
        );
        assert_eq!(read("DOM%5Cme@[::1]:8080").2, basic("DOM\\me:"));
        for wrong in [
            "",
            "http://",
            "socks5://me:hunter2@h:1",
            "ftp://me:hunter2@h",
            "http://me:hunter2@h:port",
            "http://me:hunter2@h:99999",
            "http://me:hunter2@",
        ] {
            let error = Proxy::parse(wrong).err().unwrap_or_else(|| panic!("{wrong}")).to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
