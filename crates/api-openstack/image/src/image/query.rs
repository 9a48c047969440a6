//! The query string of the image list, read and checked.

use unkai_model::Timestamp;
use unkai_model::image::{MemberStatus, Visibility};

use crate::error::{ApiError, Result};

/// What the caller wants to see.
#[derive(Debug, Default, PartialEq)]
pub struct Query {
    pub limit: Option<usize>,
    pub marker: Option<String>,
    /// None: whatever the member answered.
    pub member_status: Option<MemberStatus>,
    pub visibility: Shown,
    pub hidden: bool,
    pub sort: Vec<(SortKey, Direction)>,
    pub filters: Vec<Filter>,
}

#[derive(Debug, Default, PartialEq)]
pub enum Shown {
    /// No filter: other projects' community images are left out.
    #[default]
    Usual,
    All,
    Only(Visibility),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Direction {
    Ascending,
    Descending,
}

macro_rules! sort_keys {
    ($($variant:ident $name:literal),* $(,)?) => {
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub enum SortKey { $($variant),* }
        const SORT_KEYS: &[(&str, SortKey)] = &[$(($name, SortKey::$variant)),*];
    };
}
sort_keys!(
    Name "name", Status "status", ContainerFormat "container_format", DiskFormat "disk_format", Size "size", Id "id",
    Created "created_at", Updated "updated_at",
);

/// One condition; all have to hold.
#[derive(Debug, PartialEq)]
pub enum Filter {
    /// The named text field is one of these.
    Text(&'static str, Vec<String>),
    /// The named number is at least and at most.
    Range(&'static str, Option<i64>, Option<i64>),
    Time(&'static str, Comparison, Timestamp),
    Protected(bool),
    Tag(String),
    /// A custom property.
    Property(String, String),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Comparison {
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
    GreaterOrEqual,
    Greater,
}

/// Fields that take the `in:` operator.
const LISTABLE: [&str; 5] = ["name", "id", "status", "container_format", "disk_format"];
const TEXT: [&str; 4] = ["owner", "checksum", "os_hash_value", "os_hash_algo"];
const NUMBERS: [&str; 4] = ["size", "virtual_size", "min_ram", "min_disk"];

pub fn parse(pairs: &[(String, String)]) -> Result<Query> {
    let mut query = Query { member_status: Some(MemberStatus::Accepted), ..Query::default() };
    for (name, value) in pairs {
        match name.as_str() {
            "limit" => query.limit = Some(limit(value)?),
            "marker" => query.marker = Some(value.clone()),
            "member_status" => query.member_status = member_status(value)?,
            "visibility" => query.visibility = shown(value)?,
            "os_hidden" => query.hidden = boolean("os_hidden", &value.to_lowercase())?,
            "sort" | "sort_key" | "sort_dir" => {}
            _ => query.filters.push(filter(name, value)?),
        }
    }
    query.sort = sort(pairs)?;
    Ok(query)
}

fn limit(value: &str) -> Result<usize> {
    match value.trim().parse::<i64>() {
        Err(_) => Err(ApiError::bad_request("limit param must be an integer")),
        Ok(..0) => Err(ApiError::bad_request("limit param must be positive")),
        Ok(limit) => Ok(limit as usize),
    }
}

fn member_status(value: &str) -> Result<Option<MemberStatus>> {
    match MemberStatus::named(value) {
        None if value != "all" => Err(ApiError::bad_request(format!("Invalid status: {value}"))),
        status => Ok(status),
    }
}

fn shown(value: &str) -> Result<Shown> {
    match (value, Visibility::named(value)) {
        ("", _) => Ok(Shown::Usual),
        ("all", _) => Ok(Shown::All),
        (_, Some(visibility)) => Ok(Shown::Only(visibility)),
        (_, None) => Err(ApiError::bad_request(format!("Invalid visibility value: {value}"))),
    }
}

fn boolean(name: &str, value: &str) -> Result<bool> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(ApiError::bad_request(format!("Invalid value '{value}' for '{name}' filter. Valid values are 'true' or 'false'."))),
    }
}

fn filter(name: &str, value: &str) -> Result<Filter> {
    let number = |name: &str| NUMBERS.into_iter().find(|one| *one == name);
    if let Some(field) = LISTABLE.into_iter().find(|one| *one == name) {
        return listed(value).map(|values| Filter::Text(field, values));
    }
    if let Some(field) = TEXT.into_iter().find(|one| *one == name) {
        return Ok(Filter::Text(field, vec![value.to_owned()]));
    }
    if let Some(field) = name.strip_suffix("_min").and_then(number) {
        return Ok(Filter::Range(field, Some(integer(value)?), None));
    }
    if let Some(field) = name.strip_suffix("_max").and_then(number) {
        return Ok(Filter::Range(field, None, Some(integer(value)?)));
    }
    if let Some(field) = number(name) {
        // What is no number equals none.
        let wanted = value.parse().unwrap_or(-1);
        return Ok(Filter::Range(field, Some(wanted), Some(wanted)));
    }
    match name {
        "created_at" => time("created_at", value),
        "updated_at" => time("updated_at", value),
        "protected" => boolean(name, value).map(Filter::Protected),
        "tag" => Ok(Filter::Tag(value.trim().to_owned())),
        "changes-since" if !value.is_empty() => Err(ApiError::bad_request("The \"changes-since\" filter is no longer available on v2.")),
        _ => Ok(Filter::Property(name.to_owned(), value.to_owned())),
    }
}

fn integer(value: &str) -> Result<i64> {
    value.trim().parse().map_err(|_| ApiError::bad_request("Unable to filter on a range with a non-numeric value."))
}

/// `value`, `eq:value` or `in:a,"b,c"`.
fn listed(value: &str) -> Result<Vec<String>> {
    match value.split_once(':') {
        None => Ok(vec![value.to_owned()]),
        Some(("eq", value)) => Ok(vec![value.to_owned()]),
        Some(("in", list)) => quoted_list(list),
        Some((operator, _)) => Err(ApiError::bad_request(format!("Unable to filter by unknown operator '{operator}'."))),
    }
}

/// Values between commas; a value with a comma in it is put in double quotes.
fn quoted_list(list: &str) -> Result<Vec<String>> {
    let bad = || {
        ApiError::bad_request(format!(
            "Invalid filter value {list}. There is no comma after closing quotation mark or the quote is not closed."
        ))
    };
    let (mut values, mut rest) = (Vec::new(), list);
    loop {
        let (value, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (value, after) = quoted.split_once('"').ok_or_else(bad)?;
                (value, after)
            }
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                rest.split_at(end)
            }
        };
        if value.contains('"') {
            return Err(bad());
        }
        values.push(value.to_owned());
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(values),
            None => return Err(bad()),
        }
    }
}

