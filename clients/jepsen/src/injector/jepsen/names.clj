(ns injector.jepsen.names
  "Names of partitions. A name says which test made the partition, in which run, and for which fault:

      jepsen.etcd-append.1f09c2.77ab31.d3.2
             test        its    run    third fault, second step
                         hash

  Drops begin with `d`, packet loss with `l`. A fault ends with a heal; a step is one change to it. The hash of the
  full test name distinguishes tests whose names are cut short or differ only in characters that no partition's name
  may have, so that no test heals another one's partitions."
  (:require [clojure.string :as str]))

(def ^:private longest-slug 24)

(defn- short-hash
  "Six hexadecimal digits of a text."
  [text]
  (let [digest (.digest (java.security.MessageDigest/getInstance "SHA-256") (.getBytes ^String text "UTF-8"))]
    (str/join (map #(format "%02x" %) (take 3 digest)))))

(defn test-prefix
  "What the names of all partitions of a test begin with, whichever run made them."
  [test]
  (let [full (str (:name test "unnamed"))
        slug (str/replace full #"[^A-Za-z0-9_-]" "_")]
    (str "jepsen." (subs slug 0 (min longest-slug (count slug))) "." (short-hash full) ".")))

(defn run-prefix
  "What the names of the partitions of this run of a test begin with."
  [test]
  (str (test-prefix test) (short-hash (str (:start-time test))) "."))

(defn partition-name
  "The name of a partition. `kind` is :drops or :loss; `fault` and `step` count from 1."
  [test kind fault step]
  (str (run-prefix test) (case kind :drops "d" :loss "l") fault "." step))

(defn parse
  "The parts of a name that this library has made: {:kind :drops, :fault 3, :step 2}. Nil for any other name."
  [partition-name]
  (when-let [[_ kind fault step] (re-matches #"jepsen\.[^.]*\.[^.]*\.[^.]*\.([dl])(\d+)\.(\d+)" partition-name)]
    {:kind (case kind "d" :drops "l" :loss), :fault (parse-long fault), :step (parse-long step)}))

(defn ended-by
  "What ended a partition before the test healed it, in words; `healed-by` is the record's."
  [healed-by]
  (case healed-by
    "request"    "another client healed it"
    "deadline"   "its own :for came first, or the config's max_for; give it a longer one"
    "lease"      "the daemon was held up, and the lease ended it; see the daemon's log"
    "shutdown"   "the daemon was stopped"
    "disconnect" "the connection that owned it broke"
    (if healed-by (str "it was ended by: " healed-by) "the daemon does not know it any more; it was restarted meanwhile")))
