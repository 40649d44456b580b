//! Results of tests: the outcome, and what the sample records about the mail and the pick-ups.

use mailqos_base::lock::IgnorePoison as _;
use mailqos_base::one_line;
use mailqos_config::MailQos;
use mailqos_model::{Micros, Outcome, Sample, Stage, UtcMicros};

use super::{
    MailTests,
    classify::{Kind, Report},
    evidence::{Bounds, Evidence, Moment, RoundTrip},
    mailbox::{Expected, LastVisit, Progress},
    pickup, received,
    receiver::Receiver,
    submission::{Sent, Submission},
    verdicts,
};

/// A mail in transit, with the known facts about it.
#[derive(Clone, Copy)]
pub(super) struct Transit<'a> {
    pub(super) sent: &'a Sent,
    pub(super) expected: &'a Expected,
    pub(super) progress: &'a Progress,
    pub(super) options: &'a MailQos,
}

impl MailTests {
    /// Judges a test at the maximum round trip; returns whether it is settled.
    pub(super) fn judge(&self, sample: &mut Sample, transit: Transit<'_>, stopped: bool) -> bool {
        let Transit { sent, expected, progress, options } = transit;
        if progress.is_complete() {
            sample.stage = None;
            sample.error = None;
            self.note_found(sample, transit);
            return true;
        }
        if let Some(visit) = &progress.last {
            note_visit(sample, visit);
        }
        sample.pickups = Some(progress.pickups);
        if stopped {
            sample.outcome = Outcome::NotTested;
            sample.stage = None;
            sample.error = Some("the probe was stopped while the mail was in flight".to_owned());
            sample.settled = Some(false);
            return false;
        }
        let error = progress.last.as_ref().and_then(|visit| visit.error.as_ref());
        if sample.stage.is_some() {
            // The submission is uncertain, and no mail has arrived so far.
            sample.outcome = Outcome::SmtpFailed;
            sample.settled = Some(false);
            return false;
        }
        match error {
            Some(error) => {
                error.fill_in(sample);
                true
            }
            None if !progress.has_looked_at(sent.moment + options.max_round_trip) => {
                let stage = expected.visit_is_at().unwrap_or(Stage::PickupConnect);
                sample.outcome = Outcome::PickupFailed;
                sample.stage = Some(stage);
                // Any earlier pick-ups were too early, so the next one will show whether the mail
                // has arrived.
                sample.settled = Some(false);
                let what = if progress.last.is_some() {
                    "the last pick-up did not finish within"
                } else {
                    "no pick-up finished within"
                };
                sample.error = Some(format!(
                    "{what} {}: {}",
                    options.max_round_trip + options.timeout,
                    waits_for(stage)
                ));
                false
            }
            None => {
                note_lost(sample, progress, options.max_round_trip);
                sample.settled = Some(false);
                false
            }
        }
    }

    /// Judges a test whose mail was not found before the horizon ended.
    pub(super) async fn give_up(&self, sample: &mut Sample, transit: Transit<'_>) {
        let Transit { sent, expected, progress, options } = transit;
        // The pick-up at the maximum round trip was inconclusive, but a later one succeeded.
        if sample.outcome == Outcome::PickupFailed
            && progress.looked_at.is_some_and(|at| at >= sent.moment + options.max_round_trip)
        {
            note_lost(sample, progress, options.horizon);
        }
        if sample.outcome == Outcome::Lost && progress.notified.is_some() {
            // It may have arrived after the sample was judged.
            note_lost(sample, progress, options.horizon);
        }
        if sample.outcome != Outcome::Lost || progress.looked_at.is_some() {
            return;
        }
        // The mailbox has not been checked since the probe was restarted, so it is unknown whether
        // the mail is lost.
        if let Some(visit) = &progress.last {
            note_visit(sample, visit);
            sample.pickups = Some(progress.pickups);
        }
        match progress.last.as_ref().and_then(|visit| visit.error.as_ref()) {
            Some(error) => error.fill_in(sample),
            None => {
                let stage = expected.visit_is_at().unwrap_or(Stage::PickupConnect);
                sample.outcome = Outcome::PickupFailed;
                sample.stage = Some(stage);
                let error = format!(
                    "no pick-up finished since the probe was started: {}",
                    waits_for(stage)
                );
                sample.error = Some(error);
            }
        }
        self.base.excuse_if_offline(sample).await;
    }

