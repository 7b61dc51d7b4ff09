(ns injector.jepsen.grudge
  "Grudges: {dst #{src …}}, where dst drops what src sends. Pure functions."
  (:require [clojure.set :as set]))

(defn normal
  "The same grudge with sets for collections, and without nodes that drop from nobody."
  [grudge]
  (into {} (for [[dst srcs] grudge :when (seq srcs)] [dst (set srcs)])))

(defn union
  "All drops of both."
  [a b]
  (merge-with set/union (normal a) (normal b)))

(defn among
  "Every link between two of `nodes` that begins or ends at one of `targets`."
  [nodes targets]
  (let [is-target (set targets)]
    (normal (into {} (for [dst nodes]
                       [dst (for [src nodes
                                  :when (and (not= src dst) (or (is-target src) (is-target dst)))]
                              src)])))))

(defn own
  "What a node's own daemon drops of a grudge: what the others send to the node."
  [grudge node]
  (select-keys (normal grudge) [node]))

(defn own-both-ways
  "What a node's own daemon cuts of a grudge: what the others send to the node and, where the other one drops from the
  node too, also what the node sends there. Only a daemon that knows of both directions drops ARP and neighbour
  discovery, as a switch port that is off does."
  [grudge node]
  (let [grudge (normal grudge)
        srcs   (get grudge node)
        back   (for [src srcs :when (contains? (get grudge src) node)] [src #{node}])]
    (into (own grudge node) back)))
