//! A running lab.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Error, expect, run};
use crate::folder::Folder;
use crate::namespace::{self, Namespace, ip};
use crate::process::Process;
use crate::subnet::Subnet;
use crate::{http, tap};

/// The namespace of the switch.
pub const SWITCH: &str = "sw";
/// The namespace on the switch that is no peer.
pub const CLIENT: &str = "client";
/// The client's host number.
pub const CLIENT_HOST: u8 = 254;

/// The network device of a virtual machine on the switch.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The host's end, a port of `br0` in the namespace [`SWITCH`].
    pub tap: String,
    /// The MAC address of the device inside.
    pub mac: String,
    /// Commands of `ip` that give the device inside, `eth0`, its addresses.
    pub commands: Vec<String>,
}

/// Namespaces with what runs in them. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Lab {
    // In the order of their end: what runs, then where it runs, then what it wrote.
    pub(crate) processes: Vec<Process>,
    pub(crate) spaces: BTreeMap<String, Namespace>,
    pub(crate) folder: Folder,
    /// `inj1234-covered0-`: anyone who finds a namespace can see whether its maker still lives.
    pub(crate) prefix: String,
    pub(crate) subnet: Subnet,
    pub(crate) peers: u8,
    pub(crate) interrupted: fn() -> bool,
}

impl Lab {
    /// `n1`, `n2`, …
    pub fn peer_names(&self) -> Vec<String> {
        (1..=self.peers).map(|peer| format!("n{peer}")).collect()
    }

    /// The full name of a namespace.
    pub fn netns(&self, of: &str) -> String {
        format!("{}{of}", self.prefix)
    }

