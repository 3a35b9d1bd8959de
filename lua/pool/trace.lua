--- trace.lua - fzlua.Trace: records of the attempts of calls, as a list and in a file.
--
-- core.trace has the records. This module gives them names: functions of a plan have the names of
-- their nodes, and calls of a map or a pool are named by the position of their function. The trace
-- of the command (--trace) is in fzlua.defaults, and contains the calls of the whole script. The
-- trace of an invoke or a stream contains the calls of one run.

local core = require "fzlua.core"
local Error = require "fzlua.error"
local defaults = require "fzlua.defaults"
local log = require "fzlua.log"

---@class fzlua.Trace a list of records, see fzlua.TraceEvent
---@field _records userdata
---@field _pid integer of the process that made the trace: a fork of this process writes nothing
---@field _report string|nil the name of a page to write at the end
---@field _explains boolean|nil whether to print what bounded the run at the end
---@field _plans fzlua.RunPlan[] graphs for the page and the explanation
---@field _known table<fzlua.Plan, boolean> plans whose graph is in `_plans`
---@field _began number processor seconds of this process at the start
---@field _opened number time of the start
---@field _load fzlua.MachineLoad|false the load of the machine at the start, for --explain
---@field _jobs integer the maximum number of functions that a run executes at once
---@field _changes table[]|nil what each stage of the last chain did to the values
local Trace = { __name = "fzlua.Trace", __fzpack = false } -- cannot be sent

-- Maximum number of graphs that are kept for a page.
local PLANS_MAX <const> = 20

---@class fzlua.TraceOptions
---@field path string|boolean|nil the name of a file, whose extension is its format
---@field keeps boolean|nil whether the records are kept as a list, too
---@field report string|nil the name of the page of the run
---@field explains boolean|nil
---@field title string|nil of the page
---@field version string|nil of the command

-- The name of the script, for a report that the script itself has requested.
local function script_name()
  local words = rawget(_G, "arg")
  local name = type(words) == "table" and words[0]
  return type(name) == "string" and name or "fzlua"
end

---@param options fzlua.TraceOptions
---@return fzlua.Trace
function Trace.open(options)
  local file = type(options.path) == "string" and options.path or nil
  if options.report then
    local ok, why = require "fzlua.run_report".probe(options.report)
    if not ok then
      error(Error.new { kind = "error", message = "opening the report " .. why })
    end
  end
  local keeps = options.keeps or options.report or options.explains
  local records = core.trace(file, file and file:match "[^.]*$", keeps and true or false)
  return setmetatable({ _records = records, _pid = core.pid(), _report = options.report or false,
    _explains = options.explains or false, _plans = {}, _known = setmetatable({}, { __mode = "k" }),
    _jobs = 0, _title = options.title or script_name(), _version = options.version,
    _began = os.clock(), _opened = core.now(),
    _load = options.explains and require "fzlua.machine_load".read() or false }, Trace)
end

-- The graph of a plan, with its names, but without the plan, which keeps functions alive.
local function graph_of(plan, options)
  local graph = { graph = plan.graph, names = plan:names(), window = options.limit or nil,
    is_window_fixed = options.inflight ~= nil }
  if plan.nodes[1] and plan.nodes[1].stage then
    graph.layers = {}
    for i, pool in ipairs(plan.pools) do graph.layers[i] = pool.layer end
  end
  return graph
end

local function add_plan(self, plan, options)
  if not (self._report or self._explains) or self._known[plan] then return end
  self._known[plan] = true
  self._jobs = math.max(self._jobs, options.jobs or 0)
  if #self._plans < PLANS_MAX then self._plans[#self._plans + 1] = graph_of(plan, options) end
end

-- The trace of this run alone, if the options of the run ask for a trace or a report; else nil.
local function own_trace(options)
  local path = options.trace
  if path == defaults.trace then path = nil end
  if not path and not options.report then return nil end
  return Trace.open { path = path, keeps = true, report = options.report }
end

---Make the trace of an invoke or a stream, or use the trace of the command. Replaces the user's
---value of options.trace by the value for the engine.
---@param plan fzlua.Plan
---@param options table
---@return fzlua.Trace|nil of this run alone
function Trace.start(plan, options)
  local own = own_trace(options)
  local trace = own or options.trace or nil
  if trace then add_plan(trace, plan, options) end
  options.trace = trace and trace._records or nil
  options.trace_names = trace and plan:names() or nil
  return own
