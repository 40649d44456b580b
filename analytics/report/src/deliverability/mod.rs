//! What is wrong with the deliverability of monitors, in sentences, and what to do about it.

mod bounces;

use mailqos_figures::{MailShare, Share, share_changes::ShareChange};
use mailqos_model::{Micros, UtcMicros};

pub use bounces::meaning;

use super::{
    digest::{MailDigest, WATCHED},
    facts::Monitor,
    locale::Locale,
};

/// A share that is worse than this, with confidence, is a finding even if it did not change.
const GOOD: f64 = 0.95;
/// Time before the expiry of a certificate from which it is a finding.
const SOON: Micros = Micros::from_secs(30 * 86_400);
/// Versions of TLS that are out of date (RFC 8996).
const OUTDATED: [&str; 4] = ["SSLv3", "TLSv1", "TLSv1.0", "TLSv1.1"];

/// A finding about the deliverability of a monitor.
#[derive(Debug)]
pub struct MailFinding<'a> {
    /// The monitor.
    pub monitor: &'a Monitor,
    /// The finding in a sentence.
    pub text: String,
    /// What to do about it; empty if it is good news.
    pub advice: &'static str,
    /// The share that it is about, and the day of the change; `None` if a chart would add nothing.
    pub about: Option<(MailShare, Option<UtcMicros>)>,
}

/// Returns all findings about these monitors, those of each monitor together.
pub fn findings<'a>(
    monitors: &[&'a Monitor],
    end: UtcMicros,
    locale: &Locale,
) -> Vec<MailFinding<'a>> {
    let mut found = Vec::new();
    for monitor in monitors {
        let Some(mails) = &monitor.digest.mails else { continue };
        let writer = Writer { monitor, mails, locale };
        for share in WATCHED {
            writer.share(share, &mut found);
        }
        writer.tls(end, &mut found);
        if mails.total.duplicated > 0 {
            found.push(MailFinding {
                monitor,
                text: locale.fill(
                    "{0}: {1} arrived more than once.",
                    &[
                        &monitor.name,
                        &locale.count(mails.total.duplicated, "one mail", "{0} mails"),
                    ],
                ),
                advice: locale
                    .t("Look for a server that delivers a mail again after its connection broke."),
                about: None,
            });
        }
    }
    found
}

/// Returns the name of a server in sentences, by its leg.
fn server_name(leg: usize, locale: &Locale) -> &'static str {
    locale.t(if leg == 0 { "the SMTP server" } else { "the mailbox server" })
}

/// Returns the name of a verdict.
fn verdict(share: MailShare) -> &'static str {
    match share {
        MailShare::SpfPass => "SPF",
        MailShare::DkimPass => "DKIM",
        _ => "DMARC",
    }
}

/// Writes the findings about one monitor.
struct Writer<'a, 'b> {
    monitor: &'a Monitor,
    mails: &'b MailDigest,
    locale: &'b Locale,
}

