-- bank.lua: four clerks move money between accounts, and none of it is lost.
--
--   fzlua examples/bank.lua
--
-- Shows fz.lock. A transfer reads one account, subtracts from it and adds to another: three steps
-- that no other clerk may interrupt. Without the lock, two clerks could read the same balance, and
-- the second one would overwrite the result of the first.

local fz = require "fzlua"

local ACCOUNTS <const>, CLERKS <const>, TRANSFERS <const> = 8, 4, 2000

local balances = fz.array("l", ACCOUNTS)
balances:fill(1000)
local lock = fz.lock()

-- Returns whether the account had enough money.
local function transfer(from, to, amount)
  local _ <close> = lock:guard()
  if balances[from] < amount then return false end
  balances[from] = balances[from] - amount
  balances[to] = balances[to] + amount
  return true
end

local function clerk()
  local done = 0
  for _ = 1, TRANSFERS do
    local from, to = math.random(ACCOUNTS), math.random(ACCOUNTS)
    if transfer(from, to, math.random(400)) then done = done + 1 end
  end
  return done
end

local clerks, done = {}, 0
for i = 1, CLERKS do clerks[i] = fz.process(clerk):start() end
for _, p in ipairs(clerks) do done = done + p:result() end

local total, least = 0, math.huge
for _, balance in ipairs(balances) do
  total, least = total + balance, math.min(least, balance)
end
print(("%d accounts held %d, and now hold %d"):format(ACCOUNTS, ACCOUNTS * 1000, total))
print("an account is overdrawn:", least < 0)
io.stderr:write(("%d transfers, %d refused\n"):format(done, CLERKS * TRANSFERS - done))
