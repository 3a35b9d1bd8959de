local t = ...
local tests = {}

local function chain_of(f, options)
  options = options or {}
  options.name = options.name or "s"
  local s = fz.stage(options)
  s:register("A", f)
  return fz.chain { s }
end

local function spin()
  while true do end
end

tests["unknown options are errors that name the option"] = function()
  local chain = chain_of(function(a) return a end)
  t.match(t.wrong(chain.invoke, chain, { A = 1 }, { retires = 1 }), "'retires'", "invoke")
  t.match(t.wrong(fz.chain, {}, { job = 1 }), "'job'", "fz.chain")
  t.match(t.wrong(chain.invoke, chain, { A = 1 }, { 1 }), "[1]")
  local s = fz.stage "s"
  t.match(t.wrong(s.register, s, "A", function() end, { workers = 1 }), "'workers'", "register")
end

tests["wrong values of options are errors that name the option"] = function()
  local chain = chain_of(function(a) return a end)
  for name, values in pairs {
    jobs = { -1, 1.5, "2", 0 / 0, 65537, 1 << 40 },
    timeout = { -1, "1", 0 / 0, {} },
    deadline = { -1, false },
    retries = { -1, 0.5, 1 << 31 },
    backoff = { "x" },
    memory = { 0, "12X", "M", -5, {}, 0 / 0, 1 / 0 },
    on_error = { "ignore", 1 },
    keep = { "some" },
    seed = { 1.5, "a" },
    progress = { 1, "yes" },
  } do
    for _, value in ipairs(values) do
      t.match(t.wrong(chain.invoke, chain, { A = 1 }, { [name] = value }), ("'%s'"):format(name))
    end
  end
end

tests["a refused option leaves no worker behind"] = function()
  local core = require "fzlua.core"
  local chain = chain_of(function(a) return a end)
  local run = core.run
  core.run = function() error("refused", 0) end
  local ok, e = pcall(chain.invoke, chain, { A = 1 })
  core.run = run
  t.equal({ ok, e }, { false, "refused" })
  t.equal(chain { A = 2 }, { A = 2 })
  chain:close()
  t.match(t.wrong(fz.stage, { name = "s", workers = 65537 }), "'workers'", "from 1 to 65536")
end

tests["memory takes bytes and texts with units"] = function()
  local chain <close> = chain_of(function(a) return a end)
  for _, memory in ipairs { 1 << 30, 1e9, "512M", "1G", "0.5g", "600000K", "512MiB", "512 MB" } do
    t.equal(chain({ A = 1 }, { memory = memory }).A, 1)
  end
end

tests["memory limits a worker, and the error is of kind memory"] = function()
  local chain <close> = chain_of(function()
    local list = {}
    for i = 1, 1 << 30 do list[i] = ("x"):rep(1000) .. i end
    return #list
  end)
  local e = t.fails("memory", chain.invoke, chain, { A = 1 }, { memory = "32M" })
  t.equal({ e.stage, e.output }, { "s", "A" })
end

tests["timeout really ends an attempt"] = function()
  local chain <close> = chain_of(spin)
  local e = t.fails("timeout", chain.invoke, chain, { A = 1 }, { timeout = 0.1 })
  t.equal({ e.stage, e.output }, { "s", "A" })
  t.match(e, "stage s", "output A")
end

tests["deadline ends the whole call"] = function()
  local chain <close> = chain_of(spin)
  t.fails("timeout", chain.invoke, chain, { A = 1 }, { deadline = 0.1 })
end

tests["the more specific option wins"] = function()
  local s = fz.stage { name = "s", timeout = 0.1 }
  s:register("A", spin)
  local of_stage <close> = fz.chain({ s }, { timeout = 1000 })
  t.fails("timeout", of_stage.invoke, of_stage, { A = 1 })
  local r = fz.stage { name = "r", timeout = 1000 }
  r:register("A", spin, { timeout = 0.1 })
  local of_function <close> = fz.chain { r }
  t.fails("timeout", of_function.invoke, of_function, { A = 1 })
  local i = fz.stage { name = "i", timeout = 1000 }
  i:register("A", spin, { timeout = 1000 })
  local of_invoke <close> = fz.chain { i }
  t.fails("timeout", of_invoke.invoke, of_invoke, { A = 1 }, { timeout = 0.1 })
  local of_chain <close> = fz.chain({ (function()
    local c = fz.stage "c"
    c:register("A", spin)
    return c
  end)() }, { timeout = 0.1 })
  t.fails("timeout", of_chain.invoke, of_chain, { A = 1 })
end

