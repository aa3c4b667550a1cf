# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_usherctl_global_optspecs
    string join \n runtime-dir= json h/help V/version
end

function __fish_usherctl_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_usherctl_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_usherctl_using_subcommand
    set -l cmd (__fish_usherctl_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c usherctl -n "__fish_usherctl_needs_command" -l runtime-dir -d 'Where usherd has its sockets [default: /run/usherd; for an ordinary user usherd in $XDG_RUNTIME_DIR, if there is a socket]' -r -F
complete -c usherctl -n "__fish_usherctl_needs_command" -l json -d 'Print JSON'
complete -c usherctl -n "__fish_usherctl_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usherctl -n "__fish_usherctl_needs_command" -s V -l version -d 'Print version'
complete -c usherctl -n "__fish_usherctl_needs_command" -f -a "status" -d 'How usherd and its services are'
complete -c usherctl -n "__fish_usherctl_needs_command" -f -a "list" -d 'Names and addresses of the services'
complete -c usherctl -n "__fish_usherctl_needs_command" -f -a "show" -d 'All about a service: its table, listeners, limits, counts and latencies'
complete -c usherctl -n "__fish_usherctl_needs_command" -f -a "instances" -d 'The servers that run'
complete -c usherctl -n "__fish_usherctl_needs_command" -f -a "stats" -d 'Counts and latencies since usherd was started'
complete -c usherctl -n "__fish_usherctl_needs_command" -f -a "top" -d 'The same, live on the whole screen; ? shows the keys'
complete -c usherctl -n "__fish_usherctl_needs_command" -f -a "explain" -d 'Tell which service a request would be for, rule by rule; needs no daemon'
complete -c usherctl -n "__fish_usherctl_needs_command" -f -a "check" -d 'Read the table and show every complaint; needs no daemon'
complete -c usherctl -n "__fish_usherctl_needs_command" -f -a "security" -d 'How exposed each service leaves the host, from 0.0 to 10.0; of one service all reasons'
complete -c usherctl -n "__fish_usherctl_needs_command" -f -a "reload" -d 'Read the table again: show what would change, ask, do it'
complete -c usherctl -n "__fish_usherctl_needs_command" -f -a "upgrade" -d 'Go on as the program that is installed now: no connection is lost, no server ends'
complete -c usherctl -n "__fish_usherctl_needs_command" -f -a "enable" -d 'Write `enabled = true` into the table and serve the service'
complete -c usherctl -n "__fish_usherctl_needs_command" -f -a "disable" -d 'Write `enabled = false` into the table and serve the service no more'
complete -c usherctl -n "__fish_usherctl_needs_command" -f -a "drain" -d 'Take no new requests of a service; its running instances finish'
complete -c usherctl -n "__fish_usherctl_needs_command" -f -a "stop" -d 'Take no new requests of a service and end its running instances'
complete -c usherctl -n "__fish_usherctl_needs_command" -f -a "start" -d 'Undo `drain` or `stop`; start a server that owns its listener'
complete -c usherctl -n "__fish_usherctl_needs_command" -f -a "kill" -d 'End an instance, or send it a signal'
complete -c usherctl -n "__fish_usherctl_needs_command" -f -a "log" -d 'What happened of late to services and instances, a line each'
complete -c usherctl -n "__fish_usherctl_needs_command" -f -a "events" -d 'The same, by kind'
complete -c usherctl -n "__fish_usherctl_needs_command" -f -a "ban" -d 'Refuse all requests from an address or a prefix'
complete -c usherctl -n "__fish_usherctl_needs_command" -f -a "unban" -d 'Take a ban back'
complete -c usherctl -n "__fish_usherctl_needs_command" -f -a "bans" -d 'What is banned, why, and for how long yet'
complete -c usherctl -n "__fish_usherctl_needs_command" -f -a "audit" -d 'What was asked of usherd, by whom, and what came of it; needs no daemon'
complete -c usherctl -n "__fish_usherctl_needs_command" -f -a "ops" -d 'Administrative operations: who may ask for each, and what it needs'
complete -c usherctl -n "__fish_usherctl_needs_command" -f -a "run" -d 'Ask for an administrative operation; interrupted, it is ended, unless its `on_leave` is finish'
complete -c usherctl -n "__fish_usherctl_needs_command" -f -a "words" -d 'Names of operations, or of the parameters of one, a line each: for completion'
complete -c usherctl -n "__fish_usherctl_needs_command" -f -a "completions" -d 'Print what makes a shell complete usherctl\'s commands'
complete -c usherctl -n "__fish_usherctl_needs_command" -f -a "generate" -d 'Write manual pages and completions of all programs below DIR'
complete -c usherctl -n "__fish_usherctl_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c usherctl -n "__fish_usherctl_using_subcommand status" -l runtime-dir -d 'Where usherd has its sockets [default: /run/usherd; for an ordinary user usherd in $XDG_RUNTIME_DIR, if there is a socket]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand status" -l json -d 'Print JSON'
complete -c usherctl -n "__fish_usherctl_using_subcommand status" -s h -l help -d 'Print help'
complete -c usherctl -n "__fish_usherctl_using_subcommand list" -l runtime-dir -d 'Where usherd has its sockets [default: /run/usherd; for an ordinary user usherd in $XDG_RUNTIME_DIR, if there is a socket]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand list" -l json -d 'Print JSON'
complete -c usherctl -n "__fish_usherctl_using_subcommand list" -s h -l help -d 'Print help'
complete -c usherctl -n "__fish_usherctl_using_subcommand show" -l runtime-dir -d 'Where usherd has its sockets [default: /run/usherd; for an ordinary user usherd in $XDG_RUNTIME_DIR, if there is a socket]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand show" -l json -d 'Print JSON'
complete -c usherctl -n "__fish_usherctl_using_subcommand show" -s h -l help -d 'Print help'
complete -c usherctl -n "__fish_usherctl_using_subcommand instances" -l runtime-dir -d 'Where usherd has its sockets [default: /run/usherd; for an ordinary user usherd in $XDG_RUNTIME_DIR, if there is a socket]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand instances" -l json -d 'Print JSON'
complete -c usherctl -n "__fish_usherctl_using_subcommand instances" -s h -l help -d 'Print help'
complete -c usherctl -n "__fish_usherctl_using_subcommand stats" -l watch -d 'A line of rates every INTERVAL [default: 1s] until interrupted' -r
complete -c usherctl -n "__fish_usherctl_using_subcommand stats" -l runtime-dir -d 'Where usherd has its sockets [default: /run/usherd; for an ordinary user usherd in $XDG_RUNTIME_DIR, if there is a socket]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand stats" -l prometheus -d 'In the text format of Prometheus'
complete -c usherctl -n "__fish_usherctl_using_subcommand stats" -l json -d 'Print JSON'
complete -c usherctl -n "__fish_usherctl_using_subcommand stats" -s h -l help -d 'Print help'
complete -c usherctl -n "__fish_usherctl_using_subcommand top" -l every -d 'How often it is drawn anew' -r
complete -c usherctl -n "__fish_usherctl_using_subcommand top" -l runtime-dir -d 'Where usherd has its sockets [default: /run/usherd; for an ordinary user usherd in $XDG_RUNTIME_DIR, if there is a socket]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand top" -l json -d 'Print JSON'
complete -c usherctl -n "__fish_usherctl_using_subcommand top" -s h -l help -d 'Print help'
complete -c usherctl -n "__fish_usherctl_using_subcommand explain" -l config -d 'The table to ask [default: /etc/usherd/usherd.toml for root, else the built-in one]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand explain" -l from -d 'Where it comes from, with or without a port' -r
complete -c usherctl -n "__fish_usherctl_using_subcommand explain" -l to -d 'The address of this host that it is sent to' -r
complete -c usherctl -n "__fish_usherctl_using_subcommand explain" -l interface -d 'The interface it comes in at' -r
complete -c usherctl -n "__fish_usherctl_using_subcommand explain" -l uid -d 'The peer of a Unix socket' -r
complete -c usherctl -n "__fish_usherctl_using_subcommand explain" -l gid -d 'The group of the peer of a Unix socket' -r
complete -c usherctl -n "__fish_usherctl_using_subcommand explain" -l hex -d 'The first bytes, in hexadecimal: 160301...' -r
complete -c usherctl -n "__fish_usherctl_using_subcommand explain" -l text -d 'The first bytes as text, with \\r, \\n and \\xNN' -r
complete -c usherctl -n "__fish_usherctl_using_subcommand explain" -l file -d 'A file with the first bytes; - is stdin' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand explain" -l sni -d 'A TLS client that asks for this name' -r
complete -c usherctl -n "__fish_usherctl_using_subcommand explain" -l ended -d 'How the wait for more bytes ends' -r -f -a "timeout\t''
eof\t''
full\t''"
complete -c usherctl -n "__fish_usherctl_using_subcommand explain" -l runtime-dir -d 'Where usherd has its sockets [default: /run/usherd; for an ordinary user usherd in $XDG_RUNTIME_DIR, if there is a socket]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand explain" -l json -d 'Print JSON'
complete -c usherctl -n "__fish_usherctl_using_subcommand explain" -s h -l help -d 'Print help'
complete -c usherctl -n "__fish_usherctl_using_subcommand check" -l config -d 'The table to check [default: /etc/usherd/usherd.toml for root, else the built-in one]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand check" -l exposure -d 'Print how exposed each service leaves the host, from 0.0 to 10.0; fail if one is above SCORE' -r
complete -c usherctl -n "__fish_usherctl_using_subcommand check" -l runtime-dir -d 'Where usherd has its sockets [default: /run/usherd; for an ordinary user usherd in $XDG_RUNTIME_DIR, if there is a socket]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand check" -l effective -d 'Print the table as it will be used: defaults filled in, names resolved'
complete -c usherctl -n "__fish_usherctl_using_subcommand check" -l json -d 'Print JSON'
complete -c usherctl -n "__fish_usherctl_using_subcommand check" -s h -l help -d 'Print help'
complete -c usherctl -n "__fish_usherctl_using_subcommand security" -l config -d 'Judge this table, not the one in force; needs no daemon' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand security" -l runtime-dir -d 'Where usherd has its sockets [default: /run/usherd; for an ordinary user usherd in $XDG_RUNTIME_DIR, if there is a socket]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand security" -l offline -d 'The same with the table that a daemon started now would read'
complete -c usherctl -n "__fish_usherctl_using_subcommand security" -l json -d 'Print JSON'
complete -c usherctl -n "__fish_usherctl_using_subcommand security" -s h -l help -d 'Print help'
complete -c usherctl -n "__fish_usherctl_using_subcommand reload" -l runtime-dir -d 'Where usherd has its sockets [default: /run/usherd; for an ordinary user usherd in $XDG_RUNTIME_DIR, if there is a socket]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand reload" -s y -l yes -d 'Do not ask; reload even if nothing has changed'
complete -c usherctl -n "__fish_usherctl_using_subcommand reload" -l json -d 'Print JSON'
complete -c usherctl -n "__fish_usherctl_using_subcommand reload" -s h -l help -d 'Print help'
complete -c usherctl -n "__fish_usherctl_using_subcommand upgrade" -l runtime-dir -d 'Where usherd has its sockets [default: /run/usherd; for an ordinary user usherd in $XDG_RUNTIME_DIR, if there is a socket]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand upgrade" -l json -d 'Print JSON'
complete -c usherctl -n "__fish_usherctl_using_subcommand upgrade" -s h -l help -d 'Print help'
complete -c usherctl -n "__fish_usherctl_using_subcommand enable" -l runtime-dir -d 'Where usherd has its sockets [default: /run/usherd; for an ordinary user usherd in $XDG_RUNTIME_DIR, if there is a socket]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand enable" -l json -d 'Print JSON'
complete -c usherctl -n "__fish_usherctl_using_subcommand enable" -s h -l help -d 'Print help'
complete -c usherctl -n "__fish_usherctl_using_subcommand disable" -l runtime-dir -d 'Where usherd has its sockets [default: /run/usherd; for an ordinary user usherd in $XDG_RUNTIME_DIR, if there is a socket]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand disable" -l json -d 'Print JSON'
complete -c usherctl -n "__fish_usherctl_using_subcommand disable" -s h -l help -d 'Print help'
complete -c usherctl -n "__fish_usherctl_using_subcommand drain" -l runtime-dir -d 'Where usherd has its sockets [default: /run/usherd; for an ordinary user usherd in $XDG_RUNTIME_DIR, if there is a socket]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand drain" -l json -d 'Print JSON'
complete -c usherctl -n "__fish_usherctl_using_subcommand drain" -s h -l help -d 'Print help'
complete -c usherctl -n "__fish_usherctl_using_subcommand stop" -l runtime-dir -d 'Where usherd has its sockets [default: /run/usherd; for an ordinary user usherd in $XDG_RUNTIME_DIR, if there is a socket]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand stop" -l json -d 'Print JSON'
complete -c usherctl -n "__fish_usherctl_using_subcommand stop" -s h -l help -d 'Print help'
complete -c usherctl -n "__fish_usherctl_using_subcommand start" -l runtime-dir -d 'Where usherd has its sockets [default: /run/usherd; for an ordinary user usherd in $XDG_RUNTIME_DIR, if there is a socket]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand start" -l json -d 'Print JSON'
complete -c usherctl -n "__fish_usherctl_using_subcommand start" -s h -l help -d 'Print help'
complete -c usherctl -n "__fish_usherctl_using_subcommand kill" -l signal -d 'HUP, KILL, ... [default: as `stop` in the table says]' -r
complete -c usherctl -n "__fish_usherctl_using_subcommand kill" -l runtime-dir -d 'Where usherd has its sockets [default: /run/usherd; for an ordinary user usherd in $XDG_RUNTIME_DIR, if there is a socket]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand kill" -l json -d 'Print JSON'
complete -c usherctl -n "__fish_usherctl_using_subcommand kill" -s h -l help -d 'Print help'
complete -c usherctl -n "__fish_usherctl_using_subcommand log" -s n -d 'Begin with the last N' -r
complete -c usherctl -n "__fish_usherctl_using_subcommand log" -l runtime-dir -d 'Where usherd has its sockets [default: /run/usherd; for an ordinary user usherd in $XDG_RUNTIME_DIR, if there is a socket]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand log" -s f -l follow -d 'Go on with what happens from now on, until interrupted'
complete -c usherctl -n "__fish_usherctl_using_subcommand log" -l json -d 'Print JSON'
complete -c usherctl -n "__fish_usherctl_using_subcommand log" -s h -l help -d 'Print help'
complete -c usherctl -n "__fish_usherctl_using_subcommand events" -s n -d 'Begin with the last N' -r
complete -c usherctl -n "__fish_usherctl_using_subcommand events" -l service -d 'Only what is about this service' -r
complete -c usherctl -n "__fish_usherctl_using_subcommand events" -l kind -d 'Only this kind; may be given more than once' -r
complete -c usherctl -n "__fish_usherctl_using_subcommand events" -l runtime-dir -d 'Where usherd has its sockets [default: /run/usherd; for an ordinary user usherd in $XDG_RUNTIME_DIR, if there is a socket]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand events" -s f -l follow -d 'Go on with what happens from now on, until interrupted'
complete -c usherctl -n "__fish_usherctl_using_subcommand events" -l json -d 'Print JSON'
complete -c usherctl -n "__fish_usherctl_using_subcommand events" -s h -l help -d 'Print help'
complete -c usherctl -n "__fish_usherctl_using_subcommand ban" -l for -d 'For how long: 90s, 1h, 7d [default: for good]' -r
complete -c usherctl -n "__fish_usherctl_using_subcommand ban" -l reason -d 'Why, for whoever looks at `usherctl bans`' -r
complete -c usherctl -n "__fish_usherctl_using_subcommand ban" -l runtime-dir -d 'Where usherd has its sockets [default: /run/usherd; for an ordinary user usherd in $XDG_RUNTIME_DIR, if there is a socket]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand ban" -l json -d 'Print JSON'
complete -c usherctl -n "__fish_usherctl_using_subcommand ban" -s h -l help -d 'Print help'
complete -c usherctl -n "__fish_usherctl_using_subcommand unban" -l runtime-dir -d 'Where usherd has its sockets [default: /run/usherd; for an ordinary user usherd in $XDG_RUNTIME_DIR, if there is a socket]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand unban" -l json -d 'Print JSON'
complete -c usherctl -n "__fish_usherctl_using_subcommand unban" -s h -l help -d 'Print help'
complete -c usherctl -n "__fish_usherctl_using_subcommand bans" -l runtime-dir -d 'Where usherd has its sockets [default: /run/usherd; for an ordinary user usherd in $XDG_RUNTIME_DIR, if there is a socket]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand bans" -l json -d 'Print JSON'
complete -c usherctl -n "__fish_usherctl_using_subcommand bans" -s h -l help -d 'Print help'
complete -c usherctl -n "__fish_usherctl_using_subcommand audit; and not __fish_seen_subcommand_from query verify export help" -l log -d 'Where the log is [default: audit in the state directory of the daemon that runs, else of one that would]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand audit; and not __fish_seen_subcommand_from query verify export help" -l runtime-dir -d 'Where usherd has its sockets [default: /run/usherd; for an ordinary user usherd in $XDG_RUNTIME_DIR, if there is a socket]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand audit; and not __fish_seen_subcommand_from query verify export help" -l json -d 'Print JSON'
complete -c usherctl -n "__fish_usherctl_using_subcommand audit; and not __fish_seen_subcommand_from query verify export help" -s h -l help -d 'Print help'
complete -c usherctl -n "__fish_usherctl_using_subcommand audit; and not __fish_seen_subcommand_from query verify export help" -f -a "query" -d 'Print requests, oldest first, a line each'
complete -c usherctl -n "__fish_usherctl_using_subcommand audit; and not __fish_seen_subcommand_from query verify export help" -f -a "verify" -d 'Find entries that were removed, changed or moved'
complete -c usherctl -n "__fish_usherctl_using_subcommand audit; and not __fish_seen_subcommand_from query verify export help" -f -a "export" -d 'Print the whole log as it is, to be kept and verified elsewhere'
complete -c usherctl -n "__fish_usherctl_using_subcommand audit; and not __fish_seen_subcommand_from query verify export help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c usherctl -n "__fish_usherctl_using_subcommand audit; and __fish_seen_subcommand_from query" -l operation -d 'Only this operation: backup.create, Stop, Reload, ...' -r
complete -c usherctl -n "__fish_usherctl_using_subcommand audit; and __fish_seen_subcommand_from query" -l service -d 'Only what servers of this service asked for' -r
complete -c usherctl -n "__fish_usherctl_using_subcommand audit; and __fish_seen_subcommand_from query" -l uid -d 'Only what this user asked for' -r
complete -c usherctl -n "__fish_usherctl_using_subcommand audit; and __fish_seen_subcommand_from query" -l since -d 'Only what is not older: 90s, 1h, 7d' -r
complete -c usherctl -n "__fish_usherctl_using_subcommand audit; and __fish_seen_subcommand_from query" -s n -d 'Only the last N' -r
complete -c usherctl -n "__fish_usherctl_using_subcommand audit; and __fish_seen_subcommand_from query" -l log -d 'Where the log is [default: audit in the state directory of the daemon that runs, else of one that would]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand audit; and __fish_seen_subcommand_from query" -l runtime-dir -d 'Where usherd has its sockets [default: /run/usherd; for an ordinary user usherd in $XDG_RUNTIME_DIR, if there is a socket]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand audit; and __fish_seen_subcommand_from query" -l denied -d 'Only what was denied'
complete -c usherctl -n "__fish_usherctl_using_subcommand audit; and __fish_seen_subcommand_from query" -l json -d 'Print JSON'
complete -c usherctl -n "__fish_usherctl_using_subcommand audit; and __fish_seen_subcommand_from query" -s h -l help -d 'Print help'
complete -c usherctl -n "__fish_usherctl_using_subcommand audit; and __fish_seen_subcommand_from verify" -l log -d 'Where the log is [default: audit in the state directory of the daemon that runs, else of one that would]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand audit; and __fish_seen_subcommand_from verify" -l runtime-dir -d 'Where usherd has its sockets [default: /run/usherd; for an ordinary user usherd in $XDG_RUNTIME_DIR, if there is a socket]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand audit; and __fish_seen_subcommand_from verify" -l json -d 'Print JSON'
complete -c usherctl -n "__fish_usherctl_using_subcommand audit; and __fish_seen_subcommand_from verify" -s h -l help -d 'Print help'
complete -c usherctl -n "__fish_usherctl_using_subcommand audit; and __fish_seen_subcommand_from export" -l log -d 'Where the log is [default: audit in the state directory of the daemon that runs, else of one that would]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand audit; and __fish_seen_subcommand_from export" -l runtime-dir -d 'Where usherd has its sockets [default: /run/usherd; for an ordinary user usherd in $XDG_RUNTIME_DIR, if there is a socket]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand audit; and __fish_seen_subcommand_from export" -l json -d 'Print JSON'
complete -c usherctl -n "__fish_usherctl_using_subcommand audit; and __fish_seen_subcommand_from export" -s h -l help -d 'Print help'
complete -c usherctl -n "__fish_usherctl_using_subcommand audit; and __fish_seen_subcommand_from help" -f -a "query" -d 'Print requests, oldest first, a line each'
complete -c usherctl -n "__fish_usherctl_using_subcommand audit; and __fish_seen_subcommand_from help" -f -a "verify" -d 'Find entries that were removed, changed or moved'
complete -c usherctl -n "__fish_usherctl_using_subcommand audit; and __fish_seen_subcommand_from help" -f -a "export" -d 'Print the whole log as it is, to be kept and verified elsewhere'
complete -c usherctl -n "__fish_usherctl_using_subcommand audit; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c usherctl -n "__fish_usherctl_using_subcommand ops" -l runtime-dir -d 'Where usherd has its sockets [default: /run/usherd; for an ordinary user usherd in $XDG_RUNTIME_DIR, if there is a socket]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand ops" -l json -d 'Print JSON'
complete -c usherctl -n "__fish_usherctl_using_subcommand ops" -s h -l help -d 'Print help'
complete -c usherctl -n "__fish_usherctl_using_subcommand run" -l runtime-dir -d 'Where usherd has its sockets [default: /run/usherd; for an ordinary user usherd in $XDG_RUNTIME_DIR, if there is a socket]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand run" -l dry-run -d 'Only tell what it would do'
complete -c usherctl -n "__fish_usherctl_using_subcommand run" -l json -d 'Print JSON'
complete -c usherctl -n "__fish_usherctl_using_subcommand run" -s h -l help -d 'Print help'
complete -c usherctl -n "__fish_usherctl_using_subcommand words" -l runtime-dir -d 'Where usherd has its sockets [default: /run/usherd; for an ordinary user usherd in $XDG_RUNTIME_DIR, if there is a socket]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand words" -l json -d 'Print JSON'
complete -c usherctl -n "__fish_usherctl_using_subcommand words" -s h -l help -d 'Print help'
complete -c usherctl -n "__fish_usherctl_using_subcommand completions" -l runtime-dir -d 'Where usherd has its sockets [default: /run/usherd; for an ordinary user usherd in $XDG_RUNTIME_DIR, if there is a socket]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand completions" -l json -d 'Print JSON'
complete -c usherctl -n "__fish_usherctl_using_subcommand completions" -s h -l help -d 'Print help'
complete -c usherctl -n "__fish_usherctl_using_subcommand generate" -l runtime-dir -d 'Where usherd has its sockets [default: /run/usherd; for an ordinary user usherd in $XDG_RUNTIME_DIR, if there is a socket]' -r -F
complete -c usherctl -n "__fish_usherctl_using_subcommand generate" -l json -d 'Print JSON'
complete -c usherctl -n "__fish_usherctl_using_subcommand generate" -s h -l help -d 'Print help'
complete -c usherctl -n "__fish_usherctl_using_subcommand help; and not __fish_seen_subcommand_from status list show instances stats top explain check security reload upgrade enable disable drain stop start kill log events ban unban bans audit ops run words completions generate help" -f -a "status" -d 'How usherd and its services are'
complete -c usherctl -n "__fish_usherctl_using_subcommand help; and not __fish_seen_subcommand_from status list show instances stats top explain check security reload upgrade enable disable drain stop start kill log events ban unban bans audit ops run words completions generate help" -f -a "list" -d 'Names and addresses of the services'
complete -c usherctl -n "__fish_usherctl_using_subcommand help; and not __fish_seen_subcommand_from status list show instances stats top explain check security reload upgrade enable disable drain stop start kill log events ban unban bans audit ops run words completions generate help" -f -a "show" -d 'All about a service: its table, listeners, limits, counts and latencies'
complete -c usherctl -n "__fish_usherctl_using_subcommand help; and not __fish_seen_subcommand_from status list show instances stats top explain check security reload upgrade enable disable drain stop start kill log events ban unban bans audit ops run words completions generate help" -f -a "instances" -d 'The servers that run'
complete -c usherctl -n "__fish_usherctl_using_subcommand help; and not __fish_seen_subcommand_from status list show instances stats top explain check security reload upgrade enable disable drain stop start kill log events ban unban bans audit ops run words completions generate help" -f -a "stats" -d 'Counts and latencies since usherd was started'
complete -c usherctl -n "__fish_usherctl_using_subcommand help; and not __fish_seen_subcommand_from status list show instances stats top explain check security reload upgrade enable disable drain stop start kill log events ban unban bans audit ops run words completions generate help" -f -a "top" -d 'The same, live on the whole screen; ? shows the keys'
complete -c usherctl -n "__fish_usherctl_using_subcommand help; and not __fish_seen_subcommand_from status list show instances stats top explain check security reload upgrade enable disable drain stop start kill log events ban unban bans audit ops run words completions generate help" -f -a "explain" -d 'Tell which service a request would be for, rule by rule; needs no daemon'
complete -c usherctl -n "__fish_usherctl_using_subcommand help; and not __fish_seen_subcommand_from status list show instances stats top explain check security reload upgrade enable disable drain stop start kill log events ban unban bans audit ops run words completions generate help" -f -a "check" -d 'Read the table and show every complaint; needs no daemon'
complete -c usherctl -n "__fish_usherctl_using_subcommand help; and not __fish_seen_subcommand_from status list show instances stats top explain check security reload upgrade enable disable drain stop start kill log events ban unban bans audit ops run words completions generate help" -f -a "security" -d 'How exposed each service leaves the host, from 0.0 to 10.0; of one service all reasons'
complete -c usherctl -n "__fish_usherctl_using_subcommand help; and not __fish_seen_subcommand_from status list show instances stats top explain check security reload upgrade enable disable drain stop start kill log events ban unban bans audit ops run words completions generate help" -f -a "reload" -d 'Read the table again: show what would change, ask, do it'
complete -c usherctl -n "__fish_usherctl_using_subcommand help; and not __fish_seen_subcommand_from status list show instances stats top explain check security reload upgrade enable disable drain stop start kill log events ban unban bans audit ops run words completions generate help" -f -a "upgrade" -d 'Go on as the program that is installed now: no connection is lost, no server ends'
complete -c usherctl -n "__fish_usherctl_using_subcommand help; and not __fish_seen_subcommand_from status list show instances stats top explain check security reload upgrade enable disable drain stop start kill log events ban unban bans audit ops run words completions generate help" -f -a "enable" -d 'Write `enabled = true` into the table and serve the service'
complete -c usherctl -n "__fish_usherctl_using_subcommand help; and not __fish_seen_subcommand_from status list show instances stats top explain check security reload upgrade enable disable drain stop start kill log events ban unban bans audit ops run words completions generate help" -f -a "disable" -d 'Write `enabled = false` into the table and serve the service no more'
complete -c usherctl -n "__fish_usherctl_using_subcommand help; and not __fish_seen_subcommand_from status list show instances stats top explain check security reload upgrade enable disable drain stop start kill log events ban unban bans audit ops run words completions generate help" -f -a "drain" -d 'Take no new requests of a service; its running instances finish'
complete -c usherctl -n "__fish_usherctl_using_subcommand help; and not __fish_seen_subcommand_from status list show instances stats top explain check security reload upgrade enable disable drain stop start kill log events ban unban bans audit ops run words completions generate help" -f -a "stop" -d 'Take no new requests of a service and end its running instances'
complete -c usherctl -n "__fish_usherctl_using_subcommand help; and not __fish_seen_subcommand_from status list show instances stats top explain check security reload upgrade enable disable drain stop start kill log events ban unban bans audit ops run words completions generate help" -f -a "start" -d 'Undo `drain` or `stop`; start a server that owns its listener'
complete -c usherctl -n "__fish_usherctl_using_subcommand help; and not __fish_seen_subcommand_from status list show instances stats top explain check security reload upgrade enable disable drain stop start kill log events ban unban bans audit ops run words completions generate help" -f -a "kill" -d 'End an instance, or send it a signal'
complete -c usherctl -n "__fish_usherctl_using_subcommand help; and not __fish_seen_subcommand_from status list show instances stats top explain check security reload upgrade enable disable drain stop start kill log events ban unban bans audit ops run words completions generate help" -f -a "log" -d 'What happened of late to services and instances, a line each'
complete -c usherctl -n "__fish_usherctl_using_subcommand help; and not __fish_seen_subcommand_from status list show instances stats top explain check security reload upgrade enable disable drain stop start kill log events ban unban bans audit ops run words completions generate help" -f -a "events" -d 'The same, by kind'
complete -c usherctl -n "__fish_usherctl_using_subcommand help; and not __fish_seen_subcommand_from status list show instances stats top explain check security reload upgrade enable disable drain stop start kill log events ban unban bans audit ops run words completions generate help" -f -a "ban" -d 'Refuse all requests from an address or a prefix'
complete -c usherctl -n "__fish_usherctl_using_subcommand help; and not __fish_seen_subcommand_from status list show instances stats top explain check security reload upgrade enable disable drain stop start kill log events ban unban bans audit ops run words completions generate help" -f -a "unban" -d 'Take a ban back'
complete -c usherctl -n "__fish_usherctl_using_subcommand help; and not __fish_seen_subcommand_from status list show instances stats top explain check security reload upgrade enable disable drain stop start kill log events ban unban bans audit ops run words completions generate help" -f -a "bans" -d 'What is banned, why, and for how long yet'
complete -c usherctl -n "__fish_usherctl_using_subcommand help; and not __fish_seen_subcommand_from status list show instances stats top explain check security reload upgrade enable disable drain stop start kill log events ban unban bans audit ops run words completions generate help" -f -a "audit" -d 'What was asked of usherd, by whom, and what came of it; needs no daemon'
complete -c usherctl -n "__fish_usherctl_using_subcommand help; and not __fish_seen_subcommand_from status list show instances stats top explain check security reload upgrade enable disable drain stop start kill log events ban unban bans audit ops run words completions generate help" -f -a "ops" -d 'Administrative operations: who may ask for each, and what it needs'
complete -c usherctl -n "__fish_usherctl_using_subcommand help; and not __fish_seen_subcommand_from status list show instances stats top explain check security reload upgrade enable disable drain stop start kill log events ban unban bans audit ops run words completions generate help" -f -a "run" -d 'Ask for an administrative operation; interrupted, it is ended, unless its `on_leave` is finish'
complete -c usherctl -n "__fish_usherctl_using_subcommand help; and not __fish_seen_subcommand_from status list show instances stats top explain check security reload upgrade enable disable drain stop start kill log events ban unban bans audit ops run words completions generate help" -f -a "words" -d 'Names of operations, or of the parameters of one, a line each: for completion'
complete -c usherctl -n "__fish_usherctl_using_subcommand help; and not __fish_seen_subcommand_from status list show instances stats top explain check security reload upgrade enable disable drain stop start kill log events ban unban bans audit ops run words completions generate help" -f -a "completions" -d 'Print what makes a shell complete usherctl\'s commands'
complete -c usherctl -n "__fish_usherctl_using_subcommand help; and not __fish_seen_subcommand_from status list show instances stats top explain check security reload upgrade enable disable drain stop start kill log events ban unban bans audit ops run words completions generate help" -f -a "generate" -d 'Write manual pages and completions of all programs below DIR'
complete -c usherctl -n "__fish_usherctl_using_subcommand help; and not __fish_seen_subcommand_from status list show instances stats top explain check security reload upgrade enable disable drain stop start kill log events ban unban bans audit ops run words completions generate help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c usherctl -n "__fish_usherctl_using_subcommand help; and __fish_seen_subcommand_from audit" -f -a "query" -d 'Print requests, oldest first, a line each'
complete -c usherctl -n "__fish_usherctl_using_subcommand help; and __fish_seen_subcommand_from audit" -f -a "verify" -d 'Find entries that were removed, changed or moved'
complete -c usherctl -n "__fish_usherctl_using_subcommand help; and __fish_seen_subcommand_from audit" -f -a "export" -d 'Print the whole log as it is, to be kept and verified elsewhere'

function __usherctl_words
    usherctl words $argv 2>/dev/null
end

function __usherctl_operation
    set -l words (commandline -opc)
    set -e words[1]
    argparse -s (__fish_usherctl_global_optspecs) -- $words 2>/dev/null
    or return
    set -l operands (string match -v -- '-*' $argv[2..])
    test -n "$operands[1]"
    and echo $operands[1]
end

complete -c usherctl -n "__fish_usherctl_using_subcommand ops; and not __usherctl_operation" -f -a "(__usherctl_words)"
complete -c usherctl -n "__fish_usherctl_using_subcommand run; and not __usherctl_operation" -f -a "(__usherctl_words)"
complete -c usherctl -n "__fish_usherctl_using_subcommand run; and __usherctl_operation; and not string match -q '*=*' -- (commandline -ct)" -f -a "(__usherctl_words (__usherctl_operation))"
