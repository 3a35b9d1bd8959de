--- mapping.lua - one running map or starmap: its batch, results and events.
--
-- The maps of pools and fz.map use this class. Each result is decoded when it arrives, while
-- workers go on.

local BatchEvents = require "fzlua.batch_events"
local Error = require "fzlua.error"
local ItemCache = require "fzlua.item_cache"
local Trace = require "fzlua.trace"
local callback = require "fzlua.callback"
local core = require "fzlua.core"
local lists = require "fzlua.lists"
local wait = require "fzlua.wait"

---@class fzlua.Mapping
local Mapping = {}
Mapping.__index = Mapping
Mapping.__name = "fzlua.Mapping"

---Set the index of an item in its error. If the error is not an fz.Error, it is a lack of memory.
---@return fz.Error e
function Mapping.name_error(e, index)
  if not Error.is(e) then e = Error.new { kind = "memory", message = tostring(e) } end
  e.index = index
  if e.result then
    Error.about(e, "result")
    e.result = nil
  end
  return e
end

---Ask `f`, the function of the option retry_if, about each failed item of a batch, and retry the
---items for which it returns true. `f` may close the owner of the batch.
---@param owner table with _closed
---@param batch userdata
---@param f fun(e: fz.Error): boolean
function Mapping.decide_retries(owner, batch, f)
  while not owner._closed do
    local index, e = batch:undecided()
    if not index then return end
    local again = callback.retry_if(f, Mapping.name_error(e, index))
    if not owner._closed then batch:decide(index, again) end
  end
end

local function set_counts(lines, batch)
  local line = lines[1]
  line.done, line.failed, line.busy = batch:counts()
end

---Show the progress of a batch if `options.progress` is true.
---@param n integer|nil items; nil: not known
---@param batch userdata
---@param options table with progress, and with call as the label
---@return fzlua.ProgressPanel|nil
function Mapping.show(n, batch, options)
  if options.progress ~= true then return nil end
  local lines = { { label = options.call, total = n } }
  return require "fzlua.progress".start(lines, batch, set_counts, options.on_error)
end

---Start a map.
---@param pool userdata of core.pool
---@param kind string "map" or "starmap"
---@param f function
---@param list table
---@param options table checked, with all defaults
---@return fzlua.Mapping
function Mapping.start(pool, kind, f, list, options)
  local n, counted = lists.length(list)
  if options.async then list, counted = lists.freeze(list, n), true end
  local trace, trace_names = Trace.of_call(options.call, f)
  local cache = ItemCache.new(options, f, kind)
  local batch = core.batch(pool, f, list, {
    kind = kind, n = n, counted = counted, inherited = options.inherited,
    chunk = options.chunksize, on_error = options.on_error, seed = options.seed,
    events = type(options.progress) == "function", timeout = options.timeout,
    retries = options.retries, backoff = options.backoff, memory = options.memory,
    retry_if = options.retry_if, trace = trace, trace_names = trace_names,
  })
  local self = setmetatable({
    batch = batch, n = n, values = false, errors = {}, _options = options,
    _events = BatchEvents.new(batch, options.progress, n), _closed = false, _cache = cache or false,
  }, Mapping)
  self._shown = Mapping.show(n, batch, options)
  if cache then
    cache:recall(list, n, function(i, results, place) batch:know(i, results, place) end)
  end
  batch:start()
  return self
end

-- Store the results that have arrived, and record them.
local function take(self)
  if not self.batch:news() then return end
  -- Make the list after the workers were forked. Forked workers share the memory of an older list
  -- with this process, so the first write to each page of the list would copy the page.
  self.values = self.values or self.batch:list()
  if not self._cache then return self.batch:take(self.values, self.errors) end
  local cache, values, ranges = self._cache, self.values, {}
  self.batch:take(values, self.errors, ranges)
  for k = 1, #ranges, 2 do
    for i = ranges[k], ranges[k] + ranges[k + 1] - 1 do cache:record(i, values[i]) end
  end
  cache:flush()
