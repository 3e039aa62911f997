//! Sequences that aim at what is remembered: something changes between two packets of a flow that the fast path decided
//! about, and every difference that was ever found. Each is played over IPv4 and IPv6, VXLAN and Geneve; verdict, bytes and
//! counters are compared with the model as anywhere, and it is said here what has to come out.

use std::time::Duration;

use overlay::object::domain::DefaultPolicy;
use overlay::object::policy::{Action, Traffic};

use super::draft::Piece;
use super::hosts::{B, C, HERE, node, vtep};
use super::plan::Plan;
use super::rules;
use super::scene::{ACK, API, APP, FAR, FIN, LOST, RST, STORE, SYN, WEB, play, tcp, udp};
use super::world::World;

fn deny(plan: &mut Plan) {
    plan.policies = rules::only(Action::Deny, Traffic::Any);
}

/// Who connects with whom: both here, one elsewhere; in a network, and by the router.
const PAIRS: [(usize, usize); 6] = [
    (WEB, API),
    (WEB, FAR),
    (FAR, WEB),
    (WEB, APP),
    (WEB, STORE),
    (STORE, WEB),
];

#[test]
fn a_policy_holds_between_two_packets() {
    play(|at| {
        for (from, to) in PAIRS {
            let packets = at.connect(0, from, to);
            for (number, packet) in packets.iter().enumerate() {
                at.change("all is denied", &[0], |world| deny(&mut world.plans[0]));
                at.send(packet, "policy");
                at.send(packet, "policy");
                at.change("all is allowed", &[0], |world| world.plans[0].policies.clear());
                let to = if number == 0 { to } else { from };
                at.warm(packet, at.way(0, to));
            }
        }
    });
}

#[test]
fn a_policy_of_one_label_holds_at_once() {
    play(|at| {
        let one_way = |world: &mut World| {
            world.plans[0].policies = rules::one_way();
            world.plans[0].default_policy = DefaultPolicy::Deny;
        };
        at.change("web may open to api", &[0], one_way);
        let [forth, back] = at.connect(0, WEB, API);
        let other = at.between(0, API, WEB, udp(53, 53));
        at.send(&other, "policy");
        at.change("api loses its label", &[0], |world| {
            world.plans[0].endpoints[API].labels.clear()
        });
        at.send(&back, "policy");
        at.send(&forth, "policy");
        at.change("it has it again", &[0], |world| {
            world.plans[0].endpoints[API].labels.insert(API);
        });
        at.warm(&forth, "deliver");
        at.warm(&back, "deliver");
    });
}

#[test]
fn an_endpoint_moves_and_comes_back() {
    play(|at| {
        for (near, far, home, other) in [(WEB, FAR, B, C), (WEB, STORE, C, B)] {
            let [forth, back] = at.connect(0, near, far);
            for (host, old) in [(other, home), (home, other)] {
                at.change("it moves", &[0], |world| {
                    world.plans[0].endpoints[far].host = Some(host)
                });
                at.warm(&forth, "encapsulate");
                let from_there = at.between(0, far, near, tcp((80, 40_000), ACK));
                at.warm(&from_there, "deliver");
                assert_eq!(
                    from_there.packet == back.packet,
                    old == other,
                    "it comes from where it is"
                );
                if host == other {
                    at.send(&back, "wrong_vtep");
                }
            }
            at.change("it comes here", &[0], |world| {
                world.plans[0].endpoints[far].host = Some(HERE)
            });
            at.warm(&forth, "deliver");
            at.send(&back, "wrong_vtep");
            at.change("it goes home", &[0], |world| {
                world.plans[0].endpoints[far].host = Some(home)
            });
            at.warm(&forth, "encapsulate");
            at.warm(&back, "deliver");
        }
    });
}

#[test]
fn a_mac_address_gets_another_owner() {
    play(|at| {
        let [forth, back] = at.connect(0, WEB, API);
        let [out, into] = at.connect(0, WEB, FAR);
        at.change("api and far exchange their MAC addresses", &[0], |world| {
            let endpoints = &mut world.plans[0].endpoints;
            (endpoints[API].mac, endpoints[FAR].mac) = (endpoints[FAR].mac, endpoints[API].mac);
        });
        // Neither of them gets what is for the other's address.
        at.send(&forth, "destination_address");
        at.send(&back, "source_mac");
        at.send(&out, "destination_address");
        at.send(&into, "wrong_vtep");
        let forth = at.between(0, WEB, API, tcp((40_000, 80), ACK));
        at.warm(&forth, "deliver");
        let back = at.between(0, API, WEB, tcp((80, 40_000), ACK));
        at.warm(&back, "deliver");
    });
}

