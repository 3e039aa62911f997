//! Roots: what two nodes compare to learn whether, and roughly where, they differ. The objects of a scope are spread
//! over 256 buckets by the hash of their key; a bucket's sum is over its objects, the root over all objects and heads.

use crate::record::Digest;
use crate::siblings::Siblings;

/// How many buckets the objects of a scope are spread over: one per value of a byte of the key's hash.
const BUCKETS: usize = 256;

/// The sums of one scope, kept up to date with each change.
#[derive(Debug, Clone)]
pub(crate) struct Sums {
    heads: Digest,
    /// Of all buckets.
    objects: Digest,
    buckets: Vec<Digest>,
}

impl Default for Sums {
    fn default() -> Self {
        Self {
            heads: Digest::default(),
            objects: Digest::default(),
            buckets: vec![Digest::default(); BUCKETS],
        }
    }
}

impl Sums {
    /// One origin's head takes the place of another one of the same origin.
    pub(crate) fn replace_head(&mut self, before: Option<Digest>, after: Digest) {
        self.heads = self.heads.minus(before.unwrap_or_default()).plus(after);
    }

    /// One object's versions take the place of others of the same object. Without any, it is no more.
    pub(crate) fn replace_object(&mut self, before: Option<&Siblings>, after: Option<&Siblings>) {
        let Some(bucket) = before.or(after).map(Siblings::bucket) else {
            return;
        };
        let [before, after] = [before, after].map(|object| object.map(Siblings::digest).unwrap_or_default());
        let replace = |sum: &mut Digest| *sum = sum.minus(before).plus(after);
        replace(&mut self.objects);
        self.buckets.get_mut(usize::from(bucket)).map(replace);
    }

    /// One digest over all. Of a scope that holds nothing it is that of a scope that was never there.
    pub(crate) fn root(&self) -> Digest {
        if self.heads == Digest::default() && self.objects == Digest::default() {
            return Digest::default();
        }
        Digest::of(&[&self.heads.0, &self.objects.0])
    }

    /// The sums of the buckets, in order.
    pub(crate) fn buckets(&self) -> &[Digest] {
        &self.buckets
    }
}
