//! A foreign tunnel endpoint: Open vSwitch's userspace datapath. Its two processes run inside the host's namespace, with
//! all their files in a folder of their own, and end with this.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::identity::VNI;
use crate::namespace::{Namespace, eventually, must};
use crate::underlay::{A, B, UNDERLAY, Way, address_text, addressed, mac_text};

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// A running Open vSwitch.
#[derive(Debug)]
pub(crate) struct OpenVSwitch {
    folder: PathBuf,
    /// The database, then the switch.
    processes: Vec<Child>,
}

impl OpenVSwitch {
    /// Makes host B one. `port` is the interface of its workload.
    pub(crate) fn joined(b: &Namespace, way: Way, port: &str) -> Self {
        let switch = Self::started(b);
        // Packets of the underlay reach the switch by one bridge, whose own interface has the host's tunnel addresses.
        let outer = format!(
            "bridge outer datapath_type=netdev other-config:hwaddr=\"{}\"",
            mac_text(B)
        );
        switch.configure(&["add-br", "outer", "--", "set"], &outer);
        switch.configure(&["add-port", "outer", UNDERLAY], "");
        addressed(b, B, "outer");
        b.ip(&["link", "set", UNDERLAY, "up"]);

        switch.configure(&["add-br", "inner", "--", "set"], "bridge inner datapath_type=netdev");
        let (kind, remote, local) = (
            if way.geneve { "geneve" } else { "vxlan" },
            address_text(A, way.v6),
            address_text(B, way.v6),
        );
        let tunnel = format!(
            "interface tunnel type={kind} options:key={VNI} options:remote_ip=\"{remote}\" options:local_ip=\"{local}\""
        );
        switch.configure(&["add-port", "inner", "tunnel", "--", "set"], &tunnel);
        b.ip(&["link", "set", port, "up"]);
        switch.configure(&["add-port", "inner", port], "");
        // The first packet would wait for nobody while it asks.
        switch.control(&["tnl/neigh/set", "outer", &remote, &mac_text(A)]);
        switch
    }

    fn started(b: &Namespace) -> Self {
        let folder = std::env::temp_dir().join(format!("{}-ovs", b.name));
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        let mut switch = Self {
            folder,
            processes: Vec::new(),
        };
        let path = |name: &str| switch.folder.join(name);
        must(
            Command::new("ovsdb-tool")
                .arg("create")
                .arg(path("conf.db"))
                .arg(SCHEMA),
        );
        let database = switch
            .program(b, "ovsdb-server")
            .arg(format!("--remote=punix:{}", path("db.sock").display()))
            .arg(format!("--unixctl={}", path("database.ctl").display()))
            .arg(path("conf.db"))
            .spawn();
        switch
            .processes
            .push(database.expect("openvswitch-switch is installed"));
        eventually("the database listens", || switch.folder.join("db.sock").exists());
        switch.vsctl(&["--no-wait", "init"]);
        let daemon = switch
            .program(b, "ovs-vswitchd")
            .arg(format!("--unixctl={}", switch.folder.join("switch.ctl").display()))
            // The kernel's datapath is not asked for.
            .arg("--disable-system")
            .arg(format!("unix:{}", switch.folder.join("db.sock").display()))
            .spawn();
        switch.processes.push(daemon.expect("openvswitch-switch is installed"));
        switch
    }

    /// One of its programs, in the namespace, in the foreground.
    fn program(&self, b: &Namespace, name: &str) -> Command {
        let mut command = b.command(name);
        command
            .envs(["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR"].map(|variable| (variable, self.folder.as_path())))
            .args(["-vconsole:off", "-vsyslog:off"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn configure(&self, arguments: &[&str], more: &str) {
        let more = more.split_whitespace();
        self.vsctl(&arguments.iter().copied().chain(more).collect::<Vec<_>>());
    }

    /// Returns when the switch does what it was told, or fails.
    fn vsctl(&self, arguments: &[&str]) {
        let socket = self.folder.join("db.sock");
        let mut command = Command::new("ovs-vsctl");
        command
            .arg(format!("--db=unix:{}", socket.display()))
            .arg("--timeout=30");
        must(command.args(arguments));
    }

    fn control(&self, arguments: &[&str]) {
        let socket: &Path = &self.folder.join("switch.ctl");
        must(Command::new("ovs-appctl").arg("-t").arg(socket).args(arguments));
    }
}

impl Drop for OpenVSwitch {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().rev() {
            // Whoever ended already cannot be ended.
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