end

---Keep the changes of values by each stage, if a report of the run will be written.
---@param options table of the run
---@param rows fun(): table[]
function Trace.add_changes(options, rows)
  local trace = options.own_trace or defaults.trace
  if trace and trace._report then trace._changes = rows() end
end

-- Label -> names of the call for core.trace, and the window of an imap or a fold.
local calls, windows = {}, {}

---The label of a call of a user's function.
---@param what string the call, as the user writes it
---@param f function
---@return string
function Trace.label(what, f)
  local info = debug.getinfo(f, "S")
  if info.what == "C" or info.source:sub(1, 7) == "@fzlua/" then return what end
  return ("%s %s:%d"):format(what, info.short_src, info.linedefined)
end

---The records and names of a batch in the trace of the command.
---@param what string the call, as the user writes it
---@param f function
---@param window fzlua.RunWindow|nil of an imap or a fold
---@return userdata|nil records, userdata|nil names; nil without --trace
function Trace.of_call(what, f, window)
  local trace = defaults.trace
  if not trace then return nil end
  local label = Trace.label(what, f)
  windows[label] = window
  calls[label] = calls[label] or core.trace_names(label)
  return trace._records, calls[label]
end

-- Facts about the environment of the run. The arguments of the script and the passwords in URLs are
-- left out, because users send reports to other people.
local function environment(self)
  local facts = {
    { "Run", self._title }, { "Version", self._version or _VERSION },
    { "Processors", tostring(core.cpu_count()) },
    { "Written", os.date "%Y-%m-%d %H:%M:%S %z" },
  }
  local engine = defaults.engine
  if type(engine) == "string" then
    facts[#facts + 1] = { "Engine", (engine:gsub("//[^/]*@", "//…@")) }
  end
  return facts
end

-- The processors that all programs of this machine have used on average. Returns nil if this is
-- unknown, or if this process may not use all processors.
local function load_since(self)
  local load = self._load and require "fzlua.machine_load".read()
  local seconds = core.now() - self._opened
  if not load or load.processors ~= core.cpu_count() or seconds <= 0 then return nil end
  return { busy = load.busy - self._load.busy, seconds = seconds }
end

---The data for the report of the run, and for --explain.
---@return fzlua.RunSource
function Trace:source()
  local facts = environment(self)
  local names = {}
  for label in pairs(calls) do names[label] = true end
  if self._jobs > 0 then facts[#facts + 1] = { "Functions at once", tostring(self._jobs) } end
  return { records = self, page_records = self._records, plans = self._plans, call_names = names,
    environment = facts, title = self._title, jobs = self._jobs, processors = core.cpu_count(),
    windows = windows, script_cpu = os.clock() - self._began, load = load_since(self),
    run_cpu = self._records:cpu(), changes = rawget(self, "_changes") }
end

local function write_report(self)
  local ok, written, why = pcall(require "fzlua.run_report".write, self._report, self:source())
  local done = ok and written
  if not done then log.warn("the report was not written: %s", tostring(ok and why or written)) end
  self._report = false
  return done
end

local function explain(self)
  local ok, text = pcall(require "fzlua.run_advice".text, self:source())
  local written = io.stderr:write(ok and text or "explain: " .. tostring(text), "\n")
  self._explains = false
  return ok and written
end

---End the file of the trace, and write the report. Errors are logged and not raised, because the
---run itself has not failed.
---@return boolean whether both were written completely
function Trace:close()
  local e = self._records:close()
  if e then log.warn("%s; the trace is incomplete", e.message) end
  local done = not e
  if core.pid() ~= self._pid then return done end
  if self._explains then done = explain(self) and done end
  if self._report then done = write_report(self) and done end
  return done and true or false
end

function Trace:__len()
  return self._records:count()
end

function Trace:__index(key)
  if math.type(key) == "integer" then return rawget(self, "_records"):get(key) end
  return Trace[key]
end

function Trace:__tostring()
  return ("fzlua.Trace (%d events)"):format(#self)
end

return Trace
