use crate::namespace::*; use crate::topology::*;
use std::process::Command;
fn sh(ns: &Namespace, c: &str) -> String { let o = Command::new("nsenter").arg(format!("--net=/run/netns/{}", ns.name)).args(["sh","-c",c]).output().unwrap(); String::from_utf8_lossy(&o.stdout).into_owned() + &String::from_utf8_lossy(&o.stderr) }
#[test]
fn scratch() {
    for v6 in [false] { for resolved in [true, false] {
    let mut wire = Wire::new(Way { v6, resolved });
    let (one, far) = (wire.a.workload(ONE), wire.b.workload(FAR));
    std::fs::write("/proc/sys/kernel/bpf_stats_enabled", "0").unwrap();
    sh(&far, "iperf3 -s -D -I /tmp/ip3.pid; sockperf server -i 10.0.0.9 --daemonize >/dev/null 2>&1 &");
    std::thread::sleep(std::time::Duration::from_millis(500));
    println!("v6 {v6} resolved {resolved} TCP {}", sh(&one, "iperf3 -c 10.0.0.9 -t 3 -f g | tail -3 | head -1"));
    println!("UDP64 {}", sh(&one, "iperf3 -c 10.0.0.9 -u -b 0 -l 64 -t 3 | tail -4 | head -2"));
    std::fs::write("/proc/sys/kernel/bpf_stats_enabled", "1").unwrap();
    println!("UDP64 {}", sh(&one, "iperf3 -c 10.0.0.9 -u -b 0 -l 64 -t 2 | tail -3 | head -1"));
    println!("{}", sh(&one, "bpftool prog show | grep -A0 run_time"));
    println!("{:?} {:?}", wire.a.drops(), wire.b.drops());
    sh(&far, "kill $(cat /tmp/ip3.pid | tr -d '\\0')");
    std::fs::write("/proc/sys/kernel/bpf_stats_enabled", "0").unwrap();
    }}
}
