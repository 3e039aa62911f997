//! Shared parts of the namespace tests.
