//! Ethernet addresses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("'{0}' is not a valid MAC address")]
pub struct BadMac(String);

impl MacAddr {
    /// An address of the range that the field gives to virtual ports, with 24 random bits.
    pub fn virtual_port(random: [u8; 3]) -> Self {
        let [a, b, c] = random;
        MacAddr([0xfa, 0x16, 0x3e, a, b, c])
    }

    pub fn is_multicast(&self) -> bool {
        self.0[0] & 1 == 1
    }

    /// The lower half of an IPv6 address made from this one (modified EUI-64).
    pub fn eui64(&self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}
impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddr {
    type Err = BadMac;

    /// Six pairs of hex digits with colons or dashes between.
    fn from_str(text: &str) -> Result<Self, BadMac> {
        let bad = || BadMac(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit())).ok_or_else(bad)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() { Err(bad()) } else { Ok(MacAddr(bytes)) }
    }
}

impl Serialize for MacAddr {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for MacAddr {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_goes_in_and_out() {
        let mac: MacAddr = "FA-16-3e-00-0a-ff".parse().unwrap();
        assert_eq!(mac.to_string(), "fa:16:3e:00:0a:ff");
        for bad in ["", "fa:16:3e:00:0a", "fa:16:3e:00:0a:ff:00", "fa:16:3e:00:0a:g0", "fa:16:3e:00:0a:+1"] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn eui64_flips_the_universal_bit() {
        let mac: MacAddr = "fa:16:3e:c2:50:c2".parse().unwrap();
        assert_eq!(format!("{:016x}", mac.eui64()), "f8163efffec250c2");
    }
}
