-- Speeds of fzlua beside the machine's limits: run.lua BUILD [--strict] [ROW...]
-- Every row runs in a process of its own, so that no heap, pinning or crash
-- reaches the next one. README.md says what the rows mean.
local build = assert(arg[1], "usage: run.lua BUILD [--strict] [ROW...]")
local command = build .. "/fzlua"
local here = arg[0]:match("^(.-)[^/]*$")
package.cpath = build .. "/bench/?.so;" .. package.cpath
package.path = here .. "?.lua;" .. package.path

local fz = require "fzlua"
local limits = require "limits"
local alloc_rows = require "alloc"
local async_rows = require "async"
local each_rows = require "each"
local explain_rows = require "explain"
local fold_rows = require "fold"
local graphs = require "graphs"
local peers = require "peers"
local pool_rows = require "pool"
local shared_rows = require "shared"
local stream_rows = require "stream"
local trace_rows = require "trace"
local clock = limits.clock

local WATCHDOG_S <const> = 120
local BIG <const> = 64 << 20

---Seconds that f takes, and its first result.
local function timed(f, ...)
  local t = clock()
  local v = f(...)
  return clock() - t, v
end

local function expect(what, got, wanted)
  if got ~= wanted then error(("%s is %s, not %s"):format(what, got, wanted), 0) end
end

-- A measurement returns two functions, fzlua's side and the limit's. Each of them takes one sample,
-- in seconds (for the DAG: seconds of one unit of work) or in bytes.

local function measure_start()
  local function start(program)
    local seconds, status = limits.spawn(program, "-e", "")
    expect("exit status of " .. program, status, 0)
    return seconds
  end
  return function() return start(command) end, function() return start "lua5.4" end
end

local function one_stage(f)
  local stage = fz.stage "bench"
  stage:register("y", "x", f)
  return fz.chain { stage }
end

local function measure_worker()
  local function same(x) return x end
  local function fzlua()
    local chain = one_stage(same)
    local seconds = timed(chain.invoke, chain, { x = 1 }, { jobs = 1 })
    expect("result", chain.output.y, 1)
    chain:close()
    return seconds
  end
  return fzlua, function() return limits.fork(same) end
end

-- Invokes with the default options, after the workers have started.
local function measure_invoke()
  local n = 1000
  local chain = one_stage(function(x) return x end)
  local function invokes()
    for i = 1, n do chain:invoke { x = i } end
  end
  local function fzlua()
    local seconds = timed(invokes)
    expect("result", chain.output.y, n)
    return seconds / n
  end
  fzlua()
  return fzlua, function() return 20e-6 end
end

-- Each sample has new processes on both sides, because the time depends on the cores that the
-- kernel chooses for the processes.
local function measure_roundtrip()
  local n = 2000
  local function next_number(x) return x + 1 end
  local dag = fz.dag()
  for i = 1, n do dag:add("n" .. i, { "n" .. i - 1 }, next_number) end
  local function invoke() dag:invoke({ n0 = 0 }, { jobs = 1 }) end
  local function fzlua()
    invoke()
    local seconds = timed(invoke)
    expect("result", dag.output["n" .. n], n)
    dag:close()
    return seconds / n
  end
  return fzlua, function() return limits.pingpong(n) end
end

local function measure_roundtrip_1core()
  limits.pin()
  return measure_roundtrip()
end

local MOD <const> = 1000000007

local function checksum(n, value)
  local sum = 0
  for i = 0, n - 1 do sum = (sum * 31 + value(i)) % MOD end
  return sum
end

local function measure_dag()
  local n = 10000
  local dag = fz.dag()
  local function add(a, b, c) return ((a or 0) + (b or 0) + (c or 0) + 1) % MOD end
  for i, inputs in ipairs(graphs.shared(n)) do dag:add("n" .. i - 1, inputs, add) end
  local function invoke() dag:invoke({}, { jobs = 2, keep = "all" }) end
  local function fzlua()
    local seconds = timed(invoke)
    local output = dag.output
    expect("checksum", checksum(n, function(i) return output["n" .. i] end), 177224197)
    return seconds / n
  end
  fzlua()
  return fzlua, function() return 5e-6 end
end

-- The first invoke of a chain of n stages, which forks a worker for each.
local function invoke_stages(n)
  local chain = fz.stage "s1"
  chain:register("x", "x", function(x) return x + 1 end)
  for i = 2, n do
    local stage = fz.stage("s" .. i)
    stage:register("x", "x", function(x) return x + 1 end)
    chain = chain >> stage
  end
  local seconds = timed(function() chain:invoke({ x = 0 }) end)
  expect("x", chain.output.x, n)
  chain:close()
  return seconds
end

local function measure_stages()
  return function() return invoke_stages(400) end, function() return invoke_stages(200) end
end

-- A big string into f, after `warm` calls that do not count.
local function string_in(f, warm)
  local big = ("x"):rep(BIG)
  local chain = one_stage(f)
  local function fzlua()
    local seconds = timed(chain.invoke, chain, { x = big }, { jobs = 1 })
    expect("length", chain.output.y, BIG)
    chain:prune()
    return seconds
  end
  for _ = 1, warm do fzlua() end
  return fzlua, function() return limits.push(big) end
