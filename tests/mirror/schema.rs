//! Compares the JSON schemas in `docs/schema` with the parser of `mirror.toml` and with real reports.
//! `tests/interop` repeats it with validators of others.

mod fixtures;
mod validator;

use std::{fs, path::Path};

use ecr_mirror::config::Config;
use serde_json::Value;

use self::{
    fixtures::{is_of_form, wrong_in_form},
    validator::Schema,
};
use super::process::run;

const CONFIG: &str = include_str!("../../docs/schema/config.json");
const REPORT: &str = include_str!("../../docs/schema/report.json");
const EXAMPLE: &str = include_str!("../../mirror.toml.example");
const WARNINGS: &str = include_str!("../../src/config/tests/warnings.txt");

const DESTINATION: &str =
    "[[destination]]\nregistry = '123456789012.dkr.ecr.eu-west-1.amazonaws.com'\n";

/// A table of the configuration: the name of its definition in the schema, a document up to its
/// heading, and keys without which the table is not valid.
struct Table {
    definition: &'static str,
    before: &'static str,
    keys: &'static [(&'static str, &'static str)],
}

const TABLES: [Table; 25] = [
    Table { definition: "", before: "", keys: &[("destination", "[{ registry = 'r.example' }]")] },
    Table { definition: "destination", before: "[[destination]]", keys: &[REGISTRY] },
    Table { definition: "repositories", before: "[destination.repositories]", keys: &[] },
    Table {
        definition: "encryption",
        before: "[destination.repositories.encryption]",
        keys: &[("type", "'kms'")],
    },
    Table {
        definition: "lifecycle",
        before: "[destination.repositories.lifecycle]",
        keys: &[("keep_newest", "5")],
    },
    Table {
        definition: "principals",
        before: "[destination.repositories.policy]",
        keys: &[("organization", "'o-a1b2c3d4e5'")],
    },
    Table {
        definition: "principals",
        before: "[[pull_through]]\nupstream = 'quay'\n[pull_through.access]",
        keys: &[("organization", "'o-a1b2c3d4e5'")],
    },
    Table { definition: "account", before: "[destination.account]", keys: &[] },
    Table { definition: "rates", before: "[destination.rates]", keys: &[] },
    Table {
        definition: "scanning",
        before: "[destination.account.scanning]",
        keys: &[("type", "'enhanced'")],
    },
    Table {
        definition: "registry",
        before: "[registry.'210987654321.dkr.ecr.eu-west-1.amazonaws.com']",
        keys: &[],
    },
    Table { definition: "defaults", before: "[defaults]", keys: &[] },
    Table {
        definition: "repositoryOverride",
        before: "[repository.'a/*']",
        keys: &[("tag_mutability", "'mutable'")],
    },
    Table {
        definition: "image",
        before: "[[image]]",
        keys: &[("source", "'nginx'"), ("tags", "['1']")],
    },
    Table {
        definition: "image",
        before: "[[image]]",
        keys: &[("source", "'quay.io/a/*'"), ("tags", "['1']"), ("at_most", "5")],
    },
    Table { definition: "shortImage", before: "[images.nginx]", keys: &[("tags", "'1'")] },
    Table {
        definition: "shortImage",
        before: "[images.'quay.io/a/*']",
        keys: &[("newest", "3"), ("at_most", "5")],
    },
    Table {
        definition: "retag",
        before: "[[image]]\nsource = 'nginx'\ntags = ['1']\n[image.retag]",
        keys: &[("from", "'^a'"), ("to", "'b'")],
    },
    Table { definition: "list", before: "[[list]]", keys: &[("file", "'images.txt'")] },
    Table { definition: "include", before: "[[include]]", keys: &[("file", "'included.toml'")] },
    Table {
        definition: "select",
        before: "[[image]]\nsource = 'nginx'\n[image.select]",
        keys: &[("newest", "3")],
    },
    Table {
        definition: "pull_through",
        before: "[[pull_through]]",
        keys: &[("upstream", "'quay'")],
    },
    Table {
        definition: "credentials",
        before: "[[pull_through]]\nupstream = 'docker-hub'\n[pull_through.credentials]",
        keys: &[("username", "'u'"), ("access_token", "'t'")],
    },
    Table {
        definition: "secret",
        before: "[[pull_through]]\nupstream = 'docker-hub'\n\
            credentials = { username = 'u', access_token = 't' }\n[pull_through.secret]",
        keys: &[("recovery_window_days", "7")],
    },
    Table {
        definition: "template",
        before: "[[pull_through]]\nupstream = 'quay'\n[pull_through.template]",
        keys: &[("tag_mutability", "'mutable'")],
    },
];

