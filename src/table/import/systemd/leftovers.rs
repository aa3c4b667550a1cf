//! What has no equal here. A key that is not known counts as a restriction.
#![forbid(unsafe_code)]

use super::Builder;
use crate::table::import::Effect;

/// Carried over by the other modules.
pub(super) const DONE: &[&str] = &[
    "Accept",
    "AmbientCapabilities",
    "AppArmorProfile",
    "Backlog",
    "BindIPv6Only",
    "BindToDevice",
    "CapabilityBoundingSet",
    "CPUAffinity",
    "CPUQuota",
    "DeferAcceptSec",
    "Description",
    "DynamicUser",
    "Environment",
    "EnvironmentFile",
    "ExecStart",
    "FreeBind",
    "Group",
    "IOSchedulingClass",
    "IOSchedulingPriority",
    "InaccessiblePaths",
    "IPAddressAllow",
    "IPAddressDeny",
    "KeepAlive",
    "KeepAliveIntervalSec",
    "KeepAliveProbes",
    "KeepAliveTimeSec",
    "KeyringMode",
    "KillSignal",
    "ListenDatagram",
    "ListenFIFO",
    "ListenMessageQueue",
    "ListenNetlink",
    "ListenSequentialPacket",
    "ListenSpecial",
    "ListenStream",
    "ListenUSBFunction",
    "LoadCredential",
    "LockPersonality",
    "Mark",
    "MaxConnections",
    "MaxConnectionsPerSource",
    "MemoryDenyWriteExecute",
    "MemoryHigh",
    "MemoryLimit",
    "MemoryMax",
    "Nice",
    "NoDelay",
    "NoNewPrivileges",
    "OOMScoreAdjust",
    "PAMName",
    "PassEnvironment",
    "PrivateDevices",
    "PrivateIPC",
    "PrivateMounts",
    "PrivateNetwork",
    "PrivateTmp",
    "PrivateUsers",
    "ProtectClock",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectSystem",
    "ReadOnlyPaths",
    "ReadWritePaths",
    "ReceiveBuffer",
    "ProcSubset",
    "ProtectProc",
    "RestrictAddressFamilies",
    "RestrictNamespaces",
    "RestrictRealtime",
    "RuntimeMaxSec",
    "SELinuxContext",
    "SendBuffer",
    "Service",
    "SocketGroup",
    "SocketMode",
    "SocketUser",
    "StandardError",
    "StandardInput",
    "StandardOutput",
    "StateDirectory",
    "SupplementaryGroups",
    "SystemCallArchitectures",
    "SystemCallFilter",
    "TasksMax",
    "TimeoutStopSec",
    "Transparent",
    "TriggerLimitBurst",
    "TriggerLimitIntervalSec",
    "Type",
    "UMask",
    "User",
    "WorkingDirectory",
];

/// They say nothing about who comes in or what the server may, or only about systemd itself.
const HARMLESS: &[&str] = &[
    "After",
    "Alias",
    "AllowIsolate",
    "Also",
    "Before",
    "BusName",
    "CollectMode",
    "CPUAccounting",
    "DefaultDependencies",
    "Documentation",
    "ExecReload",
    "FileDescriptorName",
    "FlushPending",
    "GuessMainPID",
    "IOAccounting",
    "IPAccounting",
    "IgnoreOnIsolate",
    "IgnoreSIGPIPE",
    "LogExtraFields",
    "LogLevelMax",
    "LogRateLimitBurst",
    "LogRateLimitIntervalSec",
    "MemoryAccounting",
    "NonBlocking",
    "NotifyAccess",
    "OnFailure",
    "OnSuccess",
    "PIDFile",
    "RefuseManualStart",
    "RefuseManualStop",
    "ReloadSignal",
    "RemainAfterExit",
    "RemoveIPC",
    "RemoveOnStop",
    "Restart",
    "RestartForceExitStatus",
    "RestartPreventExitStatus",
    "RestartSec",
    "ReusePort",
    "SourcePath",
    "StartLimitAction",
    "StartLimitBurst",
    "StartLimitInterval",
    "StartLimitIntervalSec",
    "StopWhenUnneeded",
    "SuccessExitStatus",
    "SyslogFacility",
    "SyslogIdentifier",
    "SyslogLevel",
    "SyslogLevelPrefix",
    "TTYPath",
    "TTYReset",
    "TTYVHangup",
    "TTYVTDisallocate",
    "TasksAccounting",
    "TimeoutAbortSec",
    "TimeoutSec",
    "TimeoutStartSec",
    "UtmpIdentifier",
    "UtmpMode",
    "WantedBy",
    "Wants",
    "WatchdogSec",
    "WatchdogSignal",
    "Writable",
    "RequiredBy",
    "SendSIGHUP",
    "SendSIGKILL",
    "FinalKillSignal",
    "PollLimitBurst",
    "PollLimitIntervalSec",
    "TimeoutStartFailureMode",
    "TimeoutStopFailureMode",
    "RestartMode",
    "ExitType",
    "OOMPolicy",
    "RequiresMountsFor",
    "WantsMountsFor",
    "DirectoryMode",
    "Slice",
    "CoredumpFilter",
    "TimerSlackNSec",
    "KillMode",
];

