--- prompt.lua - reads inputs with the editor, or line by line if the terminal does not allow
--- editing.

local core = require "fzlua.core"
local style = require "fzlua.style"
local typed = require "fzlua.typed"
local wait = require "fzlua.wait"

---@class fzlua.Prompt
local Prompt = {}
Prompt.__index = Prompt

-- A wait for a key.
local Key = { what = "input" }
Key.__index = Key

function Key:pump()
  self.ready = self.handle:take() or self.ready
end

function Key:done()
  return self.ready or self.editor ~= nil and self.editor:has_news()
end

function Key:__close()
  wait.unwatch(self.handle:id())
  self.handle:close()
end

-- Wait for input on descriptor 0 while tasks run.
local function wait_for_key(editor)
  local key <close> = setmetatable({ handle = core.descriptor(0), editor = editor }, Key)
  wait.watch(key.handle:id(), key)
  key.handle:want(true, false)
  wait.until_done(key)
end

---@param host table functions of cli/main.c
---@param complete fun(before: string, after: string): string|nil inserted by Tab
---@return fzlua.Prompt
function Prompt.new(host, complete)
  local self = setmetatable({ waits = host.input_is_terminal() }, Prompt)
  self.editor = host.editor {
    wait = function() wait_for_key(self.editor) end,
    is_complete = function(before, after) return typed.is_complete(before .. after) end,
    complete = complete,
  }
  return self
end

-- The text of the prompt. As in lua, the user may set _PROMPT or _PROMPT2.
local function text_of(name, default)
  local set = rawget(_G, name)
  return set == nil and default or tostring(set)
end

local function read_line(self, prompt)
  io.write(prompt)
  io.flush()
  if self.waits then wait_for_key() end
  return io.read "L"
end

local function read_lines(self)
  local text, line = "", read_line(self, text_of("_PROMPT", "> "))
  while line do
    text = text .. line
    if typed.is_complete(text) then return (text:gsub("\n$", "")) end
    line = read_line(self, text_of("_PROMPT2", ">> "))
  end
  io.write "\n"
  return text ~= "" and text or nil
end

-- The text of the prompt for the editor, which needs a byte \1 before and after each control
-- sequence, and allows no control sequence at the end.
local function editor_prompt()
  local text, gap = text_of("_PROMPT", "> "):match "^(.-)(%s*)$"
  local painted = style.paint("prompt", text):gsub("\27%[[%d;]*m", "\1%0\1")
  return painted .. (gap == "" and " " or gap)
end

---Read a complete input.
---@return string|nil input nil at the end of the input
function Prompt:read()
  if self.editor then return self.editor:read(editor_prompt()) end
  return read_lines(self)
end

---Add an input to the history, which the arrow keys and Ctrl-R search.
---@param input string
function Prompt:add(input)
  if self.editor then self.editor:add(input) end
end

return Prompt