tests["retries try again and attempt counts"] = function()
  local path = t.file ""
  local chain <close> = chain_of(function()
    local file = io.open(path, "a")
    file:write "x"
    file:close()
    local tries = #io.open(path):read "a"
    if tries < 3 then error("try " .. tries) end
    return tries
  end)
  t.equal(chain({ A = 1 }, { retries = 2 }).A, 3)
  os.remove(path)
  local e = t.fails("error", chain.invoke, chain, { A = 1 }, { retries = 1, backoff = 0.01 })
  t.match(e, "try 2", "attempt 2")
  t.equal(e.attempt, 2)
end

tests["on_error = stop raises the first error and starts nothing new"] = function()
  local path = t.file ""
  local a, b = fz.stage "a", fz.stage "b"
  a:register("A", function() error "first" end)
  b:register("B", "A", function(x) io.open(path, "w"):write("ran"):close() return x end)
  local chain <close> = a >> b
  t.match(t.fails("error", chain.invoke, chain, { A = 1 }), "first")
  t.equal(io.open(path):read "a", "")
  t.equal(chain.output, {})
  t.equal(chain.errors.A.kind, "error")
end

tests["on_error = now ends what runs"] = function()
  local s = fz.stage { name = "s", workers = 2 }
  s:register("A", function() error "boom" end)
  s:register("B", spin)
  local chain <close> = fz.chain { s }
  t.match(t.fails("error", chain.invoke, chain, { A = 1, B = 1 }, { on_error = "now", jobs = 2 }),
    "boom")
end

tests["on_error = continue raises nothing and names what is missing"] = function()
  local a, b, c = fz.stage "a", fz.stage "b", fz.stage "c"
  a:register("A", function() error "boom" end)
  a:register("B", function(x) return x end)
  b:register("C", { "A", "B" }, function(x) return x end)
  b:register("D", "B", function(x) return x * 2 end)
  c:register("E", "C", function(x) return x end)
  local chain <close> = a >> b >> c
  for _, jobs in ipairs { 0, 1, 4 } do
    chain:invoke({ A = 1, B = 2, Z = 3 }, { on_error = "continue", jobs = jobs })
    t.equal(chain.output, { B = 2, D = 4, Z = 3 })
    local errors = chain.errors
    t.equal({ errors.A.kind, errors.C.kind, errors.E.kind, errors.B, errors.D },
      { "error", "cancelled", "cancelled" })
    t.match(errors.A, "stage a", "output A", "boom")
    t.match(errors.C, "stage b", "output C", "a.A failed")
    t.match(errors.E, "stage c", "output E", "a.A failed")
    t.equal({ errors.E.stage, errors.E.output }, { "c", "E" })
  end
end

tests["each missing output of one function has its own error"] = function()
  local s = fz.stage "s"
  s:register({ "P", "Q" }, { "A" }, function() error "boom" end)
  local chain <close> = fz.chain { s }
  chain:invoke({ A = 1 }, { on_error = "continue" })
  t.equal({ chain.errors.P.output, chain.errors.Q.output }, { "P", "Q" })
  assert(chain.errors.P ~= chain.errors.Q)
end

tests["seed makes random numbers independent of jobs"] = function()
  local s = fz.stage "s"
  for _, name in ipairs { "A", "B", "C", "D" } do
    s:register(name, function() return math.random(1 << 50) end)
  end
  local chain <close> = fz.chain { s }
  local input = { A = 0, B = 0, C = 0, D = 0 }
  local first = chain(input, { seed = 7, jobs = 1 })
  for _, jobs in ipairs { 0, 2, 4 } do
    t.equal(chain(input, { seed = 7, jobs = jobs }), first)
  end
  local seen = {}
  for _, name in ipairs { "A", "B", "C", "D" } do
    assert(not seen[first[name]], "two jobs drew the same number")
    seen[first[name]] = true
  end
  assert(chain(input, { seed = 8 }).A ~= first.A)
  assert(chain(input).A ~= chain(input).A)
end

tests["progress is called in this process and ends with done == total"] = function()
  local a, b = fz.stage "a", fz.stage "b"
  a:register("A", function(x) return x end)
  a:register("B", function(x) return x end)
  b:register("C", { "A", "B" }, function(x) return x end)
  local chain <close> = a >> b
  for _, jobs in ipairs { 0, 2 } do
    local calls, last, kinds = 0, 0, {}
    local check_order = t.event_order()
    chain:invoke({ A = 1, B = 2 }, { jobs = jobs, progress = function(done, total, event)
      check_order(event)
      calls = calls + 1
      assert(total == 3 and done >= last)
      last = done
      kinds[event.kind] = (kinds[event.kind] or 0) + 1
      assert(event.stage and event.output)
      if event.kind == "done" then assert(math.type(event.seconds) == "float") end
    end })
    t.equal(last, 3)
    t.equal(kinds, { start = 3, done = 3 })
  end