impl<'a> Writer<'a, '_> {
    fn share(&self, share: MailShare, found: &mut Vec<MailFinding<'a>>) {
        let none = Vec::new();
        let changes = self.mails.changes.get(&share).unwrap_or(&none);
        let mut rest = changes.as_slice();
        while let [change, after @ ..] = rest {
            rest = after;
            let is_worse = share.more_is_better() == (change.after.value < change.before.value);
            // A change that was undone is one finding.
            let undone = after.first().filter(|next| {
                is_worse && returns(next.after, change.before) && next.at > change.at
            });
            let text = match undone {
                Some(next) => {
                    rest = &rest[1..];
                    self.episode(share, change, next)
                }
                None => self.change(share, change, is_worse),
            };
            found.push(MailFinding {
                monitor: self.monitor,
                text,
                advice: if is_worse { self.advice(share) } else { "" },
                about: Some((share, Some(change.at))),
            });
        }
        if changes.is_empty()
            && let Some(value) = self.mails.total.share(share)
            && is_bad(share, &value)
        {
            found.push(MailFinding {
                monitor: self.monitor,
                text: self.state(share, &value),
                advice: self.advice(share),
                about: Some((share, None)),
            });
        }
    }

    fn value(&self, share: &Share) -> String {
        self.locale.share(share.part, share.whole)
    }

    /// Returns the median delay of a retry.
    fn retry(&self) -> String {
        let delay = self.mails.total.retry_delay();
        delay.map_or_else(|| super::locale::DASH.to_owned(), |delay| self.locale.span(delay))
    }

    fn change(&self, share: MailShare, change: &ShareChange, is_worse: bool) -> String {
        let l = self.locale;
        let (name, day) = (&*self.monitor.name, &*l.date(change.at));
        let (now, before) = (&*self.value(&change.after), &*self.value(&change.before));
        match (share, is_worse) {
            (MailShare::JunkRate, true) => l.fill(
                "{0}: since {1}, {2} of the mails that arrive are filed as spam ({3} before).",
                &[name, day, now, before],
            ),
            (MailShare::JunkRate, false) => l.fill(
                "{0}: since {1}, fewer mails are filed as spam: {2} ({3} before).",
                &[name, day, now, before],
            ),
            (MailShare::FirstAttempt, true) => l.fill(
                "{0}: since {1}, only {2} of the mails are accepted at the first attempt ({3} before); a retry costs {4} (median).",
                &[name, day, now, before, &self.retry()],
            ),
            (MailShare::FirstAttempt, false) => l.fill(
                "{0}: since {1}, more mails are accepted at the first attempt: {2} ({3} before).",
                &[name, day, now, before],
            ),
            (_, true) => l.fill(
                "{0}: since {1}, only {3} of the mails pass {2} ({4} before).",
                &[name, day, verdict(share), now, before],
            ),
            (_, false) => l.fill(
                "{0}: since {1}, more mails pass {2}: {3} ({4} before).",
                &[name, day, verdict(share), now, before],
            ),
        }
    }

    fn episode(&self, share: MailShare, change: &ShareChange, next: &ShareChange) -> String {
        let l = self.locale;
        // The last day of the episode is the one before the next change.
        let last = l.date(UtcMicros(next.at.0 - 1));
        let (name, day) = (&*self.monitor.name, &*l.date(change.at));
        let (then, otherwise) = (&*self.value(&change.after), &*self.value(&change.before));
        match share {
            MailShare::JunkRate => l.fill(
                "{0}: from {1} to {2}, {3} of the mails that arrived were filed as spam ({4} before).",
                &[name, day, &last, then, otherwise],
            ),
            MailShare::FirstAttempt => l.fill(
                "{0}: from {1} to {2}, only {3} of the mails were accepted at the first attempt ({4} before); a retry cost {5} (median).",
                &[name, day, &last, then, otherwise, &self.retry()],
            ),
            _ => l.fill(
                "{0}: from {1} to {2}, only {4} of the mails passed {3} ({5} before).",
                &[name, day, &last, verdict(share), then, otherwise],
            ),
        }
    }

    fn state(&self, share: MailShare, value: &Share) -> String {
        let (l, name, value) = (self.locale, &*self.monitor.name, &*self.value(value));
        match share {
            MailShare::JunkRate => {
                l.fill("{0}: {1} of the mails that arrived were filed as spam.", &[name, value])
            }
            MailShare::FirstAttempt => l.fill(
                "{0}: only {1} of the mails were accepted at the first attempt; a retry cost {2} (median).",
                &[name, value, &self.retry()],
            ),
            _ => l.fill("{0}: only {2} of the mails passed {1}.", &[name, verdict(share), value]),
        }
    }

    fn advice(&self, share: MailShare) -> &'static str {
        self.locale.t(match share {
            MailShare::JunkRate => {
                "Compare the header of a mail in the junk folder with that of one in the inbox, and look up the sending servers in blocklists."
            }
            MailShare::SpfPass => "Check that the SPF record lists every server that sends for the domain.",
            MailShare::DkimPass => "Check that the sending server signs, and that the public key is in DNS.",
            MailShare::FirstAttempt => {
                "The receiving server rejects mails temporarily, as with greylisting: ask its operator for an exception, or accept the delay."
            }
            _ => "DMARC requires that SPF or DKIM passes for the domain of the sender's address.",
        })
    }

    fn tls(&self, end: UtcMicros, found: &mut Vec<MailFinding<'a>>) {
        let l = self.locale;
        let name = &*self.monitor.name;
        for leg in 0..2 {
            let Some((_, facts)) = &self.mails.total.latest_tls[leg] else { continue };
            let server = server_name(leg, l);
            let mut push = |text: String, advice: &'static str| {
                found.push(MailFinding { monitor: self.monitor, text, advice, about: None });
            };
            if let Some(expires_at) = facts.expires_at.filter(|at| *at < end + SOON) {
                let text = if expires_at < end {
                    "{0}: the certificate of {1} expired on {2}."
                } else {
                    "{0}: the certificate of {1} expires on {2}."
                };
                push(
                    l.fill(text, &[name, server, &l.date(expires_at)]),
                    l.t("Renew the certificate."),
                );
            }
            if let Some(version) = facts.version.as_deref().filter(|known| OUTDATED.contains(known))
            {
                push(
                    l.fill("{0}: {1} uses {2}, which is out of date.", &[name, server, version]),
                    l.t("Enable TLS 1.2 or later (RFC 8996)."),
                );
            }
        }
    }
}

/// Returns whether a share is what it was before.
fn returns(now: Share, before: Share) -> bool {
    (now.value - before.value).abs() < 1.0 - GOOD
}

fn is_bad(share: MailShare, value: &Share) -> bool {
    if share.more_is_better() { value.high < GOOD } else { value.low > 1.0 - GOOD }
}

#[cfg(test)]
mod tests;