#[test]
fn an_address_gets_another_owner() {
    play(|at| {
        let [forth, back] = at.connect(0, APP, WEB);
        at.change("web and api exchange their addresses", &[0], |world| {
            let endpoints = &mut world.plans[0].endpoints;
            (endpoints[WEB].last, endpoints[API].last) = (endpoints[API].last, endpoints[WEB].last);
        });
        at.send(&back, "source_address");
        // Routed, it goes to whoever has the address.
        at.warm(&forth, "deliver");
        let from_api = at.between(0, API, APP, tcp((80, 40_000), ACK));
        at.warm(&from_api, "deliver");
    });
}

#[test]
fn a_domain_gets_the_numbers_of_another() {
    play(|at| {
        at.become_of("domains 1 and 2 go", &[1, 2], true, |world| {
            world.plans[1].gone = true;
            world.plans[2].gone = true;
        });
        at.change("domain 1 comes back", &[1], |world| world.plans[1].gone = false);
        let [_, back] = at.connect(1, WEB, API);
        let [_, into] = at.connect(1, WEB, FAR);
        at.become_of("domain 1 goes", &[1], true, |world| world.plans[1].gone = true);
        at.send(&back, "unknown_port");
        at.send(&into, "unknown_vni");
        at.change("domain 2 comes, by whose rules only web may open", &[2], |world| {
            world.plans[2].gone = false;
            world.plans[2].policies = rules::one_way();
            world.plans[2].default_policy = DefaultPolicy::Deny;
            world.plans[2].networks[0].vni = world.plans[1].networks[0].vni;
        });
        let answer = at.between(2, API, WEB, tcp((80, 40_000), ACK));
        assert_eq!(answer.packet, back.packet, "the same frame");
        at.send(&answer, "policy");
        at.send(&into, "policy");
        let about = at.error(2, API, WEB, &at.between(2, WEB, API, tcp((40_000, 80), ACK)));
        at.send(&about, "unrelated");
    });
}

#[test]
fn a_vni_goes_to_another_domain() {
    play(|at| {
        let [_, into] = at.connect(0, WEB, FAR);
        let [_, routed] = at.connect(0, WEB, STORE);
        let closed = |world: &mut World| {
            deny(&mut world.plans[1]);
            let [zero, one] = [0, 1].map(|of: usize| world.plans[of].networks[0].vni);
            world.plans[0].networks[0].vni = one;
            world.plans[1].networks[0].vni = zero;
        };
        at.change(
            "domain 1, which denies all, exchanges a VNI with domain 0",
            &[0, 1],
            closed,
        );
        // What comes in that VNI is for domain 1 from here on.
        at.send(&into, "policy");
        let router_of_0 = "wrong_vtep";
        at.send(&routed, router_of_0);
        let into = at.between(0, FAR, WEB, tcp((80, 40_000), ACK));
        at.warm(&into, "deliver");
    });
}

#[test]
fn fragments_follow_what_is_allowed() {
    play(|at| {
        let piece = |offset| {
            Some(Piece {
                number: 7,
                offset,
                more: offset == 0,
                options: false,
            })
        };
        for (from, to) in PAIRS {
            let first = at.piece(0, from, to, udp(1000, 53), piece(0));
            let later = at.piece(0, from, to, udp(1000, 53), piece(9));
            at.send(&first, at.way(0, to));
            at.send(&later, at.way(0, to));
            at.change("all is denied", &[0], |world| deny(&mut world.plans[0]));
            at.send(&later, "policy");
            at.change("all is allowed", &[0], |world| world.plans[0].policies.clear());
            at.send(&later, at.way(0, to));
            if from == FAR {
                at.change("the VNI goes to domain 1", &[0, 1], |world| {
                    let [zero, one] = [0, 1].map(|of: usize| world.plans[of].networks[0].vni);
                    world.plans[0].networks[0].vni = one;
                    world.plans[1].networks[0].vni = zero;
                });
                // Domain 1 has seen no first one, and domain 0 none in its other VNI.
                at.send(&later, "fragment_state");
                let other = at.piece(0, from, to, udp(1000, 53), piece(9));
                at.send(&other, "fragment_state");
            }
        }
    });
}

