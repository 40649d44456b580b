//! Failures of requests to Microsoft Graph: error objects, their meanings and remedies.
//!
//! Form and codes: <https://learn.microsoft.com/graph/errors>,
//! <https://learn.microsoft.com/graph/resolve-auth-errors>. Exchange's codes (`Error…`,
//! `MailboxNotEnabled…`) are known only from public reports, which are cited in comments.

use std::time::Duration;

use mailqos_base::{Secret, one_line};
use mailqos_model::Micros;

use super::super::WireError;

/// Maximum nesting of error objects.
const MAX_DEPTH: usize = 8;

/// A refusal by Microsoft Graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// Codes of the error and of its inner errors, outermost first; may be empty.
    pub codes: Vec<String>,
    /// Message in one line, without secrets.
    pub message: String,
    /// Wait requested by the server.
    pub retry_after: Option<Duration>,
    /// Id of the request for Microsoft's support.
    pub request_id: Option<String>,
}

impl Refusal {
    /// Parses the content of a response with an error status.
    pub(super) fn read(
        status: u16,
        body: &[u8],
        retry_after: Option<Duration>,
        secrets: &[Secret],
    ) -> Self {
        let mut refusal = Self {
            status,
            codes: Vec::new(),
            message: String::new(),
            retry_after,
            request_id: None,
        };
        let Ok(json) = serde_json::from_slice::<serde_json::Value>(body) else {
            refusal.message =
                one_line(&String::from_utf8_lossy(&body[..body.len().min(400)]), secrets);
            return refusal;
        };
        let mut next = json.get("error");
        for _ in 0..MAX_DEPTH {
            let Some(error) = next else { break };
            let text = |name: &str| error.get(name).and_then(|value| value.as_str());
            // Only text that may be a code, because the message itself is quoted once.
            if let Some(code) = text("code").filter(|code| !code.is_empty()) {
                refusal.codes.push(one_line(code, secrets));
            }
            if let Some(message) = text("message").filter(|_| refusal.message.is_empty()) {
                refusal.message = one_line(message, secrets);
            }
            if let Some(id) = text("request-id") {
                refusal.request_id = Some(one_line(id, secrets));
            }
            next = error.get("innerError").or_else(|| error.get("innererror"));
        }
        refusal
    }

    /// Returns whether one of the codes is among these, ignoring case.
    pub fn has_code(&self, codes: &[&str]) -> bool {
        let is = |known: &String| codes.iter().any(|code| known.eq_ignore_ascii_case(code));
        self.codes.iter().any(is)
    }

    /// Returns whether the service asks for fewer requests or a longer wait.
    pub fn is_throttling(&self) -> bool {
        matches!(self.status, 429 | 503 | 504 | 509)
    }

    /// Describes the refusal as a request to wait.
    pub fn throttling(&self) -> String {
        let code = self.codes.first().map(|code| format!(" {code}")).unwrap_or_default();
        format!("throttled by Microsoft Graph ({}{code})", self.status)
    }

    /// Returns whether the state of a delta query has expired, so that the folder must be listed
    /// again (<https://learn.microsoft.com/graph/delta-query-overview#synchronization-reset>).
    pub fn is_expired_state(&self) -> bool {
        let codes = [
            "SyncStateNotFound",
            "SyncStateInvalid",
            "resyncRequired",
            "ErrorInvalidSyncStateData",
        ];
        self.status == 410 || (self.status == 400 && self.has_code(&codes))
    }

    /// Returns whether the service does not support the action, as in national clouds.
    pub fn is_unknown_action(&self) -> bool {
        matches!(self.status, 405 | 501)
            || self.has_code(&["ResourceNotFound"])
            || (self.status == 400 && self.message.contains("segment"))
    }

    /// Returns whether the requested item does not exist (any more).
    pub fn is_missing_item(&self) -> bool {
        self.status == 404 && !self.is_missing_mailbox() && !self.is_unknown_action()
    }

    /// Returns whether the mailbox does not exist, or can't be accessed over Microsoft Graph.
    pub fn is_missing_mailbox(&self) -> bool {
        let codes = [
            "MailboxNotEnabledForRESTAPI",
            "MailboxNotSupportedForRESTAPI",
            "ErrorInvalidUser",
            "ErrorNonExistentMailbox",
            "Request_ResourceNotFound",
            "ErrorMailboxStoreUnavailable",
        ];
        self.has_code(&codes)
    }

    /// Whether content in MIME was refused because it is not valid.
    pub fn is_invalid_mime(&self) -> bool {
        self.status == 400 && self.has_code(&["ErrorMimeContentInvalidBase64String"])
    }

    /// Returns whether another token may help.
    pub fn is_token(&self) -> bool {
        self.status == 401
    }

    /// Returns whether the application lacks permission.
    pub fn is_permission(&self) -> bool {
        self.status == 403 && !self.has_code(&["ErrorQuotaExceeded", "quotaLimitReached"])
    }

    /// Returns the meaning of the error, if known; [`remedy`] returns the remedy.
    fn meaning(&self) -> Option<&'static str> {
        let is_size = self.status == 413 || self.has_code(&["ErrorMessageSizeExceeded"]);
        Some(match self.status {
            _ if self
                .has_code(&["MailboxNotEnabledForRESTAPI", "MailboxNotSupportedForRESTAPI"]) =>
            {
                "the mailbox is inactive, was deleted, is on-premises, or has no licence"
            }
            _ if self.has_code(&["ErrorInvalidUser", "ErrorNonExistentMailbox"]) => {
                "there is no such mailbox"
            }
            _ if self.has_code(&["Request_ResourceNotFound"]) => "there is no such mailbox",
            _ if self.has_code(&["ErrorSendAsDenied"]) => {
                "the mailbox may not send as this address"
            }
            _ if is_size => "the message is larger than Microsoft Graph accepts",
            _ if self.has_code(&["ErrorQuotaExceeded", "quotaLimitReached"]) => {
                "the mailbox is full"
            }
            403 => "the application lacks a permission for this mailbox",
            401 => "the access token is not valid here",
            410 => "the state of the listing has expired",
            429 => "the service asks for fewer requests",
            503 | 504 | 509 => "the service is temporarily unavailable",
            _ => return None,
        })
    }
}

