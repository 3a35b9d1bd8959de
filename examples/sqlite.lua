-- sqlite.lua: workers that share a database, each with a connection of its own.
--
--   fzlua examples/sqlite.lua [STATIONS]
--
-- Shows `init` and `exit` of a pool: each worker opens a connection before its first call and
-- closes it at its end. The last part shows the reason: a process must not use a connection that
-- was opened before its fork, because SQLite then assumes that it holds the locks of the other
-- process. Needs LuaSQL (lua-sql-sqlite3 in Debian).

local fz = require "fzlua"

local is_there, luasql = pcall(require, "luasql.sqlite3")
if not is_there then
  print "sqlite.lua needs LuaSQL: apt-get install lua-sql-sqlite3"
  return
end

local STATIONS <const> = tonumber(arg[1]) or 6
local DAYS <const> = 200
local PATIENCE <const> = 60000 -- milliseconds that a statement waits for a locked database

local environment = luasql.sqlite3()
local path = os.tmpname()
local _ <close> = setmetatable({}, {__close = function() os.remove(path) end})

local function connect() return assert(environment:connect(path, PATIENCE)) end

local function execute(connection, statement, ...)
  return assert(connection:execute(statement:format(...)))
end

-- The columns of the first row.
local function first_row(connection, query, ...)
  local cursor = execute(connection, query, ...)
  local row = {cursor:fetch({}, "n")}
  cursor:close()
  return table.unpack(row[1])
end

-- The readings, written in one transaction. The connection is closed before any worker is forked.
local function fill()
  local connection = connect()
  execute(connection, "CREATE TABLE reading (station INTEGER, day INTEGER, celsius REAL)")
  execute(connection, "CREATE TABLE summary (station INTEGER, mean REAL, warmest INTEGER)")
  connection:setautocommit(false)
  for station = 1, STATIONS do
    for day = 1, DAYS do
      execute(connection, "INSERT INTO reading VALUES (%d, %d, %.1f)", station, day,
        station + day * station * 37 % 101 / 10)
    end
  end
  assert(connection:commit())
  connection:close()
end

-- In each worker: the connection that `init` opened there.
local connection
local function open() connection = connect() end
local function close() connection:close() end

-- Read the rows of a station and write one row. Two workers may write at the same time: the second
-- waits until the first has finished.
local function summarize(station)
  local mean, highest = first_row(connection,
    "SELECT avg(celsius), max(celsius) FROM reading WHERE station = %d", station)
  local warmest = first_row(connection,
    "SELECT min(day) FROM reading WHERE station = %d AND celsius = %.1f", station, highest)
  execute(connection, "INSERT INTO summary VALUES (%d, %f, %d)", station, mean, warmest)
  return ("station %d: %5.2f degrees on average, warmest on day %3d"):format(station, mean, warmest)
end

local function count()
  local reader = connect()
  local n = first_row(reader, "SELECT count(*) FROM summary")
  reader:close()
  return n
end

-- The wrong way: another process uses a connection of the script, which has an open transaction.
-- Each statement succeeds, but none of the rows is in the database at the end, because that process
-- has changed its own copy of the transaction.
local function use_inherited()
  local inherited = connect()
  inherited:setautocommit(false)
  execute(inherited, "DELETE FROM summary")
  local process = fz.process(function()
    for station = 1, STATIONS do
      execute(inherited, "INSERT INTO summary VALUES (%d, 0, 0)", station)
    end
    return first_row(inherited, "SELECT count(*) FROM summary")
  end):start()
  local there = process:result()
  execute(inherited, "INSERT INTO summary VALUES (0, 0, 0)")
  assert(inherited:commit())
  inherited:close()
  return there
end

fill()

do
  local pool <close> = fz.pool{init = open, exit = close}
  local stations = {}
  for station = 1, STATIONS do stations[station] = station end
  for _, line in ipairs(pool:map(summarize, stations)) do print(line) end
end
print(("a connection for each worker: %d of %d rows"):format(count(), STATIONS))

local there = use_inherited()
print(("a connection opened before the fork: %d rows there without an error, %d of %d rows here")
  :format(there, count(), STATIONS + 1))
