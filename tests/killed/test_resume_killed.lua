-- Runs that are killed at random moments and resumed: a call whose end was reported does not run
-- again, and the results are the same, byte by byte.
--
-- Each kind of run is killed three times in `make check`, and FZLUA_KILLS times in `make soak`.

local t = ...
local core = require "fzlua.core"
local recorded = assert(loadfile "tests/support/recorded.lua")(t)
local read, write = recorded.read, recorded.write
local tests = {}

local KILLS <const> = tonumber(os.getenv "FZLUA_KILLS") or 3
local TRIES <const> = 40 -- number of kills after which a run may end

-- A function notes its name in LOG when it begins; the name of a call is in ENDS when its end was
-- reported.
local HEAD <const> = [[
local function ran(name)
  local file <close> = io.open(LOG, "a")
  file:write(name, "\n")
end
local ends = io.open(ENDS, "a")
ends:setvbuf "no"
local function progress(_, _, e)
  if e.kind ~= "done" or e.cached then return end
  local place = e.index and (STREAM and "@" or "#") .. e.index or ""
  ends:write(e.output, place, e.element and "#" .. e.element or "", "\n")
end
]]

local DAG <const> = [[
local g, last = fz.dag(), nil
g:map("M", "list", function(x)
  ran("M#" .. x)
  fz.sleep(0.002)
  return { x, ("x"):rep(x * 3000), 0.1 * x }
end)
for i = 1, 45 do
  local name = "a" .. i
  g:add(name, last and { last } or {}, function(x)
    ran(name)
    fz.sleep(0.002)
    return { (x and x[1] or 0) + i, i / 3 }
  end)
  if i % 9 == 0 then last = name end
end
local list = {}
for i = 1, 30 do list[i] = i end
g:invoke({ list = list }, { resume = STORE, jobs = JOBS, progress = progress })
print(fz.digest(g.output), g.output[last][1])]]

local STREAM <const> = [[
local a, b = fz.stage "a", fz.stage "b"
a:register("X", "k", function(k)
  ran("X@" .. k)
  fz.sleep(0.002)
  return { k, k / 7 }
end)
b:register("Y", "X", function(x)
  ran("Y@" .. x[1])
  return ("y"):rep(x[1] * 5000)
end)
b:map("M", { "list", "X" }, function(e, x)
  ran(("M@%d#%d"):format(x[1], e))
  fz.sleep(0.001)
  return e * x[2]
end)
local items = {}
for i = 1, 40 do items[i] = { k = i, list = { 1, 2, 3 } } end
for i, out in (a >> b):stream(items, { resume = STORE, jobs = JOBS, progress = progress }) do
  print(i, fz.digest(out))
end]]

local MAP <const> = [[
local list = {}
for i = 1, 90 do list[i] = i end
local out = fz.map(function(x)
  ran("nil#" .. x)
  fz.sleep(0.002)
  return { x / 3, ("x"):rep(x * 1000) }
end, list, { resume = STORE, jobs = JOBS, progress = progress })
print(fz.digest(out))]]

local IMAP <const> = [[
local pool <close> = fz.pool(JOBS)
local i = 0
local function source()
  i = i + 1
  if i <= 90 then return i end
end
for n, v in pool:imap(function(x)
  ran("nil#" .. x)
  fz.sleep(0.002)
  return { x / 3, ("x"):rep(x * 1000) }
end, source, { resume = STORE, progress = progress }) do print(n, fz.digest(v)) end]]

-- Files of one run, and its script.
local function new_run(text, jobs)
  local run = { log = t.file "", ends = t.file "", store = os.tmpname() }
  os.remove(run.store)
  for _, suffix in ipairs { "", "-wal", "-shm" } do t.files[#t.files + 1] = run.store .. suffix end
  local head = HEAD:gsub("STREAM", tostring(text == STREAM)):gsub("e.output, place",
    "tostring(e.output), place")
  run.script = t.file(((head .. text):gsub("%f[%u]%u%u%u+%f[%U]", { LOG = ("%q"):format(run.log),
    ENDS = ("%q"):format(run.ends), STORE = ("%q"):format(run.store), JOBS = jobs })))
  return run
end

-- Run the script, and kill it after `seconds`. Returns the output, or nil if the script was killed,
-- and the time that it ran.
local function start(run, seconds)
  write(run.log, "")
  local before = core.now()
  local out, err, status = t.shell(("timeout -s KILL %.3f $FZLUA %s"):format(seconds, run.script))
  assert(status == 0 or status == 137, err)
  t.equal(err:gsub("Killed\n", ""), "")
  return status == 0 and out or nil, core.now() - before
end

-- Kill and resume a run until it ends. Returns how often it was killed.
local function end_run(run, usual, wanted, most)
  local ended, nkilled = {}, 0
  while true do
    local out = start(run, nkilled < most and 0.01 + math.random() * usual or 100)
    for name in read(run.log):gmatch "[^\n]+" do assert(not ended[name], name .. " ran again") end
    for name in read(run.ends):gmatch "[^\n]+" do ended[name] = true end
    if out then
      t.equal(out, wanted)
      assert(next(ended))
      return nkilled
    end
    nkilled = nkilled + 1
  end
end

local function check_store(path)
  local db <close> = core.database(path, 5, "write")
  t.equal(db:run "PRAGMA integrity_check", { { "ok" } })
end

local function soak(text, jobs)
  return function()
    local wanted, usual = start(new_run(text, jobs), 100)
    local nkilled = 0
    while nkilled < KILLS do
      local run = new_run(text, jobs)
      nkilled = nkilled + end_run(run, usual, wanted, math.min(TRIES, KILLS - nkilled))
      t.equal({ start(run, 100), read(run.log) }, { wanted, "" })
      check_store(run.store)
    end
    if KILLS > 10 then io.stderr:write(("%d kills\n"):format(nkilled)) end
  end
end

tests["a dag with a map, one function at a time"] = soak(DAG, "1")
tests["a dag with a map, eight functions at a time"] = soak(DAG, "8")
tests["a stream"] = soak(STREAM, "4")
tests["a map of the script"] = soak(MAP, "4")
tests["an imap"] = soak(IMAP, "4")

return tests
