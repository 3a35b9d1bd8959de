-- test_docs.lua - the code of README.md and doc/*.md runs, and prints what the pages show.
--
-- CONTRIBUTING.md ("Documentation") describes how a page marks its code. Each page is a test, with
-- a directory of its own. What is not run is counted and listed.

local t = ...
local tests = {}

local ROOT <const> = assert(io.popen "pwd"):read()
local MISSING <const> = { "(nothing)" }

-- Code before each script. print() writes the line of its caller in front of its text, between two
-- bytes \1. It writes newlines in the text as the byte \2.
local PRELUDE <const> = [[
local write, getinfo = io.write, debug.getinfo
function print(...)
  local texts, level = table.pack(...), 2
  for i = 1, texts.n do texts[i] = tostring(texts[i]) end
  local info = getinfo(level, "l")
  while info and info.currentline < 0 do
    level = level + 1
    info = getinfo(level, "l")
  end
  local text = table.concat(texts, "\t"):gsub("\n", "\2")
  write("\1", info and info.currentline or 0, "\1", text, "\n")
end]]

local function lines_of(text)
  local lines = {}
  for line in text:gmatch "([^\n]*)\n" do lines[#lines + 1] = line end
  local rest = text:match "[^\n]+$"
  if rest then lines[#lines + 1] = rest end
  return lines
end

local function write(path, text)
  local file <close> = assert(io.open(path, "wb"))
  file:write(text)
end

-- The sections of a page: lists of the blocks between two headings. A block has its language, the
-- lines, the line in the page before the first one, and the reason why it is not run.
local function sections_of(path)
  local sections, block, skip, number = { {} }, nil, nil, 0
  for line in io.lines(path) do
    number = number + 1
    local indent, language = line:match "^(%s*)```(%S*)"
    if block and language then
      block = nil
    elseif block then
      block[#block + 1] = line:sub(#block.indent + 1)
    elseif language then
      block = { language = language, indent = indent, from = number, skip = skip, path = path }
      table.insert(sections[#sections], block)
      skip = nil
    elseif line:find "^#+ " then
      sections[#sections + 1] = {}
    elseif line:find "%S" then
      skip = line:match "^%s*<!%-%- not run: (.-) %-%->%s*$"
    end
  end
  assert(not block, path .. ": the last block has no end")
  return sections
end

-- Whether the shown line describes what was printed; "..." stands for any text.
local function is_line(shown, printed)
  local pattern = shown:gsub("%p", "%%%0"):gsub("%%%.%%%.%%%.", ".*")
  return printed:find("^" .. pattern .. "$") ~= nil
end

-- Whether the shown lines from i describe the printed ones from k; a line "..." stands for any.
local function are_lines(shown, printed, i, k)
  if shown[i] == nil then return printed[k] == nil end
  if shown[i]:match "^%s*%.%.%.$" then
    for rest = k, #printed + 1 do
      if are_lines(shown, printed, i + 1, rest) then return true end
    end
    return false
  end
  return printed[k] ~= nil and is_line(shown[i], printed[k])
    and are_lines(shown, printed, i + 1, k + 1)
end

local function normal(lines, blank)
  local result = {}
  for i, line in ipairs(lines) do result[i] = blank(line):gsub("%s+$", "") end
  while result[#result] == "" do result[#result] = nil end
  return result
end

-- A tab moves to the next column that is a multiple of 8, as on a terminal.
local function expand(line)
  local text = ""
  for part, tab in line:gmatch "([^\t]*)(\t?)" do
    text = text .. part .. (tab == "" and "" or (" "):rep(8 - utf8.len(text .. part) % 8))
  end
  return text
end

local function collapse(line)
  return (line:gsub("%s+", " "):gsub("^ ", ""))
end

local function compare(where, shown, printed, blank)
  shown, printed = normal(shown, blank), normal(printed, blank)
  if are_lines(shown, printed, 1, 1) then return end
  error(("%s: the page shows\n%s\nbut this was printed:\n%s"):format(where,
    table.concat(shown, "\n"), table.concat(printed[1] and printed or MISSING, "\n")), 0)
end

-- Run a shell command in the directory; returns all that it prints, and its exit status.
local function run(directory, command)
  local script = t.file(command .. "\n")
  local out, _, status = t.shell(([[
cd '%s' && unset FZLUA_LOG TERM MAKEFLAGS MAKELEVEL &&
PATH="${FZLUA%%/*}:$PATH" timeout 240 sh '%s' 2>&1 </dev/null]])
    :format(directory, script))
  return out, status
end

-- The lines that a page shows for each line of code: after "-->" there, and in the lines below it
-- that are only such a comment.
local function shown_by_line(script)
  local shown, at = {}, nil
  for i, line in ipairs(script) do
    local code, text = line:match "^(.-)%-%-> ?(.*)$"
    if (code or line):match "^%s*[^%s-]" then at = i end
    if text then
      assert(at, "a page shows output before its first line of code")
      shown[at] = shown[at] or {}
      table.insert(shown[at], text)
    end
  end
  return shown
end

-- The output of print() by line, and standard output without the marks.
local function printed_by_line(out)
  local printed, plain = {}, {}
  for _, line in ipairs(lines_of(out)) do
    local number, text = line:match "^\1(%d+)\1(.*)$"
    if number then
      number = tonumber(number)
      printed[number] = printed[number] or {}
      for _, part in ipairs(lines_of((text:gsub("\2", "\n")) .. "\n")) do
        table.insert(printed[number], part)
        plain[#plain + 1] = part
      end
    else
      plain[#plain + 1] = line
    end
  end
  return printed, plain
end

-- Run the blocks of one section as one script, in which each line has its number in the page.
local function run_script(directory, path, blocks)
  local script, last = {}, 0
  for _, block in ipairs(blocks) do
    for i, line in ipairs(block) do script[block.from + i] = line end
    last = block.from + #block
  end
  for i = 1, last do script[i] = script[i] or "" end
  local name = path:match "[^/]+$" .. ".lua"
  write(directory .. "/" .. name, table.concat(script, "\n") .. "\n")
  write(directory .. "/.prelude.lua", PRELUDE)
  local out, status = run(directory, ("fzlua -e 'dofile \".prelude.lua\"' '%s'"):format(name))
  local printed, plain = printed_by_line(out)
  if status ~= 0 then
    error(("%s:%d: the code failed with %d\n%s"):format(path, blocks[1].from, status,
      table.concat(plain, "\n")), 0)
  end
  for line, shown in pairs(shown_by_line(script)) do
    compare(("%s:%d"):format(path, line), shown, printed[line] or MISSING, collapse)
  end
  return plain
end

-- Run the lines "$ COMMAND" of a block; the lines between them are what the commands print.
local function run_commands(directory, block)
  local i = 1
  while i <= #block do
    local from, command = block.from + i, block[i]:match "^%$ (.*)$"
    if not command then error(("%s:%d: no command"):format(block.path, from), 0) end
    while command:sub(-1) == "\\" do
      i = i + 1
      command = command .. "\n" .. block[i]
    end
    local shown = {}
    i = i + 1
    while i <= #block and block[i]:sub(1, 2) ~= "$ " do
      shown[#shown + 1] = block[i]
      i = i + 1
    end
    compare(("%s:%d: %s"):format(block.path, from, command), shown,
      lines_of((run(directory, command))), expand)
  end
end

local RUN <const> = {
  lua = true, c = true, sh = true, output = true,
  python = os.execute "command -v python3 >/dev/null",
}

local function run_python(directory, block)
  write(directory .. "/block.py", table.concat(block, "\n") .. "\n")
  local out, status = run(directory, "python3 block.py")
  if status ~= 0 then error(("%s:%d: %s"):format(block.path, block.from, out), 0) end
end

-- The text of blocks, in which each line has its number in the page.
local function c_text(blocks)
  local lines = {}
  for _, block in ipairs(blocks) do
    lines[#lines + 1] = ('#line %d "%s"'):format(block.from + 1, block.path)
    table.move(block, 1, #block, #lines + 1, lines)
  end
  return table.concat(lines, "\n") .. "\n"
end

-- The program of a section. If its blocks have no main(), they are put between the first and the
-- last block of `frame`, the latest program that has one.
local function c_program(blocks, frame)
  local text = c_text(blocks)
  if not text:find "\nmain%(" then return frame.first .. text .. frame.last end
  frame.first, frame.last = c_text { blocks[1] }, c_text { blocks[#blocks] }
  return text
end

-- Compile a program with the header and the library in the build directory, and run it.
local function run_c(directory, path, blocks, frame)
  write(directory .. "/host.c", c_program(blocks, frame))
  local out, status = run(directory, [[
export PKG_CONFIG_PATH="${FZLUA%/*}:$PKG_CONFIG_PATH"
cc -std=gnu11 -Wall -Wextra -Werror -pthread host.c $(pkg-config --cflags --libs fzlua) -o host &&
./host]])
  if status ~= 0 then error(("%s:%d: %s"):format(path, blocks[1].from, out), 0) end
  return lines_of(out)
end

local function file_name(block)
  return block.language == "lua" and (block[1] or ""):match "^%-%- ([%w_]+%.lua)$"
end

-- The blocks of a section by their use.
local function sorted_blocks(path, section)
  local by = { lua = {}, c = {}, sh = {}, python = {}, output = {}, files = {}, skipped = {} }
  for _, block in ipairs(section) do
    local language = block.language
    if language == "" then
      error(("%s:%d: a block without a language"):format(path, block.from), 0)
    elseif block.skip or not RUN[language] then
      table.insert(by.skipped, ("%s:%d (%s)"):format(path, block.from, block.skip or language))
    else
      table.insert(by[file_name(block) and "files" or language], block)
    end
  end
  return by
end

-- Run the code of a section; returns the descriptions of what is not run.
local function run_section(directory, path, section, frame)
  local by = sorted_blocks(path, section)
  for _, block in ipairs(by.files) do
    write(directory .. "/" .. file_name(block), table.concat(block, "\n") .. "\n")
  end
  local printed = by.lua[1] and run_script(directory, path, by.lua)
    or by.c[1] and run_c(directory, path, by.c, frame)
  for _, output in ipairs(by.output) do
    compare(("%s:%d"):format(path, output.from), output, printed or MISSING, expand)
  end
  for _, block in ipairs(by.python) do run_python(directory, block) end
  for _, block in ipairs(by.sh) do run_commands(directory, block) end
  return by.skipped
end

local function test_page(path)
  local directory = assert(io.popen "mktemp -d"):read()
  local _ <close> = setmetatable({}, { __close = function()
    os.execute(("rm -r '%s'"):format(directory))
  end })
  for _, name in ipairs { "README.md", "LICENSE", "examples" } do
    assert(os.execute(("ln -s '%s/%s' '%s'"):format(ROOT, name, directory)))
  end
  local skipped, failures, frame = {}, {}, {}
  for _, section in ipairs(sections_of(path)) do
    local ok, result = pcall(run_section, directory, path, section, frame)
    if ok then
      table.move(result, 1, #result, #skipped + 1, skipped)
    else
      failures[#failures + 1] = tostring(result)
    end
  end
  if skipped[1] then
    print(("\n  %d blocks not run: %s"):format(#skipped, table.concat(skipped, ", ")))
  end
  if failures[1] then error(table.concat(failures, "\n\n"), 0) end
end

for path in assert(io.popen "ls README.md doc/*.md"):lines() do
  tests[path] = function() test_page(path) end
end

return tests