const REGISTRY: (&str, &str) = ("registry", "'123456789012.dkr.ecr.eu-west-1.amazonaws.com'");

impl Table {
    /// A document with this table, in which the key has this value.
    fn with(&self, key: &str, value: &str) -> String {
        // the other tables need a destination
        let destination = match self.definition {
            "" | "destination" => "",
            _ => DESTINATION,
        };
        let kept = self.keys.iter().filter(|(name, _)| *name != key);
        let kept: String = kept.map(|(name, value)| format!("{name} = {value}\n")).collect();
        format!("{destination}{}\n{kept}{key} = {value}\n", self.before)
    }
}

/// Values of every type, most of them wrong for a key. JSON has no dates, so TOML's are not tried.
const VALUES: [&str; 17] = [
    "5",
    "0",
    "-1",
    "4294967296",
    "1.5",
    "true",
    "'zzz'",
    "''",
    "[]",
    "[5]",
    "['zzz']",
    "{}",
    "{ zzz = 1 }",
    "{ zzz = 'zzz' }",
    "[{ zzz = 1 }]",
    "[[]]",
    "[{}]",
];

/// The message of the parser, empty for a valid document.
fn refused(document: &str) -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/tests");
    let parsed = Config::parse("mirror.toml", document, &directory, &|_| None);
    parsed.map_or_else(|error| error.to_string(), |_| String::new())
}

/// The words in backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn sorted<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort();
    items
}

/// TOML as JSON; `None` if it is not TOML.
fn json(document: &str) -> Option<Value> {
    let table: toml::Table = toml::from_str(document).ok()?;
    Some(serde_json::to_value(table).unwrap())
}

#[test]
fn the_command_prints_the_checked_in_schema() {
    let home = tempfile::tempdir().unwrap();
    for (document, expected) in [("config", CONFIG), ("report", REPORT)] {
        let printed = run(home.path(), &["schema", document]);
        assert_eq!((printed.status, printed.talk.as_str()), (Some(0), ""));
        assert!(printed.out == expected, "{document}");
    }
}

#[test]
fn the_schema_has_the_keys_of_every_table_and_no_others() {
    let schema = Schema::read(CONFIG);
    let mut tables: Vec<&str> = TABLES.iter().map(|table| table.definition).collect();
    tables.retain(|definition| !definition.is_empty());
    tables.dedup();
    assert_eq!(sorted(tables), sorted(schema.tables()), "each definition with keys is tested");
    for table in TABLES {
        let message = refused(&table.with("zzz", "1"));
        let (_, accepted) = message.rsplit_once(" accepts ").unwrap_or_else(|| panic!("{message}"));
        let properties = schema.definition(table.definition)["properties"].as_object().unwrap();
        let properties = properties.keys().map(String::as_str).collect();
        assert_eq!(sorted(properties), sorted(quoted(accepted)), "{}", table.before);
    }
}

#[test]
fn the_schema_and_the_parser_refuse_the_same_types_and_words() {
    let schema = Schema::read(CONFIG);
    let mut compared = 0;
    for table in TABLES {
        for (key, value_schema) in
            schema.definition(table.definition)["properties"].as_object().unwrap()
        {
            for value in VALUES {
                let document = table.with(key, value);
                let problem = schema.problem(&json(&document).unwrap());
                let message = refused(&document);
                if is_of_form(&message) {
                    assert!(problem.is_some(), "the schema accepts:\n{document}\n{message}");
                }
                if let Some(problem) = problem {
                    assert!(!message.is_empty(), "the parser accepts:\n{document}\n{problem}");
                    compared += 1;
                }
            }
            let message = refused(&table.with(key, "'zzz'"));
            let words = ["must be one of ", "`[[image]]`: ECR caches only "];
            if let Some((_, words)) = words.iter().find_map(|words| message.split_once(words)) {
                assert_eq!(quoted(words), schema.words(value_schema), "{} {key}", table.before);
            }
        }
    }
    assert!(compared > 1000, "{compared}");
}

