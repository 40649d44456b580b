//! Deletes our mails permanently (<https://learn.microsoft.com/graph/api/message-permanentdelete>),
//! so that neither Deleted Items nor Recoverable Items fill up.

use mailqos_mail::graph::{Refusal, Request, encoded};
use mailqos_model::Stage;

use super::{super::PickupError, GraphVisit, MAX_REPLY};

/// Number of visits that try to delete a mail before it is left alone.
const TRIES: u8 = 5;

impl GraphVisit<'_> {
    /// Deletes retrieved mails from a folder.
    pub(super) async fn delete(&mut self, name: &str) -> Result<(), PickupError> {
        let Some(folder) = self.memory.folders.get_mut(name) else { return Ok(()) };
        let ids: Vec<String> = folder.doomed.keys().cloned().collect();
        for id in ids {
            let result = self.delete_one(&id).await;
            let Some(folder) = self.memory.folders.get_mut(name) else { return Ok(()) };
            let Err(error) = result else {
                folder.doomed.remove(&id);
                continue;
            };
            if let Some(doomed) = folder.doomed.get_mut(&id) {
                doomed.tries += 1;
                if doomed.tries >= TRIES {
                    folder.doomed.remove(&id);
                }
            }
            if error.refused && !self.memory.has_warned {
                self.memory.has_warned = true;
                tracing::warn!(
                    folder = name,
                    %error,
                    "test mails stay in the mailbox: the application may not delete them"
                );
            }
            return Err(error);
        }
        Ok(())
    }

    async fn delete_one(&mut self, id: &str) -> Result<(), PickupError> {
        let stage = Stage::PickupReceive;
        let id = encoded(id);
        let login = self.visit.phases.login;
        for is_permanent in [true, false] {
            if is_permanent && self.memory.lacks_permanent_delete {
                continue;
            }
            let path = match is_permanent {
                true => format!("/messages/{id}/permanentDelete"),
                false => format!("/messages/{id}"),
            };
            let mut request = Request::post(&path, None, MAX_REPLY);
            if !is_permanent {
                request.method = "DELETE";
            }
            let Err(error) = self.ask(stage, &request).await else { return Ok(()) };
            let refusal = error.refusal();
            if refusal.is_some_and(Refusal::is_missing_item) {
                return Ok(());
            }
            // The national clouds move the mail to Deleted Items instead.
            let is_unknown = refusal.is_some_and(Refusal::is_unknown_action);
            if is_permanent && is_unknown {
                self.memory.lacks_permanent_delete = true;
                self.graph.wire.note("the service does not support permanentDelete");
                continue;
            }
            let failed = self.failed(stage, &error);
            // The login succeeded; only the deletion is not permitted.
            self.visit.phases.login = login;
            return Err(PickupError { stage, ..failed });
        }
        Ok(())
    }
}
