(ns injector.jepsen.http-test
  (:require [clojure.string :as str]
            [clojure.test :refer [deftest is]]
            [injector.jepsen.http :as http]))

(defn- bytes-of [text] (.getBytes ^String text "UTF-8"))

(deftest a-request-says-how-long-its-body-is-in-bytes
  (let [text (String. (http/request-bytes {:method "PUT", :path "/v1/x", :body {:text "ü"}}) "UTF-8")
        [head body] (str/split text #"\r\n\r\n" 2)
        length (parse-long (second (re-find #"Content-Length: (\d+)" head)))]
    (is (str/starts-with? head "PUT /v1/x HTTP/1.1\r\n"))
    (is (= length (count (bytes-of body))))))

(def plain "HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{\"a\":[1,2]}")
(def chunked "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6;x=y\r\n{\"a\":[\r\n5\r\n1,2]}\r\n0\r\n\r\n")

(deftest an-answer-is-complete-or-nil
  (doseq [answer [plain chunked], cut (range (count answer))
          ;; All is there before the last line break of the last chunk.
          :when (not (str/ends-with? (subs answer 0 cut) "0\r\n"))
          :when (not (str/ends-with? (subs answer 0 cut) "0\r\n\r"))]
    (is (nil? (http/parse-answer (bytes-of (subs answer 0 cut)) false)) (subs answer 0 cut)))
  (doseq [answer [plain chunked]]
    (is (= {:status 200, :body {:a [1 2]}} (http/parse-answer (bytes-of answer) false)))))

(deftest an-answer-that-ends-with-its-connection
  (is (= {:status 204, :body nil} (http/parse-answer (bytes-of "HTTP/1.1 204 No Content\r\n\r\n") true)))
  (is (= {:status 500, :body "no JSON"} (http/parse-answer (bytes-of "HTTP/1.1 500 X\r\n\r\nno JSON") true)))
  (is (nil? (http/parse-answer (bytes-of "HTTP/1.1 200") true))))
