//! Replaces `${VAR}` in strings from the environment.
//!
//! Runs after the TOML parser: the value of a variable is never parsed as TOML.

use crate::model::NameError;

/// Returns the value of a variable; `None` if it is not set.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

const FORMS: &str = "write `${NAME}` or `${NAME:-default}`, and `$$` for a dollar sign";

/// The text with its variables replaced.
///
/// `${VAR}` must be set. `${VAR:-default}` is the default if the variable is unset or empty. `$$` is
/// a dollar sign, and so is a `$` before any other character.
///
/// # Errors
/// If a variable is not set, or a `${` does not begin a variable. Errors name the variable and never
/// its value.
pub(super) fn interpolate(text: &str, environment: Environment<'_>) -> Result<String, NameError> {
    let (mut replaced, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('$') {
        replaced.push_str(before);
        if let Some(body) = after.strip_prefix('{') {
            let Some((body, after)) = body.split_once('}') else {
                return Err(NameError::new("has a `${` without `}`").hint(FORMS));
            };
            replaced.push_str(&variable(body, environment)?);
            rest = after;
        } else {
            replaced.push('$');
            rest = after.strip_prefix('$').unwrap_or(after);
        }
    }
    Ok(replaced + rest)
}

fn variable(body: &str, environment: Environment<'_>) -> Result<String, NameError> {
    let (name, default) =
        body.split_once(":-").map_or((body, None), |(name, default)| (name, Some(default)));
    let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.bytes().next().is_some_and(|b| !b.is_ascii_digit());
    if !is_name || default.is_some_and(|default| default.contains("${")) {
        return Err(NameError::new("has an invalid `${…}`").hint(FORMS));
    }
    match (environment(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => {
            Err(NameError::new(format!("the environment variable `{name}` is not set"))
                .hint(format!("set `{name}`, or write a default: `${{{name}:-default}}`")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(text: &str) -> Result<String, String> {
        let environment = |name: &str| match name {
            "SET" => Some("value".to_owned()),
            "EMPTY" => Some(String::new()),
            "DOLLAR" => Some("${SET}".to_owned()),
            _ => None,
        };
        interpolate(text, &environment).map_err(|e| e.problem)
    }

    #[test]
    fn variables_are_replaced_like_in_a_shell() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("${SET}", "value"),
            ("a-${SET}-${SET}", "a-value-value"),
            ("${EMPTY}", ""),
            ("${EMPTY:-default}", "default"),
            ("${UNSET:-default}", "default"),
            ("${UNSET:-}", ""),
            ("${UNSET:-a:-b}", "a:-b"),
            ("${SET:-default}", "value"),
            // the value of a variable is not expanded
            ("${DOLLAR}", "${SET}"),
            ("$$", "$"),
            ("$${SET}", "${SET}"),
            ("$$$${SET}", "$${SET}"),
            ("$$${SET}", "$value"),
            ("costs 5$", "costs 5$"),
            ("$SET", "$SET"),
        ] {
            assert_eq!(replaced(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn an_invalid_variable_is_rejected() {
        for text in ["${", "${SET", "a${", "${SET:-"] {
            assert_eq!(replaced(text).unwrap_err(), "has a `${` without `}`", "{text}");
        }
        for text in ["${}", "${1}", "${A B}", "${SET:=x}", "${SET:?x}", "${SET-x}", "${A:-${B}}"] {
            let expected = "has an invalid `${…}`";
            assert_eq!(replaced(text).unwrap_err(), expected, "{text}");
        }
        assert_eq!(
            replaced("x${UNSET}").unwrap_err(),
            "the environment variable `UNSET` is not set"
        );
    }
}
