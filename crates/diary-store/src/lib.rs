//! The journal on disk: day files, batches, recovery, reading.