/// The server may miss them, and nobody is let in who was not.
const MISSED: &[(&str, &str)] = &[
    ("Requires", "start that unit by itself"),
    ("Requisite", "start that unit by itself"),
    ("BindsTo", "start that unit by itself"),
    ("PartOf", "usherd knows no other units"),
    (
        "Conflicts",
        "see to it yourself that they do not run at the same time",
    ),
    (
        "ExecStartPre",
        "do it in a script that then executes the server",
    ),
    ("ExecStartPost", "do it in a script"),
    ("ExecStop", "usherd sends the signal of `stop`"),
    ("ExecStopPre", "do it in a script"),
    ("ExecStopPost", "do it in a script"),
    (
        "RuntimeDirectory",
        "make it with systemd-tmpfiles(8) and name it in isolation.writable",
    ),
    ("RuntimeDirectoryMode", "see RuntimeDirectory="),
    ("RuntimeDirectoryPreserve", "see RuntimeDirectory="),
    (
        "CacheDirectory",
        "make it with systemd-tmpfiles(8) and name it in isolation.writable",
    ),
    ("CacheDirectoryMode", "see CacheDirectory="),
    (
        "LogsDirectory",
        "make it with systemd-tmpfiles(8) and name it in isolation.writable",
    ),
    ("LogsDirectoryMode", "see LogsDirectory="),
    (
        "StateDirectoryMode",
        "the directory of `state` has mode 0750",
    ),
    ("ConfigurationDirectory", "make it yourself"),
    (
        "SetCredential",
        "put it into a file and name it in `credentials`",
    ),
    (
        "UnsetEnvironment",
        "the environment is clean; see `env` and `pass_env`",
    ),
    (
        "PassCredentials",
        "usherd does not set SO_PASSCRED; a server may do so itself",
    ),
    (
        "PassSecurity",
        "usherd does not set SO_PASSSEC; a server may do so itself",
    ),
    (
        "PassPacketInfo",
        "usherd does not set IP_PKTINFO; a server may do so itself",
    ),
    (
        "Timestamping",
        "usherd does not set SO_TIMESTAMP; a server may do so itself",
    ),
    ("Symlinks", "make the link with systemd-tmpfiles(8)"),
    ("TCPCongestion", "see net.ipv4.tcp_congestion_control"),
    ("Priority", "usherd does not set SO_PRIORITY"),
    (
        "IPTOS",
        "write `socket.dscp`, which is the value divided by four",
    ),
    ("IPTTL", "usherd does not set IP_TTL"),
    ("PipeSize", "usherd has no pipes"),
    ("MessageQueueMaxMessages", "usherd has no message queues"),
    ("MessageQueueMessageSize", "usherd has no message queues"),
    (
        "Delegate",
        "usherd has cgroups of its own, see `cgroup` in isolation",
    ),
    ("CPUWeight", "write `resources.cpu`"),
    ("CPUShares", "write `resources.cpu`"),
    ("IOWeight", "write `resources.io`"),
    ("StartupCPUWeight", "usherd has nothing of the kind"),
    ("MemoryMin", "usherd has nothing of the kind"),
    ("MemoryLow", "usherd has nothing of the kind"),
    ("CPUSchedulingPolicy", "usherd sets `nice` only"),
    ("CPUSchedulingPriority", "usherd sets `nice` only"),
    (
        "BindPaths",
        "usherd mounts nothing elsewhere; name paths in isolation.visible and isolation.writable",
    ),
    (
        "BindReadOnlyPaths",
        "usherd mounts nothing elsewhere; name paths in isolation.visible",
    ),
    ("SuccessAction", "usherd knows no such action"),
    ("FailureAction", "usherd knows no such action"),
];

impl Builder<'_> {
    pub fn leftovers(&mut self) {
        let units = [(self.socket, "Socket"), (self.service, "Service")];
        for (unit, own) in units {
            for setting in &unit.settings {
                let section = setting.section.as_str();
                let key = setting.key.as_str();
                let elsewhere = section != own && section != "Unit";
                let is_condition = key.starts_with("Condition") || key.starts_with("Assert");
                let quiet = elsewhere || setting.value.is_empty() || key.starts_with("X-");
                if quiet || is_condition || HARMLESS.contains(&key) || self.is_done(key) {
                    continue;
                }
                let written = format!("{key}={}", setting.value);
                if let Some((_, remedy)) = MISSED.iter().find(|(known, _)| *known == key) {
                    self.note(
                        Effect::Unsupported,
                        &setting.origin,
                        format!("{written}: {remedy}"),
                    );
                } else if is_no(&setting.value) && is_switch(key) {
                    continue;
                } else {
                    let text = format!(
                        "{written}: nothing here does the same, and it may be a restriction"
                    );
                    self.note(Effect::Loss, &setting.origin, text);
                }
            }
        }
    }

    fn is_done(&self, key: &str) -> bool {
        DONE.contains(&key) || key.starts_with("Limit")
    }
}

fn is_no(value: &str) -> bool {
    ["0", "no", "n", "false", "f", "off"].contains(&value.to_ascii_lowercase().as_str())
}

/// Switches that restrict nothing when they are off.
fn is_switch(key: &str) -> bool {
    ["Private", "Protect", "Restrict", "SELinuxContextFromNet"]
        .iter()
        .any(|start| key.starts_with(start))
}
