(ns jepsen.net.proto
  "Jepsen's protocols of networks, by their published names and argument orders.")

(defprotocol Net
  (drop! [net test src dest])
  (heal! [net test])
  (slow! [net test] [net test opts])
  (flaky! [net test])
  (fast! [net test])
  (shape! [net test nodes behavior]))

(defprotocol PartitionAll
  (drop-all! [net test grudge]))
