(ns jepsen.nemesis
  "Jepsen's protocols of nemeses by their published names and argument orders, and a partitioner as the published one
  behaves: it heals at set-up, at :stop and at tear-down."
  (:require [jepsen.net.proto :as net]))

(defprotocol Nemesis
  (setup! [this test])
  (invoke! [this test op])
  (teardown! [this test]))

(defprotocol Reflection
  (fs [this]))

(defn partitioner
  "Cuts the grudge that is the value of a :start."
  []
  (reify
    Nemesis
    (setup! [this test] (net/heal! (:net test) test) this)
    (invoke! [_ test op]
      (case (:f op)
        :start (do (net/drop-all! (:net test) test (:value op)) (assoc op :value [:isolated (:value op)]))
        :stop  (do (net/heal! (:net test) test) (assoc op :value :network-healed))))
    (teardown! [_ test] (net/heal! (:net test) test))

    Reflection
    (fs [_] #{:start :stop})))
