local t = ...
local tests = {}

local function script_for(shell)
  local path = t.file ""
  local _, err, status = t.shell(('"$FZLUA" tools/options.lua %s >%s'):format(shell, path))
  t.equal({ err, status }, { "", 0 })
  return path
end

local COMPLETE_IN_BASH <const> = [[
. %s
cd "$(mktemp -d)" && touch a.lua ab.txt 'b c.lua' && mkdir ad
complete_words() {
  COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
  _fzlua && printf '%%s\n' "${COMPREPLY[@]}" | LC_ALL=C sort | tr '\n' '|'
}
%s
rm -r "$PWD"]]

-- The completions that bash offers for the last of these words, joined by "|". If there are none,
-- bash completes names of files.
local function complete_in_bash(script, ...)
  local words = { "complete_words fzlua" }
  for i, word in ipairs { ... } do words[i + 1] = ("%q"):format(word) end
  local code = COMPLETE_IN_BASH:format(script, table.concat(words, " "))
  local out, err, status = t.shell(("bash -uc '%s'"):format(code:gsub("'", "'\\''")))
  t.equal({ err, status }, { "", 0 })
  return out:gsub("|$", "")
end

tests["bash completes options, their values and the script"] = function()
  local script = script_for "bash"
  local options = require "fzlua.options"
  for _, case in ipairs {
    { "--on-error", "--on-e" }, { "--json", "-j2", "--js" }, { "--input|--inputs", "--inp" },
    { "continue|now|stop", "--on-error", "" }, { "continue", "--on-error", "=", "c" },
    { "continue|now|stop", "--on-error", "=" }, { "dot|mermaid|text", "--graph", "=" },
    { "mermaid", "--graph", "=", "m" }, { "a.lua|ad|b c.lua", "--graph", "" },
    { "a.lua|ad", "a" }, { "a.lua|ad", "--", "a" }, { "a.lua|ad|b c.lua", "-j", "4", "" },
    { "", "-j", "" }, { "", "--timeout", "=", "1" }, { "", "--input", "a" },
    { "", "a.lua", "" }, { "", "a.lua", "--js" }, { "", "-e", "1", "a.lua", "A", "=", "" },
    { "", "--timeout", "=", "1", "a.lua", "-" }, { "", "--", "a.lua", "-" },
  } do
    t.equal({ complete_in_bash(script, table.unpack(case, 2)), table.unpack(case, 2) }, case)
  end
  local all = "|" .. complete_in_bash(script, "-") .. "|"
  for name in pairs(options.named) do t.match(all, "|" .. name .. "|") end
end

-- A zsh on a terminal. ^X prints the line that zsh has completed, and clears it.
local ZSH <const> = [[
zmodload zsh/zpty
zpty z 'TERM=xterm zsh -f -i'
zpty -w z 'fpath=(DIR $fpath); autoload -Uz compinit; compinit -u -D; unsetopt beep
  show() { zle -I; print -r -- "<<$BUFFER>>"; BUFFER= }; zle -N show; bindkey "^X" show; cd DIR'
for line in "$@"; do
  zpty -w -n z "$line"$'\t\x18'
  zpty -r z text $'*<<*>>\r\n*'
  print -r -- ${${text##*<<}%%>>*}
done
zpty -d z]]

tests["zsh completes options, their values and the script"] = function()
  if not os.execute "command -v zsh >/dev/null" then return end
  local script = script_for "zsh"
  local cases = {
    { "fzlua --on-e", "fzlua --on-error=" }, { "fzlua --on-error=c", "fzlua --on-error=continue " },
    { "fzlua --on-error st", "fzlua --on-error stop " },
    { "fzlua --graph=mer", "fzlua --graph=mermaid " }, { "fzlua -j2 --js", "fzlua -j2 --json " },
    { "fzlua -e 1 -e 2 --progre", "fzlua -e 1 -e 2 --progress " },
    { "fzlua --input f", "fzlua --input file.txt " }, { "fzlua -W scr", "fzlua -W script.lua " },
    { "fzlua script.lua fil", "fzlua script.lua file.txt " },
  }
  local lines, expected = {}, {}
  for i, case in ipairs(cases) do lines[i], expected[i] = ("%q"):format(case[1]), case[2] end
  local out, err, status = t.shell(([[
dir=$(mktemp -d) && touch $dir/script.lua $dir/file.txt && cp %s $dir/_fzlua
sed "s|DIR|$dir|g" %s >$dir/test && timeout 240 zsh -f $dir/test %s; rm -r "$dir"]]):format(script,
    t.file(ZSH), table.concat(lines, " ")))
  t.equal({ out, err, status }, { table.concat(expected, "\n") .. "\n", "", 0 })
end

return tests
