//! Replays alarm rules against recorded samples and reports what they would have raised.

use std::collections::BTreeMap;

use mailqos_base::clock::MonotonicTime;
use mailqos_config::AlarmRule;
use mailqos_model::{Micros, MonitorId, Outcome, Sample, UtcMicros};

use super::{Change, State};

/// Alarms that a rule would have raised.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// Tests that were replayed.
    pub tests: usize,
    /// Number of alarms.
    pub alarms: usize,
    /// Time from the first failed test to the alarm, for each alarm.
    pub delays: Vec<Micros>,
    /// Number of alarms about short outages.
    pub for_nothing: usize,
    /// Outages of relevant length that raised no alarm.
    pub missed: usize,
    /// Outages of relevant length.
    pub outages: usize,
}

/// State of a monitor during the replay.
#[derive(Debug)]
struct Player {
    rule: AlarmRule,
    /// Samples that follow the previous one by less than this are skipped.
    interval: Option<Micros>,
    state: State,
    last: Option<UtcMicros>,
    /// When the open alarm was raised, and when the monitor began to fail.
    open: Option<(UtcMicros, UtcMicros)>,
    /// The run of failed tests, and whether an alarm has been open in it.
    failing: Option<(UtcMicros, bool)>,
}

/// Replays samples of many monitors.
#[derive(Debug)]
pub struct Replay {
    worth: Micros,
    players: BTreeMap<MonitorId, Player>,
    found: BTreeMap<MonitorId, Found>,
}

impl Replay {
    /// Creates a replay in which outages shorter than `worth` count as noise.
    pub fn new(worth: Micros) -> Self {
        Self { worth, players: BTreeMap::new(), found: BTreeMap::new() }
    }

    /// Adds a monitor with its rule; with an interval, samples are thinned out accordingly.
    pub fn add(&mut self, monitor: &MonitorId, rule: AlarmRule, interval: Option<Micros>) {
        let player = Player {
            rule,
            interval,
            state: State::default(),
            last: None,
            open: None,
            failing: None,
        };
        self.players.insert(monitor.clone(), player);
        self.found.insert(monitor.clone(), Found::default());
    }

    /// Processes a sample; those of one monitor must be in chronological order.
    pub fn play(&mut self, sample: &Sample) {
        let (Some(player), Some(found)) =
            (self.players.get_mut(&sample.monitor), self.found.get_mut(&sample.monitor))
        else {
            return;
        };
        if sample.outcome == Outcome::NotTested || sample.excluded.is_some() {
            return;
        }
        let now = sample.started_at;
        // Outages are determined from all samples, whatever the interval.
        if sample.outcome == Outcome::Ok {
            end_outage(player, found, now, self.worth);
        } else if player.failing.is_none() {
            player.failing = Some((now, player.open.is_some()));
        }
        let gap = player.interval.zip(player.last).map(|(interval, last)| (now - last, interval));
        // Allow for 5 % less: tests don't start at exact intervals.
        if gap.is_some_and(|(gap, interval)| gap.0 < interval.0 / 20 * 19) {
            return;
        }
        player.last = Some(now);
        found.tests += 1;
        match player.state.step((sample, MonotonicTime(now.0)), &player.rule, None, |_| None) {
            Some(Change::Raised) => {
                let since = player.state.failing_since.unwrap_or(now);
                found.alarms += 1;
                found.delays.push(now - since);
                player.open = Some((now, since));
                if let Some((_, alarmed)) = &mut player.failing {
                    *alarmed = true;
                }
            }
            Some(Change::Cleared) => {
                if let Some((_, since)) = player.open.take()
                    && now - since < self.worth
                {
                    found.for_nothing += 1;
                }
            }
            None => {}
        }
    }

    /// Ends the replay and returns the results of each monitor.
    pub fn end(mut self, until: UtcMicros) -> BTreeMap<MonitorId, Found> {
        for (monitor, player) in &mut self.players {
            if let Some(found) = self.found.get_mut(monitor) {
                end_outage(player, found, until, self.worth);
            }
        }
        self.found
    }
}

fn end_outage(player: &mut Player, found: &mut Found, now: UtcMicros, worth: Micros) {
    let Some((since, alarmed)) = player.failing.take() else {
        return;
    };
    if now - since >= worth {
        found.outages += 1;
        found.missed += usize::from(!alarmed);
    }
}

impl Found {
    /// Adds the results of another monitor.
    pub fn add(&mut self, other: &Self) {
        self.tests += other.tests;
        self.alarms += other.alarms;
        self.delays.extend(&other.delays);
        self.for_nothing += other.for_nothing;
        self.missed += other.missed;
        self.outages += other.outages;
    }

    /// Returns the median time from the first failed test to the alarm.
    pub fn median_delay(&self) -> Option<Micros> {
        let mut delays = self.delays.clone();
        delays.sort_unstable();
        let (low, high) =
            (delays.get(delays.len().saturating_sub(1) / 2)?, delays.get(delays.len() / 2)?);
        Some(Micros((low.0 + high.0) / 2))
    }
}

#[cfg(test)]
mod tests {
    use mailqos_config::TlsVersion;
    use mailqos_model::Placement;

    use super::*;

