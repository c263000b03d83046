//! The diary service: sockets, sessions, the writer.
