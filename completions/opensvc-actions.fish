# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_opensvc_actions_global_optspecs
    string join \n root= config= json color= v/verbose q/quiet h/help V/version
end

function __fish_opensvc_actions_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_opensvc_actions_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_opensvc_actions_using_subcommand
    set -l cmd (__fish_opensvc_actions_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c opensvc-actions -n "__fish_opensvc_actions_needs_command" -l root -d 'Move every file under DIR: DIR/etc, DIR/var/actions' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_needs_command" -l config -d 'Read FILE instead of actions.toml and its drop-ins' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_needs_command" -l color -d 'Colour text always, never, or (auto) on a terminal unless NO_COLOR is set' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c opensvc-actions -n "__fish_opensvc_actions_needs_command" -l json -d 'Print one JSON document instead of text, where a command prints anything'
complete -c opensvc-actions -n "__fish_opensvc_actions_needs_command" -s v -l verbose -d 'Say more; -vv also says which exchanges are made with collectors'
complete -c opensvc-actions -n "__fish_opensvc_actions_needs_command" -s q -l quiet -d 'Say warnings and errors only'
complete -c opensvc-actions -n "__fish_opensvc_actions_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opensvc-actions -n "__fish_opensvc_actions_needs_command" -s V -l version -d 'Print version'
complete -c opensvc-actions -n "__fish_opensvc_actions_needs_command" -f -a "dequeue" -d 'Fetch, run and report until a fetch brings nothing new and nothing is left to run'
complete -c opensvc-actions -n "__fish_opensvc_actions_needs_command" -f -a "report" -d 'Post the results that no collector has accepted yet; fetch nothing and run nothing'
complete -c opensvc-actions -n "__fish_opensvc_actions_needs_command" -f -a "status" -d 'Show what this node does and what waits: queues, running, waiting and unreported actions, pause'
complete -c opensvc-actions -n "__fish_opensvc_actions_needs_command" -f -a "history" -d 'List the actions that have ended, the newest first'
complete -c opensvc-actions -n "__fish_opensvc_actions_needs_command" -f -a "show" -d 'Show everything that is known about one action'
complete -c opensvc-actions -n "__fish_opensvc_actions_needs_command" -f -a "cancel" -d 'Skip a waiting action or stop a running one; the collector is told 130, cancelled'
complete -c opensvc-actions -n "__fish_opensvc_actions_needs_command" -f -a "pause" -d 'Take no new actions, over a reboot too, until told to resume; a running one goes on, results still go out'
complete -c opensvc-actions -n "__fish_opensvc_actions_needs_command" -f -a "resume" -d 'Take new actions again'
complete -c opensvc-actions -n "__fish_opensvc_actions_needs_command" -f -a "plan" -d 'Print what would become of actions: the policy\'s verdict and the words to execute; nothing runs'
complete -c opensvc-actions -n "__fish_opensvc_actions_needs_command" -f -a "doctor" -d 'Check configuration, collectors, units, agent, ledger and disk, and say what to do; nothing is changed or fetched'
complete -c opensvc-actions -n "__fish_opensvc_actions_needs_command" -f -a "register" -d 'Obtain this node\'s uuid from its collector and write it to node.conf, changing nothing else there'
complete -c opensvc-actions -n "__fish_opensvc_actions_needs_command" -f -a "external" -d 'External actions: list those that are defined here, or start or check one by hand'
complete -c opensvc-actions -n "__fish_opensvc_actions_needs_command" -f -a "systemd-start" -d 'Start command for an external action that runs in the template unit UNIT@.service; reads the action on standard input'
complete -c opensvc-actions -n "__fish_opensvc_actions_needs_command" -f -a "systemd-check" -d 'Check command for the same; prints how the action is'
complete -c opensvc-actions -n "__fish_opensvc_actions_needs_command" -f -a "show-config" -d 'Print the effective settings and where each comes from; nothing is sent anywhere'
complete -c opensvc-actions -n "__fish_opensvc_actions_needs_command" -f -a "completions" -d 'Print what a shell needs to complete the command lines of this program'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand dequeue" -l root -d 'Move every file under DIR: DIR/etc, DIR/var/actions' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand dequeue" -l config -d 'Read FILE instead of actions.toml and its drop-ins' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand dequeue" -l color -d 'Colour text always, never, or (auto) on a terminal unless NO_COLOR is set' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand dequeue" -l no-wait -d 'When another handler works already, leave it a mark and exit at once instead of waiting for it'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand dequeue" -l json -d 'Print one JSON document instead of text, where a command prints anything'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand dequeue" -s v -l verbose -d 'Say more; -vv also says which exchanges are made with collectors'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand dequeue" -s q -l quiet -d 'Say warnings and errors only'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand dequeue" -s h -l help -d 'Print help'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand report" -l root -d 'Move every file under DIR: DIR/etc, DIR/var/actions' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand report" -l config -d 'Read FILE instead of actions.toml and its drop-ins' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand report" -l color -d 'Colour text always, never, or (auto) on a terminal unless NO_COLOR is set' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand report" -l json -d 'Print one JSON document instead of text, where a command prints anything'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand report" -s v -l verbose -d 'Say more; -vv also says which exchanges are made with collectors'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand report" -s q -l quiet -d 'Say warnings and errors only'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand report" -s h -l help -d 'Print help'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand status" -l max-age -d 'Exit with 75 when the last contact of a queue is older than AGE, like 10m or 2h' -r
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand status" -l root -d 'Move every file under DIR: DIR/etc, DIR/var/actions' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand status" -l config -d 'Read FILE instead of actions.toml and its drop-ins' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand status" -l color -d 'Colour text always, never, or (auto) on a terminal unless NO_COLOR is set' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand status" -l json -d 'Print one JSON document instead of text, where a command prints anything'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand status" -s v -l verbose -d 'Say more; -vv also says which exchanges are made with collectors'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand status" -s q -l quiet -d 'Say warnings and errors only'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand status" -s h -l help -d 'Print help'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand history" -l limit -d 'Show at most N actions' -r
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand history" -l since -d 'Show only those that ended since TIME: 2026-11-21, 2026-11-21T09:00 (local time), 2026-11-21T09:00+01:00, or 2h ago' -r
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand history" -l root -d 'Move every file under DIR: DIR/etc, DIR/var/actions' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand history" -l config -d 'Read FILE instead of actions.toml and its drop-ins' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand history" -l color -d 'Colour text always, never, or (auto) on a terminal unless NO_COLOR is set' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand history" -l failed -d 'Show only those whose result is not 0'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand history" -l json -d 'Print one JSON document instead of text, where a command prints anything'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand history" -s v -l verbose -d 'Say more; -vv also says which exchanges are made with collectors'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand history" -s q -l quiet -d 'Say warnings and errors only'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand history" -s h -l help -d 'Print help'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand show" -l root -d 'Move every file under DIR: DIR/etc, DIR/var/actions' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand show" -l config -d 'Read FILE instead of actions.toml and its drop-ins' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand show" -l color -d 'Colour text always, never, or (auto) on a terminal unless NO_COLOR is set' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand show" -l stdout -d 'Print what it wrote to standard output, and nothing else'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand show" -l stderr -d 'Print what it wrote to standard error, and nothing else'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand show" -l json -d 'Print one JSON document instead of text, where a command prints anything'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand show" -s v -l verbose -d 'Say more; -vv also says which exchanges are made with collectors'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand show" -s q -l quiet -d 'Say warnings and errors only'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand show" -s h -l help -d 'Print help'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand cancel" -l root -d 'Move every file under DIR: DIR/etc, DIR/var/actions' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand cancel" -l config -d 'Read FILE instead of actions.toml and its drop-ins' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand cancel" -l color -d 'Colour text always, never, or (auto) on a terminal unless NO_COLOR is set' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand cancel" -l json -d 'Print one JSON document instead of text, where a command prints anything'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand cancel" -s v -l verbose -d 'Say more; -vv also says which exchanges are made with collectors'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand cancel" -s q -l quiet -d 'Say warnings and errors only'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand cancel" -s h -l help -d 'Print help'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand pause" -l reason -d 'Why, for whoever asks for the status' -r
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand pause" -l for -d 'Resume by itself after TIME, like 30m or 2h' -r
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand pause" -l root -d 'Move every file under DIR: DIR/etc, DIR/var/actions' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand pause" -l config -d 'Read FILE instead of actions.toml and its drop-ins' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand pause" -l color -d 'Colour text always, never, or (auto) on a terminal unless NO_COLOR is set' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand pause" -l json -d 'Print one JSON document instead of text, where a command prints anything'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand pause" -s v -l verbose -d 'Say more; -vv also says which exchanges are made with collectors'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand pause" -s q -l quiet -d 'Say warnings and errors only'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand pause" -s h -l help -d 'Print help'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand resume" -l root -d 'Move every file under DIR: DIR/etc, DIR/var/actions' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand resume" -l config -d 'Read FILE instead of actions.toml and its drop-ins' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand resume" -l color -d 'Colour text always, never, or (auto) on a terminal unless NO_COLOR is set' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand resume" -l json -d 'Print one JSON document instead of text, where a command prints anything'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand resume" -s v -l verbose -d 'Say more; -vv also says which exchanges are made with collectors'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand resume" -s q -l quiet -d 'Say warnings and errors only'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand resume" -s h -l help -d 'Print help'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand plan" -l root -d 'Move every file under DIR: DIR/etc, DIR/var/actions' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand plan" -l config -d 'Read FILE instead of actions.toml and its drop-ins' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand plan" -l color -d 'Colour text always, never, or (auto) on a terminal unless NO_COLOR is set' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand plan" -l json -d 'Print one JSON document instead of text, where a command prints anything'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand plan" -s v -l verbose -d 'Say more; -vv also says which exchanges are made with collectors'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand plan" -s q -l quiet -d 'Say warnings and errors only'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand plan" -s h -l help -d 'Print help'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand doctor" -l root -d 'Move every file under DIR: DIR/etc, DIR/var/actions' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand doctor" -l config -d 'Read FILE instead of actions.toml and its drop-ins' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand doctor" -l color -d 'Colour text always, never, or (auto) on a terminal unless NO_COLOR is set' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand doctor" -l json -d 'Print one JSON document instead of text, where a command prints anything'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand doctor" -s v -l verbose -d 'Say more; -vv also says which exchanges are made with collectors'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand doctor" -s q -l quiet -d 'Say warnings and errors only'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand register" -l user -d 'A user of the collector who may register nodes; the password is asked for, or read from standard input' -r
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand register" -l password-file -d 'Read that user\'s password from the first line of FILE' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand register" -l app -d 'The application that the node belongs to, instead of node.app of node.conf or the user\'s own' -r
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand register" -l queue -d 'Which collector, where node.conf names both: oc3 or rpc' -r
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand register" -l root -d 'Move every file under DIR: DIR/etc, DIR/var/actions' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand register" -l config -d 'Read FILE instead of actions.toml and its drop-ins' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand register" -l color -d 'Colour text always, never, or (auto) on a terminal unless NO_COLOR is set' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand register" -l asset -d 'Post the least inventory that makes collector 3 offer this node its actions; alone, on a registered node, nothing else'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand register" -l force -d 'Replace another uuid in node.conf'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand register" -l json -d 'Print one JSON document instead of text, where a command prints anything'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand register" -s v -l verbose -d 'Say more; -vv also says which exchanges are made with collectors'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand register" -s q -l quiet -d 'Say warnings and errors only'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand register" -s h -l help -d 'Print help'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand external; and not __fish_seen_subcommand_from list start check" -l root -d 'Move every file under DIR: DIR/etc, DIR/var/actions' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand external; and not __fish_seen_subcommand_from list start check" -l config -d 'Read FILE instead of actions.toml and its drop-ins' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand external; and not __fish_seen_subcommand_from list start check" -l color -d 'Colour text always, never, or (auto) on a terminal unless NO_COLOR is set' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand external; and not __fish_seen_subcommand_from list start check" -l json -d 'Print one JSON document instead of text, where a command prints anything'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand external; and not __fish_seen_subcommand_from list start check" -s v -l verbose -d 'Say more; -vv also says which exchanges are made with collectors'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand external; and not __fish_seen_subcommand_from list start check" -s q -l quiet -d 'Say warnings and errors only'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand external; and not __fish_seen_subcommand_from list start check" -s h -l help -d 'Print help'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand external; and not __fish_seen_subcommand_from list start check" -f -a "list" -d 'List the external actions that are defined on this node'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand external; and not __fish_seen_subcommand_from list start check" -f -a "start" -d 'Run the start command of an external action as a queued action would, and print the id that it was given'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand external; and not __fish_seen_subcommand_from list start check" -f -a "check" -d 'Run the check command of an external action, and print what it says'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand external; and __fish_seen_subcommand_from list" -l root -d 'Move every file under DIR: DIR/etc, DIR/var/actions' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand external; and __fish_seen_subcommand_from list" -l config -d 'Read FILE instead of actions.toml and its drop-ins' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand external; and __fish_seen_subcommand_from list" -l color -d 'Colour text always, never, or (auto) on a terminal unless NO_COLOR is set' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand external; and __fish_seen_subcommand_from list" -l json -d 'Print one JSON document instead of text, where a command prints anything'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand external; and __fish_seen_subcommand_from list" -s v -l verbose -d 'Say more; -vv also says which exchanges are made with collectors'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand external; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Say warnings and errors only'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand external; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand external; and __fish_seen_subcommand_from start" -l id -d 'Use ID, a UUID, instead of a new one' -r
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand external; and __fish_seen_subcommand_from start" -l root -d 'Move every file under DIR: DIR/etc, DIR/var/actions' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand external; and __fish_seen_subcommand_from start" -l config -d 'Read FILE instead of actions.toml and its drop-ins' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand external; and __fish_seen_subcommand_from start" -l color -d 'Colour text always, never, or (auto) on a terminal unless NO_COLOR is set' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand external; and __fish_seen_subcommand_from start" -l json -d 'Print one JSON document instead of text, where a command prints anything'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand external; and __fish_seen_subcommand_from start" -s v -l verbose -d 'Say more; -vv also says which exchanges are made with collectors'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand external; and __fish_seen_subcommand_from start" -s q -l quiet -d 'Say warnings and errors only'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand external; and __fish_seen_subcommand_from start" -s h -l help -d 'Print help'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand external; and __fish_seen_subcommand_from check" -l root -d 'Move every file under DIR: DIR/etc, DIR/var/actions' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand external; and __fish_seen_subcommand_from check" -l config -d 'Read FILE instead of actions.toml and its drop-ins' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand external; and __fish_seen_subcommand_from check" -l color -d 'Colour text always, never, or (auto) on a terminal unless NO_COLOR is set' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand external; and __fish_seen_subcommand_from check" -l json -d 'Print one JSON document instead of text, where a command prints anything'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand external; and __fish_seen_subcommand_from check" -s v -l verbose -d 'Say more; -vv also says which exchanges are made with collectors'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand external; and __fish_seen_subcommand_from check" -s q -l quiet -d 'Say warnings and errors only'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand external; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand systemd-start" -l data -d 'Keep what the unit reads, and what is known of it, in DIR' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand systemd-start" -l root -d 'Move every file under DIR: DIR/etc, DIR/var/actions' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand systemd-start" -l config -d 'Read FILE instead of actions.toml and its drop-ins' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand systemd-start" -l color -d 'Colour text always, never, or (auto) on a terminal unless NO_COLOR is set' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand systemd-start" -l user -d 'Ask the user\'s manager instead of the system\'s'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand systemd-start" -l json -d 'Print one JSON document instead of text, where a command prints anything'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand systemd-start" -s v -l verbose -d 'Say more; -vv also says which exchanges are made with collectors'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand systemd-start" -s q -l quiet -d 'Say warnings and errors only'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand systemd-start" -s h -l help -d 'Print help'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand systemd-check" -l data -d 'Keep what the unit reads, and what is known of it, in DIR' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand systemd-check" -l root -d 'Move every file under DIR: DIR/etc, DIR/var/actions' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand systemd-check" -l config -d 'Read FILE instead of actions.toml and its drop-ins' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand systemd-check" -l color -d 'Colour text always, never, or (auto) on a terminal unless NO_COLOR is set' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand systemd-check" -l user -d 'Ask the user\'s manager instead of the system\'s'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand systemd-check" -l json -d 'Print one JSON document instead of text, where a command prints anything'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand systemd-check" -s v -l verbose -d 'Say more; -vv also says which exchanges are made with collectors'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand systemd-check" -s q -l quiet -d 'Say warnings and errors only'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand systemd-check" -s h -l help -d 'Print help'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand show-config" -l root -d 'Move every file under DIR: DIR/etc, DIR/var/actions' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand show-config" -l config -d 'Read FILE instead of actions.toml and its drop-ins' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand show-config" -l color -d 'Colour text always, never, or (auto) on a terminal unless NO_COLOR is set' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand show-config" -l json -d 'Print one JSON document instead of text, where a command prints anything'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand show-config" -s v -l verbose -d 'Say more; -vv also says which exchanges are made with collectors'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand show-config" -s q -l quiet -d 'Say warnings and errors only'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand show-config" -s h -l help -d 'Print help'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand completions" -l root -d 'Move every file under DIR: DIR/etc, DIR/var/actions' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand completions" -l config -d 'Read FILE instead of actions.toml and its drop-ins' -r -F
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand completions" -l color -d 'Colour text always, never, or (auto) on a terminal unless NO_COLOR is set' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand completions" -l json -d 'Print one JSON document instead of text, where a command prints anything'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand completions" -s v -l verbose -d 'Say more; -vv also says which exchanges are made with collectors'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand completions" -s q -l quiet -d 'Say warnings and errors only'
complete -c opensvc-actions -n "__fish_opensvc_actions_using_subcommand completions" -s h -l help -d 'Print help'
