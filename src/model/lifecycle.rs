//! ECR's rules for lifecycle policies. Pure.
//!
//! The configuration and the embedded ECR check a document with the same function. Where the
//! sources disagree, it accepts the document.
//!
//! Source: ECR user guide, "Lifecycle policy properties" and "Lifecycle policy evaluation rules";
//! aws/containers-roadmap#2728 for `sinceImagePulled`; cloudposse/terraform-aws-ecr#132 and #158
//! for `null` and unknown members.

use std::{collections::HashMap, fmt::Display};

use serde_json::{Map, Value};

/// Source: ECR user guide, "Service quotas".
const MAX_RULES: usize = 50;

/// The wildcards of one tag pattern.
const MAX_WILDCARDS: usize = 4;

/// The days that an image stays in the archive at least.
const MIN_ARCHIVE_DAYS: u64 = 90;

/// The first rule of ECR that a lifecycle policy breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The JSON pointer of the wrong value, or of the object that lacks one.
    pub(crate) pointer: String,
    /// The problem, as a sentence.
    pub(crate) problem: String,
    /// The fix, as an imperative.
    pub(crate) fix: String,
}

type Checked<T = ()> = Result<T, Violation>;

/// Checks a whole policy, rule by rule, then the rules together.
pub(crate) fn check(policy: &Value) -> Checked {
    let rules = policy.get("rules").and_then(Value::as_array);
    let Some(rules) = rules.filter(|rules| (1..=MAX_RULES).contains(&rules.len())) else {
        return Err(Violation {
            pointer: String::new(),
            problem: format!("must have 1 to {MAX_RULES} `rules`"),
            fix: "name a file with a lifecycle policy".to_owned(),
        });
    };
    Object::open(policy, String::new(), "rules")?;
    let rules: Vec<Rule> = rules
        .iter()
        .enumerate()
        .map(|(index, rule)| Rule::read(rule, format!("/rules/{index}")))
        .collect::<Checked<_>>()?;
    check_priorities(&rules)?;
    check_selections(&rules)
}

/// The properties of a valid rule that the other rules must differ in.
struct Rule {
    pointer: String,
    priority: u64,
    /// `tagged`, `untagged` or `any`.
    status: &'static str,
    /// The member's name and its sorted values, of a rule for tagged images.
    tags: Vec<String>,
    /// `standard` or `archive`.
    storage_class: &'static str,
}

impl Rule {
    fn read(value: &Value, pointer: String) -> Checked<Self> {
        let rule =
            Object::open(value, pointer.clone(), "rulePriority description selection action")?;
        let priority = rule.number("rulePriority", 1)?;
        if let Some(description) = rule.members.get("description")
            && !description.is_string()
        {
            return Err(rule.violation("description", "must be a string", "write a text"));
        }
        let selection = rule.object(
            "selection",
            "tagStatus tagPatternList tagPrefixList storageClass countType countUnit countNumber",
        )?;
        let status = selection.choice("tagStatus", &["tagged", "untagged", "any"])?;
        let tags = tags(&selection, status)?;
        let count = selection.choice(
            "countType",
            &[
                "imageCountMoreThan",
                "sinceImagePushed",
                "sinceImagePulled",
                "sinceImageTransitioned",
            ],
        )?;
        check_count(&selection, count)?;
        let storage_class = storage_class(&selection, count)?;
        check_action(&rule, count)?;
        Ok(Self { pointer, priority, status, tags, storage_class })
    }
}

