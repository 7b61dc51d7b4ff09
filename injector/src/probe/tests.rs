//! The probes against real servers on loopback.

use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::test_server::{
    GrpcAnswer, answer, call, endpoint, get, grpc, on_one_thread, read_head, reported, run_for, serve,
};
use super::*;
use injector_client::process_group::Group;
use injector_core::config::{ExecCommand, HttpProbe, TcpProbe};
use injector_core::config::{JsonValue, Target};
use injector_core::model::Connection;
use injector_core::sample::FailureCode;
use injector_lab::in_time;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const HEALTH: &str = "grpc.health.v1.Health/Check";
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];
const NOW: Duration = Duration::ZERO;

fn grid_is_even(samples: &[Sample], interval: Duration) {
    for pair in samples.windows(2) {
        assert_eq!(pair[1].scheduled.saturating_since(pair[0].scheduled), interval);
    }
}

fn failure(config: &Endpoint) -> String {
    on_one_thread(once(EndpointId(3), config, Some("n1"))).failure.expect("a failure").text.to_string()
}

fn tcp(target: &str) -> ProbeKind {
    ProbeKind::Tcp(TcpProbe { target: Target::Host(target.to_owned()), tls: None, exchange: None })
}

/// Serves every connection with fixed pieces and probes it once.
fn once_against(pieces: Vec<(Duration, &'static str)>, change: impl Fn(&mut Endpoint)) -> Sample {
    on_one_thread(async {
        let (address, _) = serve(move |stream| answer(stream, pieces.clone())).await;
        let mut config = endpoint(address, get(address));
        change(&mut config);
        once(EndpointId(3), &config, Some("n1")).await
    })
}

fn took(sample: &Sample) -> Duration {
    sample.done.saturating_since(sample.scheduled)
}

#[test]
fn a_hanging_server_delays_neither_the_grid_nor_the_stamp() {
    in_time(Duration::from_millis(10), || {
        on_one_thread(async {
            // Hangs as a whole: nothing is answered before 900 ms after its start.
            let begin = MonoNs::now();
            let start = tokio::time::Instant::now();
            let (address, _) = serve(move |stream| async move {
                tokio::time::sleep_until(start + Duration::from_millis(900)).await;
                answer(stream, vec![(NOW, OK)]).await;
            })
            .await;
            let samples = run_for(endpoint(address, get(address)), Duration::from_millis(1200)).await;
            grid_is_even(&samples, Duration::from_millis(10));
            assert!(samples.len() >= 115, "{}", samples.len());
            assert!(samples.iter().all(|sample| sample.failure.is_none()), "{samples:?}");
            let first = &samples[0];
            assert!(first.scheduled.saturating_since(begin) < Duration::from_millis(300));
            assert!(took(first) >= Duration::from_millis(590), "{first:?}");
            for sample in
                samples.iter().filter(|sample| sample.scheduled.saturating_since(begin).as_millis() < 800)
            {
                let answered = sample.done.saturating_since(begin);
                assert!(answered >= Duration::from_millis(890), "ready too early: {sample:?}");
                let late = sample.begun.saturating_since(sample.scheduled);
                assert!(late < Duration::from_millis(300), "waited for an earlier answer: {sample:?}");
            }
        });
    });
}

#[test]
fn an_answer_is_stamped_at_its_last_byte() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n";
    let wait = Duration::from_millis(100);
    let sample = once_against(vec![(NOW, head), (wait, "ab"), (wait, "cd"), (wait, "ef")], |_| ());
    assert_eq!(sample.failure, None);
    assert_eq!(sample.endpoint, EndpointId(3));
    assert!(took(&sample) >= Duration::from_millis(300), "{sample:?}");
}

#[test]
fn a_body_that_is_cut_short_is_a_failure() {
    let sample = on_one_thread(async {
        let (address, _) = serve(|mut stream| async move {
            read_head(&mut stream).await;
            tokio::io::AsyncWriteExt::write_all(
                &mut stream,
                b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab",
            )
            .await
            .unwrap();
        })
        .await;
        once(EndpointId(0), &endpoint(address, get(address)), None).await
    });
    assert!(sample.failure.unwrap().text.contains("end of file"));
}

