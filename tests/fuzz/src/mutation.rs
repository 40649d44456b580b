//! Mutated seeds, the same in each run: bits flipped, parts removed, duplicated, moved between
//! seeds, and special words inserted.

/// Words that tend to break parsers.
const WORDS: [&[u8]; 34] = [
    b"\r\n",
    b"\n",
    b"\r",
    b".\r\n",
    b"+OK\r\n",
    b"-ERR\r\n",
    b"+ ",
    b"* ",
    b"A4 OK\r\n",
    b"* BYE\r\n",
    b"{3}\r\n",
    b"{18446744073709551616}",
    b"((((",
    b"))",
    b"\"",
    b"\\",
    b"\xff",
    b"\x00",
    b"99999999999999999999",
    b"-1",
    b":",
    b";",
    b",",
    b"=",
    b"[",
    b"{{",
    b"}}",
    b"{% ",
    b" %}",
    b"250-\r\n",
    b"334 \r\n",
    b"1e400",
    b"\n=== next visit ===\n",
    "\u{feff}ß東\u{1F600}".as_bytes(),
];

/// Random numbers (splitmix64; S. Vigna): the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap_or(0)
    }
}

/// Endless mutations of seeds.
pub struct Mutations<'a> {
    seeds: &'a [Vec<u8>],
    random: Random,
}

impl<'a> Mutations<'a> {
    /// Creates the mutations of these seeds with this number.
    pub fn new(seeds: &'a [Vec<u8>], number: u64) -> Self {
        Self { seeds, random: Random(number) }
    }
}

impl Iterator for Mutations<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let (seeds, random) = (self.seeds, &mut self.random);
        let mut bytes = seeds.get(random.below(seeds.len()))?.clone();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len() + 1);
            let end = (at + random.below(40)).min(bytes.len());
            match random.below(7) {
                0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
                1 => drop(bytes.splice(at..at, WORDS[random.below(WORDS.len())].iter().copied())),
                2 => drop(bytes.drain(at..end)),
                3 => {
                    let part = bytes[at..end].to_vec();
                    let to = random.below(bytes.len() + 1);
                    bytes.splice(to..to, part);
                }
                4 => bytes.truncate(at),
                5 => {
                    let other = &seeds[random.below(seeds.len())];
                    bytes.truncate(at);
                    bytes.extend_from_slice(&other[random.below(other.len() + 1)..]);
                }
                _ => drop(bytes.splice(at..end, WORDS[random.below(WORDS.len())].iter().copied())),
            }
        }
        Some(bytes)
    }
}
