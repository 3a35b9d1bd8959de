--- records.lua - fzlua --each and --fold: call CODE for each record of files or of standard input.
--
-- Blocks of records go through the window of an imap. If a worker dies or takes too long, its
-- block is run again in parts, so that only the record at which the worker stopped fails.

local Error = require "fzlua.error"
local Pool = require "fzlua.pool"
local core = require "fzlua.core"
local defaults = require "fzlua.defaults"
local progress = require "fzlua.progress"
local record_source = require "fzlua.record_source"
local record_sums = require "fzlua.record_sums"
local record_worker = require "fzlua.record_worker"
local messages = require "fzlua.messages"

local records = {}

local BLOCKS_PER_WORKER <const> = 4 -- maximum number of blocks read and not yet printed

-- Ratio of the time that a block should take to the timeout of one record.
local TIMEOUT_SHARE <const> = 1 / 4

-- Index in the shared memory for a block that is run again.
local AGAIN <const> = 0

-- Kinds of errors that a single record of a block may have caused.
local LOSSES <const> = { crash = true, timeout = true, memory = true }

---@class fzlua.RecordJob
---@field status integer exit status
---@field stopped boolean whether to do nothing more
---@field done integer records with a result; for the progress line
---@field failed integer
---@field sums table|nil of --fold
---@field sent table<integer, fzlua.RecordBlock> blocks whose results are pending, by number
---@field free integer[] indexes of positions that no block in `sent` has

-- Report a failure. Returns whether to go on with the other records.
local function fail(self, fmt, ...)
  self.status = messages.FAILED
  self.stopped = self.stopped or not self.continues
  messages.complain(fmt:format(...))
  return not self.stopped
end

-- Report that record number `at` of a block has failed. The record is not tried again.
local function fail_record(self, block, at, attempt, message)
  self.failed = self.failed + 1
  local attempts = attempt > 1 and ("attempt %d: "):format(attempt) or ""
  fail(self, "%s:%d: %s%s", block.name, block.line + at, attempts, message)
end

-- Report that a whole block has failed, and stop.
local function fail_block(self, block, message)
  self.continues = false
  local first, last = block.line + 1, block.line + block.records
  local lines = first == last and first or first .. "-" .. last
  fail(self, "%s:%s: %s", block.name, lines, message)
end

local function write(self, text)
  if text == "" then return end
  local ok, _, code = io.stdout:write(text)
  if ok then ok, _, code = io.stdout:flush() end
  if ok then return end
  self.host.output_failed(code)
  self.status, self.stopped = messages.FAILED, true
end

local function accept(self, block, result)
  local output, _, failures = table.unpack(result, 1, 3)
  if self.sums then record_sums.add(self.sums, output) else write(self, output) end
  self.done = self.done + block.records - #failures
  for _, failure in ipairs(failures) do fail_record(self, block, table.unpack(failure, 1, 3)) end
end

local recover

-- Run a part of a block again, and handle its result.
local function run_again(self, block, attempt)
  if self.stopped or block.records == 0 then return end
  self.worker.records:clear_position(AGAIN)
  local ok, result = pcall(self.pool.apply, self.pool, self.call, block.text, block.n, AGAIN)
  if ok then return accept(self, block, result) end
  return recover(self, block, result, attempt)
end

-- Handle the end of the worker of a block. The record that the worker had reached is repeated
-- alone, and the others are run again. A timeout of a block with several records is not an attempt
-- of this record, because the timeout is for one record.
function recover(self, block, e, attempt)
  if not Error.is(e) or e.kind == "interrupted" then error(e, 0) end
  local at = LOSSES[e.kind] and self.worker.records:position(block.position or AGAIN) or 0
  if at == 0 or at > block.records then return fail_block(self, block, e.message) end
  local source, alone = self.source, block
  if block.records > 1 then
    run_again(self, source:part(block, 1, at - 1), 1)
    alone, attempt = source:part(block, at, at), e.kind == "timeout" and 0 or 1
  end
  if attempt > self.retries then
    if not self.stopped then fail_record(self, alone, 1, attempt, e.message) end
  else
    run_again(self, alone, attempt + 1)
  end
  return run_again(self, source:part(block, at + 1, block.records), 1)
end