end

-- Store and record the results that have arrived, and decide whether failed items are retried.
local function handle(self)
  take(self)
  local retry_if = self._options.retry_if
  if not retry_if then return end
  Mapping.decide_retries(self, self.batch, retry_if)
  if not self._closed then take(self) end -- results may have arrived while the function waited
end

---Handle results that have arrived. Called by wait.lua.
function Mapping:pump()
  if self._pumping or self._closed then return end
  local events = self._events
  if not (events or self._options.retry_if) then return take(self) end
  self._pumping = wait.pumper()
  local _ <close> = setmetatable({}, { __close = function() self._pumping = nil end })
  if not events then return handle(self) end
  events:report_all(handle, self)
  if not self._closed and self.batch:done() then events:report_rest() end
end

---@return integer id of the object that changes before the map is done; for wait.lua
function Mapping:id()
  return self.batch:id()
end

---@return boolean
function Mapping:done()
  return self._closed or not self._pumping and self.batch:done()
end

function Mapping:cancel()
  if self._closed then return end
  self._closed = true
  if self._cache then
    pcall(take, self)
    self._cache:release()
  end
  if self._events then self._events.closed = true end
  if self._shown then self._shown:finish() end
  self.batch:close()
end

-- The errors of the other items that failed before the map had stopped, in the order of the list.
-- Items that were cancelled because of the failure are left out.
local function others(self, first)
  local indexes, list = {}, {}
  for index, e in pairs(self.errors) do
    if index ~= first and not Error.is(e, "cancelled") then indexes[#indexes + 1] = index end
  end
  table.sort(indexes)
  for i, index in ipairs(indexes) do list[i] = Mapping.name_error(self.errors[index], index) end
  return #list > 0 and list or nil
end

-- The error that the map raises: the error of the whole map, or of the item that failed first.
local function failure(self)
  local whole = self.batch:whole()
  if whole then return whole end
  if self._options.on_error == "continue" then return nil end
  local first = self.batch:first_error()
  if not first then return nil end
  local e = Mapping.name_error(self.errors[first], first)
  e.others = others(self, first)
  return e
end

-- Note a failure in the store: that of the first item in the list that has failed.
local function note_failure(self)
  local first
  for index, e in pairs(self.errors) do
    if not Error.is(e, "cancelled") then first = math.min(first or index, index) end
  end
  if first then self._cache:fail(first, self.errors[first]) end
end

---The outcome of a map that is done: true and the list, or false and the error.
function Mapping:outcome()
  self:pump()
  if self._closed then
    return false, Error.new { kind = "cancelled", message = "cancelled" }
  end
  local e = failure(self)
  if self._cache then note_failure(self) end
  self:cancel()
  if e then return false, e end
  local values = self.values or {}
  values.n = self.n
  if self._options.on_error == "continue" then
    for index, item_error in pairs(self.errors) do
      self.errors[index] = Mapping.name_error(item_error, index)
    end
    values.errors = self.errors
  end
  return true, values
end

-- Add the numbers of items in each state to the error of Ctrl-C.
local function count_into(self, e)
  local done, failed, running, waiting = self.batch:counts()
  e.message = ("interrupted: %d done, %s%d cancelled, %d not started"):format(
    done, failed > 0 and failed .. " failed, " or "", running, waiting)
end

---Wait for the list. If the wait raises an error, such as Ctrl-C, the map is cancelled.
---@return table
function Mapping:wait()
  local _ <close> = setmetatable({}, {
    __close = function(_, e)
      if not self._closed and Error.is(e, "interrupted") then count_into(self, e) end
      self:cancel()
    end,
  })
  wait.until_done(self)
  local ok, outcome = self:outcome()
  if not ok then error(outcome, 0) end
  return outcome
end

return Mapping
