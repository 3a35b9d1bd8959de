--- stage_pools.lua - the worker pools of one chain or dag.
--
-- Each stage with functions has one pool. If the stage has changed, the next invoke makes a new
-- pool, and the old one is closed when the last invoke that uses it has ended.

local core = require "fzlua.core"

---@class fzlua.StagePools
local StagePools = {}
StagePools.__index = StagePools
StagePools.__name = "fzlua.StagePools"

function StagePools.new()
  return setmetatable({ _entries = {}, _slots = false }, StagePools)
end

-- The slots that all pools share. They limit the number of functions that run at once.
local function slots_of(self)
  if not self._slots then self._slots = core.slots() end
  return self._slots
end

---Let at most `jobs` functions run at once, including those in pools that workers make.
---@param jobs integer 0: all functions run in this process
function StagePools:share(jobs)
  if jobs > 0 then slots_of(self):resize(jobs) end
end

local function retire(entry)
  entry.retired = true
  if entry.users == 0 then entry.pool:close() end
end

-- The entry of `registry`; nil if there is none. An entry for another version of the registry,
-- another engine or other recorded functions, or with too few workers, is removed.
local function find(self, registry, workers, engine, code)
  local entry = self._entries[registry]
  if entry and (entry.version ~= registry.version or entry.workers < workers
      or entry.engine ~= engine or code and entry.code ~= code) then
    self._entries[registry] = nil
    retire(entry)
    return nil
  end
  return entry
end

---Get the pool of a registry. A new pool is made if the registry, the engine or `code` has
---changed, or if the pool has fewer than `workers` workers. The caller returns the entry with
---release().
---@param registry fzlua.Registry
---@param workers integer
---@param funcs function[]
---@param options table of the stage: init, called in each new worker, and start
---@param engine string|nil where the workers run
---@param code string|nil see CallKeys:code(); nil: no function is recorded
---@return table entry `entry.pool` is the pool
function StagePools:acquire(registry, workers, funcs, options, engine, code)
  local entry = find(self, registry, workers, engine, code)
  if not entry then
    local pool = core.pool {
      funcs = funcs, init = options.init, start = options.start, workers = workers,
      slots = slots_of(self), engine = engine,
    }
    entry = {
      pool = pool, version = registry.version, workers = workers, engine = engine, users = 0,
      code = code,
    }
    self._entries[registry] = entry
  end
  entry.users = entry.users + 1
  return entry
end

---Return an entry that acquire() has returned.
function StagePools.release(entry)
  entry.users = entry.users - 1
  if entry.retired and entry.users == 0 then entry.pool:close() end
end

---End all workers. The workers of a pool end when no invoke uses the pool any more.
function StagePools:close()
  local entries = self._entries
  self._entries = {}
  for _, entry in pairs(entries) do retire(entry) end
  if self._slots then self._slots:close() end
  self._slots = false
end

---The pids of all workers, by pool.
---@return integer[]
function StagePools:pids()
  local pids = {}
  for _, entry in pairs(self._entries) do
    table.move(entry.pool:workers(), 1, #entry.pool:workers(), #pids + 1, pids)
  end
  table.sort(pids)
  return pids
end

return StagePools