fn time(field: &'static str, value: &str) -> Result<Filter> {
    if let Some(time) = parse_time(value) {
        return Ok(Filter::Time(field, Comparison::Equal, time));
    }
    let (operator, text) = value.split_once(':').unwrap_or(("eq", value));
    let comparison = match operator {
        "lt" => Comparison::Less,
        "lte" => Comparison::LessOrEqual,
        "eq" => Comparison::Equal,
        "neq" => Comparison::NotEqual,
        "gte" => Comparison::GreaterOrEqual,
        "gt" => Comparison::Greater,
        _ => return Err(ApiError::bad_request("Unable to filter on a unknown operator.")),
    };
    let time = parse_time(text)
        .ok_or_else(|| ApiError::bad_request(format!("Bad \"{field}\" query filter format. Use ISO 8601 DateTime notation.")))?;
    Ok(Filter::Time(field, comparison, time))
}

/// ISO 8601; without a zone it is UTC.
fn parse_time(text: &str) -> Option<Timestamp> {
    let in_utc = || text.parse::<jiff::civil::DateTime>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    text.parse().ok().or_else(in_utc)
}

/// `sort=name:asc,size` or `sort_key=name&sort_dir=asc`; never both.
fn sort(pairs: &[(String, String)]) -> Result<Vec<(SortKey, Direction)>> {
    let all = |wanted: &str| pairs.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.trim()).collect::<Vec<_>>();
    let (new, keys, directions) = (all("sort"), all("sort_key"), all("sort_dir"));
    if let Some(sort) = new.first() {
        if !keys.is_empty() || !directions.is_empty() {
            return Err(ApiError::bad_request("Old and new sorting syntax cannot be combined"));
        }
        let one = |one: &str| {
            let (key, way) = one.split_once(':').unwrap_or((one, ""));
            let way = if way.trim().is_empty() { "desc" } else { way.trim() };
            Ok((sort_key(key.trim())?, direction(way)?))
        };
        return sort.split(',').map(one).collect();
    }
    let keys = keys.into_iter().map(sort_key).collect::<Result<Vec<_>>>()?;
    let directions = directions.into_iter().map(direction).collect::<Result<Vec<_>>>()?;
    if directions.len() > 1 && directions.len() != keys.len() {
        return Err(ApiError::bad_request("Number of sort dirs does not match the number of sort keys"));
    }
    let keys = if keys.is_empty() { vec![SortKey::Created] } else { keys };
    let direction = |at: usize| directions.get(at).or(directions.first()).copied().unwrap_or(Direction::Descending);
    Ok(keys.into_iter().enumerate().map(|(at, key)| (key, direction(at))).collect())
}

