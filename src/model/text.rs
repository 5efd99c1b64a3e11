//! Text from outside, and what of it could steer the terminal it is shown on.

/// Whether a terminal obeys the character instead of showing it: control characters and
/// reversals of direction.
pub fn is_unsafe_for_terminal(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
