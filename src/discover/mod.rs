//! Finds the images that a build or a cluster uses, and writes the forms that make it use the
//! mirror.

pub mod forms;
