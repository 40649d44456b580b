//! Reads the token of a test mail by its documented format; the signature is not checked here.

use mailqos_model::UtcMicros;

/// Content of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The site that sent the mail.
    pub site: String,
    /// The tested monitor.
    pub monitor: String,
    /// Time just before the content was sent to the server.
    pub sent_at: UtcMicros,
    /// Random number that distinguishes the mail from all others.
    pub nonce: String,
}

/// Returns the first token in a mail, wherever it is.
pub fn find(mail: &[u8]) -> Option<Token> {
    let text = String::from_utf8_lossy(mail);
    text.match_indices("mq1:").find_map(|(at, mark)| {
        let mut parts = text[at + mark.len()..].split(':');
        let mut part = || parts.next().map(str::to_owned);
        let (site, monitor, sent_at, nonce) = (part()?, part()?, part()?, part()?);
        let sent_at = UtcMicros(i64::from_str_radix(&sent_at, 36).ok()?);
        (nonce.len() == 16).then_some(Token { site, monitor, sent_at, nonce })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_in_a_mail() {
        let mail = b"Subject: [X] mailqos test\r\n mq1:here:mail-1:fq0p2hcjls:0123456789abcdef:sig\r\n\r\n";
        let token = find(mail).expect("a token");
        assert_eq!((token.site.as_str(), token.monitor.as_str()), ("here", "mail-1"));
        assert_eq!(token.sent_at.0, i64::from_str_radix("fq0p2hcjls", 36).expect("base 36"));
        assert_eq!(find(b"nothing"), None);
    }
}
