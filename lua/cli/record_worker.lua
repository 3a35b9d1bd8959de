--- record_worker.lua - the function that workers of --each and --fold call with a block of records.
--
-- CODE is compiled into a loop over the records of a block, so that a record costs one call of C:
-- step() takes the result for one record and returns the next record. Whether the value of an
-- expression is a function is known at the first record.

local Error = require "fzlua.error"
local core = require "fzlua.core"
local json = require "fzlua.json"

local record_worker = {}

-- CODE begins on the first line, so that positions in errors are those in CODE.
local VALUE <const> = "return function(line, n, acc) return (%s) end"
local EXPRESSION <const> = "local __step = ... return function(__value) "
  .. "local line, n = __step(__value) while n do line, n = __step((%s)) end end"
local STATEMENT <const> = "local __step, acc = ... return function() "
  .. "local line, n = __step() while n do do %s end line, n = __step() end end"

-- A sum begins at 0. Without a key there is nothing to count.
local SUMS <const> = {
  __index = function() return 0 end,
  __newindex = function(acc, key, value)
    if key ~= nil then rawset(acc, key, value) end
  end,
}

-- Errors that end the call, and not one record.
local FATAL <const> = { interrupted = true, cancelled = true, closed = true }

---@class fzlua.RecordWorker
---@field records userdata the records of the current block
---@field acc table|nil the sums of --fold
---@field loop fun() the loop over the records; before the first record it finds out which one
local Worker = {}
Worker.__index = Worker

-- The loop that calls a function for each record.
local function calling(step, f)
  return function(value)
    local line, n = step(value)
    while n do line, n = step((f(line, n))) end
  end
end

-- The first loop: evaluate the expression for one record, and continue with the loop for values of
-- its type.
local function probing(self, value_of, loop)
  return function()
    local line, n = self.step()
    if not n then return end
    local value = value_of(line, n, self.acc)
    if type(value) == "function" then
      local f = value
      if self.acc then f = function(...) value(...) end end
      self.loop = calling(self.step, f)
      return self.loop(f(line, n))
    elseif self.acc then
      error("CODE of --fold is neither a statement nor a function", 0)
    else
      self.loop = loop
    end
    return self.loop(value)
  end
end

-- Compile CODE in a template, after it was compiled alone so that it cannot end the template. Only
-- CODE that ends in a comment needs a line end, which would be the position of errors.
local function fill(template, code, name)
  local function filled(text)
    return (template:gsub("%%s", function() return text end))
  end
  local chunk, message = load(filled(code), name)
  return chunk or load(filled(code .. "\n"), name), message
end

local function compile_expression(self, code, name)
  local ok, message = load("return " .. code, name)
  if not ok then return nil, message end
  local value_of, why = fill(VALUE, code, name)
  if not value_of then return nil, why end
  self.loop = probing(self, value_of(), not self.acc and fill(EXPRESSION, code, name)(self.step))
  return true
end

local function compile_statement(self, code, name)
  local ok, message = load(code, name)
  if not ok then return nil, message end
  local loop, why = fill(STATEMENT, code, name)
  if not loop then return nil, why end
  self.loop = loop(self.step, self.acc)
  return true
end

local function compile(self, options)
  local code = options.code
  if not self.acc then return compile_expression(self, code, "=--each") end
  local ok, message = compile_statement(self, code, "=--fold")
  return ok or compile_expression(self, code, "=--fold"), message
end

-- The sums of the block, which acc loses.
local function take_sums(acc)
  local sums = {}
  for key, value in next, acc do
    if not math.type(value) then
      Error.raise("error", "acc[%s] is a %s, not a number", core.error_text(key), type(value))
    end
    sums[key] = value
    acc[key] = nil
  end
  return sums
end

-- The current record has failed: repeat it, or note the failure. Returns whether to go on.
local function handle(self, failures, e)
  if Error.is(e) and FATAL[e.kind] then error(e, 0) end
  local at = self.records:at()
  if at == 0 then error(e, 0) end
  self.attempt = at == self.failing and self.attempt + 1 or 1
  self.failing = at
  if self.attempt <= self.retries then
    self.records:again()
    return true
  end
  failures[#failures + 1] = { at, self.attempt, Error.is(e) and e.message or core.error_text(e) }
  return self.continues
end

---Call CODE for the records of a block.
---@param text string the block
---@param n integer number of the record before it
---@param position integer where the number of the current record is shared
---@return {[1]: string|table, [2]: number, [3]: table[]} result output or sums, seconds, failures
function Worker:call(text, n, position)
  local began, failures, records = core.now(), {}, self.records
  records:open(text, n, position)
  self.failing = nil
  local go_on = true
  while go_on do
    local ok, e = pcall(self.loop)
    -- `return` and `break` in a statement end the loop early.
    if ok then go_on = records:has_more() else go_on = handle(self, failures, e) end
  end
  local output = records:take()
  return { self.acc and take_sums(self.acc) or output, core.now() - began, failures }
end

---@param options {code: string, fold: boolean, json: boolean, separator: string, seed: integer,
---retries: integer, continues: boolean, blocks: integer}
---@return fzlua.RecordWorker|nil
---@return string|nil message why CODE cannot be compiled
function record_worker.new(options)
  local records = core.records(options.separator, options.seed, options.blocks,
    function(value) return (json.encode(value)) end, options.json and json.decode or nil)
  local self = setmetatable({
    records = records, step = records:stepper(), retries = options.retries,
    continues = options.continues, acc = options.fold and setmetatable({}, SUMS) or nil,
  }, Worker)
  local ok, message = compile(self, options)
  if not ok then return nil, message end
  return self
end

return record_worker
