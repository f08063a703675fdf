//! A permission decides by what its patterns match, and by nothing else, whatever is written into them. The first line of
//! the input is method and path of a request; each of the others is a permission, `permit` or `deny`, `direct` or
//! `group`, and the patterns for method and path. `␤` in a pattern stands for the end of a line.

use std::collections::HashMap;

use serde_json::json;

use crate::{
    auth::{
        decide::{Effect, Grant, Part, Pattern, Rules},
        permission::NewPermission,
    },
    naive::Reference,
};

/// Checks one input.
pub fn check(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let request = lines.next().unwrap_or_default();
    let (action, resource) = request.split_once(' ').unwrap_or((request, "/"));
    let grants: Option<Vec<Grant>> = lines.take(4).map(grant).collect();
    let Some(grants) = grants else { return };
    let patterns = Patterns::of(&grants);
    for grant in &grants {
        patterns.include_what_auth_accepts(grant);
    }
    let expected = patterns.naive_decision(&grants, action, resource);
    let decided = Rules::of(grants, |part, text| patterns.get(part, text).clone()).decide(action, resource);
    assert!(expected.is_none_or(|expected| expected == decided), "{decided:?}, not {expected:?}");
}

fn grant(line: &str) -> Option<Grant> {
    let mut parts = line.splitn(4, ' ');
    let effect = Effect::parse(parts.next()?)?;
    let direct = parts.next()? == "direct";
    let mut pattern = || parts.next().map(|text| text.replace('␤', "\n"));
    Some(Grant { effect, direct, method: pattern()?, path: pattern()? })
}

/// The patterns of all permissions, compiled once.
struct Patterns(HashMap<(Part, String), Pattern>);

impl Patterns {
    fn of(grants: &[Grant]) -> Self {
        let texts =
            grants.iter().flat_map(|grant| [(Part::Method, &grant.method), (Part::Path, &grant.path)]);
        Self(texts.map(|(part, text)| ((part, text.clone()), Pattern::compile(part, text))).collect())
    }

    fn get(&self, part: Part, text: &str) -> &Pattern {
        &self.0[&(part, text.to_owned())]
    }

    /// Whether a text is an expression. A pattern shows only in this way that it is none.
    fn is_readable(&self, part: Part, text: &str) -> bool {
        format!("{:?}", self.get(part, text)) != "Pattern(None)"
    }

    /// What auth lets into the database can be read, alone as well as with our anchors around it.
    fn include_what_auth_accepts(&self, grant: &Grant) {
        let body = json!({"name": "p1", "method": grant.method, "path": grant.path});
        if NewPermission::parse(&body).is_ok() {
            for (part, text) in [(Part::Method, &grant.method), (Part::Path, &grant.path)] {
                assert!(regex::Regex::new(text).is_ok(), "{text:?} was accepted");
                assert!(self.is_readable(part, text), "{text:?} was accepted");
            }
        }
    }

    /// Direct permissions first, then those of groups; a deny beats a permit. `None` if nothing is known about a pattern.
    fn naive_decision(&self, grants: &[Grant], action: &str, resource: &str) -> Option<Effect> {
        for direct in [true, false] {
            let mut effects = vec![];
            for grant in grants.iter().filter(|grant| grant.direct == direct) {
                if self.naively_applies(grant, action, resource)? {
                    effects.push(grant.effect);
                }
            }
            for effect in [Effect::Deny, Effect::Permit] {
                if effects.contains(&effect) {
                    return Some(effect);
                }
            }
        }
        Some(Effect::Deny)
    }

    fn naively_applies(&self, grant: &Grant, action: &str, resource: &str) -> Option<bool> {
        if !(self.is_readable(Part::Method, &grant.method) && self.is_readable(Part::Path, &grant.path)) {
            return Some(grant.effect == Effect::Deny);
        }
        let (_, is_method) = Reference::new(&grant.method)?.matches(action)?;
        let (is_path, _) = Reference::new(&grant.path)?.matches(resource)?;
        Some(is_method && is_path)
    }
}
