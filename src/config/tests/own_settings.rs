//! What `actions.toml` and its drop-ins make of them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::super::*;
use super::{Node, UUID, toml_error};

#[test]
fn dialect_tables_override_the_collector_table_key_by_key() {
    let node = Node::new("collector = c\ndbopensvc = d").toml(
        "[collector]\nnode = \"Common\"\nproxy = \"proxy:3128\"\nconnect_timeout = \"1s\"\n\
         [collector.rpc]\nformat = \"xml\"\nnode = \"special\"\nproxy = \"none\"\nack = \"started\"\n",
    );
    let settings = node.load();
    let [oc3, rpc] = &settings.queues[..] else { panic!("{:?}", settings.queues) };
    assert_eq!((&*oc3.node, &*rpc.node), ("Common", "special"));
    assert_eq!((&oc3.proxy, &rpc.proxy), (&Proxy::Url("http://proxy:3128".to_owned()), &Proxy::Never));
    assert_eq!((oc3.ack, rpc.ack), (Ack::Received, Ack::Started));
    assert_eq!((oc3.connect_timeout, rpc.connect_timeout), (Duration::from_secs(1), Duration::from_secs(1)));
}

#[test]
fn later_files_win_and_tables_merge() {
    let node = Node::new("collector = c")
        .toml(
            "[wake]\nallow = [\"10.0.0.0/8\"]\n[execution]\nom = \"a\"\ntimeout = \"1h\"\nenvironment = { A = \"1\", B = \"1\" }",
        )
        .file("etc/actions.d/20.toml", "[execution]\nom = \"c\"\nenvironment.B = \"3\"\n")
        .file("etc/actions.d/10.toml", "[execution]\nom = \"b\"\ntimeout = \"none\"\nenvironment.B = \"2\"\n")
        .file("etc/actions.d/.30.toml", "nonsense")
        .file("etc/actions.d/40.toml.bak", "nonsense")
        .file("candidate.toml", "[execution]\nom = \"/opt/om\"\n");
    let settings = node.load();
    assert_eq!(settings.execution.om, "c");
    assert_eq!(settings.execution.timeout, None);
    assert_eq!(settings.execution.environment, [("A", "1"), ("B", "3")].map(|(k, v)| (k.into(), v.into())).into());
    assert_eq!(settings.wake.allow, ["10.0.0.0/8".parse().unwrap()]);

    let candidate = node.root.path().join("candidate.toml");
    let settings = node.load_with(Some(&candidate)).unwrap();
    assert_eq!(settings.execution.om, "/opt/om");
    assert!(settings.wake.allow.is_empty());
    assert!(matches!(node.load_with(Some(&node.root.path().join("no"))), Err(ConfigError::Read { .. })));
    let node = node.file("etc/actions.d/30.toml", "\n[execution]\nom = 1\n");
    assert!(node.error().starts_with("actions.d/30.toml:3: execution.om: "));
}

#[test]
fn retention_is_a_number_of_days_or_less() {
    let node = Node::new("collector = c").toml("[retention]\nunreported = \"2d\"\nhistory = \"90d\"\n");
    let days = |days: u64| Duration::from_secs(days * 24 * 3600);
    assert_eq!(node.load().retention, Retention { unreported: days(2), history: days(90), kept_output: 256 << 20 });
    let text = "[execution]\nkept_output = \"64KiB\"\n[retention]\nkept_output = \"2GiB\"\n";
    let kept = Node::new("collector = c").toml(text).load();
    assert_eq!((kept.execution.kept_output, kept.retention.kept_output), (64 << 10, 2 << 30));
    assert!(toml_error("[retention]\nhistory = \"0s\"").contains("must be from 1s to 366d"));
}

#[test]
fn the_metrics_go_into_a_file_with_an_absolute_name() {
    assert!(toml_error("[metrics]\ntextfile = \"x.prom\"").contains("\"x.prom\" is not an absolute path"));
    assert!(toml_error("[metrics]\ntextfile = \"/x/\"").contains("\"/x/\" is not the name of a file"));
}

