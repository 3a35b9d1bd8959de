-- test_retry_if.lua - the option retry_if in maps, imaps, folds and single calls.

local t = ...
local tests = {}

-- The calls for lists: name -> f(function, list, options) -> list of results.
local function maps(pool)
  local function by_imap(method)
    return function(f, list, options)
      local results = {}
      for i, v, e in pool[method](pool, f, list, options) do results[i] = v or e end
      return results
    end
  end
  return {
    map = function(f, list, options) return pool:map(f, list, options) end,
    map_async = function(f, list, options) return pool:map_async(f, list, options):get() end,
    imap = by_imap "imap",
    imap_unordered = by_imap "imap_unordered",
    fz = fz.map,
    fz_here = function(f, list, options)
      options.jobs = 0
      return fz.map(f, list, options)
    end,
  }
end

tests["maps ask about each failed item"] = function()
  local pool <close> = fz.pool(2)
  for name, map in pairs(maps(pool)) do
    local calls, asked = fz.array("i", 10), {}
    local results = map(function(x)
      if x % 5 == 0 and calls:with(function(a) a[x] = a[x] + 1 return a[x] end) < 3 then
        error("no", 0)
      end
      return x
    end, t.numbers(10), { retries = 5, retry_if = function(e)
      asked[#asked + 1] = { e.index, e.attempt, e.kind, e.message }
      return true
    end })
    results.n = nil
    t.equal(results, t.numbers(10))
    table.sort(asked, function(a, b) return a[1] * 10 + a[2] < b[1] * 10 + b[2] end)
    t.equal({ name, asked }, { name, { { 5, 1, "error", "no" }, { 5, 2, "error", "no" },
      { 10, 1, "error", "no" }, { 10, 2, "error", "no" } } })
  end
end

tests["an item that is refused fails with its first error"] = function()
  local pool <close> = fz.pool(2)
  local function fail(x) return x == 3 and error("no", 0) or x end
  local options = { retries = 5, retry_if = function() return false end }
  for _, map in pairs { pool.map, pool.starmap } do
    local list = map == pool.map and { 1, 2, 3 } or { { 1 }, { 2 }, { 3 } }
    local e = t.fails("error", map, pool, fail, list, options)
    t.equal({ e.index, e.attempt }, { 3, 1 })
  end
  options.on_error = "continue"
  local results = pool:map(fail, { 1, 2, 3, 4 }, options)
  t.equal({ results[4], results[3], results.errors[3].attempt }, { 4, nil, 1 })
end

tests["single calls are asked about without an index"] = function()
  local pool <close> = fz.pool(2)
  local calls, asked = fz.value("i", 0), {}
  local function once(x) return calls:add(1) % 2 == 0 and x or error("no", 0) end
  local function ask(e)
    asked[#asked + 1] = { e.message, e.attempt, e.index }
    return true
  end
  t.equal(pool:apply_async(once, { 7 }, { retries = 1, retry_if = ask }):get(), 7)
  t.equal(asked, { { "no", 1 } })
  local options = { retries = 1, retry_if = function() return false end }
  local result = pool:apply_async(once, { 7 }, options)
  t.equal(t.fails("error", result.get, result).attempt, 1)
end

tests["a pool's own option holds for all its calls"] = function()
  local asked = {}
  local pool <close> = fz.pool { workers = 2, retries = 1, retry_if = function(e)
    asked[#asked + 1] = e.message
    return false
  end }
  local function fail(x) error("no " .. tostring(x), 0) end
  t.equal(t.fails("error", pool.apply, pool, fail, 1).attempt, 1)
  t.fails("error", pool.map, pool, fail, { 2 })
  t.fails("error", pool.fold, pool, function(_, x) fail(x) end, { 3 }, 0, fail)
  t.equal(fz.spawn(function() return pcall(pool.apply, pool, fail, 4) end):await(), false)
  t.equal(asked, { "no 1", "no 2", "no 3", "no 4" })
end

tests["a fold asks with the index of the item, and repeats the group"] = function()
  for _, jobs in ipairs { 0, 2 } do
    local failed, asked = fz.value("i", 0), {}
    local function add(acc, x)
      if x == 700 and failed:add(1) == 1 then error("no", 0) end
      return acc + x
    end
    local sum = fz.fold(add, t.numbers(1000), 0, function(a, b) return a + b end, {
      jobs = jobs, retries = 1, retry_if = function(e)
        asked[#asked + 1] = e.index
        return e.message == "no"
      end,
    })
    t.equal({ sum, asked }, { 500500, { 700 } })
  end
end

tests["a function that raises or waits harms nothing"] = function()
  local pool <close> = fz.pool(2)
  local function fail() error("no", 0) end
  local out = t.shell(([[%s -e 'print(pcall(fz.map, function() error("no", 0) end, {1},
    {retries = 1, retry_if = function() error "bad" end}))' 2>&1]]):format(t.fzlua))
  t.match(out, "a retry_if function raised: ", "bad", "item 1, attempt 1", "no")
  local e = t.fails("error", pool.map, pool, fail, { 1, 2 }, { retries = 1, retry_if = function()
    fz.sleep(0.01)
    return pool:apply(function() return true end)
  end })
  t.equal(e.attempt, 2)
end

tests["a result may be cancelled, and a pool terminated, by the answer"] = function()
  local pool <close> = fz.pool(1)
  local function fail() error("no", 0) end
  local result
  local options = { retries = 1, retry_if = function() result:cancel() return true end }
  result = pool:apply_async(fail, {}, options)
  t.fails("cancelled", result.get, result)
  result = pool:map_async(fail, { 1, 2, 3 }, options)
  t.fails("cancelled", result.get, result)
  t.equal(pool:apply(function() return 1 end), 1)
  options.retry_if = function() pool:terminate() return true end
  t.fails("cancelled", pool.map, pool, fail, { 1, 2, 3 }, options)
end

return tests
