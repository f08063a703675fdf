//! May this user do this? (dojot-api.md 2.7)

use regex::{Regex, RegexBuilder};

/// What a permission says about the requests that it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Permit,
    Deny,
}

impl Effect {
    /// The effect of a permission; `None` for `notApplicable`, which never decides anything.
    pub(crate) fn parse(permission: &str) -> Option<Self> {
        match permission {
            "permit" => Some(Self::Permit),
            "deny" => Some(Self::Deny),
            _ => None,
        }
    }

    /// As the contract writes it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Permit => "permit",
            Self::Deny => "deny",
        }
    }
}

/// What of a request a pattern is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    /// The pattern matches at the beginning and is open at the end.
    Path,
    /// The pattern matches the whole text (dojot-api.md 9.1 #12).
    Method,
}

/// A compiled pattern of a permission. Cheap to clone. `None` inside: the text is no regular expression.
#[derive(Debug, Clone)]
pub(crate) struct Pattern(Option<Regex>);

impl Pattern {
    /// Largest compiled size, so that `(.{200}){200}` does not eat the memory.
    const MAX_BYTES: usize = 1 << 20;

    /// Whether a text can be a pattern: a regular expression that takes linear time and little memory.
    pub(crate) fn is_valid(text: &str) -> bool {
        [Part::Path, Part::Method].into_iter().all(|part| Self::compile(part, text).0.is_some())
    }

    pub(crate) fn compile(part: Part, text: &str) -> Self {
        // The text is compiled alone first: `a)|(b` must not become valid through our parentheses.
        let compiled = build(text).and_then(|_| match part {
            Part::Path => build(&format!(r"\A(?:{text})")),
            Part::Method => build(&format!(r"\A(?:{text})\z")),
        });
        Self(compiled)
    }
}

fn build(text: &str) -> Option<Regex> {
    RegexBuilder::new(text).size_limit(Pattern::MAX_BYTES).nest_limit(50).build().ok()
}

/// A permission of a user, as it is stored.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) path: String,
    pub(crate) method: String,
    pub(crate) effect: Effect,
    /// Given to the user directly, not through a group.
    pub(crate) direct: bool,
}

/// One permission of a user.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) effect: Effect,
    pub(crate) method: Pattern,
    pub(crate) path: Pattern,
}

impl Rule {
    fn applies(&self, action: &str, resource: &str) -> bool {
        match (&self.method.0, &self.path.0) {
            (Some(method), Some(path)) => path.is_match(resource) && method.is_match(action),
            // Nobody knows what was meant: a permit gives nothing, a deny takes everything.
            _ => self.effect == Effect::Deny,
        }
    }
}

/// All permissions of a user.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    /// Given to the user directly; they come first.
    pub(crate) direct: Vec<Rule>,
    /// Of the user's groups.
    pub(crate) groups: Vec<Rule>,
}

impl Rules {
    /// The rules that permissions make; `pattern` compiles, or knows what was compiled before.
    pub(crate) fn of(grants: Vec<Grant>, pattern: impl Fn(Part, &str) -> Pattern) -> Self {
        let mut rules = Self::default();
        for Grant { path, method, effect, direct } in grants {
            let rule =
                Rule { effect, method: pattern(Part::Method, &method), path: pattern(Part::Path, &path) };
            if direct { &mut rules.direct } else { &mut rules.groups }.push(rule);
        }
        rules
    }

    /// Whether users, groups and permissions can still be managed by who has these rules.
    pub(crate) fn may_administer(&self) -> bool {
        const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];
        const PATHS: [&str; 8] = [
            "/auth/user/",
            "/auth/user/admin/",
            "/auth/pap/permission/",
            "/auth/pap/group/",
            "/auth/pap/usergroup/admin/admin/",
            "/auth/pap/userpermissions/admin/all_all/",
            "/auth/pap/grouppermissions/user/all_all/",
            "/auth/pap/user/admin/groups/",
        ];
        let permits = |method| PATHS.iter().all(|path| self.decide(method, path) == Effect::Permit);
        METHODS.into_iter().all(permits)
    }

    /// Decides: the user's own permissions, then those of the groups, and no when none of them applies.
    pub(crate) fn decide(&self, action: &str, resource: &str) -> Effect {
        strongest(&self.direct, action, resource)
            .or_else(|| strongest(&self.groups, action, resource))
            .unwrap_or(Effect::Deny)
    }
}

