//! What a receiving system did with a mail: the folder it was filed in, and verdicts on its origin.

use crate::words;

words!(
    /// Kind of the folder in which a mail was found.
    Placement, "placement" {
        /// The inbox.
        Inbox = "inbox",
        /// The folder for unsolicited mail (`\Junk`, RFC 6154).
        Junk = "junk",
        /// Any other folder, such as one that a rule of the mailbox selects.
        Other = "other",
    }
);

words!(
    /// Result of SPF, DKIM or DMARC (RFC 8601, sections 2.7.1 and 2.7.2).
    Verdict, "verdict" {
        /// The sender is authentic.
        Pass = "pass",
        /// The sender is not authentic.
        Fail = "fail",
        /// The sender is probably not authentic (SPF only).
        SoftFail = "softfail",
        /// The sender's domain states nothing about the message.
        Neutral = "neutral",
        /// The receiving system's own policy does not accept the result (DKIM only).
        Policy = "policy",
        /// There is no signature, or the domain publishes no policy.
        None = "none",
        /// A temporary error, such as a DNS timeout: nothing is known about the sender.
        TempError = "temperror",
        /// A permanent error, such as an invalid record.
        PermError = "permerror",
    }
);

impl Verdict {
    /// Parses the word in an `Authentication-Results` field, in any case and including words of
    /// earlier versions and products; `None` for a word that is not known.
    ///
    /// ```
    /// use mailqos_model::Verdict;
    /// assert_eq!(Verdict::parse("HardFail"), Some(Verdict::Fail)); // RFC 5451, section 2.4.2
    /// assert_eq!(Verdict::parse("bestguesspass"), Some(Verdict::None)); // Exchange: no DMARC record
    /// assert_eq!(Verdict::parse("perhaps"), None);
    /// ```
    pub fn parse(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase();
        Some(match &*word {
            "hardfail" => Self::Fail,
            "bestguesspass" => Self::None,
            word => word.parse().ok()?,
        })
    }

    /// Returns whether the result says something about the sender: a temporary error does not.
    pub fn is_final(self) -> bool {
        self != Self::TempError
    }
}

/// Names of junk folders without their parents, in lower case: those of mail servers and mail
/// programs in the languages that they are translated to. They are needed for servers without
/// special-use attributes (RFC 6154).
const JUNK: [&str; 46] = [
    "junk",
    "junkemail",
    "junk email",
    "junk e-mail",
    "junk mail",
    "junk-e-mail",
    "spam",
    "spam-mails",
    "[gmail]/spam",
    "bulk",
    "bulk mail",
    "spamverdacht",
    "unerwünscht",
    "unerwünschte werbung",
    "werbung",
    "skräppost",
    "søppelpost",
    "søppel-e-post",
    "uønsket mail",
    "uønsket post",
    "roskaposti",
    "roskapostikansio",
    "courrier indésirable",
    "éléments indésirables",
    "indésirables",
    "pourriel",
    "correo no deseado",
    "no deseado",
    "correo basura",
    "correu brossa",
    "posta indesiderata",
    "indesiderata",
    "ongewenste e-mail",
    "ongewenste reclame",
    "lixo eletrônico",
    "lixo eletrónico",
    "lixo electrónico",
    "wiadomości-śmieci",
    "nevyžádaná pošta",
    "levélszemét",
    "нежелательная почта",
    "спам",
    "önemsiz e-posta",
    "迷惑メール",
    "垃圾邮件",
    "스팸메일함",
];

impl Placement {
    /// Returns the kind of a folder, by its name with or without its parents.
    ///
    /// ```
    /// use mailqos_model::Placement;
    /// assert_eq!(Placement::of_folder("inbox"), Placement::Inbox); // RFC 9051, section 5.1
    /// assert_eq!(Placement::of_folder("INBOX.Skräppost"), Placement::Junk);
    /// assert_eq!(Placement::of_folder("Offers"), Placement::Other);
    /// ```
    pub fn of_folder(name: &str) -> Self {
        let name = name.to_lowercase();
        if name == "inbox" {
            return Self::Inbox;
        }
        let leaf = name.rsplit(['/', '.', '\\']).next().unwrap_or(&name);
        if JUNK.contains(&leaf) || JUNK.contains(&&*name) { Self::Junk } else { Self::Other }
    }
}

/// An enhanced status code (RFC 3463).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnhancedStatus {
    /// 2 for success, 4 for a temporary and 5 for a permanent failure.
    pub class: u8,
    /// What the status is about, such as 1 for an address.
    pub subject: u16,
    /// The detail.
    pub detail: u16,
}

impl EnhancedStatus {
    /// Returns the first enhanced status code of a failure in a text, such as that of a bounce.
    ///
    /// ```
    /// use mailqos_model::EnhancedStatus;
    /// let found = EnhancedStatus::find("the mail bounced: 5.1.1: 550 5.1.1 unknown user");
    /// assert_eq!(found.map(|status| status.to_string()), Some("5.1.1".to_owned()));
    /// // Versions and addresses are not status codes (RFC 3463, section 2).
    /// assert_eq!(EnhancedStatus::find("Exim 4.98.2.1 refused 5.6.7.8"), None);
    /// ```
    pub fn find(text: &str) -> Option<Self> {
        let words = text.split(|c: char| !(c.is_ascii_digit() || c == '.'));
        words.map(|word| word.trim_end_matches('.')).find_map(Self::parse)
    }

    fn parse(word: &str) -> Option<Self> {
        let mut parts = word.split('.');
        let (class, subject, detail) = (parts.next()?, parts.next()?, parts.next()?);
        // Each of the last two has up to three digits.
        let number = |text: &str| match text.len() {
            1..=3 => text.parse().ok(),
            _ => None,
        };
        let class = match class {
            "4" => 4,
            "5" => 5,
            _ => return None,
        };
        (parts.next().is_none()).then_some(())?;
        Some(Self { class, subject: number(subject)?, detail: number(detail)? })
    }
}

impl std::fmt::Display for EnhancedStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn junk_folders_are_known_by_the_names_that_servers_give_them() {
        for (name, expected) in [
            // https://github.com/huacnlee/omamail/pull/90: Exchange Online has no attributes, and a
            // name may begin with the word.
            ("Junk Email", Placement::Junk),
            ("Junk E-mail", Placement::Junk),
            ("Junk Drawer", Placement::Other),
            // https://github.com/mailcow/mailcow-dockerized/pull/111
            ("Junk-E-Mail", Placement::Junk),
            // https://github.com/jstedfast/MailKit/issues/274: Yahoo.
            ("Bulk Mail", Placement::Junk),
            // https://github.com/hmailserver/hmailserver/issues/534: Dutch.
            ("Ongewenste e-mail", Placement::Junk),
            // https://github.com/mscdex/node-imap/issues/179
            ("[Gmail]/Spam", Placement::Junk),
            ("[Gmail]/All Mail", Placement::Other),
            // https://github.com/RainLoop/rainloop-webmail/issues/1237
            ("INBOX.Junk", Placement::Junk),
            ("INBOX/Spam", Placement::Junk),
            ("INBOX", Placement::Inbox),
            ("INBOX.Spam archive", Placement::Other),
            ("", Placement::Other),
        ] {
            assert_eq!(Placement::of_folder(name), expected, "{name}");
        }
    }
}
