//! What every handler needs to know about its request.

use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use unkai_model::identity::Project;
use unkai_model::{Error, Id, Kind};
use unkai_openstack::web::{Fault, Microversion, policy};
use unkai_openstack::{Caller, Cloud, RequestId};
use unkai_store::{Store, Tx, View};

#[derive(Clone)]
pub struct Cx {
    pub cloud: Cloud,
    pub caller: Caller,
    pub version: Microversion,
    /// `req-...`, as the answer's headers say it.
    pub request: String,
    params: Vec<(String, String)>,
}

impl Cx {
    /// A part of the path by its name in the route.
    pub fn param(&self, name: &str) -> &str {
        self.params.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// The `{id}` of the path.
    pub fn id<K: Kind>(&self) -> Id<K> {
        Id::new(self.param("id"))
    }

    pub fn is_admin(&self) -> bool {
        self.caller.is_admin()
    }

    /// The project that the token is for.
    pub fn project(&self) -> Result<Id<Project>, Fault> {
        Ok(self.caller.require_project()?.clone())
    }

    pub async fn view(&self) -> Result<View, Fault> {
        Ok(self.cloud.store.read().await?)
    }

    pub fn store(&self) -> &Store {
        &self.cloud.store
    }

    /// Whether the caller may know that something of this project exists.
    pub fn sees(&self, project: Option<&Id<Project>>) -> bool {
        self.is_admin() || self.caller.owns(project)
    }

    /// The document of the path, when the caller may look at it.
    pub fn find<K: Kind>(&self, view: &View, rule: &str) -> Result<Arc<K>, Fault> {
        self.find_id(view, &self.id(), rule)
    }

    pub fn find_id<K: Kind>(&self, view: &View, id: &Id<K>, rule: &str) -> Result<Arc<K>, Fault> {
        let project = |found: &K| found.meta().project.clone();
        let found = view.get(id).filter(|found| self.sees(project(found).as_ref())).ok_or_else(|| Error::not_found::<K>(id))?;
        policy::reader(&self.caller, project(&found).as_ref(), rule)?;
        Ok(found)
    }

    /// The document of the path, when the caller may change it. Inside the transaction that does.
    pub fn find_to_change<K: Kind>(&self, tx: &Tx, rule: &str) -> Result<Arc<K>, Fault> {
        let found = self.find::<K>(&tx.view(), rule)?;
        policy::member(&self.caller, found.meta().project.as_ref(), rule)?;
        Ok(found)
    }

    pub fn require_admin(&self, rule: &str) -> Result<(), Fault> {
        policy::admin(&self.caller, rule)
    }

    /// A member of its project, who may make things there.
    pub fn require_member(&self, rule: &str) -> Result<Id<Project>, Fault> {
        let project = self.project()?;
        policy::member(&self.caller, Some(&project), rule)?;
        Ok(project)
    }
}

impl FromRequestParts<Cloud> for Cx {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, cloud: &Cloud) -> Result<Self, Response> {
        let caller = Caller::from_request_parts(parts, cloud).await.map_err(IntoResponse::into_response)?;
        let Ok(version) = Microversion::from_request_parts(parts, cloud).await;
        let params = RawPathParams::from_request_parts(parts, cloud).await.map_err(IntoResponse::into_response)?;
        let params: Vec<_> = params.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let request = parts.extensions.get::<RequestId>().map_or_else(String::new, |id| id.0.clone());
        let cx = Cx { cloud: cloud.clone(), caller, version, request, params };
        let said = cx.param("project_id");
        // Tokens of the whole system have no project to differ from.
        if !said.is_empty() && cx.caller.project.as_ref().is_some_and(|project| project.as_str() != said) {
            return Err(Fault::bad_request("Malformed request url").into_response());
        }
        if said.is_empty() {
            cx.version.require(67..).map_err(IntoResponse::into_response)?;
        }
        Ok(cx)
    }
}
