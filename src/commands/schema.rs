//! `schema`: prints the JSON schema of the configuration or of the report.

use crate::{cli::SchemaDocument, model::Result, output::Screen};

/// The schema of `mirror.toml`.
pub(crate) const CONFIG: &str = include_str!("../../docs/schema/config.json");

pub(crate) fn run(screen: &Screen, document: SchemaDocument) -> Result<u8> {
    let schema = match document {
        SchemaDocument::Config => CONFIG,
        SchemaDocument::Report => include_str!("../../docs/schema/report.json"),
    };
    screen.print(|out| out.write_all(schema.as_bytes()))?;
    Ok(0)
}
