//! Every input of the corpus, without the fuzzer.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code")]

use std::{
    fs,
    path::{Path, PathBuf},
};

fn inputs(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn replay(target: &str) {
    let (_, check) = fuzz::TARGETS.iter().find(|(name, _)| *name == target).unwrap();
    let inputs = inputs(target);
    assert!(!inputs.is_empty());
    for input in inputs {
        println!("{}", input.display());
        check(&fs::read(&input).unwrap());
    }
}

/// One test for each target.
macro_rules! replay {
    ($($target:ident)*) => {
        $(#[test]
        fn $target() {
            replay(stringify!($target));
        })*

        #[test]
        fn no_target_is_left_out() {
            assert_eq!(fuzz::TARGETS.map(|(name, _)| name), [$(stringify!($target)),*]);
        }
    };
}

replay!(answer caller graphql headers message path permission request route token);
