//! Flavors as the versions of the API show them.

use std::collections::BTreeMap;

use axum::Json;
use serde::Serialize;
use serde_json::{Value, json};
use unkai_model::compute::Flavor;
use unkai_openstack::{CallerName, Cloud};

use crate::Microversion;
use crate::admin::page::{Link, links};

/// What of a flavor this request gets to see.
pub struct Style<'a> {
    cloud: &'a Cloud,
    version: Microversion,
    extra_specs: bool,
}

#[derive(Serialize)]
pub struct Brief<'a> {
    id: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<Option<&'a str>>,
    links: Vec<Link>,
}

#[derive(Serialize)]
pub struct Full<'a> {
    #[serde(flatten)]
    brief: Brief<'a>,
    ram: u64,
    disk: u64,
    swap: Value,
    #[serde(rename = "OS-FLV-EXT-DATA:ephemeral")]
    ephemeral: u64,
    #[serde(rename = "OS-FLV-DISABLED:disabled")]
    disabled: bool,
    vcpus: u32,
    #[serde(rename = "os-flavor-access:is_public")]
    public: bool,
    rxtx_factor: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_specs: Option<&'a BTreeMap<String, String>>,
}

impl<'a> Style<'a> {
    pub fn new(cloud: &'a Cloud, caller: &CallerName, version: Microversion) -> Self {
        let extra_specs = version.at_least(61) && caller.may_read(caller.project.as_ref());
        Style { cloud, version, extra_specs }
    }

    pub fn one(&self, flavor: &Flavor) -> Json<Value> {
        Json(json!({ "flavor": self.full(flavor) }))
    }

    pub fn brief<'f>(&self, flavor: &'f Flavor) -> Brief<'f> {
        Brief {
            id: flavor.meta.id.as_str(),
            name: &flavor.meta.name,
            description: self.version.at_least(55).then_some(flavor.description.as_deref()),
            links: links(self.cloud, "flavors", flavor.meta.id.as_str()),
        }
    }

    pub fn full<'f>(&self, flavor: &'f Flavor) -> Full<'f> {
        let no_swap = flavor.swap_mib == 0 && !self.version.at_least(75);
        Full {
            brief: self.brief(flavor),
            ram: flavor.ram_mib,
            disk: flavor.disk_gib,
            swap: if no_swap { "".into() } else { flavor.swap_mib.into() },
            ephemeral: flavor.ephemeral_gib,
            disabled: false,
            vcpus: flavor.vcpus,
            public: flavor.public,
            rxtx_factor: flavor.rxtx_factor,
            extra_specs: self.extra_specs.then_some(&flavor.extra_specs),
        }
    }
}
