-- A file of recorded results that several processes use at the same time.
local t = ...
local tests = {}

tests["a failure of an item leaves the file to other processes"] = function()
  local store = os.tmpname()
  os.remove(store)
  for _, suffix in ipairs { "", "-wal", "-shm" } do t.files[#t.files + 1] = store .. suffix end
  local other = t.file [[
    local db = require "fzlua.core".database(arg[1], 0, true)
    print(pcall(db.run, db, "BEGIN IMMEDIATE"))
  ]]
  local s = fz.stage "s"
  s:register("B", "A", function(a)
    if a == 1 then error "no" end
    fz.sleep(0.2)
    return fz.exec { t.fzlua, other, store }.stdout
  end)
  local chain <close> = fz.chain(s)
  local options = { resume = store, on_error = "continue", jobs = 2 }
  for i, output, e in chain:stream({ { A = 1 }, { A = 2 } }, options) do
    if i == 1 then t.match(tostring(e), "no") else t.match(output.B, "true") end
  end
end

return tests
