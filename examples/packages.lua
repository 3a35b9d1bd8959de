-- packages.lua: a Debian package database, read once and analysed in five ways at once.
--
--   fzlua examples/packages.lua                           what is installed on this machine
--   fzlua examples/packages.lua file=/path/to/Packages    any index, of 60,000 packages too
--   fzlua --graph examples/packages.lua                   which function feeds which
--
-- Shows how to keep the values of a pipeline small: every stage has `pass_input = false`, so that
-- the text of the database is not sent beyond the parsers. Each analysis gets only the columns
-- that it reads.

local fz = require "fzlua"

local ROWS = 10 -- lines in each table of the report

-- load: the file as one string. With newlines around it, one pattern finds every field.

local source = fz.stage{name = "load", pass_input = false}

function source.text(file)
  local input <close> = assert(io.open(file, "rb"))
  local text = "\n" .. input:read("a") .. "\n\n"
  if not text:find("\nPackage: ", 1, true) then
    error(file .. " holds no packages (is it compressed? unpack it first)")
  end
  return text
end

-- parse: one column for each field. Plain searches find the fields, and no line is read twice.

local parse = fz.stage{name = "parse", pass_input = false}

-- The first line of a field, "" if the stanza does not have the field.
local function field(stanza, name)
  local key = "\n" .. name .. ": "
  local at = stanza:find(key, 1, true)
  if not at then return "" end
  at = at + #key
  return stanza:sub(at, stanza:find("\n", at, true) - 1)
end

-- Each stanza of `text`, the newlines before and after it included.
local function stanzas(text)
  local from = 1
  return function()
    local to = text:find("\n\n", from, true)
    if not to then return nil end
    local stanza = text:sub(from, to)
    from = to + 1
    return stanza
  end
end

-- { Field = {value of package 1, of package 2, ...}, ... } of all packages but removed ones.
local function columns(text, ...)
  local names, result, n = {...}, {}, 0
  for _, name in ipairs(names) do result[name] = {} end
  for stanza in stanzas(text) do
    local status = field(stanza, "Status") -- only in dpkg's own database, not in an index
    if #stanza > 1 and (status == "" or status:find(" installed", 1, true)) then
      n = n + 1
      for _, name in ipairs(names) do result[name][n] = field(stanza, name) end
    end
  end
  return result
end

function parse.relations(text)
  return columns(text, "Package", "Provides", "Pre-Depends", "Depends")
end
function parse.sizes(text) return columns(text, "Section", "Installed-Size") end
function parse.maintainers(text) return columns(text, "Maintainer").Maintainer end
function parse.summaries(text) return columns(text, "Description").Description end

-- analyse: five functions that do not depend on each other. Ready functions start in the order of
-- their registration: the one that takes longest comes first.

local analyse = fz.stage{name = "analyse", pass_input = false}

-- A package's name in a relation such as "libc6 (>= 2.36), awk | mawk:any", and what follows it.
local NAME = "(%w[%w+.-]*)[^,|]*"

-- The largest entries of a map, as a list of {key, value}: by value, then by name.
local function largest(map)
  local list = {}
  for key, value in pairs(map) do
    local place = #list + 1
    while place > 1 and (value > list[place - 1][2]
        or value == list[place - 1][2] and key < list[place - 1][1]) do
      place = place - 1
    end
    if place <= ROWS then
      table.insert(list, place, {key, value})
      list[ROWS + 1] = nil
    end
  end
  return list
end

-- How often each value of a list occurs.
local function tally(list)
  local counts = {}
  for _, value in ipairs(list) do counts[value] = (counts[value] or 0) + 1 end
  return counts
end

