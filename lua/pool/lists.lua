--- lists.lua - the lists that are arguments of a map, imap, fold or stage.

local Error = require "fzlua.error"
local check = require "fzlua.check"
local core = require "fzlua.core"

local lists = {}

-- Maximum number of elements of a Lua table.
local LENGTH_MAX = 0x7fffffff

-- Raise for a table that has keys but no elements, which was probably not meant as a list.
local function check_empty(list)
  local key = getmetatable(list) == nil and next(list)
  if key ~= nil and key ~= false then
    check.fail("a list expected, got a table with the key %s and no elements", tostring(key))
  end
end

---The length of a list: its field n if this is an integer, else its border.
---@return integer n, boolean counted
local function length(list)
  local n = list.n
  local counted = math.type(n) == "integer" and n >= 0
  if not counted then n = #list end
  if math.type(n) ~= "integer" or n < 0 or n > LENGTH_MAX then
    check.fail("a list expected, but its length is %s", tostring(n))
  end
  if n == 0 and not counted then check_empty(list) end
  return n, counted
end

lists.length = length

---A list whose elements can be read without a wait, because items are encoded when the caller
---cannot wait. For a list of a manager, whose elements are in the server, this is a copy.
---@param list table
---@return table
function lists.readable(list)
  return check.typename(list) == "fzlua.Proxy" and list:copy() or list
end

local function copy(value)
  return core.decode(core.encode(value), 0)
end

-- A copy of the current contents of `value`; nil if the value cannot be sent.
local function frozen(value)
  local ok, now = pcall(copy, value)
  if ok then return now end
  if Error.is(now, "interrupted") then error(now, 0) end
end

local MUTABLE = { table = true, ["function"] = true, userdata = true }

---A copy of a list of `n` elements, for a map that runs while its caller continues. An element
---that cannot be sent is not copied, and its item fails later.
---@param list table
---@param n integer
---@return table with the field n
function lists.freeze(list, n)
  local elements, mutable = { n = n }, false
  for i = 1, n do
    elements[i] = list[i]
    mutable = mutable or MUTABLE[type(elements[i])]
  end
  if not mutable then return elements end
  local all = frozen(elements)
  if all then return all end
  for i = 1, n do
    if MUTABLE[type(elements[i])] then elements[i] = frozen(elements[i]) or elements[i] end
  end
  return elements
end

return lists
