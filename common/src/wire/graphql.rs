//! GraphQL requests as dojot's dashboards send them (dojot-api.md 7.2).
//!
//! The gateway counts failed logins of an account before it forwards one, and auth checks the password of that very account, so
//! both read a request here and nowhere else.

use async_graphql_parser::{
    Positioned, parse_query,
    types::{ExecutableDocument, Field, OperationDefinition, Selection, SelectionSet},
};
use async_graphql_value::{ConstValue, Name, Value as Argument};
use serde_json::{Map, Value};

/// A request whose document is well formed and within the limits.
#[derive(Debug)]
pub struct GraphqlRequest {
    /// What is asked.
    pub document: ExecutableDocument,
    /// Values of its variables.
    pub variables: Map<String, Value>,
    /// Which of its operations is meant, if it has several.
    pub operation_name: Option<String>,
}

/// Why something is no request. The texts are those that dojot's clients know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadGraphql {
    /// The body is no JSON object.
    #[error("POST body sent invalid JSON.")]
    Body,
    /// There is no query.
    #[error("Must provide query string.")]
    Query,
    /// The variables are neither an object nor the text of one.
    #[error("Variables are invalid JSON.")]
    Variables,
    /// The operation's name is no text.
    #[error("The operation name must be a string.")]
    OperationName,
    /// The query is longer, deeper or richer than a dashboard's.
    #[error("The query is too large.")]
    TooLarge,
    /// The query is no GraphQL.
    #[error("Syntax Error: {0}")]
    Syntax(String),
}

/// Longest query, in bytes. The longest that is in use, for the introspection, has a quarter of it.
const MAX_QUERY_BYTES: usize = 8 * 1024;
/// Deepest nesting of braces, brackets and parentheses.
const MAX_NESTING: usize = 24;
/// Most fields, with those of fragments.
const MAX_FIELDS: usize = 200;
/// Most fields with another name in the answer.
const MAX_ALIASES: usize = 10;
/// Most uses of fragments. They can be used within one another, so this is what keeps small queries from being huge.
const MAX_SPREADS: usize = 20;
/// Most directives.
const MAX_DIRECTIVES: usize = 10;
/// The field that logs in.
const LOGIN: &str = "login";

impl GraphqlRequest {
    /// Reads the JSON body of a POST.
    pub fn parse(body: &[u8]) -> Result<Self, BadGraphql> {
        let Ok(Value::Object(mut body)) = serde_json::from_slice(body) else { return Err(BadGraphql::Body) };
        let Some(Value::String(query)) = body.remove("query") else { return Err(BadGraphql::Query) };
        let variables = variables(body.remove("variables").unwrap_or_default())?;
        let operation_name = match body.remove("operationName") {
            None | Some(Value::Null) => None,
            Some(Value::String(name)) => Some(name),
            Some(_) => return Err(BadGraphql::OperationName),
        };
        Self::new(&query, variables, operation_name)
    }

    /// Reads the query string of a GET, member by member.
    pub fn of_query_string(get: impl Fn(&str) -> Option<String>) -> Result<Self, BadGraphql> {
        let query = get("query").ok_or(BadGraphql::Query)?;
        let variables = variables(get("variables").unwrap_or_default().into())?;
        Self::new(&query, variables, get("operationName"))
    }

    fn new(
        query: &str,
        variables: Map<String, Value>,
        operation_name: Option<String>,
    ) -> Result<Self, BadGraphql> {
        if query.trim().is_empty() {
            return Err(BadGraphql::Query);
        }
        if query.len() > MAX_QUERY_BYTES || nesting(query) > MAX_NESTING {
            return Err(BadGraphql::TooLarge);
        }
        let document = parse_query(query).map_err(|error| BadGraphql::Syntax(error.to_string()))?;
        let request =
            Self { document, variables, operation_name: operation_name.filter(|name| !name.is_empty()) };
        if request.size().is_too_large() { Err(BadGraphql::TooLarge) } else { Ok(request) }
    }

    /// Whether it asks for a login anywhere, as often as it may.
    pub fn asks_for_login(&self) -> bool {
        self.size().logins > 0
    }

    /// The user name of the login that is asked for, in lower case. `None` when there is no login or more than one, or when its user
    /// name is neither written there nor a variable of the only operation.
    pub fn login(&self) -> Option<String> {
        let mut operations = self.document.operations.iter();
        let (Some((_, operation)), None) = (operations.next(), operations.next()) else { return None };
        if self.size().logins != 1 {
            return None;
        }
        let mut fields = operation.node.selection_set.node.items.iter().filter_map(|item| field(&item.node));
        let login = fields.find(|field| field.name.node == LOGIN)?;
        let username = match &login.get_argument("username")?.node {
            Argument::String(username) => username,
            Argument::Variable(name) => self.variable(&operation.node, name)?,
            _ => return None,
        };
        Some(username.to_lowercase())
    }

    /// The text of a variable.
    fn variable<'a>(&'a self, operation: &'a OperationDefinition, name: &Name) -> Option<&'a str> {
        if let Some(value) = self.variables.get(name.as_str()) {
            return value.as_str();
        }
        let mut defined = operation.variable_definitions.iter().map(|defined| &defined.node);
        match defined.find(|defined| defined.name.node == *name)?.default_value()? {
            ConstValue::String(text) => Some(text),
            _ => None,
        }
    }

