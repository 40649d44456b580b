//! Fetches autoconfig files, over HTTPS only: what anyone in between could have written would decide
//! which server gets the password.

use std::time::Duration;

use mailqos_net::{
    Trust,
    http::{self, HttpError, Place, Route},
};

use crate::{
    address::MailAddress,
    document::{self, DocumentError, MAX_DOCUMENT, Published},
};

/// Deadline of one request.
const DEADLINE: Duration = Duration::from_secs(4);
/// Maximum number of redirects that are followed.
const MAX_REDIRECTS: usize = 3;

/// The database of the Thunderbird project.
pub(crate) const ISPDB: &str = "https://autoconfig.thunderbird.net/v1.1/";

/// Why a file was not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// There is no answer.
    #[error("{0}")]
    Http(#[from] HttpError),
    /// The server has no such file.
    #[error("no such file (HTTP {0})")]
    Missing(u16),
    /// The server answers with a failure.
    #[error("the server answers with HTTP {0}")]
    Status(u16),
    /// It leads to an address that is not encrypted.
    #[error("it redirects to {0} without encryption, which anyone in between can change; refused")]
    Plaintext(String),
    /// It leads nowhere.
    #[error("it redirects to an address that can't be used")]
    Nowhere,
    /// It leads from one address to the next.
    #[error("it redirects more than {MAX_REDIRECTS} times")]
    Redirects,
    /// It is too large.
    #[error("the file is larger than {} KiB and is ignored", MAX_DOCUMENT / 1024)]
    TooLarge,
    /// It can't be used.
    #[error("{0}")]
    Document(#[from] DocumentError),
}

/// The addresses at which a domain publishes a file, the preferred one first
/// (draft-ietf-mailmaint-autoconfig, section 4.1).
pub(crate) fn addresses(address: &MailAddress) -> [String; 2] {
    let domain = address.domain();
    [
        format!(
            "https://autoconfig.{domain}/mail/config-v1.1.xml?emailaddress={}",
            encoded(&address.to_string())
        ),
        format!("https://{domain}/.well-known/autoconfig/mail/config-v1.1.xml"),
    ]
}

/// Percent-encodes a value of a query.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// Fetches a file and reads its servers. The certificate must match the host, by one of
/// the trusted sets.
///
/// # Errors
/// There is no such file, or it can't be used.
pub(crate) async fn fetch(
    url: &str,
    (trusts, route): (&[Trust], &Route),
    address: &MailAddress,
) -> Result<Vec<Published>, FetchError> {
    let mut url = url.to_owned();
    for _ in 0..=MAX_REDIRECTS {
        let response = get(&url, trusts, route).await?;
        match response.status {
            200 if response.truncated => return Err(FetchError::TooLarge),
            200 => return Ok(document::read(&response.body, address)?),
            301 | 302 | 303 | 307 | 308 => {
                let to = response.location.as_deref().ok_or(FetchError::Nowhere)?;
                url = redirected(&url, to)?;
            }
            status @ (404 | 410) => return Err(FetchError::Missing(status)),
            status => return Err(FetchError::Status(status)),
        }
    }
    Err(FetchError::Redirects)
}

async fn get(url: &str, trusts: &[Trust], route: &Route) -> Result<http::Response, HttpError> {
    let request = http::Request {
        method: "GET".to_owned(),
        url: mailqos_base::Secret::new(url),
        headers: vec![(
            "accept".to_owned(),
            mailqos_base::Secret::new("text/xml, application/xml"),
        )],
        body: Vec::new(),
        via: route.clone(),
    };
    let mut result = Err(HttpError::Url("no certificates are trusted".to_owned()));
    for trust in trusts {
        result = http::send(&request, trust, DEADLINE, MAX_DOCUMENT).await;
        if !matches!(result, Err(HttpError::Tls { .. })) {
            break;
        }
    }
    result
}

/// Resolves the address of a redirect (RFC 9110, section 10.2.2).
fn redirected(from: &str, to: &str) -> Result<String, FetchError> {
    let place = Place::parse(from)?;
    let url = if to.contains("://") {
        to.to_owned()
    } else if let Some(rest) = to.strip_prefix("//") {
        format!("https://{rest}")
    } else {
        let origin = format!("https://{}", place.authority());
        match to.strip_prefix('/') {
            Some(path) => format!("{origin}/{path}"),
            None => format!("{origin}/{to}"),
        }
    };
    let to = Place::parse(&url).map_err(|_| FetchError::Nowhere)?;
    if !to.tls {
        return Err(FetchError::Plaintext(to.server()));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_encoded() {
        let address = "anna+a&b@bücher.example".parse().expect("an address");
        let [first, second] = addresses(&address);
        assert_eq!(
            first,
            "https://autoconfig.xn--bcher-kva.example/mail/config-v1.1.xml?emailaddress=anna%2Ba%26b%40xn--bcher-kva.example"
        );
        assert_eq!(
            second,
            "https://xn--bcher-kva.example/.well-known/autoconfig/mail/config-v1.1.xml"
        );
    }

    #[test]
    fn redirects_stay_encrypted() {
        let from = "https://example.com/a/b";
        for (to, expected) in [
            ("https://other.example/x", "https://other.example/x"),
            ("//other.example/x", "https://other.example/x"),
            ("/x?y", "https://example.com:443/x?y"),
        ] {
            assert_eq!(redirected(from, to).expect(to), expected);
        }
        let refused = redirected(from, "http://example.com/x").expect_err("plaintext").to_string();
        assert!(
            refused.contains("example.com:80") && refused.contains("without encryption"),
            "{refused}"
        );
        for to in [
            "ftp://example.com/",
            "https://",
            "https://user:password@example.com/",
            "file:///etc/passwd",
        ] {
            assert!(matches!(redirected(from, to), Err(FetchError::Nowhere)), "{to}");
        }
    }
}
