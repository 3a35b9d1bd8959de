-- The messages about values that cannot be sent: what it is, where it is, and what to do.
local t = ...
local tests = {}

local function refused(text, f, ...)
  t.equal(t.fails("unsendable", f, ...).message, text)
end

local co <const> = coroutine.create(print)

tests["no path is empty"] = function()
  local pool <close> = fz.pool(1)
  pool:apply(type, 1)
  local q, a, b = fz.queue(), fz.pipe()
  local file <close> = assert(io.open "/dev/null")
  refused("a FILE* cannot be sent", fz.pack, file)
  refused("value 2: a coroutine cannot be sent", fz.pack, 1, co)
  refused("value 2: [1]: a coroutine cannot be sent", fz.pack, 1, { co })
  refused("value: a coroutine cannot be sent", q.put, q, co)
  refused("value: .x: a coroutine cannot be sent", q.put, q, { x = co })
  refused("value: a coroutine cannot be sent", a.send, a, co)
  refused("argument 1: a FILE* cannot be sent", pool.apply, pool, type, file)
  refused("argument 1: a FILE* cannot be sent", pool.map, pool, type, { 1, file })
  refused("argument 1: .f: a FILE* cannot be sent", pool.map, pool, type, { 1, { f = file } })
  refused("result 1: a coroutine cannot be sent", pool.apply, pool, function()
    return coroutine.create(print)
  end)
  refused("result: a coroutine cannot be sent", fz.map, function()
    return coroutine.create(print)
  end, { 1 })
  a:close()
  b:close()
end

tests["an object of fzlua is called by its name"] = function()
  local pool <close> = fz.pool(1)
  local result = pool:apply_async(type, { 1 })
  local s = fz.stage "s"
  s:register("N", "A", type)
  local objects = {
    ["a stage"] = s, ["a chain"] = fz.chain { s }, ["a dag"] = fz.dag(), ["a pool"] = pool,
    ["a process"] = fz.process(print), ["an async result"] = result,
  }
  for noun, object in pairs(objects) do
    refused(("argument 1: %s cannot be sent"):format(noun), pool.apply, pool, type, object)
    refused((".x[1]: %s cannot be sent"):format(noun), fz.pack, { x = { object } })
    refused(("the function: <upvalue object>: %s cannot be sent"):format(noun), pool.apply, pool,
      function() return object.name end)
  end
  t.equal(result:get(), "number")
end

tests["a packed object stands for what it is packed into"] = function()
  local m <close> = fz.manager()
  local proxy = m:list { 1 }
  refused("a fzlua.Proxy, which belongs to one run, cannot be sent", fz.pack, proxy)
  refused("[1].x: a fzlua.Proxy, which belongs to one run, cannot be sent", fz.pack,
    { { x = proxy } })
  local Box = { __fzpack = function() return { co } end }
  fz.register_class("unsendable.Box", Box)
  refused(".a<packed unsendable.Box>[1]: a coroutine cannot be sent", fz.pack,
    { a = setmetatable({}, Box) })
end

tests["a long path is cut in its middle"] = function()
  local f = function() return co end
  for _ = 1, 150 do
    local g = f
    f = function() return g end
  end
  local e = t.fails("unsendable", fz.pack, f)
  t.match(e.message, "<upvalue g>...<upvalue g>", "<upvalue co>: a coroutine cannot be sent")
  assert(#e.message < 300, #e.message)
  local deep = co
  for i = 1, 100 do deep = { ["k" .. i] = deep } end
  e = t.fails("unsendable", fz.pack, deep)
  assert(e.message:find "^%.k100%.k99%.k98[^:]-%.%.%.[^:]-%.k3%.k2%.k1: ", e.message)
  assert(not e.message:find "k50", e.message)
  deep = co
  for i = 1, 12 do deep = { ["k" .. i] = deep } end
  t.match(t.fails("unsendable", fz.pack, deep).message, ".k8.k7.k6.k5.") -- the whole path
end

-- The messages of the error of a function, called in a worker, in this process and in a server.
local function told(f)
  local pool <close> = fz.pool(1)
  local texts = {
    t.fails("error", pool.apply, pool, f).message,
    t.fails("error", fz.map, f, { 1 }, { jobs = 0 }).message,
  }
  local m <close> = fz.manager()
  local d = m:dict { x = 1 }
  texts[3] = t.fails("error", d.update, d, "x", f).message
  return texts
end

tests["a raised table is shown as a literal"] = function()
  for _, text in ipairs(told(function() error { code = 1, "why" } end)) do
    t.match(text, '{"why", code = 1}')
  end
  for _, text in ipairs(told(function()
    error(setmetatable({}, { __tostring = function() return "its own text" end }))
  end)) do
    t.match(text, "its own text")
  end
end

tests["a big raised table is cut"] = function()
  for _, text in ipairs(told(function()
    local big = { text = ("é"):rep(100000) }
    for i = 1, 10000 do big[i], big["k" .. i] = { i }, i end
    error(big)
  end)) do
    assert(#text < 2000, #text)
    t.match(text, "{1}", "...")
    assert(utf8.len(text))
  end
end

tests["no metamethod of a raised table is called for its literal"] = function()
  for _, text in ipairs(told(function()
    local never = function() error "called" end
    local mt = { __index = never, __pairs = never, __len = never, __metatable = "hidden" }
    error(setmetatable({ 1, x = 2 }, mt))
  end)) do
    t.match(text, "{1, x = 2}")
  end
end

return tests
