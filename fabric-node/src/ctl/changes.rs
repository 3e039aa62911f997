//! History, differences, rollback and conflicts as people read them. Pure functions from the API's values to text.

use serde::Serialize;
use serde_json::Value;
use similar::TextDiff;

use super::tables::{grid, printable, section};
use crate::api::changes::{
    Conflict, ConflictVersion, Conflicts, Diff, History, HistoryEntry, ObjectDiff, Resolved, RolledBack, Side,
    VersionState, VoidVersion, Written,
};

/// What stands where nothing is known.
const NONE: &str = "-";

fn written(action: Written) -> &'static str {
    match action {
        Written::Created => "created",
        Written::Configured => "configured",
        Written::Deleted => "deleted",
    }
}

fn called(kind: &str, domain: &str, name: &str) -> String {
    match kind {
        "Domain" => format!("Domain {name}"),
        kind => format!("{kind} {domain}/{name}"),
    }
}

pub(super) fn history(history: &History) -> String {
    let row = |entry: &HistoryEntry| {
        let state = match entry.state {
            VersionState::Shown => "in force",
            VersionState::Sibling => "conflict",
            VersionState::Replaced => NONE,
        };
        let gap = if entry.gap {
            " (what it replaced is not known here)"
        } else {
            ""
        };
        vec![
            entry.stamp.clone(),
            entry.version.to_string(),
            entry.kind.clone(),
            entry.name.clone(),
            format!("{}{gap}", written(entry.action)),
            entry.author.clone(),
            entry.node_name.clone(),
            state.to_owned(),
        ]
    };
    let header = ["TIME", "VERSION", "KIND", "NAME", "WHAT", "AUTHOR", "NODE", "STATE"];
    let table = grid(&header, history.entries.iter().map(row));
    match history.more {
        true => table + "There are older ones: ask with a higher --limit, or for one object.\n",
        false => table,
    }
}

pub(super) fn diff(diff: &Diff) -> String {
    let mut text: String = diff.objects.iter().map(|object| unified(diff, object)).collect();
    for object in &diff.unknown {
        text += &format!("{object}: what it was at {} is not known on this node\n", diff.at);
    }
    if diff.more {
        text += "More objects differ than an answer holds.\n";
    }
    match text.is_empty() {
        true => format!("Domain {} is as it was at {}.\n", diff.domain, diff.at),
        false => text,
    }
}

/// One object as `diff -u` would show its manifests.
fn unified(diff: &Diff, object: &ObjectDiff) -> String {
    let ObjectDiff { kind, name, then, now } = object;
    let title = called(kind, &diff.domain, name);
    let text = |side: &Option<Side>| {
        side.as_ref()
            .map(|side| manifest(&diff.domain, kind, name, side.spec.as_ref()))
            .unwrap_or_default()
    };
    let label = |side: &Option<Side>| match side {
        None => "/dev/null".to_owned(),
        Some(side) => format!("{title}\t{} {} by {}", side.stamp, side.version, side.author),
    };
    lines(&text(then), &text(now), &label(then), &label(now))
}

fn lines(old: &str, new: &str, old_label: &str, new_label: &str) -> String {
    let diff = TextDiff::from_lines(old, new);
    let text = diff
        .unified_diff()
        .context_radius(3)
        .header(old_label, new_label)
        .to_string();
    text.lines().map(|line| plain(line) + "\n").collect()
}

/// As `printable`, but for the tabs in labels.
fn plain(line: &str) -> String {
    line.split('\t').map(printable).collect::<Vec<_>>().join("\t")
}

/// The form in which objects are written.
#[derive(Serialize)]
struct Manifest<'a> {
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
    name: &'a str,
    spec: &'a Value,
}

fn manifest(domain: &str, kind: &str, name: &str, spec: Option<&Value>) -> String {
    let Some(spec) = spec else {
        return "# written by a later release\n".to_owned();
    };
    let manifest = Manifest {
        kind,
        domain: Some(domain).filter(|_| kind != "Domain"),
        name,
        spec,
    };
    serde_norway::to_string(&manifest).unwrap_or_default()
}

