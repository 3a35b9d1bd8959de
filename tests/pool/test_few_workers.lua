-- Fewer workers than requested: descriptors run out, and forks fail.

local t = ...
local tests = {}

-- Run the code `main` again and again, each time with more descriptors. The first time there are
-- too few for a worker. The code must end with "ok", or with errors about open files, and must not
-- use the processor while it waits.
local function with_few_descriptors(main)
  local script = t.file([[
local fz = require "fzlua"
local start, cpu = fz.now(), os.clock()
local function check(done, failed)
  local none = done == 0
  for e in pairs(failed) do
    none = none or e.kind == "error"
    assert(e.kind == "timeout" or e.kind == "error" and tostring(e):find "Too many open files",
      tostring(e))
  end
  if none then os.exit(0) end -- at some time no worker could start
  assert(fz.now() - start >= 0.6 and os.clock() - cpu < 0.4, "it did not wait quietly")
end
local function endless() while true do end end
]] .. main .. "\nprint 'ok'")
  local whole = 0
  for n = 18, 28, 2 do
    local out, err, status = t.shell(("ulimit -n %d; \"$FZLUA\" %s"):format(n, script))
    if out == "ok\n" then
      whole = whole + 1
    elseif out ~= "" or not (status == 0 and err == "" or err:find "Too many open files") then
      error(("%d descriptors: status %s: %s%s"):format(n, status, out, err))
    end
  end
  if whole < 2 then error "it never ran" end
end

tests["a chain ends, and its timeout is served"] = function()
  with_few_descriptors [[
local s = fz.stage "s"
s:register("endless", "x", endless)
for i = 1, 20 do s:register("f" .. i, "x", function(x) return x + i end) end
local c = fz.chain { s }
c:invoke({ x = 1 }, { jobs = 4, timeout = 0.6, on_error = "continue" })
local done, failed = 0, {}
for i = 1, 20 do done = done + (c.output["f" .. i] == 1 + i and 1 or 0) end
for _, e in pairs(c.errors) do failed[e] = true end
check(done, failed)
assert(done == 20 and c.errors.endless.kind == "timeout")]]
end

tests["a map ends, and its timeout is served"] = function()
  with_few_descriptors [[
local list = {}
for i = 1, 40 do list[i] = i end
local r = fz.map(function(i) if i == 3 then endless() end return -i end, list,
  { jobs = 4, timeout = 0.6, on_error = "continue", chunksize = 2 })
local done, failed = 0, {}
for i = 1, 40 do done = done + (r[i] == -i and 1 or 0) end
for _, e in pairs(r.errors) do failed[e] = true end
check(done, failed)
assert(done == 39 and r.errors[3].kind == "timeout")]]
end

tests["a worker that dies again and again while no other can be forked"] = function()
  with_few_descriptors [[
local pool <close> = fz.pool(4)
local done, failed = 0, {}
local results = {}
for i = 1, 12 do
  results[i] = pool:apply_async(function()
    if i % 3 == 0 then os.exit(1) elseif i == 1 then endless() end
    return i
  end, {}, { timeout = 0.6 })
end
for i, r in ipairs(results) do
  local ok, e = pcall(r.get, r)
  if ok then done = done + 1 elseif e.kind ~= "crash" then failed[e] = true end
end
check(done, failed)
assert(done == 7, done)]]
end

tests["Ctrl-C is served"] = function()
  local script = t.file [[
local fz = require "fzlua"
local pid = fz.current_process().pid
local ok, e = pcall(fz.map, function(i)
  if i == 1 then os.execute("kill -INT " .. pid) while true do end end
end, { 1, 2, 3, 4, 5, 6, 7, 8 }, { jobs = 4 })
print(ok, e.kind)]]
  for n = 22, 30, 2 do
    local out = t.shell(("ulimit -n %d; \"$FZLUA\" %s"):format(n, script))
    t.equal(out, "false\tinterrupted\n")
  end
end

return tests