    /// The name of this lab's namespace in a full one; any other name as it is.
    pub fn short<'a>(&self, netns: &'a str) -> &'a str {
        netns.strip_prefix(&self.prefix).unwrap_or(netns)
    }

    /// A namespace's file.
    pub fn netns_file(&self, of: &str) -> PathBuf {
        namespace::path(&self.netns(of))
    }

    /// Where the lab's logs and data are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The lab's addresses.
    pub fn subnet(&self) -> Subnet {
        self.subnet
    }

    /// The IPv4 address of a host number; `n1` has the number 1.
    pub fn ipv4(&self, host: u8) -> IpAddr {
        self.subnet.ipv4(host)
    }

    /// The IPv6 address of a host number.
    ///
    /// # Panics
    /// The lab has no IPv6 addresses.
    pub fn ipv6(&self, host: u8) -> IpAddr {
        self.subnet.ipv6(host)
    }

    /// The addresses of a peer or the client, IPv4 first.
    ///
    /// # Panics
    /// The name is neither a peer's nor the client's.
    pub fn addresses(&self, of: &str) -> Vec<IpAddr> {
        self.subnet.addresses(host(of))
    }

    /// Makes a namespace, and returns its full name.
    ///
    /// # Panics
    /// The namespace can't be made.
    #[track_caller]
    pub fn add(&mut self, of: &str) -> String {
        expect(self.try_add(of));
        self.netns(of)
    }

    pub(crate) fn try_add(&mut self, of: &str) -> Result<(), Error> {
        let namespace = Namespace::create(&self.netns(of))?;
        self.spaces.insert(of.to_owned(), namespace);
        Ok(())
    }

    /// Deletes a namespace.
    ///
    /// # Panics
    /// The namespace can't be deleted.
    #[track_caller]
    pub fn delete(&mut self, of: &str) {
        self.hide(of);
        self.spaces.remove(of);
    }

    /// Takes a namespace's name away; it lives on, and can still be used here.
    ///
    /// # Panics
    /// There is no such namespace, or its name can't be taken away.
    #[track_caller]
    pub fn hide(&mut self, of: &str) {
        let namespace = self.spaces.get_mut(of).unwrap_or_else(|| panic!("there is no namespace {of}"));
        expect(namespace.hide());
    }

    #[track_caller]
    fn space(&self, of: &str) -> &Namespace {
        self.spaces.get(of).unwrap_or_else(|| panic!("there is no namespace {of}"))
    }

    /// Runs something inside a namespace, on the calling thread. A socket made there, and a process or a thread started there,
    /// stay in it.
    ///
    /// # Panics
    /// The job panicked, or there is no such namespace.
    pub fn within<T>(&self, of: &str, job: impl FnOnce() -> T) -> T {
        self.space(of).within(job)
    }

    /// Sets a parameter of a namespace's network: `ipv4/ip_forward`.
    ///
    /// # Panics
    /// The kernel does not take the parameter or its value.
    #[track_caller]
    pub fn sysctl(&self, of: &str, parameter: &str, value: &str) {
        let file = format!("/proc/sys/net/{parameter}");
        self.within(of, || std::fs::write(&file, value)).unwrap_or_else(|error| panic!("{file}: {error}"));
    }

    /// A command that runs inside a named namespace.
    pub fn command(&self, of: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.netns(of)]).arg(program);
        command
    }

    /// Runs a program inside a namespace, and returns its standard output.
    ///
    /// # Panics
    /// The program can't be started, or it failed.
    #[track_caller]
    pub fn run(&self, of: &str, program: &str, words: &[&str]) -> String {
        let output = self.within(of, || run(Command::new(program).args(words)));
        String::from_utf8_lossy(&expect(output).stdout).into_owned()
    }

    /// Runs `ip` inside a namespace; words are separated by blanks.
    ///
    /// # Panics
    /// `ip` failed.
    #[track_caller]
    pub fn ip(&self, of: &str, words: &str) -> String {
        self.run(of, "ip", &words.split_whitespace().collect::<Vec<_>>())
    }

    /// Whether `ip` can do that inside a namespace.
    pub fn can(&self, of: &str, words: &str) -> bool {
        self.within(of, || run(Command::new("ip").args(words.split_whitespace())).is_ok())
    }

    /// Runs many `ip` commands inside a namespace in one process.
    fn batch(&self, of: &str, lines: &[String]) -> Result<(), Error> {
        let lines = lines.join("\n") + "\n";
        let netns = self.netns(of);
        let failed = |why: String| Error::Command { command: format!("ip -netns {netns}: {lines}"), why };
        let mut command = ip();
        command.args(["-netns", &netns, "-batch", "-"]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
        let written = child.stdin.take().map(|mut input| input.write_all(lines.as_bytes()));
        let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
        // Where `ip` failed, it may not have read to the end.
        if !output.status.success() || !matches!(written, Some(Ok(()))) {
            return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        Ok(())
    }

    /// A bridge in a namespace, up.
    ///
    /// # Panics
    /// The bridge can't be made.
    #[track_caller]
    pub fn bridge(&self, of: &str, name: &str) {
        expect(self.try_bridge(of, name));
    }

    pub(crate) fn try_bridge(&self, of: &str, name: &str) -> Result<(), Error> {
        // A bridge without an address of its own takes the lowest of its ports': a port that comes later may change it,
        // and then the kernel forgets every neighbour that was known over the bridge.
        let mac = local_mac(&self.netns(of), name);
        // Snooping would hold back neighbour discovery until a querier is known.
        let options = "type bridge stp_state 0 forward_delay 0 mcast_snooping 0";
        self.batch(of, &[format!("link add {name} address {mac} {options}"), format!("link set {name} up")])
    }

    /// A veth between two namespaces, up at both ends.
    ///
    /// # Panics
    /// The veth can't be made.
    #[track_caller]
    pub fn cable(&self, one: (&str, &str), two: (&str, &str)) {
        expect(self.try_cable(one, two));
    }

    fn try_cable(&self, one: (&str, &str), two: (&str, &str)) -> Result<(), Error> {
        let ((one, one_end), (two, two_end)) = (one, two);
        let add = format!("link add {one_end} type veth peer name {two_end} netns {}", self.netns(two));
        self.batch(one, &[add, format!("link set {one_end} up")])?;
        self.batch(two, &[format!("link set {two_end} up")])
    }

    /// Gives a device the addresses of a host number.
    ///
    /// # Panics
    /// The device can't have the addresses.
    #[track_caller]
    pub fn give(&self, of: &str, device: &str, host: u8) {
        expect(self.batch(of, &self.subnet.commands(host, device)));
    }

    /// Joins a namespace to the switch: `eth0` at its end, with the addresses of a host number, and the port `p-<of>` of
    /// the bridge `br0` at the other.
    ///
    /// # Panics
    /// The namespace can't be joined to the switch.
    #[track_caller]
    pub fn join(&self, of: &str) {
        let port = format!("p-{of}");
        // The other end of a pair goes with its namespace, which lives until its last process has left.
        crate::until("the port is free", || (!self.can(SWITCH, &format!("link show {port}"))).then_some(()));
        expect(self.try_join(of, host(of)));
    }

    pub(crate) fn try_join(&self, of: &str, host: u8) -> Result<(), Error> {
        let port = format!("p-{of}");
        self.try_cable((SWITCH, &port), (of, "eth0"))?;
        self.batch(SWITCH, &[format!("link set {port} master br0")])?;
        self.batch(of, &self.subnet.commands(host, "eth0"))
    }

    /// Puts a tap for a virtual machine on the switch.
    pub(crate) fn try_plug(&self, of: &str) -> Result<(), Error> {
        let port = format!("p-{of}");
        let add = format!("tuntap add dev {port} mode tap");
        self.batch(SWITCH, &[add, format!("link set {port} master br0"), format!("link set {port} up")])
    }

    /// The facts that a virtual machine needs to be a peer.
    ///
    /// # Panics
    /// The name is no peer's.
    pub fn guest(&self, peer: &str) -> Guest {
        let (tap, mac) = (format!("p-{peer}"), local_mac(&self.netns(peer), "eth0"));
        Guest { commands: self.subnet.commands(host(peer), "eth0"), tap, mac }
    }

    /// A device's MAC address.
    ///
    /// # Panics
    /// The device has no MAC address.
    #[track_caller]
    pub fn mac(&self, of: &str, device: &str) -> String {
        let text = self.ip(of, &format!("-o link show {device}"));
        let mut words = text.split_whitespace().skip_while(|word| *word != "link/ether");
        words.nth(1).unwrap_or_else(|| panic!("{device} has no MAC address: {text}")).to_owned()
    }

    /// A tap in a namespace, by the file through which its frames pass; [`crate::open_tap`] describes it.
    ///
    /// # Panics
    /// The tap can't be made.
    pub fn tap(&self, of: &str, name: &str) -> File {
        expect(self.within(of, || tap::open_tap(name)))
    }

    /// Starts a program that ends with the lab, or with the thread that starts it; its output goes to `<name>.log` in the
    /// lab's folder.
    ///
    /// # Errors
    /// The program can't be started.
    pub fn start(&mut self, name: &str, command: &mut Command) -> Result<(), Error> {
        let log = self.folder().join(format!("{name}.log"));
        self.processes.push(Process::start(name, command, &log)?);
        Ok(())
    }

    /// The programs of the lab, in the order in which they were started.
    pub fn processes(&self) -> &[Process] {
        &self.processes
    }

    /// Kills the programs of the lab.
    pub fn end_processes(&mut self) {
        self.processes.iter_mut().for_each(Process::kill);
        self.processes.clear();
    }

    /// Fails if a program of the lab has ended, with the end of its log, or if the user has asked to stop.
    ///
    /// # Errors
    /// A program has ended, or the user has asked to stop.
    pub fn check(&mut self) -> Result<(), Error> {
        if (self.interrupted)() {
            return Err(Error::Interrupted);
        }
        self.processes.iter_mut().try_for_each(Process::check)
    }

    /// Tries again and again until it succeeds, a program has died, the user asks to stop, or time is over.
    ///
    /// # Errors
    /// A program has died, the user asks to stop, or time is over; the error has the last failure and the
    /// ends of all logs.
    pub fn wait_until<E: std::fmt::Display>(
        &mut self,
        what: &str,
        limit: Duration,
        mut done: impl FnMut(&Self) -> Result<(), E>,
    ) -> Result<(), Error> {
        let end = Instant::now() + limit;
        loop {
            self.check()?;
            match done(self) {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > end => {
                    let logs: Vec<String> = self.processes.iter().map(Process::log_end).collect();
                    let (what, why) = (what.to_owned(), format!("{error:#}"));
                    return Err(Error::Late { what, limit, why, logs: logs.join("\n") });
                }
                Err(_) => std::thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    /// Sends an HTTP request from a namespace: the status, and everything behind the status line.
    ///
    /// # Errors
    /// No answer came.
    pub fn request(
        &self,
        of: &str,
        to: (IpAddr, u16),
        request: &http::Request<'_>,
    ) -> Result<(u16, String), Error> {
        self.within(of, || http::over_tcp(to.into(), request))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // All are asked first, so that they end side by side; each is waited for when it is dropped.
        self.processes.iter().rev().for_each(Process::ask_to_end);
    }
}

/// The host number of a peer or the client.
fn host(of: &str) -> u8 {
    if of == CLIENT {
        return CLIENT_HOST;
    }
    let number = of.strip_prefix('n').and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("{of} is neither a peer nor the client"))
}

/// A locally administered MAC address for a device, drawn from its namespace's name and its own.
fn local_mac(netns: &str, device: &str) -> String {
    let mut hasher = DefaultHasher::new();
    (netns, device).hash(&mut hasher);
    let drawn = hasher.finish().to_be_bytes();
    let octets: Vec<String> = drawn[..5].iter().map(|octet| format!("{octet:02x}")).collect();
    format!("02:{}", octets.join(":"))
}
