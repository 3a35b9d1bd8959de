-- Every route that a value can take to another process, each with the same table of hard values.
--
-- A route into a worker checks the value there, and a route out of a worker makes the value there.
local fz = require "fzlua"
local hard = dofile "tests/support/hard_values.lua"

local T = {}

local cases, refused, class = hard.cases, hard.refused, hard.class

local function make_garbage()
  local last
  for i = 1, 20000 do last = { i } end
  return last
end

-- route(case) sends case.make() to another process, and returns the result of case.check() on it.
local routes = {}

function routes.pack(c)
  return c.check(fz.unpack(fz.pack(c.make()), { functions = true }))
end

function routes.queue(c)
  local q = fz.queue()
  q:put(c.make())
  return c.check(q:get())
end

function routes.pipe(c)
  local a, b = fz.pipe()
  a:send(c.make())
  local value = b:recv()
  a:close()
  b:close()
  return c.check(value)
end

function routes.chain_in(c)
  local s = fz.stage "s"
  function s.wrong(value) return c.check(value) end
  local chain <close> = fz.chain { s }
  return chain({ value = c.make() }).wrong
end

function routes.chain_out(c)
  local s = fz.stage "s"
  function s.value(_)
    make_garbage()
    return c.make()
  end
  local chain <close> = fz.chain { s }
  return c.check(chain({ _ = 1 }).value)
end

-- A pool whose worker inherits the case by its fork, and gets functions as messages.
local function pool_of(c)
  local pool = fz.pool { workers = 1, init = function() return c end }
  pool:apply(type, 1)
  return pool
end

function routes.apply(c)
  local pool <close> = pool_of(c)
  local wrong = pool:apply(c.check, c.make())
  if wrong then return wrong end
  return c.check(pool:apply(c.make))
end

function routes.map(c)
  local pool <close> = pool_of(c)
  local list = {}
  for i = 1, 4 do list[i] = c.make() end
  for _, chunksize in ipairs { 1, 4 } do
    local wrong = pool:map(c.check, list, { chunksize = chunksize })
    for i = 1, 4 do
      if wrong[i] then return wrong[i] end
      list[i] = c.make()
    end
  end
  for _, value in ipairs(pool:map(c.make, { 1, 2 })) do
    local wrong = c.check(value)
    if wrong then return wrong end
  end
end

function routes.imap(c)
  local pool <close> = pool_of(c)
  local left = 3
  local function source()
    left = left - 1
    return left >= 0 and c.make() or nil
  end
  for _, wrong in pool:imap(c.check, source) do
    if wrong then return wrong end
  end
  for _, value in pool:imap(c.make, { 1, 2 }) do
    local wrong = c.check(value)
    if wrong then return wrong end
  end
end

function routes.fz_map(c)
  return c.check(fz.map(c.make, { 1 }, { jobs = 1 })[1])
end

function routes.starmap(c)
  local pool <close> = pool_of(c)
  for _, wrong in ipairs(pool:starmap(c.check, { { c.make() }, { c.make(), 2 } })) do
    if wrong then return wrong end
  end
  return c.check(pool:starmap(c.make, { { 1, 2 } })[1])
end

function routes.fold(c)
  local pool <close> = pool_of(c)
  local function items(acc, item) return acc or c.check(item) or false end
  local function first(acc) return { c.check(acc) or false } end
  local function last(a) return a end
  local wrong = pool:fold(items, { c.make(), c.make() }, false, last)
  wrong = wrong or pool:fold(first, { 1 }, c.make(), last)[1]
  return wrong or c.check(pool:fold(function() return c.make() end, { 1 }, 1, last))
end

function routes.stream(c)
  local into, out = fz.stage "into", fz.stage "out"
  function into.wrong(value) return c.check(value) end
  function out.value(wrong) return wrong or c.make() end
  local chain <close> = into >> out
  local left = 3
  local function source()
    left = left - 1
    return left >= 0 and { value = c.make() } or nil
  end
  for _, output in chain:stream(source, { jobs = 2 }) do
    if type(output.value) == "string" then return output.value end
    local wrong = c.check(output.value)
    if wrong then return wrong end
  end
end

-- From stage to stage: bytes that the script never decodes.
function routes.stages(c)
  local first, second = fz.stage "first", fz.stage "second"
  function first.value(_) return c.make() end
  function second.wrong(value) return c.check(value) end
  local chain <close> = first >> second
  return chain({ _ = 1 }).wrong
end