/// Returns the remedy for a failure reported by Microsoft Graph, given its text.
pub(crate) fn remedy(error: &str, account: &str) -> Option<String> {
    if !error.contains("Microsoft Graph") {
        return None;
    }
    let has = |words: &[&str]| words.iter().any(|word| error.contains(word));
    Some(if has(&["MailboxNotEnabledForRESTAPI", "MailboxNotSupportedForRESTAPI"]) {
        // https://github.com/microsoftgraph/microsoft-graph-docs-contrib/issues/405 and /717
        "restore the mailbox or assign it a licence for Exchange Online; a mailbox on-premises can be \
         measured over IMAP or POP3"
            .to_owned()
    } else if has(&["ErrorInvalidUser", "ErrorNonExistentMailbox", "Request_ResourceNotFound"]) {
        format!(
            "check user and tenant of the account {account}; user is the address of the mailbox"
        )
    } else if has(&["ErrorSendAsDenied"]) {
        format!("set from to the user of the account {account}, or grant it Send As")
    } else if has(&["(403"]) {
        // https://github.com/kartverket/skyline/issues/78: delegated instead of application
        // permissions.
        "grant the application Mail.ReadWrite (and Mail.Send, to send), either as application permissions \
         with admin consent, or in Exchange as application roles whose scope contains the mailbox; a change \
         may take two hours"
            .to_owned()
    } else if has(&["(401"]) {
        format!("check tenant, cloud and scope of the account {account}")
    } else if has(&["throttled"]) {
        "other programs may use the same application: give mailqos one alone, or raise check_interval and \
         lower extra_pickups"
            .to_owned()
    } else {
        return None;
    })
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Microsoft Graph refused the request ({}", self.status)?;
        for code in &self.codes {
            write!(f, " {code}")?;
        }
        f.write_str(")")?;
        if let Some(meaning) = self.meaning() {
            write!(f, ": {meaning}")?;
        }
        if !self.message.is_empty() {
            let separator = if self.meaning().is_some() { "; the server reports: " } else { ": " };
            write!(f, "{separator}{}", self.message)?;
        }
        Ok(())
    }
}

/// Failure of a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// The connection failed.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The service refused.
    #[error("{0}")]
    Refused(Refusal),
    /// The service requests a longer wait than the remaining time.
    #[error("{}; it asks to wait {wait}", refusal.throttling())]
    Throttled {
        /// The last refusal.
        refusal: Refusal,
        /// The requested wait.
        wait: Micros,
    },
    /// The response is not a valid response of Microsoft Graph.
    #[error("{0}")]
    Unreadable(String),
}

impl GraphError {
    /// Returns the refusal, if it was one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) | Self::Throttled { refusal, .. } => Some(refusal),
            Self::Wire(_) | Self::Unreadable(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, body: &str) -> Refusal {
        Refusal::read(status, body.as_bytes(), None, &[Secret::new("hunter2hunter2")])
    }

    #[test]
    fn errors_are_explained_by_their_codes() {
        for (status, body, expected) in [
            (
                403,
                r#"{"error":{"code":"ErrorAccessDenied","message":"Access is denied. Check credentials and try again.","innerError":{"date":"2026-12-01T09:00:00","request-id":"5c1a","client-request-id":"5c1a"}}}"#,
                "lacks a permission",
            ),
            (
                404,
                r#"{"error":{"code":"MailboxNotEnabledForRESTAPI","message":"The mailbox is either inactive, soft-deleted, or is hosted on-premise."}}"#,
                "was deleted",
            ),
            (
                404,
                r#"{"error":{"code":"ErrorInvalidUser","message":"The requested user 'x@contoso.com' is invalid."}}"#,
                "no such mailbox",
            ),
            (
                429,
                r#"{"error":{"code":"ApplicationThrottled","message":"Application is over its MailboxConcurrency limit."}}"#,
                "fewer requests",
            ),
            (500, "<html>oops hunter2hunter2</html>", "(500): <html>oops"),
            (500, "", "(500)"),
            (400, r#"{"error":"not an object"}"#, "(400)"),
        ] {
            let text = refusal(status, body).to_string();
            assert!(
                text.contains(expected) && !text.contains("hunter2") && !text.contains('\n'),
                "{text}"
            );
        }
    }

    #[test]
    fn inner_codes_count() {
        let inner = refusal(
            400,
            r#"{"error":{"code":"generalException","message":"","innerError":{"code":"x","innererror":{"code":"syncStateNotFound"}}}}"#,
        );
        assert!(inner.is_expired_state() && inner.codes.len() == 3, "{inner:?}");
        assert!(!refusal(400, r#"{"error":{"code":"BadRequest"}}"#).is_expired_state());
        assert!(refusal(410, "").is_expired_state());
        assert!(refusal(404, r#"{"error":{"code":"ErrorItemNotFound"}}"#).is_missing_item());
        assert!(!refusal(404, r#"{"error":{"code":"ErrorInvalidUser"}}"#).is_missing_item());
        // However deep the nesting, parsing ends.
        let deep = format!("{}1{}", r#"{"innerError":"#.repeat(100), "}".repeat(100));
        let _ = refusal(400, &format!(r#"{{"error":{deep}}}"#));
    }
}
