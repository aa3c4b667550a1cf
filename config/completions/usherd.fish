# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_usherd_global_optspecs
    string join \n config= user runtime-dir= ready-fd= h/help V/version
end

function __fish_usherd_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_usherd_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_usherd_using_subcommand
    set -l cmd (__fish_usherd_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c usherd -n "__fish_usherd_needs_command" -l config -d 'The table to serve [default: /etc/usherd/usherd.toml for root, else the built-in one]' -r -F
complete -c usherd -n "__fish_usherd_needs_command" -l runtime-dir -d 'Where usherd.pid and the control sockets go, whatever the table says [default: /run/usherd, or usherd in $XDG_RUNTIME_DIR]' -r -F
complete -c usherd -n "__fish_usherd_needs_command" -l ready-fd -d 'Write a newline to this descriptor once everything is served, and close it, as s6 wants it' -r
complete -c usherd -n "__fish_usherd_needs_command" -l user -d 'Serve an ordinary user\'s own table: $XDG_CONFIG_HOME/usherd/usherd.toml'
complete -c usherd -n "__fish_usherd_needs_command" -s h -l help -d 'Print help'
complete -c usherd -n "__fish_usherd_needs_command" -s V -l version -d 'Print version'
complete -c usherd -n "__fish_usherd_needs_command" -f -a "check" -d 'Read the table, show every complaint, touch nothing'
complete -c usherd -n "__fish_usherd_needs_command" -f -a "explain" -d 'Tell which service a request would be for, rule by rule, and how long clients may wait'
complete -c usherd -n "__fish_usherd_needs_command" -f -a "import" -d 'Write a table from the files of another super-server, and report what does not mean the same'
complete -c usherd -n "__fish_usherd_needs_command" -f -a "doctor" -d 'Try what this kernel and host have for sandboxes, and say what to do about the rest'
complete -c usherd -n "__fish_usherd_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c usherd -n "__fish_usherd_using_subcommand check" -l exposure -d 'Print how exposed each service leaves the host, from 0.0 to 10.0; fail if one is above SCORE' -r
complete -c usherd -n "__fish_usherd_using_subcommand check" -l config -d 'The table to serve [default: /etc/usherd/usherd.toml for root, else the built-in one]' -r -F
complete -c usherd -n "__fish_usherd_using_subcommand check" -l effective -d 'Print the table as it will be used: defaults filled in, names resolved'
complete -c usherd -n "__fish_usherd_using_subcommand check" -s h -l help -d 'Print help'
complete -c usherd -n "__fish_usherd_using_subcommand explain" -l from -d 'Where it comes from, with or without a port' -r
complete -c usherd -n "__fish_usherd_using_subcommand explain" -l to -d 'The address of this host that it is sent to' -r
complete -c usherd -n "__fish_usherd_using_subcommand explain" -l interface -d 'The interface it comes in at' -r
complete -c usherd -n "__fish_usherd_using_subcommand explain" -l uid -d 'The peer of a Unix socket' -r
complete -c usherd -n "__fish_usherd_using_subcommand explain" -l gid -d 'The group of the peer of a Unix socket' -r
complete -c usherd -n "__fish_usherd_using_subcommand explain" -l hex -d 'The first bytes, in hexadecimal: 160301...' -r
complete -c usherd -n "__fish_usherd_using_subcommand explain" -l text -d 'The first bytes as text, with \\r, \\n and \\xNN' -r
complete -c usherd -n "__fish_usherd_using_subcommand explain" -l file -d 'A file with the first bytes; - is stdin' -r -F
complete -c usherd -n "__fish_usherd_using_subcommand explain" -l sni -d 'A TLS client that asks for this name' -r
complete -c usherd -n "__fish_usherd_using_subcommand explain" -l ended -d 'How the wait for more bytes ends' -r -f -a "timeout\t''
eof\t''
full\t''"
complete -c usherd -n "__fish_usherd_using_subcommand explain" -l config -d 'The table to serve [default: /etc/usherd/usherd.toml for root, else the built-in one]' -r -F
complete -c usherd -n "__fish_usherd_using_subcommand explain" -s h -l help -d 'Print help'
complete -c usherd -n "__fish_usherd_using_subcommand import" -l from -d 'What the files are [default: told by their names, or by what is in them]' -r -f -a "inetd\t''
xinetd\t''
rlinetd\t''
systemd\t'A .socket unit with the service it starts'"
complete -c usherd -n "__fish_usherd_using_subcommand import" -l dialect -d 'Whose inetd the files were written for [default: told by what is in them, else debian]' -r -f -a "debian\t'openbsd-inetd as Debian has it'
freebsd\t''
netbsd\t''
openbsd\t''
gnu\t'GNU inetutils'"
complete -c usherd -n "__fish_usherd_using_subcommand import" -l hosts-allow -d 'The hosts.allow(5) that tcpd and libwrap went by' -r -F
complete -c usherd -n "__fish_usherd_using_subcommand import" -l hosts-deny -d 'The hosts.deny(5) that tcpd and libwrap went by' -r -F
complete -c usherd -n "__fish_usherd_using_subcommand import" -l output -d 'Where the table goes, a file that is not there yet [default: stdout]' -r -F
complete -c usherd -n "__fish_usherd_using_subcommand import" -l config -d 'The table to serve [default: /etc/usherd/usherd.toml for root, else the built-in one]' -r -F
complete -c usherd -n "__fish_usherd_using_subcommand import" -l no-hosts -d 'There is no hosts.allow and no hosts.deny: tcpd and libwrap let everybody in'
complete -c usherd -n "__fish_usherd_using_subcommand import" -l libwrap -d 'inetd ran with -l: libwrap was asked about every server, not only behind tcpd'
complete -c usherd -n "__fish_usherd_using_subcommand import" -l allow-loss -d 'Go on although a restriction cannot be carried over; the table says which'
complete -c usherd -n "__fish_usherd_using_subcommand import" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usherd -n "__fish_usherd_using_subcommand doctor" -l config -d 'The table to serve [default: /etc/usherd/usherd.toml for root, else the built-in one]' -r -F
complete -c usherd -n "__fish_usherd_using_subcommand doctor" -l json -d 'Print JSON'
complete -c usherd -n "__fish_usherd_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c usherd -n "__fish_usherd_using_subcommand help; and not __fish_seen_subcommand_from check explain import doctor help" -f -a "check" -d 'Read the table, show every complaint, touch nothing'
complete -c usherd -n "__fish_usherd_using_subcommand help; and not __fish_seen_subcommand_from check explain import doctor help" -f -a "explain" -d 'Tell which service a request would be for, rule by rule, and how long clients may wait'
complete -c usherd -n "__fish_usherd_using_subcommand help; and not __fish_seen_subcommand_from check explain import doctor help" -f -a "import" -d 'Write a table from the files of another super-server, and report what does not mean the same'
complete -c usherd -n "__fish_usherd_using_subcommand help; and not __fish_seen_subcommand_from check explain import doctor help" -f -a "doctor" -d 'Try what this kernel and host have for sandboxes, and say what to do about the rest'
complete -c usherd -n "__fish_usherd_using_subcommand help; and not __fish_seen_subcommand_from check explain import doctor help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
