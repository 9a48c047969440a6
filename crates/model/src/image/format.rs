//! The formats an image may be declared in, by the names the field uses.

use serde::{Deserialize, Serialize};

/// Defines an enum whose variants have one name each, the same in documents and in APIs.
macro_rules! named {
    ($(#[$doc:meta])* $type:ident { $($(#[$note:meta])* $variant:ident = $name:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $type { $($(#[$note])* #[serde(rename = $name)] $variant),* }

        impl $type {
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// The variant of this name; none when there is no such name.
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.as_str() == name)
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(super) use named;

named! {
    /// What the bytes are.
    DiskFormat {
        Ami = "ami", Ari = "ari", Aki = "aki", Vhd = "vhd", Vhdx = "vhdx", Vmdk = "vmdk",
        Raw = "raw", Qcow2 = "qcow2", Vdi = "vdi", Iso = "iso",
    }
}

named! {
    /// What the bytes are wrapped in.
    ContainerFormat {
        Ami = "ami", Ari = "ari", Aki = "aki", Bare = "bare", Ovf = "ovf", Ova = "ova", Docker = "docker", Compressed = "compressed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_the_round_trip() {
        for format in DiskFormat::ALL {
            assert_eq!(DiskFormat::named(format.as_str()), Some(*format));
            assert_eq!(serde_json::to_string(format).unwrap(), format!("\"{format}\""));
        }
        assert_eq!(ContainerFormat::named("Bare"), None);
    }
}
