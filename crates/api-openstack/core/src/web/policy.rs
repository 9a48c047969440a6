//! The default policies of the original, as three questions. The rule's name is what a refused caller reads.

use crate::CallerName;
use unkai_model::Id;
use unkai_model::identity::Project;
use unkai_store::View;

use super::Fault;

/// `rule:context_is_admin`.
pub fn admin(caller: &CallerName, rule: &str) -> Result<(), Fault> {
    allow(caller.is_admin(), rule)
}

/// `rule:project_reader_or_admin`: may look at what belongs to `project`.
pub fn reader(caller: &CallerName, project: Option<&Id<Project>>, rule: &str) -> Result<(), Fault> {
    allow(caller.may_read(project), rule)
}

/// `rule:project_member_or_admin`: may change what belongs to `project`.
pub fn member(caller: &CallerName, project: Option<&Id<Project>>, rule: &str) -> Result<(), Fault> {
    allow(caller.may_write(project), rule)
}

pub fn allow(allowed: bool, rule: &str) -> Result<(), Fault> {
    if allowed { Ok(()) } else { Err(Fault::policy(rule)) }
}

/// The original asks identity whether a project named in a request exists.
pub fn known_project(view: &View, id: &str) -> Result<Id<Project>, Fault> {
    let id = Id::new(id);
    match view.get::<Project>(&id) {
        Some(_) => Ok(id),
        None => Err(Fault::bad_request(format!("Project ID {id} is not a valid project."))),
    }
}
