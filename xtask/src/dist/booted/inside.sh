# The first process of a machine whose files are in $1, as a container's is: it becomes systemd.
set -e
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
# Most settings below it are of the whole host; those of the network are of this machine alone.
mount --bind proc/sys proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,ro proc/sys
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
for folder in run tmp dev; do
  mount -t tmpfs tmpfs "$folder"
done
for device in null zero full random urandom tty; do
  touch "dev/$device"
  mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/shm dev/pts
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
pivot_root . mnt
umount --lazy /mnt
exec env --ignore-environment container=trial PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd
