//! Where fields are in the running kernel's structs, by its own type information.

use std::io;

/// The kernel's type information.
const FILE: &str = "/sys/kernel/btf/vmlinux";
const MAGIC: u16 = 0xeb9f;
const STRUCT: u32 = 4;

/// The place of a field in a struct, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The struct's name.
    pub of: &'static str,
    /// The field's name.
    pub name: &'static str,
}

/// Reads where some fields are.
///
/// # Errors
/// The kernel has no type information, or a field is not in it.
pub fn offsets<const N: usize>(fields: [Field; N]) -> io::Result<[u32; N]> {
    offsets_in(&std::fs::read(FILE)?, fields)
}

fn offsets_in<const N: usize>(bytes: &[u8], fields: [Field; N]) -> io::Result<[u32; N]> {
    let broken = || io::Error::other(format!("{FILE} can't be read as type information"));
    let word = |at: usize| -> Option<u32> {
        Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
    };
    let place = |at: usize| word(at).map(|word| word as usize);
    let magic = bytes.get(..2).and_then(|magic| magic.try_into().ok()).map(u16::from_ne_bytes);
    if magic != Some(MAGIC) {
        return Err(broken());
    }
    let sections = || Some((place(4)?, place(8)?, place(12)?, place(16)?));
    let (header, types, types_len, strings) = sections().ok_or_else(broken)?;
    let (types, strings) = (header + types, header + strings);
    let is_named = |name: u32, wanted: &str| {
        let text = bytes.get(strings + name as usize..).unwrap_or_default();
        text.starts_with(wanted.as_bytes()) && text.get(wanted.len()) == Some(&0)
    };
    let mut found = [None; N];
    let mut at = types;
    while at < types + types_len {
        let (name, info) = word(at).zip(word(at + 4)).ok_or_else(broken)?;
        let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        let members = at + 12;
        if kind == STRUCT {
            for (field, found) in fields.iter().zip(&mut found) {
                if found.is_some() || !is_named(name, field.of) {
                    continue;
                }
                for member in (0..count).map(|member| members + member * 12) {
                    let (name, offset) = word(member).zip(word(member + 8)).ok_or_else(broken)?;
                    if is_named(name, field.name) {
                        // With the flag, the high byte is the width of a bit field.
                        let bits = if info >> 31 == 1 { offset & 0xff_ffff } else { offset };
                        *found = Some(bits / 8);
                    }
                }
            }
        }
        at = members
            + match kind {
                1 | 14 | 17 => 4,
                3 => 12,
                4 | 5 | 15 | 19 => 12 * count,
                6 | 13 => 8 * count,
                2 | 7..=12 | 16 | 18 => 0,
                _ => return Err(broken()),
            };
    }
    let mut offsets = [0; N];
    for ((offset, found), field) in offsets.iter_mut().zip(found).zip(fields) {
        *offset = found.ok_or_else(|| {
            io::Error::other(format!("this kernel's {} has no field {}", field.of, field.name))
        })?;
    }
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_this_kernel_is_found_and_one_that_is_not_there_is_named() {
        let [pid, tgid] = offsets(["pid", "tgid"].map(|name| Field { of: "task_struct", name })).unwrap();
        assert_eq!(tgid, pid + 4, "they are neighbours in every kernel");
        let error = offsets([Field { of: "task_struct", name: "nonsense" }]).unwrap_err().to_string();
        assert!(error.contains("task_struct has no field nonsense"), "{error}");
        assert!(offsets_in(b"not that", [Field { of: "a", name: "b" }]).is_err());
    }
}
