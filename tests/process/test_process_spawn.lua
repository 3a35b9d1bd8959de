-- Processes under the start method "spawn": they get copies of the values that forked processes
-- inherit. The target test-lua-spawn runs the tests of processes and managers with this start
-- method. The tests here check the differences.
local t = ...

local tests = {}

-- Run a script whose processes and workers are programs.
local function run(code)
  local out, err, status = t.shell("FZLUA_START=spawn $FZLUA " .. t.file(code))
  t.equal({ err, status }, { "", 0 })
  return out
end

tests["upvalues and arguments are copies, what they share stays shared"] = function()
  t.equal(run [[
    local list = { 1 }
    local p = fz.process(function(same)
      same[2] = "there"
      return list[2], same == list, GLOBAL
    end, list)
    GLOBAL = "here"
    print(p:start():result())
    print(#list, p:join(), p.exitcode, p.name)]], "there\ttrue\tnil\n1\ttrue\t0\tProcess-1\n")
end

tests["what cannot be sent raises at the start, with its path"] = function()
  t.equal(run [[
    local file = io.open "/dev/null"
    local function start(...)
      local p = fz.process(...)
      local ok, e = pcall(p.start, p)
      print(ok, e.kind, e.message)
    end
    start(print, 1, { a = { file } })
    start(function() return file end)
    start(coroutine.wrap(print))]],
    ("false\tunsendable\ta spawned process gets by value what a forked one inherits: %s\n")
      :rep(3):format(
      "argument 2: .a[1]: a FILE* cannot be sent",
      "its function: <upvalue file>: a FILE* cannot be sent",
      "its function: a C function that no loaded module has cannot be sent"))
end

tests["it starts without a wait of its parent"] = function()
  t.equal(run [[
    local path = os.tmpname()
    os.remove(path)
    local p <close> = fz.process(function() io.open(path, "w"):close() end):start()
    os.execute("until test -e " .. path .. "; do sleep 0.01; done; rm " .. path)
    print "started"]], "started\n")
end

tests["a process that is killed during its setup ends by SIGKILL"] = function()
  t.equal(run [[
    for _ = 1, 20 do
      local p = fz.process(fz.sleep, 60):start()
      p:kill()
      p:join()
      if p.exitcode ~= -9 then print(p.exitcode) end
    end
    local p = fz.process(fz.sleep, 60):start()
    p:terminate()
    p:join()
    print(p.exitcode)]], "-15\n")
end

tests["a program that is no worker is an error of the result"] = function()
  local out = t.shell("FZLUA_START=spawn FZLUA_WORKER_COMMAND=/bin/true $FZLUA " .. t.file [[
    local p = fz.process(print):start()
    local ok, e = pcall(p.result, p)
    print(ok, e.kind, p:join(), p.exitcode)
    print(pcall(fz.manager))]])
  t.match(out, "false\tcrash\ttrue\t0\n", "false\t", "died: exited with code 0")
end

tests["scripts run in it, by the command that it is"] = function()
  local script = t.file "print(6 * 7)"
  t.equal(run(([[
    local p = fz.process(function(s) return fz.run_scripts({ s })[1].stdout end, %q):start()
    io.write(p:result())]]):format(script)), "42\n")
end

tests["nothing of it is left when its parent is killed"] = function()
  local mark = t.mark()
  local script = t.file [[
    local ready = fz.queue()
    fz.process(function()
      local inner = fz.process(function() ready:put(1) while true do end end):start()
      inner:join()
    end):start()
    local m = fz.manager()
    fz.process(function() ready:put(1) os.execute "sleep 60" end):start()
    ready:get() ready:get()
    os.execute("kill -9 " .. fz.current_process().pid)]]
  local _, _, status = t.shell(("MARK=%s FZLUA_START=spawn $FZLUA %s"):format(mark, script))
  t.equal(status, 137)
  t.equal(t.left_of(mark), "")
end

return tests
