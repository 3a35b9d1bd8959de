-- cache_file.lua - makes and opens the file with the recorded results of calls: see store.lua.

local core = require "fzlua.core"
local log = require "fzlua.log"

local cache_file = {}

local APPLICATION <const> = 0x667a6c75 -- "fzlu"
local VERSION <const> = 1
local PATIENCE <const> = 5 -- seconds to wait for another process
local PAGES <const> = 32 << 20 -- maximum number of bytes of the file that SQLite keeps in memory

local SCHEMA <const> = {
  [[CREATE TABLE calls (
      key BLOB PRIMARY KEY, name TEXT NOT NULL, func BLOB NOT NULL, version TEXT, seed INTEGER,
      names TEXT NOT NULL, inputs BLOB NOT NULL, files INTEGER NOT NULL, tick INTEGER NOT NULL,
      made REAL NOT NULL, size INTEGER NOT NULL) WITHOUT ROWID]],
  "CREATE INDEX calls_name ON calls (name, tick)",
  "CREATE INDEX calls_tick ON calls (tick)",
  [[CREATE TABLE results (
      key BLOB NOT NULL, i INTEGER NOT NULL, digest BLOB NOT NULL, sum BLOB NOT NULL,
      raw INTEGER NOT NULL, bytes BLOB NOT NULL)]],
  "CREATE UNIQUE INDEX results_key ON results (key, i)",
  [[CREATE TABLE failures (
      name TEXT PRIMARY KEY, key BLOB, made REAL NOT NULL, message TEXT NOT NULL) WITHOUT ROWID]],
  ("PRAGMA application_id = %d"):format(APPLICATION),
  ("PRAGMA user_version = %d"):format(VERSION),
}

---The number that a statement gives.
---@param db userdata
---@param sql string
---@return number
function cache_file.number(db, sql) return db:run(sql)[1][1] end

-- Raise if the file belongs to another program or to a newer fzlua. Returns whether the database
-- has tables: a new file has none.
local function check_owner(db)
  local version = cache_file.number(db, "PRAGMA user_version")
  if cache_file.number(db, "SELECT count(*) FROM sqlite_master") == 0 then return false end
  if cache_file.number(db, "PRAGMA application_id") ~= APPLICATION then
    error("it is a database of another program", 0)
  end
  if version > VERSION then
    error(("it was written by a newer fzlua (the file has version %d, this fzlua knows %d)")
      :format(version, VERSION), 0)
  end
  return true
end

-- Make the tables, unless another process has made them after check_owner(). Returns whether this
-- process made them.
local function create(db)
  db:run "PRAGMA auto_vacuum = INCREMENTAL"
  db:run "PRAGMA journal_mode = WAL"
  db:run "BEGIN IMMEDIATE"
  local made = not check_owner(db)
  if made then
    for _, sql in ipairs(SCHEMA) do db:run(sql) end
  end
  db:run "COMMIT"
  return made
end

---Make the directory of the file, with a file .gitignore.
---@param path string
---@return string|nil why the directory was not made
function cache_file.make_directory(path)
  local directory = path:match "^(.*[^/])/+[^/]*$"
  if not directory then return end
  local made, why = core.make_directory(directory)
  if not made then return why end
  if not directory:find "%.fzlua$" then return end
  local ignored <close> = io.open(directory .. "/.gitignore", "w")
  if ignored then ignored:write "*\n" end
end

---Open the database. Raises an error if that fails.
---@param path string
---@param exists boolean whether the file is not to be made
---@param read_only boolean
---@return userdata database
---@return string|nil the absolute name of the file, because the script may change the working
---directory; nil: the file may not be written
function cache_file.open(path, exists, read_only)
  local emptied = core.is_emptied(path)
  local db = core.database(path, PATIENCE, read_only and "read" or exists and "write" or "create")
  local is_ours = check_owner(db)
  if read_only then return is_ours and db or error("it is empty", 0) end
  if not is_ours and create(db) and emptied then
    log.warn("the cache %s is an empty file: results that it had, if any, are lost", path)
  end
  db:run "PRAGMA journal_mode = WAL"
  db:run "PRAGMA synchronous = NORMAL"
  db:run(("PRAGMA cache_size = -%d"):format(PAGES // 1024))
  return db, db:run "PRAGMA database_list"[1][3]
end

return cache_file
