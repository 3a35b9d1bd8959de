-- written.lua - writes a file that is made from another, or compares it.

--- Write `text` to the file at `path`. If `checking`, compare instead: if the file has another
--- text, print that it does not fit `source`, and exit with 1.
return function(path, text, source, checking)
  if checking then
    local file <close> = io.open(path)
    if not file or file:read "a" ~= text then
      print(path .. " does not fit " .. source .. ": run make doc")
      os.exit(1, true)
    end
    return
  end
  local file <close> = assert(io.open(path, "w"))
  assert(file:write(text))
end
