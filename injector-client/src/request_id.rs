//! Ids of requests.

/// An id for a request that nobody else makes: 128 drawn bits. A partition that was made with it can't be taken for another
/// client's of the same name and generation, as after a restart of the daemon, and another client's partition is not the answer
/// to the request.
pub fn own_request_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

#[cfg(test)]
mod tests {
    use super::own_request_id;

    #[test]
    fn no_id_is_given_twice_or_too_long() {
        let ids = [own_request_id(), own_request_id()];
        assert_ne!(ids[0], ids[1]);
        assert!(ids.iter().all(|id| id.len() == 32), "{ids:?}");
    }
}