end

-- A big string as the result of f. The limit is `copies` copies: one more if f makes a new string.
local function string_out(f, warm, copies)
  local chain = one_stage(f)
  local function invoke()
    chain:invoke({ x = 1 }, { jobs = 1 })
    return chain.output.y
  end
  local function fzlua()
    local seconds, s = timed(invoke)
    expect("length", #s, BIG)
    chain:prune()
    return seconds
  end
  for _ = 1, warm do fzlua() end
  local big = ("x"):rep(BIG)
  return fzlua, function() return limits.push(big) * copies end
end

local function measure_string_in()
  return string_in(function(s) return #s end, 1)
end

local function measure_string_out()
  local big = ("x"):rep(BIG)
  return string_out(function() return big end, 1, 1)
end

-- Collect the garbage of the last call before f: its big string is freed before the next is made.
local function dropped(f)
  return function(...)
    collectgarbage()
    return f(...)
  end
end

local function measure_string_in_dropped()
  return string_in(dropped(function(s) return #s end), 3)
end

local function measure_string_out_dropped()
  local piece, pieces = ("x"):rep(1 << 20), BIG >> 20
  return string_out(dropped(function() return piece:rep(pieces) end), 3, 2)
end

-- A payload is a value to encode and decode. Its limits are the time to walk through the value, and
-- the time to build it; for a string, both are the time of one copy.
local function table_payload(name, count)
  return {
    count = count,
    make = function() return (limits.build(name)) end,
    encode = function(value) return (limits.walk(value)) end,
    decode = function() return select(2, limits.build(name)) end,
  }
end
local payloads = {
  ints = table_payload("ints", 1e6),
  floats = table_payload("floats", 1e6),
  records = table_payload("records", 9e5),
  deep = table_payload("deep", 1e5),
  string64M = {
    count = 1,
    make = function() return ("x"):rep(BIG) end,
    encode = function(value) return limits.push(value) end,
    decode = function(packed) return limits.push(packed) end,
  },
}

local function measure_encode(payload)
  local value = payload.make()
  local function fzlua() return (timed(fz.pack, value)) / payload.count end
  fzlua()
  return fzlua, function() return payload.encode(value) / payload.count end
end

local function measure_decode(payload)
  local value = payload.make()
  local packed = fz.pack(value)
  local _, values = limits.walk(value)
  value = nil -- luacheck: ignore (frees what would slow the collector down)
  local function fzlua()
    local seconds, back = timed(fz.unpack, packed)
    expect("number of values", select(2, limits.walk(back)), values)
    return seconds / payload.count
  end
  fzlua()
  return fzlua, function() return payload.decode(packed) / payload.count end
end

local rows = {
  { name = "start", unit = "ms", samples = 201, against = "lua5.4 -e ''", target = 1.2,
    needs = "lua5.4", measure = measure_start },
  { name = "worker", unit = "ms", samples = 101, against = "forked Lua state", target = 2,
    measure = measure_worker },
  { name = "invoke", unit = "us", samples = 21, against = "20 us", target = 1,
    measure = measure_invoke },
  { name = "roundtrip", unit = "us/node", samples = 21, against = "two-pipe ping-pong",
    target = 2, measure = measure_roundtrip },
  { name = "roundtrip_1core", unit = "us/node", samples = 21, against = "two-pipe ping-pong",
    target = 2, measure = measure_roundtrip_1core },
  { name = "dag", unit = "us/node", samples = 21, against = "5 us", target = 1,
    measure = measure_dag },
  { name = "stages", unit = "ms", samples = 9, against = "half as many stages", target = 2.2,
    measure = measure_stages },
  { name = "string_in", unit = "ms", samples = 15, against = "lua_pushlstring", target = 2.5,
    measure = measure_string_in },
  { name = "string_out", unit = "ms", samples = 15, against = "lua_pushlstring", target = 2.5,
    measure = measure_string_out },
  { name = "string_in_dropped", unit = "ms", samples = 15, against = "lua_pushlstring",
    target = 2.5, measure = measure_string_in_dropped },
  { name = "string_out_dropped", unit = "ms", samples = 15, against = "two lua_pushlstring",
    target = 2.5, measure = measure_string_out_dropped },
}
for _, name in ipairs { "ints", "floats", "records", "string64M", "deep" } do
  local payload, is_string = payloads[name], name == "string64M"
  local unit = is_string and "ms" or "ns/value"
  rows[#rows + 1] = { name = "encode_" .. name, unit = unit, samples = 15, target = 1.5,
    against = is_string and "lua_pushlstring" or "bare C walk",
    measure = function() return measure_encode(payload) end }
  rows[#rows + 1] = { name = "decode_" .. name, unit = unit, samples = 15, target = 1.5,
    against = is_string and "lua_pushlstring" or "bare C build",
    measure = function() return measure_decode(payload) end }
end

for _, row in ipairs(alloc_rows(command, expect)) do rows[#rows + 1] = row end
for _, row in ipairs(pool_rows(command, here, timed, expect)) do rows[#rows + 1] = row end
for _, row in ipairs(fold_rows(command, here, build .. "/bench/", expect)) do
  rows[#rows + 1] = row
end
for _, row in ipairs(each_rows(command, here, build .. "/bench/", expect)) do
  rows[#rows + 1] = row
end
for _, row in ipairs(shared_rows(timed, expect)) do rows[#rows + 1] = row end
for _, row in ipairs(async_rows(timed, expect)) do rows[#rows + 1] = row end
for _, row in ipairs(stream_rows(command, here, timed, expect)) do rows[#rows + 1] = row end
for _, row in ipairs(explain_rows(command, here)) do rows[#rows + 1] = row end
for _, row in ipairs(trace_rows(command, here, build .. "/bench/", expect)) do
  rows[#rows + 1] = row
end

local function median(list)
  table.sort(list)
  local middle = #list // 2
  if #list % 2 == 1 then return list[middle + 1] end
  return (list[middle] + list[middle + 1]) / 2
end

-- Medians of both sides, from samples taken a b a b ... Garbage is collected before each sample, so
-- that no sample collects that of the last one.
local function interleave(a, b, samples)
  local va, vb = {}, {}
  for i = 1, samples do
    collectgarbage()
    va[i] = a()
    collectgarbage()
    vb[i] = b()
  end
  return median(va), median(vb)
end

local function print_row(row, ours, theirs, ratio, verdict)
  print(table.concat({ row.name, ours, row.unit, row.against, theirs, ratio,
    row.target and ("%.3g"):format(row.target) or "-", verdict }, "\t"))
end

local function print_failed(row, why)
  print_row(row, "-", "-", "-", "failed: " .. tostring(why):gsub("%s+", " "))
end

-- A sample is in seconds or in bytes.
local scales = {
  ms = 1e3, us = 1e6, ["us/node"] = 1e6, ["us/job"] = 1e6, ["us/item"] = 1e6,
  ns = 1e9, ["ns/value"] = 1e9,
  KiB = 2 ^ -10, MiB = 2 ^ -20,
}

-- Exit statuses of the process of a row. With one of the first three it has printed its line.
local OK <const>, FAILED <const>, MISS <const>, INTERRUPTED <const> = 0, 3, 4, 130
local SIGINT <const> = 2

---Whether a program that a row is compared with is installed.
local function has(program)
  return os.execute(("command -v %s >/dev/null"):format(program)) == true
end

local function run_row(row)
  if row.needs and not has(row.needs) then
    print_row(row, "-", "-", "-", "skipped: no " .. row.needs)
    return OK
  end
  limits.watchdog(WATCHDOG_S)
  local ok, ours, theirs = xpcall(function()
    local a, b = row.measure()
    return interleave(a, b, row.samples)
  end, tostring)
  if not ok then
    print_failed(row, ours)
    return FAILED
  end
  local scale, ratio = scales[row.unit], ours / theirs
  local met = (not row.target or ratio <= row.target) and ratio >= (row.least or 0)
  print_row(row, ("%.4g"):format(ours * scale), ("%.4g"):format(theirs * scale),
    ("%.2f"):format(ratio), not row.target and "info" or met and "ok" or "MISS")
  return met and OK or MISS
end

-- Returns one of the exit statuses. If the process of the row printed no line, print it here.
local function spawn_row(row)
  local _, status, signal = limits.spawn(command, arg[0], build, "--row", row.name)
  if signal == SIGINT then return INTERRUPTED end
  if status == OK or status == FAILED or status == MISS or status == INTERRUPTED then
    return status
  end
  print_failed(row, signal and "signal " .. signal or "exit status " .. status)
  return FAILED
end

-- The rows whose name is one of `names`, or begins with one of them and "_"; all if there are none.
local function choose(names)
  local chosen = {}
  for _, row in ipairs(rows) do
    local wanted = #names == 0
    for _, name in ipairs(names) do
      wanted = wanted or row.name == name or row.name:find(name .. "_", 1, true) == 1
    end
    if wanted then chosen[#chosen + 1] = row end
  end
  return chosen
end

local function run_all(names, strict)
  local chosen, failed = choose(names), false
  if #chosen == 0 then
    io.stderr:write("no such row; rows:")
    for _, row in ipairs(rows) do io.stderr:write(" ", row.name) end
    io.stderr:write("\n")
    return 2
  end
  for _, row in ipairs(chosen) do
    local status = spawn_row(row)
    if status == INTERRUPTED then return status end
    failed = failed or status == FAILED or strict and status == MISS
    if row.peers then peers.print(here .. "peers/", row.name) end
  end
  return failed and 1 or 0
end

io.stdout:setvbuf "line"
if arg[2] == "--row" then os.exit(run_row(choose({ arg[3] })[1]), true) end
local strict = arg[2] == "--strict"
os.exit(run_all(table.move(arg, strict and 3 or 2, #arg, 1, {}), strict), true)