    const MINUTE: Micros = Micros::from_secs(60);

    /// Replays one test a minute; `f` failed, `.` good.
    fn played(tests: &str, rule: AlarmRule, interval: Option<Micros>) -> Found {
        let monitor: MonitorId = "m".parse().expect("a name");
        let mut replay = Replay::new(Micros(MINUTE.0 * 5));
        replay.add(&monitor, rule, interval);
        let mut now = UtcMicros(0);
        for test in tests.chars() {
            let outcome = if test == 'f' { Outcome::Lost } else { Outcome::Ok };
            replay.play(&Sample::new(monitor.clone(), now, outcome));
            now = now + MINUTE;
        }
        replay.end(now).remove(&monitor).expect("it was played")
    }

    fn rule(after: u32) -> AlarmRule {
        AlarmRule { after, flapping: false, ..AlarmRule::default() }
    }

    #[test]
    fn a_count_decides_between_early_and_for_nothing() {
        // One failed test, an outage of 3 minutes, one of 10.
        let tests = ".f....fff.....ffffffffff...";
        let hasty = played(tests, rule(1), None);
        assert_eq!((hasty.alarms, hasty.for_nothing, hasty.missed, hasty.outages), (3, 2, 0, 1));
        assert_eq!(hasty.median_delay(), Some(Micros::ZERO));
        let calm = played(tests, rule(3), None);
        assert_eq!((calm.alarms, calm.for_nothing), (2, 1));
        assert_eq!(calm.median_delay(), Some(Micros(MINUTE.0 * 2)));
        let late = played(tests, rule(15), None);
        assert_eq!((late.alarms, late.missed, late.outages), (0, 1, 1));
    }

    #[test]
    fn another_interval_plays_fewer_samples() {
        let tests = ".....fff.......";
        let often = played(tests, rule(2), None);
        assert_eq!((often.tests, often.alarms), (15, 1));
        let seldom = played(tests, rule(2), Some(Micros(MINUTE.0 * 5)));
        assert_eq!((seldom.tests, seldom.alarms), (3, 0));
    }

    /// Replays a month of hourly tests in which a provider files mail as spam from the tenth day
    /// on, DKIM and with it DMARC fail on the 12th to the 14th, SPF fails for a day, and the SMTP
    /// server falls back to TLS 1.1 for two hours.
    fn month(rule: AlarmRule) -> (usize, Vec<i64>) {
        const HOUR: Micros = Micros::from_secs(3600);
        let monitor: MonitorId = "m".parse().expect("a name");
        let mut replay = Replay::new(HOUR);
        replay.add(&monitor, AlarmRule { after: 1, flapping: false, ..rule }, None);
        let mut raised = Vec::new();
        for hour in 0..30 * 24 {
            let at = UtcMicros(hour * HOUR.0);
            let day = hour / 24;
            let mut sample = Sample::new(monitor.clone(), at, Outcome::Ok);
            let result = |fails: bool| Some(if fails { "fail" } else { "pass" }.to_owned());
            let is_junk = day >= 10;
            sample.placement = Some(if is_junk { Placement::Junk } else { Placement::Inbox });
            sample.dkim = result((12..15).contains(&day));
            sample.dmarc = result((12..15).contains(&day));
            sample.spf = result(day == 20);
            let is_old = (500..502).contains(&hour);
            sample.smtp_tls_version = Some(if is_old { "TLSv1.1" } else { "TLSv1.3" }.to_owned());
            let before = replay.found[&monitor].alarms;
            replay.play(&sample);
            if replay.found[&monitor].alarms > before {
                raised.push(hour);
            }
        }
        let found = replay.end(UtcMicros(30 * 24 * HOUR.0)).remove(&monitor).expect("played");
        // Failed conditions are alarms, but no outages.
        assert_eq!((found.outages, found.missed), (0, 0));
        (found.alarms, raised)
    }

    #[test]
    fn conditions_of_deliverability_are_replayed_over_history() {
        let verdict = |at: usize| {
            let mut verdicts = [false; 3];
            verdicts[at] = true;
            AlarmRule { verdicts, ..AlarmRule::default() }
        };
        let junk = |text: &str| AlarmRule {
            junk: Some(text.parse().expect("a rule")),
            ..AlarmRule::default()
        };
        let tls = AlarmRule { tls: Some(TlsVersion::Tls12), ..AlarmRule::default() };
        for (name, rule, expected) in [
            ("none", AlarmRule::default(), vec![]),
            ("spf", verdict(0), vec![20 * 24]),
            ("dkim", verdict(1), vec![12 * 24]),
            ("dmarc", verdict(2), vec![12 * 24]),
            // 3 of 25 mails of a day, 13 of 25.
            ("junk of 10 %", junk("10%/1d"), vec![10 * 24 + 2]),
            ("junk of 50 %", junk("50%/1d"), vec![10 * 24 + 12]),
            ("tls", tls, vec![500]),
        ] {
            assert_eq!(month(rule), (expected.len(), expected), "{name}");
        }
        let all = AlarmRule { verdicts: [true; 3], ..junk("10%/1d") };
        // The alarm about the junk folder stays open, so the others raise none.
        assert_eq!(month(all), (1, vec![10 * 24 + 2]));
    }
}