fn sort_key(name: &str) -> Result<SortKey> {
    let found = SORT_KEYS.iter().find(|(known, _)| *known == name).map(|(_, key)| *key);
    found.ok_or_else(|| {
        let known: Vec<_> = SORT_KEYS.iter().map(|(name, _)| *name).collect();
        ApiError::bad_request(format!("Invalid sort key: {name}. It must be one of the following: {}.", known.join(", ")))
    })
}

fn direction(name: &str) -> Result<Direction> {
    match name {
        "asc" => Ok(Direction::Ascending),
        "desc" => Ok(Direction::Descending),
        _ => Err(ApiError::bad_request(format!("Invalid sort direction: {name}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(pairs: &[(&str, &str)]) -> Result<Query> {
        parse(&pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect::<Vec<_>>())
    }

    #[test]
    fn bad_queries_are_refused() {
        for bad in [
            ("limit", "x"),
            ("limit", "-1"),
            ("visibility", "secret"),
            ("member_status", "maybe"),
            ("protected", "yes"),
            ("os_hidden", "1"),
            ("size_min", "big"),
            ("sort", "owner"),
            ("sort", "name:up"),
            ("sort_key", "tags"),
            ("name", "like:x"),
            ("name", "in:\"a"),
            ("name", "in:\"a\"b"),
            ("created_at", "yesterday"),
            ("created_at", "about:2020-01-01T00:00:00Z"),
            ("changes-since", "2020-01-01T00:00:00Z"),
        ] {
            assert_eq!(parsed(&[bad]).unwrap_err().status, 400, "{bad:?}");
        }
        assert!(parsed(&[("sort", "name"), ("sort_dir", "asc")]).is_err());
        assert!(parsed(&[("sort_key", "name"), ("sort_dir", "asc"), ("sort_dir", "asc")]).is_err());
    }

    #[test]
    fn filters_by_kind() {
        let filters = |name, value| parsed(&[(name, value)]).unwrap().filters;
        assert_eq!(filters("name", "in:a,\"b,c\",d"), [Filter::Text("name", vec!["a".into(), "b,c".into(), "d".into()])]);
        assert_eq!(filters("size_max", "7"), [Filter::Range("size", None, Some(7))]);
        assert_eq!(filters("hw_disk_bus", "scsi"), [Filter::Property("hw_disk_bus".into(), "scsi".into())]);
        let time: Timestamp = "2020-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(filters("updated_at", "gte:2020-01-01T00:00:00Z"), [Filter::Time("updated_at", Comparison::GreaterOrEqual, time)]);
        assert_eq!(filters("updated_at", "2020-01-01T01:00:00+01:00"), [Filter::Time("updated_at", Comparison::Equal, time)]);
        assert_eq!(filters("updated_at", "2020-01-01T00:00:00"), [Filter::Time("updated_at", Comparison::Equal, time)]);
    }

    #[test]
    fn both_ways_to_sort() {
        use Direction::*;
        assert_eq!(parsed(&[]).unwrap().sort, [(SortKey::Created, Descending)]);
        let wanted = [(SortKey::Name, Ascending), (SortKey::Size, Descending)];
        assert_eq!(parsed(&[("sort", "name:asc,size")]).unwrap().sort, wanted);
        let old = [("sort_key", "name"), ("sort_dir", "asc"), ("sort_key", "size"), ("sort_dir", "desc")];
        assert_eq!(parsed(&old).unwrap().sort, wanted);
        assert_eq!(parsed(&[("sort_dir", "asc")]).unwrap().sort, [(SortKey::Created, Ascending)]);
    }
}
