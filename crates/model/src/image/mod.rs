//! Images: what servers start from, who may see them, and the tasks that import them.

mod format;
mod kind;
mod member;
mod metadef;
mod task;

pub use format::{ContainerFormat, DiskFormat};
pub use kind::{Content, Image, ImageSource, ImageSpec, ImageState, ImageStatus, Incoming, Visibility};
pub use member::{Member, MemberStatus};
pub use metadef::{Definition, MetadefNamespace};
pub use task::{ImageTask, TaskState};
