#!/usr/bin/env lua5.4
-- plain.lua - runs a script under lua5.4, with the installed module in place of the command.
--
--   plain.lua [-jN] [--graph=mermaid] SCRIPT [ARGUMENT...]
--
-- A chain that the script returns is invoked, with arguments of the form NAME=VALUE as inputs, and
-- its outputs are printed as the command does. So the command's tests of examples can run it.

require "fzlua"
local literal = require "fzlua.literal"

local options, script = {}, 1
while arg[script]:sub(1, 1) == "-" do
  local name, value = arg[script]:match "^%-*(%a+)=?(.*)$"
  options[name] = value
  script = script + 1
end
require("fzlua.defaults").jobs = tonumber(options.j)
_G.arg = table.move(arg, script, #arg, 0, {})

local function print_output(chain, name)
  local value = chain.output[name]
  local text = type(value) == "string" and value or literal.of(value)
  print(name .. " =" .. (text:find "\n" and "\n" or " ") .. text)
end

local function run(chain)
  for _, argument in ipairs(arg) do
    local name, value = argument:match "^(.-)=(.*)$"
    chain.input[name] = value
  end
  chain:invoke()
  for _, made in ipairs(chain:_compile().final) do print_output(chain, made.name) end
end

local chain = dofile(arg[0])
if options.graph then
  io.write(chain:to_mermaid())
elseif chain then
  run(chain)
end
assert(_G.fz == nil, "the module sets no global")
