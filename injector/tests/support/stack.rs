//! How much stack a program takes, read from the instructions of the embedded object: the kernel reports only those
//! whom it refuses (at 512 bytes over a chain of calls).

use std::collections::BTreeMap;

use injector::datapath::Object;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SymbolKind};

struct Function {
    name: String,
    /// What it takes itself.
    frame: u64,
    /// Section and offset of the functions that it calls.
    calls: Vec<(usize, u64)>,
}

/// The deepest chain of calls from a program: bytes, as the verifier rounds them, and the functions on the way.
pub fn deepest(program: &str) -> (u64, Vec<String>) {
    let functions = functions();
    let start = functions.iter().find(|(_, function)| function.name == program).unwrap().0;
    descend(&functions, *start)
}

fn descend(functions: &BTreeMap<(usize, u64), Function>, at: (usize, u64)) -> (u64, Vec<String>) {
    let function = functions.get(&at).unwrap_or_else(|| panic!("a call into nowhere: {at:?}"));
    let (below, mut chain) =
        function.calls.iter().map(|call| descend(functions, *call)).max().unwrap_or_default();
    let frame = function.frame.max(1).next_multiple_of(32);
    chain.insert(0, format!("{} {frame}", function.name));
    (frame + below, chain)
}

fn functions() -> BTreeMap<(usize, u64), Function> {
    let file = object::File::parse(Object::file()).unwrap();
    let mut functions = BTreeMap::new();
    for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0) {
        let index = symbol.section_index().unwrap();
        let section = file.section_by_index(index).unwrap();
        let relocations: BTreeMap<_, _> = section.relocations().collect();
        let code = section.data().unwrap();
        let range = symbol.address()..symbol.address() + symbol.size();
        let mut function = Function { name: symbol.name().unwrap().to_owned(), frame: 0, calls: Vec::new() };
        // Registers that hold the frame pointer.
        let mut pointers = 0_u16;
        for at in range.clone().step_by(8) {
            let word = &code[at as usize..at as usize + 8];
            let (op, dst, src) = (word[0], word[1] & 0xf, word[1] >> 4);
            let offset = i64::from(i16::from_le_bytes([word[2], word[3]]));
            let immediate = i64::from(i32::from_le_bytes([word[4], word[5], word[6], word[7]]));
            let below = match (op & 7, op) {
                (1, _) if src == 10 => -offset,
                (2 | 3, _) if dst == 10 => -offset,
                (_, 0x07) if pointers & 1 << dst != 0 => -immediate,
                _ => 0,
            };
            function.frame = function.frame.max(u64::try_from(below).unwrap_or(0));
            if op == 0xbf && src == 10 {
                pointers |= 1 << dst;
            } else if !matches!(op & 7, 2 | 3) {
                pointers &= !(1 << dst);
            }
            if op == 0x85 && src == 1 {
                function.calls.push(match relocations.get(&at).map(object::Relocation::target) {
                    None => (index.0, at.wrapping_add_signed((immediate + 1) * 8)),
                    Some(RelocationTarget::Symbol(to)) => {
                        let to = file.symbol_by_index(to).unwrap();
                        let inside = if to.kind() == SymbolKind::Section { (immediate + 1) * 8 } else { 0 };
                        (to.section_index().unwrap().0, to.address().wrapping_add_signed(inside))
                    }
                    Some(other) => panic!("a call to {other:?}"),
                });
            }
        }
        functions.insert((index.0, symbol.address()), function);
    }
    functions
}
