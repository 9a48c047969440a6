//! Every reason not to open an image, one variant each, with the text a client may read.

/// One reason not to accept a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    #[error("{received} bytes arrived where {expected} were announced")]
    Length { expected: u64, received: u64 },
    #[error("the file ends inside {what}")]
    Truncated { what: &'static str },
    #[error("the virtual size of {size} bytes is above the limit of {limit}")]
    VirtualSize { size: u64, limit: u64 },
    #[error("the virtual size is missing or zero")]
    NoVirtualSize,
    #[error("the image has a backing file")]
    BackingFile,
    #[error("the image keeps its data in another file")]
    ExternalData,
    #[error("the image is a child of another image")]
    Parent,
    #[error("the image is encrypted")]
    Encrypted,
    #[error("the image is marked corrupt")]
    Corrupt,
    #[error("the image needs unknown features (bits {bits:#x})")]
    UnknownFeatures { bits: u64 },
    #[error("the image needs an unknown part: {what}")]
    UnknownPart { what: &'static str },
    #[error("header extensions are malformed: {detail}")]
    HeaderExtension { detail: &'static str },
    #[error("{what} is {value}, which is out of range")]
    Field { what: &'static str, value: u64 },
    #[error("{what} ({length} bytes at {offset}) is not inside the file")]
    OutOfFile { what: &'static str, offset: u64, length: u64 },
    #[error("{what} at {offset} is misplaced")]
    Misplaced { what: &'static str, offset: u64 },
    #[error("{what} is absurdly large ({length} bytes)")]
    TableTooLarge { what: &'static str, length: u64 },
    #[error("{what} is too small for the virtual size")]
    TableTooSmall { what: &'static str },
    #[error("the checksum of {what} is wrong")]
    Checksum { what: &'static str },
    #[error("two readers would understand the file differently: {what}")]
    Contradiction { what: &'static str },
    #[error("the image has a journal that was not replayed")]
    DirtyLog,
    #[error("the image is one part of a split image")]
    NoDescriptor,
    #[error("the embedded descriptor {0}")]
    Descriptor(#[from] DescriptorFault),
}

impl Problem {
    /// Whether the problem holds whatever the bytes are taken for.
    pub(crate) fn is_general(&self) -> bool {
        matches!(self, Self::Length { .. } | Self::VirtualSize { .. })
    }
}

/// What is wrong with the descriptor inside a VMDK.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptorFault {
    #[error("does not begin like one")]
    Header,
    #[error("contains bytes that are not text")]
    NotText,
    #[error("is followed by hidden bytes")]
    Trailing,
    #[error("has a line nobody understands (line {0})")]
    Line(usize),
    #[error("has an unknown entry `{0}`")]
    UnknownKey(String),
    #[error("has the entry `{0}` twice")]
    Repeated(&'static str),
    #[error("lacks the entry `{0}`")]
    Missing(&'static str),
    #[error("declares the type `{0}`; only monolithicSparse and streamOptimized are accepted")]
    CreateType(String),
    #[error("links to a parent image")]
    Parent,
    #[error("names another file in `{0}`")]
    NamesFile(String),
    #[error("names {0} extents instead of one")]
    Extents(usize),
    #[error("has an extent of kind `{0}` instead of SPARSE")]
    ExtentKind(String),
    #[error("names an extent that is not a plain file name: `{0}`")]
    ExtentName(String),
    #[error("disagrees with the header about the size")]
    ExtentSize,
}
