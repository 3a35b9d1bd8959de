local t = ...
local tests = {}

local function example(name)
  local clean = fz.stage(name or "clean")
  clean:register("A", function(a) return a end)
  clean:register("B", function(b) return b end)
  local merge = fz.stage "merge"
  merge:register("C", { "A", "B" }, function(a, b) return a + b end)
  local last = fz.stage "last"
  last:register("E", { "C", "A", "X" }, function(c) return c end)
  return clean >> merge >> last
end

tests["edge_table prints aligned, the input is stage -1"] = function()
  t.equal(tostring(example().edge_table), [[
source_id  source_ele  target_id  target_ele
        0  function A          0  A
        0  function B          0  B
        1  function C          1  C
        2  function E          2  E
       -1  A                   0  function A
       -1  B                   0  function B
        0  A                   1  function C
        0  B                   1  function C
        1  C                   2  function E
        0  A                   2  function E
       -1  X                   2  function E]])
end

tests["edge_table reads as a list of rows"] = function()
  local rows = example().edge_table
  t.equal(#rows, 11)
  t.equal(rows[1].source_id, 0)
  t.equal({ rows[5].source_id, rows[5].source_ele, rows[5].target_id, rows[5].target_ele },
    { -1, "A", 0, "function A" })
end

tests["the time of a table grows with its length, also of a name of 400,000 bytes"] = function()
  local long = ("x"):rep(400000)
  local s = fz.stage "s"
  s:register(long, { "A" }, function(a) return a end)
  local text = tostring(fz.chain({ s }).edge_table)
  t.equal(#text > 2 * #long, true)
  t.equal(text:find " \n", nil)
  t.equal(text:match "^.*\n(.*)",
    "       -1  A" .. (" "):rep(#long + 8) .. "          0  function " .. long)
end

tests["as_table has one row per input"] = function()
  local rows = example():as_table()
  t.equal(tostring(rows), [[
stage_id  stage_name  output  prev_stage_id  inputs  func
       0  clean       A                  -1  A       function A
       0  clean       B                  -1  B       function B
       1  merge       C                   0  A       function C
       1  merge       C                   0  B       function C
       2  last        E                   1  C       function E
       2  last        E                   0  A       function E
       2  last        E                  -1  X       function E]])
  t.equal({ rows[3].inputs, rows[4].inputs, rows[4].prev_stage_id }, { "A", "B", 0 })
end

tests["several outputs of one function, and functions without inputs"] = function()
  local s = fz.stage "s"
  s:register({ "Q", "R" }, { "N" }, function() end)
  s:register("K", {}, function() end)
  t.equal(tostring(fz.chain({ s }).edge_table), [[
source_id  source_ele  target_id  target_ele
        0  function Q          0  Q
        0  function Q          0  R
        0  function K          0  K
       -1  N                   0  function Q]])
  t.equal(#fz.chain({ s }):as_table(), 3)
end

tests["mermaid has stages as subgraphs and skipping edges dashed"] = function()
  t.equal(example():to_mermaid(), [[
flowchart LR
  subgraph g0["input"]
    v3[/"A"/]
    v4[/"B"/]
    v7[/"X"/]
  end
  subgraph g1["clean"]
    f1("function A")
    v1[/"A"/]
    f2("function B")
    v2[/"B"/]
  end
  subgraph g2["merge"]
    f3("function C")
    v5[/"C"/]
  end
  subgraph g3["last"]
    f4("function E")
    v6[/"E"/]
  end
  f1 --> v1
  f2 --> v2
  f3 --> v5
  f4 --> v6
  v3 --> f1
  v4 --> f2
  v1 --> f3
  v2 --> f3
  v5 --> f4
  v1 -.-> f4
  v7 -.-> f4
]])
end

tests["dot has clusters and dashed edges"] = function()
  local text = example():to_dot()
  t.match(text, "digraph {", "subgraph cluster_1 {", 'label="clean";', "v1 -> f4 [style=dashed];",
    "v1 -> f3;")
end

tests["labels of DOT have no entities of their own"] = function()
  local s = fz.stage "s"
  s:register('<a>&amp;"\\', {}, function() end)
  t.match(fz.chain({ s }):to_dot(), [["function &lt;a&gt;&amp;amp;&quot;\\"]])
end

tests["the same graph gives the same bytes"] = function()
  t.equal(example():to_mermaid(), example():to_mermaid())
  t.equal(example():to_dot(), example():to_dot())
end

local NAMES = { 'a"b', "a]b", "a[b", "<b>", "two\nlines", "añb", "x;y", "#35;", "`m`", "%%{init}",
  "back\\slash", "bad\xffbyte", "", "end", "a-->b", "\0", "{}", "a|b" }

tests["any character in a name is safe"] = function()
  for _, name in ipairs(NAMES) do
    local s = fz.stage(name)
    s:register(name, "in " .. name, function(x) return x end)
    local chain = fz.chain { s }
    local mermaid = chain:to_mermaid()
    assert(utf8.len(mermaid))
    for line in mermaid:gmatch "[^\n]+" do
      local label = line:match '"(.*)"'
      if label then
        assert(not label:find '["`<>%[%]{}|\\%%]', line)
        assert(not label:gsub("#%d+;", ""):find "[#;]", line)
        assert(#label > 0)
      else
        assert(line:find "^[%w .>-]+$", line)
      end
    end
    local dot = chain:to_dot()
    assert(utf8.len(dot))
    for line in dot:gmatch "[^\n]+" do
      local _, quotes = line:gsub("\\.", ""):gsub('"', "")
      assert(quotes % 2 == 0, line)
    end
    local _, lines = tostring(chain.edge_table):gsub("\n", "")
    t.equal(lines, 2)
    t.equal(#tostring(chain:as_table()) > 0, true)
  end
end

tests["columns are aligned as a terminal shows them, whatever the script"] = function()
  local width = require "fzlua.core".text_width
  for text, columns in pairs {
    [""] = 0, abc = 3, ["größe"] = 5, ["日本語"] = 6, ["한국"] = 4, ["ｆ"] = 2, ["e\u{301}"] = 1,
    ["🙂"] = 2, ["👩‍👩‍👧"] = 2, ["🇩🇪🇫🇷"] = 4, ["👍🏽"] = 2, ["a\u{200B}b"] = 2,
    ["\xff\xfe"] = 2, ["日\xff"] = 3,
  } do
    if width(text) ~= columns then error(("%s: %d columns"):format(text, width(text))) end
  end
  local names = { "日本語", "🙂", "e\u{301}te\u{301}", "plain" }
  local s = fz.stage "工程"
  for _, name in ipairs(names) do s:register(name, name, function(x) return x end) end
  local lines, column = {}, nil
  for line in tostring(fz.chain({ s }):as_table()):gmatch "[^\n]+" do lines[#lines + 1] = line end
  for i = 2, #lines do
    local start = width(lines[i]:match "^(.*)function")
    column = column or start
    t.equal(start, column)
  end
  t.equal(#lines, #names + 1)
end

tests["UTF-8 names are kept and columns stay aligned"] = function()
  local s = fz.stage "größe"
  s:register("ä", "b", function(x) return x end)
  local chain = fz.chain { s }
  t.match(chain:to_mermaid(), '"größe"', '"ä"')
  t.match(chain:to_dot(), '"größe"')
  t.match(tostring(chain:as_table()), "       0  größe       ä                  -1  b")
end

return tests