    fn size(&self) -> Size {
        let mut size = Size::default();
        for (_, Positioned { node, .. }) in self.document.operations.iter() {
            size.directives += node.directives.len();
            size.add(&node.selection_set.node);
        }
        for fragment in self.document.fragments.values() {
            size.directives += fragment.node.directives.len();
            size.add(&fragment.node.selection_set.node);
        }
        size
    }
}

fn field(selection: &Selection) -> Option<&Field> {
    match selection {
        Selection::Field(field) => Some(&field.node),
        _ => None,
    }
}

/// An object, or the text of one; nothing and an empty text stand for none.
fn variables(value: Value) -> Result<Map<String, Value>, BadGraphql> {
    let value = match value {
        Value::String(text) if text.is_empty() => Value::Null,
        Value::String(text) => serde_json::from_str(&text).map_err(|_| BadGraphql::Variables)?,
        value => value,
    };
    match value {
        Value::Null => Ok(Map::new()),
        Value::Object(variables) => Ok(variables),
        _ => Err(BadGraphql::Variables),
    }
}

/// How much a document asks for, as it is written: fragments count once.
#[derive(Debug, Default)]
struct Size {
    fields: usize,
    aliases: usize,
    spreads: usize,
    directives: usize,
    logins: usize,
}

impl Size {
    fn add(&mut self, selections: &SelectionSet) {
        for Positioned { node: selection, .. } in &selections.items {
            self.directives += selection.directives().len();
            match selection {
                Selection::Field(Positioned { node: field, .. }) => {
                    self.fields += 1;
                    self.aliases += usize::from(field.alias.is_some());
                    self.logins += usize::from(field.name.node == LOGIN);
                    self.add(&field.selection_set.node);
                }
                Selection::FragmentSpread(_) => self.spreads += 1,
                Selection::InlineFragment(Positioned { node: fragment, .. }) => {
                    self.spreads += 1;
                    self.add(&fragment.selection_set.node);
                }
            }
        }
    }

    fn is_too_large(&self) -> bool {
        self.fields > MAX_FIELDS
            || self.aliases > MAX_ALIASES
            || self.spreads > MAX_SPREADS
            || self.directives > MAX_DIRECTIVES
    }
}

