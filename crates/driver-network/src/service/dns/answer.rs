//! What we know ourselves, purely.

use std::net::IpAddr;

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, AAAA, PTR},
    },
};
use ipnet::IpNet;

use super::request::Request;
use crate::spec::NetworkSpec;

const TTL: u32 = 30;

#[derive(Debug)]
pub enum Outcome {
    Answer(Message),
    /// Not ours to know; the question to ask elsewhere.
    Forward(Request),
    /// Not a question at all.
    Silence,
}

pub fn answer(network: &NetworkSpec, bytes: &[u8]) -> Outcome {
    let Ok(message) = Message::from_vec(bytes) else {
        return Outcome::Silence;
    };
    if message.metadata.message_type != MessageType::Query {
        return Outcome::Silence;
    }
    let request = Request::of(&message);
    let code = match &request.question {
        None => ResponseCode::FormErr,
        Some(_) if request.op_code() != OpCode::Query => ResponseCode::NotImp,
        Some(question) if is_refused(question) => ResponseCode::Refused,
        Some(question) => {
            return match look_up(network, question) {
                Some(found) => Outcome::Answer(render(&request, question, found)),
                None => Outcome::Forward(request),
            };
        }
    };
    Outcome::Answer(request.response(code))
}

fn is_refused(question: &Query) -> bool {
    question.query_class != DNSClass::IN || matches!(question.query_type, RecordType::AXFR | RecordType::IXFR)
}

/// `None` for "no such name".
type Records = Option<Vec<RData>>;

fn render(request: &Request, question: &Query, found: Records) -> Message {
    let code = match found {
        Some(_) => ResponseCode::NoError,
        None => ResponseCode::NXDomain,
    };
    let mut message = request.response(code);
    message.metadata.authoritative = true;
    let records = found.into_iter().flatten();
    message.answers.extend(records.map(|data| Record::from_rdata(question.name.clone(), TTL, data)));
    message
}

/// What we say about a name; outer `None` when it is not for us to say.
fn look_up(network: &NetworkSpec, question: &Query) -> Option<Records> {
    let name = question.name.to_lowercase();
    if let Ok(net) = name.parse_arpa_name() {
        return reverse(network, net, question.query_type);
    }
    let label = own_label(&name, &network.dns.domain)?;
    let hosts = &network.dns.hosts;
    let host = hosts.iter().find(|(host, _)| own_label_of_host(host, &network.dns.domain).eq_ignore_ascii_case(&label));
    Some(host.map(|(_, addresses)| {
        let wanted = |address: &&IpAddr| match question.query_type {
            RecordType::A => address.is_ipv4(),
            RecordType::AAAA => address.is_ipv6(),
            RecordType::ANY => true,
            _ => false,
        };
        addresses.iter().filter(wanted).map(address_data).collect()
    }))
}

fn address_data(address: &IpAddr) -> RData {
    match address {
        IpAddr::V4(a) => RData::A(A(*a)),
        IpAddr::V6(a) => RData::AAAA(AAAA(*a)),
    }
}

/// The name without our domain; a name of a single label is taken as one of ours.
fn own_label(name: &Name, domain: &str) -> Option<String> {
    let text = name.to_ascii();
    let text = text.trim_end_matches('.');
    let domain = domain.trim_matches('.').to_ascii_lowercase();
    if !domain.is_empty() {
        if text == domain {
            return Some(String::new());
        }
        if let Some(label) = text.strip_suffix(&domain).and_then(|t| t.strip_suffix('.')) {
            return Some(label.to_owned());
        }
    }
    (!text.is_empty() && !text.contains('.')).then(|| text.to_owned())
}

/// Hosts may be listed with or without the domain.
fn own_label_of_host<'a>(host: &'a str, domain: &str) -> &'a str {
    let host = host.trim_end_matches('.');
    let domain = domain.trim_matches('.');
    let cut = host.len().checked_sub(domain.len() + 1);
    match cut.and_then(|at| host.split_at_checked(at)) {
        Some((label, rest)) if !domain.is_empty() && rest[1..].eq_ignore_ascii_case(domain) && rest.starts_with('.') => label,
        _ => host,
    }
}

