#!/bin/sh
# A fake om: says what it was called with, then does what its words say, one after the other.
D='@DIR@'

mark() { printf '%s\n' "$*" >>"$D/marks"; }

mark "start $$$(printf '\037%s' "$@")"
case $1 in
node) shift ;;
svc) shift 3 ;; # svc -s NAME
esac

while [ $# -gt 0 ]; do
    word=$1
    shift
    case $word in
    echo)        printf '%s\n' "$1"; shift ;;
    err)         printf '%s\n' "$1" >&2; shift ;;
    cat)         cat "$D/$1"; shift ;;          # this very output
    cat-err)     cat "$D/$1" >&2; shift ;;
    env)         env ;;
    pwd)         pwd ;;
    umask)       umask ;;
    status)      # of a process that this one starts: a shell blocks signals for a moment when it does
                 cat /proc/self/status /proc/self/limits
                 printf 'oom_score_adj: %s\n' "$(cat /proc/self/oom_score_adj)"
                 printf 'tty: %s\nnice: %s\n' $(cut -d' ' -f7,19 /proc/$$/stat) ;;
    fds)         for fd in /proc/$$/fd/*; do [ ! -e "$fd" ] || { printf '%s ' "${fd##*/}"; readlink "$fd"; }; done ;;
    group)       cut -d' ' -f5,6 /proc/$$/stat ;; # process group and session
    wait)        read -r _ <"$D/$1"; shift ;;   # until the gate is opened
    ignore-term) trap '' TERM ;;
    say-term)    trap 'mark "term $$"' TERM ;;
    remove)      rm -f "$D/$1"; shift ;;
    child)       # a process of the same group that holds out as well, and is not waited for
                 D=$D sh -c 'trap "" TERM; printf "child %s\n" $$ >>"$D/marks"; read -r _ <"$D/$0"' "$1" &
                 shift ;;
    escapee)     # the same in a session of its own
                 D=$D setsid sh -c 'trap "" TERM; printf "child %s\n" $$ >>"$D/marks"; read -r _ <"$D/$0"' "$1" &
                 shift ;;
    daemon)      # left behind on purpose; it holds the output, and speaks when its gate is opened
                 D=$D setsid sh -c 'printf "daemon %s\n" $$ >>"$D/marks"; read -r _ <"$D/$0"
                     head -c 200000 /dev/zero && printf "daemon-end %s %s\n" $$ $? >>"$D/marks"' "$1" &
                 shift ;;
    run)         "$D/bin/$1" "$2"; shift 2 ;;   # a script of this node's
    become)      exec "$D/bin/$1" "$2" ;;       # the same in the place of this process
    kill)        mark "kill $$ $1"; kill "-$1" $$ ;;
    exit)        mark "end $$ $1"; exit "$1" ;;
    *) ;;
    esac
done
mark "end $$ 0"
