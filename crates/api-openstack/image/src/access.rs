//! Who may do what with an image: Glance's default policies, as pure functions.
//!
//! What a caller may not see does not exist for him; what he may see and not change is forbidden.

use unkai_model::image::{Image, Visibility};
use unkai_openstack::CallerName;

use crate::error::{ApiError, Result};

fn reads(caller: &CallerName) -> bool {
    caller.has_role("reader") || caller.has_role("member")
}

/// The database's own rule, before any role is looked at.
pub fn is_visible(caller: &CallerName, image: &Image) -> bool {
    let owner = image.meta.project.as_ref();
    caller.is_admin() || owner.is_none() || caller.owns(owner) || image.is_visible_to(caller.project.as_ref())
}

/// `get_image`.
pub fn see(caller: &CallerName, image: &Image) -> Result<()> {
    if is_visible(caller, image) && (caller.is_admin() || reads(caller)) { Ok(()) } else { Err(ApiError::no_image(&image.meta.id)) }
}

/// `get_images`: may list at all.
pub fn list(caller: &CallerName) -> Result<()> {
    if caller.is_admin() || reads(caller) { Ok(()) } else { Err(ApiError::policy("get_images")) }
}

/// `modify_image`, `delete_image`, `upload_image` and so on: the owner's members and administrators.
pub fn change(caller: &CallerName, image: &Image, rule: &str) -> Result<()> {
    see(caller, image)?;
    if caller.may_write(image.meta.project.as_ref()) { Ok(()) } else { Err(ApiError::policy(rule)) }
}

/// `download_image`: members of any project that sees it.
pub fn download(caller: &CallerName, image: &Image) -> Result<()> {
    see(caller, image)?;
    if caller.is_admin() || caller.has_role("member") { Ok(()) } else { Err(ApiError::policy("download_image")) }
}

/// `publicize_image` and `communitize_image`.
pub fn set_visibility(caller: &CallerName, visibility: Visibility) -> Result<()> {
    match visibility {
        Visibility::Public if !caller.is_admin() => Err(ApiError::policy("publicize_image")),
        Visibility::Community if !caller.is_admin() && !caller.has_role("member") => Err(ApiError::policy("communitize_image")),
        _ => Ok(()),
    }
}

/// `add_image`, for an owner other than oneself too.
pub fn add(caller: &CallerName, owner: Option<&str>) -> Result<()> {
    if caller.is_admin() {
        return Ok(());
    }
    let own = caller.project.as_ref().map(|project| project.as_str());
    match owner {
        Some(owner) if Some(owner) != own => Err(ApiError::forbidden(format!("You are not permitted to create images owned by '{owner}'"))),
        None => Err(ApiError::policy("add_image")),
        Some(_) if !caller.has_role("member") => Err(ApiError::policy("add_image")),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use unkai_model::image::{ImageSpec, Member};
    use unkai_model::{Meta, Timestamp};

    fn caller(project: &str, role: &str) -> CallerName {
        CallerName {
            user: "u".into(),
            user_name: "u".into(),
            user_domain: "default".into(),
            project: Some(project.into()),
            project_name: project.into(),
            project_domain: "default".into(),
            domain: None,
            system: false,
            roles: [role.to_owned()].into(),
            expires: Timestamp::MAX,
        }
    }

    fn image(visibility: Visibility) -> Image {
        let mut spec = ImageSpec { visibility, ..Default::default() };
        spec.members.insert("friend".into(), Member::new(Timestamp::UNIX_EPOCH));
        Image::new(Meta::new("i").owned_by("owner"), spec)
    }

    /// See, change, download.
    fn rights(caller: &CallerName, image: &Image) -> [u16; 3] {
        let code = |result: Result<()>| result.map_or_else(|e| e.status.as_u16(), |()| 200);
        [code(see(caller, image)), code(change(caller, image, "modify_image")), code(download(caller, image))]
    }

    #[test]
    fn rights_by_visibility_and_role() {
        use Visibility::*;
        let table = [
            ("owner", "member", Private, [200, 200, 200]),
            ("owner", "reader", Private, [200, 403, 403]),
            ("owner", "stranger", Private, [404, 404, 404]),
            ("other", "member", Private, [404, 404, 404]),
            ("other", "member", Shared, [404, 404, 404]),
            ("other", "member", Public, [200, 403, 200]),
            ("other", "member", Community, [200, 403, 200]),
            ("other", "reader", Public, [200, 403, 403]),
            ("friend", "member", Private, [404, 404, 404]),
            ("friend", "member", Shared, [200, 403, 200]),
            ("friend", "reader", Shared, [200, 403, 403]),
            ("other", "admin", Private, [200, 200, 200]),
        ];
        for (project, role, visibility, wanted) in table {
            assert_eq!(rights(&caller(project, role), &image(visibility)), wanted, "{role} of {project}, {visibility} image");
        }
    }

    #[test]
    fn only_administrators_publish_or_give_away() {
        assert_eq!(set_visibility(&caller("p", "member"), Visibility::Public).unwrap_err().status, 403);
        assert!(set_visibility(&caller("p", "member"), Visibility::Community).is_ok());
        assert!(set_visibility(&caller("p", "admin"), Visibility::Public).is_ok());
        assert_eq!(add(&caller("p", "member"), Some("q")).unwrap_err().status, 403);
        assert!(add(&caller("p", "member"), Some("p")).is_ok());
        assert!(add(&caller("p", "reader"), Some("p")).is_err());
    }
}
