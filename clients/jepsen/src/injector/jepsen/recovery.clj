(ns injector.jepsen.recovery
  "A checker of recovery: for each heal of the run, how long each node took to be ready and to settle.

  It judges the file that `injector.jepsen.nemesis` has written, so it gives the same result when a stored test is
  analyzed again. All times are milliseconds; nil means that there is no such time."
  (:require [clojure.data.json :as json]
            [clojure.string :as str]
            [injector.jepsen.names :as names]
            [injector.jepsen.nemesis :as nemesis]
            [injector.jepsen.plot :as plot]
            [jepsen.checker :as checker]
            [jepsen.store :as store]))

(defn- ms [ns] (when ns (/ ns 1e6)))

(defn- after-heal [record instant]
  (let [heal (get-in record [:heal :end_ns])]
    (when (and heal instant) (ms (- instant heal)))))

(defn- latest
  "The latest of these times; nil if there are none, or one is missing."
  [times]
  (when (and (seq times) (every? some? times)) (apply max times)))

(def ^:private verdicts {"recovered" true, "not_recovered" false})

(defn- validity [ignored outcome]
  (if (contains? ignored outcome) true (get verdicts outcome :unknown)))

(defn- ended-early
  "What ended the partitions of one fault before the test healed them, in words. `placed` are [place record]; `noted` has
  what the test's network saw: {[place name] words}. A record alone does not say which client's request it was."
  [placed noted]
  (distinct (for [[place {:keys [name healed_by]}] placed
                  why [(noted [place name]) (when-not (contains? #{nil "request"} healed_by) (names/ended-by healed_by))]
                  :when why]
              (str name " on " place ": " why))))

(defn- merged
  "False is worse than unknown, and unknown worse than true. Nothing to judge is unknown."
  [valids]
  (cond (some false? valids) false, (or (empty? valids) (some #{:unknown} valids)) :unknown, :else true))

(defn- nothing-judged
  "Why these heals show nothing; nil if one of them decides."
  [ignored heals]
  (cond
    (empty? heals)
    "the run has no record of a partition: nothing was cut. See whether the nemesis uses the test's :net"

    (every? ignored (for [heal heals, record (vals (:records heal))] (:outcome record)))
    "every heal's outcome is one that :ignore names: no heal was judged. Give the cluster more time between two faults"))

(defn- endpoint-view [record endpoint]
  {:required            (:required endpoint)
   :outcome             (:outcome endpoint)
   :impaired            (:impaired endpoint)
   :heal-to-ready-ms    (after-heal record (:ready_ns endpoint))
   :heal-to-settled-ms  (after-heal record (:settled_ns endpoint))
   :outage-ms           (ms (get-in endpoint [:outage :sum_ns]))
   :relapses            (:relapses endpoint)})

(defn- worst-outcome [outcomes]
  (or (first (filter (set outcomes) ["not_recovered" "harness_failed" "unknown" "censored"]))
      (when (every? #{"recovered"} outcomes) "recovered")))

(defn- node-view
  "What is known of a node after one heal: `seen` are [place record endpoint] of all daemons. If the node's own daemon
  has seen it, that one counts."
  [node seen]
  (let [own       (filter (fn [[place]] (= place node)) seen)
        seen      (if (seq own) own seen)
        endpoints (into (sorted-map) (for [[_ record endpoint] seen] [(:name endpoint) (endpoint-view record endpoint)]))
        required  (filter :required (vals endpoints))]
    {:outcome            (worst-outcome (map :outcome required))
     :heal-to-ready-ms   (latest (map :heal-to-ready-ms required))
     :heal-to-settled-ms (latest (map :heal-to-settled-ms required))
     :endpoints          endpoints}))

(defn- record-view [record]
  {:outcome            (:outcome record)
   :reason             (:outcome_reason record)
   :closed-by          (:closed_by record)
   :heal-to-ready-ms   (ms (:heal_to_ready_ns record))
   :heal-to-settled-ms (ms (:heal_to_settled_ns record))
   :hold-ms            (ms (:hold_ns record))
   :deadline-ms        (ms (:deadline_ns record))
   :healed-by          (:healed_by record)
   :proved             (:proved record)
   :starved            (:starved record)
   :phases             (into {} (for [[phase value] (:phases record) :when (number? value)]
                                  [(keyword (str/replace (name phase) #"_ns$" "-ms")) (ms value)]))
   :last-link          (get-in record [:phases :last_link])
   :links              (mapv (juxt :src :dst) (:links record))
   :warnings           (mapv :text (:warnings record))})

(defn- current
  "Of a place's records of one fault and kind, the last step. Each earlier one was replaced while it cut."
  [records]
  (last (sort-by #(vector (:step (names/parse (:name %))) (:generation %)) records)))

(defn- fault-view [ignored peer->node noted [[fault kind] placed]]
  (let [early   (ended-early placed noted)
        placed  (into {} (for [[place records] (group-by first placed)] [place (current (map second records))]))
        seen    (for [[place record] placed, endpoint (:endpoints record) :when (:peer endpoint)]
                  [(peer->node (:peer endpoint)) [place record endpoint]])
        nodes   (into (sorted-map) (for [[node seen] (group-by first seen)] [node (node-view node (map second seen))]))
        records (into (sorted-map) (for [[place record] placed] [place (record-view record)]))]
    (cond-> {:fault       fault
             :kind        kind
             :valid?      (merged (concat (map #(validity ignored (:outcome %)) (vals records))
                                          (when (seq early) [:unknown])))
             :outcome     (worst-outcome (map :outcome (vals records)))
             :cut-wall    (some->> placed vals (keep #(get-in % [:cut :wall])) seq (apply min))
             :heal-wall   (some->> placed vals (keep #(get-in % [:heal :wall])) seq (apply max))
             :deadline-ms (some :deadline-ms (vals records))
             :nodes       nodes
             :records     records}
      (seq early) (assoc :error (str "it had ended before the test healed it: " (str/join "; " early))))))

(defn- node-summary [heals node]
  (let [of (keep #(get-in % [:nodes node]) heals)]
    {:outcomes            (frequencies (map :outcome of))
     :heal-to-ready-ms    (mapv :heal-to-ready-ms of)
     :heal-to-settled-ms  (mapv :heal-to-settled-ms of)
     :slowest-ready-ms    (latest (map :heal-to-ready-ms of))
     :slowest-settled-ms  (latest (map :heal-to-settled-ms of))}))

(defn judge
  "The results for what `injector.jepsen.nemesis/keep-records!` has kept. `ignored` are outcomes that do not decide;
  `peer->node` gives the node of a peer."
  ([kept] (judge kept #{} identity))
  ([kept ignored peer->node]
   (let [placed (for [{:keys [node records]} kept, record records
                      :let [{:keys [fault kind]} (names/parse (:name record))] :when fault]
                  [[fault kind] [node record]])
         noted  (into {} (for [{:keys [node early]} kept, {:keys [name why]} early] [[node name] why]))
         heals  (->> (group-by first placed)
                     (map (fn [[of placed]] (fault-view ignored peer->node noted [of (map second placed)])))
                     (sort-by (juxt :cut-wall :fault :kind))
                     vec)
         errors (into {} (for [{:keys [node error]} kept :when error] [node error]))
         nodes  (sort (distinct (mapcat (comp keys :nodes) heals)))
         empty  (nothing-judged ignored heals)]
     (cond-> {:valid? (merged (concat (map :valid? heals) (when (or empty (seq errors)) [:unknown])))
              :nodes  (into (sorted-map) (for [node nodes] [node (node-summary heals node)]))
              :heals  heals}
       empty        (assoc :error empty)
       (seq errors) (assoc :errors errors)))))

(defn- failed-faults
  "Nemesis operations that the injector refused: the network was not what the test says."
  [history]
  (for [op history
        :let [cause (last (get-in op [:exception :via]))
              type  (get-in cause [:data :type])]
        :when (and (keyword? type) (= "injector.jepsen" (namespace type)))]
    {:f (:f op), :type type, :message (:message cause)}))

(defrecord Recovery [ignored]
  checker/Checker
  (check [_ test history opts]
    (let [file   (store/path test nemesis/records-file)
          failed (vec (failed-faults history))
          peers  (get-in test [:net :peers] identity)
          nodes  (into {} (for [node (:nodes test)] [(or (peers node) node) node]))]
      (if-not (.exists ^java.io.File file)
        {:valid? :unknown
         :error  (str "there is no " file ": wrap the test's nemesis with injector.jepsen/nemesis")}
        (let [result (judge (json/read-str (slurp file) :key-fn keyword) ignored #(get nodes % %))
              result (if (seq failed)
                       (assoc result :valid? (merged [(:valid? result) :unknown]) :failed-faults failed)
                       result)]
          (when (seq (:heals result))
            (spit (store/path! test (:subdirectory opts) "recovery.svg") (plot/svg test result)))
          result)))))

(defn checker
  "See `injector.jepsen/checker`."
  [{:keys [ignore] :or {ignore #{}}}]
  (->Recovery (set ignore)))
