//! A real Prometheus reads the daemon by TCP, and answers every query of the sample dashboard.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use injector_core::api::Outcome;
use injector_lab::http::Request;
use injector_lab::{CLIENT, http, needs};
use serde_json::Value;

use crate::dashboard::queries;
use crate::{Fixture, LISTEN};

const SERVER: &str = "127.0.0.1:9090";

/// Percent-encodes a query.
fn encoded(query: &str) -> String {
    query.bytes().fold(String::new(), |mut text, byte| {
        write!(text, "%{byte:02X}").unwrap();
        text
    })
}

fn ask(query: &str) -> Value {
    let server: SocketAddr = SERVER.parse().unwrap();
    let path = format!("/api/v1/query?query={}", encoded(query));
    let (status, rest) = http::over_tcp(server, &Request::get(&path)).unwrap();
    let answer: Value =
        serde_json::from_str(http::body(&rest)).unwrap_or_else(|error| panic!("{error}: {rest}"));
    assert!(status == 200 && answer["status"] == "success", "{query}: {status} {answer}");
    answer["data"]["result"].clone()
}

#[test]
#[needs(root, program = "prometheus")]
fn a_prometheus_reads_the_daemon_and_answers_the_dashboard() {
    let mut fixture = Fixture::new("");
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("prometheus.yml");
    std::fs::write(
        &config,
        format!(
            "global: {{ scrape_interval: 1s }}\nscrape_configs:\n  - job_name: injector\n    static_configs: [{{ targets: \
             [\"{LISTEN}\"] }}]\n"
        ),
    )
    .unwrap();
    let mut command = fixture.lab.command(CLIENT, injector_lab::program("prometheus").unwrap());
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
    command.arg(format!("--web.listen-address={SERVER}"));
    fixture.lab.start("prometheus", &mut command).unwrap();
    let lab = &fixture.lab;
    lab.within(CLIENT, || {
        injector_lab::until("Prometheus is ready", || {
            let is_there = http::over_tcp(SERVER.parse().unwrap(), &Request::get("/-/ready"));
            is_there.is_ok_and(|(status, _)| status == 200).then_some(())
        });
        injector_lab::until("Prometheus reads the daemon", || {
            ask("up{job=\"injector\"} == 1").as_array().is_some_and(|found| !found.is_empty()).then_some(())
        });
    });
    // The series of a shape begin with its first cut: they are read before the second, which is seen as an increase.
    for (name, count) in [("first", 1), ("p", 2)] {
        assert_eq!(fixture.cut(name), Outcome::Recovered);
        lab.within(CLIENT, || {
            injector_lab::until("Prometheus reads the cut", || {
                let found = ask(&format!("injector_cuts_total{{shape=\"isolate\"}} == {count}"));
                found.as_array().is_some_and(|found| !found.is_empty()).then_some(())
            });
        });
    }
    // For rates, several readings.
    std::thread::sleep(Duration::from_secs(3));
    lab.within(CLIENT, || {
        for (at, query) in queries() {
            let query = query.replace("$__rate_interval", "1m").replace("$__range", "1m");
            let found = ask(&query);
            // Nothing was late or undecided, and nothing is out: these have no samples, or zeros.
            let may_be_empty =
                ["Endpoints out of service", "Interfaces without programs", "Late or undecided"];
            let is_empty = found.as_array().is_none_or(Vec::is_empty);
            assert!(!is_empty || may_be_empty.contains(&at.as_str()), "{at}: {query} finds nothing");
        }
        let cuts = ask("sum by (shape) (increase(injector_cuts_total[1m])) > 0");
        assert_eq!(cuts.as_array().unwrap().len(), 1, "one shape was cut: {cuts}");
        assert_eq!(cuts[0]["metric"]["shape"], "isolate", "{cuts}");
    });
    // Its own tool finds nothing to say about the text.
    let text = lab.within(CLIENT, || http::over_tcp(LISTEN.parse().unwrap(), &Request::get("/metrics")));
    let text = http::body(&text.unwrap().1).to_owned();
    let file = folder.path().join("metrics");
    std::fs::write(&file, text).unwrap();
    let promtool = injector_lab::program("promtool").unwrap();
    let output = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(std::fs::File::open(&file).unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}
