//! The filters of compute's lists of images.

use unkai_model::Timestamp;
use unkai_model::image::Image;

use super::super::create::reference;
use super::view::status;
use crate::Fault;
use crate::query::{self, Query};

#[derive(Default)]
pub struct Filter {
    name: Option<String>,
    status: Option<String>,
    since: Option<Timestamp>,
    min_disk: Option<u64>,
    min_ram: Option<u64>,
    properties: Vec<(String, String)>,
}

impl Filter {
    pub fn parse(query: &Query) -> Result<Filter, Fault> {
        let mut filter = Filter::default();
        for (key, value) in &query.0 {
            let number = || value.parse().map_err(|_| Fault::bad_request(format!("Invalid filter value: {value}")));
            match key.as_str() {
                "name" => filter.name = Some(value.clone()),
                "status" => filter.status = Some(value.to_uppercase()),
                "changes-since" => {
                    let time = query::time(value).ok_or_else(|| Fault::bad_request("Invalid changes-since value"))?;
                    filter.since = Some(time);
                }
                "minDisk" => filter.min_disk = Some(number()?),
                "minRam" => filter.min_ram = Some(number()?),
                "server" => filter.properties.push(("instance_uuid".into(), reference(&value.as_str().into()))),
                "type" => filter.properties.push(("image_type".into(), value.clone())),
                key => filter.properties.extend(key.strip_prefix("property-").map(|key| (key.to_owned(), value.clone()))),
            }
        }
        Ok(filter)
    }

    pub fn accepts(&self, image: &Image) -> bool {
        self.name.as_ref().is_none_or(|name| *name == image.meta.name)
            && self.status.as_ref().is_none_or(|wanted| wanted == status(image).0)
            && self.since.is_none_or(|since| image.meta.updated >= since)
            && self.min_disk.is_none_or(|least| image.spec.min_disk_gib >= least)
            && self.min_ram.is_none_or(|least| image.spec.min_ram_mib >= least)
            && self.properties.iter().all(|(key, value)| image.spec.properties.get(key) == Some(value))
    }
}
