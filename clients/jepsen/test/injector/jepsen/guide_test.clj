(ns injector.jepsen.guide-test
  "Evaluates the examples of the guide. What they use of Jepsen beside its protocols is not there: it stays unevaluated,
  as `quote` leaves it, except for the names of the library."
  (:require [clojure.java.io :as io]
            [clojure.string :as str]
            [clojure.test :refer [deftest is]]
            [clojure.walk :as walk]
            [injector.jepsen]))

(def guide "../../docs/clients/jepsen.md")

(defn- examples []
  (map second (re-seq #"(?s)```clojure\n(.*?)```" (slurp (io/file guide)))))

(defn- forms [text]
  (binding [*read-eval* false]
    (read-string (str "[" text "\n]"))))

(defn- library-calls
  "Every call of, and reference to, the library in a form."
  [form]
  (let [ours? #(and (symbol? %) (= "injector" (namespace %)))]
    (distinct (concat (filter #(and (seq? %) (ours? (first %))) (tree-seq coll? seq form))
                      (filter ours? (tree-seq coll? seq form))))))

(deftest the-examples-of-the-guide
  (let [forms (mapcat forms (examples))
        calls (mapcat library-calls forms)]
    (is (< 8 (count forms)))
    (is (< 8 (count calls)))
    (doseq [call calls]
      (let [resolved (walk/postwalk #(cond
                                       (and (symbol? %) (= "injector" (namespace %))) (symbol "injector.jepsen" (name %))
                                       ;; The suite's own nemesis: any value does.
                                       (and (seq? %) (= 'nemesis/partition-random-node (first %))) nil
                                       :else %)
                                    call)]
        (is (some? (eval resolved)) (str call))))))

(deftest every-option-is-in-the-guide
  (let [options (into @#'injector.jepsen.net/options (keys @#'injector.jepsen.heal/defaults))
        text    (slurp (io/file guide))]
    (doseq [option options]
      (is (str/includes? text (str "| `" option "` |")) option))))
