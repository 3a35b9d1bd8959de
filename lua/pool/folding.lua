--- folding.lua - a fold over many items: workers fold ranges, and this module merges the results.
--
-- Each range is folded into a copy of the initial accumulator, so that another worker can repeat
-- the range. Ranges grow until a range takes about RANGE_SECONDS, because the result of each range
-- must be sent and merged.

local Error = require "fzlua.error"
local core = require "fzlua.core"
local source = require "fzlua.source"

local folding = {}

local RANGE_SECONDS <const> = 0.1 -- time in seconds that a range should take
local GROWTH <const> = 8 -- maximum ratio of the lengths of a range and of the previous range
local ITEMS_MAX <const>, BYTES_MAX <const> = 1 << 16, 8 << 20

---@class fzlua.Range items that one worker folds
---@field first integer number of the first item
---@field n integer
---@field [integer] any the items; none of a list that the workers have inherited

---@class fzlua.Folding
---@field ranges table<integer, {first: integer, n: integer}> by number: sent, not merged
---@field nmerged integer items whose results are merged
---@field size integer items of the next range
---@field seconds number|nil measured time of an item
---@field ended boolean|nil the source has no more items
local Folding = {}
Folding.__index = Folding

---@param from fzlua.Source
---@param inherited table|nil the list, if workers have it
function folding.new(from, inherited)
  return setmetatable({
    from = from, inherited = inherited, ranges = {}, nranges = 0, nitems = 0, nmerged = 0,
    size = 1,
  }, Folding)
end

local function cost(item)
  return type(item) == "string" and #item or 0
end

-- Read the items of the next range from the source.
local function read(self, range)
  local following, bytes = self.from.next, 0
  while not self.ended and range.n < self.size and bytes < BYTES_MAX do
    local item = following()
    if item == nil then
      self.ended = true -- an iterator that has ended is not called again
      return
    end
    if item == source.NOTHING then item = nil end
    range.n = range.n + 1
    range[range.n] = item
    bytes = bytes + cost(item)
  end
end

---The next range; nil if no items are left.
---@return fzlua.Range|nil
function Folding:next()
  local range = { first = self.nitems + 1, n = 0 }
  if self.inherited then
    range.n = math.min(self.size, self.from.n - self.nitems)
  else
    read(self, range)
  end
  if range.n == 0 then return nil end
  self.nitems = self.nitems + range.n
  self.nranges = self.nranges + 1
  self.ranges[self.nranges] = { first = range.first, n = range.n }
  return range
end

-- Set the size of the next ranges. `seconds` is the time that `range` has taken.
local function measure(self, range, seconds)
  local mean = seconds / range.n
  self.seconds = self.seconds and (self.seconds + mean) / 2 or mean
  local fitting = self.seconds > 0 and RANGE_SECONDS / self.seconds or ITEMS_MAX
  self.size = math.max(1, math.floor(math.min(fitting, range.n * GROWTH, ITEMS_MAX)))
end

-- Set the index of the item that caused an error. If a worker died, the index is not known, and the
-- message names the range.
local function name_item(e, range)
  if not Error.is(e) then return e end
  local item = e.item or range.n == 1 and 1
  e.index, e.item = item and range.first + item - 1 or nil, nil
  if not item then
    Error.about(e, ("one of the items %d to %d"):format(range.first, range.first + range.n - 1))
  end
  return e
end

---The option retry_if for ranges: `f` is called with errors that have the index of the item.
---@param f nil|fun(e: fz.Error): boolean
---@return nil|fun(e: fz.Error): boolean
function Folding:retry_if(f)
  return f and function(e) return f(name_item(e, self.ranges[e.index])) end
end

---The option progress for ranges: `f` is called with the events of items.
---@param f nil|boolean|fun(done: integer, total: integer?, event: table)
---@return false|fun(done: integer, total: integer?, event: table)
function Folding:progress(f)
  if type(f) ~= "function" then return false end
  local ended = 0
  return function(_, _, event)
    local range = self.ranges[event.index]
    for index = range.first, range.first + range.n - 1 do
      if event.kind == "done" or event.kind == "failed" then ended = ended + 1 end
      f(ended, self.from.n,
        { kind = event.kind, index = index, pid = event.pid, seconds = event.seconds })
    end
  end
end

local function set_counts(lines, self)
  lines[1].done = self.nmerged
end

---Show a line with the number of merged items.
---@param label string
---@return fzlua.ProgressPanel|nil
function Folding:show(label)
  local line = { label = label, total = self.from.n }
  return require "fzlua.progress".start({ line }, self, set_counts)
end

local function pack_init(init)
  local ok, packed = pcall(core.pack, init)
  if ok then return packed end
  if Error.is(packed, "unsendable") then Error.about(packed, "argument 'init'") end
  error(packed, 0)
end

---The function that workers call with a range. Returns the accumulator and the seconds it took.
---@param f fun(acc: any, item: any): any
---@param init any
---@param list table|nil the list, if the workers inherit it
function folding.worker(f, init, list)
  local packed <const> = pack_init(init)
  local functions <const> = { functions = true }
  local unpack, now, note_item = core.unpack, core.now, core.note_item
  return function(range)
    local began, acc = now(), unpack(packed, functions)
    local items, before = list or range, list and range.first - 1 or 0
    local item = 0
    local _ <close> = setmetatable({}, {
      __close = function(_, e)
        if e ~= nil then note_item(item) end
      end,
    })
    for i = 1, range.n do
      item = i
      acc = f(acc, items[before + i])
    end
    return { acc, now() - began }
  end
end

---Merge the results of ranges, which `results` returns like an imap that goes on after errors.
---@param merge fun(a: any, b: any): any
---@param init any the result if there are no items
function Folding:merge(merge, init, results, ...)
  local acc, any
  for i, result, e in results, ... do
    local range = self.ranges[i]
    self.ranges[i] = nil
    self.nmerged = range.first + range.n - 1
    if e then error(name_item(e, range), 0) end
    measure(self, range, result[2])
    if any then acc = merge(acc, result[1]) else acc = result[1] end
    any = true
  end
  if any then return acc end
  return init
end

return folding
