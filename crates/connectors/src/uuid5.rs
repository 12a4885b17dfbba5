//! UUIDs that are made from names, the same on every try (RFC 9562 section 5.5).

use uuid::Uuid;

/// Holdfast's own space of names: version 5 of the DNS name `holdfast.invalid`.
const NAMESPACE: Uuid = Uuid::from_u128(0x89c2_43a3_bb7a_52b9_88fe_3e59_8f79_40e2);

/// The UUID of several names together.
pub(crate) fn of(names: &[&str]) -> Uuid {
    Uuid::new_v5(&NAMESPACE, names.join("\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_uuid_of_version_5() {
        assert_eq!(NAMESPACE, Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"holdfast.invalid"));
        assert_eq!(of(&["a", "b"]), of(&["a", "b"]));
        assert_ne!(of(&["a", "b"]), of(&["ab"]));
        assert_eq!(of(&["a"]).get_version_num(), 5);
    }
}
