-- model.lua: guesses the language of sentences with a model that each worker trains once.
--
--   fzlua examples/model.lua
--
-- Shows `init`: it runs in each worker of the stage before its first job. All later jobs of that
-- worker, also those of later invokes, use the model that `init` stores in an upvalue. The model is
-- never sent. If each function trained it instead, every answer would cost the whole training.

local fz = require "fzlua"

local SAMPLES = {
  {"English", [[All human beings are born free and equal in dignity and rights. They are endowed
    with reason and conscience and should act towards one another in a spirit of brotherhood.
    Everyone has the right to life, liberty and the security of person.]]},
  {"French", [[Tous les hommes naissent libres et egaux en dignite et en droits. Ils sont doues de
    raison et de conscience et doivent agir les uns envers les autres dans un esprit de fraternite.
    Tout individu a droit a la vie, a la liberte et a la surete de sa personne.]]},
  {"German", [[Alle Menschen sind frei und gleich an Wuerde und Rechten geboren. Sie sind mit
    Vernunft und Gewissen begabt und sollen einander im Geist der Bruederlichkeit begegnen. Jeder
    hat das Recht auf Leben, Freiheit und Sicherheit der Person.]]},
  {"Spanish", [[Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados
    como estan de razon y conciencia, deben comportarse fraternalmente los unos con los otros. Todo
    individuo tiene derecho a la vida, a la libertad y a la seguridad de su persona.]]},
}
local ROUNDS <const> = 300 -- far more than needed: this model stands for a costly one

-- Call f for each group of three letters in the text, in which one blank separates two words.
local function each_trigram(text, f)
  local plain = " " .. text:lower():gsub("%A+", " ") .. " "
  for i = 1, #plain - 2 do f(plain:sub(i, i + 2)) end
end

-- Weights are integers, so that every machine learns the same.
local function score(weights, text)
  local sum = 0
  each_trigram(text, function(trigram) sum = sum + (weights[trigram] or 0) end)
  return sum
end

local function best_language(model, text)
  local best, best_score
  for _, entry in ipairs(model) do
    local points = score(entry.weights, text)
    if not best or points > best_score then best, best_score = entry, points end
  end
  return best
end

local model, trainings = nil, 0

-- A perceptron: the weights of a sentence that was guessed wrongly move to its own language.
local function train()
  trainings = trainings + 1
  model = {}
  for i, sample in ipairs(SAMPLES) do model[i] = {name = sample[1], weights = {}} end
  for round = 1, ROUNDS do
    for i, sample in ipairs(SAMPLES) do
      local right, guess = model[i], best_language(model, sample[2])
      if guess ~= right or round == 1 then
        each_trigram(sample[2], function(t)
          right.weights[t] = (right.weights[t] or 0) + 1
          if guess ~= right then guess.weights[t] = (guess.weights[t] or 0) - 1 end
        end)
      end
    end
  end
end

local guess = fz.stage{name = "guess", init = train, pass_input = false}

for i = 1, 4 do
  guess:register("language" .. i, "sentence" .. i, function(sentence)
    return ("%-8s %s"):format(best_language(model, sentence).name, sentence)
  end)
end
function guess.trained() return trainings end -- the count of the worker that runs this

local chain = fz.chain{guess}

local function ask(sentences)
  local input = {}
  for i, sentence in ipairs(sentences) do input["sentence" .. i] = sentence end
  local output = chain(input)
  for i = 1, #sentences do print(output["language" .. i]) end
  print(("-- trained %d time in the worker that was asked"):format(output.trained))
end

ask{"Where have all the flowers gone", "Wo sind all die Blumen hin",
  "Que sont devenues les fleurs", "Donde estan las flores"}
ask{"All that the worker should know is in its hand", "Der Arbeiter hat alles im Kopf behalten",
  "Tous les ouvriers ont leur savoir en tete", "Los trabajadores no olvidan nada"}
chain:close()