fn reverse(network: &NetworkSpec, net: IpNet, kind: RecordType) -> Option<Records> {
    let ours = network.subnets.iter().any(|s| s.cidr.contains(&net));
    if !ours || net.prefix_len() != net.max_prefix_len() {
        return None;
    }
    let hosts = &network.dns.hosts;
    let host = hosts.iter().find(|(_, addresses)| addresses.contains(&net.addr()));
    Some(host.and_then(|(host, _)| {
        let label = own_label_of_host(host, &network.dns.domain);
        let domain = network.dns.domain.trim_matches('.');
        let full = if domain.is_empty() { format!("{label}.") } else { format!("{label}.{domain}.") };
        let name = Name::from_ascii(full).ok()?;
        let asked = matches!(kind, RecordType::PTR | RecordType::ANY);
        Some(if asked { vec![RData::PTR(PTR(name))] } else { Vec::new() })
    }))
}

#[cfg(test)]
pub(super) mod tests {
    use hickory_proto::op::Edns;

    use super::*;
    use crate::service::dns::request::datagram;

    pub(in crate::service::dns) fn network() -> NetworkSpec {
        serde_json::from_str(
            r#"{"id":"n","subnets":[{"id":"s","cidr":"10.0.0.0/24"},{"id":"t","cidr":"2001:db8::/64"}],
                "dns":{"domain":"Cloud.example.","hosts":{
                    "web":["10.0.0.5","2001:db8::5"],
                    "db.cloud.example.":["10.0.0.6"]}}}"#,
        )
        .unwrap()
    }

    fn ask(name: &str, kind: RecordType) -> Outcome {
        let mut message = Message::query();
        message.queries.push(Query::query(Name::from_ascii(name).unwrap(), kind));
        answer(&network(), &message.to_vec().unwrap())
    }

    fn told(name: &str, kind: RecordType) -> (ResponseCode, Vec<String>) {
        match ask(name, kind) {
            Outcome::Answer(m) => (m.metadata.response_code, m.answers.iter().map(|r| r.data.to_string()).collect()),
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn own_names() {
        use RecordType::{A, AAAA, MX};
        let ok = |list: &[&str]| {
            let list: Vec<String> = list.iter().map(|s| (*s).to_owned()).collect();
            (ResponseCode::NoError, list)
        };
        assert_eq!(told("web.cloud.example.", A), ok(&["10.0.0.5"]));
        assert_eq!(told("WEB.CLOUD.example.", AAAA), ok(&["2001:db8::5"]));
        assert_eq!(told("web.", A), ok(&["10.0.0.5"]));
        assert_eq!(told("db.cloud.example.", A), ok(&["10.0.0.6"]));
        assert_eq!(told("db.", AAAA), ok(&[]));
        assert_eq!(told("web.", MX), ok(&[]));
        let none = (ResponseCode::NXDomain, vec![]);
        assert_eq!(told("nobody.cloud.example.", A), none);
        assert_eq!(told("nobody.", A), none);
        assert_eq!(told("a.web.cloud.example.", A), none);
    }

    #[test]
    fn addresses_back_to_names() {
        let (code, names) = told("5.0.0.10.in-addr.arpa.", RecordType::PTR);
        assert_eq!((code, names.join(" ").to_lowercase()), (ResponseCode::NoError, "web.cloud.example.".into()));
        assert_eq!(told("9.0.0.10.in-addr.arpa.", RecordType::PTR).0, ResponseCode::NXDomain);
        assert!(matches!(ask("1.1.1.1.in-addr.arpa.", RecordType::PTR), Outcome::Forward(_)));
    }

    #[test]
    fn the_rest_is_for_others() {
        assert!(matches!(ask("example.org.", RecordType::A), Outcome::Forward(_)));
        assert!(matches!(ask("notcloud.example.", RecordType::A), Outcome::Forward(_)));
        assert_eq!(told("example.org.", RecordType::AXFR).0, ResponseCode::Refused);
    }

    #[test]
    fn long_answers_fit_or_say_so() {
        let mut network = network();
        let many = (0..50u8).map(|n| IpAddr::from([10, 0, 0, n])).collect();
        network.dns.hosts.insert("many".into(), many);
        let mut query = Message::query();
        query.queries.push(Query::query(Name::from_ascii("many.").unwrap(), RecordType::A));
        let said = |query: &Message| match answer(&network, &query.to_vec().unwrap()) {
            Outcome::Answer(message) => Message::from_vec(&datagram(&message).unwrap()).unwrap(),
            other => panic!("{other:?}"),
        };
        assert!(said(&query).metadata.truncation);
        query.set_edns(Edns::new());
        let long = said(&query);
        assert_eq!((long.metadata.truncation, long.answers.len()), (false, 50));
        assert!(long.edns.is_some());
    }
}
