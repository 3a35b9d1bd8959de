-- The page of a run: its data, its size, names of any kind, files that cannot be written.
local t = ...
local json = require "fzlua.json"
local tests = {}

local function page_name()
  local name = t.file "" .. ".html"
  t.files[#t.files + 1] = name
  return name
end

-- The text of a page and its data.
local function page(name)
  local text = t.read(name)
  local data = text:match '<script type="application/json" id="data">(.-)</script>'
  return text, json.decode(data)
end

local function by_name(data)
  local functions = {}
  for _, f in ipairs(data.functions) do functions[f.name] = f end
  return functions
end

tests["workers of maps that follow each other are not idle meanwhile"] = function()
  local name = page_name()
  local script = t.file [[
local both = fz.barrier(2)
for _ = 1, 5 do
  fz.map(function() both:wait() fz.sleep(0.02) end, {1, 2, 3, 4}, { jobs = 2, chunksize = 1 })
end]]
  t.equal({ t.command("--report", name, script) }, { "", "", 0 })
  local _, data = page(name)
  local s = data.summary
  t.equal({ s.calls, s.workers, s.busiest.workers }, { 20, 10, 2 })
  t.equal(s.at_once, 2)
end

tests["the page has what the run did"] = function()
  local name = page_name()
  local load, clean = fz.stage "load", fz.stage "clean"
  load:map("pages", "list", function(x) return x end)
  load:register("A", "x", function(x) fz.sleep(0.02) return x end)
  clean:register("B", { "A", "pages" }, function(a) return a end)
  clean:register("flaky", "A", function() error "no luck" end, { retries = 2 })
  local last = fz.stage "last"
  last:register("after", "flaky", function() end)
  local chain <close> = load >> clean >> last
  chain:invoke({ x = 1, list = t.numbers(300) }, { report = name, on_error = "continue", jobs = 2 })
  local _, data = page(name)
  local f, s = by_name(data), data.summary
  t.equal({ f.pages.calls, f.A.calls, f.B.calls, f.flaky.calls }, { 300, 1, 1, 3 })
  t.equal({ f.flaky.failed, f.flaky.retries, f.after.calls }, { 1, 2, 0 })
  assert(f.A.total >= 20000 and f.A.max >= f.A.p95 and f.A.peak > 100000 and f.B.sent > 0)
  t.equal({ s.calls, s.failed, s.retries, s.cancelled }, { 305, 1, 2, 1 })
  assert(s.wall >= 20000 and s.busy >= 20000 and s.workers >= 2)
  t.equal({ #data.graphs, #data.graphs[1].nodes, #data.failures }, { 1, 5, 3 })
  local states = {}
  for _, node in ipairs(data.graphs[1].nodes) do states[node.name] = node.state end
  t.equal(states, { pages = "done", A = "done", B = "done", flaky = "failed", after = "cancelled" })
  t.match(data.failures[1].message, "no luck", "stack traceback")
  local calls = 0
  for _, worker in ipairs(data.workers) do
    for _, span in ipairs(worker.spans) do
      calls = calls + span[5]
      assert(span[1] >= 0 and span[1] + span[2] <= s.wall + 1)
    end
  end
  t.equal(calls, 305)
  for _, histogram in ipairs(data.histograms) do
    local n = 0
    for _, count in ipairs(histogram.counts) do n = n + count end
    t.equal(n, ({ load = 301, clean = 4 })[data.groups[histogram.group + 1]])
  end
  assert(chain.trace and #chain.trace > 5)
end

tests["the page names the function that took most time, and the busiest stage"] = function()
  local name = page_name()
  local wide = fz.stage { name = "wide", workers = 3 }
  local narrow = fz.stage { name = "narrow", workers = 1 }
  wide:register("a", "x", function(x) fz.sleep(0.09) return x end)
  narrow:register("b", "a", function(a) fz.sleep(0.06) if a == 9 then error "no" end return a end)
  local last = fz.stage "last"
  last:register("c", "b", function(b) return b end)
  local chain <close> = wide >> narrow >> last
  local options = { report = name, jobs = 4, on_error = "continue" }
  for _ in chain:stream(t.numbers(12), options) do end -- luacheck: ignore
  local _, data = page(name)
  local s, states = data.summary, {}
  t.equal({ s.most.stage, s.most.name, s.most.calls }, { "wide", "a", 12 })
  t.equal({ s.busiest.name, s.busiest.workers }, { "narrow", 1 })
  assert(s.busiest.share > 0 and s.busiest.share <= 1)
  for _, node in ipairs(data.graphs[1].nodes) do states[node.name] = node.state end
  t.equal(states, { a = "done", b = "failed", c = "done" }) -- of 12 calls of c one was cancelled
  local labels = {}
  for _, worker in ipairs(data.workers) do labels[worker.name:match "^%a+"] = true end
  t.equal(labels, { wide = true, narrow = true, last = true })
end

tests["10,000 functions, and 100,000 elements, are a page below 400 kB"] = function()
  local name = page_name()
  local g <close> = fz.dag()
  for i = 1, 10000 do
    g:add(("a function with a long name %d"):format(i), i > 50
      and { ("a function with a long name %d"):format(i - 50) } or {}, function() return i end)
  end
  g:map("all", "list", function(x) return x end)
  g:invoke({ list = t.numbers(100000) }, { report = name, jobs = 2 })
  local text, data = page(name)
  assert(#text < 400000, #text)
  t.equal(data.summary.calls, 110000)
  assert(#data.graphs[1].nodes <= 121 and #data.functions <= 600)
  local count = 0
  for _, node in ipairs(data.graphs[1].nodes) do count = count + node.count end
  t.equal(count, 10001)
end

tests["a name or an error of any bytes ends no element, and is whole UTF-8"] = function()
  local name = page_name()
  local hostile = "</script><script>alert(1)</script><!--\0\xff" .. ("é"):rep(200)
  local s = fz.stage(hostile)
  s:register(hostile, {}, function() error(hostile) end)
  local chain <close> = fz.chain { s }
  chain:invoke({}, { report = name, on_error = "continue" })
  local text, data = page(name)
  local _, scripts = text:gsub("<script", "")
  t.equal({ scripts, utf8.len(text) ~= nil, text:find("<!--", 1, true) }, { 2, true, nil })
  t.match(data.functions[1].name, "</script><script>alert(1)</script>")
end

tests["names and errors with zeros are whole in a page and in a trace"] = function()
  local name, trace = page_name(), t.file "" .. ".jsonl"
  t.files[#t.files + 1] = trace
  local s = fz.stage "sta\0ge"
  s:register({ "a\0b", "c" }, {}, function() error("no\0luck", 0) end)
  local chain <close> = fz.chain { s }
  chain:invoke({}, { report = name, trace = trace, on_error = "continue" })
  local record = chain.trace[1]
  t.equal({ record.stage, record.name }, { "sta\0ge", "a\0b,c" })
  t.match(record.message, "no\0luck")
  local _, data = page(name)
  t.equal({ data.functions[1].stage, data.functions[1].name }, { "sta\0ge", "a\0b,c" })
  t.match(data.failures[1].message, "no\0luck")
  t.equal(data.graphs[1].nodes[1].name, "a\0b,c")
  local file <close> = assert(io.open(trace))
  local line = json.decode((file:read "a"):match '[^\n]*"failed"[^\n]*')
  t.equal({ line.stage, line.name }, { "sta\0ge", "a\0b,c" })
  t.match(line.message, "no\0luck")
end

tests["an error with a megabyte of wrong bytes is cut at once"] = function()
  local name = page_name()
  local s = fz.stage "s"
  s:register("B", {}, function() error(("\xff"):rep(1000000), 0) end)
  local chain <close> = fz.chain { s }
  chain:invoke({}, { report = name, on_error = "continue" })
  local text, data = page(name)
  assert(utf8.len(text) and #text < 100000)
  t.match(data.failures[1].message, ("\u{FFFD}"):rep(900))
end

tests["the page refers to nothing elsewhere"] = function()
  local name = page_name()
  fz.dag():invoke({}, { report = name })
  local text, data = page(name)
  for _, wrong in ipairs { "src=", "@import", "url(", "<link", "fetch(", "innerHTML", "eval(" } do
    t.equal(text:find(wrong, 1, true), nil)
  end
  t.equal(text:gsub("http://www%.w3%.org/2000/svg", ""):find("https?://"), nil)
  t.match(text, "default-src 'none'")
  t.equal({ data.summary.calls, #data.workers, #data.graphs[1].nodes }, { 0, 0, 0 })
end

tests["--report has the calls of a whole script, also if it fails or exits"] = function()
  for _, ending in ipairs { "", "error 'no'", "os.exit(1)", "os.exit(1, true)" } do
    local name = page_name()
    local script = t.file("fz.map(function(x) return x end, {1, 2, 3}) " .. ending)
    local _, _, status = t.command("--report", name, script)
    local _, data = page(name)
    t.equal({ status, data.summary.calls, data.title }, { ending == "" and 0 or 1, 3, script })
  end
end

tests["a wrong name, or one that cannot be written, is wrong use"] = function()
  for name, text in pairs { ["x.txt"] = ".html", ["/nowhere/x.html"] = "No such file" } do
    local out, err, status = t.command("--report", name, "-e", "print 'ran'")
    t.equal({ out, status }, { "", 2 })
    t.match(err, "--report", text)
  end
  local g <close> = fz.dag()
  t.match(t.fails("error", g.invoke, g, {}, { report = "/nowhere/x.html" }).message, "No such file")
  t.match(t.wrong(g.invoke, g, {}, { report = "x.txt" }), "bad option 'report'", ".html")
end

tests["runs that write the same file at once leave the page of one of them"] = function()
  local name = page_name()
  local script = t.file [[
local g = fz.dag()
for i = 1, tonumber(arg[1]) do g:add("n" .. i, {}, function() return i end) end
g:invoke()]]
  for _ = 1, t.rounds(20) do
    local command = {}
    for _, n in ipairs { 1500, 700, 10 } do
      command[#command + 1] = ('"$FZLUA" --report %s %s %d &'):format(name, script, n)
    end
    local out, err = t.shell(table.concat(command, " ") .. " wait")
    t.equal({ out, err }, { "", "" })
    local text, data = page(name)
    t.equal({ select(2, text:gsub("</html>", "")), text:match "</html>\n$" }, { 1, "</html>\n" })
    local n = data.summary.calls
    assert(n == 1500 or n == 700 or n == 10, n)
  end
end

tests["a page that cannot be written at the end is logged, and the status is 1"] = function()
  local name = page_name()
  assert(os.execute(("ln -s /dev/full %s"):format(name)))
  local out, err, status = t.command("--report", name, "-e",
    "print(fz.map(function(x) return x end, {7})[1])")
  t.equal({ out, status }, { "7\n", 1 })
  t.match(err, "WARN", "was not written", "No space left")
  t.equal(select(2, err:gsub("html", "")), 1)
end

return tests
