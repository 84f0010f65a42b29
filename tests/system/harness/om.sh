#!/bin/sh
# Stands where OpenSVC's own `om` would. Marks its beginning and its end, so that overlaps show, and does what the
# words of the action say: `om node WORD…` or `om svc -s NAME WORD…`.
mark() {
	printf '%s %s %s %s\n' "$1" "$$" "$boot" "$words" >>/var/log/om.marks
}
read -r boot </proc/sys/kernel/random/boot_id
words=$*
if [ "$1" = svc ]; then
	shift 3
else
	shift
fi
mark start
status=0
case $1 in
echo)
	shift
	echo "$*"
	;;
fail)
	echo "$3" >&2
	status=$2
	;;
sleep)
	sleep "$2"
	;;
daemon)
	# leaves one behind on purpose; "loud": it keeps our output
	if [ "$2" = loud ]; then
		setsid sleep 1234 </dev/null &
	else
		setsid sleep 1234 </dev/null >/dev/null 2>&1 &
	fi
	;;
surroundings)
	# what a command is born with
	pwd
	umask
	env | sort
	echo "stdin $(readlink /proc/self/fd/0)"
	ls /proc/self/fd
	ulimit -a
	grep -e ^Sig -e ^Shd -e ^Cap -e ^NoNewPrivs -e ^Seccomp /proc/self/status
	readlink /proc/self/ns/mnt
	touch /usr/lib/written && rm /usr/lib/written && echo "/usr can be written"
	;;
abandon)
	# ends its own supervisor, as no command should, with a child that has a session of its own
	setsid sleep 1234 </dev/null >/dev/null 2>&1 &
	kill -9 $PPID
	sleep 1234
	;;
tree)
	# processes in sessions of their own that do not heed a SIGTERM, their parents gone
	setsid sh -c 'trap "" TERM; (sleep 4321 &); while :; do sleep 4321; done' </dev/null >/dev/null 2>&1 &
	trap '' TERM
	while :; do sleep 4321; done
	;;
suicide)
	kill -9 $$
	;;
swap)
	# another program in place of ours, which tells what is wanted of it
	cp /usr/bin/opensvc-actions /usr/bin/kept
	printf '#!/bin/sh\necho "$*" >>/run/swapped\n' >/usr/bin/new
	chmod 755 /usr/bin/new
	mv /usr/bin/new /usr/bin/opensvc-actions
	;;
stamp)
	date +%s%N
	;;
await)
	# until somebody makes the file
	while [ ! -e "$2" ]; do sleep 0.05; done
	if [ $# -gt 2 ]; then
		echo "$4" >&2
		status=$3
	fi
	;;
upgrade)
	# as a package manager does it: a new file in place of the old one
	cp /usr/bin/opensvc-actions /usr/bin/new
	mv /usr/bin/new /usr/bin/opensvc-actions
	systemctl daemon-reload
	if [ "$2" = restart ]; then systemctl restart opensvc-actions.service; fi
	echo upgraded
	;;
reboot)
	if [ "$2" = soon ]; then
		systemd-run --quiet --on-active=500ms --timer-property=AccuracySec=1ms systemctl reboot
	else
		[ "$2" = unseen ] || systemctl reboot
		# does not come back
		while :; do sleep 1; done
	fi
	;;
*)
	echo "om: what is $1?" >&2
	status=2
	;;
esac
mark end
exit $status
