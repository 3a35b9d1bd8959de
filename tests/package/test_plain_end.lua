-- The end of a script under lua5.4 with the installed module.

local t = ...

-- Run code under lua5.4. No process that it started may be left. Returns output, errors and status.
local function run(code)
  local mark = t.mark()
  local out, err, status = t.shell(("MARK=%s lua5.4 %s"):format(mark, t.file(
    'local fz = require "fzlua"\n' .. code)))
  t.equal(t.left_of(mark), "")
  return out, err, status
end

local tests = {}

tests.the_end_waits_for_processes_and_ends_daemons = function()
  local out, err, status = run [[
local queue = fz.queue()
local daemon = fz.process(function() while true do fz.sleep(60) end end)
daemon.daemon = true
daemon:start()
fz.process(function() print(queue:get()) end):start()
fz.process(function() fz.sleep(0.2) queue:put "late" end):start()
]]
  t.equal({ out, err, status }, { "late\n", "", 0 })
end

tests.os_exit_ends_processes = function()
  for _, arguments in ipairs { "3", "3, true" } do
    local out, err, status = run([[
fz.process(function() fz.sleep(60) print "late" end):start()
os.exit(]] .. arguments .. ")")
    t.equal({ out, err, status }, { "", "", 3 })
  end
end

tests.an_error_that_was_not_awaited_is_logged = function()
  local out, err, status = run [[
fz.spawn(error, "lost", 0)
fz.sleep(0.01)
]]
  t.match(err, "was not awaited", "lost")
  t.equal({ out, status }, { "", 0 })
end

tests.workers_end_with_the_script = function()
  local out, _, status = run [[
local pool = fz.pool(2)
pool:apply_async(os.execute, {"sleep 60"})
pool:apply(print, "first")
error "enough"
]]
  t.equal({ out, status }, { "first\n", 1 })
end

-- On SIGINT, lua5.4 sets a hook, but only in its main thread.
tests.a_signal_ends_the_wait_of_a_generator = function()
  for _, wait in ipairs { "fz.queue():get(60)", "fz.sleep(60)", "fz.exec { 'sleep', '77' }" } do
    local script = t.file(([[
local fz = require "fzlua"
local ready = io.open(os.getenv "READY", "w")
for _ in coroutine.wrap(function() ready:close() %s end) do end]]):format(wait))
    local ready = t.file ""
    os.remove(ready)
    local _, err, status = t.shell(([[
READY=%s env --default-signal=INT lua5.4 %s & pid=$!
until_true test -e %s
sleep 0.2; kill -INT $pid; wait $pid; status=$?; rm -f %s; exit $status]]):format(ready,
      script, ready, ready))
    t.match(err, "interrupted!")
    t.equal(status, 1)
  end
end

return tests