    /// Fills in the known facts about a mail that arrived.
    pub(super) fn note_found(&self, sample: &mut Sample, transit: Transit<'_>) {
        let Transit { sent, progress, options, .. } = transit;
        if let Some(report) = progress.failure() {
            note_bounce(sample, progress, report);
            return;
        }
        let Some(found) = &progress.found else { return };
        // After a restart, only the time before DATA is known; the token contains the exact one.
        let moment = sent.moment + (found.token.sent_at - sent.at);
        let hops = received::hops(&found.mail);
        let is_of = |submission: &&Submission| {
            received::is_of_submission(&found.mail, &submission.reply, &submission.client)
        };
        let evidence = Evidence {
            sent: moment,
            accepted: sent.accepted.as_ref().filter(is_of).map(|submission| submission.within),
            not_shown: found.not_shown,
            shown: found.shown,
            hops: &hops,
            filed: received::is_filed(&found.mail),
            internal_date: found.landed,
            notified: found.notified,
            uncounted: uncounted(found.token.sent_at, moment),
            route: &route(options),
        };
        let landing = {
            let mut learned = self.registry.learned.lock().ignore_poison();
            let landing = evidence.landing(&mut learned);
            let Bounds { after, before } = landing.expected;
            learned.expectations.note(&sample.monitor, after - moment, before - moment);
            learned.change();
            landing
        };
        let RoundTrip { estimate: round_trip, error, likely_error } = landing.round_trip(moment);
        if options.precise {
            self.registry.landed_after(&sample.monitor, landing.expected.after - moment);
        }
        sample.round_trip = Some(round_trip);
        sample.round_trip_error = Some(error);
        sample.round_trip_likely_error = Some(likely_error);
        sample.outcome =
            if round_trip <= options.max_round_trip { Outcome::Ok } else { Outcome::Late };
        if let Some(visit) = progress.found_by.as_ref() {
            note_visit(sample, visit);
        }
        sample.pickup_receive = found.receive;
        sample.pickups = Some(progress.pickups.max(1));
        sample.folder = found.folder.clone();
        sample.placement = found.placement;
        sample.duplicates = Some(progress.duplicates);
        note_verdicts(sample, &found.mail, options);
        sample.hops = (!hops.is_empty()).then_some(hops);
    }
}

/// Returns the time since sending that the wall clock counted and the monotonic one did not. The
/// monotonic clock stands still while a machine is suspended, and the wall clock may have been set.
/// The two cases can't be distinguished.
fn uncounted(sent_at: UtcMicros, sent: Moment) -> Micros {
    let monotonic = Moment::now() - sent;
    let ahead = (UtcMicros::now() - sent_at) - monotonic;
    // NTP slews a clock by up to 500 ppm.
    let slewed = Micros::from_millis(50) + Micros(monotonic.0 / 2_000);
    if ahead > slewed { ahead } else { Micros::ZERO }
}

/// Records that the mail was not there this long after sending, and any notification that does not
/// settle its fate.
fn note_lost(sample: &mut Sample, progress: &Progress, after: Micros) {
    sample.outcome = Outcome::Lost;
    sample.stage = None;
    let mut text = format!("not in the mailbox {after} after sending");
    if let Some(report) = &progress.notified {
        let what = match report.kind {
            Kind::Failed | Kind::Unclear => "a notification about the mail arrived",
            Kind::Delayed => "a notification reports a delay",
            Kind::Delivered => "a notification reports that the mail was delivered or relayed",
            Kind::Complaint => "a complaint about the mail arrived",
            Kind::Disposition => "a disposition notification arrived",
            Kind::AutoReply => "an automatic reply arrived",
        };
        text = format!("{text}; {}", said(report, what));
    }
    // It may be in a folder that could not be searched.
    for note in progress.notes() {
        text = format!("{text}; {note}");
    }
    sample.error = Some(one_line(&text, &[]));
}

/// Returns a notification's meaning, followed by its status and reason.
fn said(report: &Report, what: &str) -> String {
    let mut text = what.to_owned();
    for part in [&report.status, &report.reason].into_iter().flatten() {
        text = format!("{text}: {part}");
    }
    text
}

/// Describes what an unfinished visit is waiting for.
fn waits_for(stage: Stage) -> &'static str {
    match stage {
        Stage::PickupTls => "waiting for the TLS handshake",
        Stage::PickupGreeting => "waiting for the greeting",
        Stage::PickupLogin => "waiting for the reply to the login",
        Stage::PickupList => "waiting for the list of mails",
        Stage::PickupReceive => "waiting for the mails",
        _ => "waiting for the connection",
    }
}

/// Returns the servers that the mails of a test pass.
fn route(options: &MailQos) -> String {
    let (smtp, pickup) = (&options.smtp, &options.pickup);
    format!("{}:{} to {}:{}", smtp.server, smtp.port, pickup.server, pickup.port)
}

/// Fills in the content of a notification that a mail will not arrive.
fn note_bounce(sample: &mut Sample, progress: &Progress, report: &Report) {
    sample.outcome = Outcome::Lost;
    sample.stage = Some(Stage::Bounced);
    sample.error = Some(one_line(&said(report, "the mail bounced"), &[]));
    if let Some(visit) = progress.found_by.as_ref() {
        note_visit(sample, visit);
    }
    sample.pickups = Some(progress.pickups.max(1));
}

/// Fills in the receiving system's verdicts on the mail.
fn note_verdicts(sample: &mut Sample, mail: &[u8], options: &MailQos) {
    let (to, server) = (&options.to.address, &options.pickup.server);
    let receiver = Receiver::new(to, &server.to_string(), &options.authserv_ids);
    let verdicts = verdicts::read(mail, &receiver);
    sample.spf = verdicts.spf;
    sample.dkim = verdicts.dkim;
    sample.dmarc = verdicts.dmarc;
    sample.spam_verdict = verdicts.spam.map(str::to_owned);
    sample.spam_score = verdicts.score;
}

fn note_visit(sample: &mut Sample, visit: &LastVisit) {
    pickup::fill_in(sample, &visit.phases, &visit.missing, visit.tls.as_ref());
}
