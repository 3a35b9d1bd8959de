--- record_sums.lua - `acc` of --fold: sums by key, which begin at 0.
--
-- If the command goes on after a failed line, the changes that CODE makes for one line are kept
-- apart until the line has succeeded. So a line that is tried several times counts once.

local Error = require "fzlua.error"
local core = require "fzlua.core"
local json = require "fzlua.json"

local record_sums = {}

---@class fzlua.RecordSums
---@field acc table the sums as CODE sees them
---@field keep fun()|nil called when the line has succeeded; nil: changes are not kept apart
---@field _changes table|nil of the current line
---@field _kept table
local Sums = {}
Sums.__index = Sums

-- The metatable of sums: a missing key has the value 0.
local PLAIN <const> = {
  __index = function() return 0 end,
  __newindex = function(acc, key, value)
    if key ~= nil then rawset(acc, key, value) end
  end,
}

-- The metatable of `acc`, which is an empty table. A write stores a sum in `changes`. A read
-- returns the sum in `changes`, or the sum in `kept`, or 0.
local function apart(changes, kept)
  return {
    __index = function(_, key)
      local value = changes[key]
      if value == nil then value = kept[key] end
      return value == nil and 0 or value
    end,
    __newindex = function(_, key, value)
      if key ~= nil then changes[key] = value end
    end,
  }
end

---@param careful boolean whether the changes of a line are kept apart
---@return fzlua.RecordSums
function record_sums.new(careful)
  if not careful then
    local acc = setmetatable({}, PLAIN)
    return setmetatable({ acc = acc, _kept = acc }, Sums)
  end
  local changes, kept = {}, {}
  local function keep()
    for key, value in next, changes do
      kept[key] = value
      changes[key] = nil
    end
  end
  local acc = setmetatable({}, apart(changes, kept))
  return setmetatable({ acc = acc, keep = keep, _changes = changes, _kept = kept }, Sums)
end

---Drop the changes of the current line, because the line has failed.
function Sums:drop()
  for key in next, self._changes or {} do self._changes[key] = nil end
end

-- The types that a key may have, because a line of the output begins with a key.
local KEYS <const> = { string = true, number = true, boolean = true }

---Return the sums, and start again without sums. Raises if a sum is not a number, or if its key
---cannot be printed.
---@return any[] list of keys, each followed by its sum: it costs less to send than a table
function Sums:take()
  local sums, n = {}, 0
  for key, value in next, self._kept do
    if not KEYS[type(key)] then
      Error.raise("error", "a key of acc is a %s; it can be a string, number or boolean", type(key))
    end
    if not math.type(value) then
      Error.raise("error", "acc[%s] is a %s, not a number", core.error_text(key), type(value))
    end
    sums[n + 1], sums[n + 2] = key, value
    n = n + 2
    self._kept[key] = nil
  end
  return sums
end

---Add the sums that take() has returned to the sums in `to`.
---@param to table<any, number>
---@param sums any[]
function record_sums.add(to, sums)
  for i = 1, #sums, 2 do to[sums[i]] = (to[sums[i]] or 0) + sums[i + 1] end
end

-- Sorted keys: numbers, strings, booleans. A sort without a function is several times as fast.
local function sorted_keys(sums)
  local keys, strings = {}, {}
  for key in next, sums do
    if type(key) == "number" then keys[#keys + 1] = key end
    if type(key) == "string" then strings[#strings + 1] = key end
  end
  table.sort(keys)
  table.sort(strings)
  table.move(strings, 1, #strings, #keys + 1, keys)
  if sums[false] then keys[#keys + 1] = false end
  if sums[true] then keys[#keys + 1] = true end
  return keys
end

-- The sums as a JSON object. A key that is a number becomes a string.
local function json_of(sums)
  local object, names = {}, {}
  for _, key in ipairs(sorted_keys(sums)) do
    local name = tostring(key)
    if not object[name] then names[#names + 1] = name end
    object[name] = (object[name] or 0) + sums[key]
  end
  return json.encode(object, names)
end

---The text of sums, sorted by key.
---@param sums table<any, number>
---@param separator string that ends a record
---@param as_json boolean|nil write one record, which is a JSON object
---@return string
function record_sums.text(sums, separator, as_json)
  if as_json then return json_of(sums) .. separator end
  local lines = {}
  for i, key in ipairs(sorted_keys(sums)) do
    lines[i] = tostring(key) .. " " .. tostring(sums[key]) .. separator
  end
  return table.concat(lines)
end

return record_sums
