(ns injector.jepsen
  "Jepsen with the partition injector. Three lines of a test map switch a suite over:

      :net     (injector/net)
      :nemesis (injector/nemesis (nemesis/partition-random-node))
      :checker (checker/compose {:recovery (injector/checker), …})

  docs/clients/jepsen.md of the injector is the guide."
  (:require [injector.jepsen.heal :as heal]
            [injector.jepsen.nemesis :as nemesis]
            [injector.jepsen.net :as net]
            [injector.jepsen.recovery :as recovery]))

(defn net
  "The network of a test: a `jepsen.net.proto/Net` that can also cut a whole grudge at once. Options:

    :daemon   :each-node (default): a daemon on each node, reached over Jepsen's control session.
              :one: one daemon for all nodes, on the machine that this process runs on.
    :socket   The daemon's Unix socket, on the nodes or here [the injector's default]
    :program  The injector's command on the nodes [\"injector\"]
    :sudo?    Whether that command runs as root there [true]
    :peers    Which peer of the daemon's config a node is: a map or a function [the same name]
    :request  Further fields of every partition, such as {:scopes [\"tcp/5122\"], :for \"2m\", :deadline \"30s\"}
    :flaky    The loss of `flaky!` [:20%]

  Delay, reordering, corruption, duplication and a limited rate can't be done: they throw."
  ([] (net {}))
  ([options] (net/net options)))

(defn nemesis
  "A nemesis around another one. Before the test it checks that every daemon runs and knows the nodes; each operation is
  marked on the daemons' timelines; after the test it waits for the recovery records and keeps them in
  recovery.json. Wrap the outermost nemesis."
  [inner]
  (nemesis/watched inner))

(defn checker
  "A checker that puts heal to ready and heal to settled of each node into the results, and draws recovery.svg. It is
  valid if every heal's outcome is `recovered`, invalid if one is `not_recovered`, and else unknown: also if there was no
  heal, or if something else ended a partition before the test did. Options:

    :ignore  Outcomes that do not decide, such as #{\"censored\"} where faults follow each other quickly"
  ([] (checker {}))
  ([options] (recovery/checker options)))

(defn heal-checker
  "See `injector.jepsen.heal/checker`: judges the operations after each heal, and needs no injector."
  ([] (heal/checker))
  ([options] (heal/checker options)))

(def heal-cli-opts "Options of the heal checker for `jepsen.cli`, with the switch that disables it." heal/cli-opts)

(defn mark!
  "Puts a text on the timeline of every daemon of the test."
  [test text]
  (nemesis/mark! test text))
