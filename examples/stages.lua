-- stages.lua: the smallest chain: two stages, the inputs A and B, and the output C.
--
--   fzlua examples/stages.lua
--
-- Shows both ways to register a function, the outputs that a chain keeps, its tables and picture.

local fz = require "fzlua"

local clean = fz.stage "clean"
clean:register("A", function(a) return a + 1 end) -- the input is called A, too
clean:register("B", function(b) return b * b end)

local merge = fz.stage "merge"
merge:register("C", {"A", "B"}, function(a, b) return a + b end)
function merge.D(A, B) return A * B end -- the same thing: parameter names are the inputs

local chain = clean >> merge
print(chain)

chain:invoke({A = 1, B = 2}, {keep = "all"})
print("after clean: A = " .. chain:at(clean).A .. ", B = " .. chain:at(clean).B)
print("after merge: C = " .. chain.output.C .. ", D = " .. chain.output.D)

print("\nThe edges between stages; the input is stage -1:")
print(chain.edge_table)

print("\nThe edges between functions:")
print(chain:as_table())

local into_c = {}
for _, edge in ipairs(chain.edge_table) do
  if edge.target_ele == "function C" then
    into_c[#into_c + 1] = ("%s of stage %d"):format(edge.source_ele, edge.source_id)
  end
end
print("\nC reads: " .. table.concat(into_c, ", "))

print("\nAs a picture, for https://mermaid.live or a README:")
io.write(chain:to_mermaid())