/// How deep braces, brackets and parentheses are nested, outside of texts and comments. Looked at before the parser, which
/// goes down into them.
fn nesting(query: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut rest = query;
    while let Some(next) = rest.chars().next() {
        let length = match next {
            '#' => rest.find(['\n', '\r']).unwrap_or(rest.len()),
            '"' => text_length(rest),
            '{' | '[' | '(' => {
                depth += 1;
                deepest = deepest.max(depth);
                1
            }
            '}' | ']' | ')' => {
                depth = depth.saturating_sub(1);
                1
            }
            other => other.len_utf8(),
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    deepest
}

/// Length of the text that begins here, with its quotes; of what is left when it has no end.
fn text_length(rest: &str) -> usize {
    let quote = if rest.starts_with("\"\"\"") { "\"\"\"" } else { "\"" };
    let mut at = quote.len();
    while let Some(tail) = rest.get(at..).filter(|tail| !tail.is_empty()) {
        if tail.starts_with(quote) {
            return at + quote.len();
        }
        let escaped = tail.starts_with('\\') && (quote.len() == 1 || tail[1..].starts_with(quote));
        let mut chars = tail.chars();
        let first = chars.next().map_or(0, char::len_utf8);
        at += match (escaped, quote.len()) {
            (false, _) => first,
            (true, 1) => first + chars.next().map_or(0, char::len_utf8),
            (true, length) => first + length,
        };
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(query: &str, variables: &Value) -> Result<GraphqlRequest, BadGraphql> {
        GraphqlRequest::parse(json!({ "query": query, "variables": variables }).to_string().as_bytes())
    }

    fn login(query: &str, variables: &Value) -> Option<String> {
        parse(query, variables).unwrap().login()
    }

    #[test]
    fn whose_login_it_is() {
        let none = || Value::Null;
        for (query, variables, expected) in [
            (r#"mutation { login(username: "Joe", passwd: "x") { jwt } }"#, none(), Some("joe")),
            (r#"mutation M { a: login(passwd: "x", username: "joe") { jwt } }"#, none(), Some("joe")),
            (r#"mutation { login(username: """joe""", passwd: "x") { jwt } }"#, none(), Some("joe")),
            (r#"mutation { login(username: "j\u006fe") { jwt } }"#, none(), Some("joe")),
            ("mutation($u: String) { login(username: $u) { jwt } }", json!({"u": "JOE"}), Some("joe")),
            ("mutation($u: String) { login(username: $u) { jwt } }", json!("{\"u\": \"joe\"}"), Some("joe")),
            (r#"mutation($u: String = "joe") { login(username: $u) { jwt } }"#, none(), Some("joe")),
            (
                r#"mutation($u: String = "joe") { login(username: $u) { jwt } }"#,
                json!({"u": "ann"}),
                Some("ann"),
            ),
            (r#"mutation($u: String = "joe") { login(username: $u) { jwt } }"#, json!({"u": null}), None),
            ("mutation($u: String) { login(username: $u) { jwt } }", json!({"v": "joe"}), None),
            ("mutation { login(username: 7) { jwt } }", none(), None),
            ("mutation { login(username: null) { jwt } }", none(), None),
            ("mutation { login { jwt } }", none(), None),
            ("{ none }", none(), None),
            // More than one, wherever it is.
            (r#"mutation { a: login(username: "a") { jwt } b: login(username: "b") { jwt } }"#, none(), None),
            (r#"mutation A { login(username: "a") { jwt } } mutation B { x }"#, none(), None),
            (
                r#"mutation { ...F } fragment F on LoginMutation { login(username: "a") { jwt } }"#,
                none(),
                None,
            ),
            (r#"mutation { ... { login(username: "a") { jwt } } }"#, none(), None),
            (
                r#"mutation { login(username: "a") { jwt } ...F } fragment F on M { login(username: "b") { jwt } }"#,
                none(),
                None,
            ),
            (r#"mutation { login(username: "a") { login(username: "b") { jwt } } }"#, none(), None),
        ] {
            assert_eq!(login(query, &variables).as_deref(), expected, "{query}");
        }
        assert!(parse("mutation { ... { login } }", &none()).unwrap().asks_for_login());
        assert!(!parse("{ none }", &none()).unwrap().asks_for_login());
    }

    #[test]
    fn what_is_no_request() {
        for (body, expected) in [
            ("", BadGraphql::Body),
            ("{", BadGraphql::Body),
            ("null", BadGraphql::Body),
            (r#"[{"query": "{ none }"}]"#, BadGraphql::Body),
            ("{}", BadGraphql::Query),
            (r#"{"query": 7}"#, BadGraphql::Query),
            (r#"{"query": " "}"#, BadGraphql::Query),
            (r#"{"query": "{a}", "variables": 7}"#, BadGraphql::Variables),
            (r#"{"query": "{a}", "variables": []}"#, BadGraphql::Variables),
            (r#"{"query": "{a}", "variables": "x"}"#, BadGraphql::Variables),
            (r#"{"query": "{a}", "operationName": 7}"#, BadGraphql::OperationName),
        ] {
            assert_eq!(GraphqlRequest::parse(body.as_bytes()).unwrap_err(), expected, "{body}");
        }
        for query in ["{", "}", "{a", "mutation", "{ a(b: \"x) }", "\u{0}", "{ a(b: \"\\uD800\") }"] {
            assert!(matches!(parse(query, &Value::Null), Err(BadGraphql::Syntax(_))), "{query}");
        }
        for body in [
            r#"{"query": "{a}", "variables": null, "operationName": null}"#,
            r#"{"query": "{a}", "variables": "", "operationName": ""}"#,
            r#"{"query": "{a}", "variables": "null", "more": 1}"#,
        ] {
            assert!(GraphqlRequest::parse(body.as_bytes()).is_ok(), "{body}");
        }
    }

    #[test]
    fn what_is_too_large() {
        let many = |count: usize, what: &str| format!("{{ {} }}", what.repeat(count));
        for query in [
            many(MAX_FIELDS + 1, "a "),
            many(MAX_ALIASES + 1, "a: b "),
            many(MAX_SPREADS + 1, "...F "),
            many(MAX_DIRECTIVES + 1, "a @x "),
            format!("{{ a(b: \"{}\") }}", "x".repeat(MAX_QUERY_BYTES)),
            "{a".repeat(2_000),
            format!("{{ a(b: {}1", "[".repeat(5_000)),
            // A quote in a block of text does not hide what comes after it.
            format!("{{ a(b: \"\"\"x\"y\"\"\", c: {}", "[".repeat(5_000)),
            format!("{{ a(b: \"\\\\\", c: {}", "[".repeat(5_000)),
        ] {
            assert_eq!(parse(&query, &Value::Null).unwrap_err(), BadGraphql::TooLarge, "{query}");
        }
        assert!(parse(&many(MAX_FIELDS, "a "), &Value::Null).is_ok());
        // Texts are not looked into.
        let brackets = "[".repeat(100);
        assert!(parse(&format!(r#"{{ a(b: "\"{brackets}") }} # {brackets}"#), &Value::Null).is_ok());
        assert!(parse(&format!(r#"{{ a(b: """\""" {brackets}""") }}"#), &Value::Null).is_ok());
        assert!(parse(&format!(r#"{{ a(b: "é{brackets}é") }}"#), &Value::Null).is_ok());
    }

    #[test]
    fn deep_json_is_refused() {
        let deep = format!("{{\"query\": {}", "[".repeat(100_000));
        assert_eq!(GraphqlRequest::parse(deep.as_bytes()).unwrap_err(), BadGraphql::Body);
        let deep = "[".repeat(100_000);
        assert_eq!(parse("{a}", &deep.into()).unwrap_err(), BadGraphql::Variables);
    }
}
