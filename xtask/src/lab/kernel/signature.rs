//! The signature at the end of a kernel module.

/// What ends the file of a signed module. Before it are 12 bytes, the last 4 of them the length of the signature before them.
const MARK: &[u8] = b"~Module signature appended~\n";
const DESCRIPTION: usize = 12;

/// The module alone. What does not look like a signature stays.
pub(super) fn without(module: &[u8]) -> &[u8] {
    strip(module).unwrap_or(module)
}

fn strip(module: &[u8]) -> Option<&[u8]> {
    let rest = module.strip_suffix(MARK)?;
    let (rest, description) = rest.split_at_checked(rest.len().checked_sub(DESCRIPTION)?)?;
    let length = u32::from_be_bytes(*description.last_chunk()?);
    rest.get(..rest.len().checked_sub(usize::try_from(length).ok()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(length: u32) -> Vec<u8> {
        [b"\x7fELF..", &b"signature"[..], &[0; 8], &length.to_be_bytes(), MARK].concat()
    }

    #[test]
    fn a_signature_is_taken_off() {
        assert_eq!(without(&signed(9)), b"\x7fELF..");
    }

    #[test]
    fn what_is_not_signed_stays_as_it_is() {
        for module in [&b"\x7fELF.."[..], MARK, b"", &signed(4711)] {
            assert_eq!(without(module), module);
        }
    }
}
