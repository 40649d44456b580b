//! Converts the responses of token servers to the form of RFC 6749, section 5, which `oauth2`
//! requires.
//!
//! Seen in use: `expires_in` as a string (Entra's v1 endpoint, AD FS, PayPal) or a fraction, a
//! missing `token_type` (older identity servers), `scope` as a list (Twitch, Strava), form-encoded
//! responses (GitHub by default), errors with status 200 (GitHub, Slack), errors as an object
//! (Google's APIs), and a leading byte order mark.

use serde_json::{Map, Value};

/// Returns status and body in the form that `oauth2` supports. A body that can't be parsed stays
/// unchanged.
pub(super) fn regular(status: u16, body: Vec<u8>) -> (u16, Vec<u8>) {
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&body);
    let fields = match serde_json::from_slice(text) {
        Ok(Value::Object(fields)) => Some(fields),
        Ok(_) => None,
        Err(_) => form(text),
    };
    let Some(mut fields) = fields else {
        return (status, body);
    };
    let is_token = fields.get("access_token").is_some_and(Value::is_string);
    let is_error = !is_token && fields.get("error").is_some_and(|error| !error.is_null());
    if is_token {
        regular_token(&mut fields);
    } else if is_error {
        regular_error(&mut fields);
    }
    let status = if is_error && (200..300).contains(&status) { 400 } else { status };
    match serde_json::to_vec(&Value::Object(fields)) {
        Ok(regular) => (status, regular),
        Err(_) => (status, body),
    }
}

fn regular_token(fields: &mut Map<String, Value>) {
    fields.retain(|_, value| !value.is_null());
    if let Some(seconds) = fields.get("expires_in") {
        let seconds = match seconds {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        // Without a usable lifetime, the caller's default applies. 0 also means that the token does
        // not expire (spring-projects/spring-security/issues/4810,
        // superseriousbusiness/gotosocial/pull/731).
        match seconds.filter(|seconds: &f64| seconds.is_finite() && *seconds >= 1.0) {
            Some(seconds) => fields.insert("expires_in".to_owned(), Value::from(seconds as u64)),
            None => fields.shift_remove("expires_in"),
        };
    }
    if fields.get("token_type").is_none_or(|kind| kind.as_str().is_none_or(str::is_empty)) {
        fields.insert("token_type".to_owned(), Value::from("Bearer"));
    }
    if let Some(Value::Array(scopes)) = fields.get("scope") {
        let scopes: Vec<&str> = scopes.iter().filter_map(Value::as_str).collect();
        let scopes = scopes.join(" ");
        fields.insert("scope".to_owned(), Value::from(scopes));
    } else if fields.get("scope").is_some_and(|scope| !scope.is_string()) {
        fields.shift_remove("scope");
    }
    if fields.get("refresh_token").is_some_and(|token| token.as_str().is_none_or(str::is_empty)) {
        fields.shift_remove("refresh_token");
    }
}

fn regular_error(fields: &mut Map<String, Value>) {
    if let Some(Value::Object(error)) = fields.get("error") {
        let word = |key: &str| error.get(key).and_then(Value::as_str).map(str::to_owned);
        let code = word("status").or_else(|| word("type")).unwrap_or_else(|| "error".to_owned());
        let description = word("message").unwrap_or_default();
        fields.insert("error".to_owned(), Value::from(code));
        fields.insert("error_description".to_owned(), Value::from(description));
    }
    for key in ["error", "error_description", "error_uri"] {
        match fields.get(key) {
            Some(Value::String(_)) | None => {}
            Some(Value::Null) => {
                fields.shift_remove(key);
            }
            Some(other) => {
                let text = other.to_string();
                fields.insert(key.to_owned(), Value::from(text));
            }
        }
    }
}

/// Parses a form (`access_token=…&token_type=bearer`) if it contains the parts of a token response.
fn form(text: &[u8]) -> Option<Map<String, Value>> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let mut fields = Map::new();
    for pair in text.split('&') {
        let (key, value) = pair.split_once('=')?;
        fields.insert(decoded(key)?, Value::from(decoded(value)?));
    }
    (fields.contains_key("access_token") || fields.contains_key("error")).then_some(fields)
}

/// Decodes percent-encoding, with `+` as a space.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(status: u16, body: &str) -> (u16, Value) {
        let (status, body) = regular(status, body.as_bytes().to_vec());
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    #[test]
    fn tokens_are_parsed_in_all_known_formats() {
        for body in [
            r#"{"token_type":"Bearer","expires_in":"3599","ext_expires_in":"3599","access_token":"T"}"#,
            r#"{"expires_in":3599,"access_token":"T"}"#,
            r#"{"token_type":"","expires_in":3599.0,"access_token":"T"}"#,
            r#"{"token_type":null,"expires_in":" 3599.7 ","access_token":"T","scope":null,"refresh_token":null}"#,
            r#"{"token_type":"Bearer","expires_in":3599,"scope":["a","b"],"access_token":"T"}"#,
            "\u{feff}{\"expires_in\":3599,\"access_token\":\"T\",\"error\":null}",
            "access_token=T&expires_in=3599&scope=a+b%20c&token_type=bearer",
        ] {
            let (status, fields) = told(200, body);
            assert_eq!(status, 200, "{body}");
            assert_eq!(fields["access_token"], "T", "{body}");
            assert_eq!(fields["expires_in"], 3599, "{body}");
            assert!(
                fields["token_type"]
                    .as_str()
                    .is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")),
                "{body}"
            );
            assert!(fields.get("scope").is_none_or(Value::is_string), "{body}");
            assert!(fields.get("refresh_token").is_none(), "{body}");
        }
        for body in [
            r#"{"expires_in":"soon","access_token":"T"}"#,
            r#"{"expires_in":-1,"access_token":"T"}"#,
            r#"{"expires_in":0,"access_token":"T"}"#,
            r#"{"expires_in":"0","access_token":"T"}"#,
            r#"{"expires_in":[],"access_token":"T"}"#,
        ] {
            assert!(told(200, body).1.get("expires_in").is_none(), "{body}: the default applies");
        }
    }

    #[test]
    fn errors_are_errors_with_any_status_and_in_any_form() {
        for (status, body, code) in [
            (
                200,
                r#"{"error":"bad_verification_code","error_description":null}"#,
                "bad_verification_code",
            ),
            (200, r#"{"ok":false,"error":"invalid_auth"}"#, "invalid_auth"),
            (
                403,
                r#"{"error":{"code":403,"message":"no","status":"PERMISSION_DENIED"}}"#,
                "PERMISSION_DENIED",
            ),
            (400, r#"{"error":"invalid_grant","error_description":["a"]}"#, "invalid_grant"),
            (
                200,
                "error=incorrect_client_credentials&error_description=no",
                "incorrect_client_credentials",
            ),
        ] {
            let (status, fields) = told(status, body);
            assert!(status >= 400, "{body}");
            assert_eq!(fields["error"], code, "{body}");
            assert!(fields.get("error_description").is_none_or(Value::is_string), "{body}");
        }
        let page = "<html>500</html>";
        assert_eq!(regular(500, page.as_bytes().to_vec()), (500, page.as_bytes().to_vec()));
    }

    proptest! {
        #[test]
        fn any_input_is_parsed_without_a_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = regular(200, body);
        }
    }
}