#[test]
fn an_external_action_without_a_usable_name_or_command_is_refused() {
    let both = "action = [\"/a\"]\ncheck = [\"/c\"]";
    for (text, expected) in [
        (
            format!("[external_actions.\".x\"]\n{both}"),
            "1: external_actions..x: a name begins with a letter or a digit",
        ),
        (format!("[external_actions.\"a b\"]\n{both}"), "1: external_actions.a b: a name has letters"),
        ("[external_actions.x]\naction = [\"/a\"]".to_owned(), "1: external_actions.x: check is missing"),
        (
            "[external_actions.x]\ncheck = [\"/c\"]\naction = []".to_owned(),
            "3: external_actions.x.action: a command has",
        ),
        (
            both.replace("/a", "a").replace("action", "[external_actions.x]\naction"),
            "2: external_actions.x.action: \"a\" is not",
        ),
        (
            format!("[external_actions.x]\n{both}\nuser = \"0\""),
            "4: external_actions.x.user: \"0\" is not the name of a user",
        ),
        (format!("[external_actions.x]\n{both}\ntimeot = \"1h\""), "4: unknown key \"timeot\" in [external_actions.x]"),
        (
            format!("[external_actions.x]\n{both}\ninterval = \"1ms\""),
            "4: external_actions.x.interval: \"1ms\" is out of range",
        ),
    ] {
        let error = toml_error(&text);
        assert!(error.starts_with(&format!("actions.toml:{expected}")), "{error}");
    }
}

#[test]
fn unknown_keys_are_named_with_the_nearest_known_one() {
    for (text, expected) in [
        ("queue = \"auto\"", "1: unknown key \"queue\" in the top table; did you mean \"queues\"?"),
        ("[colector]\nx = 1", "1: unknown key \"colector\" in the top table; did you mean \"collector\"?"),
        (
            "[execution]\nom = \"a\"\nkill-grace = \"1s\"",
            "3: unknown key \"kill-grace\" in [execution]; did you mean \"kill_grace\"?",
        ),
        ("[collector]\nformat = \"xml\"", "2: unknown key \"format\" in [collector]"),
        ("[collector.oc4]\nx = 1", "1: unknown key \"oc4\" in [collector]; did you mean \"oc3\"?"),
        ("[wake]\nzzz = 1\nyyy = 2", "2: unknown key \"zzz\" in [wake]"),
    ] {
        assert_eq!(toml_error(text), format!("actions.toml:{expected}"));
    }
}

