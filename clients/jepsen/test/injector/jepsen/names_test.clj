(ns injector.jepsen.names-test
  (:require [clojure.string :as str]
            [clojure.test :refer [deftest is]]
            [injector.jepsen.names :as names]))

(def long-name (str/join (repeat 40 "append ")))

(deftest names-are-short-enough-and-of-allowed-characters
  (doseq [name ["etcd append" long-name "Größe/1" ""]]
    (let [made (names/partition-name {:name name, :start-time "20260101T000000"} :loss 1234 5678)]
      (is (re-matches #"[A-Za-z0-9._-]{1,64}" made) made)
      (is (= {:kind :loss, :fault 1234, :step 5678} (names/parse made))))))

(deftest no-test-has-the-prefix-of-another-one
  (let [tests [{:name "etcd"} {:name "etcd-append"} {:name "etcd.append"} {:name "etcd append"} {:name "etcd_append"}
               {:name long-name} {:name (str long-name "2")}]
        named #(names/partition-name % :drops 1 1)]
    (doseq [one tests, other tests :when (not= one other)]
      (is (not (str/starts-with? (named one) (names/test-prefix other)))))))

(deftest runs-differ-and-belong-to-their-test
  (let [[a b] (for [time ["a" "b"]] {:name "t", :start-time time})]
    (is (not= (names/run-prefix a) (names/run-prefix b)))
    (is (str/starts-with? (names/run-prefix b) (names/test-prefix a)))))

(deftest foreign-names-are-not-parsed
  (doseq [name ["p" "jepsen" "jepsen.a.b.c.x1.1" "jepsen.a.b.c.d1" "campaign-1"]]
    (is (nil? (names/parse name)))))
