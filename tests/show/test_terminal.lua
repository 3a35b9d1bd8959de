-- The drawings of progress = true, fz.progress and --progress on a terminal.

local t = ...
local SLOW_MAP <const> = dofile "tests/support/slow_map.lua"
local Screen = dofile "tests/support/screen.lua"

local tests = {}

local function on_terminal(...) return Screen.run(t, ...) end

-- Run a script. Returns the screen at its end, its exit status, and the bytes that it wrote.
local function screen_after(columns, rows, script, options)
  local bytes, status = on_terminal(columns, rows, script, options)
  local screen = Screen.new(columns, rows)
  screen:write(bytes)
  return screen, status, bytes
end

local function count(list, pattern)
  local n = 0
  for _, line in ipairs(list) do
    if line:find(pattern) then n = n + 1 end
  end
  return n
end

local function assert_line(list, pattern)
  if count(list, pattern) > 0 then return end
  error(("no line matches %q:\n%s"):format(pattern, table.concat(list, "\n")), 2)
end

-- The pattern of a complete bar. A number that is being overwritten may have spaces.
local BAR = "^(%S+) +%[=*>? *%] [ %d]+/%d+ [ %d]+%%"

-- A script with three bars, which prints lines while all bars are shown.
local THREE_BARS = [[
  local pool <close> = fz.pool(3) -- two workers wait until all lines are written
  local n = 3000
  local start, finish, written = fz.event(), fz.event(), fz.value("j", 0)
  local function wrap(f)
    return function(i)
      start:wait()
      f(i)
      written:add(1)
      if i == n then finish:wait() end
    end
  end
  local list, rows = {}, {}
  for i = 1, n do list[i], rows[i] = i, {i} end
  local a = pool:map_async(wrap(function(i)
    print(("worker line %05d %s"):format(i, ("x"):rep(i % 50)))
  end), list, {progress = true})
  local b = pool:starmap_async(wrap(function(i)
    fz.log.info("worker entry %05d", i)
  end), rows, {progress = true})
  local function up_to_4000(_, i) return i < 4000 and i + 1 or nil end
  for i in fz.progress(up_to_4000, nil, 0, nil, {label = "loop", total = 4000}) do
    if i == 1 then
      a:wait(0.4)
      start:set()
    end
    if i % 4 == 0 then print("script line", i)
    elseif i % 4 == 1 then io.write("script line ", i, "\n")
    elseif i % 4 == 2 then io.stderr:write("script line ", i, "\n")
    else fz.log.warn("script line %d", i) end
    if i % 20 == 0 then a:wait(0.001) end
    while i == 4000 and written.value < 2 * n do a:wait(0.01) end
  end
  finish:set()
  a:get()
  b:get()
]]

-- Whether there are three whole bars from `row` on.
local function are_bars(screen, row)
  return screen:text(row):find(BAR) and screen:text(row + 1):find(BAR)
    and screen:text(row + 2):find(BAR)
end

local function find_bars(screen)
  for row = 1, screen.rows - 2 do
    if are_bars(screen, row) then return row end
  end
end

-- Write drawings to the screen until it shows three bars. Returns the other bytes, and the cells of
-- the bars.
local function write_until_bars(screen, bytes)
  local at = 1
  while true do
    local _, stop = bytes:find("\27[J", at, true) -- a drawing ends with this
    assert(stop, "three bars were never there")
    screen:write(bytes:sub(at, stop))
    at = stop + 1
    local row = find_bars(screen)
    if row then return bytes:sub(at), { table.unpack(screen.cells, row, row + 2) } end
  end
end

