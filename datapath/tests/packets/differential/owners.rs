//! Sequences about whose an address is and whose the MAC address beside it, and who may report about a connection. As in
//! `cases`, verdict, bytes and counters are compared with the model, and it is said here what has to come out.

use overlay::object::domain::DefaultPolicy;

use super::draft::Piece;
use super::rules;
use super::scene::{ACK, API, APP, FAR, STORE, SYN, WEB, play, tcp, udp};
use super::world::World;

/// Web may open connections to api, and nobody else to anybody.
fn one_way(world: &mut World) {
    world.plans[0].policies = rules::one_way();
    world.plans[0].default_policy = DefaultPolicy::Deny;
}

#[test]
fn nobody_gets_what_is_for_another_one() {
    play(|at| {
        for (from, to, gets) in [(WEB, FAR, API), (WEB, API, FAR), (FAR, API, WEB), (FAR, WEB, API)] {
            let honest = at.between(0, from, gets, udp(1000, 53));
            at.warm(&honest, at.way(0, gets));
            let astray = at.astray(0, from, to, gets, udp(1000, 53));
            for _ in 0..2 {
                at.send(&astray, "destination_address");
            }
        }
    });
}

#[test]
fn rules_ask_for_who_gets_it() {
    play(|at| {
        // The address is in another network: whoever gets it may be a router.
        let [to_api, to_far] = [API, FAR].map(|gets| at.astray(0, WEB, STORE, gets, udp(1000, 53)));
        at.send(&to_api, "deliver");
        at.send(&to_far, "encapsulate");
        at.change("web may open to api only", &[0], one_way);
        at.send(&to_api, "deliver");
        at.send(&to_far, "policy");
        at.change("api loses its label, far gets it", &[0], |world| {
            world.plans[0].endpoints[API].labels.clear();
            world.plans[0].endpoints[FAR].labels = [API].into();
        });
        at.send(&to_api, "policy");
        at.send(&to_far, "encapsulate");
    });
}

#[test]
fn an_answer_to_one_is_not_for_another() {
    play(|at| {
        at.change("web may open to api and far only", &[0], |world| {
            one_way(world);
            world.plans[0].endpoints[FAR].labels = [API].into();
        });
        let [_, back] = at.connect(0, WEB, FAR);
        at.warm(&back, "deliver");
        // Nobody may open a connection to api but web; far hands it an answer to web's.
        let astray = at.astray(0, FAR, WEB, API, tcp((80, 40_000), ACK));
        at.send(&astray, "destination_address");
        let opens = at.between(0, FAR, API, tcp((80, 40_000), SYN));
        at.send(&opens, "policy");
    });
}

#[test]
fn errors_come_from_who_has_business_with_the_connection() {
    play(|at| {
        for (to, strangers) in [
            (API, [FAR, APP, STORE]),
            (FAR, [API, APP, STORE]),
            (APP, [API, FAR, STORE]),
        ] {
            let [forth, _] = at.connect(0, WEB, to);
            let error = at.error(0, to, WEB, &forth);
            at.send(&error, "deliver");
            for stranger in strangers {
                let forged = at.error(0, stranger, WEB, &forth);
                at.send(&forged, "unrelated");
            }
            at.send(&error, "deliver");
        }
    });
}

#[test]
fn an_address_that_goes_over_is_its_new_owners() {
    play(|at| {
        let astray = at.astray(0, WEB, API, FAR, udp(1000, 53));
        at.send(&astray, "destination_address");
        at.change("api and far exchange their addresses", &[0], |world| {
            let endpoints = &mut world.plans[0].endpoints;
            (endpoints[API].last, endpoints[FAR].last) = (endpoints[FAR].last, endpoints[API].last);
        });
        at.warm(&astray, "encapsulate");
        at.change("and back", &[0], |world| {
            let endpoints = &mut world.plans[0].endpoints;
            (endpoints[API].last, endpoints[FAR].last) = (endpoints[FAR].last, endpoints[API].last);
        });
        at.send(&astray, "destination_address");
    });
}

/// Found: in the model, a first fragment for everybody that was refused spoke for the later ones.
#[test]
fn a_first_fragment_that_is_anothers_speaks_for_none() {
    play(|at| {
        let piece = |offset| {
            Some(Piece {
                number: 7,
                offset,
                more: offset == 0,
                options: false,
            })
        };
        let mut first = at.piece(0, FAR, WEB, udp(1000, 53), piece(0));
        // Behind the outer headers and the tunnel's.
        first.packet[14 + 20 + 8 + 8..][..6].fill(0xff);
        let later = at.piece(0, FAR, WEB, udp(1000, 53), piece(9));
        at.send(&first, "destination_address");
        at.send(&later, "fragment_state");
    });
}
