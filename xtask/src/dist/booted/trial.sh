# What an operator does with the service of the package.
for port in a b; do
  ip link add ${port}0 type veth peer name ${port}1
  ip link set ${port}0 up
  ip link set ${port}1 up
done
cat > /etc/injector/config.yaml <<END
peers: { a: { mac: '02:00:00:00:00:01' }, b: { mac: '02:00:00:00:00:02' } }
interfaces: [{ name: a0, peer: a }, { name: b0, peer: b }]
END

# `Type=notify`: it has started once the daemon says that it is ready.
systemctl start injector
systemctl is-active injector
first=$(systemctl show --value --property MainPID injector)
test "$(ps -o user= -p "$first")" = injector
grep -qx 'NoNewPrivs:	1' "/proc/$first/status"
grep -qx 'Seccomp:	2' "/proc/$first/status"
echo 'deadline: 7s' >> /etc/injector/config.yaml
systemctl reload injector
timeout 30 sh -c "until journalctl --unit injector --no-pager | grep 'SIGHUP: config in force'; do sleep 0.1; done" ||
  { journalctl --no-pager; exit 1; }
test "$(systemctl show --value --property MainPID injector)" = "$first"
injector partition isolate a --name p --for 60s
injector status
injector heal p

# However it ends, it is there again.
kill -KILL "$first"
timeout 30 sh -c "until systemctl is-active injector && test \$(systemctl show --value --property MainPID injector) != $first; do sleep 0.1; done"
injector partition isolate b --name q --for 60s
systemctl stop injector
test "$(systemctl show --value --property Result injector)" = success
test "$(systemctl show --value --property MainPID injector)" = 0
if injector status; then exit 1; fi
test ! -e /run/injector