-- The arguments for the next block: its text, the number of records before it, and its index in the
-- shared memory.
local function send(self)
  if self.stopped then return nil end
  local block, number = self.source:next()
  if not block then return nil end
  block.position = table.remove(self.free)
  self.worker.records:clear_position(block.position)
  self.sent[number] = block
  return { block.text, block.n, block.position }
end

-- Handle all blocks.
local function run(self)
  local function following() return send(self) end
  local function call(item) return self.call(table.unpack(item, 1, 3)) end
  local imap = self.unordered and self.pool.imap_unordered or self.pool.imap
  local options = { inflight = self.inflight, on_error = "continue", progress = false,
    cache = false }
  for number, result, e in imap(self.pool, call, following, options) do
    local block = self.sent[number]
    self.sent[number] = nil
    table.insert(self.free, block.position)
    if result then
      self.source:measure(block, result[2])
      accept(self, block, result)
    else
      recover(self, block, e, 1)
    end
    if self.shown then progress.poll() end
    if self.stopped then break end
  end
end

-- Check before the start that all files can be read. This is not checked if an option says to go on
-- with the other files.
local function check_files(self, files)
  for _, name in ipairs(self.continues and {} or files) do
    local why = name ~= "-" and core.blocks_check(name)
    if why then return fail(self, "%s: cannot be read: %s", name, why) end
  end
end

local function set_counts(lines, counted)
  lines[1].done, lines[1].failed = counted.done, counted.failed
end

-- A job with compiled CODE. Raises if CODE cannot be compiled.
local function new_job(options, host)
  local workers = math.max(defaults.jobs or core.cpu_count(), 1)
  local self = {
    host = host, status = messages.OK, stopped = false, done = 0, failed = 0, json = options.json,
    sums = options.fold and {} or nil, separator = options.null and "\0" or "\n",
    unordered = options.unordered, continues = defaults.on_error == "continue",
    retries = defaults.retries or 0, inflight = BLOCKS_PER_WORKER * workers,
    sent = {}, free = {},
  }
  for i = 1, self.inflight do self.free[i] = i end
  local worker, message = record_worker.new {
    code = options.each or options.fold, fold = options.fold ~= nil, json = options.json,
    separator = self.separator, seed = defaults.seed or core.random_seed(),
    retries = self.retries, continues = self.continues, blocks = self.inflight + 1,
  }
  if not worker then messages.fail(message) end
  self.worker = worker
  function self.call(...) return worker:call(...) end
  return self
end

-- Call CODE for the records of all files, and print the results.
local function run_files(self, files)
  local timeout = defaults.timeout
  self.source = record_source.new(files, self.separator, timeout and timeout * TIMEOUT_SHARE,
    function(name, message) return fail(self, "%s: %s", name, message) end)
  local pool <close> = Pool.new { timeout = timeout, retries = 0, on_error = "continue",
    progress = false, engine = "local" }
  self.pool = pool
  self.shown = defaults.progress and progress.start({ { label = "records" } }, self, set_counts,
    defaults.on_error)
  run(self)
  if self.sums and not self.stopped then
    write(self, record_sums.text(self.sums, self.separator, self.json))
  end
  if self.shown then self.shown:finish(self.stopped and "failed" or "done") end
end

local function check_options(options)
  for _, name in ipairs { "graph", "input", "dry-run" } do
    if options[name:gsub("%-", "_")] then
      messages.misuse("--%s needs a chain: --each and --fold have none", name)
    end
  end
  if options.run.resume then messages.misuse "--resume: no result of a line is recorded" end
  if options.run.engine then
    messages.misuse "--engine: lines are processed on this machine only"
  end
end

---Call CODE for all records, and print the results.
---@param options fzlua.CommandLine
---@param files string[] names; "-" or an empty list stands for standard input
---@param host table with the function output_failed, see cli/output.h
---@return integer status exit status
function records.run(options, files, host)
  check_options(options)
  -- Blocks are long strings, which soon double the size of the heap. With the default limit this
  -- would start full collections, which take a tenth of the time of a short loop.
  collectgarbage("generational", 50, 300)
  local job = new_job(options, host)
  if not files[1] then files = { "-" } end
  check_files(job, files)
  if not job.stopped then run_files(job, files) end
  return job.status
end

return records
