//! A rule of a security group: packets it describes may pass. What no rule describes may not.

use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{SecurityGroup, Standard};
use crate::{Derived, Id, Kind, Meta};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SecurityGroupRule {
    pub meta: Meta<SecurityGroupRule>,
    #[serde(default)]
    pub standard: Standard,
    pub group: Id<SecurityGroup>,
    pub direction: Direction,
    pub ethertype: EtherType,
    /// None: any.
    #[serde(default)]
    pub protocol: Option<Protocol>,
    /// The range of destination ports; for ICMP the type (min) and the code (max).
    #[serde(default)]
    pub port_min: Option<u16>,
    #[serde(default)]
    pub port_max: Option<u16>,
    /// The other side is a member of this group.
    #[serde(default)]
    pub remote_group: Option<Id<SecurityGroup>>,
    /// The other side has an address in this prefix. Bits right of the prefix are kept as the caller wrote them.
    #[serde(default)]
    pub remote_prefix: Option<IpNet>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    pub fn text(self) -> &'static str {
        match self {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EtherType {
    #[serde(rename = "IPv4")]
    Ipv4,
    #[serde(rename = "IPv6")]
    Ipv6,
}

impl EtherType {
    pub fn text(self) -> &'static str {
        match self {
            EtherType::Ipv4 => "IPv4",
            EtherType::Ipv6 => "IPv6",
        }
    }
}

/// A protocol above IP, as the caller named it: `tcp` and `6` are the same but shown as given.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Protocol(String);

/// Names that are accepted, with their numbers. Where two names have one number the first is the usual one.
const PROTOCOLS: [(&str, u8); 24] = [
    ("ah", 51),
    ("dccp", 33),
    ("egp", 8),
    ("esp", 50),
    ("gre", 47),
    ("icmp", 1),
    ("igmp", 2),
    ("ip", 0),
    ("ipip", 4),
    ("ipv6-encap", 41),
    ("ipv6-frag", 44),
    ("ipv6-icmp", 58),
    ("icmpv6", 58),
    ("ipv6-nonxt", 59),
    ("ipv6-opts", 60),
    ("ipv6-route", 43),
    ("ospf", 89),
    ("pgm", 113),
    ("rsvp", 46),
    ("sctp", 132),
    ("tcp", 6),
    ("udp", 17),
    ("udplite", 136),
    ("vrrp", 112),
];

impl Protocol {
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const DCCP: u8 = 33;
    pub const ICMPV6: u8 = 58;
    pub const SCTP: u8 = 132;
    pub const UDPLITE: u8 = 136;

    /// A name of the table or a number of 0 to 255.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.to_lowercase();
        let known = PROTOCOLS.iter().any(|(name, _)| *name == text);
        let number = text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u8>().is_ok();
        (known || number).then_some(Protocol(text))
    }

    pub fn names() -> impl Iterator<Item = &'static str> {
        PROTOCOLS.iter().map(|(name, _)| *name)
    }

    pub fn text(&self) -> &str {
        &self.0
    }

    /// The number in the IP header. In IPv6 rules `icmp` means ICMPv6, as the field has it.
    pub fn number(&self, ethertype: EtherType) -> u8 {
        let named = PROTOCOLS.iter().find(|(name, _)| *name == self.0).map(|(_, number)| *number);
        match named.or_else(|| self.0.parse().ok()).unwrap_or(0) {
            Self::ICMP if ethertype == EtherType::Ipv6 => Self::ICMPV6,
            number => number,
        }
    }

    /// Its packets carry ports.
    pub fn has_ports(number: u8) -> bool {
        matches!(number, Self::TCP | Self::UDP | Self::DCCP | Self::SCTP | Self::UDPLITE)
    }

    pub fn is_icmp(number: u8) -> bool {
        matches!(number, Self::ICMP | Self::ICMPV6)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl SecurityGroupRule {
    /// The namespace of the claim that keeps a group from having the same rule twice.
    pub const SAME: &'static str = "security-group-rule";

    pub fn protocol_number(&self) -> Option<u8> {
        self.protocol.as_ref().map(|p| p.number(self.ethertype))
    }

    /// Two rules with one signature let the same packets pass.
    fn signature(&self) -> String {
        let number = |n: Option<u16>| n.map(|n| n.to_string()).unwrap_or_default();
        // A prefix of length 0 says no more than no prefix at all.
        let prefix = self.remote_prefix.filter(|p| p.prefix_len() > 0).map(|p| p.trunc().to_string()).unwrap_or_default();
        format!(
            "{}/{}/{}/{}/{}-{}/{}/{prefix}",
            self.group,
            self.direction.text(),
            self.ethertype.text(),
            self.protocol_number().map(|n| n.to_string()).unwrap_or_default(),
            number(self.port_min),
            number(self.port_max),
            self.remote_group.as_ref().map_or("", |g| g.as_str()),
        )
    }
}

impl Kind for SecurityGroupRule {
    const NAME: &'static str = "security_group_rule";
    const NOUN: &'static str = "security group rule";
    crate::meta_accessors!();

    /// Indexes: `project`, `group`, `remote-group`. Tally: `security_group_rule` by project.
    fn derive(&self, d: &mut Derived) {
        super::port::owned(d, Self::NAME, self.meta.project.as_ref());
        d.index("group", &self.group);
        d.refers(&self.group);
        if let Some(remote) = &self.remote_group {
            d.index("remote-group", remote);
            d.refers(remote);
        }
        d.claim(Self::SAME, self.signature());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(protocol: Option<&str>, prefix: Option<&str>) -> SecurityGroupRule {
        SecurityGroupRule {
            meta: Meta::new("r"),
            standard: Standard::default(),
            group: "g".into(),
            direction: Direction::Ingress,
            ethertype: EtherType::Ipv4,
            protocol: protocol.map(|p| Protocol::parse(p).unwrap()),
            port_min: None,
            port_max: None,
            remote_group: None,
            remote_prefix: prefix.map(|p| p.parse().unwrap()),
        }
    }

    #[test]
    fn names_and_numbers_are_the_same_protocol() {
        assert_eq!(rule(Some("tcp"), None).signature(), rule(Some("6"), None).signature());
        assert_ne!(rule(Some("tcp"), None).signature(), rule(Some("udp"), None).signature());
        assert_eq!(Protocol::parse("ICMP").unwrap().number(EtherType::Ipv6), Protocol::ICMPV6);
        for bad in ["", "256", "-1", "bad_protocol_name", "+6"] {
            assert_eq!(Protocol::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn any_address_is_the_same_as_no_prefix() {
        assert_eq!(rule(None, Some("0.0.0.0/0")).signature(), rule(None, None).signature());
        assert_eq!(rule(None, Some("10.0.0.7/24")).signature(), rule(None, Some("10.0.0.0/24")).signature());
    }
}
