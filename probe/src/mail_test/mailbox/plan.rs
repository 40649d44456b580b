//! Plans for when to look for a mail.

use mailqos_config::MailQos;
use mailqos_model::Micros;

use super::super::{evidence::Moment, pickup::PickupError};

/// Maximum time between pick-ups for a late mail.
const SPARSEST: Micros = Micros::from_secs(15 * 60);

/// Pace of a precise monitor: gaps proportional to the elapsed time, starting shortly before the
/// fastest earlier arrival.
#[derive(Debug, Clone, Copy)]
struct Pace {
    shortest: Micros,
    longest: Micros,
    /// Divisor of the elapsed time that gives the gap.
    part: i64,
}

/// Pace of polls over an open connection, which cost the server almost nothing.
const POLLS: Pace =
    Pace { shortest: Micros::from_millis(20), longest: Micros::from_millis(200), part: 20 };
/// Pace of visits, each of which costs the server a login.
const VISITS: Pace =
    Pace { shortest: Micros::from_millis(60), longest: Micros::from_millis(500), part: 20 };

/// Returns the pace while a person waits for the result, regardless of a longer check interval. A
/// single test may cost the server a few dozen logins, and measures the round trip to within a tenth.
fn while_waited_for(check_interval: Micros) -> Pace {
    const SHORTEST: Micros = Micros::from_millis(50);
    Pace { shortest: SHORTEST, longest: check_interval.max(SHORTEST), part: 5 }
}

impl Pace {
    fn gap(self, elapsed: Micros) -> Micros {
        Micros((elapsed.0 / self.part).clamp(self.shortest.0, self.longest.0))
    }
}

/// Plan for when to look for a mail.
#[derive(Debug, Clone)]
pub(in crate::mail_test) struct Plan {
    pub(in crate::mail_test) sent: Moment,
    pub(in crate::mail_test) check_interval: Micros,
    pub(in crate::mail_test) deadline: Moment,
    pub(super) next: Moment,
    /// Next pick-up by the check interval.
    pub(super) check: Moment,
    /// Extra pick-ups around the expected arrival, earliest first.
    pub(super) looks: Vec<Moment>,
    /// Number of remaining immediate visits for announcements of a watch.
    pub(super) on_landing: u8,
    /// Start of the short gaps, for precise monitors.
    pub(super) precise_from: Option<Moment>,
    /// Whether a person waits for the result. The mail is then looked for at short gaps, whatever
    /// the check interval, until the server refuses a visit.
    pub(super) is_attended: bool,
    /// Whether only visits can find the mail, because no watch is running.
    pub(super) by_visits: bool,
}

impl Plan {
    pub(in crate::mail_test) fn new(sent: Moment, options: &MailQos) -> Self {
        let deadline = sent + options.max_round_trip;
        let check = (sent + options.check_interval).min(deadline);
        Self {
            sent,
            check_interval: options.check_interval,
            deadline,
            next: check,
            check,
            looks: Vec::new(),
            on_landing: 0,
            precise_from: None,
            is_attended: false,
            by_visits: true,
        }
    }

    /// Marks that a person waits for the result.
    pub(super) fn attended(mut self) -> Self {
        self.is_attended = true;
        let pace = while_waited_for(self.check_interval);
        self.next = self.next.min(self.sent + pace.shortest);
        self
    }

    /// Marks that a watch covers the mailbox.
    pub(super) fn watched(mut self) -> Self {
        self.by_visits = false;
        self
    }

    /// Adds pick-ups at these times after sending.
    pub(super) fn looking(mut self, looks: &[Micros], extra: u8) -> Self {
        self.on_landing = if looks.is_empty() { 0 } else { extra };
        self.looks = looks.iter().map(|look| self.sent + *look).collect();
        self.next = self.next_visit();
        self
    }

    fn next_visit(&self) -> Moment {
        let look = self.looks.first().filter(|_| self.by_visits);
        look.map_or(self.check, |look| self.check.min(*look))
    }

