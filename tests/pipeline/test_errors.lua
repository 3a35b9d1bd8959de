local t = ...
local tests = {}

-- A chain of three stages whose second one calls `f`.
local function chain_of(f, inputs)
  local a, b, c = fz.stage "first", fz.stage "second", fz.stage "third"
  a:register("A", function(x) return x end)
  b:register("C", inputs or { "A" }, f)
  c:register("D", "C", function(x) return x end)
  return a >> b >> c
end

local function fails(kind, f, options)
  local chain <close> = chain_of(f)
  local e = t.fails(kind, chain.invoke, chain, { A = 1 }, options)
  t.equal({ e.stage, e.output }, { "second", "C" })
  t.match(e, "stage second", "output C")
  t.equal(chain[2].name, "second")
  -- The chain can still be changed and invoked.
  chain[2]:register("C", "A", function(x) return x + 1 end)
  t.equal(chain { A = 1 }.D, 2)
  return e
end

local BOTH = { 0, 2 }

tests["an error that no function of the user's raised has no traceback"] = function()
  local Raising = { __fzpack = function() return 1 end, __fzunpack = function() error "no" end }
  fz.register_class("test_errors.Raising", Raising)
  local pool <close> = fz.pool(1)
  local e = t.fails("error", pool.apply, pool, function() end, setmetatable({}, Raising))
  t.equal(e.traceback, nil)
  t.equal(tostring(e):find("traceback", 1, true), nil)
end

tests["a misuse in a worker shows the frames of the worker's function"] = function()
  local pool <close> = fz.pool(1)
  local function inner() fz.map(3, {}) end
  local e = t.fails("error", pool.apply, pool, function() inner() return 1 end)
  t.match(e.traceback, "stack traceback:\n", "test_errors.lua", "inner")
  t.equal(e.traceback:find("fzlua/check.lua", 1, true), nil)
end