#[test]
fn wrong_values_name_file_line_and_key() {
    for (text, expected) in [
        ("[execution\n", "1: "),
        ("[wake]\nallow = [\"10.0.0.0/8\"]\nallow = []", "3: duplicate key"),
        ("execution = 1", "1: execution: expected a table, not an integer"),
        ("[execution]\ntimeout = 30", "2: execution.timeout: expected a string, not an integer"),
        ("[execution]\ntimeout = \"30\"", "2: execution.timeout: \"30\" is not a duration"),
        ("[execution]\ntimeout = \"0s\"", "2: execution.timeout: \"0s\" is out of range; it must be from 1ms to 366d"),
        ("[execution]\nkill_grace = \"367d\"", "2: execution.kill_grace: \"367d\" is out of range"),
        ("[execution]\nom = \"./om\"", "2: execution.om: \"./om\" is neither a name"),
        ("[execution.environment]\nA = 1", "2: execution.environment.A: expected a string, not an integer"),
        ("[execution.environment]\n\"A=B\" = \"1\"", "2: execution.environment.A=B: this is not the name"),
        (
            "[execution.environment]\nCREDENTIALS_DIRECTORY = \"/\"",
            "2: execution.environment.CREDENTIALS_DIRECTORY: this",
        ),
        ("[execution.environment]\nLISTEN_FDS = \"1\"", "2: execution.environment.LISTEN_FDS: this variable belongs"),
        ("[execution]\nmax_parallel = 0", "2: execution.max_parallel: 0 is out of range; it must be from 1 to 64"),
        ("[execution]\nmax_parallel = \"2\"", "2: execution.max_parallel: expected a whole number, not a string"),
        ("[execution]\nlauncher = \"cron\"", "2: execution.launcher: \"cron\" is none of"),
        ("[collector]\nexclusive = 1", "2: collector.exclusive: expected true or false, not an integer"),
        ("[collector.rpc]\nformat = \"yaml\"", "2: collector.rpc.format: \"yaml\" is neither"),
        ("[execution]\nkept_output = 1", "2: execution.kept_output: expected a string, not an integer"),
        ("[execution]\nkept_output = \"1MB\"", "2: execution.kept_output: \"1MB\" is not a size"),
        (
            "[execution]\nkept_output = \"2GiB\"",
            "2: execution.kept_output: \"2GiB\" is out of range; it must be from 64KiB to 1GiB",
        ),
        (
            "[retention]\nkept_output = \"1KiB\"",
            "2: retention.kept_output: \"1KiB\" is out of range; it must be from 64KiB to 1024GiB",
        ),
        ("[wake]\nallow = \"10.0.0.0/8\"", "2: wake.allow: expected an array of strings, not a string"),
        ("[wake]\nallow = [\n\"::/0\",\n\"10.0.0.0/33\"]", "4: wake.allow: \"10.0.0.0/33\" is neither a network"),
        ("[wake]\nmin_interval = \"soon\"", "2: wake.min_interval: \"soon\" is not a duration"),
        ("[log]\nredact = [\"\"]", "2: log.redact: an empty text"),
        ("[collector]\nconnect_timeout = \"2h\"", "2: collector.connect_timeout: \"2h\" is out of range"),
        ("[collector]\nack = \"later\"", "2: collector.ack: \"later\" is neither"),
        ("[collector]\nnode = \"a b\"", "2: collector.node: \"a b\" cannot be used"),
        ("[collector]\nproxy = \"http://u:s3cret@\"", "2: collector.proxy: \"http://<redacted>@\" is neither"),
        ("[collector]\nca_file = \"ca.pem\"", "2: collector.ca_file: \"ca.pem\" is not an absolute path"),
        ("[collector.oc3]\nca_file = \"/no/such\"", "2: collector.oc3.ca_file: cannot use /no/such"),
        ("[collector]\nca_file = \"/\"", "2: collector.ca_file: cannot use /"),
        ("[collector]\nclient_cert = \"/x\"", "2: collector.client_cert: client_key is missing beside it"),
        ("[collector.rpc]\nclient_key = \"/x\"", "2: collector.rpc.client_key: client_cert is missing beside it"),
    ] {
        let error = toml_error(text);
        assert!(error.starts_with(&format!("actions.toml:{expected}")), "{text}: {error}");
    }
}

#[test]
fn a_settings_file_that_others_can_write_is_refused() {
    for name in
        ["etc/actions.toml", "etc/actions.d/1.toml", "etc/actions.d", "etc/node.conf", "etc/cluster.conf", "etc"]
    {
        let node = Node::new("collector = c").toml("").file("etc/actions.d/1.toml", "").file("etc/cluster.conf", "");
        node.load();
        fs::set_permissions(node.root.path().join(name), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(node.load_with(None), Err(ConfigError::Untrusted { .. })), "{name}");
    }
}

