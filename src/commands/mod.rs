//! One file for each verb: arguments in, text and exit status out.

pub mod check;
pub mod images;
