--- progress_loop.lua - fz.progress: shows the progress of a for loop.

local Error = require "fzlua.error"
local check = require "fzlua.check"
local lists = require "fzlua.lists"
local progress = require "fzlua.progress"

local progress_loop = {}

---@class fzlua.ProgressLoop
local Loop = {}
Loop.__index = Loop

local function set_counts(lines, loop)
  lines[1].done = math.max(loop.count, 0)
end

local function start(options, total)
  local self = setmetatable({ count = -1, closing = nil }, Loop)
  local line = { label = options.label or "loop", total = options.total or total }
  self.panel = progress.start({ line }, self, set_counts)
  return self
end

function Loop:finish(state)
  if self.panel then self.panel:finish(state) end
  self.panel = nil
end

function Loop:__close(e)
  self:finish(e ~= nil and not Error.is(e, "interrupted") and "failed" or nil)
  local _ <close> = self.closing
end

-- Count the item that the source returned, and pass it on. The item is done when the loop asks for
-- the next item.
local function count(self, first, ...)
  if self.panel then
    self.count = self.count + 1
    if first == nil then self:finish "done" else progress.poll() end
  end
  return first, ...
end

local function over_list(list, options)
  local n, i = lists.length(list), 0
  local self = start(options, n)
  return function()
    i = i + 1
    return count(self, list[i])
  end, nil, nil, self
end

local function over_iterator(options, source, state, control, closing)
  local self = start(options)
  self.closing = closing
  return function(s, c) return count(self, source(s, c)) end, state, control, self
end

local function is_callable(source)
  return type(source) == "function" or (getmetatable(source) or {}).__call ~= nil
end

function progress_loop.loop(source, ...)
  local state, control, closing, options
  if select("#", ...) <= 1 then
    options = ...
  else
    state, control, closing, options = ...
  end
  options = check.options(options, check.PROGRESS, 2, "fz.progress")
  check.iterator(source, state, 1, "fz.progress")
  if is_callable(source) then return over_iterator(options, source, state, control, closing) end
  return over_list(check.type(source, "table", 1, "fz.progress"), options)
end

return progress_loop
