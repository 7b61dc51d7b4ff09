(ns all-tests
  "Runs the tests that need no daemon; the exit code says whether they passed."
  (:require [clojure.test :as test]))

(def namespaces
  '[injector.jepsen.grudge-test injector.jepsen.guide-test injector.jepsen.heal-test injector.jepsen.http-test
    injector.jepsen.names-test injector.jepsen.options-test injector.jepsen.recovery-test])

(defn -main []
  (apply require namespaces)
  (let [{:keys [fail error]} (apply test/run-tests namespaces)]
    (shutdown-agents)
    (System/exit (if (zero? (+ fail error)) 0 1))))
