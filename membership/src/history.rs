//! What objects said before: made from the versions that a node still knows, of which some may be missing. It says of no
//! moment what it cannot know: a version's context names all that its writer saw of the object, so what is missing
//! shows. Where it names what was collected of a scope (`author`), that is a write to another object, and none is missing.

use std::collections::{BTreeMap, BTreeSet};

use crate::hlc::Stamp;
use crate::record::{Dot, Intent, Key, VersionVector};
use crate::signed::Signed;

/// The known versions of the objects of one scope.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    /// Of each object ascending by rank.
    objects: BTreeMap<Key, Vec<Signed<Intent>>>,
    /// Of all versions.
    dots: BTreeSet<Dot>,
}

/// What an object was at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then<'a> {
    /// It was not there: not written yet, or deleted.
    Absent,
    /// This version was shown.
    Shown(&'a Signed<Intent>),
    /// A version that may have been shown is not known here.
    Unknown,
}

/// What a version did to its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// It was not there before.
    Created,
    /// It said something else before, or the same.
    Changed,
    /// It is gone.
    Deleted,
}

/// One known version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// As it was signed.
    pub version: &'a Signed<Intent>,
    /// What it did.
    pub act: Act,
    /// Whether it replaced a version that is not known here.
    pub gap: bool,
}

impl Timeline {
    /// Of these versions of the objects of one scope; the same one may come twice.
    #[must_use]
    pub fn of(versions: impl IntoIterator<Item = Signed<Intent>>) -> Self {
        let (mut objects, mut known) = (BTreeMap::<Key, Vec<_>>::new(), BTreeSet::new());
        for version in versions {
            if known.insert(version.digest()) {
                objects.entry(version.value().key.clone()).or_default().push(version);
            }
        }
        for versions in objects.values_mut() {
            versions.sort_unstable_by_key(rank);
        }
        let all = objects.values().flatten();
        let dots = all.map(|version| version.value().dot).collect();
        Self { objects, dots }
    }

    /// The objects of which any version is known.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.objects.keys()
    }

    /// All versions known, newest first.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry<'_>> {
        let mut entries: Vec<_> = self
            .objects
            .values()
            .flat_map(|versions| self.entries_of(versions))
            .collect();
        entries.sort_unstable_by_key(|entry| std::cmp::Reverse(rank(entry.version)));
        entries
    }

    /// What an object was at a moment, by the stamps of its writers.
    #[must_use]
    pub fn at(&self, key: &Key, moment: Stamp) -> Then<'_> {
        let versions = self.objects.get(key).map(Vec::as_slice).unwrap_or_default();
        let (before, after) = versions.split_at(versions.partition_point(|version| version.value().stamp <= moment));
        if self.is_missing(before, after) {
            return Then::Unknown;
        }
        let is_dominated =
            |version: &Signed<Intent>| before.iter().any(|other| other.value().dominates(version.value()));
        match before.iter().rev().find(|version| !is_dominated(version)) {
            Some(shown) if shown.value().body.is_some() => Then::Shown(shown),
            Some(_) | None => Then::Absent,
        }
    }

    /// Whether a later version saw one that is not known and may be older than the moment.
    fn is_missing(&self, before: &[Signed<Intent>], after: &[Signed<Intent>]) -> bool {
        let mut replaced = VersionVector::default();
        before
            .iter()
            .for_each(|version| replaced.join(&version.value().context));
        let mut saw = after.iter().flat_map(|version| dots(&version.value().context));
        saw.any(|dot| !self.dots.contains(&dot) && !replaced.contains(dot))
    }

    /// The versions of one object and what each did.
    fn entries_of<'a>(&'a self, versions: &'a [Signed<Intent>]) -> impl Iterator<Item = Entry<'a>> {
        let known: BTreeMap<Dot, &Intent> = versions
            .iter()
            .map(|version| (version.value().dot, version.value()))
            .collect();
        versions.iter().map(move |version| {
            let context = &version.value().context;
            let replaced: Vec<&Intent> = dots(context).filter_map(|dot| known.get(&dot).copied()).collect();
            let is_replaced = |dot: Dot| replaced.iter().any(|older| older.context.contains(dot));
            let gap = dots(context).any(|dot| !self.dots.contains(&dot) && !is_replaced(dot));
            let changes = |older: &&Intent| is_latest(older, &replaced) && older.body.is_some();
            let act = match version.value().body {
                None => Act::Deleted,
                Some(_) if gap || replaced.iter().any(changes) => Act::Changed,
                Some(_) => Act::Created,
            };
            Entry { version, act, gap }
        })
    }
}

/// Whether none of the others saw it.
fn is_latest(version: &Intent, others: &[&Intent]) -> bool {
    !others.iter().any(|other| other.dominates(version))
}

fn dots(context: &VersionVector) -> impl Iterator<Item = Dot> {
    context.0.iter().map(|(&writer, &counter)| Dot { writer, counter })
}

