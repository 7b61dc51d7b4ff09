(ns injector.jepsen.heal-test
  (:require [clojure.string :as str]
            [clojure.test :refer [deftest is testing]]
            [injector.jepsen.heal :as heal]
            [jepsen.checker :as checker]))

(def tested {:name "t", :nodes ["n1" "n2"], :concurrency 4})

(defn- nemesis [f & seconds]
  (for [s seconds] {:process :nemesis, :type :info, :f f, :time (long (* 1e9 s))}))

(defn- ops
  "One operation a second on each node (processes 0 and 1) from one second to another; `bad?` says which fail."
  [from until bad?]
  (for [s (range from until), process [0 1]
        op [{:process process, :type :invoke, :f :read, :time (long (* 1e9 (+ s 0.1)))}
            (cond-> {:process process, :type :ok, :f :read, :time (long (* 1e9 (+ s 0.2)))}
              (bad? s process) (assoc :type :info, :error :timeout))]]
    op))

(defn- history [& parts] (sort-by :time (apply concat parts)))
(defn- check
  ([history] (check tested history))
  ([test history] (checker/check (heal/checker) test history {})))
(defn- node [result heal node] (get-in result [:heals heal :nodes node]))

(deftest every-heal-is-judged-not-only-the-last
  (let [result (check (history (nemesis :start 5 6) (nemesis :stop 10 10.5)
                               (nemesis :start 40 41) (nemesis :stop 45 45.5)
                               ;; After the first heal, process 1 fails for 25 s.
                               (ops 0 70 (fn [s process] (and (= 1 process) (<= 6 s 35))))))]
    (is (false? (:valid? result)))
    (is (= [false true] (map :valid? (:heals result))))
    (is (= true (:valid? (node result 0 "n1"))))
    (is (= false (:valid? (node result 0 "n2"))))
    (is (= [:timeout] (:errors (node result 0 "n2"))))
    (is (= [10500.0 45500.0] (map :at-ms (:heals result))))
    (is (= [20000.0 20000.0] (map :window-ms (:heals result))))))

(deftest a-node-that-comes-back-in-time
  (let [result (check (history (nemesis :start 5 6) (nemesis :stop 10 10.5)
                               (ops 0 40 (fn [s process] (and (= 1 process) (<= 6 s 20))))))]
    (is (true? (:valid? result)))
    (is (= 9700.0 (:last-error-ms (node result 0 "n2"))))
    (is (= 10700.0 (:served-from-ms (node result 0 "n2"))))
    (is (nil? (:last-error-ms (node result 0 "n1"))))))

(deftest a-window-that-the-next-cut-ends-is-unknown-unless-all-is-well
  (let [cut (fn [bad?] (check (history (nemesis :start 5 6) (nemesis :stop 10 10.5)
                                       (nemesis :start 20 21) (nemesis :stop 25 25.5) (ops 0 60 bad?))))]
    (is (true? (:valid? (cut (constantly false)))))
    (let [result (cut (fn [s process] (and (= 1 process) (<= 6 s 19))))]
      (is (= [:unknown true] (map :valid? (:heals result))))
      (is (= :unknown (:valid? result)))
      (is (false? (:whole? (first (:heals result))))))))

(deftest the-end-of-the-test-cuts-a-window-short
  (is (= :unknown (:valid? (check (history (nemesis :start 5 6) (nemesis :stop 10 10.5)
                                           (ops 0 20 (fn [s _] (<= 6 s)))))))))

(deftest too-few-operations-are-unknown
  (is (= :unknown (:valid? (check (history (nemesis :start 5 6) (nemesis :stop 10 10.5) (ops 0 13 (constantly false))
                                           [{:process 0, :type :ok, :time (long 40e9)}]))))))

(deftest a-second-stop-heals-nothing
  (let [result (check (history (nemesis :start 5 6) (nemesis :stop 10 10.5) (nemesis :stop 15 15.5)
                               (ops 0 50 (constantly false))))]
    (is (= [10500.0] (map :at-ms (:heals result))))))

(deftest a-cut-that-failed-is-none
  (let [failed (concat (nemesis :start 5) (map #(assoc % :exception {:via []}) (nemesis :start 6)))]
    (is (= [] (:heals (check (history failed (nemesis :stop 10 10.5) (ops 0 40 (constantly true)))))))))

(deftest a-history-without-a-heal-shows-nothing
  (let [failed (concat (nemesis :start 5) (map #(assoc % :exception {:via []}) (nemesis :start 6)))
        well   (ops 0 50 (constantly false))]
    (doseq [[why nemesis-ops says] [["the cut failed" (concat failed (nemesis :stop 10 10.5)) "failed at :start"]
                                    ["other names" (concat (nemesis :start-pause 5 6) (nemesis :stop-pause 10 10.5))
                                     "did :start-pause or :stop-pause."]
                                    ["never healed" (nemesis :start 5 6) "did :start."]
                                    ["no nemesis" nil "did nothing."]]]
      (testing why
        (let [result (check (history nemesis-ops well))]
          (is (= :unknown (:valid? result)))
          (is (= [] (:heals result)))
          (is (str/includes? (:error result) says) (:error result))
          (is (str/includes? (:error result) ":start and :stop"))))))
  (testing "and names of the suite's own are named by :start and :stop"
    (let [cuts   (history (nemesis :start-pause 5 6) (nemesis :stop-pause 10 10.5) (ops 0 50 (constantly false)))
          result (checker/check (heal/checker {:start #{:start-pause}, :stop #{:stop-pause}}) tested cuts {})]
      (is (true? (:valid? result)))
      (is (= [10500.0] (map :at-ms (:heals result))))
      (is (not (contains? result :error)))))
  (testing "and a test without nodes has nobody to judge"
    (is (= :unknown (:valid? (check {:name "t", :nodes [], :concurrency 4}
                                    (history (nemesis :start 5 6) (nemesis :stop 10 10.5))))))))

(deftest the-switch
  (let [bad (history (nemesis :start 5 6) (nemesis :stop 10 10.5) (ops 0 50 (fn [s _] (<= 6 s))))]
    (is (false? (:valid? (check bad))))
    (let [result (check (assoc tested :heal-checker false) bad)]
      (is (= [true true false] ((juxt :valid? :disabled? :would-be) result)))
      (is (= 1 (count (:heals result)))))
    (testing "and the window of the command line"
      (is (= 10.0 (:within (check (assoc tested :heal-within 10.0) bad)))))))

(deftest nodes-of-operations
  (testing "a crashed process is replaced by one that is higher by the concurrency"
    (let [replaced (map #(if (and (= 1 (:process %)) (< (long 20e9) (:time %))) (assoc % :process 5) %)
                        (ops 0 50 (constantly false)))
          result   (check (history (nemesis :start 5 6) (nemesis :stop 10 10.5) replaced))]
      (is (= [20 20] (map #(:operations (node result 0 %)) ["n1" "n2"])))))
  (testing "an operation's own :node counts"
    (let [own    (map #(assoc % :node "n2") (ops 0 50 (constantly false)))
          result (check (history (nemesis :start 5 6) (nemesis :stop 10 10.5) own))]
      (is (= [0 40] (map #(:operations (node result 0 %)) ["n1" "n2"]))))))
