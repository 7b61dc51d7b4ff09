(defproject injector/jepsen "0.1.0"
  :description "Jepsen's network by the partition injector, and a checker of how long each node takes to recover"
  :license {:name "MIT OR Apache-2.0"}
  ;; Jepsen itself is the suite's own dependency, in the version that it has chosen.
  :dependencies [[org.clojure/clojure "1.11.1" :scope "provided"]
                 [org.clojure/data.json "2.4.0"]
                 [org.clojure/tools.logging "1.2.4"]]
  :source-paths ["src"])
