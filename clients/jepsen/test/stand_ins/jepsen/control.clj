(ns jepsen.control
  "The part of Jepsen's control that the library uses, by its published names: commands on nodes, escaped for a shell.
  A session is {:command [\"ip\" \"netns\" …]}, what runs a shell command on the node: a process on this machine, or ssh."
  (:require [clojure.string :as str])
  (:import (java.util.concurrent TimeUnit)))

(def ^:dynamic *host* nil)
(def ^:dynamic *session* nil)
(def ^:dynamic *sudo* nil)
(def ^:dynamic *dir* "/")

(defrecord Literal [string])

(def | (->Literal "|"))

(defn escape
  [word]
  (cond
    (nil? word) ""
    (instance? Literal word) (:string word)
    (or (sequential? word) (set? word)) (str/join " " (map escape word))
    :else (let [word (if (instance? clojure.lang.Named word) (name word) (str word))]
            (cond
              (= "" word) "\"\""
              (re-find #"[\\$`\"\s(){}\[\]*?<>&;]" word) (str "\"" (str/replace word #"([\\$`\"])" "\\\\$1") "\"")
              :else word))))

(defn- run [words]
  (let [process (.start (ProcessBuilder. ^java.util.List words))]
    (.close (.getOutputStream process))
    (let [err (future (slurp (.getErrorStream process)))
          out (slurp (.getInputStream process))]
      (.waitFor process 60 TimeUnit/SECONDS)
      {:out out, :err @err, :exit (.exitValue process)})))

(defn exec
  [& words]
  (let [command (str "cd " *dir* "; " (str/join " " (map escape words)))
        command (if *sudo* (str "sudo -k -S -u " *sudo* " bash -c " (escape command)) command)
        {:keys [exit out] :as result} (run (conj (:command *session*) command))]
    (if (zero? exit)
      (str/trim-newline out)
      (throw (ex-info (str "Command exited with non-zero status " exit " on node " *host* ": " (:err result))
                      (assoc result :type :jepsen.control/nonzero-exit, :host *host*, :cmd command))))))

(defmacro su
  [& body]
  `(binding [*sudo* "root"] ~@body))

(defn on-nodes
  ([test f] (on-nodes test (:nodes test) f))
  ([test nodes f]
   (->> nodes
        (mapv (fn [node]
                (let [session (get (:sessions test) node)]
                  (assert session (str "No session for node " (pr-str node)))
                  [node (future (binding [*host* node, *session* session] (f test node)))])))
        (map (fn [[node result]] [node @result]))
        (into (sorted-map)))))