/// The tags that a rule selects: patterns or prefixes, for tagged images only.
fn tags(selection: &Object<'_>, status: &str) -> Checked<Vec<String>> {
    const LISTS: [&str; 2] = ["tagPatternList", "tagPrefixList"];
    let given: Vec<&str> =
        LISTS.into_iter().filter(|name| selection.members.contains_key(*name)).collect();
    match (status, &given[..]) {
        ("tagged", [name]) => {
            let wrong = |fix| selection.violation(name, "must be a list of strings", fix);
            let items = selection.members[*name].as_array().filter(|items| !items.is_empty());
            let items = items.ok_or_else(|| wrong("write at least one text, like `[\"*\"]`"))?;
            let text = |item: &Value| item.as_str().map(str::to_owned);
            let mut tags: Vec<String> = items
                .iter()
                .map(text)
                .collect::<Option<_>>()
                .ok_or_else(|| wrong("write texts only"))?;
            let wildcards = |tag: &String| tag.matches('*').count();
            if *name == LISTS[0] && tags.iter().any(|tag| wildcards(tag) > MAX_WILDCARDS) {
                let problem = format!("has a pattern with more than {MAX_WILDCARDS} `*`");
                return Err(selection.violation(name, problem, "shorten the pattern"));
            }
            tags.sort();
            tags.push((*name).to_owned());
            Ok(tags)
        }
        ("tagged", []) => Err(selection.missing("tagPatternList", "`[\"*\"]`")),
        ("tagged", _) => Err(selection.violation(
            LISTS[1],
            "cannot be combined with `tagPatternList`",
            "remove one of the two",
        )),
        (_, [name, ..]) => Err(selection.violation(
            name,
            format!("cannot be combined with `tagStatus` `{status}`"),
            "remove the list, or write `\"tagStatus\": \"tagged\"`",
        )),
        (_, []) => Ok(Vec::new()),
    }
}

/// `countNumber` and `countUnit`: a time needs its unit, a number of images has none.
fn check_count(selection: &Object<'_>, count: &str) -> Checked {
    let number = selection.number("countNumber", 1)?;
    if count == "imageCountMoreThan" {
        return match selection.members.get("countUnit") {
            Some(_) => Err(selection.violation(
                "countUnit",
                "cannot be combined with `imageCountMoreThan`",
                "remove `countUnit`",
            )),
            None => Ok(()),
        };
    }
    selection.choice("countUnit", &["days"])?;
    if count == "sinceImageTransitioned" && number < MIN_ARCHIVE_DAYS {
        let problem = format!("must be at least {MIN_ARCHIVE_DAYS} for `sinceImageTransitioned`");
        let fix = "keep archived images for 90 days or longer: AWS charges for them anyway";
        return Err(selection.violation("countNumber", problem, fix));
    }
    Ok(())
}

