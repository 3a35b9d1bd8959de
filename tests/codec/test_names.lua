-- Classes, values and modules that are sent by name, to a receiver that has them or lacks them.
local t = ...
local tests = {}

-- A pool whose only worker has started: it does not know classes that are registered later.
local function early_pool()
  local pool = fz.pool(1)
  pool:apply(type, 1)
  return pool
end

tests["a class that the receiver does not know is named"] = function()
  local pool <close> = early_pool()
  local Late = { __name = "Late" }
  Late.__index = Late
  Late.__fzpack = function(self) return self.x end
  Late.__fzunpack = function(x) return setmetatable({ x = x }, Late) end
  fz.register_class("names.Late", Late)
  local hint = "fz.register_class"
  local e = t.fails("error", pool.apply, pool, type, setmetatable({ x = 1 }, Late))
  t.match(e.message, "class 'names.Late' is not registered here", hint)
  e = t.fails("error", pool.apply, pool, type, Late)
  t.match(e.message, "class 'names.Late' is not registered here", hint)
  e = t.fails("error", pool.apply, pool, function() return Late end)
  t.match(e.message, "class 'names.Late' is not registered here", hint)
  local value = fz.register_value("names.late", {})
  e = t.fails("error", pool.map, pool, type, { { value } })
  t.match(e.message, "value 'names.late' is not registered here", "fz.register_value")
end

tests["init registers what the script registers too late"] = function()
  local Point = { __name = "Point" }
  local pool <close> = fz.pool { workers = 1, init = function()
    fz.register_class("names.Point", Point)
  end }
  pool:apply(type, 1)
  fz.register_class("names.Point", Point)
  local p = pool:apply(function() return setmetatable({ x = 1 }, Point) end)
  assert(getmetatable(p) == Point and p.x == 1)
end

tests["a module that the receiver has not loaded is required there"] = function()
  local path = t.file "return setmetatable({}, { __call = function() return 'loaded' end })"
  local pool <close> = fz.pool { workers = 1, init = function()
    package.preload["names.there"] = function() return dofile(path) end
  end }
  pool:apply(type, 1)
  package.loaded["names.there"] = dofile(path)
  local there = package.loaded["names.there"]
  t.equal(pool:apply(function() return there() end), "loaded")
  assert(pool:apply(function() return there end) == there)
  package.loaded["names.there"] = nil
end

tests["a module that cannot be loaded at the receiver is named"] = function()
  local pool <close> = early_pool()
  local gone = setmetatable({}, { __call = type })
  package.loaded["names.gone"] = gone
  local e = t.fails("error", pool.apply, pool, function() return gone() end)
  t.match(e.message, "module 'names.gone' cannot be loaded here", "no field package.preload")
  package.preload["names.raises"] = error
  local bytes = fz.pack(gone):gsub("names.gone", "names.nope")
  e = t.fails("error", fz.unpack, bytes, { functions = true })
  t.match(e.message, "module 'names.nope' cannot be loaded here")
  package.loaded["names.gone"] = nil
end

tests["bytes that are not trusted load no module"] = function()
  local loaded = 0
  package.preload["names.evil"] = function()
    loaded = loaded + 1
    return {}
  end
  local module = setmetatable({}, {})
  package.loaded["names.good"] = module
  local bytes = fz.pack { module }
  package.loaded["names.good"] = nil
  local evil = bytes:gsub("names.good", "names.evil")
  for _, options in ipairs { {}, { functions = false } } do
    t.match(t.fails("error", fz.unpack, evil, options).message, "functions are not allowed")
  end
  t.equal(loaded, 0)
  assert(fz.unpack(evil, { functions = true }))
  t.equal(loaded, 1)
end

tests["a module is the receiver's, whatever the sender changed in it"] = function()
  local settings = setmetatable({ level = 1 }, { __name = "settings" })
  package.loaded["names.settings"] = settings
  local pool <close> = early_pool()
  settings.level = 2
  t.equal(pool:apply(function() return settings.level end), 1)
  t.equal(pool:apply(function(s) return s.level end, settings), 1)
  assert(fz.unpack(fz.pack(settings), { functions = true }) == settings)
  package.loaded["names.settings"] = nil
end

