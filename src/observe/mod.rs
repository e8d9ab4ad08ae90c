//! Watched objects and API reads become a snapshot.
