-- fzlua --worker --engine nats://...: its options, and the setup of the gateway, without a server.
local t = ...
local tests = {}

-- A program in place of the gateway: it prints the strings of its setup, each in a line.
local GATEWAY <const> = [[
gateway=$(mktemp) && trap 'rm $gateway' EXIT
cat >$gateway <<'END'
#!/bin/sh
echo $1; exec tr '\000' '\n' </proc/self/fd/$2
END
chmod +x $gateway; export FZLUA_NATS=$gateway; unset FZLUA_ENGINE FZLUA_ENGINE_CREDS
exec 2>&1
]]

local function join(words)
  local lines = {}
  for line in t.shell(GATEWAY .. words):gmatch "([^\n]*)\n" do lines[#lines + 1] = line end
  return lines
end

tests["the gateway gets URL, credentials, slots and name, in any order of the options"] = function()
  for _, words in ipairs {
    '"$FZLUA" --worker --engine tls://h:1/t --engine-creds f -j 3 --name n',
    '"$FZLUA" --name n --engine-creds=f -j3 --engine=tls://h:1/t --worker',
    '"$FZLUA" -j 3 --engine-creds f --worker --name=n --engine tls://h:1/t',
    'FZLUA_ENGINE=tls://h:1/t FZLUA_ENGINE_CREDS=f "$FZLUA" --name n --worker -j3',
  } do
    local lines = join(words)
    t.equal({ lines[1], lines[2], lines[3] }, { "--serve", "tls://h:1/t", "f" })
    t.equal({ lines[6], lines[7] }, { "3", "n" })
  end
end

tests["slots and name have defaults: the processors, the machine"] = function()
  local lines = join '"$FZLUA" --worker --engine tls://h:1/t'
  t.equal(lines[3], "")
  assert(tonumber(lines[6]) > 0)
  t.equal(lines[7], t.shell("uname -n"):match "%S+")
end

tests["a mistake is named, and its status is 2"] = function()
  local function refused(words, message)
    local lines = join('"$FZLUA" --worker ' .. words .. "; echo $?")
    t.equal(lines, { "fzlua: --worker: " .. message, "2" })
  end
  refused("--engine", "a value is missing after --engine")
  refused("--engine tls://h -j", "a value is missing after -j")
  refused("--engine tls://h --name", "a value is missing after --name")
  refused("--engine tls://h --nam n", "unrecognized option --nam")
  refused("--engine tls://h word", "unrecognized option word")
  for _, slots in ipairs { "0", "4097", "2x", "-1", "''" } do
    refused("--engine tls://h -j " .. slots,
      "-j must be a number of slots from 1 to 4096, not " .. slots:gsub("'", ""))
  end
  local name = "not a name for a node (1 to 64 letters, digits, '.', '_', '-'): "
  refused("--engine tls://h --name a/b", name .. "a/b")
  refused("--engine tls://h --name ''", name)
  refused("--engine ssh://h:2",
    "--engine: a node joins nats:// or tls://; with ssh://, the script starts the workers")
  refused("--engine tls://h --engine-creds $(printf '%09000d' 1)",
    "cannot start the gateway: Argument list too long")
end

tests["without an engine it says so, and sends no bytes of a worker"] = function()
  local MESSAGE <const> =
    "fzlua: --worker: --engine nats://HOST is missing, and FZLUA_ENGINE is not set"
  for _, words in ipairs { "", "-j 8", "--name n", "--allow /dev/null" } do
    t.equal(join('"$FZLUA" --worker ' .. words .. " </dev/null; echo $?"), { MESSAGE, "2" })
  end
  t.equal(join('"$FZLUA" -j 8 --worker'), { MESSAGE })
  t.equal(join 'SSH_ORIGINAL_COMMAND="fzlua --worker 0" "$FZLUA" --worker | grep -c fzlua; :',
    { "0" })
end

tests["other options before it, its options without it, and its help"] = function()
  t.match(join('"$FZLUA" -e "x = 1" --worker')[1], "fzlua: --worker is used alone: fzlua --worker")
  t.equal(join '"$FZLUA" --name n -e "x = 1"', { "fzlua: --name needs --worker" })
  t.equal(join '"$FZLUA" --allow n -e "x = 1"', { "fzlua: --allow needs --worker" })
  for _, help in ipairs { "-h", "--help" } do
    local text = table.concat(join('"$FZLUA" --worker ' .. help), "\n")
    t.match(text, "usage: fzlua", "--worker", "--name NAME", "--allow FILE")
  end
end

return tests
