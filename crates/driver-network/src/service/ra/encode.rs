//! The bytes of an advertisement.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use crate::Mac;

pub struct Advertisement {
    pub mac: Mac,
    pub mtu: u32,
    /// Seconds as default router; 0: not a default router.
    pub lifetime: u16,
    pub managed: bool,
    pub other: bool,
    pub prefixes: Vec<Prefix>,
    pub dns: Vec<Ipv6Addr>,
    pub domain: String,
}

pub struct Prefix {
    pub net: Ipv6Net,
    /// Guests form addresses from it themselves.
    pub autonomous: bool,
}

const HOP_LIMIT: u8 = 64;
const VALID: u32 = 24 * 3600;
const PREFERRED: u32 = 4 * 3600;
const DNS_LIFETIME: u32 = 3600;

impl Advertisement {
    /// From the ICMPv6 type on, with a checksum of zero.
    pub fn encode(&self) -> Vec<u8> {
        let flags = u8::from(self.managed) << 7 | u8::from(self.other) << 6;
        let mut bytes = vec![134, 0, 0, 0, HOP_LIMIT, flags];
        bytes.extend(self.lifetime.to_be_bytes());
        bytes.extend([0; 8]);
        bytes.extend([1, 1]);
        bytes.extend(self.mac.0);
        bytes.extend([5, 1, 0, 0]);
        bytes.extend(self.mtu.to_be_bytes());
        for prefix in &self.prefixes {
            bytes.extend([3, 4, prefix.net.prefix_len()]);
            bytes.push(0x80 | u8::from(prefix.autonomous) << 6);
            bytes.extend(VALID.to_be_bytes());
            bytes.extend(PREFERRED.to_be_bytes());
            bytes.extend([0; 4]);
            bytes.extend(prefix.net.network().octets());
        }
        self.encode_dns(&mut bytes);
        self.encode_search(&mut bytes);
        bytes
    }

    /// RFC 8106, 5.1.
    fn encode_dns(&self, bytes: &mut Vec<u8>) {
        let dns = &self.dns[..self.dns.len().min(8)];
        if dns.is_empty() {
            return;
        }
        bytes.extend([25, 1 + 2 * dns.len() as u8, 0, 0]);
        bytes.extend(DNS_LIFETIME.to_be_bytes());
        bytes.extend(dns.iter().flat_map(|a| a.octets()));
    }

    /// RFC 8106, 5.2; a domain that is not made of labels is left out.
    fn encode_search(&self, bytes: &mut Vec<u8>) {
        let domain = self.domain.trim_matches('.');
        let proper = |label: &str| (1..=63).contains(&label.len()) && label.is_ascii();
        if domain.is_empty() || domain.len() > 250 || !domain.split('.').all(proper) {
            return;
        }
        let mut name: Vec<u8> = Vec::new();
        for label in domain.split('.') {
            name.push(label.len() as u8);
            name.extend(label.as_bytes());
        }
        name.push(0);
        name.resize(name.len().div_ceil(8) * 8, 0);
        bytes.extend([31, 1 + (name.len() / 8) as u8, 0, 0]);
        bytes.extend(DNS_LIFETIME.to_be_bytes());
        bytes.extend(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes() {
        let advertisement = Advertisement {
            mac: Mac([0xfa, 0x16, 0x3e, 0, 0, 1]),
            mtu: 1450,
            lifetime: 1800,
            managed: false,
            other: true,
            prefixes: vec![Prefix { net: "2001:db8::/64".parse().unwrap(), autonomous: true }],
            dns: vec!["2001:db8::2".parse().unwrap()],
            domain: "a.bc.".into(),
        };
        #[rustfmt::skip]
        let expected: &[u8] = &[
            134, 0, 0, 0, 64, 0x40, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0,
            1, 1, 0xfa, 0x16, 0x3e, 0, 0, 1,
            5, 1, 0, 0, 0, 0, 5, 0xaa,
            3, 4, 64, 0xc0, 0, 1, 0x51, 0x80, 0, 0, 0x38, 0x40, 0, 0, 0, 0,
            0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            25, 3, 0, 0, 0, 0, 0x0e, 0x10,
            0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
            31, 2, 0, 0, 0, 0, 0x0e, 0x10, 1, b'a', 2, b'b', b'c', 0, 0, 0,
        ];
        assert_eq!(advertisement.encode(), expected);
        assert_eq!(advertisement.encode().len() % 8, 0);
    }
}