fn storage_class(selection: &Object<'_>, count: &str) -> Checked<&'static str> {
    let expected = if count == "sinceImageTransitioned" { "archive" } else { "standard" };
    match selection.members.get("storageClass") {
        None if expected == "standard" => Ok(expected),
        None => Err(selection.missing("storageClass", "`\"archive\"`")),
        Some(class) if class == expected => Ok(expected),
        Some(_) => Err(selection.violation(
            "storageClass",
            format!("must be `{expected}` for `{count}`"),
            format!("write `\"storageClass\": \"{expected}\"`"),
        )),
    }
}

fn check_action(rule: &Object<'_>, count: &str) -> Checked {
    let action = rule.object("action", "type targetStorageClass")?;
    let kind = action.choice("type", &["expire", "transition"])?;
    match (kind, count) {
        ("expire", "sinceImagePulled") => {
            return Err(action.violation(
                "type",
                "cannot be `expire` for `sinceImagePulled`: ECR cannot expire images by pull time",
                "write `{ \"type\": \"transition\", \"targetStorageClass\": \"archive\" }`, and \
                 expire archived images with `sinceImageTransitioned`",
            ));
        }
        ("transition", "sinceImageTransitioned") => {
            return Err(action.violation(
                "type",
                "must be `expire` for `sinceImageTransitioned`",
                "write `\"type\": \"expire\"`",
            ));
        }
        ("transition", _) => drop(action.choice("targetStorageClass", &["archive"])?),
        _ if action.members.contains_key("targetStorageClass") => {
            return Err(action.violation(
                "targetStorageClass",
                "cannot be combined with `expire`",
                "remove `targetStorageClass`",
            ));
        }
        _ => {}
    }
    Ok(())
}

fn check_priorities(rules: &[Rule]) -> Checked {
    let mut seen = HashMap::new();
    for rule in rules {
        if let Some(earlier) = seen.insert(rule.priority, &rule.pointer) {
            return Err(Violation {
                pointer: format!("{}/rulePriority", rule.pointer),
                problem: format!(
                    "`rulePriority` {} is that of the rule at `{earlier}`, too",
                    rule.priority
                ),
                fix: "give each rule its own `rulePriority`".to_owned(),
            });
        }
    }
    Ok(())
}

/// Checks the rules of each storage class against each other: one rule for untagged images, one
/// rule for all, which comes last, and no two rules for the same tags.
fn check_selections(rules: &[Rule]) -> Checked {
    for (index, rule) in rules.iter().enumerate() {
        let same_class = |other: &&Rule| other.storage_class == rule.storage_class;
        let wrong = |problem: String, fix: &str| {
            let pointer = format!("{}/selection/tagStatus", rule.pointer);
            Err(Violation { pointer, problem, fix: fix.to_owned() })
        };
        let same = |other: &&Rule| other.status == rule.status && other.tags == rule.tags;
        let earlier = rules[..index].iter().filter(same_class).find(same);
        if let (Some(earlier), true) = (earlier, rule.status != "any") {
            let problem = format!("the rule selects the same images as `{}`", earlier.pointer);
            return wrong(problem, "merge the two rules, or select other tags");
        }
        let later = rules.iter().filter(same_class).find(|other| other.priority > rule.priority);
        if let ("any", Some(later)) = (rule.status, later) {
            let problem = format!(
                "a rule for `any` must have the highest `rulePriority`, the rule at `{}` has {}",
                later.pointer, later.priority
            );
            return wrong(problem, "give the rule for `any` the highest `rulePriority`");
        }
    }
    Ok(())
}

/// A JSON object without unknown members.
struct Object<'a> {
    members: &'a Map<String, Value>,
    pointer: String,
}

impl<'a> Object<'a> {
    /// Opens an object; `names` are its members, separated by spaces.
    fn open(value: &'a Value, pointer: String, names: &str) -> Checked<Self> {
        let Some(members) = value.as_object() else {
            let (problem, fix) = ("must be an object", format!("write members of {names}"));
            return Err(Violation { pointer, problem: problem.to_owned(), fix });
        };
        let object = Self { members, pointer };
        match members.keys().find(|key| !names.split(' ').any(|name| name == *key)) {
            Some(unknown) => {
                let names = names.replace(' ', "`, `");
                Err(object.violation(unknown, "is unknown", format!("ECR accepts `{names}`")))
            }
            None => Ok(object),
        }
    }

