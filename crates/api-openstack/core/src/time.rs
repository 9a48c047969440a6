//! Times as the services write them. All are UTC.

use jiff::{Timestamp, tz::TimeZone};

fn format(time: Timestamp, pattern: &str) -> String {
    time.to_zoned(TimeZone::UTC).strftime(pattern).to_string()
}

/// `2026-01-31T12:00:00Z`: Nova, Neutron, Glance.
pub fn iso_z(time: Timestamp) -> String {
    format(time, "%Y-%m-%dT%H:%M:%SZ")
}

/// `2026-01-31T12:00:00.000000Z`: Keystone.
pub fn iso_micros(time: Timestamp) -> String {
    format(time, "%Y-%m-%dT%H:%M:%S.%6fZ")
}

/// `2026-01-31T12:00:00.000000`: Nova's attributes without a zone.
pub fn iso(time: Timestamp) -> String {
    format(time, "%Y-%m-%dT%H:%M:%S.%6f")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_service_gets_its_own_form() {
        let time: Timestamp = "2026-01-31T12:00:00.25Z".parse().unwrap();
        assert_eq!(iso_z(time), "2026-01-31T12:00:00Z");
        assert_eq!(iso_micros(time), "2026-01-31T12:00:00.250000Z");
        assert_eq!(iso(time), "2026-01-31T12:00:00.250000");
    }
}
