//! Meanings of the refusals of large providers, with remedies.

/// A known refusal: lower-case texts that must all occur in it, and its meaning.
type Known = (&'static [&'static str], &'static str);

/// Known refusals, more specific ones first.
const KNOWN: [Known; 27] = [
    // Microsoft 365.
    (
        &["5.7.30"],
        "Microsoft 365 no longer accepts passwords over SMTP: give the account oauth = { preset = \
         \"microsoft-365\", … }",
    ),
    (
        &["5.7.139", "smtpclientauthentication is disabled"],
        "SMTP AUTH is disabled for this mailbox or tenant in Microsoft 365: Set-CASMailbox \
         -SmtpClientAuthenticationDisabled $false; with a password, SMTP AUTH is off by default from the end \
         of December 2026, so give the account oauth = { preset = \"microsoft-365\", … }",
    ),
    (
        &["5.7.139", "security defaults"],
        "the tenant's security defaults block passwords over SMTP: give the account oauth = { preset = \
         \"microsoft-365\", … }",
    ),
    (
        &["5.7.139", "basic authentication is disabled"],
        "Microsoft 365 does not accept a password here: give the account oauth = { preset = \"microsoft-365\", \
         … }",
    ),
    (
        &["5.7.139", "did not meet the criteria"],
        "a Conditional Access policy of the tenant blocks this sign-in: see the sign-in log in Microsoft Entra",
    ),
    (
        &["5.7.139", "locked"],
        "the account is locked after too many failed logins: wait, or unlock it in Microsoft Entra",
    ),
    (&["5.7.139", "expired"], "the account's password has expired"),
    (
        &["5.7.139"],
        "Microsoft 365 refused the sign-in: wrong password, or a policy of the tenant; see the sign-in log in Microsoft Entra",
    ),
    (
        &["basicauthblocked"],
        "Microsoft 365 does not accept passwords over POP3 and IMAP: give the account oauth = { preset = \
         \"microsoft-365\", … }",
    ),
    (
        &["authenticated but not connected"],
        "the token is valid, but its owner may not open this mailbox: set user to the mailbox's address, give \
         the application's service principal FullAccess to it, and enable POP3 and IMAP",
    ),
    (&["5.7.57"], "Microsoft 365 requires a login before it accepts mail: give smtp an account"),
    (
        &["5.7.60"],
        "the account may not send as this sender: set from to its own address or to one for which it has the \
         SendAs permission",
    ),
    (
        &["sendasdenied"],
        "the account may not send as this sender: set from to its own address or to one for which it has the \
         SendAs permission",
    ),
    (
        &["5.7.708"],
        "Microsoft 365 does not accept mail from this address: new tenants are throttled until they have a \
         reputation",
    ),
    (
        &["4.3.2", "concurrent connections limit"],
        "more simultaneous connections than Microsoft 365 allows for a mailbox: raise test_interval",
    ),
    (&["4.7.500"], "Microsoft 365 temporarily throttles this sender"),
    // Google.
    (
        &["5.7.9", "application-specific password"],
        "Google does not accept the account's password here: create an app password, or give the account oauth \
         = { preset = \"google-workspace\", … }",
    ),
    (
        &["5.7.9", "web browser"],
        "Google requires a sign-in with a browser first: give the account oauth = { preset = \
         \"google-workspace\", … }",
    ),
    (
        &["5.7.14"],
        "Google requires a sign-in with a browser first: give the account oauth = { preset = \
         \"google-workspace\", … }",
    ),
    (
        &["application-specific password required"],
        "Google does not accept the account's password here: create an app password, or give the account oauth \
         = { preset = \"google-workspace\", … }",
    ),
    (
        &["log in via your web browser"],
        "Google requires a sign-in with a browser first: give the account oauth = { preset = \
         \"google-workspace\", … }",
    ),
    (
        &["5.7.8", "username and password not accepted"],
        "Google accepts only OAuth and app passwords, and app passwords only with two-step verification",
    ),
    (
        &["username and password not accepted"],
        "Google accepts only OAuth and app passwords; also check that POP or IMAP is enabled for the mailbox",
    ),
    (&["not enabled for", "imap"], "IMAP is disabled for this mailbox or for the whole domain"),
    (&["not enabled for", "pop"], "POP is disabled for this mailbox or for the whole domain"),
    (
        &["too many login attempts"],
        "too many logins in a short time: raise test_interval, or let monitors share a mailbox",
    ),
    (&["5.4.5", "sending limit"], "Google's daily sending limit is reached: raise test_interval"),
];