/// Orders versions as they are shown.
fn rank(version: &Signed<Intent>) -> impl Ord + use<> {
    (version.value().stamp, version.value().dot.writer, version.digest())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Batch;
    use crate::fixture::{Host, domain, stamp, write};
    use crate::replica::Replica;

    /// Writes `K/name` at a time; the version.
    fn wants(host: &Host, replica: &mut Replica, millis: u64, text: Option<&str>) -> Signed<Intent> {
        let made = host.wants(replica, &domain("red"), millis, vec![write("a", text)]);
        match made.batch {
            Batch::Intents(batch) => batch.versions()[0].clone(),
            Batch::Facts(_) => unreachable!("objects were written"),
        }
    }

    fn key() -> Key {
        Key::new("K", "a")
    }

    /// What the object said, second by second.
    fn told(timeline: &Timeline, moments: impl IntoIterator<Item = u64>) -> Vec<String> {
        let said = |moment| match timeline.at(&key(), stamp(moment)) {
            Then::Absent => "-".to_owned(),
            Then::Unknown => "?".to_owned(),
            Then::Shown(version) => {
                let body = version.value().body.as_ref().unwrap();
                String::from_utf8(body.bytes.to_vec()).unwrap()
            }
        };
        moments.into_iter().map(said).collect()
    }

    #[test]
    fn what_was_shown_at_each_moment_is_told() {
        let (host, mut replica) = (Host::new(1), Replica::default());
        let texts = [Some("1"), Some("2"), None, Some("4")];
        let versions: Vec<_> = (1..)
            .zip(texts)
            .map(|(at, text)| wants(&host, &mut replica, at * 10, text))
            .collect();
        let timeline = Timeline::of(versions.iter().rev().chain(&versions).cloned());
        assert_eq!(
            told(&timeline, [9, 10, 19, 20, 30, 39, 40, 99]),
            ["-", "1", "1", "2", "-", "-", "4", "4"]
        );
        let acts: Vec<_> = timeline.entries().iter().map(|entry| (entry.act, entry.gap)).collect();
        let all = [Act::Created, Act::Deleted, Act::Changed, Act::Created];
        assert_eq!(acts, all.map(|act| (act, false)));
        assert_eq!(timeline.keys().collect::<Vec<_>>(), [&key()]);
        assert_eq!(timeline.at(&Key::new("K", "b"), stamp(50)), Then::Absent);
    }

    /// The oldest was forgotten, or the node was away while one was replaced.
    #[test]
    fn what_is_missing_is_not_made_up() {
        let (host, mut replica) = (Host::new(1), Replica::default());
        let [one, two, three] = [10, 20, 30].map(|at| wants(&host, &mut replica, at, Some(&at.to_string())));
        let forgotten = Timeline::of([two.clone(), three.clone()]);
        assert_eq!(told(&forgotten, [5, 15, 20, 30]), ["?", "?", "20", "30"]);
        let gaps = |timeline: &Timeline| timeline.entries().iter().map(|entry| entry.gap).collect::<Vec<_>>();
        assert_eq!(gaps(&forgotten), [false, true]);
        let away = Timeline::of([one, three]);
        assert_eq!(told(&away, [5, 10, 20, 30]), ["?", "?", "?", "30"]);
        assert_eq!(gaps(&away), [true, false]);
        assert_eq!(told(&Timeline::of([two]), [20, 99]), ["20", "20"]);
    }

    /// What is written over the floor of a scope has that in its context, for others may hold what was collected.
    #[test]
    fn what_others_deleted_is_not_missing() {
        let (host, mut replica) = (Host::new(1), Replica::default());
        let writes = |replica: &mut Replica, name, millis, text| {
            let made = host.wants(replica, &domain("red"), millis, vec![write(name, text)]);
            match made.batch {
                Batch::Intents(batch) => batch.versions()[0].clone(),
                Batch::Facts(_) => unreachable!("objects were written"),
            }
        };
        let other = writes(&mut replica, "b", 10, Some("other"));
        let gone = writes(&mut replica, "b", 20, None);
        let dot = gone.value().dot;
        replica.set_floor(&domain("red"), VersionVector([(dot.writer, dot.counter)].into()));
        let one = writes(&mut replica, "a", 30, Some("1"));
        assert!(one.value().context.contains(dot), "it is written over the floor");
        let timeline = Timeline::of([other, gone, one]);
        assert_eq!(told(&timeline, [5, 25, 30]), ["-", "-", "1"]);
        let newest = timeline.entries()[0];
        assert_eq!((newest.act, newest.gap), (Act::Created, false));
    }

    #[test]
    fn siblings_are_shown_by_rank_until_they_are_resolved() {
        let (one, two) = (Host::new(1), Host::new(2));
        let (mut here, mut there) = (Replica::default(), Replica::default());
        let a = wants(&one, &mut here, 10, Some("a"));
        let b = wants(&two, &mut there, 20, Some("b"));
        let batch = crate::batch::IntentBatch::new(domain("red"), vec![b.clone()]).unwrap();
        here.merge(&Batch::Intents(batch)).unwrap();
        let c = wants(&one, &mut here, 30, Some("c"));
        let timeline = Timeline::of([a.clone(), b.clone(), c.clone()]);
        assert_eq!(told(&timeline, [5, 10, 20, 30]), ["-", "a", "b", "c"]);
        let acts: Vec<_> = timeline.entries().iter().map(|entry| entry.act).collect();
        assert_eq!(acts, [Act::Changed, Act::Created, Act::Created]);
        let half = Timeline::of([b, c]);
        assert_eq!(told(&half, [5, 20, 30]), ["?", "?", "c"], "a may have been shown then");
    }
}
