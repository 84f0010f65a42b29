//! References in OpenSVC keywords: `{nodename}`, `{short_nodename}`, `{section.key}`, `{env.x}`.
//!
//! The agents know many more and leave an unknown one as it is. Here that is an error: a half-expanded address or secret
//! must not go out.

use super::keywords::Document;

/// References within references, at most.
const MAX_DEPTH: usize = 16;

/// References in one keyword, those within references included, at most.
const MAX_EXPANSIONS: usize = 256;

/// The length of a keyword with its references replaced, in bytes, at most. No address and no secret is longer.
const MAX_LENGTH: usize = 64 * 1024;

/// The sections whose keys can be meant for a node (`key@node`).
const SCOPED: [&str; 3] = ["env", "labels", "data"];

/// What references are resolved against.
pub(super) struct References<'a> {
    /// The keywords, as the reading of the keyword at hand has them.
    pub(super) document: &'a Document,
    /// The node's name.
    pub(super) node: &'a str,
    /// The process environment.
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
}

impl References<'_> {
    /// The value with every reference replaced. The error is a reason, in words.
    pub(super) fn expand(&self, value: &str) -> Result<String, String> {
        self.expand_within(value, MAX_DEPTH, &mut 0)
    }

    fn expand_within(&self, value: &str, depth: usize, count: &mut usize) -> Result<String, String> {
        if let Some(expression) = between(value, "$(", ')') {
            return Err(format!("\"$({expression})\" is an expression, which is not supported here"));
        }
        let mut expanded = String::with_capacity(value.len());
        let mut rest = value;
        while let Some(name) = between(rest, "{", '}') {
            *count += 1;
            if depth == 0 || *count > MAX_EXPANSIONS {
                return Err(format!("\"{{{name}}}\" leads to too many references, perhaps to itself"));
            }
            let (before, behind) = rest.split_once('{').unwrap_or_default();
            expanded.push_str(before);
            expanded.push_str(&self.resolve(name, depth, count)?);
            if expanded.len() > MAX_LENGTH {
                return Err(format!("it becomes longer than {} KiB by its references", MAX_LENGTH >> 10));
            }
            rest = behind.get(name.len() + 1..).unwrap_or_default();
        }
        expanded.push_str(rest);
        Ok(expanded)
    }

    fn resolve(&self, name: &str, depth: usize, count: &mut usize) -> Result<String, String> {
        match name {
            "nodename" => return Ok(self.node.to_owned()),
            "short_nodename" => return Ok(self.node.split('.').next().unwrap_or_default().to_owned()),
            _ => {}
        }
        let is_word = |word: &str| {
            !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '#' | '.' | '/'))
        };
        let Some((section, key)) = name.split_once('.').filter(|(section, key)| is_word(section) && is_word(key))
        else {
            return Err(format!(
                "the reference \"{{{name}}}\" is not supported here; \"{{nodename}}\", \"{{short_nodename}}\", \
                 \"{{section.key}}\" and \"{{env.x}}\" are"
            ));
        };
        let of_process = if section == "env" { (self.env)(&key.to_uppercase()) } else { None };
        if let Some(value) = of_process {
            return Ok(value);
        }
        let value = if SCOPED.contains(&section) {
            let scopes = [format!("{key}@{}", self.node), format!("{key}@nodes"), key.to_owned()];
            scopes.iter().find_map(|key| self.document.get(section, key))
        } else {
            self.document.get(section, key)
        };
        let value = value.ok_or_else(|| format!("the reference \"{{{name}}}\" leads to nothing that is set"))?;
        self.expand_within(&value.value, depth - 1, count)
    }
}

