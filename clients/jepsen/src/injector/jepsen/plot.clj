(ns injector.jepsen.plot
  "The recovery as a picture: a row for each node of each heal, from the heal to ready and from there to settled."
  (:require [clojure.string :as str]))

(def ^:private width 900)
(def ^:private left 170)
(def ^:private right 110)
(def ^:private row 18)
(def ^:private heading 24)
(def ^:private top 56)

(def ^:private to-ready "#c8443c")
(def ^:private to-settled "#e8b04a")
(def ^:private unsettled "#8a8f98")

(defn- escaped [text]
  (-> (str text) (str/replace "&" "&amp;") (str/replace "<" "&lt;") (str/replace ">" "&gt;") (str/replace "\"" "&quot;")))

(defn- text [x y content & {:keys [anchor weight fill] :or {anchor "start", weight "normal", fill "#222"}}]
  (format "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" font-weight=\"%s\" fill=\"%s\">%s</text>"
          (double x) (double y) anchor weight fill (escaped content)))

(defn- bar [x y width fill]
  (format "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>"
          (double x) (double y) (double (max 1 width)) (- row 6) fill))

(defn- line [x1 y1 x2 y2 stroke dash]
  (format "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" stroke-dasharray=\"%s\"/>"
          (double x1) (double y1) (double x2) (double y2) stroke dash))

(defn- seconds [ms] (if (nil? ms) "–" (String/format java.util.Locale/ROOT "%.2f s" (to-array [(double (/ ms 1000))]))))

(defn- tick-step
  "A round step in milliseconds that gives at most ten ticks."
  [span]
  (first (filter #(<= (/ span %) 10) [100 200 500 1000 2000 5000 10000 20000 30000 60000 120000 300000 600000])))

(defn- node-row [x span y [node {:keys [outcome heal-to-ready-ms heal-to-settled-ms]}]]
  (let [says (str node ": ready " (seconds heal-to-ready-ms) ", settled " (seconds heal-to-settled-ms)
                  " (" (or outcome "no outcome") ")")
        from (x 0)]
    (str/join
     "\n"
     (remove
      nil?
      (concat
       ["<g>" (str "<title>" (escaped says) "</title>") (text (- left 8) (+ y 11) node :anchor "end")]
       (cond
         heal-to-settled-ms
         (let [ready (or heal-to-ready-ms heal-to-settled-ms)]
           [(bar from (+ y 3) (- (x ready) from) to-ready)
            (when (< ready heal-to-settled-ms)
              (bar (x ready) (+ y 3) (- (x heal-to-settled-ms) (x ready)) to-settled))])

         ;; How long it took is not known: the bar is open to the right.
         heal-to-ready-ms
         [(bar from (+ y 3) (- (x heal-to-ready-ms) from) to-ready)
          (line (x heal-to-ready-ms) (+ y 9) (x span) (+ y 9) unsettled "4 3")]

         :else
         [(line from (+ y 9) (x span) (+ y 9) unsettled "4 3")])
       [(text (+ (x span) 6) (+ y 11)
              (if heal-to-settled-ms (seconds heal-to-settled-ms) (or outcome "–"))
              :fill (if (= "recovered" outcome) "#222" to-ready))
        "</g>"])))))

(defn svg
  "The picture of results of `injector.jepsen.recovery/judge`."
  [test {:keys [heals]}]
  (let [times  (for [heal heals, node (vals (:nodes heal)), k [:heal-to-ready-ms :heal-to-settled-ms]
                     :when (k node)]
                 (k node))
        limits (distinct (keep :deadline-ms heals))
        span   (double (* 1.05 (apply max 1000 (concat times limits))))
        x      (fn [ms] (+ left (* (- width left right) (/ (double ms) span))))
        blocks (reductions (fn [y heal] (+ y heading (* row (max 1 (count (:nodes heal)))))) top heals)
        bottom (last blocks)
        step   (tick-step span)]
    (str/join
     "\n"
     (remove
      nil?
      (concat
       [(format "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">"
                width (long (+ bottom 30)))
        "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>"
        (text left 20 (str (:name test) ": from heal to service, by node") :weight "bold")
        (bar left 30 12 to-ready) (text (+ left 18) 41 "heal to ready")
        (bar (+ left 120) 30 12 to-settled) (text (+ left 138) 41 "ready to settled")
        (text (+ left 250) 41 "dashed: not settled while it was watched" :fill unsettled)]
       (for [ms (take-while #(<= % span) (iterate #(+ % step) 0))]
         (str (line (x ms) top (x ms) bottom "#e3e5e8" "0") "\n"
              (text (x ms) (+ bottom 16) (str (/ (double ms) 1000) " s") :anchor "middle")))
       (for [limit limits]
         (str (line (x limit) top (x limit) bottom "#444" "2 2") "\n"
              (text (- (x limit) 4) (- top 3) "deadline" :anchor "end")))
       (mapcat (fn [y {:keys [fault kind outcome nodes]}]
                 (cons (text 8 (+ y 17) (str (case kind :drops "partition " :loss "packet loss ") fault
                                             ": " (or outcome "no outcome"))
                             :weight "bold")
                       (map-indexed #(node-row x span (+ y heading (* row %1)) %2) nodes)))
               blocks heals)
       ["</svg>"])))))
