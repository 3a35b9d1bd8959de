---@meta _
-- Managers
--
-- A manager is a process that holds tables for all other processes. A proxy stands for such a
-- table: each read, assignment and call is a request to that process. Nested tables come back as
-- proxies, too.

---@class fzlua
local fz = {}

---Start a manager.
---
---```lua
---local m <close> = fz.manager()
---local d, seen = m:dict {n = 0}, m:list()
---fz.map(function(x) d:incr("n", x) seen:append(x) end, {1, 2, 3})
---print(d.n, #seen) --> 6 3
---```
---@return fzlua.Manager manager
function fz.manager() end

---A manager ends with the process that made it. It cannot be sent, but its proxies can.
---@class fzlua.Manager
local manager = {}

---Make a dict: a table of any keys.
---@param t? table its first contents
---@return fzlua.DictProxy dict
function manager:dict(t) end

---Make a list.
---@param t? table its first elements, a sequence
---@return fzlua.ListProxy list
function manager:list(t) end

---Make a namespace: attributes by name. Its only method is `copy`.
---@param t? table
---@return fzlua.NamespaceProxy namespace
function manager:namespace(t) end

---The same as [fz.queue](#fzqueue).
---@param maxsize? integer
---@return fzlua.Queue queue
function manager:queue(maxsize) end

---The same as [fz.lock](#fzlock).
---@return fzlua.Lock lock
function manager:lock() end

---The same as [fz.value](#fzvalue).
---@param code string
---@param number? number
---@return fzlua.Value value
function manager:value(code, number) end

---End the server, which first closes the files that its functions have left open. Each later use of
---a proxy raises kind `"closed"`.
function manager:close() end

---`dict[k]` reads, `dict[k] = v` assigns, and nil removes a key. `#dict` is the number of keys,
---`pairs` iterates over a snapshot. A method hides a key of the same name.
---@class fzlua.DictProxy
---@operator len: integer
local dict = {}

---The value of a key, even if the key is the name of a method.
---@param key any
---@return any value a table as a proxy
function dict:get(key) end

---Set the value of a key.
---@param key any
---@param value any nil removes the key
function dict:set(key, value) end

---Set the value of a key to `f(old value)` in one atomic step. `f` runs in the server and gets and
---returns plain tables. If the caller dies meanwhile, `f` is ended and nothing changes.
---
---```lua
---local m <close> = fz.manager()
---local d = m:dict {words = {"a"}}
---d:update("words", function(list) list[#list + 1] = "b" return list end)
---print(#d.words) --> 2
---```
---@param key any
---@param f fun(value: any): any
---@return any value the new value
function dict:update(key, f) end

---Add to the number of a key, 0 if there is none, in one atomic step.
---@param key any
---@param n? number Default: 1
---@return number sum
function dict:incr(key, n) end

---A copy of the whole table, as a plain table.
---@return table copy
function dict:copy() end

---`list[i]` reads, `list[i] = v` assigns, from 1 to `#list + 1`; `pairs` iterates over a snapshot.
---@class fzlua.ListProxy
---@field [integer] any
---@operator len: integer
local list = {}

---Append a value.
---@param value any
function list:append(value) end

---Insert a value before the one at `index`.
---@param index integer from 1 to `#list + 1`
---@param value any
function list:insert(index, value) end

---Remove a value and return it.
---@param index integer
---@return any value a table as a plain copy, unless the manager made it with a call of its own
function list:remove(index) end

---Remove the last value and return it.
---@return any value nil if the list is empty
function list:pop() end

---Sort the list in the server.
---@param less? fun(a: any, b: any): boolean as in `table.sort`
function list:sort(less) end

---A copy of the whole list, as a plain table.
---@return table copy
function list:copy() end

---`namespace.NAME` reads and assigns.
---@class fzlua.NamespaceProxy
local namespace = {}

---A copy as a plain table.
---@return table copy
function namespace:copy() end
