--- record_sums.lua - `acc` of --fold: sums by key, which begin at 0.
--
-- If a line may fail without ending the command, the changes that CODE makes for one line are kept
-- apart until the line has succeeded, so that a line counts once however often it was tried.

local Error = require "fzlua.error"
local core = require "fzlua.core"

local record_sums = {}

---@class fzlua.RecordSums
---@field acc table the sums as CODE sees them
---@field keep fun()|nil the line has succeeded; nil: changes are made at once
---@field _changes table|nil of the current line
---@field _kept table
local Sums = {}
Sums.__index = Sums

-- Without a key there is nothing to count.
local PLAIN <const> = {
  __index = function() return 0 end,
  __newindex = function(acc, key, value)
    if key ~= nil then rawset(acc, key, value) end
  end,
}

-- The metatable of an empty table that reads and writes changes over the kept sums.
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

---The current line has failed: drop its changes.
function Sums:drop()
  for key in next, self._changes or {} do self._changes[key] = nil end
end

---Return the sums and begin anew. Raises if one is no number.
---@return table<any, number>
function Sums:take()
  local sums = {}
  for key, value in next, self._kept do
    if not math.type(value) then
      Error.raise("error", "acc[%s] is a %s, not a number", core.error_text(key), type(value))
    end
    sums[key] = value
    self._kept[key] = nil
  end
  return sums
end

return record_sums
