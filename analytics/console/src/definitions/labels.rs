//! Names of fields, kinds and choices.

use mailqos_config::reference::Key;

use super::{t, words};
use crate::language::{of_key, plain, text};

/// Returns the name of a field.
pub(crate) fn label(tag: &str, path: &str) -> String {
    let known = match path {
        "id" | "object.id" => t("Id"),
        "name" | "object.name" => t("Display name"),
        "object" => t("Object"),
        "object.address" => t("Address"),
        "tags" | "object.tags" => t("Tags"),
        "enabled" => t("Enabled"),
        "kind" => t("Kind"),
        "from" => t("From"),
        "to" => t("Mailbox address"),
        "smtp.protocol" | "pickup.protocol" => t("Protocol"),
        "smtp.server" => t("SMTP server"),
        "pickup.server" => t("Pick-up server"),
        "smtp.port" | "pickup.port" => t("Port"),
        "smtp.tls" | "pickup.tls" => t("Encryption (TLS)"),
        "smtp.account" | "pickup.account" => t("Account"),
        "smtp.helo" => t("Name in EHLO"),
        "smtp.ca_file" | "pickup.ca_file" => t("File with trusted certificates"),
        "smtp.fingerprint" | "pickup.fingerprint" => t("Fingerprint of the certificate"),
        "smtp.insecure" | "pickup.insecure" => t("Accept any certificate"),
        "folders" => t("Folders"),
        "idle" => t("Announcements of new mail (IDLE)"),
        "precise" => t("Precise arrival"),
        "max_round_trip" => t("Max round trip"),
        "check_interval" => t("Check interval"),
        "extra_pickups" => t("Extra pick-ups"),
        "horizon" => t("Horizon"),
        "timeout" => t("Timeout"),
        "test_interval" => t("Test interval"),
        "schedule" => t("Schedule"),
        "timezone" => t("Time zone of the schedule"),
        "retest_interval" => t("Test interval while failing"),
        "overlap" => t("Overlapping tests"),
        "transcripts" => t("Transcripts"),
        "action_list" => t("Action list"),
        "alarm_after" => t("Failed tests before an alarm"),
        "depends_on" => t("Depends on"),
        "message.size" => t("Size of the mail"),
        "message.subject" => t("Subject"),
        "message.body" => t("Text of the mail"),
        "alarm.after_time" => t("Duration of failure before an alarm"),
        "alarm.either" => t("Either condition is enough"),
        "alarm.clear_after" => t("Successful tests before the alarm clears"),
        "alarm.flapping" => t("Alarm on flapping"),
        "alarm.clear_below" => t("Fraction below which a threshold is met again"),
        "alarm.certificate" => t("Remaining validity of certificates"),
        "alarm.spam_folders" => t("Forbidden folders"),
        "alarm.junk" => t("Highest share in the junk folder"),
        "alarm.spf" => t("Required result of SPF"),
        "alarm.dkim" => t("Required result of DKIM"),
        "alarm.dmarc" => t("Required result of DMARC"),
        "alarm.tls" => t("Oldest version of TLS"),
        "alarm.round_trip" => t("Alarm above this round trip"),
        "alarm.smtp_connect" => t("Alarm above this SMTP connection time"),
        "alarm.smtp_send" => t("Alarm above this SMTP send time"),
        "alarm.pickup_connect" => t("Alarm above this mailbox connection time"),
        "alarm.pickup_login" => t("Alarm above this login time"),
        "alarm.pickup_receive" => t("Alarm above this receive time"),
        "authserv_ids" => t("Hosts whose authentication results count"),
        "account.name" => t("Name of the account"),
        "account.user" => t("User name"),
        "account.password" => t("Password"),
        // A key that is newer than this list has its own name.
        path => {
            let name = path.rsplit('.').next().unwrap_or(path).replace('_', " ");
            let mut letters = name.chars();
            let first = letters.next().map(|letter| letter.to_uppercase().to_string());
            return format!("{}{}", first.unwrap_or_default(), letters.as_str());
        }
    };
    text(tag, known).to_owned()
}

/// Returns the description of a key with its limits, and whether it is in the language of the page.
pub(crate) fn description(tag: &str, key: &Key) -> (String, bool) {
    let english = plain(key.about);
    let Some(translated) = of_key(tag, &english) else {
        return (plain(&key.meaning()), tag == "en");
    };
    let limits = match key.bounds {
        Some((least, "")) => words(tag, t("At least {0}."), &[least]),
        Some((least, most)) => words(tag, t("From {0} to {1}."), &[least, most]),
        None => return (translated.to_owned(), true),
    };
    (format!("{translated} {limits}"), true)
}

/// Returns the default of a key in words.
pub(crate) fn otherwise(tag: &str, english: &str) -> String {
    let english = plain(english);
    of_key(tag, &english).map_or(english.clone(), str::to_owned)
}

/// Returns what a kind of test does.
pub(crate) fn about_kind<'a>(tag: &str, kind: &'a str) -> &'a str {
    match kind {
        "mail-qos" => text(tag, "Sends a mail, picks it up, and measures the round trip."),
        "mailbox" => text(tag, "Logs in to a mailbox and lists it; sends nothing."),
        other => other,
    }
}

/// Returns a word of the configuration as a choice.
pub(crate) fn choice(tag: &str, path: &str, word: &str) -> String {
    let known = match (path.rsplit('.').next().unwrap_or_default(), word) {
        ("tls", "none") => t("None"),
        ("tls", "implicit") => t("TLS from the first byte"),
        ("tls", "starttls") => return "STARTTLS".to_owned(),
        ("protocol", "graph") => return "Microsoft Graph".to_owned(),
        ("protocol", word) => return word.to_uppercase(),
        ("transcripts", "failed") => t("Failed tests"),
        ("transcripts", "all") => t("All tests"),
        ("transcripts", "none") => t("No tests"),
        (_, "true") => t("Yes"),
        (_, "false") => t("No"),
        (_, word) => return word.to_owned(),
    };
    text(tag, known).to_owned()
}
