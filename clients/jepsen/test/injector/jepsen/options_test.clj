(ns injector.jepsen.options-test
  (:require [clojure.test :refer [are deftest is]]
            [injector.jepsen :as injector]
            [injector.jepsen.nemesis :as nemesis]
            [jepsen.net.proto :as net]))

(defn- thrown [f]
  (try (f) nil (catch clojure.lang.ExceptionInfo error (assoc (ex-data error) :says (ex-message error)))))

(deftest what-can-not-be-done-says-so
  (let [n (injector/net)]
    (are [f] (let [{:keys [type says remedy]} (thrown f)]
               (and (= :injector.jepsen/unsupported type) (re-find #"can't" says) (string? remedy)))
      #(net/slow! n {})
      #(net/slow! n {} {:mean 10})
      #(net/shape! n {} ["n1"] {:delay {}})
      #(net/shape! n {} ["n1"] {:loss {}, :reorder {:percent :10%}})
      #(net/shape! n {} ["n1"] {:corrupt {}})
      #(net/shape! n {} ["n1"] {:rate {:rate :1mbit}})
      #(net/shape! n {} ["n1"] {:loss {:percent :10%, :correlation :75%}}))
    (is (re-find #"delay" (:says (thrown #(net/slow! n {})))))))

(deftest options-are-checked
  (are [options says] (let [data (thrown #(injector/net options))]
                        (and (= :injector.jepsen/options (:type data)) (re-find says (:says data))))
    {:deamon :one} #"no option :deamon"
    {:daemon :some} #":each-node or :one"
    {:flaky "much"} #"no percentage"))

(deftest a-grudge-of-nodes-that-the-test-does-not-have
  (is (re-find #"no node of the test"
               (:says (thrown #(net/drop! (injector/net) {:nodes ["n1"]} "n2" "n1"))))))

(deftest a-daemon-of-another-version
  (is (nil? (nemesis/other-version "n1" "0.1.0")))
  (are [version] (= (str "the injector on n1 is of version " version ", and this library speaks to 0.1.x: take both from one version")
                    (nemesis/other-version "n1" version))
    "0.2.0"
    "0.10.0"
    "1.0.0"))
