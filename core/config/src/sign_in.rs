//! Addresses at which a person signs in: those of known providers, or of the configuration.

use mailqos_net::http::Place;

use super::{Problems, Table, key::Optional, server::is_loopback};

/// End of the address of a token server of Microsoft Entra, in every cloud.
const ENTRA_TOKEN: &str = "/oauth2/v2.0/token";
/// The token server of Google.
const GOOGLE_TOKEN: &str = "https://oauth2.googleapis.com/token";
/// Google's address for browsers. It issues device codes, too, but not for mail
/// (developers.google.com/identity/protocols/oauth2/limited-input-device#allowedscopes).
const GOOGLE_AUTHORIZE: &str = "https://accounts.google.com/o/oauth2/v2/auth";

/// Reads an address that secrets or codes are sent to.
pub(super) fn read(
    key: &'static Optional<String>,
    table: &mut Table,
    problems: &mut Problems,
) -> Option<String> {
    let url: String = table.read(key, problems)?;
    let problem = match Place::parse(&url) {
        Err(error) => error.to_string(),
        Ok(place) if !place.tls && !is_loopback(&place.host) => {
            "codes would be sent to this address in plaintext".to_owned()
        }
        Ok(_) => return Some(url),
    };
    let help = "use an address of the provider, such as \"https://login.example.com/authorize\"";
    problems.push(table.problem(key, problem, "this address").help(help));
    None
}

/// Returns the addresses for a browser and for device codes; those of known providers follow from
/// the address of the token server.
pub(super) fn addresses(
    token_url: Option<&str>,
    authorize: Option<String>,
    device: Option<String>,
) -> [Option<String>; 2] {
    let entra = token_url.and_then(|url| url.strip_suffix(ENTRA_TOKEN));
    let of_entra = |end: &str| entra.map(|authority| format!("{authority}/oauth2/v2.0/{end}"));
    let google = (token_url == Some(GOOGLE_TOKEN)).then(|| GOOGLE_AUTHORIZE.to_owned());
    [
        authorize.or(google).or_else(|| of_entra("authorize")),
        device.or_else(|| of_entra("devicecode")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_known_providers_follow_from_the_token_server() {
        let of = |url: &str| addresses(Some(url), None, None);
        let entra = "https://login.microsoftonline.us/t/oauth2/v2.0";
        assert_eq!(
            of(&format!("{entra}/token")),
            [Some(format!("{entra}/authorize")), Some(format!("{entra}/devicecode"))]
        );
        assert_eq!(of(GOOGLE_TOKEN), [Some(GOOGLE_AUTHORIZE.to_owned()), None]);
        assert_eq!(of("https://login.example.com/token"), [None, None]);
        let own = addresses(None, Some("a".to_owned()), Some("d".to_owned()));
        assert_eq!(own, [Some("a".to_owned()), Some("d".to_owned())]);
    }
}