pub(super) fn rolled_back(done: &RolledBack) -> String {
    let RolledBack {
        domain,
        to,
        dry_run,
        objects,
    } = done;
    if objects.is_empty() {
        return format!("Domain {domain} is as it was at {to}; nothing is to be done.\n");
    }
    let would = if *dry_run { " would be" } else { "" };
    let line = |object: &crate::api::changes::RolledBackObject| {
        let as_of = object.as_of.as_ref().map(|version| format!(", as {version}"));
        format!(
            "{}{would} {}{}\n",
            called(&object.kind, domain, &object.name),
            written(object.action),
            as_of.unwrap_or_default()
        )
    };
    let lines: String = objects.iter().map(line).collect();
    match dry_run {
        true => lines + &format!("Nothing was changed. Without --dry-run domain {domain} is taken back to {to}.\n"),
        false => lines + &format!("Domain {domain} is as it was at {to}.\n"),
    }
}

pub(super) fn conflicts(conflicts: &Conflicts) -> String {
    let Conflicts { conflicts, void } = conflicts;
    match conflicts.is_empty() && void.is_empty() {
        true => "none\n".to_owned(),
        false => conflicts.iter().map(conflict).collect::<String>() + &self::void(void),
    }
}

/// What removed nodes wrote that counts nowhere.
fn void(void: &[VoidVersion]) -> String {
    if void.is_empty() {
        return String::new();
    }
    let row = |it: &VoidVersion| {
        let what = match (it.deleted, &it.spec) {
            (true, _) => "deletes it",
            (false, Some(_)) => "writes it",
            (false, None) => "writes it, as a later release does",
        };
        vec![
            called(&it.kind, &it.domain, &it.name),
            it.version.to_string(),
            it.stamp.clone(),
            it.author.clone(),
            it.node_name.clone(),
            what.to_owned(),
        ]
    };
    let header = ["OBJECT", "VERSION", "TIME", "AUTHOR", "NODE", "WHAT"];
    let mut body = grid(&header, void.iter().map(row));
    body += "The nodes that took these writes were removed before a majority of the anchors saw them: they count on no node.\n\
             What is still wanted must be written again: `-o yaml` shows all of it, and `fabricctl apply -f FILE` writes.\n\
             Other nodes may have kept others.\n";
    section("Void", &body)
}

fn conflict(conflict: &Conflict) -> String {
    let Conflict {
        domain,
        kind,
        name,
        version,
        in_force,
        versions,
    } = conflict;
    let row = |(index, it): (usize, &ConflictVersion)| {
        let differs = match (index, it.deleted, it.differs.is_empty()) {
            (_, true, _) => "deletes it".to_owned(),
            (0, false, _) => "shown".to_owned(),
            (_, false, true) => "in nothing that is read here".to_owned(),
            (_, false, false) => it.differs.join(", "),
        };
        vec![
            it.version.to_string(),
            it.stamp.clone(),
            it.author.clone(),
            it.node_name.clone(),
            differs,
        ]
    };
    let header = ["VERSION", "TIME", "AUTHOR", "NODE", "DIFFERS"];
    let mut body = format!("Version:  {version}\nIn force: {in_force}\n");
    body += &grid(&header, versions.iter().enumerate().map(row));
    let shown = versions.first().and_then(|version| version.spec.as_ref());
    for other in versions.iter().skip(1).filter(|other| other.spec.is_some()) {
        let text = |spec| manifest(domain, kind, name, spec);
        let label = |version: &ConflictVersion| version.version.to_string();
        let shown_label = versions.first().map(label).unwrap_or_default();
        body += &lines(&text(shown), &text(other.spec.as_ref()), &shown_label, &label(other));
    }
    let place = match kind.as_str() {
        "Domain" => String::new(),
        _ => format!(" -d {domain}"),
    };
    body += &format!(
        "Settle it with one of these:\n  fabricctl conflicts resolve {kind} {name}{place} --take VERSION\n  fabricctl apply -f FILE\n"
    );
    section(&called(kind, domain, name), &body)
}

pub(super) fn resolved(resolved: &Resolved) -> String {
    let Resolved {
        domain,
        kind,
        name,
        deleted,
        took,
    } = resolved;
    match deleted {
        true => format!("{} deleted, as {took}\n", called(kind, domain, name)),
        false => format!("{} configured, as {took}\n", called(kind, domain, name)),
    }
}
