#!/bin/sh
# Stands where OpenSVC's own `om` would. Marks its beginning and its end, so that overlaps show, and does what the
# words of the action say: `om node WORD…` or `om svc -s NAME WORD…`.
mark() {
	printf '%s %s %s\n' "$1" "$$" "$words" >>/var/log/om.marks
}
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
	;;
*)
	echo "om: what is $1?" >&2
	status=2
	;;
esac
mark end
exit $status
