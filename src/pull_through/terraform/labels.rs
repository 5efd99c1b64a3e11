//! Chooses the resource names of an export.

use std::collections::{HashMap, HashSet};

use super::hcl::label;

/// The labels in use. They are distinct within a kind.
#[derive(Debug, Default)]
pub(super) struct Labels {
    taken: HashSet<(String, String)>,
    known: HashMap<(String, String), String>,
}

impl Labels {
    /// A new label of this kind.
    pub(super) fn free(&mut self, kind: &str, text: &str) -> String {
        let plain = label(text);
        let numbered = (2..).map(|number| format!("{plain}_{number}"));
        let mut labels = [plain.clone()].into_iter().chain(numbered);
        let is_free = |label: &String| !self.taken.contains(&(kind.to_owned(), label.clone()));
        let found = labels.find(is_free).expect("there is always one more number");
        self.taken.insert((kind.to_owned(), found.clone()));
        found
    }

    /// The label of this kind and name; the same at every call.
    pub(super) fn of(&mut self, kind: &str, text: &str) -> String {
        let key = (kind.to_owned(), text.to_owned());
        if let Some(label) = self.known.get(&key) {
            return label.clone();
        }
        let label = self.free(kind, text);
        self.known.insert(key, label.clone());
        label
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_labels_are_numbered_and_stay_the_same() {
        let mut labels = Labels::default();
        let found: Vec<String> =
            ["a-b", "a/b", "a-b", "a_b"].iter().map(|text| labels.of("rule", text)).collect();
        assert_eq!(found, ["a_b", "a_b_2", "a_b", "a_b_3"]);
        assert_eq!(labels.of("template", "a/b"), "a_b");
    }
}
