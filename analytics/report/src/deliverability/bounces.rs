//! Enhanced status codes in plain words (RFC 3463, RFC 7372, RFC 7505, and the IANA registry).

use mailqos_model::EnhancedStatus;

/// Returns the meaning of a status as an English text to be translated.
pub fn meaning(status: Option<EnhancedStatus>) -> &'static str {
    let Some(EnhancedStatus { subject, detail, .. }) = status else {
        return "No status code was given";
    };
    match (subject, detail) {
        (1, 1 | 3 | 6) => "The address does not exist",
        (1, 2) => "The domain of the address accepts no mail",
        (1, 7 | 8) => "The sender's address is rejected",
        (1, 10) | (7, 27) => "A domain declares that it accepts no mail",
        (1, _) => "Problem with an address",
        (2, 1) => "The mailbox is disabled",
        (2, 2) => "The mailbox is full",
        (2, 3) | (3, 4) => "The mail is too large",
        (2, _) => "Problem with the mailbox",
        (3, _) => "Problem of the receiving mail system",
        (4, 6) => "The mail is in a loop",
        (4, 7) => "The mail could not be delivered in time",
        (4, _) => "The receiving server can't be reached",
        (5, _) => "The servers don't understand each other",
        (6, _) => "The content of the mail is rejected",
        (7, 1) => "The mail is rejected by a rule, often as spam or for missing permission",
        (7, 20..=22) => "The DKIM signature is missing or not accepted",
        (7, 23 | 24) => "SPF does not pass",
        (7, 25) => "The sending server's address has no matching name",
        (7, 26) => "Neither SPF nor DKIM passes",
        (7, _) => "The mail is rejected for reasons of security or policy",
        _ => "Another reason",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_codes_have_a_meaning() {
        for (text, expected) in [
            ("550 5.1.1 unknown user", "The address does not exist"),
            ("552 5.2.2 over quota", "The mailbox is full"),
            (
                "451 4.7.1 greylisted",
                "The mail is rejected by a rule, often as spam or for missing permission",
            ),
            ("550 5.7.26 unauthenticated", "Neither SPF nor DKIM passes"),
            ("554 5.0.0 failed", "Another reason"),
            ("550 no such user", "No status code was given"),
        ] {
            assert_eq!(meaning(EnhancedStatus::find(text)), expected, "{text}");
        }
    }
}
