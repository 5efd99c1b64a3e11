//! The client against a scripted registry: logins, redirects, oddities of the protocol.

mod fake;
mod login;
mod reading;
mod writing;
