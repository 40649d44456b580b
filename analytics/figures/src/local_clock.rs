//! Local times of many consecutive tests: the zone is looked up once per quarter of an hour, not
//! for each test.

use jiff::tz::TimeZone;
use mailqos_model::UtcMicros;

/// Clocks change at full quarters of an hour in UTC.
const QUARTER: i64 = 900_000_000;
const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;

/// A zone's clock for moments that mostly follow each other.
#[derive(Debug)]
pub struct LocalClock<'a> {
    zone: &'a TimeZone,
    quarter: i64,
    offset: i64,
}

/// Local time that the clock shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalTime {
    /// The local day, counted from 1970-01-01.
    pub day: i64,
    /// The hour of the day, 0 to 23.
    pub hour: u8,
}

impl LocalTime {
    /// Returns the weekday, from 0 for Monday to 6 for Sunday.
    pub fn weekday(self) -> usize {
        // 1970-01-01 was a Thursday.
        (self.day + 3).rem_euclid(7) as usize
    }
}

impl<'a> LocalClock<'a> {
    /// Creates the clock of a zone.
    pub fn new(zone: &'a TimeZone) -> Self {
        Self { zone, quarter: i64::MIN, offset: 0 }
    }

    /// Returns the local time of a moment.
    pub fn at(&mut self, moment: UtcMicros) -> LocalTime {
        let quarter = moment.0.div_euclid(QUARTER);
        if quarter != self.quarter {
            let seconds = self.zone.to_offset(moment.timestamp()).seconds();
            (self.quarter, self.offset) = (quarter, i64::from(seconds) * 1_000_000);
        }
        let local = moment.0 + self.offset;
        LocalTime { day: local.div_euclid(DAY), hour: (local.rem_euclid(DAY) / HOUR) as u8 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_zone_across_clock_changes() {
        for name in
            ["Europe/Stockholm", "Australia/Lord_Howe", "Asia/Kathmandu", "America/St_Johns"]
        {
            let zone = TimeZone::get(name).expect("a zone");
            let mut clock = LocalClock::new(&zone);
            // From before 1970 through years of clock changes, in steps that don't divide an hour.
            for step in -20_000..60_000_i64 {
                let at =
                    UtcMicros(step * 37 * 60_000_000 + 1_600_000_000_000_000 * i64::from(step > 0));
                let shown = clock.at(at);
                let local = zone.to_datetime(at.timestamp());
                let expected =
                    (local.weekday().to_monday_zero_offset() as usize, local.hour() as u8);
                assert_eq!((shown.weekday(), shown.hour), expected, "{name} {local}");
            }
        }
    }
}
