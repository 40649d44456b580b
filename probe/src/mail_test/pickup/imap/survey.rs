//! Logs in and opens folders read-only, for the mailbox test and `check --connect`.

use std::time::Instant;

use mailqos_mail::Wire;
use mailqos_model::Micros;

use super::{
    super::{MissingFolder, PickupError, STEPS_A_VISIT, Visit, VisitTarget},
    Memory, folders, listing, login,
    session::Session,
};

/// Logs in, opens each configured folder read-only, and requests its last mail's UID.
pub(in crate::mail_test::pickup) async fn survey(
    wire: Wire,
    errand: VisitTarget<'_>,
    memory: &mut Memory,
    visit: &mut Visit,
) -> (Session, Result<(), PickupError>) {
    let mut session = Session::new(wire, errand.door.step, errand.door.whereabouts.clone());
    let result = survey_folders(&mut session, errand, memory, visit).await;
    (session, result)
}

async fn survey_folders(
    session: &mut Session,
    errand: VisitTarget<'_>,
    memory: &mut Memory,
    visit: &mut Visit,
) -> Result<(), PickupError> {
    let VisitTarget { door, credentials } = errand;
    session.wire.limit(door.step * STEPS_A_VISIT);
    if login::shake_hands(session, door, &mut visit.phases).await? {
        login::log_in(session, credentials, &mut memory.habits, &mut visit.phases).await?;
    }
    if session.has("ID") {
        login::send_id(session).await?;
    }
    let began = Instant::now();
    let mut failure = None;
    for name in &door.folders {
        match session.open_folder(name, "EXAMINE").await? {
            Ok(selected) => {
                listing::highest(session, selected.exists.unwrap_or(0)).await?;
            }
            Err(refusal) => {
                let suggestion = folders::suggestion(session, name).await?;
                let reason = if suggestion.is_empty() {
                    refusal.text.clone()
                } else {
                    format!("{}; {suggestion}", refusal.text)
                };
                failure.get_or_insert(PickupError {
                    text: format!("the folder {name:?} can't be opened: {reason}"),
                    is_passing: true,
                    ..refusal
                });
                visit.missing.push(MissingFolder { name: name.clone(), reason });
            }
        }
    }
    let took = session.wire.received_at().saturating_duration_since(began);
    visit.phases.list = Some(Micros::from(took));
    failure.map_or(Ok(()), Err)
}
