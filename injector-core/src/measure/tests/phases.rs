//! The phases of a recovery, and when a link carries traffic again.

use super::*;

#[test]
fn phases_add_up_and_name_the_last_link() {
    let samples = life(20, fails_in(&[(0, 900)]));
    let mut all = evidence(vec![endpoint("a@n1", &samples)], 14_000);
    let mut slow = link(2);
    "n3".clone_into(&mut slow.src);
    slow.first_packet_ns = Some(healed(300));
    slow.first_synack_ns = Some(healed(310));
    slow.first_data_ns = Some(healed(600));
    all.links[0].first_packet_ns = Some(healed(100));
    // A reconnect long after settled had no part in it.
    all.links[0].first_synack_ns = Some(healed(9000));
    let mut silent = link(0);
    silent.first_packet_ns = Some(healed(800));
    all.links.extend([slow, silent]);
    let seen = record(&all).phases;
    let lengths = [seen.silence_ns, seen.reconnect_ns, seen.return_ns, seen.relapse_ns, seen.after_links_ns];
    assert_eq!(lengths.map(ms), [Some(300), Some(10), Some(591), Some(0), Some(591)]);
    assert_eq!(seen.last_synack_ns, Some(healed(9000)), "evidence, also where it came too late");
    assert_eq!(seen.last_link, Some(NamedLink { src: "n3".to_owned(), dst: "n2".to_owned() }));
    // Without any handshake the next phase is counted from the last boundary there is.
    all.links[1].first_synack_ns = None;
    let seen = record(&all).phases;
    assert_eq!(
        [seen.reconnect_ns, seen.return_ns, seen.after_links_ns].map(ms),
        [Some(300), Some(301), Some(301)]
    );
    all.links[1].first_data_ns = None;
    let seen = record(&all).phases;
    assert_eq!([seen.reconnect_ns, seen.return_ns, seen.after_links_ns].map(ms), [None, Some(601), None]);
}

/// Peer n3 answers nobody before the end of the watch: the links were not back when n2's was.
#[test]
fn a_link_that_never_carries_leaves_the_reconnect_unknown() {
    let samples = life(20, fails_in(&[(0, 2000)]));
    let mut all = evidence(vec![endpoint("a@n1", &samples)], 16_000);
    let stamped = |src: &str, dst: &str, dropped, packet: Option<u64>, exchange: Option<u64>| LinkRecord {
        src: src.to_owned(),
        dst: dst.to_owned(),
        first_packet_ns: packet.map(healed),
        first_data_ns: packet.map(healed),
        first_exchange_ns: exchange.map(healed),
        ..link(dropped)
    };
    all.links = vec![
        stamped("n1", "n2", 18, Some(667), Some(717)),
        stamped("n1", "n3", 19, Some(7), None),
        stamped("n2", "n1", 0, Some(668), Some(668)),
        stamped("n3", "n1", 0, None, None),
    ];
    let seen = record(&all).phases;
    assert_eq!([seen.silence_ns, seen.reconnect_ns, seen.after_links_ns].map(ms), [Some(667), None, None]);
    assert_eq!([seen.return_ns, seen.relapse_ns].map(ms), [Some(1334), Some(0)], "counted from the silence");
    assert_eq!(seen.last_link, Some(NamedLink { src: "n1".to_owned(), dst: "n2".to_owned() }));

    // n3 sends nothing to n1 either way: without traffic that was cut, its link holds nothing up.
    all.links[1].dropped_packets = Some(0);
    let seen = record(&all).phases;
    assert_eq!(
        [seen.silence_ns, seen.reconnect_ns, seen.return_ns, seen.after_links_ns].map(ms),
        [Some(667), Some(1), Some(1333), Some(1333)]
    );

    // Nobody tried on a link that was cut: the silence never ended.
    (all.links[1].dropped_packets, all.links[1].first_packet_ns) = (Some(19), None);
    let seen = record(&all).phases;
    assert_eq!([seen.silence_ns, seen.reconnect_ns, seen.return_ns].map(ms), [None, None, Some(2001)]);
    assert_eq!(seen.last_link, None);

    // It is not known whether anything was dropped on it.
    all.links[1] = LinkRecord { dropped_packets: None, ..stamped("n1", "n3", 0, Some(7), None) };
    let seen = record(&all).phases;
    assert_eq!([seen.silence_ns, seen.reconnect_ns, seen.after_links_ns], [None; 3]);
}

