//! The filters of lists of servers.
//!
//! Tenants may use a few; what they may not use is ignored, as in the original. Administrators may use all.

use std::collections::BTreeSet;

use regex::{Regex, RegexBuilder};
use unkai_model::compute::Server;
use unkai_model::identity::Project;
use unkai_model::{Id, Timestamp};

use super::cx::Cx;
use super::renderer::{Renderer, changed};
use super::state::STATUSES;
use crate::Fault;
use crate::query::{self, Query};

pub struct Filter {
    project: Option<Id<Project>>,
    deleted: Deleted,
    tests: Vec<Test>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Deleted {
    No,
    Only,
    Both,
}

type Test = Box<dyn Fn(&Renderer, &Server) -> bool>;

/// What tenants may filter by, and since when.
const FOR_ALL: [(&str, u16); 27] = [
    ("reservation_id", 1),
    ("name", 1),
    ("status", 1),
    ("image", 1),
    ("image_ref", 1),
    ("flavor", 1),
    ("ip", 1),
    ("changes-since", 1),
    ("all_tenants", 1),
    ("ip6", 5),
    ("tags", 26),
    ("tags-any", 26),
    ("not-tags", 26),
    ("not-tags-any", 26),
    ("changes-before", 66),
    ("locked", 73),
    ("availability_zone", 83),
    ("config_drive", 83),
    ("key_name", 83),
    ("created_at", 83),
    ("launched_at", 83),
    ("terminated_at", 83),
    ("power_state", 83),
    ("task_state", 83),
    ("vm_state", 83),
    ("progress", 83),
    ("user_id", 83),
];

/// Not filters: how the list is cut and ordered.
const PAGING: [&str; 4] = ["limit", "marker", "sort_key", "sort_dir"];

impl Filter {
    pub fn parse(cx: &Cx, query: &Query) -> Result<Filter, Fault> {
        let all_tenants = wants_all_tenants(cx, query)?;
        let usable = |name: &str| cx.is_admin() || FOR_ALL.iter().any(|(known, since)| *known == name && cx.version.at_least(*since));
        let names: BTreeSet<&str> = query.0.iter().map(|(name, _)| name.as_str()).collect();
        let mut filter = Filter { project: None, deleted: Deleted::No, tests: Vec::new() };
        if names.contains("changes-since") || names.contains("changes-before") && cx.version.at_least(66) {
            filter.deleted = Deleted::Both;
        }
        for name in names.into_iter().filter(|name| !PAGING.contains(name)) {
            if name == "status" || usable(name) {
                filter.add(cx, query, name)?;
            }
        }
        let named = ["project_id", "tenant_id"].into_iter().find_map(|name| query.get(name)).filter(|_| cx.is_admin());
        filter.project = match (all_tenants, named) {
            (true, Some(project)) => Some(Id::new(project)),
            (true, None) => None,
            (false, _) => Some(cx.caller.project.clone().unwrap_or_else(|| Id::new(""))),
        };
        check_period(query)?;
        Ok(filter)
    }

    /// Whose servers; none: everybody's.
    pub fn project(&self) -> Option<&Id<Project>> {
        self.project.as_ref()
    }

    pub fn with_deleted(&self) -> bool {
        self.deleted != Deleted::No
    }

    pub fn accepts(&self, renderer: &Renderer, server: &Server) -> bool {
        let alive = match self.deleted {
            Deleted::No => server.is_live(),
            Deleted::Only => !server.is_live(),
            Deleted::Both => true,
        };
        alive && self.tests.iter().all(|test| test(renderer, server))
    }

    fn test(&mut self, test: impl Fn(&Renderer, &Server) -> bool + 'static) -> Result<(), Fault> {
        self.tests.push(Box::new(test));
        Ok(())
    }

