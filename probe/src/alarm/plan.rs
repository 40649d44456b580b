//! The action lists of a configuration step by step, with their channels and the channels' display
//! names.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use mailqos_config::{Action, Config, On};
use mailqos_model::{Micros, Name};
use mailqos_notify::{Channel, ChannelId};

/// A step of an action list.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    /// Identifies the channel and the step within it; stays the same when the configuration is
    /// reloaded.
    pub(super) key: String,
    /// The channel.
    pub(super) channel: ChannelId,
    /// Display name of the channel.
    pub(super) name: String,
    /// What the step reports.
    pub(super) on: On,
    /// How long a notification is retried.
    pub(super) retry_for: Micros,
}

/// The steps of all action lists.
#[derive(Debug, Default)]
pub(super) struct Plan {
    lists: BTreeMap<Name, Vec<Planned>>,
    channels: HashMap<ChannelId, Arc<Channel>>,
    names: HashMap<ChannelId, String>,
}

impl Plan {
    pub(super) fn new(config: &Config) -> Self {
        let mut plan = Self::default();
        // Channels with the same short description are distinguished by the list, and by a number
        // if necessary.
        let mut routes: BTreeMap<String, Vec<(ChannelId, Name)>> = BTreeMap::new();
        for (list, steps) in &config.action_lists {
            for step in &steps.steps {
                let channel = Channel::of(config, step);
                let (id, route) = (channel.id(), channel.action.route());
                let known = routes.entry(route).or_default();
                if !known.iter().any(|(other, _)| *other == id) {
                    known.push((id.clone(), list.clone()));
                }
                plan.channels.entry(id).or_insert_with(|| Arc::new(channel));
            }
        }
        for (route, channels) in routes {
            let mut of_list: HashMap<&Name, usize> = HashMap::new();
            for (id, list) in &channels {
                let number = of_list.entry(list).or_default();
                *number += 1;
                let name = match (channels.len(), *number) {
                    (1, _) => route.clone(),
                    (_, 1) => format!("{route} of {list}"),
                    (_, number) => format!("{route} #{number} of {list}"),
                };
                plan.names.insert(id.clone(), name);
            }
        }
        for (list, steps) in &config.action_lists {
            let mut seen: HashMap<ChannelId, usize> = HashMap::new();
            let planned = steps.steps.iter().map(|step| {
                let channel = Channel::of(config, step).id();
                let number = seen.entry(channel.clone()).or_default();
                *number += 1;
                Planned {
                    key: format!("{channel}#{number}"),
                    name: plan.names.get(&channel).cloned().unwrap_or_default(),
                    channel,
                    on: step.on,
                    retry_for: step.retry_for,
                }
            });
            plan.lists.insert(list.clone(), planned.collect());
        }
        plan
    }

    /// Returns the steps of a list, in order.
    pub(super) fn steps(&self, list: &Name) -> &[Planned] {
        self.lists.get(list).map(Vec::as_slice).unwrap_or_default()
    }

    /// Returns a channel of the configuration.
    pub(super) fn channel(&self, id: &ChannelId) -> Option<&Arc<Channel>> {
        self.channels.get(id)
    }

    /// Returns all channels of the configuration.
    #[cfg(test)]
    pub(super) fn channels(&self) -> impl Iterator<Item = &ChannelId> {
        self.channels.keys()
    }

    /// Returns the channels' display names.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.values().map(String::as_str)
    }
}

/// Returns the recipients of a mail without `gone`: empty if all are left, `None` if none are.
pub(super) fn recipients_without(
    channel: Option<&Channel>,
    missed: &[String],
) -> Option<Vec<String>> {
    match channel.map(|channel| &channel.action) {
        Some(Action::Email { to, .. }) if !missed.is_empty() => {
            let reached: Vec<String> = to
                .iter()
                .map(|person| person.address.clone())
                .filter(|who| !missed.contains(who))
                .collect();
            (!reached.is_empty()).then_some(reached)
        }
        _ => Some(Vec::new()),
    }
}
