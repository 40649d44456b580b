//! Progress of waiting for a mail.

use std::{collections::VecDeque, sync::Arc};

use mailqos_config::PickupProtocol;
use mailqos_lake::transcripts::Conversation;
use mailqos_mail::Transcript;
use mailqos_net::TlsSession;

use super::super::{
    classify::Report,
    evidence::Moment,
    pickup::{Finding, Found, MissingFolder, PickupError, PickupPhases},
};
use crate::testing;

/// Maximum number of visits per mail whose transcripts are kept.
const MAX_TRANSCRIPTS: usize = 4;

/// The last visit.
#[derive(Debug, Clone)]
pub(in crate::mail_test) struct LastVisit {
    pub(in crate::mail_test) began: Moment,
    pub(in crate::mail_test) phases: PickupPhases,
    pub(in crate::mail_test) tls: Option<TlsSession>,
    pub(in crate::mail_test) error: Option<PickupError>,
    /// Configured folders that could not be opened.
    pub(in crate::mail_test) missing: Vec<MissingFolder>,
    pub(super) transcript: Option<Arc<Transcript>>,
}

/// Progress of waiting for a mail.
#[derive(Debug, Clone, Default)]
pub(in crate::mail_test) struct Progress {
    /// Pick-ups since the mail was sent.
    pub(in crate::mail_test) pickups: i32,
    pub(in crate::mail_test) last: Option<LastVisit>,
    /// Start of the last visit that ended without an error.
    pub(in crate::mail_test) looked_at: Option<Moment>,
    /// The mail itself, if found.
    pub(in crate::mail_test) found: Option<Found>,
    /// Notification about the mail; a failure takes precedence.
    pub(in crate::mail_test) notified: Option<Report>,
    /// The visit whose finding settles the test.
    pub(in crate::mail_test) found_by: Option<LastVisit>,
    pub(in crate::mail_test) duplicates: i32,
    /// Transcripts of the last visits.
    visits: VecDeque<Arc<Transcript>>,
}

impl Progress {
    /// Records a visit and what it found about the mail.
    pub(super) fn note_visit(&mut self, visit: &LastVisit, finds: Vec<Found>) {
        self.pickups += 1;
        if visit.error.is_none() {
            self.looked_at = Some(visit.began);
        }
        if let Some(transcript) = &visit.transcript {
            if self.visits.len() >= MAX_TRANSCRIPTS {
                self.visits.pop_front();
            }
            self.visits.push_back(transcript.clone());
        }
        self.last = Some(visit.clone());
        for found in finds {
            if let Finding::Notification(report) = found.finding {
                self.note_notification(report, visit);
                continue;
            }
            match &mut self.found {
                Some(known) if known.receive.is_some() => self.duplicates += 1,
                known => {
                    *known = Some(found);
                    self.found_by = Some(visit.clone());
                }
            }
        }
    }

    /// Records a notification about the mail. It does not count as a duplicate, and the mail itself
    /// takes precedence.
    fn note_notification(&mut self, report: Report, visit: &LastVisit) {
        if self.failure().is_some() {
            return;
        }
        if report.is_failure() && self.found.is_none() {
            self.found_by = Some(visit.clone());
        }
        if report.is_failure() || self.notified.is_none() {
            self.notified = Some(report);
        }
    }

    /// Returns a report that the mail will not be delivered, as long as the mail has not arrived.
    pub(in crate::mail_test) fn failure(&self) -> Option<&Report> {
        self.notified.as_ref().filter(|report| report.is_failure() && self.found.is_none())
    }

    /// Returns the transcripts of the last visits.
    pub(in crate::mail_test) fn conversations(
        &self,
        protocol: PickupProtocol,
    ) -> impl Iterator<Item = Conversation> + '_ {
        self.visits
            .iter()
            .map(move |transcript| testing::conversation(&protocol.to_string(), transcript))
    }

    /// Returns remarks that may be relevant to the outcome: folders that were not searched.
    pub(in crate::mail_test) fn notes(&self) -> Vec<String> {
        let visit = self.found_by.as_ref().or(self.last.as_ref());
        visit
            .iter()
            .flat_map(|visit| &visit.missing)
            .map(|folder| {
                format!("the folder {:?} was not searched: {}", folder.name, folder.reason)
            })
            .collect()
    }

    /// Returns whether a visit that began at this time or later has ended.
    pub(in crate::mail_test) fn has_looked_at(&self, moment: Moment) -> bool {
        self.last.as_ref().is_some_and(|visit| visit.began >= moment)
    }

    /// Returns whether the mail was found and read completely, or is known to have failed.
    pub(in crate::mail_test) fn is_complete(&self) -> bool {
        match &self.found {
            Some(found) => found.receive.is_some(),
            None => self.failure().is_some(),
        }
    }
}
