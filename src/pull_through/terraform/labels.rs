//! What things are called in the configuration.

use std::collections::{HashMap, HashSet};

use super::hcl::label;

/// Labels given out so far; no two things of one kind have the same.
#[derive(Debug, Default)]
pub(super) struct Labels {
    taken: HashSet<(String, String)>,
    known: HashMap<(String, String), String>,
}

impl Labels {
    /// A label for one more thing of this kind.
    pub(super) fn free(&mut self, kind: &str, text: &str) -> String {
        let plain = label(text);
        let numbered = (2..).map(|number| format!("{plain}_{number}"));
        let mut labels = [plain.clone()].into_iter().chain(numbered);
        let is_free = |label: &String| !self.taken.contains(&(kind.to_owned(), label.clone()));
        let found = labels.find(is_free).expect("there is always one more number");
        self.taken.insert((kind.to_owned(), found.clone()));
        found
    }

    /// The label of the thing of this kind and name, the same whenever it is asked for.
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
    fn things_that_would_be_called_the_same_are_numbered_and_stay_so() {
        let mut labels = Labels::default();
        let called: Vec<String> =
            ["a-b", "a/b", "a-b", "a_b"].iter().map(|text| labels.of("rule", text)).collect();
        assert_eq!(called, ["a_b", "a_b_2", "a_b", "a_b_3"]);
        assert_eq!(labels.of("template", "a/b"), "a_b");
    }
}
