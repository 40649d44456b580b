//! Addresses of Spark Connect servers: `sc://host:15002/;use_ssl=true;user_id=NAME`
//! (<https://github.com/apache/spark/blob/master/sql/connect/docs/client-connection-string.md>).

use std::net::IpAddr;

use crate::percent::percent_decoded;

/// Port of an address without one.
const DEFAULT_PORT: u16 = 15002;
/// Largest length of an address in bytes.
const MAX_ADDRESS: usize = 4096;

/// The address of a server. It contains no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Host name or IP address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// The user that the server shows for the session.
    pub user: Option<String>,
}

/// Why an address can't be used. It never contains a value of an option.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is not an address of Spark Connect.
    #[error("{0}; an address looks like sc://spark.example.com:15002/;use_ssl=true")]
    Invalid(String),
    /// It contains a secret.
    #[error(
        "the address contains a token, which other users can see in the list of processes; set token in [engine] or \
         the environment variable SPARK_CONNECT_AUTHENTICATE_TOKEN"
    )]
    Secret,
    /// Statements would be sent in plaintext.
    #[error(
        "the connection to {0} would not be encrypted, and anyone on the network path could run commands on the \
         cluster; add ;use_ssl=true, or tunnel the port to this machine"
    )]
    Plaintext(String),
}

impl Address {
    /// Parses an address.
    ///
    /// # Errors
    /// It is not an address, contains a secret, or leads to another machine without TLS.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let invalid = |reason: &str| AddressError::Invalid(reason.to_owned());
        if text.len() > MAX_ADDRESS {
            return Err(invalid("the address is too long"));
        }
        let rest = text
            .strip_prefix("sc://")
            .ok_or_else(|| invalid("an address of Spark Connect begins with sc://"))?;
        let (authority, options) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.contains(';') {
            return Err(invalid("options begin with /; after the port"));
        }
        if !options.is_empty() && !options.starts_with(';') {
            return Err(invalid("an address has no path"));
        }
        let (host, port) = host_and_port(authority)?;
        let mut address = Self { host: host.to_owned(), port, tls: false, user: None };
        for option in options.split(';').filter(|option| !option.is_empty()) {
            // A value may contain an equals sign (apache/spark-connect-swift#429).
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            match (name, value) {
                ("token", _) => return Err(AddressError::Secret),
                ("use_ssl", "true") => address.tls = true,
                ("use_ssl", "false") => address.tls = false,
                ("use_ssl", _) => return Err(invalid("use_ssl is true or false")),
                ("user_id", "") => return Err(invalid("user_id has no value")),
                ("user_id", user) => address.user = Some(decoded(user)?),
                _ => {
                    // The name only: the value may be a secret.
                    let name: String = name.chars().filter(|c| !c.is_control()).take(32).collect();
                    return Err(AddressError::Invalid(format!(
                        "unknown option {name:?}, only use_ssl and user_id are supported"
                    )));
                }
            }
        }
        if !address.tls && !address.is_loopback() {
            return Err(AddressError::Plaintext(address.host));
        }
        Ok(address)
    }

    /// Returns whether the server is on this machine.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Returns host and port, as in a URL.
    pub fn server(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// Splits a host and a port; an IPv6 address is in brackets.
fn host_and_port(authority: &str) -> Result<(&str, u16), AddressError> {
    let invalid = |reason: &str| AddressError::Invalid(reason.to_owned());
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) =
            rest.split_once(']').ok_or_else(|| invalid("the bracket is not closed"))?;
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(invalid("only an IPv6 address is in brackets"));
        }
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return Err(invalid("there is text after the bracket")),
        }
    } else {
        authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)))
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
    if host.is_empty() || !host.chars().all(is_name) {
        return Err(invalid("the host is missing or contains invalid characters"));
    }
    let port = match port {
        None => DEFAULT_PORT,
        Some(text) => text
            .parse()
            .ok()
            .filter(|port| *port != 0 && text.bytes().all(|byte| byte.is_ascii_digit()))
            .ok_or_else(|| invalid("the port is not a number from 1 to 65535"))?,
    };
    Ok((host, port))
}

/// Decodes a percent-encoded value.
fn decoded(value: &str) -> Result<String, AddressError> {
    let invalid = || AddressError::Invalid("the value of user_id is not valid".to_owned());
    let text = String::from_utf8(percent_decoded(value)).map_err(|_| invalid())?;
    if text.chars().any(char::is_control) { Err(invalid()) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_are_parsed() {
        let of = |text: &str| {
            Address::parse(text).map(|it| (it.server(), it.tls, it.user.unwrap_or_default()))
        };
        let plain = |server: &str| Ok((server.to_owned(), false, String::new()));
        assert_eq!(of("sc://localhost"), plain("localhost:15002"));
        assert_eq!(of("sc://127.0.0.1:15004/"), plain("127.0.0.1:15004"));
        assert_eq!(of("sc://[::1]:7/;user_id=a%20b"), Ok(("[::1]:7".into(), false, "a b".into())));
        assert_eq!(of("sc://[::1]"), plain("[::1]:15002"));
        let tls = Ok(("spark.example.com:443".to_owned(), true, "a=b==".to_owned()));
        assert_eq!(of("sc://spark.example.com:443/;use_ssl=true;user_id=a=b=="), tls);
    }

    /// apache/spark-connect-swift#429: values with an equals sign were cut, options without a value
    /// ended the program, and a warning printed a secret.
    #[test]
    fn unsafe_and_unclear_addresses_are_refused_without_their_secrets() {
        for wrong in [
            "sc://spark.example.com:15002",
            "sc://10.0.0.1/",
            "sc://0.0.0.0/",
            "sc://[::]/",
            "sc://localhost.example.com/",
            "sc://127.0.0.1.example.com/",
            "sc://127.0.0.1@example.com/",
            "sc://spark.example.com/;use_ssl=false",
            "sc://spark.example.com/;use_ssl=true;use_ssl=false",
            "sc://spark.example.com/;use_ssl=TRUE",
            "sc://spark.example.com/;use_ssl=true;token=hunter2",
            "sc://spark.example.com/;use_ssl=true;token",
            "sc://spark.example.com/;use_ssl=true;password=hunter2",
            "sc://user:hunter2@spark.example.com/;use_ssl=true",
            "sc://spark.example.com:15002;use_ssl=true;token=hunter2",
            "sc://localhost:99999",
            "sc://localhost:0",
            "sc://localhost:+1",
            "sc://localhost/;user_id=",
            "sc://localhost/;user_id=%0d%0a",
            "sc://localhost/path",
            "sc://",
            "sc:///",
            "sc://[::1",
            "sc://[localhost]",
            "http://localhost",
            "local[2]",
            "",
        ] {
            let error = Address::parse(wrong).expect_err(wrong).to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "(sc://)?[\\PC;=/:%\\[\\]]{0,60}") {
            if let Ok(address) = Address::parse(&text) {
                prop_assert!(address.tls || address.is_loopback());
                let again = format!("sc://{}/;use_ssl={}", address.server(), address.tls);
                let again = Address::parse(&again).expect("its own form");
                prop_assert_eq!((again.host, again.port), (address.host, address.port));
            }
        }
    }
}
