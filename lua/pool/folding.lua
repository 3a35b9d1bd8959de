--- folding.lua - a fold over many items: groups of items in workers, the results merged here.
--
-- A worker folds a group from a copy of the first accumulator, so that a group can be repeated by
-- another worker. The next groups grow until one takes about GROUP seconds, because each result is
-- sent and merged.

local Error = require "fzlua.error"
local core = require "fzlua.core"
local source = require "fzlua.source"

local folding = {}

local GROUP <const> = 0.1 -- seconds of work
local GROWTH <const> = 8 -- a group is at most so many times longer than the one before
local ITEMS_MAX <const>, BYTES_MAX <const> = 1 << 16, 8 << 20

---@class fzlua.Group items that one worker folds
---@field first integer number of the first item
---@field n integer
---@field [integer] any the items; none of a list that the workers have inherited

---@class fzlua.Folding
---@field groups table<integer, {first: integer, n: integer}> sent and not merged, by number
---@field size integer items of the next group
---@field seconds number|nil measured time of an item
---@field ended boolean|nil the source has no more items
local Folding = {}
Folding.__index = Folding

---@param from fzlua.Source
---@param inherited table|nil the list, if workers have it
function folding.new(from, inherited)
  return setmetatable({
    from = from, inherited = inherited, groups = {}, ngroups = 0, nitems = 0, size = 1,
  }, Folding)
end

local function cost(item)
  return type(item) == "string" and #item or 0
end

-- Fill the group from the source.
local function read(self, group)
  local following, bytes = self.from.next, 0
  while not self.ended and group.n < self.size and bytes < BYTES_MAX do
    local item = following()
    if item == nil then
      self.ended = true -- an iterator is not called again
      return
    end
    if item == source.NOTHING then item = nil end
    group.n = group.n + 1
    group[group.n] = item
    bytes = bytes + cost(item)
  end
end

---The next group; nil if no item is left.
---@return fzlua.Group|nil
function Folding:next()
  local group = { first = self.nitems + 1, n = 0 }
  if self.inherited then
    group.n = math.min(self.size, self.from.n - self.nitems)
  else
    read(self, group)
  end
  if group.n == 0 then return nil end
  self.nitems = self.nitems + group.n
  self.ngroups = self.ngroups + 1
  self.groups[self.ngroups] = { first = group.first, n = group.n }
  return group
end

-- A group has taken so many seconds.
local function measure(self, group, seconds)
  local mean = seconds / group.n
  self.seconds = self.seconds and (self.seconds + mean) / 2 or mean
  local fitting = self.seconds > 0 and GROUP / self.seconds or ITEMS_MAX
  self.size = math.max(1, math.floor(math.min(fitting, group.n * GROWTH, ITEMS_MAX)))
end

-- Set the index of the item that an error is about. A worker that dies does not name the item.
local function name_item(e, group)
  if not Error.is(e) then return e end
  local item = e.item or group.n == 1 and 1
  e.index, e.item = item and group.first + item - 1 or nil, nil
  if not item then
    Error.about(e, ("one of the items %d to %d"):format(group.first, group.first + group.n - 1))
  end
  return e
end

---The option retry_if for groups, whose errors are to name their items.
---@param f nil|fun(e: fz.Error): boolean
---@return nil|fun(e: fz.Error): boolean
function Folding:retry_if(f)
  return f and function(e) return f(name_item(e, self.groups[e.index])) end
end

---The function that workers call with a group; returns the accumulator and the seconds it took.
---@param f fun(acc: any, item: any): any
---@param init any
---@param list table|nil the list, if workers inherit it
function folding.worker(f, init, list)
  local packed <const> = core.pack(init)
  local functions <const> = { functions = true }
  local unpack, now, note_item = core.unpack, core.now, core.note_item
  return function(group)
    local began, acc = now(), unpack(packed, functions)
    local items, before = list or group, list and group.first - 1 or 0
    local item = 0
    local _ <close> = setmetatable({}, {
      __close = function(_, e)
        if e ~= nil then note_item(item) end
      end,
    })
    for i = 1, group.n do
      item = i
      acc = f(acc, items[before + i])
    end
    return { acc, now() - began }
  end
end

---Merge the results of groups, which `results` returns as an imap that continues after errors does.
---@param merge fun(a: any, b: any): any
---@param init any the result without items
function Folding:merge(merge, init, results, ...)
  local acc, any
  for i, result, e in results, ... do
    local group = self.groups[i]
    self.groups[i] = nil
    if e then error(name_item(e, group), 0) end
    measure(self, group, result[2])
    if any then acc = merge(acc, result[1]) else acc = result[1] end
    any = true
  end
  if any then return acc end
  return init
end

return folding
