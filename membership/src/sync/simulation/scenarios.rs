//! What goes wrong in the field, one thing at a time.

use std::time::Duration;

use super::seeds::times;
use super::*;
use crate::fixture::{domain, write};

/// No trouble but what the scenario makes; somebody writes all the time.
fn quiet(nodes: u8) -> World {
    World::new(
        7,
        Weather {
            nodes,
            rough: Duration::from_secs(3_600),
            pause: 800,
            loss: 0.0,
            cuts: false,
            crashes: false,
            restores: false,
            rarely: false,
            odd: false,
            storms: false,
            removes: false,
        },
    )
}

impl World {
    /// All heals, and all must agree.
    fn heal(&mut self) {
        self.weather.rough = self.now;
        self.run();
    }

    fn tombstones(&self, node: usize) -> Tombstones {
        self.nodes[node].sync.tombstones()
    }

    /// Writes an object, as soon as the node is not busy.
    fn surely(&mut self, node: usize, name: &str, text: Option<&str>) {
        while self.want(node, domain("red"), vec![write(name, text)]).is_none() {
            self.go_on(Duration::from_millis(10));
        }
    }

    fn say_in(&mut self, node: usize, scope: Scope) {
        let writes = self.some_writes();
        self.say_these(node, scope, writes);
    }

    fn collected(&self) -> u64 {
        self.counts.get("tombstones_collected").copied().unwrap_or_default()
    }
}

