-- fzlua --each and --fold.
local t = ...
local tests = {}

-- Run the command on a file with these bytes; returns what it prints, its errors and status.
local function on(input, ...)
  local words = { ... }
  words[#words + 1] = t.file(input)
  return t.command(table.unpack(words))
end

-- The command on `input` must print exactly this, without errors.
local function prints(expected, input, ...)
  local out, err, status = on(input, ...)
  if status ~= 0 or err ~= "" then error(("status %d: %s"):format(status, err), 2) end
  if out ~= expected then error(("expected %q\ngot %q"):format(expected, out), 2) end
end

-- The command on `input` must print this, fail, and name the parts in its errors.
local function fails(expected, input, arguments, ...)
  local out, err, status = on(input, table.unpack(arguments))
  t.equal({ out, status }, { expected, 1 })
  t.match(err, ...)
  return err
end

local function lines(n)
  local list = t.numbers(n)
  list[n + 1] = ""
  return table.concat(list, "\n")
end

tests["a value is printed according to its type"] = function()
  prints("A\nB\n", "a\nb\n", "--each", "line:upper()")
  prints("b\n", "a\nb\n", "--each", "line == 'b'")
  prints("b\n", "a\nb\n", "--each", "n == 2 and line or nil")
  prints("1\n2\n", "a\nb\n", "--each", "n")
  prints("0.5\n1.0\n", "a\nb\n", "--each", "n / 2")
  prints('{"k":["a",1]}\n', "a\n", "--each", "{k = {line, n}}")
  prints("", "a\nb\n", "--each", "nil")
  prints("x\ny\n", "a\n", "--each", "'x\\ny'")
  fails("", "a\n", { "--each", "io.stdout" }, ":1: a userdata cannot be printed")
end

tests["an expression may be a function, of which each worker has one"] = function()
  prints("A\nB\n", "a\nb\n", "--each", "string.upper")
  prints("a1\nb2\n", "a\nb\n", "--each", "function(line, n) return line .. n end")
  prints("a\nb\n", "a\nb\na\nb\n", "-j1", "--each",
    "(function() local seen = {} return function(l) if not seen[l] then seen[l] = l return l end "
    .. "end end)()")
  prints("x1\n", "1\n", "-e", "function f(line) return 'x' .. line end", "--each", "f")
  prints("3.14\n", "x\n", "-l", "m=math", "--each", "('%.2f'):format(m.pi) -- a comment")
end

tests["records are lines as they are"] = function()
  for _, input in ipairs { "", "\n", "\n\n", "a", "a\n", "a\nb", "\na\n\n", "a\r\nb\r\n",
    "\0\1\255\n\0", ("x"):rep(3000000) .. "\ny\n", ("ab\n"):rep(100000), "\n" .. ("z"):rep(70000) }
  do
    local ended = (input == "" or input:sub(-1) == "\n") and input or input .. "\n"
    prints(ended, input, "--each", "line")
    prints(ended, input, "-j0", "--each", "true")
  end
  local _, count = ("ab\n"):rep(100000):gsub("\n", "")
  prints(("records %d\n"):format(count), ("ab\n"):rep(100000), "--fold",
    "acc.records = acc.records + 1")
end

tests["the order and the numbers do not depend on workers"] = function()
  local input, expected = lines(60000), {}
  for i = 1, 60000 do expected[i] = i .. ":" .. i end
  expected[60001] = ""
  for _, jobs in ipairs { "-j0", "-j1", "-j3" } do
    prints(table.concat(expected, "\n"), input, jobs, "--each", "line .. ':' .. n")
  end
  local out = on(input, "-j3", "--unordered", "--each", "line .. ':' .. n")
  local sorted = {}
  for line, i in out:gmatch "((%d+):%d+)\n" do sorted[tonumber(i)] = line end
  sorted[60001] = ""
  t.equal(table.concat(sorted, "\n"), table.concat(expected, "\n"))
end

tests["several files are one input, and - is standard input"] = function()
  local a, b = t.file "1\n2", t.file "4\n"
  t.equal(t.shell(([[echo 3 | "$FZLUA" --each 'line .. n' %s - %s]]):format(a, b)),
    "11\n22\n33\n44\n")
  t.equal(t.shell [[printf 'a\nb' | "$FZLUA" --each line]], "a\nb\n")
end

tests["--null: records end in NUL"] = function()
  prints("a\nb|\0c|\0", "a\nb\0c", "--null", "--each", "line .. '|'")
  prints("k 2\0", "k\0k\0", "--null", "--fold", "acc[line] = acc[line] + 1")
end

tests["--json: records and results are JSON"] = function()
  prints('"x"\n1.5\n[1]\n{"k":2}\n', '{"a":"x"}\n{"a":1.5}\n{"a":[1]}\n{"b":0}\n{"a":{"k":2}}\n',
    "--json", "--each", "line.a")
  prints("1\n2\n", "null\nfalse\n", "--json", "--each", "n")
  prints('{"k":1, "b" : 2}\n', '{"k":1, "b" : 2}\n', "--json", "--each", "true")
  prints('{"1":2,"k":0.5}\n', "[1]\n[1]\n[0]\n", "--json", "--fold",
    "if line[1] == 1 then acc[1] = acc[1] + 1 else acc.k = acc.k + 0.5 end")
  fails("1\n3\n", '1\nx"\n3\n', { "--json", "--on-error", "continue", "--each", "line" },
    ":2: not JSON")
end

tests["--fold adds the tables of all workers and prints sorted lines"] = function()
  local expected = {}
  for i, key in ipairs { "0", "1", "10", "2", "3", "4", "5", "6", "7", "8", "9" } do
    expected[i] = key .. " " .. (key == "0" and 5454 or 5455) .. "\n"
  end
  for _, jobs in ipairs { "-j0", "-j3" } do
    prints(table.concat(expected), lines(60004), jobs, "--fold",
      "local k = tostring(n % 11) acc[k] = acc[k] + 1")
  end
  prints("-1 1\n2 1\n10 1\n2.5x 1\nb 1\ntrue 1\n", "x\n", "--fold",
    "for _, k in ipairs { 'b', 10, 2, true, '2.5x', -1 } do acc[k] = acc[k] + 1 end")
  prints("", "", "--fold", "acc.n = acc.n + 1")
  prints("n 2\n", "a\nb\nc\n", "--fold", "if line == 'b' then return end acc.n = acc.n + 1")
  prints("a 1\n", "a\nb\n", "--fold", "local k = line:match 'a' acc[k] = acc[k] + 1")
  prints("a 2\n", "a\na\n", "--fold", "function(line) acc[line] = acc[line] + 1 end")
  fails("", "a\nb\n", { "-j1", "--fold", "acc.x = line" }, "acc[x] is a string, not a number")
  fails("", "a\n", { "--fold", "acc[{}] = 1" }, ":1: a key of acc is a table")
  fails("", "a\n", { "--fold", "acc[line]" }, "neither a statement nor a function")
end

tests["--fold: a call is a function if its value is one, and otherwise a statement"] = function()
  for code, call in pairs {
    ["function make() return function(line, n, acc) acc[line] = acc[line] + n end end"] = "make()",
    ["function count(line, n, acc) acc[line] = acc[line] + n end"] = "count(line, n, acc)",
  } do
    prints("a 4\nb 2\n", "a\nb\na\n", "-j1", "-e", code, "--fold", call)
    prints("a 4\nb 2\n", "a\nb\na\n", "-j1", "--retries", "1", "-e", code, "--fold", call)
  end
end

tests["an error names the file and the line, and ends the command"] = function()
  local out, err, status = on(lines(50000), "--each", "n < 40000 and n or error 'no'")
  t.equal({ out, status }, { lines(39999), 1 })
  t.match(err, ":40000: --each:1: no")
  fails("", "a\n", { "--each", "nosuch.field" }, ":1: --each:1: attempt to index a nil value")
  fails("1\n", "a\nb\n", { "-j0", "--each", "n == 1 and n or error {code = 7}" }, ":2: ", "code")
end

tests["with --on-error continue the other lines go on"] = function()
  local odd = {}
  for i = 1, 999, 2 do odd[#odd + 1] = i .. "\n" end
  local err = fails(table.concat(odd), lines(1000), { "--on-error", "continue", "--each",
    "n % 2 == 1 and n or error('even')" }, ":2: --each:1: even", ":1000: --each:1: even")
  t.equal(select(2, err:gsub("\n", "")), 500)
  fails("n 3\n", lines(4), { "--on-error", "continue", "--fold",
    "acc.n = acc.n + 1 acc.n = acc.n + 0 if n == 2 then error 'x' end" }, ":2: --fold:1: x")
  fails("n 3\n", lines(4), { "--on-error", "continue", "--fold",
    "function(_, n) acc.n = acc.n + 1 if n == 2 then error 'x' end end" }, ":2: --fold:1: x")
  prints("n 2\n", "a\nb\nc\n", "--retries", "1", "--fold",
    "acc.n = acc.n + 1 if n == 2 then acc.n = acc.n - 1 return end")
end

tests["--retries repeats a line that fails"] = function()
  local code = "(function() local tries = {} return function(line, n) "
    .. "tries[n] = (tries[n] or 0) + 1 if tries[n] < 3 then error 'again' end return n end end)()"
  prints("1\n2\n3\n", lines(3), "--retries", "2", "--each", code)
  fails("", lines(3), { "--retries", "1", "--each", code }, ":1: attempt 2: ", "again")
  prints("n 3\n", lines(3), "--retries", "1", "--fold", "acc.n = acc.n + 1 "
    .. "if tried ~= n then tried = n error 'again' end")
end

tests["a worker that dies costs the line at which it was"] = function()
  local without = lines(30000):gsub("\n7000\n", "\n"):gsub("\n23456\n", "\n")
  fails(without, lines(30000), { "-j2", "--on-error", "continue", "--each",
    "(n == 7000 or n == 23456) and os.exit(3) or line" },
    ":7000: the worker died: exited with code 3", ":23456: the worker died")
  local out, err, status = on(lines(30000), "-j3", "--unordered", "--on-error", "continue",
    "--each", "(n == 30 or n == 7000 or n == 23456) and (fz.sleep(0.05) or os.exit(3)) or line")
  t.match(err, ":30: the worker died", ":7000: the worker died", ":23456: the worker died")
  t.equal({ select(2, out:gsub("\n", "")), status }, { 29997, 1 })
  fails(lines(4999), lines(9000), { "--each", "n == 5000 and os.exit(3) or line" }, ":5000: ")
  fails("n 8999\n", lines(9000), { "-j2", "--on-error", "continue", "--fold",
    "if n == 5000 then io.popen('kill -9 $PPID'):close() end acc.n = acc.n + 1" },
    ":5000: the worker died", "SIGKILL")
end

tests["--retries repeats a line at which a worker died"] = function()
  local mark = t.file ""
  os.remove(mark)
  prints(lines(3000), lines(3000), "-j2", "--retries", "1", "--each",
    ("n == 2000 and not io.open(%q) and io.open(%q, 'w'):close() and os.exit(3) or line")
    :format(mark, mark))
  fails("", "a\n", { "--retries", "2", "--each", "os.exit(3)" }, ":1: attempt 3: the worker died")
end

tests["--timeout is for one line"] = function()
  fails("1\n3\n", lines(3), { "--timeout", "0.2", "--on-error", "continue", "--each",
    "n == 2 and fz.sleep(60) or n" }, ":2: ran longer than its timeout of 0.2 s")
  prints(lines(40), lines(40), "-j2", "--timeout", "2", "--each", "(fz.sleep(0.06)) and n or n")
  fails("n 19999\n", lines(20000), { "-j2", "--timeout", "0.3", "--on-error", "continue",
    "--fold", "while n == 10000 do end acc.n = acc.n + 1" }, ":10000: ran longer")
end

tests["random numbers depend on --seed and the line"] = function()
  local first = on(lines(5000), "-j0", "--seed", "3", "--each", "math.random(1 << 30)")
  for _, jobs in ipairs { "-j1", "-j3" } do
    prints(first, lines(5000), jobs, "--seed", "3", "--each", "math.random(1 << 30)")
  end
  local numbers, n = {}, 0
  for number in first:gmatch "%d+" do
    n = n + (numbers[number] and 0 or 1)
    numbers[number] = true
  end
  t.equal(n > 4990, true)
  t.equal(first ~= on(lines(5000), "--seed", "4", "--each", "math.random(1 << 30)"), true)
  t.equal(on("a\n", "--each", "math.random(0)") ~= on("a\n", "--each", "math.random(0)"), true)
end

tests["a file that cannot be read"] = function()
  local out, err, status = t.command("--each", "line", t.file "a\n", "/nonexistent")
  t.equal({ out, status }, { "", 1 })
  t.match(err, "/nonexistent: cannot be read: No such file")
  local file = t.file "a\n"
  out, err, status = t.command("--on-error", "continue", "--each", "line", file, "/nonexistent",
    "/", file)
  t.equal({ out, status }, { "a\na\n", 1 })
  t.match(err, "/nonexistent: cannot be opened: No such file", "/: cannot be read: Is a directory")
  out, err, status = t.shell [["$FZLUA" --each line <&-]]
  t.equal({ out, status }, { "", 1 })
  t.match(err, "stdin: cannot be read")
end

tests["wrong use"] = function()
  fails("", "", { "--each", "local a = line return a" }, "is an expression")
  for _, arguments in ipairs { { "--each" }, { "--each", "1", "--fold", "2" }, { "--null" },
    { "--unordered" }, { "--each", "1", "--graph" }, { "--each", "1", "--input", "f" } } do
    local _, err, status = t.command(table.unpack(arguments))
    t.equal(status, 2)
    t.match(err, "fzlua: ")
  end
  for code, message in pairs { ["line.."] = "--each:1: unexpected symbol near <eof>",
    ["line, n"] = "')' expected near ','", [""] = "--each:1:", ["1) + (2"] = "--each:1:",
    ["..."] = "outside a vararg function" } do
    fails("", "a\n", { "--each", code }, message)
  end
  fails("", "a\n", { "--fold", "acc.n =" }, "--fold:1: unexpected symbol near <eof>")
  fails("", "a\n", { "--fold", "function(line) acc.n = end" }, "--fold:1: ", "near 'end'")
end

tests["a line of a slow pipe is passed on at once"] = function()
  local answer = t.file ""
  os.remove(answer)
  local out, err, status = t.shell(([[
mkfifo %s
(echo one; read l <%s; echo "two after $l") | "$FZLUA" -j2 --each line |
(read l; echo "got $l" >%s; cat)]]):format(answer, answer, answer))
  t.equal({ out, err, status }, { "two after got one\n", "", 0 })
end

tests["output that has no reader ends the command quietly"] = function()
  local mark = t.mark()
  local out, err = t.shell(([[yes | MARK=%s "$FZLUA" -j2 --each line | head -1]]):format(mark))
  t.equal({ out, err }, { "y\n", "" })
  t.equal(t.left_of(mark), "")
  out, err = t.shell(([[
trap '' PIPE; (yes | MARK=%s "$FZLUA" --each line; echo $? >&2) 2>&1 | head -1]]):format(mark))
  t.equal({ out, err }, { "y\n", "" })
  t.equal(t.left_of(mark), "")
end

tests["a full disk is an error"] = function()
  local out, err, status = t.shell(([["$FZLUA" --each line %s >/dev/full]]):format(
    t.file(lines(20000))))
  t.equal({ out, status }, { "", 1 })
  t.equal(err, "fzlua: cannot write standard output: No space left on device\n")
end

tests["what a worker prints for a line comes before its result"] = function()
  prints("p1\n1\n", lines(1), "-j1", "--each", "print('p' .. n) or n")
end

tests["Ctrl-C ends it with its workers"] = function()
  local mark = t.mark()
  local ready = t.file ""
  os.remove(ready)
  local _, err, status = t.shell(([[
mkfifo %s
code='io.open("%s", "w"):close() and fz.sleep(60)'
MARK=%s env --default-signal=INT "$FZLUA" -j2 --each "$code" %s & pid=$!
read l <%s; kill -INT $pid; wait $pid]]):format(ready, ready, mark, t.file "1\n", ready))
  t.equal(status, 130)
  t.match(err, "interrupted")
  t.equal(t.left_of(mark), "")
end

tests["a line of 100 MB goes through"] = function()
  local out, err, status = t.shell([[head -c 100000000 /dev/zero | "$FZLUA" -j1 --each '#line']])
  t.equal({ out, err, status }, { "100000000\n", "", 0 })
end

tests["--progress counts the records"] = function()
  local out, err, status = on(lines(3000), "--progress", "--each", "nil")
  t.equal({ out, status }, { "", 0 })
  t.match(err, "records", "3000", "done")
end

return tests