/// Returns the meaning of a known refusal.
pub(super) fn explain(refusal: &str) -> Option<&'static str> {
    let refusal = refusal.to_lowercase();
    let is_meant = |known: &&Known| known.0.iter().all(|text| contains(&refusal, text));
    KNOWN.iter().find(is_meant).map(|(_, meaning)| *meaning)
}

/// Returns whether a text contains a part. A status code is not found within a longer one.
fn contains(text: &str, part: &str) -> bool {
    let is_code = part.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.match_indices(part).any(|(at, _)| {
        let joins =
            |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_digit() || *byte == b'.');
        let before = at.checked_sub(1).and_then(|at| text.as_bytes().get(at));
        let after = text.as_bytes().get(at + part.len());
        !is_code || !(joins(before) || after.is_some_and(u8::is_ascii_digit))
    })
}

/// Adds its meaning to a known refusal.
pub fn explained(refusal: String) -> String {
    match explain(&refusal) {
        Some(meaning) => format!("{refusal} ({meaning})"),
        None => refusal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_refusals_are_explained() {
        for (refusal, expected) in [
            (
                "550 5.7.30 Basic authentication is not supported for Client Submission.",
                Some("no longer accepts passwords over SMTP"),
            ),
            (
                "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. Visit https://aka.ms/smtp_auth_disabled for more information. [DB6P.EURPRD10.PROD.OUTLOOK.COM]",
                Some("Set-CASMailbox"),
            ),
            (
                "535 5.7.139 Authentication unsuccessful, basic authentication is disabled. [AS9.PROD.OUTLOOK.COM]",
                Some("does not accept a password here"),
            ),
            (
                "535 5.7.139 Authentication unsuccessful, user is locked by your organization's security defaults policy.",
                Some("security defaults"),
            ),
            (
                "535 5.7.139 Authentication unsuccessful, the request did not meet the criteria to be authenticated successfully.",
                Some("Conditional Access"),
            ),
            ("535 5.7.139 Authentication unsuccessful", Some("sign-in log")),
            (
                "534 5.7.9 Application-specific password required. For more information, go to https://support.google.com/mail/?p=InvalidSecondFactor",
                Some("app password"),
            ),
            (
                "534 5.7.9 Please log in with your web browser and then try again.",
                Some("sign-in with a browser"),
            ),
            (
                "535 5.7.8 Username and Password not accepted. For more information, go to https://support.google.com/mail/?p=BadCredentials",
                Some("only OAuth and app passwords"),
            ),
            (
                "login refused: [ALERT] Application-specific password required: https://support.google.com/accounts/answer/185833 (Failure)",
                Some("app password"),
            ),
            ("login refused: User is authenticated but not connected.", Some("FullAccess")),
            ("535 5.7.8 Error: authentication failed", None),
            ("550 5.7.300 something else", None),
            ("550 15.7.30 something else", None),
            ("250 2.0.0 Ok", None),
        ] {
            let meaning = explain(refusal);
            match expected {
                Some(expected) => assert!(
                    meaning.is_some_and(|text| text.contains(expected)),
                    "{refusal}: {meaning:?}"
                ),
                None => assert_eq!(meaning, None, "{refusal}"),
            }
        }
        assert_eq!(explained("250 Ok".to_owned()), "250 Ok");
        assert!(explained("550 5.7.30 no".to_owned()).starts_with("550 5.7.30 no ("));
    }

    #[test]
    fn no_entry_hides_a_later_one() {
        for (index, (texts, meaning)) in KNOWN.iter().enumerate() {
            assert_eq!(explain(&texts.join(" ")), Some(*meaning), "entry {index}");
        }
    }
}
