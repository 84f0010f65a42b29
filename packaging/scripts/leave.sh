# The end of `prerm remove` (deb) and of `%preun` of the last version (rpm): nobody starts the handler any more, what can be
# posted is posted, and what stays behind is said. Commands that run go on. Nothing here can stop the removal.
# An agent 1.x has units of these names: a socket with Accept=yes, and behind it a template that may call another program.
ours() {
    [ "$(systemctl show --property=Accept --value opensvc-actions.socket)" != yes ] ||
        systemctl cat opensvc-actions@.service 2>/dev/null | grep '^ExecStart=' | tail -n 1 | grep -q /opensvc-actions
}
if [ -d /run/systemd/system ] && ours; then
    # The doors first. Stopping the handler ends no command; it is gone within 5 s.
    systemctl stop opensvc-actions-rearm.timer opensvc-actions.timer opensvc-actions.socket || true
    systemctl stop opensvc-actions.service 'opensvc-actions@*.service' || true
fi
look() { timeout --kill-after=5 30 opensvc-actions --json status 2>/dev/null </dev/null || true; }
left=$(look)
case $left in
'' | *'"running":[]'*'"unreported":[]'*) ;;
*)
    # Of those that are called running, some may have ended since.
    timeout --kill-after=10 60 opensvc-actions --quiet report </dev/null || true
    left=$(look)
    ;;
esac
some=
for what in running unreported waiting; do
    case $left in *"\"$what\":[]"*) ;; *) some="$some $what" ;; esac
done
if [ -z "$left" ]; then
    echo "warning: opensvc-actions is removed, and what it leaves behind could not be found out" >&2
elif [ -n "$some" ]; then
    {
        echo "warning: opensvc-actions is removed, and leaves actions behind:"
        timeout --kill-after=5 30 opensvc-actions status 2>/dev/null </dev/null | sed 's/^/    /' || true
        echo "Commands that run go on. Their results, and those not reported, are kept below /var/lib/opensvc-actions; a handler"
        echo "that is installed before that is deleted reports them. What waits is not run until then."
    } >&2
fi
