//! The embedded registries: the default that works on an empty machine, and the tests' double.