    /// Looks for the mail at short gaps, starting at this time after sending.
    pub(super) fn precise(mut self, from: Micros) -> Self {
        let from = self.sent + from;
        self.precise_from = Some(from);
        if self.by_visits {
            self.next = self.next.min(from);
        }
        self
    }

    /// Returns when a watch must poll next.
    pub(super) fn next_poll(&self) -> Option<Moment> {
        let now = Moment::now();
        if now >= self.deadline {
            return None;
        }
        if let Some(from) = self.precise_from {
            return Some(from.max(now + POLLS.gap(now - self.sent)));
        }
        // A poll made slightly early is not repeated.
        let soon = now + POLLS.shortest + POLLS.shortest;
        self.looks.iter().find(|look| **look > soon).copied()
    }

    /// Schedules the next pick-up after one that began at `began`.
    pub(super) fn advance(&mut self, began: Moment, error: Option<&PickupError>) {
        let now = Moment::now();
        // Pick-ups missed during a visit to a slow server are not repeated.
        self.looks.retain(|look| *look > now);
        if error.is_some() {
            self.looks.clear();
            self.on_landing = 0;
            self.is_attended = false;
        }
        if began >= self.check || error.is_some() {
            self.check = (began + self.check_interval).min(self.deadline);
        }
        if began < self.deadline {
            self.next = match error {
                // Each refused login may cause a delay for the account and this address, or lock
                // it, so only one more attempt is made.
                Some(error) if error.refused => self.deadline,
                None if self.by_visits && self.precise_from.is_some() => {
                    (now + VISITS.gap(now - self.sent)).min(self.deadline)
                }
                None if self.is_attended => {
                    let gap = while_waited_for(self.check_interval).gap(now - self.sent);
                    (now + gap).min(self.next_visit())
                }
                _ => self.next_visit(),
            };
        } else {
            let pause = Micros(
                ((began - self.sent).0 / 10)
                    .clamp(self.check_interval.0.min(SPARSEST.0), SPARSEST.0),
            );
            self.next = began + pause;
        }
    }
}

#[cfg(test)]
mod tests {
    use mailqos_model::Stage;

    use super::*;

    fn plan(check_interval: Micros) -> Plan {
        let sent = Moment::now();
        let deadline = sent + Micros::from_secs(3600);
        let check = sent + check_interval;
        Plan {
            sent,
            check_interval,
            deadline,
            next: check,
            check,
            looks: Vec::new(),
            on_landing: 0,
            precise_from: None,
            is_attended: false,
            by_visits: true,
        }
    }

    #[test]
    fn a_person_does_not_wait_for_the_check_interval() {
        for check_interval in
            [Micros::from_millis(50), Micros::from_secs(5), Micros::from_secs(900)]
        {
            let plan = plan(check_interval).attended();
            assert_eq!(plan.next - plan.sent, Micros::from_millis(50));
            // Until a minute has passed, the gaps stay in proportion, and the number of logins stays low.
            let pace = while_waited_for(check_interval);
            let (mut elapsed, mut visits) = (Micros::from_millis(50), 1);
            while elapsed < Micros::from_secs(60) {
                let gap = pace.gap(elapsed);
                assert!(gap <= check_interval.max(Micros::from_millis(50)));
                assert!(gap.0 <= elapsed.0 / 5 || gap == Micros::from_millis(50));
                elapsed = elapsed + gap;
                visits += 1;
            }
            assert!(visits < 50 || check_interval < Micros::from_secs(1), "{visits}");
        }
    }

    /// As with Outlook.com: "-ERR Exceeded the login limit for a 15 minute period" (frappe issue
    /// 242).
    #[test]
    fn a_server_that_refuses_a_visit_sees_the_check_interval_again() {
        let mut plan = plan(Micros::from_secs(900)).attended();
        plan.advance(plan.next, None);
        assert!(plan.next - plan.sent < Micros::from_secs(1));
        let refusal = PickupError::new(Stage::PickupLogin, "-ERR Exceeded the login limit");
        plan.advance(plan.next, Some(&refusal));
        let next = plan.next;
        plan.advance(next, None);
        assert!(next - plan.sent > Micros::from_secs(890));
        assert!(plan.next - next > Micros::from_secs(890));
    }
}