    fn object(&self, name: &str, names: &str) -> Checked<Object<'a>> {
        let value = self.members.get(name).ok_or_else(|| self.missing(name, "`{ … }`"))?;
        Object::open(value, self.child(name), names)
    }

    /// A whole number, at least `least`.
    fn number(&self, name: &str, least: u64) -> Checked<u64> {
        let value = self.members.get(name).ok_or_else(|| self.missing(name, "a whole number"))?;
        value.as_u64().filter(|number| *number >= least).ok_or_else(|| {
            let problem = format!("must be a whole number, at least {least}");
            self.violation(name, problem, "write a number without quotes")
        })
    }

    fn choice(&self, name: &str, words: &[&'static str]) -> Checked<&'static str> {
        let all = format!("`{}`", words.join("`, `"));
        let value = self.members.get(name).ok_or_else(|| self.missing(name, &all))?;
        words.iter().find(|word| value == **word).copied().ok_or_else(|| {
            let problem = match words {
                [_] => format!("must be {all}"),
                _ => format!("must be one of {all}"),
            };
            self.violation(name, problem, "correct the value")
        })
    }

    fn missing(&self, name: &str, like: &str) -> Violation {
        let (problem, fix) = (format!("`{name}` is missing"), format!("add `{name}`: {like}"));
        Violation { pointer: self.pointer.clone(), problem, fix }
    }

    fn violation(&self, name: &str, problem: impl Display, fix: impl Into<String>) -> Violation {
        let problem = format!("`{}` {problem}", name.escape_debug());
        Violation { pointer: self.child(name), problem, fix: fix.into() }
    }

    /// Source: RFC 6901.
    fn child(&self, name: &str) -> String {
        format!("{}/{}", self.pointer, name.replace('~', "~0").replace('/', "~1"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A rule for all images, changed by `edit`.
    fn rule(edit: impl FnOnce(&mut Value)) -> Value {
        let mut rule = json!({
            "rulePriority": 1,
            "selection": { "tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 9 },
            "action": { "type": "expire" },
        });
        edit(&mut rule);
        rule
    }

    fn selecting(priority: u64, selection: Value, action: Value) -> Value {
        json!({ "rulePriority": priority, "selection": selection, "action": action })
    }

    fn by_time(status: &str, count: &str, days: u64) -> Value {
        json!({ "tagStatus": status, "countType": count, "countUnit": "days", "countNumber": days })
    }

    fn with(mut object: Value, name: &str, value: Value) -> Value {
        object[name] = value;
        object
    }

    fn archive() -> Value {
        json!({ "type": "transition", "targetStorageClass": "archive" })
    }

    fn expire() -> Value {
        json!({ "type": "expire" })
    }

    #[rustfmt::skip]
    #[test]
    fn every_lifecycle_that_ecr_refuses_is_a_violation_at_its_value() {
        let patterns = |list: Value| {
            let selection = by_time("tagged", "sinceImagePushed", 1);
            rule(|it| it["selection"] = with(selection, "tagPatternList", list))
        };
        let any = |priority| selecting(priority, by_time("any", "sinceImagePushed", 1), expire());
        let untagged =
            |priority| selecting(priority, by_time("untagged", "sinceImagePushed", 1), expire());
        let tagged = |priority| with(patterns(json!(["b*", "a*"])), "rulePriority", json!(priority));
        for (rules, pointer) in [
            (vec![rule(|it| it["rulePriority"] = json!(0))], "/rules/0/rulePriority"),
            (vec![rule(|it| it["rulePriority"] = json!("1"))], "/rules/0/rulePriority"),
            (vec![rule(|it| it["note"] = json!(""))], "/rules/0/note"),
            (vec![rule(|it| it["description"] = Value::Null)], "/rules/0/description"),
            (vec![json!([])], "/rules/0"),
            (vec![rule(|it| drop(it.as_object_mut().unwrap().remove("action")))], "/rules/0"),
            (vec![rule(|it| it["selection"]["tagStatus"] = json!("all"))], "/rules/0/selection/tagStatus"),
            (vec![rule(|it| it["selection"]["countType"] = json!("sincePushed"))], "/rules/0/selection/countType"),
            (vec![rule(|it| it["selection"]["countNumber"] = json!(0))], "/rules/0/selection/countNumber"),
            (vec![rule(|it| it["selection"]["countNumber"] = json!(1.5))], "/rules/0/selection/countNumber"),
            (vec![rule(|it| it["selection"]["countUnit"] = json!("days"))], "/rules/0/selection/countUnit"),
            (vec![rule(|it| it["selection"]["countType"] = json!("sinceImagePushed"))], "/rules/0/selection"),
            (vec![rule(|it| it["selection"] = with(by_time("any", "sinceImagePushed", 1), "countUnit", json!("weeks")))], "/rules/0/selection/countUnit"),
            (vec![rule(|it| it["selection"]["storageClass"] = json!("archive"))], "/rules/0/selection/storageClass"),
            (vec![rule(|it| it["selection"]["tagPrefixList"] = json!(["v"]))], "/rules/0/selection/tagPrefixList"),
            (vec![rule(|it| it["selection"]["tagStatus"] = json!("tagged"))], "/rules/0/selection"),
            (vec![patterns(json!([]))], "/rules/0/selection/tagPatternList"),
            (vec![patterns(json!([1]))], "/rules/0/selection/tagPatternList"),
            (vec![patterns(json!(["*test*1*2*3*"]))], "/rules/0/selection/tagPatternList"),
            (vec![with(patterns(json!(["a"])), "selection", json!({
                "tagStatus": "tagged", "tagPatternList": ["a"], "tagPrefixList": ["a"],
                "countType": "imageCountMoreThan", "countNumber": 1
            }))], "/rules/0/selection/tagPrefixList"),
            (vec![rule(|it| it["action"]["type"] = json!("delete"))], "/rules/0/action/type"),
            (vec![rule(|it| it["action"] = archive())], ""),
            (vec![rule(|it| it["action"]["type"] = json!("transition"))], "/rules/0/action"),
            (vec![rule(|it| it["action"]["targetStorageClass"] = Value::Null)], "/rules/0/action/targetStorageClass"),
            (vec![selecting(1, by_time("any", "sinceImagePulled", 9), expire())], "/rules/0/action/type"),
            (vec![selecting(1, by_time("any", "sinceImageTransitioned", 90), expire())], "/rules/0/selection"),
            (vec![selecting(1, with(by_time("any", "sinceImageTransitioned", 89), "storageClass", json!("archive")), expire())], "/rules/0/selection/countNumber"),
            (vec![selecting(1, with(by_time("any", "sinceImageTransitioned", 90), "storageClass", json!("archive")), archive())], "/rules/0/action/type"),
            (vec![untagged(1), any(1)], "/rules/1/rulePriority"),
            (vec![any(1), untagged(2)], "/rules/0/selection/tagStatus"),
            (vec![any(1), any(2)], "/rules/0/selection/tagStatus"),
            (vec![untagged(1), untagged(2)], "/rules/1/selection/tagStatus"),
            (vec![tagged(1), with(patterns(json!(["a*", "b*"])), "rulePriority", json!(2))], "/rules/1/selection/tagStatus"),
        ] {
            let violation = check(&json!({ "rules": rules })).err();
            let actual = violation.as_ref().map(|it| it.pointer.as_str()).unwrap_or_default();
            assert_eq!(actual, pointer, "{rules:?}\n{violation:?}");
        }
        for wrong in [json!({}), json!([]), json!({ "rules": [] }), json!({ "rules": {} })] {
            assert!(check(&wrong).is_err(), "{wrong}");
        }
        let unknown = json!({ "rules": [rule(|_| ())], "version": 1 });
        assert_eq!(check(&unknown).unwrap_err().pointer, "/version");
        assert!(check(&json!({ "rules": vec![rule(|_| ()); 51] })).is_err());
    }

    /// Source: ECR user guide, "Examples of lifecycle policies".
    #[rustfmt::skip]
    #[test]
    fn the_documented_examples_are_accepted() {
        let archived = with(
            by_time("any", "sinceImageTransitioned", 365),
            "storageClass",
            json!("archive"),
        );
        let prefixed = |prefix: &str| {
            with(by_time("tagged", "sinceImagePushed", 14), "tagPrefixList", json!([prefix]))
        };
        for rules in [
            vec![rule(|it| it["description"] = json!("keep nine"))],
            vec![selecting(1, by_time("any", "sinceImagePulled", 90), archive()), selecting(2, archived.clone(), expire())],
            // the order of the file does not matter
            vec![selecting(9, archived, expire()), selecting(3, by_time("any", "sinceImagePushed", 1), archive())],
            vec![selecting(10, prefixed("prod"), expire()), selecting(5, prefixed("beta"), expire()), selecting(20, with(by_time("any", "sinceImagePushed", 1), "storageClass", json!("standard")), expire())],
        ] {
            assert_eq!(check(&json!({ "rules": rules })), Ok(()));
        }
    }
}