/// Deny beats permit. dojot lets the first in an undefined order win among direct permissions; this is that order.
fn strongest(rules: &[Rule], action: &str, resource: &str) -> Option<Effect> {
    let mut found = None;
    for rule in rules.iter().filter(|rule| rule.applies(action, resource)) {
        if rule.effect == Effect::Deny {
            return Some(Effect::Deny);
        }
        found = Some(Effect::Permit);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::bootstrap;

    fn rule((permission, method, path): &(&str, &str, &str)) -> Rule {
        Rule {
            effect: Effect::parse(permission).unwrap(),
            method: Pattern::compile(Part::Method, method),
            path: Pattern::compile(Part::Path, path),
        }
    }

    fn rules(direct: &[(&str, &str, &str)], groups: &[(&str, &str, &str)]) -> Rules {
        Rules { direct: direct.iter().map(rule).collect(), groups: groups.iter().map(rule).collect() }
    }

    fn of_group(group: usize) -> Rules {
        let own = bootstrap::GROUP_PERMISSIONS[group].1;
        let find = |name| bootstrap::PERMISSIONS.iter().find(|permission| permission.name == name).unwrap();
        let triples = own.iter().map(|name| find(*name)).map(|found| ("permit", found.method, found.path));
        rules(&[], &triples.collect::<Vec<_>>())
    }

    #[test]
    fn decisions() {
        const P: &str = "permit";
        const D: &str = "deny";
        type Triples = &'static [(&'static str, &'static str, &'static str)];
        let cases: &[(&str, Triples, Triples, &str, &str, &str)] = &[
            ("nothing", &[], &[], "GET", "/device/", D),
            ("group permits", &[], &[(P, "GET", "/device/(.*)")], "GET", "/device/", P),
            ("open at the end", &[], &[(P, "GET", "/device/x")], "GET", "/device/xyz/", P),
            ("closed at the beginning", &[], &[(P, "GET", "/device")], "GET", "/a/device/", D),
            ("alternatives are anchored too", &[], &[(P, "GET", "/a|/b")], "GET", "/c/b/", D),
            ("second alternative", &[], &[(P, "GET", "/a|/b")], "GET", "/b/", P),
            ("whole method", &[], &[(P, "GET", "/")], "GETX", "/", D),
            ("end of method", &[], &[(P, "ET", "/")], "GET", "/", D),
            ("one of the methods", &[], &[(P, "(PUT|DELETE)", "/")], "DELETE", "/", P),
            ("alternative methods", &[], &[(P, "PUT|DELETE", "/")], "DELETED", "/", D),
            ("case counts", &[], &[(P, "GET", "/")], "get", "/", D),
            (
                "group deny wins",
                &[],
                &[(P, "(.*)", "/(.*)"), (D, "GET", "/device/secret")],
                "GET",
                "/device/secret/",
                D,
            ),
            (
                "group deny elsewhere",
                &[],
                &[(P, "(.*)", "/(.*)"), (D, "GET", "/device/secret")],
                "PUT",
                "/device/secret/",
                P,
            ),
            (
                "direct permit over group deny",
                &[(P, "GET", "/device")],
                &[(D, "(.*)", "/(.*)")],
                "GET",
                "/device/",
                P,
            ),
            (
                "direct deny over group permit",
                &[(D, "GET", "/device")],
                &[(P, "(.*)", "/(.*)")],
                "GET",
                "/device/",
                D,
            ),
            ("direct deny over direct permit", &[(P, "GET", "/"), (D, "GET", "/")], &[], "GET", "/", D),
            ("broken permit", &[], &[(P, "GET", "/(device")], "GET", "/device/", D),
            ("broken deny", &[], &[(P, "(.*)", "/(.*)"), (D, "GET", "/(device")], "GET", "/other/", D),
            ("no way out of the group", &[], &[(P, "GET", "/x)|(?:/.*")], "GET", "/device/", D),
            ("comments do not swallow the end", &[], &[(P, "(?x)GET # ", "/")], "GETX", "/", D),
            ("a huge pattern", &[], &[(P, "GET", "/((.{100}){100}){100}")], "GET", "/device/", D),
        ];
        for (name, direct, groups, action, resource, expected) in cases {
            assert_eq!(rules(direct, groups).decide(action, resource).as_str(), *expected, "{name}");
        }
    }

    #[test]
    fn who_may_administer() {
        const ALL: (&str, &str, &str) = ("permit", "(.*)", "/(.*)");
        assert!(of_group(0).may_administer());
        assert!(!of_group(1).may_administer());
        for (direct, groups, expected) in [
            (vec![("deny", "GET", "/device")], vec![ALL], true),
            (vec![("deny", "PUT", "/auth/pap")], vec![ALL], false),
            (vec![("deny", "(.*)", "/(.*)")], vec![ALL], false),
            (vec![], vec![ALL, ("deny", "DELETE", "/auth/user/(.*)")], false),
            (vec![ALL], vec![("deny", "(.*)", "/(.*)")], true),
        ] {
            assert_eq!(rules(&direct, &groups).may_administer(), expected, "{direct:?} {groups:?}");
        }
    }

    #[test]
    fn a_hostile_pattern_takes_linear_time() {
        let rules = rules(&[], &[("permit", "GET", "/(a+)+$")]);
        let resource = format!("/{}b", "a".repeat(100_000));
        assert_eq!(rules.decide("GET", &resource), Effect::Deny);
    }

    #[test]
    fn members_of_the_first_groups_may_what_dojot_lets_them() {
        let (admin, user) = (of_group(0), of_group(1));
        let cases = [
            ("GET", "/device/", "permit"),
            ("DELETE", "/device/a1b2/", "permit"),
            ("PUT", "/template/3/", "permit"),
            ("POST", "/flows/v1/flow/", "permit"),
            ("GET", "/history/device/a1b2/history/", "permit"),
            ("POST", "/history/device/a1b2/history/", "deny"),
            ("POST", "/x509/v1/certificates/", "permit"),
            ("GET", "/x509/v1/ca/", "permit"),
            ("GET", "/x509/v1/trusted-cas/", "deny"),
            ("GET", "/stream/socketio/", "permit"),
            ("POST", "/stream/socketio/", "deny"),
            ("GET", "/stream/topic/device-data/", "deny"),
            ("POST", "/import/", "permit"),
            ("GET", "/import/", "deny"),
            ("GET", "/export/", "permit"),
            ("POST", "/graphql/", "permit"),
            ("GET", "/fw-image/", "permit"),
            ("GET", "/auth/user/", "deny"),
            ("POST", "/auth/user/", "deny"),
            ("GET", "/auth/pap/permission/", "deny"),
            ("GET", "/kafka-ws/v1/ticket/", "deny"),
            ("GET", "/cron/v1/jobs/", "deny"),
            ("GET", "/tss/v1/devices/", "deny"),
            ("GET", "/basic-auth/v1/devices/x/basic-credentials/", "deny"),
            ("GET", "/file-mgmt/", "deny"),
        ];
        for (action, resource, expected) in cases {
            assert_eq!(user.decide(action, resource).as_str(), expected, "{action} {resource}");
            assert_eq!(admin.decide(action, resource), Effect::Permit, "{action} {resource}");
        }
    }
}