#[test]
fn only_a_list_is_below_a_key_of_images_that_ends_with_a_slash() {
    let schema = Schema::read(CONFIG);
    for (key, value, is_valid) in [
        ("quay.io/", "['a/b:1']", true),
        ("quay.io/", "'a/b:1'", false),
        ("quay.io/", "{ tags = ['1'] }", false),
        ("quay.io/a/b", "'1'", true),
    ] {
        let document = format!("{DESTINATION}[images]\n'{key}' = {value}\n");
        let problem = schema.problem(&json(&document).unwrap());
        let found = (problem.is_none(), refused(&document).is_empty());
        assert_eq!(found, (is_valid, is_valid), "{document}");
    }
}

#[test]
fn the_schema_refuses_every_wrong_key_and_type_of_the_fixtures() {
    let schema = Schema::read(CONFIG);
    for (name, document) in wrong_in_form() {
        assert!(schema.problem(&json(document).unwrap()).is_some(), "{name}");
    }
}

#[test]
fn the_schema_accepts_valid_configurations() {
    let schema = Schema::read(CONFIG);
    // a `#` right in front of a setting keeps it out
    let enabled = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with([' ', '-', ':']) => rest.to_owned(),
        _ => line.to_owned(),
    };
    let every_key: Vec<String> = EXAMPLE.lines().map(enabled).collect();
    let mut valid: Vec<String> = vec![EXAMPLE.to_owned(), every_key.join("\n")];
    for (_, page) in super::guarantees::documents() {
        valid.extend(super::readme::blocks(&page, "toml").into_iter().map(str::to_owned));
    }
    let warned = WARNINGS.split("\n### ").skip(1);
    valid.extend(
        warned.map(|case| {
            case.split_once("\n>>>\n").unwrap().0.split_once('\n').unwrap().1.to_owned()
        }),
    );
    for file in fs::read_dir("deploy/pull-through").unwrap() {
        valid.push(fs::read_to_string(file.unwrap().path()).unwrap());
    }
    for document in &valid {
        let value = json(document).unwrap_or_else(|| panic!("{document}"));
        assert_eq!(schema.problem(&value), None, "{document}");
    }
    let variable = "[defaults]\nvia = '${VIA:-auto}'\nplatforms = '${PLATFORMS:-all}'";
    assert_eq!(schema.problem(&json(variable).unwrap()), None);
    assert!(EXAMPLE.starts_with("#:schema ./docs/schema/config.json\n"), "editors read it there");
}

#[test]
fn reports_have_the_form_of_their_schema_and_no_other_fields() {
    let schema = Schema::read(REPORT);
    let home = tempfile::tempdir().unwrap();
    let toml = DESTINATION.to_owned()
        + "[destination.repositories]\nreconcile = true\nscan_on_push = true\n\
           [[pull_through]]\nupstream = 'quay'\n\
           [[image]]\nsource = 'sandbox/flat'\ntags = ['1.0']\n\
           [[image]]\nsource = 'quay.io/prometheus/prometheus'\nselect = { newest = 1 }\n\
           via = 'pull-through'\n\
           [[image]]\nsource = 'quay.io/team/private-app'\ntags = ['1']\n";
    let toml_without_scan = toml.replace("scan_on_push = true\n", "scan_on_push = false\n");
    for (toml, command) in [(&toml_without_scan, "sync"), (&toml, "plan"), (&toml, "sync")] {
        fs::write(home.path().join("mirror.toml"), toml).unwrap();
        let ended = run(home.path(), &[command, "--sandbox=state", "--json"]);
        let report: Value = serde_json::from_str(&ended.out).unwrap();
        assert_eq!(schema.problem(&report), None, "{}", ended.out);
        assert_eq!(schema.unnamed_keys(&report), [""; 0]);
        let id = serde_json::from_str::<Value>(REPORT).unwrap()["$id"].clone();
        assert_eq!(report["$schema"], id);
        assert_eq!(report["tool"]["version"], env!("CARGO_PKG_VERSION"));
        let mut other = report.clone();
        other["images"][0]["outcome"] = "lost".into();
        assert!(schema.problem(&other).is_some(), "an unknown outcome is refused");
        other = report;
        other.as_object_mut().unwrap().remove("totals");
        assert!(schema.problem(&other).is_some(), "a missing field is refused");
    }
}
