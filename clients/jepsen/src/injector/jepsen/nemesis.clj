(ns injector.jepsen.nemesis
  "A nemesis around the suite's own: it marks what that one does on the injector's timeline, and at the end waits for
  the recovery records and keeps them with the test's other files."
  (:require [clojure.data.json :as json]
            [clojure.java.io :as io]
            [clojure.string :as str]
            [clojure.tools.logging :refer [info warn]]
            [injector.jepsen.daemons :as d]
            [injector.jepsen.names :as names]
            [jepsen.nemesis :as n]
            [jepsen.store :as store]))

(def records-file "The file of the test's folder that holds the records." "recovery.json")

(def ^:private api-version "The versions of the daemon whose API this library speaks." "0.1.")

(def ^:private longest-mark 1000)

(def ^:private longest-wait
  "How long the daemon may hold an answer back before it is asked again, in seconds."
  30)

(def ^:private patience
  "How long one record is waited for, in seconds. It is final after its deadline and its longest observation."
  300)

(defn- net-of [test]
  (let [net (:net test)]
    (when-not (:daemons net)
      (throw (d/failure :injector.jepsen/options nil "the test's :net is not the injector's"
                        "Write :net (injector.jepsen/net) in the test map")))
    net))

(defn other-version
  "A sentence on a daemon of a version that this library does not speak to; nil for any other."
  [place version]
  (when-not (str/starts-with? (str version) api-version)
    (str "the injector on " place " is of version " version ", and this library speaks to " api-version
         "x: take both from one version")))

(defn check-daemons!
  "Asks every daemon of the test whether it runs and knows all nodes as peers. Throws what is missing, and where."
  [test]
  (let [{:keys [daemons peers]} (net-of test)
        ask (fn [place]
              (let [status  (d/call daemons place "GET" "/v1/status")
                    known   (set (map name (keys (:peers status))))
                    missing (remove #(known (or (peers %) %)) (:nodes test))]
                (when (seq missing)
                  (throw (d/failure :injector.jepsen/options place
                                    (str "its config has no peer for the node " (first missing))
                                    "Add it to `peers:`, or name it: {:peers {node peer}}")))
                (when-let [sentence (other-version place (:version status))]
                  (warn sentence))))]
    (d/values! (d/each-place daemons test (d/places daemons test) ask))
    nil))

(defn mark!
  "Puts a text on the timeline of every daemon. A mark that can't be put there is only a warning."
  [test text]
  (let [{:keys [daemons]} (net-of test)
        text     (if (< longest-mark (count (.getBytes ^String text "UTF-8")))
                   (str (subs text 0 (min (count text) (quot longest-mark 4))) " …")
                   text)
        outcomes (d/each-place daemons test (d/places daemons test)
                               #(d/call daemons % "POST" "/v1/marks" {:text text}))]
    (doseq [[_ {:keys [error]}] outcomes :when error]
      (warn (ex-message error)))))

(defn- mark-op! [test when op]
  (mark! test (binding [*print-length* 20, *print-level* 6]
                (str (:name test) " nemesis " when " " (pr-str (:f op))
                     (some->> (:value op) pr-str (str " "))))))

(defn- final-record [daemons place {:keys [name generation]}]
  (let [end  (+ (System/nanoTime) (* patience 1000000000))
        path (str "/v1/partitions/" name "/recovery?generation=" generation "&wait=" longest-wait "s")]
    (loop []
      (let [record (d/call daemons place "GET" path nil (* 1000 (+ longest-wait 20)))]
        (if (or (:final record) (< end (System/nanoTime)))
          record
          (recur))))))

(defn- records-at [daemons test place]
  (vec (for [view (d/call daemons place "GET" "/v1/partitions")
             :when (and (str/starts-with? (:name view) (names/run-prefix test)) (:effective view))]
         (final-record daemons place view))))

(defn- lost
  "What to say of a place whose daemon has no record of a partition that it applied in this run; nil if it has all."
  [test state place records]
  (let [found   (set (map :name records))
        missing (for [[at name] (:applied @state)
                      :when (and (= at place) (str/starts-with? name (names/run-prefix test)) (not (found name)))]
                  name)]
    (when (seq missing)
      (str "the injector on " place " has no record of " (str/join ", " (sort missing)) ": it was restarted meanwhile"))))

(defn- ended-early
  "The partitions of this run that something ended at a place before the test healed them, and what."
  [test state place]
  (for [[[at name] why] (sort-by key (:early @state))
        :when (and (= at place) (str/starts-with? name (names/run-prefix test)))]
    {:name name, :why why}))

(defn keep-records!
  "Waits until every record of this run is final, and writes them into the test's folder: a list of
  {\"node\": …, \"records\": […], \"early\": [{\"name\": …, \"why\": …}], \"error\": \"…\"}, with what ended partitions
  before the test did, and an error where records are missing."
  [test]
  (let [{:keys [daemons state]} (net-of test)]
    (info "Waiting for the injector's recovery records")
    (let [outcomes (d/each-place daemons test (d/places daemons test) #(records-at daemons test %))
          kept     (for [[place {:keys [value error]}] outcomes]
                     {:node    place
                      :records (vec value)
                      :early   (ended-early test state place)
                      :error   (if error (ex-message error) (lost test state place value))})]
      (doseq [{:keys [error]} kept :when error] (warn error))
      (with-open [out (io/writer (store/path! test records-file))]
        (json/write kept out)))))

(defn- set-up [inner test]
  (check-daemons! test)
  (n/setup! inner test))

(defn- invoke [inner test op]
  (mark-op! test "begins" op)
  (let [done (n/invoke! inner test op)]
    (mark-op! test "has done" done)
    done))

(defn- tear-down [inner test]
  (try
    (n/teardown! inner test)
    (finally
      ;; A test's own verdict must not be lost because records are.
      (try
        (keep-records! test)
        (catch Exception error
          (warn error "The injector's recovery records are lost"))))))

(declare watched)

(defrecord Watched [inner]
  n/Nemesis
  (setup! [_ test] (watched (set-up inner test)))
  (invoke! [_ test op] (invoke inner test op))
  (teardown! [_ test] (tear-down inner test)))

(defrecord WatchedWithFs [inner]
  n/Nemesis
  (setup! [_ test] (watched (set-up inner test)))
  (invoke! [_ test op] (invoke inner test op))
  (teardown! [_ test] (tear-down inner test))

  n/Reflection
  (fs [_] (n/fs inner)))

(defn watched
  "See `injector.jepsen/nemesis`. A nemesis that says which :f it handles still does."
  [inner]
  (if (satisfies? n/Reflection inner) (->WatchedWithFs inner) (->Watched inner)))
