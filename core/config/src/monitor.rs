//! Objects and monitors: `[object.NAME]`, `[monitor.NAME]` and their `[defaults]`.

use mailqos_model::{MonitorId, Name, ObjectId};

use super::{
    Action, Config, Endpoint, Monitor, Object, Problem, Problems, Severity, Table,
    key::{Defaulted, Optional, Required, Word, key},
    kind,
    table::Node,
    test_options::{self, MONITOR},
    value::{host, reference, tags},
};

keys! {
    OBJECT: ObjectKeys {
        /// Host name or IP address.
        address: Required<String> = key();
        /// The display name.
        name: Optional<String> = key().otherwise("its ID");
        /// Labels that its monitors inherit; `tag:NAME` selects by them.
        tags: Defaulted<Vec<String>> = key().default("[]");
    }
}

keys! {
    OWN: OwnMonitorKeys {
        /// The object that it monitors.
        object: Required<ObjectId> = key();
        /// The display name.
        name: Optional<String> = key().otherwise("its ID");
    }
}

keys! {
    KIND: KindKeys {
        /// The kind of test. `mail-qos` sends a mail and picks it up. `mailbox` opens and lists the
        /// mailbox and sends nothing; only the keys `pickup`, `folders`, `timeout` and those of
        /// every monitor apply.
        kind: Word<kind::Read> = word!(kind::KINDS).default("\"mail-qos\"");
    }
}

pub(super) fn object(id: &ObjectId, mut table: Table, problems: &mut Problems) -> Option<Object> {
    let name = table.read(&OBJECT.name, problems).unwrap_or_else(|| id.to_string());
    let address = table.read(&OBJECT.address, problems);
    if let Some(address) = &address {
        host(address, &OBJECT.address, &table, problems);
    }
    let tags = tags(&mut table, &OBJECT.tags, problems);
    table.finish(problems);
    Some(Object { name, address: address?, tags })
}

/// Checks the defaults, even if no monitor uses them: they are read like a monitor without other
/// settings.
pub(super) fn check_defaults(
    mut defaults: Table,
    config: &Config,
    complete: bool,
    problems: &mut Problems,
) {
    defaults.read(&KIND.kind, problems);
    test_options::read(&mut defaults, None, config, complete, problems);
    for key in OwnMonitorKeys::KEYS {
        if defaults.node(key).is_some() {
            problems.push(defaults.problem(
                key,
                format!("{:?} can be set only for a single monitor", key.name),
                "not a default",
            ));
        }
    }
    defaults.finish(problems);
}

pub(super) fn monitor(
    id: MonitorId,
    mut table: Table,
    config: &Config,
    complete: bool,
    problems: &mut Problems,
) -> Option<(Monitor, Vec<(String, Node)>)> {
    let name = table.read(&OWN.name, problems).unwrap_or_else(|| id.to_string());
    if table.node(&OWN.object).is_none() {
        problems.push(table.missing(&OWN.object, "the object that the monitor watches"));
    }
    let object_id = if complete {
        reference(&mut table, &OWN.object, "object", &config.objects, problems)
    } else {
        table.node(&OWN.object).and_then(|node| node.read(problems))
    };
    let object = object_id.as_ref().and_then(|id| config.objects.get(id));
    let build = table.read(&KIND.kind, problems);
    let mut options = test_options::read(
        &mut table,
        object.map(|object| object.address.as_str()),
        config,
        complete,
        problems,
    );
    let kind = build(&options, &mut table, problems);
    if let (Some(list), Some(smtp)) =
        (&options.action_list, kind.as_ref().and_then(|kind| kind.smtp()))
        && let Some(warning) = own_server_warning(&id, list, smtp, &table, config)
    {
        problems.push(warning);
    }
    let longest = kind.as_ref().map_or(Some(options.max_round_trip), |kind| kind.max_round_trip());
    if let Some(longest) = longest.filter(|longest| *longest > options.test_interval)
        && !options.overlap
        && options.calendar.is_none()
    {
        problems.push(Problem {
            severity: Severity::Warning,
            ..table
                .problem(
                    &MONITOR.max_round_trip,
                    format!(
                        "max round trip ({longest}) is longer than the test interval ({}) of {id}: tests are \
                         skipped while a mail is late",
                        options.test_interval
                    ),
                    "longer than the test interval",
                )
                .help("raise test_interval, shorten max_round_trip, or set overlap = true to let tests overlap")
        });
    }
    if let Some(kind) = &kind {
        options.alarm.confine(kind.name(), kind.timings(), &mut table, problems);
    }
    table.finish(problems);
    let mut tags = options.tags;
    tags.extend(object.into_iter().flat_map(|object| object.tags.iter().cloned()));
    let monitor = Monitor {
        id,
        name,
        object: object_id?,
        tags,
        enabled: options.enabled,
        test_interval: options.test_interval,
        calendar: options.calendar,
        retest_interval: options.retest_interval,
        overlap: options.overlap,
        action_list: options.action_list,
        is_silent: options.is_silent,
        alarm: options.alarm,
        kind: kind?,
    };
    Some((monitor, options.depends_on))
}

/// Returns a warning if alarms travel through the server whose failure they report.
fn own_server_warning(
    id: &MonitorId,
    list: &Name,
    smtp: &Endpoint,
    table: &Table,
    config: &Config,
) -> Option<Problem> {
    let list_of = config.action_lists.get(list)?;
    let own = |name: &Name| {
        config
            .mail_servers
            .get(name)
            .is_some_and(|server| server.endpoint.server.eq_ignore_ascii_case(&smtp.server))
    };
    let caught = list_of.steps.iter().any(|step| match &step.action {
        Action::Email { mail_server, fallback, .. } => {
            own(mail_server) && fallback.as_ref().is_none_or(own)
        }
        _ => false,
    });
    let problem = || {
        table
            .problem(
                &MONITOR.action_list,
                format!(
                    "alarms of {id} are sent through {}, the server that it tests",
                    smtp.server
                ),
                format!("uses the action list {list}"),
            )
            .help(
                "add an independent mail server to the action list, as mail_server or as fallback",
            )
    };
    caught.then(|| Problem { severity: Severity::Warning, ..problem() })
}
