//! One image: plan it, copy its tree, copy its referrers, report the result.

pub(crate) mod copy;
pub(crate) mod foreign;
pub(crate) mod missing;
pub(crate) mod plan;
pub(crate) mod referrers;
pub(crate) mod repair;
pub(crate) mod result;
pub(crate) mod tree;
