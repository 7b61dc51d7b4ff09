#!/bin/sh
# A test suite in shell: cuts the network of a running cluster, and checks that it recovers.
#
#   suite.sh [--junit FILE] [CASE ...]
#
# It needs a daemon whose config has endpoints. INJECTOR_SOCKET and INJECTOR_HOST say where it is.
#
#   HOLD      how long each cut lasts              (3s)
#   DEADLINE  how long the cluster may take then   (20s)
#   CLIENT    a command that must succeed whichever node is isolated: one that asks another node if the first does not
#             serve; the case is left out without it
#   PATIENCE  how many seconds to wait for a healthy cluster before each cut (60)
#
# Exit codes: 0 every case passed · 1 a case failed · 2 what a case would have shown is not known · 64 wrong usage
set -u

HOLD=${HOLD:-3s} DEADLINE=${DEADLINE:-20s} CLIENT=${CLIENT:-} PATIENCE=${PATIENCE:-60}

# The cases: one function each. Its exit code is its result, as in the table of exit codes above.

one_node() { recovers random-node; }
halves() { recovers halves; }
one_direction() { recovers random-node --direction out; }
each_sees_a_majority() { recovers majorities-ring; }
# `with` always heals, and exits as its command did. After a command that succeeded, `--wait` waits for the recovery:
# 0 recovered, 1 not by the deadline, 125 not known. The pause leaves time for a packet to be dropped, without which no cut
# is proved, and for a fail-over.
client() {
    STARTED="$folder/started-$name" \
        injector with random-node --name "$name" --for 60s --deadline "$DEADLINE" --wait -- sh -c ': > "$STARTED"; '"sleep 2; $CLIENT"
    with=$?
    # Before the command, the exit code is the injector's own: a wrong DEADLINE is 64, which is nothing of the cluster's.
    [ -e "$folder/started-$name" ] || return 125
    return "$with"
}

cases="one_node halves one_direction each_sees_a_majority ${CLIENT:+client}"

# Cuts, and waits for the outcome: 0 recovered, 1 not by the deadline, 2 not known.
recovers() {
    injector partition "$@" --name "$name" --for "$HOLD" --deadline "$DEADLINE" && injector wait "$name"
}

# A cluster that is not healthy before a cut shows nothing.
healthy() { injector wait --healthy --timeout "${PATIENCE}s"; }

# XML has no place for control characters, such as those of colours, and for bytes that are no UTF-8.
escaped() { LC_ALL=C tr -d '\000-\010\013\014\016-\037' < "$1" | utf_8 | sed -e 's/&/\&amp;/g' -e 's/</\&lt;/g' -e 's/>/\&gt;/g'; }
utf_8() { if command -v iconv > /dev/null; then iconv -c -f UTF-8 -t UTF-8; else cat; fi; }

junit=
while [ $# -gt 0 ]; do
    case $1 in
        --junit) [ $# -gt 1 ] || { echo "suite.sh: --junit needs a file" >&2; exit 64; }; junit=$2; shift 2 ;;
        -*) echo "suite.sh: unknown option $1; usage: suite.sh [--junit FILE] [CASE ...]" >&2; exit 64 ;;
        *) break ;;
    esac
done
for case in "$@"; do
    case " $cases " in
        *" $case "*) ;;
        *) echo "suite.sh: no case $case; there are: $cases" >&2; exit 64 ;;
    esac
done
[ $# -gt 0 ] || set -- $cases

# The injector's own sentence and exit code, where no daemon answers.
injector status > /dev/null || exit

folder=$(mktemp -d) || exit 2
name=
# A cut ends by itself after HOLD; an interrupted suite does not wait for it.
trap '[ -z "$name" ] || injector heal "$name" > /dev/null 2>&1; rm -rf "$folder"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

tests=0 failures=0 errors=0
for case in "$@"; do
    tests=$((tests + 1)) begun=$(date +%s)
    name=suite-$$-$case
    code=125
    healthy > "$folder/said" 2>&1 && { "$case" > "$folder/said" 2>&1; code=$?; }
    name=
    took=$(($(date +%s) - begun))
    case $case:$code in
        *:0) word=PASS element= ;;
        # The cluster was not healthy before, the cut was refused or did not last, or its record shows nothing.
        *:125) word=UNKNOWN element=error errors=$((errors + 1)) ;;
        # `with` passes on whatever else CLIENT exits with.
        client:*) word=FAIL element=failure failures=$((failures + 1)) ;;
        *:2 | *:64 | *:69 | *:77) word=UNKNOWN element=error errors=$((errors + 1)) ;;
        *) word=FAIL element=failure failures=$((failures + 1)) ;;
    esac
    echo "$word $case ($took s)"
    [ "$code" -eq 0 ] || sed 's/^/  /' "$folder/said"
    {
        echo "  <testcase classname=\"partitions\" name=\"$case\" time=\"$took\">"
        [ -z "$element" ] || echo "    <$element message=\"$word: exit code $code\"/>"
        echo "    <system-out>$(escaped "$folder/said")</system-out>"
        echo "  </testcase>"
    } >> "$folder/cases"
done
if [ -n "$junit" ]; then
    {
        echo '<?xml version="1.0" encoding="UTF-8"?>'
        echo "<testsuite name=\"partitions\" tests=\"$tests\" failures=\"$failures\" errors=\"$errors\">"
        cat "$folder/cases"
        echo '</testsuite>'
    } > "$junit" || exit 2
fi
echo "$((tests - failures - errors)) passed, $failures failed, $errors unknown"
[ "$failures" -eq 0 ] || exit 1
[ "$errors" -eq 0 ] || exit 2