#[test]
fn failures_are_told_in_few_words() {
    // Nobody listens on it, and nobody else gets its port.
    let bound = tokio::net::TcpSocket::new_v4().unwrap();
    bound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let refused = bound.local_addr().unwrap();
    assert_eq!(failure(&endpoint(refused, get(refused))), "connect: connection refused");
    assert_eq!(
        failure(&endpoint(refused, tcp(&format!("{{address}}:{}", refused.port())))),
        "connect: connection refused"
    );
    assert_eq!(failure(&endpoint(refused, call(refused, HEALTH))), "connect: connection refused");
    assert!(failure(&endpoint(refused, tcp("example.org:80"))).contains("is not an address"));

    let bad = vec![(NOW, "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n")];
    let failure = once_against(bad.clone(), |_| ()).failure.unwrap();
    assert_eq!((failure.code, &*failure.text), (FailureCode::Answer, "status 503, expected 2xx"));
    let expect = |wanted: u16, text: Option<&'static str>| {
        move |config: &mut Endpoint| {
            if let ProbeKind::Http(HttpProbe { expect, .. }) = &mut config.probe.kind {
                expect.status = wanted.into();
                expect.body_contains = text.map(Into::into);
            }
        }
    };
    assert_eq!(once_against(bad, expect(503, None)).failure, None);
    let ok = vec![(NOW, OK)];
    assert_eq!(
        once_against(ok.clone(), expect(201, None)).failure.unwrap().text.to_string(),
        "status 200, expected 201"
    );
    assert_eq!(
        once_against(ok.clone(), expect(200, Some("ready"))).failure.unwrap().text.to_string(),
        "body without \"ready\""
    );
    assert_eq!(once_against(ok.clone(), expect(200, Some("k"))).failure, None);
    let json = |equals: &'static str| {
        move |config: &mut Endpoint| {
            if let ProbeKind::Http(HttpProbe { expect, .. }) = &mut config.probe.kind {
                let value = JsonValue { pointer: "/up".to_owned(), equals: equals.to_owned() };
                expect.json = Some(value);
            }
        }
    };
    let up = vec![(NOW, "HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n{\"up"), (NOW, "\": true}")];
    assert_eq!(once_against(up.clone(), json("true")).failure, None);
    let failure = once_against(up, json("false")).failure.unwrap();
    assert_eq!((failure.code, &*failure.text), (FailureCode::Answer, "/up is \"true\", expected \"false\""));
    let slow = vec![(Duration::from_secs(5), OK)];
    // A longer interval is also how late a busy machine may be.
    let sample = once_against(slow, |config| {
        config.probe.options.timeout = Span::millis(150);
        config.probe.options.interval = Span::secs(60);
    });
    let failure = sample.failure.as_ref().unwrap();
    assert_eq!((failure.code, &*failure.text), (FailureCode::Timeout, "timeout after 150ms"));
    assert!(took(&sample) >= Duration::from_millis(150));
}

#[test]
fn requests_carry_what_the_config_says_and_nothing_else() {
    let heads = on_one_thread(async {
        let (sender, mut heads) = mpsc::unbounded_channel();
        let (address, _) = serve(move |mut stream| {
            let sender = sender.clone();
            async move {
                sender.send(read_head(&mut stream).await).unwrap();
                tokio::io::AsyncWriteExt::write_all(&mut stream, OK.as_bytes()).await.unwrap();
            }
        })
        .await;
        let mut config = endpoint(address, get(address));
        if let ProbeKind::Http(HttpProbe { request, .. }) = &mut config.probe.kind {
            "POST".clone_into(&mut request.method);
            request.headers.insert("x-key".to_owned(), "k{seq}".into());
        }
        let prober = Prober::new(EndpointId(0), &config, Some("n1"));
        for _ in 0..2 {
            assert_eq!(prober.sample(MonoNs::now()).await.failure, None);
        }
        [heads.recv().await.unwrap(), heads.recv().await.unwrap()].map(|head| (head, address))
    });
    for (seq, (head, address)) in heads.into_iter().enumerate() {
        let lines: Vec<&str> = head.trim_end().split("\r\n").collect();
        assert_eq!(lines[0], format!("POST /n1/{seq} HTTP/1.1"));
        let mut rest = lines[1..].to_vec();
        rest.sort_unstable();
        assert_eq!(rest, ["content-length: 0", &format!("host: {address}"), &format!("x-key: k{seq}")]);
    }
}

