(ns injector.jepsen.net
  "Jepsen's network by the partition injector.

  A test has at most one partition of drops and one of packet loss at each daemon. A live partition never changes, so
  a further drop applies a partition with all drops so far, and then heals the one before: no link is open between the
  two. Names say whose a partition is (see `injector.jepsen.names`); nothing else is ever healed."
  (:require [clojure.string :as str]
            [clojure.tools.logging :refer [warn]]
            [injector.jepsen.daemons :as d]
            [injector.jepsen.grudge :as grudge]
            [injector.jepsen.names :as names]
            [jepsen.net.proto :as proto]))

(def ^:private nothing-cut
  "What is cut, and which partitions do it: for each kind the whole grudge, and for each place the partition's name and
  request."
  {:drops {:grudge {}, :at {}}
   :loss  {:grudge {}, :at {}}})

(defn- fresh-state
  "`:applied` are the [place name] of all partitions so far: each must have a record in the end. `:early` says of
  those that something else ended before this library did what it was: {[place name] words}."
  []
  (atom {:cut nothing-cut, :fault 0, :step 0, :applied #{}, :early {}}))

(defn- own?
  "Whether a view of a partition is this test's, and cuts or will cut."
  [test view]
  (and (str/starts-with? (:name view) (names/test-prefix test))
       (nil? (:healed view))))

(defn- path-of [partition-name] (str "/v1/partitions/" partition-name))

(defn- end-before
  "What ended a partition before this library heals it, as [name words]; nil while it cuts or will cut."
  [daemons place partition-name]
  (let [{:keys [value error]} (d/outcome #(d/call daemons place "GET" (path-of partition-name)))]
    (cond
      (nil? error) (some->> value :healed :healed_by names/ended-by (vector partition-name))
      (= :unknown-partition (:code (ex-data error))) [partition-name (names/ended-by nil)]
      :else (throw error))))

(defn- early
  "[name words] for each of these heals that something else had made."
  [heals]
  (for [{:keys [name healed_by]} heals :when (not= "request" healed_by)]
    [name (names/ended-by healed_by)]))

(defn- heal-at!
  "Heals the partitions of this test at one place, those of crashed runs too, and continues where one fails. `wanted` are
  the names that cut there as far as this library knows. Returns the ends of those that something else had ended."
  [daemons test kinds wanted place]
  (let [views (filter #(own? test %) (:partitions (d/call daemons place "GET" "/v1/status")))
        live  (filter #(contains? kinds (:kind (names/parse %))) (map :name views))
        heals (into {} (for [name live]
                         [name (d/outcome #(:healed (d/call daemons place "DELETE" (path-of name))))]))
        ended (keep #(end-before daemons place %) (remove (set live) wanted))]
    (into (vec ended) (early (vals (d/values! heals))))))

(defn- note-early!
  "Warns of partitions that had ended before they were to be healed, and remembers them: {place [[name words] …]}."
  [state ends-at]
  (doseq [[place ends] ends-at, [name words] ends]
    (warn "on" place name "had ended before:" words)
    (swap! state update :early assoc [place name] words)))

(defn- heal-kinds!
  "Heals everywhere, continues where it fails, and throws at the end what failed. A place without a running daemon has
  nothing to heal: that is a warning."
  [{:keys [daemons state]} test kinds]
  (locking state
    (let [cut      (:cut @state)
          wanted   (fn [place] (for [kind kinds :let [at (get-in cut [kind :at place])] :when at] (:name at)))
          outcomes (d/each-place daemons test (d/places daemons test)
                                 #(heal-at! daemons test kinds (wanted %) %))
          gone?    (fn [[_ {:keys [error]}]] (and error (d/not-running? error)))]
      (doseq [[_ {:keys [error]}] (filter gone? outcomes)]
        (warn (ex-message error) "Nothing is cut there."))
      (note-early! state (update-vals outcomes :value))
      (swap! state #(reduce (fn [state kind] (assoc-in state [:cut kind] (nothing-cut kind))) % kinds))
      (d/values! (remove gone? outcomes)))))

(defn- apply-at!
  "Applies a partition at one place. A daemon that leaves a part to others would make half a cut: that is refused."
  [daemons place partition-name request]
  (let [path (path-of partition-name)
        view (d/call daemons place "PUT" path request)]
    (when (or (seq (:not_here view)) (pos? (get-in view [:totals :not_here] 0)))
      (d/call daemons place "DELETE" path)
      (throw (d/failure :injector.jepsen/options place
                        (str "its config leaves the links " (pr-str (map (juxt :src :dst) (take 20 (:not_here view))))
                             " to other daemons")
                        "Take `here:` out of the config, or let the suite use a daemon on each node")))
    (select-keys view [:name :generation :effective])))

(defn- check-nodes! [test grudge]
  (when-let [unknown (first (remove (set (:nodes test)) (mapcat (fn [[dst srcs]] (cons dst srcs)) grudge)))]
    (throw (d/failure :injector.jepsen/options nil
                      (str "the grudge names " (pr-str unknown) ", which is no node of the test")
                      (str "The nodes are " (pr-str (:nodes test)))))))

(defn- request-for [{:keys [daemons peers request]} share traffic]
  (let [peer #(or (peers %) %)]
    (merge (when (:owner daemons) {:owner "connection"})
           request
           traffic
           {:shape {:grudge (into {} (for [[dst srcs] share] [(peer dst) (sort (map peer srcs))]))}})))

(defn- delete-each!
  "Heals a partition at each of these places: {place name}. What fails is a warning, and so is one that had ended before."
  [{:keys [daemons state]} test names]
  (let [delete!  (fn [place]
                   (let [name  (names place)
                         ended (end-before daemons place name)]
                     (if ended
                       [ended]
                       (early [(:healed (d/call daemons place "DELETE" (path-of name)))]))))
        outcomes (d/each-place daemons test (keys names) delete!)]
    (doseq [[_ {:keys [error]}] outcomes :when error]
      (warn (ex-message error)))
    (note-early! state (update-vals outcomes :value))))

(defn- began [applied] {:began (get-in applied [:effective :begin_ns])})

(defn- cut-again
  "Partitions of `was` that the same request has cut once more, since something had ended them: {place [[name words]]}."
  [was applied]
  (into {} (for [[place {:keys [name] :as before}] was
                 :let [again (applied place)]
                 :when (and (= name (:name again)) (not= (:began before) (:began (began again))))]
             [place [[name "the same request has cut again"]]])))

(defn- set-grudge!
  "Makes `wanted` the grudge of a kind. A place whose share changes gets another partition, and the one before is healed
  once the new one cuts. Elsewhere the same request is sent again: it changes nothing while that partition lives, and
  cuts again if it ended by itself. If a place fails, the new partitions are healed, and what was cut before stays."
  [{:keys [daemons state] :as net} test kind wanted traffic]
  (check-nodes! test wanted)
  (locking state
    (let [{:keys [cut fault step]} @state
          fault    (if (every? #(empty? (:grudge (val %))) cut) (inc fault) fault)
          step     (inc step)
          was      (get-in cut [kind :at])
          new-name (names/partition-name test kind fault step)
          at       (into {} (for [place (d/places daemons test)
                                  :let [share (d/share daemons place kind wanted)]
                                  :when (seq share)
                                  :let [request (request-for net share traffic)
                                        before  (was place)]]
                              [place (if (= request (:request before)) before {:name new-name, :request request})]))
          results  (d/each-place daemons test (keys at) #(apply-at! daemons % (:name (at %)) (:request (at %))))
          made     (for [[place {:keys [value]}] results :when (= new-name (:name value))] place)]
      (when (some :error (vals results))
        (delete-each! net test (into {} (for [place made] [place new-name]))))
      (let [applied (d/values! results)]
        (delete-each! net test
                      (into {} (for [[place {:keys [name]}] was :when (not= name (:name (at place)))] [place name])))
        (note-early! state (cut-again was applied))
        (swap! state merge
               {:cut     (assoc cut kind {:grudge wanted, :at (merge-with merge at (update-vals applied began))})
                :fault   fault
                :step    step
                :applied (into (:applied @state) (for [[place {:keys [name]}] at] [place name]))})
        applied))))

(defn- drop-more! [{:keys [state] :as net} test grudge]
  (locking state
    (set-grudge! net test :drops (grudge/union (get-in @state [:cut :drops :grudge]) grudge) nil)))

(defn- cannot [what remedy]
  (d/failure :injector.jepsen/unsupported nil (str "the injector drops packets, it can't " what) remedy {:fault what} nil))

(def ^:private by-netem
  "Run such faults in a test of their own, with Jepsen's netem: (assoc test :net jepsen.net/iptables)")

(defn- percentage
  "A behavior's share of packets, as the injector writes it."
  [percent]
  (let [text (if (number? percent) (str percent "%") (name percent))]
    (when-not (re-matches #"\d+(\.\d+)?%" text)
      (throw (d/failure :injector.jepsen/options nil (str "a loss of " (pr-str percent) " is no percentage")
                        "Write it as :20%, \"20%\" or 20")))
    text))

(defn- loss-of
  "The loss that a behavior asks for; nil for none. What else it asks for can't be done."
  [behavior]
  (when-let [other (first (dissoc behavior :loss))]
    (throw (cannot (str (name (key other)) " them") by-netem)))
  (when-let [loss (:loss behavior)]
    (when (:correlation loss)
      (throw (cannot "correlate losses" "Leave :correlation out: each packet is then lost by itself")))
    (percentage (:percent loss :20%))))

(defn- lose! [net test targets loss]
  (set-grudge! net test :loss (grudge/among (:nodes test) targets) {:loss loss}))

(defrecord InjectorNet [daemons peers request flaky state]
  proto/Net
  (drop! [net test src dest] (drop-more! net test {dest #{src}}))
  (heal! [net test] (heal-kinds! net test #{:drops :loss}))
  (slow! [_ _] (throw (cannot "delay them" by-netem)))
  (slow! [_ _ _] (throw (cannot "delay them" by-netem)))
  (flaky! [net test] (lose! net test (:nodes test) flaky))
  (fast! [net test] (heal-kinds! net test #{:loss}))
  (shape! [net test nodes behavior]
    (let [loss (loss-of behavior)]
      (if (and loss (seq nodes))
        [:shaped (do (lose! net test nodes loss) (vec nodes)) :loss loss]
        (do (proto/fast! net test) [:reliable nil]))))

  proto/PartitionAll
  (drop-all! [net test grudge] (drop-more! net test grudge)))

(def ^:private options
  #{:daemon :socket :program :sudo? :peers :request :flaky})

(defn net
  "See `injector.jepsen/net`."
  [{:keys [daemon socket peers request flaky] :or {daemon :each-node, peers identity, flaky :20%} :as given}]
  (when-let [unknown (first (remove options (keys given)))]
    (throw (d/failure :injector.jepsen/options nil (str "net knows no option " (pr-str unknown))
                      (str "It knows " (str/join ", " (sort options))))))
  (let [daemons (case daemon
                  :each-node (d/on-nodes given)
                  :one       (d/on-socket (or socket d/default-socket))
                  (throw (d/failure :injector.jepsen/options nil (str ":daemon can't be " (pr-str daemon))
                                    "It is :each-node or :one")))]
    (->InjectorNet daemons peers request (percentage flaky) (fresh-state))))
