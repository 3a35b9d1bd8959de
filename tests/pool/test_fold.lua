-- test_fold.lua - folds over lists, iterators and files in workers, and pieces of files.

local t = ...
local fz = require "fzlua"

local tests = {}

local function add(a, b) return a + b end

local function append(list, item)
  list[#list + 1] = item
  return list
end

local function concat(a, b) return table.move(b, 1, #b, #a + 1, a) end

-- An iterator over 1 to n.
local function count_to(n)
  local i = 0
  return function()
    i = i + 1
    if i <= n then return i end
  end
end

-- Each way to fold: name -> function(f, items, init, merge, options).
local function ways()
  local pool = fz.pool(2)
  return {
    fz = fz.fold,
    pool = function(...) return pool:fold(...) end,
    here = function(f, items, init, merge) return fz.fold(f, items, init, merge, { jobs = 0 }) end,
    one = function(f, items, init, merge) return fz.fold(f, items, init, merge, { jobs = 1 }) end,
  }, pool
end

tests["lists and iterators are folded to what a loop gives"] = function()
  local all, pool <close> = ways()
  local _ = pool
  for _, fold in pairs(all) do
    t.equal(fold(add, t.numbers(5000), 0, add), 5000 * 5001 // 2)
    t.equal(fold(add, count_to(5000), 0, add), 5000 * 5001 // 2)
    t.equal(fold(add, { 41 }, 1, add), 42)
  end
end

tests["results are merged in the order of their items"] = function()
  local all, pool <close> = ways()
  local _ = pool
  for _, fold in pairs(all) do
    t.equal(fold(append, count_to(3000), {}, concat), t.numbers(3000))
    t.equal(fold(append, t.numbers(3000), {}, concat), t.numbers(3000))
  end
end

tests["without items the result is the first accumulator"] = function()
  local all, pool <close> = ways()
  local _ = pool
  for _, fold in pairs(all) do
    t.equal(fold(add, {}, 7, add), 7)
    t.equal(fold(add, function() end, "x", add), "x")
  end
end

tests["the first accumulator stays as it was, and each worker has a copy"] = function()
  local all, pool <close> = ways()
  local _ = pool
  for _, fold in pairs(all) do
    local init = { "first" }
    fold(append, { 1, 2, 3 }, init, concat)
    t.equal(init, { "first" })
  end
end

tests["nil elements of a list are items"] = function()
  local function count(n, item) return n + (item == nil and 100 or 1) end
  local all, pool <close> = ways()
  local _ = pool
  for _, fold in pairs(all) do
    t.equal(fold(count, { 1, nil, 3, nil, n = 4 }, 0, add), 202)
  end
end

tests["an error names its item"] = function()
  local all, pool <close> = ways()
  local _ = pool
  for _, fold in pairs(all) do
    for _, bad in ipairs { 1, 2, 4000 } do
      local function fail(acc, x)
        if x == bad then error({ x = x }, 0) end
        return acc
      end
      for _, items in ipairs { count_to(5000), t.numbers(5000) } do
        local e = t.fails("error", fold, fail, items, 0, add)
        t.equal({ e.index, e.cause, e.item }, { bad, { x = bad } })
        t.match(e, ("item %d, "):format(bad))
      end
    end
  end
end

tests["a crash names the items of the range"] = function()
  local function crash(acc, x)
    if x == 4000 then os.exit(1) end
    return acc
  end
  local e = t.fails("crash", fz.fold, crash, count_to(5000), 0, add)
  local from, to = tostring(e):match "one of the items (%d+) to (%d+)"
  t.equal({ tonumber(from) <= 4000, tonumber(to) >= 4000, e.index }, { true, true, nil })
end

tests["errors of the source and of merge are raised, and the pool stays usable"] = function()
  local pool <close> = fz.pool(2)
  local function broken() error "no source" end
  t.match(select(2, pcall(pool.fold, pool, add, broken, 0, add)), "no source")
  local function refuse() error "no merge" end
  t.match(select(2, pcall(pool.fold, pool, add, count_to(5000), 0, refuse)), "no merge")
  t.equal(pool:fold(add, t.numbers(10), 0, add), 55)
end

tests["a killed worker costs nothing with retries"] = function()
  local killed = fz.value("b", 0)
  local function once(acc, x)
    if x == 500 and killed:add(1) == 1 then os.execute "kill -9 $PPID" end
    return acc + x
  end
  t.equal(fz.fold(once, t.numbers(1000), 0, add, { jobs = 2, retries = 2 }), 500500)
  killed.value = 0
  t.fails("crash", fz.fold, once, t.numbers(1000), 0, add, { jobs = 2 })
end

tests["wrong arguments are errors at the caller's line"] = function()
  t.match(t.wrong(function() fz.fold(1, {}, 0, add) end), "#1 to 'fz.fold'")
  t.match(t.wrong(function() fz.fold(add, 5, 0, add) end), "#2 to 'fz.fold'", "list or an iterator")
  t.match(t.wrong(function() fz.fold(add, {}, 0) end), "#4 to 'fz.fold'")
  t.match(t.wrong(function() fz.fold(add, {}, 0, add, { size = 1 }) end), "bad option 'size'")
  local pool <close> = fz.pool(1)
  t.match(t.wrong(function() pool:fold(add, {}, 0, 1) end), "#4 to 'pool:fold'")
end

-- The pieces of a file with this text.
local function pieces_of(text, size)
  local list = {}
  for piece in fz.chunks(t.file(text), { size = size }) do list[#list + 1] = piece end
  return list
end

tests["chunks of a file end at line ends"] = function()
  t.equal(pieces_of("a\nbb\nccc\n", 2), { "a\n", "bb\n", "ccc\n" })
  t.equal(pieces_of("a\nbb\nccc\n", 3), { "a\nbb\n", "ccc\n" })
  t.equal(pieces_of("a\nbb\nccc", 100), { "a\nbb\nccc" })
  t.equal(pieces_of("long line\nx", 4), { "long line\n", "x" })
  t.equal(pieces_of("\n\n\n", 1), { "\n", "\n", "\n" })
  t.equal(pieces_of("", 4), {})
end

tests["the pieces of a file are all of it, of about the size"] = function()
  local lines = {}
  for i = 1, 20000 do lines[i] = ("line %d\n"):format(i * i) end
  local text = table.concat(lines)
  local pieces = pieces_of(text, "16K")
  t.equal(table.concat(pieces), text)
  for i, piece in ipairs(pieces) do
    t.equal(piece:byte(-1), 10)
    assert(#piece < 17000 and (i == #pieces or #piece >= 16384))
  end
end

tests["leaving the loop closes the file"] = function()
  local before = t.descriptors()
  for piece in fz.chunks(t.file(("x\n"):rep(100)), { size = 10 }) do
    t.equal(#piece, 10)
    t.equal(t.descriptors(), before + 1)
    if piece then break end
  end
  t.equal(t.descriptors(), before)
end

tests["a file that cannot be read is an error with its name"] = function()
  t.match(t.fails("error", fz.chunks, "/nowhere/x"), "cannot open /nowhere/x")
  t.match(t.fails("error", fz.chunks("/tmp")), "cannot read /tmp")
  t.match(t.wrong(function() fz.chunks(1) end), "#1 to 'fz.chunks'")
  t.match(t.wrong(function() fz.chunks("x", { size = 0 }) end), "bad option 'size'")
end

tests["words of a file are counted in a dozen lines"] = function()
  local file = t.file(("a b\nb c\n"):rep(5000))
  local function count(words, piece)
    for word in piece:gmatch "%a+" do words[word] = (words[word] or 0) + 1 end
    return words
  end
  local function merge(a, b)
    for word, n in pairs(b) do a[word] = (a[word] or 0) + n end
    return a
  end
  local words = fz.fold(count, fz.chunks(file, { size = "4K" }), {}, merge)
  t.equal(words, { a = 5000, b = 10000, c = 5000 })
end

tests["progress has the events of items, and the last call has done == total"] = function()
  local pool <close> = fz.pool(2)
  for _, way in ipairs { "list", "iterator" } do
    for _, fold in ipairs { fz.fold, function(...) return pool:fold(...) end } do
      local indexes, kinds, last = {}, {}, nil
      local check_order = t.event_order()
      local items = way == "list" and t.numbers(500) or (t.counter(500))
      t.equal(fold(add, items, 0, add, { progress = function(done, total, event)
        check_order(event)
        kinds[event.kind] = (kinds[event.kind] or 0) + 1
        indexes[event.index], last = true, { done, total }
        assert(event.pid)
      end }), 500 * 501 // 2)
      t.equal({ #indexes, kinds }, { 500, { start = 500, done = 500 } })
      t.equal(last, { 500, way == "list" and 500 or nil })
    end
  end
end

tests["progress = true shows a line that counts items"] = function()
  local _, err = t.command("-e", [[
local function add(a, b) return a + b end
fz.fold(add, { 1, 2, 3, 4, 5, 6, 7 }, 0, add, { progress = true })
fz.pool { workers = 1, progress = true }:fold(add, { 1, 2, 3 }, 0, add)
]])
  t.match(err, "fz.fold: done, 7/7", "pool:fold: done, 3/3")
end

tests["an init that cannot be sent is named"] = function()
  local e = t.fails("unsendable", fz.fold, math.max, { 1 }, { file = io.stdout,
    deep = { coroutine.create(print) } }, math.max)
  t.match(e, "argument 'init': .deep[1]: a coroutine cannot be sent")
end

return tests
