(ns injector.jepsen.grudge-test
  (:require [clojure.test :refer [deftest is]]
            [injector.jepsen.grudge :as grudge]))

(def isolated {"n1" #{"n2" "n3"}, "n2" #{"n1"}, "n3" #{"n1"}})

(deftest empty-sets-and-other-collections
  (is (= {"n1" #{"n2"}} (grudge/normal {"n1" '("n2"), "n2" [], "n3" nil, "n4" #{}})))
  (is (= {} (grudge/normal {"n1" #{}})))
  (is (= {} (grudge/normal nil))))

(deftest drops-accumulate
  (is (= {"n1" #{"n2" "n3"}, "n2" #{"n1"}}
         (grudge/union {"n1" #{"n2"}} {"n1" ["n3"], "n2" #{"n1"}, "n3" #{}}))))

(deftest a-daemon-knows-its-own-drops
  (is (= {"n1" #{"n2" "n3"}} (grudge/own isolated "n1")))
  (is (= {} (grudge/own {"n1" #{"n2"}} "n2"))))

(deftest a-daemon-knows-both-directions-of-a-pair-that-is-cut-both-ways
  (is (= isolated (grudge/own-both-ways isolated "n1")))
  (is (= {"n2" #{"n1"}, "n1" #{"n2"}} (grudge/own-both-ways isolated "n2")))
  (is (= {"n1" #{"n2"}} (grudge/own-both-ways {"n1" #{"n2"}, "n2" #{"n3"}} "n1"))))

(deftest links-at-some-nodes
  (is (= {"n1" #{"n2" "n3"}, "n2" #{"n1"}, "n3" #{"n1"}} (grudge/among ["n1" "n2" "n3"] ["n1"])))
  (is (= {"n1" #{"n2"}, "n2" #{"n1"}} (grudge/among ["n1" "n2"] ["n1" "n2"])))
  (is (= {} (grudge/among ["n1" "n2"] []))))