#[test]
fn a_link_carries_from_a_handshake_or_from_payload_both_ways() {
    let samples = life(20, fails_in(&[(0, 900)]));
    let pair = |there: [Option<u64>; 2], back: [Option<u64>; 2]| {
        let mut all = evidence(vec![endpoint("a@n1", &samples)], 14_000);
        let mut other = link(3);
        std::mem::swap(&mut other.src, &mut other.dst);
        all.links.push(other);
        for (link, [synack, exchange]) in all.links.iter_mut().zip([there, back]) {
            (link.first_synack_ns, link.first_exchange_ns) = (synack.map(healed), exchange.map(healed));
            // Payload alone, as of a retransmission, is no sign of it.
            link.first_data_ns = Some(healed(1));
        }
        let seen = record(&all);
        assert_eq!(seen.links[0].reconnected_ns, seen.links[1].reconnected_ns);
        ms(seen.links[0].reconnected_ns.and_then(|at| at.since(healed(0))))
    };
    // An old connection continues at 40 ms; the handshake of another one moves nothing.
    assert_eq!(pair([None, None], [Some(700), Some(40)]), Some(40));
    assert_eq!(pair([Some(30), Some(50)], [None, Some(60)]), Some(30));
    // Retransmissions both ways, on connections that the other end has given up.
    assert_eq!(pair([None, None], [None, None]), None);
    // In a one-way cut the other direction is no link of the partition.
    let mut all = evidence(vec![endpoint("a@n1", &samples)], 14_000);
    all.links[0].first_data_ns = Some(healed(20));
    assert_eq!(record(&all).links[0].reconnected_ns, Some(healed(20)));
}

#[test]
fn an_endpoint_that_was_never_out_moves_no_phase() {
    let out = life(20, fails_in(&[(0, 500)]));
    let mut never = life(20, fails_in(&[]));
    for sample in &mut never {
        sample.failure = None;
        // Slower than the others' whole recovery.
        sample.done = sample.scheduled + Duration::from_millis(700);
    }
    never.retain(|sample| (sample.scheduled.0 / MS).is_multiple_of(1000));
    let mut slow = endpoint("b@n2", &never);
    slow.interval = Span::secs(1);
    let mut all = evidence(vec![endpoint("a@n1", &out), slow], 16_000);
    all.links[0].first_packet_ns = Some(healed(100));
    let seen = record(&all);
    assert_eq!(seen.endpoints[1].settled_ns, Some(healed(0)));
    assert_eq!(ms(seen.heal_to_settled_ns), Some(501));
    assert_eq!(ms(seen.heal_to_ready_ns), Some(501), "ready is not after settled");
    assert_eq!([seen.phases.return_ns, seen.phases.relapse_ns].map(ms), [Some(401), Some(0)]);
}

#[test]
fn the_outage_of_a_relapse_is_not_known_where_an_endpoint_was_not_healthy_before() {
    let relapsing = fails_in(&[(0, 500), (3000, 3500)]);
    let known = life(20, &relapsing);
    let seen = record(&evidence(vec![endpoint("a@n1", &known)], 17_000));
    assert_eq!(ms(seen.phases.relapse_out_ns), Some(501), "{:?}", seen.phases);
    // It fails before the cut too, so that nobody can say what the cut did to it.
    let mut unhealthy = known.clone();
    for sample in unhealthy.iter_mut().filter(|sample| sample.scheduled < at(CUT)) {
        sample.failure = Some(planted());
    }
    let served = life(20, fails_in(&[(0, 500)]));
    for other in [&known, &served] {
        let endpoints = vec![endpoint("a@n1", &unhealthy), endpoint("a@n2", other)];
        let seen = record(&evidence(endpoints, 17_000));
        assert_eq!(seen.endpoints[0].outage, None);
        assert!(seen.phases.relapse_ns > Some(0), "{:?}", seen.phases);
        assert_eq!(seen.phases.relapse_out_ns, None, "503 in the relapse is no 0");
    }
    // An endpoint that gates nothing takes nothing away.
    let mut advisory = endpoint("b@n2", &unhealthy);
    advisory.required = false;
    let seen = record(&evidence(vec![endpoint("a@n1", &known), advisory], 17_000));
    assert_eq!(ms(seen.phases.relapse_out_ns), Some(501));
}

#[test]
fn very_many_links_are_judged_well_within_the_lease() {
    let mut all = evidence(Vec::new(), 14_000);
    all.links = (0..10_000)
        .flat_map(|at| {
            let (src, dst) = (format!("p{at}"), "hub".to_owned());
            let there = LinkRecord { src: src.clone(), dst: dst.clone(), ..link(1) };
            let back = LinkRecord { src: dst, dst: src, first_synack_ns: Some(healed(at)), ..link(1) };
            [there, back]
        })
        .collect();
    let begun = std::time::Instant::now();
    let seen = record(&all);
    let took = begun.elapsed();
    assert_eq!(seen.links[2 * 9_999].reconnected_ns, Some(healed(9_999)));
    // Judging holds up the daemon's task, and every cut ends if that does not renew the lease within 2 s.
    assert!(took < Duration::from_secs(2), "20,000 links took {took:?}");
}
