//! One suite for both engines.