-- Two tasks that use a pool at the same time, and pass a value from one to the other.
function routes.tasks(c)
  local pool <close> = pool_of(c)
  local passed = fz.future()
  local sender = fz.spawn(function()
    passed:set_result(pool:apply(c.make))
    return pool:apply(c.check, c.make()) or false
  end)
  local receiver = fz.spawn(function()
    return c.check(passed:await()) or pool:apply_async(c.check, { c.make() }):get() or false
  end)
  local a, b = fz.gather(sender, receiver)
  return a or b
end

function routes.process(c)
  local p = fz.process(c.make)
  p:start()
  local value = p:result()
  p:join()
  return c.check(value)
end

function routes.manager(c)
  local m <close> = fz.manager()
  local d = m:dict()
  d.value = { c.make() }
  local wrong = c.check(d:copy().value[1])
  if wrong then return wrong end
  local q = m:queue()
  q:put(c.make())
  return c.check(q:get())
end

function routes.upvalue(c)
  local pool <close> = pool_of(c)
  local value, check = c.make(), c.check
  return pool:apply(function() return check(value) end)
end

local function cause_of(ok, e)
  assert(not ok, "nothing was raised")
  if e.cause == nil then error(e, 0) end
  return e.cause
end

function routes.raised(c)
  local pool <close> = pool_of(c)
  local make = c.make
  return c.check(cause_of(pcall(pool.apply, pool, function() error(make()) end)))
end

function routes.raised_in_a_stage(c)
  local s = fz.stage "s"
  function s.value(_) error(c.make()) end
  local chain <close> = fz.chain { s }
  chain:invoke({ _ = 1 }, { on_error = "continue" })
  return c.check(cause_of(false, chain.errors.value))
end

local function run_route(name)
  for _, c in ipairs(cases) do
    local ok, wrong = pcall(routes[name], c)
    assert(ok and not wrong, ("%s: %s"):format(c.name, tostring(wrong)))
  end
end

for name in pairs(routes) do
  T["hard_values_by_" .. name] = function() run_route(name) end
end

-- An error of __fzpack or __fzunpack arrives, and the messages after it are correct. An error value
-- that is not a string arrives as its text.
for name, route in pairs(routes) do
  T["refusals_by_" .. name] = function()
    for who, make in pairs(refused) do
      local c = { make = make, check = function() return "it arrived" end }
      local ok, e = pcall(route, c)
      local text = tostring(e)
      assert(not ok and text:find("the " .. who .. " refuses", 1, true), who .. ": " .. text)
      local wrong = route(cases[2])
      assert(not wrong, wrong)
    end
  end
end

-- While a __fzpack waits, other tasks can pack, or the route raises because it cannot wait there.
for name, route in pairs(routes) do
  T["waits_by_" .. name] = function()
    local Waiter = class("Waiter", function(self)
      fz.sleep(0)
      return fz.await(fz.spawn(function() return fz.unpack(fz.pack { self.shared, self.n }) end))
    end)
    local ok, wrong = pcall(route, { make = function()
      local shared = { "shared" }
      local value = { shared }
      for i = 2, 9 do value[i] = setmetatable({ shared = shared, n = i }, Waiter) end
      return value
    end, check = function(value)
      for i = 2, 9 do
        if value[i][1][1] ~= "shared" or value[i][2] ~= i then return "object " .. i end
      end
    end })
    if ok then assert(not wrong, wrong) end
    if not ok then assert(tostring(wrong):find("a value is being packed", 1, true), wrong) end
    wrong = route(cases[2])
    assert(not wrong, wrong)
  end
end

function T.a_packer_that_raises_leaves_the_next_message_right()
  for _ = 1, 20 do
    local ok, e = pcall(fz.pack, refused.packer())
    assert(not ok and e.cause == "the packer refuses", tostring(e))
    assert(not routes.pack(cases[1]))
  end
end

function T.what_a_message_held_is_garbage_after_it()
  local seen = setmetatable({}, { __mode = "k" })
  local Holder = class("Holder", function(self)
    local t = { ("x"):rep(70000) }
    seen[t], seen[self] = true, true
    return t
  end)
  for _ = 1, 3 do fz.pack { setmetatable({}, Holder) } end
  pcall(fz.pack, { setmetatable({}, Holder), coroutine.create(print) })
  assert(fz.pack(1))
  hard.collect()
  assert(next(seen) == nil, "something is held")
end

function T.one_packer_is_called_once_a_message()
  local n = 0
  local Counter = class("Counter", function()
    n = n + 1
    return n
  end)
  local object = setmetatable({}, Counter)
  fz.pack { "before", { object }, object, print, object }
  assert(n == 1, n)
end

return T