#[test]
fn pooled_connections_are_kept_and_made_anew() {
    on_one_thread(async {
        // Each connection serves three answers, then closes.
        let (address, accepted) = serve(|mut stream| async move {
            for _ in 0..3 {
                read_head(&mut stream).await;
                if tokio::io::AsyncWriteExt::write_all(&mut stream, OK.as_bytes()).await.is_err() {
                    return;
                }
            }
        })
        .await;
        let mut config = endpoint(address, get(address));
        config.probe.options.connection = Connection::Pooled;
        let prober = Prober::new(EndpointId(0), &config, None);
        for probe in 0..9 {
            assert_eq!(prober.sample(MonoNs::now()).await.failure, None, "probe {probe}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(accepted.get(), 3);

        let fresh = Prober::new(EndpointId(0), &endpoint(address, get(address)), None);
        for _ in 0..3 {
            assert_eq!(fresh.sample(MonoNs::now()).await.failure, None);
        }
        assert_eq!(accepted.get(), 6);
    });
}

fn grpc_once(method: &str, planted: GrpcAnswer) -> Option<String> {
    on_one_thread(async {
        let (address, _) = serve(move |stream| grpc(stream, planted)).await;
        let sample = once(EndpointId(0), &endpoint(address, call(address, method)), None).await;
        assert!(took(&sample) >= planted.delay);
        sample.failure.map(|failure| failure.text.to_string())
    })
}

#[test]
fn grpc_needs_status_zero_a_message_and_serving() {
    let ok = GrpcAnswer { body: SERVING, status: Some("0"), delay: NOW };
    assert_eq!(grpc_once(HEALTH, ok), None);
    assert_eq!(grpc_once(HEALTH, GrpcAnswer { delay: Duration::from_millis(200), ..ok }), None);
    assert_eq!(grpc_once("a.B/C", GrpcAnswer { body: &[0, 0, 0, 0, 0], ..ok }), None);
    for (method, planted, expected) in [
        (HEALTH, GrpcAnswer { status: Some("14"), ..ok }, "grpc-status 14: planted"),
        (
            HEALTH,
            GrpcAnswer { body: &[0, 0, 0, 0, 2, 8, 2], ..ok },
            "health is NOT_SERVING, expected SERVING",
        ),
        (HEALTH, GrpcAnswer { body: &[0, 0, 0, 0, 0], ..ok }, "health is UNKNOWN, expected SERVING"),
        ("a.B/C", GrpcAnswer { body: b"", ..ok }, "grpc answer without a complete message"),
        (
            "a.B/C",
            GrpcAnswer { status: None, ..ok },
            "no grpc-status: the answer is not gRPC or was cut short",
        ),
    ] {
        assert_eq!(grpc_once(method, planted).as_deref(), Some(expected));
    }
}

#[test]
fn pooled_grpc_shares_one_connection_until_it_fails() {
    in_time(Duration::from_millis(100), || {
        on_one_thread(async {
            let planted = GrpcAnswer { body: SERVING, status: Some("0"), delay: NOW };
            let (address, accepted) = serve(move |stream| grpc(stream, planted)).await;
            let mut config = endpoint(address, call(address, HEALTH));
            config.probe.options.connection = Connection::Pooled;
            let prober = Prober::new(EndpointId(0), &config, None);
            for _ in 0..5 {
                assert_eq!(prober.sample(MonoNs::now()).await.failure, None);
            }
            assert_eq!(accepted.get(), 1);

            let slow = GrpcAnswer { delay: Duration::from_secs(5), ..planted };
            let (address, accepted) = serve(move |stream| grpc(stream, slow)).await;
            let mut config = endpoint(address, call(address, HEALTH));
            config.probe.options.connection = Connection::Pooled;
            config.probe.options.timeout = Span::millis(100);
            let prober = Prober::new(EndpointId(0), &config, None);
            for expected in 1..=2 {
                assert_eq!(
                    prober
                        .sample(MonoNs::now())
                        .await
                        .failure
                        .map(|failure| failure.text.to_string())
                        .as_deref(),
                    Some("timeout after 100ms")
                );
                assert_eq!(accepted.get(), expected, "a stuck connection is not used again");
            }
        });
    });
}

fn command(command: &[&str], user: Option<&str>, timeout: Span) -> Endpoint {
    let kind = ProbeKind::Exec(ExecCommand {
        command: command.iter().map(|&word| word.to_owned()).collect(),
        user: user.map(str::to_owned),
        env: std::collections::BTreeMap::from([("MINE".to_owned(), "{peer}".into())]),
    });
    let mut config = endpoint("10.0.0.1:1".parse().unwrap(), kind);
    config.probe.options.timeout = timeout;
    config
}

fn exec(words: &[&str], user: Option<&str>, timeout: Span) -> Sample {
    on_one_thread(once(EndpointId(0), &command(words, user, timeout), Some("n1")))
}

/// Starts that hang until what this returns is dropped; all of them have begun.
async fn hanging_starts(endpoints: std::ops::Range<usize>) -> Vec<std::sync::mpsc::Sender<()>> {
    let (notify, mut begun) = mpsc::unbounded_channel();
    let mut held = Vec::new();
    for endpoint in endpoints.clone() {
        let (release, wait) = std::sync::mpsc::channel::<()>();
        held.push(release);
        let notify = notify.clone();
        let hang = move || {
            let _ = notify.send(());
            let _ = wait.recv();
            Err::<Group, ()>(())
        };
        tokio::task::spawn_local(async move {
            let asker = Asker::Endpoint(EndpointId(endpoint));
            let end = tokio::time::Instant::now() + Duration::from_mins(1);
            let _ = starter::start(&asker, end, hang).await;
        });
    }
    for _ in endpoints {
        begun.recv().await.unwrap();
    }
    held
}

fn unsent(sample: &Sample, why: &str) {
    let failure = sample.failure.as_ref().unwrap();
    assert_eq!(failure.code, FailureCode::Unsent);
    assert_eq!(*failure.text, *format!("true was not started within 200ms: {why}"));
}

#[test]
fn a_start_that_hangs_holds_up_commands_of_its_own_endpoint_alone() {
    let truth = command(&["true"], None, Span::millis(200));
    let patient = command(&["true"], None, Span::secs(20));
    on_one_thread(async {
        let held = hanging_starts(0..1).await;
        for _ in 0..3 {
            let sample = once(EndpointId(0), &truth, None).await;
            unsent(&sample, "an earlier start of it has not ended");
        }
        assert_eq!(once(EndpointId(1), &patient, None).await.failure, None);
        drop(held);
        assert_eq!(once(EndpointId(0), &patient, None).await.failure, None);
    });
}

#[test]
fn where_too_many_starts_hang_a_command_is_not_sent() {
    let truth = command(&["true"], None, Span::millis(200));
    let patient = command(&["true"], None, Span::secs(20));
    on_one_thread(async {
        let held = hanging_starts(0..starter::MOST).await;
        let another = EndpointId(starter::MOST);
        let sample = once(another, &truth, None).await;
        unsent(&sample, "64 other commands are being started in its network namespace");
        drop(held);
        assert_eq!(once(another, &patient, None).await.failure, None);
    });
}

#[test]
fn exec_tells_exit_code_user_and_environment() {
    let long = Span::secs(20);
    let script = "test \"$PEER/$ADDRESS/$SEQ/$0\" = n1/10.0.0.1/0/10.0.0.1-n1-0";
    assert_eq!(exec(&["sh", "-c", script, "{address}-{peer}-{seq}"], None, long).failure, None);
    // The command gets nothing of this process's own environment, which cargo fills, but PATH.
    let script = "env | grep -v -e ^PWD= -e ^SHLVL= -e ^_= | sed 's/=.*//' | sort | tr '\\n' ' ' | \
                  grep -qx 'ADDRESS MINE PATH PEER SEQ ' && test $MINE = n1";
    assert_eq!(exec(&["sh", "-c", script], None, long).failure, None);
    assert_eq!(exec(&["sh", "-c", "exit 3"], None, long).failure.unwrap().text.to_string(), "exit code 3");
    assert_eq!(
        exec(&["sh", "-c", "kill -9 $$"], None, long).failure.unwrap().text.to_string(),
        "killed by signal 9"
    );
    assert_eq!(
        exec(&["/no/such"], None, long).failure.unwrap().text.to_string(),
        "run /no/such: no such file or directory"
    );
    let nobody = exec(&["true"], Some("no-such-user"), long).failure.unwrap().text;
    assert_eq!(&*nobody, "no user \"no-such-user\" on this host");
    if nix::unistd::geteuid().is_root() {
        let script = "test \"$(id -un)\" = nobody && test \"$(id -G)\" = \"$(id -G nobody)\"";
        assert_eq!(exec(&["sh", "-c", script], Some("nobody"), long).failure, None);
    }
}

#[test]
fn exec_kills_the_whole_group_at_its_timeout() {
    in_time(Duration::from_millis(200), || {
        let folder = tempfile::tempdir().unwrap();
        let pids = folder.path().join("pids");
        let script = format!("sleep 60 & echo $! > {}; wait", pids.display());
        let sample = exec(&["sh", "-c", &script], None, Span::millis(700));
        let failure = sample.failure.as_ref().unwrap();
        assert_eq!((failure.code, &*failure.text), (FailureCode::Timeout, "timeout after 700ms"));
        let pid: i32 = std::fs::read_to_string(&pids).unwrap().trim().parse().unwrap();
        let gone = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            // A killed process may stay as a zombie until its new parent reaps it.
            std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
        });
        assert!(gone, "the grandchild {pid} is still alive");
    });
}

