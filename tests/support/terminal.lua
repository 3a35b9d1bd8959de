-- A terminal with the command in it, for tests: a window of tmux.
--
--   local terminal <close> = Terminal.open(t, {columns = 80, term = "dumb"})
--   terminal:type "1 + 1"
--   terminal:key "Enter"
--   terminal:expect {"> 1 + 1", "2", ">"}    -- waits until these are the last rows
--   terminal:run("2 + 2", "4")               -- the same in one call
--
-- The tmux server has a socket of its own, and ends with the terminal.

local Terminal = {}
Terminal.__index = Terminal

local function quoted(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

local nopened = 0

-- Run tmux; returns what it printed.
local function tmux(self, ...)
  local words = { "env -u TMUX LC_ALL=C.UTF-8 TMUX_TMPDIR=" .. quoted(self.home),
    "tmux -u -f /dev/null -L " .. self.socket }
  for _, word in ipairs { ... } do words[#words + 1] = quoted(word) end
  local out, err, status = self.t.shell(table.concat(words, " ") .. " </dev/null")
  if status ~= 0 then error(err, 2) end
  return out
end

---@param options table columns, rows, term, home (a directory to use), env (NAME=VALUE ...),
---arguments of the command, command (instead of it), before (a shell command)
function Terminal.open(t, options)
  local home = options.home or Terminal.new_home(t)
  nopened = nopened + 1 -- the server of an earlier terminal of this home may be about to end
  local self = setmetatable({ t = t, home = home, keep = options.home ~= nil,
    socket = "terminal" .. nopened }, Terminal)
  local env = ("env -u NO_COLOR -u XDG_STATE_HOME -u XDG_CONFIG_HOME HOME=%s FZLUA=%s TERM=%s %s")
    :format(quoted(home), quoted(t.fzlua), options.term or "screen",
      options.env or "NO_COLOR=1")
  local command = ('cd %s; %s; trap : INT; %s %s %s; echo "exit status $?"; exec cat')
    :format(quoted(home), options.before or ":", env, options.command or quoted(t.fzlua),
      options.arguments or "")
  tmux(self, "new-session", "-d", "-x", tostring(options.columns or 80), "-y",
    tostring(options.rows or 24), command)
  return self
end

-- Open a terminal with the command at its prompt.
function Terminal.prompt(t, options)
  local terminal = Terminal.open(t, options or {})
  terminal:until_row "^>$"
  return terminal
end

---A new empty directory, which the caller removes with remove_home().
function Terminal.new_home(t)
  return (t.shell "mktemp -d"):match "%S+"
end

function Terminal.remove_home(t, home)
  t.shell("rm -rf " .. quoted(home))
end

---Type text.
function Terminal:type(text)
  tmux(self, "send-keys", "-l", text)
end

---Press keys, which have the names of tmux.
function Terminal:key(...)
  tmux(self, "send-keys", ...)
end

---Paste text, as a terminal with bracketed paste does.
function Terminal:paste(text)
  local path = self.t.file(text)
  tmux(self, "load-buffer", path, ";", "paste-buffer", "-p")
end

function Terminal:resize(columns, rows)
  tmux(self, "resize-window", "-x", tostring(columns), "-y", tostring(rows))
end

---Clear the screen above the prompt.
function Terminal:clear()
  self:key "C-l"
end

---The rows of the screen, without empty ones at the end.
---@param colored? boolean with the sequences of colours
function Terminal:rows(colored)
  local list = {}
  for line in tmux(self, "capture-pane", "-p", colored and "-e" or "-N"):gmatch "([^\n]*)\n" do
    list[#list + 1] = line:match "^.*%S" or ""
  end
  while list[#list] == "" do list[#list] = nil end
  return list
end

local function is_same(a, b)
  for i = 1, math.max(#a, #b) do
    if a[i] ~= b[i] then return false end
  end
  return true
end

local PATIENCE <const> = 45

-- Wait until f(rows) is true.
local function wait(self, f, what)
  local deadline = fz.now() + PATIENCE
  repeat
    local rows = self:rows()
    if f(rows) then return rows end
    self.t.sleep(0.01)
  until fz.now() > deadline
  error(("expected:\n%s\nthe screen:\n%s\n"):format(what, table.concat(self:rows(), "\n")), 3)
end

---Wait until the last rows of the screen are these.
function Terminal:expect(rows)
  wait(self, function(all)
    return is_same(table.move(all, math.max(#all - #rows + 1, 1), #all, 1, {}), rows)
  end, table.concat(rows, "\n"))
end

---Type an input, wait for its end, and compare the rows that it has printed. It waits for the
---prompt first, because text that is typed before the prompt appears twice on the screen.
function Terminal:run(input, ...)
  local rows = { "> " .. input, ... }
  rows[#rows + 1] = ">"
  self:type(input)
  self:key "Enter"
  self:expect(rows)
end

---At the prompt, spawn a task that waits and then runs `code`. Returns a function that ends the
---wait.
function Terminal:spawn_late(code)
  local path = self.t.file ""
  os.remove(path)
  self:run(("function late() repeat fz.sleep(0.01) until io.open %q end"):format(path))
  self:run(("fz.spawn(function() late() %s end)"):format(code), "<future: pending>")
  return function() io.open(path, "w"):close() end
end

---Wait until a row of the screen matches the pattern; returns what the pattern captures.
function Terminal:until_row(pattern)
  local rows = wait(self, function(all)
    for _, row in ipairs(all) do
      if row:find(pattern) then return true end
    end
  end, pattern)
  for _, row in ipairs(rows) do
    if row:find(pattern) then return row:match(pattern) end
  end
end

---Wait for the end of the program. Returns its exit status, which a shell prints after it, because
---tmux may not notice the end.
function Terminal:status()
  return tonumber(self:until_row "^exit status (%d+)")
end

function Terminal:__close()
  pcall(tmux, self, "kill-server")
  if not self.keep then Terminal.remove_home(self.t, self.home) end
end

return Terminal
