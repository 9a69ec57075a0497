//! Tokens that are nearly good.

const PIECES: [&str; 13] = [
    "",
    ".",
    "..",
    "A",
    "=",
    "-",
    "_",
    "e30",
    "eyJhbGciOiJub25lIn0",
    "\u{e9}",
    "\0",
    "AAAAAAAA",
    "eyJhbGciOiJIUzI1NiJ9",
];

/// One of some good tokens, changed in up to three places; it may be what it was.
pub(super) fn mutated(below: &mut impl FnMut(usize) -> usize, whole: &[String]) -> String {
    let mut mutated: Vec<char> = whole[below(whole.len())].chars().collect();
    for _ in 0..=below(3) {
        match below(4) {
            // One bit of one character.
            0 => {
                let at = below(mutated.len());
                mutated[at] = char::from(u8::try_from(mutated[at]).unwrap_or(b'A') ^ (1 << below(7)));
            }
            // The part of another token.
            1 => {
                let mut parts: Vec<String> = mutated.iter().collect::<String>().split('.').map(str::to_owned).collect();
                let other: Vec<&str> = whole[below(whole.len())].split('.').collect();
                let at = below(parts.len().min(3));
                parts[at] = other[at].to_owned();
                mutated = parts.join(".").chars().collect();
            }
            _ => {
                let at = below(mutated.len());
                let removed = below(mutated.len() - at).min(below(12));
                mutated.splice(at..at + removed, PIECES[below(PIECES.len())].chars());
            }
        }
        if mutated.is_empty() {
            mutated.push('.');
        }
    }
    mutated.into_iter().collect()
}
