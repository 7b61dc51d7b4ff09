(ns jepsen.store
  "Where Jepsen keeps the files of a test: store/NAME/START-TIME. The base is a test's own here."
  (:require [clojure.java.io :as io]))

(def ^:dynamic base-dir "store")

(defn path
  [test & more]
  (apply io/file base-dir (:name test) (str (:start-time test)) (map str (remove nil? (flatten more)))))

(defn path!
  [& args]
  (doto (apply path args) io/make-parents))
