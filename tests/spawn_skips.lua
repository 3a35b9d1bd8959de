-- Tests that cannot pass if workers are programs (FZLUA_START=spawn), and the reasons.

local inherits = "its workers must inherit a value that cannot be sent"
local itself = "its workers must inherit the pool or the chain"
local globals = "its workers must inherit globals"
local live = "the list is sent, not inherited: an item that changes others does so in its own chunk"
local stream = "its workers must inherit a stream of the script"
local manager = "a manager cannot be sent, only its proxies"
local refers = "a class that refers to an object of its own cannot be sent"

return {
  ["test_map: fz.map inherits function and list: what cannot be sent is no matter"] = inherits,
  ["test_recorded_file: values belong to the process that has read them"] = inherits,
  ["test_pool: a pool used inside its own call has workers of its own there"] = itself,
  ["test_functions: a change to what cannot be sent is an error until it is mended"] = inherits,
  ["test_functions: a file that is an upvalue, and a module, are no reason to send a function"] =
    inherits,
  ["test_functions: a pool used in its own worker leaves the functions of that worker alone"] =
    itself,
  ["test_functions: a value that cannot be sent is shared by functions that come after the fork"] =
    inherits,
  ["test_functions: a worker that uses its own pool leaves the functions that it serves alone"] =
    itself,
  ["test_functions: all workers of a pool see the globals of its first call"] = globals,
  ["test_functions: what cannot be sent is shared with functions that have it by the fork"] =
    inherits,
  ["test_pool_end: a call in this process does not wait for its own pool"] = itself,
  ["test_pool_end: a result is its own process's alone"] = inherits,
  ["test_pool_values: a call sees what it finds now: what an object is packed into"] = refers,
  ["test_pool_values: a call sees what it finds now: "
    .. "what an object is packed into, read by a method"] = refers,
  ["test_pool_values: a function that is called again after many others finds "
    .. "the values that it has set"] = inherits,
  ["test_rawarray: a list that is changed while it is being mapped"] = live,
  ["test_chain: a chain invokes inside a worker of another"] = itself,
  ["test_chain: a chain invokes itself inside its own worker"] = itself,
  ["test_nested: a function that waits for others needs no slot: one outer, 8 inner"] = itself,
  ["test_child: a file of the script can be read and written in a worker"] = stream,
  ["test_child: a pipe of the script cannot be used in a worker, and reaches no other file"] =
    stream,
  ["test_child: what children leave in open files is written, once"] = stream,
  ["test_process: a parent's process cannot be used in a child, and is not its child"] =
    "a process cannot be sent",
  ["test_process: arguments are inherited: what cannot be sent is no matter"] = inherits,
  ["test_process: any value that is raised arrives, and each time the same"] = inherits,
  ["test_manager_end: a child may make tables in the manager of its parent"] = manager,
  ["test_manager_end: eight clients do what a model does"] = manager,
  ["test_manager_end: only its maker can close it"] = manager,
  ["test_errors: an fz.Error that a function raises again keeps its text"] = itself,
  ["test_errors: whatever is raised arrives as an error"] = inherits,
}
