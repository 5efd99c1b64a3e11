//! Configurations with a wrong key, type or word: the fixtures of the parser that a schema can refuse.

/// Returns `true` for a message about a key, a type or a word, which a schema can express.
pub(crate) fn is_of_form(message: &str) -> bool {
    // a place in a file that the configuration names
    if message.contains(" line ") && message.contains(", column ") {
        return false;
    }
    let wrong_type = message.contains("expected ") && message.contains(", found ");
    let words = ["unknown key", "must be one of", "must be a whole number from"];
    wrong_type || words.iter().any(|words| message.contains(words))
}

/// The name and the text of each.
///
/// # Panics
/// If there are few: then the fixtures are not read.
pub(crate) fn wrong_in_form() -> Vec<(&'static str, &'static str)> {
    let cases = include_str!("../../../src/config/tests/problems.txt").split("\n### ").skip(1);
    let cases = cases.filter_map(|case| {
        let (text, message) = case.split_once("\n>>>\n")?;
        let (name, text) = text.split_once('\n')?;
        let is_toml = toml::from_str::<toml::Table>(text).is_ok();
        (is_toml && is_of_form(message)).then_some((name, text))
    });
    let cases: Vec<_> = cases.collect();
    assert!(cases.len() >= 35, "{}", cases.len());
    cases
}