-- The names of the packages, sorted, and for each package the numbers of the packages that it
-- needs. Of alternatives only the first one that exists counts. A virtual package stands for its
-- first provider.
local function graph_of(relations)
  local names, stanza_of, number = {}, {}, {}
  for i, name in ipairs(relations.Package) do
    if not stanza_of[name] then -- a second architecture or version adds nothing
      stanza_of[name] = i
      names[#names + 1] = name
    end
  end
  table.sort(names)
  for v, name in ipairs(names) do number[name] = v end
  for v, name in ipairs(names) do
    for virtual in relations.Provides[stanza_of[name]]:gmatch(NAME) do
      number[virtual] = number[virtual] or v
    end
  end

  local needs = {}
  for v, name in ipairs(names) do
    local i, list = stanza_of[name], {}
    for group in (relations["Pre-Depends"][i] .. "," .. relations.Depends[i]):gmatch("[^,]+") do
      for alternative in group:gmatch(NAME) do
        local w = number[alternative]
        if w then
          list[#list + 1] = w
          break
        end
      end
    end
    needs[v] = list
  end
  return names, needs
end

-- Packages that need each other in a circle, as libc6 and libgcc-s1 do, are one knot (a strongly
-- connected component, found by Tarjan's algorithm). Returns the knots, each after the knots that
-- it needs, and for each package its knot. A knot is a list of numbers.
local function knots_of(needs)
  local knots, knot_of = {}, {}
  local seen, low, open, clock = {}, {}, {}, 0

  local function visit(v)
    clock = clock + 1
    seen[v], low[v] = clock, clock
    open[#open + 1] = v
    for _, w in ipairs(needs[v]) do
      if not seen[w] then
        visit(w)
        low[v] = math.min(low[v], low[w])
      elseif not knot_of[w] then
        low[v] = math.min(low[v], seen[w])
      end
    end
    if low[v] == seen[v] then -- all that was opened since v belongs to v's knot
      local knot = {}
      repeat
        local w = table.remove(open)
        knot[#knot + 1] = w
        knot_of[w] = knot
      until w == v
      table.sort(knot)
      knots[#knots + 1] = knot
    end
  end

  for v = 1, #needs do
    if not seen[v] then visit(v) end
  end
  return knots, knot_of
end

-- The longest path in the graph of knots, which has no circles, as a list of lists of names. A knot
-- counts as one link, however many packages it has.
function analyse.longest_chain(relations)
  local names, needs = graph_of(relations)
  local knots, knot_of = knots_of(needs)
  local links, below = {}, {} -- by knot: links to the end of the chain; the next knot in it

  local function longer(a, b)
    return not b or links[a] > links[b] or links[a] == links[b] and a[1] < b[1]
  end

  local top
  for _, knot in ipairs(knots) do
    local best
    for _, v in ipairs(knot) do
      for _, w in ipairs(needs[v]) do
        local other = knot_of[w]
        if other ~= knot and longer(other, best) then best = other end
      end
    end
    links[knot], below[knot] = 1 + (links[best] or 0), best
    if longer(knot, top) then top = knot end
  end

  local chain = {}
  while top do
    local link = {}
    for i, v in ipairs(top) do link[i] = names[v] end
    chain[#chain + 1] = link
    top = below[top]
  end
  return chain
end

function analyse.by_section(sizes)
  local kib, total = {}, 0
  for i, section in ipairs(sizes.Section) do
    local size = math.tointeger(tonumber(sizes["Installed-Size"][i])) or 0
    kib[section] = (kib[section] or 0) + size
    total = total + size
  end
  return {packages = #sizes.Section, kib = total, rows = largest(kib)}
end

-- How many packages name each package as a dependency, also as one of several alternatives. A
-- package that names another one twice counts once.
function analyse.most_needed(relations)
  local counts, counted_for = {}, {}
  for i, depends in ipairs(relations.Depends) do
    for name in (relations["Pre-Depends"][i] .. "," .. depends):gmatch(NAME) do
      if counted_for[name] ~= i then
        counted_for[name] = i
        counts[name] = (counts[name] or 0) + 1
      end
    end
  end
  return largest(counts)
end

function analyse.by_maintainer(maintainers)
  return largest(tally(maintainers))
end

function analyse.repeated(summaries)
  local counts = tally(summaries)
  for summary, count in pairs(counts) do
    if count == 1 then counts[summary] = nil end
  end
  return largest(counts)
end

-- render: the five answers as one text.

local render = fz.stage{name = "render", pass_input = false}

local function mib(kib) return ("%.1f MiB"):format(kib / 1024) end

local function without_address(maintainer) return (maintainer:gsub("%s*<.*", "")) end

-- A knot as text: all of it when it is small.
local function knot_text(names)
  if #names == 1 then return names[1] end
  local shown = table.concat(names, ", ", 1, math.min(#names, 3))
  local rest = #names > 3 and (", %d more"):format(#names - 3) or ""
  return ("%s%s (need each other)"):format(shown, rest)
end

function render.report(by_section, most_needed, by_maintainer, longest_chain, repeated)
  local lines = {("%d packages, %s installed"):format(by_section.packages, mib(by_section.kib))}

  local function add_table(title, rows, left, right)
    lines[#lines + 1] = ""
    lines[#lines + 1] = title
    for _, row in ipairs(rows) do
      lines[#lines + 1] = ("%14s  %s"):format(left(row), right(row))
    end
  end
  local function key(row) return row[1] end
  local function value(row) return row[2] end

  add_table("Installed size by section", by_section.rows,
    function(row) return mib(row[2]) end, key)
  add_table("Packages that most others depend on", most_needed, value, key)
  add_table("Maintainers of most packages", by_maintainer, value,
    function(row) return without_address(row[1]) end)
  add_table("Descriptions used more than once", repeated, value, key)

  local place = 0
  add_table(("Longest chain of dependencies: %d links"):format(#longest_chain), longest_chain,
    function() place = place + 1; return place end, knot_text)
  return table.concat(lines, "\n")
end


local chain = source >> parse >> analyse >> render
chain.input = {file = "/var/lib/dpkg/status"}
return chain