end

tests["progress ends with done == total also when functions fail"] = function()
  local a, b = fz.stage "a", fz.stage "b"
  a:register("A", function() error "boom" end)
  b:register("C", "A", function(x) return x end)
  local chain <close> = a >> b
  local last, kinds = 0, {}
  local check_order = t.event_order()
  local function progress(done, _, event)
    check_order(event)
    last = done
    kinds[event.kind] = (kinds[event.kind] or 0) + 1
  end
  chain:invoke({ A = 1 }, { on_error = "continue", retries = 1, progress = progress })
  t.equal(last, 2)
  t.equal({ kinds.retry, kinds.failed }, { 1, 2 })
  pcall(chain.invoke, chain, { A = 1 }, { progress = progress })
  t.equal(last, 2)
end

tests["a progress callback may invoke the same and other chains"] = function()
  for _, jobs in ipairs { 0, 1 } do
    local chain <close> = chain_of(function(a) return a end)
    local other <close> = chain_of(function(a) return a * 2 end)
    local calls, nested = 0, 0
    chain:invoke({ A = 1 }, { jobs = jobs, progress = function()
      calls = calls + 1
      nested = nested + chain({ A = 10 }, { jobs = jobs }).A + other({ A = 100 }).A
    end })
    t.equal({ chain.output.A, nested }, { 1, calls * 210 })
  end
end

tests["a progress callback that waits for its own run raises"] = function()
  local chain <close> = chain_of(function(a) return a end)
  local future
  local polled, e
  future = chain:invoke_async({ A = 1 }, { progress = function()
    if polled then return end
    polled = table.pack(future:await(0))
    e = t.fails("error", future.await, future)
  end })
  t.equal(future:await(), { A = 1 })
  t.match(e, "waits for itself")
  t.equal(polled[2], "timeout")
  t.equal(chain { A = 2 }, { A = 2 })
end

tests["a progress callback may close its chain or cancel its future"] = function()
  local function identity(a) return a end
  for _, kind in ipairs { "start", "done" } do
    local chain = chain_of(identity)
    local calls = 0
    t.fails("cancelled", chain.invoke, chain, { A = 1 }, { progress = function(_, _, event)
      assert(event.kind == "start" or kind == "done")
      calls = calls + 1
      if event.kind == kind then chain:close() end
    end })
    t.equal(calls, kind == "start" and 1 or 2)
    local future
    future = chain:invoke_async({ A = 1 }, { progress = function(_, _, event)
      if event.kind == kind then
        assert(future:cancel() and not future:cancel())
      end
    end })
    t.fails("cancelled", future.await, future)
    t.equal(chain { A = 2 }, { A = 2 })
    chain:close()
  end
end

tests["a progress callback that raises is logged once, and the run goes on"] = function()
  local script = t.file [[
local s, dag, calls = fz.stage "s", fz.dag(), 0
local options = { progress = function()
  calls = calls + 1
  error "mine"
end }
for i = 1, 5 do s:register("P" .. i, "A", function(a) return a + i end) end
dag:add("b", { "a" }, function(a) return a * 2 end)
print(fz.chain { s }({ A = 1 }, options).P5, dag:invoke({ a = 4 }, options).output.b, calls)]]
  for _, jobs in ipairs { "-j2", "-j0" } do
    local out, err, status = t.command(jobs, script)
    t.equal({ out, status }, { "6\t8\t2\n", 0 })
    local _, logged = err:gsub("a progress function raised", "")
    t.equal(logged, 2)
  end
end

tests["workers says how many processes a stage has"] = function()
  local s = fz.stage { name = "s", workers = 1 }
  for i = 1, 6 do
    s:register("P" .. i, "A", function() return io.open("/proc/self/stat"):read "n" end)
  end
  local chain <close> = fz.chain { s }
  local out, pids = chain({ A = 1 }, { jobs = 4 }), {}
  for i = 1, 6 do pids[out["P" .. i]] = true end
  local only = next(pids)
  assert(next(pids, only) == nil)
  assert(math.tointeger(only) ~= io.open("/proc/self/stat"):read "n")
end

tests["a timeout of 0 ends what runs"] = function()
  local s = fz.stage "s"
  s:register("X", {}, function() while true do end end)
  local chain <close> = fz.chain { s }
  for _, jobs in ipairs { 0, 1 } do
    t.fails("timeout", chain.invoke, chain, {}, { jobs = jobs, timeout = 0 })
  end
end

return tests
