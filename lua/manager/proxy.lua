--- proxy.lua - dicts, lists and namespaces that stand for tables in a manager's server.
--
-- The server handles all reads of fields, assignments and calls. A proxy is sent as the queue of
-- its server and the number of its table. The server itself receives the table, not a proxy.

local core = require "fzlua.core"
local check = require "fzlua.check"
local client = require "fzlua.manager_client"

local proxy = {}

---@class fzlua.Proxy
---@field copy fun(self): table a deep copy, as a plain table
local Proxy = {}
Proxy.__name = "fzlua.Proxy"

-- Keys of a proxy's own fields: tables, so that they differ from all keys of users.
local CLIENT <const>, OBJECT <const>, CLASS <const> = {}, {}, {}

-- name -> { name =, noun =, methods =, length =, assign = }; answers contain the name
local classes = {}

---Make a proxy of the named class.
---@return fzlua.Proxy
function proxy.new(of, class, object)
  return setmetatable({ [CLIENT] = of, [OBJECT] = object, [CLASS] = classes[class] }, Proxy)
end

---Whether `value` is a proxy.
function proxy.is(value)
  return getmetatable(value) == Proxy
end

-- Convert an answer of the server to the values that the user gets.
local function received(of, code, value, ...)
  if code == client.VALUES then return value, ... end
  return proxy.new(of, code, value)
end

local function ask(self, operation, ...)
  local of = self[CLIENT]
  return received(of, of:ask(operation, self[OBJECT], ...))
end

local function check_self(self, class, method)
  if not proxy.is(self) or class and rawget(self, CLASS) ~= class then
    check.fail("bad argument #1 to '%s' (a %s expected: write proxy:%s)", method,
      class and class.noun or "proxy", method)
  end
end

local function check_key(key, arg, what)
  if key == nil or key ~= key then
    check.fail("bad argument #%d to '%s' (a key expected, got %s)", arg, what, tostring(key))
  end
end

local function check_value(value, arg, what)
  if value == nil then check.fail("bad argument #%d to '%s' (value expected)", arg, what) end
end

local function check_index(index, arg, what)
  local i = math.type(index) and math.tointeger(index)
  if i then return i end
  check.fail("bad argument #%d to '%s' (an integer expected, got %s)", arg, what,
    math.type(index) == "float" and tostring(index) or check.typename(index))
end

local Dict = { name = "dict", noun = "dict", length = "count", assign = "set", methods = {} }
local List = { name = "list", noun = "list", length = "length", assign = "assign", methods = {} }
local Namespace = {
  name = "namespace", noun = "namespace", length = "count", assign = "set", methods = {},
}
classes.dict, classes.list, classes.namespace = Dict, List, Namespace

local dict, list = Dict.methods, List.methods

-- The value of a key.
function dict:get(key)
  check_self(self, Dict, "get")
  check_key(key, 1, "dict:get")
  return ask(self, "get", key)
end

-- Set the value of a key; nil removes it.
function dict:set(key, value)
  check_self(self, Dict, "set")
  check_key(key, 1, "dict:set")
  ask(self, "set", key, value)
end

-- Set the value of `key` to f(old value), and return the new value.
function dict:update(key, f)
  check_self(self, Dict, "update")
  check_key(key, 1, "dict:update")
  check.type(f, "function", 2, "dict:update")
  return ask(self, "update", key, f)
end

-- Add `n` (default 1) to the number under `key`, which is 0 if there is no such key.
function dict:incr(key, n)
  check_self(self, Dict, "incr")
  check_key(key, 1, "dict:incr")
  if n ~= nil then check.type(n, "number", 2, "dict:incr") end
  return ask(self, "incr", key, n)
end

-- Append a value.
function list:append(value)
  check_self(self, List, "append")
  check_value(value, 1, "list:append")
  ask(self, "append", value)
end

-- Insert a value before the value at `index`.
function list:insert(index, value)
  check_self(self, List, "insert")
  index = check_index(index, 1, "list:insert")
  check_value(value, 2, "list:insert")
  ask(self, "insert", index, value)
end

-- Remove the value at `index` and return it.
function list:remove(index)
  check_self(self, List, "remove")
  return ask(self, "remove", check_index(index, 1, "list:remove"))
end

-- Remove the last value and return it. Returns nil if the list is empty.
function list:pop()
  check_self(self, List, "pop")
  return ask(self, "pop")
end

-- Sort in the server, by `less` as in table.sort.
function list:sort(less)
  check_self(self, List, "sort")
  if less ~= nil then check.type(less, "function", 1, "list:sort") end
  ask(self, "sort", less)
end

local function copy(self)
  check_self(self, nil, "copy")
  return ask(self, "copy")
end
dict.copy, list.copy, Namespace.methods.copy = copy, copy, copy

function Proxy:__index(key)
  local method = self[CLASS].methods[key]
  if method then return method end
  if key == nil then return nil end
  return ask(self, "get", key)
end

function Proxy:__newindex(key, value)
  local class = self[CLASS]
  if class == List then
    key = check_index(key, 1, "list[]")
  else
    check_key(key, 1, class.name .. "[]")
    if class == Namespace and class.methods[key] then
      check.fail("cannot set '%s' of a namespace: it is a method", key)
    end
  end
  ask(self, class.assign, key, value)
end

function Proxy:__len()
  return ask(self, self[CLASS].length)
end

---Iterate over the contents that the table has at the start of the loop; a list in its order.
function Proxy:__pairs()
  local all, at = ask(self, "all"), -1
  return function()
    at = at + 2
    return all[at], all[at + 1]
  end
end

function Proxy.__eq(a, b)
  return proxy.is(a) and proxy.is(b) and a[OBJECT] == b[OBJECT]
    and a[CLIENT].server == b[CLIENT].server
end

function Proxy:__tostring()
  return ("%s (%s %d of manager %d)"):format(Proxy.__name, self[CLASS].noun, self[OBJECT],
    self[CLIENT].pid)
end

function Proxy:__fzpack()
  local of = self[CLIENT]
  return { of.server, of.pid, of.questions, of.spare, self[CLASS].name, self[OBJECT] }
end

local find_table -- in a server: function(number of an object) -> its table or nil

---Make this process a server, in which the proxies of its tables become these tables.
---@param find fun(object: integer): table|nil
function proxy.serve(find)
  find_table = find
end

-- The bytes may come from outside this run and name any object. They cannot contain queues, so a
-- proxy without its queue is refused.
function Proxy.__fzunpack(packed)
  local server, pid, questions, spare, class, object = table.unpack(packed, 1, 6)
  if check.typename(questions) ~= "fzlua.Queue" then error("not a proxy of this run", 0) end
  local found = server == core.member() and find_table(object)
  return found or proxy.new(client.of(server, pid, questions, spare), class, object)
end

proxy.unpack = Proxy.__fzunpack
core.register_class("fzlua.Proxy", Proxy)

return proxy
