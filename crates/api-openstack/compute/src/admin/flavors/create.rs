//! A new flavor. The id is the caller's, as text, or a new UUID.

use std::sync::LazyLock;

use axum::Json;
use axum::extract::State;
use serde_json::Value;
use unkai_model::Id;
use unkai_model::compute::Flavor;
use unkai_openstack::{Caller, Cloud};
use unkai_store::Tx;

use super::render::Style;
use crate::admin::policy;
use crate::body::Body;
use crate::schema::{Format, Schema, as_bool, as_int, object};
use crate::{Fault, Microversion};

const MAX_INT: i64 = 0x7FFF_FFFF;
/// The largest single precision number, which is what the original's database holds.
const MAX_FLOAT: f64 = f32::MAX as f64;

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let id = Format { name: "flavor id", accepts: is_id, message: None };
    let id = Schema::String { min: 1, max: 255, format: Some(id) };
    let whole = |min| Schema::Integer { min, max: MAX_INT };
    Schema::wrapped(
        "flavor",
        object()
            .required("name", Schema::name())
            .required("ram", whole(1))
            .required("vcpus", whole(1))
            .required("disk", whole(0))
            .optional("id", Schema::Union(vec![Schema::Null, id, Schema::Integer { min: i64::MIN, max: i64::MAX }]))
            .optional("OS-FLV-EXT-DATA:ephemeral", whole(0))
            .optional("swap", whole(0))
            .optional("rxtx_factor", Schema::Any)
            .optional("os-flavor-access:is_public", Schema::Boolean)
            .optional_in(55.., "description", super::description()),
    )
});

fn is_id(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ' ' | '_' | '-');
    text.chars().all(allowed) && text.trim_matches(' ') == text
}

pub async fn create(State(cloud): State<Cloud>, caller: Caller, version: Microversion, body: Body) -> Result<Json<Value>, Fault> {
    let body = body.validated(&SCHEMA, version)?;
    policy::admin(&caller, "os_compute_api:os-flavor-manage:create")?;
    let (id, wanted) = parse(&body["flavor"])?;
    let flavor = cloud.store.transact(move |tx| insert(tx, id.as_deref(), &wanted)).await?;
    Ok(Style::new(&cloud, &caller, version).one(&flavor))
}

fn insert(tx: &mut Tx, id: Option<&str>, wanted: &Flavor) -> Result<std::sync::Arc<Flavor>, Fault> {
    let mut flavor = wanted.clone();
    flavor.meta.id = id.map_or_else(|| tx.new_id(), Id::new);
    let (id, name) = (flavor.meta.id.clone(), flavor.meta.name.clone());
    if tx.is_claimed("flavor-name", &name) {
        return Err(Fault::conflict(format!("Flavor with name {name} already exists.")));
    }
    if tx.get(&id).is_some() {
        return Err(Fault::conflict(format!("Flavor with ID {id} already exists.")));
    }
    Ok(tx.insert(flavor)?)
}

/// The id that was asked for, and the flavor, still without one.
fn parse(body: &Value) -> Result<(Option<String>, Flavor), Fault> {
    let number = |key: &str| body.get(key).and_then(as_int).unwrap_or(0) as u64;
    let name = body["name"].as_str().unwrap_or("").trim();
    let mut flavor = Flavor::new("", name, number("vcpus") as u32, number("ram"), number("disk"));
    flavor.ephemeral_gib = number("OS-FLV-EXT-DATA:ephemeral");
    flavor.swap_mib = number("swap");
    flavor.public = body.get("os-flavor-access:is_public").is_none_or(as_bool);
    flavor.description = body["description"].as_str().map(str::to_owned);
    if let Some(factor) = body.get("rxtx_factor") {
        flavor.rxtx_factor = rxtx_factor(factor)?;
    }
    let id = match &body["id"] {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    Ok((id, flavor))
}

fn rxtx_factor(value: &Value) -> Result<f64, Fault> {
    let plain = |text: &str| text.split('.').all(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()));
    let number = match value {
        Value::String(text) if plain(text) => text.parse().ok(),
        Value::Number(number) => number.as_f64(),
        _ => None,
    };
    number.filter(|n| *n > 0.0 && *n <= MAX_FLOAT).ok_or_else(|| {
        Fault::bad_request(format!(
            "Invalid input for field/attribute rxtx_factor. Value: {value}. The value must be a number above 0 and at most {MAX_FLOAT:e}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn factors_are_positive_numbers_or_their_digits() {
        for (value, number) in [(json!(2), Some(2.0)), (json!("1.5"), Some(1.5)), (json!(0.25), Some(0.25))] {
            assert_eq!(rxtx_factor(&value).ok(), number);
        }
        for value in [json!(0), json!(-1), json!("1e3"), json!("."), json!("a"), json!(1e39), json!(null), json!([])] {
            assert!(rxtx_factor(&value).is_err(), "{value}");
        }
    }

    #[test]
    fn ids_have_no_space_at_their_ends() {
        for (id, good) in [("a b", true), ("1.x_-", true), (" a", false), ("a ", false), ("a/b", false), ("ä", false)] {
            assert_eq!(is_id(id), good, "{id:?}");
        }
    }
}
