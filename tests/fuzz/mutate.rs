//! Mutates inputs. One seed always gives the same mutations.

/// A small random number generator (SplitMix64). The inputs need variety, not secrecy.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which must not be 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// A range within this length, usually a short one.
    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        let most = match self.below(4) {
            0 => length - start,
            _ => (length - start).min(16),
        };
        start..start + self.below(most + 1)
    }
}

/// Limit for the length of an input, in bytes.
const LONGEST: usize = 4 << 10;

/// Boundary values of common types and grammars.
const EDGES: [&[u8]; 22] = [
    b"0",
    b"-1",
    b"9",
    b"255",
    b"256",
    b"65535",
    b"65536",
    b"4294967296",
    b"9223372036854775807",
    b"18446744073709551615",
    b"18446744073709551616",
    b"1e309",
    b"\0",
    b"\n",
    b"\r\n",
    b"\x1b[2J",
    "\u{202e}".as_bytes(),
    "\u{9b}".as_bytes(),
    "é".as_bytes(),
    "\u{1f980}".as_bytes(),
    b"\xff",
    b"\xc3",
];

/// Mutates one of the inputs, and crosses it with other inputs and with tokens.
pub(crate) fn mutated(random: &mut Random, inputs: &[Vec<u8>], tokens: &[&str]) -> Vec<u8> {
    let mut input = random.pick(inputs).clone();
    // few changes: parsers refuse a very wrong input at once
    let changes = 1 << random.below(4);
    for _ in 0..changes {
        change(random, &mut input, inputs, tokens);
        input.truncate(LONGEST);
    }
    input
}

fn change(random: &mut Random, input: &mut Vec<u8>, inputs: &[Vec<u8>], tokens: &[&str]) {
    let range = random.range(input.len());
    let at = range.start;
    let part = input[range.clone()].to_vec();
    match random.below(11) {
        0 if at < input.len() => input[at] ^= 1 << random.below(8),
        1 if at < input.len() => input[at] = random.next() as u8,
        2 => drop(input.drain(range)),
        3 => insert(input, at, &part),
        4 => {
            let times = [2, 9, 130, 600][random.below(4)];
            insert(input, at, &part.repeat(times.min(LONGEST / part.len().max(1))));
        }
        5 => {
            let to = random.below(input.len() + 1);
            insert(input, to, &part);
        }
        6 => input.truncate(at),
        7 => {
            let other = random.pick(inputs);
            let piece = &other[random.range(other.len())];
            input.splice(range, piece.iter().copied());
        }
        8 => {
            let edge = random.pick(&EDGES);
            input.splice(range, edge.iter().copied());
        }
        9 if !tokens.is_empty() => {
            let token = random.pick(tokens);
            input.splice(range, token.bytes());
        }
        10 if !tokens.is_empty() => insert(input, at, random.pick(tokens).as_bytes()),
        _ => {}
    }
}

fn insert(input: &mut Vec<u8>, at: usize, part: &[u8]) {
    input.splice(at..at, part.iter().copied());
}
