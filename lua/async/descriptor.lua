--- descriptor.lua - fz.wait_fd: waits for descriptors of the script, such as sockets.
--
-- All waits for one descriptor share one watch of the engine, which lasts until the last of them
-- has ended.

local check = require "fzlua.check"
local core = require "fzlua.core"
local wait = require "fzlua.wait"
local waiters = require "fzlua.waiters"

local descriptor = {}

local MODES <const> = { r = true, w = true }

-- One wait of one task.
local Wait = { is_list = true }
Wait.__index = Wait

function Wait:done()
  return self.over
end

-- A descriptor that is watched: its waits, in the order of their start.
local Watched = {}
Watched.__index = Watched

local by_fd = {} -- descriptor -> Watched
core.on_fork(function() if next(by_fd) ~= nil then by_fd = {} end end)

local function watched(fd)
  local self = by_fd[fd]
  if not self then
    self = setmetatable({ handle = core.descriptor(fd), waits = {} }, Watched)
    by_fd[fd] = self
    wait.watch(self.handle:id(), self)
  end
  return self
end

-- Watch the descriptor for the events of all its waits. Returns nil, or why that is not possible.
local function update(self)
  local wanted = {}
  for _, one in ipairs(self.waits) do wanted[one.mode] = not one.over or wanted[one.mode] end
  return self.handle:want(wanted.r, wanted.w)
end

---Wake the tasks that wait for the descriptor. Called by wait.lua when the descriptor is ready.
function Watched:pump()
  local ready = {}
  ready.r, ready.w = self.handle:take()
  for _, one in ipairs(self.waits) do
    if ready[one.mode] and not one.over then
      one.over = true
      waiters.wake_all(one)
    end
  end
end

-- End the wait, for any reason.
function Wait:__close()
  local of, left = self.of, {}
  for _, one in ipairs(of.waits) do
    if one ~= self then left[#left + 1] = one end
  end
  of.waits = left
  if #left > 0 then
    update(of)
    return
  end
  by_fd[self.fd] = nil
  wait.unwatch(of.handle:id())
  of.handle:close()
end

function descriptor.wait(fd, mode, timeout)
  local number = math.type(fd) and math.tointeger(fd)
  if not number or number < 0 or number > 0x7fffffff then
    check.fail("bad argument #1 to 'fz.wait_fd' (a descriptor expected, got %s)",
      math.type(fd) and fd or check.typename(fd))
  end
  if not MODES[mode] then
    check.fail("bad argument #2 to 'fz.wait_fd' (\"r\" or \"w\" expected, got %s)",
      tostring(mode))
  end
  if timeout ~= nil then check.seconds(timeout, 3, "fz.wait_fd") end
  local of = watched(number)
  local one <close> = setmetatable({
    of = of, fd = number, mode = mode, over = false,
    what = ("descriptor %d"):format(number),
  }, Wait)
  table.insert(of.waits, one)
  local why = update(of)
  if why then check.fail("bad argument #1 to 'fz.wait_fd' (descriptor %d: %s)", fd, why) end
  return wait.until_done(one, timeout)
end

return descriptor
