(ns injector.jepsen.daemons
  "Where the daemons are, and how to call them: one on each node, reached over Jepsen's control session, or one for
  all nodes, reached by its Unix socket on the control node.

  Errors are `ex-info`, with a :type of this namespace's parent: :injector.jepsen/unreachable, /not-permitted,
  /refused (the daemon's answer, with its :code, :field and :remedy), /unsupported and /options. Each has the :node
  where it happened and a :remedy."
  (:require [clojure.string :as str]
            [injector.jepsen.grudge :as grudge]
            [injector.jepsen.http :as http]
            [jepsen.control :as c])
  (:import (java.io IOException)
           (java.nio.channels SocketChannel)
           (java.nio.file AccessDeniedException)
           (java.util Base64)))

(def default-socket "/run/injector/injector.sock")

(defprotocol Daemons
  (places [daemons test]
    "What names the daemons of a test: nodes, or the path of the only socket.")
  (share [daemons place kind grudge]
    "The part of a grudge that the daemon of this place is given. `kind` is :drops or :loss.")
  (exchange [daemons place request timeout-ms]
    "Sends a request ({:method :path :body}) to the daemon of a place and returns {:status :body}. It throws if there
    is no answer. Called where `each-place` has bound what it needs.")
  (each-place [daemons test places f]
    "Calls (f place) for these places, side by side: {place {:value …}} or, where f threw, {place {:error …}}."))

(defn failure
  "An exception with a type of this library, a sentence, and what the user can do."
  ([type place what remedy] (failure type place what remedy {} nil))
  ([type place what remedy data cause]
   (ex-info (str (when place (str "the injector on " place ": ")) what (when remedy (str ". " remedy)))
            (merge {:type type, :node place, :remedy remedy} data)
            cause)))

(defn not-running?
  "Whether an error says that no daemon runs there. It cuts nothing then: its programs are gone, or pass everything
  once its lease of two seconds is over."
  [error]
  (= :injector.jepsen/unreachable (:type (ex-data error))))

(defn outcome
  "{:value (f)} or {:error exception}."
  [f]
  (try {:value (f)} (catch Exception error {:error error})))

(defn call
  "The body of a successful answer. It throws what the daemon refused."
  ([daemons place method path] (call daemons place method path nil))
  ([daemons place method path body] (call daemons place method path body 20000))
  ([daemons place method path body timeout-ms]
   (let [{:keys [status body]} (exchange daemons place {:method method, :path path, :body body} timeout-ms)
         {:keys [code detail field remedy]} (when (map? body) body)]
     (if (and status (<= 200 status 299))
       body
       (throw (failure :injector.jepsen/refused place
                       (str method " " path " was refused"
                            (if code (str " (" code "): " (when field (str field ": ")) detail) (str ": " status)))
                       remedy
                       {:code (keyword (or code "unknown")), :field field, :detail detail, :status status}
                       nil))))))

(defn values!
  "The values of `each-place`, or one exception that names every place where it failed. Its data are those of the
  first, with all under :errors."
  [outcomes]
  (let [errors (into {} (for [[place {:keys [error]}] outcomes :when error] [place error]))]
    (when (seq errors)
      (let [first-error (val (first errors))]
        (throw (ex-info (str/join "; " (map ex-message (vals errors)))
                        (assoc (or (ex-data first-error) {}) :errors errors)
                        first-error))))
    (update-vals outcomes :value)))

;; One daemon for all nodes: HTTP over its Unix socket, from this process.

(defn- socket-failure [path ^Exception error]
  (let [says (str (ex-message error))]
    (cond
      (or (instance? AccessDeniedException error) (str/includes? says "Permission denied"))
      (failure :injector.jepsen/not-permitted path (str "this user may not use its socket (" says ")")
               "Run the suite as root or as a member of the socket's group" {} error)

      :else
      (failure :injector.jepsen/unreachable path says
               "Start it: injector start --config lab.yaml --detach" {} error))))

(defn- exchange-owned
  "An exchange on the connection that owns partitions. While it owns none, the daemon ends it after a minute without
  requests: it is opened again then, and with it a request that found it closed is sent again, which is harmless, as
  what a broken connection asked for is not applied."
  [owner path request timeout-ms]
  (let [send-it (fn [^SocketChannel channel]
                  (try
                    (http/exchange channel (assoc request :keep? true) timeout-ms)
                    (catch Exception error
                      (.close channel)
                      (throw error))))
        anew    #(send-it (reset! owner (http/connect path)))]
    (if (some-> ^SocketChannel @owner .isOpen)
      (try (send-it @owner) (catch IOException _ (anew)))
      (anew))))

(defrecord OnSocket [path owner]
  Daemons
  (places [_ _] [path])
  (share [_ _ _ grudge] (grudge/normal grudge))
  (exchange [_ _ {:keys [body] :as request} timeout-ms]
    (try
      (if (= "connection" (:owner body))
        ;; The daemon heals these partitions when the connection breaks: also if this process is killed.
        (locking owner (exchange-owned owner path request timeout-ms))
        (with-open [channel (http/connect path)]
          (http/exchange channel request timeout-ms)))
      (catch IOException error
        (throw (socket-failure path error)))))
  (each-place [_ _ places f]
    (into {} (for [place places] [place (outcome #(f place))]))))

(defn on-socket
  "One daemon for all nodes, at this Unix socket of the control node."
  [path]
  (->OnSocket path (atom nil)))

;; A daemon on each node: HTTP through `injector dial-stdio` there.

(def ^:private exit-codes
  "What the exit codes of the pipeline on the node mean: a type, a sentence, a remedy."
  {69  [:injector.jepsen/unreachable "no daemon answers there" "Start it there: injector start --config lab.yaml --detach"]
   77  [:injector.jepsen/not-permitted "this user may not use its socket"
        "Leave {:sudo? true}, or let the user be a member of the socket's group"]
   124 [:injector.jepsen/unreachable "no answer in time" "See whether it is stopped, or the node overloaded"]
   127 [:injector.jepsen/unreachable "there is no such command" "Install the program there, or name it: {:program \"/path/to/injector\"}"]})

(defn- control-failure [node error]
  (let [{:keys [exit err]} (ex-data error)
        [type what remedy] (exit-codes exit [:injector.jepsen/control
                                             (if (str/blank? err) (ex-message error) (str/trim err))
                                             "See whether commands run there over Jepsen's control"])]
    (failure type node what remedy {:exit exit, :err err} error)))

(defrecord OnNodes [program socket sudo?]
  Daemons
  (places [_ test] (:nodes test))
  (share [_ node kind grudge]
    ;; Loss must be rolled once for each packet, so only the receiver's daemon rolls it.
    (case kind :drops (grudge/own-both-ways grudge node) :loss (grudge/own grudge node)))
  (exchange [_ node request timeout-ms]
    (let [message (.encodeToString (Base64/getEncoder) (http/request-bytes request))
          seconds (long (Math/ceil (/ timeout-ms 1000)))
          command [:echo message c/| :base64 :-d c/| :timeout seconds program
                   (if socket [:--socket socket] []) :dial-stdio]
          answer  (try
                    (if sudo? (c/su (apply c/exec command)) (apply c/exec command))
                    (catch Exception error
                      (throw (control-failure node error))))]
      (or (http/parse-answer (.getBytes ^String answer "UTF-8") true)
          (throw (failure :injector.jepsen/unreachable node "the answer is not complete"
                          "See whether the daemon stopped meanwhile: injector status")))))
  (each-place [_ test places f]
    (into {} (c/on-nodes test places (fn [_ node] (outcome #(f node)))))))

(defn on-nodes
  "A daemon on each node. Options: :program (the command, default `injector`), :socket (default: that of the command),
  :sudo? (default true)."
  [{:keys [program socket sudo?] :or {program "injector", sudo? true}}]
  (->OnNodes program socket sudo?))
