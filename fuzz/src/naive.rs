//! Second opinions, written for being obviously right.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use regex_automata::{
    Anchored, Input, MatchKind,
    hybrid::dfa::{Cache, DFA},
    nfa::thompson,
};

/// A path as the most generous of readers could understand it: decoded as often as that finds anything, backslashes as
/// slashes, parameters cut off, empty and dot segments resolved.
pub(crate) fn generously(path: &str) -> String {
    let mut path = path.to_owned();
    while let Cow::Owned(decoded) = percent_decode_str(&path).decode_utf8_lossy() {
        if decoded == path {
            break;
        }
        path = decoded;
    }
    let path: String = path.replace('\\', "/").chars().filter(|character| !character.is_control()).collect();
    let mut segments = Vec::new();
    for segment in path.split('/').map(|segment| segment.split(';').next().unwrap_or_default()) {
        match segment.trim() {
            "" | "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    let end = if path.ends_with('/') && !segments.is_empty() { "/" } else { "" };
    format!("/{}{end}", segments.join("/"))
}

/// What a regular expression matches, without anything written around it.
pub(crate) struct Reference(DFA);

impl Reference {
    /// Reads an expression; `None` when it is none, or too large for this.
    pub(crate) fn new(pattern: &str) -> Option<Self> {
        let dfa = DFA::builder()
            .thompson(thompson::Config::new().nfa_size_limit(Some(1 << 21)))
            .configure(DFA::config().match_kind(MatchKind::All).unicode_word_boundary(true))
            .build(pattern);
        dfa.ok().map(Self)
    }

    /// Whether it matches at the beginning, and whether it matches the whole text; `None` if this cannot tell.
    pub(crate) fn matches(&self, text: &str) -> Option<(bool, bool)> {
        let Self(dfa) = self;
        let mut cache: Cache = dfa.create_cache();
        let start = Input::new(text).anchored(Anchored::Yes);
        let mut state = dfa.start_state_forward(&mut cache, &start).ok()?;
        let mut at_beginning = false;
        for byte in text.bytes() {
            state = dfa.next_state(&mut cache, state, byte).ok()?;
            if state.is_quit() {
                return None;
            }
            // A state says that there was a match before the byte that led to it.
            at_beginning |= state.is_match();
            if state.is_dead() {
                return Some((at_beginning, false));
            }
        }
        let whole = dfa.next_eoi_state(&mut cache, state).ok()?.is_match();
        Some((at_beginning || whole, whole))
    }
}