#[test]
fn explain_names_origins_and_shows_no_secret() {
    let node = Node::new("dbopensvc = d").file("tls/cert.pem", "").file("tls/key.pem", "");
    let tls = node.root.path().join("tls").display().to_string();
    let node = node.toml(&format!(
        "[collector]\nproxy = \"http://u:s3cret@p\"\nclient_cert = \"{tls}/cert.pem\"\nclient_key = \"{tls}/key.pem\"\n\
         [execution.environment]\nAPI_TOKEN = \"s3cret\"\nLANG = \"C.UTF-8\"\n[execution]\ntimeout = \"90m\"\n"
    ));
    let settings = node.load();
    let rows = settings.explain();
    let row = |key: &str| {
        let row = rows.iter().find(|row| row.key == key).unwrap_or_else(|| panic!("{key}"));
        (row.value.as_str(), node.strip(&row.origin.to_string()))
    };
    let from = |text: &str| text.to_owned();
    assert_eq!(row("queues"), ("rpc", from("default")));
    assert_eq!(row("collector.rpc.base_url"), ("https://d:443/feed/default/call/xmlrpc", from("node.conf:3")));
    assert_eq!(row("collector.rpc.node"), ("n1.example.com", from("host name")));
    assert_eq!(row("collector.rpc.uuid"), ("<redacted>", from("node.conf:2")));
    assert_eq!(row("collector.rpc.proxy"), ("http://<redacted>@p", from("actions.toml:2")));
    assert_eq!(row("collector.rpc.client_key"), (&*format!("{tls}/key.pem"), from("actions.toml:4")));
    assert_eq!(row("collector.rpc.ca_file"), ("none", from("default")));
    assert_eq!(row("execution.timeout"), ("90m", from("actions.toml:9")));
    assert_eq!(row("execution.environment.API_TOKEN"), ("<redacted>", from("actions.toml:6")));
    assert_eq!(row("execution.environment.LANG"), ("C.UTF-8", from("actions.toml:7")));
    for text in [format!("{rows:?}"), format!("{settings:?}"), format!("{settings:#?}")] {
        assert!(!text.contains("s3cret") && !text.contains(UUID), "{text}");
    }
    assert!(settings.origins.keys().all(|key| rows.iter().any(|row| row.key == *key)), "{:?}", settings.origins);
}

#[test]
fn what_commands_get_is_bounded() {
    let variables = |count: usize| {
        let lines: Vec<_> = (0..count).map(|number| format!("V{number} = \"x\"")).collect();
        format!("[execution.environment]\n{}\n", lines.join("\n"))
    };
    let node = Node::new("collector = c").toml(&variables(64));
    assert_eq!(node.load().execution.environment.len(), 64);
    let replaced = node.file("etc/actions.d/1.toml", "execution.environment.V1 = \"y\"\n");
    assert_eq!(replaced.load().execution.environment["V1"], "y");
    assert!(toml_error(&variables(65)).ends_with(": execution.environment: there are more than 64 variables"));
    let long = format!("execution.environment.A = \"{}\"\n", "x".repeat((16 << 10) + 1));
    assert_eq!(toml_error(&long), "actions.toml:1: execution.environment.A: a value cannot be longer than 16 KiB");
}

#[test]
fn plain_http_is_spoken_through_a_proxy_only_where_the_site_says_so_and_not_to_this_machine() {
    let proxy = "[collector]\nproxy = \"http://p\"\n";
    for (url, toml, expected) in [
        ("http://127.0.0.1", "", Proxy::Never),
        ("http://127.0.0.1", proxy, Proxy::Never),
        ("http://c", "", Proxy::Never),
        ("http://c", proxy, Proxy::Url("http://p".to_owned())),
        ("https://127.0.0.1", "", Proxy::Environment),
        ("https://c", proxy, Proxy::Url("http://p".to_owned())),
    ] {
        let node = Node::new(&format!("collector = {url}\ndbinsecure = true")).toml(toml);
        assert_eq!(node.load().queues[0].proxy, expected, "{url}, {toml:?}");
    }
}

#[test]
fn an_unusable_host_name_is_an_error_unless_the_node_is_named() {
    let node = Node::new("collector = c").toml("[collector]\nnode = \"n1\"\n");
    let paths = Paths::resolve(Some(node.root.path()), &|_| None);
    assert!(Settings::load(&paths, None, "", &|_| None).is_ok());
    fs::remove_file(paths.actions_toml.clone()).unwrap();
    assert!(matches!(Settings::load(&paths, None, "", &|_| None), Err(ConfigError::NodeName { .. })));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(
        text in "(?s).*",
        likely in "(\\[(collector|collector\\.rpc|wake|execution|log)\\]|[a-z_]{1,8} ?= ?(\"[^\"]*\"|\\[\"\"\\]|[0-9]+)|\n){0,8}",
    ) {
        for text in [text, likely] {
            let _ = fragments::Fragments::default().read(Path::new("x"), &text);
        }
    }
}
