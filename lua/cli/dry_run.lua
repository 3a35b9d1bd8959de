--- dry_run.lua - fzlua -n: what a run would do, and why, without running anything.
--
-- If a function would run, its results have no digest yet. For the functions that read these
-- results, it is then not known whether their own results are recorded.

local CallCache = require "fzlua.call_cache"
local CallKeys = require "fzlua.call_keys"
local Invocation = require "fzlua.invocation"
local Store = require "fzlua.store"
local core = require "fzlua.core"
local dry_start = require "fzlua.dry_start"
local lists = require "fzlua.lists"
local literal = require "fzlua.literal"
local log = require "fzlua.log"
local messages = require "fzlua.messages"

local dry_run = {}

-- The position of the definition of a function, such as "pipeline.lua:31".
local function place(f)
  local info = debug.getinfo(f, "S")
  local line = info.linedefined > 0 and ":" .. info.linedefined or ""
  return info.short_src .. line
end

-- A text that says how a call of a function differs from its last recorded call.
local function difference(call, last, f)
  if call.func ~= last.func then
    return ("the function at %s, or what it uses, has changed"):format(place(f))
  end
  if call.version ~= last.version then return "its version has changed" end
  if call.seed ~= last.seed then return "the seed has changed" end
  local changed = {}
  for i, name in ipairs(call.names) do
    if call.inputs[i] ~= last.inputs[i] then changed[#changed + 1] = name end
  end
  if #changed > 0 then return ("changed: %s"):format(table.concat(changed, ", ")) end
  return "its result was removed, or a file in it has changed"
end

-- A text that says why a call that is not recorded runs.
local function reason(store, name, call, f)
  if call and store:is_broken(call.key) then return "its result cannot be read" end
  local failure, key = store:failure(name)
  if failure and (not (call and key) or key == call.key) then
    return "it failed: " .. failure:match "^[^\n]*"
  end
  local last = store:last(name)
  if last then return difference(call, last, f) end
  return failure and "it failed, and it or its inputs have changed since" or "new"
end

-- A text with the number of recorded elements of a map whose list is an input of the script.
local function elements_text(keys, store, plan, node, call, values)
  local list = values[node.inputs[1]]
  if not node.map or plan.maker[node.values[1]] or type(list) ~= "table" then return "" end
  local ok, n = pcall(lists.length, list)
  if not ok or n == 0 then return "" end
  local base, wanted, count = keys:elements(node, call), {}, 0
  for i = 1, n do wanted[i] = keys:element(base, list[i], i) or false end
  local found = store:find_all(wanted, 1, function() return base end)
  for _, found_at in ipairs(found.places) do count = count + (found_at and 1 or 0) end
  store:flush()
  return ("; %d of %d elements are recorded"):format(count, n)
end

-- Decide about a node, after the nodes that make its inputs. Returns the action and the reason.
local function decide(keys, store, plan, node, values)
  if not keys.wants(node) then return "run", "it is not recorded" end
  if keys.why[node.id] then return "run", "it cannot be recorded: " .. keys.why[node.id] end
  local inputs = {}
  for i, value in ipairs(node.values) do
    if plan.maker[value] and not keys.digests[value] then
      local name = CallKeys.name(node)
      if not store:last(name) then return "run", reason(store, name) end
      return "perhaps", ("%s is made anew"):format(node.inputs[i])
    end
    local why
    inputs[i], why = keys:digest(keys.digests, value, function() return values[node.inputs[i]] end)
    if not inputs[i] then return "run", ("input %s: %s"):format(node.inputs[i], why) end
  end
  local call = keys:call(node, inputs, keys:key(node.id, inputs))
  local recorded = store:find(call.key, call)
  if not recorded then
    local text = elements_text(keys, store, plan, node, call, values)
    return "run", reason(store, call.name, call, node.registration.f) .. text
  end
  for k, digest in ipairs(recorded.digests) do
    keys.digests[node.first + k - 1] = digest
  end
  return "recorded", ""
end

-- Call visit(node) for all nodes. The makers of the inputs of a node come before the node. Apart
-- from that, the nodes come in the order of the plan.
local function each_node(plan, visit)
  local seen = {}
  local function go(id)
    if seen[id] then return end
    seen[id] = true
    for _, value in ipairs(plan.nodes[id].values) do
      if plan.maker[value] then go(plan.maker[value]) end
    end
    visit(plan.nodes[id])
  end
  for id in ipairs(plan.nodes) do go(id) end
end

-- Open the store of the results. Returns nil if there is no file yet, or if the file cannot be
-- used. The second case is logged as a warning.
local function open_store(path)
  local ok, store = pcall(Store.open, path, true)
  if ok then return store end
  local file = io.open(path)
  if not file then return nil end
  file:close()
  log.warn("%s", store)
end

---The rows of a plan: action ("run", "perhaps" or "recorded"), name of the function, reason.
---@param pipeline fzlua.Pipeline
---@param plan fzlua.Plan
---@param values table the inputs
---@param given table the options of the invoke
---@return string[][]
function dry_run.rows(pipeline, plan, values, given)
  local options = Invocation.options(given, pipeline:_defaults_of(plan))
  local store = open_store(Store.path_of(options))
  local wants = CallCache.wants(options)
  local keys = CallKeys.new(plan, pipeline:_states(), options.given_seed,
    function(node) return store and wants(node) end)
  keys.wants, keys.digests = wants, {}
  local rows = {}
  each_node(plan, function(node)
    local action, why = "run", "new"
    if store or not wants(node) then
      action, why = decide(keys, store, plan, node, values)
    end
    rows[node.id] = { action, literal.safe(CallKeys.name(node)), literal.safe(why) }
  end)
  if store then store:close() end
  return rows
end

---Print what would run.
---@return integer status
function dry_run.print(pipeline, plan, values, given)
  local rows = dry_run.rows(pipeline, plan, values, given)
  local width, counts = 0, { run = 0, perhaps = 0, recorded = 0 }
  for _, row in ipairs(rows) do
    width = math.max(width, #row[2])
    counts[row[1]] = counts[row[1]] + 1
  end
  for _, row in ipairs(rows) do
    -- Pad here, because string.format pads to at most 99 bytes.
    local name = row[2] .. (" "):rep(width - #row[2])
    local line = ("%-8s  %s  %s"):format(row[1], name, row[3])
    io.write((line:gsub(" +$", "")), "\n")
  end
  io.write(("%d to run, %d perhaps, %d recorded\n"):format(counts.run, counts.perhaps,
    counts.recorded))
  return messages.OK
end

-- End the script at a call that would run functions, and that is not an invoke.
local function refuse(what)
  local source, line = dry_start.place()
  local where = ("%s:%s"):format((source or "?"):gsub("^[@=]", ""), line or "?")
  messages.complain(("--dry-run: %s at %s would run; only functions of an invoke are listed")
    :format(what, where))
  os.exit(messages.WRONG_USE, true)
end

local REFUSED <const> = { batch = "a map", imap = "an imap", apply = "a call of a pool",
  call = "a call of a pool", exec = "a program" }

-- Refuse processes, but not the server of a manager, which runs no function of the script.
local function refuse_processes()
  local start = core.process
  core.process = function(...)
    if debug.getinfo(2, "S").source ~= "@fzlua/manager.lua" then refuse "a process" end
    return start(...)
  end
end

---Make the script print what its first invoke would run, and end there. If a map, a stream, a call
---of a pool, a process or a program comes before the invoke, the script ends with an error.
function dry_run.begin()
  for name, what in pairs(REFUSED) do core[name] = function() refuse(what) end end
  refuse_processes()
  require "fzlua.stream".new = function() refuse "a stream" end
  CallCache.new = function() return nil end -- so that no file of recorded results is opened
  require "fzlua.item_cache".new = CallCache.new
  Invocation.start = function(pipeline, plan, _, values, given)
    os.exit(dry_run.print(pipeline, plan, values, given), true)
  end
end

return dry_run