-- Check that, from the moment when three bars are shown until the first one ends, they are whole
-- after each byte. Returns the screen at the end.
local function check_frames(columns, bytes)
  local screen = Screen.new(columns, 24)
  local rest, bars = write_until_bars(screen, bytes)
  local row, frames = 1, 0
  local function check()
    frames = frames + 1
    local cells = screen.cells
    for i = 1, screen.rows do
      if cells[i] == bars[1] then row = i end
    end
    if cells[row] == bars[1] and cells[row + 1] == bars[2] and cells[row + 2] == bars[3]
        and are_bars(screen, row) then
      return
    end
    error("bars are torn:\n" .. table.concat(screen:all(), "\n", #screen.history + 1), 0)
  end
  local ending = rest:find(": done,", 1, true)
  for _ = 1, 2 do ending = rest:sub(1, ending - 1):match ".*()\27%[J" end -- back by two drawings
  screen:write(rest:sub(1, ending - 1), check,
    { [bars[1]] = true, [bars[2]] = true, [bars[3]] = true })
  screen:write(rest:sub(ending))
  assert(frames > 10000, frames)
  return screen
end

for _, columns in ipairs { 80, 40 } do
  tests[("three bars stay whole among 10,000 lines at %d columns"):format(columns)] = function()
    local bytes, status = on_terminal(columns, 24, THREE_BARS)
    t.equal(status, 0)
    local lines = check_frames(columns, bytes):all()
    t.equal(count(lines, "^worker line %d%d%d%d%d"), 3000)
    t.equal(count(lines, "INFO Worker"), 3000)
    t.equal(count(lines, "^script line") + count(lines, "WARN MainProcess"), 4000)
    for _, label in ipairs { "pool:map_async", "pool:starmap_async", "loop" } do
      t.equal(count(lines, "^" .. label .. ": done, [34]000/[34]000"), 1)
    end
    t.equal(count(lines, "%["), 4000) -- each is in an entry of the log, and no bar is left
  end
end

tests["a bar ends as a line, and the cursor is at the start of a row"] = function()
  local screen, status = screen_after(80, 24, SLOW_MAP)
  t.equal(status, 0)
  local lines = screen:all()
  t.equal(#lines, 5)
  t.equal(count(lines, "^line    %d0$"), 4)
  t.match(lines[5], "fz.map: done, 40/40, ", " s")
  t.equal(screen.column, 1)
end

tests["a narrow terminal shows as much as fits, in one row"] = function()
  for _, columns in ipairs { 40, 30, 20, 12, 5, 2 } do
    local bytes = on_terminal(columns, 24, SLOW_MAP)
    local drawn = bytes:match "\r([^\r\n]*)\27%[K\r*\n\27%[J"
    assert(drawn, columns)
    local text = drawn:gsub("\27%[[%d;]*%a", "")
    assert(#text < columns, ("%d: %q"):format(columns, text))
    if columns >= 5 then t.match(text, "%") end
    if columns >= 30 then t.match(text, "fz", "[", "]") end
  end
end

tests["a bar fits a terminal whose size has changed"] = function()
  local bytes = on_terminal(100, 24, [[
    for i in fz.progress({1, 2, 3, 4}, {label = "loop"}) do
      if i == 2 then os.execute "stty cols 40 <&2; echo resized" end
      fz.exec{"sleep", "0.3"}
    end
  ]])
  local before, after = bytes:match "^(.*)resized\r\n(.*)loop: done"
  local function widths(part)
    local least, most = math.huge, 0
    for drawn in part:gmatch "\r([^\r\n]*)\27%[K\r*\n\27%[J" do
      local n = #drawn:gsub("\27%[[%d;]*%a", "")
      least, most = math.min(least, n), math.max(most, n)
    end
    return least, most
  end
  local least, most = widths(before)
  assert(least > 40 and most < 100, before)
  least, most = widths(after)
  assert(least > 20 and most < 40, after)
end

tests["labels have wide characters, and no control characters"] = function()
  local _, _, bytes = screen_after(40, 24, [[
    for _ in fz.progress({1, 2}, {label = "日本語\27[2J\n日本語日本語"}) do
      fz.exec{"sleep", "0.2"}
    end
  ]])
  assert(not bytes:find("[2J\n", 1, true) and not bytes:find("\27[2J", 1, true))
  local drawn = bytes:match "\r([^\r\n]*)\27%[K\r*\n\27%[J"
  t.match(drawn, "日本語?[2J?", "[")
  assert(fz and require "fzlua.core".text_width(drawn) < 40, drawn)
end

tests["a terminal without a cursor gets plain lines"] = function()
  local bytes = on_terminal(80, 24, SLOW_MAP, { env = "env TERM=dumb" })
  assert(not bytes:find("\27", 1, true), bytes)
  t.match(bytes, "fz.map: done, 40/40")
  bytes = on_terminal(80, 24, SLOW_MAP, { env = "env -u TERM" })
  assert(not bytes:find("\27", 1, true), bytes)
end

tests["the reason of a failed write is named while lines are on standard error"] = function()
  local bytes, status = on_terminal(80, 24, [[
    io.stdout:setvbuf "no"
    local written = fz.event()
    local map = fz.spawn(fz.map, function() written:wait() end, {1, 2}, {jobs = 2, progress = true})
    fz.sleep(0.5) -- time for the progress line to be drawn
    io.write "x"
    written:set()
    fz.await(map)
  ]], { flags = ">/dev/full" })
  t.equal(status, 1)
  t.match(bytes, "fzlua: cannot write standard output: No space left on device")
end

tests["--quiet shows nothing, --progress shows all"] = function()
  local script = SLOW_MAP:gsub("progress = true, ", "")
  t.match(on_terminal(80, 24, script, { flags = "--progress" }), "fz.map  [", "fz.map: done")
  for _, flags in ipairs { "--quiet", "--quiet --progress", "" } do
    local bytes = on_terminal(80, 24, flags == "--quiet" and SLOW_MAP or script, { flags = flags })
    assert(not bytes:find("\27", 1, true) and not bytes:find("fz.map", 1, true), bytes)
  end
end

tests["failures are red unless NO_COLOR is set"] = function()
  local script = [[
    local list = {}
    for i = 1, 40 do list[i] = i end
    fz.map(function(x)
      local stop = fz.now() + 0.02
      while fz.now() < stop do end
      if x % 4 == 1 then error "no" end
    end, list, {progress = true, on_error = "continue", jobs = 2})
  ]]
  local bytes = on_terminal(120, 24, script)
  assert(bytes:find "\27%[31m%d+ failed\27%[0m", bytes)
  t.match(bytes, "fz.map: done, 40/40", "10 failed")
  bytes = on_terminal(120, 24, script, { no_color = "1" })
  assert(bytes:find "%d failed\27%[K" and not bytes:find("\27[31m", 1, true), bytes)
end

tests["what the script writes within a line is not overwritten"] = function()
  local screen = screen_after(80, 24, [[
    io.write "before "
    for i in fz.progress({1, 2, 3, 4}, {label = "loop"}) do
      fz.exec{"sleep", "0.15"}
      if i == 2 then io.write "begun" end
      if i == 3 then io.stdout:write(" and ", "continued\n") end
      print(setmetatable({}, {__tostring = function() return "item" .. i end}), nil, 1.5)
    end
    io.stderr:write "after\n"
  ]])
  local lines = screen:all()
  t.equal(lines[1], "before")
  t.equal(lines[2], "item1   nil     1.5")
  t.equal(lines[3], "beguniten2" and lines[3])
  t.match(table.concat(lines, "\n"), "item4   nil     1.5\nloop: done, 4/4", "\nafter",
    " and continued\n")
  t.equal(count(lines, "begun"), 1)
  t.equal(count(lines, "%[[= >]*%]"), 0)
end

tests["wrong arguments of io.write raise at the script's line"] = function()
  local screen = screen_after(200, 24, [[
    for _ in fz.progress({1, 2}) do
      fz.exec{"sleep", "0.2"}
      print(pcall(function() io.write("shown", {}) end))
      print(pcall(function() io.stderr:write({}) end))
      print(io.write("") == io.stdout, io.stderr:write("") == io.stderr)
    end
  ]])
  local text = table.concat(screen:all(), "\n")
  t.match(text, "shown", ":3: bad argument #2 to 'write' (string expected, got table)",
    ":4: bad argument #1 to 'write' (string expected, got table)", "true    true")
end

tests["other programs find the terminal without bars"] = function()
  local screen = screen_after(80, 24, [[
    for i in fz.progress({1, 2, 3}) do
      fz.exec{"sleep", "0.2"}
      os.execute("echo program " .. i)
    end
  ]])
  t.equal(count(screen:all(), "^program %d$"), 3)
  t.equal(#screen:all(), 4)
end

-- Ways for a script to end inside a loop whose bar is drawn: the code, the exit status, and lines
-- that the screen shows then.
local ENDS = {
  { "os.exit(3)", 3 },
  { "os.exit(3, true)", 3, "loop: cancelled, 1/9" },
  { "error 'broken'", 1, "loop: failed, 1/9", "broken" },
  { "fz.exec{'kill', '-INT', tostring(fz.current_process().pid)}", 130, "loop: cancelled, 1/9",
    "interrupted" },
  { "break", 0, "loop: cancelled, 1/9" },
}

tests["no bar is left when a script ends in its loop"] = function()
  for _, case in ipairs(ENDS) do
    local screen, status = screen_after(80, 24, ([[
      for i in fz.progress({1, 2, 3, 4, 5, 6, 7, 8, 9}) do
        fz.exec{"sleep", "0.2"}
        if i == 2 then %s end
      end
    ]]):format(case[1]))
    local lines = screen:all()
    t.equal(status, case[2])
    t.equal(count(lines, "%[[= >]*%]"), 0)
    t.equal(screen.column, 1)
    for i = 3, #case do assert_line(lines, case[i]) end
  end
end

tests["a killed script leaves whole bars above the cursor"] = function()
  for _, signal in ipairs { "KILL", "TERM" } do
    local screen = screen_after(80, 24, ([[
      for i in fz.progress({1, 2, 3, 4, 5, 6, 7, 8, 9}) do
        fz.exec{"sleep", "0.2"}
        if i == 2 then os.execute("kill -%s " .. fz.current_process().pid) fz.exec{"sleep", "9"} end
      end
    ]]):format(signal))
    local row = screen.row
    t.equal(screen.column, 1)
    t.equal(screen:text(row), "")
    for i = 1, screen.rows do
      local text = screen:text(i)
      if text:find("[", 1, true) and not text:find "Session" then
        assert(text:find "^loop +%[=*>? *%] +1/9 +11%%", text)
      end
    end
  end
end

tests["a chain has a line for each stage"] = function()
  local screen, _, bytes = screen_after(80, 24, [[
    local function slow(x) fz.exec{"sleep", "0.3"} return x end
    local first, second = fz.stage "first", fz.stage "second"
    for i = 1, 3 do first:register("A" .. i, "x", function(x) return slow(x) end) end
    second:register("B", {"A1", "A2", "A3"}, function(a, b, c) return slow(a + b + c) end)
    local chain = first >> second
    chain:invoke({x = 1}, {progress = true, jobs = 2})
  ]])
  assert(bytes:find "first +%[ +%]  0/3    0%%   2 busy  1 waiting", bytes)
  assert(bytes:find "second +%[ +%]  0/1    0%%   0 busy  0 waiting", bytes)
  assert(bytes:find "second +%[ +%]  0/1    0%%   1 busy  0 waiting", bytes)
  local lines = screen:all()
  t.equal(#lines, 2)
  t.match(lines[1], "first: done, 3/3, ")
  t.match(lines[2], "second: done, 1/1, ")
end

tests["a chain of many stages shows those that fit"] = function()
  local screen, _, bytes = screen_after(80, 10, [[
    local stages = {}
    for i = 1, 30 do
      stages[i] = fz.stage("stage" .. i)
      stages[i]:register("x", "x", function(x)
        if i == 1 then fz.exec{"sleep", "0.3"} end
        return x
      end)
    end
    fz.chain(stages):invoke({x = 1}, {progress = true})
  ]])
  assert(bytes:find "stage7 +%[ +%]", bytes)
  assert(not bytes:find "stage8 +%[", bytes)
  t.match(bytes, "... 23 more")
  t.equal(screen:text(8), "stage20: done, 1/1, " .. screen:text(8):sub(21))
  t.equal(screen:text(9), "... 10 more")
end

-- A script that is stopped by Ctrl-Z, and ends some time after the shell has written the second
-- file.
local STOPPED_LOOP = [[
  local begun, resumed = %q, %q
  local function is_there(path)
    local file = io.open(path)
    return file ~= nil and file:close()
  end
  local pool <close> = fz.pool(1)
  local map = pool:map_async(function(i)
    while not is_there(resumed) do os.execute "sleep 0.01" end
    print("worker line " .. i)
  end, { 1, 2, 3 }, { progress = true })
  local i, last = 0, math.huge
  for _ in fz.progress(function()
    i = i + 1
    return i <= last and i or nil
  end, nil, nil, nil, { label = "loop", total = 200 }) do
    fz.sleep(0.01)
    if i == 30 then io.open(begun, "w"):close() end
    if last == math.huge and is_there(resumed) then last = i + 40 end
  end
  map:get()
]]

tests["Ctrl-Z leaves the bars whole and the terminal to the shell, fg draws them anew"] = function()
  local begun, resumed = t.file "", t.file ""
  os.remove(begun)
  os.remove(resumed)
  local screen, status, bytes = screen_after(80, 24, STOPPED_LOOP:format(begun, resumed), {
    keys = ("while ! test -e %s; do sleep 0.01; done; printf '\\032'"):format(begun),
    shell = ("echo; echo the shell; sleep 0.3; echo still the shell; touch %s; fg; echo end")
      :format(resumed),
  })
  t.equal(status, 0)
  local stopped = bytes:match "the shell(.*)still the shell"
  assert(stopped and not stopped:find "\27", stopped)
  local lines = screen:all()
  for _, line in ipairs(lines) do assert(not line:find "%[[=> ]*%]" or line:find(BAR), line) end
  t.equal(count(lines, BAR), 2) -- these bars were drawn before the stop
  for k = 1, 3 do t.equal(count(lines, "^worker line " .. k .. "$"), 1) end
  assert_line(lines, "^pool:map_async: done, 3/3")
  assert_line(lines, "^loop: done, ")
  t.equal(lines[#lines], "end")
end

return tests