#[test]
fn errors_quote_connections_of_their_own_domain() {
    play(|at| {
        let [forth, _] = at.connect(0, WEB, API);
        let [out, _] = at.connect(0, WEB, FAR);
        for (domain, expected) in [(0, "deliver"), (1, "unrelated")] {
            let about = at.error(domain, API, WEB, &forth);
            at.send(&about, expected);
            let about = at.error(domain, FAR, WEB, &out);
            at.send(&about, expected);
        }
        at.change("all is denied", &[0], |world| deny(&mut world.plans[0]));
        at.send(&forth, "policy");
        // A connection that is denied is one: nobody is asked about errors.
        let about = at.error(0, API, WEB, &forth);
        at.send(&about, "deliver");
        at.play.jump(Duration::from_secs(8000));
        at.send(&about, "unrelated");
    });
}

#[test]
fn a_host_gets_another_address_or_that_of_another() {
    play(|at| {
        let [out, into] = at.connect(0, WEB, FAR);
        at.change("host b has another address", &[0, 1, 2], |world| {
            world.hosts.insert(node(B), vtep(20 + B, true, false));
        });
        at.warm(&out, "encapsulate");
        at.send(&into, "unknown_vtep");
        let from_there = at.between(0, FAR, WEB, tcp((80, 40_000), ACK));
        at.warm(&from_there, "deliver");
        at.change("host c has the address that b had", &[0, 1, 2], |world| {
            world.hosts.insert(node(C), vtep(B, true, false));
        });
        at.send(&into, "wrong_vtep");
        at.warm(&out, "encapsulate");
        at.warm(&from_there, "deliver");
        at.change("there is no route to host b", &[0, 1, 2], |world| {
            world.unrouted.insert(node(B));
        });
        at.send(&out, "no_route");
        at.warm(&from_there, "deliver");
        at.change("there is one", &[0, 1, 2], |world| world.unrouted.clear());
        at.warm(&out, "encapsulate");
    });
}

#[test]
fn a_network_leaves_its_router() {
    play(|at| {
        let [forth, back] = at.connect(0, WEB, APP);
        let [_, into] = at.connect(0, WEB, STORE);
        at.change("it leaves", &[0], |world| world.plans[0].networks[0].joined = false);
        at.send(&forth, "unknown_destination");
        at.send(&back, "unroutable");
        at.send(&into, "wrong_vtep");
        at.change("it joins", &[0], |world| world.plans[0].networks[0].joined = true);
        at.warm(&forth, "deliver");
        at.warm(&back, "deliver");
        at.warm(&into, "deliver");
    });
}

/// Found: what was denied was forgotten, a reply in flight opened a connection of its own, and its replies passed.
#[test]
fn a_reply_in_flight_does_not_turn_a_denied_connection_round() {
    play(|at| {
        for other in [API, APP] {
            let forth = at.between(0, WEB, other, udp(5000, 53));
            let back = at.between(0, other, WEB, udp(53, 5000));
            at.warm(&forth, "deliver");
            at.warm(&back, "deliver");
            at.change("web may open nothing", &[0], |world| {
                world.plans[0].policies = rules::silent(WEB);
            });
            for _ in 0..5 {
                for packet in [&forth, &back, &forth] {
                    at.send(packet, "policy");
                }
                at.play.jump(Duration::from_secs(200));
            }
            at.change("it may", &[0], |world| world.plans[0].policies.clear());
            at.warm(&forth, "deliver");
            at.warm(&back, "deliver");
        }
    });
}

/// Found: in the model, a SYN that is denied ended what was before it, and a reply in flight turned the connection round.
#[test]
fn a_denied_syn_does_not_take_the_place_of_what_ended() {
    play(|at| {
        for (other, ends_here) in [(API, false), (API, true), (APP, false), (APP, true)] {
            let [_, back] = at.connect(0, WEB, other);
            let end = if ends_here {
                at.between(0, WEB, other, tcp((40_000, 80), FIN | ACK))
            } else {
                at.between(0, other, WEB, tcp((80, 40_000), RST | ACK))
            };
            at.send(&end, "deliver");
            at.change("web may open nothing", &[0], |world| {
                world.plans[0].policies = rules::silent(WEB);
            });
            let syn = at.between(0, WEB, other, tcp((40_000, 80), SYN));
            for _ in 0..5 {
                for packet in [&syn, &back, &syn] {
                    at.send(packet, "policy");
                }
                at.play.jump(Duration::from_secs(7));
            }
            at.change("it may", &[0], |world| world.plans[0].policies.clear());
            at.send(&syn, "deliver");
            at.send(&back, "deliver");
            at.play.jump(Duration::from_secs(8000));
        }
    });
}