tests["a module of plain data is by name beside functions, a copy among plain data"] = function()
  local words = { "a", "b" }
  package.loaded["names.words"] = words
  local copy = fz.unpack(fz.pack(words))
  assert(copy ~= words)
  t.equal(copy, words)
  local a, f = fz.unpack(fz.pack(words, function() return words end), { functions = true })
  assert(a == words and f() == words)
  package.loaded["names.words"] = nil
end

tests["values are one thing, and a name moves to the value registered last"] = function()
  local old, new = {}, { "new" }
  assert(fz.register_value("names.moved", old) == old)
  local bytes = fz.pack { old, old, [old] = 1 }
  local back = fz.unpack(bytes)
  assert(back[1] == old and back[2] == old and back[old] == 1)
  fz.register_value("names.moved", new)
  assert(fz.unpack(bytes)[1] == new)
  local copy = fz.unpack(fz.pack { old })[1]
  assert(copy ~= old and copy ~= new)
end

tests["a userdata may be registered"] = function()
  local file <close> = assert(io.open "/dev/null")
  t.match(t.fails("unsendable", fz.pack, { file }).message, "[1]: a FILE* cannot be sent")
  fz.register_value("names.file", file)
  local a, b = fz.unpack(fz.pack({ file }, file))
  assert(a[1] == file and b == file)
end

tests["a light userdata may be registered"] = function()
  local light, shared = debug.upvalueid(function() return t end, 1), {}
  t.match(t.fails("unsendable", fz.pack, { light }).message, "[1]: a light userdata cannot be sent")
  fz.register_value("names.light", light)
  local a, b = fz.unpack(fz.pack({ shared, light, light }, { light, shared }))
  assert(a[2] == light and a[3] == light and b[1] == light and b[2] == a[1])
end

tests["wrong arguments of register_value raise a text at the caller"] = function()
  t.match(t.wrong(fz.register_value), "bad argument #1")
  t.match(t.wrong(fz.register_value, "names.x"), "bad argument #2", "table or userdata expected")
  t.match(t.wrong(fz.register_value, "names.x", "text"), "got string")
end

-- Lines of the log that a script writes.
local function logged(script)
  local _, err, status = t.command(t.file(script))
  t.equal(status, 0)
  local lines = {}
  for line in err:gmatch "[^\n]+" do lines[#lines + 1] = line end
  return lines
end

tests["a class that is not registered is logged once"] = function()
  local lines = logged [[
    local Named = { __name = "Account" }
    local Methods = {}
    Methods.__index = Methods
    function Methods.get() end
    for _ = 1, 3 do
      fz.pack { setmetatable({}, Named), { setmetatable({}, Named) } }
      fz.pack(setmetatable({}, Methods))
    end
    fz.pack(setmetatable({}, {}), setmetatable({}, { __mode = "k" }))
    fz.pack(setmetatable({}, { __index = { colour = "red" } }))
    fz.pack(setmetatable({}, { __index = print }))
    fz.register_class("Fine", setmetatable({ __name = "Fine" }, nil))
  ]]
  t.equal(#lines, 2)
  t.match(lines[1], "WARN", "class Account", "fz.register_class")
  t.match(lines[2], "WARN", "class without a name")
end

tests["a class that a worker does not know is logged once there"] = function()
  local lines = logged [[
    local pool <close> = fz.pool(1)
    pool:apply(type, 1)
    local Late = fz.register_class("Late", { __name = "Late" })
    for _ = 1, 3 do
      local p = setmetatable({}, Late)
      assert(pool:apply(function(p) return getmetatable(p) end, p) == nil)
    end
  ]]
  t.equal(#lines, 1)
  t.match(lines[1], "WARN", "class 'Late'", "not registered here")
end

local has_cjson, cjson = pcall(require, "cjson")
assert(has_cjson, "lua-cjson is missing: .ci/setup check installs it")

tests["JSON null goes both ways"] = function()
  local null = cjson.null
  local values = fz.map(function(s) return cjson.decode(s) end, { '{"a":null}', "[null]" })
  assert(values[1].a == null and values[2][1] == null)
  local pool <close> = early_pool()
  t.equal(pool:apply(function(v) return v == cjson.null, cjson.encode { v } end, null), true)
  t.equal(pool:map(cjson.encode, { { a = null }, null }), { '{"a":null}', "null", n = 2 })
end

return tests
