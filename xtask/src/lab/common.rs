//! The parts that the systems of a lab share.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use injector_lab::http::Request;
use injector_lab::{CLIENT, Lab};

/// The peers as a list of YAML, without its brackets.
pub(super) fn each_peer(lab: &Lab) -> String {
    lab.peer_names().join(", ")
}

/// Writes a program that its owner can run.
pub(super) fn write_script(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
        .with_context(|| format!("making {} executable", path.display()))
}

/// The entries of `roles:` where a script of the lab, `roles.sh`, answers who has a role: each role with the script's word
/// for it. `timeout` is how long all of it may take.
pub(super) fn roles_by_script(lab: &Lab, timeout: &str, roles: [(&str, &str); 2]) -> String {
    let script = lab.folder().join("roles.sh");
    let (script, client) = (script.display(), lab.netns(CLIENT));
    let one = |(role, word)| {
        format!("  {role}: {{ exec: [{script}, {word}], timeout: {timeout}, netns: {client} }}\n")
    };
    roles.map(one).concat()
}

/// Fails unless a server answers the client with success.
pub(super) fn answers(lab: &Lab, to: (IpAddr, u16), request: &Request<'_>) -> Result<()> {
    let (status, answer) = lab.request(CLIENT, to, request)?;
    ensure!((200..300).contains(&status), "{}: {status}: {answer}", to.0);
    Ok(())
}
