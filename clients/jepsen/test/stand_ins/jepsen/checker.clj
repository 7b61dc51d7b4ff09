(ns jepsen.checker
  "Jepsen's protocol of checkers, by its published name and argument order.")

(defprotocol Checker
  (check [checker test history opts]))
