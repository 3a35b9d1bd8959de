--- group.lua - fz.group: tasks that end together.
--
-- The function that receives the group is a task, too, so that an error of a member can end this
-- function while it waits.

local Error = require "fzlua.error"
local check = require "fzlua.check"
local task = require "fzlua.task"
local wait = require "fzlua.wait"
local waiters = require "fzlua.waiters"

local group = {}

local Group = { is_list = true, what = "the tasks of a group" }
Group.__index = Group
Group.__name = "fzlua.Group"
Group.__fzpack = false -- a group cannot be sent to another process

-- The waiter that a group adds to the list of one member.
local Node = {}
Node.__index = Node

function Node:notify(future)
  local of = self.of
  of._pending = of._pending - 1
  of._members[future] = nil
  if future:failed() then of._failed = of._failed or future end
  if of:done() then waiters.wake_all(of) end
end

local function add(self, member)
  self._pending, self._count = self._pending + 1, self._count + 1
  self._members[member] = self._count
  waiters.add(member, setmetatable({ of = self }, Node))
  return member
end

---Whether all members have ended, or one member has failed. Called by wait.lua.
function Group:done()
  return self._pending == 0 or self._failed ~= nil
end

function Group:spawn(f, ...)
  if getmetatable(self) ~= Group then
    check.fail "bad argument #1 to 'group:spawn' (a group expected: call it with a colon)"
  end
  check.type(f, "function", 1, "group:spawn")
  if self._closed then Error.raise("closed", "the group has ended") end
  return add(self, task.spawn(f, ...))
end

-- Cancel the members that have not ended, in the order of their starts.
function Group:__close()
  self._closed = true
  local members = self._members
  local list = {}
  for member in pairs(members) do list[#list + 1] = member end
  table.sort(list, function(a, b) return members[a] < members[b] end)
  for _, member in ipairs(list) do member:cancel() end
end

-- Call f(g), and wait until all tasks that were started with g:spawn() have ended.
function group.run(f)
  check.type(f, "function", 1, "fz.group")
  local self <close> = setmetatable({
    _members = {}, _count = 0, _pending = 0, _failed = nil, _closed = false,
  }, Group)
  local body = add(self, task.spawn_for_caller(f, self))
  wait.until_done(self)
  return (self._failed or body):await()
end

return group
