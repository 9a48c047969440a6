//! What every handler here needs to know about its request.

use axum::extract::FromRequestParts;
use http::request::Parts;
use unkai_model::Id;
use unkai_model::compute::Server;
use unkai_model::identity::Project;
use unkai_openstack::{Caller, Cloud, RequestId, Unauthorized};
use unkai_store::View;

use crate::{Fault, Microversion};

#[derive(Clone)]
pub struct Cx {
    pub cloud: Cloud,
    pub caller: Caller,
    pub version: Microversion,
    /// `req-...`, as the answer's headers say it.
    pub request: String,
}

impl Cx {
    pub fn is_admin(&self) -> bool {
        self.caller.is_admin()
    }

    pub async fn view(&self) -> Result<View, Fault> {
        Ok(self.cloud.store.read().await?)
    }

    /// Only for administrators, as the rule of this name says.
    pub fn require_admin(&self, rule: &str) -> Result<(), Fault> {
        if self.is_admin() { Ok(()) } else { Err(Fault::policy(rule)) }
    }

    /// Whether the caller may know that this exists.
    pub fn sees(&self, project: Option<&Id<Project>>) -> bool {
        self.is_admin() || self.caller.owns(project)
    }

    /// The server, when the caller may look at it. One of another project is not there.
    pub fn may_read(&self, server: &Server) -> Result<(), Fault> {
        self.may(server, self.caller.may_read(server.meta.project.as_ref()), "os_compute_api:servers:show")
    }

    pub fn may_write(&self, server: &Server, rule: &str) -> Result<(), Fault> {
        self.may(server, self.caller.may_write(server.meta.project.as_ref()), rule)
    }

    fn may(&self, server: &Server, allowed: bool, rule: &str) -> Result<(), Fault> {
        match (self.sees(server.meta.project.as_ref()), allowed) {
            (false, _) => Err(no_server(&server.meta.id)),
            (true, false) => Err(Fault::policy(rule)),
            (true, true) => Ok(()),
        }
    }
}

pub fn no_server(id: impl std::fmt::Display) -> Fault {
    Fault::not_found(format!("Instance {id} could not be found."))
}

impl FromRequestParts<Cloud> for Cx {
    type Rejection = Unauthorized;

    async fn from_request_parts(parts: &mut Parts, cloud: &Cloud) -> Result<Self, Unauthorized> {
        let caller = Caller::from_request_parts(parts, cloud).await?;
        let Ok(version) = Microversion::from_request_parts(parts, cloud).await;
        let request = parts.extensions.get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
        Ok(Cx { cloud: cloud.clone(), caller, version, request })
    }
}
