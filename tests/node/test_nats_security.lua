-- --engine nats://...: TLS, users, nkeys, credentials, and secrets that stay secret.
local t = ...
local nats = dofile "tests/support/nats.lua"
local nkeys = dofile "tests/support/nkeys.lua"
local tests = {}

local missing = nats.missing(t)
if not missing and t.shell "command -v openssl" == "" then missing = "no openssl" end
if missing then
  print("test_nats_security: skipped: " .. missing)
  return tests
end

local function with_dir(f)
  local dir = t.shell "mktemp -d /tmp/fzlua-keys-XXXXXX":match "%S+"
  local ok, e = pcall(f, dir)
  t.shell("rm -r " .. dir)
  if not ok then error(e, 0) end
end

-- Shell function: `try [OPTION...] URL` prints the output of a script that uses this URL.
local TRY <const> = [[
try() { "$FZLUA" "$@" -e 'print(fz.map(function(x) return 6 * x end, {7})[1])'; }
]]

-- The output must have exactly one line for each of the patterns, in their order.
local function lines(out, ...)
  local n = 0
  for line in out:gmatch "[^\n]+" do
    n = n + 1
    local part = select(n, ...)
    t.match(line, part or "no more")
  end
  t.equal(n, select("#", ...))
end

tests["TLS needs a certificate that is trusted and has the name of the URL"] = function()
  with_dir(function(dir)
    nkeys.certificates(t, dir, "localhost")
    local out = nats.run(t, TRY .. ([[
      export SSL_CERT_FILE=%s/ca.pem
      here=tls://u:p%%40ss@localhost:$port/team; node one 1 $here
      try --engine $here
      try --engine tls://u:p%%40ss@127.0.0.1:$port/team
      SSL_CERT_FILE=/dev/null try --engine $here
      try --engine nats://u:p%%40ss@localhost:$port/team
      try --engine tls://u:wrong@localhost:$port/team
      "$FZLUA" --worker --engine tls://u:p%%40ss@127.0.0.1:$port/team
    ]]):format(dir), { config = ([[authorization { user: u, password: "p@ss", timeout: 30 }
      tls { cert_file: "%s/server.pem", key_file: "%s/server.key"
        timeout: 30 }]]):format(dir, dir) })
    -- For a server on this machine, a URL without tls:// is valid if the server accepts it.
    lines(out, "42", "is not for this address: use its name in the URL",
      "is not signed by an authority that this machine trusts", "42",
      "refuses the user or password", "is not for this address")
  end)
end

tests["TLS to an address needs a certificate for this address"] = function()
  local listen = t.shell "cat /proc/net/if_inet6" ~= "" and "[::]" or nil
  with_dir(function(dir)
    nkeys.certificates(t, dir, "server", "IP:127.0.0.1,IP:::1")
    local out = nats.run(t, TRY .. ([[
      export SSL_CERT_FILE=%s/ca.pem
      here=tls://u:p%%40ss@127.0.0.1:$port/team; node one 1 $here
      try --engine $here
      try --engine tls://u:p%%40ss@localhost:$port/team
      test -s /proc/net/if_inet6 || { echo 42; exit; }
      try --engine tls://u:p%%40ss@[::1]:$port/team
    ]]):format(dir), { listen = listen, config = ([[
      authorization { user: u, password: "p@ss", timeout: 30 }
      tls { cert_file: "%s/server.pem", key_file: "%s/server.key"
        timeout: 30 }]]):format(dir, dir) })
    lines(out, "42", "is not for the name in the URL", "42")
  end)
end

tests["a certificate that has expired, and a name that is not known"] = function()
  with_dir(function(dir)
    nkeys.certificates(t, dir, "localhost", nil, -1)
    local out = nats.run(t, TRY .. ([[
      export SSL_CERT_FILE=%s/ca.pem
      try --engine tls://u:p%%40ss@localhost:$port/team
      try --engine tls://u:p%%40ss@nowhere.invalid/team
      "$FZLUA" --worker --engine tls://u:p%%40ss@nowhere.invalid/team
    ]]):format(dir), { config = ([[authorization { user: u, password: "p@ss", timeout: 30 }
      tls { cert_file: "%s/server.pem", key_file: "%s/server.key"
        timeout: 30 }]]):format(dir, dir) })
    -- A machine without a network has no DNS server either.
    lines(out, "certificate of the NATS server has expired", "the name nowhere.invalid",
      "the name nowhere.invalid")
  end)
end

tests["tls:// to a server without it is a line"] = function()
  local out = nats.run(t, TRY .. "try --engine tls://u:p%40ss@localhost:$port/team")
  lines(out, "the NATS server does not offer TLS")
end

