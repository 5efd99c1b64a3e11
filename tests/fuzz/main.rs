//! Everything that reads what others wrote, against input that nobody would write.
//!
//! ```text
//! cargo test --test fuzz                                   # what was found before, and 10,000 inputs a target
//! ECR_MIRROR_FUZZ_SECONDS=300 cargo test --test fuzz link  # one target, for five minutes
//! ```
//!
//! A target is a test. Its inputs are mutations of what is right: bits flipped, parts moved,
//! repeated, cut and crossed, tokens of the grammar put where they do not belong. An input whose
//! reading comes to something new joins those that are mutated further ([`engine`]). The same
//! seed gives the same inputs; a longer run takes another one (`ECR_MIRROR_FUZZ_SEED` repeats it)
//! and writes an input that fails to `tests/fuzz/corpus/TARGET/`, where every later run begins.
//!
//! No input may panic, take a second, or make the process large; what else must hold stands in
//! each target.

#![allow(clippy::unwrap_used, reason = "everything here is a test, helpers included")]

mod engine;
mod mutate;

mod documents;
mod names;
mod registries;
mod selections;
mod settings;
