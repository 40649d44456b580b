//! What the refusals of the large providers mean, and what to do about them.

/// A refusal: texts that must all be in it (in lower case), and what it means.
type Known = (&'static [&'static str], &'static str);

/// The more particular ones come first.
const KNOWN: [Known; 27] = [
    // Microsoft 365.
    (
        &["5.7.30"],
        "Microsoft 365 takes no passwords over SMTP any more: give the account oauth = { preset = \"microsoft-365\", … }",
    ),
    (
        &["5.7.139", "smtpclientauthentication is disabled"],
        "Microsoft 365 has SMTP AUTH switched off for this mailbox or tenant: Set-CASMailbox -SmtpClientAuthenticationDisabled $false",
    ),
    (
        &["5.7.139", "security defaults"],
        "the tenant's security defaults forbid passwords over SMTP: give the account oauth = { preset = \"microsoft-365\", … }",
    ),
    (
        &["5.7.139", "basic authentication is disabled"],
        "Microsoft 365 takes no password here: give the account oauth = { preset = \"microsoft-365\", … }",
    ),
    (
        &["5.7.139", "did not meet the criteria"],
        "a Conditional Access policy of the tenant forbids this sign-in: see the sign-in log in Microsoft Entra",
    ),
    (
        &["5.7.139", "locked"],
        "the account is locked after too many wrong logins: wait, or unlock it in Microsoft Entra",
    ),
    (&["5.7.139", "expired"], "the account's password has expired"),
    (
        &["5.7.139"],
        "Microsoft 365 refused the sign-in: wrong password, or a policy of the tenant; see the sign-in log in Microsoft Entra",
    ),
    (
        &["basicauthblocked"],
        "Microsoft 365 takes no passwords over POP3 and IMAP: give the account oauth = { preset = \"microsoft-365\", … }",
    ),
    (
        &["authenticated but not connected"],
        "the token is good, but its owner may not open this mailbox: is user the mailbox's address, has the application's service principal FullAccess to it, are POP3 and IMAP switched on?",
    ),
    (
        &["5.7.57"],
        "Microsoft 365 wants a login before it takes mail: give smtp an account",
    ),
    (
        &["5.7.60"],
        "the account may not send as this sender: from must be its own address, or one that it has SendAs for",
    ),
    (
        &["sendasdenied"],
        "the account may not send as this sender: from must be its own address, or one that it has SendAs for",
    ),
    (
        &["5.7.708"],
        "Microsoft 365 takes no mail from this address: new tenants are held back until their reputation is known",
    ),
    (
        &["4.3.2", "concurrent connections limit"],
        "more connections at once than Microsoft 365 allows a mailbox: let the monitors test less often",
    ),
    (&["4.7.500"], "Microsoft 365 holds this sender back for a while"),
    // Google.
    (
        &["5.7.9", "application-specific password"],
        "Google takes no ordinary password here: make an app password, or give the account oauth = { preset = \"google-workspace\", … }",
    ),
    (
        &["5.7.9", "web browser"],
        "Google wants its owner to sign in with a browser first: give the account oauth = { preset = \"google-workspace\", … }",
    ),
    (
        &["5.7.14"],
        "Google wants its owner to sign in with a browser first: give the account oauth = { preset = \"google-workspace\", … }",
    ),
    (
        &["application-specific password required"],
        "Google takes no ordinary password here: make an app password, or give the account oauth = { preset = \"google-workspace\", … }",
    ),
    (
        &["log in via your web browser"],
        "Google wants its owner to sign in with a browser first: give the account oauth = { preset = \"google-workspace\", … }",
    ),
    (
        &["5.7.8", "username and password not accepted"],
        "Google takes app passwords and OAuth only, and app passwords only with two-step verification",
    ),
    (
        &["username and password not accepted"],
        "Google takes app passwords and OAuth only; is POP or IMAP switched on for the mailbox?",
    ),
    (
        &["not enabled for", "imap"],
        "IMAP is switched off for this mailbox, or for the whole domain",
    ),
    (
        &["not enabled for", "pop"],
        "POP is switched off for this mailbox, or for the whole domain",
    ),
    (
        &["too many login attempts"],
        "too many logins in a short time: let the monitors test less often, or let them share a mailbox",
    ),
    (
        &["5.4.5", "sending limit"],
        "Google's daily limit of mails is reached: let the monitors test less often",
    ),
];

/// What a refusal means, where it is a known one.
pub(super) fn explain(refusal: &str) -> Option<&'static str> {
    let refusal = refusal.to_lowercase();
    let is_meant = |known: &&Known| known.0.iter().all(|text| contains(&refusal, text));
    KNOWN.iter().find(is_meant).map(|(_, meaning)| *meaning)
}

/// A status code is not found within a longer one.
fn contains(text: &str, part: &str) -> bool {
    let is_code = part.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.match_indices(part).any(|(at, _)| {
        let joins = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_digit() || *byte == b'.');
        let before = at.checked_sub(1).and_then(|at| text.as_bytes().get(at));
        let after = text.as_bytes().get(at + part.len());
        !is_code || !(joins(before) || after.is_some_and(u8::is_ascii_digit))
    })
}

/// A refusal with what it means, where it is a known one.
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
                Some("no passwords over SMTP any more"),
            ),
            (
                "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. Visit https://aka.ms/smtp_auth_disabled for more information. [DB6P.EURPRD10.PROD.OUTLOOK.COM]",
                Some("Set-CASMailbox"),
            ),
            (
                "535 5.7.139 Authentication unsuccessful, basic authentication is disabled. [AS9.PROD.OUTLOOK.COM]",
                Some("takes no password here"),
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
                Some("sign in with a browser"),
            ),
            (
                "535 5.7.8 Username and Password not accepted. For more information, go to https://support.google.com/mail/?p=BadCredentials",
                Some("app passwords and OAuth only"),
            ),
            (
                "login refused: [ALERT] Application-specific password required: https://support.google.com/accounts/answer/185833 (Failure)",
                Some("app password"),
            ),
            (
                "login refused: User is authenticated but not connected.",
                Some("FullAccess"),
            ),
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
