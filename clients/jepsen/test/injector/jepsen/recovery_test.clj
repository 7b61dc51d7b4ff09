(ns injector.jepsen.recovery-test
  (:require [clojure.string :as str]
            [clojure.test :refer [deftest is testing]]
            [injector.jepsen.names :as names]
            [injector.jepsen.plot :as plot]
            [injector.jepsen.recovery :as recovery]))

(def tested {:name "t <1>", :start-time "a", :nodes ["n1" "n2"]})

(defn- record
  "A record whose heal is at 1 s; ready and settled of n1 and n2 in milliseconds after it."
  [fault step outcome & {:as nodes}]
  (let [at #(when % (+ 1000000000 (* 1000000 %)))]
    {:name    (names/partition-name tested :drops fault step)
     :generation (+ (* 10 fault) step)
     :outcome outcome
     :cut     {:wall (* fault 1000)}
     :heal    {:end_ns 1000000000, :wall (+ 500 (* fault 1000))}
     :deadline_ns 20000000000
     :phases  {:silence_ns 2000000, :reconnect_ns nil, :last_link {:src "n1", :dst "n2"}}
     :links   [{:src "n1", :dst "n2"}]
     :endpoints (for [[node [ready settled outcome]] nodes]
                  {:name (str "ingress@" node), :peer node, :required true, :outcome outcome
                   :ready_ns (at ready), :settled_ns (at settled)})}))

(def fine (record 1 1 "recovered" "n1" [0 0 "recovered"] "n2" [300 900 "recovered"]))
(def slow (record 2 1 "not_recovered" "n1" [0 0 "recovered"] "n2" [300 nil "not_recovered"]))

(deftest one-daemon-for-all
  (let [result (recovery/judge [{:node "/s", :records [slow fine]}])]
    (is (false? (:valid? result)))
    (is (= [1 2] (map :fault (:heals result))))
    (is (= [true false] (map :valid? (:heals result))))
    (is (= {:outcomes {"recovered" 1, "not_recovered" 1}
            :heal-to-ready-ms [300.0 300.0]
            :heal-to-settled-ms [900.0 nil]
            :slowest-ready-ms 300.0
            ;; One of them never came, so there is no slowest one.
            :slowest-settled-ms nil}
           (get-in result [:nodes "n2"])))
    (is (= {:silence-ms 2.0} (get-in result [:heals 0 :records "/s" :phases])))))

(deftest a-daemon-on-each-node
  (testing "a node's own daemon counts, and the worst outcome of all"
    (let [n1     (record 1 1 "recovered" "n1" [0 0 "recovered"] "n2" [9999 9999 "recovered"])
          n2     (record 1 1 "harness_failed" "n2" [50 60 "recovered"])
          result (recovery/judge [{:node "n1", :records [n1]} {:node "n2", :records [n2]}])]
      (is (= :unknown (:valid? result)))
      (is (= 1 (count (:heals result))))
      (is (= [50.0] (get-in result [:nodes "n2" :heal-to-ready-ms]))))))

(deftest a-step-that-was-replaced-while-it-cut-is-no-heal
  (let [replaced (record 1 1 "unknown" "n1" [nil nil "unknown"])
        last     (record 1 2 "recovered" "n1" [5 5 "recovered"])
        result   (recovery/judge [{:node "/s", :records [last replaced]}])]
    (is (true? (:valid? result)))
    (is (= [5.0] (get-in result [:nodes "n1" :heal-to-ready-ms])))))

(deftest censored-is-unknown-unless-it-is-ignored
  (let [kept [{:node "/s", :records [(record 1 1 "censored" "n1" [5 nil "censored"]) (assoc fine :name (names/partition-name tested :drops 2 1))]}]]
    (is (= :unknown (:valid? (recovery/judge kept))))
    (is (true? (:valid? (recovery/judge kept #{"censored"} identity))))
    (testing "and no heal is judged if all are ignored"
      (let [result (recovery/judge kept #{"censored" "recovered"} identity)]
        (is (= :unknown (:valid? result)))
        (is (str/includes? (:error result) ":ignore"))))))

(deftest a-run-without-a-partition-shows-nothing
  (doseq [kept [[] [{:node "/s", :records []}] [{:node "n1", :records []} {:node "n2", :records []}]]]
    (let [result (recovery/judge kept)]
      (is (= :unknown (:valid? result)))
      (is (= [] (:heals result)))
      (is (str/includes? (:error result) "nothing was cut"))))
  (is (not (contains? (recovery/judge [{:node "/s", :records [fine]}]) :error))))

(deftest a-daemon-that-gave-no-records
  (let [result (recovery/judge [{:node "n1", :records [fine]} {:node "n2", :error "gone"}])]
    (is (= :unknown (:valid? result)))
    (is (= {"n2" "gone"} (:errors result)))))

(deftest other-peoples-partitions-are-not-judged
  (let [result (recovery/judge [{:node "/s", :records [(assoc slow :name "p")]}])]
    (is (= [] (:heals result)))
    (is (= :unknown (:valid? result)))))

(deftest what-the-test-did-not-heal-is-unknown
  (doseq [[by says] {"deadline" "its own :for", "lease" "the lease", "disconnect" "broke", "shutdown" "stopped", "new" "by: new"}]
    (let [result (recovery/judge [{:node "/s", :records [(assoc fine :healed_by by)]}])
          heal   (first (:heals result))]
      (is (= [:unknown :unknown "recovered"] [(:valid? result) (:valid? heal) (:outcome heal)]) by)
      (is (str/includes? (:error heal) says) (:error heal))))
  (testing "a request of this test's is no reason, and nor is a place that noted nothing"
    (let [result (recovery/judge [{:node "/s", :records [(assoc fine :healed_by "request")], :early []}])]
      (is (true? (:valid? result)))
      (is (not (contains? (first (:heals result)) :error)))))
  (testing "another client's request looks the same in the record: the network noted it, at one place"
    (let [early {:name (:name fine), :why "another client healed it"}
          kept  (fn [early-at] (for [node ["n1" "n2"]]
                                 {:node node, :records [(assoc fine :healed_by "request")]
                                  :early (when (= node early-at) [early])}))]
      (is (= :unknown (:valid? (recovery/judge (kept "n2")))))
      (is (true? (:valid? (recovery/judge (kept "n3")))))))
  (testing "a step that had ended before it was replaced"
    (let [result (recovery/judge [{:node "/s", :records [(assoc fine :healed_by "deadline")
                                                         (assoc (record 1 2 "recovered" "n1" [5 5 "recovered"])
                                                                :healed_by "request")]}])]
      (is (= :unknown (:valid? result)))))
  (testing "and who did not recover has not, whoever healed"
    (is (false? (:valid? (recovery/judge [{:node "/s", :records [(assoc slow :healed_by "deadline")]}]))))))

(deftest the-picture
  (let [svg (plot/svg tested (recovery/judge [{:node "/s", :records [fine slow]}]))]
    (is (some? (javax.xml.parsers.DocumentBuilderFactory/newInstance)))
    (.parse (.newDocumentBuilder (javax.xml.parsers.DocumentBuilderFactory/newInstance))
            (java.io.ByteArrayInputStream. (.getBytes ^String svg "UTF-8")))
    (is (str/includes? svg "t &lt;1&gt;: from heal to service"))
    (is (str/includes? svg "n2: ready 0.30 s, settled 0.90 s (recovered)"))
    (is (str/includes? svg "n2: ready 0.30 s, settled – (not_recovered)"))
    (is (str/includes? svg "deadline"))))