tests["users and passwords, tokens, and a file that cannot be read"] = function()
  local out = nats.run(t, TRY .. [[
    node one 1; try --engine $url; try --engine nats://u:wrong@127.0.0.1:$port
    try --engine nats://other:p%40ss@127.0.0.1:$port; try --engine nats://127.0.0.1:$port
    try --engine nats://127.0.0.1:$port --engine-creds /nowhere/creds
    "$FZLUA" --worker --engine nats://u:wrong@127.0.0.1:$port
  ]])
  lines(out, "42", "refuses", "refuses", "refuses", "cannot read the credentials in /nowhere/creds",
    "refuses")
  out = nats.run(t, TRY .. [[
    node one 1 nats://t0ken@127.0.0.1:$port
    try --engine nats://t0ken@127.0.0.1:$port; try --engine nats://wrong@127.0.0.1:$port
  ]], { config = 'authorization { token: "t0ken", timeout: 30 }' })
  lines(out, "42", "refuses")
end

tests["plain text to another machine needs ?insecure"] = function()
  local out = nats.run(t, TRY .. [[
    there=nats://u:p%40ss@0.0.0.0:$port/team; node one 1
    try --engine $there; try --engine "$there?insecure"; "$FZLUA" --worker --engine $there
  ]])
  lines(out, "0.0.0.0 is not encrypted: use tls://, or ?insecure", "42", "0.0.0.0 is not")
end

tests["an nkey is the user, and its seed is in a file"] = function()
  with_dir(function(dir)
    local user, other = nkeys.pair(t, dir, "user", "user"), nkeys.pair(t, dir, "other", "user")
    local out = nats.run(t, TRY .. ([[
      echo %s >$dir/seed; echo %s >$dir/other
      export FZLUA_ENGINE_CREDS=$dir/seed; here=nats://%s@127.0.0.1:$port; node one 1 $here
      try --engine $here; FZLUA_ENGINE_CREDS= try --engine-creds $dir/seed --engine $here
      FZLUA_ENGINE_CREDS=$dir/other try --engine $here
      "$FZLUA" --worker --engine-creds $dir/other --engine $here
    ]]):format(user.seed, other.seed, user.public),
      { config = ("authorization { users = [ { nkey: %s } ], timeout: 30 }"):format(user.public) })
    lines(out, "42", "42", "refuses", "refuses")
    assert(not out:find(user.seed, 1, true))
  end)
end

local CREDS <const> = [[
-----BEGIN NATS USER JWT-----
%s
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
%s
------END USER NKEY SEED------
]]

tests["a file of credentials has a token of an account"] = function()
  with_dir(function(dir)
    local operator = nkeys.pair(t, dir, "operator", "operator")
    local account = nkeys.pair(t, dir, "account", "account")
    local user = nkeys.pair(t, dir, "user", "user")
    local stranger = nkeys.pair(t, dir, "stranger", "account")
    local CLAIMS <const> = '{"pub":{},"sub":{},"subs":-1,"data":-1,"payload":-1,"type":"user",\z
      "version":2}'
    local config = ("operator: %s\nresolver: MEMORY\nresolver_preload: { %s: %s }"):format(
      nkeys.token(t, dir, operator, operator, '{"type":"operator","version":2}'), account.public,
      nkeys.token(t, dir, operator, account, '{"limits":{"subs":-1,"data":-1,"payload":-1,\z
        "imports":-1,"exports":-1,"wildcards":true,"conn":-1,"leaf":-1},"type":"account",\z
        "version":2}'))
    local good = CREDS:format(nkeys.token(t, dir, account, user, CLAIMS), user.seed)
    local bad = CREDS:format(nkeys.token(t, dir, stranger, user, CLAIMS), user.seed)
    local out = nats.run(t, TRY .. ([[
      cp %s $dir/good; cp %s $dir/bad; here=nats://127.0.0.1:$port/team
      export FZLUA_ENGINE_CREDS=$dir/good; node one 1 $here; try --engine $here
      try --engine-creds $dir/bad --engine $here; FZLUA_ENGINE_CREDS= try --engine $here
    ]]):format(t.file(good), t.file(bad)), { config = config })
    lines(out, "42", "refuses", "refuses")
  end)
end

tests["no secret is on a command line or in what is printed"] = function()
  local script = t.file [[
    fz.map(function(p)
      io.open(p, "w"):close()
      while not io.open(p .. ".go") do os.execute "sleep 0.05" end
    end, {arg[1]})
    print(pcall(fz.map, print, {1}, {engine = "nats://u:s3cret@example.org"}))
  ]]
  local out = nats.run(t, "file=" .. script .. [[

    here=nats://u:s3cr%33t@127.0.0.1:$port/team; node one 1 $here
    url=$here; script out $file $dir/begun; until_true test -e $dir/begun
    for p in $node $script $(cat /proc/$script/task/*/children /proc/$node/task/*/children)
    do tr '\0' ' ' </proc/$p/cmdline; echo; done >$dir/lines
    grep -c fzlua $dir/lines; grep -c -e s3cr $dir/lines; grep -o 'engine.*team' $dir/lines
    stop_server; sleep 0.5; server; : >$dir/begun.go; wait $script; kill $node; wait $node
    grep -l s3cr $dir/lines $dir/log $dir/one $dir/out; cat $dir/out
  ]], { config = 'authorization { user: u, password: "s3cr3t" }' })
  t.match(out, "engine nats://**********@127.0.0.1:", "the connection to example.org is not")
  assert(out:find "^[4-9]\n0\n", out)
  assert(not out:find "s3cr" and not out:find "/log", out)
end

return tests
