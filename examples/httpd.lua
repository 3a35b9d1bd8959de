-- httpd.lua: a small server on the loopback interface; ends at Ctrl-C.
--
--   fzlua examples/httpd.lua 8080
--   curl http://127.0.0.1:8080/primes/100000
--
-- Shows tasks that wait for sockets: each connection is a task, which never blocks the others. A
-- pool does the work, so that a long request keeps a worker busy and not the server. Needs
-- luasocket (lua-socket in Debian). Port 0, the default, is any free one.

local fz = require "fzlua"

local is_there, socket = pcall(require, "socket")
if not is_there then
  io.stderr:write "httpd.lua needs luasocket\n"
  os.exit(1)
end

local LIMIT <const> = 10 -- seconds that a client may take for its request, or for the response
local LONGEST <const> = 8192 -- bytes of a request

local pool <close> = fz.pool()

local function count_primes(limit)
  local composite, count = {}, 0
  for n = 2, limit do
    if not composite[n] then
      count = count + 1
      for multiple = n * n, limit, n do composite[multiple] = true end
    end
  end
  return count
end

-- The head of a request, up to its empty line; nil if it does not come.
local function read_head(client)
  local head = ""
  repeat
    if not fz.wait_fd(client:getfd(), "r", LIMIT) then return nil end
    local data, why, part = client:receive(LONGEST)
    head = head .. (data or part)
    if why == "closed" or #head > LONGEST then return nil end
  until head:find "\r?\n\r?\n"
  return head
end

local function write(client, data)
  local sent = 0
  while sent < #data do
    if not fz.wait_fd(client:getfd(), "w", LIMIT) then return end
    local last, why, part = client:send(data, sent + 1)
    if why == "closed" then return end
    sent = last or part
  end
end

-- Pattern of a path -> its body.
local ROUTES = {
  ["^/$"] = function() return "try /primes/1000\n" end,
  ["^/primes/(%d%d?%d?%d?%d?%d?%d?)$"] = function(limit)
    return ("%d\n"):format(pool:apply(count_primes, math.tointeger(limit)))
  end,
}

---@return string status, string body
local function answer(head)
  local path = head:match "^GET (%S+) HTTP/1%.[01]\r?\n"
  if not path then return "400 Bad Request", "not a request\n" end
  for pattern, body in pairs(ROUTES) do
    local parameter = path:match(pattern)
    if parameter then return "200 OK", body(parameter) end
  end
  return "404 Not Found", "no such page\n"
end

local RESPONSE <const> = "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n" ..
  "Connection: close\r\n\r\n%s"

-- Serve one connection. An error fails its request only, and the server continues.
local function serve(client)
  local _ <close> = setmetatable({}, {__close = function()
    client:shutdown() -- ends the connection, although later workers have inherited the socket
    client:close()
  end})
  client:settimeout(0)
  local head = read_head(client)
  if not head then return end
  local ok, status, body = pcall(answer, head)
  if not ok then
    fz.log.error("%s", status)
    status, body = "500 Internal Server Error", "an error\n"
  end
  write(client, RESPONSE:format(status, #body, body))
end

-- The tasks of a group end with the group, even at Ctrl-C.
local function accept_all(server)
  fz.group(function(connections)
    while true do
      fz.wait_fd(server:getfd(), "r")
      local client, why = server:accept()
      if client then
        connections:spawn(serve, client)
      elseif why ~= "timeout" then -- too many open files: the client waits until some are closed
        fz.sleep(0.1)
      end
    end
  end)
end

local server = assert(socket.bind("127.0.0.1", tonumber(arg[1] or 0)))
server:settimeout(0)
print(("http://%s:%d"):format(server:getsockname()))
io.stdout:flush()

local _, e = pcall(accept_all, server)
server:close()
if not tostring(e):find "interrupted" then error(e, 0) end
print "ended"
