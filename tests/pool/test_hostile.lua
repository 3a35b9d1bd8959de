-- test_hostile.lua - a function overwrites memory or descriptors that its worker shares with the
-- parent, as a stray pointer or a job that closes all descriptors does. At most that worker is
-- lost.

local t = ...

local tests = {}

-- The writable mappings that this process shares with its parent.
local function shared_mappings()
  local list = {}
  for line in io.lines "/proc/self/maps" do
    local from, to, name = line:match "^(%x+)%-(%x+) rw%-s %x+ %S+ %d+ *(.*)$"
    if from then
      from, to = tonumber(from, 16), tonumber(to, 16)
      list[#list + 1] = { at = from, size = to - from, name = name }
    end
  end
  return list
end

-- The mailbox of this worker, found by its size: other shared pages are smaller, and mailboxes of
-- other workers are not mapped here.
local function mailboxes()
  local list = {}
  for _, m in ipairs(shared_mappings()) do
    if m.name:find("/dev/zero", 1, true) and m.size > 100000 and m.size < 1000000 then
      list[#list + 1] = m
    end
  end
  return list
end

local function overwrite(at, bytes)
  local memory <close> = assert(io.open("/proc/self/mem", "r+b"))
  memory:setvbuf "no"
  assert(memory:seek("set", at))
  assert(memory:write(bytes))
end

local function fill_mailboxes(byte)
  for _, mailbox in ipairs(mailboxes()) do overwrite(mailbox.at, byte:rep(mailbox.size)) end
end

local function descriptors()
  local list = {}
  for line in io.popen("ls /proc/" .. fz.current_process().pid .. "/fd"):lines() do
    list[#list + 1] = tonumber(line)
  end
  return list
end

-- Map f over 1 to n. A worker and at most `most` items may be lost (by default 1); the results of
-- all other items must be correct.
local function one_lost(f, n, options, most)
  options = options or {}
  options.on_error = "continue"
  local list = {}
  for i = 1, n do list[i] = i end
  local r = fz.map(f, list, options)
  local failed = 0
  for i = 1, n do
    local e = r.errors[i]
    if e then
      failed = failed + 1
      assert(e.kind == "crash" or e.kind == "error", tostring(e))
    else
      t.equal(r[i], i * 2)
    end
  end
  if failed > (most or t.exact and 1 or 10) then
    for i = 1, n do if r.errors[i] then print(i, r.errors[i]) end end
    error(("%d items failed"):format(failed))
  end
  -- Shared objects still work.
  local q, l = fz.queue(), fz.lock()
  q:put(1)
  t.equal({ q:get(30), l:acquire(30) }, { 1, true })
  t.equal(fz.map(function(x) return x * 2 end, { 1, 2, 3 }, { jobs = 2 }), { 2, 4, 6, n = 3 })
  return failed
end

tests["there is a mailbox to write to, but none over a byte stream"] = function()
  local n = fz.map(function() return #mailboxes() end, { 1 }, { jobs = 1 })[1]
  t.equal(n, t.exact and 1 or 0)
end

tests["no descriptor of the shared heap is open"] = function()
  fz.queue()
  local names = fz.map(function()
    local list = {}
    for _, fd in ipairs(descriptors()) do
      local p <close> = io.popen(("readlink /proc/%d/fd/%d"):format(fz.current_process().pid, fd))
      list[#list + 1] = p:read "l"
    end
    return table.concat(list, "\n")
  end, { 1 }, { jobs = 1 })[1]
  assert(names ~= "" and not names:find("fzlua-heap", 1, true), names)
end

for name, byte in pairs { zeros = "\0", ones = "\1", ["all bits"] = "\255" } do
  for _, ending in ipairs { "goes on", "dies" } do
    for place = 1, 40, 13 do
      tests[("a mailbox full of %s by item %d, which %s"):format(name, place, ending)] = function()
        one_lost(function(i)
          if i == place then
            fill_mailboxes(byte)
            if ending == "dies" then os.execute "kill -9 $PPID" end
          end
          return i * 2
        end, 40, { jobs = 2, chunksize = 10 },
          ending == "dies" and 10 or nil) -- replies that only the mailbox has are lost, too
      end
    end
  end
end

tests["overwritten results come by the pipe, and their worker leaves"] = function()
  local function name(i)
    return ("result %30d"):format(i)
  end
  local function f(i)
    if i % 10 == 6 then
      -- The results of earlier items follow the head of the mailbox.
      for _, mailbox in ipairs(mailboxes()) do overwrite(mailbox.at + 256, ("\0"):rep(4096)) end
      os.execute "sleep 0.05" -- gives the parent time to look for results
    end
    return name(i)
  end
  for _ = 1, 10 do
    local pool <close> = fz.pool(1)
    local before = pool.workers[1]
    local r = pool:map(f, t.numbers(20), { chunksize = 10 })
    for i = 1, 20 do t.equal(r[i], name(i)) end
    local after = pool:apply(function() return fz.current_process().pid end)
    if t.exact then assert(after ~= before, "the worker goes on") end
  end
end

tests["64 bytes to each descriptor"] = function()
  for _, mode in ipairs { "r+b", "wb" } do -- "wb" also truncates files
    one_lost(function(i)
      if i == 7 then
        for _, fd in ipairs(descriptors()) do
          local file = fd > 2 and io.open("/proc/self/fd/" .. fd, mode)
          if file then
            file:write(("\1"):rep(64))
            pcall(file.close, file)
          end
        end
      end
      return i * 2
    end, 20, { jobs = 2 }, 20) -- replies that follow these bytes in the pipe are lost, too
  end
end

tests["the arena cannot be cut short"] = function()
  local big = ("x"):rep(1 << 20)
  local r = fz.map(function(s)
    for _, fd in ipairs(descriptors()) do
      local path = "/proc/self/fd/" .. fd
      local p <close> = io.popen(("readlink /proc/%d/fd/%d"):format(fz.current_process().pid, fd))
      if p:read "l":find("memfd", 1, true) then
        local file = io.open(path, "wb")
        assert(not file, "it was")
      end
    end
    return s .. s
  end, { big, big }, { jobs = 2, chunksize = 1 })
  t.equal({ #r[1], #r[2] }, { 2 << 20, 2 << 20 })
end

tests["numbers of slices that were overwritten are not given"] = function()
  for _, byte in ipairs { "\0", "\1" } do
    local script = t.file(([[
      local big = ("x"):rep(1 << 18)
      local function f(i) return big .. i end
      local function small()
        for line in io.lines "/proc/self/maps" do
          local from, to, name = line:match "^(%%x+)%%-(%%x+) rw%%-s %%x+ %%S+ %%d+ *(.*)$"
          if from and name:find("/dev/zero", 1, true) then
            from, to = tonumber(from, 16), tonumber(to, 16)
            if to - from <= 65536 then
              local memory <close> = io.open("/proc/self/mem", "r+b")
              memory:seek("set", from)
              memory:write(("\%d"):rep(64))
            end
          end
        end
      end
      local a <close> = fz.pool(1)
      a:apply(small)
      local b <close> = fz.pool(2)
      local one, two = a:map_async(f, {1, 2, 3}), b:map_async(f, {4, 5, 6})
      one, two = one:get(60), two:get(60)
      for i = 1, 3 do assert(one[i] == big .. i and two[i] == big .. i + 3) end
      print "right"
    ]]):format(byte:byte()))
    t.equal({ t.command(script) }, { "right\n", "", 0 })
  end
end

tests["at random: mailboxes and frames"] = function()
  local seed = tonumber(os.getenv "FZLUA_SEED") or os.time()
  for round = 1, 40 do
    one_lost(function(i)
      if i == 17 then
        math.randomseed(seed, round)
        for _, mailbox in ipairs(mailboxes()) do
          for _ = 1, math.random(4) do
            local at = math.random(0, 400) -- in the head, or in the results of a few items
            local bytes = {}
            for k = 1, math.random(1, math.min(64, mailbox.size - at)) do
              bytes[k] = string.char(math.random(0, 255))
            end
            overwrite(mailbox.at + at, table.concat(bytes))
          end
        end
        if math.random(3) == 1 then os.execute "kill -9 $PPID" end
      end
      return i * 2
    end, 40, { jobs = 2, chunksize = 8 }, 16)
  end
end

return tests
