#!/bin/sh
# nodes.sh BUILD - calls through a node on a NATS server beside messages of the bare server. Prints
# microseconds: a message and a call one at a time, then with 256 pending.
build=$1
FZLUA=$build/fzlua; export FZLUA; unset FZLUA_ENGINE FZLUA_ENGINE_CREDS
PATH=$PATH:/usr/sbin
dir=$(mktemp -d /tmp/fzlua-bench-XXXXXX); pids=
end() { kill $pids 2>/dev/null; wait; rm -r "$dir"; }
trap end EXIT
# server_on PORT: false if it cannot listen there
server_on() {
  url=nats://127.0.0.1:$1; : >"$dir/log"
  nats-server -a 127.0.0.1 -p $1 -l "$dir/log" & pids=$!
  until grep -q 'Server is ready' "$dir/log"; do kill -0 $pids 2>/dev/null || return; sleep 0.05; done
}
# below the ports that the kernel gives to connections, because a connection could get it otherwise
port=$((10000 + $$ % 10000))
server_on $port || server_on $((port + 1)) || server_on $((port + 2)) || { cat "$dir/log"; exit 1; }
"$FZLUA" --worker --engine $url/bench -j1 --name one 2>"$dir/one" & pids="$pids $!"
until grep -q joined "$dir/one" 2>/dev/null; do sleep 0.05; done

cat >"$dir/calls.lua" <<'END'
local n, window = tonumber(arg[1]), tonumber(arg[2])
local pool <close> = fz.pool(1)
local f, text, pending = function(x) return x end, {("x"):rep(64)}, {}
for _ = 1, 200 do pool:apply(f, text[1]) end
local start = fz.now()
for i = 1, n do
  pending[i] = pool:apply_async(f, text)
  if i >= window then pending[i - window + 1]:get() end
end
for i = math.max(n - window + 2, 1), n do pending[i]:get() end
print((fz.now() - start) / n)
END
# call COUNT WINDOW
call() { "$FZLUA" --engine $url/bench "$dir/calls.lua" "$@"; }

for _ in 1 2 3; do
  echo "$("$build/bench/engine" $url 4000 1) $(call 4000 1) $("$build/bench/engine" $url 50000 256)" \
    "$(call 20000 256)" | awk '{ printf "one at a time: %.0f, %.0f; 256 pending: %.1f, %.1f\n",
      $1 * 1e6, $2 * 1e6, $3 * 1e6, $4 * 1e6 }'
done
