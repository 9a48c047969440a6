//! Images: what servers start from.

use serde::{Deserialize, Serialize};

use crate::{Kind, Meta};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Image {
    pub meta: Meta<Image>,
}

impl Kind for Image {
    const NAME: &'static str = "image";
    crate::meta_accessors!();
}
