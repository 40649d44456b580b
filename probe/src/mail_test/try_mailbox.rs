//! Tries a monitor's mailbox without a mail: connects, logs in, and opens each configured folder for
//! reading only. For `check --connect`.

use mailqos_config::{Config, Pickup, PickupProtocol};
use mailqos_mail::HOLD;

use super::pickup::{Door, Memory, survey};

/// Tries the mailbox of a monitor that reads it over IMAP; gives a line for each configured folder
/// that can't be opened. POP3 knows no folders: nothing is tried.
///
/// # Errors
/// Why the mailbox can't be reached, in one line without secrets.
pub async fn missing_folders(config: &Config, pickup: &Pickup) -> Result<Vec<String>, String> {
    if pickup.protocol != PickupProtocol::Imap {
        return Ok(Vec::new());
    }
    let (door, step) = (Door::of(pickup), pickup.timeout.to_std());
    let credentials = match config.account(pickup.endpoint.account.as_ref()) {
        Some(account) => Some(
            mailqos_mail::credentials(account)
                .await
                .map_err(|error| error.to_string())?,
        ),
        None => None,
    };
    // Of monitors that share an account with a wrong password, only the first one's mailbox is tried.
    let place = format!(
        "{}:{}",
        pickup.endpoint.server.to_ascii_lowercase(),
        pickup.endpoint.port
    );
    let turn = match &credentials {
        Some(credentials) => Some(
            credentials
                .turn(&place, HOLD, step)
                .await
                .map_err(|held_back| held_back.to_string())?,
        ),
        None => None,
    };
    let visit = survey(&door, credentials.as_ref(), &mut Memory::default()).await;
    visit.note_login(turn);
    match visit.error {
        Some(error) if visit.missing.is_empty() => Err(error.text),
        _ => Ok(visit.missing_folders().collect()),
    }
}
