//! One function per command.

use std::io::Write;
use std::path::Path;

use membership::id::Label;
use overlay::object::Kind;

use super::args::{
    Api, ApplyArgs, AttachArgs, CaCommand, Cli, Command, ConflictsArgs, ConflictsCommand, DeleteArgs, DiffArgs,
    EndpointCommand, FunctionArgs, FunctionCommand, GetArgs, HistoryArgs, NamedArgs, NodeCommand, Output,
    QuarantineCommand, ResolveArgs, RollbackArgs, TokenCommand, UserCommand,
};
use super::client::Client;
use super::problem::Problem;
use super::show::{self, show};
use super::user::{self, Created};
use super::{anchor, backup, ca, changes, cluster, files, pages, quarantine, tables, watch};
use crate::api::changes::{Conflicts, Diff, History, Resolve, Resolved, Rollback, RolledBack};
use crate::api::nodes::NodeRemoved;
use crate::api::quarantine::{Quarantined, Released};
use crate::api::types::{
    Applied, Apply, Attach, Attached, Deleted, Detached, Drop, Function, FunctionLoad, FunctionRemoved, Object, Peer,
    Status, Token, TokenRequest,
};

/// Does what the command line says. Answers go to `out`, warnings to `err`.
pub async fn run(cli: Cli, out: &mut impl Write, err: &mut impl Write) -> Result<(), Problem> {
    match cli.command {
        Command::Completions { shell } => return pages::completions(shell, out),
        Command::Man { directory } => return pages::man(&directory),
        _ => {}
    }
    let mut session = Session {
        client: Client::new(cli.api, cli.identity.as_deref())?,
        output: cli.output,
        out,
        err,
    };
    match cli.command {
        Command::Status => session.status().await,
        Command::Peers => session.peers().await,
        Command::Apply(args) => session.apply(args).await,
        Command::Get(args) => session.get(args).await,
        Command::Describe(args) => session.describe(args).await,
        Command::Delete(args) => session.delete(args).await,
        Command::History(args) => session.history(args).await,
        Command::Diff(DiffArgs { domain, at }) => {
            let answer: Diff = session
                .client
                .get(&format!("/v1/domains/{domain}/diff?at={at}"))
                .await?;
            session.show(&answer, changes::diff)
        }
        Command::Rollback(RollbackArgs { domain, to, dry_run }) => {
            let request = Rollback {
                to: to.to_string(),
                dry_run,
            };
            let path = format!("/v1/domains/{domain}/rollback");
            let answer: RolledBack = session.client.post(&path, &request).await?;
            session.show(&answer, changes::rolled_back)
        }
        Command::Backup(args) => {
            let made = backup::make(&session.client, &args).await?;
            session.show(&made, backup::Made::told)
        }
        Command::Conflicts(args) => session.conflicts(args).await,
        Command::Endpoint(EndpointCommand::Attach(args)) => session.attach(args).await,
        Command::Endpoint(EndpointCommand::Detach { endpoint }) => {
            let path = format!("/v1/endpoints/{endpoint}/detach");
            let answer: Detached = session.client.post(&path, &serde_json::json!({})).await?;
            session.show(&answer, tables::detached)
        }
        Command::Drops(args) if args.watch => watch::drops(&session.client, session.output, session.out).await,
        Command::Drops(_) => session.drops().await,
        Command::Function(FunctionCommand::Load(args)) => session.load_function(args).await,
        Command::Function(FunctionCommand::List) => {
            let answer: Vec<Function> = session.client.get("/v1/functions").await?;
            session.show(&answer, |functions| tables::functions(functions))
        }
        Command::Function(FunctionCommand::Remove { function }) => {
            let path = format!("/v1/functions/{function}");
            let answer: FunctionRemoved = session.client.delete(&path).await?;
            session.show(&answer, tables::function_removed)
        }
        Command::Node(NodeCommand::Remove { node }) => {
            let path = format!("/v1/nodes/{}", anchor::segment(&node));
            let answer: NodeRemoved = session.client.delete(&path).await?;
            session.show(&answer, |removed| {
                format!(
                    "node {} ({}) is out of the cluster; its id does not return",
                    removed.name, removed.id
                )
            })
        }
        Command::Anchor(command) => {
            let answer = anchor::ask(&session.client, command).await?;
            session.show(&answer, anchor::table)
        }
        Command::Ca(CaCommand::Show) => {
            let answer = ca::show(&session.client).await?;
            session.show(&answer, ca::table)
        }
        Command::Ca(CaCommand::Rotate(args)) => {
            let answer = ca::rotate(&session.client, &args).await?;
            session.show(&answer, ca::table)
        }
        Command::Ca(CaCommand::Export(args)) => {
            let made = ca::export(&session.client, &args).await?;
            session.show(&made, ca::Exported::told)
        }
        Command::Quarantine(QuarantineCommand::List) => {
            let answer: Vec<Quarantined> = session.client.get("/v1/quarantine").await?;
            session.show(&answer, |held| quarantine::table(held))
        }
        Command::Quarantine(QuarantineCommand::Release { domain }) => {
            let answer: Released = session.client.delete(&format!("/v1/quarantine/{domain}")).await?;
            session.show(&answer, quarantine::released)
        }
        Command::Cluster(command) => {
            let answer = cluster::ask(&session.client, command).await?;
            session.show(&answer, cluster::table)
        }
        Command::Token(TokenCommand::Create { uses, ttl }) => {
            let answer: Token = session
                .client
                .post(
                    "/v1/tokens",
                    &TokenRequest {
                        uses,
                        ttl_s: ttl.as_secs(),
                    },
                )
                .await?;
            session.show(&answer, |token| token.token.clone())
        }
        Command::User(UserCommand::Create(args)) => {
            let created = user::create(&session.client, &args).await?;
            session.show(&created, Created::told)
        }
        // Done above, without a daemon.
        Command::Completions { .. } | Command::Man { .. } => Ok(()),
    }
}

