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
	# leaves one behind on purpose
	setsid sleep 1234 </dev/null >/dev/null 2>&1 &
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
	systemctl reboot
	# does not come back, unless told to
	while [ "$2" != return ]; do sleep 1; done
	;;
*)
	echo "om: what is $1?" >&2
	status=2
	;;
esac
mark end
exit $status
