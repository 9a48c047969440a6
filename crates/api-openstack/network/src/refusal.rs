//! Refusals in Neutron's own words: its exception types, texts and status codes. The only file that knows how an error looks.

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::Serialize;
use unkai_model::Error;

/// A request that was not done, and why. The message is for the caller.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub status: StatusCode,
    /// Neutron's exception type, such as `NetworkInUse`.
    pub kind: &'static str,
    pub message: String,
}

impl Refusal {
    pub fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Refusal { status, kind, message: message.into() }
    }
    pub fn bad(kind: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, kind, message)
    }
    /// The general refusal of a value: `reason` without a full stop.
    pub fn input(reason: impl std::fmt::Display) -> Self {
        Self::bad("InvalidInput", format!("Invalid input for operation: {reason}."))
    }
    /// A body or a query that is not understood.
    pub fn request(message: impl Into<String>) -> Self {
        Self::bad("HTTPBadRequest", message)
    }
    pub fn missing(kind: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, kind, message)
    }
    pub fn conflict(kind: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, kind, message)
    }
    /// `rule` is the policy's name: `create_network:shared`.
    pub fn policy(rule: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::FORBIDDEN, "PolicyNotAuthorized", format!("rule:{rule} is disallowed by policy"))
    }
    /// What a path that does not exist answers.
    pub fn no_resource() -> Self {
        Self::missing("HTTPNotFound", "The resource could not be found.")
    }

    /// A resource that is not there, or that this caller may not know of. `noun` as in model errors.
    pub fn not_found(noun: &str, id: &str) -> Self {
        let (kind, message) = match noun {
            "network" => ("NetworkNotFound", format!("Network {id} could not be found.")),
            "subnet" => ("SubnetNotFound", format!("Subnet {id} could not be found.")),
            "port" => ("PortNotFound", format!("Port {id} could not be found.")),
            "router" => ("RouterNotFound", format!("Router {id} could not be found")),
            "floating IP" => ("FloatingIPNotFound", format!("Floating IP {id} could not be found")),
            "security group" => ("SecurityGroupNotFound", format!("Security group {id} does not exist")),
            "security group rule" => ("SecurityGroupRuleNotFound", format!("Security group rule {id} does not exist")),
            "subnet pool" => ("SubnetPoolNotFound", format!("Subnet pool {id} could not be found.")),
            "RBAC policy" => ("RbacPolicyNotFound", format!("RBAC policy of type rbac_policy with ID {id} not found")),
            "host" => ("AgentNotFound", format!("Agent {id} could not be found.")),
            _ => ("ObjectNotFound", format!("Object {id} not found.")),
        };
        Self::missing(kind, message)
    }

    fn taken(namespace: &str, key: &str) -> Self {
        let (owner, value) = key.split_once('/').unwrap_or(("", key));
        match namespace {
            "address" => Self::conflict("IpAddressAlreadyAllocated", format!("IP address already allocated in network {owner}.")),
            "mac" => mac_in_use(owner, value),
            "vni" => {
                let vni = value.trim_start_matches('0');
                Self::conflict("TunnelIdInUse", format!("Unable to create the network. The tunnel ID {vni} is in use."))
            }
            "flat-network" => {
                Self::conflict("FlatNetworkInUse", format!("Unable to create the flat network. Physical network {value} is in use."))
            }
            "security-group-rule" => Self::conflict(
                "SecurityGroupRuleExists",
                format!("Security group rule already exists. Rule id is {holder}.", holder = owner),
            ),
            "rbac-policy" => Self::conflict("NeutronDbObjectDuplicateEntry", format!("An RBAC policy for object {owner} already exists.")),
            "default-external-network" => Self::conflict("DefaultExternalNetworkExists", "A default external network already exists."),
            "floating-target" => {
                Self::conflict("FloatingIPPortAlreadyAssociated", "That fixed IP already has a floating IP on this external network.")
            }
            "default-subnet-pool" => {
                Self::bad("InvalidInput", format!("Invalid input for operation: A default subnetpool for IPv{value} has already been set."))
            }
            _ => Self::conflict("Conflict", format!("{key} is already in use.")),
        }
    }

    fn in_use(noun: &str, id: &str, by: &str) -> Self {
        match noun {
            "network" => network_in_use(id),
            "subnet" => subnet_in_use(id),
            "security group" => Self::conflict("SecurityGroupInUse", format!("Security Group {id} in use.")),
            "router" => Self::conflict("RouterInUse", format!("Router {id} still has ports")),
            "subnet pool" => Self::conflict(
                "SubnetPoolInUse",
                format!("Unable to complete operation on subnet pool {id}. Subnet pool has existing allocations."),
            ),
            _ => Self::conflict("InUse", format!("The {noun} {id} is in use by {by}.")),
        }
    }
}

pub fn network_in_use(id: &str) -> Refusal {
    let text = format!("Unable to complete operation on network {id}. There are one or more ports still in use on the network.");
    Refusal::conflict("NetworkInUse", text)
}

pub fn subnet_in_use(id: &str) -> Refusal {
    let text = format!("Unable to complete operation on subnet {id}: One or more ports have an IP allocation from this subnet.");
    Refusal::conflict("SubnetInUse", text)
}

pub fn mac_in_use(network: &str, mac: &str) -> Refusal {
    let text = format!("Unable to complete operation for network {network}. The mac address {mac} is in use.");
    Refusal::conflict("MacAddressInUse", text)
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound { kind, id } => Self::not_found(kind, &id),
            Error::Conflict(text) => Self::conflict("Conflict", text),
            Error::Taken { namespace: "security-group-rule", holder, .. } => Self::taken("security-group-rule", &format!("{holder}/")),
            Error::Taken { namespace, key, .. } => Self::taken(namespace, &key),
            Error::InUse { kind, id, by } => Self::in_use(kind, &id, &by),
            Error::Invalid(text) => Self::input(text.trim_end_matches('.')),
            Error::Denied(text) => Self::new(StatusCode::FORBIDDEN, "NotAuthorized", text),
            Error::Quota { resource, .. } => Self::conflict("OverQuota", format!("Quota exceeded for resources: ['{resource}'].")),
            Error::Unavailable(text) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", text),
            Error::Internal { context, source } => {
                tracing::error!(context, ?source, "a network request failed");
                let text = "Request Failed: internal server error while processing your request.";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "HTTPInternalServerError", text)
            }
        }
    }
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "NeutronError")]
    error: Inner<'a>,
}

#[derive(Serialize)]
struct Inner<'a> {
    r#type: &'a str,
    message: &'a str,
    detail: &'a str,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = Body { error: Inner { r#type: self.kind, message: &self.message, detail: "" } };
        let text = serde_json::to_string(&body).expect("strings encode as JSON");
        (self.status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
    }
}

/// What the network verbs refuse, the compute API refuses as a bad request, except where nobody is to blame.
impl From<Refusal> for unkai_openstack::web::Fault {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal.status.as_u16() {
            403 | 500.. => refusal.status,
            _ if refusal.kind == "NoUniqueMatch" => http::StatusCode::CONFLICT,
            _ => http::StatusCode::BAD_REQUEST,
        };
        let message = match refusal.kind {
            "OverQuota" => return Self::forbidden("Maximum number of ports exceeded"),
            "IpAddressAlreadyAllocated" => format!("Fixed IP address is already in use: {}", refusal.message),
            _ => refusal.message,
        };
        Self::new(code, message)
    }
}
