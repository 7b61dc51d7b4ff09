(ns injector.jepsen.http
  "HTTP/1.1 with JSON bodies, as the injector speaks it: messages as bytes, and exchanges over a Unix socket."
  (:require [clojure.data.json :as json]
            [clojure.string :as str])
  (:import (java.io ByteArrayOutputStream IOException)
           (java.net StandardProtocolFamily UnixDomainSocketAddress)
           (java.nio ByteBuffer)
           (java.nio.channels SocketChannel)
           (java.util Arrays)))

(set! *warn-on-reflection* true)

(defn request-bytes
  "A request as bytes. `body` is data for JSON, or nil. With `keep?` the connection stays open after the answer."
  ^bytes [{:keys [method path body keep?]}]
  (let [content (if (nil? body) (byte-array 0) (.getBytes ^String (json/write-str body) "UTF-8"))
        head    (str method " " path " HTTP/1.1\r\nHost: injector\r\nContent-Type: application/json\r\n"
                     "Content-Length: " (alength content) "\r\n"
                     "Connection: " (if keep? "keep-alive" "close") "\r\n\r\n")
        out     (ByteArrayOutputStream.)]
    (.writeBytes out (.getBytes head "UTF-8"))
    (.writeBytes out content)
    (.toByteArray out)))

(defn- head-end
  "Where the body of an answer begins, or nil."
  [^bytes answer]
  (let [last-start (- (alength answer) 4)]
    (loop [at 0]
      (cond
        (> at last-start) nil
        (= [13 10 13 10] (seq (Arrays/copyOfRange answer at (+ at 4)))) (+ at 4)
        :else (recur (inc at))))))

(defn- dechunk
  "The body that chunks hold, or nil if the last one is not there yet."
  [^bytes chunks]
  (let [text (String. chunks "ISO-8859-1")
        out  (ByteArrayOutputStream.)]
    (loop [at 0]
      (when-let [line-end (str/index-of text "\r\n" at)]
        (let [size  (Integer/parseInt (str/trim (first (str/split (subs text at line-end) #";"))) 16)
              start (+ (long line-end) 2)
              end   (+ start size)]
          (cond
            (zero? size) (.toByteArray out)
            (<= (+ end 2) (alength chunks)) (do (.write out chunks start size) (recur (+ end 2)))
            :else nil))))))

(defn parse-answer
  "{:status 200, :body data} of the bytes received so far; nil while the answer is not complete. With `ended?` nothing
  more will come, and what is there is all. A body that is not JSON is left as text."
  [^bytes answer ended?]
  (when-let [start (head-end answer)]
    (let [start   (int start)
          head    (str/split-lines (String. answer 0 start "ISO-8859-1"))
          headers (into {} (for [line (rest head) :let [[k v] (str/split line #":" 2)] :when v]
                             [(str/lower-case k) (str/trim v)]))
          rest-of (Arrays/copyOfRange answer start (alength answer))
          length  (some-> (get headers "content-length") parse-long)
          content (cond
                    (= "chunked" (get headers "transfer-encoding")) (dechunk rest-of)
                    ended? rest-of
                    (and length (<= length (alength rest-of))) rest-of)]
      (when content
        (let [text (String. ^bytes content "UTF-8")]
          {:status (parse-long (second (str/split (first head) #" ")))
           :body   (if (str/blank? text)
                     nil
                     (try (json/read-str text :key-fn keyword) (catch Exception _ text)))})))))

(defn connect
  "A connection to a Unix socket."
  ^SocketChannel [path]
  (doto (SocketChannel/open StandardProtocolFamily/UNIX)
    (.connect (UnixDomainSocketAddress/of ^String path))))

(defn- exchange-now [^SocketChannel channel ^bytes request]
  (let [out (ByteBuffer/wrap request)]
    (while (.hasRemaining out) (.write channel out)))
  (let [buffer   (ByteBuffer/allocate 65536)
        received (ByteArrayOutputStream.)]
    (loop []
      (let [ended? (neg? (.read channel (.clear buffer)))]
        (.write received (.array buffer) 0 (.position buffer))
        (or (parse-answer (.toByteArray received) ended?)
            (if ended? (throw (IOException. "the connection ended before the answer was complete")) (recur)))))))

(defn exchange
  "Sends a request and waits for its answer, at most `timeout-ms`; then the channel is closed and it throws."
  [^SocketChannel channel request timeout-ms]
  (let [answer (future (exchange-now channel (request-bytes request)))
        result (try (deref answer timeout-ms ::late)
                    (catch java.util.concurrent.ExecutionException error
                      (.close channel)
                      (throw (or (.getCause error) error))))]
    (when (= ::late result)
      (.close channel)
      (throw (IOException. (str "no answer within " timeout-ms " ms"))))
    result))
