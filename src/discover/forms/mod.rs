//! The forms that make a build use the mirror, each a pure function of one [`ImageMapping`].

mod mapping;

pub use self::mapping::{
    ImageMapping, ImageUse, MappedImage, MappingBasis, Spelling, SpellingPart, UseKind,
};