/// What stands between the first `open` and the `close` that belongs to it, braces within counted.
fn between<'a>(text: &'a str, open: &str, close: char) -> Option<&'a str> {
    let (_, inner) = text.split_once(open)?;
    let opening = open.chars().next_back()?;
    let mut nested = 0_usize;
    for (index, c) in inner.char_indices() {
        if c == opening {
            nested += 1;
        } else if c == close && nested == 0 {
            return Some(&inner[..index]);
        } else if c == close {
            nested -= 1;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::config::node_conf::Reading;

    const CONF: &str = "[DEFAULT]\ninherited = yes\n[node]\na = 1\nb = {node.a}{nodename}\nloop = {node.loop}\n\
                        [env]\nhost = plain\nhost@n1.example.com = scoped\nhost@n2 = other\nall = plain\n\
                        all@nodes = nodes\nshell = file\n[labels]\nl = plain\nl@n1.example.com = scoped\n[disk#1]\ndev = sda\n[x]\nw0 = {x.w1}{x.w1}{x.w1}{x.w1}\n\
                        w1 = {x.w2}{x.w2}{x.w2}{x.w2}\nw2 = {x.w3}{x.w3}{x.w3}{x.w3}\nw3 = {x.w4}{x.w4}{x.w4}{x.w4}\nw4 = w";

    fn expand(value: &str, reading: Reading) -> Result<String, String> {
        let document = Document::parse(&Arc::from(Path::new("node.conf")), CONF, reading).unwrap();
        let env = |name: &str| (name == "SHELL").then(|| "process".to_owned());
        References { document: &document, node: "n1.example.com", env: &env }.expand(value)
    }

    #[test]
    fn known_references_are_replaced() {
        for (value, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("{nodename}", "n1.example.com"),
            ("<{short_nodename}>", "<n1>"),
            ("{node.a}-{node.a}", "1-1"),
            ("{node.b}", "1n1.example.com"),
            ("{env.host}", "scoped"),
            ("{env.all}", "nodes"),
            ("{env.shell}", "process"),
            ("{labels.l}", "scoped"),
            ("{disk#1.dev}", "sda"),
            ("a{b", "a{b"),
            ("a}b{", "a}b{"),
            ("$HOME", "$HOME"),
        ] {
            assert_eq!(expand(value, Reading::V2).as_deref(), Ok(expected), "{value}");
        }
        assert_eq!(expand("{node.inherited}", Reading::V3).as_deref(), Ok("yes"));
    }

    #[test]
    fn any_other_is_an_error_that_quotes_it() {
        for reference in [
            "{}",
            "{a}",
            "{clustername}",
            "{etc}",
            "{safe://x/y}",
            "{upper:nodename}",
            "{#node.a}",
            "{node.a[0]}",
            "{NODENAME}",
            "{env.{nodename}}",
            "{node.missing}",
            "{env.missing}",
            "{node.inherited}",
            "{.a}",
            "{a.}",
        ] {
            let error = expand(&format!("https://{reference}/"), Reading::V2).unwrap_err();
            assert!(error.contains(&format!("{reference:?}")), "{reference}: {error}");
        }
        assert!(expand("$(1+{node.a})", Reading::V2).unwrap_err().contains("\"$(1+{node.a})\""));
    }

    #[test]
    fn recursion_ends() {
        for reference in ["{node.loop}", "{x.w0}"] {
            assert!(expand(reference, Reading::V2).unwrap_err().contains("too many references"), "{reference}");
        }
        assert_eq!(expand("{x.w2}", Reading::V2).unwrap(), "w".repeat(16));
    }

    #[test]
    fn what_becomes_endless_is_refused() {
        let conf = format!("[x]\nlong = {}\n", "w".repeat(40 * 1024));
        let document = Document::parse(&Arc::from(Path::new("node.conf")), &conf, Reading::V2).unwrap();
        let references = References { document: &document, node: "n1", env: &|_| None };
        assert!(references.expand("{x.long}").is_ok());
        assert!(references.expand("{x.long}{x.long}").unwrap_err().contains("longer than 64 KiB"));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(value in ".*", likely in "[{}$()a.]*(\\{nodename\\}|\\{node.a\\})*") {
            for value in [value, likely] {
                let _ = expand(&value, Reading::V3);
            }
        }
    }
}
