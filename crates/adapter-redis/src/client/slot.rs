//! The slots of a cluster: which of the 16,384 slots a key is in.

/// The number of slots of a cluster.
pub(crate) const SLOTS: u16 = 16_384;

/// Returns the slot of a key with a hash tag, which all keys of Tenure have. `None` for other texts.
pub(crate) fn of_tagged(key: &[u8]) -> Option<u16> {
    let open = key.iter().position(|byte| *byte == b'{')?;
    let tag = &key[open + 1..];
    let close = tag.iter().position(|byte| *byte == b'}')?;
    (close > 0).then(|| of_tag(&tag[..close]))
}

/// Returns the slot of all keys with this hash tag.
pub(crate) fn of_tag(tag: &[u8]) -> u16 {
    crc16(tag) % SLOTS
}

/// CRC-16/XMODEM, as the cluster specification has it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        // What `CLUSTER KEYSLOT` answers.
        assert_eq!(of_tagged(b"tenure:{foo}:i"), Some(12_182));
        assert_eq!(of_tagged(b"{bar}"), Some(5_061));
        assert_eq!(of_tagged(b"plain"), None);
        assert_eq!(of_tagged(b"{}a"), None);
        assert_eq!(of_tagged(b"{a"), None);
    }
}
