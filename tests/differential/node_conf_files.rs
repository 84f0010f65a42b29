//! Whole files, byte by byte, against python3's `configparser`: the peculiarities of the 2.x agent's parser, one by one,
//! and what comes of them: the collector that the node talks to.

use std::fs::{self, DirBuilder};
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use opensvc_actions::config::{Paths, Settings};
use serde_json::{Value, json};

/// Reads a JSON array of pairs of files, parses both as the agent does (the cluster's first, the node's on top), writes
/// `node.dbopensvc` for each: null if it is not there, false if a file cannot be parsed.
const ORACLE: &str = r#"
import configparser, json, sys

def read(files):
    parser = configparser.RawConfigParser(strict=False, default_section="no such section")
    parser.optionxform = str
    try:
        for file in files:
            parser.read(file, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        return False
    return parser.get("node", "dbopensvc", fallback=None)

json.dump([read(files) for files in json.load(sys.stdin)], sys.stdout)
"#;

/// What is peculiar, `node.conf`, `cluster.conf`. The uuid is given as a credential, so that both may hold anything.
const FILES: &[(&str, &[u8], &[u8])] = &[
    ("plain", b"[node]\ndbopensvc = a\n", b""),
    ("no file end", b"[node]\ndbopensvc = a", b""),
    ("a byte order mark", b"\xef\xbb\xbf[node]\ndbopensvc = a\n", b""),
    ("a byte order mark and a comment", b"\xef\xbb\xbf# x\n[node]\ndbopensvc = a\n", b""),
    ("an undecodable byte in a value", b"[node]\ndbopensvc = \xff\n", b""),
    ("an undecodable byte in a comment", b"# \xe9t\xe9\n[node]\ndbopensvc = a\n", b""),
    ("an undecodable byte in the other file", b"[node]\ndbopensvc = a\n", b"# \xff\n"),
    ("a cut character at the end", b"[node]\ndbopensvc = a\n# \xc3", b""),
    ("a surrogate", b"[node]\ndbopensvc = a\n# \xed\xa0\x80\n", b""),
    ("a key before any section", b"x = 1\n[node]\ndbopensvc = a\n", b""),
    ("a comment before any section", b"# x\n; y\n\n[node]\ndbopensvc = a\n", b""),
    ("a line that is nothing", b"[node]\nx\ndbopensvc = a\n", b""),
    ("a line that is nothing in the other file", b"[node]\ndbopensvc = a\n", b"[node]\nx\n"),
    ("a delimiter without a key", b"[node]\n = x\ndbopensvc = a\n", b""),
    ("a header without an end", b"[node\ndbopensvc = a\n", b""),
    ("a header with something behind", b"[node] # x\ndbopensvc = a\n", b""),
    ("an indented header", b"  [node]\ndbopensvc = a\n", b""),
    ("a colon", b"[node]\ndbopensvc: a\n", b""),
    ("a colon first", b"[node]\ndbopensvc:a=b\n", b""),
    ("no blank", b"[node]\ndbopensvc=a\n", b""),
    ("many blanks", b"[node]\ndbopensvc \t =  \t a \t\n", b""),
    ("the key twice", b"[node]\ndbopensvc = a\ndbopensvc = b\n", b""),
    ("the section twice", b"[node]\ndbopensvc = a\n[x]\n[node]\ny = 1\n", b""),
    ("the section twice with the key", b"[node]\ndbopensvc = a\n[node]\ndbopensvc = b\n", b""),
    ("another case of the section", b"[Node]\ndbopensvc = a\n", b""),
    ("another case of the key", b"[node]\nDbopensvc = a\n", b""),
    ("a DEFAULT section", b"[DEFAULT]\ndbopensvc = a\n[node]\nx = 1\n", b""),
    ("CRLF", b"[node]\r\ndbopensvc = a\r\n", b""),
    ("CR", b"[node]\rdbopensvc = a\r", b""),
    ("all line ends", b"[node]\r\nx = 1\n\ry = 2\rdbopensvc = a\n\r\n", b""),
    ("indented keys behind the header", b"[node]\n  x = 1\n  dbopensvc = a\n", b""),
    ("an indented key behind a key", b"[node]\nx = 1\n  dbopensvc = a\n", b""),
    ("a tab before the key", b"[node]\n\tdbopensvc = a\n", b""),
    ("a continuation that is empty", b"[node]\ndbopensvc = a\n  \n\nx = 1\n", b""),
    ("a comment within the value", b"[node]\ndbopensvc = a\n# x\n  # y\nx = 1\n", b""),
    ("the value on the next line", b"[node]\ndbopensvc =\n  a\n", b""),
    ("a scope", b"[node]\ndbopensvc@n1 = a\n", b""),
    ("an empty value", b"[node]\ndbopensvc =\n", b""),
    ("an empty value over the other file's", b"[node]\ndbopensvc =\n", b"[node]\ndbopensvc = a\n"),
    ("the other file's value", b"[node]\nx = 1\n", b"[node]\ndbopensvc = a\n"),
    ("the node's value over the other file's", b"[node]\ndbopensvc = b\n", b"[node]\ndbopensvc = a\n"),
    ("nothing at all", b"", b""),
    ("blank lines", b"\n \n\t\n", b"\n"),
    ("a form feed and a no-break space", b"[node]\ndbopensvc =\x0c\xc2\xa0a\xc2\xa0\n", b""),
    ("a NUL in a comment", b"# \0\n[node]\ndbopensvc = a\n", b""),
    ("an inline comment", b"[node]\ndbopensvc = a ; b\n", b""),
    ("quotes", b"[node]\ndbopensvc = \"a\"\n", b""),
    ("a percent sign", b"[node]\ndbopensvc = a/%(x)s\n", b""),
    ("a continued value", b"[node]\ndbopensvc = a\n  b\n", b""),
];

fn ask_python(files: &[[String; 2]]) -> Vec<Value> {
    let mut python = Command::new("python3")
        .args(["-I", "-X", "utf8", "-c", ORACLE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test compares with python3, which must be installed");
    let mut stdin = python.stdin.take().expect("a pipe");
    stdin.write_all(json!(files).to_string().as_bytes()).expect("python3 reads");
    drop(stdin);
    let output = python.wait_with_output().expect("python3 ends");
    assert!(output.status.success(), "python3 failed: {}", output.status);
    serde_json::from_slice(&output.stdout).expect("python3 writes JSON")
}

/// The endpoint, or the error in words.
fn ours(root: &Path) -> Result<String, String> {
    let credentials = root.join("cred").display().to_string();
    let env = |name: &str| (name == "CREDENTIALS_DIRECTORY").then(|| credentials.clone());
    let paths = Paths::resolve(Some(root), &|_| None);
    let settings = Settings::load(&paths, None, "n1", &env).map_err(|error| error.to_string())?;
    Ok(settings.queues.into_iter().map(|queue| queue.base_url).collect())
}

#[test]
fn the_peculiarities_of_the_2x_parser_are_ours() {
    let directory = tempfile::tempdir().unwrap();
    let mut asked = Vec::new();
    for (index, (_, node, cluster)) in FILES.iter().enumerate() {
        let root = directory.path().join(index.to_string());
        for path in [root.clone(), root.join("etc"), root.join("cred")] {
            DirBuilder::new().mode(0o755).create(path).unwrap();
        }
        let file = |name: &str, text: &[u8]| {
            let path = root.join(name);
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        file("cred/opensvc-uuid", b"6f2d0c1e-5ec4-4e7a-8b1d-0123456789ab");
        asked.push([file("etc/cluster.conf", cluster), file("etc/node.conf", node)]);
    }
    let answers = ask_python(&asked);
    assert_eq!(answers.len(), FILES.len());
    let mut seen = [0; 4];
    for (index, (answer, (what, ..))) in answers.iter().zip(FILES).enumerate() {
        let ours = ours(&directory.path().join(index.to_string()));
        let (class, fits) = match answer {
            // what the agent cannot parse, we refuse with the line
            Value::Bool(false) => (0, ours.as_ref().is_err_and(|error| error.contains(".conf:"))),
            Value::Null => (1, ours.as_ref().is_err_and(|error| error.starts_with("no collector is configured"))),
            Value::String(value) if value.is_empty() => {
                (1, ours.as_ref().is_err_and(|error| error.starts_with("no collector is configured")))
            }
            Value::String(value) if value.bytes().all(|byte| byte.is_ascii_lowercase()) => {
                (2, ours.as_ref().is_ok_and(|url| *url == format!("https://{value}:443/feed/default/call/xmlrpc")))
            }
            // it would take this literally, and never reach anybody; we say so, and quote it literally
            Value::String(value) => {
                (3, ours.as_ref().is_err_and(|error| error.contains(&format!("{value:?} is not usable"))))
            }
            other => panic!("{other}"),
        };
        assert!(fits, "{what}: {answer} there, {ours:?} here");
        seen[class] += 1;
    }
    assert!(seen.iter().all(|count| *count >= 3), "the cases prove little: {seen:?}");
}
