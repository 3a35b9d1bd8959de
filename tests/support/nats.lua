-- nats.lua - a NATS server on a loopback port and nodes of fzlua, for tests. All end with the shell
-- that starts them.

-- Shell functions. `dir` is a directory that is removed at the end, `url` names the server.
local START <const> = [[
unset FZLUA_ENGINE FZLUA_ENGINE_CREDS
dir=$(mktemp -d /tmp/fzlua-nats-XXXXXX); pids=
port=$((20000 + $$ %% 20000)); url=nats://u:p%%40ss@127.0.0.1:$port/team
echo "listen: 127.0.0.1:$port
max_payload: %d
%s" >$dir/conf
end() { kill -9 $pids 2>/dev/null; kill -CONT $pids 2>/dev/null; wait 2>/dev/null; rm -r $dir; }
trap end EXIT
# until_true COMMAND...: or 30 s
until_true() { n=0; until "$@" >/dev/null 2>&1 || test $((n += 1)) -gt 1500; do sleep 0.02; done; }
is_gone() { ! kill -0 $1; }
# server: start it, again after stop_server
server() { : >$dir/log; %s -c $dir/conf -l $dir/log & server=$! pids="$pids $!"
  until_true grep -q 'Server is ready' $dir/log; }
stop_server() { kill $server; wait $server 2>/dev/null; }
# node NAME SLOTS [URL] [OPTION...]: sets $node
node() { name=$1 slots=$2 at=${3-$url}; shift $(($# < 3 ? $# : 3))
  "$FZLUA" --worker --engine $at -j$slots --name $name "$@" 2>>$dir/$name &
  node=$! pids="$pids $!"; until_true grep -q joined $dir/$name; }
# script NAME FILE ARGUMENT...: in the background; sets $script
script() { out=$1; shift; "$FZLUA" --engine $url "$@" >$dir/$out 2>&1 & script=$! pids="$pids $!"; }
server
]]

local PASSWORD <const> = 'authorization { user: u, password: "p@ss" }'

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

---@param options? {max_payload: integer, config: string} of the server
---@return string what the shell commands print
function nats.run(t, commands, options)
  options = options or {}
  local start = START:format(
    options.max_payload or 1 << 20, options.config or PASSWORD, nats.server)
  return (t.shell("exec 2>&1\n" .. start .. commands))
end

return nats
