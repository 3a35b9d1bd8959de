-- chain:changes(): what each stage did to the values.
local t = ...
local tests = {}

local function chain_of_three()
  local a, b = fz.stage "a", fz.stage "b"
  local c = fz.stage { name = "c", pass_input = false }
  a:register("list", {}, function()
    return { { id = 1, x = 2 }, { id = 2 }, { id = 3, y = {} } }
  end)
  b:register("list", function(list) return { list[1] } end)
  b:register("same", function(v) return { v[1], v[2] } end)
  b:register("none", {}, function() return nil end)
  c:register("size", "list", function(list) return #list end)
  return a >> b >> c
end

local INPUT <const> = { same = { 5, "six" }, text = ("x"):rep(1000) }

local function texts(rows)
  local list = {}
  for i, row in ipairs(rows) do
    list[i] = ("%d %s.%s %s %s %s %s %s"):format(row.stage_id, row.stage_name, row.name,
      row.change, row.type, row.rows, row.columns, row.was)
  end
  return list
end

tests["rows say what was added, changed, passed and dropped"] = function()
  local chain <close> = chain_of_three()
  chain:invoke(INPUT, { keep = "all" })
  local rows = chain:changes()
  t.equal(texts(rows), {
    "-1 .same input table 2 nil nil",
    "-1 .text input string nil nil nil",
    "0 a.list added table 3 3 nil",
    "0 a.same passed table 2 nil nil",
    "0 a.text passed string nil nil nil",
    "1 b.list changed table 1 2 3 x 3",
    "1 b.same same table 2 nil nil",
    "1 b.none added nil nil nil nil",
    "1 b.text passed string nil nil nil",
    "2 c.size added number nil nil nil",
    "2 c.list dropped table 1 2 nil",
    "2 c.same dropped table 2 nil nil",
    "2 c.text dropped string nil nil nil",
  })
  t.equal(rows[3].names, { "id", "x", "y" })
  assert(rows[2].bytes > 1000 and rows[2].bytes < 1020)
  t.match(tostring(rows), "stage_id  stage_name  name  change ", "3 x 3")
end

tests["it needs an invoke with keep"] = function()
  local chain <close> = chain_of_three()
  for _ = 1, 2 do
    local ok, e = pcall(chain.changes, chain)
    t.equal({ ok, e.kind, e.message },
      { false, "error", 'chain:changes needs an invoke with keep = "all"' })
    chain:invoke(INPUT, { keep = "all" })
    t.equal(#chain:changes(), 13)
    chain:invoke(INPUT)
  end
  chain:invoke(INPUT, { keep = "all" }):prune()
  t.equal(pcall(chain.changes, chain), false)
end

tests["outputs, failures and odd values"] = function()
  local a, b = fz.stage "a", fz.stage "b"
  a:register("bad", {}, function() error "no" end)
  a:register("holes", {}, function() return { 1, nil, 3, n = 3 } end)
  b:register("f", {}, function() return { print, function() end } end)
  local chain <close> = a >> b
  chain:invoke({ [1] = "a key that is no name" }, { keep = "all", on_error = "continue" })
  t.equal(texts(chain:changes()), {
    "0 a.bad added nil nil nil nil", "0 a.holes added table 3 nil nil",
    "1 b.f added table 2 nil nil", "1 b.holes passed table 3 nil nil",
  })
  chain:invoke({}, { keep = "all", outputs = { "f" } })
  t.equal(texts(chain:changes()), { "1 b.f added table 2 nil nil" })
end

tests["the page of the run has them"] = function()
  local page = t.file "" .. ".html"
  t.files[#t.files + 1] = page
  local chain <close> = chain_of_three()
  local function has(options)
    options.report = page
    chain:invoke(INPUT, options)
    local file <close> = io.open(page)
    return file:read "a":find('"changes":[{', 1, true) ~= nil
  end
  t.equal({ has { keep = "all" }, has {} }, { true, false })
end

return tests
