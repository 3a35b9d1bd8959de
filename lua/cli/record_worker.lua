--- record_worker.lua - the function that workers of --each and --fold call with a block of records.
--
-- CODE is compiled into a loop over the records of a block. So a record costs one call of C:
-- step() takes the result for one record and returns the next. The loop is chosen at the first
-- record, which shows whether the value of an expression is a function.

local Error = require "fzlua.error"
local core = require "fzlua.core"
local json = require "fzlua.json"
local record_sums = require "fzlua.record_sums"

local record_worker = {}

-- CODE begins on the first line, so that positions in error messages are positions in CODE.
local VALUE <const> = "return function(line, n, acc) return (%s) end"
local EXPRESSION <const> = "local __step = ... return function(__value) "
  .. "local line, n = __step(__value) while n do line, n = __step((%s)) end end"
local STATEMENT <const> = "local __step, acc = ... return function() "
  .. "local line, n = __step() while n do do %s end line, n = __step() end end"
local KEPT_STATEMENT <const> = "local __step, acc, __keep = ... return function() "
  .. "local line, n = __step() while n do do %s end __keep() line, n = __step() end end"

-- Kinds of errors that end the whole call, not only one record.
local FATAL <const> = { interrupted = true, cancelled = true, closed = true }

---@class fzlua.RecordWorker
---@field records userdata the records of the current block
---@field sums fzlua.RecordSums|nil of --fold
---@field loop fun() the loop over the records; at first a function that chooses this loop
local Worker = {}
Worker.__index = Worker

-- The loop that calls a function for each record.
local function calling(step, f)
  return function(value)
    local line, n = step(value)
    while n do line, n = step((f(line, n))) end
  end
end

-- Wrap `f` for --fold: the new function passes the sums to `f`, and returns nothing.
local function silent(f, sums)
  local acc, keep = sums.acc, sums.keep
  if not keep then return function(line, n) f(line, n, acc) end end
  return function(line, n)
    f(line, n, acc)
    keep()
  end
end

-- The first loop. It evaluates the expression for one record. If the value is a function, the next
-- loop calls this function for each record; else the next loop is `loop`. For --fold, `loop` runs
-- CODE as a statement, and is nil if CODE is not a statement.
local function probing(self, value_of, loop)
  return function()
    local line, n = self.step()
    if not n then return end
    local sums = self.sums
    local value = value_of(line, n, sums and sums.acc)
    if type(value) == "function" then
      if sums then value = silent(value, sums) end
      self.loop = calling(self.step, value)
      return self.loop(value(line, n))
    end
    if not loop then error("CODE of --fold is neither a statement nor a function", 0) end
    self.loop = loop
    if not sums then return loop(value) end
    if sums.keep then sums.keep() end
    return loop()
  end
end

-- Compile CODE in a template. The caller has compiled CODE alone, so CODE cannot close a bracket or
-- a block of the template. A newline is added after CODE only if CODE ends in a comment, because an
-- error could otherwise have the position of the new line.
local function fill(template, code, name)
  local function filled(text)
    return (template:gsub("%%s", function() return text end))
  end
  local chunk, message = load(filled(code), name)
  return chunk or load(filled(code .. "\n"), name), message
end

-- The first loop for an expression; nil and the reason if CODE is not an expression.
local function expression_loop(self, code, name, loop)
  local ok, message = load("return " .. code, name)
  if not ok then return nil, message end
  local value_of, why = fill(VALUE, code, name)
  if not value_of then return nil, why end
  return probing(self, value_of(), loop)
end

-- The loop for CODE that is a statement. Returns nil and the reason if CODE is not a statement.
local function statement_loop(self, code, name)
  local ok, message = load(code, name)
  if not ok then return nil, message end
  local sums = self.sums
  local loop, why = fill(sums.keep and KEPT_STATEMENT or STATEMENT, code, name)
  if not loop then return nil, why end
  return loop(self.step, sums.acc, sums.keep)
end

local function compile_each(self, code)
  local loop = fill(EXPRESSION, code, "=--each")
  local first, why = expression_loop(self, code, "=--each", loop and loop(self.step))
  if not first and load(code) then why = why .. " (CODE of --each is an expression)" end
  return first, why
end

-- Compile CODE for --fold. A function call can be an expression or a statement. It is treated as an
-- expression if its value is a function, and else as a statement.
local function compile_fold(self, code)
  local statement, message = statement_loop(self, code, "=--fold")
  local loop, why = expression_loop(self, code, "=--fold", statement)
  if loop or statement then return loop or statement end
  return nil, code:find "^%s*function%s*%(" and why or message
end

local function compile(self, options)
  local message
  self.loop, message = (self.sums and compile_fold or compile_each)(self, options.code)
  return self.loop ~= nil, message
end

-- Handle the failure of the current record: repeat the record, or note the failure. Returns whether
-- to go on with the block.
local function handle(self, failures, e)
  if Error.is(e) and FATAL[e.kind] then error(e, 0) end
  local at = self.records:at()
  if at == 0 then error(e, 0) end
  if self.sums then self.sums:drop() end
  self.attempt = at == self.failing and self.attempt + 1 or 1
  self.failing = at
  if self.attempt <= self.retries then
    self.records:again()
    return true
  end
  failures[#failures + 1] = { at, self.attempt, Error.is(e) and e.message or core.error_text(e) }
  return self.continues
end

-- Handle the end of the loop. A `return` or `break` in CODE may have ended the loop early. Returns
-- whether the block has more records.
local function resume(self)
  if self.sums and self.sums.keep then self.sums.keep() end
  return self.records:has_more()
end

---Call CODE for the records of a block.
---@param text string the block
---@param n integer number of records before the block
---@param position integer index in the shared memory for the number of the current record
---@return {[1]: string|table, [2]: number, [3]: table[]} result output or sums, seconds, failures
function Worker:call(text, n, position)
  local began, failures, records = core.now(), {}, self.records
  records:open(text, n, position)
  self.failing = nil
  local go_on = true
  while go_on do
    local ok, e = pcall(self.loop)
    if ok then go_on = resume(self) else go_on = handle(self, failures, e) end
  end
  local output = records:take()
  return { self.sums and self.sums:take() or output, core.now() - began, failures }
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
    continues = options.continues,
    sums = options.fold and record_sums.new(options.continues or options.retries > 0) or nil,
  }, Worker)
  local ok, message = compile(self, options)
  if not ok then return nil, message end
  return self
end

return record_worker
