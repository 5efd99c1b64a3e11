//! Fuzzes every parser of external input.
//!
//! ```text
//! cargo test --test fuzz                                   # the corpus, and 2,500 inputs per target
//! ECR_MIRROR_FUZZ_INPUTS=10000 cargo test --test fuzz      # as `.ci/run test` does
//! ECR_MIRROR_FUZZ_SECONDS=300 cargo test --test fuzz link  # one target, for five minutes
//! ```
//!
//! A target is a test. Its inputs are mutations of valid input: flipped bits, moved, repeated, cut
//! and crossed parts, misplaced tokens of the grammar. An input with a new result joins the inputs
//! that are mutated further ([`engine`]). One seed always gives the same inputs. A timed run uses a
//! new seed (`ECR_MIRROR_FUZZ_SEED` repeats it) and writes a failing input to
//! `tests/fuzz/corpus/TARGET/`. Every later run starts with that corpus.
//!
//! No input may panic, take a second, or need much memory. Each target checks further invariants.

#![allow(clippy::unwrap_used, reason = "everything here is a test, helpers included")]

mod engine;
mod mutate;

mod documents;
mod imports;
mod names;
mod registries;
mod selections;
mod settings;
mod uses;
