-- The page of a run in a browser: its script raises no error, and sorting, filter and zoom work.
local t = ...
local json = require "fzlua.json"
local tests = {}

-- A script that does what a user does with the page. It runs after the page's own script.
local ACTIONS <const> = [[
<script>
const out = {errors: window.failed || []};
const first = () => document.querySelector("#functions tbody td").textContent;
const bars = () => document.querySelectorAll("#timeline rect").length;
const range = () => document.querySelector("#timeline .range").textContent;
const head = [...document.querySelectorAll("#functions th button")];
const press = (key) => document.querySelector("#timeline .picture").dispatchEvent(
  new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
head[0].click(); out.up = first();
head[0].click(); out.down = first();
out.sorted = document.querySelector("#functions th").getAttribute("aria-sort");
const input = document.querySelector("#functions input");
input.value = "slow"; input.dispatchEvent(new Event("input"));
out.filtered = document.querySelectorAll("#functions tbody tr").length;
out.whole = range(); out.bars = bars();
document.querySelector("[data-do=in]").click(); press("+"); press("ArrowLeft");
out.zoomed = range(); press("0"); out.all = range();
out.boxes = document.querySelectorAll("#graph .box").length;
document.querySelector("#graph .box").focus();
out.about = document.querySelector("#graph .about").textContent;
out.most = document.querySelector("#most").textContent;
out.scrolled = [...document.querySelectorAll(".scroll, .pictures > div, #timeline .picture")]
  .every((e) => e.tabIndex === 0 && e.getAttribute("aria-label"));
out.titles = head.map((e) => e.textContent);
out.hacked = window.hacked === true;
const left = (e) => getComputedStyle(e).textAlign === "left";
out.aligned = ["#functions", "#changes", "#slowest"].map((id) => {
  const cells = document.querySelectorAll(id + " tbody tr:first-child td");
  return cells.length > 0 && [...document.querySelectorAll(id + " th")]
    .every((e, i) => left(e) === left(cells[i]));
});
out.failures = document.querySelectorAll("#failures details").length;
document.body.replaceChildren(JSON.stringify(out));
</script>]]

local CATCH <const> = [[<script>window.failed = [];
window.onerror = (text) => { window.failed.push(text); };
document.addEventListener("securitypolicyviolation",
  (e) => window.failed.push(e.violatedDirective));
</script>]]

local function browser()
  for name in ("chromium chromium-browser google-chrome"):gmatch "%S+" do
    if t.shell("command -v " .. name) ~= "" then return name end
  end
end

-- The text of the page's body after these actions.
local function act(chromium, page)
  local file = t.file(page)
  assert(os.rename(file, file .. ".html"))
  t.files[#t.files + 1] = file .. ".html"
  local home = t.shell "mktemp -d":sub(1, -2)
  local dom = fz.exec({ chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
    "--disable-extensions", "--disable-background-networking", "--disable-breakpad",
    "--user-data-dir=" .. home .. "/profile", "--dump-dom", "file://" .. file .. ".html" },
    { timeout = 120, env = { HOME = home } }).stdout
  t.shell("rm -rf " .. home)
  local text = dom:match "<body[^>]*>(.-)</body>" or ""
  return (text:gsub("&lt;", "<"):gsub("&gt;", ">"):gsub("&amp;", "&"))
end

tests["sorting, filter, zoom and focus work, and a hostile name runs no script"] = function()
  local chromium = browser()
  if not chromium then
    print "test_report_browser skipped: chromium is not installed"
    return
  end
  local name = t.file "" .. ".html"
  t.files[#t.files + 1] = name
  local s = fz.stage "</script><script>hacked = true</script><img src=x onerror='hacked=true'>"
  s:register("quick", {}, function() return 1 end)
  s:register("slow", {}, function() fz.sleep(0.05) end)
  s:register("wrong", {}, function() error "<script>hacked = true</script>" end)
  local chain <close> = fz.chain { s }
  chain:invoke({}, { report = name, on_error = "continue", keep = "all" })
  local page
  do
    local file <close> = assert(io.open(name))
    page = file:read "a"
  end
  local at = page:find("<style>", 1, true)
  page = page:sub(1, at - 1) .. CATCH .. page:sub(at)
  at = page:find("</body>", 1, true)
  local text = act(chromium, page:sub(1, at - 1) .. ACTIONS .. page:sub(at))
  local out = json.decode(text)
  t.equal({ out.errors, out.hacked, out.sorted, out.filtered, out.boxes, out.failures },
    { {}, false, "descending", 1, 3, 1 })
  t.match(out.most, "Most time: ", ".slow, ", "Busiest: ")
  t.equal(out.scrolled, true)
  t.equal(out.aligned, { true, true, true }) -- each title is above its column
  t.equal(table.concat(out.titles, " "), "Function Calls Total Mean p95 Max Processor Failed "
    .. "Bytes in Bytes out Peak memory") -- no column for retries, because there was none
  t.match(out.up, "quick")
  t.match(out.down, "wrong")
  t.match(out.about, "call")
  t.equal(out.all, out.whole)
  assert(out.zoomed ~= out.whole and out.bars >= 3)
end

return tests
