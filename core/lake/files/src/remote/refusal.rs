//! Extracts a store's error message from the nested errors of the client library.

use mailqos_base::one_line;
use object_store::Error as StoreError;

/// The parsed parts of a store's error response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// HTTP status; `None` if there was no response.
    pub(super) status: Option<u16>,
    /// The status, the store's error code and its message.
    pub(super) reason: String,
}

impl Refusal {
    pub(super) fn of(error: &StoreError) -> Self {
        let chain =
            std::iter::successors(Some(error as &dyn std::error::Error), |inner| inner.source());
        let texts: Vec<String> = chain.map(ToString::to_string).collect();
        let mut refusal = texts.iter().find_map(|text| answer(text)).unwrap_or_else(|| Self {
            status: None,
            // The innermost cause is the most specific.
            reason: texts.last().cloned().unwrap_or_default(),
        });
        if refusal.status.is_none() {
            refusal.status = match error {
                StoreError::NotFound { .. } => Some(404),
                StoreError::PermissionDenied { .. } => Some(403),
                StoreError::Unauthenticated { .. } => Some(401),
                StoreError::NotImplemented { .. } | StoreError::NotSupported { .. } => Some(501),
                _ => None,
            };
        }
        let remedy = refusal.remedy();
        refusal.reason = one_line(&refusal.reason, &[]);
        if let Some(remedy) = remedy {
            refusal.reason.push_str(remedy);
        }
        refusal
    }

    /// Returns the remedy for known error codes.
    fn remedy(&self) -> Option<&'static str> {
        [
            ("RequestTimeTooSkewed", "; set this machine's clock, preferably with NTP"),
            ("SignatureDoesNotMatch", "; check the secret of the account"),
            ("InvalidAccessKeyId", "; check the key id of the account"),
            ("PermanentRedirect", "; set region to the bucket's region"),
            ("AuthorizationHeaderMalformed", "; set region to the bucket's region"),
            ("ExpiredToken", "; the key has expired: get a new one"),
        ]
        .into_iter()
        .find_map(|(code, remedy)| self.says(code).then_some(remedy))
    }

    /// Returns whether the message or the code contains this text, ignoring case.
    pub(super) fn says(&self, words: &str) -> bool {
        self.reason.to_ascii_lowercase().contains(&words.to_ascii_lowercase())
    }
}

/// Extracts the status and message from a response quoted by the library.
fn answer(text: &str) -> Option<Refusal> {
    const MARK: &str = "status code: ";
    let (status, body) = match text.split_once(MARK) {
        Some((_, behind)) => behind.split_once(": ").unwrap_or((behind, "")),
        None => ("", text.split_once("Server returned error response: ")?.1),
    };
    let number = status.get(..3).and_then(|digits| digits.parse().ok());
    let inside = |name: &str| {
        let (_, behind) = body.split_once(&format!("<{name}>"))?;
        let (inside, _) = behind.split_once(&format!("</{name}>"))?;
        (!inside.trim().is_empty()).then(|| inside.trim().to_owned())
    };
    // JSON, as used by Google and Azure.
    let json = || {
        let value: serde_json::Value = serde_json::from_str(body.trim()).ok()?;
        let error = value.get("error").unwrap_or(&value);
        Some(error.get("message")?.as_str()?.to_owned())
    };
    let (code, message) = (inside("Code"), inside("Message").or_else(json));
    let mut parts = vec![status.to_owned()];
    parts.retain(|part| !part.is_empty());
    match (code, message) {
        (Some(code), Some(message)) if message != code => parts.extend([code, message]),
        (Some(code), _) => parts.push(code),
        (None, Some(message)) => parts.push(message),
        (None, None) => parts.extend((!body.trim().is_empty()).then(|| body.trim().to_owned())),
    }
    Some(Refusal { status: number, reason: parts.join(": ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stores_own_message_is_first_and_complete() {
        for (text, status, reason) in [
            (
                "Error performing PUT https://s3.eu-north-1.amazonaws.com/a-bucket/with/a/very/long/name in 12.3ms - Server \
                 returned non-2xx status code: 403 Forbidden: <?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>\
                 AccessDenied</Code><Message>User: arn:aws:iam::1:user/x is not authorized to perform: s3:PutObject\
                 </Message><RequestId>1</RequestId></Error>",
                Some(403),
                "403 Forbidden: AccessDenied: User: arn:aws:iam::1:user/x is not authorized to perform: s3:PutObject",
            ),
            (
                "Server returned non-2xx status code: 503 Service Unavailable: ",
                Some(503),
                "503 Service Unavailable",
            ),
            (
                "Server returned non-2xx status code: 401 Unauthorized: {\"error\": {\"code\": 401, \"message\": \"Invalid \
                 Credentials\"}}",
                Some(401),
                "401 Unauthorized: Invalid Credentials",
            ),
            (
                "Server returned non-2xx status code: 502 Bad Gateway: <html>proxy</html>",
                Some(502),
                "502 Bad Gateway: <html>proxy</html>",
            ),
        ] {
            let expected = Refusal { status, reason: reason.to_owned() };
            assert_eq!(answer(text), Some(expected));
        }
        assert_eq!(answer("connection refused"), None);
    }
}