    /// The filter of one name, with all values that were given for it.
    fn add(&mut self, cx: &Cx, query: &Query, name: &str) -> Result<(), Fault> {
        let value = query.get(name).unwrap_or_default().to_owned();
        match name {
            "status" => self.status(cx, query),
            "name" | "display_name" => self.matches(&value, |_, s| s.meta.name.clone()),
            "description" | "display_description" => self.matches(&value, |_, s| s.spec.description.clone().unwrap_or_default()),
            "ip" | "ip6" => self.address(&value, name == "ip"),
            "image" | "image_ref" => self.test(move |_, s| s.spec.launch.image.as_ref().is_some_and(|image| image.as_str() == value)),
            "flavor" => self.test(move |_, s| s.spec.launch.flavor.id == value),
            "host" | "node" => self.test(move |r, s| s.status.host.as_ref().is_some_and(|host| r.host(host).name == value)),
            "user_id" => self.test(move |_, s| s.spec.user == value),
            "uuid" => self.test(move |_, s| s.meta.id.as_str() == value),
            "reservation_id" => self.test(move |_, s| s.spec.launch.reservation == value),
            "key_name" => self.matches(&value, |_, s| s.spec.launch.key_name.clone().unwrap_or_default()),
            "hostname" => self.matches(&value, |_, s| s.spec.launch.hostname.clone()),
            "availability_zone" => self.matches(&value, |r, s| r.zone(s)),
            "root_device_name" => self.matches(&value, |_, _| "/dev/vda".into()),
            "access_ip_v4" => self.matches(&value, |_, s| s.spec.access_ipv4.map_or_else(String::new, |a| a.to_string())),
            "access_ip_v6" => self.matches(&value, |_, s| s.spec.access_ipv6.map_or_else(String::new, |a| a.to_string())),
            "kernel_id" | "ramdisk_id" => self.matches(&value, |_, _| String::new()),
            "launch_index" => self.test(move |_, s| s.spec.launch.launch_index.to_string() == value),
            "power_state" => self.test(move |r, s| r.state(s).power.to_string() == value),
            "progress" => self.test(move |_, _| value == "0"),
            "vm_state" => self.vm_state(cx, query),
            "task_state" => {
                self.test(move |r, s| r.state(s).task == Some(value.as_str()) || (value == "None" && r.state(s).task.is_none()))
            }
            "config_drive" => {
                let wanted = query::truth(&value).unwrap_or(false);
                self.test(move |_, s| s.spec.launch.config_drive == wanted)
            }
            "auto_disk_config" => {
                let wanted = query::truth(&value).unwrap_or(false);
                self.test(move |_, s| s.spec.launch.manual_disk != wanted)
            }
            "locked" if cx.version.at_least(73) => {
                let wanted = query::truth(&value).ok_or_else(|| bad_word("locked", &value))?;
                self.test(move |_, s| s.spec.lock.is_some() == wanted)
            }
            "locked_by" => self.test(move |_, s| s.spec.lock.as_ref().is_some_and(|lock| (value == "admin") == lock.by_admin)),
            "created_at" => self.moment(&value, |s| Some(s.meta.created)),
            "launched_at" => self.moment(&value, |s| s.status.timeline.launched),
            "terminated_at" => self.moment(&value, |s| s.status.deleted),
            "changes-since" => {
                let since = time("changes-since", &value)?;
                self.test(move |_, s| changed(s) >= since)
            }
            "changes-before" if cx.version.at_least(66) => {
                let before = time("changes-before", &value)?;
                self.test(move |_, s| changed(s) <= before)
            }
            "tags" | "tags-any" | "not-tags" | "not-tags-any" if cx.version.at_least(26) => self.tags(name, &value),
            "deleted" => {
                self.deleted = match query::truth(&value) {
                    Some(true) => Deleted::Only,
                    Some(false) => Deleted::No,
                    None => return Err(bad_word("deleted", &value)),
                };
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn status(&mut self, cx: &Cx, query: &Query) -> Result<(), Fault> {
        let wanted: Vec<String> = query.all("status").map(str::to_uppercase).collect();
        if let Some(odd) = wanted.iter().find(|status| !STATUSES.contains(&status.as_str()))
            && cx.version.at_least(38)
        {
            return Err(Fault::bad_request(format!("Invalid status value: {odd}")));
        }
        if wanted.iter().any(|status| status == "DELETED") {
            if !cx.is_admin() {
                return Err(Fault::forbidden("Only administrators may list deleted instances"));
            }
            self.deleted = if wanted.len() == 1 { Deleted::Only } else { Deleted::Both };
        }
        self.test(move |r, s| wanted.iter().any(|status| status == r.state(s).status()))
    }

    fn vm_state(&mut self, cx: &Cx, query: &Query) -> Result<(), Fault> {
        let wanted: Vec<String> = query.all("vm_state").map(str::to_lowercase).collect();
        if wanted == ["deleted"] {
            if !cx.is_admin() {
                return Err(Fault::forbidden("Only administrators may list deleted instances"));
            }
            self.deleted = Deleted::Only;
        }
        self.test(move |r, s| wanted.iter().any(|vm| vm == r.state(s).vm_name()))
    }

    /// The pattern is a regular expression, found anywhere, in any case, as the original's usual database does it.
    fn matches(&mut self, pattern: &str, field: impl Fn(&Renderer, &Server) -> String + 'static) -> Result<(), Fault> {
        let regex = compile(pattern)?;
        self.test(move |r, s| regex.is_match(&field(r, s)))
    }

    fn address(&mut self, pattern: &str, v4: bool) -> Result<(), Fault> {
        let regex = compile(pattern)?;
        self.test(move |r, s| {
            let ports = s.spec.ports.iter().filter_map(|port| r.view.get(port));
            let addresses: Vec<_> = ports.flat_map(|port| port.addresses().collect::<Vec<_>>()).collect();
            addresses.iter().any(|address| address.is_ipv4() == v4 && regex.is_match(&address.to_string()))
        })
    }

    fn moment(&mut self, value: &str, field: impl Fn(&Server) -> Option<Timestamp> + 'static) -> Result<(), Fault> {
        let wanted = query::time(value).map(|time| time.as_second());
        self.test(move |_, s| wanted.is_some() && field(s).map(|time| time.as_second()) == wanted)
    }

    fn tags(&mut self, name: &str, value: &str) -> Result<(), Fault> {
        let wanted: Vec<String> = value.split(',').map(str::to_owned).collect();
        let (any, not) = (name.ends_with("any"), name.starts_with("not"));
        self.test(move |_, s| {
            let has = |tag: &String| s.spec.tags.contains(tag);
            (if any { wanted.iter().any(has) } else { wanted.iter().all(has) }) != not
        })
    }
}

fn wants_all_tenants(cx: &Cx, query: &Query) -> Result<bool, Fault> {
    let Some(value) = query.get("all_tenants") else { return Ok(false) };
    let wanted = if value.is_empty() { true } else { query::truth(value).ok_or_else(|| bad_word("all_tenants", value))? };
    if wanted {
        cx.require_admin("os_compute_api:servers:index:get_all_tenants")?;
    }
    Ok(wanted)
}

fn check_period(query: &Query) -> Result<(), Fault> {
    let at = |name| query.get(name).and_then(query::time);
    match (at("changes-since"), at("changes-before")) {
        (Some(since), Some(before)) if since > before => {
            Err(Fault::bad_request("The value of changes-since must be less than or equal to changes-before."))
        }
        _ => Ok(()),
    }
}

fn compile(pattern: &str) -> Result<Regex, Fault> {
    // A bound on size and no backtracking: a hostile pattern costs its sender a refusal and nobody time.
    let built = RegexBuilder::new(pattern).case_insensitive(true).size_limit(1 << 20).build();
    built.map_err(|_| Fault::bad_request(format!("Invalid filter value: '{pattern}' is not a regular expression")))
}

fn time(name: &str, value: &str) -> Result<Timestamp, Fault> {
    query::time(value).ok_or_else(|| Fault::bad_request(format!("Invalid filter field: {name}.")))
}

fn bad_word(name: &str, value: &str) -> Fault {
    Fault::bad_request(format!(
        "Invalid value for '{name}': Unrecognized value '{value}', acceptable values are: '0', '1', 'f', 'false', 'n', 'no', 'off', 'on', 't', 'true', 'y', 'yes'"
    ))
}
