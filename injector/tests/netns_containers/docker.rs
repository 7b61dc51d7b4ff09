//! Docker with an engine, storage and API of its own, in a namespace of the test's. Its containers serve HTTP.

use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use injector_lab::http::{Request, body, over_unix};
use injector_lab::{Lab, PATIENCE, Process};
use serde_json::{Value, json};

use crate::located::{Located, archive, web_server};
use crate::podman::{HOST, SERVE};

/// Where the engine makes a file, whatever its options.
const ETC: &str = "/etc/docker";
/// Has it make that file in a file system of its own.
const START: &str = "mount -t tmpfs docker /etc/docker && exec \"$@\"";

pub struct Docker {
    engine: Process,
    has_made_etc: bool,
    pub lab: Lab,
}

impl Docker {
    /// Starts one; `None` if this machine can't, which is logged as a skip of the test.
    pub fn up(test: &str) -> Option<Self> {
        let mut lab = Lab::builder("d").up().unwrap();
        lab.add(HOST);
        let has_made_etc = std::fs::create_dir(ETC).is_ok();
        let log = lab.folder().join("dockerd.log");
        let engine = lab.within(HOST, || Process::start("dockerd", &mut command(&lab), &log)).unwrap();
        let mut docker = Self { engine: engine.with_grace(PATIENCE), has_made_etc, lab };
        if !docker.is_ready() {
            let why = docker.engine.log_end().replace('\n', "; ");
            injector_lab::skip(test, &format!("dockerd does not start here: {why}"));
            return None;
        }
        let image = std::fs::read(archive(&web_server(docker.lab.folder()))).unwrap();
        docker.ok("POST", "/images/create?fromSrc=-&repo=web&tag=latest", &image);
        let subnet = json!({ "Config": [{ "Subnet": "10.77.78.0/24" }] });
        docker.ok(
            "POST",
            "/networks/create",
            json!({ "Name": "net", "IPAM": subnet }).to_string().as_bytes(),
        );
        docker.create("try");
        let (status, why) = docker.call("POST", "/containers/try/start", b"");
        if !(200..300).contains(&status) {
            injector_lab::skip(test, &format!("docker can't run a container here: {why}"));
            return None;
        }
        docker.ok("DELETE", "/containers/try?force=true", b"");
        Some(docker)
    }

    /// Waits until its API answers, or it has ended.
    fn is_ready(&mut self) -> bool {
        let end = Instant::now() + PATIENCE;
        while self.engine.ended().is_none() && Instant::now() < end {
            if UnixStream::connect(self.socket()).is_ok() && self.call("GET", "/_ping", b"").0 == 200 {
                return true;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    }

    /// Its API's socket.
    pub fn socket(&self) -> PathBuf {
        self.lab.folder().join("docker.sock")
    }

    /// A request; the status, and the body.
    fn call(&self, method: &str, path: &str, json: &[u8]) -> (u16, String) {
        let (status, rest) = over_unix(&self.socket(), &Request { method, path, json }).unwrap();
        (status, body(&rest).to_owned())
    }

    /// The same, which must succeed.
    #[track_caller]
    fn ok(&self, method: &str, path: &str, body: &[u8]) -> String {
        let (status, body) = self.call(method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {body}");
        body
    }

    fn create(&self, name: &str) {
        let words: Vec<&str> = SERVE.split(' ').collect();
        let about = json!({ "Image": "web", "Cmd": words, "HostConfig": { "NetworkMode": "net" } });
        self.ok("POST", &format!("/containers/create?name={name}"), about.to_string().as_bytes());
    }

    /// Starts a container that serves.
    #[track_caller]
    pub fn start(&self, name: &str) {
        self.create(name);
        self.ok("POST", &format!("/containers/{name}/start"), b"");
    }

    /// Restarts one, without waiting for it to end by itself.
    #[track_caller]
    pub fn restart(&self, name: &str) {
        self.ok("POST", &format!("/containers/{name}/restart?t=0"), b"");
    }

    /// The first process of a container, and its address.
    #[track_caller]
    pub fn located(&self, name: &str) -> (u32, IpAddr) {
        let about: Value =
            serde_json::from_str(&self.ok("GET", &format!("/containers/{name}/json"), b"")).unwrap();
        let address = about["NetworkSettings"]["Networks"]["net"]["IPAddress"].as_str().unwrap();
        (about["State"]["Pid"].as_u64().unwrap() as u32, address.parse().unwrap())
    }

    /// Asserts which containers reach each other: those on the same side, both ways.
    #[track_caller]
    pub fn assert_sides(&self, sides: &[&[&str]]) {
        let of = |name: &&str| ((*name).to_owned(), self.located(name));
        Located(sides.concat().iter().map(of).collect()).assert_sides(sides);
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        if self.has_made_etc {
            let _ = std::fs::remove_dir(ETC);
        }
        if self.engine.ended().is_some() {
            return;
        }
        let listed = self.call("GET", "/containers/json?all=true", b"").1;
        let listed: Value = serde_json::from_str(&listed).unwrap_or_default();
        for container in listed.as_array().into_iter().flatten() {
            let id = container["Id"].as_str().unwrap_or_default();
            let (status, why) = self.call("DELETE", &format!("/containers/{id}?force=true"), b"");
            if status >= 300 {
                eprintln!("a container stays behind: {why}");
            }
        }
    }
}

/// The engine, which starts a containerd of its own, and shares no folder with one that runs on this machine.
fn command(lab: &Lab) -> Command {
    let program = injector_lab::program("dockerd").unwrap();
    let of = |name: &str| lab.folder().join(name);
    std::fs::write(of("docker.json"), "{}").unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", START, "sh"]).arg(&program);
    for (option, path) in [
        ("--config-file", "docker.json"),
        ("--data-root", "data"),
        ("--exec-root", "exec"),
        ("--pidfile", "pid"),
    ] {
        command.arg(option).arg(of(path));
    }
    command.arg("--host").arg(format!("unix://{}", of("docker.sock").display()));
    command.args(["--containerd", "", "--storage-driver", "vfs", "--bridge", "none"]);
    command.args(["--iptables=false", "--ip6tables=false"]);
    // Unpacked and not installed, it has its other programs and its libraries beside it.
    let root = program.ancestors().nth(3).unwrap();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = ["usr/bin", "usr/sbin"].map(|folder| root.join(folder));
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let path = std::env::join_paths(folders.into_iter().chain(std::env::split_paths(&path)).chain(system));
    command.env("PATH", path.unwrap());
    if root != std::path::Path::new("/") {
        let libraries = format!("{}-linux-gnu", std::env::consts::ARCH);
        let folders = ["lib", "usr/lib"].map(|folder| root.join(folder).join(&libraries));
        command.env("LD_LIBRARY_PATH", std::env::join_paths(folders).unwrap());
    }
    command
}
