(ns injector.jepsen.heal
  "The heal checker of the Restate suite, for each heal of a run: some seconds after a heal, the last few operations on
  every node must have succeeded. It judges the history alone and needs no injector.

  A heal whose window is cut short by the next fault, or by the end of the test, and that was not well by then, is
  unknown: nobody can say whether it would have been in time. A history without a heal is unknown too: it shows nothing.
  Times are milliseconds, nil where there is none."
  (:require [clojure.string :as str]
            [jepsen.checker :as checker]))

(def cli-opts
  "Options for `jepsen.cli`. They reach the checker in the test map."
  [[nil "--[no-]heal-checker" "Whether the heal checker may fail the test. Its times are in the results either way."
    :default true]
   [nil "--heal-within SECONDS" "How long after each heal every node may take."
    :default 20
    :parse-fn parse-double
    :validate [#(and % (pos? %)) "Must be a positive number of seconds"]]])

(def ^:private defaults
  {:within 20
   :events 5
   :start  #{:start :start-partition}
   :stop   #{:stop :stop-partition}
   :error? (fn [op] (and (#{:info :fail} (:type op)) (contains? op :error)))})

(defn- completion? [op]
  (and (not= :invoke (:type op)) (integer? (:process op))))

(defn- node-of
  "The node of an operation: its own :node, or that of the thread which Jepsen bound to a node."
  [test op]
  (or (:node op)
      (let [{:keys [nodes concurrency] :or {concurrency (count nodes)}} test]
        (when (and (seq nodes) (pos? concurrency))
          (nth nodes (mod (mod (:process op) concurrency) (count nodes)))))))

(defn windows
  "The time after each heal: [{:from ns :until ns :whole? boolean}]. `whole?` says that it lasted for `within` seconds.
  The nemesis does one thing at a time, so its entries in the history are pairs of begin and end: a cut begins with the
  first of its two, and a heal is done with the second."
  [{:keys [within start stop]} history]
  (let [length (long (* within 1e9))
        end    (:time (last history) 0)
        pairs  (partition-all 2 (filter #(= :nemesis (:process %)) history))]
    (loop [pairs pairs, cut? false, healed nil, found []]
      (if-let [[begin done] (first pairs)]
        (cond
          (and (start (:f begin)) (not (:exception done)))
          (recur (rest pairs) true nil (if healed (conj found [healed (:time begin)]) found))

          (and (stop (:f begin)) cut? done)
          (recur (rest pairs) false (:time done) found)

          :else (recur (rest pairs) cut? healed found))
        (for [[from until] (if healed (conj found [healed end]) found)]
          {:from from, :until (min until (+ from length)), :whole? (<= (+ from length) until)})))))

(defn- node-result [{:keys [events error?]} {:keys [from until whole?]} ops]
  (let [within   (filter #(<= from (:time %) until) ops)
        tail     (take-last events within)
        after    (fn [op] (when op (/ (- (:time op) from) 1e6)))
        last-bad (last (filter error? within))
        good     (if last-bad (rest (drop-while #(not (identical? last-bad %)) within)) within)
        well?    (and (= events (count tail)) (not-any? error? tail))]
    {:valid?        (cond well? true
                          (and whole? (some error? tail)) false
                          :else :unknown)
     :operations    (count within)
     :last-error-ms (after last-bad)
     :served-from-ms (after (first good))
     :errors        (vec (distinct (map :error (filter error? tail))))}))

(defn- merged
  "False is worse than unknown, and unknown worse than true. Nothing to judge is unknown."
  [valids]
  (cond (some false? valids) false, (or (empty? valids) (some #{:unknown} valids)) :unknown, :else true))

(defn- no-heal
  "Why a history has no heal to judge: what the options take for cuts and heals, and what the nemesis did."
  [{:keys [start stop]} history]
  (let [words  (fn [fs] (if (seq fs) (str/join " or " (sort (map pr-str fs))) "nothing"))
        did    (frequencies (map :f (filter #(and (= :nemesis (:process %)) (not (:exception %))) history)))
        failed (distinct (map :f (filter #(and (= :nemesis (:process %)) (:exception %)) history)))]
    (str "no cut was healed: with its options this checker takes " (words start) " for a cut and " (words stop)
         " for a heal. The nemesis did " (words (keys did))
         (when (seq failed) (str ", and failed at " (words failed)))
         ". Name its cuts and heals with :start and :stop")))

(defn judge
  "The results of one history, without the switch."
  [options test history]
  (let [options (merge defaults options)
        clients (group-by #(node-of test %) (filter completion? history))
        nodes   (or (seq (:nodes test)) (sort (keys clients)))
        heals   (vec (for [window (windows options history)]
                       (let [results (into (sorted-map) (for [node nodes]
                                                          [node (node-result options window (clients node))]))]
                         {:valid?    (merged (map :valid? (vals results)))
                          :at-ms     (/ (:from window) 1e6)
                          :window-ms (/ (- (:until window) (:from window)) 1e6)
                          :whole?    (:whole? window)
                          :nodes     results})))]
    (cond-> {:valid? (merged (map :valid? heals))
             :within (:within options)
             :heals  heals}
      (empty? heals) (assoc :error (no-heal options history)))))

(defrecord HealChecker [options]
  checker/Checker
  (check [_ test history _]
    (let [result (judge (merge (when-let [within (:heal-within test)] {:within within}) options) test history)]
      (if (:heal-checker test true)
        result
        (assoc result :valid? true, :disabled? true, :would-be (:valid? result))))))

(defn checker
  "A checker of each heal. Options: :within (seconds, default 20, or the test's :heal-within), :events (how many
  operations on each node must succeed at the end of the window, default 5), :start and :stop (the nemesis' :f of cuts
  and heals), :error? (whether an operation failed; default an :info or :fail with an :error). A test with
  {:heal-checker false} is never failed by it."
  ([] (checker {}))
  ([options] (->HealChecker options)))
