-- --engine nats://...: a member of the team announces nodes with strings that no real node sends.
local t = ...
local nats = dofile "tests/support/nats.lua"
local tests = {}

local missing = nats.missing(t) or not pcall(require, "socket") and "no luasocket"
if missing then
  print("test_nats_hostile: skipped: " .. missing)
  return tests
end

-- Announce a node again and again, until killed. Arguments: PORT, then the strings after its id.
local MEMBER <const> = [==[
local socket = require "socket"
local server = assert(socket.connect("127.0.0.1", arg[1]))
assert(server:receive())
server:send('CONNECT {"verbose":false,"user":"u","pass":"p@ss"}\r\n')
local strings = table.concat({ "00000000000000aa", table.unpack(arg, 2) }, "\0") .. "\0"
-- type NODE, version 2, no lease
local packet = "\2\2" .. ("\0"):rep(14) .. strings:gsub("%%x(%x%x)", function(digits)
  return string.char(tonumber(digits, 16))
end)
while true do
  server:send(("PUB fzlua.team.submitters %d\r\n%s\r\n"):format(#packet, packet))
  server:settimeout(0.1)
  server:receive()
end
]==]

local function run(commands)
  return nats.run(t, ([[
member() { "$FZLUA" %s $port "$@" & }
try() { "$FZLUA" --engine $url -e 'print(fz.map(function(x) return 6 * x end, {7})[1])'; }
]]):format(t.file(MEMBER)) .. commands)
end

tests["a node with endless strings is one with short ones"] = function()
  local out = run [[
    long=$("$FZLUA" -e 'io.write(("x"):rep(20000))')
    node good 1; member $long $long $long $long $long $long $long; try
  ]]
  t.equal(out, "42\n")
end

tests["the name of a node cannot write to the terminal"] = function()
  local version = t.shell('"$FZLUA" --version'):match "%d+%.%d+%.%d+"
  local out = run(([[
    member 'evil%%x1b]0;title%%x07%%x0a2' 1 0 1 0.1%%x1b %s/Lua5.4 ''
    node good 1; "$FZLUA" --engine $url --nodes
  ]]):format(version))
  t.match(out, "good", "evil?]0;title??2")
  assert(not out:find "[\27\7]", out)
end

-- A server that answers each connection with TEXT, and closes it.
local OTHER_SERVER <const> = [==[
local socket = require "socket"
local listener = assert(socket.bind("127.0.0.1", 0))
print((select(2, listener:getsockname())))
io.stdout:flush()
while true do
  local client = listener:accept()
  client:send(arg[1])
  client:close()
end
]==]

tests["a server that is no NATS server is a line"] = function()
  local out = t.shell(([[
    exec 2>&1; out=$(mktemp)
    for text in 'HTTP/1.1 400 Bad Request' '' 'INFO {' 'INFO {}' '-ERR x'; do
      : >$out; "$FZLUA" %s "$text$(printf '\r\n')" >$out & server=$!
      until_true test -s $out; url=nats://127.0.0.1:$(cat $out)
      "$FZLUA" --engine $url -e 'fz.map(print, {1})'; "$FZLUA" --worker --engine $url
      { kill $server; wait $server; } 2>/dev/null
    done; rm $out
  ]]):format(t.file(OTHER_SERVER)))
  local n = 0
  for line in out:gmatch "[^\n]+" do
    n = n + 1
    assert(line:find "^fzlua: nats://127.0.0.1:%d+/default: " and line:find "NATS server", line)
  end
  t.equal(n, 10)
end

-- A program that replaces the gateway: it lists nodes with the slots in $SLOTS.
local GATEWAY <const> = [[#!/bin/sh
n=0
for slots in $SLOTS; do
  n=$((n + 1))
  printf 'N000000000000000%d\0node%d\0%s\0000\0001\0000.1\0\0' $n $n $slots >&0
done
printf R >&0; exec cat >/dev/null
]]

tests["a list without a node that can be used is a line"] = function()
  local out = t.shell(([[
    exec 2>&1; chmod +x %s; export FZLUA_NATS=%s SLOTS
    for SLOTS in '' 0 5000 'x 0'; do
      "$FZLUA" --engine nats://127.0.0.1 -e 'fz.map(print, {1})'
    done
  ]]):gsub("%%s", (t.file(GATEWAY)), 2))
  local announces = "fzlua: node node%d cannot be used: it announces %s slots\n"
  t.equal(out, "fzlua: the engine has no nodes\n" .. announces:format(1, 0)
    .. announces:format(1, 5000) .. announces:format(2, 0))
end

return tests