#[test]
fn a_late_prober_still_reports_every_tick() {
    in_time(Duration::from_millis(10), || {
        on_one_thread(async {
            let (address, _) = serve(|stream| answer(stream, vec![(NOW, OK)])).await;
            let mut config = endpoint(address, get(address));
            config.probe.options.interval = Span::millis(2);
            let (rate, rates) = watch::channel(Rate::Full);
            let (sink, mut results) = mpsc::unbounded_channel();
            let task = tokio::task::spawn_local(run(EndpointId(0), config, None, rates, sink));
            tokio::time::sleep(Duration::from_millis(50)).await;
            // The one thread is stopped for 250 ticks: 100 are sent late, the others are reported.
            std::thread::sleep(Duration::from_millis(500));
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(rate);
            task.await.unwrap();
            let samples = reported(&mut results);
            grid_is_even(&samples, Duration::from_millis(2));
            let unsent: Vec<&Sample> = samples.iter().filter(|sample| sample.is_unsent()).collect();
            assert!(unsent.len() >= 140, "{}", unsent.len());
            let sent_late = samples
                .iter()
                .filter(|sample| {
                    sample.failure.is_none()
                        && sample.begun.saturating_since(sample.scheduled).as_millis() > 20
                })
                .count();
            assert!(sent_late >= 50, "{sent_late}");
        });
    });
}

#[test]
fn a_rate_change_takes_effect_at_once() {
    in_time(Duration::from_millis(5), || {
        on_one_thread(async {
            let (address, _) = serve(|stream| answer(stream, vec![(NOW, OK)])).await;
            let (rate, rates) = watch::channel(Rate::Idle);
            let (sink, mut results) = mpsc::unbounded_channel();
            let config = endpoint(address, get(address));
            let task = tokio::task::spawn_local(run(EndpointId(0), config, None, rates, sink));
            let first = results.recv().await.unwrap();
            let second = results.recv().await.unwrap();
            assert_eq!(
                second.scheduled.saturating_since(first.scheduled),
                injector_core::sample::IDLE_INTERVAL.0
            );
            let changed = MonoNs::now();
            rate.send(Rate::Full).unwrap();
            let third = results.recv().await.unwrap();
            let fourth = results.recv().await.unwrap();
            assert!(third.scheduled >= changed);
            // Well before the next idle tick.
            assert!(third.scheduled.saturating_since(changed) < Duration::from_millis(250));
            assert_eq!(fourth.scheduled.saturating_since(third.scheduled), Duration::from_millis(10));
            drop(results);
            task.await.unwrap();
        });
    });
}
