//! The client of the diary as a library.
