# Boots the root $1 with the script $3, in a group of cgroups $2 that is removed afterwards. What is mounted is seen by this
# shell and what it starts, and is gone with them.
set -e
mount -t cgroup2 cgroup2 "$1/mnt"
group="$1/mnt/$2"
mkdir "$group"
end() {
  trap '' INT TERM HUP
  echo 1 > "$group/cgroup.kill"
  # What was killed takes a moment to be gone.
  for _ in $(seq 100); do
    find "$group" -depth -type d -exec rmdir {} + 2> "$1/trial.left" && return
    sleep 0.1
  done
  cat "$1/trial.left"
  exit 1
}
trap 'end "$1"; exit 130' INT TERM HUP
sh -c 'echo $$ > "$0/cgroup.procs" && exec timeout --signal=KILL 180 \
  unshare --cgroup --mount --uts --ipc --pid --net --fork --kill-child=KILL sh -c "$2" sh "$1"' "$group" "$1" "$3" &
ended=0
wait $! || ended=$?
end "$1"
exit $ended
