-- nats.lua - a NATS server on a loopback port and nodes of fzlua, for tests. All of them end with
-- the shell that starts them.

-- Shell functions. `dir` is a directory that is removed at the end, and `url` names the server. The
-- port of the server is below those that the kernel gives to connections, because a connection
-- could get it otherwise. The server waits 30 s for the password of a connection, because the usual
-- 2 s are short on a busy machine.
local START <const> = [[
unset FZLUA_ENGINE FZLUA_ENGINE_CREDS
dir=$(mktemp -d /tmp/fzlua-nats-XXXXXX)
end() { read self rest </proc/self/stat; kill -9 $(cat /proc/$self/task/$self/children)
  wait; rm -r $dir; } 2>/dev/null
trap end EXIT
has_started() { grep -q 'Server is ready' $dir/log || is_gone $server; }
# server: start it, again after stop_server
server() { : >$dir/log; %s -c $dir/conf -l $dir/log & server=$!
  until_true has_started; grep -q 'Server is ready' $dir/log; }
stop_server() { kill $server; wait $server 2>/dev/null; }
# server_on PORT: false if it cannot listen there
server_on() { port=$1 url=nats://u:p%%40ss@127.0.0.1:$1/team
  echo "listen: \"%s:$port\"
max_payload: %d
%s" >$dir/conf; server; }
# node NAME SLOTS [URL] [OPTION...]: sets $node
node() { name=$1 slots=$2 at=${3-$url}; shift $(($# < 3 ? $# : 3)); rm -f $dir/$name
  "$FZLUA" --worker --engine $at -j$slots --name $name "$@" 2>$dir/$name &
  node=$!; until_true grep -q joined $dir/$name; }
# script NAME FILE ARGUMENT...: in the background; sets $script
script() { out=$1; shift; "$FZLUA" --engine $url "$@" >$dir/$out 2>&1 & script=$!; }
port=$((10000 + $$ %% 10000))
server_on $port || server_on $((port + 1)) || server_on $((port + 2)) || cat $dir/log
]]

local PASSWORD <const> = 'authorization { user: u, password: "p@ss", timeout: 30 }'

local nats = {}

---@return string|nil reason why the tests cannot run here
function nats.missing(t)
  local found = t.shell("PATH=$PATH:/usr/sbin command -v nats-server"):match "%S+"
  local file = io.open(os.getenv "FZLUA_NATS" or t.fzlua .. "-nats")
  if file then file:close() end
  if not found then return "no nats-server" end
  nats.server = found
  return not file and "no fzlua-nats" or nil
end

---@param options? {listen: string, max_payload: integer, config: string} of the server
---@return string commands which start a server, and functions for others
function nats.start(options)
  options = options or {}
  return START:format(nats.server, options.listen or "127.0.0.1",
    options.max_payload or 1 << 20, options.config or PASSWORD)
end

---@return string what the shell commands print after those of nats.start
function nats.run(t, commands, options)
  return (t.shell("exec 2>&1\n" .. nats.start(options) .. commands))
end

return nats