tests["an error says stage, output, attempt and pid and ends with the traceback"] = function()
  for _, jobs in ipairs(BOTH) do
    local function inner() error "boom" end
    local e = fails("error", function() inner() return 1 end, { jobs = jobs })
    t.match(e.message, "test_errors.lua:", "boom")
    t.match(e.traceback, "stack traceback:", "test_errors.lua", "inner")
    local text = tostring(e)
    t.equal(e.attempt, 1)
    t.match(text, "attempt 1", "output C: ")
    if jobs > 0 then t.match(text, ("pid %d"):format(e.pid)) end
    assert(text:sub(-#e.traceback) == e.traceback)
    local _, times = text:gsub("boom", "")
    t.equal(times, 1)
  end
end

tests["whatever is raised arrives as an error"] = function()
  local bad = setmetatable({}, { __tostring = function() error "x" end })
  local values = { false, 42, "text", { code = 7 }, coroutine.create(print), io.stdout, bad, print }
  for _, jobs in ipairs(BOTH) do
    for i = 0, #values do
      local value = values[i]
      local e = fails("error", function() error(value, 0) end, { jobs = jobs })
      t.equal(type(e.message), "string")
      t.equal(type(tostring(e)), "string")
      if type(value) == "table" and value.code then t.equal(e.cause, { code = 7 }) end
      if value == 42 then t.equal(e.cause, 42) end
    end
  end
end

tests["an fz.Error that a function raises again keeps its text"] = function()
  local inner = fz.stage "inner"
  inner:register("X", function() error "deep" end)
  local e = fails("error", function(x) return fz.chain({ inner }) { X = x } end)
  t.match(e, "stage inner", "deep")
  assert(getmetatable(e.cause) == fz.Error)
  t.equal(e.cause.stage, "inner")
end

tests["a dead worker is a crash that says how it died"] = function()
  local e = fails("crash", function() os.exit(3) end)
  t.equal(e.exitcode, 3)
  t.match(e.message, "3")
  e = fails("crash", function()
    os.execute "kill -9 $PPID"
    while true do end
  end)
  t.equal(e.signal, 9)
  t.match(e.message, "9", "KILL", "perhaps out of memory")
end

tests["an unsendable result names output and path"] = function()
  for _, jobs in ipairs(BOTH) do
    local e = fails("unsendable", function()
      return { rows = { 1, 2, { file = io.tmpfile() } } }
    end, { jobs = jobs })
    t.match(e.message, "output C: .rows[3].file: a FILE* cannot be sent")
    t.match(e, "output C: .rows[3].file: a FILE* cannot be sent")
    e = fails("unsendable", function() return coroutine.create(print) end, { jobs = jobs })
    t.match(e.message, "output C: a coroutine cannot be sent")
  end
end

tests["an unsendable one of several results names its own output"] = function()
  local s = fz.stage "s"
  s:register({ "P", "Q" }, {}, function() return 1, { coroutine.create(print) } end)
  local chain <close> = fz.chain { s }
  local e = t.fails("unsendable", chain.invoke, chain)
  t.equal(e.output, "Q")
  t.match(e.message, "output Q: [1]: a coroutine cannot be sent")
end

tests["an unsendable input names it and its path, before anything runs"] = function()
  local chain <close> = chain_of(function(x) return x end)
  for _, jobs in ipairs(BOTH) do
    local input = { A = { cfg = { cb = coroutine.create(print) } } }
    local e = t.fails("unsendable", chain.invoke, chain, input, { jobs = jobs })
    t.match(e.message, "input A: .cfg.cb: a coroutine cannot be sent")
    e = t.fails("unsendable", chain.invoke, chain, { A = input.A.cfg.cb }, { jobs = jobs })
    t.match(e.message, "input A: a coroutine cannot be sent")
  end
  t.equal(chain { A = 1 }.D, 1)
end

tests["an error is a value that can be shown, caught and sent"] = function()
  local e = fails("error", function() error("plain", 0) end)
  assert(getmetatable(e) == fz.Error)
  local again = fz.unpack(fz.pack(e))
  assert(getmetatable(again) == fz.Error)
  t.equal({ again.kind, again.stage, again.message }, { e.kind, e.stage, e.message })
end

tests["independent branches: the policy decides what still runs"] = function()
  local path = t.file ""
  local seen, options -- the end of "slow" waits until the failure of "bad" was seen
  local function build(policy)
    seen = fz.event()
    options = { jobs = 2, on_error = policy, progress = function(_, _, e)
      if e.kind == "failed" then seen:set() end
    end }
    local g = fz.dag()
    g:add("bad", {}, function() error "boom" end)
    g:add("child", "bad", function(x) return x end)
    g:add("slow", {}, function() seen:wait(30) return 1 end)
    g:add("after", "slow", function(x)
      io.open(path, "w"):write("ran"):close()
      return x
    end)
    return g
  end
  local stop <close> = build()
  t.fails("error", stop.invoke, stop, {}, options)
  t.equal(io.open(path):read "a", "")
  local now <close> = build "now"
  t.fails("error", now.invoke, now, {}, options)
  t.equal(io.open(path):read "a", "")
  local go_on <close> = build "continue"
  go_on:invoke({}, options)
  t.equal(go_on.output, { slow = 1, after = 1 })
  t.equal(io.open(path):read "a", "ran")
  t.equal({ go_on.errors.bad.kind, go_on.errors.child.kind }, { "error", "cancelled" })
end

tests["a wrong argument is a text with the caller's position"] = function()
  local s = fz.stage "s"
  t.match(t.wrong(s.invoke, s, 3), "#1", "invoke", "string expected, got number")
  t.match(t.wrong(fz.register_class, 3), "#1", "fz.register_class")
  t.match(t.wrong(fz.register_class, "X"), "#2", "fz.register_class")
end

tests["an error in __fzpack names the input"] = function()
  local Refuser = { __fzpack = function() error "no way" end }
  fz.register_class("test.Refuser", Refuser)
  local s = fz.stage "s"
  s:register("X", "A", function(a) return a end)
  local chain <close> = fz.chain { s }
  local e = t.fails("error", chain.invoke, chain, { A = { setmetatable({}, Refuser) } })
  t.match(e.message, "input A: [1]: ", "no way")
  t.equal(e.input, "A")
end

tests["a message with zeros is whole, in workers of any kind"] = function()
  local function with_zero() error("no\0luck", 0) end
  for _, start in ipairs { "fork", "spawn" } do
    local e = t.fails("error", fz.map, with_zero, { 1 }, { jobs = 1, start = start })
    t.equal(e.message, "no\0luck")
    local s = fz.stage { name = "s", start = start }
    s:register("A", {}, with_zero)
    local chain <close> = fz.chain { s }
    t.equal(t.fails("error", chain.invoke, chain, {}).message, "no\0luck")
  end
end

return tests