/// The id of the node whose daemon is behind a socket.
pub async fn node_behind(socket: &Path) -> Result<String, Problem> {
    let client = Client::new(Api::Unix(socket.to_owned()), None)?;
    let status: Status = client.get("/v1/status").await?;
    Ok(status.node.id)
}

/// Asks the daemon behind a socket to have its node removed from the cluster.
pub async fn leave(socket: &Path) -> Result<NodeRemoved, Problem> {
    let client = Client::new(Api::Unix(socket.to_owned()), None)?;
    client.post("/v1/leave", &serde_json::json!({})).await
}

struct Session<'a, O, E> {
    client: Client,
    output: Output,
    out: &'a mut O,
    err: &'a mut E,
}

impl<O: Write, E: Write> Session<'_, O, E> {
    async fn status(&mut self) -> Result<(), Problem> {
        let answer: Status = self.client.get("/v1/status").await?;
        self.show(&answer, tables::status)
    }

    async fn peers(&mut self) -> Result<(), Problem> {
        let answer: Vec<Peer> = self.client.get("/v1/peers").await?;
        self.show(&answer, |peers| tables::peers(peers))
    }

    async fn drops(&mut self) -> Result<(), Problem> {
        let answer: Vec<Drop> = self.client.get("/v1/drops").await?;
        self.show(&answer, |drops| tables::drops(drops))
    }

    async fn apply(&mut self, args: ApplyArgs) -> Result<(), Problem> {
        let request = Apply {
            manifests: files::read(&args.files)?,
            objects: Vec::new(),
            wait: args.wait,
        };
        let only_if = args.only_if.as_ref();
        let answer: Applied = self.client.post_if("/v1/apply", &request, only_if).await?;
        self.show(&answer, tables::applied)?;
        self.warn(&answer.warnings)?;
        match answer.programmed {
            Some(programmed) if !programmed.pending.is_empty() => {
                Err(Problem::NotInForce(programmed.pending.join(", ")))
            }
            _ => Ok(()),
        }
    }

    async fn get(&mut self, args: GetArgs) -> Result<(), Problem> {
        let Some(name) = args.name else {
            let answer: Vec<Object> = self.client.get(&list_path(args.kind, args.domain.as_ref())).await?;
            return match self.output {
                Output::Yaml => show::documents(self.out, &answer),
                Output::Table | Output::Json => self.show(&answer, |objects| tables::objects(objects)),
            };
        };
        let object = NamedArgs {
            kind: args.kind,
            name,
            domain: args.domain,
        };
        let answer: Object = self
            .client
            .get(&format!("{}?programmed=false", object_path(&object)?))
            .await?;
        self.show(&answer, |object| tables::objects(std::slice::from_ref(object)))
    }

    async fn describe(&mut self, args: NamedArgs) -> Result<(), Problem> {
        let answer: Object = self.client.get(&object_path(&args)?).await?;
        self.show(&answer, tables::object)
    }

    async fn delete(&mut self, args: DeleteArgs) -> Result<(), Problem> {
        let path = format!("{}?cascade={}", object_path(&args.object)?, args.cascade);
        let answer: Deleted = self.client.delete_if(&path, args.only_if.as_ref()).await?;
        self.show(&answer, tables::deleted)
    }

    async fn history(&mut self, args: HistoryArgs) -> Result<(), Problem> {
        let domain = match (args.domain, args.kind, &args.name) {
            (Some(domain), Some(Kind::Domain), Some(name)) if domain != *name => return Err(Problem::OtherDomain),
            (Some(domain), _, _) => domain,
            (None, Some(Kind::Domain), Some(name)) => name.clone(),
            (None, _, _) => return Err(Problem::NoDomain),
        };
        let mut path = format!("/v1/domains/{domain}/history?limit={}", args.limit);
        if let Some(kind) = args.kind {
            path += &format!("&kind={kind}");
        }
        if let Some(name) = args.name {
            path += &format!("&name={name}");
        }
        let answer: History = self.client.get(&path).await?;
        self.show(&answer, changes::history)
    }

    async fn conflicts(&mut self, args: ConflictsArgs) -> Result<(), Problem> {
        let Some(ConflictsCommand::Resolve(args)) = args.command else {
            let of = args.domain.map(|domain| format!("?domain={domain}"));
            let answer: Conflicts = self
                .client
                .get(&format!("/v1/conflicts{}", of.unwrap_or_default()))
                .await?;
            return self.show(&answer, changes::conflicts);
        };
        let ResolveArgs {
            kind,
            name,
            domain,
            take,
            only_if,
        } = args;
        let path = format!("{}/resolve", object_path(&NamedArgs { kind, name, domain })?);
        let answer: Resolved = self.client.post_if(&path, &Resolve { take }, only_if.as_ref()).await?;
        self.show(&answer, changes::resolved)
    }

    async fn attach(&mut self, args: AttachArgs) -> Result<(), Problem> {
        let path = format!("/v1/endpoints/{}/attach", args.endpoint);
        let how = Attach {
            netns: args.netns,
            ifname: args.ifname,
            interface: args.interface,
        };
        let answer: Attached = self.client.post(&path, &how).await?;
        self.show(&answer, tables::attached)?;
        self.warn(&answer.warnings)
    }

    async fn load_function(&mut self, args: FunctionArgs) -> Result<(), Problem> {
        let load = FunctionLoad {
            domain: args.function.domain.to_string(),
            name: args.function.name.to_string(),
            hook: args.hook,
            fail: args.fail,
            // The daemon stands in another directory.
            path: std::path::absolute(args.file)?,
        };
        let answer: Function = self.client.post("/v1/functions", &load).await?;
        self.show(&answer, |function| tables::functions(std::slice::from_ref(function)))
    }

    fn show<T: serde::Serialize>(&mut self, value: &T, table: impl FnOnce(&T) -> String) -> Result<(), Problem> {
        show(self.out, self.output, value, table)
    }

    fn warn(&mut self, warnings: &[String]) -> Result<(), Problem> {
        for warning in warnings {
            writeln!(self.err, "fabricctl: warning: {warning}")?;
        }
        Ok(())
    }
}

