//! The test mail itself: the token three times, and words for a person who finds it.

use mailqos_core::{config::MailQos, model::UtcMicros};

use super::token::{SigningKey, Token};

/// Writes the mail. Its lines are shorter than 998 bytes and in ASCII, so that no server has reason to change them.
pub(super) fn write(options: &MailQos, key: &SigningKey, token: &Token) -> Vec<u8> {
    let text = key.write(token);
    let nonce = u64::from_be_bytes(token.nonce);
    let domain = options.from.rsplit_once('@').map_or("localhost", |(_, domain)| domain);
    let (from, to) = (&options.from, &options.to);
    let (site, monitor) = (&token.site, &token.monitor);
    let date = rfc5322(token.sent_at);
    format!(
        "From: mailqos <{from}>\r\n\
         To: <{to}>\r\n\
         Subject: mailqos test\r\n {text}\r\n\
         Date: {date}\r\n\
         Message-ID: <mq1.{nonce:016x}@{domain}>\r\n\
         X-MailQoS-Token: {text}\r\n\
         Auto-Submitted: auto-generated\r\n\
         X-Auto-Response-Suppress: All\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=us-ascii\r\n\
         Content-Transfer-Encoding: 7bit\r\n\
         \r\n\
         This is a test mail. mailqos measures with it how long mail takes from\r\n\
         the site {site} to this mailbox, for the monitor {monitor}.\r\n\
         It is normally removed within seconds. If you can read it, it was left\r\n\
         behind; you may delete it. There is no need to answer.\r\n\
         \r\n\
         {text}\r\n"
    )
    .into_bytes()
}

fn rfc5322(moment: UtcMicros) -> String {
    let zoned = jiff::tz::TimeZone::UTC.to_datetime(moment.timestamp());
    let day = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
        .get(usize::try_from(zoned.weekday().to_monday_zero_offset()).unwrap_or(0))
        .copied()
        .unwrap_or("Mon");
    let month = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ]
    .get(usize::try_from(zoned.month() - 1).unwrap_or(0))
    .copied()
    .unwrap_or("Jan");
    format!(
        "{day}, {:02} {month} {:04} {:02}:{:02}:{:02} +0000",
        zoned.day(),
        zoned.year(),
        zoned.hour(),
        zoned.minute(),
        zoned.second()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_rfc_5322() {
        assert_eq!(rfc5322(UtcMicros(0)), "Thu, 01 Jan 1970 00:00:00 +0000");
        assert_eq!(
            rfc5322(UtcMicros(1_795_456_800_999_999)),
            "Mon, 23 Nov 2026 18:00:00 +0000"
        );
    }
}
