-- test_states.lua - a call in a wrong state raises an fz.Error, never a plain string.

local t = ...

local tests = {}

local function ended_process()
  local p = fz.process(function() end):start()
  p:join(10)
  return p
end

local function closed(object, ...)
  object:close(...)
  return object
end

local function chain()
  local s = fz.stage "s"
  s:register("B", "A", function(x) return x end)
  return s >> fz.stage "t"
end

local function future()
  local f = chain():invoke_async { A = 1 }
  f:await(10)
  return f
end

-- Calls in a wrong state: the kind of the error, and a function that makes the call.
local CALLS = {
  -- processes
  process_not_started = { "error", function()
    for _, method in ipairs { "join", "result", "terminate", "kill" } do
      local p = fz.process(print)
      t.fails("error", p[method], p)
    end
    fz.process(print):join()
  end },
  process_started_twice = { "error", function() ended_process():start() end },
  process_closed_join = { "closed", function() closed(ended_process()):join() end },
  process_closed_result = { "closed", function() closed(ended_process()):result() end },
  process_closed_start = { "closed", function() closed(fz.process(print)):start() end },
  process_named_late = { "error", function() ended_process().name = "late" end },
  process_daemon_closed = { "closed", function() closed(ended_process()).daemon = true end },
  process_of_another = { "error", function()
    local p <close> = ended_process()
    local q <close> = fz.process(function() return select(2, pcall(p.join, p)) end):start()
    error(q:result(10), 0)
  end },
  -- pools and results
  pool_joined_open = { "error", function()
    local pool <close> = fz.pool(1)
    pool:join()
  end },
  pool_closed_map = { "closed", function() closed(fz.pool(1)):map(print, { 1 }) end },
  pool_closed_apply = { "closed", function() closed(fz.pool(1)):apply(print) end },
  pool_closed_imap = { "closed", function() closed(fz.pool(1)):imap(print, { 1 }) end },
  -- chains and futures
  chain_at_without_keep = { "error", function()
    local c <close> = chain()
    c:invoke { A = 1 }
    c:at(1)
  end },
  future_settled_twice = { "error", function() future():set_result(1) end },
  future_failed_twice = { "error", function() future():set_error "late" end },
  -- channels
  queue_put_closed = { "closed", function() closed(fz.queue()):put(1) end },
  queue_try_put_closed = { "closed", function() closed(fz.queue()):try_put(1) end },
  queue_done_too_often = { "error", function() fz.queue():task_done() end },
  pipe_send_closed = { "closed", function()
    local a = fz.pipe()
    closed(a):send(1)
  end },
  pipe_send_other_closed = { "closed", function()
    local a, b = fz.pipe()
    b:close()
    a:send(1)
  end },
  -- locks and their like
  lock_not_held = { "error", function() fz.lock():release() end },
  lock_held_already = { "error", function()
    local l = fz.lock()
    l:acquire()
    l:acquire()
  end },
  rlock_not_held = { "error", function() fz.rlock():release() end },
  semaphore_over_released = { "error", function() fz.bounded_semaphore(1):release() end },
  condition_wait_unheld = { "error", function() fz.condition():wait(0) end },
  condition_wait_for_unheld = { "error", function() fz.condition():wait_for(print, 0) end },
  condition_notify_unheld = { "error", function() fz.condition():notify() end },
  barrier_broken = { "error", function()
    local b = fz.barrier(2)
    b:abort()
    b:wait(1)
  end },
  barrier_in_its_action = { "error", function()
    local b
    b = fz.barrier(1, function() b:wait(1) end)
    b:wait(1)
  end },
  -- managers
  manager_closed = { "closed", function() closed(fz.manager()):dict() end },
  manager_closed_proxy = { "closed", function()
    local m = fz.manager()
    local d = m:dict { x = 1 }
    m:close()
    return d.x
  end },
  manager_of_another = { "error", function()
    local m <close> = fz.manager()
    local q <close> = fz.process(function() return select(2, pcall(m.close, m)) end):start()
    error(q:result(10), 0)
  end },
}

for name, call in pairs(CALLS) do
  tests[name] = function()
    local kind, f = table.unpack(call)
    local e = t.fails(kind, f)
    assert(#e.message > 0)
  end
end

return tests
