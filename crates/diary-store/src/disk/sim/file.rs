//! An open file of a simulated disk.

use std::io;
use std::path::Path;
use std::sync::MutexGuard;

use super::durable::Node;
use super::{Call, Fault, SimDisk, State};
use crate::disk::DiskFile;

pub(super) struct SimFile {
    pub(super) disk: SimDisk,
    pub(super) inode: usize,
    pub(super) epoch: u64,
}

impl SimFile {
    fn call(&self, call: Call) -> io::Result<(MutexGuard<'_, State>, Option<Fault>)> {
        let (state, fault) = self.disk.call(call)?;
        if state.epoch != self.epoch {
            return Err(io::Error::other("a handle of a process that has ended"));
        }
        Ok((state, fault))
    }
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).expect("simulated files are small")
}

impl DiskFile for SimFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let (state, _) = self.call(Call::Read)?;
        if state.unreadable.contains(&self.inode) {
            return Err(io::Error::other("simulated EIO"));
        }
        let bytes = state.files[self.inode].cached.get(place(offset)..).unwrap_or_default();
        let read = bytes.len().min(into.len());
        into[..read].copy_from_slice(&bytes[..read]);
        Ok(read)
    }

    fn write_at(&self, from: &[u8], offset: u64) -> io::Result<usize> {
        let (mut state, fault) = self.call(Call::Write)?;
        let file = &mut state.files[self.inode];
        let part = from.len().div_ceil(2);
        match fault {
            Some(Fault::Full) => {
                file.write(&from[..part], place(offset));
                Err(io::ErrorKind::StorageFull.into())
            }
            Some(_) => {
                file.write(&from[..part], place(offset));
                Ok(part)
            }
            None => {
                file.write(from, place(offset));
                Ok(from.len())
            }
        }
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        let (state, _) = self.call(Call::Size)?;
        Ok(state.find(path).is_ok_and(|node| node == Node::File(self.inode)))
    }

    fn size(&self) -> io::Result<u64> {
        let (state, _) = self.call(Call::Size)?;
        Ok(state.files[self.inode].cached.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let (mut state, _) = self.call(Call::SetLen)?;
        state.files[self.inode].set_len(place(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let (mut state, fault) = self.call(Call::SyncData)?;
        let file = &mut state.files[self.inode];
        if fault.is_some() {
            file.fail_sync();
            return Err(io::Error::other("simulated EIO"));
        }
        file.sync();
        Ok(())
    }
}
