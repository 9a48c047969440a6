//! The nouns of the cloud: one file per kind. Type, defaults, validation, legal transitions and what a document derives.
//!
//! No I/O, no clock, no randomness: time and ids enter as arguments.

pub mod compute;
pub mod controller;
pub mod error;
mod id;
pub mod identity;
pub mod image;
mod kind;
pub mod network;
pub mod quota;
pub mod settings;
pub mod volume;

pub use error::Error;
pub use id::Id;
pub use jiff::Timestamp;
pub use kind::{Derived, Kind, Meta};

/// Calls `$m!` with the list of all kinds, so that the store's registry and the checks enumerate the same list.
#[macro_export]
macro_rules! for_each_kind {
    ($m:ident) => {
        $m! {
            $crate::identity::Project,
            $crate::identity::User,
            $crate::identity::Group,
            $crate::identity::Membership,
            $crate::identity::Role,
            $crate::identity::Assignment,
            $crate::identity::Service,
            $crate::identity::Endpoint,
            $crate::identity::Region,
            $crate::identity::AppCredential,
            $crate::identity::AccessRule,
            $crate::identity::Credential,
            $crate::identity::EndpointGroup,
            $crate::identity::EndpointAssociation,
            $crate::identity::Policy,
            $crate::identity::DomainConfig,
            $crate::identity::SecretKey,
            $crate::identity::Revocation,
            $crate::image::Image,
            $crate::network::AutoAllocatedTopology,
            $crate::network::FloatingIp,
            $crate::network::Network,
            $crate::image::ImageTask,
            $crate::image::MetadefNamespace,
            $crate::network::Port,
            $crate::network::RbacPolicy,
            $crate::network::Router,
            $crate::network::SecurityGroup,
            $crate::network::SecurityGroupRule,
            $crate::network::Subnet,
            $crate::network::SubnetPool,
            $crate::compute::Aggregate,
            $crate::compute::ConsoleToken,
            $crate::compute::Failover,
            $crate::compute::Flavor,
            $crate::compute::Host,
            $crate::compute::HostToken,
            $crate::compute::KeyPair,
            $crate::compute::Migration,
            $crate::compute::Server,
            $crate::compute::ServerAction,
            $crate::compute::ServerGroup,
            $crate::volume::Attachment,
            $crate::volume::Backup,
            $crate::volume::DefaultType,
            $crate::volume::Pool,
            $crate::volume::Snapshot,
            $crate::volume::Transfer,
            $crate::volume::Volume,
            $crate::volume::VolumeKey,
            $crate::volume::VolumeType,
            $crate::controller::CloudAuthority,
            $crate::controller::Controller,
            $crate::settings::Settings,
            $crate::quota::Quota,
        }
    };
}