/// Found: an ACK before the SYN|ACK was remembered, and the one that makes the connection went the same way.
#[test]
fn an_early_ack_does_not_hide_the_one_that_counts() {
    play(|at| {
        for other in [API, APP] {
            at.change("the other may open nothing", &[0], |world| {
                world.plans[0].policies = rules::silent(other);
            });
            let forth = |flags| at.between(0, WEB, other, tcp((40_000, 80), flags));
            let back = |flags| at.between(0, other, WEB, tcp((80, 40_000), flags));
            let [syn, both, ack] = [forth(SYN), back(SYN | ACK), forth(ACK)];
            let late = back(ACK);
            for packet in [&syn, &ack, &ack, &both, &ack] {
                at.send(packet, "deliver");
            }
            at.play.jump(Duration::from_secs(400));
            at.send(&late, "deliver");
            at.play.jump(Duration::from_secs(8000));
        }
    });
}

/// Found: a SYN of the responder's that was denied ended the connection that was closed before, and the responder's packets
/// went on by what was remembered of it.
#[test]
fn what_a_denied_syn_ended_is_not_remembered() {
    play(|at| {
        at.change("nobody may open to web", &[0], |world| {
            world.plans[0].policies = rules::closed(WEB);
        });
        for other in [API, APP, FAR, STORE] {
            let [_, back] = at.connect(0, WEB, other);
            let end = at.between(0, WEB, other, tcp((40_000, 80), RST));
            at.send(&end, at.way(0, other));
            let syn = at.between(0, other, WEB, tcp((80, 40_000), SYN));
            for packet in [&syn, &back, &syn, &back] {
                at.send(packet, "policy");
            }
            at.play.jump(Duration::from_secs(8000));
        }
    });
}

/// Found: behind a SYN in the place of a closed connection, the other end's ACK went by what was remembered of that one, and
/// did not establish the new one.
#[test]
fn what_takes_the_place_of_a_connection_begins_anew() {
    play(|at| {
        at.change("nobody may open to web", &[0], |world| {
            world.plans[0].policies = rules::closed(WEB);
        });
        for other in [API, APP, FAR, STORE] {
            let [_, back] = at.connect(0, WEB, other);
            let forth = |flags| at.between(0, WEB, other, tcp((40_000, 80), flags));
            for packet in [forth(RST), forth(SYN)] {
                at.send(&packet, at.way(0, other));
            }
            at.send(&back, "deliver");
            at.play.jump(Duration::from_secs(75));
            at.send(&back, "deliver");
            at.play.jump(Duration::from_secs(8000));
            at.send(&back, "policy");
        }
    });
}

#[test]
fn no_fragment_overwrites_what_was_decided_about() {
    play(|at| {
        for (number, options) in [(7, false), (8, true)] {
            let piece = |offset| {
                Some(Piece {
                    number,
                    offset,
                    more: offset == 0,
                    options,
                })
            };
            for (from, to) in PAIRS {
                let first = at.piece(0, from, to, udp(1000, 53), piece(0));
                at.send(&first, at.way(0, to));
                // Behind 8 bytes of UDP, and over IPv6 8 of options before them.
                let header = if options && !at.is_v4() { 2 } else { 1 };
                for offset in 1..4 {
                    let later = at.piece(0, from, to, udp(1000, 53), piece(offset));
                    let expected = if offset < header {
                        "tiny_fragment"
                    } else {
                        at.way(0, to)
                    };
                    at.send(&later, expected);
                }
            }
        }
    });
}

/// Found: stations at hosts without a tunnel were nobody, and their peers' drops `unknown_destination`.
#[test]
fn a_host_without_a_tunnel_is_no_route() {
    play(|at| {
        for from in [WEB, APP] {
            let lost = at.between(0, from, LOST, udp(1000, 53));
            at.send(&lost, "no_route");
        }
    });
}

/// Found: of three versions that were written at once, one of a priority of its own was counted twice, and the one that
/// denies was not asked.
#[test]
fn versions_of_several_priorities_agree() {
    play(|at| {
        let packet = at.between(0, WEB, API, udp(1000, 53));
        at.send(&packet, "deliver");
        at.change("one of three versions denies", &[0], |world| {
            world.plans[0].default_policy = DefaultPolicy::Deny;
            world.plans[0].policies =
                rules::versions(&[(1000, Action::Allow), (2000, Action::Allow), (1000, Action::Deny)]);
        });
        at.send(&packet, "policy");
        at.change("all of them allow", &[0], |world| {
            world.plans[0].policies =
                rules::versions(&[(1000, Action::Allow), (2000, Action::Allow), (7, Action::Allow)]);
        });
        at.warm(&packet, "deliver");
    });
}
