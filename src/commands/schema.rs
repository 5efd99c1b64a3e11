//! `schema`: prints the JSON schema of the configuration or of the report.

use crate::{cli::SchemaDocument, model::Result, output::Screen};

pub(crate) fn run(screen: &Screen, document: SchemaDocument) -> Result<u8> {
    let schema = match document {
        SchemaDocument::Config => include_str!("../../docs/schema/config.json"),
        SchemaDocument::Report => include_str!("../../docs/schema/report.json"),
    };
    screen.print(|out| out.write_all(schema.as_bytes()))?;
    Ok(0)
}
