//! What decided about names, counted.

/// How often something decided about a name, so that the draws are known to reach it.
#[derive(Clone, Copy, Debug, Default)]
pub struct NameCounts {
    /// The world claimed what a peer had claimed.
    pub contested: u64,
    /// A peer claimed what is listed for another.
    pub taken_over: u64,
    /// A claim was too old.
    pub aged: u64,
    /// A frame had nothing of the claimant's but the address.
    pub unproved: u64,
    /// A claimant's frame was named by its port or its MAC.
    pub claimed: u64,
    /// A MAC address was seen elsewhere than at the port that it was learned at.
    pub moved: u64,
    /// Someone else claimed what a peer's NIC is seen to hold.
    pub doubted: u64,
    /// What may have moved was the holder's: by its port, or by the MAC address of its NIC.
    pub stayed: u64,
    /// The holder's port was left to say whose it is.
    pub left_to_holder: u64,
    /// A frame was at a peer's port that was for someone else by its MAC address.
    pub flooded: u64,
}
