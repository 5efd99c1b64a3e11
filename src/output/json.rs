//! The report as JSON.

use std::{
    io::{self, Write},
    time::SystemTime,
};

use serde_json::{Value, json};
use tracing::Level;

use crate::model::{outcome::Report, text::is_unsafe_for_terminal};

/// Writes indented JSON and a line end, without characters that control a terminal.
pub(crate) fn write(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    serde_json::to_writer_pretty(Escaping(out), report)?;
    writeln!(out)
}

/// Escapes JSON on its way, so that a long report is never in memory as text.
struct Escaping<'w>(&'w mut dyn Write);

impl Write for Escaping<'_> {
    /// Writes a part of JSON, which serde_json cuts between characters.
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        let text =
            str::from_utf8(part).map_err(|cut| io::Error::new(io::ErrorKind::InvalidData, cut))?;
        match text.contains(is_unsafe_for_terminal) {
            true => self.0.write_all(escaped(text).as_bytes())?,
            false => self.0.write_all(part)?,
        }
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Writes an object of the JSON log, with the fields that `tracing` writes.
pub(super) fn log_line(
    out: &mut dyn Write,
    level: Level,
    message: &str,
    fields: Value,
) -> io::Result<()> {
    let timestamp = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
    let mut line = json!({ "timestamp": timestamp, "level": level.as_str(), "message": message });
    if let (Value::Object(line), Value::Object(fields)) = (&mut line, fields) {
        line.extend(fields);
    }
    writeln!(out, "{}", escaped(&line.to_string()))
}

/// The same JSON with every terminal control escaped. JSON itself requires that of U+0000 to U+001F
/// only.
pub(super) fn escaped(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        // a line end stands between values only
        match c != '\n' && is_unsafe_for_terminal(c) {
            true => escaped.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::table::tests::report;

    /// The keys of the object, in order.
    fn keys(value: &serde_json::Value) -> Vec<&str> {
        value.as_object().unwrap().keys().map(String::as_str).collect()
    }

    #[test]
    fn terminal_controls_are_escaped_and_not_lost() {
        let mut report = report();
        let error = "a\u{1b}[2J\u{7f}\u{9b}31m\u{202e}é\n";
        report.images[0].error = Some(error.to_owned());
        let mut out = Vec::new();
        write(&mut out, &report).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains(r"a\u001b[2J\u007f\u009b31m\u202eé\n"), "{text}");
        assert!(!text.contains(|c| c != '\n' && is_unsafe_for_terminal(c)), "{text}");
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["images"][0]["error"], error);
    }

    #[test]
    fn the_report_has_the_documented_fields_in_order() {
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
            "interrupted",
            "archived",
            "kept",
        ];
        assert_eq!(
            keys(&json),
            [
                "$schema", "version", "tool", "started", "seconds", "exit", "images", "totals",
                "blobs", "bytes", "requests", "pulls"
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
                "hint",
                "warnings"
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
