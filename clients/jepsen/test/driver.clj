(ns driver
  "Evaluates forms from standard input, one a line, in the namespace `suite`, and answers each with one line: `= ` and
  the value as JSON, or `! ` and the exception's message and data as JSON. So a test of the injector can drive the
  library step by step, and see between the steps what the network does."
  (:require [clojure.data.json :as json]))

(defn- plain [value]
  (cond
    (instance? Throwable value) (ex-message value)
    (record? value) (str (type value))
    (map? value) (update-vals value plain)
    (coll? value) (mapv plain value)
    (or (nil? value) (boolean? value) (number? value) (string? value) (keyword? value)) value
    :else (str value)))

(defn -main []
  (create-ns 'suite)
  (binding [*ns* (the-ns 'suite)]
    (refer-clojure)
    (require '[injector.jepsen :as injector] '[injector.jepsen.nemesis] '[injector.jepsen.names] '[jepsen.checker :as checker]
             '[jepsen.nemesis :as nemesis] '[jepsen.net.proto :as net] '[jepsen.store :as store])
    (println "= \"ready\"")
    (doseq [line (line-seq (java.io.BufferedReader. *in*))]
      (println
       (try
         (str "= " (json/write-str (plain (eval (read-string line)))))
         (catch Throwable error
           ;; The compiler wraps what was thrown while it evaluated a form.
           (let [error (if (instance? clojure.lang.Compiler$CompilerException error) (ex-cause error) error)]
             (str "! " (json/write-str {:message (or (ex-message error) (str error))
                                        :data    (plain (or (ex-data error) {}))}))))))))
  (shutdown-agents))
