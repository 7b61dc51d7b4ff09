# Boots the root $1 with the script $3, in a group of cgroups $2 that is removed afterwards. What is mounted is seen by this
# shell and what it starts, and is gone with them.
set -e
mount -t cgroup2 cgroup2 "$1/mnt"
group="$1/mnt/$2"
mkdir "$group"
ended=0
(
  echo 0 > "$group/cgroup.procs"
  exec timeout --signal=KILL 180 \
    unshare --cgroup --mount --uts --ipc --pid --net --fork --kill-child=KILL sh -c "$3" sh "$1"
) || ended=$?
find "$group" -depth -type d -exec rmdir {} \;
exit $ended
