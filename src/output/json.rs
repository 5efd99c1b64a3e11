//! The report for machines.

use std::io::{self, Write};

use crate::model::outcome::Report;

/// Writes the report as indented JSON and a line end.
///
/// # Errors
/// The writer's.
pub fn write(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::table::tests::report;

    /// The keys of every object on the way, in order.
    fn keys(value: &serde_json::Value) -> Vec<&str> {
        value.as_object().unwrap().keys().map(String::as_str).collect()
    }

    #[test]
    fn the_report_has_the_contracts_fields_in_the_contracts_order() {
        let mut out = Vec::new();
        write(&mut out, &report()).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let totals = [
            "copied",
            "up_to_date",
            "warmed",
            "planned",
            "failed",
            "drifted",
            "deferred",
            "not_started",
        ];
        assert_eq!(
            keys(&json),
            [
                "version", "started", "seconds", "exit", "images", "totals", "blobs", "bytes",
                "requests", "pulls"
            ]
        );
        assert_eq!(
            keys(&json["images"][0]),
            [
                "name",
                "source",
                "destination",
                "outcome",
                "digest",
                "source_digest",
                "platforms",
                "bytes_pushed",
                "error",
                "hint"
            ]
        );
        assert_eq!(keys(&json["totals"]), totals);
        assert_eq!(keys(&json["blobs"]), ["present", "mounted", "pushed"]);
        assert_eq!(keys(&json["bytes"]), ["from_source", "to_destination"]);
        assert_eq!(
            keys(&json["requests"]),
            ["source", "destination", "ecr_api", "retries", "throttled"]
        );
        assert_eq!(
            keys(&json["pulls"][0]),
            ["registry", "spent", "limit", "remaining", "window_seconds"]
        );
        let outcomes: Vec<&str> = json["images"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|row| row["outcome"].as_str())
            .collect();
        assert_eq!(outcomes, totals);
        assert!(json["images"][0]["error"].is_null());
        assert!(out.ends_with(b"}\n"));
    }
}
