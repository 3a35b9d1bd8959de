-- The annotations of lua/meta name what objects really have, and nothing else: functions, methods,
-- fields and options. So the reference, which is made from them, is complete.

local t = ...
local tests = {}

local annotations = dofile "tools/annotations.lua"
local check = require "fzlua.check"
local sections, classes = annotations.all(".")

-- Members of a class that are not for users: other modules of the library call them.
local INTERNAL <const> = {
  ["fz.Error"] = "about raise graph",
  ["fzlua.AsyncResult"] = "new settle is_list note_awaited log_unawaited is",
  ["fzlua.Future"] = "new is_list note_awaited log_unawaited is",
  ["fzlua.Group"] = "done is_list what",
  ["fzlua.Pool"] = "new pump",
  ["fzlua.Task"] = "finish is_list note_awaited log_unawaited is new",
}

local function sorted(set)
  local names = {}
  for name in pairs(set) do names[#names + 1] = name end
  table.sort(names)
  return names
end

local function set_of(names)
  local set = {}
  for name in names:gmatch "%S+" do set[name] = true end
  return set
end

local function same_names(what, described, real)
  local findings = {}
  for _, name in ipairs(sorted(real)) do
    if not described[name] then findings[#findings + 1] = name .. " is not described" end
  end
  for _, name in ipairs(sorted(described)) do
    if not real[name] then findings[#findings + 1] = name .. " does not exist" end
  end
  if findings[1] then error(what .. ": " .. table.concat(findings, ", "), 0) end
end

-- The described members of a class: its fields, its methods, and those of its parents.
local function described(name)
  local class = assert(classes[name], name .. " is not described")
  local set = {}
  for _, field in ipairs(annotations.fields(class, classes)) do
    if not field.name:find "^%[" then set[field.name] = true end
  end
  while class do
    for _, section in ipairs(sections) do
      for _, entry in ipairs(section.entries) do
        local owner, member = (entry.arguments and entry.name or ""):match "^(.+)[.:](.+)$"
        if owner and owner == class.name then set[member] = true end
      end
    end
    class = classes[class.parent]
  end
  return set
end

-- The value of the upvalue `wanted` of a function of the library; nil if it has none.
local function upvalue(f, wanted)
  for i = 1, math.huge do
    local name, value = debug.getupvalue(f, i)
    if not name then return nil end
    if name == wanted then return value end
  end
end

local function add_names(set, from)
  for name in pairs(from) do
    if type(name) == "string" and not name:find "^_" then set[name] = true end
  end
end

-- The members that an object's metatable gives it: those of the table __index and of its own
-- parents, or of the tables that the function __index reads.
local function members(mt)
  local set, index = {}, mt.__index
  if type(index) == "function" then
    local c_methods = select(2, debug.getupvalue(index, 1))
    for _, from in ipairs { upvalue(index, "methods") or false, upvalue(index, "getters") or false,
      upvalue(index, "Pool") or false, upvalue(index, "") and c_methods or false } do
      if from then add_names(set, from) end
    end
  end
  while type(index) == "table" do
    add_names(set, index)
    index = (getmetatable(index) or {}).__index
  end
  return set
end

-- Call f(class, object) with an object of each class, whose optional fields are set.
local function objects(f)
  local s, m <close> = fz.stage { name = "s", init = print }, fz.manager()
  s.workers = 1
  local chain = fz.chain { s }:invoke({}, { trace = true })
  local dag = fz.dag():invoke({}, { trace = true })
  local pool <close> = fz.pool { workers = 1, idle = 60 }
  local a = fz.pipe()
  local lock = fz.lock()
  local p <close> = fz.process(print):start()
  p:join()
  local task = fz.spawn(print)
  task:cancel()
  for name, object in pairs {
    Stage = s, Chain = chain, Dag = dag, Pool = pool, Process = p,
    Future = fz.future(), Task = task, AsyncResult = pool:apply_async(type, { 1 }),
    Queue = fz.queue(), Pipe = a, Lock = lock, Semaphore = fz.semaphore(1), Event = fz.event(),
    Condition = fz.condition(), Barrier = fz.barrier(1), Value = fz.value "d",
    Array = fz.array("d", 1), Manager = m, Guard = lock:guard(), File = fz.file "f",
  } do f("fzlua." .. name, object) end
  fz.group(function(g) f("fzlua.Group", g) end)
end

tests["fz has the functions that are described"] = function()
  local real = {}
  add_names(real, fz)
  add_names(real, upvalue(getmetatable(fz).__index, "LAZY"))
  local names = {}
  for _, section in ipairs(sections) do
    for _, entry in ipairs(section.entries) do
      local name = (entry.name or ""):match "^fz%.([%w_]+)$"
      if name then names[name] = true end
    end
  end
  same_names("fz", names, real)
  for _, name in ipairs(sorted(real)) do assert(fz[name] ~= nil, name) end
end

-- Fields that the function __index of a class computes without a table of their names.
local COMPUTED <const> = {
  ["fzlua.Pool"] = "workers", ["fzlua.Value"] = "value",
  ["fzlua.File"] = "path", ["fzlua.Barrier"] = "parties n_waiting broken",
}

tests["objects have the methods and fields that are described"] = function()
  local seen = {}
  objects(function(class, object)
    local real = members(debug.getmetatable(object))
    for name in pairs(set_of(COMPUTED[class] or "")) do
      assert(object[name] ~= nil, name)
      real[name] = true
    end
    for name in pairs(set_of(INTERNAL[class] or "")) do
      assert(real[name], class .. " has no " .. name)
      real[name] = nil
    end
    local names = described(class)
    same_names(class, names, real)
    for name in pairs(names) do assert(object[name] ~= nil, class .. "." .. name) end
    seen[class] = true
  end)
  assert(#sorted(seen) == 21)
end

tests["proxies have the methods that are described"] = function()
  local proxies = upvalue(require "fzlua.proxy".new, "classes")
  for noun, class in pairs { dict = "Dict", list = "List", namespace = "Namespace" } do
    same_names(noun, described("fzlua." .. class .. "Proxy"), proxies[noun].methods)
  end
end

tests["fz.Error and fz.log have the functions that are described"] = function()
  local real, names = {}, described "fz.Error"
  add_names(real, fz.Error)
  for name in pairs(set_of(INTERNAL["fz.Error"])) do real[name] = nil end
  for _, field in ipairs(classes["fz.Error"].fields) do names[field.name] = nil end
  same_names("fz.Error", names, real)
  real = { level = fz.log.level }
  add_names(real, fz.log)
  same_names("fz.log", described "fzlua.Log", real)
end

-- Options of calls: name of the set that checks them -> name of the class that describes them.
local OPTIONS <const> = {
  FUNCTION = "Function", INVOKE = "Invoke", STREAM = "Stream", STAGE = "Stage", DAG = "Dag",
  CPU_COUNT = "CpuCount", EXEC = "Exec", SCRIPTS = "Scripts", POOL = "Pool", APPLY = "Apply",
  MAP = "Map", MAP_ASYNC = "MapAsync", IMAP = "Imap", FOLD = "Fold", FORK_FOLD = "ForkFold",
  CHUNKS = "Chunks", PROGRESS = "Progress", FORK_MAP = "ForkMap",
}

tests["calls accept the options that are described"] = function()
  local sets = {}
  for name, value in pairs(check) do
    if name:find "^[A-Z_]+$" and type(value) == "table" and value[1] == nil then
      sets[name] = value
      local class = OPTIONS[name] or error("no class for the options " .. name)
      same_names(class, described(("fzlua.%sOptions"):format(class)), value)
    end
  end
  same_names("option sets", OPTIONS, sets)
end

tests["every option says what it is, its default or its unit"] = function()
  for name, class in pairs(classes) do
    if name:find "Options$" then
      for _, field in ipairs(class.fields) do
        assert(field.optional, ("%s: %s is not optional"):format(name, field.name))
        assert(#field.text > 10, ("%s: %s has no text"):format(name, field.name))
      end
    end
  end
end

local function keys_of(list)
  local set = {}
  for _, each in ipairs(list) do
    for key in pairs(each) do set[key] = true end
  end
  return set
end

-- An error on a node; a shell script replaces ssh.
local function error_on_node()
  local ssh = t.file 'for word; do :; done; exec sh -c "$word"'
  local script = t.file "local _, e = pcall(fz.map, error, {1}) io.write(fz.pack(e))"
  return fz.unpack((t.shell(([[
FZLUA_SSH='sh %s' FZLUA_WORKER_COMMAND=$FZLUA "$FZLUA" --engine ssh://a %s]]):format(ssh, script))))
end

-- Errors of every origin. Each field of an error is set in at least one of them.
local function errors()
  local list = {}
  local function collect(f, ...)
    local _, e = pcall(f, ...)
    list[#list + 1] = e
  end
  local s, both = fz.stage "s", fz.barrier(2) -- A and B run at the same time when one fails
  function s.A() both:wait() error "a" end
  function s.B() both:wait() error "b" end
  local chain <close> = fz.chain { s }
  collect(chain.invoke, chain, {}, { jobs = 2 })
  s:map("list", function(x) if x == 2 then error "c" end end)
  collect(chain.invoke, chain, { list = print })
  collect(function()
    for _ in chain:stream({ { list = { 1, 2 } } }, { outputs = { "list" } }) do end
  end)
  s:register("C", { "none" }, print)
  collect(fz.chain({ fz.chain { s } }).invoke, fz.chain { s })
  collect(fz.map, function() os.execute "kill -9 $PPID" end, { 1 })
  collect(fz.exec, { "false" }, { check = true })
  collect(fz.map, error, { "d" }, { retries = 1 })
  list[#list + 1] = error_on_node()
  return list
end

tests["errors have the fields that are described"] = function()
  local names = {}
  for _, field in ipairs(classes["fz.Error"].fields) do names[field.name] = true end
  same_names("fz.Error", names, keys_of(errors()))
end

tests["progress functions get the fields that are described"] = function()
  local events = {}
  local function note(_, _, event) events[#events + 1] = event end
  local s = fz.stage "s"
  s:map("list", function(x) return x end)
  local chain <close> = fz.chain { s }
  for _ in chain:stream({ { list = { 1, 2 } } }, { progress = note }) do end
  fz.map(type, { 1 }, { progress = note })
  local store = os.tmpname()
  os.remove(store)
  for _, suffix in ipairs { "", "-wal", "-shm" } do t.files[#t.files + 1] = store .. suffix end
  for _ = 1, 2 do chain:invoke({ list = { 1 } }, { progress = note, resume = store }) end
  same_names("progress", described "fzlua.ProgressEvent", keys_of(events))
end

tests["results have the fields that are described"] = function()
  local ran = { fz.exec { "true" }, (fz.exec { "sh", "-c", "kill -9 $$" }),
    (select(3, fz.exec({ "sleep", "9" }, { timeout = 0.05 }))) }
  same_names("fz.exec", described "fzlua.Ended", keys_of(ran))
  local pool <close> = fz.pool(1)
  same_names("fz.current_process", described "fzlua.CurrentProcess",
    keys_of { pool:apply(fz.current_process) })
  local results = fz.map(type, {}, { on_error = "continue" })
  same_names("fz.map", described "fzlua.Results", keys_of { results })
end

tests["tables of chains and dags have the columns that are described"] = function()
  local a, b = fz.stage "a", fz.stage "b"
  function a.A(A) return A end
  function b.B(A) return A end
  local g = fz.dag()
  g:add("B", "A", print)
  same_names("edge_table", described "fzlua.EdgeRow", keys_of((a >> b).edge_table))
  same_names("chain:as_table", described "fzlua.ChainRow", keys_of((a >> b):as_table()))
  local chain <close> = a >> b
  a:register("L", {}, function() return { { x = 1 } } end)
  b:register("L", function() return { { y = 1 } } end)
  chain:invoke({ A = 1 }, { keep = "all" })
  same_names("chain:changes", described "fzlua.ChangeRow", keys_of(chain:changes()))
  same_names("dag:as_table", described "fzlua.DagRow", keys_of(g:as_table()))
end

-- Parameters that only the library uses.
local HIDDEN <const> = { ["fz.pool"] = 1 }

-- Check that a Lua function without "..." has as many parameters as its description.
local function check_arguments(entry, f)
  local info = debug.getinfo(f, "uS")
  local nparams = #entry.params + (entry.name:find ":" and 1 or HIDDEN[entry.name] or 0)
  if info.what == "C" or info.isvararg then return end
  if entry.params[#entry.params] and entry.params[#entry.params].name == "..." then return end
  t.equal({ entry.name, info.nparams }, { entry.name, nparams })
end

tests["functions have the parameters that are described"] = function()
  local checked = 0
  objects(function(class, object)
    for _, section in ipairs(sections) do
      for _, entry in ipairs(section.entries) do
        local method = entry.name and entry.name:match "^(.+):" == classes[class].name
          and entry.name:match ":(.+)$"
        if method then
          check_arguments(entry, object[method])
          checked = checked + 1
        end
      end
    end
  end)
  for _, section in ipairs(sections) do
    for _, entry in ipairs(section.entries) do
      local name = entry.arguments and entry.name:match "^fz%.([%w_]+)$"
      if name then check_arguments(entry, fz[name]) end
    end
  end
  assert(checked > 80, checked)
end

return tests
