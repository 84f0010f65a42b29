//! The operator's commands: a question to the server, an answer on standard output.

use std::process::ExitCode;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tokio::time::Instant;

use crate::admin::{NewAction, NewUser, OldUser};
use crate::cli::{
    ClientArgs, Enqueue, List, NodeAdd, NodeCommand, One, OperatorCommand, Show, UserAdd, UserCommand, UserRemove,
};
use crate::client::{Access, Api, ClientError};
use crate::secret;
use crate::state::StateDir;
use crate::store::{NodeChange, Status};
use crate::text;

/// How often `show --wait` looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Obeys a command.
pub(crate) async fn run(command: OperatorCommand, state: &StateDir) -> Result<ExitCode, ClientError> {
    let empty = None::<&()>;
    let (client, answer) = match command {
        OperatorCommand::Node(NodeCommand::List(client)) => {
            let nodes = client.open(state)?.call(Method::GET, "nodes", &[], empty).await?;
            (client, Printed { human: text::nodes(&nodes), value: nodes })
        }
        OperatorCommand::Node(NodeCommand::Add(add)) => {
            let change = add.change();
            let node = add.client.open(state)?.call(Method::POST, "nodes", &[], Some(&change)).await?;
            (add.client, Printed { human: text::line(&node["uuid"]), value: node })
        }
        OperatorCommand::User(UserCommand::List(client)) => {
            let users = client.open(state)?.call(Method::GET, "users", &[], empty).await?;
            (client, Printed { human: text::users(&users), value: users })
        }
        OperatorCommand::User(UserCommand::Add(UserAdd { name, password_file, client })) => {
            let new = NewUser { name, password: secret::read(password_file.as_deref())? };
            let user = client.open(state)?.call(Method::POST, "users", &[], Some(&new)).await?;
            (client, Printed { human: String::new(), value: user })
        }
        OperatorCommand::User(UserCommand::Remove(UserRemove { name, client })) => {
            let user = client.open(state)?.call(Method::POST, "users/remove", &[], Some(&OldUser { name })).await?;
            (client, Printed { human: String::new(), value: user })
        }
        OperatorCommand::Enqueue(Enqueue { node, service, command, client }) => {
            let new = NewAction { node, service, command };
            let action = client.open(state)?.call(Method::POST, "actions", &[], Some(&new)).await?;
            (client, Printed { human: text::line(&action["id"]), value: action })
        }
        OperatorCommand::List(List { node, status, client }) => {
            let node = node.as_deref().map(|node| ("node", node));
            let query: Vec<_> = node.into_iter().chain(status.map(|status| ("status", status.as_str()))).collect();
            let actions = client.open(state)?.call(Method::GET, "actions", &query, empty).await?;
            (client, Printed { human: text::actions(&actions), value: actions })
        }
        OperatorCommand::Show(Show { id, wait, client }) => {
            let (action, in_time) = show(&client.open(state)?, id, wait).await?;
            Printed { human: text::action(&action), value: action }.print(client.json);
            if !in_time {
                eprintln!("opensvc-actions-collector: action {id} is not terminated");
            }
            return Ok(if in_time { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        OperatorCommand::Redo(One { id, client }) => {
            let action = client.open(state)?.call(Method::POST, &format!("actions/{id}/redo"), &[], empty).await?;
            (client, Printed { human: text::state(&action), value: action })
        }
        OperatorCommand::Cancel(One { id, client }) => {
            let action = client.open(state)?.call(Method::POST, &format!("actions/{id}/cancel"), &[], empty).await?;
            (client, Printed { human: text::state(&action), value: action })
        }
    };
    answer.print(client.json);
    Ok(ExitCode::SUCCESS)
}

/// The action, and whether it terminated in time when that was asked.
async fn show(api: &Api, id: i64, wait: Option<u64>) -> Result<(Value, bool), ClientError> {
    let start = Instant::now();
    loop {
        let action = api.call(Method::GET, &format!("actions/{id}"), &[], None::<&()>).await?;
        let Some(seconds) = wait else { return Ok((action, true)) };
        if action["status"] == Status::T.as_str() {
            return Ok((action, true));
        }
        if start.elapsed() >= Duration::from_secs(seconds) {
            return Ok((action, false));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// An answer, for a program and for a person.
struct Printed {
    value: Value,
    human: String,
}

impl Printed {
    fn print(&self, json: bool) {
        use std::io::Write as _;
        let mut stdout = std::io::stdout();
        // A reader that went away wants no more.
        let _ = if json { writeln!(stdout, "{}", self.value) } else { write!(stdout, "{}", self.human) };
    }
}

impl NodeAdd {
    fn change(&self) -> NodeChange {
        NodeChange {
            name: self.name.clone(),
            action_type: self.action_type,
            uuid: self.uuid.clone(),
            connect_to: self.connect_to.clone(),
            port: self.port,
            cluster: self.cluster.clone(),
        }
    }
}

impl ClientArgs {
    fn open(&self, state: &StateDir) -> Result<Api, ClientError> {
        let access = Access {
            state: state.clone(),
            url: self.url.clone(),
            ca_file: self.ca_file.clone(),
            token_file: self.token_file.clone(),
        };
        access.open()
    }
}
