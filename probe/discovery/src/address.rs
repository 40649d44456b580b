//! E-mail addresses as people type them.

use idna::{
    AsciiDenyList,
    uts46::{DnsLength, Hyphens, Uts46},
};

/// The longest address (RFC 5321, section 4.5.3.1.3, without the angle brackets).
const MAX_ADDRESS: usize = 254;

/// An e-mail address with a domain that DNS can be asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailAddress {
    local: String,
    domain: String,
}

/// Reasons why a text is not an address with a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no `@`.
    #[error("it has no \"@\"; write it as name@example.com")]
    NoAt,
    /// Nothing precedes the `@`.
    #[error("the name before \"@\" is missing")]
    NoName,
    /// Nothing follows the `@`.
    #[error("the domain after \"@\" is missing")]
    NoDomain,
    /// The domain is an IP address.
    #[error("an IP address has no records to discover servers by; name the server with --address")]
    Literal,
    /// The domain is not a host name.
    #[error("the domain is not a valid host name")]
    Domain,
    /// The address is too long.
    #[error("it is longer than 254 characters")]
    TooLong,
    /// The name contains characters that are not allowed.
    #[error("the name before \"@\" contains spaces or other characters that are not allowed")]
    Name,
}

impl std::str::FromStr for MailAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        let (local, domain) = text.rsplit_once('@').ok_or(AddressError::NoAt)?;
        if local.is_empty() {
            return Err(AddressError::NoName);
        }
        let forbidden = |c: char| {
            c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | ',' | ';' | '@')
        };
        if local.contains(forbidden) {
            return Err(AddressError::Name);
        }
        let domain = domain.trim_end_matches('.');
        if domain.is_empty() {
            return Err(AddressError::NoDomain);
        }
        if domain.starts_with('[') || domain.parse::<std::net::IpAddr>().is_ok() {
            return Err(AddressError::Literal);
        }
        let domain = ascii_host(domain).ok_or(AddressError::Domain)?;
        let address = Self { local: local.to_owned(), domain };
        if address.to_string().len() > MAX_ADDRESS {
            return Err(AddressError::TooLong);
        }
        Ok(address)
    }
}

impl MailAddress {
    /// Returns the part before the `@`.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// Returns the domain in lower case, internationalised labels in their ASCII form (RFC 5890,
    /// `xn--…`).
    pub fn domain(&self) -> &str {
        &self.domain
    }
}

impl std::fmt::Display for MailAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

/// Returns a host name in lower case with internationalised labels in their ASCII form; `None` if it
/// is not a host name.
pub(crate) fn ascii_host(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let ascii = Uts46::new()
        .to_ascii(name.as_bytes(), AsciiDenyList::STD3, Hyphens::Allow, DnsLength::Verify)
        .ok()?;
    Some(ascii.into_owned())
}

/// Whether a host is the domain itself or lies within it; both in ASCII and lower case.
pub(crate) fn is_within(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_are_parsed_and_wrong_ones_explained() {
        for (text, expected) in [
            ("anna@example.com", "anna@example.com"),
            (" Anna@EXAMPLE.com. ", "Anna@example.com"),
            ("anna@bücher.example", "anna@xn--bcher-kva.example"),
            ("anna@xn--bcher-kva.example", "anna@xn--bcher-kva.example"),
            ("anna@localhost", "anna@localhost"),
        ] {
            let address: MailAddress = text.parse().expect(text);
            assert_eq!(address.to_string(), expected);
        }
        for (text, expected) in [
            ("anna", AddressError::NoAt),
            ("", AddressError::NoAt),
            ("@example.com", AddressError::NoName),
            ("anna@", AddressError::NoDomain),
            ("anna@.", AddressError::NoDomain),
            ("anna@[192.0.2.1]", AddressError::Literal),
            ("anna@192.0.2.1", AddressError::Literal),
            ("anna@2001:db8::1", AddressError::Literal),
            ("anna@exam ple.com", AddressError::Domain),
            ("anna@example..com", AddressError::Domain),
            ("anna@example.com/x", AddressError::Domain),
            ("anna@xn--a", AddressError::Domain),
            ("a b@example.com", AddressError::Name),
            ("<anna@example.com>", AddressError::Name),
        ] {
            assert_eq!(text.parse::<MailAddress>(), Err(expected), "{text:?}");
        }
        let long = format!("anna@{}", "a.".repeat(130));
        assert!(long.parse::<MailAddress>().is_err());
    }

    #[test]
    fn only_whole_labels_lie_within_a_domain() {
        assert!(
            is_within("example.com", "example.com") && is_within("mail.example.com", "example.com")
        );
        assert!(!is_within("badexample.com", "example.com") && !is_within("com", "example.com"));
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_or_an_error(text in "\\PC{0,40}") {
            if let Ok(address) = text.parse::<MailAddress>() {
                prop_assert!(address.domain().is_ascii() && !address.domain().ends_with('.'));
                prop_assert_eq!(address.to_string().parse::<MailAddress>(), Ok(address));
            }
        }
    }
}