fn list_path(kind: Kind, domain: Option<&Label>) -> String {
    match domain {
        Some(domain) => format!("/v1/domains/{domain}/{}", kind),
        None => format!("/v1/objects/{}", kind),
    }
}

/// A Domain is in itself.
fn object_path(object: &NamedArgs) -> Result<String, Problem> {
    let domain = match (&object.domain, object.kind) {
        (Some(domain), Kind::Domain) if *domain != object.name => return Err(Problem::OtherDomain),
        (Some(domain), _) => domain,
        (None, Kind::Domain) => &object.name,
        (None, Kind::Network | Kind::Endpoint | Kind::Router | Kind::SecurityPolicy) => return Err(Problem::NoDomain),
    };
    Ok(format!("/v1/domains/{domain}/{}/{}", object.kind, object.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_in_itself_and_all_else_in_one_that_is_said() {
        let label = |text: &str| text.parse::<Label>().expect("a label");
        for (kind, domain, expected) in [
            (Kind::Domain, None, Ok("/v1/domains/red/domain/red")),
            (Kind::Domain, Some("red"), Ok("/v1/domains/red/domain/red")),
            (Kind::Domain, Some("blue"), Err(2)),
            (Kind::Network, Some("blue"), Ok("/v1/domains/blue/network/red")),
            (Kind::Network, None, Err(2)),
        ] {
            let object = NamedArgs {
                kind,
                name: label("red"),
                domain: domain.map(label),
            };
            let path = object_path(&object).map_err(|problem| problem.exit().code());
            assert_eq!(
                path.map(|path| path.to_lowercase()),
                expected.map(str::to_owned),
                "{kind} {domain:?}"
            );
        }
    }
}
