//! The authorities in the data directory of an anchor: each in a place of its own, a key, a certificate, and for what it was
//! made. It knows files, and not which root is trusted.

use bytes::Bytes;

use super::{Home, HomeError, draft_of};
use crate::decree::{ANCHORS_MAX, ROOTS_MAX};
use crate::identity::NodeKey;
use crate::record::Digest;

/// Places: for two that are trusted, and for what each anchor may have made at the same time.
pub(super) const PLACES: usize = ROOTS_MAX + ANCHORS_MAX;

/// The authority's key and certificate (DER).
#[derive(Debug)]
pub(crate) struct AuthorityFiles {
    pub(crate) key: NodeKey,
    pub(crate) certificate: Bytes,
    /// Of one that was made to be trusted beside another: for which anchors and roots.
    pub(crate) made_for: Option<Digest>,
}

/// Where an authority lies. The key is written last and removed first, so that with it the authority is there.
#[derive(Debug)]
struct Place {
    key: String,
    certificate: String,
    made_for: String,
}

impl Place {
    fn all() -> impl Iterator<Item = Self> {
        (1..=PLACES).map(|number| {
            let stem = if number == 1 {
                "authority".to_owned()
            } else {
                format!("authority-{number}")
            };
            Self {
                key: format!("{stem}.key"),
                certificate: format!("{stem}.der"),
                made_for: format!("{stem}.for"),
            }
        })
    }

    fn files(&self) -> [&str; 3] {
        [&self.key, &self.certificate, &self.made_for]
    }
}

impl Home {
    /// Keeps an authority, in the place that it has or in a free one.
    pub(crate) fn keep_authority(&self, authority: &AuthorityFiles) -> Result<(), HomeError> {
        let (mut own, mut free) = (None, None);
        for place in Place::all() {
            match self.authority(&place)? {
                Some(held) if held.certificate == authority.certificate => own = Some(place),
                Some(_) => {}
                None => free = free.or(Some(place)),
            }
        }
        let place = own.or(free).ok_or_else(|| HomeError::Full(self.0.clone()))?;
        self.write_authority(&place, authority)
    }

    /// Removes an authority, named by its certificate.
    pub(crate) fn drop_authority(&self, certificate: &[u8]) -> Result<(), HomeError> {
        for place in Place::all() {
            let held = self.authority(&place)?;
            if held.is_some_and(|held| held.certificate == certificate) {
                self.clear(&place)?;
            }
        }
        Ok(())
    }

    /// Removes all authorities, of a node that is no anchor any more.
    pub(crate) fn drop_authorities(&self) -> Result<(), HomeError> {
        Place::all().try_for_each(|place| self.clear(&place))
    }

    /// Removes what a crash left of authorities that were about to be kept.
    pub(crate) fn drop_authority_drafts(&self) -> Result<(), HomeError> {
        for place in Place::all() {
            for name in place.files() {
                self.remove(&draft_of(name))?;
            }
        }
        Ok(())
    }

    /// The key first. Of its draft, which a crash may have left, nothing stays either.
    fn clear(&self, place: &Place) -> Result<(), HomeError> {
        for name in place.files() {
            self.remove(name)?;
            self.remove(&draft_of(name))?;
        }
        Ok(())
    }

    /// All of them.
    pub(super) fn authorities(&self) -> Result<Vec<AuthorityFiles>, HomeError> {
        let held = Place::all().map(|place| self.authority(&place));
        held.filter_map(Result::transpose).collect()
    }

    fn authority(&self, place: &Place) -> Result<Option<AuthorityFiles>, HomeError> {
        let Some(key) = self.key(&place.key)? else {
            return Ok(None);
        };
        let made_for = self.read(&place.made_for)?.and_then(|bytes| bytes.try_into().ok());
        Ok(Some(AuthorityFiles {
            key,
            certificate: self.required(&place.certificate)?,
            made_for: made_for.map(Digest),
        }))
    }

    fn write_authority(&self, place: &Place, authority: &AuthorityFiles) -> Result<(), HomeError> {
        self.clear(place)?;
        self.write(&place.certificate, &authority.certificate)?;
        if let Some(made_for) = authority.made_for {
            self.write(&place.made_for, &made_for.0)?;
        }
        self.write_key(&place.key, &authority.key)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::tests::files;
    use super::*;

    #[test]
    fn authorities_come_and_go_each_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        let mut files = files();
        let first = files.authorities.remove(0);
        home.found(&files).unwrap();
        let made = |certificate: &'static [u8]| AuthorityFiles {
            key: NodeKey::generate(),
            certificate: Bytes::from_static(certificate),
            made_for: Some(Digest([7; 32])),
        };
        let (second, third) = (made(b"second"), made(b"third"));
        let held = || {
            let held = home.node().unwrap().unwrap().authorities.into_iter();
            held.map(|held| (held.key.public(), held.certificate, held.made_for))
                .collect::<Vec<_>>()
        };
        let said = |files: &AuthorityFiles| (files.key.public(), files.certificate.clone(), files.made_for);
        for authority in [&first, &second, &second] {
            home.keep_authority(authority).unwrap();
        }
        assert_eq!(held(), [said(&first), said(&second)]);
        home.drop_authority(b"third").unwrap();
        home.drop_authority(&first.certificate).unwrap();
        assert_eq!(held(), [said(&second)]);
        // A crash between its two files leaves none.
        home.write("authority.der", &third.certificate).unwrap();
        assert_eq!(held(), [said(&second)]);
        home.keep_authority(&third).unwrap();
        assert_eq!(held(), [said(&third), said(&second)]);
        // There is a place for what each anchor makes at the same time.
        let further: Vec<Bytes> = (0..PLACES)
            .map(|n| Bytes::from(vec![0, u8::try_from(n).unwrap()]))
            .collect();
        for (at, certificate) in further.into_iter().enumerate() {
            let files = AuthorityFiles {
                certificate,
                ..made(b"")
            };
            let kept = home.keep_authority(&files);
            assert_eq!(kept.is_ok(), at + 2 < PLACES, "{kept:?}");
        }
        assert_eq!(held().len(), PLACES);
        // A crash while a key was written leaves it under another name.
        home.write(&draft_of("authority.key"), b"key").unwrap();
        home.write(&draft_of("authority-2.key"), b"key").unwrap();
        home.drop_authority(&third.certificate).unwrap();
        assert!(!home.0.join(draft_of("authority.key")).exists());
        home.drop_authorities().unwrap();
        assert!(held().is_empty());
        let left = fs::read_dir(dir.path()).unwrap();
        assert!(
            left.map(|entry| entry.unwrap().file_name())
                .all(|name| !name.to_string_lossy().contains("authority"))
        );
    }
}
