-- The manual finds the entries of the reference by name.

local t = ...
local tests = {}

local annotations = dofile "tools/annotations.lua"
local manual = require "fzlua.manual"

tests["every function, object and field has an entry, and functions a signature"] = function()
  for _, section in ipairs(annotations.all ".") do
    for _, entry in ipairs(section.entries) do
      if entry.name then
        local text = assert(manual.find(entry.name), entry.name)
        assert(#text > 20, entry.name)
        local signature = manual.signature(entry.name)
        t.equal(signature ~= nil, entry.arguments ~= nil)
        if signature then t.match(text, "`" .. signature .. "`\n") end
        for _, field in ipairs(entry.fields) do
          local name = field.name:match "^[%a_]+$"
          if name then
            t.match(manual.find(entry.name .. "." .. name), ("`%s` ("):format(name))
          end
        end
      end
    end
  end
end

tests["names may have a dot for a colon, and any case"] = function()
  t.equal(manual.signature "pool:apply_async", "pool:apply_async(f [, args] [, options]) -> result")
  t.equal(manual.find "Pool.Apply_Async", (manual.find "pool:apply_async"))
  t.equal(manual.signature "chain.stream", "chain:stream(source [, options]) -> iterator")
end

tests["a last part finds the function of fz first, then names the others"] = function()
  local text, others = manual.find "map"
  t.equal(text, (manual.find "fz.map"))
  t.equal(others, { "stage:map", "dag:map", "pool:map" })
  text, others = manual.find "chain"
  t.match(text, "`output` (table)", "chain:invoke")
  t.equal(others, { "fz.chain", "stage:chain", "chain:chain" })
end

tests["an entry ends where the next one begins, and has no links"] = function()
  local text = manual.find "fz.starmap"
  t.match(text, "`fz.starmap(f, list [, options]) -> results`\n", "print(fz.starmap(")
  assert(not text:find("fold", 1, true) and not text:find("](", 1, true))
  t.equal(manual.find "process.pid", "`pid` (integer or nil): nil before the start\n")
  text = manual.find "fz.Error.kind"
  t.equal(text, "`kind` (string): see above\n")
end

tests["a section has its introduction"] = function()
  t.match(manual.find "stages", "A stage is a set of functions")
  assert(not manual.find "stages":find("fz.stage(", 1, true))
end

tests["fzlua.3 has each function of the header, with an example that calls it"] = function()
  local header = assert(io.open "src/api/fzlua.h"):read "a"
  local page = assert(io.open "doc/fzlua.3"):read "a"
  local examples = {}
  for code in page:gmatch "\nExample:\n%.Bd[^\n]*\n(.-)\n%.Ed" do examples[#examples + 1] = code end
  local code, n = table.concat(examples, "\n"), 0
  for name in header:gmatch "\nFZLUA_API[^;]-([%w_]+)%(" do
    t.match(page, "\n.Nm " .. name, name .. "(")
    assert(code:find(name .. "%f[^%w_]"), name .. " has no example: see tools/manpage.lua")
    n = n + 1
  end
  assert(n >= 20)
end

tests["a name without an entry gives the nearest ones"] = function()
  local text, near = manual.find "pool:aply"
  t.equal(text, nil)
  t.equal(near, { "pool:apply" })
  text, near = manual.find "regster"
  t.equal(text, nil)
  t.equal(near, { "stage:register" })
  t.equal(manual.signature "regster", nil)
end

return tests
