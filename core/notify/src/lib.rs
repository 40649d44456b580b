//! Notifications: the channels of action lists (e-mail, webhook, command, syslog), and the messages
//! that are sent through them. Both programs use it: the probe for its alarms, analytics for
//! deliveries and reports that failed.
//!
//! It doesn't know alarms or reports, doesn't store anything and doesn't retry: callers decide what
//! is sent, and what happens if no channel accepts it.

mod channel;
mod command;
mod email;
mod escapes;
#[cfg(feature = "test-hooks")]
pub mod fuzzing;
mod heartbeat;
mod letter;
mod notice;
mod notification;
mod send;
mod syslog;
mod template;
#[cfg(test)]
mod testing;
mod webhook;

pub use self::{
    channel::{Channel, ChannelId, LostChannel, StoredChannel},
    heartbeat::{Beat, Beaten, send_heartbeat},
    notice::{notify, send_notice},
    notification::{LogLine, Notification, Program},
    send::{Accepted, Outcome, Refused, check, preview, send},
    template::process as template_process,
};
