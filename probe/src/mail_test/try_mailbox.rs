//! Tries a monitor's mailbox without a mail: connects, logs in, and opens each configured folder for
//! reading only. For `check --connect`.

use mailqos_config::{Config, Pickup, PickupProtocol};
use mailqos_mail::{HOLD, Wire};

use super::pickup::{Door, Whereabouts, imap};

/// Tries the mailbox of a monitor that reads it over IMAP; gives a line for each configured folder
/// that can't be opened. POP3 knows no folders: nothing is tried.
///
/// # Errors
/// Why the mailbox can't be reached, in one line without secrets.
pub async fn missing_folders(config: &Config, pickup: &Pickup) -> Result<Vec<String>, String> {
    if pickup.protocol != PickupProtocol::Imap {
        return Ok(Vec::new());
    }
    let door = Door {
        endpoint: pickup.endpoint.clone(),
        protocol: pickup.protocol,
        folders: pickup.folders.clone(),
        step: pickup.timeout.to_std(),
        whereabouts: Whereabouts::default(),
    };
    let credentials = match config.account(pickup.endpoint.account.as_ref()) {
        Some(account) => Some(
            mailqos_mail::credentials(account)
                .await
                .map_err(|error| error.to_string())?,
        ),
        None => None,
    };
    // Of monitors that share an account with a wrong password, only the first one's mailbox is tried.
    let place = format!("{}:{}", door.endpoint.server.to_ascii_lowercase(), door.endpoint.port);
    let turn = match &credentials {
        Some(credentials) => Some(
            credentials
                .turn(&place, HOLD, door.step)
                .await
                .map_err(|held_back| held_back.to_string())?,
        ),
        None => None,
    };
    let wire = Wire::connect(&door.endpoint, door.step)
        .await
        .map_err(|error| error.to_string())?;
    let result = imap::missing_folders(wire, &door, credentials.as_ref()).await;
    match (turn, &result) {
        (Some(turn), Ok(_)) => turn.accepted(),
        (Some(turn), Err(error)) if error.refused => turn.refused(&error.text),
        _ => {}
    }
    let missing = result.map_err(|error| error.text)?;
    Ok(missing
        .into_iter()
        .map(|folder| format!("the folder {:?} can't be opened: {}", folder.name, folder.reason))
        .collect())
}
