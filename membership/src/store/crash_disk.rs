//! A disk for tests that, when the power goes, holds what was synced and nothing else.

use std::io;
use std::sync::{Arc, Mutex};

use redb::{Database, StorageBackend};

use super::Store;

/// What lies on the platter, shared between the disk and who pulls the plug.
#[derive(Debug, Clone, Default)]
pub(crate) struct CrashDisk {
    synced: Arc<Mutex<Vec<u8>>>,
}

impl CrashDisk {
    /// Opens the store as it is found after the power came back. A store that was open before goes on writing, but to
    /// nowhere.
    pub(crate) fn open(&mut self) -> Store {
        let found = self.synced.lock().unwrap().clone();
        *self = Self {
            synced: Arc::new(Mutex::new(found.clone())),
        };
        let backend = Backend {
            live: Mutex::new(found),
            synced: Arc::clone(&self.synced),
        };
        Store::with(
            Database::builder()
                .set_cache_size(1 << 20)
                .create_with_backend(backend)
                .unwrap(),
        )
        .unwrap()
    }

    /// A copy, as a backup that is put back later.
    pub(crate) fn backup(&self) -> Self {
        Self {
            synced: Arc::new(Mutex::new(self.synced.lock().unwrap().clone())),
        }
    }
}

#[derive(Debug)]
struct Backend {
    live: Mutex<Vec<u8>>,
    synced: Arc<Mutex<Vec<u8>>>,
}

fn range(offset: u64, len: usize) -> std::ops::Range<usize> {
    let start = usize::try_from(offset).unwrap();
    start..start + len
}

impl StorageBackend for Backend {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.live.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let live = self.live.lock().unwrap();
        let bytes = live
            .get(range(offset, out.len()))
            .ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.live.lock().unwrap().resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.synced.lock().unwrap().clone_from(&self.live.lock().unwrap());
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let mut live = self.live.lock().unwrap();
        live.get_mut(range(offset, data.len())).unwrap().copy_from_slice(data);
        Ok(())
    }
}
