#!/usr/bin/env bash
# An agent in bash 5 with redis-cli. For one task after the other it runs PROGRAM, the body on stdin; what that prints,
# JSON, is the result. docs/protocol.md says why each step is there.
#   examples/agent.sh AGENT ROLE PROGRAM [ARGUMENT]...       BALANCER_REDIS_URL, BALANCER_POOL, INTERVAL, TTL (seconds)
set -u -o pipefail
agent=$1 role=$2 pool="wb:{${BALANCER_POOL:-default}}" interval=${INTERVAL:-5} ttl=${TTL:-15} && shift 2
boot=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n') tmp=$(mktemp -d) seq=0 mode=running said='' start=1
url=${BALANCER_REDIS_URL:-redis://127.0.0.1:6379/0} held='' resumed='' last=0 job='' first='' beaten=-99
accepted=$SECONDS; declare -A task=(); trap 'rm -rf "$tmp"' EXIT && trap 'mode=stopping' TERM INT
mkfifo "$tmp/ended" && exec 3<> "$tmp/ended" # where a program's exit code comes
redis() { timeout "${patience:-2}" redis-cli --raw -u "$url" "$@" 2> /dev/null; }
sent() { id=$(redis XADD "$@") && [[ $id =~ ^[0-9]+-[0-9]+$ ]] && time=${id%-*}; } # ms, by the clock of Redis
leases() { # the nonces in the inbox, a comma behind each; fails when Redis does not answer with entries
    redis XRANGE "$pool:inbox:$agent" - + | awk 'NR == 1 && NF && !/^[0-9]+-[0-9]+$/ { exit 1 }
        was == "lease" && length == 32 && !/[^0-9a-f]/ { printf "%s,", $0 } { was = $0 }'
}
stop_job() { kill "$(< "$tmp/pid")"; job=gone; } # and nothing more is said about it
beat() {
    beaten=$SECONDS pause=1
    if held=$(leases) && sent "$pool:heartbeats" '*' v 1 agent "$agent" boot "$boot" seq "$((++seq))" role "$role" \
        max_concurrent 1 interval_ms "${interval}000" ttl_ms "${ttl}000" mode "$mode" start "$start" held "$held"; then
        accepted=$beaten said=$mode pause=$interval
        [[ $first ]] || first=$beaten resumed=$held
        ((beaten - first <= ttl)) || start=0
        [[ $job == gone || $held == *"$job"* ]] || stop_job # taken back
        [[ ! $job || $held != *"$job"*"$job"* ]] || { kill "$(< "$tmp/pid")"; ending=cancelled; } # twice: a cancel
    elif [[ $job ]] && ((SECONDS - accepted >= ttl - 4)); then # others may do it soon
        stop_job; exit 4
    fi
}
next() { # the next entry of the inbox, into `task`, within $1 ms; fails unless it is to be done
    mapfile -t lines < <(patience=$((interval + 2)) redis XREAD COUNT 1 BLOCK "$1" STREAMS "$pool:inbox:$agent" "$last")
    [[ ${lines[1]-} =~ ^[0-9]+-[0-9]+$ ]] || { [[ ${lines[*]} ]] && sleep 1; return 1; }
    last=${lines[1]} task=()
    for ((i = 2; i < ${#lines[@]}; i += 2)); do task[${lines[i]:-?}]=${lines[i + 1]-}; done
    [[ ${task[kind]-} != retire || ! ${task[deadline_ms]-} > $time ]] || mode=stopping
    [[ ${task[kind]-task} == task && ${task[timeout_ms]-} =~ ^[0-9]{1,15}$ ]] || return 1
    [[ ${task[boot]-} != "$boot" ]] || { start=0; return 0; }
    [[ $resumed != *"${task[lease]-}"* ]] || return 0
    ((start)) || exit 3 # confirmed, and yet another boot's: another process has taken over
    return 1
}
finish() { # say how it ended, until that is in the stream
    how=(status completed result "$(head -c 4097 "$tmp/out")")
    (($1 == 0)) || how=(status "$ending" error "exit code $1: $(tail -c 1900 "$tmp/err")")
    how+=(task "${task[task]}" attempt "${task[attempt]}" lease "$job" duration_ms "$(((SECONDS - began) * 1000))")
    until [[ $job == gone ]] || sent "$pool:completions" '*' v 1 agent "$agent" "${how[@]}"; do beat; sleep 1; done
    job=''
}
until [[ $said == stopped ]]; do
    if [[ $said != "$mode" ]] || ((SECONDS - beaten >= pause)); then beat; fi
    if [[ $job ]]; then read -r -t "$pause" -u 3 code && finish "$code"
    elif [[ ! $said ]]; then sleep 1
    elif next "$([[ $said == running ]] && echo "${interval}000" || echo 1)"; then
        job=${task[lease]} began=$SECONDS ending=failed
        { timeout -k 2 "$((task[timeout_ms] / 1000 + 1))" "$@" <<< "${task[body]}" > "$tmp/out" 2> "$tmp/err" &
          echo $! > "$tmp/pid"; wait $!; echo $? >&3; } &
    elif [[ $said == stopping ]]; then mode=stopped; fi
done
