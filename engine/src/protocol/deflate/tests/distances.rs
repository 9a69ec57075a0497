//! How far a DEFLATE stream refers back: a reader of RFC 1951 that keeps the distances and drops the rest.

/// Bits of a stream, the lowest of each byte first (section 3.1.1).
struct Bits<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> usize {
        let mut value = 0;
        for index in 0..count {
            let bit = self.bytes[self.position / 8] >> (self.position % 8) & 1;
            value |= usize::from(bit) << index;
            self.position += 1;
        }
        value
    }

    fn remaining(&self) -> usize {
        self.bytes.len() * 8 - self.position
    }
}

/// A Huffman code, which follows from the lengths of its codes (section 3.2.2).
struct Code {
    /// How many symbols have a code of each length.
    counts: [usize; 16],
    /// Symbols in the order of their codes.
    symbols: Vec<usize>,
}

impl Code {
    fn new(lengths: &[usize]) -> Self {
        let mut counts = [0; 16];
        let mut symbols = Vec::new();
        for (length, count) in counts.iter_mut().enumerate().skip(1) {
            symbols.extend((0..lengths.len()).filter(|&symbol| lengths[symbol] == length));
            *count = lengths.iter().filter(|&&other| other == length).count();
        }
        Self { counts, symbols }
    }

    fn read(&self, bits: &mut Bits<'_>) -> usize {
        let (mut code, mut first, mut index) = (0, 0, 0);
        for count in &self.counts[1..] {
            code |= bits.take(1);
            if code < first + count {
                return self.symbols[index + code - first];
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        panic!("no symbol has this code");
    }
}

/// The codes of literals and lengths, and of distances, for the two compressed kinds of block.
fn codes(bits: &mut Bits<'_>, kind: usize) -> (Code, Code) {
    if kind == 1 {
        // Section 3.2.6.
        let lengths = [[8].repeat(144), [9].repeat(112), [7].repeat(24), [8].repeat(8)].concat();
        return (Code::new(&lengths), Code::new(&[5; 30]));
    }
    // Section 3.2.7.
    let (literals, distances, lengths) = (bits.take(5) + 257, bits.take(5) + 1, bits.take(4) + 4);
    let order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
    let mut code_lengths = [0; 19];
    for &symbol in &order[..lengths] {
        code_lengths[symbol] = bits.take(3);
    }
    let code = Code::new(&code_lengths);
    let mut lengths = Vec::new();
    while lengths.len() < literals + distances {
        let (length, times) = match code.read(bits) {
            16 => (*lengths.last().expect("a length to repeat"), 3 + bits.take(2)),
            17 => (0, 3 + bits.take(3)),
            18 => (0, 11 + bits.take(7)),
            length => (length, 1),
        };
        lengths.extend([length].repeat(times));
    }
    (Code::new(&lengths[..literals]), Code::new(&lengths[literals..]))
}

/// The largest distance in a raw stream that ends with a flush or a last block.
pub(super) fn largest_distance(stream: &[u8]) -> usize {
    let mut bits = Bits { bytes: stream, position: 0 };
    let mut largest = 0;
    while bits.remaining() > 3 {
        let (last, kind) = (bits.take(1), bits.take(2));
        if kind == 0 {
            bits.position = bits.position.next_multiple_of(8);
            let bytes = bits.take(16);
            bits.position += 16 + bytes * 8;
        } else {
            let (literals, distances) = codes(&mut bits, kind);
            loop {
                let symbol = literals.read(&mut bits);
                if symbol == 256 {
                    break;
                }
                if symbol > 256 {
                    // Sections 3.2.5: extra bits of a length, and a distance with its own.
                    let length = symbol - 257;
                    bits.take(if length < 8 || length == 28 { 0 } else { (length - 4) / 4 });
                    let distance = distances.read(&mut bits);
                    let distance = match distance {
                        0..4 => distance + 1,
                        _ => ((2 + distance % 2) << (distance / 2 - 1)) + 1 + bits.take(distance / 2 - 1),
                    };
                    largest = largest.max(distance);
                }
            }
        }
        if last == 1 {
            break;
        }
    }
    largest
}
