std = "lua54"
max_line_length = 100
files["examples/**"] = { read_globals = { "fz" } }
files["tests/**"] = { read_globals = { "fz" } }
files["bench/**"] = { read_globals = { "fz" } }
files["lua/meta/**"] = { unused = false, redefined = false }