impl Node {
    /// How far it got with its facts.
    fn seq_of_red(&self) -> Known {
        known(self.sync.replica(), &domain("red"), self.host.id())
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_split_of_a_minute_heals() {
    let mut world = quiet(6);
    world.go_on(MINUTE / 4);
    for (from, to) in (0..6).flat_map(|from| (0..6).map(move |to| (from, to))) {
        if from / 3 != to / 3 {
            world.cut.insert((from, to));
        }
    }
    world.go_on(MINUTE);
    assert!(!world.agree());
    world.heal();
}

/// Longer than any clock, grace or life of anything in the core: a day and an hour, and a month.
#[test]
fn a_split_heals_however_long_it_was() {
    for (hours, haste) in [(25, 240), (24 * 30, 7_200)] {
        let mut world = quiet(4);
        world.weather.rough = MINUTE * 60 * (hours + 24);
        world.go_on(MINUTE / 4);
        for (from, to) in (0..4).flat_map(|from| (0..4).map(move |to| (from, to))) {
            if from / 2 != to / 2 {
                world.cut.insert((from, to));
            }
        }
        world.haste = haste;
        world.go_on(MINUTE * 60 * hours);
        world.haste = 1;
        assert!(!world.agree() && world.acknowledged.len() > 100);
        world.heal();
    }
}

#[test]
fn clocks_that_are_an_hour_fast_and_slow_harm_nothing() {
    let mut world = quiet(3);
    world.nodes[0].skew = HOUR * 2;
    world.nodes[1].skew = Duration::ZERO;
    world.go_on(MINUTE * 2);
    assert!(world.collected() > 0);
    world.heal();
}

/// Who is left of one, two or three goes on, and who comes back has all.
#[test]
fn small_clusters_lose_each_of_their_members_in_turn() {
    for nodes in 1..=3 {
        let mut world = quiet(nodes);
        world.go_on(MINUTE / 6);
        for lost in 0..usize::from(nodes) {
            world.crash(lost);
            let before = world.acknowledged.len();
            world.go_on(MINUTE / 6);
            assert_eq!(
                world.acknowledged.len() > before,
                nodes > 1,
                "{nodes} nodes, {lost} is lost"
            );
            world.restart(lost);
            world.go_on(MINUTE / 6);
        }
        world.heal();
    }
}

#[test]
fn a_one_way_partition_heals() {
    let mut world = quiet(4);
    world.go_on(MINUTE / 4);
    world.cut.extend((1..4).map(|other| (other, 0)));
    world.go_on(MINUTE);
    world.heal();
}

#[test]
fn who_is_absent_holds_tombstones_back_and_is_named() {
    let mut world = quiet(4);
    world.go_on(MINUTE);
    let before = world.collected();
    assert!(before > 0, "while all are there, they are collected");
    world.crash(3);
    world.go_on(MINUTE * 3);
    let held = world.tombstones(0);
    assert!(
        held.count > 0 && held.waiting_for.contains(&world.nodes[3].host.id()),
        "{held:?}"
    );
    let then = world.collected();
    world.go_on(MINUTE * 3);
    assert_eq!(world.collected(), then, "time removes nothing");
    world.restart(3);
    world.heal();
    assert!(world.collected() > then);
}

#[test]
fn every_node_is_restarted_three_times() {
    let mut world = quiet(5);
    for node in (0..5).cycle().take(15) {
        world.go_on(MINUTE / 12);
        world.crash(node);
        world.go_on(MINUTE / 12);
        world.restart(node);
    }
    world.heal();
}

/// A hundred of them in the long run.
#[test]
fn many_join_at_once() {
    let mut world = quiet(3);
    world.go_on(MINUTE);
    let many = if times() > 1 { 110 } else { 40 };
    for number in 10..many {
        world.join(number);
    }
    world.go_on(MINUTE / 4);
    world.heal();
}

#[test]
fn a_wiped_store_is_another_node_and_the_old_one_is_missed() {
    let mut world = quiet(3);
    world.go_on(MINUTE);
    world.crash(2);
    let gone = world.nodes[2].host.id();
    world.nodes[2].host = Host::new(99);
    world.nodes[2].disk = CrashDisk::default();
    world.forget_lost();
    world.clients.iter_mut().for_each(|client| client.forget(2));
    world.restart(2);
    world.introduce(2);
    world.surely(0, "deleted", None);
    world.go_on(MINUTE * 2);
    world.weather.rough = world.now;
    world.go_on(MINUTE / 4);
    world.until("still different", World::agree);
    world.check_acknowledged();
    assert!(world.tombstones(0).waiting_for.contains(&gone));
}

#[test]
fn an_old_backup_brings_nothing_back() {
    let mut world = quiet(4);
    let scope = domain("red");
    world.go_on(MINUTE / 6);
    world.surely(1, "precious", Some("x"));
    world.go_on(MINUTE / 6);
    world.keep_copy(3);
    world.surely(2, "precious", None);
    world.go_on(MINUTE * 3);
    let key = Key::new("K", "precious");
    assert_eq!(
        world.nodes[0].sync.replica().intent(&scope, &key),
        None,
        "it was collected"
    );
    world.weather.restores = true;
    world.put_copy_back(3);
    assert!(world.nodes[3].sync.replica().intent(&scope, &key).is_some());
    world.heal();
    for node in &world.nodes {
        assert_eq!(node.sync.replica().intent(&scope, &key), None);
    }
    assert!(world.counts.contains_key("versions_given_up"));
}

#[test]
fn two_old_backups_at_once_bring_nothing_back() {
    let mut world = quiet(3);
    let key = Key::new("K", "precious");
    world.go_on(MINUTE / 6);
    world.surely(1, "precious", Some("x"));
    world.go_on(MINUTE / 6);
    world.keep_copy(1);
    world.keep_copy(2);
    world.surely(0, "precious", None);
    let is_gone = |world: &World| world.nodes[0].sync.replica().intent(&domain("red"), &key).is_none();
    // A conflict of another object may be open for a while.
    for _ in 0..20 {
        if !is_gone(&world) {
            world.go_on(MINUTE);
        }
    }
    assert!(is_gone(&world), "it was collected");
    world.weather.restores = true;
    world.put_copy_back(1);
    world.put_copy_back(2);
    world.go_on(MINUTE);
    world.heal();
    for node in &world.nodes {
        assert_eq!(node.sync.replica().intent(&domain("red"), &key), None);
    }
}

/// Its own word of itself is higher than what the others know, and nothing tells it that its disk is old.
#[test]
fn an_old_disk_that_ran_on_alone_ends_as_the_others() {
    let mut world = quiet(4);
    let key = Key::new("K", "precious");
    world.go_on(MINUTE / 6);
    world.surely(1, "precious", Some("x"));
    world.go_on(MINUTE / 6);
    world.keep_copy(3);
    world.surely(2, "precious", None);
    world.go_on(MINUTE * 3);
    assert_eq!(world.nodes[0].sync.replica().intent(&domain("red"), &key), None);
    world.weather.restores = true;
    for other in 0..3 {
        world.cut.extend([(other, 3), (3, other)]);
    }
    world.put_copy_back(3);
    let known = known(world.nodes[0].sync.replica(), &domain("red"), world.nodes[3].id);
    // Nobody answers, so it does not wait.
    world.nodes[3].restored = false;
    while world.nodes[3].seq_of_red() <= known {
        world.say_in(3, domain("red"));
        world.go_on(Duration::from_millis(100));
    }
    world.troubles.clear();
    world.cut.clear();
    world.heal();
    for node in &world.nodes {
        assert_eq!(node.sync.replica().intent(&domain("red"), &key), None);
    }
    let origin = world.nodes[3].host.id();
    let scope = domain("red");
    assert!(
        world.troubles.contains(&Trouble::Forked { origin, scope }),
        "{:?}",
        world.troubles
    );
}

/// It goes on from what that one knows, and those who knew more let go of it, and say so.
#[test]
fn an_old_disk_that_first_meets_who_missed_as_much_is_reported() {
    let mut world = quiet(3);
    let (scope, key) = (domain("red"), Key::new("K", "precious"));
    world.quiet = true;
    let say = |world: &mut World, text: &str| {
        world.say_these(2, domain("red"), vec![write("precious", Some(text))]);
        world.go_on(MINUTE / 6);
    };
    say(&mut world, "early");
    world.keep_copy(2);
    world.cut.extend([(2, 1), (1, 2), (0, 1), (1, 0)]);
    say(&mut world, "late");
    world.weather.restores = true;
    world.cut.clear();
    world.cut.extend([(2, 0), (0, 2), (0, 1), (1, 0)]);
    world.put_copy_back(2);
    world.go_on(MINUTE / 6);
    world.say_these(2, domain("red"), vec![write("other", Some("on"))]);
    world.go_on(MINUTE / 6);
    world.say_these(2, domain("red"), vec![write("other", Some("and on"))]);
    world.go_on(MINUTE / 6);
    assert!(world.nodes[2].seq_of_red() > known(world.nodes[0].sync.replica(), &scope, world.nodes[2].id));
    world.troubles.clear();
    world.heal();
    let origin = world.nodes[2].id;
    for node in &world.nodes {
        let fact = node.sync.replica().fact(&scope, origin, &key);
        let text = fact.and_then(|fact| fact.body.as_ref()).map(|body| &body.bytes[..]);
        assert_eq!(text, Some(&b"early"[..]));
    }
    assert!(
        world.troubles.contains(&Trouble::Forked { origin, scope }),
        "{:?}",
        world.troubles
    );
}

#[test]
fn two_copies_of_a_disk_run_in_turns() {
    let mut world = quiet(4);
    world.weather.restores = true;
    world.go_on(MINUTE);
    for _ in 0..4 {
        world.keep_copy(3);
        let other = world.backups[&3].clone();
        world.go_on(MINUTE / 2);
        world.keep_copy(3);
        let mine = world.backups[&3].clone();
        world.backups.insert(3, other);
        world.put_copy_back(3);
        world.go_on(MINUTE / 2);
        world.backups.insert(3, mine);
        world.put_copy_back(3);
    }
    world.heal();
}

const PRECIOUS: &str = "precious";

/// What a node shows of an object.
fn shown(node: &Node, name: &str) -> Option<String> {
    let siblings = node.sync.replica().intent(&domain("red"), &Key::new("K", name))?;
    let body = siblings.shown().body.as_ref()?;
    Some(String::from_utf8(body.bytes.to_vec()).unwrap())
}

/// Five nodes of which the last two, the writer and the one that goes, were just cut off from the others. Nothing happens but
/// what the scenario makes.
fn split_of_two() -> World {
    let mut world = quiet(5);
    world.quiet = true;
    world.go_on(MINUTE / 6);
    for (from, to) in (0..3).flat_map(|from| [(from, 3), (from, 4)]) {
        world.cut.extend([(from, to), (to, from)]);
    }
    world
}

impl World {
    /// The last node is out. Who is on the other side knows at once, its own side in the end.
    fn remove_the_last(&mut self) {
        let last = self.nodes.len() - 1;
        self.remove(last, false);
        for node in 0..3 {
            self.tell(node);
        }
    }

    fn all_show(&self, name: &str, text: Option<&str>) {
        for node in self.members() {
            assert_eq!(shown(node, name).as_deref(), text, "{:?}", node.sync);
        }
    }
}

#[test]
fn what_a_void_write_replaced_unheard_comes_back() {
    for crashes in [false, true] {
        let mut world = split_of_two();
        world.surely(3, PRECIOUS, Some("kept"));
        world.go_on(MINUTE / 30);
        world.surely(4, PRECIOUS, Some("void"));
        world.go_on(MINUTE / 6);
        world.surely(4, PRECIOUS, Some("void too"));
        world.go_on(MINUTE / 6);
        assert_eq!(shown(&world.nodes[3], PRECIOUS).as_deref(), Some("void too"));
        world.remove_the_last();
        if crashes {
            world.crash(3);
            world.restart(3);
        }
        world.heal();
        world.all_show(PRECIOUS, Some("kept"));
    }
}

#[test]
fn a_delete_that_a_void_write_replaced_unheard_stands() {
    let mut world = split_of_two();
    world.surely(3, PRECIOUS, Some("x"));
    world.surely(3, PRECIOUS, None);
    world.go_on(MINUTE / 30);
    world.surely(4, PRECIOUS, Some("void"));
    world.go_on(MINUTE / 6);
    world.remove_the_last();
    world.heal();
    world.all_show(PRECIOUS, None);
}

/// The one that goes writes what all had deleted and collected before.
#[test]
fn what_was_collected_does_not_come_back_for_a_void_write() {
    let mut world = split_of_two();
    let cut = std::mem::take(&mut world.cut);
    world.surely(3, PRECIOUS, Some("x"));
    world.go_on(MINUTE / 6);
    world.surely(2, PRECIOUS, None);
    let key = Key::new("K", PRECIOUS);
    world.until("tombstones stay", |world| {
        let held = |node: &Node| node.sync.replica().intent(&domain("red"), &key).is_some();
        !world.nodes.iter().any(held)
    });
    world.cut = cut;
    world.surely(4, PRECIOUS, Some("void"));
    world.go_on(MINUTE / 6);
    assert_eq!(shown(&world.nodes[3], PRECIOUS).as_deref(), Some("void"));
    world.remove_the_last();
    world.heal();
    world.all_show(PRECIOUS, None);
}

#[test]
fn what_saw_a_void_write_stands_in_place_of_what_that_replaced() {
    let mut world = split_of_two();
    world.surely(3, PRECIOUS, Some("x"));
    world.go_on(MINUTE / 30);
    world.surely(4, PRECIOUS, Some("void"));
    world.go_on(MINUTE / 6);
    world.surely(3, PRECIOUS, Some("over it"));
    world.go_on(MINUTE / 6);
    world.surely(4, PRECIOUS, Some("void too"));
    world.go_on(MINUTE / 6);
    world.remove_the_last();
    world.heal();
    world.all_show(PRECIOUS, Some("over it"));
}

/// One node hears of the void write, but never of what that replaced, and confirms all of its writer.
#[test]
fn what_was_confirmed_with_a_void_write_keeps_nothing_from_coming_back() {
    let mut world = quiet(7);
    world.quiet = true;
    world.go_on(MINUTE / 6);
    world.surely(1, "a", Some("x"));
    world.go_on(MINUTE / 6);
    // A tombstone that is there, so that all are asked.
    world.crash(0);
    world.surely(1, "a", None);
    world.go_on(MINUTE / 6);
    for (from, to) in (0..4).flat_map(|from| (4..7).map(move |to| (from, to))) {
        world.cut.extend([(from, to), (to, from)]);
    }
    world.cut.extend([(4, 5), (5, 4)]);
    world.surely(4, PRECIOUS, Some("kept"));
    world.go_on(MINUTE / 200);
    world.surely(6, PRECIOUS, Some("void"));
    world.go_on(MINUTE / 6);
    world.cut.retain(|cut| ![(4, 5), (5, 4)].contains(cut));
    world.restart(0);
    world.go_on(MINUTE);
    assert_eq!(shown(&world.nodes[5], PRECIOUS).as_deref(), Some("void"));
    world.remove(6, false);
    for node in [0, 1, 2, 3, 5] {
        world.tell(node);
    }
    world.cut.clear();
    world.go_on(MINUTE);
    world.heal();
    world.all_show(PRECIOUS, Some("kept"));
}
