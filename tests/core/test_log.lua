-- fz.log: one entry at a time on standard error, with the time, the level and the process.

local t = ...
local tests = {}

-- The text that a script writes to standard error, in an environment such as "FZLUA_LOG=debug".
local function logged(script, environment)
  local _, err, status = t.shell(("%s $FZLUA '%s' </dev/null"):format(environment or "",
    t.file(script)))
  t.equal(status, 0)
  return err
end

local STAMP = "^%d%d:%d%d:%d%d%.%d%d%d "

tests["an entry has the time, the level, the process and the text"] = function()
  local err = logged [[
    fz.log.info("%d of %s", 3, "five")
    fz.log.warn "careful"
    fz.log.error("%s", nil)
  ]]
  local lines = {}
  for line in err:gmatch "[^\n]*\n" do lines[#lines + 1] = line end
  t.equal(#lines, 3)
  assert(lines[1]:find(STAMP .. "INFO MainProcess%[%d+%]: 3 of five\n$"), lines[1])
  assert(lines[2]:find(STAMP .. "WARN MainProcess%[%d+%]: careful\n$"), lines[2])
  assert(lines[3]:find(STAMP .. "ERROR MainProcess%[%d+%]: nil\n$"), lines[3])
end

-- The levels of the entries of a script that logs at each level.
local function levels(script, environment)
  local list = {}
  local err = logged(script .. [[

    for _, name in ipairs{"debug", "info", "warn", "error"} do fz.log[name]("a text") end
  ]], environment)
  for name in err:gmatch "(%u+) MainProcess%[%d+%]: a text" do list[#list + 1] = name end
  return table.concat(list, " "), err
end

tests["the level drops entries below it"] = function()
  t.equal(levels "", "INFO WARN ERROR")
  t.equal(levels "fz.log.level = 'debug'", "DEBUG INFO WARN ERROR")
  t.equal(levels "fz.log.level = 'info'", "INFO WARN ERROR")
  t.equal(levels "fz.log.level = 'warn'", "WARN ERROR")
  t.equal(levels "fz.log.level = 'error'", "ERROR")
  t.equal(levels "fz.log.level = 'off'", "")
end

tests["FZLUA_LOG sets the first level, which the script can change"] = function()
  t.equal(levels("", "FZLUA_LOG=debug"), "DEBUG INFO WARN ERROR")
  t.equal(levels("", "FZLUA_LOG=off"), "")
  t.equal(levels("fz.log.level = 'error'", "FZLUA_LOG=debug"), "ERROR")
  t.equal(levels("assert(fz.log.level == 'warn')", "FZLUA_LOG=warn"), "WARN ERROR")
  local shown, err = levels("", "FZLUA_LOG=loud")
  t.equal(shown, "INFO WARN ERROR")
  t.match(err, 'FZLUA_LOG is "loud", not debug, info, warn, error or off: the level is info')
  assert(not err:find "FZLUA_LOG.*FZLUA_LOG", err)
end

tests["a level that does not exist raises at the caller"] = function()
  local log = require "fzlua.log"
  t.match(t.wrong(function() log.level = "loud" end),
    [[bad option 'level' to 'fz.log' ("debug" or "info" or "warn" or "error" or "off" expected]])
  t.match(t.wrong(function() log.level = nil end), "bad option 'level'")
  t.match(t.wrong(function() log.colour = 1 end), "no field 'colour'")
  t.equal(fz.log.level, "info")
  t.equal(fz.log.colour, nil)
end

tests["a format that does not fit loses no text"] = function()
  local err = logged [[
    fz.log.info "100% of all"
    fz.log.info("%d files", "many")
    fz.log.info("%s and %s", "one")
    fz.log.info({}, 1)
    fz.log.info(nil)
    fz.log.info(setmetatable({}, {__tostring = function() return "object %d" end}), 5)
    fz.log.info("%s", setmetatable({}, {__tostring = function() error "no" end}))
    fz.log.info(true)
  ]]
  t.match(err, "]: 100% of all (", "]: %d files many (", "number expected, got string",
    "]: %s and %s one (", "no value", "]: table: 0x", "]: nil\n", "]: object 5\n",
    "]: %s (a table whose __tostring raises) (", "]: true\n")
  t.equal(select(2, err:gsub("\n", "\n")), 8)
end

tests["a text of several lines continues on indented ones"] = function()
  local err = logged [[fz.log.info("one\ntwo\n\nthree\n\n")]]
  assert(err:find ": one\n    two\n    \n    three\n$", err)
end

tests["workers and processes log with their names"] = function()
  local err = logged [[
    local pool <close> = fz.pool(1)
    local pid = pool.workers[1]
    pool:apply(function() fz.log.info "from the worker" end)
    local p = fz.process(function() fz.log.info "from the process" end):start()
    p:join()
    p = fz.process(function()
      fz.map(function() fz.log.info "from its worker" end, {1}, {jobs = 1})
    end):start()
    p:join()
    io.stderr:write("pid ", pid, "\n")
  ]]
  local pid = err:match "pid (%d+)"
  t.match(err, ("INFO Worker-1[%s]: from the worker\n"):format(pid))
  assert(err:find "INFO Process%-1%[%d+%]: from the process\n", err)
  assert(err:find "INFO Worker%-1%[%d+%]: from its worker\n", err)
end

tests["workers have the level of their script"] = function()
  local err = logged [[
    fz.log.level = "error"
    fz.map(function(x) fz.log.warn "dropped" fz.log.error "shown" end, {1})
  ]]
  t.match(err, "shown")
  assert(not err:find("dropped", 1, true), err)
end

tests["entries of many workers are whole"] = function()
  local err = logged [[
    local list = {}
    for i = 1, 2000 do list[i] = i end
    fz.map(function(i) fz.log.info("entry %04d %s.", i, ("x"):rep(i % 90)) end, list, {jobs = 4})
  ]]
  local n = 0
  for line in err:gmatch "[^\n]*\n" do
    local i, xs = line:match(STAMP .. "INFO Worker%-%d+%[%d+%]: entry (%d+) (x*)%.\n$")
    assert(i and #xs == tonumber(i) % 90, line)
    n = n + 1
  end
  t.equal(n, 2000)
end

tests["entries of many workers are whole beside long lines of output"] = function()
  local script = t.file [[
    local list = {}
    for i = 1, 12 do list[i] = i end
    fz.map(function(i)
      fz.log.info("%s.%d.", ("x"):rep(1 << 20), i)
      print(("y"):rep(1 << 20) .. "." .. i .. ".")
    end, list, {jobs = 4})
  ]]
  local both = t.shell(("$FZLUA '%s' 2>&1 </dev/null"):format(script))
  local xs, ys = ("x"):rep(1 << 20), ("y"):rep(1 << 20)
  local seen = {}
  for line in both:gmatch "[^\n]*\n" do
    local text, i = line:match "^(.*)%.(%d+)%.\n$"
    assert(text == ys or text:sub(-#xs) == xs and text:find(STAMP .. "INFO Worker%-%d+%[%d+%]: x"))
    seen[#seen + 1] = i
  end
  table.sort(seen, function(a, b) return tonumber(a) < tonumber(b) end)
  for i = 1, 24 do t.equal(tonumber(seen[i]), (i + 1) // 2) end
  t.equal(#seen, 24)
end

return tests
